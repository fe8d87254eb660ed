/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slice_list.c - cutting lists of slices. Pure arithmetic: nothing here looks at memory.
 *
 * All bounds are checked before anything is changed.
 */
#include <guestmem/slice.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

int gm_slices_len(const struct iovec *slices, size_t nr, uint64_t *ret_len)
{
	uint64_t len = 0;

	for (size_t i = 0; i < nr; i++) {
		if (__builtin_add_overflow(len, slices[i].iov_len, &len))
			return -ERANGE;
	}
	*ret_len = len;
	return 0;
}

/* Do [off, off + len) lie in the list? */
static bool holds(const struct iovec *slices, size_t nr, uint64_t off, uint64_t len)
{
	uint64_t all;

	return gm_slices_len(slices, nr, &all) == 0 && off <= all && len <= all - off;
}

/* What is left of a slice behind its first @off bytes. */
static struct iovec tail(const struct iovec *slice, uint64_t off)
{
	/* A slice of 0 bytes may have no address. */
	return (struct iovec){off ? (char *)slice->iov_base + off : slice->iov_base,
		slice->iov_len - (size_t)off};
}

int gm_slices_advance(struct iovec **slices, size_t *nr, uint64_t len)
{
	struct iovec *at = *slices;
	size_t left = *nr;

	if (!holds(at, left, len, 0))
		return -ERANGE;
	for (; left && len >= at->iov_len; left--)
		len -= at++->iov_len;
	if (left)
		*at = tail(at, len);
	*slices = at;
	*nr = left;
	return 0;
}

/* Writes up to @room slices of the part, and returns how many it has. */
static size_t cut(
	const struct iovec *slices, uint64_t off, uint64_t len, struct iovec *ret, size_t room)
{
	size_t n = 0;

	for (; len; slices++) {
		struct iovec part;

		if (off >= slices->iov_len) {
			off -= slices->iov_len;
			continue;
		}
		part = tail(slices, off);
		off = 0;
		if (part.iov_len > len)
			part.iov_len = (size_t)len;
		if (n < room)
			ret[n] = part;
		n++;
		len -= part.iov_len;
	}
	return n;
}

int gm_slices_sub(const struct iovec *slices, size_t nr, uint64_t off, uint64_t len,
	struct iovec *ret_slices, size_t room, size_t *ret_nr)
{
	size_t needed;

	if (!holds(slices, nr, off, len))
		return -ERANGE;
	needed = cut(slices, off, len, NULL, 0);
	if (needed <= room)
		cut(slices, off, len, ret_slices, room);
	*ret_nr = needed;
	return needed > room ? -ENOBUFS : 0;
}

int gm_slices_split(struct iovec *slices, size_t *nr, size_t room, uint64_t off, size_t *ret_at)
{
	size_t i = 0;

	if (!holds(slices, *nr, off, 0))
		return -ERANGE;
	for (; i < *nr && off >= slices[i].iov_len; i++)
		off -= slices[i].iov_len;
	if (off) {
		if (*nr >= room)
			return -ENOBUFS;
		memmove(slices + i + 1, slices + i, (*nr - i) * sizeof(*slices));
		slices[i].iov_len = (size_t)off;
		slices[i + 1] = tail(&slices[i + 1], off);
		++*nr;
		i++;
	}
	*ret_at = i;
	return 0;
}
