/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rmw.c - atomic read-modify-write by width, from the assembly's one function for each.
 *
 * Compare-and-exchange, exchange and add are instructions (x86-64) or short loops (arm64); the
 * bitwise operations repeat a compare-and-exchange, as the compiler does when the old value is
 * wanted.
 */
#include <guestmem/inline/guarded.h>

#include "sys/guard.h"

#define DECLARE(size)                                                                              \
	int gm_guard_xchg_##size(                                                                  \
		void *guest, uint64_t value, uint64_t *ret_old, struct gm_guard_fault *fault);     \
	int gm_guard_xadd_##size(                                                                  \
		void *guest, uint64_t value, uint64_t *ret_old, struct gm_guard_fault *fault);     \
	int gm_guard_cmpxchg_##size(                                                               \
		void *guest, uint64_t *expected, uint64_t desired, struct gm_guard_fault *fault);

DECLARE(1)
DECLARE(2)
DECLARE(4)
DECLARE(8)

int gm_guard_cmpxchg(void *guest, size_t size, uint64_t *expected, uint64_t desired,
	struct gm_guard_fault *fault)
{
	switch (size) {
	case 1:
		return gm_guard_cmpxchg_1(guest, expected, desired, fault);
	case 2:
		return gm_guard_cmpxchg_2(guest, expected, desired, fault);
	case 4:
		return gm_guard_cmpxchg_4(guest, expected, desired, fault);
	default:
		return gm_guard_cmpxchg_8(guest, expected, desired, fault);
	}
}

static int exchange(
	void *guest, size_t size, uint64_t value, uint64_t *ret_old, struct gm_guard_fault *fault)
{
	switch (size) {
	case 1:
		return gm_guard_xchg_1(guest, value, ret_old, fault);
	case 2:
		return gm_guard_xchg_2(guest, value, ret_old, fault);
	case 4:
		return gm_guard_xchg_4(guest, value, ret_old, fault);
	default:
		return gm_guard_xchg_8(guest, value, ret_old, fault);
	}
}

static int add(
	void *guest, size_t size, uint64_t value, uint64_t *ret_old, struct gm_guard_fault *fault)
{
	switch (size) {
	case 1:
		return gm_guard_xadd_1(guest, value, ret_old, fault);
	case 2:
		return gm_guard_xadd_2(guest, value, ret_old, fault);
	case 4:
		return gm_guard_xadd_4(guest, value, ret_old, fault);
	default:
		return gm_guard_xadd_8(guest, value, ret_old, fault);
	}
}

static uint64_t apply(enum gm_guard_op op, uint64_t old, uint64_t value)
{
	switch (op) {
	case GM_GUARD_AND:
		return old & value;
	case GM_GUARD_OR:
		return old | value;
	default:
		return old ^ value;
	}
}

/* A load, if callers' loads are there for it; a fault is the exchange's to tell. */
static inline __attribute__((always_inline)) void guess(
	const void *guest, size_t size, uint64_t *old)
{
#if GM_GUARDED
	uint8_t v8 = 0;
	uint16_t v16 = 0;
	uint32_t v32 = 0;

	switch (size) {
	case 1:
		gm_guarded_load_u8(guest, &v8, __ATOMIC_RELAXED);
		*old = v8;
		break;
	case 2:
		gm_guarded_load_u16(guest, &v16, __ATOMIC_RELAXED);
		*old = v16;
		break;
	case 4:
		gm_guarded_load_u32(guest, &v32, __ATOMIC_RELAXED);
		*old = v32;
		break;
	default:
		gm_guarded_load_u64(guest, old, __ATOMIC_RELAXED);
		break;
	}
#else
	(void)guest;
	(void)size;
	(void)old;
#endif
}

int gm_guard_rmw(enum gm_guard_op op, void *guest, size_t size, uint64_t value, uint64_t *ret_old,
	struct gm_guard_fault *fault)
{
	uint64_t old = 0;
	int rc;

	if (op == GM_GUARD_XCHG)
		return exchange(guest, size, value, ret_old, fault);
	if (op == GM_GUARD_ADD)
		return add(guest, size, value, ret_old, fault);
	/* A guess that is wrong costs another locked instruction; each answer is the next guess. */
	guess(guest, size, &old);
	do {
		rc = gm_guard_cmpxchg(guest, size, &old, apply(op, old, value), fault);
	} while (rc == 0);
	if (rc < 0)
		return -1;
	*ret_old = old;
	return 0;
}
