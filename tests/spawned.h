/* SPDX-License-Identifier: BSD-3-Clause */
/* spawned.h - programs that a test starts, and sockets that they listen at. */
#ifndef GM_TESTS_SPAWNED_H
#define GM_TESTS_SPAWNED_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

#define SPAWNED_WAIT_MS 30000

/* By its name, with nothing on standard output; it does not outlive the test. -1: there is no such program. */
static inline pid_t spawn(char *const argv[])
{
	int failed[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(failed, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && dup2(null, 1) == 1)
			execvp(argv[0], argv);
		(void)!write(failed[1], "", 1);
		_exit(1);
	}
	close(failed[1]);
	if (read(failed[0], &byte, 1) == 1) {
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(failed[0]);
	return pid;
}

/* Ends it by a signal; with @wanted >= 0 it exits with that. */
static inline void spawned_end(pid_t pid, int sig, int wanted)
{
	int status = 0;

	kill(pid, sig);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (wanted >= 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == wanted))
		fail_msg("it ended with status 0x%x", (unsigned int)status);
}

/* A name is there a moment before. */
static inline bool is_listening(const char *path)
{
	FILE *file = fopen("/proc/net/unix", "re");
	char line[256];
	bool found = false;

	assert_non_null(file);
	while (!found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = strstr(line, " 00010000 ") && strstr(line, path);
	}
	fclose(file);
	return found;
}

/* A socket has no event for "somebody listens". */
static inline bool spawned_listens(const char *path, pid_t pid)
{
	const struct timespec moment = {.tv_nsec = 2000000};

	for (int i = 0; i < SPAWNED_WAIT_MS / 2; i++) {
		if (is_listening(path))
			return true;
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return false;
		nanosleep(&moment, NULL);
	}
	return false;
}

/* "guestmem blk" on a file, at a socket: it listens. @more: another option, or NULL. */
static inline pid_t spawn_blk(
	const char *tool, const char *path, const char *image, const char *more)
{
	char *argv[] = {(char *)(uintptr_t)tool, "blk", "--socket-path", (char *)(uintptr_t)path,
		"--blk-file", (char *)(uintptr_t)image, (char *)(uintptr_t)more, NULL};
	pid_t pid = spawn(argv);

	assert_true(pid > 0);
	assert_true(spawned_listens(path, pid));
	return pid;
}

#endif
