/* SPDX-License-Identifier: BSD-3-Clause */
/* mapped_ram.h - a file of QEMU's whose blocks and bitmaps were checked. */
#ifndef GM_SERVICES_MAPPED_RAM_H
#define GM_SERVICES_MAPPED_RAM_H

#include <guestmem/mapped_ram.h>

struct gm_mapped_ram {
	uint32_t refs; /* atomic: of whoever opened it, and of sources */
	int fd;
	size_t nr;
	uint64_t len; /* of all blocks */
	struct gm_mapped_ram_block *blocks;
	uint64_t **bits; /* of each block that is here: a page is there */
};

/* The number of a block, or nr. */
size_t gm_mapped_ram_find(const struct gm_mapped_ram *ram, const char *name);

/* Bytes that are there by a bitmap. */
uint64_t gm_mapped_ram_present(const struct gm_mapped_ram_block *block, const uint64_t *bits);

#endif
