/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard.h - what the ways of discarding share.
 *
 *   discard.c        one range: pieces, halves, rounding, who is asked, what is marked
 *   discard_way.c    which system call is right for a backing, and making it
 *   discard_batch.c  scattered stretches in one call
 *   discard_list.c   lists: page numbers, ranges, bitmaps
 *   discard_defer.c  parts of huge pages that wait for the rest
 */
#ifndef GM_MEMORY_DISCARD_H
#define GM_MEMORY_DISCARD_H

#include <guestmem/discard.h>
#include <guestmem/listener.h>
#include <sys/uio.h>

#include "memory/reach.h"

#define GM_DISCARD_FLAGS                                                                           \
	(GM_DISCARD_ANY_KIND | GM_DISCARD_COORDINATED | GM_DISCARD_SHARED | GM_DISCARD_PRIVATE)

/* Bytes of one block behind one piece. */
struct gm_target {
	const struct gm_reach *reach;
	struct gm_range range; /* guest addresses, in the piece */
	struct gm_block *block;
	uint64_t off;
	uint8_t *hva; /* or NULL */
	bool private_half;
};

#define GM_BATCH_MAX 256u

/* Stretches of one mapping that wait for their turn. */
struct gm_batch {
	struct gm_map *map; /* pinned; NULL: none */
	size_t nr;
	uint64_t bytes;
	struct gm_range gpas[GM_BATCH_MAX];
	struct iovec iov[GM_BATCH_MAX];
};

/* One call of the user. */
struct gm_discarding {
	struct gm_space *space;
	uint32_t mode;
	uint32_t flags;
	struct gm_pass pass;
	bool lenient;                       /* what is refused is counted */
	bool guard;                         /* guard pages follow */
	struct gm_batch *batch;             /* or NULL */
	const struct gm_discard_opts *opts; /* of a list, or NULL */
	struct gm_reach kept; /* of a list: the piece that was found last, if it has a mapping */
	size_t nr_told;       /* targets of which listeners were told that they were done */
	struct gm_discard_result sum;
	struct gm_error *err;
};

/* The bytes are gone afterwards. */
static inline bool gm_discard_loses(uint32_t mode)
{
	return mode == GM_DISCARD_NOW || mode == GM_DISCARD_LAZY || mode == GM_DISCARD_ZERO;
}

/* ---- discard.c ---- */
int gm_discard_begin(struct gm_discarding *d, const struct gm_discard_result *ret);
/* A range that does not wrap, as a whole or piece by piece. */
int gm_discard_range(struct gm_discarding *d, const struct gm_range *range);
/* Writes the result; returns @rc. */
int gm_discard_end(struct gm_discarding *d, int rc, struct gm_discard_result *ret);
/* What is done to each half of each piece in a range. */
int gm_discard_targets(struct gm_discarding *d, const struct gm_reach *reach,
	int (*fn)(struct gm_discarding *d, const struct gm_target *target, void *ctx), void *ctx);
/* The whole pages of @unit bytes in a target, of which the first byte has the address @at. */
bool gm_target_round(
	const struct gm_target *target, uint64_t unit, uint64_t at, struct gm_target *ret);
/* The whole pages of its block. */
static inline bool gm_target_pages(const struct gm_target *target, struct gm_target *ret)
{
	return gm_target_round(target, target->block->page_size, target->off, ret);
}
struct gm_target gm_target_clip(const struct gm_target *target, const struct gm_range *range);
/* Discards whole pages: asks, does, tells, marks. */
int gm_discard_pages(struct gm_discarding *d, const struct gm_target *target, uint32_t by);

/* Counts what was done, or failed. */
static inline void gm_discard_counted(
	const struct gm_discarding *d, struct gm_block *block, uint64_t bytes, uint64_t ns, int rc)
{
	gm_tally(&block->tallies, GM_COUNT_DISCARD, rc ? 0 : bytes, ns, rc);
	gm_tally(&d->space->tallies, GM_COUNT_DISCARD, rc ? 0 : bytes, ns, rc);
}

/* ---- discard_way.c ---- */
/* Which GM_DISCARD_BY_* a mode takes there; GM_DISCARD_BY_FILL if only writing zeros serves. */
int gm_way_pick(const struct gm_target *target, uint32_t mode, uint32_t flags, uint32_t *ret_by,
	struct gm_error *err);
/* Whole pages. *by may become that for locked memory. */
int gm_way_go(const struct gm_target *target, uint32_t *by, struct gm_error *err);
/* Writes zeros. */
int gm_way_fill(struct gm_space *space, const struct gm_target *target, uint64_t *ret_done,
	struct gm_error *err);
int gm_way_explain(const struct gm_target *target, int rc, uint32_t by, struct gm_error *err);

/* Can it have guard pages? And both ways. */
int gm_way_check_guard(const struct gm_target *target, struct gm_error *err);
int gm_way_guard(const struct gm_target *target, bool install, struct gm_error *err);

/* ---- discard_batch.c ---- */
/* Takes whole pages into the batch; flushes before if need be. */
int gm_batch_add(struct gm_discarding *d, const struct gm_target *target);
int gm_batch_flush(struct gm_discarding *d);

/* ---- discard_list.c ---- */
/* One half of a piece by the policy for huge pages. */
int gm_list_target(struct gm_discarding *d, const struct gm_target *target, uint32_t by);

/* ---- discard_defer.c ---- */
uint64_t gm_defer_unit(const struct gm_defer *defer);
/* Held while a list is done: who has forgotten a page knows that it is not being discarded. */
void gm_defer_lock(struct gm_defer *defer);
void gm_defer_unlock(struct gm_defer *defer);
/* With the lock, as gm_defer_forget(). */
uint64_t gm_defer_drop(struct gm_defer *defer, const struct gm_range *range);
/*
 * With the lock: remembers part of the huge page that begins at @unit_gpa. False if there is no room;
 * *ret_full: all of it is there now, and forgotten.
 */
bool gm_defer_add(
	struct gm_defer *defer, uint64_t unit_gpa, const struct gm_range *part, bool *ret_full);

#endif
