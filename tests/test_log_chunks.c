/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log_chunks.c - logs of very many pages: runs, counts and resets are right across the borders of chunks, and
 * pass over those in which nothing was ever written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "one_log.h"
#include "random.h"

#define CHUNK (UINT64_C(1) << 18) /* pages */
#define NR (5 * CHUNK + 77)

/* What should be marked: a byte a page. */
static uint8_t *want;

static void set_want(uint64_t first, uint64_t last, uint8_t value)
{
	memset(want + first, value, last - first + 1);
}

static void assert_count(struct gm_log *log, uint64_t first, uint64_t last)
{
	uint64_t sum = 0;

	for (uint64_t i = first; i <= last; i++)
		sum += want[i];
	assert_int_equal(gm_log_count(log, first, last - first + 1), sum);
}

/* All runs from @at on, as they are and nothing between. */
static void assert_runs(struct gm_log *log, uint64_t at)
{
	uint64_t first;
	uint64_t last;

	for (; gm_log_next(log, at, &first, &last) == 0; at = last + 1) {
		assert_true(first >= at && last < NR);
		assert_true(first == at || !memchr(want + at, 1, first - at));
		assert_null(memchr(want + first, 0, last - first + 1));
		assert_true(last == NR - 1 || !want[last + 1]);
	}
	assert_true(at >= NR || !memchr(want + at, 1, NR - at));
}

/* Near a border of chunks, mostly. */
static uint64_t some_page(struct rng *rng)
{
	uint64_t page = rng_below(rng, 6) * CHUNK + rng_below(rng, 5) - 2;

	return page < NR ? page : rng_below(rng, NR);
}

static void merge(struct gm_log *log, struct rng *rng, uint64_t first)
{
	uint64_t words[4] = {rng_next(rng), 0, UINT64_MAX, rng_next(rng)};
	uint64_t nr = first > NR - 256 ? NR - first : 256;

	assert_int_equal(gm_log_merge(log, first, 1, nr, words), 0);
	for (uint64_t i = 0; i < nr; i++)
		want[first + i] |= (uint8_t)(words[i / 64] >> (i % 64) & 1);
}

static void step(struct gm_log *log, struct rng *rng)
{
	uint64_t first = some_page(rng);
	uint64_t last = rng_below(rng, 3) ? some_page(rng) : first;

	if (last < first) {
		uint64_t swap = first;

		first = last;
		last = swap;
	}
	/* Not everything at once, each time. */
	if (last - first > CHUNK + 4 && rng_below(rng, 4))
		last = first + rng_below(rng, 100) % (NR - first);
	switch (rng_below(rng, 4)) {
	case 0:
	case 1:
		gm_log_mark(log, first, last - first + 1);
		set_want(first, last, 1);
		break;
	case 2:
		gm_log_reset(log, first, last - first + 1);
		set_want(first, last, 0);
		break;
	default:
		merge(log, rng, first);
	}
	assert_count(log, some_page(rng) / 2, NR - 1);
	assert_runs(log, some_page(rng));
}

static void runs_and_counts_pass_the_borders_of_chunks(void **state)
{
	struct rng rng = {test_seed(41)};

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	want = calloc(1, NR);
	assert_non_null(want);
	for (unsigned int round = 0; round < support_scale(4); round++) {
		struct gm_log *log = make_log(LOG(.len = NR, .page_size = 1));

		memset(want, 0, NR);
		for (int i = 0; i < 25; i++)
			step(log, &rng);
		assert_runs(log, 0);
		assert_count(log, 0, NR - 1);
		assert_ok(gm_log_destroy(log, &err));
	}
	free(want);
	stop();
}

static uint64_t faults(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return (uint64_t)usage.ru_minflt;
}

/* 2^34 pages: to look at all their bits is half a million faults. */
static void what_was_never_written_is_not_looked_at(void **state)
{
	const uint64_t limit = UINT64_C(1) << 40;
	struct gm_log *log;
	uint64_t before;
	uint64_t first;
	uint64_t last;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = limit));
	add(0, LEN);
	add(limit - PAGE, PAGE);
	log = make_log(LOG(.page_size = 64));
	before = faults();
	assert_clean(log);
	assert_int_equal(gm_log_next(log, 0, &first, &last), -ENOENT);
	write_some(PAGE + 100, 100);
	write_some(limit - 1, 1);
	assert_int_equal(gm_log_count(log, 0, 0), 4);
	assert_int_equal(gm_log_next(log, 0, &first, &last), 0);
	assert_int_equal(first, PAGE + 64);
	assert_int_equal(last, PAGE + 255);
	assert_int_equal(gm_log_next(log, last + 1, &first, &last), 0);
	assert_int_equal(first, limit - 64);
	assert_int_equal(last, limit - 1);
	gm_log_rate(log);
	gm_log_reset(log, 0, limit);
	assert_clean(log);
	assert_true(faults() - before < 1000);
	assert_ok(gm_log_destroy(log, &err));
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_and_counts_pass_the_borders_of_chunks),
		cmocka_unit_test(what_was_never_written_is_not_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
