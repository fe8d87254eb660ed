/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sort.c - sorting in place, against the C library's. */
#include "core/sort.h"

#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "support.h"

static int by_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void numbers_are_sorted(void **state)
{
	struct rng rng = {test_seed(11)};
	uint32_t got[300];
	uint32_t want[300];

	(void)state;
	for (unsigned long n = 0; n < support_scale(3000); n++) {
		size_t nr = rng_below(&rng, 300);
		uint64_t limit = n % 3 ? 1 + rng_below(&rng, 100) : UINT32_MAX;

		for (size_t i = 0; i < nr; i++)
			got[i] = (uint32_t)rng_below(&rng, limit);
		/* In order already, and the other way round. */
		if (n % 7 == 1)
			qsort(got, nr, sizeof(*got), by_u32);
		for (size_t i = 0; n % 14 == 1 && i < nr / 2; i++) {
			uint32_t t = got[i];

			got[i] = got[nr - 1 - i];
			got[nr - 1 - i] = t;
		}
		memcpy(want, got, sizeof(want));
		qsort(want, nr, sizeof(*want), by_u32);
		gm_sort_u32(got, nr);
		assert_memory_equal(got, want, nr * sizeof(*got));
	}
}

static void pairs_keep_together(void **state)
{
	struct rng rng = {test_seed(12)};
	struct gm_sort_pair pairs[200];

	(void)state;
	for (unsigned long n = 0; n < support_scale(1000); n++) {
		size_t nr = rng_below(&rng, 200);
		uint64_t sum = 0;

		for (size_t i = 0; i < nr; i++) {
			pairs[i].key = rng_below(&rng, n % 2 ? 50 : UINT64_MAX);
			pairs[i].value = ~pairs[i].key;
			sum += pairs[i].key;
		}
		gm_sort_pairs(pairs, nr);
		for (size_t i = 0; i < nr; i++) {
			assert_true(i == 0 || pairs[i - 1].key <= pairs[i].key);
			assert_true(pairs[i].value == ~pairs[i].key);
			sum -= pairs[i].key;
		}
		assert_int_equal(sum, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_sorted),
		cmocka_unit_test(pairs_keep_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
