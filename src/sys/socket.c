/* SPDX-License-Identifier: BSD-3-Clause */
/* socket.c - messages with file descriptors. SIGPIPE is never raised. */
#include "sys/sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "sys/raw.h"

ssize_t gm_sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t nr = sendmsg(fd, msg, flags | MSG_NOSIGNAL);

	return nr < 0 ? -errno : nr;
}

ssize_t gm_sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t nr = recvmsg(fd, msg, flags | MSG_CMSG_CLOEXEC);

	return nr < 0 ? -errno : nr;
}

ssize_t gm_sys_send(int fd, const void *buf, size_t len, int flags)
{
	flags |= MSG_NOSIGNAL;
	return GM_RAW(send(fd, buf, len, flags), SYS_sendto, fd, buf, len, flags);
}

ssize_t gm_sys_recv(int fd, void *buf, size_t len, int flags)
{
	return GM_RAW(recv(fd, buf, len, flags), SYS_recvfrom, fd, buf, len, flags);
}

int gm_sys_socket_kind(int fd, int *ret_domain, int *ret_type)
{
	socklen_t len = sizeof(int);
	int domain;
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) ||
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len))
		return -errno;
	*ret_domain = domain;
	*ret_type = type;
	return 0;
}

int gm_sys_socket_listens(int fd)
{
	socklen_t len = sizeof(int);
	int listens;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) ? -errno : listens != 0;
}

int gm_sys_peek_from_start(int fd)
{
	const int start = 0;

	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start)) ? -errno : 0;
}

int gm_sys_peer_uid(int fd, uid_t *ret)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	*ret = cred.uid;
	return 0;
}

int gm_sys_unix_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	int fd;

	if (len >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, len);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr))) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

int gm_sys_socketpair(int ret_fds[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fds) ? -errno : 0;
}

int gm_sys_send_at_once(int fd)
{
	const int on = 1;

	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) ? -errno : 0;
}

int gm_sys_send_room(int fd, int bytes)
{
	int has = 0;
	socklen_t len = sizeof(has);

	/* What is read is twice what was set. */
	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &has, &len))
		return -errno;
	if (has / 2 >= bytes)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) ? -errno : 0;
}

int gm_sys_accept(int fd)
{
	int got = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return got < 0 ? -errno : got;
}
