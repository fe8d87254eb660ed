/* SPDX-License-Identifier: BSD-3-Clause */
/* virtq_desc.c - descriptors: read once, checked in the copy; tables of them that lie elsewhere. */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include <errno.h>
#include <guestmem/access.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "adapters/virtq.h"
#include "core/bytes.h"
#include "core/error.h"

int gm_virtq_refuse(struct virtq_walk *walk, const char *fmt, ...)
{
	char text[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return gm_error_set(walk->err, -EPROTO, 0, 0, "queue: %s", text);
}

int gm_virtq_unreachable(struct virtq_walk *walk, int rc, const char *what, uint64_t gpa)
{
	return gm_error_set(walk->err, rc, gpa, VIRTQ_DESC_SIZE,
		"queue: the %s at 0x%" PRIx64 " cannot be reached: %s", what, gpa,
		gm_error_word(rc));
}

static void decode(const uint8_t *bytes, struct virtq_desc *ret, bool packed)
{
	*ret = (struct virtq_desc){
		.addr = gm_get_le(bytes, 8),
		.len = gm_get_le32(bytes + 8),
		.id = (uint16_t)gm_get_le(bytes + (packed ? 12 : 14), 2),
		.flags = (uint16_t)gm_get_le(bytes + (packed ? 14 : 12), 2),
	};
}

int gm_virtq_read_desc(struct virtq_walk *walk, uint32_t index, struct virtq_desc *ret)
{
	struct gm_virtq *vq = walk->vq;
	uint8_t bytes[VIRTQ_DESC_SIZE];
	uint64_t off = (uint64_t)index * VIRTQ_DESC_SIZE;
	int rc = gm_cache_read(&vq->desc, walk->view, off, bytes, sizeof(bytes), NULL);

	if (rc)
		return gm_virtq_unreachable(walk, rc, "descriptor", vq->o.desc + off);
	decode(bytes, ret, vq->o.flags & GM_VIRTQ_PACKED);
	return 0;
}

static int add(struct virtq_walk *walk, const struct virtq_desc *desc)
{
	if (walk->nr == walk->max)
		return gm_error_set(walk->err, -E2BIG, desc->addr, desc->len,
			"queue: a chain of more than %zu elements, for which there is room",
			walk->max);
	walk->elems[walk->nr++] = (struct gm_chain_elem){.gpa = desc->addr,
		.len = desc->len,
		.flags = desc->flags & VIRTQ_DESC_WRITE ? GM_CHAIN_WRITE : 0};
	return 0;
}

/* In a split queue entries are linked by their next; in a packed one all of them follow each other. */
static int walk_table(struct virtq_walk *walk, const struct virtq_desc *table, uint32_t index)
{
	const bool packed = walk->vq->o.flags & GM_VIRTQ_PACKED;
	const uint32_t nr = table->len / VIRTQ_DESC_SIZE;
	uint32_t at = 0;

	if (table->len == 0 || table->len % VIRTQ_DESC_SIZE || nr > GM_VIRTQ_NR_MAX)
		return gm_virtq_refuse(
			walk, "descriptor %u has a table of %u bytes", index, table->len);
	if (table->len - 1 > UINT64_MAX - table->addr)
		return gm_virtq_refuse(walk,
			"descriptor %u has a table at 0x%" PRIx64 " that wraps past 2^64", index,
			table->addr);
	for (uint32_t done = 0; done < nr; done++) {
		uint8_t bytes[VIRTQ_DESC_SIZE];
		uint64_t gpa = table->addr + (uint64_t)at * VIRTQ_DESC_SIZE;
		struct virtq_desc desc;
		int rc = gm_read(walk->view, gpa, bytes, sizeof(bytes), NULL);

		if (rc)
			return gm_virtq_unreachable(walk, rc, "table of descriptors", gpa);
		decode(bytes, &desc, packed);
		if (desc.flags & VIRTQ_DESC_INDIRECT)
			return gm_virtq_refuse(walk,
				"entry %u of the table of descriptor %u has a table", at, index);
		rc = add(walk, &desc);
		if (rc || (!packed && !(desc.flags & VIRTQ_DESC_NEXT)))
			return rc;
		at = packed ? at + 1 : desc.id;
		if (at >= nr && !packed)
			return gm_virtq_refuse(walk,
				"the table of descriptor %u has %u entries and leads to "
				"entry %u",
				index, nr, at);
	}
	return packed ? 0
		      : gm_virtq_refuse(
				walk, "the table of descriptor %u goes round in a circle", index);
}

int gm_virtq_walk_desc(struct virtq_walk *walk, const struct virtq_desc *desc, uint32_t index)
{
	if (!(desc->flags & VIRTQ_DESC_INDIRECT))
		return add(walk, desc);
	if (!(walk->vq->o.flags & GM_VIRTQ_INDIRECT))
		return gm_virtq_refuse(
			walk, "descriptor %u has a table, which was not negotiated", index);
	if (desc->flags & (VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE))
		return gm_virtq_refuse(
			walk, "descriptor %u has a table and flags 0x%x", index, desc->flags);
	return walk_table(walk, desc, index);
}
