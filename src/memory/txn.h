/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * txn.h - a planned change: the tree as it is to be, what it was, and where it shows.
 *
 * The plan is made in the space's own tree; each node keeps what it was (struct gm_touch) until the
 * commit or the abort. Other threads that ask for a region are told what it was, so nodes are
 * changed with the space's lock held.
 */
#ifndef GM_MEMORY_TXN_H
#define GM_MEMORY_TXN_H

#include <guestmem/txn.h>

#include "core/rangeset.h"
#include "memory/space.h"

struct gm_txn {
	struct gm_space *space;
	struct gm_touch *touched;
	struct gm_rangeset changed; /* where the flattened map may differ */
	bool all_changed;           /* everywhere */
};

/* Ends it: the plan is what is published now. */
void gm_txn_settle(struct gm_txn *txn);

/* ---- changed.c ---- */

/* Notes that what shows of a node, wherever that is, may change. */
void gm_txn_changed(struct gm_txn *txn, const struct gm_node *node);

/* The absolute address of a node's byte 0 if it lies in the space without an alias. */
bool gm_node_address(const struct gm_space *space, const struct gm_node *node, uint64_t *ret_addr);

#endif
