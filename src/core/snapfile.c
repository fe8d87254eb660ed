/* SPDX-License-Identifier: BSD-3-Clause */
/* snapfile.c - see snapfile.h. */
#include "core/snapfile.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/bytes.h"
#include "core/range.h"

static const uint8_t magic[8] = {0x89, 'G', 'M', 'S', 'A', 'V', 'E', '\n'};

static int no(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

/* ---- header ---- */

void gm_snapfile_put_head(const struct gm_snapfile_head *head, uint8_t *bytes)
{
	memset(bytes, 0, GM_SNAPFILE_HEAD);
	memcpy(bytes, magic, sizeof(magic));
	gm_put_le(bytes + 8, 4, GM_SNAPFILE_VERSION);
	gm_put_le(bytes + 12, 4, GM_SNAPFILE_HEAD);
	memcpy(bytes + 16, head->identity, 16);
	memcpy(bytes + 32, head->base, 16);
	gm_put_le(bytes + 48, 8, head->len);
	gm_put_le(bytes + 56, 8, head->meta_off);
	gm_put_le(bytes + 64, 8, head->file_len);
	gm_put_le(bytes + 72, 8, head->meta_sum);
	gm_put_le(bytes + 80, 8, head->data);
	gm_put_le(bytes + 88, 8, head->lost);
	gm_put_le(bytes + 96, 4, head->nr_regions);
	gm_put_le(bytes + 100, 4, head->labels_len);
	gm_put_le(bytes + 104, 8, head->nr_chunks);
	gm_put_le(bytes + 112, 4, GM_SNAPFILE_PAGE);
	gm_put_le(bytes + 116, 4, GM_SNAPFILE_REGION);
	gm_put_le(bytes + 120, 4, GM_SNAPFILE_CHUNK);
}

void gm_snapfile_put_sum(uint8_t *bytes, uint64_t sum)
{
	gm_put_le(bytes + GM_SNAPFILE_HEAD_SUM, 8, sum);
}

uint64_t gm_snapfile_sum(const uint8_t *bytes)
{
	return gm_get_le(bytes + GM_SNAPFILE_HEAD_SUM, 8);
}

int gm_snapfile_look(const uint8_t *bytes, uint32_t *ret_version, const char **ret_why)
{
	if (memcmp(bytes, magic, sizeof(magic)) != 0)
		return no(ret_why, "no file of saved memory");
	*ret_version = gm_get_le32(bytes + 8);
	if (*ret_version == GM_SNAPFILE_VERSION)
		return 0;
	*ret_why = "another version";
	return -ENOTSUP;
}

static int check_head(const uint8_t *bytes, uint64_t file_len, const struct gm_snapfile_head *head,
	const char **ret_why)
{
	uint64_t room;

	if (gm_get_le32(bytes + 12) != GM_SNAPFILE_HEAD ||
		gm_get_le32(bytes + 112) != GM_SNAPFILE_PAGE ||
		gm_get_le32(bytes + 116) != GM_SNAPFILE_REGION ||
		gm_get_le32(bytes + 120) != GM_SNAPFILE_CHUNK)
		return no(ret_why, "sizes of records or of pages are not those of its version");
	if (!gm_bytes_are_zero(bytes + 124, GM_SNAPFILE_HEAD_SUM - 124))
		return no(ret_why, "reserved bytes of the header are not 0");
	if (head->file_len != file_len)
		return no(ret_why, file_len < head->file_len ? "it is truncated"
							     : "it is longer than it says");
	if (head->meta_off < GM_SNAPFILE_HEAD || head->meta_off > file_len)
		return no(ret_why, "its tables do not lie in it");
	if (head->len > (uint64_t)INT64_MAX || !gm_is_aligned(head->len, GM_SNAPFILE_PAGE))
		return no(ret_why, "its memory is no number of pages");
	if (head->nr_regions > GM_SNAPFILE_REGIONS_MAX ||
		head->labels_len > GM_SNAPFILE_LABELS_MAX ||
		head->nr_chunks > GM_SNAPFILE_META_MAX / GM_SNAPFILE_CHUNK)
		return no(ret_why, "its tables are too long");
	room = file_len - head->meta_off;
	if (gm_snapfile_meta_len(head) != room)
		return no(ret_why, "its tables do not end with it");
	if (head->data > head->len || head->lost > head->len - head->data)
		return no(ret_why, "it has more than its memory");
	return 0;
}

int gm_snapfile_get_head(
	const uint8_t *bytes, uint64_t file_len, struct gm_snapfile_head *ret, const char **ret_why)
{
	uint32_t version;
	int rc = gm_snapfile_look(bytes, &version, ret_why);

	if (rc)
		return rc;
	memcpy(ret->identity, bytes + 16, 16);
	memcpy(ret->base, bytes + 32, 16);
	ret->len = gm_get_le(bytes + 48, 8);
	ret->meta_off = gm_get_le(bytes + 56, 8);
	ret->file_len = gm_get_le(bytes + 64, 8);
	ret->meta_sum = gm_get_le(bytes + 72, 8);
	ret->data = gm_get_le(bytes + 80, 8);
	ret->lost = gm_get_le(bytes + 88, 8);
	ret->nr_regions = gm_get_le32(bytes + 96);
	ret->labels_len = gm_get_le32(bytes + 100);
	ret->nr_chunks = gm_get_le(bytes + 104, 8);
	return check_head(bytes, file_len, ret, ret_why);
}

/* ---- regions ---- */

void gm_snapfile_put_region(const struct gm_snapshot_region *region, uint8_t *bytes)
{
	memset(bytes, 0, GM_SNAPFILE_REGION);
	gm_put_le(bytes, 8, region->gpa);
	gm_put_le(bytes + 8, 8, region->len);
	gm_put_le(bytes + 16, 8, region->off);
	gm_put_le(bytes + 24, 4, region->page_size);
	gm_put_le(bytes + 28, 4, region->kind);
	memcpy(bytes + 32, region->name, strnlen(region->name, sizeof(region->name) - 1));
}

int gm_snapfile_get_region(const uint8_t *bytes, const struct gm_snapfile_head *head,
	const struct gm_snapshot_region *before, struct gm_snapshot_region *ret,
	const char **ret_why)
{
	size_t name;

	ret->gpa = gm_get_le(bytes, 8);
	ret->len = gm_get_le(bytes + 8, 8);
	ret->off = gm_get_le(bytes + 16, 8);
	ret->page_size = gm_get_le32(bytes + 24);
	ret->kind = gm_get_le32(bytes + 28);
	memcpy(ret->name, bytes + 32, sizeof(ret->name));
	name = strnlen(ret->name, sizeof(ret->name));
	if (name == sizeof(ret->name) ||
		!gm_bytes_are_zero(bytes + 32 + name, GM_SNAPFILE_REGION - 32 - name))
		return no(
			ret_why, "the name of a region does not end, or reserved bytes are not 0");
	if (ret->len == 0 || ret->off > head->len || ret->len > head->len - ret->off)
		return no(ret_why, "a region does not lie in the memory");
	if (ret->len - 1 > UINT64_MAX - ret->gpa || !gm_is_pow2(ret->page_size) ||
		ret->page_size < GM_SNAPFILE_PAGE)
		return no(ret_why, "a region wraps past 2^64, or has no size of pages");
	if (!gm_is_aligned(ret->gpa | ret->len | ret->off, GM_SNAPFILE_PAGE))
		return no(ret_why, "a region is not made of pages");
	/* Both in rising order: whoever goes through one goes through the other. */
	if (before && (ret->off < before->off || ret->off - before->off < before->len ||
			      ret->gpa < before->gpa || ret->gpa - before->gpa < before->len))
		return no(ret_why, "regions overlap or are not in order");
	return 0;
}

/* ---- chunks ---- */

void gm_snapfile_put_chunk(const struct gm_snapfile_chunk *chunk, uint8_t *bytes)
{
	memset(bytes, 0, GM_SNAPFILE_CHUNK);
	gm_put_le(bytes, 8, chunk->off);
	gm_put_le(bytes + 8, 8, chunk->file_off);
	gm_put_le(bytes + 16, 8, chunk->sum);
	gm_put_le(bytes + 24, 4, chunk->pages);
	gm_put_le(bytes + 28, 4, chunk->stored);
	gm_put_le(bytes + 32, 4, chunk->kind);
}

static bool stored_well(const struct gm_snapfile_head *head, const struct gm_snapfile_chunk *chunk)
{
	uint64_t len = gm_snapfile_chunk_len(chunk);

	if (chunk->kind == GM_SNAPFILE_ZERO || chunk->kind == GM_SNAPFILE_LOST)
		return chunk->stored == 0 && chunk->file_off == 0 && chunk->sum == 0;
	if (len > GM_SNAPFILE_CHUNK_MAX || chunk->stored == 0 ||
		chunk->file_off < GM_SNAPFILE_HEAD || chunk->file_off > head->meta_off ||
		chunk->stored > head->meta_off - chunk->file_off)
		return false;
	if (chunk->kind == GM_SNAPFILE_RAW)
		return chunk->stored == len && gm_is_aligned(chunk->file_off, GM_SNAPFILE_PAGE);
	return chunk->stored < len;
}

int gm_snapfile_get_chunk(const uint8_t *bytes, const struct gm_snapfile_head *head,
	const struct gm_snapfile_chunk *before, struct gm_snapfile_chunk *ret, const char **ret_why)
{
	uint64_t len;

	ret->off = gm_get_le(bytes, 8);
	ret->file_off = gm_get_le(bytes + 8, 8);
	ret->sum = gm_get_le(bytes + 16, 8);
	ret->pages = gm_get_le32(bytes + 24);
	ret->stored = gm_get_le32(bytes + 28);
	ret->kind = gm_get_le32(bytes + 32);
	if (ret->kind < GM_SNAPFILE_RAW || ret->kind > GM_SNAPFILE_LOST || gm_get_le32(bytes + 36))
		return no(ret_why, "a chunk is of no kind that its version has");
	len = gm_snapfile_chunk_len(ret);
	if (len == 0 || !gm_is_aligned(ret->off, GM_SNAPFILE_PAGE) || ret->off > head->len ||
		len > head->len - ret->off)
		return no(ret_why, "a chunk does not lie in the memory");
	if (before &&
		(ret->off < before->off || ret->off - before->off < gm_snapfile_chunk_len(before)))
		return no(ret_why, "chunks overlap or are not in order");
	if (!stored_well(head, ret))
		return no(ret_why, "a chunk does not lie in the file as its kind has to");
	return 0;
}

/* ---- labels ---- */

size_t gm_snapfile_label_len(const char *key, size_t len)
{
	size_t key_len = strnlen(key, 256);

	return key_len == 0 || key_len > 255 || len > 65535 ? 0 : 4 + key_len + 1 + len;
}

size_t gm_snapfile_put_label(const char *key, const void *value, size_t len, uint8_t *bytes)
{
	size_t key_len = strlen(key);

	gm_put_le(bytes, 4, (uint32_t)(key_len | len << 16));
	memcpy(bytes + 4, key, key_len + 1);
	if (len)
		memcpy(bytes + 4 + key_len + 1, value, len);
	return 4 + key_len + 1 + len;
}

size_t gm_snapfile_get_label(const uint8_t *bytes, size_t left, const char **ret_key,
	const uint8_t **ret_value, size_t *ret_len)
{
	size_t key_len;
	size_t len;

	if (left < 5)
		return 0;
	key_len = gm_get_le32(bytes) & 0xffff;
	len = gm_get_le32(bytes) >> 16;
	if (key_len == 0 || key_len > 255 || left - 5 < key_len || left - 5 - key_len < len)
		return 0;
	*ret_key = (const char *)bytes + 4;
	if (strnlen(*ret_key, key_len + 1) != key_len)
		return 0;
	*ret_value = bytes + 4 + key_len + 1;
	*ret_len = len;
	return 5 + key_len + len;
}
