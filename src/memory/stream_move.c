/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_move.c - transfers by system calls, or by the caller's functions.
 *
 * A transfer is a number of batches. For each, slices are pinned in a section; the call is made
 * outside of it; then the pins are given back with how much was written, and the cursor of the
 * chain stands behind what was moved. So a batch that falls short leaves nothing to be put right.
 *
 * Memory without slices is at the end of a batch, in a buffer: what follows it must not be filled
 * before it is, lest a failure leave a gap.
 */
#include <errno.h>

#include "core/error.h"
#include "memory/access.h"
#include "memory/backend.h"
#include "memory/chain.h"
#include "memory/device.h"
#include "memory/lease.h"
#include "memory/stream.h"

#define SLICES 64 /* of a batch as most are */
#define SLICES_MAX                                                                                 \
	1024 /* of one that may not be two calls if that can be helped: what a call takes */
#define BOUNCE 8192

struct batch {
	size_t nr;                  /* slices; the last may be the buffer */
	size_t nr_pins;             /* what keeps them, behind what is leased */
	size_t len;                 /* bytes in them */
	size_t leased_len;          /* of those, the first ones: under the reader's lease */
	size_t bounced;             /* of those, in the buffer */
	int rc;                     /* why nothing follows, or 0 */
	struct gm_chain_cursor end; /* of the side, behind the slices that have pins */
	size_t room;                /* of both arrays */
	struct iovec *slices;
	struct gm_pin *pins;
	uint8_t bounce[BOUNCE] __attribute__((aligned(4096)));
};

/* What a call did. */
struct outcome {
	size_t did;
	int rc;
};

/* ---- what is moved ---- */

/* Memory that only calls reach, or single accesses. */
static bool has_no_slices(const struct gm_spot *spot)
{
	uint64_t off;

	if (spot->span->perms & GM_SPAN_DEVMEM)
		return true;
	return (spot->span->perms & GM_SPAN_FAR) &&
	       !gm_span_backend(spot->span, spot->gpa, &off)->ops.map;
}

/* One piece into the buffer. Returns 0, 1 (it is full, or has nothing to do with it), or an error. */
static int bounce_piece(struct batch *b, const struct gm_transfer *t, const struct gm_view *view,
	struct gm_chain *at, size_t want)
{
	struct gm_spot spot;
	uint64_t gpa = 0;
	size_t n = gm_chain_here(at, t->side, want, &gpa);
	int rc = gm_access_spot(view, gpa, n - 1, gm_chain_perms(t->side), &spot);

	if (rc)
		return rc;
	if (!has_no_slices(&spot))
		return b->bounced ? 1 : -ENOTSUP;
	if (n - 1 > spot.extent)
		n = (size_t)spot.extent + 1;
	if (n > BOUNCE - b->bounced)
		n = BOUNCE - b->bounced;
	if (n == 0)
		return 1;
	if (t->side == GM_CHAIN_READABLE)
		rc = gm_chain_read(at, view, b->bounce + b->bounced, n, &n);
	else
		gm_chain_eat(at, t->side, n);
	b->bounced += n;
	b->len += n;
	return rc;
}

static int bounce(struct batch *b, const struct gm_transfer *t, const struct gm_view *view,
	struct gm_chain *at, size_t want)
{
	int rc = 0;

	while (!rc && b->len < want)
		rc = bounce_piece(b, t, view, at, want - b->len);
	if (b->bounced)
		b->slices[b->nr++] = (struct iovec){b->bounce, b->bounced};
	return rc > 0 ? 0 : rc;
}

/* One slice more, or the last one grows: pieces of memory that lie side by side in the window are one. */
static inline void add(struct batch *b, struct iovec slice)
{
	struct iovec *next = &b->slices[b->nr];

	b->len += slice.iov_len;
	if (b->nr && (uintptr_t)next[-1].iov_base + next[-1].iov_len == (uintptr_t)slice.iov_base) {
		next[-1].iov_len += slice.iov_len;
		return;
	}
	*next = slice;
	b->nr++;
}

/*
 * The first slices, as far as they lie in one span of plain memory. On copies of cursor and spot: these stay in
 * registers, whatever is stored.
 */
static void gather_leased(struct batch *b, const struct gm_transfer *t, const struct gm_view *view,
	struct gm_chain *chain, size_t want)
{
	struct gm_chain_cursor at = chain->sides[t->side];
	struct gm_reader *reader = t->reader;
	struct gm_lease_spot spot;
	uint64_t gpa = 0;
	size_t n = gm_cursor_here(&at, chain->elems, t->side, want, &gpa);

	if (!gm_lease_is_free(reader) ||
		!gm_lease_take(reader, view, gpa, n, gm_chain_perms(t->side)))
		return;
	spot = reader->spot;
	do {
		add(b, gm_lease_slice(&spot, gpa, n));
		gm_cursor_eat(&at, n);
		n = gm_cursor_here(&at, chain->elems, t->side, want - b->len, &gpa);
	} while (b->nr < b->room && n && gpa >= spot.first && gpa <= spot.last &&
		 n - 1 <= spot.last - gpa);
	b->leased_len = b->len;
	chain->sides[t->side] = at;
}

static void gather_pinned(struct batch *b, const struct gm_transfer *t, const struct gm_view *view,
	struct gm_chain *at, size_t want)
{
	while (b->nr < b->room && b->nr_pins < b->room && b->len < want) {
		struct iovec slice;
		uint64_t gpa = 0;
		size_t n = gm_chain_here(at, t->side, want - b->len, &gpa);

		b->rc = gm_pin_unmarked(
			view, gpa, n, gm_chain_perms(t->side), &slice, &b->pins[b->nr_pins]);
		if (b->rc == -ENOTSUP)
			b->rc = bounce(b, t, view, at, want);
		if (b->rc || b->bounced)
			break;
		b->nr_pins++;
		gm_chain_eat(at, t->side, slice.iov_len);
		add(b, slice);
	}
}

/* The next slices, at most @want bytes. */
static void gather(struct batch *b, const struct gm_transfer *t, size_t want)
{
	const struct gm_view *view = gm_reader_enter(t->reader);
	struct gm_chain at = *t->chain;

	b->nr = 0;
	b->nr_pins = 0;
	b->len = 0;
	b->leased_len = 0;
	b->bounced = 0;
	b->rc = 0;
	if (want > GM_STREAM_CALL_MAX)
		want = GM_STREAM_CALL_MAX;
	gather_leased(b, t, view, &at, want);
	gather_pinned(b, t, view, &at, want);
	if (!b->bounced)
		b->end = at.sides[t->side];
	gm_reader_leave(t->reader);
}

/* Marks @len bytes of what is leased, of which the chain stands at the first, and ends the lease. */
static void release(const struct batch *b, const struct gm_transfer *t, uint64_t len)
{
	struct gm_chain at = *t->chain;
	uint64_t gpa = 0;
	uint64_t n;

	if (!b->leased_len)
		return;
	while (gm_dirty_has_logs(t->reader->spot.dirty) &&
		(n = gm_chain_here(&at, t->side, len, &gpa))) {
		gm_lease_mark(t->reader, gpa, n);
		gm_chain_eat(&at, t->side, n);
		len -= n;
	}
	gm_lease_end(t->reader);
}

/* What was read into the buffer goes where it belongs. */
static int unbounce(struct batch *b, const struct gm_transfer *t, size_t len, size_t *ret_did)
{
	const struct gm_view *view;
	int rc;

	*ret_did = len;
	if (t->side == GM_CHAIN_READABLE)
		return gm_chain_skip(t->chain, t->side, len);
	view = gm_reader_enter(t->reader);
	rc = gm_chain_write(t->chain, view, b->bounce, len, ret_did);
	gm_reader_leave(t->reader);
	return rc;
}

/*
 * Gives the pins back, @did bytes having been moved; the chain follows. If the call is @doubtful
 * more may have been written. Returns what the buffer's memory answered, and corrects *did.
 */
static int settle(struct batch *b, const struct gm_transfer *t, bool doubtful, size_t *did)
{
	size_t left = *did < b->leased_len ? 0 : *did - b->leased_len;
	bool all = doubtful || *did > b->leased_len;
	size_t put = 0;
	int rc = 0;

	release(b, t, t->side == GM_CHAIN_READABLE ? 0 : all ? b->leased_len : *did);
	for (size_t i = 0; i < b->nr_pins; i++) {
		size_t n = b->pins[i].len < left ? (size_t)b->pins[i].len : left;

		if (t->side == GM_CHAIN_READABLE || doubtful)
			gm_pin_put(&b->pins[i]);
		else
			gm_pin_put_written(&b->pins[i], n);
		left -= n;
	}
	/* Cannot fail: so many bytes were gathered. */
	if (*did == b->len && !b->bounced)
		t->chain->sides[t->side] = b->end;
	else
		gm_chain_skip(t->chain, t->side, *did - left);
	if (left)
		rc = unbounce(b, t, left, &put);
	*did = *did - left + put;
	return rc;
}

/* ---- calls: inline, for the reason that stream.h gives ---- */

static inline __attribute__((always_inline)) ssize_t call_many(
	const struct gm_stream *s, struct iovec *slices, size_t nr, bool write)
{
	struct msghdr msg = {.msg_iov = slices, .msg_iovlen = nr};

	switch (s->kind) {
	case GM_STREAM_FILE:
		return write ? GM_INLINE_CALL(pwritev, SYS_pwritev, s->fd, slices, nr, s->off)
			     : GM_INLINE_CALL(preadv, SYS_preadv, s->fd, slices, nr, s->off);
	case GM_STREAM_SOCKET:
		return write ? gm_sys_sendmsg(s->fd, &msg, s->msg_flags)
			     : gm_sys_recvmsg(s->fd, &msg, s->msg_flags);
	default:
		return write ? GM_INLINE_CALL(writev, SYS_writev, s->fd, slices, nr)
			     : GM_INLINE_CALL(readv, SYS_readv, s->fd, slices, nr);
	}
}

static inline __attribute__((always_inline)) struct outcome call_kernel(
	const struct gm_stream *s, struct iovec *slices, size_t nr, bool write)
{
	ssize_t n;

	do {
		n = nr == 1 ? gm_stream_call(s, slices, write) : call_many(s, slices, nr, write);
	} while (n == -EINTR);
	n = gm_stream_code(n);
	return n < 0 ? (struct outcome){0, (int)n} : (struct outcome){(size_t)n, 0};
}

static struct outcome call_ops(const struct gm_stream *s, const struct batch *b, bool write)
{
	int (*fn)(void *, const struct iovec *, size_t, size_t *) =
		write ? s->ops.writev : s->ops.readv;
	struct outcome did;

	if (!fn)
		return (struct outcome){0, -EBADF};
	do {
		did.did = 0;
		did.rc = fn(s->ops.ctx, b->slices, b->nr, &did.did);
	} while (did.rc == -EINTR && did.did == 0);
	if (gm_checked_code(did.rc) != did.rc || did.did > b->len)
		return (struct outcome){0, -EPROTO};
	if (did.rc == -EINTR)
		did.rc = 0;
	return did;
}

static inline __attribute__((always_inline)) struct outcome call(
	const struct gm_transfer *t, struct batch *b)
{
	bool write = t->side == GM_CHAIN_READABLE;

	switch (t->stream->kind) {
	case GM_STREAM_FD:
	case GM_STREAM_FILE:
	case GM_STREAM_SOCKET:
		return call_kernel(t->stream, b->slices, b->nr, write);
	case GM_STREAM_OPS:
		return call_ops(t->stream, b, write);
	default:
		return (struct outcome){0, -EBADF};
	}
}

/* ---- all of it ---- */

/* May the call be made? A message goes whole or not at all. */
static int may_call(const struct gm_transfer *t, const struct batch *b, size_t want)
{
	if (!(t->stream->flags & GM_STREAM_MESSAGE) || b->len == want)
		return 0;
	return b->rc ? b->rc : -EMSGSIZE;
}

/* Is the transfer over after @did bytes of a batch? Then *rc is what it returns. */
static bool is_over(const struct gm_transfer *t, const struct batch *b, size_t did, int *rc)
{
	const struct gm_stream *s = t->stream;
	bool is_short = did < b->len;

	*rc = 0;
	if (did == 0 || (s->flags & (GM_STREAM_MESSAGE | GM_STREAM_PEEK)) ||
		(is_short && (s->flags & GM_STREAM_DIRECT) && did % s->off_align)) {
		*rc = gm_transfer_end(t);
		return true;
	}
	if (!is_short && b->rc) {
		*rc = b->rc;
		return true;
	}
	return !t->exact && !(s->flags & GM_STREAM_DISK);
}

/* Is it the arrays that end this batch? */
static bool is_full(const struct batch *b, size_t want)
{
	return b->len < want && !b->rc && !b->bounced &&
	       (b->nr == b->room || b->nr_pins == b->room);
}

/* Batch by batch. 1 with nothing done in this one: it is full. */
static inline __attribute__((always_inline)) int move(
	struct batch *b, const struct gm_transfer *t, size_t *done)
{
	struct gm_stream *s = t->stream;

	for (;;) {
		struct outcome out = {0};
		bool doubtful;
		int rc;

		gather(b, t, t->len - *done);
		if (b->len == 0)
			return b->rc;
		if (b->room < SLICES_MAX && is_full(b, t->len - *done)) {
			settle(b, t, false, &out.did);
			return 1;
		}
		rc = may_call(t, b, t->len - *done);
		if (!rc)
			out = call(t, b);
		/* A failed call, or a disk's short answer, may have written more than it says. */
		doubtful = (out.rc && out.rc != -EAGAIN) ||
			   ((s->flags & GM_STREAM_DIRECT) && out.did < b->len);
		rc = rc ? rc : out.rc;
		out.rc = settle(b, t, doubtful, &out.did);
		*done += out.did;
		if (s->kind == GM_STREAM_FILE)
			s->off += out.did;
		if (!rc)
			rc = out.rc;
		if (rc || *done == t->len || is_over(t, b, out.did, &rc))
			return rc;
	}
}

/* As many pieces as a call takes. Apart, because few need the 90 KiB of stack. */
static __attribute__((noinline)) int move_many(const struct gm_transfer *t, size_t *done)
{
	struct iovec slices[SLICES_MAX];
	struct gm_pin pins[SLICES_MAX];
	struct batch b;

	b.room = SLICES_MAX;
	b.slices = slices;
	b.pins = pins;
	return move(&b, t, done);
}

int gm_stream_move(const struct gm_transfer *t, size_t *done)
{
	struct iovec slices[SLICES];
	struct gm_pin pins[SLICES];
	struct batch b;
	int rc;

	b.room = SLICES;
	b.slices = slices;
	b.pins = pins;
	rc = move(&b, t, done);
	return rc > 0 ? move_many(t, done) : rc;
}
