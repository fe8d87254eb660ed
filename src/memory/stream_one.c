/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_one.c - transfers of one range of guest memory.
 *
 * Most are one slice and one call: that is done here, without a chain and with as little around the
 * call as can be. What is left then, or is not like that, goes the way of chains.
 */
#include <errno.h>

#include "memory/access.h"
#include "memory/chain.h"
#include "memory/stream.h"

static int finish(size_t *done, size_t count, int rc)
{
	if (done)
		*done = count;
	return rc;
}

static uint32_t perms_of(const struct gm_transfer *t)
{
	return t->side == GM_CHAIN_WRITABLE ? GM_PERM_W : GM_PERM_R;
}

static int check_address(const struct gm_transfer *t, uint64_t gpa)
{
	int rc = gm_view_check(gm_reader_enter(t->reader), gpa, 0, perms_of(t));

	gm_reader_leave(t->reader);
	return rc;
}

/* An fd, and neither messages nor O_DIRECT. */
static inline bool is_plain(const struct gm_transfer *t)
{
	const struct gm_stream *s = t->stream;

	return s->kind - 1u < GM_STREAM_SOCKET && !(s->flags & ~GM_STREAM_DISK) &&
	       t->len <= GM_STREAM_CALL_MAX;
}

/* Gives the pin back after a call that returned @n. True if nothing is left to be done, with *rc. */
static inline __attribute__((always_inline)) bool settle(
	const struct gm_transfer *t, struct gm_pin *pin, ssize_t n, size_t *done, int *rc)
{
	struct gm_stream *s = t->stream;
	size_t did = n > 0 ? (size_t)n : 0;

	/* A failed call may have written something. */
	if (t->side == GM_CHAIN_READABLE || (n < 0 && n != -EAGAIN))
		gm_pin_put(pin);
	else
		gm_pin_put_written(pin, did);
	*done = did;
	if (s->kind == GM_STREAM_FILE)
		s->off += did;
	*rc = n < 0 ? (int)gm_stream_code(n) : did ? 0 : gm_transfer_end(t);
	return did == t->len || n <= 0 || !(t->exact || (s->flags & GM_STREAM_DISK));
}

/* True if the transfer is over, with *rc; else *done bytes were moved. */
static inline __attribute__((always_inline)) bool move_one(
	const struct gm_transfer *t, uint64_t gpa, size_t *done, int *rc)
{
	struct iovec slice;
	struct gm_pin pin;
	ssize_t n;

	if (!is_plain(t))
		return false;
	*rc = gm_pin_unmarked(gm_reader_enter(t->reader), gpa, t->len, perms_of(t), &slice, &pin);
	gm_reader_leave(t->reader);
	if (*rc)
		return *rc != -ENOTSUP;
	if (slice.iov_len < t->len) {
		gm_pin_put_written(&pin, 0);
		return false;
	}
	do {
		n = gm_stream_call(t->stream, &slice, t->side == GM_CHAIN_READABLE);
	} while (n == -EINTR);
	return settle(t, &pin, n, done, rc);
}

/* From @gpa + *done on. */
static __attribute__((noinline)) int move_rest(
	const struct gm_transfer *t, uint64_t gpa, size_t *done)
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

static inline __attribute__((always_inline)) int over_range(
	struct gm_transfer *t, uint64_t gpa, uint32_t flags, size_t *done)
{
	size_t count = 0;
	int rc;

	if (flags & ~GM_STREAM_EXACT)
		return finish(done, 0, -EINVAL);
	t->exact = flags & GM_STREAM_EXACT;
	if (t->len == 0)
		return finish(done, 0, check_address(t, gpa));
	if (t->len - 1 > UINT64_MAX - gpa)
		return finish(done, 0, -ERANGE);
	if (gm_transfer_passes_end(t))
		return finish(done, 0, -EOVERFLOW);
	if (!move_one(t, gpa, &count, &rc))
		rc = move_rest(t, gpa, &count);
	return finish(done, count, rc);
}

int gm_stream_read(struct gm_stream *stream, struct gm_reader *reader, uint64_t gpa, size_t len,
	uint32_t flags, size_t *done)
{
	struct gm_transfer t = {stream, reader, NULL, GM_CHAIN_WRITABLE, len, false};

	return over_range(&t, gpa, flags, done);
}

int gm_stream_write(struct gm_stream *stream, struct gm_reader *reader, uint64_t gpa, size_t len,
	uint32_t flags, size_t *done)
{
	struct gm_transfer t = {stream, reader, NULL, GM_CHAIN_READABLE, len, false};

	return over_range(&t, gpa, flags, done);
}
