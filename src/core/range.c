/* SPDX-License-Identifier: BSD-3-Clause */
/* range.c - the parts of range.h that are more than one comparison. */
#include "core/range.h"

bool gm_range_align_in(const struct gm_range *r, uint64_t align, struct gm_range *ret)
{
	uint64_t first;
	uint64_t last;

	if (!gm_align_up(r->first, align, &first) || first > r->last)
		return false;
	/* The last byte of a page is a multiple of align less one. */
	if (r->last == UINT64_MAX)
		last = UINT64_MAX;
	else if (gm_align_down(r->last + 1, align) == 0)
		return false;
	else
		last = gm_align_down(r->last + 1, align) - 1;
	if (last < first)
		return false;
	*ret = (struct gm_range){.first = first, .last = last};
	return true;
}

void gm_range_align_out(const struct gm_range *r, uint64_t align, struct gm_range *ret)
{
	*ret = (struct gm_range){
		.first = gm_align_down(r->first, align),
		.last = r->last | (align - 1),
	};
}
