/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * part.h - regions of which parts are unplugged, or private to the guest.
 *
 * Memory that is plugged block by block (virtio-mem), or turned private and shared page by page
 * (guest_memfd), is one region with a state for each granule. Its mapping and, for listeners that do
 * not ask for parts, its slot are those of the whole region; what a change of states costs and tells
 * is its own range only.
 */
#ifndef GUESTMEM_PART_H
#define GUESTMEM_PART_H

#include <guestmem/txn.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The state of a part. */
enum gm_part {
	GM_PART_SHARED = 0, /* as the region says */
	GM_PART_UNPLUGGED,  /* nothing there: -EFAULT; what lies below does not show either */
	GM_PART_PRIVATE,    /* the guest's alone, in the private block: -EACCES */
};

/**
 * gm_txn_set_part() - plan another state for parts of a region
 * @txn:   borrowed
 * @id:    of the region
 * @off:   first byte, counted from the region's; a multiple of its granule
 * @len:   bytes, a multiple of the granule
 * @state: enum gm_part
 * @err:   optional
 *
 * Nothing is mapped or unmapped, and no reader is waited for. The bytes are left alone: what should be
 * given back is for the caller, after the commit and gm_space_synchronize().
 * Returns 0, -ENOENT, -EINVAL (a region without parts; length 0; misaligned; no such state;
 * GM_PART_PRIVATE without a private block), -ERANGE (passes the region's end), -ENOMEM.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_set_part(struct gm_txn *txn, uint64_t id, uint64_t off, uint64_t len,
	uint32_t state, struct gm_error *err);

/**
 * gm_space_set_part() - a transaction with one gm_txn_set_part()
 * @space: borrowed
 * @id:    of the region
 * @off:   as above
 * @len:   as above
 * @state: as above
 * @err:   optional
 *
 * Returns as its parts.
 * Threads: any (-EBUSY while a transaction is open). Since: 0.1.
 */
GM_API int gm_space_set_part(struct gm_space *space, uint64_t id, uint64_t off, uint64_t len,
	uint32_t state, struct gm_error *err);

/**
 * gm_space_part() - the published state of a part, and how far it goes
 * @space:     borrowed
 * @id:        of the region
 * @off:       a byte of the region
 * @ret_state: enum gm_part
 * @ret_len:   optional: bytes from @off to the first with another state, or to the region's end
 *
 * Returns 0, -ENOENT (no such region), -EINVAL (it has no parts), -ERANGE (@off is behind its end).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_space_part(
	struct gm_space *space, uint64_t id, uint64_t off, uint32_t *ret_state, uint64_t *ret_len);

#ifdef __cplusplus
}
#endif

#endif
