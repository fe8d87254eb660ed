/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot_x86.c - what a kernel for x86 is told at boot: struct boot_params, struct hvm_start_info.
 *
 * Sources: Linux, Documentation/arch/x86/boot.rst, zero-page.rst and
 * arch/x86/include/uapi/asm/bootparam.h; Xen, xen/include/public/arch-x86/hvm/start_info.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <guestmem/loader.h>
#include <string.h>

#include "core/error.h"
#include "core/image.h"
#include "core/memmap.h"
#include "core/setup.h"

#define FOUR_GIB (UINT64_C(1) << 32)
#define X86 (GM_MACHINE_I386 | GM_MACHINE_X86_64)
#define LOADER_OTHER 0xffu /* type_of_loader without a number of its own */

/* Of an ELF file, which says nothing about the protocol. */
#define ELF_PROTOCOL 0x020cu
#define ELF_ALIGNMENT 0x1000000u

#define PVH_MAGIC 0x336ec578u
#define PVH_INFO_LEN 56u
#define PVH_MODULE_LEN 32u
#define PVH_RECORD_LEN 24u

/* ---- what is asked for ---- */

static int check_part(const struct gm_loaded *part, const char *what, struct gm_error *err)
{
	struct gm_range range;

	if (part->len && !gm_range_make(part->gpa, part->len, &range))
		return gm_error_set(err, -ERANGE, part->gpa, part->len,
			"boot information: the %s at 0x%" PRIx64 " wraps past the last address",
			what, part->gpa);
	return 0;
}

static int check_kernel(const struct gm_boot_info *info, struct gm_error *err)
{
	const struct gm_kernel *kernel = info->kernel;

	if (!kernel || kernel->size < sizeof(*kernel))
		return gm_error_set(err, -EINVAL, 0, 0, "boot information: no kernel is given");
	if (!(kernel->machine & X86) || !(kernel->format & (GM_KERNEL_BZIMAGE | GM_KERNEL_ELF)))
		return gm_error_set(err, -EINVAL, 0, 0,
			"boot information: the kernel is neither a bzImage nor an ELF file for "
			"x86");
	if (kernel->setup_len > sizeof(kernel->setup) - 1)
		return gm_error_set(err, -EINVAL, 0, 0,
			"boot information: the kernel's setup_len is %" PRIu32 ", more than %zu",
			kernel->setup_len, sizeof(kernel->setup) - 1);
	if (info->cmdline.len && info->cmdline.len - 1 > kernel->cmdline_max)
		return gm_error_set(err, -E2BIG, info->cmdline.gpa, info->cmdline.len,
			"boot information: the command line has %" PRIu64
			" bytes, the kernel takes %" PRIu64,
			info->cmdline.len - 1, kernel->cmdline_max);
	return 0;
}

static int check_info(
	struct gm_boot_info *ret, const struct gm_boot_info *info, struct gm_error *err)
{
	int rc = gm_opts_copy(ret, sizeof(*ret), info, sizeof(*ret));

	if (rc)
		return gm_opts_error(err, rc, "boot information");
	if (ret->loader > 0xff || ret->reserved)
		return gm_error_set(err, -EINVAL, 0, 0,
			"boot information: loader or reserved have bits that are not known");
	rc = check_kernel(ret, err);
	if (!rc)
		rc = check_part(&ret->cmdline, "command line", err);
	return rc ? rc : check_part(&ret->initrd, "RAM disk", err);
}

/* Nothing of it lies above @last, and @why. */
static int check_below(const struct gm_loaded *part, const char *what, uint64_t last,
	const char *why, struct gm_error *err)
{
	if (part->len == 0 || (part->gpa <= last && part->len - 1 <= last - part->gpa))
		return 0;
	return gm_error_set(err, -ERANGE, part->gpa, part->len,
		"boot information: the %s at 0x%" PRIx64 " ends at 0x%" PRIx64
		", %s not above 0x%" PRIx64,
		what, part->gpa, part->gpa + (part->len - 1), why, last);
}

/* ---- struct boot_params ---- */

static int check_reach(const struct gm_boot_info *info, struct gm_error *err)
{
	const struct gm_kernel *kernel = info->kernel;
	uint64_t last = kernel->initrd_last < UINT32_MAX ? kernel->initrd_last : UINT32_MAX;
	int rc;

	if (kernel->flags & GM_KERNEL_ABOVE_4G)
		return 0;
	rc = check_below(&info->cmdline, "command line", UINT32_MAX, "for this kernel", err);
	return rc ? rc : check_below(&info->initrd, "RAM disk", last, "for this kernel", err);
}

/* As much of a setup header as a kernel looks for that has none. */
static void put_elf_header(uint8_t *page, const struct gm_kernel *kernel)
{
	gm_put_le(page + SETUP_BOOT_FLAG, 2, 0xaa55);
	gm_put_le(page + SETUP_MAGIC, 4, 0x53726448); /* "HdrS" */
	gm_put_le(page + SETUP_VERSION, 2, ELF_PROTOCOL);
	page[SETUP_LOADFLAGS] = SETUP_LOADED_HIGH;
	gm_put_le(page + SETUP_ALIGNMENT, 4, ELF_ALIGNMENT);
	gm_put_le(page + SETUP_CMDLINE_SIZE, 4, kernel->cmdline_max);
}

static void put_header(uint8_t *page, const struct gm_boot_info *info)
{
	const struct gm_kernel *kernel = info->kernel;

	if (kernel->format == GM_KERNEL_BZIMAGE)
		memcpy(page + GM_SETUP_FIRST, kernel->setup, kernel->setup_len);
	else
		put_elf_header(page, kernel);
	page[SETUP_LOADER] = (uint8_t)(info->loader ? info->loader : LOADER_OTHER);
	if (kernel->first < FOUR_GIB)
		gm_put_le(page + SETUP_CODE32_START, 4, kernel->first);
	gm_put_le(page + SETUP_INITRD, 4, info->initrd.len ? info->initrd.gpa : 0);
	gm_put_le(page + SETUP_INITRD_LEN, 4, info->initrd.len);
	gm_put_le(page + SETUP_CMDLINE, 4, info->cmdline.len ? info->cmdline.gpa : 0);
	gm_put_le(page + SETUP_DATA, 8, info->setup_data);
}

static void put_high_halves(uint8_t *page, const struct gm_boot_info *info)
{
	gm_put_le(page + BOOT_EXT_INITRD, 4, info->initrd.len ? info->initrd.gpa >> 32 : 0);
	gm_put_le(page + BOOT_EXT_INITRD_LEN, 4, info->initrd.len >> 32);
	gm_put_le(page + BOOT_EXT_CMDLINE, 4, info->cmdline.len ? info->cmdline.gpa >> 32 : 0);
}

int gm_boot_params(const struct gm_boot_info *info, void *page, size_t len, struct gm_error *err)
{
	struct gm_e820_entry table[GM_E820_ZERO_PAGE_MAX];
	uint8_t bytes[GM_BOOT_PARAMS_LEN] = {0};
	struct gm_boot_info copy;
	size_t nr = 0;
	int rc = check_info(&copy, info, err);

	if (!rc && len < GM_BOOT_PARAMS_LEN)
		rc = gm_error_set(err, -ENOBUFS, 0, GM_BOOT_PARAMS_LEN,
			"boot_params has %u bytes, not %zu", GM_BOOT_PARAMS_LEN, len);
	if (!rc)
		rc = check_reach(&copy, err);
	if (rc)
		return rc;
	rc = gm_memmap_e820(copy.map, copy.nr_map, table, GM_E820_ZERO_PAGE_MAX, &nr, err);
	if (rc == -ENOBUFS)
		return gm_error_set(err, -E2BIG, 0, 0,
			"boot_params has room for %u e820 records, the map has %zu",
			GM_E820_ZERO_PAGE_MAX, nr);
	if (!rc)
		rc = gm_e820_zero_page(table, nr, bytes, sizeof(bytes), err);
	if (rc)
		return rc;
	put_header(bytes, &copy);
	put_high_halves(bytes, &copy);
	gm_put_le(bytes + BOOT_RSDP, 8, copy.rsdp);
	bytes[BOOT_SENTINEL] = 0;
	memcpy(page, bytes, sizeof(bytes));
	return 0;
}

/* ---- struct hvm_start_info ---- */

/* Where its parts lie behind each other. */
struct pvh {
	uint64_t gpa;
	size_t modules; /* offsets */
	size_t records;
	size_t nr_modules;
	size_t nr_records;
};

static void put_pvh(uint8_t *to, const struct pvh *pvh, const struct gm_boot_info *info)
{
	gm_put_le(to, 4, PVH_MAGIC);
	gm_put_le(to + 4, 4, 1); /* version */
	gm_put_le(to + 12, 4, pvh->nr_modules);
	gm_put_le(to + 16, 8, pvh->nr_modules ? pvh->gpa + pvh->modules : 0);
	gm_put_le(to + 24, 8, info->cmdline.len ? info->cmdline.gpa : 0);
	gm_put_le(to + 32, 8, info->rsdp);
	gm_put_le(to + 40, 8, pvh->nr_records ? pvh->gpa + pvh->records : 0);
	gm_put_le(to + 48, 4, pvh->nr_records);
	if (pvh->nr_modules) {
		gm_put_le(to + pvh->modules, 8, info->initrd.gpa);
		gm_put_le(to + pvh->modules + 8, 8, info->initrd.len);
	}
}

static void put_records(uint8_t *to, const struct gm_boot_info *info)
{
	struct gm_memmap_entry run;
	size_t at = 0;

	for (; gm_memmap_run(info->map, info->nr_map, gm_e820_type, &at, &run);
		to += PVH_RECORD_LEN) {
		gm_put_le(to, 8, run.first);
		gm_put_le(to + 8, 8, run.last - run.first + 1);
		gm_put_le(to + 16, 4, gm_e820_type(&run));
	}
}

/* Checks the map; how many records it gives. */
static int count_records(const struct gm_boot_info *info, size_t *ret_nr, struct gm_error *err)
{
	struct gm_error why;
	int rc = gm_memmap_e820(info->map, info->nr_map, NULL, 0, ret_nr, &why);

	if (rc == 0 || rc == -ENOBUFS)
		return 0;
	if (err)
		*err = why;
	return rc;
}

static int check_pvh(
	const struct gm_boot_info *info, const struct pvh *pvh, size_t len, struct gm_error *err)
{
	const struct gm_loaded self = {pvh->gpa, len};
	const char *why = "by the PVH protocol";
	int rc;

	if (!gm_is_aligned(pvh->gpa, 8))
		return gm_error_set(err, -EINVAL, pvh->gpa, 0,
			"hvm_start_info: its address 0x%" PRIx64 " is no multiple of 8", pvh->gpa);
	rc = check_below(&self, "hvm_start_info", UINT32_MAX, why, err);
	if (!rc)
		rc = check_below(&info->cmdline, "command line", UINT32_MAX, why, err);
	return rc ? rc : check_below(&info->initrd, "RAM disk", UINT32_MAX, why, err);
}

int gm_pvh_info(const struct gm_boot_info *info, uint64_t gpa, void *buf, size_t cap,
	size_t *ret_needed, struct gm_error *err)
{
	struct pvh pvh = {.gpa = gpa, .modules = PVH_INFO_LEN};
	struct gm_boot_info copy;
	size_t needed;
	int rc = check_info(&copy, info, err);

	if (!rc)
		rc = count_records(&copy, &pvh.nr_records, err);
	if (rc)
		return rc;
	pvh.nr_modules = copy.initrd.len ? 1 : 0;
	pvh.records = pvh.modules + pvh.nr_modules * PVH_MODULE_LEN;
	needed = pvh.records + pvh.nr_records * PVH_RECORD_LEN;
	rc = check_pvh(&copy, &pvh, needed, err);
	if (rc)
		return rc;
	*ret_needed = needed;
	if (needed > cap)
		return gm_error_set(err, -ENOBUFS, gpa, needed,
			"hvm_start_info has %zu bytes with its lists, there is room for %zu",
			needed, cap);
	memset(buf, 0, needed);
	put_pvh(buf, &pvh, &copy);
	put_records((uint8_t *)buf + pvh.records, &copy);
	return 0;
}
