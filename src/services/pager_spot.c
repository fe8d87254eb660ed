/* SPDX-License-Identifier: BSD-3-Clause */
/* pager_spot.c - where the pages of areas lie: a sorted array without overlaps, cut and moved as mappings are. */
#include <errno.h>
#include <string.h>

#include "services/pager.h"

static uint64_t len_of(const struct pager_spot *spot)
{
	return spot->nr * spot->area->page;
}

/* Number of spots that begin at or below an address. */
static size_t upper(const struct pager_uffd *u, uint64_t addr)
{
	size_t low = 0;
	size_t high = u->nr_spots;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (u->spots[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct pager_spot *gm_pager_spot_at(struct pager_uffd *u, uint64_t addr)
{
	size_t at = upper(u, addr);
	struct pager_spot *spot;

	if (at == 0)
		return NULL;
	spot = &u->spots[at - 1];
	return addr - spot->start < len_of(spot) ? spot : NULL;
}

static bool holds(const struct pager_spot *spot, const struct pager_area *area, uint64_t page)
{
	return spot->area == area && page >= spot->first && page - spot->first < spot->nr;
}

bool gm_pager_spot_of(struct pager_uffd *u, const struct pager_area *area, uint64_t page,
	uint64_t *ret_addr, uint64_t *ret_nr)
{
	/* Nearly always it lies where it was added. */
	struct pager_spot *spot = gm_pager_spot_at(u, area->addr + page * area->page);

	if (!spot || !holds(spot, area, page)) {
		spot = NULL;
		for (size_t i = 0; i < u->nr_spots && !spot; i++) {
			if (holds(&u->spots[i], area, page))
				spot = &u->spots[i];
		}
	}
	if (!spot)
		return false;
	*ret_addr = spot->start + (page - spot->first) * area->page;
	*ret_nr = spot->nr - (page - spot->first);
	return true;
}

static int make_room(struct pager_uffd *u)
{
	size_t room = u->room ? 2 * u->room : 4;
	struct pager_spot *spots;

	if (u->nr_spots < u->room)
		return 0;
	spots = gm_sys_realloc(u->spots, room, sizeof(*spots));
	if (!spots)
		return -ENOMEM;
	u->spots = spots;
	u->room = room;
	return 0;
}

int gm_pager_spot_add(struct pager_uffd *u, const struct pager_spot *spot)
{
	size_t at = upper(u, spot->start);
	int rc;

	if (gm_pager_spot_at(u, spot->start) ||
		(at < u->nr_spots && u->spots[at].start - spot->start < len_of(spot)))
		return -EEXIST;
	rc = make_room(u);
	if (rc)
		return rc;
	memmove(&u->spots[at + 1], &u->spots[at], (u->nr_spots - at) * sizeof(*spot));
	u->spots[at] = *spot;
	u->nr_spots++;
	return 0;
}

/* Cuts the spot that an address lies in, so that one begins there. */
static int split(struct pager_uffd *u, uint64_t at)
{
	struct pager_spot *spot = gm_pager_spot_at(u, at);
	struct pager_spot rest;
	uint64_t nr;

	if (!spot || spot->start == at)
		return 0;
	nr = (at - spot->start) / spot->area->page;
	if (nr == 0)
		return 0;
	rest = *spot;
	rest.start += nr * rest.area->page;
	rest.first += nr;
	rest.nr -= nr;
	if (make_room(u))
		return -ENOMEM;
	spot = gm_pager_spot_at(u, at);
	spot->nr = nr;
	return gm_pager_spot_add(u, &rest);
}

int gm_pager_spot_cut(struct pager_uffd *u, uint64_t start, uint64_t len)
{
	int rc = split(u, start);
	size_t kept = 0;

	if (!rc)
		rc = split(u, start + len);
	if (rc)
		return rc;
	for (size_t i = 0; i < u->nr_spots; i++) {
		if (u->spots[i].start - start >= len)
			u->spots[kept++] = u->spots[i];
	}
	u->nr_spots = kept;
	return 0;
}

int gm_pager_spot_move(struct pager_uffd *u, uint64_t from, uint64_t to, uint64_t len)
{
	struct pager_spot spot;
	int rc = split(u, from);

	if (!rc)
		rc = split(u, from + len);
	if (!rc && to - from >= len && from - to >= len)
		rc = gm_pager_spot_cut(u, to, len);
	while (!rc) {
		size_t i = 0;

		while (i < u->nr_spots && u->spots[i].start - from >= len)
			i++;
		if (i == u->nr_spots)
			break;
		spot = u->spots[i];
		memmove(&u->spots[i], &u->spots[i + 1], (u->nr_spots - i - 1) * sizeof(spot));
		u->nr_spots--;
		spot.start = to + (spot.start - from);
		/* There is room: one has just gone. */
		rc = gm_pager_spot_add(u, &spot);
	}
	return rc;
}
