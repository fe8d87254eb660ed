/* SPDX-License-Identifier: BSD-3-Clause */
/* loader_place.c - a place in guest memory for so many bytes. */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "core/table.h"
#include "services/loader.h"

#define NO_MEMORY (GM_SPAN_HOLE | GM_SPAN_DEVICE | GM_SPAN_ROMD | GM_SPAN_IOMMU | GM_SPAN_DEVMEM)

static bool is_memory(const struct gm_span *span)
{
	return (span->perms & GM_PERM_W) && !(span->perms & NO_MEMORY);
}

/* The next stretch of memory, of spans that follow each other; *at is where to go on. */
static bool next_stretch(
	const struct gm_view *view, const struct gm_span **at, struct gm_range *ret)
{
	const struct gm_span *span = *at;
	uint64_t off;

	while (span && !is_memory(span))
		span = gm_table_after(view, span, &off);
	if (!span)
		return false;
	*ret = (struct gm_range){span->first, span->last};
	for (span = gm_table_after(view, span, &off); span && is_memory(span);
		span = gm_table_after(view, span, &off)) {
		if (span->first - 1 != ret->last)
			break;
		ret->last = span->last;
	}
	*at = span;
	return true;
}

/* Where in the stretch, if it fits. */
static bool fit(const struct gm_range *stretch, const struct gm_load_want *want, uint64_t *ret)
{
	struct gm_range free;

	if (!gm_range_intersect(stretch, &want->within, &free) ||
		gm_range_extent(&free) < want->len - 1)
		return false;
	if (want->lowest)
		return gm_align_up(free.first, want->align, ret) && *ret <= free.last &&
		       free.last - *ret >= want->len - 1;
	*ret = gm_align_down(free.last - (want->len - 1), want->align);
	return *ret >= free.first;
}

int gm_load_find(const struct gm_load *load, const struct gm_load_want *want, uint64_t *ret_gpa)
{
	const struct gm_view *view = gm_reader_enter(load->reader);
	uint64_t off;
	const struct gm_span *at = gm_table_next(view, want->within.first, &off);
	struct gm_range stretch;
	bool found = false;

	while (next_stretch(view, &at, &stretch) && stretch.first <= want->within.last) {
		if (fit(&stretch, want, ret_gpa))
			found = true;
		if (found && want->lowest)
			break;
	}
	gm_reader_leave(load->reader);
	if (found)
		return 0;
	return gm_error_set(load->err, -ENOSPC, want->within.first, want->len,
		"%s: no memory from 0x%" PRIx64 " to 0x%" PRIx64 " for 0x%" PRIx64
		" bytes at a multiple of 0x%" PRIx64,
		load->what, want->within.first, want->within.last, want->len, want->align);
}
