/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_clone_many.c - as many destinations as there may be, on sockets of several kinds. One in a process of
 * its own dies, or stands still; one reads nothing: the others have the instant, and go on.
 */
#include "clone_apart.h"

#define ALL GM_MIGRATE_CLONES_MAX
#define APART 3u

static struct clone_opts many(void)
{
	return (struct clone_opts){.low = MIB(1),
		.high = MIB(1),
		.nr = ALL,
		.tcp = 1u << 0 | 1u << 7,
		.local = 1u << 1 | 1u << 15,
		.clone.out.rate = MIB(8)};
}

static void sixteen_have_the_instant(void **ctx)
{
	struct gm_migrate_clone_stats f = clone_well(many());

	(void)ctx;
	assert_true(f.pre_images > 0);
	assert_int_equal(f.clones, 16);
}

static void by_more_connections_each(void **ctx)
{
	struct clone_opts o = many();

	(void)ctx;
	o.nr = 8;
	o.clone.out.bulk_plus = 3;
	o.clone.out.urgent_plus = 2;
	clone_well(o);
}

/* ---- one is a process ---- */

static struct clones *begin_with(struct clone_opts o, struct apart *a)
{
	o.apart = &a->place;
	o.apart_at = APART;
	o.instant = a->instant;
	return begin_clones(o);
}

static void others_are_well(struct clones *c)
{
	for (uint32_t i = 0; i < c->o.nr; i++) {
		if (i == APART)
			continue;
		UNTIL(c, c->there[i].told[GM_MIGRATE_TOLD_ENDED] && c->there[i].writes > 3);
		check_there(c, i);
	}
}

/* Before there is an instant: while it makes memory. */
static void one_dies_before_the_instant(void **ctx)
{
	struct apart a = {.low = MIB(1), .high = MIB(1), .hold = true};
	struct clones *c;

	(void)ctx;
	begin_apart(&a, AF_UNIX);
	c = begin_with(many(), &a);
	UNTIL(c, a.seen->is_asked);
	assert_int_equal(figures(c).state, GM_MIGRATE_CLONE_SETUP);
	assert_int_equal(c->paused, 0);
	kill_apart(&a);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_int_equal(figures(c).whole, ALL - 1);
	assert_int_equal(c->there[APART].source_is, GM_MIGRATE_IS_FAILED);
	assert_int_equal(a.seen->looked, 0);
	others_are_well(c);
	check_source(c);
	end_clones(c);
	end_apart(&a);
}

static void one_dies_while_it_is_filled(void **ctx)
{
	static const int families[] = {AF_UNIX, AF_INET};

	(void)ctx;
	for (uint32_t i = 0; i < 2; i++) {
		struct apart a = {.low = MIB(1), .high = MIB(1)};
		struct clone_opts o = many();
		struct clones *c;

		o.clone.out.deadlines.resume = 50;
		begin_apart(&a, families[i]);
		c = begin_with(o, &a);
		UNTIL(c, c->there[APART].source_is == GM_MIGRATE_IS_POSTCOPY);
		kill_apart(&a);
		UNTIL(c, c->there[APART].source_is == GM_MIGRATE_IS_GIVEN_UP);
		assert_int_equal(c->there[APART].told_source[GM_MIGRATE_TOLD_LOST], 1);
		UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
		assert_int_equal(figures(c).whole, ALL - 1);
		assert_int_equal(figures(c).given_up, 1);
		assert_int_equal(figures(c).pre_now, 0);
		others_are_well(c);
		check_source(c);
		end_clones(c);
		end_apart(&a);
	}
}

/* It stands still with its line open. All that it lacks is kept for it; nobody waits, since there is room. */
static void one_stands_still_and_others_do_not(void **ctx)
{
	static const int families[] = {AF_UNIX, AF_INET};

	(void)ctx;
	for (uint32_t i = 0; i < 2; i++) {
		struct apart a = {.low = MIB(1), .high = MIB(1)};
		struct clone_opts o = many();
		struct clones *c;

		o.clone.out.deadlines.line = UINT32_MAX;
		o.clone.out.deadlines.resume = 50;
		begin_apart(&a, families[i]);
		c = begin_with(o, &a);
		UNTIL(c, c->there[APART].source_is == GM_MIGRATE_IS_POSTCOPY);
		assert_int_equal(kill(a.pid, SIGSTOP), 0);
		UNTIL(c, figures(c).whole == ALL - 1);
		others_are_well(c);
		check_source(c);
		assert_int_equal(figures(c).state, GM_MIGRATE_CLONE_FILLING);
		assert_int_equal(figures(c).waits, 0);
		assert_true(figures(c).pre_now > 0);
		if (i == 0) {
			/* All there is comes in the end, as it was. */
			a.seen->park = false;
			assert_int_equal(kill(a.pid, SIGCONT), 0);
			UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
			assert_int_equal(figures(c).whole, ALL);
			UNTIL(c, a.seen->looked > 300);
			assert_int_equal(a.seen->lost, 0);
			kill_apart(&a);
		} else {
			kill_apart(&a);
			UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
			assert_int_equal(figures(c).given_up, 1);
		}
		assert_int_equal(figures(c).pre_now, 0);
		end_clones(c);
		end_apart(&a);
	}
}

/* ---- one reads nothing ---- */

/* Without room it holds up writers at the source, as the manual says, and no destination. */
static void a_slow_one_holds_up_writers_only(void **ctx)
{
	struct clone_opts o = many();
	struct clones *c;
	uint64_t writes;

	(void)ctx;
	o.clone.room = KIB(64);
	o.clone.out.deadlines.line = UINT32_MAX;
	c = begin_with_stalled(o, 1u << APART);
	UNTIL(c, figures(c).whole == ALL - 1);
	others_are_well(c);
	UNTIL(c, figures(c).pre_now == KIB(64) && figures(c).waits > 0);
	assert_int_equal(figures(c).running, 1);
	assert_false(c->there[APART].told_source[GM_MIGRATE_TOLD_LOST]);
	writes = c->writes;
	c->there[APART].stall_when_runs = false;
	c->there[APART].stall = false;
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	UNTIL(c, c->writes > writes + 50);
	UNTIL(c, c->there[APART].told[GM_MIGRATE_TOLD_ENDED]);
	check_there(c, APART);
	check_source(c);
	end_clones(c);
}

/* One that never says that it has memory holds up the instant; dropped, it does not. */
static void one_that_is_never_ready_is_dropped(void **ctx)
{
	struct apart a = {.low = MIB(1), .high = MIB(1), .hold = true};
	struct clones *c;

	(void)ctx;
	begin_apart(&a, AF_UNIX);
	c = begin_with(many(), &a);
	UNTIL(c, a.seen->is_asked);
	assert_int_equal(gm_migrate_clone_drop(c->clone, APART, -ETIME), 0);
	UNTIL(c, c->told[GM_MIGRATE_TOLD_ENDED]);
	assert_int_equal(figures(c).whole, ALL - 1);
	assert_int_equal(figures(c).given_up, 1);
	assert_int_equal(c->there[APART].source_rc, -ETIME);
	others_are_well(c);
	check_source(c);
	kill_apart(&a);
	end_clones(c);
	end_apart(&a);
}

/* While destinations make memory nobody needs the source's: they find their lines closed. */
static void before_the_instant_it_may_be_destroyed(void **ctx)
{
	struct apart a = {.low = MIB(1), .high = MIB(1), .hold = true};
	struct clones *c;

	(void)ctx;
	begin_apart(&a, AF_UNIX);
	c = begin_with(many(), &a);
	UNTIL(c, a.seen->is_asked);
	for (uint32_t i = 0; i < ALL; i++)
		UNTIL(c, i == APART || c->there[i].is != GM_MIGRATE_IS_IDLE);
	c->quit_step = true;
	pthread_join(c->step, NULL);
	c->step = 0;
	assert_int_equal(gm_migrate_clone_destroy(c->clone), 0);
	c->clone = NULL;
	for (uint32_t i = 0; i < ALL; i++) {
		/* The test has the sockets too. */
		cut(&c->there[i]);
		while (i != APART && c->there[i].is < GM_MIGRATE_IS_ENDED)
			sched_yield();
		assert_false(c->there[i].runs);
	}
	kill_apart(&a);
	check_source(c);
	end_clones(c);
	end_apart(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sixteen_have_the_instant),
		cmocka_unit_test(by_more_connections_each),
		cmocka_unit_test(one_dies_before_the_instant),
		cmocka_unit_test(one_dies_while_it_is_filled),
		cmocka_unit_test(one_stands_still_and_others_do_not),
		cmocka_unit_test(a_slow_one_holds_up_writers_only),
		cmocka_unit_test(one_that_is_never_ready_is_dropped),
		cmocka_unit_test(before_the_instant_it_may_be_destroyed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
