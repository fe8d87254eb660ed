/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * view.c - building the immutable map that readers use, and questions to it.
 *
 * Neighbours with the same delta and permissions become one span. Room is taken for the worst case
 * beforehand, so that filling a view cannot fail in the middle of a commit.
 */
#include <errno.h>
#include <string.h>

#include "core/index.h"
#include "memory/space.h"
#include "sys/sys.h"

struct gm_view_full *gm_view_alloc(size_t nr_regions)
{
	struct gm_view_full *view = gm_sys_alloc(sizeof(*view));

	if (!view)
		return NULL;
	view->regions = gm_sys_alloc_array(nr_regions + 1, sizeof(*view->regions));
	view->spans = gm_sys_alloc_array(nr_regions + 1, sizeof(*view->spans));
	view->index = gm_sys_alloc_array(gm_index_room((uint32_t)nr_regions), sizeof(*view->index));
	if (!view->regions || !view->spans || !view->index) {
		gm_view_free(view);
		return NULL;
	}
	return view;
}

void gm_view_free(struct gm_view_full *view)
{
	if (!view)
		return;
	for (size_t i = 0; i < view->dropped.nr; i++)
		gm_region_free(view->dropped.items[i]);
	gm_sys_free(view->dropped.items);
	gm_sys_free(view->regions);
	gm_sys_free(view->spans);
	gm_sys_free(view->index);
	gm_sys_free(view);
}

static bool extends(const struct gm_span *span, const struct gm_span *next)
{
	return next->first != 0 && span->last == next->first - 1 && span->delta == next->delta &&
	       span->perms == next->perms;
}

static uint32_t fill_spans(struct gm_view_full *view, const struct gm_window *window)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < view->nr_regions; i++) {
		const struct gm_region *region = view->regions[i];
		struct gm_span span;

		if (!region->map)
			continue;
		span = (struct gm_span){
			.first = region->range.first,
			.last = region->range.last,
			.delta = gm_region_hva(region) - region->range.first,
			.perms = region->perms,
			.direct = gm_region_is_placed(region, window) ? region->perms : 0,
		};
		if (nr > 0 && extends(&view->spans[nr - 1], &span))
			view->spans[nr - 1].last = span.last;
		else
			view->spans[nr++] = span;
	}
	/* The one behind the last allows nothing. */
	view->spans[nr] = (struct gm_span){.first = UINT64_MAX, .last = UINT64_MAX};
	return nr;
}

/* The largest span that inline code may read and write is asked before the table. */
static void pick_hot(struct gm_view *view)
{
	uint64_t best = 0;

	for (uint32_t i = 0; i < view->nr_spans; i++) {
		const struct gm_span *span = &view->spans[i];
		uint64_t extent = span->last - span->first;

		if ((GM_PERM_RW & ~span->direct) || extent <= best)
			continue;
		best = extent;
		view->hot_first = span->first;
		/* extent + 1 bytes, of which the last 7 cannot begin an access of 8. A span has
		 * whole pages. */
		view->hot_starts = extent - 6;
	}
}

void gm_view_fill(struct gm_view_full *view, const struct gm_window *window,
	struct gm_region *const *regions, size_t nr, uint64_t generation)
{
	struct gm_index_shape shape;
	uint32_t nr_spans;

	view->nr_regions = (uint32_t)nr;
	for (size_t i = 0; i < nr; i++)
		view->regions[i] = regions[i];
	nr_spans = fill_spans(view, window);
	shape = gm_index_plan(view->spans, nr_spans);
	gm_index_fill(view->spans, nr_spans, shape, view->index);
	view->pub = (struct gm_view){
		.window_base = window ? (uintptr_t)window->base : 0,
		.spans = view->spans,
		.index = view->index,
		.shift = shape.shift,
		.nr_index = shape.nr,
		.nr_spans = nr_spans,
		.version = GM_VIEW_VERSION,
		.generation = generation,
	};
	pick_hot(&view->pub);
}

static const struct gm_view_full *full(const struct gm_view *view)
{
	return (const struct gm_view_full *)(const void *)view;
}

const struct gm_region *gm_view_region(const struct gm_view *view, uint64_t gpa)
{
	const struct gm_view_full *all = full(view);
	size_t i = gm_regions_find(all->regions, all->nr_regions, gpa);

	if (i == all->nr_regions || gpa < all->regions[i]->range.first)
		return NULL;
	return all->regions[i];
}

int gm_view_check(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms)
{
	struct gm_range range;

	if (!gm_range_make(gpa, len ? len : 1, &range))
		return -ERANGE;
	for (;;) {
		const struct gm_span *span = gm_index_find(view, range.first);

		if (!span || range.first < span->first)
			return -EFAULT;
		if (perms & ~span->perms)
			return -EACCES;
		if (range.last <= span->last)
			return 0;
		range.first = span->last + 1;
	}
}

int gm_view_gpa(const struct gm_view *view, const void *hva, uint64_t *ret_gpa)
{
	const struct gm_view_full *all = full(view);
	uint64_t at = (uintptr_t)hva;

	for (uint32_t i = 0; i < all->nr_regions; i++) {
		const struct gm_region *region = all->regions[i];
		uint64_t off;

		if (!region->map)
			continue;
		off = at - gm_region_hva(region);
		if (off <= gm_range_extent(&region->range)) {
			*ret_gpa = region->range.first + off;
			return 0;
		}
	}
	return -EFAULT;
}
