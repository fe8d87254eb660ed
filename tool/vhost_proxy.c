/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_proxy.c - messages of vhost-user from one socket to another, unchanged.
 *
 * A way takes one message whole, with its descriptors, and sends it whole before it takes the next: so who does not
 * read holds up who writes to it, and nobody else. There are four: requests and replies of the front-end's socket, and
 * of the one that it gives to the back-end, which is replaced by ours.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "json.h"
#include "vhost_user.h"

#define FDS_MAX 253u
#define WAYS 4u

/* A message on its way. */
struct way {
	int *from;
	int *to;
	enum gm_vhost_from asks; /* who sends requests on this socket */
	uint8_t bytes[GM_VHOST_HEADER + PASS_MAX];
	size_t got;
	size_t sent;
	bool whole;
	bool noted;
	int fds[FDS_MAX];
	uint32_t nr_fds;
};

struct proxy {
	int sockets[4]; /* front-end, back-end, and their ends of the other one */
	struct way ways[WAYS];
	struct seen *seen;
	const struct proxy_opts *opts;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void way_clear(struct way *w)
{
	for (uint32_t i = 0; i < w->nr_fds; i++)
		close_fd(&w->fds[i]);
	w->nr_fds = 0;
	w->got = 0;
	w->sent = 0;
	w->whole = false;
	w->noted = false;
}

/* ---- in ---- */

static void take_fds(struct way *w, struct msghdr *head)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c)) {
		size_t nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < nr; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (w->nr_fds < FDS_MAX)
				w->fds[w->nr_fds++] = fd;
			else
				close(fd);
		}
	}
}

static uint32_t payload_of(const struct way *w)
{
	uint32_t len;

	memcpy(&len, w->bytes + 8, sizeof(len));
	return len;
}

/* False: this connection is over. */
static bool way_in(struct way *w)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} room;
	size_t want = w->got < GM_VHOST_HEADER ? GM_VHOST_HEADER : GM_VHOST_HEADER + payload_of(w);
	struct iovec iov = {w->bytes + w->got, want - w->got};
	struct msghdr head = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &room,
		.msg_controllen = sizeof(room)};
	ssize_t nr = recvmsg(*w->from, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (nr < 0)
		return errno == EAGAIN || errno == EINTR;
	take_fds(w, &head);
	if (nr == 0 || (head.msg_flags & MSG_CTRUNC))
		return false;
	w->got += (size_t)nr;
	if (w->got < GM_VHOST_HEADER)
		return true;
	if (payload_of(w) > PASS_MAX) {
		tool_note("a message of %u bytes is too long to be passed on", payload_of(w));
		return false;
	}
	w->whole = w->got == GM_VHOST_HEADER + payload_of(w);
	return true;
}

/* ---- what it says ---- */

/* The front-end's socket for requests of the back-end goes no further: the back-end gets ours. */
static bool replace_channel(struct proxy *p, struct way *w)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return false;
	close_fd(&p->sockets[2]);
	close_fd(&p->sockets[3]);
	way_clear(&p->ways[2]);
	way_clear(&p->ways[3]);
	p->sockets[2] = w->fds[0];
	p->sockets[3] = pair[0];
	w->fds[0] = pair[1];
	return true;
}

static bool way_note(struct proxy *p, struct way *w)
{
	struct gm_vhost_msg msg;
	int kept[FDS_MAX];
	uint32_t nr = w->nr_fds < GM_VHOST_FDS_MAX ? w->nr_fds : GM_VHOST_FDS_MAX;
	bool reply;

	memset(&msg, 0, sizeof(msg));
	memcpy(&msg, w->bytes, GM_VHOST_HEADER);
	memcpy(&msg.u, w->bytes + GM_VHOST_HEADER,
		msg.len < GM_VHOST_PAYLOAD_MAX ? msg.len : GM_VHOST_PAYLOAD_MAX);
	reply = msg.flags & GM_VHOST_REPLY;
	if (p->opts->trace)
		show_message(w->asks, w->asks == GM_VHOST_FROM_BACKEND, reply, &msg, w->nr_fds,
			p->opts->json);
	for (uint32_t i = 0; i < nr; i++)
		kept[i] = dup(w->fds[i]);
	seen_message(p->seen, w->asks, reply, &msg, kept, w->nr_fds);
	for (uint32_t i = 0; i < nr; i++)
		close_fd(&kept[i]);
	if (w == &p->ways[0] && msg.request == GM_VHOST_SET_BACKEND_REQ_FD && w->nr_fds == 1)
		return replace_channel(p, w);
	return true;
}

/* ---- out ---- */

static bool way_out(struct way *w)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} room;
	struct iovec iov = {w->bytes + w->sent, w->got - w->sent};
	struct msghdr head = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t nr;

	if (w->nr_fds) {
		struct cmsghdr *c;

		memset(&room, 0, sizeof(room));
		head.msg_control = &room;
		head.msg_controllen = CMSG_SPACE(w->nr_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&head);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(w->nr_fds * sizeof(int));
		memcpy(CMSG_DATA(c), w->fds, w->nr_fds * sizeof(int));
	}
	nr = sendmsg(*w->to, &head, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (nr < 0)
		return errno == EAGAIN || errno == EINTR;
	for (uint32_t i = 0; i < w->nr_fds; i++)
		close_fd(&w->fds[i]);
	w->nr_fds = 0;
	w->sent += (size_t)nr;
	if (w->sent == w->got)
		way_clear(w);
	return true;
}

/* What can be done without waiting. False: over. */
static bool way_step(struct proxy *p, struct way *w, short ready)
{
	if (!w->whole && ready && !way_in(w))
		return false;
	if (w->whole && !w->noted) {
		w->noted = true;
		if (!way_note(p, w))
			return false;
	}
	return !w->whole || way_out(w);
}

/* ---- the loop ---- */

static void report(struct proxy *p)
{
	json_t *shared = show_json(p->seen);

	show_report(shared, p->opts->json);
	json_decref(shared);
}

static bool step_all(struct proxy *p, const struct pollfd *waits)
{
	for (size_t i = 0; i < WAYS; i++) {
		bool channel = i >= 2;

		if (!waits[i].revents || *p->ways[i].from < 0 || *p->ways[i].to < 0)
			continue;
		if (way_step(p, &p->ways[i], waits[i].revents))
			continue;
		if (!channel)
			return false;
		/* Requests of the back-end are at an end; the connection need not be. */
		way_clear(&p->ways[2]);
		way_clear(&p->ways[3]);
		close_fd(&p->sockets[2]);
		close_fd(&p->sockets[3]);
	}
	return true;
}

static void begin(struct proxy *p, int front, int back)
{
	p->sockets[0] = front;
	p->sockets[1] = back;
	p->sockets[2] = -1;
	p->sockets[3] = -1;
	for (size_t i = 0; i < WAYS; i++) {
		size_t side = i & 1;
		size_t pair = i & 2;

		p->ways[i].from = &p->sockets[pair + side];
		p->ways[i].to = &p->sockets[pair + !side];
		p->ways[i].asks = pair ? GM_VHOST_FROM_BACKEND : GM_VHOST_FROM_FRONTEND;
	}
}

/* Milliseconds until the next report. */
static int until(const struct proxy *p, double next)
{
	double left = next - tool_now();

	if (p->opts->interval <= 0)
		return -1;
	return left <= 0 ? 0 : left > 1000 ? 1000000 : (int)(left * 1000) + 1;
}

bool proxy_run(int front, int back, struct seen *seen, const struct proxy_opts *opts)
{
	static struct proxy p;
	double next = tool_now() + opts->interval;
	bool signalled = false;
	bool going = true;

	memset(&p, 0, sizeof(p));
	p.seen = seen;
	p.opts = opts;
	begin(&p, front, back);
	while (going && !signalled) {
		struct pollfd waits[WAYS + 1];

		for (size_t i = 0; i < WAYS; i++)
			waits[i] = (struct pollfd){
				.fd = p.ways[i].whole ? *p.ways[i].to : *p.ways[i].from,
				.events = p.ways[i].whole ? POLLOUT : POLLIN};
		waits[WAYS] = (struct pollfd){.fd = opts->signals, .events = POLLIN};
		if (poll(waits, WAYS + 1, until(&p, next)) < 0 && errno != EINTR)
			break;
		signalled = waits[WAYS].revents != 0;
		going = step_all(&p, waits);
		if (opts->interval > 0 && tool_now() >= next) {
			report(&p);
			next = tool_now() + opts->interval;
		}
	}
	report(&p);
	for (size_t i = 0; i < WAYS; i++)
		way_clear(&p.ways[i]);
	for (size_t i = 0; i < 4; i++)
		close_fd(&p.sockets[i]);
	return signalled;
}
