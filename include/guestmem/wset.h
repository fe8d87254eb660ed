/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wset.h - recorded working sets: which pages of an image a guest touched, and in which order.
 *
 * What a guest needed after one restore it needs after the next. A pager (pager.h) records first touches; the set is
 * saved beside the image, and the next pager brings it ahead of the guest. Sets of several runs are merged, and forget
 * what is no more touched. (workingset.h is something else: an estimate of how much a running guest uses.)
 *
 * A set has pages of 4096 bytes of an image, whatever the page size of the memory: bytes of the source of an area, or
 * of the file behind the memory where there is no source. It is bound to the image by 16 bytes, such as the identity
 * of saved memory (snapshot.h).
 */
#ifndef GUESTMEM_WSET_H
#define GUESTMEM_WSET_H

#include <guestmem/pager.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_wset;
struct gm_wset_recorder;

#define GM_WSET_PAGE 4096u
#define GM_WSET_RECORDINGS 32u /* of which a set knows which pages were touched */

/* ---- recording ---- */

/**
 * struct gm_wset_recorder_opts - what is recorded; zero means default
 * @size:  sizeof(struct gm_wset_recorder_opts)
 * @len:   bytes of the image, at most 2^44 - 4096. What lies behind is not recorded
 * @order: first touches that are remembered in their order, 1 to 2^32 - 1; 0 = 2^20. All others are in the set without
 *         one. Each takes four bytes, and each page of the image a bit, when they are used
 * @flags: 0
 */
struct gm_wset_recorder_opts {
	size_t size;
	uint64_t len;
	uint64_t order;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * gm_wset_recorder_create() - a recorder that has seen nothing
 * @opts:         copied
 * @ret_recorder: the caller's, for gm_wset_recorder_destroy()
 * @err:          optional
 *
 * Return: 0, -EINVAL, -E2BIG, -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_wset_recorder_create(const struct gm_wset_recorder_opts *opts,
	struct gm_wset_recorder **ret_recorder, struct gm_error *err);

/**
 * gm_wset_recorder_destroy() - gives it up; pagers that have it keep it until they are destroyed
 * @recorder: taken; NULL is ignored
 *
 * Threads: one, when no other of the caller's uses it. Since: 0.1.
 */
GM_API void gm_wset_recorder_destroy(struct gm_wset_recorder *recorder);

/**
 * gm_wset_recorder_note() - a touch that no pager saw
 * @recorder: borrowed
 * @off:      byte of the image; behind its end nothing is recorded
 *
 * Takes a few ns, allocates nothing, and waits for nobody. Threads: any. Since: 0.1.
 */
GM_API void gm_wset_recorder_note(struct gm_wset_recorder *recorder, uint64_t off);

/**
 * gm_wset_recorder_stop() - nothing is recorded from now on, or it goes on
 * @recorder: borrowed
 * @stop:     true: a touch that was on its way may still be recorded
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_wset_recorder_stop(struct gm_wset_recorder *recorder, bool stop);

/**
 * gm_wset_recorder_take() - what has been recorded so far; it goes on
 * @recorder: borrowed
 * @identity: 16 bytes that name the image
 * @ret_set:  the caller's, for gm_wset_destroy()
 * @err:      optional
 *
 * Return: 0 or -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_wset_recorder_take(struct gm_wset_recorder *recorder, const uint8_t identity[16],
	struct gm_wset **ret_set, struct gm_error *err);

/**
 * gm_pager_record() - first touches of an area are recorded from now on
 * @pager:    borrowed
 * @area:     number; 0: all areas that there are now
 * @recorder: borrowed, and kept until the pager is destroyed
 * @err:      optional
 *
 * What the pager brings ahead is not recorded, nor what was touched after it came by itself: so an area that is
 * recorded gets no more than the pages asked for. With GM_PAGER_MAP the kernel tells nobody: such an area is watched
 * by what is mapped, which gm_pager_record_look() reads, without an order. Return: 0; -ENOENT; -EBUSY: an area has
 * another recorder (a recorder that was stopped too); -ENOTSUP: the kernel has no way to watch a mapped file (Linux
 * 6.7), or what a system call failed with. Threads: one at a time. Since: 0.1.
 */
GM_API int gm_pager_record(struct gm_pager *pager, uint64_t area, struct gm_wset_recorder *recorder,
	struct gm_error *err);

/**
 * gm_pager_record_look() - notes what is mapped of recorded areas with GM_PAGER_MAP, in rising order
 * @pager: borrowed
 * @err:   optional
 *
 * In front of gm_wset_recorder_take(); more often for a rough order. Return: 0, or what a system call failed with.
 * Threads: one at a time. Since: 0.1.
 */
GM_API int gm_pager_record_look(struct gm_pager *pager, struct gm_error *err);

/* ---- sets ---- */

/**
 * struct gm_wset_run - pages in a row
 * @off:  byte of the image
 * @len:  bytes
 * @seen: in which recordings they were touched: bit 0 is the last one, bit 1 that in front of it, and so on
 * @reserved: zero
 */
struct gm_wset_run {
	uint64_t off;
	uint64_t len;
	uint32_t seen;
	uint32_t reserved;
};

/**
 * struct gm_wset_info - a set; @size is set by the caller
 * @identity:   of the image
 * @len:        bytes of the image
 * @pages:      in the set
 * @runs:       number
 * @ordered:    pages whose order of first touch is known; the others come behind them
 * @recordings: that it was made of, GM_WSET_RECORDINGS at most
 */
struct gm_wset_info {
	size_t size;
	uint8_t identity[16];
	uint64_t len;
	uint64_t pages;
	uint64_t runs;
	uint64_t ordered;
	uint32_t recordings;
	uint32_t reserved;
};

/**
 * gm_wset_create() - a set of the caller's pages
 * @runs:     in the order of their first touch; a page that comes again counts once. @seen is not looked at
 * @nr:       number of them
 * @len:      bytes of the image
 * @identity: 16 bytes that name it
 * @ret_set:  the caller's
 * @err:      optional
 *
 * Return: 0, -ERANGE (a run does not lie in the image), -EINVAL, -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_wset_create(const struct gm_wset_run *runs, size_t nr, uint64_t len,
	const uint8_t identity[16], struct gm_wset **ret_set, struct gm_error *err);

/**
 * gm_wset_destroy() - gives a set up; pagers that bring it keep it as long as they do
 * @set: taken; NULL is ignored
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_wset_destroy(struct gm_wset *set);

/**
 * gm_wset_info() - what it is
 * @set:      borrowed
 * @ret_info: filled in
 *
 * Return: 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_wset_info(const struct gm_wset *set, struct gm_wset_info *ret_info);

/**
 * gm_wset_next() - the run that holds a byte, from there on, or the first one behind it
 * @set:     borrowed
 * @off:     byte of the image
 * @ret_run: filled in; the last one ends where the image does. Neighbours differ in @seen
 *
 * Return: 0 or -ENOENT. Threads: any. Since: 0.1.
 */
GM_API int gm_wset_next(const struct gm_wset *set, uint64_t off, struct gm_wset_run *ret_run);

/**
 * gm_wset_touch() - the page that was touched as the n-th
 * @set:     borrowed
 * @n:       from 0, less than @ordered
 * @ret_off: its first byte in the image
 *
 * Return: 0 or -ENOENT. Threads: any. Since: 0.1.
 */
GM_API int gm_wset_touch(const struct gm_wset *set, uint64_t n, uint64_t *ret_off);

/**
 * struct gm_wset_merge_opts - what of several sets is in one; zero means default
 * @size:  sizeof(struct gm_wset_merge_opts)
 * @last:  recordings that count, the latest ones; 0 = all that are known
 * @least: of these a page was touched in so many; 0 = 1, which is the union
 */
struct gm_wset_merge_opts {
	size_t size;
	uint32_t last;
	uint32_t least;
};

#define GM_WSET_EVERY                                                                              \
	UINT32_MAX /* gm_wset_merge_opts.least: in each that counts: the intersection */

/**
 * gm_wset_merge() - sets of one image, or one of them with less in it
 * @sets:    borrowed, the oldest first
 * @nr:      number of them, at least 1
 * @opts:    or NULL
 * @ret_set: the caller's
 * @err:     optional
 *
 * The result knows which of @last recordings each page was touched in, so it can be merged with the next. Its order is
 * that of the latest set, then that of the one in front of it, and so on.
 * Return: 0, -ESTALE (not of the same image), -EINVAL, -E2BIG, -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_wset_merge(struct gm_wset *const *sets, size_t nr,
	const struct gm_wset_merge_opts *opts, struct gm_wset **ret_set, struct gm_error *err);

/* ---- files: docs/workingset-format.md ---- */

/**
 * gm_wset_save() - writes a set to a file, which appears whole or not at all
 * @set:  borrowed
 * @path: made beside it and renamed; a link there is replaced
 * @err:  optional
 *
 * Beside 88 bytes it takes at most a bit for each page of the image and two bytes for each page of the set (and of
 * several recordings the histories): of an order that takes more the end is left out. Return: 0, -EBUSY (another one
 * writes there), -EEXIST (@path is no file), -ENOTSUP (the library was built without xxHash), -ENOMEM, or what a
 * system call failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_wset_save(const struct gm_wset *set, const char *path, struct gm_error *err);

/**
 * gm_wset_load() - reads one, and checks all of it
 * @fd:       a regular file, borrowed
 * @identity: 16 bytes of the image that it has to be of, or NULL
 * @ret_set:  the caller's
 * @err:      optional
 *
 * Anybody may have written it: its bytes are bounded before they are used, and it costs a small multiple of its length.
 * Return: 0; -EPROTO (no such file, cut, or it cannot be); -EBADMSG (its sum is wrong); -ESTALE (of another image);
 * -ENOTSUP (another version, or the library was built without xxHash); -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_wset_load(
	int fd, const uint8_t *identity, struct gm_wset **ret_set, struct gm_error *err);

/* ---- brought ahead ---- */

/* gm_pager_prefetch_set() flags: in the order of first touch, not of addresses */
#define GM_WSET_IN_ORDER 0x1u

/**
 * gm_pager_prefetch_set() - a set is brought ahead of the guest
 * @pager: borrowed
 * @area:  number; 0: all areas that there are now
 * @set:   borrowed, and kept until it has been brought. What of it lies in no area is passed over
 * @flags: GM_WSET_IN_ORDER
 * @err:   optional
 *
 * In steps of many runs, after what is wanted now and what gm_pager_prefetch() named, by the rate of gm_pager_fill().
 * Of files the host reads ahead. With GM_PAGER_MAP the kernel maps the runs. Return: 0, -ENOENT, -EINVAL, -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pager_prefetch_set(struct gm_pager *pager, uint64_t area, struct gm_wset *set,
	uint32_t flags, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
