/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_backend.h - the back-end of vhost-user: a device in this process for a front-end in another one.
 *
 * A back-end is a state machine: a message goes in, a reply comes out, and on the way the device is told by its
 * callbacks which queues it may serve. vhost_server.h brings the socket and a loop. What a front-end says is not
 * trusted: memory, rings, files and features are checked; what it breaks is its own connection.
 *
 * All callbacks come from the thread that calls gm_vhost_backend_handle(), with no lock held. A device serves its
 * queues in that thread (gm_vhost_server_watch() of the kicks) or in threads of its own:
 *
 *	queue_start   a queue may be served from now on; look at it once, as its kick may have come before
 *	queue_stop    when it returns, nothing of the queue, and no slice or pin of guest memory for it, is in use; all
 *	              chains that were taken are given back, or put back by gm_virtq_unpop()
 *
 * A queue is stopped and started again around each change that takes memory away, so a queue_start goes on where
 * the stop was. With GM_VHOST_F_IOMMU_PLATFORM a queue's space is one of IOVAs: what is not translated yet is
 * -EAGAIN, was asked for, and can be tried again in or after @translated.
 */
#ifndef GUESTMEM_VHOST_BACKEND_H
#define GUESTMEM_VHOST_BACKEND_H

#include <guestmem/iommu.h>
#include <guestmem/vhost_msg.h>
#include <guestmem/virtq_inflight.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_vhost_backend;

#define GM_VHOST_QUEUES_MAX 255u

/** struct gm_vhost_queue - a queue that runs; @size is the library's */
struct gm_vhost_queue {
	size_t size;
	uint32_t index;
	uint32_t nr;         /* entries */
	uint32_t flags;      /* GM_VIRTQ_* bits */
	int32_t kick;        /* eventfd, borrowed until queue_stop; -1: poll, or in-band kicks */
	struct gm_virtq *vq; /* borrowed until queue_stop */
	struct gm_space
		*space;    /* borrowed: make a reader of it for as long as the back-end lives */
	uint64_t features; /* of virtio, as negotiated */
};

/**
 * struct gm_vhost_backend_ops - a device; only @queue_start and @queue_stop are required
 * @size:          sizeof(struct gm_vhost_backend_ops)
 * @queue_start:   0, or a negative errno value, which fails what the front-end asked for
 * @queue_stop:    @suspend: do not wait for what is under way, drop it: it is noted as in flight
 * @queue_kick:    an in-band kick
 * @get_config:    @len bytes of the configuration space from @off on; 0 or negative
 * @set_config:    the same to be written; @flags as in struct gm_vhost_config
 * @translated:    translations have come
 * @drain:         a translation was taken away: waits until no slice or pin that was taken before is in use; 0,
 *                 negative
 * @memory:        the front-end's memory has changed
 * @features:      they were negotiated; 0, or negative to refuse them
 * @reset:         to the state of the beginning; no queue runs
 * @status:        the driver's status byte
 * @state:         SET_DEVICE_STATE_FD: writes its state to @fd (@direction 0) or reads it from there (1) as it likes,
 *                 until the end; @fd is taken on success. 0, or negative
 * @check_state:   was all of the state written, or read and good? 0 or negative
 * @shared_object: a descriptor, the caller's, of an object with this UUID; or negative
 * @other:         a message that the back-end knows nothing of: SEND_RARP, NET_SET_MTU, those of crypto and GPU
 *                 devices, and unknown numbers. @fds are borrowed, dup what is kept. 0: done, and *reply's payload
 *                 (len 0 at first) is sent if the message has a reply of its own; or negative, -ENOTSUP: not known
 *                 here either
 * @connected:     a front-end came (@yes), or has left and no queue runs
 */
struct gm_vhost_backend_ops {
	size_t size;
	int (*queue_start)(void *ctx, const struct gm_vhost_queue *queue);
	void (*queue_stop)(void *ctx, uint32_t index, bool suspend);
	void (*queue_kick)(void *ctx, uint32_t index);
	int (*get_config)(void *ctx, uint32_t off, void *buf, uint32_t len);
	int (*set_config)(void *ctx, uint32_t off, const void *buf, uint32_t len, uint32_t flags);
	void (*translated)(void *ctx);
	int (*drain)(void *ctx);
	void (*memory)(void *ctx);
	int (*features)(void *ctx, uint64_t features);
	void (*reset)(void *ctx);
	void (*status)(void *ctx, uint8_t status);
	int (*state)(void *ctx, uint32_t direction, int fd);
	int (*check_state)(void *ctx);
	int (*shared_object)(void *ctx, const uint8_t uuid[16]);
	int (*other)(void *ctx, const struct gm_vhost_msg *msg, const int *fds, uint32_t nr_fds,
		struct gm_vhost_msg *reply);
	void (*connected)(void *ctx, bool yes);
};

/* gm_vhost_backend_opts.flags */
#define GM_VHOST_BACKEND_POSTCOPY                                                                  \
	0x1u /* offer PAGEFAULT; then CONFIGURE_MEM_SLOTS is not offered. Queues need threads of
		their own: who touches a page waits until the front-end brings it */
#define GM_VHOST_BACKEND_INBAND 0x2u  /* offer in-band notifications */
#define GM_VHOST_BACKEND_SUSPEND 0x4u /* queue_stop() can suspend; offered with an in-flight area */
#define GM_VHOST_BACKEND_NO_LOG 0x8u  /* do not offer dirty logging */
#define GM_VHOST_BACKEND_NO_SLOTS 0x10u /* do not offer memory slots, so SET_MEM_TABLE is used */
#define GM_VHOST_BACKEND_GPA 0x20u      /* offer GPA_ADDRESSES */

/**
 * struct gm_vhost_backend_opts - a back-end; zero means default
 * @size:       sizeof(struct gm_vhost_backend_opts)
 * @ops:        of the device; borrowed, copied
 * @ctx:        passed to them
 * @features:   bits of virtio that are offered: those of the device and of rings (VIRTIO_F_VERSION_1,
 *              VIRTIO_F_RING_PACKED, VIRTIO_F_ACCESS_PLATFORM ...). PROTOCOL_FEATURES and LOG_ALL are the back-end's
 *              own
 * @protocol:   protocol features (1 << enum gm_vhost_protocol) offered besides those that follow from @ops and @flags:
 *              RARP, NET_MTU, CRYPTO_SESSION, HOST_NOTIFIER
 * @queues:     number of them, 1 to GM_VHOST_QUEUES_MAX; 0 = 1
 * @queue_size: entries of a queue at most; 0 = 1024
 * @flags:      GM_VHOST_BACKEND_* bits
 * @iotlb:      translations that are kept, as gm_iommu_opts.capacity
 * @gpa_limit:  as gm_space_opts.gpa_limit
 * @timeout_ns: for waits for readers and for what a peer must answer; 0 = 5 seconds
 * @shmem:      bytes of shared memory regions by their numbers, 0: there is none; @nr_shmem of them, copied:
 *              GET_SHMEM_CONFIG
 * @nr_shmem:   0 to GM_VHOST_SHMEM_MAX
 * @name:       copied (31 bytes): of the space; NULL = "vhost"
 */
struct gm_vhost_backend_opts {
	size_t size;
	const struct gm_vhost_backend_ops *ops;
	void *ctx;
	uint64_t features;
	uint64_t protocol;
	uint32_t queues;
	uint32_t queue_size;
	uint32_t flags;
	uint32_t iotlb;
	uint64_t gpa_limit;
	uint64_t timeout_ns;
	const uint64_t *shmem;
	uint32_t nr_shmem;
	uint32_t reserved;
	const char *name;
};

/** struct gm_vhost_answered - what is to be sent back; its descriptors are the caller's to close */
struct gm_vhost_answered {
	bool is;
	uint32_t nr_fds;
	int32_t fds[GM_VHOST_FDS_MAX];
	struct gm_vhost_msg msg;
};

/**
 * gm_vhost_backend_create() - a back-end without a front-end
 * @opts:        borrowed
 * @ret_backend: for gm_vhost_backend_destroy()
 * @err:         optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_backend_create(const struct gm_vhost_backend_opts *opts,
	struct gm_vhost_backend **ret_backend, struct gm_error *err);

/**
 * gm_vhost_backend_destroy() - stop its queues and free it
 * @backend: taken; its spaces have no readers any more; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_vhost_backend_destroy(struct gm_vhost_backend *backend);

/**
 * gm_vhost_backend_handle() - do what a message of the front-end says
 * @backend:    borrowed
 * @msg:        whole, borrowed
 * @fds:        those that came with it; taken in any case
 * @nr_fds:     their number
 * @ret_answer: filled in
 * @err:        optional: also when a failure is answered
 *
 * Returns 0: send what is in @ret_answer, if there is something. Or negative: end the connection, after what is in
 * @ret_answer was sent: -EPROTO (the message breaks the protocol), or why it could not be done, if there is no other
 * way to say so. Threads: one at a time, as all below but where it says any. Since: 0.1.
 */
GM_API int gm_vhost_backend_handle(struct gm_vhost_backend *backend, const struct gm_vhost_msg *msg,
	const int *fds, uint32_t nr_fds, struct gm_vhost_answered *ret_answer,
	struct gm_error *err);

/**
 * gm_vhost_backend_disconnect() - the front-end is gone
 * @backend: borrowed
 *
 * Stops the queues and drops memory, rings, log, translations, features. Then another front-end may come.
 * Threads: as above. Since: 0.1.
 */
GM_API void gm_vhost_backend_disconnect(struct gm_vhost_backend *backend);

/**
 * gm_vhost_backend_space() - the front-end's memory by guest addresses
 * @backend: borrowed
 *
 * Returns it, borrowed; the same as long as the back-end lives. Threads: any. Since: 0.1.
 */
GM_API struct gm_space *gm_vhost_backend_space(struct gm_vhost_backend *backend);

/**
 * gm_vhost_backend_call() - tell the driver that chains of a queue are used
 * @backend: borrowed
 * @index:   of a queue that runs
 *
 * After gm_virtq_flush(), if gm_virtq_wants_call() is not 0; with a log that the front-end keeps elsewhere than the
 * ring (GM_VHOST_VRING_LOG) after each flush. Returns 0, -EINVAL, -EAGAIN, or what writing failed with.
 * Threads: any, between queue_start and the return of queue_stop. Since: 0.1.
 */
GM_API int gm_vhost_backend_call(struct gm_vhost_backend *backend, uint32_t index);

/**
 * gm_vhost_backend_error() - tell the front-end that a queue is broken
 * @backend: borrowed
 * @index:   of a queue that runs, which the device does not serve any more until it is started again
 *
 * Returns as gm_vhost_backend_call(). Threads: as there. Since: 0.1.
 */
GM_API int gm_vhost_backend_error(struct gm_vhost_backend *backend, uint32_t index);

/**
 * gm_vhost_backend_request() - ask the front-end for something
 * @backend: borrowed
 * @msg:     borrowed: enum gm_vhost_backend_request with its payload; flags are the library's
 * @fds:     borrowed
 * @nr_fds:  their number
 * @done:    optional: called once with 0 or a negative errno value, the reply (NULL without one) and its descriptor
 *           (-1, or the callee's), from gm_vhost_backend_channel_event(), or gm_vhost_backend_disconnect()
 * @ctx:     passed to it
 * @err:     optional
 *
 * Never waits. With @done it needs REPLY_ACK, or a message that has a reply of its own. Returns 0, -ENOTCONN (there is
 * no such socket), -ENOTSUP (not negotiated), -EAGAIN (the socket is full, or 16 requests wait for replies), or what
 * sending failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_backend_request(struct gm_vhost_backend *backend,
	const struct gm_vhost_msg *msg, const int *fds, uint32_t nr_fds,
	void (*done)(void *ctx, int rc, const struct gm_vhost_msg *reply, int fd), void *ctx,
	struct gm_error *err);

/**
 * gm_vhost_backend_channel() - the back-end's own socket, to wait for replies at
 * @backend: borrowed
 *
 * Returns it, borrowed until the next call of another function here, or -1. Since: 0.1.
 */
GM_API int gm_vhost_backend_channel(struct gm_vhost_backend *backend);

/**
 * gm_vhost_backend_channel_event() - take the replies that are there, and give up those that are late
 * @backend: borrowed
 *
 * Returns when to call it again in any case, in ns from now; 0: never. Since: 0.1.
 */
GM_API uint64_t gm_vhost_backend_channel_event(struct gm_vhost_backend *backend);

/**
 * gm_vhost_backend_let_go() - do not wait for pages that do not come
 * @backend: borrowed
 * @anyway:  also if the front-end is still there
 *
 * For a device that waits in queue_stop or drain for a thread which may wait for a page of post-copy: if the front-end
 * has closed its connection (of a gm_vhost_server) all that wait get an error. No queue runs any more, and the next
 * message ends the connection. Returns 1: that was done; 0: there was no reason. Threads: that of the callback.
 * Since: 0.1.
 */
GM_API int gm_vhost_backend_let_go(struct gm_vhost_backend *backend, bool anyway);

#ifdef __cplusplus
}
#endif

#endif
