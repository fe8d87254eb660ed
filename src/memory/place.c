/* SPDX-License-Identifier: BSD-3-Clause */
/* place.c - see place.h. */
#include "memory/place.h"

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "sys/sys.h"

/* Where its region's byte 0 lies, modulo 2^64. */
static uint64_t origin(const struct gm_piece *piece)
{
	return piece->range.first - piece->off;
}

/* May [first, first + len) of the window hold memory of the piece's block? */
static bool fits_window(
	const struct gm_placing *pl, const struct gm_piece *piece, const struct gm_range *range)
{
	const struct gm_window *window = pl->space->window;
	const struct gm_block *block = piece->node->s.block;

	return window && block->backing != GM_BACKING_POINTER && !gm_block_is_far(block) &&
	       range->last < window->limit &&
	       gm_is_aligned(range->first | (range->last + 1), block->page_size);
}

/* All of its region, as if the rest of it showed beside the piece. */
static bool whole_region(const struct gm_piece *piece, struct gm_range *ret)
{
	return piece->primary && piece->off <= piece->range.first &&
	       gm_range_make(origin(piece), gm_range_len(&piece->node->s.range), ret);
}

/* Memory of this process alone is placed as a whole, from its first byte. */
static bool can_begin(const struct gm_piece *piece)
{
	return piece->node->s.block_off == 0 || !gm_block_is_exclusive(piece->node->s.block);
}

static bool belongs_in_window(const struct gm_placing *pl, const struct gm_piece *piece)
{
	struct gm_range whole;

	return piece->primary && can_begin(piece) && whole_region(piece, &whole) &&
	       fits_window(pl, piece, &whole);
}

/* A region with parts is placed or not as a whole: how it is cut up makes no difference. */
static bool wants_window(const struct gm_placing *pl, const struct gm_piece *piece)
{
	if (gm_block_is_exclusive(piece->node->s.block) || (piece->parts && piece->primary))
		return belongs_in_window(pl, piece);
	return fits_window(pl, piece, &piece->range);
}

static bool serves(const struct gm_map *map, const struct gm_piece *piece)
{
	uint64_t skipped = piece->block_off - map->block_off;

	return map->block == piece->node->s.block && skipped < map->len &&
	       gm_range_extent(&piece->range) < map->len - skipped;
}

static bool lies_right(
	const struct gm_placing *pl, const struct gm_map *map, const struct gm_piece *piece)
{
	const struct gm_window *window = pl->space->window;

	return window && map->hva &&
	       (uintptr_t)map->hva + (piece->block_off - map->block_off) ==
		       (uintptr_t)window->base + piece->range.first;
}

static bool is_next_part(const struct gm_piece *a, const struct gm_piece *b)
{
	return a->node == b->node && origin(a) == origin(b) &&
	       gm_range_precedes(&a->range, &b->range);
}

/* The first piece that ends at or after @addr. */
static size_t first_piece(const struct gm_edit *edit, uint64_t addr)
{
	size_t lo = 0;
	size_t hi = edit->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (edit->pieces[mid].range.last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Neighbours of one region in one place that parts of it alone keep asunder: as one. */
static struct gm_range unparted(const struct gm_placing *pl, const struct gm_piece *piece)
{
	size_t i = gm_edit_find(pl->news, pl->nr, piece->range.first);
	struct gm_range ret = piece->range;
	const struct gm_edit *edit = &pl->news[i];
	size_t at;

	if (!piece->parts)
		return ret;
	at = first_piece(edit, piece->range.first);
	for (size_t j = at; j > 0 && is_next_part(&edit->pieces[j - 1], &edit->pieces[j]); j--)
		ret.first = edit->pieces[j - 1].range.first;
	for (size_t j = at + 1;
		j < edit->nr && is_next_part(&edit->pieces[j - 1], &edit->pieces[j]); j++)
		ret.last = edit->pieces[j].range.last;
	return fits_window(pl, piece, &ret) ? ret : piece->range;
}

/* A piece with a mapping of the same region in the same place that @fits, or NULL. */
static struct gm_piece *find_sibling(const struct gm_placing *pl, const struct gm_edit *edits,
	const struct gm_piece *piece,
	bool (*fits)(const struct gm_placing *, const struct gm_piece *, const struct gm_piece *))
{
	uint64_t first = piece->off > piece->range.first ? 0 : origin(piece);
	uint64_t last = origin(piece) + gm_node_extent(piece->node);

	/* An alias may show no more than the begin of it at the end of all addresses. */
	if (last < piece->range.last)
		last = UINT64_MAX;
	for (size_t i = gm_edit_find(edits, pl->nr, first);
		i < pl->nr && edits[i].range.first <= last; i++) {
		const struct gm_edit *edit = &edits[i];

		for (size_t j = first_piece(edit, first);
			j < edit->nr && edit->pieces[j].range.first <= last; j++) {
			struct gm_piece *other = &edit->pieces[j];

			if (other->node == piece->node && origin(other) == origin(piece) &&
				other->map && fits(pl, other, piece))
				return other;
		}
	}
	return NULL;
}

static bool any_fits(
	const struct gm_placing *pl, const struct gm_piece *other, const struct gm_piece *piece)
{
	(void)pl;
	(void)other;
	(void)piece;
	return true;
}

/* The same region in the same place before, or NULL. */
static const struct gm_piece *find_old(const struct gm_placing *pl, const struct gm_piece *piece)
{
	return find_sibling(pl, pl->olds, piece, any_fits);
}

/* Did it show in the same place before, and could it be placed there then as it can be now? */
static bool is_as_before(const struct gm_placing *pl, const struct gm_piece *piece)
{
	const struct gm_piece *old = find_old(pl, piece);

	if (!old)
		return false;
	if (!gm_block_is_exclusive(piece->node->s.block) && !(piece->parts && piece->primary))
		return !wants_window(pl, piece) || fits_window(pl, piece, &old->range);
	if (piece->node->touch && !piece->node->touch->fresh) {
		struct gm_range was = piece->node->touch->old.range;
		uint64_t len = gm_range_len(&was);

		if (!gm_range_make(origin(piece), len, &was))
			return false;
		return wants_window(pl, piece) ==
		       (can_begin(piece) && fits_window(pl, piece, &was));
	}
	return true;
}

bool gm_place_must_shift(const struct gm_placing *pl, const struct gm_piece *piece)
{
	const struct gm_node *node = piece->node;
	const struct gm_map *map = node->s.map;

	if (!gm_node_is_memory(node) || !piece->primary || !map ||
		!gm_block_is_exclusive(node->s.block))
		return false;
	if (is_as_before(pl, piece) && find_old(pl, piece)->map == map)
		return false;
	if (!belongs_in_window(pl, piece))
		return map->window;
	return !lies_right(pl, map, piece);
}

bool gm_place_waits(const struct gm_piece *piece)
{
	return gm_node_is_memory(piece->node) && !piece->map;
}

bool gm_place_claim(const struct gm_placing *pl, const struct gm_piece *piece, struct gm_range *ret)
{
	const struct gm_block *block = piece->node->s.block;

	if (!wants_window(pl, piece))
		return false;
	if (gm_block_is_exclusive(block))
		return gm_range_make(origin(piece), block->len, ret);
	*ret = piece->range;
	return true;
}

/* ---- mappings that are there ---- */

static bool may_keep(
	const struct gm_placing *pl, const struct gm_map *map, const struct gm_piece *piece)
{
	return map && serves(map, piece) &&
	       (lies_right(pl, map, piece) || (!wants_window(pl, piece) && !map->window));
}

static bool is_given(
	const struct gm_placing *pl, const struct gm_piece *other, const struct gm_piece *piece)
{
	return other->given && may_keep(pl, other->map, piece);
}

/* One that another new piece of the region was given. */
static struct gm_map *find_given(const struct gm_placing *pl, const struct gm_piece *piece)
{
	const struct gm_piece *other = find_sibling(pl, pl->news, piece, is_given);

	return other ? other->map : NULL;
}

/* Its own was forgotten, but what it had will do after all. */
static bool may_join(const struct gm_piece *piece, const struct gm_map *own)
{
	return !own && gm_block_is_shareable(piece->node->s.block);
}

static bool other_serves(
	const struct gm_placing *pl, const struct gm_piece *other, const struct gm_piece *piece)
{
	(void)pl;
	return serves(other->map, piece);
}

static struct gm_map *find_map(const struct gm_placing *pl, const struct gm_piece *piece)
{
	const struct gm_piece *old = find_sibling(pl, pl->olds, piece, other_serves);
	struct gm_map *own = piece->primary ? piece->node->s.map : NULL;

	/* What showed in its place stays as it was, although it could not be placed. */
	if (old &&
		(!piece->primary || own == old->map || may_join(piece, own) ||
			lies_right(pl, old->map, piece)) &&
		(may_keep(pl, old->map, piece) || is_as_before(pl, piece)))
		return old->map;
	if (may_keep(pl, own, piece))
		return own;
	return find_given(pl, piece);
}

/* ---- new mappings ---- */

/* That part of the block's fd, mapped once more at its place in the window. */
static int map_again(struct gm_placing *pl, struct gm_piece *piece, const struct gm_range *range,
	struct gm_error *err)
{
	struct gm_block *block = piece->node->s.block;
	struct gm_map *map = gm_sys_alloc(sizeof(*map));
	int rc;

	if (!map)
		return gm_error_set(
			err, -ENOMEM, piece->range.first, 0, "%s: out of memory", pl->space->name);
	map->block = block;
	map->block_off = piece->block_off - (piece->range.first - range->first);
	map->len = gm_range_len(range);
	rc = gm_map_create(map, pl->space->window, range->first, err);
	if (rc) {
		gm_sys_free(map);
		return rc;
	}
	piece->map = gm_map_get(map);
	piece->given = true;
	return 0;
}

/* The region as a whole if the window is free there, so that what covers parts of it now may go. */
static int map_shared(struct gm_placing *pl, struct gm_piece *piece, struct gm_error *err)
{
	struct gm_range own = unparted(pl, piece);
	struct gm_range whole;
	int rc = -EEXIST;

	if (whole_region(piece, &whole) && fits_window(pl, piece, &whole))
		rc = map_again(pl, piece, &whole, err);
	else
		whole = (struct gm_range){0};
	if (rc == -EEXIST && gm_range_extent(&whole) != gm_range_extent(&own))
		rc = map_again(pl, piece, &own, err);
	return rc;
}

static void share_home(struct gm_piece *piece)
{
	piece->map = gm_map_share_home(piece->node->s.block);
	piece->given = true;
}

static int take_home(
	struct gm_placing *pl, struct gm_piece *piece, bool window, struct gm_error *err)
{
	struct gm_block *block = piece->node->s.block;
	int rc = gm_map_take_home(block, window ? pl->space->window : NULL, origin(piece), err);

	if (rc == -ERANGE && window)
		rc = gm_map_take_home(block, NULL, 0, err);
	/* An alias shows it already, or a pin holds it: where it is. */
	if (rc == -EBUSY) {
		share_home(piece);
		return 0;
	}
	if (!rc) {
		piece->map = &block->home;
		piece->given = true;
	}
	return rc;
}

static int give_map(struct gm_placing *pl, struct gm_piece *piece, bool last, struct gm_error *err)
{
	bool window = wants_window(pl, piece) && !last;

	if (!gm_block_is_exclusive(piece->node->s.block)) {
		if (window && !piece->node->s.block->dark)
			return map_shared(pl, piece, err);
		share_home(piece);
		return 0;
	}
	if (piece->node->s.map) {
		piece->map = piece->node->s.map;
		return 0;
	}
	if (piece->primary)
		return take_home(pl, piece, window, err);
	share_home(piece);
	return 0;
}

int gm_place(struct gm_placing *pl, struct gm_piece *piece, bool last, struct gm_error *err)
{
	struct gm_error why = {0};
	int rc;

	if (!gm_place_waits(piece))
		return 0;
	if (!last && gm_place_must_shift(pl, piece))
		return 0;
	piece->map = find_map(pl, piece);
	if (piece->map)
		return 0;
	/* An error is the caller's when nothing else is tried. */
	rc = give_map(pl, piece, false, &why);
	if (rc == -EEXIST)
		rc = last ? give_map(pl, piece, true, &why) : 0;
	return rc ? gm_error_pass(err, &why, rc) : 0;
}

void gm_place_undo(struct gm_placing *pl)
{
	for (size_t i = 0; i < pl->nr; i++) {
		for (size_t j = 0; j < pl->news[i].nr; j++) {
			struct gm_piece *piece = &pl->news[i].pieces[j];

			if (piece->given)
				gm_map_put(piece->map);
			piece->map = NULL;
			piece->given = false;
		}
	}
}

void gm_place_keep(struct gm_placing *pl)
{
	for (size_t i = 0; i < pl->nr; i++) {
		for (size_t j = 0; j < pl->news[i].nr; j++) {
			struct gm_piece *piece = &pl->news[i].pieces[j];
			struct gm_map **own = &piece->node->s.map;

			if (!piece->map)
				continue;
			if (piece->primary && *own != piece->map) {
				if (*own)
					gm_map_put(*own);
				*own = gm_map_get(piece->map);
			}
			if (piece->given)
				gm_map_put(piece->map);
			piece->given = false;
		}
	}
}
