/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mapped_ram.h - the memory in a file that QEMU wrote with "mapped-ram": as a source, and rewritten where it lies.
 *
 * Such a file is a migration stream in which each RAM block has a bitmap of the pages that are there, and a place for
 * each page. Nothing else of the stream is looked at: devices are QEMU's. It has no checksums.
 */
#ifndef GUESTMEM_MAPPED_RAM_H
#define GUESTMEM_MAPPED_RAM_H

#include <guestmem/source.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_mapped_ram;

/* gm_mapped_ram_block.flags */
#define GM_MAPPED_RAM_ELSEWHERE                                                                    \
	0x1u /* its pages are in a file of their own ("x-ignore-shared"), not here */
#define GM_MAPPED_RAM_UNFINISHED 0x2u /* rewriting it did not end: it is neither old nor new */
#define GM_MAPPED_RAM_PLACED 0x4u     /* @gpa is known */

/**
 * struct gm_mapped_ram_block - a RAM block of the file
 * @name:       terminated
 * @off:        its first byte in the source of all blocks: they lie there one behind the other
 * @len:        bytes
 * @present:    bytes of pages that are in the file; the others are zeros
 * @page_size:  a bit of the bitmap stands for so many bytes
 * @gpa:        with GM_MAPPED_RAM_PLACED: first guest physical address
 * @header_off: in the file: of version and offsets,
 * @bitmap_off: of the bitmap,
 * @pages_off:  of the first page
 * @flags:      GM_MAPPED_RAM_* bits
 * @reserved:   zero
 */
struct gm_mapped_ram_block {
	char name[256];
	uint64_t off;
	uint64_t len;
	uint64_t present;
	uint64_t page_size;
	uint64_t gpa;
	uint64_t header_off;
	uint64_t bitmap_off;
	uint64_t pages_off;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * gm_mapped_ram_open() - reads and checks the blocks of a file and their bitmaps
 * @fd:      a regular file, kept by a duplicate
 * @ret_ram: the caller's, for gm_mapped_ram_close()
 * @err:     optional
 *
 * Bitmaps are those of a machine that is little-endian. Returns 0; -EPROTO (no such file, truncated, or offsets that
 * cannot be); -ENOTSUP (another version, pages that are not mapped, or a device in front of the memory); -ENOMEM, or
 * what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_mapped_ram_open(int fd, struct gm_mapped_ram **ret_ram, struct gm_error *err);

/**
 * gm_mapped_ram_close() - ends it; sources that were made of it stay
 * @ram: taken; NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_mapped_ram_close(struct gm_mapped_ram *ram);

/**
 * gm_mapped_ram_blocks() - the RAM blocks, in the order of the file
 * @ram:    borrowed
 * @ret_nr: number of them, at least 1
 *
 * Returns them, until the file is closed. What @present and @flags tell changes when they are rewritten.
 * Threads: any. Since: 0.1.
 */
GM_API const struct gm_mapped_ram_block *gm_mapped_ram_blocks(
	const struct gm_mapped_ram *ram, size_t *ret_nr);

/**
 * gm_mapped_ram_source() - a block, or all of them, as a source
 * @ram:        borrowed for the call
 * @name:       of the block; NULL: all, one behind the other
 * @ret_source: the caller's
 * @err:        optional
 *
 * Pages that are there are GM_SOURCE_RAW, others GM_SOURCE_ZERO, what is elsewhere GM_SOURCE_ABSENT. Returns 0; -ENOENT
 * (no such block); -EBADMSG (rewriting it did not end); -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_mapped_ram_source(struct gm_mapped_ram *ram, const char *name,
	struct gm_source **ret_source, struct gm_error *err);

/**
 * struct gm_mapped_ram_opts - how blocks are rewritten; zero means default
 * @size:     sizeof(struct gm_mapped_ram_opts)
 * @name:     of the block; NULL: all that are in the file, with the source as gm_mapped_ram_source() lays them
 * @dirty:    which pages: bit i % 64 of word i / 64 is page i, of 4096 bytes, of the source; NULL: all
 * @progress: optional: called with bytes of memory that are done and of all; other than 0: -ECANCELED
 * @ctx:      passed to it
 */
struct gm_mapped_ram_opts {
	size_t size;
	const char *name;
	const uint64_t *dirty;
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/**
 * gm_mapped_ram_rewrite() - new contents for the pages of a file, where they lie
 * @ram:    of an fd that was opened for reading and writing
 * @source: at least as long as the block, or as all of them
 * @opts:   borrowed; NULL = defaults
 * @err:    optional
 *
 * The file must be nobody else's meanwhile. While it is rewritten its blocks are marked as not finished, which QEMU and
 * gm_mapped_ram_source() refuse: first the marks, then pages, then bitmaps, then the marks go, each made durable before
 * the next. Who fails or is killed on the way leaves them marked, and rewriting them whole (@dirty is NULL) mends
 * that. What the source cannot give, as far as it tells, is an error before anything is written.
 * Returns 0; -EINVAL (options, a source that is too short, or that is the file); -ENOENT (no such block); -ENODATA
 * (the source does not have it all); -ENOTSUP (its pages are elsewhere); -EBUSY (sources of it are in use); -EBADMSG
 * (only some pages of a block that is not finished); -ECANCELED; -ENOMEM, what the source or a system call failed with.
 * Threads: one for a file. Since: 0.1.
 */
GM_API int gm_mapped_ram_rewrite(struct gm_mapped_ram *ram, struct gm_source *source,
	const struct gm_mapped_ram_opts *opts, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
