/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtq_bad.c - what a driver or a device writes against the rules is refused with its name and changes nothing;
 * memory that is gone is an error until it is back.
 */
#include "one_queue.h"

#define NR 8u
#define NEXT 1u
#define WRITE 2u
#define INDIRECT 4u
#define AVAIL 0x80u
#define USED 0x8000u

static struct gm_chain_elem elems[16];
static struct gm_virtq_item item;

static void set_desc(uint64_t table, uint32_t i, uint64_t addr, uint32_t len, uint32_t flags,
	uint32_t id, bool packed)
{
	poke(table + 16 * i, addr, 8);
	poke(table + 16 * i + 8, len, 4);
	poke(table + 16 * i + (packed ? 12 : 14), id, 2);
	poke(table + 16 * i + (packed ? 14 : 12), flags, 2);
}

/* Of a split queue: available ring and index. */
static void offer(uint16_t at, uint16_t head)
{
	poke(DRIVER_AT + 4 + 2 * (at % NR), head, 2);
	poke(DRIVER_AT + 2, at + 1, 2);
}

static int pop(void)
{
	int rc = gm_virtq_pop(vq, enter(), elems, 16, &item, &err);

	leave();
	return rc;
}

/* It is refused again and again, and nothing is taken. */
static void assert_refused(const char *word)
{
	uint32_t base = gm_virtq_base(vq);

	for (int i = 0; i < 2; i++) {
		err = (struct gm_error){0};
		assert_fails(pop(), EPROTO, word);
		assert_int_equal(gm_virtq_base(vq), base);
		assert_int_equal(gm_virtq_out(vq), 0);
	}
}

static void what_a_split_driver_may_not_do(void **state)
{
	(void)state;
	start_queue(NR, 0);
	set_desc(DESC_AT, 0, BUFFERS_AT, 8, 0, 0, false);
	poke(DRIVER_AT + 2, NR + 1, 2);
	assert_refused("the driver is at 9, the device at 0, of 8");
	poke(DRIVER_AT + 2, 0xffff, 2);
	assert_refused("at 65535");
	offer(0, NR);
	assert_refused("descriptor 8 of 8 is available");
	offer(0, 0);
	set_desc(DESC_AT, 0, BUFFERS_AT, 8, NEXT, NR, false);
	assert_refused("descriptor 8 of 8 is next");
	set_desc(DESC_AT, 0, BUFFERS_AT, 8, NEXT, 1, false);
	set_desc(DESC_AT, 1, BUFFERS_AT, 8, NEXT, 0, false);
	assert_refused("circle");
	set_desc(DESC_AT, 1, BUFFERS_AT, 8, NEXT, 1, false);
	assert_refused("circle");
	set_desc(DESC_AT, 0, TABLES_AT, 16, INDIRECT, 1, false);
	assert_refused("not negotiated");
	set_desc(DESC_AT, 0, BUFFERS_AT, 8, WRITE | NEXT, 1, false);
	set_desc(DESC_AT, 1, BUFFERS_AT, 8, 0, 0, false);
	assert_refused("behind a writable one");
	set_desc(DESC_AT, 0, UINT64_MAX - 6, 8, 0, 0, false);
	assert_refused("wrap");
	/* And then it does well. */
	set_desc(DESC_AT, 0, UINT64_MAX - 7, 8, 0, 0, false);
	assert_int_equal(pop(), 1);
	assert_int_equal(gm_chain_left(&item.chain, GM_CHAIN_READABLE), 8);
	stop_queue();
}

static void a_chain_of_4_gib_at_most(void **state)
{
	struct gm_virtq_opts opts = queue_opts(NR, 0);

	(void)state;
	start_queue(NR, 0);
	set_desc(DESC_AT, 0, 0, UINT32_MAX, NEXT, 1, false);
	set_desc(DESC_AT, 1, 0, 2, 0, 0, false);
	offer(0, 0);
	assert_refused("more than 4294967296 bytes");
	set_desc(DESC_AT, 1, 0, 1, 0, 0, false);
	assert_int_equal(pop(), 1);
	gm_virtq_destroy(vq);
	opts.max_len = 100;
	assert_ok(gm_virtq_create(&opts, &vq, &err));
	assert_ok(gm_virtq_start(vq, enter(), 0, &err));
	leave();
	assert_refused("more than 100 bytes");
	stop_queue();
}

static void tables_that_cannot_be(void **state)
{
	(void)state;
	start_queue(NR, GM_VIRTQ_INDIRECT);
	offer(0, 0);
	set_desc(TABLES_AT, 0, BUFFERS_AT, 8, NEXT, 1, false);
	set_desc(TABLES_AT, 1, BUFFERS_AT, 8, 0, 0, false);
	for (uint32_t len = 0; len < 20; len += len == 15 ? 2 : 5) {
		set_desc(DESC_AT, 0, TABLES_AT, len, INDIRECT, 0, false);
		assert_refused("has a table of");
	}
	set_desc(DESC_AT, 0, TABLES_AT, 16 * 32769, INDIRECT, 0, false);
	assert_refused("has a table of 524304 bytes");
	set_desc(DESC_AT, 0, UINT64_MAX - 30, 32, INDIRECT, 0, false);
	assert_refused("wraps past 2^64");
	set_desc(DESC_AT, 0, TABLES_AT, 32, INDIRECT | NEXT, 1, false);
	assert_refused("a table and flags 0x5");
	set_desc(DESC_AT, 0, TABLES_AT, 32, INDIRECT | WRITE, 1, false);
	assert_refused("a table and flags 0x6");
	set_desc(DESC_AT, 0, TABLES_AT, 16, INDIRECT, 0, false);
	assert_refused("has 1 entries and leads to entry 1");
	set_desc(DESC_AT, 0, TABLES_AT, 32, INDIRECT, 0, false);
	set_desc(TABLES_AT, 1, BUFFERS_AT, 8, NEXT, 0, false);
	assert_refused("circle");
	set_desc(TABLES_AT, 1, BUFFERS_AT, 16, INDIRECT, 0, false);
	assert_refused("entry 1 of the table of descriptor 0 has a table");
	/* A table behind others is allowed. */
	set_desc(DESC_AT, 0, BUFFERS_AT, 4, NEXT, 3, false);
	set_desc(DESC_AT, 3, TABLES_AT, 32, INDIRECT, 0, false);
	set_desc(TABLES_AT, 1, BUFFERS_AT, 16, WRITE, 0, false);
	assert_int_equal(pop(), 1);
	assert_int_equal(gm_chain_left(&item.chain, GM_CHAIN_READABLE), 12);
	assert_int_equal(gm_chain_left(&item.chain, GM_CHAIN_WRITABLE), 16);
	stop_queue();
}

static void more_elements_than_there_is_room_for(void **state)
{
	(void)state;
	start_queue(NR, GM_VIRTQ_INDIRECT);
	for (uint32_t i = 0; i < 17; i++)
		set_desc(TABLES_AT, i, BUFFERS_AT, 8, i < 16 ? NEXT : 0, i + 1, false);
	set_desc(DESC_AT, 0, TABLES_AT, 17 * 16, INDIRECT, 0, false);
	offer(0, 0);
	assert_fails(pop(), E2BIG, "more than 16 elements");
	set_desc(TABLES_AT, 15, BUFFERS_AT, 8, 0, 0, false);
	assert_int_equal(pop(), 1);
	stop_queue();
}

static void what_a_packed_driver_may_not_do(void **state)
{
	(void)state;
	start_queue(NR, GM_VIRTQ_PACKED | GM_VIRTQ_INDIRECT);
	for (uint32_t i = 0; i < NR; i++)
		set_desc(DESC_AT, i, BUFFERS_AT, 8, NEXT | AVAIL, 7, true);
	assert_refused("does not end");
	set_desc(DESC_AT, 0, TABLES_AT, 16, NEXT | INDIRECT | AVAIL, 7, true);
	assert_refused("a table and flags");
	set_desc(TABLES_AT, 0, BUFFERS_AT, 8, INDIRECT, 0, true);
	set_desc(DESC_AT, 0, TABLES_AT, 16, INDIRECT | AVAIL, 7, true);
	assert_refused("has a table");
	set_desc(TABLES_AT, 0, BUFFERS_AT, 8, WRITE, 0, true);
	set_desc(TABLES_AT, 1, BUFFERS_AT, 8, 0, 0, true);
	set_desc(DESC_AT, 0, TABLES_AT, 32, INDIRECT | AVAIL, 7, true);
	assert_refused("behind a writable one");
	set_desc(DESC_AT, 0, TABLES_AT, 16, INDIRECT | AVAIL, 7, true);
	assert_int_equal(pop(), 1);
	assert_int_equal(item.id, 7);
	/* What is taken cannot be part of a new chain. */
	assert_int_equal(pop(), -EPROTO);
	assert_non_null(strstr(err.text, "1 of 8 entries are taken"));
	stop_queue();
}

/* It makes the same descriptor available for ever. */
static void no_more_chains_than_entries(void **state)
{
	(void)state;
	start_queue(NR, 0);
	set_desc(DESC_AT, 0, BUFFERS_AT, 8, 0, 0, false);
	for (uint16_t i = 0; i < NR; i++) {
		offer(i, 0);
		assert_int_equal(pop(), 1);
	}
	assert_int_equal(pop(), 0);
	offer(NR, 0);
	assert_fails(pop(), EPROTO, "all 8 are taken");
	assert_int_equal(gm_virtq_base(vq), NR);
	assert_int_equal(gm_virtq_push(vq, enter(), &item, 0), 0);
	leave();
	assert_int_equal(pop(), 1);
	stop_queue();
}

static void memory_that_is_gone_comes_back(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		const struct gm_chain_elem elem = {.gpa = BUFFERS_AT, .len = 8};
		struct gm_block *block;
		struct gm_region_info info;

		start_queue(NR, flags);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(
				gm_virtq_driver_add(driver, enter(), &elem, 1, 0, &item), 0);
			assert_true(gm_virtq_driver_show(driver, gm_reader_enter(reader)) >= 0);
			leave();
			leave();
		}
		assert_int_equal(pop(), 1);
		info = region(ram);
		block = info.block;
		gm_block_get(block);
		assert_ok(gm_space_remove(space, ram, &err));
		assert_int_equal(gm_virtq_pop(vq, enter(), elems, 16, &item, &err), -EFAULT);
		assert_int_equal(gm_virtq_push(vq, gm_reader_enter(reader), &item, 0), -EFAULT);
		assert_int_equal(gm_virtq_wants_call(vq, gm_reader_enter(reader)), 0);
		assert_int_equal(gm_virtq_kicks(vq, gm_reader_enter(reader), true), -EFAULT);
		leave();
		leave();
		leave();
		leave();
		assert_int_equal(gm_virtq_out(vq), 1);
		assert_ok(gm_space_add(space, DESC(.gpa = 0, .block = block), &ram, &err));
		gm_block_put(block);
		assert_int_equal(gm_virtq_push(vq, enter(), &item, 0), 0);
		leave();
		assert_int_equal(pop(), 1);
		stop_queue();
	}
}

static void queues_that_cannot_be(void **state)
{
	struct gm_virtq_opts opts = queue_opts(NR, 0);
	struct gm_virtq *q;

	(void)state;
	start_queue(NR, 0);
#define REFUSED(field, value, word)                                                                \
	do {                                                                                       \
		opts = queue_opts(NR, 0);                                                          \
		opts.field = (value);                                                              \
		assert_fails(gm_virtq_create(&opts, &q, &err), EINVAL, (word));                    \
	} while (0)
	REFUSED(nr, 0, "0 entries");
	REFUSED(nr, 3, "3 entries");
	REFUSED(nr, 65536, "65536 entries");
	REFUSED(desc, DESC_AT + 8, "not aligned to 16");
	REFUSED(driver, DRIVER_AT + 1, "not aligned");
	REFUSED(device, DEVICE_AT + 2, "not aligned");
	REFUSED(flags, 0x10, "unknown flags");
	REFUSED(max_len, (UINT64_C(1) << 32) + 1, "2^32 at most");
	opts = queue_opts(NR, GM_VIRTQ_PACKED);
	opts.driver += 2;
	assert_fails(gm_virtq_create(&opts, &q, &err), EINVAL, "not aligned");
	/* Not started, and places where it cannot start. */
	opts = queue_opts(NR, 0);
	opts.device = MEMORY - 64;
	assert_ok(gm_virtq_create(&opts, &q, &err));
	assert_fails(gm_virtq_pop(q, enter(), elems, 16, &item, &err), EINVAL, "not started");
	assert_fails(gm_virtq_start(q, gm_reader_enter(reader), 0, &err), EFAULT, "device's area");
	assert_int_equal(gm_virtq_flush(q, gm_reader_enter(reader)), -EINVAL);
	assert_fails(gm_virtq_start(vq, gm_reader_enter(reader), 65536, &err), EPROTO, "0x10000");
	gm_virtq_destroy(q);
	opts = queue_opts(NR, GM_VIRTQ_PACKED);
	assert_ok(gm_virtq_create(&opts, &q, &err));
	assert_fails(gm_virtq_start(q, gm_reader_enter(reader), 0x80008008, &err), EPROTO, "place");
	assert_fails(gm_virtq_start(q, gm_reader_enter(reader), 0x80088000, &err), EPROTO, "place");
	gm_virtq_destroy(q);
	for (int i = 0; i < 6; i++)
		leave();
	stop_queue();
}

static void what_a_device_may_not_do(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		const struct gm_chain_elem elem = {
			.gpa = BUFFERS_AT, .len = 8, .flags = GM_CHAIN_WRITE};
		uint64_t entry = flags ? DESC_AT : DEVICE_AT + 4;
		const struct gm_view *view;
		uint32_t len;
		void *token;

		start_queue(NR, flags);
		view = enter();
		assert_int_equal(gm_virtq_driver_add(driver, view, &elem, 1, 0, &item), 0);
		gm_virtq_driver_show(driver, view);
		assert_int_equal(pop(), 1);
		assert_int_equal(gm_virtq_push(vq, view, &item, 9), 0);
		assert_fails(gm_virtq_driver_take(driver, view, &token, &len, &err), EPROTO,
			"9 bytes where there was room for 8");
		/* One that is not out, and one that cannot be. */
		poke(flags ? entry + 12 : entry, 1, 2);
		assert_fails(gm_virtq_driver_take(driver, view, &token, &len, &err), EPROTO,
			"gives back 1");
		poke(flags ? entry + 12 : entry, 0xffff, 2);
		assert_fails(gm_virtq_driver_take(driver, view, &token, &len, &err), EPROTO,
			"gives back 65535");
		poke(flags ? entry + 12 : entry, 0, 2);
		poke(flags ? entry + 8 : entry + 4, 8, 4);
		assert_int_equal(gm_virtq_driver_take(driver, view, &token, &len, &err), 1);
		assert_int_equal(len, 8);
		leave();
		stop_queue();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_split_driver_may_not_do),
		cmocka_unit_test(a_chain_of_4_gib_at_most),
		cmocka_unit_test(tables_that_cannot_be),
		cmocka_unit_test(more_elements_than_there_is_room_for),
		cmocka_unit_test(what_a_packed_driver_may_not_do),
		cmocka_unit_test(no_more_chains_than_entries),
		cmocka_unit_test(memory_that_is_gone_comes_back),
		cmocka_unit_test(queues_that_cannot_be),
		cmocka_unit_test(what_a_device_may_not_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
