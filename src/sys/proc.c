/* SPDX-License-Identifier: BSD-3-Clause */
/* proc.c - clock, threads, signals, limits, privileges. */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

uint64_t gm_sys_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void gm_sys_sleep_ns(uint64_t ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(ns / 1000000000u),
		.tv_nsec = (long)(ns % 1000000000u),
	};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

int gm_sys_cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

int gm_sys_thread_create(pthread_t *ret, void *(*run)(void *), void *arg)
{
	return -pthread_create(ret, NULL, run, arg);
}

int gm_sys_thread_join(pthread_t thread)
{
	return -pthread_join(thread, NULL);
}

int gm_sys_set_affinity(const void *cpus, size_t len)
{
	return sched_setaffinity(0, len, cpus) ? -errno : 0;
}

int gm_sys_sigaction(int sig, const struct sigaction *act, struct sigaction *ret_old)
{
	return sigaction(sig, act, ret_old) ? -errno : 0;
}

int gm_sys_getrlimit(int resource, struct rlimit *ret)
{
	return getrlimit((__rlimit_resource_t)resource, ret) ? -errno : 0;
}

int gm_sys_kernel_release(char *buf, size_t cap)
{
	struct utsname names;

	if (uname(&names))
		return -errno;
	snprintf(buf, cap, "%s", names.release);
	return 0;
}

int gm_sys_has_cap(unsigned int cap)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	if (cap >= 64 || syscall(SYS_capget, &head, data))
		return 0;
	return (data[cap / 32].effective >> (cap % 32)) & 1;
}

int gm_sys_userfaultfd(int flags)
{
	long fd = syscall(SYS_userfaultfd, flags | O_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

ssize_t gm_sys_process_read(pid_t pid, uint64_t addr, void *to, size_t len)
{
	struct iovec local = {to, len};
	struct iovec remote = {(void *)(uintptr_t)addr, len};
	ssize_t nr = process_vm_readv(pid ? pid : getpid(), &local, 1, &remote, 1, 0);

	return nr < 0 ? -errno : nr;
}
