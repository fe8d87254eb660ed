/* SPDX-License-Identifier: BSD-3-Clause */
/* fds.c - see fds.h. */
#include "sys/fds.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "sys/sys.h"
#include "sys/uapi.h"

/* Returns whether all that came could be kept. */
static bool take(struct msghdr *msg, struct gm_fds *fds)
{
	bool clean = true;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		bool rights = c->cmsg_type == SCM_RIGHTS;
		size_t nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || (!rights && c->cmsg_type != SCM_PIDFD))
			continue;
		for (size_t i = 0; i < nr; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (rights && fds && fds->nr < GM_FDS_MAX) {
				fds->fd[fds->nr++] = fd;
				continue;
			}
			gm_sys_close(fd);
			clean = clean && !rights;
		}
	}
	return clean;
}

/*
 * There is room for descriptors in each message, or what the caller has asked the socket for (credentials) would look
 * like a lost descriptor.
 */
ssize_t gm_fds_recv(
	int sock, void *buf, size_t len, struct gm_fds *fds, int flags, uint32_t *ret_wrong)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(GM_FDS_MAX * sizeof(int)) + 512];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t nr = gm_sys_recvmsg(sock, &msg, flags);

	*ret_wrong = 0;
	if (nr < 0)
		return nr;
	if (!take(&msg, fds) || (msg.msg_flags & MSG_CTRUNC))
		*ret_wrong |= GM_FDS_UNWANTED;
	if (msg.msg_flags & MSG_TRUNC)
		*ret_wrong |= GM_FDS_CUT;
	return nr;
}

void gm_fds_close(struct gm_fds *fds)
{
	while (fds->nr)
		gm_sys_close(fds->fd[--fds->nr]);
}
