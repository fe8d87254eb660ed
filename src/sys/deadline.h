/* SPDX-License-Identifier: BSD-3-Clause */
/* deadline.h - waiting for another thread with a deadline. */
#ifndef GM_SYS_DEADLINE_H
#define GM_SYS_DEADLINE_H

#include <pthread.h>
#include <stdint.h>

/* A condition that is waited for by gm_sys_now_ns()'s clock; 0 or -ETIMEDOUT. */
void gm_sys_cond_init(pthread_cond_t *cond);
void gm_sys_cond_destroy(pthread_cond_t *cond);
void gm_sys_cond_wake(pthread_cond_t *cond); /* all who wait */
int gm_sys_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns);

#endif
