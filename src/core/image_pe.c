/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_pe.c - EFI applications: enough of their headers to tell what they are; firmware loads them.
 *
 * Sources: Microsoft, PE Format; Linux, drivers/firmware/efi/libstub/zboot-header.S.
 */
#include "core/image.h"

#include <errno.h>
#include <string.h>

#define DOS_PE_OFF 60u
#define DOS_LEN 64u

#define PE_MACHINE 4u
#define PE_NR_SECTIONS 6u
#define PE_OPTIONAL_LEN 20u
#define PE_LEN 24u

/* Of the optional header; these are at the same place in PE32 and PE32+. */
#define OPT_MAGIC 0u
#define OPT_ENTRY 16u
#define OPT_IMAGE_LEN 56u
#define OPT_SUBSYSTEM 68u
#define OPT_MIN 70u

#define SECTIONS_MAX 96u
#define SUBSYSTEM_EFI_APPLICATION 10u

#define ZBOOT_OFF 8u
#define ZBOOT_LEN 12u
#define ZBOOT_COMPRESSION 24u

static uint32_t machine_of(uint64_t machine)
{
	switch (machine) {
	case 0x014c:
		return GM_MACHINE_I386;
	case 0x8664:
		return GM_MACHINE_X86_64;
	case 0xaa64:
		return GM_MACHINE_ARM64;
	case 0x5032:
		return GM_MACHINE_RISCV32;
	case 0x5064:
		return GM_MACHINE_RISCV64;
	default:
		return 0;
	}
}

/* @pe: where the PE header begins. */
static int check_optional(const struct gm_image *image, uint64_t pe, struct gm_pe *ret)
{
	const uint8_t *opt = image->head + pe + PE_LEN;
	uint64_t len = gm_get_le(image->head + pe + PE_OPTIONAL_LEN, 2);
	uint64_t entry;
	uint64_t all;

	if (len < OPT_MIN)
		return gm_image_bad(image, "SizeOfOptionalHeader", len, "less than", OPT_MIN);
	if (len > image->len - pe - PE_LEN)
		return gm_image_bad(image, "SizeOfOptionalHeader", len, "behind it there are only",
			image->len - pe - PE_LEN);
	if (gm_get_le(opt + OPT_MAGIC, 2) != 0x10b && gm_get_le(opt + OPT_MAGIC, 2) != 0x20b)
		return gm_image_bad(image, "magic of the optional header",
			gm_get_le(opt + OPT_MAGIC, 2), "neither PE32 nor PE32+,", 0x20b);
	entry = gm_get_le(opt + OPT_ENTRY, 4);
	all = gm_get_le(opt + OPT_IMAGE_LEN, 4);
	if (entry >= all)
		return gm_image_bad(
			image, "AddressOfEntryPoint", entry, "not less than SizeOfImage,", all);
	ret->efi_application = gm_get_le(opt + OPT_SUBSYSTEM, 2) == SUBSYSTEM_EFI_APPLICATION;
	return 0;
}

int gm_pe_head(const struct gm_image *image, struct gm_pe *ret)
{
	uint64_t pe;
	uint64_t nr;

	*ret = (struct gm_pe){0};
	if (image->len < DOS_LEN)
		return gm_image_bad(
			image, "file length", image->file_len, "less than a DOS header,", DOS_LEN);
	if (memcmp(image->head, "MZ", 2) != 0)
		return gm_image_bad(image, "e_magic", gm_get_le(image->head, 2), "must be", 0x5a4d);
	pe = gm_get_le(image->head + DOS_PE_OFF, 4);
	if (pe > image->len || image->len - pe < PE_LEN)
		return gm_image_bad(
			image, "e_lfanew", pe, "the PE header would end behind", image->len);
	if (memcmp(image->head + pe, "PE\0", 4) != 0)
		return gm_image_bad(image, "signature at e_lfanew", gm_get_le(image->head + pe, 4),
			"must be", 0x4550);
	nr = gm_get_le(image->head + pe + PE_NR_SECTIONS, 2);
	if (nr > SECTIONS_MAX)
		return gm_image_bad(image, "NumberOfSections", nr, "more than", SECTIONS_MAX);
	ret->machine = machine_of(gm_get_le(image->head + pe + PE_MACHINE, 2));
	return check_optional(image, pe, ret);
}

int gm_zboot_head(const struct gm_image *image, struct gm_zboot *ret)
{
	*ret = (struct gm_zboot){0};
	if (image->len < DOS_LEN)
		return gm_image_bad(image, "file length", image->file_len,
			"less than a zboot header,", DOS_LEN);
	ret->off = gm_get_le(image->head + ZBOOT_OFF, 4);
	ret->len = gm_get_le(image->head + ZBOOT_LEN, 4);
	memcpy(ret->compression, image->head + ZBOOT_COMPRESSION, sizeof(ret->compression) - 1);
	if (!gm_image_in_file(image, ret->off, 0))
		return gm_image_bad(image, "payload offset", ret->off, "behind the file's length,",
			image->file_len);
	if (!gm_image_in_file(image, ret->off, ret->len))
		return gm_image_bad(image, "payload size", ret->len,
			"behind its offset there are only", image->file_len - ret->off);
	return 0;
}
