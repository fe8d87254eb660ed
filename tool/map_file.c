/* SPDX-License-Identifier: BSD-3-Clause */
/* map_file.c - from the name of a file to a layout, and complaints about it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

#define PATH_SHOWN 400u

/* All of a file; NULL after a message. */
static char *read_all(FILE *file, const char *path, size_t *ret_len)
{
	size_t cap = 65536;
	char *text = tool_alloc(cap, 1);
	size_t len = 0;

	for (;;) {
		size_t got = fread(text + len, 1, cap - len, file);

		len += got;
		if (ferror(file)) {
			tool_error("%s: %s", path, strerror(errno));
			break;
		}
		if (len > MAP_FILE_MAX) {
			tool_error("%s: larger than %u MiB", path, MAP_FILE_MAX >> 20);
			break;
		}
		if (len < cap) {
			*ret_len = len;
			return text;
		}
		if (len == cap) {
			cap *= 2;
			text = tool_realloc(text, cap, 1);
		}
	}
	free(text);
	return NULL;
}

/* The end of a path that is too long for a message. */
static const char *shown_path(const char *path)
{
	size_t len = strlen(path);

	return len > PATH_SHOWN ? path + (len - PATH_SHOWN) : path;
}

static void name_after_file(struct map_layout *layout)
{
	const char *slash = strrchr(layout->path, '/');

	tool_escape(slash ? slash + 1 : layout->path, layout->name, sizeof(layout->name));
}

static bool complain(const struct map_layout *layout)
{
	if (layout->fault.line)
		tool_error("%s:%u: %s", layout->path, layout->fault.line, layout->fault.why);
	else
		tool_error("%s: %s", layout->path, layout->fault.why);
	return false;
}

bool map_load(struct map_layout *layout, const char *path)
{
	bool input = strcmp(path, "-") == 0;
	FILE *file = input ? stdin : fopen(path, "re");
	size_t len = 0;
	bool well;
	char *text;

	*layout = (struct map_layout){.path = input ? "standard input" : shown_path(path)};
	if (!file) {
		tool_error("%s: %s", layout->path, strerror(errno));
		return false;
	}
	text = read_all(file, layout->path, &len);
	if (!input)
		fclose(file);
	if (!text)
		return false;
	name_after_file(layout);
	well = map_read(layout, text, len);
	free(text);
	return (well && map_build(layout)) || complain(layout);
}

void map_free(struct map_layout *layout)
{
	gm_space_destroy(layout->space);
	free(layout->nodes);
	free(layout->flat);
	*layout = (struct map_layout){.path = layout->path};
}
