/* SPDX-License-Identifier: BSD-3-Clause */
/* systemd.h - sockets that a service manager has opened, and what it is told: sd_listen_fds(3), sd_notify(3). */
#ifndef TOOL_SYSTEMD_H
#define TOOL_SYSTEMD_H

/*
 * The descriptor with this name (LISTEN_FDNAMES), or, if it is not "control", the first that is not that; -1: there is
 * none.
 */
int systemd_socket(const char *name);
/* "READY=1" and the like, if anybody listens. */
void systemd_notify(const char *state);

#endif
