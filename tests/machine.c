/* SPDX-License-Identifier: BSD-3-Clause */
/* machine.c - see machine.h. */
#include "machine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void machine_build(struct machine *machine)
{
	struct gm_block_opts b[MACHINE_REGIONS] = {
		[MACHINE_LOW] = {.len = KIB(640), .pages = {{GM_PAGE_BASE}}},
		[MACHINE_ROM] = {.len = KIB(256), .backing = GM_BACKING_MEMFD},
		[MACHINE_MEMFD] = {.len = MIB(31),
			.flags = GM_BLOCK_SHARE,
			.pages = {{GM_PAGE_BASE}}},
		[MACHINE_THP] = {.len = MIB(32), .pages = {{GM_PAGE_THP}, {GM_PAGE_BASE}}},
		[MACHINE_HUGETLB] = {.len = MIB(8),
			.flags = GM_BLOCK_SHARE,
			.pages = {{GM_PAGE_HUGETLB, 21}}},
		[MACHINE_FILE] = {.len = MIB(1), .backing = GM_BACKING_FD},
		[MACHINE_PRIVATE] = {.len = MIB(1),
			.backing = GM_BACKING_FD,
			.flags = GM_BLOCK_PRIVATE},
		[MACHINE_SHARED] = {.len = MIB(16), .backing = GM_BACKING_ANON_SHARED},
		[MACHINE_POINTER] = {.len = MIB(2), .backing = GM_BACKING_POINTER},
		[MACHINE_HIGH] = {.len = MIB(1)},
	};
	static const uint64_t gpas[MACHINE_REGIONS] = {0, 0xc0000, 0x100000, 0x2000000, 0x8000000,
		0x10000000, 0x10100000, 0xfec00000, UINT64_C(1) << 32, UINT64_C(2) << 32,
		UINT64_C(1) << 63};
	struct gm_region_desc descs[MACHINE_REGIONS];
	char path[] = "/tmp/gm-machine-XXXXXX";
	struct gm_error err;

	machine->fd = mkostemp(path, O_CLOEXEC);
	assert_true(machine->fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(machine->fd, (off_t)MIB(1)), 0);
	machine->own =
		mmap(NULL, MIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(machine->own != MAP_FAILED);
	assert_true(support_pool(21, 4));
	b[MACHINE_FILE].fd = machine->fd;
	b[MACHINE_PRIVATE].fd = machine->fd;
	b[MACHINE_POINTER].addr = machine->own;
	for (int i = 0; i < MACHINE_REGIONS; i++) {
		b[i].size = sizeof(b[i]);
		descs[i] = (struct gm_region_desc){
			.size = sizeof(*descs), .gpa = gpas[i], .backing = &b[i]};
		machine->gpa[i] = gpas[i];
		machine->len[i] = b[i].len;
	}
	descs[MACHINE_ROM].kind = GM_REGION_ROM;
	descs[MACHINE_RESERVED] = (struct gm_region_desc){.size = sizeof(*descs),
		.gpa = gpas[MACHINE_RESERVED],
		.len = KIB(64),
		.kind = GM_REGION_RESERVED};
	machine->len[MACHINE_RESERVED] = KIB(64);
	if (gm_space_build(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)), descs, MACHINE_REGIONS,
		    &machine->space, &err) ||
		gm_reader_create(machine->space, "machine", &machine->reader, &err))
		fail_msg("machine: %s", err.text);
}

void machine_destroy(struct machine *machine)
{
	gm_reader_destroy(machine->reader);
	gm_space_destroy(machine->space);
	munmap(machine->own, MIB(2));
	close(machine->fd);
}
