/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mover.h - a guest of "guestmem run" that can be moved, or has come: a thread beside it that steps the migration, and
 * answers the control socket. That thread never touches guest memory, which may be missing; pausing, saving, loading
 * and starting are wishes to the thread that owns the guest's engine, which looks at mover_ask().
 *
 * mover.c is the thread and the wishes; mover_out.c the source, mover_options.c what it takes; mover_in.c the
 * destination; mover_command.c what the control socket takes; mover_show.c what is said of it all; mover_advice.c why
 * it is as it is, and what to do next.
 */
#ifndef TOOL_MOVER_H
#define TOOL_MOVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <guestmem/migrate_in.h>
#include <guestmem/migrate_out.h>
#include <guestmem/watch.h>

#include "control.h"
#include "migrate_address.h"
#include "run.h"

enum mover_wish {
	MOVER_PAUSE = 1 << 0,
	MOVER_SAVE = 1 << 1,
	MOVER_GO_ON = 1 << 2,
	MOVER_PREPARE = 1 << 3,
	MOVER_LOAD = 1 << 4,
	MOVER_START = 1 << 5,
};

struct mover {
	struct control *control;
	const char *socket; /* of it, or NULL */
	pthread_t thread;
	bool started;
	int wake; /* eventfds: for its thread, and for the guest's */
	int ask;
	pthread_mutex_t lock;
	/* Under the lock. */
	uint32_t wishes;
	bool turning; /* the guest's thread does what was wished */
	bool quit;
	uint32_t state; /* enum gm_migrate_state, of the last migration */
	double paused;  /* when the guest was, at the source; 0: never */
	double stood;   /* how long it stood still, if it goes on here */
	double ended;   /* when the state became one of an end */
	bool answers;   /* of a destination: since then, to a source that may not know */
	bool over;      /* of a destination: the guest has ended */
	/* Its thread's own. */
	struct gm_migrate_out *out;
	struct gm_migrate_in *in;
	struct address to;
	char to_text[ADDRESS_CAP];
	char unreached[ADDRESS_CAP + 128]; /* why the last connection could not be made, or empty */
	bool accepted;                     /* the destination has taken it on */
	uint32_t way;                      /* enum gm_migrate_out_way */
	struct gm_watch *watch;
	bool tracks;
	double begun;
	double said;
	int listener;
	bool tcp;
	char name[ADDRESS_CAP];
	struct gm_space *joins; /* pages of it are being made huge, or NULL */
	uint64_t join_at;
	uint64_t join_left;
	int spare;         /* a descriptor to be closed where there are no more, or -1 */
	double accepts;    /* connections are taken from then on */
	double complained; /* about one that was not */
	uint64_t turned_away;
	uint64_t memory_max;
	const char *backing;        /* the path of the file that is to have the memory, or NULL */
	struct tool_output *events; /* or NULL */
	bool quiet;
	/* For the guest's thread, until it has answered. */
	struct run_memory_place places[RUN_MEMORY_PLACES_MAX];
	size_t nr_places; /* more than there is room for: too many */
	const void *data;
	size_t data_len;
	/* The guest's thread's. */
	struct run_engine *engine; /* __atomic; set when there is a guest */
	bool held;                 /* the guest is paused for it, or gone */
	char refusal[256];         /* a constant for the library */
};

/* ---- mover.c ---- */
/* @socket may be NULL. False after a message; mover_fini() in any case. */
bool mover_init(struct mover *m, const char *socket);
bool mover_start(struct mover *m);
/* What it has not ended stays as it is: mover_finish() before. */
void mover_fini(struct mover *m);
/* The guest's thread: readable when something is wished, or the state is another. -1 without a mover. */
int mover_ask(const struct mover *m);
/* The guest's thread: takes what is wished, until mover_turned(). */
uint32_t mover_turn(struct mover *m);
void mover_turned(struct mover *m);
uint32_t mover_state(struct mover *m);
/* Has a migration begun that has not ended? */
bool mover_moves(struct mover *m);
/* Of a destination that has ended: may a source come that does not know? */
bool mover_answers(struct mover *m);
static inline bool mover_ended(uint32_t state)
{
	return state >= GM_MIGRATE_IS_ENDED;
}
/* Its own thread. */
void mover_wish(struct mover *m, uint32_t wish);
/* What the library says now, for the other thread. */
void mover_settle(struct mover *m);
int mover_stats(struct mover *m, struct gm_migrate_stats *ret);

/* ---- mover_out.c: the source ---- */
/* Begins: options as the control socket has them. NULL, or why not, for free(). */
char *mover_send(struct mover *m, const json_t *options);
/* After the end, if the guest runs here. */
void mover_untrack(struct mover *m);
/* The guest's thread: does what is wished. */
void mover_serve(struct mover *m);
/* The guest's thread: a signal has come. True: it is to be acted upon now. */
bool mover_signal(struct mover *m, int signo);
/* The guest's thread: it has ended here, so the migration has to. */
void mover_finish(struct mover *m);

/* ---- mover_options.c ---- */
#define MOVER_LEVEL_LEAST (-131072) /* of zstd */
#define MOVER_LEVEL_MOST 100
#define MOVER_ROUNDS_MOST 10000 /* of the library */
/* The options of "send {...}" but "to". NULL, or what is wrong, for free(). */
char *mover_options(const json_t *options, struct gm_migrate_out_opts *ret);
/* Their words: a constant; a number of 0 is no codec. */
const char *mover_way_name(uint32_t way);
uint32_t mover_codec_plus(const char *name);
const char *mover_codec_name(uint32_t codec_plus);

/* ---- mover_in.c: the destination ---- */
struct mover_in_opts {
	struct address address;
	uint32_t flags; /* GM_MIGRATE_IN_* */
	uint64_t memory_max;
};
/* The guest's thread: it runs, or will not. Of another guest than one that came it says nothing. */
void mover_started(struct mover *m, int rc);
/* False after a message. */
bool mover_listen(struct mover *m, const struct mover_in_opts *opts);
void mover_accept(struct mover *m);
/*
 * All has come. Post-copy brings pages one by one; where transparent huge pages were wished they are made of these now,
 * a part in a turn of the thread, so that nobody waits for all of it.
 */
void mover_join_begin(struct mover *m);
void mover_join(struct mover *m);

/* ---- mover_command.c ---- */
bool mover_tell(void *ctx, const char *line, char **ret_answer);

/* ---- mover_show.c ---- */
json_t *mover_json(void *ctx);
void mover_metrics(void *ctx, FILE *out);
void mover_text(void *ctx, FILE *out);
/* A line for all that listen; @event may be NULL. */
void mover_say(struct mover *m, const char *what, const struct gm_migrate_event *event);
/* A thing that an embedder of either end is told. */
void mover_told(void *ctx, const struct gm_migrate_event *event);

/* ---- mover_advice.c: for free() ---- */
/* Why it is in this state: the library's words, or ours where we know better. */
char *mover_why(struct mover *m, uint32_t state, int rc, const char *why);
/* What to do about a state, or NULL. */
char *mover_advice(struct mover *m, uint32_t state);

#endif
