/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record.h - what has to be known of a guest to serve its pages, in a memfd: who it is, where its memory lies, which
 * pages are there. Whoever has this file and the userfaultfd goes on where another one was killed.
 *
 * Page 0 and following: struct record; then the pager's journal, then the states of each area.
 */
#ifndef TOOL_RECORD_H
#define TOOL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <guestmem/firecracker.h>
#include <guestmem/pager.h>

struct record_area {
	uint64_t hva;
	uint64_t len;
	uint64_t offset;
	uint64_t page_size;
	uint64_t states; /* where in the file */
};

struct record {
	char magic[8];
	uint32_t nr;
	uint32_t number; /* for messages */
	int32_t pid;
	uint32_t uid;
	char identity[40]; /* of the image */
	uint64_t image_len;
	uint64_t journal; /* where in the file */
	struct record_area areas[GM_FIRECRACKER_MAPPINGS_MAX];
};

struct record_guest {
	uint32_t number;
	int32_t pid;
	uint32_t uid;
	const char *identity;
	uint64_t image_len;
};

/* A file for these mappings, all pages absent; fills in @ret. -1 after a message. */
int record_make(const struct record_guest *guest, const struct gm_firecracker_mapping *maps,
	size_t nr, struct record *ret);
/* The record in a file that somebody else made; false after a message if it is none. */
bool record_read(int fd, struct record *ret);
/*
 * Makes a pager over it. @fd: the file, or -1: states in memory of this process. @opts: the journal is put in. False
 * with a text in @err, and no pager.
 */
bool record_pager(const struct record *record, int fd, int uffd, struct gm_source *source,
	const struct gm_pager_opts *opts, bool takeover, struct gm_pager **ret,
	struct gm_error *err);
/* Has the process whose memory it is gone? */
bool record_is_gone(const struct record *record, int uffd);
uint64_t record_bytes(const struct record *record);

#endif
