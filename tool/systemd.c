/* SPDX-License-Identifier: BSD-3-Clause */
/* systemd.c - see systemd.h. Two environment variables and one datagram: no library for that. */
#include "systemd.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tool.h"

#define FIRST 3
#define FDS_MAX 16

int systemd_socket(const char *name)
{
	const char *pid = getenv("LISTEN_PID");
	const char *fds = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	uint64_t nr;
	uint64_t of;

	if (!pid || !fds || !tool_parse_number(pid, INT32_MAX, &of) || (pid_t)of != getpid() ||
		!tool_parse_number(fds, FDS_MAX, &nr))
		return -1;
	for (int fd = FIRST; fd < FIRST + (int)nr; fd++) {
		size_t len = names ? strcspn(names, ":") : 0;
		bool control =
			names && len == strlen("control") && strncmp(names, "control", len) == 0;

		if (control == (strcmp(name, "control") == 0)) {
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
			return fd;
		}
		if (names)
			names += len + (names[len] == ':');
	}
	return -1;
}

void systemd_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len == 0 || len >= sizeof(addr.sun_path))
		return;
	memcpy(addr.sun_path, path, len);
	/* An abstract name. */
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}
