/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * universe.h - sixteen addresses somewhere in the 64-bit space, small enough to try everything.
 *
 * A set of them is a bit mask, a range a pair of numbers; the naive oracles of the tests work on
 * these. Shifted to the bottom, the top, and over 2^63, the same sixteen meet each edge of the
 * space.
 */
#ifndef GM_TESTS_UNIVERSE_H
#define GM_TESTS_UNIVERSE_H

#include <stdint.h>

#include "core/range.h"

#define U_SIZE 16u
#define U_RANGES (U_SIZE * (U_SIZE + 1) / 2)

static const uint64_t universes[] = {
	0, UINT64_MAX - (U_SIZE - 1), (UINT64_C(1) << 63) - U_SIZE / 2};
#define NR_UNIVERSES (sizeof(universes) / sizeof(universes[0]))

/* All ranges of a universe: for (struct u_range r = u_first(); r.first < U_SIZE; u_next(&r)) */
struct u_range {
	unsigned int first;
	unsigned int last;
};

static inline struct u_range u_first(void)
{
	return (struct u_range){0, 0};
}

static inline void u_next(struct u_range *r)
{
	if (++r->last < U_SIZE)
		return;
	r->first++;
	r->last = r->first;
}

static inline struct gm_range u_range(uint64_t base, struct u_range r)
{
	return (struct gm_range){.first = base + r.first, .last = base + r.last};
}

static inline uint32_t u_mask(struct u_range r)
{
	return ((2u << r.last) - 1) & ~((1u << r.first) - 1);
}

/* The mask of a range that lies in the universe at @base. */
static inline uint32_t u_mask_of(uint64_t base, const struct gm_range *r)
{
	return u_mask(
		(struct u_range){(unsigned int)(r->first - base), (unsigned int)(r->last - base)});
}

/* Number of runs of set bits. */
static inline unsigned int u_runs(uint32_t mask)
{
	return (unsigned int)__builtin_popcount(mask & ~(mask << 1));
}

#endif
