/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_guest_tables.c - tables of a guest against a walk that follows each entry, bounds, blocks that are found.
 */
#include <errno.h>
#include <string.h>

#include <guestmem/guest_tables.h>

#include "fault.h"
#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)
#define ADDRESS UINT64_C(0x000ffffffffff000)
#define P UINT64_C(0x1)
#define W UINT64_C(0x2)
#define U UINT64_C(0x4)
#define LARGE UINT64_C(0x80)
#define NX (UINT64_C(1) << 63)

/* ---- against a model ---- */

#define PAGES 32u

/* What was met: sums over leaves by what they say, tables by level, entries that lead nowhere. */
struct met {
	uint64_t leaves[PAGES + 8][3][8];
	uint64_t tables[PAGES][6];
	uint64_t wild[6];
};

static uint64_t memory[PAGES][512];
static uint64_t reads;
static struct met met;
static struct met model;

static uint64_t *leaf_sum(struct met *m, uint64_t gpa, uint64_t len, uint32_t flags)
{
	/* Large leaves and those elsewhere by their number. */
	uint64_t place = len == PAGE && gpa / PAGE < PAGES ? gpa / PAGE : PAGES + (gpa / len) % 8;

	return &m->leaves[place][len == PAGE ? 0 : len == MIB(2) ? 1 : 2][flags];
}

static int model_read(void *ctx, uint64_t gpa, void *page)
{
	(void)ctx;
	reads++;
	if (gpa / PAGE >= PAGES)
		return -EFAULT;
	memcpy(page, memory[gpa / PAGE], PAGE);
	return 0;
}

static int meet_table(void *ctx, uint64_t gpa, uint32_t level, uint64_t times)
{
	(void)ctx;
	assert_in_range(level, 1, 5);
	assert_int_equal(met.tables[gpa / PAGE][level], 0); /* told once */
	met.tables[gpa / PAGE][level] = times;
	return 0;
}

static int meet_leaf(void *ctx, const struct gm_guest_leaf *leaf)
{
	(void)ctx;
	assert_int_equal(leaf->gpa % leaf->len, 0);
	*leaf_sum(&met, leaf->gpa, leaf->len, leaf->flags) += leaf->times;
	return 0;
}

static int meet_wild(void *ctx, uint64_t gpa, uint32_t level, uint64_t times)
{
	(void)ctx;
	assert_true(gpa / PAGE >= PAGES);
	met.wild[level] += times;
	return 0;
}

static const struct gm_guest_tables_ops meet = {model_read, meet_table, meet_leaf, meet_wild};

/* As the processor walks: each entry by itself, however often it is met. */
static void follow(uint64_t gpa, uint32_t level, uint64_t rights)
{
	if (gpa / PAGE >= PAGES) {
		model.wild[level]++;
		return;
	}
	model.tables[gpa / PAGE][level]++;
	for (unsigned int i = 0; i < 512; i++) {
		uint64_t e = memory[gpa / PAGE][i];
		uint64_t now = (rights & e & (W | U)) | ((rights | e) & NX);
		uint64_t len = PAGE << 9 * (level - 1);

		if (!(e & P) || (level > 3 && (e & LARGE)))
			continue;
		if (level == 1 || (e & LARGE))
			(*leaf_sum(&model, e & ADDRESS & ~(len - 1), len,
				(now & W ? GM_GUEST_LEAF_WRITE : 0) |
					(now & U ? GM_GUEST_LEAF_USER : 0) |
					(now & NX ? 0 : GM_GUEST_LEAF_EXEC)))++;
		else
			follow(e & ADDRESS, level - 1, now);
	}
}

static uint64_t some_entry(struct rng *random)
{
	uint64_t e = rng_next(random) & (P | W | U | LARGE | NX | 0xf00);
	uint64_t where = rng_next(random);

	/* Mostly present; now and then far away, with bits that a large leaf does not have. */
	if (where % 8)
		e |= P;
	if (where % 3)
		e &= ~LARGE;
	return e | ((where >> 8) % 16 ? (where >> 16) % PAGES * PAGE : where & ADDRESS);
}

static void random_tables_are_walked_as_a_processor_does(void **state)
{
	struct rng random = {test_seed(4711)};
	uint64_t rounds = support_scale(300);

	(void)state;
	for (uint64_t round = 0; round < rounds; round++) {
		uint32_t levels = 4 + (uint32_t)(rng_next(&random) % 2);
		uint64_t roots[2] = {
			rng_next(&random) % PAGES * PAGE | 0x18, rng_next(&random) % PAGES * PAGE};

		memset(memory, 0, sizeof(memory));
		memset(&met, 0, sizeof(met));
		memset(&model, 0, sizeof(model));
		for (unsigned int i = 0; i < PAGES * 4; i++)
			memory[rng_next(&random) % PAGES][rng_next(&random) % 512] =
				some_entry(&random);
		reads = 0;
		assert_ok(gm_guest_tables_walk(roots, 2,
			GM_OPTS(gm_guest_tables_opts, .levels = levels), &meet, NULL, &err));
		assert_true(reads <= 5 * (PAGES + PAGES * 4));
		for (unsigned int i = 0; i < 2; i++)
			follow(roots[i] & ADDRESS, levels, W | U);
		assert_memory_equal(&met, &model, sizeof(met));
	}
}

static void circles_end(void **state)
{
	(void)state;
	memset(&met, 0, sizeof(met));
	for (unsigned int i = 0; i < 512; i++)
		memory[3][i] = 3 * PAGE | P | W;
	reads = 0;
	assert_ok(gm_guest_tables_walk((const uint64_t[]){3 * PAGE}, 1,
		GM_OPTS(gm_guest_tables_opts, .levels = 5), &meet, NULL, &err));
	/* Once with the rights of a root, once a level with those of the entries. */
	assert_int_equal(reads, 5);
	assert_true(
		met.leaves[3][0][GM_GUEST_LEAF_WRITE | GM_GUEST_LEAF_EXEC] == UINT64_C(1) << 45);
	assert_true(met.tables[3][1] == UINT64_C(1) << 36);
}

static int refuse_leaf(void *ctx, const struct gm_guest_leaf *leaf)
{
	(void)leaf;
	return *(int *)ctx;
}

static void bounds_and_bad_options_are_told(void **state)
{
	const uint64_t root = 0;
	struct gm_guest_tables_ops ops = meet;
	int code = -ECANCELED;

	(void)state;
	memset(memory, 0, sizeof(memory));
	for (unsigned int i = 0; i < 8; i++)
		memory[0][i] = (i + 1) * PAGE | P;
	memset(&met, 0, sizeof(met));
	assert_ok(gm_guest_tables_walk(
		&root, 1, GM_OPTS(gm_guest_tables_opts, .max = 8), &meet, NULL, &err));
	memset(&met, 0, sizeof(met));
	assert_fails(gm_guest_tables_walk(
			     &root, 1, GM_OPTS(gm_guest_tables_opts, .max = 7), &meet, NULL, &err),
		E2BIG, "more than 7 page tables");
	memory[1][0] = 9 * PAGE | P;
	memory[9][0] = 10 * PAGE | P;
	memory[10][0] = PAGE | P;
	ops.table = NULL;
	ops.wild = NULL;
	ops.leaf = refuse_leaf;
	assert_int_equal(gm_guest_tables_walk(&root, 1, NULL, &ops, &code, &err), -ECANCELED);
	assert_fails(gm_guest_tables_walk(&root, 0, NULL, &meet, NULL, &err), EINVAL, "no root");
	assert_fails(gm_guest_tables_walk(&root, 1, GM_OPTS(gm_guest_tables_opts, .levels = 3),
			     &meet, NULL, &err),
		EINVAL, "4 or 5 levels");
	assert_fails(gm_guest_tables_walk(&root, 1, GM_OPTS(gm_guest_tables_opts, .flags = 1),
			     &meet, NULL, &err),
		EINVAL, "flags 0x1");
	assert_fails(
		gm_guest_tables_walk(&root, 1,
			GM_OPTS(gm_guest_tables_opts, .max = UINT64_C(1) << 29), &meet, NULL, &err),
		EINVAL, "at most");
}

/* ---- in a space ---- */

static unsigned int device_reads;

static int device_read(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	(void)ctx;
	(void)off;
	(void)size;
	device_reads++;
	*ret_value = 0;
	return 0;
}

static int device_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)ctx;
	(void)off;
	(void)size;
	(void)value;
	return 0;
}

static const struct gm_device_ops device = {
	.size = sizeof(device), .read = device_read, .write = device_write};

static void set(uint64_t table, unsigned int index, uint64_t entry)
{
	assert_int_equal(gm_write(gm_reader_enter(reader), table + 8 * index, &entry, 8, NULL), 0);
	gm_reader_leave(reader);
}

/* Memory of 32 MiB with the root in the third block, 6 tables in the fifth, 2 in the eighth, code in the second. */
#define ROOT (MIB(4) + 5 * PAGE)

static void start_tables(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MIB(32));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(64), .len = MIB(2), .kind = GM_REGION_MMIO, .device = &device),
		NULL, &err));
	set(ROOT, 0, MIB(8) | P | W | U);
	set(ROOT, 1, MIB(64) | P | W);     /* a device */
	set(ROOT, 2, MIB(512) | P | W);    /* nothing */
	set(ROOT, 511, ROOT | P | W | NX); /* its own: no second table */
	set(ROOT, 510, (MIB(8) + 4 * PAGE) | P | W);
	set(MIB(8) + 4 * PAGE, 0, (MIB(8) + 5 * PAGE) | P | W);
	set(MIB(8) + 5 * PAGE, 0, MIB(64) | P | LARGE | W); /* code where no memory is */
	set(MIB(8), 0, (MIB(8) + PAGE) | P | W | U);
	set(MIB(8), 1, (MIB(8) + 2 * PAGE) | P | W);
	set(MIB(8) + PAGE, 0, (MIB(8) + 3 * PAGE) | P | U);
	set(MIB(8) + PAGE, 1, MIB(14) | P | U);
	set(MIB(8) + 2 * PAGE, 0, (MIB(14) + PAGE) | P);
	set(MIB(8) + 2 * PAGE, 1, MIB(20) | P | LARGE | NX); /* data */
	set(MIB(14) + PAGE, 7, MIB(3) | P);                  /* code */
	set(MIB(14), 7, MIB(28) | P | U);                    /* of a user */
}

static void blocks_with_tables_are_found(void **state)
{
	const uint64_t root = ROOT | 0x18;
	struct gm_heat blocks[8] = {{0}};
	size_t nr = 0;

	(void)state;
	start_tables();
	assert_ok(gm_guest_tables_find(space, &root, 1,
		GM_OPTS(gm_guest_tables_opts, .flags = GM_GUEST_TABLES_CODE), blocks, 8, &nr,
		&err));
	assert_int_equal(nr, 4);
	assert_int_equal(blocks[0].gpa, MIB(8));
	assert_int_equal(blocks[0].heat, 12);
	assert_true(blocks[1].gpa == MIB(14) && blocks[1].heat == 4);
	assert_true(blocks[2].gpa == MIB(4) && blocks[2].heat == 2);
	assert_true(blocks[3].gpa == MIB(2) && blocks[3].heat == 1);
	assert_int_equal(device_reads, 0);
	/* Room for one. */
	blocks[1].gpa = 77;
	assert_ok(gm_guest_tables_find(space, &root, 1, NULL, blocks, 1, &nr, &err));
	assert_int_equal(nr, 3);
	assert_true(blocks[0].gpa == MIB(8) && blocks[1].gpa == 77);
	assert_fails(gm_guest_tables_find(
			     space, (const uint64_t[]){MIB(64)}, 1, NULL, blocks, 8, &nr, &err),
		EFAULT, "0x4000000");
	assert_int_equal(device_reads, 0);
	stop();
}

static void what_was_found_is_made_huge(void **state)
{
	const uint64_t root = ROOT;
	struct gm_policy_result r = {.size = sizeof(r)};
	struct gm_usage use = {.size = sizeof(use)};
	struct gm_heat blocks[8];
	size_t nr = 0;

	(void)state;
	start_tables();
	assert_ok(gm_guest_tables_find(space, &root, 1, NULL, blocks, 8, &nr, &err));
	assert_ok(gm_policy_promote(space, blocks, nr, MIB(5), GM_POLICY_TOUCH, &r, &err));
	assert_int_equal(r.blocks, 3);
	assert_int_equal(r.huge, 2);
	assert_int_equal(r.over, 1); /* the third does not fit */
	assert_ok(gm_space_extents(space, MIB(8), MIB(2), 0, NULL, NULL, &use, &err));
	assert_int_equal(use.by_log2[21], MIB(2));
	stop();
}

/* Checked in the caller's process: a scenario does not go through cmocka. */
static int find_once(void *ctx)
{
	const uint64_t root = ROOT;
	struct gm_heat blocks[8];
	size_t nr = 99;
	int rc = gm_guest_tables_find(space, &root, 1,
		GM_OPTS(gm_guest_tables_opts, .flags = GM_GUEST_TABLES_CODE), blocks, 8, &nr, &err);

	(void)ctx;
	if (rc ? nr != 99 : nr != 4)
		abort();
	return rc;
}

static void failures_are_told_and_leave_nothing(void **state)
{
	(void)state;
	start_tables();
	/* The reader, both lists of the walk, those of what is found. */
	assert_true(fault_sweep(find_once, NULL) >= 5);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_tables_are_walked_as_a_processor_does),
		cmocka_unit_test(circles_end),
		cmocka_unit_test(bounds_and_bad_options_are_told),
		cmocka_unit_test(blocks_with_tables_are_found),
		cmocka_unit_test(what_was_found_is_made_huge),
		cmocka_unit_test(failures_are_told_and_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
