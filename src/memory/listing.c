/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listing.c - see listing.h.
 *
 * The tree itself is that of the open transaction's plan. What is published is found by looking at
 * all nodes, each of which knows what it was; sorted by parent and address they are a tree again. A
 * region that is in no tree may hold others however deep, so nothing here recurses.
 */
#include "memory/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "memory/space.h"
#include "sys/sys.h"

/* ---- writing down ---- */

static void hold_blocks(const struct gm_region_info *info)
{
	if (info->block)
		gm_block_get(info->block);
	if (info->private_block)
		gm_block_get(info->private_block);
}

static void drop_blocks(const struct gm_region_info *info)
{
	gm_block_put(info->block);
	gm_block_put(info->private_block);
}

static void add_node(
	const struct gm_space *space, const struct gm_node *node, struct gm_listing *listing)
{
	struct gm_listing_node *to = &listing->nodes[listing->nr_nodes++];
	const struct gm_node_state *s = gm_space_state(node);

	*to = (struct gm_listing_node){.info.size = sizeof(to->info)};
	gm_space_describe(space, node, NULL, 0, &to->info);
	hold_blocks(&to->info);
	if (node->kind == GM_REGION_ALIAS)
		gm_copy_name(
			to->target_name, sizeof(to->target_name), gm_space_node_name(s->target));
}

static void add_span(const struct gm_space *space, const struct gm_span *span, uint64_t off,
	struct gm_listing *listing)
{
	struct gm_region_info *to = &listing->flat[listing->nr_flat++];

	*to = (struct gm_region_info){.size = sizeof(*to)};
	gm_space_describe(space, gm_node_at(&space->nodes, span->node), span, off, to);
	to->gpa = span->first;
	to->len = span->last - span->first + 1;
	hold_blocks(to);
}

/* All that is published, with the lock held; the lists have room. */
static void copy(const struct gm_space *space, bool flat, struct gm_listing *listing)
{
	const struct gm_span *span;
	uint64_t off;

	memcpy(listing->name, space->name, sizeof(listing->name));
	for (uint32_t i = 0; i < space->nodes.nr; i++) {
		const struct gm_node *node = gm_node_at(&space->nodes, i);

		if (node != space->root && gm_space_state(node))
			add_node(space, node, listing);
	}
	span = flat ? gm_table_next(space->view, 0, &off) : NULL;
	while (span) {
		add_span(space, span, off, listing);
		span = gm_table_after(space->view, span, &off);
	}
}

static size_t nr_spans(const struct gm_space *space)
{
	return ((const struct gm_view_full *)(const void *)space->view)->nr_spans;
}

/* ---- the order ---- */

static int by_place(const void *a, const void *b)
{
	const struct gm_region_info *x = &((const struct gm_listing_node *)a)->info;
	const struct gm_region_info *y = &((const struct gm_listing_node *)b)->info;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	if (x->gpa != y->gpa && x->parent != GM_REGION_DETACHED)
		return x->gpa < y->gpa ? -1 : 1;
	if (x->priority != y->priority && x->parent != GM_REGION_DETACHED)
		return x->priority > y->priority ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* Items of each list. */
struct room {
	size_t nodes;
	size_t flat;
	size_t spans; /* for the sections of a listener */
	size_t listeners;
};

static struct room needed(const struct gm_space *space, uint32_t what)
{
	bool listeners = what & GM_DUMP_LISTENERS;

	return (struct room){
		.nodes = space->nodes.nr,
		.flat = what & GM_DUMP_FLAT ? nr_spans(space) : 0,
		.spans = listeners ? nr_spans(space) : 0,
		.listeners = listeners ? gm_listeners_count(space) : 0,
	};
}

static bool make_room(
	const struct room *room, struct gm_listing *listing, struct gm_sections *sections)
{
	gm_sys_free(listing->nodes);
	gm_sys_free(listing->flat);
	gm_sys_free(listing->listeners);
	gm_sections_free(sections);
	listing->nodes = gm_sys_alloc_array(room->nodes, sizeof(*listing->nodes));
	listing->flat = gm_sys_alloc_array(room->flat, sizeof(*listing->flat));
	listing->listeners = gm_sys_alloc_array(room->listeners, sizeof(*listing->listeners));
	sections->items = gm_sys_alloc_array(room->spans, sizeof(*sections->items));
	sections->cap = room->spans;
	return listing->nodes && listing->flat && listing->listeners && sections->items;
}

int gm_listing_take(struct gm_space *space, uint32_t what, struct gm_listing *ret)
{
	struct gm_sections sections = {0};
	struct room room = {0};
	bool fits = false;
	int rc = 0;

	*ret = (struct gm_listing){0};
	while (!fits) {
		struct room need;

		/* Never of length 0, and with some room for what comes meanwhile. */
		room = (struct room){
			room.nodes + 16, room.flat + 16, room.spans + 16, room.listeners + 4};
		if (!make_room(&room, ret, &sections)) {
			rc = -ENOMEM;
			break;
		}
		pthread_mutex_lock(&space->lock);
		need = needed(space, what);
		fits = need.nodes <= room.nodes && need.flat <= room.flat &&
		       need.spans <= room.spans && need.listeners <= room.listeners;
		if (fits) {
			copy(space, (what & GM_DUMP_FLAT) != 0, ret);
			ret->nr_listeners = need.listeners;
			if (what & GM_DUMP_LISTENERS)
				gm_listeners_list(space, &sections, ret->listeners);
		}
		pthread_mutex_unlock(&space->lock);
		room = need;
	}
	gm_sections_free(&sections);
	if (rc)
		gm_listing_drop(ret);
	else
		qsort(ret->nodes, ret->nr_nodes, sizeof(*ret->nodes), by_place);
	return rc;
}

void gm_listing_drop(struct gm_listing *listing)
{
	for (size_t i = 0; i < listing->nr_nodes; i++)
		drop_blocks(&listing->nodes[i].info);
	for (size_t i = 0; i < listing->nr_flat; i++)
		drop_blocks(&listing->flat[i]);
	gm_sys_free(listing->nodes);
	gm_sys_free(listing->flat);
	gm_sys_free(listing->listeners);
	*listing = (struct gm_listing){0};
}

/* ---- walking ---- */

/* The first region in @parent, or one that lies elsewhere. */
static size_t first_in(const struct gm_listing *listing, uint64_t parent)
{
	size_t lo = 0;
	size_t hi = listing->nr_nodes;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (listing->nodes[mid].info.parent < parent)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool lies_in(const struct gm_listing *listing, size_t at, uint64_t parent)
{
	return at < listing->nr_nodes && listing->nodes[at].info.parent == parent;
}

/* Depth, address and flags, by those of the region in which it lies (NULL: at the top). */
static void settle(struct gm_listing_node *node, const struct gm_listing_node *up)
{
	bool detached = node->info.parent == GM_REGION_DETACHED;
	uint32_t hidden = node->info.flags & GM_REGION_DISABLED ? GM_WALK_HIDDEN : 0;

	node->depth = up ? up->depth + 1 : 0;
	node->flags = hidden | (up ? up->flags : detached ? GM_WALK_DETACHED : GM_WALK_ADDRESS);
	node->addr = detached ? 0 : node->info.gpa;
	if (up && __builtin_add_overflow(up->addr, node->info.gpa, &node->addr))
		node->flags &= ~GM_WALK_ADDRESS;
}

static int visit(const struct gm_listing_node *node,
	int (*fn)(void *ctx, const struct gm_walk_step *step), void *ctx)
{
	struct gm_walk_step step = {
		.info = &node->info,
		.target_name = node->info.kind == GM_REGION_ALIAS ? node->target_name : NULL,
		.addr = node->addr,
		.depth = node->depth,
		.flags = node->flags,
	};

	return fn(ctx, &step);
}

/* All in one tree: that of the space, or one of those that are none of it. */
static int walk_from(struct gm_listing *listing, uint64_t parent,
	int (*fn)(void *ctx, const struct gm_walk_step *step), void *ctx)
{
	struct gm_listing_node *nodes = listing->nodes;
	size_t at = first_in(listing, parent);
	uint32_t depth = 0;
	size_t up = 0;

	while (lies_in(listing, at, parent)) {
		uint64_t id = nodes[at].info.id;
		size_t below = first_in(listing, id);
		int rc;

		settle(&nodes[at], depth ? &nodes[up] : NULL);
		nodes[at].up = up;
		rc = visit(&nodes[at], fn, ctx);
		if (rc)
			return rc;
		if (lies_in(listing, below, id)) {
			up = at;
			parent = id;
			at = below;
			depth++;
			continue;
		}
		at++;
		/* Up again, as often as nothing is left. */
		while (depth && !lies_in(listing, at, parent)) {
			at = up + 1;
			parent = nodes[up].info.parent;
			up = nodes[up].up;
			depth--;
		}
	}
	return 0;
}

int gm_listing_walk(struct gm_listing *listing,
	int (*fn)(void *ctx, const struct gm_walk_step *step), void *ctx)
{
	int rc = walk_from(listing, 0, fn, ctx);

	return rc ? rc : walk_from(listing, GM_REGION_DETACHED, fn, ctx);
}

int gm_space_walk(
	struct gm_space *space, int (*fn)(void *ctx, const struct gm_walk_step *step), void *ctx)
{
	struct gm_listing listing;
	int rc = gm_listing_take(space, 0, &listing);

	if (rc)
		return rc;
	rc = gm_listing_walk(&listing, fn, ctx);
	gm_listing_drop(&listing);
	return rc;
}
