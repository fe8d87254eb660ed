/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model_run.h - one run of test_space_model.c: a space and its model side by side.
 *
 * model_ops.c does something to both, model_compare.c looks whether they still agree. All
 * randomness comes from the run's seed, which every failure names.
 */
#ifndef GM_TESTS_MODEL_RUN_H
#define GM_TESTS_MODEL_RUN_H

#include "fault.h"
#include "model.h"
#include "random.h"
#include "support.h"

#define NR_KEPT 8u
#define NR_PINS 4u

struct pin {
	struct gm_pin pin;
	struct iovec slice;
	int block;
	uint64_t off;
};

/* All of a run. */
extern struct model_run {
	uint64_t seed;
	unsigned int step;
	uint64_t limit; /* of the window */
	bool strict;    /* nothing that would keep memory out of the window: no pins, no faults */
	struct rng rng;
	struct gm_space *space;
	struct gm_reader *reader;
	uint64_t generation;
	int kept[NR_KEPT]; /* blocks that live as long as the run */
	struct pin pins[NR_PINS];
	struct model map;  /* as published */
	struct model plan; /* as planned */
	bool spent
		[MODEL_BLOCKS]; /* given to a region that was then removed in the same transaction */
} t;

/* Figures of all runs, so that it shows when a kind of operation never works. */
extern struct model_figures {
	unsigned long ok;
	unsigned long refused;
	unsigned long commits;
	unsigned long faults;
	unsigned long placed;
	unsigned long placeable;
} figures;

extern struct gm_error err;

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("seed %lu step %u: %s (%s:%d)", (unsigned long)t.seed, t.step,    \
				#cond, __FILE__, __LINE__);                                        \
	} while (0)

static inline uint64_t below(uint64_t n)
{
	return rng_below(&t.rng, n);
}

/* ---- model_compare.c ---- */
/* Some range: within an island, over its edges, up to the top of the space and past it. */
void some_range(uint64_t *ret_gpa, uint64_t *ret_len);
/* Memory that can be moved or mapped again, below the end of the window. */
bool may_be_placed(const struct model_region *r);
void compare_pins(void);
/* Everything that the space says; @bytes: every byte too. */
void compare(bool bytes);

/* ---- model_ops.c ---- */
/* Lets one of the next calls fail, now and then. */
void arm_sometimes(unsigned int most_calls);
/* Some operations, right and wrong ones, planned in both. */
void some_operations(struct gm_txn *txn);

#endif
