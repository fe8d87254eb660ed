/* SPDX-License-Identifier: BSD-3-Clause */
/* rangeset.c - sets of ranges in a sorted array. */
#include "core/rangeset.h"

#include <string.h>

size_t gm_rangeset_find(const struct gm_rangeset *set, uint64_t addr)
{
	size_t lo = 0;
	size_t hi = set->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (set->ranges[mid].last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool gm_rangeset_contains(const struct gm_rangeset *set, const struct gm_range *r)
{
	size_t i = gm_rangeset_find(set, r->first);

	return i < set->nr && gm_range_contains(&set->ranges[i], r);
}

bool gm_rangeset_overlaps(const struct gm_rangeset *set, const struct gm_range *r)
{
	size_t i = gm_rangeset_find(set, r->first);

	return i < set->nr && gm_range_overlaps(&set->ranges[i], r);
}

/* Puts @nr_new ranges in the place of those in [at, end). */
static void splice(
	struct gm_rangeset *set, size_t at, size_t end, const struct gm_range *new, size_t nr_new)
{
	memmove(set->ranges + at + nr_new, set->ranges + end,
		(set->nr - end) * sizeof(*set->ranges));
	for (size_t i = 0; i < nr_new; i++)
		set->ranges[at + i] = new[i];
	set->nr = set->nr - (end - at) + nr_new;
}

bool gm_rangeset_add(struct gm_rangeset *set, const struct gm_range *r)
{
	struct gm_range sum = *r;
	/* Ranges that touch are merged, so look one byte further on both sides. */
	size_t at = gm_rangeset_find(set, r->first ? r->first - 1 : 0);
	size_t end = at;

	while (end < set->nr && (gm_range_overlaps(&set->ranges[end], &sum) ||
					gm_range_precedes(&set->ranges[end], &sum) ||
					gm_range_precedes(&sum, &set->ranges[end]))) {
		if (set->ranges[end].first < sum.first)
			sum.first = set->ranges[end].first;
		if (set->ranges[end].last > sum.last)
			sum.last = set->ranges[end].last;
		end++;
	}
	if (end == at && set->nr == set->cap)
		return false;
	splice(set, at, end, &sum, 1);
	return true;
}

bool gm_rangeset_remove(struct gm_rangeset *set, const struct gm_range *r)
{
	struct gm_range rest[2];
	size_t nr_rest = 0;
	size_t at = gm_rangeset_find(set, r->first);
	size_t end = at;

	while (end < set->nr && gm_range_overlaps(&set->ranges[end], r))
		end++;
	if (end == at)
		return true;
	if (set->ranges[at].first < r->first)
		rest[nr_rest++] = (struct gm_range){set->ranges[at].first, r->first - 1};
	if (set->ranges[end - 1].last > r->last)
		rest[nr_rest++] = (struct gm_range){r->last + 1, set->ranges[end - 1].last};
	if (set->nr - (end - at) + nr_rest > set->cap)
		return false;
	splice(set, at, end, rest, nr_rest);
	return true;
}

bool gm_rangeset_is_valid(const struct gm_rangeset *set)
{
	if (set->nr > set->cap)
		return false;
	for (size_t i = 0; i < set->nr; i++) {
		if (!gm_range_is_valid(&set->ranges[i]))
			return false;
		if (i > 0 && (set->ranges[i].first <= set->ranges[i - 1].last ||
				     gm_range_precedes(&set->ranges[i - 1], &set->ranges[i])))
			return false;
	}
	return true;
}
