/* SPDX-License-Identifier: BSD-3-Clause */
/* map_e820.c - what shows of a layout as the table that a PC's firmware hands over. */
#include <inttypes.h>
#include <stdlib.h>

#include "map.h"

bool map_make_e820(const struct map_layout *layout, struct map_e820 *ret, struct gm_error *ret_err)
{
	/* No more entries than stretches, and no more records than entries. */
	struct gm_memmap_entry *map = tool_alloc(layout->nr_flat, sizeof(*map));
	size_t nr = 0;
	int rc = gm_space_memmap(layout->space, map, layout->nr_flat, &nr, ret_err);

	ret->table = tool_alloc(nr, sizeof(*ret->table));
	if (!rc)
		rc = gm_memmap_e820(map, nr, ret->table, nr, &ret->nr, ret_err);
	free(map);
	if (rc) {
		free(ret->table);
		*ret = (struct map_e820){0};
	}
	return rc == 0;
}

/* The words of Linux. */
const char *map_e820_meaning(uint32_t type)
{
	switch (type) {
	case GM_E820_RAM:
		return "usable";
	case GM_E820_ACPI:
		return "ACPI data";
	case GM_E820_PMEM:
		return "persistent";
	default:
		return "reserved";
	}
}

bool map_print_e820(const struct map_layout *layout)
{
	struct map_e820 e820 = {0};
	struct gm_error err;

	if (!map_make_e820(layout, &e820, &err)) {
		tool_error("%s: no e820: %s", layout->path, err.text);
		return false;
	}
	printf("e820 of \"%s\":\n", layout->name);
	for (size_t i = 0; i < e820.nr; i++) {
		const struct gm_e820_entry *e = &e820.table[i];

		printf("  %016" PRIx64 "-%016" PRIx64 " %s\n", e->addr, e->addr + (e->len - 1),
			map_e820_meaning(e->type));
	}
	free(e820.table);
	return true;
}
