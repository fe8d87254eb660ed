/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot.h - memory in a file: all of it, or what differs from another such file.
 *
 * A file has the bytes of a source (source.h) that are not zero, in chunks with a sum each, the regions of the guest
 * that lay in it, and labels of the embedder. It appears under its name whole or not at all, and is checked before a
 * byte of it is used. Sums find accidents, not whoever means harm: authenticity is the embedder's signature.
 *
 * Memory must not change while it is saved: guest and devices are stopped.
 */
#ifndef GUESTMEM_SNAPSHOT_H
#define GUESTMEM_SNAPSHOT_H

#include <guestmem/log.h>
#include <guestmem/source.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_snapshot;

/** enum gm_snapshot_codec - how chunks are stored */
enum gm_snapshot_codec {
	GM_SNAPSHOT_BEST = 0, /* zstd, else lz4, else raw: what the library was built with */
	GM_SNAPSHOT_RAW,
	GM_SNAPSHOT_ZSTD,
	GM_SNAPSHOT_LZ4,
};

/*
 * gm_snapshot_opts.flags: what cannot be read (-EIO, -EBADMSG) is recorded as lost, and is no error. Failed memory,
 * and what is recorded as lost in a file that is read (-EHWPOISON), always is.
 */
#define GM_SNAPSHOT_LOST 0x1u
/*
 * Leave the file in the page cache, since it is read soon. Otherwise what is longer than 1 MiB goes past it, where the
 * file system can: that is faster and takes a third of the processor's time.
 */
#define GM_SNAPSHOT_CACHED 0x8u

/* gm_snapshot_source() flags: nobody changes or damages the file; raw chunks may be mapped without looking at sums */
#define GM_SNAPSHOT_TRUST 0x1u

/**
 * struct gm_snapshot_region - a region of the guest
 * @gpa:       first guest physical address
 * @len:       bytes; this, @gpa and @off are multiples of 4096
 * @off:       its first byte in the source
 * @page_size: of its memory, at least 4096; for whoever restores it
 * @kind:      enum gm_region_kind
 * @name:      terminated
 */
struct gm_snapshot_region {
	uint64_t gpa;
	uint64_t len;
	uint64_t off;
	uint32_t page_size;
	uint32_t kind;
	char name[32];
};

/**
 * struct gm_snapshot_label - bytes of the embedder
 * @key:   1 to 255 characters
 * @value: @len bytes, at most 65535; all labels together take at most 65536 bytes
 * @len:   bytes
 */
struct gm_snapshot_label {
	const char *key;
	const void *value;
	size_t len;
};

/**
 * struct gm_snapshot_opts - how a file is written; zero means default
 * @size:      sizeof(struct gm_snapshot_opts)
 * @identity:  16 random bytes that name it; zeros: they are made of its contents
 * @base:      identity of the file that this one differs from; zeros: it is whole
 * @dirty:     with @base: which pages are in it: bit i % 64 of word i / 64 is page i, of 4096 bytes, of the source;
 *             NULL: all
 * @labels:    borrowed, @nr_labels of them
 * @nr_labels: number
 * @codec:     enum gm_snapshot_codec
 * @level:     of the codec: higher is smaller and slower with zstd, larger and faster with lz4; 0 = the fastest
 * @chunk:     bytes of memory in a chunk, a power of two from 4096 to 4 MiB; 0 = 128 KiB. A fault on one page reads
 *             all of its chunk
 * @flags:     GM_SNAPSHOT_LOST, GM_SNAPSHOT_CACHED
 * @progress:  optional: called with bytes of memory that are done and of all; other than 0: -ECANCELED
 * @ctx:       passed to it
 */
struct gm_snapshot_opts {
	size_t size;
	uint8_t identity[16];
	uint8_t base[16];
	const uint64_t *dirty;
	const struct gm_snapshot_label *labels;
	size_t nr_labels;
	uint32_t codec;
	int32_t level;
	uint32_t chunk;
	uint32_t flags;
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/**
 * struct gm_snapshot_info - a file, as it is and as it was written; @size is set by the caller
 * @identity:   its name
 * @base:       of a difference: on what it lies; else zeros
 * @len:        bytes of the source
 * @regions:    number
 * @labels:     number
 * @chunks:     number, runs of zeros and what is lost included
 * @data:       bytes of memory in it
 * @stored:     bytes that these take
 * @raw:        bytes of them that are not compressed
 * @lost:       bytes that could not be read when it was saved
 * @file_len:   its length
 */
struct gm_snapshot_info {
	size_t size;
	uint8_t identity[16];
	uint8_t base[16];
	uint64_t len;
	uint64_t regions;
	uint64_t labels;
	uint64_t chunks;
	uint64_t data;
	uint64_t stored;
	uint64_t raw;
	uint64_t lost;
	uint64_t file_len;
};

/**
 * gm_snapshot_write() - saves what a source has
 * @source:   memory, a file, or another file of this sort to be written anew
 * @regions:  in rising order of @off and @gpa, without overlaps. What of the source lies in none is not saved
 * @nr:       number of them, at least 1
 * @path:     the file: made beside it and renamed; a link there is replaced, not followed
 * @opts:     borrowed; NULL = defaults
 * @ret_info: optional: what was written; its size is set by the caller
 * @err:      optional; its gpa is the first address that it is about
 *
 * On failure whatever @path names is as before. Buffers take a few MiB and 40 bytes for each chunk. Returns 0;
 * -EINVAL (options, regions, or @path is the raw file that the source reads); -ERANGE (a region does not lie in the
 * source); -EBUSY (another one writes there); -EEXIST (@path is a device, pipe or socket); -ENOTSUP (a codec, or any
 * of it, that the library was built without); -ECANCELED; -EFBIG, -ENOMEM, what the source or a system call failed
 * with. Threads: any, one for a source. Since: 0.1.
 */
GM_API int gm_snapshot_write(struct gm_source *source, const struct gm_snapshot_region *regions,
	size_t nr, const char *path, const struct gm_snapshot_opts *opts,
	struct gm_snapshot_info *ret_info, struct gm_error *err);

/**
 * gm_snapshot_save() - saves the memory of a space
 * @space:    borrowed; its map may change meanwhile, which does not show in the file
 * @log:      with opts->base: the pages that it names are taken, and put back on failure; else NULL
 * @path:     as above
 * @opts:     as above, without @dirty; GM_SNAPSHOT_LOST is set: memory that the host lost is recorded as such
 * @ret_info: as above
 * @err:      as above
 *
 * All memory that shows and is plugged: RAM, ROM, in rising order of addresses. Of files and of anonymous memory what
 * was never touched is not looked at. Memory that a pager (pager.h) has not brought yet is refused. What others fill on
 * demand (another process's userfaultfd) must be complete: what has not arrived would be saved as zeros.
 * Returns as gm_snapshot_write(); -EBUSY also if a pager has absent pages of the space; -EINVAL also if @path is a file
 * that is memory of the space; -ENOTSUP also for memory that is private to the guest or not mapped here; -ENOENT (there
 * is no memory).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_save(struct gm_space *space, struct gm_log *log, const char *path,
	const struct gm_snapshot_opts *opts, struct gm_snapshot_info *ret_info,
	struct gm_error *err);

/**
 * gm_snapshot_open() - reads and checks the tables of a file
 * @fd:           a regular file, kept by a duplicate
 * @ret_snapshot: the caller's, for gm_snapshot_close()
 * @err:          optional
 *
 * Its chunks are checked when they are read. Returns 0; -EPROTO (no such file, truncated, or tables that cannot be);
 * -EBADMSG (a sum is wrong); -ENOTSUP (another version, or the library was built without xxHash); -ENOMEM, or what a
 * system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_open(int fd, struct gm_snapshot **ret_snapshot, struct gm_error *err);

/**
 * gm_snapshot_close() - ends it; sources that were made of it stay
 * @snapshot: taken; NULL is ignored
 *
 * Threads: one, when no other uses it. Since: 0.1.
 */
GM_API void gm_snapshot_close(struct gm_snapshot *snapshot);

/**
 * gm_snapshot_info() - what a file is
 * @snapshot: borrowed
 * @ret_info: filled in
 *
 * Returns 0 or -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_info(const struct gm_snapshot *snapshot, struct gm_snapshot_info *ret_info);

/**
 * gm_snapshot_regions() - the regions of the guest
 * @snapshot: borrowed
 * @ret_nr:   number of them
 *
 * Returns them, in rising order, until the snapshot is closed.
 * Threads: any. Since: 0.1.
 */
GM_API const struct gm_snapshot_region *gm_snapshot_regions(
	const struct gm_snapshot *snapshot, size_t *ret_nr);

/**
 * gm_snapshot_label() - a label by its number
 * @snapshot:  borrowed
 * @index:     from 0
 * @ret_label: its key and value, until the snapshot is closed
 *
 * Returns 0 or -ENOENT.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_label(
	const struct gm_snapshot *snapshot, size_t index, struct gm_snapshot_label *ret_label);

/**
 * gm_snapshot_source() - a file, or differences on each other, as a source
 * @snapshots:  a whole file or a difference, and differences on it in their order; borrowed for the call
 * @nr:         number of them, 1 to 64
 * @flags:      GM_SNAPSHOT_TRUST
 * @ret_source: the caller's
 * @err:        optional
 *
 * Each chunk is verified before its bytes are handed on; what is lost is -EHWPOISON. If the first one is a
 * difference, what is in none of them is GM_SOURCE_ABSENT, and -ENODATA when it is read.
 * Returns 0; -EINVAL; -ESTALE (a difference does not lie on the file in front of it, or has other memory); -ENOTSUP
 * (chunks of a codec that the library was built without); -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_source(struct gm_snapshot *const *snapshots, size_t nr, uint32_t flags,
	struct gm_source **ret_source, struct gm_error *err);

/**
 * gm_snapshot_verify() - reads all chunks of a file and compares their sums
 * @snapshot: borrowed
 * @bad:      optional: told each chunk that is wrong, by the offset and length of its memory and an errno value;
 *            other than 0 ends it
 * @progress: optional: as in struct gm_snapshot_opts
 * @ctx:      passed to both
 * @err:      optional: of the first that is wrong
 *
 * Returns 0, -EBADMSG (at least one is wrong), -ECANCELED, -ENOTSUP, -ENOMEM, or what a system call failed with.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_verify(struct gm_snapshot *snapshot,
	int (*bad)(void *ctx, uint64_t offset, uint64_t len, int code),
	int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, struct gm_error *err);

/**
 * gm_snapshot_merge() - differences and what they lie on, as one file
 * @snapshots: as for gm_snapshot_source()
 * @nr:        number of them
 * @path:      as for gm_snapshot_write(); it may be the path of one of them
 * @opts:      as for gm_snapshot_write(), without @dirty. @base and, if there are none, labels are those of the files
 * @ret_info:  as for gm_snapshot_write()
 * @err:       optional
 *
 * With GM_SNAPSHOT_LOST it saves what can be saved of a damaged file. Returns as gm_snapshot_source() and
 * gm_snapshot_write().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_snapshot_merge(struct gm_snapshot *const *snapshots, size_t nr, const char *path,
	const struct gm_snapshot_opts *opts, struct gm_snapshot_info *ret_info,
	struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
