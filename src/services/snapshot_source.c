/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_source.c - files of saved memory as a source: for each offset the topmost that has it.
 *
 * Each thread that reads takes a desk (buffers, the chunk that it read last) and puts it back; a new one is made only
 * when more threads read at once than ever before.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "core/error.h"
#include "services/codec.h"
#include "services/snapshot.h"
#include "sys/sys.h"

#define LAYERS_MAX 64u
#define STEP (UINT64_C(16) << 20)

struct saved {
	uint32_t flags;
	bool whole; /* the lowest is no difference: what nobody has is zeros */
	pthread_mutex_t lock;
	struct gm_desk *free;
	size_t nr;
	struct gm_snapshot *layers[];
};

/* What lies at an offset: a chunk of a layer, or nothing. */
struct spot {
	const struct gm_snapshot *layer;
	const struct gm_snapfile_chunk *chunk;
	size_t index;
	uint64_t len;
};

static struct spot find(const struct saved *saved, uint64_t off)
{
	struct spot spot = {.len = saved->layers[0]->head.len - off};

	for (size_t i = saved->nr; i-- > 0;) {
		const struct gm_snapshot *layer = saved->layers[i];
		size_t index = gm_snapshot_find(layer, off);
		const struct gm_snapfile_chunk *chunk = &layer->chunks[index];
		uint64_t len;

		if (index == layer->head.nr_chunks)
			continue;
		if (chunk->off > off) {
			len = chunk->off - off;
			spot.len = len < spot.len ? len : spot.len;
			continue;
		}
		len = gm_snapfile_chunk_len(chunk) - (off - chunk->off);
		spot.len = len < spot.len ? len : spot.len;
		spot.layer = layer;
		spot.chunk = chunk;
		spot.index = index;
		break;
	}
	return spot;
}

/* ---- extents ---- */

static uint32_t kind_of(const struct saved *saved, const struct spot *spot)
{
	if (!spot->chunk)
		return saved->whole ? GM_SOURCE_ZERO : GM_SOURCE_ABSENT;
	if (spot->chunk->kind == GM_SNAPFILE_ZERO)
		return GM_SOURCE_ZERO;
	if (spot->chunk->kind == GM_SNAPFILE_RAW && (saved->flags & GM_SNAPSHOT_TRUST))
		return GM_SOURCE_RAW;
	return GM_SOURCE_CHUNK;
}

static uint64_t file_off(const struct spot *spot, uint64_t off)
{
	return spot->chunk->file_off + (off - spot->chunk->off);
}

static int saved_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	const struct saved *saved = ctx;
	struct spot spot = find(saved, offset);
	uint64_t end = saved->layers[0]->head.len;

	extent->kind = kind_of(saved, &spot);
	extent->len = spot.len;
	if (extent->kind != GM_SOURCE_RAW)
		return 0;
	extent->fd = spot.layer->fd;
	extent->fd_off = file_off(&spot, offset);
	/* Neighbours that lie together in the same file are one. */
	while (extent->len < end - offset) {
		uint64_t at = offset + extent->len;
		struct spot next = find(saved, at);

		if (next.layer != spot.layer || kind_of(saved, &next) != GM_SOURCE_RAW ||
			file_off(&next, at) != extent->fd_off + extent->len)
			break;
		extent->len += next.len;
	}
	return 0;
}

/* ---- reading ---- */

static struct gm_desk *take_desk(struct saved *saved)
{
	struct gm_desk *desk;

	pthread_mutex_lock(&saved->lock);
	desk = saved->free;
	if (desk)
		saved->free = desk->next;
	pthread_mutex_unlock(&saved->lock);
	return desk ? desk : gm_desk_create(saved->layers, saved->nr);
}

static void put_desk(struct saved *saved, struct gm_desk *desk)
{
	pthread_mutex_lock(&saved->lock);
	desk->next = saved->free;
	saved->free = desk;
	pthread_mutex_unlock(&saved->lock);
}

static int read_spot(const struct saved *saved, struct gm_desk *desk, const struct spot *spot,
	uint64_t off, void *to, size_t len, struct gm_error *err)
{
	int rc;

	if (!spot->chunk && !saved->whole)
		return gm_error_set(err, -ENODATA, 0, 0,
			"saved memory: 0x%" PRIx64
			" is not in this difference, but in what it lies on",
			off);
	if (!spot->chunk || spot->chunk->kind == GM_SNAPFILE_ZERO) {
		memset(to, 0, len);
		return 0;
	}
	if (spot->chunk->kind == GM_SNAPFILE_LOST)
		return gm_error_set(err, -EHWPOISON, 0, 0,
			"saved memory: 0x%" PRIx64 " could not be read when it was saved", off);
	if (off == spot->chunk->off && len == gm_snapfile_chunk_len(spot->chunk))
		return gm_desk_load(desk, spot->layer, spot->index, to, err);
	rc = gm_desk_load(desk, spot->layer, spot->index, NULL, err);
	if (!rc)
		memcpy(to, desk->memory + (off - spot->chunk->off), len);
	return rc;
}

static int saved_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	struct saved *saved = ctx;
	struct gm_desk *desk = take_desk(saved);
	size_t done = 0;
	int rc = 0;

	if (!desk)
		return gm_error_set(err, -ENOMEM, 0, 0,
			"saved memory: no memory for another thread that reads");
	while (done < len && !rc) {
		struct spot spot = find(saved, offset + done);
		size_t nr = spot.len < len - done ? spot.len : len - done;

		rc = read_spot(saved, desk, &spot, offset + done, (uint8_t *)buf + done, nr, err);
		done += nr;
	}
	put_desk(saved, desk);
	return rc;
}

static void saved_destroy(void *ctx)
{
	struct saved *saved = ctx;

	while (saved->free) {
		struct gm_desk *desk = saved->free;

		saved->free = desk->next;
		gm_desk_destroy(desk);
	}
	for (size_t i = 0; i < saved->nr; i++)
		gm_snapshot_close(saved->layers[i]);
	pthread_mutex_destroy(&saved->lock);
	gm_sys_free(saved);
}

/* ---- making one ---- */

static int check_codecs(const struct gm_snapshot *snapshot, struct gm_error *err)
{
	for (uint32_t kind = GM_SNAPFILE_RAW; kind <= GM_SNAPFILE_LZ4; kind++) {
		if (snapshot->packed[kind] && !gm_codec_has(kind))
			return gm_error_set(err, -ENOTSUP, 0, 0,
				"saved memory: it has chunks of %s, and the library was built "
				"without that",
				gm_codec_name(kind));
	}
	return 0;
}

static int check_layers(struct gm_snapshot *const *snapshots, size_t nr, struct gm_error *err)
{
	for (size_t i = 0; i < nr; i++) {
		const struct gm_snapfile_head *head = &snapshots[i]->head;
		int rc = check_codecs(snapshots[i], err);

		if (rc)
			return rc;
		if (i && memcmp(head->base, snapshots[i - 1]->head.identity, 16) != 0)
			return gm_error_set(err, -ESTALE, 0, 0,
				"saved memory: file %zu of %zu is no difference from the one in "
				"front of it",
				i + 1, nr);
		if (i && head->len != snapshots[0]->head.len)
			return gm_error_set(err, -ESTALE, 0, 0,
				"saved memory: file %zu of %zu has 0x%" PRIx64
				" bytes, and the first one 0x%" PRIx64,
				i + 1, nr, head->len, snapshots[0]->head.len);
	}
	return 0;
}

int gm_snapshot_source(struct gm_snapshot *const *snapshots, size_t nr, uint32_t flags,
	struct gm_source **ret_source, struct gm_error *err)
{
	static const uint8_t none[16];
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "saved memory",
		.extent = saved_extent,
		.read = saved_read,
		.destroy = saved_destroy,
	};
	struct saved *saved;
	int rc;

	if (nr == 0 || nr > LAYERS_MAX || (flags & ~GM_SNAPSHOT_TRUST))
		return gm_error_set(err, -EINVAL, 0, 0,
			"saved memory: %zu files, or flags 0x%" PRIx32, nr, flags);
	rc = check_layers(snapshots, nr, err);
	if (rc)
		return rc;
	saved = gm_sys_alloc(sizeof(*saved) + nr * sizeof(saved->layers[0]));
	if (!saved)
		return gm_error_set(err, -ENOMEM, 0, 0, "saved memory: no memory for a source");
	pthread_mutex_init(&saved->lock, NULL);
	saved->flags = flags;
	saved->whole = !memcmp(snapshots[0]->head.base, none, 16);
	for (size_t i = 0; i < nr; i++)
		saved->layers[saved->nr++] = gm_snapshot_get(snapshots[i]);
	ops.len = saved->layers[0]->head.len;
	ops.ctx = saved;
	saved->free = gm_desk_create(saved->layers, nr);
	rc = saved->free ? gm_source_create(&ops, ret_source, err)
			 : gm_error_set(err, -ENOMEM, 0, 0, "saved memory: no memory for buffers");
	if (rc)
		saved_destroy(saved);
	return rc;
}

/* ---- all of a file ---- */

int gm_snapshot_verify(struct gm_snapshot *snapshot,
	int (*bad)(void *ctx, uint64_t offset, uint64_t len, int code),
	int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, struct gm_error *err)
{
	struct gm_desk *desk;
	uint64_t done = 0;
	uint64_t told = 0;
	bool wrong = false;
	int rc = check_codecs(snapshot, err);

	if (rc)
		return rc;
	desk = gm_desk_create(&snapshot, 1);
	if (!desk)
		return gm_error_set(err, -ENOMEM, 0, 0, "saved memory: no memory for buffers");
	for (size_t i = 0; i < snapshot->head.nr_chunks && !rc; i++) {
		const struct gm_snapfile_chunk *chunk = &snapshot->chunks[i];
		uint64_t len = gm_snapfile_chunk_len(chunk);

		if (!chunk->stored)
			continue;
		rc = gm_desk_load(desk, snapshot, i, NULL, wrong ? NULL : err);
		if (rc == -EBADMSG || rc == -ENODATA || rc == -EIO) {
			wrong = true;
			rc = bad && bad(ctx, chunk->off, len, rc) ? -ECANCELED : 0;
		}
		done += len;
		if (rc || !progress || (done - told < STEP && done != snapshot->head.data))
			continue;
		told = done;
		if (progress(ctx, done, snapshot->head.data))
			rc = -ECANCELED;
	}
	gm_desk_destroy(desk);
	if (rc == -ECANCELED)
		return gm_error_set(err, rc, 0, 0, "saved memory: canceled");
	if (!rc && wrong && err)
		err->code = -EBADMSG;
	return rc ? rc : wrong ? -EBADMSG : 0;
}

int gm_snapshot_merge(struct gm_snapshot *const *snapshots, size_t nr, const char *path,
	const struct gm_snapshot_opts *user, struct gm_snapshot_info *ret_info,
	struct gm_error *err)
{
	struct gm_snapshot_opts opts = {.size = sizeof(opts)};
	struct gm_snapshot_label *labels = NULL;
	const struct gm_snapshot *top;
	struct gm_source *source;
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "merging saved memory");
	if (opts.dirty)
		return gm_error_set(err, -EINVAL, 0, 0, "merging saved memory: it takes no pages");
	rc = gm_snapshot_source(snapshots, nr, 0, &source, err);
	if (rc)
		return rc;
	top = snapshots[nr - 1];
	memcpy(opts.base, snapshots[0]->head.base, 16);
	if (!opts.nr_labels && top->nr_labels) {
		labels = gm_sys_alloc_array(top->nr_labels, sizeof(*labels));
		for (size_t i = 0; labels && i < top->nr_labels; i++)
			gm_snapshot_label(top, i, &labels[i]);
		opts.labels = labels;
		opts.nr_labels = top->nr_labels;
	}
	rc = !labels && opts.labels == NULL && opts.nr_labels
		     ? gm_error_set(
			       err, -ENOMEM, 0, 0, "merging saved memory: no memory for labels")
		     : gm_snapshot_write(source, top->regions, top->head.nr_regions, path, &opts,
			       ret_info, err);
	gm_sys_free(labels);
	gm_source_destroy(source);
	return rc;
}
