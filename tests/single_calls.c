/* SPDX-License-Identifier: BSD-3-Clause */
/* single_calls.c - each access of an aligned number that the library makes, by whichever function. */
#include "single.h"

#include <string.h>

typedef const struct single_at *at_t;

/* ---- bytes ---- */

static int fill(at_t at, uint64_t *num)
{
	return gm_fill(at->view, at->gpa, (uint8_t)num[0], at->width, NULL);
}

static int compare(at_t at, uint64_t *num)
{
	int order;

	num[0] = num[2];
	return gm_compare(at->view, at->gpa, num, at->width, &order, NULL) || order ? -1 : 0;
}

static int is_zero(at_t at, uint64_t *num)
{
	num[0] = num[2];
	return gm_is_zero(at->view, at->gpa, at->width, NULL);
}

static int copy_from(at_t at, uint64_t *num)
{
	int rc = gm_copy(at->view, at->aside, at->gpa, at->width, NULL);

	return rc ? rc : gm_read(at->view, at->aside, num, at->width, NULL);
}

static int copy_to(at_t at, uint64_t *num)
{
	int rc = gm_write(at->view, at->aside, num, at->width, NULL);

	return rc ? rc : gm_copy(at->view, at->gpa, at->aside, at->width, NULL);
}

/* The bytes from half of the number's width before it, or behind, which it is then. */
static int copy_up(at_t at, uint64_t *num)
{
	(void)num;
	return gm_copy(at->view, at->gpa, at->gpa - at->width / 2, at->width, NULL);
}

static int copy_down(at_t at, uint64_t *num)
{
	(void)num;
	return gm_copy(at->view, at->gpa, at->gpa + at->width / 2, at->width, NULL);
}

static int read_array(at_t at, uint64_t *num)
{
	return gm_read_array(at->view, at->gpa, num, at->width, 1, NULL);
}

static int write_array(at_t at, uint64_t *num)
{
	return gm_write_array(at->view, at->gpa, num, at->width, 1, NULL);
}

static int find_byte(at_t at, uint64_t *num)
{
	uint8_t byte;
	size_t off;

	num[0] = num[2];
	memcpy(&byte, num, 1);
	return gm_find_byte(at->view, at->gpa, byte, at->width, &off) == 1 && off == 0 ? 0 : -1;
}

static int keep(void *ctx, const void *data, size_t n)
{
	memcpy(ctx, data, n);
	return 0;
}

static int chunk(at_t at, uint64_t *num)
{
	return gm_for_each_chunk(at->view, at->gpa, at->width, keep, num, NULL);
}

/* ---- slices ---- */

static int slice_fill(at_t at, uint64_t *num)
{
	return gm_slice_fill(at->slice, at->pin, at->off, (uint8_t)num[0], at->width, NULL);
}

/* The bytes from half of the number's width before it, or behind, which it is then. */
static int slice_copy_up(at_t at, uint64_t *num)
{
	(void)num;
	return gm_slice_copy(at->slice, at->pin, at->off, at->slice, at->pin,
		at->off - at->width / 2, at->width, NULL);
}

static int slice_copy_down(at_t at, uint64_t *num)
{
	(void)num;
	return gm_slice_copy(at->slice, at->pin, at->off, at->slice, at->pin,
		at->off + at->width / 2, at->width, NULL);
}

static int slice_add(at_t at, uint64_t *num)
{
	return gm_slice_atomic(at->slice, at->pin, at->off, GM_BACKEND_FETCH_ADD,
		(uint32_t)at->width, num[0], &num[2]);
}

static int slice_or(at_t at, uint64_t *num)
{
	return gm_slice_atomic(at->slice, at->pin, at->off, GM_BACKEND_FETCH_OR,
		(uint32_t)at->width, num[0], &num[2]);
}

static int slice_cmpxchg(at_t at, uint64_t *num)
{
	return gm_slice_atomic(at->slice, at->pin, at->off, GM_BACKEND_CMPXCHG, (uint32_t)at->width,
		num[0], &num[2]);
}

/* ---- chains ---- */

static struct gm_chain_elem element;

static struct gm_chain *chain(at_t at, uint32_t flags)
{
	static struct gm_chain it;

	element = (struct gm_chain_elem){.gpa = at->gpa, .len = at->width, .flags = flags};
	return gm_chain_init(&it, &element, 1, NULL, NULL) ? NULL : &it;
}

static int chain_read(at_t at, uint64_t *num)
{
	return gm_chain_read(chain(at, 0), at->view, num, at->width, NULL);
}

static int chain_peek(at_t at, uint64_t *num)
{
	return gm_chain_peek(chain(at, 0), at->view, num, at->width, NULL);
}

static int chain_write(at_t at, uint64_t *num)
{
	return gm_chain_write(chain(at, GM_CHAIN_WRITE), at->view, num, at->width, NULL);
}

static int chain_fill(at_t at, uint64_t *num)
{
	return gm_chain_fill(chain(at, GM_CHAIN_WRITE), at->view, (uint8_t)num[0], at->width, NULL);
}

#define CHAIN_NUMBER(order, bits)                                                                  \
	static int chain_read_##order##bits(at_t at, uint64_t *num)                                \
	{                                                                                          \
		uint##bits##_t n = 0;                                                              \
		int rc = gm_chain_read_##order##bits(chain(at, 0), at->view, &n);                  \
                                                                                                   \
		num[0] = n;                                                                        \
		return rc;                                                                         \
	}                                                                                          \
	static int chain_write_##order##bits(at_t at, uint64_t *num)                               \
	{                                                                                          \
		return gm_chain_write_##order##bits(                                               \
			chain(at, GM_CHAIN_WRITE), at->view, (uint##bits##_t)num[0]);              \
	}

CHAIN_NUMBER(u, 8)
CHAIN_NUMBER(le, 16)
CHAIN_NUMBER(le, 32)
CHAIN_NUMBER(le, 64)
CHAIN_NUMBER(be, 16)
CHAIN_NUMBER(be, 32)
CHAIN_NUMBER(be, 64)

/* ---- read-modify-write ---- */

#define RMW(name, bits)                                                                            \
	static int name##_##bits(at_t at, uint64_t *num)                                           \
	{                                                                                          \
		return gm_atomic_##name##_u##bits(                                                 \
			at->view, at->gpa, __ATOMIC_SEQ_CST, (uint##bits##_t)num[0], NULL);        \
	}

#define WIDTH(bits)                                                                                \
	RMW(exchange, bits)                                                                        \
	RMW(fetch_add, bits)                                                                       \
	RMW(fetch_and, bits)                                                                       \
	RMW(fetch_or, bits)                                                                        \
	RMW(fetch_xor, bits)                                                                       \
	static int cmpxchg_##bits(at_t at, uint64_t *num)                                          \
	{                                                                                          \
		uint##bits##_t was = (uint##bits##_t)num[2];                                       \
                                                                                                   \
		return gm_atomic_cmpxchg_u##bits(                                                  \
			at->view, at->gpa, __ATOMIC_SEQ_CST, &was, (uint##bits##_t)num[0]);        \
	}

WIDTH(8)
WIDTH(16)
WIDTH(32)
WIDTH(64)

static int cmpxchg_128(at_t at, uint64_t *num)
{
	return gm_atomic_cmpxchg_u128(at->view, at->gpa, __ATOMIC_SEQ_CST, num + 2, num);
}

#define CALL(kind, name)                                                                           \
	{                                                                                          \
#name, SINGLE_##kind, 0, false, name                                               \
	}
#define OVERLAP(name, width)                                                                       \
	{                                                                                          \
#name, SINGLE_CHANGE, width, false, name                                           \
	}
#define NUMBER(order, bits, swapped)                                                               \
	{"chain_read_" #order #bits, SINGLE_READ, bits / 8, swapped, chain_read_##order##bits},    \
	{                                                                                          \
		"chain_write_" #order #bits, SINGLE_WRITE, bits / 8, swapped,                      \
			chain_write_##order##bits                                                  \
	}
#define ONE_RMW(name, bits)                                                                        \
	{                                                                                          \
#name "_" #bits, SINGLE_RMW, bits / 8, false, name##_##bits                        \
	}
#define RMWS(bits)                                                                                 \
	ONE_RMW(exchange, bits), ONE_RMW(fetch_add, bits), ONE_RMW(fetch_and, bits),               \
		ONE_RMW(fetch_or, bits), ONE_RMW(fetch_xor, bits), ONE_RMW(cmpxchg, bits)

const struct single_access single_calls[] = {
	CALL(WRITE, fill),
	CALL(READ, compare),
	CALL(READ, is_zero),
	CALL(READ, copy_from),
	CALL(WRITE, copy_to),
	OVERLAP(copy_up, 2),
	OVERLAP(copy_up, 4),
	OVERLAP(copy_up, 8),
	OVERLAP(copy_down, 2),
	OVERLAP(copy_down, 4),
	OVERLAP(copy_down, 8),
	CALL(READ, read_array),
	CALL(WRITE, write_array),
	CALL(READ, find_byte),
	CALL(READ, chunk),
	CALL(WRITE, slice_fill),
	OVERLAP(slice_copy_up, 2),
	OVERLAP(slice_copy_up, 4),
	OVERLAP(slice_copy_up, 8),
	OVERLAP(slice_copy_down, 2),
	OVERLAP(slice_copy_down, 4),
	OVERLAP(slice_copy_down, 8),
	CALL(RMW, slice_add),
	CALL(RMW, slice_or),
	CALL(RMW, slice_cmpxchg),
	CALL(READ, chain_read),
	CALL(READ, chain_peek),
	CALL(WRITE, chain_write),
	CALL(WRITE, chain_fill),
	NUMBER(u, 8, false),
	NUMBER(le, 16, false),
	NUMBER(le, 32, false),
	NUMBER(le, 64, false),
	NUMBER(be, 16, true),
	NUMBER(be, 32, true),
	NUMBER(be, 64, true),
	RMWS(8),
	RMWS(16),
	RMWS(32),
	RMWS(64),
	ONE_RMW(cmpxchg, 128),
};
const size_t single_calls_nr = sizeof(single_calls) / sizeof(single_calls[0]);
