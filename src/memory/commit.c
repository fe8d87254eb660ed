/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * commit.c - carrying a plan out: flatten, place, vacate, shift, publish, retire.
 *
 * Only what changed is flattened anew. What can fail comes before publication, and each step knows
 * its way back. A map that cannot be moved back is reached where it is by the general look-up, so
 * that going back cannot fail.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/error.h"
#include "memory/avail.h"
#include "memory/place.h"
#include "memory/render.h"
#include "memory/txn.h"
#include "sys/sys.h"

/* A mapping that was moved, for the way back. */
struct moved {
	struct gm_map *map;
	struct gm_window *from; /* NULL: from a reservation of its own */
	uint64_t gpa;
};

/* Makes the wait for readers wait for those of the view that is still to be used again. */
struct barrier {
	struct gm_deferred deferred;
};

struct commit {
	struct gm_txn *txn;
	struct gm_space *space;
	struct gm_placing placing;
	size_t cap;                /* of both lists of edits */
	struct gm_view_full *view; /* the new one */
	/* If something must be vacated: */
	struct gm_edit *rests; /* the old pieces without those whose mappings must go */
	struct gm_view_full *hole;
	struct gm_view_full *back;
	struct barrier *barrier;
	struct gm_map **listed; /* what must go */
	size_t nr_listed;
	size_t cap_listed;
	struct moved *moves; /* what has gone, aside and perhaps once more to its new place */
	size_t nr_moves;
	struct gm_view_full *held; /* the old view, while the one with holes is out */
};

static int no_memory(const struct commit *c, struct gm_error *err)
{
	return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", c->space->name);
}

static const struct gm_view_full *published(const struct commit *c)
{
	return (const struct gm_view_full *)(const void *)c->space->view;
}

/* ---- what changes ---- */

static struct gm_piece old_piece(const struct commit *c, const struct gm_span *span, uint64_t off)
{
	struct gm_piece piece = {
		.range = {span->first, span->last},
		.off = off,
		.node = gm_node_at(&c->space->nodes, span->node),
		.perms = span->perms,
		.map = (struct gm_map *)(uintptr_t)span->owner,
	};

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
		span && span->first <= range->last;
		span = gm_table_next(view, span->last + 1, &off)) {
		if (ret->nr == cap) {
			struct gm_piece *pieces;

			cap = cap ? cap * 2 : 4;
			pieces = gm_sys_realloc(ret->pieces, cap, sizeof(*pieces));
			if (!pieces)
				return -ENOMEM;
			ret->pieces = pieces;
		}
		ret->pieces[ret->nr++] = old_piece(c, span, off);
		if (span->last == UINT64_MAX)
			break;
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

static int add_edit(struct commit *c, const struct gm_range *range)
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

static int explain(const struct commit *c, int rc, struct gm_error *err)
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
	static struct gm_range everything = {0, UINT64_MAX};
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
		rc = add_edit(c, &wide.ranges[i]);
	gm_sys_free(wide.ranges);
	return explain(c, rc, err);
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
	gm_sys_free(c->moves);
}

/* ---- placing ---- */

/* Calls @fn for each new piece until it returns other than 0. */
static int each_new(
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

static int place_last(struct commit *c, struct gm_piece *piece, void *err)
{
	return gm_place(&c->placing, piece, true, err);
}

static int find_waiting(struct commit *c, struct gm_piece *piece, void *unused)
{
	(void)unused;
	return gm_place_waits(&c->placing, piece);
}

/* A region's own place is found before its aliases are, which go where it is. */
static int place_all(struct commit *c, struct gm_error *err)
{
	int rc = each_new(c, place, err);

	return rc ? rc : each_new(c, place_alias, err);
}

/* ---- vacating addresses ---- */

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

	return gm_place_waits(&c->placing, piece) && gm_place_claim(&c->placing, piece, &claim) &&
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

/* What shows now and is not edited, from @gpa up, with this mapping; or NULL. */
static const struct gm_span *find_outside(
	const struct commit *c, const struct gm_map *map, uint64_t gpa, uint64_t *ret_off)
{
	const struct gm_view *view = c->space->view;
	const struct gm_span *span = gm_table_next(view, gpa, ret_off);

	while (span) {
		if (span->owner == map && !edit_at(c, span->first))
			return span;
		if (span->last == UINT64_MAX)
			return NULL;
		span = gm_table_next(view, span->last + 1, ret_off);
	}
	return NULL;
}

/* Does somebody else of the plan need the addresses of a mapping that nobody in it shows by? */
static int consider(struct commit *c, struct gm_map *map)
{
	struct gm_range claim;
	uint64_t off;

	if (!map || map->window != c->space->window || !map->window ||
		!gm_range_make(map->gpa, map->len, &claim))
		return 0;
	if (!each_new(c, claims, &claim) || each_new(c, uses, map) || find_outside(c, map, 0, &off))
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
	uint64_t off;

	while ((span = find_outside(c, map, 0, &off))) {
		struct gm_range range = {span->first, span->last};
		int rc = add_edit(c, &range);

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

static int list_all(struct commit *c, struct gm_error *err)
{
	struct gm_placing *pl = &c->placing;
	int rc = each_new(c, list_shifting, NULL);

	if (!rc)
		rc = consider_all(c);
	for (size_t i = 0; i < c->nr_listed && !rc; i++)
		rc = pull_in(c, c->listed[i]);
	qsort(pl->olds, pl->nr, sizeof(*pl->olds), by_range);
	qsort(pl->news, pl->nr, sizeof(*pl->news), by_range);
	return explain(c, rc, err);
}

/* Views with holes and, for the way back, without; whether there is anything to hide. */
static int make_hole(struct commit *c, struct gm_error *err)
{
	struct gm_placing *pl = &c->placing;
	bool hides = false;

	c->rests = gm_sys_alloc_array(pl->nr + 1, sizeof(*c->rests));
	c->moves = gm_sys_alloc_array(2 * c->nr_listed + 1, sizeof(*c->moves));
	if (!c->rests || !c->moves)
		return no_memory(c, err);
	for (size_t i = 0; i < pl->nr; i++) {
		struct gm_edit *rest = &c->rests[i];

		rest->range = pl->olds[i].range;
		rest->pieces = gm_sys_alloc_array(pl->olds[i].nr + 1, sizeof(*rest->pieces));
		if (!rest->pieces)
			return no_memory(c, err);
		for (size_t j = 0; j < pl->olds[i].nr; j++) {
			if (pl->olds[i].pieces[j].map && is_listed(c, pl->olds[i].pieces[j].map))
				hides = true;
			else
				rest->pieces[rest->nr++] = pl->olds[i].pieces[j];
		}
	}
	if (!hides)
		return 0;
	c->hole = gm_view_edit(published(c), c->rests, pl->nr);
	c->back = gm_view_edit(published(c), pl->olds, pl->nr);
	c->barrier = gm_sys_alloc(sizeof(*c->barrier));
	return c->hole && c->back && c->barrier ? 0 : no_memory(c, err);
}

static void free_barrier(struct gm_deferred *deferred)
{
	gm_sys_free(
		(struct barrier *)(void *)((char *)deferred - offsetof(struct barrier, deferred)));
}

static void publish_hole(struct commit *c)
{
	struct gm_space *space = c->space;

	gm_view_finish(c->hole, published(c), space->window, c->rests, c->placing.nr,
		space->generation + 1);
	c->held = gm_space_publish(space, c->hole);
	c->hole = NULL;
	c->barrier->deferred.run = free_barrier;
	gm_reclaim_defer(&space->reclaim, &c->barrier->deferred);
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

		if (__atomic_load_n(&map->pins, __ATOMIC_ACQUIRE) > 0)
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
	struct gm_error ignored;
	struct gm_range claim;
	int rc;

	if (!gm_place_waits(&c->placing, piece) || !gm_place_must_shift(&c->placing, piece) ||
		map->window || !was_moved(c, map) || !gm_place_claim(&c->placing, piece, &claim))
		return 0;
	rc = shift(c, &c->moves[c->nr_moves], map, c->space->window, claim.first,
		err ? err : &ignored);
	if (!rc)
		c->nr_moves++;
	return rc == -EEXIST || rc == -ERANGE ? 0 : rc;
}

static int settle_all(struct commit *c, struct gm_error *err)
{
	int rc = each_new(c, shift_home, err);

	if (!rc)
		rc = each_new(c, place, err);
	return rc ? rc : each_new(c, place_last, err);
}

static int vacate(struct commit *c, struct gm_error *err)
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

static void take_back(struct commit *c)
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
	hole = gm_space_publish(space, c->back);
	gm_space_retire(space, c->held, &c->back->garbage);
	gm_space_retire(space, hole, &hole->fresh);
	c->back = NULL;
}

/* ---- publication ---- */

static void finish(struct commit *c)
{
	struct gm_space *space = c->space;
	const struct gm_view_full *base = c->held ? c->held : published(c);
	struct gm_view_full *out;

	gm_view_finish(c->view, base, space->window, c->placing.news, c->placing.nr,
		space->generation + 1);
	out = gm_space_publish(space, c->view);
	if (c->held) {
		gm_space_retire(space, c->held, &c->view->garbage);
		gm_space_retire(space, out, &out->fresh);
	} else {
		gm_space_retire(space, out, &c->view->garbage);
	}
	gm_view_trim(c->view);
	c->view = NULL;
	gm_place_keep(&c->placing);
	/* A few rounds end the epochs if nobody is in a section; what is left waits for the next
	 * change. */
	for (int round = 0; round < 3 && gm_reclaim_poll(&space->reclaim) > 0; round++)
		;
	gm_txn_settle(c->txn);
}

int gm_txn_commit(struct gm_txn *txn, struct gm_error *err)
{
	struct commit c = {.txn = txn, .space = txn->space, .placing = {.space = txn->space}};
	bool waits = false;
	int rc;

	gm_reclaim_poll(&c.space->reclaim);
	rc = flatten_changed(&c, err);
	if (!rc)
		rc = place_all(&c, err);
	if (!rc) {
		waits = each_new(&c, find_waiting, NULL);
		if (waits)
			rc = list_all(&c, err);
	}
	if (!rc && waits)
		rc = make_hole(&c, err);
	if (!rc) {
		c.view = gm_view_edit(published(&c), c.placing.news, c.placing.nr);
		rc = c.view ? 0 : no_memory(&c, err);
	}
	if (!rc && waits)
		rc = vacate(&c, err);
	if (rc)
		take_back(&c);
	else
		finish(&c);
	discard(&c);
	return rc;
}

/* ---- one step at a time ---- */

static int end(struct gm_txn *txn, int rc, struct gm_error *err)
{
	if (!rc)
		rc = gm_txn_commit(txn, err);
	if (rc)
		gm_txn_abort(txn);
	return rc;
}

int gm_space_add(struct gm_space *space, const struct gm_region_desc *desc, uint64_t *ret_id,
	struct gm_error *err)
{
	struct gm_txn *txn;
	uint64_t id;
	int rc = gm_txn_begin(space, &txn, err);

	if (rc)
		return rc;
	rc = end(txn, gm_txn_add(txn, desc, &id, err), err);
	if (!rc && ret_id)
		*ret_id = id;
	return rc;
}

int gm_space_remove(struct gm_space *space, uint64_t id, struct gm_error *err)
{
	struct gm_txn *txn;
	int rc = gm_txn_begin(space, &txn, err);

	return rc ? rc : end(txn, gm_txn_remove(txn, id, err), err);
}

/* Each block is checked against what is available when it is made, untouched; here against all of
 * them together. */
static int check_total(const struct gm_region_desc *descs, size_t nr, struct gm_error *err)
{
	uint64_t total = 0;
	uint64_t avail;

	for (size_t i = 0; i < nr; i++) {
		const struct gm_block_opts *opts = descs[i].backing;
		uint64_t len;

		if (descs[i].size < sizeof(*descs) || !opts || opts->size < sizeof(*opts) ||
			opts->reserve == GM_RESERVE_NONE || opts->backing > GM_BACKING_MEMFD ||
			opts->pages[0].kind == GM_PAGE_HUGETLB)
			continue;
		len = opts->len ? opts->len : descs[i].len;
		if (__builtin_add_overflow(total, len, &total))
			total = UINT64_MAX;
	}
	avail = gm_avail_bytes();
	if (total <= avail)
		return 0;
	return gm_error_set(err, -ENOMEM, 0, total,
		"the regions need %" PRIu64 " MiB together, %" PRIu64
		" MiB are available (without a reservation they are taken on trust)",
		total >> 20, avail >> 20);
}

int gm_space_build(const struct gm_space_opts *opts, const struct gm_region_desc *descs, size_t nr,
	struct gm_space **ret_space, struct gm_error *err)
{
	struct gm_space *space;
	struct gm_txn *txn;
	int rc = check_total(descs, nr, err);

	if (!rc)
		rc = gm_space_create(opts, &space, err);
	if (rc)
		return rc;
	rc = gm_txn_begin(space, &txn, err);
	if (!rc) {
		for (size_t i = 0; i < nr && !rc; i++)
			rc = gm_txn_add(txn, &descs[i], NULL, err);
		rc = end(txn, rc, err);
	}
	if (rc)
		gm_space_destroy(space);
	else
		*ret_space = space;
	return rc;
}
