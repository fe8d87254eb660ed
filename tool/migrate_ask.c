/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_ask.c - a process with a control socket is asked to move its guest, and says how it gets on. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "json.h"
#include "migrate.h"

#define LINE_MAX ((size_t)1 << 20)

struct follow {
	const struct migrate_opts *o;
	struct tool_output json;
	int fd;
	int signals;
	char *text; /* what was read, and is no whole line yet */
	size_t len;
	bool mute; /* what was to be shown could not be written */
	bool answered;
	bool begun; /* the answer was no error */
	int asked;  /* the signal by which it was asked to cancel */
	int status; /* -1: it goes on */
};

/* ---- what is said ---- */

static double real_of(const json_t *json, const char *name)
{
	return json_number_value(json_object_get(json, name));
}

static const char *bytes_of(const json_t *json, const char *name, char buf[TOOL_UNIT_CAP])
{
	return tool_bytes((uint64_t)json_integer_value(json_object_get(json, name)), buf);
}

static const char *text_of(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	return text ? text : "";
}

static void show_progress(const json_t *e)
{
	const json_t *downtime = json_object_get(e, "expected_downtime");
	const json_t *end = json_object_get(e, "expected_end");
	char a[4][TOOL_UNIT_CAP];

	printf("%8.3f s  %s", real_of(e, "seconds"), text_of(e, "state"));
	if (real_of(e, "round") > 0)
		printf(" %lld", (long long)json_integer_value(json_object_get(e, "round")));
	printf(": %s sent, %s left, %s/s", bytes_of(e, "sent", a[0]), bytes_of(e, "left", a[1]),
		bytes_of(e, "rate", a[2]));
	if (real_of(e, "dirty_rate") > 0)
		printf(", %s/s written anew", bytes_of(e, "dirty_rate", a[3]));
	if (json_is_number(downtime))
		printf(", would stand still %.3f s", json_number_value(downtime));
	if (json_is_number(end))
		printf(", there in %.1f s", json_number_value(end));
	if (real_of(e, "throttle") > 0)
		printf(", throttled by %.0f %%", real_of(e, "throttle"));
	putchar('\n');
}

static void show(struct follow *f, json_t *e)
{
	const char *event = text_of(e, "event");

	/* What cannot be written is told, once, and no reason to say that it was not begun. */
	if (f->o->json) {
		if (!f->mute)
			f->mute = !tool_json_write(json_incref(e), &f->json, true);
		return;
	}
	if (f->o->quiet)
		return;
	if (strcmp(event, "progress") == 0 || strcmp(event, "round") == 0)
		show_progress(e);
	else if (strcmp(event, "state") == 0)
		printf("%8.3f s  %s\n", real_of(e, "seconds"), text_of(e, "state"));
	else if (strcmp(event, "pages") == 0)
		tool_error("migrate: %lld bytes from 0x%llx on are lost",
			(long long)json_integer_value(json_object_get(e, "length")),
			(unsigned long long)json_integer_value(json_object_get(e, "gpa")));
	if (fflush(stdout) == EOF)
		tool_stdout_failed(errno);
}

/* ---- the end of it ---- */

static uint32_t state_of(const json_t *e)
{
	for (uint32_t state = GM_MIGRATE_IS_IDLE; state <= GM_MIGRATE_IS_GIVEN_UP; state++) {
		if (strcmp(text_of(e, "state"), gm_migrate_state_name(state)) == 0)
			return state;
	}
	return GM_MIGRATE_IS_IDLE;
}

static void say_there(const struct follow *f, const json_t *e)
{
	char a[TOOL_UNIT_CAP];

	if (f->o->json || f->o->quiet)
		return;
	printf("%8.3f s  the guest is there: it stood still for %.3f s, %s were sent\n",
		real_of(e, "seconds"), real_of(e, "downtime"), bytes_of(e, "sent", a));
}

static int stayed(const json_t *e, const char *what)
{
	tool_error("migrate: %s, the guest runs here: %s", what, text_of(e, "why"));
	return EXIT_STAYED;
}

static int line_lost(const json_t *e)
{
	tool_error("migrate: %s%s%s", text_of(e, "why"), text_of(e, "why")[0] ? ": " : "",
		text_of(e, "next"));
	return EXIT_LINE;
}

/* A status to exit with, or -1. */
static int verdict(const struct follow *f, const json_t *e)
{
	bool reclaims = strcmp(f->o->command, "reclaim") == 0;
	const char *event = text_of(e, "event");

	if (strcmp(event, "lost") == 0)
		return line_lost(e);
	if (reclaims && strcmp(event, "runs") == 0) {
		tool_error("migrate: it runs at the destination, and cannot be reclaimed: guestmem "
			   "migrate resume --control %s",
			f->o->control);
		return EXIT_LINE;
	}
	if (strcmp(event, "ended") != 0 && strcmp(event, "failed") != 0 &&
		strcmp(event, "reclaimed") != 0)
		return -1;
	switch (state_of(e)) {
	case GM_MIGRATE_IS_ENDED:
		say_there(f, e);
		return EXIT_OK;
	case GM_MIGRATE_IS_RECLAIMED:
		return reclaims ? EXIT_OK : stayed(e, "reclaimed");
	case GM_MIGRATE_IS_CANCELLED:
		return stayed(e, "cancelled");
	case GM_MIGRATE_IS_FAILED:
		return stayed(e, "failed");
	case GM_MIGRATE_IS_GIVEN_UP:
		tool_error("migrate: the guest went to the destination, and some of its pages are "
			   "lost: %s",
			text_of(e, "why"));
		return EXIT_PAGES;
	case GM_MIGRATE_IS_DOUBT:
		return line_lost(e);
	default:
		return -1;
	}
}

/* ---- following ---- */

static void take_line(struct follow *f, const char *line, size_t len)
{
	json_t *json = json_loadb(line, len, 0, NULL);
	const char *error = text_of(json, "error");

	if (!json) {
		tool_error("%s: says what is no JSON", f->o->control);
		f->status = f->begun ? EXIT_LINE : EXIT_FAILED;
	} else if (!f->answered) {
		f->answered = true;
		f->begun = !error[0];
		if (error[0]) {
			tool_error("migrate: %s", error);
			f->status = EXIT_FAILED;
		}
	} else {
		show(f, json);
		if (f->status < 0)
			f->status = verdict(f, json);
	}
	json_decref(json);
}

static void read_more(struct follow *f)
{
	size_t at = 0;
	ssize_t nr;

	f->text = tool_realloc(f->text, f->len + 65536, 1);
	nr = recv(f->fd, f->text + f->len, 65536, MSG_DONTWAIT);
	if (nr < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (nr <= 0 || f->len > LINE_MAX) {
		if (f->begun)
			tool_error(
				"%s: the process has gone without a last word: ask the "
				"destination, guestmem migrate status, whether the guest is there",
				f->o->control);
		else
			tool_error("%s: the process has gone without an answer", f->o->control);
		f->status = f->begun ? EXIT_LINE : EXIT_FAILED;
		return;
	}
	f->len += (size_t)nr;
	for (char *end; f->status < 0; at = (size_t)(end + 1 - f->text)) {
		end = memchr(f->text + at, '\n', f->len - at);
		if (!end)
			break;
		take_line(f, f->text + at, (size_t)(end - f->text) - at);
	}
	memmove(f->text, f->text + at, f->len - at);
	f->len -= at;
}

/* Before the guest is handed over it is cancelled; then, or the second time, nobody looks on any more. */
static void take_signal(struct follow *f)
{
	struct signalfd_siginfo info;
	char *answer;
	json_t *json;

	if (read(f->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (f->asked) {
		f->status = EXIT_SIGNAL + (int)info.ssi_signo;
		return;
	}
	f->asked = (int)info.ssi_signo;
	answer = control_ask(f->o->control, "cancel");
	json = answer ? json_loads(answer, 0, NULL) : NULL;
	if (text_of(json, "error")[0])
		tool_note("%s; another signal ends the display, and the migration goes on",
			text_of(json, "error"));
	json_decref(json);
	free(answer);
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

/* The status says where the guest is, whoever reads what else is said of it. */
static void forget_stdout(void)
{
	if (tool_flush())
		return;
	__fpurge(stdout);
	clearerr(stdout);
}

static int follow(const struct migrate_opts *o, const char *line)
{
	struct follow f = {.o = o, .fd = -1, .signals = signal_fd(), .status = -1};

	if (o->json && !tool_output_open(&f.json, o->json, true))
		f.status = EXIT_FAILED;
	else
		f.fd = control_follow(o->control, line);
	if (f.fd < 0)
		f.status = EXIT_FAILED;
	while (f.status < 0) {
		struct pollfd fds[] = {
			{.fd = f.fd, .events = POLLIN}, {.fd = f.signals, .events = POLLIN}};

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			f.status = f.begun ? EXIT_LINE : EXIT_FAILED;
		if (fds[1].revents)
			take_signal(&f);
		if (fds[0].revents && f.status < 0)
			read_more(&f);
	}
	(void)tool_output_close(&f.json);
	forget_stdout();
	if (f.fd >= 0)
		close(f.fd);
	if (f.signals >= 0)
		close(f.signals);
	free(f.text);
	return f.status;
}

/* What is not given is left to the other side. */
static void set(json_t *json, const char *name, bool given, int64_t n)
{
	if (given)
		json_object_set_new(json, name, json_integer(n));
}

int migrate_send(const struct migrate_opts *o)
{
	json_t *json = json_pack("{s:s, s:b}", "to", o->address, "fds", o->fds);
	char *text;
	char *line;
	int status;

	json_object_set_new(json, "way", json_string(mover_way_name(o->way)));
	if (o->codec_plus)
		json_object_set_new(json, "codec", json_string(mover_codec_name(o->codec_plus)));
	set(json, "bulk", o->bulk_plus, (int64_t)o->bulk_plus - 1);
	set(json, "urgent", o->urgent_plus, (int64_t)o->urgent_plus - 1);
	set(json, "level", o->level, o->level);
	set(json, "rate", o->rate, o->rate > INT64_MAX ? INT64_MAX : (int64_t)o->rate);
	set(json, "downtime_ms", o->downtime_ms, (int64_t)o->downtime_ms);
	set(json, "limit_ms", o->limit > 0, (int64_t)(o->limit * 1000));
	set(json, "rounds", o->rounds, (int64_t)o->rounds);
	set(json, "throttle", o->throttle, (int64_t)o->throttle);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!text) {
		tool_error("migrate send: ADDRESS is no text");
		return EXIT_USAGE;
	}
	line = tool_printf("send %s", text);
	free(text);
	status = follow(o, line);
	free(line);
	return status;
}

int migrate_follow(const struct migrate_opts *o)
{
	return follow(o, o->command);
}

int migrate_tell(const struct migrate_opts *o)
{
	char *answer = control_ask(o->control, o->command);
	json_t *json = answer ? json_loads(answer, 0, NULL) : NULL;
	const char *error = text_of(json, "error");
	int status = json && !error[0] ? EXIT_OK : EXIT_FAILED;

	if (answer && status != EXIT_OK)
		tool_error("migrate %s: %s", o->command, error[0] ? error : "no answer");
	json_decref(json);
	free(answer);
	return status;
}

int migrate_status(const struct migrate_opts *o)
{
	struct tool_output out = {0};
	char *answer;
	json_t *json;
	bool well;

	if (o->json && !tool_output_open(&out, o->json, false))
		return EXIT_FAILED;
	answer = control_ask(o->control, o->json ? "json" : "text");
	if (!answer)
		return EXIT_FAILED;
	if (!o->json) {
		fputs(answer, stdout);
		free(answer);
		return EXIT_OK;
	}
	json = json_loads(answer, 0, NULL);
	free(answer);
	if (!json) {
		tool_error("%s: says what is no JSON", o->control);
		return EXIT_FAILED;
	}
	well = tool_json_write(json, &out, false);
	return tool_output_close(&out) && well ? EXIT_OK : EXIT_FAILED;
}
