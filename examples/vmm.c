/* SPDX-License-Identifier: BSD-3-Clause */
/* vmm.c - a monitor makes the memory of a guest and writes to it. */
#include <guestmem/guestmem.h>
#include <stdio.h>

int main(void)
{
	struct gm_block_opts thp = {.size = sizeof(thp), .pages = {{GM_PAGE_THP}, {GM_PAGE_BASE}}};
	struct gm_region_desc ram[] = {
		{sizeof(*ram), .gpa = 0, .len = 512ull << 20, .backing = &thp},
		{sizeof(*ram), .gpa = 4ull << 30, .len = 512ull << 20, .backing = &thp}};
	struct gm_space *space;
	struct gm_reader *vcpu;
	struct gm_error err;

	if (gm_space_build(NULL, ram, 2, &space, &err) ||
		gm_reader_create(space, "vcpu0", &vcpu, &err))
		return fprintf(stderr, "vmm: %s\n", err.text), 1;
	int rc = gm_write(gm_reader_enter(vcpu), 0x20000, "console=ttyS0", 14, NULL);
	gm_reader_leave(vcpu);
	gm_reader_destroy(vcpu);
	gm_space_destroy(space);
	return rc != 0;
}
