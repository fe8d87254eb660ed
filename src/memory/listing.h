/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listing.h - what is published of a space, written down in one moment.
 *
 * The descriptions are copies; their blocks are kept by references. So whoever looks at them holds
 * no lock and nobody up.
 */
#ifndef GM_MEMORY_LISTING_H
#define GM_MEMORY_LISTING_H

#include <guestmem/dump.h>

#include "memory/listener.h"

/* A region, in the order of a walk. */
struct gm_listing_node {
	struct gm_region_info info;
	char target_name[32];
	uint64_t addr;
	size_t up; /* in the list that is sorted by parent; its own index at the top */
	uint32_t depth;
	uint32_t flags; /* GM_WALK_* */
};

struct gm_listing {
	char name[32];
	struct gm_listing_node *nodes; /* by parent, then address */
	size_t nr_nodes;
	struct gm_region_info *flat; /* what shows, as gm_space_next() tells it */
	size_t nr_flat;
	struct gm_listener_line *listeners; /* by rising priority */
	size_t nr_listeners;
};

/* What is wanted besides the regions: GM_DUMP_FLAT, GM_DUMP_LISTENERS. Returns 0 or -ENOMEM. */
int gm_listing_take(struct gm_space *space, uint32_t what, struct gm_listing *ret);
void gm_listing_drop(struct gm_listing *listing);

/* Calls @fn for each region as gm_space_walk() does. */
int gm_listing_walk(struct gm_listing *listing,
	int (*fn)(void *ctx, const struct gm_walk_step *step), void *ctx);

#endif
