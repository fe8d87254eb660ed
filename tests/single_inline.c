/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * single_inline.c - each access of an aligned number that is compiled into the caller, as a function.
 *
 * test_single_code.py reads the machine code of this file: a function that ends in _N is about N bytes. With
 * -DMUTANT=n one way of touching guest memory is a bad one, which must be found.
 */
#ifdef MUTANT
#include "single_mutant.h"
#endif

#include "single.h"

typedef const struct single_at *at_t;

/* Hidden, so that those of a shared object are its own. */
#define DEFINE(name, bits, ...)                                                                    \
	__attribute__((noinline, visibility("hidden"))) int single_##name(at_t at, uint64_t *num); \
	int single_##name(at_t at, uint64_t *num)                                                  \
	{                                                                                          \
		uint##bits##_t n = (uint##bits##_t)num[0];                                         \
		int rc = __VA_ARGS__;                                                              \
                                                                                                   \
		num[0] = n;                                                                        \
		return rc;                                                                         \
	}

#define OFF (at->gpa - at->cache->gpa)

/* kind, name, bits, swapped, call */
#define PLAIN(X, bits, bytes)                                                                      \
	X(READ, read_##bytes, bits, 0, gm_read_u##bits(at->view, at->gpa, &n))                     \
	X(WRITE, write_##bytes, bits, 0, gm_write_u##bits(at->view, at->gpa, n))                   \
	X(READ, cache_read_##bytes, bits, 0, gm_cache_read_u##bits(at->cache, at->view, OFF, &n))  \
	X(WRITE, cache_write_##bytes, bits, 0,                                                     \
		gm_cache_write_u##bits(at->cache, at->view, OFF, n))                               \
	X(READ, bytes_read_##bytes, bits, 0, gm_read(at->view, at->gpa, &n, bytes, NULL))          \
	X(WRITE, bytes_write_##bytes, bits, 0, gm_write(at->view, at->gpa, &n, bytes, NULL))       \
	X(READ, cache_bytes_read_##bytes, bits, 0,                                                 \
		gm_cache_read(at->cache, at->view, OFF, &n, bytes, NULL))                          \
	X(WRITE, cache_bytes_write_##bytes, bits, 0,                                               \
		gm_cache_write(at->cache, at->view, OFF, &n, bytes, NULL))                         \
	X(READ, object_read_##bytes, bits, 0, gm_read_object(at->view, at->gpa, &n))               \
	X(WRITE, object_write_##bytes, bits, 0, gm_write_object(at->view, at->gpa, &n))

#define ORDERED(X, bits, bytes, order)                                                             \
	X(READ, load_##order##_##bytes, bits, 0,                                                   \
		gm_atomic_load_u##bits(at->view, at->gpa, __ATOMIC_##order, &n))                   \
	X(READ, cache_load_##order##_##bytes, bits, 0,                                             \
		gm_cache_load_u##bits(at->cache, at->view, OFF, __ATOMIC_##order, &n))             \
	X(WRITE, store_##order##_##bytes, bits, 0,                                                 \
		gm_atomic_store_u##bits(at->view, at->gpa, __ATOMIC_##order, n))                   \
	X(WRITE, cache_store_##order##_##bytes, bits, 0,                                           \
		gm_cache_store_u##bits(at->cache, at->view, OFF, __ATOMIC_##order, n))

#define ENDIAN(X, bits, bytes)                                                                     \
	X(READ, read_le_##bytes, bits, 0, gm_read_le##bits(at->view, at->gpa, &n))                 \
	X(WRITE, write_le_##bytes, bits, 0, gm_write_le##bits(at->view, at->gpa, n))               \
	X(READ, read_be_##bytes, bits, 1, gm_read_be##bits(at->view, at->gpa, &n))                 \
	X(WRITE, write_be_##bytes, bits, 1, gm_write_be##bits(at->view, at->gpa, n))               \
	X(READ, cache_read_le_##bytes, bits, 0,                                                    \
		gm_cache_read_le##bits(at->cache, at->view, OFF, &n))                              \
	X(WRITE, cache_write_le_##bytes, bits, 0,                                                  \
		gm_cache_write_le##bits(at->cache, at->view, OFF, n))                              \
	X(READ, cache_read_be_##bytes, bits, 1,                                                    \
		gm_cache_read_be##bits(at->cache, at->view, OFF, &n))                              \
	X(WRITE, cache_write_be_##bytes, bits, 1,                                                  \
		gm_cache_write_be##bits(at->cache, at->view, OFF, n))                              \
	X(READ, slice_load_le_##bytes, bits, 0, LOADED(GM_LE##bits, RELAXED))                      \
	X(WRITE, slice_store_be_##bytes, bits, 1, STORED(GM_BE##bits, RELEASE))

/* The value is in 64 bits whatever the number has. */
#define LOADED(number, order)                                                                      \
	({                                                                                         \
		uint64_t value = 0;                                                                \
		int loaded = gm_slice_load(                                                        \
			at->slice, at->pin, at->off, number, __ATOMIC_##order, &value);            \
                                                                                                   \
		n = (__typeof__(n))value;                                                          \
		loaded;                                                                            \
	})
#define STORED(number, order)                                                                      \
	gm_slice_store(at->slice, at->pin, at->off, number, __ATOMIC_##order, n)

#define SLICES(X, bits, bytes)                                                                     \
	X(READ, slice_load_##bytes, bits, 0, LOADED(GM_U##bits, RELAXED))                          \
	X(WRITE, slice_store_##bytes, bits, 0, STORED(GM_U##bits, RELAXED))                        \
	X(READ, slice_load_ACQUIRE_##bytes, bits, 0, LOADED(GM_U##bits, ACQUIRE))                  \
	X(WRITE, slice_store_RELEASE_##bytes, bits, 0, STORED(GM_U##bits, RELEASE))                \
	X(READ, slice_load_SEQ_CST_##bytes, bits, 0, LOADED(GM_U##bits, SEQ_CST))                  \
	X(WRITE, slice_store_SEQ_CST_##bytes, bits, 0, STORED(GM_U##bits, SEQ_CST))                \
	X(READ, slice_bytes_read_##bytes, bits, 0,                                                 \
		gm_slice_read(at->slice, at->pin, at->off, &n, bytes, NULL))                       \
	X(WRITE, slice_bytes_write_##bytes, bits, 0,                                               \
		gm_slice_write(at->slice, at->pin, at->off, &n, bytes, NULL))

#define WIDTH(X, bits, bytes)                                                                      \
	PLAIN(X, bits, bytes)                                                                      \
	SLICES(X, bits, bytes)                                                                     \
	ORDERED(X, bits, bytes, RELAXED)                                                           \
	ORDERED(X, bits, bytes, ACQUIRE)                                                           \
	ORDERED(X, bits, bytes, RELEASE)                                                           \
	ORDERED(X, bits, bytes, SEQ_CST)

#ifdef MUTANT
#define ALL MUTANT_WIDTH
#else
#define ALL(X)                                                                                     \
	WIDTH(X, 8, 1)                                                                             \
	WIDTH(X, 16, 2)                                                                            \
	WIDTH(X, 32, 4)                                                                            \
	WIDTH(X, 64, 8)                                                                            \
	ENDIAN(X, 16, 2)                                                                           \
	ENDIAN(X, 32, 4)                                                                           \
	ENDIAN(X, 64, 8)
#endif

#define AS_FUNCTION(kind, name, bits, swapped, ...) DEFINE(name, bits, __VA_ARGS__)
#define AS_ENTRY(kind, name, bits, swapped, ...)                                                   \
	{#name, SINGLE_##kind, bits / 8, swapped, single_##name},

ALL(AS_FUNCTION)

const struct single_access single_inline[] = {ALL(AS_ENTRY)};
const size_t single_inline_nr = sizeof(single_inline) / sizeof(single_inline[0]);
