/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_flat.c - Linux' Image files for arm64 and RISC-V: 64 bytes of header and what is loaded as it is.
 *
 * Sources: Linux, Documentation/arch/arm64/booting.rst and Documentation/arch/riscv/boot-image-header.rst.
 */
#include "core/image.h"

#include <errno.h>

#define HEAD_LEN 64u
#define TEXT_OFF 8u
#define IMAGE_SIZE 16u
#define FLAGS 24u
#define RISCV_VERSION 32u
#define RISCV_MAGIC 48u

#define FLAG_BIG_ENDIAN 1u
#define ARM64_PAGES_SHIFT 1u

#define ARM64_TEXT_OLD UINT64_C(0x80000) /* of an Image without image_size */
#define RISCV_TEXT_MAX (UINT64_C(1) << 30)

/* What both have. @text_max: the text offset is less. */
static int flat_head(const struct gm_image *image, uint64_t text_max, struct gm_flat *ret)
{
	uint64_t len;

	if (image->len < HEAD_LEN)
		return gm_image_bad(image, "file length", image->file_len,
			"less than an Image's header,", HEAD_LEN);
	len = gm_get_le(image->head + IMAGE_SIZE, 8);
	*ret = (struct gm_flat){
		.text_off = gm_get_le(image->head + TEXT_OFF, 8),
		.len = len > image->file_len ? len : image->file_len,
		.big_endian = image->head[FLAGS] & FLAG_BIG_ENDIAN,
	};
	if (ret->text_off >= text_max)
		return gm_image_bad(image, "text_offset", ret->text_off, "not less than", text_max);
	if (len > (uint64_t)INT64_MAX)
		return gm_image_bad(image, "image_size", len, "more than", (uint64_t)INT64_MAX);
	return 0;
}

int gm_arm64_head(const struct gm_image *image, struct gm_flat *ret)
{
	static const uint32_t pages[] = {0, 0x1000, 0x4000, 0x10000};
	int rc;

	/* Before Linux 3.17 nothing was said, and the offset was in the kernel's byte order. */
	if (image->len >= HEAD_LEN && gm_get_le(image->head + IMAGE_SIZE, 8) == 0) {
		*ret = (struct gm_flat){.text_off = ARM64_TEXT_OLD, .len = image->file_len};
		return 0;
	}
	rc = flat_head(image, GM_FLAT_ALIGN, ret);
	if (!rc)
		ret->page_size = pages[image->head[FLAGS] >> ARM64_PAGES_SHIFT & 3];
	return rc;
}

int gm_riscv_head(const struct gm_image *image, struct gm_flat *ret)
{
	static const char magic[8] = "RISCV";
	int rc = flat_head(image, RISCV_TEXT_MAX, ret);
	uint64_t version;

	if (rc)
		return rc;
	version = gm_get_le(image->head + RISCV_VERSION, 4);
	/* Version 0.2 deprecated the first of the two magic numbers. */
	if (version < 2 &&
		gm_get_le(image->head + RISCV_MAGIC, 8) != gm_get_le((const uint8_t *)magic, 8))
		return gm_image_bad(image, "magic", gm_get_le(image->head + RISCV_MAGIC, 8),
			"must be", gm_get_le((const uint8_t *)magic, 8));
	if (version >> 16) {
		gm_image_bad(image, "header_version", version, "of another format than", 2);
		return -ENOTSUP;
	}
	return 0;
}
