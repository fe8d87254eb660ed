/* SPDX-License-Identifier: BSD-3-Clause */
/* mapped_ram_wire.c - see mapped_ram_wire.h. */
#include "core/mapped_ram_wire.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/range.h"

#define STREAM_VERSION 3u
#define RAM_VERSION 4u
#define HEADER 28u
#define PAGE_MAX (UINT64_C(1) << 20)

/* What stands before a part of the stream. */
enum part { SECTION_START = 0x01, SECTION_FULL = 0x04, SUBSECTION = 0x05, CONFIGURATION = 0x07 };

/* Sizes of memory have these in their low bits. */
#define FLAGS UINT64_C(0xfff)
#define FLAG_MEM_SIZE UINT64_C(0x04)

/* What is left of the bytes. Once something was missing all that is taken is 0. */
struct cursor {
	const uint8_t *at;
	size_t left;
	bool cut;
};

static const uint8_t *take(struct cursor *c, size_t len)
{
	const uint8_t *at = c->at;

	if (len > c->left)
		c->cut = true;
	if (c->cut)
		return NULL;
	c->at += len;
	c->left -= len;
	return at;
}

static uint64_t number(struct cursor *c, unsigned int bytes)
{
	const uint8_t *at = take(c, bytes);

	return at ? gm_get_be(at, bytes) : 0;
}

/* A length of one byte and as many characters; false if it is not @name. */
static bool is_named(struct cursor *c, const char *name)
{
	size_t len = (size_t)number(c, 1);
	const uint8_t *at = take(c, len);

	return at && len == strlen(name) && !memcmp(at, name, len);
}

static int no(const char **ret_why, int rc, const char *why)
{
	*ret_why = why;
	return rc;
}

static int cut(const char **ret_why)
{
	return no(ret_why, -EPROTO, "it is truncated");
}

bool gm_mapram_look(const uint8_t *bytes)
{
	return memcmp(bytes, "QEVM", 4) == 0;
}

/* ---- front ---- */

static bool read_capabilities(struct cursor *c, struct gm_mapram_front *front)
{
	uint64_t nr = number(c, 4);
	bool mapped = false;

	while (nr-- && !c->cut) {
		struct cursor again = *c;

		mapped |= is_named(&again, "mapped-ram");
		front->placed |= is_named(c, "x-ignore-shared");
	}
	return mapped;
}

/* The name of the machine, and what QEMU thought worth to be compared. */
static int read_configuration(struct cursor *c, struct gm_mapram_front *front, const char **ret_why)
{
	take(c, (size_t)number(c, 4));
	while (!c->cut && c->left && *c->at == SUBSECTION) {
		struct cursor bits;
		struct cursor capabilities;

		take(c, 1);
		bits = capabilities = *c;
		if (is_named(&capabilities, "configuration/capabilities")) {
			*c = capabilities;
			take(c, 4);
			if (!read_capabilities(c, front) && !c->cut)
				return no(ret_why, -ENOTSUP,
					"its pages have no places of their own: it was written "
					"without mapped-ram");
		} else if (is_named(&bits, "configuration/target-page-bits")) {
			*c = bits;
			take(c, 8);
		} else if (is_named(c, "configuration/uuid")) {
			take(c, 4 + 16);
		} else {
			return no(ret_why, c->cut ? -EPROTO : -ENOTSUP,
				"its configuration has a part that is not known");
		}
	}
	return 0;
}

/* The section of the memory: its number, its name, instance and version, and how much there is. */
static int read_section(struct cursor *c, struct gm_mapram_front *front, const char **ret_why)
{
	uint64_t kind = number(c, 1);
	uint64_t version;

	if (!c->cut && kind == SECTION_FULL)
		return no(ret_why, -ENOTSUP, "a device comes before the memory");
	if (!c->cut && kind != SECTION_START)
		return no(ret_why, -EPROTO, "no section begins behind its configuration");
	take(c, 4);
	if (!is_named(c, "ram"))
		return c->cut ? cut(ret_why)
			      : no(ret_why, -ENOTSUP, "its first section is not the memory");
	take(c, 4);
	version = number(c, 4);
	if (!c->cut && version != RAM_VERSION)
		return no(ret_why, -ENOTSUP, "another version of the section of the memory");
	front->total = number(c, 8);
	if (c->cut)
		return cut(ret_why);
	if ((front->total & FLAGS) != FLAG_MEM_SIZE)
		return no(ret_why, -EPROTO, "the section of the memory does not say its size");
	front->total &= ~FLAGS;
	return front->total ? 0 : no(ret_why, -EPROTO, "it has no memory");
}

int gm_mapram_get_front(
	const uint8_t *bytes, size_t len, struct gm_mapram_front *ret, const char **ret_why)
{
	struct cursor c = {.at = bytes, .left = len};
	const uint8_t *magic = take(&c, 4);
	uint64_t version = number(&c, 4);
	int rc;

	*ret = (struct gm_mapram_front){.end = 0};
	if (!magic || !gm_mapram_look(magic))
		return no(ret_why, -EPROTO, "no migration stream");
	if (c.cut)
		return cut(ret_why);
	if (version != STREAM_VERSION)
		return no(ret_why, -ENOTSUP, "another version of the stream");
	if (c.left && *c.at == CONFIGURATION) {
		take(&c, 1);
		rc = read_configuration(&c, ret, ret_why);
		if (rc)
			return rc;
	}
	rc = read_section(&c, ret, ret_why);
	ret->end = len - c.left;
	return rc;
}

/* ---- blocks ---- */

static int read_name(struct cursor *c, char name[256], const char **ret_why)
{
	size_t len = (size_t)number(c, 1);
	const uint8_t *at = take(c, len);

	if (!at)
		return cut(ret_why);
	memcpy(name, at, len);
	name[len] = '\0';
	return len && strlen(name) == len ? 0 : no(ret_why, -EPROTO, "a block has no name");
}

/* Where it lies: behind its records and each other, in the file. */
static int check_places(const struct gm_mapped_ram_block *block, uint64_t end, uint64_t file_len,
	const char **ret_why)
{
	if (block->bitmap_off < end || block->pages_off < block->bitmap_off ||
		gm_mapram_bitmap_len(block) > block->pages_off - block->bitmap_off)
		return no(
			ret_why, -EPROTO, "its bitmap does not lie between its records and pages");
	if (!gm_is_aligned(block->pages_off, block->page_size))
		return no(ret_why, -EPROTO, "its pages do not begin at a page of the file");
	if (block->pages_off > file_len || block->len > file_len - block->pages_off)
		return no(ret_why, -EPROTO, "its pages do not lie in the file: it is truncated");
	return 0;
}

static int check_block(const struct gm_mapped_ram_block *block, const struct gm_mapram_spot *spot,
	const char **ret_why)
{
	if (!gm_is_pow2(block->page_size) || block->page_size < 4096 || block->page_size > PAGE_MAX)
		return no(ret_why, -EPROTO, "its pages are of no size that there is");
	if (!block->len || !gm_is_aligned(block->len, block->page_size))
		return no(ret_why, -EPROTO, "it is no number of pages");
	if (block->len > spot->left)
		return no(ret_why, -EPROTO, "it is more than there is of memory");
	if (block->len - 1 > UINT64_MAX - block->gpa)
		return no(ret_why, -EPROTO, "it wraps past 2^64");
	return 0;
}

int gm_mapram_get_block(const uint8_t *bytes, size_t len, const struct gm_mapram_front *front,
	const struct gm_mapram_spot *spot, struct gm_mapped_ram_block *ret, uint64_t *ret_next,
	const char **ret_why)
{
	struct cursor c = {.at = bytes, .left = len};
	uint64_t version;
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = read_name(&c, ret->name, ret_why);
	if (rc)
		return rc;
	ret->len = number(&c, 8);
	if (front->placed) {
		ret->gpa = number(&c, 8);
		ret->flags |= GM_MAPPED_RAM_PLACED;
	}
	ret->header_off = spot->at + (len - c.left);
	version = number(&c, 4);
	ret->page_size = number(&c, 8);
	ret->bitmap_off = number(&c, 8);
	ret->pages_off = number(&c, 8);
	if (c.cut)
		return cut(ret_why);
	if (version == GM_MAPRAM_UNFINISHED)
		ret->flags |= GM_MAPPED_RAM_UNFINISHED;
	else if (version != GM_MAPRAM_VERSION)
		return no(ret_why, -ENOTSUP, "another version of mapped-ram");
	rc = check_block(ret, spot, ret_why);
	if (rc)
		return rc;
	*ret_next = ret->header_off + HEADER;
	/* Nobody rewrites what is not here, so it is finished. */
	if (front->placed && version == GM_MAPRAM_VERSION && !ret->bitmap_off && !ret->pages_off) {
		ret->flags |= GM_MAPPED_RAM_ELSEWHERE;
		return 0;
	}
	rc = check_places(ret, *ret_next, spot->file_len, ret_why);
	*ret_next = ret->pages_off + ret->len;
	return rc;
}
