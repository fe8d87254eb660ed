/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tables.h - the parts of "guestmem tables": tables.c reads the command line and prints, tables_walk.c goes through the
 * page tables that a guest has in its memory.
 */
#ifndef TOOL_TABLES_H
#define TOOL_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#define TABLES_SIZES 3 /* 4K, 2M, 1G */

/* What leaves of one size map. */
struct tables_leaves {
	uint64_t number;
	uint64_t bytes;     /* of virtual addresses */
	uint64_t elsewhere; /* of these, not in the file: devices */
	uint64_t memory;    /* bytes of the file, counted once */
	uint64_t present;   /* of these, in memory */
	uint64_t *pages;    /* bitmap of the file */
};

struct tables {
	int fd;
	uint64_t len; /* of the file */
	uint64_t low; /* bytes below 4 GiB of guest addresses; the rest lies from 4 GiB on */
	uint64_t root;
	uint32_t levels;
	struct tables_leaves leaves[TABLES_SIZES];
	uint64_t *tables; /* bitmap of the file: pages that are tables */
	uint64_t nr_tables;
	uint64_t nr_blocks; /* of 2 MiB, that these lie in */
	uint64_t bad;       /* entries that lead to tables outside of the file */
};

/* Fills in leaves, nr_tables, nr_blocks, bad. False after a message. */
bool tables_walk(struct tables *t);

#endif
