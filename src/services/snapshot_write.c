/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_write.c - a source becomes a file.
 *
 *   region → extents → pieces of one chunk, read to where they would be written → runs of pages that are not zero
 *                                                        → packed, or as they are, one behind the other → pwrite
 *
 * A piece is read to the place in the output where it would stand as it is: incompressible memory is moved once. A run
 * never moves up, since what comes before it takes at most its own bytes. Compression that did not pay is not tried
 * for the next runs, twice as many each time.
 */
#include <guestmem/snapshot.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/range.h"
#include "core/snapfile.h"
#include "core/sort.h"
#include "services/checksum.h"
#include "services/codec.h"
#include "services/newfile.h"
#include "services/snapshot.h"
#include "sys/sys.h"

#define PAGE UINT64_C(4096)
#define OUT (UINT64_C(1) << 20)
#define BEHIND (UINT64_C(8) << 20)
#define TELL (UINT64_C(16) << 20)
#define BACKOFF_MAX 15u

enum state { ZERO, DATA, LOST };

struct writer {
	struct gm_source *source;
	const struct gm_snapshot_region *regions;
	size_t nr;
	struct gm_snapshot_opts opts;
	const struct gm_snapshot_first *first; /* or NULL */
	struct gm_error *err;
	struct gm_newfile file;
	struct gm_snapfile_head head;
	bool difference;
	/* output: @fill bytes of @buf from byte @at of the file */
	uint8_t *buf;
	size_t fill;
	uint64_t at;
	uint64_t begun; /* up to there the disk has been told to write */
	bool looked;    /* whether it goes past the page cache */
	/* packing */
	uint32_t kind;
	void *encoder;
	uint8_t *packed;
	uint32_t backoff;
	uint32_t skip;
	/* tables */
	uint8_t *meta;
	size_t meta_len;
	size_t meta_cap;
	size_t chunks_at; /* of the first */
	bool unordered;
	struct gm_snapfile_chunk last;
	struct gm_snapshot_info sum;
	/* progress */
	uint64_t done;
	uint64_t told;
	uint64_t total;
	int checked_fd; /* is not the target */
};

/* ---- tables ---- */

static int need(struct writer *w, size_t len)
{
	size_t cap = w->meta_cap;
	uint8_t *meta;

	while (cap - w->meta_len < len)
		cap = cap ? 2 * cap : 65536;
	if (cap == w->meta_cap)
		return 0;
	if (cap > GM_SNAPFILE_META_MAX)
		return gm_error_set(w->err, -EFBIG, 0, 0,
			"%s: its tables are too long: choose larger chunks", w->file.path);
	meta = gm_sys_realloc(w->meta, cap, 1);
	if (!meta)
		return gm_error_set(
			w->err, -ENOMEM, 0, 0, "%s: no memory for its tables", w->file.path);
	w->meta = meta;
	w->meta_cap = cap;
	return 0;
}

static int add_chunk(struct writer *w, const struct gm_snapfile_chunk *chunk)
{
	int rc = need(w, GM_SNAPFILE_CHUNK);

	if (rc)
		return rc;
	gm_snapfile_put_chunk(chunk, w->meta + w->meta_len);
	w->meta_len += GM_SNAPFILE_CHUNK;
	w->unordered |= w->head.nr_chunks && chunk->off < w->last.off;
	w->head.nr_chunks++;
	w->last = *chunk;
	return 0;
}

/* Zeros of a difference, or what is lost: nothing is stored. */
static int add_empty(struct writer *w, uint32_t kind, uint64_t off, uint64_t len)
{
	uint64_t pages = len / PAGE;
	struct gm_snapfile_chunk *last = &w->last;
	int rc = 0;

	if (kind == GM_SNAPFILE_LOST)
		w->head.lost += len;
	if (w->head.nr_chunks && last->kind == kind &&
		off - last->off == gm_snapfile_chunk_len(last) &&
		pages <= UINT32_MAX - last->pages) {
		last->pages += (uint32_t)pages;
		gm_snapfile_put_chunk(last, w->meta + w->meta_len - GM_SNAPFILE_CHUNK);
		return 0;
	}
	while (pages && !rc) {
		uint32_t nr = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;

		rc = add_chunk(
			w, &(struct gm_snapfile_chunk){.off = off, .pages = nr, .kind = kind});
		pages -= nr;
		off += nr * PAGE;
	}
	return rc;
}

static int add_tables(struct writer *w)
{
	size_t labels = 0;
	int rc;

	for (size_t i = 0; i < w->opts.nr_labels; i++)
		labels += gm_snapfile_label_len(w->opts.labels[i].key, w->opts.labels[i].len);
	rc = need(w, w->nr * GM_SNAPFILE_REGION + labels);
	if (rc)
		return rc;
	for (size_t i = 0; i < w->nr; i++) {
		gm_snapfile_put_region(&w->regions[i], w->meta + w->meta_len);
		w->meta_len += GM_SNAPFILE_REGION;
	}
	for (size_t i = 0; i < w->opts.nr_labels; i++) {
		const struct gm_snapshot_label *label = &w->opts.labels[i];

		w->meta_len += gm_snapfile_put_label(
			label->key, label->value, label->len, w->meta + w->meta_len);
	}
	w->head.nr_regions = (uint32_t)w->nr;
	w->head.labels_len = (uint32_t)labels;
	return 0;
}

/* ---- chunks ---- */

/* Whole pages; what is behind them stays at the front of the buffer. */
static int flush(struct writer *w)
{
	size_t len = (size_t)gm_align_down(w->fill, PAGE);
	int rc;

	if (len >= OUT && !w->looked && !(w->opts.flags & GM_SNAPSHOT_CACHED))
		gm_newfile_direct(&w->file);
	w->looked = true;
	rc = gm_newfile_write(&w->file, w->buf, len, w->at, w->err);
	memmove(w->buf, w->buf + len, w->fill - len);
	w->at += len;
	w->fill -= len;
	/* Disk and processor work at the same time; what becomes of it fsync tells. */
	if (!rc && !w->file.direct && w->at - w->begun >= BEHIND) {
		gm_sys_write_behind(w->file.fd, w->begun, w->at - w->begun);
		w->begun = w->at;
	}
	return rc;
}

/* Bytes in front of the next page of the file. */
static size_t padding(const struct writer *w)
{
	return (size_t)((PAGE - (w->at + w->fill) % PAGE) % PAGE);
}

static size_t pack(struct writer *w, const uint8_t *bytes, size_t len)
{
	size_t nr;

	if (w->kind == GM_SNAPFILE_RAW)
		return 0;
	if (w->skip) {
		w->skip--;
		return 0;
	}
	nr = gm_codec_pack(
		w->kind, w->encoder, w->opts.level, bytes, len, w->packed, len - len / 8);
	w->backoff = nr ? 0 : w->backoff < BACKOFF_MAX ? 2 * w->backoff + 1 : BACKOFF_MAX;
	w->skip = w->backoff;
	return nr;
}

static int add_data(struct writer *w, uint64_t off, const uint8_t *bytes, size_t len)
{
	struct gm_snapfile_chunk chunk = {.off = off, .pages = (uint32_t)(len / PAGE)};
	size_t pad = padding(w);
	size_t nr;

	gm_checksum_bytes(bytes, len, &chunk.sum);
	nr = pack(w, bytes, len);
	if (nr) {
		memcpy(w->buf + w->fill, w->packed, nr);
		chunk.kind = w->kind;
	} else {
		memmove(w->buf + w->fill + pad, bytes, len);
		memset(w->buf + w->fill, 0, pad);
		w->fill += pad;
		nr = len;
		chunk.kind = GM_SNAPFILE_RAW;
		w->sum.raw += len;
	}
	chunk.stored = (uint32_t)nr;
	chunk.file_off = w->at + w->fill;
	w->fill += nr;
	w->head.data += len;
	w->sum.stored += nr;
	return add_chunk(w, &chunk);
}

static int add_run(
	struct writer *w, enum state state, uint64_t off, const uint8_t *bytes, size_t len)
{
	if (state == DATA)
		return add_data(w, off, bytes, len);
	if (state == LOST)
		return add_empty(w, GM_SNAPFILE_LOST, off, len);
	return w->difference ? add_empty(w, GM_SNAPFILE_ZERO, off, len) : 0;
}

/* ---- reading ---- */

static bool is_loss(const struct writer *w, int rc)
{
	return rc == -EHWPOISON ||
	       ((w->opts.flags & GM_SNAPSHOT_LOST) && (rc == -EIO || rc == -EBADMSG));
}

/* Its text is the caller's if it is no loss. */
static int read_some(struct writer *w, uint64_t off, uint8_t *to, size_t len)
{
	struct gm_error inner;
	int rc = gm_source_read(w->source, off, to, len, &inner);

	return !rc || is_loss(w, rc) ? rc : gm_error_pass(w->err, &inner, rc);
}

/* What each page is, one by one as all of them could not be read. */
static int read_pages(struct writer *w, uint64_t off, uint8_t *to, size_t nr, uint8_t *states)
{
	for (size_t i = 0; i < nr; i++) {
		int rc = read_some(w, off + i * PAGE, to + i * PAGE, PAGE);

		if (rc && !is_loss(w, rc))
			return rc;
		states[i] = rc ? LOST : gm_bytes_are_zero(to + i * PAGE, PAGE) ? ZERO : DATA;
	}
	return 0;
}

static int read_piece(struct writer *w, uint64_t off, uint8_t *to, size_t len, uint8_t *states)
{
	int rc = read_some(w, off, to, len);

	if (rc && is_loss(w, rc))
		return read_pages(w, off, to, len / PAGE, states);
	for (size_t i = 0; i < len / PAGE && !rc; i++)
		states[i] = gm_bytes_are_zero(to + i * PAGE, PAGE) ? ZERO : DATA;
	return rc;
}

static int take_piece(struct writer *w, uint64_t off, size_t len)
{
	uint8_t states[GM_SNAPFILE_CHUNK_MAX / PAGE];
	uint8_t *to = w->buf + w->fill + padding(w);
	int rc = read_piece(w, off, to, len, states);

	for (size_t i = 0, nr = len / PAGE, end; i < nr && !rc; i = end) {
		for (end = i + 1; end < nr && states[end] == states[i]; end++)
			;
		rc = add_run(w, states[i], off + i * PAGE, to + i * PAGE, (end - i) * PAGE);
	}
	if (!rc && w->fill >= OUT)
		rc = flush(w);
	return rc;
}

static int tell(struct writer *w, uint64_t more)
{
	w->done += more;
	if (!w->opts.progress || (w->done - w->told < TELL && w->done != w->total))
		return 0;
	w->told = w->done;
	if (w->opts.progress(w->opts.ctx, w->done, w->total))
		return gm_error_set(w->err, -ECANCELED, 0, 0, "%s: canceled", w->file.path);
	return 0;
}

/* The file that is read must not be the one that is written. */
static int check_target(struct writer *w, int fd)
{
	if (fd == w->checked_fd)
		return 0;
	w->checked_fd = fd;
	if (gm_newfile_is(w->file.path, fd))
		return gm_error_set(w->err, -EINVAL, 0, 0,
			"%s: it is the file that the memory lies in", w->file.path);
	return 0;
}

static int take_extent(
	struct writer *w, const struct gm_source_extent *extent, uint64_t off, uint64_t len)
{
	uint64_t chunk = w->opts.chunk;
	uint64_t left = len;
	int rc = 0;

	if (extent->kind == GM_SOURCE_RAW)
		rc = check_target(w, extent->fd);
	if (extent->kind == GM_SOURCE_ABSENT && !w->difference && !w->first)
		return gm_error_set(w->err, -ENODATA, off, len,
			"%s: 0x%" PRIx64 " bytes at 0x%" PRIx64
			" are not there: a difference is not all of it",
			w->file.path, len, off);
	if (extent->kind == GM_SOURCE_ZERO || extent->kind == GM_SOURCE_ABSENT) {
		if (extent->kind == GM_SOURCE_ZERO && w->difference)
			rc = add_empty(w, GM_SNAPFILE_ZERO, off, len);
		return rc ? rc : tell(w, len);
	}
	while (left && !rc) {
		uint64_t nr = chunk - off % chunk;

		nr = nr < left ? nr : left;
		rc = take_piece(w, off, nr);
		if (!rc)
			rc = tell(w, nr);
		off += nr;
		left -= nr;
	}
	return rc;
}

/* What cannot wait; its bytes are counted when their turn comes. */
static int take_first(struct writer *w, bool end)
{
	uint64_t chunk = w->opts.chunk;
	uint64_t off;
	uint64_t len;
	int rc = 0;

	while (w->first && !rc) {
		rc = w->first->code(w->first->ctx);
		if (rc || !w->first->next(w->first->ctx, end, &off, &len))
			break;
		while (len && !rc) {
			uint64_t nr = chunk - off % chunk;

			nr = nr < len ? nr : len;
			rc = take_piece(w, off, nr);
			off += nr;
			len -= nr;
		}
	}
	return rc;
}

/* Extents may end anywhere; pages are taken whole. */
static int take_range(struct writer *w, uint64_t off, uint64_t len)
{
	int rc = 0;

	while (len && !rc) {
		struct gm_source_extent extent;
		uint64_t nr;

		rc = take_first(w, false);
		if (rc)
			return rc;
		rc = gm_source_extent(w->source, off, &extent);
		if (rc)
			return gm_error_set(w->err, rc, 0, 0,
				"%s: what lies at 0x%" PRIx64 " is not known: %s", w->file.path,
				off, gm_error_word(rc));
		nr = gm_align_down(extent.len < len ? extent.len : len, PAGE);
		if (nr == 0) {
			nr = PAGE;
			extent.kind = GM_SOURCE_CHUNK;
		}
		rc = take_extent(w, &extent, off, nr);
		off += nr;
		len -= nr;
	}
	return rc;
}

static bool is_dirty(const uint64_t *words, uint64_t page)
{
	return words[page / 64] >> page % 64 & 1;
}

static int take_region(struct writer *w, const struct gm_snapshot_region *region)
{
	const uint64_t *dirty = w->opts.dirty;
	uint64_t page = region->off / PAGE;
	uint64_t end = page + region->len / PAGE;
	int rc = 0;

	if (!dirty)
		return take_range(w, region->off, region->len);
	while (page < end && !rc) {
		uint64_t first = page;
		bool set = is_dirty(dirty, page);

		while (page < end && is_dirty(dirty, page) == set)
			page += !set && page % 64 == 0 && !dirty[page / 64] ? 64 : 1;
		page = page < end ? page : end;
		rc = set ? take_range(w, first * PAGE, (page - first) * PAGE)
			 : tell(w, (page - first) * PAGE);
	}
	return rc;
}

/* ---- all of it ---- */

static void name_it(struct writer *w)
{
	static const uint8_t none[16];
	uint8_t both[32];

	if (memcmp(w->opts.identity, none, 16) != 0) {
		memcpy(w->head.identity, w->opts.identity, 16);
		return;
	}
	/* Of what is in it and of what it lies on. */
	gm_checksum_bytes_128(w->meta, w->meta_len, both);
	memcpy(both + 16, w->opts.base, 16);
	gm_checksum_bytes_128(both, sizeof(both), w->head.identity);
}

static int finish(struct writer *w)
{
	uint8_t *bytes = w->buf;
	uint64_t sum;
	int rc = flush(w);

	if (!rc)
		rc = gm_newfile_write(&w->file, w->buf, w->fill, w->at, w->err);
	if (rc)
		return rc;
	w->at += w->fill;
	gm_checksum_bytes(w->meta, w->meta_len, &w->head.meta_sum);
	w->head.meta_off = w->at;
	w->head.file_len = w->at + w->meta_len;
	memcpy(w->head.base, w->opts.base, 16);
	name_it(w);
	rc = gm_newfile_write(&w->file, w->meta, w->meta_len, w->at, w->err);
	if (rc)
		return rc;
	gm_snapfile_put_head(&w->head, bytes);
	gm_checksum_bytes(bytes, GM_SNAPFILE_HEAD_SUM, &sum);
	gm_snapfile_put_sum(bytes, sum);
	return gm_newfile_write(&w->file, bytes, GM_SNAPFILE_HEAD, 0, w->err);
}

/* By their place in memory. */
static int sort_chunks(struct writer *w)
{
	size_t nr = w->head.nr_chunks;
	uint8_t *from = w->meta + w->chunks_at;
	uint8_t *sorted = gm_sys_alloc_array(nr, GM_SNAPFILE_CHUNK);
	struct gm_sort_pair *order = gm_sys_alloc_array(nr, sizeof(*order));

	for (size_t i = 0; i < nr && sorted && order; i++)
		order[i] = (struct gm_sort_pair){gm_get_le(from + i * GM_SNAPFILE_CHUNK, 8), i};
	if (sorted && order) {
		gm_sort_pairs(order, nr);
		for (size_t i = 0; i < nr; i++)
			memcpy(sorted + i * GM_SNAPFILE_CHUNK,
				from + order[i].value * GM_SNAPFILE_CHUNK, GM_SNAPFILE_CHUNK);
		memcpy(from, sorted, nr * GM_SNAPFILE_CHUNK);
	}
	gm_sys_free(order);
	gm_sys_free(sorted);
	if (!order || !sorted)
		return gm_error_set(
			w->err, -ENOMEM, 0, 0, "%s: no memory to sort its table", w->file.path);
	return 0;
}

static int run(struct writer *w)
{
	int rc = add_tables(w);

	w->at = GM_SNAPFILE_HEAD;
	w->chunks_at = w->meta_len;
	for (size_t i = 0; i < w->nr && !rc; i++)
		rc = take_region(w, &w->regions[i]);
	if (!rc)
		rc = take_first(w, true);
	if (!rc && w->unordered)
		rc = sort_chunks(w);
	return rc ? rc : finish(w);
}

static int make_room(struct writer *w)
{
	w->buf = gm_sys_alloc_aligned(PAGE, OUT + PAGE + w->opts.chunk);
	w->packed = w->kind == GM_SNAPFILE_RAW ? NULL : gm_sys_alloc(w->opts.chunk);
	w->encoder = gm_codec_encoder(w->kind);
	if (!w->buf || (w->kind != GM_SNAPFILE_RAW && !w->packed) ||
		(w->kind == GM_SNAPFILE_ZSTD && !w->encoder))
		return gm_error_set(
			w->err, -ENOMEM, 0, 0, "%s: no memory for buffers", w->file.path);
	return 0;
}

static int check_regions(struct writer *w)
{
	uint64_t len = gm_source_len(w->source);

	if (w->nr == 0 || w->nr > GM_SNAPFILE_REGIONS_MAX)
		return gm_error_set(
			w->err, -EINVAL, 0, 0, "%zu regions are none, or too many", w->nr);
	w->head.len = gm_align_down(len < INT64_MAX ? len : INT64_MAX, PAGE);
	for (size_t i = 0; i < w->nr; i++) {
		const struct gm_snapshot_region *region = &w->regions[i];
		uint8_t bytes[GM_SNAPFILE_REGION];
		struct gm_snapshot_region copy;
		const char *why;

		if (region->off > w->head.len || region->len > w->head.len - region->off)
			return gm_error_set(w->err, -ERANGE, region->gpa, region->len,
				"region %zu: 0x%" PRIx64 " bytes at 0x%" PRIx64
				" do not lie in the source's 0x%" PRIx64,
				i, region->len, region->off, len);
		gm_snapfile_put_region(region, bytes);
		if (gm_snapfile_get_region(bytes, &w->head, i ? region - 1 : NULL, &copy, &why))
			return gm_error_set(w->err, -EINVAL, region->gpa, region->len,
				"region %zu: %s", i, why);
		w->total += region->len;
	}
	return 0;
}

static int choose_codec(struct writer *w)
{
	static const uint32_t kinds[] = {
		[GM_SNAPSHOT_RAW] = GM_SNAPFILE_RAW,
		[GM_SNAPSHOT_ZSTD] = GM_SNAPFILE_ZSTD,
		[GM_SNAPSHOT_LZ4] = GM_SNAPFILE_LZ4,
	};

	if (w->opts.codec > GM_SNAPSHOT_LZ4)
		return gm_error_set(
			w->err, -EINVAL, 0, 0, "codec %" PRIu32 " is not known", w->opts.codec);
	w->kind = kinds[w->opts.codec];
	if (w->opts.codec == GM_SNAPSHOT_BEST) {
		w->kind = GM_SNAPFILE_ZSTD;
		if (!gm_codec_has(w->kind))
			w->kind = gm_codec_has(GM_SNAPFILE_LZ4) ? GM_SNAPFILE_LZ4 : GM_SNAPFILE_RAW;
	}
	if (gm_codec_has(w->kind))
		return 0;
	return gm_error_set(
		w->err, -ENOTSUP, 0, 0, "the library was built without %s", gm_codec_name(w->kind));
}

static int check_labels(struct writer *w)
{
	size_t labels = 0;

	for (size_t i = 0; i < w->opts.nr_labels; i++) {
		const struct gm_snapshot_label *label = &w->opts.labels[i];
		size_t len = label->key ? gm_snapfile_label_len(label->key, label->len) : 0;

		if (!len || len > GM_SNAPFILE_LABELS_MAX - labels)
			return gm_error_set(w->err, -EINVAL, 0, 0,
				"label %zu: its key or value is too long, or there is none", i);
		labels += len;
	}
	return 0;
}

static int check_opts(struct writer *w, const struct gm_snapshot_opts *user)
{
	static const uint8_t none[16];
	struct gm_snapshot_opts *opts = &w->opts;
	uint64_t sum;
	int rc = user ? gm_opts_copy(opts, sizeof(*opts), user, sizeof(*opts)) : 0;

	if (rc)
		return gm_opts_error(w->err, rc, "saving memory");
	if (opts->flags & ~(GM_SNAPSHOT_LOST | GM_SNAPSHOT_CACHED))
		return gm_error_set(
			w->err, -EINVAL, 0, 0, "flags 0x%" PRIx32 " are not known", opts->flags);
	if (opts->chunk == 0)
		opts->chunk = 128u << 10;
	if (!gm_is_pow2(opts->chunk) || opts->chunk < PAGE || opts->chunk > GM_SNAPFILE_CHUNK_MAX)
		return gm_error_set(w->err, -EINVAL, 0, 0,
			"chunk 0x%" PRIx32 " is no power of two from 4096 to 4 MiB", opts->chunk);
	w->difference = memcmp(opts->base, none, 16) != 0;
	if (opts->dirty && !w->difference)
		return gm_error_set(w->err, -EINVAL, 0, 0,
			"some of the pages make a difference, which has a base");
	if (!gm_checksum_bytes("", 0, &sum))
		return gm_error_set(w->err, -ENOTSUP, 0, 0,
			"the library was built without xxHash, so it saves no memory");
	rc = choose_codec(w);
	return rc ? rc : check_labels(w);
}

static void describe(const struct writer *w, struct gm_snapshot_info *ret)
{
	size_t size = ret->size;

	*ret = w->sum;
	ret->size = size;
	memcpy(ret->identity, w->head.identity, 16);
	memcpy(ret->base, w->head.base, 16);
	ret->len = w->head.len;
	ret->regions = w->nr;
	ret->labels = w->opts.nr_labels;
	ret->chunks = w->head.nr_chunks;
	ret->data = w->head.data;
	ret->lost = w->head.lost;
	ret->file_len = w->head.file_len;
}

int gm_snapshot_write_first(struct gm_source *source, const struct gm_snapshot_region *regions,
	size_t nr, const char *path, const struct gm_snapshot_opts *opts,
	const struct gm_snapshot_first *first, struct gm_snapshot_info *ret_info,
	struct gm_error *err)
{
	struct writer w = {.source = source,
		.regions = regions,
		.nr = nr,
		.first = first,
		.err = err,
		.checked_fd = -1};
	int rc;

	if (ret_info && ret_info->size < sizeof(*ret_info))
		return gm_error_set(err, -EINVAL, 0, 0, "gm_snapshot_info.size is too small");
	rc = check_opts(&w, opts);
	if (!rc)
		rc = check_regions(&w);
	if (!rc)
		rc = gm_newfile_begin(&w.file, path, err);
	if (rc)
		return rc;
	rc = make_room(&w);
	if (!rc)
		rc = run(&w);
	if (rc)
		gm_newfile_drop(&w.file);
	else
		rc = gm_newfile_publish(&w.file, err);
	gm_sys_free(w.meta);
	gm_codec_encoder_free(w.kind, w.encoder);
	gm_sys_free(w.packed);
	gm_sys_free(w.buf);
	if (!rc && ret_info)
		describe(&w, ret_info);
	return rc;
}

int gm_snapshot_write(struct gm_source *source, const struct gm_snapshot_region *regions, size_t nr,
	const char *path, const struct gm_snapshot_opts *opts, struct gm_snapshot_info *ret_info,
	struct gm_error *err)
{
	return gm_snapshot_write_first(source, regions, nr, path, opts, NULL, ret_info, err);
}
