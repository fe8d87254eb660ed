/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_out.h - what the files of the source of a migration share.
 *
 *   migrate_out.c        made, asked, told
 *   migrate_out_step.c   one step: connections, messages, what the machine wants done
 *   migrate_out_pages.c  memory to messages, the log to pages that are due, the end of a round
 */
#ifndef GM_SERVICES_MIGRATE_OUT_H
#define GM_SERVICES_MIGRATE_OUT_H

#include <guestmem/log.h>
#include <guestmem/migrate_out.h>

#include "core/migrate_rate.h"
#include "core/migrate_source.h"
#include "services/migrate_lines.h"
#include "services/migrate_then.h"
#include "services/snapshot_space.h"

#define OUT_EVENTS 16u

/* Pages that were taken for a slot, and how far they are. */
struct out_load {
	struct gm_migrate_place place; /* nr 0: none */
	uint64_t number;
	uint32_t done;
	bool read;     /* they are in @room */
	uint8_t *room; /* pages_max pages */
	uint8_t kinds[GM_MIGRATE_PAGES_MAX];
};

/* What somebody wishes, until the machine takes it. */
enum out_wish {
	OUT_PAUSED = 1u << 0,
	OUT_STATE = 1u << 1,
	OUT_STOP = 1u << 2,
	OUT_LATER = 1u << 3,
	OUT_CANCEL = 1u << 4,
	OUT_RESUME = 1u << 5,
	OUT_RECLAIM = 1u << 6,
	OUT_FORCE = 1u << 7,
};

struct gm_migrate_out {
	struct gm_migrate_lines lines;
	struct gm_migrate_source machine;
	struct gm_migrate_rate rate;
	struct gm_migrate_out_opts opts;
	struct gm_migrate_out_ops ops;
	const struct gm_migrate_then *then; /* or NULL: memory as it is */
	/* What goes. */
	struct saving memory;
	struct gm_migrate_region *regions;
	uint64_t *starts;
	uint64_t *todo;
	struct gm_migrate_map map;
	struct gm_log *log;
	uint64_t log_first; /* address of its first page */
	int *fds;           /* borrowed of the blocks, for regions by descriptor */
	uint32_t nr_fds;
	struct gm_source_extent extent; /* len 0: not known */
	/* With the lock: */
	uint32_t wishes; /* enum out_wish */
	int wish_rc;     /* of OUT_PAUSED, OUT_CANCEL */
	uint8_t *state;
	size_t state_len;
	struct gm_migrate_stats stats;
	char refusal[256]; /* in the peer's words */
	/* Of who steps: */
	struct out_load loads[GM_MIGRATE_SLOTS];
	struct gm_migrate_action action; /* that waits for its connection */
	bool has_action;
	bool discarding; /* it is DISCARD, and goes on */
	bool saving;     /* the state was asked for */
	bool asked_pause;
	uint64_t tokens; /* bytes that may go */
	uint64_t tokens_at;
	uint64_t rate_due; /* when there are some again */
	bool held_up;      /* something waits for that */
	uint64_t began;
	uint64_t round_began;
	uint64_t round_sent;
	uint64_t paused_at;
	uint32_t told_state;
	uint32_t throttle;
};

/* ---- migrate_out.c: with the lock, which is let go meanwhile ---- */
void gm_migrate_out_tell(struct gm_migrate_out *out, uint32_t tell, int rc, const char *why);
uint32_t gm_migrate_out_is(const struct gm_migrate_out *out);

/* ---- migrate_out_pages.c ---- */
/* Fills what a connection can take. True: something went, or waits in it. *ret_rc: it is lost. */
bool gm_migrate_out_pages(struct gm_migrate_out *out, struct gm_migrate_link *link, int *ret_rc);
/* Pages that are on the way into a message of a slot, or of all, are forgotten. */
void gm_migrate_out_forget(struct gm_migrate_out *out);
/* What was written since, into the bitmap. *ret_bytes: of it. */
int gm_migrate_out_harvest(struct gm_migrate_out *out, uint64_t *ret_bytes);
/* Whole pages of their regions. */
void gm_migrate_out_widen(struct gm_migrate_out *out);
/* The rest goes in post-copy, as gm_migrate_source_switch(). */
int gm_migrate_out_later(struct gm_migrate_out *out, uint64_t now);
/* A round has ended: what comes next. */
int gm_migrate_out_round(struct gm_migrate_out *out, uint64_t now);

#endif
