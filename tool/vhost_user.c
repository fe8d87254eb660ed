/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_user.c - "guestmem vhost-user inspect": between a front-end and a back-end of vhost-user. */
#include "vhost_user.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "sockets.h"

static const struct tool_option options[] = {
	{"trace", 't', NULL, "show each message"},
	{"json", 'j', NULL, "a line of JSON for each message and report"},
	{"interval", 'i', "SECONDS",
		"show what is shared so often; otherwise when a front-end goes"},
	{"once", '1', NULL, "end with the first front-end"},
	{"control", 'c', "SOCKET", "instead: ask a device of ours that has this control socket"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_TRACE, OPT_JSON, OPT_INTERVAL, OPT_ONCE, OPT_CONTROL };

static const struct tool_usage usage = {
	.command = "vhost-user",
	.operands = "inspect [OPTION]... {FRONTEND BACKEND | --control SOCKET}",
	.about = "Listens on the socket FRONTEND, connects to BACKEND for each front-end that "
		 "comes,\n"
		 "passes all messages on unchanged, and shows what the front-end shares. SIGINT "
		 "ends.\n"
		 "With --control it asks a guestmem blk that runs, and nothing stands in between.",
	.options = options,
};

struct inspect {
	struct proxy_opts proxy;
	const char *control;
	bool once;
};

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct inspect *o = ctx;

	switch (option) {
	case OPT_TRACE:
		o->proxy.trace = true;
		return true;
	case OPT_JSON:
		o->proxy.json = true;
		return true;
	case OPT_INTERVAL:
		return tool_parse_seconds(value, 0.01, 86400, &o->proxy.interval) ||
		       tool_bad_value("interval", value, "is no time");
	case OPT_CONTROL:
		o->control = value;
		return true;
	default:
		o->once = true;
		return true;
	}
}

static int connect_back(const char *path)
{
	int fd = connect_to(path, SOCK_STREAM);

	if (fd < 0)
		tool_error("%s: cannot connect: %s", path, strerror(errno));
	return fd;
}

static int signal_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* One front-end after the other. */
static int serve(struct inspect *o, int listener, const char *back_path)
{
	static struct seen seen;
	bool ended = false;

	while (!ended) {
		struct pollfd waits[] = {{.fd = listener, .events = POLLIN},
			{.fd = o->proxy.signals, .events = POLLIN}};
		int front;
		int back;

		if (poll(waits, 2, -1) < 0 && errno != EINTR)
			return EXIT_FAILED;
		if (waits[1].revents)
			break;
		front = waits[0].revents ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (front < 0)
			continue;
		back = connect_back(back_path);
		if (back < 0) {
			close(front);
			if (o->once)
				return EXIT_FAILED;
			continue;
		}
		seen_init(&seen);
		ended = proxy_run(front, back, &seen, &o->proxy) || o->once;
		seen_free(&seen);
	}
	return EXIT_OK;
}

/* ---- a device that answers itself ---- */

/* What a daemon says of its connection; NULL after a message. */
static json_t *ask(const char *path)
{
	char *answer = control_ask(path, "json");
	json_t *json;
	json_t *report;

	if (!answer)
		return NULL;
	json = json_loads(answer, 0, NULL);
	free(answer);
	if (!json_is_object(json_object_get(json, "connection"))) {
		tool_error("%s: whoever answers there is no device of vhost-user", path);
		json_decref(json);
		return NULL;
	}
	report = json_pack("{s:s}", "event", "shared");
	json_object_update_missing(report, json_object_get(json, "connection"));
	json_decref(json);
	return report;
}

static int ask_again_and_again(const struct inspect *o)
{
	struct pollfd signals = {.fd = o->proxy.signals, .events = POLLIN};

	do {
		json_t *report = ask(o->control);

		if (!report)
			return EXIT_FAILED;
		show_report(report, o->proxy.json);
		json_decref(report);
		if (o->once || o->proxy.interval <= 0)
			break;
	} while (poll(&signals, 1, (int)(o->proxy.interval * 1000)) == 0);
	return tool_flush() ? EXIT_OK : EXIT_FAILED;
}

/* ---- */

static bool check(const struct inspect *o, int nr_operands)
{
	if (o->control && o->proxy.trace) {
		tool_error(
			"vhost-user: --trace shows messages that pass, and by --control none do");
		return false;
	}
	if (nr_operands == (o->control ? 0 : 2))
		return true;
	tool_error("vhost-user: inspect and two sockets, or --control, are wanted (see guestmem "
		   "vhost-user --help)");
	return false;
}

static int stand_between(struct inspect *o, char **paths)
{
	int listener = listen_on(paths[0], SOCK_STREAM, 0);
	int status;

	if (listener < 0)
		return EXIT_FAILED;
	status = serve(o, listener, paths[1]);
	close(listener);
	unlink(paths[0]);
	return status;
}

int cmd_vhost_user(int argc, char **argv)
{
	struct inspect o = {.proxy = {.signals = -1}};
	int status = EXIT_OK;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);

	if (first < 0)
		return status;
	if (argc == first || strcmp(argv[first], "inspect") != 0) {
		tool_error("vhost-user: inspect is wanted (see guestmem vhost-user --help)");
		return EXIT_USAGE;
	}
	if (!check(&o, argc - first - 1))
		return EXIT_USAGE;
	o.proxy.signals = signal_fd();
	if (o.proxy.signals < 0) {
		tool_error("signals cannot be waited for: %s", strerror(errno));
		return EXIT_FAILED;
	}
	status = o.control ? ask_again_and_again(&o) : stand_between(&o, argv + first + 1);
	close(o.proxy.signals);
	return status;
}
