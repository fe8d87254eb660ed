/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.h - where an access leads to, for access.c, atomic.c, slice.c and view.c.
 */
#ifndef GM_MEMORY_ACCESS_H
#define GM_MEMORY_ACCESS_H

#include <guestmem/slice.h>
#include <guestmem/view.h>
#include <stdbool.h>

#include "core/table.h"
#include "memory/dirty.h"

/* Where an access begins, behind all translations. */
struct gm_spot {
	const struct gm_span *span; /* of no IOMMU */
	const struct gm_view *view; /* the one that has it */
	uint64_t gpa;
	uint64_t extent; /* bytes that go on from there, less one */
};

/*
 * The spot of @gpa with @perms, of which up to @extent + 1 bytes are wanted. Returns 0; -EFAULT
 * (nothing is mapped there), -EACCES, or what a translation returned.
 */
int gm_access_spot(const struct gm_view *view, uint64_t gpa, uint64_t extent, uint32_t perms,
	struct gm_spot *ret);

/* Are reads, or writes, of a span something else than copying from or to its host address? */
static inline bool gm_span_is_special(const struct gm_span *span, bool write)
{
	return span->perms &
	       (GM_SPAN_DEVICE | GM_SPAN_FAR | GM_SPAN_DEVMEM | (write ? GM_SPAN_ROMD : 0));
}

/* @len bytes, perhaps none, were written at @gpa, which leads to the spot. */
static inline void gm_access_mark(
	const struct gm_view *view, uint64_t gpa, const struct gm_spot *spot, uint64_t len)
{
	if (gm_view_is_logged(view))
		gm_view_mark(view, gpa, len);
	if (spot->view != view && gm_view_is_logged(spot->view))
		gm_view_mark(spot->view, spot->gpa, len);
}

/* gm_pin_slice() for who says at the end how much was written: nothing is marked before. */
int gm_pin_unmarked(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret_slice, struct gm_pin *ret_pin);

/* The host address of @gpa, which lies in @span. */
static inline void *gm_access_hva(const struct gm_span *span, uint64_t gpa)
{
	return (void *)(uintptr_t)(span->delta + gpa);
}

#endif
