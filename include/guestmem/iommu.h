/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iommu.h - spaces of I/O virtual addresses (IOVA) over a space of physical ones.
 *
 * An IOVA space is a space like any other, made with gm_space_opts.over, that holds a region of kind
 * GM_REGION_IOMMU. Its readers use all functions of access.h, atomic.h and slice.h; each address is
 * translated on the way, piece by piece, by an IOTLB of bounded size. Translations lead to guest
 * addresses, never to host addresses, so a change of the map below leaves none that is stale. An
 * IOVA space may lie over another one.
 *
 * What is not translated is asked for by a callback, with no lock held, once for all who wait.
 */
#ifndef GUESTMEM_IOMMU_H
#define GUESTMEM_IOMMU_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_iommu;

#define GM_IOMMU_BYPASS                                                                            \
	0x1u /* addresses are those of the target: nothing is translated or asked for */
#define GM_IOMMU_FORGET                                                                            \
	0x2u /* of gm_iommu_switch(): in the same moment translations are forgotten */

/**
 * struct gm_iommu_opts - an IOMMU; zero means default
 * @size:       sizeof(struct gm_iommu_opts)
 * @capacity:   translations that are kept, at most 2^24; 0 = 4096. With one more an old one goes
 * @flags:      GM_IOMMU_BYPASS or 0
 * @timeout_ns: how long an access waits for a translation that was asked for, in its reader's
 *              section; 0 = not at all, it returns -EAGAIN. Keep it short: a change of the map that
 *              must wait for readers waits as long
 * @miss:       optional: asks for a translation of @len bytes at @iova with @perms, of which
 *              some is missing. It may call gm_iommu_map() at once. 0, or a negative error that the
 *              access returns. Without it what is missing is -EFAULT, what lacks a permission -EACCES
 * @ctx:        passed to @miss
 */
struct gm_iommu_opts {
	size_t size;
	uint32_t capacity;
	uint32_t flags;
	uint64_t timeout_ns;
	int (*miss)(void *ctx, uint64_t iova, uint64_t len, uint32_t perms);
	void *ctx;
};

/** struct gm_iommu_info - counters; @size is set by the caller */
struct gm_iommu_info {
	size_t size;
	uint64_t capacity;
	uint64_t misses;         /* accesses for which something had to be asked */
	uint64_t asked;          /* calls of the callback */
	uint64_t late;           /* accesses that gave up waiting */
	uint64_t evicted;        /* translations that had to go */
	struct gm_space *target; /* borrowed: the space that it leads to */
	uint32_t flags;          /* GM_IOMMU_BYPASS or 0 */
	uint32_t reserved;
	uint64_t entries; /* translations that are kept; neighbours that lead on are one */
};

/**
 * gm_iommu_create() - make an IOMMU that translates to the addresses of a space
 * @target:    borrowed; must outlive the IOMMU, or gm_iommu_switch() to another and the sections of then
 * @opts:      borrowed; NULL = defaults
 * @ret_iommu: a reference, given back with gm_iommu_put()
 * @err:       optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_iommu_create(struct gm_space *target, const struct gm_iommu_opts *opts,
	struct gm_iommu **ret_iommu, struct gm_error *err);

/**
 * gm_iommu_put() - give a reference back
 * @iommu: NULL is ignored
 *
 * Regions hold references of their own, until their readers have left.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_iommu_put(struct gm_iommu *iommu);

/**
 * gm_iommu_switch() - lead accesses somewhere else, or past the translations
 * @iommu:  borrowed
 * @target: borrowed; NULL = the one that it leads to. A space that shares the readers of the one that the IOMMU
 *          was made for and does not lie higher: that one, one below it, or one over the same
 * @flags:  GM_IOMMU_* bits, which are so from now on
 * @err:    optional
 *
 * Accesses that begin after this returned are led by the new ones. Those that began before, piece by piece, by
 * the new ones or by the old ones with the translations of then; gm_space_synchronize() of the IOVA space
 * waits for them, before the old target is destroyed or a switch is acknowledged. Who waits for a translation
 * looks again. Translations can be mapped and unmapped while they are bypassed.
 * Returns 0, -EINVAL.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_iommu_switch(
	struct gm_iommu *iommu, struct gm_space *target, uint32_t flags, struct gm_error *err);

/**
 * gm_iommu_map() - translate a range to the addresses from @target on
 * @iommu:  borrowed
 * @iova:   first IOVA, any byte
 * @len:    bytes, not 0. All 2^64 addresses are two ranges
 * @target: address in the target space
 * @perms:  GM_PERM_R, GM_PERM_W or both
 * @err:    optional
 *
 * In the place of what was there. Wakes accesses that wait for it.
 * Returns 0, -EINVAL (@len 0, other permissions), -ERANGE (the range or the target passes 2^64).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_iommu_map(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint64_t target,
	uint32_t perms, struct gm_error *err);

/**
 * gm_iommu_unmap() - forget the translations of a range
 * @iommu: borrowed
 * @iova:  first IOVA
 * @len:   bytes, not 0
 *
 * Accesses that begin after this returned do not use them. Those that began before may:
 * gm_space_synchronize() of the IOVA space waits for them, before an invalidation is acknowledged.
 * Returns 0, -EINVAL (@len 0), -ERANGE (passes 2^64).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_iommu_unmap(struct gm_iommu *iommu, uint64_t iova, uint64_t len);

/**
 * gm_iommu_unmap_all() - forget all translations
 * @iommu: borrowed
 *
 * As gm_iommu_unmap() of all addresses, in constant time.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_iommu_unmap_all(struct gm_iommu *iommu);

/* What gm_iommu_translate() tells of a part. */
enum gm_iommu_state {
	GM_IOMMU_GOOD,
	GM_IOMMU_MISSING,
	GM_IOMMU_REFUSED, /* translated, without all permissions that were asked for */
};

/**
 * struct gm_iommu_part - a part of a range
 * @iova:   first IOVA
 * @len:    bytes
 * @target: address in the target space; 0 if it is missing
 * @perms:  GM_PERM_* bits that it has
 * @state:  enum gm_iommu_state
 */
struct gm_iommu_part {
	uint64_t iova;
	uint64_t len;
	uint64_t target;
	uint32_t perms;
	uint32_t state;
};

/**
 * gm_iommu_translate() - what a whole range is translated to, without asking for what is missing
 * @iommu:      borrowed
 * @iova:       first IOVA
 * @len:        bytes; with 0 the address alone is looked at
 * @perms:      GM_PERM_* bits that it should have
 * @parts:      room for @nr parts, which come in rising order and hold each byte once
 * @nr:         their number
 * @ret_needed: number of parts
 *
 * Returns 0 (all is good), -EFAULT (something is missing), -EACCES (something is refused), -ENOBUFS
 * (more than @nr parts; the first ones are filled in), -ERANGE (passes 2^64), -ENOMEM. Parts and number
 * are filled in with all but the last two.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_iommu_translate(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iommu_part *parts, size_t nr, size_t *ret_needed);

/**
 * gm_iommu_info() - read the counters
 * @iommu:    borrowed
 * @ret_info: filled in
 *
 * Returns 0 or -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_iommu_info(struct gm_iommu *iommu, struct gm_iommu_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
