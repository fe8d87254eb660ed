/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shares.c - see shares.h.
 *
 * In each round what is left is cut in proportion among those that are open. If more is missing below minima than is
 * over above maxima, those below are settled at their minimum, else those above at their maximum, and the rest is
 * cut again. Each round settles one at least.
 */
#include "core/shares.h"

#include "core/range.h"

static uint64_t proportion(uint64_t left, uint64_t shares, uint64_t sum, uint64_t unit)
{
	__extension__ typedef unsigned __int128 wide;
	uint64_t part = (uint64_t)((wide)left * shares / sum);

	return part - part % unit;
}

struct round {
	uint64_t left;
	uint64_t shares;
	uint64_t missing; /* below minima */
	uint64_t over;    /* above maxima */
};

static struct round look(struct gm_share *items, size_t nr, uint64_t total, uint64_t unit)
{
	struct round r = {.left = total};

	for (size_t i = 0; i < nr; i++) {
		if (items[i].done)
			r.left -= items[i].part;
		else
			r.shares += items[i].shares;
	}
	for (size_t i = 0; i < nr; i++) {
		struct gm_share *item = &items[i];

		if (item->done)
			continue;
		item->part = proportion(r.left, item->shares, r.shares, unit);
		if (item->part < item->min)
			r.missing += item->min - item->part;
		else if (item->part > item->max)
			r.over += item->part - item->max;
	}
	return r;
}

static void settle(struct gm_share *items, size_t nr, bool low)
{
	for (size_t i = 0; i < nr; i++) {
		struct gm_share *item = &items[i];

		if (item->done || (low ? item->part >= item->min : item->part <= item->max))
			continue;
		item->part = low ? item->min : item->max;
		item->done = true;
	}
}

bool gm_shares_cut(struct gm_share *items, size_t nr, uint64_t total, uint64_t unit)
{
	uint64_t left = total;

	for (size_t i = 0; i < nr; i++) {
		items[i].part = items[i].min;
		items[i].done = false;
	}
	for (size_t i = 0; i < nr; i++) {
		if (items[i].min > left)
			return false;
		left -= items[i].min;
	}
	for (size_t i = 0; i <= nr; i++) {
		struct round r = look(items, nr, total, unit);

		if (r.missing == 0 && r.over == 0)
			break;
		settle(items, nr, r.missing >= r.over);
	}
	return true;
}
