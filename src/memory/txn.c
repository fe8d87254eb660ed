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
	if (txn) {
		txn->space = space;
		txn->next_id = space->next_id;
		txn->nr = space->regions.nr;
		txn->cap = txn->nr + 8;
		txn->plan = gm_sys_alloc_array(txn->cap, sizeof(*txn->plan));
	}
	if (!txn || !txn->plan) {
		gm_sys_free(txn);
		gm_space_release(space);
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", space->name);
	}
	for (size_t i = 0; i < txn->nr; i++) {
		txn->plan[i].region = space->regions.items[i];
		txn->plan[i].origin = space->regions.items[i];
	}
	*ret_txn = txn;
	return 0;
}

void gm_txn_abort(struct gm_txn *txn)
{
	if (!txn)
		return;
	for (size_t i = 0; i < txn->nr; i++) {
		if (gm_planned_is_fresh(&txn->plan[i]))
			gm_region_free(txn->plan[i].region);
	}
	gm_space_release(txn->space);
	gm_sys_free(txn->plan);
	gm_sys_free(txn);
}

/* ---- the sorted plan ---- */

size_t gm_txn_find_place(const struct gm_txn *txn, uint64_t gpa)
{
	size_t lo = 0;
	size_t hi = txn->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (txn->plan[mid].region->range.last < gpa)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct gm_planned *find_id(struct gm_txn *txn, uint64_t id, struct gm_error *err)
{
	for (size_t i = 0; i < txn->nr; i++) {
		if (txn->plan[i].region->id == id)
			return &txn->plan[i];
	}
	gm_error_set(err, -ENOENT, 0, 0, "%s: no region has number %" PRIu64, txn->space->name, id);
	return NULL;
}

/* Does @range meet a region of the plan other than @self? */
static int check_free(const struct gm_txn *txn, const struct gm_range *range,
	const struct gm_region *self, struct gm_error *err)
{
	for (size_t i = gm_txn_find_place(txn, range->first); i < txn->nr; i++) {
		const struct gm_region *other = txn->plan[i].region;
		struct gm_range common;

		if (other->range.first > range->last)
			break;
		if (other == self || !gm_range_intersect(&other->range, range, &common))
			continue;
		return gm_error_set(err, -EEXIST, common.first, gm_range_len(&common),
			"%s: overlaps region \"%s\" from gpa 0x%" PRIx64, txn->space->name,
			other->name, common.first);
	}
	return 0;
}

static int make_room(struct gm_txn *txn, struct gm_error *err)
{
	struct gm_planned *plan;

	if (txn->nr < txn->cap)
		return 0;
	plan = gm_sys_realloc(txn->plan, txn->cap * 2, sizeof(*plan));
	if (!plan)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", txn->space->name);
	txn->plan = plan;
	txn->cap *= 2;
	return 0;
}

/* There is room. */
static void insert(struct gm_txn *txn, struct gm_planned entry)
{
	size_t at = gm_txn_find_place(txn, entry.region->range.first);

	memmove(&txn->plan[at + 1], &txn->plan[at], (txn->nr - at) * sizeof(*txn->plan));
	txn->plan[at] = entry;
	txn->nr++;
}

static void take_out(struct gm_txn *txn, struct gm_planned *entry)
{
	size_t at = (size_t)(entry - txn->plan);

	memmove(entry, entry + 1, (txn->nr - at - 1) * sizeof(*txn->plan));
	txn->nr--;
}

/* ---- fresh regions ---- */

static uint32_t default_perms(uint32_t kind, const struct gm_block *block)
{
	if (kind == GM_REGION_RESERVED)
		return 0;
	if (kind == GM_REGION_ROM || (block->opts.flags & GM_BLOCK_READONLY))
		return GM_PERM_RX;
	return GM_PERM_RWX;
}

static int check_perms(const struct gm_txn *txn, const struct gm_region *region, uint32_t perms,
	struct gm_error *err)
{
	uint64_t gpa = region->range.first;

	if ((perms & ~GM_PERM_RWX) || (perms == 0) != (region->kind == GM_REGION_RESERVED))
		return gm_error_set(err, -EINVAL, gpa, 0,
			"%s: region \"%s\" cannot have permissions 0x%x", txn->space->name,
			region->name, perms);
	if ((perms & GM_PERM_W) && region->kind == GM_REGION_ROM)
		return gm_error_set(err, -EINVAL, gpa, 0,
			"%s: region \"%s\" is ROM and cannot be writable", txn->space->name,
			region->name);
	if ((perms & GM_PERM_W) && (region->block->opts.flags & GM_BLOCK_READONLY))
		return gm_error_set(err, -EACCES, gpa, 0,
			"%s: region \"%s\" cannot be writable: its block is read-only",
			txn->space->name, region->name);
	return 0;
}

/* Range, alignment and place within the block. */
static int check_range(const struct gm_txn *txn, const struct gm_region *region, uint64_t gpa,
	uint64_t len, struct gm_range *ret, struct gm_error *err)
{
	const struct gm_block *block = region->block;
	const char *name = txn->space->name;

	if (len == 0)
		return gm_error_set(
			err, -EINVAL, gpa, 0, "%s: region \"%s\" has length 0", name, region->name);
	if (!gm_range_make(gpa, len, ret))
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: region \"%s\" at gpa 0x%" PRIx64 " wraps past 2^64", name,
			region->name, gpa);
	if (!block)
		return 0;
	if (region->block_off > block->len || len > block->len - region->block_off)
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: region \"%s\" passes the end of its block: offset 0x%" PRIx64
			" and %" PRIu64 " of %" PRIu64 " bytes",
			name, region->name, region->block_off, len, block->len);
	if (!gm_is_aligned(gpa | len | region->block_off, block->page_size))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\": gpa, length and offset must be multiples of the page "
			"size %" PRIu64,
			name, region->name, block->page_size);
	return 0;
}

/* Memory that has no fd can be in one place only. */
static int check_exclusive(
	const struct gm_txn *txn, const struct gm_region *region, struct gm_error *err)
{
	struct gm_block *block = region->block;
	bool used;

	if (!block || !gm_block_is_exclusive(block))
		return 0;
	used = !region->map && !gm_block_is_idle(block);
	for (size_t i = 0; i < txn->nr; i++)
		used |= txn->plan[i].region->block == block;
	if (!used)
		return 0;
	return gm_error_set(err, -EBUSY, region->range.first, block->len,
		"%s: block \"%s\" has no fd and is in use already (or was, by a region that "
		"readers may "
		"still see: gm_space_wait): make it with GM_BLOCK_SHARE to use it twice",
		txn->space->name, block->name);
}

/* The block of a description: the caller's, or one that is made, in place if the addresses are
 * free. */
static int resolve_block(struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_region *region, struct gm_error *err)
{
	struct gm_block_opts opts;
	struct gm_error ignored;
	int rc;

	if (desc->block) {
		region->block = gm_block_get(desc->block);
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
	if (txn->space->window && opts.backing != GM_BACKING_POINTER)
		rc = gm_block_create_at(
			&opts, txn->space->window, desc->gpa, &region->block, err ? err : &ignored);
	/* Claimed still, or above the limit: commit or the general look-up will do. */
	if (rc == -EEXIST || rc == -ERANGE)
		rc = gm_block_create(&opts, &region->block, err);
	else if (!rc)
		region->map = gm_map_get(&region->block->home);
	if (rc && err)
		err->gpa = desc->gpa;
	return rc;
}

static int check_desc(const struct gm_txn *txn, const struct gm_region_desc *desc, bool memory,
	struct gm_error *err)
{
	const char *name = txn->space->name;

	if (desc->kind > GM_REGION_RESERVED)
		return gm_error_set(
			err, -EINVAL, desc->gpa, desc->len, "%s: no such kind of region", name);
	if (memory && !desc->block == !desc->backing)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: a region of memory needs either a block or options for one", name);
	if (!memory && (desc->block || desc->backing))
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: a reserved region has no memory", name);
	return 0;
}

/* A fresh region for a description, checked but for overlap. */
static int make_region(struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_region **ret, struct gm_error *err)
{
	bool memory = desc->kind != GM_REGION_RESERVED;
	struct gm_region *region;
	uint64_t len = desc->len;
	const char *name = desc->name;
	int rc = check_desc(txn, desc, memory, err);

	if (rc)
		return rc;
	region = gm_sys_alloc(sizeof(*region));
	if (!region)
		return gm_error_set(
			err, -ENOMEM, desc->gpa, 0, "%s: out of memory", txn->space->name);
	if (memory)
		rc = resolve_block(txn, desc, region, err);
	if (rc)
		goto fail;
	region->kind = desc->kind;
	region->block_off = desc->block_off;
	if (!name)
		name = memory ? region->block->name : "reserved";
	gm_copy_name(region->name, sizeof(region->name), name);
	if (len == 0 && memory && desc->block_off < region->block->len)
		len = region->block->len - desc->block_off;
	rc = check_range(txn, region, desc->gpa, len, &region->range, err);
	if (!rc) {
		region->perms =
			desc->perms ? desc->perms : default_perms(desc->kind, region->block);
		rc = check_perms(txn, region, region->perms, err);
	}
	if (!rc)
		rc = check_exclusive(txn, region, err);
	if (rc)
		goto fail;
	*ret = region;
	return 0;
fail:
	gm_region_free(region);
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
	const struct gm_region *self, struct gm_error *err)
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
	return check_free(txn, &range, self, err);
}

int gm_txn_add(struct gm_txn *txn, const struct gm_region_desc *user, uint64_t *ret_id,
	struct gm_error *err)
{
	struct gm_region_desc desc;
	struct gm_region *region;
	int rc = copy_desc(user, &desc, err);

	if (!rc)
		rc = make_room(txn, err);
	if (!rc)
		rc = check_early(txn, &desc, NULL, err);
	if (!rc)
		rc = make_region(txn, &desc, &region, err);
	if (rc)
		return rc;
	rc = check_free(txn, &region->range, NULL, err);
	if (rc) {
		gm_region_free(region);
		return rc;
	}
	region->id = txn->next_id++;
	insert(txn, (struct gm_planned){.region = region});
	if (ret_id)
		*ret_id = region->id;
	return 0;
}

int gm_txn_remove(struct gm_txn *txn, uint64_t id, struct gm_error *err)
{
	struct gm_planned *entry = find_id(txn, id, err);

	if (!entry)
		return -ENOENT;
	if (gm_planned_is_fresh(entry))
		gm_region_free(entry->region);
	take_out(txn, entry);
	return 0;
}

/* A region object of the transaction's own for an entry, with the same references. */
static int make_fresh(struct gm_txn *txn, struct gm_planned *entry, struct gm_error *err)
{
	struct gm_region *region;

	if (gm_planned_is_fresh(entry))
		return 0;
	region = gm_sys_alloc(sizeof(*region));
	if (!region)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", txn->space->name);
	*region = *entry->region;
	if (region->block)
		gm_block_get(region->block);
	if (region->map)
		gm_map_get(region->map);
	entry->region = region;
	return 0;
}

/* The map is made anew at commit, by the block's fd. */
static void forget_map(struct gm_region *region)
{
	if (!region->map || !gm_block_is_shareable(region->block))
		return;
	gm_map_put(region->map);
	region->map = NULL;
}

/* Does the mapping serve the region at @range too, and could no other one serve it better? */
static bool keeps_map(
	const struct gm_txn *txn, const struct gm_region *region, const struct gm_range *range)
{
	const struct gm_window *window = txn->space->window;
	const struct gm_map *map = region->map;
	uint64_t skipped = map ? region->block_off - map->block_off : 0;

	if (!map || range->first != region->range.first || gm_range_len(range) > map->len - skipped)
		return false;
	return !window || range->last >= window->limit || gm_region_is_placed(region, window);
}

static int change_range(struct gm_txn *txn, struct gm_planned *entry, uint64_t gpa, uint64_t len,
	struct gm_error *err)
{
	struct gm_planned moved;
	struct gm_range range;
	int rc = check_range(txn, entry->region, gpa, len, &range, err);

	if (!rc)
		rc = check_free(txn, &range, entry->region, err);
	if (!rc)
		rc = make_fresh(txn, entry, err);
	if (rc)
		return rc;
	moved = *entry;
	take_out(txn, entry);
	if (!keeps_map(txn, moved.region, &range))
		forget_map(moved.region);
	moved.region->range = range;
	insert(txn, moved);
	return 0;
}

int gm_txn_move(struct gm_txn *txn, uint64_t id, uint64_t gpa, struct gm_error *err)
{
	struct gm_planned *entry = find_id(txn, id, err);

	if (!entry)
		return -ENOENT;
	return change_range(txn, entry, gpa, gm_range_len(&entry->region->range), err);
}

int gm_txn_resize(struct gm_txn *txn, uint64_t id, uint64_t len, struct gm_error *err)
{
	struct gm_planned *entry = find_id(txn, id, err);

	if (!entry)
		return -ENOENT;
	return change_range(txn, entry, entry->region->range.first, len, err);
}

int gm_txn_protect(struct gm_txn *txn, uint64_t id, uint32_t perms, struct gm_error *err)
{
	struct gm_planned *entry = find_id(txn, id, err);
	int rc;

	if (!entry)
		return -ENOENT;
	if (perms == 0)
		return gm_error_set(err, -EINVAL, entry->region->range.first, 0,
			"%s: region \"%s\" needs at least one permission", txn->space->name,
			entry->region->name);
	rc = check_perms(txn, entry->region, perms, err);
	if (!rc)
		rc = make_fresh(txn, entry, err);
	if (!rc)
		entry->region->perms = perms;
	return rc;
}

int gm_txn_replace(
	struct gm_txn *txn, uint64_t id, const struct gm_region_desc *user, struct gm_error *err)
{
	struct gm_planned *entry = find_id(txn, id, err);
	struct gm_region_desc desc;
	struct gm_region *region;
	int rc;

	if (!entry)
		return -ENOENT;
	rc = copy_desc(user, &desc, err);
	if (rc)
		return rc;
	if (entry->region->kind == GM_REGION_RESERVED || desc.gpa != entry->region->range.first ||
		(desc.len && desc.len != gm_range_len(&entry->region->range)))
		return gm_error_set(err, -EINVAL, desc.gpa, desc.len,
			"%s: memory of region \"%s\" is replaced at its own address and length",
			txn->space->name, entry->region->name);
	desc.len = gm_range_len(&entry->region->range);
	desc.kind = entry->region->kind;
	desc.perms = entry->region->perms;
	if (!desc.name)
		desc.name = entry->region->name;
	rc = make_region(txn, &desc, &region, err);
	if (rc)
		return rc;
	region->id = id;
	if (gm_planned_is_fresh(entry))
		gm_region_free(entry->region);
	entry->region = region;
	return 0;
}
