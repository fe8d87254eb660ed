/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gate.h - who may discard, and when.
 *
 * Each discard is counted while it runs. Whoever forbids writes that down first and then waits until
 * none runs, so a discard has either seen it or is over. As long as no listener wants to be asked
 * discards run side by side and beside changes of the map; else each holds the space.
 */
#ifndef GM_MEMORY_GATE_H
#define GM_MEMORY_GATE_H

#include <guestmem/error.h>
#include <pthread.h>
#include <stdbool.h>

#include "core/range.h"

struct gm_space;

struct gm_inhibition {
	struct gm_inhibition *next;
	struct gm_range range;
	uint32_t kind; /* enum gm_inhibit */
	uint32_t count;
};

/* What scattered stretches cost, one by one and in batches; atomic, relaxed. */
struct gm_scatter {
	uint32_t turns;
	uint32_t refused;
	uint32_t single_ns; /* a stretch */
	uint32_t batch_ns;
};

struct gm_gate {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	uint32_t running; /* discards */
	uint32_t waiting; /* for none to run: no new one begins */
	uint32_t asking;  /* listeners that want to be asked */
	struct gm_inhibition *list;
	struct gm_scatter scatter;
};

void gm_gate_init(struct gm_gate *gate);
void gm_gate_fini(struct gm_gate *gate);

/* How a discard runs. */
struct gm_pass {
	bool held;   /* the space, so that listeners can be asked */
	bool barred; /* something was forbidden when it began: later ones wait for its end */
};

/* A discard begins and ends. */
int gm_gate_enter(struct gm_space *space, struct gm_pass *ret, struct gm_error *err);
void gm_gate_leave(struct gm_space *space, const struct gm_pass *pass);
/* 0 or -EBUSY. */
int gm_gate_check(struct gm_space *space, const struct gm_pass *pass, const struct gm_range *range,
	bool coordinated, struct gm_error *err);

/* A listener comes that wants to be asked, with the space held; -ETIMEDOUT. And it goes. */
int gm_gate_want(struct gm_space *space, struct gm_error *err);
void gm_gate_unwant(struct gm_space *space);

#endif
