/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * object.c - arrays in guest memory, in whole elements.
 *
 * How far a range can be reached is asked first, so that no element is begun that could not be
 * ended.
 */
#include <guestmem/object.h>

#include <errno.h>

#include "memory/access.h"

/* Bytes of a range from its first one on that have @perm; *rc says why it is not all of them. */
static size_t reach(const struct gm_view *view, uint64_t gpa, size_t len, uint32_t perm, int *rc)
{
	size_t at = 0;

	while (at < len) {
		struct gm_spot spot;

		*rc = gm_access_spot(view, gpa + at, len - at - 1, perm, &spot);
		if (*rc)
			break;
		if (len - at - 1 <= spot.extent)
			return len;
		at += (size_t)spot.extent + 1;
	}
	return at;
}

/* Bytes in whole elements that may be copied, and why it is not all of @nr. */
static int measure(const struct gm_view *view, uint64_t gpa, size_t size, size_t nr, uint32_t perm,
	size_t *ret_len)
{
	size_t len;
	int rc = 0;

	*ret_len = 0;
	if (size == 0)
		return -EINVAL;
	if (__builtin_mul_overflow(size, nr, &len) || (len && len - 1 > UINT64_MAX - gpa))
		return -ERANGE;
	len = reach(view, gpa, len, perm, &rc);
	*ret_len = len - len % size;
	return rc;
}

int gm_read_array_slow(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done)
{
	size_t bytes = 0;
	size_t len;
	int short_of = measure(view, gpa, size, nr, GM_PERM_R, &len);
	int rc = 0;

	if (len || !short_of)
		rc = gm_read(view, gpa, buf, len, &bytes);
	if (done)
		*done = bytes ? bytes / size : 0;
	return rc ? rc : short_of;
}

int gm_write_array_slow(const struct gm_view *view, uint64_t gpa, const void *buf, size_t size,
	size_t nr, size_t *done)
{
	size_t bytes = 0;
	size_t len;
	int short_of = measure(view, gpa, size, nr, GM_PERM_W, &len);
	int rc = 0;

	if (len || !short_of)
		rc = gm_write(view, gpa, buf, len, &bytes);
	if (done)
		*done = bytes ? bytes / size : 0;
	return rc ? rc : short_of;
}
