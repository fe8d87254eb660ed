/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bits.c - see bits.h.
 *
 * To take a word that is all ones needs no exchange: what somebody could add meanwhile is taken
 * already. Neither does one that is zero. So a map that is written densely or hardly at all is taken at
 * the speed of a copy, group by group. But a word is cleared by one store: what is marked behind it stays,
 * and a second one, as the ends of memset() are, would take it away.
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

/* ---- words, many at once ---- */

#if defined(__SANITIZE_THREAD__)
#define GM_BITS_BY_WORDS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GM_BITS_BY_WORDS 1
#endif
#endif

/* Chosen when the library is loaded, as the copies of the guard are. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) &&                        \
	!defined(__SANITIZE_ADDRESS__) && !defined(GM_BITS_BY_WORDS)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

#define GROUP 64 /* words */

#ifndef GM_BITS_BY_WORDS
typedef uint64_t wide __attribute__((vector_size(64), aligned(8), may_alias));

/* Are the words of a group all @alike? If they are ones they are cleared. Each is loaded and stored once. */
static inline __attribute__((always_inline)) bool take_group(uint64_t *words, uint64_t alike)
{
	volatile wide *group = (volatile wide *)words;
	wide want = {alike, alike, alike, alike, alike, alike, alike, alike};
	wide other = {0};

	for (int i = 0; i < GROUP / 8; i++)
		other |= group[i] ^ want;
	if (other[0] | other[1] | other[2] | other[3] | other[4] | other[5] | other[6] | other[7])
		return false;
	for (int i = 0; alike && i < GROUP / 8; i++)
		group[i] = ~want;
	return true;
}

/* Takes groups from the begin on, as long as all their words are @alike. Returns the number of words. */
CLONES static size_t take_alike(uint64_t *words, size_t nr, uint64_t alike)
{
	size_t at = 0;

	while (nr - at >= GROUP && take_group(words + at, alike))
		at += GROUP;
	return at;
}

/*
 * Takes groups from the begin on, as long as all their words are ones, or all zero, and adds up their bits. Returns
 * the number of words.
 */
static size_t take_groups(uint64_t *words, size_t nr, uint64_t *out, uint64_t *sum)
{
	uint64_t alike = __atomic_load_n(words, __ATOMIC_RELAXED);
	size_t run = alike == 0 || alike == ONES ? take_alike(words, nr, alike) : 0;

	memset(out, alike ? 0xff : 0, run * sizeof(*out));
	*sum += alike ? run * 64 : 0;
	return run;
}

/*
 * Clears groups of eight vectors, as far as there are whole ones; returns the number of words. One without a bit is
 * left alone: it may have no page yet. No word is stored to twice: what was set between would be lost.
 */
CLONES static size_t clear_groups(uint64_t *words, size_t nr)
{
	size_t at = 0;

	for (; nr - at >= GROUP; at += GROUP) {
		volatile wide *group = (volatile wide *)(words + at);
		wide any = group[0];
		wide none = {0};

		for (int i = 1; i < GROUP / 8; i++)
			any |= group[i];
		if (!(any[0] | any[1] | any[2] | any[3] | any[4] | any[5] | any[6] | any[7]))
			continue;
		for (int i = 0; i < GROUP / 8; i++)
			group[i] = none;
	}
	return at;
}

/* Twice where the ends of memset() overlap; then perhaps a bit that was taken between is set once more. */
static void set_words(uint64_t *words, size_t nr)
{
	memset(words, 0xff, nr * sizeof(*words));
}
#else
static size_t take_groups(uint64_t *words, size_t nr, uint64_t *out, uint64_t *sum)
{
	(void)words;
	(void)nr;
	(void)out;
	(void)sum;
	return 0;
}

static size_t clear_groups(uint64_t *words, size_t nr)
{
	(void)words;
	(void)nr;
	return 0;
}

static void set_words(uint64_t *words, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		__atomic_store_n(&words[i], ONES, __ATOMIC_RELEASE);
}
#endif

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

/* One word that is not set whole. */
static void set_some(uint64_t *word, uint64_t mask)
{
	if (mask & ~load(word))
		__atomic_fetch_or(word, mask, __ATOMIC_SEQ_CST);
}

void gm_bits_set(uint64_t *words, const struct gm_range *bits)
{
	uint64_t first = bits->first / 64;
	uint64_t last = bits->last / 64;

	if (mask_of(bits, first) != ONES)
		set_some(&words[first], mask_of(bits, first));
	else if (first == last)
		set_words(&words[first], 1);
	if (first == last)
		return;
	if (mask_of(bits, last) != ONES)
		set_some(&words[last], mask_of(bits, last));
	else
		last++;
	first += mask_of(bits, first) != ONES;
	if (first < last)
		set_words(&words[first], last - first);
}

/* What nobody has set has no page, and is to get none. */
static void clear_some(uint64_t *word, uint64_t mask)
{
	if (!(mask & load(word)))
		return;
	if (mask == ONES)
		__atomic_store_n(word, 0, __ATOMIC_RELEASE);
	else
		__atomic_fetch_and(word, ~mask, __ATOMIC_SEQ_CST);
}

void gm_bits_clear(uint64_t *words, const struct gm_range *bits)
{
	uint64_t last = bits->last / 64;
	uint64_t i = bits->first / 64;

	clear_some(&words[i], mask_of(bits, i));
	if (i++ == last)
		return;
	for (i += clear_groups(&words[i], last - i); i < last; i++)
		clear_some(&words[i], ONES);
	clear_some(&words[last], mask_of(bits, last));
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

uint64_t gm_bits_take(uint64_t *words, size_t nr, uint64_t *out)
{
	uint64_t sum = 0;
	size_t i = 0;

	while (i < nr) {
		size_t end;

		i += take_groups(words + i, nr - i, out + i, &sum);
		for (end = nr - i < GROUP ? nr : i + GROUP; i < end; i++) {
			out[i] = gm_bits_take_some(&words[i], ONES);
			sum += count(out[i]);
		}
	}
	return sum;
}

uint64_t gm_bits_copy(const uint64_t *words, const struct gm_range *bits, uint64_t *out)
{
	uint64_t first = bits->first / 64;
	uint64_t sum = 0;

	for (uint64_t i = first; i <= bits->last / 64; i++) {
		out[i - first] = load(&words[i]) & mask_of(bits, i);
		sum += count(out[i - first]);
	}
	return sum;
}

/* @from, which begins in the middle of a word, word by word. */
void gm_bits_merge(uint64_t *words, const struct gm_range *bits, const uint64_t *from)
{
	uint64_t nr = gm_bits_words(gm_range_extent(bits) + 1);
	uint32_t shift = bits->first % 64;
	uint64_t carry = 0;
	uint64_t at = 0;

	for (uint64_t i = bits->first / 64; i <= bits->last / 64; i++, at++) {
		uint64_t word = at < nr ? from[at] : 0;
		uint64_t want = (word << shift | carry) & mask_of(bits, i);

		carry = shift ? word >> (64 - shift) : 0;
		if (want & ~load(&words[i]))
			__atomic_fetch_or(&words[i], want, __ATOMIC_SEQ_CST);
	}
}
