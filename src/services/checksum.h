/* SPDX-License-Identifier: BSD-3-Clause */
/* checksum.h - the sum of one buffer. */
#ifndef GM_SERVICES_CHECKSUM_H
#define GM_SERVICES_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* XXH3; false if the library was built without it. */
bool gm_checksum_bytes(const void *bytes, size_t len, uint64_t *ret);
/* The same of 128 bits, as 16 bytes with the lower half first, each in little endian. */
bool gm_checksum_bytes_128(const void *bytes, size_t len, uint8_t ret[16]);

#endif
