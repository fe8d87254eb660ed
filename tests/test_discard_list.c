/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_discard_list.c - lists of pages: merged, rounded, batched; parts of huge pages; what a hostile guest may
 * write; against a model.
 */
#include "one_discard.h"

#include <guestmem/log.h>

#include "fault.h"
#include "random.h"
#include "sys/uapi.h"

#define OPTS(...) GM_OPTS(gm_discard_opts, __VA_ARGS__)
#define PFN(gpa) ((uint32_t)((gpa) / PAGE))

/* ---- merging ---- */

static void balloon_pages_are_merged(void **state)
{
	static uint32_t pfns[512];

	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];
		struct gm_discard_result *r = result();
		uint64_t before;

		if (!b->now)
			continue;
		start_backing(b);
		fill_bytes(AT, 1, LEN);
		before = taken();
		/* 2 MiB in a wild order, each page once. */
		for (uint32_t j = 0; j < 512; j++)
			pfns[j] = PFN(AT + MIB(2)) + j * 77 % 512;
		assert_ok(gm_discard_pfns(space, pfns, 512, NULL, r, &err));
		assert_int_equal(r->done, MIB(2));
		assert_int_equal(r->ranges, 1);
		assert_int_equal(r->refused + r->skipped, 0);
		assert_int_equal(r->ways, b->now);
		assert_int_equal(before - taken(), MIB(2));
		assert_bytes(AT, 1, MIB(2));
		assert_bytes(AT + MIB(2), b->from_file ? 'f' : 0, MIB(2));
		assert_bytes(AT + MIB(4), 1, MIB(4));
		stop_backing();
	}
}

static void ranges_may_overlap_and_repeat(void **state)
{
	struct gm_discard_range ranges[] = {
		{AT + 8 * PAGE, PAGE},
		{AT + 2 * PAGE, 2 * PAGE},
		{AT + 3 * PAGE, 3 * PAGE},
		{AT + 2 * PAGE, PAGE},
		{AT + 7, 0},
		{AT + 9 * PAGE, PAGE / 2},
		{AT + 9 * PAGE + PAGE / 2, PAGE / 2},
		{AT + 20 * PAGE, 5},
	};
	struct gm_discard_result *r = result();

	(void)state;
	start_backing(&backings[ANON]);
	fill_bytes(AT, 1, LEN);
	assert_ok(gm_discard_ranges(space, ranges, 8, NULL, r, &err));
	/* Two halves of a page make one. */
	assert_int_equal(r->done, 6 * PAGE);
	assert_int_equal(r->ranges, 2);
	assert_int_equal(r->skipped, 5);
	assert_bytes(AT, 1, 2 * PAGE);
	assert_bytes(AT + 2 * PAGE, 0, 4 * PAGE);
	assert_bytes(AT + 6 * PAGE, 1, 2 * PAGE);
	assert_bytes(AT + 8 * PAGE, 0, 2 * PAGE);
	assert_bytes(AT + 10 * PAGE, 1, LEN - 10 * PAGE);
	stop_backing();
}

static void bitmaps(void **state)
{
	uint64_t words[33] = {0};
	struct gm_discard_result *r = result();

	(void)state;
	start_backing(&backings[MEMFD]);
	fill_bytes(AT, 1, LEN);
	words[0] = UINT64_C(0xff00);
	words[1] = UINT64_C(1) << 63;
	words[2] = 1;
	assert_ok(gm_discard_bitmap(space, AT, PAGE, 2048, words, NULL, r, &err));
	assert_int_equal(r->done, 10 * PAGE);
	assert_int_equal(r->ranges, 2);
	assert_int_equal(taken(), LEN - 10 * PAGE);
	assert_bytes(AT + 8 * PAGE, 0, 8 * PAGE);
	assert_bytes(AT + 127 * PAGE, 0, 2 * PAGE);
	/* Bits behind the last one are nobody's. */
	words[1] = words[2] = 0;
	words[0] = UINT64_C(1) << 40;
	assert_ok(gm_discard_bitmap(space, AT, PAGE, 40, words, NULL, r, &err));
	assert_int_equal(r->done, 0);
	assert_ok(gm_discard_bitmap(space, AT, PAGE, 0, words, NULL, r, &err));
	assert_fails(gm_discard_bitmap(space, AT, 0, 40, words, NULL, r, &err), EINVAL, "0 bytes");
	assert_fails(gm_discard_bitmap(space, UINT64_MAX, PAGE, 1, words, NULL, r, &err), ERANGE,
		"2^64");
	assert_fails(
		gm_discard_bitmap(space, 0, UINT64_MAX, 3, words, NULL, r, &err), ERANGE, "2^64");
	stop_backing();
}

/* ---- what a guest may write ---- */

static void a_hostile_list_is_counted(void **state)
{
	struct gm_discard_range ranges[] = {
		{UINT64_MAX - 5, 100},       /* wraps */
		{AT + LEN - PAGE, 3 * PAGE}, /* runs out of the region */
		{0, 2 * PAGE},               /* nothing there */
		{AT, PAGE},
		{MIB(64), PAGE}, /* ROM */
		{0, UINT64_MAX},
	};
	uint32_t pfns[] = {UINT32_MAX, 0, PFN(AT + PAGE), PFN(AT + PAGE), PFN(MIB(64))};
	struct gm_discard_result *r = result();

	(void)state;
	start_backing(&backings[ANON]);
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(64), .kind = GM_REGION_ROM, .backing = BLOCK(.len = MIB(2))), NULL,
		&err));
	host(MIB(64))[0] = 9;
	fill_bytes(AT, 1, LEN);
	assert_ok(gm_discard_pfns(space, pfns, 5, NULL, r, &err));
	assert_int_equal(r->done, PAGE);
	assert_int_equal(r->refused, 3 * PAGE);
	assert_int_equal(r->gpa, 0);
	assert_int_equal(r->code, -EFAULT);
	assert_ok(gm_discard_ranges(space, ranges, 5, NULL, r, &err));
	assert_int_equal(r->done, 2 * PAGE);
	assert_int_equal(r->refused, 6 + 2 * PAGE + 2 * PAGE + PAGE);
	assert_int_equal(*host(MIB(64)), 9);
	/* All there is. */
	assert_ok(gm_discard_ranges(space, ranges + 5, 1, NULL, r, &err));
	assert_int_equal(r->done, LEN);
	assert_int_equal(r->refused, UINT64_MAX - LEN);
	assert_int_equal(*host(MIB(64)), 9);
	/* Forbidden by somebody: counted too. */
	assert_ok(gm_discard_inhibit(space, AT, PAGE, GM_INHIBIT_ALL, &err));
	fill_bytes(AT, 1, LEN);
	pfns[0] = PFN(AT);
	pfns[1] = PFN(AT + 2 * PAGE);
	assert_ok(gm_discard_pfns(space, pfns, 2, NULL, r, &err));
	assert_int_equal(r->done, PAGE);
	assert_int_equal(r->refused, PAGE);
	assert_int_equal(r->code, -EBUSY);
	assert_bytes(AT, 1, PAGE);
	assert_int_equal(gm_discard_allow(space, AT, PAGE, GM_INHIBIT_ALL), 0);
	stop_backing();
}

static void options_are_checked(void **state)
{
	struct gm_discard_range one = {AT, PAGE};
	struct gm_defer *defer;

	(void)state;
	start_backing(&backings[ANON]);
	assert_fails(gm_discard_ranges(space, &one, 1, OPTS(.mode = 9), NULL, &err), EINVAL, "");
	assert_fails(gm_discard_ranges(space, &one, 1, OPTS(.mode = GM_DISCARD_ZERO), NULL, &err),
		EINVAL, "GM_DISCARD_ZERO");
	assert_fails(gm_discard_ranges(space, &one, 1, OPTS(.huge = 9), NULL, &err), EINVAL, "");
	assert_fails(
		gm_discard_ranges(space, &one, 1, OPTS(.huge_size = 5), NULL, &err), EINVAL, "");
	assert_fails(gm_discard_ranges(space, &one, 1, OPTS(.huge = GM_HUGE_DEFER), NULL, &err),
		EINVAL, "opts.defer");
	assert_fails(gm_discard_ranges(space, &one, 1, &(struct gm_discard_opts){0}, NULL, &err),
		EINVAL, "size");
	assert_fails(gm_defer_create(MIB(3), 1, &defer, &err), EINVAL, "power of two");
	assert_fails(gm_defer_create(MIB(2), 0, &defer, &err), EINVAL, "");
	assert_fails(gm_defer_create(GIB(2), 1, &defer, &err), EINVAL, "");
	gm_defer_destroy(NULL);
	stop_backing();
}

/* ---- batches ---- */

/* Every second page from @first on. */
static void scatter(uint32_t *pfns, uint32_t nr, uint64_t first)
{
	for (uint32_t i = 0; i < nr; i++)
		pfns[i] = PFN(first) + 2 * i;
}

static void assert_scattered(uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		assert_bytes(AT + 2 * i * PAGE, 0, PAGE);
		assert_bytes(AT + (2 * i + 1) * PAGE, 1, PAGE);
	}
}

static void scattered_pages_go_in_batches(void **state)
{
	static uint32_t pfns[600];
	struct gm_discard_result *r = result();
	size_t singles;

	(void)state;
	start_backing(&backings[ANON]);
	for (int round = 0; round < 6; round++) {
		uint64_t before;

		fill_bytes(AT, 1, LEN);
		scatter(pfns, 600, AT);
		before = taken();
		fault_set(NULL);
		assert_ok(gm_discard_pfns(space, pfns, 600, NULL, r, &err));
		singles = fault_calls(FAULT_gm_sys_madvise);
		assert_int_equal(r->done, 600 * PAGE);
		assert_int_equal(r->ranges, 600);
		assert_int_equal(before - taken(), 600 * PAGE);
		/* Both ways are measured in the first four batches; then it is the cheaper one. */
		if (r->ways & BY(BATCH))
			assert_true(fault_calls(FAULT_gm_sys_madvise_many) > 0);
		else
			assert_int_equal(singles, 600);
		assert_int_equal(singles + 256 * fault_calls(FAULT_gm_sys_madvise_many) >= 600, 1);
		assert_scattered(600);
	}
	stop_backing();
}

static void without_batches_single_calls_are_made(void **state)
{
	static uint32_t pfns[100];
	struct gm_discard_result *r = result();

	(void)state;
	start_backing(&backings[ANON]);
	fill_bytes(AT, 1, LEN);
	scatter(pfns, 100, AT);
	/* The first flush is one that tries the batch. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_madvise_many, .nth = 1, .forever = true, .error = EINVAL});
	assert_ok(gm_discard_pfns(space, pfns, 100, NULL, r, &err));
	assert_int_equal(fault_hits(), 1);
	assert_int_equal(r->done, 100 * PAGE);
	assert_int_equal(r->ways, BY(DONTNEED));
	assert_scattered(100);
	/* Not tried again. */
	for (int i = 0; i < 10; i++)
		assert_ok(gm_discard_pfns(space, pfns, 100, NULL, r, &err));
	assert_int_equal(fault_calls(FAULT_gm_sys_madvise_many), 1);
	fault_disarm();
	/* What fails singly too is an error; what was done is counted. */
	fill_bytes(AT, 1, LEN);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_madvise, .nth = 11, .forever = true, .error = ENOMEM});
	assert_fails(gm_discard_pfns(space, pfns, 100, NULL, r, &err), ENOMEM, "cannot discard");
	assert_true(fault_hits() > 0);
	fault_disarm();
	assert_int_equal(r->done, 10 * PAGE);
	assert_int_equal(r->ranges, 10);
	assert_bytes(AT + 20 * PAGE, 1, PAGE);
	stop_backing();
}

static void batches_are_marked(void **state)
{
	static uint32_t pfns[100];
	uint64_t words[4];
	struct gm_log *log;
	uint64_t count;

	(void)state;
	start_backing(&backings[ANON]);
	fill_bytes(AT, 1, LEN);
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .first = AT, .len = LEN), &log, &err));
	for (int i = 0; i < 4; i++) {
		scatter(pfns, 100, AT);
		assert_ok(gm_discard_pfns(space, pfns, 100, NULL, NULL, &err));
		assert_int_equal(gm_log_take(log, 0, 256, words, &count), 0);
		assert_int_equal(count, 100);
		assert_true(words[0] == UINT64_C(0x5555555555555555));
	}
	assert_ok(gm_log_destroy(log, &err));
	stop_backing();
}

static void two_blocks_make_two_batches(void **state)
{
	static uint32_t pfns[64];
	struct gm_discard_result *r = result();

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	for (uint64_t i = 0; i < 8; i++)
		add(AT + i * 16 * PAGE, 16 * PAGE);
	fill_bytes(AT, 1, 128 * PAGE);
	scatter(pfns, 64, AT);
	assert_ok(gm_discard_pfns(space, pfns, 64, NULL, r, &err));
	assert_int_equal(r->done, 64 * PAGE);
	assert_scattered(64);
	stop();
}

/* ---- parts of huge pages ---- */

static void parts_of_huge_pages_are_refused_or_split(void **state)
{
	static const int huge[] = {THP, HUGETLB, HUGETLB_MEMFD};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		bool thp = huge[i] == THP;
		struct gm_discard_range ranges[2];
		struct gm_discard_result *r = result();

		start_backing(&backings[huge[i]]);
		fill_bytes(AT, 1, LEN);
		for (int split = 0; split < 2; split++) {
			/* 1 MiB before a huge page, it, and a page behind it; and a page alone. */
			ranges[0] = (struct gm_discard_range){AT + MIB(6) + PAGE, PAGE};
			ranges[1] = (struct gm_discard_range){AT + MIB(1), MIB(3) + PAGE};
			fill_bytes(AT, 1, LEN);
			assert_ok(gm_discard_ranges(space, ranges, 2,
				OPTS(.huge = split ? GM_HUGE_SPLIT : GM_HUGE_REFUSE), r, &err));
			assert_int_equal(r->done + r->skipped, MIB(3) + 2 * PAGE);
			assert_int_equal(r->done, split && thp ? MIB(3) + 2 * PAGE : MIB(2));
			assert_bytes(AT + MIB(1), split && thp ? 0 : 1, MIB(1));
			assert_bytes(AT + MIB(2), 0, MIB(2));
			assert_bytes(AT + MIB(4), split && thp ? 0 : 1, PAGE);
			assert_bytes(AT + MIB(6), 1, PAGE);
			assert_bytes(AT + MIB(6) + PAGE, split && thp ? 0 : 1, PAGE);
		}
		stop_backing();
	}
}

static void parts_wait_for_the_rest(void **state)
{
	static const int huge[] = {THP, HUGETLB, HUGETLB_MEMFD};
	static uint32_t pfns[512];
	struct gm_discard_range last = {AT + MIB(2) + 4 * PAGE, 3 * PAGE};
	struct gm_discard_result *r = result();

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct gm_defer *defer;
		uint64_t before;

		start_backing(&backings[huge[i]]);
		assert_ok(gm_defer_create(MIB(2), 2, &defer, &err));
		fill_bytes(AT, 1, LEN);
		before = taken();
		for (uint32_t j = 0; j < 509; j++)
			pfns[j] = PFN(AT + MIB(2)) + (j < 4 ? j : j + 3);
		for (uint32_t j = 0; j < 509; j += 50)
			assert_ok(gm_discard_pfns(space, pfns + j, j + 50 > 509 ? 509 - j : 50,
				OPTS(.huge = GM_HUGE_DEFER, .defer = defer), r, &err));
		assert_int_equal(r->done, 0);
		assert_int_equal(taken(), before);
		assert_bytes(AT, 1, LEN);
		/* The guest takes one back, and gives it again. */
		assert_int_equal(gm_defer_forget(defer, AT + MIB(2) + 9 * PAGE + 5, 1), PAGE);
		assert_int_equal(gm_defer_forget(defer, AT + MIB(2) + 9 * PAGE + 5, 1), 0);
		assert_ok(gm_discard_ranges(
			space, &last, 1, OPTS(.huge = GM_HUGE_DEFER, .defer = defer), r, &err));
		assert_int_equal(r->done, 0);
		assert_int_equal(r->deferred, 3 * PAGE);
		assert_bytes(AT, 1, LEN);
		pfns[0] = PFN(AT + MIB(2)) + 9;
		assert_ok(gm_discard_pfns(
			space, pfns, 1, OPTS(.huge = GM_HUGE_DEFER, .defer = defer), r, &err));
		assert_int_equal(r->done, MIB(2));
		assert_int_equal(before - taken(), MIB(2));
		assert_bytes(AT, 1, MIB(2));
		assert_bytes(AT + MIB(2), 0, MIB(2));
		assert_bytes(AT + MIB(4), 1, MIB(4));
		/* Nothing is left of it. */
		assert_int_equal(gm_defer_forget(defer, 0, 0), 0);
		gm_defer_destroy(defer);
		stop_backing();
	}
}

static void room_for_parts_is_bounded(void **state)
{
	struct gm_discard_result *r = result();
	struct gm_discard_range whole = {AT, MIB(2)};
	uint32_t pfns[3] = {PFN(AT), PFN(AT + MIB(2)), PFN(AT + MIB(4))};
	struct gm_defer *defer;

	(void)state;
	start_backing(&backings[THP]);
	fill_bytes(AT, 1, LEN);
	assert_ok(gm_defer_create(MIB(2), 2, &defer, &err));
	assert_ok(gm_discard_pfns(
		space, pfns, 3, OPTS(.huge = GM_HUGE_DEFER, .defer = defer), r, &err));
	assert_int_equal(r->deferred, 2 * PAGE);
	assert_int_equal(r->skipped, PAGE);
	/* What goes as a whole is not remembered any more. */
	assert_ok(gm_discard_ranges(
		space, &whole, 1, OPTS(.huge = GM_HUGE_DEFER, .defer = defer), r, &err));
	assert_int_equal(r->done, MIB(2));
	assert_int_equal(gm_defer_forget(defer, AT, MIB(2)), 0);
	assert_int_equal(gm_defer_forget(defer, 0, 0), PAGE);
	assert_int_equal(gm_defer_forget(defer, 0, 0), 0);
	gm_defer_destroy(defer);
	stop_backing();
}

/* Blocks of eight pages, in a table that is always nearly full. */
static void parts_against_a_model(void **state)
{
	struct rng rng = {test_seed(21)};
	static uint8_t given[2048];
	static uint8_t there[2048];
	const uint64_t unit = 8 * PAGE;
	struct gm_defer *defer;

	(void)state;
	start_backing(&backings[MEMFD]);
	assert_ok(gm_defer_create(unit, 256, &defer, &err));
	fill_bytes(AT, 1, LEN);
	memset(given, 0, sizeof(given));
	memset(there, 1, sizeof(there));
	for (unsigned long n = 0; n < support_scale(4000); n++) {
		uint64_t page = rng_below(&rng, 2040);
		uint64_t nr = 1 + rng_below(&rng, 6);
		struct gm_discard_range range = {AT + page * PAGE, nr * PAGE};
		struct gm_discard_result *r = result();
		uint64_t was = 0;
		uint64_t done = 0;

		if (rng_below(&rng, 3) == 0) {
			for (uint64_t i = page; i < page + nr; i++) {
				was += given[i];
				given[i] = 0;
				there[i] = 1;
			}
			assert_int_equal(gm_defer_forget(defer, range.gpa, range.len), was * PAGE);
			fill_bytes(range.gpa, 1, range.len);
			continue;
		}
		for (uint64_t i = page; i < page + nr; i++)
			given[i] = 1;
		assert_ok(gm_discard_ranges(space, &range, 1,
			OPTS(.huge = GM_HUGE_DEFER, .huge_size = unit, .defer = defer), r, &err));
		for (uint64_t u = page / 8; u <= (page + nr - 1) / 8; u++) {
			if (memchr(given + u * 8, 0, 8))
				continue;
			memset(given + u * 8, 0, 8);
			memset(there + u * 8, 0, 8);
			done += unit;
		}
		assert_int_equal(r->done, done);
		assert_int_equal(r->skipped, 0);
		for (uint64_t i = page / 8 * 8; i < page + nr; i++)
			assert_bytes(AT + i * PAGE, there[i], 16);
	}
	gm_defer_destroy(defer);
	stop_backing();
}

/* ---- random lists ---- */

static void random_lists_against_a_model(void **state)
{
	static const int kinds[] = {ANON, THP, MEMFD, ANON_SHARED};
	static uint8_t model[2048];
	static uint32_t pfns[400];
	static struct gm_discard_range ranges[64];
	static uint64_t words[33];
	struct rng rng = {test_seed(22)};

	(void)state;
	for (unsigned long n = 0; n < support_scale(40); n++) {
		start_backing(&backings[kinds[n % 4]]);
		fill_bytes(AT, 1, LEN);
		memset(model, 1, sizeof(model));
		for (int step = 0; step < 6; step++) {
			size_t nr = 1 + rng_below(&rng, 64);
			uint64_t how = rng_below(&rng, 3);
			struct gm_discard_result *r = result();

			memset(words, 0, sizeof(words));
			for (size_t i = 0; i < nr; i++) {
				uint64_t page = rng_below(&rng, 2000);
				uint64_t len = how == 1 ? 1 + rng_below(&rng, 40) : 1;

				pfns[i] = PFN(AT) + (uint32_t)page;
				words[page / 64] |= UINT64_C(1) << page % 64;
				ranges[i] = (struct gm_discard_range){AT + page * PAGE, len * PAGE};
				memset(model + page, 0, len);
			}
			if (how == 0)
				assert_ok(gm_discard_pfns(space, pfns, nr, NULL, r, &err));
			else if (how == 1)
				assert_ok(gm_discard_ranges(space, ranges, nr, NULL, r, &err));
			else
				assert_ok(gm_discard_bitmap(
					space, AT, PAGE, 2048, words, NULL, r, &err));
			assert_int_equal(r->refused + r->skipped, 0);
			for (uint64_t i = 0; i < 2048; i++)
				assert_int_equal(host(AT)[i * PAGE + 77], model[i]);
		}
		stop_backing();
	}
}

static int make_defer(void *ctx)
{
	struct gm_defer *defer = NULL;
	int rc = gm_defer_create(MIB(2), 8, &defer, &err);

	(void)ctx;
	fault_disarm();
	gm_defer_destroy(defer);
	return rc;
}

static void memory_may_be_short(void **state)
{
	(void)state;
	assert_true(fault_sweep(make_defer, NULL) >= 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balloon_pages_are_merged),
		cmocka_unit_test(ranges_may_overlap_and_repeat),
		cmocka_unit_test(bitmaps),
		cmocka_unit_test(a_hostile_list_is_counted),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(scattered_pages_go_in_batches),
		cmocka_unit_test(without_batches_single_calls_are_made),
		cmocka_unit_test(batches_are_marked),
		cmocka_unit_test(two_blocks_make_two_batches),
		cmocka_unit_test(parts_of_huge_pages_are_refused_or_split),
		cmocka_unit_test(parts_wait_for_the_rest),
		cmocka_unit_test(room_for_parts_is_bounded),
		cmocka_unit_test(parts_against_a_model),
		cmocka_unit_test(random_lists_against_a_model),
		cmocka_unit_test(memory_may_be_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
