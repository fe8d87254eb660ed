/* SPDX-License-Identifier: BSD-3-Clause */
/* region.c - region objects and sorted lists of them. */
#include "memory/space.h"
#include "sys/sys.h"

uint64_t gm_region_hva(const struct gm_region *region)
{
	return (uintptr_t)region->map->hva + (region->block_off - region->map->block_off);
}

bool gm_region_is_placed(const struct gm_region *region, const struct gm_window *window)
{
	return window && region->map &&
	       gm_region_hva(region) == (uintptr_t)window->base + region->range.first;
}

void gm_region_free(struct gm_region *region)
{
	if (!region)
		return;
	/* The map carries a reference of its own, so the block goes last and a home mapping with
	 * it. */
	gm_block_put(region->block);
	if (region->map)
		gm_map_put(region->map);
	gm_sys_free(region);
}

size_t gm_regions_find(struct gm_region *const *regions, size_t nr, uint64_t gpa)
{
	size_t lo = 0;
	size_t hi = nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (regions[mid]->range.last < gpa)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}
