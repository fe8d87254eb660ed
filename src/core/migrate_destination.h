/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_destination.h - the machine of the end that the guest moves to (docs/migration-protocol.md). See
 * migrate_plan.h for how it is driven.
 *
 * It keeps:
 *   - the guest runs here only after RUN was read, on the newest epoch; never after RECLAIMED or REFUSED;
 *   - DONE_ACK is said only when no page is missing;
 *   - in post-copy a page that is there, was dropped, or is lost, is not stored again;
 *   - what is given up is named: each such page by DO_POISON, and in @lost.
 */
#ifndef GM_CORE_MIGRATE_DESTINATION_H
#define GM_CORE_MIGRATE_DESTINATION_H

#include "core/migrate_plan.h"

enum gm_migrate_destination_state {
	GM_DESTINATION_IDLE,
	GM_DESTINATION_OPEN,      /* LAYOUT is awaited */
	GM_DESTINATION_PREPARING, /* the embedder prepares */
	GM_DESTINATION_ROUNDS,
	GM_DESTINATION_LOADING, /* SWITCH was read: the state is loaded */
	/* A lost line is no end from here on. */
	GM_DESTINATION_READY,   /* RUN is awaited */
	GM_DESTINATION_MISSING, /* the guest runs, pages are missing */
	GM_DESTINATION_WHOLE,   /* the guest runs, DONE is awaited */
	GM_DESTINATION_DONE,    /* DONE_ACK was said, or all is here and nobody came: answers on */
	GM_DESTINATION_NEVER,   /* it will not run the guest: answers on */
	GM_DESTINATION_GIVING_UP, /* poisons what is missing */
	GM_DESTINATION_GIVEN_UP,  /* the guest runs with lost pages: answers on */
	/* Ends. */
	GM_DESTINATION_FAILED,
	GM_DESTINATION_CANCELLED,
	GM_DESTINATION_ENDED, /* well, and nobody is answered any more */
	GM_DESTINATION_STATES,
};

struct gm_migrate_destination_opts {
	struct gm_migrate_times times;
	uint32_t features;
	uint32_t pages_max;
	uint64_t state_max; /* bytes of device state that it takes */
};

struct gm_migrate_destination {
	struct gm_migrate_destination_opts o;
	struct gm_migrate_map map;
	struct gm_migrate_queue queue;
	struct gm_migrate_line line;
	uint64_t *have;   /* pages that are here, or not needed, or lost */
	uint64_t *lost;   /* of them: lost */
	uint64_t *wanted; /* pages that somebody waits for, and that are in no request */
	uint64_t missing; /* pages that are not in @have */
	uint64_t nr_wanted;
	uint64_t ask_from; /* where the search in @wanted goes on */
	uint64_t tell;     /* the same of HAVE, and of pages to poison */
	uint64_t deadline;
	uint64_t state_len;
	uint64_t request; /* the last one's number */
	uint8_t session[16];
	uint32_t state; /* gm_migrate_destination_state */
	uint32_t features;
	uint32_t round;   /* pages of it may come */
	uint32_t came;    /* slots where it has ended */
	uint32_t held;    /* slots that are not read */
	uint32_t storing; /* slots whose pages are being stored */
	uint32_t nr_asked;
	uint32_t turn;        /* which urgent connection is next */
	uint32_t asked_epoch; /* of the last RESUME */
	bool in_round;        /* pages of @round came */
	bool later;           /* pages come in post-copy */
	bool discarded;
	bool resumed;  /* on this epoch: messages have a meaning */
	bool telling;  /* HAVE is due */
	bool done_due; /* DONE was read, DONE_ACK waits for pages */
	bool ran;      /* RUNNING, or what says the same, may have been said */
	bool started;  /* the embedder has it running */
	int rc;
	const char *why;
	struct gm_range asked[GM_MIGRATE_REQUESTS_MAX];
};

/* The three bitmaps have gm_bits_words(map->pages) words each. */
void gm_migrate_destination_init(struct gm_migrate_destination *d,
	const struct gm_migrate_destination_opts *opts, const struct gm_migrate_map *map,
	uint64_t *have, uint64_t *lost, uint64_t *wanted);

/*
 * The same with another map, before LAYOUT is given to the machine: of a destination that takes whatever regions the
 * source has. -EINVAL: it is too late.
 */
int gm_migrate_destination_map(struct gm_migrate_destination *d, const struct gm_migrate_map *map,
	uint64_t *have, uint64_t *lost, uint64_t *wanted);

/* ---- connections and time ---- */

/*
 * Somebody has opened a connection and said this; *ret is to be answered. 0: it is a slot of this epoch from now on,
 * whatever actions there are concern older ones; else a negative errno value, and it is closed behind the answer.
 */
int gm_migrate_destination_open(struct gm_migrate_destination *d,
	const struct gm_migrate_open *open, uint64_t now, struct gm_migrate_opened *ret);
void gm_migrate_destination_lost(struct gm_migrate_destination *d, uint32_t slot, uint32_t epoch,
	int rc, const char *why, uint64_t now);
void gm_migrate_destination_moved(struct gm_migrate_destination *d, uint32_t slot, uint32_t epoch,
	bool in, bool busy, uint64_t now);
void gm_migrate_destination_tick(struct gm_migrate_destination *d, uint64_t now);
uint64_t gm_migrate_destination_due(const struct gm_migrate_destination *d);

/* 0; -EBUSY: take actions, or wait for DO_CONTINUE or for pages that are being stored; then give it again. */
int gm_migrate_destination_message(
	struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now);

/* ---- the embedder: 0; -EBUSY; -EINVAL: not in this state ---- */

/* @rc 0, or why it cannot take the guest; @why is constant. */
int gm_migrate_destination_prepared(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now);
int gm_migrate_destination_loaded(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now);
/* After DO_RUN. @rc: it did not run an instruction, and will not. */
int gm_migrate_destination_started(struct gm_migrate_destination *d, int rc, uint64_t now);
/* Pages of a message were stored (@rc 0), or not: DO_STORE is over. */
int gm_migrate_destination_stored(struct gm_migrate_destination *d,
	const struct gm_migrate_action *store, int rc, uint64_t now);
/* Somebody waits for pages, in post-copy. What is there, or asked for, costs nothing. -ERANGE: no place of the map. */
int gm_migrate_destination_fault(
	struct gm_migrate_destination *d, const struct gm_migrate_place *place, uint64_t now);
/* Pages that are here, or are being stored, are lost all the same: with others, of a larger page. */
void gm_migrate_destination_spoil(struct gm_migrate_destination *d, const struct gm_range *bits);
/* Pages are not needed any more, while the guest runs. */
int gm_migrate_destination_dropped(
	struct gm_migrate_destination *d, const struct gm_migrate_place *place, uint64_t now);
/* Before RUN: the guest never runs here. After: what is missing is lost. @rc: negative errno value. */
int gm_migrate_destination_give_up(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now);

/* ---- what is to be done ---- */

bool gm_migrate_destination_next(
	struct gm_migrate_destination *d, uint64_t now, struct gm_migrate_action *ret);

static inline bool gm_migrate_destination_has(
	const struct gm_migrate_destination *d, const struct gm_migrate_place *place)
{
	struct gm_range bits;

	return gm_migrate_map_bits(&d->map, place, &bits) && gm_bits_all(d->have, &bits);
}

#endif
