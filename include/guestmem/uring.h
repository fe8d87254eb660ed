/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring.h - io_uring operations straight to and from guest memory.
 *
 * An operation pins slices of a chain, fills in a submission entry of the caller's ring, and gives
 * the pins back when its completion has come: in between, the memory stays where it is, whatever
 * happens to the map. The ring is the caller's, by liburing or by hand; the library submits nothing
 * and waits for nothing.
 *
 * Memory without slices (devices, memory that is reached by messages only) is refused: -ENOTSUP.
 */
#ifndef GUESTMEM_URING_H
#define GUESTMEM_URING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <guestmem/chain.h>
#include <guestmem/error.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

struct io_uring_sqe;

/**
 * struct gm_uring_buffers - guest memory that is registered with a ring
 * @slices:  array of @room slices, the caller's
 * @pins:    array of @room pins, the caller's
 * @room:    of both
 * @nr:      the library's: buffers that are registered
 * @ring_fd: the library's
 * @space:   the library's
 * @gpa:     the library's
 * @len:     the library's
 */
struct gm_uring_buffers {
	struct iovec *slices;
	struct gm_pin *pins;
	uint32_t room;
	uint32_t nr;
	int32_t ring_fd;
	uint32_t reserved;
	struct gm_space *space;
	uint64_t gpa;
	uint64_t len;
};

/**
 * struct gm_uring_op - one operation; must stay where it is until gm_uring_finish()
 * @slices:  array of @room slices, the caller's; at most 1024 are used
 * @pins:    array of @room pins, the caller's
 * @room:    of both
 * @buffers: optional, borrowed: what lies in one of these is not looked up by the kernel again
 * @nr:      the library's: slices in use; 0 when nothing is in flight
 * @len:     the library's: bytes in them
 * @side:    the library's
 */
struct gm_uring_op {
	struct iovec *slices;
	struct gm_pin *pins;
	size_t room;
	const struct gm_uring_buffers *buffers;
	size_t nr;
	size_t len;
	enum gm_chain_side side;
	uint32_t reserved;
};

#define GM_URING_OWN_POSITION UINT64_MAX /* @off of what has no position, or keeps it itself */

/**
 * gm_uring_prepare() - fill in a submission entry
 * @op:      its arrays are set; not in flight
 * @sqe:     an empty entry of the ring; all of it is written. Set user_data and flags afterwards
 * @fd:      file, socket, pipe
 * @off:     position in the file, or GM_URING_OWN_POSITION
 * @chain:   borrowed for the call; nothing is consumed
 * @side:    GM_CHAIN_WRITABLE: read from @fd; GM_CHAIN_READABLE: write to it
 * @view:    borrowed for the call
 * @max_len: at most so many bytes
 *
 * It takes as many slices as @op has room for: @op->len tells the bytes. Returns 0; -EBUSY (in
 * flight); -EINVAL (no room; @off is above 2^63 - 1); -ENODATA or -ENOSPC (nothing is left, or
 * @max_len is 0); what gm_pin_slice() returns for the first byte.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_uring_prepare(struct gm_uring_op *op, struct io_uring_sqe *sqe, int fd, uint64_t off,
	const struct gm_chain *chain, enum gm_chain_side side, const struct gm_view *view,
	uint64_t max_len);

/**
 * gm_uring_finish() - take a completion, and give the pins back
 * @op:    in flight, or never submitted (then @res is -ECANCELED)
 * @res:   of the completion
 * @chain: optional: consumed by what was moved; the one of gm_uring_prepare(), or a copy
 * @done:  optional: bytes that were moved
 *
 * Fewer bytes than asked for are no error: what is left is prepared again. Returns 0; -EINVAL (not in
 * flight); -EIO (-EFAULT of the kernel, as of streams); -EPROTO (@res cannot be); or @res.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_uring_finish(struct gm_uring_op *op, int res, struct gm_chain *chain, size_t *done);

/**
 * gm_uring_register() - register guest memory with a ring
 * @buffers: its arrays are set; gm_uring_unregister() gives all back
 * @ring_fd: borrowed until then
 * @space:   borrowed until then
 * @gpa:     first address
 * @len:     bytes; readable and writable
 * @err:     optional
 *
 * The kernel pins all pages: they are populated and count as locked. A buffer has at most 1 GiB, so that
 * larger regions take several. Until it is unregistered the memory stays where it is, and discards of the
 * range are refused (gm_discard_inhibit()): the ring would go on with the old pages, which the guest no
 * longer sees. Discards through another range of addresses, or of the space behind an IOVA space or
 * a grant, are the caller's to inhibit. What the library did not prepare is the caller's to mark
 * (gm_view_mark()). Returns 0, -EINVAL, -ENOBUFS (more buffers than there is room for), what
 * gm_discard_inhibit(), gm_reader_create() and gm_pin_range() return, or what the kernel answered.
 * Threads: any, in no section. Since: 0.1.
 */
GM_API int gm_uring_register(struct gm_uring_buffers *buffers, int ring_fd, struct gm_space *space,
	uint64_t gpa, uint64_t len, struct gm_error *err);

/**
 * gm_uring_unregister() - undo it
 * @buffers: nothing in flight uses them; without any it does nothing
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_uring_unregister(struct gm_uring_buffers *buffers);

#ifdef __cplusplus
}
#endif

#endif
