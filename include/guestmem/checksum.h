/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checksum.h - XXH3 of guest memory: whether bytes are the same, not whether somebody meant them to be.
 *
 * Bytes are copied in once, some at a time, in rising order, and hashed in the copy. So the sum is that
 * of bytes that were in memory, each at the moment at which it was copied. It is no snapshot: if the
 * guest writes meanwhile, the bytes need not have been there together. Errors and lengths follow the
 * rule of access.h; the range may cross regions, and lie behind an IOMMU.
 *
 * Sums are those of XXH3 as others compute it from the same bytes in one piece. They are
 * no defence against who chooses the bytes.
 */
#ifndef GUESTMEM_CHECKSUM_H
#define GUESTMEM_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/export.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_checksum() - XXH3 of 64 bits
 * @view:    borrowed
 * @gpa:     first guest physical address
 * @len:     bytes
 * @seed:    0, or another number for another sum
 * @ret_sum: the sum, on success
 * @done:    optional: bytes that were looked at
 *
 * Takes as long as the range is: a section that holds up nobody sums up a few MiB at most.
 * Returns 0, errors as gm_read(), -ENOTSUP (the library was built without xxHash).
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_checksum(const struct gm_view *view, uint64_t gpa, size_t len, uint64_t seed,
	uint64_t *ret_sum, size_t *done);

/**
 * gm_checksum_128() - XXH3 of 128 bits
 * @view:    borrowed
 * @gpa:     first guest physical address
 * @len:     bytes
 * @seed:    0, or another number for another sum
 * @ret_sum: the sum, on success: the lower half first
 * @done:    optional: bytes that were looked at
 *
 * As gm_checksum().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_checksum_128(const struct gm_view *view, uint64_t gpa, size_t len, uint64_t seed,
	uint64_t ret_sum[2], size_t *done);

#ifdef __cplusplus
}
#endif

#endif
