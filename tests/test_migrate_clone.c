/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_clone.c - a guest that writes all the time is cloned, and goes on: each page of each clone is that
 * of the instant, whatever the source writes or gives back, and whatever becomes of another clone.
 */
#include "one_clone_run.h"

#include "fault.h"

static struct clone_opts slow_clones(void)
{
	return (struct clone_opts){
		.low = MIB(3), .high = MIB(5), .nr = 3, .clone.out.rate = MIB(16)};
}

static void three_have_the_instant(void **ctx)
{
	struct gm_migrate_clone_stats f = clone_well(slow_clones());

	(void)ctx;
	assert_true(f.pre_images > 0);
	assert_true(f.pre_most > 0);
	assert_int_equal(f.armed, f.armed / PAGE * PAGE);
}

static void of_any_memory(void **ctx)
{
	static const enum kind kinds[] = {KIND_THP, KIND_MEMFD, KIND_HUGE, KIND_HUGE_ANON};

	(void)ctx;
	assert_true(support_pool(21, 16));
	for (uint32_t i = 0; i < 4; i++) {
		struct gm_migrate_clone_stats f = clone_well((struct clone_opts){.kind = kinds[i],
			.low = MIB(4),
			.high = MIB(4),
			.nr = kinds[i] >= KIND_HUGE ? 2 : 3,
			.clone.out.rate = MIB(32)});

		assert_true(f.pre_images > 0);
	}
}

static void by_other_connections(void **ctx)
{
	struct clone_opts o = slow_clones();

	(void)ctx;
	o.nr = 2;
	o.clone.out.bulk_plus = 3;
	o.clone.out.urgent_plus = 2;
	clone_well(o);
	o.nr = 1;
	o.clone.out.rate = 0;
	o.clone.out.bulk_plus = 0;
	o.idle = true;
	assert_int_equal(clone_well(o).pre_images, 0);
}

/* ---- what is given back ---- */

static void what_is_given_back_is_the_old_page(void **ctx)
{
	static const enum kind kinds[] = {KIND_ANON, KIND_MEMFD, KIND_HUGE};

	(void)ctx;
	assert_true(support_pool(21, 16));
	for (uint32_t k = 0; k < 3; k++) {
		struct clones *c = begin_stalled((struct clone_opts){
			.kind = kinds[k], .low = MIB(4), .high = MIB(4), .nr = 2, .idle = true});

		for (uint64_t at = 0; at < MIB(4); at += MIB(2)) {
			assert_ok(gm_discard(
				c->space, HIGH_AT + at, MIB(2), GM_DISCARD_NOW, 0, NULL, &err));
			for (uint64_t page = 0; page < 512; page++)
				c->truth[(MIB(4) + at) / PAGE + page] = 0;
		}
		/* Of 64 pages 40 were there; of files all, since they were looked at. */
		assert_int_equal(figures(c).discarded, kinds[k] == KIND_ANON ? 640 : 1024);
		c->stall = false;
		UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED] &&
				 c->there[0].told[GM_MIGRATE_TOLD_ENDED] &&
				 c->there[1].told[GM_MIGRATE_TOLD_ENDED]);
		assert_int_equal(figures(c).lost, 0);
		check_there(c, 0);
		check_there(c, 1);
		check_source(c);
		end_clones(c);
	}
}

/* By a way that the library does not see: lost, never wrong. */
static void what_goes_unseen_is_lost(void **ctx)
{
	struct clones *c = begin_stalled(
		(struct clone_opts){.low = MIB(4), .nr = 2, .idle = true, .idle_there = true});
	struct gm_region_info region = {.size = sizeof(region)};

	(void)ctx;
	assert_int_equal(gm_space_next(c->space, LOW_AT, &region), 0);
	assert_int_equal(madvise((uint8_t *)region.hva + MIB(3), 128 * PAGE, MADV_DONTNEED), 0);
	c->stall = false;
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_int_equal(figures(c).lost, 80);
	for (uint32_t i = 0; i < 2; i++) {
		UNTIL(c, c->there[i].is >= GM_MIGRATE_IS_ENDED);
		assert_int_equal(c->there[i].pages_lost, 80);
	}
	end_clones(c);
}

/* ---- what becomes of one does not matter to others ---- */

static void one_is_cut_and_resumed(void **ctx)
{
	struct clone_opts o = slow_clones();
	struct clones *c;

	(void)ctx;
	c = begin_with_stalled(o, 2);
	for (uint32_t times = 1; times <= 2; times++) {
		UNTIL(c, c->there[1].stall && c->there[1].parked);
		cut_off(&c->there[1]);
		c->there[1].stall_when_runs = times == 1;
		c->there[1].stall = false;
		UNTIL(c, c->there[1].told_source[GM_MIGRATE_TOLD_LOST] == times &&
				 c->there[1].told[GM_MIGRATE_TOLD_LOST] == times);
		assert_int_equal(gm_migrate_clone_resume(c->clone, 1), 0);
	}
	assert_int_equal(gm_migrate_clone_resume(c->clone, 9), -EINVAL);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_int_equal(figures(c).whole, 3);
	for (uint32_t i = 0; i < 3; i++) {
		UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED]);
		check_there(c, i);
	}
	check_source(c);
	end_clones(c);
}

static void one_is_given_up(void **ctx)
{
	struct clone_opts o = slow_clones();

	(void)ctx;
	for (uint32_t how = 0; how < 3; how++) {
		struct clones *c;

		o.clone.out.deadlines.resume = how == 2 ? 50 : 0;
		o.idle_there = true;
		c = begin_with_stalled(o, 4);
		UNTIL(c, c->there[2].stall);
		if (how == 0) {
			assert_int_equal(gm_migrate_clone_drop(c->clone, 2, -ETIME), 0);
		} else if (how == 1) {
			assert_int_equal(gm_migrate_in_give_up(c->there[2].in, -EIO), 0);
		} else {
			/* Nobody resumes it: its deadline gives it up. */
			cut(&c->there[2]);
		}
		c->there[2].stall = how != 1;
		UNTIL(c, c->there[2].source_is == GM_MIGRATE_IS_GIVEN_UP);
		give_up_there(c, 2);
		assert_true(c->there[2].pages_lost > 0);
		UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
		assert_int_equal(figures(c).whole, 2);
		assert_int_equal(figures(c).given_up, how != 1);
		assert_int_equal(gm_migrate_clone_drop(c->clone, 2, -ETIME), -EINVAL);
		for (uint32_t i = 0; i < 2; i++) {
			UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED]);
			check_there(c, i);
		}
		check_source(c);
		end_clones(c);
	}
}

/* Before the instant, at it, and behind it. */
static void some_never_run(void **ctx)
{
	(void)ctx;
	for (uint32_t how = 0; how < 4; how++) {
		struct clones *c = prepare(slow_clones());

		c->there[0].prepare_rc = how == 0 ? -ENOMEM : 0;
		c->there[0].load_rc = how == 1 ? -EINVAL : 0;
		c->there[0].start_rc = how == 2 ? -EIO : 0;
		c->there[0].refuse = how == 3;
		assert_int_equal(make_clone(c), 0);
		run_all(c);
		UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
		assert_int_equal(figures(c).whole, 2);
		assert_true(c->there[0].source_is == GM_MIGRATE_IS_FAILED ||
			    c->there[0].source_is == GM_MIGRATE_IS_RECLAIMED);
		for (uint32_t i = 1; i < 3; i++) {
			UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED]);
			check_there(c, i);
		}
		check_source(c);
		end_clones(c);
	}
}

/* ---- no instant ---- */

static void nothing_comes_of_it(void **ctx)
{
	(void)ctx;
	for (uint32_t how = 0; how < 4; how++) {
		struct clones *c = prepare(slow_clones());

		for (uint32_t i = 0; i < 3; i++)
			c->there[i].refuse = how == 0;
		c->pause_rc = how == 1 ? -EBUSY : 0;
		c->state_fails = how >= 2;
		assert_int_equal(make_clone(c), 0);
		assert_int_equal(gm_migrate_clone_cancel(c->clone, -ECANCELED), -EINVAL);
		assert_int_equal(gm_migrate_clone_paused(c->clone, 0), -EINVAL);
		assert_int_equal(gm_migrate_clone_state(c->clone, NULL, 0), -EINVAL);
		run_all(c);
		assert_int_equal(gm_migrate_clone_start(c->clone, &err), -EINVAL);
		if (how == 2) {
			UNTIL(c, figures(c).state == GM_MIGRATE_CLONE_SAVE);
			assert_int_equal(gm_migrate_clone_destroy(c->clone), -EBUSY);
			assert_int_equal(gm_migrate_clone_cancel(c->clone, -ECANCELED), 0);
		} else if (how == 3) {
			/* All are dropped while the state is written. */
			UNTIL(c, figures(c).state == GM_MIGRATE_CLONE_SAVE);
			for (uint32_t i = 0; i < 3; i++)
				assert_int_equal(gm_migrate_clone_drop(c->clone, i, -EIO), 0);
		}
		UNTIL(c, c->told[GM_MIGRATE_TOLD_FAILED]);
		assert_int_equal(c->code, how == 1   ? -EBUSY
					  : how == 2 ? -ECANCELED
						     : -ECONNABORTED);
		assert_int_equal(figures(c).state, GM_MIGRATE_CLONE_FAILED);
		assert_int_equal(figures(c).rc, c->code);
		assert_int_equal(c->resumed, how > 0);
		for (uint32_t i = 0; i < 3; i++)
			assert_false(c->there[i].runs);
		check_source(c);
		end_clones(c);
	}
}

static void cancelled_while_they_are_filled(void **ctx)
{
	struct clone_opts o = slow_clones();
	struct clones *c;

	(void)ctx;
	o.idle_there = true;
	c = begin_with_stalled(o, 7);
	for (uint32_t i = 0; i < 3; i++)
		UNTIL(c, c->there[i].stall);
	assert_int_equal(gm_migrate_clone_destroy(c->clone), -EBUSY);
	assert_int_equal(gm_migrate_clone_cancel(c->clone, -ECANCELED), 0);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_int_equal(figures(c).given_up, 3);
	assert_int_equal(figures(c).pre_now, 0);
	assert_int_equal(gm_migrate_clone_cancel(c->clone, -ECANCELED), -EINVAL);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(c->there[i].source_rc, -ECANCELED);
		give_up_there(c, i);
	}
	check_source(c);
	end_clones(c);
}

/* ---- the room for copies ---- */

static void writers_wait_for_room(void **ctx)
{
	struct clone_opts o = slow_clones();
	struct clones *c;

	(void)ctx;
	o.nr = 2;
	o.clone.room = KIB(64);
	c = begin_stalled(o);
	UNTIL(c, figures(c).waits > 0);
	assert_int_equal(figures(c).pre_now, KIB(64));
	assert_int_equal(figures(c).pre_images, 16);
	c->stall = false;
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_int_equal(figures(c).pre_most, KIB(64));
	for (uint32_t i = 0; i < 2; i++) {
		UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED]);
		check_there(c, i);
	}
	check_source(c);
	end_clones(c);
}

/* Long before the end: the line is so slow that it would take half a minute. */
static void copies_of_what_has_come_are_let_go(void **ctx)
{
	struct clone_opts o = slow_clones();
	struct clones *c;

	(void)ctx;
	o.nr = 2;
	o.idle = true;
	o.idle_there = true;
	o.clone.out.rate = KIB(256);
	c = begin_stalled(o);
	for (uint64_t page = 0; page < 10; page++)
		assert_true(touch_source(c, page, true));
	assert_int_equal(figures(c).pre_now, 10 * PAGE);
	c->stall = false;
	UNTIL(c, figures(c).pre_now == 0);
	assert_int_equal(figures(c).state, GM_MIGRATE_CLONE_FILLING);
	assert_int_equal(figures(c).running, 2);
	assert_int_equal(gm_migrate_clone_cancel(c->clone, -ECANCELED), 0);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	for (uint32_t i = 0; i < 2; i++)
		give_up_there(c, i);
	check_source(c);
	end_clones(c);
}

/* One reads nothing: it holds all copies, and is given up when there is no room; the others go on. */
static void without_room_the_slowest_is_given_up(void **ctx)
{
	struct clone_opts o = slow_clones();
	struct gm_migrate_clone_stats f;
	struct clones *c;

	(void)ctx;
	o.nr = 2;
	o.idle = true;
	o.idle_there = true;
	o.clone.room = KIB(64);
	o.clone.flags = GM_MIGRATE_CLONE_GIVE_UP;
	o.clone.out.rate = 0;
	o.clone.out.deadlines.line = UINT32_MAX;
	c = begin_with_stalled(o, 2);
	UNTIL(c, c->there[0].told[GM_MIGRATE_TOLD_ENDED]);
	UNTIL(c, figures(c).running == 1);
	c->idle = false;
	UNTIL(c, c->there[1].source_is == GM_MIGRATE_IS_GIVEN_UP);
	assert_int_equal(c->there[1].source_rc, -ENOSPC);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	f = figures(c);
	assert_true(f.waits > 0);
	assert_int_equal(f.given_up, 1);
	assert_int_equal(f.whole, 1);
	give_up_there(c, 1);
	check_there(c, 0);
	check_source(c);
	end_clones(c);
}

static void a_discard_waits_for_room(void **ctx)
{
	struct clone_opts o = slow_clones();
	struct clones *c;

	(void)ctx;
	o.nr = 1;
	o.idle = true;
	o.idle_there = true;
	o.clone.room = KIB(64);
	o.clone.wait_ms = 1;
	c = begin_stalled(o);
	assert_fails(gm_discard(c->space, HIGH_AT + MIB(3), MIB(2), GM_DISCARD_NOW, 0, NULL, &err),
		EBUSY, "cloned");
	assert_int_equal(gm_migrate_clone_cancel(c->clone, -ECANCELED), 0);
	c->stall = false;
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_ok(gm_discard(c->space, HIGH_AT + MIB(3), MIB(2), GM_DISCARD_NOW, 0, NULL, &err));
	for (uint64_t page = 0; page < 512; page++)
		c->truth[MIB(6) / PAGE + page] = 0;
	/* It was told before its guest ran. */
	UNTIL(c, c->there[0].is >= GM_MIGRATE_IS_ENDED);
	assert_false(c->there[0].runs);
	check_source(c);
	end_clones(c);
}

/* ---- refusals and faults ---- */

static void what_cannot_be_is_refused(void **ctx)
{
	struct clones *c = prepare((struct clone_opts){.low = MIB(1), .nr = 1});
	struct gm_migrate_clone_stats f = {.size = 4};
	const struct {
		struct gm_migrate_clone_opts opts;
		uint8_t more;
	} longer = {.opts.size = sizeof(longer.opts) + 1, .more = 1};

	(void)ctx;
	assert_fails(gm_migrate_clone_create(c->space, c->pager, 1, &longer.opts,
			     GM_OPTS(gm_migrate_clone_ops, .ctx = c), &c->clone, &err),
		E2BIG, "clones");
	c->o.clone.flags = 8;
	assert_fails(make_clone(c), EINVAL, "flag");
	c->o.clone.flags = 0;
	c->o.clone.out.flags = GM_MIGRATE_OUT_FDS;
	assert_fails(make_clone(c), EINVAL, "flag");
	c->o.clone.out.flags = 0;
	c->o.clone.room = 1;
	assert_fails(make_clone(c), EINVAL, "room");
	c->o.clone.room = 0;
	c->o.nr = 0;
	assert_fails(make_clone(c), EINVAL, "1 to 16");
	c->o.nr = 17;
	assert_fails(make_clone(c), EINVAL, "1 to 16");
	c->o.nr = 1;
	assert_fails(gm_migrate_clone_create(c->space, c->pager, 1, NULL,
			     GM_OPTS(gm_migrate_clone_ops, .ctx = c), &c->clone, &err),
		EINVAL, "connect");
	assert_int_equal(gm_migrate_clone_destroy(NULL), 0);
	assert_int_equal(make_clone(c), 0);
	assert_true(gm_migrate_clone_fd(c->clone) >= 0);
	assert_int_equal(gm_migrate_clone_stats(c->clone, &f), -EINVAL);
	assert_int_equal(gm_migrate_clone_drop(c->clone, 0, -EIO), -EINVAL);
	/* A map that changes between is found out at the instant. */
	add_more(c->space, MIB(1));
	assert_ok(gm_pager_add_space(c->pager, c->space, MORE_AT, MIB(1),
		GM_OPTS(gm_pager_area_opts, .way = GM_PAGER_PROTECT), NULL, &err));
	run_all(c);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_FAILED]);
	assert_int_equal(c->code, -ESTALE);
	assert_non_null(strstr(c->why, "map"));
	check_source(c);
	end_clones(c);
}

static int make_and_destroy(void *ctx)
{
	struct clones *c = ctx;
	int rc = make_clone(c);

	if (rc)
		return rc;
	fault_disarm();
	gm_migrate_clone_destroy(c->clone);
	return 0;
}

static void each_call_fails_when_it_is_made(void **ctx)
{
	struct clones *c = prepare((struct clone_opts){.low = MIB(1), .nr = 2, .no_pager = true});
	unsigned long hits;

	(void)ctx;
	c->o.clone.room = KIB(64);
	hits = fault_sweep(make_and_destroy, c);
	assert_true(hits > 20);
	assert_int_equal(make_clone(c), 0);
	end_clones(c);
}

/* At the instant: nothing is protected, and the guest goes on. */
static void each_call_fails_at_the_instant(void **ctx)
{
	static const enum fault_fn fns[] = {
		FAULT_gm_sys_open, FAULT_gm_sys_alloc_array, FAULT_gm_sys_ioctl};

	(void)ctx;
	for (uint32_t i = 0; i < 3; i++) {
		struct clones *c =
			prepare((struct clone_opts){.low = MIB(1), .nr = 1, .idle_there = true});

		c->state_fails = true;
		assert_int_equal(make_clone(c), 0);
		run_all(c);
		UNTIL(c, figures(c).state == GM_MIGRATE_CLONE_SAVE);
		c->quit_step = true;
		pthread_join(c->step, NULL);
		c->step = 0;
		c->there[0].stall = true;
		fault_set(&(struct fault_plan){
			.fn = fns[i], .nth = 1, .error = ENOMEM, .forever = true});
		assert_int_equal(gm_migrate_clone_state(c->clone, STATE_TEXT, 4), 0);
		for (uint32_t turn = 0; turn < 50 && !c->told[GM_MIGRATE_TOLD_FAILED]; turn++)
			assert_int_equal(gm_migrate_clone_step(c->clone, 0), 0);
		assert_true(fault_hits() > 0);
		fault_set(NULL);
		assert_int_equal(c->told[GM_MIGRATE_TOLD_FAILED], 1);
		assert_int_equal(c->code, -ENOMEM);
		assert_int_equal(c->resumed, 1);
		c->there[0].stall = false;
		check_source(c);
		end_clones(c);
	}
}

/* A page that cannot be copied is lost for all; no other is. */
static void a_copy_that_fails_is_a_page_lost(void **ctx)
{
	struct clones *c = begin_stalled((struct clone_opts){
		.kind = KIND_MEMFD, .low = MIB(4), .nr = 2, .idle = true, .idle_there = true});
	uint64_t page = MIB(3) / PAGE;

	(void)ctx;
	for (uint32_t i = 0; i < 2; i++)
		c->there[i].stall = true;
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_pread, .nth = 1, .error = EIO, .forever = true});
	assert_true(touch_source(c, page, true));
	assert_true(fault_hits() > 0);
	fault_set(NULL);
	assert_int_equal(figures(c).lost, 1);
	c->stall = false;
	for (uint32_t i = 0; i < 2; i++)
		c->there[i].stall = false;
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	for (uint32_t i = 0; i < 2; i++) {
		UNTIL(c, c->there[i].is >= GM_MIGRATE_IS_ENDED);
		assert_int_equal(c->there[i].pages_lost, 1);
	}
	check_source(c);
	end_clones(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(three_have_the_instant),
		cmocka_unit_test(of_any_memory),
		cmocka_unit_test(by_other_connections),
		cmocka_unit_test(what_is_given_back_is_the_old_page),
		cmocka_unit_test(what_goes_unseen_is_lost),
		cmocka_unit_test(one_is_cut_and_resumed),
		cmocka_unit_test(one_is_given_up),
		cmocka_unit_test(some_never_run),
		cmocka_unit_test(nothing_comes_of_it),
		cmocka_unit_test(cancelled_while_they_are_filled),
		cmocka_unit_test(writers_wait_for_room),
		cmocka_unit_test(copies_of_what_has_come_are_let_go),
		cmocka_unit_test(without_room_the_slowest_is_given_up),
		cmocka_unit_test(a_discard_waits_for_room),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(each_call_fails_when_it_is_made),
		cmocka_unit_test(each_call_fails_at_the_instant),
		cmocka_unit_test(a_copy_that_fails_is_a_page_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
