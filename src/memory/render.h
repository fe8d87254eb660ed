/* SPDX-License-Identifier: BSD-3-Clause */
/* render.h - what shows of a tree of regions in a range of addresses. */
#ifndef GM_MEMORY_RENDER_H
#define GM_MEMORY_RENDER_H

#include "memory/node.h"

/* A list that grows. */
struct gm_pieces {
	struct gm_piece *items;
	size_t nr;
};

/*
 * The pieces that show in @range of the tree at @root: sorted, disjoint, merged; to be freed with
 * gm_sys_free(). They have no maps. Returns 0, -ENOMEM, -E2BIG (aliases of aliases make too many) or
 * -ELOOP (too deep).
 */
int gm_render(const struct gm_node *root, const struct gm_range *range, struct gm_pieces *ret);

#endif
