/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/cache.h - bodies of cache.h. Included by it.
 *
 * The short way is a range that was found in this very view and holds the whole access. All else,
 * a fault as well, is decided out of line.
 */
#ifndef GUESTMEM_INLINE_CACHE_H
#define GUESTMEM_INLINE_CACHE_H

#include <guestmem/inline/access.h>
#include <guestmem/inline/view.h>

#ifdef __cplusplus
static_assert(sizeof(struct gm_cache) == 64, "frozen");
#else
_Static_assert(sizeof(struct gm_cache) == 64, "frozen");
#endif

/*
 * The host address of @len bytes at @off, of which @room may be used; NULL if there is none in this
 * view. Memory is mapped while its view is in use, so what was found in a view holds in it.
 */
static inline __attribute__((unused, always_inline)) void *gm_cache_at(const struct gm_cache *cache,
	const struct gm_view *view, uint64_t off, uint64_t len, uint64_t room)
{
	if (__builtin_expect(
		    cache->generation != view->generation || len > room || off > room - len, 0))
		return NULL;
	return (void *)(uintptr_t)(cache->hva + off);
}

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

#if GM_GUARDED

GM_INLINE int gm_cache_read(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	void *buf, size_t len, size_t *done)
{
	const void *hva = gm_cache_at(cache, view, off, len, cache->read_len);

	if (__builtin_expect(!hva || !len || gm_guard_copy_from(buf, hva, len, NULL), 0))
		return gm_cache_read_slow(cache, view, off, buf, len, done);
	if (done)
		*done = len;
	return 0;
}

GM_INLINE int gm_cache_write(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	const void *buf, size_t len, size_t *done)
{
	void *hva = gm_cache_at(cache, view, off, len, cache->write_len);

	if (__builtin_expect(!hva || !len || gm_guard_copy_to(hva, buf, len, NULL), 0))
		return gm_cache_write_slow(cache, view, off, buf, len, done);
	if (__builtin_expect(!gm_view_marked(view, cache->gpa + off, len), 0))
		gm_view_mark(view, cache->gpa + off, len);
	if (done)
		*done = len;
	return 0;
}

#define GM_DEFINE_CACHE_READ(name, bits, how)                                                      \
	GM_INLINE int gm_cache_read_##name(struct gm_cache *cache, const struct gm_view *view,     \
		uint64_t off, uint##bits##_t *ret)                                                 \
	{                                                                                          \
		const void *hva = gm_cache_at(cache, view, off, bits / 8, cache->read_len);        \
		uint##bits##_t value;                                                              \
                                                                                                   \
		if (__builtin_expect(                                                              \
			    hva && gm_guarded_load_u##bits(hva, &value, __ATOMIC_RELAXED), 1)) {   \
			*ret = gm_swap_u##bits(value, how);                                        \
			return 0;                                                                  \
		}                                                                                  \
		return gm_cache_load_slow(cache, view, off, bits / 8 | (how), ret);                \
	}

#define GM_DEFINE_CACHE_WRITE(name, bits, how)                                                     \
	GM_INLINE int gm_cache_write_##name(struct gm_cache *cache, const struct gm_view *view,    \
		uint64_t off, uint##bits##_t value)                                                \
	{                                                                                          \
		void *hva = gm_cache_at(cache, view, off, bits / 8, cache->write_len);             \
                                                                                                   \
		if (__builtin_expect(                                                              \
			    hva && gm_guarded_store_u##bits(                                       \
					   hva, gm_swap_u##bits(value, how), __ATOMIC_RELAXED),    \
			    1)) {                                                                  \
			if (__builtin_expect(                                                      \
				    !gm_view_marked(view, cache->gpa + off, bits / 8), 0))         \
				gm_view_mark(view, cache->gpa + off, bits / 8);                    \
			return 0;                                                                  \
		}                                                                                  \
		return gm_cache_store_slow(cache, view, off, bits / 8 | (how), value);             \
	}

/* Neither the guest's address nor, where a caller's memory is mapped askew, the host's may be odd. */
#define GM_DEFINE_CACHE_ATOMIC(bits)                                                               \
	GM_INLINE int gm_cache_load_u##bits(struct gm_cache *cache, const struct gm_view *view,    \
		uint64_t off, int order, uint##bits##_t *ret)                                      \
	{                                                                                          \
		const void *hva = gm_cache_at(cache, view, off, bits / 8, cache->read_len);        \
		uint##bits##_t value;                                                              \
                                                                                                   \
		if (__builtin_expect(                                                              \
			    hva && ((uintptr_t)hva | (cache->gpa + off)) % (bits / 8) == 0 &&      \
				    gm_guarded_load_u##bits(hva, &value, order),                   \
			    1)) {                                                                  \
			*ret = value;                                                              \
			return 0;                                                                  \
		}                                                                                  \
		return gm_cache_load_slow(                                                         \
			cache, view, off, GM_HOW_MAKE_ATOMIC(bits / 8, order), ret);               \
	}                                                                                          \
	GM_INLINE int gm_cache_store_u##bits(struct gm_cache *cache, const struct gm_view *view,   \
		uint64_t off, int order, uint##bits##_t value)                                     \
	{                                                                                          \
		void *hva = gm_cache_at(cache, view, off, bits / 8, cache->write_len);             \
                                                                                                   \
		if (__builtin_expect(                                                              \
			    hva && ((uintptr_t)hva | (cache->gpa + off)) % (bits / 8) == 0 &&      \
				    gm_guarded_store_u##bits(hva, value, order),                   \
			    1)) {                                                                  \
			if (__builtin_expect(                                                      \
				    !gm_view_marked(view, cache->gpa + off, bits / 8), 0))         \
				gm_view_mark(view, cache->gpa + off, bits / 8);                    \
			return 0;                                                                  \
		}                                                                                  \
		return gm_cache_store_slow(                                                        \
			cache, view, off, GM_HOW_MAKE_ATOMIC(bits / 8, order), value);             \
	}

#else

GM_INLINE int gm_cache_read(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	void *buf, size_t len, size_t *done)
{
	return gm_cache_read_slow(cache, view, off, buf, len, done);
}

GM_INLINE int gm_cache_write(struct gm_cache *cache, const struct gm_view *view, uint64_t off,
	const void *buf, size_t len, size_t *done)
{
	return gm_cache_write_slow(cache, view, off, buf, len, done);
}

#define GM_DEFINE_CACHE_READ(name, bits, how)                                                      \
	GM_INLINE int gm_cache_read_##name(struct gm_cache *cache, const struct gm_view *view,     \
		uint64_t off, uint##bits##_t *ret)                                                 \
	{                                                                                          \
		return gm_cache_load_slow(cache, view, off, bits / 8 | (how), ret);                \
	}

#define GM_DEFINE_CACHE_WRITE(name, bits, how)                                                     \
	GM_INLINE int gm_cache_write_##name(struct gm_cache *cache, const struct gm_view *view,    \
		uint64_t off, uint##bits##_t value)                                                \
	{                                                                                          \
		return gm_cache_store_slow(cache, view, off, bits / 8 | (how), value);             \
	}

#define GM_DEFINE_CACHE_ATOMIC(bits)                                                               \
	GM_INLINE int gm_cache_load_u##bits(struct gm_cache *cache, const struct gm_view *view,    \
		uint64_t off, int order, uint##bits##_t *ret)                                      \
	{                                                                                          \
		return gm_cache_load_slow(                                                         \
			cache, view, off, GM_HOW_MAKE_ATOMIC(bits / 8, order), ret);               \
	}                                                                                          \
	GM_INLINE int gm_cache_store_u##bits(struct gm_cache *cache, const struct gm_view *view,   \
		uint64_t off, int order, uint##bits##_t value)                                     \
	{                                                                                          \
		return gm_cache_store_slow(                                                        \
			cache, view, off, GM_HOW_MAKE_ATOMIC(bits / 8, order), value);             \
	}

#endif

GM_DEFINE_CACHE_READ(u8, 8, 0u)
GM_DEFINE_CACHE_READ(u16, 16, 0u)
GM_DEFINE_CACHE_READ(u32, 32, 0u)
GM_DEFINE_CACHE_READ(u64, 64, 0u)
GM_DEFINE_CACHE_READ(le16, 16, GM_HOW_LE)
GM_DEFINE_CACHE_READ(le32, 32, GM_HOW_LE)
GM_DEFINE_CACHE_READ(le64, 64, GM_HOW_LE)
GM_DEFINE_CACHE_READ(be16, 16, GM_HOW_BE)
GM_DEFINE_CACHE_READ(be32, 32, GM_HOW_BE)
GM_DEFINE_CACHE_READ(be64, 64, GM_HOW_BE)

GM_DEFINE_CACHE_WRITE(u8, 8, 0u)
GM_DEFINE_CACHE_WRITE(u16, 16, 0u)
GM_DEFINE_CACHE_WRITE(u32, 32, 0u)
GM_DEFINE_CACHE_WRITE(u64, 64, 0u)
GM_DEFINE_CACHE_WRITE(le16, 16, GM_HOW_LE)
GM_DEFINE_CACHE_WRITE(le32, 32, GM_HOW_LE)
GM_DEFINE_CACHE_WRITE(le64, 64, GM_HOW_LE)
GM_DEFINE_CACHE_WRITE(be16, 16, GM_HOW_BE)
GM_DEFINE_CACHE_WRITE(be32, 32, GM_HOW_BE)
GM_DEFINE_CACHE_WRITE(be64, 64, GM_HOW_BE)

GM_DEFINE_CACHE_ATOMIC(8)
GM_DEFINE_CACHE_ATOMIC(16)
GM_DEFINE_CACHE_ATOMIC(32)
GM_DEFINE_CACHE_ATOMIC(64)

#undef GM_DEFINE_CACHE_READ
#undef GM_DEFINE_CACHE_WRITE
#undef GM_DEFINE_CACHE_ATOMIC

#endif

#endif
