/* SPDX-License-Identifier: BSD-3-Clause */
/* shares.h - an amount cut in proportion to shares, each part between a minimum and a maximum. */
#ifndef GM_CORE_SHARES_H
#define GM_CORE_SHARES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gm_share {
	uint64_t shares; /* not 0, below 2^32 */
	uint64_t min;
	uint64_t max;  /* >= min */
	uint64_t part; /* the result */
	bool done;
};

/*
 * Parts in units of @unit bytes (minima and maxima are multiples of it) with a sum of at most @total: less only by
 * rounding, or where all have their maximum. False, and every part its minimum, if the minima are more.
 */
bool gm_shares_cut(struct gm_share *items, size_t nr, uint64_t total, uint64_t unit);

#endif
