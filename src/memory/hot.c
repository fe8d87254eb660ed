/* SPDX-License-Identifier: BSD-3-Clause */
/* hot.c - see hot.h. */
#include "memory/hot.h"

static struct gm_range range_of(const struct gm_span *span)
{
	return (struct gm_range){.first = span->first, .last = span->last};
}

struct stretch {
	struct gm_range range;
	bool any;
};

static void offer(struct stretch *best, const struct stretch *run)
{
	if (run->any &&
		(!best->any || gm_range_extent(&run->range) > gm_range_extent(&best->range)))
		*best = *run;
}

/* The runs of direct memory from the one at or above @from up to @until. */
static void scan_runs(
	const struct gm_view *view, uint64_t from, uint64_t until, struct stretch *best)
{
	uint64_t off;
	const struct gm_span *span = gm_table_next(view, from, &off);
	struct stretch run = {.any = false};

	while (span && span->first <= until) {
		struct gm_range range = range_of(span);

		if (GM_PERM_RW & ~span->direct) {
			run.any = false;
		} else if (run.any && gm_range_precedes(&run.range, &range)) {
			run.range.last = range.last;
		} else {
			run = (struct stretch){range, true};
		}
		offer(best, &run);
		span = gm_table_after(view, span, &off);
	}
}

/* What the edits leave of the old best stretch. */
static struct stretch rest_of_hot(const struct gm_view *old, const struct gm_edit *edits, size_t nr)
{
	struct stretch best = {.any = false};
	struct gm_range rest;

	if (old->hot_starts == 0)
		return best;
	rest = (struct gm_range){old->hot_first, old->hot_first + (old->hot_starts + 6)};
	for (size_t i = 0; i < nr; i++) {
		const struct gm_range *cut = &edits[i].range;

		if (!gm_range_overlaps(cut, &rest))
			continue;
		if (cut->first > rest.first)
			offer(&best, &(struct stretch){{rest.first, cut->first - 1}, true});
		if (cut->last >= rest.last)
			return best;
		rest.first = cut->last + 1;
	}
	offer(&best, &(struct stretch){rest, true});
	return best;
}

/* With what was best before at its side, a new stretch becomes longer. */
static void join(struct stretch *run, const struct stretch *other)
{
	if (!run->any || !other->any)
		return;
	if (gm_range_precedes(&run->range, &other->range))
		run->range.last = other->range.last;
	else if (gm_range_precedes(&other->range, &run->range))
		run->range.first = other->range.first;
}

void gm_hot_pick(struct gm_view_full *view, const struct gm_view_full *old,
	const struct gm_edit *edits, size_t nr)
{
	struct stretch best = rest_of_hot(&old->pub, edits, nr);

	for (size_t i = 0; i < nr; i++) {
		struct stretch run = {.any = false};

		scan_runs(&view->pub, edits[i].range.first, edits[i].range.last, &run);
		join(&run, &best);
		offer(&best, &run);
	}
	view->hot_scanned = old->hot_scanned;
	if ((best.any ? gm_range_extent(&best.range) : 0) < old->hot_scanned / 2) {
		scan_runs(&view->pub, 0, UINT64_MAX, &best);
		view->hot_scanned = best.any ? gm_range_extent(&best.range) : 0;
	}
	if (!best.any)
		return;
	if (gm_range_extent(&best.range) > view->hot_scanned)
		view->hot_scanned = gm_range_extent(&best.range);
	view->pub.hot_first = best.range.first;
	/* extent + 1 bytes, of which the last 7 cannot begin an access of 8. */
	if (gm_range_extent(&best.range) >= 7)
		view->pub.hot_starts = gm_range_extent(&best.range) - 6;
}
