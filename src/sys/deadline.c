/* SPDX-License-Identifier: BSD-3-Clause */
/* deadline.c - waiting with a deadline. */
#include "sys/deadline.h"

#include <time.h>

void gm_sys_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

void gm_sys_cond_destroy(pthread_cond_t *cond)
{
	pthread_cond_destroy(cond);
}

void gm_sys_cond_wake(pthread_cond_t *cond)
{
	pthread_cond_broadcast(cond);
}

int gm_sys_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};

	return -pthread_cond_timedwait(cond, lock, &ts);
}
