/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_plan.h - what the two machines of a migration share: where pages are in bitmaps, connections, what a machine
 * is told and what it wants done.
 *
 *   migrate_source.c        runs the guest until it says RUN
 *   migrate_destination.c   runs it when it has read RUN
 *
 * A machine makes no system call, reads no clock (each input brings the time), allocates nothing and keeps no pointer
 * but to its map and the bitmaps that it was given. Whoever moves its bytes does three things:
 *
 *   - gives it what comes: messages that were decoded (migrate_wire.h), connections that open and are lost, time;
 *   - takes actions until there is none, and does them in that order. What goes out on one connection keeps its order;
 *   - moves pages: the source's are taken one run after the other for a connection that can be written to, those that
 *     the destination is to store are in the message that it was just given.
 *
 * An input that is not possible now is -EBUSY if actions have to be taken first, or if the message is to be given again
 * when its connection continues. One machine is used by one thread at a time.
 */
#ifndef GM_CORE_MIGRATE_PLAN_H
#define GM_CORE_MIGRATE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bits.h"
#include "core/migrate_wire.h"

#define GM_MIGRATE_SLOTS (1u + GM_MIGRATE_BULK_MAX + GM_MIGRATE_URGENT_MAX)
#define GM_MIGRATE_REQUESTS_MAX 256u /* of a destination that may be unanswered */
#define GM_MIGRATE_QUEUE 32u
#define GM_MIGRATE_QUEUE_STEP 8u /* actions that one input may add */
#define GM_MIGRATE_NEVER UINT64_MAX

/* ---- defects for tests of the tests ---- */

#ifdef GM_MIGRATE_MUTANTS
extern int gm_migrate_mutant;
#define gm_migrate_broken(n) (gm_migrate_mutant == (n))
#define gm_migrate_broken_by(a, b) (gm_migrate_broken(a) || gm_migrate_broken(b))
#else
#define gm_migrate_broken(n) false
#define gm_migrate_broken_by(a, b) false
#endif

enum gm_migrate_defect {
	GM_DEFECT_NONE,
	GM_DEFECT_RUNS_AFTER_RUN,   /* the source goes on when the line is lost after RUN */
	GM_DEFECT_RUNS_AT_READY,    /* the destination does not wait for RUN */
	GM_DEFECT_NO_BARRIER,       /* nobody waits for ROUND of the others */
	GM_DEFECT_CONTROL_APART,    /* ROUND does not hold control */
	GM_DEFECT_STALE_EPOCH,      /* connections of an old epoch are taken */
	GM_DEFECT_OLD_LINE_LIVES,   /* those of the last epoch are read after the next has begun */
	GM_DEFECT_ACK_TOO_EARLY,    /* DONE_ACK though pages are missing */
	GM_DEFECT_DISCARD_IGNORED,  /* what is out of date counts as there */
	GM_DEFECT_OVERWRITES,       /* a page that is there is stored again in post-copy */
	GM_DEFECT_FORGETS_REQUESTS, /* who waits is not asked for again after a resume */
	GM_DEFECT_SENT_IS_THERE,    /* the source does not believe HAVE, but what it sent */
	GM_DEFECT_RECLAIMED_RUNS,   /* RUN counts after RECLAIMED */
	GM_DEFECT_NO_DEADLINE,      /* a lost destination is waited for without end */
	GM_DEFECT_LOST_UNNAMED,     /* giving up does not say what is missing */
	GM_DEFECT_ENDS_AT_DONE,     /* the source takes DONE for DONE_ACK */
	GM_DEFECTS,
};

/* ---- pages ---- */

/* Pages of all regions in a row: page @place.first of region r is bit @starts[r] + @place.first. */
struct gm_migrate_map {
	const struct gm_migrate_region *regions; /* borrowed, as @starts */
	const uint64_t *starts;
	uint32_t nr;
	uint64_t pages; /* in all, not 0 */
};

/* Fills @starts. The regions are as gm_migrate_get_layout() leaves them. */
void gm_migrate_map_init(struct gm_migrate_map *map, const struct gm_migrate_region *regions,
	uint32_t nr, uint64_t *starts);
/* The bits of a place; false if it lies outside. */
bool gm_migrate_map_bits(const struct gm_migrate_map *map, const struct gm_migrate_place *place,
	struct gm_range *ret_bits);
/* As many of these bits as lie in a region from the first on, at most @most; *bits is the rest, false if none. */
bool gm_migrate_map_cut(const struct gm_migrate_map *map, struct gm_range *bits, uint64_t most,
	struct gm_migrate_place *ret_place);
/* The first run of set bits from @from on, within a region, @most at most. */
bool gm_migrate_map_next(const struct gm_migrate_map *map, const uint64_t *words, uint64_t from,
	uint64_t last, uint64_t most, struct gm_range *ret_bits);
/* The place of bits within one region. */
struct gm_migrate_place gm_migrate_map_place(
	const struct gm_migrate_map *map, const struct gm_range *bits);
/* All pages but those of regions that come as descriptors; returns how many are set. */
uint64_t gm_migrate_map_fill(const struct gm_migrate_map *map, uint64_t *words);

/* ---- connections ---- */

static inline uint32_t gm_migrate_slot(uint32_t role, uint32_t index)
{
	return role == GM_MIGRATE_CONTROL ? 0
	       : role == GM_MIGRATE_BULK  ? 1 + index
					  : 1 + GM_MIGRATE_BULK_MAX + index;
}

static inline uint32_t gm_migrate_role_of(uint32_t slot)
{
	return slot == 0                     ? GM_MIGRATE_CONTROL
	       : slot <= GM_MIGRATE_BULK_MAX ? GM_MIGRATE_BULK
					     : GM_MIGRATE_URGENT;
}

/* The slots of control and so many others, as bits. */
static inline uint32_t gm_migrate_slots(uint32_t bulk, uint32_t urgent)
{
	return 1u | ((1u << bulk) - 1) << 1 | ((1u << urgent) - 1) << (1 + GM_MIGRATE_BULK_MAX);
}

/* Control and bulk: where rounds end. */
#define GM_MIGRATE_ROUND_SLOTS ((1u << (1 + GM_MIGRATE_BULK_MAX)) - 1)

/* How long what may take. GM_MIGRATE_NEVER: without end. */
struct gm_migrate_times {
	uint64_t open_ns;   /* for connections to open */
	uint64_t answer_ns; /* for the peer to answer */
	uint64_t work_ns;   /* for the peer to do what it does without being asked */
	uint64_t own_ns;    /* for the embedder: between rounds, to pause, for the state */
	uint64_t ping_ns;   /* of silence until a PING */
	uint64_t line_ns;   /* of silence, or of half a message, until the line counts as lost */
	uint64_t resume_ns; /* without a line, until it is given up */
	uint64_t linger_ns; /* that an end which has ended goes on to answer */
};

/* The connections of an epoch. */
struct gm_migrate_line {
	uint32_t epoch; /* 0: there was none yet */
	uint32_t bulk;
	uint32_t urgent;
	uint32_t wanted;  /* slots of this epoch */
	uint32_t open;    /* of them */
	uint32_t busy;    /* slots with half a message, either way */
	uint64_t heard;   /* when something came on any */
	uint64_t pinged;  /* when we asked */
	bool mute;        /* control is not read: no PING is answered, so they go unasked */
	uint64_t opening; /* until when those that are missing have to be there */
	uint64_t moved[GM_MIGRATE_SLOTS];
};

void gm_migrate_line_begin(
	struct gm_migrate_line *line, uint32_t epoch, uint32_t bulk, uint32_t urgent, uint64_t now);
void gm_migrate_line_open(struct gm_migrate_line *line, uint32_t slot, uint64_t now);
void gm_migrate_line_moved(
	struct gm_migrate_line *line, uint32_t slot, bool in, bool busy, uint64_t now);
/* NULL, or why the line counts as lost. */
const char *gm_migrate_line_fault(
	const struct gm_migrate_line *line, const struct gm_migrate_times *times, uint64_t now);
/* Is it time to ask? Then it is noted as done. */
bool gm_migrate_line_ping(
	struct gm_migrate_line *line, const struct gm_migrate_times *times, uint64_t now);
/* When gm_migrate_line_fault() or _ping() would say something if nothing comes. */
uint64_t gm_migrate_line_due(
	const struct gm_migrate_line *line, const struct gm_migrate_times *times);

static inline bool gm_migrate_line_has(
	const struct gm_migrate_line *line, uint32_t slot, uint32_t epoch)
{
	return slot < GM_MIGRATE_SLOTS && line->epoch == epoch && (line->open >> slot & 1);
}

static inline uint64_t gm_migrate_after(uint64_t now, uint64_t ns)
{
	return ns < UINT64_MAX - now ? now + ns : GM_MIGRATE_NEVER;
}

/* ---- what a machine is told ---- */

/* A message, decoded. What it points to is borrowed during the call. */
struct gm_migrate_msg {
	uint32_t slot;
	uint32_t epoch; /* of its connection */
	uint32_t type;  /* gm_migrate_type */
	uint32_t len;   /* STATE */
	uint64_t number;
	uint64_t bytes;                /* SWITCH */
	struct gm_migrate_place place; /* PAGES, HAVE, REQUEST */
	uint32_t kind;                 /* PAGES */
	uint32_t nr;                   /* LAYOUT, DISCARD, DROPPED */
	const struct gm_migrate_region *regions;
	const struct gm_migrate_place *places;
	const uint8_t *bits; /* HAVE */
};

/* ---- what it wants done ---- */

enum gm_migrate_what {
	GM_MIGRATE_DO_OPEN,      /* connect @slot of @epoch, say Open; of the source */
	GM_MIGRATE_DO_CLOSE_ALL, /* all connections of @epoch, when what was to be sent is sent */
	GM_MIGRATE_DO_SEND,      /* @type on @slot, with @number */
	GM_MIGRATE_DO_HOLD,      /* read no further from @slot */
	GM_MIGRATE_DO_CONTINUE,  /* read from all again */
	GM_MIGRATE_DO_ROUND,     /* @number has ended: the embedder's turn */
	GM_MIGRATE_DO_PAUSE,     /* the guest, here; then gm_migrate_source_paused() */
	GM_MIGRATE_DO_KEEP,      /* from now on the guest may run elsewhere: it stays paused here */
	GM_MIGRATE_DO_RUN,       /* the guest runs here: it goes on, or begins */
	GM_MIGRATE_DO_PREPARE,   /* memory; then gm_migrate_destination_prepared() */
	GM_MIGRATE_DO_STORE,     /* the pages of the message, see @missing */
	GM_MIGRATE_DO_STATE,     /* keep the bytes of the message, @len at @number */
	GM_MIGRATE_DO_LOAD, /* the state, @len bytes; @missing: pages come on demand from now on */
	GM_MIGRATE_DO_DISCARD,     /* the pages that the message names */
	GM_MIGRATE_DO_POISON,      /* @place: it is lost for good */
	GM_MIGRATE_DO_TELL_LOST,   /* the line: @rc, @why; it may be resumed */
	GM_MIGRATE_DO_TELL_RUNS,   /* the guest cannot be reclaimed: it runs there */
	GM_MIGRATE_DO_TELL_FAILED, /* the state that the machine is in is the end of it: @rc, @why */
	GM_MIGRATE_DO_TELL_ENDED,  /* well */
};

struct gm_migrate_action {
	uint32_t what; /* gm_migrate_what */
	uint32_t slot;
	uint32_t epoch;
	uint32_t type; /* of SEND */
	uint64_t number;
	uint64_t len;                  /* STATE: of the piece at @number; SWITCH, DO_LOAD: of all */
	struct gm_migrate_place place; /* REQUEST, HAVE, DROPPED, DO_POISON, DO_STORE */
	uint32_t kind;                 /* DO_STORE */
	bool missing; /* DO_STORE: only pages that gm_migrate_destination_has() denies */
	int rc;
	const char *why; /* constant text: of REFUSED too */
};

struct gm_migrate_queue {
	struct gm_migrate_action at[GM_MIGRATE_QUEUE];
	uint32_t first;
	uint32_t nr;
};

/* There is room: inputs see to it by gm_migrate_queue_room(). */
void gm_migrate_push(struct gm_migrate_queue *queue, const struct gm_migrate_action *action);
void gm_migrate_push_send(
	struct gm_migrate_queue *queue, uint32_t slot, uint32_t type, uint64_t number);
bool gm_migrate_pop(struct gm_migrate_queue *queue, struct gm_migrate_action *ret);
/* Takes out what concerns connections: these are lost. */
void gm_migrate_queue_unsend(struct gm_migrate_queue *queue);

static inline bool gm_migrate_queue_room(const struct gm_migrate_queue *queue)
{
	return GM_MIGRATE_QUEUE - queue->nr >= GM_MIGRATE_QUEUE_STEP;
}

#endif
