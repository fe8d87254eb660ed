/* SPDX-License-Identifier: BSD-3-Clause */
/* checksum.h - the sum of one buffer, or of one piece after the other. */
#ifndef GM_SERVICES_CHECKSUM_H
#define GM_SERVICES_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* XXH3; false if the library was built without it. */
bool gm_checksum_bytes(const void *bytes, size_t len, uint64_t *ret);
/* The same of 128 bits, as 16 bytes with the lower half first, each in little endian. */
bool gm_checksum_bytes_128(const void *bytes, size_t len, uint8_t ret[16]);

/* XXH3 of 64 bits of pieces that are not side by side: the sum of all of them in a row. */
struct gm_checksum_run {
	_Alignas(64) unsigned char state[640];
};

bool gm_checksum_begin(struct gm_checksum_run *run); /* false as above */
void gm_checksum_add(struct gm_checksum_run *run, const void *bytes, size_t len);
/* What gm_checksum_add() calls where it can. */
void gm_checksum_add_avx2(struct gm_checksum_run *run, const void *bytes, size_t len);
uint64_t gm_checksum_end(const struct gm_checksum_run *run); /* so far */

#endif
