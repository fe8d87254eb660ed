/* SPDX-License-Identifier: BSD-3-Clause */
/* part.c - parts of regions: what they may be, and their states. */
#include <guestmem/part.h>

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/txn.h"

/* ---- what parts a region can have ---- */

int gm_txn_check_part_desc(
	const struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_error *err)
{
	const char *name = txn->space->name;

	if (desc->part > GM_PART_PRIVATE)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: no such state of parts: %u", name, desc->part);
	if (!desc->granule && (desc->part || desc->private_block || desc->private_off))
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: a region without a granule has no parts, so no state of them and no "
			"private block",
			name);
	if (!desc->granule)
		return 0;
	if (!gm_kind_is_memory(desc->kind) || desc->kind == GM_REGION_ROMD)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: only memory that is no ROM device has parts", name);
	if (!gm_is_pow2(desc->granule))
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: granule %" PRIu64 " is no power of two", name, desc->granule);
	if (desc->part == GM_PART_PRIVATE && !desc->private_block)
		return gm_error_set(err, -EINVAL, desc->gpa, desc->len,
			"%s: parts that are private need a private block", name);
	return 0;
}

/* A granule and a private block for @len bytes of a node that has its block. */
static int check_parts(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, const struct gm_region_desc *desc, struct gm_error *err)
{
	const struct gm_block *private = desc->private_block;
	uint64_t granule = desc->granule;
	const char *space = txn->space->name;

	if (!gm_is_aligned(granule, node->s.block->page_size) || !gm_is_aligned(len, granule))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\": its granule %" PRIu64
			" must be a multiple of the page size %" PRIu64
			", and its length one of the granule",
			space, gm_txn_name(node), granule, node->s.block->page_size);
	if (len / granule > GM_PARTS_MAX)
		return gm_error_set(err, -E2BIG, gpa, len,
			"%s: region \"%s\" would have more than 2^36 parts", space,
			gm_txn_name(node));
	if (!private)
		return 0;
	if (desc->private_off > private->len || len > private->len - desc->private_off)
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: region \"%s\" passes the end of its private block: offset 0x%" PRIx64
			" and %" PRIu64 " of %" PRIu64 " bytes",
			space, gm_txn_name(node), desc->private_off, len, private->len);
	if (!gm_is_aligned(granule | desc->private_off, private->page_size))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\": granule and private offset must be multiples of the "
			"private block's page size %" PRIu64,
			space, gm_txn_name(node), private->page_size);
	return 0;
}

/* The description by which a node has its parts. */
static struct gm_region_desc desc_of(const struct gm_partset *parts)
{
	return (struct gm_region_desc){
		.granule = gm_partset_granule(parts),
		.part = parts->initial,
		.private_block = parts->private_block,
		.private_off = parts->private_off,
	};
}

int gm_txn_make_parts(const struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err)
{
	uint64_t gpa = node->s.range.first;
	uint64_t len = gm_range_len(&node->s.range);
	int rc;

	if (!desc->granule)
		return 0;
	rc = check_parts(txn, node, gpa, len, desc, err);
	if (rc)
		return rc;
	node->s.parts = gm_partset_make(
		len, desc->granule, desc->part, desc->private_block, desc->private_off);
	return node->s.parts ? 0 : gm_txn_no_memory(txn, gpa, err);
}

int gm_txn_keep_parts(const struct gm_txn *txn, const struct gm_region_desc *desc,
	const struct gm_node *node, struct gm_node *other, struct gm_error *err)
{
	uint64_t gpa = node->s.range.first;
	uint64_t len = gm_range_len(&node->s.range);
	struct gm_region_desc to;
	int rc;

	if (!node->s.parts)
		return 0;
	to = desc_of(node->s.parts);
	if (desc->private_block) {
		to.private_block = desc->private_block;
		to.private_off = desc->private_off;
	}
	rc = check_parts(txn, other, gpa, len, &to, err);
	if (rc)
		return rc;
	if (!desc->private_block) {
		other->s.parts = gm_partset_get(node->s.parts);
		return 0;
	}
	other->s.parts = gm_partset_resized(node->s.parts, len);
	if (!other->s.parts)
		return gm_txn_no_memory(txn, gpa, err);
	gm_block_put(other->s.parts->private_block);
	other->s.parts->private_block = gm_block_get(to.private_block);
	other->s.parts->private_off = to.private_off;
	return 0;
}

int gm_txn_resize_parts(const struct gm_txn *txn, const struct gm_node *node, uint64_t len,
	struct gm_partset **ret, struct gm_error *err)
{
	uint64_t gpa = node->s.range.first;
	struct gm_region_desc desc;
	int rc;

	*ret = NULL;
	if (!gm_node_parts(node, &node->s) || len == gm_range_len(&node->s.range))
		return 0;
	desc = desc_of(node->s.parts);
	rc = check_parts(txn, node, gpa, len, &desc, err);
	if (rc)
		return rc;
	*ret = gm_partset_resized(node->s.parts, len);
	return *ret ? 0 : gm_txn_no_memory(txn, gpa, err);
}

/* ---- states ---- */

static int check_set(const struct gm_txn *txn, const struct gm_node *node, uint64_t off,
	uint64_t len, uint32_t state, struct gm_error *err)
{
	const struct gm_partset *parts = gm_node_parts(node, &node->s);
	uint64_t gpa = node->s.range.first;
	uint64_t all = gm_range_len(&node->s.range);
	const char *space = txn->space->name;

	if (!parts)
		return gm_error_set(err, -EINVAL, gpa, len, "%s: region \"%s\" has no parts", space,
			gm_txn_name(node));
	if (state > GM_PART_PRIVATE)
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\": no such state of parts: %u", space, gm_txn_name(node),
			state);
	if (state == GM_PART_PRIVATE && !parts->private_block)
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\" has no private block, so no private parts", space,
			gm_txn_name(node));
	if (len == 0 || !gm_is_aligned(off | len, gm_partset_granule(parts)))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: region \"%s\": parts from offset 0x%" PRIx64 ", %" PRIu64
			" bytes, are not multiples of its granule %" PRIu64,
			space, gm_txn_name(node), off, len, gm_partset_granule(parts));
	if (off > all || len > all - off)
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: region \"%s\" of %" PRIu64
			" bytes ends before the parts from offset 0x%" PRIx64 ", %" PRIu64 " bytes",
			space, gm_txn_name(node), all, off, len);
	return 0;
}

/* A set of the node's own. Others are told what was published, so nobody looks at it. */
static bool make_own(struct gm_txn *txn, struct gm_node *node)
{
	struct gm_partset *own;

	if (node->s.parts->refs == 1)
		return true;
	own = gm_partset_resized(node->s.parts, gm_range_len(&node->s.range));
	if (!own)
		return false;
	pthread_mutex_lock(&txn->space->lock);
	gm_partset_put(node->s.parts);
	node->s.parts = own;
	pthread_mutex_unlock(&txn->space->lock);
	return true;
}

int gm_txn_set_part(struct gm_txn *txn, uint64_t id, uint64_t off, uint64_t len, uint32_t state,
	struct gm_error *err)
{
	struct gm_node *node = gm_txn_find(txn, id, err);
	struct gm_range range = {off, off + (len - 1)};
	uint64_t run;
	int rc;

	if (!node)
		return -ENOENT;
	rc = check_set(txn, node, off, len, state, err);
	if (rc)
		return rc;
	if (gm_partset_run(node->s.parts, off, len, &run) == state && run == len)
		return 0;
	rc = gm_txn_touch(txn, node, err);
	if (rc)
		return rc;
	if (!make_own(txn, node) || !gm_partset_set(node->s.parts, off, len, state))
		return gm_txn_no_memory(txn, node->s.range.first, err);
	gm_txn_changed_in(txn, node, &range);
	return 0;
}

int gm_space_part(
	struct gm_space *space, uint64_t id, uint64_t off, uint32_t *ret_state, uint64_t *ret_len)
{
	const struct gm_node_state *state = NULL;
	const struct gm_node *node;
	uint64_t len;
	int rc = 0;

	pthread_mutex_lock(&space->lock);
	node = gm_node_find(&space->nodes, id);
	if (node && node != space->root)
		state = gm_space_state(node);
	if (!state)
		rc = -ENOENT;
	else if (!gm_node_parts(node, state))
		rc = -EINVAL;
	else if (off > gm_range_extent(&state->range))
		rc = -ERANGE;
	else
		*ret_state =
			gm_partset_run(state->parts, off, gm_range_len(&state->range) - off, &len);
	pthread_mutex_unlock(&space->lock);
	if (!rc && ret_len)
		*ret_len = len;
	return rc;
}
