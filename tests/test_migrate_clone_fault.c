/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_clone_fault.c - each call of the source of a clone fails once, from the first connection to the end: the
 * guest goes on, nothing stays protected, and the clone, in a process of its own, has pages of the instant or knows
 * that it has none.
 */
#include "clone_apart.h"

#include <stdio.h>

#include "fault.h"

/* Nobody else in this process calls the kernel meanwhile. */
static struct clones *begin_alone(struct apart *a)
{
	struct clone_opts o = {.low = a->low,
		.nr = 1,
		.idle = true,
		.no_pager = true,
		.apart = &a->place,
		.instant = a->instant,
		.clone.room = KIB(64),
		.clone.out.deadlines.resume = 20};
	struct clones *c = prepare(o);

	assert_int_equal(make_clone(c), 0);
	assert_int_equal(pthread_create(&c->guest, NULL, be_source, c), 0);
	return c;
}

/* Steps until it is over, whatever comes of it. */
static uint32_t step_to_the_end(struct clones *c)
{
	uint64_t until = seconds_now() + SECONDS;
	uint32_t failed = 0;

	while (!c->told[GM_MIGRATE_TOLD_ENDED] && !c->told[GM_MIGRATE_TOLD_FAILED]) {
		failed += gm_migrate_clone_step(c->clone, 5) != 0;
		if (seconds_now() > until) {
			show_clones(c);
			fail_msg("it does not end");
		}
	}
	return failed;
}

/* How many times something else came of it than a whole clone. */
static struct {
	uint32_t runs;
	uint32_t none;  /* there was no instant */
	uint32_t ended; /* given up, or dropped */
	uint32_t lost;  /* whole, but for pages that are lost */
} came;

static void count(struct clones *c, const struct apart *a)
{
	struct gm_migrate_clone_stats f = figures(c);

	came.runs++;
	came.none += f.state == GM_MIGRATE_CLONE_FAILED;
	came.ended += f.state == GM_MIGRATE_CLONE_ENDED && !f.whole;
	came.lost += f.whole && f.lost;
	assert_int_equal(f.pre_now, 0);
	assert_int_equal(c->wrong, 0);
	assert_int_equal(a->seen->wrong, 0);
	/* Paused once at most, and not for ever. */
	assert_true(c->paused <= 1 && c->resumed == c->paused);
}

/* False: there are no more calls. */
static bool fail_one(unsigned long nth)
{
	struct apart a = {.low = getenv("GM_SOAK") ? MIB(2) : KIB(256)};
	struct clones *c;
	uint32_t failed;
	bool hit;

	begin_apart(&a, AF_UNIX);
	a.seen->park = false;
	c = begin_alone(&a);
	fault_set(&(struct fault_plan){.fn = FAULT_ANY, .nth = nth, .error = EIO});
	assert_ok(gm_migrate_clone_start(c->clone, &err));
	failed = step_to_the_end(c);
	hit = fault_hits() > 0;
	fault_set(NULL);
	/* A step that cannot wait says so; it can be called again. */
	assert_true(failed <= hit);
	count(c, &a);
	kill_apart(&a);
	check_source(c);
	end_clones(c);
	end_apart(&a);
	return hit;
}

static void each_call_fails_once(void **ctx)
{
	unsigned long nth = 1;

	(void)ctx;
	while (fail_one(nth))
		nth++;
	if (getenv("GM_SOAK"))
		printf("figure: faults in sources of clones %u\n", came.runs - 1);
	print_message("%u runs, %lu calls: no instant %u, given up %u, with pages lost %u\n",
		came.runs, nth, came.none, came.ended, came.lost);
	assert_true(came.none > 0 && came.ended > 0);
	assert_true(came.none + came.ended + came.lost < came.runs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
