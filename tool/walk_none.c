/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_none.c - what stands in for walk_draw.c where cairo is missing. */
#include "walk.h"

bool walk_draw_available(void)
{
	tool_error("--svg: this guestmem was built without cairo");
	return false;
}

bool walk_draw(const struct walk *w, struct tool_output *out)
{
	(void)w;
	(void)out;
	return walk_draw_available();
}
