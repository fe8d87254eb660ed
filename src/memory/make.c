/* SPDX-License-Identifier: BSD-3-Clause */
/* make.c - a node from the description of a region, and the checks of what a region may be. */
#include <errno.h>
#include <guestmem/dump.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "memory/device.h"
#include "memory/iommu.h"
#include "memory/txn.h"
#include "sys/sys.h"

/* ---- looking at the plan ---- */

int gm_txn_no_memory(const struct gm_txn *txn, uint64_t gpa, struct gm_error *err)
{
	return gm_error_set(err, -ENOMEM, gpa, 0, "%s: out of memory", txn->space->name);
}

/* A node of the plan, or NULL with an error. */
struct gm_node *gm_txn_find(struct gm_txn *txn, uint64_t id, struct gm_error *err)
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

int gm_txn_check_free(const struct gm_txn *txn, const struct gm_node *parent,
	const struct gm_range *range, int32_t priority, const struct gm_node *self,
	const char *name, struct gm_error *err)
{
	struct clash clash = {.self = self, .priority = priority};
	struct gm_range common = *range;

	if (!parent || !gm_tree_each(parent, range, find_clash, &clash) ||
		!gm_range_intersect(&clash.found->s.range, range, &common))
		return 0;
	return gm_error_set(err, -EEXIST, common.first, gm_range_len(&common),
		"%s: region \"%.31s\" overlaps region \"%s\" from gpa 0x%" PRIx64, txn->space->name,
		name, gm_node_name(clash.found, &clash.found->s), common.first);
}

/* ---- checks of a node ---- */

static uint32_t default_perms(const struct gm_node *node)
{
	if (node->kind == GM_REGION_RESERVED)
		return 0;
	if (node->kind == GM_REGION_ROM ||
		(gm_node_is_memory(node) && (node->s.block->opts.flags & GM_BLOCK_READONLY)))
		return GM_PERM_RX;
	return GM_PERM_RWX;
}

int gm_txn_check_perms(
	const struct gm_txn *txn, const struct gm_node *node, uint32_t perms, struct gm_error *err)
{
	uint64_t gpa = node->s.range.first;
	const char *space = txn->space->name;

	if ((perms & ~GM_PERM_RWX) || (perms == 0) != (node->kind == GM_REGION_RESERVED))
		return gm_error_set(err, -EINVAL, gpa, 0,
			"%s: region \"%s\" cannot have permissions 0x%x", space, gm_txn_name(node),
			perms);
	if ((perms & GM_PERM_W) && node->kind == GM_REGION_ROM)
		return gm_error_set(err, -EINVAL, gpa, 0,
			"%s: region \"%s\" is ROM and cannot be writable", space,
			gm_txn_name(node));
	if ((perms & GM_PERM_W) && gm_node_is_memory(node) && node->kind != GM_REGION_ROMD &&
		(node->s.block->opts.flags & GM_BLOCK_READONLY))
		return gm_error_set(err, -EACCES, gpa, 0,
			"%s: region \"%s\" cannot be writable: its block is read-only", space,
			gm_txn_name(node));
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
			space, gm_txn_name(node), off, len, block->len);
	if (!gm_is_aligned(gpa | len | off, block->page_size))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\": gpa, length and offset must be multiples of the page "
			"size %" PRIu64,
			space, gm_txn_name(node), block->page_size);
	return 0;
}

int gm_txn_check_target(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, uint64_t off, struct gm_error *err)
{
	uint64_t extent = gm_node_extent(node->s.target);

	if (off > extent || (len - 1) > extent - off)
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: alias \"%s\" passes the end of \"%s\": offset 0x%" PRIx64
			" and %" PRIu64 " bytes",
			txn->space->name, gm_txn_name(node), gm_txn_name(node->s.target), off, len);
	return 0;
}

int gm_txn_check_range(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, struct gm_range *ret, struct gm_error *err)
{
	const char *space = txn->space->name;

	if (len == 0 && gpa == 0 &&
		(node->kind == GM_REGION_CONTAINER || node->kind == GM_REGION_IOMMU)) {
		*ret = (struct gm_range){0, UINT64_MAX};
		return 0;
	}
	if (len == 0)
		return gm_error_set(err, -EINVAL, gpa, 0, "%s: region \"%s\" has length 0", space,
			gm_txn_name(node));
	if (!gm_range_make(gpa, len, ret))
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: region \"%s\" at gpa 0x%" PRIx64 " wraps past 2^64", space,
			gm_txn_name(node), gpa);
	if (gm_node_is_memory(node))
		return check_memory(txn, node, gpa, len, err);
	if (node->kind == GM_REGION_ALIAS)
		return gm_txn_check_target(txn, node, gpa, len, node->s.block_off, err);
	return 0;
}

/* Writes find the device by the block, so that no other region may have it. */
static int check_device_block(
	const struct gm_txn *txn, const struct gm_node *node, struct gm_error *err)
{
	struct gm_block *block = node->s.block;

	if (__atomic_load_n(&block->regions, __ATOMIC_ACQUIRE) == 1 &&
		(node->s.map || gm_block_is_idle(block)))
		return 0;
	return gm_error_set(err, -EBUSY, node->s.range.first, block->len,
		"%s: block \"%s\" of a ROM device is in use elsewhere", txn->space->name,
		block->name);
}

/* Memory that has no fd can be in one region only. */
static int check_exclusive(
	const struct gm_txn *txn, const struct gm_node *node, struct gm_error *err)
{
	struct gm_block *block = node->s.block;

	if (node->kind == GM_REGION_ROMD)
		return check_device_block(txn, node, err);
	if (block->device)
		return gm_error_set(err, -EBUSY, node->s.range.first, block->len,
			"%s: block \"%s\" is or was a ROM device's", txn->space->name, block->name);
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
	struct gm_error why = {0};
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
		rc = gm_block_create_at(&opts, window, gpa, &block, &why);
	/* Claimed still, or above the limit: commit or the general look-up will do. */
	if (rc == -EEXIST || rc == -ERANGE)
		rc = gm_block_create(&opts, &block, &why);
	else if (!rc)
		node->s.map = gm_map_get(&block->home);
	if (!rc)
		gm_node_set_block(&node->s, block);
	else if (gm_error_pass(err, &why, rc) && err)
		err->gpa = desc->gpa;
	return rc;
}

int gm_txn_check_desc(
	const struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_error *err)
{
	bool memory = gm_kind_is_memory(desc->kind);
	bool device = desc->kind == GM_REGION_MMIO || desc->kind == GM_REGION_ROMD;
	const char *name = txn->space->name;

	if (desc->kind > GM_REGION_DEVMEM)
		return gm_error_set(
			err, -EINVAL, desc->gpa, desc->len, "%s: no such kind of region", name);
	if (desc->flags & ~(GM_REGION_DISABLED | GM_REGION_HOTPLUGGABLE))
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: unknown flags 0x%x of a region", name, desc->flags);
	if (desc->numa_plus > GM_NODE_NUMA_MAX)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: NUMA node %u is above 2^23 - 2", name, desc->numa_plus - 1);
	if (memory && !desc->block == !desc->backing)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: a region of memory needs either a block or options for one", name);
	if (!memory && (desc->block || desc->backing))
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len, "%s: %s has no memory",
			name,
			desc->kind == GM_REGION_RESERVED    ? "a reserved region"
			: desc->kind == GM_REGION_CONTAINER ? "a container"
			: desc->kind == GM_REGION_MMIO      ? "a region of MMIO"
			: desc->kind == GM_REGION_IOMMU     ? "a region of an IOMMU"
							    : "an alias");
	if (device != !!desc->device)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: MMIO and ROM devices have a device, and no other region has", name);
	if ((desc->kind == GM_REGION_IOMMU) != !!desc->iommu)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: a region of an IOMMU has one, and no other region has", name);
	if (desc->kind != GM_REGION_ALIAS && desc->target)
		return gm_error_set(
			err, -EINVAL, desc->gpa, desc->len, "%s: only an alias has a target", name);
	return gm_txn_check_part_desc(txn, desc, err);
}

/* What it shows must not show it. Marks nodes with @mark, so that none is gone through twice. */
static bool is_below(
	struct gm_node *node, const struct gm_node *above, unsigned int depth, uint32_t mark)
{
	if (!node || node->mark == mark)
		return false;
	if (node == above || depth > GM_NODE_DEPTH_MAX)
		return true;
	node->mark = mark;
	for (struct gm_node *alias = node->aliases; alias; alias = alias->s.next_alias) {
		if (is_below(alias, above, depth + 1, mark))
			return true;
	}
	return is_below(node->s.parent, above, depth + 1, mark);
}

/* The parent, and the target of an alias. */
static int resolve_relatives(struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err)
{
	struct gm_node *parent = txn->space->root;

	if (desc->parent == GM_REGION_DETACHED)
		parent = NULL;
	else if (desc->parent)
		parent = gm_txn_find(txn, desc->parent, err);
	if (desc->parent && desc->parent != GM_REGION_DETACHED && !parent)
		return -ENOENT;
	if (parent && parent->kind == GM_REGION_ALIAS)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: nothing can lie in alias \"%s\"", txn->space->name,
			gm_txn_name(parent));
	node->s.parent = parent;
	if (desc->kind != GM_REGION_ALIAS)
		return 0;
	node->s.target = gm_txn_find(txn, desc->target, err);
	if (!node->s.target)
		return -ENOENT;
	if (is_below(parent, node->s.target, 0, gm_nodes_new_mark(&txn->space->nodes)))
		return gm_error_set(err, -ELOOP, desc->gpa, desc->len,
			"%s: an alias in \"%s\" of \"%s\" would show itself", txn->space->name,
			gm_txn_name(parent), gm_txn_name(node->s.target));
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
		return gm_txn_no_memory(txn, node->s.range.first, err);
	memcpy(node->s.name, name, strlen(name));
	return 0;
}

/* A block that was a ROM device's before becomes this one's. */
static int set_device(const struct gm_region_desc *desc, struct gm_node *node, struct gm_error *err)
{
	struct gm_block *block = node->s.block;
	struct gm_device *device;
	int rc = gm_device_create(desc->device, &device, err);

	if (rc)
		return rc;
	device->block_off = node->s.block_off;
	gm_device_put(block->device);
	block->device = device;
	return 0;
}

/* Sections must keep both maps, and nothing may lead back to where it came from. */
static int set_iommu(const struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err)
{
	struct gm_space *space = txn->space;

	if (!gm_iommu_is_below(desc->iommu, space))
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: its IOMMU leads to space \"%s\", over which it was not made",
			space->name, gm_iommu_target(desc->iommu)->name);
	/* Never counted down: whoever reads an older view may still use it. */
	if (!gm_space_count(space, &space->nr_iommus))
		return gm_error_set(err, -ENOTSUP, desc->gpa, desc->len,
			"%s: it has logs, in which what is written through the spaces over it "
			"would not be: end the logs before it gets an IOMMU",
			space->name);
	gm_iommu_get(desc->iommu);
	node->s.iommu = desc->iommu;
	return 0;
}

/* Memory and the rest of a node's state, for which its kind, parent and place are known. */
int gm_txn_fill_node(const struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err)
{
	uint64_t len = desc->len;
	uint32_t perms;
	int rc = 0;

	if (gm_node_is_memory(node))
		rc = resolve_block(txn, desc, node, err);
	else if (node->kind == GM_REGION_MMIO)
		rc = gm_device_create(desc->device, &node->s.device, err);
	else if (node->kind == GM_REGION_IOMMU)
		rc = set_iommu(txn, desc, node, err);

	node->s.block_off = desc->block_off;
	node->s.priority = desc->priority;
	if (!rc)
		rc = set_name(txn, node, desc->name, err);
	if (rc)
		return rc;
	if (gm_node_is_memory(node) && len == 0 && desc->block_off < node->s.block->len)
		len = node->s.block->len - desc->block_off;
	rc = gm_txn_check_range(txn, node, desc->gpa, len, &node->s.range, err);
	if (rc)
		return rc;
	perms = desc->perms ? desc->perms : default_perms(node);
	rc = gm_txn_check_perms(txn, node, perms, err);
	node->s.perms = (uint8_t)perms;
	if (!rc && gm_node_is_memory(node))
		rc = check_exclusive(txn, node, err);
	if (!rc && node->kind == GM_REGION_ROMD)
		rc = set_device(desc, node, err);
	return rc;
}

int gm_txn_copy_desc(
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
	return gm_txn_check_free(txn, parent, &range, desc->priority, NULL,
		desc->name ? desc->name : gm_region_kind_name(desc->kind), err);
}

int gm_txn_make_node(struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_node *node,
	struct gm_error *err)
{
	/* While it is of no kind it cannot be its own parent or target. */
	int rc = resolve_relatives(txn, desc, node, err);

	pthread_mutex_lock(&txn->space->lock);
	node->kind = (uint8_t)desc->kind;
	pthread_mutex_unlock(&txn->space->lock);
	node->label = desc->label;
	node->numa_plus = desc->numa_plus & GM_NODE_NUMA_MAX;
	node->hotpluggable = (desc->flags & GM_REGION_HOTPLUGGABLE) != 0;
	node->s.enabled = !(desc->flags & GM_REGION_DISABLED);
	if (!rc)
		rc = check_early(txn, desc, node->s.parent, err);
	if (!rc)
		rc = gm_txn_fill_node(txn, desc, node, err);
	if (!rc)
		rc = gm_txn_make_parts(txn, desc, node, err);
	if (!rc && node->s.enabled)
		rc = gm_txn_check_free(txn, node->s.parent, &node->s.range, node->s.priority, NULL,
			gm_txn_name(node), err);
	return rc;
}
