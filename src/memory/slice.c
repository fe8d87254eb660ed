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
#include "memory/backend.h"
#include "memory/device.h"
#include "memory/dirty.h"
#include "memory/view.h"

/* What a device answers has no slices. */
static int find_memory(const struct gm_view *view, const struct gm_range *range, uint32_t perms,
	struct gm_spot *ret)
{
	int rc = gm_access_spot(view, range->first, gm_range_extent(range), perms, ret);

	if (rc)
		return rc;
	return (ret->span->perms & GM_SPAN_DEVMEM) ||
			       gm_span_has_device(ret->span, perms & GM_PERM_W)
		       ? -ENOTSUP
		       : 0;
}

/* gm_pin.flags: the memory was mapped for the pin. */
#define PIN_FAR 1u

/* A piece that a backend maps may be shorter than what was found. */
static int hold_far(
	struct gm_spot *spot, uint32_t perms, struct iovec *ret_slice, struct gm_pin *ret)
{
	struct gm_map *map = (struct gm_map *)(uintptr_t)spot->span->owner;
	uint64_t len = spot->extent < UINT64_MAX ? spot->extent + 1 : UINT64_MAX;
	struct gm_backend_piece piece;
	int rc = gm_far_pin(spot->span, spot->gpa, len, perms & ~GM_PIN_EXACT, &piece);

	if (rc)
		return rc;
	gm_map_pin(map);
	spot->extent = piece.len - 1;
	*ret_slice = (struct iovec){piece.hva, (size_t)piece.len};
	*ret = (struct gm_pin){.map = map,
		.hva = piece.hva,
		.len = piece.len,
		.cookie = piece.cookie,
		.perms = perms,
		.flags = PIN_FAR};
	return 0;
}

static int hold(struct gm_spot *spot, uint32_t perms, struct iovec *ret_slice, struct gm_pin *ret)
{
	struct gm_map *map = (struct gm_map *)(uintptr_t)spot->span->owner;

	if (spot->span->perms & GM_SPAN_FAR)
		return hold_far(spot, perms, ret_slice, ret);
	gm_map_pin(map);
	*ret_slice = (struct iovec){gm_access_hva(spot->span, spot->gpa), spot->extent + 1};
	*ret = (struct gm_pin){
		.map = map, .hva = ret_slice->iov_base, .len = ret_slice->iov_len, .perms = perms};
	return 0;
}

/* The mapping keeps its window, and that the logs of its space: then they need no counting. */
static void *keep_logs(struct gm_dirty *dirty, const struct gm_map *map)
{
	if (map->window && map->window->dirty == dirty)
		return dirty;
	gm_dirty_get(dirty);
	return (void *)((uintptr_t)dirty | GM_PIN_LOGS_REF);
}

/* Who writes to a slice does it between now and when the pin is given back: both are marked. */
static void note_writer(
	const struct gm_view *view, uint64_t gpa, const struct gm_spot *spot, struct gm_pin *pin)
{
	const struct gm_view *views[] = {view, spot->view};
	const uint64_t gpas[] = {gpa, spot->gpa};

	for (int i = 0; i < (spot->view == view ? 1 : 2); i++) {
		pin->logs[i] = keep_logs(
			((const struct gm_view_full *)(const void *)views[i])->dirty, pin->map);
		pin->gpa[i] = gpas[i];
	}
}

static void mark_pin(const struct gm_pin *pin, uint64_t len)
{
	for (int i = 0; i < 2; i++) {
		if (pin->logs[i] && len)
			gm_dirty_mark_later(gm_pin_logs(pin, i), pin->gpa[i], len);
	}
}

static void drop_logs(struct gm_pin *pin)
{
	for (int i = 0; i < 2; i++) {
		if ((uintptr_t)pin->logs[i] & GM_PIN_LOGS_REF)
			gm_dirty_put(gm_pin_logs(pin, i));
		pin->logs[i] = NULL;
	}
}

static void put(struct gm_pin *pin)
{
	struct gm_map *map = pin->map;

	if (pin->flags & PIN_FAR)
		gm_far_unpin(map->block,
			&(struct gm_backend_piece){
				.hva = pin->hva, .len = pin->len, .cookie = pin->cookie});
	/* Whoever still has it touches nothing by it. */
	pin->map = NULL;
	pin->len = 0;
	gm_map_unpin(map);
}

void gm_pin_put_written(struct gm_pin *pin, uint64_t len)
{
	if (!pin->map)
		return;
	mark_pin(pin, len < pin->len ? len : pin->len);
	drop_logs(pin);
	put(pin);
}

void gm_pin_put(struct gm_pin *pin)
{
	gm_pin_put_written(pin, pin->perms & GM_PIN_EXACT ? 0 : UINT64_MAX);
}

int gm_pin_unmarked(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slice, struct gm_pin *ret_pin)
{
	struct gm_range range;
	struct gm_spot spot;
	int rc;

	if (len == 0)
		return -EINVAL;
	if (!gm_range_make(gpa, len, &range))
		return -ERANGE;
	rc = find_memory(view, &range, perms & ~GM_PIN_EXACT, &spot);
	if (rc)
		return rc;
	rc = hold(&spot, perms, ret_slice, ret_pin);
	if (!rc && (perms & GM_PERM_W))
		note_writer(view, gpa, &spot, ret_pin);
	return rc;
}

/* Is a slice marked as soon as it is handed out? It may be written to at once. */
static bool is_marked_first(uint32_t perms)
{
	return (perms & (GM_PERM_W | GM_PIN_EXACT)) == GM_PERM_W;
}

int gm_pin_slice(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slice, struct gm_pin *ret_pin)
{
	int rc = gm_pin_unmarked(view, gpa, len, perms, ret_slice, ret_pin);

	if (!rc && is_marked_first(perms))
		mark_pin(ret_pin, ret_pin->len);
	return rc;
}

int gm_for_each_slice(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	int (*fn)(void *ctx, const struct iovec *slice, struct gm_pin *pin), void *ctx,
	uint64_t *done)
{
	uint64_t at = 0;
	int rc = 0;

	if (len == 0)
		rc = gm_view_check(view, gpa, 0, perms & ~GM_PIN_EXACT);
	else if (len - 1 > UINT64_MAX - gpa)
		rc = -ERANGE;
	while (!rc && at < len) {
		struct iovec slice;
		struct gm_pin pin;

		rc = gm_pin_slice(view, gpa + at, len - at, perms, &slice, &pin);
		if (rc)
			break;
		at += slice.iov_len;
		rc = fn(ctx, &slice, &pin);
		gm_pin_put(&pin);
	}
	if (done)
		*done = at;
	return rc;
}

/* Pins what fits the room; *ret_needed is the number of all slices. */
static int pin_all(const struct gm_view *view, struct gm_range range, uint32_t perms,
	struct iovec *ret_slices, struct gm_pin *ret_pins, size_t nr, size_t *ret_needed)
{
	for (*ret_needed = 0;;) {
		struct gm_spot spot;
		int rc = find_memory(view, &range, perms & ~GM_PIN_EXACT, &spot);

		if (rc)
			return rc;
		if (*ret_needed < nr) {
			rc = hold(&spot, perms, &ret_slices[*ret_needed], &ret_pins[*ret_needed]);
			if (rc)
				return rc;
			if (perms & GM_PERM_W)
				note_writer(view, range.first, &spot, &ret_pins[*ret_needed]);
			if (is_marked_first(perms))
				mark_pin(&ret_pins[*ret_needed], spot.extent + 1);
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
		gm_pin_put_written(&ret_pins[i], 0);
	if (!rc || rc == -ENOBUFS)
		*ret_needed = needed;
	return rc;
}
