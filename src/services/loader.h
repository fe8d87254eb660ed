/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loader.h - what the loaders share: a file on its way into guest memory.
 */
#ifndef GM_SERVICES_LOADER_H
#define GM_SERVICES_LOADER_H

#include <guestmem/loader.h>

#include "core/image.h"

/* @what names it in texts. */
struct gm_load {
	struct gm_reader *reader;
	int fd;
	uint64_t file_len;
	const char *what;
	struct gm_error *err;
};

/* ---- loader_move.c ---- */
/* Looks at the file; fills in its length. */
int gm_load_open(struct gm_load *load);
/* All of [off, off + len), which was in the file. */
int gm_load_read(const struct gm_load *load, uint64_t off, void *buf, size_t len);
/* Is there memory that can be written in all of the range? */
int gm_load_check(const struct gm_load *load, const struct gm_range *range);
/* Bytes of the file to guest memory. */
int gm_load_move(const struct gm_load *load, uint64_t off, uint64_t gpa, uint64_t len);
int gm_load_zero(const struct gm_load *load, uint64_t gpa, uint64_t len);

/* ---- loader_place.c ---- */
struct gm_load_want {
	struct gm_range within;
	uint64_t len;   /* not 0 */
	uint64_t align; /* a power of two */
	bool lowest;    /* else the highest */
};

/* Finds a place in memory; -ENOSPC. */
int gm_load_find(const struct gm_load *load, const struct gm_load_want *want, uint64_t *ret_gpa);

/* ---- loader.c ---- */
/* A kernel while it is looked at. */
struct gm_load_job {
	struct gm_load load;
	struct gm_load_opts opts; /* in full */
	struct gm_image image;
	struct gm_image_fault fault;
	struct gm_kernel kernel;
	uint8_t head[GM_IMAGE_HEAD_MAX];
};

/* Turns the fault of a decoder that returned @rc into the error's text. */
int gm_load_refuse(const struct gm_load_job *job, int rc);
/* Notes what the kernel takes up; does it lie where it may? */
int gm_load_take(struct gm_load_job *job, const struct gm_range *range);

/* ---- loader_elf.c ---- */
struct gm_elf_file {
	struct gm_elf elf;
	struct gm_elf_notes notes;
	struct gm_elf_segment *segments;
};

/* Reads the headers and what they say about the kernel. gm_elf_close() also after a failure. */
int gm_elf_open(struct gm_load_job *job, struct gm_elf_file *ret);
void gm_elf_close(struct gm_elf_file *file);
int gm_elf_load(struct gm_load_job *job, struct gm_elf_file *file);

#endif
