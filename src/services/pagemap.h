/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pagemap.h - PAGEMAP_SCAN in batches.
 *
 * It has a trap: with room for more than 512 extents, walk_end may be that of the last internal batch, and who goes on
 * there gets up to 512 extents twice. So a scan goes on behind the last extent that came, as long as batches are full.
 */
#ifndef GM_SERVICES_PAGEMAP_H
#define GM_SERVICES_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "sys/uapi.h"

/*
 * The next extents of @arg, whose start moves behind them, into its vec. Returns how many, with *ret_more if the room
 * was too small for all, or what the kernel answered; interrupted calls are made again.
 */
int gm_pagemap_scan(int fd, struct pm_scan_arg *arg, bool *ret_more);

/* For the extents of a range that have pages, here or in swap. */
static inline struct pm_scan_arg gm_pagemap_of_pages(
	uint64_t addr, uint64_t len, struct page_region *vec, uint32_t nr)
{
	return (struct pm_scan_arg){
		.size = sizeof(struct pm_scan_arg),
		.start = addr,
		.end = addr + len,
		.vec = (uintptr_t)vec,
		.vec_len = nr,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};
}

#endif
