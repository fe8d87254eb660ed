/* SPDX-License-Identifier: BSD-3-Clause */
/* heatmap_draw.c - heat maps as PNG and SVG files, by cairo. */
#include <errno.h>
#include <string.h>

#include <cairo-svg.h>
#include <cairo.h>

#include "heatmap.h"
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

static void draw_text(cairo_t *cr, double x, double y, double size, const char *text)
{
	cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
	cairo_set_font_size(cr, size);
	cairo_move_to(cr, x, y);
	cairo_show_text(cr, text);
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
			draw_text(cr, 12, y + CELL - 3, 10, label);
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
		draw_text(cr, x + CELL + 2, y + CELL - 3, 10, label);
		x += 150;
	}
}

static void draw_all(cairo_t *cr, const struct heatmap *map, const char *title, double height)
{
	char bytes[TOOL_UNIT_CAP];
	char line[200];

	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	draw_text(cr, 12, 28, 15, tool_escape(title, line, sizeof(line)));
	draw_cells(cr, map);
	draw_legend(cr, map, height - BOTTOM + 14);
	snprintf(line, sizeof(line), "one square is %s", tool_bytes(map->cell, bytes));
	draw_text(cr, LEFT, height - 14, 10, line);
}

/* Where the picture goes, and why it could not. */
struct sink {
	FILE *file;
	int error;
};

static cairo_status_t write_bytes(void *closure, const unsigned char *data, unsigned int len)
{
	struct sink *sink = closure;

	errno = 0;
	if (fwrite(data, 1, len, sink->file) == len)
		return CAIRO_STATUS_SUCCESS;
	if (!sink->error)
		sink->error = errno;
	return CAIRO_STATUS_WRITE_ERROR;
}

static cairo_status_t draw_into(
	struct sink *sink, const struct heatmap *map, const char *title, bool svg)
{
	double width = LEFT + COLUMNS * CELL + RIGHT;
	size_t rows = (map->nr + COLUMNS - 1) / COLUMNS;
	double height = TOP + (double)rows * CELL + BOTTOM;
	cairo_surface_t *surface =
		svg ? cairo_svg_surface_create_for_stream(write_bytes, sink, width, height)
		    : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
	cairo_t *cr = cairo_create(surface);
	cairo_status_t status;

	draw_all(cr, map, title, height);
	status = cairo_status(cr);
	cairo_destroy(cr);
	if (!svg && status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_write_to_png_stream(surface, write_bytes, sink);
	cairo_surface_finish(surface);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	return status;
}

bool heatmap_draw(const struct heatmap *map, const char *title, struct tool_output *out)
{
	const char *end = out->path + strlen(out->path) - 4;
	struct sink sink = {.file = tool_output_begin(out)};
	cairo_status_t status;

	if (!sink.file)
		return false;
	status = draw_into(&sink, map, title, strcmp(end, ".svg") == 0);
	errno = 0;
	if (status == CAIRO_STATUS_SUCCESS && fflush(sink.file) == 0)
		return true;
	if (status == CAIRO_STATUS_NO_MEMORY)
		sink.error = ENOMEM;
	return tool_output_failed(out, sink.error ? sink.error : errno);
}
