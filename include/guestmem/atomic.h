/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * atomic.h - atomic accesses to guest memory.
 *
 * As access.h, with a memory order: one of C11's as GCC and clang number them (__ATOMIC_RELAXED,
 * _CONSUME, _ACQUIRE, _RELEASE, _ACQ_REL, _SEQ_CST; C's memory_order_* have the same values). An
 * order that is stronger than what was asked may be given; one that makes no sense for the access
 * counts as __ATOMIC_SEQ_CST.
 *
 * The guest physical address must be a multiple of the width, otherwise -EINVAL. Loads need
 * permission to read, stores to write, and the rest both. Values are in the host's byte order.
 * Behind an IOMMU the address that it leads to must be such a multiple too, and all bytes lie in one
 * translation, otherwise -EFAULT.
 */
#ifndef GUESTMEM_ATOMIC_H
#define GUESTMEM_ATOMIC_H

#include <stdint.h>

#include <guestmem/access.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * gm_atomic_load_uN() - load
 *
 * @view: borrowed; @gpa: guest physical address; @order: best a constant; @ret: the value, on
 * success
 *
 * Return 0, -EFAULT, -EACCES, -EINVAL, -EIO, -EHWPOISON.
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_atomic_load_u8(const struct gm_view *view, uint64_t gpa, int order, uint8_t *ret);
GM_INLINE int gm_atomic_load_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t *ret);
GM_INLINE int gm_atomic_load_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t *ret);
GM_INLINE int gm_atomic_load_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t *ret);

/*
 * gm_atomic_store_uN() - store
 *
 * @view: borrowed; @gpa: guest physical address; @order: best a constant; @value: what to store
 *
 * Return as gm_atomic_load_u64().
 * Threads: reader section. Since: 0.1.
 */
GM_INLINE int gm_atomic_store_u8(
	const struct gm_view *view, uint64_t gpa, int order, uint8_t value);
GM_INLINE int gm_atomic_store_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t value);
GM_INLINE int gm_atomic_store_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t value);
GM_INLINE int gm_atomic_store_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t value);

/*
 * gm_atomic_exchange_uN() - store, and tell what was there
 *
 * @view: borrowed; @gpa: guest physical address; @order: memory order; @value: the operand;
 * @ret_old: the value before, on success, may be NULL
 *
 * Return as gm_atomic_load_u64().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_atomic_exchange_u8(
	const struct gm_view *view, uint64_t gpa, int order, uint8_t value, uint8_t *ret_old);
GM_API int gm_atomic_exchange_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t value, uint16_t *ret_old);
GM_API int gm_atomic_exchange_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t value, uint32_t *ret_old);
GM_API int gm_atomic_exchange_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t value, uint64_t *ret_old);

/*
 * gm_atomic_fetch_add_uN() - add, and tell what was there
 *
 * @view: borrowed; @gpa: guest physical address; @order: memory order; @value: the operand;
 * @ret_old: the value before, on success, may be NULL
 *
 * Return as gm_atomic_load_u64().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_atomic_fetch_add_u8(
	const struct gm_view *view, uint64_t gpa, int order, uint8_t value, uint8_t *ret_old);
GM_API int gm_atomic_fetch_add_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t value, uint16_t *ret_old);
GM_API int gm_atomic_fetch_add_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t value, uint32_t *ret_old);
GM_API int gm_atomic_fetch_add_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t value, uint64_t *ret_old);

/*
 * gm_atomic_fetch_and_uN() - bitwise and, and tell what was there
 *
 * @view: borrowed; @gpa: guest physical address; @order: memory order; @value: the operand;
 * @ret_old: the value before, on success, may be NULL
 *
 * Return as gm_atomic_load_u64().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_atomic_fetch_and_u8(
	const struct gm_view *view, uint64_t gpa, int order, uint8_t value, uint8_t *ret_old);
GM_API int gm_atomic_fetch_and_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t value, uint16_t *ret_old);
GM_API int gm_atomic_fetch_and_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t value, uint32_t *ret_old);
GM_API int gm_atomic_fetch_and_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t value, uint64_t *ret_old);

/*
 * gm_atomic_fetch_or_uN() - bitwise or, and tell what was there
 *
 * @view: borrowed; @gpa: guest physical address; @order: memory order; @value: the operand;
 * @ret_old: the value before, on success, may be NULL
 *
 * Return as gm_atomic_load_u64().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_atomic_fetch_or_u8(
	const struct gm_view *view, uint64_t gpa, int order, uint8_t value, uint8_t *ret_old);
GM_API int gm_atomic_fetch_or_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t value, uint16_t *ret_old);
GM_API int gm_atomic_fetch_or_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t value, uint32_t *ret_old);
GM_API int gm_atomic_fetch_or_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t value, uint64_t *ret_old);

/*
 * gm_atomic_fetch_xor_uN() - bitwise exclusive or, and tell what was there
 *
 * @view: borrowed; @gpa: guest physical address; @order: memory order; @value: the operand;
 * @ret_old: the value before, on success, may be NULL
 *
 * Return as gm_atomic_load_u64().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_atomic_fetch_xor_u8(
	const struct gm_view *view, uint64_t gpa, int order, uint8_t value, uint8_t *ret_old);
GM_API int gm_atomic_fetch_xor_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t value, uint16_t *ret_old);
GM_API int gm_atomic_fetch_xor_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t value, uint32_t *ret_old);
GM_API int gm_atomic_fetch_xor_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t value, uint64_t *ret_old);

/*
 * gm_atomic_cmpxchg_uN() - store @desired if the value is *@expected
 *
 * @view: borrowed; @gpa: guest physical address; @order: memory order; @expected: what must be
 * there; gets what was there unless an error is returned; @desired: what to store
 *
 * Return 1 (stored), 0 (another value was there), or errors as gm_atomic_load_u64(). Never fails
 * spuriously.
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_atomic_cmpxchg_u8(
	const struct gm_view *view, uint64_t gpa, int order, uint8_t *expected, uint8_t desired);
GM_API int gm_atomic_cmpxchg_u16(
	const struct gm_view *view, uint64_t gpa, int order, uint16_t *expected, uint16_t desired);
GM_API int gm_atomic_cmpxchg_u32(
	const struct gm_view *view, uint64_t gpa, int order, uint32_t *expected, uint32_t desired);
GM_API int gm_atomic_cmpxchg_u64(
	const struct gm_view *view, uint64_t gpa, int order, uint64_t *expected, uint64_t desired);

/**
 * gm_atomic_cmpxchg_u128() - gm_atomic_cmpxchg_uN() of 16 bytes
 * @view:     borrowed
 * @gpa:      guest physical address, a multiple of 16
 * @order:    memory order
 * @expected: two numbers in the order of their addresses: what must be there; gets what was there
 *            unless an error is returned
 * @desired:  what to store
 *
 * Where the machine has it: x86-64 with cmpxchg16b and arm64, in memory that has a host address.
 * Returns 1 (stored), 0 (another value was there), -ENOTSUP (not here, or not in this memory), or
 * errors as gm_atomic_load_u64().
 * Threads: reader section. Since: 0.1.
 */
GM_API int gm_atomic_cmpxchg_u128(const struct gm_view *view, uint64_t gpa, int order,
	uint64_t expected[2], const uint64_t desired[2]);

#include <guestmem/inline/atomic.h>

#ifdef __cplusplus
}
#endif

#endif
