/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * view.h - the immutable map that readers use, and the sections in which they use it.
 *
 * A reader thread owns a struct gm_reader. Between gm_reader_enter() and gm_reader_leave() (a
 * section) it holds a view: the map as it was published last. Nothing in a view changes, and the
 * memory that it describes stays mapped until the section ends. A section takes no lock; it must be
 * short and must not wait for a peer: whatever may block takes a pin (slice.h) instead.
 */
#ifndef GUESTMEM_VIEW_H
#define GUESTMEM_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_space;
struct gm_reader;

/* What may be done with memory. Stock KVM cannot enforce X; it is a label there. */
#define GM_PERM_R 1u
#define GM_PERM_W 2u
#define GM_PERM_X 4u
#define GM_PERM_RW (GM_PERM_R | GM_PERM_W)
#define GM_PERM_RX (GM_PERM_R | GM_PERM_X)
#define GM_PERM_RWX (GM_PERM_R | GM_PERM_W | GM_PERM_X)

/**
 * struct gm_span - guest addresses that are reached by one addition
 * @first:  first guest physical address
 * @last:   last guest physical address, inclusive
 * @delta:  host address minus guest address, modulo 2^64
 * @owner:  the library's: what keeps the memory mapped
 * @perms:  GM_PERM_* bits: what may be done; and bits of the library's above them
 * @direct: the GM_PERM_* bits that inline code may use by itself, at the view's window_base + gpa; 0
 *          where the memory is not in the window or where the library wants to see each access
 * @node:   the library's: which region it belongs to
 *
 * Part of the frozen view.
 */
struct gm_span {
	uint64_t first;
	uint64_t last;
	uint64_t delta;
	const void *owner;
	uint16_t perms;
	uint16_t direct;
	uint32_t node;
};

/**
 * struct gm_leaf - the spans of one slot of a view
 * @spans: @nr spans in rising order, and one with no permission behind them that ends at 2^64 - 1
 * @shift: a bucket is 1 << @shift bytes
 * @mask:  number of buckets less one
 * @nr:    number of spans
 * @kept:  the library's: what it keeps of them besides
 *
 * A byte for each bucket lies behind it: the first span that ends in or after the bucket.
 * Part of the frozen view.
 */
struct gm_leaf {
	const struct gm_span *spans;
	uint32_t shift;
	uint32_t mask;
	uint32_t nr;
	uint32_t kept;
};

/**
 * struct gm_dir - a slot that is cut into slots once more
 * @shift: a slot is 1 << @shift bytes
 * @mask:  number of slots less one
 *
 * The slots lie behind it, as those of the view. Part of the frozen view.
 */
struct gm_dir {
	uint32_t shift;
	uint32_t mask;
};

#define GM_VIEW_VERSION 3u

/**
 * struct gm_view - the frozen part of a view, which inline code reads
 * @window_base: host address of GPA 0 in the space's window, or 0
 * @hot_first:   first address of the largest stretch that inline code may read and write
 * @hot_starts:  number of addresses from there at which an access of 8 bytes may begin; 0 if there
 *               is no such stretch
 * @slots:       @nr_slots addresses of a struct gm_leaf or, plus 1, of a struct gm_dir
 * @shift:       a slot is 1 << @shift bytes
 * @nr_slots:    number of slots; addresses in or above slot @nr_slots are not mapped
 * @version:     GM_VIEW_VERSION
 * @reserved:    zero
 * @generation:  rises by at least one with each published change of the space
 * @filter:      NULL if nobody logs writes. A bit for each 4 KiB of the window: a write to it need not
 *               be told to gm_view_mark()
 *
 * Borrowed from the reader until its section ends. Do not build one; the library keeps more behind
 * it.
 */
struct gm_view {
	uint64_t window_base;
	uint64_t hot_first;
	uint64_t hot_starts;
	const uintptr_t *slots;
	uint32_t shift;
	uint32_t nr_slots;
	uint32_t version;
	uint32_t reserved;
	uint64_t generation;
	const uint64_t *filter;
};

/**
 * gm_reader_create() - register a reader with a space
 * @space:      borrowed; must outlive the reader
 * @name:       copied (31 bytes), named in errors when it holds up a change; may be NULL
 * @ret_reader: the reader, destroyed with gm_reader_destroy()
 * @err:        optional
 *
 * A reader is used by one thread at a time.
 * Returns 0, -ENOMEM, or -ENOTSUP when this header and the library do not fit together.
 * Threads: any. Since: 0.1.
 */
GM_INLINE int gm_reader_create(struct gm_space *space, const char *name,
	struct gm_reader **ret_reader, struct gm_error *err);

/**
 * gm_reader_create_checked() - what gm_reader_create() calls
 * @space:      as above
 * @name:       as above
 * @view_size:  sizeof(struct gm_view) in the caller's header
 * @version:    GM_VIEW_VERSION in the caller's header
 * @table:      exception table of the caller's inline accesses (guard.h), borrowed until the reader
 * is destroyed
 * @table_end:  its end; NULL or equal to @table when there is none
 * @ret_reader: as above
 * @err:        optional
 *
 * Threads: any. Since: 0.1.
 */
GM_API int gm_reader_create_checked(struct gm_space *space, const char *name, size_t view_size,
	uint32_t version, const void *table, const void *table_end, struct gm_reader **ret_reader,
	struct gm_error *err);

/**
 * gm_reader_destroy() - unregister and free a reader
 * @reader: taken; not in a section; NULL is ignored
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_reader_destroy(struct gm_reader *reader);

/**
 * gm_reader_enter() - begin a section and get the view
 * @reader: borrowed
 *
 * Sections nest; an inner one may get a newer view. Never fails, never blocks.
 * Returns the view, borrowed until the matching gm_reader_leave().
 * Threads: owner only. Since: 0.1.
 */
GM_API const struct gm_view *gm_reader_enter(struct gm_reader *reader);

/**
 * gm_reader_leave() - end a section
 * @reader: borrowed; in a section
 *
 * Threads: owner only. Since: 0.1.
 */
GM_API void gm_reader_leave(struct gm_reader *reader);

/**
 * gm_view_generation() - generation of a view
 * @view: borrowed
 *
 * Two views of a space with the same generation are the same.
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE uint64_t gm_view_generation(const struct gm_view *view);

/**
 * gm_view_check() - is a whole range mapped with these permissions?
 * @view:  borrowed
 * @gpa:   first guest physical address
 * @len:   bytes; with 0 the address alone is checked
 * @perms: GM_PERM_* bits that all of it must have
 *
 * Returns 0, -EFAULT, -EACCES or -ERANGE, as the access functions do.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_view_check(const struct gm_view *view, uint64_t gpa, uint64_t len, uint32_t perms);

/**
 * gm_view_gpa() - guest address of a host address
 * @view:    borrowed
 * @hva:     a host address
 * @ret_gpa: the guest physical address, on success
 *
 * Where a block is reached under several guest addresses, the lowest is returned.
 * Returns 0, or -EFAULT when no region of the view has its memory there.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_view_gpa(const struct gm_view *view, const void *hva, uint64_t *ret_gpa);

/**
 * gm_view_mark() - say that bytes were written by other ways than this library's
 * @view: borrowed
 * @gpa:  first address
 * @len:  bytes, 0 marks nothing
 *
 * After they were written. Marks them in all logs (log.h), under all their names.
 * Threads: reader section. Since: 0.1.
 */
GM_API __attribute__((cold)) void gm_view_mark(
	const struct gm_view *view, uint64_t gpa, uint64_t len);

/**
 * gm_space_synchronize() - wait until all sections that have begun are over
 * @space:      borrowed
 * @timeout_ns: at most so long; 0 = the space's default
 * @err:        optional; names the readers that hold it up
 *
 * Must not be called in a section or by a thread that serves page faults.
 * Meanwhile changes of the space, and other waits for it, are -EBUSY.
 * Returns 0, -ETIMEDOUT, -EBUSY (a transaction is open, or another thread waits), -EDEADLK (in a
 * device's callback), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_synchronize(struct gm_space *space, uint64_t timeout_ns, struct gm_error *err);

/**
 * gm_space_defer() - have something done when all sections that have begun are over
 * @space: borrowed
 * @fn:    called once, by the thread that finds that they are: in a later change of the space,
 *         gm_space_reclaim(), gm_space_wait(), gm_space_synchronize() or gm_space_destroy(), with no
 *         lock held; it must not change the space
 * @ctx:   passed to @fn
 * @err:   optional
 *
 * Does not wait; for threads that must not, such as those that serve page faults.
 * Returns 0, -EBUSY (a transaction is open, or a thread waits for readers), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_defer(
	struct gm_space *space, void (*fn)(void *ctx), void *ctx, struct gm_error *err);

/**
 * gm_space_reclaim() - give back what no reader uses any more
 * @space: borrowed
 *
 * Does not wait. Returns the number of old views that are still held, or -EBUSY (a
 * transaction is open, or a thread waits for readers).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_reclaim(struct gm_space *space);

/**
 * gm_space_wait() - wait until nothing is held back
 * @space:      borrowed
 * @timeout_ns: at most so long; 0 = the space's default
 * @err:        optional; names the readers that hold it up
 *
 * Must not be called in a section or by a thread that serves page faults.
 * Meanwhile changes of the space, and other waits for it, are -EBUSY.
 * Returns 0, -ETIMEDOUT, -EBUSY (as above), -EDEADLK (in a device's callback).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_wait(struct gm_space *space, uint64_t timeout_ns, struct gm_error *err);

#include <guestmem/inline/view.h>

#ifdef __cplusplus
}
#endif

#endif
