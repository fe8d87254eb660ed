/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_defects.c - what goes wrong in other libraries of this kind must be impossible here. Each case
 * is the opposite of a defect that was found in vm-memory; its number (vm-memory D4 and so on) stands
 * above it. test_iotlb.c has the same for the table of translations alone.
 *
 * Every function that touches memory is tried, on guest physical addresses and on I/O virtual ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <guestmem/atomic.h>
#include <guestmem/guard.h>
#include <guestmem/iommu.h>
#include <guestmem/slice.h>
#include <guestmem/txn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "random.h"
#include "support.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define PAGE UINT64_C(4096)
#define TOP UINT64_MAX
#define LAST_PAGE (TOP - (PAGE - 1))

static struct gm_error err;
static struct gm_space *physical;
static struct gm_space *virtual;
static struct gm_iommu *iommu;

/* A reader of each; what is true of one must be true of the other. */
static struct gm_reader *readers[2];

/* What is written. */
#define WAY_MAX 64u
static uint8_t bytes[WAY_MAX];

/* ---- fixtures ---- */

static uint64_t add(const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(physical, desc, &id, &err));
	return id;
}

static void begin(void)
{
	memset(bytes, 0, sizeof(bytes));
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(4)), &physical, &err));
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = physical), &virtual,
		&err));
	assert_ok(gm_iommu_create(physical, NULL, &iommu, &err));
	assert_ok(gm_space_add(virtual, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_reader_create(physical, "physical", &readers[0], &err));
	assert_ok(gm_reader_create(virtual, "virtual", &readers[1], &err));
}

static void end(void)
{
	gm_reader_destroy(readers[0]);
	gm_reader_destroy(readers[1]);
	gm_space_destroy(virtual);
	gm_iommu_put(iommu);
	gm_space_destroy(physical);
}

/* Each IOVA is its guest address, with all permissions that a device can have. */
static void map_all(uint32_t perms)
{
	assert_ok(gm_iommu_map(iommu, 0, TOP, 0, perms, &err));
	assert_ok(gm_iommu_map(iommu, TOP, 1, TOP, perms, &err));
}

static void *host(uint64_t id)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_region(physical, id, &info), 0);
	assert_non_null(info.hva);
	return info.hva;
}

/* ---- all ways to memory ---- */

static int way_read(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	uint8_t buf[WAY_MAX];

	return gm_read(view, gpa, buf, len, done);
}

static int way_write(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	return gm_write(view, gpa, bytes, len, done);
}

static int way_fill(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	return gm_fill(view, gpa, 0xee, len, done);
}

static int way_compare(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	uint8_t zeros[WAY_MAX] = {0};
	int order;

	return gm_compare(view, gpa, zeros, len, &order, done);
}

static int way_is_zero(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	int rc = gm_is_zero(view, gpa, len, done);

	return rc < 0 ? rc : 0;
}

/* The other side of copies is in the last page but one. */
#define OTHER_SIDE (LAST_PAGE - PAGE)

static int way_copy_from(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	return gm_copy(view, OTHER_SIDE, gpa, len, done);
}

static int way_copy_to(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	return gm_copy(view, gpa, OTHER_SIDE, len, done);
}

static int way_check(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	*done = 0;
	return gm_view_check(view, gpa, len, GM_PERM_R);
}

static int way_check_for_write(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done)
{
	*done = 0;
	return gm_view_check(view, gpa, len, GM_PERM_W);
}

static const struct way {
	const char *name;
	bool writes;
	bool checks; /* counts nothing */
	int (*go)(const struct gm_view *view, uint64_t gpa, size_t len, size_t *done);
} ways[] = {
	{"read", false, false, way_read},
	{"write", true, false, way_write},
	{"fill", true, false, way_fill},
	{"compare", false, false, way_compare},
	{"is_zero", false, false, way_is_zero},
	{"copy from", false, false, way_copy_from},
	{"copy to", true, false, way_copy_to},
	{"check", false, true, way_check},
	{"check for write", true, true, way_check_for_write},
};

#define NR_WAYS (sizeof(ways) / sizeof(*ways))

/* @want bytes are done, or none of those that only check. */
static void expect(
	const struct way *way, int world, uint64_t gpa, size_t len, int want, size_t want_done)
{
	const struct gm_view *view = gm_reader_enter(readers[world]);
	size_t done = 99;
	int rc = way->go(view, gpa, len, &done);

	gm_reader_leave(readers[world]);
	if (rc != want || done != (way->checks ? 0 : want_done))
		fail_msg("%s of %zu at %#lx of world %d: %d (%d), %zu done (%zu)", way->name, len,
			gpa, world, rc, want, done, want_done);
}

/* Pins answer as accesses do, and give nothing when they refuse. */
static void expect_pin(int world, uint64_t gpa, uint64_t len, uint32_t perms, int want)
{
	const struct gm_view *view = gm_reader_enter(readers[world]);
	struct iovec slices[2] = {{NULL, 0}};
	struct gm_pin pins[2] = {{NULL}};
	size_t needed = 0;

	assert_int_equal(gm_pin_slice(view, gpa, len, perms, slices, pins), want);
	assert_true((pins[0].map == NULL) == (want != 0));
	gm_pin_put(&pins[0]);
	assert_int_equal(gm_pin_range(view, gpa, len, perms, slices, pins, 2, &needed), want);
	assert_true((pins[0].map == NULL) == (want != 0));
	gm_pin_put(&pins[0]);
	gm_reader_leave(readers[world]);
}

/* ---- ranges ---- */

/* vm-memory D4: in release builds a range of IOVAs that wraps was good, with nothing mapped. */
static void a_range_that_wraps_is_never_good(void **state)
{
	static const size_t lens[] = {2, 3, 8, 16, 63};
	struct gm_iommu_part part;
	size_t needed;

	(void)state;
	begin();
	for (int mapped = 0; mapped < 3; mapped++) {
		for (size_t i = 0; i < NR_WAYS * 5; i++) {
			size_t len = lens[i % 5];
			uint64_t gpa = TOP - (len - 2);

			for (int world = 0; world < 2; world++) {
				expect(&ways[i / 5], world, gpa, len, -ERANGE, 0);
				expect(&ways[i / 5], world, TOP, len, -ERANGE, 0);
				expect_pin(world, gpa, len, GM_PERM_R, -ERANGE);
				expect_pin(world, TOP, TOP, GM_PERM_R, -ERANGE);
			}
			assert_int_equal(
				gm_iommu_translate(iommu, gpa, len, GM_PERM_R, &part, 1, &needed),
				-ERANGE);
		}
		/* The same with translations, and with memory at both ends. */
		if (mapped == 0) {
			map_all(GM_PERM_RW);
		} else if (mapped == 1) {
			add(DESC(.gpa = 0, .backing = BLOCK(.len = PAGE)));
			add(DESC(.gpa = OTHER_SIDE, .backing = BLOCK(.len = 2 * PAGE)));
		}
	}
	end();
}

static int hostile_code(uint64_t iova, uint64_t len, uint64_t target, uint32_t perms)
{
	if (len == 0 || perms == 0 || (perms & ~GM_PERM_RW))
		return -EINVAL;
	return len - 1 > TOP - iova || len - 1 > TOP - target ? -ERANGE : 0;
}

/* vm-memory D5: lengths of 0 and ends at 2^64, which a peer chooses, ended the process. */
static void no_number_of_a_peer_does_harm(void **state)
{
	static const uint64_t ends[] = {0, 1, PAGE, TOP - 1, TOP};
	struct rng rng = {test_seed(5)};
	unsigned long codes[3] = {0};

	(void)state;
	begin();
	for (unsigned long i = 0; i < support_scale(20000); i++) {
		bool edge = rng_below(&rng, 2);
		uint64_t iova = edge ? ends[rng_below(&rng, 5)] : rng_edge(&rng);
		uint64_t len = edge ? ends[rng_below(&rng, 5)] : rng_edge(&rng);
		uint64_t target = rng_edge(&rng);
		uint32_t perms = (uint32_t)rng_below(&rng, 9);
		int want = hostile_code(iova, len, target, perms);
		uint64_t last = iova + (len - 1);
		struct gm_iommu_part part = {.len = 0};
		size_t needed = 0;
		uint64_t value;

		assert_int_equal(gm_iommu_map(iommu, iova, len, target, perms, &err), want);
		codes[want == 0 ? 0 : want == -ERANGE ? 1 : 2]++;
		if (!want) {
			assert_int_equal(
				gm_iommu_translate(iommu, last, 1, 0, &part, 1, &needed), 0);
			assert_int_equal(part.target, target + (len - 1));
		}
		/* Nothing is mapped below. */
		assert_true(gm_read_u64(gm_reader_enter(readers[1]), iova, &value) < 0);
		gm_reader_leave(readers[1]);
		if (i % 3)
			continue;
		want = hostile_code(iova, len, 0, GM_PERM_R);
		assert_int_equal(gm_iommu_unmap(iommu, iova, len), want);
		if (!want)
			assert_int_equal(
				gm_iommu_translate(iommu, last, 1, 0, &part, 1, &needed), -EFAULT);
	}
	assert_true(codes[0] > 100 && codes[1] > 100 && codes[2] > 100);
	end();
}

/* vm-memory D6: a write 8 bytes below 2^64 went on at address 0. */
static void an_access_at_the_last_address_does_not_go_on_at_zero(void **state)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint8_t *low;
	uint8_t *high;

	(void)state;
	begin();
	low = host(add(DESC(.gpa = 0, .backing = BLOCK(.len = PAGE))));
	high = host(add(DESC(.gpa = LAST_PAGE, .backing = BLOCK(.len = PAGE))));
	add(DESC(.gpa = OTHER_SIDE, .backing = BLOCK(.len = PAGE)));
	map_all(GM_PERM_RW);
	memset(bytes, 0xdd, sizeof(bytes));
	for (int world = 0; world < 2; world++) {
		for (size_t i = 0; i < NR_WAYS; i++) {
			memset(low, 0x11, PAGE);
			memset(high, 0x22, PAGE);
			expect(&ways[i], world, TOP - 7, 16, -ERANGE, 0);
			for (uint64_t at = 0; at < PAGE; at++)
				assert_true(low[at] == 0x11 && high[at] == 0x22);
		}
		/* Up to the last byte all is ordinary. */
		expect(&ways[1], world, TOP - 7, 8, 0, 8);
		assert_int_equal(high[PAGE - 1], 0xdd);
		assert_int_equal(low[0], 0x11);
	}
	/* Walks end as well. */
	assert_int_equal(gm_space_next(physical, TOP, &info), 0);
	assert_int_equal(info.gpa + info.len, 0);
	end();
}

static int give_nothing(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	(void)ctx;
	(void)size;
	*ret_value = off;
	return 0;
}

/* vm-memory D7: a region whose last byte is 2^64 - 1 could not be made. */
static void every_kind_of_region_may_end_at_the_last_address(void **state)
{
	static const struct gm_device_ops ops = {.size = sizeof(ops), .read = give_nothing};
	struct gm_region_info info = {.size = sizeof(info)};
	const struct gm_region_desc *descs[] = {
		DESC(.backing = BLOCK(.len = PAGE)),
		DESC(.kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)),
		DESC(.kind = GM_REGION_PMEM, .backing = BLOCK(.len = PAGE)),
		DESC(.kind = GM_REGION_ACPI, .backing = BLOCK(.len = PAGE)),
		DESC(.kind = GM_REGION_ROMD, .backing = BLOCK(.len = PAGE), .device = &ops),
		DESC(.kind = GM_REGION_MMIO, .len = PAGE, .device = &ops),
		DESC(.kind = GM_REGION_ALIAS, .len = PAGE),
		DESC(.kind = GM_REGION_CONTAINER, .len = PAGE),
		DESC(.kind = GM_REGION_RESERVED, .len = PAGE),
	};
	struct gm_txn *txn;
	uint64_t shown;

	(void)state;
	begin();
	map_all(GM_PERM_RW);
	shown = add(DESC(.parent = GM_REGION_DETACHED, .backing = BLOCK(.len = 2 * PAGE)));
	for (size_t i = 0; i < sizeof(descs) / sizeof(*descs); i++) {
		struct gm_region_desc desc = *descs[i];
		bool readable = desc.kind != GM_REGION_CONTAINER && desc.kind != GM_REGION_RESERVED;
		uint8_t byte;
		uint64_t id;

		desc.gpa = LAST_PAGE;
		desc.target = desc.kind == GM_REGION_ALIAS ? shown : 0;
		id = add(&desc);
		for (int world = 0; world < 2; world++) {
			assert_int_equal(gm_read_u8(gm_reader_enter(readers[world]), TOP, &byte),
				readable ? 0 : -EFAULT);
			gm_reader_leave(readers[world]);
		}
		assert_int_equal(gm_space_region(physical, id, &info), 0);
		assert_int_equal(info.gpa + info.len, 0);
		/* Away and back, and not beyond. */
		assert_ok(gm_txn_begin(physical, &txn, &err));
		assert_ok(gm_txn_move(txn, id, PAGE, &err));
		assert_ok(gm_txn_move(txn, id, LAST_PAGE, &err));
		assert_fails(gm_txn_resize(txn, id, 2 * PAGE, &err), ERANGE, "");
		assert_ok(gm_txn_commit(txn, &err));
		assert_ok(gm_space_remove(physical, id, &err));
	}
	/* It may grow up to there. */
	shown = add(DESC(.kind = GM_REGION_RESERVED, .gpa = OTHER_SIDE, .len = PAGE));
	assert_ok(gm_txn_begin(physical, &txn, &err));
	assert_ok(gm_txn_resize(txn, shown, 2 * PAGE, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(gm_space_next(physical, TOP, &info), 0);
	assert_int_equal(info.id, shown);
	end();
}

/* ---- permissions ---- */

static int read_only_file(void)
{
	char path[] = "/tmp/guestmem-test-XXXXXX";
	int fd = mkstemp(path);
	int ro = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && ro >= 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(unlink(path), 0);
	close(fd);
	return ro;
}

static void refuse_writes(int world, uint64_t gpa)
{
	const struct gm_view *view;
	uint64_t old;
	uint64_t u64;

	for (size_t i = 0; i < NR_WAYS; i++)
		expect(&ways[i], world, gpa + 8, 16, ways[i].writes ? -EACCES : 0,
			ways[i].writes ? 0 : 16);
	expect_pin(world, gpa, 8, GM_PERM_W, -EACCES);
	expect_pin(world, gpa, 8, GM_PERM_R, 0);
	view = gm_reader_enter(readers[world]);
	assert_int_equal(gm_write_u8(view, gpa, 1), -EACCES);
	assert_int_equal(gm_write_u64(view, gpa, 1), -EACCES);
	assert_int_equal(gm_write_be32(view, gpa + 1, 1), -EACCES);
	assert_int_equal(gm_atomic_store_u64(view, gpa, __ATOMIC_RELEASE, 1), -EACCES);
	assert_int_equal(gm_atomic_fetch_add_u64(view, gpa, __ATOMIC_RELAXED, 1, &old), -EACCES);
	assert_int_equal(gm_atomic_exchange_u64(view, gpa, __ATOMIC_RELAXED, 1, &old), -EACCES);
	assert_int_equal(gm_read_u64(view, gpa, &u64), 0);
	gm_reader_leave(readers[world]);
	assert_int_equal(u64, 0);
}

/* vm-memory D12: permissions did not hold for physical memory, a write to a read-only file killed. */
static void permissions_hold_on_every_way_to_memory(void **state)
{
	int fd = read_only_file();
	struct gm_block *file;
	uint64_t ram;
	uint64_t box;

	(void)state;
	begin();
	assert_ok(gm_block_create(
		BLOCK(.len = PAGE, .backing = GM_BACKING_FD, .fd = fd, .flags = GM_BLOCK_READONLY),
		&file, &err));
	ram = add(DESC(.gpa = 0, .backing = BLOCK(.len = PAGE)));
	add(DESC(.gpa = OTHER_SIDE, .backing = BLOCK(.len = PAGE)));
	/* Each with its own reason why it cannot be written. */
	add(DESC(.gpa = PAGE, .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)));
	add(DESC(.gpa = 2 * PAGE, .perms = GM_PERM_R, .backing = BLOCK(.len = PAGE)));
	add(DESC(.gpa = 3 * PAGE, .perms = GM_PERM_R, .block = file));
	add(DESC(.gpa = 4 * PAGE, .len = PAGE, .kind = GM_REGION_ALIAS, .target = ram,
		.perms = GM_PERM_R));
	box = add(DESC(.gpa = 5 * PAGE, .len = PAGE, .kind = GM_REGION_CONTAINER,
		.perms = GM_PERM_R));
	add(DESC(.parent = box, .backing = BLOCK(.len = PAGE)));
	assert_fails(gm_space_add(physical,
			     DESC(.gpa = 6 * PAGE, .perms = GM_PERM_RW, .block = file), NULL, &err),
		EACCES, "read-only");
	map_all(GM_PERM_RW);
	for (uint64_t page = 1; page < 6; page++) {
		refuse_writes(0, page * PAGE);
		refuse_writes(1, page * PAGE);
	}
	/* The translation may withhold more than the memory does. */
	map_all(GM_PERM_R);
	assert_ok(gm_iommu_map(
		iommu, OTHER_SIDE, LAST_PAGE - OTHER_SIDE, OTHER_SIDE, GM_PERM_RW, &err));
	refuse_writes(1, 0);
	expect(&ways[1], 0, 0, 16, 0, 16);
	gm_block_put(file);
	close(fd);
	end();
}

/* vm-memory D12 again: what lies past the end of a file was a signal. */
static void a_file_that_is_too_short_is_an_error(void **state)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	struct gm_block *block;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	assert_fails(gm_block_create(BLOCK(.len = 3 * PAGE, .backing = GM_BACKING_FD, .fd = fd),
			     &block, &err),
		ERANGE, "pass the end");
	begin();
	assert_int_equal(gm_guard_install(), 0);
	assert_ok(gm_block_create(
		BLOCK(.len = 2 * PAGE, .backing = GM_BACKING_FD, .fd = fd), &block, &err));
	add(DESC(.gpa = 0, .block = block));
	add(DESC(.gpa = OTHER_SIDE, .backing = BLOCK(.len = PAGE)));
	map_all(GM_PERM_RW);
	/* Only now, when all is mapped. */
	assert_int_equal(ftruncate(fd, PAGE), 0);
	for (int world = 0; world < 2; world++) {
		for (size_t i = 0; i < NR_WAYS; i++) {
			expect(&ways[1], world, PAGE - 8, 8, 0, 8);
			if (!ways[i].checks)
				expect(&ways[i], world, PAGE - 8, 16, -EIO, 8);
		}
	}
	assert_int_equal(gm_guard_remove(), 0);
	gm_block_put(block);
	close(fd);
	end();
}

/* ---- changes ---- */

#define WRITERS 4
#define EACH 40u

static void *add_some(void *arg)
{
	uint64_t first = (uintptr_t)arg * EACH;
	unsigned long *busy = calloc(1, sizeof(*busy));

	for (uint64_t i = first; busy && i < first + EACH;) {
		struct gm_txn *txn;
		int rc = gm_txn_begin(physical, &txn, NULL);

		if (rc) {
			*busy += rc == -EBUSY;
			sched_yield();
			continue;
		}
		/* Between plan and commit there is time for others, who are told to come later. */
		rc = gm_txn_add(txn,
			DESC(.gpa = i * PAGE, .len = PAGE, .kind = GM_REGION_RESERVED, .label = i),
			NULL, NULL);
		sched_yield();
		if (rc || gm_txn_commit(txn, NULL))
			break;
		i++;
	}
	return busy;
}

/* vm-memory D16: a map that was derived before the lock was taken undid somebody's change. */
static void no_change_is_lost_among_several_writers(void **state)
{
	struct gm_region_info info = {.size = sizeof(info)};
	pthread_t threads[WRITERS];
	struct gm_txn *first;
	struct gm_txn *second;

	(void)state;
	begin();
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_some, (void *)i), 0);
	for (int i = 0; i < WRITERS; i++) {
		void *busy;

		pthread_join(threads[i], &busy);
		assert_non_null(busy);
		free(busy);
	}
	for (uint64_t i = 0; i < WRITERS * EACH; i++) {
		assert_int_equal(gm_space_next(physical, i * PAGE, &info), 0);
		assert_int_equal(info.gpa, i * PAGE);
		assert_int_equal(info.label, i);
	}
	/* Who comes second cannot even begin to plan. */
	assert_ok(gm_txn_begin(physical, &first, &err));
	assert_fails(gm_txn_begin(physical, &second, &err), EBUSY, "another change");
	gm_txn_abort(first);
	assert_ok(gm_txn_begin(physical, &second, &err));
	gm_txn_abort(second);
	end();
}

/* ---- what was written ---- */

/* The bytes that are marked have changed, and no others. */
static void only_changed(const uint8_t *now, const uint8_t *was, uint64_t size, const bool *marked)
{
	for (uint64_t i = 0; i < size; i++) {
		if ((now[i] != was[i]) != marked[i])
			fail_msg("byte %#lx is %02x, was %02x, and is%s told", i, now[i], was[i],
				marked[i] ? "" : " not");
	}
}

/* vm-memory D17: with a log of IOVAs alone nobody knew which guest address had been written. */
static void a_translation_tells_which_guest_addresses_are_written(void **state)
{
	const uint64_t size = 16 * PAGE;
	struct rng rng = {test_seed(17)};
	struct gm_iommu_part parts[32];
	uint8_t *ram;
	uint8_t *was;
	bool *marked;

	(void)state;
	begin();
	ram = host(add(DESC(.gpa = PAGE, .backing = BLOCK(.len = size))));
	was = malloc(size);
	marked = malloc(size);
	assert_true(was && marked);
	/* Two names for the same memory, in pieces of odd lengths. */
	for (uint64_t at = 0; at < size; at += 777) {
		uint64_t last = at + 776 < size ? at + 776 : size - 1;

		assert_ok(gm_iommu_map(
			iommu, GIB(1) + at, last - at + 1, PAGE + at, GM_PERM_RW, &err));
		assert_ok(gm_iommu_map(iommu, GIB(2) + size - 1 - last, last - at + 1, PAGE + at,
			GM_PERM_RW, &err));
	}
	for (unsigned int round = 0; round < 200; round++) {
		uint64_t base = round % 2 ? GIB(1) : GIB(2);
		uint64_t len = 1 + rng_below(&rng, 8000);
		uint64_t iova = base + rng_below(&rng, size - len);
		size_t nr = 0;

		memset(marked, 0, size);
		memcpy(was, ram, size);
		assert_int_equal(
			gm_iommu_translate(iommu, iova, len, GM_PERM_W, parts, 32, &nr), 0);
		for (size_t i = 0; i < nr; i++)
			memset(marked + (parts[i].target - PAGE), true, parts[i].len);
		/* Every byte becomes another one. */
		assert_int_equal(
			gm_fill(gm_reader_enter(readers[1]), iova, (uint8_t)(round + 1), len, NULL),
			0);
		gm_reader_leave(readers[1]);
		only_changed(ram, was, size, marked);
		memset(ram, 0, size);
	}
	free(was);
	free(marked);
	end();
}

/* ---- length 0 ---- */

/* vm-memory D18: for no bytes at an address each function had an answer of its own. */
static void length_zero_is_answered_alike_by_all(void **state)
{
	static const struct {
		uint64_t gpa;
		int read;
		int write;
	} cases[] = {
		{0, 0, 0},
		{PAGE - 1, 0, 0},
		{PAGE, 0, -EACCES}, /* behind the end of a region there is another one */
		{2 * PAGE - 1, 0, -EACCES},
		{2 * PAGE, -EFAULT, -EFAULT}, /* or nothing */
		{GIB(1), -EFAULT, -EFAULT},
		{LAST_PAGE, 0, 0},
		{TOP, 0, 0},
	};
	struct gm_iommu_part part;
	size_t needed;

	(void)state;
	begin();
	add(DESC(.gpa = 0, .backing = BLOCK(.len = PAGE)));
	add(DESC(.gpa = PAGE, .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)));
	add(DESC(.gpa = OTHER_SIDE, .backing = BLOCK(.len = 2 * PAGE)));
	map_all(GM_PERM_RW);
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		for (int world = 0; world < 2; world++) {
			for (size_t i = 0; i < NR_WAYS; i++)
				expect(&ways[i], world, cases[c].gpa, 0,
					ways[i].writes ? cases[c].write : cases[c].read, 0);
			/* There is no slice of no bytes, at any address. */
			expect_pin(world, cases[c].gpa, 0, GM_PERM_R, -EINVAL);
		}
	}
	assert_int_equal(gm_iommu_translate(iommu, TOP, 0, GM_PERM_R, &part, 1, &needed), 0);
	assert_int_equal(gm_iommu_unmap(iommu, TOP, 1), 0);
	assert_int_equal(gm_iommu_translate(iommu, TOP, 0, GM_PERM_R, &part, 1, &needed), -EFAULT);
	for (size_t i = 0; i < NR_WAYS; i++)
		expect(&ways[i], 1, TOP, 0, -EFAULT, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_range_that_wraps_is_never_good),
		cmocka_unit_test(no_number_of_a_peer_does_harm),
		cmocka_unit_test(an_access_at_the_last_address_does_not_go_on_at_zero),
		cmocka_unit_test(every_kind_of_region_may_end_at_the_last_address),
		cmocka_unit_test(permissions_hold_on_every_way_to_memory),
		cmocka_unit_test(a_file_that_is_too_short_is_an_error),
		cmocka_unit_test(no_change_is_lost_among_several_writers),
		cmocka_unit_test(a_translation_tells_which_guest_addresses_are_written),
		cmocka_unit_test(length_zero_is_answered_alike_by_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
