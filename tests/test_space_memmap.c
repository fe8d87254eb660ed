/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_space_memmap.c - a space as a memory map: kinds, nodes, parts, and the tables made of it.
 */
#include <errno.h>
#include <string.h>

#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)

static struct gm_block *memory;

static int set_up(void **state)
{
	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)));
	assert_ok(gm_block_create(BLOCK(.len = MIB(4), .flags = GM_BLOCK_SHARE), &memory, &err));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stop();
	gm_block_put(memory);
	return 0;
}

static uint64_t put(const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, desc, &id, &err));
	return id;
}

#define DEVICE GM_OPTS(gm_device_ops, .min_size = 1)

static void each_kind_has_its_entry(void **state)
{
	static const struct gm_memmap_entry want[] = {
		{0, MIB(1) - 1, GM_MEMMAP_RAM, GM_MEMMAP_NO_NODE, 0, 0},
		/* ROM, reserved and a ROM device are one. */
		{MIB(1), MIB(1) + 3 * PAGE - 1, GM_MEMMAP_RESERVED, GM_MEMMAP_NO_NODE, 0, 0},
		{MIB(3), MIB(4) - 1, GM_MEMMAP_PMEM, 3, 0, 0},
		{MIB(4), MIB(5) - 1, GM_MEMMAP_ACPI_RECLAIM, GM_MEMMAP_NO_NODE, 0, 0},
		{GIB(1), GIB(1) + MIB(1) - 1, GM_MEMMAP_RAM, 0, 0, 0},
		{GIB(1) + MIB(1), GIB(1) + MIB(3) - 1, GM_MEMMAP_RAM, 1, GM_MEMMAP_HOTPLUG, 0},
		{UINT64_MAX - PAGE + 1, UINT64_MAX, GM_MEMMAP_RESERVED, GM_MEMMAP_NO_NODE, 0, 0},
	};
	struct gm_memmap_entry map[16];
	size_t nr = 99;

	(void)state;
	assert_ok(gm_space_memmap(space, NULL, 0, &nr, &err));
	assert_int_equal(nr, 0);
	put(DESC(.len = MIB(1), .block = memory));
	put(DESC(.gpa = MIB(1), .len = PAGE, .kind = GM_REGION_ROM, .block = memory));
	put(DESC(.gpa = MIB(1) + PAGE, .len = PAGE, .kind = GM_REGION_RESERVED));
	put(DESC(.gpa = MIB(1) + 2 * PAGE, .kind = GM_REGION_ROMD, .device = DEVICE,
		.backing = BLOCK(.len = PAGE)));
	put(DESC(.gpa = MIB(2), .len = MIB(1), .kind = GM_REGION_MMIO, .device = DEVICE));
	put(DESC(.gpa = MIB(3), .len = MIB(1), .kind = GM_REGION_PMEM, .block = memory,
		.numa_plus = 4));
	put(DESC(.gpa = MIB(4), .len = MIB(1), .kind = GM_REGION_ACPI, .block = memory));
	put(DESC(.gpa = GIB(1), .len = MIB(1), .block = memory, .numa_plus = 1));
	/* Two that are the same are one. */
	for (uint64_t i = 0; i < 2; i++)
		put(DESC(.gpa = GIB(1) + MIB(1 + i), .len = MIB(1), .block = memory,
			.flags = GM_REGION_HOTPLUGGABLE, .numa_plus = 2));
	put(DESC(.gpa = UINT64_MAX - PAGE + 1, .len = PAGE, .kind = GM_REGION_RESERVED));
	memset(map, 0xff, sizeof(map));
	assert_ok(gm_space_memmap(space, map, 16, &nr, &err));
	assert_int_equal(nr, sizeof(want) / sizeof(want[0]));
	assert_memory_equal(map, want, sizeof(want));
	assert_int_equal(map[nr].reserved, UINT32_MAX);
	assert_ok(gm_memmap_check(map, nr, &err));
	memset(map, 0xff, sizeof(map));
	assert_fails(gm_space_memmap(space, map, 3, &nr, &err), ENOBUFS, "7 entries");
	assert_int_equal(nr, 7);
	assert_memory_equal(map, want, 3 * sizeof(*want));
	assert_int_equal(map[3].kind, UINT32_MAX);
}

static void parts_make_e820_and_srat(void **state)
{
	struct gm_memmap_entry map[8];
	struct gm_e820_entry e820[8];
	struct gm_acpi_ids ids = {.oem_revision = 1};
	uint8_t srat[256];
	uint64_t id = put(DESC(.gpa = GIB(4), .len = 8 * PAGE, .block = memory, .granule = PAGE,
		.private_block = memory, .numa_plus = 1, .part = GM_PART_UNPLUGGED));
	size_t nr;

	(void)state;
	assert_ok(gm_space_set_part(space, id, 0, 2 * PAGE, GM_PART_SHARED, &err));
	assert_ok(gm_space_set_part(space, id, 2 * PAGE, PAGE, GM_PART_PRIVATE, &err));
	assert_ok(gm_space_memmap(space, map, 8, &nr, &err));
	assert_int_equal(nr, 2);
	/* The guest may use what is shared and what is private alike. */
	assert_int_equal(map[0].last, GIB(4) + 3 * PAGE - 1);
	assert_int_equal(map[0].flags, 0);
	assert_int_equal(map[0].node, 0);
	assert_int_equal(map[1].first, GIB(4) + 3 * PAGE);
	assert_int_equal(map[1].last, GIB(4) + 8 * PAGE - 1);
	assert_int_equal(map[1].kind, GM_MEMMAP_RAM);
	assert_int_equal(map[1].flags, GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT);
	assert_int_equal(map[1].node, 0);
	assert_ok(gm_memmap_e820(map, nr, e820, 8, &nr, &err));
	assert_int_equal(nr, 1);
	assert_int_equal(e820[0].addr, GIB(4));
	assert_int_equal(e820[0].len, 3 * PAGE);
	assert_int_equal(e820[0].type, GM_E820_RAM);
	assert_ok(gm_acpi_srat(&ids, map, 2, NULL, 0, srat, sizeof(srat), &nr, &err));
	/* A head of 48 bytes, 40 for each stretch, flags at byte 28: enabled, then hotpluggable too. */
	assert_int_equal(nr, 48 + 2 * 40);
	assert_int_equal(srat[48 + 28], 1);
	assert_int_equal(srat[48 + 40 + 28], 3);
}

/* ---- at random, against each page by itself ---- */

#define PAGES 64u

static struct gm_memmap_entry naive_at(uint64_t page)
{
	struct gm_memmap_entry entry = {.node = GM_MEMMAP_NO_NODE};
	struct gm_region_info info = {.size = sizeof(info)};

	if (gm_space_next(space, page * PAGE, &info) || info.gpa > page * PAGE)
		return entry;
	entry.kind = info.kind == GM_REGION_RAM ? GM_MEMMAP_RAM : GM_MEMMAP_RESERVED;
	if (info.numa_plus)
		entry.node = info.numa_plus - 1;
	if (info.flags & GM_REGION_HOTPLUGGABLE)
		entry.flags |= GM_MEMMAP_HOTPLUG;
	if (info.part == GM_PART_UNPLUGGED)
		entry.flags |= GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT;
	return entry;
}

static void check_map(void)
{
	struct gm_memmap_entry map[PAGES];
	size_t at = 0;
	size_t nr;

	assert_ok(gm_space_memmap(space, map, PAGES, &nr, &err));
	assert_ok(gm_memmap_check(map, nr, &err));
	for (uint64_t page = 0; page < PAGES; page++) {
		struct gm_memmap_entry want = naive_at(page);

		if (at < nr && map[at].last < page * PAGE)
			at++;
		if (want.kind == GM_MEMMAP_HOLE) {
			assert_true(at == nr || map[at].first > page * PAGE);
			continue;
		}
		assert_true(at < nr && map[at].first <= page * PAGE);
		assert_int_equal(map[at].kind, want.kind);
		assert_int_equal(map[at].node, want.node);
		assert_int_equal(map[at].flags, want.flags);
	}
	/* As long as they can be. */
	for (size_t i = 1; i < nr; i++)
		assert_false(map[i].first == map[i - 1].last + 1 &&
			     map[i].kind == map[i - 1].kind && map[i].node == map[i - 1].node &&
			     map[i].flags == map[i - 1].flags);
}

static void a_map_says_of_each_page_what_shows_there(void **state)
{
	struct rng rng = {test_seed(17)};
	uint64_t ids[6];

	(void)state;
	for (unsigned long run = 0; run < support_scale(60); run++) {
		for (uint64_t i = 0; i < 6; i++) {
			uint64_t first = rng_below(&rng, PAGES - 16);
			bool ram = rng_below(&rng, 4);

			ids[i] = put(DESC(.gpa = first * PAGE, .priority = (int32_t)i,
				.len = (1 + rng_below(&rng, 16)) * PAGE,
				.kind = ram ? GM_REGION_RAM : GM_REGION_RESERVED,
				.block = ram ? memory : NULL, .granule = ram ? PAGE : 0,
				.numa_plus = (uint32_t)rng_below(&rng, 3),
				.flags = rng_below(&rng, 4) ? 0 : GM_REGION_HOTPLUGGABLE));
		}
		for (int i = 0; i < 12; i++) {
			/* Past the end, or of what has no parts, it is refused. */
			gm_space_set_part(space, ids[rng_below(&rng, 6)],
				rng_below(&rng, 16) * PAGE, (1 + rng_below(&rng, 4)) * PAGE,
				(uint32_t)rng_below(&rng, 2), NULL);
			check_map();
		}
		for (uint64_t i = 0; i < 6; i++)
			assert_ok(gm_space_remove(space, ids[i], &err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_kind_has_its_entry, set_up, tear_down),
		cmocka_unit_test_setup_teardown(parts_make_e820_and_srat, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_map_says_of_each_page_what_shows_there, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
