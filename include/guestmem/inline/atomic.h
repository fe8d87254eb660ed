/* SPDX-License-Identifier: BSD-3-Clause */
/* inline/atomic.h - bodies of the atomic loads and stores of atomic.h. Included by it. */
#ifndef GUESTMEM_INLINE_ATOMIC_H
#define GUESTMEM_INLINE_ATOMIC_H

#include <guestmem/inline/guarded.h>

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

#if GM_GUARDED

#define GM_DEFINE_ATOMIC(bits)                                                                     \
	GM_SHARED int gm_find_load_u##bits(                                                        \
		const struct gm_view *view, uint64_t gpa, int order, uint##bits##_t *ret)          \
	{                                                                                          \
		void *hva;                                                                         \
                                                                                                   \
		if (gpa % (bits / 8) == 0 && gm_view_find(view, gpa, bits / 8, GM_PERM_R, &hva) && \
			gm_guarded_load_u##bits(hva, ret, order))                                  \
			return 0;                                                                  \
		return gm_load_slow(view, gpa, GM_HOW_MAKE_ATOMIC(bits / 8, order), ret);          \
	}                                                                                          \
	GM_INLINE int gm_atomic_load_u##bits(                                                      \
		const struct gm_view *view, uint64_t gpa, int order, uint##bits##_t *ret)          \
	{                                                                                          \
		uint##bits##_t value;                                                              \
                                                                                                   \
		if (__builtin_expect(gpa % (bits / 8) == 0 &&                                      \
					     gm_view_is_hot(view, gpa, bits / 8) &&                \
					     gm_guarded_load_u##bits(                              \
						     gm_view_hot(view, gpa), &value, order),       \
			    1)) {                                                                  \
			*ret = value;                                                              \
			return 0;                                                                  \
		}                                                                                  \
		return gm_find_load_u##bits(view, gpa, order, ret);                                \
	}                                                                                          \
	GM_SHARED int gm_find_store_u##bits(                                                       \
		const struct gm_view *view, uint64_t gpa, int order, uint##bits##_t value)         \
	{                                                                                          \
		void *hva;                                                                         \
                                                                                                   \
		if (gpa % (bits / 8) != 0 ||                                                       \
			!gm_view_find(view, gpa, bits / 8, GM_PERM_W, &hva) ||                     \
			!gm_guarded_store_u##bits(hva, value, order))                              \
			return gm_store_slow(                                                      \
				view, gpa, GM_HOW_MAKE_ATOMIC(bits / 8, order), value);            \
		if (__builtin_expect(!gm_view_marked(view, gpa, bits / 8), 0))                     \
			gm_view_mark(view, gpa, bits / 8);                                         \
		return 0;                                                                          \
	}                                                                                          \
	GM_INLINE int gm_atomic_store_u##bits(                                                     \
		const struct gm_view *view, uint64_t gpa, int order, uint##bits##_t value)         \
	{                                                                                          \
		if (__builtin_expect(gpa % (bits / 8) == 0 &&                                      \
					     gm_view_is_hot(view, gpa, bits / 8) &&                \
					     gm_guarded_store_u##bits(                             \
						     gm_view_hot(view, gpa), value, order),        \
			    1)) {                                                                  \
			if (__builtin_expect(!gm_view_marked(view, gpa, bits / 8), 0))             \
				gm_view_mark(view, gpa, bits / 8);                                 \
			return 0;                                                                  \
		}                                                                                  \
		return gm_find_store_u##bits(view, gpa, order, value);                             \
	}

#else

#define GM_DEFINE_ATOMIC(bits)                                                                     \
	GM_INLINE int gm_atomic_load_u##bits(                                                      \
		const struct gm_view *view, uint64_t gpa, int order, uint##bits##_t *ret)          \
	{                                                                                          \
		return gm_load_slow(view, gpa, GM_HOW_MAKE_ATOMIC(bits / 8, order), ret);          \
	}                                                                                          \
	GM_INLINE int gm_atomic_store_u##bits(                                                     \
		const struct gm_view *view, uint64_t gpa, int order, uint##bits##_t value)         \
	{                                                                                          \
		return gm_store_slow(view, gpa, GM_HOW_MAKE_ATOMIC(bits / 8, order), value);       \
	}

#endif

GM_DEFINE_ATOMIC(8)
GM_DEFINE_ATOMIC(16)
GM_DEFINE_ATOMIC(32)
GM_DEFINE_ATOMIC(64)

#undef GM_DEFINE_ATOMIC

#endif

#endif
