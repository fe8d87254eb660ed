/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.h - faults on guest memory as errors instead of deaths.
 *
 * A peer can shrink the file behind guest memory, a huge-page pool can run empty, memory can fail.
 * The kernel then sends SIGBUS or SIGSEGV to the thread that touched the page. With the guard
 * installed, the functions of access.h return -EIO, -EACCES (the pages are protected) or -EHWPOISON
 * instead, and say how many bytes were done.
 *
 * The guard is the one thing in the library that belongs to the whole process: it is installed when
 * asked for, counted, and gives every other SIGBUS and SIGSEGV to whoever had it before. Without it
 * a fault ends the process, or does whatever the process has arranged.
 */
#ifndef GUESTMEM_GUARD_H
#define GUESTMEM_GUARD_H

#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_guard_install() - take SIGBUS and SIGSEGV
 *
 * It also tells the library about the guarded accesses that were compiled into the calling program
 * or library; each of these that uses functions of access.h calls it, or creates readers of its
 * own.
 *
 * Returns 0; -ESTALE (somebody has replaced the handlers since an earlier install; nothing was
 * changed); -ENOSPC (64 programs and libraries are known already); -ENOTSUP (this library was built
 * without support for inline accesses: compile the caller with GM_NO_INLINE).
 * Threads: any, not in a signal handler. Since: 0.1.
 */
GM_INLINE int gm_guard_install(void);

/**
 * gm_guard_remove() - undo one gm_guard_install()
 *
 * Called from the same program or library. The last one puts the previous handlers back. No thread
 * may be in an access that is counted on to be guarded.
 *
 * Returns 0; -ENOENT (not installed); -ESTALE (somebody has replaced the handlers: theirs stay, and
 * ours, should they call it, passes everything on).
 * Threads: any, not in a signal handler. Since: 0.1.
 */
GM_INLINE int gm_guard_remove(void);

/**
 * gm_guard_check() - are the handlers still ours?
 *
 * For the points at which an embedder wants to know that nobody has replaced them.
 *
 * Returns 0; -ESTALE (replaced); -ENOENT (not installed).
 * Threads: any, not in a signal handler. Since: 0.1.
 */
GM_API int gm_guard_check(void);

/**
 * gm_guard_install_table() - what gm_guard_install() calls
 * @start: exception table of the caller, borrowed until the matching gm_guard_remove_table()
 * @end:   its end
 *
 * Returns as gm_guard_install(), and -EINVAL for what cannot be a table.
 * Threads: as above. Since: 0.1.
 */
GM_API int gm_guard_install_table(const void *start, const void *end);

/**
 * gm_guard_remove_table() - what gm_guard_remove() calls
 * @start: as given to gm_guard_install_table()
 * @end:   as given to gm_guard_install_table()
 *
 * Returns as gm_guard_remove().
 * Threads: as above. Since: 0.1.
 */
GM_API int gm_guard_remove_table(const void *start, const void *end);

#include <guestmem/inline/guard.h>

#ifdef __cplusplus
}
#endif

#endif
