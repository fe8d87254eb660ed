/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_access.c - every access function at every edge, against a naive model.
 *
 * One map of guest memory with neighbours, a read-only and a write-only page, a hole and a page
 * that ends at 2^64 is laid out in four ways (placed and merged, placed, placed but not direct,
 * scattered); the answers must be the same.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <guestmem/guestmem.h>

#include "handmade.h"
#include "random.h"
#include "support.h"

#define PAGE ((size_t)4096)
#define TOP_PAGE (UINT64_MAX - (PAGE - 1))

/* ---- the map ---- */

static const struct {
	uint64_t gpa;
	uint32_t perms;
} pages[] = {
	{0x1000, GM_PERM_RW},
	{0x2000, GM_PERM_RW},
	{0x3000, GM_PERM_R},
	/* 0x4000: a hole */
	{0x5000, GM_PERM_W},
	{0x6000, GM_PERM_RWX},
	{TOP_PAGE, GM_PERM_RW},
};

#define NR_PAGES (sizeof(pages) / sizeof(pages[0]))

static uint8_t model[NR_PAGES][PAGE];

/* host[i] is where page i of the current layout is. */
static uint8_t *host[NR_PAGES];
static uint8_t *arena;
static struct handmade hand;
static const struct gm_view *view;

enum layout {
	MERGED,
	PLACED,
	WATCHED, /* placed, but every access has to go through the library */
	SCATTERED,
	NR_LAYOUTS,
};

static void lay_out(enum layout layout)
{
	/* The window's base is such that the page that ends at 2^64 lies right below it. */
	uint64_t base = (uintptr_t)arena + PAGE;
	struct gm_span spans[NR_PAGES];
	uint32_t nr = 0;

	for (uint32_t i = 0; i < NR_PAGES; i++) {
		uint8_t *at = layout == SCATTERED
				      ? arena + PAGE * (2 * ((i * 5 + 3) % NR_PAGES) + 1)
				      : (uint8_t *)(uintptr_t)(base + pages[i].gpa);
		struct gm_span span = {
			.first = pages[i].gpa,
			.last = pages[i].gpa + (PAGE - 1),
			.delta = (uintptr_t)at - pages[i].gpa,
			.perms = pages[i].perms,
			.direct = layout == MERGED || layout == PLACED ? pages[i].perms : 0,
		};

		host[i] = at;
		if (layout == MERGED && nr > 0 && spans[nr - 1].last + 1 == span.first &&
			spans[nr - 1].perms == span.perms)
			spans[nr - 1].last = span.last;
		else
			spans[nr++] = span;
	}
	view = handmade_init(&hand, layout == SCATTERED ? 0 : base, spans, nr);
}

/* Fresh contents, the same in memory and in the model. */
static void fill_memory(bool zero)
{
	for (size_t i = 0; i < NR_PAGES; i++) {
		for (size_t j = 0; j < PAGE; j++)
			model[i][j] = zero ? 0 : (uint8_t)(i * 37 + j * 11 + j / 256 + 1);
		memcpy(host[i], model[i], PAGE);
	}
}

static void assert_memory(void)
{
	for (size_t i = 0; i < NR_PAGES; i++)
		assert_memory_equal(host[i], model[i], PAGE);
}

/* ---- the model ---- */

static uint8_t *byte_at(uint64_t gpa, uint32_t perms, int *rc)
{
	for (size_t i = 0; i < NR_PAGES; i++) {
		if (gpa < pages[i].gpa || gpa - pages[i].gpa >= PAGE)
			continue;
		*rc = (pages[i].perms & perms) == perms ? 0 : -EACCES;
		return &model[i][gpa - pages[i].gpa];
	}
	*rc = -EFAULT;
	return NULL;
}

/* What a range access must return, and how many bytes it does. */
static int expect(uint64_t gpa, uint64_t len, uint32_t perms, uint64_t *ret_done)
{
	int rc;

	*ret_done = 0;
	if (len && len - 1 > UINT64_MAX - gpa)
		return -ERANGE;
	if (len == 0) {
		byte_at(gpa, perms, &rc);
		return rc;
	}
	for (uint64_t i = 0; i < len; i++) {
		byte_at(gpa + i, perms, &rc);
		if (rc) {
			*ret_done = i;
			return rc;
		}
	}
	*ret_done = len;
	return 0;
}

static void model_read(uint64_t gpa, uint8_t *buf, uint64_t len)
{
	int rc;

	for (uint64_t i = 0; i < len; i++)
		buf[i] = *byte_at(gpa + i, 0, &rc);
}

static void model_write(uint64_t gpa, const uint8_t *buf, uint64_t len)
{
	int rc;

	for (uint64_t i = 0; i < len; i++)
		*byte_at(gpa + i, 0, &rc) = buf[i];
}

/* ---- the cases: addresses around every edge, lengths up to every other one ---- */

static uint64_t gpas[256];
static size_t nr_gpas;
static const int64_t near[] = {-65, -33, -16, -9, -8, -7, -4, -3, -2, -1, 0, 1, 2, 3, 4, 8, 31};
static const uint64_t some_lens[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65,
	100, 127, 128, 129, 255, 257, 511, 513, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1,
	3 * PAGE, 3 * PAGE + 1, 8 * PAGE, UINT64_MAX - 0xfff, UINT64_MAX - 1, UINT64_MAX};

static void make_gpas(void)
{
	static const uint64_t edges[] = {
		0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000, 0x100000, TOP_PAGE};

	nr_gpas = 0;
	for (size_t e = 0; e < sizeof(edges) / sizeof(edges[0]); e++) {
		for (size_t n = 0; n < sizeof(near) / sizeof(near[0]); n++)
			gpas[nr_gpas++] = edges[e] + (uint64_t)near[n];
	}
}

/*
 * Calls the check for each address with each length: those of the list, and those that end at 2^64
 * or one before or behind.
 */
static void for_each_case(void (*check)(uint64_t gpa, uint64_t len))
{
	for (size_t g = 0; g < nr_gpas; g++) {
		for (size_t l = 0; l < sizeof(some_lens) / sizeof(some_lens[0]); l++)
			check(gpas[g], some_lens[l]);
		for (uint64_t d = 0; d < 3; d++)
			check(gpas[g], 1 - gpas[g] - d);
	}
}

#define BUF (9 * PAGE)
static uint8_t buf[BUF];
static uint8_t want[BUF];

/* The cases that would need a larger buffer end at a hole or wrap, so nobody touches more than
 * this. */
static void check_read(uint64_t gpa, uint64_t len)
{
	uint64_t n;
	size_t done = 77;
	int rc = expect(gpa, len, GM_PERM_R, &n);

	memset(buf, 0xaa, BUF);
	memset(want, 0xaa, BUF);
	model_read(gpa, want, n);
	assert_int_equal(gm_read(view, gpa, buf, len, &done), rc);
	assert_int_equal(done, n);
	assert_memory_equal(buf, want, BUF);
	assert_int_equal(gm_read(view, gpa, buf, len, NULL), rc);
}

static void check_write(uint64_t gpa, uint64_t len)
{
	static uint8_t salt;
	uint64_t n;
	size_t done = 77;
	int rc = expect(gpa, len, GM_PERM_W, &n);

	salt++;
	for (size_t i = 0; i < BUF; i++)
		buf[i] = (uint8_t)(i * 7 + salt);
	model_write(gpa, buf, n);
	assert_int_equal(gm_write(view, gpa, buf, len, &done), rc);
	assert_int_equal(done, n);
	assert_memory();
	assert_int_equal(gm_write(view, gpa, buf, len, NULL), rc);
}

static void check_fill(uint64_t gpa, uint64_t len)
{
	static uint8_t byte;
	uint64_t n;
	size_t done = 77;
	int rc = expect(gpa, len, GM_PERM_W, &n);

	memset(buf, ++byte, BUF);
	model_write(gpa, buf, n);
	assert_int_equal(gm_fill(view, gpa, byte, len, &done), rc);
	assert_int_equal(done, n);
	assert_memory();
}

static void check_compare(uint64_t gpa, uint64_t len)
{
	uint64_t n;
	size_t done = 77;
	int order = 77;
	int rc = expect(gpa, len, GM_PERM_R, &n);

	memset(buf, 0xaa, BUF);
	model_read(gpa, buf, n);
	assert_int_equal(gm_compare(view, gpa, buf, len, &order, &done), rc);
	assert_int_equal(done, n);
	assert_int_equal(order, rc ? 77 : 0);
	/* A difference in front of whatever would fail is an answer. */
	for (uint64_t at = 0; at < n; at += 1 + at / 3) {
		buf[at]++;
		assert_int_equal(gm_compare(view, gpa, buf, len, &order, &done), 0);
		assert_int_equal(done, at);
		buf[at]--;
		assert_true(buf[at] < (uint8_t)(buf[at] + 1) ? order < 0 : order > 0);
	}
}

static void check_is_zero(uint64_t gpa, uint64_t len)
{
	uint64_t n;
	size_t done = 77;
	int rc = expect(gpa, len, GM_PERM_R, &n);
	uint8_t one = 1;

	assert_int_equal(gm_is_zero(view, gpa, len, &done), rc ? rc : 1);
	assert_int_equal(done, n);
	for (uint64_t at = 0; at < n; at += 1 + at / 3) {
		uint64_t ignored;

		if (expect(gpa + at, 1, GM_PERM_W, &ignored))
			continue;
		assert_int_equal(gm_write(view, gpa + at, &one, 1, NULL), 0);
		assert_int_equal(gm_is_zero(view, gpa, len, &done), 0);
		assert_int_equal(done, at);
		assert_int_equal(gm_fill(view, gpa + at, 0, 1, NULL), 0);
	}
}

static void over_layouts(void (*check)(uint64_t gpa, uint64_t len), bool zero)
{
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		lay_out(layout);
		fill_memory(zero);
		for_each_case(check);
	}
}

static void reads_follow_the_edge_rule(void **state)
{
	(void)state;
	over_layouts(check_read, false);
}

static void writes_follow_the_edge_rule(void **state)
{
	(void)state;
	over_layouts(check_write, false);
}

static void fills_follow_the_edge_rule(void **state)
{
	(void)state;
	over_layouts(check_fill, false);
}

static void comparisons_follow_the_edge_rule(void **state)
{
	(void)state;
	over_layouts(check_compare, false);
}

static void zero_tests_follow_the_edge_rule(void **state)
{
	(void)state;
	over_layouts(check_is_zero, true);
}

/* ---- copies inside the guest ---- */

/* What a copy must return: the first byte that cannot be read or cannot be written ends it. */
static int expect_copy(uint64_t dst, uint64_t src, uint64_t len, uint64_t *ret_done)
{
	uint64_t can_write;
	uint64_t can_read;
	int rc_dst = expect(dst, len, GM_PERM_W, &can_write);
	int rc_src = expect(src, len, GM_PERM_R, &can_read);

	*ret_done = 0;
	if (rc_dst == -ERANGE || rc_src == -ERANGE)
		return -ERANGE;
	*ret_done = can_read <= can_write ? can_read : can_write;
	if (len == 0)
		return rc_src ? rc_src : rc_dst;
	return can_read <= can_write && rc_src ? rc_src : rc_dst;
}

static void check_copy(uint64_t dst, uint64_t src, uint64_t len)
{
	uint64_t n;
	size_t done = 77;
	int rc = expect_copy(dst, src, len, &n);

	model_read(src, want, n);
	model_write(dst, want, n);
	assert_int_equal(gm_copy(view, dst, src, len, &done), rc);
	assert_int_equal(done, n);
	assert_memory();
}

static void copies_follow_the_edge_rule(void **state)
{
	static const uint64_t others[] = {
		0x1000, 0x1fff, 0x2ff8, 0x3001, 0x4000, 0x6100, TOP_PAGE, UINT64_MAX};
	struct rng rng = {test_seed(7)};

	(void)state;
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		lay_out(layout);
		fill_memory(false);
		for (size_t g = 0; g < nr_gpas; g += 3) {
			for (size_t o = 0; o < sizeof(others) / sizeof(others[0]); o++) {
				for (size_t l = 0; l < sizeof(some_lens) / sizeof(some_lens[0]);
					l++) {
					check_copy(gpas[g], others[o], some_lens[l]);
					check_copy(others[o], gpas[g], some_lens[l]);
				}
			}
		}
		/* Overlaps of any distance, up and down, within a page and across. */
		for (unsigned long i = 0; i < support_scale(3000); i++) {
			uint64_t src = 0xff0 + rng_next(&rng) % 0x2020;
			uint64_t by = rng_next(&rng) % (i % 3 ? 200 : 0x1800);
			uint64_t len = rng_next(&rng) % 0x2200;

			check_copy(rng_next(&rng) & 1 ? src + by : src - by, src, len);
		}
	}
}

/* ---- typed ---- */

enum byte_order {
	NATIVE,
	LITTLE,
	BIG,
};

struct typed {
	const char *name;
	size_t size;
	enum byte_order order;
	int (*read)(const struct gm_view *view, uint64_t gpa, uint64_t *value);
	int (*write)(const struct gm_view *view, uint64_t gpa, uint64_t value);
};

/* The value is put into a wider variable only on success, so that what a failure leaves is seen. */
#define TYPED(name, bits)                                                                          \
	static int read_##name(const struct gm_view *v, uint64_t gpa, uint64_t *value)             \
	{                                                                                          \
		uint##bits##_t x = (uint##bits##_t) * value;                                       \
		int rc = gm_read_##name(v, gpa, &x);                                               \
                                                                                                   \
		*value = x;                                                                        \
		return rc;                                                                         \
	}                                                                                          \
	static int write_##name(const struct gm_view *v, uint64_t gpa, uint64_t value)             \
	{                                                                                          \
		return gm_write_##name(v, gpa, (uint##bits##_t)value);                             \
	}

TYPED(u8, 8)
TYPED(u16, 16)
TYPED(u32, 32)
TYPED(u64, 64)
TYPED(le16, 16)
TYPED(le32, 32)
TYPED(le64, 64)
TYPED(be16, 16)
TYPED(be32, 32)
TYPED(be64, 64)

#define ROW(name, size, order)                                                                     \
	{                                                                                          \
#name, size, order, read_##name, write_##name                                      \
	}
static const struct typed typed[] = {
	ROW(u8, 1, NATIVE),
	ROW(u16, 2, NATIVE),
	ROW(u32, 4, NATIVE),
	ROW(u64, 8, NATIVE),
	ROW(le16, 2, LITTLE),
	ROW(le32, 4, LITTLE),
	ROW(le64, 8, LITTLE),
	ROW(be16, 2, BIG),
	ROW(be32, 4, BIG),
	ROW(be64, 8, BIG),
};

static uint64_t from_bytes(const uint8_t *bytes, const struct typed *t)
{
	bool big =
		t->order == BIG || (t->order == NATIVE && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
	uint64_t value = 0;

	for (size_t i = 0; i < t->size; i++)
		value |= (uint64_t)bytes[i] << 8 * (big ? t->size - 1 - i : i);
	return value;
}

static uint64_t cut(uint64_t value, size_t size)
{
	return size == 8 ? value : value & ((UINT64_C(1) << 8 * size) - 1);
}

static void check_typed(const struct typed *t, uint64_t gpa)
{
	static uint64_t salt = 0x9e3779b97f4a7c15u;
	uint64_t value = 0x5a5a5a5a5a5a5a5au;
	uint8_t bytes[8];
	uint64_t n;
	int rc = expect(gpa, t->size, GM_PERM_R, &n);

	if (rc == 0)
		model_read(gpa, bytes, t->size);
	assert_int_equal(t->read(view, gpa, &value), rc);
	assert_int_equal(value, rc ? cut(0x5a5a5a5a5a5a5a5au, t->size) : from_bytes(bytes, t));

	rc = expect(gpa, t->size, GM_PERM_W, &n);
	salt = salt * 6364136223846793005u + 1442695040888963407u;
	assert_int_equal(t->write(view, gpa, salt), rc);
	if (rc == 0) {
		for (size_t i = 0; i < t->size; i++) {
			uint64_t swapped = cut(salt, t->size);

			if (t->order == BIG ||
				(t->order == NATIVE && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__))
				swapped = __builtin_bswap64(swapped) >> (64 - 8 * t->size);
			bytes[i] = (uint8_t)(swapped >> 8 * i);
		}
		model_write(gpa, bytes, t->size);
	}
	assert_memory();
}

static void typed_accesses_follow_the_edge_rule(void **state)
{
	(void)state;
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		lay_out(layout);
		fill_memory(false);
		for (size_t t = 0; t < sizeof(typed) / sizeof(typed[0]); t++) {
			for (size_t g = 0; g < nr_gpas; g++)
				check_typed(&typed[t], gpas[g]);
		}
	}
}

static void objects_are_read_and_written_whole(void **state)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
		uint16_t next;
	} out = {0x123456789abcdef0, 77, 3, 9}, in = {0};

	(void)state;
	lay_out(SCATTERED);
	fill_memory(false);
	assert_int_equal(gm_write_obj(view, 0x1ff8, &out), 0);
	assert_int_equal(gm_read_obj(view, 0x1ff8, &in), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(gm_read_obj(view, 0x3ff8, &in), -EFAULT);
}

/* ---- atomics ---- */

enum atomic_op {
	LOAD,
	STORE,
	EXCHANGE,
	ADD,
	AND,
	OR,
	XOR,
	CMPXCHG,
	NR_OPS,
};

#define ATOMIC(bits)                                                                               \
	static int atomic_##bits(                                                                  \
		enum atomic_op op, uint64_t gpa, int order, uint64_t *value, uint64_t operand)     \
	{                                                                                          \
		uint##bits##_t x = (uint##bits##_t) * value;                                       \
		uint##bits##_t y = (uint##bits##_t)operand;                                        \
		int rc = -1;                                                                       \
                                                                                                   \
		switch (op) {                                                                      \
		case LOAD:                                                                         \
			rc = gm_atomic_load_u##bits(view, gpa, order, &x);                         \
			break;                                                                     \
		case STORE:                                                                        \
			rc = gm_atomic_store_u##bits(view, gpa, order, y);                         \
			break;                                                                     \
		case EXCHANGE:                                                                     \
			rc = gm_atomic_exchange_u##bits(view, gpa, order, y, &x);                  \
			break;                                                                     \
		case ADD:                                                                          \
			rc = gm_atomic_fetch_add_u##bits(view, gpa, order, y, &x);                 \
			break;                                                                     \
		case AND:                                                                          \
			rc = gm_atomic_fetch_and_u##bits(view, gpa, order, y, &x);                 \
			break;                                                                     \
		case OR:                                                                           \
			rc = gm_atomic_fetch_or_u##bits(view, gpa, order, y, &x);                  \
			break;                                                                     \
		case XOR:                                                                          \
			rc = gm_atomic_fetch_xor_u##bits(view, gpa, order, y, &x);                 \
			break;                                                                     \
		case CMPXCHG:                                                                      \
			rc = gm_atomic_cmpxchg_u##bits(view, gpa, order, &x, y);                   \
			break;                                                                     \
		case NR_OPS:                                                                       \
			break;                                                                     \
		}                                                                                  \
		*value = x;                                                                        \
		return rc;                                                                         \
	}

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

static int atomic(
	enum atomic_op op, size_t size, uint64_t gpa, int order, uint64_t *value, uint64_t operand)
{
	switch (size) {
	case 1:
		return atomic_8(op, gpa, order, value, operand);
	case 2:
		return atomic_16(op, gpa, order, value, operand);
	case 4:
		return atomic_32(op, gpa, order, value, operand);
	default:
		return atomic_64(op, gpa, order, value, operand);
	}
}

static uint64_t result(enum atomic_op op, uint64_t old, uint64_t operand)
{
	switch (op) {
	case ADD:
		return old + operand;
	case AND:
		return old & operand;
	case OR:
		return old | operand;
	case XOR:
		return old ^ operand;
	case LOAD:
		return old;
	default:
		return operand;
	}
}

static void put_model(uint64_t gpa, uint64_t value, size_t size)
{
	uint8_t bytes[8];

	memcpy(bytes, &value, sizeof(bytes));
	model_write(gpa, bytes, size);
}

static void check_atomic(enum atomic_op op, size_t size, uint64_t gpa, int order)
{
	static uint64_t operand = 0x9e3779b97f4a7c15u;
	uint32_t perms = op == LOAD ? GM_PERM_R : op == STORE ? GM_PERM_W : GM_PERM_RW;
	uint64_t value = cut(0x5a5a5a5a5a5a5a5au, size);
	uint64_t old = 0;
	uint64_t n;
	int rc = gpa % size ? -EINVAL : expect(gpa, size, perms, &n);

	operand = operand * 6364136223846793005u + 1442695040888963407u;
	if (rc) {
		assert_int_equal(atomic(op, size, gpa, order, &value, operand), rc);
		assert_int_equal(value, cut(0x5a5a5a5a5a5a5a5au, size));
		assert_memory();
		return;
	}
	model_read(gpa, (uint8_t *)&old, size);
	if (op == CMPXCHG) {
		/* First with what is not there. */
		value = cut(~old, size);
		assert_int_equal(atomic(op, size, gpa, order, &value, operand), 0);
		assert_int_equal(value, old);
		assert_memory();
	}
	assert_int_equal(atomic(op, size, gpa, order, &value, operand), op == CMPXCHG);
	assert_int_equal(value, op == STORE ? cut(0x5a5a5a5a5a5a5a5au, size) : old);
	put_model(gpa, result(op, old, operand), size);
	assert_memory();
}

static void atomics_follow_the_edge_rule(void **state)
{
	(void)state;
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		lay_out(layout);
		fill_memory(false);
		for (enum atomic_op op = 0; op < NR_OPS; op++) {
			for (size_t size = 1; size <= 8; size *= 2) {
				for (size_t g = 0; g < nr_gpas; g++)
					check_atomic(op, size, gpas[g], (int)(g % 6));
			}
		}
	}
}

static void what_was_there_is_optional(void **state)
{
	uint32_t now;

	(void)state;
	lay_out(PLACED);
	assert_int_equal(gm_atomic_store_u32(view, 0x1000, __ATOMIC_SEQ_CST, 5), 0);
	assert_int_equal(gm_atomic_fetch_add_u32(view, 0x1000, __ATOMIC_RELAXED, 7, NULL), 0);
	assert_int_equal(gm_atomic_load_u32(view, 0x1000, __ATOMIC_ACQUIRE, &now), 0);
	assert_int_equal(now, 12);
}

/* ---- several threads ---- */

struct worker {
	pthread_t thread;
	uint64_t gpa;
	size_t size;
	unsigned long rounds;
	int (*write)(uint64_t gpa, size_t size, uint64_t value);
	int (*read)(uint64_t gpa, size_t size, uint64_t *value);
};

static bool stop; /* atomic */

static int write_bytes(uint64_t gpa, size_t size, uint64_t value)
{
	return gm_write(view, gpa, &value, size, NULL);
}

static int read_bytes(uint64_t gpa, size_t size, uint64_t *value)
{
	*value = 0;
	return gm_read(view, gpa, value, size, NULL);
}

static int write_typed(uint64_t gpa, size_t size, uint64_t value)
{
	switch (size) {
	case 2:
		return gm_write_u16(view, gpa, (uint16_t)value);
	case 4:
		return gm_write_u32(view, gpa, (uint32_t)value);
	default:
		return gm_write_u64(view, gpa, value);
	}
}

static int read_typed(uint64_t gpa, size_t size, uint64_t *value)
{
	uint32_t v32 = 0;
	uint16_t v16 = 0;
	int rc;

	switch (size) {
	case 2:
		rc = gm_read_u16(view, gpa, &v16);
		*value = v16;
		return rc;
	case 4:
		rc = gm_read_u32(view, gpa, &v32);
		*value = v32;
		return rc;
	default:
		return gm_read_u64(view, gpa, value);
	}
}

static int fill_bytes(uint64_t gpa, size_t size, uint64_t value)
{
	return gm_fill(view, gpa, (uint8_t)value, size, NULL);
}

static void *write_patterns(void *arg)
{
	const struct worker *w = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		w->write(w->gpa, w->size, 0);
		w->write(w->gpa, w->size, UINT64_MAX);
	}
	return NULL;
}

/* One writes all zeros and all ones, the other must never see a mix. */
static void check_tearing(struct worker w)
{
	uint64_t all = cut(UINT64_MAX, w.size);
	unsigned long mixes = 0;

	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	assert_int_equal(w.write(w.gpa, w.size, 0), 0);
	assert_int_equal(pthread_create(&w.thread, NULL, write_patterns, &w), 0);
	for (unsigned long i = 0; i < w.rounds; i++) {
		uint64_t value;

		if (w.read(w.gpa, w.size, &value) || (value != 0 && value != all))
			mixes++;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(w.thread, NULL);
	assert_int_equal(mixes, 0);
}

static void aligned_accesses_are_never_torn(void **state)
{
	(void)state;
	for (enum layout layout = MERGED; layout < NR_LAYOUTS; layout++) {
		lay_out(layout);
		for (size_t size = 2; size <= 8; size *= 2) {
			struct worker w = {
				.gpa = 0x1040, .size = size, .rounds = support_scale(100000)};

			w.read = read_typed;
			w.write = write_typed;
			check_tearing(w);
			w.read = read_bytes;
			w.write = write_bytes;
			check_tearing(w);
			w.write = fill_bytes;
			check_tearing(w);
		}
	}
}

#define ADDERS 3

static void *add_many(void *arg)
{
	struct worker *w = arg;

	for (unsigned long i = 0; i < w->rounds; i++) {
		uint64_t old;
		uint64_t seen = 0;

		gm_atomic_fetch_add_u64(view, w->gpa, __ATOMIC_RELAXED, 1, &old);
		gm_atomic_fetch_xor_u16(
			view, w->gpa + 8, __ATOMIC_RELAXED, (uint16_t)(1u << (w->size % 16)), NULL);
		while (gm_atomic_cmpxchg_u64(
			       view, w->gpa + 16, __ATOMIC_SEQ_CST, &seen, seen + 2) == 0)
			;
	}
	return NULL;
}

static void read_modify_write_loses_nothing(void **state)
{
	struct worker workers[ADDERS];
	unsigned long rounds = 20001;
	uint64_t sum;
	uint16_t bits;

	(void)state;
	for (enum layout layout = PLACED; layout < NR_LAYOUTS; layout++) {
		lay_out(layout);
		fill_memory(true);
		for (size_t i = 0; i < ADDERS; i++) {
			workers[i] = (struct worker){.gpa = 0x2000, .size = i, .rounds = rounds};
			assert_int_equal(
				pthread_create(&workers[i].thread, NULL, add_many, &workers[i]), 0);
		}
		for (size_t i = 0; i < ADDERS; i++)
			pthread_join(workers[i].thread, NULL);
		assert_int_equal(gm_read_u64(view, 0x2000, &sum), 0);
		assert_int_equal(sum, ADDERS * rounds);
		assert_int_equal(gm_read_u16(view, 0x2008, &bits), 0);
		assert_int_equal(bits, (1u << ADDERS) - 1);
		assert_int_equal(gm_read_u64(view, 0x2010, &sum), 0);
		assert_int_equal(sum, 2 * ADDERS * rounds);
	}
}

/* Dekker: with sequentially consistent stores and loads, not both threads read 0. */
static void *cross(void *arg)
{
	struct worker *w = arg;
	uint32_t other = 0;

	gm_atomic_store_u32(view, w->gpa, __ATOMIC_SEQ_CST, 1);
	gm_atomic_load_u32(view, w->gpa ^ 64, __ATOMIC_SEQ_CST, &other);
	w->rounds = other;
	return NULL;
}

static void sequential_consistency_is_kept(void **state)
{
	(void)state;
	lay_out(PLACED);
	for (unsigned int i = 0; i < support_scale(2000); i++) {
		struct worker a = {.gpa = 0x1000};
		struct worker b = {.gpa = 0x1040};

		assert_int_equal(gm_fill(view, 0x1000, 0, 128, NULL), 0);
		assert_int_equal(pthread_create(&a.thread, NULL, cross, &a), 0);
		cross(&b);
		pthread_join(a.thread, NULL);
		assert_true(a.rounds || b.rounds);
	}
}

static void a_view_without_spans_holds_nothing(void **state)
{
	struct handmade none;
	size_t done = 7;
	uint8_t byte = 9;

	(void)state;
	view = handmade_init(&none, 0, NULL, 0);
	assert_int_equal(gm_read(view, 0, &byte, 1, &done), -EFAULT);
	assert_int_equal(done, 0);
	assert_int_equal(gm_read_u8(view, UINT64_MAX, &byte), -EFAULT);
	assert_int_equal(gm_is_zero(view, 0, 0, NULL), -EFAULT);
	assert_int_equal(byte, 9);
}

static void one_span_may_be_the_whole_address_space(void **state)
{
	struct gm_span all = {
		.last = UINT64_MAX, .delta = 0, .perms = GM_PERM_RW, .direct = GM_PERM_RW};
	uint64_t at = (uintptr_t)arena;
	uint32_t value;
	size_t done;

	(void)state;
	view = handmade_init(&hand, 0, &all, 1);
	assert_int_equal(gm_write_u32(view, at, 5), 0);
	assert_int_equal(gm_read_u32(view, at, &value), 0);
	assert_int_equal(value, 5);
	assert_int_equal(gm_read(view, 0, NULL, 0, &done), 0);
	assert_int_equal(gm_read(view, UINT64_MAX, NULL, 0, &done), 0);
	assert_int_equal(gm_read(view, UINT64_MAX, NULL, 2, &done), -ERANGE);
	assert_int_equal(gm_read_u32(view, UINT64_MAX - 2, &value), -ERANGE);
	assert_int_equal(gm_write_u32(view, UINT64_MAX - 2, 1), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_follow_the_edge_rule),
		cmocka_unit_test(writes_follow_the_edge_rule),
		cmocka_unit_test(fills_follow_the_edge_rule),
		cmocka_unit_test(comparisons_follow_the_edge_rule),
		cmocka_unit_test(zero_tests_follow_the_edge_rule),
		cmocka_unit_test(copies_follow_the_edge_rule),
		cmocka_unit_test(typed_accesses_follow_the_edge_rule),
		cmocka_unit_test(objects_are_read_and_written_whole),
		cmocka_unit_test(atomics_follow_the_edge_rule),
		cmocka_unit_test(what_was_there_is_optional),
		cmocka_unit_test(aligned_accesses_are_never_torn),
		cmocka_unit_test(read_modify_write_loses_nothing),
		cmocka_unit_test(sequential_consistency_is_kept),
		cmocka_unit_test(a_view_without_spans_holds_nothing),
		cmocka_unit_test(one_span_may_be_the_whole_address_space),
	};

	arena = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		return 1;
	make_gpas();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
