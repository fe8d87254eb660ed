/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map_diff.c - where two layouts show different things.
 *
 * Both flattened maps are sorted and disjoint. One walk over all places where either begins or ends
 * a stretch compares what both show from there on.
 */
#include <string.h>

#include "map.h"

/* Do both show the same bytes of the same region there, with the same attributes, or nothing? */
static bool same(const struct map_stretch *a, const struct map_stretch *b, uint64_t at)
{
	if (!a || !b)
		return a == b;
	return strcmp(a->node->name, b->node->name) == 0 && a->node->kind == b->node->kind &&
	       a->perms == b->perms && a->node->label == b->node->label &&
	       a->node->numa == b->node->numa && a->node->hotplug == b->node->hotplug &&
	       a->off + (at - a->first) == b->off + (at - b->first);
}

/* The stretch that shows at @at; or NULL, and *last is cut before the next one. */
static const struct map_stretch *stretch_at(
	const struct map_layout *layout, size_t i, uint64_t at, uint64_t *last)
{
	const struct map_stretch *s = i < layout->nr_flat ? &layout->flat[i] : NULL;
	uint64_t until = UINT64_MAX;

	if (s)
		until = s->first > at ? s->first - 1 : s->last;
	if (until < *last)
		*last = until;
	return s && s->first <= at ? s : NULL;
}

void map_compare(const struct map_layout *before, const struct map_layout *after,
	void (*fn)(void *ctx, const struct map_change *change), void *ctx)
{
	size_t i = 0;
	size_t j = 0;
	uint64_t at = 0;

	for (;;) {
		struct map_change c = {.first = at, .last = UINT64_MAX};

		c.before = stretch_at(before, i, at, &c.last);
		c.after = stretch_at(after, j, at, &c.last);
		if (!same(c.before, c.after, at))
			fn(ctx, &c);
		if (c.last == UINT64_MAX)
			return;
		i += c.before && c.before->last == c.last;
		j += c.after && c.after->last == c.last;
		at = c.last + 1;
	}
}
