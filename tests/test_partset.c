/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_partset.c - sets of states that share chunks, against plain arrays: whatever is done to one of
 * two, both are what their arrays are.
 */
#include <string.h>

#include "memory/partset.h"
#include "random.h"
#include "support.h"

#define MOST 40000u /* granules: three chunks */

static struct set_model {
	struct gm_partset *set;
	uint64_t nr;
	uint8_t states[MOST];
} sets[2];

static void check_set(const struct set_model *m)
{
	uint64_t counts[3] = {0};
	uint64_t at = 0;

	for (uint64_t i = 0; i < m->nr; i++)
		counts[m->states[i]]++;
	for (uint32_t s = 0; s < 3; s++)
		assert_int_equal(m->set->counts[s], counts[s]);
	while (at < m->nr) {
		uint64_t end = at + 1;
		uint64_t len;

		while (end < m->nr && m->states[end] == m->states[at])
			end++;
		assert_int_equal(
			gm_partset_run(m->set, at * 2, (m->nr - at) * 2, &len), m->states[at]);
		assert_int_equal(len, (end - at) * 2);
		at = end;
	}
}

static void change_set(struct set_model *m, struct rng *rng)
{
	uint64_t from = rng_below(rng, m->nr);
	uint64_t nr = 1 + rng_below(rng, rng_below(rng, 3) ? m->nr - from : 1);
	uint8_t to = (uint8_t)rng_below(rng, 3);

	/* Whole chunks, at their borders. */
	if (rng_below(rng, 4) == 0)
		from = 0;
	if (rng_below(rng, 4) == 0)
		nr = m->nr - from;
	if (nr > m->nr - from)
		nr = m->nr - from;
	assert_true(gm_partset_set(m->set, from * 2, nr * 2, to));
	memset(m->states + from, to, nr);
}

/* What one of two sets of the same chunks becomes the other does not. */
static void take_copy(struct set_model *from, struct set_model *to, struct rng *rng)
{
	uint64_t nr = rng_below(rng, 2) ? from->nr : 1 + rng_below(rng, MOST);

	gm_partset_put(to->set);
	to->set = gm_partset_resized(from->set, nr * 2);
	assert_non_null(to->set);
	memset(to->states, (int)from->set->initial, sizeof(to->states));
	memcpy(to->states, from->states, nr < from->nr ? nr : from->nr);
	to->nr = nr;
}

static void a_set_is_as_a_plain_array(void **state)
{
	struct rng rng = {test_seed(11)};

	(void)state;
	for (unsigned long run = 0; run < support_scale(4); run++) {
		uint32_t initial = (uint32_t)rng_below(&rng, 3);

		for (int i = 0; i < 2; i++) {
			sets[i].nr = MOST - rng_below(&rng, 9000);
			sets[i].set = gm_partset_make(sets[i].nr * 2, 2, initial, NULL, 0);
			assert_non_null(sets[i].set);
			memset(sets[i].states, (int)initial, sizeof(sets[i].states));
		}
		for (unsigned int step = 0; step < 200; step++) {
			struct set_model *m = &sets[rng_below(&rng, 2)];

			change_set(m, &rng);
			if (rng_below(&rng, 5) == 0)
				take_copy(m, m == sets ? &sets[1] : sets, &rng);
			check_set(&sets[0]);
			check_set(&sets[1]);
		}
		gm_partset_put(sets[0].set);
		gm_partset_put(sets[1].set);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_is_as_a_plain_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
