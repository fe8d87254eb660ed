/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_look.h - to look into a back-end of vhost-user: what its front-end shares, and where rings stand.
 *
 * For figures and for tools. Nothing here changes the back-end, asks its front-end for something, or waits.
 */
#ifndef GUESTMEM_VHOST_LOOK_H
#define GUESTMEM_VHOST_LOOK_H

#include <guestmem/vhost_backend.h>

#ifdef __cplusplus
extern "C" {
#endif

/** struct gm_vhost_backend_info - where it stands; @size is set by the caller */
struct gm_vhost_backend_info {
	size_t size;
	uint64_t features; /* acknowledged */
	uint64_t protocol;
	uint32_t regions;
	uint32_t running;  /* queues that the device has */
	uint64_t messages; /* handled */
	uint64_t failed;   /* of these */
	uint64_t misses;   /* translations asked for */
	uint64_t log_len;  /* bytes of the log, 0: there is none */
	uint32_t postcopy; /* 0, 1: advised, 2: listening */
	uint32_t status;   /* the driver's status byte */
	uint64_t offered;  /* features, the back-end's own among them */
	uint64_t offered_protocol;
	uint64_t connections;  /* front-ends that have come */
	uint64_t translations; /* that are kept now */
	uint64_t inflight_len; /* bytes of the area of what is in flight, 0: there is none */
	uint32_t inflight_queues;
	uint32_t inflight_queue_size;
	uint32_t queues;    /* as of the options */
	uint32_t connected; /* 1: there is a front-end */
	uint32_t logging;   /* 1: what is written is marked */
	uint32_t reserved;
};

/** struct gm_vhost_backend_region - memory of the front-end; @size is set by the caller */
struct gm_vhost_backend_region {
	size_t size;
	uint64_t gpa;
	uint64_t len;
	uint64_t user; /* its address in the front-end */
	uint64_t off;  /* byte of its file */
	uint64_t id;   /* of the region in gm_vhost_backend_space() */
};

/* gm_vhost_backend_ring.flags */
#define GM_VHOST_RING_STARTED 0x1u
#define GM_VHOST_RING_ENABLED 0x2u
#define GM_VHOST_RING_RUNS 0x4u   /* the device has it */
#define GM_VHOST_RING_PLACED 0x8u /* its addresses were told */
#define GM_VHOST_RING_LOGGED 0x10u

/**
 * struct gm_vhost_backend_ring - a ring as the front-end has told it; @size is set by the caller
 *
 * @base is where the device stands as of the last time that the ring stood still. Addresses are the front-end's user
 * addresses, with GM_VHOST_F_IOMMU_PLATFORM IOVAs. @calls and @errors are what went out to the driver and to the
 * front-end since the back-end was created.
 */
struct gm_vhost_backend_ring {
	size_t size;
	uint32_t nr; /* entries; 0: not told */
	uint32_t base;
	uint32_t flags; /* GM_VHOST_RING_* bits */
	uint32_t reserved;
	uint64_t desc;
	uint64_t avail;
	uint64_t used;
	uint64_t calls;
	uint64_t errors;
};

/**
 * gm_vhost_backend_info() - read where it stands
 * @backend:  borrowed
 * @ret_info: filled in
 *
 * Returns 0 or -EINVAL (size). Threads: as gm_vhost_backend_handle(). Since: 0.1.
 */
GM_API int gm_vhost_backend_info(
	struct gm_vhost_backend *backend, struct gm_vhost_backend_info *ret_info);

/**
 * gm_vhost_backend_region() - read about a region of the front-end's memory
 * @backend:    borrowed
 * @index:      from 0 on, below gm_vhost_backend_info.regions; in rising order of user addresses
 * @ret_region: filled in
 *
 * Returns 0, -ENOENT, -EINVAL (size). Threads: as gm_vhost_backend_handle(). Since: 0.1.
 */
GM_API int gm_vhost_backend_region(struct gm_vhost_backend *backend, uint32_t index,
	struct gm_vhost_backend_region *ret_region);

/**
 * gm_vhost_backend_ring() - read about a ring
 * @backend:  borrowed
 * @index:    from 0 on, below gm_vhost_backend_info.queues
 * @ret_ring: filled in
 *
 * Returns 0, -ENOENT, -EINVAL (size). Threads: as gm_vhost_backend_handle(). Since: 0.1.
 */
GM_API int gm_vhost_backend_ring(
	struct gm_vhost_backend *backend, uint32_t index, struct gm_vhost_backend_ring *ret_ring);

/**
 * gm_vhost_backend_peek() - read memory where the addresses of rings lead to
 * @backend: borrowed
 * @addr:    user address; with GM_VHOST_F_IOMMU_PLATFORM an IOVA
 * @buf:     room for @len bytes; filled in only on success
 * @len:     bytes
 *
 * To look at a ring from outside: nothing is asked for, and nothing is waited for. Returns 0; -EFAULT: there is no
 * memory, or it is gone; -ENOENT: there is no translation now; -EACCES: there is, not for reading; -EAGAIN: post-copy
 * is under way, and a page might be awaited; -ENOMEM. Threads: as gm_vhost_backend_handle(). Since: 0.1.
 */
GM_API int gm_vhost_backend_peek(
	struct gm_vhost_backend *backend, uint64_t addr, void *buf, size_t len);

/**
 * gm_vhost_backend_log() - read bytes of the log of written pages
 * @backend: borrowed
 * @off:     first byte, of gm_vhost_backend_info.log_len
 * @buf:     room for @len bytes
 * @len:     bytes
 *
 * Bit i % 8 of byte i / 8 stands for the page of 4096 bytes with number i. Marks come, and the front-end takes them,
 * meanwhile. Returns 0; -ENOENT: there is no log; -EINVAL: the bytes are not all its own; -EFAULT: its file has become
 * shorter. Threads: as gm_vhost_backend_handle(). Since: 0.1.
 */
GM_API int gm_vhost_backend_log(
	struct gm_vhost_backend *backend, uint64_t off, void *buf, size_t len);

#ifdef __cplusplus
}
#endif

#endif
