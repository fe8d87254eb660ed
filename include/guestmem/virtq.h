/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq.h - the device's side of a virtqueue: chains of buffers that a driver offers are taken, and given back used.
 *
 * Source: "Virtual I/O Device (VIRTIO) Version 1.2", sections 2.7 (split) and 2.8 (packed). Rings lie in guest memory
 * and are little-endian; addresses are those of the view that is passed, so behind an IOMMU they are IOVAs.
 *
 * The driver is not trusted. What it wrote is read once and checked in the copy; what breaks the specification is
 * -EPROTO with a text, and changes nothing: the queue stands where it stood, and stays there until it is started
 * anew. Memory that cannot be reached (-EFAULT, an IOMMU that does not know an address yet) changes nothing either:
 * the call can be repeated.
 *
 *	while ((rc = gm_virtq_pop(vq, view, elems, NR, &item, &err)) > 0) {
 *		... gm_chain_read(&item.chain, view, ...), gm_chain_write(...)
 *		gm_virtq_push(vq, view, &item, written);
 *	}
 *	if (gm_virtq_wants_call(vq, view) > 0)
 *		... interrupt
 */
#ifndef GUESTMEM_VIRTQ_H
#define GUESTMEM_VIRTQ_H

#include <guestmem/chain.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_virtq;

#define GM_VIRTQ_NR_MAX 32768u

/* gm_virtq_opts.flags: what was negotiated */
#define GM_VIRTQ_PACKED 0x1u   /* VIRTIO_F_RING_PACKED */
#define GM_VIRTQ_INDIRECT 0x2u /* VIRTIO_F_INDIRECT_DESC */
#define GM_VIRTQ_EVENT 0x4u    /* VIRTIO_F_EVENT_IDX */
#define GM_VIRTQ_IN_ORDER                                                                          \
	0x8u /* VIRTIO_F_IN_ORDER: what is pushed too early waits here for those in front of it */

/**
 * struct gm_virtq_opts - a queue; zero means default
 * @size:    sizeof(struct gm_virtq_opts)
 * @desc:    address of the descriptors, a multiple of 16
 * @driver:  of the available ring (a multiple of 2), or the driver's event suppression (4)
 * @device:  of the used ring (a multiple of 4), or the device's event suppression (4)
 * @max_len: bytes of a chain at most; 0 = 2^32, which the specification allows
 * @nr:      entries, 1 to 32768; a power of two unless packed
 * @flags:   GM_VIRTQ_* bits
 */
struct gm_virtq_opts {
	size_t size;
	uint64_t desc;
	uint64_t driver;
	uint64_t device;
	uint64_t max_len;
	uint32_t nr;
	uint32_t flags;
};

/**
 * struct gm_virtq_item - a chain that was taken; only @chain is for the caller
 * @chain: its bytes; its elements are in the array that was passed to gm_virtq_pop()
 * @id:    of its first descriptor (split), of the buffer (packed)
 * @slots: entries of a packed ring that it takes
 * @seq:   number of it among those that are taken, below @nr
 * @track: where it is noted in the area of what is in flight
 */
struct gm_virtq_item {
	struct gm_chain chain;
	uint16_t id;
	uint16_t slots;
	uint16_t seq;
	uint16_t track;
};

/**
 * gm_virtq_create() - a queue that does not run
 * @opts:   copied
 * @ret_vq: the caller's, for gm_virtq_destroy()
 * @err:    optional
 *
 * Returns 0, -EINVAL, -E2BIG (options of a newer version), -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_virtq_create(
	const struct gm_virtq_opts *opts, struct gm_virtq **ret_vq, struct gm_error *err);

/**
 * gm_virtq_destroy() - the end; the rings are left as they are
 * @vq: taken; NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_virtq_destroy(struct gm_virtq *vq);

/**
 * gm_virtq_start() - begin, or go on, at a place
 * @vq:   borrowed
 * @view: borrowed
 * @base: as gm_virtq_base() returned it, or a peer says; of a fresh queue 0 (split) or 0x80008000 (packed)
 * @err:  optional
 *
 * Where the device stands in a split used ring is read from the ring. Returns 0, -EPROTO (a base that cannot be), or
 * what gm_cache_init() returns for a ring that is not all mapped; then the queue does not run. Threads: reader
 * section; one at a time for all that follows. Since: 0.1.
 */
GM_API int gm_virtq_start(
	struct gm_virtq *vq, const struct gm_view *view, uint32_t base, struct gm_error *err);

/**
 * gm_virtq_base() - where it stands
 * @vq: borrowed
 *
 * Returns of a split queue the next index of the available ring; of a packed one bits 0 to 14 the next descriptor to
 * take, 15 its wrap counter, 16 to 30 the next to be written as used, 31 its wrap counter.
 * Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API uint32_t gm_virtq_base(const struct gm_virtq *vq);

/**
 * gm_virtq_pop() - take the next chain
 * @vq:       borrowed
 * @view:     borrowed
 * @elems:    array of @max of the caller, in use as long as the item is
 * @max:      its length
 * @ret_item: filled in, the caller's until gm_virtq_push()
 * @err:      optional
 *
 * Returns 1; 0: nothing is there; -EPROTO; -E2BIG (more elements than @max: the caller chose too few, as a queue has at
 * most @nr, and an indirect table 32768); -EINVAL (not started); or what reading the ring returned.
 * Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_pop(struct gm_virtq *vq, const struct gm_view *view,
	struct gm_chain_elem *elems, size_t max, struct gm_virtq_item *ret_item,
	struct gm_error *err);

/**
 * gm_virtq_unpop() - put back the chain that was taken last
 * @vq:   borrowed
 * @item: of the last gm_virtq_pop(), not pushed
 *
 * Returns 0, -EINVAL (it was not the last), -ENOTSUP (what is out is tracked, virtq_inflight.h). Threads: as
 * gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_unpop(struct gm_virtq *vq, const struct gm_virtq_item *item);

/**
 * gm_virtq_fill() - write an entry of a chain that is used; the driver sees it after gm_virtq_flush()
 * @vq:   borrowed
 * @view: borrowed
 * @item: of gm_virtq_pop(), in any order; taken on success
 * @len:  bytes that were written to its writable side
 *
 * Returns 0; -EINVAL (not started, or more items than were taken); or what writing the ring returned.
 * Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_fill(struct gm_virtq *vq, const struct gm_view *view,
	const struct gm_virtq_item *item, uint32_t len);

/**
 * gm_virtq_flush() - show the driver what was filled
 * @vq:   borrowed
 * @view: borrowed
 *
 * Returns 0, or what writing the ring returned: then nothing of it is shown, and it can be called again.
 * Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_flush(struct gm_virtq *vq, const struct gm_view *view);

/**
 * gm_virtq_push() - both for one chain
 * @vq:   borrowed
 * @view: borrowed
 * @item: as gm_virtq_fill()
 * @len:  as gm_virtq_fill()
 *
 * Returns as these; if gm_virtq_flush() failed the item is taken. Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_push(struct gm_virtq *vq, const struct gm_view *view,
	const struct gm_virtq_item *item, uint32_t len);

/**
 * gm_virtq_wants_call() - does the driver want to hear of what was flushed since the last time this was asked?
 * @vq:   borrowed
 * @view: borrowed
 *
 * Returns 1, 0, or what reading the ring returned: then call. Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_wants_call(struct gm_virtq *vq, const struct gm_view *view);

/**
 * gm_virtq_kicks() - ask the driver for kicks, or tell it that none is needed
 * @vq:   borrowed
 * @view: borrowed
 * @on:   kicks are wanted; as a queue begins they are
 *
 * Returns 1: something is there already, take it, no kick may come; 0: nothing is; or what the ring returned.
 * Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API int gm_virtq_kicks(struct gm_virtq *vq, const struct gm_view *view, bool on);

/**
 * gm_virtq_out() - chains that were taken and not filled, or filled and held back for those in front of them
 * @vq: borrowed
 *
 * Threads: as gm_virtq_start(). Since: 0.1.
 */
GM_API uint32_t gm_virtq_out(const struct gm_virtq *vq);

#ifdef __cplusplus
}
#endif

#endif
