/* SPDX-License-Identifier: BSD-3-Clause */
/* map_show.c - a layout as text. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "map.h"

const char *map_perms(uint32_t perms, char buf[4])
{
	buf[0] = perms & GM_PERM_R ? 'r' : '-';
	buf[1] = perms & GM_PERM_W ? 'w' : '-';
	buf[2] = perms & GM_PERM_X ? 'x' : '-';
	buf[3] = '\0';
	return buf;
}

static int print(void *ctx, const char *text, size_t len)
{
	(void)ctx;
	return fwrite(text, 1, len, stdout) == len ? 0 : -EIO;
}

bool map_print(const struct map_layout *layout, uint32_t flags)
{
	int rc = gm_space_dump(layout->space, flags, print, NULL);

	/* What cannot be written is told when standard output is flushed. */
	if (rc && rc != -EIO)
		tool_error("%s: %s", layout->path, strerror(-rc));
	return rc == 0;
}

static void print_side(char sign, const struct map_change *c, const struct map_stretch *s)
{
	char perms[4];

	printf("%c %016" PRIx64 "-%016" PRIx64 " (%s %s): %s @%016" PRIx64, sign, c->first, c->last,
		gm_region_kind_name(s->node->kind), map_perms(s->perms, perms), s->node->name,
		s->off + (c->first - s->first));
	if (s->node->label)
		printf(", label 0x%" PRIx64, s->node->label);
	if (s->node->numa != MAP_NONE)
		printf(", node %" PRIu32, s->node->numa);
	if (s->node->hotplug)
		printf(", hotpluggable");
	putchar('\n');
}

void map_print_change(const struct map_change *change)
{
	if (change->before)
		print_side('-', change, change->before);
	if (change->after)
		print_side('+', change, change->after);
}
