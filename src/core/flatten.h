/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flatten.h - overlapping ranges with priorities to disjoint ones.
 *
 * Where ranges overlap, the one with the highest priority shows; the others show where it leaves
 * holes. Two ranges of equal priority must not overlap: gm_flatten_clash() finds such a pair.
 */
#ifndef GM_CORE_FLATTEN_H
#define GM_CORE_FLATTEN_H

#include <stddef.h>

#include "core/range.h"

/* One input: who shows where. @item is the caller's number for it. */
struct gm_flat_in {
	struct gm_range range;
	int32_t priority;
	uint32_t item;
};

/* One output: @item shows in @range. */
struct gm_flat_out {
	struct gm_range range;
	uint32_t item;
};

/*
 * n inputs give at most 2n - 1 outputs, sorted and disjoint; @ret has room for 2 * nr and @heap for
 * nr. @in is sorted in place by first address. Returns the number of outputs. O(n log n).
 */
size_t gm_flatten(struct gm_flat_in *in, size_t nr, uint32_t *heap, struct gm_flat_out *ret);

/*
 * Two inputs of equal priority that overlap: true, with the lowest address that two such have in
 * common. @in is sorted in place. O(n log n).
 */
bool gm_flatten_clash(struct gm_flat_in *in, size_t nr, uint64_t *ret_addr);

#endif
