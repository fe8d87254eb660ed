/* SPDX-License-Identifier: BSD-3-Clause */
/* memfile_raw.c - a source becomes a raw file: whole, with holes for zeros, or a layer of some of its pages. */
#include <guestmem/memfile.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/range.h"
#include "services/newfile.h"
#include "sys/sys.h"
#include "sys/whole.h"

#define PAGE UINT64_C(4096)
#define STEP (UINT64_C(1) << 20)
#define BEHIND (UINT64_C(8) << 20)

struct raw {
	struct gm_source *source;
	struct gm_memfile_raw_opts opts;
	struct gm_newfile file;
	struct gm_error *err;
	uint8_t *buf;
	uint64_t data;
	uint64_t begun; /* up to there the disk has been told to write */
	int checked_fd; /* is not the target */
};

static bool is_dirty(const struct raw *w, uint64_t page)
{
	return !w->opts.dirty || (w->opts.dirty[page / 64] >> page % 64 & 1);
}

/* Pages from @at on, of @left bytes, that are all to be written, or none. */
static uint64_t run_of(const struct raw *w, uint64_t at, uint64_t left, bool *ret_dirty)
{
	const uint64_t *words = w->opts.dirty;
	uint64_t page = at / PAGE;
	uint64_t end = page + left / PAGE;

	*ret_dirty = is_dirty(w, page);
	if (!words)
		return left;
	while (page < end && is_dirty(w, page) == *ret_dirty)
		page += !*ret_dirty && page % 64 == 0 && !words[page / 64] ? 64 : 1;
	return ((page < end ? page : end) - at / PAGE) * PAGE;
}

static int write_some(struct raw *w, const uint8_t *bytes, size_t len, uint64_t at)
{
	int rc = gm_newfile_write(&w->file, bytes, len, at, w->err);

	w->data += len;
	/* Disk and processor work at the same time; what becomes of it fsync tells. */
	if (!rc && !w->file.direct && at + len - w->begun >= BEHIND) {
		gm_sys_write_behind(w->file.fd, w->begun, at + len - w->begun);
		w->begun = at + len;
	}
	return rc;
}

static int write_pages(struct raw *w, uint64_t at, size_t len)
{
	bool holes = (w->opts.flags & GM_MEMFILE_HOLES) && !w->opts.dirty;
	size_t end;
	int rc = 0;

	if (!holes)
		return write_some(w, w->buf, len, at);
	for (size_t i = 0; i < len && !rc; i = end) {
		bool zero = gm_bytes_are_zero(w->buf + i, PAGE);

		for (end = i + PAGE; end < len; end += PAGE) {
			if (gm_bytes_are_zero(w->buf + end, PAGE) != zero)
				break;
		}
		if (!zero)
			rc = write_some(w, w->buf + i, end - i, at + i);
	}
	return rc;
}

/* The file that is read must not be the one that is written. */
static int check_target(struct raw *w, const struct gm_source_extent *extent)
{
	if (extent->kind != GM_SOURCE_RAW || extent->fd == w->checked_fd)
		return 0;
	w->checked_fd = extent->fd;
	if (gm_newfile_is(w->file.path, extent->fd))
		return gm_error_set(w->err, -EINVAL, 0, 0,
			"%s: it is the file that the memory lies in", w->file.path);
	return 0;
}

/* All of what lies at @at up to *len, or less. */
static int take(struct raw *w, uint64_t at, uint64_t *len)
{
	struct gm_source_extent extent;
	struct gm_error inner;
	int rc = gm_source_extent(w->source, at, &extent);

	if (!rc && extent.kind == GM_SOURCE_ABSENT)
		rc = -ENODATA;
	if (rc)
		return gm_error_set(w->err, rc, at, 0,
			"%s: what lies at 0x%" PRIx64 " is not known: %s", w->file.path, at,
			rc == -ENODATA ? "a difference is not all of it" : gm_error_word(rc));
	rc = check_target(w, &extent);
	if (rc)
		return rc;
	/* Extents may end anywhere; pages are taken whole. */
	if (extent.kind == GM_SOURCE_ZERO && extent.len >= PAGE) {
		extent.len = gm_align_down(extent.len, PAGE);
		*len = extent.len < *len ? extent.len : *len;
		if ((w->opts.flags & GM_MEMFILE_HOLES) && !w->opts.dirty)
			return 0;
		*len = *len < STEP ? *len : STEP;
		memset(w->buf, 0, *len);
		return write_some(w, w->buf, *len, at);
	}
	*len = *len < STEP ? *len : STEP;
	rc = gm_source_read(w->source, at, w->buf, *len, &inner);
	return rc ? gm_error_pass(w->err, &inner, rc) : write_pages(w, at, *len);
}

static int write_all(struct raw *w)
{
	uint64_t total = gm_source_len(w->source);
	uint64_t len;
	int rc = -EFBIG;

	if (total <= w->file.limit)
		rc = gm_set_length(w->file.fd, total);
	if (rc)
		return gm_error_set(w->err, rc, 0, 0, "%s: it cannot have 0x%" PRIx64 " bytes: %s",
			w->file.path, total, gm_error_word(rc));
	/* Pages here and there are better collected by the cache. */
	if (!rc && total > STEP && !w->opts.dirty && !(w->opts.flags & GM_MEMFILE_HOLES))
		gm_newfile_direct(&w->file);
	for (uint64_t at = 0; at < total && !rc; at += len) {
		bool dirty;

		len = run_of(w, at, total - at, &dirty);
		if (dirty)
			rc = take(w, at, &len);
		if (!rc && w->opts.progress && w->opts.progress(w->opts.ctx, at + len, total))
			rc = gm_error_set(w->err, -ECANCELED, 0, 0, "%s: canceled", w->file.path);
	}
	return rc;
}

static int write_file(struct raw *w, const char *path)
{
	int rc = gm_newfile_begin(&w->file, path, w->err);

	if (rc)
		return rc;
	rc = write_all(w);
	if (rc) {
		gm_newfile_drop(&w->file);
		return rc;
	}
	return gm_newfile_publish(&w->file, w->err);
}

int gm_memfile_write_raw(struct gm_source *source, const char *path,
	const struct gm_memfile_raw_opts *user, uint64_t *ret_data, struct gm_error *err)
{
	struct raw w = {.source = source, .err = err, .checked_fd = -1};
	int rc = user ? gm_opts_copy(&w.opts, sizeof(w.opts), user, sizeof(w.opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "a raw file");
	if ((w.opts.flags & ~GM_MEMFILE_HOLES) || w.opts.reserved)
		return gm_error_set(err, -EINVAL, 0, 0, "%s: flags 0x%" PRIx32, path, w.opts.flags);
	if (!gm_is_aligned(gm_source_len(source), PAGE))
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: 0x%" PRIx64 " bytes are no number of pages", path,
			gm_source_len(source));
	w.buf = gm_sys_alloc_aligned(PAGE, STEP);
	if (!w.buf)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: no memory", path);
	rc = write_file(&w, path);
	gm_sys_free(w.buf);
	if (!rc && ret_data)
		*ret_data = w.data;
	return rc;
}
