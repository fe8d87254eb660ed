/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager.h - memory that is filled when it is touched, from sources (source.h).
 *
 * Memory is added to a pager in areas, each with a source. One thread of the caller's steps the pager: it answers what
 * the kernel reports, and fills ahead as it was told. Whoever touches a missing page waits until it is there: vCPUs,
 * threads and system calls alike. A page whose source fails is poisoned, never zeros.
 */
#ifndef GUESTMEM_PAGER_H
#define GUESTMEM_PAGER_H

#include <guestmem/source.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_pager;

/* How an area is filled. */
enum gm_pager_way {
	GM_PAGER_AUTO = 0,
	GM_PAGER_COPY, /* a page is copied in: any memory */
	GM_PAGER_CONTINUE, /* written to the file by a second mapping, then mapped: memfds, shared huge pages */
	GM_PAGER_MAP, /* the source's file is mapped in its place: the kernel pages. Own memory, private */
	GM_PAGER_MOVE, /* read by 2 MiB into huge pages, which are moved in: own private memory, on request */
	GM_PAGER_PROTECT, /* it is there already, and to be saved while it is used (snapshot_live.h). No source */
};

/* How who steps waits for the next fault, if it may wait at all. */
enum gm_pager_wait {
	GM_PAGER_WAIT_AUTO =
		0, /* after a fault it looks for more for @spin_ns, as long as that pays; then it sleeps */
	GM_PAGER_WAIT_BLOCK, /* sleeps at once */
	GM_PAGER_WAIT_BUSY,  /* never sleeps: for a CPU of its own */
};

/* What an embedder is told. */
enum gm_pager_kind {
	GM_PAGER_POISONED = 1, /* a source failed: whoever touches these bytes gets SIGBUS */
	GM_PAGER_STUCK, /* the kernel refuses: somebody who changes the mapping does not go on. It is tried on */
	GM_PAGER_ENDED,   /* the process that had the memory is gone */
	GM_PAGER_STRAY,   /* a fault where no area is; it was poisoned */
	GM_PAGER_DROPPED, /* given back, absent pages among them: zeros, which nobody has to bring */
};

/**
 * struct gm_pager_event - what happened
 * @kind: enum gm_pager_kind
 * @code: negative errno value
 * @area: number, 0 if none
 * @off:  byte of the area
 * @addr: address in the process that has the memory
 * @len:  bytes
 */
struct gm_pager_event {
	uint32_t kind;
	int32_t code;
	uint64_t area;
	uint64_t off;
	uint64_t addr;
	uint64_t len;
};

/* gm_pager_opts.flags: @journal is where what was read from userfaultfds is kept until it has been applied. */
#define GM_PAGER_JOURNAL 0x1u
#define GM_PAGER_JOURNAL_LEN 4096u /* bytes of it */
#define GM_PAGER_TELL_DROPPED 0x2u /* GM_PAGER_DROPPED is told */

/**
 * struct gm_pager_opts - a pager; zero means default
 * @size:        sizeof(struct gm_pager_opts)
 * @flags:       GM_PAGER_JOURNAL, GM_PAGER_TELL_DROPPED
 * @requests:    under way at once with sources that wait, 1 to 4096; default 16
 * @request_len: bytes of one, and of an installation, at most; a power of two, 64 KiB to 1 GiB; default 2 MiB. Pages
 *               of an area that is copied into are not larger
 * @parked:      ranges that can wait for another try, 16 to 65536; default 256
 * @ranges:      ranges that can wait to be prefetched, 1 to 2^20; default 1024
 * @retry_ns:    until a refused installation is tried again; default 250 us
 * @stuck_after: tries until GM_PAGER_STUCK is told; default 8
 * @wait:        enum gm_pager_wait
 * @spin_ns:     100 ns to 1 s; default 50 us
 * @told:        optional: called in threads that step, resolve, give up or discard, several at once, with none of the
 *               pager's locks held, maybe after the page was resolved
 * @ctx:         passed to it
 * @journal:     borrowed, mapped: a file of zeros for whoever takes over, or that of a pager that is gone: what it had
 *               read and not applied is applied by the first step. All userfaultfds are added in the same order
 * @journal_off: where in it, a multiple of the host's page size
 */
struct gm_pager_opts {
	size_t size;
	uint32_t flags;
	uint32_t requests;
	uint64_t request_len;
	uint32_t parked;
	uint32_t ranges;
	uint32_t retry_ns;
	uint32_t stuck_after;
	uint32_t wait;
	uint32_t spin_ns;
	void (*told)(void *ctx, const struct gm_pager_event *event);
	void *ctx;
	int32_t journal;
	uint32_t reserved;
	uint64_t journal_off;
};

/* No message: who touches a missing page gets SIGBUS (KVM_RUN: EFAULT) and calls gm_pager_resolve(). */
#define GM_PAGER_SIGBUS 0x1u
/* Own memory is added with messages of madvise, munmap, mremap and fork: only if others do these than who steps. */
#define GM_PAGER_EVENTS 0x2u
/* Faults of user code only, if this process may no more: kernel and KVM get EFAULT. Without it that is -EPERM. */
#define GM_PAGER_USER_ONLY 0x4u
/* MADV_DONTNEED of shared memory means zeros also for pages that were never filled. */
#define GM_PAGER_REMOVED_ZERO 0x8u
/* @fd is the file behind the memory. */
#define GM_PAGER_FILE 0x10u
/* @states is a file of states (gm_pager_states_len()), kept up to date for whoever takes over. */
#define GM_PAGER_STATES 0x20u
/* The states there are those of a pager that is gone: go on from them. */
#define GM_PAGER_TAKEOVER 0x40u
/*
 * @present says what is there; the rest is given back (MADV_DONTNEED, holes), and nobody touches it until that is done.
 * Own memory: anonymous and private, or continued with a source. Not with GM_PAGER_TAKEOVER or GM_PAGER_EVENTS.
 */
#define GM_PAGER_PRESENT 0x80u
/*
 * Of gm_pager_add_range(): GM_PAGER_AUTO may choose GM_PAGER_MAP. The source's files do not change, and nobody wants
 * zeros where this memory is given back.
 */
#define GM_PAGER_MAY_MAP 0x1000u

/**
 * struct gm_pager_area_opts - where an area's bytes come from; zero means default
 * @size:      sizeof(struct gm_pager_area_opts)
 * @source:    borrowed until the pager is destroyed; NULL: the bytes are in the file behind the memory, which
 *             somebody else fills or has filled
 * @offset:    of the area's first byte in it; a multiple of the page size is best
 * @flags:     GM_PAGER_* bits
 * @way:       enum gm_pager_way
 * @page_size: of the memory; 0: asked of the kernel (own memory), 4 KiB (others')
 * @fd:        with GM_PAGER_FILE: borrowed, duplicated
 * @states:    with GM_PAGER_STATES: borrowed, mapped
 * @fd_off:    byte of the file at the area's first
 * @states_off: where in @states, a multiple of the host's page size
 * @present:   with GM_PAGER_PRESENT: borrowed for the call; bit i % 64 of word i / 64 is the i-th 4 KiB of what is
 *             added. Larger pages have all their bits or none. What is present and was never written is zeros
 */
struct gm_pager_area_opts {
	size_t size;
	struct gm_source *source;
	uint64_t offset;
	uint32_t flags;
	uint32_t way;
	uint64_t page_size;
	int32_t fd;
	int32_t states;
	uint64_t fd_off;
	uint64_t states_off;
	const uint64_t *present;
};

/**
 * struct gm_pager_area_info - an area
 * @size:      sizeof(struct gm_pager_area_info), set by the caller
 * @id:        number
 * @addr:      first address in its process; @len bytes as it was added
 * @gpa:       of memory of a space, else 0
 * @way:       enum gm_pager_way
 * @page_size: bytes
 * @absent, @present, @removed, @poisoned: bytes; what is being loaded is absent, what is zeros is removed or present
 * @uffd:      borrowed until the pager is destroyed, to be duplicated for a keeper; -1 with GM_PAGER_MAP
 * @why:       why this way
 */
struct gm_pager_area_info {
	size_t size;
	uint64_t id;
	uint64_t addr;
	uint64_t len;
	uint64_t gpa;
	uint64_t page_size;
	uint64_t absent;
	uint64_t present;
	uint64_t removed;
	uint64_t poisoned;
	uint32_t way;
	int32_t uffd;
	char why[128];
};

/**
 * gm_pager_create() - a pager without areas
 * @opts:      or NULL
 * @ret_pager: the caller's, for gm_pager_destroy()
 * @err:       optional
 *
 * Return: 0, -EINVAL, -E2BIG, -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pager_create(
	const struct gm_pager_opts *opts, struct gm_pager **ret_pager, struct gm_error *err);

/**
 * gm_pager_destroy() - the end, after gm_pager_stop()
 * @pager: taken on success; NULL is ignored
 * @err:   optional
 *
 * A userfaultfd that is closed turns absent pages into zeros: while there are any this is refused.
 * Return: 0 or -EBUSY. Threads: one, when no other uses it. Since: 0.1.
 */
GM_API int gm_pager_destroy(struct gm_pager *pager, struct gm_error *err);

/**
 * gm_pager_add_range() - memory of this process
 * @pager:    borrowed
 * @addr:     first byte; it is empty, or @opts say what is there: that would not be missed
 * @len:      bytes, a multiple of the page size
 * @opts:     copied
 * @ret_area: optional: its number
 * @err:      optional
 *
 * Return: 0, -EINVAL, -E2BIG, -ERANGE (the source is shorter), -EPERM (no userfaultfd is allowed), -EBUSY (another one
 * has the memory), -ENOTSUP (not this way), -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pager_add_range(struct gm_pager *pager, void *addr, uint64_t len,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err);

/**
 * gm_pager_add_space() - memory of a space
 * @pager:    borrowed
 * @space:    borrowed until the pager is destroyed
 * @gpa:      first address
 * @len:      bytes. What shows there in several pieces becomes several areas; all of it is RAM
 * @opts:     copied; @offset is that of @gpa; files are those of the blocks
 * @ret_area: optional: number of the first; others follow
 * @err:      optional
 *
 * Discards of the space (discard.h) are followed: what is given back is zeros. A change of the map that would take
 * memory with absent pages is refused. A block that is a private mapping of its file (GM_BLOCK_PRIVATE) needs no
 * source: the kernel pages it (GM_PAGER_MAP, clone.h), unless another way or SIGBUS is asked for. Return: as
 * gm_pager_add_range(); -EFAULT (nothing is there), -EBUSY. Threads: any. Since: 0.1.
 */
GM_API int gm_pager_add_space(struct gm_pager *pager, struct gm_space *space, uint64_t gpa,
	uint64_t len, const struct gm_pager_area_opts *opts, uint64_t *ret_area,
	struct gm_error *err);

/**
 * gm_pager_add_uffd() - memory of another process, which has registered it
 * @pager: borrowed
 * @uffd:  its userfaultfd, borrowed, duplicated; it becomes non-blocking
 * @pid:   for errors, or 0
 * @ret_uffd: number for gm_pager_add_mapping()
 * @err:   optional
 *
 * Return: 0, -EINVAL, -ENOMEM, or what a system call failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_pager_add_uffd(
	struct gm_pager *pager, int uffd, int32_t pid, uint64_t *ret_uffd, struct gm_error *err);

/**
 * gm_pager_add_mapping() - a range that was registered with it
 * @pager:    borrowed
 * @uffd:     number
 * @addr:     first address in the other process
 * @len:      bytes, a multiple of the page size
 * @opts:     copied. GM_PAGER_TAKEOVER also wakes all who wait there, so that they are reported again
 * @ret_area: optional
 * @err:      optional
 *
 * Add all of them before the pager is stepped: a fault where no area is gets poisoned. Return: as gm_pager_add_range().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pager_add_mapping(struct gm_pager *pager, uint64_t uffd, uint64_t addr, uint64_t len,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err);

/**
 * gm_pager_area() - an area, or the next one
 * @pager:    borrowed
 * @id:       its number, from 1
 * @ret_info: filled in
 *
 * Return: 0, -ENOENT, -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_pager_area(struct gm_pager *pager, uint64_t id, struct gm_pager_area_info *ret_info);

/**
 * gm_pager_states_len() - bytes of a file of states
 * @pages: of the area
 *
 * Return: bytes, a multiple of the host's page size. Threads: any. Since: 0.1.
 */
GM_API uint64_t gm_pager_states_len(uint64_t pages);

#ifdef __cplusplus
}
#endif

#endif
