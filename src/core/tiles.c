/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tiles.c - an AVL tree of tiles, ordered by address. Functions that change a subtree return its new
 * root. The tree's height, and with it the depth of recursion, is at most 1.45 log2(n).
 */
#include "core/tiles.h"

#include <assert.h>

/* ---- what a tile knows ---- */

static int height_of(const struct gm_tile *tile)
{
	return tile ? tile->height : 0;
}

/* log2 of the largest block of 2^n bytes at a multiple of 2^n in the range; 63 for all addresses. */
static int8_t order_of(const struct gm_range *range)
{
	uint64_t extent = gm_range_extent(range);
	int order = extent == UINT64_MAX ? 63 : 63 - __builtin_clzll(extent + 1);
	uint64_t first;

	/* A range of 2^n bytes holds an aligned block of half of that, so this ends soon. */
	while (order > 0) {
		uint64_t size = UINT64_C(1) << order;

		if (gm_align_up(range->first, size, &first) && first <= range->last &&
			size - 1 <= range->last - first)
			break;
		order--;
	}
	return (int8_t)order;
}

static void set_tile(struct gm_tile *tile, const struct gm_range *range, uint32_t state)
{
	tile->range = *range;
	tile->state = state;
	tile->order = state ? -1 : order_of(range);
}

static void add_below(struct gm_tile *tile, const struct gm_tile *child)
{
	if (!child || child->free_order < 0)
		return;
	if (tile->free_order < 0 || child->free_extent > tile->free_extent)
		tile->free_extent = child->free_extent;
	if (child->free_order > tile->free_order)
		tile->free_order = child->free_order;
}

static void update(struct gm_tile *tile)
{
	int left = height_of(tile->left);
	int right = height_of(tile->right);

	tile->height = (uint8_t)((left > right ? left : right) + 1);
	tile->free_order = tile->order;
	tile->free_extent = tile->state ? 0 : gm_range_extent(&tile->range);
	add_below(tile, tile->left);
	add_below(tile, tile->right);
}

/* ---- the tree ---- */

static struct gm_tile *rotate_right(struct gm_tile *tile)
{
	struct gm_tile *top = tile->left;

	tile->left = top->right;
	top->right = tile;
	update(tile);
	update(top);
	return top;
}

static struct gm_tile *rotate_left(struct gm_tile *tile)
{
	struct gm_tile *top = tile->right;

	tile->right = top->left;
	top->left = tile;
	update(tile);
	update(top);
	return top;
}

static struct gm_tile *balance(struct gm_tile *tile)
{
	int tilt = height_of(tile->left) - height_of(tile->right);

	if (tilt > 1) {
		assert(tile->left);
		if (height_of(tile->left->left) < height_of(tile->left->right))
			tile->left = rotate_left(tile->left);
		return rotate_right(tile);
	}
	if (tilt < -1) {
		assert(tile->right);
		if (height_of(tile->right->right) < height_of(tile->right->left))
			tile->right = rotate_right(tile->right);
		return rotate_left(tile);
	}
	update(tile);
	return tile;
}

static struct gm_tile *insert(struct gm_tile *root, struct gm_tile *tile)
{
	if (!root) {
		tile->left = NULL;
		tile->right = NULL;
		update(tile);
		return tile;
	}
	if (tile->range.first < root->range.first)
		root->left = insert(root->left, tile);
	else
		root->right = insert(root->right, tile);
	return balance(root);
}

static struct gm_tile *take_lowest(struct gm_tile *root, struct gm_tile **ret_lowest)
{
	if (!root->left) {
		*ret_lowest = root;
		return root->right;
	}
	root->left = take_lowest(root->left, ret_lowest);
	return balance(root);
}

static struct gm_tile *without_root(struct gm_tile *root)
{
	struct gm_tile *top;
	struct gm_tile *right;

	if (!root->left)
		return root->right;
	if (!root->right)
		return root->left;
	right = take_lowest(root->right, &top);
	top->left = root->left;
	top->right = right;
	return balance(top);
}

/* The tile that begins at @first is there. */
static struct gm_tile *without(struct gm_tile *root, uint64_t first)
{
	if (first == root->range.first)
		return without_root(root);
	if (first < root->range.first)
		root->left = without(root->left, first);
	else
		root->right = without(root->right, first);
	return balance(root);
}

/* A tile was changed in its place: those above it are told. */
static void update_path(struct gm_tile *root, uint64_t addr)
{
	if (addr < root->range.first)
		update_path(root->left, addr);
	else if (addr > root->range.last)
		update_path(root->right, addr);
	update(root);
}

/* ---- questions ---- */

struct gm_tile *gm_tiles_find(const struct gm_tiles *tiles, uint64_t addr)
{
	struct gm_tile *tile = tiles->root;

	while (!gm_range_has(&tile->range, addr))
		tile = addr < tile->range.first ? tile->left : tile->right;
	return tile;
}

/* The part of a free tile that a search may use. */
static bool usable(const struct gm_tile *tile, const struct gm_range *window, struct gm_range *ret)
{
	return !tile->state && gm_range_intersect(&tile->range, window, ret);
}

static bool fits_low(
	const struct gm_tile *tile, const struct gm_tile_want *want, struct gm_range *ret)
{
	struct gm_range room;
	uint64_t first;

	if (!usable(tile, &want->window, &room) || !gm_align_up(room.first, want->align, &first) ||
		first > room.last || want->extent > room.last - first)
		return false;
	*ret = (struct gm_range){.first = first, .last = first + want->extent};
	return true;
}

static bool fits_high(
	const struct gm_tile *tile, const struct gm_tile_want *want, struct gm_range *ret)
{
	struct gm_range room;
	uint64_t first;

	if (!usable(tile, &want->window, &room) || want->extent > gm_range_extent(&room))
		return false;
	first = gm_align_down(room.last - want->extent, want->align);
	if (first < room.first)
		return false;
	*ret = (struct gm_range){.first = first, .last = first + want->extent};
	return true;
}

/* What is wanted holds a naturally aligned block of this order, so a tile without one is too small. */
static int order_wanted(const struct gm_tile_want *want)
{
	int align = __builtin_ctzll(want->align);
	int len = want->extent == UINT64_MAX ? 63 : 63 - __builtin_clzll(want->extent + 1);

	return align < len ? align : len;
}

static bool too_small(const struct gm_tile *tile, const struct gm_tile_want *want, int order)
{
	return !tile || tile->free_order < order || tile->free_extent < want->extent;
}

static struct gm_tile *search_low(
	struct gm_tile *tile, const struct gm_tile_want *want, int order, struct gm_range *ret)
{
	struct gm_tile *found = NULL;

	if (too_small(tile, want, order))
		return NULL;
	if (tile->range.first > want->window.first)
		found = search_low(tile->left, want, order, ret);
	if (!found && fits_low(tile, want, ret))
		found = tile;
	if (!found && tile->range.last < want->window.last)
		found = search_low(tile->right, want, order, ret);
	return found;
}

static struct gm_tile *search_high(
	struct gm_tile *tile, const struct gm_tile_want *want, int order, struct gm_range *ret)
{
	struct gm_tile *found = NULL;

	if (too_small(tile, want, order))
		return NULL;
	if (tile->range.last < want->window.last)
		found = search_high(tile->right, want, order, ret);
	if (!found && fits_high(tile, want, ret))
		found = tile;
	if (!found && tile->range.first > want->window.first)
		found = search_high(tile->left, want, order, ret);
	return found;
}

struct gm_tile *gm_tiles_lowest(
	const struct gm_tiles *tiles, const struct gm_tile_want *want, struct gm_range *ret)
{
	return search_low(tiles->root, want, order_wanted(want), ret);
}

struct gm_tile *gm_tiles_highest(
	const struct gm_tiles *tiles, const struct gm_tile_want *want, struct gm_range *ret)
{
	return search_high(tiles->root, want, order_wanted(want), ret);
}

/* *best is the longest range so far, if there was *any. */
static void search_longest(
	const struct gm_tile *tile, const struct gm_range *window, struct gm_range *best, bool *any)
{
	struct gm_range room;

	if (!tile || tile->free_order < 0 || (*any && tile->free_extent <= gm_range_extent(best)))
		return;
	if (tile->range.first > window->first)
		search_longest(tile->left, window, best, any);
	if (usable(tile, window, &room) &&
		(!*any || gm_range_extent(&room) > gm_range_extent(best))) {
		*best = room;
		*any = true;
	}
	if (tile->range.last < window->last)
		search_longest(tile->right, window, best, any);
}

bool gm_tiles_longest(
	const struct gm_tiles *tiles, const struct gm_range *window, struct gm_range *ret)
{
	struct gm_range best = {0};
	bool any = false;

	search_longest(tiles->root, window, &best, &any);
	if (any)
		*ret = best;
	return any;
}

/* ---- changes ---- */

void gm_tiles_init(struct gm_tiles *tiles, const struct gm_range *range, struct gm_tile *tile)
{
	set_tile(tile, range, 0);
	*tiles = (struct gm_tiles){.range = *range, .root = insert(NULL, tile)};
}

unsigned int gm_tiles_cuts(const struct gm_tile *tile, const struct gm_range *part)
{
	return (part->first > tile->range.first ? 1u : 0u) +
	       (part->last < tile->range.last ? 1u : 0u);
}

void gm_tiles_take(struct gm_tiles *tiles, struct gm_tile *tile, const struct gm_range *part,
	uint32_t state, struct gm_tile *const *spare)
{
	struct gm_range all = tile->range;

	/* The tile keeps its place in the order: what is cut off goes in beside it. */
	set_tile(tile, part, state);
	update_path(tiles->root, part->first);
	if (all.first < part->first) {
		set_tile(*spare, &(struct gm_range){all.first, part->first - 1}, 0);
		tiles->root = insert(tiles->root, *spare);
		spare++;
	}
	if (all.last > part->last) {
		set_tile(*spare, &(struct gm_range){part->last + 1, all.last}, 0);
		tiles->root = insert(tiles->root, *spare);
	}
}

unsigned int gm_tiles_give(
	struct gm_tiles *tiles, struct gm_tile *tile, struct gm_tile *ret_spare[2])
{
	struct gm_range sum = tile->range;
	unsigned int nr = 0;

	if (sum.first > tiles->range.first) {
		ret_spare[nr] = gm_tiles_find(tiles, sum.first - 1);
		if (!ret_spare[nr]->state)
			sum.first = ret_spare[nr++]->range.first;
	}
	if (sum.last < tiles->range.last) {
		ret_spare[nr] = gm_tiles_find(tiles, sum.last + 1);
		if (!ret_spare[nr]->state)
			sum.last = ret_spare[nr++]->range.last;
	}
	for (unsigned int i = 0; i < nr; i++)
		tiles->root = without(tiles->root, ret_spare[i]->range.first);
	set_tile(tile, &sum, 0);
	update_path(tiles->root, sum.first);
	return nr;
}

/* ---- the walker ---- */

struct walk {
	uint64_t next; /* where the next tile has to begin */
	bool end;      /* the last one ended at the last address */
	bool was_free;
};

static bool same_as_updated(const struct gm_tile *tile)
{
	struct gm_tile copy = *tile;

	set_tile(&copy, &tile->range, tile->state);
	update(&copy);
	return copy.height == tile->height && copy.order == tile->order &&
	       copy.free_order == tile->free_order && copy.free_extent == tile->free_extent;
}

static bool walk(const struct gm_tile *tile, struct walk *at)
{
	int tilt;

	if (!tile)
		return true;
	tilt = height_of(tile->left) - height_of(tile->right);
	if (tilt < -1 || tilt > 1 || !same_as_updated(tile) || !walk(tile->left, at))
		return false;
	if (at->end || tile->range.first != at->next || !gm_range_is_valid(&tile->range) ||
		(at->was_free && !tile->state))
		return false;
	at->end = tile->range.last == UINT64_MAX;
	at->next = tile->range.last + 1;
	at->was_free = !tile->state;
	return walk(tile->right, at);
}

bool gm_tiles_is_valid(const struct gm_tiles *tiles)
{
	struct walk at = {.next = tiles->range.first};

	return tiles->root && walk(tiles->root, &at) && at.next == tiles->range.last + 1;
}
