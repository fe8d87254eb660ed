/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_space_cost.c - what a space of 10 000 regions takes, and what changing one of them takes.
 *
 * Memory is counted exactly, with what malloc adds; time is bench/bench_space.c's.
 */
#include <guestmem/txn.h>
#include <stdio.h>

#include "fault.h"
#include "memory/space.h"
#include "random.h"
#include "support.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define REGIONS 10000u
#define PAGE UINT64_C(4096)
#define MALLOC 16u /* what an allocation takes besides */

static struct gm_error err;
static struct gm_space *space;
static struct gm_block *block;
static uint64_t ids[REGIONS];

/* One page of memory in every two, all of one block. */
static void fill(void)
{
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	for (uint64_t i = 0; i < REGIONS; i++)
		assert_ok(gm_txn_add(txn,
			DESC(.gpa = 2 * i * PAGE, .len = PAGE, .block = block,
				.block_off = i * PAGE),
			&ids[i], &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_ok(gm_space_wait(space, 0, &err));
}

static void build(void)
{
	fault_set(NULL);
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW), &space, &err));
	assert_ok(gm_block_create(
		GM_OPTS(gm_block_opts, .len = REGIONS * PAGE, .flags = GM_BLOCK_SHARE), &block,
		&err));
	fill();
}

static void drop(void)
{
	gm_space_destroy(space);
	gm_block_put(block);
}

static size_t leaf_size(const struct gm_leaf *leaf)
{
	return gm_leaf_size(leaf->nr, leaf->kept);
}

static size_t slots_size(const uintptr_t *slots, uint32_t nr)
{
	size_t size = 0;

	for (uint32_t i = 0; i < nr; i++) {
		if (slots[i] == gm_slot_empty())
			continue;
		if (gm_slot_is_dir(slots[i])) {
			struct gm_dir *dir = gm_slot_dir(slots[i]);
			uint32_t inner = dir->mask + 1;

			size += MALLOC + sizeof(*dir) + inner * sizeof(uintptr_t) +
				slots_size(gm_dir_slots(dir), inner);
		} else {
			size += MALLOC + leaf_size(gm_slot_leaf(slots[i]));
		}
	}
	return size;
}

static void assert_cost(const char *when)
{
	const struct gm_view *view = space->view;
	size_t size = sizeof(*space) + sizeof(struct gm_view_full) + 2 * MALLOC +
		      view->nr_slots * sizeof(uintptr_t) + slots_size(view->slots, view->nr_slots);

	size += space->nodes.nr_chunks * (64 * sizeof(struct gm_node) + MALLOC);
	/* The list of chunks has room for a power of two. */
	size += 2 * space->nodes.nr_chunks * sizeof(void *) + MALLOC;
	printf("  %zu.%zu bytes a region, %s\n", size / REGIONS, size * 10 / REGIONS % 10, when);
	assert_true(size <= 200 * REGIONS);
}

/* New ones, and those that come in the place of others: their numbers have an upper half. */
static void a_region_takes_at_most_200_bytes(void **state)
{
	struct gm_txn *txn;

	(void)state;
	build();
	assert_cost("new");
	assert_ok(gm_txn_begin(space, &txn, &err));
	for (size_t i = 0; i < REGIONS; i++)
		assert_ok(gm_txn_remove(txn, ids[i], &err));
	assert_ok(gm_txn_commit(txn, &err));
	fill();
	assert_true(ids[0] >> 32 && ids[REGIONS - 1] >> 32);
	assert_cost("in the place of others");
	drop();
}

/* Bytes that were allocated since fault_log_start(). */
static uint64_t allocated(void)
{
	size_t nr;
	const struct fault_event *events = fault_log(&nr);
	uint64_t sum = 0;

	for (size_t i = 0; i < nr; i++) {
		switch (events[i].fn) {
		case FAULT_gm_sys_alloc:
		case FAULT_gm_sys_alloc_aligned:
			sum += events[i].len;
			break;
		case FAULT_gm_sys_alloc_array:
		case FAULT_gm_sys_realloc:
			sum += events[i].len * events[i].off;
			break;
		default:
			break;
		}
	}
	return sum;
}

static void change(uint64_t i, unsigned int how)
{
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	switch (how % 4) {
	case 0:
		assert_ok(gm_txn_protect(txn, ids[i], GM_PERM_R, &err));
		break;
	case 1:
		assert_ok(gm_txn_protect(txn, ids[i], GM_PERM_RWX, &err));
		break;
	case 2:
		assert_ok(gm_txn_remove(txn, ids[i], &err));
		break;
	default:
		assert_ok(gm_txn_add(txn,
			DESC(.gpa = 2 * i * PAGE, .len = PAGE, .block = block,
				.block_off = i * PAGE),
			&ids[i], &err));
	}
	assert_ok(gm_txn_commit(txn, &err));
}

static void a_change_of_one_allocates_at_most_64_kib(void **state)
{
	struct rng rng = {test_seed(5)};
	uint64_t most = 0;

	(void)state;
	build();
	for (unsigned int round = 0; round < 400; round++) {
		uint64_t i = rng_below(&rng, REGIONS);

		for (unsigned int how = 0; how < 4; how++) {
			uint64_t took;

			fault_log_start();
			change(i, how);
			fault_log_stop();
			took = allocated();
			if (took > most)
				most = took;
		}
	}
	printf("  at most %lu bytes\n", (unsigned long)most);
	assert_true(most > 0 && most <= KIB(64));
	drop();
}

/* What is retired without a reader that needs it does not pile up. */
static void changes_hold_nothing_back(void **state)
{
	long blocks;

	(void)state;
	build();
	for (unsigned int how = 0; how < 8; how++)
		change(how / 4, how);
	assert_ok(gm_space_wait(space, 0, &err));
	blocks = fault_blocks();
	for (unsigned int i = 0; i < 100 * support_scale(1000) / 10; i++)
		change(i / 4 % REGIONS, i);
	assert_ok(gm_space_wait(space, 0, &err));
	assert_true(fault_blocks() < blocks + 64);
	printf("figure: publishes %lu\n", 100 * (unsigned long)support_scale(1000) / 10);
	drop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_region_takes_at_most_200_bytes),
		cmocka_unit_test(a_change_of_one_allocates_at_most_64_kib),
		cmocka_unit_test(changes_hold_nothing_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
