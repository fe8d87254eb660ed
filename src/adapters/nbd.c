/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd.c - a source over connections to an NBD server.
 *
 * A request is on a connection's list, or waits for a connection; its state lies in gm_source_read.own. libnbd calls
 * back while it holds its handle, so a callback notes the result and no more; lists are gone through afterwards. A
 * connection that is lost is closed, which makes libnbd forget its requests (and their buffers), and these wait for
 * another.
 */
#include "adapters/nbd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define UNDER_WAY_MAX 64u /* on one connection */
#define PIECE_MAX (8u << 20)
#define TICK_NS UINT64_C(50000000)
#define AGAIN_NS UINT64_C(100000000) /* between two attempts to connect */
#define MS UINT64_C(1000000)

struct link {
	struct nbd_handle *nbd; /* or NULL: lost */
	bool ready;
	int fd; /* in the epoll, or -1 */
	unsigned int nr;
	struct gm_source_read *first;
	uint64_t try_ns; /* when it may be made again */
};

struct server {
	char *uri;
	struct gm_nbd_opts opts;
	struct gm_nbd_export export;
	int epoll;
	int timer;
	int ended;
	uint64_t lost_ns; /* since when there is no connection, or 0 */
	uint64_t nr;      /* requests */
	struct gm_source_read *waiting;
	struct link links[GM_NBD_CONNECTIONS_MAX];
};

/* In gm_source_read.own. */
struct pending {
	struct gm_source_read *next;
	uint64_t at;      /* bytes that are there */
	uint64_t sent_ns; /* when the piece behind them was asked for */
	int32_t code;
	uint32_t piece; /* its bytes */
	bool answered;
};
_Static_assert(
	sizeof(struct pending) <= sizeof(((struct gm_source_read *)0)->own), "the source's part");

static struct pending *pending(struct gm_source_read *read)
{
	return (struct pending *)(void *)read->own;
}

static void put(struct gm_source_read **list, struct gm_source_read *read)
{
	pending(read)->next = *list;
	*list = read;
}

static struct gm_source_read *take(struct gm_source_read **list)
{
	struct gm_source_read *read = *list;

	if (read)
		*list = pending(read)->next;
	return read;
}

static void complete(struct server *s, struct gm_source_read *read, int rc)
{
	s->nr--;
	read->done(read, rc);
}

/* ---- connections ---- */

/* What libnbd waits for may be another file, or another direction, after each of its steps. */
static void listen_to(struct server *s, struct link *link)
{
	unsigned int way = nbd_aio_get_direction(link->nbd);
	uint32_t events = (way & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0u) |
			  (way & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0u);

	link->fd = nbd_aio_get_fd(link->nbd);
	if (link->fd >= 0 && gm_sys_epoll_set(s->epoll, link->fd, events, link))
		link->fd = -1;
}

/* Sending may find it out too: libnbd takes a request all the same, and there is no file to wait for any more. */
static bool is_gone(const struct link *link)
{
	return nbd_aio_is_dead(link->nbd) || nbd_aio_is_closed(link->nbd);
}

/* What was under way waits for another connection. */
static void lose(struct server *s, struct link *link)
{
	if (link->fd >= 0)
		gm_sys_epoll_remove(s->epoll, link->fd);
	nbd_close(link->nbd);
	link->nbd = NULL;
	link->fd = -1;
	link->ready = false;
	link->try_ns = gm_sys_now_ns() + AGAIN_NS;
	for (struct gm_source_read *read; (read = take(&link->first));)
		put(&s->waiting, read);
	link->nr = 0;
}

static void connect_again(struct server *s, struct link *link)
{
	link->try_ns = gm_sys_now_ns() + AGAIN_NS;
	link->nbd = gm_nbd_handle(false);
	if (!link->nbd)
		return;
	if (nbd_aio_connect_uri(link->nbd, s->uri) || is_gone(link))
		lose(s, link);
	else
		listen_to(s, link);
}

static struct link *idlest(struct server *s)
{
	struct link *best = NULL;

	for (uint32_t i = 0; i < s->opts.connections; i++) {
		struct link *link = &s->links[i];

		if (link->ready && link->nr < UNDER_WAY_MAX && (!best || link->nr < best->nr))
			best = link;
	}
	return best;
}

/* ---- requests ---- */

static int on_answer(void *ctx, int *error)
{
	struct pending *p = pending(ctx);

	p->code = *error > 0 ? -*error : *error ? -EIO : 0;
	p->answered = true;
	return 1;
}

/* Asks for the next piece on a connection, or lets it wait. */
static void ask(struct server *s, struct link *link, struct gm_source_read *read)
{
	struct pending *p = pending(read);
	uint64_t left = read->len - p->at;
	uint32_t most = s->export.largest < PIECE_MAX ? s->export.largest : PIECE_MAX;

	p->piece = left < most ? (uint32_t)left : most / s->export.smallest * s->export.smallest;
	p->answered = false;
	p->sent_ns = gm_sys_now_ns();
	if (!link) {
		put(&s->waiting, read);
		return;
	}
	put(&link->first, read);
	link->nr++;
	if (nbd_aio_pread(link->nbd, (char *)read->buf + p->at, p->piece, read->offset + p->at,
		    (nbd_completion_callback){.callback = on_answer, .user_data = read}, 0) < 0 ||
		is_gone(link))
		lose(s, link);
	else
		listen_to(s, link);
}

static void ask_waiting(struct server *s)
{
	struct link *link;

	while (s->waiting && (link = idlest(s)))
		ask(s, link, take(&s->waiting));
}

static int start(void *ctx, struct gm_source_read *read)
{
	struct server *s = ctx;
	uint64_t block = s->export.smallest;

	if (s->ended)
		return s->ended;
	if (!gm_is_aligned(read->offset, block) || !gm_is_aligned(read->len, block))
		return -EINVAL;
	if (s->nr == (uint64_t)UNDER_WAY_MAX * s->opts.connections)
		return -EAGAIN;
	*pending(read) = (struct pending){0};
	/* From nothing to something: time matters now. */
	if (s->nr++ == 0) {
		s->lost_ns = 0;
		gm_sys_timer_set(s->timer, idlest(s) ? TICK_NS : 1);
	}
	ask(s, idlest(s), read);
	return 0;
}

/* Takes what was answered from a connection's list; with a result that is not the server's if it is lost. */
static struct gm_source_read *answered(struct link *link)
{
	struct gm_source_read *found = NULL;

	for (struct gm_source_read **at = &link->first; *at;) {
		struct gm_source_read *read = *at;

		if (!pending(read)->answered) {
			at = &pending(read)->next;
			continue;
		}
		*at = pending(read)->next;
		link->nr--;
		put(&found, read);
	}
	return found;
}

static void go_on(struct server *s, struct gm_source_read *found, bool lost)
{
	struct gm_source_read *read;

	while ((read = take(&found))) {
		struct pending *p = pending(read);

		if (!p->code)
			p->at += p->piece;
		if (p->at == read->len)
			complete(s, read, 0);
		else if (p->code && !lost)
			complete(s, read, p->code);
		else
			ask(s, idlest(s), read);
	}
}

/* ---- steps ---- */

/* A connection has something to do, or has just been made. */
static void drive(struct server *s, struct link *link, uint32_t events)
{
	unsigned int way = nbd_aio_get_direction(link->nbd);
	struct gm_source_read *found;
	bool lost;
	int rc = 0;

	if ((way & LIBNBD_AIO_DIRECTION_READ) && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		rc = nbd_aio_notify_read(link->nbd);
	else if ((way & LIBNBD_AIO_DIRECTION_WRITE) && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		rc = nbd_aio_notify_write(link->nbd);
	lost = rc || is_gone(link);
	found = answered(link);
	if (!lost && !link->ready && nbd_aio_is_ready(link->nbd) > 0) {
		link->ready = true;
		if (nbd_get_size(link->nbd) != (int64_t)s->export.len)
			s->ended = -ESTALE;
	}
	if (lost)
		lose(s, link);
	else
		listen_to(s, link);
	go_on(s, found, lost);
}

/* Since when the oldest request of a connection has no answer. */
static uint64_t oldest(const struct link *link)
{
	uint64_t since = UINT64_MAX;

	for (struct gm_source_read *read = link->first; read; read = pending(read)->next)
		since = pending(read)->sent_ns < since ? pending(read)->sent_ns : since;
	return since;
}

static void look_after(struct server *s, struct link *link, uint64_t now)
{
	uint64_t since = oldest(link);

	if (link->nbd && since < now && now - since > s->opts.request_ms * MS)
		lose(s, link);
	if (!link->nbd && now >= link->try_ns)
		connect_again(s, link);
}

static void fail_all(struct server *s, int rc)
{
	struct gm_source_read *list;

	for (uint32_t i = 0; i < s->opts.connections; i++) {
		if (s->links[i].nbd && s->links[i].first)
			lose(s, &s->links[i]);
	}
	list = s->waiting;
	s->waiting = NULL;
	while (list)
		complete(s, take(&list), rc);
}

/* Without any connection requests wait, but not for ever. */
static void mind_the_time(struct server *s)
{
	uint64_t now = gm_sys_now_ns();
	bool ready = false;

	for (uint32_t i = 0; i < s->opts.connections; i++) {
		look_after(s, &s->links[i], now);
		ready = ready || s->links[i].ready;
	}
	if (ready)
		s->lost_ns = 0;
	else if (!s->lost_ns)
		s->lost_ns = now;
	else if (now - s->lost_ns > s->opts.retry_ms * MS)
		fail_all(s, -ETIMEDOUT);
}

static int step(void *ctx)
{
	struct server *s = ctx;
	struct epoll_event events[GM_NBD_CONNECTIONS_MAX + 1];
	int nr;

	if (s->ended)
		return s->ended;
	do {
		nr = gm_sys_epoll_wait(s->epoll, events, GM_NBD_CONNECTIONS_MAX + 1, 0);
	} while (nr == -EINTR);
	for (int i = 0; i < nr; i++) {
		struct link *link = events[i].data.ptr;

		if (link && link->nbd)
			drive(s, link, events[i].events);
	}
	if (s->nr)
		mind_the_time(s);
	ask_waiting(s);
	if (nr < 0)
		s->ended = nr;
	if (s->ended)
		fail_all(s, s->ended);
	gm_sys_timer_set(s->timer, s->nr ? TICK_NS : 0);
	return s->ended;
}

static int fd_of(void *ctx)
{
	const struct server *s = ctx;

	return s->epoll;
}

/* ---- extents ---- */

static int extent(void *ctx, uint64_t offset, struct gm_source_extent *ret)
{
	const struct server *s = ctx;
	const struct gm_nbd_extent *extents = s->export.extents;
	size_t low = 0;
	size_t high = s->export.nr_extents;

	ret->kind = GM_SOURCE_REMOTE;
	ret->unit = s->export.preferred;
	/* The first that ends behind it. */
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (extents[mid].end > offset)
			high = mid;
		else
			low = mid + 1;
	}
	if (low == s->export.nr_extents)
		return 0;
	ret->len = extents[low].end - offset;
	if (extents[low].zero) {
		ret->kind = GM_SOURCE_ZERO;
		ret->unit = 0;
	}
	return 0;
}

/* ---- life ---- */

static void destroy(void *ctx)
{
	struct server *s = ctx;

	for (uint32_t i = 0; i < GM_NBD_CONNECTIONS_MAX; i++)
		nbd_close(s->links[i].nbd);
	if (s->epoll >= 0)
		gm_sys_close(s->epoll);
	if (s->timer >= 0)
		gm_sys_close(s->timer);
	gm_nbd_forget(&s->export);
	gm_sys_free(s->uri);
	gm_sys_free(s);
}

static int open_all(struct server *s, struct gm_error *err)
{
	uint64_t deadline = gm_sys_now_ns() + s->opts.connect_ms * MS;
	struct link *first = &s->links[0];
	int rc;

	s->epoll = gm_sys_epoll_create();
	s->timer = gm_sys_timerfd();
	if (s->epoll < 0 || s->timer < 0)
		return gm_error_set(err, s->epoll < 0 ? s->epoll : s->timer, 0, 0,
			"nbd: no epoll or timer can be made");
	rc = gm_sys_epoll_add(s->epoll, s->timer, NULL);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "nbd: the timer cannot be waited for");
	rc = gm_nbd_look(&s->opts, deadline, &s->export, err);
	if (rc)
		return rc;
	if (!s->export.agree)
		s->opts.connections = 1;
	first->nbd = gm_nbd_handle(false);
	if (!first->nbd)
		return gm_nbd_error(err, s->uri, -ENOMEM);
	rc = gm_nbd_connect(first->nbd, s->uri, deadline, err);
	if (rc)
		return rc;
	first->ready = true;
	listen_to(s, first);
	for (uint32_t i = 1; i < s->opts.connections; i++)
		connect_again(s, &s->links[i]);
	return 0;
}

static struct server *new_server(const struct gm_nbd_opts *opts)
{
	struct server *s = gm_sys_alloc(sizeof(*s));
	size_t len = strlen(opts->uri) + 1;

	if (!s)
		return NULL;
	s->opts = *opts;
	s->epoll = s->timer = -1;
	for (uint32_t i = 0; i < GM_NBD_CONNECTIONS_MAX; i++)
		s->links[i].fd = -1;
	s->uri = gm_sys_alloc(len);
	if (!s->uri) {
		gm_sys_free(s);
		return NULL;
	}
	memcpy(s->uri, opts->uri, len);
	s->opts.uri = s->uri;
	return s;
}

static int check_opts(struct gm_nbd_opts *opts, struct gm_error *err)
{
	if (!opts->uri)
		return gm_error_set(err, -EINVAL, 0, 0, "nbd: no URI is given");
	if ((opts->flags & ~GM_NBD_NO_EXTENTS) || opts->reserved)
		return gm_error_set(err, -EINVAL, 0, 0, "nbd: unknown flags 0x%x", opts->flags);
	if (opts->connections > GM_NBD_CONNECTIONS_MAX)
		return gm_error_set(err, -EINVAL, 0, 0, "nbd: %u connections, at most %u can be",
			opts->connections, GM_NBD_CONNECTIONS_MAX);
	opts->connections = opts->connections ? opts->connections : 4;
	opts->connect_ms = opts->connect_ms ? opts->connect_ms : 10000;
	opts->retry_ms = opts->retry_ms ? opts->retry_ms : 10000;
	opts->request_ms = opts->request_ms ? opts->request_ms : 30000;
	return 0;
}

int gm_source_nbd(
	const struct gm_nbd_opts *opts, struct gm_source **ret_source, struct gm_error *err)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "nbd",
		.extent = extent,
		.start = start,
		.step = step,
		.fd = fd_of,
		.destroy = destroy,
	};
	struct gm_nbd_opts copy;
	struct server *s;
	int rc = gm_opts_copy(&copy, sizeof(copy), opts, sizeof(copy));

	if (rc)
		return gm_opts_error(err, rc, "an export");
	rc = check_opts(&copy, err);
	if (rc)
		return rc;
	s = new_server(&copy);
	if (!s)
		return gm_error_set(err, -ENOMEM, 0, 0, "nbd: no memory");
	rc = open_all(s, err);
	if (!rc) {
		ops.len = s->export.len;
		ops.ctx = s;
		rc = gm_source_create(&ops, ret_source, err);
	}
	if (rc)
		destroy(s);
	return rc;
}
