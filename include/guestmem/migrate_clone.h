/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_clone.h - a guest that goes on, and up to 16 that go on from the same instant somewhere else.
 *
 *	gm_migrate_clone_create(space, pager, nr, &opts, &ops, &clone, &err);
 *	gm_migrate_clone_start(clone, &err);
 *	while (!ended)
 *		gm_migrate_clone_step(clone, -1);
 *
 * Each destination is an ordinary one (migrate_in.h), with connections and a session of its own. When all have made
 * memory, or failed, the guest is paused; its state is written, its memory is write-protected, and it goes on. The
 * destinations run from then on, and pages come to them as they were at that instant: from memory as long as nobody has
 * written there, else from a copy that the thread which steps the pager made before (pager_run.h). What is caught are
 * writes as of snapshot_live.h, and no others.
 */
#ifndef GUESTMEM_MIGRATE_CLONE_H
#define GUESTMEM_MIGRATE_CLONE_H

#include <guestmem/migrate_out.h>
#include <guestmem/pager.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_migrate_clone;

#define GM_MIGRATE_CLONES_MAX 16u
/* What happened to all of them, not to one. */
#define GM_MIGRATE_CLONE_ALL UINT32_MAX

/**
 * struct gm_migrate_clone_ops - the embedder of a guest that is cloned
 * @size:    sizeof(struct gm_migrate_clone_ops)
 * @connect: as of gm_migrate_out_ops, to the destination of this number, from 0
 * @pause:   the guest is to be paused, and devices too: gm_migrate_clone_paused() when nothing writes to its memory
 * @save:    its device state is to be written: gm_migrate_clone_state(). It may write to guest memory until then
 * @run:     it goes on
 * @told:    optional: an event of the destination @clone. GM_MIGRATE_CLONE_ALL: GM_MIGRATE_TOLD_ENDED (each has all its
 *           pages, or has ended otherwise: nothing is protected any more), or GM_MIGRATE_TOLD_FAILED (there was no
 *           instant: @rc and @why say what failed)
 * @ctx:     passed to each
 *
 * All are called by gm_migrate_clone_step(), with no lock held, and may call this header's functions, but not step, nor
 * destroy.
 */
struct gm_migrate_clone_ops {
	size_t size;
	int (*connect)(void *ctx, uint32_t clone, uint32_t connection, uint32_t index, int *ret_fd);
	void (*pause)(void *ctx);
	void (*save)(void *ctx);
	void (*run)(void *ctx);
	void (*told)(void *ctx, uint32_t clone, const struct gm_migrate_event *event);
	void *ctx;
};

/* gm_migrate_clone_opts.flags: without room for a copy the destination that has most to come is given up. */
#define GM_MIGRATE_CLONE_GIVE_UP 0x1u

/**
 * struct gm_migrate_clone_opts - zero means default
 * @size:    sizeof(struct gm_migrate_clone_opts)
 * @flags:   GM_MIGRATE_CLONE_GIVE_UP; else who writes waits until there is room
 * @wait_ms: how long a discard of the space waits for room; default 30000
 * @room:    bytes of copies, 64 KiB (2 MiB if there are explicit huge pages) to 4 GiB, rounded down to a power of two;
 *           default 64 MiB. They are taken from the host at once
 * @out:     of each destination. Its @way is post-copy, whatever it says, its flags are 0. Without bulk_plus and
 *           urgent_plus all goes by control: then it is known what has come, and copies of that are let go. What goes
 *           by others is kept until its destination ends
 */
struct gm_migrate_clone_opts {
	size_t size;
	uint32_t flags;
	uint32_t wait_ms;
	uint64_t room;
	struct gm_migrate_out_opts out;
};

/* Where it is. */
enum gm_migrate_clone_state {
	GM_MIGRATE_CLONE_IDLE = 0,
	GM_MIGRATE_CLONE_SETUP,   /* destinations make memory */
	GM_MIGRATE_CLONE_PAUSE,   /* the guest is to be paused */
	GM_MIGRATE_CLONE_SAVE,    /* it is; its state is to be written */
	GM_MIGRATE_CLONE_FILLING, /* it goes on; pages go to destinations */
	GM_MIGRATE_CLONE_ENDED,   /* no destination waits for a page */
	GM_MIGRATE_CLONE_FAILED,  /* there was no instant: the guest is where it was */
};

/**
 * struct gm_migrate_clone_stats - figures
 * @size:       sizeof(struct gm_migrate_clone_stats), set by the caller
 * @state:      enum gm_migrate_clone_state
 * @rc:         of GM_MIGRATE_CLONE_FAILED
 * @clones:     destinations
 * @running:    that have not ended
 * @whole:      that have got all pages
 * @given_up:   by gm_migrate_clone_drop(), without room, or after the deadline of a line that was lost
 * @armed:      bytes that were protected
 * @arm_ns:     what that took
 * @pause_ns:   from the wish to pause until the guest was told to go on
 * @pre_images: pages that were copied before they were written
 * @pre_now:    bytes of copies that somebody may need
 * @pre_most:   the most that there were
 * @discarded:  pages that were copied before they were given back
 * @waits:      times that a writer found no room
 * @lost:       pages that could not be copied, or went by other ways than gm_discard()
 */
struct gm_migrate_clone_stats {
	size_t size;
	uint32_t state;
	int32_t rc;
	uint32_t clones;
	uint32_t running;
	uint32_t whole;
	uint32_t given_up;
	uint64_t armed;
	uint64_t arm_ns;
	uint64_t pause_ns;
	uint64_t pre_images;
	uint64_t pre_now;
	uint64_t pre_most;
	uint64_t discarded;
	uint64_t waits;
	uint64_t lost;
};

/**
 * gm_migrate_clone_create() - makes ready; nothing is sent
 * @space:     borrowed until it is destroyed. Its memory stays in the map as it is until then
 * @pager:     borrowed as long; stepped by another thread. All memory of @space is in its areas, as of
 *             gm_snapshot_live_create(), and is there
 * @nr:        destinations, 1 to GM_MIGRATE_CLONES_MAX
 * @opts:      copied; NULL = defaults
 * @ops:       copied
 * @ret_clone: the caller's
 * @err:       optional
 *
 * Returns as gm_migrate_out_create(); -EBUSY (memory is absent yet). What has become absent by the instant, or is in no
 * area, is found out there: there is none then (-EBUSY, -ENOENT).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_create(struct gm_space *space, struct gm_pager *pager, uint32_t nr,
	const struct gm_migrate_clone_opts *opts, const struct gm_migrate_clone_ops *ops,
	struct gm_migrate_clone **ret_clone, struct gm_error *err);

/**
 * gm_migrate_clone_destroy() - the end: connections are closed
 * @clone: taken on success; NULL is ignored
 *
 * Returns 0, or -EBUSY: the guest is paused for it, or destinations need this memory (gm_migrate_clone_cancel(), then
 * steps, end that). Threads: one, when no other uses it. Since: 0.1.
 */
GM_API int gm_migrate_clone_destroy(struct gm_migrate_clone *clone);

/**
 * gm_migrate_clone_start() - begins
 * @clone: borrowed
 * @err:   optional
 *
 * Returns 0 or -EINVAL (it has begun). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_start(struct gm_migrate_clone *clone, struct gm_error *err);

/**
 * gm_migrate_clone_step() - does what there is to do, for all destinations
 * @clone:      borrowed
 * @timeout_ms: how long to wait if there is nothing; 0: not, negative: for ever
 *
 * Returns as gm_migrate_out_step(). Threads: one at a time, not one that steps the pager. Since: 0.1.
 */
GM_API int gm_migrate_clone_step(struct gm_migrate_clone *clone, int timeout_ms);

/**
 * gm_migrate_clone_fd() - becomes readable when there is something to step
 * @clone: borrowed
 *
 * Return: an fd, the library's: for poll. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_fd(const struct gm_migrate_clone *clone);

/**
 * gm_migrate_clone_paused() - the guest is paused
 * @clone: borrowed
 * @rc:    0, or why it cannot be: then nothing comes of it
 *
 * Returns 0, -EINVAL (nobody asked, or @rc is positive). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_paused(struct gm_migrate_clone *clone, int rc);

/**
 * gm_migrate_clone_state() - the device state, of each destination
 * @clone: borrowed
 * @data:  copied; opaque
 * @len:   bytes
 *
 * Returns 0, -EINVAL (nobody asked), -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_state(struct gm_migrate_clone *clone, const void *data, size_t len);

/**
 * gm_migrate_clone_resume() - a destination whose line was lost is connected to again
 * @clone: borrowed
 * @which: its number
 *
 * Returns 0, -EINVAL (its line is not lost, or there is no such destination). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_resume(struct gm_migrate_clone *clone, uint32_t which);

/**
 * gm_migrate_clone_drop() - a destination is given up; others go on
 * @clone: borrowed
 * @which: its number
 * @rc:    why, a negative errno value
 *
 * Before it may run its guest it is told so; after it its connections are closed, and it waits until it gives up what
 * is missing (gm_migrate_in_give_up()). Returns 0, -EINVAL (it has ended, or there is no such destination).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_drop(struct gm_migrate_clone *clone, uint32_t which, int rc);

/**
 * gm_migrate_clone_cancel() - the same for all; the guest goes on
 * @clone: borrowed
 * @rc:    why, a negative errno value
 *
 * Returns 0, -EINVAL (it has not begun, or has ended). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_cancel(struct gm_migrate_clone *clone, int rc);

/**
 * gm_migrate_clone_stats() - the figures
 * @clone:     borrowed
 * @ret_stats: filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_stats(
	struct gm_migrate_clone *clone, struct gm_migrate_clone_stats *ret_stats);

/**
 * gm_migrate_clone_stats_of() - those of one destination
 * @clone:     borrowed
 * @which:     its number
 * @ret_stats: filled in. One that was given up while it may run is GM_MIGRATE_IS_RECLAIMED
 *
 * Returns 0 or -EINVAL (size, or there is no such destination). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_clone_stats_of(
	struct gm_migrate_clone *clone, uint32_t which, struct gm_migrate_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
