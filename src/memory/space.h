/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.h - the space: its tree, its published view, its readers.
 *
 * One transaction at a time holds the space (busy) and plans in the tree. The view is exchanged
 * under the lock, which is held for moments only; the data behind it is immutable.
 */
#ifndef GM_MEMORY_SPACE_H
#define GM_MEMORY_SPACE_H

#include <guestmem/space.h>
#include <pthread.h>

#include "memory/counters.h"
#include "memory/gate.h"
#include "memory/node.h"
#include "memory/reclaim.h"
#include "memory/view.h"
#include "memory/window.h"

#define GM_TIMEOUT_DEFAULT_NS UINT64_C(1000000000)

struct gm_dirty;
struct gm_listener;
struct gm_txn;

struct gm_space {
	const struct gm_view *view; /* atomic: what readers load */
	struct gm_window *window;   /* or NULL */
	struct gm_space *over;      /* or NULL */
	uint32_t depth;             /* of spaces below */
	uint64_t nr_above;          /* with the lock: spaces over it, */
	uint64_t nr_logs;           /* logs of it, */
	uint64_t nr_iommus;         /* and regions of IOMMUs that it ever had: never all three */
	uint64_t timeout_ns;
	struct gm_reclaim reclaim;
	pthread_mutex_t lock;      /* busy, nodes, exchange of the view */
	bool busy;                 /* a transaction is open, or something is being reclaimed */
	bool granted;              /* a grant's, which alone changes it */
	struct gm_filler *fillers; /* who brings absent pages; with the lock */
	bool controlled; /* __atomic: a guest's requests change its mappings (gm_control) */
	struct gm_nodes nodes;
	struct gm_node *root;          /* a container of all addresses */
	struct gm_listener *listeners; /* by rising priority; changed by who holds the space */
	struct gm_dirty *dirty;
	struct gm_gate gate; /* of discards */
	uint64_t generation;
	struct gm_tallies tallies;
	char name[32];
};

/* ---- space.c ---- */
/* The options in full, checked; those of @user or, if that is NULL, the defaults. */
int gm_space_opts_copy(
	struct gm_space_opts *ret, const struct gm_space_opts *user, struct gm_error *err);
/*
 * Adds one to nr_above, nr_logs or nr_iommus: false if then all three were there. What is written through a space
 * above would pass this one on its way, and not be in its logs.
 */
bool gm_space_count(struct gm_space *space, uint64_t *counter);
void gm_space_uncount(struct gm_space *space, uint64_t *counter);
/* Takes and gives back the right to change the space. */
int gm_space_hold(struct gm_space *space, struct gm_error *err);
void gm_space_release(struct gm_space *space);
/*
 * Exchanges the view and returns the old one. In the same moment the nodes that @txn touched are what
 * it made of them, if it is not NULL.
 */
struct gm_view_full *gm_space_publish(
	struct gm_space *space, struct gm_view_full *view, struct gm_txn *txn);
/* Publishes the same map anew, as a copy of the view (taken), for what a view has besides. With the
 * space held. */
void gm_space_republish(struct gm_space *space, struct gm_view_full *copy);
/* Frees a view that was published, with @parts (taken), once its readers have left. */
void gm_space_retire(struct gm_space *space, struct gm_view_full *view, struct gm_parts *parts);

/* What is published of a node, or NULL if it is not there. With the lock held. */
const struct gm_node_state *gm_space_state(const struct gm_node *node);
/* The published name of a published node: an alias without one has that of what it shows. */
const char *gm_space_node_name(const struct gm_node *node);
/* A published node, of which @span shows from @off if it is not NULL. With the lock held. */
void gm_space_describe(const struct gm_space *space, const struct gm_node *node,
	const struct gm_span *span, uint64_t off, struct gm_region_info *ret_info);

#endif
