/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_image.c - bytes as the headers of a kernel. What is refused has a reason; what is accepted lies
 * in the file, wraps nowhere, and does not overlap. The bytes themselves also choose an address.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"

static struct gm_image_fault fault;

static void must(bool what)
{
	if (!what)
		abort();
}

/* @rc is 0, or a refusal whose text can be made. */
static bool accepted(int rc)
{
	char text[256];

	if (rc == 0)
		return true;
	must(rc == -ENOEXEC || rc == -ENOTSUP || rc == -EEXIST || rc == -EINVAL);
	must(fault.field && fault.what);
	gm_image_fault_text(&fault, text, sizeof(text));
	must(text[0] && strlen(text) < sizeof(text) - 1);
	fault = (struct gm_image_fault){0};
	return false;
}

static uint64_t address(const uint8_t *data, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, data + (size > 8 ? size - 8 : 0), size > 8 ? 8 : size);
	return value;
}

/* ---- ELF ---- */

static void check_entry(const struct gm_image *image, const struct gm_elf *elf, uint64_t delta,
	const struct gm_elf_segment *segments, uint32_t nr)
{
	uint64_t entry;
	bool found = false;

	if (!accepted(gm_elf_entry(image, "e_entry", elf->entry, delta, segments, nr, &entry)))
		return;
	for (uint32_t i = 0; i < nr; i++)
		found = found || gm_range_has(&segments[i].range, entry);
	must(found);
}

static void check_segments(const struct gm_image *image, const struct gm_elf *elf,
	struct gm_elf_segment *segments, uint64_t addr)
{
	uint64_t delta = 0;
	uint32_t nr = 0;

	if (elf->relocatable &&
		!accepted(gm_elf_delta(image, segments, elf->nr_phdrs, addr, &delta)))
		return;
	if (!accepted(gm_elf_arrange(image, segments, elf->nr_phdrs, delta, &nr)))
		return;
	must(nr <= elf->nr_phdrs);
	for (uint32_t i = 0; i < nr; i++) {
		must(segments[i].use == GM_ELF_LOAD && gm_range_is_valid(&segments[i].range));
		must(segments[i].file_len <= gm_range_extent(&segments[i].range) + 1);
		must(i == 0 || segments[i - 1].range.last < segments[i].range.first);
	}
	if (nr && elf->relocatable)
		must(segments[0].range.first == addr);
	check_entry(image, elf, delta, segments, nr);
}

/* The notes in a piece of the heap of their own, so that the sanitizer sees a step outside. */
static bool check_note(
	const struct gm_image *image, const struct gm_elf_segment *note, const uint8_t *data)
{
	struct gm_elf_notes notes = {0};
	uint8_t *copy = malloc(note->file_len + 1);
	bool ok;

	if (!copy)
		abort();
	memcpy(copy, data + note->off, note->file_len);
	copy = realloc(copy, note->file_len ? note->file_len : 1);
	ok = accepted(gm_elf_notes(image, note, copy, &notes));
	free(copy);
	return ok;
}

static void check_elf(const struct gm_image *image, const uint8_t *data, size_t size)
{
	static struct gm_elf_segment segments[GM_ELF_PHDRS_MAX];
	struct gm_elf elf;

	if (!accepted(gm_elf_head(image, &elf)))
		return;
	must(elf.nr_phdrs <= GM_ELF_PHDRS_MAX && elf.phdr_len <= GM_ELF_PHDR_MAX);
	for (uint32_t i = 0; i < elf.nr_phdrs; i++) {
		const uint8_t *phdr = data + elf.phoff + (uint64_t)i * elf.phdr_len;

		if (!accepted(gm_elf_phdr(image, &elf, phdr, i, &segments[i])))
			return;
		if (segments[i].use == GM_ELF_OTHER)
			continue;
		must(gm_image_in_file(image, segments[i].off, segments[i].file_len));
		if (segments[i].use == GM_ELF_NOTE && !check_note(image, &segments[i], data))
			return;
	}
	check_segments(image, &elf, segments, address(data, size));
}

/* ---- Linux and EFI ---- */

static void check_bzimage(const struct gm_image *image, uint64_t addr)
{
	struct gm_bzimage bz;
	struct gm_range range;

	if (!accepted(gm_bzimage_head(image, &bz)))
		return;
	must(bz.len && gm_image_in_file(image, bz.off, bz.len));
	must(bz.setup_len < GM_SETUP_HEADER_MAX && GM_SETUP_FIRST + bz.setup_len <= image->len);
	must(gm_is_pow2(bz.align) && (!bz.above_4g || bz.entry64));
	/* Mostly where a kernel would go. */
	if (addr & 1)
		addr = bz.preferred + (addr >> 40);
	if (!accepted(gm_bzimage_place(image, &bz, addr, &range)))
		return;
	must(range.first == addr && range.last >= addr && range.last - addr >= bz.len - 1);
	must(bz.above_4g || range.last <= UINT32_MAX);
}

static void check_flat(const struct gm_image *image, bool arm64)
{
	struct gm_flat flat;

	if (!accepted(arm64 ? gm_arm64_head(image, &flat) : gm_riscv_head(image, &flat)))
		return;
	must(flat.len >= image->file_len && flat.len <= INT64_MAX);
	must(flat.text_off <= INT64_MAX);
}

static void check_efi(const struct gm_image *image)
{
	struct gm_zboot zboot;
	struct gm_pe pe;

	accepted(gm_pe_head(image, &pe));
	if (accepted(gm_zboot_head(image, &zboot))) {
		must(gm_image_in_file(image, zboot.off, zboot.len));
		must(strlen(zboot.compression) < sizeof(zboot.compression));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len = size < GM_IMAGE_HEAD_MAX ? size : GM_IMAGE_HEAD_MAX;
	uint8_t *head = malloc(len ? len : 1);
	const struct gm_image image = {.head = head, .len = len, .file_len = size, .fault = &fault};

	if (!head)
		abort();
	if (len)
		memcpy(head, data, len);
	switch (gm_image_format(&image)) {
	case GM_KERNEL_ELF:
		check_elf(&image, data, size);
		break;
	case GM_KERNEL_BZIMAGE:
		check_bzimage(&image, address(data, size));
		break;
	case GM_KERNEL_ARM64:
		check_flat(&image, true);
		break;
	case GM_KERNEL_RISCV:
		check_flat(&image, false);
		break;
	default:
		break;
	}
	check_efi(&image);
	free(head);
	return 0;
}
