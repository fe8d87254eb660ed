/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_space_fault.c - every system call and every allocation behind a change of a space made to
 * fail: the space is as it was, the plan can be carried out afterwards, and nothing is left.
 */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)

static struct gm_error err;

/* Three regions with known bytes: anonymous, shared, and a ROM. */
struct scene {
	struct gm_space *space;
	struct gm_reader *reader;
	uint64_t ids[3];
};

static const uint64_t gpas[3] = {0, MIB(1), GIB(1)};

static struct gm_region_info region(struct gm_space *space, uint64_t id)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_region(space, id, &info), 0);
	return info;
}

/* Built without faults: each run of a sweep begins and ends with the same things held. */
static void build(struct scene *scene)
{
	const uint32_t flags[3] = {0, GM_BLOCK_SHARE, 0};

	fault_disarm();
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .timeout_ns = 100000000), &scene->space, &err));
	assert_ok(gm_reader_create(scene->space, "r", &scene->reader, &err));
	for (int i = 0; i < 3; i++) {
		assert_ok(gm_space_add(scene->space,
			DESC(.gpa = gpas[i], .backing = BLOCK(.len = MIB(1), .flags = flags[i])),
			&scene->ids[i], &err));
		*(uint8_t *)region(scene->space, scene->ids[i]).hva = (uint8_t)(i + 1);
	}
}

static void check_unchanged(struct scene *scene)
{
	const struct gm_view *view = gm_reader_enter(scene->reader);

	for (int i = 0; i < 3; i++) {
		struct gm_region_info info = region(scene->space, scene->ids[i]);

		assert_int_equal(info.gpa, gpas[i]);
		assert_int_equal(*(uint8_t *)info.hva, i + 1);
		assert_int_equal(gm_view_check(view, gpas[i], MIB(1), GM_PERM_RWX), 0);
	}
	assert_int_equal(gm_view_check(view, MIB(2), 1, 0), -EFAULT);
	assert_int_equal(gm_view_check(view, GIB(1) + MIB(1), 1, 0), -EFAULT);
	gm_reader_leave(scene->reader);
}

static void tear_down(struct scene *scene)
{
	gm_reader_destroy(scene->reader);
	gm_space_destroy(scene->space);
}

/* A change of the scene: plan() adds operations; the scene knows what must hold after the commit.
 */
typedef int (*plan_fn)(struct gm_txn *txn, struct scene *scene, void *block);

static plan_fn plan;
static bool with_block;

/*
 * Builds a scene with no fault, arms the planned fault again for the transaction alone, and checks
 * that a failure changes nothing and that the same change works afterwards.
 */
static int change(void *ctx)
{
	struct fault_plan *armed = ctx;
	struct gm_block *block = NULL;
	struct gm_txn *txn = NULL;
	struct scene scene;
	int rc;

	build(&scene);
	if (with_block)
		assert_ok(gm_block_create(BLOCK(.len = MIB(1)), &block, &err));
	fault_set(armed);
	rc = gm_txn_begin(scene.space, &txn, &err);
	if (!rc)
		rc = plan(txn, &scene, block);
	if (!rc)
		rc = gm_txn_commit(txn, &err);
	fault_disarm();
	if (rc) {
		assert_true(strlen(err.text) > 0);
		check_unchanged(&scene);
		gm_txn_abort(txn);
		check_unchanged(&scene);
		assert_ok(gm_txn_begin(scene.space, &txn, &err));
		assert_int_equal(plan(txn, &scene, block), 0);
		assert_ok(gm_txn_commit(txn, &err));
	}
	assert_ok(gm_space_wait(scene.space, 0, &err));
	tear_down(&scene);
	gm_block_put(block);
	return rc;
}

/* Call 1, 2, 3, ... of the transaction fails, once and for ever, by each errno. */
static void sweep(plan_fn fn, bool block)
{
	static const int errnos[] = {ENOMEM, EINVAL, EPERM};
	static struct fault_state before;
	unsigned long injected = 0;

	plan = fn;
	with_block = block;
	fault_set(NULL);
	assert_int_equal(change(NULL), 0);
	for (int mode = 0; mode < 2; mode++) {
		for (size_t e = 0; e < 3; e++) {
			for (unsigned long nth = 1;; nth++) {
				struct fault_plan armed = {.fn = FAULT_ANY,
					.nth = nth,
					.forever = mode == 1,
					.error = errnos[e]};
				unsigned long hits;

				fault_set(NULL);
				fault_state_take(&before);
				change(&armed);
				hits = fault_hits();
				fault_set(NULL);
				assert_true(fault_state_same(&before));
				if (hits == 0)
					break;
				injected++;
			}
		}
	}
	printf("figure: injected-faults %lu\n", injected);
	assert_true(injected >= 30);
}

static int plan_add(struct gm_txn *txn, struct scene *scene, void *block)
{
	int rc;

	(void)scene;
	(void)block;
	rc = gm_txn_add(txn, DESC(.gpa = MIB(4), .backing = BLOCK(.len = MIB(1))), NULL, &err);
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = MIB(8),
				.backing = BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE)),
			NULL, &err);
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = UINT64_C(1) << 60, .backing = BLOCK(.len = MIB(1))), NULL,
			&err);
	return rc;
}

static int plan_add_block(struct gm_txn *txn, struct scene *scene, void *block)
{
	(void)scene;
	return gm_txn_add(txn, DESC(.gpa = MIB(4), .block = block), NULL, &err);
}

static int plan_remove(struct gm_txn *txn, struct scene *scene, void *block)
{
	int rc = gm_txn_remove(txn, scene->ids[0], &err);

	(void)block;
	if (!rc)
		rc = gm_txn_remove(txn, scene->ids[1], &err);
	/* In the place of what goes, so that it must be vacated first. */
	if (!rc)
		rc = gm_txn_add(txn, DESC(.gpa = 0, .backing = BLOCK(.len = MIB(2))), NULL, &err);
	return rc;
}

static int plan_move(struct gm_txn *txn, struct scene *scene, void *block)
{
	int rc = gm_txn_move(txn, scene->ids[2], GIB(2), &err);

	(void)block;
	if (!rc)
		rc = gm_txn_move(txn, scene->ids[0], GIB(1), &err);
	if (!rc)
		rc = gm_txn_move(txn, scene->ids[1], KIB(512), &err);
	return rc;
}

static int plan_replace(struct gm_txn *txn, struct scene *scene, void *block)
{
	int rc = gm_txn_replace(txn, scene->ids[0], DESC(.gpa = gpas[0], .block = block), &err);

	if (!rc)
		rc = gm_txn_replace(txn, scene->ids[1],
			DESC(.gpa = gpas[1], .backing = BLOCK(.flags = GM_BLOCK_SHARE)), &err);
	if (!rc)
		rc = gm_txn_protect(txn, scene->ids[2], GM_PERM_R, &err);
	return rc;
}

static int plan_resize(struct gm_txn *txn, struct scene *scene, void *block)
{
	int rc = gm_txn_resize(txn, scene->ids[1], KIB(512), &err);

	(void)block;
	if (!rc)
		rc = gm_txn_resize(txn, scene->ids[0], KIB(4), &err);
	return rc;
}

static void adding_survives_every_fault(void **state)
{
	(void)state;
	sweep(plan_add, false);
}

static void adding_a_block_survives_every_fault(void **state)
{
	(void)state;
	sweep(plan_add_block, true);
}

static void removing_survives_every_fault(void **state)
{
	(void)state;
	sweep(plan_remove, false);
}

static void moving_survives_every_fault(void **state)
{
	(void)state;
	sweep(plan_move, false);
}

static void replacing_survives_every_fault(void **state)
{
	(void)state;
	sweep(plan_replace, true);
}

static void resizing_survives_every_fault(void **state)
{
	(void)state;
	sweep(plan_resize, false);
}

static int create_space(void *ctx)
{
	struct gm_space *space = NULL;
	struct gm_reader *reader = NULL;
	const struct gm_region_desc descs[] = {
		{.size = sizeof(*descs), .gpa = 0, .backing = BLOCK(.len = MIB(1))},
		{.size = sizeof(*descs),
			.gpa = MIB(1),
			.backing = BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE)},
	};
	int rc;

	(void)ctx;
	rc = gm_space_build(NULL, descs, 2, &space, &err);
	if (!rc)
		rc = gm_reader_create(space, "r", &reader, &err);
	fault_disarm();
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return rc;
}

static void building_survives_every_fault(void **state)
{
	unsigned long hits;

	(void)state;
	hits = fault_sweep(create_space, NULL);
	printf("figure: injected-faults %lu\n", hits);
	assert_true(hits >= 30);
}

static void a_kernel_without_membarrier_is_served_as_well(void **state)
{
	struct gm_space *space;
	struct gm_reader *reader;
	uint64_t id;

	(void)state;
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_membarrier, .nth = 1, .forever = true, .error = ENOSYS});
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .timeout_ns = 20000000), &space, &err));
	assert_int_equal(fault_hits(), 1);
	assert_ok(gm_reader_create(space, "r", &reader, &err));
	assert_ok(gm_space_add(space, DESC(.gpa = 0, .backing = BLOCK(.len = MIB(1))), &id, &err));
	gm_reader_enter(reader);
	assert_ok(gm_space_remove(space, id, &err));
	assert_fails(gm_space_wait(space, 0, &err), ETIMEDOUT, "r");
	gm_reader_leave(reader);
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
}

/* A barrier that fails later says nothing about readers: nothing may be reclaimed on its word. */
static void a_failing_membarrier_reclaims_nothing(void **state)
{
	struct scene scene;

	(void)state;
	build(&scene);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_membarrier, .nth = 1, .forever = true, .error = EPERM});
	assert_ok(gm_space_remove(scene.space, scene.ids[0], &err));
	assert_true(gm_space_reclaim(scene.space) > 0);
	assert_fails(gm_space_wait(scene.space, 10000000, &err), ETIMEDOUT, "within 10 ms");
	assert_true(fault_hits() > 2);
	fault_set(NULL);
	assert_ok(gm_space_wait(scene.space, 0, &err));
	tear_down(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(building_survives_every_fault),
		cmocka_unit_test(adding_survives_every_fault),
		cmocka_unit_test(adding_a_block_survives_every_fault),
		cmocka_unit_test(removing_survives_every_fault),
		cmocka_unit_test(moving_survives_every_fault),
		cmocka_unit_test(replacing_survives_every_fault),
		cmocka_unit_test(resizing_survives_every_fault),
		cmocka_unit_test(a_kernel_without_membarrier_is_served_as_well),
		cmocka_unit_test(a_failing_membarrier_reclaims_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
