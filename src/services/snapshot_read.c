/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_read.c - files of saved memory: tables are read and checked whole before anything is used, chunks when they
 * are read.
 */
#include "services/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "services/checksum.h"
#include "services/codec.h"
#include "sys/sys.h"
#include "sys/whole.h"

static int read_at(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done;

	return gm_pread_whole(fd, buf, len, off, &done);
}

/* ---- tables ---- */

static int refuse(struct gm_error *err, int rc, const char *why)
{
	return gm_error_set(err, rc, 0, 0, "saved memory: %s", why);
}

static int read_head(struct gm_snapshot *s, struct gm_error *err)
{
	uint8_t bytes[GM_SNAPFILE_HEAD];
	const char *why = NULL;
	uint32_t version;
	struct stat st;
	uint64_t sum;
	int rc = gm_sys_fstat(s->fd, &st);

	if (rc)
		return refuse(err, rc, gm_error_word(rc));
	if (!S_ISREG(st.st_mode))
		return refuse(err, -EPROTO, "it is no regular file");
	if (st.st_size < (off_t)sizeof(bytes))
		return refuse(
			err, -EPROTO, "it is shorter than a header: truncated, or no such file");
	rc = read_at(s->fd, bytes, sizeof(bytes), 0);
	if (rc)
		return refuse(err, rc, gm_error_word(rc));
	rc = gm_snapfile_look(bytes, &version, &why);
	if (rc == -ENOTSUP)
		return gm_error_set(err, rc, 0, 0,
			"saved memory: version %" PRIu32 ", and this library reads version %u",
			version, GM_SNAPFILE_VERSION);
	if (rc)
		return refuse(err, rc, why);
	if (!gm_checksum_bytes(bytes, GM_SNAPFILE_HEAD_SUM, &sum))
		return refuse(err, -ENOTSUP, "the library was built without xxHash");
	if (sum != gm_snapfile_sum(bytes))
		return refuse(err, -EBADMSG, "the sum of its header is wrong");
	rc = gm_snapfile_get_head(bytes, (uint64_t)st.st_size, &s->head, &why);
	return rc ? refuse(err, rc, why) : 0;
}

static int take_regions(struct gm_snapshot *s, struct gm_error *err)
{
	const struct gm_snapshot_region *before = NULL;
	const char *why;

	for (size_t i = 0; i < s->head.nr_regions; i++) {
		int rc = gm_snapfile_get_region(
			s->meta + i * GM_SNAPFILE_REGION, &s->head, before, &s->regions[i], &why);

		if (rc)
			return gm_error_set(err, rc, 0, 0, "saved memory: region %zu: %s", i, why);
		before = &s->regions[i];
	}
	return 0;
}

static const uint8_t *labels_of(const struct gm_snapshot *s)
{
	return s->meta + (size_t)s->head.nr_regions * GM_SNAPFILE_REGION;
}

static int take_labels(struct gm_snapshot *s, struct gm_error *err)
{
	const uint8_t *at = labels_of(s);
	size_t left = s->head.labels_len;

	while (left) {
		const uint8_t *value;
		const char *key;
		size_t len;
		size_t nr = gm_snapfile_get_label(at, left, &key, &value, &len);

		if (!nr)
			return refuse(err, -EPROTO, "a label does not end");
		s->nr_labels++;
		at += nr;
		left -= nr;
	}
	return 0;
}

/* Sums cannot overflow: chunks are disjoint parts of less than 2^63 bytes. */
static int take_chunks(struct gm_snapshot *s, struct gm_error *err)
{
	const uint8_t *at = labels_of(s) + s->head.labels_len;
	const struct gm_snapfile_chunk *before = NULL;
	uint64_t data = 0;
	uint64_t lost = 0;

	for (size_t i = 0; i < s->head.nr_chunks; i++) {
		struct gm_snapfile_chunk *chunk = &s->chunks[i];
		const char *why;
		int rc = gm_snapfile_get_chunk(
			at + i * GM_SNAPFILE_CHUNK, &s->head, before, chunk, &why);
		uint64_t len;

		if (rc)
			return gm_error_set(err, rc, 0, 0, "saved memory: chunk %zu: %s", i, why);
		before = chunk;
		len = gm_snapfile_chunk_len(chunk);
		s->packed[chunk->kind] = true;
		s->stored += chunk->stored;
		s->raw += chunk->kind == GM_SNAPFILE_RAW ? len : 0;
		lost += chunk->kind == GM_SNAPFILE_LOST ? len : 0;
		if (!chunk->stored)
			continue;
		data += len;
		s->longest = len > s->longest ? (uint32_t)len : s->longest;
		s->widest = chunk->stored > s->widest ? chunk->stored : s->widest;
	}
	if (data != s->head.data || lost != s->head.lost)
		return refuse(
			err, -EPROTO, "it says that it has more or less than its chunks have");
	return 0;
}

static int read_tables(struct gm_snapshot *s, struct gm_error *err)
{
	uint64_t len = gm_snapfile_meta_len(&s->head);
	uint64_t sum;
	int rc;

	/* One more, as nothing is no allocation. */
	s->meta = gm_sys_alloc(len + 1);
	s->regions = gm_sys_alloc_array((size_t)s->head.nr_regions + 1, sizeof(*s->regions));
	s->chunks = gm_sys_alloc_array(s->head.nr_chunks + 1, sizeof(*s->chunks));
	if (!s->meta || !s->regions || !s->chunks)
		return refuse(err, -ENOMEM, "no memory for its tables");
	rc = read_at(s->fd, s->meta, len, s->head.meta_off);
	if (rc)
		return refuse(err, rc, gm_error_word(rc));
	gm_checksum_bytes(s->meta, len, &sum);
	if (sum != s->head.meta_sum)
		return refuse(err, -EBADMSG, "the sum of its tables is wrong");
	rc = take_regions(s, err);
	if (!rc)
		rc = take_labels(s, err);
	return rc ? rc : take_chunks(s, err);
}

int gm_snapshot_open(int fd, struct gm_snapshot **ret_snapshot, struct gm_error *err)
{
	struct gm_snapshot *s = gm_sys_alloc(sizeof(*s));
	int rc;

	if (!s)
		return refuse(err, -ENOMEM, "no memory");
	s->refs = 1;
	s->fd = gm_sys_dup(fd);
	if (s->fd < 0) {
		rc = refuse(err, s->fd, gm_error_word(s->fd));
		gm_sys_free(s);
		return rc;
	}
	rc = read_head(s, err);
	if (!rc)
		rc = read_tables(s, err);
	if (rc)
		gm_snapshot_close(s);
	else
		*ret_snapshot = s;
	return rc;
}

struct gm_snapshot *gm_snapshot_get(struct gm_snapshot *snapshot)
{
	__atomic_fetch_add(&snapshot->refs, 1, __ATOMIC_RELAXED);
	return snapshot;
}

void gm_snapshot_close(struct gm_snapshot *snapshot)
{
	/* Pairs with those of others: what they did with it has been done. */
	if (!snapshot || __atomic_sub_fetch(&snapshot->refs, 1, __ATOMIC_ACQ_REL))
		return;
	gm_sys_close(snapshot->fd);
	gm_sys_free(snapshot->meta);
	gm_sys_free(snapshot->regions);
	gm_sys_free(snapshot->chunks);
	gm_sys_free(snapshot);
}

/* ---- what it is ---- */

int gm_snapshot_info(const struct gm_snapshot *snapshot, struct gm_snapshot_info *ret_info)
{
	const struct gm_snapfile_head *head = &snapshot->head;
	size_t size = ret_info->size;

	if (size < sizeof(*ret_info))
		return -EINVAL;
	*ret_info = (struct gm_snapshot_info){
		.size = size,
		.len = head->len,
		.regions = head->nr_regions,
		.labels = snapshot->nr_labels,
		.chunks = head->nr_chunks,
		.data = head->data,
		.stored = snapshot->stored,
		.raw = snapshot->raw,
		.lost = head->lost,
		.file_len = head->file_len,
	};
	memcpy(ret_info->identity, head->identity, 16);
	memcpy(ret_info->base, head->base, 16);
	return 0;
}

const struct gm_snapshot_region *gm_snapshot_regions(
	const struct gm_snapshot *snapshot, size_t *ret_nr)
{
	*ret_nr = snapshot->head.nr_regions;
	return snapshot->regions;
}

int gm_snapshot_label(
	const struct gm_snapshot *snapshot, size_t index, struct gm_snapshot_label *ret_label)
{
	const uint8_t *at = labels_of(snapshot);
	size_t left = snapshot->head.labels_len;

	for (size_t i = 0; left; i++) {
		const uint8_t *value;
		const char *key;
		size_t len;
		size_t nr = gm_snapfile_get_label(at, left, &key, &value, &len);

		if (i == index) {
			*ret_label = (struct gm_snapshot_label){key, value, len};
			return 0;
		}
		at += nr;
		left -= nr;
	}
	return -ENOENT;
}

size_t gm_snapshot_find(const struct gm_snapshot *snapshot, uint64_t off)
{
	size_t low = 0;
	size_t high = snapshot->head.nr_chunks;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct gm_snapfile_chunk *chunk = &snapshot->chunks[mid];

		if (chunk->off > off || off - chunk->off < gm_snapfile_chunk_len(chunk))
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* ---- chunks ---- */

struct gm_desk *gm_desk_create(struct gm_snapshot *const *snapshots, size_t nr)
{
	struct gm_desk *desk = gm_sys_alloc(sizeof(*desk));
	size_t longest = 1;
	size_t widest = 1;
	bool zstd = false;

	if (!desk)
		return NULL;
	for (size_t i = 0; i < nr; i++) {
		longest = snapshots[i]->longest > longest ? snapshots[i]->longest : longest;
		widest = snapshots[i]->widest > widest ? snapshots[i]->widest : widest;
		zstd |= snapshots[i]->packed[GM_SNAPFILE_ZSTD];
	}
	desk->memory = gm_sys_alloc(longest);
	desk->stored = gm_sys_alloc(widest);
	desk->zstd = zstd ? gm_codec_decoder(GM_SNAPFILE_ZSTD) : NULL;
	if (desk->memory && desk->stored && (desk->zstd || !zstd))
		return desk;
	gm_desk_destroy(desk);
	return NULL;
}

void gm_desk_destroy(struct gm_desk *desk)
{
	if (!desk)
		return;
	gm_codec_decoder_free(GM_SNAPFILE_ZSTD, desk->zstd);
	gm_sys_free(desk->memory);
	gm_sys_free(desk->stored);
	gm_sys_free(desk);
}

static int load(struct gm_desk *desk, const struct gm_snapshot *s,
	const struct gm_snapfile_chunk *chunk, void *to)
{
	size_t len = gm_snapfile_chunk_len(chunk);
	uint64_t sum;
	int rc;

	if (chunk->kind == GM_SNAPFILE_RAW) {
		rc = read_at(s->fd, to, len, chunk->file_off);
	} else {
		rc = read_at(s->fd, desk->stored, chunk->stored, chunk->file_off);
		if (!rc && !gm_codec_unpack(
				   chunk->kind, desk->zstd, desk->stored, chunk->stored, to, len))
			rc = -EBADMSG;
	}
	if (rc)
		return rc;
	gm_checksum_bytes(to, len, &sum);
	return sum == chunk->sum ? 0 : -EBADMSG;
}

int gm_desk_load(struct gm_desk *desk, const struct gm_snapshot *snapshot, size_t index, void *to,
	struct gm_error *err)
{
	const struct gm_snapfile_chunk *chunk = &snapshot->chunks[index];
	int rc;

	if (!to && desk->snapshot == snapshot && desk->index == index)
		return 0;
	if (!to)
		desk->snapshot = NULL;
	rc = load(desk, snapshot, chunk, to ? to : desk->memory);
	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"saved memory: chunk %zu, 0x%" PRIx64 " bytes of memory at 0x%" PRIx64
			", 0x%" PRIx32 " of the file at 0x%" PRIx64 ": %s",
			index, gm_snapfile_chunk_len(chunk), chunk->off, chunk->stored,
			chunk->file_off,
			rc == -EBADMSG   ? "its sum is wrong"
			: rc == -ENODATA ? "the file has become shorter"
					 : gm_error_word(rc));
	if (!to) {
		desk->snapshot = snapshot;
		desk->index = index;
	}
	return 0;
}
