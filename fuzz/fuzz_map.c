/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_map.c - bytes as a description of a memory map. What is refused has a reason of one line, and
 * a line that is there; what is accepted is a list of nodes that hangs together.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

static void require(bool holds)
{
	if (!holds)
		abort();
}

static uint32_t lines_of(const uint8_t *data, size_t size)
{
	uint32_t nr = 1;

	for (size_t i = 0; i < size; i++)
		nr += data[i] == '\n';
	return nr;
}

static void check_node(const struct map_layout *layout, uint32_t i, uint32_t nr_lines)
{
	const struct map_node *node = &layout->nodes[i];

	require(node->name[0] && memchr(node->name, '\0', sizeof(node->name)));
	require(node->line >= 1 && node->line <= nr_lines);
	require(node->parent == MAP_NONE || node->parent < i);
	require(node->kind <= GM_REGION_ACPI && (node->perms & ~GM_PERM_RWX) == 0);
	require((node->kind == GM_REGION_ALIAS) == (node->target != MAP_NONE));
	if (node->target != MAP_NONE)
		require(strcmp(layout->nodes[node->target].name, node->alias_of) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct map_layout layout = {0};
	uint32_t nr_lines = lines_of(data, size);

	if (map_read(&layout, (const char *)data, size)) {
		for (uint32_t i = 0; i < layout.nr; i++)
			check_node(&layout, i, nr_lines);
	} else {
		require(layout.fault.line >= 1 && layout.fault.line <= nr_lines);
		require(layout.fault.why[0] && !strpbrk(layout.fault.why, "\n\r\033"));
	}
	free(layout.nodes);
	return 0;
}
