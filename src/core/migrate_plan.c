/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_plan.c - see migrate_plan.h. */
#include "core/migrate_plan.h"

#include <assert.h>
#include <string.h>

/* ---- pages ---- */

static uint64_t pages_of(const struct gm_migrate_region *region)
{
	return region->len >> GM_MIGRATE_PAGE_LOG2;
}

void gm_migrate_map_init(struct gm_migrate_map *map, const struct gm_migrate_region *regions,
	uint32_t nr, uint64_t *starts)
{
	*map = (struct gm_migrate_map){.regions = regions, .starts = starts, .nr = nr};
	for (uint32_t i = 0; i < nr; i++) {
		starts[i] = map->pages;
		map->pages += pages_of(&regions[i]);
	}
}

bool gm_migrate_map_bits(const struct gm_migrate_map *map, const struct gm_migrate_place *place,
	struct gm_range *ret_bits)
{
	uint64_t pages;

	if (place->region >= map->nr || !place->nr)
		return false;
	pages = pages_of(&map->regions[place->region]);
	if (place->first >= pages || place->nr > pages - place->first)
		return false;
	return gm_range_make(map->starts[place->region] + place->first, place->nr, ret_bits);
}

static uint32_t region_of(const struct gm_migrate_map *map, uint64_t bit)
{
	uint32_t low = 0;
	uint32_t high = map->nr - 1;

	while (low < high) {
		uint32_t middle = high - (high - low) / 2;

		if (map->starts[middle] <= bit)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

struct gm_migrate_place gm_migrate_map_place(
	const struct gm_migrate_map *map, const struct gm_range *bits)
{
	uint32_t region = region_of(map, bits->first);

	return (struct gm_migrate_place){.region = region,
		.nr = (uint32_t)gm_range_len(bits),
		.first = bits->first - map->starts[region]};
}

/* The last bit of the region, or less: @most bits. */
static uint64_t end_of(const struct gm_migrate_map *map, const struct gm_range *bits, uint64_t most)
{
	uint32_t region = region_of(map, bits->first);
	uint64_t last = map->starts[region] + (pages_of(&map->regions[region]) - 1);

	last = bits->last < last ? bits->last : last;
	return last - bits->first >= most ? bits->first + (most - 1) : last;
}

bool gm_migrate_map_cut(const struct gm_migrate_map *map, struct gm_range *bits, uint64_t most,
	struct gm_migrate_place *ret_place)
{
	struct gm_range part = {bits->first, end_of(map, bits, most)};
	bool more = part.last < bits->last;

	*ret_place = gm_migrate_map_place(map, &part);
	bits->first = more ? part.last + 1 : bits->first;
	return more;
}

bool gm_migrate_map_next(const struct gm_migrate_map *map, const uint64_t *words, uint64_t from,
	uint64_t last, uint64_t most, struct gm_range *ret_bits)
{
	if (from > last || !gm_bits_next(words, from, last, ret_bits))
		return false;
	ret_bits->last = end_of(map, ret_bits, most);
	return true;
}

uint64_t gm_migrate_map_fill(const struct gm_migrate_map *map, uint64_t *words)
{
	uint64_t nr = 0;

	memset(words, 0, gm_bits_words(map->pages) * sizeof(*words));
	for (uint32_t i = 0; i < map->nr; i++) {
		struct gm_range bits;

		if (map->regions[i].by_fd ||
			!gm_range_make(map->starts[i], pages_of(&map->regions[i]), &bits))
			continue;
		gm_bits_set(words, &bits);
		nr += gm_range_len(&bits);
	}
	return nr;
}

/* ---- connections ---- */

void gm_migrate_line_begin(
	struct gm_migrate_line *line, uint32_t epoch, uint32_t bulk, uint32_t urgent, uint64_t now)
{
	*line = (struct gm_migrate_line){.epoch = epoch,
		.bulk = bulk,
		.urgent = urgent,
		.wanted = gm_migrate_slots(bulk, urgent),
		.heard = now,
		.pinged = now,
		.opening = GM_MIGRATE_NEVER};
}

void gm_migrate_line_open(struct gm_migrate_line *line, uint32_t slot, uint64_t now)
{
	line->open |= 1u << slot;
	line->moved[slot] = now;
	line->heard = now;
}

void gm_migrate_line_moved(
	struct gm_migrate_line *line, uint32_t slot, bool in, bool busy, uint64_t now)
{
	line->moved[slot] = now;
	line->busy = busy ? line->busy | 1u << slot : line->busy & ~(1u << slot);
	if (in)
		line->heard = now;
}

const char *gm_migrate_line_fault(
	const struct gm_migrate_line *line, const struct gm_migrate_times *times, uint64_t now)
{
	if (line->open != line->wanted && now >= line->opening)
		return "a connection did not open in time";
	if (!line->open)
		return NULL;
	if (now >= gm_migrate_after(line->heard, times->line_ns))
		return "the peer is silent";
	for (uint32_t slot = 0; slot < GM_MIGRATE_SLOTS; slot++) {
		if ((line->open & line->busy) >> slot & 1 &&
			now >= gm_migrate_after(line->moved[slot], times->line_ns))
			return "a message has stopped half way";
	}
	return NULL;
}

static uint64_t asked(const struct gm_migrate_line *line)
{
	return line->heard > line->pinged && !line->mute ? line->heard : line->pinged;
}

bool gm_migrate_line_ping(
	struct gm_migrate_line *line, const struct gm_migrate_times *times, uint64_t now)
{
	if (!(line->open & 1) || now < gm_migrate_after(asked(line), times->ping_ns))
		return false;
	line->pinged = now;
	return true;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t gm_migrate_line_due(
	const struct gm_migrate_line *line, const struct gm_migrate_times *times)
{
	uint64_t due = line->open != line->wanted ? line->opening : GM_MIGRATE_NEVER;

	if (!line->open)
		return due;
	due = least(due, gm_migrate_after(line->heard, times->line_ns));
	if (line->open & 1)
		due = least(due, gm_migrate_after(asked(line), times->ping_ns));
	for (uint32_t slot = 0; slot < GM_MIGRATE_SLOTS; slot++) {
		if ((line->open & line->busy) >> slot & 1)
			due = least(due, gm_migrate_after(line->moved[slot], times->line_ns));
	}
	return due;
}

/* ---- actions ---- */

void gm_migrate_push(struct gm_migrate_queue *queue, const struct gm_migrate_action *action)
{
	assert(queue->nr < GM_MIGRATE_QUEUE);
	queue->at[(queue->first + queue->nr++) % GM_MIGRATE_QUEUE] = *action;
}

void gm_migrate_push_send(
	struct gm_migrate_queue *queue, uint32_t slot, uint32_t type, uint64_t number)
{
	gm_migrate_push(queue,
		&(struct gm_migrate_action){
			.what = GM_MIGRATE_DO_SEND, .slot = slot, .type = type, .number = number});
}

bool gm_migrate_pop(struct gm_migrate_queue *queue, struct gm_migrate_action *ret)
{
	if (!queue->nr)
		return false;
	*ret = queue->at[queue->first];
	queue->first = (queue->first + 1) % GM_MIGRATE_QUEUE;
	queue->nr--;
	return true;
}

void gm_migrate_queue_unsend(struct gm_migrate_queue *queue)
{
	uint32_t nr = queue->nr;

	for (uint32_t i = 0; i < nr; i++) {
		struct gm_migrate_action action;

		(void)gm_migrate_pop(queue, &action);
		if (action.what != GM_MIGRATE_DO_OPEN && action.what != GM_MIGRATE_DO_SEND &&
			action.what != GM_MIGRATE_DO_HOLD && action.what != GM_MIGRATE_DO_CONTINUE)
			gm_migrate_push(queue, &action);
	}
}
