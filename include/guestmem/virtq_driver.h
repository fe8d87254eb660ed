/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq_driver.h - the driver's side of a virtqueue: for front-ends, and for tests of devices.
 *
 * Source: "Virtual I/O Device (VIRTIO) Version 1.2", sections 2.7 (split) and 2.8 (packed). Rings and buffers lie in
 * memory that the device sees; the caller decides where. What the device wrote is not trusted: an entry that names no
 * buffer which is out is -EPROTO.
 */
#ifndef GUESTMEM_VIRTQ_DRIVER_H
#define GUESTMEM_VIRTQ_DRIVER_H

#include <guestmem/virtq.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_virtq_driver;

/**
 * gm_virtq_driver_create() - a queue with nothing in it
 * @opts:       copied: the same that the device is told
 * @view:       borrowed; the rings are set to zero
 * @ret_driver: the caller's, for gm_virtq_driver_destroy()
 * @err:        optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM, or what gm_cache_init() returns.
 * Threads: reader section; one at a time for all that follows. Since: 0.1.
 */
GM_API int gm_virtq_driver_create(const struct gm_virtq_opts *opts, const struct gm_view *view,
	struct gm_virtq_driver **ret_driver, struct gm_error *err);

/**
 * gm_virtq_driver_destroy() - the end; the rings are left as they are
 * @driver: taken; NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_virtq_driver_destroy(struct gm_virtq_driver *driver);

/**
 * gm_virtq_driver_add() - offer a chain; the device sees it after gm_virtq_driver_show()
 * @driver: borrowed
 * @view:   borrowed
 * @elems:  what the device reads, then what it writes; copied. Lengths below 2^32
 * @nr:     their number, 1 to 64, or to 32768 with a table
 * @table:  0, or with GM_VIRTQ_INDIRECT where a table of 16 * @nr bytes is written, in use until the chain is back
 * @token:  returned by gm_virtq_driver_take(), not NULL
 *
 * Returns 0, -EINVAL, -ENOSPC (not so many descriptors are free), or what writing returned.
 * Threads: as gm_virtq_driver_create(). Since: 0.1.
 */
GM_API int gm_virtq_driver_add(struct gm_virtq_driver *driver, const struct gm_view *view,
	const struct gm_chain_elem *elems, size_t nr, uint64_t table, void *token);

/**
 * gm_virtq_driver_show() - let the device see what was added
 * @driver: borrowed
 * @view:   borrowed
 *
 * Returns 1: it wants to be kicked; 0; or what the ring returned.
 * Threads: as gm_virtq_driver_create(). Since: 0.1.
 */
GM_API int gm_virtq_driver_show(struct gm_virtq_driver *driver, const struct gm_view *view);

/**
 * gm_virtq_driver_take() - a chain that is back
 * @driver:    borrowed
 * @view:      borrowed
 * @ret_token: as it was added
 * @ret_len:   bytes that the device says it wrote, not more than there was room for
 * @err:       optional
 *
 * Returns 1; 0: none; -EPROTO (the device broke a rule; nothing changed); or what the ring returned.
 * Threads: as gm_virtq_driver_create(). Since: 0.1.
 */
GM_API int gm_virtq_driver_take(struct gm_virtq_driver *driver, const struct gm_view *view,
	void **ret_token, uint32_t *ret_len, struct gm_error *err);

/**
 * gm_virtq_driver_calls() - ask the device for calls, or tell it that none is needed
 * @driver: borrowed
 * @view:   borrowed
 * @on:     calls are wanted; as a queue begins they are
 *
 * Returns 1: something is back already; 0; or what the ring returned.
 * Threads: as gm_virtq_driver_create(). Since: 0.1.
 */
GM_API int gm_virtq_driver_calls(
	struct gm_virtq_driver *driver, const struct gm_view *view, bool on);

#ifdef __cplusplus
}
#endif

#endif
