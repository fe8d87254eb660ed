/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_walk.c - the cost of translation: published tables, a machine that walks, and edges.
 *
 * The machine has real radix trees for guest, host and shadow; a walk follows their entries and
 * counts what it loads. All combinations of sizes and levels are compared with it, and the tables
 * it needed for a memory with the footprint.
 */
#include <stdlib.h>

#include "random.h"
#include "support.h"
#include "walk_of.h"

#define TIB(n) ((uint64_t)(n) << 40)

/* ---- what is published ---- */

static void the_published_tables_come_out(void **state)
{
	/* Rows: the guest's 4K, 2M, 1G; columns: the host's. */
	static const struct {
		uint32_t guest_levels, host_levels;
		uint32_t loads[3][3];
	} tables[] = {
		{4, 4, {{24, 19, 14}, {19, 15, 11}, {14, 11, 8}}},
		{5, 5, {{35, 29, 23}, {29, 24, 19}, {23, 19, 15}}},
		{4, 5, {{29, 24, 19}, {23, 19, 15}, {17, 14, 11}}},
		{5, 4, {{29, 23, 17}, {24, 19, 14}, {19, 15, 11}}},
	};

	(void)state;
	for (size_t t = 0; t < NR(tables); t++) {
		struct gm_walk_opts opts =
			opts_of(GM_WALK_NESTED, tables[t].guest_levels, tables[t].host_levels);

		for (int g = 0; g < 3; g++) {
			for (int h = 0; h < 3; h++) {
				struct gm_walk_cost cost = cost_of(&opts, leaves[g], leaves[h], 0);

				assert_int_equal(cost.loads, tables[t].loads[g][h]);
				assert_int_equal(cost.entry_log2, leaves[g < h ? g : h]);
				assert_int_equal(cost.least, 2);
			}
		}
	}
	/* Without options: 4 levels each, nested. */
	assert_int_equal(cost_of(NULL, 12, 12, 0).loads, 24);
}

static void page_tables_on_larger_pages_come_out_as_published(void **state)
{
	(void)state;
	assert_int_equal(cost_of(NULL, 12, 12, 21).loads, 20);
	assert_int_equal(cost_of(NULL, 12, 12, 30).loads, 16);
	assert_int_equal(cost_of(NULL, 30, 12, 21).loads, 12);
	/* Saying what holds anyway changes nothing. */
	assert_int_equal(cost_of(NULL, 12, 12, 12).loads, 24);
	/* The entry is that of the data. */
	assert_int_equal(cost_of(NULL, 30, 12, 21).entry_log2, 12);
}

static void a_native_walk_loads_one_entry_a_level(void **state)
{
	(void)state;
	for (uint32_t levels = 4; levels <= 5; levels++) {
		struct gm_walk_opts opts = opts_of(GM_WALK_NATIVE, levels, 0);

		for (uint32_t g = 0; g < 3; g++) {
			struct gm_walk_cost cost = cost_of(&opts, leaves[g], 0, 0);

			assert_int_equal(cost.loads, levels - g);
			assert_int_equal(cost.guest_loads, levels - g);
			assert_int_equal(cost.least, 1);
			assert_int_equal(cost.entry_log2, leaves[g]);
		}
	}
}

static void the_published_footprint_comes_out(void **state)
{
	struct gm_walk_opts opts = opts_of(GM_WALK_NESTED, 4, 4);
	struct gm_walk_mix small = pure(12, GIB(1));
	struct gm_walk_mix mid = pure(21, GIB(1));
	struct gm_walk_mix large = pure(30, GIB(1));
	struct gm_walk_footprint f = footprint_of(&opts, &small, &small);

	(void)state;
	/* 2 MiB for each of three sets, and the levels above; 1.56 % for each kernel. */
	assert_int_equal(f.guest_tables, MIB(2) + 3 * 4096);
	assert_int_equal(f.host_tables, f.guest_tables);
	assert_int_equal(f.second_tables, f.guest_tables);
	assert_int_equal(f.guest_structs, MIB(16));
	assert_int_equal(f.host_structs, MIB(16));
	f = footprint_of(&opts, &mid, &mid);
	assert_int_equal(f.guest_tables + f.host_tables + f.second_tables, 9 * 4096);
	/* One eighth of the page structs of 2 MiB stays, one in 4096 of 1 GiB. */
	opts.flags = GM_WALK_LEAN;
	assert_int_equal(footprint_of(&opts, &mid, &mid).host_structs, MIB(2));
	assert_int_equal(footprint_of(&opts, &large, &large).host_structs, 4096);
	assert_int_equal(footprint_of(&opts, &small, &small).host_structs, MIB(16));
	assert_int_equal(footprint_of(&opts, &large, &large).guest_structs, MIB(16));
	opts.flags = GM_WALK_TRANSPARENT;
	assert_int_equal(footprint_of(&opts, &mid, &mid).host_tables, 3 * 4096 + MIB(2));
	assert_int_equal(footprint_of(&opts, &mid, &mid).second_tables, 3 * 4096);
	assert_int_equal(footprint_of(&opts, &small, &small).host_tables, MIB(2) + 3 * 4096);
}

/* ---- a machine that walks ---- */

#define PRESENT 1u
#define LEAF 2u
#define ADDRESS (~UINT64_C(0xfff))
#define TABLES_MAX 8192

/* A tree whose table k lies at address base + k * 4096. */
struct radix {
	uint32_t levels;
	uint64_t base;
	uint64_t *tables[TABLES_MAX];
	uint32_t nr;
};

struct machine {
	struct radix guest; /* its tables are at guest addresses */
	struct radix host;
	uint32_t loads;
};

static uint64_t new_table(struct radix *r)
{
	assert_true(r->nr < TABLES_MAX);
	r->tables[r->nr] = calloc(512, sizeof(uint64_t));
	assert_non_null(r->tables[r->nr]);
	return r->base + 4096 * (uint64_t)r->nr++;
}

static void start_radix(struct radix *r, uint32_t levels, uint64_t base)
{
	r->levels = levels;
	r->base = base;
	r->nr = 0;
	new_table(r);
}

static void end_radix(struct radix *r)
{
	for (uint32_t i = 0; i < r->nr; i++)
		free(r->tables[i]);
	r->nr = 0;
}

static uint64_t entry_address(uint64_t table, uint64_t from, uint32_t level)
{
	return table + 8 * (from >> (12 + 9 * level) & 511);
}

static uint64_t *entry_at(struct radix *r, uint64_t address)
{
	uint64_t off = address - r->base;

	assert_true(off / 4096 < r->nr);
	return &r->tables[off / 4096][off % 4096 / 8];
}

/* Maps one page of 1 << @log2 bytes at both addresses. */
static void map_page(struct radix *r, uint64_t from, uint64_t to, uint32_t log2)
{
	uint64_t table = r->base;
	uint32_t level = r->levels - 1;

	while (12 + 9 * level > log2) {
		uint64_t *entry = entry_at(r, entry_address(table, from, level));

		if (!*entry) {
			uint64_t below = new_table(r);

			entry = entry_at(r, entry_address(table, from, level));
			*entry = below | PRESENT;
		}
		assert_false(*entry & LEAF);
		table = *entry & ADDRESS;
		level--;
	}
	*entry_at(r, entry_address(table, from, level)) = to | PRESENT | LEAF;
}

/* One dimension: the host's tables, shadow tables, or those of a machine without a host. */
static uint64_t walk_one(struct radix *r, uint64_t address, uint32_t *loads)
{
	uint64_t table = r->base;

	for (uint32_t level = r->levels - 1;; level--) {
		uint64_t entry = *entry_at(r, entry_address(table, address, level));
		uint64_t mask = (UINT64_C(1) << (12 + 9 * level)) - 1;

		*loads += 1;
		assert_true(entry & PRESENT);
		if (entry & LEAF)
			return (entry & ADDRESS & ~mask) | (address & mask);
		table = entry & ADDRESS;
	}
}

/* Two dimensions: wherever an entry of the guest lies is a guest address too. */
static uint64_t walk_two(struct machine *m, uint64_t address)
{
	uint64_t table = m->guest.base;

	m->loads = 0;
	for (uint32_t level = m->guest.levels - 1;; level--) {
		uint64_t at = entry_address(table, address, level);
		uint64_t mask = (UINT64_C(1) << (12 + 9 * level)) - 1;
		uint64_t entry;

		walk_one(&m->host, at, &m->loads);
		entry = *entry_at(&m->guest, at);
		m->loads++;
		assert_true(entry & PRESENT);
		if (entry & LEAF)
			return walk_one(
				&m->host, (entry & ADDRESS & ~mask) | (address & mask), &m->loads);
		table = entry & ADDRESS;
	}
}

static uint64_t down_to(uint64_t address, uint32_t log2)
{
	return address >> log2 << log2;
}

/* Where the parts of the machine are; each is a multiple of 1 GiB. */
#define GUEST_TABLES TIB(1)
#define GUEST_DATA TIB(3)
#define HOST_DELTA TIB(7) /* from guest to host addresses */
#define HOST_TABLES TIB(100)

struct sizes {
	uint32_t guest, table, data;
};

static void map_host(struct machine *m, uint64_t guest_address, uint32_t log2)
{
	uint64_t from = down_to(guest_address, log2);

	map_page(&m->host, from, from + HOST_DELTA, log2);
}

/* One page of the guest at @address, everything below it by host pages. */
static void build(struct machine *m, uint32_t guest_levels, uint32_t host_levels,
	const struct sizes *s, uint64_t address)
{
	uint64_t at = down_to(address, s->guest);
	uint64_t data = GUEST_DATA + down_to(address % GIB(1), s->guest);

	start_radix(&m->guest, guest_levels, GUEST_TABLES);
	start_radix(&m->host, host_levels, HOST_TABLES);
	map_page(&m->guest, at, data, s->guest);
	for (uint32_t i = 0; i < m->guest.nr; i++) {
		uint64_t table = GUEST_TABLES + 4096 * (uint64_t)i;

		if (i == 0 || down_to(table, s->table) == table)
			map_host(m, table, s->table);
	}
	map_host(m, data + (address - at), s->data);
}

static void compare_nested(struct machine *m, uint32_t guest_levels, uint32_t host_levels,
	const struct sizes *s, uint64_t address)
{
	struct gm_walk_opts opts = opts_of(GM_WALK_NESTED, guest_levels, host_levels);
	struct gm_walk_cost cost = cost_of(&opts, s->guest, s->data, s->table);

	build(m, guest_levels, host_levels, s, address);
	assert_true(walk_two(m, address) == GUEST_DATA + HOST_DELTA + address % GIB(1));
	assert_int_equal(m->loads, cost.loads);
	end_radix(&m->guest);
	end_radix(&m->host);
}

/* Native, and shadow: what is mapped is the smaller of both pages. */
static void compare_one(uint32_t levels, const struct sizes *s, uint64_t address)
{
	struct gm_walk_opts opts = opts_of(GM_WALK_SHADOW, levels, 4);
	struct gm_walk_cost cost = cost_of(&opts, s->guest, s->data, 0);
	uint32_t log2 = s->guest < s->data ? s->guest : s->data;
	struct radix tree;
	uint32_t loads = 0;

	start_radix(&tree, levels, HOST_TABLES);
	map_page(&tree, down_to(address, log2), TIB(2) + down_to(address % GIB(1), log2), log2);
	assert_true(walk_one(&tree, address, &loads) == TIB(2) + address % GIB(1));
	assert_int_equal(cost.loads, loads);
	assert_int_equal(cost.guest_loads, 0);
	assert_int_equal(cost.entry_log2, log2);
	opts.paging = GM_WALK_NATIVE;
	if (s->guest == log2)
		assert_int_equal(cost_of(&opts, s->guest, 0, 0).loads, loads);
	end_radix(&tree);
}

static void every_walk_loads_what_the_machine_loads(void **state)
{
	static struct machine m;
	struct rng rng = {test_seed(1)};
	unsigned long compared = 0;

	(void)state;
	for (unsigned int i = 0; i < 2 * 2 * 27; i++) {
		uint32_t guest_levels = 4 + i % 2;
		uint32_t host_levels = 4 + i / 2 % 2;
		struct sizes s = {leaves[i / 4 % 3], leaves[i / 12 % 3], leaves[i / 36]};

		for (unsigned long n = 0; n < support_scale(20); n++) {
			uint64_t address = rng_next(&rng) >> (guest_levels == 4 ? 17 : 8);

			compare_nested(&m, guest_levels, host_levels, &s, address);
			compare_one(guest_levels, &s, address);
			compared++;
		}
	}
	assert_int_equal(compared, 108 * support_scale(20));
}

/* ---- footprint against the machine ---- */

/* Maps a memory densely, large pages first; returns the bytes of the tables. */
static uint64_t build_dense(const struct gm_walk_mix *mix, uint32_t levels)
{
	static struct radix tree;
	uint64_t at = 0;
	uint64_t bytes;

	start_radix(&tree, levels, HOST_TABLES);
	for (int i = 2; i >= 0; i--) {
		for (uint64_t done = 0; done < mix->bytes[i]; done += UINT64_C(1) << leaves[i]) {
			map_page(&tree, at, at, leaves[i]);
			at += UINT64_C(1) << leaves[i];
		}
	}
	bytes = 4096 * (uint64_t)tree.nr;
	end_radix(&tree);
	return bytes;
}

static void a_footprint_is_what_the_machine_needs(void **state)
{
	static const uint64_t small[] = {0, 1, 511, 512, 513, 1025};
	static const uint64_t mid[] = {0, 1, 511, 512, 513};
	static const uint64_t large[] = {0, 1, 2, 511, 512, 513};
	struct gm_walk_opts opts = opts_of(GM_WALK_NESTED, 4, 5);

	(void)state;
	for (size_t i = 1; i < NR(small) * NR(mid) * NR(large); i++) {
		struct gm_walk_mix mix = {
			{small[i % 6] << 12, mid[i / 6 % 5] << 21, large[i / 30] << 30}};
		struct gm_walk_footprint f = footprint_of(&opts, &mix, &mix);

		assert_int_equal(f.guest_tables, build_dense(&mix, 4));
		assert_int_equal(f.host_tables, build_dense(&mix, 5));
		assert_int_equal(f.second_tables, f.host_tables);
	}
}

static void shadow_tables_have_the_smaller_pages(void **state)
{
	struct gm_walk_opts opts = opts_of(GM_WALK_SHADOW, 5, 4);

	(void)state;
	for (int i = 0; i < 9; i++) {
		struct gm_walk_mix guest = pure(leaves[i / 3], GIB(3));
		struct gm_walk_mix host = pure(leaves[i % 3], GIB(3));
		struct gm_walk_mix both = i / 3 < i % 3 ? guest : host;
		struct gm_walk_footprint f = footprint_of(&opts, &guest, &host);

		assert_int_equal(f.second_tables, build_dense(&both, 5));
		assert_int_equal(f.host_tables, build_dense(&host, 4));
		assert_int_equal(f.guest_tables, build_dense(&guest, 5));
	}
}

static void a_machine_without_a_host_has_one_set(void **state)
{
	struct gm_walk_opts opts = opts_of(GM_WALK_NATIVE, 4, 4);
	struct gm_walk_mix mix = {{MIB(2), MIB(4), GIB(1)}};
	struct gm_walk_footprint f = footprint_of(&opts, &mix, NULL);

	(void)state;
	assert_int_equal(f.guest_tables, build_dense(&mix, 4));
	assert_int_equal(f.guest_structs, (GIB(1) + MIB(6)) / 64);
	assert_int_equal(f.host_tables + f.second_tables + f.host_structs, 0);
}

static void a_whole_address_space_can_be_mapped(void **state)
{
	struct gm_walk_opts opts = opts_of(GM_WALK_NESTED, 5, 5);
	struct gm_walk_mix small = pure(12, UINT64_C(1) << 57);
	struct gm_walk_mix large = pure(30, UINT64_C(1) << 57);
	struct gm_walk_footprint f = footprint_of(&opts, &small, &large);
	uint64_t tables = 1 + (1u << 9) + (1u << 18) + (1u << 27) + (UINT64_C(1) << 36);
	struct gm_walk_mean mean = {.size = sizeof(mean)};
	struct gm_error err;

	(void)state;
	assert_true(f.guest_tables == tables * 4096);
	assert_true(f.host_tables == (1 + (1u << 9) + (1u << 18)) * UINT64_C(4096));
	assert_ok(gm_walk_mean(&opts, &small, &large, &small, &mean, &err));
	assert_int_equal(mean.milliloads, (5 * 6 + 3) * 1000);
	assert_true(mean.entries.bytes[GM_WALK_4K] == UINT64_C(1) << 57);
	opts.paging = GM_WALK_SHADOW;
	assert_ok(gm_walk_mean(&opts, &large, &large, NULL, &mean, &err));
	assert_int_equal(mean.milliloads, 3000);
	assert_true(mean.entries.bytes[GM_WALK_1G] == UINT64_C(1) << 57);
}

/* ---- laws ---- */

static void larger_pages_never_cost_more(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3 * 2 * 2 * 8; i++) {
		struct gm_walk_opts opts = opts_of(i % 3, 4 + i / 3 % 2, 4 + i / 6 % 2);
		int g = i / 12 % 2;
		int h = i / 24 % 2;
		int t = (int)(i / 48);
		struct gm_walk_cost here = cost_of(&opts, leaves[g], leaves[h], leaves[t]);
		struct gm_walk_opts deeper = opts_of(opts.paging, 5, 5);

		assert_true(
			cost_of(&opts, leaves[g + 1], leaves[h], leaves[t]).loads <= here.loads);
		assert_true(
			cost_of(&opts, leaves[g], leaves[h + 1], leaves[t]).loads <= here.loads);
		assert_true(
			cost_of(&opts, leaves[g], leaves[h], leaves[t + 1]).loads <= here.loads);
		assert_true(cost_of(&deeper, leaves[g], leaves[h], leaves[t]).loads >= here.loads);
		assert_true(here.least <= here.loads && here.guest_loads <= here.loads);
	}
}

static void nested_costs_more_than_shadow_and_shadow_than_native(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2 * 2 * 9; i++) {
		struct gm_walk_opts opts = opts_of(GM_WALK_NESTED, 4 + i % 2, 4 + i / 2 % 2);
		uint32_t guest = leaves[i / 4 % 3];
		uint32_t host = leaves[i / 12];
		uint32_t nested = cost_of(&opts, guest, host, 0).loads;
		uint32_t shadow;

		opts.paging = GM_WALK_SHADOW;
		shadow = cost_of(&opts, guest, host, 0).loads;
		opts.paging = GM_WALK_NATIVE;
		assert_true(nested > shadow);
		assert_true(shadow >= cost_of(&opts, guest, host, 0).loads);
	}
}

static void a_page_of_another_size_is_walked_as_the_leaf_below(void **state)
{
	(void)state;
	for (uint32_t log2 = 12; log2 <= 38; log2++) {
		uint32_t leaf = log2 < 21 ? 12 : log2 < 30 ? 21 : 30;
		struct gm_walk_cost cost = cost_of(NULL, log2, 38, 0);

		assert_int_equal(cost.loads, cost_of(NULL, leaf, 30, 0).loads);
		assert_int_equal(cost.entry_log2, leaf);
		assert_int_equal(cost.joined_log2, log2);
		assert_int_equal(
			cost_of(NULL, 30, log2, 0).loads, cost_of(NULL, 30, leaf, 0).loads);
		assert_int_equal(
			cost_of(NULL, 30, 12, log2).loads, cost_of(NULL, 30, 12, leaf).loads);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_published_tables_come_out),
		cmocka_unit_test(page_tables_on_larger_pages_come_out_as_published),
		cmocka_unit_test(a_native_walk_loads_one_entry_a_level),
		cmocka_unit_test(the_published_footprint_comes_out),
		cmocka_unit_test(every_walk_loads_what_the_machine_loads),
		cmocka_unit_test(a_footprint_is_what_the_machine_needs),
		cmocka_unit_test(shadow_tables_have_the_smaller_pages),
		cmocka_unit_test(a_machine_without_a_host_has_one_set),
		cmocka_unit_test(a_whole_address_space_can_be_mapped),
		cmocka_unit_test(larger_pages_never_cost_more),
		cmocka_unit_test(nested_costs_more_than_shadow_and_shadow_than_native),
		cmocka_unit_test(a_page_of_another_size_is_walked_as_the_leaf_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
