/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_grant_memory.c - grants of memory that is not plain: parts that are unplugged or private, memory that
 * the source has not mapped, memory of a device; and logs that see what is written through a grant.
 */
#include "one_grant.h"

#include <guestmem/log.h>
#include <guestmem/part.h>
#include <guestmem/slice.h>

static void assert_byte(uint64_t gpa, int want)
{
	uint8_t byte = 0;
	int rc = gm_read_u8(gm_reader_enter(reader), gpa, &byte);

	gm_reader_leave(reader);
	if (want < 0)
		assert_int_equal(rc, want);
	else
		assert_int_equal(rc, 0);
	if (want >= 0)
		assert_int_equal(byte, want);
}

static void test_unplugged_and_private_parts_are_not_granted(void **state)
{
	struct gm_block *private_block;
	uint64_t id;

	(void)state;
	make_source();
	assert_ok(gm_block_create(
		BLOCK(.len = 8 * PAGE, .flags = GM_BLOCK_SHARE), &private_block, &err));
	assert_ok(gm_space_add(source,
		DESC(.gpa = MIB(2), .granule = PAGE, .private_block = private_block,
			.backing = BLOCK(.len = 8 * PAGE, .flags = GM_BLOCK_SHARE)),
		&id, &err));
	memset(host_of(source, MIB(2)), 0x77, 8 * PAGE);
	assert_ok(gm_space_set_part(source, id, 2 * PAGE, PAGE, GM_PART_UNPLUGGED, &err));
	make_grant(PARTS({.gpa = MIB(2), .len = 8 * PAGE, .perms = GM_PERM_RW}), 0);
	assert_byte(MIB(2) + PAGE, 0x77);
	assert_byte(MIB(2) + 2 * PAGE, -EFAULT);
	/* While the grant is there. */
	assert_ok(gm_space_set_part(source, id, 4 * PAGE, 2 * PAGE, GM_PART_PRIVATE, &err));
	assert_byte(MIB(2) + 4 * PAGE, -EFAULT);
	assert_byte(MIB(2) + 6 * PAGE, 0x77);
	assert_ok(gm_grant_wait(grant, 0, &err));
	assert_ok(gm_space_set_part(source, id, 2 * PAGE, 3 * PAGE, GM_PART_SHARED, &err));
	assert_byte(MIB(2) + 2 * PAGE, 0x77);
	assert_byte(MIB(2) + 4 * PAGE, 0x77);
	assert_byte(MIB(2) + 5 * PAGE, -EFAULT);
	drop_all();
	gm_block_put(private_block);
}

static void test_memory_that_the_source_has_not_mapped(void **state)
{
	struct gm_region_info info = {.size = sizeof(info)};

	(void)state;
	make_source();
	assert_ok(gm_space_add(source,
		DESC(.gpa = MIB(2), .backing = BLOCK(.len = 4 * PAGE, .backing = GM_BACKING_MEMFD,
					    .flags = GM_BLOCK_UNMAPPED)),
		NULL, &err));
	make_grant(PARTS({.gpa = MIB(2) + PAGE, .len = 2 * PAGE, .perms = GM_PERM_RW}), 0);
	assert_int_equal(gm_write_u8(gm_reader_enter(reader), MIB(2) + PAGE, 0x42), 0);
	gm_reader_leave(reader);
	assert_byte(MIB(2) + PAGE, 0x42);
	assert_byte(MIB(2), -EFAULT);
	/* Mapped in the grant, in the source it is not. */
	assert_non_null(host_of(gm_grant_space(grant), MIB(2) + PAGE));
	assert_int_equal(gm_space_next(source, MIB(2), &info), 0);
	assert_null(info.hva);
	drop_all();
}

static void test_memory_of_a_device_is_not_granted(void **state)
{
	(void)state;
	make_source();
	assert_ok(gm_space_add(source,
		DESC(.gpa = MIB(2), .kind = GM_REGION_DEVMEM,
			.backing = BLOCK(.len = 4 * PAGE, .flags = GM_BLOCK_SHARE)),
		NULL, &err));
	make_grant(PARTS({.gpa = MIB(2), .len = 4 * PAGE, .perms = GM_PERM_RW}), 0);
	assert_byte(MIB(2), -EFAULT);
	drop_all();
}

static void test_logs_see_what_is_written_through_a_grant(void **state)
{
	const struct gm_view *view;
	struct gm_grant *inner;
	struct gm_reader *deep;
	struct gm_log *own;
	struct gm_log *log;
	struct iovec slice;
	struct gm_pin pin;

	(void)state;
	make_source();
	make_grant(PARTS({.gpa = 0, .len = 8 * PAGE, .perms = GM_PERM_RW}), 0);
	assert_ok(gm_grant_create(gm_grant_space(grant),
		GM_OPTS(gm_grant_opts, .nr_parts = 1,
			.parts =
				&(const struct gm_grant_part){
					.gpa = 4 * PAGE, .len = PAGE, .perms = GM_PERM_RW}),
		&inner, &err));
	assert_ok(gm_reader_create(gm_grant_space(inner), "inner", &deep, &err));
	assert_ok(gm_log_create(source, NULL, &log, &err));
	for (int round = 0; round < 3; round++) {
		view = gm_reader_enter(reader);
		assert_int_equal(gm_write_u8(view, PAGE, 1), 0);
		assert_int_equal(gm_fill(view, 2 * PAGE, 1, PAGE, NULL), 0);
		assert_int_equal(
			gm_atomic_fetch_add_u8(view, 3 * PAGE, __ATOMIC_SEQ_CST, 1, NULL), 0);
		gm_reader_leave(reader);
		assert_int_equal(gm_write_u8(gm_reader_enter(deep), 4 * PAGE, 1), 0);
		gm_reader_leave(deep);
		assert_int_equal(gm_log_count(log, PAGE, 4 * PAGE), 4);
		assert_int_equal(gm_log_count(log, 0, 0), 4);
		/* A log of the grant's own in between changes nothing for the source's. */
		if (round == 1)
			assert_ok(gm_log_create(gm_grant_space(grant), NULL, &own, &err));
		gm_log_reset(log, 0, LIMIT);
		view = gm_reader_enter(reader);
		assert_int_equal(gm_pin_slice(view, 5 * PAGE, 8, GM_PERM_W, &slice, &pin), 0);
		gm_reader_leave(reader);
		gm_log_reset(log, 0, LIMIT);
		gm_pin_put(&pin);
		assert_int_equal(gm_log_count(log, 0, 0), 1);
		gm_log_reset(log, 0, LIMIT);
	}
	assert_int_equal(gm_log_count(own, 0, 0), 5);
	assert_ok(gm_log_destroy(own, &err));
	assert_ok(gm_log_destroy(log, &err));
	gm_reader_destroy(deep);
	assert_ok(gm_grant_destroy(inner, &err));
	drop_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unplugged_and_private_parts_are_not_granted),
		cmocka_unit_test(test_memory_that_the_source_has_not_mapped),
		cmocka_unit_test(test_memory_of_a_device_is_not_granted),
		cmocka_unit_test(test_logs_see_what_is_written_through_a_grant),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
