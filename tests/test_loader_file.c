/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_loader_file.c - files as they are and RAM disks: where they go, in every sort of memory; command
 * lines.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>

#include "loader_guest.h"
#include "provider.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define PLACE(...) GM_OPTS(gm_load_place, __VA_ARGS__)

static struct gm_loaded loaded;

static void make_file(size_t len)
{
	memset(&image, 0, sizeof(image));
	image.len = len;
	image_pattern(&image, 0, len);
}

static int load_file(const struct gm_load_place *place)
{
	int fd = image_fd(&image);
	int rc;

	loaded = (struct gm_loaded){1, 2};
	memset(&err, 0, sizeof(err));
	rc = gm_load_file(reader, fd, place, &loaded, &err);
	if (rc)
		assert_true(loaded.gpa == 1 && loaded.len == 2);
	close(fd);
	return rc;
}

static void a_file_goes_to_the_address_given(void **state)
{
	(void)state;
	make_file(5000);
	assert_ok(load_file(PLACE(.flags = GM_LOAD_AT, .first = 12345)));
	assert_loaded(12345, 0, 5000);
	assert_int_equal(loaded.gpa, 12345);
	assert_int_equal(loaded.len, 5000);
	/* Over the border of two regions. */
	assert_ok(load_file(PLACE(.flags = GM_LOAD_AT, .first = RAM_SPLIT - 100, .off = 7)));
	assert_loaded(RAM_SPLIT - 100, 7, 4993);
	assert_int_equal(loaded.len, 4993);
	assert_ok(load_file(PLACE(.flags = GM_LOAD_AT, .first = RAM_LEN - 5000)));
	assert_loaded(RAM_LEN - 5000, 0, 5000);
}

static void what_is_no_memory_is_found_before_a_byte_is_written(void **state)
{
	(void)state;
	make_file(5000);
	assert_fails(load_file(PLACE(.flags = GM_LOAD_AT, .first = RAM_LEN - 4999)), EFAULT,
		"nothing is mapped at 0x1800000");
	assert_int_equal(err.gpa, RAM_LEN);
	assert_fails(load_file(PLACE(.flags = GM_LOAD_AT, .first = ROM)), EACCES, "0x4000000");
	assert_int_equal(err.gpa, ROM);
	assert_fails(load_file(PLACE(.flags = GM_LOAD_AT, .first = MMIO)), ENOTSUP, "a device");
	assert_int_equal(err.gpa, MMIO);
	assert_int_equal(nr_mmio, 0);
	assert_zero(RAM_LEN - 4999, 4999);
	assert_fails(load_file(PLACE(.flags = GM_LOAD_AT, .first = UINT64_MAX - 4998)), ERANGE,
		"0xffffffffffffec79");
	assert_fails(load_file(PLACE(.flags = GM_LOAD_AT, .first = UINT64_MAX - 4999)), EFAULT,
		"nothing is mapped");
	assert_ok(load_file(PLACE(.flags = GM_LOAD_AT, .first = 16, .last = 5015)));
	assert_fails(
		load_file(PLACE(.flags = GM_LOAD_AT, .first = 16, .last = 5014)), ERANGE, "0x1396");
}

static void a_file_goes_as_high_as_memory_allows(void **state)
{
	static const struct {
		uint64_t first, last, align, want;
		int code;
	} places[] = {
		{0, 0, 0, HIGH + HIGH_LEN - 8192, 0},
		{0, HIGH + HIGH_LEN - 8192 + 4998, 0, HIGH + HIGH_LEN - 12288, 0},
		{0, 0, 1, HIGH + HIGH_LEN - 5000, 0},
		{0, 0, MIB(2), HIGH + HIGH_LEN - MIB(2), 0},
		{0, 0, GIB(4), HIGH, 0},
		{0, HIGH + 4999, 0, HIGH, 0},
		{0, HIGH + 4998, 0, RAM_LEN - 8192, 0},
		{0, HIGH + 4998, GIB(1), 0, 0},
		{0, UINT32_MAX, 0, RAM_LEN - 8192, 0},
		{0, 4999, 0, 0, 0},
		{0, 4998, 0, 0, ENOSPC},
		{1, 4096 + 4999, 0, 4096, 0},
		{1, 4096 + 4998, 0, 0, ENOSPC},
		{RAM_LEN - 5000, UINT32_MAX, 1, RAM_LEN - 5000, 0},
		{RAM_LEN - 4999, UINT32_MAX, 1, 0, ENOSPC},
		{RAM_SPLIT - 4999, RAM_SPLIT, 1, RAM_SPLIT - 4999, 0}, /* both regions */
		{RAM_LEN, HIGH - 1, 1, 0, ENOSPC},                     /* ROM and a device */
		{HIGH + HIGH_LEN, 0, 1, 0, ENOSPC},
		{UINT64_MAX, 0, 1, 0, ENOSPC},
	};

	(void)state;
	make_file(5000);
	for (size_t i = 0; i < COUNT(places); i++) {
		int rc = load_file(PLACE(.first = places[i].first, .last = places[i].last,
			.align = places[i].align));

		if (rc != -places[i].code || (!rc && loaded.gpa != places[i].want))
			fail_msg("%zu: %d (%s), 0x%llx", i, rc, err.text,
				(unsigned long long)loaded.gpa);
		if (!rc)
			assert_loaded(places[i].want, 0, 5000);
	}
}

static void a_file_does_not_lie_over_a_hole(void **state)
{
	(void)state;
	add_ram(RAM_LEN + 4096, MIB(1));
	make_file(5000);
	assert_fails(load_file(PLACE(.first = RAM_LEN - 4999, .last = RAM_LEN + 4096 + 4998,
			     .align = 1)),
		ENOSPC, "no memory");
	assert_ok(load_file(
		PLACE(.first = RAM_LEN - 4999, .last = RAM_LEN + 4096 + 4999, .align = 1)));
	assert_int_equal(loaded.gpa, RAM_LEN + 4096);
	assert_ok(load_file(
		PLACE(.first = RAM_LEN - 5000, .last = RAM_LEN + 4096 + 4998, .align = 1)));
	assert_int_equal(loaded.gpa, RAM_LEN - 5000);
}

static void the_top_of_the_address_space_is_a_place(void **state)
{
	(void)state;
	add_ram(UINT64_MAX - MIB(1) + 1, MIB(1));
	make_file(5000);
	assert_ok(load_file(PLACE(.align = 1)));
	assert_int_equal(loaded.gpa, UINT64_MAX - 4999);
	assert_loaded(UINT64_MAX - 4999, 0, 5000);
	assert_ok(load_file(PLACE(.flags = GM_LOAD_AT, .first = UINT64_MAX - 4999)));
}

static void places_are_checked(void **state)
{
	(void)state;
	make_file(5000);
	assert_fails(load_file(&(struct gm_load_place){0}), EINVAL, "place");
	assert_fails(load_file(PLACE(.flags = 2)), EINVAL, "flags 0x2");
	assert_fails(load_file(PLACE(.reserved = 2)), EINVAL, "reserved");
	assert_fails(load_file(PLACE(.align = 12)), EINVAL, "align 0xc");
	assert_fails(load_file(PLACE(.first = 2, .last = 1)), EINVAL, "first 0x2 is above");
	assert_fails(load_file(PLACE(.flags = GM_LOAD_AT, .first = 12, .align = 8)), EINVAL,
		"first 0xc is no multiple");
	assert_fails(load_file(PLACE(.max_len = 4999)), EFBIG, "0x1388 bytes are more than 0x1387");
	assert_ok(load_file(PLACE(.max_len = 5000)));
	assert_ok(load_file(PLACE(.max_len = 1, .off = 4999)));
	assert_int_equal(loaded.len, 1);
	assert_fails(load_file(PLACE(.off = 5000)), ENODATA, "nothing to load");
	assert_fails(load_file(PLACE(.off = UINT64_MAX)), ENODATA, "nothing to load");
	make_file(0);
	assert_fails(load_file(PLACE(.max_len = 1)), ENODATA, "0x0");
}

static void every_sort_of_memory_takes_a_file(void **state)
{
	static uint8_t got[PROVIDED];

	(void)state;
	make_file(IMAGE_MAX);
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct gm_error *e = &err;
		int fd = image_fd(&image);
		struct provided p;

		provide(i, &p);
		memset(got, 0xcc, sizeof(got));
		p.set(&p, got);
		if (gm_load_file(p.reader, fd, PLACE(.flags = GM_LOAD_AT, .first = p.base + 1111),
			    &loaded, e))
			fail_msg("%s: %s", p.name, err.text);
		p.get(&p, got);
		assert_memory_equal(got + 1111, image.bytes, IMAGE_MAX);
		assert_int_equal(got[1110], 0xcc);
		assert_int_equal(got[1111 + IMAGE_MAX], 0xcc);
		unprovide(&p);
		close(fd);
	}
}

static void zeroed_memory_is_zeroed_in_every_sort(void **state)
{
	static uint8_t got[PROVIDED];

	(void)state;
	image_elf(&image, 64, EM_AARCH64, ET_DYN);
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		int fd = image_fd(&image);
		struct provided p;

		provide(i, &p);
		memset(got, 0xcc, sizeof(got));
		p.set(&p, got);
		kernel.size = sizeof(kernel);
		if (gm_load_kernel(p.reader, fd,
			    GM_OPTS(gm_load_opts, .flags = GM_LOAD_AT, .addr = p.base), &kernel,
			    &err))
			fail_msg("%s: %s", p.name, err.text);
		p.get(&p, got);
		assert_memory_equal(got, image.bytes + ELF_TEXT_OFF, ELF_TEXT_LEN);
		assert_memory_equal(got + 0x2000, image.bytes + ELF_DATA_OFF, ELF_DATA_LEN);
		for (size_t at = 0x2000 + ELF_DATA_LEN; at < 0x2000 + ELF_DATA_MEM; at++)
			assert_int_equal(got[at], 0);
		assert_int_equal(got[0x2000 + ELF_DATA_MEM], 0xcc);
		unprovide(&p);
		close(fd);
	}
}

/* ---- initial RAM disks ---- */

static int load_initrd(uint64_t last)
{
	int fd = image_fd(&image);
	int rc;

	memset(&err, 0, sizeof(err));
	loaded = (struct gm_loaded){1, 2};
	rc = gm_load_initrd(reader, fd, &kernel, last, &loaded, &err);
	if (rc)
		assert_true(loaded.gpa == 1 && loaded.len == 2);
	close(fd);
	return rc;
}

static void a_ram_disk_goes_above_the_kernel_or_else_below(void **state)
{
	(void)state;
	image_bzimage(&image);
	assert_ok(load(NULL));
	make_file(5000);
	assert_ok(load_initrd(0));
	assert_int_equal(loaded.gpa, RAM_LEN - 8192);
	assert_loaded(RAM_LEN - 8192, 0, 5000);
	assert_ok(load_initrd(kernel.last + 5000));
	assert_int_equal(loaded.gpa, kernel.last + 1);
	assert_ok(load_initrd(kernel.last + 4999));
	assert_int_equal(loaded.gpa, kernel.first - 8192);
	assert_loaded(kernel.first - 8192, 0, 5000);
	/* Not below 1 MiB on x86. */
	assert_ok(load_initrd(MIB(1) + 4999));
	assert_int_equal(loaded.gpa, MIB(1));
	assert_fails(load_initrd(MIB(1) + 4998), ENOSPC, "RAM disk");
	assert_fails(load_initrd(MIB(1) - 1), ENOSPC, "RAM disk");
	kernel.first = MIB(1);
	assert_fails(load_initrd(kernel.last + 4999), ENOSPC, "beside the kernel");
	kernel.initrd_last = MIB(1) + 4999;
	assert_fails(load_initrd(0), ENOSPC, "RAM disk");
	kernel.first = BZ_PREFERRED;
	assert_ok(load_initrd(0));
	assert_int_equal(loaded.gpa, MIB(1));
	kernel.initrd_last = UINT64_MAX;
	assert_ok(load_initrd(0));
	assert_int_equal(loaded.gpa, HIGH + HIGH_LEN - 8192);
	kernel.size = 8;
	assert_fails(load_initrd(0), EINVAL, "gm_kernel");
}

static void an_empty_ram_disk_is_refused(void **state)
{
	(void)state;
	image_arm64(&image);
	assert_ok(load(NULL));
	make_file(0);
	assert_fails(load_initrd(0), ENODATA, "RAM disk");
	make_file(5000);
	/* On arm64 it may lie below 1 MiB. */
	assert_ok(load_initrd(0x80000 - 1));
	assert_int_equal(loaded.gpa, 0x80000 - 8192);
}

/* ---- command lines ---- */

static void a_command_line_is_as_long_as_the_kernel_takes(void **state)
{
	char text[2050];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[2049] = '\0';
	image_bzimage(&image);
	assert_ok(load(NULL));
	fill(0x20000, 0xcc, 4096);
	assert_fails(gm_load_cmdline(reader, &kernel, 0x20000, text + 1, &loaded, &err), E2BIG,
		"2048 bytes, the kernel takes 2047");
	assert_ok(gm_load_cmdline(reader, &kernel, 0x20000, text + 2, &loaded, &err));
	assert_int_equal(loaded.gpa, 0x20000);
	assert_int_equal(loaded.len, 2048);
	assert_int_equal(gm_read(gm_reader_enter(reader), 0x20000, image.bytes, 2049, NULL), 0);
	gm_reader_leave(reader);
	assert_memory_equal(image.bytes, text + 2, 2048);
	assert_int_equal(image.bytes[2048], 0xcc);
	assert_ok(gm_load_cmdline(reader, &kernel, 0x20000, "", &loaded, &err));
	assert_int_equal(loaded.len, 1);
	assert_fails(gm_load_cmdline(reader, &kernel, RAM_LEN - 5, "12345", &loaded, &err), EFAULT,
		"0x1800000");
	assert_int_equal(err.gpa, RAM_LEN);
	assert_ok(gm_load_cmdline(reader, &kernel, RAM_LEN - 6, "12345", &loaded, &err));
	assert_fails(
		gm_load_cmdline(reader, &kernel, ROM, "1", &loaded, &err), EACCES, "0x4000000");
	assert_fails(
		gm_load_cmdline(reader, &kernel, UINT64_MAX, "1", &loaded, &err), ERANGE, "wraps");
	assert_fails(
		gm_load_cmdline(reader, &kernel, MMIO, "1", &loaded, &err), ENOTSUP, "a device");
	assert_int_equal(nr_mmio, 0);
	kernel.size = 0;
	assert_fails(
		gm_load_cmdline(reader, &kernel, 0x20000, "", &loaded, &err), EINVAL, "no kernel");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_start, guest_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_file_goes_to_the_address_given),
		TEST(what_is_no_memory_is_found_before_a_byte_is_written),
		TEST(a_file_goes_as_high_as_memory_allows),
		TEST(a_file_does_not_lie_over_a_hole),
		TEST(the_top_of_the_address_space_is_a_place),
		TEST(places_are_checked),
		TEST(every_sort_of_memory_takes_a_file),
		TEST(zeroed_memory_is_zeroed_in_every_sort),
		TEST(a_ram_disk_goes_above_the_kernel_or_else_below),
		TEST(an_empty_ram_disk_is_refused),
		TEST(a_command_line_is_as_long_as_the_kernel_takes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
