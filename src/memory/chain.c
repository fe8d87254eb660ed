/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain.c - cursors over lists of guest ranges.
 *
 * gm_chain_init() has checked that no element wraps and that all lengths together fit: sums of
 * lengths need no check here. Of a side are left at most as many bytes as its elements have.
 */
#include "memory/chain.h"

#include <endian.h>
#include <errno.h>
#include <guestmem/access.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "memory/access.h"

#define MAX_NR 32768u
#define MAX_LEN ((uint64_t)INT64_MAX)

/* Bytes between two views at once. */
#define CHUNK 1024

static struct gm_chain_cursor *cursor(struct gm_chain *chain, enum gm_chain_side side)
{
	return &chain->sides[side == GM_CHAIN_WRITABLE];
}

static const struct gm_chain_cursor *cursor_of(
	const struct gm_chain *chain, enum gm_chain_side side)
{
	return &chain->sides[side == GM_CHAIN_WRITABLE];
}

static inline bool is_good(const struct gm_chain_elem *elem)
{
	return !((elem->flags & ~GM_CHAIN_WRITE) | elem->reserved) &&
	       (!elem->len || elem->len - 1 <= UINT64_MAX - elem->gpa);
}

static __attribute__((noinline)) int refuse_elem(
	const struct gm_chain_elem *elem, size_t i, struct gm_error *err)
{
	if ((elem->flags & ~GM_CHAIN_WRITE) || elem->reserved)
		return gm_error_set(err, -EINVAL, elem->gpa, elem->len,
			"chain: element %zu: unknown flags 0x%" PRIx32, i, elem->flags);
	return gm_error_set(err, -ERANGE, elem->gpa, elem->len,
		"chain: element %zu: 0x%" PRIx64 " and %" PRIu64 " bytes wrap past 2^64", i,
		elem->gpa, elem->len);
}

static int read_opts(
	const struct gm_chain_opts *from, struct gm_chain_opts *to, struct gm_error *err)
{
	int rc = from ? gm_opts_copy(to, sizeof(*to), from, sizeof(*to)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "chain");
	if (to->flags & ~GM_CHAIN_MIXED)
		return gm_error_set(
			err, -EINVAL, 0, 0, "chain: unknown flags 0x%" PRIx32, to->flags);
	if (to->max_nr == 0)
		to->max_nr = MAX_NR;
	if (to->max_len == 0 || to->max_len > MAX_LEN)
		to->max_len = MAX_LEN;
	return 0;
}

int gm_chain_init(struct gm_chain *chain, const struct gm_chain_elem *elems, size_t nr,
	const struct gm_chain_opts *opts, struct gm_error *err)
{
	struct gm_chain_opts limits = {.size = sizeof(limits)};
	uint64_t total = 0;
	uint64_t writable = 0;
	uint32_t last_side = 0;
	int rc = read_opts(opts, &limits, err);

	if (rc)
		return rc;
	if (nr > limits.max_nr)
		return gm_error_set(err, -E2BIG, 0, 0,
			"chain: %zu elements, at most %" PRIu32 " are allowed", nr, limits.max_nr);
	for (size_t i = 0; i < nr; i++) {
		const struct gm_chain_elem *elem = &elems[i];
		uint32_t side = gm_chain_side_of(elem) == GM_CHAIN_WRITABLE;

		if (!is_good(elem))
			return refuse_elem(elem, i, err);
		if (side < last_side && !(limits.flags & GM_CHAIN_MIXED))
			return gm_error_set(err, -EPROTO, elem->gpa, elem->len,
				"chain: element %zu is readable and stands behind a writable one",
				i);
		if (elem->len > limits.max_len - total)
			return gm_error_set(err, -EOVERFLOW, elem->gpa, elem->len,
				"chain: more than %" PRIu64 " bytes up to element %zu",
				limits.max_len, i);
		last_side = side;
		total += elem->len;
		writable += side ? elem->len : 0;
	}
	*chain = (struct gm_chain){.elems = elems, .nr = nr};
	chain->sides[0].left = total - writable;
	chain->sides[1].left = writable;
	return 0;
}

void gm_chain_of_range(struct gm_chain *chain, struct gm_chain_elem *elem, enum gm_chain_side side,
	uint64_t gpa, uint64_t len)
{
	*elem = (struct gm_chain_elem){
		.gpa = gpa, .len = len, .flags = side == GM_CHAIN_WRITABLE ? GM_CHAIN_WRITE : 0};
	*chain = (struct gm_chain){.elems = elem, .nr = 1};
	cursor(chain, side)->left = len;
}

/* ---- where it stands ---- */

uint64_t gm_chain_left(const struct gm_chain *chain, enum gm_chain_side side)
{
	return cursor_of(chain, side)->left;
}

uint64_t gm_chain_done(const struct gm_chain *chain, enum gm_chain_side side)
{
	return cursor_of(chain, side)->done;
}

uint64_t gm_chain_total(const struct gm_chain *chain, enum gm_chain_side side)
{
	return cursor_of(chain, side)->done + cursor_of(chain, side)->left;
}

void gm_chain_limit(struct gm_chain *chain, enum gm_chain_side side, uint64_t len)
{
	if (cursor(chain, side)->left > len)
		cursor(chain, side)->left = len;
}

uint64_t gm_chain_range(const struct gm_chain *chain, enum gm_chain_side side, uint64_t *ret_gpa)
{
	struct gm_chain copy = *chain;

	return gm_chain_here(&copy, side, UINT64_MAX, ret_gpa);
}

static int too_short(enum gm_chain_side side)
{
	return side == GM_CHAIN_WRITABLE ? -ENOSPC : -ENODATA;
}

int gm_chain_skip(struct gm_chain *chain, enum gm_chain_side side, uint64_t len)
{
	uint64_t gpa;

	if (len > gm_chain_left(chain, side))
		return too_short(side);
	while (len) {
		uint64_t n = gm_chain_here(chain, side, len, &gpa);

		gm_chain_eat(chain, side, n);
		len -= n;
	}
	return 0;
}

int gm_chain_split(
	struct gm_chain *chain, enum gm_chain_side side, uint64_t len, struct gm_chain *ret_rest)
{
	struct gm_chain rest = *chain;
	int rc = gm_chain_skip(&rest, side, len);

	if (rc)
		return rc;
	cursor(&rest, side)->done = 0;
	*cursor(&rest, side == GM_CHAIN_WRITABLE ? GM_CHAIN_READABLE : GM_CHAIN_WRITABLE) =
		(struct gm_chain_cursor){0};
	gm_chain_limit(chain, side, len);
	*ret_rest = rest;
	return 0;
}

int gm_chain_check(
	const struct gm_chain *chain, enum gm_chain_side side, const struct gm_view *view)
{
	struct gm_chain copy = *chain;
	uint64_t gpa;
	uint64_t n;
	int rc = 0;

	while (!rc && (n = gm_chain_here(&copy, side, UINT64_MAX, &gpa))) {
		rc = gm_view_check(view, gpa, n, gm_chain_perms(side));
		gm_chain_eat(&copy, side, n);
	}
	return rc;
}

int gm_chain_pin(const struct gm_chain *chain, enum gm_chain_side side, const struct gm_view *view,
	uint64_t max_len, struct iovec *ret_slices, struct gm_pin *ret_pins, size_t nr,
	size_t *ret_nr)
{
	struct gm_chain copy = *chain;
	size_t i = 0;
	uint64_t gpa;
	uint64_t n;

	while (i < nr && (n = gm_chain_here(&copy, side, max_len, &gpa))) {
		int rc = gm_pin_slice(
			view, gpa, n, gm_chain_perms(side), &ret_slices[i], &ret_pins[i]);

		if (rc && i == 0)
			return rc;
		if (rc)
			break;
		gm_chain_eat(&copy, side, ret_slices[i].iov_len);
		max_len -= ret_slices[i++].iov_len;
	}
	*ret_nr = i;
	return 0;
}

/* ---- bytes ---- */

/* What is to be done with bytes; @buf is the caller's side. */
enum way {
	WAY_READ,
	WAY_WRITE,
	WAY_FILL,
};

static int touch(const struct gm_view *view, uint64_t gpa, enum way way, uint8_t *buf, uint8_t byte,
	size_t len, size_t *did)
{
	switch (way) {
	case WAY_READ:
		return gm_read(view, gpa, buf, len, did);
	case WAY_WRITE:
		return gm_write(view, gpa, buf, len, did);
	case WAY_FILL:
		return gm_fill(view, gpa, byte, len, did);
	}
	return -EINVAL;
}

static int transfer(struct gm_chain *chain, const struct gm_view *view, enum way way, uint8_t *buf,
	uint8_t byte, size_t len, size_t *done)
{
	enum gm_chain_side side = way == WAY_READ ? GM_CHAIN_READABLE : GM_CHAIN_WRITABLE;
	size_t at = 0;
	int rc = 0;

	if (len > gm_chain_left(chain, side))
		return gm_access_end(done, 0, too_short(side));
	while (at < len && !rc) {
		uint64_t gpa = 0;
		size_t n = gm_chain_here(chain, side, len - at, &gpa);

		rc = touch(view, gpa, way, buf ? buf + at : NULL, byte, n, &n);
		gm_chain_eat(chain, side, n);
		at += n;
	}
	return gm_access_end(done, at, rc);
}

int gm_chain_read(
	struct gm_chain *chain, const struct gm_view *view, void *buf, size_t len, size_t *done)
{
	return transfer(chain, view, WAY_READ, buf, 0, len, done);
}

int gm_chain_peek(const struct gm_chain *chain, const struct gm_view *view, void *buf, size_t len,
	size_t *done)
{
	struct gm_chain copy = *chain;

	return transfer(&copy, view, WAY_READ, buf, 0, len, done);
}

int gm_chain_write(struct gm_chain *chain, const struct gm_view *view, const void *buf, size_t len,
	size_t *done)
{
	return transfer(chain, view, WAY_WRITE, (uint8_t *)(uintptr_t)buf, 0, len, done);
}

int gm_chain_fill(
	struct gm_chain *chain, const struct gm_view *view, uint8_t byte, size_t len, size_t *done)
{
	return transfer(chain, view, WAY_FILL, NULL, byte, len, done);
}

/* Between two spaces, by way of the stack. If writing fails too, it is at an earlier byte. */
static int shuttle(const struct gm_view *to_view, uint64_t to, const struct gm_view *from_view,
	uint64_t from, size_t len, size_t *did)
{
	uint8_t chunk[CHUNK];
	size_t got;
	int rc = gm_read(from_view, from, chunk, len < CHUNK ? len : CHUNK, &got);
	int rc_write = 0;

	*did = 0;
	if (got)
		rc_write = gm_write(to_view, to, chunk, got, did);
	return rc_write ? rc_write : rc;
}

int gm_chain_copy(struct gm_chain *to, const struct gm_view *to_view, struct gm_chain *from,
	const struct gm_view *from_view, size_t len, size_t *done)
{
	size_t at = 0;
	int rc = 0;

	if (len > gm_chain_left(from, GM_CHAIN_READABLE))
		return gm_access_end(done, 0, -ENODATA);
	if (len > gm_chain_left(to, GM_CHAIN_WRITABLE))
		return gm_access_end(done, 0, -ENOSPC);
	while (at < len && !rc) {
		uint64_t src = 0;
		uint64_t dst = 0;
		size_t n = gm_chain_here(from, GM_CHAIN_READABLE, len - at, &src);

		n = gm_chain_here(to, GM_CHAIN_WRITABLE, n, &dst);
		rc = to_view == from_view ? gm_copy(to_view, dst, src, n, &n)
					  : shuttle(to_view, dst, from_view, src, n, &n);
		gm_chain_eat(from, GM_CHAIN_READABLE, n);
		gm_chain_eat(to, GM_CHAIN_WRITABLE, n);
		at += n;
	}
	return gm_access_end(done, at, rc);
}

/* ---- numbers ---- */

static int get(struct gm_chain *chain, const struct gm_view *view, void *raw, size_t size)
{
	struct gm_chain copy = *chain;
	int rc = gm_chain_read(&copy, view, raw, size, NULL);

	if (!rc)
		*chain = copy;
	return rc;
}

static int put(struct gm_chain *chain, const struct gm_view *view, const void *raw, size_t size)
{
	struct gm_chain copy = *chain;
	int rc = gm_chain_write(&copy, view, raw, size, NULL);

	if (!rc)
		*chain = copy;
	return rc;
}

#define NUMBER(name, type, from, to)                                                               \
	int gm_chain_read_##name(struct gm_chain *chain, const struct gm_view *view, type *ret)    \
	{                                                                                          \
		type raw;                                                                          \
		int rc = get(chain, view, &raw, sizeof(raw));                                      \
                                                                                                   \
		if (!rc)                                                                           \
			*ret = from(raw);                                                          \
		return rc;                                                                         \
	}                                                                                          \
                                                                                                   \
	int gm_chain_write_##name(struct gm_chain *chain, const struct gm_view *view, type value)  \
	{                                                                                          \
		type raw = to(value);                                                              \
                                                                                                   \
		return put(chain, view, &raw, sizeof(raw));                                        \
	}

NUMBER(u8, uint8_t, , )
NUMBER(le16, uint16_t, le16toh, htole16)
NUMBER(le32, uint32_t, le32toh, htole32)
NUMBER(le64, uint64_t, le64toh, htole64)
NUMBER(be16, uint16_t, be16toh, htobe16)
NUMBER(be32, uint32_t, be32toh, htobe32)
NUMBER(be64, uint64_t, be64toh, htobe64)
