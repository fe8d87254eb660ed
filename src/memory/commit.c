/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * commit.c - carrying a plan out: prepare, vacate, shift, publish, retire.
 *
 * What can fail comes before publication, and each step knows its way back. A map that cannot be
 * moved back is reached where it is by the general look-up, so that going back cannot fail.
 */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/avail.h"
#include "memory/txn.h"
#include "sys/sys.h"

/* A mapping that was moved, for the way back. */
struct moved {
	struct gm_map *map;
	struct gm_window *from; /* NULL: from a reservation of its own */
	uint64_t gpa;
};

struct commit {
	struct gm_txn *txn;
	struct gm_space *space;
	struct gm_view_full *view; /* the new one */
	struct gm_region **items;  /* the new list */
	struct gm_regions dropped; /* published objects that the plan leaves out */
	struct gm_view_full *hole; /* if something must be vacated: */
	struct gm_view_full *back;
	struct moved *moves;
	size_t nr_moves;
	bool blocked; /* an entry waits for addresses that are still in use */
	bool holed;   /* the view with holes is out */
};

/* A published object that stays is in the plan at its own addresses. */
static bool leaves(const struct gm_txn *txn, const struct gm_region *region)
{
	size_t at = gm_txn_find_place(txn, region->range.first);

	return at == txn->nr || txn->plan[at].region != region;
}

static int prepare(struct commit *c, struct gm_error *err)
{
	const struct gm_regions *old = &c->space->regions;

	c->view = gm_view_alloc(c->txn->nr);
	c->items = gm_sys_alloc_array(c->txn->nr + 1, sizeof(*c->items));
	c->dropped.items = gm_sys_alloc_array(old->nr + 1, sizeof(*c->dropped.items));
	if (!c->view || !c->items || !c->dropped.items)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", c->space->name);
	for (size_t i = 0; i < old->nr; i++) {
		if (leaves(c->txn, old->items[i]))
			c->dropped.items[c->dropped.nr++] = old->items[i];
	}
	return 0;
}

static void discard(struct commit *c)
{
	gm_view_free(c->view);
	gm_sys_free(c->items);
	gm_sys_free(c->dropped.items);
	gm_view_free(c->hole);
	gm_view_free(c->back);
	gm_sys_free(c->moves);
}

/* ---- giving a region its mapping ---- */

static bool wants_window(const struct commit *c, const struct gm_region *region)
{
	const struct gm_window *window = c->space->window;

	return window && region->block && region->block->backing != GM_BACKING_POINTER &&
	       region->range.last < window->limit;
}

/* That part of the block's fd, mapped once more at its place in the window. */
static int map_again(struct commit *c, struct gm_region *region, struct gm_error *err)
{
	struct gm_map *map = gm_sys_alloc(sizeof(*map));
	int rc;

	if (!map)
		return gm_error_set(
			err, -ENOMEM, region->range.first, 0, "%s: out of memory", c->space->name);
	map->block = region->block;
	map->block_off = region->block_off;
	map->len = gm_range_len(&region->range);
	rc = gm_map_create(map, c->space->window, region->range.first, err);
	if (rc) {
		gm_sys_free(map);
		return rc;
	}
	region->map = gm_map_get(map);
	return 0;
}

/* 0, -EEXIST if the addresses are claimed, or an error. */
static int give_map(struct commit *c, struct gm_planned *entry, bool window, struct gm_error *err)
{
	struct gm_region *region = entry->region;
	int rc = 0;

	if (window && gm_block_is_shareable(region->block)) {
		rc = map_again(c, region, err);
	} else if (gm_block_is_exclusive(region->block)) {
		/* Only as a whole can it be moved. */
		window = window && region->block_off == 0;
		rc = gm_map_take_home(
			region->block, window ? c->space->window : NULL, region->range.first, err);
		if (rc == -ERANGE && window)
			rc = gm_map_take_home(region->block, NULL, 0, err);
		if (!rc)
			region->map = &region->block->home;
	} else {
		region->map = gm_map_share_home(region->block);
	}
	if (!rc)
		entry->placed_now = true;
	return rc;
}

/* The only mapping of memory of this process alone, for a region that begins where the memory does,
 * goes with it. */
static bool belongs_in_window(const struct commit *c, const struct gm_region *region)
{
	return wants_window(c, region) && region->block_off == 0;
}

/*
 * Does the mapping that an exclusive region brought along, from before or from where it was made in
 * this transaction, lie elsewhere than it should? One that only could not be placed earlier is left
 * where it is.
 */
static bool must_shift(const struct commit *c, const struct gm_planned *entry)
{
	const struct gm_region *region = entry->region;
	const struct gm_map *map = region->map;

	if (!gm_planned_is_fresh(entry) || !map || !gm_block_is_exclusive(region->block))
		return false;
	if (entry->origin && map == entry->origin->map &&
		region->range.first == entry->origin->range.first &&
		belongs_in_window(c, region) == belongs_in_window(c, entry->origin))
		return false;
	if (!belongs_in_window(c, region))
		return map->window;
	return !gm_region_is_placed(region, c->space->window);
}

static int place_entry(struct commit *c, struct gm_planned *entry, struct gm_error *err)
{
	struct gm_error claimed;
	int rc;

	if (!gm_planned_is_fresh(entry) || !entry->region->block)
		return 0;
	if (must_shift(c, entry)) {
		c->blocked = true;
		return 0;
	}
	if (entry->region->map)
		return 0;
	rc = give_map(c, entry, wants_window(c, entry->region), err ? err : &claimed);
	if (rc == -EEXIST) {
		c->blocked = true;
		rc = 0;
	}
	return rc;
}

static int place_all(struct commit *c, struct gm_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < c->txn->nr && !rc; i++)
		rc = place_entry(c, &c->txn->plan[i], err);
	return rc;
}

/* ---- vacating addresses ---- */

/* Does the plan need the addresses of this mapping? */
static bool is_in_the_way(const struct commit *c, const struct gm_map *map)
{
	struct gm_range claim;
	bool wanted = false;

	if (!map->window || !gm_range_make(map->gpa, map->len, &claim))
		return false;
	for (size_t i = 0; i < c->txn->nr; i++) {
		const struct gm_planned *entry = &c->txn->plan[i];
		const struct gm_region *region = entry->region;

		/* Whoever keeps it keeps it where it is; what shifts is listed anyway. */
		if (region->map == map)
			return false;
		wanted |= region->block && (!region->map || must_shift(c, entry)) &&
			  gm_range_overlaps(&claim, &region->range);
	}
	return wanted;
}

static bool is_listed(const struct commit *c, const struct gm_map *map)
{
	for (size_t i = 0; i < c->nr_moves; i++) {
		if (c->moves[i].map == map)
			return true;
	}
	return false;
}

/* Lists the mappings that must go; each is moved aside and perhaps once more to its new place. */
static int list_moves(struct commit *c, struct gm_error *err)
{
	size_t nr = c->space->regions.nr;

	c->hole = gm_view_alloc(nr);
	c->back = gm_view_alloc(nr);
	c->moves = gm_sys_alloc_array(2 * (nr + c->txn->nr) + 1, sizeof(*c->moves));
	if (!c->hole || !c->back || !c->moves)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", c->space->name);
	for (size_t i = 0; i < c->txn->nr; i++) {
		if (must_shift(c, &c->txn->plan[i]))
			c->moves[c->nr_moves++] =
				(struct moved){.map = c->txn->plan[i].region->map};
	}
	for (size_t i = 0; i < c->dropped.nr; i++) {
		struct gm_map *map = c->dropped.items[i]->map;

		if (map && is_in_the_way(c, map) && !is_listed(c, map))
			c->moves[c->nr_moves++] = (struct moved){.map = map};
	}
	return 0;
}

static void publish_again(
	struct commit *c, struct gm_view_full **view, struct gm_region *const *regions, size_t nr)
{
	gm_view_fill(*view, c->space->window, regions, nr, c->space->generation + 1);
	gm_space_publish(c->space, *view, c->space->regions, (struct gm_regions){0});
	*view = NULL;
}

/* The published regions without those whose mappings must go. */
static int publish_hole(struct commit *c, struct gm_error *err)
{
	const struct gm_regions *old = &c->space->regions;
	struct gm_region **rest = gm_sys_alloc_array(old->nr + 1, sizeof(*rest));
	size_t nr = 0;

	if (!rest)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", c->space->name);
	for (size_t i = 0; i < old->nr; i++) {
		if (!old->items[i]->map || !is_listed(c, old->items[i]->map))
			rest[nr++] = old->items[i];
	}
	publish_again(c, &c->hole, rest, nr);
	gm_sys_free(rest);
	c->holed = true;
	return 0;
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
	size_t nr = c->nr_moves;
	int rc = 0;

	c->nr_moves = 0;
	for (size_t i = 0; i < nr && !rc; i++) {
		struct gm_map *map = c->moves[i].map;

		if (__atomic_load_n(&map->pins, __ATOMIC_ACQUIRE) > 0)
			continue;
		rc = shift(c, &c->moves[c->nr_moves], map, NULL, 0, err);
		if (!rc)
			c->nr_moves++;
	}
	return rc;
}

static int settle_entry(struct commit *c, struct gm_planned *entry, struct gm_error *err)
{
	struct gm_region *region = entry->region;
	struct gm_error claimed;
	int rc;

	if (!gm_planned_is_fresh(entry) || !region->block)
		return 0;
	if (!region->map) {
		rc = give_map(c, entry, wants_window(c, region), err ? err : &claimed);
		return rc == -EEXIST ? give_map(c, entry, false, err) : rc;
	}
	/* Moved aside above, unless it is pinned. */
	if (region->map->window || !belongs_in_window(c, region) || !is_listed(c, region->map))
		return 0;
	rc = shift(c, &c->moves[c->nr_moves], region->map, c->space->window, region->range.first,
		err ? err : &claimed);
	if (!rc)
		c->nr_moves++;
	return rc == -EEXIST || rc == -ERANGE ? 0 : rc;
}

static int settle_all(struct commit *c, struct gm_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < c->txn->nr && !rc; i++)
		rc = settle_entry(c, &c->txn->plan[i], err);
	return rc;
}

static int vacate(struct commit *c, struct gm_error *err)
{
	int rc = list_moves(c, err);

	if (!rc && c->nr_moves > 0)
		rc = publish_hole(c, err);
	/* Addresses may also be held by regions that were removed before. */
	if (!rc)
		rc = gm_reclaim_wait(&c->space->reclaim, c->space->timeout_ns, err);
	/* Whoever only wanted those is reached by the general look-up for now. */
	if (rc == -ETIMEDOUT && c->nr_moves == 0)
		return settle_all(c, err);
	if (rc) {
		c->nr_moves = 0;
		return rc;
	}
	rc = shift_aside(c, err);
	return rc ? rc : settle_all(c, err);
}

/* ---- the way back ---- */

static void take_back(struct commit *c)
{
	struct gm_space *space = c->space;

	for (size_t i = 0; i < c->txn->nr; i++) {
		struct gm_planned *entry = &c->txn->plan[i];

		if (!entry->placed_now)
			continue;
		gm_map_put(entry->region->map);
		entry->region->map = NULL;
		entry->placed_now = false;
	}
	while (c->nr_moves > 0) {
		const struct moved *record = &c->moves[--c->nr_moves];
		struct moved unused;

		shift(c, &unused, record->map, record->from, record->gpa, NULL);
	}
	if (c->holed)
		publish_again(c, &c->back, space->regions.items, space->regions.nr);
}

/* ---- publication ---- */

static void finish(struct commit *c)
{
	struct gm_txn *txn = c->txn;
	struct gm_space *space = c->space;

	for (size_t i = 0; i < txn->nr; i++)
		c->items[i] = txn->plan[i].region;
	gm_view_fill(c->view, space->window, c->items, txn->nr, space->generation + 1);
	gm_space_publish(
		space, c->view, (struct gm_regions){.items = c->items, .nr = txn->nr}, c->dropped);
	c->view = NULL;
	c->items = NULL;
	c->dropped.items = NULL;
	space->next_id = txn->next_id;
	/* A few rounds end the epochs if nobody is in a section; what is left waits for the next
	 * change. */
	for (int round = 0; round < 3 && gm_reclaim_poll(&space->reclaim) > 0; round++)
		;
	gm_sys_free(txn->plan);
	gm_sys_free(txn);
	gm_space_release(space);
}

int gm_txn_commit(struct gm_txn *txn, struct gm_error *err)
{
	struct commit c = {.txn = txn, .space = txn->space};
	int rc;

	gm_reclaim_poll(&c.space->reclaim);
	rc = prepare(&c, err);
	if (!rc)
		rc = place_all(&c, err);
	if (!rc && c.blocked)
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
