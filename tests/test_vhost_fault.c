/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_fault.c - every call of a back-end fails in turn: nothing is lost, and what failed can be done again. */
#include "vhost_front.h"

#include <poll.h>
#include <pthread.h>

#include "adapters/vhost_backend.h"
#include "fault.h"

static const uint64_t protocol = P(CONFIGURE_MEM_SLOTS) | P(REPLY_ACK) | P(LOG_SHMFD) |
				 P(INFLIGHT_SHMFD) | P(BACKEND_REQ) | P(MQ);
static struct front f;
static int log_fd;

static int all_of(uint32_t request, const void *payload, size_t len, const int *fd)
{
	int rc = say(&f, request, payload, len, fd, fd ? 1 : 0);

	for (uint32_t i = 0; i < f.a.nr_fds; i++)
		close(f.a.fds[i]);
	if (!rc && f.a.is && f.a.msg.len == 8 && request != GM_VHOST_GET_VRING_BASE)
		rc = -(int)f.a.msg.u.number;
	if (!rc && request == GM_VHOST_GET_INFLIGHT_FD && !f.a.nr_fds)
		rc = -ENOMEM;
	return rc;
}

#define DO(request, payload, fd)                                                                   \
	do {                                                                                       \
		int do_rc = all_of(request, &(payload), sizeof(payload), fd);                      \
		if (do_rc)                                                                         \
			return do_rc;                                                              \
	} while (0)

static int talk(void)
{
	const struct gm_vhost_one_region one = {.region = region_of(0, RAM, 0)};
	const struct gm_vhost_one_region two = {.region = region_of(GIB(1), PAGE, 0)};
	const struct gm_vhost_vring_state num = {0, NR};
	const struct gm_vhost_vring_state enable = {0, 1};
	const struct gm_vhost_vring_state none = {0, 0};
	const struct gm_vhost_vring_addr addr = {
		.desc = USER + DESC_AT, .avail = USER + AVAIL_AT, .used = USER + USED_AT};
	const struct gm_vhost_log log = {.len = 64 * 1024};
	const struct gm_vhost_inflight area = {.queues = 1, .queue_size = NR};
	const uint64_t features = F_VERSION_1 | GM_VHOST_F_PROTOCOL_FEATURES;
	const uint64_t logging = features | GM_VHOST_F_LOG_ALL;
	const uint64_t ring = 0;

	DO(GM_VHOST_SET_PROTOCOL_FEATURES, protocol, NULL);
	DO(GM_VHOST_SET_FEATURES, features, NULL);
	DO(GM_VHOST_ADD_MEM_REG, one, &f.fd);
	DO(GM_VHOST_GET_INFLIGHT_FD, area, NULL);
	DO(GM_VHOST_SET_VRING_NUM, num, NULL);
	DO(GM_VHOST_SET_VRING_ADDR, addr, NULL);
	DO(GM_VHOST_SET_VRING_CALL, ring, &f.call);
	DO(GM_VHOST_SET_VRING_KICK, ring, &f.kick);
	DO(GM_VHOST_SET_VRING_ENABLE, enable, NULL);
	DO(GM_VHOST_SET_LOG_BASE, log, &log_fd);
	DO(GM_VHOST_SET_FEATURES, logging, NULL);
	DO(GM_VHOST_SET_LOG_BASE, log, &log_fd);
	DO(GM_VHOST_ADD_MEM_REG, two, &f.fd);
	DO(GM_VHOST_REM_MEM_REG, two, NULL);
	assert_true(f.dev.runs[0]);
	DO(GM_VHOST_GET_VRING_BASE, none, NULL);
	return 0;
}

static int a_life(void *ctx)
{
	struct gm_vhost_backend_opts opts = {.size = sizeof(opts),
		.ops = &dev_ops,
		.ctx = &f.dev,
		.features = ALL_FEATURES,
		.gpa_limit = GIB(4)};
	int rc;

	(void)ctx;
	memset(&f.dev, 0, sizeof(f.dev));
	rc = gm_vhost_backend_create(&opts, &f.b, &err);
	if (rc)
		return rc;
	f.dev.b = f.b;
	rc = talk();
	fault_disarm();
	gm_vhost_backend_disconnect(f.b);
	/* Whatever failed: it works now. */
	assert_int_equal(talk(), 0);
	gm_vhost_backend_destroy(f.b);
	return rc;
}

static void each_call_of_a_back_end_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM, EINVAL, EPERM};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .eintr = 2, .errnos = errnos, .nr_errnos = 1};
	const struct fault_sweep_opts plain = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = support_scale(1) > 1 ? 3 : 1};
	unsigned long nr;

	(void)state;
	f.fd = make_ram(RAM, F_SEAL_SHRINK);
	f.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	log_fd = make_ram(64 * 1024, F_SEAL_SHRINK);
	fault_clock_virtual(true);
	nr = fault_sweep_opts(a_life, NULL, &plain);
	print_message("%lu injections\n", nr);
	assert_true(nr >= 100);
	assert_true(fault_sweep_opts(a_life, NULL, &storm) > 0);
	fault_clock_virtual(false);
	close(f.fd);
	close(f.kick);
	close(f.call);
	close(log_fd);
}

/* ---- the loop ---- */

static int serve_one(void *ctx)
{
	const uint32_t head[3] = {GM_VHOST_GET_FEATURES, GM_VHOST_VERSION, 0};
	struct gm_vhost_server *server;
	struct gm_vhost_door door = {.size = sizeof(door), .backend = f.b};
	uint8_t answer[20];
	int pair[2];
	int rc;

	(void)ctx;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	door.socket_plus = pair[0] + 1;
	rc = gm_vhost_server_create(&server, &err);
	if (!rc) {
		rc = gm_vhost_server_add(server, &door, NULL, &err);
		if (rc)
			close(pair[0]);
		assert_int_equal(send(pair[1], head, 12, MSG_NOSIGNAL), rc ? -1 : 12);
		for (int i = 0; i < 3 && !rc; i++) {
			int turned = gm_vhost_server_turn(server, 0, &err);

			rc = turned < 0 && turned != -EINTR ? turned : 0;
		}
		fault_disarm();
		/* Cut off, or answered. */
		if (!rc && recv(pair[1], answer, 20, 0) != 20)
			rc = -EPIPE;
		gm_vhost_server_destroy(server);
	} else {
		close(pair[0]);
	}
	fault_disarm();
	close(pair[1]);
	return rc;
}

static void each_call_of_the_loop_may_fail(void **state)
{
	const struct fault_sweep_opts storm = {.fn = FAULT_ANY, .eintr = 1};
	unsigned long nr;

	(void)state;
	open_backend(&f, NULL);
	nr = fault_sweep(serve_one, NULL);
	assert_true(nr >= 20);
	assert_true(fault_sweep_opts(serve_one, NULL, &storm) > 0);
	close_backend(&f);
}

/* The file is long enough when it is checked, and shorter when it is mapped. */
static void a_file_is_looked_at_again_when_it_is_mapped(void **state)
{
	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, protocol);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_fstat, .nth = 2, .error = EIO});
	assert_true(ask_add(&f, region_of(0, RAM, 0), f.fd) < 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(ask_add(&f, region_of(0, RAM, 0), f.fd), 0);
	close_backend(&f);
}

static void *read_one(void *ctx)
{
	const struct front *front = ctx;
	struct gm_reader *reader;
	uint8_t byte;
	intptr_t rc;

	assert_int_equal(
		gm_reader_create(gm_vhost_backend_space(front->b), "test", &reader, &err), 0);
	rc = gm_read(gm_reader_enter(reader), MIB(1), &byte, 1, NULL);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	return (void *)rc;
}

/*
 * A front-end has left in post-copy, and its memory cannot be taken away: better zeros than to wait for ever. Whether
 * it has left is asked again.
 */
static void who_waits_is_let_go_also_if_memory_stays(void **state)
{
	const struct gm_vhost_backend_opts opts = {.flags = GM_VHOST_BACKEND_POSTCOPY};
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	struct gm_vhost_msg taken = {
		.request = GM_VHOST_SET_MEM_TABLE, .flags = GM_VHOST_VERSION, .len = 8};
	struct gm_vhost_memory table = {.nr = 1, .region = {all}};
	struct pollfd wait = {.events = POLLIN};
	pthread_t thread;
	int pair[2];
	void *rc;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	assert_int_equal(say(&f, GM_VHOST_POSTCOPY_ADVISE, "", 0, NULL, 0), 0);
	assert_int_equal(f.a.nr_fds, 1);
	wait.fd = f.a.fds[0];
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), 0);
	assert_int_equal(say(&f, GM_VHOST_SET_MEM_TABLE, &table, 8 + sizeof(all), &f.fd, 1), 0);
	assert_int_equal(say_raw(&f, &taken, NULL, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_one, &f), 0);
	assert_int_equal(poll(&wait, 1, 60000), 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f.b->peer = pair[0];
	assert_int_equal(gm_vhost_backend_let_go(f.b, false), 0);
	close(pair[1]);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_poll_gone, .nth = 1, .error = EINTR});
	assert_int_equal(gm_vhost_backend_let_go(f.b, false), 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_mmap, .nth = 1, .error = ENOMEM});
	assert_int_equal(gm_vhost_backend_let_go(f.b, false), 1);
	assert_int_equal(fault_hits(), 1);
	f.b->peer = -1;
	close(pair[0]);
	fault_set(NULL);
	pthread_join(thread, &rc);
	assert_int_equal((intptr_t)rc, 0);
	close(wait.fd);
	close_backend(&f);
	gm_guard_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_of_a_back_end_may_fail),
		cmocka_unit_test(each_call_of_the_loop_may_fail),
		cmocka_unit_test(a_file_is_looked_at_again_when_it_is_mapped),
		cmocka_unit_test(who_waits_is_let_go_also_if_memory_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
