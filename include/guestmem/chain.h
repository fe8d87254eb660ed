/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain.h - reading and writing a list of guest ranges, as a descriptor chain gives it.
 *
 * A chain is a cursor over an array of (address, length, direction) that belongs to the caller: it
 * has a readable side, which the driver filled in, and a writable side, which the device fills.
 * Each side is a sequence of bytes that is consumed from its start. Elements are checked once, by
 * gm_chain_init(); the array must not change afterwards, so it is no guest memory but the caller's
 * copy. A chain holds no view: each call takes that of the moment, of any kind of space. Nothing is
 * allocated.
 *
 * Bytes follow the rule of access.h. More than is left of a side is -ENODATA (readable) or -ENOSPC
 * (writable), with nothing touched. Where an access fails what was done in front of it is consumed
 * and counted in @done. Elements of length 0 are passed over; their addresses are not looked at.
 *
 * A struct gm_chain is a plain value: a copy is a second cursor. One thread at a time uses it.
 */
#ifndef GUESTMEM_CHAIN_H
#define GUESTMEM_CHAIN_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/object.h>
#include <guestmem/slice.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/* gm_chain_elem.flags */
#define GM_CHAIN_WRITE 1u /* the device writes it */

/**
 * struct gm_chain_elem - one range of a chain
 * @gpa:      first address
 * @len:      bytes; may be 0
 * @flags:    GM_CHAIN_WRITE or 0
 * @reserved: zero
 */
struct gm_chain_elem {
	uint64_t gpa;
	uint64_t len;
	uint32_t flags;
	uint32_t reserved;
};

/** enum gm_chain_side - the two sequences of bytes of a chain */
enum gm_chain_side {
	GM_CHAIN_READABLE = 0,
	GM_CHAIN_WRITABLE = 1,
};

/* gm_chain_opts.flags */
#define GM_CHAIN_MIXED 1u /* readable elements may stand behind writable ones */

/**
 * struct gm_chain_opts - what a chain may be; zero means default
 * @size:     sizeof(struct gm_chain_opts)
 * @max_len:  bytes of both sides together; 0 = 2^63 - 1. Virtio allows 2^32
 * @max_nr:   elements; 0 = 32768, the largest queue of virtio
 * @flags:    GM_CHAIN_MIXED or 0
 */
struct gm_chain_opts {
	size_t size;
	uint64_t max_len;
	uint32_t max_nr;
	uint32_t flags;
};

/* How far a side is; private. */
struct gm_chain_cursor {
	size_t index;
	uint64_t off;
	uint64_t done;
	uint64_t left;
};

/** struct gm_chain - a cursor over a list of ranges; all of it is private */
struct gm_chain {
	const struct gm_chain_elem *elems;
	size_t nr;
	struct gm_chain_cursor sides[2];
};

/**
 * gm_chain_init() - check a list of ranges and stand at its start
 * @chain: filled in; there is nothing to give back
 * @elems: array of @nr, borrowed as long as @chain or a copy of it is used
 * @nr:    number of elements; may be 0
 * @opts:  borrowed for the call; NULL = defaults
 * @err:   optional: names the element
 *
 * Returns 0; -E2BIG (more elements than allowed, or @opts of a newer version); -EOVERFLOW (more
 * bytes than allowed); -ERANGE (an element wraps past 2^64); -EPROTO (a readable element behind a
 * writable one); -EINVAL (unknown flags). On failure @chain is unchanged.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_chain_init(struct gm_chain *chain, const struct gm_chain_elem *elems, size_t nr,
	const struct gm_chain_opts *opts, struct gm_error *err);

/** gm_chain_left() - bytes of @side that are not consumed. Threads: owner only. Since: 0.1. */
GM_API uint64_t gm_chain_left(const struct gm_chain *chain, enum gm_chain_side side);

/** gm_chain_done() - bytes of @side that are consumed. Threads: owner only. Since: 0.1. */
GM_API uint64_t gm_chain_done(const struct gm_chain *chain, enum gm_chain_side side);

/** gm_chain_total() - the sum of both. Threads: owner only. Since: 0.1. */
GM_API uint64_t gm_chain_total(const struct gm_chain *chain, enum gm_chain_side side);

/** gm_chain_limit() - leave at most @len bytes of @side. Threads: owner only. Since: 0.1. */
GM_API void gm_chain_limit(struct gm_chain *chain, enum gm_chain_side side, uint64_t len);

/**
 * gm_chain_skip() - consume bytes without touching them
 * @chain: borrowed
 * @side:  which
 * @len:   bytes
 *
 * Returns 0, -ENODATA or -ENOSPC (fewer are left; nothing was consumed).
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_chain_skip(struct gm_chain *chain, enum gm_chain_side side, uint64_t len);

/**
 * gm_chain_split() - cut a side in two
 * @chain:    borrowed; keeps the next @len bytes of @side, and all of the other side
 * @side:     which
 * @len:      bytes
 * @ret_rest: a chain with the bytes of @side behind them, and nothing else
 *
 * Returns as gm_chain_skip(); on failure neither is changed.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_chain_split(
	struct gm_chain *chain, enum gm_chain_side side, uint64_t len, struct gm_chain *ret_rest);

/**
 * gm_chain_range() - the next contiguous guest addresses of a side
 * @chain:   borrowed; nothing is consumed
 * @side:    which
 * @ret_gpa: first address
 *
 * Returns the number of bytes there, 0 at the end of the side; then @ret_gpa is unchanged.
 * Threads: owner only. Since: 0.1.
 */
GM_API uint64_t gm_chain_range(
	const struct gm_chain *chain, enum gm_chain_side side, uint64_t *ret_gpa);

/**
 * gm_chain_check() - may all that is left of a side be accessed?
 * @chain: borrowed
 * @side:  which; permission to read is looked for, or permission to write
 * @view:  borrowed
 *
 * Returns 0, or what gm_view_check() returns for the first range that may not.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_chain_check(
	const struct gm_chain *chain, enum gm_chain_side side, const struct gm_view *view);

/**
 * gm_chain_pin() - slices of what comes next, for system calls of one's own
 * @chain:      borrowed; nothing is consumed
 * @side:       which
 * @view:       borrowed
 * @max_len:    at most so many bytes
 * @ret_slices: array of @nr slices, in the order of the chain
 * @ret_pins:   array of @nr pins, each given back with gm_pin_put() or gm_pin_put_written()
 * @nr:         room in both
 * @ret_nr:     number of slices: as many as there was room for, or up to the first byte that has none
 *
 * Returns 0 (also with no slice at the end of the side), or what gm_pin_slice() returns for the very
 * first byte.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_chain_pin(const struct gm_chain *chain, enum gm_chain_side side,
	const struct gm_view *view, uint64_t max_len, struct iovec *ret_slices,
	struct gm_pin *ret_pins, size_t nr, size_t *ret_nr);

/**
 * gm_chain_read() - copy from the readable side, and consume it
 * @chain: borrowed
 * @view:  borrowed
 * @buf:   @len bytes of the caller
 * @len:   bytes
 * @done:  optional: bytes that were copied
 *
 * Returns 0, -ENODATA (fewer are left), or what gm_read() returns.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_chain_read(
	struct gm_chain *chain, const struct gm_view *view, void *buf, size_t len, size_t *done);

/**
 * gm_chain_peek() - gm_chain_read() without consuming
 * @chain: borrowed
 * @view:  borrowed
 * @buf:   @len bytes of the caller
 * @len:   bytes
 * @done:  optional: bytes that were copied
 *
 * The driver can change the bytes until they are read again.
 * Returns as gm_chain_read().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_chain_peek(const struct gm_chain *chain, const struct gm_view *view, void *buf,
	size_t len, size_t *done);

/**
 * gm_chain_write() - copy to the writable side, and consume it
 * @chain: borrowed
 * @view:  borrowed
 * @buf:   @len bytes of the caller
 * @len:   bytes
 * @done:  optional: bytes that were copied
 *
 * Returns 0, -ENOSPC (fewer are left), or what gm_write() returns.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_chain_write(struct gm_chain *chain, const struct gm_view *view, const void *buf,
	size_t len, size_t *done);

/**
 * gm_chain_fill() - set bytes of the writable side, and consume them
 * @chain: borrowed
 * @view:  borrowed
 * @byte:  the value of each
 * @len:   bytes
 * @done:  optional: bytes that were set
 *
 * Returns as gm_chain_write().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_chain_fill(
	struct gm_chain *chain, const struct gm_view *view, uint8_t byte, size_t len, size_t *done);

/**
 * gm_chain_copy() - copy from the readable side of a chain to the writable side of one
 * @to:        borrowed
 * @to_view:   borrowed
 * @from:      borrowed; may be @to
 * @from_view: borrowed; of the same space or of another one
 * @len:       bytes
 * @done:      optional: bytes that were copied
 *
 * Both sides are consumed as far as bytes were copied. If they share memory what comes of that is
 * undefined. Returns 0, -ENODATA, -ENOSPC, or what gm_copy() returns.
 * Threads: section of both readers. Since: 0.1.
 */
GM_API int gm_chain_copy(struct gm_chain *to, const struct gm_view *to_view, struct gm_chain *from,
	const struct gm_view *from_view, size_t len, size_t *done);

/*
 * gm_chain_read_object(), gm_chain_peek_object(), gm_chain_write_object(): the object that @ptr points
 * to, of a type as object.h demands.
 */
#define gm_chain_read_object(chain, view, ptr)                                                     \
	gm_chain_read((chain), (view), (ptr), GM_OBJECT_SIZE(ptr), NULL)
#define gm_chain_peek_object(chain, view, ptr)                                                     \
	gm_chain_peek((chain), (view), (ptr), GM_OBJECT_SIZE(ptr), NULL)
#define gm_chain_write_object(chain, view, ptr)                                                    \
	gm_chain_write((chain), (view), (ptr), GM_OBJECT_SIZE(ptr), NULL)

/*
 * Numbers: little-endian (le), big-endian (be). They may lie across elements. On failure nothing is
 * consumed, and @ret is unchanged; a write may have written a part.
 *
 * Return as gm_chain_read() and gm_chain_write().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_chain_read_u8(struct gm_chain *chain, const struct gm_view *view, uint8_t *ret);
GM_API int gm_chain_read_le16(struct gm_chain *chain, const struct gm_view *view, uint16_t *ret);
GM_API int gm_chain_read_le32(struct gm_chain *chain, const struct gm_view *view, uint32_t *ret);
GM_API int gm_chain_read_le64(struct gm_chain *chain, const struct gm_view *view, uint64_t *ret);
GM_API int gm_chain_read_be16(struct gm_chain *chain, const struct gm_view *view, uint16_t *ret);
GM_API int gm_chain_read_be32(struct gm_chain *chain, const struct gm_view *view, uint32_t *ret);
GM_API int gm_chain_read_be64(struct gm_chain *chain, const struct gm_view *view, uint64_t *ret);

GM_API int gm_chain_write_u8(struct gm_chain *chain, const struct gm_view *view, uint8_t value);
GM_API int gm_chain_write_le16(struct gm_chain *chain, const struct gm_view *view, uint16_t value);
GM_API int gm_chain_write_le32(struct gm_chain *chain, const struct gm_view *view, uint32_t value);
GM_API int gm_chain_write_le64(struct gm_chain *chain, const struct gm_view *view, uint64_t value);
GM_API int gm_chain_write_be16(struct gm_chain *chain, const struct gm_view *view, uint16_t value);
GM_API int gm_chain_write_be32(struct gm_chain *chain, const struct gm_view *view, uint32_t value);
GM_API int gm_chain_write_be64(struct gm_chain *chain, const struct gm_view *view, uint64_t value);

#ifdef __cplusplus
}
#endif

#endif
