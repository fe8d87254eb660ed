/* SPDX-License-Identifier: BSD-3-Clause */
/* vmm.c - a monitor makes the memory of a guest and writes to it. */
#include <guestmem/guestmem.h>
#include <stdio.h>

int main(void)
{
	struct gm_block_opts ram = {.size = sizeof(ram), .pages = {{GM_PAGE_THP}, {GM_PAGE_BASE}}};
	struct gm_region_desc map[] = {
		{sizeof(*map), .gpa = 0, .len = 640 << 10, .backing = &ram},
		{sizeof(*map), .gpa = 1 << 20, .len = 63 << 20, .backing = &ram},
		{sizeof(*map), .gpa = 4ull << 30, .len = 64 << 20, .backing = &ram},
	};
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_error err;

	if (gm_space_build(NULL, map, 3, &space, &err) ||
		gm_reader_create(space, "vcpu0", &reader, &err))
		return fprintf(stderr, "vmm: %s\n", err.text), 1;
	int rc = gm_write(gm_reader_enter(reader), 0x20000, "console=ttyS0", 14, NULL);
	gm_reader_leave(reader);
	printf("command line at 0x20000: %s\n", rc ? "not written" : "written");
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return rc != 0;
}
