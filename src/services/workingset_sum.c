/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workingset_sum.c - estimates with their bounds, and bins.
 *
 * The bounds are Wilson's of 95 % with the correction for whole numbers, and with that for a population that is not
 * infinite: a whole sample has none.
 * Strata make the sample better than the random one that the formula is for, so the bounds are wide rather than narrow.
 */
#include "core/root.h"
#include "services/workingset.h"

void gm_workingset_bounds(uint64_t samples, uint64_t touched, uint64_t population, double ret[2])
{
	double n = (double)samples;
	double p = samples ? (double)touched / n : 0;
	double below;
	double both;

	ret[0] = 0;
	ret[1] = 1;
	if (samples == 0)
		return;
	if (samples >= population) {
		ret[0] = ret[1] = p;
		return;
	}
	n *= (double)(population - 1) / (double)(population - samples);
	below = 2 * (n + GM_Z95 * GM_Z95);
	both = GM_Z95 * GM_Z95 - 1 / n + 4 * n * p * (1 - p);
	if (touched > 0)
		ret[0] = (2 * n * p + GM_Z95 * GM_Z95 - GM_Z95 * gm_root(both + 4 * p - 2) - 1) /
			 below;
	if (touched < samples)
		ret[1] = (2 * n * p + GM_Z95 * GM_Z95 + GM_Z95 * gm_root(both - 4 * p + 2) + 1) /
			 below;
	ret[0] = ret[0] > 0 ? ret[0] : 0;
	ret[1] = ret[1] < 1 ? ret[1] : 1;
}

/* Samples of one sort of pages. */
struct tally {
	uint64_t samples;
	uint64_t touched;
	uint64_t bytes;  /* estimate */
	uint64_t looked; /* bytes */
	uint64_t units;
};

static void tally_area(struct tally *t, const struct gm_area *a)
{
	if (a->reason || gm_area_is_gone(a))
		return;
	t->samples += a->samples;
	t->touched += a->touched;
	t->bytes += a->bytes;
	t->looked += gm_area_len(a);
	t->units += gm_area_len(a) / a->unit;
}

static void add_bounds(const struct tally *t, struct gm_workingset_result *r)
{
	double bounds[2];
	uint64_t low;
	uint64_t high;

	gm_workingset_bounds(t->samples, t->touched, t->units, bounds);
	low = (uint64_t)(bounds[0] * (double)t->looked);
	high = (uint64_t)(bounds[1] * (double)t->looked + 0.5);
	if (t->samples >= t->units)
		low = high = t->bytes;
	r->low += low < t->bytes ? low : t->bytes;
	r->high += high > t->bytes ? high : t->bytes;
}

static void add_area(const struct gm_area *a, struct gm_workingset_result *r)
{
	uint64_t len = gm_area_len(a);

	r->total += len;
	r->reasons |= a->reason;
	if (a->reason) {
		r->left += len;
		return;
	}
	r->methods |= UINT32_C(1) << a->method;
	if (gm_area_is_gone(a)) {
		r->dropped += len;
		return;
	}
	r->notes |= a->notes;
	r->looked += len;
	r->samples += a->samples;
	r->touched += a->touched;
	r->backed += a->backed;
	r->bytes += a->bytes;
}

void gm_workingset_sum_area(
	const struct gm_workingset *ws, const struct gm_area *a, struct gm_workingset_result *r)
{
	struct tally t = {0};

	*r = (struct gm_workingset_result){
		.size = sizeof(*r),
		.round = ws->last.round,
		.gpa = a->range.first,
		.region = a->region,
		.begin_ns = ws->last.begin_ns,
		.end_ns = ws->last.end_ns,
		.window_ns = ws->last.window_ns,
	};
	add_area(a, r);
	tally_area(&t, a);
	if (t.looked)
		add_bounds(&t, r);
}

void gm_workingset_sum(const struct gm_workingset *ws, struct gm_workingset_result *r)
{
	struct tally thin = {0};
	struct tally whole = {0};

	for (size_t i = 0; i < ws->nr; i++) {
		add_area(&ws->areas[i], r);
		tally_area(ws->areas[i].parts == 1 ? &whole : &thin, &ws->areas[i]);
	}
	if (thin.looked)
		add_bounds(&thin, r);
	if (whole.looked)
		add_bounds(&whole, r);
}

int gm_workingset_pieces(struct gm_workingset *ws,
	int (*fn)(void *arg, const struct gm_workingset_result *piece, const char *why), void *arg)
{
	int rc = 0;

	for (size_t i = 0; i < ws->nr && !rc && ws->last.round; i++) {
		struct gm_workingset_result piece;

		gm_workingset_sum_area(ws, &ws->areas[i], &piece);
		rc = fn(arg, &piece, gm_workingset_why(&ws->areas[i]));
	}
	return rc;
}

int gm_workingset_bins(struct gm_workingset *ws,
	int (*fn)(void *arg, const struct gm_workingset_bin *bin), void *arg)
{
	for (size_t i = 0; i < ws->nr; i++) {
		const struct gm_area *a = &ws->areas[i];
		uint64_t size = ws->opts.bin;
		uint64_t at = a->range.first;

		for (size_t b = 0; a->bins; b++) {
			uint64_t last = at | (size - 1);
			struct gm_workingset_bin bin = {
				.gpa = at,
				.len = (last < a->range.last ? last : a->range.last) - at + 1,
				.samples = a->bins[b].samples,
				.touched = a->bins[b].touched,
				.rounds = a->bins[b].last ? ws->last.round - a->bins[b].last
							  : UINT64_MAX,
			};
			int rc = bin.samples ? fn(arg, &bin) : 0;

			if (rc)
				return rc;
			if (last >= a->range.last)
				break;
			at = last + 1;
		}
	}
	return 0;
}

struct heat {
	struct gm_range range;
	uint64_t *samples;
	uint64_t *touched;
};

static int add_heat(void *arg, const struct gm_workingset_bin *bin)
{
	struct gm_range range = {bin->gpa, bin->gpa + (bin->len - 1)};
	const struct heat *heat = arg;

	if (!gm_range_overlaps(&range, &heat->range))
		return range.first > heat->range.last;
	*heat->samples += bin->samples;
	*heat->touched += bin->touched;
	return 0;
}

void gm_workingset_heat(const struct gm_workingset *ws, uint64_t gpa, uint64_t len,
	uint64_t *samples, uint64_t *touched)
{
	struct heat heat = {{gpa, gpa + (len - 1)}, samples, touched};

	/* It changes nothing. */
	gm_workingset_bins((struct gm_workingset *)(uintptr_t)ws, add_heat, &heat);
}
