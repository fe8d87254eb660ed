/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_keeper.c - serve's side of the keeper: what it has is taken over when serve begins, what comes is handed to it
 * before it is used.
 *
 * What was sent is kept: the packet lies in the keeper's socket, whatever happens to the sender. So nothing is awaited.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve.h"
#include "tool.h"

#define WAIT_MS 10000 /* for a keeper to notice that the one before has died */
#define AGAIN 1.0

static void lost(struct serve *s, const char *why)
{
	if (s->keeper < 0)
		return;
	serve_watch(s, s->keeper, 0, NULL);
	close(s->keeper);
	s->keeper = -1;
	s->keeper_at = tool_now() + AGAIN;
	for (struct serve_connection *c = s->connections; c; c = c->next)
		c->kept = false;
	for (struct serve_guest *g = s->guests; g; g = g->next)
		g->kept = false;
	/* Until there is one again. */
	if (s->listener >= 0)
		serve_watch(s, s->listener, EPOLLIN, &s->listener_item);
	serve_say(s, "keeper_lost", NULL,
		"the keeper is lost (%s): what is served now dies with this process", why);
}

static bool send_item(
	struct serve *s, uint32_t op, uint64_t id, uint32_t kind, const int *fds, uint32_t nr)
{
	const struct keep_packet packet = {.op = op, .id = id, .kind = kind, .nr = nr};

	if (s->keeper < 0)
		return false;
	if (keep_send(s->keeper, &packet, fds))
		return true;
	lost(s, strerror(errno));
	return false;
}

void serve_keeper_guest(struct serve *s, struct serve_guest *g)
{
	const int fds[KEEP_FDS] = {g->uffd, g->file, g->pidfd};

	if (g->file >= 0 && !g->kept)
		g->kept = send_item(s, KEEP_ITEM, g->id, KEEP_GUEST, fds, g->pidfd >= 0 ? 3 : 2);
}

void serve_keeper_drop(struct serve *s, uint64_t id)
{
	send_item(s, KEEP_DROP, id, 0, NULL, 0);
}

/* ---- what it has ---- */

static bool is_known(const struct serve *s, uint64_t id)
{
	for (const struct serve_guest *g = s->guests; g; g = g->next) {
		if (g->id == id)
			return true;
	}
	for (const struct serve_connection *c = s->connections; c; c = c->next) {
		if (c->id == id && c->fd >= 0)
			return true;
	}
	return false;
}

static void take_guest(struct serve *s, const struct keep_packet *packet, const int *fds)
{
	struct serve_guest *g = tool_alloc(1, sizeof(*g));

	g->id = packet->id;
	g->kept = true;
	g->uffd = fds[0];
	g->file = fds[1];
	g->pidfd = packet->nr > 2 ? fds[2] : -1;
	if (!record_read(g->file, &g->record)) {
		keep_close(packet, fds);
		free(g);
		return;
	}
	if (g->record.number > s->numbers)
		s->numbers = g->record.number;
	if (strcmp(g->record.identity, s->image.identity) != 0) {
		serve_say(s, "refused", &g->record,
			"it was served from another image; the keeper has it still");
		keep_close(packet, fds);
		free(g);
		return;
	}
	s->taken_over++;
	serve_guest_begin(s, g, true);
}

static void take_item(struct serve *s, const struct keep_packet *packet, int *fds)
{
	bool new = !is_known(s, packet->id);

	if (new && packet->kind == KEEP_GUEST && packet->nr >= 2) {
		take_guest(s, packet, fds);
	} else if (new && packet->kind == KEEP_CONNECTION && packet->nr == 1) {
		fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) | O_NONBLOCK);
		serve_connection_begin(s, fds[0], packet->id, true);
	} else if (packet->kind == KEEP_LISTENER && packet->nr == 1 && s->listener < 0) {
		s->listens = true;
		s->listener_id = packet->id;
		s->listener = fds[0];
	} else {
		s->listens = s->listens || packet->kind == KEEP_LISTENER;
		keep_close(packet, fds);
	}
}

/* One packet; 1: a last one, 0: another, -1: none. */
static int take_packet(struct serve *s)
{
	struct keep_packet packet = {0};
	int fds[KEEP_FDS];

	if (!keep_recv(s->keeper, &packet, fds))
		return -1;
	if (packet.op == KEEP_ITEM)
		take_item(s, &packet, fds);
	else
		keep_close(&packet, fds);
	errno = EBUSY;
	return packet.op == KEEP_END ? 1 : packet.op == KEEP_BUSY ? -1 : 0;
}

static bool say_hello(struct serve *s)
{
	const struct keep_packet hello = {.op = KEEP_HELLO};
	double begun = tool_now();
	int rc = 0;

	s->keeper = keep_connect(s->opts.keeper);
	if (s->keeper < 0)
		return false;
	if (!keep_send(s->keeper, &hello, NULL))
		rc = -1;
	while (rc == 0) {
		struct pollfd p = {.fd = s->keeper, .events = POLLIN};

		errno = ETIMEDOUT;
		rc = poll(&p, 1, WAIT_MS) == 1 ? take_packet(s) : -1;
	}
	if (rc > 0) {
		s->takeover = tool_now() - begun;
		return true;
	}
	close(s->keeper);
	s->keeper = -1;
	return false;
}

/*
 * What it does not have: the socket, and what came while it was not there. From now on it is the keeper that
 * accepts.
 */
bool serve_keeper_hand_over(struct serve *s)
{
	if (s->listener >= 0)
		serve_watch(s, s->listener, 0, NULL);
	if (!s->listens && s->listener >= 0) {
		s->listener_id = keep_number();
		send_item(s, KEEP_ITEM, s->listener_id, KEEP_LISTENER, &s->listener, 1);
	}
	for (struct serve_connection *c = s->connections; c; c = c->next) {
		if (c->fd >= 0 && !c->kept)
			c->kept = send_item(s, KEEP_ITEM, c->id, KEEP_CONNECTION, &c->fd, 1);
	}
	for (struct serve_guest *g = s->guests; g; g = g->next)
		serve_keeper_guest(s, g);
	s->keeper_item = (struct serve_item){SERVE_KEEPER, NULL};
	return s->keeper >= 0 && serve_watch(s, s->keeper, EPOLLIN, &s->keeper_item);
}

bool serve_keeper_begin(struct serve *s)
{
	double until = tool_now() + WAIT_MS / 1000.0;

	/* The one before may be dying. */
	while (!say_hello(s)) {
		int error = errno;

		/* It has closed the connection before the word was sent. */
		if (error == EPIPE || error == ECONNRESET)
			error = EBUSY;
		if (error == EBUSY && tool_now() < until) {
			usleep(1000);
			continue;
		}
		tool_error("keeper %s: %s", s->opts.keeper,
			error == EBUSY ? "another one serves what it has" : strerror(error));
		return false;
	}
	if (s->taken_over)
		serve_say(s, "takeover", NULL, "%llu guests were taken over in %.3f ms",
			(unsigned long long)s->taken_over, s->takeover * 1e3);
	return true;
}

void serve_keeper_read(struct serve *s)
{
	struct pollfd p = {.fd = s->keeper, .events = POLLIN};

	while (s->keeper >= 0 && poll(&p, 1, 0) == 1) {
		if (take_packet(s) < 0) {
			lost(s, errno ? strerror(errno) : "it has ended");
			return;
		}
	}
}

void serve_keeper_tick(struct serve *s, double now)
{
	if (s->keeper >= 0 || !s->opts.keeper || now < s->keeper_at)
		return;
	s->keeper_at = now + AGAIN;
	s->listens = false;
	if (s->listener < 0 || s->ending || !say_hello(s) || !serve_keeper_hand_over(s))
		return;
	serve_say(s, "keeper_back", NULL, "a keeper is there again and has all guests");
}
