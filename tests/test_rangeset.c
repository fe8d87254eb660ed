/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rangeset.c - sets of ranges.
 *
 * Named cases for adding and removing; every set over sixteen addresses with every range at each
 * edge of the space against bit masks; and long random runs against a bit array.
 */
#include <stdio.h>
#include <string.h>

#include "core/rangeset.h"
#include "random.h"
#include "support.h"
#include "universe.h"

#define TOP UINT64_MAX
#define ROOM 16

/* ---- named cases ---- */

/* A set of up to 3 ranges is changed by r; nr ranges are left. */
static const struct {
	const char *name;
	size_t nr_before;
	struct gm_range before[3];
	struct gm_range r;
	size_t nr_added;
	struct gm_range added[4];
	size_t nr_removed;
	struct gm_range removed[4];
} cases[] = {
	{"an empty set", 0, {{0, 0}}, {0x10, 0x1f}, 1, {{0x10, 0x1f}}, 0, {{0, 0}}},
	{"before", 1, {{0x40, 0x7f}}, {0x10, 0x1f}, 2, {{0x10, 0x1f}, {0x40, 0x7f}}, 1,
		{{0x40, 0x7f}}},
	{"after", 1, {{0x40, 0x7f}}, {0x90, 0x9f}, 2, {{0x40, 0x7f}, {0x90, 0x9f}}, 1,
		{{0x40, 0x7f}}},
	{"touching before", 1, {{0x40, 0x7f}}, {0x30, 0x3f}, 1, {{0x30, 0x7f}}, 1, {{0x40, 0x7f}}},
	{"touching after", 1, {{0x40, 0x7f}}, {0x80, 0x8f}, 1, {{0x40, 0x8f}}, 1, {{0x40, 0x7f}}},
	{"one byte short of touching before", 1, {{0x40, 0x7f}}, {0x30, 0x3e}, 2,
		{{0x30, 0x3e}, {0x40, 0x7f}}, 1, {{0x40, 0x7f}}},
	{"one byte short of touching after", 1, {{0x40, 0x7f}}, {0x81, 0x8f}, 2,
		{{0x40, 0x7f}, {0x81, 0x8f}}, 1, {{0x40, 0x7f}}},
	{"overlapping left", 1, {{0x40, 0x7f}}, {0x30, 0x4f}, 1, {{0x30, 0x7f}}, 1, {{0x50, 0x7f}}},
	{"overlapping right", 1, {{0x40, 0x7f}}, {0x70, 0x8f}, 1, {{0x40, 0x8f}}, 1,
		{{0x40, 0x6f}}},
	{"inside", 1, {{0x40, 0x7f}}, {0x50, 0x5f}, 1, {{0x40, 0x7f}}, 2,
		{{0x40, 0x4f}, {0x60, 0x7f}}},
	{"inside at its begin", 1, {{0x40, 0x7f}}, {0x40, 0x4f}, 1, {{0x40, 0x7f}}, 1,
		{{0x50, 0x7f}}},
	{"inside at its end", 1, {{0x40, 0x7f}}, {0x70, 0x7f}, 1, {{0x40, 0x7f}}, 1,
		{{0x40, 0x6f}}},
	{"around", 1, {{0x40, 0x7f}}, {0x30, 0x8f}, 1, {{0x30, 0x8f}}, 0, {{0, 0}}},
	{"equal", 1, {{0x40, 0x7f}}, {0x40, 0x7f}, 1, {{0x40, 0x7f}}, 0, {{0, 0}}},
	{"between two, touching neither", 2, {{0x10, 0x1f}, {0x40, 0x4f}}, {0x28, 0x2f}, 3,
		{{0x10, 0x1f}, {0x28, 0x2f}, {0x40, 0x4f}}, 2, {{0x10, 0x1f}, {0x40, 0x4f}}},
	{"between two, touching both", 2, {{0x10, 0x1f}, {0x40, 0x4f}}, {0x20, 0x3f}, 1,
		{{0x10, 0x4f}}, 2, {{0x10, 0x1f}, {0x40, 0x4f}}},
	{"over three, from inside to inside", 3, {{0x10, 0x1f}, {0x30, 0x3f}, {0x50, 0x5f}},
		{0x18, 0x57}, 1, {{0x10, 0x5f}}, 2, {{0x10, 0x17}, {0x58, 0x5f}}},
	{"over the middle of three", 3, {{0x10, 0x1f}, {0x30, 0x3f}, {0x50, 0x5f}}, {0x28, 0x47}, 3,
		{{0x10, 0x1f}, {0x28, 0x47}, {0x50, 0x5f}}, 2, {{0x10, 0x1f}, {0x50, 0x5f}}},
	{"the first byte of the space", 1, {{1, 0x1f}}, {0, 0}, 1, {{0, 0x1f}}, 1, {{1, 0x1f}}},
	{"the first byte of a set that has it", 1, {{0, 0x1f}}, {0, 0}, 1, {{0, 0x1f}}, 1,
		{{1, 0x1f}}},
	{"the last byte of the space", 1, {{TOP - 9, TOP - 1}}, {TOP, TOP}, 1, {{TOP - 9, TOP}}, 1,
		{{TOP - 9, TOP - 1}}},
	{"the last byte of a set that has it", 1, {{TOP - 9, TOP}}, {TOP, TOP}, 1, {{TOP - 9, TOP}},
		1, {{TOP - 9, TOP - 1}}},
	{"the top does not touch the bottom", 1, {{0, 0x1f}}, {TOP - 1, TOP}, 2,
		{{0, 0x1f}, {TOP - 1, TOP}}, 1, {{0, 0x1f}}},
	{"the bottom does not touch the top", 1, {{TOP - 9, TOP}}, {0, 0}, 2,
		{{0, 0}, {TOP - 9, TOP}}, 1, {{TOP - 9, TOP}}},
	{"the whole space", 2, {{0, 0x1f}, {TOP - 9, TOP}}, {0, TOP}, 1, {{0, TOP}}, 0, {{0, 0}}},
	{"a hole in the whole space", 1, {{0, TOP}}, {0x10, 0x1f}, 1, {{0, TOP}}, 2,
		{{0, 0xf}, {0x20, TOP}}},
};

static void must_be(
	const char *name, const struct gm_rangeset *set, const struct gm_range *want, size_t nr)
{
	if (!gm_rangeset_is_valid(set))
		fail_msg("%s: the set is not valid", name);
	if (set->nr != nr)
		fail_msg("%s: %zu ranges, not %zu", name, set->nr, nr);
	for (size_t i = 0; i < nr; i++) {
		if (set->ranges[i].first != want[i].first || set->ranges[i].last != want[i].last)
			fail_msg("%s: range %zu is %#lx-%#lx", name, i, set->ranges[i].first,
				set->ranges[i].last);
	}
}

static void a_range_is_added_and_removed_as_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct gm_range room[ROOM];
		struct gm_rangeset set = {.ranges = room, .nr = cases[i].nr_before, .cap = ROOM};

		memcpy(room, cases[i].before, sizeof(cases[i].before));
		assert_true(gm_rangeset_add(&set, &cases[i].r));
		must_be(cases[i].name, &set, cases[i].added, cases[i].nr_added);
		assert_true(gm_rangeset_contains(&set, &cases[i].r));

		set.nr = cases[i].nr_before;
		memcpy(room, cases[i].before, sizeof(cases[i].before));
		assert_true(gm_rangeset_remove(&set, &cases[i].r));
		must_be(cases[i].name, &set, cases[i].removed, cases[i].nr_removed);
		assert_false(gm_rangeset_overlaps(&set, &cases[i].r));
	}
}

static void a_walker_finds_what_is_not_a_set(void **state)
{
	static const struct {
		const char *name;
		struct gm_range ranges[2];
		size_t nr;
		size_t cap;
		bool ok;
	} sets[] = {
		{"empty", {{0, 0}}, 0, 0, true},
		{"two", {{0, 4}, {6, 9}}, 2, 2, true},
		{"touching", {{0, 4}, {5, 9}}, 2, 2, false},
		{"overlapping", {{0, 4}, {4, 9}}, 2, 2, false},
		{"inside", {{0, 9}, {4, 5}}, 2, 2, false},
		{"not sorted", {{6, 9}, {0, 4}}, 2, 2, false},
		{"the last one swapped", {{0, 4}, {9, 6}}, 2, 2, false},
		{"the first one swapped", {{4, 0}, {6, 9}}, 2, 2, false},
		{"more than its room", {{0, 4}, {6, 9}}, 2, 1, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		struct gm_range room[2];
		const struct gm_rangeset set = {
			.ranges = room, .nr = sets[i].nr, .cap = sets[i].cap};

		memcpy(room, sets[i].ranges, sizeof(room));
		if (gm_rangeset_is_valid(&set) != sets[i].ok)
			fail_msg("%s", sets[i].name);
	}
}

/* ---- everything, in small ---- */

static void set_from_mask(struct gm_rangeset *set, uint64_t base, uint32_t mask)
{
	set->nr = 0;
	for (unsigned int i = 0; i < U_SIZE; i++) {
		if (!(mask >> i & 1))
			continue;
		if (i == 0 || !(mask >> (i - 1) & 1))
			set->ranges[set->nr++].first = base + i;
		set->ranges[set->nr - 1].last = base + i;
	}
}

static uint32_t mask_from_set(const struct gm_rangeset *set, uint64_t base)
{
	uint32_t mask = 0;

	for (size_t i = 0; i < set->nr; i++)
		mask |= u_mask_of(base, &set->ranges[i]);
	return mask;
}

/* Adds or removes with @cap places; the set must be @want, or as before if that has no room. */
static void check_change(
	const struct gm_rangeset *from, uint64_t base, struct u_range x, size_t cap, bool add)
{
	struct gm_range room[U_SIZE];
	struct gm_rangeset set = {.ranges = room, .nr = from->nr, .cap = cap};
	struct gm_range r = u_range(base, x);
	uint32_t before = mask_from_set(from, base);
	uint32_t want = add ? before | u_mask(x) : before & ~u_mask(x);
	bool ok;

	memcpy(room, from->ranges, from->nr * sizeof(room[0]));
	ok = add ? gm_rangeset_add(&set, &r) : gm_rangeset_remove(&set, &r);
	if (ok != (u_runs(want) <= cap) || mask_from_set(&set, base) != (ok ? want : before) ||
		!gm_rangeset_is_valid(&set) || set.nr != u_runs(ok ? want : before))
		fail_msg("%s [%u, %u] of set %#x at %#lx with room for %zu: %d",
			add ? "add" : "remove", x.first, x.last, before, base, cap, ok);
}

static void check_look_ups(const struct gm_rangeset *set, uint64_t base, uint32_t mask)
{
	for (struct u_range x = u_first(); x.first < U_SIZE; u_next(&x)) {
		struct gm_range r = u_range(base, x);

		if (gm_rangeset_contains(set, &r) != ((mask & u_mask(x)) == u_mask(x)))
			fail_msg("contains [%u, %u] of set %#x at %#lx", x.first, x.last, mask,
				base);
		if (gm_rangeset_overlaps(set, &r) != ((mask & u_mask(x)) != 0))
			fail_msg("overlaps [%u, %u] of set %#x at %#lx", x.first, x.last, mask,
				base);
		check_change(set, base, x, U_SIZE, true);
		check_change(set, base, x, U_SIZE, false);
		check_change(set, base, x, set->nr, true);
		check_change(set, base, x, set->nr, false);
	}
	for (unsigned int i = 0; i < U_SIZE; i++) {
		/* Runs that end below i. */
		uint32_t below = mask & ~(mask >> 1) & ((1u << i) - 1);

		if (gm_rangeset_find(set, base + i) != (size_t)__builtin_popcount(below))
			fail_msg("find %u of set %#x at %#lx", i, mask, base);
	}
}

/*
 * Sets over twelve addresses at the lower or the upper end of the universe, so that each edge of
 * the space is met; with GM_TEST_SCALE above 1 over all sixteen. The ranges are over sixteen
 * always.
 */
static void all_sets_and_ranges_over_sixteen_addresses(void **state)
{
	const unsigned int bits = support_scale(1) > 1 ? U_SIZE : 12;
	struct gm_range room[U_SIZE];
	struct gm_rangeset set = {.ranges = room, .cap = U_SIZE};

	(void)state;
	for (size_t u = 0; u < NR_UNIVERSES; u++) {
		for (uint32_t n = 0; n < 1u << bits; n++) {
			uint32_t mask = u == 1 ? n << (U_SIZE - bits) : n;

			set_from_mask(&set, universes[u], mask);
			check_look_ups(&set, universes[u], mask);
		}
	}
}

/* ---- long runs ---- */

#define BITS 4096u

static void check_bits(const struct gm_rangeset *set, uint64_t base, const uint8_t *bits)
{
	size_t at = 0;

	assert_true(gm_rangeset_is_valid(set));
	for (size_t i = 0; i < set->nr; i++) {
		for (; at < set->ranges[i].first - base; at++)
			assert_int_equal(bits[at], 0);
		for (; at <= set->ranges[i].last - base; at++)
			assert_int_equal(bits[at], 1);
	}
	for (; at < BITS; at++)
		assert_int_equal(bits[at], 0);
}

static void random_run(uint64_t base, uint64_t seed)
{
	static struct gm_range room[BITS / 2];
	static uint8_t bits[BITS];
	struct gm_rangeset set = {.ranges = room, .cap = BITS / 2};
	struct rng rng = {seed};

	memset(bits, 0, sizeof(bits));
	for (unsigned int i = 0; i < 4000; i++) {
		uint64_t first = rng_below(&rng, BITS);
		uint64_t len = 1 + rng_below(&rng, UINT64_C(1) << rng_below(&rng, 9));
		bool add = rng_below(&rng, 100) < 55;
		struct gm_range r;

		if (len > BITS - first)
			len = BITS - first;
		assert_true(gm_range_make(base + first, len, &r));
		assert_true(add ? gm_rangeset_add(&set, &r) : gm_rangeset_remove(&set, &r));
		memset(bits + first, add, len);
		if (i % 16 == 0)
			check_bits(&set, base, bits);
	}
	check_bits(&set, base, bits);
}

static void random_runs_over_4096_addresses(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(20); i++) {
		random_run(0, test_seed(100 + i));
		random_run(UINT64_MAX - (BITS - 1), test_seed(200 + i));
		random_run((UINT64_C(1) << 32) - 100, test_seed(300 + i));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_range_is_added_and_removed_as_named),
		cmocka_unit_test(a_walker_finds_what_is_not_a_set),
		cmocka_unit_test(all_sets_and_ranges_over_sixteen_addresses),
		cmocka_unit_test(random_runs_over_4096_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
