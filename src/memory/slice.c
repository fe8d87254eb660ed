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
static const struct gm_span *find_memory(
	const struct gm_view *view, uint64_t gpa, uint32_t perms, int *rc)
{
	const struct gm_span *span = gm_access_span(view, gpa, perms, rc);

	if (span && gm_span_calls(span, perms & GM_PERM_W)) {
		*rc = -ENOTSUP;
		return NULL;
	}
	return span;
}

/* The part of [first, last] that lies in the span. */
static struct iovec slice_of(const struct gm_span *span, const struct gm_range *range)
{
	uint64_t last = range->last < span->last ? range->last : span->last;

	return (struct iovec){
		.iov_base = gm_access_hva(span, range->first),
		.iov_len = last - range->first + 1,
	};
}

static void hold(const struct gm_span *span, struct gm_pin *ret)
{
	ret->map = (struct gm_map *)(uintptr_t)span->owner;
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
	const struct gm_span *span;
	struct gm_range range;
	int rc = 0;

	if (len == 0)
		return -EINVAL;
	if (!gm_range_make(gpa, len, &range))
		return -ERANGE;
	span = find_memory(view, gpa, perms, &rc);
	if (!span)
		return rc;
	*ret_slice = slice_of(span, &range);
	hold(span, ret_pin);
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
		int rc = 0;
		const struct gm_span *span = find_memory(view, rest.first, perms, &rc);

		if (!span)
			return rc;
		if (rest.last <= span->last)
			break;
		rest.first = span->last + 1;
	}
	needed++;
	*ret_needed = needed;
	if (needed > nr)
		return -ENOBUFS;
	for (size_t i = 0; i < needed; i++) {
		const struct gm_span *span = gm_table_find(view, range.first);

		ret_slices[i] = slice_of(span, &range);
		hold(span, &ret_pins[i]);
		range.first = span->last + 1;
	}
	return 0;
}
