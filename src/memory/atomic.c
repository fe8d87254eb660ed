/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * atomic.c - accesses of one to eight bytes: atomic ones, and what the inline ones leave over.
 *
 * One look-up, one guarded instruction. An atomic access is aligned and lies in one span; gm_hva_*()
 * are the places that make it, for slices as well. Read-modify-write is sequentially consistent
 * whatever was asked.
 */
#include <errno.h>
#include <guestmem/access.h>
#include <guestmem/atomic.h>
#include <string.h>

#include "memory/access.h"
#include "memory/annotate.h"
#include "memory/backend.h"
#include "memory/device.h"
#include "sys/guard.h"

/*
 * Around a single load whose order is the machine's. x86-64 loads acquire; sequentially
 * consistent stores bring the fence there.
 */
static void fence(int order)
{
	if (order == __ATOMIC_RELAXED)
		return;
#if defined(__x86_64__)
	__asm__ volatile("" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("dmb ish" ::: "memory");
#else
	__sync_synchronize();
#endif
}

/* Stores that need no more than the machine gives to each. */
static bool is_plain_store(int order)
{
#if defined(__x86_64__)
	return order == __ATOMIC_RELAXED || order == __ATOMIC_RELEASE;
#else
	return order == __ATOMIC_RELAXED;
#endif
}

/* Where an atomic access goes: to a host address, or by message. */
struct place {
	void *hva;
	struct gm_spot spot;
	struct gm_far_place far; /* with a backend, if it is in far memory */
};

/* Of @size bytes. What was opened is closed by leave(). */
static int enter(
	const struct gm_view *view, uint64_t gpa, size_t size, uint32_t perms, struct place *ret)
{
	struct gm_spot *spot = &ret->spot;
	int rc;

	if (gpa % size)
		return -EINVAL;
	rc = gm_access_spot(view, gpa, size - 1, perms, spot);
	if (rc)
		return rc;
	if (gm_span_has_device(spot->span, perms & GM_PERM_W))
		return -ENOTSUP;
	if (size - 1 > spot->extent)
		return -EFAULT;
	/* A bus makes no promise about a device's memory. */
	if ((spot->span->perms & GM_SPAN_DEVMEM) && perms == GM_PERM_RW)
		return -ENOTSUP;
	ret->far.backend = NULL;
	if (spot->span->perms & GM_SPAN_FAR) {
		/* Behind an IOMMU what is aligned may lead to what is not. */
		if ((spot->gpa + spot->span->delta) % size)
			return -EINVAL;
		rc = gm_far_open(spot->span, spot->gpa, size, perms, &ret->far);
		ret->hva = ret->far.hva;
		return rc;
	}
	ret->hva = gm_access_hva(spot->span, spot->gpa);
	/* A caller's pointer that is mapped askew, or a translation. */
	return (uintptr_t)ret->hva % size ? -EINVAL : 0;
}

static inline void leave(struct place *place)
{
	if (place->far.backend)
		gm_far_close(&place->far);
}

/* ---- numbers of 1, 2, 4, 8 bytes in memory ---- */

static uint64_t get(const void *ptr, size_t size)
{
	uint8_t v8;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (size) {
	case 1:
		memcpy(&v8, ptr, sizeof(v8));
		return v8;
	case 2:
		memcpy(&v16, ptr, sizeof(v16));
		return v16;
	case 4:
		memcpy(&v32, ptr, sizeof(v32));
		return v32;
	default:
		memcpy(&v64, ptr, sizeof(v64));
		return v64;
	}
}

static void put(void *ptr, size_t size, uint64_t value)
{
	uint8_t v8 = (uint8_t)value;
	uint16_t v16 = (uint16_t)value;
	uint32_t v32 = (uint32_t)value;

	switch (size) {
	case 1:
		memcpy(ptr, &v8, sizeof(v8));
		break;
	case 2:
		memcpy(ptr, &v16, sizeof(v16));
		break;
	case 4:
		memcpy(ptr, &v32, sizeof(v32));
		break;
	default:
		memcpy(ptr, &value, sizeof(value));
		break;
	}
}

uint64_t gm_how_swap(uint64_t value, uint32_t how)
{
	if (!(how & GM_HOW_SWAP))
		return value;
	return __builtin_bswap64(value) >> (64 - 8 * GM_HOW_SIZE(how));
}

/* ---- loads and stores ---- */

int gm_hva_load(const void *hva, size_t size, int order, uint64_t *ret)
{
	struct gm_guard_fault fault;
	uint64_t raw;

	if (order == __ATOMIC_SEQ_CST)
		fence(order);
	if (gm_guard_copy_from(&raw, hva, size, &fault))
		return gm_guard_errno(&fault);
	fence(order);
	if (order != __ATOMIC_RELAXED)
		gm_annotate_acquire((void *)(uintptr_t)hva);
	*ret = get(&raw, size);
	return 0;
}

int gm_hva_store(void *hva, size_t size, int order, uint64_t value)
{
	struct gm_guard_fault fault;
	uint64_t raw;

	if (order != __ATOMIC_RELAXED)
		gm_annotate_release(hva);
	if (is_plain_store(order)) {
		put(&raw, size, value);
		return gm_guard_copy_to(hva, &raw, size, &fault) ? gm_guard_errno(&fault) : 0;
	}
	if (gm_guard_rmw(GM_GUARD_XCHG, hva, size, value, &raw, &fault))
		return gm_guard_errno(&fault);
	return 0;
}

static int load_plain(const struct gm_view *view, uint64_t gpa, size_t size, uint64_t *ret)
{
	uint64_t raw;
	int rc = gm_read(view, gpa, &raw, size, NULL);

	if (!rc)
		*ret = get(&raw, size);
	return rc;
}

static int load_atomic(
	const struct gm_view *view, uint64_t gpa, size_t size, int order, uint64_t *ret)
{
	struct place place;
	uint64_t raw = 0;
	int rc = enter(view, gpa, size, GM_PERM_R, &place);

	if (rc)
		return rc;
	if (place.hva)
		rc = gm_hva_load(place.hva, size, order, ret);
	else
		rc = gm_far_load(&place.far, &raw, size);
	if (!rc && !place.hva)
		*ret = get(&raw, size);
	leave(&place);
	return rc;
}

static int store_atomic(
	const struct gm_view *view, uint64_t gpa, size_t size, int order, uint64_t value)
{
	struct place place;
	uint64_t raw = 0;
	int rc = enter(view, gpa, size, GM_PERM_W, &place);

	if (rc)
		return rc;
	put(&raw, size, value);
	rc = place.hva ? gm_hva_store(place.hva, size, order, value)
		       : gm_far_store(&place.far, raw, size);
	if (!rc)
		gm_access_mark(view, gpa, &place.spot, size);
	leave(&place);
	return rc;
}

int gm_load_slow(const struct gm_view *view, uint64_t gpa, uint32_t how, void *ret)
{
	size_t size = GM_HOW_SIZE(how);
	uint64_t value = 0;
	int rc = how & GM_HOW_ATOMIC ? load_atomic(view, gpa, size, GM_HOW_ORDER(how), &value)
				     : load_plain(view, gpa, size, &value);

	if (rc)
		return rc;
	gm_annotate_write(ret, size);
	put(ret, size, gm_how_swap(value, how));
	return 0;
}

static int store_plain(const struct gm_view *view, uint64_t gpa, size_t size, uint64_t value)
{
	struct gm_spot spot;
	uint64_t raw;
	int rc;

	if (size - 1 > UINT64_MAX - gpa)
		return -ERANGE;
	rc = gm_access_spot(view, gpa, size - 1, GM_PERM_W, &spot);
	/* Across two spans: what is wrong with the second shows before the first is written. */
	if (!rc && size - 1 > spot.extent)
		rc = gm_access_spot(
			view, gpa + spot.extent + 1, size - 2 - spot.extent, GM_PERM_W, &spot);
	if (rc)
		return rc;
	put(&raw, size, value);
	return gm_write(view, gpa, &raw, size, NULL);
}

int gm_store_slow(const struct gm_view *view, uint64_t gpa, uint32_t how, uint64_t value)
{
	size_t size = GM_HOW_SIZE(how);

	if (!(how & GM_HOW_ATOMIC))
		return store_plain(view, gpa, size, gm_how_swap(value, how));
	return store_atomic(view, gpa, size, GM_HOW_ORDER(how), value);
}

/* ---- read-modify-write ---- */

int gm_hva_rmw(
	enum gm_guard_op op, void *hva, size_t size, uint64_t value, uint64_t *ret_old, int order)
{
	struct gm_guard_fault fault;

	if (order != __ATOMIC_RELAXED)
		gm_annotate_release(hva);
	if (gm_guard_rmw(op, hva, size, value, ret_old, &fault))
		return gm_guard_errno(&fault);
	if (order != __ATOMIC_RELAXED)
		gm_annotate_acquire(hva);
	return 0;
}

int gm_hva_cmpxchg(void *hva, size_t size, uint64_t *expected, uint64_t desired, int order)
{
	struct gm_guard_fault fault;
	int rc;

	if (order != __ATOMIC_RELAXED)
		gm_annotate_release(hva);
	rc = gm_guard_cmpxchg(hva, size, expected, desired, &fault);
	if (rc < 0)
		return gm_guard_errno(&fault);
	if (order != __ATOMIC_RELAXED)
		gm_annotate_acquire(hva);
	return rc;
}

static const enum gm_backend_atomic far_ops[] = {
	[GM_GUARD_XCHG] = GM_BACKEND_EXCHANGE,
	[GM_GUARD_ADD] = GM_BACKEND_FETCH_ADD,
	[GM_GUARD_AND] = GM_BACKEND_FETCH_AND,
	[GM_GUARD_OR] = GM_BACKEND_FETCH_OR,
	[GM_GUARD_XOR] = GM_BACKEND_FETCH_XOR,
};

/* 1 if it was exchanged, 0 if not, and what was there. */
static int cmpxchg_far(
	const struct gm_far_place *far, size_t size, uint64_t *expected, uint64_t desired)
{
	uint64_t was = *expected;
	int rc = gm_far_atomic(far, GM_BACKEND_CMPXCHG, size, desired, &was);

	if (rc)
		return rc;
	rc = was == *expected;
	*expected = was;
	return rc;
}

/* The short way of most: aligned, in memory of the window that may be read and written. */
static inline bool is_direct(const struct gm_view *view, uint64_t gpa, size_t size, void **ret_hva)
{
	return __builtin_expect(
		gpa % size == 0 && gm_view_find(view, gpa, size, GM_PERM_RW, ret_hva), 1);
}

static inline void mark_direct(const struct gm_view *view, uint64_t gpa, size_t size)
{
	if (__builtin_expect(!gm_view_marked(view, gpa, size), 0))
		gm_view_mark(view, gpa, size);
}

static int touch_rmw(enum gm_guard_op op, const struct gm_view *view, uint64_t gpa, size_t size,
	uint64_t value, uint64_t *ret_old, int order)
{
	struct place place;
	void *hva;
	int rc;

	if (is_direct(view, gpa, size, &hva)) {
		rc = gm_hva_rmw(op, hva, size, value, ret_old, order);
		if (!rc)
			mark_direct(view, gpa, size);
		return rc;
	}
	rc = enter(view, gpa, size, GM_PERM_RW, &place);
	if (rc)
		return rc;
	rc = place.hva ? gm_hva_rmw(op, place.hva, size, value, ret_old, order)
		       : gm_far_atomic(&place.far, far_ops[op], size, value, ret_old);
	if (!rc)
		gm_access_mark(view, gpa, &place.spot, size);
	leave(&place);
	return rc;
}

static int touch_cmpxchg(const struct gm_view *view, uint64_t gpa, size_t size, uint64_t *expected,
	uint64_t desired, int order)
{
	struct place place;
	void *hva;
	int rc;

	if (is_direct(view, gpa, size, &hva)) {
		rc = gm_hva_cmpxchg(hva, size, expected, desired, order);
		if (rc == 1)
			mark_direct(view, gpa, size);
		return rc;
	}
	rc = enter(view, gpa, size, GM_PERM_RW, &place);
	if (rc)
		return rc;
	rc = place.hva ? gm_hva_cmpxchg(place.hva, size, expected, desired, order)
		       : cmpxchg_far(&place.far, size, expected, desired);
	if (rc == 1)
		gm_access_mark(view, gpa, &place.spot, size);
	leave(&place);
	return rc;
}

/* gm_atomic_{exchange,fetch_add,fetch_and,fetch_or,fetch_xor,cmpxchg}_u{8,16,32,64} */
#define DEFINE_RMW(name, op, bits)                                                                 \
	int gm_atomic_##name##_u##bits(const struct gm_view *view, uint64_t gpa, int order,        \
		uint##bits##_t value, uint##bits##_t *ret_old)                                     \
	{                                                                                          \
		uint64_t old = 0;                                                                  \
		int rc = touch_rmw(op, view, gpa, bits / 8, value, &old, order);                   \
                                                                                                   \
		if (!rc && ret_old)                                                                \
			*ret_old = (uint##bits##_t)old;                                            \
		return rc;                                                                         \
	}

#define DEFINE_ATOMICS(bits)                                                                       \
	DEFINE_RMW(exchange, GM_GUARD_XCHG, bits)                                                  \
	DEFINE_RMW(fetch_add, GM_GUARD_ADD, bits)                                                  \
	DEFINE_RMW(fetch_and, GM_GUARD_AND, bits)                                                  \
	DEFINE_RMW(fetch_or, GM_GUARD_OR, bits)                                                    \
	DEFINE_RMW(fetch_xor, GM_GUARD_XOR, bits)                                                  \
	int gm_atomic_cmpxchg_u##bits(const struct gm_view *view, uint64_t gpa, int order,         \
		uint##bits##_t *expected, uint##bits##_t desired)                                  \
	{                                                                                          \
		uint64_t value = *expected;                                                        \
		int rc = touch_cmpxchg(view, gpa, bits / 8, &value, desired, order);               \
                                                                                                   \
		if (rc >= 0)                                                                       \
			*expected = (uint##bits##_t)value;                                         \
		return rc;                                                                         \
	}

DEFINE_ATOMICS(8)
DEFINE_ATOMICS(16)
DEFINE_ATOMICS(32)
DEFINE_ATOMICS(64)

/* ---- 16 bytes ---- */

static int cmpxchg_16_here(void *hva, uint64_t was[2], const uint64_t desired[2], int order)
{
	struct gm_guard_fault fault;
	int rc;

	if (order != __ATOMIC_RELAXED)
		gm_annotate_release(hva);
	rc = gm_guard_cmpxchg_16(hva, was, desired, &fault);
	if (rc < 0)
		return rc == -1 ? gm_guard_errno(&fault) : -ENOTSUP;
	if (order != __ATOMIC_RELAXED)
		gm_annotate_acquire(hva);
	return rc;
}

int gm_atomic_cmpxchg_u128(const struct gm_view *view, uint64_t gpa, int order,
	uint64_t expected[2], const uint64_t desired[2])
{
	uint64_t was[2] = {expected[0], expected[1]};
	struct place place;
	int rc = enter(view, gpa, sizeof(was), GM_PERM_RW, &place);

	if (rc)
		return rc;
	/* What a backend gives may be aligned to 8 bytes only. */
	rc = place.hva && (uintptr_t)place.hva % sizeof(was) == 0
		     ? cmpxchg_16_here(place.hva, was, desired, order)
		     : -ENOTSUP;
	if (rc == 1)
		gm_access_mark(view, gpa, &place.spot, sizeof(was));
	leave(&place);
	if (rc >= 0) {
		expected[0] = was[0];
		expected[1] = was[1];
	}
	return rc;
}
