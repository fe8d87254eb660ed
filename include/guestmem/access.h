/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.h - reading and writing guest memory.
 *
 * Every function takes a view (view.h) and a guest physical address, and is called in a section of
 * the reader that gave the view. A range may cross regions and may end at 2^64. The guest can
 * change the bytes at any time: copy in what is to be checked, and check the copy.
 *
 * One rule for all edges (gm_access(3) has it as a table):
 *
 *   length 0              the address is checked, nothing is done
 *   wraps past 2^64       -ERANGE; nothing was touched
 *   not mapped            -EFAULT at gpa + done
 *   without permission    -EACCES at gpa + done; with the guard also where the host's pages have none
 *                         (control.h)
 *   host has no page      -EIO at gpa + done, or -EHWPOISON if its memory failed (with the guard of
 *                         guard.h installed)
 *   a device's callback   what it returned; a backend's that cannot be: -EPROTO
 *   atomic, not aligned   -EINVAL; nothing was touched
 *
 * Where @done is offered it may be NULL, and is written on success and on error alike. Other
 * outputs are written on success only. Bytes behind @done were not written. Nothing here allocates,
 * locks, logs or sets errno.
 *
 * An aligned access of 1, 2, 4 or 8 bytes is one access of the machine and never torn, by whichever
 * function; a misaligned one may be, and so may be a number within a longer access. A bad pointer of
 * the caller faults as anywhere else.
 */
#ifndef GUESTMEM_ACCESS_H
#define GUESTMEM_ACCESS_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/export.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_read() - copy from guest memory
 * @view: borrowed
 * @gpa:  first guest physical address
 * @buf:  @len bytes of the caller; not guest memory that overlaps the range
 * @len:  bytes
 * @done: optional: bytes that were copied
 *
 * Returns 0, -EFAULT, -EACCES, -ERANGE, -EIO, -EHWPOISON.
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_read(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t len, size_t *done);

/**
 * gm_write() - copy to guest memory
 * @view: borrowed
 * @gpa:  first guest physical address
 * @buf:  @len bytes of the caller; not guest memory that overlaps the range
 * @len:  bytes
 * @done: optional: bytes that were copied
 *
 * Returns as gm_read().
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_write(
	const struct gm_view *view, uint64_t gpa, const void *buf, size_t len, size_t *done);

/**
 * gm_fill() - set guest memory to one byte
 * @view: borrowed
 * @gpa:  first guest physical address
 * @byte: the value of each byte
 * @len:  bytes
 * @done: optional: bytes that were set
 *
 * Returns as gm_read().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_fill(
	const struct gm_view *view, uint64_t gpa, uint8_t byte, size_t len, size_t *done);

/**
 * gm_compare() - compare guest memory with a buffer
 * @view:      borrowed
 * @gpa:       first guest physical address
 * @buf:       @len bytes of the caller
 * @len:       bytes
 * @ret_order: negative, 0 or positive as memcmp(guest, @buf, @len); on success
 * @done:      optional: bytes before the first difference, or before the failure
 *
 * It looks no further than the first difference; a hole behind that is not found.
 * Returns as gm_read().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_compare(const struct gm_view *view, uint64_t gpa, const void *buf, size_t len,
	int *ret_order, size_t *done);

/**
 * gm_is_zero() - is guest memory all zero?
 * @view: borrowed
 * @gpa:  first guest physical address
 * @len:  bytes
 * @done: optional: bytes before the first that is not zero, or before the failure
 *
 * It looks no further than the first byte that is not zero.
 * Returns 1 (all zero; also with length 0), 0 (not), or errors as gm_read().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_is_zero(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done);

/**
 * gm_copy() - copy from guest memory to guest memory
 * @view: borrowed
 * @dst:  guest physical address to copy to
 * @src:  guest physical address to copy from
 * @len:  bytes
 * @done: optional: bytes that were copied
 *
 * The ranges may overlap; memory that is mapped at a second guest address is not recognised as the
 * same. -EFAULT and -EACCES are about the first byte that cannot be read or cannot be written. When
 * @dst lies above @src and overlaps it the copy goes downwards; then a failure of the host leaves
 * @done at 0 and the destination undefined.
 * Returns as gm_read().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_copy(
	const struct gm_view *view, uint64_t dst, uint64_t src, size_t len, size_t *done);

/*
 * Typed reads and writes at any alignment: in the host's byte order, little-endian (le), big-endian
 * (be). A write across two regions is refused before its first byte if the second region cannot be
 * written; only a failure of the host may leave a part of it.
 *
 * @view: borrowed; @gpa: guest physical address; @ret: the value, on success; @value: what to write
 *
 * Return as gm_read().
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_read_u8(const struct gm_view *view, uint64_t gpa, uint8_t *ret);
GM_INLINE int gm_read_u16(const struct gm_view *view, uint64_t gpa, uint16_t *ret);
GM_INLINE int gm_read_u32(const struct gm_view *view, uint64_t gpa, uint32_t *ret);
GM_INLINE int gm_read_u64(const struct gm_view *view, uint64_t gpa, uint64_t *ret);
GM_INLINE int gm_read_le16(const struct gm_view *view, uint64_t gpa, uint16_t *ret);
GM_INLINE int gm_read_le32(const struct gm_view *view, uint64_t gpa, uint32_t *ret);
GM_INLINE int gm_read_le64(const struct gm_view *view, uint64_t gpa, uint64_t *ret);
GM_INLINE int gm_read_be16(const struct gm_view *view, uint64_t gpa, uint16_t *ret);
GM_INLINE int gm_read_be32(const struct gm_view *view, uint64_t gpa, uint32_t *ret);
GM_INLINE int gm_read_be64(const struct gm_view *view, uint64_t gpa, uint64_t *ret);

GM_INLINE int gm_write_u8(const struct gm_view *view, uint64_t gpa, uint8_t value);
GM_INLINE int gm_write_u16(const struct gm_view *view, uint64_t gpa, uint16_t value);
GM_INLINE int gm_write_u32(const struct gm_view *view, uint64_t gpa, uint32_t value);
GM_INLINE int gm_write_u64(const struct gm_view *view, uint64_t gpa, uint64_t value);
GM_INLINE int gm_write_le16(const struct gm_view *view, uint64_t gpa, uint16_t value);
GM_INLINE int gm_write_le32(const struct gm_view *view, uint64_t gpa, uint32_t value);
GM_INLINE int gm_write_le64(const struct gm_view *view, uint64_t gpa, uint64_t value);
GM_INLINE int gm_write_be16(const struct gm_view *view, uint64_t gpa, uint16_t value);
GM_INLINE int gm_write_be32(const struct gm_view *view, uint64_t gpa, uint32_t value);
GM_INLINE int gm_write_be64(const struct gm_view *view, uint64_t gpa, uint64_t value);

/*
 * What the inline functions call; not for direct use, and no promise beyond that.
 *
 * gm_load_slow(), gm_store_slow(): one number as @how says (GM_HOW_* of inline/access.h).
 * gm_read_slow(), gm_write_slow(): gm_read() and gm_write() without the short way.
 * gm_guard_copy_from(), gm_guard_copy_to(): copy from or to a host address that may fault; @fault
 * is optional. Return the bytes not copied.
 */
struct gm_guard_fault;
GM_API int gm_load_slow(const struct gm_view *view, uint64_t gpa, uint32_t how, void *ret);
GM_API int gm_store_slow(const struct gm_view *view, uint64_t gpa, uint32_t how, uint64_t value);
GM_API int gm_read_slow(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t len, size_t *done);
GM_API int gm_write_slow(
	const struct gm_view *view, uint64_t gpa, const void *buf, size_t len, size_t *done);
GM_API size_t gm_guard_copy_from(
	void *dst, const void *guest_src, size_t len, struct gm_guard_fault *fault);
GM_API size_t gm_guard_copy_to(
	void *guest_dst, const void *src, size_t len, struct gm_guard_fault *fault);

#include <guestmem/inline/access.h>

#ifdef __cplusplus
}
#endif

#endif
