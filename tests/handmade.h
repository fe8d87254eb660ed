/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handmade.h - views made by hand over memory of the test, without a space.
 */
#ifndef GM_TESTS_HANDMADE_H
#define GM_TESTS_HANDMADE_H

#include <guestmem/view.h>
#include <stdlib.h>
#include <string.h>

#include "core/table.h"

#define HANDMADE_MAX 16

struct handmade {
	struct gm_view view;
	uintptr_t slots[2];
	uint64_t leaf[256];
};

/* Copies @nr sorted spans. Spans with direct bits have the delta @base. */
static inline const struct gm_view *handmade_init(
	struct handmade *hand, uint64_t base, const struct gm_span *spans, uint32_t nr)
{
	struct gm_leaf *leaf = (struct gm_leaf *)(void *)hand->leaf;
	struct gm_range range = {.first = 0};
	uint32_t shift = 0;

	if (nr > HANDMADE_MAX || gm_leaf_size(nr, 0) > sizeof(hand->leaf))
		abort();
	while (nr && (spans[nr - 1].last >> shift) > 1)
		shift++;
	range.last = (UINT64_C(2) << shift) - 1;
	memset(hand->leaf, 0, sizeof(hand->leaf));
	gm_leaf_init(leaf, nr, 0);
	for (uint32_t i = 0; i < nr; i++)
		gm_leaf_spans(leaf)[i] = spans[i];
	gm_leaf_index(leaf, &range);
	/* Both slots lead to the one leaf. */
	hand->slots[0] = hand->slots[1] = (uintptr_t)leaf;
	hand->view = (struct gm_view){
		.window_base = base,
		.slots = hand->slots,
		.shift = shift,
		.nr_slots = 2,
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
		.perms = (uint16_t)perms,
		.direct = (uint16_t)perms,
	};

	return handmade_init(hand, (uintptr_t)base, &span, 1);
}

#endif
