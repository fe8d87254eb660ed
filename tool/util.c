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
static void stdout_failed(int error)
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
	stdout_failed(errno);
	return false;
}

bool tool_output_failed(const struct tool_output *out, int error)
{
	if (out->file == stdout)
		stdout_failed(error);
	else
		tool_error("%s: %s", out->path, strerror(error ? error : EIO));
	return false;
}

bool tool_output_open(struct tool_output *out, const char *path)
{
	int fd;

	*out = (struct tool_output){.path = path};
	if (strcmp(path, "-") == 0) {
		out->file = stdout;
		return true;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	out->fresh = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	out->file = fd < 0 ? NULL : fdopen(fd, "w");
	if (out->file)
		return true;
	tool_error("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return false;
}

FILE *tool_output_begin(struct tool_output *out)
{
	/* A pipe or a device cannot be cut, and need not be. */
	if (out->file != stdout && !out->begun && ftruncate(fileno(out->file), 0))
		clearerr(out->file);
	out->begun = true;
	return out->file;
}

bool tool_output_close(struct tool_output *out)
{
	bool well = true;

	if (out->file && out->file != stdout)
		well = fclose(out->file) == 0;
	if (!well)
		tool_error("%s: %s", out->path, strerror(errno));
	if (out->fresh && !out->begun)
		unlink(out->path);
	*out = (struct tool_output){0};
	return well;
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

static struct sigaction old_sigpipe;

void tool_ignore_sigpipe(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGPIPE, &ignore, &old_sigpipe);
}

void tool_restore_sigpipe(void)
{
	sigaction(SIGPIPE, &old_sigpipe, NULL);
}
