/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filler.h - who still brings pages of a space, so that nobody takes absent ones for zeros.
 *
 * A pager says so for as long as it has the space. Whoever copies memory as it lies (a save) asks first.
 */
#ifndef GM_MEMORY_FILLER_H
#define GM_MEMORY_FILLER_H

#include <stdint.h>

struct gm_space;

/* Belongs to the pager, which adds and removes it; in one space. */
struct gm_filler {
	struct gm_filler *next;
	/* Bytes of the space that are absent yet. In any thread, with the space's lock. */
	uint64_t (*absent)(const struct gm_filler *filler);
};

void gm_filler_add(struct gm_space *space, struct gm_filler *filler);
void gm_filler_remove(struct gm_space *space, struct gm_filler *filler);
/* Of all together. */
uint64_t gm_filler_absent(struct gm_space *space);

#endif
