/* SPDX-License-Identifier: BSD-3-Clause */
/* txn.c - planning a change: every operation is checked against the plan when it is added. */
#include "memory/txn.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

int gm_txn_begin(struct gm_space *space, struct gm_txn **ret_txn, struct gm_error *err)
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

/* ---- what was ---- */

static int no_memory(const struct gm_txn *txn, uint64_t gpa, struct gm_error *err)
{
	return gm_error_set(err, -ENOMEM, gpa, 0, "%s: out of memory", txn->space->name);
}

static void lock(const struct gm_txn *txn)
{
	pthread_mutex_lock(&txn->space->lock);
}

static void unlock(const struct gm_txn *txn)
{
	pthread_mutex_unlock(&txn->space->lock);
}

/* Keeps what the node is, unless that was done before. */
static int touch(struct gm_txn *txn, struct gm_node *node, struct gm_error *err)
{
	struct gm_touch *record;

	if (node->touch)
		return 0;
	record = gm_sys_alloc(sizeof(*record));
	if (!record || !gm_node_state_copy(node, &record->old, &node->s)) {
		gm_sys_free(record);
		return no_memory(txn, node->s.range.first, err);
	}
	record->node = node;
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

	alias->next_alias = target->aliases;
	target->aliases = alias;
}

static void unlink_alias(struct gm_node *alias)
{
	struct gm_node **link = &alias->s.target->aliases;

	while (*link != alias)
		link = &(*link)->next_alias;
	*link = alias->next_alias;
	alias->next_alias = NULL;
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

void gm_txn_settle(struct gm_txn *txn)
{
	struct gm_touch *next;

	for (struct gm_touch *record = txn->touched; record; record = next) {
		struct gm_node *node = record->node;

		next = record->next;
		if (!record->fresh)
			gm_node_state_put(node, &record->old);
		lock(txn);
		node->touch = NULL;
		if (record->gone) {
			gm_node_state_put(node, &node->s);
			gm_node_free(&txn->space->nodes, node);
		}
		unlock(txn);
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
		gm_node_state_put(node, &node->s);
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

/* ---- looking at the plan ---- */

/* A node of the plan, or NULL with an error. */
static struct gm_node *find_id(struct gm_txn *txn, uint64_t id, struct gm_error *err)
{
	struct gm_node *node = gm_node_find(&txn->space->nodes, id);

	if (node && node != txn->space->root && !(node->touch && node->touch->gone))
		return node;
	gm_error_set(err, -ENOENT, 0, 0, "%s: no region has number %" PRIu64, txn->space->name, id);
	return NULL;
}

/* Another region of a priority. */
struct clash {
	const struct gm_node *self;
	int32_t priority;
	const struct gm_node *found;
};

static int find_clash(void *ctx, struct gm_node *child)
{
	struct clash *clash = ctx;

	if (child == clash->self || child->s.priority != clash->priority || !child->s.enabled)
		return 0;
	clash->found = child;
	return 1;
}

/* Does @range meet a region of the same parent and priority other than @self? */
static int check_free(const struct gm_txn *txn, const struct gm_node *parent,
	const struct gm_range *range, int32_t priority, const struct gm_node *self,
	struct gm_error *err)
{
	struct clash clash = {.self = self, .priority = priority};
	struct gm_range common;

	if (!parent || !gm_tree_each(parent, range, find_clash, &clash))
		return 0;
	gm_range_intersect(&clash.found->s.range, range, &common);
	return gm_error_set(err, -EEXIST, common.first, gm_range_len(&common),
		"%s: overlaps region \"%s\" from gpa 0x%" PRIx64, txn->space->name,
		gm_node_name(clash.found, &clash.found->s), common.first);
}

/* ---- checks of a node ---- */

static const char *name_of(const struct gm_node *node)
{
	return gm_node_name(node, &node->s);
}

static uint32_t default_perms(const struct gm_node *node)
{
	if (node->kind == GM_REGION_RESERVED)
		return 0;
	if (node->kind == GM_REGION_ROM ||
		(gm_node_is_memory(node) && (node->s.block->opts.flags & GM_BLOCK_READONLY)))
		return GM_PERM_RX;
	return GM_PERM_RWX;
}

static int check_perms(
	const struct gm_txn *txn, const struct gm_node *node, uint32_t perms, struct gm_error *err)
{
	uint64_t gpa = node->s.range.first;
	const char *space = txn->space->name;

	if ((perms & ~GM_PERM_RWX) || (perms == 0) != (node->kind == GM_REGION_RESERVED))
		return gm_error_set(err, -EINVAL, gpa, 0,
			"%s: region \"%s\" cannot have permissions 0x%x", space, name_of(node),
			perms);
	if ((perms & GM_PERM_W) && node->kind == GM_REGION_ROM)
		return gm_error_set(err, -EINVAL, gpa, 0,
			"%s: region \"%s\" is ROM and cannot be writable", space, name_of(node));
	if ((perms & GM_PERM_W) && gm_node_is_memory(node) &&
		(node->s.block->opts.flags & GM_BLOCK_READONLY))
		return gm_error_set(err, -EACCES, gpa, 0,
			"%s: region \"%s\" cannot be writable: its block is read-only", space,
			name_of(node));
	return 0;
}

/* Alignment and place within the block. */
static int check_memory(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, struct gm_error *err)
{
	const struct gm_block *block = node->s.block;
	uint64_t off = node->s.block_off;
	const char *space = txn->space->name;

	if (off > block->len || len > block->len - off)
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: region \"%s\" passes the end of its block: offset 0x%" PRIx64
			" and %" PRIu64 " of %" PRIu64 " bytes",
			space, name_of(node), off, len, block->len);
	if (!gm_is_aligned(gpa | len | off, block->page_size))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\": gpa, length and offset must be multiples of the page "
			"size %" PRIu64,
			space, name_of(node), block->page_size);
	return 0;
}

static int check_target(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, uint64_t off, struct gm_error *err)
{
	uint64_t extent = gm_node_extent(node->s.target);

	if (off > extent || (len - 1) > extent - off)
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: alias \"%s\" passes the end of \"%s\": offset 0x%" PRIx64
			" and %" PRIu64 " bytes",
			txn->space->name, name_of(node), name_of(node->s.target), off, len);
	return 0;
}

static int check_range(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, struct gm_range *ret, struct gm_error *err)
{
	const char *space = txn->space->name;

	if (len == 0 && node->kind == GM_REGION_CONTAINER && gpa == 0) {
		*ret = (struct gm_range){0, UINT64_MAX};
		return 0;
	}
	if (len == 0)
		return gm_error_set(err, -EINVAL, gpa, 0, "%s: region \"%s\" has length 0", space,
			name_of(node));
	if (!gm_range_make(gpa, len, ret))
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: region \"%s\" at gpa 0x%" PRIx64 " wraps past 2^64", space,
			name_of(node), gpa);
	if (gm_node_is_memory(node))
		return check_memory(txn, node, gpa, len, err);
	if (node->kind == GM_REGION_ALIAS)
		return check_target(txn, node, gpa, len, node->s.block_off, err);
	return 0;
}

/* Memory that has no fd can be in one region only. */
static int check_exclusive(
	const struct gm_txn *txn, const struct gm_node *node, struct gm_error *err)
{
	struct gm_block *block = node->s.block;

	if (!gm_block_is_exclusive(block))
		return 0;
	if (__atomic_load_n(&block->regions, __ATOMIC_ACQUIRE) == 1 &&
		(node->s.map || gm_block_is_idle(block)))
		return 0;
	return gm_error_set(err, -EBUSY, node->s.range.first, block->len,
		"%s: block \"%s\" has no fd and is in use already (or was, by a region that "
		"readers may still see: gm_space_wait): make it with GM_BLOCK_SHARE to use it "
		"twice, or show the region by an alias",
		txn->space->name, block->name);
}

/* ---- making a node ---- */

/* Where a region would lie in the window, if it is to show there without an alias. */
static struct gm_window *window_for(const struct gm_txn *txn, const struct gm_region_desc *desc,
	const struct gm_node *parent, uint64_t *ret_gpa)
{
	uint64_t addr;

	if (!parent || !gm_node_address(txn->space, parent, &addr) ||
		__builtin_add_overflow(addr, desc->gpa, ret_gpa))
		return NULL;
	return txn->space->window;
}

/* The block of a description: the caller's, or one that is made, in place if the addresses are
 * free. */
static int resolve_block(const struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err)
{
	struct gm_block_opts opts;
	struct gm_window *window;
	struct gm_block *block;
	struct gm_error ignored;
	uint64_t gpa = 0;
	int rc;

	if (desc->block) {
		gm_node_set_block(&node->s, gm_block_get(desc->block));
		return 0;
	}
	rc = gm_opts_copy(&opts, sizeof(opts), desc->backing, sizeof(opts));
	if (rc)
		return gm_opts_error(err, rc, "block of the region");
	if (opts.len == 0)
		opts.len = desc->len;
	if (!opts.name)
		opts.name = desc->name;
	rc = -EEXIST;
	window = window_for(txn, desc, node->s.parent, &gpa);
	if (window && opts.backing != GM_BACKING_POINTER)
		rc = gm_block_create_at(&opts, window, gpa, &block, err ? err : &ignored);
	/* Claimed still, or above the limit: commit or the general look-up will do. */
	if (rc == -EEXIST || rc == -ERANGE)
		rc = gm_block_create(&opts, &block, err);
	else if (!rc)
		node->s.map = gm_map_get(&block->home);
	if (!rc)
		gm_node_set_block(&node->s, block);
	else if (err)
		err->gpa = desc->gpa;
	return rc;
}

static int check_desc(
	const struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_error *err)
{
	bool memory = desc->kind <= GM_REGION_ROM;
	const char *name = txn->space->name;

	if (desc->kind > GM_REGION_ALIAS)
		return gm_error_set(
			err, -EINVAL, desc->gpa, desc->len, "%s: no such kind of region", name);
	if (desc->flags & ~GM_REGION_DISABLED)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: unknown flags 0x%x of a region", name, desc->flags);
	if (memory && !desc->block == !desc->backing)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: a region of memory needs either a block or options for one", name);
	if (!memory && (desc->block || desc->backing))
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len, "%s: a %s has no memory",
			name,
			desc->kind == GM_REGION_RESERVED    ? "reserved region"
			: desc->kind == GM_REGION_CONTAINER ? "container"
							    : "alias");
	if (desc->kind != GM_REGION_ALIAS && desc->target)
		return gm_error_set(
			err, -EINVAL, desc->gpa, desc->len, "%s: only an alias has a target", name);
	return 0;
}

/* What it shows must not show it. */
static bool is_below(const struct gm_node *node, const struct gm_node *above, unsigned int depth)
{
	if (!node || depth > GM_NODE_DEPTH_MAX)
		return node;
	if (node == above)
		return true;
	for (const struct gm_node *alias = node->aliases; alias; alias = alias->next_alias) {
		if (is_below(alias, above, depth + 1))
			return true;
	}
	return is_below(node->s.parent, above, depth + 1);
}

/* The parent, and the target of an alias. */
static int resolve_relatives(struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err)
{
	struct gm_node *parent = txn->space->root;

	if (desc->parent == GM_REGION_DETACHED)
		parent = NULL;
	else if (desc->parent)
		parent = find_id(txn, desc->parent, err);
	if (desc->parent && desc->parent != GM_REGION_DETACHED && !parent)
		return -ENOENT;
	if (parent && parent->kind == GM_REGION_ALIAS)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: nothing can lie in alias \"%s\"", txn->space->name, name_of(parent));
	node->s.parent = parent;
	if (node->kind != GM_REGION_ALIAS)
		return 0;
	node->s.target = find_id(txn, desc->target, err);
	if (!node->s.target)
		return -ENOENT;
	if (is_below(parent, node->s.target, 0))
		return gm_error_set(err, -ELOOP, desc->gpa, desc->len,
			"%s: an alias in \"%s\" of \"%s\" would show itself", txn->space->name,
			name_of(parent), name_of(node->s.target));
	return 0;
}

static int set_name(
	const struct gm_txn *txn, struct gm_node *node, const char *from, struct gm_error *err)
{
	char name[32];

	if (!from)
		return 0;
	gm_copy_name(name, sizeof(name), from);
	node->s.name = gm_sys_alloc(strlen(name) + 1);
	if (!node->s.name)
		return no_memory(txn, node->s.range.first, err);
	memcpy(node->s.name, name, strlen(name));
	return 0;
}

/* Memory and the rest of a node's state, for which its kind, parent and place are known. */
static int fill_node(const struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err)
{
	uint64_t len = desc->len;
	uint32_t perms;
	int rc = gm_node_is_memory(node) ? resolve_block(txn, desc, node, err) : 0;

	node->s.block_off = desc->block_off;
	node->s.priority = desc->priority;
	if (!rc)
		rc = set_name(txn, node, desc->name, err);
	if (rc)
		return rc;
	if (gm_node_is_memory(node) && len == 0 && desc->block_off < node->s.block->len)
		len = node->s.block->len - desc->block_off;
	rc = check_range(txn, node, desc->gpa, len, &node->s.range, err);
	if (rc)
		return rc;
	perms = desc->perms ? desc->perms : default_perms(node);
	rc = check_perms(txn, node, perms, err);
	node->s.perms = (uint8_t)perms;
	if (!rc && gm_node_is_memory(node))
		rc = check_exclusive(txn, node, err);
	return rc;
}

static int copy_desc(
	const struct gm_region_desc *user, struct gm_region_desc *desc, struct gm_error *err)
{
	int rc = gm_opts_copy(desc, sizeof(*desc), user, sizeof(*desc));

	if (rc)
		gm_opts_error(err, rc, "region");
	return rc;
}

/* Before memory is made for it, the range that the description names is looked at. */
static int check_early(const struct gm_txn *txn, const struct gm_region_desc *desc,
	const struct gm_node *parent, struct gm_error *err)
{
	struct gm_range range;
	uint64_t len = desc->len;

	if (len == 0 && desc->backing && desc->backing->size >= sizeof(*desc->backing))
		len = desc->backing->len;
	if (len == 0)
		return 0;
	if (!gm_range_make(desc->gpa, len, &range))
		return gm_error_set(err, -ERANGE, desc->gpa, len,
			"%s: %" PRIu64 " bytes at gpa 0x%" PRIx64 " wrap past 2^64",
			txn->space->name, len, desc->gpa);
	if (desc->flags & GM_REGION_DISABLED)
		return 0;
	return check_free(txn, parent, &range, desc->priority, NULL, err);
}

/* ---- operations ---- */

static struct gm_node *alloc_node(struct gm_txn *txn)
{
	struct gm_node *node;

	lock(txn);
	node = gm_node_alloc(&txn->space->nodes);
	if (node)
		node->kind = GM_REGION_RESERVED;
	unlock(txn);
	return node;
}

/* A node that is in the tree nowhere. */
static void drop_node(struct gm_txn *txn, struct gm_node *node)
{
	gm_node_state_put(node, &node->s);
	lock(txn);
	gm_node_free(&txn->space->nodes, node);
	unlock(txn);
}

static int make_node(struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_node *node,
	struct gm_error *err)
{
	int rc;

	node->kind = (uint8_t)desc->kind;
	node->label = desc->label;
	node->s.enabled = !(desc->flags & GM_REGION_DISABLED);
	rc = resolve_relatives(txn, desc, node, err);
	if (!rc)
		rc = check_early(txn, desc, node->s.parent, err);
	if (!rc)
		rc = fill_node(txn, desc, node, err);
	if (!rc && node->s.enabled)
		rc = check_free(txn, node->s.parent, &node->s.range, node->s.priority, NULL, err);
	return rc;
}

int gm_txn_add(struct gm_txn *txn, const struct gm_region_desc *user, uint64_t *ret_id,
	struct gm_error *err)
{
	struct gm_region_desc desc;
	struct gm_touch *record = NULL;
	struct gm_node *node;
	int rc = copy_desc(user, &desc, err);

	if (!rc)
		rc = check_desc(txn, &desc, err);
	if (rc)
		return rc;
	node = alloc_node(txn);
	if (!node)
		return no_memory(txn, desc.gpa, err);
	record = gm_sys_alloc(sizeof(*record));
	rc = record ? make_node(txn, &desc, node, err) : no_memory(txn, desc.gpa, err);
	if (rc) {
		drop_node(txn, node);
		gm_sys_free(record);
		return rc;
	}
	*record = (struct gm_touch){.node = node, .fresh = true, .next = txn->touched};
	txn->touched = record;
	lock(txn);
	node->touch = record;
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
	gm_sys_free(record);
	drop_node(txn, node);
}

int gm_txn_remove(struct gm_txn *txn, uint64_t id, struct gm_error *err)
{
	struct gm_node *node = find_id(txn, id, err);
	const struct gm_node *user;
	int rc;

	if (!node)
		return -ENOENT;
	user = node->children ? node->children : node->aliases;
	if (user)
		return gm_error_set(err, -EBUSY, node->s.range.first, 0,
			"%s: region \"%s\" %s \"%s\"", txn->space->name, name_of(node),
			node->children ? "holds" : "is shown by alias", name_of(user));
	rc = touch(txn, node, err);
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
	struct gm_range range;
	int rc = check_range(txn, node, gpa, len, &range, err);

	if (!rc && node->s.enabled)
		rc = check_free(txn, node->s.parent, &range, node->s.priority, node, err);
	if (!rc)
		rc = touch(txn, node, err);
	if (rc)
		return rc;
	gm_txn_changed(txn, node);
	lock(txn);
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
	struct gm_node *node = find_id(txn, id, err);

	if (!node)
		return -ENOENT;
	return change_range(txn, node, gpa, gm_range_len(&node->s.range), err);
}

int gm_txn_resize(struct gm_txn *txn, uint64_t id, uint64_t len, struct gm_error *err)
{
	struct gm_node *node = find_id(txn, id, err);

	if (!node)
		return -ENOENT;
	return change_range(txn, node, node->s.range.first, len, err);
}

int gm_txn_protect(struct gm_txn *txn, uint64_t id, uint32_t perms, struct gm_error *err)
{
	struct gm_node *node = find_id(txn, id, err);
	int rc;

	if (!node)
		return -ENOENT;
	if (perms == 0)
		return gm_error_set(err, -EINVAL, node->s.range.first, 0,
			"%s: region \"%s\" needs at least one permission", txn->space->name,
			name_of(node));
	rc = check_perms(txn, node, perms, err);
	if (!rc)
		rc = touch(txn, node, err);
	if (rc)
		return rc;
	lock(txn);
	node->s.perms = (uint8_t)perms;
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
}

int gm_txn_enable(struct gm_txn *txn, uint64_t id, bool enable, struct gm_error *err)
{
	struct gm_node *node = find_id(txn, id, err);
	int rc = 0;

	if (!node)
		return -ENOENT;
	if (node->s.enabled == enable)
		return 0;
	if (enable)
		rc = check_free(txn, node->s.parent, &node->s.range, node->s.priority, node, err);
	if (!rc)
		rc = touch(txn, node, err);
	if (rc)
		return rc;
	gm_txn_changed(txn, node);
	lock(txn);
	node->s.enabled = enable;
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
}

int gm_txn_prioritize(struct gm_txn *txn, uint64_t id, int32_t priority, struct gm_error *err)
{
	struct gm_node *node = find_id(txn, id, err);
	int rc = 0;

	if (!node)
		return -ENOENT;
	if (node->s.enabled)
		rc = check_free(txn, node->s.parent, &node->s.range, priority, node, err);
	if (!rc)
		rc = touch(txn, node, err);
	if (rc)
		return rc;
	lock(txn);
	node->s.priority = priority;
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
}

int gm_txn_retarget(struct gm_txn *txn, uint64_t id, uint64_t off, struct gm_error *err)
{
	struct gm_node *node = find_id(txn, id, err);
	int rc;

	if (!node)
		return -ENOENT;
	if (node->kind != GM_REGION_ALIAS)
		return gm_error_set(err, -EINVAL, node->s.range.first, 0,
			"%s: region \"%s\" is no alias", txn->space->name, name_of(node));
	rc = check_target(txn, node, node->s.range.first, gm_range_len(&node->s.range), off, err);
	if (!rc)
		rc = touch(txn, node, err);
	if (rc)
		return rc;
	lock(txn);
	node->s.block_off = off;
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
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
	rc = fill_node(txn, desc, &other, err);
	if (!rc)
		rc = touch(txn, node, err);
	if (rc) {
		gm_node_state_put(&other, &other.s);
		return rc;
	}
	lock(txn);
	gm_node_state_put(node, &node->s);
	node->s = other.s;
	unlock(txn);
	gm_txn_changed(txn, node);
	return 0;
}

int gm_txn_replace(
	struct gm_txn *txn, uint64_t id, const struct gm_region_desc *user, struct gm_error *err)
{
	struct gm_node *node = find_id(txn, id, err);
	struct gm_region_desc desc;
	int rc;

	if (!node)
		return -ENOENT;
	rc = copy_desc(user, &desc, err);
	if (rc)
		return rc;
	if (!gm_node_is_memory(node) || desc.gpa != node->s.range.first ||
		(desc.len && desc.len != gm_range_len(&node->s.range)))
		return gm_error_set(err, -EINVAL, desc.gpa, desc.len,
			"%s: memory of region \"%s\" is replaced at its own address and length",
			txn->space->name, name_of(node));
	desc.len = gm_range_len(&node->s.range);
	desc.kind = node->kind;
	desc.perms = node->s.perms;
	desc.priority = node->s.priority;
	desc.target = 0;
	desc.flags = 0;
	if (!desc.name)
		desc.name = name_of(node);
	rc = check_desc(txn, &desc, err);
	return rc ? rc : replace(txn, node, &desc, err);
}
