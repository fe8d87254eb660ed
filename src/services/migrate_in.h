/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_in.h - what the files of the destination of a migration share.
 *
 *   migrate_in.c        made, asked, told
 *   migrate_in_step.c   one step: connections, messages, what the machine wants done
 *   migrate_in_store.c  the layout, and pages into memory that nobody uses yet
 *   migrate_in_later.c  pages that come on demand
 *   migrate_in_dropped.c what is not needed any more
 *   migrate_in_others.c the same for other processes that have the memory
 */
#ifndef GM_SERVICES_MIGRATE_IN_H
#define GM_SERVICES_MIGRATE_IN_H

#include <guestmem/migrate_in.h>
#include <guestmem/source.h>

#include "core/migrate_destination.h"
#include "memory/reach.h"
#include "services/migrate_lines.h"

#define IN_DROPS 64u

/* A piece of memory of the embedder's space, pinned. */
struct in_piece {
	struct gm_reach reach;
	uint64_t first; /* its first page: a bit of the maps */
	uint64_t nr;
	int fd; /* of shared memory that has a file, else -1; borrowed of the block */
	uint64_t fd_off;
};

/* An area of the pager: pages as in_piece. */
struct in_area {
	uint64_t id;
	uint64_t first;
	uint64_t nr;
	uint64_t page; /* bytes */
};

/* A page of more than 4 KiB that is there in part; or pages that the kernel did not take when they came. */
struct in_part {
	struct in_part *next;
	const struct in_area *area;
	uint64_t first; /* bit */
	uint32_t nr;
	uint32_t came;
	uint8_t *bytes;
};

/* Pages of a message that are being stored. */
struct in_store {
	struct gm_migrate_action action;
	bool used;
	uint64_t pushed; /* bytes, of the present run */
	uint32_t done;   /* pages */
};

enum in_wish {
	IN_PREPARED = 1u << 0,
	IN_LOADED = 1u << 1,
	IN_STARTED = 1u << 2,
	IN_GIVE_UP = 1u << 3,
};

struct gm_migrate_in {
	struct gm_migrate_lines lines;
	struct gm_migrate_destination machine;
	struct gm_migrate_in_opts opts;
	struct gm_migrate_in_ops ops;
	/* The layout: regions of a source, then of the machine. */
	struct gm_migrate_region *regions;
	uint64_t *starts;
	uint64_t *bits; /* have, lost, wanted */
	struct gm_migrate_map map;
	uint64_t blank[3]; /* maps of a page, before there is a layout */
	uint64_t blank_start;
	struct gm_migrate_region blank_region;
	struct gm_fds fds;
	struct gm_space *space;
	struct in_piece *pieces;
	size_t nr_pieces;
	uint8_t *state;
	size_t state_len;
	size_t state_room;
	/* With the lock: */
	uint32_t wishes; /* enum in_wish */
	uint32_t asked;  /* of which somebody was asked for the answer */
	int wish_rc[4];
	const char *wish_why[4];
	/* Places of the DISCARD at hand that have pages. */
	uint64_t stale[GM_MIGRATE_PLACES_MAX / 64];
	struct gm_migrate_stats stats;
	/* Of who steps: */
	struct gm_migrate_action action;
	bool has_action;
	struct in_store stores[GM_MIGRATE_SLOTS];
	uint64_t began;
	uint64_t last_page; /* when one came before RUN */
	uint32_t told_state;
	bool was_told; /* the source, on a line: of the end */
	/* migrate_in_later.c */
	struct gm_pager *pager;
	struct gm_source *source;
	bool stopped;  /* the pager has ended */
	bool poisoned; /* atomic: by itself, and not all of it is named */
	struct in_area *areas;
	size_t nr_areas;
	struct gm_source_read *reads; /* that wait; linked by own[0] */
	struct gm_source *others;     /* for mappings of other processes */
	struct gm_source_read *others_reads;
	struct in_part *parts;
	int source_fd; /* eventfds that never strike: reads are done by who steps */
	int others_fd;
	pthread_mutex_t drops_lock;
	struct gm_range drops[IN_DROPS]; /* bits */
	uint32_t nr_drops;
};

/* ---- migrate_in.c: with the lock, which is let go meanwhile ---- */
void gm_migrate_in_tell(struct gm_migrate_in *in, const struct gm_migrate_event *event);
uint32_t gm_migrate_in_is(const struct gm_migrate_in *in);
/* It is over but for the pager, which still has memory that the guest uses. */
bool gm_migrate_in_is_held(const struct gm_migrate_in *in);

/* Reads of the pager that wait are linked by own[0]; what they want. */
static inline struct gm_source_read *gm_migrate_in_next(const struct gm_source_read *read)
{
	return (struct gm_source_read *)(uintptr_t)read->own[0];
}

static inline struct gm_range gm_migrate_in_wants(const struct gm_source_read *read)
{
	return (struct gm_range){read->offset >> GM_MIGRATE_PAGE_LOG2,
		(read->offset + read->len - 1) >> GM_MIGRATE_PAGE_LOG2};
}

/* ---- migrate_in_store.c ---- */
/* The piece that has a page of the layout. */
struct in_piece *gm_migrate_in_piece(const struct gm_migrate_in *in, uint64_t bit);
/* Sets in @words, from its bit 0 on, which of these pages are there. */
void gm_migrate_in_here(
	const struct gm_migrate_in *in, const struct gm_range *bits, uint64_t *words);
/* A LAYOUT that came: maps for it. 0, or why it cannot be taken, with *ret_why. */
int gm_migrate_in_layout(
	struct gm_migrate_in *in, struct gm_migrate_heard *heard, const char **ret_why);
/* Asks the embedder for memory. */
void gm_migrate_in_prepare(struct gm_migrate_in *in);
/* The embedder's memory: pinned if it fits. */
int gm_migrate_in_take_space(
	struct gm_migrate_in *in, struct gm_space *space, const char **ret_why);
/* Pages of a message, before RUN: into memory. */
int gm_migrate_in_store(struct gm_migrate_in *in, const struct gm_migrate_place *place,
	uint32_t kind, const uint8_t *memory);
/* Before RUN: what came of these is out of date. */
void gm_migrate_in_drop(struct gm_migrate_in *in, const struct gm_migrate_place *place);
int gm_migrate_in_keep_state(struct gm_migrate_in *in, const uint8_t *bytes, uint64_t len);
void gm_migrate_in_let_go(struct gm_migrate_in *in);

/* ---- migrate_in_later.c ---- */
/* Memory goes to a pager: what is not there comes on demand. */
int gm_migrate_in_arm(struct gm_migrate_in *in, const char **ret_why);
/* Pages that were not there. 0, -EAGAIN: again after a step of the pager; or what they cannot be stored for. */
int gm_migrate_in_push(struct gm_migrate_in *in, struct in_store *store, const uint8_t *memory);
/* These are there, or lost: who waits for them is told. */
void gm_migrate_in_complete(struct gm_migrate_in *in, const struct gm_range *bits);
/* All of it is remote: of both sources. */
int gm_migrate_in_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent);
/* Somebody waits for these. */
void gm_migrate_in_want(struct gm_migrate_in *in, struct gm_range *bits);
/* Bytes of pages that are there, from the file behind them: -EIO if there is none. */
int gm_migrate_in_read_there(
	const struct gm_migrate_in *in, const struct gm_range *bits, uint8_t *to);
struct in_area *gm_migrate_in_area(struct gm_migrate_in *in, uint64_t bit);
void gm_migrate_in_keep(struct gm_migrate_in *in, const struct in_area *area,
	const struct gm_range *bits, const uint8_t *bytes);
void gm_migrate_in_free_part(struct gm_migrate_in *in, struct in_part *part);
/* The pager, and what it was told. */
int gm_migrate_in_later(struct gm_migrate_in *in, uint64_t now);
void gm_migrate_in_disarm(struct gm_migrate_in *in);

/* ---- migrate_in_dropped.c ---- */
/* Told by the pager, in any thread. */
void gm_migrate_in_event(void *ctx, const struct gm_pager_event *event);
/* To the source: these need not come. */
void gm_migrate_in_tell_drops(struct gm_migrate_in *in, uint64_t now);

/* ---- migrate_in_others.c ---- */
int gm_migrate_in_others_open(struct gm_migrate_in *in);
/* Reads that can be done; or all of them, with an error. */
void gm_migrate_in_others(struct gm_migrate_in *in, bool fail);

/* ---- migrate_in_lost.c ---- */
/* These never come: poisoned, named, told, and with them what else a large page of them has. */
void gm_migrate_in_lose(struct gm_migrate_in *in, const struct gm_migrate_place *place);
/* What is lost before the pager begins. */
void gm_migrate_in_lose_all(struct gm_migrate_in *in);
/* What the pager could not bring in the end: named as others. */
void gm_migrate_in_name_poisoned(struct gm_migrate_in *in);
/* Pages that were brought, some of which it has put back, to be brought again. */
bool gm_migrate_in_refused(
	struct gm_migrate_in *in, const struct in_area *area, const struct gm_range *bits);
/* Pages that came of a large page, of which others are lost: so are these. False: none are. */
bool gm_migrate_in_spoiled(
	struct gm_migrate_in *in, const struct gm_range *whole, uint64_t first, uint64_t nr);

#endif
