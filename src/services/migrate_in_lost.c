/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_in_lost.c - pages that never come: poisoned, named, told.
 *
 * The pager has large pages whole or not at all, the machine counts by 4 KiB. So what came of a large page is lost with
 * the rest of it, and each of its pages is named: nobody finds poison where none was told.
 */
#include <errno.h>

#include <guestmem/pager_run.h>

#include "services/migrate_in.h"
#include "services/pager.h"

static void name(struct gm_migrate_in *in, const struct gm_range *bits)
{
	struct gm_migrate_place place = gm_migrate_map_place(&in->map, bits);
	const struct gm_migrate_event event = {.tell = GM_MIGRATE_TOLD_PAGES,
		.rc = -EIO,
		.gpa = in->map.regions[place.region].gpa + (place.first << GM_MIGRATE_PAGE_LOG2),
		.len = (uint64_t)place.nr << GM_MIGRATE_PAGE_LOG2,
		.why = ""};

	in->stats.lost += event.len;
	gm_migrate_in_tell(in, &event);
}

static bool is_set(const uint64_t *words, uint64_t bit)
{
	return gm_bits_all(words, &(struct gm_range){bit, bit});
}

/* Pages that count as here, and are not lost: of a large page that is. */
static void spoil(struct gm_migrate_in *in, const struct gm_range *whole)
{
	const struct gm_migrate_destination *d = &in->machine;
	struct gm_range run;

	for (uint64_t at = whole->first; at <= whole->last; at = run.last + 1) {
		bool good = is_set(d->have, at) && !is_set(d->lost, at);

		run = (struct gm_range){at, at};
		while (good && run.last < whole->last && is_set(d->have, run.last + 1) &&
			!is_set(d->lost, run.last + 1))
			run.last++;
		if (!good)
			continue;
		gm_migrate_destination_spoil(&in->machine, &run);
		name(in, &run);
	}
}

bool gm_migrate_in_spoiled(
	struct gm_migrate_in *in, const struct gm_range *whole, uint64_t first, uint64_t nr)
{
	struct gm_range bits = {first, first + nr - 1};

	if (!gm_bits_next(in->machine.lost, whole->first, whole->last, &(struct gm_range){0, 0}))
		return false;
	gm_migrate_destination_spoil(&in->machine, &bits);
	name(in, &bits);
	return true;
}

void gm_migrate_in_lose(struct gm_migrate_in *in, const struct gm_migrate_place *place)
{
	struct gm_range bits;

	if (!gm_migrate_map_bits(&in->map, place, &bits))
		return;
	for (uint64_t bit = bits.first; bit <= bits.last && in->pager;) {
		const struct in_area *area = gm_migrate_in_area(in, bit);
		uint64_t pages = area->page >> GM_MIGRATE_PAGE_LOG2;
		uint64_t first = gm_align_down(bit - area->first, pages);
		uint64_t end = bits.last - area->first + 1;

		(void)gm_align_up(end, pages, &end);
		if (end > area->nr)
			end = area->nr;
		(void)gm_pager_lose(in->pager, area->id, first << GM_MIGRATE_PAGE_LOG2,
			(end - first) << GM_MIGRATE_PAGE_LOG2);
		if (pages > 1)
			spoil(in, &(struct gm_range){area->first + first, area->first + end - 1});
		bit = area->first + end;
	}
	name(in, &bits);
}

/* To whole pages of the pager. */
static void widen(struct gm_migrate_in *in, const struct in_area *area)
{
	uint64_t pages = area->page >> GM_MIGRATE_PAGE_LOG2;
	uint64_t last = area->first + area->nr - 1;
	struct gm_range run;

	for (uint64_t at = area->first;
		at <= last && gm_bits_next(in->machine.lost, at, last, &run); at = run.last + 1) {
		run.first = area->first + gm_align_down(run.first - area->first, pages);
		run.last = area->first + gm_align_down(run.last - area->first, pages) + pages - 1;
		gm_migrate_destination_spoil(&in->machine, &run);
	}
}

void gm_migrate_in_lose_all(struct gm_migrate_in *in)
{
	struct gm_range run;

	for (size_t i = 0; i < in->nr_areas; i++)
		widen(in, &in->areas[i]);
	for (uint64_t at = 0; gm_bits_next(in->machine.lost, at, in->map.pages - 1, &run);
		at = run.last + 1) {
		struct gm_range rest = run;
		struct gm_migrate_place place;
		bool more;

		do {
			more = gm_migrate_map_cut(&in->map, &rest, UINT32_MAX, &place);
			gm_migrate_in_lose(in, &place);
		} while (more);
		if (run.last == in->map.pages - 1)
			break;
	}
}

bool gm_migrate_in_refused(
	struct gm_migrate_in *in, const struct in_area *area, const struct gm_range *bits)
{
	const struct pager_area *of = gm_pager_find(in->pager, area->id);
	uint64_t pages = area->page >> GM_MIGRATE_PAGE_LOG2;
	uint64_t first = (bits->first - area->first) / pages;
	uint64_t nr = gm_range_len(bits) / pages;

	return of && gm_pagestate_find(of->states, first, nr, GM_PAGE_ABSENT) < nr;
}

/* False: some of it is still to come, or to be given up, and is named then. */
static bool name_in(struct gm_migrate_in *in, const struct in_area *area)
{
	const struct pager_area *of = gm_pager_find(in->pager, area->id);
	uint64_t pages = area->page >> GM_MIGRATE_PAGE_LOG2;
	uint64_t nr = of ? of->nr : 0;
	bool all = true;

	for (uint64_t at = 0; at < nr; at++) {
		struct gm_range whole;

		at += gm_pagestate_find(of->states, at, nr - at, GM_PAGE_POISONED);
		if (at == nr)
			break;
		whole.first = area->first + at * pages;
		whole.last = whole.first + pages - 1;
		spoil(in, &whole);
		all &= gm_bits_all(in->machine.have, &whole);
	}
	return all;
}

void gm_migrate_in_name_poisoned(struct gm_migrate_in *in)
{
	bool all = true;

	if (!in->pager || !__atomic_exchange_n(&in->poisoned, false, __ATOMIC_RELAXED))
		return;
	for (size_t i = 0; i < in->nr_areas; i++)
		all &= name_in(in, &in->areas[i]);
	if (!all)
		__atomic_store_n(&in->poisoned, true, __ATOMIC_RELAXED);
}
