/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_conn.c - one connection of a migration: each message there and back, in pieces of all sizes, over Unix
 * sockets and TCP; what is packed; how much memory and how many system calls it takes. What a peer does wrong is in
 * test_migrate_conn_bad.c, what the kernel refuses in test_migrate_conn_fault.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "migrate_pair.h"
#include "random.h"
#include "services/codec.h"

#define BULK 1u

static void move_all(enum pair_kind kind, size_t most)
{
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		struct gm_migrate_heard heard;
		struct pair p;
		size_t len;

		if (!sample_can(s) || (kind == OVER_TCP && s->type == GM_MIGRATE_LAYOUT))
			continue;
		free(sample_bytes(s, &len));
		if (most < 1000 && len > 10000)
			continue;
		sample_open(&p, kind, s);
		/* Twice: nothing of the first is left. */
		for (int turn = 0; turn < 2; turn++) {
			sample_say(p.c[s->from], s);
			assert_int_equal(pair_move(&p, s->from, most, &heard), 1);
			sample_check(&heard, s);
			assert_false(gm_migrate_conn_sends(p.c[s->from]));
			assert_false(gm_migrate_conn_hears(p.c[!s->from]));
		}
		assert_int_equal(gm_migrate_conn_went(p.c[s->from]), 2 * len);
		assert_int_equal(gm_migrate_conn_came(p.c[!s->from]), 2 * len);
		assert_int_equal(gm_migrate_conn_came(p.c[s->from]), 0);
		pair_close(&p);
	}
}

static void messages_come_as_they_were_said(void **state)
{
	(void)state;
	move_all(OVER_UNIX, SIZE_MAX);
	move_all(OVER_TCP, SIZE_MAX);
}

static void messages_come_in_pieces_of_any_size(void **state)
{
	static const size_t most[] = {1, 23, 25, 48, 1000, 4095};

	(void)state;
	for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++)
		move_all(OVER_UNIX, most[i]);
	move_all(OVER_TCP, 1);
	move_all(OVER_TCP, 70000);
}

/* A head at its first bytes alone, a body that is cut anywhere: the second call has the rest. */
static void a_message_may_be_sent_in_two_parts_at_each_place(void **state)
{
	static const uint32_t which[] = {1, 3, 12, 17, 19};

	(void)state;
	for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++) {
		const struct sample *s = &samples[which[i]];
		struct gm_migrate_heard heard;
		struct pair p;
		size_t len;

		if (!sample_can(s))
			continue;
		free(sample_bytes(s, &len));
		sample_open(&p, OVER_UNIX, s);
		for (size_t first = 1; first < len; first++) {
			const char *why;
			size_t sent;

			sample_say(p.c[s->from], s);
			fault_set(&(struct fault_plan){
				.fn = FAULT_gm_sys_sendmsg, .nth = 1, .short_len = first});
			assert_int_equal(
				gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent), -EAGAIN);
			assert_int_equal(sent, first);
			assert_int_equal(fault_hits(), 1);
			fault_set(NULL);
			assert_int_equal(gm_migrate_conn_recv(p.c[!s->from], &heard, &why), 0);
			assert_true(gm_migrate_conn_hears(p.c[!s->from]));
			assert_int_equal(
				gm_migrate_conn_recv(p.c[!s->from], &heard, &why), -EAGAIN);
			assert_null(why);
			assert_int_equal(gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent), 0);
			assert_int_equal(sent, len - first);
			assert_int_equal(gm_migrate_conn_recv(p.c[!s->from], &heard, &why), 1);
			sample_check(&heard, s);
		}
		pair_close(&p);
	}
}

/* The socket takes what it has room for, wherever that ends; what was read makes room. */
static void a_full_socket_takes_the_rest_later(void **state)
{
	static const uint32_t which[] = {2, 18, 42, 38};

	(void)state;
	for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++) {
		const struct sample *s = &samples[which[i]];

		for (int room = 1; room < 12000; room = room * 2 + 777) {
			struct gm_migrate_heard heard;
			struct pair p;
			size_t sent;

			sample_open(&p, OVER_UNIX, s);
			assert_int_equal(setsockopt(p.fd[s->from], SOL_SOCKET, SO_SNDBUF, &room,
						 sizeof(room)),
				0);
			sample_say(p.c[s->from], s);
			assert_int_equal(
				gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent), -EAGAIN);
			assert_true(sent > 0);
			/* It says so as often as it is asked. */
			assert_int_equal(
				gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent), -EAGAIN);
			assert_int_equal(pair_move(&p, s->from, SIZE_MAX, &heard), 1);
			sample_check(&heard, s);
			pair_close(&p);
		}
	}
}

static bool is_urgent(const struct sample *s)
{
	return s->slot > GM_MIGRATE_BULK_MAX;
}

static void a_message_is_two_system_calls_and_no_allocation(void **state)
{
	(void)state;
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		struct gm_migrate_heard heard;
		struct pair p;
		const char *why;
		unsigned long calls;
		size_t sent;
		size_t len;

		if (!sample_can(s))
			continue;
		free(sample_bytes(s, &len));
		sample_open(&p, OVER_UNIX, s);
		/* Larger than usual, so that it has it all. */
		assert_int_equal(setsockopt(p.fd[s->from], SOL_SOCKET, SO_SNDBUF, &(int){1 << 22},
					 sizeof(int)),
			0);
		fault_set(NULL);
		sample_say(p.c[s->from], s);
		if (s->type == GM_MIGRATE_STATE && s->nr > 65552)
			fault_set(NULL);
		if (gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent)) {
			/* net.core.wmem_max is small here. */
			pair_close(&p);
			continue;
		}
		assert_int_equal(sent, len);
		assert_int_equal(fault_calls(FAULT_gm_sys_sendmsg), 1);
		assert_int_equal(gm_migrate_conn_recv(p.c[!s->from], &heard, &why), 1);
		/* An urgent one in one go, if it is of a page. */
		calls = len > (is_urgent(s) ? 8192 : 24) ? 2 : 1;
		assert_int_equal(fault_calls(FAULT_gm_sys_recvmsg), calls);
		assert_int_equal(fault_calls(FAULT_ANY), 1 + calls);
		sample_check(&heard, s);
		pair_close(&p);
	}
}

static void not_one_byte_of_the_next_message_is_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		struct gm_migrate_heard heard;
		struct pair p;
		int left = 0;

		/* Of urgent ones it is: see below. */
		if (!sample_can(s) || is_urgent(s))
			continue;
		sample_open(&p, OVER_UNIX, s);
		sample_say(p.c[s->from], s);
		assert_int_equal(pair_move(&p, s->from, 100000, &heard), 1);
		/* Something is there behind each piece. */
		sample_say(p.c[s->from], s);
		for (int rc = 0; !rc;) {
			const char *why;
			size_t sent;
			bool all = gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent) == 0;

			if (all)
				assert_int_equal(send(p.fd[s->from], "next", 4, MSG_DONTWAIT), 4);
			rc = gm_migrate_conn_recv(p.c[!s->from], &heard, &why);
			if (all && !rc)
				assert_int_equal(
					gm_migrate_conn_recv(p.c[!s->from], &heard, &why), 1);
			rc = all;
		}
		assert_int_equal(ioctl(p.fd[!s->from], FIONREAD, &left), 0);
		assert_int_equal(left, 4);
		sample_check(&heard, s);
		pair_close(&p);
	}
}

static void urgent_messages_are_read_ahead(void **state)
{
	(void)state;
	for (size_t i = 0; i < nr_samples; i++) {
		const struct sample *s = &samples[i];
		struct gm_migrate_heard heard;
		struct pair p;
		const char *why;
		size_t sent;
		size_t len;

		if (!sample_can(s) || !is_urgent(s))
			continue;
		free(sample_bytes(s, &len));
		if (3 * len > 8192)
			continue;
		sample_open(&p, OVER_UNIX, s);
		for (unsigned int nr = 0; nr < 3; nr++) {
			sample_say(p.c[s->from], s);
			assert_int_equal(gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent), 0);
		}
		fault_set(NULL);
		for (unsigned int nr = 0; nr < 3; nr++) {
			assert_int_equal(gm_migrate_conn_recv(p.c[!s->from], &heard, &why), 1);
			sample_check(&heard, s);
			/* What may have come since is asked for, unless this call has asked. */
			assert_false(gm_migrate_conn_drained(p.c[!s->from]));
			assert_false(gm_migrate_conn_hears(p.c[!s->from]));
		}
		assert_int_equal(fault_calls(FAULT_gm_sys_recvmsg), 1);
		sample_say(p.c[s->from], s);
		assert_int_equal(gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent), 0);
		assert_int_equal(gm_migrate_conn_recv(p.c[!s->from], &heard, &why), 1);
		assert_true(gm_migrate_conn_drained(p.c[!s->from]));
		assert_int_equal(gm_migrate_conn_recv(p.c[!s->from], &heard, &why), -EAGAIN);
		pair_close(&p);
	}
}

static void openings_are_heard_at_their_length(void **state)
{
	static const size_t lens[] = {GM_MIGRATE_OPEN, GM_MIGRATE_OPENED, 1};
	uint8_t bytes[GM_MIGRATE_OPEN];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i + 1);
	for (size_t i = 0; i < 2 * sizeof(lens) / sizeof(lens[0]); i++) {
		size_t len = lens[i / 2];
		size_t most = i % 2 ? 1 : SIZE_MAX;
		const uint8_t *got = NULL;
		struct pair p;
		size_t sent;
		int left;
		int rc;

		pair_open(&p, OVER_UNIX, 0);
		assert_int_equal(gm_migrate_conn_hear(p.c[1], len, &got), 0);
		gm_migrate_conn_put(p.c[0], bytes, len);
		do {
			rc = gm_migrate_conn_flush(p.c[0], most, &sent);
			assert_int_equal(gm_migrate_conn_hear(p.c[1], len, &got), rc == 0);
			assert_int_equal(gm_migrate_conn_hears(p.c[1]), rc != 0);
		} while (rc);
		assert_memory_equal(got, bytes, len);
		/* What is behind it is a message. */
		assert_int_equal(send(p.fd[0], bytes, 3, 0), 3);
		assert_int_equal(gm_migrate_conn_hear(p.c[1], 2, &got), 1);
		assert_int_equal(ioctl(p.fd[1], FIONREAD, &left), 0);
		assert_int_equal(left, 1);
		assert_int_equal(gm_migrate_conn_came(p.c[1]), len + 2);
		pair_close(&p);
	}
}

static void pages_are_packed_if_that_saves_an_eighth(void **state)
{
	static const uint32_t kinds[] = {GM_MIGRATE_BY_ZSTD, GM_MIGRATE_BY_LZ4};
	const struct gm_migrate_place place = {.region = 0, .nr = 8};
	uint8_t *memory = malloc(8 * 4096);
	unsigned int raw = 0;
	unsigned int packed = 0;

	(void)state;
	assert_non_null(memory);
	for (size_t i = 0; i < 2 * 64; i++) {
		const struct sample s = {
			.type = GM_MIGRATE_PAGES, .kind = kinds[i % 2], .slot = BULK};
		size_t same = i / 2 * 512;
		struct gm_migrate_heard heard;
		struct pair p;
		uint64_t went;
		uint32_t kind;

		if (!sample_can(&s))
			continue;
		memcpy(memory, sample_memory(false), 8 * 4096);
		memset(memory, 1, same);
		sample_open(&p, OVER_UNIX, &s);
		kind = gm_migrate_conn_say_pages(p.c[0], 1, &place, GM_MIGRATE_RAW, memory);
		assert_int_equal(pair_move(&p, 0, SIZE_MAX, &heard), 1);
		assert_int_equal(heard.msg.kind, kind);
		assert_memory_equal(heard.memory, memory, 8 * 4096);
		went = gm_migrate_conn_went(p.c[0]) - 48;
		raw += kind == GM_MIGRATE_RAW;
		packed += kind == s.kind;
		if (kind == GM_MIGRATE_RAW)
			assert_true(went == 8 * 4096 && same < 8 * 512 + 512);
		else
			assert_true(went <= 7 * 4096 && same >= 8 * 512 - 512);
		pair_close(&p);
	}
	free(memory);
	assert_true(!packed || (raw > 10 && packed > 50));
}

/* What an end has memory for: its role, what it was told when it was made. */
static void a_connection_has_the_memory_of_its_role(void **state)
{
	static const struct {
		uint32_t slot;
		bool source;
		bool sole;
		uint32_t features;
		uint32_t codec;
		long min;
		long max;
	} cases[] = {
		{0, true, true, 0, GM_MIGRATE_RAW, 2 * 65536, 2 * 65536},
		{0, false, false, GM_MIGRATE_LZ4, GM_MIGRATE_RAW, 17 * 65536, 17 * 65536},
		{0, false, true, 0, GM_MIGRATE_RAW, 65 * 65536, 65 * 65536},
		{1, true, false, 0, GM_MIGRATE_RAW, 0, 0},
		{1, true, false, GM_MIGRATE_LZ4, GM_MIGRATE_BY_LZ4, 56 * 65536, 56 * 65536},
		{1, false, false, 0, GM_MIGRATE_RAW, 64 * 65536, 64 * 65536},
		{1, false, false, GM_MIGRATE_LZ4, GM_MIGRATE_RAW, 128 * 65536, 128 * 65536},
		{17, false, false, GM_MIGRATE_LZ4, GM_MIGRATE_RAW, 128 * 65536, 128 * 65536},
		{17, true, false, 0, GM_MIGRATE_RAW, 16, 16},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int end = cases[i].source ? SOURCE : DESTINATION;
		long before;
		long used;
		struct pair p;

		if (cases[i].features && !gm_codec_has(GM_MIGRATE_BY_LZ4))
			continue;
		pair_init(&p, OVER_UNIX);
		p.terms[end].pages_max = GM_MIGRATE_PAGES_MAX;
		p.terms[end].sole = cases[i].sole;
		p.terms[end].features = cases[i].features;
		p.terms[end].codec = cases[i].codec;
		before = fault_bytes();
		pair_conn(&p, end, cases[i].slot);
		used = fault_bytes() - before;
		/* The object, and what rounding adds. */
		if (used < cases[i].min || used > cases[i].max + 5 * 4096)
			fail_msg("case %zu has %ld bytes", i, used);
		/* Once more is not twice. */
		assert_int_equal(gm_migrate_conn_is(p.c[end], cases[i].slot, 2), 0);
		assert_int_equal(fault_bytes() - before, used);
		assert_int_equal(gm_migrate_conn_epoch(p.c[end]), 2);
		assert_int_equal(gm_migrate_conn_slot(p.c[end]), cases[i].slot);
		gm_migrate_conn_free(p.c[end]);
		assert_int_equal(fault_bytes(), before);
		p.c[end] = NULL;
		p.fd[end] = -1;
		pair_close(&p);
	}
}

/* Many messages of all sorts that one connection carries, in pieces of all sizes. */
static void a_stream_of_any_messages_comes_in_its_order(void **state)
{
	struct rng rng = {test_seed(2101)};

	(void)state;
	for (unsigned long turn = 0; turn < support_scale(20); turn++) {
		const struct sample *first = &samples[rng_below(&rng, nr_samples)];
		enum pair_kind kind = rng_below(&rng, 2) ? OVER_UNIX : OVER_TCP;
		struct pair p;

		if (first->type == GM_MIGRATE_LAYOUT || !sample_can(first))
			continue;
		sample_open(&p, kind, first);
		for (unsigned int i = 0; i < 60; i++) {
			const struct sample *s = &samples[rng_below(&rng, nr_samples)];
			struct gm_migrate_heard heard;
			bool packs = s->kind == GM_MIGRATE_BY_ZSTD || s->kind == GM_MIGRATE_BY_LZ4;

			if (s->slot != first->slot || s->type == GM_MIGRATE_LAYOUT ||
				(packs && s->kind != p.terms[0].codec) || (s->packs && !packs))
				continue;
			sample_say(p.c[s->from], s);
			assert_int_equal(
				pair_move(&p, s->from, 200 + rng_below(&rng, 300000), &heard), 1);
			sample_check(&heard, s);
		}
		pair_close(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_come_as_they_were_said),
		cmocka_unit_test(messages_come_in_pieces_of_any_size),
		cmocka_unit_test(a_message_may_be_sent_in_two_parts_at_each_place),
		cmocka_unit_test(a_full_socket_takes_the_rest_later),
		cmocka_unit_test(a_message_is_two_system_calls_and_no_allocation),
		cmocka_unit_test(not_one_byte_of_the_next_message_is_read),
		cmocka_unit_test(urgent_messages_are_read_ahead),
		cmocka_unit_test(openings_are_heard_at_their_length),
		cmocka_unit_test(pages_are_packed_if_that_saves_an_eighth),
		cmocka_unit_test(a_connection_has_the_memory_of_its_role),
		cmocka_unit_test(a_stream_of_any_messages_comes_in_its_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
