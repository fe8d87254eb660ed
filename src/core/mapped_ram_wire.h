/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mapped_ram_wire.h - the front of a migration stream of QEMU with "mapped-ram" and its RAM blocks
 * (docs/mapped-ram.md): bytes to structures.
 *
 * No I/O. Each field is bounded by the file's length and by the other fields before anything uses it.
 */
#ifndef GM_CORE_MAPPED_RAM_WIRE_H
#define GM_CORE_MAPPED_RAM_WIRE_H

#include <guestmem/mapped_ram.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_MAPRAM_FRONT_MAX 4096u /* bytes at the beginning of a file that are looked at */
#define GM_MAPRAM_BLOCK_MAX (1u + 255u + 8u + 8u + 28u) /* bytes of a block's records */
#define GM_MAPRAM_BLOCKS_MAX 1024u
#define GM_MAPRAM_BITMAPS_MAX (UINT64_C(1) << 30) /* bytes of all bitmaps */
#define GM_MAPRAM_VERSION 1u
#define GM_MAPRAM_UNFINISHED                                                                       \
	0x80000001u /* as version: it is being rewritten; no version QEMU knows */

struct gm_mapram_front {
	uint64_t end;   /* where the first block begins */
	uint64_t total; /* bytes of all blocks */
	bool placed;    /* blocks tell their addresses */
};

/* Is it a migration stream at all? Of at least 4 bytes. */
bool gm_mapram_look(const uint8_t *bytes);

/*
 * 0, -EPROTO, or -ENOTSUP for what another version might have, with *ret_why a constant text. @len bytes are there of
 * the file, the first at @bytes.
 */
int gm_mapram_get_front(
	const uint8_t *bytes, size_t len, struct gm_mapram_front *ret, const char **ret_why);

/*
 * The block whose records begin at byte @at of the file, of which @len bytes are at @bytes. @left bytes of memory
 * are in this block and those behind it. All of @ret is filled in but off and present.
 */
struct gm_mapram_spot {
	uint64_t at;
	uint64_t left;
	uint64_t file_len;
};
int gm_mapram_get_block(const uint8_t *bytes, size_t len, const struct gm_mapram_front *front,
	const struct gm_mapram_spot *spot, struct gm_mapped_ram_block *ret, uint64_t *ret_next,
	const char **ret_why);

/* Bytes of a bitmap: whole words of 64 bits. */
static inline uint64_t gm_mapram_bitmap_len(const struct gm_mapped_ram_block *block)
{
	uint64_t pages = block->len / block->page_size;

	return (pages / 64 + (pages % 64 != 0)) * 8;
}

#endif
