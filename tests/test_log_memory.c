/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log_memory.c - writes to memory that is no plain mapping are logged as any: memory of backends, in files
 * that are not mapped, behind an IOMMU, of devices; and what a stream may have written although its call failed.
 */
#include <errno.h>
#include <guestmem/backend.h>
#include <guestmem/device.h>
#include <guestmem/stream.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "one_log.h"
#include "provider.h"
#include "random.h"

#define NR_PAGES (PROVIDED / PAGE)

/* ---- every way to write, every provider ---- */

static uint8_t bytes[PROVIDED];

/* Each writes some of [gpa, gpa + len) and returns the bytes that it wrote from gpa on, or an error. */
typedef int64_t writer(const struct provided *p, uint64_t gpa, size_t len);

static const struct gm_view *view_of(const struct provided *p)
{
	return gm_reader_enter(p->reader);
}

static int64_t by_write(const struct provided *p, uint64_t gpa, size_t len)
{
	int rc = gm_write(view_of(p), gpa, bytes, len, NULL);

	return rc ? rc : (int64_t)len;
}

static int64_t by_fill(const struct provided *p, uint64_t gpa, size_t len)
{
	int rc = gm_fill(view_of(p), gpa, 7, len, NULL);

	return rc ? rc : (int64_t)len;
}

static int64_t by_copy(const struct provided *p, uint64_t gpa, size_t len)
{
	int rc = gm_copy(view_of(p), gpa, p->base, len, NULL);

	return rc ? rc : (int64_t)len;
}

static int64_t by_number(const struct provided *p, uint64_t gpa, size_t len)
{
	int rc = gm_write_le64(view_of(p), gpa, len);

	return rc ? rc : 8;
}

static int64_t by_store(const struct provided *p, uint64_t gpa, size_t len)
{
	int rc = gm_atomic_store_u8(view_of(p), gpa, __ATOMIC_SEQ_CST, (uint8_t)len);

	return rc ? rc : 1;
}

static int64_t by_rmw(const struct provided *p, uint64_t gpa, size_t len)
{
	int rc = gm_atomic_fetch_add_u8(view_of(p), gpa, __ATOMIC_SEQ_CST, (uint8_t)len, NULL);

	return rc ? rc : 1;
}

static int64_t by_cmpxchg(const struct provided *p, uint64_t gpa, size_t len)
{
	const struct gm_view *view = view_of(p);
	uint8_t seen;
	int rc = gm_read_u8(view, gpa, &seen);

	if (!rc)
		rc = gm_atomic_cmpxchg_u8(view, gpa, __ATOMIC_SEQ_CST, &seen, (uint8_t)len);
	return rc;
}

static int64_t by_pin(const struct provided *p, uint64_t gpa, size_t len)
{
	struct iovec slice;
	struct gm_pin pin;
	int rc = gm_pin_slice(view_of(p), gpa, len, GM_PERM_RW, &slice, &pin);

	/* Memory that is reached by messages has none. */
	if (rc == -ENOTSUP)
		return by_write(p, gpa, len);
	if (rc)
		return rc;
	memset(slice.iov_base, 9, slice.iov_len);
	gm_pin_put(&pin);
	return (int64_t)slice.iov_len;
}

static int64_t by_stream(const struct provided *p, uint64_t gpa, size_t len)
{
	struct gm_stream stream;
	size_t done = 0;
	int rc;

	gm_stream_init_source(&stream, bytes, len);
	rc = gm_stream_read(&stream, p->reader, gpa, len, GM_STREAM_EXACT, &done);
	/* To leave as often as the others. */
	view_of(p);
	return rc ? rc : (int64_t)done;
}

static writer *const writers[] = {
	by_write, by_fill, by_copy, by_number, by_store, by_rmw, by_cmpxchg, by_pin, by_stream};
#define NR_WRITERS (sizeof(writers) / sizeof(writers[0]))

/* Which page of the space below a page of an IOVA space leads to, and where it is there. */
static uint64_t below(const struct provided *p, uint64_t page)
{
	return p->base ? GIB(1) + (NR_PAGES - 1 - page) * PAGE : page * PAGE;
}

/* The pages from @gpa on that @len bytes touch are marked in all logs, and no other. */
static void assert_marked(struct provided *p, struct gm_log **logs, uint64_t gpa, uint64_t len)
{
	uint64_t first = (gpa - p->base) / PAGE;
	uint64_t last = (gpa + len - 1 - p->base) / PAGE;

	for (uint64_t page = 0; page < NR_PAGES; page++) {
		uint64_t want = len && page >= first && page <= last;

		if (gm_log_count(logs[0], p->base + page * PAGE, PAGE) != want)
			fail_msg("%s: page %llu", p->name, (unsigned long long)page);
		if (p->below && gm_log_count(logs[1], below(p, page), PAGE) != want)
			fail_msg("%s: below page %llu", p->name, (unsigned long long)page);
	}
	for (int i = 0; i < (p->below ? 2 : 1); i++) {
		assert_int_equal(gm_log_count(logs[i], 0, 0), len ? last - first + 1 : 0);
		gm_log_reset(logs[i], 0, UINT64_MAX);
		gm_log_reset(logs[i], UINT64_MAX, 1);
	}
}

static void test_writes_are_logged_whoever_provides_the_memory(void **state)
{
	struct rng rng = {test_seed(21)};

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct gm_log *logs[2];
		struct provided p;

		provide(i, &p);
		assert_ok(gm_log_create(
			p.space, LOG(.first = p.base, .len = PROVIDED), &logs[0], &err));
		if (p.below)
			assert_ok(gm_log_create(p.below, NULL, &logs[1], &err));
		for (unsigned long n = 0; n < support_scale(200); n++) {
			uint64_t gpa = p.base + rng_below(&rng, PROVIDED - 5 * PAGE);
			size_t len = 1 + (size_t)rng_below(&rng, n % 2 ? 20 : 4 * PAGE);
			int64_t done = writers[n % NR_WRITERS](&p, gpa, len);

			if (done <= 0)
				fail_msg("%s: writer %lu: %lld", p.name, n % NR_WRITERS,
					(long long)done);
			gm_reader_leave(p.reader);
			assert_marked(&p, logs, gpa, (uint64_t)done);
			/* Reading is none. */
			assert_int_equal(gm_read(view_of(&p), gpa, bytes, len, NULL), 0);
			gm_reader_leave(p.reader);
			assert_marked(&p, logs, gpa, 0);
		}
		assert_ok(gm_log_destroy(logs[0], &err));
		if (p.below)
			assert_ok(gm_log_destroy(logs[1], &err));
		unprovide(&p);
	}
}

/* ---- a backend that fails on the way ---- */

static uint8_t backend_bytes[4 * PAGE];
static size_t backend_room;

static int give(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done)
{
	(void)ctx;
	memcpy(buf, backend_bytes + off, len);
	*ret_done = len;
	return 0;
}

static int take_some(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done)
{
	*ret_done = len < backend_room ? len : backend_room;
	backend_room -= *ret_done;
	memcpy(backend_bytes + off, buf, *ret_done);
	(void)ctx;
	return *ret_done < len ? -EIO : 0;
}

static void test_what_a_backend_took_before_it_failed_is_logged(void **state)
{
	size_t done = 0;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(space,
		DESC(.backing = BLOCK(.len = 4 * PAGE, .backing = GM_BACKING_OPS,
			     .ops = GM_OPTS(gm_backend_ops, .read = give, .write = take_some))),
		NULL, &err));
	log_ = make_log(NULL);
	backend_room = PAGE + 1;
	assert_int_equal(gm_write(gm_reader_enter(reader), 100, bytes, 3 * PAGE, &done), -EIO);
	assert_int_equal(done, PAGE + 1);
	assert_taken(log_, 0, 2);
	assert_int_equal(gm_write(gm_reader_enter(reader), 100, bytes, 8, &done), -EIO);
	assert_int_equal(done, 0);
	assert_clean(log_);
	gm_reader_leave(reader);
	gm_reader_leave(reader);
	stop_log();
}

/* ---- devices ---- */

static int on_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)off;
	(void)size;
	(void)value;
	++*(int *)ctx;
	return 0;
}

/* Memory of a device is memory; its registers are none. */
static void test_memory_of_devices_is_logged_and_registers_are_not(void **state)
{
	int calls = 0;
	const struct gm_device_ops ops = {.size = sizeof(ops), .write = on_write, .ctx = &calls};
	uint8_t *bar =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct gm_view *view;
	struct gm_stream stream;
	size_t done;

	(void)state;
	assert_true(bar != MAP_FAILED);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(space,
		DESC(.kind = GM_REGION_DEVMEM, .backing = BLOCK(.len = 4 * PAGE,
						       .backing = GM_BACKING_POINTER, .addr = bar)),
		NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = 8 * PAGE, .kind = GM_REGION_MMIO, .len = PAGE, .device = &ops), NULL,
		&err));
	log_ = make_log(NULL);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write(view, PAGE - 3, bytes, 7, NULL), 0);
	assert_taken(log_, 0, 2);
	assert_int_equal(gm_fill(view, PAGE, 5, 2 * PAGE + 1, NULL), 0);
	assert_taken(log_, 1, 3);
	assert_int_equal(bar[3 * PAGE], 5);
	assert_int_equal(gm_write_u32(view, 2 * PAGE, 1), 0);
	assert_taken(log_, 2, 1);
	assert_int_equal(gm_copy(view, 3 * PAGE, 0, 64, NULL), 0);
	assert_taken(log_, 3, 1);
	assert_int_equal(gm_atomic_store_u64(view, 8, __ATOMIC_RELEASE, 1), 0);
	assert_taken(log_, 0, 1);
	assert_int_equal(gm_write_u32(view, 8 * PAGE, 1), 0);
	assert_int_equal(calls, 1);
	assert_clean(log_);
	gm_reader_leave(reader);
	/* A stream goes through a buffer. */
	gm_stream_init_source(&stream, bytes, 100);
	assert_int_equal(gm_stream_read(&stream, reader, PAGE, 100, GM_STREAM_EXACT, &done), 0);
	assert_taken(log_, 1, 1);
	stop_log();
	munmap(bar, 4 * PAGE);
}

/* ---- streams that fail ---- */

/* Puts a byte into the last slice's end, and says that nothing came. */
static int fill_and_fail(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	int rc = *(int *)ctx;

	((uint8_t *)slices[nr - 1].iov_base)[slices[nr - 1].iov_len - 1] = 77;
	*ret_done = 0;
	return rc;
}

static void test_all_of_a_slice_is_marked_when_a_stream_fails(void **state)
{
	int rc = -EIO;
	struct gm_stream_ops ops = {.size = sizeof(ops), .readv = fill_and_fail, .ctx = &rc};
	struct gm_chain_elem elems[] = {
		{.gpa = 8 * PAGE + 100, .len = PAGE, .flags = GM_CHAIN_WRITE},
		{.gpa = 20 * PAGE, .len = 8 * PAGE, .flags = GM_CHAIN_WRITE},
	};
	struct gm_chain chain;
	struct gm_stream stream;
	uint8_t last = 0;
	size_t done = 9;
	int pipes[2];

	(void)state;
	start_log();
	assert_ok(gm_stream_init_ops(&stream, &ops, &err));
	assert_int_equal(gm_stream_read(&stream, reader, 2 * PAGE + 5, 3 * PAGE, 0, &done), -EIO);
	assert_int_equal(done, 0);
	assert_int_equal(gm_read_u8(gm_reader_enter(reader), 5 * PAGE + 4, &last), 0);
	gm_reader_leave(reader);
	assert_int_equal(last, 77);
	assert_taken(log_, 2, 4);
	/* All slices of a chain. */
	assert_ok(gm_chain_init(&chain, elems, 2, NULL, &err));
	assert_int_equal(gm_stream_read_chain(&stream, reader, &chain, SIZE_MAX, 0, &done), -EIO);
	assert_int_equal(gm_log_count(log_, 8 * PAGE, 2 * PAGE), 2);
	assert_int_equal(gm_log_count(log_, 20 * PAGE, 8 * PAGE), 8);
	assert_int_equal(gm_log_count(log_, 0, 0), 10);
	gm_log_reset(log_, 0, LEN);
	/* A system call that fails: the write end of a pipe is read. The end of a stream is no failure. */
	assert_int_equal(pipe(pipes), 0);
	assert_ok(gm_stream_init_fd(&stream, pipes[1], &err));
	assert_int_equal(gm_stream_read(&stream, reader, 2 * PAGE, 3 * PAGE, 0, &done), -EBADF);
	assert_taken(log_, 2, 3);
	assert_ok(gm_stream_init_fd(&stream, pipes[0], &err));
	close(pipes[1]);
	assert_int_equal(gm_stream_read(&stream, reader, 2 * PAGE, 3 * PAGE, 0, &done), 0);
	assert_int_equal(done, 0);
	assert_clean(log_);
	close(pipes[0]);
	stop_log();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes_are_logged_whoever_provides_the_memory),
		cmocka_unit_test(test_what_a_backend_took_before_it_failed_is_logged),
		cmocka_unit_test(test_memory_of_devices_is_logged_and_registers_are_not),
		cmocka_unit_test(test_all_of_a_slice_is_marked_when_a_stream_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
