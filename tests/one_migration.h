/* SPDX-License-Identifier: BSD-3-Clause */
/* one_migration.h - a move within a process, from begin to end: see migration_parts.h for what takes part. */
#ifndef GM_TESTS_ONE_MIGRATION_H
#define GM_TESTS_ONE_MIGRATION_H

#include "migration_parts.h"

/* ---- from begin to end ---- */

static inline void listen_tcp(struct move *m)
{
	struct sockaddr_in at = address_of(m);
	socklen_t len = sizeof(at);

	m->listener = socket_at(m, 1);
	assert_true(m->listener >= 0);
	assert_int_equal(bind(m->listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(m->listener, 16), 0);
	assert_int_equal(getsockname(m->listener, (struct sockaddr *)&at, &len), 0);
	m->port = ntohs(at.sin_port);
}

/* Some pages have bytes, some never had any. */
static inline void fill_source(struct move *m)
{
	for (uint64_t page = 0; page < m->pages; page++) {
		if (page % 64 < 40)
			assert_true(touch(m, 0, page, true));
	}
}

static inline struct move *begin(struct move_opts o)
{
	const struct gm_migrate_out_ops out = {.size = sizeof(out),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run_here,
		.save = on_save,
		.told = on_told_out};
	const struct gm_migrate_in_ops in = {.size = sizeof(in),
		.prepare = on_prepare,
		.load = on_load,
		.run = on_run_there,
		.told = on_told_in};
	struct gm_migrate_out_ops out_ops = out;
	struct gm_migrate_in_ops in_ops = in;
	struct move *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	out_ops.ctx = m;
	in_ops.ctx = m;
	m->o = o;
	m->o.state_len = o.state_len ? o.state_len : sizeof(STATE_TEXT);
	m->state = malloc(m->o.state_len);
	for (uint64_t i = 0; i < m->o.state_len; i++)
		m->state[i] = (uint8_t)((uint64_t)STATE_TEXT[i % sizeof(STATE_TEXT)] + i / 1000);
	m->listener = -1;
	m->pages = (o.low + o.high) / PAGE;
	m->truth = calloc(m->pages, sizeof(*m->truth));
	m->spaces[0] = make_space(o.kind, o.low, o.high);
	assert_ok(gm_reader_create(m->spaces[0], "here", &m->readers[0], &err));
	fill_source(m);
	if (o.tcp)
		listen_tcp(m);
	m->o.out.size = sizeof(m->o.out);
	m->o.in.size = sizeof(m->o.in);
	assert_ok(gm_migrate_out_create(m->spaces[0], &m->o.out, &out_ops, &m->out, &err));
	assert_ok(gm_migrate_in_create(&m->o.in, &in_ops, &m->in, &err));
	return m;
}

static inline void go(struct move *m)
{
	assert_int_equal(pthread_create(&m->guest, NULL, be_guest, m), 0);
	assert_int_equal(pthread_create(&m->steps[0], NULL, step_out, m), 0);
	assert_int_equal(pthread_create(&m->steps[1], NULL, step_in, m), 0);
	assert_ok(gm_migrate_out_start(m->out, &err));
}

static inline uint64_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static inline void show(struct move *m)
{
	struct gm_migrate_stats a = {.size = sizeof(a)};
	struct gm_migrate_stats b = {.size = sizeof(b)};

	gm_migrate_out_stats(m->out, &a);
	gm_migrate_in_stats(m->in, &b);
	print_message("source: %s (%d: %s), %" PRIu64
		      " left, round %u; destination: %s (%d: %s), %" PRIu64 " left\n",
		gm_migrate_state_name(a.state), a.rc, a.why, a.left, a.round,
		gm_migrate_state_name(b.state), b.rc, b.why, b.left);
}

static inline bool until_told(struct move *m, int side, uint32_t tell, uint32_t nr)
{
	uint64_t end = seconds_now() + SECONDS;

	while (m->told[side][tell] < nr) {
		if (seconds_now() > end || m->step_rc[0] || m->step_rc[1] || m->wrong) {
			show(m);
			print_message("step: %d, %d; wrong page: %" PRIu64 "\n", m->step_rc[0],
				m->step_rc[1], m->wrong);
			return false;
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return true;
}

static inline bool until_state(struct move *m, int side, uint32_t state)
{
	uint64_t end = seconds_now() + SECONDS;

	while (m->states[side] != state) {
		if (seconds_now() > end) {
			show(m);
			return false;
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return true;
}

/* The guest stands still, and each page is what it wrote. */
static inline void check_memory(struct move *m, int side)
{
	m->quit = true;
	pthread_join(m->guest, NULL);
	m->guest = 0;
	if (m->wrong) {
		show(m);
		fail_msg("page %" PRIu64 " is wrong", m->wrong - 1);
	}
	for (uint64_t page = 0; page < m->pages; page++) {
		if (!touch(m, side, page, false))
			fail_msg("page %" PRIu64 " is not what it was", page);
	}
}

static inline void end(struct move *m)
{
	m->quit = true;
	if (m->guest)
		pthread_join(m->guest, NULL);
	m->quit_steps = true;
	for (int i = 0; i < 2 && m->steps[i]; i++)
		pthread_join(m->steps[i], NULL);
	assert_int_equal(gm_migrate_out_destroy(m->out), 0);
	assert_int_equal(gm_migrate_in_destroy(m->in), 0);
	for (int i = 0; i < 2; i++) {
		gm_reader_destroy(m->readers[i]);
		if (m->spaces[i])
			gm_space_destroy(m->spaces[i]);
	}
	for (uint32_t i = 0; i < m->nr_pairs; i++) {
		close(m->pairs[i]);
		close(m->peers[i]);
	}
	if (m->listener >= 0)
		close(m->listener);
	free(m->truth);
	free(m->state);
	free(m);
}

/* One that goes well. */
static inline void move_well(
	struct move_opts o, struct gm_migrate_stats *ret_out, struct gm_migrate_stats *ret_in)
{
	struct move *m = begin(o);

	go(m);
	if (!until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1) ||
		!until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1))
		fail_msg("it does not end");
	assert_true(m->state_right);
	assert_int_equal(m->where, AT_DESTINATION);
	assert_int_equal(m->runs_here, 0);
	check_memory(m, 1);
	ret_out->size = sizeof(*ret_out);
	ret_in->size = sizeof(*ret_in);
	assert_int_equal(gm_migrate_out_stats(m->out, ret_out), 0);
	assert_int_equal(gm_migrate_in_stats(m->in, ret_in), 0);
	assert_int_equal(ret_out->state, GM_MIGRATE_IS_ENDED);
	assert_int_equal(ret_in->state, GM_MIGRATE_IS_ENDED);
	end(m);
}

#endif
