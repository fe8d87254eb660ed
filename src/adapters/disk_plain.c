/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_plain.c - requests to a file by system calls of the thread that steps: where io_uring is missing or refused.
 */
#include "adapters/disk.h"

#include <errno.h>

#include "sys/sys.h"

struct channel {
	struct disk_file *file;
	int event; /* never readable: a step leaves nothing */
	uint32_t depth;
	uint32_t nr;
	struct gm_disk_req *first;
	struct gm_disk_req *last;
};

static int open_channel(struct disk_file *file, uint32_t depth, void **ret_channel)
{
	struct channel *c = gm_sys_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->file = file;
	c->depth = depth;
	c->event = gm_sys_eventfd();
	if (c->event < 0) {
		rc = c->event;
		gm_sys_free(c);
		return rc;
	}
	*ret_channel = c;
	return 0;
}

static void close_channel(void *channel)
{
	struct channel *c = channel;

	gm_sys_close(c->event);
	gm_sys_free(c);
}

static int start(void *channel, struct gm_disk_req *req)
{
	struct channel *c = channel;

	if (c->nr == c->depth)
		return -EAGAIN;
	gm_disk_begin(c->file, req);
	if (c->first)
		disk_job(c->last)->next = req;
	else
		c->first = req;
	c->last = req;
	c->nr++;
	return 0;
}

static int64_t call(
	struct disk_file *file, const struct gm_disk_req *req, const struct disk_call *what)
{
	int64_t done;

	if (req->op == GM_DISK_FLUSH)
		return gm_sys_sync(file->fd, true);
	if (!what->slices)
		return gm_sys_fallocate(file->fd, what->mode, what->off, what->len);
	if (!what->write)
		return gm_sys_preadv(file->fd, what->slices, what->nr, what->off);
	done = gm_sys_pwritev(file->fd, what->slices, what->nr, what->off);
	if (done > 0 && what->durable) {
		int rc;

		do {
			rc = gm_sys_sync(file->fd, true);
		} while (rc == -EINTR);
		if (rc)
			gm_disk_lose(file, rc);
		done = rc ? rc : done;
	}
	return done;
}

static int serve(struct disk_file *file, struct gm_disk_req *req)
{
	struct disk_call what;
	struct iovec room;
	int rc;

	do {
		gm_disk_next(file, req, &room, &what);
		rc = gm_disk_settle(file, req, call(file, req, &what));
	} while (rc > 0);
	return rc;
}

static int step(void *channel)
{
	struct channel *c = channel;

	/* Those that a done() starts are for the next step. */
	for (uint32_t left = c->nr; left; left--) {
		struct gm_disk_req *req = c->first;
		int rc = serve(c->file, req);

		c->first = disk_job(req)->next;
		c->nr--;
		req->done(req, rc);
	}
	return c->nr > 0;
}

static int fd_of(void *channel)
{
	const struct channel *c = channel;

	return c->event;
}

const struct disk_engine gm_disk_plain = {
	.open = open_channel,
	.close = close_channel,
	.start = start,
	.step = step,
	.fd = fd_of,
};
