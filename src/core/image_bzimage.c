/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_bzimage.c - the setup header of Linux for x86.
 *
 * Source: Linux, Documentation/arch/x86/boot.rst and arch/x86/include/uapi/asm/bootparam.h.
 */
#include "core/image.h"

#include <errno.h>

#include "core/setup.h"

#define SECTOR 512u
#define HEADER_END_MAX 0x290u /* what follows in struct boot_params */

#define MEGABYTE UINT64_C(0x100000)
#define FOUR_GIB (UINT64_C(1) << 32)
#define CMDLINE_OLD 255u
#define INITRD_OLD UINT64_C(0x37ffffff)
#define ENTRY64_OFF 0x200u

/* Up to which byte each version of the protocol has fields. */
static const struct {
	uint32_t protocol;
	uint32_t end;
} versions[] = {
	{0x020f, 0x26c},
	{0x020b, 0x268},
	{0x020a, 0x264},
	{0x0209, 0x258},
	{0x0208, 0x250},
	{0x0207, 0x248},
	{0x0206, 0x23c},
	{0x0205, 0x236},
	{0x0203, 0x230},
	{0x0202, 0x22c},
	{0x0201, 0x226},
	{0x0200, 0x224},
};

static uint64_t field(const struct gm_image *image, uint32_t off, unsigned int bytes)
{
	return gm_get_le(image->head + off, bytes);
}

static int refuse(const struct gm_image *image, const char *name, uint64_t value, const char *what,
	uint64_t limit)
{
	gm_image_bad(image, name, value, what, limit);
	return -ENOTSUP;
}

/* Version, and the end of the header. */
static int check_header(const struct gm_image *image, struct gm_bzimage *bz)
{
	uint64_t end;
	size_t i = 0;

	if (image->len < SETUP_VERSION + 2)
		return gm_image_bad(image, "file length", image->file_len,
			"less than a setup header,", SETUP_VERSION + 2);
	if (field(image, SETUP_BOOT_FLAG, 2) != 0xaa55)
		return gm_image_bad(
			image, "boot_flag", field(image, SETUP_BOOT_FLAG, 2), "must be", 0xaa55);
	if (image->head[SETUP_JUMP] != 0xeb)
		return gm_image_bad(image, "jump", image->head[SETUP_JUMP], "must be", 0xeb);
	bz->protocol = (uint32_t)field(image, SETUP_VERSION, 2);
	if (bz->protocol >> 8 != 2)
		return refuse(image, "version", bz->protocol,
			"of no protocol that is known, such as", 0x020f);
	end = SETUP_JUMP + 2u + image->head[SETUP_JUMP + 1];
	if (end > HEADER_END_MAX)
		return gm_image_bad(
			image, "end of the setup header", end, "more than", HEADER_END_MAX);
	while (bz->protocol < versions[i].protocol)
		i++;
	if (end < versions[i].end)
		return gm_image_bad(image, "end of the setup header", end,
			"less than its version has,", versions[i].end);
	if (end > image->len)
		return gm_image_bad(image, "end of the setup header", end,
			"more than the file's length,", image->file_len);
	bz->setup_len = (uint32_t)end - GM_SETUP_FIRST;
	return 0;
}

/* Where the protected-mode part is, and that its parts lie in it. */
static int check_parts(const struct gm_image *image, struct gm_bzimage *bz)
{
	uint64_t sectors = image->head[SETUP_SECTS] ? image->head[SETUP_SECTS] : 4;
	uint64_t syssize = field(image, SETUP_SYSSIZE, bz->protocol >= 0x0204 ? 4 : 2);

	bz->off = (sectors + 1) * SECTOR;
	if (bz->off >= image->file_len)
		return gm_image_bad(image, "setup_sects", sectors,
			"no kernel behind so many sectors in a file of length", image->file_len);
	bz->len = image->file_len - bz->off;
	/* Older ones have too few bits, so that it means nothing. */
	if (bz->protocol >= 0x0204 && syssize > (bz->len + 15) / 16)
		return gm_image_bad(image, "syssize", syssize, "more paragraphs than the file has,",
			(bz->len + 15) / 16);
	if (bz->protocol >= 0x0208) {
		uint64_t off = field(image, SETUP_PAYLOAD_OFF, 4);
		uint64_t len = field(image, SETUP_PAYLOAD_LEN, 4);

		if (off > bz->len)
			return gm_image_bad(
				image, "payload_offset", off, "more than the kernel's", bz->len);
		if (len > bz->len - off)
			return gm_image_bad(image, "payload_length", len,
				"behind payload_offset there are only", bz->len - off);
	}
	if (bz->protocol >= 0x020b && field(image, SETUP_HANDOVER, 4) >= bz->len)
		return gm_image_bad(image, "handover_offset", field(image, SETUP_HANDOVER, 4),
			"not less than the kernel's", bz->len);
	if (bz->protocol >= 0x020f && field(image, SETUP_INFO, 4) >= bz->len)
		return gm_image_bad(image, "kernel_info_offset", field(image, SETUP_INFO, 4),
			"not less than the kernel's", bz->len);
	return 0;
}

/* How it may be placed. */
static int check_placement(const struct gm_image *image, struct gm_bzimage *bz)
{
	if (!(image->head[SETUP_LOADFLAGS] & SETUP_LOADED_HIGH))
		return refuse(image, "loadflags", image->head[SETUP_LOADFLAGS],
			"a zImage, which has not LOADED_HIGH,", SETUP_LOADED_HIGH);
	bz->align = 1;
	bz->preferred = MEGABYTE;
	if (bz->protocol >= 0x0205 && image->head[SETUP_RELOCATABLE]) {
		bz->relocatable = true;
		bz->align = field(image, SETUP_ALIGNMENT, 4);
		if (!gm_is_pow2(bz->align))
			return gm_image_bad(image, "kernel_alignment", bz->align,
				"no power of two, such as", 0x200000);
	}
	if (bz->protocol >= 0x020a) {
		bz->init_size = field(image, SETUP_INIT_SIZE, 4);
		bz->preferred = field(image, SETUP_PREF_ADDRESS, 8);
		if (bz->preferred < MEGABYTE)
			return gm_image_bad(
				image, "pref_address", bz->preferred, "less than", MEGABYTE);
		if (bz->preferred > UINT64_MAX - FOUR_GIB)
			return gm_image_bad(image, "pref_address", bz->preferred, "more than",
				UINT64_MAX - FOUR_GIB);
	}
	return 0;
}

int gm_bzimage_head(const struct gm_image *image, struct gm_bzimage *ret)
{
	int rc;

	*ret = (struct gm_bzimage){.cmdline_max = CMDLINE_OLD, .initrd_last = INITRD_OLD};
	rc = check_header(image, ret);
	if (!rc)
		rc = check_parts(image, ret);
	if (!rc)
		rc = check_placement(image, ret);
	if (rc)
		return rc;
	if (ret->protocol >= 0x0203)
		ret->initrd_last = field(image, SETUP_INITRD_MAX, 4);
	if (ret->protocol >= 0x0206)
		ret->cmdline_max = field(image, SETUP_CMDLINE_SIZE, 4);
	if (ret->protocol >= 0x020c) {
		uint64_t flags = field(image, SETUP_XLOADFLAGS, 2);

		ret->entry64 = flags & SETUP_XLF_KERNEL_64;
		ret->above_4g = ret->entry64 && (flags & SETUP_XLF_ABOVE_4G);
		if (ret->entry64 && ret->len <= ENTRY64_OFF)
			return gm_image_bad(image, "xloadflags", flags,
				"a 64-bit entry at 0x200 behind the kernel's length,", ret->len);
	}
	return 0;
}

int gm_bzimage_place(const struct gm_image *image, const struct gm_bzimage *bz, uint64_t addr,
	struct gm_range *ret)
{
	uint64_t run = bz->preferred;
	struct gm_range unpacked;

	if (addr < MEGABYTE)
		return gm_image_bad(image, "load address", addr, "less than", MEGABYTE);
	if (!gm_range_make(addr, bz->len, ret) || !gm_align_up(addr, bz->align, &run))
		return gm_image_bad(image, "load address", addr,
			"wraps past the last address with a kernel of", bz->len);
	/* It does not run below its preferred address, although the protocol would let it. */
	if (!bz->relocatable || run < bz->preferred)
		run = bz->preferred;
	if (bz->init_size && !gm_range_make(run, bz->init_size, &unpacked))
		return gm_image_bad(
			image, "init_size", bz->init_size, "wraps past the last address from", run);
	if (bz->init_size && unpacked.last > ret->last)
		ret->last = unpacked.last;
	if (ret->last >= FOUR_GIB && !bz->above_4g)
		return gm_image_bad(image, "last address", ret->last,
			"without XLF_CAN_BE_LOADED_ABOVE_4G not above", FOUR_GIB - 1);
	return 0;
}
