/* SPDX-License-Identifier: BSD-3-Clause */
/* memfile.c - files of any format as one source: the format is seen or named, then its own functions do the rest. */
#include <guestmem/memfile.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/mapped_ram_wire.h"
#include "core/range.h"
#include "core/snapfile.h"
#include "sys/sys.h"
#include "sys/whole.h"

#define PAGE UINT64_C(4096)

struct gm_memfile {
	struct gm_memfile_opts opts;
	uint32_t format;
	size_t nr; /* files that were opened: saved or layers */
	struct gm_snapshot *saved[GM_MEMFILE_FILES_MAX];
	struct gm_source *layers[GM_MEMFILE_FILES_MAX];
	struct gm_mapped_ram *ram;
	struct gm_source *source;
	const struct gm_snapshot_region *regions;
	struct gm_snapshot_region *own; /* regions that are not a snapshot's */
	size_t nr_regions;
};

/* ---- formats ---- */

/* What is no file that can be read at a place is left to who opens raw files, which says so. */
static int format_of(int fd, uint32_t *ret)
{
	uint8_t bytes[16];
	const char *why;
	uint32_t version;
	size_t done;

	int rc = gm_pread_whole(fd, bytes, sizeof(bytes), 0, &done);

	*ret = GM_MEMFILE_RAW;
	if (rc)
		return rc == -ENODATA || rc == -ESPIPE || rc == -EISDIR ? 0 : rc;
	if (gm_snapfile_look(bytes, &version, &why) != -EPROTO)
		*ret = GM_MEMFILE_SAVED;
	else if (gm_mapram_look(bytes))
		*ret = GM_MEMFILE_MAPPED_RAM;
	return 0;
}

static const char *name_of(uint32_t format)
{
	static const char *const names[] = {
		[GM_MEMFILE_SAVED] = "saved memory",
		[GM_MEMFILE_RAW] = "raw memory",
		[GM_MEMFILE_MAPPED_RAM] = "mapped-ram",
	};

	return names[format];
}

static int open_raw(struct gm_memfile *m, int fd, struct gm_error *err)
{
	struct gm_source **layer = &m->layers[m->nr];
	int rc = gm_source_file(fd, 0, 0, layer, err);
	uint64_t len = rc ? 0 : gm_source_len(*layer);

	if (rc || (len && gm_is_aligned(len, PAGE)))
		return rc;
	gm_source_destroy(*layer);
	*layer = NULL;
	return gm_error_set(err, -EINVAL, 0, 0,
		len ? "0x%" PRIx64 " bytes of raw memory are no number of pages"
		    : "raw memory of 0x%" PRIx64 " bytes: it is empty",
		len);
}

static int open_one(struct gm_memfile *m, int fd, struct gm_error *err)
{
	uint32_t format = m->opts.format;
	int rc = format ? 0 : format_of(fd, &format);

	if (rc)
		return gm_error_set(err, rc, 0, 0, "it cannot be read: %s", gm_error_word(rc));
	if (m->nr && (format != m->format || format == GM_MEMFILE_MAPPED_RAM))
		return gm_error_set(err, -EINVAL, 0, 0, "%s cannot be laid on %s", name_of(format),
			name_of(m->format));
	m->format = format;
	if (format == GM_MEMFILE_SAVED)
		rc = gm_snapshot_open(fd, &m->saved[m->nr], err);
	else if (format == GM_MEMFILE_RAW)
		rc = open_raw(m, fd, err);
	else
		rc = gm_mapped_ram_open(fd, &m->ram, err);
	m->nr += !rc;
	return rc;
}

/* ---- saved ---- */

static int take_saved(struct gm_memfile *m, struct gm_error *err)
{
	static const uint8_t none[16];
	struct gm_snapshot_info info = {.size = sizeof(info)};

	gm_snapshot_info(m->saved[0], &info);
	if (memcmp(info.base, none, 16) != 0 && !(m->opts.flags & GM_MEMFILE_PART))
		return gm_error_set(err, -ESTALE, 0, 0,
			"it is a difference: the file that it lies on has to come before it");
	m->regions = gm_snapshot_regions(m->saved[m->nr - 1], &m->nr_regions);
	return gm_snapshot_source(m->saved, m->nr,
		m->opts.flags & GM_MEMFILE_TRUST ? GM_SNAPSHOT_TRUST : 0, &m->source, err);
}

/* ---- raw ---- */

static int make_regions(struct gm_memfile *m, size_t nr, struct gm_error *err)
{
	m->own = gm_sys_alloc_array(nr, sizeof(*m->own));
	m->regions = m->own;
	return m->own ? 0 : gm_error_set(err, -ENOMEM, 0, 0, "no memory for regions");
}

static void add_region(
	struct gm_memfile *m, const char *name, uint64_t gpa, uint64_t off, uint64_t len)
{
	struct gm_snapshot_region *region = &m->own[m->nr_regions++];

	*region = (struct gm_snapshot_region){
		.gpa = gpa, .len = len, .off = off, .page_size = PAGE, .kind = GM_REGION_RAM};
	gm_copy_name(region->name, sizeof(region->name), name);
}

static int take_raw(struct gm_memfile *m, struct gm_error *err)
{
	struct gm_source_layer layers[GM_MEMFILE_FILES_MAX];
	int rc = make_regions(m, 1, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < m->nr; i++)
		layers[i] = (struct gm_source_layer){
			.source = m->layers[i], .flags = i ? GM_SOURCE_HOLES_SHOW : 0};
	add_region(m, "memory", 0, 0, gm_source_len(m->layers[0]));
	return gm_source_layers(layers, m->nr, &m->source, err);
}

/* ---- mapped-ram ---- */

static bool is_wanted(const struct gm_memfile *m, const struct gm_mapped_ram_block *block)
{
	return !(block->flags & GM_MAPPED_RAM_ELSEWHERE) &&
	       (!m->opts.block || !strcmp(m->opts.block, block->name));
}

/* Do all blocks have addresses, which rise as they do? */
static bool are_placed(
	const struct gm_memfile *m, const struct gm_mapped_ram_block *blocks, size_t nr)
{
	const struct gm_mapped_ram_block *before = NULL;

	for (size_t i = 0; i < nr; i++) {
		const struct gm_mapped_ram_block *block = &blocks[i];

		if (!is_wanted(m, block))
			continue;
		if (!(block->flags & GM_MAPPED_RAM_PLACED) || !gm_is_aligned(block->gpa, PAGE))
			return false;
		if (before && (block->gpa < before->gpa || block->gpa - before->gpa < before->len))
			return false;
		before = block;
	}
	return true;
}

static int take_mapped(struct gm_memfile *m, struct gm_error *err)
{
	const struct gm_mapped_ram_block *blocks;
	uint64_t base = UINT64_MAX;
	bool placed;
	size_t nr;
	int rc;

	blocks = gm_mapped_ram_blocks(m->ram, &nr);
	rc = make_regions(m, nr, err);
	if (!rc)
		rc = gm_mapped_ram_source(m->ram, m->opts.block, &m->source, err);
	if (rc)
		return rc;
	placed = are_placed(m, blocks, nr);
	for (size_t i = 0; i < nr; i++) {
		uint64_t off;

		if (!is_wanted(m, &blocks[i]))
			continue;
		/* One block is all of its source. */
		base = m->opts.block ? blocks[i].off : 0;
		off = blocks[i].off - base;
		add_region(m, blocks[i].name, placed ? blocks[i].gpa : off, off, blocks[i].len);
	}
	return base == UINT64_MAX ? gm_error_set(err, -ENODATA, 0, 0,
					    "mapped-ram: the memory is in files of its own")
				  : 0;
}

/* ---- all of it ---- */

static int open_files(struct gm_memfile *m, const int *fds, size_t nr, struct gm_error *err)
{
	struct gm_error inner;

	for (size_t i = 0; i < nr; i++) {
		int rc = open_one(m, fds[i], &inner);

		if (rc && nr > 1)
			return gm_error_set(
				err, rc, 0, 0, "file %zu of %zu: %.400s", i + 1, nr, inner.text);
		if (rc)
			return gm_error_pass(err, &inner, rc);
	}
	if (m->opts.block && m->format != GM_MEMFILE_MAPPED_RAM)
		return gm_error_set(
			err, -EINVAL, 0, 0, "%s has no RAM blocks with names", name_of(m->format));
	if (m->format == GM_MEMFILE_SAVED)
		return take_saved(m, err);
	return m->format == GM_MEMFILE_RAW ? take_raw(m, err) : take_mapped(m, err);
}

int gm_memfile_open(const int *fds, size_t nr, const struct gm_memfile_opts *user,
	struct gm_memfile **ret_memfile, struct gm_error *err)
{
	struct gm_memfile_opts opts = {.size = sizeof(opts)};
	struct gm_memfile *m;
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "a memory file");
	if (nr == 0 || nr > GM_MEMFILE_FILES_MAX || opts.format > GM_MEMFILE_MAPPED_RAM ||
		(opts.flags & ~(GM_MEMFILE_TRUST | GM_MEMFILE_PART)))
		return gm_error_set(err, -EINVAL, 0, 0,
			"memory file: %zu files, format %" PRIu32 " or flags 0x%" PRIx32, nr,
			opts.format, opts.flags);
	m = gm_sys_alloc(sizeof(*m));
	if (!m)
		return gm_error_set(err, -ENOMEM, 0, 0, "memory file: no memory");
	m->opts = opts;
	rc = open_files(m, fds, nr, err);
	/* The caller's. */
	m->opts.block = NULL;
	if (rc)
		gm_memfile_close(m);
	else
		*ret_memfile = m;
	return rc;
}

void gm_memfile_close(struct gm_memfile *memfile)
{
	if (!memfile)
		return;
	gm_source_destroy(memfile->source);
	for (size_t i = 0; i < memfile->nr; i++) {
		gm_source_destroy(memfile->layers[i]);
		gm_snapshot_close(memfile->saved[i]);
	}
	gm_mapped_ram_close(memfile->ram);
	gm_sys_free(memfile->own);
	gm_sys_free(memfile);
}

struct gm_source *gm_memfile_source(const struct gm_memfile *memfile)
{
	return memfile->source;
}

const struct gm_snapshot_region *gm_memfile_regions(
	const struct gm_memfile *memfile, size_t *ret_nr)
{
	*ret_nr = memfile->nr_regions;
	return memfile->regions;
}

struct gm_snapshot *const *gm_memfile_snapshots(const struct gm_memfile *memfile, size_t *ret_nr)
{
	*ret_nr = memfile->format == GM_MEMFILE_SAVED ? memfile->nr : 0;
	return memfile->saved;
}

int gm_memfile_info(const struct gm_memfile *memfile, struct gm_memfile_info *ret_info)
{
	struct gm_snapshot_info saved = {.size = sizeof(saved)};
	size_t size = ret_info->size;

	if (size < sizeof(*ret_info))
		return -EINVAL;
	*ret_info = (struct gm_memfile_info){
		.size = size,
		.len = gm_source_len(memfile->source),
		.files = memfile->nr,
		.format = memfile->format,
	};
	if (memfile->format != GM_MEMFILE_SAVED)
		return 0;
	gm_snapshot_info(memfile->saved[memfile->nr - 1], &saved);
	memcpy(ret_info->identity, saved.identity, 16);
	gm_snapshot_info(memfile->saved[0], &saved);
	memcpy(ret_info->base, saved.base, 16);
	return 0;
}
