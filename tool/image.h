/* SPDX-License-Identifier: BSD-3-Clause */
/* image.h - a memory image as a source: files of any format (gm_memfile(3)), or an export of an NBD server. */
#ifndef TOOL_IMAGE_H
#define TOOL_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <guestmem/memfile.h>

#define IMAGE_FILES_MAX GM_MEMFILE_FILES_MAX

struct image {
	const char *format; /* "saved", "raw", "mapped-ram", "nbd" */
	struct gm_source *source;
	struct gm_memfile *memory; /* NULL: an export */
	struct gm_snapshot *top;   /* the last file of saved memory, or NULL */
	uint8_t id[16];            /* the same for the same files as long as nobody changes them */
	char identity[33];         /* in hexadecimal */
};

/* Is it the address of an export? */
bool image_is_uri(const char *path);
/* @paths: what others lie on first. @format: enum gm_memfile_format. False after a message. */
bool image_open(struct image *image, const char *const *paths, size_t nr, uint32_t format);
void image_close(struct image *image);

#endif
