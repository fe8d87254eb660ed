/* SPDX-License-Identifier: BSD-3-Clause */
/* sockets.h - Unix sockets by name. */
#ifndef TOOL_SOCKETS_H
#define TOOL_SOCKETS_H

#include <sys/types.h>

/*
 * A listening Unix socket that does not block; one that nobody listens on any more is replaced. @mode: who may connect,
 * from the moment in which the name is there; 0: as the umask says. -1 after a message.
 */
int listen_on(const char *path, int type, mode_t mode);
/* A connected one; -1 with errno. @type may have SOCK_NONBLOCK. */
int connect_to(const char *path, int type);

#endif
