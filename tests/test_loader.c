/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_loader.c - bzImages, Images for arm64 and RISC-V, EFI applications; what is told about them, and
 * what is refused. A real kernel is loaded by scripts/check-kernel.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "loader_guest.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define OPTS(...) GM_OPTS(gm_load_opts, __VA_ARGS__)
#define LOAD_AT(gpa) OPTS(.flags = GM_LOAD_AT, .addr = (gpa))

/* ---- bzImage ---- */

static void a_bzimage_goes_where_it_prefers(void **state)
{
	(void)state;
	image_bzimage(&image);
	assert_ok(load(NULL));
	assert_loaded(BZ_PREFERRED, BZ_SETUP, BZ_LEN);
	assert_int_equal(kernel.format, GM_KERNEL_BZIMAGE);
	assert_int_equal(kernel.machine, GM_MACHINE_X86_64);
	assert_int_equal(kernel.flags,
		GM_KERNEL_ENTRY32 | GM_KERNEL_ENTRY64 | GM_KERNEL_RELOCATABLE | GM_KERNEL_ABOVE_4G);
	assert_int_equal(kernel.protocol, 0x020f);
	assert_int_equal(kernel.first, BZ_PREFERRED);
	assert_int_equal(kernel.last, BZ_PREFERRED + BZ_INIT_SIZE - 1);
	assert_int_equal(kernel.entry32, BZ_PREFERRED);
	assert_int_equal(kernel.entry64, BZ_PREFERRED + 0x200);
	assert_int_equal(kernel.cmdline_max, 2047);
	assert_int_equal(kernel.initrd_last, 0x7fffffff);
	assert_int_equal(kernel.setup_len, 0x26c - 0x1f1);
	assert_memory_equal(kernel.setup, image.bytes + 0x1f1, kernel.setup_len);
}

static void a_bzimage_goes_where_it_is_told(void **state)
{
	(void)state;
	image_bzimage(&image);
	/* It will run at its preferred address all the same. */
	assert_ok(load(LOAD_AT(MIB(1))));
	assert_loaded(MIB(1), BZ_SETUP, BZ_LEN);
	assert_int_equal(kernel.entry32, MIB(1));
	assert_int_equal(kernel.last, BZ_PREFERRED + BZ_INIT_SIZE - 1);
	/* It will move itself up to the next multiple of its alignment. */
	assert_ok(load(LOAD_AT(MIB(17))));
	assert_int_equal(kernel.last, MIB(18) + BZ_INIT_SIZE - 1);
	assert_ok(load(LOAD_AT(HIGH)));
	assert_loaded(HIGH, BZ_SETUP, BZ_LEN);
	assert_int_equal(kernel.flags & GM_KERNEL_ENTRY32, 0);
	assert_int_equal(kernel.entry64, HIGH + 0x200);
	assert_fails(load(LOAD_AT(MIB(1) - 1)), ENOEXEC, "load address is 0xfffff");
	assert_fails(load(LOAD_AT(MIB(23))), EFAULT, "nothing is mapped at 0x1800000");
	assert_int_equal(err.gpa, RAM_LEN);
	assert_fails(load(LOAD_AT(UINT64_MAX)), ENOEXEC, "wraps");
	assert_fails(load(LOAD_AT(UINT64_MAX - BZ_LEN + 1)), ENOEXEC, "load address");
	assert_fails(load(LOAD_AT(ROM)), EACCES, "0x4000000");
	image_put(&image, 0x236, 2, 1);
	assert_fails(load(LOAD_AT(HIGH)), ENOEXEC, "XLF_CAN_BE_LOADED_ABOVE_4G");
	assert_fails(load(OPTS(.last = BZ_PREFERRED + BZ_INIT_SIZE - 2)), ERANGE, "0x1007fff");
	assert_ok(load(OPTS(.last = BZ_PREFERRED + BZ_INIT_SIZE - 1)));
}

static void one_that_cannot_be_moved_goes_to_1_mib(void **state)
{
	(void)state;
	image_bzimage(&image);
	image_put(&image, 0x234, 1, 0);
	assert_ok(load(NULL));
	assert_loaded(MIB(1), BZ_SETUP, BZ_LEN);
	assert_int_equal(kernel.first, MIB(1));
	assert_int_equal(kernel.last, BZ_PREFERRED + BZ_INIT_SIZE - 1);
	assert_ok(load(LOAD_AT(MIB(1))));
	assert_fails(load(LOAD_AT(MIB(2))), EINVAL, "not relocatable");
}

static void a_field_of_the_setup_header_at_its_limit_is_taken(void **state)
{
	static const struct spoilt list[] = {
		{0x1f1, 1, 1, 0, ""},
		{0x1f1, 1, (BZ_SETUP + BZ_LEN) / 512 - 2, ENOEXEC, "syssize is 0x1a0"},
		{0x1f1, 1, (BZ_SETUP + BZ_LEN) / 512 - 1, ENOEXEC, "setup_sects is 0xf"},
		{0x1f1, 1, 255, ENOEXEC, "setup_sects is 0xff"},
		{0x1f4, 4, BZ_LEN / 16 + 1, ENOEXEC, "syssize is 0x1a1: more paragraphs"},
		{0x1f4, 4, UINT32_MAX, ENOEXEC, "syssize"},
		{0x1f4, 4, 0, 0, ""},
		{0x1fe, 2, 0xaa54, ENOEXEC, "boot_flag is 0xaa54: must be 0xaa55"},
		{0x200, 1, 0xea, ENOEXEC, "jump is 0xea"},
		{0x201, 1, 0x69, ENOEXEC, "end of the setup header is 0x26b: less than"},
		{0x201, 1, 0x8e, 0, ""},
		{0x201, 1, 0x8f, ENOEXEC, "end of the setup header is 0x291: more than 0x290"},
		{0x201, 1, 0xff, ENOEXEC, "more than 0x290"},
		{0x206, 2, 0x01ff, ENOTSUP, "version is 0x1ff"},
		{0x206, 2, 0x02ff, 0, ""},
		{0x206, 2, 0x0300, ENOTSUP, "version is 0x300"},
		{0x211, 1, 0, ENOTSUP, "a zImage"},
		{0x230, 4, 0, ENOEXEC, "kernel_alignment is 0x0"},
		{0x230, 4, 0x300000, ENOEXEC, "kernel_alignment is 0x300000"},
		{0x230, 4, 0x80000000, EFAULT, "nothing is mapped"},
		{0x248, 4, BZ_LEN + 1, ENOEXEC, "payload_offset"},
		{0x248, 4, UINT32_MAX, ENOEXEC, "payload_offset"},
		{0x248, 4, BZ_LEN - 0x1000, 0, ""},
		{0x248, 4, BZ_LEN - 0x1000 + 1, ENOEXEC, "payload_length is 0x1000"},
		{0x24c, 4, UINT32_MAX, ENOEXEC, "payload_length"},
		{0x258, 8, MIB(1), 0, ""},
		{0x258, 8, MIB(1) - 1, ENOEXEC, "pref_address is 0xfffff: less than 0x100000"},
		{0x258, 8, UINT64_MAX, ENOEXEC, "pref_address"},
		{0x258, 8, UINT64_MAX - GIB(4), EFAULT, "nothing is mapped"},
		{0x260, 4, RAM_LEN - BZ_PREFERRED, 0, ""},
		{0x260, 4, RAM_LEN - BZ_PREFERRED + 1, EFAULT, "nothing is mapped at 0x1800000"},
		{0x260, 4, UINT32_MAX, EFAULT, "nothing is mapped"},
		{0x260, 4, 0, 0, ""},
		{0x264, 4, BZ_LEN - 1, 0, ""},
		{0x264, 4, BZ_LEN, ENOEXEC, "handover_offset"},
		{0x268, 4, BZ_LEN, ENOEXEC, "kernel_info_offset"},
		{0x268, 4, BZ_LEN - 1, 0, ""},
	};

	(void)state;
	image_bzimage(&image);
	try_all(list, COUNT(list), BZ_PREFERRED);
	/* No number of sectors means 4. */
	image_put(&image, 0x1f1, 1, 0);
	image_put(&image, 0x1f4, 4, (BZ_LEN - 0x400) / 16);
	assert_ok(load(NULL));
	assert_loaded(BZ_PREFERRED, 5 * 512, BZ_SETUP + BZ_LEN - 5 * 512);
}

static void older_protocols_say_less(void **state)
{
	static const struct {
		uint32_t protocol;
		uint8_t end;
		uint64_t first;
		uint64_t cmdline_max;
		uint64_t initrd_last;
		uint32_t flags;
	} versions[] = {
		{0x0200, 0x24, MIB(1), 255, 0x37ffffff, GM_KERNEL_ENTRY32},
		{0x0201, 0x26, MIB(1), 255, 0x37ffffff, GM_KERNEL_ENTRY32},
		{0x0202, 0x2c, MIB(1), 255, 0x37ffffff, GM_KERNEL_ENTRY32},
		{0x0203, 0x30, MIB(1), 255, 0x7fffffff, GM_KERNEL_ENTRY32},
		{0x0204, 0x30, MIB(1), 255, 0x7fffffff, GM_KERNEL_ENTRY32},
		{0x0205, 0x36, MIB(1), 255, 0x7fffffff, GM_KERNEL_ENTRY32 | GM_KERNEL_RELOCATABLE},
		{0x0206, 0x3c, MIB(1), 2047, 0x7fffffff, GM_KERNEL_ENTRY32 | GM_KERNEL_RELOCATABLE},
		{0x0207, 0x48, MIB(1), 2047, 0x7fffffff, GM_KERNEL_ENTRY32 | GM_KERNEL_RELOCATABLE},
		{0x0208, 0x50, MIB(1), 2047, 0x7fffffff, GM_KERNEL_ENTRY32 | GM_KERNEL_RELOCATABLE},
		{0x0209, 0x58, MIB(1), 2047, 0x7fffffff, GM_KERNEL_ENTRY32 | GM_KERNEL_RELOCATABLE},
		{0x020a, 0x64, BZ_PREFERRED, 2047, 0x7fffffff,
			GM_KERNEL_ENTRY32 | GM_KERNEL_RELOCATABLE},
		{0x020b, 0x68, BZ_PREFERRED, 2047, 0x7fffffff,
			GM_KERNEL_ENTRY32 | GM_KERNEL_RELOCATABLE},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(versions); i++) {
		image_bzimage(&image);
		image_put(&image, 0x206, 2, versions[i].protocol);
		image_put(&image, 0x201, 1, versions[i].end - 2u);
		assert_ok(load(NULL));
		assert_int_equal(kernel.protocol, versions[i].protocol);
		assert_int_equal(kernel.first, versions[i].first);
		assert_int_equal(kernel.cmdline_max, versions[i].cmdline_max);
		assert_int_equal(kernel.initrd_last, versions[i].initrd_last);
		assert_int_equal(kernel.flags, versions[i].flags);
		assert_int_equal(kernel.machine, GM_MACHINE_I386);
		assert_int_equal(kernel.setup_len, 0x200u + versions[i].end - 0x1f1);
		/* A byte less than the version has. */
		image_put(&image, 0x201, 1, versions[i].end - 3u);
		assert_fails(load(NULL), ENOEXEC, "end of the setup header");
	}
}

static void a_64_bit_entry_lies_in_the_kernel(void **state)
{
	(void)state;
	image_bzimage(&image);
	image.len = BZ_SETUP + 0x200;
	image_put(&image, 0x1f4, 4, 0x20);
	image_put(&image, 0x248, 8, 0);
	image_put(&image, 0x264, 8, 0);
	assert_fails(load(NULL), ENOEXEC, "xloadflags is 0x3: a 64-bit entry");
	image.len++;
	assert_ok(load(NULL));
}

/* ---- Images ---- */

static void an_arm64_image_goes_above_a_multiple_of_2_mib(void **state)
{
	(void)state;
	image_arm64(&image);
	assert_ok(load(NULL));
	assert_loaded(0x80000, 0, FLAT_FILE);
	assert_int_equal(kernel.format, GM_KERNEL_ARM64);
	assert_int_equal(kernel.machine, GM_MACHINE_ARM64);
	assert_int_equal(
		kernel.flags, GM_KERNEL_ENTRY64 | GM_KERNEL_RELOCATABLE | GM_KERNEL_EFI_STUB);
	assert_int_equal(kernel.page_size, 4096);
	assert_int_equal(kernel.entry64, 0x80000);
	assert_int_equal(kernel.last, 0x80000 + FLAT_LEN - 1);
	assert_int_equal(kernel.initrd_last, GIB(32) - 1);
	assert_ok(load(LOAD_AT(HIGH + MIB(2))));
	assert_loaded(HIGH + MIB(2) + 0x80000, 0, FLAT_FILE);
	assert_int_equal(kernel.initrd_last, GIB(36) - 1);
	assert_fails(load(LOAD_AT(MIB(1))), EINVAL, "no multiple of 2 MiB");
	assert_fails(load(LOAD_AT(UINT64_MAX - MIB(2) + 1)), EFAULT, "nothing is mapped");
	assert_fails(load(OPTS(.last = 0x80000 + FLAT_LEN - 2)), ENOSPC, "no memory");
	assert_ok(load(OPTS(.last = 0x80000 + FLAT_LEN - 1)));
	assert_fails(load(OPTS(.flags = GM_LOAD_AT, .last = 0x80000 + FLAT_LEN - 2)), ERANGE,
		"nothing may lie above");
}

static void fields_of_an_arm64_image(void **state)
{
	static const struct spoilt list[] = {
		{8, 8, MIB(2) - 1, 0, ""},
		{8, 8, MIB(2), ENOEXEC, "text_offset is 0x200000: not less than 0x200000"},
		{8, 8, UINT64_MAX, ENOEXEC, "text_offset"},
		{16, 8, 1, 0, ""},
		{16, 8, RAM_LEN - 0x80000, 0, ""},
		{16, 8, RAM_LEN - 0x80000 + 1, ENOSPC, "no memory"},
		{16, 8, INT64_MAX, ENOSPC, "no memory"},
		{16, 8, UINT64_C(1) << 63, ENOEXEC, "image_size is 0x8000000000000000"},
		{16, 8, UINT64_MAX, ENOEXEC, "image_size"},
		{60, 4, UINT32_MAX, 0, ""}, /* no EFI stub then */
		{0, 2, 0, 0, ""},
	};
	static const uint32_t pages[] = {0, 4096, 16384, 65536};

	(void)state;
	image_arm64(&image);
	try_all(list, COUNT(list), 0x80000);
	for (uint64_t flags = 0; flags < 16; flags++) {
		image_put(&image, 24, 8, flags);
		assert_ok(load(NULL));
		assert_int_equal(kernel.page_size, pages[flags >> 1 & 3]);
		assert_int_equal(!!(kernel.flags & GM_KERNEL_BIG_ENDIAN), flags & 1);
	}
	/* From a time when it had nothing to say. */
	image_put(&image, 16, 8, 0);
	image_put(&image, 8, 8, 0x80000);
	assert_ok(load(NULL));
	assert_int_equal(kernel.first, 0x80000);
	assert_int_equal(kernel.last, 0x80000 + FLAT_FILE - 1);
}

static void a_riscv_image_counts_from_where_memory_begins(void **state)
{
	static const struct spoilt list[] = {
		{8, 8, GIB(1), ENOEXEC, "text_offset is 0x40000000"},
		{8, 8, GIB(1) - 1, ENOSPC, "no memory"},
		{16, 8, UINT64_MAX, ENOEXEC, "image_size"},
		{32, 4, 0x10000, ENOTSUP, "header_version is 0x10000"},
		{32, 4, 1, 0, ""},
	};

	(void)state;
	image_riscv(&image);
	assert_ok(load(NULL));
	assert_loaded(MIB(2), 0, FLAT_FILE);
	assert_int_equal(kernel.format, GM_KERNEL_RISCV);
	assert_int_equal(kernel.machine, GM_MACHINE_RISCV64);
	assert_int_equal(kernel.entry64, MIB(2));
	assert_int_equal(kernel.initrd_last, UINT64_MAX);
	fill(MIB(2), 0, KIB(64));
	try_all(list, COUNT(list), MIB(2));
	image_put(&image, 32, 4, 1);
	image_put(&image, 48, 1, 'r');
	assert_fails(load(NULL), ENOEXEC, "magic");
	image_put(&image, 32, 4, 2);
	assert_ok(load(NULL));
	/* The machine of the stub tells 32 bits from 64. */
	image_put(&image, FLAT_PE + 4, 2, 0x5032);
	assert_ok(load(LOAD_AT(MIB(4))));
	assert_int_equal(kernel.machine, GM_MACHINE_RISCV32);
	assert_int_equal(kernel.flags & (GM_KERNEL_ENTRY32 | GM_KERNEL_ENTRY64), GM_KERNEL_ENTRY32);
	assert_int_equal(kernel.entry32, MIB(6));
}

/* ---- EFI applications ---- */

static void efi_applications_are_named_and_not_loaded(void **state)
{
	(void)state;
	image_pe(&image);
	assert_fails(load(NULL), ENOTSUP, "EFI application for arm64: firmware");
	assert_ok(probe());
	assert_int_equal(kernel.format, GM_KERNEL_PE);
	assert_int_equal(kernel.machine, GM_MACHINE_ARM64);
	assert_int_equal(kernel.flags, GM_KERNEL_EFI_STUB);
	image_zboot(&image, "zstd");
	assert_fails(load(NULL), ENOTSUP, "compressed by 'zstd', 0x800 bytes from 0x400 on");
	assert_ok(probe());
	assert_int_equal(kernel.format, GM_KERNEL_ZBOOT);
	/* A name without an end, and one that a terminal would obey. */
	image_zboot(&image, "0123456789012345678901234567890123456789");
	assert_fails(load(NULL), ENOTSUP, "'01234567890123456789012345678901'");
	image_zboot(&image, "\033[2J");
	assert_fails(load(NULL), ENOTSUP, "'?[2J'");
}

static void fields_of_an_efi_application(void **state)
{
	static const struct spoilt list[] = {
		{60, 4, FLAT_FILE - 23, ENOEXEC, "e_lfanew is 0xfe9"},
		{60, 4, UINT32_MAX, ENOEXEC, "e_lfanew is 0xffffffff"},
		{60, 4, FLAT_FILE - 24, ENOEXEC, "signature"},
		{FLAT_PE, 4, 0x4551, ENOEXEC, "signature at e_lfanew is 0x4551"},
		{FLAT_PE + 6, 2, 96, ENOTSUP, "arm64"},
		{FLAT_PE + 6, 2, 97, ENOEXEC, "NumberOfSections is 0x61"},
		{FLAT_PE + 20, 2, 69, ENOEXEC, "SizeOfOptionalHeader is 0x45"},
		{FLAT_PE + 20, 2, 70, ENOTSUP, "arm64"},
		{FLAT_PE + 20, 2, FLAT_FILE - FLAT_PE - 24, ENOTSUP, "arm64"},
		{FLAT_PE + 20, 2, FLAT_FILE - FLAT_PE - 23, ENOEXEC, "SizeOfOptionalHeader"},
		{FLAT_PE + 24, 2, 0x10b, ENOTSUP, "arm64"},
		{FLAT_PE + 24, 2, 0x10c, ENOEXEC, "magic of the optional header"},
		{FLAT_PE + 24 + 16, 4, FLAT_LEN, ENOEXEC, "AddressOfEntryPoint"},
		{FLAT_PE + 24 + 68, 2, 9, ENOEXEC, "no EFI application"},
		{FLAT_PE + 4, 2, 0x8664, ENOTSUP, "x86-64"},
		{FLAT_PE + 4, 2, 0x1234, ENOTSUP, "another machine"},
	};

	(void)state;
	image_pe(&image);
	for (size_t i = 0; i < COUNT(list); i++) {
		image_put(&image, list[i].off, list[i].width, list[i].value);
		assert_fails(load(NULL), list[i].code, list[i].word);
		image_pe(&image);
	}
	image_zboot(&image, "gzip");
	image_put(&image, 8, 4, FLAT_FILE + 1);
	assert_fails(load(NULL), ENOEXEC, "payload offset is 0x1001");
	image_put(&image, 8, 4, FLAT_FILE);
	assert_fails(load(NULL), ENOEXEC, "payload size is 0x800");
}

/* ---- all formats ---- */

static void each_cut_of_a_header_is_refused(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		size_t end;

		image_bzimage(&image);
		end = BZ_SETUP + 0x1400; /* kernel_info is the last that it points to */
		if (i == 1 || i == 2)
			(i == 1 ? image_arm64 : image_riscv)(&image), end = 63;
		else if (i == 3)
			image_pe(&image), end = FLAT_FILE;
		else if (i == 4)
			image_zboot(&image, "gzip"), end = FLAT_FILE;
		for (size_t len = end + 1; len-- > 0;) {
			image.len = len < image.len ? len : image.len;
			assert_true(load(NULL) < 0);
			assert_true(err.code == -ENOEXEC || (i >= 3 && err.code == -ENOTSUP));
			assert_true(err.text[0] != '\0');
		}
		assert_zero(0x80000, KIB(64));
		assert_zero(MIB(2), KIB(64));
		assert_zero(BZ_PREFERRED, KIB(64));
	}
}

static void what_is_no_kernel_is_refused(void **state)
{
	int pipes[2];

	(void)state;
	memset(&image, 0, sizeof(image));
	assert_fails(load(NULL), ENOEXEC, "0 bytes");
	image.len = 100;
	image_put(&image, 0, 4, 0x00088b1f);
	assert_fails(load(NULL), ENOEXEC, "1f 8b 08 00");
	kernel.size = sizeof(kernel);
	assert_fails(gm_load_kernel(reader, -1, NULL, &kernel, &err), EBADF, "file");
	assert_int_equal(pipe(pipes), 0);
	assert_fails(gm_load_kernel(reader, pipes[0], NULL, &kernel, &err), EINVAL, "regular");
	assert_fails(gm_kernel_probe(pipes[0], &kernel, &err), EINVAL, "regular");
	close(pipes[0]);
	close(pipes[1]);
}

static void options_are_checked(void **state)
{
	struct {
		struct gm_load_opts opts;
		uint64_t more;
	} newer = {.opts = {.size = sizeof(newer)}, .more = 1};

	(void)state;
	image_bzimage(&image);
	assert_fails(load(&newer.opts), E2BIG, "kernel");
	newer.more = 0;
	assert_ok(load(&newer.opts));
	assert_fails(load(&(struct gm_load_opts){0}), EINVAL, "kernel");
	assert_fails(load(OPTS(.formats = GM_KERNEL_PE)), EINVAL, "formats 0x10");
	assert_fails(load(OPTS(.machines = 0x20)), EINVAL, "machines 0x20");
	assert_fails(load(OPTS(.flags = 2)), EINVAL, "flags 0x2");
	assert_fails(load(OPTS(.reserved = 1)), EINVAL, "reserved");
	assert_fails(load(OPTS(.addr = MIB(1))), EINVAL, "GM_LOAD_AT");
	assert_fails(load(OPTS(.machines = GM_MACHINE_I386)), ENOTSUP, "x86-64");
	assert_fails(load(OPTS(.formats = GM_KERNEL_ELF)), ENOTSUP, "bzImage");
	kernel.size = sizeof(kernel) - 1;
	assert_fails(gm_load_kernel(reader, 0, NULL, &kernel, &err), EINVAL, "kernel");
	assert_fails(gm_kernel_probe(0, &kernel, &err), EINVAL, "kernel");
}

/* ---- while the map changes ---- */

struct loader {
	int fd;
	bool stop;
	int other; /* a code that was not expected */
	unsigned long done, refused;
};

static void *load_again_and_again(void *ctx)
{
	struct loader *loader = ctx;
	struct gm_reader *own = NULL;
	struct gm_error why;
	int rc = gm_reader_create(space, "loader", &own, &why);

	while (rc == 0 && !__atomic_load_n(&loader->stop, __ATOMIC_RELAXED)) {
		struct gm_kernel k = {.size = sizeof(k)};

		rc = gm_load_kernel(own, loader->fd, LOAD_AT(GIB(2)), &k, &why);
		if (rc == 0)
			__atomic_fetch_add(&loader->done, 1, __ATOMIC_RELAXED);
		if (rc != -EFAULT || why.gpa < GIB(2))
			continue;
		__atomic_fetch_add(&loader->refused, 1, __ATOMIC_RELAXED);
		rc = 0;
	}
	__atomic_store_n(&loader->other, rc, __ATOMIC_RELAXED);
	gm_reader_destroy(own);
	return NULL;
}

/* Waits for two more: the second began after the call. */
static void wait_for(const struct loader *loader, const unsigned long *count)
{
	unsigned long before = __atomic_load_n(count, __ATOMIC_RELAXED);

	while (__atomic_load_n(count, __ATOMIC_RELAXED) < before + 2) {
		assert_int_equal(__atomic_load_n(&loader->other, __ATOMIC_RELAXED), 0);
		sched_yield();
	}
}

static void loading_finds_memory_or_says_that_it_is_gone(void **state)
{
	struct loader loader = {.stop = false};
	pthread_t thread;

	(void)state;
	image_bzimage(&image);
	image_put(&image, 0x260, 4, 0);
	loader.fd = image_fd(&image);
	assert_int_equal(pthread_create(&thread, NULL, load_again_and_again, &loader), 0);
	for (unsigned long i = 0; i < support_scale(100); i++) {
		uint64_t id = add_ram(GIB(2), MIB(1));

		wait_for(&loader, &loader.done);
		assert_ok(gm_space_remove(space, id, &err));
		wait_for(&loader, &loader.refused);
	}
	__atomic_store_n(&loader.stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(loader.other, 0);
	close(loader.fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_start, guest_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_bzimage_goes_where_it_prefers),
		TEST(a_bzimage_goes_where_it_is_told),
		TEST(one_that_cannot_be_moved_goes_to_1_mib),
		TEST(a_field_of_the_setup_header_at_its_limit_is_taken),
		TEST(older_protocols_say_less),
		TEST(a_64_bit_entry_lies_in_the_kernel),
		TEST(an_arm64_image_goes_above_a_multiple_of_2_mib),
		TEST(fields_of_an_arm64_image),
		TEST(a_riscv_image_counts_from_where_memory_begins),
		TEST(efi_applications_are_named_and_not_loaded),
		TEST(fields_of_an_efi_application),
		TEST(each_cut_of_a_header_is_refused),
		TEST(what_is_no_kernel_is_refused),
		TEST(options_are_checked),
		TEST(loading_finds_memory_or_says_that_it_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
