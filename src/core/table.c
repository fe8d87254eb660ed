/* SPDX-License-Identifier: BSD-3-Clause */
/* table.c - see table.h. */
#include "core/table.h"

#define SLOTS_MIN 2u
#define SLOTS_MAX 1024u
#define SPANS_PER_SLOT 24u

static const struct gm_span nothing = {
	.first = UINT64_MAX, .last = UINT64_MAX, .perms = GM_SPAN_HOLE};

static const struct {
	struct gm_leaf leaf;
	uint8_t index[8];
} empty = {.leaf = {.spans = &nothing}};

uintptr_t gm_slot_empty(void)
{
	return (uintptr_t)&empty;
}

static uint32_t buckets(uint32_t nr)
{
	uint32_t want = 1;

	/* One to two a span: two that lie evenly share a bucket with at most one neighbour. */
	while (want < nr)
		want *= 2;
	return want;
}

static size_t spans_at(uint32_t nr)
{
	size_t size = sizeof(struct gm_leaf) + buckets(nr);

	return (size + 7) / 8 * 8;
}

static size_t kept_size(uint32_t nr, uint32_t kept)
{
	return (size_t)nr * ((kept & GM_KEPT_OFF ? sizeof(uint64_t) : 0) +
				    (kept & GM_KEPT_USE ? sizeof(uint32_t) : 0) +
				    (kept & GM_KEPT_KIND ? sizeof(uint8_t) : 0));
}

size_t gm_leaf_size(uint32_t nr, uint32_t kept)
{
	return spans_at(nr) + ((size_t)nr + 1) * sizeof(struct gm_span) + kept_size(nr, kept);
}

void gm_leaf_init(struct gm_leaf *leaf, uint32_t nr, uint32_t kept)
{
	leaf->spans = (struct gm_span *)(void *)((char *)leaf + spans_at(nr));
	leaf->nr = nr;
	leaf->kept = kept;
	gm_leaf_spans(leaf)[nr] = nothing;
}

/* The arrays behind the spans, in the order of their widths; NULL if there is none. */
static uint64_t *offs_of(const struct gm_leaf *leaf)
{
	return leaf->kept & GM_KEPT_OFF ? (uint64_t *)(uintptr_t)(leaf->spans + leaf->nr + 1)
					: NULL;
}

static uint32_t *uses_of(const struct gm_leaf *leaf)
{
	char *behind = (char *)(uintptr_t)(leaf->spans + leaf->nr + 1);

	return leaf->kept & GM_KEPT_USE
		       ? (uint32_t *)(void *)(behind +
					      kept_size(leaf->nr, leaf->kept & GM_KEPT_OFF))
		       : NULL;
}

static uint8_t *kinds_of(const struct gm_leaf *leaf)
{
	uint8_t *behind = (uint8_t *)(uintptr_t)(leaf->spans + leaf->nr + 1);

	return leaf->kept & GM_KEPT_KIND
		       ? behind + kept_size(leaf->nr, leaf->kept & (GM_KEPT_OFF | GM_KEPT_USE))
		       : NULL;
}

struct gm_origin gm_leaf_origin(const struct gm_leaf *leaf, uint32_t i)
{
	const uint64_t *offs = offs_of(leaf);
	const uint32_t *uses = uses_of(leaf);
	const uint8_t *kinds = kinds_of(leaf);

	return (struct gm_origin){offs ? offs[i] : 0, uses ? uses[i] : 0, kinds ? kinds[i] : 0};
}

void gm_leaf_set_origin(struct gm_leaf *leaf, uint32_t i, const struct gm_origin *origin)
{
	if (offs_of(leaf))
		offs_of(leaf)[i] = origin->off;
	if (uses_of(leaf))
		uses_of(leaf)[i] = origin->use;
	if (kinds_of(leaf))
		kinds_of(leaf)[i] = (uint8_t)origin->kind;
}

void gm_leaf_index(struct gm_leaf *leaf, const struct gm_range *range)
{
	uint32_t nr = buckets(leaf->nr);
	uint64_t extent = gm_range_extent(range);
	uint8_t *index = (uint8_t *)(leaf + 1);
	uint32_t at = 0;

	/* A slot of fewer addresses than buckets has one for each. */
	while (extent < nr - 1)
		nr /= 2;
	leaf->mask = nr - 1;
	/* One bucket of all addresses needs no shift. */
	while (nr > 1 && (extent >> leaf->shift) >= nr)
		leaf->shift++;
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t first = range->first + ((uint64_t)i << leaf->shift);

		while (leaf->spans[at].last < first)
			at++;
		index[i] = (uint8_t)at;
	}
}

uint32_t gm_table_slots(size_t nr_spans)
{
	uint32_t want = SLOTS_MIN;

	while (want < SLOTS_MAX && (size_t)want * SPANS_PER_SLOT < nr_spans)
		want *= 2;
	return want;
}

const struct gm_span *gm_table_find(const struct gm_view *view, uint64_t gpa)
{
	const struct gm_span *span;

	if (gpa >> view->shift >= view->nr_slots)
		return NULL;
	span = gm_view_guess(view, gpa);
	/* One with no permission ends the list at the end of the space. */
	while (span->last < gpa)
		span++;
	return span->first <= gpa && !(span->perms & GM_SPAN_HOLE) ? span : NULL;
}

static const struct gm_span *next_in_leaf(
	const struct gm_leaf *leaf, uint64_t gpa, struct gm_origin *ret)
{
	for (uint32_t i = 0; i < leaf->nr; i++) {
		if (leaf->spans[i].last < gpa)
			continue;
		*ret = gm_leaf_origin(leaf, i);
		return &leaf->spans[i];
	}
	return NULL;
}

/* @base is the first address of slot 0. */
static const struct gm_span *next_in_slots(const uintptr_t *slots, uint32_t nr, uint32_t shift,
	uint64_t base, uint64_t gpa, struct gm_origin *ret)
{
	uint64_t from = gpa > base ? (gpa - base) >> shift : 0;

	for (uint64_t i = from; i < nr; i++) {
		const struct gm_span *span;

		if (gm_slot_is_dir(slots[i])) {
			struct gm_dir *dir = gm_slot_dir(slots[i]);

			span = next_in_slots(gm_dir_slots(dir), dir->mask + 1, dir->shift,
				base + (i << shift), gpa, ret);
		} else {
			span = next_in_leaf(gm_slot_leaf(slots[i]), gpa, ret);
		}
		if (span)
			return span;
	}
	return NULL;
}

const struct gm_span *gm_table_next_origin(
	const struct gm_view *view, uint64_t gpa, struct gm_origin *ret)
{
	return next_in_slots(view->slots, view->nr_slots, view->shift, 0, gpa, ret);
}

const struct gm_span *gm_table_next(const struct gm_view *view, uint64_t gpa, uint64_t *ret_off)
{
	struct gm_origin origin;
	const struct gm_span *span = gm_table_next_origin(view, gpa, &origin);

	if (span)
		*ret_off = origin.off;
	return span;
}

const struct gm_span *gm_table_after(
	const struct gm_view *view, const struct gm_span *span, uint64_t *ret_off)
{
	return span->last == UINT64_MAX ? NULL : gm_table_next(view, span->last + 1, ret_off);
}

const struct gm_span *gm_table_after_origin(
	const struct gm_view *view, const struct gm_span *span, struct gm_origin *ret)
{
	return span->last == UINT64_MAX ? NULL : gm_table_next_origin(view, span->last + 1, ret);
}
