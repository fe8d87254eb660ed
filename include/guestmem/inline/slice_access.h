/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/slice_access.h - bodies of slice_access.h. Included by it.
 *
 * The short way is an access that lies in the slice and in what the pin holds, with its permission,
 * and one guarded instruction or copy. All else, a fault as well, is decided out of line.
 */
#ifndef GUESTMEM_INLINE_SLICE_ACCESS_H
#define GUESTMEM_INLINE_SLICE_ACCESS_H

#include <guestmem/inline/access.h>

#ifdef __cplusplus
static_assert(sizeof(struct gm_pin) == 72, "frozen");
static_assert(GM_NUMBER_LE + GM_NUMBER_BE == GM_HOW_SWAP, "a number says how it is loaded");
extern "C" {
#else
_Static_assert(sizeof(struct gm_pin) == 72, "frozen");
_Static_assert(GM_NUMBER_LE + GM_NUMBER_BE == GM_HOW_SWAP, "a number says how it is loaded");
#endif

/* The host address of @len bytes, not 0, at @off; NULL if they may not be touched so. */
static inline __attribute__((unused, always_inline)) void *gm_slice_at(const struct iovec *slice,
	const struct gm_pin *pin, uint64_t off, uint64_t len, uint32_t perm)
{
	uintptr_t hva = (uintptr_t)slice->iov_base + off;

	if (__builtin_expect(len > slice->iov_len || off > slice->iov_len - len || len > pin->len ||
				     hva - (uintptr_t)pin->hva > pin->len - len ||
				     !(pin->perms & perm),
		    0))
		return NULL;
	return (void *)hva;
}

/*
 * Behind a write: is anybody to be told? The logs of a space begin with a word that is 0 if not. The
 * look comes after the data in the program; who sets the word makes sure that it did in memory as well.
 */
static inline __attribute__((unused, always_inline)) int gm_slice_is_logged(
	const struct gm_pin *pin)
{
	uint32_t told = 0;

	__asm__ volatile("" ::: "memory");
	for (int i = 0; i < 2; i++) {
		const uint32_t *logs = (const uint32_t *)((uintptr_t)pin->logs[i] & ~(uintptr_t)1);

		if (logs)
			told |= __atomic_load_n(logs, __ATOMIC_RELAXED);
	}
	return told != 0;
}

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

#if GM_GUARDED

GM_INLINE int gm_slice_read(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	void *buf, size_t len, size_t *done)
{
	const void *hva = gm_slice_at(slice, pin, off, len, GM_PERM_R);

	if (__builtin_expect(!hva || !len || gm_guard_copy_from(buf, hva, len, NULL), 0))
		return gm_slice_read_slow(slice, pin, off, buf, len, done);
	if (done)
		*done = len;
	return 0;
}

GM_INLINE int gm_slice_write(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	const void *buf, size_t len, size_t *done)
{
	void *hva = gm_slice_at(slice, pin, off, len, GM_PERM_W);

	if (__builtin_expect(!hva || !len || gm_guard_copy_to(hva, buf, len, NULL), 0))
		return gm_slice_write_slow(slice, pin, off, buf, len, done);
	if (__builtin_expect(gm_slice_is_logged(pin), 0))
		gm_slice_mark(slice, pin, off, len);
	if (done)
		*done = len;
	return 0;
}

#define GM_SLICE_LOAD(bits)                                                                        \
	case bits / 8: {                                                                           \
		uint##bits##_t value;                                                              \
                                                                                                   \
		if (!gm_guarded_load_u##bits(hva, &value, order))                                  \
			return 0;                                                                  \
		*ret = gm_swap_u##bits(value, number);                                             \
		return 1;                                                                          \
	}

#define GM_SLICE_STORE(bits)                                                                       \
	case bits / 8:                                                                             \
		return gm_guarded_store_u##bits(                                                   \
			hva, gm_swap_u##bits((uint##bits##_t)value, number), order);

/* Both return 1, or 0 after a fault or of another width. */
static inline __attribute__((unused, always_inline)) int gm_slice_load_number(
	const void *hva, uint32_t number, int order, uint64_t *ret)
{
	switch (number & ~GM_HOW_SWAP) {
		GM_SLICE_LOAD(8)
		GM_SLICE_LOAD(16)
		GM_SLICE_LOAD(32)
		GM_SLICE_LOAD(64)
	default:
		return 0;
	}
}

static inline __attribute__((unused, always_inline)) int gm_slice_store_number(
	void *hva, uint32_t number, int order, uint64_t value)
{
	switch (number & ~GM_HOW_SWAP) {
		GM_SLICE_STORE(8)
		GM_SLICE_STORE(16)
		GM_SLICE_STORE(32)
		GM_SLICE_STORE(64)
	default:
		return 0;
	}
}

#undef GM_SLICE_LOAD
#undef GM_SLICE_STORE

GM_INLINE int gm_slice_load(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t *ret)
{
	uint64_t size = GM_HOW_SIZE(number);
	const void *hva = gm_slice_at(slice, pin, off, size, GM_PERM_R);

	if (__builtin_expect(
		    hva && (order == __ATOMIC_RELAXED || ((uintptr_t)hva & (size - 1)) == 0) &&
			    gm_slice_load_number(hva, number, order, ret),
		    1))
		return 0;
	return gm_slice_load_slow(slice, pin, off, number, order, ret);
}

GM_INLINE int gm_slice_store(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t value)
{
	uint64_t size = GM_HOW_SIZE(number);
	void *hva = gm_slice_at(slice, pin, off, size, GM_PERM_W);

	if (__builtin_expect(
		    !hva || (order != __ATOMIC_RELAXED && ((uintptr_t)hva & (size - 1)) != 0) ||
			    !gm_slice_store_number(hva, number, order, value),
		    0))
		return gm_slice_store_slow(slice, pin, off, number, order, value);
	if (__builtin_expect(gm_slice_is_logged(pin), 0))
		gm_slice_mark(slice, pin, off, size);
	return 0;
}

#else

GM_INLINE int gm_slice_read(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	void *buf, size_t len, size_t *done)
{
	return gm_slice_read_slow(slice, pin, off, buf, len, done);
}

GM_INLINE int gm_slice_write(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	const void *buf, size_t len, size_t *done)
{
	return gm_slice_write_slow(slice, pin, off, buf, len, done);
}

GM_INLINE int gm_slice_load(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t *ret)
{
	return gm_slice_load_slow(slice, pin, off, number, order, ret);
}

GM_INLINE int gm_slice_store(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	uint32_t number, int order, uint64_t value)
{
	return gm_slice_store_slow(slice, pin, off, number, order, value);
}

#endif

#endif

#ifdef __cplusplus
}
#endif

#endif
