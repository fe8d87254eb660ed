/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_source.h - the machine of the end that runs the guest (docs/migration-protocol.md). See migrate_plan.h for
 * how it is driven.
 *
 * It keeps:
 *   - from the moment that it may have said RUN the guest runs here only after RECLAIMED, REFUSED, or by force;
 *   - it has ended well only after DONE_ACK;
 *   - each state in which something is waited for has a deadline, and each end a name and a reason.
 */
#ifndef GM_CORE_MIGRATE_SOURCE_H
#define GM_CORE_MIGRATE_SOURCE_H

#include "core/migrate_plan.h"

enum gm_migrate_source_state {
	GM_SOURCE_IDLE,
	GM_SOURCE_OPENING, /* control */
	GM_SOURCE_OFFERED, /* LAYOUT was sent */
	GM_SOURCE_ROUND,   /* pages go, the guest runs */
	GM_SOURCE_BETWEEN, /* rounds: the embedder says what comes */
	GM_SOURCE_DROPPING, /* the rest comes later: what is out of date is dropped there, the guest runs */
	GM_SOURCE_PAUSING,  /* the guest is being paused */
	GM_SOURCE_LAST,     /* it is paused: the last pages, the state */
	GM_SOURCE_SWITCHED, /* SWITCH was sent: READY is awaited */
	/* The guest may run there from here on. */
	GM_SOURCE_HANDED,   /* RUN may have been sent: RUNNING is awaited */
	GM_SOURCE_POSTCOPY, /* it runs there, pages go */
	GM_SOURCE_DONE,     /* DONE was sent */
	GM_SOURCE_LOST,     /* there is no line */
	GM_SOURCE_RESUMING, /* control of the next epoch is opened */
	GM_SOURCE_ASKING,   /* RESUME was sent */
	GM_SOURCE_RECLAIM,  /* RECLAIM was sent */
	GM_SOURCE_DOUBT,    /* as LOST, and its deadline has passed: told as a failure */
	/* Ends. In the first three the guest runs here, or did not run when it began. */
	GM_SOURCE_CANCELLED,
	GM_SOURCE_FAILED,
	GM_SOURCE_RECLAIMED,
	GM_SOURCE_FORCED,   /* the embedder knows that nobody runs it there */
	GM_SOURCE_GIVEN_UP, /* it runs there, without some of its pages */
	GM_SOURCE_ENDED,    /* well */
	GM_SOURCE_STATES,
};

struct gm_migrate_source_opts {
	struct gm_migrate_times times;
	uint8_t session[16];
	uint32_t features;  /* GM_MIGRATE_ZSTD and so on */
	uint32_t pages_max; /* of a message: 1 to GM_MIGRATE_PAGES_MAX */
	uint32_t rounds_max;
	uint32_t drops_max; /* places that DISCARD names before a PING is answered */
	uint32_t bulk;
	uint32_t urgent;
};

struct gm_migrate_source {
	struct gm_migrate_source_opts o;
	struct gm_migrate_map map;
	struct gm_migrate_queue queue;
	struct gm_migrate_line line;
	uint64_t *todo;     /* pages that are to be sent */
	uint64_t left;      /* how many */
	uint64_t cursor;    /* where the search goes on */
	uint64_t discard;   /* the same, of what DISCARD names */
	uint64_t drops;     /* the number of the PING behind DISCARD */
	uint64_t have;      /* pages of which HAVE has told */
	uint64_t deadline;  /* of the state */
	uint64_t state_len; /* bytes of the device state, and what of them was sent */
	uint64_t state_sent;
	uint64_t number[GM_MIGRATE_SLOTS]; /* of the last request */
	uint32_t state;                    /* gm_migrate_source_state */
	uint32_t phase;                    /* gm_migrate_from; 0 before RUN */
	uint32_t features;                 /* agreed on */
	uint32_t pages_max;
	uint32_t to_open; /* slots for which DO_OPEN is due */
	uint32_t opening; /* for which it was given */
	uint32_t to_end;  /* where ROUND is due */
	uint32_t round;
	uint32_t nr_asked;
	uint32_t window;   /* places that DISCARD may name now */
	uint32_t dropping; /* gm_source_dropping, in DROPPING */
	bool accepted;
	bool round_open; /* pages of @round may go */
	bool later;      /* the rest in post-copy */
	bool paused;     /* the guest is, by our wish, or is being */
	bool has_state;
	bool discarding; /* DISCARD is due */
	bool have_due;   /* HAVE has not told of all pages */
	bool reclaiming; /* the embedder wants it back */
	bool reclaimed;  /* RECLAIM may have been sent: RUN never is again */
	int rc;          /* why it ended, or the line was lost last */
	const char *why;
	struct gm_range asked[GM_MIGRATE_REQUESTS_MAX]; /* bits, the first first */
};

/* @todo has gm_bits_words(map->pages) words and is the machine's but where said. */
void gm_migrate_source_init(struct gm_migrate_source *s, const struct gm_migrate_source_opts *opts,
	const struct gm_migrate_map *map, uint64_t *todo);

/* ---- the embedder's commands: 0; -EBUSY: take actions first; -EINVAL: not in this state ---- */

int gm_migrate_source_start(struct gm_migrate_source *s, uint64_t now);
/* Another round while the guest runs: the pages to send are set in @todo. -ERANGE: there were rounds_max. */
int gm_migrate_source_round(struct gm_migrate_source *s, uint64_t now);
/*
 * After DO_ROUND, or in a round, which ends there. DO_PAUSE follows; if the rest goes in post-copy what is set in @todo
 * is dropped at the destination before, so that the guest does not wait for it: the caller may set all of a page of
 * the region, of which a part is set, until the next call of gm_migrate_source_next().
 */
int gm_migrate_source_switch(struct gm_migrate_source *s, enum gm_migrate_switch how, uint64_t now);
/*
 * It is paused: pages that it wrote since the last round began are set in @todo, besides what is there. If the rest
 * goes in post-copy, DISCARD names them: the caller sets all of a page of the region, of which the guest wrote a
 * part. What is not so is -EINVAL, and nothing has changed.
 */
int gm_migrate_source_paused(struct gm_migrate_source *s, uint64_t now);
/* Its state is written, @len bytes. */
int gm_migrate_source_wrote(struct gm_migrate_source *s, uint64_t len, uint64_t now);
/* Before RUN: the guest goes on here. @rc: 0 or negative errno value. Later: -EINVAL. */
int gm_migrate_source_cancel(struct gm_migrate_source *s, int rc, uint64_t now);
/* After DO_TELL_LOST: a new epoch with so many connections. */
int gm_migrate_source_resume(
	struct gm_migrate_source *s, uint32_t bulk, uint32_t urgent, uint64_t now);
/* The guest is to run here again, if it does not run there: asked for on a new epoch. Not once it was RUNNING. */
int gm_migrate_source_reclaim(struct gm_migrate_source *s, uint64_t now);
/* Somebody knows that it runs nowhere else, and never will. */
int gm_migrate_source_force(struct gm_migrate_source *s, uint64_t now);

/* ---- what happens ---- */

/* A connection was opened and answered; one that is not awaited any more is ignored. */
int gm_migrate_source_opened(struct gm_migrate_source *s, uint32_t slot, uint32_t epoch,
	const struct gm_migrate_opened *opened, uint64_t now);
/* It could not be opened, or is lost. Never refused. */
void gm_migrate_source_lost(struct gm_migrate_source *s, uint32_t slot, uint32_t epoch, int rc,
	const char *why, uint64_t now);
/* Bytes came (@in) or went; @busy: half a message is left. */
void gm_migrate_source_moved(struct gm_migrate_source *s, uint32_t slot, uint32_t epoch, bool in,
	bool busy, uint64_t now);
int gm_migrate_source_message(
	struct gm_migrate_source *s, const struct gm_migrate_msg *msg, uint64_t now);
void gm_migrate_source_tick(struct gm_migrate_source *s, uint64_t now);
/* When to tick next. */
uint64_t gm_migrate_source_due(const struct gm_migrate_source *s);

/* ---- what is to be done ---- */

/* Of DO_SEND with DISCARD: call this until it is 0, and send a message of each. */
uint32_t gm_migrate_source_discards(
	struct gm_migrate_source *s, struct gm_migrate_place *places, uint32_t room);
/*
 * Pages to be sent on a connection that can be written to, and the number of their message; false: none, now. When they
 * ran out there may be actions.
 */
bool gm_migrate_source_take(struct gm_migrate_source *s, uint32_t slot,
	struct gm_migrate_place *ret_place, uint64_t *ret_number);
bool gm_migrate_source_next(
	struct gm_migrate_source *s, uint64_t now, struct gm_migrate_action *ret);

#endif
