/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tiles.h - a stretch of addresses cut into tiles, free or taken, in a balanced tree.
 *
 * Invariants: the tiles cover the stretch without a gap and without overlap; no two free tiles
 * touch; heights of siblings differ by at most one; each tile knows the longest free tile below it,
 * and the largest naturally aligned block (of 2^n bytes at a multiple of 2^n) that a free tile below
 * it holds. So a search passes by what is too small.
 *
 * The caller owns the tiles' memory; nothing here allocates or fails halfway.
 */
#ifndef GM_CORE_TILES_H
#define GM_CORE_TILES_H

#include <stddef.h>

#include "core/range.h"

struct gm_tile {
	struct gm_range range;
	struct gm_tile *left;
	struct gm_tile *right;
	uint64_t free_extent; /* bytes less one of the longest free tile here and below */
	uint32_t state;       /* 0 = free, else the caller's word for it */
	uint8_t height;
	int8_t order;      /* log2 of the largest naturally aligned block; -1 = not free */
	int8_t free_order; /* the largest such here and below */
};

struct gm_tiles {
	struct gm_range range;
	struct gm_tile *root;
};

/* What a search asks for: @extent + 1 bytes at a multiple of @align, all in @window. */
struct gm_tile_want {
	struct gm_range window;
	uint64_t extent;
	uint64_t align; /* a power of two */
};

/* One free tile, @tile, of all of @range. */
void gm_tiles_init(struct gm_tiles *tiles, const struct gm_range *range, struct gm_tile *tile);

/* The tile that holds @addr, which is in the stretch. O(log n). */
struct gm_tile *gm_tiles_find(const struct gm_tiles *tiles, uint64_t addr);

/*
 * The free tile with the lowest or the highest such addresses, which are *ret; NULL if there is
 * none. O(log n) for naturally aligned blocks and for @align 1; else a step more for each free tile
 * that is long enough but holds no aligned room.
 */
struct gm_tile *gm_tiles_lowest(
	const struct gm_tiles *tiles, const struct gm_tile_want *want, struct gm_range *ret);
struct gm_tile *gm_tiles_highest(
	const struct gm_tiles *tiles, const struct gm_tile_want *want, struct gm_range *ret);

/* The longest free range in @window; false if nothing is free there. */
bool gm_tiles_longest(
	const struct gm_tiles *tiles, const struct gm_range *window, struct gm_range *ret);

/* Number of new tiles that gm_tiles_take() of this part of @tile needs: 0 to 2. */
unsigned int gm_tiles_cuts(const struct gm_tile *tile, const struct gm_range *part);

/* Gives @part of the free @tile the state @state, not 0. @spare has as many tiles as it cuts. */
void gm_tiles_take(struct gm_tiles *tiles, struct gm_tile *tile, const struct gm_range *part,
	uint32_t state, struct gm_tile *const *spare);

/* Makes a taken tile free. Writes the tiles that are left over, and returns their number: 0 to 2. */
unsigned int gm_tiles_give(
	struct gm_tiles *tiles, struct gm_tile *tile, struct gm_tile *ret_spare[2]);

/* All the invariants above. O(n). */
bool gm_tiles_is_valid(const struct gm_tiles *tiles);

#endif
