/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_places.h - where vm-memory's own 56 measurements of accesses go.
 *
 * Eight regions of 2 GiB touch, from address 0 on. Accesses go to the start of the first one, across
 * the border of the first two, across that of the last two, and to the start of the last one. Those
 * that cross have half of their bytes on each side, so the address depends on the size; it is part
 * of the measurement's name.
 */
#ifndef GM_BENCH_PLACES_H
#define GM_BENCH_PLACES_H

#include <guestmem/guestmem.h>

#include "bench.h"

#define PLACES 4

/* The peer reads the address. */
struct place {
	uint64_t gpa;
	size_t len;
	uint8_t *raw; /* the same bytes by a pointer */
};

extern struct place places_512[PLACES];
extern struct place places_96[PLACES];
extern struct place places_8[PLACES];

extern struct gm_reader *places_reader; /* in no section */
extern const struct gm_view *places_view;

/* Makes the regions, with pages at the places. */
void places_make(void);

/* The four addresses as they stand in names. */
#define PLACES_OF_512 "0x0", "0x7FFFFF00", "0x37FFFFF00", "0x380000000"
#define PLACES_OF_96 "0x0", "0x7FFFFFD0", "0x37FFFFFD0", "0x380000000"
#define PLACES_OF_8 "0x0", "0x7FFFFFFC", "0x37FFFFFFC", "0x380000000"

/*
 * Four rows, each named @prefix and its address, of @size bytes: ours against the peer's function. @q1 to @q4 are the
 * times of vm-memory 0.18 on a Xeon of 2.5 GHz.
 */
#define AGAINST_PEER(prefix, size, fn, theirs, limit, q1, q2, q3, q4)                              \
	PLACES_FOUR(PLACES_PEER, PLACES_OF_##size, prefix, places_##size, fn, theirs, limit, q1,   \
		q2, q3, q4)
/* The same: ours against @fn2, which gets the same place. */
#define AGAINST_BARE(prefix, size, fn, what, fn2, limit)                                           \
	PLACES_FOUR(PLACES_BARE, PLACES_OF_##size, prefix, places_##size, fn, fn2, limit, what,    \
		what, what, what)

#define PLACES_FOUR(...) PLACES_EACH(__VA_ARGS__)
#define PLACES_EACH(row, n1, n2, n3, n4, prefix, places, fn, fn2, limit, w1, w2, w3, w4)           \
	row(prefix n1, &(places)[0], fn, fn2, limit, w1),                                          \
		row(prefix n2, &(places)[1], fn, fn2, limit, w2),                                  \
		row(prefix n3, &(places)[2], fn, fn2, limit, w3),                                  \
		row(prefix n4, &(places)[3], fn, fn2, limit, w4)
#define PLACES_PEER(text, place, fn, theirs, limit, v18)                                           \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = place, .against = BENCH_VMM, .peer = theirs, \
		.other_ctx = place, .goal = limit, .quoted = v18                                   \
	}
#define PLACES_BARE(text, place, fn, fn2, limit, what)                                             \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = place, .against = what, .other = fn2,        \
		.other_ctx = place, .goal = limit                                                  \
	}

#endif
