/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slice_access.h - touching the bytes of slices: guarded, in bounds, told to dirty logs.
 *
 * A slice (slice.h) is a host pointer, and using it as one is unguarded. These functions do with a
 * slice what access.h and atomic.h do with an address. They need no view and no section: the pin
 * keeps the memory, also when it is gone from the map.
 *
 * @slice is the slice that came with @pin, or a part of it as gm_slices_sub() and its like cut it;
 * offsets are counted from its first byte. One rule holds for all:
 *
 *   beyond the slice                  -ERANGE; nothing was touched
 *   slice of another pin, or of one   -EINVAL; nothing was touched
 *   that was given back
 *   pinned without this permission    -EACCES; nothing was touched
 *   length 0                          the offset and the permission are checked, nothing is done
 *   host has no page                  -EIO at @off + @done, or -EHWPOISON if its memory failed (with
 *                                     the guard of guard.h installed)
 *
 * @done, where it is offered, may be NULL, and is written on success and on error alike; other
 * outputs are written on success only. What is written is marked in the logs at once (log.h); see
 * GM_PIN_EXACT. A slice of a pin that is being given back must not be used any more, by any thread.
 *
 * Accesses that are inline are guarded while whoever was compiled with them, the program or a
 * library, has a reader or has installed the guard itself.
 */
#ifndef GUESTMEM_SLICE_ACCESS_H
#define GUESTMEM_SLICE_ACCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <guestmem/access.h>
#include <guestmem/backend.h>
#include <guestmem/export.h>
#include <guestmem/object.h>
#include <guestmem/slice.h>

#ifdef __cplusplus
extern "C" {
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define GM_NUMBER_LE 0u
#define GM_NUMBER_BE 0x200u
#else
#define GM_NUMBER_LE 0x200u
#define GM_NUMBER_BE 0u
#endif

/* Numbers in guest memory: width, and byte order if it is not the host's. */
#define GM_U8 1u
#define GM_U16 2u
#define GM_U32 4u
#define GM_U64 8u
#define GM_LE16 (GM_U16 | GM_NUMBER_LE)
#define GM_LE32 (GM_U32 | GM_NUMBER_LE)
#define GM_LE64 (GM_U64 | GM_NUMBER_LE)
#define GM_BE16 (GM_U16 | GM_NUMBER_BE)
#define GM_BE32 (GM_U32 | GM_NUMBER_BE)
#define GM_BE64 (GM_U64 | GM_NUMBER_BE)

/**
 * gm_slice_read() - copy from a slice
 * @slice: borrowed
 * @pin:   borrowed; with GM_PERM_R
 * @off:   first byte
 * @buf:   @len bytes of the caller; not guest memory that overlaps the range
 * @len:   bytes
 * @done:  optional: bytes that were copied
 *
 * Returns 0, -ERANGE, -EINVAL, -EACCES, -EIO, -EHWPOISON, as above.
 * Threads: any. Since: 0.1.
 */
GM_INLINE int gm_slice_read(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	void *buf, size_t len, size_t *done);

/**
 * gm_slice_write() - copy to a slice
 * @slice: borrowed
 * @pin:   borrowed; with GM_PERM_W
 * @off:   first byte
 * @buf:   @len bytes of the caller; not guest memory that overlaps the range
 * @len:   bytes
 * @done:  optional: bytes that were copied
 *
 * Returns as gm_slice_read().
 * Threads: any. Since: 0.1.
 */
GM_INLINE int gm_slice_write(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	const void *buf, size_t len, size_t *done);

/* gm_slice_read_object() and gm_slice_write_object(): the object that @ptr points to, of a type as
 * object.h demands. */
#define gm_slice_read_object(slice, pin, off, ptr)                                                 \
	gm_slice_read((slice), (pin), (off), (ptr), GM_OBJECT_SIZE(ptr), NULL)
#define gm_slice_write_object(slice, pin, off, ptr)                                                \
	gm_slice_write((slice), (pin), (off), (ptr), GM_OBJECT_SIZE(ptr), NULL)

/**
 * gm_slice_fill() - set bytes of a slice to one value
 * @slice: borrowed
 * @pin:   borrowed; with GM_PERM_W
 * @off:   first byte
 * @byte:  the value of each byte
 * @len:   bytes
 * @done:  optional: bytes that were set
 *
 * Returns as gm_slice_read().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_slice_fill(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint8_t byte, size_t len, size_t *done);

/**
 * gm_slice_copy() - copy from a slice to a slice, of one space or of two
 * @dst:     borrowed: the slice to copy to
 * @dst_pin: borrowed; with GM_PERM_W
 * @dst_off: first byte there
 * @src:     borrowed: the slice to copy from
 * @src_pin: borrowed; with GM_PERM_R; may be @dst_pin
 * @src_off: first byte there
 * @len:     bytes
 * @done:    optional: bytes that were copied
 *
 * The ranges may overlap; memory that is mapped twice is not recognised as the same. When the
 * destination overlaps the source and lies above it the copy goes downwards; then a failure of the
 * host leaves @done at 0 and the destination undefined.
 * Returns as gm_slice_read().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_slice_copy(const struct iovec *dst, const struct gm_pin *dst_pin, uint64_t dst_off,
	const struct iovec *src, const struct gm_pin *src_pin, uint64_t src_off, size_t len,
	size_t *done);

/**
 * gm_slice_load() - load a number
 * @slice:  borrowed
 * @pin:    borrowed; with GM_PERM_R
 * @off:    first byte
 * @number: GM_U8 to GM_BE64; best a constant
 * @order:  memory order as in atomic.h; best a constant
 * @ret:    the value, on success
 *
 * With __ATOMIC_RELAXED it may lie anywhere, and is one access of the machine if its address is a
 * multiple of its width; any other order demands that.
 * Returns as gm_slice_read(), and -EINVAL also for another @number or one that is not aligned.
 * Threads: any. Since: 0.1.
 */
GM_INLINE int gm_slice_load(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t *ret);

/**
 * gm_slice_store() - store a number
 * @slice:  borrowed
 * @pin:    borrowed; with GM_PERM_W
 * @off:    first byte
 * @number: GM_U8 to GM_BE64; best a constant
 * @order:  memory order as in atomic.h; best a constant
 * @value:  what to store; bits beyond the width are ignored
 *
 * As gm_slice_load().
 * Threads: any. Since: 0.1.
 */
GM_INLINE int gm_slice_store(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t value);

/**
 * gm_slice_atomic() - read, modify and write a number, atomically
 * @slice: borrowed
 * @pin:   borrowed; with GM_PERM_R and GM_PERM_W
 * @off:   first byte; its address is a multiple of @size
 * @op:    enum gm_backend_atomic
 * @size:  bytes: 1, 2, 4 or 8
 * @value: the operand; what to store
 * @seen:  the value before, on success; for GM_BACKEND_CMPXCHG it comes with what must be there, and
 *         @value was stored if it stays as it came
 *
 * Sequentially consistent, in the host's byte order.
 * Returns as gm_slice_read(), and -EINVAL also for another @op or @size, or if it is not aligned.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_slice_atomic(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t op, uint32_t size, uint64_t value, uint64_t *seen);

/**
 * gm_slice_mark() - say that bytes of a slice were written by other ways than these functions
 * @slice: borrowed
 * @pin:   borrowed; one without GM_PERM_W marks nothing
 * @off:   first byte
 * @len:   bytes; those beyond the slice are ignored
 *
 * After they were written.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_slice_mark(
	const struct iovec *slice, const struct gm_pin *pin, uint64_t off, uint64_t len);

/*
 * What the inline functions call; not for direct use, and no promise beyond that. As the functions
 * above of the like names.
 */
GM_API int gm_slice_read_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	void *buf, size_t len, size_t *done);
GM_API int gm_slice_write_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	const void *buf, size_t len, size_t *done);
GM_API int gm_slice_load_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t *ret);
GM_API int gm_slice_store_slow(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t value);

#ifdef __cplusplus
}
#endif

#include <guestmem/inline/slice_access.h>

#endif
