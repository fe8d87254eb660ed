/* SPDX-License-Identifier: BSD-3-Clause */
/* wp_async.h - a userfaultfd whose write protection nobody has to answer. */
#ifndef GM_SERVICES_WP_ASYNC_H
#define GM_SERVICES_WP_ASYNC_H

/*
 * Opens one: for all accesses, or those of user code where this process may no more. Returns the fd, the caller's; what
 * the kernel answered; or -ENOTSUP with *ret_why, its answer, if it has no such protection (else *ret_why is 0).
 */
int gm_wp_async_open(int *ret_why);

#endif
