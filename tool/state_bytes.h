/* SPDX-License-Identifier: BSD-3-Clause */
/* state_bytes.h - what the formats of docs/vcpu-state.md have in common: little-endian numbers, sums, padding. */
#ifndef GM_TOOL_STATE_BYTES_H
#define GM_TOOL_STATE_BYTES_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t load_le(const uint8_t *at, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

static inline void store_le(uint8_t *at, uint32_t bytes, uint64_t value)
{
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

/* FNV-1a of 64 bits. */
static inline uint64_t checksum(const uint8_t *at, size_t len)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
	return sum;
}

/* To whole words of 8 bytes. */
static inline size_t padded(size_t len)
{
	return (len + 7) / 8 * 8;
}

#endif
