/* SPDX-License-Identifier: BSD-3-Clause */
/* heatmap.h - pictures of where memory is present, by kind of page. */
#ifndef TOOL_HEATMAP_H
#define TOOL_HEATMAP_H

#include <stdbool.h>

/* Ends in .png or .svg? */
bool heatmap_is_file_name(const char *path);
/* False after a message if this build cannot draw. */
bool heatmap_available(void);

#endif
