/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout.h - what both ends of a layout need of their socket, and sending in steps, for those who look
 * at what is to be sent before it is.
 */
#ifndef GM_MEMORY_LAYOUT_H
#define GM_MEMORY_LAYOUT_H

#include <guestmem/layout.h>
#include <stdbool.h>
#include <sys/types.h>

#include "core/layout_wire.h"

struct gm_layout_file {
	dev_t dev;
	ino_t ino;
	uint64_t size;
	int fd;
	bool writable;
	bool own;       /* fd is closed at the end */
	uint32_t perms; /* of all regions in it */
	struct gm_block *block;
};

struct gm_layout_sender {
	uint32_t mask;
	uint32_t nr_regions;
	uint32_t nr_files;
	struct gm_wire_region *regions;
	struct gm_layout_file files[GM_LAYOUT_FDS_MAX];
};

/* 0; -EPROTOTYPE for a socket that cannot carry a layout: packets that get lost, or no fds. */
int gm_layout_check_socket(int sock, struct gm_error *err);

/* The regions and files of a space, as they are. @perms: at most these, 0 = all. */
int gm_layout_write_down(struct gm_space *space, uint32_t perms, struct gm_layout_sender **ret,
	struct gm_error *err);
int gm_layout_deliver(struct gm_layout_sender *sender, int sock, struct gm_error *err);
void gm_layout_forget(struct gm_layout_sender *sender); /* NULL is ignored */

#endif
