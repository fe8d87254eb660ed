/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tree_fault.c - every system call and every allocation behind a change of a tree made to fail:
 * what shows and what the regions are is as it was, the change can be made afterwards, and nothing is
 * left.
 */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define CHUNK KIB(64)
#define SHOWN_MAX 40

static struct gm_error err;

/* The regions of a scene, by label. */
enum {
	BOX = 1, /* a container, in which there are: */
	ANON,
	SHARED,
	COVER,  /* in the middle of the shared one */
	MIRROR, /* an alias of the shared one */
	SECOND, /* an alias of a part of the container */
	HIDDEN, /* a disabled container with a region in it */
	INSIDE,
	APART,  /* a detached region with memory */
	WINDOW, /* an alias of it */
	PARTED, /* a region with parts */
	PEEP,   /* an alias of some of them */
	NR_LABELS,
	FRESH = NR_LABELS, /* what a change adds has labels from here on */
};

struct scene {
	struct gm_space *space;
	struct gm_reader *reader;
	uint64_t ids[NR_LABELS];
	struct gm_block *own; /* private memory */
};

/* What there is to see, but for addresses of the host and numbers of regions. */
struct sight {
	size_t nr;
	struct {
		uint64_t label, gpa, len, off;
		uint32_t perms;
		uint32_t part;
		int code;
		uint8_t byte;
	} shown[SHOWN_MAX];
	struct gm_region_info regions[NR_LABELS];
};

static void put(struct scene *scene, uint64_t label, const struct gm_region_desc *desc)
{
	struct gm_region_desc own = *desc;

	own.label = label;
	assert_ok(gm_space_add(scene->space, &own, &scene->ids[label], &err));
}

/* Each chunk of a region's memory begins with a byte of its own. */
static void mark(struct scene *scene, uint64_t label)
{
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_block_info block = {.size = sizeof(block)};

	assert_int_equal(gm_space_region(scene->space, scene->ids[label], &info), 0);
	assert_int_equal(gm_block_info(info.block, &block), 0);
	for (uint64_t off = 0; off < block.len; off += CHUNK)
		((uint8_t *)block.hva)[off] = (uint8_t)(label * 16 + off / CHUNK + 1);
}

/* Built without faults: each run of a sweep begins and ends with the same things held. */
static void build(struct scene *scene)
{
	uint64_t *ids = scene->ids;

	memset(scene, 0, sizeof(*scene));
	fault_disarm();
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .timeout_ns = 100000000), &scene->space, &err));
	assert_ok(gm_reader_create(scene->space, "r", &scene->reader, &err));
	assert_ok(gm_block_create(BLOCK(.len = MIB(1)), &scene->own, &err));
	put(scene, BOX, DESC(.gpa = MIB(16), .len = MIB(4), .kind = GM_REGION_CONTAINER));
	put(scene, ANON, DESC(.parent = ids[BOX], .backing = BLOCK(.len = MIB(1))));
	put(scene, SHARED,
		DESC(.gpa = MIB(1), .parent = ids[BOX],
			.backing = BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE)));
	put(scene, COVER,
		DESC(.gpa = MIB(1) + 4 * CHUNK, .len = CHUNK, .kind = GM_REGION_RESERVED,
			.priority = 1, .parent = ids[BOX]));
	put(scene, MIRROR,
		DESC(.gpa = MIB(64), .len = MIB(1), .kind = GM_REGION_ALIAS, .perms = GM_PERM_R,
			.target = ids[SHARED]));
	put(scene, SECOND,
		DESC(.gpa = GIB(1), .len = MIB(1), .kind = GM_REGION_ALIAS, .block_off = 8 * CHUNK,
			.target = ids[BOX]));
	put(scene, HIDDEN,
		DESC(.gpa = MIB(16), .len = MIB(2), .kind = GM_REGION_CONTAINER, .priority = 2,
			.flags = GM_REGION_DISABLED));
	put(scene, INSIDE,
		DESC(.gpa = CHUNK, .parent = ids[HIDDEN],
			.backing = BLOCK(.len = 2 * CHUNK, .flags = GM_BLOCK_SHARE)));
	put(scene, APART, DESC(.parent = GM_REGION_DETACHED, .backing = BLOCK(.len = MIB(1))));
	put(scene, WINDOW,
		DESC(.gpa = GIB(3), .len = 4 * CHUNK, .kind = GM_REGION_ALIAS, .block_off = CHUNK,
			.target = ids[APART]));
	put(scene, PARTED,
		DESC(.gpa = GIB(4), .len = MIB(1), .granule = CHUNK, .part = GM_PART_UNPLUGGED,
			.backing = BLOCK(.len = MIB(1)), .private_block = scene->own));
	put(scene, PEEP,
		DESC(.gpa = GIB(6), .len = 8 * CHUNK, .kind = GM_REGION_ALIAS, .block_off = CHUNK,
			.target = ids[PARTED]));
	assert_ok(gm_space_set_part(
		scene->space, ids[PARTED], 2 * CHUNK, 4 * CHUNK, GM_PART_SHARED, &err));
	assert_ok(gm_space_set_part(
		scene->space, ids[PARTED], 3 * CHUNK, CHUNK, GM_PART_PRIVATE, &err));
	mark(scene, ANON);
	mark(scene, SHARED);
	mark(scene, INSIDE);
	mark(scene, APART);
	mark(scene, PARTED);
}

static void tear_down(struct scene *scene)
{
	gm_reader_destroy(scene->reader);
	gm_space_destroy(scene->space);
	gm_block_put(scene->own);
}

static void see(struct scene *scene, struct sight *ret)
{
	const struct gm_view *view = gm_reader_enter(scene->reader);
	struct gm_region_info info = {.size = sizeof(info)};

	memset(ret, 0, sizeof(*ret));
	for (uint64_t gpa = 0; gm_space_next(scene->space, gpa, &info) == 0;
		gpa = info.gpa + info.len) {
		assert_true(ret->nr < SHOWN_MAX);
		ret->shown[ret->nr].label = info.label;
		ret->shown[ret->nr].gpa = info.gpa;
		ret->shown[ret->nr].len = info.len;
		ret->shown[ret->nr].off = info.off;
		ret->shown[ret->nr].perms = info.perms;
		ret->shown[ret->nr].part = info.part;
		ret->shown[ret->nr].code = gm_read_u8(view, info.gpa, &ret->shown[ret->nr].byte);
		ret->nr++;
	}
	gm_reader_leave(scene->reader);
	for (int i = 1; i < NR_LABELS; i++) {
		struct gm_region_info *region = &ret->regions[i];

		region->size = sizeof(*region);
		if (gm_space_region(scene->space, scene->ids[i], region))
			region->size = 0;
		/* Blocks differ from scene to scene; a mapping that could not be moved back is
		 * elsewhere. */
		region->block = NULL;
		region->private_block = NULL;
		region->hva = NULL;
		region->placed = 0;
	}
}

static void assert_sight(struct scene *scene, const struct sight *want)
{
	static struct sight now;

	see(scene, &now);
	assert_int_equal(now.nr, want->nr);
	assert_memory_equal(now.shown, want->shown, sizeof(now.shown));
	assert_memory_equal(now.regions, want->regions, sizeof(now.regions));
}

typedef int (*plan_fn)(struct gm_txn *txn, struct scene *scene);

/* The armed fault strikes within the transaction alone. The first run tells what is to be seen. */
static int change(plan_fn plan, const struct fault_plan *armed)
{
	static struct sight before, after;
	struct gm_txn *txn = NULL;
	struct scene scene;
	int rc;

	build(&scene);
	if (!armed)
		see(&scene, &before);
	assert_sight(&scene, &before);
	fault_set(armed);
	rc = gm_txn_begin(scene.space, &txn, &err);
	if (!rc)
		rc = plan(txn, &scene);
	if (!rc)
		rc = gm_txn_commit(txn, &err);
	fault_disarm();
	if (rc) {
		assert_true(strlen(err.text) > 0);
		assert_sight(&scene, &before);
		gm_txn_abort(txn);
		assert_sight(&scene, &before);
		assert_ok(gm_txn_begin(scene.space, &txn, &err));
		assert_int_equal(plan(txn, &scene), 0);
		assert_ok(gm_txn_commit(txn, &err));
	}
	if (!armed)
		see(&scene, &after);
	assert_sight(&scene, &after);
	assert_ok(gm_space_wait(scene.space, 0, &err));
	assert_sight(&scene, &after);
	tear_down(&scene);
	return rc;
}

/* Call 1, 2, 3, ... of the transaction fails, once and for ever, by each errno. */
static void sweep(plan_fn plan)
{
	static const int errnos[] = {ENOMEM, EINVAL, EPERM};
	static struct fault_state held;
	unsigned long injected = 0;

	fault_set(NULL);
	assert_int_equal(change(plan, NULL), 0);
	for (size_t e = 0; e < 6; e++) {
		struct fault_plan armed = {
			.fn = FAULT_ANY, .forever = e % 2, .error = errnos[e / 2]};
		unsigned long hits;

		do {
			armed.nth++;
			fault_set(NULL);
			fault_state_take(&held);
			change(plan, &armed);
			hits = fault_hits();
			fault_set(NULL);
			assert_true(fault_state_same(&held));
			injected += hits > 0;
		} while (hits > 0);
	}
	printf("figure: injected-faults %lu\n", injected);
	assert_true(injected >= 30);
}

/* ---- changes ---- */

static int move_all(struct gm_txn *txn, struct scene *scene)
{
	int rc = gm_txn_move(txn, scene->ids[BOX], MIB(18), &err);

	if (!rc)
		rc = gm_txn_move(txn, scene->ids[COVER], 4 * CHUNK, &err);
	if (!rc)
		rc = gm_txn_move(txn, scene->ids[WINDOW], MIB(17), &err);
	return rc;
}

static int cover_and_uncover(struct gm_txn *txn, struct scene *scene)
{
	int rc = gm_txn_enable(txn, scene->ids[HIDDEN], true, &err);

	if (!rc)
		rc = gm_txn_prioritize(txn, scene->ids[COVER], -1, &err);
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = 2 * CHUNK, .len = CHUNK, .kind = GM_REGION_RESERVED,
				.priority = 3, .parent = scene->ids[ANON], .label = FRESH,
				.name = "a name of its own"),
			NULL, &err);
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = 8 * CHUNK, .len = CHUNK, .kind = GM_REGION_ALIAS,
				.block_off = 5 * CHUNK, .parent = scene->ids[SHARED],
				.target = scene->ids[APART], .label = FRESH + 1),
			NULL, &err);
	return rc;
}

static int show_otherwise(struct gm_txn *txn, struct scene *scene)
{
	uint64_t id;
	int rc = gm_txn_retarget(txn, scene->ids[MIRROR], 0, &err);

	if (!rc)
		rc = gm_txn_retarget(txn, scene->ids[SECOND], 20 * CHUNK, &err);
	if (!rc)
		rc = gm_txn_resize(txn, scene->ids[SHARED], 8 * CHUNK, &err);
	if (!rc)
		rc = gm_txn_resize(txn, scene->ids[BOX], MIB(3), &err);
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = GIB(2), .len = MIB(1), .kind = GM_REGION_ALIAS,
				.target = scene->ids[SECOND], .label = FRESH),
			&id, &err);
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = GIB(5), .len = MIB(1), .kind = GM_REGION_ALIAS, .target = id,
				.label = FRESH + 1),
			NULL, &err);
	return rc;
}

static int clear_and_fill(struct gm_txn *txn, struct scene *scene)
{
	static const int gone[] = {MIRROR, SECOND, COVER, SHARED, ANON, BOX, WINDOW, APART};
	int rc = 0;

	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]) && !rc; i++)
		rc = gm_txn_remove(txn, scene->ids[gone[i]], &err);
	/* In the place of what goes, so that it must be vacated first. */
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = MIB(16), .backing = BLOCK(.len = MIB(2)), .label = FRESH), NULL,
			&err);
	return rc;
}

static int other_memory(struct gm_txn *txn, struct scene *scene)
{
	int rc = gm_txn_replace(txn, scene->ids[ANON],
		DESC(.backing = BLOCK(.len = MIB(1)), .name = "other"), &err);

	if (!rc)
		rc = gm_txn_replace(txn, scene->ids[SHARED],
			DESC(.gpa = MIB(1), .backing = BLOCK(.flags = GM_BLOCK_SHARE)), &err);
	if (!rc)
		rc = gm_txn_replace(
			txn, scene->ids[APART], DESC(.backing = BLOCK(.len = MIB(1))), &err);
	if (!rc)
		rc = gm_txn_protect(txn, scene->ids[BOX], GM_PERM_RX, &err);
	if (!rc)
		rc = gm_txn_protect(txn, scene->ids[MIRROR], GM_PERM_RWX, &err);
	return rc;
}

static int plug_and_convert(struct gm_txn *txn, struct scene *scene)
{
	uint64_t id = scene->ids[PARTED];
	int rc = gm_txn_set_part(txn, id, 0, 3 * CHUNK, GM_PART_PRIVATE, &err);

	if (!rc)
		rc = gm_txn_set_part(txn, id, CHUNK, 8 * CHUNK, GM_PART_SHARED, &err);
	if (!rc)
		rc = gm_txn_resize(txn, id, 12 * CHUNK, &err);
	if (!rc)
		rc = gm_txn_set_part(txn, id, 10 * CHUNK, 2 * CHUNK, GM_PART_PRIVATE, &err);
	if (!rc)
		rc = gm_txn_retarget(txn, scene->ids[PEEP], 3 * CHUNK, &err);
	if (!rc)
		rc = gm_txn_add(txn,
			DESC(.gpa = GIB(5), .len = 4 * CHUNK, .granule = CHUNK, .label = FRESH,
				.backing = BLOCK(.len = 4 * CHUNK)),
			&id, &err);
	if (!rc)
		rc = gm_txn_set_part(txn, id, CHUNK, CHUNK, GM_PART_UNPLUGGED, &err);
	return rc;
}

static void moving_a_container_survives_every_fault(void **state)
{
	(void)state;
	sweep(move_all);
}

static void covering_and_uncovering_survives_every_fault(void **state)
{
	(void)state;
	sweep(cover_and_uncover);
}

static void showing_otherwise_survives_every_fault(void **state)
{
	(void)state;
	sweep(show_otherwise);
}

static void clearing_a_tree_survives_every_fault(void **state)
{
	(void)state;
	sweep(clear_and_fill);
}

static void plugging_and_converting_survives_every_fault(void **state)
{
	(void)state;
	sweep(plug_and_convert);
}

static void other_memory_behind_aliases_survives_every_fault(void **state)
{
	(void)state;
	sweep(other_memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moving_a_container_survives_every_fault),
		cmocka_unit_test(covering_and_uncovering_survives_every_fault),
		cmocka_unit_test(showing_otherwise_survives_every_fault),
		cmocka_unit_test(clearing_a_tree_survives_every_fault),
		cmocka_unit_test(plugging_and_converting_survives_every_fault),
		cmocka_unit_test(other_memory_behind_aliases_survives_every_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
