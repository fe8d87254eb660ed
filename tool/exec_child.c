/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec_child.c - starts the command and stands between it and the signals.
 *
 * The command stays in our process group, so that a terminal's Ctrl-C and Ctrl-Z reach it by
 * themselves; such signals come from the kernel and are not forwarded, unless the command has left
 * the group (setsid, timeout). Those that another process sent to us alone are. SIGCHLD may have
 * been ignored by whoever started us, and then nothing would tell us of the command's end; so it is
 * not ignored while we run. We are a subreaper: what the command leaves running stays below us
 * while we run, and so can be watched.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exec.h"
#include "tool.h"

static const int forwarded[] = {
	SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT};

/* In the child: only async-signal-safe calls would be needed if we had threads; we have none yet.
 */
static _Noreturn void run_child(
	const struct exec_child *child, char **command, int fd, int go, int failed)
{
	char byte;
	int error;

	/* If we are killed the command must not go on with nobody to answer for it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	tool_restore_signals();
	sigaction(SIGCHLD, &child->old_sigchld, NULL);
	sigprocmask(SIG_SETMASK, &child->old_mask, NULL);
	if (read(go, &byte, 1) != 1)
		_exit(EXIT_FAILED); /* our parent has given up */
	if (fcntl(fd, F_SETFD, 0) == 0)
		execvp(command[0], command);
	error = errno;
	if (write(failed, &error, sizeof(error)) != (ssize_t)sizeof(error))
		_exit(EXIT_FAILED);
	_exit(127);
}

bool exec_child_fork(struct exec_child *child, char **command, int fd)
{
	const struct sigaction noticed = {.sa_handler = SIG_DFL};
	sigset_t mask;
	int go[2];
	int failed[2];

	*child = (struct exec_child){.signals = -1, .go = -1, .failed = -1};
	sigemptyset(&mask);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(&mask, forwarded[i]);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, &child->old_mask);
	sigaction(SIGCHLD, &noticed, &child->old_sigchld);
	child->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (child->signals < 0 || pipe2(go, O_CLOEXEC) || pipe2(failed, O_CLOEXEC)) {
		tool_error("pipe: %s", strerror(errno));
		return false;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	child->pid = fork();
	if (child->pid == 0)
		run_child(child, command, fd, go[0], failed[1]);
	close(go[0]);
	close(failed[1]);
	child->go = go[1];
	child->failed = failed[0];
	if (child->pid < 0) {
		tool_error("fork: %s", strerror(errno));
		return false;
	}
	return true;
}

int exec_child_go(struct exec_child *child)
{
	int error = 0;
	ssize_t nr;

	nr = write(child->go, "", 1);
	close(child->go);
	child->go = -1;
	if (nr != 1)
		return EPIPE;
	do {
		nr = read(child->failed, &error, sizeof(error));
	} while (nr < 0 && errno == EINTR);
	return nr == (ssize_t)sizeof(error) ? error : 0;
}

static void reap(struct exec_child *child)
{
	struct rusage usage;
	int status;
	pid_t pid;

	/* Also what was left to us as the subreaper. */
	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
		if (pid != child->pid)
			continue;
		child->ended = true;
		child->status = status;
		child->usage = usage;
	}
	/* Somebody else has waited for it: then its status is lost, but it has ended. */
	if (pid < 0 && errno == ECHILD && !child->ended) {
		tool_error("the command's exit status is lost: it was waited for elsewhere");
		child->ended = true;
		child->status = W_EXITCODE(EXIT_FAILED, 0);
	}
}

/* We are part of the job; a SIGCONT wakes us. Where nobody could send one the kernel does not stop
 * us. */
static void stop_as_well(void)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTSTP);
	raise(SIGTSTP);
	sigprocmask(SIG_UNBLOCK, &mask, NULL);
	sigprocmask(SIG_BLOCK, &mask, NULL);
}

/* The terminal's signals go to a whole group. */
static bool left_our_group(const struct exec_child *child)
{
	pid_t group = getpgid(child->pid);

	return group > 0 && group != getpgrp();
}

static void got_signal(struct exec_child *child, const struct signalfd_siginfo *info)
{
	int signo = (int)info->ssi_signo;
	bool from_terminal = info->ssi_code == SI_KERNEL;

	if (signo == SIGCHLD) {
		reap(child);
		return;
	}
	if (!child->ended && (!from_terminal || left_our_group(child)))
		kill(child->pid, signo);
	if (signo == SIGTSTP)
		stop_as_well();
}

void exec_child_wait(struct exec_child *child, double deadline)
{
	struct pollfd pfd = {.fd = child->signals, .events = POLLIN};
	struct signalfd_siginfo info;

	/* A SIGCHLD may have come before we looked. */
	reap(child);
	while (!child->ended) {
		double left = deadline - tool_now();

		if (left <= 0)
			return;
		if (poll(&pfd, 1, (int)(left * 1000) + 1) < 0 && errno != EINTR)
			return;
		while (read(child->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
			got_signal(child, &info);
	}
}

int exec_child_exit_status(const struct exec_child *child)
{
	if (WIFSIGNALED(child->status))
		return 128 + WTERMSIG(child->status);
	return WEXITSTATUS(child->status);
}

void exec_child_fini(struct exec_child *child)
{
	if (child->go >= 0)
		close(child->go);
	/* A child that still waits for the word reads the end of the pipe and goes. */
	if (child->pid > 0 && !child->ended)
		waitpid(child->pid, NULL, 0);
	if (child->failed >= 0)
		close(child->failed);
	if (child->signals >= 0)
		close(child->signals);
	sigprocmask(SIG_SETMASK, &child->old_mask, NULL);
}
