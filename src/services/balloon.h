/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * balloon.h - what balloon.c (pages, statistics) and balloon_hint.c share.
 *
 * One lock: a list is done as a whole. A bit for each page of 2^32 lies in reserved addresses, of which only those
 * become memory whose pages are RAM that was given.
 */
#ifndef GM_SERVICES_BALLOON_H
#define GM_SERVICES_BALLOON_H

#include <guestmem/balloon_hint.h>
#include <pthread.h>
#include <stdbool.h>

#include "core/bits.h"

struct gm_balloon {
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_defer *defer; /* or NULL */
	pthread_mutex_t lock;
	uint64_t *bits;
	struct gm_balloon_info sum;
	struct gm_balloon_stats stats;
	/* hints */
	struct gm_balloon_marks marks; /* words NULL: none are asked for */
	struct gm_pages pages;
	bool listening; /* the guest has named the command */
};

/* With the lock: does a page that was given up have to read as something else than zeros? */
static inline bool gm_balloon_is_poisoned(const struct gm_balloon *b)
{
	return b->sum.poisoned && b->sum.poison;
}

#endif
