/* SPDX-License-Identifier: BSD-3-Clause */
/* test_counters.c - what is counted is what was done, of the block and of the space; failures too. */
#include "fault.h"
#include "one_discard.h"

#include <guestmem/counters.h>
#include <guestmem/policy.h>

static struct gm_counters of_space;
static struct gm_counters of_region;

static void look(void)
{
	struct gm_region_info info = {.size = sizeof(info)};

	of_space.size = of_region.size = sizeof(of_space);
	assert_int_equal(gm_space_next(space, AT, &info), 0);
	assert_int_equal(gm_space_counters(space, &of_space), 0);
	assert_int_equal(gm_region_counters(space, info.id, &of_region), 0);
}

static void assert_count(enum gm_counter what, uint64_t calls, uint64_t failed, uint64_t bytes)
{
	const struct gm_count *both[] = {&of_space.counts[what], &of_region.counts[what]};

	look();
	for (int i = 0; i < 2; i++) {
		uint64_t sum = 0;

		assert_int_equal(both[i]->calls, calls);
		assert_int_equal(both[i]->failed, failed);
		assert_int_equal(both[i]->bytes, bytes);
		for (size_t k = 0; k < GM_LATENCY_BUCKETS; k++)
			sum += both[i]->by_log2[k];
		assert_int_equal(sum, calls);
		assert_true(calls == 0 || both[i]->ns > 0);
	}
}

static void what_is_done_is_counted(void **state)
{
	struct gm_policy_result r = {.size = sizeof(r)};
	struct gm_trim_result t = {.size = sizeof(t)};
	uint32_t pfns[] = {AT / 4096, AT / 4096 + 2, AT / 4096 + 4};

	(void)state;
	start_backing(&backings[THP]);
	for (int i = 0; i < GM_COUNTERS; i++)
		assert_count((enum gm_counter)i, 0, 0, 0);
	assert_ok(gm_space_populate(space, AT, MIB(4), NULL, &err));
	assert_count(GM_COUNT_POPULATE, 1, 0, MIB(4));
	assert_ok(gm_discard(space, AT, MIB(4) + 100, GM_DISCARD_NOW, 0, NULL, &err));
	assert_count(GM_COUNT_DISCARD, 1, 0, MIB(4));
	assert_ok(
		gm_policy_set(space, AT, MIB(4), &(struct gm_page_choice){GM_PAGE_BASE, 0}, &err));
	memset(host(AT), 1, MIB(2));
	assert_ok(gm_policy_set(space, AT, MIB(4), &(struct gm_page_choice){GM_PAGE_THP, 0}, &err));
	assert_ok(gm_policy_collapse(space, AT, MIB(2), 0, &r, &err));
	assert_count(GM_COUNT_COLLAPSE, 1, 0, MIB(2));
	assert_ok(gm_discard(space, AT, MIB(2), GM_DISCARD_NOW, 0, NULL, &err));
	memset(host(AT), 0, MIB(2));
	assert_ok(gm_space_trim(space, AT, MIB(2), 0, &t, &err));
	assert_int_equal(t.freed, MIB(2));
	assert_count(GM_COUNT_TRIM, 1, 0, MIB(2));
	assert_ok(gm_discard_pfns(space, pfns, 3, NULL, NULL, &err));
	look();
	assert_int_equal(of_space.counts[GM_COUNT_DISCARD].bytes, MIB(6) + 3 * PAGE);
	assert_int_equal(of_region.counts[GM_COUNT_DISCARD].bytes, MIB(6) + 3 * PAGE);
	stop_backing();
}

static void failures_are_counted(void **state)
{
	(void)state;
	start_backing(&backings[ANON]);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_madvise, .nth = 1, .error = EIO});
	assert_int_equal(gm_discard(space, AT, MIB(1), GM_DISCARD_NOW, 0, NULL, &err), -EIO);
	assert_int_equal(fault_hits(), 1);
	fault_disarm();
	assert_count(GM_COUNT_DISCARD, 1, 1, 0);
	/* What was refused was not tried. */
	assert_int_equal(gm_discard(space, MIB(2), MIB(1), GM_DISCARD_NOW, 0, NULL, &err), -EFAULT);
	assert_count(GM_COUNT_DISCARD, 1, 1, 0);
	stop_backing();
}

static void faults_are_told_with_their_time(void **state)
{
	struct gm_counters block = {.size = sizeof(block)};

	(void)state;
	start_backing(&backings[ANON]);
	assert_int_equal(gm_space_count_fault(space, AT + 5, PAGE, 1500), 0);
	assert_int_equal(gm_space_count_fault(space, AT + MIB(1), PAGE, UINT64_MAX / 4), 0);
	assert_int_equal(gm_space_count_fault(space, MIB(512), PAGE, 1), -EFAULT);
	assert_count(GM_COUNT_FAULT, 2, 0, 2 * PAGE);
	assert_int_equal(of_space.counts[GM_COUNT_FAULT].by_log2[10], 1);
	assert_int_equal(of_space.counts[GM_COUNT_FAULT].by_log2[GM_LATENCY_BUCKETS - 1], 1);
	assert_int_equal(gm_block_counters(block_, &block), 0);
	assert_memory_equal(&block, &of_region, sizeof(block));
	block.size = 8;
	assert_int_equal(gm_block_counters(block_, &block), -EINVAL);
	assert_int_equal(gm_region_counters(space, 12345, &of_region), -ENOENT);
	stop_backing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_done_is_counted),
		cmocka_unit_test(failures_are_counted),
		cmocka_unit_test(faults_are_told_with_their_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
