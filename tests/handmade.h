/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handmade.h - views made by hand over memory of the test, without a space.
 */
#ifndef GM_TESTS_HANDMADE_H
#define GM_TESTS_HANDMADE_H

#include <guestmem/view.h>
#include <stdlib.h>
#include <string.h>

#include "core/index.h"

#define HANDMADE_MAX 16

struct handmade {
	struct gm_view view;
	struct gm_span spans[HANDMADE_MAX + 1];
	uint32_t index[1024];
};

/* Copies @nr sorted spans. Spans with direct bits have the delta @base. */
static inline const struct gm_view *handmade_init(
	struct handmade *hand, uint64_t base, const struct gm_span *spans, uint32_t nr)
{
	struct gm_index_shape shape = gm_index_plan(spans, nr);

	if (nr > HANDMADE_MAX || shape.nr + 1 > sizeof(hand->index) / sizeof(hand->index[0]))
		abort();
	for (uint32_t i = 0; i < nr; i++)
		hand->spans[i] = spans[i];
	hand->spans[nr] = (struct gm_span){.first = UINT64_MAX, .last = UINT64_MAX};
	gm_index_fill(hand->spans, nr, shape, hand->index);
	hand->view = (struct gm_view){
		.window_base = base,
		.spans = hand->spans,
		.index = hand->index,
		.shift = shape.shift,
		.nr_index = shape.nr,
		.nr_spans = nr,
		.version = GM_VIEW_VERSION,
	};
	return &hand->view;
}

/* One span that holds all of [0, len) at @base. */
static inline const struct gm_view *handmade_one(
	struct handmade *hand, void *base, size_t len, uint32_t perms)
{
	struct gm_span span = {
		.last = len - 1,
		.delta = (uintptr_t)base,
		.perms = perms,
		.direct = perms,
	};

	return handmade_init(hand, (uintptr_t)base, &span, 1);
}

#endif
