/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vacate.c - addresses whose memory changes: a view with holes, a grace period, moves.
 *
 * Each step knows its way back. A map that cannot be moved back is reached where it is by the
 * general look-up, so that going back cannot fail.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "memory/commit.h"
#include "sys/sys.h"

static bool is_listed(const struct commit *c, const struct gm_map *map)
{
	for (size_t i = 0; i < c->nr_listed; i++) {
		if (c->listed[i] == map)
			return true;
	}
	return false;
}

static int list_map(struct commit *c, struct gm_map *map)
{
	if (is_listed(c, map))
		return 0;
	if (c->nr_listed == c->cap_listed) {
		size_t cap = c->cap_listed ? c->cap_listed * 2 : 8;
		struct gm_map **listed = gm_sys_realloc(c->listed, cap, sizeof(struct gm_map *));

		if (!listed)
			return -ENOMEM;
		c->listed = listed;
		c->cap_listed = cap;
	}
	c->listed[c->nr_listed++] = map;
	return 0;
}

static int list_shifting(struct commit *c, struct gm_piece *piece, void *unused)
{
	(void)unused;
	return gm_place_must_shift(&c->placing, piece) ? list_map(c, piece->node->s.map) : 0;
}

static int uses(struct commit *c, struct gm_piece *piece, void *map)
{
	(void)c;
	return piece->map == map;
}

static int claims(struct commit *c, struct gm_piece *piece, void *range)
{
	struct gm_range claim;

	return gm_place_waits(piece) && gm_place_claim(&c->placing, piece, &claim) &&
	       gm_range_overlaps(&claim, range);
}

/* The edit that holds an address of what shows now, or NULL. */
static const struct gm_edit *edit_at(const struct commit *c, uint64_t addr)
{
	for (size_t i = 0; i < c->placing.nr; i++) {
		if (gm_range_has(&c->placing.olds[i].range, addr))
			return &c->placing.olds[i];
	}
	return NULL;
}

/* The first that shows now by this mapping and is not edited, or NULL. */
static const struct gm_span *find_outside(const struct commit *c, const struct gm_map *map)
{
	const struct gm_view *view = c->space->view;
	uint64_t off;
	const struct gm_span *span = gm_table_next(view, 0, &off);

	while (span && (span->owner != map || edit_at(c, span->first)))
		span = gm_table_after(view, span, &off);
	return span;
}

/* Does somebody else of the plan need the addresses of a mapping that nobody in it shows by? */
static int consider(struct commit *c, struct gm_map *map)
{
	struct gm_range claim;

	if (!map || map->window != c->space->window || !map->window ||
		!gm_range_make(map->gpa, map->len, &claim))
		return 0;
	if (!gm_commit_each(c, claims, &claim) || gm_commit_each(c, uses, map) ||
		find_outside(c, map))
		return 0;
	return list_map(c, map);
}

/* Mappings are held by regions, also by hidden ones, by what regions were, and by what shows. */
static int consider_all(struct commit *c)
{
	struct gm_space *space = c->space;
	int rc = 0;

	for (uint32_t i = 0; i < space->nodes.nr && !rc; i++) {
		struct gm_node *node = gm_node_at(&space->nodes, i);

		if (gm_node_is_used(node))
			rc = consider(c, node->s.map);
	}
	for (struct gm_touch *t = c->txn->touched; t && !rc; t = t->next)
		rc = t->fresh ? 0 : consider(c, t->old.map);
	for (size_t i = 0; i < c->placing.nr && !rc; i++) {
		for (size_t j = 0; j < c->placing.olds[i].nr && !rc; j++)
			rc = consider(c, c->placing.olds[i].pieces[j].map);
	}
	return rc;
}

/* What else shows by a mapping that is moved becomes part of the change. */
static int pull_in(struct commit *c, struct gm_map *map)
{
	struct gm_placing *pl = &c->placing;
	const struct gm_span *span;

	while ((span = find_outside(c, map))) {
		struct gm_range range = {span->first, span->last};
		int rc = gm_commit_add_edit(c, &range);

		if (rc)
			return rc;
		for (size_t i = 0; i < pl->news[pl->nr - 1].nr; i++)
			pl->news[pl->nr - 1].pieces[i].map = map;
	}
	return 0;
}

static int by_range(const void *a, const void *b)
{
	const struct gm_edit *x = a;
	const struct gm_edit *y = b;

	return x->range.first < y->range.first ? -1 : 1;
}

static int list_moves(struct commit *c, struct gm_error *err)
{
	struct gm_placing *pl = &c->placing;
	int rc = gm_commit_each(c, list_shifting, NULL);

	if (!rc)
		rc = consider_all(c);
	for (size_t i = 0; i < c->nr_listed && !rc; i++)
		rc = pull_in(c, c->listed[i]);
	qsort(pl->olds, pl->nr, sizeof(*pl->olds), by_range);
	qsort(pl->news, pl->nr, sizeof(*pl->news), by_range);
	return gm_commit_explain(c, rc, err);
}

/* Views with holes and, for the way back, without; nothing if nothing is to be hidden. */
static int make_hole(struct commit *c, struct gm_error *err)
{
	struct gm_placing *pl = &c->placing;

	c->rests = gm_sys_alloc_array(pl->nr + 1, sizeof(*c->rests));
	c->moves = gm_sys_alloc_array(2 * c->nr_listed + 1, sizeof(*c->moves));
	for (size_t i = 0; i < pl->nr; i++)
		c->vacated.cap += pl->olds[i].nr;
	c->vacated.ranges = gm_sys_alloc_array(c->vacated.cap + 1, sizeof(struct gm_range));
	if (!c->rests || !c->moves || !c->vacated.ranges)
		return gm_commit_explain(c, -ENOMEM, err);
	for (size_t i = 0; i < pl->nr; i++) {
		struct gm_edit *rest = &c->rests[i];

		rest->range = pl->olds[i].range;
		rest->pieces = gm_sys_alloc_array(pl->olds[i].nr + 1, sizeof(*rest->pieces));
		if (!rest->pieces)
			return gm_commit_explain(c, -ENOMEM, err);
		for (size_t j = 0; j < pl->olds[i].nr; j++) {
			if (pl->olds[i].pieces[j].map && is_listed(c, pl->olds[i].pieces[j].map))
				gm_rangeset_add(&c->vacated, &pl->olds[i].pieces[j].range);
			else
				rest->pieces[rest->nr++] = pl->olds[i].pieces[j];
		}
	}
	if (c->vacated.nr == 0)
		return 0;
	c->hole = gm_view_edit(gm_commit_published(c), c->rests, pl->nr);
	c->back = gm_view_edit(gm_commit_published(c), pl->olds, pl->nr);
	c->barrier = gm_sys_alloc(sizeof(*c->barrier));
	return c->hole && c->back && c->barrier ? 0 : gm_commit_explain(c, -ENOMEM, err);
}

static void free_barrier(struct gm_deferred *barrier)
{
	gm_sys_free(barrier);
}

static void publish_hole(struct commit *c)
{
	struct gm_space *space = c->space;

	gm_view_finish(c->hole, gm_commit_published(c), space->window, c->rests, c->placing.nr,
		space->generation + 1);
	c->held = gm_space_publish(space, c->hole, NULL);
	c->hole = NULL;
	c->barrier->run = free_barrier;
	gm_reclaim_defer(&space->reclaim, c->barrier);
	c->barrier = NULL;
}

static int shift(struct commit *c, struct moved *record, struct gm_map *map, struct gm_window *to,
	uint64_t gpa, struct gm_error *err)
{
	struct moved from = {.map = map, .from = map->window, .gpa = map->gpa};
	int rc;

	pthread_mutex_lock(&c->space->lock);
	rc = gm_map_move(map, to, gpa, err);
	pthread_mutex_unlock(&c->space->lock);
	if (!rc)
		*record = from;
	return rc;
}

/* Pinned memory stays where it is; whoever wanted its addresses is reached by the general look-up.
 */
static int shift_aside(struct commit *c, struct gm_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < c->nr_listed && !rc; i++) {
		struct gm_map *map = c->listed[i];

		if (gm_map_pins(map) > 0)
			continue;
		rc = shift(c, &c->moves[c->nr_moves], map, NULL, 0, err);
		if (!rc)
			c->nr_moves++;
	}
	return rc;
}

/* Pinned memory was not. */
static bool was_moved(const struct commit *c, const struct gm_map *map)
{
	for (size_t i = 0; i < c->nr_moves; i++) {
		if (c->moves[i].map == map)
			return true;
	}
	return false;
}

/* Memory that was moved aside to go elsewhere goes there. */
static int shift_home(struct commit *c, struct gm_piece *piece, void *err)
{
	struct gm_map *map = piece->node->s.map;
	struct gm_error why = {0};
	struct gm_range claim;
	int rc;

	if (!gm_place_waits(piece) || !gm_place_must_shift(&c->placing, piece) || map->window ||
		!was_moved(c, map) || !gm_place_claim(&c->placing, piece, &claim))
		return 0;
	rc = shift(c, &c->moves[c->nr_moves], map, c->space->window, claim.first, &why);
	if (!rc)
		c->nr_moves++;
	return !rc || rc == -EEXIST || rc == -ERANGE ? 0 : gm_error_pass(err, &why, rc);
}

static int place_free(struct commit *c, struct gm_piece *piece, void *err)
{
	return gm_place(&c->placing, piece, false, err);
}

static int place_last(struct commit *c, struct gm_piece *piece, void *err)
{
	return gm_place(&c->placing, piece, true, err);
}

static int settle_all(struct commit *c, struct gm_error *err)
{
	int rc = gm_commit_each(c, shift_home, err);

	if (!rc)
		rc = gm_commit_each(c, place_free, err);
	return rc ? rc : gm_commit_each(c, place_last, err);
}

int gm_commit_prepare_vacate(struct commit *c, struct gm_error *err)
{
	int rc = list_moves(c, err);

	return rc ? rc : make_hole(c, err);
}

int gm_commit_vacate(struct commit *c, struct gm_error *err)
{
	int rc;

	if (c->hole)
		publish_hole(c);
	/* Addresses may also be held by regions that were removed before. */
	rc = gm_reclaim_wait(&c->space->reclaim, c->space->timeout_ns, err);
	/* Whoever only wanted those is reached by the general look-up for now. */
	if (rc == -ETIMEDOUT && c->nr_listed == 0)
		return settle_all(c, err);
	if (!rc)
		rc = shift_aside(c, err);
	return rc ? rc : settle_all(c, err);
}

/* ---- the way back ---- */

void gm_commit_take_back(struct commit *c)
{
	struct gm_space *space = c->space;
	struct gm_view_full *hole;

	gm_place_undo(&c->placing);
	while (c->nr_moves > 0) {
		const struct moved *record = &c->moves[--c->nr_moves];
		struct moved unused;

		shift(c, &unused, record->map, record->from, record->gpa, NULL);
	}
	if (!c->held)
		return;
	gm_view_finish(c->back, c->held, space->window, c->placing.olds, c->placing.nr,
		space->generation + 1);
	hole = gm_space_publish(space, c->back, NULL);
	gm_space_retire(space, c->held, &c->back->garbage);
	gm_space_retire(space, hole, &hole->fresh);
	c->back = NULL;
}
