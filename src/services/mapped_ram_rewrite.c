/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mapped_ram_rewrite.c - new contents for the pages of a file of QEMU, where they lie.
 *
 *   blocks marked ─ sync ─ pages ─ sync ─ bitmaps ─ sync ─ marks gone ─ sync
 *
 * Pages lie at fixed places, so old and new cannot be told apart once the first was written: until the last is there,
 * the version of each block is one that nobody reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/mapped_ram_wire.h"
#include "core/range.h"
#include "services/mapped_ram.h"
#include "sys/sys.h"

#define PAGE UINT64_C(4096)
#define STEP (UINT64_C(1) << 20) /* a multiple of all sizes of pages */

struct rewrite {
	struct gm_mapped_ram *ram;
	struct gm_source *source;
	struct gm_mapped_ram_opts opts;
	struct gm_error *err;
	size_t first;
	size_t end;
	uint64_t base; /* of the source, among all blocks */
	uint64_t done;
	uint64_t total;
	uint8_t *buf;
};

static bool is_here(const struct gm_mapped_ram_block *block)
{
	return !(block->flags & GM_MAPPED_RAM_ELSEWHERE);
}

static int write_at(struct rewrite *w, const void *bytes, size_t len, uint64_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t nr = gm_sys_pwrite(
			w->ram->fd, (const uint8_t *)bytes + done, len - done, at + done);

		if (nr == -EINTR)
			continue;
		if (nr <= 0)
			return gm_error_set(w->err, nr ? (int)nr : -EIO, 0, 0,
				"mapped-ram: 0x%zx bytes at 0x%" PRIx64 " cannot be written: %s",
				len - done, at + done, gm_error_word(nr ? (int)nr : -EIO));
		done += (size_t)nr;
	}
	return 0;
}

static int make_durable(struct rewrite *w)
{
	int rc;

	do {
		rc = gm_sys_sync(w->ram->fd, true);
	} while (rc == -EINTR);
	return rc ? gm_error_set(w->err, rc, 0, 0, "mapped-ram: it cannot be made durable: %s",
			    gm_error_word(rc))
		  : 0;
}

/* The version of each block: one that is read, or none. */
static int mark(struct rewrite *w, uint32_t version)
{
	uint8_t bytes[4];
	int rc = 0;

	gm_put_be(bytes, sizeof(bytes), version);
	for (size_t i = w->first; i < w->end && !rc; i++) {
		struct gm_mapped_ram_block *block = &w->ram->blocks[i];

		if (!is_here(block))
			continue;
		block->flags |= GM_MAPPED_RAM_UNFINISHED;
		rc = write_at(w, bytes, sizeof(bytes), block->header_off);
	}
	return rc ? rc : make_durable(w);
}

/* ---- pages ---- */

static void set_bits(uint64_t *bits, uint64_t page, uint64_t nr, bool set)
{
	for (; nr; page++, nr--) {
		uint64_t bit = UINT64_C(1) << page % 64;

		bits[page / 64] = set ? bits[page / 64] | bit : bits[page / 64] & ~bit;
	}
}

/* Pages of a block, all in the buffer: those that are not zero are written. */
static int write_pages(struct rewrite *w, size_t index, uint64_t in, uint64_t len)
{
	const struct gm_mapped_ram_block *block = &w->ram->blocks[index];
	uint64_t size = block->page_size;
	uint64_t end;
	int rc = 0;

	for (uint64_t at = 0; at < len && !rc; at = end) {
		bool zero = gm_bytes_are_zero(w->buf + at, size);

		for (end = at + size; end < len; end += size) {
			if (gm_bytes_are_zero(w->buf + end, size) != zero)
				break;
		}
		set_bits(w->ram->bits[index], (in + at) / size, (end - at) / size, !zero);
		if (!zero)
			rc = write_at(w, w->buf + at, end - at, block->pages_off + in + at);
	}
	return rc;
}

static bool is_dirty(const struct rewrite *w, uint64_t at, uint64_t len)
{
	if (!w->opts.dirty)
		return true;
	for (uint64_t page = at / PAGE; page < (at + len) / PAGE; page++) {
		if (w->opts.dirty[page / 64] >> page % 64 & 1)
			return true;
	}
	return false;
}

/* Bytes from @in on, at most a step, all of whose pages are to be written, or none. */
static uint64_t step_of(const struct rewrite *w, const struct gm_mapped_ram_block *block,
	uint64_t in, bool *ret_dirty)
{
	uint64_t from = block->off - w->base;
	uint64_t size = block->page_size;
	uint64_t left = block->len - in < STEP ? block->len - in : STEP;
	uint64_t len = size;

	*ret_dirty = is_dirty(w, from + in, size);
	while (len < left && is_dirty(w, from + in + len, size) == *ret_dirty)
		len += size;
	return len;
}

static int take_step(struct rewrite *w, size_t index, uint64_t in, uint64_t *len)
{
	const struct gm_mapped_ram_block *block = &w->ram->blocks[index];
	uint64_t from = block->off - w->base + in;
	struct gm_source_extent extent;
	struct gm_error inner;
	int rc = gm_source_extent(w->source, from, &extent);

	if (rc)
		return gm_error_set(w->err, rc, 0, 0,
			"mapped-ram: what lies at 0x%" PRIx64 " of the source is not known: %s",
			from, gm_error_word(rc));
	if (extent.kind == GM_SOURCE_ZERO && extent.len >= block->page_size) {
		uint64_t zeros = gm_align_down(extent.len, block->page_size);

		*len = zeros < *len ? zeros : *len;
		set_bits(
			w->ram->bits[index], in / block->page_size, *len / block->page_size, false);
		return 0;
	}
	rc = gm_source_read(w->source, from, w->buf, *len, &inner);
	return rc ? gm_error_pass(w->err, &inner, rc) : write_pages(w, index, in, *len);
}

static int tell(struct rewrite *w, uint64_t more)
{
	w->done += more;
	if (!w->opts.progress || !w->opts.progress(w->opts.ctx, w->done, w->total))
		return 0;
	return gm_error_set(w->err, -ECANCELED, 0, 0, "mapped-ram: canceled");
}

static int write_block(struct rewrite *w, size_t index)
{
	const struct gm_mapped_ram_block *block = &w->ram->blocks[index];
	uint64_t len;
	int rc = 0;

	for (uint64_t in = 0; in < block->len && !rc; in += len) {
		bool dirty;

		len = step_of(w, block, in, &dirty);
		rc = dirty ? take_step(w, index, in, &len) : 0;
		if (!rc)
			rc = tell(w, len);
	}
	return rc;
}

/* Words are little-endian in the file. */
static int write_bitmap(struct rewrite *w, size_t index)
{
	struct gm_mapped_ram_block *block = &w->ram->blocks[index];
	const uint64_t *bits = w->ram->bits[index];
	uint64_t left = gm_mapram_bitmap_len(block) / 8;
	uint64_t at = block->bitmap_off;
	int rc = 0;

	while (left && !rc) {
		uint64_t nr = left < STEP / 8 ? left : STEP / 8;

		for (uint64_t i = 0; i < nr; i++)
			gm_put_le(w->buf + i * 8, 8, bits[i]);
		rc = write_at(w, w->buf, nr * 8, at);
		bits += nr;
		at += nr * 8;
		left -= nr;
	}
	block->present = gm_mapped_ram_present(block, w->ram->bits[index]);
	return rc;
}

static int write_all(struct rewrite *w)
{
	int rc = mark(w, GM_MAPRAM_UNFINISHED);

	for (size_t i = w->first; i < w->end && !rc; i++) {
		if (is_here(&w->ram->blocks[i]))
			rc = write_block(w, i);
	}
	if (!rc)
		rc = make_durable(w);
	for (size_t i = w->first; i < w->end && !rc; i++) {
		if (is_here(&w->ram->blocks[i]))
			rc = write_bitmap(w, i);
	}
	if (!rc)
		rc = make_durable(w);
	if (!rc)
		rc = mark(w, GM_MAPRAM_VERSION);
	for (size_t i = w->first; i < w->end && !rc; i++)
		w->ram->blocks[i].flags &= ~GM_MAPPED_RAM_UNFINISHED;
	return rc;
}

/* ---- before anything is written ---- */

static bool is_same_file(const struct rewrite *w, int fd)
{
	struct stat mine;
	struct stat there;

	return !gm_sys_fstat(w->ram->fd, &mine) && !gm_sys_fstat(fd, &there) &&
	       mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

/* Does the source have a block, and in another file? */
static int check_source(struct rewrite *w, const struct gm_mapped_ram_block *block)
{
	uint64_t at = block->off - w->base;
	uint64_t end = at + block->len;
	struct gm_source_extent extent;

	for (; at < end; at += extent.len) {
		int rc = gm_source_extent(w->source, at, &extent);

		if (rc)
			return gm_error_set(w->err, rc, 0, 0,
				"mapped-ram: what lies at 0x%" PRIx64
				" of the source is not known: %s",
				at, gm_error_word(rc));
		if (extent.kind == GM_SOURCE_ABSENT)
			return gm_error_set(w->err, -ENODATA, 0, 0,
				"mapped-ram: the source does not have 0x%" PRIx64, at);
		if (extent.kind == GM_SOURCE_RAW && is_same_file(w, extent.fd))
			return gm_error_set(w->err, -EINVAL, 0, 0,
				"mapped-ram: it is the file that the source reads");
	}
	return 0;
}

static int check_blocks(struct rewrite *w)
{
	int rc = 0;

	for (size_t i = w->first; i < w->end && !rc; i++) {
		const struct gm_mapped_ram_block *block = &w->ram->blocks[i];

		if (!is_here(block) && w->opts.name)
			return gm_error_set(w->err, -ENOTSUP, 0, 0,
				"mapped-ram: block %s is in a file of its own", block->name);
		if (!is_here(block))
			continue;
		if ((block->flags & GM_MAPPED_RAM_UNFINISHED) && w->opts.dirty)
			return gm_error_set(w->err, -EBADMSG, 0, 0,
				"mapped-ram: block %s: rewriting it did not end, so all of it has "
				"to be written",
				block->name);
		w->total += block->len;
		rc = check_source(w, block);
	}
	return rc;
}

/* Written where it was meant to be, which a file that is appended to is not. */
static int check_flags(struct rewrite *w)
{
	int flags = gm_sys_open_flags(w->ram->fd);

	if (flags < 0)
		return gm_error_set(w->err, flags, 0, 0, "mapped-ram: it cannot be looked at: %s",
			gm_error_word(flags));
	if ((flags & O_ACCMODE) != O_RDWR || (flags & O_APPEND))
		return gm_error_set(w->err, -EINVAL, 0, 0,
			"mapped-ram: it is not opened for reading and writing");
	return 0;
}

static int prepare(struct rewrite *w, const struct gm_mapped_ram_opts *user)
{
	struct gm_mapped_ram *ram = w->ram;
	uint64_t len = ram->len;
	int rc = user ? gm_opts_copy(&w->opts, sizeof(w->opts), user, sizeof(w->opts)) : 0;

	if (rc)
		return gm_opts_error(w->err, rc, "rewriting mapped-ram");
	if (__atomic_load_n(&ram->refs, __ATOMIC_ACQUIRE) > 1)
		return gm_error_set(w->err, -EBUSY, 0, 0, "mapped-ram: sources of it are in use");
	w->end = ram->nr;
	if (w->opts.name) {
		w->first = gm_mapped_ram_find(ram, w->opts.name);
		if (w->first == ram->nr)
			return gm_error_set(w->err, -ENOENT, 0, 0,
				"mapped-ram: there is no block named %s", w->opts.name);
		w->end = w->first + 1;
		w->base = ram->blocks[w->first].off;
		len = ram->blocks[w->first].len;
	}
	if (gm_source_len(w->source) < len)
		return gm_error_set(w->err, -EINVAL, 0, 0,
			"mapped-ram: the source has 0x%" PRIx64 " bytes of 0x%" PRIx64,
			gm_source_len(w->source), len);
	rc = check_flags(w);
	if (!rc)
		rc = check_blocks(w);
	if (rc)
		return rc;
	w->buf = gm_sys_alloc(STEP);
	return w->buf ? 0 : gm_error_set(w->err, -ENOMEM, 0, 0, "mapped-ram: no memory");
}

int gm_mapped_ram_rewrite(struct gm_mapped_ram *ram, struct gm_source *source,
	const struct gm_mapped_ram_opts *opts, struct gm_error *err)
{
	struct rewrite w = {.ram = ram, .source = source, .err = err};
	int rc = prepare(&w, opts);

	if (!rc)
		rc = write_all(&w);
	gm_sys_free(w.buf);
	return rc;
}
