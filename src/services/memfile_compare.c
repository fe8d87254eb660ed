/* SPDX-License-Identifier: BSD-3-Clause */
/* memfile_compare.c - which pages of two sources differ: what both know to be zeros is not read. */
#include <guestmem/memfile.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define PAGE UINT64_C(4096)
#define STEP (UINT64_C(1) << 20)

struct side {
	struct gm_source *source;
	uint64_t len;
	struct gm_source_extent extent; /* the last that was looked at */
	uint8_t *buf;
};

struct compare {
	struct side sides[2];
	uint64_t *bits;
	struct gm_error *err;
};

/* Looks at what lies at @at, and shortens *len to where it ends. */
static int look(struct compare *c, struct side *side, uint64_t at, uint64_t *len)
{
	uint64_t left;
	int rc;

	if (at >= side->len) {
		side->extent = (struct gm_source_extent){.kind = GM_SOURCE_ZERO};
		return 0;
	}
	rc = gm_source_extent(side->source, at, &side->extent);
	if (!rc && side->extent.kind == GM_SOURCE_ABSENT)
		rc = -ENODATA;
	if (rc)
		return gm_error_set(c->err, rc, at, 0,
			"comparing memory: what lies at 0x%" PRIx64 " is not known: %s", at,
			rc == -ENODATA ? "a difference is not all of it" : gm_error_word(rc));
	/* Pages are taken whole; one that two extents share is read. */
	left = gm_align_down(side->extent.len, PAGE);
	if (!left) {
		left = PAGE;
		side->extent.kind = GM_SOURCE_CHUNK;
	}
	*len = left < *len ? left : *len;
	return 0;
}

static int fill(struct compare *c, struct side *side, uint64_t at, size_t len)
{
	uint64_t left = at < side->len ? side->len - at : 0;
	size_t nr = left < len ? (size_t)left : len;
	struct gm_error inner;
	int rc;

	memset(side->buf + nr, 0, len - nr);
	if (side->extent.kind == GM_SOURCE_ZERO) {
		memset(side->buf, 0, nr);
		return 0;
	}
	rc = gm_source_read(side->source, at, side->buf, nr, &inner);
	return rc ? gm_error_pass(c->err, &inner, rc) : 0;
}

static int compare_some(struct compare *c, uint64_t at, uint64_t *len)
{
	int rc = look(c, &c->sides[0], at, len);

	if (!rc)
		rc = look(c, &c->sides[1], at, len);
	if (rc || (c->sides[0].extent.kind == GM_SOURCE_ZERO &&
			  c->sides[1].extent.kind == GM_SOURCE_ZERO))
		return rc;
	*len = *len < STEP ? *len : STEP;
	for (int i = 0; i < 2 && !rc; i++)
		rc = fill(c, &c->sides[i], at, *len);
	for (uint64_t in = 0; in < *len && !rc; in += PAGE) {
		uint64_t page = (at + in) / PAGE;

		if (memcmp(c->sides[0].buf + in, c->sides[1].buf + in, PAGE) != 0)
			c->bits[page / 64] |= UINT64_C(1) << page % 64;
	}
	return rc;
}

int gm_memfile_compare(struct gm_source *a, struct gm_source *b, uint64_t *ret_bits,
	int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, struct gm_error *err)
{
	struct compare c = {.bits = ret_bits, .err = err};
	uint64_t total = gm_source_len(a);
	uint64_t len;
	uint8_t *buf;
	int rc = 0;

	if (!gm_is_aligned(total, PAGE))
		return gm_error_set(err, -EINVAL, 0, 0,
			"comparing memory: 0x%" PRIx64 " bytes are no number of pages", total);
	buf = gm_sys_alloc(2 * STEP);
	if (!buf)
		return gm_error_set(err, -ENOMEM, 0, 0, "comparing memory: no memory");
	c.sides[0] = (struct side){.source = a, .len = total, .buf = buf};
	c.sides[1] = (struct side){.source = b, .len = gm_source_len(b), .buf = buf + STEP};
	memset(ret_bits, 0, (total / PAGE / 64 + (total / PAGE % 64 != 0)) * 8);
	for (uint64_t at = 0; at < total && !rc; at += len) {
		len = total - at;
		rc = compare_some(&c, at, &len);
		if (!rc && progress && progress(ctx, at + len, total))
			rc = gm_error_set(err, -ECANCELED, 0, 0, "comparing memory: canceled");
	}
	gm_sys_free(buf);
	return rc;
}
