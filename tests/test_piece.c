/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_piece.c - what a view tells of its regions, at the edges and while they come and go. That it is
 * right for trees of all sorts is tested in test_tree.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/piece.h>
#include <guestmem/txn.h>
#include <pthread.h>

#include "one_space.h"

#define PAGE UINT64_C(4096)

static struct gm_piece_info next(const struct gm_view *view, uint64_t gpa)
{
	struct gm_piece_info info = {.size = sizeof(info)};

	assert_int_equal(gm_view_next(view, gpa, &info), 0);
	return info;
}

static uint64_t region_at(const struct gm_view *view, uint64_t gpa, uint64_t *ret_off)
{
	uint64_t id = 0;

	assert_int_equal(gm_view_region(view, gpa, &id, ret_off), 0);
	return id;
}

static void an_empty_view_shows_nothing(void **state)
{
	struct gm_piece_info piece = {.size = sizeof(piece), .id = 7};
	struct gm_view_info info = {.size = sizeof(info)};
	const struct gm_view *view;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_view_next(view, 0, &piece), -ENOENT);
	assert_int_equal(gm_view_next(view, UINT64_MAX, &piece), -ENOENT);
	assert_int_equal(gm_view_region(view, 0, NULL, NULL), -EFAULT);
	assert_int_equal(piece.id, 7);
	assert_int_equal(gm_view_info(view, &info), 0);
	assert_int_equal(info.pieces + info.last + info.memory + info.memory_len, 0);
	/* Of a header that is older than the first one. */
	piece.size--;
	info.size--;
	assert_int_equal(gm_view_next(view, 0, &piece), -EINVAL);
	assert_int_equal(gm_view_info(view, &info), -EINVAL);
	gm_reader_leave(reader);
	stop();
}

/* A container of all addresses that is cut by memory at both ends, and by a device. */
static void pieces_are_told_up_to_the_last_address(void **state)
{
	const uint64_t top = UINT64_MAX - PAGE + 1;
	struct gm_view_info info = {.size = sizeof(info)};
	struct gm_piece_info piece;
	const struct gm_view *view;
	uint64_t ids[3];
	uint64_t off = 77;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
	ids[0] = add(0, 4 * PAGE);
	ids[1] = add(top, PAGE);
	assert_ok(gm_space_add(space,
		DESC(.gpa = PAGE, .len = 2 * PAGE, .kind = GM_REGION_RESERVED, .priority = 1),
		&ids[2], &err));
	view = gm_reader_enter(reader);
	piece = next(view, 0);
	assert_int_equal(piece.id, ids[0]);
	assert_int_equal(piece.gpa + piece.off, 0);
	assert_int_equal(piece.len, PAGE);
	assert_int_equal(piece.kind, GM_REGION_RAM);
	assert_int_equal(piece.perms, GM_PERM_RWX);
	piece = next(view, PAGE + 5);
	assert_int_equal(piece.id, ids[2]);
	assert_int_equal(piece.gpa, PAGE);
	assert_int_equal(piece.kind, GM_REGION_RESERVED);
	piece = next(view, 3 * PAGE);
	assert_int_equal(piece.id, ids[0]);
	assert_int_equal(piece.off, 3 * PAGE);
	piece = next(view, 4 * PAGE);
	assert_int_equal(piece.id, ids[1]);
	assert_true(piece.gpa == top && piece.gpa + piece.len == 0);
	assert_int_equal(next(view, UINT64_MAX).id, ids[1]);
	assert_int_equal(region_at(view, 3 * PAGE + 9, &off), ids[0]);
	assert_int_equal(off, 3 * PAGE + 9);
	assert_int_equal(region_at(view, UINT64_MAX, &off), ids[1]);
	assert_int_equal(off, PAGE - 1);
	assert_int_equal(region_at(view, PAGE, &off), ids[2]);
	assert_int_equal(gm_view_region(view, 4 * PAGE, NULL, &off), -EFAULT);
	assert_int_equal(gm_view_region(view, top - 1, NULL, NULL), -EFAULT);
	assert_int_equal(off, 0);
	assert_int_equal(gm_view_info(view, &info), 0);
	assert_int_equal(info.pieces, 4);
	assert_int_equal(info.memory, 3);
	assert_int_equal(info.memory_len, 3 * PAGE);
	assert_true(info.last == UINT64_MAX && info.memory_last == UINT64_MAX);
	gm_reader_leave(reader);
	stop();
}

/* The number is that of the view's time, though its place has been used again. */
static void a_view_goes_on_telling_what_it_shows(void **state)
{
	const struct gm_view *view;
	uint64_t first;
	uint64_t now = 0;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	first = add(MIB(1), PAGE);
	view = gm_reader_enter(reader);
	for (int i = 0; i < 4; i++) {
		assert_ok(gm_space_remove(space, now ? now : first, &err));
		now = add(MIB(1) + PAGE, PAGE);
		/* The same place, or the test would say nothing. */
		assert_int_equal((uint32_t)now, (uint32_t)first);
		assert_true(now != first);
		assert_int_equal(region_at(view, MIB(1), NULL), first);
		assert_int_equal(next(view, 0).id, first);
		assert_int_equal(next(view, 0).gpa, MIB(1));
		assert_int_equal(gm_view_region(view, MIB(1) + PAGE, NULL, NULL), -EFAULT);
		assert_int_equal(region_at(gm_reader_enter(reader), MIB(1) + PAGE, NULL), now);
		gm_reader_leave(reader);
	}
	gm_reader_leave(reader);
	stop();
}

/* An IOVA space shows its IOMMU: what that leads to is the other space's. */
static void an_iommu_is_one_piece(void **state)
{
	struct gm_view_info info = {.size = sizeof(info)};
	struct gm_iommu *iommu;
	struct gm_reader *device;
	struct gm_space *iova;
	struct gm_piece_info piece;
	const struct gm_view *view;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, PAGE);
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .over = space, .gpa_limit = GM_SPACE_NO_WINDOW), &iova,
		&err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), &id, &err));
	assert_ok(gm_iommu_map(iommu, 0, PAGE, 0, GM_PERM_RW, &err));
	assert_ok(gm_reader_create(iova, "device", &device, &err));
	view = gm_reader_enter(device);
	piece = next(view, GIB(5));
	assert_int_equal(piece.id, id);
	assert_int_equal(piece.gpa + piece.len, 0);
	assert_int_equal(piece.kind, GM_REGION_IOMMU);
	assert_int_equal(gm_view_info(view, &info), 0);
	assert_int_equal(info.pieces, 1);
	assert_int_equal(info.memory, 0);
	assert_true(info.last == UINT64_MAX);
	gm_reader_leave(device);
	gm_reader_destroy(device);
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	stop();
}

/* ---- while the map changes ---- */

#define PLACES 16u
#define USES 4096u
#define READERS 2

/* What the region with a number was made as: its address and kind. */
static uint64_t made[PLACES * 2][USES]; /* atomic */
static bool over;                       /* atomic */
static unsigned long nr_walks;

static uint64_t *record_of(uint64_t id)
{
	return (uint32_t)id <= PLACES * 2 && id >> 32 < USES ? &made[(uint32_t)id - 1][id >> 32]
							     : NULL;
}

static int check_piece(const struct gm_view *view, const struct gm_piece_info *piece)
{
	uint64_t *record = record_of(piece->id);
	uint64_t off = 77;
	uint64_t id = 0;

	if (!record || __atomic_load_n(record, __ATOMIC_RELAXED) != (piece->gpa | piece->kind))
		return 1;
	if (piece->off || piece->len != PAGE)
		return 1;
	if (gm_view_region(view, piece->gpa + 5, &id, &off))
		return 1;
	return id != piece->id || off != 5;
}

static void *walk_on(void *arg)
{
	struct gm_reader *mine;
	unsigned long n = 0;
	void *bad = NULL;

	(void)arg;
	if (gm_reader_create(space, "walker", &mine, NULL))
		return (void *)1;
	for (; !bad && !__atomic_load_n(&over, __ATOMIC_RELAXED); n++) {
		const struct gm_view *view = gm_reader_enter(mine);
		struct gm_view_info info = {.size = sizeof(info)};
		struct gm_piece_info piece = {.size = sizeof(piece)};
		uint64_t nr = 0;

		for (uint64_t gpa = 0; !bad && gm_view_next(view, gpa, &piece) == 0; nr++) {
			if (check_piece(view, &piece))
				bad = (void *)2;
			gpa = piece.gpa + piece.len;
		}
		if (!bad && (gm_view_info(view, &info) || info.pieces != nr))
			bad = (void *)3;
		gm_reader_leave(mine);
	}
	gm_reader_destroy(mine);
	__atomic_fetch_add(&nr_walks, n, __ATOMIC_RELAXED);
	return bad;
}

static void exchange(uint64_t *id, uint64_t at, unsigned long n)
{
	const uint32_t kind = n % 3 ? GM_REGION_RAM : GM_REGION_RESERVED;
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	if (*id)
		assert_ok(gm_txn_remove(txn, *id, &err));
	*id = 0;
	if (n % 5) {
		assert_ok(gm_txn_add(txn,
			kind == GM_REGION_RAM ? DESC(.gpa = at, .backing = BLOCK(.len = PAGE))
					      : DESC(.gpa = at, .len = PAGE, .kind = kind),
			id, &err));
		assert_non_null(record_of(*id));
		/* Before anybody can see it. */
		__atomic_store_n(record_of(*id), at | kind, __ATOMIC_RELAXED);
	}
	assert_ok(gm_txn_commit(txn, &err));
}

static void readers_are_told_of_one_map_while_others_come(void **state)
{
	pthread_t threads[READERS];
	uint64_t ids[PLACES] = {0};
	void *rc;

	(void)state;
	__atomic_store_n(&over, false, __ATOMIC_RELAXED);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .timeout_ns = UINT64_C(20000000000)));
	for (size_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, walk_on, NULL), 0);
	for (unsigned long n = 0; n < support_scale(300) && n < USES; n++)
		exchange(&ids[n * 7 % PLACES], n * 7 % PLACES * 2 * PAGE, n);
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < READERS; i++) {
		pthread_join(threads[i], &rc);
		assert_null(rc);
	}
	assert_true(nr_walks > 0);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_view_shows_nothing),
		cmocka_unit_test(pieces_are_told_up_to_the_last_address),
		cmocka_unit_test(a_view_goes_on_telling_what_it_shows),
		cmocka_unit_test(an_iommu_is_one_piece),
		cmocka_unit_test(readers_are_told_of_one_map_while_others_come),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
