/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/few.h - copies of a few bytes, of a length that the compiler knows, by single loads and stores. Not for
 * direct use.
 */
#ifndef GUESTMEM_INLINE_FEW_H
#define GUESTMEM_INLINE_FEW_H

#include <stddef.h>

#include <guestmem/inline/guarded.h>

#if GM_GUARDED

/* Is it known when compiling that @len bytes are a few numbers? Then they are accessed here. */
#define GM_IS_FEW(len) (__builtin_constant_p(len) && (len)-1 < 16)

/* Where the number of @bits is among @len bytes: behind the wider ones. */
#define GM_PART_AT(bits) (len & (16 - (bits) / 4))

#define GM_LOAD_PART(bits)                                                                         \
	if ((len & (bits / 8)) &&                                                                  \
		!gm_guarded_load_u##bits(hva + GM_PART_AT(bits), &u##bits, __ATOMIC_RELAXED))      \
		return 0;
#define GM_KEEP_PART(bits)                                                                         \
	if (len & (bits / 8))                                                                      \
		__builtin_memcpy(buf + GM_PART_AT(bits), &u##bits, bits / 8);
#define GM_STORE_PART(bits)                                                                        \
	if (len & (bits / 8)) {                                                                    \
		__builtin_memcpy(&u##bits, buf + GM_PART_AT(bits), bits / 8);                      \
		if (!gm_guarded_store_u##bits(hva + GM_PART_AT(bits), u##bits, __ATOMIC_RELAXED))  \
			return 0;                                                                  \
	}

/* Both return 1, or 0 after a fault; then nothing has come to @buf. @len is a constant from 1 to 16. */
GM_INLINE_ONLY int gm_load_few(uint8_t *buf, const uint8_t *hva, size_t len)
{
	uint64_t u64;
	uint64_t second;
	uint32_t u32;
	uint16_t u16;
	uint8_t u8;

	if (len == 16) {
		if (!gm_guarded_load_u64(hva, &u64, __ATOMIC_RELAXED) ||
			!gm_guarded_load_u64(hva + 8, &second, __ATOMIC_RELAXED))
			return 0;
		__builtin_memcpy(buf, &u64, 8);
		__builtin_memcpy(buf + 8, &second, 8);
		return 1;
	}
	GM_LOAD_PART(64)
	GM_LOAD_PART(32)
	GM_LOAD_PART(16)
	GM_LOAD_PART(8)
	GM_KEEP_PART(64)
	GM_KEEP_PART(32)
	GM_KEEP_PART(16)
	GM_KEEP_PART(8)
	return 1;
}

GM_INLINE_ONLY int gm_store_few(uint8_t *hva, const uint8_t *buf, size_t len)
{
	uint64_t u64;
	uint32_t u32;
	uint16_t u16;
	uint8_t u8;

	if (len == 16) {
		uint64_t second;

		__builtin_memcpy(&u64, buf, 8);
		__builtin_memcpy(&second, buf + 8, 8);
		return gm_guarded_store_u64(hva, u64, __ATOMIC_RELAXED) &&
		       gm_guarded_store_u64(hva + 8, second, __ATOMIC_RELAXED);
	}
	GM_STORE_PART(64)
	GM_STORE_PART(32)
	GM_STORE_PART(16)
	GM_STORE_PART(8)
	return 1;
}

#undef GM_PART_AT
#undef GM_LOAD_PART
#undef GM_KEEP_PART
#undef GM_STORE_PART

#endif

#endif
