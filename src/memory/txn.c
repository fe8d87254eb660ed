/* SPDX-License-Identifier: BSD-3-Clause */
/* txn.c - planning a change: every operation is checked against the plan when it is added. */
#include "memory/txn.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

int gm_txn_open(struct gm_space *space, struct gm_txn **ret_txn, struct gm_error *err)
{
	struct gm_txn *txn;
	int rc = gm_space_hold(space, err);

	if (rc)
		return rc;
	txn = gm_sys_alloc(sizeof(*txn));
	if (!txn) {
		gm_space_release(space);
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", space->name);
	}
	txn->space = space;
	*ret_txn = txn;
	return 0;
}

int gm_txn_begin(struct gm_space *space, struct gm_txn **ret_txn, struct gm_error *err)
{
	if (space->granted)
		return gm_error_set(err, -EPERM, 0, 0,
			"%s: this is the space of a grant, which alone changes it", space->name);
	return gm_txn_open(space, ret_txn, err);
}

/* ---- what was ---- */

static void lock(const struct gm_txn *txn)
{
	pthread_mutex_lock(&txn->space->lock);
}

static void unlock(const struct gm_txn *txn)
{
	pthread_mutex_unlock(&txn->space->lock);
}

/* Keeps what the node is, unless that was done before. */
int gm_txn_touch(struct gm_txn *txn, struct gm_node *node, struct gm_error *err)
{
	struct gm_touch *record;

	if (node->touch)
		return 0;
	record = gm_sys_alloc(sizeof(*record));
	if (!record || !gm_node_state_copy(&record->old, &node->s, node->kind)) {
		gm_sys_free(record);
		return gm_txn_no_memory(txn, node->s.range.first, err);
	}
	record->node = node;
	record->kind = node->kind;
	record->next = txn->touched;
	txn->touched = record;
	lock(txn);
	node->touch = record;
	unlock(txn);
	return 0;
}

static void link_alias(struct gm_node *alias)
{
	struct gm_node *target = alias->s.target;

	alias->s.next_alias = target->aliases;
	target->aliases = alias;
}

static void unlink_alias(struct gm_node *alias)
{
	struct gm_node **link = &alias->s.target->aliases;

	while (*link != alias)
		link = &(*link)->s.next_alias;
	*link = alias->s.next_alias;
	alias->s.next_alias = NULL;
}

static void link_node(struct gm_node *node)
{
	gm_tree_link(node);
	if (node->kind == GM_REGION_ALIAS)
		link_alias(node);
}

static void unlink_node(struct gm_node *node)
{
	gm_tree_unlink(node);
	if (node->kind == GM_REGION_ALIAS)
		unlink_alias(node);
}

static void free_txn(struct gm_txn *txn)
{
	gm_space_release(txn->space);
	gm_sys_free(txn->changed.ranges);
	gm_sys_free(txn);
}

void gm_txn_drop_gone(struct gm_txn *txn)
{
	for (struct gm_touch *record = txn->touched; record; record = record->next) {
		if (record->gone)
			gm_node_state_put(&record->node->s, record->kind);
	}
}

void gm_txn_shown(struct gm_txn *txn)
{
	for (struct gm_touch *record = txn->touched; record; record = record->next) {
		record->node->touch = NULL;
		if (record->gone)
			gm_node_free(&txn->space->nodes, record->node);
	}
}

void gm_txn_end(struct gm_txn *txn)
{
	struct gm_touch *next;

	for (struct gm_touch *record = txn->touched; record; record = next) {
		next = record->next;
		if (!record->fresh)
			gm_node_state_put(&record->old, record->kind);
		gm_sys_free(record);
	}
	free_txn(txn);
}

/* All is taken out before anything is put back: in between two may have one place. */
static void restore(struct gm_txn *txn)
{
	for (struct gm_touch *record = txn->touched; record; record = record->next) {
		if (!record->gone)
			unlink_node(record->node);
	}
	for (struct gm_touch *record = txn->touched; record; record = record->next) {
		struct gm_node *node = record->node;

		node->touch = NULL;
		gm_node_state_put(&node->s, node->kind);
		if (record->fresh) {
			gm_node_free(&txn->space->nodes, node);
		} else {
			node->s = record->old;
			link_node(node);
		}
	}
}

void gm_txn_abort(struct gm_txn *txn)
{
	struct gm_touch *next;

	if (!txn)
		return;
	lock(txn);
	restore(txn);
	unlock(txn);
	for (struct gm_touch *record = txn->touched; record; record = next) {
		next = record->next;
		gm_sys_free(record);
	}
	free_txn(txn);
}

/* ---- operations ---- */

/* Nobody finds it before it is made, nor then before it is published: @record is of a fresh one. */
static struct gm_node *alloc_node(struct gm_txn *txn, struct gm_touch *record)
{
	struct gm_node *node;

	lock(txn);
	node = gm_node_alloc(&txn->space->nodes);
	if (node) {
		node->kind = GM_NODE_UNUSED;
		node->touch = record;
	}
	unlock(txn);
	return node;
}

/* A node that is in the tree nowhere. */
static void drop_node(struct gm_txn *txn, struct gm_node *node)
{
	gm_node_state_put(&node->s, node->kind);
	lock(txn);
	node->touch = NULL;
	gm_node_free(&txn->space->nodes, node);
	unlock(txn);
}

int gm_txn_add(struct gm_txn *txn, const struct gm_region_desc *user, uint64_t *ret_id,
	struct gm_error *err)
{
	struct gm_region_desc desc;
	struct gm_touch *record;
	struct gm_node *node;
	int rc = gm_txn_copy_desc(user, &desc, err);

	if (!rc)
		rc = gm_txn_check_desc(txn, &desc, err);
	if (rc)
		return rc;
	record = gm_sys_alloc(sizeof(*record));
	if (!record)
		return gm_txn_no_memory(txn, desc.gpa, err);
	record->fresh = true;
	record->node = node = alloc_node(txn, record);
	rc = node ? gm_txn_make_node(txn, &desc, node, err) : gm_txn_no_memory(txn, desc.gpa, err);
	if (rc) {
		if (node)
			drop_node(txn, node);
		gm_sys_free(record);
		return rc;
	}
	record->kind = node->kind;
	record->next = txn->touched;
	txn->touched = record;
	lock(txn);
	link_node(node);
	unlock(txn);
	gm_txn_changed(txn, node);
	if (ret_id)
		*ret_id = node->id;
	return 0;
}

/* What the transaction itself made and removed again, with the memory that it named. */
static void forget_fresh(struct gm_txn *txn, struct gm_node *node)
{
	struct gm_touch *record = node->touch;
	struct gm_touch **link = &txn->touched;

	while (*link != record)
		link = &(*link)->next;
	*link = record->next;
	/* Until it is dropped others look at its record. */
	drop_node(txn, node);
	gm_sys_free(record);
}

int gm_txn_remove(struct gm_txn *txn, uint64_t id, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);
	const struct gm_node *user;
	int rc;

	if (!node)
		return -ENOENT;
	user = node->children ? node->children : node->aliases;
	if (user)
		return gm_error_set(err, -EBUSY, node->s.range.first, 0,
			"%s: region \"%s\" %s \"%s\"", txn->space->name, gm_txn_name(node),
			node->children ? "holds" : "is shown by alias", gm_txn_name(user));
	rc = gm_txn_touch(txn, node, err);
	if (rc)
		return rc;
	gm_txn_changed(txn, node);
	lock(txn);
	unlink_node(node);
	node->touch->gone = true;
	unlock(txn);
	if (node->touch->fresh)
		forget_fresh(txn, node);
	return 0;
}

/* The map is made anew at commit, by the block's fd. */
static void forget_map(struct gm_node *node)
{
	if (!node->s.map || !gm_block_is_shareable(node->s.block))
		return;
	gm_map_put(node->s.map);
	node->s.map = NULL;
}

/* Are the bytes that the region is to show all in its mapping? */
static bool keeps_map(const struct gm_node *node, const struct gm_range *range)
{
	const struct gm_map *map = node->s.map;

	return map && range->first == node->s.range.first &&
	       gm_range_len(range) <= map->len - (node->s.block_off - map->block_off);
}

static int change_range(
	struct gm_txn *txn, struct gm_node *node, uint64_t gpa, uint64_t len, struct gm_error *err)
{
	struct gm_partset *parts = NULL;
	struct gm_range range;
	int rc = gm_txn_check_range(txn, node, gpa, len, &range, err);

	if (!rc && node->s.enabled)
		rc = gm_txn_check_free(txn, node->s.parent, &range, node->s.priority, node,
			gm_txn_name(node), err);
	if (!rc)
		rc = gm_txn_touch(txn, node, err);
	if (!rc)
		rc = gm_txn_resize_parts(txn, node, len, &parts, err);
	if (rc)
		return rc;
	gm_txn_changed(txn, node);
	lock(txn);
	if (parts) {
		gm_partset_put(node->s.parts);
		node->s.parts = parts;
	}
	gm_tree_unlink(node);
	if (!keeps_map(node, &range))
		forget_map(node);
	node->s.range = range;
	gm_tree_link(node);
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
}

int gm_txn_move(struct gm_txn *txn, uint64_t id, uint64_t gpa, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);

	if (!node)
		return -ENOENT;
	return change_range(txn, node, gpa, gm_range_len(&node->s.range), err);
}

int gm_txn_resize(struct gm_txn *txn, uint64_t id, uint64_t len, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);

	if (!node)
		return -ENOENT;
	return change_range(txn, node, node->s.range.first, len, err);
}

/* Another state with the same references and place in the tree. */
static int amend(struct gm_txn *txn, struct gm_node *node, const struct gm_node_state *to,
	struct gm_error *err)
{
	int rc = gm_txn_touch(txn, node, err);

	if (rc)
		return rc;
	/* Where it shows now, and where it will. */
	gm_txn_changed(txn, node);
	lock(txn);
	node->s = *to;
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
}

int gm_txn_protect(struct gm_txn *txn, uint64_t id, uint32_t perms, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);
	struct gm_node_state to;
	int rc;

	if (!node)
		return -ENOENT;
	if (perms == 0)
		return gm_error_set(err, -EINVAL, node->s.range.first, 0,
			"%s: region \"%s\" needs at least one permission", txn->space->name,
			gm_txn_name(node));
	rc = gm_txn_check_perms(txn, node, perms, err);
	if (rc)
		return rc;
	to = node->s;
	to.perms = (uint8_t)perms;
	return amend(txn, node, &to, err);
}

int gm_txn_enable(struct gm_txn *txn, uint64_t id, bool enable, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);
	struct gm_node_state to;
	int rc = 0;

	if (!node)
		return -ENOENT;
	if (node->s.enabled == enable)
		return 0;
	if (enable)
		rc = gm_txn_check_free(txn, node->s.parent, &node->s.range, node->s.priority, node,
			gm_txn_name(node), err);
	if (rc)
		return rc;
	to = node->s;
	to.enabled = enable;
	return amend(txn, node, &to, err);
}

int gm_txn_prioritize(struct gm_txn *txn, uint64_t id, int32_t priority, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);
	struct gm_node_state to;
	int rc = 0;

	if (!node)
		return -ENOENT;
	if (node->s.enabled)
		rc = gm_txn_check_free(txn, node->s.parent, &node->s.range, priority, node,
			gm_txn_name(node), err);
	if (rc)
		return rc;
	to = node->s;
	to.priority = priority;
	return amend(txn, node, &to, err);
}

int gm_txn_retarget(struct gm_txn *txn, uint64_t id, uint64_t off, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);
	struct gm_node_state to;
	int rc;

	if (!node)
		return -ENOENT;
	if (node->kind != GM_REGION_ALIAS)
		return gm_error_set(err, -EINVAL, node->s.range.first, 0,
			"%s: region \"%s\" is no alias", txn->space->name, gm_txn_name(node));
	rc = gm_txn_check_target(
		txn, node, node->s.range.first, gm_range_len(&node->s.range), off, err);
	if (rc)
		return rc;
	to = node->s;
	to.block_off = off;
	return amend(txn, node, &to, err);
}

/* Other memory, in a copy of the node that takes its place if all is well. */
static int replace(struct gm_txn *txn, struct gm_node *node, const struct gm_region_desc *desc,
	struct gm_error *err)
{
	struct gm_node other = *node;
	int rc;

	other.s.block = NULL;
	other.s.map = NULL;
	other.s.name = NULL;
	other.s.parts = NULL;
	rc = gm_txn_fill_node(txn, desc, &other, err);
	if (!rc)
		rc = gm_txn_keep_parts(txn, desc, node, &other, err);
	if (!rc)
		rc = gm_txn_touch(txn, node, err);
	if (rc) {
		gm_node_state_put(&other.s, other.kind);
		return rc;
	}
	lock(txn);
	gm_node_state_put(&node->s, node->kind);
	node->s = other.s;
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
}

int gm_txn_replace(
	struct gm_txn *txn, uint64_t id, const struct gm_region_desc *user, struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);
	struct gm_region_desc desc;
	int rc;

	if (!node)
		return -ENOENT;
	rc = gm_txn_copy_desc(user, &desc, err);
	if (rc)
		return rc;
	if (!gm_node_is_memory(node) || desc.gpa != node->s.range.first ||
		(desc.len && desc.len != gm_range_len(&node->s.range)))
		return gm_error_set(err, -EINVAL, desc.gpa, desc.len,
			"%s: memory of region \"%s\" is replaced at its own address and length",
			txn->space->name, gm_txn_name(node));
	desc.len = gm_range_len(&node->s.range);
	desc.kind = node->kind;
	desc.perms = node->s.perms;
	desc.priority = node->s.priority;
	desc.target = 0;
	desc.flags = 0;
	desc.granule = node->s.parts ? gm_partset_granule(node->s.parts) : 0;
	desc.part = GM_PART_SHARED;
	if (!desc.name)
		desc.name = gm_txn_name(node);
	rc = gm_txn_check_desc(txn, &desc, err);
	return rc ? rc : replace(txn, node, &desc, err);
}
