/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_world.h - a simulated migration: both machines, a network that loses, delays and cuts, a guest that writes
 * and faults, embedders that change their minds, ends that are killed. All of it by one seed.
 *
 * What is found wrong stands in @fault, once: the first.
 */
#ifndef GM_TESTS_MIGRATE_WORLD_H
#define GM_TESTS_MIGRATE_WORLD_H

#include "core/migrate_destination.h"
#include "core/migrate_source.h"
#include "random.h"

#define W_PAGES 40u
#define W_REGIONS 3u
#define W_CONNS 48u
#define W_PIPE 64u
#define W_RUN 4u /* pages of a message */
#define W_STEPS 40000u
#define W_GARBAGE 0xdeadbeefu

struct packet {
	struct gm_migrate_msg msg;
	bool opens; /* is Open, or Opened */
	uint32_t size;
	uint32_t moved;
	struct gm_migrate_open open;
	struct gm_migrate_opened opened;
	uint32_t versions[W_RUN];
	struct gm_migrate_place places[4];
	uint8_t bits[W_PAGES / 8 + 1];
};

struct pipe {
	struct packet at[W_PIPE];
	uint32_t first;
	uint32_t nr;
};

/* Pipe 0 leads to the destination. */
struct conn {
	bool used;
	bool cut; /* both ends find out when they have read what is left */
	bool at_source;
	bool at_destination;
	bool answered;
	uint32_t slot;
	uint32_t epoch;
	uint64_t stalled; /* until when nothing moves */
	struct pipe pipes[2];
};

/* Pages on their way into memory. */
struct storing {
	bool used;
	struct gm_migrate_action action;
	uint32_t versions[W_RUN];
};

struct world {
	struct rng rng;
	const char *fault;
	uint64_t now;
	uint32_t steps;
	bool calm;         /* nothing goes wrong: it has to end well */
	bool passive;      /* the source's embedder leaves it to deadlines */
	uint32_t troubles; /* that are left */
	uint32_t rate;     /* one in so many steps */
	bool late;         /* none before RUN */
	uint32_t speed;    /* of the network and of what is around the machines, in a step */
	uint32_t resumes;  /* likewise, as whims of embedders */
	uint32_t whims;
	uint32_t drops; /* pages that the guest may still give back */
	bool killed[2]; /* source, destination */
	/* what they move */
	struct gm_migrate_region regions[W_REGIONS];
	uint64_t starts[W_REGIONS];
	struct gm_migrate_map map;
	struct gm_migrate_source source;
	struct gm_migrate_destination destination;
	uint64_t todo[1];
	uint64_t have[1];
	uint64_t lost[1];
	uint64_t wanted[1];
	/* the guest */
	bool runs_at_source;
	bool runs_at_destination; /* or may, from now on */
	bool has_started;
	uint32_t version;
	uint32_t truth[W_PAGES]; /* what it wrote last */
	uint32_t memory[2][W_PAGES];
	uint64_t dirty;
	uint64_t bad;   /* pages that the source cannot read */
	uint64_t waits; /* pages that somebody at the destination waits for */
	uint64_t named; /* pages that were said to be lost */
	uint64_t asked; /* pages in a request of this epoch */
	/* what embedders have yet to do */
	bool to_pause;
	bool to_say_paused;
	bool to_write;
	bool to_choose;
	bool to_prepare;
	bool to_load;
	bool to_start;
	bool kept; /* the source was told that the guest may run elsewhere */
	uint64_t state_len;
	uint64_t state_came;
	bool acked;      /* DONE_ACK was said */
	bool never;      /* the destination has said that it will not run it */
	uint32_t newest; /* epoch that the destination has taken */
	struct storing storing[64];
	struct conn conns[W_CONNS];
};

/* One migration from begin to end; NULL or what went wrong. */
const char *world_run(struct world *w, uint64_t seed);

/* ---- migrate_world_net.c ---- */
struct conn *world_connect(struct world *w, uint32_t slot, uint32_t epoch);
/* The connection that an end has open; NULL: there is none. */
struct conn *world_conn(struct world *w, bool source, uint32_t slot, uint32_t epoch);
struct packet *world_packet(struct world *w, struct conn *conn, int way);
void world_close(struct world *w, struct conn *conn, bool source);
void world_trouble(struct world *w);
/* Moves something; false: nothing can be moved now. */
bool world_move(struct world *w);
void world_kill(struct world *w, bool source);

/* ---- migrate_world_io.c: what the layers around the machines will do ---- */
void world_drain(struct world *w);
bool world_send_pages(struct world *w);
bool world_store(struct world *w);

static inline void world_check(struct world *w, bool right, const char *what)
{
	if (!right && !w->fault)
		w->fault = what;
}

static inline bool world_chance(struct world *w, uint64_t one_in)
{
	return rng_below(&w->rng, one_in) == 0;
}

/* An embedder changes its mind: a few times, or none. */
static inline bool world_whim(struct world *w)
{
	bool has = w->whims && world_chance(w, 200);

	w->whims -= has;
	return has;
}

#endif
