/* SPDX-License-Identifier: BSD-3-Clause */
#include "heatmap.h"

#include <string.h>

#include "tool.h"

bool heatmap_is_file_name(const char *path)
{
	size_t len = strlen(path);

	return len > 4 &&
	       (strcmp(path + len - 4, ".png") == 0 || strcmp(path + len - 4, ".svg") == 0);
}

bool heatmap_available(void)
{
	return true;
}
