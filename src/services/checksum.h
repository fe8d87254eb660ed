/* SPDX-License-Identifier: BSD-3-Clause */
/* checksum.h - the sum of one buffer. */
#ifndef GM_SERVICES_CHECKSUM_H
#define GM_SERVICES_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* XXH3; false if the library was built without it. */
bool gm_checksum_bytes(const void *bytes, size_t len, uint64_t *ret);

#endif
