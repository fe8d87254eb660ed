/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_elf.c - ELF files: header, program headers, the note of the PVH protocol.
 *
 * Sources: System V ABI, chapters 4 and 5; Xen, xen/include/public/elfnote.h and
 * docs/misc/pvh.pandoc. Only what a loader needs is looked at: sections are not.
 */
#include "core/image.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_HEAD 12u
#define NOTE_PVH 18u /* XEN_ELFNOTE_PHYS32_ENTRY */

/* A field of a header of 32 or of 64 bits. */
#define FIELD(bytes, is64, type, name)                                                             \
	((is64) ? gm_get_le((bytes) + offsetof(Elf64_##type, name),                                \
			  sizeof(((Elf64_##type *)0)->name))                                       \
		: gm_get_le((bytes) + offsetof(Elf32_##type, name),                                \
			  sizeof(((Elf32_##type *)0)->name)))

_Static_assert(sizeof(Elf64_Phdr) == GM_ELF_PHDR_MAX, "the larger one");

/* 0 = none that is known. */
static uint32_t machine_of(uint64_t machine, bool is64)
{
	switch (machine) {
	case EM_386:
		return is64 ? 0 : GM_MACHINE_I386;
	case EM_X86_64:
		return is64 ? GM_MACHINE_X86_64 : 0;
	case EM_AARCH64:
		return is64 ? GM_MACHINE_ARM64 : 0;
	case EM_RISCV:
		return is64 ? GM_MACHINE_RISCV64 : GM_MACHINE_RISCV32;
	default:
		return 0;
	}
}

static int check_ident(const struct gm_image *image)
{
	const uint8_t *id = image->head;

	if (image->len < sizeof(Elf32_Ehdr))
		return gm_image_bad(image, "file length", image->file_len,
			"less than an ELF header,", sizeof(Elf32_Ehdr));
	if (id[EI_CLASS] != ELFCLASS32 && id[EI_CLASS] != ELFCLASS64)
		return gm_image_bad(image, "EI_CLASS", id[EI_CLASS],
			"neither 32 nor 64 bits, at most", ELFCLASS64);
	if (id[EI_DATA] == ELFDATA2MSB) {
		gm_image_bad(image, "EI_DATA", ELFDATA2MSB, "big-endian files are not loaded, only",
			ELFDATA2LSB);
		return -ENOTSUP;
	}
	if (id[EI_DATA] != ELFDATA2LSB)
		return gm_image_bad(image, "EI_DATA", id[EI_DATA], "must be", ELFDATA2LSB);
	if (id[EI_VERSION] != EV_CURRENT)
		return gm_image_bad(image, "EI_VERSION", id[EI_VERSION], "must be", EV_CURRENT);
	if (id[EI_CLASS] == ELFCLASS64 && image->len < sizeof(Elf64_Ehdr))
		return gm_image_bad(image, "file length", image->file_len,
			"less than an ELF header,", sizeof(Elf64_Ehdr));
	return 0;
}

/* Where the program headers are. */
static int check_table(const struct gm_image *image, struct gm_elf *elf)
{
	const uint8_t *head = image->head;
	uint64_t nr = FIELD(head, elf->is64, Ehdr, e_phnum);
	uint64_t len = FIELD(head, elf->is64, Ehdr, e_phentsize);
	uint32_t want = elf->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	if (len != want)
		return gm_image_bad(image, "e_phentsize", len, "must be", want);
	if (nr == 0)
		return gm_image_bad(image, "e_phnum", nr, "nothing to load, at least", 1);
	if (nr > GM_ELF_PHDRS_MAX)
		return gm_image_bad(image, "e_phnum", nr, "more than", GM_ELF_PHDRS_MAX);
	elf->phoff = FIELD(head, elf->is64, Ehdr, e_phoff);
	elf->nr_phdrs = (uint32_t)nr;
	elf->phdr_len = want;
	if (!gm_image_in_file(image, elf->phoff, nr * want))
		return gm_image_bad(image, "e_phoff", elf->phoff,
			"the program headers end behind the file's length,", image->file_len);
	return 0;
}

int gm_elf_head(const struct gm_image *image, struct gm_elf *ret)
{
	const uint8_t *head = image->head;
	uint64_t machine;
	uint64_t type;
	int rc = check_ident(image);

	if (rc)
		return rc;
	*ret = (struct gm_elf){.is64 = head[EI_CLASS] == ELFCLASS64};
	type = FIELD(head, ret->is64, Ehdr, e_type);
	machine = FIELD(head, ret->is64, Ehdr, e_machine);
	ret->machine = machine_of(machine, ret->is64);
	ret->relocatable = type == ET_DYN;
	ret->entry = FIELD(head, ret->is64, Ehdr, e_entry);
	if (type != ET_EXEC && type != ET_DYN)
		return gm_image_bad(image, "e_type", type, "neither ET_EXEC nor ET_DYN,", ET_DYN);
	if (FIELD(head, ret->is64, Ehdr, e_version) != EV_CURRENT)
		return gm_image_bad(image, "e_version", FIELD(head, ret->is64, Ehdr, e_version),
			"must be", EV_CURRENT);
	if (ret->machine == 0) {
		gm_image_bad(image, "e_machine", machine,
			"no machine that is known in a file of class", head[EI_CLASS]);
		return -ENOTSUP;
	}
	return check_table(image, ret);
}

/* ---- program headers ---- */

static int bad_phdr(const struct gm_image *image, uint32_t number, const char *field,
	uint64_t value, const char *what, uint64_t limit)
{
	gm_image_bad(image, field, value, what, limit);
	image->fault->item = number;
	return -ENOEXEC;
}

static int check_load(const struct gm_image *image, const struct gm_elf_segment *segment,
	uint64_t gpa, uint64_t len)
{
	uint32_t number = segment->number;
	struct gm_range range;

	if (segment->file_len > len)
		return bad_phdr(
			image, number, "p_memsz", len, "less than p_filesz,", segment->file_len);
	if (!gm_is_pow2(segment->align))
		return bad_phdr(image, number, "p_align", segment->align,
			"no power of two, such as", 0x1000);
	if (len && !gm_range_make(gpa, len, &range))
		return bad_phdr(image, number, "p_paddr", gpa,
			"the segment wraps past the last address with p_memsz", len);
	return 0;
}

int gm_elf_phdr(const struct gm_image *image, const struct gm_elf *elf, const uint8_t *bytes,
	uint32_t number, struct gm_elf_segment *ret)
{
	uint64_t type = FIELD(bytes, elf->is64, Phdr, p_type);
	uint64_t gpa = FIELD(bytes, elf->is64, Phdr, p_paddr);
	uint64_t len = FIELD(bytes, elf->is64, Phdr, p_memsz);
	uint64_t align = FIELD(bytes, elf->is64, Phdr, p_align);
	int rc;

	*ret = (struct gm_elf_segment){
		.use = GM_ELF_OTHER,
		.number = number,
		.off = FIELD(bytes, elf->is64, Phdr, p_offset),
		.file_len = FIELD(bytes, elf->is64, Phdr, p_filesz),
		.vaddr = FIELD(bytes, elf->is64, Phdr, p_vaddr),
		.align = align ? align : 1,
	};
	if (type != PT_LOAD && type != PT_NOTE)
		return 0;
	if (!gm_image_in_file(image, ret->off, 0))
		return bad_phdr(image, number, "p_offset", ret->off, "behind the file's length,",
			image->file_len);
	if (!gm_image_in_file(image, ret->off, ret->file_len))
		return bad_phdr(image, number, "p_filesz", ret->file_len,
			"the file has behind p_offset only", image->file_len - ret->off);
	if (type == PT_NOTE) {
		ret->use = GM_ELF_NOTE;
		if (ret->file_len > GM_ELF_NOTES_MAX)
			return bad_phdr(image, number, "p_filesz", ret->file_len,
				"notes of more bytes than", GM_ELF_NOTES_MAX);
		return 0;
	}
	rc = check_load(image, ret, gpa, len);
	if (!rc && gm_range_make(gpa, len, &ret->range))
		ret->use = GM_ELF_LOAD;
	return rc;
}

/* ---- notes ---- */

/* Bytes up to the next multiple of @align, of a length that is in 32 bits. */
static uint64_t padded(uint64_t len, uint64_t align)
{
	return gm_align_down(len + align - 1, align);
}

int gm_elf_notes(const struct gm_image *image, const struct gm_elf_segment *note,
	const uint8_t *bytes, struct gm_elf_notes *ret)
{
	uint64_t align = note->align == 8 ? 8 : 4;
	uint64_t left = note->file_len;

	while (left >= NOTE_HEAD) {
		uint64_t name = gm_get_le(bytes, 4);
		uint64_t desc = gm_get_le(bytes + 4, 4);
		uint64_t type = gm_get_le(bytes + 8, 4);
		uint64_t desc_at = padded(NOTE_HEAD + name, align);
		uint64_t end;

		if (name > left - NOTE_HEAD)
			return bad_phdr(image, note->number, "n_namesz of a note", name,
				"behind it there are bytes", left - NOTE_HEAD);
		if (desc_at > left || desc > left - desc_at)
			return bad_phdr(image, note->number, "n_descsz of a note", desc,
				"behind it there are bytes", desc_at > left ? 0 : left - desc_at);
		if (type == NOTE_PVH && name == 4 && memcmp(bytes + NOTE_HEAD, "Xen", 4) == 0) {
			if (desc != 4 && desc != 8)
				return bad_phdr(image, note->number, "n_descsz of the PVH entry",
					desc, "4 bytes or", 8);
			ret->pvh_entry = gm_get_le(bytes + desc_at, (unsigned int)desc);
			ret->has_pvh = true;
		}
		end = padded(desc_at + desc, align);
		if (end >= left)
			break;
		bytes += end;
		left -= end;
	}
	return 0;
}

/* ---- all segments together ---- */

int gm_elf_delta(const struct gm_image *image, const struct gm_elf_segment *segments, uint32_t nr,
	uint64_t addr, uint64_t *ret)
{
	struct gm_range all = {UINT64_MAX, 0};
	uint64_t align = 1;

	*ret = 0;
	for (uint32_t i = 0; i < nr; i++) {
		if (segments[i].use != GM_ELF_LOAD)
			continue;
		if (segments[i].range.first < all.first)
			all.first = segments[i].range.first;
		if (segments[i].range.last > all.last)
			all.last = segments[i].range.last;
		if (segments[i].align > align)
			align = segments[i].align;
	}
	if (!gm_range_is_valid(&all)) /* nothing to move */
		return 0;
	if (gm_range_extent(&all) > UINT64_MAX - addr)
		return gm_image_bad(image, "load address", addr,
			"wraps past the last address with bytes", gm_range_len(&all));
	if (!gm_is_aligned(addr - all.first, align)) {
		gm_image_bad(image, "distance to the load address", addr - all.first,
			"no multiple of p_align,", align);
		return -EINVAL;
	}
	*ret = addr - all.first;
	return 0;
}

static int by_address(const void *a, const void *b)
{
	const struct gm_elf_segment *one = a;
	const struct gm_elf_segment *two = b;

	if ((one->use == GM_ELF_LOAD) != (two->use == GM_ELF_LOAD))
		return one->use == GM_ELF_LOAD ? -1 : 1;
	if (one->range.first != two->range.first)
		return one->range.first < two->range.first ? -1 : 1;
	return one->number < two->number ? -1 : one->number > two->number;
}

int gm_elf_arrange(const struct gm_image *image, struct gm_elf_segment *segments, uint32_t nr,
	uint64_t delta, uint32_t *ret_nr)
{
	uint32_t loads = 0;

	for (uint32_t i = 0; i < nr; i++) {
		if (segments[i].use != GM_ELF_LOAD)
			continue;
		segments[i].range.first += delta;
		segments[i].range.last += delta;
		loads++;
	}
	qsort(segments, nr, sizeof(*segments), by_address);
	for (uint32_t i = 1; i < loads; i++) {
		if (!gm_range_overlaps(&segments[i - 1].range, &segments[i].range))
			continue;
		bad_phdr(image, segments[i].number, "p_paddr", segments[i].range.first,
			"overlaps program header", segments[i - 1].number);
		return -EEXIST;
	}
	*ret_nr = loads;
	return 0;
}

int gm_elf_entry(const struct gm_image *image, const char *field, uint64_t entry, uint64_t delta,
	const struct gm_elf_segment *segments, uint32_t nr, uint64_t *ret)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (gm_range_has(&segments[i].range, entry + delta)) {
			*ret = entry + delta;
			return 0;
		}
	}
	for (uint32_t i = 0; i < nr; i++) {
		const struct gm_range *range = &segments[i].range;

		if (entry >= segments[i].vaddr &&
			entry - segments[i].vaddr <= gm_range_extent(range)) {
			*ret = range->first + (entry - segments[i].vaddr);
			return 0;
		}
	}
	return gm_image_bad(image, field, entry, "in no segment; the first begins at",
		nr ? segments[0].range.first : 0);
}
