/* SPDX-License-Identifier: BSD-3-Clause */
/* socket.c - messages with file descriptors. SIGPIPE is never raised. */
#include "sys/sys.h"

#include <errno.h>

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
	ssize_t nr = send(fd, buf, len, flags | MSG_NOSIGNAL);

	return nr < 0 ? -errno : nr;
}

ssize_t gm_sys_recv(int fd, void *buf, size_t len, int flags)
{
	ssize_t nr = recv(fd, buf, len, flags);

	return nr < 0 ? -errno : nr;
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
