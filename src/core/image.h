/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.h - the headers of kernel images: bytes in, structs out.
 *
 * No I/O, no allocation, no pointers into guest memory. What is decoded has passed every check that the
 * bytes and the length of the file allow: nothing lies outside of the file, no sum wraps. Addresses are
 * bounded when it is known where the image goes. Each function returns 0 or a negative errno value, and
 * then has filled in a fault.
 */
#ifndef GM_CORE_IMAGE_H
#define GM_CORE_IMAGE_H

#include <guestmem/loader.h>
#include <stdbool.h>

#include "core/bytes.h"
#include "core/range.h"

#define GM_IMAGE_HEAD_MAX 4096u /* bytes at the beginning of a file that are looked at */

/* Why an image is refused: "FIELD [of ITEM] is VALUE: WHAT LIMIT". */
struct gm_image_fault {
	const char *field;
	const char *what;
	uint64_t value;
	uint64_t limit;
	uint32_t item; /* number of a program header, or GM_IMAGE_NO_ITEM */
};

#define GM_IMAGE_NO_ITEM UINT32_MAX

/* The first bytes of a file, at most GM_IMAGE_HEAD_MAX, and how long it is. */
struct gm_image {
	const uint8_t *head;
	size_t len;
	uint64_t file_len;
	struct gm_image_fault *fault;
};

/* ---- image.c ---- */
/* GM_KERNEL_* by the magic numbers; 0 = none of them. */
uint32_t gm_image_format(const struct gm_image *image);
/* Fills in the fault; returns -ENOEXEC. */
int gm_image_bad(const struct gm_image *image, const char *field, uint64_t value, const char *what,
	uint64_t limit);
/* Is [off, off + len) in the file? Also with len 0. */
bool gm_image_in_file(const struct gm_image *image, uint64_t off, uint64_t len);

/* A text that says what the fault does; always terminated. */
void gm_image_fault_text(const struct gm_image_fault *fault, char *buf, size_t cap);

/* ---- image_elf.c ---- */
#define GM_ELF_PHDRS_MAX 256u
#define GM_ELF_PHDR_MAX 56u       /* bytes of a program header at most */
#define GM_ELF_NOTES_MAX 0x10000u /* bytes of a note segment */

struct gm_elf {
	bool is64;
	bool relocatable;
	uint32_t machine; /* GM_MACHINE_* */
	uint64_t entry;
	uint64_t phoff;
	uint32_t nr_phdrs;
	uint32_t phdr_len;
};

enum gm_elf_use {
	GM_ELF_OTHER, /* nothing to do */
	GM_ELF_LOAD,  /* not empty */
	GM_ELF_NOTE,
};

struct gm_elf_segment {
	uint32_t use;
	uint32_t number; /* of its program header */
	uint64_t off;
	uint64_t file_len; /* at most memory's */
	uint64_t vaddr;
	uint64_t align;        /* a power of two */
	struct gm_range range; /* of guest memory */
};

struct gm_elf_notes {
	uint64_t pvh_entry;
	bool has_pvh;
};

int gm_elf_head(const struct gm_image *image, struct gm_elf *ret);
/* elf->phdr_len bytes. */
int gm_elf_phdr(const struct gm_image *image, const struct gm_elf *elf, const uint8_t *bytes,
	uint32_t number, struct gm_elf_segment *ret);
/* All bytes of a segment of notes. */
int gm_elf_notes(const struct gm_image *image, const struct gm_elf_segment *note,
	const uint8_t *bytes, struct gm_elf_notes *ret);
/* By how much all are moved for the lowest to lie at @addr; by no less than their alignment. */
int gm_elf_delta(const struct gm_image *image, const struct gm_elf_segment *segments, uint32_t nr,
	uint64_t addr, uint64_t *ret);
/*
 * Moves the segments by @delta, 0 or what gm_elf_delta() gave; sorts those to be loaded by address to the
 * front, *ret_nr of them; -EEXIST: two overlap, from fault->value on.
 */
int gm_elf_arrange(const struct gm_image *image, struct gm_elf_segment *segments, uint32_t nr,
	uint64_t delta, uint32_t *ret_nr);
/* The physical address of @entry, as the file has it: in the segments' physical or else virtual addresses. */
int gm_elf_entry(const struct gm_image *image, const char *field, uint64_t entry, uint64_t delta,
	const struct gm_elf_segment *segments, uint32_t nr, uint64_t *ret);

/* ---- image_bzimage.c ---- */
#define GM_SETUP_FIRST 0x1f1u

struct gm_bzimage {
	uint64_t off; /* of the protected-mode part in the file */
	uint64_t len;
	uint32_t protocol;
	uint32_t setup_len; /* bytes from GM_SETUP_FIRST on */
	bool relocatable;
	bool entry64;
	bool above_4g;
	uint64_t align;     /* of its run-time address, a power of two */
	uint64_t preferred; /* address */
	uint64_t init_size;
	uint64_t cmdline_max;
	uint64_t initrd_last;
};

int gm_bzimage_head(const struct gm_image *image, struct gm_bzimage *ret);
/* What it takes up when it is loaded at @addr. */
int gm_bzimage_place(const struct gm_image *image, const struct gm_bzimage *bz, uint64_t addr,
	struct gm_range *ret);

/* ---- image_flat.c: arm64, RISC-V ---- */
#define GM_FLAT_ALIGN UINT64_C(0x200000)

struct gm_flat {
	uint64_t text_off; /* from a multiple of GM_FLAT_ALIGN */
	uint64_t len;      /* in memory: at least the file's */
	uint32_t page_size;
	bool big_endian;
};

int gm_arm64_head(const struct gm_image *image, struct gm_flat *ret);
int gm_riscv_head(const struct gm_image *image, struct gm_flat *ret);

/* ---- image_pe.c ---- */
struct gm_pe {
	uint32_t machine; /* GM_MACHINE_*, 0 = another */
	bool efi_application;
};

struct gm_zboot {
	uint64_t off; /* of what is compressed */
	uint64_t len;
	char compression[33];
};

int gm_pe_head(const struct gm_image *image, struct gm_pe *ret);
int gm_zboot_head(const struct gm_image *image, struct gm_zboot *ret);

#endif
