/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_uring.c - requests to a file by io_uring: all that was started goes to the kernel by one call.
 *
 * A request has one entry at a time, so that there are never more than the depth, for which the rings have room.
 */
#include "adapters/disk.h"

#include <errno.h>
#include <liburing.h>

#include "sys/sys.h"

/*
 * What the kernel may not have, the best first. (With IORING_SETUP_DEFER_TASKRUN completions do not always wake who
 * waits for the ring's fd: seen with epoll on Linux 6.18.)
 */
static const unsigned int setups[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0};

#define SUBMITS 3 /* attempts of a round */
#define ROUNDS 4  /* of a step */

struct channel {
	struct disk_file *file;
	struct io_uring ring;
	uint32_t depth;
	uint32_t nr; /* requests under way */
	uint32_t queued;
};

static int open_channel(struct disk_file *file, uint32_t depth, void **ret_channel)
{
	struct channel *c = gm_sys_alloc(sizeof(*c));
	int rc = -EINVAL;

	if (!c)
		return -ENOMEM;
	c->file = file;
	c->depth = depth;
	for (size_t i = 0; i < sizeof(setups) / sizeof(setups[0]) && rc == -EINVAL; i++)
		rc = io_uring_queue_init(depth, &c->ring, setups[i]);
	if (!rc) {
		rc = io_uring_register_files(&c->ring, &file->fd, 1);
		if (rc)
			io_uring_queue_exit(&c->ring);
	}
	if (rc) {
		gm_sys_free(c);
		return rc;
	}
	*ret_channel = c;
	return 0;
}

static void close_channel(void *channel)
{
	struct channel *c = channel;

	io_uring_queue_exit(&c->ring);
	gm_sys_free(c);
}

static void prepare_move(struct io_uring_sqe *sqe, const struct disk_call *what)
{
	if (what->nr > 1)
		io_uring_prep_rw(what->write ? IORING_OP_WRITEV : IORING_OP_READV, sqe, 0,
			what->slices, what->nr, what->off);
	else
		io_uring_prep_rw(what->write ? IORING_OP_WRITE : IORING_OP_READ, sqe, 0,
			what->slices[0].iov_base,
			(unsigned int)(what->slices[0].iov_len < INT32_MAX ? what->slices[0].iov_len
									   : (INT32_MAX & ~4095)),
			what->off);
	sqe->rw_flags = what->durable ? RWF_DSYNC : 0;
}

static void put(struct channel *c, struct gm_disk_req *req)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
	struct disk_call what;
	struct iovec room;

	gm_disk_next(c->file, req, &room, &what);
	if (what.slices)
		prepare_move(sqe, &what);
	else if (req->op == GM_DISK_FLUSH)
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
	else
		io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, 0, (const void *)(uintptr_t)what.len,
			(unsigned int)what.mode, what.off);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, req);
	c->queued++;
}

static int start(void *channel, struct gm_disk_req *req)
{
	struct channel *c = channel;

	if (c->nr == c->depth)
		return -EAGAIN;
	gm_disk_begin(c->file, req);
	c->nr++;
	put(c, req);
	return 0;
}

/* 0, also if the kernel has no room now: what is left goes with the next step. */
static int submit(struct channel *c)
{
	int rc = 0;

	for (int i = 0; c->queued && i < SUBMITS; i++) {
		rc = io_uring_submit(&c->ring);
		if (rc > 0)
			c->queued -= (uint32_t)rc < c->queued ? (uint32_t)rc : c->queued;
		else if (rc != -EINTR && rc != -EAGAIN && rc != -EBUSY && rc != 0)
			return rc;
	}
	return 0;
}

/* What the kernel has to do in this thread before it can be seen is done by the first look. */
static void reap(struct channel *c)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&c->ring, &cqe) == 0) {
		struct gm_disk_req *req = io_uring_cqe_get_data(cqe);
		int rc = gm_disk_settle(c->file, req, cqe->res);

		io_uring_cqe_seen(&c->ring, cqe);
		if (rc > 0) {
			put(c, req);
			continue;
		}
		c->nr--;
		req->done(req, rc);
	}
}

static int step(void *channel)
{
	struct channel *c = channel;
	int rc;

	/* What was cut short, or what a done() starts, goes at once. */
	for (int i = 0; i < ROUNDS; i++) {
		rc = submit(c);
		if (rc)
			return rc;
		reap(c);
		if (!c->queued)
			break;
	}
	return c->queued > 0;
}

static int fd_of(void *channel)
{
	const struct channel *c = channel;

	return c->ring.ring_fd;
}

const struct disk_engine gm_disk_uring = {
	.open = open_channel,
	.close = close_channel,
	.start = start,
	.step = step,
	.fd = fd_of,
};
