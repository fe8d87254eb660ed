/* SPDX-License-Identifier: BSD-3-Clause */
/* table_list.c - see table_list.h. */
#include "table_list.h"

#include <stdlib.h>

#define TOP UINT64_MAX
#define PARTS_MAX 48000u

/* ---- the oracle ---- */

const struct item *list_find(const struct list *list, uint64_t gpa)
{
	for (size_t i = 0; i < list->nr; i++) {
		if (gpa <= list->items[i].last)
			return &list->items[i];
	}
	return NULL;
}

/* May inline code take all of [gpa, gpa + len) with these permissions? */
static bool is_direct(const struct list *list, uint64_t gpa, uint64_t len, uint32_t perms)
{
	const struct item *item = list_find(list, gpa);
	uint64_t last;

	if (__builtin_add_overflow(gpa, len - 1, &last))
		return false;
	while (item && item < &list->items[list->nr]) {
		if (gpa < item->first || (perms & ~item->direct))
			return false;
		if (last <= item->last)
			return true;
		gpa = item->last + 1;
		item++;
	}
	return false;
}

/* The extent of the largest stretch that inline code may read and write; 0 if there is none. */
static uint64_t largest(const struct list *list)
{
	uint64_t best = 0;
	uint64_t first = 0;

	for (size_t i = 0; i < list->nr; i++) {
		const struct item *item = &list->items[i];
		const struct item *before = i ? item - 1 : NULL;

		if (GM_PERM_RW & ~item->direct)
			continue;
		if (!before || (GM_PERM_RW & ~before->direct) || before->last + 1 != item->first)
			first = item->first;
		if (item->last - first > best)
			best = item->last - first;
	}
	return best;
}

/* ---- questions ---- */

/* It may pass a question on; it must not answer a wrong one. */
static void check_answer(const struct gm_view *view, const struct list *list, uint64_t gpa,
	uint64_t len, uint32_t perms)
{
	void *hva = NULL;

	if (len == 0 || !gm_view_find(view, gpa, len, perms, &hva))
		return;
	check(is_direct(list, gpa, len, perms));
	check((uintptr_t)hva == run.base + gpa);
}

static void check_fast(const struct gm_view *view, const struct list *list, uint64_t gpa)
{
	const struct item *item = list_find(list, gpa);
	uint64_t rest = item && item->first <= gpa ? item->last - gpa : 4;
	const uint64_t lens[] = {1, 2, 8, 9, rest, rest + 1, rest + 2, TOP};

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		for (uint32_t perms = 1; perms < 8; perms++)
			check_answer(view, list, gpa, lens[i], perms);
	}
}

static void check_at(const struct gm_view *view, const struct list *list, uint64_t gpa)
{
	const struct item *item = list_find(list, gpa);
	uint64_t off = TOP;
	const struct gm_span *span = gm_table_next(view, gpa, &off);
	const struct gm_span *found = gm_table_find(view, gpa);
	bool holds = item && item->first <= gpa && !(item->perms & GM_SPAN_HOLE);

	check(!span == !item);
	if (span && item) {
		check(span->first == item->first && span->last == item->last);
		check(off == item->off && span->node == item->node);
		check(span->perms == item->perms && span->direct == item->direct);
		check((span->owner != NULL) == !(item->perms & GM_SPAN_HOLE));
	}
	check(!found == !holds);
	if (found && item)
		check(found->first == item->first && found->last == item->last);
	check_fast(view, list, gpa);
}

static void check_border(const struct gm_view *view, const struct list *list, uint64_t addr)
{
	check_at(view, list, addr - 1);
	check_at(view, list, addr);
	check_at(view, list, addr + 1);
}

void check_some(const struct gm_view *view, const struct list *list, unsigned int nr)
{
	check_border(view, list, 0);
	for (size_t i = 0; i < run.nr_edits; i++) {
		check_border(view, list, run.edits[i].range.first);
		check_border(view, list, run.edits[i].range.last);
	}
	for (unsigned int i = 0; i < nr; i++) {
		check_at(view, list, rng_edge(&run.rng));
		if (list->nr) {
			const struct item *item = &list->items[rng_below(&run.rng, list->nr)];

			check_border(view, list, i % 2 ? item->first : item->last);
			check_at(view, list, item->first + (item->last - item->first) / 2);
		}
	}
}

void check_walk(const struct gm_view_full *view, const struct list *list)
{
	uint64_t gpa = 0;
	uint64_t off;

	check(view->nr_spans == list->nr);
	for (size_t i = 0; i < list->nr; i++) {
		const struct gm_span *span = gm_table_next(&view->pub, gpa, &off);

		check(span && span->first == list->items[i].first);
		if (!span)
			return;
		check(span->last == list->items[i].last && off == list->items[i].off);
		gpa = span->last + 1;
	}
	check(gpa == 0 || list->nr == 0 || !gm_table_next(&view->pub, gpa, &off));
}

/* The hot stretch is at least as large as a piece of an edit that could be it. */
static void check_offered(const struct gm_piece *piece, const struct list *list, uint64_t extent)
{
	const struct item *item = list_find(list, piece->range.first);

	if (item && !(GM_PERM_RW & ~item->direct) && item->last - item->first >= 7)
		check(item->last - item->first <= extent);
}

void check_hot(
	const struct gm_view_full *view, const struct gm_view_full *old, const struct list *list)
{
	uint64_t extent = view->pub.hot_starts ? view->pub.hot_starts + 6 : 0;

	if (extent)
		check(is_direct(list, view->pub.hot_first, extent, GM_PERM_RW) &&
			is_direct(list, view->pub.hot_first + extent, 1, GM_PERM_RW));
	for (size_t i = 0; i < run.nr_edits; i++) {
		for (size_t j = 0; j < run.edits[i].nr; j++)
			check_offered(&run.edits[i].pieces[j], list, extent);
	}
	/* It falls when all was looked at, and then only. */
	if (view->hot_scanned >= old->hot_scanned || largest(list) < 7)
		return;
	check(extent == largest(list));
	run.nr_falls++;
}

/* ---- parts ---- */

struct parts {
	uintptr_t slots[PARTS_MAX];
	size_t nr;
};

static struct parts before, after;

static void collect(struct parts *ret, const uintptr_t *slots, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (slots[i] == gm_slot_empty())
			continue;
		assert_true(ret->nr < PARTS_MAX);
		ret->slots[ret->nr++] = slots[i];
		if (gm_slot_is_dir(slots[i]))
			collect(ret, gm_dir_slots(gm_slot_dir(slots[i])),
				gm_slot_dir(slots[i])->mask + 1);
	}
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a;
	uintptr_t y = *(const uintptr_t *)b;

	return (x > y) - (x < y);
}

static bool has(const struct parts *parts, uintptr_t slot)
{
	return bsearch(&slot, parts->slots, parts->nr, sizeof(slot), by_address);
}

/* The list must be what @with has and @without has not, each once. */
static void check_difference(
	struct gm_parts *list, const struct parts *with, const struct parts *without)
{
	size_t nr = 0;

	if (list->nr)
		qsort(list->slots, list->nr, sizeof(*list->slots), by_address);
	for (size_t i = 0; i < with->nr; i++) {
		if (has(without, with->slots[i]))
			continue;
		check(nr < list->nr && list->slots[nr] == with->slots[i]);
		nr++;
	}
	check(nr == list->nr);
}

void check_parts(const struct gm_view_full *old, struct gm_view_full *view)
{
	before.nr = after.nr = 0;
	collect(&before, old->pub.slots, old->pub.nr_slots);
	collect(&after, view->pub.slots, view->pub.nr_slots);
	qsort(before.slots, before.nr, sizeof(before.slots[0]), by_address);
	qsort(after.slots, after.nr, sizeof(after.slots[0]), by_address);
	check_difference(&view->fresh, &after, &before);
	check_difference(&view->garbage, &before, &after);
}

/* ---- edits ---- */

void list_edit(
	const struct list *old, struct list *new, struct item (*item_of)(const struct gm_piece *))
{
	size_t at = 0;

	new->nr = 0;
	for (size_t i = 0; i <= run.nr_edits; i++) {
		for (; at < old->nr &&
			(i == run.nr_edits || old->items[at].first < run.edits[i].range.first);
			at++)
			new->items[new->nr++] = old->items[at];
		if (i == run.nr_edits)
			return;
		for (size_t j = 0; j < run.edits[i].nr; j++)
			new->items[new->nr++] = item_of(&run.edits[i].pieces[j]);
		while (at < old->nr && old->items[at].first <= run.edits[i].range.last)
			at++;
	}
}
