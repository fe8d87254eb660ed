/* SPDX-License-Identifier: BSD-3-Clause */
/* index.c - the bucket table of a view. */
#include "core/index.h"

#define INDEX_MIN 64u
#define INDEX_MAX (1u << 20)
/*
 * One to two buckets a span: evenly spread spans share a bucket with at most one neighbour, and the
 * table of 10 000 spans stays in the second cache beside them (three a span measured slower).
 */
#define BUCKETS_PER_SPAN 1u

static uint64_t buckets_wanted(uint32_t nr_spans)
{
	uint64_t want = (uint64_t)nr_spans * BUCKETS_PER_SPAN;

	if (want < INDEX_MIN)
		return INDEX_MIN;
	return want > INDEX_MAX ? INDEX_MAX : want;
}

size_t gm_index_room(uint32_t nr_spans)
{
	return (size_t)buckets_wanted(nr_spans) * 2 + 1;
}

struct gm_index_shape gm_index_plan(const struct gm_span *spans, uint32_t nr_spans)
{
	struct gm_index_shape shape = {0};
	uint64_t want;
	uint64_t top;

	if (nr_spans == 0)
		return shape;
	top = spans[nr_spans - 1].last;
	want = buckets_wanted(nr_spans);
	while ((top >> shape.shift) >= want * 2)
		shape.shift++;
	shape.nr = (uint32_t)(top >> shape.shift) + 1;
	return shape;
}

void gm_index_fill(const struct gm_span *spans, uint32_t nr_spans, struct gm_index_shape shape,
	uint32_t *index)
{
	uint32_t span = 0;

	for (uint32_t i = 0; i < shape.nr; i++) {
		while (span < nr_spans && (spans[span].last >> shape.shift) < i)
			span++;
		index[i] = span;
	}
	index[shape.nr] = nr_spans;
}

const struct gm_span *gm_index_find(const struct gm_view *view, uint64_t gpa)
{
	uint64_t bucket = gpa >> view->shift;
	uint32_t lo;
	uint32_t hi;

	if (bucket >= view->nr_index)
		return NULL;
	lo = view->index[bucket];
	/* The answer ends in this bucket, or it is the first span that ends after it. */
	hi = view->index[bucket + 1];
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (view->spans[mid].last < gpa)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < view->nr_spans ? &view->spans[lo] : NULL;
}
