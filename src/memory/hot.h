/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hot.h - the largest stretch that inline code may read and write, which is asked before the table.
 *
 * All placed memory is reached at window_base + gpa, so that neighbours make one stretch. Only after what
 * was best has been cut to less than half is everything looked at.
 */
#ifndef GM_MEMORY_HOT_H
#define GM_MEMORY_HOT_H

#include "memory/view.h"

/* Fills in the stretch of a view whose spans are finished. */
void gm_hot_pick(struct gm_view_full *view, const struct gm_view_full *old,
	const struct gm_edit *edits, size_t nr);

#endif
