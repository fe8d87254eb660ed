/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio_blk_stats.h - what a queue of a block device has done, for any thread beside the one that runs it. */
#ifndef GUESTMEM_VIRTIO_BLK_STATS_H
#define GUESTMEM_VIRTIO_BLK_STATS_H

#include <guestmem/virtio_blk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is counted by itself. */
enum gm_virtio_blk_kind {
	GM_VIRTIO_BLK_READS = 0,
	GM_VIRTIO_BLK_WRITES,
	GM_VIRTIO_BLK_FLUSHES,
	GM_VIRTIO_BLK_DISCARDS,
	GM_VIRTIO_BLK_ZEROES,
	GM_VIRTIO_BLK_IDS,    /* what the disk is called */
	GM_VIRTIO_BLK_OTHERS, /* unknown ones, and those without a whole header */
	GM_VIRTIO_BLK_KINDS
};

/**
 * struct gm_virtio_blk_stats - what a queue has done
 * @size:       sizeof(struct gm_virtio_blk_stats)
 * @requests:   that were answered, by enum gm_virtio_blk_kind
 * @failed:     of these, the ones that were answered with an error
 * @read:       bytes that were read
 * @written:    bytes that were written
 * @discarded:  bytes that were discarded
 * @zeroed:     bytes that were made zeros
 * @errors:     sum of @failed
 * @bad:        of these, the ones that broke a rule
 * @unanswered: chains that had no room for an answer
 * @bounced:    parts of requests that went through the buffer
 * @shown:      batches of answers
 * @wanted:     of these, the ones after which the driver wanted to be called
 * @base:       gm_virtq_base() as of its last turn
 */
struct gm_virtio_blk_stats {
	size_t size;
	uint64_t requests[GM_VIRTIO_BLK_KINDS];
	uint64_t failed[GM_VIRTIO_BLK_KINDS];
	uint64_t read;
	uint64_t written;
	uint64_t discarded;
	uint64_t zeroed;
	uint64_t errors;
	uint64_t bad;
	uint64_t unanswered;
	uint64_t bounced;
	uint64_t shown;
	uint64_t wanted;
	uint64_t base;
};

#define GM_VIRTIO_BLK_BUCKETS 32u

/**
 * struct gm_virtio_blk_latency - how long requests of a queue took
 * @size:    sizeof(struct gm_virtio_blk_latency)
 * @buckets: by enum gm_virtio_blk_kind, requests that were answered in less than 2^i us: bucket i, the last has all
 *           others
 * @ns:      sum of the times of these requests
 *
 * From the turn of the queue in which a request was taken to the one in which it was answered: the clock is read once a
 * turn at most, so what is answered in the turn in which it was taken took no time.
 */
struct gm_virtio_blk_latency {
	size_t size;
	uint64_t buckets[GM_VIRTIO_BLK_KINDS][GM_VIRTIO_BLK_BUCKETS];
	uint64_t ns[GM_VIRTIO_BLK_KINDS];
};

/**
 * gm_virtio_blk_stats() - read the counters
 * @q:   borrowed
 * @ret: its size is set; filled in
 *
 * Beside a queue that runs each counter is right by itself, not all of them as of one moment. Returns 0, -E2BIG.
 * Threads: any, as long as the queue is there. Since: 0.1.
 */
GM_API int gm_virtio_blk_stats(
	const struct gm_virtio_blk_queue *q, struct gm_virtio_blk_stats *ret);

/**
 * gm_virtio_blk_latency() - read how long requests took
 * @q:   borrowed
 * @ret: its size is set; filled in
 *
 * Returns 0, -E2BIG. Threads: as gm_virtio_blk_stats(). Since: 0.1.
 */
GM_API int gm_virtio_blk_latency(
	const struct gm_virtio_blk_queue *q, struct gm_virtio_blk_latency *ret);

#ifdef __cplusplus
}
#endif

#endif
