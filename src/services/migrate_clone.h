/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_clone.h - what the files of live clones share.
 *
 *   migrate_clone.c        made, asked, told
 *   migrate_clone_step.c   one step: wishes, the instant, destinations that have ended
 *   migrate_clone_pages.c  pages as they were: taken before they are written, read, let go
 *
 * Parts, bits and the pool are those of a live save (snapshot_live.h), whose taker is another here: "todo" says that a
 * destination may need the page yet, and @needs of which one. A page that is needed is held, or has a slot.
 *
 * Locks: a destination's (its step), then the live save's. The clone's is of what any thread may ask, and alone, but
 * that destinations begin with it.
 */
#ifndef GM_SERVICES_MIGRATE_CLONE_H
#define GM_SERVICES_MIGRATE_CLONE_H

#include <guestmem/migrate_clone.h>

#include "services/migrate_then.h"
#include "services/snapshot_live.h"

#define CLONE_ACKS 1024u
#define CLONE_PING 64u    /* pages, then it is asked whether they have come */
#define CLONE_WINDOW 256u /* of which it is not known; more go when they are asked for only */

struct gm_migrate_clone;

/* Pages that were said on control, and the PING behind them. */
struct clone_ack {
	struct gm_range pages;
	uint64_t ping;
};

/* A destination. */
struct clone_one {
	struct gm_migrate_clone *clone;
	struct gm_migrate_out *out;
	struct gm_migrate_then then;
	uint32_t number;
	/* Of who steps. */
	bool ready; /* it waits for the instant */
	bool ended;
	bool dropping; /* it is given up */
	int drop_rc;
	uint32_t state; /* atomic: gm_migrate_clone_drop() looks at it */
	struct clone_ack acks[CLONE_ACKS];
	uint32_t first_ack;
	uint32_t nr_acks;
	uint64_t ping;     /* the last number */
	uint64_t unpinged; /* pages since */
	uint64_t unknown;  /* pages in @acks */
	/* With the live save's lock. */
	uint64_t *needs;
};

struct gm_migrate_clone {
	struct gm_snapshot_live *live;
	struct gm_space *space;
	struct gm_pager *pager;
	struct gm_migrate_clone_opts opts;
	struct gm_migrate_clone_ops ops;
	struct clone_one *ones;
	uint32_t nr;
	int epoll;
	int kick;
	uint32_t stepping; /* atomic */
	pthread_mutex_t lock;
	/* With the lock. */
	uint32_t state;
	bool asked_pause;
	bool asked_state;
	bool has_paused;
	bool has_state;
	bool failing; /* gm_migrate_clone_cancel() */
	int paused_rc;
	int cancel_rc;
	uint8_t *data;
	size_t len;
	uint32_t drop; /* bits of destinations */
	int drop_rc[GM_MIGRATE_CLONES_MAX];
	struct gm_migrate_clone_stats stats;
	/* Of who steps. */
	uint64_t paused_at;
	struct gm_error why;
	/* With the live save's lock. */
	bool full;   /* a writer waits for room */
	bool freed;  /* and there is some */
	bool let_go; /* or he may need none: nobody needs pages that were held */
	bool tried;  /* for that reason they were reported again */
	uint64_t lost;
	uint64_t pre_most;
};

/* ---- migrate_clone.c ---- */
void gm_clone_kick(const struct gm_migrate_clone *clone);
void gm_clone_tell(struct gm_migrate_clone *clone, uint32_t tell, int rc, const char *why);

/* ---- migrate_clone_pages.c ---- */
extern const struct pager_taker gm_clone_taker;
extern const struct gm_migrate_then gm_clone_then;
/* The instant, and its end. */
int gm_clone_arm(struct gm_migrate_clone *clone, struct gm_error *err);
void gm_clone_let_go(struct gm_migrate_clone *clone);
/* A destination needs no pages any more. */
void gm_clone_leave(struct clone_one *one);
/* Writers that found no room are reported again, if there is some or they may need none. */
void gm_clone_wake(struct gm_migrate_clone *clone);

#endif
