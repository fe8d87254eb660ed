/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_poll.c - both ends in a loop of the embedder's, which steps one when its descriptor says so, and
 * never else.
 */
#include "one_migration.h"

#include <poll.h>

static _Atomic bool deaf; /* the destination is not stepped */

static void *step_polled(void *ctx)
{
	struct move *m = ctx;

	while (!m->quit_steps && !m->step_rc[0] && !m->step_rc[1]) {
		struct pollfd fds[] = {{gm_migrate_out_fd(m->out), POLLIN, 0},
			{deaf ? -1 : gm_migrate_in_fd(m->in), POLLIN, 0}};

		/* In between it is looked whether the test is over. */
		assert_true(poll(fds, 2, 20) >= 0);
		if (fds[0].revents)
			m->step_rc[0] = gm_migrate_out_step(m->out, 0);
		if (fds[1].revents)
			m->step_rc[1] = gm_migrate_in_step(m->in, 0);
	}
	return NULL;
}

static struct move *go_polled(struct move_opts o)
{
	struct move *m = begin(o);

	deaf = false;
	assert_int_equal(pthread_create(&m->guest, NULL, be_guest, m), 0);
	assert_int_equal(pthread_create(&m->steps[0], NULL, step_polled, m), 0);
	assert_ok(gm_migrate_out_start(m->out, &err));
	return m;
}

/* What is due comes of a step: nothing else happens until then. */
static void a_rate_goes_on(void **ctx)
{
	static const uint32_t ways[] = {GM_MIGRATE_OUT_STOP, GM_MIGRATE_OUT_POSTCOPY};

	(void)ctx;
	for (uint32_t i = 0; i < 2; i++) {
		struct move *m = go_polled((struct move_opts){.low = MIB(1),
			.high = MIB(3),
			.idle = true,
			.out = {.way = ways[i], .rate = MIB(8)}});

		assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
		assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
		check_memory(m, 1);
		end(m);
	}
}

/* Also of messages that a socket does not take at once, and of some that are parts of one. */
static void a_rate_is_not_passed(void **ctx)
{
	static const uint32_t pages[] = {64, 1024};
	const uint64_t rate = MIB(48);

	(void)ctx;
	for (uint32_t i = 0; i < 2; i++) {
		struct gm_migrate_stats out = {.size = sizeof(out)};
		struct move *m = go_polled((struct move_opts){.low = MIB(1),
			.high = MIB(35),
			.idle = true,
			.out = {.way = GM_MIGRATE_OUT_STOP, .rate = rate, .pages = pages[i]},
			.in = {.pages = pages[i]}});

		assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
		assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
		assert_int_equal(gm_migrate_out_stats(m->out, &out), 0);
		/* But for the last message, and a beginning. */
		assert_true(out.wire > MIB(16));
		out.wire -= pages[i] * UINT64_C(4096) + MIB(1);
		assert_true(out.total_ns > out.wire * 1000 / rate * 1000000);
		check_memory(m, 1);
		end(m);
	}
}

static void a_silent_line_is_found(void **ctx)
{
	struct move *m = go_polled((struct move_opts){.low = MIB(1),
		.high = MIB(3),
		.idle = true,
		.out = {.way = GM_MIGRATE_OUT_STOP,
			.rate = MIB(1),
			.deadlines = {.ping = 50, .line = 300}}});

	(void)ctx;
	assert_true(until_state(m, 0, GM_MIGRATE_IS_PRECOPY));
	deaf = true;
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_FAILED, 1));
	assert_int_equal(m->states[0], GM_MIGRATE_IS_FAILED);
	assert_int_equal(m->where, AT_SOURCE);
	deaf = false;
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_FAILED, 1));
	check_memory(m, 0);
	end(m);
}

/* Of a destination: the source goes away without closing anything. */
static void a_source_that_is_gone_is_found(void **ctx)
{
	struct move *m = begin((struct move_opts){.low = MIB(1),
		.high = MIB(3),
		.idle = true,
		.out = {.way = GM_MIGRATE_OUT_STOP, .rate = MIB(1)},
		.in.deadlines = {.ping = 50, .line = 300}});
	struct pollfd fd = {gm_migrate_in_fd(m->in), POLLIN, 0};

	(void)ctx;
	assert_int_equal(pthread_create(&m->guest, NULL, be_guest, m), 0);
	assert_ok(gm_migrate_out_start(m->out, &err));
	while (m->states[1] != GM_MIGRATE_IS_PRECOPY) {
		assert_int_equal(gm_migrate_out_step(m->out, 1), 0);
		assert_int_equal(gm_migrate_in_step(m->in, 1), 0);
	}
	while (!m->told[1][GM_MIGRATE_TOLD_FAILED]) {
		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_int_equal(gm_migrate_in_step(m->in, 0), 0);
	}
	assert_int_equal(m->where, AT_SOURCE);
	end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rate_goes_on),
		cmocka_unit_test(a_rate_is_not_passed),
		cmocka_unit_test(a_silent_line_is_found),
		cmocka_unit_test(a_source_that_is_gone_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
