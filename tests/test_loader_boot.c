/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_loader_boot.c - what an x86 guest is told at boot, compared with the kernel's own structs.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/setup.h"
#include "loader_guest.h"

#if defined(__x86_64__)
#include <asm/bootparam.h>

/* The offsets that the library has are the kernel's. */
#define SAME(offset, field) _Static_assert((offset) == offsetof(struct boot_params, field), #field)
SAME(BOOT_RSDP, acpi_rsdp_addr);
SAME(BOOT_EXT_INITRD, ext_ramdisk_image);
SAME(BOOT_EXT_INITRD_LEN, ext_ramdisk_size);
SAME(BOOT_EXT_CMDLINE, ext_cmd_line_ptr);
SAME(BOOT_SENTINEL, sentinel);
SAME(SETUP_SECTS, hdr.setup_sects);
SAME(SETUP_SYSSIZE, hdr.syssize);
SAME(SETUP_BOOT_FLAG, hdr.boot_flag);
SAME(SETUP_JUMP, hdr.jump);
SAME(SETUP_MAGIC, hdr.header);
SAME(SETUP_VERSION, hdr.version);
SAME(SETUP_LOADER, hdr.type_of_loader);
SAME(SETUP_LOADFLAGS, hdr.loadflags);
SAME(SETUP_CODE32_START, hdr.code32_start);
SAME(SETUP_INITRD, hdr.ramdisk_image);
SAME(SETUP_INITRD_LEN, hdr.ramdisk_size);
SAME(SETUP_CMDLINE, hdr.cmd_line_ptr);
SAME(SETUP_INITRD_MAX, hdr.initrd_addr_max);
SAME(SETUP_ALIGNMENT, hdr.kernel_alignment);
SAME(SETUP_RELOCATABLE, hdr.relocatable_kernel);
SAME(SETUP_XLOADFLAGS, hdr.xloadflags);
SAME(SETUP_CMDLINE_SIZE, hdr.cmdline_size);
SAME(SETUP_PAYLOAD_OFF, hdr.payload_offset);
SAME(SETUP_PAYLOAD_LEN, hdr.payload_length);
SAME(SETUP_DATA, hdr.setup_data);
SAME(SETUP_PREF_ADDRESS, hdr.pref_address);
SAME(SETUP_INIT_SIZE, hdr.init_size);
SAME(SETUP_HANDOVER, hdr.handover_offset);
_Static_assert(SETUP_LOADED_HIGH == LOADED_HIGH, "loadflags");
_Static_assert(SETUP_XLF_KERNEL_64 == XLF_KERNEL_64, "xloadflags");
_Static_assert(SETUP_XLF_ABOVE_4G == XLF_CAN_BE_LOADED_ABOVE_4G, "xloadflags");
_Static_assert(GM_BOOT_PARAMS_LEN == sizeof(struct boot_params), "boot_params");
#endif

#define RSDP 0xe0000u

static uint8_t page[GM_BOOT_PARAMS_LEN];

static const struct gm_memmap_entry map[] = {
	{0, 0x9ffff, GM_MEMMAP_RAM, 0, 0, 0},
	{0xa0000, 0xfffff, GM_MEMMAP_RESERVED, 0, 0, 0},
	{0x100000, RAM_LEN - 1, GM_MEMMAP_RAM, 0, 0, 0},
	{GIB(4), GIB(4) + HIGH_LEN - 1, GM_MEMMAP_RAM, 0, 0, 0},
};

static struct gm_boot_info info;

static struct gm_boot_info usual(void)
{
	return (struct gm_boot_info){
		.size = sizeof(info),
		.kernel = &kernel,
		.cmdline = {0x20000, 20},
		.initrd = {MIB(20), 5000},
		.map = map,
		.nr_map = 4,
		.rsdp = RSDP,
	};
}

/* The usual information with some members set to something else. */
#define TELL(...) (info = usual(), __VA_ARGS__, gm_boot_params(&info, page, sizeof(page), &err))
#define PVH(gpa, ...)                                                                              \
	(info = usual(), __VA_ARGS__, gm_pvh_info(&info, gpa, page, sizeof(page), &needed, &err))
#define PART(gpa, len)                                                                             \
	(struct gm_loaded)                                                                         \
	{                                                                                          \
		gpa, len                                                                           \
	}

static uint64_t number(size_t off, unsigned int width)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < width; i++)
		value |= (uint64_t)page[off + i] << (8 * i);
	return value;
}

static void load_bzimage(void)
{
	image_bzimage(&image);
	assert_ok(load(NULL));
}

static void boot_params_has_the_kernels_header_and_the_addresses(void **state)
{
	(void)state;
	load_bzimage();
	memset(page, 0xff, sizeof(page));
	assert_ok(TELL(info.setup_data = 0x12345678));
	assert_int_equal(number(0x202, 4), 0x53726448); /* HdrS */
	assert_int_equal(number(0x206, 2), 0x020f);
	assert_int_equal(number(0x1f1, 1), 2);
	assert_int_equal(number(0x258, 8), BZ_PREFERRED);
	assert_int_equal(number(0x260, 4), BZ_INIT_SIZE);
	assert_int_equal(number(0x210, 1), 0xff);
	assert_int_equal(number(0x214, 4), BZ_PREFERRED);
	assert_int_equal(number(0x218, 4), MIB(20));
	assert_int_equal(number(0x21c, 4), 5000);
	assert_int_equal(number(0x228, 4), 0x20000);
	assert_int_equal(number(0x250, 8), 0x12345678);
	assert_int_equal(number(0x70, 8), RSDP);
	assert_int_equal(number(0x1ef, 1), 0);
	assert_int_equal(number(0xc0, 4) | number(0xc4, 4) | number(0xc8, 4), 0);
	assert_int_equal(number(0x1e8, 1), 4);
	assert_int_equal(number(0x2d0, 8), 0);
	assert_int_equal(number(0x2d0 + 60, 8), GIB(4));
	assert_int_equal(number(0x2d0 + 68, 8), HIGH_LEN);
	/* Behind the header nothing of the file goes on. */
	for (size_t i = 0x26c; i < 0x2d0; i++)
		assert_int_equal(page[i], 0);
	assert_ok(TELL(info.loader = 0x21));
	assert_int_equal(number(0x210, 1), 0x21);
}

static void what_lies_above_4_gib_has_high_halves(void **state)
{
	const struct gm_loaded cmdline = {HIGH + 0x1000, 20};
	const struct gm_loaded initrd = {HIGH * 3 + 0x2000, GIB(9) + 5};

	(void)state;
	load_bzimage();
	assert_ok(TELL(info.cmdline = cmdline, info.initrd = initrd));
	assert_int_equal(number(0x218, 4), 0x2000);
	assert_int_equal(number(0xc0, 4), 3);
	assert_int_equal(number(0x21c, 4), GIB(1) + 5);
	assert_int_equal(number(0xc4, 4), 2);
	assert_int_equal(number(0x228, 4), 0x1000);
	assert_int_equal(number(0xc8, 4), 1);
	/* A kernel that cannot reach it is not told so. */
	kernel.flags &= ~GM_KERNEL_ABOVE_4G;
	assert_fails(TELL(info.cmdline = cmdline), ERANGE, "command line at 0x100001000");
	assert_fails(TELL(info.initrd = initrd), ERANGE, "RAM disk at 0x300002000");
	assert_ok(TELL(info.initrd = PART(0x7ffff000, 0x1000)));
	assert_fails(TELL(info.initrd = PART(0x7ffff000, 0x1001)), ERANGE, "not above 0x7fffffff");
	assert_ok(TELL(info.cmdline = PART(UINT32_MAX - 19, 20)));
	assert_fails(TELL(info.cmdline = PART(UINT32_MAX - 18, 20)), ERANGE, "command line");
}

static void an_elf_kernel_gets_a_header_that_linux_takes(void **state)
{
	(void)state;
	image_elf(&image, 64, 62, 2);
	assert_ok(load(NULL));
	assert_ok(TELL(info.loader = 0));
	assert_int_equal(number(0x1fe, 2), 0xaa55);
	assert_int_equal(number(0x202, 4), 0x53726448);
	assert_int_equal(number(0x210, 1), 0xff);
	assert_int_equal(number(0x211, 1), 1);
	assert_int_equal(number(0x218, 4), MIB(20));
	assert_int_equal(number(0x228, 4), 0x20000);
	assert_int_equal(number(0x238, 4), 2047);
}

static void nothing_is_told_of_what_is_not_there(void **state)
{
	const struct gm_loaded none = {0x1234, 0};

	(void)state;
	load_bzimage();
	assert_ok(gm_boot_params(
		GM_OPTS(gm_boot_info, .kernel = &kernel, .initrd = none, .cmdline = none), page,
		sizeof(page), &err));
	assert_int_equal(number(0x218, 8), 0);
	assert_int_equal(number(0x228, 4), 0);
	assert_int_equal(number(0x1e8, 1), 0);
}

static void boot_information_is_checked(void **state)
{
	struct gm_memmap_entry many[129];
	uint8_t before[GM_BOOT_PARAMS_LEN];

	(void)state;
	load_bzimage();
	memset(page, 0x77, sizeof(page));
	memcpy(before, page, sizeof(page));
	for (uint64_t i = 0; i < 129; i++)
		many[i] =
			(struct gm_memmap_entry){i * 8192, i * 8192 + 4095, GM_MEMMAP_RAM, 0, 0, 0};
#define REFUSED(code, word, ...) assert_fails(TELL(__VA_ARGS__), code, word)
	assert_fails((info = usual(), gm_boot_params(&info, page, 4095, &err)), ENOBUFS, "4096");
	REFUSED(EINVAL, "size", info.size = 4);
	REFUSED(EINVAL, "no kernel", info.kernel = NULL);
	REFUSED(EINVAL, "loader", info.loader = 0x100);
	REFUSED(EINVAL, "reserved", info.reserved = 1);
	REFUSED(E2BIG, "128", info.map = many, info.nr_map = 129);
	REFUSED(E2BIG, "2048 bytes, the kernel takes 2047", info.cmdline = PART(0, 2049));
	REFUSED(ERANGE, "wraps", info.initrd = PART(UINT64_MAX, 2));
	REFUSED(ERANGE, "wraps", info.cmdline = PART(UINT64_MAX, 2));
	many[1].first = 1;
	REFUSED(EEXIST, "", info.map = many, info.nr_map = 2);
	kernel.setup_len = GM_SETUP_HEADER_MAX;
	REFUSED(EINVAL, "setup_len is 160", info.loader = 0);
	kernel.machine = GM_MACHINE_ARM64;
	REFUSED(EINVAL, "x86", info.loader = 0);
	assert_memory_equal(page, before, sizeof(page));
	load_bzimage();
	many[1].first = 8192;
	assert_ok(TELL(info.map = many, info.nr_map = 128));
	assert_int_equal(number(0x1e8, 1), 128);
	assert_ok(TELL(info.cmdline = PART(0, 2048)));
}

/* ---- PVH ---- */

static void hvm_start_info_has_its_lists_behind_it(void **state)
{
	const size_t len = 56 + 32 + 4 * 24;
	size_t needed = 0;

	(void)state;
	image_elf(&image, 64, 62, 2);
	assert_ok(load(NULL));
	memset(page, 0xff, sizeof(page));
	info = usual();
	assert_fails(gm_pvh_info(&info, 0x6000, page, len - 1, &needed, &err), ENOBUFS, "184");
	assert_int_equal(needed, len);
	assert_int_equal(page[0], 0xff);
	memset(&err, 0, sizeof(err));
	assert_ok(gm_pvh_info(&info, 0x6000, page, len, &needed, &err));
	assert_int_equal(err.code, 0);
	assert_int_equal(page[len], 0xff);
	assert_int_equal(number(0, 4), 0x336ec578);
	assert_int_equal(number(4, 4), 1);
	assert_int_equal(number(8, 4), 0);
	assert_int_equal(number(12, 4), 1);
	assert_int_equal(number(16, 8), 0x6000 + 56);
	assert_int_equal(number(24, 8), 0x20000);
	assert_int_equal(number(32, 8), RSDP);
	assert_int_equal(number(40, 8), 0x6000 + 88);
	assert_int_equal(number(48, 4), 4);
	assert_int_equal(number(52, 4), 0);
	assert_int_equal(number(56, 8), MIB(20));
	assert_int_equal(number(64, 8), 5000);
	assert_int_equal(number(72, 8) | number(80, 8), 0);
	assert_int_equal(number(88 + 24, 8), 0xa0000);
	assert_int_equal(number(88 + 24 + 8, 8), 0x60000);
	assert_int_equal(number(88 + 24 + 16, 4), 2);
	assert_int_equal(number(88 + 24 + 20, 4), 0);
	assert_int_equal(number(88 + 72, 8), GIB(4));
}

static void the_pvh_protocol_reaches_4_gib(void **state)
{
	size_t needed = 0;

	(void)state;
	image_elf(&image, 64, 62, 2);
	assert_ok(load(NULL));
	assert_ok(PVH(GIB(4) - 184, info.loader = 0));
	assert_fails(PVH(GIB(4) - 176, info.loader = 0), ERANGE, "hvm_start_info");
	assert_fails(PVH(UINT64_MAX - 7, info.loader = 0), ERANGE, "hvm_start_info");
	assert_fails(PVH(0x6004, info.loader = 0), EINVAL, "multiple of 8");
	assert_fails(PVH(0x6000, info.initrd = PART(GIB(4) - 1, 2)), ERANGE, "RAM disk");
	assert_fails(PVH(0x6000, info.cmdline = PART(GIB(4), 2)), ERANGE, "command line");
	assert_fails(PVH(0x6000, info.kernel = NULL), EINVAL, "no kernel");
	assert_fails(PVH(0x6000, info.size = 1), EINVAL, "size");
	assert_ok(PVH(0x6000, info.initrd = PART(0, 0), info.nr_map = 0));
	assert_int_equal(needed, 56);
	assert_int_equal(number(12, 8) | number(16, 8) | number(40, 8), 0);
}

static void a_map_that_cannot_be_is_refused(void **state)
{
	const struct gm_memmap_entry whole = {0, UINT64_MAX, GM_MEMMAP_RAM, 0, 0, 0};
	size_t needed = 0;

	(void)state;
	image_elf(&image, 64, 62, 2);
	assert_ok(load(NULL));
	assert_fails(PVH(0x6000, info.map = &whole, info.nr_map = 1), ERANGE, "");
	assert_int_equal(gm_pvh_info(&info, 0, page, 4096, &needed, NULL), -ERANGE);
	assert_int_equal(needed, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_start, guest_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(boot_params_has_the_kernels_header_and_the_addresses),
		TEST(what_lies_above_4_gib_has_high_halves),
		TEST(an_elf_kernel_gets_a_header_that_linux_takes),
		TEST(nothing_is_told_of_what_is_not_there),
		TEST(boot_information_is_checked),
		TEST(hvm_start_info_has_its_lists_behind_it),
		TEST(the_pvh_protocol_reaches_4_gib),
		TEST(a_map_that_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
