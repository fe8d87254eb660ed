/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source.h - where the bytes of missing memory come from: files, servers, other memory.
 *
 * A source is a number of bytes. It tells what kind of bytes lie at an offset, and reads them: all that was asked
 * for, or an error. What it hands on has been verified, if it has checksums.
 *
 * Sources whose bytes are at hand read, in any number of threads at once. Sources that wait for somebody take requests:
 * these lie in the caller's storage from gm_source_start() to their done(), which is called in gm_source_start() or
 * gm_source_step() and nowhere else; one thread at a time starts, steps and reads. Both forms work on both.
 */
#ifndef GUESTMEM_SOURCE_H
#define GUESTMEM_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_source;

/* What lies at an offset. */
enum gm_source_kind {
	GM_SOURCE_ZERO = 0, /* zeros: there is nothing to be read */
	GM_SOURCE_RAW,      /* bytes of a file as they are: it may be mapped */
	GM_SOURCE_CHUNK,    /* bytes that are made on this machine: copied, decompressed */
	GM_SOURCE_REMOTE,   /* bytes that have to be waited for */
	GM_SOURCE_ABSENT,   /* of a difference: what lies below it; it cannot be read */
};

/**
 * struct gm_source_extent - a stretch of a source of one kind
 * @offset: first byte
 * @len:    bytes, at least 1
 * @kind:   enum gm_source_kind
 * @unit:   it is read in aligned pieces of so many bytes at no more cost; a power of two, or 0: any
 * @fd:     with GM_SOURCE_RAW: the file, borrowed until the source is destroyed; else -1
 * @fd_off: with GM_SOURCE_RAW: byte of the file at @offset
 */
struct gm_source_extent {
	uint64_t offset;
	uint64_t len;
	uint32_t kind;
	uint32_t unit;
	int32_t fd;
	uint32_t reserved;
	uint64_t fd_off;
};

/**
 * struct gm_source_read - a request
 * @offset: first byte
 * @len:    bytes
 * @buf:    room for them; the source's until @done
 * @done:   called once: with 0 and all bytes in @buf, or a negative errno value. It may start requests, and
 *          may not step
 * @ctx:    the caller's
 * @own:    the source's from start to @done
 */
struct gm_source_read {
	uint64_t offset;
	uint64_t len;
	void *buf;
	void (*done)(struct gm_source_read *read, int rc);
	void *ctx;
	uint64_t own[6];
};

/**
 * struct gm_source_ops - a source of the caller; zero means default
 * @size:    sizeof(struct gm_source_ops)
 * @name:    copied (31 bytes); named in errors
 * @len:     bytes
 * @extent:  optional: tells the stretch that begins at @offset < @len of the source. Without it all is
 *           GM_SOURCE_CHUNK, or GM_SOURCE_REMOTE if it has @start
 * @read:    reads all or fails with a negative errno value and a text in @err (which may be NULL). Any number of
 *           threads at once
 * @start:   begins a request, or fails with a negative errno value and is done with it; -EAGAIN: no room for more now.
 *           Exactly one of @read and @start is there; @step and @fd come with @start
 * @step:    completes what can be completed without waiting; a negative errno value ends the source: what is under way
 *           has been completed with errors
 * @fd:      becomes readable when there is something to step; borrowed
 * @destroy: optional: nothing is under way
 * @ctx:     passed to each
 */
struct gm_source_ops {
	size_t size;
	const char *name;
	uint64_t len;
	int (*extent)(void *ctx, uint64_t offset, struct gm_source_extent *ret_extent);
	int (*read)(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err);
	int (*start)(void *ctx, struct gm_source_read *read);
	int (*step)(void *ctx);
	int (*fd)(void *ctx);
	void (*destroy)(void *ctx);
	void *ctx;
};

/**
 * gm_source_create() - a source of the caller's own functions
 * @ops:        copied; ops->ctx is destroyed with the source, and only with it (not if this fails)
 * @ret_source: the caller's, for gm_source_destroy()
 * @err:        optional
 *
 * Return: 0, -EINVAL (functions or flags that do not go together), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_source_create(
	const struct gm_source_ops *ops, struct gm_source **ret_source, struct gm_error *err);

/**
 * gm_source_destroy() - ends a source; nothing of it is under way any more
 * @source: or NULL
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_source_destroy(struct gm_source *source);

/**
 * gm_source_memory() - bytes of this process
 * @data:       borrowed until the source is destroyed
 * @len:        bytes
 * @ret_source: the caller's
 * @err:        optional
 *
 * Return: 0, -EINVAL, -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_source_memory(
	const void *data, uint64_t len, struct gm_source **ret_source, struct gm_error *err);

/**
 * gm_source_file() - a raw file: memory as it is, holes are zeros
 * @fd:         a regular file, memfd or block device, opened for reading; kept by a duplicate, whose
 *              position is that of @fd: it moves
 * @offset:     of its first byte that counts
 * @len:        bytes; 0 = to the end of the file. What lies behind its end is -ENODATA when it is read
 * @ret_source: the caller's
 * @err:        optional
 *
 * Return: 0, -EINVAL, -ERANGE (the file is shorter), -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_source_file(
	int fd, uint64_t offset, uint64_t len, struct gm_source **ret_source, struct gm_error *err);

/* gm_source_layer.flags: what is zeros in it is what lies below: a file of differences with holes */
#define GM_SOURCE_HOLES_SHOW 0x1u

/**
 * struct gm_source_layer - a source that lies on others
 * @source:   borrowed until the layers are destroyed
 * @flags:    GM_SOURCE_HOLES_SHOW; of the lowest it means nothing
 * @reserved: zero
 */
struct gm_source_layer {
	struct gm_source *source;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * gm_source_layers() - sources on each other: for each offset the topmost that has it
 * @layers:     copied, the lowest first; the others are as long or shorter
 * @nr:         number of them, 1 to 64
 * @ret_source: the caller's
 * @err:        optional
 *
 * A layer has what is not GM_SOURCE_ABSENT there, nor a hole that shows what lies below. Whether they belong together
 * nobody knows; files of saved memory do (gm_snapshot_source()). It reads, also if a layer waits. Return: 0, -EINVAL,
 * -ERANGE (one is longer than the lowest), -ENOMEM.
 * Threads: any; its reads as those of the layers. Since: 0.1.
 */
GM_API int gm_source_layers(const struct gm_source_layer *layers, size_t nr,
	struct gm_source **ret_source, struct gm_error *err);

/**
 * gm_source_len() - bytes of a source
 * @source: which
 *
 * Return: bytes. Threads: any. Since: 0.1.
 */
GM_API uint64_t gm_source_len(const struct gm_source *source);

/**
 * gm_source_extent() - what lies at an offset
 * @source:     which
 * @offset:     less than its length
 * @ret_extent: written on success: begins at @offset, ends within the source
 *
 * Return: 0, -ERANGE, -EPROTO (an answer that cannot be), or what the source failed with.
 * Threads: any if the source reads; with start, one at a time. Since: 0.1.
 */
GM_API int gm_source_extent(
	struct gm_source *source, uint64_t offset, struct gm_source_extent *ret_extent);

/**
 * gm_source_read() - reads bytes, and waits for them
 * @source: which
 * @offset: first byte
 * @buf:    room for @len bytes. After an error its contents are undefined
 * @len:    bytes
 * @err:    optional
 *
 * Return: 0, -ERANGE (not all of it lies in the source), or what the source failed with.
 * Threads: any if the source reads; with start, one at a time. Since: 0.1.
 */
GM_API int gm_source_read(
	struct gm_source *source, uint64_t offset, void *buf, size_t len, struct gm_error *err);

/**
 * gm_source_start() - begins a request
 * @source: which
 * @read:   the caller's, filled in; the source's until its done() has been called, which may be before this returns
 *
 * Return: 0: done() is or will be called; -ERANGE, -EAGAIN (too many under way) or what the source failed with: it will
 * not be.
 * Threads: one at a time. Since: 0.1.
 */
GM_API int gm_source_start(struct gm_source *source, struct gm_source_read *read);

/**
 * gm_source_step() - completes requests that can be completed without waiting
 * @source: which
 *
 * Return: 0, or what ended the source.
 * Threads: one at a time; not from done(). Since: 0.1.
 */
GM_API int gm_source_step(struct gm_source *source);

/**
 * gm_source_fd() - what becomes readable when there is something to step
 * @source: which
 *
 * Return: an fd, the source's; -1 if it reads at once.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_source_fd(const struct gm_source *source);

#ifdef __cplusplus
}
#endif

#endif
