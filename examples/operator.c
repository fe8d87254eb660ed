/* SPDX-License-Identifier: BSD-3-Clause */
/* operator.c - what backs the large mappings of a process, by size of page. */
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct gm_mapping map = {.size = sizeof(map)};
	struct gm_usage use = {.size = sizeof(use)};
	struct gm_residency *res;
	struct gm_mappings *list;
	struct gm_error err;

	if (gm_residency_open(argc > 1 ? atoi(argv[1]) : 0, &res, &err) ||
		gm_mappings_open(res, 0, &list, &err))
		return fprintf(stderr, "operator: %s\n", err.text), 1;
	while (gm_mappings_next(list, &map) == 1)
		if (map.len >> 20 && !gm_residency_usage(res, map.start, map.len, 0, &use, &err))
			printf("%-24.24s %8lu KiB present, %8lu in 2 MiB pages\n", map.name,
				use.present >> 10, use.by_log2[21] >> 10);
	gm_mappings_close(list);
	gm_residency_close(res);
	return 0;
}
