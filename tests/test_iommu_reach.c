/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_iommu_reach.c - how far what was translated reaches: an atomic access over two translations, to
 * odd places in every sort of memory, and a pin whose translation goes.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/log.h>
#include <string.h>
#include <sys/mman.h>

#include "one_space.h"

#define PAGE UINT64_C(4096)

/* The space of one_space.h is the one below. */
static struct gm_space *iova;
static struct gm_iommu *iommu;
static struct gm_reader *device;
static uint8_t *provided;

static int at(void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	(void)ctx;
	*ret = (struct gm_backend_piece){.hva = provided + off, .len = len, .perms = perms};
	return 0;
}

static void no_more(void *ctx, const struct gm_backend_piece *piece)
{
	(void)ctx;
	(void)piece;
}

static int read_some(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done)
{
	(void)ctx;
	memcpy(buf, provided + off, len);
	*ret_done = len;
	return 0;
}

static int write_some(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done)
{
	(void)ctx;
	memcpy(provided + off, buf, len);
	*ret_done = len;
	return 0;
}

/* Only ever asked at a multiple of the size. */
static int add_to(
	void *ctx, uint32_t op, uint64_t off, uint32_t size, uint64_t value, uint64_t *seen)
{
	uint64_t was = 0;

	(void)ctx;
	assert_int_equal(op, GM_BACKEND_FETCH_ADD);
	assert_int_equal(off % size, 0);
	memcpy(&was, provided + off, size);
	value += was;
	memcpy(provided + off, &value, size);
	*seen = was;
	return 0;
}

static void begin(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)));
	add(0, 64 * PAGE);
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = space), &iova,
		&err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_reader_create(iova, "device", &device, &err));
}

static void end(void)
{
	gm_reader_destroy(device);
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	stop();
}

static void map(uint64_t from, uint64_t len, uint64_t gpa, uint32_t perms)
{
	assert_ok(gm_iommu_map(iommu, from, len, gpa, perms, &err));
}

static const struct gm_view *enter(void)
{
	return gm_reader_enter(device);
}

/* Every atomic access of 8 bytes at 0x1000 returns @want, and changes nothing if that is an error. */
static void check_atomics(int want)
{
	const struct gm_view *view = enter();
	uint8_t before[16];
	uint8_t after[16];
	uint64_t old = 5;
	uint64_t same = 0;

	assert_int_equal(gm_read(view, 0x1000, before, 16, NULL), 0);
	assert_int_equal(gm_atomic_load_u64(view, 0x1000, __ATOMIC_ACQUIRE, &old), want);
	if (want)
		assert_int_equal(old, 5);
	assert_int_equal(gm_atomic_store_u64(view, 0x1000, __ATOMIC_RELEASE, ~old), want);
	assert_int_equal(gm_atomic_fetch_add_u64(view, 0x1000, __ATOMIC_SEQ_CST, 0, &same), want);
	assert_int_equal(same, want ? 0 : ~old);
	assert_int_equal(
		gm_atomic_cmpxchg_u64(view, 0x1000, __ATOMIC_SEQ_CST, &same, old), want ? want : 1);
	assert_int_equal(gm_read(view, 0x1000, after, 16, NULL), 0);
	assert_memory_equal(before, after, 16);
	gm_reader_leave(device);
}

static void an_atomic_access_lies_in_one_translation(void **state)
{
	const struct gm_view *view;
	uint32_t half = 0;
	uint64_t all = 0;

	(void)state;
	begin();
	map(0x1000, 16, 0x5000, GM_PERM_RW);
	check_atomics(0);
	/* Told in two parts that go on in one another it is one. */
	assert_int_equal(gm_iommu_unmap(iommu, 0x1000, 16), 0);
	map(0x1000, 4, 0x5000, GM_PERM_RW);
	map(0x1004, 12, 0x5004, GM_PERM_RW);
	check_atomics(0);
	/* The halves lead to two places, or to one with other permissions. */
	map(0x1004, 12, 0x6004, GM_PERM_RW);
	check_atomics(-EFAULT);
	map(0x1004, 4, 0x5004, GM_PERM_R);
	view = enter();
	assert_int_equal(gm_atomic_load_u64(view, 0x1000, __ATOMIC_ACQUIRE, &all), -EFAULT);
	assert_int_equal(gm_atomic_store_u64(view, 0x1000, __ATOMIC_RELEASE, 1), -EFAULT);
	/* Each half by itself, and both by an access that is none of one instruction. */
	assert_int_equal(gm_atomic_store_u32(view, 0x1000, __ATOMIC_RELEASE, 7), 0);
	assert_int_equal(gm_atomic_load_u32(view, 0x1004, __ATOMIC_ACQUIRE, &half), 0);
	assert_int_equal(gm_read_u64(view, 0x1000, &all), 0);
	assert_int_equal((uint32_t)all, 7);
	assert_int_equal(all >> 32, half);
	gm_reader_leave(device);
	/* Nothing behind the first half. */
	assert_int_equal(gm_iommu_unmap(iommu, 0x1004, 4), 0);
	view = enter();
	assert_int_equal(gm_atomic_load_u64(view, 0x1000, __ATOMIC_ACQUIRE, &all), -EFAULT);
	gm_reader_leave(device);
	end();
}

/* Aligned above and not below: in memory that is mapped, of a backend by address, held or by message. */
static void what_leads_to_an_odd_place_is_refused(void **state)
{
	const struct gm_backend_ops ways[] = {
		{.size = sizeof(*ways), .translate = at},
		{.size = sizeof(*ways), .map = at, .unmap = no_more},
		{.size = sizeof(*ways), .read = read_some, .write = write_some, .atomic = add_to},
	};

	(void)state;
	provided = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(provided != MAP_FAILED);
	begin();
	map(0x1000, 16, 0x5004, GM_PERM_RW);
	check_atomics(-EINVAL);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t gpa = GIB(1 + i);
		const struct gm_view *view;
		uint64_t n = 0;

		assert_ok(gm_space_add(space,
			DESC(.gpa = gpa, .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_OPS,
						 .ops = &ways[i])),
			NULL, &err));
		for (uint64_t odd = 1; odd < 8; odd++) {
			map(0x1000, 16, gpa + 0x100 + odd, GM_PERM_RW);
			check_atomics(-EINVAL);
		}
		map(0x1000, 16, gpa + 0x100, GM_PERM_RW);
		memset(provided, 0, PAGE);
		view = enter();
		assert_int_equal(gm_atomic_fetch_add_u64(view, 0x1008, __ATOMIC_SEQ_CST, 3, &n), 0);
		assert_int_equal(gm_atomic_load_u64(view, 0x1008, __ATOMIC_SEQ_CST, &n), 0);
		assert_int_equal(n, 3);
		gm_reader_leave(device);
	}
	end();
	munmap(provided, PAGE);
}

/* Who holds a pin goes on with the memory that it was given, whatever the address leads to by then. */
static void a_pin_outlives_its_translation(void **state)
{
	struct gm_log *log = NULL;
	struct iovec slice;
	struct gm_pin pin;
	uint64_t word = 0;
	uint64_t count = 0;
	uint8_t byte;

	(void)state;
	begin();
	assert_ok(gm_log_create(space, NULL, &log, &err));
	map(0x1000, 64, 0x5020, GM_PERM_RW);
	assert_int_equal(gm_pin_slice(enter(), 0x1000, 64, GM_PERM_RW, &slice, &pin), 0);
	gm_reader_leave(device);
	assert_int_equal(slice.iov_len, 64);
	assert_int_equal(gm_iommu_unmap(iommu, 0, UINT64_MAX), 0);
	assert_int_equal(gm_read_u8(enter(), 0x1000, &byte), -EFAULT);
	gm_reader_leave(device);
	/* A pin holds up nobody who waits for sections. */
	assert_ok(gm_space_synchronize(iova, 0, &err));
	map(0x1000, 64, 0x9000, GM_PERM_RW);
	assert_int_equal(gm_log_take(log, 0, 64, &word, &count), 0);
	memset(slice.iov_base, 0x77, 64);
	gm_pin_put(&pin);
	/* The bytes are where they were, marked when the pin was given back, and nowhere else. */
	assert_int_equal(gm_read_u8(gm_reader_enter(reader), 0x5020 + 63, &byte), 0);
	gm_reader_leave(reader);
	assert_int_equal(byte, 0x77);
	assert_int_equal(gm_read_u8(enter(), 0x1000, &byte), 0);
	gm_reader_leave(device);
	assert_int_equal(byte, 0);
	assert_int_equal(gm_log_take(log, 0, 64, &word, &count), 0);
	assert_int_equal(word, UINT64_C(1) << 5);
	assert_ok(gm_log_destroy(log, &err));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_atomic_access_lies_in_one_translation),
		cmocka_unit_test(what_leads_to_an_odd_place_is_refused),
		cmocka_unit_test(a_pin_outlives_its_translation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
