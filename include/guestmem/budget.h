/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * budget.h - one amount of host memory for several sparse guests.
 *
 * Each member has shares and a minimum. gm_budget_balance() gives each a limit, takes memory back from
 * those that are above theirs, and spends what the user allows for bloat on the hottest blocks of all.
 */
#ifndef GUESTMEM_BUDGET_H
#define GUESTMEM_BUDGET_H

#include <guestmem/sparse.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_budget;

/**
 * struct gm_budget_opts - a budget; zero means default
 * @size:     sizeof(struct gm_budget_opts)
 * @total:    bytes for all members, a multiple of the page size
 * @headroom: bytes above what it uses that a member is given before others get what is left; 0 = shares
 * alone decide
 * @pressure: thousandths of stalled time from which on memory is given back; 0 = never
 * @step:     thousandths of what is used that are given back under pressure; 0 = 50
 * @bloat:    thousandths of what all use that huge pages may add
 * @reserved: zero
 */
struct gm_budget_opts {
	size_t size;
	uint64_t total;
	uint64_t headroom;
	uint32_t pressure;
	uint32_t step;
	uint32_t bloat;
	uint32_t reserved;
};

/**
 * struct gm_budget_share - a member
 * @size:   sizeof(struct gm_budget_share)
 * @sparse: borrowed until gm_budget_remove()
 * @shares: its part of what is there, in proportion: 1 to 2^32 - 1
 * @min:    bytes that it has in any case
 * @heat:   optional: writes up to @max addresses with their heat and returns how many
 * @ctx:    passed to it
 */
struct gm_budget_share {
	size_t size;
	struct gm_sparse *sparse;
	uint64_t shares;
	uint64_t min;
	size_t (*heat)(void *ctx, struct gm_heat *items, size_t max);
	void *ctx;
};

/**
 * struct gm_budget_result - what a balance came to
 * @size:     sizeof(struct gm_budget_result), set by the caller
 * @total:    bytes that were shared out, less than the budget under pressure
 * @used:     bytes that are backed now, of all members
 * @limits:   sum of their limits
 * @freed:    bytes that were taken back
 * @over:     bytes by which the limits together are above @total: members could not give more
 * @promoted: huge pages that were made
 * @added:    bytes that these added
 * @huge:     bytes that are mapped by huge pages now, as page tables show
 */
struct gm_budget_result {
	size_t size;
	uint64_t total;
	uint64_t used;
	uint64_t limits;
	uint64_t freed;
	uint64_t over;
	uint64_t promoted;
	uint64_t added;
	uint64_t huge;
};

/**
 * gm_budget_create() - a budget without members
 * @opts:       borrowed, copied
 * @ret_budget: destroyed with gm_budget_destroy()
 * @err:        optional
 *
 * Returns 0, -EINVAL, -E2BIG, -ENOMEM. Threads: any. Since: 0.1.
 */
GM_API int gm_budget_create(
	const struct gm_budget_opts *opts, struct gm_budget **ret_budget, struct gm_error *err);

/**
 * gm_budget_destroy() - members keep the limits they have
 * @budget: taken; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_budget_destroy(struct gm_budget *budget);

/**
 * gm_budget_add() - a member
 * @budget: borrowed
 * @share:  borrowed, copied
 * @err:    optional
 *
 * Nothing changes for it before the next balance. Returns 0; -EINVAL; -EEXIST; -ENOSPC (the minima are
 * more than the budget); -ENOMEM. Threads: one writer. Since: 0.1.
 */
GM_API int gm_budget_add(
	struct gm_budget *budget, const struct gm_budget_share *share, struct gm_error *err);

/**
 * gm_budget_remove() - not a member any more
 * @budget: borrowed
 * @sparse: borrowed; keeps its limit
 *
 * Returns 0 or -ENOENT. Threads: one writer. Since: 0.1.
 */
GM_API int gm_budget_remove(struct gm_budget *budget, const struct gm_sparse *sparse);

/**
 * gm_budget_balance() - share the memory out once more
 * @budget:   borrowed
 * @pressure: thousandths of stalled time, as gm_pressure_read() gives them
 * @ret:      optional
 * @err:      optional
 *
 * Limits are lowered before others are raised, and what a member could not give back is taken from the
 * others: the limits together are never more than the budget unless all are at what they use or their
 * minimum (result.over). With GM_SPARSE_HARD members so is what is backed. A member that another thread
 * polls keeps its memory this time. Returns 0, -ENOMEM, or what counting met.
 * Threads: one writer; guests may run. Since: 0.1.
 */
GM_API int gm_budget_balance(struct gm_budget *budget, uint32_t pressure,
	struct gm_budget_result *ret, struct gm_error *err);

/**
 * gm_pressure_read() - stalls for want of memory (PSI)
 * @path:     a memory.pressure file of a cgroup; NULL = the machine's, /proc/pressure/memory
 * @ret_some: thousandths of the last 10 seconds in which some task waited
 * @ret_full: optional: in which all did
 * @err:      optional
 *
 * Returns 0; -ENOTSUP (no such file: the kernel keeps none); -EPROTO (it is no such file); -EACCES.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_pressure_read(
	const char *path, uint32_t *ret_some, uint32_t *ret_full, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
