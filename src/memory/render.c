/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * render.c - see render.h.
 *
 * The tree is walked from what shows first to what shows last: children by falling priority, what a
 * child leaves free is seen through it; last a region's own contents. Each that has contents becomes
 * a range with a rank; core/flatten decides who shows where. Addresses are absolute from the start;
 * that of a region's byte 0 is kept modulo 2^64, since an alias may begin in the middle.
 */
#include "memory/render.h"

#include <errno.h>
#include <stdlib.h>

#include "core/flatten.h"
#include "sys/sys.h"

/* Regions that are met, each as often as it is: aliases of aliases multiply. */
#define VISITS_MAX (1u << 20)

/* Something that has contents, at one place. */
struct input {
	const struct gm_node *node;
	uint64_t base; /* address of its byte 0 */
	uint8_t perms;
	bool primary;
};

struct render {
	struct input *inputs;
	struct gm_flat_in *flat;
	size_t nr;
	size_t cap;
	uint32_t nr_visits;
	/* Children of the nodes on the way down. */
	struct gm_node **stack;
	size_t nr_stack;
	size_t cap_stack;
};

/* Where a node is met. */
struct place {
	uint64_t base;
	struct gm_range clip; /* absolute; what of it can be seen */
	uint8_t perms;
	bool primary;
	unsigned int depth;
};

static int add_input(
	struct render *r, const struct gm_node *node, const struct place *place, uint8_t perms)
{
	if (r->nr == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 16;
		struct input *inputs;
		struct gm_flat_in *flat;

		inputs = gm_sys_realloc(r->inputs, cap, sizeof(*inputs));
		if (inputs)
			r->inputs = inputs;
		flat = gm_sys_realloc(r->flat, cap, sizeof(*flat));
		if (flat)
			r->flat = flat;
		if (!inputs || !flat)
			return -ENOMEM;
		r->cap = cap;
	}
	r->inputs[r->nr] = (struct input){node, place->base, perms, place->primary};
	r->flat[r->nr] = (struct gm_flat_in){
		.range = place->clip, .priority = -(int32_t)r->nr, .item = (uint32_t)r->nr};
	r->nr++;
	return 0;
}

static int push_child(void *ctx, struct gm_node *child)
{
	struct render *r = ctx;

	if (r->nr_stack == r->cap_stack) {
		size_t cap = r->cap_stack ? r->cap_stack * 2 : 16;
		struct gm_node **stack = gm_sys_realloc(r->stack, cap, sizeof(struct gm_node *));

		if (!stack)
			return -ENOMEM;
		r->stack = stack;
		r->cap_stack = cap;
	}
	r->stack[r->nr_stack++] = child;
	return 0;
}

static int by_priority(const void *a, const void *b)
{
	const struct gm_node *x = *(const struct gm_node *const *)a;
	const struct gm_node *y = *(const struct gm_node *const *)b;

	if (x->s.priority != y->s.priority)
		return x->s.priority > y->s.priority ? -1 : 1;
	return x->s.range.first < y->s.range.first ? -1 : 1;
}

static int walk(struct render *r, const struct gm_node *node, struct place place);

static int walk_children(struct render *r, const struct gm_node *node, const struct place *place)
{
	struct gm_range range = {place->clip.first - place->base, place->clip.last - place->base};
	size_t from = r->nr_stack;
	int rc = gm_tree_each(node, &range, push_child, r);
	size_t to = r->nr_stack;

	if (to - from > 1)
		qsort(r->stack + from, to - from, sizeof(struct gm_node *), by_priority);
	for (size_t i = from; i < to && !rc; i++) {
		const struct gm_node *child = r->stack[i];
		struct place inner = *place;
		struct gm_range common = range;

		if (!gm_range_intersect(&child->s.range, &range, &common))
			continue;
		inner.base = place->base + child->s.range.first;
		inner.clip.first = place->base + common.first;
		inner.clip.last = place->base + common.last;
		inner.depth++;
		rc = walk(r, child, inner);
	}
	r->nr_stack = from;
	return rc;
}

/* What shows of an alias is what shows of that part of its target. */
static int walk_target(struct render *r, const struct gm_node *alias, struct place place)
{
	const struct gm_node *target = alias->s.target;
	struct gm_range range = {.first = 0, .last = gm_node_extent(target)};
	struct gm_range seen;

	place.base -= alias->s.block_off;
	seen = (struct gm_range){place.clip.first - place.base, place.clip.last - place.base};
	if (!gm_range_intersect(&seen, &range, &seen))
		return 0;
	place.clip = (struct gm_range){place.base + seen.first, place.base + seen.last};
	place.primary = false;
	place.depth++;
	return walk(r, target, place);
}

static int walk(struct render *r, const struct gm_node *node, struct place place)
{
	uint8_t perms = place.perms & node->s.perms;
	int rc = 0;

	if (place.depth > GM_NODE_DEPTH_MAX)
		return -ELOOP;
	if (++r->nr_visits > VISITS_MAX)
		return -E2BIG;
	if (!node->s.enabled)
		return 0;
	place.perms = perms;
	if (node->children)
		rc = walk_children(r, node, &place);
	if (!rc && node->kind == GM_REGION_ALIAS)
		rc = walk_target(r, node, place);
	if (!rc && gm_node_shows(node))
		rc = add_input(r, node, &place, perms);
	return rc;
}

/* Bits for what readers do not reach of memory. */
static uint16_t part_bits(uint32_t state)
{
	static const uint16_t bits[GM_PART_STATES] = {
		[GM_PART_UNPLUGGED] = GM_SPAN_HOLE,
		[GM_PART_PRIVATE] = GM_SPAN_PRIVATE,
	};

	return bits[state];
}

static struct gm_piece piece_of(const struct input *input, const struct gm_range *range)
{
	uint64_t off = range->first - input->base;
	struct gm_piece piece = {
		.range = *range,
		.off = off,
		.node = (struct gm_node *)(uintptr_t)input->node,
		.perms = input->perms,
		.primary = input->primary,
		.parts = input->node->s.parts,
	};

	if (gm_node_is_memory(input->node))
		piece.block_off = input->node->s.block_off + off;
	else if (input->node->kind == GM_REGION_MMIO)
		piece.perms |= GM_SPAN_DEVICE;
	else if (input->node->kind == GM_REGION_IOMMU)
		piece.perms |= GM_SPAN_IOMMU;
	else
		piece.perms |= GM_SPAN_HOLE;
	if (input->node->kind == GM_REGION_ROMD)
		piece.perms |= GM_SPAN_ROMD;
	if (input->node->kind == GM_REGION_DEVMEM)
		piece.perms |= GM_SPAN_DEVMEM;
	if (gm_node_is_memory(input->node) && gm_block_is_far(input->node->s.block))
		piece.perms |= GM_SPAN_FAR;
	return piece;
}

/* A region that shows by two ways right behind where it ended shows in one piece. */
static bool joins(const struct gm_piece *a, const struct gm_piece *b)
{
	return a->node == b->node && a->perms == b->perms &&
	       gm_range_precedes(&a->range, &b->range) &&
	       b->off - a->off == b->range.first - a->range.first;
}

/* Pieces that are listed, and room for more. */
struct listing {
	struct gm_pieces *pieces;
	size_t cap;
};

static bool append(struct listing *list, const struct gm_piece *piece)
{
	struct gm_pieces *pieces = list->pieces;
	struct gm_piece *last = pieces->nr ? &pieces->items[pieces->nr - 1] : NULL;

	if (last && joins(last, piece)) {
		/* Where an alias shows it at its own addresses it might as well do without. */
		last->range.last = piece->range.last;
		last->primary |= piece->primary;
		return true;
	}
	if (pieces->nr == list->cap) {
		size_t cap = list->cap * 2;
		struct gm_piece *items = gm_sys_realloc(pieces->items, cap, sizeof(*items));

		if (!items)
			return false;
		pieces->items = items;
		list->cap = cap;
	}
	pieces->items[pieces->nr++] = *piece;
	return true;
}

/* One piece for each run of parts, or only one. */
static bool append_runs(
	struct listing *list, const struct input *input, const struct gm_range *range)
{
	const struct gm_partset *parts = input->node->s.parts;
	struct gm_range run = *range;

	for (;;) {
		uint32_t state = GM_PART_SHARED;
		struct gm_piece piece;
		uint64_t len;

		run.last = range->last;
		if (parts) {
			state = gm_partset_run(
				parts, run.first - input->base, range->last - run.first + 1, &len);
			run.last = run.first + (len - 1);
		}
		piece = piece_of(input, &run);
		piece.perms |= part_bits(state);
		if (!append(list, &piece))
			return false;
		if (run.last == range->last)
			return true;
		run.first = run.last + 1;
	}
}

static int flatten(struct render *r, struct gm_pieces *ret)
{
	struct listing list = {.pieces = ret};
	uint32_t *heap = gm_sys_alloc_array(r->nr, sizeof(*heap));
	struct gm_flat_out *out = gm_sys_alloc_array(2 * r->nr, sizeof(*out));
	size_t nr = 0;
	int rc = -ENOMEM;

	if (heap && out) {
		nr = gm_flatten(r->flat, r->nr, heap, out);
		list.cap = nr;
		ret->items = gm_sys_alloc_array(nr, sizeof(*ret->items));
	}
	if (ret->items) {
		rc = 0;
		for (size_t i = 0; i < nr && !rc; i++)
			rc = append_runs(&list, &r->inputs[out[i].item], &out[i].range) ? 0
											: -ENOMEM;
	}
	gm_sys_free(heap);
	gm_sys_free(out);
	return rc;
}

int gm_render(const struct gm_node *root, const struct gm_range *range, struct gm_pieces *ret)
{
	struct render r = {.nr = 0};
	struct place place = {.clip = *range, .perms = GM_PERM_RWX, .primary = true};
	int rc = walk(&r, root, place);

	*ret = (struct gm_pieces){0};
	if (!rc && r.nr)
		rc = flatten(&r, ret);
	gm_sys_free(r.inputs);
	gm_sys_free(r.flat);
	gm_sys_free(r.stack);
	return rc;
}
