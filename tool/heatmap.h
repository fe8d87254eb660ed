/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * heatmap.h - where in a stretch of memory pages are present, by kind of page.
 *
 * The stretch is divided into cells; pieces are added as they are found; the result is drawn into a
 * PNG or SVG file (cairo) or as lines of characters.
 */
#ifndef TOOL_HEATMAP_H
#define TOOL_HEATMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tool_output;

enum heat_kind {
	HEAT_BASE,    /* present in base pages */
	HEAT_MULTI,   /* in sizes between base pages and 2 MiB */
	HEAT_HUGE,    /* 2 MiB and more */
	HEAT_ZERO,    /* the zero page */
	HEAT_SWAPPED, /* swapped out */
	HEAT_KINDS,
};

struct heat_cell {
	uint64_t bytes[HEAT_KINDS];
};

struct heatmap {
	uint64_t start; /* what the first byte is called: an address, or 0 for an offset */
	uint64_t size;
	uint64_t cell; /* bytes */
	size_t nr;
	struct heat_cell *cells;
};

/* At most @nr_max cells of a multiple of @page bytes. */
struct heatmap *heatmap_new(uint64_t start, uint64_t size, uint64_t page, size_t nr_max);
void heatmap_free(struct heatmap *map);
/* @offset from the start; what lies outside is cut off. */
void heatmap_add(struct heatmap *map, uint64_t offset, uint64_t len, enum heat_kind kind);
/* Adds all of @from, whose start goes to @offset; inside its cells the places of pages are not
 * known any more. */
void heatmap_merge(struct heatmap *map, uint64_t offset, const struct heatmap *from);
/* The kind of present pages of a size. */
enum heat_kind heatmap_kind(uint32_t page_log2, uint32_t base_log2, uint32_t pmd_log2);

/* Ends in .png or .svg? */
bool heatmap_is_file_name(const char *path);
/* Can this build draw? */
bool heatmap_built(void);
/* False after a message if it cannot. */
bool heatmap_available(void);
/* Draws into @out, a PNG or SVG by the end of its name. False after a message. */
bool heatmap_draw(const struct heatmap *map, const char *title, struct tool_output *out);
enum heat_style { HEAT_ASCII, HEAT_UNICODE, HEAT_COLOUR };

/* At most @lines lines of @width characters on stdout. */
void heatmap_print(
	const struct heatmap *map, unsigned int width, unsigned int lines, enum heat_style style);
void heatmap_print_legend(enum heat_style style);

#endif
