/* SPDX-License-Identifier: BSD-3-Clause */
/* sections.c - see sections.h. */
#include "memory/sections.h"

#include "sys/sys.h"

bool gm_sections_add(struct gm_sections *list, const struct gm_section *section)
{
	if (!list->items || list->nr == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 8;
		struct gm_section *items = gm_sys_realloc(list->items, cap, sizeof(*items));

		if (!items)
			return false;
		list->items = items;
		list->cap = cap;
	}
	list->items[list->nr++] = *section;
	return true;
}

void gm_sections_free(struct gm_sections *list)
{
	gm_sys_free(list->items);
	*list = (struct gm_sections){0};
}

bool gm_section_is_same(const struct gm_section *a, const struct gm_section *b)
{
	return a->gpa == b->gpa && a->len == b->len && a->kind == b->kind && a->hva == b->hva &&
	       a->block == b->block && a->block_off == b->block_off && a->id == b->id &&
	       a->off == b->off && a->label == b->label && a->part == b->part &&
	       a->private_block == b->private_block && a->private_off == b->private_off;
}

/* ---- joining ---- */

static bool wants_parts(const struct gm_listener_ops *ops)
{
	return ops->flags & GM_LISTENER_PARTS;
}

static struct gm_section section_of(const struct gm_placing *pl, const struct gm_listener_ops *ops,
	const struct gm_piece *piece)
{
	struct gm_section section = {
		.gpa = piece->range.first,
		.len = gm_range_len(&piece->range),
		.kind = piece->node->kind,
		.perms = piece->perms & GM_PERM_RWX,
		.id = piece->node->id,
		.off = piece->off,
		.label = piece->node->label,
	};
	struct gm_range claim;

	if (!gm_node_is_memory(piece->node))
		return section;
	if (piece->parts && piece->parts->private_block) {
		section.private_block = piece->parts->private_block;
		section.private_off = piece->parts->private_off + piece->off;
	}
	if (wants_parts(ops))
		section.part = gm_part_of(piece->perms);
	if (section.part == GM_PART_PRIVATE) {
		section.block = section.private_block;
		section.block_off = section.private_off;
		return section;
	}
	section.block = piece->map ? piece->map->block : piece->node->s.block;
	section.block_off = piece->block_off;
	if (piece->perms & GM_SPAN_FAR)
		return section;
	if (piece->map)
		section.hva = (void *)(uintptr_t)gm_piece_hva(piece);
	else if (gm_place_claim(pl, piece, &claim))
		section.hva = pl->space->window->base + piece->range.first;
	return section;
}

static bool is_wanted(const struct gm_listener_ops *ops, const struct gm_section *section)
{
	return (ops->kinds & GM_KIND_BIT(section->kind)) && section->part != GM_PART_UNPLUGGED;
}

/* One region goes on, kept asunder by parts of which the listener does not want to know. */
static bool is_one_region(const struct gm_section *a, const struct gm_section *b)
{
	return a->id == b->id && a->part == b->part && b->off - a->off == a->len;
}

/* Private memory too goes on, or there is none. */
static bool private_joins(const struct gm_section *a, const struct gm_section *b)
{
	return a->private_block == b->private_block &&
	       (!a->private_block || b->private_off - a->private_off == a->len);
}

/* Neighbours that would be one, wherever their memory lies. */
static bool could_join(
	const struct gm_listener_ops *ops, const struct gm_section *a, const struct gm_section *b)
{
	return (ops->join != GM_JOIN_NONE || is_one_region(a, b)) && a->block && b->block &&
	       a->kind == b->kind && a->perms == b->perms && a->label == b->label &&
	       a->gpa + a->len == b->gpa && a->part == b->part && private_joins(a, b);
}

static bool joins(
	const struct gm_listener_ops *ops, const struct gm_section *a, const struct gm_section *b)
{
	bool same_file = a->block == b->block && a->block_off + a->len == b->block_off;

	if (!could_join(ops, a, b))
		return false;
	/* What is not mapped, or waits for its place and goes on there as it does in the block. */
	if (!a->hva || !b->hva)
		return !a->hva && !b->hva &&
		       (same_file ||
			       (is_one_region(a, b) && a->block_off + a->len == b->block_off));
	return (char *)a->hva + a->len == (char *)b->hva &&
	       (ops->join == GM_JOIN_HOST || is_one_region(a, b) || same_file);
}

/* Appends one more section, to the last one if they join. */
static bool append(const struct gm_listener_ops *ops, const struct gm_section *section,
	struct gm_sections *ret)
{
	struct gm_section *last = ret->nr ? &ret->items[ret->nr - 1] : NULL;

	if (!is_wanted(ops, section))
		return true;
	if (last && joins(ops, last, section)) {
		last->len += section->len;
		return true;
	}
	return gm_sections_add(ret, section);
}

/* ---- around the edits ---- */

/* What shows at @addr now. */
static bool section_at(const struct commit *c, const struct gm_listener_ops *ops, uint64_t addr,
	struct gm_section *ret)
{
	uint64_t off;
	const struct gm_span *span = gm_table_next(c->space->view, addr, &off);
	struct gm_piece piece;

	if (!span || span->first > addr)
		return false;
	piece = gm_commit_old_piece(c, span, off);
	*ret = section_of(&c->placing, ops, &piece);
	return true;
}

/*
 * Does what shows beside an edit join with what is or what will be at the edit's border? It may, if
 * that waits for its place.
 */
static bool joins_border(const struct commit *c, const struct gm_listener_ops *ops,
	const struct gm_edit *edit, const struct gm_section *beside, bool left)
{
	const struct gm_piece *piece;
	struct gm_section border;

	if (edit->nr == 0)
		return false;
	piece = &edit->pieces[left ? 0 : edit->nr - 1];
	border = section_of(&c->placing, ops, piece);
	return (gm_place_waits(piece) ? could_join : joins)(
		ops, left ? beside : &border, left ? &border : beside);
}

static bool joins_edit(const struct commit *c, const struct gm_listener_ops *ops, size_t i,
	const struct gm_section *beside, bool left)
{
	return joins_border(c, ops, &c->placing.olds[i], beside, left) ||
	       joins_border(c, ops, &c->placing.news[i], beside, left);
}

static uint64_t last_of(const struct gm_section *section)
{
	return section->gpa + (section->len - 1);
}

/* Neighbours that are edited themselves may be taken in too: what is looked at then is too much. */
static struct gm_range reach_of(const struct commit *c, const struct gm_listener_ops *ops, size_t i)
{
	struct gm_range range = c->placing.olds[i].range;
	struct gm_section beside;
	struct gm_section next;

	if (range.first > 0 && section_at(c, ops, range.first - 1, &beside) &&
		joins_edit(c, ops, i, &beside, true)) {
		while (beside.gpa > 0 && section_at(c, ops, beside.gpa - 1, &next) &&
			joins(ops, &next, &beside))
			beside = next;
		range.first = beside.gpa;
	}
	if (range.last < UINT64_MAX && section_at(c, ops, range.last + 1, &beside) &&
		joins_edit(c, ops, i, &beside, false)) {
		while (last_of(&beside) < UINT64_MAX &&
			section_at(c, ops, last_of(&beside) + 1, &next) &&
			joins(ops, &beside, &next))
			beside = next;
		range.last = last_of(&beside);
	}
	return range;
}

/* One more section of an edit, pieces of it joined; false behind the last. */
static bool next_section(const struct gm_placing *pl, const struct gm_listener_ops *ops,
	const struct gm_edit *edit, size_t *at, struct gm_section *ret)
{
	struct gm_section next;

	if (*at == edit->nr)
		return false;
	*ret = section_of(pl, ops, &edit->pieces[(*at)++]);
	for (; *at < edit->nr; ++*at) {
		next = section_of(pl, ops, &edit->pieces[*at]);
		if (!joins(ops, ret, &next))
			break;
		ret->len += next.len;
	}
	return true;
}

/*
 * Is an edit none for this listener? Then what is joined beside it need not be looked for, however far
 * it goes.
 */
static bool is_the_same(const struct commit *c, const struct gm_listener_ops *ops, size_t i)
{
	const struct gm_placing *pl = &c->placing;
	struct gm_section old;
	struct gm_section new;
	size_t at_old = 0;
	size_t at_new = 0;
	bool more;

	if (gm_rangeset_overlaps(&c->vacated, &pl->olds[i].range))
		return false;
	for (size_t j = 0; j < pl->news[i].nr; j++) {
		if (gm_place_waits(&pl->news[i].pieces[j]))
			return false;
	}
	do {
		more = next_section(pl, ops, &pl->olds[i], &at_old, &old);
		if (next_section(pl, ops, &pl->news[i], &at_new, &new) != more)
			return false;
		if (more && (!gm_section_is_same(&old, &new) || old.perms != new.perms))
			return false;
	} while (more);
	return true;
}

void gm_sections_reach(
	const struct commit *c, const struct gm_listener_ops *ops, struct gm_rangeset *ret)
{
	for (size_t i = 0; i < c->placing.nr; i++) {
		struct gm_range range;

		if (is_the_same(c, ops, i))
			continue;
		range = reach_of(c, ops, i);
		gm_rangeset_add(ret, &range);
	}
}

/* Appends the sections of one range of a reach; @edit is the first edit that it may hold. */
static bool append_range(const struct commit *c, const struct gm_listener_ops *ops,
	const struct gm_range *range, enum gm_side side, size_t edit, struct gm_sections *ret)
{
	const struct gm_placing *pl = &c->placing;
	const struct gm_edit *edits = side == GM_SIDE_OLD ? pl->olds : pl->news;
	uint64_t addr = range->first;

	for (;;) {
		struct gm_section section;
		uint64_t last;

		while (edit < pl->nr && edits[edit].range.last < addr)
			edit++;
		if (edit < pl->nr && edits[edit].range.first <= addr) {
			last = edits[edit].range.last;
			for (size_t j = 0; j < edits[edit].nr; j++) {
				section = section_of(pl, ops, &edits[edit].pieces[j]);
				if (!append(ops, &section, ret))
					return false;
			}
		} else if (section_at(c, ops, addr, &section)) {
			last = last_of(&section);
			if (!append(ops, &section, ret))
				return false;
		} else {
			last = edit < pl->nr ? edits[edit].range.first - 1 : range->last;
		}
		if (last >= range->last)
			return true;
		addr = last + 1;
	}
}

bool gm_sections_of_reach(const struct commit *c, const struct gm_listener_ops *ops,
	const struct gm_rangeset *reach, enum gm_side side, struct gm_sections *ret)
{
	size_t edit = 0;

	for (size_t i = 0; i < reach->nr; i++) {
		while (edit < c->placing.nr &&
			c->placing.olds[edit].range.last < reach->ranges[i].first)
			edit++;
		if (!append_range(c, ops, &reach->ranges[i], side, edit, ret))
			return false;
	}
	return true;
}

/* The section of a span of what is published. */
static struct gm_section section_of_span(struct gm_space *space, const struct gm_listener_ops *ops,
	const struct gm_span *span, uint64_t off)
{
	struct commit c = {.space = space, .placing = {.space = space}};
	struct gm_piece piece = gm_commit_old_piece(&c, span, off);

	return section_of(&c.placing, ops, &piece);
}

bool gm_sections_of_view(
	struct gm_space *space, const struct gm_listener_ops *ops, struct gm_sections *ret)
{
	uint64_t off;
	const struct gm_span *span = gm_table_next(space->view, 0, &off);

	while (span) {
		struct gm_section section = section_of_span(space, ops, span, off);

		if (!append(ops, &section, ret))
			return false;
		span = gm_table_after(space->view, span, &off);
	}
	return true;
}

void gm_sections_each(struct gm_space *space, const struct gm_listener_ops *ops,
	void (*fn)(void *ctx, const struct gm_section *section), void *ctx)
{
	uint64_t off;
	const struct gm_span *span = gm_table_next(space->view, 0, &off);
	struct gm_section last = {.id = 0};

	for (; span; span = gm_table_after(space->view, span, &off)) {
		struct gm_section section = section_of_span(space, ops, span, off);

		if (!is_wanted(ops, &section))
			continue;
		if (last.id && joins(ops, &last, &section)) {
			last.len += section.len;
			continue;
		}
		if (last.id)
			fn(ctx, &last);
		last = section;
	}
	if (last.id)
		fn(ctx, &last);
}
