/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bits.c - see bits.h.
 *
 * To take a word that is all ones needs no exchange: what somebody could add meanwhile is taken
 * already. Neither does one that is zero. So a map that is written densely or hardly at all is taken at
 * the speed of a copy, group by group.
 */
#include "core/bits.h"

#include <string.h>

#define ONES UINT64_MAX

/* ---- pages ---- */

void gm_pages_init(struct gm_pages *pages, const struct gm_range *range, uint64_t size)
{
	pages->range = *range;
	pages->size = size;
	pages->shift = (size & (size - 1)) == 0 ? (uint32_t)__builtin_ctzll(size) : 64;
}

static inline uint64_t page_at(const struct gm_pages *pages, uint64_t off)
{
	return pages->shift < 64 ? off >> pages->shift : off / pages->size;
}

uint64_t gm_pages_count(const struct gm_pages *pages)
{
	uint64_t last = page_at(pages, gm_range_extent(&pages->range));

	return last == UINT64_MAX ? last : last + 1;
}

bool gm_pages_touched(
	const struct gm_pages *pages, const struct gm_range *range, struct gm_range *ret_bits)
{
	struct gm_range common;

	if (!gm_range_intersect(range, &pages->range, &common))
		return false;
	ret_bits->first = page_at(pages, common.first - pages->range.first);
	ret_bits->last = page_at(pages, common.last - pages->range.first);
	return true;
}

bool gm_pages_inside(
	const struct gm_pages *pages, const struct gm_range *range, struct gm_range *ret_bits)
{
	struct gm_range bits;
	struct gm_range at;

	if (!gm_pages_touched(pages, range, &bits))
		return false;
	at = gm_pages_range(pages, &(struct gm_range){bits.first, bits.first});
	if (at.first < range->first) {
		if (bits.first == bits.last)
			return false;
		bits.first++;
	}
	at = gm_pages_range(pages, &(struct gm_range){bits.last, bits.last});
	if (at.last > range->last) {
		if (bits.first == bits.last)
			return false;
		bits.last--;
	}
	*ret_bits = bits;
	return true;
}

struct gm_range gm_pages_range(const struct gm_pages *pages, const struct gm_range *bits)
{
	struct gm_range range = {.first = pages->range.first + bits->first * pages->size};
	uint64_t last;

	if (__builtin_mul_overflow(bits->last, pages->size, &last) ||
		__builtin_add_overflow(last, pages->size - 1, &last) ||
		last > gm_range_extent(&pages->range))
		last = gm_range_extent(&pages->range);
	range.last = pages->range.first + last;
	return range;
}

/* ---- words ---- */

static inline uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* The bits of word @i that are in a range of bits. */
static inline uint64_t mask_of(const struct gm_range *bits, uint64_t i)
{
	uint64_t mask = ONES;

	if (i == bits->first / 64)
		mask &= ONES << (bits->first % 64);
	if (i == bits->last / 64)
		mask &= ONES >> (63 - bits->last % 64);
	return mask;
}

void gm_bits_set(uint64_t *words, const struct gm_range *bits)
{
	for (uint64_t i = bits->first / 64; i <= bits->last / 64; i++) {
		uint64_t mask = mask_of(bits, i);

		if (mask == ONES)
			__atomic_store_n(&words[i], ONES, __ATOMIC_RELEASE);
		else if (mask & ~load(&words[i]))
			__atomic_fetch_or(&words[i], mask, __ATOMIC_SEQ_CST);
	}
}

void gm_bits_clear(uint64_t *words, const struct gm_range *bits)
{
	for (uint64_t i = bits->first / 64; i <= bits->last / 64; i++) {
		uint64_t mask = mask_of(bits, i);

		/* What nobody has set has no page, and is to get none. */
		if (!(mask & load(&words[i])))
			continue;
		if (mask == ONES)
			__atomic_store_n(&words[i], 0, __ATOMIC_RELEASE);
		else
			__atomic_fetch_and(&words[i], ~mask, __ATOMIC_SEQ_CST);
	}
}

bool gm_bits_all(const uint64_t *words, const struct gm_range *bits)
{
	for (uint64_t i = bits->first / 64; i <= bits->last / 64; i++) {
		if (mask_of(bits, i) & ~load(&words[i]))
			return false;
	}
	return true;
}

static inline uint64_t count(uint64_t word)
{
	return word == 0 ? 0 : word == ONES ? 64 : (uint64_t)__builtin_popcountll(word);
}

uint64_t gm_bits_count(const uint64_t *words, const struct gm_range *bits)
{
	uint64_t sum = 0;

	for (uint64_t i = bits->first / 64; i <= bits->last / 64; i++)
		sum += count(load(&words[i]) & mask_of(bits, i));
	return sum;
}

/* The first bit at or above @from, up to @last, that is set (or clear, with @flip of ones). */
static bool find(const uint64_t *words, uint64_t from, uint64_t last, uint64_t flip, uint64_t *ret)
{
	struct gm_range bits = {from, last};

	for (uint64_t i = from / 64; i <= last / 64; i++) {
		uint64_t word = (load(&words[i]) ^ flip) & mask_of(&bits, i);

		if (word) {
			*ret = i * 64 + (uint64_t)__builtin_ctzll(word);
			return true;
		}
	}
	return false;
}

bool gm_bits_next(const uint64_t *words, uint64_t from, uint64_t last, struct gm_range *ret_run)
{
	uint64_t end;

	if (from > last || !find(words, from, last, 0, &ret_run->first))
		return false;
	ret_run->last = find(words, ret_run->first, last, ONES, &end) ? end - 1 : last;
	return true;
}

/* ---- taking ---- */

uint64_t gm_bits_take_some(uint64_t *word, uint64_t mask)
{
	uint64_t was = load(word) & mask;

	if (was == 0)
		return 0;
	if (was == ONES) {
		__atomic_store_n(word, 0, __ATOMIC_RELAXED);
		return was;
	}
	return __atomic_fetch_and(word, ~mask, __ATOMIC_SEQ_CST) & mask;
}

#define GROUP 16 /* words */

#if defined(__SANITIZE_THREAD__)
#define GM_BITS_BY_WORDS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GM_BITS_BY_WORDS 1
#endif
#endif

#ifndef GM_BITS_BY_WORDS
typedef uint64_t v2 __attribute__((vector_size(16), aligned(8), may_alias));

/*
 * A group whose words are all zero, or all ones: 1 with what they are in *ret. Loads and stores are
 * plain vectors: each word of one is read or written at once.
 */
static inline bool take_alike(uint64_t *words, uint64_t *ret)
{
	volatile v2 *group = (volatile v2 *)words;
	v2 all = group[0];
	v2 any = all;

	for (int i = 1; i < GROUP / 2; i++) {
		v2 two = group[i];

		all &= two;
		any |= two;
	}
	if ((any[0] | any[1]) == 0) {
		*ret = 0;
		return true;
	}
	if ((all[0] & all[1]) != ONES)
		return false;
	for (int i = 0; i < GROUP / 2; i++)
		group[i] = (v2){0, 0};
	*ret = ONES;
	return true;
}
#else
static inline bool take_alike(uint64_t *words, uint64_t *ret)
{
	(void)words;
	(void)ret;
	return false;
}
#endif

uint64_t gm_bits_take(uint64_t *words, size_t nr, uint64_t *out)
{
	uint64_t sum = 0;
	size_t i = 0;

	while (i < nr) {
		uint64_t alike;

		if (nr - i >= GROUP && take_alike(words + i, &alike)) {
			memset(out + i, (int)(alike & 0xff), GROUP * sizeof(*out));
			sum += alike ? GROUP * 64 : 0;
			i += GROUP;
			continue;
		}
		for (size_t end = nr - i < GROUP ? nr : i + GROUP; i < end; i++) {
			out[i] = gm_bits_take_some(&words[i], ONES);
			sum += count(out[i]);
		}
	}
	return sum;
}

void gm_bits_merge(uint64_t *words, const uint64_t *from, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (from[i] & ~load(&words[i]))
			__atomic_fetch_or(&words[i], from[i], __ATOMIC_SEQ_CST);
	}
}
