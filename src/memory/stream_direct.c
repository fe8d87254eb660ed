/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream_direct.c - would a transfer be refused? What O_DIRECT wants of positions and slices.
 *
 * It is looked at for the whole transfer in front of the first call. A slice that a backend maps
 * somewhere else afterwards is for the kernel to refuse.
 */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/access.h"
#include "memory/chain.h"
#include "memory/device.h"
#include "memory/stream.h"

static int check_position(const struct gm_stream *s, size_t len, struct gm_error *err)
{
	if (s->off % s->off_align)
		return gm_error_set(err, -EINVAL, 0, 0,
			"stream: direct I/O at position %" PRIu64
			" of fd %d, which is no multiple of %u",
			s->off, s->fd, s->off_align);
	if (len % s->off_align)
		return gm_error_set(err, -EINVAL, 0, len,
			"stream: direct I/O of %zu bytes at position %" PRIu64
			" of fd %d, which is no multiple of %u",
			len, s->off, s->fd, s->off_align);
	return 0;
}

/* One piece. What has no host address goes through the buffer, which is aligned. */
static int check_piece(const struct gm_stream *s, const struct gm_spot *spot, uint64_t gpa,
	size_t len, struct gm_error *err)
{
	uint64_t hva = spot->span->delta + spot->gpa;

	if (spot->span->perms & GM_SPAN_DEVMEM)
		hva = 0;
	if (hva % s->mem_align == 0 && len % s->off_align == 0)
		return 0;
	return gm_error_set(err, -EINVAL, gpa, len,
		"stream: direct I/O at gpa 0x%" PRIx64 " of %zu bytes, position %" PRIu64
		" of fd %d: host address 0x%" PRIx64
		" is to be a multiple of %u, and the length of %u",
		gpa, len, s->off, s->fd, hva, s->mem_align, s->off_align);
}

/* All pieces, with *ret_gpa the address of the first that is refused. */
static int check_pieces(const struct gm_transfer *t, const struct gm_view *view, uint64_t *ret_gpa,
	struct gm_error *err)
{
	uint32_t perms = gm_chain_perms(t->side);
	struct gm_chain at = *t->chain;
	size_t left = t->len;
	size_t n;

	for (; (n = gm_chain_here(&at, t->side, left, ret_gpa)); left -= n) {
		struct gm_spot spot;
		int rc = gm_access_spot(view, *ret_gpa, n - 1, perms, &spot);

		if (rc)
			return rc;
		if (gm_span_has_device(spot.span, perms & GM_PERM_W))
			return -ENOTSUP;
		if (n - 1 > spot.extent)
			n = (size_t)spot.extent + 1;
		if (t->stream->flags & GM_STREAM_DIRECT)
			rc = check_piece(t->stream, &spot, *ret_gpa, n, err);
		if (rc)
			return rc;
		gm_chain_eat(&at, t->side, n);
	}
	return 0;
}

static int check(const struct gm_transfer *t, uint64_t *ret_gpa, struct gm_error *err)
{
	int rc = 0;

	if (t->stream->flags & GM_STREAM_DIRECT)
		rc = check_position(t->stream, t->len, err);
	if (rc)
		return rc;
	rc = check_pieces(t, gm_reader_enter(t->reader), ret_gpa, err);
	gm_reader_leave(t->reader);
	return rc;
}

int gm_stream_check_direct(const struct gm_transfer *t, struct gm_error *err)
{
	uint64_t gpa;
	int rc = check(t, &gpa, err);

	/* What cannot be reached is found when it is come to. */
	return rc == -EINVAL ? rc : 0;
}

int gm_stream_check(const struct gm_stream *stream, struct gm_reader *reader,
	const struct gm_chain *chain, enum gm_chain_side side, struct gm_error *err)
{
	struct gm_stream copy = *stream;
	struct gm_chain at = *chain;
	struct gm_transfer t = {&copy, reader, &at, side, (size_t)gm_chain_left(chain, side), true};
	uint64_t gpa = 0;
	int rc = t.len ? check(&t, &gpa, err) : 0;

	if (rc && rc != -EINVAL)
		gm_error_set(
			err, rc, gpa, 0, "stream: gpa 0x%" PRIx64 ": %s", gpa, gm_error_word(rc));
	return rc;
}
