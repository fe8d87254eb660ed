/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tiles.c - the tree of free and taken tiles.
 *
 * All cuts of a small stretch at each edge of the address space, all searches in them against bit
 * masks; and a tree of thousands of tiles, of which height and bounds are checked.
 */
#include <stdio.h>
#include <string.h>

#include "core/tiles.h"
#include "random.h"
#include "support.h"
#include "universe.h"

#define TOP UINT64_MAX
#define BITS 10u

/* ---- everything, in small ---- */

struct small {
	struct gm_tiles tiles;
	struct gm_tile room[2 * U_SIZE];
	unsigned int nr;
	uint64_t base;
	uint32_t taken;
};

/* Each run of taken addresses is one tile. */
static void make_small(struct small *s, uint64_t base, uint32_t taken)
{
	*s = (struct small){.nr = 1, .base = base, .taken = taken};
	gm_tiles_init(&s->tiles, &(struct gm_range){base, base + (BITS - 1)}, &s->room[0]);
	for (unsigned int i = 0; i < BITS; i++) {
		struct gm_range r = {base + i, base + i};
		struct gm_tile *tile;
		struct gm_tile *spare[2] = {&s->room[s->nr], &s->room[s->nr + 1]};

		if (!(taken >> i & 1))
			continue;
		while (i + 1 < BITS && (taken >> (i + 1) & 1))
			r.last = base + ++i;
		tile = gm_tiles_find(&s->tiles, r.first);
		s->nr += gm_tiles_cuts(tile, &r);
		gm_tiles_take(&s->tiles, tile, &r, 1, spare);
	}
	assert_true(gm_tiles_is_valid(&s->tiles));
}

/* Whether the addresses from offset @at on may be the answer. */
static bool may_be(const struct small *s, const struct gm_tile_want *want, unsigned int at)
{
	uint64_t first = s->base + at;

	for (unsigned int i = 0; i <= want->extent; i++) {
		if (at + i >= BITS || (s->taken >> (at + i) & 1) ||
			!gm_range_has(&want->window, first + i))
			return false;
	}
	return gm_is_aligned(first, want->align);
}

static void check_search(const struct small *s, const struct gm_tile_want *want, bool low)
{
	struct gm_range got = {0};
	const struct gm_tile *tile = low ? gm_tiles_lowest(&s->tiles, want, &got)
					 : gm_tiles_highest(&s->tiles, want, &got);
	int best = -1;

	for (unsigned int at = 0; at < BITS; at++) {
		if (may_be(s, want, at) && (best < 0 || !low))
			best = (int)at;
	}
	if ((tile != NULL) != (best >= 0) || (tile && got.first != s->base + (unsigned int)best) ||
		(tile && (got.last - got.first != want->extent ||
				 !gm_range_contains(&tile->range, &got) || tile->state)))
		fail_msg("%s of %#lx + 1 at %#lx in [%#lx, %#lx], taken %#x at %#lx: %#lx, not %d",
			low ? "lowest" : "highest", want->extent, want->align, want->window.first,
			want->window.last, s->taken, s->base, got.first, best);
}

static void check_longest(const struct small *s, const struct gm_range *window)
{
	struct gm_range got = {0};
	uint64_t longest = 0;
	uint64_t run = 0;

	for (unsigned int i = 0; i < BITS; i++) {
		bool in = !(s->taken >> i & 1) && gm_range_has(window, s->base + i);

		run = in ? run + 1 : 0;
		longest = run > longest ? run : longest;
	}
	assert_int_equal(gm_tiles_longest(&s->tiles, window, &got), longest > 0);
	if (longest)
		assert_int_equal(got.last - got.first + 1, longest);
}

static void check_window(const struct small *s, const struct gm_range *window)
{
	struct gm_tile_want want = {.window = *window};

	check_longest(s, window);
	for (want.extent = 0; want.extent < BITS; want.extent++) {
		for (want.align = 1; want.align <= 8; want.align *= 2) {
			check_search(s, &want, true);
			check_search(s, &want, false);
		}
	}
}

static void check_searches(const struct small *s)
{
	for (unsigned int first = 0; first < BITS; first += 3) {
		for (unsigned int last = first; last < BITS; last += 2)
			check_window(s, &(struct gm_range){s->base + first, s->base + last});
	}
}

static void all_searches_over_ten_addresses(void **state)
{
	static struct small s;
	const uint64_t bases[] = {0, 3, TOP - (BITS - 1), UINT64_C(0xfffffffd)};

	(void)state;
	for (size_t b = 0; b < sizeof(bases) / sizeof(bases[0]); b++) {
		for (uint32_t taken = 0; taken < 1u << BITS; taken++) {
			make_small(&s, bases[b], taken);
			check_searches(&s);
		}
	}
}

static void giving_back_joins_what_is_free(void **state)
{
	static struct small s;

	(void)state;
	for (uint32_t taken = 1; taken < 1u << BITS; taken++) {
		for (unsigned int i = 0; i < BITS; i++) {
			struct gm_tile *spare[2];
			struct gm_tile *tile;
			unsigned int want;
			unsigned int nr;

			make_small(&s, TOP - (BITS - 1), taken);
			tile = gm_tiles_find(&s.tiles, s.base + i);
			if (!tile->state)
				continue;
			/* What lies beside a run of taken addresses is free, or the edge. */
			want = (tile->range.first > s.base ? 1u : 0u) +
			       (tile->range.last < TOP ? 1u : 0u);
			nr = gm_tiles_give(&s.tiles, tile, spare);
			assert_int_equal(nr, want);
			assert_true(gm_tiles_is_valid(&s.tiles));
			assert_true(gm_range_has(&tile->range, s.base + i));
			assert_int_equal(tile->state, 0);
		}
	}
}

/* ---- the walker ---- */

static void a_walker_finds_what_is_broken(void **state)
{
	static struct small s;

	(void)state;
	make_small(&s, 0x100, 0x0f3);
	s.tiles.root->free_extent++;
	assert_false(gm_tiles_is_valid(&s.tiles));
	make_small(&s, 0x100, 0x0f3);
	s.tiles.root->range.last--;
	assert_false(gm_tiles_is_valid(&s.tiles));
	make_small(&s, 0x100, 0x0f3);
	s.tiles.root->height++;
	assert_false(gm_tiles_is_valid(&s.tiles));
	make_small(&s, 0x100, 0x0f3);
	s.tiles.range.last++;
	assert_false(gm_tiles_is_valid(&s.tiles));
	make_small(&s, 0x100, 0x0f3);
	s.tiles.root->right = NULL;
	assert_false(gm_tiles_is_valid(&s.tiles));
	make_small(&s, 0x100, 0x0f3);
	s.tiles.root->order = s.tiles.root->order < 0 ? 1 : -1;
	assert_false(gm_tiles_is_valid(&s.tiles));
}

/* ---- a large one ---- */

#define LARGE 20000u

static void a_tree_of_many_tiles_stays_low(void **state)
{
	static struct gm_tile room[2 * LARGE + 1];
	const struct gm_tile_want page = {.window = {0, TOP}, .extent = 0xfff, .align = 0x1000};
	struct gm_tiles tiles;
	size_t nr = 1;

	(void)state;
	gm_tiles_init(&tiles, &(struct gm_range){0, TOP}, &room[0]);
	assert_true(gm_tiles_is_valid(&tiles));
	for (unsigned int i = 0; i < LARGE; i++) {
		struct gm_tile *spare[2] = {&room[nr], &room[nr + 1]};
		struct gm_tile *tile;
		struct gm_range r;

		tile = i % 2 ? gm_tiles_lowest(&tiles, &page, &r)
			     : gm_tiles_highest(&tiles, &page, &r);
		assert_non_null(tile);
		nr += gm_tiles_cuts(tile, &r);
		gm_tiles_take(&tiles, tile, &r, 1 + i % 2, spare);
	}
	assert_true(gm_tiles_is_valid(&tiles));
	/* 1.45 log2(20001) */
	assert_true(tiles.root->height <= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_searches_over_ten_addresses),
		cmocka_unit_test(giving_back_joins_what_is_free),
		cmocka_unit_test(a_walker_finds_what_is_broken),
		cmocka_unit_test(a_tree_of_many_tiles_stays_low),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
