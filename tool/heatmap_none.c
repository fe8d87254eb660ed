/* SPDX-License-Identifier: BSD-3-Clause */
/* heatmap_none.c - what stands in for heatmap_draw.c where cairo is missing. */
#include "heatmap.h"
#include "tool.h"

bool heatmap_built(void)
{
	return false;
}

bool heatmap_available(void)
{
	tool_error("--heatmap: this guestmem was built without cairo");
	return false;
}

bool heatmap_draw(const struct heatmap *map, const char *title, struct tool_output *out)
{
	(void)map;
	(void)title;
	(void)out;
	return heatmap_available();
}
