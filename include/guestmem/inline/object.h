/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/object.h - bodies of object.h. Included by it. Not for direct use.
 *
 * The short way is all elements in one span of the window. All else, a fault as well, is decided out
 * of line.
 */
#ifndef GUESTMEM_INLINE_OBJECT_H
#define GUESTMEM_INLINE_OBJECT_H

#include <guestmem/inline/plain.h>

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

#ifdef __cplusplus
extern "C" {
#endif

#if GM_GUARDED

GM_SHARED int gm_find_read_array(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done)
{
	void *hva;
	size_t len;

	if (__builtin_mul_overflow(size, nr, &len) || len == 0 ||
		!gm_view_find(view, gpa, len, GM_PERM_R, &hva) ||
		gm_guard_copy_from(buf, hva, len, NULL))
		return gm_read_array_slow(view, gpa, buf, size, nr, done);
	if (done)
		*done = nr;
	return 0;
}

GM_INLINE int gm_read_array(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done)
{
	size_t len;

	if (__builtin_expect(__builtin_mul_overflow(size, nr, &len) || len == 0 ||
				     !gm_view_is_hot(view, gpa, len) ||
				     !gm_copy_in(buf, gm_view_hot(view, gpa), len),
		    0))
		return gm_find_read_array(view, gpa, buf, size, nr, done);
	if (done)
		*done = nr;
	return 0;
}

GM_SHARED int gm_find_write_array(const struct gm_view *view, uint64_t gpa, const void *buf,
	size_t size, size_t nr, size_t *done)
{
	void *hva;
	size_t len;

	if (__builtin_mul_overflow(size, nr, &len) || len == 0 ||
		!gm_view_find(view, gpa, len, GM_PERM_W, &hva) ||
		gm_guard_copy_to(hva, buf, len, NULL))
		return gm_write_array_slow(view, gpa, buf, size, nr, done);
	if (__builtin_expect(!gm_view_marked(view, gpa, len), 0))
		gm_view_mark(view, gpa, len);
	if (done)
		*done = nr;
	return 0;
}

GM_INLINE int gm_write_array(const struct gm_view *view, uint64_t gpa, const void *buf, size_t size,
	size_t nr, size_t *done)
{
	size_t len;

	if (__builtin_expect(__builtin_mul_overflow(size, nr, &len) || len == 0 ||
				     !gm_view_is_hot(view, gpa, len) ||
				     !gm_copy_out(gm_view_hot(view, gpa), buf, len),
		    0))
		return gm_find_write_array(view, gpa, buf, size, nr, done);
	if (__builtin_expect(!gm_view_marked(view, gpa, len), 0))
		gm_view_mark(view, gpa, len);
	if (done)
		*done = nr;
	return 0;
}

#else

GM_INLINE int gm_read_array(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done)
{
	return gm_read_array_slow(view, gpa, buf, size, nr, done);
}

GM_INLINE int gm_write_array(const struct gm_view *view, uint64_t gpa, const void *buf, size_t size,
	size_t nr, size_t *done)
{
	return gm_write_array_slow(view, gpa, buf, size, nr, done);
}

#endif

#ifdef __cplusplus
}
#endif

#endif

#endif
