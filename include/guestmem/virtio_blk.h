/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_blk.h - a block device for guests: requests come from virtqueues, bytes go between a disk and guest memory.
 *
 * Source: "Virtual I/O Device (VIRTIO) Version 1.2", section 5.2. The transport (vhost-user, PCI, MMIO) is the
 * caller's, with its features, its kicks and its calls. A device is shared by threads; a queue of it belongs to one at
 * a time: a thread for each, or one for all.
 *
 *	loop:	wait for the kick of the queue, or gm_virtio_blk_fd(q)
 *		do {
 *			rc = gm_virtio_blk_run(q, 0, &err);
 *			if (rc < 0 || (rc & GM_VIRTIO_BLK_CALL))
 *				... interrupt
 *		} while (rc > 0 && (rc & GM_VIRTIO_BLK_MORE));
 *
 * The driver is not trusted: what it wrote is read once and checked in the copy. Data go straight between the disk and
 * slices of guest memory, which are pinned as long as the disk works on them; only what the disk cannot reach, or not
 * at that alignment, goes through a buffer.
 */
#ifndef GUESTMEM_VIRTIO_BLK_H
#define GUESTMEM_VIRTIO_BLK_H

#include <guestmem/disk.h>
#include <guestmem/space.h>
#include <guestmem/virtq.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_virtio_blk;
struct gm_virtio_blk_queue;

/* Features of the device, as bits of the driver's 64. */
#define GM_VIRTIO_BLK_F_SEG_MAX (UINT64_C(1) << 2)
#define GM_VIRTIO_BLK_F_RO (UINT64_C(1) << 5)
#define GM_VIRTIO_BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define GM_VIRTIO_BLK_F_FLUSH (UINT64_C(1) << 9)
#define GM_VIRTIO_BLK_F_TOPOLOGY (UINT64_C(1) << 10)
#define GM_VIRTIO_BLK_F_CONFIG_WCE (UINT64_C(1) << 11)
#define GM_VIRTIO_BLK_F_MQ (UINT64_C(1) << 12)
#define GM_VIRTIO_BLK_F_DISCARD (UINT64_C(1) << 13)
#define GM_VIRTIO_BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

#define GM_VIRTIO_BLK_CONFIG_LEN 60u

/* gm_virtio_blk_opts.flags */
#define GM_VIRTIO_BLK_READ_ONLY 0x1u
#define GM_VIRTIO_BLK_NO_DISCARD 0x2u      /* offer none */
#define GM_VIRTIO_BLK_NO_WRITE_ZEROES 0x4u /* offer none */

/**
 * struct gm_virtio_blk_opts - a device; zero means default
 * @size:        sizeof(struct gm_virtio_blk_opts)
 * @disk:        borrowed until the device is destroyed
 * @serial:      copied, at most 20 bytes; NULL = none
 * @flags:       GM_VIRTIO_BLK_* bits
 * @nr_queues:   that guests are told, 1 to 1024; 0 = 1
 * @seg_max:     segments of a request that guests are told; 0 = 126
 * @discard_max: bytes of a segment of a discard or of zeros; 0 = 1 GiB
 * @reserved:    zero
 */
struct gm_virtio_blk_opts {
	size_t size;
	struct gm_disk *disk;
	const char *serial;
	uint32_t flags;
	uint32_t nr_queues;
	uint32_t seg_max;
	uint32_t reserved;
	uint64_t discard_max;
};

/**
 * gm_virtio_blk_create() - a device without queues
 * @opts:    copied
 * @ret_blk: the caller's, for gm_virtio_blk_destroy()
 * @err:     optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM, or what gm_disk_look() returns. Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_blk_create(const struct gm_virtio_blk_opts *opts,
	struct gm_virtio_blk **ret_blk, struct gm_error *err);

/**
 * gm_virtio_blk_destroy() - the end
 * @blk: taken; it has no queues. NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_virtio_blk_destroy(struct gm_virtio_blk *blk);

/**
 * gm_virtio_blk_features() - what the device offers; what the transport offers is not in it
 * @blk: borrowed
 *
 * Threads: any. Since: 0.1.
 */
GM_API uint64_t gm_virtio_blk_features(const struct gm_virtio_blk *blk);

/**
 * gm_virtio_blk_accept() - what the driver has accepted
 * @blk:      borrowed
 * @features: bits of other numbers than the device's are not looked at
 * @err:      optional
 *
 * Returns 0, or -EINVAL: one of bits 0 to 23 that is not offered; nothing changed. Until it is called the driver
 * counts as one that has accepted nothing: without GM_VIRTIO_BLK_F_FLUSH each write is durable before it is done.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_blk_accept(struct gm_virtio_blk *blk, uint64_t features, struct gm_error *err);

/**
 * gm_virtio_blk_config_read() - bytes of the configuration space
 * @blk: borrowed
 * @off: first byte
 * @buf: room for @len bytes; behind the end they are zeros
 * @len: bytes
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_virtio_blk_config_read(
	const struct gm_virtio_blk *blk, uint32_t off, void *buf, uint32_t len);

/**
 * gm_virtio_blk_config_write() - the driver writes to it
 * @blk: borrowed
 * @off: first byte
 * @buf: @len bytes
 * @len: bytes
 *
 * One field can be written: whether there is a cache that is written back. Returns 0, -EINVAL: nothing changed.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_blk_config_write(
	struct gm_virtio_blk *blk, uint32_t off, const void *buf, uint32_t len);

/**
 * gm_virtio_blk_resize() - look whether the disk has another size
 * @blk: borrowed
 *
 * Returns 1: the configuration has changed, tell the driver; 0; or what gm_disk_look() returns.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_blk_resize(struct gm_virtio_blk *blk);

/**
 * struct gm_virtio_blk_queue_opts - a queue; zero means default
 * @size:    sizeof(struct gm_virtio_blk_queue_opts)
 * @vq:      borrowed; the caller starts it, before the first run, and destroys it after the queue. It may be tracked
 * @space:   borrowed: where the guest's addresses are looked up
 * @channel: borrowed: to the device's disk, with others of the same thread; NULL = one of its own
 * @depth:   requests under way at most; 0 = as many as @vq has entries, 128 at most
 * @batch:   requests that are taken at once, and between two looks for others; 0 = 64
 */
struct gm_virtio_blk_queue_opts {
	size_t size;
	struct gm_virtq *vq;
	struct gm_space *space;
	struct gm_disk_channel *channel;
	uint32_t depth;
	uint32_t batch;
};

/**
 * gm_virtio_blk_queue_create() - a queue of a device
 * @blk:   borrowed until the queue is destroyed
 * @opts:  copied
 * @ret_q: the caller's, for gm_virtio_blk_queue_destroy()
 * @err:   optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM, what gm_reader_create() and gm_disk_open() return.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_virtio_blk_queue_create(struct gm_virtio_blk *blk,
	const struct gm_virtio_blk_queue_opts *opts, struct gm_virtio_blk_queue **ret_q,
	struct gm_error *err);

/**
 * gm_virtio_blk_queue_destroy() - the end
 * @q: taken; NULL is ignored
 *
 * It waits until the disk has done what is under way, since the kernel may write to guest memory until then; what is
 * not answered stays so. Threads: the one that ran it, or any if nothing is under way; in no section. Since: 0.1.
 */
GM_API void gm_virtio_blk_queue_destroy(struct gm_virtio_blk_queue *q);

#define GM_VIRTIO_BLK_CALL 0x1 /* the driver wants to be interrupted */
#define GM_VIRTIO_BLK_MORE 0x2 /* run again: neither a kick nor the fd would tell */

#define GM_VIRTIO_BLK_BUSY                                                                         \
	0x1u /* of gm_virtio_blk_run(): the caller comes back by itself, no kick is wanted */

/**
 * gm_virtio_blk_run() - take requests, send them to the disk, answer what is done; does not wait
 * @q:     borrowed
 * @flags: GM_VIRTIO_BLK_BUSY, or 0
 * @err:   optional
 *
 * Of queues that share a channel each is run when its fd is readable. A request that waits for a translation (-EAGAIN
 * of an IOMMU) is tried again by each run. Returns GM_VIRTIO_BLK_* bits; or, after all of that, a negative errno value:
 * the driver broke a rule of the queue (-EPROTO), or a ring cannot be reached. Then call the driver; requests under way
 * are still served by later runs, and no new ones are taken as long as the cause is there.
 * Threads: one at a time, in no section. Since: 0.1.
 */
GM_API int gm_virtio_blk_run(struct gm_virtio_blk_queue *q, uint32_t flags, struct gm_error *err);

/** gm_virtio_blk_fd() - becomes readable when it is to be run, besides kicks. Threads: any. Since: 0.1. */
GM_API int gm_virtio_blk_fd(const struct gm_virtio_blk_queue *q);

/** gm_virtio_blk_out() - requests that were taken and not answered. Threads: any. Since: 0.1. */
GM_API uint32_t gm_virtio_blk_out(const struct gm_virtio_blk_queue *q);

/** gm_virtio_blk_pause() - take no requests (@on), or take them again. Threads: as gm_virtio_blk_run(). Since: 0.1. */
GM_API void gm_virtio_blk_pause(struct gm_virtio_blk_queue *q, bool on);

/**
 * gm_virtio_blk_let_go() - wait until no guest memory is in use that was looked up before
 * @q:          borrowed
 * @timeout_ms: how long at most
 * @err:        optional
 *
 * For whoever has taken a translation or a region away. Nothing is taken, sent or answered meanwhile, and what waits
 * for a translation goes on waiting, so this cannot wait for who waits for it. Returns 0, -ETIMEDOUT, or what the disk
 * failed with. Threads: as gm_virtio_blk_run(), in no section. Since: 0.1.
 */
GM_API int gm_virtio_blk_let_go(
	struct gm_virtio_blk_queue *q, uint32_t timeout_ms, struct gm_error *err);

/**
 * gm_virtio_blk_stop() - pause, and wait until all that was taken is answered
 * @q:          borrowed
 * @timeout_ms: how long at most
 * @ret_base:   gm_virtq_base() of its queue
 * @err:        optional
 *
 * Returns GM_VIRTIO_BLK_CALL or 0; -ETIMEDOUT; -EAGAIN: the disk has nothing to do, and requests wait for translations
 * that have not come for 200 ms; or what gm_virtio_blk_run() returns. It stays paused.
 * Threads: as gm_virtio_blk_run(). Since: 0.1.
 */
GM_API int gm_virtio_blk_stop(struct gm_virtio_blk_queue *q, uint32_t timeout_ms,
	uint32_t *ret_base, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
