/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_in.h - the destination of a migration (migrate.h): it takes a guest, and runs it when it is told to.
 *
 *	gm_migrate_in_create(&opts, &ops, &in, &err);
 *	... accept(): gm_migrate_in_connection(in, fd) for each connection that comes
 *	while (!ended)
 *		gm_migrate_in_step(in, -1);
 *
 * Before the guest runs nothing can be lost but time. Once it runs here and pages are missing, whoever touches one
 * waits until it has come: vCPUs, threads and system calls alike. A line that is lost does not change that: the
 * source opens another, or what is missing is given up, named, and poisoned.
 */
#ifndef GUESTMEM_MIGRATE_IN_H
#define GUESTMEM_MIGRATE_IN_H

#include <guestmem/migrate.h>
#include <guestmem/pager.h>
#include <guestmem/wset.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_migrate_in;

/**
 * struct gm_migrate_in_region - memory that is to come
 * @gpa:       first address
 * @len:       bytes
 * @page_size: what it consists of at the source: 4 KiB, or the size of explicit huge pages
 * @fd_plus:   1 + its descriptor, borrowed until @prepare returns, to be duplicated; 0: its pages come
 * @reserved:  zero
 * @fd_off:    byte of the file at @gpa
 */
struct gm_migrate_in_region {
	uint64_t gpa;
	uint64_t len;
	uint64_t page_size;
	int32_t fd_plus;
	uint32_t reserved;
	uint64_t fd_off;
};

/**
 * struct gm_migrate_in_ops - the embedder of a destination
 * @size:    sizeof(struct gm_migrate_in_ops)
 * @prepare: memory for these regions is to be made: gm_migrate_in_prepared(). They are borrowed during the call
 * @load:    device state is to be loaded: gm_migrate_in_loaded(). @data is borrowed until then. In post-copy pages are
 *           missing from here on: who touches guest memory must not be the thread that steps
 * @run:     the guest is to run: gm_migrate_in_started()
 * @told:    optional
 * @ctx:     passed to each
 *
 * All are called by gm_migrate_in_step(), with no lock held, and may call this header's functions, but not step, nor
 * destroy.
 */
struct gm_migrate_in_ops {
	size_t size;
	void (*prepare)(void *ctx, const struct gm_migrate_in_region *regions, size_t nr);
	void (*load)(void *ctx, const void *data, size_t len);
	void (*run)(void *ctx);
	void (*told)(void *ctx, const struct gm_migrate_event *event);
	void *ctx;
};

/* gm_migrate_in_opts.flags: no post-copy is taken: no userfaultfd is needed. */
#define GM_MIGRATE_IN_NO_POSTCOPY 0x1u
/* Nor memory by descriptors. */
#define GM_MIGRATE_IN_NO_FDS 0x2u

/**
 * struct gm_migrate_in_opts - what is taken; zero means default
 * @size:      sizeof(struct gm_migrate_in_opts)
 * @flags:     GM_MIGRATE_IN_* bits
 * @pages:     of 4 KiB, in a message at most, 1 to 1024; default 64
 * @state_max: bytes of device state; default 64 MiB
 * @memory_max: bytes of memory; default: as much as is asked for, up to 16 TiB
 * @wset:      optional: pages that are asked for ahead, in its order, as if somebody waited: a working set (wset.h);
 *             kept by a reference. Its offsets are bytes of the regions in a row
 * @deadlines: of waiting
 */
struct gm_migrate_in_opts {
	size_t size;
	uint32_t flags;
	uint32_t pages;
	uint64_t state_max;
	uint64_t memory_max;
	struct gm_wset *wset;
	struct gm_migrate_deadlines deadlines;
};

/**
 * gm_migrate_in_create() - a destination without a source
 * @opts:   copied; NULL = defaults
 * @ops:    copied
 * @ret_in: the caller's
 * @err:    optional
 *
 * Returns 0, -EINVAL, -E2BIG, -EPERM (no userfaultfd is allowed, and GM_MIGRATE_IN_NO_POSTCOPY is not given),
 * -ENOMEM, or what a system call failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_create(const struct gm_migrate_in_opts *opts,
	const struct gm_migrate_in_ops *ops, struct gm_migrate_in **ret_in, struct gm_error *err);

/**
 * gm_migrate_in_destroy() - the end: connections are closed
 * @in: taken on success; NULL is ignored
 *
 * Returns 0, or -EBUSY: the guest runs here, and pages are missing (gm_migrate_in_give_up(), then steps, ends that).
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API int gm_migrate_in_destroy(struct gm_migrate_in *in);

/**
 * gm_migrate_in_connection() - somebody has connected
 * @in: borrowed
 * @fd: a connected stream socket, taken in any case; whose it is comes with its first bytes
 *
 * Returns 0, -EPROTOTYPE (no stream socket), -EMFILE (64 have not said yet who they are), -ENOMEM, or what the
 * kernel answered. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_connection(struct gm_migrate_in *in, int fd);

/**
 * gm_migrate_in_step() - does what there is to do
 * @in:         borrowed
 * @timeout_ms: how long to wait if there is nothing; 0: not, negative: for ever
 *
 * It also steps the pager. Returns as gm_migrate_out_step(). Threads: one at a time. Since: 0.1.
 */
GM_API int gm_migrate_in_step(struct gm_migrate_in *in, int timeout_ms);

/**
 * gm_migrate_in_fd() - becomes readable when there is something to step
 * @in: borrowed
 *
 * Return: an fd, the library's: for poll. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_fd(const struct gm_migrate_in *in);

/**
 * gm_migrate_in_prepared() - memory is there, or there will be none
 * @in:    borrowed
 * @space: has RAM at each region, of pages that are not larger, and nothing in it; borrowed until @in is
 *         destroyed. Regions by descriptor have the memory that came. NULL with @rc
 * @rc:    0, or negative errno value
 * @why:   of @rc, for the source: a constant
 *
 * What does not fit the layout is refused for the embedder, and told. Returns 0, -EINVAL (nobody asked, or @rc is
 * positive). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_prepared(
	struct gm_migrate_in *in, struct gm_space *space, int rc, const char *why);

/**
 * gm_migrate_in_loaded() - device state is loaded, or cannot be
 * @in:  borrowed
 * @rc:  0, or negative errno value
 * @why: of @rc, for the source: a constant
 *
 * Returns 0, -EINVAL (nobody asked, or @rc is positive). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_loaded(struct gm_migrate_in *in, int rc, const char *why);

/**
 * gm_migrate_in_started() - the guest runs, or has not run an instruction and will not
 * @in: borrowed
 * @rc: 0, or negative errno value
 *
 * Returns 0, -EINVAL (nobody asked, or @rc is positive). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_started(struct gm_migrate_in *in, int rc);

/**
 * gm_migrate_in_give_up() - nobody waits any longer
 * @in: borrowed
 * @rc: negative errno value
 *
 * Before the guest runs here it never will. After it what is missing is poisoned, and told page by page
 * (GM_MIGRATE_TOLD_PAGES). Returns 0, -EINVAL. Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_give_up(struct gm_migrate_in *in, int rc);

/**
 * gm_migrate_in_pager() - who brings missing pages
 * @in: borrowed
 *
 * For other processes that have the same memory, such as devices: their userfaultfds are added while the state is
 * loaded, by gm_pager_add_uffd() and gm_pager_add_mapping(), with gm_migrate_in_source() as the source and
 * GM_PAGER_COPY as the way, and no other: a page that one of them has written is never written again. Return: the
 * pager, borrowed until @in is destroyed; NULL before @load and without post-copy. Threads: any. Since: 0.1.
 */
GM_API struct gm_pager *gm_migrate_in_pager(const struct gm_migrate_in *in);

/**
 * gm_migrate_in_source() - the guest's memory as a source: regions in a row, in the order of the layout
 * @in: borrowed
 *
 * What has come is read from the file behind it (memory without one is -EIO), the rest is asked for. Return: the
 * source, borrowed until @in is destroyed; NULL as above. Threads: any. Since: 0.1.
 */
GM_API struct gm_source *gm_migrate_in_source(const struct gm_migrate_in *in);

/**
 * gm_migrate_in_lost() - the next range of pages that are lost
 * @in:        borrowed
 * @gpa:       lowest address
 * @ret_first: its first address
 * @ret_last:  its last, inclusive
 *
 * Returns 0 or -ENOENT (no more). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_lost(
	struct gm_migrate_in *in, uint64_t gpa, uint64_t *ret_first, uint64_t *ret_last);

/**
 * gm_migrate_in_stats() - the figures
 * @in:        borrowed
 * @ret_stats: filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_migrate_in_stats(struct gm_migrate_in *in, struct gm_migrate_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
