/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * addr_pool.h - gives out free addresses: places for hotplugged memory, windows of devices.
 *
 * A pool is a stretch of addresses [first, last], of which parts are taken. It knows numbers only:
 * nothing is mapped. What was given out comes back as the same range, and only so.
 */
#ifndef GUESTMEM_ADDR_POOL_H
#define GUESTMEM_ADDR_POOL_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_addr_pool;

/**
 * struct gm_addr_range - some addresses
 * @first: first address
 * @last:  last address, inclusive: a range is never empty and may end at 2^64
 */
struct gm_addr_range {
	uint64_t first;
	uint64_t last;
};

/* Which of the free addresses are taken. */
enum gm_addr_policy {
	GM_ADDR_LOWEST = 0,
	GM_ADDR_HIGHEST = 1,
	GM_ADDR_EXACT = 2 /* those from gm_addr_request.at on */
};

/**
 * struct gm_addr_request - what addresses are wanted
 * @size:     sizeof(struct gm_addr_request)
 * @len:      bytes, not 0
 * @align:    the first address is a multiple of it: a power of two; 0 = 1
 * @min:      no address below this one
 * @max:      none above this one; 0 = the end of the pool
 * @at:       first address for GM_ADDR_EXACT, else 0
 * @policy:   enum gm_addr_policy
 * @reserved: zero
 */
struct gm_addr_request {
	size_t size;
	uint64_t len;
	uint64_t align;
	uint64_t min;
	uint64_t max;
	uint64_t at;
	uint32_t policy;
	uint32_t reserved;
};

/* What a stretch of the pool is. */
enum gm_addr_state {
	GM_ADDR_FREE = 0,
	GM_ADDR_ALLOCATED = 1, /* by gm_addr_pool_alloc() */
	GM_ADDR_RESERVED = 2   /* by gm_addr_pool_reserve() */
};

/**
 * struct gm_addr_info - a stretch of a pool
 * @size:     sizeof(struct gm_addr_info), set by the caller
 * @range:    its addresses; free stretches are as long as they can be
 * @state:    enum gm_addr_state
 * @reserved: zero
 */
struct gm_addr_info {
	size_t size;
	struct gm_addr_range range;
	uint32_t state;
	uint32_t reserved;
};

/**
 * gm_addr_pool_create() - make a pool, all of it free
 * @range:    its addresses, copied
 * @ret_pool: the pool
 * @err:      optional
 *
 * Returns 0; -EINVAL (the range ends before it begins); -ENOMEM.
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_addr_pool_create(
	const struct gm_addr_range *range, struct gm_addr_pool **ret_pool, struct gm_error *err);

/**
 * gm_addr_pool_destroy() - free a pool, whatever is taken of it
 * @pool: taken; NULL is ignored
 *
 * Threads: owner only.
 * Since: 0.1.
 */
GM_API void gm_addr_pool_destroy(struct gm_addr_pool *pool);

/**
 * gm_addr_pool_alloc() - take free addresses
 * @pool:      borrowed
 * @req:       borrowed
 * @ret_range: what was taken
 * @err:       optional
 *
 * O(log n) in the number of stretches if @align is 1, or @len a power of two and @align the same;
 * else each free stretch that is long enough but has no aligned room may cost a step more.
 *
 * Returns 0; -ENOSPC (none free like that; the text and err->gpa, err->len name the longest free
 * range between @min and @max, len 0 if none); -EEXIST (GM_ADDR_EXACT: err->gpa is the first address
 * that is taken, err->len the rest of what it is taken by); -ERANGE (GM_ADDR_EXACT: outside of the
 * pool, of @min and @max, or past 2^64); -EINVAL (@len 0, @align no power of two, @at no multiple of
 * it, @min above @max, unknown policy); -E2BIG (request of a newer version); -ENOMEM. On failure the
 * pool is unchanged.
 * Threads: one at a time for a pool.
 * Since: 0.1.
 */
GM_API int gm_addr_pool_alloc(struct gm_addr_pool *pool, const struct gm_addr_request *req,
	struct gm_addr_range *ret_range, struct gm_error *err);

/**
 * gm_addr_pool_reserve() - take addresses that nobody is to be given
 * @pool:  borrowed
 * @range: all of it free; it may be the whole address space
 * @err:   optional
 *
 * Returns 0; -EINVAL (it ends before it begins); -ERANGE (not in the pool); -EEXIST (as
 * gm_addr_pool_alloc()); -ENOMEM. On failure the pool is unchanged. O(log n).
 * Threads: one at a time for a pool.
 * Since: 0.1.
 */
GM_API int gm_addr_pool_reserve(
	struct gm_addr_pool *pool, const struct gm_addr_range *range, struct gm_error *err);

/**
 * gm_addr_pool_free() - give back what gm_addr_pool_alloc() or _reserve() took
 * @pool:  borrowed
 * @range: the same range, neither a part of it nor several
 * @err:   optional; names what is there instead
 *
 * Needs no memory. Returns 0; -EINVAL (it ends before it begins); -ERANGE (not in the pool); -ENOENT
 * (this range was not taken as such). On failure the pool is unchanged. O(log n).
 * Threads: one at a time for a pool.
 * Since: 0.1.
 */
GM_API int gm_addr_pool_free(
	struct gm_addr_pool *pool, const struct gm_addr_range *range, struct gm_error *err);

/**
 * gm_addr_pool_at() - say what an address belongs to
 * @pool:     borrowed
 * @addr:     any address
 * @ret_info: the stretch that holds it; its size member is set by the caller
 *
 * To walk a pool, ask for its first address, then for range.last + 1 until that is the pool's last.
 *
 * Returns 0; -ERANGE (not in the pool); -EINVAL (size). O(log n).
 * Threads: one at a time for a pool.
 * Since: 0.1.
 */
GM_API int gm_addr_pool_at(
	const struct gm_addr_pool *pool, uint64_t addr, struct gm_addr_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
