/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * images.h - small kernels made by hand, which tests then spoil: each a buffer with its length.
 *
 * The builders make an image of which every field is good; where a field stands is told by the constants
 * below or by the structs of <elf.h>.
 */
#ifndef GM_TESTS_IMAGES_H
#define GM_TESTS_IMAGES_H

#include <stddef.h>
#include <stdint.h>

#define IMAGE_MAX 16384u

struct image_file {
	size_t len;
	uint8_t bytes[IMAGE_MAX];
};

/* A number of @width bytes, little-endian. */
void image_put(struct image_file *image, size_t off, unsigned int width, uint64_t value);
uint64_t image_get(const struct image_file *image, size_t off, unsigned int width);
/* Bytes that differ from each other and from zero. */
void image_pattern(struct image_file *image, size_t off, size_t len);

/*
 * ELF: header, four program headers: a PT_NOTE with the PVH entry; text, which is all in the file; data
 * with zeroed memory behind it; PT_GNU_STACK.
 */
#define ELF_TEXT UINT64_C(0x100000) /* guest address */
#define ELF_TEXT_OFF 0x400u
#define ELF_TEXT_LEN 0x600u
#define ELF_DATA UINT64_C(0x102000)
#define ELF_DATA_OFF 0xa00u
#define ELF_DATA_LEN 0x123u
#define ELF_DATA_MEM 0x5000u
#define ELF_NOTE_OFF 0x300u
#define ELF_NOTE_LEN 48u
#define ELF_PVH UINT64_C(0x100040)
#define ELF_ENTRY UINT64_C(0x100200)
#define ELF_VIRTUAL UINT64_C(0xffffffff80000000) /* what is added to make a virtual address */
enum { ELF_PHDR_NOTE, ELF_PHDR_TEXT, ELF_PHDR_DATA, ELF_PHDR_OTHER, ELF_NR_PHDRS };
/* @bits: 32 or 64; @machine: EM_*; @type: ET_EXEC or ET_DYN */
void image_elf(
	struct image_file *image, unsigned int bits, unsigned int machine, unsigned int type);
/* Where program header @nr begins. */
size_t image_phdr(const struct image_file *image, unsigned int nr);

/* bzImage of protocol 2.15: two setup sectors and a kernel of BZ_LEN bytes. */
#define BZ_SETUP 0x600u
#define BZ_LEN 0x1a00u
#define BZ_PREFERRED UINT64_C(0x1000000)
#define BZ_INIT_SIZE 0x8000u
#define BZ_ALIGN 0x200000u
void image_bzimage(struct image_file *image);

/* An Image of FLAT_FILE bytes that wants FLAT_LEN; with an EFI stub. */
#define FLAT_FILE 0x1000u
#define FLAT_LEN 0x3000u
#define FLAT_PE 64u /* where its PE header is */
void image_arm64(struct image_file *image);
void image_riscv(struct image_file *image);

/* An EFI application for arm64, and one that holds a compressed Image. */
void image_pe(struct image_file *image);
void image_zboot(struct image_file *image, const char *compression);

/* A memfd with these bytes. */
int image_fd(const struct image_file *image);

#endif
