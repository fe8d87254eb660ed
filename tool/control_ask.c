/* SPDX-License-Identifier: BSD-3-Clause */
/* control_ask.c - one question to the control socket of another process. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "sockets.h"
#include "tool.h"

#define DEADLINE 10.0
#define ANSWER_MAX ((size_t)16 << 20)
#define ROOM 65536u

/* True: it can be read or written; false with errno. */
static bool wait_until(int fd, short events, double until)
{
	struct pollfd wait = {.fd = fd, .events = events};
	double left = until - tool_now();
	int rc;

	do {
		rc = poll(&wait, 1, left > 0 ? (int)(left * 1000) + 1 : 0);
		left = until - tool_now();
	} while (rc < 0 && errno == EINTR);
	if (rc == 0)
		errno = ETIMEDOUT;
	return rc > 0;
}

/* After a call that did not get on: whether it may be tried again. */
static bool may_go_on(int fd, short events, double until)
{
	return (errno == EAGAIN || errno == EINTR) && wait_until(fd, events, until);
}

static bool send_all(int fd, const char *text, double until)
{
	size_t len = strlen(text);
	size_t at = 0;

	while (at < len) {
		ssize_t nr = send(fd, text + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (nr > 0)
			at += (size_t)nr;
		else if (!may_go_on(fd, POLLOUT, until))
			return false;
	}
	return true;
}

/* Until the other side closes; NULL with errno. */
static char *read_all(int fd, double until)
{
	char *text = NULL;
	size_t len = 0;
	int error = 0;

	while (!error) {
		ssize_t nr;

		text = tool_realloc(text, len + ROOM + 1, 1);
		nr = recv(fd, text + len, ROOM, MSG_DONTWAIT);
		if (nr == 0)
			break;
		if (nr > 0)
			len += (size_t)nr;
		if (len > ANSWER_MAX)
			error = EFBIG;
		else if (nr < 0 && !may_go_on(fd, POLLIN, until))
			error = errno;
	}
	if (error) {
		free(text);
		errno = error;
		return NULL;
	}
	text[len] = '\0';
	return text;
}

int control_follow(const char *path, const char *line)
{
	double until = tool_now() + DEADLINE;
	char *text = tool_printf("%s\n", line);
	int fd = connect_to(path, SOCK_STREAM | SOCK_NONBLOCK);
	bool well = fd >= 0 && send_all(fd, text, until);

	if (!well)
		tool_error("%s: %s", path, strerror(errno));
	free(text);
	if (well || fd < 0)
		return fd;
	close(fd);
	return -1;
}

char *control_ask(const char *path, const char *word)
{
	double until = tool_now() + DEADLINE;
	char *line = tool_printf("%s\n", word);
	char *answer = NULL;
	int fd = connect_to(path, SOCK_STREAM | SOCK_NONBLOCK);

	if (fd >= 0 && send_all(fd, line, until))
		answer = read_all(fd, until);
	if (!answer)
		tool_error("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(line);
	return answer;
}
