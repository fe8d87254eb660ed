/* SPDX-License-Identifier: BSD-3-Clause */
/* one_clone_run.h - a guest that is cloned within a process, from begin to end. See one_clone.h. */
#ifndef GM_TESTS_ONE_CLONE_RUN_H
#define GM_TESTS_ONE_CLONE_RUN_H

#include "one_clone.h"

/* ---- who steps ---- */

static inline void *step_there(void *ctx)
{
	struct there *t = ctx;

	while (!t->quit_step && !t->step_rc) {
		t->parked = t->stall;
		if (t->parked)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		else
			t->step_rc = gm_migrate_in_step(t->in, 10);
	}
	return NULL;
}

static inline void *step_source(void *ctx)
{
	struct clones *c = ctx;

	while (!c->quit_step && !c->step_rc) {
		if (c->stall)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		else
			c->step_rc = gm_migrate_clone_step(c->clone, 10);
	}
	return NULL;
}

static inline void *step_pager(void *ctx)
{
	return (void *)(intptr_t)gm_pager_run(ctx);
}

/* ---- from begin to end ---- */

static inline void make_there(struct clones *c, uint32_t i)
{
	struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = there_prepare,
		.load = there_load,
		.run = there_run,
		.told = there_told,
		.ctx = &c->there[i]};

	c->there[i].c = c;
	c->there[i].number = i;
	c->there[i].place.listener = -1;
	c->there[i].own = malloc(c->pages * PAGE);
	assert_non_null(c->there[i].own);
	if (c->o.apart && c->o.apart_at == i) {
		c->there[i].place = *c->o.apart;
		c->there[i].apart = true;
		return;
	}
	if ((c->o.tcp | c->o.local) >> i & 1)
		c->there[i].place = listen_somewhere(c->o.tcp >> i & 1 ? AF_INET : AF_UNIX);
	assert_ok(gm_migrate_in_create(NULL, &ops, &c->there[i].in, &err));
}

static inline int make_clone(struct clones *c)
{
	const struct gm_migrate_clone_ops ops = {.size = sizeof(ops),
		.connect = to_there,
		.pause = to_pause,
		.save = to_save,
		.run = to_run,
		.told = to_tell,
		.ctx = c};

	return gm_migrate_clone_create(
		c->space, c->pager, c->o.nr, &c->o.clone, &ops, &c->clone, &err);
}

static inline void make_pager(struct clones *c)
{
	const struct gm_pager_area_opts area = {.size = sizeof(area), .way = GM_PAGER_PROTECT};

	assert_ok(gm_pager_create(GM_OPTS(gm_pager_opts, .flags = 0), &c->pager, &err));
	if (c->o.low)
		assert_ok(gm_pager_add_space(
			c->pager, c->space, LOW_AT, c->o.low, &area, NULL, &err));
	if (c->o.high)
		assert_ok(gm_pager_add_space(
			c->pager, c->space, HIGH_AT, c->o.high, &area, NULL, &err));
	if (!c->o.no_pager)
		assert_int_equal(pthread_create(&c->pager_thread, NULL, step_pager, c->pager), 0);
}

static inline struct clones *prepare(struct clone_opts o)
{
	struct clones *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->o = o;
	c->idle = o.idle;
	c->pages = (o.low + o.high) / PAGE;
	c->truth = calloc(c->pages, sizeof(*c->truth));
	c->instant = o.instant ? o.instant : malloc(c->pages * PAGE);
	c->o.clone.size = sizeof(c->o.clone);
	c->o.clone.room = o.clone.room ? o.clone.room : MIB(16);
	c->space = make_space(o.kind, o.low, o.high);
	assert_ok(gm_reader_create(c->space, "here", &c->reader, &err));
	for (uint64_t page = 0; page < c->pages; page++) {
		if (page % 64 < 40)
			assert_true(touch_source(c, page, true));
	}
	make_pager(c);
	for (uint32_t i = 0; i < o.nr; i++)
		make_there(c, i);
	c->runs = true;
	return c;
}

static inline void run_all(struct clones *c)
{
	assert_int_equal(pthread_create(&c->guest, NULL, be_source, c), 0);
	assert_int_equal(pthread_create(&c->step, NULL, step_source, c), 0);
	for (uint32_t i = 0; i < c->o.nr; i++) {
		if (c->there[i].apart)
			continue;
		assert_int_equal(
			pthread_create(&c->there[i].step, NULL, step_there, &c->there[i]), 0);
		assert_int_equal(
			pthread_create(&c->there[i].guest, NULL, be_there, &c->there[i]), 0);
	}
	assert_ok(gm_migrate_clone_start(c->clone, &err));
}

static inline struct clones *begin_clones(struct clone_opts o)
{
	struct clones *c = prepare(o);

	assert_int_equal(make_clone(c), 0);
	run_all(c);
	return c;
}

/* The guest goes on, and no page has gone yet. */
static inline struct clones *begin_stalled(struct clone_opts o)
{
	struct clones *c = prepare(o);

	c->stall_at_once = true;
	assert_int_equal(make_clone(c), 0);
	run_all(c);
	while (!c->stall)
		sched_yield();
	return c;
}

/* Those of a set never come to an end by themselves. */
static inline struct clones *begin_with_stalled(struct clone_opts o, uint32_t set)
{
	struct clones *c = prepare(o);

	for (uint32_t i = 0; i < o.nr; i++)
		c->there[i].stall_when_runs = set >> i & 1;
	assert_int_equal(make_clone(c), 0);
	run_all(c);
	return c;
}

static inline struct gm_migrate_clone_stats figures(struct clones *c)
{
	struct gm_migrate_clone_stats now = {.size = sizeof(now)};

	assert_int_equal(gm_migrate_clone_stats(c->clone, &now), 0);
	return now;
}

static inline void show_clones(struct clones *c)
{
	struct gm_migrate_clone_stats f = figures(c);

	print_message("clones: state %u, %u of %u run, pre-images %" PRIu64 " now %" PRIu64
		      ", waits %" PRIu64 ", lost %" PRIu64 "; wrong %" PRIu64 ", rc %d: %s\n",
		f.state, f.running, f.clones, f.pre_images, f.pre_now, f.waits, f.lost, c->wrong,
		c->code, c->why);
	for (uint32_t i = 0; i < c->o.nr; i++) {
		struct gm_migrate_stats s = {.size = sizeof(s)};

		gm_migrate_clone_stats_of(c->clone, i, &s);
		print_message("  %u: %s, %" PRIu64 " left (%d: %s); there %s, wrong %" PRIu64
			      ", step %d\n",
			i, gm_migrate_state_name(s.state), s.left, s.rc, s.why,
			gm_migrate_state_name(c->there[i].is), c->there[i].wrong,
			c->there[i].step_rc);
	}
}

static inline bool broken(const struct clones *c)
{
	bool bad = c->wrong || c->step_rc;

	for (uint32_t i = 0; i < c->o.nr; i++)
		bad |= c->there[i].wrong || c->there[i].step_rc;
	return bad;
}

#define UNTIL(c, what)                                                                             \
	do {                                                                                       \
		uint64_t until_ = seconds_now() + SECONDS;                                         \
		while (!(what)) {                                                                  \
			if (seconds_now() > until_ || broken(c)) {                                 \
				show_clones(c);                                                    \
				fail_msg("%s does not become true", #what);                        \
			}                                                                          \
			nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);                    \
		}                                                                                  \
	} while (0)

/* Its guest stands still, and each page is that of the instant, or what it wrote. */
static inline void check_there(struct clones *c, uint32_t i)
{
	struct there *t = &c->there[i];

	t->quit = true;
	pthread_join(t->guest, NULL);
	t->guest = 0;
	assert_int_equal(t->wrong, 0);
	assert_true(t->state_right);
	for (uint64_t page = 0; page < c->pages; page++) {
		if (!touch_there(t, page, false))
			fail_msg("page %" PRIu64 " of clone %u is not what it was", page, i);
	}
}

/* The source has gone on, and still does. */
static inline void check_source(struct clones *c)
{
	uint64_t before = c->writes;

	if (!c->idle)
		UNTIL(c, c->writes > before + 50);
	c->quit = true;
	pthread_join(c->guest, NULL);
	c->guest = 0;
	assert_int_equal(c->wrong, 0);
	for (uint64_t page = 0; page < c->pages; page++) {
		if (!touch_source(c, page, true))
			fail_msg("page %" PRIu64 " of the source is not what it was", page);
	}
}

static inline void end_there(struct there *t)
{
	t->quit = true;
	if (t->guest)
		pthread_join(t->guest, NULL);
	t->quit_step = true;
	if (t->step)
		pthread_join(t->step, NULL);
	assert_int_equal(gm_migrate_in_destroy(t->in), 0);
	gm_reader_destroy(t->reader);
	if (t->space)
		gm_space_destroy(t->space);
	if (t->place.listener >= 0 && !t->apart)
		close(t->place.listener);
	for (uint32_t i = 0; i < t->nr_pairs; i++) {
		close(t->pairs[i]);
		if (t->peers[i] >= 0)
			close(t->peers[i]);
	}
	free(t->own);
}

static inline void end_clones(struct clones *c)
{
	void *rc;

	c->quit = true;
	if (c->guest)
		pthread_join(c->guest, NULL);
	c->quit_step = true;
	if (c->step)
		pthread_join(c->step, NULL);
	assert_int_equal(c->step_rc, 0);
	assert_int_equal(gm_migrate_clone_destroy(c->clone), 0);
	for (uint32_t i = 0; i < c->o.nr; i++)
		end_there(&c->there[i]);
	if (!c->o.no_pager) {
		gm_pager_quit(c->pager);
		pthread_join(c->pager_thread, &rc);
		assert_int_equal((intptr_t)rc, 0);
	}
	assert_ok(gm_pager_stop(c->pager, GM_PAGER_COMPLETE, 60000, &err));
	assert_ok(gm_pager_destroy(c->pager, &err));
	gm_reader_destroy(c->reader);
	gm_space_destroy(c->space);
	free(c->truth);
	if (!c->o.instant)
		free(c->instant);
	free(c);
}

/* One that goes well: each has the instant, and goes on. */
static inline struct gm_migrate_clone_stats clone_well(struct clone_opts o)
{
	struct clones *c = begin_stalled(o);
	struct gm_migrate_clone_stats f;

	UNTIL(c, o.idle || figures(c).pre_images > 0);
	c->stall = false;
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	for (uint32_t i = 0; i < o.nr; i++)
		UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED]);
	f = figures(c);
	assert_int_equal(f.state, GM_MIGRATE_CLONE_ENDED);
	assert_int_equal(f.whole, o.nr);
	assert_int_equal(f.running, 0);
	assert_int_equal(f.given_up, 0);
	assert_int_equal(f.pre_now, 0);
	assert_int_equal(f.lost, 0);
	assert_true(f.armed > 0);
	assert_true(f.pause_ns > 0);
	assert_int_equal(c->paused, 1);
	assert_int_equal(c->resumed, 1);
	for (uint32_t i = 0; i < o.nr; i++) {
		struct gm_migrate_stats s = {.size = sizeof(s)};

		assert_int_equal(gm_migrate_clone_stats_of(c->clone, i, &s), 0);
		assert_int_equal(s.state, GM_MIGRATE_IS_ENDED);
		assert_int_equal(s.lost, 0);
		UNTIL(c, c->there[i].writes > 5);
		check_there(c, i);
	}
	check_source(c);
	end_clones(c);
	return f;
}

static inline void cut(struct there *t)
{
	for (uint32_t i = 0; i < t->nr_pairs; i++)
		shutdown(t->pairs[i], SHUT_RDWR);
}

/* What it has not read is lost, too: it stands still, and is known to. */
static inline void cut_off(struct there *t)
{
	char bytes[4096];

	cut(t);
	for (uint32_t i = 0; i < t->nr_pairs; i++)
		while (recv(t->peers[i], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
}

/* A destination that lacks pages is told that nobody will bring them. */
static inline void give_up_there(struct clones *c, uint32_t i)
{
	c->there[i].stall_when_runs = false;
	c->there[i].stall = false;
	/* The test has the sockets too: it would wait for the deadline of the line. */
	cut(&c->there[i]);
	UNTIL(c, c->there[i].is == GM_MIGRATE_IS_LOST || c->there[i].is >= GM_MIGRATE_IS_ENDED);
	/* It may just have ended. */
	if (c->there[i].is < GM_MIGRATE_IS_ENDED)
		(void)gm_migrate_in_give_up(c->there[i].in, -EIO);
	UNTIL(c, c->there[i].is >= GM_MIGRATE_IS_ENDED);
}

#endif
