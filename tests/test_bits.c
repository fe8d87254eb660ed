/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_bits.c - bitmaps of pages: geometry against division done by hand, words against arrays of bools,
 * and nothing lost between threads that set and one that takes.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "core/bits.h"
#include "random.h"
#include "support.h"

#define NR 200

static struct gm_pages pages_of(uint64_t first, uint64_t last, uint64_t size)
{
	struct gm_range range = {first, last};
	struct gm_pages pages;

	gm_pages_init(&pages, &range, size);
	return pages;
}

/* Every range of 40 addresses, every part of it, page sizes that are and are no powers of two. */
/* What pages a range meets (or has in it whole), by looking at each. */
static bool look(const struct gm_pages *pages, const struct gm_range *range, bool whole,
	struct gm_range *ret)
{
	bool any = false;

	for (uint64_t p = 0; p < gm_pages_count(pages); p++) {
		uint64_t from = pages->range.first + p * pages->size;
		uint64_t to = from + pages->size - 1;

		if (to > pages->range.last)
			to = pages->range.last;
		if (whole ? from < range->first || to > range->last
			  : from > range->last || to < range->first)
			continue;
		if (!any)
			ret->first = p;
		ret->last = p;
		any = true;
	}
	return any;
}

static void assert_as_seen(const struct gm_pages *pages, const struct gm_range *range)
{
	struct gm_range got = {0};
	struct gm_range want = {0};

	assert_int_equal(gm_pages_touched(pages, range, &got), look(pages, range, false, &want));
	assert_memory_equal(&got, &want, sizeof(got));
	assert_int_equal(gm_pages_inside(pages, range, &got), look(pages, range, true, &want));
	if (look(pages, range, true, &want))
		assert_memory_equal(&got, &want, sizeof(got));
}

static void test_pages_are_what_division_says(void **state)
{
	static const uint64_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 16, 40, 64};

	(void)state;
	for (size_t n = 0; n < 400; n++) {
		uint64_t size = sizes[n % 10];
		uint64_t len = n / 10 + 1;
		struct gm_pages pages = pages_of(100, 100 + len - 1, size);

		assert_int_equal(gm_pages_count(&pages), (len + size - 1) / size);
		for (uint64_t a = 90; a < 150; a++) {
			for (uint64_t b = a; b < 150; b++)
				assert_as_seen(&pages, &(struct gm_range){a, b});
		}
	}
}

static void test_pages_at_the_end_of_all_addresses(void **state)
{
	struct gm_pages pages = pages_of(0, UINT64_MAX, 4096);
	struct gm_range all = {0, UINT64_MAX};
	struct gm_range bits;
	struct gm_range range;

	(void)state;
	assert_int_equal(gm_pages_count(&pages), UINT64_C(1) << 52);
	assert_true(gm_pages_inside(&pages, &all, &bits));
	assert_int_equal(bits.last, (UINT64_C(1) << 52) - 1);
	range = gm_pages_range(&pages, &bits);
	assert_int_equal(range.first, 0);
	assert_int_equal(range.last, UINT64_MAX);
	/* No power of two: the last page is cut by 2^64. */
	pages = pages_of(5, UINT64_MAX, 5000);
	assert_true(gm_pages_touched(&pages, &(struct gm_range){UINT64_MAX, UINT64_MAX}, &bits));
	assert_int_equal(bits.last, gm_pages_count(&pages) - 1);
	assert_int_equal(gm_pages_range(&pages, &bits).last, UINT64_MAX);
}

/* ---- words against bools ---- */

static uint64_t words[NR / 64 + 2];
static bool oracle[NR];

static void assert_same(void)
{
	for (uint64_t i = 0; i < NR; i++)
		assert_int_equal(words[i / 64] >> (i % 64) & 1, oracle[i]);
}

static void test_every_range_is_set_cleared_and_found(void **state)
{
	(void)state;
	for (uint64_t a = 0; a < NR; a++) {
		for (uint64_t b = a; b < NR; b++) {
			struct gm_range bits = {a, b};
			struct gm_range run;

			memset(words, 0, sizeof(words));
			gm_bits_set(words, &bits);
			for (uint64_t i = 0; i < NR; i++)
				oracle[i] = i >= a && i <= b;
			assert_same();
			assert_int_equal(
				gm_bits_count(words, &(struct gm_range){0, NR - 1}), b - a + 1);
			assert_true(gm_bits_all(words, &bits));
			if (b + 1 < NR)
				assert_false(gm_bits_all(words, &(struct gm_range){a, b + 1}));
			assert_true(gm_bits_next(words, 0, NR - 1, &run));
			assert_int_equal(run.first, a);
			assert_int_equal(run.last, b);
			assert_false(gm_bits_next(words, b + 1, NR - 1, &run));
			memset(words, 0xff, sizeof(words));
			gm_bits_clear(words, &bits);
			for (uint64_t i = 0; i < NR; i++)
				oracle[i] = i < a || i > b;
			assert_same();
		}
	}
}

static void test_taking_says_what_was_there(void **state)
{
	struct rng rng = {test_seed(7)};
	uint64_t many[100];
	uint64_t was[100];
	uint64_t out[100];

	(void)state;
	for (unsigned long n = 0; n < support_scale(3000); n++) {
		size_t nr = rng_below(&rng, 101);
		uint64_t want = 0;

		for (size_t i = 0; i < 100; i++) {
			/* Runs of zeros and of ones, so that groups are alike. */
			uint64_t sort = rng_below(&rng, 40);

			many[i] = i && sort < 34 ? many[i - 1]
				  : sort < 37    ? 0
				  : sort < 39    ? UINT64_MAX
						 : rng_next(&rng);
			was[i] = many[i];
			want += i < nr ? (uint64_t)__builtin_popcountll(many[i]) : 0;
		}
		assert_int_equal(gm_bits_take(many, nr, out), want);
		assert_memory_equal(out, was, nr * 8);
		for (size_t i = 0; i < 100; i++)
			assert_int_equal(many[i], i < nr ? 0 : was[i]);
		/* What is put back is there again. */
		if (nr)
			gm_bits_merge(many, &(struct gm_range){0, nr * 64 - 1}, out);
		assert_memory_equal(many, was, sizeof(was));
	}
}

/* Bits at any place of theirs to any place of ours; those around stay. */
static void test_merging_shifts_and_copying_cuts(void **state)
{
	struct rng rng = {test_seed(8)};
	uint64_t from[NR / 64 + 1];
	uint64_t out[NR / 64 + 2];

	(void)state;
	for (unsigned long n = 0; n < support_scale(20000); n++) {
		uint64_t first = rng_below(&rng, NR);
		struct gm_range bits = {first, first + rng_below(&rng, NR - first)};
		uint64_t sum = 0;

		for (size_t i = 0; i < sizeof(from) / 8; i++)
			from[i] = rng_next(&rng) & (n % 2 ? rng_next(&rng) : UINT64_MAX);
		for (uint64_t i = 0; i < NR; i++)
			oracle[i] = rng_below(&rng, 2);
		memset(words, 0, sizeof(words));
		for (uint64_t i = 0; i < NR; i++)
			words[i / 64] |= (uint64_t)oracle[i] << (i % 64);
		gm_bits_merge(words, &bits, from);
		for (uint64_t i = bits.first; i <= bits.last; i++)
			oracle[i] |= from[(i - first) / 64] >> ((i - first) % 64) & 1;
		assert_same();
		/* No word behind is touched. */
		memset(out, 0xa5, sizeof(out));
		for (uint64_t i = bits.first; i <= bits.last; i++)
			sum += oracle[i];
		assert_int_equal(gm_bits_copy(words, &bits, out), sum);
		for (uint64_t i = first / 64 * 64; i < NR && i / 64 <= bits.last / 64; i++)
			assert_int_equal(out[i / 64 - first / 64] >> (i % 64) & 1,
				i >= bits.first && i <= bits.last && oracle[i]);
		assert_int_equal(
			out[bits.last / 64 - first / 64 + 1], UINT64_C(0xa5a5a5a5a5a5a5a5));
		assert_same();
	}
}

/* ---- cost ---- */

#define MANY_BITS (UINT64_C(1) << 20)

static uint64_t many_words[MANY_BITS / 64];

static uint64_t ns_to_set(uint64_t step)
{
	uint64_t best = UINT64_MAX;

	for (int n = 0; n < 5; n++) {
		struct timespec from;
		struct timespec to;
		uint64_t ns;

		memset(many_words, 0, sizeof(many_words));
		clock_gettime(CLOCK_MONOTONIC, &from);
		for (uint64_t at = 0; at < MANY_BITS; at += step)
			gm_bits_set(many_words, &(struct gm_range){at, at + step - 1});
		clock_gettime(CLOCK_MONOTONIC, &to);
		ns = (uint64_t)((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec);
		best = ns < best ? ns : best;
	}
	return best;
}

/* vm-memory D10: a locked operation a page. Were it so here, the two would take alike; words are 64 times fewer. */
static void test_a_range_is_set_by_words(void **state)
{
	uint64_t by_bits = ns_to_set(1);
	uint64_t whole = ns_to_set(MANY_BITS);

	(void)state;
	if (whole * 8 > by_bits)
		fail_msg("%llu ns for all at once, %llu bit by bit", (unsigned long long)whole,
			(unsigned long long)by_bits);
}

/* ---- threads ---- */

#define THREADS 3
#define SHARED_WORDS 40

static uint64_t shared[SHARED_WORDS];
static uint32_t rounds[SHARED_WORDS * 64]; /* of each bit: how often it was set */
static bool stop_threads;

/* A bit is set again only after it was seen taken: its number counts the rounds. */
static void *setter(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	struct rng rng = {test_seed(100 + me)};

	while (!__atomic_load_n(&stop_threads, __ATOMIC_RELAXED)) {
		uint64_t bit = rng_below(&rng, SHARED_WORDS * 64) / THREADS * THREADS + me;
		struct gm_range one = {bit, bit};

		if (bit >= SHARED_WORDS * 64 || gm_bits_all(shared, &one))
			continue;
		__atomic_fetch_add(&rounds[bit], 1, __ATOMIC_RELAXED);
		gm_bits_set(shared, &one);
	}
	return NULL;
}

static void test_no_bit_is_lost_between_threads(void **state)
{
	static uint32_t taken[SHARED_WORDS * 64];
	uint64_t out[SHARED_WORDS];
	pthread_t threads[THREADS];
	uint64_t sum = 0;

	(void)state;
	stop_threads = false;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, setter, (void *)i), 0);
	for (unsigned long n = 0; n < support_scale(20000) || sum < 1000; n++) {
		if (n == support_scale(20000) - 1)
			__atomic_store_n(&stop_threads, true, __ATOMIC_RELAXED);
		sum += gm_bits_take(shared, SHARED_WORDS, out);
		for (uint64_t i = 0; i < SHARED_WORDS * 64; i++)
			taken[i] += (uint32_t)(out[i / 64] >> (i % 64) & 1);
		if (n > support_scale(20000) * 100)
			break;
	}
	__atomic_store_n(&stop_threads, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	sum += gm_bits_take(shared, SHARED_WORDS, out);
	for (uint64_t i = 0; i < SHARED_WORDS * 64; i++) {
		taken[i] += (uint32_t)(out[i / 64] >> (i % 64) & 1);
		assert_int_equal(taken[i], rounds[i]);
	}
	assert_true(sum > 1000);
}

/*
 * Whole groups of ones, which are cleared without looking again, at words that are aligned to their size only.
 * Half a word is set at once, so that setters come right behind the clearing.
 */
#define GROUP_WORDS 200 /* three groups and a rest */
#define HALVES (GROUP_WORDS * 2)

static uint64_t groups[GROUP_WORDS + 2] __attribute__((aligned(64)));
static uint32_t half_rounds[HALVES];

static void *half_setter(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop_threads, __ATOMIC_RELAXED)) {
		for (uint64_t i = 0; i < HALVES; i++) {
			struct gm_range half = {i * 32, i * 32 + 31};

			if (gm_bits_all(groups + 1, &half))
				continue;
			half_rounds[i]++;
			gm_bits_set(groups + 1, &half);
		}
	}
	return NULL;
}

/* Takes all; a half is there whole or not at all. */
static bool take_halves(uint32_t *taken)
{
	uint64_t out[GROUP_WORDS];
	uint64_t sum = gm_bits_take(groups + 1, GROUP_WORDS, out);

	for (uint64_t i = 0; i < HALVES; i++) {
		uint32_t half = (uint32_t)(out[i / 2] >> (i % 2 * 32));

		assert_true(half == 0 || half == UINT32_MAX);
		taken[i] += half != 0;
	}
	return sum == GROUP_WORDS * 64;
}

static void test_no_bit_is_lost_where_groups_are_taken(void **state)
{
	static uint32_t taken[HALVES];
	struct gm_range all = {0, GROUP_WORDS * 64 - 1};
	pthread_t thread;
	unsigned long full = 0;

	(void)state;
	stop_threads = false;
	assert_int_equal(pthread_create(&thread, NULL, half_setter, NULL), 0);
	while (full < support_scale(1000)) {
		for (int looks = 0; !gm_bits_all(groups + 1, &all); looks++) {
			if (looks > 100)
				sched_yield();
		}
		full += take_halves(taken);
	}
	__atomic_store_n(&stop_threads, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	take_halves(taken);
	assert_memory_equal(taken, half_rounds, sizeof(taken));
	assert_true(groups[0] == 0 && groups[GROUP_WORDS + 1] == 0);
}

/*
 * A clearing goes over each half once: what is set behind it stays set, so the setter finds a half cleared no more
 * often than there were clearings. Those outside are never cleared.
 */
static void test_what_is_set_behind_a_clearing_stays(void **state)
{
	struct gm_range inside = {3 * 32, (HALVES - 4) * 32 - 1};
	struct gm_range all = {0, GROUP_WORDS * 64 - 1};
	pthread_t thread;
	uint32_t passes = (uint32_t)support_scale(20000);
	uint64_t sum = 0;

	(void)state;
	stop_threads = false;
	memset(half_rounds, 0, sizeof(half_rounds));
	gm_bits_set(groups + 1, &all);
	assert_int_equal(pthread_create(&thread, NULL, half_setter, NULL), 0);
	for (uint32_t n = 0; n < passes; n++)
		gm_bits_clear(groups + 1, &inside);
	while (!gm_bits_all(groups + 1, &all))
		sched_yield();
	__atomic_store_n(&stop_threads, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	for (uint64_t i = 0; i < HALVES; i++) {
		assert_true(half_rounds[i] <= (i >= 3 && i < HALVES - 4 ? passes : 0));
		sum += half_rounds[i];
	}
	assert_true(sum >= HALVES - 7);
	gm_bits_clear(groups + 1, &all);
	assert_int_equal(gm_bits_count(groups + 1, &all), 0);
	memset(half_rounds, 0, sizeof(half_rounds));
	assert_true(groups[0] == 0 && groups[GROUP_WORDS + 1] == 0);
}

/* Groups that have bits and others that have none, from any bit to any other. */
static void test_clearing_leaves_neighbours(void **state)
{
	struct rng rng = {test_seed(9)};
	uint64_t was[GROUP_WORDS + 1];

	(void)state;
	for (unsigned long n = 0; n < support_scale(3000); n++) {
		uint64_t first = rng_below(&rng, GROUP_WORDS * 64);
		struct gm_range bits = {first, first + rng_below(&rng, GROUP_WORDS * 64 - first)};

		for (size_t i = 0; i < GROUP_WORDS; i++)
			groups[1 + i] = rng_below(&rng, 64) ? i ? groups[i] : 0
							    : rng_next(&rng) * rng_below(&rng, 2);
		memcpy(was, groups + 1, GROUP_WORDS * 8);
		gm_bits_clear(groups + 1, &bits);
		for (uint64_t i = 0; i < GROUP_WORDS * 64; i++)
			assert_int_equal(groups[1 + i / 64] >> (i % 64) & 1,
				(i < bits.first || i > bits.last) && (was[i / 64] >> (i % 64) & 1));
	}
	memset(groups, 0, sizeof(groups));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_are_what_division_says),
		cmocka_unit_test(test_pages_at_the_end_of_all_addresses),
		cmocka_unit_test(test_every_range_is_set_cleared_and_found),
		cmocka_unit_test(test_taking_says_what_was_there),
		cmocka_unit_test(test_merging_shifts_and_copying_cuts),
		cmocka_unit_test(test_a_range_is_set_by_words),
		cmocka_unit_test(test_no_bit_is_lost_between_threads),
		cmocka_unit_test(test_no_bit_is_lost_where_groups_are_taken),
		cmocka_unit_test(test_what_is_set_behind_a_clearing_stays),
		cmocka_unit_test(test_clearing_leaves_neighbours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
