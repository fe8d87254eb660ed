/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_memmap.c - memory maps: the check, RAM laid around windows, e820.
 *
 * Tables of cases; layouts of a small address space against a naive oracle that goes address by
 * address; e820 records read back by a decoder of its own.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "random.h"
#include "support.h"

#define TOP UINT64_MAX
#define ROOM 64u
#define NONE GM_MEMMAP_NO_NODE
#define NR(array) (sizeof(array) / sizeof((array)[0]))

static struct gm_error err;

/* ---- the check ---- */

static const struct {
	const char *name;
	size_t nr;
	struct gm_memmap_entry map[3];
	int code;
	uint64_t gpa;
	const char *word;
} checks[] = {
	{"an empty map", 0, {{0}}, 0, 0, ""},
	{"all addresses", 1, {{0, TOP, GM_MEMMAP_RAM}}, 0, 0, ""},
	{"the last address", 2, {{0, TOP - 1, 1}, {TOP, TOP, 2}}, 0, 0, ""},
	{"touching ones", 2, {{0, 9, 1}, {10, 19, 1}}, 0, 0, ""},
	{"one that ends before it begins", 1, {{2, 1, 1}}, EINVAL, 2, "entry 0 [0x2, 0x1]"},
	{"one that wraps", 1, {{TOP, 0, 1}}, EINVAL, TOP, "entry 0"},
	{"overlapping ones", 2, {{0, 9, 1}, {9, 19, 1}}, EEXIST, 9, "entry 1 [0x9, 0x13]"},
	{"one around the one before", 2, {{5, 9, 1}, {0, 19, 1}}, EEXIST, 5, "entry 1"},
	{"behind all addresses", 2, {{0, TOP, 1}, {0, 0, 1}}, EEXIST, 0, "entry 1"},
	{"not in order", 3, {{0, 9, 1}, {30, 39, 1}, {20, 29, 1}}, EINVAL, 20, "entry 2"},
	{"a hole", 1, {{0, 9, GM_MEMMAP_HOLE}}, EINVAL, 0, "kind 0"},
	{"an unknown kind", 1, {{0, 9, 8}}, EINVAL, 0, "kind 8"},
	{"a flag of windows", 1, {{0, 9, 1, 0, GM_MEMMAP_OVER_RAM}}, EINVAL, 0, "flags 0x8"},
	{"an unknown flag", 1, {{0, 9, 1, 0, 0x10}}, EINVAL, 0, "flags 0x10"},
	{"a reserved member", 1, {{0, 9, 1, 0, 0, 1}}, EINVAL, 0, "reserved"},
};

static void a_map_is_checked(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR(checks); i++) {
		int rc;

		memset(&err, 0, sizeof(err));
		rc = gm_memmap_check(checks[i].map, checks[i].nr, &err);
		if (rc != -checks[i].code || err.gpa != checks[i].gpa ||
			!strstr(err.text, checks[i].word))
			fail_msg("%s: %d, %#lx, %s", checks[i].name, rc, err.gpa, err.text);
		assert_int_equal(gm_memmap_check(checks[i].map, checks[i].nr, NULL), rc);
	}
}

/* ---- laying out ---- */

static size_t place(const struct gm_memmap_layout *layout, struct gm_memmap_entry *ret)
{
	size_t nr = 0;

	assert_ok(gm_memmap_place(layout, ret, ROOM, &nr, &err));
	assert_ok(gm_memmap_check(ret, nr, &err));
	return nr;
}

static void must_be(const struct gm_memmap_entry *got, size_t nr,
	const struct gm_memmap_entry *want, size_t nr_want)
{
	for (size_t i = 0; i < nr && i < nr_want; i++) {
		if (memcmp(&got[i], &want[i], sizeof(*got)) != 0)
			fail_msg("entry %zu: [%#lx, %#lx] kind %u node %u flags %u", i,
				got[i].first, got[i].last, got[i].kind, got[i].node, got[i].flags);
	}
	assert_int_equal(nr, nr_want);
}

static void ram_of_x86_goes_around_its_windows(void **state)
{
	const struct gm_memmap_ram ram[] = {
		{.len = GIB(2), .node = 0},
		{.len = 0, .node = 1},
		{.len = GIB(3) + MIB(512), .node = 2},
		{.len = GIB(1), .node = 2, .flags = GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT},
	};
	const struct gm_memmap_entry windows[] = {GM_MEMMAP_X86_LEGACY, GM_MEMMAP_X86_PCI};
	const struct gm_memmap_layout layout = {
		.size = sizeof(layout),
		.align = GIB(1),
		.ram = ram,
		.nr_ram = 4,
		.windows = windows,
		.nr_windows = 2,
	};
	const struct gm_memmap_entry want[] = {
		{0, 0x9ffff, GM_MEMMAP_RAM, 0, 0, 0},
		{0xa0000, 0xfffff, GM_MEMMAP_RESERVED, 0, 0, 0},
		{0x100000, GIB(2) - 1, GM_MEMMAP_RAM, 0, 0, 0},
		{GIB(2), GIB(3) - 1, GM_MEMMAP_RAM, 2, 0, 0},
		{GIB(4), GIB(6) + MIB(512) - 1, GM_MEMMAP_RAM, 2, 0, 0},
		{GIB(7), GIB(8) - 1, GM_MEMMAP_RAM, 2, GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT, 0},
	};
	struct gm_memmap_entry got[ROOM];

	(void)state;
	must_be(got, place(&layout, got), want, NR(want));
}

static void ram_of_arm64_begins_at_its_place(void **state)
{
	const struct gm_memmap_ram ram[] = {{.len = GIB(5)}};
	const struct gm_memmap_entry windows[] = {
		{0, 0x7ffffff, GM_MEMMAP_RESERVED, NONE, 0, 0}, /* flash, wholly below */
		{GIB(2), GIB(2) + MIB(2) - 1, GM_MEMMAP_ACPI_NVS, 0, 0, 0},
	};
	const struct gm_memmap_layout layout = {
		.size = sizeof(layout),
		.first = GM_MEMMAP_ARM64_RAM,
		.last = (UINT64_C(1) << 40) - 1,
		.ram = ram,
		.nr_ram = 1,
		.windows = windows,
		.nr_windows = 2,
	};
	const struct gm_memmap_entry want[] = {
		{0, 0x7ffffff, GM_MEMMAP_RESERVED, NONE, 0, 0},
		{GIB(1), GIB(2) - 1, GM_MEMMAP_RAM, 0, 0, 0},
		{GIB(2), GIB(2) + MIB(2) - 1, GM_MEMMAP_ACPI_NVS, 0, 0, 0},
		{GIB(2) + MIB(2), GIB(6) + MIB(2) - 1, GM_MEMMAP_RAM, 0, 0, 0},
	};
	struct gm_memmap_entry got[ROOM];

	(void)state;
	must_be(got, place(&layout, got), want, NR(want));
}

static void ram_may_reach_the_top(void **state)
{
	const struct gm_memmap_ram ram[] = {{.len = TOP}, {.len = 1, .node = 1}};
	struct gm_memmap_layout layout = {
		.size = sizeof(layout), .align = 1, .ram = ram, .nr_ram = 2};
	const struct gm_memmap_entry want[] = {
		{0, TOP - 1, GM_MEMMAP_RAM, 0, 0, 0}, {TOP, TOP, GM_MEMMAP_RAM, 1, 0, 0}};
	const struct gm_memmap_entry top = {TOP, TOP, GM_MEMMAP_HOLE, 0, 0, 0};
	const struct gm_memmap_entry over = {
		TOP - 1, TOP, GM_MEMMAP_UNUSABLE, 3, GM_MEMMAP_OVER_RAM, 0};
	const struct gm_memmap_entry covered[] = {
		{0, TOP - 2, GM_MEMMAP_RAM, 0, 0, 0}, {TOP - 1, TOP, GM_MEMMAP_UNUSABLE, 3, 0, 0}};
	struct gm_memmap_entry got[ROOM];
	size_t nr;

	(void)state;
	must_be(got, place(&layout, got), want, 2);
	layout.windows = &over;
	layout.nr_windows = 1;
	must_be(got, place(&layout, got), covered, 2);
	layout.windows = &top;
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), ENOSPC, "amount 1");
	assert_int_equal(err.len, 1);
	layout.nr_ram = 1;
	must_be(got, place(&layout, got), want, 1);
	layout.nr_ram = 0;
	assert_int_equal(place(&layout, got), 0);
}

static void what_does_not_fit_is_said(void **state)
{
	const struct gm_memmap_ram ram[] = {{.len = GIB(2), .node = 4}};
	const struct gm_memmap_entry windows[] = {{GIB(1), GIB(2) - 1, GM_MEMMAP_HOLE, 0, 0, 0}};
	const struct gm_memmap_entry swapped[] = {{2, 1, GM_MEMMAP_HOLE, 0, 0, 0}};
	const struct gm_memmap_ram bad = {.len = 1, .flags = GM_MEMMAP_OVER_RAM};
	const struct gm_memmap_layout good = {
		.size = sizeof(good),
		.last = GIB(3) - 1,
		.align = GIB(1),
		.ram = ram,
		.nr_ram = 1,
		.windows = windows,
		.nr_windows = 1,
	};
	struct gm_memmap_layout layout = good;
	struct gm_memmap_entry got[ROOM] = {{7}};
	size_t nr = 7;

	(void)state;
	layout.last = GIB(3) - 2;
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), ENOSPC, "for node 4");
	assert_int_equal(err.len, GIB(1));
	layout = good;
	layout.first = 1;
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), ENOSPC, "0x40000000");
	layout = good;
	layout.align = 3;
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), EINVAL, "power of two");
	layout = good;
	layout.first = GIB(3);
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), EINVAL, "begin");
	layout = good;
	layout.windows = swapped;
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), EINVAL, "window 0");
	layout = good;
	layout.ram = &bad;
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), EINVAL, "amount 0");
	layout = good;
	layout.size = 8;
	assert_fails(gm_memmap_place(&layout, got, ROOM, &nr, &err), EINVAL, "version");
	assert_int_equal(nr, 7);
	assert_fails(gm_memmap_place(&good, got, 1, &nr, &err), ENOBUFS, "2 entries");
	assert_int_equal(nr, 2);
	assert_int_equal(got[0].first, 7);
	assert_fails(gm_memmap_place(&good, NULL, 0, &nr, &err), ENOBUFS, "2 entries");
	assert_int_equal(place(&good, got), 2);
}

/* ---- layouts, address by address ---- */

#define BITS 48u

struct naive {
	uint8_t kind[BITS]; /* what the guest is told */
	uint8_t node[BITS];
};

static const struct gm_memmap_entry *window_at(const struct gm_memmap_layout *l, uint64_t addr)
{
	for (size_t i = 0; i < l->nr_windows; i++) {
		if (addr >= l->windows[i].first && addr <= l->windows[i].last)
			return &l->windows[i];
	}
	return NULL;
}

static bool may_be_ram(const struct gm_memmap_layout *l, uint64_t base, uint64_t at)
{
	const struct gm_memmap_entry *w = window_at(l, base + at);

	return at < BITS && base + at >= l->first && base + at <= l->last &&
	       (!w || (w->flags & GM_MEMMAP_OVER_RAM));
}

/* Number of addresses from @at on, at most @len, that may be RAM. */
static uint64_t run_at(const struct gm_memmap_layout *l, uint64_t base, uint64_t at, uint64_t len)
{
	uint64_t n = 0;

	while (n < len && may_be_ram(l, base, at + n))
		n++;
	return n;
}

/* An address is taken if all that is left fits from there on, or a multiple of the alignment does. */
static bool naive_place(const struct gm_memmap_layout *l, uint64_t base, struct naive *n)
{
	uint64_t at = 0;

	memset(n, 0, sizeof(*n));
	for (size_t i = 0; i < l->nr_ram; i++) {
		uint64_t left = l->ram[i].len;

		while (left) {
			uint64_t run = (base + at) % l->align ? 0 : run_at(l, base, at, left);

			if (run < left)
				run -= run % l->align;
			if (at >= BITS)
				return false;
			for (uint64_t k = 0; k < run; k++) {
				n->kind[at + k] = GM_MEMMAP_RAM;
				n->node[at + k] = (uint8_t)l->ram[i].node;
			}
			left -= run;
			at += run ? run : 1;
		}
	}
	for (uint64_t k = 0; k < BITS; k++) {
		const struct gm_memmap_entry *w = window_at(l, base + k);

		if (w) {
			n->kind[k] = (uint8_t)w->kind;
			n->node[k] = (uint8_t)w->node;
		}
	}
	return true;
}

static void compare(
	const struct gm_memmap_entry *got, size_t nr, uint64_t base, const struct naive *want)
{
	for (uint64_t k = 0; k < BITS; k++) {
		uint32_t kind = 0;
		uint32_t node = 0;

		for (size_t i = 0; i < nr; i++) {
			if (base + k < got[i].first || base + k > got[i].last)
				continue;
			kind = got[i].kind;
			node = got[i].node;
		}
		if (kind != want->kind[k] || (kind && node != want->node[k]))
			fail_msg("at %lu: kind %u node %u, not %u %u", k, kind, node, want->kind[k],
				want->node[k]);
	}
}

static size_t random_windows(struct rng *rng, uint64_t base, struct gm_memmap_entry *windows)
{
	uint64_t at = rng_below(rng, 6);
	size_t nr = 0;

	while (nr < 6 && at < BITS) {
		uint64_t len = 1 + rng_below(rng, 6);

		if (len > BITS - at)
			len = BITS - at;
		windows[nr++] = (struct gm_memmap_entry){
			.first = base + at,
			.last = base + at + (len - 1),
			.kind = (uint32_t)rng_below(rng, 3) ? GM_MEMMAP_RESERVED : GM_MEMMAP_HOLE,
			.node = 9,
			.flags = rng_below(rng, 2) ? GM_MEMMAP_OVER_RAM : 0,
		};
		at += len + rng_below(rng, 12);
	}
	return nr;
}

static bool random_layout(struct rng *rng, uint64_t base)
{
	struct gm_memmap_entry windows[6];
	struct gm_memmap_ram ram[4];
	struct gm_memmap_entry got[ROOM];
	struct gm_memmap_layout layout = {
		.size = sizeof(layout),
		.first = base + rng_below(rng, 8),
		.last = base + BITS - 1 - rng_below(rng, 8),
		.align = UINT64_C(1) << rng_below(rng, 4),
		.ram = ram,
		.nr_ram = rng_below(rng, 5),
		.windows = windows,
		.nr_windows = random_windows(rng, base, windows),
	};
	struct naive want;
	size_t nr = 0;
	bool fits;
	int rc;

	for (size_t i = 0; i < layout.nr_ram; i++)
		ram[i] = (struct gm_memmap_ram){.len = rng_below(rng, 14), .node = (uint32_t)i};
	fits = naive_place(&layout, base, &want);
	rc = gm_memmap_place(&layout, got, ROOM, &nr, &err);
	assert_int_equal(rc, fits ? 0 : -ENOSPC);
	if (rc)
		return false;
	assert_ok(gm_memmap_check(got, nr, &err));
	compare(got, nr, base, &want);
	return true;
}

static void random_layouts_are_those_of_an_oracle(void **state)
{
	const uint64_t bases[] = {0, TOP - (BITS - 1), (UINT64_C(1) << 32) - 16};
	unsigned long placed = 0;

	(void)state;
	for (size_t b = 0; b < NR(bases); b++) {
		struct rng rng = {test_seed(10 + b)};

		for (unsigned long i = 0; i < support_scale(20000); i++)
			placed += random_layout(&rng, bases[b]);
	}
	assert_true(placed > support_scale(20000));
}

/* ---- e820 ---- */

static const struct gm_memmap_entry sample[] = {
	{0, 0x9fbff, GM_MEMMAP_RAM, 0, 0, 0},
	{0x9fc00, 0x9ffff, GM_MEMMAP_RESERVED, 0, 0, 0},
	{0xa0000, 0xfffff, GM_MEMMAP_RESERVED, 1, 0, 0},
	{0x100000, GIB(1) - 1, GM_MEMMAP_RAM, 0, 0, 0},
	{GIB(1), GIB(2) - 1, GM_MEMMAP_RAM, 1, GM_MEMMAP_HOTPLUG, 0},
	{GIB(2), GIB(2) + 0xfff, GM_MEMMAP_ACPI_RECLAIM, 0, 0, 0},
	{GIB(2) + 0x1000, GIB(2) + 0x1fff, GM_MEMMAP_ACPI_NVS, 0, 0, 0},
	{GIB(2) + 0x2000, GIB(2) + 0x2fff, GM_MEMMAP_UNUSABLE, 0, 0, 0},
	{GIB(4), GIB(5) - 1, GM_MEMMAP_RAM, 1, 0, 0},
	{GIB(5), GIB(6) - 1, GM_MEMMAP_RAM, 1, GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT, 0},
	{GIB(6), GIB(7) - 1, GM_MEMMAP_RAM, 1, 0, 0},
	{GIB(8), GIB(9) - 1, GM_MEMMAP_PMEM, 1, 0, 0},
	{TOP - 0xfff, TOP, GM_MEMMAP_SOFT_RESERVED, NONE, 0, 0},
};

static const struct gm_e820_entry records[] = {
	{0, 0x9fc00, GM_E820_RAM, 0},
	{0x9fc00, 0x60400, GM_E820_RESERVED, 0},
	{0x100000, GIB(2) - 0x100000, GM_E820_RAM, 0},
	{GIB(2), 0x1000, GM_E820_ACPI, 0},
	{GIB(2) + 0x1000, 0x1000, GM_E820_NVS, 0},
	{GIB(2) + 0x2000, 0x1000, GM_E820_UNUSABLE, 0},
	{GIB(4), GIB(1), GM_E820_RAM, 0},
	{GIB(6), GIB(1), GM_E820_RAM, 0},
	{GIB(8), GIB(1), GM_E820_PMEM, 0},
	{TOP - 0xfff, 0x1000, GM_E820_SOFT_RESERVED, 0},
};

static void neighbours_of_a_type_are_one_record(void **state)
{
	struct gm_e820_entry got[ROOM];
	size_t nr = 0;

	(void)state;
	assert_ok(gm_memmap_e820(sample, NR(sample), got, NR(records), &nr, &err));
	assert_int_equal(nr, NR(records));
	assert_memory_equal(got, records, sizeof(records));
	assert_ok(gm_memmap_e820(sample, 0, NULL, 0, &nr, &err));
	assert_int_equal(nr, 0);
}

static void a_table_that_cannot_be_written_is_refused(void **state)
{
	const struct gm_memmap_entry all[] = {{0, 9, 1, 0, 0, 0}, {10, TOP, 1, 1, 0, 0}};
	const struct gm_memmap_entry two[] = {{0, 9, 1, 0, 0, 0}, {10, TOP, 2, 1, 0, 0}};
	const struct gm_memmap_entry bad[] = {{0, 9, 0, 0, 0, 0}};
	struct gm_e820_entry got[ROOM] = {{.type = 7}};
	size_t nr = 7;

	(void)state;
	assert_fails(gm_memmap_e820(all, 2, got, ROOM, &nr, &err), ERANGE, "2^64");
	assert_fails(gm_memmap_e820(bad, 1, got, ROOM, &nr, &err), EINVAL, "entry 0");
	assert_int_equal(nr, 7);
	assert_fails(gm_memmap_e820(sample, NR(sample), got, 9, &nr, &err), ENOBUFS, "10 records");
	assert_int_equal(nr, 10);
	assert_int_equal(got[0].type, 7);
	assert_ok(gm_memmap_e820(two, 2, got, ROOM, &nr, &err));
	assert_int_equal(got[1].len, TOP - 9);
}

static uint64_t get(const uint8_t *from, unsigned int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | from[bytes];
	return value;
}

static void must_be_records(const uint8_t *from, const struct gm_e820_entry *want, size_t nr)
{
	for (size_t i = 0; i < nr; i++, from += 20) {
		assert_int_equal(get(from, 8), want[i].addr);
		assert_int_equal(get(from + 8, 8), want[i].len);
		assert_int_equal(get(from + 16, 4), want[i].type);
	}
}

static void records_are_packed_and_little_endian(void **state)
{
	static const uint8_t bytes[20] = {
		8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xef};
	const struct gm_e820_entry one = {
		0x0102030405060708, 0x8000000000000201, GM_E820_SOFT_RESERVED, 0};
	uint8_t buf[NR(records) * 20 + 1];

	(void)state;
	memset(buf, 0x5a, sizeof(buf));
	assert_ok(gm_e820_encode(&one, 1, buf, 20, &err));
	assert_memory_equal(buf, bytes, 20);
	assert_int_equal(buf[20], 0x5a);
	assert_ok(gm_e820_encode(records, NR(records), buf, sizeof(buf), &err));
	must_be_records(buf, records, NR(records));
	assert_int_equal(buf[sizeof(buf) - 1], 0x5a);
	memset(buf, 0x5a, sizeof(buf));
	assert_fails(gm_e820_encode(records, NR(records), buf, NR(records) * 20 - 1, &err), ENOBUFS,
		"199 bytes");
	assert_int_equal(err.len, 200);
	assert_int_equal(buf[0], 0x5a);
	assert_fails(gm_e820_encode(records, SIZE_MAX / 20 + 1, buf, 20, &err), ENOBUFS, "fit");
	assert_ok(gm_e820_encode(NULL, 0, NULL, 0, &err));
}

static void the_zero_page_has_room_for_128_records(void **state)
{
	static struct gm_e820_entry many[129];
	static uint8_t page[4097];

	(void)state;
	for (size_t i = 0; i < NR(many); i++)
		many[i] = (struct gm_e820_entry){i << 12, 1u << 12, (uint32_t)(1 + i % 2), 0};
	memset(page, 0x5a, sizeof(page));
	assert_fails(gm_e820_zero_page(many, 129, page, 4096, &err), E2BIG, "128");
	assert_fails(gm_e820_zero_page(many, 128, page, 4095, &err), ENOBUFS, "4095");
	assert_int_equal(page[0x1e8], 0x5a);
	assert_ok(gm_e820_zero_page(many, 128, page, 4096, &err));
	assert_int_equal(page[0x1e8], 128);
	must_be_records(page + 0x2d0, many, 128);
	assert_int_equal(page[0x2cf], 0x5a);
	assert_int_equal(page[0xcd0], 0x5a);
	assert_int_equal(page[0x1e7], 0x5a);
	assert_int_equal(page[0x1e9], 0x5a);
	assert_ok(gm_e820_zero_page(many, 2, page, sizeof(page), &err));
	assert_int_equal(page[0x1e8], 2);
	must_be_records(page + 0x2d0, many, 2);
	for (size_t i = 0x2d0 + 40; i < 0xcd0; i++)
		assert_int_equal(page[i], 0);
}

static void what_is_no_device_tree_is_refused(void **state)
{
	_Alignas(8) char blob[64] = "this is not a device tree";
	size_t needed = 7;

	(void)state;
	assert_int_equal(gm_memmap_fdt(sample, 1, 0, blob, sizeof(blob), &needed, &err),
		GM_TEST_FDT ? -EINVAL : -ENOTSUP);
	assert_int_equal(err.code, GM_TEST_FDT ? -EINVAL : -ENOTSUP);
	assert_non_null(strstr(err.text, GM_TEST_FDT ? "BADMAGIC" : "libfdt"));
	assert_int_equal(needed, 7);
	assert_string_equal(blob, "this is not a device tree");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_is_checked),
		cmocka_unit_test(ram_of_x86_goes_around_its_windows),
		cmocka_unit_test(ram_of_arm64_begins_at_its_place),
		cmocka_unit_test(ram_may_reach_the_top),
		cmocka_unit_test(what_does_not_fit_is_said),
		cmocka_unit_test(random_layouts_are_those_of_an_oracle),
		cmocka_unit_test(neighbours_of_a_type_are_one_record),
		cmocka_unit_test(a_table_that_cannot_be_written_is_refused),
		cmocka_unit_test(records_are_packed_and_little_endian),
		cmocka_unit_test(the_zero_page_has_room_for_128_records),
		cmocka_unit_test(what_is_no_device_tree_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
