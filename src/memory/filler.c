/* SPDX-License-Identifier: BSD-3-Clause */
/* filler.c - see filler.h. */
#include "memory/filler.h"

#include "memory/space.h"

void gm_filler_add(struct gm_space *space, struct gm_filler *filler)
{
	pthread_mutex_lock(&space->lock);
	filler->next = space->fillers;
	space->fillers = filler;
	pthread_mutex_unlock(&space->lock);
}

void gm_filler_remove(struct gm_space *space, struct gm_filler *filler)
{
	struct gm_filler **at = &space->fillers;

	pthread_mutex_lock(&space->lock);
	while (*at != filler)
		at = &(*at)->next;
	*at = filler->next;
	pthread_mutex_unlock(&space->lock);
}

uint64_t gm_filler_absent(struct gm_space *space)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&space->lock);
	for (const struct gm_filler *filler = space->fillers; filler; filler = filler->next)
		sum += filler->absent(filler);
	pthread_mutex_unlock(&space->lock);
	return sum;
}
