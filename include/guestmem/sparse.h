/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sparse.h - guest memory of whole gigabytes that the host backs in parts, on touch, up to a limit.
 *
 * The guest may map it by leaves of 1 GiB, which shortens its page walks; the host gives it pages of
 * 4 KiB, or huge ones where they are worth it, and zeroes no more than these. A struct gm_sparse owns
 * the region and its limit: it counts what is backed, tells, takes back what is not needed, and lets
 * the kernel refuse what is over where that is asked for.
 */
#ifndef GUESTMEM_SPARSE_H
#define GUESTMEM_SPARSE_H

#include <guestmem/discard.h>
#include <guestmem/policy.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_sparse;

#define GM_SPARSE_UNIT (UINT64_C(1) << 30)

/* gm_sparse_opts.flags */
#define GM_SPARSE_SHARE 0x1u /* a memfd, so that there is an fd to give away */
/*
 * The kernel keeps the limit: the memory is a file in a tmpfs of its own, which has that size. A
 * touch that would pass it is a SIGBUS: -EIO of the library's accesses with the fault guard, KVM_RUN
 * fails with EFAULT (and can be called again when there is room), another process gets the signal.
 * Needs CAP_SYS_ADMIN.
 */
#define GM_SPARSE_HARD 0x2u

/** enum gm_sparse_full - what gm_sparse_poll() does at the limit */
enum gm_sparse_full {
	GM_SPARSE_TELL = 0, /* tells, no more */
	GM_SPARSE_REFUSE,   /* tells; implies GM_SPARSE_HARD */
	GM_SPARSE_RECLAIM,  /* takes back pages of zeros, then what the @cold callback names */
};

/**
 * struct gm_sparse_cold - a range that can be taken back
 * @gpa:      first address
 * @len:      bytes
 * @mode:     GM_DISCARD_NOW: the guest has given it up; GM_DISCARD_PAGEOUT or GM_DISCARD_COLD: it is
 * kept, in swap
 * @reserved: zero
 */
struct gm_sparse_cold {
	uint64_t gpa;
	uint64_t len;
	uint32_t mode;
	uint32_t reserved;
};

/**
 * struct gm_sparse_event - what tell is called with
 * @sparse: whose
 * @used:   bytes that are backed
 * @at:     the threshold that was passed, or the limit
 */
struct gm_sparse_event {
	struct gm_sparse *sparse;
	uint64_t used;
	uint64_t at;
};

#define GM_SPARSE_TELLS 4

/**
 * struct gm_sparse_opts - a sparse region; zero means default
 * @size:       sizeof(struct gm_sparse_opts)
 * @gpa:        first address, a multiple of GM_SPARSE_UNIT
 * @len:        bytes, a multiple of GM_SPARSE_UNIT
 * @limit:      bytes that may be backed, a multiple of the page size; 0 = @len
 * @flags:      GM_SPARSE_* bits
 * @at_limit:   enum gm_sparse_full
 * @bloat:      thousandths of what is backed by small pages that gm_sparse_promote() may add
 * @numa_plus:  1 + NUMA node, for the memory map (SRAT); 0 = none
 * @tell_at:    thresholds in bytes, each told once when it is passed upwards; 0 = none
 * @event_plus: 1 + an eventfd, borrowed, to which 1 is written for each threshold; 0 = none
 * @reserved:   zero
 * @name:       copied (31 bytes); NULL = "sparse"
 * @tell:       optional: called from gm_sparse_poll()
 * @cold:       optional: writes up to @max ranges, coldest first, of about @want bytes, and returns how
 *              many; 0 = there are no more
 * @ctx:        passed to each
 */
struct gm_sparse_opts {
	size_t size;
	uint64_t gpa;
	uint64_t len;
	uint64_t limit;
	uint32_t flags;
	uint32_t at_limit;
	uint32_t bloat;
	uint32_t numa_plus;
	uint64_t tell_at[GM_SPARSE_TELLS];
	int32_t event_plus;
	uint32_t reserved;
	const char *name;
	void (*tell)(void *ctx, const struct gm_sparse_event *event);
	size_t (*cold)(void *ctx, uint64_t want, struct gm_sparse_cold *ranges, size_t max);
	void *ctx;
};

/**
 * struct gm_sparse_info - a sparse region as it is
 * @size:   sizeof(struct gm_sparse_info), set by the caller
 * @region: its number in the space
 * @block:  its memory, borrowed until gm_sparse_destroy()
 * @gpa:    first address
 * @len:    bytes
 * @limit:  bytes
 * @used:   bytes that are backed now, to the page, in memory or swap
 * @huge:   of these, mapped by huge pages in this process
 * @added:  bytes that promotions have added
 * @fd:     its fd, borrowed, or -1
 * @hard:   1 if the kernel keeps the limit
 * @refused: how often gm_sparse_poll() left it at its limit
 * @told:   thresholds that were passed, in all
 */
struct gm_sparse_info {
	size_t size;
	uint64_t region;
	struct gm_block *block;
	uint64_t gpa;
	uint64_t len;
	uint64_t limit;
	uint64_t used;
	uint64_t huge;
	uint64_t added;
	int32_t fd;
	uint32_t hard;
	uint64_t refused;
	uint64_t told;
};

/**
 * gm_sparse_create() - add a sparse region to a space
 * @space:      borrowed, must outlive it
 * @opts:       borrowed, copied
 * @ret_sparse: destroyed with gm_sparse_destroy()
 * @err:        optional
 *
 * Guest and host addresses are equal modulo 1 GiB. No memory is taken.
 * gm_space_memmap() has it as RAM of its node. Returns 0; -EINVAL (not of whole gigabytes, a limit that
 * is no page or more than @len, flags); -E2BIG; -EPERM (GM_SPARSE_HARD without
 * CAP_SYS_ADMIN); -ENOMEM; or as gm_space_add().
 * Threads: any (-EBUSY while a transaction is open). Since: 0.1.
 */
GM_API int gm_sparse_create(struct gm_space *space, const struct gm_sparse_opts *opts,
	struct gm_sparse **ret_sparse, struct gm_error *err);

/**
 * gm_sparse_destroy() - remove the region
 * @sparse: taken, unless the call fails; in no budget; NULL is ignored
 * @err:    optional
 *
 * Returns 0, or as gm_space_remove(); then it goes on.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_sparse_destroy(struct gm_sparse *sparse, struct gm_error *err);

/**
 * gm_sparse_info() - describe it, and count what is backed
 * @sparse:   borrowed
 * @ret_info: filled in
 * @err:      optional
 *
 * With an fd it is what the kernel counts for the file (but for @huge), else a look at the page
 * tables. Returns 0, -EINVAL (size), -ENOMEM, or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_sparse_info(
	struct gm_sparse *sparse, struct gm_sparse_info *ret_info, struct gm_error *err);

/**
 * gm_sparse_poll() - count, tell, and do what is to be done at the limit
 * @sparse:   borrowed
 * @ret_used: optional: bytes that are backed afterwards
 * @err:      optional
 *
 * To be called now and then, and when a touch was refused. Between two calls only GM_SPARSE_HARD keeps
 * a limit; without it as much can be added as the guest can touch in the time. Returns 0; 1 if the
 * region is still at its limit or above; -EBUSY (another thread is in it); or what the kernel answered.
 * Threads: any, but no callback. Since: 0.1.
 */
GM_API int gm_sparse_poll(struct gm_sparse *sparse, uint64_t *ret_used, struct gm_error *err);

/* Nobody writes to the region: pages of zeros of shared memory can be taken back too. */
#define GM_SPARSE_STOPPED 0x1u

/**
 * struct gm_sparse_reclaimed - what was taken back
 * @size:   sizeof(struct gm_sparse_reclaimed), set by the caller
 * @before: bytes that were backed
 * @after:  and are now
 * @zero:   pages of zeros that went, in bytes
 * @cold:   bytes fewer after ranges of the callback
 * @refused: ranges of the callback that lie elsewhere, or could not be discarded
 * @code:   the last answer that was no success, or 0
 */
struct gm_sparse_reclaimed {
	size_t size;
	uint64_t before;
	uint64_t after;
	uint64_t zero;
	uint64_t cold;
	uint64_t refused;
	int32_t code;
	uint32_t reserved;
};

/**
 * gm_sparse_reclaim() - take memory back until not more than so much is backed
 * @sparse: borrowed
 * @goal:   bytes
 * @flags:  GM_SPARSE_STOPPED
 * @ret:    optional
 * @err:    optional
 *
 * First pages of zeros (gm_space_trim()), then ranges that the callback names, by gm_discard(), until a
 * few of its answers in a row have freed nothing. What listeners or inhibitions refuse stays.
 * Returns 0; 1 if more is left; -EINVAL; -EBUSY (another thread is in it); -ENOMEM; or what counting
 * met. Threads: any, but no callback. Since: 0.1.
 */
GM_API int gm_sparse_reclaim(struct gm_sparse *sparse, uint64_t goal, uint32_t flags,
	struct gm_sparse_reclaimed *ret, struct gm_error *err);

/**
 * gm_sparse_set_limit() - another limit
 * @sparse: borrowed
 * @limit:  bytes, not 0, a multiple of the page size, at most the region's length
 * @err:    optional
 *
 * Takes nothing back by itself. Returns 0; -EINVAL; -EBUSY (GM_SPARSE_HARD: more is backed than that);
 * or what the kernel answered. Threads: any. Since: 0.1.
 */
GM_API int gm_sparse_set_limit(struct gm_sparse *sparse, uint64_t limit, struct gm_error *err);

/**
 * gm_sparse_pages() - which pages a touch brings in part of it
 * @sparse: borrowed
 * @off:    first byte of the region
 * @len:    bytes
 * @choice: as gm_policy_set()
 * @err:    optional
 *
 * At first all are base pages. With GM_SPARSE_HARD huge pages of 2 MiB need no setting of the host.
 * Returns as gm_policy_set(), -ERANGE (passes its end). Threads: any. Since: 0.1.
 */
GM_API int gm_sparse_pages(struct gm_sparse *sparse, uint64_t off, uint64_t len,
	const struct gm_page_choice *choice, struct gm_error *err);

/**
 * gm_sparse_promote() - huge pages where they are worth most, within bloat and limit
 * @sparse: borrowed
 * @items:  as gm_policy_promote(); addresses elsewhere are left out
 * @nr:     their number
 * @flags:  as gm_policy_promote()
 * @ret:    optional
 * @err:    optional
 *
 * All promotions together add at most opts.bloat thousandths of what is backed besides. For the guest's
 * page tables and kernel: GM_POLICY_IN_ORDER and GM_POLICY_TOUCH, before anything else is promoted.
 * Returns as gm_policy_promote(). Threads: any (-EBUSY: another thread is in it). Since: 0.1.
 */
GM_API int gm_sparse_promote(struct gm_sparse *sparse, struct gm_heat *items, size_t nr,
	uint32_t flags, struct gm_policy_result *ret, struct gm_error *err);

/**
 * gm_sparse_cpuid() - tell an x86 guest that it can use pages of 1 GiB
 * @leaf: of CPUID
 * @edx:  borrowed: what the guest is to see in EDX
 *
 * Sets bit 26 in leaf 0x80000001. It is for the caller to know whether the processor, or KVM, can walk
 * them (KVM_GET_SUPPORTED_CPUID tells). Returns true if it is that leaf.
 * Threads: any. Since: 0.1.
 */
GM_API bool gm_sparse_cpuid(uint32_t leaf, uint32_t *edx);

#ifdef __cplusplus
}
#endif

#endif
