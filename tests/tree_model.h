/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree_model.h - a tree of regions as a plain array, and who shows at one address of it.
 *
 * The oracle of test_tree.c. It knows nothing of ranges that are cut or joined: it goes down from
 * the space for each address by itself. All that lies in the space lies in the three universes of
 * universe.h, of which each address stands for one unit of bytes.
 */
#ifndef GM_TESTS_TREE_MODEL_H
#define GM_TESTS_TREE_MODEL_H

#include <guestmem/part.h>

#include "universe.h"

#define MODEL_NODES 24
#define MODEL_PARTS 16
#define MODEL_POINTS (U_SIZE * (unsigned int)NR_UNIVERSES)

/* As parents, beside the index of a node. */
#define MODEL_ROOT (-1)
#define MODEL_DETACHED (-2)

struct model_node {
	uint64_t id; /* 0: unused */
	uint64_t first;
	uint64_t last;
	uint64_t off; /* byte of the block or of the target */
	uint64_t label;
	int parent;
	int target;
	int block;
	int32_t priority;
	uint32_t kind;
	uint32_t perms;
	bool enabled;
	uint64_t granule; /* 0: no parts */
	uint32_t part;    /* of what it grows by */
	bool has_private;
	uint8_t parts[MODEL_PARTS];
};

struct model {
	uint64_t unit;
	struct model_node nodes[MODEL_NODES];
};

/* What shows in one place or stretch; a node of -1: nothing. */
struct model_shown {
	uint64_t first;
	uint64_t last;
	uint64_t off;
	uint32_t perms;
	uint32_t part;
	int node;
};

/* The address of point 0 to MODEL_POINTS - 1, in rising order. */
uint64_t model_address(const struct model *m, unsigned int point);

struct model_shown model_show(const struct model *m, uint64_t addr);

/* All that shows, joined where it can be; returns the number of stretches. */
unsigned int model_stretches(const struct model *m, struct model_shown ret[MODEL_POINTS]);

int model_find(const struct model *m, uint64_t id);
int model_unused(const struct model *m);
bool model_is_memory(const struct model_node *node);

/* Would @range of @parent meet a node of this priority, other than @self, that is enabled? */
bool model_clashes(const struct model *m, int parent, const struct gm_range *range,
	int32_t priority, int self);

/* The lowest address at which it does. */
uint64_t model_clash_at(const struct model *m, int parent, const struct gm_range *range,
	int32_t priority, int self);

/* Does @from hold or show, over any number of steps, what lies in @node? */
bool model_leads_to(const struct model *m, int from, int node);

/* Does another node lie in it or show it? */
bool model_is_used(const struct model *m, int node);

#endif
