/* SPDX-License-Identifier: BSD-3-Clause */
/* itree.c - see itree.h. */
#include "core/itree.h"

#include <assert.h>
#include <stddef.h>

#define NONE 0u

void gm_itree_init(struct gm_itree *tree, struct gm_itree_node *nodes)
{
	*tree = (struct gm_itree){.nodes = nodes};
	nodes[NONE] = (struct gm_itree_node){0};
	gm_itree_clear(tree);
}

void gm_itree_clear(struct gm_itree *tree)
{
	tree->root = NONE;
	tree->free = NONE;
	tree->fresh = NONE + 1;
	tree->nr = 0;
}

const struct gm_translation *gm_itree_find(const struct gm_itree *tree, uint64_t addr)
{
	const struct gm_translation *best = NULL;
	uint32_t at = tree->root;

	while (at != NONE) {
		const struct gm_itree_node *node = &tree->nodes[at];

		if (node->mapping.last >= addr)
			best = &node->mapping;
		at = node->child[node->mapping.last < addr];
	}
	return best;
}

/* ---- nodes ---- */

static uint32_t take_node(struct gm_itree *tree)
{
	uint32_t at = tree->free;

	tree->nr++;
	if (at == NONE)
		return tree->fresh++;
	tree->free = tree->nodes[at].child[0];
	return at;
}

static void give_node(struct gm_itree *tree, uint32_t at)
{
	tree->nodes[at].height = 0;
	tree->nodes[at].child[0] = tree->free;
	tree->free = at;
	tree->nr--;
}

/* ---- balance ---- */

static uint32_t height_below(const struct gm_itree *tree, uint32_t at, unsigned int side)
{
	return tree->nodes[tree->nodes[at].child[side]].height;
}

static void set_height(struct gm_itree *tree, uint32_t at)
{
	uint32_t lower = height_below(tree, at, 0);
	uint32_t higher = height_below(tree, at, 1);

	tree->nodes[at].height = 1 + (lower > higher ? lower : higher);
}

/* The child on @side comes up in the place of its parent. */
static void lift(struct gm_itree *tree, uint32_t *link, unsigned int side)
{
	struct gm_itree_node *nodes = tree->nodes;
	uint32_t down = *link;
	uint32_t up = nodes[down].child[side];

	nodes[down].child[side] = nodes[up].child[!side];
	nodes[up].child[!side] = down;
	*link = up;
	set_height(tree, down);
	set_height(tree, up);
}

/* Both sides below *link are balanced and differ by two levels at most; afterwards by one. */
static void balance(struct gm_itree *tree, uint32_t *link)
{
	uint32_t lower = height_below(tree, *link, 0);
	uint32_t higher = height_below(tree, *link, 1);
	unsigned int side = higher > lower;
	uint32_t child = tree->nodes[*link].child[side];

	if (lower <= higher + 1 && higher <= lower + 1) {
		set_height(tree, *link);
		return;
	}
	if (height_below(tree, child, !side) > height_below(tree, child, side))
		lift(tree, &tree->nodes[*link].child[side], !side);
	lift(tree, link, side);
}

/* From the node that was changed up to the root. */
static void balance_path(struct gm_itree *tree, uint32_t **path, unsigned int nr)
{
	while (nr > 0)
		balance(tree, path[--nr]);
}

/* ---- changes ---- */

void gm_itree_insert(struct gm_itree *tree, const struct gm_translation *mapping)
{
	uint32_t *path[GM_ITREE_DEPTH];
	uint32_t *link = &tree->root;
	unsigned int nr = 0;

	while (*link != NONE) {
		struct gm_itree_node *node = &tree->nodes[*link];

		assert(nr < GM_ITREE_DEPTH);
		path[nr++] = link;
		link = &node->child[mapping->first > node->mapping.first];
	}
	*link = take_node(tree);
	tree->nodes[*link] = (struct gm_itree_node){.mapping = *mapping, .height = 1};
	balance_path(tree, path, nr);
}

void gm_itree_remove(struct gm_itree *tree, uint64_t first)
{
	struct gm_itree_node *nodes = tree->nodes;
	uint32_t *path[GM_ITREE_DEPTH];
	uint32_t *link = &tree->root;
	unsigned int nr = 0;
	uint32_t gone;

	while (nodes[*link].mapping.first != first || *link == NONE) {
		assert(*link != NONE && nr < GM_ITREE_DEPTH);
		path[nr++] = link;
		link = &nodes[*link].child[first > nodes[*link].mapping.first];
	}
	gone = *link;
	if (nodes[gone].child[0] != NONE && nodes[gone].child[1] != NONE) {
		/* Its successor, which has no lower child, moves here and goes there. */
		uint32_t heir = gone;

		path[nr++] = link;
		link = &nodes[heir].child[1];
		while (nodes[*link].child[0] != NONE) {
			assert(nr < GM_ITREE_DEPTH);
			path[nr++] = link;
			link = &nodes[*link].child[0];
		}
		gone = *link;
		nodes[heir].mapping = nodes[gone].mapping;
	}
	*link = nodes[gone].child[nodes[gone].child[0] == NONE];
	give_node(tree, gone);
	balance_path(tree, path, nr);
}

/* ---- the walker ---- */

static bool node_is_valid(const struct gm_itree *tree, uint32_t at)
{
	uint32_t lower = height_below(tree, at, 0);
	uint32_t higher = height_below(tree, at, 1);

	return tree->nodes[at].mapping.first <= tree->nodes[at].mapping.last &&
	       lower <= higher + 1 && higher <= lower + 1 &&
	       tree->nodes[at].height == 1 + (lower > higher ? lower : higher);
}

bool gm_itree_is_valid(const struct gm_itree *tree)
{
	uint32_t up[GM_ITREE_DEPTH];
	unsigned int nr_up = 0;
	uint32_t at = tree->root;
	uint32_t nr = 0;
	uint64_t last = 0;

	while (at != NONE || nr_up > 0) {
		if (at != NONE) {
			if (nr_up == GM_ITREE_DEPTH)
				return false;
			up[nr_up++] = at;
			at = tree->nodes[at].child[0];
			continue;
		}
		at = up[--nr_up];
		if (!node_is_valid(tree, at))
			return false;
		if (nr++ > 0 && tree->nodes[at].mapping.first <= last)
			return false;
		last = tree->nodes[at].mapping.last;
		at = tree->nodes[at].child[1];
	}
	return nr == tree->nr && tree->nodes[NONE].height == 0;
}
