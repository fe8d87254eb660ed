/* SPDX-License-Identifier: BSD-3-Clause */
/* control_map.c - see control_map.h. */
#include "services/control_map.h"

#include <errno.h>
#include <string.h>

#include "sys/sys.h"

static const struct gm_control_attr normal;

_Static_assert(sizeof(normal) == 8 + GM_CONTROL_NAME_CAP, "no padding");

int gm_control_map_init(struct gm_control_map *map, size_t cap)
{
	*map = (struct gm_control_map){.cap = cap};
	map->pieces = gm_sys_alloc_array(cap, sizeof(*map->pieces));
	map->spare = gm_sys_alloc_array(cap, sizeof(*map->spare));
	return map->pieces && map->spare ? 0 : -ENOMEM;
}

void gm_control_map_fini(struct gm_control_map *map)
{
	gm_sys_free(map->pieces);
	gm_sys_free(map->spare);
	*map = (struct gm_control_map){0};
}

void gm_control_map_copy(struct gm_control_map *to, const struct gm_control_map *from)
{
	to->nr = from->nr;
	memcpy(to->pieces, from->pieces, from->nr * sizeof(*from->pieces));
}

void gm_control_map_swap(struct gm_control_map *a, struct gm_control_map *b)
{
	struct gm_control_map was = *a;

	*a = *b;
	*b = was;
}

void gm_control_attr_take(
	struct gm_control_attr *to, enum gm_control_field field, const struct gm_control_attr *from)
{
	switch (field) {
	case GM_FIELD_PROT:
		to->prot = from->prot;
		break;
	case GM_FIELD_LOCK:
		to->locked = from->locked;
		break;
	case GM_FIELD_MERGE:
		to->merge = from->merge;
		break;
	case GM_FIELD_DUMP:
		to->nodump = from->nodump;
		break;
	case GM_FIELD_HUGE:
		to->huge = from->huge;
		break;
	case GM_FIELD_NUMA:
		to->numa = from->numa;
		to->node = from->node;
		break;
	default:
		memcpy(to->name, from->name, sizeof(to->name));
		break;
	}
}

bool gm_control_attr_same(const struct gm_control_attr *a, const struct gm_control_attr *b,
	enum gm_control_field field)
{
	struct gm_control_attr with = *a;

	gm_control_attr_take(&with, field, b);
	return memcmp(&with, a, sizeof(with)) == 0;
}

size_t gm_control_map_find(const struct gm_control_map *map, uint64_t hva)
{
	size_t low = 0;
	size_t high = map->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (map->pieces[mid].hva.last < hva)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* ---- building the next array ---- */

struct builder {
	struct gm_control_piece *to;
	size_t nr;
	size_t cap;
	bool full;
};

static void push(struct builder *b, const struct gm_control_piece *piece)
{
	struct gm_control_piece *last = b->nr ? &b->to[b->nr - 1] : NULL;

	if (memcmp(&piece->attr, &normal, sizeof(normal)) == 0)
		return;
	if (last && last->block == piece->block && last->dying == piece->dying &&
		gm_range_precedes(&last->hva, &piece->hva) &&
		memcmp(&last->attr, &piece->attr, sizeof(normal)) == 0) {
		last->hva.last = piece->hva.last;
	} else if (b->nr == b->cap) {
		b->full = true;
	} else {
		b->to[b->nr++] = *piece;
	}
}

static void push_part(
	struct builder *b, const struct gm_control_piece *piece, uint64_t first, uint64_t last)
{
	struct gm_control_piece part = *piece;

	part.hva = (struct gm_range){first, last};
	push(b, &part);
}

/* What is to be done to each part in the range, and to gaps between them. */
struct change {
	struct gm_range range;
	bool set; /* a field; else only life and death */
	enum gm_control_field field;
	const struct gm_control_attr *attr;
	struct gm_block *block;
	bool dying;
};

static void push_changed(struct builder *b, const struct change *c,
	const struct gm_control_piece *piece, uint64_t first, uint64_t last)
{
	struct gm_control_piece part = *piece;

	part.hva = (struct gm_range){first, last};
	if (c->set) {
		part.block = c->block;
		gm_control_attr_take(&part.attr, c->field, c->attr);
	} else {
		part.dying = c->dying;
	}
	push(b, &part);
}

static void push_gap(struct builder *b, const struct change *c, uint64_t first, uint64_t last)
{
	const struct gm_control_piece none = {.block = c->block};

	if (c->set)
		push_changed(b, c, &none, first, last);
}

static bool rebuild(struct gm_control_map *map, const struct change *c)
{
	struct builder b = {.to = map->spare, .cap = map->cap};
	uint64_t next = c->range.first; /* what is not seen of the range yet begins there */
	bool seen = false;              /* all of it */
	size_t i;

	for (i = 0; i < map->nr && map->pieces[i].hva.last < c->range.first; i++)
		push(&b, &map->pieces[i]);
	for (; i < map->nr && map->pieces[i].hva.first <= c->range.last; i++) {
		const struct gm_control_piece *p = &map->pieces[i];
		uint64_t first = p->hva.first > next ? p->hva.first : next;
		uint64_t last = p->hva.last < c->range.last ? p->hva.last : c->range.last;

		if (p->hva.first < c->range.first)
			push_part(&b, p, p->hva.first, c->range.first - 1);
		if (first > next)
			push_gap(&b, c, next, first - 1);
		push_changed(&b, c, p, first, last);
		if (p->hva.last > c->range.last)
			push_part(&b, p, c->range.last + 1, p->hva.last);
		seen = last == c->range.last;
		next = last + 1;
	}
	if (!seen)
		push_gap(&b, c, next, c->range.last);
	for (; i < map->nr; i++)
		push(&b, &map->pieces[i]);
	if (b.full)
		return false;
	map->spare = map->pieces;
	map->pieces = b.to;
	map->nr = b.nr;
	return true;
}

bool gm_control_map_set(struct gm_control_map *map, const struct gm_range *hva,
	struct gm_block *block, enum gm_control_field field, const struct gm_control_attr *attr)
{
	const struct change c = {
		.range = *hva, .set = true, .field = field, .attr = attr, .block = block};

	return rebuild(map, &c);
}

void gm_control_map_doom(struct gm_control_map *map, const struct gm_range *hva, bool dying)
{
	const struct change c = {.range = *hva, .dying = dying};

	if (rebuild(map, &c) || !dying)
		return;
	for (size_t i = 0; i < map->nr; i++)
		map->pieces[i].dying |= gm_range_overlaps(&map->pieces[i].hva, hva);
}

void gm_control_map_forget(struct gm_control_map *map, bool all)
{
	size_t to = 0;

	for (size_t i = 0; i < map->nr; i++) {
		if (!all && !map->pieces[i].dying)
			map->pieces[to++] = map->pieces[i];
	}
	map->nr = to;
}

uint64_t gm_control_map_locked(const struct gm_control_map *map)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < map->nr; i++)
		sum += map->pieces[i].attr.locked ? gm_range_len(&map->pieces[i].hva) : 0;
	return sum;
}
