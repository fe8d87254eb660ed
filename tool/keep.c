/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * keep.c - "guestmem keep": holds what a page-fault handler must not take with it when it dies.
 *
 * It reads nothing that a guest or a monitor has sent: connections are handed on as they are, and records of guests are
 * those that guestmem serve has written.
 */
#include "keep.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <guestmem/pager_run.h>

#include "record.h"
#include "sockets.h"
#include "systemd.h"
#include "tool.h"

#define READY 64
#define LOOK_EVERY 0.5
#define POISON_MS 30000

enum then { THEN_POISON, THEN_KILL, THEN_HOLD };

static const struct tool_option options[] = {
	{"wait", 'w', "SECONDS", "for another serve, when one has died (default 10)"},
	{"then", 't', "WHAT", "with its guests: poison (default), kill, or hold"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_WAIT, OPT_THEN };

static const struct tool_usage usage = {
	.command = "keep",
	.operands = "[OPTION]... SOCKET",
	.about = "Holds the userfaultfds and page states of the guests of guestmem serve --keeper "
		 "SOCKET,\n"
		 "so that another serve can go on where one has died. Goes on until SIGTERM.",
	.options = options,
};

/* What begins with its kind is waited for. */
enum kind { ITEM, SERVER, SOCKET, SIGNALS };

struct held {
	enum kind what;
	struct held *next;
	uint64_t id;
	uint32_t kind; /* enum keep_kind */
	uint32_t nr;
	int fds[KEEP_FDS]; /* guest: userfaultfd, record, pidfd */
	double look_at;
	bool gone;
};

struct keep {
	const char *path;
	double wait;
	uint32_t then;
	int epoll;
	int socket;
	int signals;
	int server; /* -1: none */
	enum kind server_kind;
	enum kind socket_kind;
	enum kind signals_kind;
	struct held *held;
	double give_up; /* 0: not yet */
	bool accepting;
	bool ending;
};

static bool watch(const struct keep *k, int fd, void *what)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

	return epoll_ctl(k->epoll, what ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event) == 0;
}

/* ---- what is held ---- */

static size_t count(const struct keep *k, uint32_t kind)
{
	size_t nr = 0;

	for (const struct held *h = k->held; h; h = h->next)
		nr += h->kind == kind && !h->gone;
	return nr;
}

/* Others have duplicates: closing is not the end of events. */
static void release(const struct keep *k, struct held *h)
{
	for (uint32_t i = 0; i < h->nr; i++) {
		watch(k, h->fds[i], NULL);
		close(h->fds[i]);
	}
	h->nr = 0;
	h->gone = true;
}

static void sweep(struct keep *k)
{
	struct held **at = &k->held;

	while (*at) {
		struct held *h = *at;

		if (!h->gone) {
			at = &h->next;
			continue;
		}
		*at = h->next;
		free(h);
	}
}

static struct held *find(const struct keep *k, uint64_t id)
{
	struct held *h = k->held;

	while (h && (h->id != id || h->gone))
		h = h->next;
	return h;
}

/* A guest takes the place of its connection in one step: there is no moment in which neither is held. */
static struct held *hold(struct keep *k, const struct keep_packet *packet, const int *fds)
{
	struct held *before = find(k, packet->id);
	struct held *h = tool_alloc(1, sizeof(*h));

	*h = (struct held){.what = ITEM,
		.next = k->held,
		.id = packet->id,
		.kind = packet->kind,
		.nr = packet->nr};
	memcpy(h->fds, fds, packet->nr * sizeof(int));
	k->held = h;
	if (before)
		release(k, before);
	if (h->kind == KEEP_GUEST && h->nr > 2)
		watch(k, h->fds[2], h);
	else if (h->kind == KEEP_GUEST)
		h->look_at = tool_now() + LOOK_EVERY;
	return h;
}

static bool give(const struct keep *k, const struct held *h)
{
	const struct keep_packet packet = {
		.op = KEEP_ITEM, .id = h->id, .kind = h->kind, .nr = h->nr};

	return k->server >= 0 && keep_send(k->server, &packet, h->fds);
}

/* ---- connections of monitors ---- */

/* Only while there is somebody to hand them to: until then they wait where they are. */
static void set_accepting(struct keep *k)
{
	bool want = k->server >= 0 && count(k, KEEP_CONNECTION) < KEEP_WAITING_MAX;

	if (want == k->accepting)
		return;
	k->accepting = want;
	for (struct held *h = k->held; h; h = h->next) {
		if (h->kind == KEEP_LISTENER && !h->gone)
			watch(k, h->fds[0], want ? h : NULL);
	}
}

/* ---- serve ---- */

static void server_left(struct keep *k)
{
	watch(k, k->server, NULL);
	close(k->server);
	k->server = -1;
	if (k->held)
		k->give_up = tool_now() + k->wait;
	if (k->held && !k->ending)
		tool_note("who served %zu guests has gone", count(k, KEEP_GUEST));
}

static void accept_some(struct keep *k, struct held *listener)
{
	while (k->server >= 0 && count(k, KEEP_CONNECTION) < KEEP_WAITING_MAX) {
		struct keep_packet packet = {.id = keep_number(), .kind = KEEP_CONNECTION, .nr = 1};
		int fd = accept4(listener->fds[0], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		/* Who does not take it is let go: it comes back, and is given everything. */
		if (!give(k, hold(k, &packet, &fd)))
			server_left(k);
	}
}

static void give_all(struct keep *k)
{
	const struct keep_packet end = {.op = KEEP_END};
	bool well = true;

	for (const struct held *h = k->held; h && well; h = h->next)
		well = h->gone || give(k, h);
	if (!well || !keep_send(k->server, &end, NULL))
		server_left(k);
}

static bool is_sane(const struct keep_packet *packet)
{
	return packet->kind == KEEP_GUEST
		       ? packet->nr >= 2
		       : (packet->kind == KEEP_LISTENER || packet->kind == KEEP_CONNECTION) &&
				 packet->nr == 1;
}

static void server_says(struct keep *k)
{
	struct keep_packet packet = {0};
	int fds[KEEP_FDS];
	struct held *h;

	if (!keep_recv(k->server, &packet, fds)) {
		server_left(k);
		return;
	}
	if (packet.op == KEEP_ITEM && is_sane(&packet)) {
		h = hold(k, &packet, fds);
		if (h->kind == KEEP_LISTENER && k->accepting)
			watch(k, h->fds[0], h);
		return;
	}
	keep_close(&packet, fds);
	if (packet.op == KEEP_HELLO)
		give_all(k);
	h = packet.op == KEEP_DROP ? find(k, packet.id) : NULL;
	if (h)
		release(k, h);
}

/* What the one before has said is heard first, its end too. */
static void hear_out(struct keep *k)
{
	struct pollfd p = {.fd = k->server, .events = POLLIN};

	while (k->server >= 0 && poll(&p, 1, 0) == 1)
		server_says(k);
}

static void server_comes(struct keep *k)
{
	const struct timeval second = {.tv_sec = 1};
	const struct keep_packet busy = {.op = KEEP_BUSY};
	int fd = accept4(k->socket, NULL, NULL, SOCK_CLOEXEC);
	socklen_t len = sizeof(struct ucred);
	struct ucred peer;

	if (fd < 0)
		return;
	hear_out(k);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) ||
		(peer.uid != 0 && peer.uid != geteuid())) {
		tool_error("user %u is not allowed to serve what is kept here", peer.uid);
		close(fd);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second));
	if (k->server >= 0 || !watch(k, fd, &k->server_kind)) {
		keep_send(fd, &busy, NULL);
		close(fd);
		return;
	}
	k->server = fd;
	k->give_up = 0;
}

/* ---- guests that nobody serves ---- */

static int cannot_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	(void)ctx;
	(void)offset;
	(void)buf;
	(void)len;
	(void)err;
	return -EIO;
}

/* Who touches what was not brought gets SIGBUS, and what was given back is zeros, as it should be. */
static bool poison(const struct held *h, const struct record *record)
{
	const struct gm_pager_opts opts = {.size = sizeof(opts)};
	const struct gm_source_ops ops = {.size = sizeof(ops),
		.name = "nobody",
		.len = record->image_len,
		.read = cannot_read};
	struct gm_source *source;
	struct gm_pager *pager;
	struct gm_error err;
	bool well;

	if (gm_source_create(&ops, &source, &err)) {
		tool_error("guest %u: %s", record->number, err.text);
		return false;
	}
	well = record_pager(record, h->fds[1], h->fds[0], source, &opts, true, &pager, &err);
	if (well) {
		gm_pager_step(pager, 0);
		well = gm_pager_stop(pager, GM_PAGER_POISON, POISON_MS, &err) == 0;
		if (!well)
			gm_pager_stop(pager, GM_PAGER_HANDOVER, 0, NULL);
		gm_pager_destroy(pager, NULL);
	}
	if (!well)
		tool_error("guest %u: it cannot be poisoned, and stands still: %s", record->number,
			err.text);
	gm_source_destroy(source);
	return well;
}

static void give_up_one(struct keep *k, struct held *h)
{
	struct record record;

	if (!record_read(h->fds[1], &record))
		return;
	if (k->then == THEN_KILL && h->nr > 2 && !k->ending) {
		tool_note("guest %u (process %d) is killed, as nobody serves it", record.number,
			record.pid);
		syscall(SYS_pidfd_send_signal, h->fds[2], SIGKILL, NULL, 0);
		return; /* its end is seen by the pidfd; until then nothing is closed */
	}
	if (poison(h, &record)) {
		tool_note("guest %u (process %d): what it has not got is poisoned, as nobody "
			  "serves it",
			record.number, record.pid);
		release(k, h);
	}
}

static void give_up(struct keep *k)
{
	k->give_up = 0;
	for (struct held *h = k->held; h; h = h->next) {
		if (h->kind == KEEP_GUEST && !h->gone)
			give_up_one(k, h);
		else if (h->kind != KEEP_GUEST)
			release(k, h);
	}
}

/* Its process has ended; its memory perhaps not. */
static void look_again(struct keep *k, struct held *h)
{
	struct record record;

	if (h->gone)
		return;
	if (record_read(h->fds[1], &record) && record_is_gone(&record, h->fds[0])) {
		release(k, h);
		return;
	}
	if (h->nr > 2)
		watch(k, h->fds[2], NULL);
	h->look_at = tool_now() + LOOK_EVERY;
}

/* ---- the loop ---- */

static void dispatch(struct keep *k, void *what)
{
	struct held *h = what;

	switch (*(enum kind *)what) {
	case ITEM:
		if (h->gone)
			break;
		if (h->kind == KEEP_LISTENER)
			accept_some(k, h);
		else
			look_again(k, h);
		break;
	case SERVER:
		if (k->server >= 0)
			server_says(k);
		break;
	case SOCKET:
		server_comes(k);
		break;
	case SIGNALS:
		k->ending = true;
		break;
	}
}

/* Milliseconds until something is due, -1: nothing is. */
static int due(const struct keep *k)
{
	double at = k->give_up > 0 && k->then != THEN_HOLD ? k->give_up : 1e300;
	double left;

	for (const struct held *h = k->held; h; h = h->next)
		at = h->look_at > 0 && h->look_at < at ? h->look_at : at;
	left = at - tool_now();
	return at >= 1e300 ? -1 : left <= 0 ? 0 : left > 1000 ? 1000000 : (int)(left * 1e3) + 1;
}

static bool loop(struct keep *k)
{
	while (!k->ending) {
		struct epoll_event events[READY];
		int nr = epoll_wait(k->epoll, events, READY, due(k));

		if (nr < 0 && errno != EINTR) {
			tool_error("epoll: %s", strerror(errno));
			return false;
		}
		for (int i = 0; i < nr; i++)
			dispatch(k, events[i].data.ptr);
		for (struct held *h = k->held; h; h = h->next) {
			if (h->look_at > 0 && tool_now() >= h->look_at)
				look_again(k, h);
		}
		if (k->give_up > 0 && tool_now() >= k->give_up && k->then != THEN_HOLD)
			give_up(k);
		set_accepting(k);
		sweep(k);
	}
	return true;
}

/* ---- begin and end ---- */

static bool take_option(void *ctx, size_t option, const char *value)
{
	static const char *const words[] = {"poison", "kill", "hold"};
	struct keep *k = ctx;

	if (option == OPT_WAIT)
		return tool_parse_seconds(value, 0, 86400, &k->wait) ||
		       tool_bad_value("wait", value, "is no time");
	for (k->then = 0; k->then < 3; k->then++) {
		if (strcmp(value, words[k->then]) == 0)
			return true;
	}
	return tool_bad_value("then", value, "is not poison, kill or hold");
}

static bool begin(struct keep *k)
{
	struct rlimit limit;
	sigset_t set;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	k->socket = systemd_socket("");
	/* Whose socket it is removes it. */
	if (k->socket >= 0)
		k->path = NULL;
	if (k->socket < 0 && k->path)
		k->socket = listen_on(k->path, SOCK_SEQPACKET, 0);
	else if (k->socket < 0)
		tool_error("keep: SOCKET is wanted, as no service manager has opened one (see "
			   "guestmem keep --help)");
	if (k->socket < 0)
		return false;
	if (k->epoll >= 0 && k->signals >= 0 && watch(k, k->socket, &k->socket_kind) &&
		watch(k, k->signals, &k->signals_kind))
		return true;
	tool_error("nothing can be waited for: %s", strerror(errno));
	return false;
}

/* If serve is there it has its own descriptors; else nobody will ever bring what is absent. */
static void end(struct keep *k)
{
	systemd_notify("STOPPING=1");
	hear_out(k);
	if (k->server < 0)
		give_up(k);
	else
		close(k->server);
	while (k->held) {
		struct held *h = k->held;

		k->held = h->next;
		release(k, h);
		free(h);
	}
	close(k->socket);
	close(k->signals);
	close(k->epoll);
	if (k->path)
		unlink(k->path);
}

int cmd_keep(int argc, char **argv)
{
	struct keep k = {
		.wait = 10,
		.server = -1,
		.server_kind = SERVER,
		.socket_kind = SOCKET,
		.signals_kind = SIGNALS,
	};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &k, &status);
	bool well;

	if (first < 0)
		return status;
	if (argc - first > 1) {
		tool_error("keep: one SOCKET is wanted (see guestmem keep --help)");
		return EXIT_USAGE;
	}
	k.path = argv[first];
	if (!begin(&k))
		return k.path || k.socket >= 0 ? EXIT_FAILED : EXIT_USAGE;
	systemd_notify("READY=1");
	tool_note("ready: guests of guestmem serve are kept");
	well = loop(&k);
	end(&k);
	return well ? EXIT_OK : EXIT_FAILED;
}
