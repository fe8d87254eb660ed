/* SPDX-License-Identifier: BSD-3-Clause */
/* iotlb_quick.c - the writer's side of iotlb_quick.h. */
#include "core/iotlb_quick.h"

#include <assert.h>
#include <string.h>

/*
 * Two lines a mapping, so four places for its one to three copies: aligned mappings fill a quarter
 * of the table, and mappings at any address three quarters.
 */
#define LINES_PER_MAPPING 2u
#define LINES_MIN 2u
/* So often a copy may push another one to its other line before one is left out. */
#define PUSHES_MAX 32u
#define AWAY_STICKS UINT8_MAX

/* One copy of a mapping: that for the nth granule. */
struct copy {
	struct gm_translation mapping;
	unsigned int nth;
};

struct place {
	struct gm_quick_line *line;
	unsigned int way;
};

uint64_t gm_quick_room(uint32_t nr_mappings)
{
	uint64_t nr = (uint64_t)nr_mappings * LINES_PER_MAPPING;

	return nr < LINES_MIN ? LINES_MIN : nr;
}

void gm_quick_init(
	struct gm_quick *quick, struct gm_quick_line *lines, uint32_t nr_lines, uint64_t seed)
{
	memset(quick, 0, sizeof(*quick));
	memset(lines, 0, nr_lines * sizeof(*lines));
	quick->lines = lines;
	quick->nr_lines = nr_lines;
	quick->seed = seed;
	/* Lines of zeros are stale. */
	quick->stamp = 1;
}

void gm_quick_flush(struct gm_quick *quick)
{
	memset(quick->nr_class, 0, sizeof(quick->nr_class));
	quick->nr_left_out = 0;
	__atomic_store_n(&quick->classes, 0, __ATOMIC_RELAXED);
	/* Pairs with the acquire in gm_quick_find(). */
	__atomic_store_n(&quick->stamp, quick->stamp + 1, __ATOMIC_RELEASE);
}

/* ---- where copies belong ---- */

static unsigned int class_of(const struct gm_translation *mapping)
{
	uint64_t extent = mapping->last - mapping->first;

	/* The whole space is 2^64 long; the widest class takes it, too. */
	return extent == UINT64_MAX ? 63u : 63u - (unsigned int)__builtin_clzll(extent + 1);
}

static unsigned int nr_copies(const struct gm_translation *mapping)
{
	unsigned int class = class_of(mapping);

	return (unsigned int)((mapping->last >> class) - (mapping->first >> class)) + 1;
}

static void homes_of(
	const struct gm_quick *quick, const struct copy *copy, struct gm_quick_line *ret_homes[2])
{
	unsigned int class = class_of(&copy->mapping);
	uint64_t hash = gm_quick_hash(quick, (copy->mapping.first >> class) + copy->nth, class);

	ret_homes[0] = &quick->lines[gm_quick_first_line(quick, hash)];
	ret_homes[1] = &quick->lines[gm_quick_second_line(quick, hash)];
}

static uint8_t tag_of(const struct copy *copy)
{
	return (uint8_t)(GM_QUICK_USED | copy->nth << 2 | copy->mapping.perms);
}

static struct copy copy_at(const struct gm_quick_line *line, unsigned int way)
{
	return (struct copy){
		.mapping =
			{
				.first = line->slot[way].first,
				.last = line->slot[way].last,
				.delta = line->slot[way].delta,
				.perms = line->tag[way] & GM_QUICK_PERMS,
			},
		.nth = line->tag[way] >> 2 & 3u,
	};
}

/* Permissions and delta are not asked: mappings do not overlap, but for a new one in the place of
 * one that it makes smaller or takes in, and these have other ends. */
static bool holds(const struct gm_quick_line *line, unsigned int way, const struct copy *copy)
{
	return line->slot[way].first == copy->mapping.first &&
	       line->slot[way].last == copy->mapping.last && line->tag[way] == tag_of(copy);
}

static bool is_fresh(const struct gm_quick *quick, const struct gm_quick_line *line)
{
	return line->stamp == quick->stamp;
}

static bool find_copy(const struct gm_quick *quick, const struct copy *copy, struct place *ret)
{
	struct gm_quick_line *homes[2];

	homes_of(quick, copy, homes);
	for (unsigned int i = 0; i < 2 * GM_QUICK_WAYS; i++) {
		struct gm_quick_line *line = homes[i / GM_QUICK_WAYS];

		if (is_fresh(quick, line) && holds(line, i % GM_QUICK_WAYS, copy)) {
			*ret = (struct place){line, i % GM_QUICK_WAYS};
			return true;
		}
	}
	return false;
}

/* ---- changing lines ---- */

static void open_line(struct gm_quick_line *line)
{
	__atomic_store_n(&line->seq, line->seq + 1, __ATOMIC_RELAXED);
}

/* Pairs with the first acquire in gm_quick_probe(). */
static void close_line(struct gm_quick_line *line)
{
	__atomic_store_n(&line->seq, line->seq + 1, __ATOMIC_RELEASE);
}

/* Each store releases, so that who sees it sees the odd number as well. */
static void set_slot(
	struct gm_quick_line *line, unsigned int way, const struct gm_quick_slot *slot, uint8_t tag)
{
	uint8_t refs = __atomic_load_n(&line->refs, __ATOMIC_RELAXED);

	assert(line->seq & 1);
	__atomic_store_n(&line->slot[way].first, slot->first, __ATOMIC_RELEASE);
	__atomic_store_n(&line->slot[way].last, slot->last, __ATOMIC_RELEASE);
	__atomic_store_n(&line->slot[way].delta, slot->delta, __ATOMIC_RELEASE);
	__atomic_store_n(&line->tag[way], tag, __ATOMIC_RELEASE);
	__atomic_store_n(&line->refs, (uint8_t)(refs & ~(1u << way)), __ATOMIC_RELAXED);
}

static void empty_slot(struct gm_quick_line *line, unsigned int way)
{
	const struct gm_quick_slot nothing = {.first = UINT64_MAX, .last = 0};

	set_slot(line, way, &nothing, 0);
}

/* A line from before the last flush is emptied when something is to be put into it. */
static void freshen(const struct gm_quick *quick, struct gm_quick_line *line)
{
	if (is_fresh(quick, line))
		return;
	open_line(line);
	for (unsigned int i = 0; i < GM_QUICK_WAYS; i++)
		empty_slot(line, i);
	__atomic_store_n(&line->away, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&line->stamp, quick->stamp, __ATOMIC_RELEASE);
	close_line(line);
}

static void count_away(const struct gm_quick *quick, struct gm_quick_line *line, int change)
{
	freshen(quick, line);
	/* Too many for the counter: it says "some" until the next flush. */
	if (line->away == AWAY_STICKS)
		return;
	open_line(line);
	__atomic_store_n(&line->away, (uint8_t)(line->away + change), __ATOMIC_RELEASE);
	close_line(line);
}

/* False if the line is full. */
static bool put(struct gm_quick *quick, struct gm_quick_line *line, const struct copy *copy)
{
	const struct gm_quick_slot slot = {
		copy->mapping.first, copy->mapping.last, copy->mapping.delta};
	struct gm_quick_line *homes[2];
	unsigned int way = 0;

	freshen(quick, line);
	while (way < GM_QUICK_WAYS && line->tag[way])
		way++;
	if (way == GM_QUICK_WAYS)
		return false;
	homes_of(quick, copy, homes);
	/* First the sign to look on, then what is to be found there. */
	if (line == homes[1])
		count_away(quick, homes[0], 1);
	open_line(line);
	set_slot(line, way, &slot, tag_of(copy));
	close_line(line);
	return true;
}

static struct copy take(struct gm_quick *quick, struct place place)
{
	struct copy copy = copy_at(place.line, place.way);
	struct gm_quick_line *homes[2];

	homes_of(quick, &copy, homes);
	open_line(place.line);
	empty_slot(place.line, place.way);
	close_line(place.line);
	if (place.line == homes[1])
		count_away(quick, homes[0], -1);
	return copy;
}

/* Where both lines are full another copy makes room and goes to its other line, and so on. */
static void place_copy(struct gm_quick *quick, struct copy copy)
{
	struct gm_quick_line *homes[2];
	struct gm_quick_line *line;

	homes_of(quick, &copy, homes);
	if (put(quick, homes[0], &copy))
		return;
	line = homes[1];
	for (unsigned int i = 0; i < PUSHES_MAX; i++) {
		struct copy pushed;

		if (put(quick, line, &copy))
			return;
		pushed = take(quick, (struct place){line, (i ^ copy.nth) & 1});
		put(quick, line, &copy);
		copy = pushed;
		homes_of(quick, &copy, homes);
		line = line == homes[0] ? homes[1] : homes[0];
	}
	quick->nr_left_out++;
}

/* ---- mappings ---- */

static void count_class(struct gm_quick *quick, const struct gm_translation *mapping, bool add)
{
	unsigned int class = class_of(mapping);
	uint64_t bit = UINT64_C(1) << class;

	quick->nr_class[class] += add ? 1u : -1u;
	if (quick->nr_class[class] == add)
		__atomic_store_n(&quick->classes, quick->classes ^ bit, __ATOMIC_RELAXED);
}

void gm_quick_add(struct gm_quick *quick, const struct gm_translation *mapping)
{
	unsigned int nr = nr_copies(mapping);

	count_class(quick, mapping, true);
	for (unsigned int i = 0; i < nr; i++)
		place_copy(quick, (struct copy){*mapping, i});
}

void gm_quick_remove(struct gm_quick *quick, const struct gm_translation *mapping)
{
	unsigned int nr = nr_copies(mapping);

	for (unsigned int i = 0; i < nr; i++) {
		struct copy copy = {*mapping, i};
		struct place place;

		if (find_copy(quick, &copy, &place))
			take(quick, place);
		else
			quick->nr_left_out--;
	}
	count_class(quick, mapping, false);
}

void gm_quick_refill(struct gm_quick *quick, const struct gm_translation *mapping)
{
	unsigned int nr = nr_copies(mapping);

	for (unsigned int i = 0; i < nr && quick->nr_left_out > 0; i++) {
		struct copy copy = {*mapping, i};
		struct place place;

		if (find_copy(quick, &copy, &place))
			continue;
		quick->nr_left_out--;
		place_copy(quick, copy);
	}
}

bool gm_quick_take_reference(struct gm_quick *quick, const struct gm_translation *mapping)
{
	unsigned int nr = nr_copies(mapping);
	bool any = false;

	for (unsigned int i = 0; i < nr; i++) {
		struct copy copy = {*mapping, i};
		struct place place;
		uint8_t refs;

		if (!find_copy(quick, &copy, &place))
			continue;
		refs = __atomic_load_n(&place.line->refs, __ATOMIC_RELAXED);
		if (!(refs >> place.way & 1))
			continue;
		any = true;
		__atomic_store_n(
			&place.line->refs, (uint8_t)(refs & ~(1u << place.way)), __ATOMIC_RELAXED);
	}
	return any;
}

/* ---- readers, the rest ---- */

bool gm_quick_find_away(struct gm_quick *quick, uint64_t addr, struct gm_translation *ret)
{
	/* Pairs with the release in gm_quick_flush(). */
	uint64_t stamp = __atomic_load_n(&quick->stamp, __ATOMIC_ACQUIRE);
	uint64_t classes = __atomic_load_n(&quick->classes, __ATOMIC_RELAXED);

	while (classes) {
		unsigned int class = gm_quick_top_class(classes);
		uint64_t hash = gm_quick_hash(quick, addr >> class, class);
		enum gm_quick_answer answer = gm_quick_probe(
			&quick->lines[gm_quick_first_line(quick, hash)], stamp, addr, ret);

		if (answer == GM_QUICK_ELSEWHERE)
			answer = gm_quick_probe(
				&quick->lines[gm_quick_second_line(quick, hash)], stamp, addr, ret);
		if (answer == GM_QUICK_HIT)
			return true;
		classes ^= UINT64_C(1) << class;
	}
	return false;
}

/* ---- walkers ---- */

bool gm_quick_count(const struct gm_quick *quick, const struct gm_translation *mapping,
	uint64_t *here, uint64_t *left_out)
{
	unsigned int nr = nr_copies(mapping);

	for (unsigned int i = 0; i < nr; i++) {
		struct copy copy = {*mapping, i};
		struct place place;

		if (!find_copy(quick, &copy, &place)) {
			(*left_out)++;
			continue;
		}
		if (place.line->slot[place.way].delta != mapping->delta)
			return false;
		(*here)++;
	}
	return quick->classes >> class_of(mapping) & 1;
}

/* Each copy of the line is in one of its two lines. Adds those in their second one to *away. */
static bool line_is_valid(
	const struct gm_quick *quick, const struct gm_quick_line *line, uint64_t *away)
{
	for (unsigned int i = 0; i < GM_QUICK_WAYS; i++) {
		struct copy copy = copy_at(line, i);
		struct gm_quick_line *homes[2];

		if (!line->tag[i])
			continue;
		homes_of(quick, &copy, homes);
		if (line == homes[0])
			continue;
		if (line != homes[1] || !is_fresh(quick, homes[0]) || homes[0]->away == 0)
			return false;
		(*away)++;
	}
	return !(line->seq & 1);
}

bool gm_quick_is_valid(const struct gm_quick *quick, uint64_t here, uint64_t left_out)
{
	bool sticks = false;
	uint64_t counted = 0;
	uint64_t away = 0;
	uint64_t nr = 0;

	for (uint32_t i = 0; i < quick->nr_lines; i++) {
		const struct gm_quick_line *line = &quick->lines[i];

		if (!is_fresh(quick, line))
			continue;
		if (!line_is_valid(quick, line, &away))
			return false;
		nr += (line->tag[0] != 0u) + (uint64_t)(line->tag[1] != 0u);
		counted += line->away;
		sticks |= line->away == AWAY_STICKS;
	}
	for (unsigned int i = 0; i < GM_QUICK_CLASSES; i++) {
		if ((quick->nr_class[i] > 0) != (quick->classes >> i & 1))
			return false;
	}
	return nr == here && quick->nr_left_out == left_out && (counted == away || sticks);
}
