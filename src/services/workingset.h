/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workingset.h - what the parts of a working set share.
 *
 *   workingset.c         life, rounds, sums
 *   workingset_choose.c  which method serves a piece of memory, or why none does
 *   workingset_look.c    the sample of a piece: made untouched, and looked at again
 *   workingset_sum.c     estimates, bounds, bins
 */
#ifndef GM_SERVICES_WORKINGSET_H
#define GM_SERVICES_WORKINGSET_H

#include <guestmem/workingset.h>
#include <pthread.h>
#include <sys/uio.h>

#include <guestmem/residency.h>

#include "memory/reach.h"
#include "sys/uapi.h"

#define GM_TODO_MAX 256u
#define GM_LOOK_MAX 512u /* with more, the kernel's walk_end can be stale */

struct gm_bin {
	uint64_t samples;
	uint64_t touched;
	uint64_t last; /* round of the last touch, 0 = none */
};

/* A piece of memory of a round. */
struct gm_area {
	struct gm_range range;  /* guest addresses, whole pages */
	uint64_t hva;           /* of the first one */
	struct gm_block *block; /* reference */
	uint64_t block_off;
	uint64_t region;
	uint64_t unit;  /* bytes of the smallest page */
	uint64_t parts; /* units of a stratum */
	uint32_t method;
	uint32_t reason; /* GM_WORKINGSET_LEFT_*, 0 if it is looked at */
	int code;        /* what the kernel said */
	uint32_t notes;
	bool shared;
	bool registered; /* with our userfaultfd */
	bool gone;       /* atomic: a commit took it */
	uint64_t *pfns;  /* IDLE: of each sample; 0 = not looked at */
	struct gm_bin *bins;
	uint64_t samples;
	uint64_t touched;
	uint64_t backed; /* bytes */
	uint64_t bytes;
};

/* Extents of one look at the page tables. */
struct gm_look {
	uint64_t from; /* [from, to) has been looked at */
	uint64_t to;
	uint64_t window; /* bytes of the next look */
	size_t nr;
	size_t at;
	uint32_t blind; /* samples that are taken without a look */
	struct page_region found[GM_LOOK_MAX];
};

struct gm_workingset {
	struct gm_space *space;
	struct gm_workingset_opts opts;
	struct gm_range range;
	struct gm_listener *listener;
	int pagemap;
	int maps;
	int uffd; /* or -errno */
	int idle; /* or -errno */
	uint64_t stride;
	uint64_t round;
	bool begun;
	uint64_t reported;
	uint64_t begin_ns;
	uint64_t begun_at;
	pthread_mutex_t lock; /* areas against commits; changes */
	uint64_t changes;     /* sections that went */
	struct gm_area *areas;
	size_t nr;
	size_t cap;
	struct gm_workingset_result last;
	struct gm_look look;
	size_t nr_todo; /* stretches to be made untouched */
	struct iovec todo[GM_TODO_MAX];
};

static inline uint64_t gm_area_len(const struct gm_area *a)
{
	return gm_range_len(&a->range);
}

static inline bool gm_area_is_gone(const struct gm_area *a)
{
	return __atomic_load_n(&a->gone, __ATOMIC_ACQUIRE);
}

/* Strata of a piece. */
static inline uint64_t gm_area_strata(const struct gm_area *a)
{
	return (gm_area_len(a) / a->unit + a->parts - 1) / a->parts;
}

/* ---- workingset_choose.c ---- */
/* Fills in method or reason of an area; 0 or an error that ends the round. */
int gm_workingset_choose(struct gm_workingset *ws, const struct gm_pass *pass,
	const struct gm_reach *reach, struct gm_area *area, struct gm_error *err);
/* The choice in words. */
const char *gm_workingset_why(const struct gm_area *area);

/* ---- workingset_look.c ---- */
/* Makes the sample untouched. What the kernel refuses is the area's reason. */
int gm_workingset_take(struct gm_workingset *ws, struct gm_area *area);
/* Counts what was touched. */
int gm_workingset_count(struct gm_workingset *ws, struct gm_area *area);

/* ---- workingset_sum.c ---- */
/* Adds what all rounds saw in a range of guest addresses. */
void gm_workingset_heat(const struct gm_workingset *ws, uint64_t gpa, uint64_t len,
	uint64_t *samples, uint64_t *touched);
/* Bounds of the share of @population that has been touched, if @touched of @samples have. */
void gm_workingset_bounds(uint64_t samples, uint64_t touched, uint64_t population, double ret[2]);
void gm_workingset_sum_area(const struct gm_workingset *ws, const struct gm_area *area,
	struct gm_workingset_result *ret);
void gm_workingset_sum(const struct gm_workingset *ws, struct gm_workingset_result *ret);

#endif
