/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_out.h - the source of a migration (migrate.h): it runs the guest until it has handed it over.
 *
 *	gm_migrate_out_create(space, &opts, &ops, &out, &err);
 *	gm_migrate_out_start(out, &err);
 *	while (!ended)
 *		gm_migrate_out_step(out, -1);
 *
 * What can fail before the guest is handed over leaves it running here. From the moment that the destination may run
 * it, it stays paused here, unless the destination says that it never will (gm_migrate_out_reclaim()), or somebody
 * knows (gm_migrate_out_force()). Memory stays as it is until GM_MIGRATE_IS_ENDED is told.
 */
#ifndef GUESTMEM_MIGRATE_OUT_H
#define GUESTMEM_MIGRATE_OUT_H

#include <guestmem/migrate.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_migrate_out;

/**
 * struct gm_migrate_out_ops - the embedder of a source
 * @size:     sizeof(struct gm_migrate_out_ops)
 * @connect:  makes a connection (enum gm_migrate_connection, its number): *@ret_fd is a stream socket, the library's;
 *            it may be connecting still. 0, or why there is none
 * @pause:    the guest is to be paused, and devices too: gm_migrate_out_paused() when nothing writes to its memory
 *            any more
 * @run:      it goes on here: nothing came of the migration, or it was reclaimed
 * @save:     its device state is to be written: gm_migrate_out_state(). It may write to guest memory until then
 * @harvest:  optional: marks in the logs of the space what others have seen written: gm_kvm_harvest(),
 *            gm_watch_harvest(). 0, or what failed: then the migration is cancelled
 * @throttle: optional: the guest is to be kept from running for so many per cent of its time, 0 to 99
 * @told:     optional
 * @ctx:      passed to each
 *
 * All are called by gm_migrate_out_step(), with no lock held, and may call this header's functions, but not step,
 * nor destroy.
 */
struct gm_migrate_out_ops {
	size_t size;
	int (*connect)(void *ctx, uint32_t connection, uint32_t index, int *ret_fd);
	void (*pause)(void *ctx);
	void (*run)(void *ctx);
	void (*save)(void *ctx);
	int (*harvest)(void *ctx);
	void (*throttle)(void *ctx, uint32_t percent);
	void (*told)(void *ctx, const struct gm_migrate_event *event);
	void *ctx;
};

/* When pages go. */
enum gm_migrate_out_way {
	GM_MIGRATE_OUT_AUTO = 0, /* in rounds; when these do not end, post-copy */
	GM_MIGRATE_OUT_PRECOPY,  /* in rounds; when these do not end it is cancelled */
	GM_MIGRATE_OUT_STOP, /* in rounds; when these do not end it is paused all the same, for as long as it takes */
	GM_MIGRATE_OUT_POSTCOPY, /* none before it runs there */
};

/* gm_migrate_out_opts.flags: memory that has descriptors goes by them, all of it: Unix sockets on one host. */
#define GM_MIGRATE_OUT_FDS 0x1u

/**
 * struct gm_migrate_out_opts - how it is to go; zero means default
 * @size:        sizeof(struct gm_migrate_out_opts)
 * @flags:       GM_MIGRATE_OUT_* bits
 * @way:         enum gm_migrate_out_way
 * @bulk_plus:   1 + connections for pages, 0 to 16; default 1
 * @urgent_plus: 1 + connections for what is asked for, 0 to 4; default 1
 * @pages:       of 4 KiB, in a message at most, 1 to 1024; default 64
 * @codec:       enum gm_snapshot_codec; default GM_SNAPSHOT_RAW. GM_SNAPSHOT_BEST is 0, so: 1 + codec, 0 = raw
 * @level:       as for snapshots
 * @rate:        bytes a second on bulk and control connections together, 0 = no limit. What is asked for is not held up
 * @downtime_ms: the target; default 300
 * @switch_ms:   of it, what is needed besides pages; default a tenth
 * @time_ms:     after which no round begins; 0 = any time
 * @rounds:      default 30
 * @throttle_first, @throttle_step, @throttle_max: per cent; @throttle_max 0: never
 * @deadlines:   of waiting
 */
struct gm_migrate_out_opts {
	size_t size;
	uint32_t flags;
	uint32_t way;
	uint32_t bulk_plus;
	uint32_t urgent_plus;
	uint32_t pages;
	uint32_t codec_plus;
	int32_t level;
	uint32_t downtime_ms;
	uint64_t rate;
	uint32_t switch_ms;
	uint32_t time_ms;
	uint32_t rounds;
	uint32_t throttle_first;
	uint32_t throttle_step;
	uint32_t throttle_max;
	struct gm_migrate_deadlines deadlines;
};

/**
 * gm_migrate_out_create() - makes ready; nothing is sent
 * @space:   borrowed until it is destroyed. Its memory stays in the map as it is until then: what a change of the map
 *           would add is not sent
 * @opts:    copied; NULL = defaults
 * @ops:     copied
 * @ret_out: the caller's
 * @err:     optional
 *
 * Returns 0; -EINVAL; -E2BIG (an options struct of a later version, or too many regions); -ENOENT (there is no memory);
 * -ENOTSUP (a way, codec or memory that cannot go so: @err names it); -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_create(struct gm_space *space, const struct gm_migrate_out_opts *opts,
	const struct gm_migrate_out_ops *ops, struct gm_migrate_out **ret_out,
	struct gm_error *err);

/**
 * gm_migrate_out_destroy() - the end: connections are closed
 * @out: taken on success; NULL is ignored
 *
 * Returns 0, or -EBUSY: the guest may run at the destination, which needs this memory (GM_MIGRATE_IS_HANDED to
 * GM_MIGRATE_IS_DOUBT). Threads: one, when no other uses it. Since: 0.1.
 */
GM_API int gm_migrate_out_destroy(struct gm_migrate_out *out);

/**
 * gm_migrate_out_start() - begins
 * @out: borrowed
 * @err: optional
 *
 * Returns 0, -EINVAL (it has begun), -ENOMEM, or what the log of the space failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_start(struct gm_migrate_out *out, struct gm_error *err);

/**
 * gm_migrate_out_step() - does what there is to do
 * @out:        borrowed
 * @timeout_ms: how long to wait if there is nothing; 0: not, negative: for ever
 *
 * Returns 0, -EBUSY (another thread steps it), or what a system call failed with: poll and memory; what is wrong with
 * a connection or a peer is told, and is no error. Threads: one at a time. Since: 0.1.
 */
GM_API int gm_migrate_out_step(struct gm_migrate_out *out, int timeout_ms);

/**
 * gm_migrate_out_fd() - becomes readable when there is something to step
 * @out: borrowed
 *
 * Return: an fd, the library's: for poll. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_fd(const struct gm_migrate_out *out);

/**
 * gm_migrate_out_paused() - the guest is paused
 * @out: borrowed
 * @rc:  0, or why it cannot be: then the migration ends
 *
 * Returns 0, -EINVAL (nobody asked). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_paused(struct gm_migrate_out *out, int rc);

/**
 * gm_migrate_out_state() - the device state
 * @out:  borrowed
 * @data: copied; opaque
 * @len:  bytes
 *
 * Returns 0, -EINVAL (nobody asked), -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_state(struct gm_migrate_out *out, const void *data, size_t len);

/**
 * gm_migrate_out_switch() - no more rounds: now
 * @out: borrowed
 * @way: GM_MIGRATE_OUT_STOP or GM_MIGRATE_OUT_POSTCOPY
 *
 * Returns 0, -EINVAL (not in pre-copy), -ENOTSUP (the destination has no post-copy). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_switch(struct gm_migrate_out *out, uint32_t way);

/**
 * gm_migrate_out_cancel() - the guest stays here
 * @out: borrowed
 * @rc:  0 or negative errno value, for the peer
 *
 * Returns 0, -EINVAL (it may run there: see gm_migrate_out_reclaim()). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_cancel(struct gm_migrate_out *out, int rc);

/**
 * gm_migrate_out_resume() - new connections, after GM_MIGRATE_TOLD_LOST
 * @out: borrowed
 *
 * @connect of the embedder is called again. Returns 0, -EINVAL. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_resume(struct gm_migrate_out *out);

/**
 * gm_migrate_out_reclaim() - the guest is to run here again, if it does not run there
 * @out: borrowed
 *
 * The destination is asked, on new connections. Returns 0, -EINVAL (it was handed over not yet, or it is known to run
 * there). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_reclaim(struct gm_migrate_out *out);

/**
 * gm_migrate_out_force() - somebody knows that it runs nowhere else, and never will
 * @out: borrowed
 *
 * If that is wrong there are two of it, and both write to its disks. Returns 0, -EINVAL (it was not handed over, or
 * there is a line to the destination, which is not dead then). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_force(struct gm_migrate_out *out);

/**
 * gm_migrate_out_stats() - the figures
 * @out:       borrowed
 * @ret_stats: filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_out_stats(struct gm_migrate_out *out, struct gm_migrate_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
