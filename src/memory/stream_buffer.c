/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_buffer.c - streams that are buffers: bytes are copied in sections, there is no call and no pin.
 */
#include <errno.h>
#include <guestmem/access.h>

#include "memory/chain.h"
#include "memory/stream.h"

static int grow(struct gm_stream *stream, uint64_t end)
{
	uint64_t cap = stream->cap ? stream->cap : 4096;
	uint8_t *buf;

	if (end <= stream->cap)
		return 0;
	while (cap < end)
		cap *= 2;
	if (cap > stream->max)
		cap = stream->max;
	buf = gm_sys_realloc(stream->buf, (size_t)cap, 1);
	if (!buf)
		return -ENOMEM;
	stream->buf = buf;
	stream->cap = cap;
	return 0;
}

static bool grows(const struct gm_transfer *t)
{
	return t->stream->kind == GM_STREAM_GROWING && t->side == GM_CHAIN_READABLE;
}

/* Bytes from the position on. */
static uint64_t room(const struct gm_transfer *t)
{
	return (grows(t) ? t->stream->max : t->stream->len) - t->stream->off;
}

/* @n bytes from or to the chain, or @gpa if there is none. */
static int touch(const struct gm_transfer *t, const struct gm_view *view, uint64_t gpa, size_t n,
	size_t *ret_did)
{
	uint8_t *at = t->stream->buf + t->stream->off;

	if (t->side == GM_CHAIN_WRITABLE)
		return t->chain ? gm_chain_write(t->chain, view, at, n, ret_did)
				: gm_write(view, gpa, at, n, ret_did);
	return t->chain ? gm_chain_read(t->chain, view, at, n, ret_did)
			: gm_read(view, gpa, at, n, ret_did);
}

/* @n bytes, which the buffer has room for. */
static int copy(const struct gm_transfer *t, uint64_t gpa, size_t n, size_t *ret_did)
{
	struct gm_stream *stream = t->stream;
	int rc;

	*ret_did = 0;
	if (grows(t)) {
		rc = grow(stream, stream->off + n);
		if (rc)
			return rc;
	}
	rc = touch(t, gm_reader_enter(t->reader), gpa, n, ret_did);
	gm_reader_leave(t->reader);
	stream->off += *ret_did;
	if (stream->len < stream->off)
		stream->len = stream->off;
	return rc;
}

int gm_stream_move_buffer(const struct gm_transfer *t, uint64_t gpa, size_t *done)
{
	if (t->stream->kind == GM_STREAM_SOURCE && t->side == GM_CHAIN_READABLE)
		return -EBADF;
	while (*done < t->len) {
		uint64_t n = t->len - *done;
		size_t did;
		int rc;

		if (n > room(t))
			n = room(t);
		if (n == 0)
			return gm_transfer_end(t);
		rc = copy(t, gpa + *done, n < GM_STREAM_SECTION ? n : GM_STREAM_SECTION, &did);
		*done += did;
		if (rc)
			return rc;
	}
	return 0;
}
