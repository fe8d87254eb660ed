/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_clone_any.c - clones by seed: memory, room, rates and connections of any kind, a guest that writes and
 * gives memory back, lines that are cut and resumed, destinations that stand still, or are given up. Whoever has all
 * pages has those of the instant; whoever was given up knows what it lacks; the source goes on.
 */
#include "one_clone_run.h"

#include <guestmem/guard.h>
#include <stdio.h>

static struct {
	uint32_t whole;
	uint32_t others;
	uint32_t cuts;
	uint64_t pre_images;
	uint64_t discarded;
	uint64_t waits;
} sums;

static struct clone_opts any_clones(struct rng *rng)
{
	static const uint64_t rates[] = {MIB(2), MIB(8), MIB(64), 0};
	struct clone_opts o = {.kind = (enum kind)rng_below(rng, KINDS),
		.nr = 1 + (uint32_t)rng_below(rng, 5),
		.discards = true,
		.may_lose = true,
		.tcp = (uint32_t)rng_below(rng, 4),
		.local = (uint32_t)rng_below(rng, 16)};
	bool huge = o.kind >= KIND_HUGE;

	/* Pools of huge pages are small. */
	o.nr = huge && o.nr > 3 ? 3 : o.nr;
	o.low = huge || o.kind == KIND_THP ? MIB(2) : MIB(1);
	o.high = o.low == MIB(2) ? MIB(2) : MIB(1) + rng_below(rng, 32) * PAGE;
	o.clone.room = (huge ? MIB(2) : KIB(64)) << rng_below(rng, 5);
	o.clone.flags = rng_below(rng, 2) ? GM_MIGRATE_CLONE_GIVE_UP : 0;
	o.clone.wait_ms = 1 + (uint32_t)rng_below(rng, 20);
	o.clone.out.rate = rates[rng_below(rng, 4)];
	o.clone.out.deadlines.resume = 100 + (uint32_t)rng_below(rng, 400);
	if (rng_below(rng, 3) == 0) {
		o.clone.out.bulk_plus = 1 + (uint32_t)rng_below(rng, 3);
		o.clone.out.urgent_plus = 1 + (uint32_t)rng_below(rng, 2);
	}
	return o;
}

static void do_something(struct clones *c, struct rng *rng)
{
	uint32_t i = (uint32_t)rng_below(rng, c->o.nr);
	struct there *t = &c->there[i];

	switch (rng_below(rng, 48)) {
	case 0:
	case 1:
	case 2:
	case 3:
		/* Sockets are not closed before the end, so that there is a bound. */
		if (t->nr_pairs < 48) {
			if (t->parked && t->stall)
				cut_off(t);
			else
				cut(t);
			sums.cuts++;
		}
		break;
	case 4:
		gm_migrate_clone_drop(c->clone, i, -EIDRM);
		break;
	case 5:
	case 6:
	case 7:
		t->stall = !t->stall;
		break;
	case 8:
		c->stall = !c->stall;
		break;
	default:
		t->stall = false;
		c->stall = false;
		gm_migrate_clone_resume(c->clone, i);
	}
}

/* One that lacks pages is told so, and gives up; one that never ran has ended. */
static void check_one(struct clones *c, uint32_t i)
{
	struct gm_migrate_stats s = {.size = sizeof(s)};
	struct there *t = &c->there[i];

	t->stall = false;
	assert_int_equal(gm_migrate_clone_stats_of(c->clone, i, &s), 0);
	assert_int_equal(s.lost, 0);
	if (s.state == GM_MIGRATE_IS_ENDED) {
		UNTIL(c, t->told[GM_MIGRATE_TOLD_ENDED]);
		assert_int_equal(t->pages_lost, 0);
		check_there(c, i);
		sums.whole++;
	} else {
		/* Given up at once it may have heard of nothing. */
		if (t->is != GM_MIGRATE_IS_IDLE)
			give_up_there(c, i);
		assert_true(t->is >= GM_MIGRATE_IS_ENDED || !t->runs);
		sums.others++;
	}
	assert_int_equal(t->wrong, 0);
}

static void clone_by(uint64_t seed)
{
	struct rng rng = {seed};
	struct clones *c = begin_clones(any_clones(&rng));
	struct gm_migrate_clone_stats f;
	uint32_t quiet = (uint32_t)rng_below(&rng, 3);

	while (!c->told[GM_MIGRATE_TOLD_ENDED] && !c->told[GM_MIGRATE_TOLD_FAILED]) {
		assert_false(broken(c));
		if (quiet)
			c->stall = false;
		else
			do_something(c, &rng);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	f = figures(c);
	assert_int_equal(f.lost, 0);
	assert_int_equal(f.pre_now, 0);
	sums.pre_images += f.pre_images;
	sums.discarded += f.discarded;
	sums.waits += f.waits;
	for (uint32_t i = 0; i < c->o.nr; i++)
		check_one(c, i);
	check_source(c);
	end_clones(c);
}

static unsigned long at; /* how many were right */

static int say_which(void **ctx)
{
	(void)ctx;
	if (at < support_scale(30))
		print_message("number %lu of seed %" PRIu64 "\n", at, test_seed(7));
	return 0;
}

static void whatever_happens_pages_are_of_the_instant(void **ctx)
{
	uint64_t seed = test_seed(7);

	(void)ctx;
	assert_int_equal(gm_guard_install(), 0);
	assert_true(support_pool(21, 24));
	for (at = 0; at < support_scale(30); at++)
		clone_by(seed + at * UINT64_C(0x9e3779b97f4a7c15));
	print_message("%u whole, %u given up, %u cuts; %" PRIu64 " copies, %" PRIu64
		      " given back, %" PRIu64 " waits\n",
		sums.whole, sums.others, sums.cuts, sums.pre_images, sums.discarded, sums.waits);
	assert_true(sums.whole > 0 && sums.pre_images > 0);
	if (!getenv("GM_SOAK"))
		return;
	printf("figure: clones by seed that have all pages %u\n", sums.whole);
	printf("figure: clones by seed that were given up %u\n", sums.others);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(whatever_happens_pages_are_of_the_instant, say_which),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
