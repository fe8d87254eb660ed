/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * itree.h - disjoint mappings in the order of their addresses: an AVL tree in an array.
 *
 * The caller owns the array; nothing here allocates. Nodes name each other by index, 0 is none and
 * stands for an empty tree of height 0. The tree is at most GM_ITREE_DEPTH high whatever order the
 * mappings come in. Threads: one at a time.
 */
#ifndef GM_CORE_ITREE_H
#define GM_CORE_ITREE_H

#include "core/range.h"

/* AVL: less than 1.45 log2(n + 2) levels, for the 2^25 nodes that there can be. */
#define GM_ITREE_DEPTH 40
#define GM_ITREE_NODES_MAX (1u << 25)

/* Addresses first to last lead to first + delta to last + delta, modulo 2^64. */
struct gm_translation {
	uint64_t first;
	uint64_t last;
	uint64_t delta;
	uint32_t perms;
};

struct gm_itree_node {
	struct gm_translation mapping;
	uint32_t child[2]; /* lower, higher; of a free node: the next free one */
	uint32_t height;   /* 0 if free */
};

struct gm_itree {
	struct gm_itree_node *nodes; /* [0] is none */
	uint32_t root;
	uint32_t free;  /* list of nodes that were given back */
	uint32_t fresh; /* nodes from here on were never used */
	uint32_t nr;
};

/* An empty tree over an array of room for so many mappings and one more. */
void gm_itree_init(struct gm_itree *tree, struct gm_itree_node *nodes);

/* Forgets all mappings, in constant time. */
void gm_itree_clear(struct gm_itree *tree);

/* The mapping that holds @addr or the first one above it, or NULL; borrowed until the next change.
 */
const struct gm_translation *gm_itree_find(const struct gm_itree *tree, uint64_t addr);

/* @mapping overlaps no other, and there is room. */
void gm_itree_insert(struct gm_itree *tree, const struct gm_translation *mapping);

/* A mapping begins at @first. */
void gm_itree_remove(struct gm_itree *tree, uint64_t first);

/* In order, disjoint, balanced, counted. */
bool gm_itree_is_valid(const struct gm_itree *tree);

#endif
