/* SPDX-License-Identifier: BSD-3-Clause */
/* keep_wire.c - packets with descriptors. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "keep.h"
#include "sockets.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(KEEP_FDS * sizeof(int))];
};

bool keep_send(int sock, const struct keep_packet *packet, const int *fds)
{
	union control control = {0};
	struct keep_packet copy = *packet;
	struct iovec iov = {&copy, sizeof(copy)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t nr;

	copy.magic = KEEP_MAGIC;
	if (packet->nr) {
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(packet->nr * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(packet->nr * sizeof(int));
		memcpy(CMSG_DATA(c), fds, packet->nr * sizeof(int));
	}
	do {
		nr = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (nr < 0 && errno == EINTR);
	return nr == (ssize_t)sizeof(copy);
}

void keep_close(const struct keep_packet *packet, const int *fds)
{
	for (uint32_t i = 0; i < packet->nr; i++)
		close(fds[i]);
}

bool keep_recv(int sock, struct keep_packet *ret, int fds[KEEP_FDS])
{
	union control control;
	struct iovec iov = {ret, sizeof(*ret)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct keep_packet came = {.nr = 0};
	ssize_t nr;

	memset(ret, 0, sizeof(*ret));
	do {
		nr = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (nr < 0 && errno == EINTR);
	if (nr <= 0) {
		errno = nr ? errno : 0;
		return false;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		came.nr = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), came.nr * sizeof(int));
	}
	if (nr == (ssize_t)sizeof(*ret) && ret->magic == KEEP_MAGIC && ret->nr == came.nr &&
		!(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return true;
	keep_close(&came, fds);
	errno = EPROTO;
	return false;
}

int keep_connect(const char *path)
{
	const struct timeval second = {.tv_sec = 1};
	int fd = connect_to(path, SOCK_SEQPACKET);

	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second));
	return fd;
}

uint64_t keep_number(void)
{
	uint64_t number = 0;

	/* It cannot fail for so few bytes once the machine runs. */
	(void)!getrandom(&number, sizeof(number), 0);
	return number | 1;
}
