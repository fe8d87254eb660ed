/* SPDX-License-Identifier: BSD-3-Clause */
/* slowdown_draw.c - operations a second over time, a line for each way of moving. */
#include <stdio.h>

#include "../tool/picture.h"
#include "slowdown.h"

#define WIDTH 860.0
#define HEIGHT 420.0
#define LEFT 56.0
#define RIGHT 16.0
#define TOP 84.0
#define BOTTOM 44.0

static const struct {
	double r, g, b;
} inks[SLOWDOWN_WAYS] = {
	{0.45, 0.45, 0.45},
	{0.16, 0.44, 0.78},
	{0.85, 0.33, 0.10},
	{0.10, 0.62, 0.45},
};

struct chart {
	struct slowdown *const *s;
	const char *about;
	double most;    /* operations a second */
	uint32_t whole; /* a grid line for each so many millions of them */
	double first;   /* seconds */
	double last;
};

static void measure(struct chart *c)
{
	for (uint32_t way = 0; way < SLOWDOWN_WAYS; way++) {
		const struct slowdown *s = c->s[way];
		double seconds = (double)(s->nr_bins - s->before) * SLOWDOWN_MS / 1000;

		for (uint32_t i = 0; i < s->nr_bins; i++)
			c->most = s->bins[i] > c->most ? s->bins[i] : c->most;
		c->last = seconds > c->last ? seconds : c->last;
		c->first = -(double)s->before * SLOWDOWN_MS / 1000;
	}
	c->whole = 1;
	while (c->most / 1e6 / c->whole > 8)
		c->whole += c->whole < 5 ? 1 : 5;
}

static double x_of(const struct chart *c, double seconds)
{
	return LEFT + (WIDTH - LEFT - RIGHT) * (seconds - c->first) / (c->last - c->first);
}

static double y_of(const struct chart *c, double rate)
{
	return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / c->most;
}

static void line(cairo_t *cr, double x0, double y0, double x1, double y1, double grey)
{
	cairo_set_source_rgb(cr, grey, grey, grey);
	cairo_set_line_width(cr, 1);
	cairo_move_to(cr, x0, y0);
	cairo_line_to(cr, x1, y1);
	cairo_stroke(cr);
}

static void draw_axes(cairo_t *cr, const struct chart *c)
{
	const double dashes[] = {4, 3};
	double step = c->last - c->first > 6 ? 1 : 0.5;
	char text[32];

	for (uint32_t i = 0; i * c->whole * 1e6 <= c->most; i++) {
		double y = y_of(c, i * c->whole * 1e6);

		line(cr, LEFT, y, WIDTH - RIGHT, y, i ? 0.88 : 0.3);
		snprintf(text, sizeof(text), i ? "%u M/s" : "%u", i * c->whole);
		picture_text(cr, 8, y + 4, 11, text);
	}
	for (double at = c->first; at <= c->last + 0.001; at += step) {
		line(cr, x_of(c, at), HEIGHT - BOTTOM, x_of(c, at), HEIGHT - BOTTOM + 4, 0.3);
		snprintf(text, sizeof(text), "%g s", at);
		picture_text(cr, x_of(c, at) - 8, HEIGHT - BOTTOM + 17, 11, text);
	}
	cairo_set_dash(cr, dashes, 2, 0);
	line(cr, x_of(c, 0), TOP, x_of(c, 0), HEIGHT - BOTTOM, 0.1);
	cairo_set_dash(cr, NULL, 0, 0);
	picture_text(cr, x_of(c, 0) - 44, HEIGHT - 10, 11, "the move begins");
}

/* A point for each interval, in its middle. */
static void draw_way(cairo_t *cr, const struct chart *c, uint32_t way)
{
	const struct slowdown *s = c->s[way];
	double each = (double)SLOWDOWN_MS / 1000;

	cairo_set_source_rgb(cr, inks[way].r, inks[way].g, inks[way].b);
	cairo_set_line_width(cr, 1.3);
	cairo_new_path(cr); /* text has left a point */
	for (uint32_t i = 0; i < s->nr_bins; i++) {
		double at = ((double)i + 0.5 - s->before) * each;

		cairo_line_to(cr, x_of(c, at), y_of(c, s->bins[i]));
	}
	cairo_stroke(cr);
}

static void draw_legend(cairo_t *cr)
{
	for (uint32_t way = 0; way < SLOWDOWN_WAYS; way++) {
		double x = LEFT + 170.0 * way;

		cairo_set_source_rgb(cr, inks[way].r, inks[way].g, inks[way].b);
		cairo_rectangle(cr, x, 58, 14, 4);
		cairo_fill(cr);
		picture_text(cr, x + 20, 64, 11, slowdown_name((enum slowdown_way)way));
	}
}

static void draw_all(cairo_t *cr, void *ctx)
{
	const struct chart *c = ctx;

	picture_text(cr, 12, 24, 15, "What a guest gets done while it is moved");
	picture_text(cr, 12, 42, 11, c->about);
	draw_axes(cr, c);
	for (uint32_t way = 0; way < SLOWDOWN_WAYS; way++)
		draw_way(cr, c, way);
	draw_legend(cr);
}

bool slowdown_draw(const char *path, struct slowdown *const s[SLOWDOWN_WAYS], const char *about)
{
	struct chart c = {.s = s, .about = about, .most = 1};
	struct tool_output out;
	bool well;

	measure(&c);
	well = tool_output_open(&out, path, false) &&
	       picture_write(&out, WIDTH, HEIGHT, draw_all, &c) &&
	       fputs("<!-- SPDX-License-Identifier: BSD-3-Clause -->\n", out.file) >= 0;
	return tool_output_close(&out) && well;
}
