/* SPDX-License-Identifier: BSD-3-Clause */
/* sort.h - sorting in place, without memory and in bounded time: what is sorted comes from a guest. */
#ifndef GM_CORE_SORT_H
#define GM_CORE_SORT_H

#include <stddef.h>
#include <stdint.h>

void gm_sort_u32(uint32_t *items, size_t nr);

/* Pairs of which the first member is the key. */
struct gm_sort_pair {
	uint64_t key;
	uint64_t value;
};

void gm_sort_pairs(struct gm_sort_pair *items, size_t nr);

#endif
