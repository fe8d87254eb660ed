/* SPDX-License-Identifier: BSD-3-Clause */
/* image.c - which format a file has, and words for what is wrong with it. */
#include "core/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Where formats have their magic numbers, and how many bytes they need to be told by them. */
static const struct magic {
	uint32_t format;
	uint32_t off;
	uint32_t len;
	const char *bytes;
} magics[] = {
	{GM_KERNEL_ELF, 0, 4, "\177ELF"},
	/* Kernels with an EFI stub begin with MZ, too. */
	{GM_KERNEL_BZIMAGE, 0x202, 4, "HdrS"},
	{GM_KERNEL_ARM64, 56, 4, "ARM\x64"},
	{GM_KERNEL_RISCV, 56, 4, "RSC\x05"},
	{GM_KERNEL_ZBOOT, 4, 4, "zimg"},
	{GM_KERNEL_PE, 0, 2, "MZ"},
};

uint32_t gm_image_format(const struct gm_image *image)
{
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		const struct magic *m = &magics[i];

		if (image->len > m->off && image->len - m->off >= m->len &&
			memcmp(image->head + m->off, m->bytes, m->len) == 0)
			return m->format;
	}
	return 0;
}

int gm_image_bad(const struct gm_image *image, const char *field, uint64_t value, const char *what,
	uint64_t limit)
{
	*image->fault = (struct gm_image_fault){
		.field = field,
		.value = value,
		.what = what,
		.limit = limit,
		.item = GM_IMAGE_NO_ITEM,
	};
	return -ENOEXEC;
}

bool gm_image_in_file(const struct gm_image *image, uint64_t off, uint64_t len)
{
	return off <= image->file_len && len <= image->file_len - off;
}

void gm_image_fault_text(const struct gm_image_fault *fault, char *buf, size_t cap)
{
	char item[40] = "";

	if (fault->item != GM_IMAGE_NO_ITEM)
		snprintf(item, sizeof(item), " of program header %" PRIu32, fault->item);
	snprintf(buf, cap, "%s%s is 0x%" PRIx64 ": %s 0x%" PRIx64, fault->field, item, fault->value,
		fault->what, fault->limit);
}
