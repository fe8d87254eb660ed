/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapfile.h - the records of a file of saved memory (docs/snapshot-format.md): bytes to structures and back.
 *
 * No I/O and no sums: whoever has read bytes checks their sum first, then decodes. Each field is bounded by the file's
 * length and by the other fields before anything uses it.
 */
#ifndef GM_CORE_SNAPFILE_H
#define GM_CORE_SNAPFILE_H

#include <guestmem/snapshot.h>
#include <stddef.h>
#include <stdint.h>

#define GM_SNAPFILE_VERSION 1u
#define GM_SNAPFILE_HEAD 4096u     /* bytes of the header, */
#define GM_SNAPFILE_HEAD_SUM 4088u /* the last eight of which are the sum of the others */
#define GM_SNAPFILE_REGION 80u
#define GM_SNAPFILE_CHUNK 40u
#define GM_SNAPFILE_PAGE 4096u
#define GM_SNAPFILE_CHUNK_MAX (4u << 20) /* bytes of memory in a chunk */
#define GM_SNAPFILE_REGIONS_MAX 65536u
#define GM_SNAPFILE_LABELS_MAX 65536u            /* bytes */
#define GM_SNAPFILE_META_MAX (UINT64_C(1) << 31) /* bytes of tables */

enum gm_snapfile_kind {
	GM_SNAPFILE_RAW = 1,
	GM_SNAPFILE_ZSTD,
	GM_SNAPFILE_LZ4,
	GM_SNAPFILE_ZERO, /* of a difference: zeros, whatever lies below */
	GM_SNAPFILE_LOST, /* could not be read when it was saved */
};

struct gm_snapfile_head {
	uint8_t identity[16];
	uint8_t base[16]; /* of a difference; zeros: it is whole */
	uint64_t len;     /* bytes of the source that was saved */
	uint64_t
		meta_off; /* regions, labels, chunks, one behind the other, to the end of the file */
	uint64_t file_len;
	uint64_t meta_sum;
	uint64_t data; /* bytes of memory in chunks */
	uint64_t lost; /* bytes */
	uint32_t nr_regions;
	uint32_t labels_len;
	uint64_t nr_chunks;
};

/* Pages of the source that lie together in the file. */
struct gm_snapfile_chunk {
	uint64_t off;      /* in the source */
	uint64_t file_off; /* 0 if nothing is stored */
	uint64_t sum;      /* XXH3 of the memory */
	uint32_t pages;
	uint32_t stored; /* bytes in the file */
	uint32_t kind;
};

/* Each: @bytes has room for one record, all of which is written. */
void gm_snapfile_put_head(const struct gm_snapfile_head *head, uint8_t *bytes);
void gm_snapfile_put_sum(uint8_t *bytes, uint64_t sum);
uint64_t gm_snapfile_sum(const uint8_t *bytes);
void gm_snapfile_put_region(const struct gm_snapshot_region *region, uint8_t *bytes);
void gm_snapfile_put_chunk(const struct gm_snapfile_chunk *chunk, uint8_t *bytes);
/* A label with its key and value; returns its bytes. */
size_t gm_snapfile_put_label(const char *key, const void *value, size_t len, uint8_t *bytes);
/* Bytes that a label takes, 0 if it is none: a key of 1 to 255 bytes, a value of at most 65535. */
size_t gm_snapfile_label_len(const char *key, size_t len);

/*
 * Decoding. 0, -EPROTO, or -ENOTSUP for what another version might have, with *ret_why a constant text. What comes in
 * order is compared with @before, NULL for the first.
 */
/* Is it one at all, of this version? */
int gm_snapfile_look(const uint8_t *bytes, uint32_t *ret_version, const char **ret_why);
int gm_snapfile_get_head(const uint8_t *bytes, uint64_t file_len, struct gm_snapfile_head *ret,
	const char **ret_why);
int gm_snapfile_get_region(const uint8_t *bytes, const struct gm_snapfile_head *head,
	const struct gm_snapshot_region *before, struct gm_snapshot_region *ret,
	const char **ret_why);
int gm_snapfile_get_chunk(const uint8_t *bytes, const struct gm_snapfile_head *head,
	const struct gm_snapfile_chunk *before, struct gm_snapfile_chunk *ret,
	const char **ret_why);
/* The label at @bytes, of which @left are there: its bytes, or 0. */
size_t gm_snapfile_get_label(const uint8_t *bytes, size_t left, const char **ret_key,
	const uint8_t **ret_value, size_t *ret_len);

static inline uint64_t gm_snapfile_chunk_len(const struct gm_snapfile_chunk *chunk)
{
	return (uint64_t)chunk->pages * GM_SNAPFILE_PAGE;
}

/* Bytes of all tables: no overflow with what get_head() has accepted. */
static inline uint64_t gm_snapfile_meta_len(const struct gm_snapfile_head *head)
{
	return (uint64_t)head->nr_regions * GM_SNAPFILE_REGION + head->labels_len +
	       head->nr_chunks * GM_SNAPFILE_CHUNK;
}

#endif
