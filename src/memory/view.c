/* SPDX-License-Identifier: BSD-3-Clause */
/* view.c - see view.h. */
#include "memory/view.h"

#include <errno.h>
#include <string.h>

#include "memory/access.h"
#include "memory/block.h"
#include "memory/device.h"
#include "memory/dirty.h"
#include "memory/hot.h"
#include "memory/iommu.h"
#include "memory/node.h"
#include "sys/sys.h"

/* A stretch of the map while leaves are built. */
struct entry {
	struct gm_span span;
	struct gm_origin origin;
};

struct build {
	const struct gm_view_full *old;
	struct gm_view_full *view;
	const struct gm_edit *edits;
	size_t nr_edits;
};

/* ---- parts ---- */

static bool parts_add(struct gm_parts *parts, uintptr_t slot)
{
	if (parts->nr == parts->cap) {
		size_t cap = parts->cap ? parts->cap * 2 : 8;
		uintptr_t *slots = gm_sys_realloc(parts->slots, cap, sizeof(*slots));

		if (!slots)
			return false;
		parts->slots = slots;
		parts->cap = cap;
	}
	parts->slots[parts->nr++] = slot;
	return true;
}

static void parts_forget(struct gm_parts *parts)
{
	gm_sys_free(parts->slots);
	*parts = (struct gm_parts){0};
}

static void put_owner(const struct gm_span *span)
{
	if (span->perms & GM_SPAN_IOMMU)
		gm_iommu_put((struct gm_iommu *)(uintptr_t)span->owner);
	else if (span->perms & GM_SPAN_DEVICE)
		gm_device_put((struct gm_device *)(uintptr_t)span->owner);
	else if (span->owner)
		gm_map_put((struct gm_map *)(uintptr_t)span->owner);
}

static void get_owner(const struct gm_span *span)
{
	if (span->perms & GM_SPAN_IOMMU)
		gm_iommu_get((struct gm_iommu *)(uintptr_t)span->owner);
	else if (span->perms & GM_SPAN_DEVICE)
		gm_device_get((struct gm_device *)(uintptr_t)span->owner);
	else if (span->owner)
		gm_map_get((struct gm_map *)(uintptr_t)span->owner);
}

/* @counted: the spans hold references. */
static void part_free(uintptr_t slot, bool counted)
{
	if (gm_slot_is_dir(slot)) {
		gm_sys_free(gm_slot_dir(slot));
		return;
	}
	for (uint32_t i = 0; counted && i < gm_slot_leaf(slot)->nr; i++)
		put_owner(&gm_slot_leaf(slot)->spans[i]);
	gm_sys_free(gm_slot_leaf(slot));
}

static void parts_free(struct gm_parts *parts, bool counted)
{
	for (size_t i = 0; i < parts->nr; i++)
		part_free(parts->slots[i], counted);
	parts_forget(parts);
}

/* Lists what hangs below some slots. */
static bool parts_add_all(struct gm_parts *parts, const uintptr_t *slots, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (slots[i] == gm_slot_empty())
			continue;
		if (!parts_add(parts, slots[i]))
			return false;
		if (gm_slot_is_dir(slots[i]) &&
			!parts_add_all(parts, gm_dir_slots(gm_slot_dir(slots[i])),
				gm_slot_dir(slots[i])->mask + 1))
			return false;
	}
	return true;
}

/* ---- views ---- */

static uintptr_t *slots_of(struct gm_view_full *view)
{
	return (uintptr_t *)(view + 1);
}

static struct gm_view_full *alloc_view(uint32_t nr_slots, uint32_t shift)
{
	struct gm_view_full *view =
		gm_sys_alloc(sizeof(*view) + nr_slots * sizeof(*view->pub.slots));

	if (!view)
		return NULL;
	view->pub.slots = slots_of(view);
	view->pub.nr_slots = nr_slots;
	view->pub.shift = shift;
	view->pub.version = GM_VIEW_VERSION;
	for (uint32_t i = 0; i < nr_slots; i++)
		slots_of(view)[i] = gm_slot_empty();
	return view;
}

struct gm_view_full *gm_view_empty(void)
{
	return alloc_view(gm_table_slots(0), 0);
}

void gm_view_trim(struct gm_view_full *view)
{
	parts_forget(&view->fresh);
}

void gm_view_discard(struct gm_view_full *view)
{
	if (!view)
		return;
	parts_free(&view->fresh, view->finished);
	parts_forget(&view->garbage);
	gm_sys_free(view);
}

void gm_view_free(struct gm_view_full *view)
{
	parts_free(&view->dropped, true);
	parts_forget(&view->fresh);
	parts_forget(&view->garbage);
	gm_sys_free(view->changed.ranges);
	gm_sys_free(view);
}

static void free_below(const uintptr_t *slots, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (slots[i] == gm_slot_empty())
			continue;
		if (gm_slot_is_dir(slots[i]))
			free_below(gm_dir_slots(gm_slot_dir(slots[i])),
				gm_slot_dir(slots[i])->mask + 1);
		part_free(slots[i], true);
	}
}

void gm_view_free_all(struct gm_view_full *view)
{
	if (!view)
		return;
	free_below(view->pub.slots, view->pub.nr_slots);
	gm_view_free(view);
}

/* ---- building ---- */

size_t gm_edit_find(const struct gm_edit *edits, size_t nr, uint64_t addr)
{
	size_t lo = 0;
	size_t hi = nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (edits[mid].range.last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static size_t find_edit(const struct build *b, uint64_t addr)
{
	return gm_edit_find(b->edits, b->nr_edits, addr);
}

static bool is_edited(const struct build *b, const struct gm_range *range)
{
	size_t at = find_edit(b, range->first);

	return at < b->nr_edits && b->edits[at].range.first <= range->last;
}

static struct entry planned(const struct gm_piece *piece)
{
	return (struct entry){
		.span = {.first = piece->range.first,
			.last = piece->range.last,
			.owner = piece,
			.perms = (uint16_t)(piece->perms | GM_SPAN_PLANNED),
			.node = gm_node_index(piece->node)},
		.origin = {.off = piece->off,
			.use = (uint32_t)(piece->node->id >> 32),
			.kind = piece->node->kind},
	};
}

static uintptr_t build_leaf(
	struct build *b, const struct entry *entries, uint32_t nr, const struct gm_range *range)
{
	struct gm_leaf *leaf;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < nr; i++)
		kept |= gm_origin_kept(&entries[i].origin);
	leaf = gm_sys_alloc(gm_leaf_size(nr, kept));
	if (!leaf || !parts_add(&b->view->fresh, (uintptr_t)leaf)) {
		gm_sys_free(leaf);
		return 0;
	}
	gm_leaf_init(leaf, nr, kept);
	for (uint32_t i = 0; i < nr; i++) {
		gm_leaf_spans(leaf)[i] = entries[i].span;
		gm_leaf_set_origin(leaf, i, &entries[i].origin);
	}
	gm_leaf_index(leaf, range);
	return (uintptr_t)leaf;
}

/* A directory of empty slots, or NULL. */
static struct gm_dir *alloc_dir(struct build *b, uint32_t nr, uint32_t shift)
{
	struct gm_dir *dir = gm_sys_alloc(sizeof(*dir) + nr * sizeof(uintptr_t));

	if (!dir || !parts_add(&b->view->fresh, (uintptr_t)dir + 1)) {
		gm_sys_free(dir);
		return NULL;
	}
	dir->shift = shift;
	dir->mask = nr - 1;
	return dir;
}

static struct gm_range slot_range(uint64_t base, uint32_t shift, uint32_t i)
{
	uint64_t first = base + ((uint64_t)i << shift);

	return (struct gm_range){.first = first, .last = first + ((UINT64_C(1) << shift) - 1)};
}

static uintptr_t build_slot(
	struct build *b, const struct entry *entries, size_t nr, const struct gm_range *range);

/* Slots over what begins at @base, from sorted entries. */
static bool build_slots(struct build *b, const struct entry *entries, size_t nr, uint64_t base,
	uint32_t shift, uintptr_t *slots, uint32_t nr_slots)
{
	size_t from = 0;

	for (uint32_t i = 0; i < nr_slots; i++) {
		struct gm_range range = slot_range(base, shift, i);
		size_t to;

		while (from < nr && entries[from].span.last < range.first)
			from++;
		for (to = from; to < nr && entries[to].span.first <= range.last; to++)
			;
		slots[i] = build_slot(b, entries + from, to - from, &range);
		if (!slots[i])
			return false;
	}
	return true;
}

/* A leaf or a directory for what lies in a slot; 0 without memory. */
static uintptr_t build_slot(
	struct build *b, const struct entry *entries, size_t nr, const struct gm_range *range)
{
	struct gm_dir *dir;
	uint32_t nr_slots;
	uint32_t shift = 0;

	if (nr == 0)
		return gm_slot_empty();
	if (nr <= GM_LEAF_MAX)
		return build_leaf(b, entries, (uint32_t)nr, range);
	nr_slots = gm_table_slots(nr);
	while ((gm_range_extent(range) >> shift) >= nr_slots)
		shift++;
	dir = alloc_dir(b, nr_slots, shift);
	if (!dir || !build_slots(b, entries, nr, range->first, shift, gm_dir_slots(dir), nr_slots))
		return 0;
	return (uintptr_t)dir + 1;
}

/* ---- editing ---- */

/*
 * Entries of a stretch as edited: those of @spans that are not, and the pieces that show in @range.
 * Returns their number; @ret has room.
 */
static size_t merge(const struct build *b, const struct gm_leaf *leaf, const struct gm_range *range,
	struct entry *ret)
{
	size_t edit = find_edit(b, range->first);
	size_t nr = 0;
	uint32_t i = 0;

	for (;;) {
		const struct gm_edit *next = NULL;
		uint64_t until = UINT64_MAX;

		if (edit < b->nr_edits && b->edits[edit].range.first <= range->last) {
			next = &b->edits[edit++];
			until = next->range.first;
		}
		for (; i < leaf->nr && (!next || leaf->spans[i].first < until); i++)
			ret[nr++] = (struct entry){leaf->spans[i], gm_leaf_origin(leaf, i)};
		if (!next)
			return nr;
		for (; i < leaf->nr && leaf->spans[i].first <= next->range.last; i++)
			;
		for (size_t j = 0; j < next->nr; j++) {
			if (gm_range_overlaps(&next->pieces[j].range, range))
				ret[nr++] = planned(&next->pieces[j]);
		}
	}
}

/* Room that merge() may need. */
static size_t merge_room(
	const struct build *b, const struct gm_leaf *leaf, const struct gm_range *range)
{
	size_t room = leaf->nr;

	for (size_t i = find_edit(b, range->first);
		i < b->nr_edits && b->edits[i].range.first <= range->last; i++)
		room += b->edits[i].nr;
	return room + 1;
}

static uintptr_t edit_leaf(struct build *b, struct gm_leaf *leaf, const struct gm_range *range)
{
	struct entry *entries;
	uintptr_t slot;

	if ((uintptr_t)leaf != gm_slot_empty() && !parts_add(&b->view->garbage, (uintptr_t)leaf))
		return 0;
	entries = gm_sys_alloc_array(merge_room(b, leaf, range), sizeof(*entries));
	if (!entries)
		return 0;
	slot = build_slot(b, entries, merge(b, leaf, range, entries), range);
	gm_sys_free(entries);
	return slot;
}

static uintptr_t edit_slot(struct build *b, uintptr_t slot, const struct gm_range *range);

static bool edit_slots(struct build *b, const uintptr_t *old, uint64_t base, uint32_t shift,
	uintptr_t *slots, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		struct gm_range range = slot_range(base, shift, i);

		slots[i] = edit_slot(b, old[i], &range);
		if (!slots[i])
			return false;
	}
	return true;
}

/* The slot as edited; itself if nothing changes in it. 0 without memory. */
static uintptr_t edit_slot(struct build *b, uintptr_t slot, const struct gm_range *range)
{
	struct gm_dir *old;
	struct gm_dir *dir;

	if (!is_edited(b, range))
		return slot;
	if (!gm_slot_is_dir(slot))
		return edit_leaf(b, gm_slot_leaf(slot), range);
	old = gm_slot_dir(slot);
	dir = alloc_dir(b, old->mask + 1, old->shift);
	if (!dir || !parts_add(&b->view->garbage, slot) ||
		!edit_slots(b, gm_dir_slots(old), range->first, old->shift, gm_dir_slots(dir),
			old->mask + 1))
		return 0;
	return (uintptr_t)dir + 1;
}

/* ---- the whole ---- */

/* Pieces of @view that begin in @range. */
static size_t count(const struct gm_view_full *view, const struct gm_range *range)
{
	uint64_t off;
	const struct gm_span *span = gm_table_next(&view->pub, range->first, &off);
	size_t nr = 0;

	while (span && span->first <= range->last) {
		nr++;
		span = gm_table_after(&view->pub, span, &off);
	}
	return nr;
}

static size_t count_after(const struct build *b)
{
	size_t nr = b->old->nr_spans;

	for (size_t i = 0; i < b->nr_edits; i++)
		nr += b->edits[i].nr - count(b->old, &b->edits[i].range);
	return nr;
}

/* May the new view have the old one's slots? */
static bool fits(const struct build *b, size_t nr)
{
	const struct gm_view *old = &b->old->pub;

	for (size_t i = 0; i < b->nr_edits; i++) {
		const struct gm_edit *edit = &b->edits[i];

		if (edit->nr &&
			edit->pieces[edit->nr - 1].range.last >> old->shift >= old->nr_slots)
			return false;
	}
	return old->nr_slots <= gm_table_slots(nr * 4) && gm_table_slots(nr / 2) <= old->nr_slots;
}

/* All entries of the new view, sorted; NULL without memory. */
static struct entry *list_all(const struct build *b, size_t nr)
{
	struct entry *entries = gm_sys_alloc_array(nr + 1, sizeof(*entries));
	struct gm_origin origin;
	const struct gm_span *span = gm_table_next_origin(&b->old->pub, 0, &origin);
	size_t edit = 0;
	size_t at = 0;

	while (entries && (span || edit < b->nr_edits)) {
		const struct gm_edit *next = edit < b->nr_edits ? &b->edits[edit] : NULL;

		if (next && (!span || next->range.first <= span->first)) {
			for (size_t j = 0; j < next->nr; j++)
				entries[at++] = planned(&next->pieces[j]);
			edit++;
			while (span && span->first <= next->range.last)
				span = gm_table_after_origin(&b->old->pub, span, &origin);
			continue;
		}
		entries[at++] = (struct entry){*span, origin};
		span = gm_table_after_origin(&b->old->pub, span, &origin);
	}
	return entries;
}

/* Slots anew, as the number of spans and the highest address want it. */
static bool rebuild(struct build *b, size_t nr)
{
	struct entry *entries = list_all(b, nr);
	uint32_t nr_slots = gm_table_slots(nr);
	uint32_t shift = 0;
	bool done = false;

	if (!entries)
		return false;
	while (nr && (entries[nr - 1].span.last >> shift) >= nr_slots)
		shift++;
	b->view = alloc_view(nr_slots, shift);
	if (b->view)
		done = parts_add_all(&b->view->garbage, b->old->pub.slots, b->old->pub.nr_slots) &&
		       build_slots(b, entries, nr, 0, shift, slots_of(b->view), nr_slots);
	gm_sys_free(entries);
	return done;
}

static bool edit_all(struct build *b)
{
	const struct gm_view *old = &b->old->pub;

	b->view = alloc_view(old->nr_slots, old->shift);
	return b->view &&
	       edit_slots(b, old->slots, 0, old->shift, slots_of(b->view), old->nr_slots);
}

struct gm_view_full *gm_view_edit(
	const struct gm_view_full *old, const struct gm_edit *edits, size_t nr_edits)
{
	struct build b = {.old = old, .edits = edits, .nr_edits = nr_edits};
	size_t nr = count_after(&b);
	bool done = fits(&b, nr) ? edit_all(&b) : rebuild(&b, nr);

	if (!done) {
		gm_view_discard(b.view);
		return NULL;
	}
	b.view->nr_spans = nr;
	return b.view;
}

struct gm_view_full *gm_view_copy(const struct gm_view_full *old)
{
	struct gm_view_full *view = alloc_view(old->pub.nr_slots, old->pub.shift);

	if (!view)
		return NULL;
	for (uint32_t i = 0; i < old->pub.nr_slots; i++)
		slots_of(view)[i] = old->pub.slots[i];
	view->nr_spans = old->nr_spans;
	return view;
}

/* ---- finishing ---- */

static void resolve(struct gm_span *span, const struct gm_window *window)
{
	const struct gm_piece *piece = span->owner;

	span->perms = piece->perms;
	span->owner = piece->map;
	if (piece->perms & (GM_SPAN_DEVICE | GM_SPAN_IOMMU)) {
		span->owner = piece->perms & GM_SPAN_IOMMU ? (void *)piece->node->s.iommu
							   : (void *)piece->node->s.device;
		span->delta = piece->off - piece->range.first;
	}
	if (!piece->map)
		return;
	span->delta = gm_piece_hva(piece) - piece->range.first;
	if (gm_piece_is_placed(piece, window) &&
		!(piece->perms & (GM_SPAN_DEVMEM | GM_SPAN_HOLE | GM_SPAN_PRIVATE)))
		span->direct =
			piece->perms & (piece->perms & GM_SPAN_ROMD ? GM_PERM_RX : GM_PERM_RWX);
}

/* Does memory in the edits show elsewhere too, or may it? */
static bool shows_twice(const struct gm_edit *edits, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		for (size_t j = 0; j < edits[i].nr; j++) {
			const struct gm_piece *piece = &edits[i].pieces[j];

			if (gm_node_is_memory(piece->node) &&
				(!piece->primary || __atomic_load_n(&piece->node->s.block->regions,
							    __ATOMIC_ACQUIRE) > 1))
				return true;
		}
	}
	return false;
}

void gm_view_finish(struct gm_view_full *view, const struct gm_view_full *old,
	const struct gm_window *window, const struct gm_edit *edits, size_t nr, uint64_t generation)
{
	for (size_t i = 0; i < view->fresh.nr; i++) {
		struct gm_leaf *leaf = gm_slot_leaf(view->fresh.slots[i]);

		if (gm_slot_is_dir(view->fresh.slots[i]))
			continue;
		for (uint32_t j = 0; j < leaf->nr; j++) {
			struct gm_span *span = &gm_leaf_spans(leaf)[j];

			if (span->perms & GM_SPAN_PLANNED)
				resolve(span, window);
			get_owner(span);
		}
	}
	view->finished = true;
	view->dirty = old->dirty;
	view->aliases_came = shows_twice(edits, nr);
	view->aliased = old->aliased || view->aliases_came;
	if (view->dirty)
		view->pub.filter = gm_dirty_filter(view->dirty, view->aliased);
	view->pub.window_base = window ? (uintptr_t)window->base : 0;
	view->pub.generation = generation;
	gm_hot_pick(view, old, edits, nr);
}

/* ---- questions ---- */

int gm_view_check(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms)
{
	struct gm_range range;

	if (!gm_range_make(gpa, len ? len : 1, &range))
		return -ERANGE;
	for (;;) {
		struct gm_spot spot;
		int rc = gm_access_spot(view, range.first, gm_range_extent(&range), perms, &spot);

		if (rc)
			return rc;
		if (spot.extent >= gm_range_extent(&range))
			return 0;
		range.first += spot.extent + 1;
	}
}

int gm_view_gpa(const struct gm_view *view, const void *hva, uint64_t *ret_gpa)
{
	uint64_t at = (uintptr_t)hva;
	uint64_t off;
	const struct gm_span *span = gm_table_next(view, 0, &off);

	while (span) {
		if (!(span->perms & (GM_SPAN_DEVICE | GM_SPAN_IOMMU | GM_SPAN_HOLE | GM_SPAN_FAR |
					    GM_SPAN_PRIVATE)) &&
			at - (span->delta + span->first) <= span->last - span->first) {
			*ret_gpa = at - span->delta;
			return 0;
		}
		span = gm_table_after(view, span, &off);
	}
	return -EFAULT;
}
