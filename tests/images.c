/* SPDX-License-Identifier: BSD-3-Clause */
/* images.c - small kernels made by hand. */
#include "images.h"

#include <elf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void image_put(struct image_file *image, size_t off, unsigned int width, uint64_t value)
{
	for (unsigned int i = 0; i < width; i++)
		image->bytes[off + i] = (uint8_t)(value >> (8 * i));
}

uint64_t image_get(const struct image_file *image, size_t off, unsigned int width)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < width; i++)
		value |= (uint64_t)image->bytes[off + i] << (8 * i);
	return value;
}

void image_pattern(struct image_file *image, size_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		image->bytes[off + i] = (uint8_t)(1 + (off + i) * 7 % 251);
}

static void begin(struct image_file *image, size_t len)
{
	memset(image, 0, sizeof(*image));
	image->len = len;
}

/* ---- ELF ---- */

size_t image_phdr(const struct image_file *image, unsigned int nr)
{
	return image->bytes[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Ehdr) + nr * sizeof(Elf64_Phdr)
						    : sizeof(Elf32_Ehdr) + nr * sizeof(Elf32_Phdr);
}

/* @virtual: what is added to the address. */
static void put_phdr(struct image_file *image, unsigned int nr, const Elf64_Phdr *phdr)
{
	Elf32_Phdr narrow = {
		.p_type = phdr->p_type,
		.p_flags = phdr->p_flags,
		.p_offset = (uint32_t)phdr->p_offset,
		.p_vaddr = (uint32_t)phdr->p_vaddr,
		.p_paddr = (uint32_t)phdr->p_paddr,
		.p_filesz = (uint32_t)phdr->p_filesz,
		.p_memsz = (uint32_t)phdr->p_memsz,
		.p_align = (uint32_t)phdr->p_align,
	};
	size_t at = image_phdr(image, nr);

	if (image->bytes[EI_CLASS] == ELFCLASS64)
		memcpy(image->bytes + at, phdr, sizeof(*phdr));
	else
		memcpy(image->bytes + at, &narrow, sizeof(narrow));
}

static void put_ehdr(struct image_file *image, bool is64, unsigned int machine, unsigned int type)
{
	Elf64_Ehdr wide = {
		.e_type = (uint16_t)type,
		.e_machine = (uint16_t)machine,
		.e_version = EV_CURRENT,
		.e_entry = ELF_ENTRY,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = ELF_NR_PHDRS,
	};
	Elf32_Ehdr narrow = {
		.e_type = (uint16_t)type,
		.e_machine = (uint16_t)machine,
		.e_version = EV_CURRENT,
		.e_entry = ELF_ENTRY,
		.e_phoff = sizeof(Elf32_Ehdr),
		.e_ehsize = sizeof(Elf32_Ehdr),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = ELF_NR_PHDRS,
	};

	if (is64)
		memcpy(image->bytes, &wide, sizeof(wide));
	else
		memcpy(image->bytes, &narrow, sizeof(narrow));
	memcpy(image->bytes, ELFMAG, SELFMAG);
	image->bytes[EI_CLASS] = is64 ? ELFCLASS64 : ELFCLASS32;
	image->bytes[EI_DATA] = ELFDATA2LSB;
	image->bytes[EI_VERSION] = EV_CURRENT;
}

static void put_note(
	struct image_file *image, size_t off, const char *name, uint32_t type, uint64_t value)
{
	image_put(image, off, 4, 4);
	image_put(image, off + 4, 4, 8);
	image_put(image, off + 8, 4, type);
	memcpy(image->bytes + off + 12, name, 4);
	image_put(image, off + 16, 8, value);
}

void image_elf(struct image_file *image, unsigned int bits, unsigned int machine, unsigned int type)
{
	const uint64_t virt = bits == 64 ? ELF_VIRTUAL : 0;
	const Elf64_Phdr phdrs[ELF_NR_PHDRS] = {
		{.p_type = PT_NOTE,
			.p_offset = ELF_NOTE_OFF,
			.p_filesz = ELF_NOTE_LEN,
			.p_align = 4},
		{PT_LOAD, PF_R | PF_X, ELF_TEXT_OFF, ELF_TEXT + virt, ELF_TEXT, ELF_TEXT_LEN,
			ELF_TEXT_LEN, 0x1000},
		{PT_LOAD, PF_R | PF_W, ELF_DATA_OFF, ELF_DATA + virt, ELF_DATA, ELF_DATA_LEN,
			ELF_DATA_MEM, 0x1000},
		{.p_type = PT_GNU_STACK, .p_align = 16},
	};

	begin(image, ELF_DATA_OFF + ELF_DATA_LEN);
	put_ehdr(image, bits == 64, machine, type);
	for (unsigned int i = 0; i < ELF_NR_PHDRS; i++)
		put_phdr(image, i, &phdrs[i]);
	put_note(image, ELF_NOTE_OFF, "GNU", 1, 0x1234);
	put_note(image, ELF_NOTE_OFF + ELF_NOTE_LEN / 2, "Xen", 18, ELF_PVH);
	image_pattern(image, ELF_TEXT_OFF, ELF_TEXT_LEN + ELF_DATA_LEN);
}

/* ---- Linux ---- */

void image_bzimage(struct image_file *image)
{
	begin(image, BZ_SETUP + BZ_LEN);
	image_pattern(image, 0, 0x1f1);
	image_put(image, 0x1f1, 1, 2);
	image_put(image, 0x1f4, 4, BZ_LEN / 16);
	image_put(image, 0x1fe, 2, 0xaa55);
	image_put(image, 0x200, 2, 0x6aeb);
	memcpy(image->bytes + 0x202, "HdrS", 4);
	image_put(image, 0x206, 2, 0x020f);
	image_put(image, 0x211, 1, 1);
	image_put(image, 0x214, 4, 0x100000);
	image_put(image, 0x22c, 4, 0x7fffffff);
	image_put(image, 0x230, 4, BZ_ALIGN);
	image_put(image, 0x234, 1, 1);
	image_put(image, 0x235, 1, 21);
	image_put(image, 0x236, 2, 3);
	image_put(image, 0x238, 4, 2047);
	image_put(image, 0x248, 4, 0x300);
	image_put(image, 0x24c, 4, 0x1000);
	image_put(image, 0x258, 8, BZ_PREFERRED);
	image_put(image, 0x260, 4, BZ_INIT_SIZE);
	image_put(image, 0x264, 4, 0x190);
	image_put(image, 0x268, 4, 0x1400);
	image_pattern(image, BZ_SETUP, BZ_LEN);
}

static void put_pe(struct image_file *image, size_t at, unsigned int machine)
{
	memcpy(image->bytes, "MZ", 2);
	image_put(image, 60, 4, at);
	memcpy(image->bytes + at, "PE", 3);
	image_put(image, at + 4, 2, machine);
	image_put(image, at + 6, 2, 2);        /* sections */
	image_put(image, at + 20, 2, 0xa0);    /* optional header */
	image_put(image, at + 24, 2, 0x20b);   /* PE32+ */
	image_put(image, at + 24 + 16, 4, 64); /* entry point */
	image_put(image, at + 24 + 56, 4, FLAT_LEN);
	image_put(image, at + 24 + 68, 2, 10); /* EFI application */
}

static void put_flat(struct image_file *image, uint64_t text_off, uint64_t flags)
{
	begin(image, FLAT_FILE);
	image_pattern(image, 0x200, FLAT_FILE - 0x200);
	image_put(image, 8, 8, text_off);
	image_put(image, 16, 8, FLAT_LEN);
	image_put(image, 24, 8, flags);
}

void image_arm64(struct image_file *image)
{
	put_flat(image, 0x80000, 0x0a); /* 4 KiB pages, anywhere */
	memcpy(image->bytes + 56, "ARM\x64", 4);
	put_pe(image, FLAT_PE, 0xaa64);
}

void image_riscv(struct image_file *image)
{
	put_flat(image, 0x200000, 0);
	image_put(image, 32, 4, 2);
	memcpy(image->bytes + 48, "RISCV", 5);
	memcpy(image->bytes + 56, "RSC\x05", 4);
	put_pe(image, FLAT_PE, 0x5064);
}

void image_pe(struct image_file *image)
{
	begin(image, FLAT_FILE);
	image_pattern(image, 0x200, FLAT_FILE - 0x200);
	put_pe(image, FLAT_PE, 0xaa64);
}

void image_zboot(struct image_file *image, const char *compression)
{
	image_pe(image);
	memcpy(image->bytes + 4, "zimg", 4);
	image_put(image, 8, 4, 0x400);
	image_put(image, 12, 4, 0x800);
	memcpy(image->bytes + 24, compression, strnlen(compression, 32));
}

int image_fd(const struct image_file *image)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (fd < 0 || write(fd, image->bytes, image->len) != (ssize_t)image->len)
		abort();
	return fd;
}
