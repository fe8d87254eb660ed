/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_iotlb.c - the IOTLB by cases: edges of the space, zero lengths, lists, merging, capacity and
 * eviction, generations; and each defect that others had.
 */
#include "iotlb_table.h"

#include "random.h"

#define R GM_PERM_R
#define W GM_PERM_W
#define RW GM_PERM_RW

static struct gm_iotlb *iotlb;
static struct gm_iotlb_piece piece;
static struct answer answer;

static int set_up(void **state)
{
	(void)state;
	iotlb = make_table(16);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_true(gm_iotlb_is_valid(iotlb));
	free(iotlb);
	return 0;
}

/* Both look-ups say that one address leads to @target. */
static void check_maps(uint64_t iova, uint64_t target, uint32_t perms)
{
	assert_int_equal(gm_iotlb_find(iotlb, iova, 1, perms, &piece), 0);
	check_piece(&piece, iova, target, 1, piece.perms);
	assert_int_equal(lookup(iotlb, iova, 1, perms, &answer), 0);
	check_piece(&answer.good[0], iova, target, 1, piece.perms);
}

static void check_misses(uint64_t iova)
{
	assert_int_equal(gm_iotlb_find(iotlb, iova, 1, 0, &piece), -EAGAIN);
	assert_int_equal(lookup(iotlb, iova, 1, 0, &answer), -EFAULT);
	assert_int_equal(answer.a.missing.nr, 1);
	check_piece(&answer.missing[0], iova, 0, 1, 0);
}

/* ---- storage ---- */

static void a_capacity_out_of_bounds_has_no_room(void **state)
{
	(void)state;
	assert_int_equal(gm_iotlb_room(0), 0);
	assert_int_equal(gm_iotlb_room(GM_IOTLB_CAPACITY_MAX + 1), 0);
	assert_int_equal(gm_iotlb_room(UINT32_MAX), 0);
	assert_true(gm_iotlb_room(GM_IOTLB_CAPACITY_MAX) > 0);
	assert_true(GM_IOTLB_CAPACITY_MAX + 3 <= GM_ITREE_NODES_MAX);
	assert_true(gm_iotlb_room(65536) <= 65536 * 192 + 1024);
}

static void an_empty_table_maps_nothing(void **state)
{
	(void)state;
	check_misses(0);
	check_misses(TOP);
	assert_int_equal(lookup(iotlb, 1, TOP, 0, &answer), -EFAULT);
	check_piece(&answer.missing[0], 1, 0, TOP, 0);
	assert_int_equal(unmap(iotlb, 0, TOP), 0);
	gm_iotlb_unmap_all(iotlb);
}

/* ---- the shape of mappings ---- */

static void bytes_are_mapped_one_by_one(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 7, 7, 1000, R), 0);
	assert_int_equal(map(iotlb, 8, 8, 500, W), 0);
	check_misses(6);
	check_maps(7, 1000, R);
	check_maps(8, 500, W);
	check_misses(9);
}

static void a_later_mapping_overrides_the_middle_of_an_earlier_one(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 100, 199, 1100, R), 0);
	assert_int_equal(map(iotlb, 150, 159, 9000, RW), 0);
	check_maps(149, 1149, R);
	check_maps(150, 9000, RW);
	check_maps(159, 9009, RW);
	check_maps(160, 1160, R);
	assert_int_equal(lookup(iotlb, 90, 120, R, &answer), -EFAULT);
	assert_int_equal(answer.a.good.nr, 3);
	check_piece(&answer.good[0], 100, 1100, 50, R);
	check_piece(&answer.good[1], 150, 9000, 10, RW);
	check_piece(&answer.good[2], 160, 1160, 40, R);
	assert_int_equal(answer.a.missing.nr, 2);
	check_piece(&answer.missing[0], 90, 0, 10, 0);
	check_piece(&answer.missing[1], 200, 0, 10, 0);
}

static void neighbours_with_the_same_delta_and_permissions_are_one(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 100, 199, 1100, RW), 0);
	assert_int_equal(map(iotlb, 300, 399, 1300, RW), 0);
	assert_int_equal(map(iotlb, 200, 299, 1200, RW), 0);
	assert_int_equal(iotlb->tree.nr, 1);
	assert_int_equal(gm_iotlb_find(iotlb, 150, 1000, R, &piece), 0);
	check_piece(&piece, 150, 1150, 250, RW);
	/* Another target, and other permissions. */
	assert_int_equal(map(iotlb, 400, 499, 1401, RW), 0);
	assert_int_equal(map(iotlb, 0, 99, 1000, R), 0);
	assert_int_equal(iotlb->tree.nr, 3);
	/* The same target once more is another name for it. */
	assert_int_equal(map(iotlb, 500, 599, 1401, RW), 0);
	assert_int_equal(iotlb->tree.nr, 4);
	check_maps(400, 1401, RW);
	check_maps(500, 1401, RW);
}

static void neighbours_whose_target_wraps_stay_two(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 0, 9, TOP - 9, RW), 0);
	assert_int_equal(map(iotlb, 10, 19, 0, RW), 0);
	assert_int_equal(iotlb->tree.nr, 2);
	assert_int_equal(gm_iotlb_find(iotlb, 5, 10, R, &piece), 0);
	check_piece(&piece, 5, TOP - 4, 5, RW);
}

static uint32_t changes_seen(void)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < iotlb->quick.nr_lines; i++)
		sum += iotlb->quick.lines[i].seq;
	return sum;
}

static void a_mapping_that_is_said_twice_stays_whole(void **state)
{
	uint32_t before;

	(void)state;
	assert_int_equal(map(iotlb, 100, 199, 1100, RW), 0);
	before = changes_seen();
	assert_int_equal(map(iotlb, 120, 129, 1120, RW), 0);
	assert_int_equal(map(iotlb, 100, 199, 1100, RW), 0);
	assert_int_equal(iotlb->tree.nr, 1);
	/* Readers see nothing of it. */
	assert_int_equal(changes_seen(), before);
}

static void a_mapping_is_refused_as_a_whole(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 100, 199, 1100, RW), 0);
	assert_int_equal(map(iotlb, 150, 149, 0, RW), -EINVAL);
	assert_int_equal(map(iotlb, 150, 159, 0, GM_PERM_X), -EINVAL);
	assert_int_equal(map(iotlb, 150, 159, 0, 8), -EINVAL);
	assert_int_equal(map(iotlb, 150, 159, TOP - 8, RW), -ERANGE);
	assert_int_equal(unmap(iotlb, 150, 149), -EINVAL);
	assert_int_equal(lookup(iotlb, 100, 100, RW, &answer), 0);
	check_piece(&answer.good[0], 100, 1100, 100, RW);
}

/* ---- the defects ---- */

static void d4_a_range_that_wraps_is_never_a_success(void **state)
{
	(void)state;
	assert_int_equal(lookup(iotlb, TOP, 2, 0, &answer), -ERANGE);
	assert_int_equal(map(iotlb, 0, TOP, 0, RW), 0);
	assert_int_equal(lookup(iotlb, TOP, 2, 0, &answer), -ERANGE);
	assert_int_equal(lookup(iotlb, 2, TOP, 0, &answer), -ERANGE);
	assert_int_equal(answer.a.good.nr + answer.a.missing.nr + answer.a.refused.nr, 0);
	assert_int_equal(gm_iotlb_find(iotlb, TOP, 2, 0, &piece), -ERANGE);
	assert_int_equal(gm_iotlb_find(iotlb, 2, TOP, 0, &piece), -ERANGE);
	assert_int_equal(gm_iotlb_find(iotlb, TOP, 1, 0, &piece), 0);
	assert_int_equal(gm_iotlb_find(iotlb, 1, TOP, 0, &piece), 0);
}

static void d5_ranges_may_end_at_the_top_and_an_empty_one_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, TOP - 15, TOP, 0, RW), 0);
	check_maps(TOP, 15, RW);
	assert_int_equal(map(iotlb, 1, 0, 0, RW), -EINVAL);
	assert_int_equal(map(iotlb, TOP, 0, 0, RW), -EINVAL);
	assert_int_equal(unmap(iotlb, 1, 0), -EINVAL);
	assert_int_equal(unmap(iotlb, TOP, TOP), 0);
	check_misses(TOP);
	check_maps(TOP - 1, 14, RW);
}

static void d5_the_whole_space_is_one_mapping(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 0, TOP, 0, RW), 0);
	assert_int_equal(iotlb->tree.nr, 1);
	check_maps(0, 0, RW);
	check_maps(UINT64_C(1) << 63, UINT64_C(1) << 63, RW);
	check_maps(TOP, TOP, RW);
	/* Nothing but the identity fits. */
	assert_int_equal(map(iotlb, 0, TOP, 1, RW), -ERANGE);
	assert_int_equal(map(iotlb, 5, 5, 77, R), 0);
	assert_int_equal(iotlb->tree.nr, 3);
	check_maps(TOP, TOP, RW);
	check_maps(5, 77, R);
}

static void d5_forgetting_everything_leaves_no_byte_at_the_top(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 0, TOP, 0, RW), 0);
	assert_int_equal(unmap(iotlb, 0, TOP), 0);
	check_misses(TOP);
	check_misses(0);
	assert_int_equal(map(iotlb, TOP, TOP, 0, RW), 0);
	assert_int_equal(unmap(iotlb, TOP - 1, TOP), 0);
	check_misses(TOP);
	assert_int_equal(map(iotlb, TOP, TOP, 0, RW), 0);
	gm_iotlb_unmap_all(iotlb);
	check_misses(TOP);
}

static void d6_nothing_goes_on_at_zero(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, TOP - 7, TOP, 100, RW), 0);
	assert_int_equal(map(iotlb, 0, 7, 108, RW), 0);
	assert_int_equal(iotlb->tree.nr, 2);
	assert_int_equal(lookup(iotlb, TOP - 7, 16, RW, &answer), -ERANGE);
	assert_int_equal(gm_iotlb_find(iotlb, TOP - 7, 16, RW, &piece), -ERANGE);
	/* A hole at the top is not looked for at the bottom. */
	assert_int_equal(unmap(iotlb, TOP - 3, TOP), 0);
	assert_int_equal(lookup(iotlb, TOP - 7, 8, RW, &answer), -EFAULT);
	assert_int_equal(answer.a.good.nr, 1);
	assert_int_equal(answer.a.missing.nr, 1);
	check_piece(&answer.missing[0], TOP - 3, 0, 4, 0);
}

static void d7_iova_and_target_may_end_at_the_top(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, TOP - 99, TOP, TOP - 99, RW), 0);
	check_maps(TOP, TOP, RW);
	assert_int_equal(map(iotlb, 0, 99, TOP - 99, RW), 0);
	check_maps(99, TOP, RW);
	assert_int_equal(map(iotlb, 200, 299, TOP - 98, RW), -ERANGE);
	check_misses(200);
}

static void d12_permissions_are_asked_on_every_way(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 0, 9, 100, R), 0);
	assert_int_equal(map(iotlb, 10, 19, 200, W), 0);
	assert_int_equal(map(iotlb, 20, 29, 300, 0), 0);
	assert_int_equal(map(iotlb, 30, 39, 400, RW), 0);
	assert_int_equal(gm_iotlb_find(iotlb, 5, 1, W, &piece), -EACCES);
	assert_int_equal(gm_iotlb_find(iotlb, 5, 0, W, &piece), -EACCES);
	assert_int_equal(gm_iotlb_find(iotlb, 15, 1, R, &piece), -EACCES);
	assert_int_equal(gm_iotlb_find(iotlb, 25, 1, R, &piece), -EACCES);
	assert_int_equal(gm_iotlb_find(iotlb, 25, 1, 0, &piece), 0);
	assert_int_equal(gm_iotlb_find(iotlb, 35, 1, GM_PERM_X, &piece), -EACCES);
	assert_int_equal(lookup(iotlb, 5, 35, RW, &answer), -EACCES);
	assert_int_equal(answer.a.good.nr, 1);
	check_piece(&answer.good[0], 30, 400, 10, RW);
	assert_int_equal(answer.a.refused.nr, 3);
	check_piece(&answer.refused[0], 5, 105, 5, R);
	check_piece(&answer.refused[1], 10, 200, 10, W);
	check_piece(&answer.refused[2], 20, 300, 10, 0);
	assert_int_equal(answer.a.missing.nr, 0);
	/* What is missing counts for more; both lists are whole. */
	assert_int_equal(lookup(iotlb, 25, 20, RW, &answer), -EFAULT);
	assert_int_equal(answer.a.refused.nr, 1);
	assert_int_equal(answer.a.missing.nr, 1);
}

static void d16_a_mapping_made_before_a_flush_is_refused_after_it(void **state)
{
	const struct gm_range range = {0, 99};

	(void)state;
	/* The answer of a peer to a question that was asked before the map of memory changed. */
	gm_iotlb_flush_to(iotlb, 8);
	assert_int_equal(gm_iotlb_map(iotlb, 7, &range, 0, RW), -ESTALE);
	check_misses(0);
	assert_int_equal(gm_iotlb_map(iotlb, 8, &range, 0, RW), 0);
	check_maps(99, 99, RW);
}

static void d17_a_piece_names_both_addresses(void **state)
{
	(void)state;
	/* One target under two addresses: a log may be kept by either. */
	assert_int_equal(map(iotlb, 1000, 1099, 50, RW), 0);
	assert_int_equal(map(iotlb, 2000, 2099, 50, RW), 0);
	assert_int_equal(gm_iotlb_find(iotlb, 1010, 200, W, &piece), 0);
	check_piece(&piece, 1010, 60, 90, RW);
	assert_int_equal(gm_iotlb_find(iotlb, 2010, 200, W, &piece), 0);
	check_piece(&piece, 2010, 60, 90, RW);
	assert_int_equal(lookup(iotlb, 2010, 10, W, &answer), 0);
	check_piece(&answer.good[0], 2010, 60, 10, RW);
}

static void d18_length_zero_checks_the_address_alone_everywhere(void **state)
{
	static const uint64_t at[] = {0, 99, 100, 149, 199, 200, TOP - 1, TOP};

	(void)state;
	assert_int_equal(map(iotlb, 100, 149, 1000, R), 0);
	assert_int_equal(map(iotlb, 150, 199, 3000, RW), 0);
	assert_int_equal(map(iotlb, TOP, TOP, 0, RW), 0);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		for (uint32_t perms = 0; perms <= RW; perms++) {
			int one = lookup(iotlb, at[i], 1, perms, &answer);
			struct answer wide = answer;
			struct gm_iotlb_piece *it = one == 0         ? wide.good
						    : one == -EFAULT ? wide.missing
								     : wide.refused;

			it->len = 0;
			assert_int_equal(lookup(iotlb, at[i], 0, perms, &answer), one);
			assert_int_equal(answer.a.good.nr, one == 0);
			assert_int_equal(answer.a.missing.nr, one == -EFAULT);
			assert_int_equal(answer.a.refused.nr, one == -EACCES);
			check_piece(one == 0         ? answer.good
				    : one == -EFAULT ? answer.missing
						     : answer.refused,
				it->iova, it->target, 0, it->perms);
			assert_int_equal(gm_iotlb_find(iotlb, at[i], 0, perms, &piece),
				one == -EFAULT ? -EAGAIN : one);
			if (one == 0)
				check_piece(&piece, it->iova, it->target, 0, it->perms);
		}
	}
}

/* ---- lists ---- */

static void lists_count_beyond_their_room(void **state)
{
	struct gm_iotlb_piece two[3] = {[2] = {.iova = 12345}};
	struct gm_iotlb_answer small = {.good = {two, 2, 7}};

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(map(iotlb, i * 10, i * 10 + 9, i * 1000, i % 2 ? R : RW), 0);
	assert_int_equal(gm_iotlb_lookup(iotlb, 0, 50, R, &small), -ENOBUFS);
	assert_int_equal(small.good.nr, 5);
	check_piece(&two[0], 0, 0, 10, RW);
	check_piece(&two[1], 10, 1000, 10, R);
	assert_true(two[2].iova == 12345);
	assert_int_equal(gm_iotlb_lookup(iotlb, 5, 15, R, &small), 0);
	assert_int_equal(small.good.nr, 2);
	/* No room at all, also with length 0. */
	assert_int_equal(gm_iotlb_lookup(iotlb, 0, 50, W, &small), -EACCES);
	assert_int_equal(small.refused.nr, 2);
	assert_int_equal(gm_iotlb_lookup(iotlb, 40, 20, R, &small), -EFAULT);
	assert_int_equal(small.missing.nr, 1);
	assert_int_equal(gm_iotlb_lookup(iotlb, 50, 0, R, &small), -EFAULT);
	assert_int_equal(small.missing.nr, 1);
}

/* ---- generations ---- */

static void a_flush_to_the_same_generation_keeps_everything(void **state)
{
	(void)state;
	gm_iotlb_flush_to(iotlb, 3);
	assert_int_equal(map(iotlb, 0, 99, 0, RW), 0);
	gm_iotlb_flush_to(iotlb, 3);
	check_maps(50, 50, RW);
	gm_iotlb_flush_to(iotlb, 4);
	check_misses(50);
	/* Back to a number that was there before: what was mapped then does not come back. */
	gm_iotlb_flush_to(iotlb, 3);
	check_misses(50);
	assert_int_equal(map(iotlb, 50, 50, 7, RW), 0);
	check_misses(49);
	check_maps(50, 7, RW);
}

static void many_flushes_leave_a_working_table(void **state)
{
	(void)state;
	for (uint64_t i = 1; i < 2000; i++) {
		gm_iotlb_flush_to(iotlb, i);
		for (uint64_t j = 0; j < 1 + i % 16; j++)
			assert_int_equal(map(iotlb, j << 12, (j << 12) + 4094, i << 20, RW), 0);
		assert_true(gm_iotlb_is_valid(iotlb));
		check_maps(0, i << 20, RW);
		check_misses((1 + i % 16) << 12);
	}
}

/* ---- capacity ---- */

static void a_full_table_lets_an_old_mapping_go_and_counts_it(void **state)
{
	uint64_t mapped = 0;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(map(iotlb, i << 12, (i << 12) + 100, i << 30, RW), 0);
		check_maps((i << 12) + 100, (i << 30) + 100, RW);
		assert_int_equal(iotlb->tree.nr, i < 16 ? i + 1 : 16);
		assert_int_equal(iotlb->nr_evicted, i < 16 ? 0 : i - 15);
		assert_true(gm_iotlb_is_valid(iotlb));
	}
	for (uint64_t i = 0; i < 1000; i++) {
		int rc = lookup(iotlb, i << 12, 1, RW, &answer);

		assert_true(rc == 0 || rc == -EFAULT);
		assert_true(rc || answer.good[0].target == i << 30);
		mapped += rc == 0;
	}
	assert_int_equal(mapped, 16);
}

static void a_table_of_one_holds_the_last_mapping(void **state)
{
	(void)state;
	free(iotlb);
	iotlb = make_table(1);
	assert_int_equal(map(iotlb, 0, TOP, 0, RW), 0);
	assert_int_equal(map(iotlb, 100, 199, 7, R), 0);
	assert_int_equal(iotlb->tree.nr, 1);
	assert_int_equal(iotlb->nr_evicted, 2);
	check_maps(150, 57, R);
	check_misses(99);
	check_misses(200);
	/* A hole makes two of one, and one has to go. */
	assert_int_equal(unmap(iotlb, 150, 150), 0);
	assert_int_equal(iotlb->tree.nr, 1);
	check_misses(150);
}

static void what_readers_use_outlives_what_nobody_uses(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(map(iotlb, i << 12, (i << 12) + 4095, i << 40, RW), 0);
	for (uint64_t i = 100; i < 400; i++) {
		for (uint64_t j = 0; j < 4; j++)
			check_maps(j << 12, j << 40, RW);
		assert_int_equal(map(iotlb, i << 12, (i << 12) + 4095, i << 40, RW), 0);
	}
	for (uint64_t j = 0; j < 4; j++)
		check_maps(j << 12, j << 40, RW);
	assert_int_equal(iotlb->nr_evicted, 300);
}

/* The clock looks at so many only, or a change could take as long as the table is large. */
static void when_everything_is_used_something_goes_soon(void **state)
{
	(void)state;
	free(iotlb);
	iotlb = make_table(1000);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(map(iotlb, i << 12, (i << 12) + 4095, i << 40, RW), 0);
	for (uint64_t i = 0; i < 1000; i++)
		check_maps(i << 12, i << 40, RW);
	iotlb->hand = 0;
	assert_int_equal(map(iotlb, 1 << 30, (1 << 30) + 4095, 0, RW), 0);
	assert_int_equal(iotlb->nr_evicted, 1);
	/* Those beyond are still marked as used. */
	for (uint32_t i = 50; i < 1000; i++) {
		const struct gm_translation *it = &iotlb->tree.nodes[i].mapping;

		assert_true(gm_quick_take_reference(&iotlb->quick, it));
		assert_true(!gm_quick_take_reference(&iotlb->quick, it));
	}
}

/* Two lines have four places. */
static void a_copy_that_finds_no_place_is_put_in_later(void **state)
{
	struct gm_quick_line lines[2];
	struct gm_quick quick;
	struct gm_translation it[5];
	struct gm_translation found;
	unsigned int here = 0;
	unsigned int missing = 0;

	(void)state;
	gm_quick_init(&quick, lines, 2, SEED);
	for (unsigned int i = 0; i < 5; i++) {
		it[i] = (struct gm_translation){i << 12, (i << 12) + 4095, i, RW};
		gm_quick_add(&quick, &it[i]);
	}
	assert_int_equal(quick.nr_left_out, 1);
	assert_true(gm_quick_is_valid(&quick, 4, 1));
	for (unsigned int i = 0; i < 5; i++) {
		if (!gm_quick_find(&quick, it[i].first, &found))
			missing = i;
		else
			here += found.delta == i;
	}
	assert_int_equal(here, 4);
	/* Nothing gets in while there is no place, and something else falls out. */
	gm_quick_refill(&quick, &it[missing]);
	assert_int_equal(quick.nr_left_out, 1);
	for (unsigned int i = 0; i < 5; i++) {
		if (!gm_quick_find(&quick, it[i].first, &found))
			missing = i;
	}
	gm_quick_remove(&quick, &it[(missing + 1) % 5]);
	gm_quick_refill(&quick, &it[missing]);
	assert_true(gm_quick_find(&quick, it[missing].last, &found));
	assert_true(found.delta == missing);
	assert_true(gm_quick_is_valid(&quick, 4, 0));
}

/* As a reader finds it whose writer was interrupted there. */
static void a_line_that_is_being_changed_answers_nothing(void **state)
{
	(void)state;
	assert_int_equal(map(iotlb, 0, 4095, 0, RW), 0);
	for (uint32_t i = 0; i < iotlb->quick.nr_lines; i++)
		iotlb->quick.lines[i].seq++;
	assert_int_equal(gm_iotlb_find(iotlb, 0, 1, R, &piece), -EAGAIN);
	for (uint32_t i = 0; i < iotlb->quick.nr_lines; i++)
		iotlb->quick.lines[i].seq++;
	check_maps(0, 0, R);
}

/* Mappings at odd addresses have three copies each, in tables of few lines. */
static void what_is_left_out_of_the_table_is_found_in_the_tree(void **state)
{
	struct rng rng = {test_seed(5)};
	unsigned int seen = 0;

	(void)state;
	for (unsigned long round = 0; round < support_scale(2000); round++) {
		uint32_t capacity = 2 + (uint32_t)(round % 3);

		free(iotlb);
		iotlb = make_table(capacity);
		iotlb->quick.seed = rng_next(&rng);
		for (uint64_t i = 0; i < capacity; i++) {
			uint64_t first = (i << 20) + rng_below(&rng, 2048) * 2 + 1;

			/* Class 12, two or three granules. */
			assert_int_equal(map(iotlb, first, first + 8189, i << 40, RW), 0);
		}
		assert_true(gm_iotlb_is_valid(iotlb));
		assert_int_equal(lookup(iotlb, 0, 16 << 20, RW, &answer), -EFAULT);
		assert_int_equal(answer.a.good.nr, capacity);
		assert_true(gm_iotlb_is_valid(iotlb));
		/* With the others gone there is room again. */
		seen += iotlb->quick.nr_left_out > 0;
		assert_int_equal(unmap(iotlb, 1 << 20, TOP), 0);
		assert_int_equal(lookup(iotlb, 0, 1 << 20, RW, &answer), -EFAULT);
		assert_int_equal(iotlb->quick.nr_left_out, 0);
		assert_true(gm_iotlb_is_valid(iotlb));
	}
	print_message("tables with something left out: %u\n", seen);
}

static void one_wide_mapping_answers_at_any_page(void **state)
{
	struct rng rng = {test_seed(6)};

	(void)state;
	assert_int_equal(map(iotlb, GIB(1), GIB(2) - 1, GIB(9), RW), 0);
	assert_int_equal(map(iotlb, GIB(4) + 1, GIB(6) - 1, GIB(20), R), 0);
	for (unsigned int i = 0; i < 10000; i++) {
		uint64_t off = rng_below(&rng, GIB(1));

		assert_int_equal(gm_iotlb_find(iotlb, GIB(1) + off, 1, W, &piece), 0);
		assert_true(piece.target == GIB(9) + off);
		assert_int_equal(gm_iotlb_find(iotlb, GIB(5) + off, 1, R, &piece), 0);
		assert_true(piece.target == GIB(21) + off - 1);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_capacity_out_of_bounds_has_no_room),
		CASE(an_empty_table_maps_nothing),
		CASE(bytes_are_mapped_one_by_one),
		CASE(a_later_mapping_overrides_the_middle_of_an_earlier_one),
		CASE(neighbours_with_the_same_delta_and_permissions_are_one),
		CASE(neighbours_whose_target_wraps_stay_two),
		CASE(a_mapping_that_is_said_twice_stays_whole),
		CASE(a_mapping_is_refused_as_a_whole),
		CASE(d4_a_range_that_wraps_is_never_a_success),
		CASE(d5_ranges_may_end_at_the_top_and_an_empty_one_is_an_error),
		CASE(d5_the_whole_space_is_one_mapping),
		CASE(d5_forgetting_everything_leaves_no_byte_at_the_top),
		CASE(d6_nothing_goes_on_at_zero),
		CASE(d7_iova_and_target_may_end_at_the_top),
		CASE(d12_permissions_are_asked_on_every_way),
		CASE(d16_a_mapping_made_before_a_flush_is_refused_after_it),
		CASE(d17_a_piece_names_both_addresses),
		CASE(d18_length_zero_checks_the_address_alone_everywhere),
		CASE(lists_count_beyond_their_room),
		CASE(a_flush_to_the_same_generation_keeps_everything),
		CASE(many_flushes_leave_a_working_table),
		CASE(a_full_table_lets_an_old_mapping_go_and_counts_it),
		CASE(a_table_of_one_holds_the_last_mapping),
		CASE(what_readers_use_outlives_what_nobody_uses),
		CASE(when_everything_is_used_something_goes_soon),
		CASE(a_copy_that_finds_no_place_is_put_in_later),
		CASE(a_line_that_is_being_changed_answers_nothing),
		CASE(what_is_left_out_of_the_table_is_found_in_the_tree),
		CASE(one_wide_mapping_answers_at_any_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
