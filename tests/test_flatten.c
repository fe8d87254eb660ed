/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_flatten.c - overlapping ranges with priorities to disjoint ones.
 *
 * The oracle asks each address who shows there. Named cases; every list of up to three ranges over
 * six addresses with three priorities, at each edge of the space; and random lists of many ranges.
 */
#include <stdio.h>
#include <string.h>

#include "core/flatten.h"
#include "random.h"
#include "support.h"

#define TOP UINT64_MAX
#define NOBODY UINT32_MAX
#define WIDTH 1024u
#define MANY 200u

/* ---- the oracle ---- */

/* Who shows at @addr: the item of the highest priority. */
static uint32_t shows(const struct gm_flat_in *in, size_t nr, uint64_t addr)
{
	uint32_t item = NOBODY;
	int32_t best = 0;

	for (size_t i = 0; i < nr; i++) {
		if (!gm_range_has(&in[i].range, addr) || (item != NOBODY && in[i].priority <= best))
			continue;
		best = in[i].priority;
		item = in[i].item;
	}
	return item;
}

static bool clash_at(const struct gm_flat_in *in, size_t nr, uint64_t addr)
{
	for (size_t i = 0; i < nr; i++) {
		for (size_t j = 0; j < i; j++) {
			if (in[i].priority == in[j].priority && gm_range_has(&in[i].range, addr) &&
				gm_range_has(&in[j].range, addr))
				return true;
		}
	}
	return false;
}

/* Compares the outputs for @in with the oracle at @width addresses from @base; NULL or what
 * differs. */
static const char *differs(const struct gm_flat_in *in, size_t nr, uint64_t base, uint64_t width)
{
	static struct gm_flat_in copy[MANY];
	static struct gm_flat_out out[2 * MANY];
	static uint32_t heap[MANY];
	size_t nr_out;
	size_t at = 0;

	memcpy(copy, in, nr * sizeof(in[0]));
	nr_out = gm_flatten(copy, nr, heap, out);
	if (nr > 0 && nr_out > 2 * nr - 1)
		return "more than 2n - 1 outputs";
	for (size_t i = 0; i < nr_out; i++) {
		if (!gm_range_is_valid(&out[i].range) ||
			(i > 0 && out[i].range.first <= out[i - 1].range.last))
			return "not sorted or not disjoint";
		if (i > 0 && out[i].item == out[i - 1].item &&
			gm_range_precedes(&out[i - 1].range, &out[i].range))
			return "two pieces of an item that touch";
	}
	for (uint64_t i = 0; i < width; i++) {
		uint32_t got = NOBODY;

		while (at < nr_out && out[at].range.last < base + i)
			at++;
		if (at < nr_out && gm_range_has(&out[at].range, base + i))
			got = out[at].item;
		if (got != shows(in, nr, base + i))
			return "another item shows";
	}
	return NULL;
}

static const char *clash_differs(
	const struct gm_flat_in *in, size_t nr, uint64_t base, uint64_t width)
{
	static struct gm_flat_in copy[MANY];
	uint64_t addr = 77;
	uint64_t want = 77;
	bool clash = false;

	for (uint64_t i = 0; i < width && !clash; i++) {
		clash = clash_at(in, nr, base + i);
		if (clash)
			want = base + i;
	}
	memcpy(copy, in, nr * sizeof(in[0]));
	if (gm_flatten_clash(copy, nr, &addr) != clash)
		return "clash or none";
	return addr == want ? NULL : "another address";
}

/* ---- named cases ---- */

static const struct {
	const char *name;
	size_t nr;
	struct gm_flat_in in[4];
	size_t nr_out;
	struct gm_flat_out out[7];
} cases[] = {
	{"nothing", 0, {{{0, 0}, 0, 0}}, 0, {{{0, 0}, 0}}},
	{"one", 1, {{{0x10, 0x1f}, 0, 7}}, 1, {{{0x10, 0x1f}, 7}}},
	{"one, the whole space", 1, {{{0, TOP}, 0, 7}}, 1, {{{0, TOP}, 7}}},
	{"one, the last byte", 1, {{{TOP, TOP}, 0, 7}}, 1, {{{TOP, TOP}, 7}}},
	{"one, the first byte", 1, {{{0, 0}, 0, 7}}, 1, {{{0, 0}, 7}}},
	{"before", 2, {{{0x40, 0x7f}, 0, 1}, {{0x10, 0x1f}, 1, 2}}, 2,
		{{{0x10, 0x1f}, 2}, {{0x40, 0x7f}, 1}}},
	{"touching", 2, {{{0x40, 0x7f}, 0, 1}, {{0x30, 0x3f}, 1, 2}}, 2,
		{{{0x30, 0x3f}, 2}, {{0x40, 0x7f}, 1}}},
	{"overlapping left from above", 2, {{{0x40, 0x7f}, 0, 1}, {{0x30, 0x4f}, 1, 2}}, 2,
		{{{0x30, 0x4f}, 2}, {{0x50, 0x7f}, 1}}},
	{"overlapping left from below", 2, {{{0x40, 0x7f}, 0, 1}, {{0x30, 0x4f}, -1, 2}}, 2,
		{{{0x30, 0x3f}, 2}, {{0x40, 0x7f}, 1}}},
	{"overlapping right from above", 2, {{{0x40, 0x7f}, 0, 1}, {{0x70, 0x8f}, 1, 2}}, 2,
		{{{0x40, 0x6f}, 1}, {{0x70, 0x8f}, 2}}},
	{"overlapping right from below", 2, {{{0x40, 0x7f}, 0, 1}, {{0x70, 0x8f}, -1, 2}}, 2,
		{{{0x40, 0x7f}, 1}, {{0x80, 0x8f}, 2}}},
	{"inside from above", 2, {{{0x40, 0x7f}, 0, 1}, {{0x50, 0x5f}, 1, 2}}, 3,
		{{{0x40, 0x4f}, 1}, {{0x50, 0x5f}, 2}, {{0x60, 0x7f}, 1}}},
	{"inside from below", 2, {{{0x40, 0x7f}, 0, 1}, {{0x50, 0x5f}, -1, 2}}, 1,
		{{{0x40, 0x7f}, 1}}},
	{"around from above", 2, {{{0x40, 0x7f}, 0, 1}, {{0x30, 0x8f}, 1, 2}}, 1,
		{{{0x30, 0x8f}, 2}}},
	{"around from below", 2, {{{0x40, 0x7f}, 0, 1}, {{0x30, 0x8f}, -1, 2}}, 3,
		{{{0x30, 0x3f}, 2}, {{0x40, 0x7f}, 1}, {{0x80, 0x8f}, 2}}},
	{"equal", 2, {{{0x40, 0x7f}, 0, 1}, {{0x40, 0x7f}, 1, 2}}, 1, {{{0x40, 0x7f}, 2}}},
	{"a hole in the whole space", 2, {{{0, TOP}, 0, 1}, {{0x50, 0x5f}, 1, 2}}, 3,
		{{{0, 0x4f}, 1}, {{0x50, 0x5f}, 2}, {{0x60, TOP}, 1}}},
	{"both ends of the whole space", 3, {{{0, TOP}, 0, 1}, {{0, 0}, 1, 2}, {{TOP, TOP}, 1, 3}},
		3, {{{0, 0}, 2}, {{1, TOP - 1}, 1}, {{TOP, TOP}, 3}}},
	{"a tower", 4,
		{{{0, 0x7f}, 0, 1}, {{0x10, 0x6f}, 1, 2}, {{0x20, 0x5f}, 2, 3},
			{{0x30, 0x4f}, 3, 4}},
		7,
		{{{0, 0xf}, 1}, {{0x10, 0x1f}, 2}, {{0x20, 0x2f}, 3}, {{0x30, 0x4f}, 4},
			{{0x50, 0x5f}, 3}, {{0x60, 0x6f}, 2}, {{0x70, 0x7f}, 1}}},
	{"two pieces of one item that touch", 2, {{{0x10, 0x1f}, 0, 1}, {{0x20, 0x2f}, 0, 1}}, 1,
		{{{0x10, 0x2f}, 1}}},
	{"one item above itself", 2, {{{0x10, 0x2f}, 0, 1}, {{0x18, 0x1f}, 1, 1}}, 1,
		{{{0x10, 0x2f}, 1}}},
	{"the extreme priorities", 2, {{{0x10, 0x2f}, INT32_MIN, 1}, {{0x18, 0x1f}, INT32_MAX, 2}},
		3, {{{0x10, 0x17}, 1}, {{0x18, 0x1f}, 2}, {{0x20, 0x2f}, 1}}},
};

static void ranges_are_flattened_as_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_flat_in in[4];
		struct gm_flat_out out[8];
		uint32_t heap[4];
		size_t nr;

		memcpy(in, cases[i].in, sizeof(in));
		nr = gm_flatten(in, cases[i].nr, heap, out);
		if (nr != cases[i].nr_out)
			fail_msg("%s: %zu outputs", cases[i].name, nr);
		for (size_t j = 0; j < nr; j++) {
			if (out[j].range.first != cases[i].out[j].range.first ||
				out[j].range.last != cases[i].out[j].range.last ||
				out[j].item != cases[i].out[j].item)
				fail_msg("%s: output %zu", cases[i].name, j);
		}
	}
}

static void a_clash_is_told_at_its_lowest_address(void **state)
{
	static const struct {
		const char *name;
		size_t nr;
		struct gm_flat_in in[4];
		bool clash;
		uint64_t addr;
	} clashes[] = {
		{"nothing", 0, {{{0, 0}, 0, 0}}, false, 0},
		{"other priorities", 2, {{{0, 9}, 0, 1}, {{0, 9}, 1, 2}}, false, 0},
		{"touching", 2, {{{0, 9}, 0, 1}, {{10, 19}, 0, 2}}, false, 0},
		{"one byte", 2, {{{0, 10}, 0, 1}, {{10, 19}, 0, 2}}, true, 10},
		{"one byte at the top", 2, {{{0, TOP}, 0, 1}, {{TOP, TOP}, 0, 2}}, true, TOP},
		{"equal", 2, {{{3, 9}, 5, 1}, {{3, 9}, 5, 2}}, true, 3},
		{"behind a short neighbour", 3, {{{0, 90}, 0, 1}, {{1, 2}, 1, 2}, {{50, 60}, 0, 3}},
			true, 50},
		{"two clashes, the lower one later in the list", 4,
			{{{0, 10}, 0, 1}, {{8, 9}, 0, 2}, {{1, 5}, 1, 3}, {{2, 6}, 1, 4}}, true, 2},
		{"two clashes, the lower one with a lower priority", 4,
			{{{0, 10}, 1, 1}, {{8, 9}, 1, 2}, {{1, 5}, 0, 3}, {{2, 20}, 0, 4}}, true,
			2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(clashes) / sizeof(clashes[0]); i++) {
		struct gm_flat_in in[4];
		uint64_t addr = 77;

		memcpy(in, clashes[i].in, sizeof(in));
		if (gm_flatten_clash(in, clashes[i].nr, &addr) != clashes[i].clash)
			fail_msg("%s", clashes[i].name);
		if (addr != (clashes[i].clash ? clashes[i].addr : 77))
			fail_msg("%s: at %lu", clashes[i].name, addr);
	}
}

/* ---- everything, in small ---- */

#define SMALL 6u
#define SMALL_RANGES (SMALL * (SMALL + 1) / 2)
#define PRIORITIES 3u
#define CHOICES (SMALL_RANGES * PRIORITIES)

static struct gm_flat_in choice(uint64_t base, unsigned int n, uint32_t item)
{
	unsigned int r = n / PRIORITIES;
	unsigned int first = 0;

	while (r >= SMALL - first) {
		r -= SMALL - first;
		first++;
	}
	return (struct gm_flat_in){
		.range = {.first = base + first, .last = base + first + r},
		.priority = (int32_t)(n % PRIORITIES) - 1,
		.item = item,
	};
}

static void check_list(const struct gm_flat_in *in, size_t nr, uint64_t base)
{
	const char *what = clash_differs(in, nr, base, SMALL);
	uint64_t addr;

	/* What gm_flatten() does with inputs that clash is not said. */
	if (!what) {
		struct gm_flat_in copy[3];

		memcpy(copy, in, nr * sizeof(in[0]));
		if (!gm_flatten_clash(copy, nr, &addr))
			what = differs(in, nr, base, SMALL);
	}
	if (!what)
		return;
	for (size_t i = 0; i < nr; i++)
		fprintf(stderr, "[%#lx, %#lx] priority %d item %u\n", in[i].range.first,
			in[i].range.last, in[i].priority, in[i].item);
	fail_msg("%s", what);
}

static void all_lists_of_three_ranges_over_six_addresses(void **state)
{
	static const uint64_t bases[] = {0, TOP - (SMALL - 1), TOP / 2 - 2};

	(void)state;
	for (unsigned int n = 0; n < 3 * CHOICES * CHOICES * CHOICES; n++) {
		uint64_t base = bases[n % 3];
		unsigned int a = n / 3 % CHOICES;
		unsigned int b = n / 3 / CHOICES % CHOICES;
		unsigned int c = n / 3 / CHOICES / CHOICES;
		/* The third is now and then the item of the first again. */
		const struct gm_flat_in in[3] = {
			choice(base, a, 1),
			choice(base, b, 2),
			choice(base, c, (a + b + c) % 2 ? 3 : 1),
		};

		check_list(in, 3, base);
		if (c == 0)
			check_list(in, 2, base);
		if (c == 0 && b == 0)
			check_list(in, 1, base);
	}
}

/* ---- many ---- */

/* A random list without a clash: each priority gets ranges in rising order. */
static size_t random_list(struct rng *rng, uint64_t base, struct gm_flat_in *in)
{
	size_t nr = 0;

	for (int32_t priority = 0; priority < 8 && nr < MANY; priority++) {
		uint64_t at = rng_below(rng, WIDTH);

		while (nr < MANY && at < WIDTH) {
			uint64_t len = 1 + rng_below(rng, UINT64_C(1) << rng_below(rng, 9));

			if (len > WIDTH - at)
				len = WIDTH - at;
			in[nr] = (struct gm_flat_in){
				.range = {.first = base + at, .last = base + at + len - 1},
				.priority = priority * 1000 - 4000,
				.item = (uint32_t)rng_below(rng, MANY),
			};
			nr++;
			at += len + rng_below(rng, 40);
		}
	}
	for (size_t i = nr; i > 1; i--) {
		size_t other = rng_below(rng, i);
		struct gm_flat_in moved = in[i - 1];

		in[i - 1] = in[other];
		in[other] = moved;
	}
	return nr;
}

static void random_lists_of_many_ranges(void **state)
{
	static const uint64_t bases[] = {0, TOP - (WIDTH - 1), TOP / 2 - 2};
	static struct gm_flat_in in[MANY];

	(void)state;
	for (uint64_t i = 0; i < support_scale(60); i++) {
		uint64_t seed = test_seed(1000 + i);
		struct rng rng = {seed};
		uint64_t base = bases[i % 3];
		size_t nr = random_list(&rng, base, in);
		const char *what = clash_differs(in, nr, base, 0);

		if (!what)
			what = differs(in, nr, base, WIDTH);
		if (what)
			fail_msg("seed %lu: %s", seed, what);
		/* One more that clashes with one of them. */
		in[nr - 1].range = in[0].range;
		in[nr - 1].priority = in[0].priority;
		if (nr > 1 && (what = clash_differs(in, nr, base, WIDTH)))
			fail_msg("seed %lu, with a clash: %s", seed, what);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_flattened_as_named),
		cmocka_unit_test(a_clash_is_told_at_its_lowest_address),
		cmocka_unit_test(all_lists_of_three_ranges_over_six_addresses),
		cmocka_unit_test(random_lists_of_many_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
