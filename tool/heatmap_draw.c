/* SPDX-License-Identifier: BSD-3-Clause */
/* heatmap_draw.c - heat maps as PNG and SVG files, by cairo. */
#include "heatmap.h"
#include "picture.h"
#include "tool.h"

#define COLUMNS 64
#define CELL 12.0 /* points, with the gap */
#define LEFT 120.0
#define TOP 48.0
#define BOTTOM 64.0
#define RIGHT 24.0

static const struct {
	double r, g, b;
	const char *name;
} inks[HEAT_KINDS] = {
	[HEAT_BASE] = {0.16, 0.44, 0.78, "base pages"},
	[HEAT_MULTI] = {0.10, 0.62, 0.55, "multi-size"},
	[HEAT_HUGE] = {0.85, 0.33, 0.10, "huge pages"},
	[HEAT_ZERO] = {0.60, 0.60, 0.60, "zero page"},
	[HEAT_SWAPPED] = {0.55, 0.27, 0.67, "swapped"},
};

bool heatmap_built(void)
{
	return true;
}

bool heatmap_available(void)
{
	return true;
}

/* The share of each kind mixes its colour into the paper's. */
static void set_ink(cairo_t *cr, const struct heatmap *map, size_t i)
{
	double r = 0.94;
	double g = 0.94;
	double b = 0.94;

	for (int kind = 0; kind < HEAT_KINDS; kind++) {
		double share = (double)map->cells[i].bytes[kind] / (double)map->cell;

		/* A single page of a large cell must still be seen. */
		if (share > 0)
			share = 0.25 + 0.75 * share;
		if (share > 1)
			share = 1;
		r += share * (inks[kind].r - r);
		g += share * (inks[kind].g - g);
		b += share * (inks[kind].b - b);
	}
	cairo_set_source_rgb(cr, r, g, b);
}

static void draw_cells(cairo_t *cr, const struct heatmap *map)
{
	for (size_t i = 0; i < map->nr; i++) {
		double x = LEFT + (double)(i % COLUMNS) * CELL;
		size_t row = i / COLUMNS;
		double y = TOP + (double)row * CELL;
		char label[32];

		if (i % COLUMNS == 0 && row % 8 == 0) {
			snprintf(label, sizeof(label), "0x%llx",
				(unsigned long long)(map->start + i * map->cell));
			picture_text(cr, 12, y + CELL - 3, 10, label);
		}
		set_ink(cr, map, i);
		cairo_rectangle(cr, x, y, CELL - 1, CELL - 1);
		cairo_fill(cr);
	}
}

static void draw_legend(cairo_t *cr, const struct heatmap *map, double y)
{
	double x = LEFT;

	for (int kind = 0; kind < HEAT_KINDS; kind++) {
		char bytes[TOOL_UNIT_CAP];
		char label[64];
		uint64_t sum = 0;

		for (size_t i = 0; i < map->nr; i++)
			sum += map->cells[i].bytes[kind];
		cairo_set_source_rgb(cr, inks[kind].r, inks[kind].g, inks[kind].b);
		cairo_rectangle(cr, x, y, CELL - 1, CELL - 1);
		cairo_fill(cr);
		snprintf(label, sizeof(label), "%s %s", inks[kind].name, tool_bytes(sum, bytes));
		picture_text(cr, x + CELL + 2, y + CELL - 3, 10, label);
		x += 150;
	}
}

struct job {
	const struct heatmap *map;
	const char *title;
	double height;
};

static void draw_all(cairo_t *cr, void *ctx)
{
	const struct job *job = ctx;
	char bytes[TOOL_UNIT_CAP];
	char line[200];

	picture_text(cr, 12, 28, 15, tool_escape(job->title, line, sizeof(line)));
	draw_cells(cr, job->map);
	draw_legend(cr, job->map, job->height - BOTTOM + 14);
	snprintf(line, sizeof(line), "one square is %s", tool_bytes(job->map->cell, bytes));
	picture_text(cr, LEFT, job->height - 14, 10, line);
}

bool heatmap_draw(const struct heatmap *map, const char *title, struct tool_output *out)
{
	size_t rows = (map->nr + COLUMNS - 1) / COLUMNS;
	struct job job = {map, title, TOP + (double)rows * CELL + BOTTOM};

	return picture_write(out, LEFT + COLUMNS * CELL + RIGHT, job.height, draw_all, &job);
}
