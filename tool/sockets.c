/* SPDX-License-Identifier: BSD-3-Clause */
/* sockets.c - see sockets.h. */
#include "sockets.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tool.h"

#define BACKLOG 1024

static bool name_socket(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* Without a name the kernel would choose one, which nobody knows. */
	errno = path[0] ? ENAMETOOLONG : ENOENT;
	if (!path[0] || strlen(path) >= sizeof(addr->sun_path))
		return false;
	memcpy(addr->sun_path, path, strlen(path) + 1);
	return true;
}

int connect_to(const char *path, int type)
{
	struct sockaddr_un addr;
	int fd;

	if (!name_socket(&addr, path))
		return -1;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	if (fd >= 0) {
		int error = errno;

		close(fd);
		errno = error;
	}
	return -1;
}

/* What a killed process left has nobody behind it. */
static void remove_stale(const char *path, int type)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return;
	fd = connect_to(path, type | SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	else if (errno == ECONNREFUSED)
		unlink(path);
}

int listen_on(const char *path, int type, mode_t mode)
{
	struct sockaddr_un addr;
	int fd = -1;

	if (name_socket(&addr, path)) {
		remove_stale(path, type);
		fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	/* The name gets the mode of the socket, so there is no moment in which it has another one. */
	if (fd >= 0 && (!mode || fchmod(fd, mode) == 0) &&
		bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	tool_error("%s: %s", path,
		errno == EADDRINUSE ? "somebody listens there, or it is no socket"
				    : strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}
