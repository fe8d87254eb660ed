/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_backend.c - memory that callbacks provide: one device that runs on every provider, what is
 * asked of a backend and in which order, backends that lie, and slices.
 */
#include <errno.h>
#include <guestmem/backend.h>
#include <guestmem/iommu.h>
#include <string.h>
#include <sys/mman.h>

#include "fault.h"
#include "one_space.h"
#include "provider.h"
#include "random.h"

#define PAGE UINT64_C(4096)

/* ---- one device, every provider ---- */

/* A queue in memory: counters, and jobs that say which bytes are to be turned around and where to. */
#define AVAIL UINT64_C(0x0)  /* le16: jobs that are ready */
#define USED UINT64_C(0x2)   /* le16: jobs that are done */
#define TOTAL UINT64_C(0x8)  /* u64, atomic: bytes that were turned around */
#define OWNER UINT64_C(0x10) /* u32, atomic: who runs the queue */
#define JOBS UINT64_C(0x40)  /* le64 from, le64 to, le32 length: 32 bytes each */
#define NR_JOBS 24

/* Written once, against a view: it does not know what is behind. */
static int run_device(const struct gm_view *view, uint64_t base)
{
	uint32_t owner = 0;
	uint16_t used;
	uint16_t avail;
	int rc = gm_atomic_cmpxchg_u32(view, base + OWNER, __ATOMIC_SEQ_CST, &owner, 7);

	if (rc < 0)
		return rc;
	if (rc != 1 || owner != 0)
		return -EBUSY;
	rc = gm_read_le16(view, base + USED, &used);
	if (!rc)
		rc = gm_atomic_load_u16(view, base + AVAIL, __ATOMIC_ACQUIRE, &avail);
	for (; !rc && used != avail; used++) {
		uint64_t job = base + JOBS + UINT64_C(32) * (used % NR_JOBS);
		uint8_t bytes[600];
		uint64_t from;
		uint64_t to;
		uint32_t len;

		rc = gm_read_le64(view, job, &from);
		if (!rc)
			rc = gm_read_le64(view, job + 8, &to);
		if (!rc)
			rc = gm_read_le32(view, job + 16, &len);
		if (rc || len > sizeof(bytes))
			return rc ? rc : -EPROTO;
		rc = gm_read(view, base + from, bytes, len, NULL);
		for (uint32_t i = 0; i < len / 2; i++) {
			uint8_t other = bytes[i];

			bytes[i] = bytes[len - 1 - i];
			bytes[len - 1 - i] = other;
		}
		if (!rc)
			rc = gm_write(view, base + to, bytes, len, NULL);
		/* And the source once more behind it, by the other functions. */
		if (!rc)
			rc = gm_copy(view, base + to + len, base + from, len, NULL);
		if (!rc)
			rc = gm_fill(view, base + from, 0xee, len, NULL);
		if (!rc)
			rc = gm_atomic_fetch_add_u64(
				view, base + TOTAL, __ATOMIC_SEQ_CST, len, NULL);
		if (!rc)
			rc = gm_atomic_store_u16(
				view, base + USED, __ATOMIC_RELEASE, (uint16_t)(used + 1));
	}
	if (!rc)
		rc = gm_atomic_store_u32(view, base + OWNER, __ATOMIC_RELEASE, 0);
	return rc;
}

/* The driver's side, in plain memory: jobs at random, and what must come of them. */
static void make_jobs(uint8_t *memory, uint8_t *want, struct rng *rng)
{
	uint64_t total = 0;
	uint16_t nr = NR_JOBS;

	for (size_t i = 0; i < PROVIDED; i++)
		memory[i] = (uint8_t)rng_next(rng);
	memset(memory, 0, JOBS);
	memcpy(memory + AVAIL, &nr, sizeof(nr));
	memcpy(want, memory, PROVIDED);
	for (uint64_t i = 0; i < NR_JOBS; i++) {
		uint64_t room = (PROVIDED - PAGE) / NR_JOBS;
		uint32_t len = 1 + (uint32_t)(rng_next(rng) % 600);
		uint64_t from = PAGE + i * room + rng_next(rng) % 100;
		uint64_t to = from + len + rng_next(rng) % 100;
		uint8_t *job = memory + JOBS + 32 * i;

		assert_true(to + 2 * len <= PAGE + (i + 1) * room);
		memcpy(job, &from, 8);
		memcpy(job + 8, &to, 8);
		memcpy(job + 16, &len, 4);
		memcpy(want + JOBS + 32 * i, job, 20);
		for (uint32_t j = 0; j < len; j++)
			want[to + j] = memory[from + len - 1 - j];
		memcpy(want + to + len, memory + from, len);
		memset(want + from, 0xee, len);
		total += len;
	}
	memcpy(want + USED, &nr, sizeof(nr));
	memcpy(want + TOTAL, &total, sizeof(total));
}

static void test_one_device_runs_on_every_provider(void **state)
{
	uint8_t *memory = malloc(PROVIDED);
	uint8_t *want = malloc(PROVIDED);
	struct rng rng = {test_seed(31)};

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct provided p;

		make_jobs(memory, want, &rng);
		provide(i, &p);
		p.set(&p, memory);
		assert_int_equal(run_device(gm_reader_enter(p.reader), p.base), 0);
		gm_reader_leave(p.reader);
		p.get(&p, memory);
		for (size_t at = 0; at < PROVIDED; at++) {
			if (memory[at] != want[at])
				fail_msg("%s: byte 0x%zx is %02x, not %02x", p.name, at, memory[at],
					want[at]);
		}
		unprovide(&p);
	}
	free(want);
	free(memory);
}

/* ---- what is asked, and in which order ---- */

struct spy {
	uint8_t *bytes;
	uint64_t most; /* bytes in one answer */
	unsigned int translates;
	unsigned int maps;
	unsigned int unmaps;
	unsigned int reads;
	unsigned int writes;
	unsigned int released;
	struct gm_backend_piece lie;
	bool lies;
	uint8_t *nowhere;
	int code;
	size_t count;
	bool counts;
	const struct gm_view *again;
	int again_rc;
};

static struct spy spy;

static int answer(
	struct spy *s, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	if (s->again) {
		uint8_t byte;

		s->again_rc = gm_read_u8(s->again, 0, &byte);
	}
	*ret = (struct gm_backend_piece){
		.hva = s->bytes + off, .len = len < s->most ? len : s->most, .perms = perms};
	if (s->lies)
		*ret = s->lie;
	if (s->nowhere)
		ret->hva = s->nowhere;
	return s->code;
}

static int spy_translate(
	void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	((struct spy *)ctx)->translates++;
	return answer(ctx, off, len, perms, ret);
}

static int spy_map(
	void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	((struct spy *)ctx)->maps++;
	return answer(ctx, off, len, perms, ret);
}

static void spy_unmap(void *ctx, const struct gm_backend_piece *piece)
{
	(void)piece;
	((struct spy *)ctx)->unmaps++;
}

static int spy_read(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done)
{
	struct spy *s = ctx;

	s->reads++;
	*ret_done = len < s->most ? len : s->most;
	memcpy(buf, s->bytes + off, *ret_done);
	if (s->counts)
		*ret_done = s->count;
	return s->code;
}

static int spy_write(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done)
{
	struct spy *s = ctx;

	s->writes++;
	*ret_done = len < s->most ? len : s->most;
	memcpy(s->bytes + off, buf, *ret_done);
	if (s->counts)
		*ret_done = s->count;
	return s->code;
}

static void spy_release(void *ctx)
{
	((struct spy *)ctx)->released++;
}

#define SPY_LEN (4 * PAGE)
#define SPY(...) GM_OPTS(gm_backend_ops, .release = spy_release, .ctx = &spy, __VA_ARGS__)

static void start_spy(const struct gm_backend_ops *ops)
{
	spy = (struct spy){.most = UINT64_MAX};
	spy.bytes = mmap(NULL, SPY_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(spy.bytes != MAP_FAILED);
	start(NULL);
	assert_ok(gm_space_add(space,
		DESC(.backing = BLOCK(.len = SPY_LEN, .backing = GM_BACKING_OPS, .ops = ops)), NULL,
		&err));
}

static void stop_spy(void)
{
	stop();
	assert_int_equal(spy.released, 1);
	assert_int_equal(spy.unmaps, spy.maps);
	munmap(spy.bytes, SPY_LEN);
}

static void test_the_first_way_that_there_is_is_used(void **state)
{
	const struct gm_view *view;
	uint64_t old;
	uint8_t buf[32];

	(void)state;
	start_spy(SPY(.translate = spy_translate, .map = spy_map, .unmap = spy_unmap,
		.read = spy_read, .write = spy_write));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write(view, 5, "hello", 5, NULL), 0);
	assert_int_equal(gm_read(view, 5, buf, 5, NULL), 0);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(gm_atomic_fetch_add_u64(view, 64, __ATOMIC_SEQ_CST, 3, &old), 0);
	gm_reader_leave(reader);
	assert_int_equal(spy.translates, 3);
	assert_int_equal(spy.maps + spy.reads + spy.writes, 0);
	stop_spy();

	start_spy(SPY(.map = spy_map, .unmap = spy_unmap, .read = spy_read, .write = spy_write));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write(view, 5, "hello", 5, NULL), 0);
	assert_int_equal(gm_read(view, 5, buf, 5, NULL), 0);
	assert_int_equal(spy.reads, 1);
	assert_int_equal(spy.writes, 1);
	assert_int_equal(spy.maps, 0);
	assert_int_equal(gm_atomic_fetch_add_u64(view, 64, __ATOMIC_SEQ_CST, 3, &old), 0);
	assert_int_equal(gm_atomic_load_u64(view, 64, __ATOMIC_ACQUIRE, &old), 0);
	assert_int_equal(old, 3);
	assert_int_equal(spy.maps, 2);
	gm_reader_leave(reader);
	stop_spy();

	start_spy(SPY(.read = spy_read, .write = spy_write));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_atomic_store_u32(view, 8, __ATOMIC_SEQ_CST, 0x12345678), 0);
	assert_int_equal(gm_atomic_load_u64(view, 8, __ATOMIC_SEQ_CST, &old), 0);
	assert_int_equal(old, 0x12345678);
	assert_int_equal(gm_atomic_fetch_add_u64(view, 64, __ATOMIC_SEQ_CST, 3, &old), -ENOTSUP);
	gm_reader_leave(reader);
	stop_spy();

	start_spy(SPY(.read = spy_read));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write_u8(view, 8, 1), -EACCES);
	assert_int_equal(gm_fill(view, 8, 1, 8, NULL), -EACCES);
	assert_int_equal(gm_atomic_store_u8(view, 8, __ATOMIC_RELAXED, 1), -EACCES);
	gm_reader_leave(reader);
	stop_spy();
}

static void test_answers_may_be_shorter_than_the_access(void **state)
{
	const struct gm_backend_ops *ways[] = {
		SPY(.translate = spy_translate),
		SPY(.map = spy_map, .unmap = spy_unmap),
		SPY(.read = spy_read, .write = spy_write),
	};
	uint8_t out[3000];
	uint8_t in[3000];

	(void)state;
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < 3; i++) {
		const struct gm_view *view;
		size_t done = 0;
		int order = 1;

		start_spy(ways[i]);
		spy.most = 33;
		view = gm_reader_enter(reader);
		assert_int_equal(gm_write(view, 100, out, sizeof(out), &done), 0);
		assert_int_equal(done, sizeof(out));
		assert_int_equal(gm_read(view, 100, in, sizeof(in), NULL), 0);
		assert_memory_equal(in, out, sizeof(in));
		/* Overlapping, both ways. */
		assert_int_equal(gm_copy(view, 107, 100, 2000, NULL), 0);
		assert_int_equal(gm_compare(view, 107, out, 2000, &order, NULL), 0);
		assert_int_equal(order, 0);
		assert_int_equal(gm_copy(view, 90, 107, 2000, NULL), 0);
		assert_int_equal(gm_compare(view, 90, out, 2000, &order, NULL), 0);
		assert_int_equal(order, 0);
		assert_int_equal(gm_fill(view, 0, 0, 3500, NULL), 0);
		assert_int_equal(gm_is_zero(view, 0, SPY_LEN, NULL), 1);
		gm_reader_leave(reader);
		stop_spy();
	}
}

static void test_an_error_comes_with_the_progress(void **state)
{
	uint8_t buf[100];
	size_t done = 99;

	(void)state;
	start_spy(SPY(.read = spy_read, .write = spy_write));
	spy.most = 10;
	spy.code = -ENETDOWN;
	assert_int_equal(gm_read(gm_reader_enter(reader), 0, buf, 100, &done), -ENETDOWN);
	assert_int_equal(done, 10);
	spy.counts = true;
	assert_int_equal(gm_write(gm_reader_enter(reader), 0, buf, 100, &done), -ENETDOWN);
	assert_int_equal(done, 0);
	gm_reader_leave(reader);
	gm_reader_leave(reader);
	stop_spy();
}

static void test_a_backend_that_asks_for_itself_is_told_so(void **state)
{
	uint8_t byte;

	(void)state;
	start_spy(SPY(.translate = spy_translate));
	spy.again = gm_reader_enter(reader);
	assert_int_equal(gm_read_u8(spy.again, 0, &byte), 0);
	assert_int_equal(spy.again_rc, -EBUSY);
	gm_reader_leave(reader);
	stop_spy();
}

/* ---- lies ---- */

/* Every function that reaches memory; each must return @rc. */
static void assert_all(const struct gm_view *view, int rc, bool messages)
{
	uint8_t buf[16];
	uint64_t u64 = 0;
	int order;

	assert_int_equal(gm_read(view, 32, buf, 16, NULL), rc);
	assert_int_equal(gm_write(view, 32, buf, 16, NULL), rc);
	assert_int_equal(gm_fill(view, 32, 1, 16, NULL), rc);
	assert_int_equal(gm_copy(view, 32, 64, 16, NULL), rc);
	assert_int_equal(gm_copy(view, 72, 64, 16, NULL), rc);
	assert_int_equal(gm_compare(view, 32, buf, 16, &order, NULL), rc);
	assert_int_equal(gm_is_zero(view, 32, 16, NULL), rc);
	assert_int_equal(gm_read_le64(view, 32, &u64), rc);
	assert_int_equal(gm_write_be32(view, 32, 1), rc);
	assert_int_equal(gm_atomic_load_u64(view, 32, __ATOMIC_ACQUIRE, &u64), rc);
	assert_int_equal(gm_atomic_store_u64(view, 32, __ATOMIC_SEQ_CST, 1), rc);
	if (messages)
		return;
	assert_int_equal(gm_atomic_exchange_u64(view, 32, __ATOMIC_SEQ_CST, 1, &u64), rc);
	assert_int_equal(gm_atomic_cmpxchg_u64(view, 32, __ATOMIC_SEQ_CST, &u64, 1), rc);
}

static void test_answers_that_cannot_be_are_protocol_errors(void **state)
{
	static uint8_t zeros[SPY_LEN];
	uint8_t *wild = (uint8_t *)UINTPTR_MAX - 7;
	const struct gm_backend_ops *ways[] = {
		SPY(.translate = spy_translate),
		SPY(.map = spy_map, .unmap = spy_unmap),
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const struct gm_view *view;

		start_spy(ways[i]);
		view = gm_reader_enter(reader);
		const struct gm_backend_piece lies[] = {
			{.hva = NULL, .len = 8, .perms = GM_PERM_RW},
			{.hva = spy.bytes + 32, .len = 0, .perms = GM_PERM_RW},
			{.hva = spy.bytes + 32, .len = 17, .perms = GM_PERM_RW},
			{.hva = spy.bytes + 32, .len = UINT64_MAX, .perms = GM_PERM_RW},
			{.hva = spy.bytes + 32, .len = 8, .perms = GM_PERM_X},
			{.hva = spy.bytes + 32, .len = 8, .perms = GM_PERM_RW | 0x100},
			{.hva = spy.bytes + 33, .len = 8, .perms = GM_PERM_RW},
			{.hva = spy.bytes + 32, .len = 8, .perms = GM_PERM_RW, .reserved = 1},
			{.hva = wild + 1, .len = 8, .perms = GM_PERM_RW},
		};
		spy.lies = true;
		for (size_t j = 0; j < sizeof(lies) / sizeof(lies[0]); j++) {
			spy.lie = lies[j];
			assert_all(view, -EPROTO, false);
		}
		spy.lies = false;
		spy.code = 1;
		assert_all(view, -EPROTO, false);
		spy.code = -100000;
		assert_all(view, -EPROTO, false);
		spy.code = -ESTALE;
		assert_all(view, -ESTALE, false);
		assert_memory_equal(spy.bytes, zeros, SPY_LEN);
		/* What was answered with an error was not mapped. */
		spy.unmaps = spy.maps;
		gm_reader_leave(reader);
		stop_spy();
	}
}

static void test_counts_that_cannot_be_are_protocol_errors(void **state)
{
	const struct gm_view *view;

	(void)state;
	start_spy(SPY(.read = spy_read, .write = spy_write));
	view = gm_reader_enter(reader);
	spy.counts = true;
	spy.count = 0;
	assert_all(view, -EPROTO, true);
	spy.count = 17;
	assert_all(view, -EPROTO, true);
	spy.count = SIZE_MAX;
	assert_all(view, -EPROTO, true);
	spy.counts = false;
	spy.code = 5;
	assert_all(view, -EPROTO, true);
	gm_reader_leave(reader);
	stop_spy();
}

/* An address in nothing is a fault, which the guard answers. */
static void test_a_lie_into_nothing_is_an_error(void **state)
{
	uint8_t *hole = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct gm_view *view;

	(void)state;
	assert_true(hole != MAP_FAILED);
	assert_int_equal(gm_guard_install(), 0);
	start_spy(SPY(.translate = spy_translate));
	view = gm_reader_enter(reader);
	spy.nowhere = hole;
	assert_all(view, -EACCES, false);
	gm_reader_leave(reader);
	stop_spy();
	gm_guard_remove();
	munmap(hole, PAGE);
}

/* ---- slices ---- */

static void test_a_slice_is_mapped_until_its_pin_is_given_back(void **state)
{
	struct iovec slices[8];
	struct gm_pin pins[8];
	size_t needed = 0;

	(void)state;
	start_spy(SPY(.map = spy_map, .unmap = spy_unmap));
	spy.most = PAGE;
	assert_int_equal(gm_pin_range(gm_reader_enter(reader), 8, 3 * PAGE, GM_PERM_RW, slices,
				 pins, 8, &needed),
		0);
	gm_reader_leave(reader);
	assert_int_equal(needed, 3);
	assert_int_equal(spy.maps, 3);
	assert_int_equal(spy.unmaps, 0);
	assert_ptr_equal(slices[1].iov_base, spy.bytes + 8 + PAGE);
	/* The region goes; the pins keep the block. */
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	assert_int_equal(spy.released, 0);
	for (size_t i = 0; i < needed; i++)
		gm_pin_put(&pins[i]);
	assert_int_equal(spy.unmaps, 3);
	assert_int_equal(spy.released, 1);
	munmap(spy.bytes, SPY_LEN);

	/* An error at the second gives the first back. */
	start_spy(SPY(.map = spy_map, .unmap = spy_unmap));
	spy.most = PAGE;
	assert_int_equal(gm_pin_range(gm_reader_enter(reader), 0, 3 * PAGE, GM_PERM_RW, slices,
				 pins, 1, &needed),
		-ENOBUFS);
	gm_reader_leave(reader);
	assert_int_equal(spy.maps, 1);
	stop_spy();

	start_spy(SPY(.translate = spy_translate));
	assert_int_equal(
		gm_pin_slice(gm_reader_enter(reader), 0, 8, GM_PERM_R, slices, pins), -ENOTSUP);
	gm_reader_leave(reader);
	stop_spy();
}

/* ---- what cannot be made ---- */

static void test_bad_backends_are_refused(void **state)
{
	struct gm_backend_ops big = {.size = 8};
	struct gm_block *block;

	(void)state;
	assert_fails(gm_block_create(BLOCK(.len = PAGE, .backing = GM_BACKING_OPS), &block, &err),
		EINVAL, "callbacks");
	assert_fails(gm_block_create(BLOCK(.len = PAGE, .ops = SPY(.translate = spy_translate)),
			     &block, &err),
		EINVAL, "callbacks");
#define OPS(...) BLOCK(.len = PAGE, .backing = GM_BACKING_OPS, .ops = SPY(__VA_ARGS__))
	assert_fails(gm_block_create(OPS(.read = NULL), &block, &err), EINVAL, "no way");
	assert_fails(gm_block_create(OPS(.map = spy_map), &block, &err), EINVAL, "go together");
	assert_fails(
		gm_block_create(OPS(.write = spy_write, .translate = spy_translate), &block, &err),
		EINVAL, "write needs read");
	assert_fails(gm_block_create(BLOCK(.len = PAGE, .backing = GM_BACKING_OPS, .ops = &big),
			     &block, &err),
		EINVAL, "backend");
	assert_fails(gm_block_create(BLOCK(.len = PAGE, .backing = GM_BACKING_OPS,
					     .flags = GM_BLOCK_POPULATE,
					     .ops = SPY(.translate = spy_translate)),
			     &block, &err),
		EINVAL, "no flags");
	assert_fails(gm_block_create(BLOCK(.len = PAGE, .backing = GM_BACKING_OPS,
					     .pages = {{GM_PAGE_HUGETLB, 0}},
					     .ops = SPY(.translate = spy_translate)),
			     &block, &err),
		EINVAL, "no pages");
	/* What was refused was not released: it is the caller's still. */
	assert_int_equal(spy.released, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_device_runs_on_every_provider),
		cmocka_unit_test(test_the_first_way_that_there_is_is_used),
		cmocka_unit_test(test_answers_may_be_shorter_than_the_access),
		cmocka_unit_test(test_an_error_comes_with_the_progress),
		cmocka_unit_test(test_a_backend_that_asks_for_itself_is_told_so),
		cmocka_unit_test(test_answers_that_cannot_be_are_protocol_errors),
		cmocka_unit_test(test_counts_that_cannot_be_are_protocol_errors),
		cmocka_unit_test(test_a_lie_into_nothing_is_an_error),
		cmocka_unit_test(test_a_slice_is_mapped_until_its_pin_is_given_back),
		cmocka_unit_test(test_bad_backends_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
