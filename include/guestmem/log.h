/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.h - dirty logs: which pages of a space were written.
 *
 * A log is one consumer's bitmap: of a snapshot, a migration, a peer. A space may have any number of
 * them, each with its own range and page size, made and destroyed while others write. All writes of
 * this process that go through the library mark: data first, then the bit. Who writes by other ways
 * says so with gm_view_mark(), or merges what another source has seen.
 *
 * An IOVA space (iommu.h) has logs of its own, by IOVA; what is written through it is also in the logs
 * of the space that it leads to.
 */
#ifndef GUESTMEM_LOG_H
#define GUESTMEM_LOG_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_log;

#define GM_LOG_ALL 0x1u    /* begin with every page marked */
#define GM_LOG_NOWAIT 0x2u /* do not wait for readers; gm_log_info.ready tells */

/**
 * struct gm_log_opts - a log; zero means default
 * @size:        sizeof(struct gm_log_opts)
 * @first:       first address that it covers
 * @len:         bytes that it covers; 0 = to the end of the window, without a window to 2^64, for
 *               which pages of 4096 bytes are too many (-ENOMEM). A log does not grow, but memory may
 *               come later: where there is none, 1 GiB costs 32 KiB of addresses and no memory
 * @page_size:   bytes a bit stands for, any number; 0 = the host's pages, in @storage 4096, as in
 *               vhost's logs. Others than multiples of 4096 make every write take the long way
 * @storage:     optional: the consumer's bitmap, which may be shared with a peer: page i is bit i % 8 of byte i / 8.
 *               It stays until @release. Bits are set by atomic operations on bytes, under the guard.
 *               Taking, counting, resetting and walking over them is the consumer's: gm_log_take() is
 *               -ENOTSUP, the others find nothing
 * @storage_len: its bytes; pages behind it are counted as outside
 * @flags:       GM_LOG_* bits
 * @name:        copied (31 bytes)
 * @release:     optional: @storage is not used any more
 * @ctx:         passed to @release
 */
struct gm_log_opts {
	size_t size;
	uint64_t first;
	uint64_t len;
	uint64_t page_size;
	void *storage;
	uint64_t storage_len;
	uint32_t flags;
	uint32_t reserved;
	const char *name;
	void (*release)(void *ctx);
	void *ctx;
};

/** struct gm_log_info - a log as it is; @size is set by the caller */
struct gm_log_info {
	size_t size;
	uint64_t first;
	uint64_t last;      /* inclusive */
	uint64_t page_size; /* bytes */
	uint64_t pages;
	uint64_t taken; /* pages that were taken so far */
	uint64_t
		outside; /* writes with a part outside of it: with storage all, else some of them */
	uint64_t faults; /* marks that failed because the storage had no page */
	uint32_t ready;  /* 1 when every writer marks */
	uint32_t reserved;
	char name[32];
};

/**
 * gm_log_create() - begin to log writes
 * @space:   borrowed; must outlive the log
 * @opts:    borrowed; NULL = defaults
 * @ret_log: the log, destroyed with gm_log_destroy()
 * @err:     optional
 *
 * Waits for the readers that do not mark yet, unless GM_LOG_NOWAIT; then it must not be called in a
 * section or by a thread that serves page faults. What is written after it returned is logged; so is
 * what a change of the map puts at an address. Returns 0, -EINVAL, -E2BIG, -ERANGE (passes 2^64),
 * -ENOTSUP (a space that has an IOMMU and is under another), -EBUSY (a transaction is open), -ENOMEM,
 * or -ETIMEDOUT, which names the readers.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_log_create(struct gm_space *space, const struct gm_log_opts *opts,
	struct gm_log **ret_log, struct gm_error *err);

/**
 * gm_log_destroy() - end a log
 * @log: taken on success; NULL is ignored
 * @err: optional
 *
 * Does not wait: its storage is freed or released when the readers have left. Returns 0, -EBUSY (a
 * transaction is open) or -ENOMEM; then it goes on.
 * Threads: any, one at a time for a log. Since: 0.1.
 */
GM_API int gm_log_destroy(struct gm_log *log, struct gm_error *err);

/**
 * gm_log_take() - clear pages and say which were marked
 * @log:       borrowed, without storage of the consumer's
 * @page:      first page, a multiple of 64
 * @nr:        number of pages; those behind the end are not looked at
 * @words:     filled in: room for @nr bits rounded up to 64; bit 0 is @page
 * @ret_count: optional: number of pages that were marked
 *
 * When it has returned the bytes of the pages that it names can be read: what is written later marks
 * again. Returns 0, -EINVAL, -ERANGE (begins behind the end), -ENOTSUP.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_log_take(
	struct gm_log *log, uint64_t page, uint64_t nr, uint64_t *words, uint64_t *ret_count);

/**
 * gm_log_copy() - say which pages are marked
 * @log:       borrowed, without storage of the consumer's
 * @page:      first page, a multiple of 64
 * @nr:        number of pages; those behind the end are not looked at
 * @words:     filled in, as by gm_log_take()
 * @ret_count: optional: number of pages that are marked
 *
 * Clears nothing, and says nothing of the pages' bytes: who reads them takes. Returns 0, -EINVAL,
 * -ERANGE (begins behind the end), -ENOTSUP.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_log_copy(
	const struct gm_log *log, uint64_t page, uint64_t nr, uint64_t *words, uint64_t *ret_count);

/**
 * gm_log_put_back() - mark what was taken and could not be used
 * @log:   borrowed
 * @page:  as given to gm_log_take()
 * @nr:    as given
 * @words: what it gave
 *
 * Returns 0, -EINVAL, -ERANGE.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_log_put_back(struct gm_log *log, uint64_t page, uint64_t nr, const uint64_t *words);

/**
 * gm_log_merge() - mark what another source has seen, in this log only
 * @log:       borrowed
 * @gpa:       address of the first page of that source
 * @page_size: its bytes a bit, not 0
 * @nr:        number of bits
 * @words:     its bitmap: bit i is bit i % 64 of word i / 64
 *
 * Returns 0, -EINVAL, -ERANGE (passes 2^64).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_log_merge(
	struct gm_log *log, uint64_t gpa, uint64_t page_size, uint64_t nr, const uint64_t *words);

/**
 * gm_view_merge() - mark what another source has seen, in all logs and under all names
 * @view:      borrowed
 * @gpa:       as above; this and the next ones
 * @page_size: its bytes a bit, not 0
 * @nr:        number of bits
 * @words:     its bitmap
 *
 * As gm_view_mark() of each run: for a source that forgets what it has told, such as KVM, while there are
 * several logs, or memory with several names. Returns 0, -EINVAL, -ERANGE (passes 2^64).
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_view_merge(const struct gm_view *view, uint64_t gpa, uint64_t page_size, uint64_t nr,
	const uint64_t *words);

/**
 * gm_log_mark() - mark the pages of a range in this log only
 * @log: borrowed
 * @gpa: first address
 * @len: bytes, 0 marks nothing
 *
 * Threads: any. Since: 0.1.
 */
GM_API void gm_log_mark(struct gm_log *log, uint64_t gpa, uint64_t len);

/**
 * gm_log_reset() - clear the pages that lie whole in a range
 * @log: borrowed
 * @gpa: first address
 * @len: bytes, 0 clears nothing
 *
 * Neighbours that it covers in part stay as they are.
 * Threads: any. Since: 0.1.
 */
GM_API void gm_log_reset(struct gm_log *log, uint64_t gpa, uint64_t len);

/**
 * gm_log_next() - the next run of marked pages
 * @log:       borrowed
 * @gpa:       lowest address
 * @ret_first: first address of the run, not below that of the log
 * @ret_last:  its last one, inclusive
 *
 * Returns 0 or -ENOENT (no more).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_log_next(
	const struct gm_log *log, uint64_t gpa, uint64_t *ret_first, uint64_t *ret_last);

/**
 * gm_log_count() - number of marked pages that a range touches
 * @log: borrowed
 * @gpa: first address
 * @len: bytes; 0 = to the end
 *
 * Threads: any. Since: 0.1.
 */
GM_API uint64_t gm_log_count(const struct gm_log *log, uint64_t gpa, uint64_t len);

/**
 * gm_log_rate() - bytes a second that are written anew, since the last call or the log's creation
 * @log: borrowed
 *
 * Pages that were marked or taken meanwhile, each once between two takings, by the clock.
 * Threads: any. Since: 0.1.
 */
GM_API uint64_t gm_log_rate(struct gm_log *log);

/**
 * gm_log_info() - describe a log
 * @log:      borrowed
 * @ret_info: filled in
 *
 * Returns 0 or -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_log_info(struct gm_log *log, struct gm_log_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
