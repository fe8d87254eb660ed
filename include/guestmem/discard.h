/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard.h - giving memory of a guest back to the host, by the way that is right for its backing.
 *
 * One call takes guest addresses, finds what backs each stretch, and does what really frees it there.
 * What cannot be done is an error or a count, never a call that returns 0 and frees nothing. Holders
 * of memory (device assignment, a pager) can forbid it, or be asked and told (listener.h).
 *
 * What was discarded is gone: bytes that somebody writes meanwhile may go with it. Give back only what
 * the guest has given up.
 */
#ifndef GUESTMEM_DISCARD_H
#define GUESTMEM_DISCARD_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_defer;

/** enum gm_discard_mode - what becomes of the pages */
enum gm_discard_mode {
	GM_DISCARD_NOW = 0, /* freed; zeros afterwards, of a private file the file's bytes */
	GM_DISCARD_LAZY,    /* freed when the host needs memory, unless written before; private
			       anonymous memory only */
	GM_DISCARD_COLD,    /* kept, but reclaimed before others */
	GM_DISCARD_PAGEOUT, /* reclaimed now: swapped, or written to the file */
	GM_DISCARD_ZERO,    /* freed where that is possible; all of the range is zeros afterwards */
	GM_DISCARD_UNMAP, /* kept, but the next access is a fault (of the guest too); shared only */
};

/* Flags. */
#define GM_DISCARD_ANY_KIND 0x1u /* also ROM, PMEM, ACPI tables and regions without GM_PERM_W */
/*
 * Whoever uses the memory by other ways than the map knows already. What is unplugged, or private and
 * discarded in its shared block, is coordinated without it: listeners for parts were told.
 */
#define GM_DISCARD_COORDINATED 0x2u
/* Which bytes of a region with a private block; neither: by state of the part, of what is unplugged
 * both. */
#define GM_DISCARD_SHARED 0x4u
#define GM_DISCARD_PRIVATE 0x8u

/* Ways that were gone: gm_discard_result.ways. */
#define GM_DISCARD_BY_DONTNEED 0x001u        /* MADV_DONTNEED */
#define GM_DISCARD_BY_DONTNEED_LOCKED 0x002u /* the same for locked memory */
#define GM_DISCARD_BY_PUNCH 0x004u           /* fallocate(FALLOC_FL_PUNCH_HOLE) */
#define GM_DISCARD_BY_REMOVE 0x008u          /* MADV_REMOVE */
#define GM_DISCARD_BY_FREE 0x010u            /* MADV_FREE */
#define GM_DISCARD_BY_COLD 0x020u            /* MADV_COLD */
#define GM_DISCARD_BY_PAGEOUT 0x040u         /* MADV_PAGEOUT */
#define GM_DISCARD_BY_BACKEND 0x080u         /* gm_backend_ops.discard */
#define GM_DISCARD_BY_FILL 0x100u            /* zeros were written */
#define GM_DISCARD_BY_BATCH 0x200u           /* process_madvise(2) for several stretches at once */
#define GM_DISCARD_BY_GUARD 0x400u           /* MADV_GUARD_INSTALL */

/**
 * struct gm_discard_result - what was done, on success and on failure
 * @size:     sizeof(struct gm_discard_result), set by the caller
 * @done:     bytes, in whole pages, that were given back (or made cold, paged out, unmapped)
 * @skipped:  bytes left alone: parts of pages, or of huge pages that were not to be split
 * @zeroed:   bytes that were zeroed by writing to them (GM_DISCARD_ZERO)
 * @refused:  lists: bytes that are no memory, or may not be discarded
 * @deferred: lists: bytes remembered (GM_HUGE_DEFER)
 * @ranges:   stretches that the kernel or a backend was told
 * @gpa:      lists: first address that was refused
 * @code:     lists: why, a negative errno value
 * @ways:     GM_DISCARD_BY_* bits
 */
struct gm_discard_result {
	size_t size;
	uint64_t done;
	uint64_t skipped;
	uint64_t zeroed;
	uint64_t refused;
	uint64_t deferred;
	uint64_t ranges;
	uint64_t gpa;
	int32_t code;
	uint32_t ways;
};

/**
 * gm_discard() - give back what lies at a range of addresses
 * @space: borrowed; neither a grant's nor an IOVA space
 * @gpa:   first address
 * @len:   bytes; 0 does nothing
 * @mode:  enum gm_discard_mode
 * @flags: GM_DISCARD_* flags
 * @ret:   optional
 * @err:   optional
 *
 * The range is rounded inwards to pages of each block. Regions and aliases may be crossed; all of it is
 * looked at before anything is done. All logs are marked. Slices that are pinned stay valid and
 * read zeros; what a device or a system call is writing to them at this moment may be lost: who
 * needs it to stay takes gm_discard_inhibit(). While a listener wants to be asked, it waits for an open
 * transaction up to the space's deadline. Returns 0; -EINVAL; -ERANGE (wraps); -EFAULT (nothing there);
 * -EACCES (a kind or permission that forbids it, or a read-only block); -EPERM (sealed, or the space of
 * a grant); -ENOTSUP (not with this backing; err->text says what does); -EBUSY (inhibited, or a
 * transaction is open); what a listener returned; or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_discard(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t mode,
	uint32_t flags, struct gm_discard_result *ret, struct gm_error *err);

/* ---- lists ---- */

/** enum gm_huge - what to do with a part of a huge page */
enum gm_huge {
	GM_HUGE_SPLIT = 0, /* discard it; the kernel frees it when all of the page is gone. Explicit
			      huge pages cannot be split: skipped */
	GM_HUGE_DEFER,     /* remember it in opts.defer until the rest comes */
	GM_HUGE_REFUSE,    /* skip it */
};

/**
 * struct gm_discard_opts - how to do a list; zero means default
 * @size:      sizeof(struct gm_discard_opts)
 * @mode:      enum gm_discard_mode
 * @flags:     GM_DISCARD_* flags
 * @huge:      enum gm_huge
 * @reserved:  zero
 * @huge_size: bytes of a huge page; 0 = as the block's page policy says
 * @defer:     with GM_HUGE_DEFER: borrowed
 */
struct gm_discard_opts {
	size_t size;
	uint32_t mode;
	uint32_t flags;
	uint32_t huge;
	uint32_t reserved;
	uint64_t huge_size;
	struct gm_defer *defer;
};

/** struct gm_discard_range - @len bytes from @gpa on; 0 is none */
struct gm_discard_range {
	uint64_t gpa;
	uint64_t len;
};

/**
 * gm_discard_ranges() - give back what a list names, such as reports of free pages
 * @space:  borrowed
 * @ranges: @nr of them, sorted and merged in place
 * @nr:     their number
 * @opts:   borrowed; NULL = defaults
 * @ret:    optional
 * @err:    optional
 *
 * The list may come from a guest: what is no memory or may not be discarded is counted as refused, the
 * rest is done. Neighbours are merged before they are rounded to pages; what stays scattered goes by
 * batches where that is faster. Nothing is allocated. Returns 0; -EINVAL; -EBUSY; or what the kernel
 * answered; then the counts say how far it came.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_discard_ranges(struct gm_space *space, struct gm_discard_range *ranges, size_t nr,
	const struct gm_discard_opts *opts, struct gm_discard_result *ret, struct gm_error *err);

/**
 * gm_discard_pfns() - the same for page numbers of a virtio balloon
 * @space: borrowed
 * @pfns:  @nr numbers of pages of 4096 bytes, in the byte order of this machine; sorted in place
 * @nr:    their number
 * @opts:  borrowed; NULL = defaults
 * @ret:   optional
 * @err:   optional
 *
 * Returns as gm_discard_ranges(). Threads: any. Since: 0.1.
 */
GM_API int gm_discard_pfns(struct gm_space *space, uint32_t *pfns, size_t nr,
	const struct gm_discard_opts *opts, struct gm_discard_result *ret, struct gm_error *err);

/**
 * gm_discard_bitmap() - the same for a bitmap
 * @space:     borrowed
 * @gpa:       address of bit 0
 * @page_size: bytes a bit stands for, not 0
 * @nr:        number of bits
 * @words:     bit i is bit i % 64 of word i / 64
 * @opts:      borrowed; NULL = defaults
 * @ret:       optional
 * @err:       optional
 *
 * Returns as gm_discard_ranges(), or -ERANGE (passes 2^64). Threads: any. Since: 0.1.
 */
GM_API int gm_discard_bitmap(struct gm_space *space, uint64_t gpa, uint64_t page_size, uint64_t nr,
	const uint64_t *words, const struct gm_discard_opts *opts, struct gm_discard_result *ret,
	struct gm_error *err);

/**
 * gm_defer_create() - room to remember parts of huge pages
 * @unit:   bytes of a huge page: a power of two from 8 KiB to 1 GiB
 * @blocks: how many huge pages can be in part at once; more are skipped
 * @ret:    the memory, destroyed with gm_defer_destroy()
 * @err:    optional
 *
 * Only for a balloon whose guest tells *before* it uses a page again (VIRTIO_BALLOON_F_MUST_TELL_HOST)
 * and for a list of one space: a page that is remembered and in use again would be lost. Never for
 * reports of free pages. Returns 0, -EINVAL, -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_defer_create(
	uint64_t unit, uint32_t blocks, struct gm_defer **ret, struct gm_error *err);

/**
 * gm_defer_destroy() - forget all
 * @defer: taken; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_defer_destroy(struct gm_defer *defer);

/**
 * gm_defer_forget() - the guest has taken pages back
 * @defer: borrowed
 * @gpa:   first address
 * @len:   bytes; 0 = to the end of the address space
 *
 * Waits for a list that is being done with @defer: then its pages are gone, or safe. Returns the number
 * of bytes that had been remembered of it. Threads: any, but no callback. Since: 0.1.
 */
GM_API uint64_t gm_defer_forget(struct gm_defer *defer, uint64_t gpa, uint64_t len);

/* ---- who needs it to stay ---- */

/** enum gm_inhibit - which discards are forbidden */
enum gm_inhibit {
	GM_INHIBIT_UNCOORDINATED = 0, /* those of which nobody was told by the map */
	GM_INHIBIT_ALL,
};

/**
 * gm_discard_inhibit() - forbid discards of a range
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes; 0 = to the end of the address space
 * @kind:  enum gm_inhibit
 * @err:   optional
 *
 * Counted: each needs a gm_discard_allow() with the same arguments. Modes that keep the bytes
 * (COLD, PAGEOUT, UNMAP) are not forbidden. When it has returned no forbidden discard is under way.
 * Returns 0, -EINVAL, -ERANGE, -ENOMEM, or -ETIMEDOUT (one is under way: nothing has changed).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_discard_inhibit(
	struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t kind, struct gm_error *err);

/**
 * gm_discard_allow() - take one gm_discard_inhibit() back
 * @space: borrowed
 * @gpa:   as given
 * @len:   as given
 * @kind:  as given
 *
 * Returns 0 or -ENOENT. Threads: any. Since: 0.1.
 */
GM_API int gm_discard_allow(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t kind);

/* ---- what is not to be touched ---- */

/**
 * gm_range_guard() - discard a range and make each access to it in this process a fault
 * @space: borrowed
 * @gpa:   first address
 * @len:   bytes, rounded inwards to pages
 * @flags: GM_DISCARD_ANY_KIND, GM_DISCARD_COORDINATED
 * @ret:   optional
 * @err:   optional
 *
 * For what is unplugged: guard pages (Linux 6.13) are marks in the page table, so no mapping is cut. An
 * access of a vCPU ends KVM_RUN, one through the library is -EIO with the fault guard. They
 * belong to the mapping by which the space reaches the memory: another mapping of the same file has
 * none. Returns as gm_discard(), or -ENOTSUP (the kernel is older; explicit huge pages; locked
 * memory; memory that is not the library's).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_range_guard(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	struct gm_discard_result *ret, struct gm_error *err);

/**
 * gm_range_unguard() - let a range be used again
 * @space: borrowed
 * @gpa:   as given
 * @len:   as given
 * @err:   optional
 *
 * What has no guard pages stays as it is. Returns as gm_range_guard(). Threads: any. Since: 0.1.
 */
GM_API int gm_range_unguard(
	struct gm_space *space, uint64_t gpa, uint64_t len, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
