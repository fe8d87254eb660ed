/* SPDX-License-Identifier: BSD-3-Clause */
/* blk.c - "guestmem blk": a disk for the guest of a VMM that speaks vhost-user. */
#include "blk.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <jansson.h>

#include <guestmem/guard.h>

#include "sockets.h"
#include "systemd.h"
#include "tool.h"

/* Features of rings and of the transport, VIRTIO 1.2 section 6. */
#define F_INDIRECT_DESC (UINT64_C(1) << 28)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)
#define F_ACCESS_PLATFORM (UINT64_C(1) << 33)
#define F_RING_PACKED (UINT64_C(1) << 34)

static const struct tool_option options[] = {
	{"socket-path", 's', "PATH", "listen there for front-ends, one after the other"},
	{"fd", 0, "N", "a connected socket that was inherited; ends with it"},
	{"blk-file", 'b', "FILE", "raw image, block device, or URI of an NBD export"},
	{"read-only", 'r', NULL, "the guest cannot write"},
	{"queues", 'q', "N", "1 to 64 (default 4)"},
	{"queue-size", 0, "N", "entries of a queue at most (default 1024)"},
	{"direct", 'd', NULL, "past the page cache (O_DIRECT)"},
	{"block-size", 0, "BYTES", "logical block that the guest is told (default: the disk's)"},
	{"serial", 0, "TEXT", "what the guest reads as the disk's name, up to 20 bytes"},
	{"no-discard", 0, NULL, "offer neither discard nor write-zeroes"},
	{"no-uring", 0, NULL, "plain system calls instead of io_uring"},
	{"control", 'c', "SOCKET", "figures for whoever connects there"},
	{"poll", 0, "USEC", "look at a queue for so long before its kick is waited for"},
	{"postcopy", 0, NULL, "offer post-copy migration (then no memory slots)"},
	{"print-capabilities", 0, NULL, "print what this back-end can as JSON, and exit"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_SOCKET,
	OPT_FD,
	OPT_FILE,
	OPT_READ_ONLY,
	OPT_QUEUES,
	OPT_QUEUE_SIZE,
	OPT_DIRECT,
	OPT_BLOCK,
	OPT_SERIAL,
	OPT_NO_DISCARD,
	OPT_NO_URING,
	OPT_CONTROL,
	OPT_POLL,
	OPT_POSTCOPY,
	OPT_CAPABILITIES,
};

static const struct tool_usage usage = {
	.command = "blk",
	.operands = "[OPTION]... --blk-file FILE {--socket-path PATH | --fd N}",
	.about = "A disk for the guest of a VMM, as a vhost-user back-end (vhost-user-blk).\n"
		 "Goes on until SIGTERM, or until the socket of --fd is closed.",
	.options = options,
};

static bool take_number(
	const char *name, const char *value, uint64_t min, uint64_t max, uint32_t *ret)
{
	uint64_t number;

	if (!tool_parse_number(value, max, &number) || number < min)
		return tool_bad_value(name, value, "is out of bounds");
	*ret = (uint32_t)number;
	return true;
}

static bool take_fd(const char *value, int *ret)
{
	uint32_t fd = 0;

	if (!take_number("fd", value, 0, INT32_MAX, &fd))
		return false;
	*ret = (int)fd;
	return true;
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct blk_opts *o = ctx;

	switch (option) {
	case OPT_SOCKET:
		o->socket = value;
		return true;
	case OPT_FD:
		return take_fd(value, &o->fd);
	case OPT_FILE:
		o->file = value;
		return true;
	case OPT_CONTROL:
		o->control = value;
		return true;
	case OPT_SERIAL:
		o->serial = value;
		return strlen(value) <= 20 ||
		       tool_bad_value("serial", value, "is longer than 20 bytes");
	case OPT_QUEUES:
		return take_number("queues", value, 1, BLK_QUEUES_MAX, &o->queues);
	case OPT_QUEUE_SIZE:
		return take_number("queue-size", value, 2, GM_VIRTQ_NR_MAX, &o->queue_size);
	case OPT_BLOCK:
		return (take_number("block-size", value, 512, 65536, &o->block) &&
			       (o->block & (o->block - 1)) == 0) ||
		       tool_bad_value("block-size", value, "is no power of two from 512 to 65536");
	case OPT_POLL:
		return take_number("poll", value, 0, 1000000, &o->poll_us);
	default:
		*(option == OPT_READ_ONLY            ? &o->read_only
			: option == OPT_DIRECT       ? &o->direct
			: option == OPT_NO_DISCARD   ? &o->no_discard
			: option == OPT_NO_URING     ? &o->plain
			: option == OPT_CAPABILITIES ? &o->capabilities
						     : &o->postcopy) = true;
		return true;
	}
}

static bool check(const struct blk_opts *o)
{
	if (!o->file) {
		tool_error("blk: --blk-file FILE is wanted (see guestmem blk --help)");
		return false;
	}
	if (blk_is_export(o->file) && (o->direct || o->plain || o->block)) {
		tool_error("blk: --direct, --no-uring and --block-size are for files; of an export "
			   "its server decides");
		return false;
	}
	if ((o->fd >= 0) + (o->socket != NULL) > 1) {
		tool_error("blk: --socket-path or --fd, not both");
		return false;
	}
	return true;
}

/* What management software reads before it starts one (a convention of vhost-user back-ends). */
static int print_capabilities(void)
{
	json_t *json =
		json_pack("{s:s, s:[s,s]}", "type", "block", "features", "read-only", "blk-file");
	char *text = json_dumps(json, JSON_INDENT(2));

	json_decref(json);
	if (!text)
		return EXIT_FAILED;
	puts(text);
	free(text);
	return EXIT_OK;
}

/* ---- the device ---- */

static bool any_runs(const struct blk *b)
{
	for (uint32_t i = 0; i < b->opts.queues; i++) {
		if (b->queues[i].runs)
			return true;
	}
	return false;
}

static int on_queue_start(void *ctx, const struct gm_vhost_queue *queue)
{
	struct blk *b = ctx;
	int rc;

	if (!any_runs(b) && !blk_lock(b))
		return -EBUSY;
	rc = blk_queue_start(&b->queues[queue->index], queue);
	if (!any_runs(b))
		blk_unlock(b);
	return rc;
}

static void on_queue_stop(void *ctx, uint32_t index, bool suspend)
{
	struct blk *b = ctx;

	blk_queue_stop(&b->queues[index], suspend);
	if (!any_runs(b))
		blk_unlock(b);
}

static void on_queue_kick(void *ctx, uint32_t index)
{
	struct blk *b = ctx;

	blk_queue_look(&b->queues[index]);
}

static void on_translated(void *ctx)
{
	struct blk *b = ctx;

	for (uint32_t i = 0; i < b->opts.queues; i++)
		blk_queue_look(&b->queues[i]);
}

static int on_drain(void *ctx)
{
	struct blk *b = ctx;
	int rc = 0;

	for (uint32_t i = 0; i < b->opts.queues && rc == 0; i++)
		rc = blk_queue_let_go(&b->queues[i]);
	return rc;
}

static int on_get_config(void *ctx, uint32_t off, void *buf, uint32_t len)
{
	const struct blk *b = ctx;

	gm_virtio_blk_config_read(b->device, off, buf, len);
	return 0;
}

static int on_set_config(void *ctx, uint32_t off, const void *buf, uint32_t len, uint32_t flags)
{
	const struct blk *b = ctx;

	(void)flags;
	return gm_virtio_blk_config_write(b->device, off, buf, len);
}

static int on_features(void *ctx, uint64_t features)
{
	const struct blk *b = ctx;
	struct gm_error err = {0};
	int rc = gm_virtio_blk_accept(b->device, features, &err);

	if (rc < 0)
		tool_error("features: %s", err.text);
	return rc;
}

static void on_ended(void *ctx, int rc, const struct gm_error *err)
{
	struct blk *b = ctx;

	if (b->ending)
		return;
	if (rc != -EPIPE)
		tool_error(
			"the front-end's connection is ended: %s", err ? err->text : strerror(-rc));
	if (b->opts.fd >= 0) {
		b->ending = true;
		b->failed = rc != -EPIPE;
	}
}

static const struct gm_vhost_backend_ops ops = {
	.size = sizeof(ops),
	.queue_start = on_queue_start,
	.queue_stop = on_queue_stop,
	.queue_kick = on_queue_kick,
	.get_config = on_get_config,
	.set_config = on_set_config,
	.translated = on_translated,
	.drain = on_drain,
	.features = on_features,
};

static bool make_device(struct blk *b)
{
	const struct gm_virtio_blk_opts device = {
		.size = sizeof(device),
		.disk = b->disk,
		.serial = b->opts.serial,
		.flags = (b->opts.read_only ? GM_VIRTIO_BLK_READ_ONLY : 0) |
			 (b->opts.no_discard
					 ? GM_VIRTIO_BLK_NO_DISCARD | GM_VIRTIO_BLK_NO_WRITE_ZEROES
					 : 0),
		.nr_queues = b->opts.queues,
	};
	struct gm_vhost_backend_opts backend = {
		.size = sizeof(backend),
		.ops = &ops,
		.ctx = b,
		.queues = b->opts.queues,
		.queue_size = b->opts.queue_size,
		.flags = GM_VHOST_BACKEND_SUSPEND |
			 (b->opts.postcopy ? GM_VHOST_BACKEND_POSTCOPY : 0),
		.name = "blk",
	};
	struct gm_error err = {0};

	if (gm_virtio_blk_create(&device, &b->device, &err) < 0) {
		tool_error("%s: %s", b->opts.file, err.text);
		return false;
	}
	backend.features = gm_virtio_blk_features(b->device) | F_INDIRECT_DESC | F_EVENT_IDX |
			   F_VERSION_1 | F_ACCESS_PLATFORM | F_RING_PACKED;
	if (gm_vhost_backend_create(&backend, &b->backend, &err) < 0) {
		tool_error("%s", err.text);
		return false;
	}
	for (uint32_t i = 0; i < b->opts.queues; i++) {
		if (!blk_queue_prepare(b, i))
			return false;
	}
	return true;
}

/* ---- the loop ---- */

/* The front-end is told that the disk has another size; one that cannot be told sees it when it connects again. */
static void look_at_size(struct blk *b)
{
	const struct gm_vhost_msg msg = {.request = GM_VHOST_BACKEND_CONFIG_CHANGE};
	struct gm_error err = {0};
	int rc = gm_virtio_blk_resize(b->device);

	if (rc < 0)
		tool_error("%s: %s", b->opts.file, strerror(-rc));
	if (rc <= 0)
		return;
	tool_note("%s has another size", b->opts.file);
	rc = gm_vhost_backend_request(b->backend, &msg, NULL, 0, NULL, NULL, &err);
	if (rc < 0 && rc != -ENOTCONN)
		tool_note("the front-end is not told: %s", err.text);
}

static void on_signal(void *ctx)
{
	struct blk *b = ctx;
	struct signalfd_siginfo info;

	while (read(b->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			look_at_size(b);
		else
			b->ending = true;
	}
}

bool blk_is_ending(struct blk *b)
{
	on_signal(b);
	return b->ending;
}

static void on_timer(void *ctx)
{
	struct blk *b = ctx;
	uint64_t count;

	(void)!read(b->timer, &count, sizeof(count));
	look_at_size(b);
}

/* Blocked before threads are made, so that they are. */
static bool open_signals(struct blk *b)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	b->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (b->signals < 0)
		tool_error("signalfd: %s", strerror(errno));
	return b->signals >= 0;
}

/* A file grows without telling anybody. */
static bool open_timer(struct blk *b)
{
	const struct itimerspec each = {{1, 0}, {1, 0}};

	b->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (b->timer < 0 || timerfd_settime(b->timer, 0, &each, NULL)) {
		tool_error("timerfd: %s", strerror(errno));
		return false;
	}
	return true;
}

static bool open_door(struct blk *b)
{
	struct gm_vhost_door door = {
		.size = sizeof(door), .backend = b->backend, .ended = on_ended, .ctx = b};
	struct gm_error err = {0};

	if (b->opts.fd >= 0) {
		door.socket_plus = b->opts.fd + 1;
	} else {
		b->listener = systemd_socket("");
		/* Whose socket it is removes it. */
		b->made_socket = b->listener < 0;
		if (b->listener < 0 && !b->opts.socket) {
			tool_error("blk: --socket-path PATH or --fd N is wanted (see guestmem blk "
				   "--help)");
			return false;
		}
		if (b->listener < 0)
			b->listener = listen_on(b->opts.socket, SOCK_STREAM, 0);
		if (b->listener < 0)
			return false;
		door.listener_plus = b->listener + 1;
	}
	if (gm_vhost_server_create(&b->server, &err) < 0 ||
		gm_vhost_server_add(b->server, &door, NULL, &err) < 0 ||
		gm_vhost_server_watch(b->server, b->signals, on_signal, b) < 0 ||
		gm_vhost_server_watch(b->server, b->timer, on_timer, b) < 0) {
		tool_error("%s", err.text[0] ? err.text : "descriptors cannot be waited for");
		return false;
	}
	return true;
}

static bool loop(struct blk *b)
{
	struct gm_error err = {0};

	systemd_notify("READY=1");
	while (!b->ending) {
		int rc = gm_vhost_server_turn(b->server, -1, &err);

		if (rc < 0 && rc != -EINTR) {
			tool_error("%s", err.text);
			return false;
		}
	}
	systemd_notify("STOPPING=1");
	return !b->failed;
}

static void close_all(struct blk *b)
{
	blk_control_end(b);
	gm_vhost_server_destroy(b->server);
	gm_vhost_backend_destroy(b->backend);
	for (uint32_t i = 0; i < b->opts.queues; i++)
		blk_queue_forget(&b->queues[i]);
	gm_virtio_blk_destroy(b->device);
	gm_disk_destroy(b->disk);
	if (b->listener >= 0)
		close(b->listener);
	if (b->listener >= 0 && b->made_socket)
		unlink(b->opts.socket);
	if (b->file >= 0)
		close(b->file);
	if (b->signals >= 0)
		close(b->signals);
	if (b->timer >= 0)
		close(b->timer);
}

int cmd_blk(int argc, char **argv)
{
	static struct blk b;
	bool ok;
	int status;
	int first;
	int rc;

	b = (struct blk){.opts = {.fd = -1, .queues = 4},
		.file = -1,
		.listener = -1,
		.signals = -1,
		.timer = -1};
	first = tool_options(&usage, argc, argv, take_option, &b.opts, &status);
	if (first < 0)
		return status;
	if (b.opts.capabilities)
		return print_capabilities();
	if (first < argc) {
		tool_error("blk: %s: what is this? (see guestmem blk --help)", argv[first]);
		return EXIT_USAGE;
	}
	if (!check(&b.opts))
		return EXIT_USAGE;
	/* Files that a front-end can cut short are taken only with it. */
	rc = gm_guard_install();
	if (rc < 0) {
		tool_error("the fault guard: %s", strerror(-rc));
		return EXIT_FAILED;
	}
	ok = open_signals(&b) && open_timer(&b) && blk_open_disk(&b) && make_device(&b) &&
	     open_door(&b) && blk_control_begin(&b) && loop(&b);
	close_all(&b);
	return ok ? EXIT_OK : EXIT_FAILED;
}
