/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_address.c - see migrate_address.h. */
#include "migrate_address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sockets.h"
#include "tool.h"

#define BACKLOG 64

static bool bad(const char *text, const char *why)
{
	tool_error("%s: %s", text, why);
	return false;
}

/* HOST:PORT, [HOST]:PORT, :PORT */
static bool parse_tcp(const char *text, const char *at, struct address *ret)
{
	const char *colon = strrchr(at, ':');
	size_t len = colon ? (size_t)(colon - at) : 0;
	uint64_t port;

	if (!colon || !tool_parse_number(colon + 1, 65535, &port))
		return bad(text, "is no address: a port of 0 to 65535 is wanted at its end");
	if (len >= 2 && at[0] == '[' && at[len - 1] == ']') {
		at++;
		len -= 2;
	} else if (memchr(at, ':', len)) {
		return bad(text, "is no address: one of IPv6 stands in brackets, tcp:[::1]:4444");
	}
	if (len >= sizeof(ret->host))
		return bad(text, "is no address: the host's name is too long");
	memcpy(ret->host, at, len);
	snprintf(ret->port, sizeof(ret->port), "%u", (unsigned int)port);
	ret->tcp = true;
	return true;
}

bool address_parse(const char *text, struct address *ret)
{
	*ret = (struct address){.tcp = false};
	if (strncmp(text, "tcp:", 4) == 0)
		return parse_tcp(text, text + 4, ret);
	if (strncmp(text, "unix:", 5) != 0)
		return bad(text, "is no address: unix:PATH or tcp:HOST:PORT is wanted");
	if (!text[5] || strlen(text + 5) > 107)
		return bad(text, "is no address: a path of 1 to 107 bytes is wanted");
	snprintf(ret->path, sizeof(ret->path), "%s", text + 5);
	return true;
}

/* Of a name that means nothing the number says too little. */
static int look_up(const struct address *a, int flags, struct addrinfo **ret, const char **ret_why)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
	int rc = getaddrinfo(a->host[0] ? a->host : NULL, a->port, &hints, ret);

	*ret_why = rc == EAI_SYSTEM ? strerror(errno) : rc ? gai_strerror(rc) : "";
	switch (rc) {
	case 0:
		return 0;
	case EAI_SYSTEM:
		return -errno;
	case EAI_MEMORY:
		return -ENOMEM;
	case EAI_AGAIN:
		return -EAGAIN;
	default:
		return -EHOSTUNREACH;
	}
}

static int wait_connected(int fd, double seconds)
{
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int error = 0;
	int rc;

	do {
		rc = poll(&wait, 1, (int)(seconds * 1000));
	} while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return -ETIMEDOUT;
	if (rc < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

static void no_delay(int fd)
{
	static const int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int connect_one(const struct addrinfo *info, double wait, int *ret_fd)
{
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc = 0;

	if (fd < 0)
		return -errno;
	no_delay(fd);
	if (connect(fd, info->ai_addr, info->ai_addrlen) < 0)
		rc = -errno;
	if (rc == -EINPROGRESS)
		rc = wait > 0 ? wait_connected(fd, wait) : 0;
	if (rc == 0)
		*ret_fd = fd;
	else
		close(fd);
	return rc;
}

static int connect_tcp(struct address *a, double wait, int *ret_fd, const char **ret_why)
{
	struct addrinfo *list;
	size_t place = 0;
	int rc = look_up(a, 0, &list, ret_why);

	if (rc < 0)
		return rc;
	rc = -EHOSTUNREACH;
	for (const struct addrinfo *i = list; i; i = i->ai_next, place++) {
		if (wait <= 0 && place != a->place)
			continue;
		rc = connect_one(i, wait, ret_fd);
		a->place = place;
		if (rc == 0)
			break;
	}
	freeaddrinfo(list);
	*ret_why = strerror(-rc);
	return rc;
}

int address_connect(struct address *a, double wait, int *ret_fd, const char **ret_why)
{
	int fd;
	int rc = 0;

	if (a->tcp)
		return connect_tcp(a, wait, ret_fd, ret_why);
	fd = connect_to(a->path, SOCK_STREAM | SOCK_NONBLOCK);
	if (fd < 0)
		rc = -errno;
	else
		*ret_fd = fd;
	*ret_why = strerror(-rc);
	return rc;
}

/* ---- listening ---- */

static int listen_one(const struct addrinfo *info)
{
	static const int one = 1;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* As it is written; port 0 has become one of the kernel's choice. */
static void call_it(int fd, char name[ADDRESS_CAP])
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char host[NI_MAXHOST] = "?";
	char port[NI_MAXSERV] = "?";
	bool six;

	if (getsockname(fd, (struct sockaddr *)&addr, &len) == 0)
		getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV);
	six = strchr(host, ':');
	snprintf(
		name, ADDRESS_CAP, "tcp:%s%.255s%s:%s", six ? "[" : "", host, six ? "]" : "", port);
}

int address_listen(const struct address *a, char name[ADDRESS_CAP])
{
	struct addrinfo *list = NULL;
	const char *why;
	int fd = -1;

	if (!a->tcp) {
		snprintf(name, ADDRESS_CAP, "unix:%s", a->path);
		return listen_on(a->path, SOCK_STREAM, S_IRUSR | S_IWUSR);
	}
	(void)look_up(a, AI_PASSIVE, &list, &why);
	for (const struct addrinfo *i = list; i && fd < 0; i = i->ai_next) {
		fd = listen_one(i);
		why = fd < 0 ? strerror(errno) : NULL;
	}
	if (list)
		freeaddrinfo(list);
	if (fd < 0)
		tool_error("tcp:%s:%s: %s", a->host, a->port, why);
	else
		call_it(fd, name);
	return fd;
}

int address_accept(int listener, bool tcp)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 && tcp)
		no_delay(fd);
	return fd;
}
