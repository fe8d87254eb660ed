/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_live.h - saving memory while the guest runs.
 *
 * The guest is paused while its memory is write-protected, no longer. Then it runs, and a thread writes the file: each
 * page as it was at that instant. A page that is about to be written first is copied by the thread that steps the pager
 * (pager_run.h), which lifts its protection; without room for a copy the writer waits until the page is saved.
 *
 * What is caught are writes through the mappings of the space in this process: by vCPUs, threads, system calls. Not
 * writes by another process or another mapping of the same file, nor by devices to pages that were pinned before
 * (registered buffers of io_uring, device assignment): these have to stop until the save is over.
 */
#ifndef GUESTMEM_SNAPSHOT_LIVE_H
#define GUESTMEM_SNAPSHOT_LIVE_H

#include <guestmem/pager.h>
#include <guestmem/snapshot.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_snapshot_live;

/**
 * struct gm_snapshot_live_opts - zero means default
 * @size:     sizeof(struct gm_snapshot_live_opts)
 * @room:     bytes of copies that wait to be written to the file, 64 KiB to 4 GiB; default 16 MiB. Pages of explicit
 *            huge pages are not copied: their writers wait
 * @wait_ms:  how long a discard of the space waits until its pages are saved, and the save until a page arrives that a
 *            pager still brings; default 30000
 * @flags:    0
 */
struct gm_snapshot_live_opts {
	size_t size;
	uint64_t room;
	uint32_t wait_ms;
	uint32_t flags;
};

/**
 * struct gm_snapshot_live_stats - of the last save, or the one that is under way
 * @size:       sizeof(struct gm_snapshot_live_stats), set by the caller
 * @armed:      bytes that were protected
 * @arm_ns:     what that took
 * @pre_images: pages that were copied as they were about to be written
 * @pre_now:    copies that are not in the file yet
 * @waits:      writers that found no room, or a huge page
 * @longest_ns: how long one of them waited at most
 * @discarded:  pages that were copied before they were given back
 */
struct gm_snapshot_live_stats {
	size_t size;
	uint64_t armed;
	uint64_t arm_ns;
	uint64_t pre_images;
	uint64_t pre_now;
	uint64_t waits;
	uint64_t longest_ns;
	uint64_t discarded;
};

/**
 * gm_snapshot_live_create() - makes ready what saves need; may be used again and again
 * @space:    borrowed until it is destroyed
 * @pager:    borrowed as long. All memory of @space is in its areas: what is there already with GM_PAGER_PROTECT
 * @opts:     copied; NULL = defaults
 * @ret_live: the caller's
 * @err:      optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_live_create(struct gm_space *space, struct gm_pager *pager,
	const struct gm_snapshot_live_opts *opts, struct gm_snapshot_live **ret_live,
	struct gm_error *err);

/**
 * gm_snapshot_live_destroy() - the end; what is armed is let go
 * @live: taken; NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_snapshot_live_destroy(struct gm_snapshot_live *live);

/**
 * gm_snapshot_live_arm() - the instant: nothing writes to the memory while this runs
 * @live: borrowed
 * @log:  for a difference: the pages that it names are taken, and put back if nothing comes of the save; else NULL.
 *        Borrowed until the save is over
 * @err:  optional
 *
 * From its return until the save is over memory of @space stays in the map (changes that remove some are -EBUSY), and
 * the pager cannot be stopped. On failure nothing is protected.
 * Returns 0; -EBUSY (it is armed); -ENOENT (there is no memory, or some is in no area of the pager); -ENOTSUP (the
 * kernel cannot, memory of a private file, private or far memory, or bytes that show twice in the map); -ENOMEM, or
 * what a system call failed with.
 * Threads: one. Since: 0.1.
 */
GM_API int gm_snapshot_live_arm(
	struct gm_snapshot_live *live, struct gm_log *log, struct gm_error *err);

/**
 * gm_snapshot_live_save() - writes the file; the guest runs
 * @live:     borrowed, armed
 * @path:     as for gm_snapshot_write()
 * @opts:     as for gm_snapshot_save(): @base if there was a log, and only then
 * @ret_info: as for gm_snapshot_write()
 * @err:      as for gm_snapshot_write()
 *
 * Whatever comes of it the memory is not protected when it returns, the guest goes on, and a failure leaves the file
 * under @path as it was. Another thread steps the pager. Pages that a pager still brings are waited for.
 * Returns as gm_snapshot_save(); -EINVAL (not armed); -ESTALE (pages went by other ways than gm_discard() before they
 * were saved); -ECANCELED; -ETIMEDOUT (a page that is still brought did not arrive).
 * Threads: one, not the one that steps the pager. Since: 0.1.
 */
GM_API int gm_snapshot_live_save(struct gm_snapshot_live *live, const char *path,
	const struct gm_snapshot_opts *opts, struct gm_snapshot_info *ret_info,
	struct gm_error *err);

/**
 * gm_snapshot_live_cancel() - ends a save, or one that is armed, with -ECANCELED
 * @live: borrowed
 *
 * gm_snapshot_live_save(), or gm_snapshot_live_destroy(), lets the memory go. Threads: any. Since: 0.1.
 */
GM_API void gm_snapshot_live_cancel(struct gm_snapshot_live *live);

/**
 * gm_snapshot_live_stats() - figures
 * @live:      borrowed
 * @ret_stats: filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_live_stats(
	struct gm_snapshot_live *live, struct gm_snapshot_live_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
