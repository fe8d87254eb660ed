/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slice.c - pins, and the slices that they keep valid.
 *
 * A pin is a reference on the mapping, taken in a section. The view holds one already, so the count
 * never rises from 0 here; after the view's grace period it only falls.
 */
#include <guestmem/slice.h>

#include <errno.h>

#include "core/table.h"
#include "memory/access.h"
#include "memory/block.h"
#include "memory/device.h"

/* What a device answers has no slices. */
static int find_memory(const struct gm_view *view, const struct gm_range *range, uint32_t perms,
	struct gm_spot *ret)
{
	int rc = gm_access_spot(view, range->first, gm_range_extent(range), perms, ret);

	return !rc && gm_span_calls(ret->span, perms & GM_PERM_W) ? -ENOTSUP : rc;
}

static struct iovec slice_of(const struct gm_spot *spot)
{
	return (struct iovec){
		.iov_base = gm_access_hva(spot->span, spot->gpa),
		.iov_len = spot->extent + 1,
	};
}

static void hold(const struct gm_spot *spot, struct gm_pin *ret)
{
	ret->map = (struct gm_map *)(uintptr_t)spot->span->owner;
	gm_map_pin(ret->map);
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
	struct gm_range range;
	struct gm_spot spot;
	int rc;

	if (len == 0)
		return -EINVAL;
	if (!gm_range_make(gpa, len, &range))
		return -ERANGE;
	rc = find_memory(view, &range, perms, &spot);
	if (rc)
		return rc;
	*ret_slice = slice_of(&spot);
	hold(&spot, ret_pin);
	return 0;
}

/* Pins what fits the room; *ret_needed is the number of all slices. */
static int pin_all(const struct gm_view *view, struct gm_range range, uint32_t perms,
	struct iovec *ret_slices, struct gm_pin *ret_pins, size_t nr, size_t *ret_needed)
{
	for (*ret_needed = 0;;) {
		struct gm_spot spot;
		int rc = find_memory(view, &range, perms, &spot);

		if (rc)
			return rc;
		if (*ret_needed < nr) {
			ret_slices[*ret_needed] = slice_of(&spot);
			hold(&spot, &ret_pins[*ret_needed]);
		}
		++*ret_needed;
		if (spot.extent >= gm_range_extent(&range))
			return *ret_needed > nr ? -ENOBUFS : 0;
		range.first += spot.extent + 1;
	}
}

int gm_pin_range(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slices, struct gm_pin *ret_pins, size_t nr, size_t *ret_needed)
{
	struct gm_range range;
	size_t needed;
	int rc;

	if (len == 0)
		return -EINVAL;
	if (!gm_range_make(gpa, len, &range))
		return -ERANGE;
	rc = pin_all(view, range, perms, ret_slices, ret_pins, nr, &needed);
	for (size_t i = 0; rc && i < nr && i < needed; i++)
		gm_pin_put(&ret_pins[i]);
	if (!rc || rc == -ENOBUFS)
		*ret_needed = needed;
	return rc;
}
