/* SPDX-License-Identifier: BSD-3-Clause */
/* clone_place.h - where a clone of a test listens, and how it is reached. */
#ifndef GM_TESTS_CLONE_PLACE_H
#define GM_TESTS_CLONE_PLACE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "support.h"

struct place {
	int listener;
	struct sockaddr_storage at;
	socklen_t len;
};

static inline struct place listen_somewhere(int family)
{
	struct sockaddr_in ip = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct place p = {.listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)};

	/* The kernel finds a port, or a name. */
	p.len = family == AF_INET ? sizeof(ip) : sizeof(name.sun_family);
	memcpy(&p.at, family == AF_INET ? (void *)&ip : (void *)&name, p.len);
	assert_int_equal(bind(p.listener, (struct sockaddr *)&p.at, p.len), 0);
	assert_int_equal(listen(p.listener, 64), 0);
	p.len = sizeof(p.at);
	assert_int_equal(getsockname(p.listener, (struct sockaddr *)&p.at, &p.len), 0);
	return p;
}

/* As a pair of sockets if nobody listens; of another process's the second is -1. */
static inline int connect_to(const struct place *p, bool apart, int fds[2])
{
	int rc = 0;

	if (p->listener < 0)
		return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) ? -errno : 0;
	fds[0] = socket(p->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fds[0] < 0)
		return -errno;
	fds[1] = -1;
	if (connect(fds[0], (const struct sockaddr *)&p->at, p->len))
		rc = -errno;
	if (!rc && !apart) {
		fds[1] = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
		rc = fds[1] < 0 ? -errno : 0;
	}
	if (rc)
		close(fds[0]);
	return rc;
}

#endif
