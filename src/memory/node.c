/* SPDX-License-Identifier: BSD-3-Clause */
/* node.c - where nodes live, and what they hold. */
#include "memory/node.h"

#include <string.h>

#include "memory/device.h"
#include "memory/iommu.h"
#include "sys/sys.h"

#define CHUNK 64u

#define ID_STEP (UINT64_C(1) << 32)

struct gm_node *gm_node_at(const struct gm_nodes *nodes, uint32_t index)
{
	return &nodes->chunks[index / CHUNK][index % CHUNK];
}

static bool add_chunk(struct gm_nodes *nodes)
{
	uint32_t room = nodes->nr_chunks;
	struct gm_node *chunk = gm_sys_alloc_array(CHUNK, sizeof(*chunk));

	/* The list has room for the next power of two. */
	if (chunk && (room & (room - 1)) == 0) {
		struct gm_node **chunks = gm_sys_realloc(
			nodes->chunks, room ? room * 2 : 1, sizeof(struct gm_node *));

		if (!chunks) {
			gm_sys_free(chunk);
			return false;
		}
		nodes->chunks = chunks;
	}
	if (!chunk)
		return false;
	nodes->chunks[nodes->nr_chunks++] = chunk;
	return true;
}

struct gm_node *gm_node_alloc(struct gm_nodes *nodes)
{
	struct gm_node *node = nodes->unused;
	uint64_t id;

	if (node) {
		nodes->unused = node->left;
		id = node->id + ID_STEP;
	} else {
		if (nodes->nr == nodes->nr_chunks * CHUNK && !add_chunk(nodes))
			return NULL;
		node = gm_node_at(nodes, nodes->nr++);
		id = nodes->nr;
	}
	memset(node, 0, sizeof(*node));
	node->id = id;
	return node;
}

void gm_node_free(struct gm_nodes *nodes, struct gm_node *node)
{
	node->kind = GM_NODE_UNUSED;
	node->left = nodes->unused;
	nodes->unused = node;
}

uint32_t gm_nodes_new_mark(struct gm_nodes *nodes)
{
	if (++nodes->mark == 0) {
		for (uint32_t i = 0; i < nodes->nr; i++)
			gm_node_at(nodes, i)->mark = 0;
		nodes->mark = 1;
	}
	return nodes->mark;
}

struct gm_node *gm_node_find(const struct gm_nodes *nodes, uint64_t id)
{
	uint64_t index = (id & (ID_STEP - 1)) - 1;
	struct gm_node *node;

	if (index >= nodes->nr)
		return NULL;
	node = gm_node_at(nodes, (uint32_t)index);
	return node->id == id && gm_node_is_used(node) ? node : NULL;
}

void gm_nodes_fini(struct gm_nodes *nodes)
{
	for (uint32_t i = 0; i < nodes->nr; i++) {
		struct gm_node *node = gm_node_at(nodes, i);

		if (gm_node_is_used(node))
			gm_node_state_put(&node->s, node->kind);
	}
	for (uint32_t i = 0; i < nodes->nr_chunks; i++)
		gm_sys_free(nodes->chunks[i]);
	gm_sys_free(nodes->chunks);
	*nodes = (struct gm_nodes){0};
}

const char *gm_node_name(const struct gm_node *node, const struct gm_node_state *state)
{
	while (!state->name && node->kind == GM_REGION_ALIAS) {
		node = state->target;
		state = &node->s;
	}
	if (state->name)
		return state->name;
	if (gm_node_is_memory(node))
		return state->block->name;
	switch (node->kind) {
	case GM_REGION_CONTAINER:
		return "container";
	case GM_REGION_MMIO:
		return "mmio";
	case GM_REGION_IOMMU:
		return "iommu";
	default:
		return "reserved";
	}
}

void gm_node_set_block(struct gm_node_state *state, struct gm_block *block)
{
	__atomic_fetch_add(&block->regions, 1, __ATOMIC_RELAXED);
	state->block = block;
}

bool gm_node_state_copy(struct gm_node_state *to, const struct gm_node_state *from, uint32_t kind)
{
	char *name = NULL;

	if (from->name) {
		name = gm_sys_alloc(strlen(from->name) + 1);
		if (!name)
			return false;
		memcpy(name, from->name, strlen(from->name));
	}
	*to = *from;
	to->name = name;
	if (kind != GM_REGION_ALIAS)
		gm_partset_get(to->parts);
	if (kind == GM_REGION_MMIO && to->device)
		gm_device_get(to->device);
	if (kind == GM_REGION_IOMMU && to->iommu)
		gm_iommu_get(to->iommu);
	if (gm_kind_is_memory(kind))
		gm_node_set_block(to, gm_block_get(from->block));
	if (to->map)
		gm_map_get(to->map);
	return true;
}

void gm_node_state_put(struct gm_node_state *state, uint32_t kind)
{
	gm_sys_free(state->name);
	if (kind != GM_REGION_ALIAS)
		gm_partset_put(state->parts);
	/* The map carries a reference of its own, so the block goes last and a home mapping with
	 * it. */
	if (kind == GM_REGION_MMIO)
		gm_device_put(state->device);
	if (kind == GM_REGION_IOMMU)
		gm_iommu_put(state->iommu);
	if (gm_kind_is_memory(kind) && state->block) {
		__atomic_fetch_sub(&state->block->regions, 1, __ATOMIC_RELEASE);
		gm_block_put(state->block);
	}
	if (state->map)
		gm_map_put(state->map);
}
