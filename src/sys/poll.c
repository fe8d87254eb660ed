/* SPDX-License-Identifier: BSD-3-Clause */
/* poll.c - waiting for many things at once. */
#include "sys/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

int gm_sys_epoll_create(void)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int gm_sys_epoll_add(int epoll, int fd, void *data)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int gm_sys_epoll_set(int epoll, int fd, uint32_t events, void *data)
{
	struct epoll_event event = {.events = events, .data.ptr = data};

	if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int gm_sys_epoll_remove(int epoll, int fd)
{
	return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) ? -errno : 0;
}

int gm_sys_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout_ms)
{
	return (int)GM_RAW(epoll_wait(epoll, events, max, timeout_ms), SYS_epoll_pwait, epoll,
		events, max, timeout_ms, NULL, 0);
}

int gm_sys_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

int gm_sys_timerfd(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

int gm_sys_timer_set(int fd, uint64_t ns)
{
	const struct itimerspec when = {
		.it_value = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)},
	};

	return timerfd_settime(fd, 0, &when, NULL) ? -errno : 0;
}

int gm_sys_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}
