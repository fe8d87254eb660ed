/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * commit.c - carrying a plan out: flatten, place, vacate, publish, retire.
 *
 * Only what changed is flattened anew. What can fail comes before publication.
 */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/commit.h"
#include "memory/dirty.h"
#include "memory/listener.h"
#include "memory/render.h"
#include "sys/sys.h"

static int no_memory(const struct commit *c, struct gm_error *err)
{
	return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", c->space->name);
}

/* ---- what changes ---- */

struct gm_piece gm_commit_old_piece(
	const struct commit *c, const struct gm_span *span, uint64_t off)
{
	struct gm_piece piece = {
		.range = {span->first, span->last},
		.off = off,
		.node = gm_node_at(&c->space->nodes, span->node),
		.perms = span->perms,
		.map = (struct gm_map *)(uintptr_t)span->owner,
	};
	const struct gm_node_state *state = gm_space_state(piece.node);

	piece.parts = state ? gm_node_parts(piece.node, state) : NULL;
	if (piece.map)
		piece.block_off = span->delta + span->first - (uintptr_t)piece.map->hva +
				  piece.map->block_off;
	return piece;
}

/* Out to the borders of what shows there now and right beside it, so that it can be joined. */
static void widen(const struct commit *c, struct gm_range *range)
{
	const struct gm_view *view = c->space->view;
	uint64_t last = range->last;
	const struct gm_span *span;
	uint64_t off;

	span = gm_table_next(view, range->first ? range->first - 1 : 0, &off);
	if (span && span->first < range->first)
		range->first = span->first;
	span = gm_table_next(view, last, &off);
	if (span && span->first <= last)
		range->last = span->last;
	if (range->last != last || last == UINT64_MAX)
		return;
	span = gm_table_next(view, last + 1, &off);
	if (span && span->first == last + 1)
		range->last = span->last;
}

/* The pieces that show in @range now; @range begins and ends where they do. */
static int list_old(const struct commit *c, const struct gm_range *range, struct gm_edit *ret)
{
	const struct gm_view *view = c->space->view;
	size_t cap = 0;
	uint64_t off;

	*ret = (struct gm_edit){.range = *range};
	for (const struct gm_span *span = gm_table_next(view, range->first, &off);
		span && span->first <= range->last; span = gm_table_after(view, span, &off)) {
		if (ret->nr == cap) {
			struct gm_piece *pieces;

			cap = cap ? cap * 2 : 4;
			pieces = gm_sys_realloc(ret->pieces, cap, sizeof(*pieces));
			if (!pieces)
				return -ENOMEM;
			ret->pieces = pieces;
		}
		ret->pieces[ret->nr++] = gm_commit_old_piece(c, span, off);
	}
	return 0;
}

/* Room for another edit, and one more for what may have to be pulled in. */
static int make_room(struct commit *c)
{
	struct gm_placing *pl = &c->placing;
	size_t cap = c->cap ? c->cap * 2 : 4;
	struct gm_edit *edits;

	if (pl->nr < c->cap)
		return 0;
	edits = gm_sys_realloc(pl->olds, cap, sizeof(*edits));
	if (!edits)
		return -ENOMEM;
	pl->olds = edits;
	edits = gm_sys_realloc(pl->news, cap, sizeof(*edits));
	if (!edits)
		return -ENOMEM;
	pl->news = edits;
	c->cap = cap;
	return 0;
}

int gm_commit_add_edit(struct commit *c, const struct gm_range *range)
{
	struct gm_placing *pl = &c->placing;
	struct gm_pieces pieces = {0};
	int rc = make_room(c);

	if (rc)
		return rc;
	pl->news[pl->nr] = (struct gm_edit){.range = *range};
	rc = list_old(c, range, &pl->olds[pl->nr]);
	if (!rc)
		rc = gm_render(c->space->root, range, &pieces);
	pl->news[pl->nr].pieces = pieces.items;
	pl->news[pl->nr].nr = pieces.nr;
	/* From here on it is freed with the rest. */
	pl->nr++;
	return rc;
}

int gm_commit_explain(const struct commit *c, int rc, struct gm_error *err)
{
	if (rc == -E2BIG)
		return gm_error_set(err, rc, 0, 0,
			"%s: aliases of aliases show more than 2^20 regions", c->space->name);
	if (rc == -ELOOP)
		return gm_error_set(err, rc, 0, 0,
			"%s: regions lie in or show each other more than %u deep", c->space->name,
			GM_NODE_DEPTH_MAX);
	return rc ? no_memory(c, err) : 0;
}

static int flatten_changed(struct commit *c, struct gm_error *err)
{
	struct gm_range everything = {0, UINT64_MAX};
	struct gm_rangeset changed = c->txn->changed;
	struct gm_rangeset wide = {.cap = changed.nr + 1};
	int rc = 0;

	if (c->txn->all_changed)
		changed = (struct gm_rangeset){.ranges = &everything, .nr = 1};
	wide.ranges = gm_sys_alloc_array(wide.cap, sizeof(*wide.ranges));
	if (!wide.ranges)
		return no_memory(c, err);
	for (size_t i = 0; i < changed.nr; i++) {
		struct gm_range range = changed.ranges[i];

		widen(c, &range);
		gm_rangeset_add(&wide, &range);
	}
	for (size_t i = 0; i < wide.nr && !rc; i++)
		rc = gm_commit_add_edit(c, &wide.ranges[i]);
	gm_sys_free(wide.ranges);
	return gm_commit_explain(c, rc, err);
}

static void free_edits(struct gm_edit *edits, size_t nr)
{
	for (size_t i = 0; edits && i < nr; i++)
		gm_sys_free(edits[i].pieces);
	gm_sys_free(edits);
}

static void discard(struct commit *c)
{
	gm_view_discard(c->view);
	gm_view_discard(c->hole);
	gm_view_discard(c->back);
	gm_sys_free(c->barrier);
	if (c->rests)
		free_edits(c->rests, c->placing.nr);
	free_edits(c->placing.olds, c->placing.nr);
	free_edits(c->placing.news, c->placing.nr);
	gm_sys_free(c->listed);
	gm_sys_free(c->vacated.ranges);
	gm_sys_free(c->moves);
}

/* ---- placing ---- */

int gm_commit_each(
	struct commit *c, int (*fn)(struct commit *, struct gm_piece *, void *), void *ctx)
{
	for (size_t i = 0; i < c->placing.nr; i++) {
		for (size_t j = 0; j < c->placing.news[i].nr; j++) {
			int rc = fn(c, &c->placing.news[i].pieces[j], ctx);

			if (rc)
				return rc;
		}
	}
	return 0;
}

static int place(struct commit *c, struct gm_piece *piece, void *err)
{
	return piece->primary ? gm_place(&c->placing, piece, false, err) : 0;
}

static int place_alias(struct commit *c, struct gm_piece *piece, void *err)
{
	return piece->primary ? 0 : gm_place(&c->placing, piece, false, err);
}

static int find_waiting(struct commit *c, struct gm_piece *piece, void *unused)
{
	(void)c;
	(void)unused;
	return gm_place_waits(piece);
}

/* A region's own place is found before its aliases are, which go where it is. */
static int place_all(struct commit *c, struct gm_error *err)
{
	int rc = gm_commit_each(c, place, err);

	return rc ? rc : gm_commit_each(c, place_alias, err);
}

/* ---- publication ---- */

/* What is new at some addresses is new to the logs; and once more when nobody uses the old map. */
static void note_changes(struct commit *c, struct gm_view_full *old)
{
	struct gm_txn *txn = c->txn;

	if (!gm_view_is_logged(&c->view->pub))
		return;
	gm_dirty_settle(c->space->dirty, &txn->changed, txn->all_changed, c->view->aliases_came);
	old->all_changed = txn->all_changed;
	old->changed = txn->changed;
	txn->changed = (struct gm_rangeset){0};
}

void gm_commit_finish(struct commit *c)
{
	struct gm_space *space = c->space;
	const struct gm_view_full *base = c->held ? c->held : gm_commit_published(c);
	struct gm_view_full *out;

	gm_view_finish(c->view, base, space->window, c->placing.news, c->placing.nr,
		space->generation + 1);
	gm_place_keep(&c->placing);
	gm_txn_drop_gone(c->txn);
	out = gm_space_publish(space, c->view, c->txn);
	note_changes(c, out);
	if (c->held) {
		gm_space_retire(space, c->held, &c->view->garbage);
		gm_space_retire(space, out, &out->fresh);
	} else {
		gm_space_retire(space, out, &c->view->garbage);
	}
	gm_view_trim(c->view);
	c->view = NULL;
	gm_listeners_commit(c);
	/* A few rounds end the epochs if nobody is in a section; what is left waits for the next
	 * change. */
	for (int round = 0; round < 3 && gm_reclaim_poll(&space->reclaim) > 0; round++)
		;
	gm_txn_end(c->txn);
	discard(c);
}

void gm_commit_undo(struct commit *c)
{
	gm_listeners_withdraw(c);
	gm_commit_take_back(c);
	gm_listeners_restore(c);
	discard(c);
}

int gm_commit_start(struct commit *c, struct gm_txn *txn, struct gm_error *err)
{
	bool waits = false;
	int rc;

	*c = (struct commit){.txn = txn, .space = txn->space, .placing = {.space = txn->space}};
	gm_reclaim_poll(&c->space->reclaim);
	rc = flatten_changed(c, err);
	if (!rc)
		rc = place_all(c, err);
	if (!rc) {
		waits = gm_commit_each(c, find_waiting, NULL);
		if (waits)
			rc = gm_commit_prepare_vacate(c, err);
	}
	if (!rc) {
		c->view = gm_view_edit(gm_commit_published(c), c->placing.news, c->placing.nr);
		rc = c->view ? 0 : no_memory(c, err);
	}
	if (!rc)
		rc = gm_listeners_ask(c, err);
	if (!rc)
		gm_listeners_withdraw(c);
	if (!rc && waits)
		rc = gm_commit_vacate(c, err);
	if (!rc)
		rc = gm_listeners_give(c, err);
	if (rc)
		gm_commit_undo(c);
	return rc;
}

int gm_txn_commit(struct gm_txn *txn, struct gm_error *err)
{
	struct commit c;
	int rc = gm_commit_start(&c, txn, err);

	if (!rc)
		gm_commit_finish(&c);
	return rc;
}
