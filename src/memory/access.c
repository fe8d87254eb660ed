/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.c - bytes to and from guest memory.
 *
 * A range is cut into pieces, each in one span; touch() and gm_access_move() are the places that
 * move the bytes of a piece. Inline reads and writes that lie whole in one span of the window take a shorter
 * way to the same routines: whoever wants to see every access of a span clears its @direct.
 *
 * Pieces are done in rising order, so that the count of bytes done is the place of the failure.
 * Ranges are checked by subtraction: gpa + len is never computed when it could wrap.
 */
#include "memory/access.h"

#include <errno.h>
#include <guestmem/access.h>
#include <string.h>

#include "core/table.h"
#include "memory/annotate.h"
#include "memory/backend.h"
#include "memory/device.h"
#include "memory/iommu.h"
#include "sys/guard.h"

/* Bytes that are copied in at once to be looked at, or to get out of the way of an overlap. */
#define CHUNK 1024

enum way {
	WAY_READ,
	WAY_WRITE,
	WAY_FILL,
};

/* What is to be done with a piece. @buf is the caller's side of the whole range. */
struct op {
	enum way way;
	uint8_t byte;
	uint8_t *buf;
};

static bool wraps(uint64_t gpa, size_t len)
{
	return len && len - 1 > UINT64_MAX - gpa;
}

int gm_access_spot(const struct gm_view *view, uint64_t gpa, uint64_t extent, uint32_t perms,
	struct gm_spot *ret)
{
	for (;;) {
		const struct gm_span *span = gm_table_find(view, gpa);
		struct gm_hop hop;
		int rc;

		if (!span)
			return -EFAULT;
		if (perms & ~span->perms)
			return -EACCES;
		if (extent > span->last - gpa)
			extent = span->last - gpa;
		if (__builtin_expect(!(span->perms & (GM_SPAN_IOMMU | GM_SPAN_PRIVATE)), 1)) {
			*ret = (struct gm_spot){span, view, gpa, extent};
			return 0;
		}
		if (span->perms & GM_SPAN_PRIVATE)
			return -EACCES;
		rc = gm_iommu_hop(span, gpa, extent, perms, &hop);
		if (rc)
			return rc;
		if (extent > hop.extent)
			extent = hop.extent;
		view = hop.view;
		gpa = hop.gpa;
	}
}

/* The part of @len bytes that goes on from a spot. */
static size_t clip(const struct gm_spot *spot, size_t len)
{
	return len && len - 1 > spot->extent ? (size_t)spot->extent + 1 : len;
}

/* What is wanted of @len bytes, for gm_access_spot(). */
static uint64_t extent_of(size_t len)
{
	return len ? len - 1 : 0;
}

/* Every piece that is read, written or filled passes here. Returns bytes not done. */
static size_t touch(const struct gm_span *span, uint64_t gpa, size_t len, const struct op *op,
	size_t at, struct gm_guard_fault *fault)
{
	void *hva = gm_access_hva(span, gpa);

	switch (op->way) {
	case WAY_READ:
		gm_annotate_write(op->buf + at, len);
		return gm_guard_copy_from(op->buf + at, hva, len, fault);
	case WAY_WRITE:
		gm_annotate_read(op->buf + at, len);
		return gm_guard_copy_to(hva, op->buf + at, len, fault);
	case WAY_FILL:
		return gm_guard_fill(hva, op->byte, len, fault);
	}
	return len;
}

/* Memory of a device: the largest aligned access that fits, again and again. Bytes not done. */
static size_t touch_singly(const struct gm_span *span, uint64_t gpa, size_t len,
	const struct op *op, size_t at, struct gm_guard_fault *fault)
{
	size_t done = 0;

	while (done < len) {
		uintptr_t hva = (uintptr_t)gm_access_hva(span, gpa + done);
		size_t n = 8;

		while (n > len - done || hva % n)
			n /= 2;
		if (touch(span, gpa + done, n, op, at + done, fault))
			break;
		done += n;
	}
	return len - done;
}

/* The same for what is no plain memory. Returns 0 or an error, and the bytes done. */
static int touch_special(const struct gm_span *span, uint64_t gpa, size_t len, const struct op *op,
	size_t at, size_t *ret_done)
{
	bool write = op->way != WAY_READ;
	uint8_t *in = op->way == WAY_WRITE ? op->buf + at : NULL;
	struct gm_guard_fault fault;
	size_t left;

	if (gm_span_has_device(span, write))
		return write ? gm_device_write(span, gpa, in, op->byte, len, ret_done)
			     : gm_device_read(span, gpa, op->buf + at, len, ret_done);
	if (span->perms & GM_SPAN_FAR)
		return write ? gm_far_write(span, gpa, in, op->byte, len, ret_done)
			     : gm_far_read(span, gpa, op->buf + at, len, ret_done);
	left = touch_singly(span, gpa, len, op, at, &fault);
	*ret_done = len - left;
	return left ? gm_guard_errno(&fault) : 0;
}

/* A piece of @len bytes. Returns 0 or an error, and the bytes done. */
static int touch_any(
	const struct gm_spot *spot, size_t len, const struct op *op, size_t at, size_t *ret_done)
{
	struct gm_guard_fault fault;
	size_t left;

	if (gm_span_is_special(spot->span, op->way != WAY_READ))
		return touch_special(spot->span, spot->gpa, len, op, at, ret_done);
	left = touch(spot->span, spot->gpa, len, op, at, &fault);
	*ret_done = len - left;
	return left ? gm_guard_errno(&fault) : 0;
}

static int transfer(
	const struct gm_view *view, uint64_t gpa, size_t len, const struct op *op, size_t *done)
{
	uint32_t perms = op->way == WAY_READ ? GM_PERM_R : GM_PERM_W;
	size_t at = 0;
	int rc = 0;

	if (wraps(gpa, len))
		return gm_access_end(done, 0, -ERANGE);
	do {
		struct gm_spot spot;
		size_t n;

		rc = gm_access_spot(view, gpa + at, extent_of(len - at), perms, &spot);
		if (rc)
			break;
		rc = touch_any(&spot, clip(&spot, len - at), op, at, &n);
		if (op->way != WAY_READ && !gm_span_has_device(spot.span, true))
			gm_access_mark(view, gpa + at, &spot, n);
		at += n;
		if (rc)
			break;
	} while (at < len);
	return gm_access_end(done, at, rc);
}

int gm_read_slow(const struct gm_view *view, uint64_t gpa, void *buf, size_t len, size_t *done)
{
	return transfer(view, gpa, len, &(struct op){.way = WAY_READ, .buf = buf}, done);
}

int gm_write_slow(
	const struct gm_view *view, uint64_t gpa, const void *buf, size_t len, size_t *done)
{
	struct op op = {.way = WAY_WRITE, .buf = (uint8_t *)(uintptr_t)buf};

	return transfer(view, gpa, len, &op, done);
}

int gm_fill(const struct gm_view *view, uint64_t gpa, uint8_t byte, size_t len, size_t *done)
{
	return transfer(view, gpa, len, &(struct op){.way = WAY_FILL, .byte = byte}, done);
}

/* ---- looking at bytes: in a copy, since the guest may change them meanwhile ---- */

/* Index of the first byte that differs from @buf (from 0 without one), or @len. */
static size_t first_difference(const uint8_t *chunk, const uint8_t *buf, size_t len)
{
	size_t at = 0;

	for (; len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
		uint64_t a;
		uint64_t b = 0;

		memcpy(&a, chunk + at, sizeof(a));
		if (buf)
			memcpy(&b, buf + at, sizeof(b));
		if (a != b)
			break;
	}
	while (at < len && chunk[at] == (buf ? buf[at] : 0))
		at++;
	return at;
}

/*
 * Counts bytes equal to @buf (to 0 without one) in *same. Returns 0 with *ret_order = 0 (all are),
 * or the sign of the first difference; or an error in front of which all are equal.
 */
static int scan(const struct gm_view *view, uint64_t gpa, const uint8_t *buf, size_t len,
	int *ret_order, size_t *same)
{
	uint8_t chunk[CHUNK];
	size_t at = 0;

	*same = 0;
	if (wraps(gpa, len))
		return -ERANGE;
	do {
		size_t want = len - at < CHUNK ? len - at : CHUNK;
		size_t got;
		int rc = gm_read(view, gpa + at, chunk, want, &got);
		size_t i = first_difference(chunk, buf ? buf + at : NULL, got);

		*same = at + i;
		if (i < got) {
			*ret_order = chunk[i] < (buf ? buf[at + i] : 0) ? -1 : 1;
			return 0;
		}
		if (rc)
			return rc;
		at += got;
	} while (at < len);
	*ret_order = 0;
	return 0;
}

int gm_compare(const struct gm_view *view, uint64_t gpa, const void *buf, size_t len,
	int *ret_order, size_t *done)
{
	size_t same;
	int rc = scan(view, gpa, buf, len, ret_order, &same);

	return gm_access_end(done, same, rc);
}

int gm_is_zero(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	size_t same;
	int order = 0;
	int rc = scan(view, gpa, NULL, len, &order, &same);

	return gm_access_end(done, same, rc ? rc : order == 0);
}

/* ---- guest to guest ---- */

/* A piece of at most CHUNK bytes by way of the stack, so that it may overlap. Returns bytes not
 * copied. */
static size_t bounce(void *dst, const void *src, size_t len, struct gm_guard_fault *fault)
{
	uint8_t chunk[CHUNK];
	size_t unread = gm_guard_copy_from(chunk, src, len, fault);

	/* If this faults too, it is at an earlier byte, and its fault is the one to tell. */
	return unread + gm_guard_copy_to(dst, chunk, len - unread, fault);
}

size_t gm_access_move(void *to, const void *from, size_t len, struct gm_guard_fault *fault)
{
	uint8_t *dst = to;
	const uint8_t *src = from;
	size_t at = 0;

	if (!gm_access_goes_down(dst, src, len)) {
		if ((uintptr_t)src - (uintptr_t)dst >= len)
			return gm_guard_copy_both(dst, src, len, fault);
		while (at < len) {
			size_t n = len - at < CHUNK ? len - at : CHUNK;
			size_t left = bounce(dst + at, src + at, n, fault);

			at += n - left;
			if (left)
				break;
		}
		return len - at;
	}
	for (at = len; at > 0;) {
		size_t n = at < CHUNK ? at : CHUNK;

		at -= n;
		if (bounce(dst + at, src + at, n, fault))
			return len;
	}
	return 0;
}

/* The two spots of one byte pair. */
struct pair {
	struct gm_spot dst;
	struct gm_spot src;
};

static int find_pair(
	const struct gm_view *view, uint64_t dst, uint64_t src, size_t len, struct pair *ret)
{
	int rc = gm_access_spot(view, src, extent_of(len), GM_PERM_R, &ret->src);

	if (!rc)
		rc = gm_access_spot(view, dst, extent_of(len), GM_PERM_W, &ret->dst);
	if (!rc && (gm_span_has_device(ret->src.span, false) ||
			   gm_span_has_device(ret->dst.span, true)))
		rc = -ENOTSUP;
	return rc;
}

static bool is_special(const struct pair *pair)
{
	return gm_span_is_special(pair->src.span, false) ||
	       gm_span_is_special(pair->dst.span, true);
}

/* At most CHUNK bytes that are not copied from memory to memory. Returns 0 or an error. */
static int shuttle(const struct gm_view *view, uint64_t dst, uint64_t src, size_t len, size_t *done)
{
	uint8_t chunk[CHUNK];
	size_t got;
	int rc = gm_read_slow(view, src, chunk, len, &got);
	int rc_write = got ? gm_write_slow(view, dst, chunk, got, done) : 0;

	if (got == 0)
		*done = 0;
	/* If writing fails too, it is at an earlier byte. */
	return rc_write ? rc_write : rc;
}

static int copy_up(const struct gm_view *view, uint64_t dst, uint64_t src, size_t len, size_t *done)
{
	struct gm_guard_fault fault;
	struct pair pair;
	size_t at = 0;
	int rc = 0;

	do {
		size_t left;
		size_t n;

		rc = find_pair(view, dst + at, src + at, len - at, &pair);
		if (rc)
			break;
		n = clip(&pair.dst, clip(&pair.src, len - at));
		if (is_special(&pair)) {
			rc = shuttle(view, dst + at, src + at, n < CHUNK ? n : CHUNK, &n);
			at += n;
			if (rc)
				break;
			continue;
		}
		left = gm_access_move(gm_access_hva(pair.dst.span, pair.dst.gpa),
			gm_access_hva(pair.src.span, pair.src.gpa), n, &fault);
		gm_access_mark(view, dst + at, &pair.dst, n - left);
		at += n - left;
		if (left) {
			rc = gm_guard_errno(&fault);
			break;
		}
	} while (at < len);
	return gm_access_end(done, at, rc);
}

/* Bytes of both ranges that may be copied; *rc says why it is not all of them. */
static size_t allowed(const struct gm_view *view, uint64_t dst, uint64_t src, size_t len, int *rc)
{
	struct pair pair;
	size_t at = 0;

	while (at < len && !(*rc = find_pair(view, dst + at, src + at, len - at, &pair)))
		at += clip(&pair.dst, clip(&pair.src, len - at));
	return at;
}

/* Bytes of a spot's span in front of it, up to @most. */
static size_t before(const struct gm_spot *spot, size_t most)
{
	uint64_t room = spot->gpa - spot->span->first;

	return room < most ? (size_t)room : most;
}

/* From the end on, as the ranges overlap; behind a translation byte by byte. What fits on the stack is taken
 * there first, so that numbers stay whole. */
static int copy_down(
	const struct gm_view *view, uint64_t dst, uint64_t src, size_t len, size_t *done)
{
	struct gm_guard_fault fault;
	struct pair pair;
	int rc = 0;
	size_t all = allowed(view, dst, src, len, &rc);
	size_t at = all;

	if (all && all <= CHUNK) {
		int gone = shuttle(view, dst, src, all, &at);

		return gm_access_end(done, gone ? 0 : at, gone ? gone : rc);
	}
	while (at > 0) {
		size_t more;
		size_t left;
		int gone = find_pair(view, dst + (at - 1), src + (at - 1), 1, &pair);

		if (gone)
			return gm_access_end(done, 0, gone);
		more = before(&pair.dst, before(&pair.src, at - 1));
		if (pair.dst.gpa != dst + (at - 1) || pair.src.gpa != src + (at - 1))
			more = 0;
		if (is_special(&pair)) {
			size_t n = more < CHUNK ? more + 1 : CHUNK;
			size_t moved;

			at -= n;
			gone = shuttle(view, dst + at, src + at, n, &moved);
			if (gone)
				return gm_access_end(done, 0, gone);
			continue;
		}
		at -= more + 1;
		left = gm_access_move(gm_access_hva(pair.dst.span, pair.dst.gpa - more),
			gm_access_hva(pair.src.span, pair.src.gpa - more), more + 1, &fault);
		/* Of a copy that failed any byte may have been written. */
		pair.dst.gpa -= more;
		gm_access_mark(view, dst + at, &pair.dst, more + 1);
		if (left)
			return gm_access_end(done, 0, gm_guard_errno(&fault));
	}
	return gm_access_end(done, all, rc);
}

int gm_copy(const struct gm_view *view, uint64_t dst, uint64_t src, size_t len, size_t *done)
{
	if (wraps(dst, len) || wraps(src, len))
		return gm_access_end(done, 0, -ERANGE);
	if (dst > src && dst - src < len)
		return copy_down(view, dst, src, len, done);
	return copy_up(view, dst, src, len, done);
}
