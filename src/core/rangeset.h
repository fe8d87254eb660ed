/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rangeset.h - a sorted set of disjoint ranges that do not touch.
 *
 * The caller owns the array and its room; nothing here allocates. A change that needs more room
 * than there is returns false and leaves the set as it was; room for nr + 1 ranges always suffices.
 */
#ifndef GM_CORE_RANGESET_H
#define GM_CORE_RANGESET_H

#include <stddef.h>

#include "core/range.h"

struct gm_rangeset {
	struct gm_range *ranges;
	size_t nr;
	size_t cap;
};

/* Index of the first range that ends at or after addr; nr if there is none. */
size_t gm_rangeset_find(const struct gm_rangeset *set, uint64_t addr);
bool gm_rangeset_contains(const struct gm_rangeset *set, const struct gm_range *r);
bool gm_rangeset_overlaps(const struct gm_rangeset *set, const struct gm_range *r);
bool gm_rangeset_add(struct gm_rangeset *set, const struct gm_range *r);
bool gm_rangeset_remove(struct gm_rangeset *set, const struct gm_range *r);
/* Sorted, disjoint, not touching, within its room. */
bool gm_rangeset_is_valid(const struct gm_rangeset *set);

#endif
