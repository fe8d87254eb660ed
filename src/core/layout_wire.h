/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout_wire.h - the bytes of a layout: a header, a table of files, a table of regions.
 *
 * Bytes in, structs out; no I/O and no allocation. docs/layout-format.md describes the format. What
 * is decoded has passed every check that needs nothing but the bytes: limits, order, overlap, wrap,
 * alignment, permissions, parts of files. Nothing that is read sizes anything before it is compared
 * with a limit.
 */
#ifndef GM_CORE_LAYOUT_WIRE_H
#define GM_CORE_LAYOUT_WIRE_H

#include <guestmem/view.h>
#include <stddef.h>
#include <stdint.h>

#define GM_WIRE_VERSION 1u
#define GM_WIRE_HEAD_SIZE 64u
#define GM_WIRE_FILE_SIZE 16u
#define GM_WIRE_REGION_SIZE 80u
#define GM_WIRE_NAME_SIZE 32u
#define GM_WIRE_FILES_MAX 253u
#define GM_WIRE_REGIONS_MAX 4096u
#define GM_WIRE_BODY_MAX                                                                           \
	(GM_WIRE_FILES_MAX * GM_WIRE_FILE_SIZE + GM_WIRE_REGIONS_MAX * GM_WIRE_REGION_SIZE)
/* Addresses, lengths and offsets of memory are multiples of it, whatever the host's page size. */
#define GM_WIRE_ALIGN 4096u
#define GM_WIRE_NO_FILE UINT32_MAX

/* The kinds of region; their numbers are those of enum gm_region_kind. */
enum gm_wire_kind {
	GM_WIRE_RAM = 0,
	GM_WIRE_ROM = 1,
	GM_WIRE_RESERVED = 2,
};

struct gm_wire_head {
	uint32_t nr_regions;
	uint32_t nr_files;
	uint32_t body_len; /* bytes behind the header */
};

struct gm_wire_file {
	uint64_t size; /* the file has at least so many bytes */
};

struct gm_wire_region {
	uint64_t gpa;
	uint64_t len;
	uint64_t off;  /* in the file */
	uint32_t file; /* index, or GM_WIRE_NO_FILE */
	uint32_t kind;
	uint32_t perms;
	char name[GM_WIRE_NAME_SIZE];
};

/* Why a layout is malformed: the byte of the whole layout, what stands there, what is wrong with
 * it, its value. */
struct gm_wire_fault {
	size_t off;
	const char *field; /* such as "gpa of region" */
	uint32_t item;     /* its number; 0 for the header */
	const char *what;
	uint64_t value;
};

/* The counts are within the limits. Each writes its fixed number of bytes. */
void gm_wire_put_head(uint8_t *buf, uint32_t nr_regions, uint32_t nr_files);
void gm_wire_put_file(uint8_t *buf, const struct gm_wire_file *file);
/* Bytes of the name that are not printable ASCII become '?'. */
void gm_wire_put_region(uint8_t *buf, const struct gm_wire_region *region);

/* GM_WIRE_HEAD_SIZE bytes. 0; -EPROTO; -ENOTSUP for another version. */
int gm_wire_get_head(const uint8_t *buf, struct gm_wire_head *ret, struct gm_wire_fault *ret_fault);

/*
 * The head->body_len bytes behind the header. @files has room for head->nr_files, @regions for
 * head->nr_regions; they are of no use after a failure. 0 or -EPROTO.
 */
int gm_wire_get_body(const struct gm_wire_head *head, const uint8_t *body,
	struct gm_wire_file *files, struct gm_wire_region *regions,
	struct gm_wire_fault *ret_fault);

#endif
