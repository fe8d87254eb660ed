/* SPDX-License-Identifier: BSD-3-Clause */
/* sparse.h - what a sparse region is made of, for the files that work on it. */
#ifndef GM_SERVICES_SPARSE_H
#define GM_SERVICES_SPARSE_H

#include <guestmem/sparse.h>
#include <stdatomic.h>

struct gm_sparse {
	struct gm_space *space;
	struct gm_sparse_opts opts; /* its name is dead */
	struct gm_block *block;     /* reference */
	uint64_t region;
	uint8_t *hva;
	int tmpfs; /* or -1: nobody keeps the limit */
	int fd;    /* the block's, or -1 */
	char name[32];
	atomic_uint_fast64_t limit;
	atomic_bool busy; /* a thread is polling, reclaiming or promoting */
	/* Of that thread: */
	bool over[GM_SPARSE_TELLS + 1]; /* thresholds and limit: passed and told */
	uint64_t hand;                  /* where trimming goes on */
	/* Read by others: */
	atomic_uint_fast64_t added;
	atomic_uint_fast64_t refused;
	atomic_uint_fast64_t told;
};

/* Bytes that are backed; @ret_huge if it is not NULL: by huge pages, as page tables show. */
int gm_sparse_count(const struct gm_sparse *sparse, uint64_t *ret_used, uint64_t *ret_huge,
	struct gm_error *err);

/* One thread at a time is let in: -EBUSY for the next. */
int gm_sparse_enter(struct gm_sparse *sparse, struct gm_error *err);
void gm_sparse_leave(struct gm_sparse *sparse);

/* gm_sparse_reclaim() by the thread that is in. */
int gm_sparse_reclaim_in(struct gm_sparse *sparse, uint64_t goal, uint32_t flags,
	struct gm_sparse_reclaimed *ret, struct gm_error *err);

#endif
