/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_table.c - look-up of an address in a view, and views that are made from others by edits.
 *
 * Pieces of regions without memory, or with one that is only thought of, so that all 2^64 addresses
 * can be used. The oracle is a sorted list that is searched from its begin. After each edit the new
 * view must answer as the new list, the old view as the old one, and what is listed to be freed must
 * be what the two do not share.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "memory/block.h"
#include "memory/node.h"
#include "memory/window.h"
#include "table_list.h"

#define TOP UINT64_MAX
#define NODES 8u
#define REFS 0x40000000u
#define BASE ((uint8_t *)0x123456789000)

struct table_run run;

static struct list lists[2];
static struct gm_node nodes[NODES];
static struct gm_piece pieces[ITEMS_MAX];

/* All addresses at a base of their own, as if the one mapping of the one block were all of them. */
static struct gm_window window = {.base = BASE};
static struct gm_block block = {.refs = REFS};
static struct gm_map map = {.block = &block, .hva = BASE, .holds = REFS};

/* ---- edits ---- */

static struct gm_piece draw_piece(uint64_t first, uint64_t last)
{
	static const uint16_t perms[] = {GM_PERM_RW, GM_PERM_RWX, GM_PERM_R, GM_PERM_RX};
	uint64_t kind = rng_below(&run.rng, 6);
	struct gm_piece piece = {
		.range = {first, last},
		.off = rng_next(&run.rng),
		.node = &nodes[rng_below(&run.rng, NODES)],
		.perms = GM_SPAN_HOLE,
	};

	if (kind == 0)
		return piece;
	piece.perms = kind < 4 ? perms[0] : perms[rng_below(&run.rng, 4)];
	piece.map = &map;
	/* At its place, or as memory that is reached elsewhere. */
	piece.block_off = kind == 5 ? first + 4096 : first;
	return piece;
}

/* Up to @nr pieces somewhere in @range; returns their number. */
static size_t draw_pieces(const struct gm_range *range, size_t nr, struct gm_piece *ret)
{
	uint64_t mean = gm_range_extent(range) / (nr + 1);
	uint64_t at = range->first;
	size_t i;

	for (i = 0; i < nr; i++) {
		uint64_t skip = rng_below(&run.rng, 3) ? rng_below(&run.rng, mean + 1) : 0;
		uint64_t more = rng_below(&run.rng, 3) ? rng_below(&run.rng, mean + 1)
						       : rng_below(&run.rng, 16);

		if (skip > range->last - at)
			return i;
		at += skip;
		if (more > range->last - at || (i == nr - 1 && rng_below(&run.rng, 2)))
			more = range->last - at;
		ret[i] = draw_piece(at, at + more);
		if (at + more == range->last)
			return i + 1;
		at += more + 1;
	}
	return i;
}

/* Out to whole items. */
static void widen(const struct list *list, struct gm_range *range)
{
	const struct item *item = list_find(list, range->first);

	if (item && item->first < range->first)
		range->first = item->first;
	item = list_find(list, range->last);
	if (item && item->first <= range->last)
		range->last = item->last;
}

static void draw_edit(const struct list *list, struct gm_range *range)
{
	uint64_t nr = 1 + rng_below(&run.rng, rng_below(&run.rng, 8) ? 4 : 400);

	if (list->nr && rng_below(&run.rng, 4)) {
		size_t at = rng_below(&run.rng, list->nr);
		size_t to = at + nr < list->nr ? at + nr : list->nr - 1;

		*range = (struct gm_range){list->items[at].first, list->items[to].last};
	} else {
		range->first = rng_edge(&run.rng);
		range->last = range->first + (rng_next(&run.rng) >> rng_below(&run.rng, 64));
		if (range->last < range->first)
			range->last = TOP;
	}
	widen(list, range);
}

/* Some edits in rising order, with pieces that may take the place of what was there. */
static void draw_edits(const struct list *list, size_t most)
{
	size_t want = 1 + rng_below(&run.rng, EDITS_MAX);
	size_t used = 0;
	uint64_t from = 0;

	run.nr_edits = 0;
	for (size_t i = 0; i < want; i++) {
		struct gm_range range;

		draw_edit(list, &range);
		if (run.nr_edits && range.first < from)
			continue;
		run.edits[run.nr_edits].range = range;
		run.edits[run.nr_edits].pieces = &pieces[used];
		run.edits[run.nr_edits].nr =
			draw_pieces(&range, rng_below(&run.rng, most + 1), &pieces[used]);
		used += run.edits[run.nr_edits++].nr;
		if (range.last == TOP)
			break;
		from = range.last + 1;
	}
}

static struct item item_of(const struct gm_piece *piece)
{
	bool placed = piece->map && piece->block_off == piece->range.first;

	return (struct item){
		.first = piece->range.first,
		.last = piece->range.last,
		.off = piece->off,
		.node = gm_node_index(piece->node),
		.perms = piece->perms,
		.direct = placed ? piece->perms : 0,
	};
}

/* ---- a run ---- */

static struct gm_view_full *view;
static unsigned int now; /* which list it is */
static long blocks;

static void start(uint64_t with_seed)
{
	run.seed = with_seed;
	run.step = 0;
	run.rng = (struct rng){with_seed};
	run.base = (uintptr_t)BASE;
	for (uint32_t i = 0; i < NODES; i++)
		nodes[i].id = (uint64_t)i * 1000 + 1;
	blocks = fault_blocks();
	lists[now].nr = 0;
	run.nr_edits = 0;
	view = gm_view_empty();
	gm_view_finish(view, view, &window, NULL, 0, 1);
}

static void stop(void)
{
	gm_view_free_all(view);
	assert_int_equal(fault_blocks(), blocks);
	assert_int_equal(gm_map_refs(&map), REFS);
	assert_int_equal(block.refs, REFS);
}

/* The edits as they are drawn; @looks addresses of either view are asked. */
static void apply(unsigned int looks, bool keep)
{
	struct list *old_list = &lists[now];
	struct list *new_list = &lists[!now];
	struct gm_view_full *new = gm_view_edit(view, run.edits, run.nr_edits);

	run.step++;
	check(new);
	check_parts(view, new);
	if (!keep && run.step % 2) {
		gm_view_discard(new);
		check_some(&view->pub, old_list, looks);
		return;
	}
	list_edit(old_list, new_list, item_of);
	gm_view_finish(new, view, &window, run.edits, run.nr_edits, view->pub.generation + 1);
	check_hot(new, view, new_list);
	check_some(&new->pub, new_list, looks);
	check_some(&view->pub, old_list, looks);
	if (!keep) {
		gm_view_discard(new);
		check_some(&view->pub, old_list, looks);
		return;
	}
	gm_view_trim(new);
	view->dropped = new->garbage;
	new->garbage = (struct gm_parts){0};
	gm_view_free(view);
	view = new;
	now = !now;
	check_some(&view->pub, &lists[now], looks);
}

/* Pieces over all of @range at once. */
static void lay(struct gm_range range, size_t nr, unsigned int looks)
{
	run.edits[0] = (struct gm_edit){.range = range, .pieces = pieces};
	widen(&lists[now], &run.edits[0].range);
	run.edits[0].nr = draw_pieces(&range, nr, pieces);
	run.nr_edits = 1;
	apply(looks, true);
}

/* ---- tests ---- */

static void without_pieces_nothing_is_found(void **state)
{
	(void)state;
	start(1);
	check_some(&view->pub, &lists[now], 20);
	assert_int_equal(view->pub.hot_starts, 0);
	stop();
}

static void one_piece_may_be_all_addresses(void **state)
{
	(void)state;
	start(test_seed(2));
	for (int i = 0; i < 20; i++) {
		lay((struct gm_range){0, TOP}, 1, 20);
		lay((struct gm_range){TOP, TOP}, 1, 20);
		lay((struct gm_range){0, 0}, 1, 20);
	}
	check_walk(view, &lists[now]);
	stop();
}

/* It must take what it is for: one of few, side by side. Memory that is not written is never hot. */
static void the_short_way_answers_for_few_pieces(void **state)
{
	(void)state;
	start(7);
	for (uint32_t i = 0; i < 8; i++) {
		pieces[i] = (struct gm_piece){
			.range = {GIB(i), GIB(i) + (GIB(1) - 1)},
			.node = &nodes[i],
			.block_off = GIB(i),
			.perms = GM_PERM_RX,
			.map = &map,
		};
	}
	run.edits[0] = (struct gm_edit){{0, GIB(8) - 1}, pieces, 8};
	run.nr_edits = 1;
	apply(20, true);
	assert_int_equal(view->pub.hot_starts, 0);
	for (uint64_t gpa = 0; gpa < GIB(8); gpa += 0xfffffb)
		assert_non_null(gm_view_fast(&view->pub, gpa, 1, GM_PERM_R));
	assert_null(gm_view_fast(&view->pub, GIB(8), 1, GM_PERM_R));
	assert_non_null(gm_view_fast(&view->pub, GIB(1) - 8, 8, GM_PERM_R));
	assert_null(gm_view_fast(&view->pub, GIB(1) - 7, 8, GM_PERM_R));
	stop();
}

/* Two in one bucket: the second is looked at as well. */
static void the_short_way_answers_for_two_in_a_bucket(void **state)
{
	(void)state;
	start(8);
	for (uint64_t i = 0; i < 2; i++) {
		pieces[i] = draw_piece(i * 16, i * 16 + 15);
		pieces[i].perms = GM_PERM_R;
		pieces[i].map = &map;
		pieces[i].block_off = i * 16;
	}
	pieces[2] = draw_piece(GIB(1), GIB(1));
	run.edits[0] = (struct gm_edit){{0, GIB(1)}, pieces, 3};
	run.nr_edits = 1;
	apply(20, true);
	for (uint64_t gpa = 0; gpa < 32; gpa++)
		assert_non_null(gm_view_fast(&view->pub, gpa, 1, GM_PERM_R));
	stop();
}

static void random_edits_answer_as_a_list(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(60); i++) {
		size_t most;

		start(test_seed(1000) + i);
		most = (size_t)1 << rng_below(&run.rng, 8);
		for (int j = 0; j < 40; j++) {
			draw_edits(&lists[now], lists[now].nr > 3000 ? 2 : most);
			apply(6, rng_below(&run.rng, 6) != 0);
		}
		check_walk(view, &lists[now]);
		stop();
	}
	assert_true(run.nr_falls > 50);
}

/* How often the addresses are cut. */
static unsigned int depth(const uintptr_t *slots, uint32_t nr)
{
	unsigned int deepest = 0;

	for (uint32_t i = 0; i < nr; i++) {
		const struct gm_dir *dir = gm_slot_dir(slots[i]);
		unsigned int below;

		if (!gm_slot_is_dir(slots[i]))
			continue;
		below = depth((const uintptr_t *)(dir + 1), dir->mask + 1);
		if (below > deepest)
			deepest = below;
	}
	return deepest + 1;
}

/* All but one in 40 MiB of 2^64: what holds them is cut into slots again and again. */
static void lay_crowd(size_t nr, uint64_t base)
{
	lay((struct gm_range){base, base + MIB(40)}, nr, 20);
	lay((struct gm_range){TOP - 100, TOP}, 1, 20);
	check_walk(view, &lists[now]);
	check(depth(view->pub.slots, view->pub.nr_slots) > 3);
}

static void crowds_are_found_wherever_they_are(void **state)
{
	static const uint64_t bases[] = {0, GIB(3), (UINT64_C(1) << 63) - MIB(20), TOP - MIB(41)};

	(void)state;
	for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		start(test_seed(3000) + i);
		lay_crowd(10000, bases[i]);
		for (unsigned long j = 0; j < support_scale(12); j++) {
			draw_edits(&lists[now], 8);
			apply(6, rng_below(&run.rng, 4) != 0);
		}
		check_walk(view, &lists[now]);
		/* And none of them any more. */
		run.nr_edits = 1;
		run.edits[0] = (struct gm_edit){.range = {0, TOP}};
		apply(6, true);
		assert_int_equal(view->nr_spans, 0);
		stop();
	}
}

static void pieces_spread_over_all_addresses_are_found(void **state)
{
	(void)state;
	for (size_t nr = 100; nr <= 10000; nr *= 10) {
		start(test_seed(4000) + nr);
		lay((struct gm_range){0, TOP}, nr, 20);
		for (unsigned long j = 0; j < support_scale(12); j++) {
			draw_edits(&lists[now], 8);
			apply(6, true);
		}
		check_walk(view, &lists[now]);
		stop();
	}
}

/* A look-up is a few loads only if a table is not much larger than what is in it, nor smaller. */
static void a_change_of_one_among_many_makes_few_parts(void **state)
{
	(void)state;
	start(test_seed(5000));
	lay((struct gm_range){0, GIB(40)}, 10000, 4);
	for (int i = 0; i < 50; i++) {
		const struct item *item = &lists[now].items[rng_below(&run.rng, lists[now].nr)];
		struct gm_view_full *new;

		pieces[0] = draw_piece(item->first, item->last);
		run.edits[0] = (struct gm_edit){{item->first, item->last}, pieces, 1};
		run.nr_edits = 1;
		new = gm_view_edit(view, run.edits, run.nr_edits);
		assert_non_null(new);
		assert_true(new->fresh.nr <= 8);
		assert_true(new->pub.nr_slots <= 1024);
		gm_view_discard(new);
	}
	stop();
}

/* Every allocation of one edit fails, once and for ever: nothing is left, nothing has changed. */
static void fail_each(bool forever)
{
	for (unsigned long nth = 1;; nth++) {
		long held = fault_blocks();
		struct gm_view_full *new;

		fault_set(&(struct fault_plan){
			.fn = FAULT_ANY, .nth = nth, .error = ENOMEM, .forever = forever});
		new = gm_view_edit(view, run.edits, run.nr_edits);
		fault_disarm();
		check(!new == (fault_hits() > 0));
		gm_view_discard(new);
		check(fault_blocks() == held);
		if (fault_hits() == 0)
			return;
		if (nth % 16 == 1)
			check_some(&view->pub, &lists[now], 1);
	}
}

static void an_edit_without_memory_changes_nothing(void **state)
{
	(void)state;
	start(test_seed(6000));
	lay_crowd(1000, GIB(3));
	for (int i = 0; i < 6; i++) {
		draw_edits(&lists[now], i < 4 ? 4 : 500);
		fail_each(i % 2);
	}
	/* Slots anew. */
	run.edits[0] = (struct gm_edit){.range = {0, TOP}, .pieces = pieces};
	run.edits[0].nr = draw_pieces(&run.edits[0].range, 300, pieces);
	run.nr_edits = 1;
	fail_each(false);
	fail_each(true);
	check_walk(view, &lists[now]);
	fault_set(NULL);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_pieces_nothing_is_found),
		cmocka_unit_test(one_piece_may_be_all_addresses),
		cmocka_unit_test(the_short_way_answers_for_few_pieces),
		cmocka_unit_test(the_short_way_answers_for_two_in_a_bucket),
		cmocka_unit_test(random_edits_answer_as_a_list),
		cmocka_unit_test(crowds_are_found_wherever_they_are),
		cmocka_unit_test(pieces_spread_over_all_addresses_are_found),
		cmocka_unit_test(a_change_of_one_among_many_makes_few_parts),
		cmocka_unit_test(an_edit_without_memory_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
