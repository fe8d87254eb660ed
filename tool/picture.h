/* SPDX-License-Identifier: BSD-3-Clause */
/* picture.h - pictures into files, by cairo. Only what is built with it includes this. */
#ifndef TOOL_PICTURE_H
#define TOOL_PICTURE_H

#include <stdbool.h>

#include <cairo.h>

#include "tool.h"

/* Calls @draw on an empty picture of that many points, and writes it into @out: an SVG if that is
 * how its name ends, else a PNG. False after a message. */
bool picture_write(struct tool_output *out, double width, double height,
	void (*draw)(cairo_t *cr, void *ctx), void *ctx);
/* Dark text whose baseline begins at @x, @y. */
void picture_text(cairo_t *cr, double x, double y, double size, const char *text);

#endif
