/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * clone.h - an image that many guests start from: in memory once, whatever their number.
 *
 * The image is a sealed memfd with the bytes of a source. Each guest maps it privately: pages that it has not written
 * to are those of the image, shared by all guests of the host; a page that it writes to is its own from then on.
 * Nobody can change the image, whoever has the fd: it can be handed to processes that are not trusted.
 *
 *	gm_clone_image(source, NULL, &fd, &err);
 *	gm_space_add(space, GM_OPTS(gm_region_desc,
 *		.backing = GM_OPTS(gm_block_opts, .backing = GM_BACKING_FD, .fd = fd,
 *			.flags = GM_BLOCK_PRIVATE, .len = len)), &id, &err);
 *
 * No userfaultfd is needed, as the kernel finds each page in the image. gm_pager_add_space() without a source says so
 * (GM_PAGER_MAP), and then brings and records working sets (wset.h).
 */
#ifndef GUESTMEM_CLONE_H
#define GUESTMEM_CLONE_H

#include <guestmem/error.h>
#include <guestmem/export.h>
#include <guestmem/source.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct gm_clone_opts - an image; zero means default
 * @size:     sizeof(struct gm_clone_opts)
 * @name:     borrowed; shown in /proc/PID/maps; NULL = "guestmem-image"
 * @progress: optional: called with bytes that are done and of all; other than 0: -ECANCELED
 * @ctx:      passed to it
 * @flags:    0
 */
struct gm_clone_opts {
	size_t size;
	const char *name;
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * gm_clone_image() - makes an image of all that a source has
 * @source: borrowed
 * @opts:   borrowed, or NULL
 * @ret_fd: a memfd, the caller's, close-on-exec: as long as the source, up to a whole page, sealed against writing,
 *          shrinking, growing and other seals
 * @err:    optional
 *
 * What is zeros in the source takes no memory until a clone reads it: then once, for all of them. On failure nothing
 * is left. Return: 0; -EINVAL; -E2BIG; -ECANCELED; -ENOMEM; -EFBIG (RLIMIT_FSIZE); what the source or a system call
 * failed with. Threads: as gm_source_read(). Since: 0.1.
 */
GM_API int gm_clone_image(struct gm_source *source, const struct gm_clone_opts *opts, int *ret_fd,
	struct gm_error *err);

/**
 * gm_clone_check() - can anybody change this image?
 * @fd:      borrowed: what another process sent
 * @ret_len: optional: bytes
 * @err:     optional
 *
 * Return: 0; -EPERM (it is not sealed, so its bytes may change or go); -EINVAL (no memfd, or it is empty), or what a
 * system call failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_clone_check(int fd, uint64_t *ret_len, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
