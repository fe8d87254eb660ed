/* SPDX-License-Identifier: BSD-3-Clause */
/* heatmap.c - cells of memory, and their picture in characters. */
#include "heatmap.h"

#include <stdlib.h>
#include <string.h>

#include "tool.h"

struct heatmap *heatmap_new(uint64_t start, uint64_t size, uint64_t page, size_t nr_max)
{
	struct heatmap *map = tool_alloc(1, sizeof(*map));
	uint64_t cell = size / nr_max + (size % nr_max != 0);

	cell = (cell + page - 1) / page * page;
	map->start = start;
	map->size = size;
	map->cell = cell ? cell : page;
	map->nr = (size_t)(size / map->cell + (size % map->cell != 0));
	map->cells = tool_alloc(map->nr, sizeof(*map->cells));
	return map;
}

void heatmap_free(struct heatmap *map)
{
	if (!map)
		return;
	free(map->cells);
	free(map);
}

void heatmap_add(struct heatmap *map, uint64_t offset, uint64_t len, enum heat_kind kind)
{
	if (offset >= map->size)
		return;
	if (len > map->size - offset)
		len = map->size - offset;
	while (len > 0) {
		uint64_t some = map->cell - offset % map->cell;

		if (some > len)
			some = len;
		map->cells[offset / map->cell].bytes[kind] += some;
		offset += some;
		len -= some;
	}
}

enum heat_kind heatmap_kind(uint32_t page_log2, uint32_t base_log2, uint32_t pmd_log2)
{
	if (page_log2 <= base_log2)
		return HEAT_BASE;
	return page_log2 < pmd_log2 ? HEAT_MULTI : HEAT_HUGE;
}

bool heatmap_is_file_name(const char *path)
{
	size_t len = strlen(path);

	return len > 4 &&
	       (strcmp(path + len - 4, ".png") == 0 || strcmp(path + len - 4, ".svg") == 0);
}

/* The kind that most of a cell has, and how full it is in quarters (0: nothing, 4: full). */
static unsigned int cell_level(const struct heatmap *map, size_t i, enum heat_kind *ret_kind)
{
	const struct heat_cell *c = &map->cells[i];
	uint64_t size = map->cell;
	uint64_t sum = 0;

	*ret_kind = HEAT_BASE;
	if (i + 1 == map->nr && map->size % map->cell)
		size = map->size % map->cell;
	for (int kind = 0; kind < HEAT_KINDS; kind++) {
		sum += c->bytes[kind];
		if (c->bytes[kind] > c->bytes[*ret_kind])
			*ret_kind = (enum heat_kind)kind;
	}
	return sum == 0 ? 0 : (unsigned int)((sum * 4 + size - 1) / size);
}

static const char *cell_text(unsigned int level, enum heat_kind kind, bool ascii)
{
	static const char *const shades[] = {"·", "░", "▒", "▓", "█"};
	static const char letters[HEAT_KINDS][2] = {"b", "m", "h", "z", "s"};
	static const char capitals[HEAT_KINDS][2] = {"B", "M", "H", "Z", "S"};

	if (!ascii)
		return shades[level];
	if (level == 0)
		return ".";
	return level == 4 ? capitals[kind] : letters[kind];
}

/* Foreground colours of a terminal: blue, cyan, red, grey, magenta. */
static const char *const colours[HEAT_KINDS] = {
	"\033[34m", "\033[36m", "\033[31m", "\033[90m", "\033[35m"};

void heatmap_print(const struct heatmap *map, unsigned int width, bool ascii)
{
	for (size_t i = 0; i < map->nr; i++) {
		enum heat_kind kind;
		unsigned int level = cell_level(map, i, &kind);

		if (i % width == 0)
			printf("%s%12llx  ", i ? "\n" : "",
				(unsigned long long)(map->start + i * map->cell));
		if (!ascii && level)
			printf("%s%s\033[0m", colours[kind], cell_text(level, kind, ascii));
		else
			fputs(cell_text(level, kind, ascii), stdout);
	}
	fputs("\n\n              ", stdout);
	if (ascii)
		puts("B base, M multi-size, H huge, Z zero page, S swapped; small letter: in part; "
		     ". absent");
	else
		printf("%s█\033[0m base  %s█\033[0m multi-size  %s█\033[0m huge  %s█\033[0m zero "
		       "page  "
		       "%s█\033[0m swapped  · absent\n",
			colours[HEAT_BASE], colours[HEAT_MULTI], colours[HEAT_HUGE],
			colours[HEAT_ZERO], colours[HEAT_SWAPPED]);
}
