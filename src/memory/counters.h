/* SPDX-License-Identifier: BSD-3-Clause */
/* counters.h - counting what is done to memory. Relaxed: nobody orders anything by them. */
#ifndef GM_MEMORY_COUNTERS_H
#define GM_MEMORY_COUNTERS_H

#include <guestmem/counters.h>

/* Members are atomic. */
struct gm_tallies {
	struct gm_count counts[GM_COUNTERS];
};

/* @ns: what it took; @rc: 0 or why it failed. */
void gm_tally(
	struct gm_tallies *tallies, enum gm_counter what, uint64_t bytes, uint64_t ns, int rc);

#endif
