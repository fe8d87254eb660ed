/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache.h - a range that is used again and again, translated once: rings of queues.
 *
 * A cache does what access.h and atomic.h do at its first address plus an offset, with the same
 * rule for all edges. It keeps the host address of its range together with the generation of the
 * view in which that was found; the first use in a newer view looks again. So it never leads to
 * memory that the view of the moment does not show.
 *
 * Nothing is kept, and each use is the ordinary access, where one host address does not stand for
 * the whole range: across regions that lie apart, in far memory (backend.h), at devices, and behind
 * an IOMMU, whose translations may change without a new view.
 *
 * A cache belongs to one thread at a time and to one space: the view that is passed is always one
 * of the space in which it was made. Offsets are counted from its first byte:
 *
 *   beyond its length           -ERANGE; nothing was touched
 *   without its permission      -EACCES; nothing was touched
 *   length 0                    the offset and the permission are checked, nothing is done
 *   all else                    as access.h says of the address
 */
#ifndef GUESTMEM_CACHE_H
#define GUESTMEM_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/access.h>
#include <guestmem/atomic.h>
#include <guestmem/export.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct gm_cache - a range and where it lies; all of it is private
 * @gpa:        first guest physical address
 * @len:        bytes; 0 if it is not set up
 * @hva:        host address of the first byte
 * @generation: of the view that @hva is of
 * @read_len:   bytes that may be read at @hva: @len or 0
 * @write_len:  bytes that may be written at @hva: @len or 0
 * @perms:      GM_PERM_* bits
 * @reserved:   zero
 *
 * In the caller's storage; may be copied and dropped at any time. All zero is an empty one, of which
 * every use is -ERANGE, also of no bytes.
 */
struct gm_cache {
	uint64_t gpa;
	uint64_t len;
	uint64_t hva;
	uint64_t generation;
	uint64_t read_len;
	uint64_t write_len;
	uint32_t perms;
	uint32_t reserved[3];
};

/**
 * gm_cache_init() - set up a cache for a range
 * @cache: of the caller
 * @view:  borrowed
 * @gpa:   first guest physical address
 * @len:   bytes, not 0
 * @perms: GM_PERM_R, GM_PERM_W or both: what it is for
 *
 * All of the range must be mapped with these permissions. Later it need not be: uses then fail at the
 * bytes that are not, and no longer when they are back.
 * Returns 0, -EINVAL (@len 0, other @perms), -ERANGE, -EFAULT, -EACCES, or what a translation
 * returned; on failure @cache is unchanged.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_cache_init(struct gm_cache *cache, const struct gm_view *view, uint64_t gpa,
	uint64_t len, uint32_t perms);

/**
 * gm_cache_read() - gm_read() in a cache
 * @cache: borrowed
 * @view:  borrowed
 * @off:   first byte, from the cache's first
 * @buf:   @len bytes of the caller
 * @len:   bytes
 * @done:  optional: bytes that were copied
 *
 * Returns as gm_read(), and -ERANGE, -EACCES as above.
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_cache_read(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	void *buf, size_t len, size_t *done);

/**
 * gm_cache_write() - gm_write() in a cache
 * @cache: borrowed
 * @view:  borrowed
 * @off:   first byte, from the cache's first
 * @buf:   @len bytes of the caller
 * @len:   bytes
 * @done:  optional: bytes that were copied
 *
 * Returns as gm_cache_read().
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_cache_write(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	const void *buf, size_t len, size_t *done);

/*
 * Typed reads and writes at any alignment: in the host's byte order, little-endian (le), big-endian
 * (be).
 *
 * @cache, @view: borrowed; @off: first byte; @ret: the value, on success; @value: what to write
 *
 * Return as gm_cache_read().
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_cache_read_u8(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint8_t *ret);
GM_INLINE int gm_cache_read_u16(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint16_t *ret);
GM_INLINE int gm_cache_read_u32(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t *ret);
GM_INLINE int gm_cache_read_u64(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint64_t *ret);
GM_INLINE int gm_cache_read_le16(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint16_t *ret);
GM_INLINE int gm_cache_read_le32(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t *ret);
GM_INLINE int gm_cache_read_le64(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint64_t *ret);
GM_INLINE int gm_cache_read_be16(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint16_t *ret);
GM_INLINE int gm_cache_read_be32(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t *ret);
GM_INLINE int gm_cache_read_be64(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint64_t *ret);

GM_INLINE int gm_cache_write_u8(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint8_t value);
GM_INLINE int gm_cache_write_u16(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint16_t value);
GM_INLINE int gm_cache_write_u32(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t value);
GM_INLINE int gm_cache_write_u64(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint64_t value);
GM_INLINE int gm_cache_write_le16(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint16_t value);
GM_INLINE int gm_cache_write_le32(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t value);
GM_INLINE int gm_cache_write_le64(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint64_t value);
GM_INLINE int gm_cache_write_be16(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint16_t value);
GM_INLINE int gm_cache_write_be32(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t value);
GM_INLINE int gm_cache_write_be64(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint64_t value);

/*
 * Atomic loads and stores, as those of atomic.h: the address, not the offset, must be a multiple of
 * the width. An index of a ring is loaded with __ATOMIC_ACQUIRE and stored with __ATOMIC_RELEASE.
 *
 * @cache, @view: borrowed; @off: first byte; @order: best a constant; @ret: the value, on success;
 * @value: what to store
 *
 * Return as gm_cache_read(), and -EINVAL (not aligned), -ENOTSUP (a device).
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_cache_load_u8(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, int order, uint8_t *ret);
GM_INLINE int gm_cache_load_u16(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, int order, uint16_t *ret);
GM_INLINE int gm_cache_load_u32(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, int order, uint32_t *ret);
GM_INLINE int gm_cache_load_u64(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, int order, uint64_t *ret);
GM_INLINE int gm_cache_store_u8(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, int order, uint8_t value);
GM_INLINE int gm_cache_store_u16(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	int order, uint16_t value);
GM_INLINE int gm_cache_store_u32(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	int order, uint32_t value);
GM_INLINE int gm_cache_store_u64(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	int order, uint64_t value);

/*
 * What the inline functions call; not for direct use, and no promise beyond that. As the functions
 * of access.h of the like names.
 */
GM_API int gm_cache_load_slow(
	struct gm_cache *cache, const struct gm_view *view, uint64_t off, uint32_t how, void *ret);
GM_API int gm_cache_store_slow(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	uint32_t how, uint64_t value);
GM_API int gm_cache_read_slow(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	void *buf, size_t len, size_t *done);
GM_API int gm_cache_write_slow(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	const void *buf, size_t len, size_t *done);

#include <guestmem/inline/cache.h>

#ifdef __cplusplus
}
#endif

#endif
