/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * index.h - look-up of an address among sorted, disjoint spans.
 *
 * The address space up to the last span is cut into equal buckets; for each the table names the
 * first span that ends in or after it. So a look-up is one load and, mostly, one comparison, for 8
 * spans as for 10 000. Where many spans lie in one bucket a binary search between two entries
 * decides.
 */
#ifndef GM_CORE_INDEX_H
#define GM_CORE_INDEX_H

#include <guestmem/view.h>
#include <stddef.h>

#include "core/range.h"

struct gm_index_shape {
	uint32_t shift;
	uint32_t nr; /* buckets */
};

/* Shape of the table for these spans; nr is 0 without spans. */
struct gm_index_shape gm_index_plan(const struct gm_span *spans, uint32_t nr_spans);

/* Entries that a table for at most so many spans can need. */
size_t gm_index_room(uint32_t nr_spans);

/* Fills the shape.nr + 1 entries of @index. */
void gm_index_fill(const struct gm_span *spans, uint32_t nr_spans, struct gm_index_shape shape,
	uint32_t *index);

/* The span that holds @gpa, or the first one above it, or NULL. */
const struct gm_span *gm_index_find(const struct gm_view *view, uint64_t gpa);

#endif
