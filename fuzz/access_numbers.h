/* SPDX-License-Identifier: BSD-3-Clause */
/* access_numbers.h - for fuzz_access.c: the accesses of numbers by width, by address or through a cache. */
#ifndef GM_FUZZ_ACCESS_NUMBERS_H
#define GM_FUZZ_ACCESS_NUMBERS_H

#include "access_guest.h"

struct work {
	uint8_t what;
	uint8_t byte;
	uint16_t len;
	uint64_t addr;
	bool iova;
	const struct gm_view *view;
};

struct cache {
	struct gm_cache it;
	bool iova;
	uint64_t addr;
	uint64_t len;
	uint32_t perms;
};

static uint64_t cut(uint64_t value, size_t size)
{
	return size == 8 ? value : value & ((UINT64_C(1) << (8 * size)) - 1);
}

#define BY_WIDTH(size, call)                                                                       \
	((size) == 1 ? call(8) : (size) == 2 ? call(16) : (size) == 4 ? call(32) : call(64))

static int read_number(
	const struct work *w, size_t size, struct cache *cache, uint64_t off, uint64_t *ret)
{
	union {
		uint8_t u8;
		uint16_t u16;
		uint32_t u32;
		uint64_t u64;
	} n = {.u64 = 0};
	int rc;

#define READ(bits) gm_read_u##bits(w->view, w->addr, &n.u##bits)
#define CACHED(bits) gm_cache_read_u##bits(&cache->it, w->view, off, &n.u##bits)
	rc = cache ? BY_WIDTH(size, CACHED) : BY_WIDTH(size, READ);
#undef READ
#undef CACHED
	*ret = n.u64;
	return rc;
}

static int write_number(
	const struct work *w, size_t size, struct cache *cache, uint64_t off, uint64_t value)
{
#define WRITE(bits) gm_write_u##bits(w->view, w->addr, (uint##bits##_t)value)
#define CACHED(bits) gm_cache_write_u##bits(&cache->it, w->view, off, (uint##bits##_t)value)
	return cache ? BY_WIDTH(size, CACHED) : BY_WIDTH(size, WRITE);
#undef WRITE
#undef CACHED
}

static int load(const struct work *w, size_t size, struct cache *cache, uint64_t off, uint64_t *ret)
{
	union {
		uint8_t u8;
		uint16_t u16;
		uint32_t u32;
		uint64_t u64;
	} n = {.u64 = 0};
	int rc;

#define LOAD(bits) gm_atomic_load_u##bits(w->view, w->addr, __ATOMIC_ACQUIRE, &n.u##bits)
#define CACHED(bits) gm_cache_load_u##bits(&cache->it, w->view, off, __ATOMIC_SEQ_CST, &n.u##bits)
	rc = cache ? BY_WIDTH(size, CACHED) : BY_WIDTH(size, LOAD);
#undef LOAD
#undef CACHED
	*ret = n.u64;
	return rc;
}

static int store(
	const struct work *w, size_t size, struct cache *cache, uint64_t off, uint64_t value)
{
#define STORE(bits)                                                                                \
	gm_atomic_store_u##bits(w->view, w->addr, __ATOMIC_SEQ_CST, (uint##bits##_t)value)
#define CACHED(bits)                                                                               \
	gm_cache_store_u##bits(&cache->it, w->view, off, __ATOMIC_RELEASE, (uint##bits##_t)value)
	return cache ? BY_WIDTH(size, CACHED) : BY_WIDTH(size, STORE);
#undef STORE
#undef CACHED
}

#define RMW(name, bits)                                                                            \
	gm_atomic_##name##_u##bits(                                                                \
		w->view, w->addr, __ATOMIC_ACQ_REL, (uint##bits##_t)value, &n.u##bits)
#define EXCHANGE(bits) RMW(exchange, bits)
#define ADD(bits) RMW(fetch_add, bits)
#define AND(bits) RMW(fetch_and, bits)
#define OR(bits) RMW(fetch_or, bits)
#define XOR(bits) RMW(fetch_xor, bits)
#define CMPXCHG(bits)                                                                              \
	gm_atomic_cmpxchg_u##bits(                                                                 \
		w->view, w->addr, __ATOMIC_SEQ_CST, &n.u##bits, (uint##bits##_t)value)

/* The number that was there, or is expected, is *@old. */
static int rmw(const struct work *w, size_t size, uint32_t op, uint64_t value, uint64_t *old)
{
	union {
		uint8_t u8;
		uint16_t u16;
		uint32_t u32;
		uint64_t u64;
	} n = {.u64 = *old};
	int rc;

	switch (op) {
	case GM_BACKEND_FETCH_ADD:
		rc = BY_WIDTH(size, ADD);
		break;
	case GM_BACKEND_FETCH_AND:
		rc = BY_WIDTH(size, AND);
		break;
	case GM_BACKEND_FETCH_OR:
		rc = BY_WIDTH(size, OR);
		break;
	case GM_BACKEND_FETCH_XOR:
		rc = BY_WIDTH(size, XOR);
		break;
	case GM_BACKEND_CMPXCHG:
		rc = BY_WIDTH(size, CMPXCHG);
		break;
	default:
		rc = BY_WIDTH(size, EXCHANGE);
		break;
	}
	*old = cut(n.u64, size);
	return rc;
}

#endif
