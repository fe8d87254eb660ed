/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout_wire.c - encoding and decoding of layouts.
 *
 * There is one way to write a layout: what has been decoded and is encoded again gives the same
 * bytes. So every reserved byte is looked at, and nothing can hide in them.
 */
#include "core/layout_wire.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/range.h"

static const uint8_t magic[8] = {'G', 'M', 'L', 'A', 'Y', 'O', 'U', 'T'};

/* Offsets of fields in the header. */
enum {
	HEAD_MAGIC = 0,
	HEAD_VERSION = 8,
	HEAD_FILE_SIZE = 12,
	HEAD_REGION_SIZE = 16,
	HEAD_NR_FILES = 20,
	HEAD_NR_REGIONS = 24,
	HEAD_BODY_LEN = 28,
	HEAD_RESERVED = 32,
};

/* Offsets of fields in an entry. */
enum {
	FILE_SIZE = 0,
	FILE_RESERVED = 8,

	REGION_GPA = 0,
	REGION_LEN = 8,
	REGION_OFF = 16,
	REGION_FILE = 24,
	REGION_KIND = 28,
	REGION_PERMS = 32,
	REGION_RESERVED = 36,
	REGION_NAME = 48,
};

_Static_assert(REGION_NAME + GM_WIRE_NAME_SIZE == GM_WIRE_REGION_SIZE, "the name is the last");
_Static_assert(GM_WIRE_BODY_MAX < UINT32_MAX, "a length fits into its field");

/* ---- encoding ---- */

static uint32_t body_len(uint32_t nr_regions, uint32_t nr_files)
{
	return nr_files * GM_WIRE_FILE_SIZE + nr_regions * GM_WIRE_REGION_SIZE;
}

void gm_wire_put_head(uint8_t *buf, uint32_t nr_regions, uint32_t nr_files)
{
	memset(buf, 0, GM_WIRE_HEAD_SIZE);
	memcpy(buf + HEAD_MAGIC, magic, sizeof(magic));
	gm_put_le(buf + HEAD_VERSION, 4, GM_WIRE_VERSION);
	gm_put_le(buf + HEAD_FILE_SIZE, 4, GM_WIRE_FILE_SIZE);
	gm_put_le(buf + HEAD_REGION_SIZE, 4, GM_WIRE_REGION_SIZE);
	gm_put_le(buf + HEAD_NR_FILES, 4, nr_files);
	gm_put_le(buf + HEAD_NR_REGIONS, 4, nr_regions);
	gm_put_le(buf + HEAD_BODY_LEN, 4, body_len(nr_regions, nr_files));
}

void gm_wire_put_file(uint8_t *buf, const struct gm_wire_file *file)
{
	memset(buf, 0, GM_WIRE_FILE_SIZE);
	gm_put_le(buf + FILE_SIZE, 8, file->size);
}

static bool printable(uint8_t c)
{
	return c >= 0x20 && c < 0x7f;
}

void gm_wire_put_region(uint8_t *buf, const struct gm_wire_region *region)
{
	memset(buf, 0, GM_WIRE_REGION_SIZE);
	gm_put_le(buf + REGION_GPA, 8, region->gpa);
	gm_put_le(buf + REGION_LEN, 8, region->len);
	gm_put_le(buf + REGION_OFF, 8, region->off);
	gm_put_le(buf + REGION_FILE, 4, region->file);
	gm_put_le(buf + REGION_KIND, 4, region->kind);
	gm_put_le(buf + REGION_PERMS, 4, region->perms);
	for (size_t i = 0; i + 1 < GM_WIRE_NAME_SIZE && region->name[i]; i++) {
		uint8_t c = (uint8_t)region->name[i];

		buf[REGION_NAME + i] = printable(c) ? c : '?';
	}
}

/* ---- decoding ---- */

/* What is being decoded, to say where it is wrong. */
struct place {
	struct gm_wire_fault *fault;
	size_t base;
	uint32_t item;
};

static int bad(
	const struct place *at, size_t off, const char *field, const char *what, uint64_t value)
{
	*at->fault = (struct gm_wire_fault){
		.off = at->base + off,
		.field = field,
		.item = at->item,
		.what = what,
		.value = value,
	};
	return -EPROTO;
}

/* Offset of the first byte of @buf in [off, end) that is not zero, or @end. */
static size_t not_zero(const uint8_t *buf, size_t off, size_t end)
{
	while (off < end && buf[off] == 0)
		off++;
	return off;
}

int gm_wire_get_head(const uint8_t *buf, struct gm_wire_head *ret, struct gm_wire_fault *ret_fault)
{
	const struct place at = {.fault = ret_fault};
	uint32_t nr_files = gm_get_le32(buf + HEAD_NR_FILES);
	uint32_t nr_regions = gm_get_le32(buf + HEAD_NR_REGIONS);
	uint32_t version = gm_get_le32(buf + HEAD_VERSION);
	size_t rest = not_zero(buf, HEAD_RESERVED, GM_WIRE_HEAD_SIZE);

	if (memcmp(buf + HEAD_MAGIC, magic, sizeof(magic)) != 0)
		return bad(&at, HEAD_MAGIC, "magic", "is not that of a layout", gm_get_le(buf, 8));
	if (version != GM_WIRE_VERSION) {
		bad(&at, HEAD_VERSION, "version", "is not 1", version);
		return -ENOTSUP;
	}
	if (gm_get_le32(buf + HEAD_FILE_SIZE) != GM_WIRE_FILE_SIZE)
		return bad(&at, HEAD_FILE_SIZE, "size of a file entry", "is not 16",
			gm_get_le32(buf + HEAD_FILE_SIZE));
	if (gm_get_le32(buf + HEAD_REGION_SIZE) != GM_WIRE_REGION_SIZE)
		return bad(&at, HEAD_REGION_SIZE, "size of a region entry", "is not 80",
			gm_get_le32(buf + HEAD_REGION_SIZE));
	if (nr_files > GM_WIRE_FILES_MAX)
		return bad(&at, HEAD_NR_FILES, "number of files", "is more than 253", nr_files);
	if (nr_regions > GM_WIRE_REGIONS_MAX)
		return bad(
			&at, HEAD_NR_REGIONS, "number of regions", "is more than 4096", nr_regions);
	if (gm_get_le32(buf + HEAD_BODY_LEN) != body_len(nr_regions, nr_files))
		return bad(&at, HEAD_BODY_LEN, "length of the body", "does not fit the counts",
			gm_get_le32(buf + HEAD_BODY_LEN));
	if (rest < GM_WIRE_HEAD_SIZE)
		return bad(&at, rest, "reserved byte", "is not 0", buf[rest]);
	*ret = (struct gm_wire_head){
		.nr_regions = nr_regions,
		.nr_files = nr_files,
		.body_len = body_len(nr_regions, nr_files),
	};
	return 0;
}

static int get_file(const struct place *at, const uint8_t *buf, struct gm_wire_file *ret)
{
	uint64_t size = gm_get_le(buf + FILE_SIZE, 8);
	size_t rest = not_zero(buf, FILE_RESERVED, GM_WIRE_FILE_SIZE);

	if (size > (uint64_t)INT64_MAX)
		return bad(at, FILE_SIZE, "size of file", "is more than a file can have", size);
	if (rest < GM_WIRE_FILE_SIZE)
		return bad(at, rest, "reserved byte of file", "is not 0", buf[rest]);
	ret->size = size;
	return 0;
}

/* A name ends with a zero, and zeros follow it. What a terminal would obey is not let in. */
static int get_name(const struct place *at, const uint8_t *buf, char *ret)
{
	size_t len = 0;
	size_t rest;

	while (len < GM_WIRE_NAME_SIZE && printable(buf[REGION_NAME + len]))
		len++;
	if (len == GM_WIRE_NAME_SIZE)
		return bad(at, REGION_NAME, "name of region", "has no end", 0);
	rest = not_zero(buf, REGION_NAME + len, GM_WIRE_REGION_SIZE);
	if (rest < GM_WIRE_REGION_SIZE)
		return bad(at, rest, "name of region",
			"has a byte that is not printable, or goes on behind its end", buf[rest]);
	memcpy(ret, buf + REGION_NAME, GM_WIRE_NAME_SIZE);
	return 0;
}

/* Where the region lies. @before: the region before it, or NULL. */
static int check_place(const struct place *at, const struct gm_wire_region *region,
	const struct gm_wire_region *before)
{
	bool memory = region->kind != GM_WIRE_RESERVED;
	struct gm_range range;

	if (memory && !gm_is_aligned(region->gpa, GM_WIRE_ALIGN))
		return bad(
			at, REGION_GPA, "gpa of region", "is not a multiple of 4096", region->gpa);
	if (region->len == 0)
		return bad(at, REGION_LEN, "length of region", "is 0", 0);
	if (memory && !gm_is_aligned(region->len, GM_WIRE_ALIGN))
		return bad(at, REGION_LEN, "length of region", "is not a multiple of 4096",
			region->len);
	if (!gm_range_make(region->gpa, region->len, &range))
		return bad(at, REGION_LEN, "length of region",
			"passes the end of the address space", region->len);
	/* The one before was checked not to wrap. */
	if (before && region->gpa <= before->gpa + (before->len - 1))
		return bad(at, REGION_GPA, "gpa of region", "lies in the region before it or below",
			region->gpa);
	return 0;
}

/* Its part of a file. */
static int check_file(const struct place *at, const struct gm_wire_region *region,
	const struct gm_wire_file *files, uint32_t nr_files)
{
	if (region->kind == GM_WIRE_RESERVED) {
		if (region->file != GM_WIRE_NO_FILE)
			return bad(at, REGION_FILE, "file of region",
				"is named, but it is reserved", region->file);
		if (region->off)
			return bad(at, REGION_OFF, "offset of region",
				"is not 0, but it is reserved", region->off);
		return 0;
	}
	if (region->file >= nr_files)
		return bad(at, REGION_FILE, "file of region", "is not in the table", region->file);
	if (!gm_is_aligned(region->off, GM_WIRE_ALIGN))
		return bad(at, REGION_OFF, "offset of region", "is not a multiple of 4096",
			region->off);
	if (region->off > files[region->file].size)
		return bad(at, REGION_OFF, "offset of region", "passes the end of its file",
			region->off);
	if (region->len > files[region->file].size - region->off)
		return bad(at, REGION_LEN, "length of region", "passes the end of its file",
			region->len);
	return 0;
}

static int check_perms(const struct place *at, const struct gm_wire_region *region)
{
	uint32_t perms = region->perms;

	if (region->kind == GM_WIRE_RESERVED)
		return perms ? bad(at, REGION_PERMS, "permissions of region",
				       "are given, but it is reserved", perms)
			     : 0;
	if (perms == 0 || (perms & ~GM_PERM_RWX))
		return bad(at, REGION_PERMS, "permissions of region", "are not of 1 to 7", perms);
	if (region->kind == GM_WIRE_ROM && (perms & GM_PERM_W))
		return bad(at, REGION_PERMS, "permissions of region", "let ROM be written", perms);
	return 0;
}

static int get_region(const struct place *at, const uint8_t *buf, struct gm_wire_region *ret)
{
	size_t rest = not_zero(buf, REGION_RESERVED, REGION_NAME);

	ret->gpa = gm_get_le(buf + REGION_GPA, 8);
	ret->len = gm_get_le(buf + REGION_LEN, 8);
	ret->off = gm_get_le(buf + REGION_OFF, 8);
	ret->file = gm_get_le32(buf + REGION_FILE);
	ret->kind = gm_get_le32(buf + REGION_KIND);
	ret->perms = gm_get_le32(buf + REGION_PERMS);
	if (rest < REGION_NAME)
		return bad(at, rest, "reserved byte of region", "is not 0", buf[rest]);
	if (ret->kind > GM_WIRE_RESERVED)
		return bad(at, REGION_KIND, "kind of region", "is not known", ret->kind);
	return get_name(at, buf, ret->name);
}

int gm_wire_get_body(const struct gm_wire_head *head, const uint8_t *body,
	struct gm_wire_file *files, struct gm_wire_region *regions, struct gm_wire_fault *ret_fault)
{
	const size_t table = (size_t)head->nr_files * GM_WIRE_FILE_SIZE;
	struct place at = {.fault = ret_fault};
	bool used[GM_WIRE_FILES_MAX] = {false};
	int rc = 0;

	for (size_t i = 0; i < head->nr_files && !rc; i++) {
		at.item = (uint32_t)i;
		at.base = GM_WIRE_HEAD_SIZE + i * GM_WIRE_FILE_SIZE;
		rc = get_file(&at, body + i * GM_WIRE_FILE_SIZE, &files[i]);
	}
	for (size_t i = 0; i < head->nr_regions && !rc; i++) {
		at.item = (uint32_t)i;
		at.base = GM_WIRE_HEAD_SIZE + table + i * GM_WIRE_REGION_SIZE;
		rc = get_region(&at, body + table + i * GM_WIRE_REGION_SIZE, &regions[i]);
		if (!rc)
			rc = check_place(&at, &regions[i], i ? &regions[i - 1] : NULL);
		if (!rc)
			rc = check_file(&at, &regions[i], files, head->nr_files);
		if (!rc)
			rc = check_perms(&at, &regions[i]);
		if (!rc && regions[i].file != GM_WIRE_NO_FILE)
			used[regions[i].file] = true;
	}
	/* A file that no region names would only cost a descriptor. */
	for (uint32_t i = 0; i < head->nr_files && !rc; i++) {
		at.item = (uint32_t)i;
		at.base = GM_WIRE_HEAD_SIZE + i * GM_WIRE_FILE_SIZE;
		if (!used[i])
			rc = bad(&at, 0, "file", "is used by no region", i);
	}
	return rc;
}
