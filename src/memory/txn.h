/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * txn.h - a planned change of a space.
 *
 * The plan is the sorted list of regions as they shall be. An entry is either a published region
 * that stays (region == origin) or a fresh object that the transaction owns; a fresh one may come
 * from a published one (origin), and it may have its map already or get it at commit (map NULL).
 */
#ifndef GM_MEMORY_TXN_H
#define GM_MEMORY_TXN_H

#include <guestmem/txn.h>

#include "memory/space.h"

struct gm_planned {
	struct gm_region *region;
	struct gm_region *origin; /* borrowed from the space, or NULL */
	bool placed_now;          /* commit gave it a map that a failure must take back */
};

struct gm_txn {
	struct gm_space *space;
	struct gm_planned *plan;
	size_t nr;
	size_t cap;
	uint64_t next_id;
};

/* Index of the first entry of the plan that ends at or after gpa. */
size_t gm_txn_find_place(const struct gm_txn *txn, uint64_t gpa);

static inline bool gm_planned_is_fresh(const struct gm_planned *entry)
{
	return entry->region != entry->origin;
}

#endif
