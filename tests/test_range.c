/* SPDX-License-Identifier: BSD-3-Clause */
/* test_range.c - arithmetic on inclusive ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/range.h"

static void a_range_may_end_at_the_top(void **state)
{
	struct gm_range r;

	(void)state;
	assert_true(gm_range_make(UINT64_MAX, 1, &r));
	assert_int_equal(r.last, UINT64_MAX);
	assert_true(gm_range_make(UINT64_MAX - 4095, 4096, &r));
	assert_false(gm_range_make(UINT64_MAX - 4095, 4097, &r));
	assert_false(gm_range_make(5, 0, &r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_range_may_end_at_the_top),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
