/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * txn.h - changing a space: plan several operations, then carry all of them out or none.
 *
 * One transaction at a time is open for a space. Each operation is checked against the plan when it
 * is added; gm_txn_commit() publishes one new view. For a single operation gm_space_add() and
 * gm_space_remove() are shorter.
 */
#ifndef GUESTMEM_TXN_H
#define GUESTMEM_TXN_H

#include <stdint.h>

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_txn;

/**
 * gm_txn_begin() - begin to change a space
 * @space:   borrowed
 * @ret_txn: the transaction, ended by gm_txn_commit() or gm_txn_abort()
 * @err:     optional
 *
 * Returns 0, -EBUSY (another transaction is open, or a thread waits for readers), -EPERM (the space of
 * a grant, which alone changes it), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_txn_begin(struct gm_space *space, struct gm_txn **ret_txn, struct gm_error *err);

/**
 * gm_txn_add() - plan a new region
 * @txn:    borrowed
 * @desc:   borrowed
 * @ret_id: optional: number of the region
 * @err:    optional
 *
 * Returns 0; -EINVAL (length 0, misaligned, neither or both of block and backing); -ERANGE (wraps
 * past 2^64; outside the block); -EEXIST (overlaps a region of equal priority in the same parent:
 * err->gpa is the first common byte); -EBUSY (an anonymous block that another region uses: it has no
 * fd); -ENOENT (no such parent or target); -ELOOP (an alias would show itself);
 * -ENOTSUP (an IOMMU in a space that has logs and spaces over it); -E2BIG; -ENOMEM. On
 * failure the plan is unchanged.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_add(struct gm_txn *txn, const struct gm_region_desc *desc, uint64_t *ret_id,
	struct gm_error *err);

/**
 * gm_txn_remove() - plan to remove a region
 * @txn: borrowed
 * @id:  of the region, in which no other lies and which no alias shows
 * @err: optional
 *
 * Returns 0, -ENOENT, -EBUSY (err->text names what lies in it or shows it), -ENOMEM.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_remove(struct gm_txn *txn, uint64_t id, struct gm_error *err);

/**
 * gm_txn_move() - plan to move a region to another guest address, with its bytes
 * @txn: borrowed
 * @id:  of the region
 * @gpa: new first address
 * @err: optional
 *
 * Returns 0, -ENOENT, -EINVAL, -ERANGE, -EEXIST.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_move(struct gm_txn *txn, uint64_t id, uint64_t gpa, struct gm_error *err);

/**
 * gm_txn_resize() - plan another length for a region
 * @txn: borrowed
 * @id:  of the region
 * @len: new length in bytes, within its block; the bytes that stay are not touched, parts keep their
 *       states
 * @err: optional
 *
 * Returns 0, -ENOENT, -EINVAL, -ERANGE, -EEXIST.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_resize(struct gm_txn *txn, uint64_t id, uint64_t len, struct gm_error *err);

/**
 * gm_txn_protect() - plan other permissions for a region
 * @txn:   borrowed
 * @id:    of the region
 * @perms: GM_PERM_* bits, at least one
 * @err:   optional
 *
 * Returns 0, -ENOENT, -EINVAL, -EACCES (write permission for a read-only block).
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_protect(struct gm_txn *txn, uint64_t id, uint32_t perms, struct gm_error *err);

/**
 * gm_txn_enable() - plan whether a region shows
 * @txn:    borrowed
 * @id:     of the region
 * @enable: false hides it and all that lies in it
 * @err:    optional
 *
 * Returns 0, -ENOENT, -EEXIST (as gm_txn_add()), -ENOMEM.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_enable(struct gm_txn *txn, uint64_t id, bool enable, struct gm_error *err);

/**
 * gm_txn_prioritize() - plan another priority for a region
 * @txn:      borrowed
 * @id:       of the region
 * @priority: among those in the same parent
 * @err:      optional
 *
 * Returns 0, -ENOENT, -EEXIST (as gm_txn_add()), -ENOMEM.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_prioritize(
	struct gm_txn *txn, uint64_t id, int32_t priority, struct gm_error *err);

/**
 * gm_txn_retarget() - plan that an alias shows another part of its target
 * @txn: borrowed
 * @id:  of the alias
 * @off: byte of the target at the alias's first address
 * @err: optional
 *
 * Returns 0, -ENOENT, -EINVAL (no alias), -ERANGE (passes the target's end), -ENOMEM.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_retarget(struct gm_txn *txn, uint64_t id, uint64_t off, struct gm_error *err);

/**
 * gm_txn_replace() - plan other memory behind a region's addresses
 * @txn:     borrowed
 * @id:      of the region, which keeps its number, address, kind and permissions
 * @desc:    block or backing, block_off, name, private_block (NULL: the one it has) and private_off; gpa
 *           must be the region's; len 0 or the region's. The states of its parts stay
 * @err:     optional
 *
 * At commit readers see the old memory, then for a moment none (-EFAULT), then the new.
 * Returns as gm_txn_add(), or -ENOENT.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_replace(
	struct gm_txn *txn, uint64_t id, const struct gm_region_desc *desc, struct gm_error *err);

/**
 * gm_txn_commit() - carry the plan out
 * @txn: taken on success; on failure the space is as it was and @txn stays open
 * @err: optional
 *
 * Readers see the old map, then the new one. Where addresses of the window get other memory (a
 * region is replaced, moved, or removed and another one added there) they meet -EFAULT for a moment
 * in between, and the commit waits for the readers of the old memory. If only memory of regions
 * that were removed earlier is in the way, it waits as well, but then goes on: the new region is
 * not placed. Must not be called in a section or by a thread that serves page faults. Returns 0;
 * -ETIMEDOUT (err->text names the readers that hold it up); -ELOOP (regions lie in or show each other
 * more than 64 deep); -E2BIG (aliases of aliases show too many); -ENOMEM, -EBUSY, or what making a block
 * returned.
 * Threads: one writer. Since: 0.1.
 */
GM_API int gm_txn_commit(struct gm_txn *txn, struct gm_error *err);

/**
 * gm_txn_abort() - drop the plan
 * @txn: taken; NULL is ignored
 *
 * Threads: one writer. Since: 0.1.
 */
GM_API void gm_txn_abort(struct gm_txn *txn);

#ifdef __cplusplus
}
#endif

#endif
