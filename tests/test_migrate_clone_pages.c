/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_clone_pages.c - which pages of a guest that is cloned are kept for whom, and who waits for what. Where
 * an order of messages matters they are given to the source by hand, while nobody else steps it.
 */
#include "one_clone_run.h"

#include <guestmem/snapshot_live.h>
#include <sys/ioctl.h>

#include "fault.h"
#include "services/migrate_clone.h"
#include "services/migrate_out.h"

static struct clone_opts still_clones(uint32_t nr)
{
	return (struct clone_opts){
		.low = MIB(1), .nr = nr, .idle = true, .idle_there = true, .clone.room = KIB(64)};
}

/* ---- who steps is the test ---- */

/* The guest goes on, no page has gone, and nothing steps but the test; destinations stand still. */
static struct clones *begin_by_hand(struct clone_opts o)
{
	struct clones *c = begin_stalled(o);

	for (uint32_t i = 0; i < o.nr; i++) {
		c->there[i].stall = true;
		UNTIL(c, c->there[i].parked);
	}
	c->quit_step = true;
	pthread_join(c->step, NULL);
	return c;
}

static void end_by_hand(struct clones *c)
{
	for (uint32_t i = 0; i < c->o.nr; i++)
		c->there[i].stall = false;
	c->stall = false;
	c->quit_step = false;
	assert_int_equal(pthread_create(&c->step, NULL, step_source, c), 0);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	for (uint32_t i = 0; i < c->o.nr; i++)
		UNTIL(c, c->there[i].is >= GM_MIGRATE_IS_ENDED);
	check_source(c);
	end_clones(c);
}

/* The destination says that it has pages from @first on, those whose bits are set. */
static void say_have(struct clones *c, uint32_t i, uint64_t first, uint64_t bits)
{
	struct clone_one *one = &c->clone->ones[i];
	const struct gm_migrate_msg have = {.type = GM_MIGRATE_HAVE,
		.place = {.first = first, .nr = 60},
		.bits = (const uint8_t *)&bits};

	pthread_mutex_lock(&one->out->lines.lock);
	gm_clone_then.heard(one, &have);
	pthread_mutex_unlock(&one->out->lines.lock);
}

static void touch_pages(struct clones *c, uint64_t first, uint64_t nr)
{
	for (uint64_t page = first; page < first + nr; page++)
		assert_true(touch_source(c, page, true));
}

/* ---- what is let go ---- */

/* PONGs may be lost with a line: HAVE tells what had come. What was a lie is lost for who has lied. */
static void what_it_has_when_it_comes_back_is_let_go(void **ctx)
{
	struct clones *c = begin_by_hand(still_clones(2));

	(void)ctx;
	touch_pages(c, 0, 10);
	assert_int_equal(figures(c).pre_now, 10 * PAGE);
	say_have(c, 0, 0, UINT64_C(0xfffe));
	assert_int_equal(figures(c).pre_now, 10 * PAGE);
	say_have(c, 1, 0, UINT64_C(0x1fe));
	assert_int_equal(figures(c).pre_now, 2 * PAGE);
	say_have(c, 1, 0, UINT64_C(0x200));
	assert_int_equal(figures(c).pre_now, PAGE);
	/* Pages that nobody needs are written without a copy. */
	touch_pages(c, 1, 9);
	assert_int_equal(figures(c).pre_images, 10);
	end_by_hand(c);
}

/* Bytes that have come to a destination, on its last connection. */
static int unread(const struct there *t)
{
	int bytes = 0;

	assert_int_equal(ioctl(t->peers[t->nr_pairs - 1], FIONREAD, &bytes), 0);
	return bytes;
}

static void step_until(struct clones *c, const struct there *t, uint32_t is)
{
	uint64_t until = seconds_now() + SECONDS;

	while (t->source_is != is) {
		assert_int_equal(gm_migrate_clone_step(c->clone, 1), 0);
		assert_true(seconds_now() < until && !broken(c));
	}
}

/* The destination stands still, and pages have come to it that it has not read: it has sent its PONGs before. */
static void fill_line(struct clones *c, struct there *t)
{
	while (unread(t) < 65536) {
		t->stall = false;
		UNTIL(c, !t->parked);
		t->stall = true;
		UNTIL(c, t->parked);
		for (uint32_t turn = 0; turn < 20; turn++)
			assert_int_equal(gm_migrate_clone_step(c->clone, 0), 0);
		assert_int_equal(t->source_is, GM_MIGRATE_IS_POSTCOPY);
	}
}

/* Copies are kept of what was sent and has not come: it is asked for again, as it was. */
static void what_was_on_its_way_comes_again(void **ctx)
{
	struct clone_opts o = still_clones(1);
	struct there *t;
	struct clones *c;

	(void)ctx;
	o.low = MIB(16);
	o.clone.room = MIB(16);
	c = begin_by_hand(o);
	t = &c->there[0];
	for (uint64_t page = 0; page < c->pages; page++)
		assert_true(touch_source(c, page, true));
	t->stall = false;
	step_until(c, t, GM_MIGRATE_IS_POSTCOPY);
	fill_line(c, t);
	cut_off(t);
	t->stall = false;
	step_until(c, t, GM_MIGRATE_IS_LOST);
	UNTIL(c, t->is == GM_MIGRATE_IS_LOST);
	assert_int_equal(gm_migrate_clone_resume(c->clone, 0), 0);
	c->stall = false;
	c->quit_step = false;
	assert_int_equal(pthread_create(&c->step, NULL, step_source, c), 0);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED] && t->told[GM_MIGRATE_TOLD_ENDED]);
	assert_int_equal(t->pages_lost, 0);
	assert_int_equal(figures(c).whole, 1);
	check_there(c, 0);
	check_source(c);
	end_clones(c);
}

static void who_lies_is_told_that_it_is_lost(void **ctx)
{
	struct clones *c = begin_by_hand(still_clones(2));

	(void)ctx;
	say_have(c, 1, 4, 0x0f);
	c->stall = false;
	for (uint32_t i = 0; i < 2; i++)
		c->there[i].stall = false;
	c->quit_step = false;
	assert_int_equal(pthread_create(&c->step, NULL, step_source, c), 0);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	for (uint32_t i = 0; i < 2; i++)
		UNTIL(c, c->there[i].is >= GM_MIGRATE_IS_ENDED);
	assert_int_equal(c->there[0].pages_lost, 0);
	assert_int_equal(c->there[1].pages_lost, 4);
	assert_int_equal(figures(c).lost, 0);
	check_there(c, 0);
	check_source(c);
	end_clones(c);
}

struct writer {
	struct clones *c;
	pthread_t thread;
	uint64_t page;
	_Atomic bool done;
};

static void *write_page(void *ctx)
{
	struct writer *w = ctx;

	if (!touch_source(w->c, w->page, true))
		w->c->wrong = w->page + 1;
	w->done = true;
	return NULL;
}

static void begin_writer(struct writer *w, struct clones *c, uint64_t page)
{
	uint64_t waits = figures(c).waits;

	*w = (struct writer){.c = c, .page = page};
	assert_int_equal(pthread_create(&w->thread, NULL, write_page, w), 0);
	UNTIL(c, figures(c).waits > waits);
	assert_false(w->done);
}

/* All room is taken for as long as a destination stands still; the page is of no use for it any more. */
static void a_writer_goes_on_when_nobody_needs_its_page(void **ctx)
{
	(void)ctx;
	for (uint32_t give_up = 0; give_up < 2; give_up++) {
		struct clone_opts o = still_clones(1);
		struct clones *c;
		struct writer w;

		o.clone.flags = give_up ? GM_MIGRATE_CLONE_GIVE_UP : 0;
		c = begin_by_hand(o);
		touch_pages(c, 0, 16);
		begin_writer(&w, c, 20);
		say_have(c, 0, 20, 1);
		assert_int_equal(gm_migrate_clone_step(c->clone, 0), 0);
		UNTIL(c, w.done);
		pthread_join(w.thread, NULL);
		assert_int_equal(figures(c).pre_now, KIB(64));
		assert_int_equal(figures(c).given_up, 0);
		if (give_up) {
			/* Another page was let go, but not that which he waits for. */
			begin_writer(&w, c, 30);
			say_have(c, 0, 31, 1);
			for (uint32_t turn = 0; !w.done; turn++) {
				assert_int_equal(gm_migrate_clone_step(c->clone, 1), 0);
				assert_true(turn < 10000);
			}
			pthread_join(w.thread, NULL);
			assert_int_equal(figures(c).given_up, 1);
			assert_int_equal(c->there[0].source_rc, -ENOSPC);
		}
		end_by_hand(c);
	}
}

/* One destination had the page, and its line is lost; when the other has it too nobody waits for a deadline. */
static void a_line_that_is_lost_holds_up_only_what_it_lacks(void **ctx)
{
	struct clones *c = begin_by_hand(still_clones(2));
	struct writer w;

	(void)ctx;
	touch_pages(c, 0, 16);
	begin_writer(&w, c, 20);
	say_have(c, 1, 20, 1);
	cut(&c->there[1]);
	assert_int_equal(gm_migrate_clone_step(c->clone, 0), 0);
	assert_false(w.done);
	say_have(c, 0, 20, 1);
	assert_int_equal(gm_migrate_clone_step(c->clone, 0), 0);
	UNTIL(c, w.done);
	pthread_join(w.thread, NULL);
	assert_int_equal(figures(c).pre_now, KIB(64));
	end_by_hand(c);
}

/* ---- memory of which there is no instant ---- */

static void expect_none(struct clones *c, int code, const char *word)
{
	run_all(c);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_FAILED]);
	assert_int_equal(c->code, code);
	if (!strstr(c->why, word))
		fail_msg("\"%s\" does not say \"%s\"", c->why, word);
	assert_int_equal(c->resumed, 1);
	UNTIL(c, figures(c).running == 0);
	/* It does not begin again, and no figure says so. */
	assert_int_equal(gm_migrate_clone_start(c->clone, &err), -EINVAL);
	assert_int_equal(figures(c).running, 0);
	for (uint32_t i = 0; i < c->o.nr; i++) {
		UNTIL(c, c->there[i].is >= GM_MIGRATE_IS_ENDED);
		assert_false(c->there[i].runs);
	}
	check_source(c);
}

/* When the clones are made, and once more at the instant. */
static void memory_without_an_instant_is_refused(void **ctx)
{
	uint8_t *bytes = malloc(MIB(1));

	(void)ctx;
	assert_non_null(bytes);
	memset(bytes, 0x5a, MIB(1));
	for (uint32_t absent = 0; absent < 2; absent++) {
		struct clone_opts o = still_clones(2);
		struct gm_source *from = NULL;
		struct clones *c;

		o.more = MIB(1);
		c = prepare(o);
		add_more(c->space, o.more);
		assert_int_equal(make_clone(c), 0);
		if (absent) {
			assert_ok(gm_source_memory(bytes, MIB(1), &from, &err));
			assert_ok(gm_pager_add_space(c->pager, c->space, MORE_AT, o.more,
				GM_OPTS(gm_pager_area_opts, .source = from), NULL, &err));
			assert_fails(make_clone(c), EBUSY, "absent");
		}
		expect_none(c, absent ? -EBUSY : -ENOENT, absent ? "bring" : "no area");
		end_clones(c);
		gm_source_destroy(from);
	}
	free(bytes);
}

static void a_huge_page_needs_room_for_its_copy(void **ctx)
{
	struct clone_opts o = still_clones(2);
	struct clones *c;

	(void)ctx;
	assert_true(support_pool(21, 8));
	o.kind = KIND_HUGE;
	o.low = MIB(4);
	c = prepare(o);
	assert_int_equal(make_clone(c), 0);
	expect_none(c, -EINVAL, "huge page");
	end_clones(c);
}

/* Whoever came first has it; of the other nothing comes. */
static void memory_is_protected_for_one(void **ctx)
{
	struct clones *c = prepare(still_clones(2));
	struct gm_snapshot_live *live;

	(void)ctx;
	assert_ok(gm_snapshot_live_create(c->space, c->pager, NULL, &live, &err));
	assert_ok(gm_snapshot_live_arm(live, NULL, &err));
	assert_int_equal(make_clone(c), 0);
	expect_none(c, -EBUSY, "saved");
	gm_snapshot_live_destroy(live);
	end_clones(c);
	c = begin_stalled(still_clones(2));
	assert_ok(gm_snapshot_live_create(c->space, c->pager, NULL, &live, &err));
	assert_fails(gm_snapshot_live_arm(live, NULL, &err), EBUSY, "saved");
	touch_pages(c, 0, 3);
	assert_int_equal(figures(c).pre_images, 3);
	c->stall = false;
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_ok(gm_snapshot_live_arm(live, NULL, &err));
	gm_snapshot_live_destroy(live);
	for (uint32_t i = 0; i < 2; i++) {
		UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED]);
		check_there(c, i);
	}
	check_source(c);
	end_clones(c);
}

/* ---- figures ---- */

static void figures_may_be_asked_for_all_the_while(void **ctx)
{
	struct clone_opts o = {.low = MIB(1), .high = MIB(1), .nr = 3, .clone.out.rate = MIB(16)};
	struct clones *c = begin_clones(o);
	struct gm_migrate_clone_stats f = {.size = sizeof(f)};
	uint32_t state = GM_MIGRATE_CLONE_IDLE;
	uint64_t armed = 0;

	(void)ctx;
	while (!c->told[GM_MIGRATE_TOLD_ENDED]) {
		struct gm_migrate_stats of = {.size = sizeof(of)};

		assert_false(broken(c));
		f = figures(c);
		assert_true(f.state >= state && f.armed >= armed);
		state = f.state;
		armed = f.armed;
		assert_int_equal(gm_migrate_clone_stats_of(c->clone, 2, &of), 0);
		sched_yield();
	}
	assert_int_equal(gm_migrate_clone_stats_of(
				 c->clone, 3, &(struct gm_migrate_stats){.size = sizeof(uint64_t)}),
		-EINVAL);
	for (uint32_t i = 0; i < 3; i++) {
		UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED]);
		check_there(c, i);
	}
	check_source(c);
	end_clones(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_has_when_it_comes_back_is_let_go),
		cmocka_unit_test(what_was_on_its_way_comes_again),
		cmocka_unit_test(who_lies_is_told_that_it_is_lost),
		cmocka_unit_test(a_writer_goes_on_when_nobody_needs_its_page),
		cmocka_unit_test(a_line_that_is_lost_holds_up_only_what_it_lacks),
		cmocka_unit_test(memory_without_an_instant_is_refused),
		cmocka_unit_test(a_huge_page_needs_room_for_its_copy),
		cmocka_unit_test(memory_is_protected_for_one),
		cmocka_unit_test(figures_may_be_asked_for_all_the_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
