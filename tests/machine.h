/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine.h - a test machine: one space with memory of every kind and page size.
 *
 *   0x0000_0000  640 KiB  base pages, anonymous
 *   0x000c_0000  256 KiB  ROM
 *   0x0010_0000   31 MiB  sealed memfd, base pages
 *   0x0200_0000   32 MiB  anonymous, transparent huge pages (or base)
 *   0x0800_0000    8 MiB  explicit 2 MiB pages, memfd
 *   0x1000_0000    1 MiB  a file, shared
 *   0x1010_0000    1 MiB  the same file, private
 *   0xfec0_0000   64 KiB  reserved, no memory
 *   0x1_0000_0000 16 MiB  anonymous, shared with children only
 *   0x2_0000_0000  2 MiB  memory of the caller
 *   2^63           1 MiB  above the window
 */
#ifndef GM_TESTS_MACHINE_H
#define GM_TESTS_MACHINE_H

#include "support.h"

enum machine_region {
	MACHINE_LOW,
	MACHINE_ROM,
	MACHINE_MEMFD,
	MACHINE_THP,
	MACHINE_HUGETLB,
	MACHINE_FILE,
	MACHINE_PRIVATE,
	MACHINE_RESERVED,
	MACHINE_SHARED,
	MACHINE_POINTER,
	MACHINE_HIGH,
	MACHINE_REGIONS,
};

struct machine {
	struct gm_space *space;
	struct gm_reader *reader;
	uint64_t gpa[MACHINE_REGIONS];
	uint64_t len[MACHINE_REGIONS];
	int fd;    /* of the file, which is unlinked already */
	void *own; /* the caller's memory */
};

/* Needs four free huge pages, which it takes care of. Failures end the test. */
void machine_build(struct machine *machine);
void machine_destroy(struct machine *machine);

#endif
