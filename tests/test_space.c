/* SPDX-License-Identifier: BSD-3-Clause */
/* test_space.c - regions, transactions, placement, pins and deadlines, seen from one thread. */
#include "one_space.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static struct gm_block *make(const struct gm_block_opts *opts)
{
	struct gm_block *block;

	assert_ok(gm_block_create(opts, &block, &err));
	return block;
}

static uint8_t *hva_of(struct gm_block *block)
{
	struct gm_block_info info = {.size = sizeof(info)};

	assert_int_equal(gm_block_info(block, &info), 0);
	return info.hva;
}

static int check(uint64_t gpa, uint64_t len, uint32_t perms)
{
	int rc = gm_view_check(gm_reader_enter(reader), gpa, len, perms);

	gm_reader_leave(reader);
	return rc;
}

static struct gm_txn *begin(void)
{
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	return txn;
}

static void memory_lies_at_base_plus_gpa(void **state)
{
	struct gm_region_info a;
	struct gm_region_info b;

	(void)state;
	start(NULL);
	a = region(add(0, MIB(1)));
	b = region(add(MIB(1), MIB(2)));
	assert_int_equal(a.placed, 1);
	assert_int_equal(b.placed, 1);
	assert_ptr_equal((uint8_t *)a.hva + MIB(1), b.hva);
	assert_int_equal((uintptr_t)a.hva % GIB(1), 0);
	/* Neighbours are one stretch for a reader. */
	assert_int_equal(gm_reader_enter(reader)->hot_starts, MIB(3) - 7);
	gm_reader_leave(reader);
	assert_int_equal(check(0, MIB(3), GM_PERM_RWX), 0);
	assert_int_equal(check(0, MIB(3) + 1, GM_PERM_R), -EFAULT);
	stop();
}

static void edges_of_the_address_space_are_ordinary(void **state)
{
	uint64_t top = UINT64_MAX - 4095;
	struct gm_region_info info = {.size = sizeof(info)};

	(void)state;
	start(NULL);
	add(top, KIB(4));
	assert_int_equal(check(top, KIB(4), GM_PERM_RW), 0);
	assert_int_equal(check(UINT64_MAX, 1, GM_PERM_RW), 0);
	assert_int_equal(check(UINT64_MAX, 0, GM_PERM_RW), 0);
	assert_int_equal(check(UINT64_MAX, 2, GM_PERM_RW), -ERANGE);
	assert_int_equal(check(top - 1, 2, GM_PERM_RW), -EFAULT);
	assert_int_equal(check(0, 0, GM_PERM_R), -EFAULT);
	assert_fails(
		gm_space_add(space, DESC(.gpa = top, .backing = BLOCK(.len = KIB(8))), NULL, &err),
		ERANGE, "wrap");
	assert_int_equal(gm_space_next(space, 0, &info), 0);
	assert_int_equal(info.gpa, top);
	assert_int_equal(info.gpa + info.len, 0);
	assert_int_equal(info.placed, 0);
	stop();
}

static void bad_regions_are_refused_and_named(void **state)
{
	struct gm_block *block = make(BLOCK(.len = MIB(1), .name = "blk"));
	struct gm_block *ro = make(BLOCK(.len = MIB(1), .flags = GM_BLOCK_READONLY));
	struct gm_region_desc d = {.size = sizeof(d)};
	uint64_t id = 77;

	(void)state;
	start(NULL);
	add(MIB(16), MIB(1));
	struct {
		struct gm_region_desc desc;
		int code;
		const char *word;
		uint64_t gpa;
	} cases[] = {
		{{.size = sizeof(d), .gpa = 0}, EINVAL, "either a block", 0},
		{{.size = sizeof(d), .block = block, .backing = BLOCK(.len = KIB(4))}, EINVAL,
			"either a block", 0},
		{{.size = sizeof(d), .kind = 99, .block = block}, EINVAL, "kind", 0},
		{{.size = sizeof(d), .kind = GM_REGION_RESERVED, .block = block}, EINVAL,
			"no memory", 0},
		{{.size = sizeof(d), .kind = GM_REGION_RESERVED}, EINVAL, "length 0", 0},
		{{.size = sizeof(d), .gpa = 100, .block = block}, EINVAL, "multiples", 100},
		{{.size = sizeof(d), .len = 100, .block = block}, EINVAL, "multiples", 0},
		{{.size = sizeof(d), .block_off = 100, .len = KIB(4), .block = block}, EINVAL,
			"multiples", 0},
		{{.size = sizeof(d), .len = MIB(2), .block = block}, ERANGE, "end of its block", 0},
		{{.size = sizeof(d), .block_off = MIB(1), .len = KIB(4), .block = block}, ERANGE,
			"end of its block", 0},
		{{.size = sizeof(d), .block_off = UINT64_MAX - 4095, .len = KIB(8), .block = block},
			ERANGE, "end of its block", 0},
		{{.size = sizeof(d), .gpa = MIB(16), .block = block}, EEXIST, "overlaps", MIB(16)},
		{{.size = sizeof(d), .gpa = MIB(17) - KIB(4), .block = block}, EEXIST, "overlaps",
			MIB(17) - KIB(4)},
		{{.size = sizeof(d), .gpa = MIB(16) - KIB(4), .len = KIB(8), .block = block},
			EEXIST, "overlaps", MIB(16)},
		{{.size = sizeof(d), .gpa = MIB(15), .len = MIB(4), .kind = GM_REGION_RESERVED},
			EEXIST, "overlaps", MIB(16)},
		{{.size = sizeof(d), .gpa = UINT64_MAX - 4095, .block = block}, ERANGE, "wraps",
			UINT64_MAX - 4095},
		{{.size = sizeof(d), .perms = 8, .block = block}, EINVAL, "permissions 0x8", 0},
		{{.size = sizeof(d), .kind = GM_REGION_ROM, .perms = GM_PERM_RW, .block = block},
			EINVAL, "ROM", 0},
		{{.size = sizeof(d), .perms = GM_PERM_RW, .block = ro}, EACCES, "read-only", 0},
		{{.size = sizeof(d), .backing = BLOCK(.len = 5)}, EINVAL, "not a multiple", 0},
		{{.size = 4, .block = block}, EINVAL, "version", 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_fails(gm_space_add(space, &cases[i].desc, &id, &err), cases[i].code,
			cases[i].word);
		assert_int_equal(err.gpa, cases[i].gpa);
		assert_int_equal(id, 77);
		assert_int_equal(gm_space_add(space, &cases[i].desc, &id, NULL), -cases[i].code);
	}
	assert_fails(gm_space_remove(space, 1234, &err), ENOENT, "1234");
	/* Nothing came of it: the only region is the first one. */
	assert_int_equal(check(MIB(16), MIB(1), GM_PERM_RW), 0);
	assert_int_equal(check(0, 1, GM_PERM_R), -EFAULT);
	gm_block_put(block);
	gm_block_put(ro);
	stop();
}

static void kinds_have_their_permissions(void **state)
{
	struct gm_block *ro = make(BLOCK(.len = MIB(1), .flags = GM_BLOCK_READONLY));

	(void)state;
	start(NULL);
	assert_ok(gm_space_add(space,
		DESC(.gpa = 0, .kind = GM_REGION_ROM, .backing = BLOCK(.len = KIB(4))), NULL,
		&err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = KIB(4), .kind = GM_REGION_RESERVED, .len = KIB(4), .name = "hole"),
		NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = KIB(8), .perms = GM_PERM_W, .backing = BLOCK(.len = KIB(4))), NULL,
		&err));
	assert_ok(gm_space_add(space, DESC(.gpa = MIB(2), .block = ro), NULL, &err));
	assert_int_equal(check(0, KIB(4), GM_PERM_RX), 0);
	assert_int_equal(check(0, 1, GM_PERM_W), -EACCES);
	assert_int_equal(check(KIB(4), 1, GM_PERM_R), -EFAULT);
	assert_int_equal(check(KIB(8), 1, GM_PERM_W), 0);
	assert_int_equal(check(KIB(8), 1, GM_PERM_R), -EACCES);
	assert_int_equal(check(MIB(2), 1, GM_PERM_W), -EACCES);
	assert_int_equal(check(MIB(2), MIB(1), GM_PERM_R), 0);
	/* No permission at all: is it there? */
	assert_int_equal(check(0, KIB(4), 0), 0);
	assert_int_equal(check(KIB(8), KIB(4), 0), 0);
	assert_int_equal(check(0, KIB(12), 0), -EFAULT);
	gm_block_put(ro);
	stop();
}

static void an_unplaced_block_keeps_its_bytes_when_added(void **state)
{
	struct gm_block *anon = make(BLOCK(.len = MIB(2)));
	struct gm_block *fd = make(BLOCK(.len = MIB(2), .flags = GM_BLOCK_SHARE));
	void *own = mmap(NULL, MIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct gm_block *pointer =
		make(BLOCK(.len = MIB(2), .backing = GM_BACKING_POINTER, .addr = own));
	struct gm_block *all[] = {anon, fd, pointer};
	const uint32_t placed[] = {1, 1, 0};

	(void)state;
	start(NULL);
	for (size_t i = 0; i < 3; i++) {
		uint64_t id;

		hva_of(all[i])[5] = (uint8_t)(40 + i);
		assert_ok(gm_space_add(space, DESC(.gpa = MIB(4) * i, .block = all[i]), &id, &err));
		assert_int_equal(((uint8_t *)region(id).hva)[5], 40 + i);
		assert_int_equal(region(id).placed, placed[i]);
		assert_ptr_equal(region(id).block, all[i]);
	}
	for (size_t i = 0; i < 3; i++)
		gm_block_put(all[i]);
	stop();
	munmap(own, MIB(2));
}

static void memory_without_an_fd_is_in_one_place(void **state)
{
	struct gm_block *anon = make(BLOCK(.len = MIB(2), .name = "solo"));
	struct gm_block *shared = make(BLOCK(.len = MIB(2), .flags = GM_BLOCK_SHARE));
	struct gm_space *second;
	uint64_t a;
	uint64_t b;

	(void)state;
	start(NULL);
	assert_ok(gm_space_create(NULL, &second, &err));
	assert_ok(gm_space_add(space, DESC(.gpa = 0, .block = anon), NULL, &err));
	assert_fails(gm_space_add(space, DESC(.gpa = MIB(8), .block = anon), NULL, &err), EBUSY,
		"GM_BLOCK_SHARE");
	assert_fails(
		gm_space_add(second, DESC(.gpa = 0, .block = anon), NULL, &err), EBUSY, "solo");
	/* With an fd it can be an alias, in one space or two, in parts. */
	assert_ok(gm_space_add(space, DESC(.gpa = MIB(16), .block = shared), &a, &err));
	assert_ok(gm_space_add(
		space, DESC(.gpa = MIB(32), .block = shared, .block_off = MIB(1)), &b, &err));
	assert_ok(gm_space_add(second, DESC(.gpa = 0, .block = shared), NULL, &err));
	((uint8_t *)region(a).hva)[MIB(1)] = 9;
	assert_int_equal(((uint8_t *)region(b).hva)[0], 9);
	assert_int_equal(region(b).placed, 1);
	gm_space_destroy(second);
	gm_block_put(anon);
	gm_block_put(shared);
	stop();
}

static void a_removed_block_lives_on_with_its_owner(void **state)
{
	struct gm_block *block = make(BLOCK(.len = MIB(2)));
	uint64_t id;

	(void)state;
	start(NULL);
	hva_of(block)[7] = 7;
	assert_ok(gm_space_add(space, DESC(.gpa = GIB(1), .block = block), &id, &err));
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(check(GIB(1), 1, GM_PERM_R), -EFAULT);
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(hva_of(block)[7], 7);
	/* Its place is free for other memory, in the window. */
	assert_int_equal(region(add(GIB(1), MIB(4))).placed, 1);
	/* And the block can come back elsewhere. */
	assert_ok(gm_space_add(space, DESC(.gpa = GIB(3), .block = block), &id, &err));
	assert_int_equal(((uint8_t *)region(id).hva)[7], 7);
	assert_int_equal(region(id).placed, 1);
	stop();
	assert_int_equal(hva_of(block)[7], 7);
	gm_block_put(block);
}

static void a_region_moves_with_its_bytes(void **state)
{
	struct gm_block *shared = make(BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE));
	uint64_t ids[3];
	struct gm_txn *txn;

	(void)state;
	start(NULL);
	ids[0] = add(0, MIB(1));
	assert_ok(gm_space_add(space, DESC(.gpa = MIB(2), .block = shared), &ids[1], &err));
	ids[2] = add(UINT64_C(1) << 50, MIB(1));
	for (size_t i = 0; i < 3; i++)
		((uint8_t *)region(ids[i]).hva)[9] = (uint8_t)(i + 1);
	txn = begin();
	/* One goes where another was, one by less than its length, one from above the limit into
	 * the window. */
	assert_ok(gm_txn_move(txn, ids[1], MIB(2) + KIB(512), &err));
	assert_ok(gm_txn_move(txn, ids[0], MIB(4), &err));
	assert_ok(gm_txn_move(txn, ids[2], 0, &err));
	assert_fails(gm_txn_move(txn, ids[2], MIB(4), &err), EEXIST, "overlaps");
	assert_fails(gm_txn_move(txn, ids[2], 77, &err), EINVAL, "multiples");
	assert_fails(gm_txn_move(txn, ids[2], UINT64_MAX - 4095, &err), ERANGE, "wraps");
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(region(ids[0]).gpa, MIB(4));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(((uint8_t *)region(ids[i]).hva)[9], i + 1);
	assert_int_equal(region(ids[0]).placed, 1);
	assert_int_equal(region(ids[1]).placed, 1);
	assert_int_equal(check(0, MIB(1), GM_PERM_RW), 0);
	assert_int_equal(check(MIB(2), 1, GM_PERM_R), -EFAULT);
	gm_block_put(shared);
	stop();
}

static void a_region_shrinks_and_grows_within_its_block(void **state)
{
	struct gm_block *block = make(BLOCK(.len = MIB(4), .flags = GM_BLOCK_SHARE));
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start(NULL);
	assert_ok(
		gm_space_add(space, DESC(.gpa = MIB(8), .len = MIB(1), .block = block), &id, &err));
	((uint8_t *)region(id).hva)[1] = 11;
	txn = begin();
	assert_ok(gm_txn_resize(txn, id, MIB(4), &err));
	assert_fails(gm_txn_resize(txn, id, MIB(8), &err), ERANGE, "end of its block");
	assert_fails(gm_txn_resize(txn, id, 0, &err), EINVAL, "length 0");
	assert_fails(gm_txn_resize(txn, 999, MIB(1), &err), ENOENT, "999");
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(check(MIB(8), MIB(4), GM_PERM_RW), 0);
	assert_int_equal(region(id).placed, 1);
	assert_int_equal(((uint8_t *)region(id).hva)[1], 11);
	((uint8_t *)region(id).hva)[MIB(3)] = 12;
	txn = begin();
	assert_ok(gm_txn_resize(txn, id, MIB(2), &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(check(MIB(8), MIB(2) + 1, GM_PERM_R), -EFAULT);
	txn = begin();
	assert_ok(gm_txn_resize(txn, id, MIB(4), &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(((uint8_t *)region(id).hva)[MIB(3)], 12);
	gm_block_put(block);
	stop();
}

static void memory_behind_addresses_is_replaced(void **state)
{
	struct gm_block *block = make(BLOCK(.len = MIB(1)));
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start(NULL);
	id = add(0, MIB(1));
	((uint8_t *)region(id).hva)[0] = 1;
	hva_of(block)[0] = 2;
	txn = begin();
	assert_fails(gm_txn_replace(txn, id, DESC(.gpa = MIB(1), .block = block), &err), EINVAL,
		"own address");
	assert_fails(gm_txn_replace(txn, id, DESC(.gpa = 0, .len = KIB(4), .block = block), &err),
		EINVAL, "own address");
	assert_ok(gm_txn_replace(txn, id, DESC(.gpa = 0, .block = block), &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(((uint8_t *)region(id).hva)[0], 2);
	assert_int_equal(region(id).placed, 1);
	txn = begin();
	assert_ok(gm_txn_replace(
		txn, id, DESC(.gpa = 0, .backing = BLOCK(.flags = GM_BLOCK_SHARE)), &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(((uint8_t *)region(id).hva)[0], 0);
	assert_int_equal(region(id).placed, 1);
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(hva_of(block)[0], 2);
	gm_block_put(block);
	stop();
}

static void permissions_change_for_the_next_section(void **state)
{
	const struct gm_view *old;
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start(NULL);
	id = add(0, MIB(1));
	old = gm_reader_enter(reader);
	txn = begin();
	assert_fails(gm_txn_protect(txn, id, 0, &err), EINVAL, "at least one");
	assert_fails(gm_txn_protect(txn, id, 16, &err), EINVAL, "0x10");
	assert_ok(gm_txn_protect(txn, id, GM_PERM_R, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(gm_view_check(old, 0, 1, GM_PERM_W), 0);
	gm_reader_leave(reader);
	assert_int_equal(check(0, 1, GM_PERM_W), -EACCES);
	assert_int_equal(check(0, MIB(1), GM_PERM_R), 0);
	stop();
}

/* Memory that comes while a section goes on: the section's map stays as it was, however much comes. */
static void several_regions_come_for_the_next_section(void **state)
{
	const struct gm_view *old;
	struct gm_txn *txn;

	(void)state;
	start(NULL);
	add(0, MIB(1));
	add(MIB(1), MIB(1));
	old = gm_reader_enter(reader);
	txn = begin();
	for (uint64_t i = 4; i < 7; i++) {
		assert_ok(gm_txn_add(
			txn, DESC(.gpa = MIB(i), .backing = BLOCK(.len = MIB(1))), NULL, &err));
		assert_fails(gm_txn_add(txn, DESC(.gpa = MIB(i), .backing = BLOCK(.len = KIB(4))),
				     NULL, &err),
			EEXIST, "overlaps");
	}
	assert_int_equal(check(MIB(4), 1, GM_PERM_R), -EFAULT);
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(gm_view_check(old, 0, MIB(2), GM_PERM_RW), 0);
	for (uint64_t i = 4; i < 7; i++) {
		assert_int_equal(gm_view_check(old, MIB(i), 0, 0), -EFAULT);
		assert_int_equal(check(MIB(i), MIB(1), GM_PERM_RW), 0);
	}
	gm_reader_leave(reader);
	assert_int_equal(check(0, MIB(2), GM_PERM_RW), 0);
	assert_int_equal(check(MIB(4), MIB(3), GM_PERM_RW), 0);
	assert_int_equal(check(0, MIB(7), 0), -EFAULT);
	stop();
}

static void a_stuck_reader_is_named_and_nothing_changes(void **state)
{
	struct gm_reader *second;
	const struct gm_view *view;
	uint64_t generation;
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .timeout_ns = 20000000));
	assert_ok(gm_reader_create(space, "stuck-one", &second, &err));
	id = add(0, MIB(1));
	((uint8_t *)region(id).hva)[0] = 5;
	view = gm_reader_enter(second);
	generation = gm_view_generation(view);
	txn = begin();
	assert_ok(gm_txn_replace(
		txn, id, DESC(.gpa = 0, .backing = BLOCK(.flags = GM_BLOCK_SHARE)), &err));
	assert_fails(gm_txn_commit(txn, &err), ETIMEDOUT, "stuck-one");
	assert_null(strstr(err.text, "first"));
	/* The old memory is there for old and new sections. */
	assert_int_equal(gm_view_check(view, 0, MIB(1), GM_PERM_RW), 0);
	assert_int_equal(check(0, MIB(1), GM_PERM_RW), 0);
	assert_int_equal(((uint8_t *)region(id).hva)[0], 5);
	assert_true(gm_view_generation(gm_reader_enter(reader)) > generation);
	gm_reader_leave(reader);
	assert_true(gm_space_reclaim(space) == -EBUSY);
	/* The plan is still open: once the reader has left it goes through. */
	gm_reader_leave(second);
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(((uint8_t *)region(id).hva)[0], 0);
	gm_reader_enter(second);
	assert_ok(gm_space_remove(space, id, &err));
	assert_true(gm_space_reclaim(space) > 0);
	assert_fails(gm_space_wait(space, 1000000, &err), ETIMEDOUT, "stuck-one");
	gm_reader_leave(second);
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(gm_space_reclaim(space), 0);
	gm_reader_destroy(second);
	stop();
}

static void sections_nest(void **state)
{
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .timeout_ns = 5000000));
	id = add(0, MIB(1));
	gm_reader_enter(reader);
	gm_reader_enter(reader);
	gm_reader_leave(reader);
	assert_ok(gm_space_remove(space, id, &err));
	assert_fails(gm_space_wait(space, 0, &err), ETIMEDOUT, "first");
	gm_reader_leave(reader);
	assert_ok(gm_space_wait(space, 0, &err));
	stop();
}

static void one_transaction_at_a_time(void **state)
{
	struct gm_txn *txn;
	struct gm_txn *other;

	(void)state;
	start(NULL);
	txn = begin();
	assert_fails(gm_txn_begin(space, &other, &err), EBUSY, "another change");
	assert_fails(
		gm_space_add(space, DESC(.gpa = 0, .backing = BLOCK(.len = KIB(4))), NULL, &err),
		EBUSY, "another change");
	gm_txn_abort(txn);
	gm_txn_abort(NULL);
	add(0, KIB(4));
	stop();
}

static void an_aborted_plan_leaves_nothing(void **state)
{
	struct gm_block *block = make(BLOCK(.len = MIB(1)));
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start(NULL);
	id = add(0, MIB(1));
	txn = begin();
	assert_ok(
		gm_txn_add(txn, DESC(.gpa = MIB(1), .backing = BLOCK(.len = MIB(1))), NULL, &err));
	assert_ok(gm_txn_add(txn, DESC(.gpa = MIB(4), .block = block), NULL, &err));
	assert_ok(gm_txn_protect(txn, id, GM_PERM_R, &err));
	assert_ok(gm_txn_move(txn, id, GIB(1), &err));
	gm_txn_abort(txn);
	assert_int_equal(check(0, MIB(1), GM_PERM_RWX), 0);
	assert_int_equal(check(MIB(1), 1, GM_PERM_R), -EFAULT);
	assert_int_equal(check(GIB(1), 1, GM_PERM_R), -EFAULT);
	assert_int_equal(region(add(MIB(1), MIB(1))).placed, 1);
	gm_block_put(block);
	stop();
}

static void a_space_is_built_whole_or_not_at_all(void **state)
{
	const struct gm_region_desc good[] = {
		{.size = sizeof(*good), .gpa = 0, .backing = BLOCK(.len = KIB(640), .name = "low")},
		{.size = sizeof(*good),
			.gpa = MIB(1),
			.backing = BLOCK(.len = MIB(15), .name = "main", .flags = GM_BLOCK_SHARE)},
		{.size = sizeof(*good),
			.gpa = GIB(4),
			.backing = BLOCK(.len = MIB(64), .name = "high",
				.pages = {{GM_PAGE_THP}, {GM_PAGE_BASE}})},
	};
	struct gm_region_desc bad[3];
	struct gm_space *built = (void *)1;

	(void)state;
	memcpy(bad, good, sizeof(bad));
	bad[2].gpa = KIB(8);
	assert_fails(gm_space_build(NULL, bad, 3, &built, &err), EEXIST, "overlaps");
	assert_int_equal(err.gpa, KIB(8));
	assert_ptr_equal(built, (void *)1);
	assert_ok(gm_space_build(NULL, good, 3, &space, &err));
	assert_ok(gm_reader_create(space, NULL, &reader, &err));
	assert_int_equal(check(GIB(4), MIB(64), GM_PERM_RWX), 0);
	stop();
	/* In any order, and of nothing. */
	for (size_t i = 0; i < 3; i++)
		bad[i] = good[2 - i];
	assert_ok(gm_space_build(NULL, bad, 3, &space, &err));
	assert_ok(gm_reader_create(space, NULL, &reader, &err));
	assert_int_equal(check(0, KIB(640), GM_PERM_RWX), 0);
	assert_int_equal(check(MIB(1), MIB(15), GM_PERM_RWX), 0);
	assert_int_equal(check(KIB(640) - 1, 2, GM_PERM_R), -EFAULT);
	stop();
	assert_ok(gm_space_build(NULL, NULL, 0, &space, &err));
	assert_ok(gm_reader_create(space, NULL, &reader, &err));
	assert_int_equal(check(0, 1, GM_PERM_R), -EFAULT);
	stop();
}

static void host_addresses_are_found_again(void **state)
{
	struct gm_block *shared = make(BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE));
	const struct gm_view *view;
	uint64_t top;
	uint64_t gpa;
	uint64_t id;

	(void)state;
	start(NULL);
	id = add(MIB(1), MIB(1));
	top = add(UINT64_C(1) << 62, MIB(1));
	assert_ok(gm_space_add(space, DESC(.gpa = MIB(8), .block = shared), NULL, &err));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_view_gpa(view, (uint8_t *)region(id).hva + 77, &gpa), 0);
	assert_int_equal(gpa, MIB(1) + 77);
	assert_int_equal(gm_view_gpa(view, (uint8_t *)region(top).hva + MIB(1) - 1, &gpa), 0);
	assert_int_equal(gpa, (UINT64_C(1) << 62) + MIB(1) - 1);
	assert_int_equal(gm_view_gpa(view, (uint8_t *)region(id).hva - 1, &gpa), -EFAULT);
	assert_int_equal(gm_view_gpa(view, &gpa, &gpa), -EFAULT);
	gm_reader_leave(reader);
	gm_block_put(shared);
	stop();
}

static void a_space_without_a_window_gives_the_same_answers(void **state)
{
	uint64_t a;
	uint64_t b;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
	a = add(0, MIB(1));
	b = add(MIB(1), MIB(1));
	assert_int_equal(region(a).placed, 0);
	assert_int_equal(check(0, MIB(2), GM_PERM_RWX), 0);
	assert_int_equal(check(0, MIB(2) + 1, GM_PERM_R), -EFAULT);
	assert_ok(gm_space_remove(space, b, &err));
	assert_int_equal(check(0, MIB(2), GM_PERM_RWX), -EFAULT);
	stop();
}

static unsigned int entered;
static unsigned int waited;

static void own_enter(void *ctx)
{
	(void)ctx;
	entered++;
}

static void own_leave(void *ctx)
{
	(void)ctx;
	entered--;
}

static int own_wait(void *ctx, uint64_t timeout_ns)
{
	(void)ctx;
	(void)timeout_ns;
	waited++;
	return entered ? -ETIMEDOUT : 0;
}

static void an_embedder_may_bring_his_own_sections(void **state)
{
	const struct gm_section_ops ops = {own_enter, own_leave, own_wait, NULL};
	const struct gm_section_ops half = {own_enter, own_leave, NULL, NULL};
	uint64_t id;

	(void)state;
	assert_fails(gm_space_create(GM_OPTS(gm_space_opts, .sections = &half), &space, &err),
		EINVAL, "all three");
	start(GM_OPTS(gm_space_opts, .sections = &ops));
	id = add(0, MIB(1));
	gm_reader_enter(reader);
	assert_int_equal(entered, 1);
	assert_ok(gm_space_remove(space, id, &err));
	assert_fails(gm_space_wait(space, 0, &err), ETIMEDOUT, "embedder's own");
	gm_reader_leave(reader);
	assert_int_equal(entered, 0);
	assert_ok(gm_space_wait(space, 0, &err));
	assert_true(waited >= 2);
	stop();
}

static void a_header_of_another_version_is_refused(void **state)
{
	struct gm_reader *other;

	(void)state;
	start(NULL);
	assert_fails(gm_reader_create_checked(space, "x", sizeof(struct gm_view) + 8,
			     GM_VIEW_VERSION, NULL, NULL, &other, &err),
		ENOTSUP, "version");
	assert_fails(gm_reader_create_checked(space, "x", sizeof(struct gm_view),
			     GM_VIEW_VERSION + 1, NULL, NULL, &other, &err),
		ENOTSUP, "version");
	assert_fails(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = (UINT64_C(1) << 46) + 1),
			     &space, &err),
		EINVAL, "2^46");
	stop();
}

static void a_window_of_2_to_46_bytes_can_be_reserved(void **state)
{
	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 46));
	assert_int_equal(region(add((UINT64_C(1) << 46) - MIB(2), MIB(2))).placed, 1);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_lies_at_base_plus_gpa),
		cmocka_unit_test(edges_of_the_address_space_are_ordinary),
		cmocka_unit_test(bad_regions_are_refused_and_named),
		cmocka_unit_test(kinds_have_their_permissions),
		cmocka_unit_test(an_unplaced_block_keeps_its_bytes_when_added),
		cmocka_unit_test(memory_without_an_fd_is_in_one_place),
		cmocka_unit_test(a_removed_block_lives_on_with_its_owner),
		cmocka_unit_test(a_region_moves_with_its_bytes),
		cmocka_unit_test(a_region_shrinks_and_grows_within_its_block),
		cmocka_unit_test(memory_behind_addresses_is_replaced),
		cmocka_unit_test(permissions_change_for_the_next_section),
		cmocka_unit_test(several_regions_come_for_the_next_section),
		cmocka_unit_test(a_stuck_reader_is_named_and_nothing_changes),
		cmocka_unit_test(sections_nest),
		cmocka_unit_test(one_transaction_at_a_time),
		cmocka_unit_test(an_aborted_plan_leaves_nothing),
		cmocka_unit_test(a_space_is_built_whole_or_not_at_all),
		cmocka_unit_test(host_addresses_are_found_again),
		cmocka_unit_test(a_space_without_a_window_gives_the_same_answers),
		cmocka_unit_test(an_embedder_may_bring_his_own_sections),
		cmocka_unit_test(a_header_of_another_version_is_refused),
		cmocka_unit_test(a_window_of_2_to_46_bytes_can_be_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
