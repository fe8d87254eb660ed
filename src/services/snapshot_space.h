/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_space.h - the memory of a space that is to be saved: its pieces, pinned, one behind the other. */
#ifndef GM_SERVICES_SNAPSHOT_SPACE_H
#define GM_SERVICES_SNAPSHOT_SPACE_H

#include <guestmem/snapshot.h>

#include "memory/reach.h"

struct saving_piece {
	struct gm_reach reach;
	uint64_t off; /* in the source */
	uint64_t len;
	struct gm_source *file; /* or NULL */
	bool scanned;           /* by page tables */
};

struct saving {
	struct gm_space *space;
	const char *path; /* that is written, or NULL: not known yet */
	struct gm_error *err;
	int pagemap; /* or -1 */
	bool guarded;
	struct saving_piece *pieces;
	struct gm_snapshot_region *regions;
	size_t nr;
	size_t cap;
	uint64_t len;
	uint64_t *dirty;
};

/* What was taken of a log, to be put back. */
struct saving_taken {
	struct gm_log_info info;
	uint64_t *words;
};

/*
 * Begins, with all memory of a space: -EBUSY if some of it is absent yet. @path: that is written, or NULL. On failure
 * too gm_saving_let_go() gives back what there is. @err is borrowed until then.
 */
int gm_saving_open(
	struct saving *s, struct gm_space *space, const char *path, struct gm_error *err);
/* What lies at an offset, and its bytes; of @extent->len, what is asked for, if that is less or not much more. */
int gm_saving_extent(const struct saving *s, uint64_t offset, struct gm_source_extent *extent);
int gm_saving_read(
	const struct saving *s, uint64_t offset, void *buf, size_t len, struct gm_error *err);
/* All memory that shows; on failure too gm_saving_let_go() gives back what there is. */
int gm_saving_collect(struct saving *s);
void gm_saving_let_go(struct saving *s);
/* What the page tables of a piece have from byte @in on: its kind, and its length, @extent->len at most. */
int gm_saving_scan(const struct saving *s, const struct saving_piece *piece, uint64_t in,
	struct gm_source_extent *extent);
/* Bytes of memory that is mapped here. */
int gm_saving_copy(const struct saving *s, const uint8_t *hva, void *buf, size_t len);
/* The pages that a log names, into s->dirty. */
int gm_saving_take(struct saving *s, struct gm_log *log, struct saving_taken *taken);

#endif
