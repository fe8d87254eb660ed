/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_range.c - arithmetic on inclusive ranges.
 *
 * Named geometric cases; every pair of ranges over sixteen addresses at each edge of the space
 * against bit masks; and random numbers against 128-bit arithmetic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/range.h"
#include "random.h"
#include "universe.h"

__extension__ typedef unsigned __int128 wide;

#define TOP UINT64_MAX

/* ---- named cases ---- */

static const struct {
	const char *name;
	uint64_t start;
	uint64_t len;
	bool ok;
	uint64_t last;
} makes[] = {
	{"one byte at 0", 0, 1, true, 0},
	{"no bytes at 0", 0, 0, false, 0},
	{"no bytes in the middle", 5, 0, false, 0},
	{"no bytes at the top", TOP, 0, false, 0},
	{"the last byte", TOP, 1, true, TOP},
	{"one byte too many at the top", TOP, 2, false, 0},
	{"the last page", TOP - 4095, 4096, true, TOP},
	{"one byte more than the last page", TOP - 4095, 4097, false, 0},
	{"one byte less than the last page", TOP - 4095, 4095, true, TOP - 1},
	{"all but the last byte", 0, TOP, true, TOP - 1},
	{"all but the first byte", 1, TOP, true, TOP},
	{"as long, from 2", 2, TOP, false, 0},
	{"the upper half", UINT64_C(1) << 63, UINT64_C(1) << 63, true, TOP},
	{"the upper half and one byte", UINT64_C(1) << 63, (UINT64_C(1) << 63) + 1, false, 0},
};

static void a_range_is_made_from_start_and_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(makes) / sizeof(makes[0]); i++) {
		struct gm_range r = {.first = 77, .last = 78};
		bool ok = gm_range_make(makes[i].start, makes[i].len, &r);

		if (ok != makes[i].ok)
			fail_msg("%s: %d", makes[i].name, ok);
		if (ok && (r.first != makes[i].start || r.last != makes[i].last))
			fail_msg("%s: %#lx-%#lx", makes[i].name, r.first, r.last);
		if (!ok && (r.first != 77 || r.last != 78))
			fail_msg("%s: the output was written", makes[i].name);
		if (ok && gm_range_len(&r) != makes[i].len)
			fail_msg("%s: length %#lx", makes[i].name, gm_range_len(&r));
	}
}

static void the_whole_space_is_a_range_of_length_0(void **state)
{
	const struct gm_range all = {.first = 0, .last = TOP};

	(void)state;
	assert_true(gm_range_is_valid(&all));
	assert_true(gm_range_len(&all) == 0);
	assert_true(gm_range_extent(&all) == TOP);
	assert_true(gm_range_has(&all, 0));
	assert_true(gm_range_has(&all, TOP));
	assert_false(gm_range_precedes(&all, &all));
}

/* How b lies to a, which is [0x4000, 0x7fff] unless the case is about an edge. */
static const struct {
	const char *name;
	struct gm_range a;
	struct gm_range b;
	bool overlaps;
	bool contains;  /* a holds b */
	bool contained; /* b holds a */
	bool precedes;  /* b begins right behind a */
	bool follows;   /* b ends right before a */
} pairs[] = {
	{"before", {0x4000, 0x7fff}, {0x1000, 0x1fff}, .overlaps = false},
	{"after", {0x4000, 0x7fff}, {0x9000, 0x9fff}, .overlaps = false},
	{"a gap of one byte before", {0x4000, 0x7fff}, {0x3000, 0x3ffe}, .overlaps = false},
	{"a gap of one byte after", {0x4000, 0x7fff}, {0x8001, 0x8fff}, .overlaps = false},
	{"touching before", {0x4000, 0x7fff}, {0x3000, 0x3fff}, .follows = true},
	{"touching after", {0x4000, 0x7fff}, {0x8000, 0x8fff}, .precedes = true},
	{"overlapping by one byte on the left", {0x4000, 0x7fff}, {0x3000, 0x4000},
		.overlaps = true},
	{"overlapping by one byte on the right", {0x4000, 0x7fff}, {0x7fff, 0x8fff},
		.overlaps = true},
	{"overlapping left", {0x4000, 0x7fff}, {0x3000, 0x4fff}, .overlaps = true},
	{"overlapping right", {0x4000, 0x7fff}, {0x7000, 0x8fff}, .overlaps = true},
	{"inside", {0x4000, 0x7fff}, {0x5000, 0x5fff}, .overlaps = true, .contains = true},
	{"inside at its begin", {0x4000, 0x7fff}, {0x4000, 0x4fff}, .overlaps = true,
		.contains = true},
	{"inside at its end", {0x4000, 0x7fff}, {0x7000, 0x7fff}, .overlaps = true,
		.contains = true},
	{"around", {0x4000, 0x7fff}, {0x3000, 0x8fff}, .overlaps = true, .contained = true},
	{"around from the same begin", {0x4000, 0x7fff}, {0x4000, 0x8fff}, .overlaps = true,
		.contained = true},
	{"around to the same end", {0x4000, 0x7fff}, {0x3000, 0x7fff}, .overlaps = true,
		.contained = true},
	{"equal", {0x4000, 0x7fff}, {0x4000, 0x7fff}, .overlaps = true, .contains = true,
		.contained = true},
	{"equal, one byte at 0", {0, 0}, {0, 0}, .overlaps = true, .contains = true,
		.contained = true},
	{"equal, one byte at the top", {TOP, TOP}, {TOP, TOP}, .overlaps = true, .contains = true,
		.contained = true},
	{"both ends of the space", {TOP, TOP}, {0, 0}, .overlaps = false},
	{"both ends of the space, other way", {0, 0}, {TOP, TOP}, .overlaps = false},
	{"the last byte behind the rest", {0, TOP - 1}, {TOP, TOP}, .precedes = true},
	{"the first byte before the rest", {1, TOP}, {0, 0}, .follows = true},
	{"the last page and the whole space", {TOP - 4095, TOP}, {0, TOP}, .overlaps = true,
		.contained = true},
	{"the whole space and the first byte", {0, TOP}, {0, 0}, .overlaps = true,
		.contains = true},
	{"the whole space twice", {0, TOP}, {0, TOP}, .overlaps = true, .contains = true,
		.contained = true},
	{"both halves", {0, TOP / 2}, {TOP / 2 + 1, TOP}, .precedes = true},
	{"overlapping at 0 and the top", {0, TOP - 1}, {1, TOP}, .overlaps = true},
};

static void two_ranges_lie_to_each_other_as_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		const struct gm_range *a = &pairs[i].a;
		const struct gm_range *b = &pairs[i].b;
		struct gm_range common;

		if (gm_range_overlaps(a, b) != pairs[i].overlaps ||
			gm_range_overlaps(b, a) != pairs[i].overlaps ||
			gm_range_intersect(a, b, &common) != pairs[i].overlaps)
			fail_msg("%s: overlaps", pairs[i].name);
		if (gm_range_contains(a, b) != pairs[i].contains ||
			gm_range_contains(b, a) != pairs[i].contained)
			fail_msg("%s: contains", pairs[i].name);
		if (gm_range_precedes(a, b) != pairs[i].precedes ||
			gm_range_precedes(b, a) != pairs[i].follows)
			fail_msg("%s: precedes", pairs[i].name);
	}
}

static const struct {
	const char *name;
	struct gm_range r;
	uint64_t align;
	bool ok; /* something is left when it is aligned inwards */
	struct gm_range in;
	struct gm_range out;
} aligns[] = {
	{"a page", {0x1000, 0x1fff}, 0x1000, true, {0x1000, 0x1fff}, {0x1000, 0x1fff}},
	{"less than a page", {0x1001, 0x1ffe}, 0x1000, false, {0, 0}, {0x1000, 0x1fff}},
	{"all but the first byte", {0x1001, 0x1fff}, 0x1000, false, {0, 0}, {0x1000, 0x1fff}},
	{"all but the last byte", {0x1000, 0x1ffe}, 0x1000, false, {0, 0}, {0x1000, 0x1fff}},
	{"two halves", {0x1800, 0x27ff}, 0x1000, false, {0, 0}, {0x1000, 0x2fff}},
	{"a page and two halves", {0x1800, 0x37ff}, 0x1000, true, {0x2000, 0x2fff},
		{0x1000, 0x3fff}},
	{"the last page", {TOP - 0xfff, TOP}, 0x1000, true, {TOP - 0xfff, TOP}, {TOP - 0xfff, TOP}},
	{"less than the last page", {TOP - 0xffe, TOP}, 0x1000, false, {0, 0}, {TOP - 0xfff, TOP}},
	{"the last page and a half", {TOP - 0x17ff, TOP}, 0x1000, true, {TOP - 0xfff, TOP},
		{TOP - 0x1fff, TOP}},
	{"up to the byte before the top", {TOP - 0x1fff, TOP - 1}, 0x1000, true,
		{TOP - 0x1fff, TOP - 0x1000}, {TOP - 0x1fff, TOP}},
	{"the first page", {0, 0xfff}, 0x1000, true, {0, 0xfff}, {0, 0xfff}},
	{"less than the first page", {0, 0xffe}, 0x1000, false, {0, 0}, {0, 0xfff}},
	{"the whole space", {0, TOP}, 0x1000, true, {0, TOP}, {0, TOP}},
	{"the whole space to half of it", {0, TOP}, UINT64_C(1) << 63, true, {0, TOP}, {0, TOP}},
	{"all but one byte to half of it", {1, TOP}, UINT64_C(1) << 63, true,
		{UINT64_C(1) << 63, TOP}, {0, TOP}},
	{"one byte to bytes", {7, 7}, 1, true, {7, 7}, {7, 7}},
};

static void a_range_is_aligned_inwards_and_outwards(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(aligns) / sizeof(aligns[0]); i++) {
		struct gm_range in = {.first = 77, .last = 78};
		struct gm_range out;
		bool ok = gm_range_align_in(&aligns[i].r, aligns[i].align, &in);

		if (ok != aligns[i].ok)
			fail_msg("%s: inwards %d", aligns[i].name, ok);
		if (ok && (in.first != aligns[i].in.first || in.last != aligns[i].in.last))
			fail_msg("%s: inwards %#lx-%#lx", aligns[i].name, in.first, in.last);
		if (!ok && (in.first != 77 || in.last != 78))
			fail_msg("%s: the output was written", aligns[i].name);
		gm_range_align_out(&aligns[i].r, aligns[i].align, &out);
		if (out.first != aligns[i].out.first || out.last != aligns[i].out.last)
			fail_msg("%s: outwards %#lx-%#lx", aligns[i].name, out.first, out.last);
	}
}

static void a_range_with_its_ends_swapped_is_not_valid(void **state)
{
	(void)state;
	assert_true(gm_range_is_valid(&(struct gm_range){5, 5}));
	assert_false(gm_range_is_valid(&(struct gm_range){6, 5}));
	assert_false(gm_range_is_valid(&(struct gm_range){TOP, 0}));
}

static void only_powers_of_two_are_powers_of_two(void **state)
{
	(void)state;
	assert_false(gm_is_pow2(0));
	for (unsigned int i = 0; i < 64; i++)
		assert_true(gm_is_pow2(UINT64_C(1) << i));
	for (uint64_t n = 1; n < 5000; n++)
		assert_int_equal(gm_is_pow2(n), __builtin_popcountll(n) == 1);
	assert_false(gm_is_pow2(TOP));
	assert_false(gm_is_pow2((UINT64_C(1) << 63) + 1));
}

/* ---- everything, in small ---- */

static void check_pair(uint64_t base, struct u_range x, struct u_range y)
{
	struct gm_range a = u_range(base, x);
	struct gm_range b = u_range(base, y);
	uint32_t common = u_mask(x) & u_mask(y);
	struct gm_range got = {.first = 77, .last = 78};

	assert_int_equal(gm_range_overlaps(&a, &b), common != 0);
	assert_int_equal(gm_range_contains(&a, &b), common == u_mask(y));
	assert_int_equal(gm_range_precedes(&a, &b), x.last + 1 == y.first);
	assert_int_equal(gm_range_intersect(&a, &b, &got), common != 0);
	if (common)
		assert_int_equal(u_mask_of(base, &got), common);
	else
		assert_true(got.first == 77 && got.last == 78);
}

static void all_pairs_of_ranges_over_sixteen_addresses(void **state)
{
	(void)state;
	for (size_t u = 0; u < NR_UNIVERSES; u++) {
		for (struct u_range x = u_first(); x.first < U_SIZE; u_next(&x)) {
			struct gm_range a = u_range(universes[u], x);

			assert_int_equal(gm_range_len(&a), x.last - x.first + 1);
			assert_int_equal(gm_range_extent(&a), x.last - x.first);
			for (unsigned int i = 0; i < U_SIZE; i++)
				assert_int_equal(
					gm_range_has(&a, universes[u] + i), u_mask(x) >> i & 1);
			for (struct u_range y = u_first(); y.first < U_SIZE; u_next(&y))
				check_pair(universes[u], x, y);
		}
	}
}

/* Mask of the whole blocks of @align addresses in @mask; with @touch of those that it touches. */
static uint32_t blocks_of(uint32_t mask, unsigned int align, bool touch)
{
	uint32_t sum = 0;

	for (unsigned int i = 0; i < U_SIZE; i += align) {
		uint32_t block = u_mask((struct u_range){i, i + align - 1});

		if (touch ? (mask & block) != 0 : (mask & block) == block)
			sum |= block;
	}
	return sum;
}

static void all_ranges_over_sixteen_addresses_aligned(void **state)
{
	(void)state;
	for (size_t u = 0; u < NR_UNIVERSES; u++) {
		for (struct u_range x = u_first(); x.first < U_SIZE; u_next(&x)) {
			for (unsigned int align = 1; align <= 8; align *= 2) {
				struct gm_range a = u_range(universes[u], x);
				uint32_t in = blocks_of(u_mask(x), align, false);
				struct gm_range got;

				assert_int_equal(gm_range_align_in(&a, align, &got), in != 0);
				if (in)
					assert_int_equal(u_mask_of(universes[u], &got), in);
				gm_range_align_out(&a, align, &got);
				assert_int_equal(u_mask_of(universes[u], &got),
					blocks_of(u_mask(x), align, true));
			}
		}
	}
}

/* ---- random numbers ---- */

static void check_numbers(uint64_t start, uint64_t len, uint64_t align)
{
	wide end = (wide)start + len;
	wide up = ((wide)start + align - 1) / align * align;
	struct gm_range r = {.first = 77, .last = 78};
	uint64_t got = 77;

	assert_int_equal(gm_range_make(start, len, &r), len > 0 && end <= (wide)1 << 64);
	if (len > 0 && end <= (wide)1 << 64)
		assert_true(r.first == start && r.last == (uint64_t)(end - 1));
	assert_int_equal(gm_align_up(start, align, &got), up <= UINT64_MAX);
	assert_true(got == (up <= UINT64_MAX ? (uint64_t)up : 77));
	assert_true(gm_align_down(start, align) == start / align * align);
	assert_int_equal(gm_is_aligned(start, align), start % align == 0);
}

static void check_align_in(uint64_t first, uint64_t last, uint64_t align)
{
	wide lo = ((wide)first + align - 1) / align * align;
	wide hi = ((wide)last + 1) / align * align;
	struct gm_range r = {.first = first, .last = last};
	struct gm_range got;

	assert_int_equal(gm_range_align_in(&r, align, &got), lo < hi);
	if (lo < hi)
		assert_true(got.first == (uint64_t)lo && got.last == (uint64_t)(hi - 1));
	gm_range_align_out(&r, align, &got);
	assert_true(got.first == first / align * align);
	assert_true(got.last == (uint64_t)(((wide)last / align + 1) * align - 1));
}

static void random_numbers_against_128_bit_arithmetic(void **state)
{
	struct rng rng = {test_seed(1)};

	(void)state;
	for (unsigned long i = 0; i < 300000 * test_scale(); i++) {
		uint64_t a = rng_edge(&rng);
		uint64_t b = rng_edge(&rng);
		uint64_t align = UINT64_C(1) << rng_below(&rng, 64);

		check_numbers(a, b, align);
		/* To the last byte that fits, and one further. */
		check_numbers(a, 0 - a, align);
		check_numbers(a, 1 - a, align);
		check_align_in(a < b ? a : b, a < b ? b : a, align);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_range_is_made_from_start_and_length),
		cmocka_unit_test(the_whole_space_is_a_range_of_length_0),
		cmocka_unit_test(two_ranges_lie_to_each_other_as_named),
		cmocka_unit_test(a_range_is_aligned_inwards_and_outwards),
		cmocka_unit_test(a_range_with_its_ends_swapped_is_not_valid),
		cmocka_unit_test(only_powers_of_two_are_powers_of_two),
		cmocka_unit_test(all_pairs_of_ranges_over_sixteen_addresses),
		cmocka_unit_test(all_ranges_over_sixteen_addresses_aligned),
		cmocka_unit_test(random_numbers_against_128_bit_arithmetic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
