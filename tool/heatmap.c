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

void heatmap_merge(struct heatmap *map, uint64_t offset, const struct heatmap *from)
{
	for (size_t i = 0; i < from->nr; i++) {
		uint64_t at = offset + i * from->cell;

		for (int kind = 0; kind < HEAT_KINDS; kind++) {
			uint64_t bytes = from->cells[i].bytes[kind];

			heatmap_add(map, at, bytes, (enum heat_kind)kind);
			at += bytes;
		}
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

/* What a cell looks like: in part, full. Colours: blue, cyan, red, grey, magenta. */
static const struct look {
	const char *ascii[2];
	const char *unicode[2];
	const char *colour;
	const char *name;
} looks[HEAT_KINDS] = {
	[HEAT_BASE] = {{"b", "B"}, {"░", "▒"}, "\033[34m", "base"},
	[HEAT_MULTI] = {{"m", "M"}, {"▖", "▚"}, "\033[36m", "multi-size"},
	[HEAT_HUGE] = {{"h", "H"}, {"▄", "█"}, "\033[31m", "huge"},
	[HEAT_ZERO] = {{"z", "Z"}, {"∘", "○"}, "\033[90m", "zero page"},
	[HEAT_SWAPPED] = {{"s", "S"}, {"‹", "«"}, "\033[35m", "swapped"},
};

static void print_look(const struct look *look, bool full, enum heat_style style)
{
	if (style == HEAT_COLOUR)
		printf("%s%s\033[0m", look->colour, look->unicode[full]);
	else
		fputs(style == HEAT_ASCII ? look->ascii[full] : look->unicode[full], stdout);
}

/* The cells [first, end) as one character. */
static void print_cells(const struct heatmap *map, size_t first, size_t end, enum heat_style style)
{
	uint64_t size = end * map->cell < map->size ? end * map->cell : map->size;
	uint64_t bytes[HEAT_KINDS] = {0};
	uint64_t sum = 0;
	int most = 0;

	size -= first * map->cell;
	for (size_t i = first; i < end; i++) {
		for (int kind = 0; kind < HEAT_KINDS; kind++) {
			bytes[kind] += map->cells[i].bytes[kind];
			sum += map->cells[i].bytes[kind];
		}
	}
	for (int kind = 0; kind < HEAT_KINDS; kind++) {
		if (bytes[kind] > bytes[most])
			most = kind;
	}
	if (sum == 0)
		fputs(style == HEAT_ASCII ? "." : "·", stdout);
	else
		print_look(&looks[most], sum >= size, style);
}

void heatmap_print(
	const struct heatmap *map, unsigned int width, unsigned int lines, enum heat_style style)
{
	size_t max = (size_t)width * lines;
	size_t group = (map->nr + max - 1) / max;
	size_t column = 0;

	for (size_t i = 0; i < map->nr; i += group) {
		size_t end = i + group < map->nr ? i + group : map->nr;

		if (column == 0)
			printf("%16llx  ", (unsigned long long)(map->start + i * map->cell));
		print_cells(map, i, end, style);
		column = (column + 1) % width;
		if (column == 0 || end == map->nr)
			putchar('\n');
	}
}

void heatmap_print_legend(enum heat_style style)
{
	fputs("\nmap:", stdout);
	for (int kind = 0; kind < HEAT_KINDS; kind++) {
		putchar(' ');
		print_look(&looks[kind], false, style);
		putchar(' ');
		print_look(&looks[kind], true, style);
		printf(" %s,", looks[kind].name);
	}
	printf(" %s absent (a character of the pair: in part, full)\n",
		style == HEAT_ASCII ? "." : "·");
}
