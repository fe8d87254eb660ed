/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iotlb.c - the writer's side of iotlb.h.
 *
 * A change is made in the tree at once; in the table what stays valid is added before what is gone
 * is removed, so that readers of the parts that do not change always find them.
 */
#include "core/iotlb.h"

#include <assert.h>

/* Mappings that the clock may pass before it takes one that was used. */
#define LOOKS_MAX 32u
/* A change can leave two more than the capacity, before old ones go; and node 0 is none. */
#define NODES_MORE 3u

/* ---- storage: the head, the lines, the nodes ---- */

static uint64_t lines_at(void)
{
	return (sizeof(struct gm_iotlb) + 63) / 64 * 64;
}

static uint64_t nodes_at(uint32_t capacity)
{
	return lines_at() + gm_quick_room(capacity) * sizeof(struct gm_quick_line);
}

size_t gm_iotlb_room(uint32_t capacity)
{
	if (capacity == 0 || capacity > GM_IOTLB_CAPACITY_MAX)
		return 0;
	return nodes_at(capacity) + (capacity + NODES_MORE) * sizeof(struct gm_itree_node);
}

struct gm_iotlb *gm_iotlb_init(void *room, uint32_t capacity, uint64_t seed)
{
	struct gm_iotlb *iotlb = room;
	uint8_t *bytes = room;

	assert(gm_iotlb_room(capacity) > 0 && gm_is_aligned((uintptr_t)room, 64));
	*iotlb = (struct gm_iotlb){.capacity = capacity};
	gm_quick_init(&iotlb->quick, (struct gm_quick_line *)(bytes + lines_at()),
		(uint32_t)gm_quick_room(capacity), seed);
	gm_itree_init(&iotlb->tree, (struct gm_itree_node *)(bytes + nodes_at(capacity)));
	return iotlb;
}

/* ---- eviction ---- */

/*
 * The next mapping that no reader has hit since the clock passed it last, or the one after so many
 * that were hit. There is another one than that which begins at @keep.
 */
static struct gm_translation victim(struct gm_iotlb *iotlb, uint64_t keep)
{
	const struct gm_itree *tree = &iotlb->tree;

	for (unsigned int looks = 0;;) {
		const struct gm_itree_node *node;

		if (++iotlb->hand >= tree->fresh)
			iotlb->hand = 1;
		node = &tree->nodes[iotlb->hand];
		if (node->height == 0 || node->mapping.first == keep)
			continue;
		if (looks++ == LOOKS_MAX || !gm_quick_take_reference(&iotlb->quick, &node->mapping))
			return node->mapping;
	}
}

/* Which one goes is no matter of right or wrong: what it mapped is missing then. */
static void evict(struct gm_iotlb *iotlb, uint64_t keep)
{
	while (iotlb->tree.nr > iotlb->capacity) {
		struct gm_translation gone = victim(iotlb, keep);

		gm_itree_remove(&iotlb->tree, gone.first);
		gm_quick_remove(&iotlb->quick, &gone);
		iotlb->nr_evicted++;
	}
}

/* ---- changes ---- */

static void add(struct gm_iotlb *iotlb, const struct gm_translation *mapping)
{
	gm_itree_insert(&iotlb->tree, mapping);
	gm_quick_add(&iotlb->quick, mapping);
}

/* Takes @range out of one mapping; what is left on either side stays. */
static void cut(
	struct gm_iotlb *iotlb, const struct gm_translation *whole, const struct gm_range *range)
{
	struct gm_translation old = *whole;
	struct gm_translation left = old;
	struct gm_translation right = old;

	gm_itree_remove(&iotlb->tree, old.first);
	if (old.first < range->first) {
		left.last = range->first - 1;
		add(iotlb, &left);
	}
	if (old.last > range->last) {
		right.first = range->last + 1;
		add(iotlb, &right);
	}
	gm_quick_remove(&iotlb->quick, &old);
}

static void carve(struct gm_iotlb *iotlb, const struct gm_range *range)
{
	const struct gm_translation *next;

	while ((next = gm_itree_find(&iotlb->tree, range->first)) && next->first <= range->last)
		cut(iotlb, next, range);
}

/* Together they are one mapping: @high, which is above @low, begins behind it, and the target does
 * not wrap between them. */
static bool belong_together(const struct gm_translation *low, const struct gm_translation *high)
{
	return low->last + 1 == high->first && low->delta == high->delta &&
	       low->perms == high->perms && low->last + low->delta != UINT64_MAX;
}

/* The neighbour on one side that belongs to @mapping, if there is one. */
static bool find_neighbour(const struct gm_iotlb *iotlb, const struct gm_translation *mapping,
	bool high, struct gm_translation *ret)
{
	uint64_t edge = high ? mapping->last : mapping->first;
	const struct gm_translation *found;

	if (edge == (high ? UINT64_MAX : 0))
		return false;
	found = gm_itree_find(&iotlb->tree, high ? edge + 1 : edge - 1);
	if (!found || !(high ? belong_together(mapping, found) : belong_together(found, mapping)))
		return false;
	*ret = *found;
	return true;
}

/* Adds @mapping, as one with the neighbours that belong to it. Returns where that begins. */
static uint64_t join(struct gm_iotlb *iotlb, const struct gm_translation *mapping)
{
	struct gm_translation whole = *mapping;
	struct gm_translation low;
	struct gm_translation high;
	bool has_low = find_neighbour(iotlb, mapping, false, &low);
	bool has_high = find_neighbour(iotlb, mapping, true, &high);

	if (has_low) {
		whole.first = low.first;
		gm_itree_remove(&iotlb->tree, low.first);
	}
	if (has_high) {
		whole.last = high.last;
		gm_itree_remove(&iotlb->tree, high.first);
	}
	add(iotlb, &whole);
	if (has_low)
		gm_quick_remove(&iotlb->quick, &low);
	if (has_high)
		gm_quick_remove(&iotlb->quick, &high);
	return whole.first;
}

/* True if it is mapped like this already: a peer may say a thing twice. */
static bool is_there(const struct gm_iotlb *iotlb, const struct gm_translation *mapping)
{
	const struct gm_translation *found = gm_itree_find(&iotlb->tree, mapping->first);

	return found && found->first <= mapping->first && found->last >= mapping->last &&
	       found->delta == mapping->delta && found->perms == mapping->perms;
}

int gm_iotlb_map(struct gm_iotlb *iotlb, uint64_t generation, const struct gm_range *range,
	uint64_t target, uint32_t perms)
{
	const struct gm_translation mapping = {
		.first = range->first,
		.last = range->last,
		.delta = target - range->first,
		.perms = perms,
	};

	if (!gm_range_is_valid(range) || (perms & ~GM_PERM_RW))
		return -EINVAL;
	if (gm_range_extent(range) > UINT64_MAX - target)
		return -ERANGE;
	if (generation != iotlb->generation)
		return -ESTALE;
	if (is_there(iotlb, &mapping))
		return 0;
	carve(iotlb, range);
	evict(iotlb, join(iotlb, &mapping));
	return 0;
}

int gm_iotlb_unmap(struct gm_iotlb *iotlb, const struct gm_range *range)
{
	if (!gm_range_is_valid(range))
		return -EINVAL;
	carve(iotlb, range);
	/* A hole in a mapping makes two of it. Nothing begins where the hole does. */
	evict(iotlb, range->first);
	return 0;
}

void gm_iotlb_unmap_all(struct gm_iotlb *iotlb)
{
	gm_quick_flush(&iotlb->quick);
	gm_itree_clear(&iotlb->tree);
}

void gm_iotlb_flush_to(struct gm_iotlb *iotlb, uint64_t generation)
{
	if (generation == iotlb->generation)
		return;
	iotlb->generation = generation;
	gm_iotlb_unmap_all(iotlb);
}

/* ---- look-ups ---- */

static void note(struct gm_iotlb_list *list, const struct gm_iotlb_piece *piece)
{
	if (list->nr < list->room)
		list->pieces[list->nr] = *piece;
	list->nr++;
}

/* What is mapped of [at, last], which begins in @mapping. Returns its last address. */
static uint64_t note_mapped(struct gm_iotlb_answer *answer, const struct gm_translation *mapping,
	uint64_t at, uint64_t last, uint32_t perms)
{
	uint64_t end = mapping->last < last ? mapping->last : last;
	struct gm_iotlb_piece piece = {
		.iova = at,
		.target = at + mapping->delta,
		.len = end - at + 1,
		.perms = mapping->perms,
	};

	note((mapping->perms & perms) == perms ? &answer->good : &answer->refused, &piece);
	return end;
}

/* The gap that [at, last] begins with, before @next, if that is not NULL. */
static uint64_t note_missing(struct gm_iotlb_answer *answer, const struct gm_translation *next,
	uint64_t at, uint64_t last)
{
	uint64_t end = next && next->first <= last ? next->first - 1 : last;
	struct gm_iotlb_piece piece = {.iova = at, .len = end - at + 1};

	note(&answer->missing, &piece);
	return end;
}

static void walk(struct gm_iotlb *iotlb, uint64_t at, uint64_t last, uint32_t perms,
	struct gm_iotlb_answer *answer)
{
	for (;;) {
		const struct gm_translation *next = gm_itree_find(&iotlb->tree, at);
		uint64_t end;

		if (next && next->first <= at) {
			end = note_mapped(answer, next, at, last, perms);
			gm_quick_refill(&iotlb->quick, next);
		} else {
			end = note_missing(answer, next, at, last);
		}
		if (end == last)
			return;
		at = end + 1;
	}
}

static void clear_length(struct gm_iotlb_list *list)
{
	if (list->nr > 0 && list->room > 0)
		list->pieces[0].len = 0;
}

int gm_iotlb_lookup(struct gm_iotlb *iotlb, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iotlb_answer *answer)
{
	answer->good.nr = 0;
	answer->missing.nr = 0;
	answer->refused.nr = 0;
	if (len > 0 && len - 1 > UINT64_MAX - iova)
		return -ERANGE;
	walk(iotlb, iova, len > 0 ? iova + (len - 1) : iova, perms, answer);
	if (len == 0) {
		clear_length(&answer->good);
		clear_length(&answer->missing);
		clear_length(&answer->refused);
	}
	if (answer->missing.nr > 0)
		return -EFAULT;
	if (answer->refused.nr > 0)
		return -EACCES;
	return answer->good.nr > answer->good.room ? -ENOBUFS : 0;
}

/* ---- the walker ---- */

bool gm_iotlb_is_valid(const struct gm_iotlb *iotlb)
{
	struct gm_translation before = {0};
	uint64_t left_out = 0;
	uint64_t here = 0;
	uint64_t at = 0;

	if (!gm_itree_is_valid(&iotlb->tree) || iotlb->tree.nr > iotlb->capacity)
		return false;
	for (uint32_t i = 0; i < iotlb->tree.nr; i++) {
		const struct gm_translation *next = gm_itree_find(&iotlb->tree, at);

		if (!next || !gm_quick_count(&iotlb->quick, next, &here, &left_out) ||
			(i > 0 && belong_together(&before, next)))
			return false;
		before = *next;
		at = next->last + 1;
	}
	return gm_quick_is_valid(&iotlb->quick, here, left_out);
}
