/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * range.h - arithmetic on address ranges that cannot overflow.
 *
 * A range is inclusive at both ends: it is never empty and may end at 2^64 - 1. Comparisons
 * come before subtractions; nothing is added to an address unchecked.
 */
#ifndef GM_CORE_RANGE_H
#define GM_CORE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct gm_range {
	uint64_t first;
	uint64_t last;
};

/* True and *ret = [start, start + len) if len > 0 and the range does not wrap past 2^64. */
static inline bool gm_range_make(uint64_t start, uint64_t len, struct gm_range *ret)
{
	if (len == 0 || len - 1 > UINT64_MAX - start)
		return false;
	ret->first = start;
	ret->last = start + (len - 1);
	return true;
}

static inline bool gm_range_is_valid(const struct gm_range *r)
{
	return r->first <= r->last;
}

/* Bytes in the range less one: 2^64 - 1 for the whole address space. */
static inline uint64_t gm_range_extent(const struct gm_range *r)
{
	return r->last - r->first;
}

/* Bytes in the range; 0 stands for 2^64. */
static inline uint64_t gm_range_len(const struct gm_range *r)
{
	return r->last - r->first + 1;
}

static inline bool gm_range_has(const struct gm_range *r, uint64_t addr)
{
	return addr >= r->first && addr <= r->last;
}

static inline bool gm_range_contains(const struct gm_range *outer, const struct gm_range *inner)
{
	return inner->first >= outer->first && inner->last <= outer->last;
}

static inline bool gm_range_overlaps(const struct gm_range *a, const struct gm_range *b)
{
	return a->first <= b->last && b->first <= a->last;
}

/* True if b begins right behind a. */
static inline bool gm_range_precedes(const struct gm_range *a, const struct gm_range *b)
{
	return b->first != 0 && a->last == b->first - 1;
}

/* The common part, if there is one. */
static inline bool gm_range_intersect(
	const struct gm_range *a, const struct gm_range *b, struct gm_range *ret)
{
	if (!gm_range_overlaps(a, b))
		return false;
	*ret = (struct gm_range){
		.first = a->first > b->first ? a->first : b->first,
		.last = a->last < b->last ? a->last : b->last,
	};
	return true;
}

static inline bool gm_is_pow2(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* @align is a power of two. */
static inline bool gm_is_aligned(uint64_t n, uint64_t align)
{
	return (n & (align - 1)) == 0;
}

static inline uint64_t gm_align_down(uint64_t n, uint64_t align)
{
	return n & ~(align - 1);
}

/* False if the result would pass 2^64 - 1. */
static inline bool gm_align_up(uint64_t n, uint64_t align, uint64_t *ret)
{
	if (n > UINT64_MAX - (align - 1))
		return false;
	*ret = gm_align_down(n + (align - 1), align);
	return true;
}

/* The largest part of r whose ends are multiples of align, if there is one. */
bool gm_range_align_in(const struct gm_range *r, uint64_t align, struct gm_range *ret);

/* The smallest range around r whose ends are multiples of align; it may be the whole space. */
void gm_range_align_out(const struct gm_range *r, uint64_t align, struct gm_range *ret);

#endif
