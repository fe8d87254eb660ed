/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_run.h - a pager at work: stepping, resolving in the faulting thread, filling ahead, figures, the end.
 */
#ifndef GUESTMEM_PAGER_RUN_H
#define GUESTMEM_PAGER_RUN_H

#include <guestmem/pager.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_pager_step() - answers what has come in, then fills a little
 * @pager:      borrowed
 * @timeout_ms: how long to wait if there is nothing to do; 0: not, negative: for ever
 *
 * It never waits for a grace period of a space, nor for a source that waits. Return: number of faults answered, -EBUSY
 * (another thread steps it), or what a system call failed with.
 * Threads: one at a time. Since: 0.1.
 */
GM_API int gm_pager_step(struct gm_pager *pager, int timeout_ms);

/**
 * gm_pager_run() - steps until gm_pager_quit()
 * @pager: borrowed
 *
 * Return: 0, or as gm_pager_step(). Threads: one at a time. Since: 0.1.
 */
GM_API int gm_pager_run(struct gm_pager *pager);

/**
 * gm_pager_quit() - lets gm_pager_run() return; if none runs, the next returns at once
 * @pager: borrowed
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_pager_quit(struct gm_pager *pager);

/**
 * gm_pager_fd() - becomes readable when there is something to step
 * @pager: borrowed
 *
 * Return: an fd, the pager's: for poll. Threads: any. Since: 0.1.
 */
GM_API int gm_pager_fd(const struct gm_pager *pager);

/**
 * gm_pager_resolve() - a page is there, or an error, when this returns
 * @pager: borrowed
 * @addr:  of this process: of SIGBUS, or where KVM_EXIT_MEMORY_FAULT points
 *
 * In the thread that faulted, with GM_PAGER_SIGBUS; elsewhere to bring one page. Sources that wait are driven by who
 * steps. Return: 0: touch it again; -EAGAIN: touch it again, it was not possible now; -ENOENT: no area; -EIO: poisoned;
 * -ESRCH: its process is gone.
 * Threads: any, but not the one that steps if the source waits. Since: 0.1.
 */
GM_API int gm_pager_resolve(struct gm_pager *pager, const void *addr);

/**
 * gm_pager_add_twin() - a second mapping of the memory of an area
 * @pager:    borrowed
 * @area:     number of the first: shared memory of this process that is continued, without GM_PAGER_EVENTS
 * @addr:     the same bytes of the same file, mapped once more; as long, empty of page-table entries
 * @flags:    GM_PAGER_SIGBUS, GM_PAGER_USER_ONLY
 * @ret_area: optional: its number
 * @err:      optional
 *
 * For KVM's mapping with GM_PAGER_SIGBUS, in which vCPUs resolve their faults themselves, and the devices' without, in
 * which system calls wait. A page is filled once and mapped in each where it is touched. Return: 0, -ENOENT, -EINVAL,
 * -ENOTSUP (not of this area), -EBUSY (it has one, or another userfaultfd has the memory), -EPERM, -ENOMEM, or what a
 * system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pager_add_twin(struct gm_pager *pager, uint64_t area, void *addr, uint32_t flags,
	uint64_t *ret_area, struct gm_error *err);

/**
 * gm_pager_prefetch() - bytes that will be wanted
 * @pager: borrowed
 * @area:  number
 * @off:   byte of the area
 * @len:   bytes; whole pages around them are brought, in the order of the calls, after what is wanted now
 *
 * GM_PAGER_FILL_NONE becomes GM_PAGER_FILL_RANGES by this call, and by gm_pager_prefetch_set() (wset.h).
 * Return: 0, -ENOENT, -ERANGE, -ENOSPC (too many ranges wait).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pager_prefetch(struct gm_pager *pager, uint64_t area, uint64_t off, uint64_t len);

/**
 * gm_pager_push() - pages that the caller has brought, whether anybody waits for them or not
 * @pager:         borrowed
 * @area:          number
 * @off:           byte of the area, whole pages of it
 * @data:          borrowed for the call: the bytes, in memory that no pager fills; NULL: zeros
 * @len:           bytes, whole pages
 * @ret_done:      optional: bytes dealt with, from the first on; written always
 * @ret_installed: optional: of these, installed by this call; written always
 *
 * Absent pages get these bytes, and who waits for one is woken. All others stay as they are: there, given back,
 * poisoned. So does one that a request of the area's source is bringing: the request has it, and who has got its bytes
 * by another way completes the request with them. 256 KiB at once cost as much as a few pages each by itself.
 * With GM_PAGER_MOVE pages are copied in.
 *
 * Return: 0; -EAGAIN: the kernel does not take what lies behind @ret_done now (an event is unread, a discard is under
 * way): the same again after a step; -ENOENT, -EINVAL (no whole pages), -ERANGE, -ENOTSUP (GM_PAGER_MAP,
 * GM_PAGER_PROTECT, or bytes for an area without a source, whose bytes are in its file), -EFAULT (@data), -ENOMEM,
 * -ESRCH (its process is gone), or what the kernel refuses the page at @ret_done with: it is absent still.
 * Threads: any, also beside who steps. Since: 0.1.
 */
GM_API int gm_pager_push(struct gm_pager *pager, uint64_t area, uint64_t off, const void *data,
	uint64_t len, uint64_t *ret_done, uint64_t *ret_installed);

/**
 * gm_pager_lose() - bytes that nobody will ever bring
 * @pager: borrowed
 * @area:  number
 * @off:   byte of the area, whole pages of it
 * @len:   bytes, whole pages
 *
 * Absent pages are poisoned, who waits for one gets SIGBUS, and GM_PAGER_POISONED is told with -ENODATA. All others
 * stay as they are, also what a request of the source is bringing. Return: 0, -ENOENT, -EINVAL (no whole pages),
 * -ERANGE, -ENOTSUP (GM_PAGER_MAP, GM_PAGER_PROTECT). Threads: any. Since: 0.1.
 */
GM_API int gm_pager_lose(struct gm_pager *pager, uint64_t area, uint64_t off, uint64_t len);

/* What is brought that nobody asked for. */
enum gm_pager_ahead {
	GM_PAGER_FILL_NONE =
		0, /* nothing: the default. What was told before waits until it is another */
	GM_PAGER_FILL_RANGES, /* what gm_pager_prefetch() and gm_pager_prefetch_set() were told */
	GM_PAGER_FILL_ALL,    /* that, then all the rest in order */
};

/**
 * gm_pager_fill() - what is brought in the background, by steps
 * @pager: borrowed
 * @what:  enum gm_pager_ahead
 * @rate:  bytes a second, 0 = no limit
 *
 * Return: 0, -EINVAL. Threads: any. Since: 0.1.
 */
GM_API int gm_pager_fill(struct gm_pager *pager, uint32_t what, uint64_t rate);

/* How a pager ends. */
enum gm_pager_end {
	GM_PAGER_COMPLETE =
		0,       /* all absent pages are brought, then the memory is ordinary memory */
	GM_PAGER_POISON, /* absent pages are poisoned; of what is under way too */
	GM_PAGER_HANDOVER, /* nothing: another process has the userfaultfds and the states, and goes on */
};

/**
 * gm_pager_stop() - brings it to an end
 * @pager:      borrowed; nobody else steps or resolves
 * @how:        enum gm_pager_end
 * @timeout_ms: negative: none
 * @err:        optional
 *
 * Return: 0; -ETIMEDOUT: it goes on as before, call it again or step; -EINVAL, -EBUSY, or what a system call failed
 * with.
 * Threads: the one that steps. Since: 0.1.
 */
GM_API int gm_pager_stop(
	struct gm_pager *pager, uint32_t how, int timeout_ms, struct gm_error *err);

#define GM_PAGER_BUCKETS 32u

/* What a page was that a fault waited for: it says how long that should take. */
enum gm_pager_class {
	GM_PAGER_CLASS_ZERO = 0, /* zeros of the source */
	GM_PAGER_CLASS_RAW,      /* bytes of a file as they are */
	GM_PAGER_CLASS_PACKED,   /* bytes that were made here: decompressed, copied, put together */
	GM_PAGER_CLASS_REMOTE,   /* from a source that waits */
	GM_PAGER_CLASS_THERE,    /* no source: in the file behind the memory already */
	GM_PAGER_CLASSES
};

/**
 * struct gm_pager_stats - counted since the pager was made
 * @size:       sizeof(struct gm_pager_stats), set by the caller
 * @faults:     reports of the kernel and calls of gm_pager_resolve()
 * @loaded:     of these, pages that had to be brought from a source
 * @zeros:      answered with zeros: of a source, or given back before
 * @mapped:     there already but not mapped: continued
 * @duplicates: somebody was bringing the page, or it was there
 * @poisoned:   pages
 * @parked:     installations that had to be tried again, as an event was unread
 * @again:      times the kernel said so
 * @events:     removed, unmapped, remapped, forked
 * @stray:      faults where no area is
 * @bytes_demand, @bytes_ahead: installed because of a fault, and ahead of one
 * @bytes_zero: of both, and of what was pushed, zeros
 * @latency:    faults for which a page was brought (@loaded), answered in less than 2^i us from when they were read:
 *              bucket i, the last has all others
 * @half_ns, @most_ns, @all_ns: from the first step until 50, 90 and 100 % were not absent; 0 = not yet
 * @class_latency: @latency by enum gm_pager_class
 * @class_ns:   sum of the times of these faults
 * @bytes_pushed: installed by gm_pager_push()
 */
struct gm_pager_stats {
	size_t size;
	uint64_t faults;
	uint64_t loaded;
	uint64_t zeros;
	uint64_t mapped;
	uint64_t duplicates;
	uint64_t poisoned;
	uint64_t parked;
	uint64_t again;
	uint64_t events;
	uint64_t stray;
	uint64_t bytes_demand;
	uint64_t bytes_ahead;
	uint64_t bytes_zero;
	uint64_t latency[GM_PAGER_BUCKETS];
	uint64_t half_ns;
	uint64_t most_ns;
	uint64_t all_ns;
	uint64_t class_latency[GM_PAGER_CLASSES][GM_PAGER_BUCKETS];
	uint64_t class_ns[GM_PAGER_CLASSES];
	uint64_t bytes_pushed;
};

/**
 * gm_pager_stats() - the figures
 * @pager:     borrowed
 * @ret_stats: filled in
 *
 * Return: 0, -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_pager_stats(struct gm_pager *pager, struct gm_pager_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
