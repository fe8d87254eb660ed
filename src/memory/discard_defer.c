/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard_defer.c - parts of huge pages that were given up, until the rest of the page is.
 *
 * A table by address with linear probing, of which at most half the slots are used; a bitmap of
 * 4 KiB pages for each. What is taken out leaves no gap in front of what was put behind it.
 */
#include <errno.h>
#include <pthread.h>

#include "core/bits.h"
#include "core/error.h"
#include "memory/discard.h"
#include "sys/sys.h"

#define PAGE_SHIFT 12
#define UNIT_MAX (UINT64_C(1) << 30)
#define FREE UINT64_MAX /* no huge page begins there */

struct slot {
	uint64_t gpa;
	uint64_t count; /* of bits */
};

struct gm_defer {
	pthread_mutex_t lock;
	uint64_t unit;
	uint64_t pages; /* of a unit */
	uint32_t max;
	uint32_t nr;
	uint32_t mask;
	struct slot *slots;
	uint64_t *words;
};

static uint64_t *words_of(const struct gm_defer *defer, uint32_t i)
{
	return defer->words + i * gm_bits_words(defer->pages);
}

int gm_defer_create(uint64_t unit, uint32_t blocks, struct gm_defer **ret, struct gm_error *err)
{
	struct gm_defer *defer;
	uint32_t cap = 2;

	if (!gm_is_pow2(unit) || unit < 2u << PAGE_SHIFT || unit > UNIT_MAX || blocks == 0 ||
		blocks > 1u << 24)
		return gm_error_set(err, -EINVAL, 0, 0,
			"defer: huge pages of 8 KiB to 1 GiB, a power of two, and 1 to 2^24 of "
			"them");
	while (cap < 2 * blocks)
		cap *= 2;
	defer = gm_sys_alloc(sizeof(*defer));
	if (!defer)
		return gm_error_set(err, -ENOMEM, 0, 0, "defer: out of memory");
	defer->unit = unit;
	defer->pages = unit >> PAGE_SHIFT;
	defer->max = blocks;
	defer->mask = cap - 1;
	defer->slots = gm_sys_alloc_array(cap, sizeof(*defer->slots));
	defer->words = gm_sys_alloc_array(cap, gm_bits_words(defer->pages) * sizeof(uint64_t));
	if (!defer->slots || !defer->words) {
		gm_sys_free(defer->slots);
		gm_sys_free(defer->words);
		gm_sys_free(defer);
		return gm_error_set(err, -ENOMEM, 0, 0, "defer: out of memory");
	}
	for (uint32_t i = 0; i < cap; i++)
		defer->slots[i].gpa = FREE;
	pthread_mutex_init(&defer->lock, NULL);
	*ret = defer;
	return 0;
}

void gm_defer_destroy(struct gm_defer *defer)
{
	if (!defer)
		return;
	pthread_mutex_destroy(&defer->lock);
	gm_sys_free(defer->slots);
	gm_sys_free(defer->words);
	gm_sys_free(defer);
}

uint64_t gm_defer_unit(const struct gm_defer *defer)
{
	return defer->unit;
}

void gm_defer_lock(struct gm_defer *defer)
{
	pthread_mutex_lock(&defer->lock);
}

void gm_defer_unlock(struct gm_defer *defer)
{
	pthread_mutex_unlock(&defer->lock);
}

/* ---- the table, with the lock ---- */

static uint32_t home_of(const struct gm_defer *defer, uint64_t gpa)
{
	return (uint32_t)((gpa >> PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 32) & defer->mask;
}

/* Its slot, or the free one where it would be. */
static uint32_t find(const struct gm_defer *defer, uint64_t gpa)
{
	uint32_t i = home_of(defer, gpa);

	while (defer->slots[i].gpa != gpa && defer->slots[i].gpa != FREE)
		i = (i + 1) & defer->mask;
	return i;
}

static void copy_words(struct gm_defer *defer, uint32_t to, uint32_t from)
{
	for (uint64_t i = 0; i < gm_bits_words(defer->pages); i++)
		words_of(defer, to)[i] = words_of(defer, from)[i];
}

static void drop(struct gm_defer *defer, uint32_t hole)
{
	struct gm_range all = {0, defer->pages - 1};

	for (uint32_t i = (hole + 1) & defer->mask; defer->slots[i].gpa != FREE;
		i = (i + 1) & defer->mask) {
		uint32_t home = home_of(defer, defer->slots[i].gpa);

		/* May it stand in the hole? Not if its home lies behind that. */
		if (((i - home) & defer->mask) < ((i - hole) & defer->mask))
			continue;
		defer->slots[hole] = defer->slots[i];
		copy_words(defer, hole, i);
		hole = i;
	}
	defer->slots[hole] = (struct slot){.gpa = FREE};
	gm_bits_clear(words_of(defer, hole), &all);
	defer->nr--;
}

bool gm_defer_add(
	struct gm_defer *defer, uint64_t unit_gpa, const struct gm_range *part, bool *ret_full)
{
	struct gm_range bits = {
		(part->first - unit_gpa) >> PAGE_SHIFT, (part->last - unit_gpa) >> PAGE_SHIFT};
	uint32_t i = find(defer, unit_gpa);
	struct slot *slot = &defer->slots[i];

	if (slot->gpa == FREE && defer->nr == defer->max)
		return false;
	if (slot->gpa == FREE) {
		slot->gpa = unit_gpa;
		defer->nr++;
	}
	slot->count += gm_range_len(&bits) - gm_bits_count(words_of(defer, i), &bits);
	gm_bits_set(words_of(defer, i), &bits);
	*ret_full = slot->count == defer->pages;
	if (*ret_full)
		drop(defer, i);
	return true;
}

/* Pages of a slot in a range are forgotten; true if the slot has gone. */
static bool forget_in(
	struct gm_defer *defer, uint32_t i, const struct gm_range *range, uint64_t *pages)
{
	struct slot *slot = &defer->slots[i];
	struct gm_range unit = {slot->gpa, slot->gpa + (defer->unit - 1)};
	struct gm_range common;
	uint64_t nr;

	if (slot->gpa == FREE || !gm_range_intersect(&unit, range, &common))
		return false;
	/* A page that is touched is in use. */
	common.first = (common.first - slot->gpa) >> PAGE_SHIFT;
	common.last = (common.last - slot->gpa) >> PAGE_SHIFT;
	nr = gm_bits_count(words_of(defer, i), &common);
	gm_bits_clear(words_of(defer, i), &common);
	slot->count -= nr;
	*pages += nr;
	if (slot->count)
		return false;
	drop(defer, i);
	return true;
}

uint64_t gm_defer_drop(struct gm_defer *defer, const struct gm_range *range)
{
	struct gm_range units;
	uint64_t pages = 0;

	if (defer->nr == 0)
		return 0;
	gm_range_align_out(range, defer->unit, &units);
	if (gm_range_extent(&units) / defer->unit < defer->mask) {
		for (uint64_t gpa = units.first;; gpa += defer->unit) {
			forget_in(defer, find(defer, gpa), range, &pages);
			if (units.last - gpa < defer->unit)
				break;
		}
	} else {
		/* What moves into a slot that goes is looked at there, or was before. */
		for (uint32_t i = 0; i <= defer->mask;)
			i += !forget_in(defer, i, range, &pages);
	}
	return pages << PAGE_SHIFT;
}

uint64_t gm_defer_forget(struct gm_defer *defer, uint64_t gpa, uint64_t len)
{
	struct gm_range range = {gpa, UINT64_MAX};
	uint64_t bytes;

	/* What would wrap goes to the end. */
	if (len && len - 1 <= UINT64_MAX - gpa)
		range.last = gpa + (len - 1);
	gm_defer_lock(defer);
	bytes = gm_defer_drop(defer, &range);
	gm_defer_unlock(defer);
	return bytes;
}
