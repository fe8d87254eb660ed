/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_iotlb_model.c - the IOTLB against naive models.
 *
 * In small: a space of 256 units, at the bottom, at the top, and stretched over all 2^64 addresses;
 * the model is an entry for each unit. All ranges, and all sequences of a few changes over ranges
 * between some points. In large: random changes with ends near edges; the model is an unsorted
 * list.
 */
#include "iotlb_table.h"

#include <stdio.h>

#include "random.h"

#define UNITS 256u
#define NOT_MAPPED UINT32_MAX

/* ---- the small space ---- */

/* Unit n is the 1 << shift addresses from base + (n << shift) on. */
struct scope {
	uint64_t base;
	unsigned int shift;
	uint64_t delta; /* of mappings that can be one with their neighbours */
};

static const struct scope scopes[] = {
	/* Between units 127 and 128 the target passes 2^64. */
	{0, 0, (uint64_t)0 - 128},
	{UINT64_MAX - 255, 0, 0},
	{0, 56, 0},
};
#define NR_SCOPES (sizeof(scopes) / sizeof(scopes[0]))

struct unit {
	uint64_t delta;
	uint32_t perms; /* or NOT_MAPPED */
};

static const struct scope *scope;
static struct unit units[UNITS];
static struct gm_iotlb *iotlb;
static struct answer answer;
static struct answer expected;

static uint64_t first_of(unsigned int unit)
{
	return scope->base + ((uint64_t)unit << scope->shift);
}

static uint64_t last_of(unsigned int unit)
{
	return first_of(unit) + ((UINT64_C(1) << scope->shift) - 1);
}

enum change { MAP_JOINING, MAP_TO_TOP, UNMAP, NR_CHANGES };

static void clear_units(void)
{
	for (unsigned int i = 0; i < UNITS; i++)
		units[i] = (struct unit){0, NOT_MAPPED};
}

static void change_units(
	enum change change, unsigned int from, unsigned int to, uint64_t delta, uint32_t perms)
{
	for (unsigned int i = from; i <= to; i++)
		units[i] = (struct unit){delta, change == UNMAP ? NOT_MAPPED : perms};
}

/* The change in the table and in the units. True if something was mapped. */
static bool apply(enum change change, unsigned int from, unsigned int to)
{
	uint64_t first = first_of(from);
	uint64_t last = last_of(to);
	uint64_t target =
		change == MAP_JOINING ? first + scope->delta : UINT64_MAX - (last - first);
	uint32_t perms = change == MAP_JOINING ? GM_PERM_RW : GM_PERM_R;
	int want = 0;
	int rc;

	if (change == UNMAP) {
		rc = unmap(iotlb, first, last);
	} else {
		want = last - first > UINT64_MAX - target ? -ERANGE : 0;
		rc = map(iotlb, first, last, target, perms);
	}
	if (rc != want)
		fail_msg("change %d [%#lx, %#lx] = %d", change, first, last, rc);
	if (rc == 0)
		change_units(change, from, to, target - first, perms);
	return rc == 0 && change != UNMAP;
}

/* Unit i + 1 goes on where unit i ends, as far as a list of pieces goes. */
static bool goes_on(unsigned int i)
{
	const struct unit *unit = &units[i];

	if (unit[0].perms != unit[1].perms)
		return false;
	return unit[0].perms == NOT_MAPPED ||
	       (unit[0].delta == unit[1].delta && last_of(i) + unit[0].delta != UINT64_MAX);
}

static void expect(struct gm_iotlb_list *list, unsigned int from, unsigned int to)
{
	bool mapped = units[from].perms != NOT_MAPPED;

	list->pieces[list->nr++] = (struct gm_iotlb_piece){
		.iova = first_of(from),
		.target = mapped ? first_of(from) + units[from].delta : 0,
		.len = last_of(to) - first_of(from) + 1,
		.perms = mapped ? units[from].perms : 0,
	};
}

static int expect_answer(unsigned int from, unsigned int to, uint32_t perms)
{
	struct gm_iotlb_answer *a = &expected.a;

	*a = (struct gm_iotlb_answer){
		{expected.good, LIST_ROOM, 0},
		{expected.missing, LIST_ROOM, 0},
		{expected.refused, LIST_ROOM, 0},
	};
	for (unsigned int i = from; i <= to; from = ++i) {
		while (i < to && goes_on(i))
			i++;
		expect(units[i].perms == NOT_MAPPED         ? &a->missing
			: (units[i].perms & perms) == perms ? &a->good
							    : &a->refused,
			from, i);
	}
	return a->missing.nr ? -EFAULT : a->refused.nr ? -EACCES : 0;
}

static bool same_list(const struct gm_iotlb_list *a, const struct gm_iotlb_list *b)
{
	if (a->nr != b->nr)
		return false;
	for (size_t i = 0; i < a->nr; i++) {
		const struct gm_iotlb_piece *x = &a->pieces[i];
		const struct gm_iotlb_piece *y = &b->pieces[i];

		if (x->iova != y->iova || x->target != y->target || x->len != y->len ||
			x->perms != y->perms)
			return false;
	}
	return true;
}

/* The whole answer for a range of units. [0, 2^64 - 1] cannot be asked: its length is 2^64. */
static void check_range(unsigned int from, unsigned int to, uint32_t perms)
{
	uint64_t len = last_of(to) - first_of(from) + 1;
	int want = expect_answer(from, to, perms);

	if (len == 0)
		return;
	if (lookup(iotlb, first_of(from), len, perms, &answer) != want ||
		!same_list(&answer.a.good, &expected.a.good) ||
		!same_list(&answer.a.missing, &expected.a.missing) ||
		!same_list(&answer.a.refused, &expected.a.refused))
		fail_msg("look-up of units %u to %u for %u", from, to, perms);
}

/* The readers' look-up at one address. A copy may be left out, so that it may know nothing. */
static bool check_find(uint64_t iova, unsigned int unit, uint32_t perms)
{
	struct gm_iotlb_piece piece;
	int rc = gm_iotlb_find(iotlb, iova, 1, perms, &piece);
	const struct unit *want = &units[unit];

	if (rc == -EAGAIN)
		return want->perms == NOT_MAPPED || iotlb->quick.nr_left_out > 0;
	if (want->perms == NOT_MAPPED)
		return false;
	if ((want->perms & perms) != perms)
		return rc == -EACCES;
	return rc == 0 && piece.target == iova + want->delta && piece.len == 1 &&
	       piece.perms == want->perms;
}

static void check_unit(unsigned int unit)
{
	for (uint32_t perms = 0; perms <= GM_PERM_RW; perms++) {
		if (!check_find(first_of(unit), unit, perms) ||
			!check_find(last_of(unit), unit, perms))
			fail_msg("find in unit %u for %u", unit, perms);
	}
}

/* ---- everything, in small ---- */

/* Points between which ranges lie; the first few are for long sequences. */
static const unsigned int points[] = {0, 127, 128, 255, 1, 254, 2, 129};
#define ALL_POINTS 8u
#define FEW_POINTS 5u

static void check_points(unsigned int nr_points)
{
	for (unsigned int i = 0; i < nr_points; i++) {
		check_unit(points[i]);
		check_unit(points[i] < 255 ? points[i] + 1 : 200);
		check_unit(points[i] > 0 ? points[i] - 1 : 100);
	}
	check_range(1, 255, GM_PERM_W);
	check_range(0, 254, GM_PERM_R);
	check_range(3, 128, 0);
	if (!gm_iotlb_is_valid(iotlb))
		fail_msg("not valid");
}

/* The nth change: kind and two points. False if the points are the wrong way around. */
static bool apply_nth(unsigned int n, unsigned int nr_points)
{
	unsigned int from = points[n / NR_CHANGES % nr_points];
	unsigned int to = points[n / NR_CHANGES / nr_points];

	if (from > to)
		return false;
	apply((enum change)(n % NR_CHANGES), from, to);
	return true;
}

/* One sequence is a number, its digits are the changes. */
static void run_sequence(unsigned long number, unsigned int depth, unsigned int nr_points)
{
	unsigned int nr = NR_CHANGES * nr_points * nr_points;

	clear_units();
	gm_iotlb_unmap_all(iotlb);
	for (unsigned int i = 0; i < depth; i++, number /= nr) {
		if (!apply_nth((unsigned int)(number % nr), nr_points))
			return;
	}
	check_points(nr_points);
}

static void run_all_sequences(unsigned int depth, unsigned int nr_points)
{
	unsigned long nr = 1;

	for (unsigned int i = 0; i < depth; i++)
		nr *= NR_CHANGES * nr_points * nr_points;
	for (size_t i = 0; i < NR_SCOPES; i++) {
		scope = &scopes[i];
		iotlb = make_table(8);
		for (unsigned long number = 0; number < nr; number++)
			run_sequence(number, depth, nr_points);
		assert_int_equal(iotlb->nr_evicted, 0);
		free(iotlb);
	}
}

static void all_pairs_of_changes_between_eight_points(void **state)
{
	(void)state;
	run_all_sequences(2, ALL_POINTS);
}

static void all_triples_of_changes_between_five_points(void **state)
{
	(void)state;
	run_all_sequences(3, support_scale(1) > 1 ? FEW_POINTS + 1 : FEW_POINTS);
}

/* Some mappings of all kinds; afterwards each of the ranges is asked, changed, asked again. */
static void make_background(struct rng *rng)
{
	clear_units();
	gm_iotlb_unmap_all(iotlb);
	for (unsigned int i = 0; i < 24; i++) {
		unsigned int from = (unsigned int)rng_below(rng, UNITS);
		unsigned int to = from + (unsigned int)rng_below(rng, UNITS - from) % 40;

		apply((enum change)rng_below(rng, NR_CHANGES), from, to);
	}
}

static void all_ranges_of_256_units_are_looked_up(void **state)
{
	struct rng rng = {test_seed(11)};

	(void)state;
	for (size_t i = 0; i < NR_SCOPES; i++) {
		scope = &scopes[i];
		iotlb = make_table(UNITS);
		make_background(&rng);
		for (unsigned int from = 0; from < UNITS; from++) {
			check_unit(from);
			for (unsigned int to = from; to < UNITS; to++)
				check_range(from, to, (from ^ to) % 4);
		}
		assert_true(gm_iotlb_is_valid(iotlb));
		free(iotlb);
	}
}

static void all_ranges_of_256_units_are_changed(void **state)
{
	struct rng rng = {test_seed(12)};
	unsigned int step = support_scale(1) > 1 ? 1 : 5;

	(void)state;
	for (size_t i = 0; i < NR_SCOPES; i++) {
		scope = &scopes[i];
		iotlb = make_table(UNITS);
		for (unsigned int n = 0; n < UNITS * UNITS; n += step) {
			unsigned int from = n / UNITS;
			unsigned int to = n % UNITS;

			if (from > to)
				continue;
			make_background(&rng);
			apply((enum change)(n % NR_CHANGES), from, to);
			check_unit(from);
			check_unit(to);
			check_range(from ? from - 1 : 1, UNITS - 1, GM_PERM_R);
			check_range(0, to < UNITS - 1 ? to + 1 : to - 1, GM_PERM_RW);
		}
		assert_true(gm_iotlb_is_valid(iotlb));
		free(iotlb);
	}
}

/* What is not in the table any more is not expected any more; it may not come back by itself. */
static void drop_missing(void)
{
	for (unsigned int i = 0; i < UNITS; i++) {
		if (lookup(iotlb, first_of(i), 1, 0, &answer) == -EFAULT)
			units[i].perms = NOT_MAPPED;
		else if (units[i].perms == NOT_MAPPED)
			fail_msg("unit %u came back", i);
		check_unit(i);
	}
}

/* With less room than mappings: nothing is wrong, something is missing, what came last is there. */
static void small_table_run(struct rng *rng, unsigned int changes)
{
	for (unsigned int i = 0; i < changes; i++) {
		unsigned int from = (unsigned int)rng_below(rng, UNITS - 1) + 1;
		unsigned int to = from + (unsigned int)rng_below(rng, UNITS - from);

		if (apply((enum change)rng_below(rng, NR_CHANGES), from, to))
			check_range(from, to, GM_PERM_R);
		drop_missing();
		assert_true(gm_iotlb_is_valid(iotlb));
	}
}

static void a_small_table_misses_but_never_errs(void **state)
{
	struct rng rng = {test_seed(13)};

	(void)state;
	for (uint32_t capacity = 1; capacity <= 12; capacity++) {
		scope = &scopes[capacity % NR_SCOPES];
		iotlb = make_table(capacity);
		clear_units();
		small_table_run(&rng, (unsigned int)support_scale(400));
		assert_true(iotlb->nr_evicted > 0);
		free(iotlb);
	}
}

/* ---- the large space ---- */

#define SEGMENTS_MAX 4096u

static struct gm_translation segments[SEGMENTS_MAX];
static unsigned int nr_segments;

/* Takes a range out of the list. */
static void list_cut(uint64_t first, uint64_t last)
{
	for (unsigned int i = 0; i < nr_segments;) {
		struct gm_translation old = segments[i];

		if (old.last < first || old.first > last) {
			i++;
			continue;
		}
		segments[i] = segments[--nr_segments];
		if (old.first < first) {
			segments[nr_segments] = old;
			segments[nr_segments++].last = first - 1;
		}
		if (old.last > last) {
			segments[nr_segments] = old;
			segments[nr_segments++].first = last + 1;
		}
		/* What was put at the end does not overlap, so that this ends. */
	}
}

static const struct gm_translation *list_find(uint64_t addr)
{
	for (unsigned int i = 0; i < nr_segments; i++) {
		if (addr >= segments[i].first && addr <= segments[i].last)
			return &segments[i];
	}
	return NULL;
}

static void random_change(struct rng *rng, bool pages)
{
	uint64_t a = pages ? rng_below(rng, 2048) << 12 : rng_edge(rng);
	uint64_t b = pages ? a + (rng_below(rng, 16) << 12) + 4095 : rng_edge(rng);
	uint64_t first = a < b ? a : b;
	uint64_t last = a < b ? b : a;
	uint64_t target = rng_below(rng, 2) ? first : rng_edge(rng);
	uint32_t perms = (uint32_t)rng_below(rng, 4);

	if (rng_below(rng, 3) == 0) {
		assert_int_equal(unmap(iotlb, first, last), 0);
		list_cut(first, last);
		return;
	}
	if (last - first > UINT64_MAX - target) {
		assert_int_equal(map(iotlb, first, last, target, perms), -ERANGE);
		return;
	}
	assert_int_equal(map(iotlb, first, last, target, perms), 0);
	list_cut(first, last);
	segments[nr_segments++] = (struct gm_translation){first, last, target - first, perms};
}

static void check_at(uint64_t addr)
{
	const struct gm_translation *want = list_find(addr);
	struct gm_iotlb_piece piece;
	int rc = gm_iotlb_find(iotlb, addr, 0, 0, &piece);

	if (rc == 0 && (!want || piece.target != addr + want->delta || piece.perms != want->perms))
		fail_msg("find %#lx", addr);
	rc = lookup(iotlb, addr, 1, 0, &answer);
	if (rc == 0 && (!want || answer.good[0].target != addr + want->delta ||
			       answer.good[0].perms != want->perms))
		fail_msg("look up %#lx", addr);
	if (rc && want && iotlb->nr_evicted == 0)
		fail_msg("%#lx is lost", addr);
}

static void random_run(uint64_t seed, uint32_t capacity, bool pages, unsigned int changes)
{
	struct rng rng = {seed};

	iotlb = make_table(capacity);
	nr_segments = 0;
	for (unsigned int i = 0; i < changes && nr_segments < SEGMENTS_MAX - 3; i++) {
		random_change(&rng, pages);
		for (unsigned int j = 0; j < 8; j++)
			check_at(pages ? rng_below(&rng, 2064) << 12 : rng_edge(&rng));
		check_at(0);
		check_at(TOP);
		if (i % 16 == 0 && !gm_iotlb_is_valid(iotlb))
			fail_msg("seed %#lx: not valid after %u", seed, i);
	}
	assert_true(gm_iotlb_is_valid(iotlb));
	free(iotlb);
}

static void random_changes_at_the_edges_of_the_space(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(30); i++) {
		random_run(test_seed(1000 + i), 1024, false, 300);
		random_run(test_seed(2000 + i), 8, false, 300);
	}
}

static void random_changes_of_many_pages(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < support_scale(3); i++) {
		random_run(test_seed(3000 + i), 4096, true, 4000);
		random_run(test_seed(4000 + i), 100, true, 2000);
	}
}

/* Rising, falling, and from both ends: what makes a tree without balance a list. */
static void mappings_in_any_order_leave_a_flat_tree(void **state)
{
	enum { NR = 20000 };

	(void)state;
	for (unsigned int order = 0; order < 3; order++) {
		iotlb = make_table(NR);
		for (uint64_t i = 0; i < NR; i++) {
			uint64_t at = order == 0 ? i : order == 1 ? NR - i : i % 2 ? i : 3 * NR - i;

			assert_int_equal(map(iotlb, at << 13, (at << 13) + 4095, i << 40, 3), 0);
		}
		assert_int_equal(iotlb->tree.nr, NR);
		assert_true(iotlb->tree.nodes[iotlb->tree.root].height <= 20);
		assert_true(gm_iotlb_is_valid(iotlb));
		for (uint64_t i = 0; i < NR; i += 3)
			assert_int_equal(unmap(iotlb, i << 13, ((i + 2) << 13) - 1), 0);
		assert_true(gm_iotlb_is_valid(iotlb));
		free(iotlb);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pairs_of_changes_between_eight_points),
		cmocka_unit_test(all_triples_of_changes_between_five_points),
		cmocka_unit_test(all_ranges_of_256_units_are_looked_up),
		cmocka_unit_test(all_ranges_of_256_units_are_changed),
		cmocka_unit_test(a_small_table_misses_but_never_errs),
		cmocka_unit_test(random_changes_at_the_edges_of_the_space),
		cmocka_unit_test(random_changes_of_many_pages),
		cmocka_unit_test(mappings_in_any_order_leave_a_flat_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
