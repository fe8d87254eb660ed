/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_grant_access.c - every access function on what is granted read-only, write-only, never, and no
 * more: the answer is an error, and no byte has changed.
 */
#include "one_grant.h"

#include <guestmem/access.h>
#include <guestmem/atomic.h>
#include <guestmem/slice.h>

/* Where an access is tried, and a page that may be read and written. */
struct place {
	uint64_t gpa;
	uint64_t rw;
};

typedef int (*access_fn)(const struct gm_view *view, const struct place *at);

#define TRY(name, call)                                                                            \
	static int try_##name(const struct gm_view *view, const struct place *at)                  \
	{                                                                                          \
		uint64_t gpa = at->gpa;                                                            \
                                                                                                   \
		(void)gpa;                                                                         \
		return call;                                                                       \
	}

static uint8_t buf[64];
static uint8_t u8;
static uint16_t u16;
static uint32_t u32;
static uint64_t u64;
static int order;

static int put(int rc, struct gm_pin *pin)
{
	if (!rc)
		gm_pin_put(pin);
	return rc;
}

static int pin_slice(const struct gm_view *view, uint64_t gpa, uint32_t perms)
{
	struct gm_pin pin = {0};
	struct iovec slice;

	return put(gm_pin_slice(view, gpa, 64, perms, &slice, &pin), &pin);
}

static int pin_range(const struct gm_view *view, uint64_t gpa, uint32_t perms)
{
	struct gm_pin pin = {0};
	struct iovec slice;
	size_t needed;

	return put(gm_pin_range(view, gpa, 64, perms, &slice, &pin, 1, &needed), &pin);
}

TRY(read, gm_read(view, gpa, buf, sizeof(buf), NULL))
TRY(read_slow, gm_read_slow(view, gpa, buf, sizeof(buf), NULL))
TRY(write, gm_write(view, gpa, buf, sizeof(buf), NULL))
TRY(write_slow, gm_write_slow(view, gpa, buf, sizeof(buf), NULL))
TRY(fill, gm_fill(view, gpa, 0xee, sizeof(buf), NULL))
TRY(compare, gm_compare(view, gpa, buf, sizeof(buf), &order, NULL))
TRY(is_zero, gm_is_zero(view, gpa, sizeof(buf), NULL))
TRY(copy_from, gm_copy(view, at->rw, gpa, sizeof(buf), NULL))
TRY(copy_to, gm_copy(view, gpa, at->rw, sizeof(buf), NULL))
TRY(read_u8, gm_read_u8(view, gpa, &u8))
TRY(read_u16, gm_read_u16(view, gpa, &u16))
TRY(read_u32, gm_read_u32(view, gpa, &u32))
TRY(read_u64, gm_read_u64(view, gpa, &u64))
TRY(read_le16, gm_read_le16(view, gpa, &u16))
TRY(read_le32, gm_read_le32(view, gpa, &u32))
TRY(read_le64, gm_read_le64(view, gpa, &u64))
TRY(read_be16, gm_read_be16(view, gpa, &u16))
TRY(read_be32, gm_read_be32(view, gpa, &u32))
TRY(read_be64, gm_read_be64(view, gpa, &u64))
TRY(write_u8, gm_write_u8(view, gpa, 0xee))
TRY(write_u16, gm_write_u16(view, gpa, 0xeeee))
TRY(write_u32, gm_write_u32(view, gpa, 0xeeeeeeee))
TRY(write_u64, gm_write_u64(view, gpa, 0xeeeeeeee))
TRY(write_le16, gm_write_le16(view, gpa, 0xeeee))
TRY(write_le32, gm_write_le32(view, gpa, 0xeeeeeeee))
TRY(write_le64, gm_write_le64(view, gpa, 0xeeeeeeee))
TRY(write_be16, gm_write_be16(view, gpa, 0xeeee))
TRY(write_be32, gm_write_be32(view, gpa, 0xeeeeeeee))
TRY(write_be64, gm_write_be64(view, gpa, 0xeeeeeeee))
TRY(pin_slice_r, pin_slice(view, gpa, GM_PERM_R))
TRY(pin_slice_w, pin_slice(view, gpa, GM_PERM_W))
TRY(pin_range_r, pin_range(view, gpa, GM_PERM_R))
TRY(pin_range_w, pin_range(view, gpa, GM_PERM_W))
TRY(check_r, gm_view_check(view, gpa, 64, GM_PERM_R))
TRY(check_w, gm_view_check(view, gpa, 64, GM_PERM_W))

#define TRY_ATOMICS(n)                                                                             \
	TRY(atomic_load_u##n, gm_atomic_load_u##n(view, gpa, __ATOMIC_SEQ_CST, &u##n))             \
	TRY(atomic_store_u##n, gm_atomic_store_u##n(view, gpa, __ATOMIC_SEQ_CST, 0xee))            \
	TRY(atomic_exchange_u##n,                                                                  \
		gm_atomic_exchange_u##n(view, gpa, __ATOMIC_SEQ_CST, 0xee, &u##n))                 \
	TRY(atomic_fetch_add_u##n,                                                                 \
		gm_atomic_fetch_add_u##n(view, gpa, __ATOMIC_SEQ_CST, 0x11, &u##n))                \
	TRY(atomic_fetch_and_u##n,                                                                 \
		gm_atomic_fetch_and_u##n(view, gpa, __ATOMIC_SEQ_CST, 0, &u##n))                   \
	TRY(atomic_fetch_or_u##n,                                                                  \
		gm_atomic_fetch_or_u##n(view, gpa, __ATOMIC_SEQ_CST, 0xff, &u##n))                 \
	TRY(atomic_fetch_xor_u##n,                                                                 \
		gm_atomic_fetch_xor_u##n(view, gpa, __ATOMIC_SEQ_CST, 0xff, &u##n))                \
	TRY(atomic_cmpxchg_u##n, gm_atomic_cmpxchg_u##n(view, gpa, __ATOMIC_SEQ_CST, &u##n, 0xee))

TRY_ATOMICS(8)
TRY_ATOMICS(16)
TRY_ATOMICS(32)
TRY_ATOMICS(64)

#define ENTRY(name, perms)                                                                         \
	{                                                                                          \
#name, try_##name, perms                                                           \
	}
#define ATOMICS(n)                                                                                 \
	ENTRY(atomic_load_u##n, GM_PERM_R), ENTRY(atomic_store_u##n, GM_PERM_W),                   \
		ENTRY(atomic_exchange_u##n, GM_PERM_RW), ENTRY(atomic_fetch_add_u##n, GM_PERM_RW), \
		ENTRY(atomic_fetch_and_u##n, GM_PERM_RW), ENTRY(atomic_fetch_or_u##n, GM_PERM_RW), \
		ENTRY(atomic_fetch_xor_u##n, GM_PERM_RW), ENTRY(atomic_cmpxchg_u##n, GM_PERM_RW)

static const struct {
	const char *name;
	access_fn fn;
	uint32_t perms; /* what it needs */
} accesses[] = {
	ENTRY(read, GM_PERM_R),
	ENTRY(read_slow, GM_PERM_R),
	ENTRY(write, GM_PERM_W),
	ENTRY(write_slow, GM_PERM_W),
	ENTRY(fill, GM_PERM_W),
	ENTRY(compare, GM_PERM_R),
	ENTRY(is_zero, GM_PERM_R),
	ENTRY(copy_from, GM_PERM_R),
	ENTRY(copy_to, GM_PERM_W),
	ENTRY(read_u8, GM_PERM_R),
	ENTRY(read_u16, GM_PERM_R),
	ENTRY(read_u32, GM_PERM_R),
	ENTRY(read_u64, GM_PERM_R),
	ENTRY(read_le16, GM_PERM_R),
	ENTRY(read_le32, GM_PERM_R),
	ENTRY(read_le64, GM_PERM_R),
	ENTRY(read_be16, GM_PERM_R),
	ENTRY(read_be32, GM_PERM_R),
	ENTRY(read_be64, GM_PERM_R),
	ENTRY(write_u8, GM_PERM_W),
	ENTRY(write_u16, GM_PERM_W),
	ENTRY(write_u32, GM_PERM_W),
	ENTRY(write_u64, GM_PERM_W),
	ENTRY(write_le16, GM_PERM_W),
	ENTRY(write_le32, GM_PERM_W),
	ENTRY(write_le64, GM_PERM_W),
	ENTRY(write_be16, GM_PERM_W),
	ENTRY(write_be32, GM_PERM_W),
	ENTRY(write_be64, GM_PERM_W),
	ENTRY(pin_slice_r, GM_PERM_R),
	ENTRY(pin_slice_w, GM_PERM_W),
	ENTRY(pin_range_r, GM_PERM_R),
	ENTRY(pin_range_w, GM_PERM_W),
	ENTRY(check_r, GM_PERM_R),
	ENTRY(check_w, GM_PERM_W),
	ATOMICS(8),
	ATOMICS(16),
	ATOMICS(32),
	ATOMICS(64),
};

/* All accesses to a page that has @perms (or is not there) answer as they must; it keeps its bytes. */
static void try_all(uint64_t gpa, bool there, uint32_t perms)
{
	const struct place at = {.gpa = gpa, .rw = 63 * PAGE};
	static uint8_t before[4096];
	const uint8_t *host = host_of(source, gpa);

	for (size_t i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++) {
		bool may = there && (accesses[i].perms & ~perms) == 0;
		int rc;

		memcpy(before, host, PAGE);
		rc = IN_SECTION(accesses[i].fn(view, &at));
		if (may ? rc < 0 : rc != (there ? -EACCES : -EFAULT))
			fail_msg("%s at 0x%llx with permissions %u: %d", accesses[i].name,
				(unsigned long long)gpa, perms, rc);
		if (!may && memcmp(before, host, PAGE) != 0)
			fail_msg("%s was refused and has changed bytes", accesses[i].name);
	}
}

static void try_everywhere(void)
{
	try_all(0, true, GM_PERM_R);
	try_all(4 * PAGE, true, GM_PERM_RW);
	try_all(8 * PAGE, true, GM_PERM_W);
	try_all(12 * PAGE, true, GM_PERM_X);
	try_all(16 * PAGE, false, 0);
	try_all(ROM_AT, true, GM_PERM_R);
	try_all(ROM_AT + 2 * PAGE, false, 0);
}

static const struct gm_grant_part parts[] = {
	{.gpa = 0, .len = 4 * PAGE, .perms = GM_PERM_R},
	{.gpa = 4 * PAGE, .len = 4 * PAGE, .perms = GM_PERM_RW},
	{.gpa = 8 * PAGE, .len = 4 * PAGE, .perms = GM_PERM_W},
	{.gpa = 12 * PAGE, .len = 4 * PAGE, .perms = GM_PERM_X},
	{.gpa = 63 * PAGE, .len = PAGE, .perms = GM_PERM_RW},
	{.gpa = ROM_AT, .len = 2 * PAGE, .perms = GM_PERM_RWX},
};

static void every_access_has_the_granted_rights(void **state)
{
	(void)state;
	make_source();
	make_grant(parts, sizeof(parts) / sizeof(parts[0]), 0);
	try_everywhere();
	drop_all();
}

static void every_access_fails_after_the_revocation(void **state)
{
	(void)state;
	make_source();
	make_grant(parts, sizeof(parts) / sizeof(parts[0]), 0);
	/* One range, then a right of it only, then everything. */
	assert_ok(gm_grant_set(grant, 4 * PAGE, PAGE, 0, 0, &err));
	try_all(4 * PAGE, false, 0);
	try_all(5 * PAGE, true, GM_PERM_RW);
	assert_ok(gm_grant_set(grant, 5 * PAGE, PAGE, GM_PERM_R, 0, &err));
	try_all(5 * PAGE, true, GM_PERM_R);
	try_all(6 * PAGE, true, GM_PERM_RW);
	assert_ok(gm_grant_revoke(grant, 0, &err));
	for (uint64_t gpa = 0; gpa < 64 * PAGE; gpa += PAGE)
		try_all(gpa, false, 0);
	try_all(ROM_AT, false, 0);
	/* And back. */
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		assert_ok(gm_grant_set(grant, parts[i].gpa, parts[i].len, parts[i].perms, 0, &err));
	try_everywhere();
	drop_all();
}

static void a_shadow_has_the_same_rights(void **state)
{
	const struct place at = {.gpa = 0, .rw = 63 * PAGE};

	(void)state;
	make_source();
	make_grant(parts, sizeof(parts) / sizeof(parts[0]), GM_GRANT_SHADOW);
	try_all(0, true, GM_PERM_R);
	try_all(16 * PAGE, false, 0);
	/* What is written stays in the shadow. */
	for (size_t i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++) {
		const struct place rw = {.gpa = 4 * PAGE, .rw = at.rw};

		assert_true(IN_SECTION(accesses[i].fn(view, &rw)) >= 0);
	}
	for (size_t i = 0; i < PAGE; i++)
		assert_int_equal(host_of(source, 4 * PAGE)[i], 5);
	assert_ok(gm_grant_revoke(grant, 0, &err));
	for (size_t i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++)
		assert_int_equal(IN_SECTION(accesses[i].fn(view, &at)), -EFAULT);
	drop_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_access_has_the_granted_rights),
		cmocka_unit_test(every_access_fails_after_the_revocation),
		cmocka_unit_test(a_shadow_has_the_same_rights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
