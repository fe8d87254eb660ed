/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_one.c - transfers of one range of guest memory.
 *
 * Most are one slice and one call: that is done here, without a chain and with as little around the
 * call as can be. What is left then, or is not like that, goes the way of chains. A buffer that has all of it is
 * one copy.
 */
#include <errno.h>
#include <guestmem/access.h>

#include "memory/access.h"
#include "memory/chain.h"
#include "memory/lease.h"
#include "memory/stream.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)

static int check_address(const struct gm_transfer *t, uint64_t gpa)
{
	int rc = gm_view_check(gm_reader_enter(t->reader), gpa, 0, gm_chain_perms(t->side));

	gm_reader_leave(t->reader);
	return rc;
}

/* An fd, and neither messages nor O_DIRECT; some bytes, not too many for a call. */
static inline bool is_plain(const struct gm_stream *s, size_t len)
{
	return s->kind - 1u < GM_STREAM_SOCKET && !(s->flags & ~GM_STREAM_DISK) &&
	       len - 1 < GM_STREAM_CALL_MAX;
}

/* What a call that returned @n may have written: one that failed, anything. */
static inline uint64_t written_by(enum gm_chain_side side, size_t len, ssize_t n)
{
	if (side == GM_CHAIN_READABLE || n == -EAGAIN)
		return 0;
	return n < 0 ? len : (uint64_t)n;
}

static inline __attribute__((always_inline)) ssize_t call(
	const struct gm_stream *s, enum gm_chain_side side, const struct iovec *slice)
{
	ssize_t n;

	do {
		n = gm_stream_call(s, slice, side == GM_CHAIN_READABLE);
	} while (n == -EINTR);
	return n;
}

/* From @gpa + *done on. */
static int move_rest(const struct gm_transfer *t, uint64_t gpa, size_t *done)
{
	struct gm_chain_elem elem;
	struct gm_chain chain;
	struct gm_transfer rest = *t;
	size_t count = 0;
	int rc;

	rest.len -= *done;
	gm_chain_of_range(&chain, &elem, t->side, gpa + *done, rest.len);
	rest.chain = &chain;
	rc = gm_stream_run(&rest, &count);
	*done += count;
	return rc;
}

/* After a first call, which returned @n; the position is behind what it moved. */
static int go_on(const struct gm_transfer *t, uint64_t gpa, ssize_t n, size_t *done)
{
	*done = n > 0 ? (size_t)n : 0;
	if (n < 0)
		return (int)gm_stream_code(n);
	if (n == 0)
		return gm_transfer_end(t);
	if (*done == t->len || !(t->exact || (t->stream->flags & GM_STREAM_DISK)))
		return 0;
	return move_rest(t, gpa, done);
}

/* Pieces that are one behind the other in host addresses as well, so that one slice does. */
#define JOINED 4

struct joined {
	struct iovec slice;
	size_t nr;
	struct gm_pin pins[JOINED];
};

/* Of what was written each has its part. */
static void put_joined(struct joined *j, uint64_t written)
{
	for (size_t i = 0; i < j->nr; i++) {
		uint64_t n = j->pins[i].len < written ? j->pins[i].len : written;

		gm_pin_put_written(&j->pins[i], n);
		written -= n;
	}
}

/* Whether the slice has all is for the caller to see. Returns the error of the first piece. */
static int pin_joined(
	struct joined *j, const struct gm_transfer *t, const struct gm_view *view, uint64_t gpa)
{
	uint32_t perms = gm_chain_perms(t->side);
	int rc = gm_pin_unmarked(view, gpa, t->len, perms, &j->slice, &j->pins[0]);

	j->nr = rc ? 0 : 1;
	while (!rc && j->slice.iov_len < t->len && j->nr < JOINED) {
		size_t at = j->slice.iov_len;
		struct iovec next;

		if (gm_pin_unmarked(view, gpa + at, t->len - at, perms, &next, &j->pins[j->nr]))
			break;
		j->nr++;
		if ((uintptr_t)next.iov_base != (uintptr_t)j->slice.iov_base + at)
			break;
		j->slice.iov_len += next.iov_len;
	}
	return rc;
}

/* By one slice if that serves. */
static int move_pinned(const struct gm_transfer *t, uint64_t gpa, size_t *done)
{
	struct joined j;
	ssize_t n;
	int rc = pin_joined(&j, t, gm_reader_enter(t->reader), gpa);

	gm_reader_leave(t->reader);
	if (rc == -ENOTSUP)
		return move_rest(t, gpa, done);
	if (rc)
		return rc;
	if (j.slice.iov_len < t->len) {
		put_joined(&j, 0);
		return move_rest(t, gpa, done);
	}
	n = call(t->stream, t->side, &j.slice);
	put_joined(&j, written_by(t->side, t->len, n));
	if (t->stream->kind == GM_STREAM_FILE && n > 0)
		t->stream->off += (size_t)n;
	return go_on(t, gpa, n, done);
}

/* Everything that is not one call on leased memory. */
static __attribute__((noinline)) int move_range(
	struct gm_transfer t, uint64_t gpa, uint32_t flags, size_t *done)
{
	size_t count = 0;
	int rc;

	if (flags & ~GM_STREAM_EXACT)
		return gm_access_end(done, 0, -EINVAL);
	t.exact = flags & GM_STREAM_EXACT;
	if (t.len == 0)
		return gm_access_end(done, 0, check_address(&t, gpa));
	if (t.len - 1 > UINT64_MAX - gpa)
		return gm_access_end(done, 0, -ERANGE);
	if (gm_transfer_passes_end(&t))
		return gm_access_end(done, 0, -EOVERFLOW);
	if (gm_stream_is_buffer(t.stream))
		rc = gm_stream_move_buffer(&t, gpa, &count);
	else
		rc = is_plain(t.stream, t.len) ? move_pinned(&t, gpa, &count)
					       : move_rest(&t, gpa, &count);
	return gm_access_end(done, count, rc);
}

static __attribute__((noinline)) int end_range(
	struct gm_transfer t, uint64_t gpa, ssize_t n, size_t *done)
{
	size_t count;
	int rc = go_on(&t, gpa, n, &count);

	return gm_access_end(done, count, rc);
}

/* Leases the memory, for one call. */
static inline __attribute__((always_inline)) bool lease(struct gm_reader *reader, uint64_t gpa,
	uint64_t len, uint32_t perms, struct iovec *ret_slice)
{
	bool leased;

	if (!LIKELY(gm_lease_is_free(reader)))
		return false;
	leased = gm_lease_take(reader, gm_section_enter(reader), gpa, len, perms);
	gm_section_leave(reader);
	if (LIKELY(leased))
		*ret_slice = gm_lease_slice(&reader->spot, gpa, len);
	return leased;
}

/* Has a buffer all of @len bytes, which are not many and not none? */
static inline bool is_buffered(const struct gm_stream *s, enum gm_chain_side side, size_t len)
{
	bool grows = s->kind == GM_STREAM_GROWING && side == GM_CHAIN_READABLE;

	return gm_stream_is_buffer(s) && len - 1 < GM_STREAM_SECTION &&
	       len <= (grows ? s->cap : s->len) - s->off &&
	       !(s->kind == GM_STREAM_SOURCE && side == GM_CHAIN_READABLE);
}

static inline int copy(struct gm_stream *s, struct gm_reader *reader, uint64_t gpa, size_t len,
	size_t *done, enum gm_chain_side side)
{
	const struct gm_view *view = gm_reader_enter(reader);
	uint8_t *at = s->buf + s->off;
	size_t did = 0;
	int rc = side == GM_CHAIN_WRITABLE ? gm_write(view, gpa, at, len, &did)
					   : gm_read(view, gpa, at, len, &did);

	gm_reader_leave(reader);
	s->off += did;
	if (s->len < s->off)
		s->len = s->off;
	return gm_access_end(done, did, rc);
}

/* The way of nearly all transfers is straight, and as short as can be. */
static inline __attribute__((always_inline)) int over_range(struct gm_stream *s,
	struct gm_reader *reader, uint64_t gpa, size_t len, uint32_t flags, size_t *done,
	enum gm_chain_side side)
{
	struct iovec slice;
	ssize_t n;

	if (!LIKELY(is_plain(s, len) && !(flags & ~GM_STREAM_EXACT)) ||
		!LIKELY(s->kind != GM_STREAM_FILE || len <= (uint64_t)INT64_MAX - s->off) ||
		!LIKELY(lease(reader, gpa, len, gm_chain_perms(side), &slice))) {
		if (!(flags & ~GM_STREAM_EXACT) && is_buffered(s, side, len))
			return copy(s, reader, gpa, len, done, side);
		return move_range(
			(struct gm_transfer){s, reader, NULL, side, len, false}, gpa, flags, done);
	}
	n = call(s, side, &slice);
	gm_lease_mark(reader, gpa, written_by(side, len, n));
	gm_lease_end(reader);
	if (s->kind == GM_STREAM_FILE && n > 0)
		s->off += (size_t)n;
	if (!LIKELY(n == (ssize_t)len))
		return end_range(
			(struct gm_transfer){s, reader, NULL, side, len, flags & GM_STREAM_EXACT},
			gpa, n, done);
	return gm_access_end(done, len, 0);
}

int gm_stream_read(struct gm_stream *stream, struct gm_reader *reader, uint64_t gpa, size_t len,
	uint32_t flags, size_t *done)
{
	return over_range(stream, reader, gpa, len, flags, done, GM_CHAIN_WRITABLE);
}

int gm_stream_write(struct gm_stream *stream, struct gm_reader *reader, uint64_t gpa, size_t len,
	uint32_t flags, size_t *done)
{
	return over_range(stream, reader, gpa, len, flags, done, GM_CHAIN_READABLE);
}
