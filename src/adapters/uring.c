/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring.c - submission entries over guest memory.
 *
 * An entry is a structure of the kernel's, so no library is needed to fill it in; the ring is the
 * caller's. Pins are held from gm_uring_prepare() to gm_uring_finish().
 */
#include <errno.h>
#include <guestmem/discard.h>
#include <guestmem/uring.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define SLICES_MAX 1024u
#define CALL_MAX UINT64_C(0x7ffff000)
#define BUFFER_MAX (UINT64_C(1) << 30)

/* The registered buffer in which a slice lies, or -1. */
static int find_buffer(const struct gm_uring_buffers *buffers, const struct iovec *slice)
{
	uintptr_t start = (uintptr_t)slice->iov_base;

	for (uint32_t i = 0; buffers && i < buffers->nr; i++) {
		const struct iovec *buffer = &buffers->slices[i];
		uintptr_t skip = start - (uintptr_t)buffer->iov_base;

		if (skip < buffer->iov_len && slice->iov_len <= buffer->iov_len - skip)
			return (int)i;
	}
	return -1;
}

static void fill_in(
	const struct gm_uring_op *op, struct io_uring_sqe *sqe, int fd, uint64_t off, bool write)
{
	int buffer = op->nr == 1 ? find_buffer(op->buffers, &op->slices[0]) : -1;

	memset(sqe, 0, sizeof(*sqe));
	sqe->fd = fd;
	sqe->off = off;
	if (op->nr > 1) {
		sqe->opcode = write ? IORING_OP_WRITEV : IORING_OP_READV;
		sqe->addr = (uintptr_t)op->slices;
		sqe->len = (uint32_t)op->nr;
		return;
	}
	sqe->opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
	sqe->addr = (uintptr_t)op->slices[0].iov_base;
	sqe->len = (uint32_t)op->slices[0].iov_len;
	if (buffer >= 0) {
		sqe->opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		sqe->buf_index = (uint16_t)buffer;
	}
}

int gm_uring_prepare(struct gm_uring_op *op, struct io_uring_sqe *sqe, int fd, uint64_t off,
	const struct gm_chain *chain, enum gm_chain_side side, const struct gm_view *view,
	uint64_t max_len)
{
	size_t room = op->room < SLICES_MAX ? op->room : SLICES_MAX;
	size_t nr;
	int rc;

	if (op->nr)
		return -EBUSY;
	if (room == 0 || (off > (uint64_t)INT64_MAX && off != GM_URING_OWN_POSITION))
		return -EINVAL;
	if (max_len > CALL_MAX)
		max_len = CALL_MAX;
	rc = gm_chain_pin(chain, side, view, max_len, op->slices, op->pins, room, &nr);
	if (rc)
		return rc;
	if (nr == 0)
		return side == GM_CHAIN_WRITABLE ? -ENOSPC : -ENODATA;
	op->nr = nr;
	op->side = side;
	op->len = 0;
	for (size_t i = 0; i < nr; i++)
		op->len += op->slices[i].iov_len;
	fill_in(op, sqe, fd, off, side == GM_CHAIN_READABLE);
	return 0;
}

int gm_uring_finish(struct gm_uring_op *op, int res, struct gm_chain *chain, size_t *done)
{
	size_t did = res > 0 ? (size_t)res : 0;
	/* Nothing was begun, or a part of it may have been written. */
	bool doubtful = res < 0 && res != -EAGAIN && res != -ECANCELED;
	int rc = res < 0 ? gm_checked_code(res) : 0;

	if (op->nr == 0) {
		if (done)
			*done = 0;
		return -EINVAL;
	}
	if (did > op->len) {
		rc = -EPROTO;
		did = 0;
		doubtful = true;
	}
	for (size_t i = 0, left = did; i < op->nr; i++) {
		size_t n = op->slices[i].iov_len < left ? op->slices[i].iov_len : left;

		if (doubtful || op->side == GM_CHAIN_READABLE)
			gm_pin_put(&op->pins[i]);
		else
			gm_pin_put_written(&op->pins[i], n);
		left -= n;
	}
	op->nr = 0;
	if (chain && did && gm_chain_skip(chain, op->side, did))
		rc = -EPROTO;
	if (done)
		*done = did;
	return rc == -EFAULT ? -EIO : rc;
}

/* ---- registered buffers ---- */

/* One slice as buffers of at most BUFFER_MAX bytes; only the first has the pin. */
static int add_slice(struct gm_uring_buffers *buffers, struct iovec slice, struct gm_pin pin)
{
	while (slice.iov_len) {
		size_t n = slice.iov_len < BUFFER_MAX ? slice.iov_len : (size_t)BUFFER_MAX;

		if (buffers->nr == buffers->room) {
			gm_pin_put(&pin);
			return -ENOBUFS;
		}
		buffers->slices[buffers->nr] = (struct iovec){slice.iov_base, n};
		buffers->pins[buffers->nr++] = pin;
		pin = (struct gm_pin){0};
		slice.iov_base = (uint8_t *)slice.iov_base + n;
		slice.iov_len -= n;
	}
	return 0;
}

static void drop_pins(struct gm_uring_buffers *buffers)
{
	while (buffers->nr)
		gm_pin_put(&buffers->pins[--buffers->nr]);
}

static int add_range(
	struct gm_uring_buffers *buffers, const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	int rc = 0;

	while (len && !rc) {
		struct iovec slice;
		struct gm_pin pin;

		/* Each operation has marks of its own. */
		rc = gm_pin_slice(view, gpa, len, GM_PERM_RW | GM_PIN_EXACT, &slice, &pin);
		if (rc)
			break;
		rc = add_slice(buffers, slice, pin);
		gpa += slice.iov_len;
		len -= slice.iov_len;
	}
	return rc;
}

/* Pins it all, in the order of addresses. */
static int pin_all(struct gm_uring_buffers *buffers, struct gm_error *err)
{
	struct gm_reader *reader;
	int rc = gm_reader_create(buffers->space, "uring", &reader, err);

	if (rc)
		return rc;
	rc = add_range(buffers, gm_reader_enter(reader), buffers->gpa, buffers->len);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	return rc;
}

static void undo(struct gm_uring_buffers *buffers)
{
	drop_pins(buffers);
	gm_discard_allow(buffers->space, buffers->gpa, buffers->len, GM_INHIBIT_ALL);
}

int gm_uring_register(struct gm_uring_buffers *buffers, int ring_fd, struct gm_space *space,
	uint64_t gpa, uint64_t len, struct gm_error *err)
{
	uint32_t nr;
	int rc;

	if (buffers->nr || len == 0)
		return gm_error_set(err, -EINVAL, gpa, len, "%s",
			len ? "uring: buffers are registered already"
			    : "uring: there is nothing to register");
	/* Lest the ring go on with pages that the guest has lost. */
	rc = gm_discard_inhibit(space, gpa, len, GM_INHIBIT_ALL, err);
	if (rc)
		return rc;
	buffers->space = space;
	buffers->gpa = gpa;
	buffers->len = len;
	rc = pin_all(buffers, err);
	if (!rc)
		rc = gm_sys_uring_register(
			ring_fd, IORING_REGISTER_BUFFERS, buffers->slices, buffers->nr);
	if (!rc) {
		buffers->ring_fd = ring_fd;
		return 0;
	}
	nr = buffers->nr;
	undo(buffers);
	return gm_error_set(err, rc, gpa, len,
		"uring: cannot register gpa 0x%" PRIx64 ", %" PRIu64
		" bytes, with %u buffers of %u: %s%s",
		gpa, len, nr, buffers->room, gm_error_word(rc),
		rc == -ENOMEM ? " (see RLIMIT_MEMLOCK)" : "");
}

void gm_uring_unregister(struct gm_uring_buffers *buffers)
{
	if (buffers->nr == 0)
		return;
	/* If the ring is gone, so is what it had. */
	gm_sys_uring_register(buffers->ring_fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
	undo(buffers);
}
