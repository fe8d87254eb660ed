/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * counters.h - what was done to memory since it was made: discards, prefault, collapses, faults, and how
 * long they took.
 *
 * Counting costs two or three relaxed additions in calls that enter the kernel anyway; accesses count nothing.
 */
#ifndef GUESTMEM_COUNTERS_H
#define GUESTMEM_COUNTERS_H

#include <guestmem/block.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum gm_counter - what is counted */
enum gm_counter {
	GM_COUNT_DISCARD = 0, /* stretches given back (discard.h); bytes */
	GM_COUNT_POPULATE,    /* calls that filled memory, GM_BLOCK_POPULATE too; bytes */
	GM_COUNT_COLLAPSE,    /* stretches that were to become huge (policy.h); bytes that did */
	GM_COUNT_TRIM,        /* stretches trimmed; bytes of zeros given back */
	GM_COUNT_FAULT,       /* page faults that somebody told gm_space_count_fault(); bytes */
	GM_COUNTERS,
};

#define GM_LATENCY_BUCKETS 32

/**
 * struct gm_count - one sort of event
 * @calls:  number
 * @failed: of them, those that failed
 * @bytes:  sum
 * @ns:     sum of what they took
 * @by_log2: calls by log2 of nanoseconds: by_log2[10] are those of 1024 to 2047 ns; the last has all longer ones
 */
struct gm_count {
	uint64_t calls;
	uint64_t failed;
	uint64_t bytes;
	uint64_t ns;
	uint64_t by_log2[GM_LATENCY_BUCKETS];
};

/**
 * struct gm_counters - all of them
 * @size:   sizeof(struct gm_counters), set by the caller
 * @counts: by enum gm_counter
 */
struct gm_counters {
	size_t size;
	struct gm_count counts[GM_COUNTERS];
};

/**
 * gm_space_counters() - what was done through a space
 * @space:  borrowed
 * @ret:    filled in; each number by itself is right, they need not belong to one moment
 *
 * What was done to a block by itself (gm_block_populate()) is in the block's counters only.
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_space_counters(struct gm_space *space, struct gm_counters *ret);

/**
 * gm_region_counters() - what was done to the memory of a region
 * @space: borrowed
 * @id:    of the region
 * @ret:   filled in
 *
 * They belong to the block: what regions of one block have in common, in any space, is counted for all of them.
 * Returns 0, -EINVAL (size), -ENOENT (no such region, or no memory). Threads: any. Since: 0.1.
 */
GM_API int gm_region_counters(struct gm_space *space, uint64_t id, struct gm_counters *ret);

/**
 * gm_block_counters() - what was done to a block
 * @block: borrowed
 * @ret:   filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_block_counters(const struct gm_block *block, struct gm_counters *ret);

/**
 * gm_space_count_fault() - a page fault of the guest was answered
 * @space: borrowed
 * @gpa:   address
 * @len:   bytes that were brought
 * @ns:    time from the fault to the answer
 *
 * For whoever answers them: a pager, or a monitor whose vCPU came back with an address. The kernel answers all
 * others without a word. Returns 0 or -EFAULT (no memory there). Threads: any. Since: 0.1.
 */
GM_API int gm_space_count_fault(struct gm_space *space, uint64_t gpa, uint64_t len, uint64_t ns);

#ifdef __cplusplus
}
#endif

#endif
