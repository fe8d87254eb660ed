/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.h - writes that go around the library, seen by the kernel's asynchronous write protection.
 *
 * A watch write-protects the memory of a space in this process. The first write to a page, by a vCPU, a
 * system call or a raw pointer, lifts that at once, without a message; a harvest asks the kernel for the pages
 * that were written, marks them in all logs of the space (log.h), and protects them again. Other
 * processes' mappings of the same memory are not seen. Linux 6.7 or later.
 */
#ifndef GUESTMEM_WATCH_H
#define GUESTMEM_WATCH_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_watch;

/**
 * gm_watch_create() - protect the memory of a space
 * @space:     borrowed; must outlive the watch
 * @ret_watch: the watch, destroyed with gm_watch_destroy()
 * @err:       optional
 *
 * It is a listener of the space: memory that comes later is protected when it comes. A transparent huge
 * page is split by the first write to it. Memory that is not mapped here or not the library's to protect
 * (devices') is left out. Returns 0; -ENOTSUP (the kernel has no asynchronous write protection);
 * -EPERM (userfaultfd is not allowed: vm.unprivileged_userfaultfd, or CAP_SYS_PTRACE); -EBUSY (a
 * transaction is open, or the memory is registered with another userfaultfd); -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_watch_create(
	struct gm_space *space, struct gm_watch **ret_watch, struct gm_error *err);

/**
 * gm_watch_harvest() - mark what was written since the last harvest, and protect it again
 * @watch:     borrowed
 * @ret_bytes: optional: bytes of the pages that were written
 * @err:       optional
 *
 * Returns 0, or what the kernel answered; pages that were found until then are marked.
 * Threads: any, one at a time. Since: 0.1.
 */
GM_API int gm_watch_harvest(struct gm_watch *watch, uint64_t *ret_bytes, struct gm_error *err);

/**
 * gm_watch_destroy() - lift the protection
 * @watch: taken on success; NULL is ignored
 * @err:   optional
 *
 * What was written since the last harvest is not marked. Returns 0 or -EBUSY (a transaction is open).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_watch_destroy(struct gm_watch *watch, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
