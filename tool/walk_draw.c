/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_draw.c - loads of a TLB miss, and what was measured, as bars. */
#include <string.h>

#include "picture.h"
#include "walk.h"

#define WIDTH 760.0
#define LEFT 64.0
#define PANEL 250.0 /* points of a panel, bars and captions */
#define BARS 180.0  /* of the tallest bar */
#define TOP 60.0
#define BAR 34.0

static const struct {
	double r, g, b;
} inks[WALK_SIDES_MAX] = {
	{0.16, 0.44, 0.78},
	{0.10, 0.62, 0.55},
	{0.85, 0.33, 0.10},
	{0.55, 0.27, 0.67},
};

bool walk_draw_available(void)
{
	return true;
}

static void set_ink(cairo_t *cr, size_t i)
{
	cairo_set_source_rgb(cr, inks[i].r, inks[i].g, inks[i].b);
}

/* A bar that stands on @floor, with its number on top. */
static void draw_bar(
	cairo_t *cr, double x, double floor, double height, size_t ink, const char *text)
{
	set_ink(cr, ink);
	cairo_rectangle(cr, x, floor - height, BAR - 4, height);
	cairo_fill(cr);
	picture_text(cr, x, floor - height - 4, 10, text);
}

static void draw_floor(cairo_t *cr, double floor)
{
	cairo_set_source_rgb(cr, 0.4, 0.4, 0.4);
	cairo_set_line_width(cr, 1);
	cairo_move_to(cr, LEFT - 8, floor + 0.5);
	cairo_line_to(cr, WIDTH - 24, floor + 0.5);
	cairo_stroke(cr);
}

static void draw_line(cairo_t *cr, double x, double y, double len)
{
	const double dashes[] = {3, 3};

	cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
	cairo_set_dash(cr, dashes, 2, 0);
	cairo_move_to(cr, x, y);
	cairo_line_to(cr, x + len, y);
	cairo_stroke(cr);
	cairo_set_dash(cr, NULL, 0, 0);
}

static double most_loads(const struct walk *w)
{
	uint64_t most = 1;

	for (size_t i = 0; i < w->nr_rows; i++) {
		if (w->rows[i].mean[w->paging].milliloads > most)
			most = w->rows[i].mean[w->paging].milliloads;
		if (w->rows[i].mean[GM_WALK_NATIVE].milliloads > most)
			most = w->rows[i].mean[GM_WALK_NATIVE].milliloads;
	}
	return (double)most;
}

/* A group for each guest, a bar for each host in it, the native walk as a dashed line. */
static void draw_loads(cairo_t *cr, const struct walk *w)
{
	double group = (WIDTH - LEFT - 24) / (double)w->nr_guests;
	double most = most_loads(w);
	double floor = TOP + BARS;
	char text[160];

	for (size_t i = 0; i < w->nr_rows; i++) {
		const struct walk_row *row = &w->rows[i];
		double loads = (double)row->mean[w->paging].milliloads;
		double native = (double)row->mean[GM_WALK_NATIVE].milliloads;
		double x = LEFT + group * row->guest;

		snprintf(text, sizeof(text),
			loads / 1000 == (double)(int)(loads / 1000) ? "%.0f" : "%.2f",
			loads / 1000);
		draw_bar(cr, x + BAR * row->host, floor, BARS * loads / most, row->host, text);
		if (row->host + 1 < w->nr_hosts)
			continue;
		/* Over the bars. */
		draw_line(cr, x - 4, floor - BARS * native / most, BAR * (double)w->nr_hosts);
		snprintf(text, sizeof(text), "guest %s", w->guests[row->guest].label);
		picture_text(cr, x, floor + 16, 12, text);
	}
	draw_floor(cr, floor);
}

static void draw_legend(cairo_t *cr, const struct walk *w)
{
	double y = TOP + BARS + 30;
	char text[128];

	for (size_t h = 0; h < w->nr_hosts; h++) {
		double x = LEFT + 130 * (double)h;

		set_ink(cr, h);
		cairo_rectangle(cr, x, y, 10, 10);
		cairo_fill(cr);
		snprintf(text, sizeof(text), "host %.20s", w->hosts[h].label);
		picture_text(cr, x + 14, y + 9, 10, text);
	}
	picture_text(cr, LEFT + 130 * (double)w->nr_hosts, y + 9, 10, "dashed: native");
}

static void draw_measured(cairo_t *cr, const struct walk_measured *m, double top)
{
	double floor = top + TOP + BARS;
	double most = 1;
	char text[200];
	size_t at = 0;

	for (size_t i = 0; i < m->nr; i++) {
		if (!m->series[i].skipped && m->series[i].ns > most)
			most = m->series[i].ns;
	}
	snprintf(text, sizeof(text),
		"measured in this process: ns for a dependent load, quartiles of "
		"noise %.3f to %.3f",
		m->again.low, m->again.high);
	picture_text(cr, 12, top + 28, 15, text);
	for (size_t i = 0; i < m->nr; i++) {
		double x = LEFT + 120 * (double)at;

		if (m->series[i].skipped)
			continue;
		snprintf(text, sizeof(text), "%.1f", m->series[i].ns);
		draw_bar(cr, x, floor, BARS * m->series[i].ns / most, 0, text);
		picture_text(cr, x, floor + 16, 12, m->series[i].label);
		at++;
	}
	draw_floor(cr, floor);
}

static void draw_all(cairo_t *cr, void *ctx)
{
	const struct walk *w = ctx;
	char text[300];
	char name[128];

	snprintf(text, sizeof(text), "loads for one TLB miss, %s, levels %u x %u (computed)",
		walk_paging_names[w->paging], w->opts.guest_levels, w->opts.host_levels);
	if (w->has_live)
		snprintf(text, sizeof(text),
			"%s, process %d: loads for one TLB miss, %s (computed)",
			tool_escape(w->live.name, name, sizeof(name)), (int)w->live.pid,
			walk_paging_names[w->paging]);
	picture_text(cr, 12, 28, 15, text);
	draw_loads(cr, w);
	draw_legend(cr, w);
	if (w->has_measured)
		draw_measured(cr, &w->measured, PANEL + TOP);
}

bool walk_draw(const struct walk *w, struct tool_output *out)
{
	struct walk copy = *w; /* cairo's callback has no const */
	double height = PANEL + TOP;

	return picture_write(out, WIDTH, w->has_measured ? 2 * height : height, draw_all, &copy);
}
