/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workingset.h - how much of its memory a guest uses, estimated from a sample, with bounds.
 *
 * A round begins by making a sample of pages look untouched and ends by looking which of them were
 * touched again. What lies between is the caller's time: nothing here waits, and there are no threads.
 * The memory is cut into strata of as many pages as one is looked at of; so many rounds look at each
 * page once. A page counts in the size in which it is mapped: all of a huge page that was touched.
 *
 *	gm_workingset_create(space, NULL, &ws, &err);
 *	gm_workingset_begin(ws, &err);
 *	... a second ...
 *	gm_workingset_end(ws, &result, &err);
 */
#ifndef GUESTMEM_WORKINGSET_H
#define GUESTMEM_WORKINGSET_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_workingset;

/** enum gm_workingset_method - how a touch is seen */
enum gm_workingset_method {
	GM_WORKINGSET_AUTO =
		0, /* UNMAP for shared memory, else IDLE, else WRITES; by piece of memory */
	GM_WORKINGSET_UNMAP, /* the page-table entry is taken away, and comes back with a touch. Shared
				   memory only: it keeps its bytes in the file */
	GM_WORKINGSET_WRITES, /* asynchronous write protection (Linux 6.7): sees writes, no reads */
	GM_WORKINGSET_IDLE,   /* /sys/kernel/mm/page_idle/bitmap: sees all who map a page; root */
	GM_WORKINGSET_REPORTED, /* what the caller says, such as a balloon's statistics */
};

/* Why memory was not looked at. */
#define GM_WORKINGSET_LEFT_PRIVATE 0x001u   /* private memory: taking the entry would destroy it */
#define GM_WORKINGSET_LEFT_LOCKED 0x002u    /* mlock */
#define GM_WORKINGSET_LEFT_UFFD 0x004u      /* another userfaultfd has it: a pager, a watch */
#define GM_WORKINGSET_LEFT_PINNED 0x008u    /* a slice of it is pinned: devices touch it unseen */
#define GM_WORKINGSET_LEFT_INHIBITED 0x010u /* gm_discard_inhibit() */
#define GM_WORKINGSET_LEFT_PART 0x020u      /* unplugged, or private to the guest */
#define GM_WORKINGSET_LEFT_UNMAPPED 0x040u  /* not mapped here, or memory of a device */
#define GM_WORKINGSET_LEFT_CALLER 0x080u    /* memory of the caller (GM_BACKING_POINTER) */
#define GM_WORKINGSET_LEFT_KERNEL 0x100u    /* the kernel has no way, or refused */
#define GM_WORKINGSET_LEFT_HUGE 0x200u      /* AUTO: WRITES would split its huge pages */

/* What to think of a result. */
#define GM_WORKINGSET_WRITES_ONLY 0x1u /* some of it by WRITES: what was only read does not count */
#define GM_WORKINGSET_PEERS 0x2u       /* who has the file mapped elsewhere was not seen */
#define GM_WORKINGSET_AROUND                                                                       \
	0x4u /* no userfaultfd: what the kernel maps beside a page that was read counts */
#define GM_WORKINGSET_UNTRUSTED 0x8u /* REPORTED */

/**
 * struct gm_workingset_opts - how to look; zero means default
 * @size:   sizeof(struct gm_workingset_opts)
 * @method: enum gm_workingset_method
 * @parts:  one of so many pages is looked at in a round; 0 = 128; 1 = all; at most 65536
 * @seed:   of the sample
 * @gpa:    first address
 * @len:    bytes; 0 = to the end of the address space
 * @bin:    bytes of a bin of gm_workingset_bins(): a power of two from 4096 on; 0 = no bins
 */
struct gm_workingset_opts {
	size_t size;
	uint32_t method;
	uint32_t parts;
	uint64_t seed;
	uint64_t gpa;
	uint64_t len;
	uint64_t bin;
};

/**
 * struct gm_workingset_result - a round, or one piece of memory in it
 * @size:    sizeof(struct gm_workingset_result), set by the caller
 * @methods: 1 << enum gm_workingset_method, of those that were used
 * @notes:   GM_WORKINGSET_WRITES_ONLY and so on
 * @reasons: GM_WORKINGSET_LEFT_* bits
 * @round:   number of the round, from 1
 * @gpa:     of a piece: first address
 * @region:  of a piece: number of the region
 * @total:   bytes of memory
 * @looked:  bytes that the estimate is of
 * @left:    bytes that were not looked at
 * @dropped: bytes that a commit took or moved meanwhile
 * @samples: pages that were looked at
 * @touched: of them, those that were touched
 * @backed:  estimate of the bytes that were mapped when the round began
 * @bytes:   estimate of the bytes that were touched
 * @low:     with @high: the bounds of 95 % (Wilson's; of a whole sample both are @bytes)
 * @high:    see @low
 * @begin_ns: what the call took
 * @end_ns:  what the call took
 * @window_ns: between them
 */
struct gm_workingset_result {
	size_t size;
	uint32_t methods;
	uint32_t notes;
	uint32_t reasons;
	uint32_t reserved;
	uint64_t round;
	uint64_t gpa;
	uint64_t region;
	uint64_t total;
	uint64_t looked;
	uint64_t left;
	uint64_t dropped;
	uint64_t samples;
	uint64_t touched;
	uint64_t backed;
	uint64_t bytes;
	uint64_t low;
	uint64_t high;
	uint64_t begin_ns;
	uint64_t end_ns;
	uint64_t window_ns;
};

/**
 * struct gm_workingset_bin - a stretch of addresses over all rounds
 * @gpa:     first address
 * @len:     bytes
 * @samples: pages that were looked at in all rounds
 * @touched: of them, those that were touched
 * @rounds:  rounds since one was touched; UINT64_MAX = never
 */
struct gm_workingset_bin {
	uint64_t gpa;
	uint64_t len;
	uint64_t samples;
	uint64_t touched;
	uint64_t rounds;
};

/**
 * gm_workingset_create() - get ready to estimate
 * @space: borrowed; must outlive the working set
 * @opts:  borrowed; NULL = defaults
 * @ret:   destroyed with gm_workingset_destroy()
 * @err:   optional
 *
 * It is a listener of the space (listener.h). Returns 0; -EINVAL; -E2BIG; -EBUSY (a transaction is
 * open); -ENOMEM; or what the kernel answered when /proc/self was opened.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_workingset_create(struct gm_space *space, const struct gm_workingset_opts *opts,
	struct gm_workingset **ret, struct gm_error *err);

/**
 * gm_workingset_destroy() - look no more
 * @ws:  taken on success; NULL is ignored
 * @err: optional
 *
 * Returns 0 or -EBUSY (a transaction is open). Threads: owner only. Since: 0.1.
 */
GM_API int gm_workingset_destroy(struct gm_workingset *ws, struct gm_error *err);

/**
 * gm_workingset_begin() - begin a round; one that has not ended is forgotten
 * @ws:  borrowed
 * @err: optional
 *
 * No byte of the guest changes. The guest pays a page fault for each page of the sample that it touches.
 * Memory that it looks at is registered with a userfaultfd from then on, until gm_workingset_destroy(): so
 * a watch (watch.h) or a pager that comes later gets -EBUSY. Returns 0; -ENOTSUP (there is nothing that it
 * could look at: err->text says why, of the first piece); -EBUSY (the space is held); -ENOMEM.
 * Threads: one at a time a working set. Since: 0.1.
 */
GM_API int gm_workingset_begin(struct gm_workingset *ws, struct gm_error *err);

/**
 * gm_workingset_end() - end a round
 * @ws:  borrowed
 * @ret: filled in on success
 * @err: optional
 *
 * Returns 0; -EINVAL (no round was begun, or the size is not set); or what the kernel answered.
 * Threads: one at a time a working set. Since: 0.1.
 */
GM_API int gm_workingset_end(
	struct gm_workingset *ws, struct gm_workingset_result *ret, struct gm_error *err);

/**
 * gm_workingset_report() - what the guest itself says, for GM_WORKINGSET_REPORTED
 * @ws:    borrowed
 * @bytes: bytes in use
 *
 * The next gm_workingset_end() returns it. It is not checked but against the memory that there is.
 * Returns 0 or -EINVAL (another method). Threads: one at a time a working set. Since: 0.1.
 */
GM_API int gm_workingset_report(struct gm_workingset *ws, uint64_t bytes);

/**
 * gm_workingset_pieces() - the last round that has ended, by pieces of memory in rising order
 * @ws:  borrowed
 * @fn:  called with @arg, the piece (borrowed for the call), and why that method was chosen, or why it was not
 *       looked at, in words; non-zero stops
 * @arg: passed to @fn
 *
 * Returns 0 or what @fn returned. Threads: one at a time a working set. Since: 0.1.
 */
GM_API int gm_workingset_pieces(struct gm_workingset *ws,
	int (*fn)(void *arg, const struct gm_workingset_result *piece, const char *why), void *arg);

/**
 * gm_workingset_bins() - heat by address, over all rounds
 * @ws:  borrowed
 * @fn:  called with @arg and each bin that was looked at (borrowed for the call); non-zero stops
 * @arg: passed to @fn
 *
 * Bins begin anew where a commit changes what lies there. Returns 0 or what @fn returned.
 * Threads: one at a time a working set. Since: 0.1.
 */
GM_API int gm_workingset_bins(struct gm_workingset *ws,
	int (*fn)(void *arg, const struct gm_workingset_bin *bin), void *arg);

#ifdef __cplusplus
}
#endif

#endif
