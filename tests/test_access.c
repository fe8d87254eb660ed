/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_access.c - reads, writes, fills, comparisons and copies at every edge, against a naive model
 * (guest.h).
 */
#include <errno.h>
#include <string.h>

#include "guest.h"
#include "handmade.h"
#include "random.h"
#include "support.h"

#define BUF (9 * PAGE)
static uint8_t buf[BUF];
static uint8_t want[BUF];

/* The cases that would need a larger buffer end at a hole or wrap, so nobody touches more than
 * this. */
static void check_read(uint64_t gpa, uint64_t len)
{
	uint64_t n;
	size_t done = 77;
	int rc = guest_expect(gpa, len, GM_PERM_R, &n);

	memset(buf, 0xaa, BUF);
	memset(want, 0xaa, BUF);
	guest_model_read(gpa, want, n);
	assert_int_equal(gm_read(guest_view, gpa, buf, len, &done), rc);
	assert_int_equal(done, n);
	assert_memory_equal(buf, want, BUF);
	assert_int_equal(gm_read(guest_view, gpa, buf, len, NULL), rc);
}

static void check_write(uint64_t gpa, uint64_t len)
{
	static uint8_t salt;
	uint64_t n;
	size_t done = 77;
	int rc = guest_expect(gpa, len, GM_PERM_W, &n);

	salt++;
	for (size_t i = 0; i < BUF; i++)
		buf[i] = (uint8_t)(i * 7 + salt);
	guest_model_write(gpa, buf, n);
	assert_int_equal(gm_write(guest_view, gpa, buf, len, &done), rc);
	assert_int_equal(done, n);
	guest_check();
	assert_int_equal(gm_write(guest_view, gpa, buf, len, NULL), rc);
}

static void check_fill(uint64_t gpa, uint64_t len)
{
	static uint8_t byte;
	uint64_t n;
	size_t done = 77;
	int rc = guest_expect(gpa, len, GM_PERM_W, &n);

	memset(buf, ++byte, BUF);
	guest_model_write(gpa, buf, n);
	assert_int_equal(gm_fill(guest_view, gpa, byte, len, &done), rc);
	assert_int_equal(done, n);
	guest_check();
}

static void check_compare(uint64_t gpa, uint64_t len)
{
	uint64_t n;
	size_t done = 77;
	int order = 77;
	int rc = guest_expect(gpa, len, GM_PERM_R, &n);

	memset(buf, 0xaa, BUF);
	guest_model_read(gpa, buf, n);
	assert_int_equal(gm_compare(guest_view, gpa, buf, len, &order, &done), rc);
	assert_int_equal(done, n);
	assert_int_equal(order, rc ? 77 : 0);
	/* A difference in front of whatever would fail is an answer. */
	for (uint64_t at = 0; at < n; at += 1 + at / 3) {
		buf[at]++;
		assert_int_equal(gm_compare(guest_view, gpa, buf, len, &order, &done), 0);
		assert_int_equal(done, at);
		buf[at]--;
		assert_true(buf[at] < (uint8_t)(buf[at] + 1) ? order < 0 : order > 0);
	}
}

static void check_is_zero(uint64_t gpa, uint64_t len)
{
	uint64_t n;
	size_t done = 77;
	int rc = guest_expect(gpa, len, GM_PERM_R, &n);
	uint8_t one = 1;

	assert_int_equal(gm_is_zero(guest_view, gpa, len, &done), rc ? rc : 1);
	assert_int_equal(done, n);
	for (uint64_t at = 0; at < n; at += 1 + at / 3) {
		uint64_t ignored;

		if (guest_expect(gpa + at, 1, GM_PERM_W, &ignored))
			continue;
		assert_int_equal(gm_write(guest_view, gpa + at, &one, 1, NULL), 0);
		assert_int_equal(gm_is_zero(guest_view, gpa, len, &done), 0);
		assert_int_equal(done, at);
		assert_int_equal(gm_fill(guest_view, gpa + at, 0, 1, NULL), 0);
	}
}

static void over_layouts(void (*check)(uint64_t gpa, uint64_t len), bool zero)
{
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		guest_lay_out(layout);
		guest_fill(zero);
		guest_for_each_case(check);
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
	int rc_dst = guest_expect(dst, len, GM_PERM_W, &can_write);
	int rc_src = guest_expect(src, len, GM_PERM_R, &can_read);

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

	guest_model_read(src, want, n);
	guest_model_write(dst, want, n);
	assert_int_equal(gm_copy(guest_view, dst, src, len, &done), rc);
	assert_int_equal(done, n);
	guest_check();
}

static void copies_to_and_from(uint64_t other)
{
	for (size_t g = 0; g < guest_nr_gpas; g += 3) {
		for (size_t l = 0; l < GUEST_NR_LENS; l++) {
			check_copy(guest_gpas[g], other, guest_lens[l]);
			check_copy(other, guest_gpas[g], guest_lens[l]);
		}
	}
}

/* Overlaps of any distance, up and down, within a page and across. */
static void copies_that_overlap(struct rng *rng)
{
	for (unsigned long i = 0; i < support_scale(3000); i++) {
		uint64_t src = 0xff0 + rng_next(rng) % 0x2020;
		uint64_t by = rng_next(rng) % (i % 3 ? 200 : 0x1800);
		uint64_t len = rng_next(rng) % 0x2200;

		check_copy(rng_next(rng) & 1 ? src + by : src - by, src, len);
	}
}

static void copies_follow_the_edge_rule(void **state)
{
	static const uint64_t others[] = {
		0x1000, 0x1fff, 0x2ff8, 0x3001, 0x4000, 0x6100, TOP_PAGE, UINT64_MAX};
	struct rng rng = {test_seed(7)};

	(void)state;
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		guest_lay_out(layout);
		guest_fill(false);
		for (size_t o = 0; o < sizeof(others) / sizeof(others[0]); o++)
			copies_to_and_from(others[o]);
		copies_that_overlap(&rng);
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
	int (*read)(const struct gm_view *guest_view, uint64_t gpa, uint64_t *value);
	int (*write)(const struct gm_view *guest_view, uint64_t gpa, uint64_t value);
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

static void check_typed(const struct typed *t, uint64_t gpa)
{
	static uint64_t salt = 0x9e3779b97f4a7c15u;
	uint64_t value = 0x5a5a5a5a5a5a5a5au;
	uint8_t bytes[8];
	uint64_t n;
	int rc = guest_expect(gpa, t->size, GM_PERM_R, &n);

	if (rc == 0)
		guest_model_read(gpa, bytes, t->size);
	assert_int_equal(t->read(guest_view, gpa, &value), rc);
	assert_int_equal(
		value, rc ? guest_cut(0x5a5a5a5a5a5a5a5au, t->size) : from_bytes(bytes, t));

	rc = guest_expect(gpa, t->size, GM_PERM_W, &n);
	salt = salt * 6364136223846793005u + 1442695040888963407u;
	assert_int_equal(t->write(guest_view, gpa, salt), rc);
	if (rc == 0) {
		for (size_t i = 0; i < t->size; i++) {
			uint64_t swapped = guest_cut(salt, t->size);

			if (t->order == BIG ||
				(t->order == NATIVE && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__))
				swapped = __builtin_bswap64(swapped) >> (64 - 8 * t->size);
			bytes[i] = (uint8_t)(swapped >> 8 * i);
		}
		guest_model_write(gpa, bytes, t->size);
	}
	guest_check();
}

static void typed_accesses_follow_the_edge_rule(void **state)
{
	(void)state;
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		guest_lay_out(layout);
		guest_fill(false);
		for (size_t t = 0; t < sizeof(typed) / sizeof(typed[0]); t++) {
			for (size_t g = 0; g < guest_nr_gpas; g++)
				check_typed(&typed[t], guest_gpas[g]);
		}
	}
}

static void a_view_without_spans_holds_nothing(void **state)
{
	struct handmade none;
	size_t done = 7;
	uint8_t byte = 9;

	(void)state;
	guest_view = handmade_init(&none, 0, NULL, 0);
	assert_int_equal(gm_read(guest_view, 0, &byte, 1, &done), -EFAULT);
	assert_int_equal(done, 0);
	assert_int_equal(gm_read_u8(guest_view, UINT64_MAX, &byte), -EFAULT);
	assert_int_equal(gm_is_zero(guest_view, 0, 0, NULL), -EFAULT);
	assert_int_equal(byte, 9);
}

static void one_span_may_be_the_whole_address_space(void **state)
{
	struct gm_span all = {
		.last = UINT64_MAX, .delta = 0, .perms = GM_PERM_RW, .direct = GM_PERM_RW};
	static uint32_t cell;
	struct handmade hand;
	uint64_t at = (uintptr_t)&cell;
	uint32_t value;
	size_t done;

	(void)state;
	guest_view = handmade_init(&hand, 0, &all, 1);
	assert_int_equal(gm_write_u32(guest_view, at, 5), 0);
	assert_int_equal(gm_read_u32(guest_view, at, &value), 0);
	assert_int_equal(value, 5);
	assert_int_equal(gm_read(guest_view, 0, NULL, 0, &done), 0);
	assert_int_equal(gm_read(guest_view, UINT64_MAX, NULL, 0, &done), 0);
	assert_int_equal(gm_read(guest_view, UINT64_MAX, NULL, 2, &done), -ERANGE);
	assert_int_equal(gm_read_u32(guest_view, UINT64_MAX - 2, &value), -ERANGE);
	assert_int_equal(gm_write_u32(guest_view, UINT64_MAX - 2, 1), -ERANGE);
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
		cmocka_unit_test(a_view_without_spans_holds_nothing),
		cmocka_unit_test(one_span_may_be_the_whole_address_space),
	};

	return guest_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
