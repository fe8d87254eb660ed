/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scan.h - looking through guest memory.
 *
 * Bytes are copied in once, some hundred at a time, and looked at in the copy: what is found is what
 * was there, however the guest changes it meanwhile. A scan that ends before a hole does not meet
 * it. Errors and lengths follow the rule of access.h.
 */
#ifndef GUESTMEM_SCAN_H
#define GUESTMEM_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/export.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gm_find_byte() - find a byte
 * @view:    borrowed
 * @gpa:     first guest physical address
 * @byte:    what to look for
 * @len:     bytes
 * @ret_off: bytes before the first one that is @byte; if it was found
 *
 * Memory behind it need not be mapped.
 * Returns 1 (found), 0 (not there; also with length 0), or errors as gm_read().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_find_byte(
	const struct gm_view *view, uint64_t gpa, uint8_t byte, size_t len, size_t *ret_off);

/**
 * gm_read_string() - copy a string that ends with NUL
 * @view:    borrowed
 * @gpa:     guest physical address of its first byte
 * @buf:     @cap bytes of the caller
 * @cap:     room, with the NUL; not 0
 * @ret_len: optional: bytes before the NUL, on success
 *
 * Up to 255 bytes behind the NUL may be read; they need not be mapped. On failure @buf holds an empty
 * string; behind the NUL it is undefined.
 * Returns 0, -EMSGSIZE (no NUL in @cap bytes), -EINVAL (@cap 0), or errors as gm_read() (before the
 * NUL).
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_read_string(
	const struct gm_view *view, uint64_t gpa, char *buf, size_t cap, size_t *ret_len);

/**
 * gm_for_each_chunk() - pass copies of guest memory to a function
 * @view: borrowed
 * @gpa:  first guest physical address
 * @len:  bytes
 * @fn:   called with the chunks in rising order: @data is @n bytes that nobody else changes, valid
 *        during the call; returns 0 to go on. Runs in the section: it must not block
 * @ctx:  passed to @fn
 * @done: optional: bytes that were passed to @fn
 *
 * For parsers, and for checksums of other sorts than checksum.h has. Chunks have at most 1024 bytes;
 * where they are cut is not to be relied on.
 * Returns 0, what @fn returned if that was not 0, or errors as gm_read(): after @fn got the bytes in
 * front of the failure.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_for_each_chunk(const struct gm_view *view, uint64_t gpa, size_t len,
	int (*fn)(void *ctx, const void *data, size_t n), void *ctx, size_t *done);

/**
 * gm_prefetch() - say that bytes will be read soon
 * @view: borrowed
 * @gpa:  first guest physical address
 * @len:  bytes; of which 4096 at most count
 *
 * A hint: it does not fault, makes no translation of an IOMMU, calls nobody, and does nothing for
 * what is not mapped memory.
 * Threads: reader section. Since: 0.1.
 */
GM_API void gm_prefetch(const struct gm_view *view, uint64_t gpa, size_t len);

#ifdef __cplusplus
}
#endif

#endif
