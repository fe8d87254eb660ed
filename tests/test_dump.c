/* SPDX-License-Identifier: BSD-3-Clause */
/* test_dump.c - walks over a space and its text, in full and while it changes. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "one_space.h"

#define TEXT_MAX 65536u

/* What was written, in one piece. */
struct text {
	size_t len;
	size_t stop_at; /* bytes after which no more is taken, or 0 */
	char bytes[TEXT_MAX];
};

static int take_text(void *ctx, const char *text, size_t len)
{
	struct text *to = ctx;

	if (to->stop_at && to->len >= to->stop_at)
		return 42;
	assert_true(len < TEXT_MAX - to->len);
	memcpy(to->bytes + to->len, text, len);
	to->len += len;
	to->bytes[to->len] = '\0';
	return 0;
}

static const char *dumped(uint32_t flags)
{
	static struct text text;

	text = (struct text){0};
	assert_int_equal(gm_space_dump(space, flags, take_text, &text), 0);
	return text.bytes;
}

static uint64_t add_desc(const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, desc, &id, &err));
	return id;
}

static void start_small(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(4), .name = "pc"));
}

/* RAM out of the tree, shown low and high; a ROM over it; a device's hole; something switched off. */
static void build_machine(void)
{
	uint64_t ram = add_desc(DESC(.parent = GM_REGION_DETACHED, .name = "ram",
		.backing = BLOCK(.len = MIB(6), .flags = GM_BLOCK_SHARE)));
	uint64_t pci;

	add_desc(DESC(.kind = GM_REGION_ROM, .gpa = KIB(960), .priority = 2, .name = "bios",
		.backing = BLOCK(.len = KIB(64))));
	pci = add_desc(DESC(.kind = GM_REGION_CONTAINER, .gpa = MIB(2), .len = MIB(2),
		.priority = -1, .name = "pci"));

	add_desc(DESC(.kind = GM_REGION_ALIAS, .target = ram, .len = MIB(2), .name = "low"));
	add_desc(DESC(.kind = GM_REGION_ALIAS, .target = ram, .gpa = MIB(4), .len = MIB(4),
		.block_off = MIB(2)));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = MIB(1), .len = MIB(1), .parent = pci,
		.name = "bar"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = MIB(1), .len = KIB(4), .parent = pci,
		.priority = 3, .flags = GM_REGION_DISABLED, .name = "off"));
}

static void a_machine_is_written_down(void **state)
{
	(void)state;
	start_small();
	build_machine();
	assert_string_equal(dumped(0),
		"tree of \"pc\":\n"
		"  0000000000000000-00000000001fffff (prio 0, alias rwx): low -> ram "
		"@0000000000000000-00000000001fffff\n"
		"  00000000000f0000-00000000000fffff (prio 2, rom r-x): bios\n"
		"  0000000000200000-00000000003fffff (prio -1, container rwx): pci\n"
		"    0000000000300000-0000000000300fff (prio 3, reserved ---): off [disabled]\n"
		"    0000000000300000-00000000003fffff (prio 0, reserved ---): bar\n"
		"  0000000000400000-00000000007fffff (prio 0, alias rwx): ram -> ram "
		"@0000000000200000-00000000005fffff\n"
		"in no tree:\n"
		"  0000000000000000-00000000005fffff (prio 0, ram rwx): ram\n"
		"flat map of \"pc\":\n"
		"  0000000000000000-00000000000effff (ram rwx): ram @0000000000000000"
		", block ram @0000000000000000, window\n"
		"  00000000000f0000-00000000000fffff (rom r-x): bios @0000000000000000"
		", block bios @0000000000000000, window\n"
		"  0000000000100000-00000000001fffff (ram rwx): ram @0000000000100000"
		", block ram @0000000000100000, window\n"
		"  0000000000300000-00000000003fffff (reserved ---): bar @0000000000000000\n"
		"  0000000000400000-00000000007fffff (ram rwx): ram @0000000000200000"
		", block ram @0000000000200000, window\n");
	stop();
}

static void parts_of_a_dump_are_those_asked_for(void **state)
{
	static const char flat[] = "flat map of \"pc\":\n"
				   "  0000000000001000-0000000000001fff (ram rwx): x "
				   "@0000000000000000\n";
	static const char tree[] = "tree of \"pc\":\n"
				   "  0000000000001000-0000000000001fff (prio 0, ram rwx): x\n";
	struct text text = {0};

	(void)state;
	start_small();
	add_desc(DESC(.gpa = KIB(4), .name = "x", .backing = BLOCK(.len = KIB(4))));
	assert_string_equal(dumped(GM_DUMP_FLAT), flat);
	assert_string_equal(dumped(GM_DUMP_TREE), tree);
	assert_string_equal(dumped(GM_DUMP_TREE | GM_DUMP_HOST), tree);
	assert_string_equal(dumped(GM_DUMP_TREE | GM_DUMP_FLAT) + strlen(tree), flat);
	assert_int_equal(gm_space_dump(space, 16, take_text, &text), -EINVAL);
	assert_int_equal(text.len, 0);
	stop();
}

static int agree(void *ctx, const struct gm_section *section, struct gm_error *error)
{
	(void)section;
	(void)error;
	/* A callback may ask for what is published. */
	assert_non_null(strstr(dumped(GM_DUMP_LISTENERS), "first (prio -2)"));
	*(int *)ctx += 1;
	return 0;
}

static void listeners_and_what_they_cannot_enforce_are_written(void **state)
{
	struct gm_listener *listeners[3];
	int added = 0;

	(void)state;
	start_small();
	build_machine();
	assert_string_equal(dumped(GM_DUMP_LISTENERS), "");
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .name = "first", .priority = -2, .enforces = GM_PERM_RWX),
		&listeners[0], &err));
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .name = "slots", .priority = 7, .enforces = GM_PERM_W,
			.kinds = GM_KINDS_ALL, .max_sections = 9, .add = agree, .ctx = &added),
		&listeners[1], &err));
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .name = "peer", .join = GM_JOIN_HOST,
			.kinds = GM_KIND_BIT(GM_REGION_ROM)),
		&listeners[2], &err));
	assert_int_equal(added, 5);
	assert_string_equal(dumped(GM_DUMP_LISTENERS),
		"listeners of \"pc\":\n"
		"  first (prio -2): 4 sections\n"
		"  peer (prio 0): 1 section\n"
		"    w not enforced for 1 section, the first at 00000000000f0000\n"
		"  slots (prio 7): 5 of 9 sections\n"
		"    r not enforced for 1 section, the first at 0000000000300000\n"
		"    x not enforced for 1 section, the first at 0000000000300000\n");
	/* It is part of what is dumped when nothing is said. */
	assert_non_null(strstr(dumped(0), "listeners of \"pc\""));
	assert_int_equal(gm_listener_destroy(listeners[2], &err), 0);
	add_desc(DESC(.gpa = MIB(16), .perms = GM_PERM_R, .backing = BLOCK(.len = KIB(4))));
	add_desc(DESC(.gpa = MIB(20), .perms = GM_PERM_RX, .backing = BLOCK(.len = KIB(4))));
	assert_string_equal(dumped(GM_DUMP_LISTENERS),
		"listeners of \"pc\":\n"
		"  first (prio -2): 6 sections\n"
		"  slots (prio 7): 7 of 9 sections\n"
		"    r not enforced for 1 section, the first at 0000000000300000\n"
		"    x not enforced for 2 sections, the first at 0000000000300000\n");
	assert_int_equal(gm_listener_destroy(listeners[0], &err), 0);
	assert_int_equal(gm_listener_destroy(listeners[1], &err), 0);
	stop();
}

static void an_empty_space_has_headings_only(void **state)
{
	(void)state;
	start_small();
	assert_string_equal(dumped(0), "tree of \"pc\":\nflat map of \"pc\":\n");
	stop();
}

static void the_edges_of_the_addresses_are_shown(void **state)
{
	uint64_t top;

	(void)state;
	start_small();
	add_desc(DESC(.kind = GM_REGION_CONTAINER, .name = "all"));
	top = add_desc(DESC(.kind = GM_REGION_CONTAINER, .gpa = UINT64_MAX - 4095, .len = KIB(4),
		.priority = 1, .name = "top"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = 0, .len = MIB(1), .parent = top,
		.name = "clipped"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = KIB(4), .len = KIB(4), .parent = top,
		.priority = -1, .name = "beyond"));
	assert_string_equal(dumped(GM_DUMP_TREE | GM_DUMP_FLAT),
		"tree of \"pc\":\n"
		"  0000000000000000-ffffffffffffffff (prio 0, container rwx): all\n"
		"  fffffffffffff000-ffffffffffffffff (prio 1, container rwx): top\n"
		"    fffffffffffff000-00000000000fefff (prio 0, reserved ---): clipped\n"
		"    0000000000000000-0000000000000fff (prio -1, reserved ---): beyond\n"
		"flat map of \"pc\":\n"
		"  fffffffffffff000-ffffffffffffffff (reserved ---): clipped "
		"@0000000000000000\n");
	stop();
}

static void names_cannot_move_the_cursor(void **state)
{
	(void)state;
	start_small();
	add_desc(DESC(.kind = GM_REGION_RESERVED, .len = 1, .name = "a\033[2J\n\r\tb\x7f%s"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = 1, .len = 1,
		.name = "0123456789012345678901234567890123456789"));
	assert_string_equal(dumped(GM_DUMP_TREE),
		"tree of \"pc\":\n"
		"  0000000000000000-0000000000000000 (prio 0, reserved ---): a?[2J???b?%s\n"
		"  0000000000000001-0000000000000001 (prio 0, reserved ---): "
		"0123456789012345678901234567890\n");
	stop();
}

static void a_writer_that_refuses_ends_the_dump(void **state)
{
	static struct text whole;
	static struct text text;

	(void)state;
	start_small();
	build_machine();
	assert_int_equal(gm_space_dump(space, 0, take_text, &whole), 0);
	for (size_t stop_at = 1; stop_at < whole.len; stop_at++) {
		text = (struct text){.stop_at = stop_at};
		assert_int_equal(gm_space_dump(space, 0, take_text, &text), 42);
		assert_true(text.len >= stop_at && text.len < whole.len);
		assert_memory_equal(text.bytes, whole.bytes, text.len);
	}
	stop();
}

/* ---- walks ---- */

struct seen {
	size_t nr;
	size_t stop_at;
	struct {
		char name[32];
		uint64_t addr;
		uint32_t depth;
		uint32_t flags;
	} steps[16];
};

static int take_step(void *ctx, const struct gm_walk_step *step)
{
	struct seen *seen = ctx;

	assert_in_range(seen->nr, 0, 15);
	strcpy(seen->steps[seen->nr].name, step->info->name);
	seen->steps[seen->nr].addr = step->addr;
	seen->steps[seen->nr].depth = step->depth;
	seen->steps[seen->nr++].flags = step->flags;
	return seen->nr == seen->stop_at ? 7 : 0;
}

static void assert_step(const struct seen *seen, size_t i, const char *name, uint64_t addr,
	uint32_t depth, uint32_t flags)
{
	assert_true(i < seen->nr);
	assert_string_equal(seen->steps[i].name, name);
	assert_int_equal(seen->steps[i].addr, addr);
	assert_int_equal(seen->steps[i].depth, depth);
	assert_int_equal(seen->steps[i].flags, flags);
}

static void a_walk_tells_depth_address_and_what_is_hidden(void **state)
{
	struct seen seen = {0};
	uint64_t outer;
	uint64_t inner;
	uint64_t root;
	uint64_t second;

	(void)state;
	start_small();
	outer = add_desc(DESC(.kind = GM_REGION_CONTAINER, .gpa = MIB(16), .len = MIB(4),
		.flags = GM_REGION_DISABLED, .name = "outer"));
	inner = add_desc(DESC(.kind = GM_REGION_CONTAINER, .gpa = MIB(1), .len = MIB(1),
		.parent = outer, .name = "inner"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = 16, .len = 16, .parent = inner,
		.name = "leaf"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = MIB(3), .len = 1, .parent = outer,
		.name = "late"));
	root = add_desc(DESC(.kind = GM_REGION_CONTAINER, .gpa = MIB(7), .len = MIB(1),
		.parent = GM_REGION_DETACHED, .name = "root"));
	second = add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = 32, .len = 1, .parent = root,
		.name = "in root"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = 1, .len = 1, .parent = second,
		.name = "deeper"));
	add_desc(DESC(.kind = GM_REGION_RESERVED, .gpa = 0, .len = 1, .name = "first"));
	assert_int_equal(gm_space_walk(space, take_step, &seen), 0);
	assert_int_equal(seen.nr, 8);
	assert_step(&seen, 0, "first", 0, 0, GM_WALK_ADDRESS);
	assert_step(&seen, 1, "outer", MIB(16), 0, GM_WALK_ADDRESS | GM_WALK_HIDDEN);
	assert_step(&seen, 2, "inner", MIB(17), 1, GM_WALK_ADDRESS | GM_WALK_HIDDEN);
	assert_step(&seen, 3, "leaf", MIB(17) + 16, 2, GM_WALK_ADDRESS | GM_WALK_HIDDEN);
	assert_step(&seen, 4, "late", MIB(19), 1, GM_WALK_ADDRESS | GM_WALK_HIDDEN);
	assert_step(&seen, 5, "root", 0, 0, GM_WALK_DETACHED);
	assert_step(&seen, 6, "in root", 32, 1, GM_WALK_DETACHED);
	assert_step(&seen, 7, "deeper", 33, 2, GM_WALK_DETACHED);
	seen = (struct seen){.stop_at = 3};
	assert_int_equal(gm_space_walk(space, take_step, &seen), 7);
	assert_int_equal(seen.nr, 3);
	stop();
}

static int count_step(void *ctx, const struct gm_walk_step *step)
{
	uint64_t *next = ctx;

	assert_int_equal(step->depth, *next);
	assert_int_equal(step->addr, *next);
	++*next;
	return 0;
}

static void what_is_in_no_tree_may_be_deep(void **state)
{
	uint64_t id = GM_REGION_DETACHED;
	uint64_t depth = 0;

	(void)state;
	start_small();
	for (int i = 0; i < 5000; i++)
		id = add_desc(DESC(.kind = GM_REGION_CONTAINER, .gpa = i > 0, .len = MIB(1),
			.parent = id));
	assert_int_equal(gm_space_walk(space, count_step, &depth), 0);
	assert_int_equal(depth, 5000);
	stop();
}

static void a_chain_of_aliases_without_names_has_the_name_of_its_end(void **state)
{
	uint64_t id;

	(void)state;
	start_small();
	id = add_desc(DESC(.kind = GM_REGION_RESERVED, .len = 1, .name = "end",
		.parent = GM_REGION_DETACHED));
	for (int i = 0; i < 5000; i++)
		id = add_desc(DESC(.kind = GM_REGION_ALIAS, .len = 1, .target = id,
			.parent = GM_REGION_DETACHED));
	assert_string_equal(region(id).name, "end");
	stop();
}

/* The callback holds no lock: it may even change the space. */
static int remove_step(void *ctx, const struct gm_walk_step *step)
{
	struct gm_block_info info = {.size = sizeof(info)};

	(void)ctx;
	assert_ok(gm_space_remove(space, step->info->id, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	/* The block outlives its region until the walk has ended. */
	assert_int_equal(gm_block_info(step->info->block, &info), 0);
	assert_string_equal(info.name, step->info->name);
	return 0;
}

static void a_callback_may_change_the_space(void **state)
{
	(void)state;
	start_small();
	for (uint64_t i = 0; i < 4; i++)
		add_desc(DESC(.gpa = MIB(i), .name = "one of four",
			.backing = BLOCK(.len = MIB(1))));
	assert_int_equal(gm_space_walk(space, remove_step, NULL), 0);
	assert_string_equal(dumped(0), "tree of \"pc\":\nflat map of \"pc\":\n");
	stop();
}

/* ---- what is published, not what is planned ---- */

static void a_plan_is_not_shown(void **state)
{
	struct gm_txn *txn;
	struct gm_region_info info = {.size = sizeof(info)};
	char before[4096];
	uint64_t ids[3];
	uint64_t alias;
	uint64_t fresh;

	(void)state;
	start_small();
	for (uint64_t i = 0; i < 3; i++)
		ids[i] = add_desc(
			DESC(.gpa = MIB(i), .name = "old", .backing = BLOCK(.len = MIB(1))));
	alias = add_desc(
		DESC(.kind = GM_REGION_ALIAS, .gpa = MIB(8), .len = MIB(1), .target = ids[2]));
	strcpy(before, dumped(0));
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_remove(txn, ids[0], &err));
	assert_ok(gm_txn_move(txn, ids[1], MIB(5), &err));
	assert_ok(gm_txn_replace(txn, ids[2],
		DESC(.gpa = MIB(2), .name = "new", .backing = BLOCK(.len = MIB(1))), &err));
	assert_ok(gm_txn_add(
		txn, DESC(.kind = GM_REGION_RESERVED, .gpa = MIB(9), .len = 1), &fresh, &err));
	assert_string_equal(dumped(0), before);
	assert_string_equal(region(alias).name, "old");
	assert_int_equal(gm_space_region(space, fresh, &info), -ENOENT);
	assert_ok(gm_txn_commit(txn, &err));
	assert_string_equal(region(alias).name, "new");
	assert_int_equal(gm_space_region(space, ids[0], &info), -ENOENT);
	assert_int_equal(gm_space_region(space, fresh, &info), 0);
	stop();
}

static void a_region_cannot_name_itself_before_it_is_there(void **state)
{
	uint64_t id;

	(void)state;
	start_small();
	/* Numbers of a new space count up. */
	id = add_desc(DESC(.kind = GM_REGION_RESERVED, .len = 1)) + 1;
	assert_fails(gm_space_add(space,
			     DESC(.kind = GM_REGION_ALIAS, .len = 1, .target = id,
				     .parent = GM_REGION_DETACHED),
			     NULL, &err),
		ENOENT, "no region has number");
	assert_fails(gm_space_add(space, DESC(.kind = GM_REGION_CONTAINER, .len = 1, .parent = id),
			     NULL, &err),
		ENOENT, "no region has number");
	stop();
}

/* ---- while it changes ---- */

#define STEP MIB(1)

/* Two regions that are moved together, and one between them that is there every other time. */
static struct {
	uint64_t left;
	uint64_t right;
	int over;
} pair;

struct look {
	uint64_t left;
	uint64_t right;
	uint64_t extra;
	unsigned int nr;
};

static int look_at(void *ctx, const struct gm_walk_step *step)
{
	struct look *look = ctx;

	look->nr++;
	if (step->info->id == pair.left)
		look->left = step->addr;
	else if (step->info->id == pair.right)
		look->right = step->addr;
	else
		look->extra = step->addr;
	return 0;
}

static void *look_often(void *arg)
{
	unsigned long *wrong = arg;
	static struct text text;

	while (!__atomic_load_n(&pair.over, __ATOMIC_RELAXED)) {
		struct look look = {0};
		char *flat;

		gm_space_walk(space, look_at, &look);
		*wrong += look.right != look.left + 2 * STEP;
		*wrong += look.nr != 2 && (look.nr != 3 || look.extra != look.left + STEP);
		text = (struct text){0};
		gm_space_dump(space, GM_DUMP_TREE | GM_DUMP_FLAT, take_text, &text);
		/* The same addresses stand in both: each line of the map has its line in the tree. */
		flat = strstr(text.bytes, "flat map");
		for (char *line = strchr(flat, '\n') + 1; *line; line = strchr(line, '\n') + 1) {
			char range[40] = "";

			memcpy(range, line, 35);
			*wrong += strstr(text.bytes, range) == line;
		}
	}
	return NULL;
}

static void move_both(uint64_t to, uint64_t *extra)
{
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_move(txn, pair.left, to, &err));
	if (*extra)
		assert_ok(gm_txn_remove(txn, *extra, &err));
	assert_ok(gm_txn_move(txn, pair.right, to + 2 * STEP, &err));
	if (*extra)
		*extra = 0;
	else
		assert_ok(gm_txn_add(txn,
			DESC(.kind = GM_REGION_RESERVED, .gpa = to + STEP, .len = STEP,
				.name = "extra"),
			extra, &err));
	if (to % 3 == 0)
		gm_txn_abort(txn);
	else
		assert_ok(gm_txn_commit(txn, &err));
}

static void looks_meet_all_of_a_change_or_none(void **state)
{
	unsigned long wrong = 0;
	uint64_t extra = 0;
	pthread_t thread;

	(void)state;
	start_small();
	pair.left = add_desc(DESC(.kind = GM_REGION_RESERVED, .len = STEP, .name = "left"));
	pair.right = add_desc(
		DESC(.kind = GM_REGION_RESERVED, .gpa = 2 * STEP, .len = STEP, .name = "right"));
	__atomic_store_n(&pair.over, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, look_often, &wrong), 0);
	for (unsigned long i = 1; i <= support_scale(5000); i++) {
		uint64_t was = extra;

		move_both(i % 64 * 8 * STEP, &extra);
		if (i % 64 * 8 * STEP % 3 == 0)
			extra = was;
	}
	__atomic_store_n(&pair.over, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_int_equal(wrong, 0);
	stop();
}

/* ---- without memory ---- */

static int dump_without_memory(void *ctx)
{
	static struct text text;
	int rc;

	(void)ctx;
	text = (struct text){0};
	rc = gm_space_dump(space, 0, take_text, &text);
	assert_true(rc == 0 || (rc == -ENOMEM && text.len == 0));
	return rc;
}

static int walk_without_memory(void *ctx)
{
	struct seen seen = {0};
	int rc;

	(void)ctx;
	rc = gm_space_walk(space, take_step, &seen);
	assert_true(rc == 0 || (rc == -ENOMEM && seen.nr == 0));
	return rc;
}

static void each_allocation_may_fail(void **state)
{
	(void)state;
	start_small();
	build_machine();
	assert_true(fault_sweep(dump_without_memory, NULL) > 0);
	assert_true(fault_sweep(walk_without_memory, NULL) > 0);
	fault_disarm();
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_is_written_down),
		cmocka_unit_test(parts_of_a_dump_are_those_asked_for),
		cmocka_unit_test(listeners_and_what_they_cannot_enforce_are_written),
		cmocka_unit_test(an_empty_space_has_headings_only),
		cmocka_unit_test(the_edges_of_the_addresses_are_shown),
		cmocka_unit_test(names_cannot_move_the_cursor),
		cmocka_unit_test(a_writer_that_refuses_ends_the_dump),
		cmocka_unit_test(a_walk_tells_depth_address_and_what_is_hidden),
		cmocka_unit_test(what_is_in_no_tree_may_be_deep),
		cmocka_unit_test(a_chain_of_aliases_without_names_has_the_name_of_its_end),
		cmocka_unit_test(a_callback_may_change_the_space),
		cmocka_unit_test(a_plan_is_not_shown),
		cmocka_unit_test(a_region_cannot_name_itself_before_it_is_there),
		cmocka_unit_test(looks_meet_all_of_a_change_or_none),
		cmocka_unit_test(each_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
