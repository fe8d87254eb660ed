/* SPDX-License-Identifier: BSD-3-Clause */
/* tree_model.c - see tree_model.h. */
#include "tree_model.h"

#include <stddef.h>

/* Rising: the bottom, the middle, the top. */
static const unsigned int rising[NR_UNIVERSES] = {0, 2, 1};

uint64_t model_address(const struct model *m, unsigned int point)
{
	unsigned int which = rising[point / U_SIZE];
	uint64_t base = universes[which];

	/* A larger unit lets the same universe begin so much earlier. */
	if (which == 1)
		base = UINT64_MAX - (U_SIZE * m->unit - 1);
	else if (which == 2)
		base = (UINT64_C(1) << 63) - U_SIZE / 2 * m->unit;
	return base + point % U_SIZE * m->unit;
}

bool model_is_memory(const struct model_node *node)
{
	return node->kind == GM_REGION_RAM || node->kind == GM_REGION_ROM;
}

static bool holds(const struct model_node *node, uint64_t addr)
{
	return node->id && node->enabled && addr >= node->first && addr <= node->last;
}

/* The highest child of @parent below @under (or at all) that holds @addr; -1 if there is none. */
static int next_child(const struct model *m, int parent, uint64_t addr, int under)
{
	int best = -1;

	for (int i = 0; i < MODEL_NODES; i++) {
		const struct model_node *node = &m->nodes[i];

		if (node->parent != parent || !holds(node, addr))
			continue;
		if (under >= 0 && node->priority >= m->nodes[under].priority)
			continue;
		if (best < 0 || node->priority > m->nodes[best].priority)
			best = i;
	}
	return best;
}

static bool descend(
	const struct model *m, int index, uint64_t addr, uint32_t perms, struct model_shown *ret);

static bool descend_children(
	const struct model *m, int parent, uint64_t addr, uint32_t perms, struct model_shown *ret)
{
	for (int child = next_child(m, parent, addr, -1); child >= 0;
		child = next_child(m, parent, addr, child)) {
		if (descend(m, child, addr - m->nodes[child].first, perms, ret))
			return true;
	}
	return false;
}

/* What shows at byte @addr of a node, which has it. */
static bool descend(
	const struct model *m, int index, uint64_t addr, uint32_t perms, struct model_shown *ret)
{
	const struct model_node *node = &m->nodes[index];

	if (!node->enabled)
		return false;
	perms &= node->perms;
	if (descend_children(m, index, addr, perms, ret))
		return true;
	if (node->kind == GM_REGION_CONTAINER)
		return false;
	if (node->kind == GM_REGION_ALIAS) {
		const struct model_node *target = &m->nodes[node->target];

		/* The target may have become shorter than it was. */
		addr += node->off;
		return addr <= target->last - target->first &&
		       descend(m, node->target, addr, perms, ret);
	}
	ret->node = index;
	ret->off = addr;
	ret->perms = perms;
	ret->part = node->granule ? node->parts[addr / node->granule] : GM_PART_SHARED;
	return true;
}

struct model_shown model_show(const struct model *m, uint64_t addr)
{
	struct model_shown shown = {.first = addr, .last = addr + (m->unit - 1), .node = -1};

	descend_children(m, MODEL_ROOT, addr, GM_PERM_RWX, &shown);
	return shown;
}

static bool joins(const struct model_shown *a, const struct model_shown *b)
{
	return a->node == b->node && a->perms == b->perms && a->part == b->part &&
	       b->first == a->last + 1 && b->off - a->off == b->first - a->first;
}

unsigned int model_stretches(const struct model *m, struct model_shown ret[MODEL_POINTS])
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < MODEL_POINTS; i++) {
		struct model_shown shown = model_show(m, model_address(m, i));

		if (shown.node < 0)
			continue;
		if (nr && joins(&ret[nr - 1], &shown))
			ret[nr - 1].last = shown.last;
		else
			ret[nr++] = shown;
	}
	return nr;
}

int model_find(const struct model *m, uint64_t id)
{
	for (int i = 0; i < MODEL_NODES; i++) {
		if (m->nodes[i].id == id)
			return i;
	}
	return -1;
}

int model_unused(const struct model *m)
{
	return model_find(m, 0);
}

static bool is_rival(const struct model *m, int index, int parent, const struct gm_range *range,
	int32_t priority, int self)
{
	const struct model_node *node = &m->nodes[index];

	return index != self && node->id && node->enabled && node->parent == parent &&
	       node->priority == priority && node->first <= range->last &&
	       range->first <= node->last;
}

bool model_clashes(
	const struct model *m, int parent, const struct gm_range *range, int32_t priority, int self)
{
	for (int i = 0; parent != MODEL_DETACHED && i < MODEL_NODES; i++) {
		if (is_rival(m, i, parent, range, priority, self))
			return true;
	}
	return false;
}

uint64_t model_clash_at(
	const struct model *m, int parent, const struct gm_range *range, int32_t priority, int self)
{
	uint64_t at = UINT64_MAX;

	for (int i = 0; i < MODEL_NODES; i++) {
		uint64_t first = m->nodes[i].first;

		if (!is_rival(m, i, parent, range, priority, self))
			continue;
		if (first < range->first)
			first = range->first;
		if (first < at)
			at = first;
	}
	return at;
}

bool model_leads_to(const struct model *m, int from, int node)
{
	if (node < 0)
		return false;
	if (from == node || model_leads_to(m, from, m->nodes[node].parent))
		return true;
	for (int i = 0; i < MODEL_NODES; i++) {
		if (m->nodes[i].id && m->nodes[i].kind == GM_REGION_ALIAS &&
			m->nodes[i].target == node && model_leads_to(m, from, i))
			return true;
	}
	return false;
}

bool model_is_used(const struct model *m, int node)
{
	for (int i = 0; i < MODEL_NODES; i++) {
		const struct model_node *other = &m->nodes[i];

		if (other->id && (other->parent == node ||
					 (other->kind == GM_REGION_ALIAS && other->target == node)))
			return true;
	}
	return false;
}
