/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_server.c - see guestmem/vhost_server.h.
 *
 * What epoll knows is a struct item; what is done with while events are looked at is freed when all of them were. A
 * front-end may have a descriptor that it gave us too, so nothing leaves epoll by being closed: it is taken out first,
 * and of the back-end's own socket a duplicate is registered.
 */
#include <guestmem/vhost_server.h>

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "adapters/vhost_backend.h"
#include "core/error.h"
#include "sys/sys.h"

#define MS UINT64_C(1000000)
#define TIMEOUT_NS (5000 * MS)
#define RETRY_NS (1000 * MS)
#define EVENTS 32
#define MESSAGES 32 /* of a connection before others have their turn */

enum kind { LISTENER, CONNECTION, CHANNEL, WATCH };

struct door;

struct item {
	enum kind kind;
	int fd; /* -1: not registered */
	struct door *door;
};

struct watch {
	struct item item;
	void (*fn)(void *ctx);
	void *ctx;
	bool dead;
	struct watch *next;
};

struct door {
	struct gm_vhost_door d;
	uint64_t id;
	bool dead;
	struct item listener;
	struct item connection; /* its fd is ours */
	struct item channel;    /* its fd is ours */
	uint32_t generation;    /* of the channel that is registered */
	struct gm_vhost_rx rx;
	struct gm_vhost_tx tx;
	bool sending;
	int after;            /* the answer ends the connection: why */
	uint64_t deadline_ns; /* of half a message; 0: none */
	uint64_t channel_ns;  /* of a reply */
	uint64_t retry_ns;    /* when to look for the next front-end */
	struct gm_error why;
	struct door *next;
};

struct gm_vhost_server {
	int epoll;
	uint64_t ids;
	struct door *doors;
	struct watch *watches;
	bool has_dead;
	bool has_signals;
	struct gm_sys_signals signals; /* of the doors' back-ends */
};

static uint64_t from_now(uint64_t ns)
{
	uint64_t ret;

	return __builtin_add_overflow(gm_sys_now_ns(), ns, &ret) ? UINT64_MAX : ret;
}

static void drop_item(struct gm_vhost_server *s, struct item *item, bool close)
{
	if (item->fd < 0)
		return;
	gm_sys_epoll_remove(s->epoll, item->fd);
	if (close)
		gm_sys_close(item->fd);
	item->fd = -1;
}

/* ---- connections come and go ---- */

static int begin(struct gm_vhost_server *s, struct door *d, int fd)
{
	int rc = gm_sys_epoll_set(s->epoll, fd, EPOLLIN, &d->connection);

	if (rc)
		return rc;
	d->connection.fd = fd;
	d->d.backend->peer = fd;
	d->sending = false;
	d->after = 0;
	d->deadline_ns = 0;
	d->channel_ns = 0;
	return 0;
}

/* Waits for the next front-end, if there is a way for it to come. */
static void look_again(struct gm_vhost_server *s, struct door *d)
{
	d->retry_ns = 0;
	if (d->dead || d->connection.fd >= 0)
		return;
	if (d->d.connect) {
		int fd = d->d.connect(d->d.ctx);

		if (fd >= 0 && gm_vhost_check_socket(fd, NULL) == 0 && begin(s, d, fd) == 0)
			return;
		if (fd >= 0)
			gm_sys_close(fd);
		d->retry_ns = from_now(d->d.retry_ns);
	} else if (d->d.listener_plus) {
		const int fd = d->d.listener_plus - 1;

		if (gm_sys_epoll_set(s->epoll, fd, EPOLLIN, &d->listener))
			d->retry_ns = from_now(d->d.retry_ns);
		else
			d->listener.fd = fd;
	}
}

static void end_connection(struct gm_vhost_server *s, struct door *d, int rc)
{
	d->d.backend->peer = -1;
	drop_item(s, &d->channel, true);
	drop_item(s, &d->connection, true);
	gm_vhost_rx_clear(&d->rx);
	while (d->sending && d->tx.nr_fds)
		gm_sys_close(d->tx.fds[--d->tx.nr_fds]);
	d->sending = false;
	d->deadline_ns = 0;
	d->channel_ns = 0;
	gm_vhost_backend_disconnect(d->d.backend);
	if (d->d.ended)
		d->d.ended(d->d.ctx, rc, &d->why);
	look_again(s, d);
}

static void on_listener(struct gm_vhost_server *s, struct door *d)
{
	int fd = gm_sys_accept(d->d.listener_plus - 1);
	int rc;

	if (fd == -EAGAIN || fd == -EINTR || fd == -ECONNABORTED)
		return;
	drop_item(s, &d->listener, false);
	rc = fd < 0 ? fd : begin(s, d, fd);
	if (rc == 0)
		return;
	/* Out of descriptors or memory: later there may be some. */
	if (fd >= 0)
		gm_sys_close(fd);
	d->retry_ns = from_now(d->d.retry_ns);
}

/* ---- messages ---- */

static void watch_channel(struct gm_vhost_server *s, struct door *d)
{
	const uint32_t generation =
		__atomic_load_n(&d->d.backend->channel.generation, __ATOMIC_RELAXED);
	int fd;

	if (generation == d->generation)
		return;
	d->generation = generation;
	drop_item(s, &d->channel, true);
	fd = gm_vhost_backend_channel(d->d.backend);
	fd = fd < 0 ? fd : gm_sys_dup(fd);
	if (fd < 0)
		return;
	if (gm_sys_epoll_set(s->epoll, fd, EPOLLIN, &d->channel))
		gm_sys_close(fd);
	else
		d->channel.fd = fd;
}

static void on_channel(struct gm_vhost_server *s, struct door *d)
{
	const uint64_t left = gm_vhost_backend_channel_event(d->d.backend);

	d->channel_ns = left ? from_now(left) : 0;
	watch_channel(s, d);
}

/* 0, or why the connection is over. */
static int send_answer(struct gm_vhost_server *s, struct door *d)
{
	int rc = gm_vhost_tx_step(&d->tx, d->connection.fd, &d->why);

	if (rc < 0)
		return rc;
	if (rc == 0) {
		if (!d->deadline_ns)
			d->deadline_ns = from_now(d->d.timeout_ns);
		return gm_sys_epoll_set(s->epoll, d->connection.fd, EPOLLOUT, &d->connection);
	}
	while (d->tx.nr_fds)
		gm_sys_close(d->tx.fds[--d->tx.nr_fds]);
	d->sending = false;
	d->deadline_ns = 0;
	return d->after;
}

static int handle(struct gm_vhost_server *s, struct door *d)
{
	struct gm_vhost_answered answered;
	const uint32_t nr_fds = d->rx.nr_fds;
	int rc;

	d->rx.nr_fds = 0; /* theirs */
	memset(&d->why, 0, sizeof(d->why));
	rc = gm_vhost_backend_handle(
		d->d.backend, &d->rx.msg, d->rx.fds, nr_fds, &answered, &d->why);
	gm_vhost_rx_clear(&d->rx);
	watch_channel(s, d);
	if (!answered.is)
		return rc;
	d->after = rc;
	d->sending = true;
	d->tx.sent = 0;
	d->tx.nr_fds = answered.nr_fds;
	memcpy(d->tx.fds, answered.fds, sizeof(d->tx.fds));
	memcpy(&d->tx.msg, &answered.msg, offsetof(struct gm_vhost_msg, u) + answered.msg.len);
	return send_answer(s, d);
}

static int talk(struct gm_vhost_server *s, struct door *d)
{
	int rc = 0;

	if (d->sending) {
		rc = send_answer(s, d);
		if (rc || d->sending)
			return rc;
		rc = gm_sys_epoll_set(s->epoll, d->connection.fd, EPOLLIN, &d->connection);
	}
	for (int i = 0; i < MESSAGES && !rc && !d->sending && !d->dead; i++) {
		rc = gm_vhost_rx_step(&d->rx, d->connection.fd, GM_VHOST_EXPECT_FRONTEND, &d->why);
		if (rc < 0)
			return rc;
		if (rc == 0) {
			if (d->rx.got && !d->deadline_ns)
				d->deadline_ns = from_now(d->d.timeout_ns);
			break;
		}
		d->deadline_ns = 0;
		rc = handle(s, d);
	}
	return rc;
}

/* ---- the loop ---- */

static void on_event(struct gm_vhost_server *s, struct item *item)
{
	struct watch *watch = (struct watch *)item; /* if it is one */
	int rc;

	if (item->kind == WATCH) {
		if (!watch->dead)
			watch->fn(watch->ctx);
		return;
	}
	if (item->door->dead || item->fd < 0)
		return;
	if (item->kind == LISTENER) {
		on_listener(s, item->door);
		return;
	}
	if (item->kind == CHANNEL) {
		on_channel(s, item->door);
		return;
	}
	rc = talk(s, item->door);
	if (rc && !item->door->dead)
		end_connection(s, item->door, rc);
}

static uint64_t next_deadline(const struct gm_vhost_server *s)
{
	uint64_t ret = UINT64_MAX;

	for (const struct door *d = s->doors; d; d = d->next) {
		const uint64_t all[] = {d->deadline_ns, d->channel_ns, d->retry_ns};

		for (size_t i = 0; i < 3 && !d->dead; i++) {
			if (all[i] && all[i] < ret)
				ret = all[i];
		}
	}
	return ret;
}

static int expire(struct gm_vhost_server *s)
{
	const uint64_t now = gm_sys_now_ns();
	int nr = 0;

	for (struct door *d = s->doors; d; d = d->next) {
		/* A request may have been sent since it was asked. */
		if (!d->dead && d->channel.fd >= 0 && !d->channel_ns)
			on_channel(s, d);
		if (!d->dead && d->deadline_ns && d->deadline_ns <= now) {
			nr++;
			end_connection(s, d,
				gm_error_set(&d->why, -ETIMEDOUT, 0, 0,
					"vhost-user: the front-end stopped in the middle of a "
					"message"));
		}
		if (!d->dead && d->channel_ns && d->channel_ns <= now) {
			nr++;
			on_channel(s, d);
		}
		if (!d->dead && d->retry_ns && d->retry_ns <= now) {
			nr++;
			look_again(s, d);
		}
	}
	return nr;
}

static void bury(struct gm_vhost_server *s)
{
	struct door **door = &s->doors;
	struct watch **watch = &s->watches;

	while (*door) {
		struct door *d = *door;

		if (!d->dead) {
			door = &d->next;
			continue;
		}
		*door = d->next;
		gm_sys_free(d);
	}
	while (*watch) {
		struct watch *w = *watch;

		if (!w->dead) {
			watch = &w->next;
			continue;
		}
		*watch = w->next;
		gm_sys_free(w);
	}
	s->has_dead = false;
}

int gm_vhost_server_turn(struct gm_vhost_server *s, int timeout_ms, struct gm_error *err)
{
	struct epoll_event events[EVENTS];
	const uint64_t deadline = next_deadline(s);
	const uint64_t now = gm_sys_now_ns();
	const uint64_t left = deadline == UINT64_MAX ? UINT64_MAX
			      : deadline > now       ? (deadline - now) / MS + 1
						     : 0;
	int nr;

	if (left < (uint64_t)INT32_MAX && (timeout_ms < 0 || left < (uint64_t)timeout_ms))
		timeout_ms = (int)left;
	nr = gm_sys_epoll_wait(s->epoll, events, EVENTS, timeout_ms);
	if (nr < 0)
		return gm_error_set(
			err, nr, 0, 0, "vhost-user: cannot wait: %s", gm_error_word(nr));
	for (int i = 0; i < nr; i++)
		on_event(s, events[i].data.ptr);
	nr += expire(s);
	if (s->has_dead)
		bury(s);
	return nr;
}

int gm_vhost_server_fd(const struct gm_vhost_server *server)
{
	return server->epoll;
}

/* ---- what is in it ---- */

int gm_vhost_server_create(struct gm_vhost_server **ret, struct gm_error *err)
{
	struct gm_vhost_server *s = gm_sys_alloc(sizeof(*s));

	if (!s)
		return gm_error_set(err, -ENOMEM, 0, 0, "vhost-user: out of memory");
	s->epoll = gm_sys_epoll_create();
	if (s->epoll < 0) {
		int rc = s->epoll;

		gm_sys_free(s);
		return gm_error_set(err, rc, 0, 0, "vhost-user: %s", gm_error_word(rc));
	}
	/* Where the kernel has none for us, devices signal by write(2). */
	s->has_signals = gm_sys_signals_open(&s->signals) == 0;
	*ret = s;
	return 0;
}

static void remove_door(struct gm_vhost_server *s, struct door *d)
{
	const bool was = d->connection.fd >= 0;

	d->dead = true;
	s->has_dead = true;
	drop_item(s, &d->listener, false);
	if (was)
		end_connection(s, d,
			gm_error_set(
				&d->why, -ECANCELED, 0, 0, "vhost-user: it is served no more"));
	d->d.backend->signals = NULL;
}

void gm_vhost_server_destroy(struct gm_vhost_server *s)
{
	if (!s)
		return;
	for (struct door *d = s->doors; d; d = d->next) {
		if (!d->dead)
			remove_door(s, d);
	}
	for (struct watch *w = s->watches; w; w = w->next)
		w->dead = true;
	bury(s);
	if (s->has_signals)
		gm_sys_signals_close(&s->signals);
	gm_sys_close(s->epoll);
	gm_sys_free(s);
}

/* One that listens is never read from, and one that does not has nobody to accept. */
static int check_socket(int fd, bool listens, struct gm_error *err)
{
	int rc = gm_vhost_check_socket(fd, err);

	if (rc)
		return rc;
	rc = gm_sys_socket_listens(fd);
	if (rc < 0)
		return gm_error_set(err, rc, 0, 0, "vhost-user: fd %d: %s", fd, gm_error_word(rc));
	if (rc != listens)
		return gm_error_set(err, -EINVAL, 0, 0, "vhost-user: fd %d %s is wanted", fd,
			listens ? "does not listen, and one that does"
				: "listens, and one that is connected");
	return 0;
}

static int check_door(const struct gm_vhost_door *d, struct gm_error *err)
{
	const int ways = (d->socket_plus != 0) + (d->listener_plus != 0) + (d->connect != NULL);

	if (!d->backend || ways != 1 || d->socket_plus < 0 || d->listener_plus < 0)
		return gm_error_set(err, -EINVAL, 0, 0,
			"vhost-user: a device has a back-end, and one way for front-ends to come");
	if (d->connect)
		return 0;
	return check_socket(d->socket_plus + d->listener_plus - 1, d->listener_plus != 0, err);
}

int gm_vhost_server_add(struct gm_vhost_server *s, const struct gm_vhost_door *user,
	uint64_t *ret_id, struct gm_error *err)
{
	struct door *d = gm_sys_alloc(sizeof(*d));
	int rc;

	if (!d)
		return gm_error_set(err, -ENOMEM, 0, 0, "vhost-user: out of memory");
	rc = gm_opts_copy(&d->d, sizeof(d->d), user, sizeof(d->d));
	if (rc)
		gm_opts_error(err, rc, "vhost-user, door");
	else
		rc = check_door(&d->d, err);
	d->d.timeout_ns = d->d.timeout_ns ? d->d.timeout_ns : TIMEOUT_NS;
	d->d.retry_ns = d->d.retry_ns ? d->d.retry_ns : RETRY_NS;
	d->listener = (struct item){LISTENER, -1, d};
	d->connection = (struct item){CONNECTION, -1, d};
	d->channel = (struct item){CHANNEL, -1, d};
	if (!rc)
		d->d.backend->signals = s->has_signals ? &s->signals : NULL;
	if (!rc && d->d.socket_plus) {
		rc = begin(s, d, d->d.socket_plus - 1);
		if (rc)
			gm_error_set(err, rc, 0, 0, "vhost-user: %s", gm_error_word(rc));
	}
	if (rc) {
		if (d->d.backend)
			d->d.backend->signals = NULL;
		gm_sys_free(d);
		return rc;
	}
	d->generation = __atomic_load_n(&d->d.backend->channel.generation, __ATOMIC_RELAXED);
	d->id = ++s->ids;
	d->next = s->doors;
	s->doors = d;
	if (ret_id)
		*ret_id = d->id;
	look_again(s, d);
	return 0;
}

int gm_vhost_server_remove(struct gm_vhost_server *s, uint64_t id)
{
	for (struct door *d = s->doors; d; d = d->next) {
		if (d->id == id && !d->dead) {
			remove_door(s, d);
			return 0;
		}
	}
	return -ENOENT;
}

static struct watch *find_watch(struct gm_vhost_server *s, int fd)
{
	struct watch *w = s->watches;

	while (w && (w->dead || w->item.fd != fd))
		w = w->next;
	return w;
}

int gm_vhost_server_watch(struct gm_vhost_server *s, int fd, void (*fn)(void *ctx), void *ctx)
{
	struct watch *w;
	int rc;

	if (find_watch(s, fd))
		return -EEXIST;
	w = gm_sys_alloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->item = (struct item){WATCH, fd, NULL};
	w->fn = fn;
	w->ctx = ctx;
	rc = gm_sys_epoll_add(s->epoll, fd, &w->item);
	if (rc) {
		gm_sys_free(w);
		return rc;
	}
	w->next = s->watches;
	s->watches = w;
	return 0;
}

int gm_vhost_server_unwatch(struct gm_vhost_server *s, int fd)
{
	struct watch *w = find_watch(s, fd);

	if (!w)
		return -ENOENT;
	gm_sys_epoll_remove(s->epoll, fd);
	w->dead = true;
	s->has_dead = true;
	return 0;
}
