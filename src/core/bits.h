/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bits.h - bitmaps of pages that many threads set and one takes.
 *
 * Bit i is bit i % 64 of word i / 64. Setting is sequentially consistent where a bit really changes; a word
 * all of whose bits are set is stored to. Nothing here is a fence for other memory.
 */
#ifndef GM_CORE_BITS_H
#define GM_CORE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/range.h"

/* How addresses are pages: page i begins at first + i * size. */
struct gm_pages {
	struct gm_range range;
	uint64_t size;
	uint32_t shift; /* of a power of two, else 64 */
};

/* @size is not 0. */
void gm_pages_init(struct gm_pages *pages, const struct gm_range *range, uint64_t size);
/* Number of pages, the last one may be cut; all of 2^64 bytes with pages of 1 byte are 2^64 - 1. */
uint64_t gm_pages_count(const struct gm_pages *pages);
/* Pages that meet an address range; false if there are none. */
bool gm_pages_touched(
	const struct gm_pages *pages, const struct gm_range *range, struct gm_range *ret_bits);
/* Pages that lie in it whole; false if there are none. */
bool gm_pages_inside(
	const struct gm_pages *pages, const struct gm_range *range, struct gm_range *ret_bits);
/* The addresses of some pages. */
struct gm_range gm_pages_range(const struct gm_pages *pages, const struct gm_range *bits);

static inline uint64_t gm_bits_words(uint64_t nr_bits)
{
	return nr_bits / 64 + (nr_bits % 64 != 0);
}

void gm_bits_set(uint64_t *words, const struct gm_range *bits);
void gm_bits_clear(uint64_t *words, const struct gm_range *bits);
bool gm_bits_all(const uint64_t *words, const struct gm_range *bits);
uint64_t gm_bits_count(const uint64_t *words, const struct gm_range *bits);
/* The first run of set bits at or above @from, up to @last; false if there is none. */
bool gm_bits_next(const uint64_t *words, uint64_t from, uint64_t last, struct gm_range *ret_run);

/* Clears @nr words and says in @out what they were. Returns the number of bits. */
uint64_t gm_bits_take(uint64_t *words, size_t nr, uint64_t *out);
/* The same for the bits of one word that are set in @mask. */
uint64_t gm_bits_take_some(uint64_t *word, uint64_t mask);
/* Says in @out what some bits are, from its bit @bits->first % 64 on; others of its words are 0. Returns the number. */
uint64_t gm_bits_copy(const uint64_t *words, const struct gm_range *bits, uint64_t *out);
/* Sets of @bits what is set in @from, whose first bit is that of @bits. */
void gm_bits_merge(uint64_t *words, const struct gm_range *bits, const uint64_t *from);

#endif
