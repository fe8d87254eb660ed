/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shares.c - an amount in parts: every small case against what a fair cut must be, and large numbers. */
#include <string.h>

#include "core/shares.h"
#include "random.h"
#include "support.h"

static uint64_t sum(const struct gm_share *items, size_t nr)
{
	uint64_t all = 0;

	for (size_t i = 0; i < nr; i++)
		all += items[i].part;
	return all;
}

/*
 * Fair: there is a level so that each part is level times its shares, but not below its minimum nor above its maximum.
 * So nobody above his minimum has more for each share than somebody below his maximum; rounding is a unit, in more
 * rounds than one two.
 */
static void assert_fair(const struct gm_share *items, size_t nr, uint64_t unit)
{
	for (size_t i = 0; i < nr; i++) {
		const struct gm_share *a = &items[i];

		assert_in_range(a->part, a->min, a->max);
		assert_int_equal(a->part % unit, 0);
		for (size_t j = 0; j < nr; j++) {
			const struct gm_share *b = &items[j];

			if (a->part == a->min || b->part == b->max)
				continue;
			assert_true(
				(a->part - (a->part < 2 * unit ? a->part : 2 * unit)) * b->shares <=
				(b->part + unit) * a->shares);
		}
	}
}

static void check(struct gm_share *items, size_t nr, uint64_t total, uint64_t unit)
{
	uint64_t least = 0;
	uint64_t most = 0;

	for (size_t i = 0; i < nr; i++) {
		least += items[i].min;
		most += items[i].max;
	}
	if (least > total) {
		assert_false(gm_shares_cut(items, nr, total, unit));
		assert_int_equal(sum(items, nr), least);
		return;
	}
	assert_true(gm_shares_cut(items, nr, total, unit));
	assert_true(sum(items, nr) <= total);
	/* What is left is rounding, or everybody has all he may. */
	assert_true((total < most ? total : most) - sum(items, nr) < nr * unit);
	assert_fair(items, nr, unit);
}

static void every_small_cut_is_fair(void **state)
{
	unsigned long cases = 0;

	(void)state;
	for (uint64_t code = 0; code < 3 * 3 * 3 * 125 * 8; code++) {
		struct gm_share items[3];
		uint64_t rest = code;

		for (int i = 0; i < 3; i++) {
			items[i] = (struct gm_share){.shares = 1 + rest % 3};
			rest /= 3;
		}
		for (int i = 0; i < 3; i++) {
			items[i].min = rest % 5;
			items[i].max = items[i].min + (rest + (uint64_t)i) % 7;
			rest /= 5;
		}
		for (uint64_t total = 0; total < 24; total++) {
			check(items, 3, total, 1);
			cases++;
		}
	}
	assert_int_equal(cases, 27000 * 24);
}

static void large_cuts_are_fair(void **state)
{
	struct rng rng = {test_seed(3)};

	(void)state;
	for (unsigned long n = 0; n < support_scale(3000); n++) {
		struct gm_share items[20];
		size_t nr = 1 + rng_below(&rng, 20);

		for (size_t i = 0; i < nr; i++) {
			items[i] = (struct gm_share){.shares = 1 + rng_below(&rng, 1000),
				.min = 4096 * rng_below(&rng, 1000)};
			items[i].max = items[i].min + 4096 * rng_below(&rng, 100000);
		}
		check(items, nr, 4096 * rng_below(&rng, 1000000), 4096);
	}
	/* Numbers whose product does not fit. */
	struct gm_share big[2] = {{.shares = UINT32_MAX, .max = UINT64_C(1) << 62},
		{.shares = 1, .max = UINT64_C(1) << 62}};

	assert_true(gm_shares_cut(big, 2, UINT64_C(1) << 61, 4096));
	assert_true(sum(big, 2) <= UINT64_C(1) << 61);
	assert_int_equal(big[1].part, (UINT64_C(1) << 29));
	assert_true(gm_shares_cut(big, 0, 5, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_small_cut_is_fair),
		cmocka_unit_test(large_cuts_are_fair),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
