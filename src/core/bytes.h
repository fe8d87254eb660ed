/* SPDX-License-Identifier: BSD-3-Clause */
/* bytes.h - numbers in formats, little-endian (le) and big-endian (be), and bytes that are all zero. */
#ifndef GM_CORE_BYTES_H
#define GM_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t gm_get_le(const uint8_t *from, unsigned int bytes)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < bytes; i++)
		value |= (uint64_t)from[i] << (8 * i);
	return value;
}

static inline uint32_t gm_get_le32(const uint8_t *from)
{
	return (uint32_t)gm_get_le(from, 4);
}

static inline void gm_put_le(uint8_t *to, unsigned int bytes, uint64_t value)
{
	for (unsigned int i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t gm_get_be(const uint8_t *from, unsigned int bytes)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < bytes; i++)
		value = value << 8 | from[i];
	return value;
}

static inline void gm_put_be(uint8_t *to, unsigned int bytes, uint64_t value)
{
	for (unsigned int i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

/* Of no bytes all are. */
static inline bool gm_bytes_are_zero(const uint8_t *bytes, size_t len)
{
	/* Each byte is its neighbour, and the first is 0. */
	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

#endif
