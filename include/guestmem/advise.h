/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * advise.h - advice to the kernel for the memory of another process, such as a monitor that cannot be changed.
 *
 * None of it changes what the process reads. Giving memory back for another process would: that is the process's own to
 * do (discard.h).
 */
#ifndef GUESTMEM_ADVISE_H
#define GUESTMEM_ADVISE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum gm_advice - what is to become of pages */
enum gm_advice {
	GM_ADVICE_COLD = 0, /* reclaimed before others */
	GM_ADVICE_PAGEOUT,  /* reclaimed now: swapped, or written to their file */
	GM_ADVICE_WILLNEED, /* brought in again */
	GM_ADVICE_COLLAPSE, /* huge pages made of small ones now, where their mapping may have them */
};

/**
 * gm_process_advise() - advise for stretches of a process's memory
 * @pidfd:    of the process (pidfd_open(2)), borrowed
 * @ranges:   host addresses of that process, on page borders; lengths are rounded up to pages. Any number
 * @nr:       number of @ranges
 * @advice:   enum gm_advice
 * @ret_done: optional: bytes that were advised, in the order of @ranges; written also with an error
 * @err:      optional: gpa is the host address at which it stopped
 *
 * Return: 0; -EINVAL (not on a page border, or advice that is none; with GM_ADVICE_COLLAPSE memory that cannot be
 * huge); -ENOMEM (something there is not mapped, or with GM_ADVICE_COLLAPSE no huge page is free); -EACCES (the caller
 * may not trace the process); -EPERM (it has no CAP_SYS_NICE); -ESRCH (it has ended); -EBADF; -EAGAIN (pages are busy);
 * or what else process_madvise(2) failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_process_advise(int pidfd, const struct iovec *ranges, size_t nr,
	enum gm_advice advice, uint64_t *ret_done, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
