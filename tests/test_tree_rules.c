/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tree_rules.c - what a tree of regions may not be, what is refused when, and what other
 * threads are told while it is changed.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "one_space.h"
#include "random.h"

#define CONTAINER(...) DESC(.kind = GM_REGION_CONTAINER, __VA_ARGS__)
#define RESERVED(...) DESC(.kind = GM_REGION_RESERVED, __VA_ARGS__)
#define ALIAS(...) DESC(.kind = GM_REGION_ALIAS, __VA_ARGS__)
/* The thread sanitizer cannot reserve more. */
#define SMALL GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 36)
#define NOWHERE GM_REGION_DETACHED

static struct gm_txn *begin(void)
{
	struct gm_txn *txn = NULL;

	assert_ok(gm_txn_begin(space, &txn, &err));
	return txn;
}

static uint64_t put(const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, desc, &id, &err));
	return id;
}

static uint64_t plan(struct gm_txn *txn, const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_txn_add(txn, desc, &id, &err));
	return id;
}

static int try_add(const struct gm_region_desc *desc)
{
	return gm_space_add(space, desc, NULL, &err);
}

/* What shows at or above @gpa. */
static struct gm_region_info next(uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_next(space, gpa, &info), 0);
	return info;
}

static void assert_empty(void)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_next(space, 0, &info), -ENOENT);
}

/* ---- what is refused ---- */

static void an_alias_cannot_show_what_it_lies_in(void **state)
{
	uint64_t outer, inner, alias, other;

	(void)state;
	start(SMALL);
	outer = put(CONTAINER(.gpa = 0, .len = 100, .name = "outer"));
	inner = put(CONTAINER(.gpa = 0, .len = 50, .parent = outer, .name = "inner"));
	assert_fails(try_add(ALIAS(.len = 10, .parent = outer, .target = outer)), ELOOP, "outer");
	assert_fails(try_add(ALIAS(.len = 10, .parent = inner, .target = outer)), ELOOP, "inner");
	/* Over an alias, from a tree of its own. */
	other = put(CONTAINER(.len = 100, .parent = NOWHERE));
	alias = put(ALIAS(.gpa = 60, .len = 10, .parent = outer, .target = other));
	assert_fails(try_add(ALIAS(.len = 10, .parent = other, .target = outer)), ELOOP, "itself");
	assert_fails(try_add(ALIAS(.len = 10, .parent = other, .target = alias)), ELOOP, "itself");
	/* Beside it is right, and so is the way down. */
	put(ALIAS(.gpa = 200, .len = 100, .target = outer));
	put(ALIAS(.gpa = 80, .len = 10, .parent = outer, .target = inner));
	assert_empty();
	stop();
}

/* The number that a region is about to get can be guessed. */
static void a_region_is_not_its_own_parent_or_target(void **state)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t next_id;

	(void)state;
	start(SMALL);
	next_id = put(RESERVED(.len = 1)) + 1;
	assert_fails(try_add(CONTAINER(.len = 1, .parent = next_id)), ENOENT, "no region");
	/* Each that was refused has used its number up. */
	for (int i = 1; i < 4; i++) {
		uint64_t own = next_id + ((uint64_t)i << 32);

		assert_fails(
			try_add(ALIAS(.gpa = 5, .len = 1, .target = own)), ENOENT, "no region");
		assert_int_equal(gm_space_region(space, own, &info), -ENOENT);
	}
	assert_int_equal(put(RESERVED(.gpa = 9, .len = 1)), next_id + (UINT64_C(4) << 32));
	stop();
}

static void nothing_lies_in_an_alias(void **state)
{
	uint64_t target, alias;

	(void)state;
	start(SMALL);
	target = put(CONTAINER(.len = 100, .parent = NOWHERE));
	alias = put(ALIAS(.len = 100, .target = target, .name = "mirror"));
	assert_fails(try_add(RESERVED(.len = 1, .parent = alias)), EINVAL, "mirror");
	assert_fails(try_add(ALIAS(.len = 1, .parent = alias, .target = target)), EINVAL, "mirror");
	stop();
}

/* In one plan all goes, from above; in between nothing that is gone can be named. */
static struct gm_txn *remove_three(uint64_t box, uint64_t child, uint64_t alias)
{
	struct gm_txn *txn = begin();

	assert_fails(gm_txn_remove(txn, child, &err), EBUSY, "mirror");
	assert_ok(gm_txn_remove(txn, alias, &err));
	assert_fails(gm_txn_remove(txn, box, &err), EBUSY, "child");
	assert_ok(gm_txn_remove(txn, child, &err));
	assert_ok(gm_txn_remove(txn, box, &err));
	assert_fails(gm_txn_remove(txn, box, &err), ENOENT, "no region");
	assert_fails(gm_txn_add(txn, RESERVED(.len = 1, .parent = box), NULL, &err), ENOENT,
		"no region");
	assert_fails(
		gm_txn_add(txn, ALIAS(.len = 1, .target = child), NULL, &err), ENOENT, "no region");
	return txn;
}

static void what_holds_or_is_shown_is_not_removed(void **state)
{
	uint64_t box, child, alias;

	(void)state;
	start(SMALL);
	box = put(CONTAINER(.len = 100));
	child = put(RESERVED(.len = 10, .parent = box, .name = "child"));
	alias = put(ALIAS(.gpa = 200, .len = 10, .target = child, .name = "mirror"));
	assert_fails(gm_space_remove(space, box, &err), EBUSY, "holds \"child\"");
	assert_fails(gm_space_remove(space, child, &err), EBUSY, "shown by alias \"mirror\"");
	gm_txn_abort(remove_three(box, child, alias));
	assert_int_equal(next(0).id, child);
	assert_int_equal(next(10).gpa, 200);
	assert_ok(gm_txn_commit(remove_three(box, child, alias), &err));
	assert_empty();
	stop();
}

static void equal_priorities_must_not_overlap(void **state)
{
	uint64_t low, off;
	struct gm_txn *txn;

	(void)state;
	start(SMALL);
	put(RESERVED(.gpa = 100, .len = 50, .priority = 7));
	low = put(RESERVED(.gpa = 0, .len = 200, .priority = -7));
	assert_fails(try_add(RESERVED(.gpa = 0, .len = 101, .priority = 7, .name = "newcomer")),
		EEXIST, "\"newcomer\" overlaps");
	assert_int_equal(err.gpa, 100);
	assert_fails(try_add(RESERVED(.gpa = 149, .len = 101, .priority = 7)), EEXIST, "overlaps");
	assert_int_equal(err.gpa, 149);
	off = put(RESERVED(.gpa = 120, .len = 10, .priority = 7, .flags = GM_REGION_DISABLED));
	txn = begin();
	assert_fails(gm_txn_enable(txn, off, true, &err), EEXIST, "overlaps");
	assert_int_equal(err.gpa, 120);
	assert_fails(gm_txn_prioritize(txn, low, 7, &err), EEXIST, "overlaps");
	assert_int_equal(err.gpa, 100);
	/* What is disabled is in nobody's way. */
	assert_ok(gm_txn_prioritize(txn, off, -7, &err));
	assert_ok(gm_txn_move(txn, off, 101, &err));
	assert_ok(gm_txn_prioritize(txn, off, 8, &err));
	assert_ok(gm_txn_enable(txn, off, true, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(next(101).id, off);
	assert_int_equal(next(101).len, 10);
	assert_int_equal(next(150).id, low);
	assert_int_equal(next(150).off, 150);
	stop();
}

static void an_alias_ends_with_its_target(void **state)
{
	uint64_t target, alias;
	struct gm_txn *txn;

	(void)state;
	start(SMALL);
	target = put(RESERVED(.len = 100, .parent = NOWHERE));
	assert_fails(try_add(ALIAS(.len = 101, .target = target)), ERANGE, "passes the end");
	assert_fails(try_add(ALIAS(.len = 100, .block_off = 1, .target = target)), ERANGE, "end");
	assert_fails(try_add(ALIAS(.len = 1, .block_off = 100, .target = target)), ERANGE, "end");
	assert_fails(
		try_add(ALIAS(.len = 1, .block_off = UINT64_MAX, .target = target)), ERANGE, "end");
	alias = put(ALIAS(.len = 40, .block_off = 60, .target = target));
	txn = begin();
	assert_fails(gm_txn_retarget(txn, alias, 61, &err), ERANGE, "passes the end");
	assert_fails(gm_txn_resize(txn, alias, 41, &err), ERANGE, "passes the end");
	/* A target that becomes shorter takes with it what is shown of it. */
	assert_ok(gm_txn_resize(txn, target, 70, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(next(0).len, 10);
	assert_int_equal(next(0).off, 60);
	txn = begin();
	assert_ok(gm_txn_resize(txn, target, 60, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_empty();
	stop();
}

static void descriptions_that_make_no_sense_are_refused(void **state)
{
	uint64_t box;
	struct gm_txn *txn;

	(void)state;
	start(SMALL);
	box = put(CONTAINER(.len = 0, .name = "everything", .parent = NOWHERE));
	assert_int_equal(region(box).len, 0);
	assert_fails(try_add(DESC(.kind = 99, .len = 1)), EINVAL, "no such kind");
	assert_fails(try_add(RESERVED(.len = 1, .flags = 4)), EINVAL, "unknown flags 0x4");
	assert_fails(try_add(RESERVED(.len = 1, .perms = GM_PERM_R)), EINVAL, "permissions");
	assert_fails(try_add(CONTAINER(.len = 1, .perms = 8)), EINVAL, "permissions");
	assert_fails(try_add(RESERVED(.len = 1, .target = box)), EINVAL, "only an alias");
	assert_fails(try_add(CONTAINER(.len = 1, .backing = BLOCK(.len = MIB(1)))), EINVAL,
		"a container has no memory");
	assert_fails(try_add(ALIAS(.len = 1, .target = box, .backing = BLOCK(.len = MIB(1)))),
		EINVAL, "alias has no memory");
	assert_fails(try_add(ALIAS(.len = 1)), ENOENT, "no region");
	assert_fails(try_add(ALIAS(.len = 1, .target = GM_REGION_DETACHED)), ENOENT, "no region");
	assert_fails(try_add(RESERVED(.len = 1, .parent = 12345)), ENOENT, "no region");
	assert_fails(try_add(RESERVED(.gpa = 0)), EINVAL, "length 0");
	assert_fails(try_add(CONTAINER(.gpa = 1)), EINVAL, "length 0");
	assert_fails(try_add(CONTAINER(.gpa = 2, .len = UINT64_MAX)), ERANGE, "2^64");
	txn = begin();
	assert_fails(gm_txn_retarget(txn, box, 0, &err), EINVAL, "no alias");
	assert_fails(gm_txn_move(txn, box, 1, &err), EINVAL, "length 0");
	assert_fails(gm_txn_protect(txn, box, 0, &err), EINVAL, "at least one");
	assert_fails(gm_txn_replace(txn, box, DESC(.backing = BLOCK(.len = MIB(1))), &err), EINVAL,
		"replaced");
	gm_txn_abort(txn);
	assert_empty();
	stop();
}

/* ---- limits ---- */

/* Containers in containers in @txn; the last one. */
static uint64_t nest(struct gm_txn *txn, unsigned int nr, uint64_t parent)
{
	for (unsigned int i = 0; i < nr; i++)
		parent = plan(txn, CONTAINER(.len = 100, .parent = parent));
	return parent;
}

static void regions_lie_at_most_64_deep(void **state)
{
	struct gm_txn *txn;
	uint64_t top, last, leaf;

	(void)state;
	start(SMALL);
	txn = begin();
	last = nest(txn, 63, 0);
	leaf = plan(txn, RESERVED(.len = 10, .parent = last));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(next(0).id, leaf);
	txn = begin();
	last = plan(txn, CONTAINER(.gpa = 10, .len = 10, .parent = last));
	plan(txn, RESERVED(.len = 10, .parent = last));
	assert_fails(gm_txn_commit(txn, &err), ELOOP, "64 deep");
	assert_int_equal(next(0).id, leaf);
	gm_txn_abort(txn);
	assert_int_equal(next(0).len, 10);
	/* An alias and what it shows are a step each. */
	txn = begin();
	top = plan(txn, CONTAINER(.len = 100, .parent = NOWHERE));
	last = nest(txn, 31, top);
	plan(txn, RESERVED(.len = 10, .parent = last));
	last = plan(txn, CONTAINER(.gpa = 1000, .len = 100));
	last = nest(txn, 30, last);
	plan(txn, ALIAS(.len = 5, .parent = last, .target = top));
	assert_fails(gm_txn_commit(txn, &err), ELOOP, "64 deep");
	gm_txn_abort(txn);
	assert_int_equal(next(0).len, 10);
	stop();
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/*
 * Containers that each show the one below twice, side by side: @nr of them show it 2^@nr times.
 * Returns 0 or what an operation returned.
 */
static int double_up(
	struct gm_txn *txn, unsigned int nr, const struct gm_region_desc *innermost, bool attached)
{
	uint64_t len = 1;
	uint64_t below = plan(txn, CONTAINER(.len = len, .parent = NOWHERE));
	int rc = 0;

	if (innermost) {
		struct gm_region_desc desc = *innermost;

		desc.parent = below;
		plan(txn, &desc);
	}
	for (unsigned int i = 0; i < nr && !rc; i++) {
		bool top = attached && i == nr - 1;
		uint64_t box = plan(txn, CONTAINER(.len = 2 * len, .parent = top ? 0 : NOWHERE));

		rc = gm_txn_add(txn, ALIAS(.len = len, .parent = box, .target = below), NULL, &err);
		if (!rc)
			rc = gm_txn_add(txn,
				ALIAS(.gpa = len, .len = len, .parent = box, .target = below), NULL,
				&err);
		below = box;
		len *= 2;
	}
	return rc;
}

static void few_aliases_of_aliases_show(void **state)
{
	struct gm_txn *txn;

	(void)state;
	start(SMALL);
	txn = begin();
	assert_int_equal(double_up(txn, 10, RESERVED(.len = 1), true), 0);
	assert_ok(gm_txn_commit(txn, &err));
	for (uint64_t i = 0; i < 1024; i++) {
		assert_int_equal(next(i).gpa, i);
		assert_int_equal(next(i).len, 1);
	}
	stop();
}

static void aliases_of_aliases_cannot_hang_a_commit(void **state)
{
	double begun = seconds();

	(void)state;
	start(SMALL);
	for (int content = 0; content < 2; content++) {
		struct gm_txn *txn = begin();

		assert_int_equal(double_up(txn, 30, content ? RESERVED(.len = 1) : NULL, true), 0);
		assert_fails(gm_txn_commit(txn, &err), E2BIG, "aliases of aliases");
		assert_empty();
		gm_txn_abort(txn);
		assert_empty();
	}
	assert_true(seconds() - begun < 20);
	stop();
}

/* Built from above each step looks for the way back to itself; built from below, for where it shows. */
static void aliases_of_aliases_cannot_hang_an_operation(void **state)
{
	double begun = seconds();
	struct gm_txn *txn;
	uint64_t box, first, off;

	(void)state;
	start(SMALL);
	txn = begin();
	assert_int_equal(double_up(txn, 30, RESERVED(.len = 1), false), 0);
	assert_ok(gm_txn_commit(txn, &err));
	/* The one that all the others show changes, and shows nowhere. */
	first = 2;
	assert_int_equal(region(first).kind, GM_REGION_CONTAINER);
	txn = begin();
	off = plan(txn, RESERVED(.len = 1, .priority = 3, .parent = first));
	assert_ok(gm_txn_enable(txn, off, false, &err));
	assert_ok(gm_txn_enable(txn, first, false, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_empty();
	txn = begin();
	box = plan(txn, CONTAINER(.len = 100, .parent = NOWHERE));
	for (int i = 0; i < 30; i++) {
		uint64_t below = plan(txn, CONTAINER(.len = 100, .parent = NOWHERE));

		plan(txn, ALIAS(.len = 50, .parent = box, .target = below));
		plan(txn, ALIAS(.gpa = 50, .len = 50, .parent = box, .target = below));
		box = below;
	}
	gm_txn_abort(txn);
	assert_true(seconds() - begun < 20);
	stop();
}

/* ---- what others see ---- */

struct look {
	uint64_t ids[3];
	uint64_t planned;
	int wrong;
};

/* The tree as it is published: a container at 0x1000 with a region at 0x10 in it, and an alias. */
static void *look(void *arg)
{
	struct look *look = arg;
	struct gm_region_info info = {.size = sizeof(info)};

	for (int i = 0; i < 3; i++)
		look->wrong |= gm_space_region(space, look->ids[i], &info) != 0;
	look->wrong |= gm_space_region(space, look->ids[1], &info) || info.gpa != 0x10 ||
		       info.len != 0x20 || info.priority != 5 || info.parent != look->ids[0] ||
		       info.flags;
	look->wrong |= gm_space_region(space, look->ids[2], &info) || info.block_off != 0x10 ||
		       info.target != look->ids[0];
	look->wrong |= gm_space_region(space, look->planned, &info) != -ENOENT;
	look->wrong |= gm_space_next(space, 0, &info) || info.gpa != 0x1010 || info.len != 0x20 ||
		       info.id != look->ids[1] || info.priority != 5;
	look->wrong |= gm_space_next(space, 0x1030, &info) || info.gpa != 0x8000 || info.off != 0 ||
		       info.id != look->ids[1];
	look->wrong |= gm_space_next(space, 0x8020, &info) != -ENOENT;
	return NULL;
}

static void others_look(struct look *look_at)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, look, look_at), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(look_at->wrong, 0);
}

static void others_see_what_is_published_while_a_change_is_planned(void **state)
{
	struct look look_at = {.planned = 77};
	uint64_t *ids = look_at.ids;
	struct gm_txn *txn;

	(void)state;
	start(SMALL);
	ids[0] = put(CONTAINER(.gpa = 0x1000, .len = 0x100));
	ids[1] = put(RESERVED(.gpa = 0x10, .len = 0x20, .priority = 5, .parent = ids[0]));
	ids[2] = put(ALIAS(.gpa = 0x8000, .len = 0x20, .block_off = 0x10, .target = ids[0]));
	others_look(&look_at);
	txn = begin();
	assert_ok(gm_txn_retarget(txn, ids[2], 0x20, &err));
	others_look(&look_at);
	assert_ok(gm_txn_remove(txn, ids[2], &err));
	others_look(&look_at);
	assert_ok(gm_txn_move(txn, ids[1], 0x40, &err));
	assert_ok(gm_txn_resize(txn, ids[1], 0x30, &err));
	assert_ok(gm_txn_prioritize(txn, ids[1], 6, &err));
	assert_ok(gm_txn_enable(txn, ids[1], false, &err));
	assert_ok(gm_txn_move(txn, ids[0], 0x2000, &err));
	others_look(&look_at);
	look_at.planned = plan(txn, RESERVED(.gpa = 0x1010, .len = 5, .priority = 9));
	assert_ok(gm_txn_remove(txn, ids[1], &err));
	assert_ok(gm_txn_remove(txn, ids[0], &err));
	others_look(&look_at);
	gm_txn_abort(txn);
	others_look(&look_at);
	stop();
}

/* ---- the moment of publication ---- */

static bool looked_enough; /* atomic */

/* One of two regions shows at a time; label and offset in the block go with the length. */
static void *look_again(void *arg)
{
	int *wrong = arg;

	while (!__atomic_load_n(&looked_enough, __ATOMIC_RELAXED)) {
		struct gm_region_info info = {.size = sizeof(info)};
		uint64_t pages;

		if (gm_space_next(space, 0, &info)) {
			*wrong = 1;
			continue;
		}
		pages = info.len >> 12;
		*wrong |= info.gpa != MIB(1) || pages < 1 || pages > 2 || info.label != pages ||
			  info.block_off != pages << 12 || info.kind != GM_REGION_RAM ||
			  strcmp(info.name, pages == 1 ? "one" : "two") != 0;
		/* It may have gone since, and its number with it. */
		if (!gm_space_region(space, info.id, &info))
			*wrong |= info.len != pages << 12 || info.label != pages;
	}
	return NULL;
}

static const struct gm_region_desc *paged(
	struct gm_region_desc *desc, struct gm_block *block, uint64_t pages)
{
	*desc = (struct gm_region_desc){
		.size = sizeof(*desc),
		.gpa = MIB(1),
		.len = pages << 12,
		.block = block,
		.block_off = pages << 12,
		.name = pages == 1 ? "one" : "two",
		.label = pages,
	};
	return desc;
}

static void others_see_one_state_or_the_other(void **state)
{
	struct rng rng = {test_seed(1)};
	struct gm_region_desc desc;
	struct gm_block *block;
	pthread_t threads[2];
	uint64_t id;
	int wrong[2] = {0, 0};

	(void)state;
	/* Nothing is placed, so that nothing need be hidden for a moment. */
	start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
	assert_ok(gm_block_create(BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE), &block, &err));
	id = put(paged(&desc, block, 1));
	looked_enough = false;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, look_again, &wrong[i]), 0);
	for (unsigned long i = 0; i < support_scale(400); i++) {
		struct gm_txn *txn = begin();
		uint64_t other;

		assert_ok(gm_txn_protect(txn, id, GM_PERM_R, &err));
		assert_ok(gm_txn_remove(txn, id, &err));
		other = plan(txn, paged(&desc, block, 1 + rng_below(&rng, 2)));
		if (rng_below(&rng, 4) == 0) {
			gm_txn_abort(txn);
			continue;
		}
		assert_ok(gm_txn_commit(txn, &err));
		id = other;
	}
	__atomic_store_n(&looked_enough, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(wrong[i], 0);
	}
	gm_block_put(block);
	stop();
}

/* The embedder's own sections; waiting for them, the space tells how it is described right then. */
static struct {
	uint64_t old;
	uint64_t new;
	unsigned int looks;
} during;

static void no_section(void *ctx)
{
	(void)ctx;
}

/* Either all is as before or all is as after. */
static int look_around(void *ctx, uint64_t timeout_ns)
{
	struct gm_region_info shown = {.size = sizeof(shown)};
	struct gm_region_info info = {.size = sizeof(info)};

	(void)ctx;
	(void)timeout_ns;
	if (!during.old || gm_space_next(space, 0, &shown))
		return 0;
	during.looks++;
	assert_true(shown.id == during.old || shown.id == during.new);
	assert_int_equal(gm_space_region(space, shown.id, &info), 0);
	assert_int_equal(info.gpa, shown.gpa);
	assert_int_equal(info.len, shown.len);
	assert_ptr_equal(info.block, shown.block);
	assert_non_null(info.block);
	assert_int_equal(info.label, shown.id == during.old ? 1 : 2);
	assert_string_equal(shown.name, shown.id == during.old ? "old" : "new");
	if (shown.id == during.new)
		assert_int_equal(gm_space_region(space, during.old, &info), -ENOENT);
	else
		assert_int_equal(gm_space_region(space, during.new, &info), -ENOENT);
	return 0;
}

static void what_is_published_is_described_at_once(void **state)
{
	static const struct gm_section_ops ops = {no_section, no_section, look_around, NULL};
	struct gm_txn *txn;
	uint64_t old;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 36, .sections = &ops));
	old = put(DESC(.backing = BLOCK(.len = MIB(1)), .label = 1, .name = "old"));
	during.looks = 0;
	txn = begin();
	assert_ok(gm_txn_remove(txn, old, &err));
	during.new = plan(txn,
		DESC(.gpa = MIB(2), .backing = BLOCK(.len = MIB(1)), .label = 2, .name = "new"));
	during.old = old;
	assert_ok(gm_txn_commit(txn, &err));
	assert_true(during.looks > 0);
	during.old = 0;
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_alias_cannot_show_what_it_lies_in),
		cmocka_unit_test(a_region_is_not_its_own_parent_or_target),
		cmocka_unit_test(nothing_lies_in_an_alias),
		cmocka_unit_test(what_holds_or_is_shown_is_not_removed),
		cmocka_unit_test(equal_priorities_must_not_overlap),
		cmocka_unit_test(an_alias_ends_with_its_target),
		cmocka_unit_test(descriptions_that_make_no_sense_are_refused),
		cmocka_unit_test(regions_lie_at_most_64_deep),
		cmocka_unit_test(few_aliases_of_aliases_show),
		cmocka_unit_test(aliases_of_aliases_cannot_hang_a_commit),
		cmocka_unit_test(aliases_of_aliases_cannot_hang_an_operation),
		cmocka_unit_test(others_see_what_is_published_while_a_change_is_planned),
		cmocka_unit_test(others_see_one_state_or_the_other),
		cmocka_unit_test(what_is_published_is_described_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
