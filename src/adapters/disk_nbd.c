/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_nbd.c - a network block device as a disk: each channel is a connection.
 *
 * A request is as many commands as it has slices, or more if the server takes no such long ones; it is done when all
 * are answered. libnbd calls back while it holds its handle, so a callback counts and no more. A connection that is
 * lost is closed, which makes libnbd forget its commands and their buffers; then all that was under way has failed.
 */
#include "adapters/disk.h"
#include "adapters/nbd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define PIECE_MAX (8u << 20)
#define ZERO_MAX (UINT64_C(1) << 30) /* of one command without data */
#define MS UINT64_C(1000000)

struct server {
	char *uri;
	uint32_t connect_ms;
	struct gm_disk_info info;
	uint32_t largest; /* command with data */
	bool agree;       /* connections see the same */
	uint32_t nr;      /* channels; atomic */
};

struct channel {
	struct server *server;
	struct nbd_handle *nbd; /* or NULL: lost */
	int epoll;
	int fd; /* in the epoll, or -1 */
	uint32_t depth;
	uint32_t nr;
	uint8_t *zeros;
	struct gm_disk_req *fresh; /* started and not sent, the last first */
	struct gm_disk_req *sent;
};

/* In gm_disk_req.own. */
struct job {
	struct gm_disk_req *next;
	uint32_t left; /* commands without an answer */
	int32_t rc;
	bool flush; /* behind it */
};
_Static_assert(sizeof(struct job) <= sizeof(((struct gm_disk_req *)0)->own), "the disk's part");

static struct job *job_of(struct gm_disk_req *req)
{
	return (struct job *)(void *)req->own;
}

static void put(struct gm_disk_req **list, struct gm_disk_req *req)
{
	job_of(req)->next = *list;
	*list = req;
}

static struct gm_disk_req *take(struct gm_disk_req **list)
{
	struct gm_disk_req *req = *list;

	if (req)
		*list = job_of(req)->next;
	return req;
}

/* ---- the connection ---- */

static void listen_to(struct channel *c)
{
	unsigned int way = nbd_aio_get_direction(c->nbd);
	uint32_t events = (way & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0u) |
			  (way & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0u);

	c->fd = nbd_aio_get_fd(c->nbd);
	if (c->fd >= 0 && gm_sys_epoll_set(c->epoll, c->fd, events, c))
		c->fd = -1;
}

static void lose(struct channel *c)
{
	if (c->fd >= 0)
		gm_sys_epoll_remove(c->epoll, c->fd);
	nbd_close(c->nbd);
	c->nbd = NULL;
	c->fd = -1;
	for (struct gm_disk_req *req = c->sent; req; req = job_of(req)->next) {
		struct job *job = job_of(req);

		job->rc = job->left || job->flush ? -EIO : job->rc;
		job->left = 0;
		job->flush = false;
	}
}

static bool is_lost(struct channel *c)
{
	return nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd);
}

/* ---- requests ---- */

static int on_answer(void *ctx, int *error)
{
	struct job *job = job_of(ctx);

	if (*error && !job->rc)
		job->rc = *error > 0 ? -*error : -EIO;
	job->left--;
	return 1;
}

/* One command; @buf of those with data. */
static int command(
	struct channel *c, struct gm_disk_req *req, void *buf, uint64_t len, uint64_t off)
{
	nbd_completion_callback back = {.callback = on_answer, .user_data = req};
	uint32_t fua =
		req->flags & GM_DISK_DURABLE && !job_of(req)->flush ? LIBNBD_CMD_FLAG_FUA : 0;
	int64_t rc;

	job_of(req)->left++;
	if (req->op == GM_DISK_READ)
		rc = nbd_aio_pread(c->nbd, buf, (size_t)len, off, back, 0);
	else if (buf)
		rc = nbd_aio_pwrite(c->nbd, buf, (size_t)len, off, back, fua);
	else if (req->op == GM_DISK_DISCARD)
		rc = nbd_aio_trim(c->nbd, len, off, back, 0);
	else
		rc = nbd_aio_zero(c->nbd, len, off, back,
			req->flags & GM_DISK_FREE ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
	if (rc >= 0)
		return 0;
	/* libnbd will not call back. */
	job_of(req)->left--;
	job_of(req)->rc = nbd_get_errno() > 0 ? -nbd_get_errno() : -EIO;
	return -EIO;
}

/* Commands without data for a stretch. */
static int commands(struct channel *c, struct gm_disk_req *req)
{
	int rc = 0;

	for (uint64_t at = 0; at < req->len && !rc; at += ZERO_MAX) {
		uint64_t left = req->len - at;

		rc = command(c, req, NULL, left < ZERO_MAX ? left : ZERO_MAX, req->off + at);
	}
	return rc;
}

/* Commands of at most @most bytes each, with the bytes at @buf, or always the same ones. */
static int commands_with(struct channel *c, struct gm_disk_req *req, const struct iovec *data,
	uint64_t off, uint64_t most, bool same)
{
	uint8_t *buf = data->iov_base;
	int rc = 0;

	for (uint64_t at = 0; at < data->iov_len && !rc; at += most) {
		uint64_t left = data->iov_len - at;

		rc = command(c, req, same ? buf : buf + at, left < most ? left : most, off + at);
	}
	return rc;
}

static int send_slices(struct channel *c, struct gm_disk_req *req)
{
	uint64_t off = req->off;
	int rc = 0;

	for (uint32_t i = 0; i < req->nr && !rc; i++) {
		const struct iovec *slice = &req->slices[i];

		rc = commands_with(c, req, slice, off, c->server->largest, false);
		off += slice->iov_len;
	}
	return rc;
}

static int send_flush(struct channel *c, struct gm_disk_req *req)
{
	job_of(req)->flush = false;
	if (nbd_can_flush(c->nbd) <= 0)
		return 0;
	job_of(req)->left++;
	if (nbd_aio_flush(c->nbd,
		    (nbd_completion_callback){.callback = on_answer, .user_data = req}, 0) >= 0)
		return 0;
	job_of(req)->left--;
	job_of(req)->rc = -EIO;
	return -EIO;
}

static int send_req(struct channel *c, struct gm_disk_req *req)
{
	const struct iovec zeros = {c->zeros, (size_t)req->len};
	uint64_t most = c->server->largest < DISK_ZEROS ? c->server->largest : DISK_ZEROS;

	switch (req->op) {
	case GM_DISK_FLUSH:
		return send_flush(c, req);
	case GM_DISK_DISCARD:
		if (nbd_can_trim(c->nbd) <= 0)
			return 0;
		return commands(c, req);
	case GM_DISK_ZERO:
		if (nbd_can_zero(c->nbd) > 0)
			return commands(c, req);
		return commands_with(c, req, &zeros, req->off, most, true);
	default:
		job_of(req)->flush = (req->flags & GM_DISK_DURABLE) && nbd_can_fua(c->nbd) <= 0;
		return send_slices(c, req);
	}
}

static int start(void *channel, struct gm_disk_req *req)
{
	struct channel *c = channel;

	if (!c->nbd)
		return -EIO;
	if (c->nr == c->depth)
		return -EAGAIN;
	*job_of(req) = (struct job){0};
	put(&c->fresh, req);
	c->nr++;
	return 0;
}

/* In the order in which they were started. */
static void send_fresh(struct channel *c)
{
	struct gm_disk_req *list = NULL;
	struct gm_disk_req *req;

	while ((req = take(&c->fresh)))
		put(&list, req);
	while ((req = take(&list))) {
		put(&c->sent, req);
		if (!c->nbd)
			job_of(req)->rc = -EIO;
		else
			send_req(c, req);
	}
}

/* Takes out what has all its answers. */
static struct gm_disk_req *answered(struct channel *c)
{
	struct gm_disk_req *found = NULL;

	for (struct gm_disk_req **at = &c->sent; *at;) {
		struct gm_disk_req *req = *at;
		struct job *job = job_of(req);

		if (!job->left && job->flush && !job->rc && c->nbd)
			send_flush(c, req);
		if (job->left) {
			at = &job->next;
			continue;
		}
		*at = job->next;
		put(&found, req);
	}
	return found;
}

static int notify(struct channel *c, uint32_t events)
{
	unsigned int way = nbd_aio_get_direction(c->nbd);

	if ((way & LIBNBD_AIO_DIRECTION_READ) && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return nbd_aio_notify_read(c->nbd);
	if ((way & LIBNBD_AIO_DIRECTION_WRITE) && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		return nbd_aio_notify_write(c->nbd);
	return 0;
}

static int step(void *channel)
{
	struct channel *c = channel;
	struct epoll_event event = {0};
	struct gm_disk_req *found;
	struct gm_disk_req *req;
	int nr = 0;

	send_fresh(c);
	if (c->nbd && c->nr) {
		listen_to(c);
		do {
			nr = gm_sys_epoll_wait(c->epoll, &event, 1, 0);
		} while (nr == -EINTR);
	}
	if (c->nbd && ((nr > 0 && notify(c, event.events)) || nr < 0 || is_lost(c)))
		lose(c);
	found = answered(c);
	if (c->nbd)
		listen_to(c);
	while ((req = take(&found))) {
		c->nr--;
		req->done(req, job_of(req)->rc);
	}
	return c->fresh != NULL;
}

static int fd_of(void *channel)
{
	const struct channel *c = channel;

	return c->epoll;
}

/* ---- channels ---- */

static void close_channel(void *channel)
{
	struct channel *c = channel;

	nbd_close(c->nbd);
	if (c->epoll >= 0)
		gm_sys_close(c->epoll);
	gm_sys_free(c->zeros);
	__atomic_sub_fetch(&c->server->nr, 1, __ATOMIC_RELAXED);
	gm_sys_free(c);
}

static int connect_channel(struct channel *c, struct gm_error *err)
{
	struct server *s = c->server;
	int rc;

	c->zeros = gm_sys_alloc(DISK_ZEROS);
	c->epoll = gm_sys_epoll_create();
	if (!c->zeros || c->epoll < 0)
		return gm_error_set(
			err, c->zeros ? c->epoll : -ENOMEM, 0, 0, "nbd: no memory or no epoll");
	c->nbd = gm_nbd_handle(false);
	if (!c->nbd)
		return gm_nbd_error(err, s->uri, -ENOMEM);
	rc = gm_nbd_connect(c->nbd, s->uri, gm_sys_now_ns() + s->connect_ms * MS, err);
	if (rc)
		return rc;
	if (nbd_get_size(c->nbd) != (int64_t)s->info.len)
		return gm_error_set(
			err, -ESTALE, 0, 0, "nbd: %s: the export has another size now", s->uri);
	listen_to(c);
	return 0;
}

static int open_channel(void *ctx, uint32_t depth, void **ret_channel, struct gm_error *err)
{
	struct server *s = ctx;
	struct channel *c = gm_sys_alloc(sizeof(*c));
	uint32_t nr;
	int rc = 0;

	if (!c)
		return gm_error_set(err, -ENOMEM, 0, 0, "nbd: no memory");
	nr = __atomic_fetch_add(&s->nr, 1, __ATOMIC_RELAXED);
	c->server = s;
	c->depth = depth;
	c->fd = c->epoll = -1;
	if (nr && !s->agree)
		rc = gm_error_set(err, -EBUSY, 0, 0,
			"nbd: %s: the server does not promise that connections see the same: "
			"there can be one channel",
			s->uri);
	if (!rc)
		rc = connect_channel(c, err);
	if (rc) {
		close_channel(c);
		return rc;
	}
	*ret_channel = c;
	return 0;
}

/* ---- the server ---- */

static int look(void *ctx, struct gm_disk_info *ret)
{
	const struct server *s = ctx;

	*ret = s->info;
	return 0;
}

static void destroy(void *ctx)
{
	struct server *s = ctx;

	gm_sys_free(s->uri);
	gm_sys_free(s);
}

static uint32_t block_size(struct nbd_handle *nbd, int which, uint32_t otherwise)
{
	int64_t size = nbd_get_block_size(nbd, which);

	return size > 0 && size <= UINT32_MAX ? (uint32_t)size : otherwise;
}

static int find_out(struct server *s, struct nbd_handle *nbd, bool read_only, struct gm_error *err)
{
	int64_t len = nbd_get_size(nbd);
	uint32_t smallest = block_size(nbd, LIBNBD_SIZE_MINIMUM, 1);
	uint32_t preferred = block_size(nbd, LIBNBD_SIZE_PREFERRED, 4096);
	uint32_t largest = block_size(nbd, LIBNBD_SIZE_MAXIMUM, 32u << 20);

	if (len < 0)
		return gm_nbd_error(err, s->uri, -EIO);
	if (!gm_is_pow2(smallest) || smallest > 65536 || largest < smallest)
		return gm_error_set(err, -EPROTO, 0, 0,
			"nbd: %s: blocks of %u to %u bytes cannot be", s->uri, smallest, largest);
	largest = largest < PIECE_MAX ? largest : PIECE_MAX;
	s->largest = largest / smallest * smallest;
	s->agree = nbd_can_multi_conn(nbd) > 0;
	s->info.len = (uint64_t)len;
	s->info.align = smallest;
	s->info.block = smallest > 512 ? smallest : 512;
	s->info.physical = gm_is_pow2(preferred) && preferred >= s->info.block && preferred <= 65536
				   ? preferred
				   : s->info.block;
	s->info.discard_align = s->info.physical;
	if (read_only || nbd_is_read_only(nbd) > 0)
		s->info.flags = GM_DISK_READ_ONLY;
	else if (nbd_can_trim(nbd) > 0)
		s->info.flags = GM_DISK_CAN_DISCARD | GM_DISK_CAN_FREE;
	return 0;
}

static int look_at_server(
	struct server *s, const struct gm_disk_nbd_opts *opts, struct gm_error *err)
{
	size_t len = strlen(opts->uri) + 1;
	struct nbd_handle *nbd;
	int rc;

	s->uri = gm_sys_alloc(len);
	nbd = s->uri ? gm_nbd_handle(false) : NULL;
	if (!nbd)
		return gm_error_set(err, -ENOMEM, 0, 0, "nbd: no memory");
	memcpy(s->uri, opts->uri, len);
	s->connect_ms = opts->connect_ms ? opts->connect_ms : 10000;
	rc = gm_nbd_connect(nbd, s->uri, gm_sys_now_ns() + s->connect_ms * MS, err);
	if (!rc)
		rc = find_out(s, nbd, opts->flags & GM_DISK_READ_ONLY, err);
	nbd_close(nbd);
	return rc;
}

int gm_disk_nbd(
	const struct gm_disk_nbd_opts *opts, struct gm_disk **ret_disk, struct gm_error *err)
{
	struct gm_disk_ops ops = {
		.size = sizeof(ops),
		.name = "nbd",
		.look = look,
		.open = open_channel,
		.close = close_channel,
		.start = start,
		.step = step,
		.fd = fd_of,
		.destroy = destroy,
	};
	struct gm_disk_nbd_opts copy;
	struct server *s;
	int rc = gm_opts_copy(&copy, sizeof(copy), opts, sizeof(copy));

	if (rc)
		return gm_opts_error(err, rc, "an export");
	if (!copy.uri || (copy.flags & ~GM_DISK_READ_ONLY))
		return gm_error_set(
			err, -EINVAL, 0, 0, "nbd: no URI, or unknown flags 0x%x", copy.flags);
	s = gm_sys_alloc(sizeof(*s));
	if (!s)
		return gm_error_set(err, -ENOMEM, 0, 0, "nbd: no memory");
	rc = look_at_server(s, &copy, err);
	if (!rc) {
		ops.ctx = s;
		rc = gm_disk_create(&ops, ret_disk, err);
	}
	if (rc)
		destroy(s);
	return rc;
}
