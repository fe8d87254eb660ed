/* SPDX-License-Identifier: BSD-3-Clause */
/* commit.h - what the steps of a commit share. */
#ifndef GM_MEMORY_COMMIT_H
#define GM_MEMORY_COMMIT_H

#include "memory/place.h"
#include "memory/txn.h"

/* A mapping that was moved, for the way back. */
struct moved {
	struct gm_map *map;
	struct gm_window *from; /* NULL: from a reservation of its own */
	uint64_t gpa;
};

struct commit {
	struct gm_txn *txn;
	struct gm_space *space;
	struct gm_placing placing;
	size_t cap;                /* of both lists of edits */
	struct gm_view_full *view; /* the new one */
	/* If something must be vacated: */
	struct gm_edit *rests;      /* the old pieces without those whose mappings must go */
	struct gm_rangeset vacated; /* where old pieces show by such mappings */
	struct gm_view_full *hole;
	struct gm_view_full *back;
	struct gm_deferred *barrier; /* has the wait wait for readers of the view that is held */
	struct gm_map **listed;      /* what must go */
	size_t nr_listed;
	size_t cap_listed;
	struct moved *moves; /* what has gone, aside and perhaps once more to its new place */
	size_t nr_moves;
	struct gm_view_full *held; /* the old view, while the one with holes is out */
	bool asked;                /* listeners have agreed */
};

/* What shows now by a span of the published view, which has it begin at @off of its region. */
struct gm_piece gm_commit_old_piece(
	const struct commit *c, const struct gm_span *span, uint64_t off);

/* Flattens @range anew, beside what shows there now: one more edit. */
int gm_commit_add_edit(struct commit *c, const struct gm_range *range);

/* Says what went wrong when something was flattened. */
int gm_commit_explain(const struct commit *c, int rc, struct gm_error *err);

/* Calls @fn for each new piece until it returns other than 0. */
int gm_commit_each(
	struct commit *c, int (*fn)(struct commit *, struct gm_piece *, void *), void *ctx);

/*
 * gm_txn_commit() in two steps, for a space that is kept in step with another: all that can fail, and
 * then, when the other one is published, what cannot. After a failure, and after gm_commit_undo(), the
 * space is as it was and the transaction is open; gm_commit_finish() takes it.
 */
int gm_commit_start(struct commit *c, struct gm_txn *txn, struct gm_error *err);
void gm_commit_finish(struct commit *c);
void gm_commit_undo(struct commit *c);

static inline const struct gm_view_full *gm_commit_published(const struct commit *c)
{
	return (const struct gm_view_full *)(const void *)c->space->view;
}

/* ---- vacate.c ---- */

/* Lists the mappings that must go and prepares the views for it. */
int gm_commit_prepare_vacate(struct commit *c, struct gm_error *err);
/* Waits for readers, moves mappings, and gives the rest of the pieces theirs. */
int gm_commit_vacate(struct commit *c, struct gm_error *err);
/* After a failure: all is where it was. */
void gm_commit_take_back(struct commit *c);

#endif
