/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd_server.h - a server of network block devices in a process of its own, on a socket in a directory of its own. */
#ifndef GM_TESTS_NBD_SERVER_H
#define GM_TESTS_NBD_SERVER_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static char dir[32];
static char path[64];
static char uri[96];
static pid_t server;

static inline int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/gm-test-nbd-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", path);
	return 0;
}

static inline int remove_dir(void **state)
{
	(void)state;
	if (server > 0) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
		server = 0;
	}
	unlink(path);
	return rmdir(dir);
}

static inline bool is_listening(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is;

	strcpy(addr.sun_path, path);
	is = connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) == 0;
	close(sock);
	return is;
}

static inline void start_server(char *const argv[])
{
	server = fork();
	if (server == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	for (int i = 0; i < 1000 && !is_listening(); i++)
		usleep(10000);
	assert_true(is_listening());
}

/* The bytes of its exports are their offsets, in words of 8 bytes, big-endian. */
#define NBDKIT(...)                                                                                \
	start_server((char *const[]){"nbdkit", "-f", "-r", "-U", path, __VA_ARGS__, NULL})

static inline void stop_server(void)
{
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(waitpid(server, NULL, 0), server);
	server = 0;
	unlink(path);
}

#endif
