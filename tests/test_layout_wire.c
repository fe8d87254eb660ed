/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_layout_wire.c - encoding and decoding of layouts, without I/O.
 *
 * The format's bytes are fixed here once, byte by byte. Then each field of a good layout is made
 * wrong in turn and must be named in the refusal; and each bit is turned: what is still accepted
 * must be written again as the same bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/layout_wire.h"
#include "random.h"
#include "support.h"

#define PAGE 4096u
#define NR_FILES 2u
#define NR_REGIONS 4u
#define FILES (GM_WIRE_HEAD_SIZE)
#define REGIONS (FILES + NR_FILES * GM_WIRE_FILE_SIZE)
#define LEN (REGIONS + NR_REGIONS * GM_WIRE_REGION_SIZE)
/* Byte of a field of region i. */
#define REGION(i, off) (REGIONS + (i)*GM_WIRE_REGION_SIZE + (off))

static const struct gm_wire_file good_files[NR_FILES] = {{.size = 16 * PAGE}, {.size = 4 * PAGE}};

static const struct gm_wire_region good_regions[NR_REGIONS] = {
	{.gpa = 0,
		.len = 8 * PAGE,
		.file = 0,
		.kind = GM_WIRE_RAM,
		.perms = GM_PERM_RWX,
		.name = "low"},
	{.gpa = 8 * PAGE,
		.len = PAGE,
		.off = 3 * PAGE,
		.file = 1,
		.kind = GM_WIRE_ROM,
		.perms = GM_PERM_RX,
		.name = "rom"},
	{.gpa = 64 * PAGE + 5,
		.len = 7,
		.file = GM_WIRE_NO_FILE,
		.kind = GM_WIRE_RESERVED,
		.name = "hole"},
	/* The last page of the address space. */
	{.gpa = UINT64_MAX - PAGE + 1,
		.len = PAGE,
		.off = 15 * PAGE,
		.file = 0,
		.kind = GM_WIRE_RAM,
		.perms = GM_PERM_R,
		.name = ""},
};

struct decoded {
	struct gm_wire_head head;
	struct gm_wire_file files[GM_WIRE_FILES_MAX];
	struct gm_wire_region regions[64];
};

static void put(uint8_t *buf, size_t off, unsigned int width, uint64_t value)
{
	for (unsigned int i = 0; i < width; i++)
		buf[off + i] = (uint8_t)(value >> (8 * i));
}

static void make_good(uint8_t *buf)
{
	gm_wire_put_head(buf, NR_REGIONS, NR_FILES);
	for (uint32_t i = 0; i < NR_FILES; i++)
		gm_wire_put_file(buf + FILES + i * GM_WIRE_FILE_SIZE, &good_files[i]);
	for (uint32_t i = 0; i < NR_REGIONS; i++)
		gm_wire_put_region(buf + REGION(i, 0), &good_regions[i]);
}

static int decode(const uint8_t *buf, struct decoded *ret, struct gm_wire_fault *fault)
{
	int rc = gm_wire_get_head(buf, &ret->head, fault);

	if (rc)
		return rc;
	assert_true(ret->head.nr_regions <= 64);
	return gm_wire_get_body(
		&ret->head, buf + GM_WIRE_HEAD_SIZE, ret->files, ret->regions, fault);
}

static void a_layout_survives_the_way(void **state)
{
	static struct decoded got;
	struct gm_wire_fault fault;
	uint8_t buf[LEN];

	(void)state;
	make_good(buf);
	assert_int_equal(decode(buf, &got, &fault), 0);
	assert_int_equal(got.head.nr_files, NR_FILES);
	assert_int_equal(got.head.nr_regions, NR_REGIONS);
	assert_int_equal(got.head.body_len, LEN - GM_WIRE_HEAD_SIZE);
	for (uint32_t i = 0; i < NR_FILES; i++)
		assert_true(got.files[i].size == good_files[i].size);
	for (uint32_t i = 0; i < NR_REGIONS; i++) {
		const struct gm_wire_region *a = &got.regions[i];
		const struct gm_wire_region *b = &good_regions[i];

		assert_true(a->gpa == b->gpa && a->len == b->len && a->off == b->off);
		assert_true(a->file == b->file && a->kind == b->kind && a->perms == b->perms);
		assert_string_equal(a->name, b->name);
	}
}

/* Magic and version; sizes of entries; counts, and the length of the body. */
static const char head_bytes[] = "GMLAYOUT\1\0\0\0"
				 "\x10\0\0\0\x50\0\0\0"
				 "\2\0\0\0\4\0\0\0\x60\1\0";
/* The second file. */
static const char file_bytes[] = "\0\x40\0\0\0\0\0\0\0\0\0\0\0\0\0";
/* The second region: gpa, length; offset, file, kind; permissions; name. */
static const char region_bytes[] = "\0\x80\0\0\0\0\0\0\0\x10\0\0\0\0\0\0"
				   "\0\x30\0\0\0\0\0\0\1\0\0\0\1\0\0\0"
				   "\5\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
				   "rom";

static void the_bytes_are_those_of_the_format(void **state)
{
	static const uint8_t zero[GM_WIRE_REGION_SIZE];
	uint8_t buf[LEN];

	(void)state;
	make_good(buf);
	assert_memory_equal(buf, head_bytes, sizeof(head_bytes));
	assert_memory_equal(buf + sizeof(head_bytes), zero, GM_WIRE_HEAD_SIZE - sizeof(head_bytes));
	assert_memory_equal(buf + FILES + GM_WIRE_FILE_SIZE, file_bytes, sizeof(file_bytes));
	assert_memory_equal(buf + REGION(1, 0), region_bytes, sizeof(region_bytes));
	assert_memory_equal(buf + REGION(1, sizeof(region_bytes)), zero,
		GM_WIRE_REGION_SIZE - sizeof(region_bytes));
	assert_memory_equal(buf + REGION(2, 24), "\xff\xff\xff\xff", 4);
}

static void a_layout_may_be_empty(void **state)
{
	struct gm_wire_head head;
	struct gm_wire_fault fault;
	uint8_t buf[GM_WIRE_HEAD_SIZE];

	(void)state;
	gm_wire_put_head(buf, 0, 0);
	assert_int_equal(gm_wire_get_head(buf, &head, &fault), 0);
	assert_int_equal(head.body_len, 0);
	assert_int_equal(gm_wire_get_body(&head, buf, NULL, NULL, &fault), 0);
}

static void the_limits_themselves_are_accepted(void **state)
{
	struct gm_wire_head head;
	struct gm_wire_fault fault;
	uint8_t buf[GM_WIRE_HEAD_SIZE];

	(void)state;
	gm_wire_put_head(buf, GM_WIRE_REGIONS_MAX, GM_WIRE_FILES_MAX);
	assert_int_equal(gm_wire_get_head(buf, &head, &fault), 0);
	assert_int_equal(head.body_len, GM_WIRE_BODY_MAX);
}

static void names_are_printable_and_end(void **state)
{
	struct gm_wire_region region = good_regions[0];
	uint8_t buf[GM_WIRE_REGION_SIZE];

	(void)state;
	memcpy(region.name, "a \x1b[2J\xc3\xa4\x7f~", 11);
	gm_wire_put_region(buf, &region);
	assert_string_equal((char *)buf + 48, "a ?[2J???~");
	memset(region.name, 'x', sizeof(region.name));
	gm_wire_put_region(buf, &region);
	assert_int_equal(buf[48 + 30], 'x');
	assert_int_equal(buf[48 + 31], 0);
}

/* One field of the good layout is made wrong. */
static const struct {
	const char *name;
	size_t off;
	unsigned int width;
	uint64_t value;
	int rc;
	const char *field;
	uint32_t item;
	size_t fault_off; /* 0 = off */
} wrongs[] = {
	{"another magic", 0, 1, 'g', -EPROTO, "magic", 0, 0},
	{"the end of the magic", 7, 1, 't', -EPROTO, "magic", 0, SIZE_MAX},
	{"version 0", 8, 4, 0, -ENOTSUP, "version", 0, 0},
	{"version 2", 8, 4, 2, -ENOTSUP, "version", 0, 0},
	{"big-endian version", 8, 4, 0x01000000, -ENOTSUP, "version", 0, 0},
	{"a file entry of 0 bytes", 12, 4, 0, -EPROTO, "size of a file entry", 0, 0},
	{"a file entry of 17 bytes", 12, 4, 17, -EPROTO, "size of a file entry", 0, 0},
	{"a region entry of 96 bytes", 16, 4, 96, -EPROTO, "size of a region entry", 0, 0},
	{"254 files", 20, 4, 254, -EPROTO, "number of files", 0, 0},
	{"2^32 - 1 files", 20, 4, UINT32_MAX, -EPROTO, "number of files", 0, 0},
	{"4097 regions", 24, 4, 4097, -EPROTO, "number of regions", 0, 0},
	{"a million regions", 24, 4, 1000000, -EPROTO, "number of regions", 0, 0},
	{"2^32 - 1 regions", 24, 4, UINT32_MAX, -EPROTO, "number of regions", 0, 0},
	{"one region more than the length", 24, 4, NR_REGIONS + 1, -EPROTO, "length of the body", 0,
		28},
	{"one region less than the length", 24, 4, NR_REGIONS - 1, -EPROTO, "length of the body", 0,
		28},
	{"one file more than the length", 20, 4, NR_FILES + 1, -EPROTO, "length of the body", 0,
		28},
	{"a length of 0", 28, 4, 0, -EPROTO, "length of the body", 0, 0},
	{"a length of 2^32 - 1", 28, 4, UINT32_MAX, -EPROTO, "length of the body", 0, 0},
	{"the first reserved byte", 32, 1, 1, -EPROTO, "reserved byte", 0, 0},
	{"the last reserved byte", 63, 1, 0x80, -EPROTO, "reserved byte", 0, 0},
	{"a file of 2^63 bytes", FILES, 8, UINT64_C(1) << 63, -EPROTO, "size of file", 0, 0},
	{"reserved byte of the second file", FILES + 16 + 15, 1, 1, -EPROTO,
		"reserved byte of file", 1, 0},
	{"the first file a page shorter", FILES, 8, 15 * PAGE, -EPROTO, "length of region", 3,
		REGION(3, 8)},
	{"the first file of 0 bytes", FILES, 8, 0, -EPROTO, "length of region", 0, REGION(0, 8)},
	{"the second file ends before the offset", FILES + 16, 8, 2 * PAGE, -EPROTO,
		"offset of region", 1, REGION(1, 16)},
	{"gpa not a multiple of 4096", REGION(0, 0), 8, 1, -EPROTO, "gpa of region", 0, 0},
	{"overlap with the region before by one page", REGION(1, 0), 8, 7 * PAGE, -EPROTO,
		"gpa of region", 1, 0},
	{"gpa of the region before", REGION(1, 0), 8, 0, -EPROTO, "gpa of region", 1, 0},
	{"overlap by a longer region before", REGION(0, 8), 8, 9 * PAGE, -EPROTO, "gpa of region",
		1, REGION(1, 0)},
	{"reserved region below the one before", REGION(2, 0), 8, 9 * PAGE - 1, -EPROTO,
		"gpa of region", 2, 0},
	{"length 0", REGION(0, 8), 8, 0, -EPROTO, "length of region", 0, 0},
	{"length not a multiple of 4096", REGION(0, 8), 8, PAGE + 1, -EPROTO, "length of region", 0,
		0},
	{"length that wraps by a page", REGION(3, 8), 8, 2 * PAGE, -EPROTO, "length of region", 3,
		0},
	{"length that wraps to the begin", REGION(1, 8), 8, 0 - (uint64_t)PAGE, -EPROTO,
		"length of region", 1, 0},
	{"reserved length that wraps", REGION(2, 8), 8, UINT64_MAX, -EPROTO, "length of region", 2,
		0},
	{"reserved length 0", REGION(2, 8), 8, 0, -EPROTO, "length of region", 2, 0},
	{"length past the file by a page", REGION(1, 8), 8, 2 * PAGE, -EPROTO, "length of region",
		1, 0},
	{"offset not a multiple of 4096", REGION(0, 16), 8, 8, -EPROTO, "offset of region", 0, 0},
	{"offset past the file", REGION(0, 16), 8, 17 * PAGE, -EPROTO, "offset of region", 0, 0},
	{"offset at the end of the file", REGION(0, 16), 8, 16 * PAGE, -EPROTO, "length of region",
		0, REGION(0, 8)},
	{"offset near 2^64", REGION(0, 16), 8, 0 - (uint64_t)PAGE, -EPROTO, "offset of region", 0,
		0},
	{"offset and length that wrap together", REGION(0, 16), 8, 0 - (uint64_t)PAGE * 8, -EPROTO,
		"offset of region", 0, 0},
	{"a file that is not there", REGION(0, 24), 4, NR_FILES, -EPROTO, "file of region", 0, 0},
	{"no file for RAM", REGION(0, 24), 4, GM_WIRE_NO_FILE, -EPROTO, "file of region", 0, 0},
	{"a file for a reserved region", REGION(2, 24), 4, 0, -EPROTO, "file of region", 2, 0},
	{"an offset for a reserved region", REGION(2, 16), 8, PAGE, -EPROTO, "offset of region", 2,
		0},
	{"permissions for a reserved region", REGION(2, 32), 4, 1, -EPROTO, "permissions of region",
		2, 0},
	{"kind 3", REGION(0, 28), 4, 3, -EPROTO, "kind of region", 0, 0},
	{"kind 2^32 - 1", REGION(0, 28), 4, UINT32_MAX, -EPROTO, "kind of region", 0, 0},
	{"no permission", REGION(0, 32), 4, 0, -EPROTO, "permissions of region", 0, 0},
	{"an unknown permission", REGION(0, 32), 4, 8, -EPROTO, "permissions of region", 0, 0},
	{"writable ROM", REGION(1, 32), 4, GM_PERM_RW, -EPROTO, "permissions of region", 1, 0},
	{"RAM that becomes ROM", REGION(0, 28), 4, GM_WIRE_ROM, -EPROTO, "permissions of region", 0,
		REGION(0, 32)},
	{"first reserved byte of a region", REGION(1, 36), 1, 1, -EPROTO, "reserved byte of region",
		1, 0},
	{"last reserved byte of a region", REGION(1, 47), 1, 1, -EPROTO, "reserved byte of region",
		1, 0},
	{"a control character in a name", REGION(0, 49), 1, 0x1b, -EPROTO, "name of region", 0, 0},
	{"a byte of 0x80 in a name", REGION(0, 48), 1, 0x80, -EPROTO, "name of region", 0, 0},
	{"a name that goes on behind its end", REGION(0, 79), 1, 'x', -EPROTO, "name of region", 0,
		0},
	{"the second file used by nobody", REGION(1, 24), 4, 0, -EPROTO, "file", 1, FILES + 16},
};

static void each_wrong_field_is_named(void **state)
{
	static struct decoded got;

	(void)state;
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		struct gm_wire_fault fault = {0};
		uint8_t buf[LEN];
		size_t off = wrongs[i].fault_off ? wrongs[i].fault_off : wrongs[i].off;
		int rc;

		if (off == SIZE_MAX)
			off = 0;
		make_good(buf);
		put(buf, wrongs[i].off, wrongs[i].width, wrongs[i].value);
		rc = decode(buf, &got, &fault);
		if (rc != wrongs[i].rc)
			fail_msg("%s: returned %d", wrongs[i].name, rc);
		if (strcmp(fault.field, wrongs[i].field) != 0 || fault.item != wrongs[i].item ||
			fault.off != off)
			fail_msg("%s: byte %zu: %s %u %s", wrongs[i].name, fault.off, fault.field,
				fault.item, fault.what);
		if (!wrongs[i].fault_off && fault.value != wrongs[i].value && fault.off)
			fail_msg("%s: value %#lx", wrongs[i].name, (unsigned long)fault.value);
		if (fault.field[0] == 'l' && wrongs[i].value == 0 && wrongs[i].off > FILES + 16)
			assert_string_equal(fault.what, "is 0");
	}
}

static void a_file_that_no_region_names_is_refused(void **state)
{
	static struct decoded got;
	struct gm_wire_fault fault;
	uint8_t buf[FILES + GM_WIRE_FILE_SIZE + GM_WIRE_REGION_SIZE];

	(void)state;
	gm_wire_put_head(buf, 1, 1);
	gm_wire_put_file(buf + FILES, &(struct gm_wire_file){.size = PAGE});
	gm_wire_put_region(buf + FILES + GM_WIRE_FILE_SIZE, &good_regions[2]);
	assert_int_equal(decode(buf, &got, &fault), -EPROTO);
	assert_string_equal(fault.what, "is used by no region");
	assert_int_equal(fault.off, FILES);
}

static void a_file_may_be_as_large_as_files_get(void **state)
{
	static struct decoded got;
	struct gm_wire_fault fault;
	uint8_t buf[LEN];

	(void)state;
	make_good(buf);
	put(buf, FILES, 8, INT64_MAX);
	assert_int_equal(decode(buf, &got, &fault), 0);
	assert_true(got.files[0].size == INT64_MAX);
}

static void a_name_without_an_end_is_refused(void **state)
{
	static struct decoded got;
	struct gm_wire_fault fault;
	uint8_t buf[LEN];

	(void)state;
	make_good(buf);
	/* The last one: a look behind its end would leave the buffer. */
	memset(buf + REGION(NR_REGIONS - 1, 48), 'x', 32);
	assert_int_equal(decode(buf, &got, &fault), -EPROTO);
	assert_string_equal(fault.what, "has no end");
	buf[REGION(NR_REGIONS - 1, 79)] = 0;
	assert_int_equal(decode(buf, &got, &fault), 0);
}

/* What is accepted must be the one way to write what it says. */
static bool is_canonical(const uint8_t *buf, const struct decoded *got)
{
	uint8_t again[LEN] = {0};
	uint8_t *at = again + GM_WIRE_HEAD_SIZE;

	gm_wire_put_head(again, got->head.nr_regions, got->head.nr_files);
	for (uint32_t i = 0; i < got->head.nr_files; i++, at += GM_WIRE_FILE_SIZE)
		gm_wire_put_file(at, &got->files[i]);
	for (uint32_t i = 0; i < got->head.nr_regions; i++, at += GM_WIRE_REGION_SIZE)
		gm_wire_put_region(at, &got->regions[i]);
	return memcmp(again, buf, (size_t)(at - again)) == 0;
}

static void each_bit_turned_is_refused_or_means_what_it_says(void **state)
{
	static struct decoded got;
	unsigned int accepted = 0;
	uint8_t buf[LEN];

	(void)state;
	for (size_t bit = 0; bit < LEN * 8; bit++) {
		struct gm_wire_fault fault = {.field = NULL};
		int rc;

		make_good(buf);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		rc = decode(buf, &got, &fault);
		if (rc == 0 && !is_canonical(buf, &got))
			fail_msg("bit %zu of byte %zu is lost", bit % 8, bit / 8);
		if (rc != 0 && (!fault.field || !fault.what || fault.off >= LEN))
			fail_msg("bit %zu of byte %zu: refused without a reason", bit % 8, bit / 8);
		accepted += rc == 0;
	}
	/* Sizes, addresses in range, names and permissions may change; the rest may not. */
	assert_in_range(accepted, 50, LEN * 8 / 4);
}

static void random_bytes_over_a_good_layout(void **state)
{
	static struct decoded got;
	struct rng rng = {test_seed(11)};
	uint8_t buf[LEN];

	(void)state;
	for (unsigned long i = 0; i < support_scale(200000); i++) {
		struct gm_wire_fault fault;
		uint64_t nr = 1 + rng_below(&rng, 4);

		make_good(buf);
		for (uint64_t j = 0; j < nr; j++) {
			unsigned int width = 1u << rng_below(&rng, 4);

			put(buf, FILES + rng_below(&rng, (LEN - FILES) / width) * width, width,
				rng_edge(&rng) * (rng_below(&rng, 2) ? PAGE : 1));
		}
		if (decode(buf, &got, &fault) == 0 && !is_canonical(buf, &got))
			fail_msg("round %lu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_layout_survives_the_way),
		cmocka_unit_test(the_bytes_are_those_of_the_format),
		cmocka_unit_test(a_layout_may_be_empty),
		cmocka_unit_test(the_limits_themselves_are_accepted),
		cmocka_unit_test(names_are_printable_and_end),
		cmocka_unit_test(each_wrong_field_is_named),
		cmocka_unit_test(a_name_without_an_end_is_refused),
		cmocka_unit_test(a_file_that_no_region_names_is_refused),
		cmocka_unit_test(a_file_may_be_as_large_as_files_get),
		cmocka_unit_test(each_bit_turned_is_refused_or_means_what_it_says),
		cmocka_unit_test(random_bytes_over_a_good_layout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
