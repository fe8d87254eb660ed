/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_memmap_fdt.c - memory maps in device trees, read back by libfdt and, where it is installed,
 * by dtc; every allocation made to fail.
 */
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "support.h"

#define TOP UINT64_MAX
#define NR(array) (sizeof(array) / sizeof((array)[0]))
#define CAP 8192

static struct gm_error err;
static _Alignas(8) char tree[CAP + 8];

static const struct gm_memmap_entry map[] = {
	{0x1000, 0x1fff, GM_MEMMAP_RESERVED, 0, 0, 0},
	{GIB(1), GIB(2) - 1, GM_MEMMAP_RAM, 0, 0, 0},
	{GIB(2), GIB(3) - 1, GM_MEMMAP_RAM, 0, 0, 0},
	{GIB(3), GIB(4) - 1, GM_MEMMAP_RAM, 1, 0, 0},
	{GIB(4), GIB(5) - 1, GM_MEMMAP_RAM, 1, GM_MEMMAP_HOTPLUG, 0},
	{GIB(5), GIB(6) - 1, GM_MEMMAP_RAM, 1, GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT, 0},
	{GIB(8), GIB(9) - 1, GM_MEMMAP_PMEM, 1, 0, 0},
	{GIB(9), GIB(9) + 0xfff, GM_MEMMAP_ACPI_NVS, 0, 0, 0},
	{TOP - 0xffff, TOP - 0xfff, GM_MEMMAP_RAM, GM_MEMMAP_NO_NODE, 0, 0},
	{TOP - 0xffe, TOP, GM_MEMMAP_SOFT_RESERVED, 0, 0, 0},
};

/* A tree with a root and a node in it; cells as said, 0 = not. */
static void make_tree(uint32_t address_cells, uint32_t size_cells)
{
	memset(tree, 0x5a, sizeof(tree));
	assert_int_equal(fdt_create_empty_tree(tree, 1024), 0);
	assert_true(fdt_add_subnode(tree, 0, "chosen") > 0);
	assert_int_equal(fdt_add_mem_rsv(tree, 0x8000, 0x1000), 0);
	if (address_cells)
		assert_int_equal(fdt_setprop_u32(tree, 0, "#address-cells", address_cells), 0);
	if (size_cells)
		assert_int_equal(fdt_setprop_u32(tree, 0, "#size-cells", size_cells), 0);
	assert_int_equal(fdt_pack(tree), 0);
}

/* The node has this stretch, node number (-1: none said) and property. */
static void must_have(const char *path, uint64_t first, uint64_t len, long numa, const char *prop)
{
	int node = fdt_path_offset(tree, path);
	const fdt64_t *reg;
	const fdt32_t *number;
	int size;

	if (node < 0)
		fail_msg("%s: %s", path, fdt_strerror(node));
	reg = fdt_getprop(tree, node, "reg", &size);
	assert_int_equal(size, 16);
	assert_int_equal(fdt64_ld(&reg[0]), first);
	assert_int_equal(fdt64_ld(&reg[1]), len);
	number = fdt_getprop(tree, node, "numa-node-id", &size);
	assert_int_equal(number ? (long)fdt32_ld(number) : -1, numa);
	assert_non_null(fdt_getprop(tree, node, prop, &size));
}

static int nr_nodes(const char *path)
{
	int parent = fdt_path_offset(tree, path);
	int nr = 0;
	int node;

	fdt_for_each_subnode(node, tree, parent) nr++;
	return nr;
}

static void must_be_whole(bool numa)
{
	assert_int_equal(fdt_check_full(tree, CAP), 0);
	assert_int_equal(fdt_totalsize(tree), CAP);
	assert_int_equal(fdt_address_cells(tree, 0), 2);
	assert_int_equal(fdt_size_cells(tree, 0), 2);
	must_have("/memory@40000000", GIB(1), GIB(2), numa ? 0 : -1, "device_type");
	must_have("/memory@c0000000", GIB(3), GIB(1), numa ? 1 : -1, "device_type");
	must_have("/memory@100000000", GIB(4), GIB(1), numa ? 1 : -1, "hotpluggable");
	must_have("/memory@ffffffffffff0000", TOP - 0xffff, 0xf001, -1, "device_type");
	must_have("/pmem@200000000", GIB(8), GIB(1), numa ? 1 : -1, "compatible");
	must_have("/reserved-memory/reserved@1000", 0x1000, 0x1000, -1, "no-map");
	must_have("/reserved-memory/nvs@240000000", GIB(9), 0x1000, -1, "no-map");
	must_have("/reserved-memory/special@fffffffffffff001", TOP - 0xffe, 0xfff, -1, "no-map");
	/* With /chosen and /reserved-memory; nothing of what is absent. */
	assert_int_equal(nr_nodes("/"), 7);
	assert_int_equal(nr_nodes("/reserved-memory"), 3);
	assert_null(
		fdt_getprop(tree, fdt_path_offset(tree, "/memory@c0000000"), "hotpluggable", NULL));
	assert_int_equal(fdt_num_mem_rsv(tree), 1);
	for (size_t i = CAP; i < sizeof(tree); i++)
		assert_int_equal(tree[i], 0x5a);
}

static void a_map_becomes_nodes(void **state)
{
	size_t needed = 0;

	(void)state;
	make_tree(0, 0);
	assert_ok(gm_memmap_fdt(map, NR(map), GM_MEMMAP_FDT_NUMA, tree, CAP, &needed, &err));
	must_be_whole(true);
	assert_int_equal(fdt_pack(tree), 0);
	assert_int_equal(fdt_totalsize(tree), needed);
	make_tree(2, 2);
	assert_ok(gm_memmap_fdt(map, NR(map), 0, tree, CAP, NULL, &err));
	must_be_whole(false);
}

static void nodes_stand_in_rising_order(void **state)
{
	int before;
	int after;

	(void)state;
	make_tree(2, 2);
	assert_ok(gm_memmap_fdt(map, NR(map), 0, tree, CAP, NULL, &err));
	before = fdt_path_offset(tree, "/memory@40000000");
	after = fdt_path_offset(tree, "/memory@c0000000");
	assert_true(before < after);
}

static void an_older_list_of_reserved_memory_grows(void **state)
{
	int node;

	(void)state;
	make_tree(2, 2);
	assert_int_equal(fdt_open_into(tree, tree, 1024), 0);
	node = fdt_add_subnode(tree, 0, "reserved-memory");
	assert_int_equal(fdt_setprop_u32(tree, node, "#address-cells", 2), 0);
	assert_int_equal(fdt_setprop_u32(tree, node, "#size-cells", 2), 0);
	assert_int_equal(fdt_setprop_empty(tree, node, "ranges"), 0);
	assert_true(fdt_add_subnode(tree, node, "mine@5000") > 0);
	assert_ok(gm_memmap_fdt(map, 2, 0, tree, CAP, NULL, &err));
	assert_int_equal(nr_nodes("/reserved-memory"), 2);
	must_have("/reserved-memory/reserved@1000", 0x1000, 0x1000, -1, "no-map");
}

/* The call fails and leaves the tree as it was. */
#define assert_refused(call, errno_value, word)                                                    \
	do {                                                                                       \
		memcpy(copy, tree, sizeof(copy));                                                  \
		assert_fails((call), (errno_value), (word));                                       \
		assert_memory_equal(copy, tree, sizeof(copy));                                     \
	} while (0)

static void what_cannot_be_added_is_refused(void **state)
{
	static char copy[sizeof(tree)];
	const struct gm_memmap_entry all = {0, TOP, GM_MEMMAP_RAM, 0, 0, 0};
	const struct gm_memmap_entry bad = {2, 1, GM_MEMMAP_RAM, 0, 0, 0};

	(void)state;
	make_tree(2, 2);
	assert_refused(gm_memmap_fdt(&all, 1, 0, tree, CAP, NULL, &err), ERANGE, "2^64");
	assert_refused(gm_memmap_fdt(&bad, 1, 0, tree, CAP, NULL, &err), EINVAL, "entry 0");
	assert_refused(gm_memmap_fdt(map, 1, 2, tree, CAP, NULL, &err), EINVAL, "flags 0x2");
	assert_refused(gm_memmap_fdt(map, 1, 0, tree, 10, NULL, &err), EINVAL, "TRUNCATED");
	make_tree(1, 2);
	assert_refused(gm_memmap_fdt(map, 2, 0, tree, CAP, NULL, &err), ENOTSUP, "#address-cells");
	make_tree(2, 1);
	assert_refused(gm_memmap_fdt(map, 2, 0, tree, CAP, NULL, &err), ENOTSUP, "#size-cells");
	make_tree(2, 2);
	assert_ok(gm_memmap_fdt(map, 2, 0, tree, CAP, NULL, &err));
	assert_refused(gm_memmap_fdt(map, 2, 0, tree, CAP, NULL, &err), EEXIST, "/memory@");
	assert_refused(gm_memmap_fdt(map, 1, 0, tree, CAP, NULL, &err), EEXIST, "/memory@");
}

static void the_room_that_is_needed_is_said(void **state)
{
	static char copy[sizeof(tree)];
	size_t needed = 0;
	size_t again = 0;

	(void)state;
	make_tree(2, 2);
	assert_refused(gm_memmap_fdt(map, NR(map), 0, tree, 600, &needed, &err), ENOBUFS, "600");
	assert_true(needed > 600 && needed < CAP);
	assert_int_equal(err.len, needed);
	assert_refused(
		gm_memmap_fdt(map, NR(map), 0, tree, needed - 1, &again, &err), ENOBUFS, "room");
	assert_int_equal(again, needed);
	memset(tree + needed, 0x5a, sizeof(tree) - needed);
	assert_ok(gm_memmap_fdt(map, NR(map), 0, tree, needed, &again, &err));
	assert_int_equal(again, needed);
	assert_int_equal(fdt_check_full(tree, needed), 0);
	assert_int_equal(tree[needed], 0x5a);
}

/* Any byte of the tree is any other: it is refused, or what comes out is a tree. */
static void broken_trees_do_no_harm(void **state)
{
	static _Alignas(8) char good[CAP];
	unsigned int taken = 0;
	size_t len;

	(void)state;
	make_tree(2, 2);
	len = fdt_totalsize(tree);
	memcpy(good, tree, len);
	for (size_t i = 0; i < len; i++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			memcpy(tree, good, len);
			tree[i] = (char)(tree[i] ^ (1 << bit));
			if (gm_memmap_fdt(map, NR(map), 0, tree, CAP, NULL, &err))
				continue;
			assert_int_equal(fdt_check_full(tree, CAP), 0);
			taken++;
		}
	}
	assert_true(taken > 0);
}

static int scenario(void *ctx)
{
	int rc;

	(void)ctx;
	make_tree(2, 2);
	rc = gm_memmap_fdt(map, NR(map), 0, tree, CAP, NULL, &err);
	if (rc)
		assert_int_equal(nr_nodes("/"), 1);
	return rc;
}

static void each_allocation_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1};

	(void)state;
	assert_int_equal(fault_sweep_opts(scenario, NULL, &opts), 2 * 2);
}

static void dtc_finds_nothing_wrong(void **state)
{
	char path[] = "/tmp/test_fdt.XXXXXX";
	char line[128];
	int fd;

	(void)state;
	if (system("command -v dtc >/dev/null 2>&1") != 0) {
		printf("skipped: dtc (Debian: device-tree-compiler) is not installed\n");
		skip();
	}
	fd = mkstemp(path);
	assert_true(fd >= 0);
	make_tree(0, 0);
	assert_ok(gm_memmap_fdt(map, NR(map), GM_MEMMAP_FDT_NUMA, tree, CAP, NULL, &err));
	assert_int_equal(write(fd, tree, CAP), CAP);
	close(fd);
	/* -E makes errors of the warnings about nodes with addresses and their cells. */
	snprintf(line, sizeof(line),
		"dtc -I dtb -O dts -E reg_format -E unit_address_vs_reg %s >/dev/null", path);
	assert_int_equal(system(line), 0);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_becomes_nodes),
		cmocka_unit_test(nodes_stand_in_rising_order),
		cmocka_unit_test(an_older_list_of_reserved_memory_grows),
		cmocka_unit_test(what_cannot_be_added_is_refused),
		cmocka_unit_test(the_room_that_is_needed_is_said),
		cmocka_unit_test(broken_trees_do_no_harm),
		cmocka_unit_test(each_allocation_may_fail),
		cmocka_unit_test(dtc_finds_nothing_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
