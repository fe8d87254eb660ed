/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_conn_fault.c - connections of a migration where the kernel or the heap refuses: each call fails in turn,
 * nothing is lost or leaked, no signal comes; and thousands of them leave nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "migrate_pair.h"
#include "services/codec.h"

#define BULK 1u

static struct gm_error err;

static void only_stream_sockets_are_connections(void **state)
{
	static const struct gm_migrate_terms terms = {.source = true};
	struct gm_migrate_conn *c = NULL;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	assert_fails(gm_migrate_conn_create(fds[0], &terms, &c, &err), EPROTOTYPE, "stream");
	close(fds[1]);
	close(fds[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
	assert_fails(gm_migrate_conn_create(fds[0], &terms, &c, &err), EPROTOTYPE, "stream");
	/* It is the caller's, and as it was. */
	assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	close(fds[1]);
	close(fds[0]);
	assert_int_equal(pipe(fds), 0);
	assert_fails(gm_migrate_conn_create(fds[0], &terms, &c, &err), ENOTSOCK, "migration");
	close(fds[1]);
	close(fds[0]);
	assert_fails(gm_migrate_conn_create(-1, &terms, &c, &err), EBADF, "migration");
	assert_null(c);
	gm_migrate_conn_free(NULL);
}

static void a_connection_does_not_wait_and_sends_at_once(void **state)
{
	(void)state;
	for (int kind = OVER_UNIX; kind <= OVER_TCP; kind++) {
		struct gm_migrate_heard heard;
		const char *why;
		struct pair p;

		fault_set(NULL);
		pair_open(&p, (enum pair_kind)kind, 0);
		assert_int_equal(fault_calls(FAULT_gm_sys_send_at_once), kind == OVER_TCP ? 2 : 0);
		for (int end = 0; end < 2; end++) {
			assert_true(fcntl(p.fd[end], F_GETFL) & O_NONBLOCK);
			assert_int_equal(gm_migrate_conn_recv(p.c[end], &heard, &why), -EAGAIN);
		}
		pair_close(&p);
	}
}

/* Which connections have room for more than a message on its way: those of pages, on this host, without a rate. */
static void pages_have_room_in_the_socket(void **state)
{
	(void)state;
	for (int i = 0; i < 2 * 2 * 3; i++) {
		static const uint32_t slots[] = {0, 1, 1 + GM_MIGRATE_BULK_MAX};
		enum pair_kind kind = i & 1 ? OVER_TCP : OVER_UNIX;
		uint32_t slot = slots[i / 4];
		bool paced = i & 2;
		struct pair p;

		pair_init(&p, kind);
		p.terms[SOURCE].paced = paced;
		fault_set(NULL);
		pair_conn(&p, SOURCE, slot);
		pair_conn(&p, DESTINATION, slot);
		assert_int_equal(fault_calls(FAULT_gm_sys_send_room),
			kind == OVER_UNIX && slot == 1 && !paced);
		pair_close(&p);
	}
}

static void less_room_is_no_failure(void **state)
{
	struct pair p;

	(void)state;
	pair_init(&p, OVER_UNIX);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_send_room, .nth = 1, .error = ENOBUFS});
	pair_conn(&p, SOURCE, 1);
	assert_int_equal(fault_hits(), 1);
	fault_disarm();
	pair_close(&p);
}

static int create_one(struct pair *p, int end, uint32_t slot)
{
	int rc = gm_migrate_conn_create(p->fd[end], &p->terms[end], &p->c[end], &err);

	/* It was not taken, or it is. */
	assert_int_equal(rc != 0, p->c[end] == NULL);
	if (!rc)
		rc = gm_migrate_conn_is(p->c[end], slot, 1);
	if (rc)
		return rc;
	assert_int_equal(gm_migrate_conn_slot(p->c[end]), slot);
	return 0;
}

/* Says it, and hears it at the other end. */
static int say_and_hear(struct pair *p, const struct sample *s)
{
	struct gm_migrate_heard heard = {.msg.type = 77};
	const char *why;
	size_t sent;
	int got = 0;
	int rc = 0;

	if (s->type == GM_MIGRATE_STATE) {
		const uint8_t *memory = sample_memory(false);

		rc = gm_migrate_conn_say(p->c[s->from], s->type, s->number, memory, s->nr);
		assert_int_equal(rc == 0, gm_migrate_conn_sends(p->c[s->from]));
		if (rc)
			return rc;
	} else {
		sample_say(p->c[s->from], s);
	}
	while (got == 0 || got == -EAGAIN) {
		rc = gm_migrate_conn_flush(p->c[s->from], SIZE_MAX, &sent);
		if (rc && rc != -EAGAIN)
			return rc;
		got = gm_migrate_conn_recv(p->c[!s->from], &heard, &why);
	}
	if (got == 1)
		sample_check(&heard, s);
	else
		assert_int_equal(heard.msg.type, 77);
	return got == 1 ? 0 : got;
}

struct course {
	enum pair_kind kind;
	const struct sample *samples[4];
};

static int exchange(void *ctx)
{
	const struct course *course = ctx;
	const struct sample *first = course->samples[0];
	struct pair p;
	int rc;

	pair_init(&p, course->kind);
	p.terms[0].sole = p.terms[1].sole = !first->slot;
	if (first->packs)
		p.terms[0].codec = first->kind;
	if (first->type == GM_MIGRATE_LAYOUT)
		p.terms[1].regions = NULL;
	rc = create_one(&p, SOURCE, first->slot);
	if (!rc)
		rc = create_one(&p, DESTINATION, first->slot);
	for (size_t i = 0; !rc && i < 4 && course->samples[i]; i++) {
		struct sample s = *course->samples[i];

		rc = say_and_hear(&p, &s);
		p.terms[1].regions = p_regions;
	}
	fault_disarm();
	pair_close(&p);
	return rc;
}

static const struct sample layout = {GM_MIGRATE_LAYOUT, .number = P_REGIONS, .nr = P_REGIONS};
static const struct sample state_piece = {GM_MIGRATE_STATE, .nr = P_PAGES << 12};
static const struct sample run = {GM_MIGRATE_RUN, 0};
static const struct sample running = {GM_MIGRATE_RUNNING, .from = DESTINATION};
static const struct sample packed = {GM_MIGRATE_PAGES, .kind = GM_MIGRATE_BY_LZ4, .slot = BULK,
	.number = 1, .nr = 5, .packs = true};
static const struct sample zeros = {
	GM_MIGRATE_PAGES, .kind = GM_MIGRATE_ZEROS, .slot = BULK, .number = 1, .nr = 5};

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM, ENOBUFS, EIO, ECONNRESET, EPIPE};
	static const struct fault_sweep_opts opts = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 5};
	struct course control = {OVER_UNIX, {&layout, &state_piece, &running, &run}};
	struct course bulk = {OVER_TCP, {&packed, &zeros}};
	struct course first = control;
	unsigned long hits;

	(void)state;
	first.samples[0] = &run;
	first.kind = OVER_TCP;
	/* The first of a process brings memory of libraries, which stays. */
	assert_int_equal(exchange(&first), 0);
	hits = fault_sweep_opts(exchange, &control, &opts);
	assert_true(hits > 5 * 2 * 15);
	hits = fault_sweep_opts(exchange, &first, &opts);
	assert_true(hits > 5 * 2 * 15);
	if (gm_codec_has(GM_MIGRATE_BY_LZ4)) {
		hits = fault_sweep_opts(exchange, &bulk, &opts);
		assert_true(hits > 5 * 2 * 12);
	}
}

/* Neither is a failure. */
static void interrupted_calls_go_on(void **state)
{
	struct course control = {OVER_UNIX, {&layout, &state_piece, &running, &run}};

	(void)state;
	for (unsigned int times = 1; times <= 7; times += 3) {
		fault_set(&(struct fault_plan){.eintr = times});
		assert_int_equal(exchange(&control), 0);
		assert_true(fault_calls(FAULT_gm_sys_recvmsg) >= 6);
		assert_true(fault_calls(FAULT_gm_sys_sendmsg) >= 4);
		assert_true(fault_hits() >= 10 * times);
	}
	fault_set(NULL);
}

static void without_memory_it_stays_what_it_was(void **state)
{
	const struct sample big = {GM_MIGRATE_STATE, .nr = 66000};
	struct gm_migrate_heard heard;
	struct pair p;

	(void)state;
	pair_open(&p, OVER_UNIX, BULK);
	for (unsigned long nth = 1; nth <= 2; nth++) {
		for (int end = 0; end < 2; end++) {
			fault_set(&(struct fault_plan){
				.fn = FAULT_gm_sys_alloc, .nth = nth, .error = ENOMEM});
			assert_int_equal(gm_migrate_conn_is(p.c[end], 0, 9), -ENOMEM);
			assert_int_equal(fault_hits(), 1);
			assert_int_equal(gm_migrate_conn_slot(p.c[end]), BULK);
			assert_int_equal(gm_migrate_conn_epoch(p.c[end]), 1);
		}
	}
	fault_set(NULL);
	sample_say(p.c[SOURCE], &zeros);
	assert_int_equal(pair_move(&p, SOURCE, SIZE_MAX, &heard), 1);
	sample_check(&heard, &zeros);
	assert_int_equal(gm_migrate_conn_is(p.c[SOURCE], 0, 1), 0);
	assert_int_equal(gm_migrate_conn_is(p.c[DESTINATION], 0, 1), 0);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_alloc, .nth = 1, .error = ENOMEM});
	assert_int_equal(
		gm_migrate_conn_say(p.c[SOURCE], big.type, 0, sample_memory(false), big.nr),
		-ENOMEM);
	assert_int_equal(fault_hits(), 1);
	assert_false(gm_migrate_conn_sends(p.c[SOURCE]));
	/* It says what it can, then that. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_alloc, .nth = 1, .error = ENOMEM, .forever = true});
	assert_int_equal(say_and_hear(&p, &(struct sample){GM_MIGRATE_STATE, .nr = 65552}), 0);
	assert_int_equal(say_and_hear(&p, &run), 0);
	assert_int_equal(fault_hits(), 0);
	fault_set(NULL);
	assert_int_equal(say_and_hear(&p, &big), 0);
	pair_close(&p);
}

static void a_peer_that_has_gone_raises_no_signal(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_DFL);
	for (int kind = OVER_UNIX; kind <= OVER_TCP; kind++) {
		size_t sent = 1;
		struct pair p;
		int rc = 0;

		pair_open(&p, (enum pair_kind)kind, BULK);
		gm_migrate_conn_free(p.c[DESTINATION]);
		p.c[DESTINATION] = NULL;
		p.fd[DESTINATION] = -1;
		/* TCP learns it by what it sent first. */
		for (int i = 0; i < 1000 && !rc; i++) {
			sample_say(p.c[SOURCE], &zeros);
			rc = gm_migrate_conn_flush(p.c[SOURCE], SIZE_MAX, &sent);
			if (!rc)
				usleep(1000);
		}
		assert_true(rc == -EPIPE || rc == -ECONNRESET);
		assert_int_equal(sent, 0);
		assert_int_equal(gm_migrate_conn_flush(p.c[SOURCE], SIZE_MAX, &sent), -EPIPE);
		assert_true(gm_migrate_conn_sends(p.c[SOURCE]));
		pair_close(&p);
	}
}

/* Messages of all sorts, some of them cut. */
static void one_life(unsigned long i)
{
	const struct sample *s = &samples[i % nr_samples];
	struct gm_migrate_heard heard;
	const char *why;
	struct pair p;
	size_t sent;

	if (!sample_can(s))
		return;
	sample_open(&p, OVER_UNIX, s);
	sample_say(p.c[s->from], s);
	if (i / nr_samples % 3) {
		size_t most = 20 + i / nr_samples % 3 * 10;

		(void)gm_migrate_conn_flush(p.c[s->from], most, &sent);
		assert_true(gm_migrate_conn_recv(p.c[!s->from], &heard, &why) >= 0);
	} else {
		assert_int_equal(pair_move(&p, s->from, SIZE_MAX, &heard), 1);
	}
	pair_close(&p);
}

static void thousands_of_connections_leave_nothing(void **state)
{
	static struct fault_state before;

	(void)state;
	fault_set(NULL);
	for (unsigned long i = 0; i < nr_samples; i++)
		one_life(i);
	fault_state_take(&before);
	for (unsigned long i = 0; i < support_scale(3000); i++)
		one_life(i);
	assert_true(fault_state_same(&before));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_stream_sockets_are_connections),
		cmocka_unit_test(a_connection_does_not_wait_and_sends_at_once),
		cmocka_unit_test(pages_have_room_in_the_socket),
		cmocka_unit_test(less_room_is_no_failure),
		cmocka_unit_test(each_call_may_fail),
		cmocka_unit_test(interrupted_calls_go_on),
		cmocka_unit_test(without_memory_it_stays_what_it_was),
		cmocka_unit_test(a_peer_that_has_gone_raises_no_signal),
		cmocka_unit_test(thousands_of_connections_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
