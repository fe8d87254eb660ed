/* SPDX-License-Identifier: BSD-3-Clause */
/* stream.h - kinds of streams, and the parts that move bytes. */
#ifndef GM_MEMORY_STREAM_H
#define GM_MEMORY_STREAM_H

#include <errno.h>
#include <guestmem/stream.h>
#include <stdbool.h>

#include "sys/raw.h"
#include "sys/sys.h"

/* gm_stream.kind; 0 is no stream. */
enum {
	GM_STREAM_FD = 1,
	GM_STREAM_FILE,
	GM_STREAM_SOCKET,
	GM_STREAM_BUFFER,
	GM_STREAM_SOURCE,
	GM_STREAM_GROWING,
	GM_STREAM_OPS,
};

/* gm_stream.flags */
#define GM_STREAM_DISK 1u    /* a file or disk: no call waits for a peer */
#define GM_STREAM_DIRECT 2u  /* O_DIRECT, with mem_align and off_align */
#define GM_STREAM_MESSAGE 4u /* keeps messages apart: sockets, packet pipes, network devices */
#define GM_STREAM_PEEK 8u    /* a second call would get the same bytes */

/* A transfer between a stream and one side of a chain: WRITABLE is filled from it. */
struct gm_transfer {
	struct gm_stream *stream;
	struct gm_reader *reader;
	struct gm_chain *chain;
	enum gm_chain_side side;
	size_t len;
	bool exact;
};

static inline bool gm_stream_is_buffer(const struct gm_stream *stream)
{
	return stream->kind >= GM_STREAM_BUFFER && stream->kind <= GM_STREAM_GROWING;
}

/* The end of the stream, in a transfer that is exact. */
static inline int gm_transfer_end(const struct gm_transfer *t)
{
	if (!t->exact)
		return 0;
	return t->side == GM_CHAIN_WRITABLE ? -ENODATA : -ENOSPC;
}

/* Would the position pass its end? @t->len is not 0. */
static inline bool gm_transfer_passes_end(const struct gm_transfer *t)
{
	return t->stream->kind == GM_STREAM_FILE && t->len > (uint64_t)INT64_MAX - t->stream->off;
}

/* All there is to a transfer: a buffer, or system calls. @t->len is not 0. */
int gm_stream_run(const struct gm_transfer *t, size_t *done);

/* Bytes of a buffer that are copied in one section. */
#define GM_STREAM_SECTION (UINT64_C(256) << 10)

/* Both move @t->len bytes, not 0; *done is 0 before. Without a chain what is at @gpa. */
int gm_stream_move_buffer(
	const struct gm_transfer *t, uint64_t gpa, size_t *done); /* stream_buffer.c */
int gm_stream_move(const struct gm_transfer *t, size_t *done);    /* stream_move.c */

/* Are all slices as O_DIRECT wants them? (stream_direct.c) */
int gm_stream_check_direct(const struct gm_transfer *t, struct gm_error *err);

/* Bytes that the kernel moves in one call, at most. */
#define GM_STREAM_CALL_MAX ((size_t)0x7ffff000)

/*
 * One call for one slice. Inline: behind a system call the processor does not know where functions
 * return to, so each level costs as much as an atomic addition.
 */
static inline __attribute__((always_inline)) ssize_t gm_stream_call(
	const struct gm_stream *s, const struct iovec *slice, bool write)
{
	void *buf = slice->iov_base;
	size_t len = slice->iov_len;

	/* The position and its end were looked at. */
	if (s->kind == GM_STREAM_FILE)
		return write ? GM_INLINE_CALL(pwrite, SYS_pwrite64, s->fd, buf, len, s->off)
			     : GM_INLINE_CALL(pread, SYS_pread64, s->fd, buf, len, s->off);
	if (s->kind == GM_STREAM_SOCKET)
		return write ? GM_INLINE_CALL(send, SYS_sendto, s->fd, buf, len,
				       s->msg_flags | MSG_NOSIGNAL)
			     : GM_INLINE_CALL(recv, SYS_recvfrom, s->fd, buf, len, s->msg_flags);
	return write ? GM_INLINE_CALL(write, SYS_write, s->fd, buf, len)
		     : GM_INLINE_CALL(read, SYS_read, s->fd, buf, len);
}

/* The kernel could not reach a slice: the host has no page there. */
static inline ssize_t gm_stream_code(ssize_t n)
{
	return n == -EFAULT ? -EIO : n;
}

#endif
