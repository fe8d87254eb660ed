/* SPDX-License-Identifier: BSD-3-Clause */
/* serve.c - "guestmem serve": pages of a memory image for guests of Firecracker. */
#include "serve.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "json.h"
#include "snapshot.h"
#include "sockets.h"
#include "systemd.h"
#include "tool.h"

#define READY 64
#define TICK_MS 100

static const struct tool_option options[] = {
	{"snapshot", 's', "FILE", "the image: saved, raw, an NBD URI; then differences on it"},
	{"format", 0, "FORMAT", "it is saved, raw or mapped-ram; otherwise that is seen"},
	{"working-set", 'w', "FILE", "bring these pages ahead of each guest (gm_wset(3))"},
	{"record", 'R', "FILE", "what guests touch is added to the working set in FILE"},
	{"fill", 'f', "WHAT", "what nobody touched: none (default), ranges, all"},
	{"rate", 'r', "SIZE", "at most so many bytes a second of the rest, for each guest"},
	{"control", 'c', "SOCKET", "statistics for whoever connects there"},
	{"keeper", 'k', "SOCKET", "of guestmem keep, which has all while this process is replaced"},
	{"at-end", 'e', "HOW", "on SIGTERM: complete (default), poison, handover"},
	{"guests", 'g', "N", "serve at most so many at once (default 1024); others wait"},
	{"uid", 'u', "UID", "serve only this user's monitors, root's and our own"},
	{"deadline", 'd', "SECONDS", "until a monitor has to have said all (default 5)"},
	{"kill", 0, NULL, "kill monitors whose guests cannot be served"},
	{"json", 'j', "FILE", "what happens, a line of JSON each; - is standard output"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_SNAPSHOT,
	OPT_FORMAT,
	OPT_WORKING_SET,
	OPT_RECORD,
	OPT_FILL,
	OPT_RATE,
	OPT_CONTROL,
	OPT_KEEPER,
	OPT_AT_END,
	OPT_GUESTS,
	OPT_UID,
	OPT_DEADLINE,
	OPT_KILL,
	OPT_JSON,
};

static const struct tool_usage usage = {
	.command = "serve",
	.operands = "[OPTION]... --snapshot FILE SOCKET",
	.about = "Brings the pages of guests that Firecracker restores with the memory backend "
		 "Uffd, which\n"
		 "connects to SOCKET; any number of guests of one image. Goes on until SIGTERM.",
	.options = options,
};

/* ---- options ---- */

static bool take_word(
	const char *option, const char *value, const char *const *words, uint32_t nr, uint32_t *ret)
{
	for (*ret = 0; *ret < nr; ++*ret) {
		if (strcmp(value, words[*ret]) == 0)
			return true;
	}
	return tool_bad_value(option, value, "is none of the words that --help names");
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	static const char *const fills[] = {"none", "ranges", "all"};
	static const char *const ends[] = {"complete", "poison", "handover"};
	struct serve_opts *o = ctx;

	switch (option) {
	case OPT_SNAPSHOT:
		if (o->nr_files == IMAGE_FILES_MAX)
			return tool_bad_value("snapshot", value, "is one file too many");
		o->files[o->nr_files++] = value;
		return true;
	case OPT_FORMAT:
		return memory_format(value, &o->format) ||
		       tool_bad_value("format", value, "is not saved, raw or mapped-ram");
	case OPT_FILL:
		return take_word("fill", value, fills, 3, &o->fill);
	case OPT_RATE:
		return tool_parse_size(value, &o->rate) ||
		       tool_bad_value("rate", value, "is no number of bytes");
	case OPT_AT_END:
		o->at_end_said = true;
		return take_word("at-end", value, ends, 3, &o->at_end);
	case OPT_GUESTS:
		return (tool_parse_number(value, 1000000, &o->guests_max) && o->guests_max) ||
		       tool_bad_value("guests", value, "is not a number from 1 to 1000000");
	case OPT_UID:
		return tool_parse_number(value, UINT32_MAX - 1, &o->uid) ||
		       tool_bad_value("uid", value, "is not the number of a user");
	case OPT_DEADLINE:
		return tool_parse_seconds(value, 0.001, 86400, &o->deadline) ||
		       tool_bad_value("deadline", value, "is no time");
	case OPT_KILL:
		o->kill = true;
		return true;
	default:
		*(option == OPT_CONTROL             ? &o->control
			: option == OPT_KEEPER      ? &o->keeper
			: option == OPT_WORKING_SET ? &o->working_set
			: option == OPT_RECORD      ? &o->record
						    : &o->json) = value;
		return true;
	}
}

static bool check(struct serve_opts *o)
{
	if (o->nr_files == 0) {
		tool_error("serve: --snapshot FILE is wanted (see guestmem serve --help)");
		return false;
	}
	if (o->working_set && o->fill == GM_PAGER_FILL_NONE)
		o->fill = GM_PAGER_FILL_RANGES;
	if (!o->at_end_said && o->keeper)
		o->at_end = SERVE_HANDOVER;
	if (o->at_end == SERVE_HANDOVER && !o->keeper)
		return tool_bad_value("at-end", "handover", "needs a --keeper to hand over to");
	return true;
}

/* ---- what happens ---- */

void serve_say(struct serve *s, const char *event, const struct record *guest, const char *fmt, ...)
{
	char text[768];
	va_list args;
	json_t *line;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (guest)
		tool_note("guest %u (process %d): %s", guest->number, guest->pid, text);
	else
		tool_note("%s", text);
	if (!s->events)
		return;
	line = json_pack("{s:s, s:f, s:o}", "event", event, "seconds", tool_now() - s->begun,
		"text", tool_json_text(text));
	if (guest) {
		json_object_set_new(line, "guest", json_integer(guest->number));
		json_object_set_new(line, "pid", json_integer(guest->pid));
		json_object_set_new(line, "memory", tool_json_number(record_bytes(guest)));
	}
	if (!tool_json_write(line, s->events, true))
		s->events = NULL;
}

bool serve_watch(struct serve *s, int fd, uint32_t events, struct serve_item *item)
{
	struct epoll_event event = {.events = events, .data.ptr = item};

	if (!item)
		return epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL) == 0;
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST)
		return true;
	tool_error("a descriptor cannot be waited for: %s", strerror(errno));
	return false;
}

static void on_signal(struct serve *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		/* Whoever signals a group and its leader means it once. */
		if (s->ending && tool_now() - s->ending_at < 1)
			continue;
		s->ending_at = tool_now();
		s->ending++;
		serve_say(s, "ending", NULL, "%s: %s", strsignal((int)info.ssi_signo),
			s->ending > 1 ? "what is not there is poisoned now"
				      : "no more guests are taken");
	}
	systemd_notify("STOPPING=1");
	if (s->listener >= 0)
		serve_watch(s, s->listener, 0, NULL);
}

static void dispatch(struct serve *s, const struct serve_item *item)
{
	switch (item->kind) {
	case SERVE_LISTENER:
		serve_accept(s);
		break;
	case SERVE_CONTROL:
		control_turn(s->control);
		break;
	case SERVE_CONNECTION:
		serve_connection_look(s, item->of);
		break;
	case SERVE_PAGER:
		serve_guest_step(s, item->of);
		break;
	case SERVE_PROCESS:
		serve_guest_died(s, item->of);
		break;
	case SERVE_SIGNAL:
		on_signal(s);
		break;
	case SERVE_KEEPER:
		serve_keeper_read(s);
		break;
	}
}

static bool must_tick(const struct serve *s)
{
	bool look = s->connections || s->ending || (s->opts.keeper && s->keeper < 0);

	for (const struct serve_guest *g = s->guests; g && !look; g = g->next)
		look = g->look_at > 0 || g->ended;
	return look;
}

static void tick(struct serve *s)
{
	double now = tool_now();

	serve_connections_tick(s, now);
	serve_guests_tick(s, now);
	serve_keeper_tick(s, now);
	/* More have waited than are taken at once. */
	if (s->listener >= 0 && s->keeper < 0 && !s->ending)
		serve_accept(s);
}

static bool loop(struct serve *s)
{
	double ticked = 0;
	bool done = false;

	while (!done) {
		struct epoll_event events[READY];
		int nr = epoll_wait(s->epoll, events, READY, must_tick(s) ? TICK_MS : -1);

		if (nr < 0 && errno != EINTR) {
			tool_error("epoll: %s", strerror(errno));
			return false;
		}
		for (int i = 0; i < nr; i++)
			dispatch(s, events[i].data.ptr);
		if (tool_now() - ticked >= TICK_MS / 1000.0) {
			ticked = tool_now();
			tick(s);
			done = s->ending && serve_guests_end(s);
		}
		serve_guests_sweep(s);
		serve_connections_sweep(s);
	}
	return true;
}

/* ---- begin and end ---- */

static bool open_signals(struct serve *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->signal_item = (struct serve_item){SERVE_SIGNAL, NULL};
	if (s->signals >= 0 && s->epoll >= 0)
		return serve_watch(s, s->signals, EPOLLIN, &s->signal_item);
	tool_error("signals cannot be waited for: %s", strerror(errno));
	return false;
}

/* A guest has half a dozen. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static bool open_listener(struct serve *s)
{
	s->listener_item = (struct serve_item){SERVE_LISTENER, NULL};
	if (s->listener < 0)
		s->listener = systemd_socket("");
	if (s->listener < 0 && !s->opts.socket) {
		tool_error("serve: SOCKET is wanted, as no service manager has opened one (see "
			   "guestmem serve --help)");
		s->misused = true;
		return false;
	}
	if (s->listener < 0) {
		s->listener = listen_on(s->opts.socket, SOCK_STREAM, 0);
		s->made_socket = s->listener >= 0 && !s->opts.keeper;
	}
	if (s->listener < 0)
		return false;
	return s->opts.keeper ? serve_keeper_hand_over(s)
			      : serve_watch(s, s->listener, EPOLLIN, &s->listener_item);
}

static bool open_control(struct serve *s)
{
	static const struct control_ops ops = {.json = serve_json, .metrics = serve_metrics};

	s->control_item = (struct serve_item){SERVE_CONTROL, NULL};
	return control_open(s->opts.control, &ops, s, &s->control) &&
	       (!s->control || serve_watch(s, control_fd(s->control), EPOLLIN, &s->control_item));
}

static bool open_image(struct serve *s)
{
	return image_open(&s->image, s->opts.files, s->opts.nr_files, s->opts.format) &&
	       serve_wset_begin(s);
}

static bool begin(struct serve *s)
{
	s->begun = tool_now();
	raise_limit();
	return open_signals(s) && open_image(s) && (!s->opts.keeper || serve_keeper_begin(s)) &&
	       open_listener(s) && open_control(s);
}

/* With the keeper all may go on; without it nobody must be able to come any more. */
static void end(struct serve *s)
{
	bool handover = s->opts.at_end == SERVE_HANDOVER && s->ending == 1;

	control_close(s->control);
	if (!handover && s->ending) {
		serve_keeper_drop(s, s->listener_id);
		for (struct serve_connection *c = s->connections; c; c = c->next)
			serve_keeper_drop(s, c->id);
	}
	if (s->listener >= 0)
		close(s->listener);
	if (s->opts.socket && s->ending && !handover)
		unlink(s->opts.socket);
	serve_connections_end(s);
	serve_guests_free(s);
	if (s->keeper >= 0)
		close(s->keeper);
	serve_wset_end(s);
	image_close(&s->image);
	if (s->epoll >= 0)
		close(s->epoll);
	if (s->signals >= 0)
		close(s->signals);
}

int cmd_serve(int argc, char **argv)
{
	static struct serve s;
	struct tool_output json = {0};
	int status;
	int first;
	bool well;

	s = (struct serve){
		.opts = {.guests_max = 1024, .uid = UINT64_MAX, .deadline = 5},
		.epoll = -1,
		.signals = -1,
		.listener = -1,
		.keeper = -1,
		.past = {.size = sizeof(s.past)},
	};
	first = tool_options(&usage, argc, argv, take_option, &s.opts, &status);
	if (first < 0)
		return status;
	if (argc - first > 1 || !check(&s.opts)) {
		if (argc - first > 1)
			tool_error("serve: one SOCKET is wanted (see guestmem serve --help)");
		return EXIT_USAGE;
	}
	s.opts.socket = argv[first];
	if (s.opts.json && !tool_output_open(&json, s.opts.json, true))
		return EXIT_FAILED;
	s.events = s.opts.json ? &json : NULL;
	well = begin(&s);
	if (!well && s.made_socket)
		unlink(s.opts.socket);
	if (well) {
		systemd_notify("READY=1");
		serve_say(&s, "ready", NULL, "guests are served");
		well = loop(&s);
	}
	end(&s);
	if (!tool_output_close(&json))
		well = false;
	return well ? EXIT_OK : s.misused ? EXIT_USAGE : EXIT_FAILED;
}
