/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iotlb_quick.h - the table that readers of an IOTLB look into without a lock.
 *
 * It holds copies of mappings in lines of 64 bytes, two a line. A mapping whose length has its
 * highest bit at 2^c is of class c and covers one to three granules of 2^c bytes. For each granule
 * there is one copy, in one of two lines that a hash of (c, number of the granule) names. So a
 * look-up asks one or two lines for each class that is present, the widest class first: its few
 * lines are in the nearest cache, so a wrong guess of the processor is found out soon.
 *
 * A line is guarded by a sequence number, odd while the one writer changes it. The orders make this
 * right without a fence: each field is stored with release after the odd number and loaded with
 * acquire before the number is read again. Whoever sees a new field therefore sees the odd number
 * or a later one, and drops what it has read.
 *
 * A copy that finds no place is left out. So "not here" means "ask the tree", never "not mapped".
 */
#ifndef GM_CORE_IOTLB_QUICK_H
#define GM_CORE_IOTLB_QUICK_H

#include "core/itree.h"

#define GM_QUICK_CLASSES 64u
#define GM_QUICK_WAYS 2u
/* Of a tag; the lowest two bits are permissions, the next two the number of the copy. */
#define GM_QUICK_PERMS 0x03u
#define GM_QUICK_USED 0x80u

/* An empty place is [2^64 - 1, 0], which holds nothing. */
struct gm_quick_slot {
	uint64_t first;
	uint64_t last;
	uint64_t delta;
};

struct gm_quick_line {
	uint32_t seq; /* odd while it is changed */
	uint8_t away; /* copies whose first line this is and that lie in their second; 255 sticks */
	uint8_t refs; /* bit n: a reader has hit way n; the one thing that readers write */
	uint8_t tag[GM_QUICK_WAYS];
	uint64_t stamp; /* with another one than the table's the line is empty */
	struct gm_quick_slot slot[GM_QUICK_WAYS];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct gm_quick_line) == 64, "a line of the cache");

struct gm_quick {
	struct gm_quick_line *lines;
	uint64_t seed;
	uint64_t stamp;
	uint64_t classes; /* bit c: there are mappings of class c */
	uint32_t nr_lines;
	/* The writer's, in lines that readers do not read. */
	uint32_t nr_class[GM_QUICK_CLASSES] __attribute__((aligned(64)));
	uint64_t nr_left_out;
};

enum gm_quick_answer {
	GM_QUICK_MISS = 0,
	GM_QUICK_ELSEWHERE = 1, /* perhaps in the other line */
	GM_QUICK_HIT = 2,
};

/* Lines that a table for so many mappings has. */
uint64_t gm_quick_room(uint32_t nr_mappings);

void gm_quick_init(
	struct gm_quick *quick, struct gm_quick_line *lines, uint32_t nr_lines, uint64_t seed);

/* Makes all copies stale, in constant time. Threads (this and below): the writer. */
void gm_quick_flush(struct gm_quick *quick);
void gm_quick_add(struct gm_quick *quick, const struct gm_translation *mapping);
void gm_quick_remove(struct gm_quick *quick, const struct gm_translation *mapping);

/* Puts copies that had been left out in again. */
void gm_quick_refill(struct gm_quick *quick, const struct gm_translation *mapping);

/* True if a reader has hit a copy since this was last asked. */
bool gm_quick_take_reference(struct gm_quick *quick, const struct gm_translation *mapping);

/* For walkers: adds the copies of @mapping that are there and those that are not to the sums. False
 * if one is wrong. */
bool gm_quick_count(const struct gm_quick *quick, const struct gm_translation *mapping,
	uint64_t *here, uint64_t *left_out);

/* So many copies are there, so many left out, and each line says the truth of itself. */
bool gm_quick_is_valid(const struct gm_quick *quick, uint64_t here, uint64_t left_out);

/* ---- the readers' side ---- */

static inline uint64_t gm_quick_hash(
	const struct gm_quick *quick, uint64_t granule, unsigned int class)
{
	uint64_t x = (granule ^ quick->seed) + class * UINT64_C(0xd6e8feb86659fd93);

	x ^= x >> 32;
	return x * UINT64_C(0x9e3779b97f4a7c15);
}

static inline uint32_t gm_quick_scale(uint64_t hash, uint32_t nr)
{
	return (uint32_t)(((hash >> 32) * nr) >> 32);
}

static inline uint32_t gm_quick_first_line(const struct gm_quick *quick, uint64_t hash)
{
	return gm_quick_scale(hash, quick->nr_lines);
}

/* Never the first one. */
static inline uint32_t gm_quick_second_line(const struct gm_quick *quick, uint64_t hash)
{
	uint32_t first = gm_quick_first_line(quick, hash);
	uint32_t step = gm_quick_scale(
		(hash ^ hash >> 29) * UINT64_C(0xbf58476d1ce4e5b9), quick->nr_lines - 1);

	/* first + 1 + step, modulo the number of lines */
	return step < quick->nr_lines - 1 - first ? first + 1 + step
						  : step - (quick->nr_lines - 1 - first);
}

/* Not on the way to the answer; written only by the first hit after the clock has passed. */
static inline void gm_quick_refer(struct gm_quick_line *line, unsigned int way)
{
	uint8_t refs = __atomic_load_n(&line->refs, __ATOMIC_RELAXED);
	uint8_t bit = (uint8_t)(1u << way);

	if (__builtin_expect(!(refs & bit), 0))
		__atomic_store_n(&line->refs, refs | bit, __ATOMIC_RELAXED);
}

/* Pairs, as all loads with acquire below, with the stores between open_line() and close_line(). */
static inline unsigned int gm_quick_holds(const struct gm_quick_slot *slot, uint64_t addr)
{
	unsigned int above = addr >= __atomic_load_n(&slot->first, __ATOMIC_ACQUIRE);
	unsigned int below = addr <= __atomic_load_n(&slot->last, __ATOMIC_ACQUIRE);

	return above & below;
}

/* One line. Both ways are compared without a branch: which one it is cannot be foretold. */
static inline enum gm_quick_answer gm_quick_probe(
	struct gm_quick_line *line, uint64_t stamp, uint64_t addr, struct gm_translation *ret)
{
	/* Pairs with the release in close_line(). */
	uint32_t seq = __atomic_load_n(&line->seq, __ATOMIC_ACQUIRE);
	unsigned int fresh = __atomic_load_n(&line->stamp, __ATOMIC_ACQUIRE) == stamp;
	uint8_t away = __atomic_load_n(&line->away, __ATOMIC_ACQUIRE);
	unsigned int in_first = gm_quick_holds(&line->slot[0], addr);
	unsigned int way = gm_quick_holds(&line->slot[1], addr);

	if (!(fresh & (in_first | way)))
		return (fresh & (away != 0)) ? GM_QUICK_ELSEWHERE : GM_QUICK_MISS;
	ret->first = __atomic_load_n(&line->slot[way].first, __ATOMIC_ACQUIRE);
	ret->last = __atomic_load_n(&line->slot[way].last, __ATOMIC_ACQUIRE);
	ret->delta = __atomic_load_n(&line->slot[way].delta, __ATOMIC_ACQUIRE);
	ret->perms = __atomic_load_n(&line->tag[way], __ATOMIC_ACQUIRE) & GM_QUICK_PERMS;
	if ((seq & 1) || __atomic_load_n(&line->seq, __ATOMIC_RELAXED) != seq)
		return GM_QUICK_MISS;
	gm_quick_refer(line, way);
	return GM_QUICK_HIT;
}

static inline struct gm_quick_line *gm_quick_line_of(
	struct gm_quick *quick, uint64_t addr, unsigned int class)
{
	return &quick->lines[gm_quick_first_line(
		quick, gm_quick_hash(quick, addr >> class, class))];
}

static inline unsigned int gm_quick_top_class(uint64_t classes)
{
	return 63u - (unsigned int)__builtin_clzll(classes);
}

/* As gm_quick_find(), in the second lines as well. */
bool gm_quick_find_away(struct gm_quick *quick, uint64_t addr, struct gm_translation *ret);

/* The mapping that holds @addr, whole; false if it is not here. Threads: any. */
static inline bool gm_quick_find(struct gm_quick *quick, uint64_t addr, struct gm_translation *ret)
{
	/* Pairs with the release in gm_quick_flush(). */
	uint64_t stamp = __atomic_load_n(&quick->stamp, __ATOMIC_ACQUIRE);
	uint64_t classes = __atomic_load_n(&quick->classes, __ATOMIC_RELAXED);
	unsigned int elsewhere = 0;

	while (classes) {
		unsigned int class = gm_quick_top_class(classes);
		struct gm_quick_line *line = gm_quick_line_of(quick, addr, class);
		enum gm_quick_answer answer = gm_quick_probe(line, stamp, addr, ret);

		if (answer == GM_QUICK_HIT)
			return true;
		elsewhere |= answer;
		classes ^= UINT64_C(1) << class;
	}
	return elsewhere && gm_quick_find_away(quick, addr, ret);
}

#endif
