/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_waste.c - units, zeros and duplicates of memory whose contents are known, of this process and of another
 * one; looking allocates nothing.
 */
#include "fault.h"
#include "one_discard.h"
#include "random.h"

#include <signal.h>
#include <sys/wait.h>

#include <guestmem/policy.h>
#include <guestmem/waste.h>

#define UNIT MIB(2)
#define PAGES (LEN / PAGE)

static struct gm_waste sum;

static void scan(uint32_t flags, uint32_t parts)
{
	sum = (struct gm_waste){.size = sizeof(sum)};
	assert_ok(gm_waste_space(space, AT, LEN,
		GM_OPTS(gm_waste_opts, .flags = flags, .parts = parts), NULL, NULL, &sum, &err));
	assert_int_equal(sum.total, LEN);
	assert_int_equal(sum.disturbed, 0);
}

/* Page @i holds one number, or zeros. */
static void put(uint64_t i, uint64_t content)
{
	uint64_t *words = (void *)(host(AT) + i * PAGE);

	for (uint64_t k = 0; k < PAGE / 8; k++)
		words[k] = content ? content * 0x9e3779b97f4a7c15u + k : 0;
}

static int first_unit(void *arg, const struct gm_waste_unit *unit)
{
	*(struct gm_waste_unit *)arg = *unit;
	return 7;
}

static struct gm_waste_unit unit_at(uint64_t off)
{
	struct gm_waste_unit unit = {0};

	assert_int_equal(
		gm_waste_space(space, AT + off, UNIT, NULL, first_unit, &unit, NULL, &err), 7);
	assert_int_equal(unit.gpa, AT + off);
	return unit;
}

static void each_unit_has_its_reason(void **state)
{
	struct gm_policy_result r = {.size = sizeof(r)};

	(void)state;
	start_backing(&backings[ANON]);
	/* Empty; partly there; all there in small pages. */
	put(UNIT / PAGE, 1);
	for (uint64_t i = 2 * UNIT / PAGE; i < 3 * UNIT / PAGE; i++)
		put(i, i);
	scan(0, 0);
	assert_int_equal(sum.units[GM_WASTE_EMPTY], 2);
	/* The block was advised to have base pages. */
	assert_int_equal(sum.units[GM_WASTE_FORBIDDEN], 2);
	stop_backing();

	start_backing(&backings[MEMFD]);
	put(UNIT / PAGE, 1);
	for (uint64_t i = 2 * UNIT / PAGE; i < 4 * UNIT / PAGE; i++)
		put(i, i);
	assert_ok(gm_policy_collapse(space, AT + 3 * UNIT, UNIT, 0, &r, &err));
	scan(0, 0);
	assert_int_equal(sum.units[GM_WASTE_EMPTY], 1);
	assert_int_equal(sum.units[GM_WASTE_PARTLY], 1);
	assert_int_equal(sum.units[GM_WASTE_SMALL], 1);
	assert_int_equal(sum.units[GM_WASTE_HUGE], 1);
	assert_int_equal(sum.present, 2 * UNIT + PAGE);
	assert_int_equal(sum.huge, UNIT);
	assert_int_equal(sum.could, UNIT);
	assert_int_equal(sum.read, 0);
	assert_int_equal(sum.askew, 0);
	assert_int_equal(unit_at(UNIT).reason, GM_WASTE_PARTLY);
	assert_int_equal(unit_at(UNIT).present, PAGE);
	assert_int_equal(unit_at(2 * UNIT).reason, GM_WASTE_SMALL);
	assert_int_equal(unit_at(3 * UNIT).huge, UNIT);
	stop_backing();
}

static void a_mapping_that_lies_askew_cannot_be_huge(void **state)
{
	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT + PAGE,
			.backing = BLOCK(.len = LEN, .flags = GM_BLOCK_SHARE | GM_BLOCK_POPULATE)),
		NULL, &err));
	sum = (struct gm_waste){.size = sizeof(sum)};
	assert_ok(gm_waste_space(space, 0, GIB(1), NULL, NULL, NULL, &sum, &err));
	assert_int_equal(sum.units[GM_WASTE_EDGE], LEN / UNIT + 1);
	assert_int_equal(sum.present, LEN);
	stop();
}

static void zeros_are_found_and_nothing_comes_into_being(void **state)
{
	static const enum backing_index sorts[] = {MEMFD, ANON, HUGETLB, FILE_SHARED};

	(void)state;
	for (size_t i = 0; i < sizeof(sorts) / sizeof(sorts[0]); i++) {
		uint64_t zeros = 0;
		uint64_t there = 0;
		uint64_t before;

		start_backing(&backings[sorts[i]]);
		for (uint64_t p = 0; p < PAGES / 2; p += 3, there++) {
			put(p, p % 2 ? p : 0);
			zeros += p % 2 == 0;
			/* Only the last byte. */
			if (p % 12 == 6) {
				host(AT)[p * PAGE + PAGE - 1] = 1;
				zeros--;
			}
		}
		before = taken();
		scan(GM_WASTE_ZERO, 0);
		assert_int_equal(taken(), before);
		if (backings[sorts[i]].page == PAGE) {
			assert_int_equal(sum.zero, zeros * PAGE);
			assert_int_equal(sum.read, there * PAGE);
			assert_int_equal(sum.waste, 0);
		} else {
			assert_int_equal(sum.read, LEN / 2);
			assert_int_equal(sum.zero, LEN / 2 - (there - zeros) * PAGE);
			assert_int_equal(sum.waste, sum.zero);
		}
		assert_int_equal(sum.unread, 0);
		stop_backing();
	}
}

static void a_budget_is_kept(void **state)
{
	(void)state;
	start_backing(&backings[MEMFD]);
	memset(host(AT), 1, LEN);
	sum = (struct gm_waste){.size = sizeof(sum)};
	assert_ok(gm_waste_space(space, AT, LEN,
		GM_OPTS(gm_waste_opts, .flags = GM_WASTE_ZERO, .budget = MIB(3) + PAGE + 5), NULL,
		NULL, &sum, &err));
	assert_int_equal(sum.read, MIB(3) + PAGE);
	assert_int_equal(sum.unread, LEN - MIB(3) - PAGE);
	assert_int_equal(sum.present, LEN);
	stop_backing();
}

/* ---- duplicates ---- */

static void all_duplicates_are_counted(void **state)
{
	struct rng rng = {test_seed(8)};
	static bool seen[300];
	uint64_t want = 0;

	(void)state;
	start_backing(&backings[MEMFD]);
	memset(seen, 0, sizeof(seen));
	for (uint64_t p = 0; p < PAGES; p++) {
		uint64_t content = rng_below(&rng, 300);

		put(p, content);
		want += content && seen[content];
		seen[content] = true;
	}
	scan(GM_WASTE_DUPLICATES, 1);
	assert_int_equal(sum.duplicates, want * PAGE);
	assert_int_equal(sum.low, want * PAGE);
	assert_int_equal(sum.high, want * PAGE);
	assert_int_equal(sum.followed, PAGES - sum.zero / PAGE);
	stop_backing();
}

/* Whatever the contents, the truth is within the bounds in at least 93 of 100. */
static void followed_contents_estimate_the_rest(void **state)
{
	uint64_t trials = support_scale(30);
	uint64_t within = 0;

	(void)state;
	start_backing(&backings[MEMFD]);
	for (uint64_t t = 0; t < trials; t++) {
		uint64_t base = test_seed(t) * 100000;

		/* Each content twice: 1024 duplicates. */
		for (uint64_t p = 0; p < PAGES; p++)
			*(uint64_t *)(void *)(host(AT) + p * PAGE) = base + p / 2 + 1;
		scan(GM_WASTE_DUPLICATES, 8);
		assert_true(sum.followed < PAGES / 4);
		within += sum.low <= LEN / 2 && LEN / 2 <= sum.high;
	}
	if (within * 100 < trials * 90)
		fail_msg("%llu of %llu", (unsigned long long)within, (unsigned long long)trials);
	stop_backing();
}

/* One content in @pages pages, which is followed or not. */
static void check_one_content(uint64_t pages, uint64_t content)
{
	start_backing(&backings[MEMFD]);
	for (uint64_t p = 0; p < pages; p++)
		put(p, content);
	scan(GM_WASTE_DUPLICATES, 8);
	assert_int_equal(sum.read, pages * PAGE);
	assert_true(sum.duplicates <= sum.high);
	assert_true(sum.high <= pages * PAGE);
	assert_true(sum.low <= (pages - 1) * PAGE);
	if (sum.followed) {
		assert_int_equal(sum.duplicates, (pages - 1) * PAGE);
		assert_int_equal(sum.low, (pages - 1) * PAGE);
	}
	stop_backing();
}

static void no_more_is_there_twice_than_is_there(void **state)
{
	uint64_t seed = test_seed(9);

	(void)state;
	for (uint64_t content = seed; content < seed + 64; content++)
		check_one_content(2 + content % 30, content);
}

/* ---- another process ---- */

static void another_process_is_looked_at(void **state)
{
	struct gm_residency *res;
	pid_t pid;
	uint8_t *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ends[2];
	char byte;

	(void)state;
	assert_true(mem != MAP_FAILED);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		memset(mem, 0, LEN / 2);
		memset(mem, 5, 10 * PAGE);
		if (write(ends[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_ok(gm_residency_open(pid, &res, &err));
	sum = (struct gm_waste){.size = sizeof(sum)};
	assert_ok(gm_waste_scan(res, (uintptr_t)mem, LEN,
		GM_OPTS(gm_waste_opts, .flags = GM_WASTE_DUPLICATES), NULL, NULL, &sum, &err));
	assert_int_equal(sum.zero, LEN / 2 - 10 * PAGE);
	assert_int_equal(sum.duplicates, 9 * PAGE);
	assert_int_equal(sum.disturbed, 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(
		gm_waste_scan(res, (uintptr_t)mem, LEN, NULL, NULL, NULL, &sum, &err), -ESRCH);
	gm_residency_close(res);
	munmap(mem, LEN);
	close(ends[0]);
	close(ends[1]);
}

static void heat_stands_beside_what_is_there(void **state)
{
	struct gm_workingset_result got = {.size = sizeof(got)};
	struct gm_workingset *ws;
	struct gm_waste_unit unit = {0};

	(void)state;
	start_backing(&backings[MEMFD]);
	memset(host(AT), 1, LEN);
	assert_ok(gm_workingset_create(
		space, GM_OPTS(gm_workingset_opts, .parts = 1, .bin = UNIT), &ws, &err));
	assert_ok(gm_workingset_begin(ws, &err));
	memset(host(AT), 1, 3 * PAGE);
	assert_ok(gm_workingset_end(ws, &got, &err));
	assert_int_equal(gm_waste_space(space, AT, UNIT, GM_OPTS(gm_waste_opts, .workingset = ws),
				 first_unit, &unit, NULL, &err),
		7);
	assert_int_equal(unit.samples, UNIT / PAGE);
	assert_int_equal(unit.touched, 3);
	assert_ok(gm_workingset_destroy(ws, &err));
	stop_backing();
}

static void nonsense_is_refused(void **state)
{
	struct gm_residency *res;

	(void)state;
	start_backing(&backings[MEMFD]);
	assert_fails(gm_waste_space(space, AT, LEN, GM_OPTS(gm_waste_opts, .flags = 4), NULL, NULL,
			     NULL, &err),
		EINVAL, "flags");
	assert_fails(gm_waste_space(space, AT, LEN,
			     GM_OPTS(gm_waste_opts, .residency = GM_RESIDENCY_NO_SCAN), NULL, NULL,
			     NULL, &err),
		EINVAL, "flags");
	sum.size = 8;
	assert_fails(gm_waste_space(space, AT, LEN, NULL, NULL, NULL, &sum, &err), EINVAL, "size");
	assert_fails(
		gm_waste_space(space, UINT64_MAX, 2, NULL, NULL, NULL, NULL, &err), ERANGE, "wrap");
	assert_ok(gm_residency_open(0, &res, &err));
	assert_fails(
		gm_waste_scan(res, 5, PAGE, NULL, NULL, NULL, NULL, &err), EINVAL, "whole pages");
	assert_ok(gm_waste_scan(res, 0, 0, NULL, NULL, NULL, NULL, &err));
	gm_residency_close(res);
	stop_backing();
}

/* ---- failures ---- */

static int scenario(void *ctx)
{
	struct gm_waste s = {.size = sizeof(s)};
	int rc = gm_waste_space(space, AT, LEN,
		GM_OPTS(gm_waste_opts, .flags = GM_WASTE_DUPLICATES), NULL, NULL, &s, NULL);

	(void)ctx;
	if (!rc) {
		assert_int_equal(s.duplicates, 14 * PAGE);
		assert_int_equal(s.present, 16 * PAGE);
	}
	return rc;
}

static void every_failing_call_leaves_nothing(void **state)
{
	(void)state;
	start_backing(&backings[MEMFD]);
	for (uint64_t p = 0; p < 16; p++)
		put(p, 1 + p % 2);
	assert_int_equal(scenario(NULL), 0);
	assert_true(fault_sweep(scenario, NULL) > 10);
	fault_set(&(struct fault_plan){.eintr = 2});
	assert_int_equal(scenario(NULL), 0);
	fault_disarm();
	stop_backing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_unit_has_its_reason),
		cmocka_unit_test(a_mapping_that_lies_askew_cannot_be_huge),
		cmocka_unit_test(zeros_are_found_and_nothing_comes_into_being),
		cmocka_unit_test(a_budget_is_kept),
		cmocka_unit_test(all_duplicates_are_counted),
		cmocka_unit_test(followed_contents_estimate_the_rest),
		cmocka_unit_test(no_more_is_there_twice_than_is_there),
		cmocka_unit_test(another_process_is_looked_at),
		cmocka_unit_test(heat_stands_beside_what_is_there),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(every_failing_call_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
