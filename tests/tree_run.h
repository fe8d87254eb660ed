/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree_run.h - one run of test_tree.c: a space and a model of its tree, side by side.
 *
 * tree_ops.c does something to both, tree_compare.c looks whether they still agree. All randomness
 * comes from the run's seed, which every failure names.
 */
#ifndef GM_TESTS_TREE_RUN_H
#define GM_TESTS_TREE_RUN_H

#include "random.h"
#include "support.h"
#include "tree_model.h"

#define TREE_PAGE UINT64_C(4096)
#define TREE_BLOCK_PAGES 48u
#define TREE_PRIVATE_OFF (4 * TREE_PAGE) /* of parts, in block 0 */

/* Block 0 has an fd and may be in many regions, the others are in one at a time. */
#define TREE_BLOCKS 3

extern struct tree_run {
	uint64_t seed;
	unsigned long step;
	bool checks_regions;
	struct rng rng;
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_block *blocks[TREE_BLOCKS];
	bool was_used[TREE_BLOCKS];
	struct model map;  /* as published */
	struct model plan; /* as planned */
} tree;

/* Figures of all runs, so that it shows when a kind of operation never works. */
extern struct tree_figures {
	unsigned long trees;
	unsigned long stretches;
	unsigned long reads;
	unsigned long placed;
	unsigned long ok[16];
	unsigned long refused[16];
} tree_figures;

extern struct gm_error err;

#define tree_check(cond)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("seed %lu step %lu: %s (%s:%d)", (unsigned long)tree.seed,        \
				tree.step, #cond, __FILE__, __LINE__);                             \
	} while (0)

static inline unsigned int tree_below(unsigned int n)
{
	return (unsigned int)rng_below(&tree.rng, n);
}

/* ---- tree_ops.c ---- */

/* One operation that is as likely right as wrong; its code must be the one that the model expects. */
void tree_operate(struct gm_txn *txn);
const char *tree_operation_name(unsigned int which);

/* ---- tree_compare.c ---- */

void tree_fill_block(int block);

/* The space must say what the published model says, also while a transaction is open. */
void tree_compare(void);

/* What was published by differences must be what is flattened as a whole. No transaction is open. */
void tree_compare_whole(void);

#endif
