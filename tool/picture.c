/* SPDX-License-Identifier: BSD-3-Clause */
/* picture.c - pictures into files, by cairo. */
#include "picture.h"

#include <errno.h>
#include <string.h>

#include <cairo-svg.h>

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

void picture_text(cairo_t *cr, double x, double y, double size, const char *text)
{
	cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
	cairo_set_font_size(cr, size);
	cairo_move_to(cr, x, y);
	cairo_show_text(cr, text);
}

static bool ends_in_svg(const char *path)
{
	size_t len = strlen(path);

	return len >= 4 && strcmp(path + len - 4, ".svg") == 0;
}

bool picture_write(struct tool_output *out, double width, double height,
	void (*draw)(cairo_t *cr, void *ctx), void *ctx)
{
	struct sink sink = {.file = tool_output_begin(out)};
	bool svg = ends_in_svg(out->path);
	cairo_surface_t *surface;
	cairo_status_t status;
	cairo_t *cr;

	if (!sink.file)
		return false;
	surface = svg ? cairo_svg_surface_create_for_stream(write_bytes, &sink, width, height)
		      : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
	cr = cairo_create(surface);
	cairo_set_source_rgb(cr, 1, 1, 1);
	cairo_paint(cr);
	cairo_select_font_face(cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
	draw(cr, ctx);
	status = cairo_status(cr);
	cairo_destroy(cr);
	if (!svg && status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_write_to_png_stream(surface, write_bytes, &sink);
	cairo_surface_finish(surface);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(surface);
	cairo_surface_destroy(surface);
	errno = 0;
	if (status == CAIRO_STATUS_SUCCESS && fflush(sink.file) == 0)
		return true;
	if (status == CAIRO_STATUS_NO_MEMORY)
		sink.error = ENOMEM;
	return tool_output_failed(out, sink.error ? sink.error : errno);
}
