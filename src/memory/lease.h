/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.h - a mapping that a reader keeps for one system call.
 *
 * A pin costs two atomic additions, which is much beside a short call. A lease is a pointer in the reader,
 * stored in a section, in which the view keeps the mapping. Before views are dropped their readers' leases
 * become pins (gm_lease_adopt): the grace period is over by then, so what was leased in those sections is seen.
 * Whoever ends a lease looks whether that has happened. The store-load fence between is the
 * adopter's membarrier, so without one there are no leases.
 */
#ifndef GM_MEMORY_LEASE_H
#define GM_MEMORY_LEASE_H

#include <guestmem/view.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "memory/annotate.h"
#include "memory/dirty.h"
#include "memory/reclaim.h"

/* Before what was deferred is run: leases of sections that are over are pins from now on. */
void gm_lease_adopt(struct gm_domain *domain);

/* Gives the pin of an adopted lease back. */
void gm_lease_settle(struct gm_reader *reader);

/*
 * Looks up the plain memory around @gpa for which a reader can have a lease: its writes must be marked by what the
 * mapping keeps. Does it cover the range?
 */
bool gm_lease_look_up(struct gm_lease_spot *spot, const struct gm_view *view, uint64_t gpa,
	uint64_t len, uint32_t perms);

/* Does the spot hold for the range, len > 0, in this view? */
static inline bool gm_lease_covers(const struct gm_lease_spot *spot, const struct gm_view *view,
	uint64_t gpa, uint64_t len, uint32_t perms)
{
	return spot->generation == view->generation && gpa >= spot->first && gpa <= spot->last &&
	       len - 1 <= spot->last - gpa && (spot->perms & perms) == perms;
}

/*
 * Leases the mapping of a range, len > 0, that lies in one span of plain memory, in a section with @view. False if it
 * does not, or if the reader has a lease already. Then gm_lease_covers() tells what else it holds for.
 */
static inline __attribute__((always_inline)) bool gm_lease_take(struct gm_reader *reader,
	const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms)
{
	struct gm_lease_spot *spot = &reader->spot;

	if (!__builtin_expect(gm_lease_covers(spot, view, gpa, len, perms), 1) &&
		!gm_lease_look_up(spot, view, gpa, len, perms))
		return false;
	__atomic_store_n(&reader->leased, spot->map, __ATOMIC_RELAXED);
	return true;
}

/* Can it have one at all, and has it none? */
static inline bool gm_lease_is_free(const struct gm_reader *reader)
{
	return reader->may_lease && !reader->leased;
}

/* The slice of a range that is covered. */
static inline struct iovec gm_lease_slice(
	const struct gm_lease_spot *spot, uint64_t gpa, uint64_t len)
{
	return (struct iovec){(void *)(uintptr_t)(spot->delta + gpa), len};
}

/* @len bytes, perhaps none, were written at @gpa of what is leased. */
static inline void gm_lease_mark(const struct gm_reader *reader, uint64_t gpa, uint64_t len)
{
	if (len && __builtin_expect(gm_dirty_has_logs(reader->spot.dirty), 0))
		gm_dirty_mark_later(reader->spot.dirty, gpa, len);
}

static inline void gm_lease_end(struct gm_reader *reader)
{
	GM_TSAN(__tsan_release(reader));
	__atomic_store_n(&reader->leased, NULL, __ATOMIC_RELEASE);
	/* The CPU keeps this order because of the adopter's membarrier. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (__builtin_expect(__atomic_load_n(&reader->adopted, __ATOMIC_RELAXED) != NULL, 0))
		gm_lease_settle(reader);
}

#endif
