/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * changed.c - where in the space does a node show?
 *
 * Upwards from the node, through the regions in which it lies and all aliases of each, to the root.
 * The answer may be too large, never too small; where it would be long it is everything.
 */
#include "memory/txn.h"

#include "sys/sys.h"

#define RANGES_MAX 1024u
#define STEPS_MAX 16384u

/* The way up. Aliases of aliases multiply, also where nothing shows. */
struct climb {
	struct gm_txn *txn;
	unsigned int nr_steps;
};

static void add(struct gm_txn *txn, const struct gm_range *range)
{
	struct gm_rangeset *set = &txn->changed;

	if (txn->all_changed)
		return;
	if (set->nr == set->cap) {
		size_t cap = set->cap ? set->cap * 2 : 8;
		struct gm_range *ranges = NULL;

		if (cap <= RANGES_MAX)
			ranges = gm_sys_realloc(set->ranges, cap, sizeof(*ranges));
		if (!ranges) {
			txn->all_changed = true;
			return;
		}
		set->ranges = ranges;
		set->cap = cap;
	}
	gm_rangeset_add(set, range);
}

/* @range is in the node's own addresses. */
static void climb(
	struct climb *c, const struct gm_node *node, struct gm_range range, unsigned int depth)
{
	struct gm_txn *txn = c->txn;
	const struct gm_node *parent = node->s.parent;
	struct gm_range whole = {0, gm_node_extent(node)};

	if (node == txn->space->root) {
		add(txn, &range);
		return;
	}
	if (depth > GM_NODE_DEPTH_MAX || ++c->nr_steps > STEPS_MAX || txn->all_changed) {
		txn->all_changed = true;
		return;
	}
	if (!node->s.enabled || !gm_range_intersect(&range, &whole, &range))
		return;
	for (const struct gm_node *alias = node->aliases; alias; alias = alias->s.next_alias) {
		uint64_t off = alias->s.block_off;
		struct gm_range part = {off, UINT64_MAX};

		/* Behind the offset, what is too much is clipped by the alias. */
		if (gm_range_intersect(&part, &range, &part))
			climb(c, alias, (struct gm_range){part.first - off, part.last - off},
				depth + 1);
	}
	if (!parent)
		return;
	climb(c, parent,
		(struct gm_range){
			node->s.range.first + range.first, node->s.range.first + range.last},
		depth + 1);
}

void gm_txn_changed(struct gm_txn *txn, const struct gm_node *node)
{
	struct gm_range whole = {0, gm_node_extent(node)};

	gm_txn_changed_in(txn, node, &whole);
}

void gm_txn_changed_in(struct gm_txn *txn, const struct gm_node *node, const struct gm_range *range)
{
	struct climb c = {.txn = txn};

	climb(&c, node, *range, 0);
}

bool gm_node_address(const struct gm_space *space, const struct gm_node *node, uint64_t *ret_addr)
{
	uint64_t addr = 0;

	for (; node != space->root; node = node->s.parent) {
		if (!node->s.parent)
			return false;
		if (__builtin_add_overflow(addr, node->s.range.first, &addr))
			return false;
	}
	*ret_addr = addr;
	return true;
}
