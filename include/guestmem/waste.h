/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waste.h - why memory is not in huge pages, what of it holds only zeros, and what is there twice.
 *
 * Memory is looked at in units of a huge page (2 MiB on x86-64) of host addresses. Only pages that are
 * present are read, by process_vm_readv(2), of this or another process, which runs on meanwhile: looking
 * allocates nothing, writes nothing and splits nothing. What comes into being all the same is counted.
 */
#ifndef GUESTMEM_WASTE_H
#define GUESTMEM_WASTE_H

#include <guestmem/residency.h>
#include <guestmem/space.h>
#include <guestmem/workingset.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum gm_waste_reason - how a unit is mapped, or why it is no huge page */
enum gm_waste_reason {
	GM_WASTE_HUGE = 0, /* it is one */
	GM_WASTE_EMPTY,    /* nothing is present */
	GM_WASTE_SMALL, /* all present in small pages: MADV_COLLAPSE would make it one, at no cost in memory */
	GM_WASTE_PARTLY, /* a part is present: a huge page would add the rest */
	GM_WASTE_SPLIT,  /* parts of a huge page, mapped by small entries (GM_RESIDENCY_FOLIOS) */
	GM_WASTE_FORBIDDEN, /* MADV_NOHUGEPAGE */
	GM_WASTE_EDGE,      /* its mapping does not cover it, or lies askew in its file */
	GM_WASTE_SWAPPED,   /* parts are swapped out */
	GM_WASTE_MERGED,    /* parts were merged by KSM (GM_RESIDENCY_FOLIOS) */
	GM_WASTE_REASONS,
};

/* Flags. */
#define GM_WASTE_ZERO 0x1u       /* read present pages: which hold only zeros? */
#define GM_WASTE_DUPLICATES 0x2u /* the same, and which hold the same bytes? */

/**
 * struct gm_waste_unit - one unit
 * @start:   host address
 * @gpa:     guest address, of a space
 * @len:     bytes; less at the ends of what was asked for
 * @present: bytes
 * @huge:    of them, bytes in huge pages
 * @zero:    bytes of pages that hold only zeros, and of those that map the page of zeros
 * @swapped: bytes
 * @samples: with a working set that has bins: pages that were looked at in all rounds
 * @touched: of them, those that were touched
 * @reason:  enum gm_waste_reason
 * @reserved: zero
 */
struct gm_waste_unit {
	uint64_t start;
	uint64_t gpa;
	uint64_t len;
	uint64_t present;
	uint64_t huge;
	uint64_t zero;
	uint64_t swapped;
	uint64_t samples;
	uint64_t touched;
	uint32_t reason;
	uint32_t reserved;
};

/**
 * struct gm_waste_opts - how to look; zero means default
 * @size:    sizeof(struct gm_waste_opts)
 * @flags:   GM_WASTE_* bits
 * @residency: GM_RESIDENCY_FOLIOS, or 0
 * @parts:   of contents one of so many is followed to find duplicates; 0 or 1 = all
 * @reserved: zero
 * @budget:  bytes to read at most; 0 = no bound
 * @workingset: optional, borrowed: of the same space, with bins
 */
struct gm_waste_opts {
	size_t size;
	uint32_t flags;
	uint32_t residency;
	uint32_t parts;
	uint32_t reserved;
	uint64_t budget;
	struct gm_workingset *workingset;
};

/**
 * struct gm_waste - sums
 * @size:      sizeof(struct gm_waste), set by the caller
 * @total:     bytes that were looked at
 * @present:   bytes in memory
 * @huge:      of them, in huge pages
 * @could:     present bytes that a collapse would make huge at no cost (GM_WASTE_SMALL)
 * @read:      bytes that were read for zeros and duplicates
 * @zero:      of them, in pages that hold only zeros; and bytes that map the page of zeros
 * @waste:     of these, in huge pages: they could not be given back without a split
 * @swapped:   bytes
 * @askew:     of a space: bytes whose guest and host address differ modulo a huge page: no entry of the
 *             second level can be huge
 * @disturbed: bytes that became present while they were looked at, by us or by the guest
 * @unread:    bytes that could not be read, or were beyond the budget
 * @units:     number of units by enum gm_waste_reason
 * @followed:  pages whose contents were followed
 * @duplicates: estimate of the bytes that KSM could save beside @zero: all but one of the pages that hold the same
 * @low:       with @high: bounds of 95 % of @duplicates; both are @duplicates if all was followed
 * @high:      see @low
 */
struct gm_waste {
	size_t size;
	uint64_t total;
	uint64_t present;
	uint64_t huge;
	uint64_t could;
	uint64_t read;
	uint64_t zero;
	uint64_t waste;
	uint64_t swapped;
	uint64_t askew;
	uint64_t disturbed;
	uint64_t unread;
	uint64_t units[GM_WASTE_REASONS];
	uint64_t followed;
	uint64_t duplicates;
	uint64_t low;
	uint64_t high;
};

/**
 * gm_waste_scan() - look at a range of a process
 * @res:   borrowed
 * @start: host address, a multiple of the base page size
 * @len:   bytes, a multiple of the base page size
 * @opts:  borrowed; NULL = defaults
 * @fn:    optional: called with @arg and each unit that is not empty (borrowed for the call), in rising order;
 *         non-zero stops
 * @arg:   passed to @fn
 * @ret:   optional: sums
 * @err:   optional
 *
 * Duplicates are found by XXH3 of 64 bits and then compared. Returns 0, what @fn returned, -EINVAL, -E2BIG,
 * -ESRCH, -EACCES, -EPERM (reading is not allowed: ptrace(2) says who may), -ENOTSUP (duplicates, without
 * xxHash), -ENOMEM, or what /proc answered.
 * Threads: one at a time a handle. Since: 0.1.
 */
GM_API int gm_waste_scan(struct gm_residency *res, uint64_t start, uint64_t len,
	const struct gm_waste_opts *opts, int (*fn)(void *arg, const struct gm_waste_unit *unit),
	void *arg, struct gm_waste *ret, struct gm_error *err);

/**
 * gm_waste_space() - look at the memory of a space
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes
 * @opts:  borrowed; NULL = defaults
 * @fn:    as above
 * @arg:   passed to @fn
 * @ret:   optional: sums
 * @err:   optional
 *
 * What is not mapped here is left out. Memory that shows under two names is a duplicate of itself if it is mapped
 * twice. Returns as gm_waste_scan(), or -ERANGE.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_waste_space(struct gm_space *space, uint64_t gpa, uint64_t len,
	const struct gm_waste_opts *opts, int (*fn)(void *arg, const struct gm_waste_unit *unit),
	void *arg, struct gm_waste *ret, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
