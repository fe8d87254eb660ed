/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk.h - where the bytes of a block device are: a file, a disk, a server; reads and writes that do not wait.
 *
 * A disk is shared by threads; each of them works through a channel of its own. A request lies in the caller's storage
 * from gm_disk_start() to its done(), which is called in gm_disk_step() and nowhere else. It ends with all of its
 * bytes or with an error. Requests that are under way together have no order; a flush covers all that was done, on any
 * channel of the disk, before it was started.
 *
 *	gm_disk_start(channel, &req);	any number of them
 *	gm_disk_step(channel);		they go to the disk, and what is done is told
 *	... wait for gm_disk_fd(channel)
 */
#ifndef GUESTMEM_DISK_H
#define GUESTMEM_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_disk;
struct gm_disk_channel;

enum gm_disk_op {
	GM_DISK_READ = 0,
	GM_DISK_WRITE,
	GM_DISK_FLUSH,   /* what was written is durable */
	GM_DISK_DISCARD, /* what the bytes are does not matter any more: a hint */
	GM_DISK_ZERO,    /* the bytes read as zeros from now on */
};

/* gm_disk_req.flags */
#define GM_DISK_DURABLE 0x1u /* GM_DISK_WRITE: durable before it is done */
#define GM_DISK_FREE 0x2u    /* GM_DISK_ZERO: the bytes need not be kept allocated */

/**
 * struct gm_disk_req - a request; zero the rest
 * @op:       enum gm_disk_op
 * @flags:    GM_DISK_* bits
 * @off:      first byte on the disk
 * @len:      bytes; of reads and writes as many as @slices have
 * @slices:   of reads and writes: @nr of them, 1 to 1024; the disk's until @done, which may cut them
 * @nr:       number of slices
 * @reserved: zero
 * @done:     called once: with 0, or a negative errno value. It may start requests, and may not step
 * @ctx:      the caller's
 * @own:      the disk's from start to @done
 */
struct gm_disk_req {
	uint32_t op;
	uint32_t flags;
	uint64_t off;
	uint64_t len;
	struct iovec *slices;
	uint32_t nr;
	uint32_t reserved;
	void (*done)(struct gm_disk_req *req, int rc);
	void *ctx;
	uint64_t own[8];
};

/* gm_disk_info.flags */
#define GM_DISK_READ_ONLY 0x1u
#define GM_DISK_CAN_DISCARD 0x2u
#define GM_DISK_CAN_FREE 0x4u  /* GM_DISK_FREE gives room back */
#define GM_DISK_DIRECT 0x8u    /* past the page cache */
#define GM_DISK_BY_URING 0x10u /* of a file: the channel that was opened last goes by io_uring */

/**
 * struct gm_disk_info - what a disk is
 * @size:          sizeof(struct gm_disk_info)
 * @len:           bytes
 * @flags:         GM_DISK_* bits
 * @align:         offsets and lengths are multiples of it, and lengths of slices; a power of two, 1: any
 * @mem_align:     addresses of slices are; a power of two, 1: any
 * @block:         logical block that is told to guests, at least 512
 * @physical:      what is written at once, at least @block
 * @discard_align: what can be freed; 0: not known
 */
struct gm_disk_info {
	size_t size;
	uint64_t len;
	uint32_t flags;
	uint32_t align;
	uint32_t mem_align;
	uint32_t block;
	uint32_t physical;
	uint32_t discard_align;
};

/**
 * struct gm_disk_ops - a disk of the caller
 * @size:    sizeof(struct gm_disk_ops)
 * @name:    copied (31 bytes); named in errors
 * @look:    what it is now; any thread. Fields of 0 are completed
 * @open:    makes a channel for up to @depth requests under way
 * @close:   ends it; nothing is under way
 * @start:   begins a request, or fails with a negative errno value and is done with it; -EAGAIN: no room for more now
 * @step:    sends what was started, and completes what can be completed without waiting; 1: more is to be sent
 * @fd:      becomes readable when there is something to step; borrowed
 * @destroy: optional: no channel is open
 * @ctx:     passed to @look, @open and @destroy
 */
struct gm_disk_ops {
	size_t size;
	const char *name;
	int (*look)(void *ctx, struct gm_disk_info *ret);
	int (*open)(void *ctx, uint32_t depth, void **ret_channel, struct gm_error *err);
	void (*close)(void *channel);
	int (*start)(void *channel, struct gm_disk_req *req);
	int (*step)(void *channel);
	int (*fd)(void *channel);
	void (*destroy)(void *ctx);
	void *ctx;
};

/**
 * gm_disk_create() - a disk of the caller's own functions
 * @ops:      copied; ops->ctx is destroyed with the disk, and only with it (not if this fails)
 * @ret_disk: the caller's, for gm_disk_destroy()
 * @err:      optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_disk_create(
	const struct gm_disk_ops *ops, struct gm_disk **ret_disk, struct gm_error *err);

/**
 * gm_disk_destroy() - ends a disk
 * @disk: taken; no channel of it is open. NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_disk_destroy(struct gm_disk *disk);

/* gm_disk_file_opts.flags */
#define GM_DISK_NO_URING 0x1u /* plain calls, which wait, instead of io_uring */

/**
 * struct gm_disk_file_opts - a raw image; zero means default
 * @size:  sizeof(struct gm_disk_file_opts)
 * @fd:    a regular file or a block device. How it was opened counts: for reading only, with O_DIRECT
 * @flags: GM_DISK_* bits
 * @block: logical block that is told to guests; 0 = what direct access takes, or 512
 */
struct gm_disk_file_opts {
	size_t size;
	int fd;
	uint32_t flags;
	uint32_t block;
	uint32_t reserved;
};

/**
 * gm_disk_file() - a raw file or block device
 * @opts:     borrowed for the call; the fd is kept by a duplicate
 * @ret_disk: the caller's
 * @err:      optional
 *
 * By io_uring where the library has it and the kernel allows it, else by calls that wait in gm_disk_step(). What is
 * discarded becomes a hole, or is left alone where there are none; zeros are written where nothing else makes them.
 * Returns 0, -EINVAL, -ENOMEM, or what a system call failed with. Threads: any; as long as requests are
 * under way on a channel one thread starts and steps. Since: 0.1.
 */
GM_API int gm_disk_file(
	const struct gm_disk_file_opts *opts, struct gm_disk **ret_disk, struct gm_error *err);

/**
 * struct gm_disk_nbd_opts - an export; zero means default
 * @size:       sizeof(struct gm_disk_nbd_opts)
 * @uri:        of the server and the export, as of struct gm_nbd_opts
 * @connect_ms: how long opening a channel may take; 0 = 10 s
 * @flags:      GM_DISK_READ_ONLY, or 0
 */
struct gm_disk_nbd_opts {
	size_t size;
	const char *uri;
	uint32_t connect_ms;
	uint32_t flags;
};

/**
 * gm_disk_nbd() - a network block device: nbdkit, or a qcow2 image behind qemu-nbd
 * @opts:     borrowed for the call
 * @ret_disk: the caller's
 * @err:      optional
 *
 * Each channel is a connection. A server that does not promise that connections see the same gets one: the second
 * channel is -EBUSY. What is under way when the connection is lost fails with -EIO, and so does what comes after it.
 * Returns 0, -EINVAL, -ETIMEDOUT, -ENOMEM, what the connection failed with; -ENOTSUP in a build without libnbd.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_disk_nbd(
	const struct gm_disk_nbd_opts *opts, struct gm_disk **ret_disk, struct gm_error *err);

/**
 * gm_disk_look() - what a disk is now
 * @disk:     borrowed
 * @ret_info: its size is set; filled in
 *
 * Returns 0, -E2BIG, -EPROTO (an answer that cannot be), or what the disk failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_disk_look(struct gm_disk *disk, struct gm_disk_info *ret_info);

/**
 * gm_disk_open() - a way to a disk, for one thread
 * @disk:        borrowed until it is closed
 * @depth:       requests under way at most, 1 to 4096
 * @ret_channel: the caller's, for gm_disk_close()
 * @err:         optional
 *
 * Returns 0, -EINVAL, -ENOMEM, or what the disk failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_disk_open(struct gm_disk *disk, uint32_t depth, struct gm_disk_channel **ret_channel,
	struct gm_error *err);

/**
 * gm_disk_close() - ends a channel
 * @channel: taken; nothing is under way. NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_disk_close(struct gm_disk_channel *channel);

/**
 * gm_disk_start() - begins a request
 * @channel: borrowed
 * @req:     the caller's, filled in; the disk's until its done() is called
 *
 * It may go to the disk no sooner than with the next step. Returns 0; -EAGAIN (too many under way), -EINVAL (no such
 * request), -ERANGE (not all of it lies on the disk), -EROFS, or what the disk failed with: done() will not be called.
 * Threads: one at a time for all that follows. Since: 0.1.
 */
GM_API int gm_disk_start(struct gm_disk_channel *channel, struct gm_disk_req *req);

/**
 * gm_disk_step() - sends what was started, and completes what is done; does not wait
 * @channel: borrowed; not from done()
 *
 * Returns 0; 1: something is still to be sent, step again; or a negative errno value: the channel can send no more.
 * Threads: as gm_disk_start(). Since: 0.1.
 */
GM_API int gm_disk_step(struct gm_disk_channel *channel);

/**
 * gm_disk_fd() - what becomes readable when there is something to step
 * @channel: borrowed
 *
 * Returns an fd, the channel's. Threads: any. Since: 0.1.
 */
GM_API int gm_disk_fd(const struct gm_disk_channel *channel);

#ifdef __cplusplus
}
#endif

#endif
