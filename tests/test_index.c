/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_index.c - look-up of an address among spans: the table, the search behind it, and the inline
 * fast path.
 *
 * Every set of spans over sixteen addresses at each edge of the space with every width of bucket;
 * and random spans, few and many, crowded and spread, against a linear search.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/index.h"
#include "random.h"
#include "support.h"
#include "universe.h"

#define TOP UINT64_MAX
#define SPANS_MAX 12000u
#define INDEX_ROOM ((1u << 21) + 2)

/* One more for the one without permission behind them. */
static struct gm_span spans[SPANS_MAX + 1];
static uint32_t table[INDEX_ROOM];

/* ---- the oracle ---- */

static const struct gm_span *linear(uint32_t nr, uint64_t gpa)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (gpa <= spans[i].last)
			return &spans[i];
	}
	return NULL;
}

static bool fits(const struct gm_span *span, uint64_t gpa, uint64_t len, uint32_t perms)
{
	return span && gpa >= span->first && len - 1 <= span->last - gpa &&
	       (span->direct & perms) == perms;
}

static struct gm_view make_view(uint32_t nr, struct gm_index_shape shape)
{
	memset(&spans[nr], 0, sizeof(spans[nr]));
	/* What is not filled in, and what lies behind, leads out of the array. */
	memset(table, 0xff, (shape.nr + 2) * sizeof(table[0]));
	if (shape.nr)
		gm_index_fill(spans, nr, shape, table);
	return (struct gm_view){
		.window_base = 0x7000000000000000,
		.spans = spans,
		.index = table,
		.shift = shape.shift,
		.nr_index = shape.nr,
		.nr_spans = nr,
		.version = GM_VIEW_VERSION,
	};
}

/* The search and the fast path at one address, with some lengths. */
static void check_at(const struct gm_view *view, uint64_t gpa)
{
	const struct gm_span *want = linear(view->nr_spans, gpa);
	uint64_t rest = want && gpa >= want->first ? want->last - gpa : 4;
	const uint64_t lens[] = {1, 8, rest, rest + 1, rest + 2, TOP};

	if (gm_index_find(view, gpa) != want)
		fail_msg("find %#lx among %u spans, shift %u", gpa, view->nr_spans, view->shift);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		for (uint32_t perms = 0; perms < 8; perms++) {
			uint64_t got;

			if (lens[i] == 0)
				continue;
			got = (uint64_t)(uintptr_t)gm_view_fast(view, gpa, lens[i], perms);
			/* The fast path may pass a question on; it must not answer a wrong one. */
			if (got && !fits(want, gpa, lens[i], perms))
				fail_msg("fast path gives %#lx +%#lx", gpa, lens[i]);
			if (got && got != view->window_base + gpa)
				fail_msg("fast path gives %#lx for %#lx", got, gpa);
		}
	}
}

/* ---- everything, in small ---- */

/* A span for each run in @mask; @cuts begins a new one inside a run. */
static uint32_t spans_from_mask(uint64_t base, uint32_t mask, uint32_t cuts)
{
	uint32_t nr = 0;

	for (unsigned int i = 0; i < U_SIZE; i++) {
		if (!(mask >> i & 1))
			continue;
		if (i == 0 || !(mask >> (i - 1) & 1) || (cuts >> i & 1)) {
			spans[nr++] = (struct gm_span){
				.first = base + i,
				.perms = 1 + (i * 3) % 7,
				.direct = i % 5 ? 1 + (i * 3) % 7 : 0,
			};
		}
		spans[nr - 1].last = base + i;
	}
	return nr;
}

static void all_spans_over_sixteen_addresses_in_any_buckets(void **state)
{
	(void)state;
	/* At the bottom a bucket can be of 1 to 16 addresses; the table ends in the bucket of the
	 * last span. */
	for (uint32_t mask = 1; mask < 1u << U_SIZE; mask++) {
		uint32_t nr = spans_from_mask(0, mask, mask * 40503u >> 8);

		for (uint32_t shift = 0; shift <= 4; shift++) {
			struct gm_index_shape shape = {
				shift, (uint32_t)(spans[nr - 1].last >> shift) + 1};
			struct gm_view view = make_view(nr, shape);

			for (uint64_t gpa = 0; gpa < U_SIZE + 2; gpa++) {
				if (gm_index_find(&view, gpa) != linear(nr, gpa))
					fail_msg("find %lu in %#x, shift %u", gpa, mask, shift);
			}
		}
	}
}

static void all_spans_over_sixteen_addresses_as_planned(void **state)
{
	(void)state;
	for (size_t u = 0; u < NR_UNIVERSES; u++) {
		for (uint32_t mask = 0; mask < 1u << U_SIZE; mask += 1 + (uint32_t)u * 6) {
			uint32_t nr = spans_from_mask(universes[u], mask, mask * 40503u >> 8);
			struct gm_view view = make_view(nr, gm_index_plan(spans, nr));

			for (unsigned int i = 0; i < U_SIZE; i++) {
				uint64_t gpa = universes[u] + i;

				if (gm_index_find(&view, gpa) != linear(nr, gpa))
					fail_msg("find %#lx in %#x", gpa, mask);
			}
			if (mask % 64 < 4) {
				for (unsigned int i = 0; i < U_SIZE; i++)
					check_at(&view, universes[u] + i);
			}
			check_at(&view, 0);
			check_at(&view, TOP);
		}
	}
}

/* ---- shapes ---- */

static void check_shape(struct gm_span *array, uint32_t nr, uint64_t top)
{
	uint64_t want = nr;
	struct gm_index_shape shape;

	/* Only the last one is looked at. */
	array[nr - 1].last = top;
	shape = gm_index_plan(array, nr);
	want = want < 64 ? 64 : want > 1u << 20 ? 1u << 20 : want;
	assert_true(shape.shift < 64);
	assert_true(top >> shape.shift == shape.nr - 1);
	assert_true(shape.nr <= 2 * want);
	assert_true(shape.nr + 1 <= gm_index_room(nr));
	assert_true(gm_index_room(nr) <= 2 * want + 1);
	assert_true(gm_index_room(nr) >= gm_index_room(nr - 1));
	/* Not coarser than needed. */
	assert_true(shape.shift == 0 || (top >> (shape.shift - 1)) >= 2 * want);
}

static void a_table_has_room_for_its_limits(void **state)
{
	static const uint64_t tops[] = {
		0, 1, 126, 127, 128, 4095, 1u << 20, UINT64_C(1) << 46, TOP - 1, TOP};
	static const uint32_t nrs[] = {1, 2, 21, 22, 100, 10000, 349525, 349526, 1000000};
	struct gm_span *array = calloc(1000000, sizeof(*array));

	(void)state;
	assert_non_null(array);
	assert_int_equal(gm_index_plan(array, 0).nr, 0);
	assert_true(gm_index_room(0) >= 1);
	assert_true(gm_index_room(UINT32_MAX) == 2 * (1u << 20) + 1);
	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		for (size_t j = 0; j < sizeof(nrs) / sizeof(nrs[0]); j++)
			check_shape(array, nrs[j], tops[i]);
	}
	free(array);
}

static void without_spans_nothing_is_found(void **state)
{
	struct gm_view view = make_view(0, gm_index_plan(spans, 0));

	(void)state;
	assert_null(gm_index_find(&view, 0));
	assert_null(gm_index_find(&view, TOP));
	assert_null(gm_view_fast(&view, 0, 1, 0));
	assert_null(gm_view_fast(&view, TOP, 1, 0));
}

static void one_span_over_the_whole_space(void **state)
{
	struct gm_view view;

	(void)state;
	spans[0] = (struct gm_span){0, TOP, 0, GM_PERM_R, GM_PERM_R};
	view = make_view(1, gm_index_plan(spans, 1));
	assert_ptr_equal(gm_index_find(&view, 0), spans);
	assert_ptr_equal(gm_index_find(&view, TOP), spans);
	assert_non_null(gm_view_fast(&view, 0, TOP, GM_PERM_R));
	assert_non_null(gm_view_fast(&view, 1, TOP, GM_PERM_R));
	assert_null(gm_view_fast(&view, 2, TOP, GM_PERM_R));
	assert_null(gm_view_fast(&view, 0, TOP, GM_PERM_W));
}

/* The fast path must take what it is for: one span or its neighbour in the bucket. */
static void the_fast_path_answers_for_few_spans(void **state)
{
	struct gm_view view;

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		spans[i] = (struct gm_span){UINT64_C(0x40000000) * i,
			UINT64_C(0x40000000) * i + 0x3fffffff, 0, GM_PERM_RW, GM_PERM_RW};
	view = make_view(8, gm_index_plan(spans, 8));
	for (uint64_t gpa = 0; gpa < UINT64_C(0x200000000) - 8; gpa += 0xfffffb)
		assert_int_equal(gm_view_fast(&view, gpa, 1, GM_PERM_RW) != NULL, 1);
	assert_null(gm_view_fast(&view, UINT64_C(0x200000000), 1, GM_PERM_R));
	assert_non_null(gm_view_fast(&view, 0x3ffffff8, 8, GM_PERM_R));
	assert_null(gm_view_fast(&view, 0x3ffffff9, 8, GM_PERM_R));
}

/* ---- random ---- */

/* @nr spans in rising order: gaps and lengths up to 1 << @gap and 1 << @len, from @at. */
static uint32_t random_spans(
	struct rng *rng, uint32_t nr, uint64_t at, unsigned int gap, unsigned int len)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t skip = rng_next(rng) >> (64 - rng_below(rng, gap) - 1);
		uint64_t more = rng_next(rng) >> (64 - rng_below(rng, len) - 1);

		/* One in three touches its neighbour. */
		if (rng_below(rng, 3) == 0)
			skip = 0;
		if (skip > TOP - at || more > TOP - at - skip)
			return i;
		spans[i] = (struct gm_span){
			.first = at + skip,
			.last = at + skip + more,
			.perms = (uint32_t)rng_below(rng, 8),
		};
		if (rng_below(rng, 4))
			spans[i].direct = spans[i].perms;
		if (spans[i].last == TOP)
			return i + 1;
		at = spans[i].last + 1;
	}
	return nr;
}

static void check_random(uint64_t seed)
{
	struct rng rng = {seed};
	uint32_t most = (uint32_t)(UINT64_C(1) << rng_below(&rng, 13));
	uint64_t from = rng_below(&rng, 2) ? 0 : rng_edge(&rng);
	uint32_t nr = random_spans(&rng, most, from, 1 + (unsigned int)rng_below(&rng, 62),
		1 + (unsigned int)rng_below(&rng, 50));
	struct gm_index_shape shape = gm_index_plan(spans, nr);
	struct gm_view view;

	assert_true(shape.nr + 1 <= INDEX_ROOM);
	view = make_view(nr, shape);
	for (uint32_t i = 0; i < 100; i++) {
		const struct gm_span *span = &spans[rng_below(&rng, nr + 1)];
		uint64_t gpa = rng_edge(&rng);

		if (i % 2)
			gpa = span->first + rng_below(&rng, 3) - 1;
		else if (i % 4)
			gpa = span->last + rng_below(&rng, 3) - 1;
		check_at(&view, gpa);
	}
}

static void random_spans_against_a_linear_search(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(400); i++)
		check_random(test_seed(5000 + i));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_spans_over_sixteen_addresses_in_any_buckets),
		cmocka_unit_test(all_spans_over_sixteen_addresses_as_planned),
		cmocka_unit_test(a_table_has_room_for_its_limits),
		cmocka_unit_test(without_spans_nothing_is_found),
		cmocka_unit_test(one_span_over_the_whole_space),
		cmocka_unit_test(the_fast_path_answers_for_few_spans),
		cmocka_unit_test(random_spans_against_a_linear_search),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
