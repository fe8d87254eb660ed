/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * object.h - structures and arrays of them in guest memory.
 *
 * A structure that is copied from or to a guest byte by byte must be plain data: all bytes belong to
 * fields, so that none of the host's memory leaks through padding; no field is a pointer, which means
 * nothing on the other side; and no value of the bytes is wrong for a field, as 2 is for a bool.
 * GM_PLAIN_DATA() makes the compiler check that; a C compiler checks nothing of a structure without it.
 *
 * The functions never touch a part of an element that they do not touch whole.
 */
#ifndef GUESTMEM_OBJECT_H
#define GUESTMEM_OBJECT_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/access.h>
#include <guestmem/export.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_read_array() - copy elements of one size from guest memory
 * @view: borrowed
 * @gpa:  guest physical address of the first
 * @buf:  @nr times @size bytes of the caller
 * @size: bytes of an element, not 0
 * @nr:   number of elements
 * @done: optional: number of elements that were copied
 *
 * Of an element that cannot be read whole nothing is; only a failure of the host may leave a part.
 * Returns as gm_read(), -EINVAL (@size 0), and -ERANGE also if @nr times @size is 2^64 or more.
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_read_array(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done);

/**
 * gm_write_array() - copy elements of one size to guest memory
 * @view: borrowed
 * @gpa:  guest physical address of the first
 * @buf:  @nr times @size bytes of the caller
 * @size: bytes of an element, not 0
 * @nr:   number of elements
 * @done: optional: number of elements that were copied
 *
 * As gm_read_array(): an element that cannot be written whole is left as it is.
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_write_array(const struct gm_view *view, uint64_t gpa, const void *buf, size_t size,
	size_t nr, size_t *done);

/*
 * gm_read_object() and gm_write_object(): the object that @ptr points to, whole or not at all.
 * gm_read_objects() and gm_write_objects(): @nr of them.
 * An object that is a pointer, a bool, a union, a long double, a complex number, or an array of these
 * does not compile; in C++ neither does one with padding. In C of structures only GM_PLAIN_DATA() tells.
 */
#define gm_read_object(view, gpa, ptr)                                                             \
	gm_read_array((view), (gpa), (ptr), GM_OBJECT_SIZE(ptr), 1, NULL)
#define gm_write_object(view, gpa, ptr)                                                            \
	gm_write_array((view), (gpa), (ptr), GM_OBJECT_SIZE(ptr), 1, NULL)
#define gm_read_objects(view, gpa, ptr, nr, done)                                                  \
	gm_read_array((view), (gpa), (ptr), GM_OBJECT_SIZE(ptr), (nr), (done))
#define gm_write_objects(view, gpa, ptr, nr, done)                                                 \
	gm_write_array((view), (gpa), (ptr), GM_OBJECT_SIZE(ptr), (nr), (done))

/*
 * GM_PLAIN_DATA(type, field, ...); behind the definition of a structure, with all of its fields (at
 * most 24) in their order: does not compile if there is padding, a field is missing, is a bit-field, or
 * is what gm_write_object() refuses. Arrays have up to two dimensions in C. Of a field that is a structure name
 * the fields (in.a, in.b, rows[0].a); named whole it needs a GM_PLAIN_DATA() of its own, and
 * only C++ sees that its padding was never looked for. What is a pointer or bool in it nobody sees.
 */
#define GM_PLAIN_DATA(type, ...)                                                                   \
	GM_PLAIN_PICK(__VA_ARGS__, GM_PLAIN_24, GM_PLAIN_23, GM_PLAIN_22, GM_PLAIN_21,             \
		GM_PLAIN_20, GM_PLAIN_19, GM_PLAIN_18, GM_PLAIN_17, GM_PLAIN_16, GM_PLAIN_15,      \
		GM_PLAIN_14, GM_PLAIN_13, GM_PLAIN_12, GM_PLAIN_11, GM_PLAIN_10, GM_PLAIN_9,       \
		GM_PLAIN_8, GM_PLAIN_7, GM_PLAIN_6, GM_PLAIN_5, GM_PLAIN_4, GM_PLAIN_3,            \
		GM_PLAIN_2, GM_PLAIN_1, 0)                                                         \
	(type, 0, __VA_ARGS__)

/*
 * What the inline functions call; not for direct use, and no promise beyond that.
 */
GM_API int gm_read_array_slow(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done);
GM_API int gm_write_array_slow(const struct gm_view *view, uint64_t gpa, const void *buf,
	size_t size, size_t nr, size_t *done);

#ifdef __cplusplus
}
#endif

#include <guestmem/inline/object.h>

#endif
