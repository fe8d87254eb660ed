/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * piece.h - which regions a view shows, asked without a lock.
 *
 * A view is the flattened map: pieces, sorted and disjoint, each a stretch of one region. A region
 * that others lie over shows in several. gm_space_next() tells more of a piece, takes the space's lock
 * for it, and speaks of the map of now; these functions speak of the map that the section has.
 */
#ifndef GUESTMEM_PIECE_H
#define GUESTMEM_PIECE_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/export.h>
#include <guestmem/view.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct gm_piece_info - a piece of a view
 * @size:  sizeof(struct gm_piece_info), set by the caller
 * @gpa:   first guest physical address
 * @len:   bytes; 0 = 2^64
 * @id:    number of its region, as gm_space_region() takes it; the region may be gone from the space
 * @off:   where in the region it begins
 * @kind:  enum gm_region_kind
 * @perms: GM_PERM_* bits
 * @part:  enum gm_part. Readers reach what is shared only
 * @reserved: zero
 */
struct gm_piece_info {
	size_t size;
	uint64_t gpa;
	uint64_t len;
	uint64_t id;
	uint64_t off;
	uint32_t kind;
	uint32_t perms;
	uint32_t part;
	uint32_t reserved;
};

/**
 * struct gm_view_info - what a view shows in all
 * @size:        sizeof(struct gm_view_info), set by the caller
 * @pieces:      number of pieces, of all kinds
 * @first:       the lowest address that shows; 0 without pieces
 * @last:        the highest, inclusive; 0 without pieces
 * @memory:      number of pieces that are memory
 * @memory_len:  their bytes
 * @memory_last: the highest address of memory, inclusive; 0 if @memory is 0
 * @generation:  as gm_view_generation()
 */
struct gm_view_info {
	size_t size;
	uint64_t pieces;
	uint64_t first;
	uint64_t last;
	uint64_t memory;
	uint64_t memory_len;
	uint64_t memory_last;
	uint64_t generation;
};

/**
 * gm_view_next() - walk over the pieces of a view, in rising order
 * @view:     borrowed
 * @gpa:      lowest address
 * @ret_info: the piece that holds @gpa or else the first above it
 *
 * Go on with ret_info->gpa + ret_info->len unless that wraps to 0.
 * Returns 0, -ENOENT (no more), -EINVAL (size).
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_view_next(const struct gm_view *view, uint64_t gpa, struct gm_piece_info *ret_info);

/**
 * gm_view_region() - the region that shows at an address, and the address in it
 * @view:    borrowed
 * @gpa:     guest physical address
 * @ret_id:  number of the region, on success; may be NULL
 * @ret_off: byte of the region that is at @gpa, on success; may be NULL
 *
 * Of whatever shows there, also if readers do not reach it.
 * Returns 0, or -EFAULT (nothing shows there).
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_view_region(
	const struct gm_view *view, uint64_t gpa, uint64_t *ret_id, uint64_t *ret_off);

/**
 * gm_view_info() - number of pieces, highest address and amount of memory
 * @view:     borrowed
 * @ret_info: filled in
 *
 * Looks at all pieces.
 * Returns 0, or -EINVAL (size).
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_view_info(const struct gm_view *view, struct gm_view_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
