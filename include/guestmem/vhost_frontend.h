/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_frontend.h - a guest's memory and rings for a vhost-user device in another process.
 *
 * User addresses that the back-end is told are guest addresses: it learns no address of this process, and memory need
 * not be mapped here. Each wait has a deadline. A back-end that answers wrongly, late or not at all loses its
 * connection; the error names the message, and gm_vhost_frontend_reconnect() begins anew with all that was set.
 *
 * Calls of one front-end take turns, also with commits of its space. Callbacks run in whichever call meets their cause;
 * a call of the same front-end from one is -EDEADLK.
 */
#ifndef GUESTMEM_VHOST_FRONTEND_H
#define GUESTMEM_VHOST_FRONTEND_H

#include <guestmem/space.h>
#include <guestmem/vhost_msg.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_vhost_frontend;

/**
 * struct gm_vhost_frontend_ops - what a back-end asks for by itself; what is NULL is answered by a failure
 * @size:           sizeof(struct gm_vhost_frontend_ops)
 * @miss:           it lacks a translation: @iotlb has iova and perm; iova, len, user and perm are filled in, and are
 * sent
 *                  after a 0. Negative: there is none
 * @access_fail:    an access was refused by a translation
 * @config_changed: the device's configuration is another
 * @ring_event:     @index, @error: it has used buffers, or the ring has failed (in-band notifications)
 * @shmem_map:      part of a file in a shared memory region; @fd is borrowed. See vhost_shmem.h
 * @shmem_unmap:    no more
 * @host_notifier:  a page for a ring's kicks; @fd is borrowed, or -1
 * @shared_object:  @what is a GM_VHOST_BACKEND_SHARED_OBJECT_*; LOOKUP puts a descriptor in *ret_fd, which is taken
 */
struct gm_vhost_frontend_ops {
	size_t size;
	int (*miss)(void *ctx, struct gm_vhost_iotlb *iotlb);
	void (*access_fail)(void *ctx, const struct gm_vhost_iotlb *iotlb);
	void (*config_changed)(void *ctx);
	void (*ring_event)(void *ctx, uint32_t index, bool error);
	int (*shmem_map)(void *ctx, const struct gm_vhost_shmem_map *map, int fd);
	int (*shmem_unmap)(void *ctx, const struct gm_vhost_shmem_map *map);
	int (*host_notifier)(void *ctx, const struct gm_vhost_area *area, int fd);
	int (*shared_object)(void *ctx, uint32_t what, const uint8_t uuid[16], int *ret_fd);
};

#define GM_VHOST_FRONTEND_RINGS_MAX 256u

/**
 * struct gm_vhost_frontend_opts - a front-end; zero means default
 * @size:          sizeof(struct gm_vhost_frontend_opts)
 * @path:          socket of the back-end, copied; NULL: @fd
 * @fd:            a connected stream socket, borrowed and dup'ed
 * @rings:         number of rings, 1 to GM_VHOST_FRONTEND_RINGS_MAX; 0 = 1
 * @features:      of the device that are wanted if it has them; GM_VHOST_F_* as well, but that for protocol features
 *                 is always wanted
 * @needed:        of @features, without which there is no connection
 * @protocol:      bits of protocol features that are wanted; 0 = all that are known here but INBAND_NOTIFICATIONS,
 *                 CROSS_ENDIAN, PAGEFAULT and XEN_MMAP. With PAGEFAULT there is no CONFIGURE_MEM_SLOTS
 * @protocol_needed: of @protocol, without which there is no connection
 * @slots_max:     memory slots at most; 0 = GM_VHOST_SLOTS_MAX
 * @timeout_ms:    of each wait; 0 = 10 s
 * @kinds:         GM_KIND_BIT()s of the space's memory that is shared; 0 = RAM and PMEM
 * @priority:      of its listener
 * @name:          copied (31 bytes), named in errors; NULL = "vhost-user"
 * @ops:           optional: borrowed, copied
 * @ctx:           passed to each
 */
struct gm_vhost_frontend_opts {
	size_t size;
	const char *path;
	int32_t fd;
	uint32_t rings;
	uint64_t features;
	uint64_t needed;
	uint64_t protocol;
	uint64_t protocol_needed;
	uint32_t slots_max;
	uint32_t timeout_ms;
	uint32_t kinds;
	int32_t priority;
	const char *name;
	const struct gm_vhost_frontend_ops *ops;
	void *ctx;
};

/** struct gm_vhost_frontend_info - a front-end as it is; @size is set by the caller */
struct gm_vhost_frontend_info {
	size_t size;
	uint64_t features; /* negotiated */
	uint64_t protocol; /* negotiated */
	uint64_t offered;  /* features that the back-end has */
	uint64_t messages; /* that were sent on this connection */
	uint64_t misses;   /* that were answered */
	uint64_t log_len;  /* bytes of the dirty log, 0 = none */
	uint32_t slots;    /* that the back-end takes */
	uint32_t regions;  /* that it has */
	uint32_t queues;   /* that it has at most, 0 = it does not say */
	uint32_t connected;
};

/**
 * gm_vhost_frontend_create() - connect to a back-end and agree on features
 * @opts: borrowed
 * @ret:  the front-end, destroyed with gm_vhost_frontend_destroy()
 * @err:  optional
 *
 * It has no memory yet. Returns 0, -EINVAL, -E2BIG, -ENOMEM, -ENOTSUP (lacks a needed feature, or has fewer queues),
 * -EPROTO, -ETIMEDOUT, -ECONNRESET, or what connecting failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_create(const struct gm_vhost_frontend_opts *opts,
	struct gm_vhost_frontend **ret, struct gm_error *err);

/**
 * gm_vhost_frontend_destroy() - close the connection; the back-end forgets all
 * @frontend: taken, unless the call fails; NULL is ignored
 * @err:      optional
 *
 * Returns 0, or -EBUSY (a transaction of its space is open), -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_destroy(struct gm_vhost_frontend *frontend, struct gm_error *err);

/**
 * gm_vhost_frontend_attach() - keep the back-end's table equal to a space's map
 * @frontend: borrowed
 * @space:    borrowed; must outlive @frontend
 * @err:      optional
 *
 * From here on a change that the back-end refuses, that it has no slot for, that moves or takes away a ring, or that
 * has memory without an fd, is refused as a whole, with the back-end as before. While the connection is lost all
 * changes are taken. Messages go out when listeners are asked: first the back-end loses memory, then others. Returns
 * 0, -EBUSY (it has one, or a transaction is open), -ENOTSUP, -ENOSPC, -EREMOTEIO (refused by the back-end), -ENOMEM,
 * or what a connection is lost by. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_attach(
	struct gm_vhost_frontend *frontend, struct gm_space *space, struct gm_error *err);

/**
 * gm_vhost_frontend_reconnect() - connect again after a loss, and set all as it was
 * @frontend: borrowed
 * @fd:       a connected socket, borrowed and dup'ed; -1: by path
 * @err:      optional
 *
 * Features, memory, the log, the area of what is in flight and rings, in this order. Rings begin where the area says,
 * or at what was last known. A back-end that lacks a feature or a slot that it had is refused (-ENOTSUP). Returns 0,
 * -EINVAL, or as gm_vhost_frontend_create(). Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_reconnect(
	struct gm_vhost_frontend *frontend, int fd, struct gm_error *err);

/**
 * gm_vhost_frontend_info() - describe a front-end
 * @frontend: borrowed
 * @ret_info: filled in
 *
 * Returns 0, -EINVAL (size) or -EDEADLK. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_info(
	struct gm_vhost_frontend *frontend, struct gm_vhost_frontend_info *ret_info);

/**
 * gm_vhost_frontend_fd() - what to poll: readable when gm_vhost_frontend_step() has something to do
 * @frontend: borrowed
 *
 * Returns an fd of the front-end, the same also after a reconnect. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_fd(const struct gm_vhost_frontend *frontend);

/**
 * gm_vhost_frontend_step() - do what the back-end asks for
 * @frontend: borrowed
 * @wait_ms:  how long to wait for it; 0 = not
 * @err:      optional
 *
 * Returns 1 (something was done), 0, or why the connection is lost. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_step(
	struct gm_vhost_frontend *frontend, uint32_t wait_ms, struct gm_error *err);

#define GM_VHOST_FRONTEND_RING_LOG 0x1u /* writes into the used ring are logged */
#define GM_VHOST_FRONTEND_RING_OFF 0x2u /* it is not enabled yet */

/**
 * struct gm_vhost_frontend_ring - a ring; zero means default
 * @size:  sizeof(struct gm_vhost_frontend_ring)
 * @num:   entries
 * @flags: GM_VHOST_FRONTEND_RING_* bits
 * @desc:  guest addresses; IOVAs with GM_VHOST_F_IOMMU_PLATFORM. Of a packed ring: the ring
 * @avail: the driver's events
 * @used:  the device's events
 * @base:  where it begins, as GET_VRING_BASE says it. A fresh ring: 0, or if it is packed 0x80008000 (then 0 is a
 *         place too, where a back-end waits for ever)
 * @kick:  eventfd, borrowed and dup'ed; -1: none, the back-end polls
 * @call:  eventfd, borrowed and dup'ed; -1: none
 * @error: eventfd, borrowed and dup'ed; -1: none
 * @log:   guest address that stands for the used ring in the log, with GM_VHOST_FRONTEND_RING_LOG
 */
struct gm_vhost_frontend_ring {
	size_t size;
	uint32_t num;
	uint32_t flags;
	uint64_t desc;
	uint64_t avail;
	uint64_t used;
	uint32_t base;
	int32_t kick;
	int32_t call;
	int32_t error;
	uint64_t log;
};

/**
 * gm_vhost_frontend_ring_start() - give a ring to the back-end
 * @frontend: borrowed
 * @index:    of the ring
 * @ring:     borrowed
 * @err:      optional
 *
 * Without IOMMU each of its three parts must lie in one region that the back-end has, and keeps it there. Returns 0,
 * -EINVAL, -EFAULT (not in its memory), -EBUSY (started), -EREMOTEIO (refused), -ENOMEM, or what a connection is lost
 * by. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_ring_start(struct gm_vhost_frontend *frontend, uint32_t index,
	const struct gm_vhost_frontend_ring *ring, struct gm_error *err);

/**
 * gm_vhost_frontend_ring_stop() - take a ring back
 * @frontend: borrowed
 * @index:    of the ring
 * @ret_base: optional: where it is to begin again
 * @err:      optional
 *
 * When it has returned the back-end does nothing with the ring. If the connection is lost the ring is stopped too, and
 * the return says so. Returns 0, -EINVAL, -ENOENT (not started). Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_ring_stop(struct gm_vhost_frontend *frontend, uint32_t index,
	uint32_t *ret_base, struct gm_error *err);

/**
 * gm_vhost_frontend_ring_enable() - let a ring's requests be worked on, or not
 * @frontend: borrowed
 * @index:    of the ring, which is started
 * @on:       or off
 * @err:      optional
 *
 * Returns as gm_vhost_frontend_ring_start(). Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_frontend_ring_enable(
	struct gm_vhost_frontend *frontend, uint32_t index, bool on, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
