/* SPDX-License-Identifier: BSD-3-Clause */
/* util.c - messages, memory, time. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

static void say(const char *what, const char *fmt, va_list args)
{
	char raw[1024];
	char shown[2 * sizeof(raw)];

	vsnprintf(raw, sizeof(raw), fmt, args);
	/* One write, so that lines of several processes do not mix. */
	fprintf(stderr, "guestmem: %s%s\n", what, tool_escape(raw, shown, sizeof(shown)));
}

void tool_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say("", fmt, args);
	va_end(args);
}

void tool_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say("note: ", fmt, args);
	va_end(args);
}

static void *or_die(void *ptr)
{
	if (!ptr) {
		fputs("guestmem: out of memory\n", stderr);
		exit(EXIT_FAILED);
	}
	return ptr;
}

void *tool_alloc(size_t nr, size_t len)
{
	return or_die(calloc(nr ? nr : 1, len ? len : 1));
}

void *tool_realloc(void *ptr, size_t nr, size_t len)
{
	return or_die(reallocarray(ptr, nr, len));
}

char *tool_strdup(const char *text)
{
	return or_die(strdup(text));
}

char *tool_printf(const char *fmt, ...)
{
	va_list args;
	char *text = NULL;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	return or_die(text);
}

double tool_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* An earlier write may have been the one that failed, and its errno value be gone. */
static bool reader_has_gone(int error)
{
	struct pollfd pipe = {.fd = STDOUT_FILENO};

	return error == EPIPE || (error == 0 && poll(&pipe, 1, 0) == 1 && (pipe.revents & POLLERR));
}

/* Once is enough: what has failed is tried again at the end. Where the reader has seen enough, such
 * as head(1), nothing is said. */
void tool_stdout_failed(int error)
{
	static bool said;

	if (!said && !reader_has_gone(error))
		tool_error("standard output: %s", strerror(error ? error : EIO));
	said = true;
}

bool tool_flush(void)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return true;
	tool_stdout_failed(errno);
	return false;
}

bool tool_open_standard_fds(void)
{
	int fd;

	/* What is open for nothing answers EBADF; the lowest free number is given first. */
	do {
		fd = open("/", O_PATH | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* A closed pipe, a file that may not grow. */
static const int turned_off[] = {SIGPIPE, SIGXFSZ};
static struct sigaction before[sizeof(turned_off) / sizeof(turned_off[0])];

void tool_ignore_signals(void)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};

	for (size_t i = 0; i < sizeof(turned_off) / sizeof(turned_off[0]); i++)
		sigaction(turned_off[i], &ignore, &before[i]);
}

void tool_restore_signals(void)
{
	for (size_t i = 0; i < sizeof(turned_off) / sizeof(turned_off[0]); i++)
		sigaction(turned_off[i], &before[i], NULL);
}
