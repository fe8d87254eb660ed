/* SPDX-License-Identifier: BSD-3-Clause */
/* fds.h - messages with file descriptors, none of which is lost. */
#ifndef GM_SYS_FDS_H
#define GM_SYS_FDS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GM_FDS_MAX 253u /* the kernel's SCM_MAX_FD */

/* Descriptors that have come: owned by whoever has this. */
struct gm_fds {
	uint32_t nr;
	int fd[GM_FDS_MAX];
};

/* What was wrong with a message. */
#define GM_FDS_UNWANTED                                                                            \
	1u /* descriptors came that nobody wanted, or were lost (RLIMIT_NOFILE): they are closed */
#define GM_FDS_CUT 2u /* a packet was longer than the room */

/*
 * One message, or what there is of a stream. Descriptors are added to @fds, or closed if that is NULL: a pidfd, which
 * only the receiver itself can have asked the socket for, in any case. @flags are MSG_*. Returns bytes, 0 at the end,
 * or what recvmsg(2) failed with.
 */
ssize_t gm_fds_recv(
	int sock, void *buf, size_t len, struct gm_fds *fds, int flags, uint32_t *ret_wrong);
void gm_fds_close(struct gm_fds *fds);

#endif
