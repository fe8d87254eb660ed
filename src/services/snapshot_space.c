/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_space.c - the memory of a space as a source: its pieces one behind the other, in rising order of addresses.
 *
 * Each piece is pinned. One that is shared and has a file is read through that: the file tells its holes, and reading
 * one makes no page. Anonymous memory is looked at by PAGEMAP_SCAN and read where it is mapped, under the guard if
 * that is installed, else by the kernel on our behalf; so is what is neither, all of it.
 */
#include <guestmem/guard.h>
#include <guestmem/snapshot.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "core/snapfile.h"
#include "memory/block.h"
#include "memory/filler.h"
#include "memory/reach.h"
#include "services/newfile.h"
#include "services/pagemap.h"
#include "services/snapshot_space.h"
#include "services/source.h"
#include "sys/guard.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define PAGE UINT64_C(4096)

/* ---- the source ---- */

static const struct saving_piece *piece_at(const struct saving *s, uint64_t off)
{
	size_t low = 0;
	size_t high = s->nr;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (s->pieces[mid].off <= off)
			low = mid;
		else
			high = mid;
	}
	return &s->pieces[low];
}

/* What the page tables have from there on: the first stretch only, so that nothing is looked at again and again. */
int gm_saving_scan(const struct saving *s, const struct saving_piece *piece, uint64_t in,
	struct gm_source_extent *extent)
{
	uint64_t first = (uintptr_t)piece->reach.hva + in;
	struct page_region found;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = first,
		.end = first + extent->len,
		.vec = (uintptr_t)&found,
		.vec_len = 1,
		.category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PFNZERO,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};
	bool more;
	int nr = gm_pagemap_scan(s->pagemap, &arg, &more);

	if (nr < 0)
		return nr;
	if (nr == 0 || found.start > first) {
		extent->kind = GM_SOURCE_ZERO;
		extent->len = nr ? found.start - first : extent->len;
		return 0;
	}
	extent->kind = GM_SOURCE_CHUNK;
	extent->len = found.end - first < extent->len ? found.end - first : extent->len;
	return 0;
}

int gm_saving_extent(const struct saving *s, uint64_t offset, struct gm_source_extent *extent)
{
	const struct saving_piece *piece = piece_at(s, offset);
	uint64_t in = offset - piece->off;
	uint64_t within = extent->len;
	int rc;

	if (piece->file) {
		rc = gm_source_extent_within(piece->file, in, within, extent);
		extent->offset = offset;
		return rc;
	}
	/* Whole pages: these end with the piece. */
	extent->len = piece->len - in;
	if (within < extent->len && gm_align_up(within, 4096, &within) && within < extent->len)
		extent->len = within;
	rc = piece->scanned && s->pagemap >= 0 ? gm_saving_scan(s, piece, in, extent) : 0;
	/* Before Linux 6.7: all of it is looked at. */
	return rc == -ENOTTY ? 0 : rc;
}

int gm_saving_copy(const struct saving *s, const uint8_t *hva, void *buf, size_t len)
{
	struct gm_guard_fault fault;
	size_t done = 0;

	if (s->guarded)
		return gm_guard_copy_from(buf, hva, len, &fault) ? gm_guard_errno(&fault) : 0;
	while (done < len) {
		ssize_t nr = gm_sys_process_read(
			0, (uintptr_t)hva + done, (uint8_t *)buf + done, len - done);

		if (nr == -EINTR)
			continue;
		if (nr <= 0)
			return nr == -EFAULT || nr == 0 ? -EIO : (int)nr;
		done += (size_t)nr;
	}
	return 0;
}

int gm_saving_read(
	const struct saving *s, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	size_t done = 0;
	int rc = 0;

	while (done < len && !rc) {
		const struct saving_piece *piece = piece_at(s, offset + done);
		uint64_t in = offset + done - piece->off;
		size_t nr = piece->len - in < len - done ? piece->len - in : len - done;
		uint8_t *to = (uint8_t *)buf + done;

		rc = piece->file ? gm_source_read(piece->file, in, to, nr, NULL)
				 : gm_saving_copy(s, piece->reach.hva + in, to, nr);
		if (rc)
			gm_error_set(err, rc, piece->reach.range.first + in, nr,
				"%s: 0x%zx bytes at gpa 0x%" PRIx64 " cannot be read: %s",
				s->space->name, nr, piece->reach.range.first + in,
				gm_error_word(rc));
		done += nr;
	}
	return rc;
}

static int space_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	return gm_saving_extent(ctx, offset, extent);
}

static int space_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	return gm_saving_read(ctx, offset, buf, len, err);
}

/* ---- its pieces ---- */

static int room_for_one(struct saving *s)
{
	size_t cap = s->cap ? 2 * s->cap : 16;
	struct gm_snapshot_region *regions;
	struct saving_piece *pieces;

	if (s->nr < s->cap)
		return 0;
	pieces = gm_sys_realloc(s->pieces, cap, sizeof(*pieces));
	if (pieces)
		s->pieces = pieces;
	regions = gm_sys_realloc(s->regions, cap, sizeof(*regions));
	if (regions)
		s->regions = regions;
	if (!pieces || !regions)
		return gm_error_set(
			s->err, -ENOMEM, 0, 0, "%s: no memory for its pieces", s->space->name);
	s->cap = cap;
	return 0;
}

static int refuse(const struct saving *s, const struct gm_reach *reach, int rc, const char *why)
{
	return gm_error_set(s->err, rc, reach->range.first, gm_range_len(&reach->range),
		"%s: memory at gpa 0x%" PRIx64 " %s", s->space->name, reach->range.first, why);
}

/* How the piece is read. */
static int look_at(struct saving *s, struct saving_piece *piece)
{
	struct gm_block_info info = {.size = sizeof(info)};
	const struct gm_reach *reach = &piece->reach;
	struct gm_snapshot_region *region = &s->regions[s->nr];
	int rc = gm_block_info(reach->block, &info);

	if (rc)
		return refuse(s, reach, rc, "cannot be looked at");
	if (s->path && info.fd >= 0 && gm_newfile_is(s->path, info.fd))
		return refuse(s, reach, -EINVAL, "lies in the file that is to be written");
	if (reach->part == GM_PART_PRIVATE)
		return refuse(s, reach, -ENOTSUP, "is private to the guest");
	*region = (struct gm_snapshot_region){
		.gpa = reach->range.first,
		.len = gm_range_len(&reach->range),
		.off = s->len,
		.page_size = info.page_size < PAGE || info.page_size > (UINT64_C(1) << 30)
				     ? (uint32_t)PAGE
				     : (uint32_t)info.page_size,
		.kind = reach->kind,
	};
	gm_copy_name(region->name, sizeof(region->name), info.name);
	if (!gm_is_aligned(region->gpa | region->len, PAGE))
		return refuse(s, reach, -ENOTSUP, "is not made of pages");
	piece->off = s->len;
	piece->len = region->len;
	if (info.fd >= 0 && !(info.flags & GM_BLOCK_PRIVATE))
		return gm_source_file(
			info.fd, info.offset + reach->block_off, piece->len, &piece->file, s->err);
	if (!reach->hva)
		return refuse(s, reach, -ENOTSUP, "is not mapped here");
	piece->scanned = info.backing == GM_BACKING_ANON;
	return 0;
}

static int add_piece(struct saving *s, const struct gm_reach *reach)
{
	struct saving_piece *piece;
	int rc;

	if (reach->part == GM_PART_UNPLUGGED)
		return 1;
	rc = room_for_one(s);
	if (rc)
		return rc;
	piece = &s->pieces[s->nr];
	*piece = (struct saving_piece){.reach = *reach};
	rc = look_at(s, piece);
	if (rc)
		return rc;
	s->len += piece->len;
	s->nr++;
	return 0;
}

int gm_saving_collect(struct saving *s)
{
	struct gm_range rest = {0, UINT64_MAX};
	struct gm_reach reach;
	uint64_t last;
	int rc;

	for (;;) {
		rc = gm_reach_next(s->space, &rest, &reach);
		if (rc)
			break;
		last = reach.range.last;
		rc = add_piece(s, &reach);
		if (rc)
			gm_reach_put(&reach);
		if (rc < 0)
			return rc;
		if (last == UINT64_MAX)
			break;
		rest.first = last + 1;
	}
	if (rc < 0 && rc != -ENOENT)
		return gm_error_set(
			s->err, rc, 0, 0, "%s: its memory cannot be looked at", s->space->name);
	if (!s->nr)
		return gm_error_set(s->err, -ENOENT, 0, 0, "%s: there is no memory to be saved",
			s->space->name);
	return 0;
}

void gm_saving_let_go(struct saving *s)
{
	for (size_t i = 0; i < s->nr; i++) {
		gm_source_destroy(s->pieces[i].file);
		gm_reach_put(&s->pieces[i].reach);
	}
	if (s->pagemap >= 0)
		gm_sys_close(s->pagemap);
	gm_sys_free(s->pieces);
	gm_sys_free(s->regions);
	gm_sys_free(s->dirty);
}

/* ---- what a log names ---- */

/* Sets the pages of all pieces that the range [first, last] of guest addresses touches. */
static void set_dirty(struct saving *s, const struct gm_range *range)
{
	for (size_t i = 0; i < s->nr; i++) {
		const struct saving_piece *piece = &s->pieces[i];
		struct gm_range both;
		uint64_t page;
		uint64_t last;

		if (!gm_range_intersect(range, &piece->reach.range, &both))
			continue;
		page = (piece->off + (both.first - piece->reach.range.first)) / PAGE;
		last = (piece->off + (both.last - piece->reach.range.first)) / PAGE;
		for (; page <= last; page++)
			s->dirty[page / 64] |= UINT64_C(1) << page % 64;
	}
}

/* What the log does not cover has been written, for all that is known. */
static void set_outside(struct saving *s, const struct gm_log_info *info)
{
	if (info->first)
		set_dirty(s, &(struct gm_range){0, info->first - 1});
	if (info->last != UINT64_MAX)
		set_dirty(s, &(struct gm_range){info->last + 1, UINT64_MAX});
}

int gm_saving_take(struct saving *s, struct gm_log *log, struct saving_taken *taken)
{
	uint64_t size;
	int rc;

	taken->info.size = sizeof(taken->info);
	rc = gm_log_info(log, &taken->info);
	if (rc)
		return gm_error_set(
			s->err, rc, 0, 0, "%s: the log cannot be looked at", s->space->name);
	s->dirty = gm_sys_alloc_array(s->len / PAGE / 64 + 1, sizeof(*s->dirty));
	taken->words = gm_sys_alloc_array(taken->info.pages / 64 + 1, sizeof(*taken->words));
	if (!s->dirty || !taken->words)
		return gm_error_set(s->err, -ENOMEM, 0, 0, "%s: no memory for the pages of a log",
			s->space->name);
	rc = gm_log_take(log, 0, taken->info.pages, taken->words, NULL);
	if (rc)
		return gm_error_set(s->err, rc, 0, 0, "%s: its pages cannot be taken: %s",
			taken->info.name, gm_error_word(rc));
	size = taken->info.page_size;
	for (uint64_t i = 0; i < taken->info.pages; i++) {
		uint64_t left = taken->info.last - taken->info.first;
		uint64_t last = size - 1 < left - i * size ? i * size + (size - 1) : left;

		if (!taken->words[i / 64])
			i |= 63;
		else if (taken->words[i / 64] >> i % 64 & 1)
			set_dirty(s, &(struct gm_range){taken->info.first + i * size,
					     taken->info.first + last});
	}
	set_outside(s, &taken->info);
	return 0;
}

/* ---- saving ---- */

static int save(struct saving *s, struct gm_log *log, const char *path,
	struct gm_snapshot_opts *opts, struct gm_snapshot_info *ret_info)
{
	const struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = s->space->name,
		.len = s->len,
		.extent = space_extent,
		.read = space_read,
		.ctx = s,
	};
	struct saving_taken taken = {.words = NULL};
	struct gm_source *source;
	int rc = gm_source_create(&ops, &source, s->err);

	if (rc)
		return rc;
	if (log)
		rc = gm_saving_take(s, log, &taken);
	opts->dirty = s->dirty;
	if (!rc) {
		rc = gm_snapshot_write(source, s->regions, s->nr, path, opts, ret_info, s->err);
		if (rc && taken.words)
			gm_log_put_back(log, 0, taken.info.pages, taken.words);
	}
	gm_sys_free(taken.words);
	gm_source_destroy(source);
	return rc;
}

int gm_saving_open(struct saving *s, struct gm_space *space, const char *path, struct gm_error *err)
{
	uint64_t absent = gm_filler_absent(space);

	*s = (struct saving){.space = space,
		.path = path,
		.err = err,
		.pagemap = -1,
		.guarded = !gm_guard_check()};
	if (absent)
		return gm_error_set(err, -EBUSY, 0, absent,
			"%s: 0x%" PRIx64
			" bytes are absent yet: a pager has to bring them before they are saved",
			space->name, absent);
	/* Without it all is looked at. */
	s->pagemap = gm_sys_open("/proc/self/pagemap", O_RDONLY, 0);
	return gm_saving_collect(s);
}

int gm_snapshot_save(struct gm_space *space, struct gm_log *log, const char *path,
	const struct gm_snapshot_opts *user, struct gm_snapshot_info *ret_info,
	struct gm_error *err)
{
	static const uint8_t none[16];
	struct gm_snapshot_opts opts = {.size = sizeof(opts)};
	struct saving s;
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "saving a space");
	if (opts.dirty || (log && !memcmp(opts.base, none, 16)))
		return gm_error_set(err, -EINVAL, 0, 0,
			"saving a space: pages are those of a log, for a difference with a base");
	opts.flags |= GM_SNAPSHOT_LOST;
	rc = gm_saving_open(&s, space, path, err);
	if (!rc)
		rc = save(&s, log, path, &opts, ret_info);
	gm_saving_let_go(&s);
	return rc;
}
