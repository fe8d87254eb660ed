/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_connection.c - monitors that have connected: looked at until their message is whole, for a bounded time.
 *
 * The message stays in the socket until a guest has been made of it, and the keeper has that: whoever is killed before
 * leaves the connection, with all that is in it, to the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "serve.h"
#include "tool.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#define LOOKS_MAX 256

/* The keeper may have a duplicate: then closing it is not the end of its events. */
static void forget(struct serve *s, struct serve_connection *c)
{
	serve_watch(s, c->fd, 0, NULL);
	close(c->fd);
	c->fd = -1;
	s->nr_connections--;
}

/* ---- who it is ---- */

static int pidfd_of(int sock, pid_t pid)
{
	socklen_t len = sizeof(int);
	int fd;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
		return fd;
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static bool peer_of(struct serve *s, int sock, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, ret, &len)) {
		serve_say(s, "refused", NULL, "a connection from nobody: %s", strerror(errno));
		return false;
	}
	if (s->opts.uid == UINT64_MAX || ret->uid == s->opts.uid || ret->uid == 0 ||
		ret->uid == geteuid())
		return true;
	serve_say(s, "refused", NULL, "process %d of user %u is not allowed to be served", ret->pid,
		ret->uid);
	return false;
}

/* ---- what it wants ---- */

static const char *judge(
	const struct serve *s, const struct gm_firecracker_mapping *maps, size_t nr)
{
	uint64_t len = gm_source_len(s->image.source);
	uint64_t left = len;

	for (size_t i = 0; i < nr; i++) {
		if (maps[i].offset > len || maps[i].len > len - maps[i].offset)
			return "its memory does not lie in the image: it is another snapshot's";
		if (maps[i].len > left)
			return "it has more memory than the image";
		left -= maps[i].len;
	}
	return NULL;
}

static struct serve_guest *make_guest(struct serve *s, const struct serve_connection *c,
	const struct ucred *peer, const struct gm_firecracker_mapping *maps, size_t nr, int uffd)
{
	const struct record_guest who = {
		.number = ++s->numbers,
		.pid = peer->pid,
		.uid = peer->uid,
		.identity = s->image.identity,
		.image_len = gm_source_len(s->image.source),
	};
	struct serve_guest *g = tool_alloc(1, sizeof(*g));

	g->id = c->id;
	g->uffd = uffd;
	g->pidfd = pidfd_of(c->fd, peer->pid);
	g->file = record_make(&who, maps, nr, &g->record);
	return g;
}

/* The message is whole: the connection has served its purpose. */
static void arrive(struct serve *s, struct serve_connection *c,
	const struct gm_firecracker_mapping *maps, size_t nr, int uffd)
{
	struct serve_guest *g;
	const char *why;
	struct ucred peer;

	if (!peer_of(s, c->fd, &peer)) {
		close(uffd);
		s->refused++;
		serve_keeper_drop(s, c->id);
		forget(s, c);
		return;
	}
	g = make_guest(s, c, &peer, maps, nr, uffd);
	why = judge(s, maps, nr);
	if (!why && g->file < 0)
		why = "its states cannot be kept";
	if (why)
		serve_guest_refuse(s, g, why);
	serve_guest_begin(s, g, false);
	forget(s, c);
}

void serve_connection_look(struct serve *s, struct serve_connection *c)
{
	static struct gm_firecracker_mapping maps[GM_FIRECRACKER_MAPPINGS_MAX];
	struct gm_error err;
	size_t nr;
	int uffd;
	int rc;

	if (c->fd < 0)
		return;
	c->waits = s->nr_guests >= s->opts.guests_max;
	if (c->waits)
		return;
	rc = gm_firecracker_look(c->fd, maps, GM_FIRECRACKER_MAPPINGS_MAX, &nr, &uffd, &err);
	if (rc == -EAGAIN && ++c->looks < LOOKS_MAX)
		return;
	if (!rc) {
		arrive(s, c, maps, nr, uffd);
		return;
	}
	s->refused++;
	serve_say(s, "refused", NULL, "a connection: %s", err.text);
	serve_keeper_drop(s, c->id);
	forget(s, c);
}

/* ---- coming and going ---- */

void serve_connection_begin(struct serve *s, int fd, uint64_t id, bool kept)
{
	struct serve_connection *c = tool_alloc(1, sizeof(*c));

	c->fd = fd;
	c->id = id;
	c->kept = kept;
	c->until = tool_now() + s->opts.deadline;
	c->item = (struct serve_item){SERVE_CONNECTION, c};
	c->next = s->connections;
	s->connections = c;
	s->nr_connections++;
	/* What is looked at stays readable: only what comes is told. */
	if (!serve_watch(s, fd, EPOLLIN | EPOLLET, &c->item)) {
		serve_keeper_drop(s, id);
		forget(s, c);
		return;
	}
	serve_connection_look(s, c);
}

void serve_accept(struct serve *s)
{
	while (s->nr_connections < KEEP_WAITING_MAX) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		serve_connection_begin(s, fd, keep_number(), false);
	}
}

void serve_connections_tick(struct serve *s, double now)
{
	for (struct serve_connection *c = s->connections; c; c = c->next) {
		if (c->fd < 0)
			continue;
		if (c->waits) {
			c->until = now + s->opts.deadline;
			serve_connection_look(s, c);
		} else if (now >= c->until) {
			s->refused++;
			serve_say(s, "refused", NULL,
				"a connection: no whole message in %g seconds", s->opts.deadline);
			serve_keeper_drop(s, c->id);
			forget(s, c);
		}
	}
}

void serve_connections_sweep(struct serve *s)
{
	struct serve_connection **at = &s->connections;

	while (*at) {
		struct serve_connection *c = *at;

		if (c->fd >= 0) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		free(c);
	}
}

void serve_connections_end(struct serve *s)
{
	for (struct serve_connection *c = s->connections; c; c = c->next) {
		if (c->fd >= 0)
			forget(s, c);
	}
	serve_connections_sweep(s);
}
