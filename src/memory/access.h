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
#include "sys/guard.h"

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

/* What access functions return: @count is written, if it is wanted, on success and on error alike. */
static inline int gm_access_end(size_t *done, size_t count, int rc)
{
	if (done)
		*done = count;
	return rc;
}

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

/*
 * Every piece that is copied from guest to guest passes here. The host addresses may overlap. Returns
 * bytes not copied: the rest of the piece, or all of it when a downward copy fails, of which any byte may
 * have been written then.
 */
size_t gm_access_move(void *dst, const void *src, size_t len, struct gm_guard_fault *fault);
/* Is that copy made downwards? */
static inline bool gm_access_goes_down(const void *dst, const void *src, size_t len)
{
	uintptr_t up = (uintptr_t)dst - (uintptr_t)src;

	return up && up < len;
}

/*
 * One access of 1, 2, 4 or 8 bytes, aligned unless it is relaxed, to a host address. Return 0 or an
 * error; gm_hva_cmpxchg() 1 if it was exchanged, 0 if not.
 */
int gm_hva_load(const void *hva, size_t size, int order, uint64_t *ret);
int gm_hva_store(void *hva, size_t size, int order, uint64_t value);
int gm_hva_rmw(
	enum gm_guard_op op, void *hva, size_t size, uint64_t value, uint64_t *ret_old, int order);
int gm_hva_cmpxchg(void *hva, size_t size, uint64_t *expected, uint64_t desired, int order);

/* A number of @how in the other byte order, if that says so. */
uint64_t gm_how_swap(uint64_t value, uint32_t how);

/* A bit in gm_pin.logs[]: the pin holds a reference on them. */
#define GM_PIN_LOGS_REF ((uintptr_t)1)

/* The logs of a pin, or NULL. */
static inline struct gm_dirty *gm_pin_logs(const struct gm_pin *pin, int i)
{
	return (struct gm_dirty *)((uintptr_t)pin->logs[i] & ~GM_PIN_LOGS_REF);
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
