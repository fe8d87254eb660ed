/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_sim.c - whole migrations in a simulated world (migrate_world.h), by seed. GM_TEST_SEED=n runs others;
 * what failed says with which number the world is run again alone: GM_TEST_WORLD.
 *
 * The test is tested: each of the defects of core/migrate_plan.h has to be found.
 */
#include <stdio.h>
#include <stdlib.h>

#include "migrate_world.h"
#include "support.h"

#define WORLDS 20000u
#define WORLDS_PER_DEFECT 4000u

int gm_migrate_mutant;

static struct world world;

static uint64_t seed_of(uint64_t i)
{
	struct rng rng = {.state = test_seed(i)};

	return rng_next(&rng);
}

static void test_worlds_end_as_they_must(void **state)
{
	uint64_t ends[GM_SOURCE_STATES] = {0};
	const char *only = getenv("GM_TEST_WORLD");
	uint64_t nr = only ? 1 : support_scale(WORLDS);
	uint64_t resumed = 0;
	uint64_t steps = 0;

	(void)state;
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t seed = only ? strtoull(only, NULL, 0) : seed_of(i);
		const char *fault = world_run(&world, seed);

		if (fault)
			fail_msg("GM_TEST_WORLD=0x%llx: %s (step %u; source in state %u: %s; "
				 "destination in state %u: %s)",
				(unsigned long long)seed, fault, world.steps, world.source.state,
				world.source.why ? world.source.why : "-", world.destination.state,
				world.destination.why ? world.destination.why : "-");
		ends[world.source.state]++;
		resumed += world.newest > 1;
		steps += world.steps;
	}
	/* All ends are seen, or this is no simulation. */
	for (uint32_t end = GM_SOURCE_DOUBT; end < GM_SOURCE_STATES && !only; end++)
		assert_true(ends[end] > 0);
	assert_true(resumed > 0 || only);
	printf("figure: migrations_simulated %llu\n", (unsigned long long)nr);
	printf("figure: migration_steps %llu\n", (unsigned long long)steps);
	printf("figure: migrations_resumed %llu\n", (unsigned long long)resumed);
	printf("figure: migrations_ended_well %llu\n", (unsigned long long)ends[GM_SOURCE_ENDED]);
}

static void test_each_defect_is_found(void **state)
{
	(void)state;
	for (gm_migrate_mutant = 1; gm_migrate_mutant < GM_DEFECTS; gm_migrate_mutant++) {
		const char *fault = NULL;
		uint64_t i = 0;

		for (; !fault && i < WORLDS_PER_DEFECT; i++)
			fault = world_run(&world, seed_of(i));
		if (!fault)
			fail_msg("nobody finds defect %d", gm_migrate_mutant);
		if (getenv("GM_SOAK"))
			printf("defect %d, world %llu: %s\n", gm_migrate_mutant,
				(unsigned long long)i, fault);
	}
	gm_migrate_mutant = GM_DEFECT_NONE;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_worlds_end_as_they_must),
		cmocka_unit_test(test_each_defect_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
