/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot.h - a file of saved memory whose tables were checked, and reading its chunks. */
#ifndef GM_SERVICES_SNAPSHOT_H
#define GM_SERVICES_SNAPSHOT_H

#include <guestmem/snapshot.h>

#include "core/snapfile.h"

struct gm_snapshot {
	uint32_t refs; /* atomic: of whoever opened it, and of sources */
	int fd;
	struct gm_snapfile_head head;
	struct gm_snapshot_region *regions;
	struct gm_snapfile_chunk *chunks; /* by rising offset, disjoint */
	uint8_t *meta;
	size_t nr_labels;
	uint64_t stored;
	uint64_t raw;
	uint32_t longest;                  /* bytes of memory and */
	uint32_t widest;                   /* of the file, of one chunk */
	bool packed[GM_SNAPFILE_LOST + 1]; /* it has chunks of the kind */
};

/*
 * Asked before each piece what goes first. Where the source has ABSENT bytes they have gone already, so extents end
 * where a chunk does.
 */
struct gm_snapshot_first {
	/* A range of pages of one region; false: none. @end: all the rest has gone. */
	bool (*next)(void *ctx, bool end, uint64_t *ret_off, uint64_t *ret_len);
	int (*code)(void *ctx); /* other than 0 ends it */
	void *ctx;
};

/* gm_snapshot_write(), with @first or NULL. */
int gm_snapshot_write_first(struct gm_source *source, const struct gm_snapshot_region *regions,
	size_t nr, const char *path, const struct gm_snapshot_opts *opts,
	const struct gm_snapshot_first *first, struct gm_snapshot_info *ret_info,
	struct gm_error *err);

struct gm_snapshot *gm_snapshot_get(struct gm_snapshot *snapshot);

/* The first chunk that ends behind @off; head.nr_chunks if there is none. */
size_t gm_snapshot_find(const struct gm_snapshot *snapshot, uint64_t off);

/* What one thread reads with. */
struct gm_desk {
	struct gm_desk *next;
	uint8_t *memory; /* of the chunk @index of @snapshot, if that is not NULL */
	uint8_t *stored;
	void *zstd;
	const struct gm_snapshot *snapshot;
	size_t index;
};

/* For chunks of all these files; NULL without memory. */
struct gm_desk *gm_desk_create(struct gm_snapshot *const *snapshots, size_t nr);
void gm_desk_destroy(struct gm_desk *desk);

/*
 * The memory of a chunk that has some, to @to or, if that is NULL, to the desk; verified. 0, -EBADMSG, -ENODATA (the
 * file became shorter), or what reading failed with.
 */
int gm_desk_load(struct gm_desk *desk, const struct gm_snapshot *snapshot, size_t index, void *to,
	struct gm_error *err);

#endif
