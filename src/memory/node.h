/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * node.h - the tree of regions that a space is made of.
 *
 * Nodes are changed in place by the open transaction, which keeps what they were; they are never
 * looked at by readers. A node's range is relative to its parent. What a transaction has not
 * touched it sees as published.
 */
#ifndef GM_MEMORY_NODE_H
#define GM_MEMORY_NODE_H

#include <guestmem/space.h>

#include "core/kinds.h"
#include "core/range.h"
#include "memory/block.h"
#include "memory/partset.h"
#include "memory/view.h"

#define GM_NODE_DEPTH_MAX 64u

/* What a transaction can change. References are the state's own. */
struct gm_node_state {
	struct gm_range range;
	struct gm_node *parent; /* NULL: the root, or in no tree */
	union {
		struct gm_block *block;   /* memory */
		struct gm_node *target;   /* an alias */
		struct gm_device *device; /* MMIO */
		struct gm_iommu *iommu;
	};
	uint64_t block_off; /* or the target's offset */
	struct gm_map *map; /* through which memory is reached but by way of an alias */
	char *name;         /* the state's own, or NULL: that of the block or the kind */
	union {
		struct gm_partset *parts;   /* but of an alias, or NULL: gm_node_parts() */
		struct gm_node *next_alias; /* of an alias: the next of the same target */
	};
	int32_t priority;
	uint8_t perms;
	bool enabled;
};

struct gm_node {
	uint64_t id;
	struct gm_node_state s;
	/* among the children of its parent: */
	struct gm_node *left;
	struct gm_node *right;
	uint64_t max_last; /* of itself and those below left and right */
	struct gm_node *children;
	struct gm_node *aliases; /* of this one, by next_alias */
	struct gm_touch *touch;  /* by the open transaction, or NULL */
	uint64_t label;
	uint32_t mark; /* of the search that has been here last */
	uint32_t numa_plus : 23;
	uint32_t hotpluggable : 1;
	uint8_t kind;
};

/* There are many of them. */
_Static_assert(sizeof(struct gm_node) <= 144, "no larger than need be");

#define GM_NODE_NUMA_MAX ((1u << 23) - 1)

/* What the open transaction did to a node. */
struct gm_touch {
	struct gm_touch *next;
	struct gm_node *node;
	struct gm_node_state old;
	uint32_t kind;
	bool fresh; /* made by it */
	bool gone;  /* to be removed */
};

/* All nodes of a space: by number, from chunks that stay where they are. */
struct gm_nodes {
	struct gm_node **chunks;
	uint32_t nr_chunks;
	uint32_t nr;            /* ever used */
	struct gm_node *unused; /* by left */
	uint32_t mark;          /* of the last search */
};

#define GM_NODE_UNUSED UINT8_MAX /* kind of a node that is none */

static inline bool gm_node_is_used(const struct gm_node *node)
{
	return node->kind != GM_NODE_UNUSED;
}

static inline bool gm_node_is_memory(const struct gm_node *node)
{
	return gm_kind_is_memory(node->kind);
}

/* The lower half of a number is the index plus one, the upper half rises with each use of it. */
static inline uint32_t gm_node_index(const struct gm_node *node)
{
	return (uint32_t)node->id - 1;
}

/* Does something of its own lie at its addresses, behind its children? */
static inline bool gm_node_shows(const struct gm_node *node)
{
	return node->kind != GM_REGION_CONTAINER && node->kind != GM_REGION_ALIAS;
}

/* The parts that a state of the node has, or NULL. */
static inline struct gm_partset *gm_node_parts(
	const struct gm_node *node, const struct gm_node_state *state)
{
	return node->kind == GM_REGION_ALIAS ? NULL : state->parts;
}

static inline uint64_t gm_node_extent(const struct gm_node *node)
{
	return gm_range_extent(&node->s.range);
}

const char *gm_node_name(const struct gm_node *node, const struct gm_node_state *state);

/* A zeroed node with a number, or NULL. */
struct gm_node *gm_node_alloc(struct gm_nodes *nodes);
void gm_node_free(struct gm_nodes *nodes, struct gm_node *node);
/* A mark that no node has. */
uint32_t gm_nodes_new_mark(struct gm_nodes *nodes);
struct gm_node *gm_node_at(const struct gm_nodes *nodes, uint32_t index);
/* The node with a number, or NULL. */
struct gm_node *gm_node_find(const struct gm_nodes *nodes, uint64_t id);
void gm_nodes_fini(struct gm_nodes *nodes);

/* Takes a reference over. */
void gm_node_set_block(struct gm_node_state *state, struct gm_block *block);

/* Gives back what a state holds; takes the same for a copy of it, which may lack memory. */
void gm_node_state_put(struct gm_node_state *state, uint32_t kind);
bool gm_node_state_copy(struct gm_node_state *to, const struct gm_node_state *from, uint32_t kind);

/* ---- tree.c: the children of a node, by address ---- */

void gm_tree_link(struct gm_node *node);
void gm_tree_unlink(struct gm_node *node);

/*
 * Calls @fn for each child that meets @range (relative to the parent) in rising order, until it
 * returns other than 0, which is returned.
 */
int gm_tree_each(const struct gm_node *parent, const struct gm_range *range,
	int (*fn)(void *ctx, struct gm_node *child), void *ctx);

/* ---- piece: how a stretch of memory is reached ---- */

/* What shows of memory by a span or piece with these bits: enum gm_part. */
static inline uint32_t gm_part_of(uint32_t perms)
{
	if (perms & GM_SPAN_PRIVATE)
		return GM_PART_PRIVATE;
	return perms & GM_SPAN_HOLE ? GM_PART_UNPLUGGED : GM_PART_SHARED;
}

static inline uint64_t gm_piece_hva(const struct gm_piece *piece)
{
	return (uintptr_t)piece->map->hva + (piece->block_off - piece->map->block_off);
}

static inline bool gm_piece_is_placed(const struct gm_piece *piece, const struct gm_window *window)
{
	return window && piece->map && piece->map->hva &&
	       gm_piece_hva(piece) == (uintptr_t)window->base + piece->range.first;
}

#endif
