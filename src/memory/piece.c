/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * piece.c - what a view tells of the map.
 *
 * From spans and what lies behind them (core/table.h) alone: the nodes of regions are changed in place
 * while readers are in their sections.
 */
#include <guestmem/piece.h>

#include <errno.h>

#include "core/kinds.h"
#include "core/table.h"
#include "memory/node.h"

static uint64_t id_of(const struct gm_span *span, const struct gm_origin *origin)
{
	return (uint64_t)origin->use << 32 | ((uint64_t)span->node + 1);
}

int gm_view_next(const struct gm_view *view, uint64_t gpa, struct gm_piece_info *ret_info)
{
	struct gm_origin origin;
	const struct gm_span *span;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	span = gm_table_next_origin(view, gpa, &origin);
	if (!span)
		return -ENOENT;
	*ret_info = (struct gm_piece_info){
		.size = ret_info->size,
		.gpa = span->first,
		.len = span->last - span->first + 1,
		.id = id_of(span, &origin),
		.off = origin.off,
		.kind = origin.kind,
		.perms = span->perms & GM_PERM_RWX,
		.part = gm_kind_is_memory(origin.kind) ? gm_part_of(span->perms) : GM_PART_SHARED,
	};
	return 0;
}

int gm_view_region(const struct gm_view *view, uint64_t gpa, uint64_t *ret_id, uint64_t *ret_off)
{
	struct gm_origin origin;
	const struct gm_span *span = gm_table_next_origin(view, gpa, &origin);

	if (!span || span->first > gpa)
		return -EFAULT;
	if (ret_id)
		*ret_id = id_of(span, &origin);
	if (ret_off)
		*ret_off = origin.off + (gpa - span->first);
	return 0;
}

int gm_view_info(const struct gm_view *view, struct gm_view_info *ret_info)
{
	struct gm_view_info info = {.size = ret_info->size, .generation = view->generation};
	struct gm_origin origin;
	const struct gm_span *span;

	if (ret_info->size < sizeof(info))
		return -EINVAL;
	span = gm_table_next_origin(view, 0, &origin);
	if (span)
		info.first = span->first;
	for (; span; span = gm_table_after_origin(view, span, &origin)) {
		info.pieces++;
		info.last = span->last;
		if (!gm_kind_is_memory(origin.kind))
			continue;
		info.memory++;
		info.memory_len += span->last - span->first + 1;
		info.memory_last = span->last;
	}
	*ret_info = info;
	return 0;
}
