/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scan.c - looking through guest memory, in copies.
 *
 * A chunk may come short: then what came is looked at first, and the error counts only if the answer
 * did not lie before it.
 */
#include <guestmem/scan.h>

#include <errno.h>
#include <guestmem/access.h>
#include <string.h>

#include "core/table.h"
#include "memory/access.h"

#define CHUNK 1024
#define STRING_CHUNK 256 /* a string is read up to the next multiple of it */
#define LINE 64
#define PREFETCH_MAX 4096

static bool wraps(uint64_t gpa, size_t len)
{
	return len && len - 1 > UINT64_MAX - gpa;
}

int gm_for_each_chunk(const struct gm_view *view, uint64_t gpa, size_t len,
	int (*fn)(void *ctx, const void *data, size_t n), void *ctx, size_t *done)
{
	uint8_t chunk[CHUNK];
	size_t at = 0;
	int rc = wraps(gpa, len) ? -ERANGE : 0;

	/* With length 0 the address is checked. */
	for (bool first = true; !rc && (first || at < len); first = false) {
		size_t got = 0;
		int failed =
			gm_read(view, gpa + at, chunk, len - at < CHUNK ? len - at : CHUNK, &got);

		if (got)
			rc = fn(ctx, chunk, got);
		at += got;
		if (!rc)
			rc = failed;
	}
	if (done)
		*done = at;
	return rc;
}

struct find {
	size_t before;
	uint8_t byte;
};

static int find_in(void *ctx, const void *data, size_t n)
{
	struct find *find = ctx;
	const uint8_t *at = memchr(data, find->byte, n);

	find->before += at ? (size_t)(at - (const uint8_t *)data) : n;
	return at != NULL;
}

int gm_find_byte(
	const struct gm_view *view, uint64_t gpa, uint8_t byte, size_t len, size_t *ret_off)
{
	struct find find = {.byte = byte};
	int rc = gm_for_each_chunk(view, gpa, len, find_in, &find, NULL);

	if (rc == 1)
		*ret_off = find.before;
	return rc;
}

/* Returns 0 when the NUL is in @buf. */
static int read_string(
	const struct gm_view *view, uint64_t gpa, char *buf, size_t cap, size_t *ret_len)
{
	size_t at = 0;

	while (at < cap) {
		size_t want = STRING_CHUNK - (gpa + at) % STRING_CHUNK;
		size_t got = 0;
		const char *nul;
		int rc;

		/* Behind the last address there is no next one. */
		if (at && gpa + at == 0)
			return -ERANGE;
		rc = gm_read(view, gpa + at, buf + at, want < cap - at ? want : cap - at, &got);
		nul = memchr(buf + at, 0, got);
		if (nul) {
			*ret_len = (size_t)(nul - buf);
			return 0;
		}
		if (rc)
			return rc;
		at += got;
	}
	return -EMSGSIZE;
}

int gm_read_string(const struct gm_view *view, uint64_t gpa, char *buf, size_t cap, size_t *ret_len)
{
	size_t len = 0;
	int rc = cap ? read_string(view, gpa, buf, cap, &len) : -EINVAL;

	if (!rc && ret_len)
		*ret_len = len;
	if (rc && cap)
		buf[0] = 0;
	return rc;
}

void gm_prefetch(const struct gm_view *view, uint64_t gpa, size_t len)
{
	const struct gm_span *span = gm_table_find(view, gpa);
	size_t room = len < PREFETCH_MAX ? len : PREFETCH_MAX;
	const char *hva;

	if (!span || gm_span_is_special(span, false) || !(span->perms & GM_PERM_R) ||
		(span->perms & (GM_SPAN_HOLE | GM_SPAN_PRIVATE | GM_SPAN_IOMMU)))
		return;
	if (room && room - 1 > span->last - gpa)
		room = (size_t)(span->last - gpa) + 1;
	hva = gm_access_hva(span, gpa);
	for (size_t at = 0; at < room; at += LINE - ((uintptr_t)hva + at) % LINE)
		__builtin_prefetch(hva + at);
}
