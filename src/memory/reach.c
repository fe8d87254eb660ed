/* SPDX-License-Identifier: BSD-3-Clause */
/* reach.c - see reach.h. */
#include "memory/reach.h"

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "core/table.h"

/* With the space's lock. */
static void hold(struct gm_space *space, const struct gm_span *span, uint64_t off,
	const struct gm_range *range, struct gm_reach *ret)
{
	struct gm_map *map = (struct gm_map *)(uintptr_t)span->owner;
	const struct gm_node *node = gm_node_at(&space->nodes, span->node);
	const struct gm_partset *parts = gm_node_parts(node, gm_space_state(node));
	uint64_t first = range->first > span->first ? range->first : span->first;

	*ret = (struct gm_reach){
		.range = {first, range->last < span->last ? range->last : span->last},
		.kind = node->kind,
		.perms = span->perms & GM_PERM_RWX,
		.part = gm_part_of(span->perms),
		.map = map,
		.block = map->block,
		.block_off = span->delta + first - (uintptr_t)map->hva + map->block_off,
	};
	if (!(span->perms & GM_SPAN_FAR))
		ret->hva = (uint8_t *)(uintptr_t)(span->delta + first);
	gm_map_pin(map);
	if (parts && parts->private_block) {
		ret->private_block = gm_block_get(parts->private_block);
		ret->private_off = parts->private_off + off + (first - span->first);
	}
}

static bool is_memory(const struct gm_span *span)
{
	return span->owner && !(span->perms & (GM_SPAN_DEVICE | GM_SPAN_IOMMU));
}

int gm_reach_get(struct gm_space *space, const struct gm_range *range, struct gm_reach *ret)
{
	const struct gm_span *span;
	uint64_t off;
	int rc = 0;

	pthread_mutex_lock(&space->lock);
	span = gm_table_next(space->view, range->first, &off);
	if (!span || span->first > range->first)
		rc = -EFAULT;
	else if (!is_memory(span))
		rc = span->owner ? -ENOTSUP : -EFAULT;
	else
		hold(space, span, off, range, ret);
	pthread_mutex_unlock(&space->lock);
	return rc;
}

int gm_reach_next(struct gm_space *space, const struct gm_range *range, struct gm_reach *ret)
{
	const struct gm_span *span;
	uint64_t off;
	int rc = -ENOENT;

	pthread_mutex_lock(&space->lock);
	for (span = gm_table_next(space->view, range->first, &off);
		span && span->first <= range->last;
		span = gm_table_after(space->view, span, &off)) {
		if (is_memory(span)) {
			hold(space, span, off, range, ret);
			rc = 0;
			break;
		}
	}
	pthread_mutex_unlock(&space->lock);
	return rc;
}

void gm_reach_put(struct gm_reach *reach)
{
	gm_map_unpin(reach->map);
	gm_block_put(reach->private_block);
}

void gm_reach_clip(struct gm_reach *reach, const struct gm_range *range)
{
	uint64_t by = range->first - reach->range.first;

	reach->range = *range;
	reach->block_off += by;
	if (reach->hva)
		reach->hva += by;
	reach->private_off += by;
}

int gm_reach_each(struct gm_space *space, uint64_t gpa, uint64_t len,
	int (*fn)(void *ctx, struct gm_reach *reach, struct gm_error *err), void *ctx,
	struct gm_error *err)
{
	struct gm_range rest;
	int rc = 0;

	if (len == 0)
		return 0;
	if (!gm_range_make(gpa, len, &rest))
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: gpa 0x%" PRIx64 " and %" PRIu64 " bytes wrap past 2^64", space->name,
			gpa, len);
	for (;;) {
		struct gm_reach reach;
		uint64_t last;

		rc = gm_reach_next(space, &rest, &reach);
		if (rc)
			return rc == -ENOENT ? 0 : rc;
		last = reach.range.last;
		rc = fn(ctx, &reach, err);
		gm_reach_put(&reach);
		if (rc || last == rest.last)
			return rc;
		rest.first = last + 1;
	}
}
