/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/access.h - bodies of access.h. Included by it.
 *
 * The short way is the main memory, and one guarded instruction. Then comes any span of the window
 * that holds the whole access with permission (gm_find_*). Everything else, a fault as well, is
 * decided out of line, where the access is made again: one that faulted has not happened.
 */
#ifndef GUESTMEM_INLINE_ACCESS_H
#define GUESTMEM_INLINE_ACCESS_H

#include <guestmem/inline/few.h>
#include <guestmem/inline/guarded.h>

/* How gm_load_slow() and gm_store_slow() work: bytes, memory order, byte order. */
#define GM_HOW_SIZE(how) ((how)&0xfu)
#define GM_HOW_ORDER(how) ((int)((how) >> 4 & 0xfu))
#define GM_HOW_ATOMIC 0x100u /* must be aligned; has an order */
#define GM_HOW_SWAP 0x200u   /* the other byte order */
#define GM_HOW_MAKE_ATOMIC(size, order)                                                            \
	((uint32_t)(size) | ((uint32_t)(order)&0xfu) << 4 | GM_HOW_ATOMIC)

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define GM_HOW_LE 0u
#define GM_HOW_BE GM_HOW_SWAP
#else
#define GM_HOW_LE GM_HOW_SWAP
#define GM_HOW_BE 0u
#endif

static inline __attribute__((unused, always_inline)) uint16_t gm_swap_u16(uint16_t v, uint32_t how)
{
	return how & GM_HOW_SWAP ? __builtin_bswap16(v) : v;
}

static inline __attribute__((unused, always_inline)) uint32_t gm_swap_u32(uint32_t v, uint32_t how)
{
	return how & GM_HOW_SWAP ? __builtin_bswap32(v) : v;
}

static inline __attribute__((unused, always_inline)) uint64_t gm_swap_u64(uint64_t v, uint32_t how)
{
	return how & GM_HOW_SWAP ? __builtin_bswap64(v) : v;
}

static inline __attribute__((unused, always_inline)) uint8_t gm_swap_u8(uint8_t v, uint32_t how)
{
	(void)how;
	return v;
}

#if GM_GUARDED

/* A copy from or to the main memory; 1, or 0 after a fault. */
GM_INLINE_ONLY int gm_copy_in(void *buf, const void *hva, size_t len)
{
	return GM_IS_FEW(len) ? gm_load_few((uint8_t *)buf, (const uint8_t *)hva, len)
			      : !gm_guard_copy_from(buf, hva, len, NULL);
}

GM_INLINE_ONLY int gm_copy_out(void *hva, const void *buf, size_t len)
{
	return GM_IS_FEW(len) ? gm_store_few((uint8_t *)hva, (const uint8_t *)buf, len)
			      : !gm_guard_copy_to(hva, buf, len, NULL);
}

GM_SHARED int gm_find_read(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t len, size_t *done)
{
	void *hva;

	if (!gm_view_find(view, gpa, len, GM_PERM_R, &hva) ||
		gm_guard_copy_from(buf, hva, len, NULL))
		return gm_read_slow(view, gpa, buf, len, done);
	if (done)
		*done = len;
	return 0;
}

GM_INLINE int gm_read(const struct gm_view *view, uint64_t gpa, void *buf, size_t len, size_t *done)
{
	if (__builtin_expect(!gm_view_is_hot(view, gpa, len) ||
				     !gm_copy_in(buf, gm_view_hot(view, gpa), len),
		    0))
		return gm_find_read(view, gpa, buf, len, done);
	if (done)
		*done = len;
	return 0;
}

GM_SHARED int gm_find_write(
	const struct gm_view *view, uint64_t gpa, const void *buf, size_t len, size_t *done)
{
	void *hva;

	if (!gm_view_find(view, gpa, len, GM_PERM_W, &hva) || gm_guard_copy_to(hva, buf, len, NULL))
		return gm_write_slow(view, gpa, buf, len, done);
	if (__builtin_expect(!gm_view_marked(view, gpa, len), 0))
		gm_view_mark(view, gpa, len);
	if (done)
		*done = len;
	return 0;
}

GM_INLINE int gm_write(
	const struct gm_view *view, uint64_t gpa, const void *buf, size_t len, size_t *done)
{
	if (__builtin_expect(!gm_view_is_hot(view, gpa, len) ||
				     !gm_copy_out(gm_view_hot(view, gpa), buf, len),
		    0))
		return gm_find_write(view, gpa, buf, len, done);
	if (__builtin_expect(!gm_view_marked(view, gpa, len), 0))
		gm_view_mark(view, gpa, len);
	if (done)
		*done = len;
	return 0;
}

#define GM_DEFINE_READ(name, bits, how)                                                            \
	GM_SHARED int gm_find_read_##name(                                                         \
		const struct gm_view *view, uint64_t gpa, uint##bits##_t *ret)                     \
	{                                                                                          \
		void *hva;                                                                         \
		uint##bits##_t value;                                                              \
                                                                                                   \
		if (!gm_view_find(view, gpa, bits / 8, GM_PERM_R, &hva) ||                         \
			!gm_guarded_load_u##bits(hva, &value, __ATOMIC_RELAXED))                   \
			return gm_load_slow(view, gpa, bits / 8 | (how), ret);                     \
		*ret = gm_swap_u##bits(value, how);                                                \
		return 0;                                                                          \
	}                                                                                          \
	GM_INLINE int gm_read_##name(                                                              \
		const struct gm_view *view, uint64_t gpa, uint##bits##_t *ret)                     \
	{                                                                                          \
		uint##bits##_t value;                                                              \
                                                                                                   \
		if (__builtin_expect(gm_view_is_hot(view, gpa, bits / 8) &&                        \
					     gm_guarded_load_u##bits(gm_view_hot(view, gpa),       \
						     &value, __ATOMIC_RELAXED),                    \
			    1)) {                                                                  \
			*ret = gm_swap_u##bits(value, how);                                        \
			return 0;                                                                  \
		}                                                                                  \
		return gm_find_read_##name(view, gpa, ret);                                        \
	}

#define GM_DEFINE_WRITE(name, bits, how)                                                           \
	GM_SHARED int gm_find_write_##name(                                                        \
		const struct gm_view *view, uint64_t gpa, uint##bits##_t value)                    \
	{                                                                                          \
		void *hva;                                                                         \
                                                                                                   \
		if (!gm_view_find(view, gpa, bits / 8, GM_PERM_W, &hva) ||                         \
			!gm_guarded_store_u##bits(                                                 \
				hva, gm_swap_u##bits(value, how), __ATOMIC_RELAXED))               \
			return gm_store_slow(view, gpa, bits / 8 | (how), value);                  \
		if (__builtin_expect(!gm_view_marked(view, gpa, bits / 8), 0))                     \
			gm_view_mark(view, gpa, bits / 8);                                         \
		return 0;                                                                          \
	}                                                                                          \
	GM_INLINE int gm_write_##name(                                                             \
		const struct gm_view *view, uint64_t gpa, uint##bits##_t value)                    \
	{                                                                                          \
		if (__builtin_expect(                                                              \
			    gm_view_is_hot(view, gpa, bits / 8) &&                                 \
				    gm_guarded_store_u##bits(gm_view_hot(view, gpa),               \
					    gm_swap_u##bits(value, how), __ATOMIC_RELAXED),        \
			    1)) {                                                                  \
			if (__builtin_expect(!gm_view_marked(view, gpa, bits / 8), 0))             \
				gm_view_mark(view, gpa, bits / 8);                                 \
			return 0;                                                                  \
		}                                                                                  \
		return gm_find_write_##name(view, gpa, value);                                     \
	}

#else

GM_INLINE int gm_read(const struct gm_view *view, uint64_t gpa, void *buf, size_t len, size_t *done)
{
	return gm_read_slow(view, gpa, buf, len, done);
}

GM_INLINE int gm_write(
	const struct gm_view *view, uint64_t gpa, const void *buf, size_t len, size_t *done)
{
	return gm_write_slow(view, gpa, buf, len, done);
}

#define GM_DEFINE_READ(name, bits, how)                                                            \
	GM_INLINE int gm_read_##name(                                                              \
		const struct gm_view *view, uint64_t gpa, uint##bits##_t *ret)                     \
	{                                                                                          \
		return gm_load_slow(view, gpa, bits / 8 | (how), ret);                             \
	}

#define GM_DEFINE_WRITE(name, bits, how)                                                           \
	GM_INLINE int gm_write_##name(                                                             \
		const struct gm_view *view, uint64_t gpa, uint##bits##_t value)                    \
	{                                                                                          \
		return gm_store_slow(view, gpa, bits / 8 | (how), value);                          \
	}

#endif

GM_DEFINE_READ(u8, 8, 0u)
GM_DEFINE_READ(u16, 16, 0u)
GM_DEFINE_READ(u32, 32, 0u)
GM_DEFINE_READ(u64, 64, 0u)
GM_DEFINE_READ(le16, 16, GM_HOW_LE)
GM_DEFINE_READ(le32, 32, GM_HOW_LE)
GM_DEFINE_READ(le64, 64, GM_HOW_LE)
GM_DEFINE_READ(be16, 16, GM_HOW_BE)
GM_DEFINE_READ(be32, 32, GM_HOW_BE)
GM_DEFINE_READ(be64, 64, GM_HOW_BE)

GM_DEFINE_WRITE(u8, 8, 0u)
GM_DEFINE_WRITE(u16, 16, 0u)
GM_DEFINE_WRITE(u32, 32, 0u)
GM_DEFINE_WRITE(u64, 64, 0u)
GM_DEFINE_WRITE(le16, 16, GM_HOW_LE)
GM_DEFINE_WRITE(le32, 32, GM_HOW_LE)
GM_DEFINE_WRITE(le64, 64, GM_HOW_LE)
GM_DEFINE_WRITE(be16, 16, GM_HOW_BE)
GM_DEFINE_WRITE(be32, 32, GM_HOW_BE)
GM_DEFINE_WRITE(be64, 64, GM_HOW_BE)

#undef GM_DEFINE_READ
#undef GM_DEFINE_WRITE

#endif

#endif
