/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * balloon.h - what a virtio balloon does to memory: pages given and taken back, statistics, free pages
 * reported and hinted.
 *
 * Calls for a device that has taken requests off its queues; names are those of the virtio specification
 * (5.5, Traditional Memory Balloon Device). Everything that comes from the guest is untrusted: a page that is
 * no memory, given twice, or taken back without having been given, is counted and changes nothing.
 */
#ifndef GUESTMEM_BALLOON_H
#define GUESTMEM_BALLOON_H

#include <guestmem/discard.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_balloon;

#define GM_BALLOON_PAGE 4096u

/* The guest tells before it uses a page again: parts of huge pages are remembered until all is there. */
#define GM_BALLOON_MUST_TELL_HOST 0x1u

/**
 * struct gm_balloon_opts - a balloon; zero means default
 * @size:     sizeof(struct gm_balloon_opts)
 * @flags:    GM_BALLOON_* bits
 * @unit:     with MUST_TELL_HOST: bytes of a huge page, 0 = 2 MiB
 * @partial:  with MUST_TELL_HOST: huge pages that may be there in part, 0 = 4096
 * @reserved: zero
 */
struct gm_balloon_opts {
	size_t size;
	uint32_t flags;
	uint32_t partial;
	uint64_t unit;
	uint64_t reserved;
};

/**
 * struct gm_balloon_result - what became of a list; pages are of 4096 bytes
 * @size:      sizeof(struct gm_balloon_result), set by the caller
 * @pages:     that are in the balloon now and were not, or the other way
 * @duplicate: that were so already; in one list, or since before
 * @refused:   that are no memory that can be given
 * @freed:     bytes given back to the host
 * @kept:      bytes that stay: parts of huge pages, or because of the poison value
 */
struct gm_balloon_result {
	size_t size;
	uint64_t pages;
	uint64_t duplicate;
	uint64_t refused;
	uint64_t freed;
	uint64_t kept;
};

/* Tags of statistics. */
enum gm_balloon_tag {
	GM_BALLOON_SWAP_IN = 0,
	GM_BALLOON_SWAP_OUT,
	GM_BALLOON_MAJFLT,
	GM_BALLOON_MINFLT,
	GM_BALLOON_MEMFREE,
	GM_BALLOON_MEMTOT,
	GM_BALLOON_AVAIL,
	GM_BALLOON_CACHES,
	GM_BALLOON_HTLB_PGALLOC,
	GM_BALLOON_HTLB_PGFAIL,
	GM_BALLOON_OOM_KILL,
	GM_BALLOON_ALLOC_STALL,
	GM_BALLOON_ASYNC_SCAN,
	GM_BALLOON_DIRECT_SCAN,
	GM_BALLOON_ASYNC_RECLAIM,
	GM_BALLOON_DIRECT_RECLAIM,
	GM_BALLOON_TAGS,
};

#define GM_BALLOON_STAT_LEN 10u /* bytes of one: tag (16 bits), value (64 bits), little-endian */

/**
 * struct gm_balloon_stats - the guest's own view, as it says
 * @size:    sizeof(struct gm_balloon_stats), set by the caller
 * @updates: buffers that came
 * @time_ns: monotonic clock of the last one
 * @valid:   bit n: @values[n] came in the last one
 * @unknown: tags in it that have no meaning here
 * @values:  by enum gm_balloon_tag
 */
struct gm_balloon_stats {
	size_t size;
	uint64_t updates;
	uint64_t time_ns;
	uint32_t valid;
	uint32_t unknown;
	uint64_t values[GM_BALLOON_TAGS];
};

/**
 * struct gm_balloon_info - a balloon as it is; @size is set by the caller
 * @target:  pages that the host wants in it (num_pages)
 * @actual:  pages that the guest says are in it
 * @pages:   pages that are in it
 * @poison:  value with which the guest fills free pages, if @poisoned
 * @command: command id of free-page hinting
 * @hinted:  bytes whose marks hints have cleared
 * @stale:   bytes of hints for another command than the one under way
 */
struct gm_balloon_info {
	size_t size;
	uint32_t target;
	uint32_t actual;
	uint64_t pages;
	uint32_t poison;
	uint32_t poisoned;
	uint32_t command;
	uint32_t reserved;
	uint64_t hinted;
	uint64_t stale;
};

/**
 * gm_balloon_create() - an empty balloon
 * @space: borrowed; must outlive it
 * @opts:  borrowed; NULL = defaults
 * @ret:   destroyed with gm_balloon_destroy()
 * @err:   optional
 *
 * It keeps a bit for each page of 2^32, of which only those of pages that were given take memory (32 KiB for 1 GiB).
 * Returns 0, -EINVAL, -E2BIG, -EPERM (the space of a grant), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_create(struct gm_space *space, const struct gm_balloon_opts *opts,
	struct gm_balloon **ret, struct gm_error *err);

/**
 * gm_balloon_destroy() - free it; memory stays as it is
 * @balloon: taken; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_balloon_destroy(struct gm_balloon *balloon);

/**
 * gm_balloon_inflate() - the guest gives pages
 * @balloon: borrowed
 * @pfns:    @nr numbers of pages of 4096 bytes, in the byte order of this machine; sorted in place. A copy:
 *           not guest memory
 * @nr:      their number
 * @ret:     optional
 * @err:     optional
 *
 * Sorted and merged (gm_discard_ranges()). A page stays given if the host could not free it. Returns 0, -EINVAL,
 * -EBUSY (inhibited, a transaction is open), -ENOMEM, or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_inflate(struct gm_balloon *balloon, uint32_t *pfns, size_t nr,
	struct gm_balloon_result *ret, struct gm_error *err);

/**
 * gm_balloon_deflate() - the guest takes pages back
 * @balloon: borrowed
 * @pfns:    as for gm_balloon_inflate()
 * @nr:      their number
 * @ret:     optional: @duplicate counts pages that were not in it
 *
 * They come when they are touched. Returns 0 or -EINVAL. Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_deflate(
	struct gm_balloon *balloon, uint32_t *pfns, size_t nr, struct gm_balloon_result *ret);

/**
 * gm_balloon_has() - is a page in it?
 * @balloon: borrowed
 * @pfn:     number of the page
 *
 * Returns 1 or 0. Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_has(struct gm_balloon *balloon, uint32_t pfn);

/**
 * gm_balloon_reset() - the guest begins anew: nothing is in it, no poison, no hints
 * @balloon: borrowed
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_balloon_reset(struct gm_balloon *balloon);

/**
 * gm_balloon_set_target() - how many pages the host wants
 * @balloon: borrowed
 * @pages:   for num_pages of the configuration space
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_balloon_set_target(struct gm_balloon *balloon, uint32_t pages);

/**
 * gm_balloon_set_actual() - what the guest wrote to "actual"
 * @balloon: borrowed
 * @pages:   kept, and used for nothing
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_balloon_set_actual(struct gm_balloon *balloon, uint32_t pages);

/**
 * gm_balloon_set_poison() - what the guest wrote to "poison_val" (VIRTIO_BALLOON_F_PAGE_POISON)
 * @balloon:  borrowed
 * @value:    with which it fills its free pages
 * @poisoned: non-zero if the feature was agreed on
 *
 * A page that was reported reads as zeros when it comes back. If the guest expects another value there,
 * reported pages are left alone. Pages of the balloon are not concerned: the guest fills them itself.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_balloon_set_poison(struct gm_balloon *balloon, uint32_t value, int poisoned);

/**
 * gm_balloon_update_stats() - a buffer of statistics
 * @balloon: borrowed
 * @bytes:   a copy of it
 * @len:     its length; what is behind the last whole one, or behind 64, is ignored
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_balloon_update_stats(struct gm_balloon *balloon, const void *bytes, size_t len);

/**
 * gm_balloon_stats() - the last statistics
 * @balloon: borrowed
 * @ret:     filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_stats(struct gm_balloon *balloon, struct gm_balloon_stats *ret);

/**
 * gm_balloon_report() - free pages that the guest reports (VIRTIO_BALLOON_F_REPORTING)
 * @balloon: borrowed
 * @ranges:  @nr of them, from the buffers' descriptors; sorted and merged in place
 * @nr:      their number
 * @ret:     optional: @pages counts what was freed
 * @err:     optional
 *
 * The guest waits until the buffers are used again, then may use the pages at once: nothing is
 * remembered. Returns as gm_balloon_inflate(). Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_report(struct gm_balloon *balloon, struct gm_discard_range *ranges, size_t nr,
	struct gm_balloon_result *ret, struct gm_error *err);

/**
 * gm_balloon_info() - describe it
 * @balloon: borrowed
 * @ret:     filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_info(struct gm_balloon *balloon, struct gm_balloon_info *ret);

#ifdef __cplusplus
}
#endif

#endif
