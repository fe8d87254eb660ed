/* SPDX-License-Identifier: BSD-3-Clause */
/* wset.h - what the files of recorded working sets share, and what the pager has to know. */
#ifndef GM_SERVICES_WSET_H
#define GM_SERVICES_WSET_H

#include <guestmem/wset.h>

#include "core/wset.h"

/* Never changed once it is made; counted. */
struct gm_wset {
	uint32_t refs;
	struct gm_wset_body body;
	struct gm_wset_stretch *stretches; /* those of the body */
	uint32_t *order;
};

/*
 * A bit for each page of the image: who sets it writes the page to the next slot of the log. Any number of threads do
 * so at once.
 */
struct gm_wset_recorder {
	uint32_t refs;
	uint32_t stopped; /* atomic */
	uint64_t pages;   /* of the image */
	uint64_t len;
	uint64_t *seen;
	uint32_t *log; /* 1 + page; 0: on its way */
	uint64_t room; /* of the log */
	uint64_t nr;   /* atomic: slots given out; it may run past room by the number of threads */
	void *memory;
	uint64_t memory_len;
};

/* A set with room; its refs are 1. NULL: no memory. */
struct gm_wset *gm_wset_alloc(size_t nr_stretches, size_t nr_order);
struct gm_wset *gm_wset_get(struct gm_wset *set);
/* Body's pages, numbers and pointers of what is in its arrays. */
void gm_wset_finish(struct gm_wset *set, size_t nr_stretches, size_t nr_order);

struct gm_wset_recorder *gm_wset_recorder_get(struct gm_wset_recorder *recorder);

static inline void gm_wset_note(struct gm_wset_recorder *r, uint64_t off)
{
	uint64_t page = off >> GM_WSET_BITS;
	uint64_t bit = UINT64_C(1) << page % 64;
	uint64_t at;

	if (page >= r->pages || __atomic_load_n(&r->stopped, __ATOMIC_RELAXED) ||
		(__atomic_load_n(&r->seen[page / 64], __ATOMIC_RELAXED) & bit) ||
		(__atomic_fetch_or(&r->seen[page / 64], bit, __ATOMIC_RELAXED) & bit) ||
		__atomic_load_n(&r->nr, __ATOMIC_RELAXED) >= r->room)
		return;
	at = __atomic_fetch_add(&r->nr, 1, __ATOMIC_RELAXED);
	if (at < r->room)
		__atomic_store_n(&r->log[at], (uint32_t)page + 1, __ATOMIC_RELAXED);
}

#endif
