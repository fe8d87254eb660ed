/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memfile.h - a guest's memory in files of any format that the library reads, as one source with its regions.
 *
 * Saved memory and differences on it (snapshot.h), a raw file and sparse layers on it as Firecracker writes them, or a
 * file of QEMU with mapped-ram (mapped_ram.h). The format is seen by the first bytes; what has none of them is raw.
 * The first bytes of a raw file are the guest's: who knows the format names it, so that no guest can choose it.
 */
#ifndef GUESTMEM_MEMFILE_H
#define GUESTMEM_MEMFILE_H

#include <guestmem/mapped_ram.h>
#include <guestmem/snapshot.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_memfile;

#define GM_MEMFILE_FILES_MAX 64u

/** enum gm_memfile_format - what files are */
enum gm_memfile_format {
	GM_MEMFILE_ANY = 0, /* seen by their first bytes */
	GM_MEMFILE_SAVED,   /* of gm_snapshot_write() */
	GM_MEMFILE_RAW, /* memory as it is; others on it are layers, whose holes show what lies below */
	GM_MEMFILE_MAPPED_RAM, /* of QEMU; one file */
};

/* gm_memfile_opts.flags */
#define GM_MEMFILE_TRUST 0x1u /* nobody changes or damages the files: GM_SNAPSHOT_TRUST */
#define GM_MEMFILE_PART                                                                            \
	0x2u /* the lowest file may be a difference: what is in none is GM_SOURCE_ABSENT */

/**
 * struct gm_memfile_opts - how files are opened; zero means default
 * @size:   sizeof(struct gm_memfile_opts)
 * @format: enum gm_memfile_format; other files are refused
 * @flags:  GM_MEMFILE_* bits
 * @block:  of mapped-ram: the name of the RAM block that is wanted; NULL: all, one behind the other. Of other formats
 *          NULL
 */
struct gm_memfile_opts {
	size_t size;
	uint32_t format;
	uint32_t flags;
	const char *block;
};

/**
 * struct gm_memfile_info - what was opened; @size is set by the caller
 * @identity: of the topmost file of saved memory; else zeros
 * @base:     with GM_MEMFILE_PART: on what the lowest file lies; else zeros
 * @len:      bytes of the source
 * @files:    number of them
 * @format:   enum gm_memfile_format, never GM_MEMFILE_ANY
 * @reserved: zero
 */
struct gm_memfile_info {
	size_t size;
	uint8_t identity[16];
	uint8_t base[16];
	uint64_t len;
	uint64_t files;
	uint32_t format;
	uint32_t reserved;
};

/**
 * gm_memfile_open() - opens memory in files
 * @fds:         a whole one, and differences on it in their order; kept by duplicates
 * @nr:          number of them, 1 to GM_MEMFILE_FILES_MAX
 * @opts:        borrowed for the call; NULL = defaults
 * @ret_memfile: the caller's, for gm_memfile_close()
 * @err:         optional; names the file by its place if there are several
 *
 * Returns 0; -EINVAL (options; raw memory that is no number of pages; formats that cannot be laid on each other);
 * -EPROTO (not the format that is asked for, or damaged); -ESTALE (a difference does not lie on the file below it, or
 * is the lowest without GM_MEMFILE_PART); or as gm_snapshot_open(), gm_snapshot_source(), gm_source_file(),
 * gm_source_layers(), gm_mapped_ram_open() and gm_mapped_ram_source().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_memfile_open(const int *fds, size_t nr, const struct gm_memfile_opts *opts,
	struct gm_memfile **ret_memfile, struct gm_error *err);

/**
 * gm_memfile_close() - ends it, and its source
 * @memfile: taken; NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_memfile_close(struct gm_memfile *memfile);

/**
 * gm_memfile_source() - the memory
 * @memfile: borrowed
 *
 * Returns a source that reads (source.h), until the memory file is closed; not to be destroyed.
 * Threads: any. Since: 0.1.
 */
GM_API struct gm_source *gm_memfile_source(const struct gm_memfile *memfile);

/**
 * gm_memfile_regions() - where it lay in the guest
 * @memfile: borrowed
 * @ret_nr:  number of them
 *
 * Saved memory has the regions that were saved. Of raw memory it is one, at address 0, and of mapped-ram one for each
 * block that is in the file: at its address if all are known and in order, else at its offset. Returns them, in rising
 * order, until the memory file is closed.
 * Threads: any. Since: 0.1.
 */
GM_API const struct gm_snapshot_region *gm_memfile_regions(
	const struct gm_memfile *memfile, size_t *ret_nr);

/**
 * gm_memfile_snapshots() - files of saved memory, for their labels, or to be merged or verified
 * @memfile: borrowed
 * @ret_nr:  number of them; 0: it is of another format
 *
 * Returns them in their order, until the memory file is closed; not to be closed.
 * Threads: any. Since: 0.1.
 */
GM_API struct gm_snapshot *const *gm_memfile_snapshots(
	const struct gm_memfile *memfile, size_t *ret_nr);

/**
 * gm_memfile_info() - what was opened
 * @memfile:  borrowed
 * @ret_info: filled in
 *
 * Returns 0 or -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_memfile_info(const struct gm_memfile *memfile, struct gm_memfile_info *ret_info);

/* gm_memfile_raw_opts.flags: pages of zeros are holes; without it all of the file is written */
#define GM_MEMFILE_HOLES 0x1u

/**
 * struct gm_memfile_raw_opts - how a raw file is written; zero means default
 * @size:     sizeof(struct gm_memfile_raw_opts)
 * @flags:    GM_MEMFILE_HOLES
 * @reserved: zero
 * @dirty:    only these pages, zeros too, and holes elsewhere, so that it is a layer: bit i % 64 of word i / 64 is
 *            page i, of 4096 bytes, of the source; NULL: all
 * @progress: optional: called with bytes of memory that are done and of all; other than 0: -ECANCELED
 * @ctx:      passed to it
 */
struct gm_memfile_raw_opts {
	size_t size;
	uint32_t flags;
	uint32_t reserved;
	const uint64_t *dirty;
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/**
 * gm_memfile_write_raw() - a raw file of what a source has, or of some pages of it
 * @source:   a number of pages
 * @path:     the file: made beside it and renamed; a link there is replaced, not followed
 * @opts:     borrowed; NULL = defaults
 * @ret_data: optional: bytes of the file that are no holes
 * @err:      optional
 *
 * On failure whatever @path names is as before. Returns 0; -EINVAL (options, a length that is no number of pages, or
 * @path is the raw file that the source reads); -EBUSY (another one writes there); -EEXIST (@path is a device, pipe or
 * socket); -ENODATA (the source does not have it all); -ECANCELED; -EFBIG; -ENOMEM; what the source or a system call
 * failed with. Threads: any, one for a source. Since: 0.1.
 */
GM_API int gm_memfile_write_raw(struct gm_source *source, const char *path,
	const struct gm_memfile_raw_opts *opts, uint64_t *ret_data, struct gm_error *err);

/**
 * gm_memfile_compare() - which pages of two sources differ
 * @a:        a number of pages
 * @b:        the other one; where it is shorter @a is compared with zeros
 * @ret_bits: a word for each 64 pages of @a, begun or whole: bit i % 64 of word i / 64 is set if page i differs.
 *            What it has after an error is undefined
 * @progress: optional: as in struct gm_memfile_raw_opts
 * @ctx:      passed to it
 * @err:      optional
 *
 * With the bits as @dirty, gm_snapshot_write() and gm_memfile_write_raw() make a difference of @a from @b: of two whole
 * ones, or, if @a is a difference laid on its base, of this moved to another base.
 * Returns 0; -EINVAL (a length that is no number of pages); -ENODATA (one of them does not have it all); -ECANCELED;
 * -ENOMEM; what a source failed with.
 * Threads: any, one for a source. Since: 0.1.
 */
GM_API int gm_memfile_compare(struct gm_source *a, struct gm_source *b, uint64_t *ret_bits,
	int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
