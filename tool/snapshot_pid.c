/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_pid.c - the memory of a running guest: its memfd, and that it stands still. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "snapshot.h"
#include "tool.h"

#define WAIT_S 10

/* Opens fd @name of the process if it is a memfd larger than @least. */
static int try_fd(int dir, const char *name, uint64_t least, struct stat *st)
{
	char link[64];
	ssize_t len = readlinkat(dir, name, link, sizeof(link) - 1);
	int fd;

	if (len <= 0)
		return -1;
	link[len] = '\0';
	if (strncmp(link, "/memfd:", 7) != 0)
		return -1;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -1;
	if (!fstat(fd, st) && S_ISREG(st->st_mode) && (uint64_t)st->st_size > least)
		return fd;
	close(fd);
	return -1;
}

int saved_memory_of(pid_t pid)
{
	char *path = tool_printf("/proc/%d/fd", (int)pid);
	uint64_t largest = 4095;
	int found = -1;
	DIR *dir = opendir(path);
	const struct dirent *entry;

	if (!dir)
		tool_error("%s: %s", path, strerror(errno));
	free(path);
	if (!dir)
		return -1;
	while ((entry = readdir(dir)) != NULL) {
		struct stat st;
		int fd = try_fd(dirfd(dir), entry->d_name, largest, &st);

		if (fd < 0)
			continue;
		if (found >= 0)
			close(found);
		found = fd;
		largest = (uint64_t)st.st_size;
	}
	closedir(dir);
	if (found < 0)
		tool_error("process %d has no memfd: its memory must be one, as guestmem exec "
			   "lends it",
			(int)pid);
	return found;
}

/* The state of a task as its stat file has it, behind the name; 0 if it is gone. */
static char task_state(const char *path)
{
	char text[512];
	const char *end;
	ssize_t len;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' ? end[2] : 0;
}

/* Do all threads stand still? */
static bool all_stopped(pid_t pid)
{
	char *path = tool_printf("/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	const struct dirent *entry;
	bool all = dir != NULL;

	while (dir && all && (entry = readdir(dir)) != NULL) {
		char *stat;
		char state;

		if (entry->d_name[0] == '.')
			continue;
		stat = tool_printf("%s/%s/stat", path, entry->d_name);
		state = task_state(stat);
		all = state == 'T' || state == 't' || state == 'Z' || state == 0;
		free(stat);
	}
	if (dir)
		closedir(dir);
	free(path);
	return all;
}

bool saved_stop(struct saved_stop *stop, pid_t pid)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	double end = tool_now() + WAIT_S;

	*stop = (struct saved_stop){.pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
	if (stop->pidfd < 0) {
		tool_error("process %d: %s", (int)pid, strerror(errno));
		return false;
	}
	if (all_stopped(pid))
		return true;
	if (syscall(SYS_pidfd_send_signal, stop->pidfd, SIGSTOP, NULL, 0)) {
		tool_error("process %d cannot be stopped: %s", (int)pid, strerror(errno));
		close(stop->pidfd);
		return false;
	}
	stop->ours = true;
	while (!all_stopped(pid)) {
		if (tool_now() > end || saved_was_stopped()) {
			tool_error("process %d does not stop", (int)pid);
			saved_continue(stop);
			return false;
		}
		nanosleep(&moment, NULL);
	}
	return true;
}

void saved_continue(struct saved_stop *stop)
{
	if (stop->ours)
		syscall(SYS_pidfd_send_signal, stop->pidfd, SIGCONT, NULL, 0);
	close(stop->pidfd);
}
