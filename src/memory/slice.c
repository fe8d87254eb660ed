/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slice.c - pins, and the slices that they keep valid.
 *
 * A pin is a reference on the mapping, taken in a section. The region of the view holds one
 * already, so the count never rises from 0 here; after the view's grace period it only falls.
 */
#include <guestmem/slice.h>

#include <errno.h>

#include "memory/space.h"

/* The region at @gpa if it allows @perms: 0, -EFAULT or -EACCES. */
static int find_region(
	const struct gm_view *view, uint64_t gpa, uint32_t perms, const struct gm_region **ret)
{
	const struct gm_region *region = gm_view_region(view, gpa);

	if (!region || !region->map)
		return -EFAULT;
	if (perms & ~region->perms)
		return -EACCES;
	*ret = region;
	return 0;
}

/* The part of [first, last] that lies in the region. */
static struct iovec slice_of(const struct gm_region *region, const struct gm_range *range)
{
	uint64_t last = range->last < region->range.last ? range->last : region->range.last;

	return (struct iovec){
		.iov_base = (void *)(uintptr_t)(gm_region_hva(region) +
						(range->first - region->range.first)),
		.iov_len = last - range->first + 1,
	};
}

static void hold(const struct gm_region *region, struct gm_pin *ret)
{
	gm_map_pin(region->map);
	ret->map = region->map;
}

void gm_pin_put(struct gm_pin *pin)
{
	struct gm_map *map = pin->map;

	if (!map)
		return;
	pin->map = NULL;
	gm_map_unpin(map);
}

int gm_pin_slice(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slice, struct gm_pin *ret_pin)
{
	const struct gm_region *region;
	struct gm_range range;
	int rc;

	if (len == 0)
		return -EINVAL;
	if (!gm_range_make(gpa, len, &range))
		return -ERANGE;
	rc = find_region(view, gpa, perms, &region);
	if (rc)
		return rc;
	*ret_slice = slice_of(region, &range);
	hold(region, ret_pin);
	return 0;
}

int gm_pin_range(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slices, struct gm_pin *ret_pins, size_t nr, size_t *ret_needed)
{
	struct gm_range range;
	size_t needed = 0;

	if (len == 0)
		return -EINVAL;
	if (!gm_range_make(gpa, len, &range))
		return -ERANGE;
	/* First look at all of it, so that a refusal leaves nothing to undo. */
	for (struct gm_range rest = range;; needed++) {
		const struct gm_region *region;
		int rc = find_region(view, rest.first, perms, &region);

		if (rc)
			return rc;
		if (rest.last <= region->range.last)
			break;
		rest.first = region->range.last + 1;
	}
	needed++;
	*ret_needed = needed;
	if (needed > nr)
		return -ENOBUFS;
	for (size_t i = 0; i < needed; i++) {
		const struct gm_region *region = gm_view_region(view, range.first);

		ret_slices[i] = slice_of(region, &range);
		hold(region, &ret_pins[i]);
		range.first = region->range.last + 1;
	}
	return 0;
}
