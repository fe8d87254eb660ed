/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_proxy.c - the line between two ends, and what goes wrong with it: see killed_migration.h.
 *
 * It reads heads of messages, so trouble comes at a byte of a message that is known, whatever the machine does beside.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/migrate_wire.h"
#include "killed_migration.h"

#define CONNS 96u
#define ROOM 8192u
#define NEVER UINT64_MAX
#define STALL_MS 700u
#define DRIPS 1500u
#define HOLD_MS 60u

/* One way of a connection. */
struct way {
	uint8_t room[ROOM];
	size_t len;
	size_t off;
	uint64_t seen; /* bytes that came, and that went on */
	uint64_t went;
	uint64_t strike_at; /* trouble before this byte */
	uint8_t head[GM_MIGRATE_OPEN];
	uint32_t got;
	uint64_t body; /* bytes of it that are still to come */
	bool opened;
	bool end;
};

struct conn {
	int fds[SIDES]; /* -1: there is none */
	bool used;
	bool held;      /* not gone on to the destination yet */
	uint64_t until; /* of that, or of a stall */
	uint32_t drips;
	struct way ways[SIDES]; /* by where it comes from */
};

struct proxy {
	struct killed *k;
	const struct door *ours;
	const struct door *theirs;
	struct rng rng;
	struct conn conns[CONNS];
	uint32_t nth;     /* messages of the type that there were */
	uint64_t counted; /* bytes in the phase */
	bool accepted;
	bool running;
	bool flip; /* the next byte */
	bool kill;
	uint8_t old[4][GM_MIGRATE_OPEN]; /* openings of epochs that there were */
	uint32_t nr_old;
	uint32_t epoch;
};

struct proxy *proxy_create(struct killed *k, const struct door *ours, const struct door *theirs)
{
	struct proxy *p = calloc(1, sizeof(*p));

	if (!p)
		_exit(5);
	p->k = k;
	p->ours = ours;
	p->theirs = theirs;
	p->rng.state = k->plan.seed;
	return p;
}

static void drop(struct conn *c)
{
	for (int i = 0; i < SIDES; i++) {
		if (c->fds[i] >= 0)
			close(c->fds[i]);
	}
	c->used = false;
}

void proxy_destroy(struct proxy *p)
{
	for (uint32_t i = 0; i < CONNS; i++) {
		if (p->conns[i].used)
			drop(&p->conns[i]);
	}
	free(p);
}

/* ---- connections ---- */

static struct conn *new_conn(struct proxy *p)
{
	for (uint32_t i = 0; i < CONNS; i++) {
		struct conn *c = &p->conns[i];

		if (c->used)
			continue;
		memset(c, 0, sizeof(*c));
		c->used = true;
		c->fds[AT_SOURCE] = -1;
		c->fds[AT_DESTINATION] = -1;
		c->ways[0].strike_at = NEVER;
		c->ways[1].strike_at = NEVER;
		return c;
	}
	return NULL;
}

static void plain(const struct proxy *p, int fd)
{
	const int on = 1;

	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	if (p->k->plan.tcp)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static bool go_on_to(struct proxy *p, struct conn *c)
{
	int fd = socket(p->theirs->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	c->held = false;
	c->until = 0;
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&p->theirs->at, p->theirs->len)) {
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		drop(c);
		return false;
	}
	plain(p, fd);
	c->fds[AT_DESTINATION] = fd;
	return true;
}

static void take_in(struct proxy *p)
{
	int fd = accept(p->ours->fd, NULL, NULL);
	struct conn *c = fd < 0 ? NULL : new_conn(p);

	if (!c && fd >= 0)
		close(fd);
	if (!c)
		return;
	plain(p, fd);
	c->fds[AT_SOURCE] = fd;
	c->held = true;
	if (p->k->plan.trouble == SHUFFLE)
		c->until = now_ns() + rng_below(&p->rng, HOLD_MS) * MSEC;
}

/* Connections of epochs that are over come once more, after the next has begun. */
static void replay(struct proxy *p)
{
	for (uint32_t i = 0; i < p->nr_old; i++) {
		struct conn *c = new_conn(p);

		if (!c || !go_on_to(p, c))
			return;
		memcpy(c->ways[AT_SOURCE].room, p->old[i], GM_MIGRATE_OPEN);
		c->ways[AT_SOURCE].len = GM_MIGRATE_OPEN;
		c->ways[AT_SOURCE].seen = GM_MIGRATE_OPEN;
	}
}

/* ---- messages ---- */

static uint32_t le32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

/* An opening of a source: what it says is kept, to be said again. */
static void note_open(struct proxy *p, const uint8_t *open)
{
	uint32_t epoch = le32(open + 32);

	if (p->k->plan.trouble != SHUFFLE)
		return;
	if (epoch > p->epoch && p->epoch)
		replay(p);
	p->epoch = epoch;
	if (p->nr_old < 4)
		memcpy(p->old[p->nr_old++], open, GM_MIGRATE_OPEN);
}

static void on_message(struct proxy *p, struct conn *c, enum side from, uint32_t type,
	uint64_t first, uint64_t len)
{
	const struct plan *plan = &p->k->plan;
	struct way *w = &c->ways[from];

	if (type == GM_MIGRATE_ACCEPTED)
		p->accepted = true;
	if (type == GM_MIGRATE_RUNNING)
		p->running = true;
	if (p->k->struck || plan->trigger != AT_MESSAGE || type != plan->type ||
		++p->nth != plan->nth)
		return;
	w->strike_at = first;
	if (plan->where == WITHIN)
		w->strike_at += 1 + rng_below(&p->rng, len - 1);
	if (plan->where == BEHIND)
		w->strike_at += len;
	if (w->strike_at < w->went)
		w->strike_at = w->went;
}

static void parse(struct proxy *p, struct conn *c, enum side from, const uint8_t *at, size_t len)
{
	struct way *w = &c->ways[from];

	while (len) {
		uint32_t want = w->opened ? GM_MIGRATE_HEAD
				: from    ? GM_MIGRATE_OPENED
					  : GM_MIGRATE_OPEN;
		size_t nr = w->body < len ? (size_t)w->body : len;
		uint32_t type = from ? TYPE_OPENED : TYPE_OPEN;

		w->seen += nr;
		w->body -= nr;
		at += nr;
		len -= nr;
		if (!len)
			return;
		w->head[w->got++] = *at++;
		w->seen++;
		len--;
		if (w->got < want)
			continue;
		w->got = 0;
		if (w->opened) {
			type = (uint32_t)w->head[0] | (uint32_t)w->head[1] << 8;
			w->body = le32(w->head + 4);
		} else if (!from) {
			note_open(p, w->head);
		}
		w->opened = true;
		on_message(p, c, from, type, w->seen - want, want + w->body);
	}
}

/* ---- trouble ---- */

static void strike_conn(struct proxy *p, struct conn *c, uint32_t ms)
{
	switch (p->k->plan.trouble) {
	case CUT:
	case SHUFFLE:
		drop(c);
		break;
	case STALL:
		c->until = now_ns() + ms * MSEC;
		break;
	case DRIP:
		c->drips = DRIPS;
		break;
	default:
		break;
	}
}

static void strike(struct proxy *p, struct conn *c)
{
	const struct plan *plan = &p->k->plan;

	p->k->struck = true;
	p->kill = plan->trouble == KILL_SOURCE || plan->trouble == KILL_DESTINATION;
	p->flip = plan->trouble == FLIP;
	if (c && !plan->all) {
		strike_conn(p, c, STALL_MS);
		return;
	}
	for (uint32_t i = 0; i < CONNS; i++) {
		if (p->conns[i].used)
			strike_conn(p, &p->conns[i], STALL_MS);
	}
}

/* So many bytes of a phase have gone. */
static void count(struct proxy *p, struct way *w, size_t len)
{
	const struct plan *plan = &p->k->plan;

	if (plan->trigger != AT_BYTE || p->k->struck || p->counted > plan->bytes ||
		!(plan->phase == POSTCOPY ? p->running : p->accepted))
		return;
	if (p->counted + len > plan->bytes)
		w->strike_at = w->seen - len + (plan->bytes - p->counted);
	if (w->strike_at < w->went)
		w->strike_at = w->went;
	p->counted += len;
}

/* ---- bytes ---- */

/* False: the connection is gone. */
static bool read_way(struct proxy *p, struct conn *c, enum side from)
{
	struct way *w = &c->ways[from];
	ssize_t nr;

	if (w->len || w->end)
		return true;
	nr = recv(c->fds[from], w->room, ROOM, MSG_DONTWAIT);
	if (nr < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (nr <= 0) {
		w->end = true;
		return true;
	}
	w->len = (size_t)nr;
	w->off = 0;
	parse(p, c, from, w->room, w->len);
	if (c->used)
		count(p, w, w->len);
	return c->used;
}

static bool strikes(struct proxy *p, struct conn *c, struct way *w)
{
	if (p->k->struck || w->went != w->strike_at)
		return false;
	strike(p, c);
	return true;
}

/* False: the connection is gone, or stands still. */
static bool write_way(struct proxy *p, struct conn *c, enum side from)
{
	struct way *w = &c->ways[from];
	uint64_t most = w->len - w->off;
	ssize_t nr;

	if (strikes(p, c, w))
		return false;
	if (!most)
		return true;
	if (!p->k->struck && w->strike_at - w->went < most)
		most = w->strike_at - w->went;
	if (c->drips) {
		c->drips--;
		most = 1;
	}
	if (p->flip) {
		w->room[w->off] ^= (uint8_t)(1u << rng_below(&p->rng, 8));
		p->flip = false;
	}
	nr = send(c->fds[!from], w->room + w->off, most, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (nr < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (nr < 0) {
		drop(c);
		return false;
	}
	w->off += (size_t)nr;
	w->went += (size_t)nr;
	if (w->off == w->len)
		w->len = w->off = 0;
	return !strikes(p, c, w);
}

static void move_conn(struct proxy *p, struct conn *c)
{
	if (c->until > now_ns() || (c->held && !go_on_to(p, c)))
		return;
	c->until = 0;
	for (int from = 0; from < SIDES; from++) {
		struct way *w = &c->ways[from];

		/* Of a connection that we made up there is no other end. */
		if (c->fds[from] < 0)
			w->end = w->end || (c->fds[!from] < 0);
		else if (!read_way(p, c, (enum side)from))
			return;
		if (c->fds[!from] < 0)
			w->len = 0;
		else if (!write_way(p, c, (enum side)from))
			return;
		if (p->kill)
			return;
		if (w->end && !w->len) {
			drop(c);
			return;
		}
	}
}

static uint32_t want(const struct proxy *p, struct pollfd *fds)
{
	uint64_t now = now_ns();
	uint32_t nr = 0;

	fds[nr++] = (struct pollfd){.fd = p->ours->fd, .events = POLLIN};
	for (uint32_t i = 0; i < CONNS; i++) {
		const struct conn *c = &p->conns[i];

		if (!c->used || c->until > now)
			continue;
		for (int from = 0; from < SIDES; from++) {
			short events = c->ways[from].len || c->ways[from].end ? 0 : POLLIN;

			if (c->ways[!from].len)
				events |= POLLOUT;
			if (c->fds[from] >= 0)
				fds[nr++] = (struct pollfd){.fd = c->fds[from], .events = events};
		}
	}
	return nr;
}

bool proxy_step(struct proxy *p, int timeout_ms)
{
	struct pollfd fds[1 + 2 * CONNS];

	(void)poll(fds, want(p, fds), timeout_ms);
	if (fds[0].revents)
		take_in(p);
	if (p->k->plan.trigger == AT_PAUSE && p->k->pausing && !p->k->struck)
		strike(p, NULL);
	for (uint32_t i = 0; i < CONNS && !p->kill; i++) {
		if (p->conns[i].used)
			move_conn(p, &p->conns[i]);
	}
	if (!p->kill)
		return false;
	p->kill = false;
	return true;
}
