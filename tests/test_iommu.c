/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_iommu.c - spaces of I/O virtual addresses: every access through them, misses, and changes of
 * the map below.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/slice.h>
#include <guestmem/txn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "random.h"
#include "support.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define PAGE UINT64_C(4096)
#define TOP UINT64_MAX

static struct gm_error err;
static struct gm_space *physical;
static struct gm_space *virtual;
static struct gm_iommu *iommu;
static struct gm_reader *reader;
static uint64_t ram;

/* ---- fixtures ---- */

static struct gm_space *over(
	struct gm_space *below, const struct gm_iommu_opts *opts, struct gm_iommu **ret_iommu)
{
	struct gm_space *space;

	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = below), &space,
		&err));
	assert_ok(gm_iommu_create(below, opts, ret_iommu, &err));
	assert_ok(gm_space_add(
		space, DESC(.kind = GM_REGION_IOMMU, .iommu = *ret_iommu), NULL, &err));
	return space;
}

/* 64 pages of memory at 0, whose bytes are their page. */
static void begin(const struct gm_iommu_opts *opts)
{
	fault_set(NULL);
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)), &physical, &err));
	assert_ok(gm_space_add(physical, DESC(.len = 64 * PAGE, .backing = BLOCK()), &ram, &err));
	virtual = over(physical, opts, &iommu);
	assert_ok(gm_reader_create(virtual, "device", &reader, &err));
}

static void end(void)
{
	gm_reader_destroy(reader);
	gm_space_destroy(virtual);
	gm_iommu_put(iommu);
	gm_space_destroy(physical);
}

static void map(uint64_t iova, uint64_t len, uint64_t gpa, uint32_t perms)
{
	assert_ok(gm_iommu_map(iommu, iova, len, gpa, perms, &err));
}

/* What a function returns in a section of the reader. */
#define IN_SECTION(call)                                                                           \
	({                                                                                         \
		const struct gm_view *view = gm_reader_enter(reader);                              \
		int rc_ = (call);                                                                  \
                                                                                                   \
		gm_reader_leave(reader);                                                           \
		rc_;                                                                               \
	})

static void fill(struct gm_space *space, uint64_t gpa, const void *buf, size_t len)
{
	struct gm_reader *own;

	assert_ok(gm_reader_create(space, "fill", &own, &err));
	assert_int_equal(gm_write(gm_reader_enter(own), gpa, buf, len, NULL), 0);
	gm_reader_leave(own);
	gm_reader_destroy(own);
}

/* ---- every access ---- */

static void all_accesses_go_through_the_translation(void **state)
{
	uint8_t buf[300];
	uint8_t back[300];
	struct iovec slices[4];
	struct gm_pin pins[4];
	size_t needed = 0;
	uint64_t u64 = 0;
	uint32_t u32;
	uint64_t gpa;
	size_t done;
	int order;

	(void)state;
	begin(NULL);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + 1);
	/* Odd addresses and lengths; two pieces that are far apart below. */
	map(0x1003, 100, 5 * PAGE + 17, GM_PERM_RW);
	map(0x1003 + 100, 200, 50 * PAGE, GM_PERM_RW);
	assert_int_equal(IN_SECTION(gm_write(view, 0x1003, buf, 300, &done)), 0);
	assert_int_equal(done, 300);
	assert_int_equal(IN_SECTION(gm_read(view, 0x1003, back, 300, NULL)), 0);
	assert_memory_equal(buf, back, 300);
	assert_int_equal(IN_SECTION(gm_compare(view, 0x1003, buf, 300, &order, &done)), 0);
	assert_int_equal(order, 0);
	assert_int_equal(IN_SECTION(gm_read_le64(view, 0x1003 + 96, &u64)), 0);
	assert_memory_equal(&u64, buf + 96, 8);
	assert_int_equal(IN_SECTION(gm_write_be32(view, 0x1003 + 98, 0x01020304)), 0);
	assert_int_equal(IN_SECTION(gm_read_be32(view, 0x1003 + 98, &u32)), 0);
	assert_int_equal(u32, 0x01020304);
	/* An atomic access lies in one piece, aligned on both sides. */
	map(0x8000, PAGE, 3 * PAGE, GM_PERM_RW);
	assert_int_equal(
		IN_SECTION(gm_atomic_fetch_add_u32(view, 0x8010, __ATOMIC_ACQ_REL, 5, &u32)), 0);
	assert_int_equal(IN_SECTION(gm_atomic_load_u32(view, 0x8010, __ATOMIC_ACQUIRE, &u32)), 0);
	assert_int_equal(u32, 5);
	map(0x9000, PAGE, 3 * PAGE + 2, GM_PERM_RW);
	assert_int_equal(
		IN_SECTION(gm_atomic_load_u32(view, 0x9000, __ATOMIC_ACQUIRE, &u32)), -EINVAL);
	/* Slices of the memory below. */
	assert_int_equal(
		IN_SECTION(gm_pin_range(view, 0x1003, 300, GM_PERM_RW, slices, pins, 4, &needed)),
		0);
	assert_int_equal(needed, 2);
	assert_int_equal(slices[0].iov_len, 100);
	assert_int_equal(slices[1].iov_len, 200);
	assert_memory_equal(slices[0].iov_base, back, 98);
	gm_pin_put(&pins[0]);
	gm_pin_put(&pins[1]);
	assert_int_equal(
		IN_SECTION(gm_pin_range(view, 0x1003, 300, GM_PERM_R, slices, pins, 1, &needed)),
		-ENOBUFS);
	assert_int_equal(needed, 2);
	assert_int_equal(IN_SECTION(gm_view_check(view, 0x1003, 300, GM_PERM_RW)), 0);
	assert_int_equal(IN_SECTION(gm_view_check(view, 0x1003, 301, GM_PERM_RW)), -EFAULT);
	assert_int_equal(IN_SECTION(gm_view_gpa(view, slices[0].iov_base, &gpa)), -EFAULT);
	assert_int_equal(IN_SECTION(gm_fill(view, 0x1003 + 50, 0, 100, &done)), 0);
	assert_int_equal(IN_SECTION(gm_is_zero(view, 0x1003 + 50, 100, NULL)), 1);
	end();
}

static int add_len(void *ctx, const struct iovec *slice, struct gm_pin *pin)
{
	assert_non_null(pin->map);
	*(size_t *)ctx += slice->iov_len;
	return 0;
}

/* With room for all and translations on both sides of the hole. */
static void a_hole_in_the_translation_is_no_slice(void **state)
{
	struct iovec slices[4] = {{(void *)1, 1}};
	struct gm_pin pins[4] = {{0}};
	size_t needed = 0;
	size_t sum = 0;
	uint64_t done = 0;

	(void)state;
	begin(NULL);
	map(0x1000, 100, 5 * PAGE, GM_PERM_RW);
	map(0x1000 + 100, 100, 9 * PAGE, GM_PERM_RW);
	map(0x1000 + 300, 100, 7 * PAGE, GM_PERM_RW);
	/* All or nothing: no pin is left. */
	assert_int_equal(
		IN_SECTION(gm_pin_range(view, 0x1000, 400, GM_PERM_RW, slices, pins, 4, &needed)),
		-EFAULT);
	for (size_t i = 0; i < 4; i++)
		assert_null(pins[i].map);
	assert_int_equal(
		IN_SECTION(gm_pin_range(view, 0x1000, 201, GM_PERM_RW, slices, pins, 4, &needed)),
		-EFAULT);
	/* What lies in front of it can be had piece by piece. */
	assert_int_equal(
		IN_SECTION(gm_for_each_slice(view, 0x1000, 400, GM_PERM_RW, add_len, &sum, &done)),
		-EFAULT);
	assert_int_equal(done, 200);
	assert_int_equal(sum, 200);
	map(0x1000 + 200, 100, 3 * PAGE, GM_PERM_RW);
	assert_int_equal(
		IN_SECTION(gm_pin_range(view, 0x1000, 400, GM_PERM_RW, slices, pins, 4, &needed)),
		0);
	assert_int_equal(needed, 4);
	for (size_t i = 0; i < needed; i++)
		gm_pin_put(&pins[i]);
	end();
}

/* Copies whose two sides are apart above and overlap below, or the other way round. */
static void copies_go_through_the_translation(void **state)
{
	uint8_t buf[512];
	uint8_t want[512];

	(void)state;
	begin(NULL);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i ^ (i >> 3));
	map(0x10000, PAGE, 0, GM_PERM_RW);
	map(0x11000, PAGE, 9 * PAGE, GM_PERM_RW);
	assert_int_equal(IN_SECTION(gm_write(view, 0x10f00, buf, 512, NULL)), 0);
	assert_int_equal(IN_SECTION(gm_copy(view, 0x10f40, 0x10f00, 300, NULL)), 0);
	memcpy(want, buf, 512);
	memmove(want + 64, want, 300);
	assert_int_equal(IN_SECTION(gm_read(view, 0x10f00, buf, 512, NULL)), 0);
	assert_memory_equal(buf, want, 512);
	assert_int_equal(IN_SECTION(gm_copy(view, 0x10f00, 0x10f80, 300, NULL)), 0);
	memmove(want, want + 128, 300);
	assert_int_equal(IN_SECTION(gm_read(view, 0x10f00, buf, 512, NULL)), 0);
	assert_memory_equal(buf, want, 512);
	end();
}

/* ---- what is refused ---- */

static void what_is_missing_or_refused_is_told(void **state)
{
	struct gm_iommu_part parts[4];
	size_t needed = 77;
	uint8_t buf[64];
	size_t done = 99;

	(void)state;
	begin(NULL);
	map(0x1000, 32, 0, GM_PERM_RW);
	map(0x1020, 32, 100, GM_PERM_R);
	assert_int_equal(IN_SECTION(gm_write(view, 0x1000, buf, 64, &done)), -EACCES);
	assert_int_equal(done, 32);
	assert_int_equal(IN_SECTION(gm_read(view, 0x1000, buf, 65, &done)), -EFAULT);
	assert_int_equal(done, 64);
	assert_int_equal(IN_SECTION(gm_read(view, 0xfff, buf, 0, &done)), -EFAULT);
	assert_int_equal(IN_SECTION(gm_read(view, 0x103f, buf, 0, &done)), 0);
	assert_int_equal(IN_SECTION(gm_read(view, TOP, buf, 2, &done)), -ERANGE);
	assert_int_equal(done, 0);
	assert_int_equal(
		gm_iommu_translate(iommu, 0x0ff0, 0x60, GM_PERM_W, parts, 4, &needed), -EFAULT);
	assert_int_equal(needed, 4);
	assert_int_equal(parts[0].state, GM_IOMMU_MISSING);
	assert_int_equal(parts[0].len, 16);
	assert_int_equal(parts[1].state, GM_IOMMU_GOOD);
	assert_int_equal(parts[1].target, 0);
	assert_int_equal(parts[2].state, GM_IOMMU_REFUSED);
	assert_int_equal(parts[2].target, 100);
	assert_int_equal(parts[2].perms, GM_PERM_R);
	assert_int_equal(parts[3].iova, 0x1040);
	assert_int_equal(parts[3].len, 16);
	assert_int_equal(
		gm_iommu_translate(iommu, 0x0ff0, 0x60, GM_PERM_W, parts, 2, &needed), -ENOBUFS);
	assert_int_equal(gm_iommu_translate(iommu, TOP, 2, GM_PERM_R, parts, 4, &needed), -ERANGE);
	/* A good translation to where nothing is. */
	map(0x5000, PAGE, 64 * PAGE - 8, GM_PERM_RW);
	assert_int_equal(IN_SECTION(gm_read(view, 0x5000, buf, 16, &done)), -EFAULT);
	assert_int_equal(done, 8);
	end();
}

/* D4, D5, D7: the ends of the space are ordinary, nothing wraps, no length is a trap. */
static void the_last_byte_of_all_can_be_translated(void **state)
{
	uint8_t byte = 0x5a;

	(void)state;
	begin(NULL);
	assert_ok(gm_iommu_map(iommu, TOP, 1, 7, GM_PERM_RW, &err));
	assert_int_equal(IN_SECTION(gm_write_u8(view, TOP, byte)), 0);
	assert_int_equal(IN_SECTION(gm_read_u8(view, TOP, &byte)), 0);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(gm_iommu_unmap(iommu, TOP, 1), 0);
	assert_int_equal(IN_SECTION(gm_read_u8(view, TOP, &byte)), -EFAULT);
	assert_ok(gm_iommu_map(iommu, 0, TOP, 0, GM_PERM_R, &err));
	assert_int_equal(IN_SECTION(gm_read_u8(view, 7, &byte)), 0);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(IN_SECTION(gm_view_check(view, 0, 64 * PAGE, GM_PERM_R)), 0);
	gm_iommu_unmap_all(iommu);
	assert_int_equal(IN_SECTION(gm_read_u8(view, 7, &byte)), -EFAULT);
	assert_fails(gm_iommu_map(iommu, 0, TOP, 2, GM_PERM_R, &err), ERANGE, "passes 2^64");
	assert_fails(gm_iommu_map(iommu, 2, TOP, 0, GM_PERM_R, &err), ERANGE, "passes 2^64");
	assert_fails(gm_iommu_map(iommu, 0, 5, 1, 0, &err), EINVAL, "permissions");
	assert_fails(gm_iommu_map(iommu, 0, 5, 1, GM_PERM_RWX, &err), EINVAL, "permissions");
	assert_int_equal(gm_iommu_unmap(iommu, 2, TOP), -ERANGE);
	end();
}

/* D18: with length 0 the address alone is looked at, by whichever function. */
static void length_zero_is_the_same_everywhere(void **state)
{
	struct gm_iommu_part part;
	size_t needed;

	(void)state;
	begin(NULL);
	map(0x1000, 16, 0, GM_PERM_R);
	for (uint64_t iova = 0xffe; iova < 0x1012; iova++) {
		for (uint32_t perms = GM_PERM_R; perms <= GM_PERM_RW; perms++) {
			bool in = iova >= 0x1000 && iova < 0x1010;
			int want = !in ? -EFAULT : perms & GM_PERM_W ? -EACCES : 0;

			assert_int_equal(IN_SECTION(gm_view_check(view, iova, 0, perms)), want);
			assert_int_equal(
				gm_iommu_translate(iommu, iova, 0, perms, &part, 1, &needed), want);
		}
		assert_int_equal(IN_SECTION(gm_write(view, iova, NULL, 0, NULL)),
			iova >= 0x1000 && iova < 0x1010 ? -EACCES : -EFAULT);
	}
	end();
}

static void an_iommu_belongs_over_its_target(void **state)
{
	struct gm_space *other;
	struct gm_iommu *back;

	(void)state;
	begin(NULL);
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW), &other, &err));
	assert_fails(gm_space_add(other, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err),
		EINVAL, "over which it was not made");
	/* Round in a circle. */
	assert_ok(gm_iommu_create(virtual, NULL, &back, &err));
	assert_fails(
		gm_space_add(physical,
			DESC(.gpa = GIB(1), .len = PAGE, .kind = GM_REGION_IOMMU, .iommu = back),
			NULL, &err),
		EINVAL, "over which");
	assert_fails(gm_space_add(other, DESC(.len = PAGE, .kind = GM_REGION_IOMMU), NULL, &err),
		EINVAL, "has one");
	assert_fails(gm_iommu_create(physical, GM_OPTS(gm_iommu_opts, .capacity = (1u << 24) + 1),
			     &back, &err),
		EINVAL, "capacity");
	gm_iommu_put(back);
	gm_space_destroy(other);
	end();
}

/* ---- misses ---- */

static unsigned int asked;
static int answer_rc;
static bool answers;

static int on_miss(void *ctx, uint64_t iova, uint64_t len, uint32_t perms)
{
	(void)ctx;
	__atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED);
	assert_true(len > 0);
	if (answer_rc)
		return answer_rc;
	/* A page at a time, as drivers map. */
	if (answers)
		assert_int_equal(gm_iommu_map(iommu, iova / PAGE * PAGE, PAGE,
					 (iova / PAGE % 64) * PAGE, perms, NULL),
			0);
	return 0;
}

static void misses_are_asked_for_and_answered(void **state)
{
	struct gm_iommu_info info = {.size = sizeof(info)};
	static uint8_t buf[3 * PAGE];
	uint64_t u64 = 77;

	(void)state;
	begin(GM_OPTS(gm_iommu_opts, .miss = on_miss, .capacity = 2));
	answers = true;
	answer_rc = 0;
	asked = 0;
	memset(buf, 0x3c, sizeof(buf));
	assert_int_equal(IN_SECTION(gm_write(view, 4 * PAGE, buf, sizeof(buf), NULL)), 0);
	assert_int_equal(asked, 3);
	/* Only two fit: the first has to be asked for again. */
	assert_int_equal(IN_SECTION(gm_read_u64(view, 4 * PAGE, &u64)), 0);
	assert_int_equal(u64, 0x3c3c3c3c3c3c3c3c);
	/* A permission that lacks is asked for as well. */
	map(9 * PAGE, PAGE, 9 * PAGE, GM_PERM_R);
	asked = 0;
	assert_int_equal(IN_SECTION(gm_write_u64(view, 9 * PAGE, 5)), 0);
	assert_int_equal(asked, 1);
	answer_rc = -EPERM;
	assert_int_equal(IN_SECTION(gm_read_u64(view, 40 * PAGE, &u64)), -EPERM);
	answer_rc = 0;
	answers = false;
	asked = 0;
	/* Nobody answers at once: one question for all who come. */
	assert_int_equal(IN_SECTION(gm_read_u64(view, 41 * PAGE, &u64)), -EAGAIN);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 41 * PAGE, &u64)), -EAGAIN);
	assert_int_equal(asked, 1);
	map(41 * PAGE, PAGE, 0, GM_PERM_R);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 41 * PAGE, &u64)), 0);
	assert_int_equal(gm_iommu_unmap(iommu, 41 * PAGE, PAGE), 0);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 41 * PAGE, &u64)), -EAGAIN);
	assert_int_equal(asked, 2);
	assert_int_equal(gm_iommu_info(iommu, &info), 0);
	assert_int_equal(info.capacity, 2);
	assert_true(info.evicted >= 1 && info.misses >= 8 && info.asked >= 7);
	end();
}

static uint64_t inside_off;
static int inside_rc;

/* The callback itself must not miss. */
static int on_miss_inside(void *ctx, uint64_t iova, uint64_t len, uint32_t perms)
{
	uint64_t u64;

	(void)ctx;
	(void)len;
	(void)perms;
	inside_rc = IN_SECTION(gm_read_u64(view, iova + inside_off, &u64));
	return -ENOENT;
}

static void a_miss_within_a_miss_is_refused(void **state)
{
	uint64_t u64;

	(void)state;
	begin(GM_OPTS(gm_iommu_opts, .miss = on_miss_inside, .timeout_ns = 1000 * 1000));
	/* Of something else, and of what was asked for. */
	for (inside_off = 0; inside_off <= 16 * PAGE; inside_off += 16 * PAGE) {
		inside_rc = 0;
		assert_int_equal(IN_SECTION(gm_read_u64(view, 0, &u64)), -ENOENT);
		assert_int_equal(inside_rc, -EBUSY);
	}
	end();
}

static void *answer_later(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&asked, __ATOMIC_RELAXED))
		gm_space_reclaim(physical);
	assert_int_equal(gm_iommu_map(iommu, 0, PAGE, 0, GM_PERM_RW, NULL), 0);
	return NULL;
}

static void *read_and_wait(void *arg)
{
	struct gm_reader *own;
	uint64_t u64;

	assert_int_equal(gm_reader_create(virtual, "waits", &own, NULL), 0);
	*(int *)arg = gm_read_u64(gm_reader_enter(own), 8, &u64);
	gm_reader_leave(own);
	gm_reader_destroy(own);
	return NULL;
}

static void accesses_wait_for_an_answer_until_the_deadline(void **state)
{
	struct gm_iommu_info info = {.size = sizeof(info)};
	pthread_t threads[4];
	int rcs[3] = {1, 1, 1};
	uint64_t u64;

	(void)state;
	begin(GM_OPTS(gm_iommu_opts, .miss = on_miss, .timeout_ns = UINT64_C(5000000000)));
	answers = false;
	answer_rc = 0;
	asked = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_and_wait, &rcs[i]), 0);
	assert_int_equal(pthread_create(&threads[3], NULL, answer_later, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 3; i++)
		assert_int_equal(rcs[i], 0);
	assert_int_equal(asked, 1);
	end();
	begin(GM_OPTS(gm_iommu_opts, .miss = on_miss, .timeout_ns = 20000000));
	assert_int_equal(IN_SECTION(gm_read_u64(view, 0, &u64)), -ETIMEDOUT);
	assert_int_equal(gm_iommu_info(iommu, &info), 0);
	assert_int_equal(info.late, 1);
	end();
}

/* ---- the map below changes ---- */

static void a_change_below_is_seen_at_once(void **state)
{
	uint64_t magic = 0x1122334455667788;
	uint64_t u64 = 0;
	struct gm_txn *txn;

	(void)state;
	begin(NULL);
	map(0, 64 * PAGE, 0, GM_PERM_RW);
	fill(physical, 8, &magic, 8);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 8, &u64)), 0);
	assert_true(u64 == magic);
	assert_ok(gm_txn_begin(physical, &txn, &err));
	assert_ok(gm_txn_move(txn, ram, GIB(1), &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(IN_SECTION(gm_read_u64(view, 8, &u64)), -EFAULT);
	map(PAGE, PAGE, GIB(1), GM_PERM_R);
	assert_int_equal(IN_SECTION(gm_read_u64(view, PAGE + 8, &u64)), 0);
	assert_true(u64 == magic);
	assert_ok(gm_space_remove(physical, ram, &err));
	assert_int_equal(IN_SECTION(gm_read_u64(view, PAGE + 8, &u64)), -EFAULT);
	end();
}

/* A section of the space above keeps the memory of the one below. */
static void sections_keep_both_maps(void **state)
{
	const struct gm_view *view;
	uint64_t u64;

	(void)state;
	begin(NULL);
	map(0, PAGE, 0, GM_PERM_RW);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_read_u64(view, 0, &u64), 0);
	assert_ok(gm_space_remove(physical, ram, &err));
	assert_int_equal(gm_read_u64(view, 0, &u64), -EFAULT);
	assert_fails(gm_space_wait(physical, 10000000, &err), ETIMEDOUT, "device");
	assert_fails(gm_space_synchronize(virtual, 10000000, &err), ETIMEDOUT, "device");
	gm_reader_leave(reader);
	assert_ok(gm_space_wait(physical, 0, &err));
	assert_ok(gm_space_synchronize(virtual, 0, &err));
	end();
}

static void count_up(void *ctx)
{
	++*(int *)ctx;
}

/* The same without waiting: somebody else finds that they have left. */
static void what_is_deferred_runs_once_after_the_sections(void **state)
{
	int calls = 0;

	(void)state;
	begin(NULL);
	gm_reader_enter(reader);
	assert_ok(gm_space_defer(physical, count_up, &calls, &err));
	assert_ok(gm_space_defer(virtual, count_up, &calls, &err));
	assert_true(gm_space_reclaim(physical) > 0);
	assert_int_equal(calls, 0);
	gm_reader_leave(reader);
	assert_int_equal(gm_space_reclaim(physical), 0);
	assert_int_equal(calls, 1);
	assert_ok(gm_space_synchronize(virtual, 0, &err));
	assert_int_equal(calls, 2);
	assert_ok(gm_space_defer(virtual, count_up, &calls, &err));
	end();
	assert_int_equal(calls, 3);
}

static void translations_nest(void **state)
{
	struct gm_iommu *inner_iommu;
	struct gm_space *inner;
	struct gm_reader *deep;
	uint8_t buf[64];
	uint8_t back[64];
	size_t done;

	(void)state;
	begin(NULL);
	inner = over(virtual, NULL, &inner_iommu);
	assert_ok(gm_reader_create(inner, "nested", &deep, &err));
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(200 - i);
	assert_ok(gm_iommu_map(inner_iommu, 100, 64, 0x7000, GM_PERM_RW, &err));
	map(0x7000, 20, 3 * PAGE, GM_PERM_RW);
	map(0x7014, 44, 11 * PAGE + 5, GM_PERM_RW);
	assert_int_equal(gm_write(gm_reader_enter(deep), 100, buf, 64, &done), 0);
	assert_int_equal(gm_read(gm_reader_enter(deep), 100, back, 64, &done), 0);
	assert_memory_equal(buf, back, 64);
	assert_int_equal(gm_iommu_unmap(iommu, 0x7014, 1), 0);
	assert_int_equal(gm_read(gm_reader_enter(deep), 100, back, 64, &done), -EFAULT);
	assert_int_equal(done, 20);
	for (int i = 0; i < 3; i++)
		gm_reader_leave(deep);
	gm_reader_destroy(deep);
	gm_space_destroy(inner);
	gm_iommu_put(inner_iommu);
	end();
}

/* ---- readers beside changes of both ---- */

static int stop;
static unsigned long long reads;
static unsigned long long bad;

/* Each page's first word says which page of the memory it is, plus one. */
static void *read_on(void *arg)
{
	struct rng rng = {(uintptr_t)arg};
	struct gm_reader *own;

	if (gm_reader_create(virtual, "reads", &own, NULL))
		return NULL;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t iova = rng_below(&rng, 64) * PAGE;
		uint64_t u64 = 0;
		int rc = gm_read_u64(gm_reader_enter(own), iova, &u64);

		gm_reader_leave(own);
		__atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
		/* Page i is translated to i or to 63 - i. */
		if (rc ? rc != -EFAULT : u64 != iova / PAGE + 1 && u64 != 64 - iova / PAGE)
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
	}
	gm_reader_destroy(own);
	return NULL;
}

static void tag_pages(void)
{
	for (uint64_t i = 0; i < 64; i++) {
		uint64_t tag = i + 1;

		fill(physical, i * PAGE, &tag, 8);
	}
}

static void readers_see_old_or_new_beside_changes_of_both(void **state)
{
	struct rng rng = {test_seed(99)};
	pthread_t threads[3];

	(void)state;
	begin(GM_OPTS(gm_iommu_opts, .capacity = 40));
	tag_pages();
	stop = 0;
	reads = bad = 0;
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_on, (void *)(i + 1)), 0);
	/* At least until the readers have read something. */
	for (unsigned long i = 0;
		i < support_scale(3000) || __atomic_load_n(&reads, __ATOMIC_RELAXED) < 10000; i++) {
		uint64_t page = rng_below(&rng, 64);

		if (i % 50 == 49) {
			struct gm_txn *txn;

			assert_ok(gm_txn_begin(physical, &txn, &err));
			assert_ok(gm_txn_enable(txn, ram, i % 100 == 99, &err));
			assert_ok(gm_txn_commit(txn, &err));
		}
		if (rng_below(&rng, 3) == 0)
			gm_iommu_unmap(iommu, page * PAGE, PAGE);
		else
			map(page * PAGE, PAGE, (rng_below(&rng, 2) ? page : 63 - page) * PAGE,
				GM_PERM_R);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	printf("figure: translated-reads %llu\n", reads);
	assert_int_equal(bad, 0);
	assert_true(reads > 100);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_accesses_go_through_the_translation),
		cmocka_unit_test(a_hole_in_the_translation_is_no_slice),
		cmocka_unit_test(copies_go_through_the_translation),
		cmocka_unit_test(what_is_missing_or_refused_is_told),
		cmocka_unit_test(the_last_byte_of_all_can_be_translated),
		cmocka_unit_test(length_zero_is_the_same_everywhere),
		cmocka_unit_test(an_iommu_belongs_over_its_target),
		cmocka_unit_test(misses_are_asked_for_and_answered),
		cmocka_unit_test(a_miss_within_a_miss_is_refused),
		cmocka_unit_test(accesses_wait_for_an_answer_until_the_deadline),
		cmocka_unit_test(a_change_below_is_seen_at_once),
		cmocka_unit_test(sections_keep_both_maps),
		cmocka_unit_test(what_is_deferred_runs_once_after_the_sections),
		cmocka_unit_test(translations_nest),
		cmocka_unit_test(readers_see_old_or_new_beside_changes_of_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
