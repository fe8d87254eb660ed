/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log.c - dirty logs: every way to write marks the pages that it wrote and no other, for any page size,
 * under every name, in every log; what is taken is marked again by the next write; and the rest of a log's life.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/log.h>
#include <guestmem/stream.h>
#include <guestmem/txn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "one_log.h"
#include "random.h"

/* ---- every way to write ---- */

/* Each writes some of [gpa, gpa + len) and returns the bytes that it wrote from gpa on. */
typedef uint64_t writer(const struct gm_view *view, uint64_t gpa, uint64_t len);

static uint64_t by_write(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	static uint8_t bytes[LEN];

	assert_int_equal(gm_write(view, gpa, bytes, len, NULL), 0);
	return len;
}

static uint64_t by_fill(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	assert_int_equal(gm_fill(view, gpa, 3, len, NULL), 0);
	return len;
}

static uint64_t by_copy(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	assert_int_equal(gm_copy(view, gpa, 30 * PAGE + 5, len, NULL), 0);
	return len;
}

static uint64_t by_copy_down(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	if (len < 2)
		return by_copy(view, gpa, len);
	assert_int_equal(gm_copy(view, gpa, gpa - 1, len, NULL), 0);
	return len;
}

static uint64_t by_pin(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	struct iovec slice;
	struct gm_pin pin = {0};

	assert_int_equal(gm_pin_slice(view, gpa, len, GM_PERM_RW, &slice, &pin), 0);
	memset(slice.iov_base, 1, slice.iov_len);
	gm_pin_put(&pin);
	return slice.iov_len;
}

static uint64_t by_typed(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	(void)len;
	assert_int_equal(gm_write_le64(view, gpa, 1), 0);
	return 8;
}

static uint64_t by_byte(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	(void)len;
	assert_int_equal(gm_write_u8(view, gpa, 1), 0);
	return 1;
}

static uint64_t by_store(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	gpa &= ~UINT64_C(7);
	(void)len;
	assert_int_equal(gm_atomic_store_u64(view, gpa, __ATOMIC_SEQ_CST, 1), 0);
	return 1;
}

static uint64_t by_rmw(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	(void)len;
	assert_int_equal(gm_atomic_fetch_add_u8(view, gpa, __ATOMIC_SEQ_CST, 1, NULL), 0);
	return 1;
}

static uint64_t by_cmpxchg(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	uint8_t seen;

	(void)len;
	assert_int_equal(gm_read_u8(view, gpa, &seen), 0);
	assert_int_equal(gm_atomic_cmpxchg_u8(view, gpa, __ATOMIC_SEQ_CST, &seen, 77), 1);
	return 1;
}

static uint64_t by_hand(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	gm_view_mark(view, gpa, len);
	return len;
}

static const struct {
	const char *name;
	writer *write;
} writers[] = {
	{"write", by_write},
	{"fill", by_fill},
	{"copy", by_copy},
	{"copy down", by_copy_down},
	{"pin", by_pin},
	{"typed", by_typed},
	{"byte", by_byte},
	{"store", by_store},
	{"rmw", by_rmw},
	{"cmpxchg", by_cmpxchg},
	{"hand", by_hand},
};

#define NR_WRITERS (sizeof(writers) / sizeof(writers[0]))

static void test_every_way_to_write_marks_what_it_wrote(void **state)
{
	struct rng rng = {test_seed(3)};

	(void)state;
	start_log();
	for (unsigned long n = 0; n < support_scale(3000); n++) {
		size_t w = rng_below(&rng, NR_WRITERS);
		uint64_t len = 1 + rng_below(&rng, rng_below(&rng, 2) ? 16 : 5 * PAGE);
		uint64_t gpa = 1 + rng_below(&rng, 20 * PAGE);
		uint64_t first;
		uint64_t done;

		if (rng_below(&rng, 3) == 0)
			gpa = gpa / PAGE * PAGE + rng_below(&rng, 9) + PAGE - 4;
		done = writers[w].write(gm_reader_enter(reader), gpa, len);
		gm_reader_leave(reader);
		first = gpa / PAGE;
		/* Twice, so that it must be marked again after it was taken. */
		assert_taken(log_, first, (gpa + done - 1) / PAGE - first + 1);
		done = writers[w].write(gm_reader_enter(reader), gpa, len);
		gm_reader_leave(reader);
		assert_taken(log_, first, (gpa + done - 1) / PAGE - first + 1);
	}
	stop_log();
}

static void test_reading_and_failing_mark_nothing(void **state)
{
	const struct gm_view *view;
	struct iovec slice;
	struct gm_pin pin;
	uint8_t bytes[64] = {0};
	uint8_t not_there = 200;
	size_t done;

	(void)state;
	start_log();
	view = gm_reader_enter(reader);
	assert_int_equal(gm_read(view, 0, bytes, 64, NULL), 0);
	assert_int_equal(gm_write(view, 0, bytes, 0, NULL), 0);
	assert_int_equal(gm_write(view, GIB(1), bytes, 64, NULL), -EFAULT);
	assert_int_equal(gm_atomic_cmpxchg_u8(view, 5, __ATOMIC_SEQ_CST, &not_there, 1), 0);
	assert_int_equal(gm_pin_slice(view, 0, 64, GM_PERM_R, &slice, &pin), 0);
	gm_pin_put(&pin);
	assert_clean(log_);
	/* Up to the end of the region and no further. */
	assert_int_equal(gm_write(view, LEN - 10, bytes, 64, &done), -EFAULT);
	assert_int_equal(done, 10);
	assert_taken(log_, LEN / PAGE - 1, 1);
	/* A pin marks when it is handed out, and as much as is said when it is given back. */
	assert_int_equal(gm_pin_slice(view, PAGE, 3 * PAGE, GM_PERM_RW, &slice, &pin), 0);
	assert_taken(log_, 1, 3);
	gm_pin_put_written(&pin, PAGE + 1);
	assert_taken(log_, 1, 2);
	assert_int_equal(gm_pin_slice(view, PAGE, 3 * PAGE, GM_PERM_W, &slice, &pin), 0);
	assert_taken(log_, 1, 3);
	gm_pin_put_written(&pin, 0);
	assert_clean(log_);
	gm_reader_leave(reader);
	stop_log();
}

/* Exactly what came, although room for more was offered. */
static void test_streams_mark_what_was_read(void **state)
{
	static uint8_t source[3 * PAGE];
	struct gm_stream stream;
	struct gm_chain_elem elems[] = {
		{.gpa = 8 * PAGE + 100, .len = PAGE, .flags = GM_CHAIN_WRITE},
		{.gpa = 20 * PAGE, .len = 8 * PAGE, .flags = GM_CHAIN_WRITE},
	};
	struct gm_chain chain;
	size_t done = 0;
	int pipes[2];

	(void)state;
	start_log();
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], source, PAGE + 1), PAGE + 1);
	assert_ok(gm_stream_init_fd(&stream, pipes[0], &err));
	assert_int_equal(gm_stream_read(&stream, reader, 2 * PAGE, 10 * PAGE, 0, &done), 0);
	assert_int_equal(done, PAGE + 1);
	assert_taken(log_, 2, 2);
	/* One that fails has read nothing; a chain marks what came to each of its ranges. */
	assert_int_equal(write(pipes[1], source, PAGE + 1), PAGE + 1);
	assert_ok(gm_chain_init(&chain, elems, 2, NULL, &err));
	assert_int_equal(gm_stream_read_chain(&stream, reader, &chain, SIZE_MAX, 0, &done), 0);
	assert_int_equal(done, PAGE + 1);
	assert_int_equal(gm_log_count(log_, 8 * PAGE, 2 * PAGE), 2);
	assert_int_equal(gm_log_count(log_, 20 * PAGE, 8 * PAGE), 1);
	assert_int_equal(gm_log_count(log_, 0, 0), 3);
	gm_log_reset(log_, 0, LEN);
	/* To a stream nothing is written. */
	assert_int_equal(gm_stream_write(&stream, reader, 2 * PAGE, 8, 0, &done), -EBADF);
	assert_clean(log_);
	gm_stream_fini(&stream);
	close(pipes[0]);
	close(pipes[1]);
	stop_log();
}

/* ---- page sizes and ranges ---- */

static void test_logs_of_any_page_size_and_range(void **state)
{
	static const uint64_t sizes[] = {100, 1000, 512, 4096, 5000, 8192, 12288, 1 << 21};
	static const struct {
		uint64_t first;
		uint64_t len;
	} ranges[] = {{0, LEN}, {LEN / 2, 0}, {PAGE, 5 * PAGE}, {100, 10000}, {LEN - 1, 1}};
	struct gm_log *logs[40];
	struct rng rng = {test_seed(4)};
	size_t nr = 0;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	for (size_t i = 0; i < 8; i++) {
		for (size_t j = 0; j < 5; j++)
			logs[nr++] = make_log(LOG(.first = ranges[j].first, .len = ranges[j].len,
				.page_size = sizes[i]));
	}
	for (unsigned long n = 0; n < support_scale(300); n++) {
		uint64_t gpa = rng_below(&rng, LEN - 20000);
		uint64_t len = 1 + rng_below(&rng, rng_below(&rng, 2) ? 16 : 20000);
		size_t w = rng_below(&rng, 2); /* write or fill */

		/* Some twice: the second time all is marked already, but in the logs that are reset. */
		writers[w].write(gm_reader_enter(reader), gpa, len);
		gm_reader_leave(reader);
		for (size_t i = 0; i < nr; i++) {
			uint64_t size = sizes[i / 5];
			uint64_t from = ranges[i % 5].first;
			uint64_t last =
				ranges[i % 5].len ? from + ranges[i % 5].len - 1 : GIB(1) - 1;
			uint64_t a = gpa > from ? gpa : from;
			uint64_t b = gpa + len - 1 < last ? gpa + len - 1 : last;
			uint64_t first;
			uint64_t end;

			if (i % 3 == n % 3)
				continue;
			if (a > b) {
				assert_int_equal(gm_log_next(logs[i], 0, &first, &end), -ENOENT);
				continue;
			}
			assert_int_equal(gm_log_next(logs[i], 0, &first, &end), 0);
			assert_int_equal(first, from + (a - from) / size * size);
			if (end != last)
				assert_int_equal(end, from + ((b - from) / size + 1) * size - 1);
			assert_true(end >= b);
			assert_int_equal(gm_log_count(logs[i], 0, 0),
				(b - from) / size - (a - from) / size + 1);
		}
		for (size_t i = 0; i < nr; i++)
			gm_log_reset(logs[i], 0, GIB(2));
	}
	for (size_t i = 0; i < nr; i++)
		assert_ok(gm_log_destroy(logs[i], &err));
	stop();
}

static void test_what_lies_outside_is_counted(void **state)
{
	struct gm_log_info info = {.size = sizeof(info)};

	(void)state;
	start(NULL);
	add(0, LEN);
	log_ = make_log(LOG(.first = PAGE, .len = PAGE, .name = "narrow"));
	by_write(gm_reader_enter(reader), PAGE, PAGE);
	assert_int_equal(gm_log_info(log_, &info), 0);
	assert_int_equal(info.outside, 0);
	by_write(gm_reader_enter(reader), PAGE - 1, 2);
	by_write(gm_reader_enter(reader), 0, 1);
	assert_int_equal(gm_log_info(log_, &info), 0);
	assert_true(info.outside > 0);
	assert_int_equal(info.first, PAGE);
	assert_int_equal(info.last, 2 * PAGE - 1);
	assert_int_equal(info.pages, 1);
	assert_int_equal(info.ready, 1);
	assert_string_equal(info.name, "narrow");
	for (int i = 0; i < 3; i++)
		gm_reader_leave(reader);
	stop_log();
}

/* ---- several logs ---- */

static void test_logs_do_not_disturb_each_other(void **state)
{
	struct gm_log *other;

	(void)state;
	start_log();
	by_write(gm_reader_enter(reader), 0, 1);
	gm_reader_leave(reader);
	/* It comes later, and a page that the first has is marked in it all the same. */
	other = make_log(NULL);
	assert_clean(other);
	by_write(gm_reader_enter(reader), 0, 1);
	by_typed(gm_reader_enter(reader), 5 * PAGE, 8);
	gm_reader_leave(reader);
	gm_reader_leave(reader);
	assert_int_equal(gm_log_count(other, 0, 0), 2);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	gm_log_reset(other, 0, LEN);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	by_typed(gm_reader_enter(reader), 5 * PAGE, 8);
	gm_reader_leave(reader);
	assert_taken(other, 5, 1);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	assert_ok(gm_log_destroy(other, &err));
	/* The one that is left goes on. */
	gm_log_reset(log_, 0, LEN);
	by_typed(gm_reader_enter(reader), 6 * PAGE, 8);
	gm_reader_leave(reader);
	assert_taken(log_, 6, 1);
	stop_log();
}

/* ---- names ---- */

static void test_every_name_of_memory_is_marked(void **state)
{
	struct gm_block *block;
	uint64_t ids[2];
	uint64_t alias;

	(void)state;
	start(NULL);
	assert_ok(gm_block_create(BLOCK(.len = 8 * PAGE, .flags = GM_BLOCK_SHARE), &block, &err));
	assert_ok(gm_space_add(space, DESC(.gpa = 0, .block = block), &ids[0], &err));
	log_ = make_log(NULL);
	/* Names that come while the log is there, of pages that are marked already and not. */
	by_write(gm_reader_enter(reader), 0, 8 * PAGE);
	gm_reader_leave(reader);
	assert_ok(gm_space_add(space, DESC(.gpa = 16 * PAGE, .block = block, .block_off = 2 * PAGE),
		&ids[1], &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = 32 * PAGE, .kind = GM_REGION_ALIAS, .target = ids[0],
			.block_off = 3 * PAGE, .len = 2 * PAGE),
		&alias, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	/* What is new somewhere is new to the log. */
	assert_int_equal(gm_log_count(log_, 16 * PAGE, 6 * PAGE), 6);
	assert_int_equal(gm_log_count(log_, 32 * PAGE, 2 * PAGE), 2);
	for (int n = 0; n < 3; n++) {
		gm_log_reset(log_, 0, LEN);
		by_typed(gm_reader_enter(reader),
			n == 0   ? 4 * PAGE
			: n == 1 ? 18 * PAGE
				 : 33 * PAGE,
			8);
		gm_reader_leave(reader);
		assert_int_equal(gm_log_count(log_, 0, 0), 3);
		assert_int_equal(gm_log_count(log_, 4 * PAGE, 1), 1);
		assert_int_equal(gm_log_count(log_, 18 * PAGE, 1), 1);
		assert_int_equal(gm_log_count(log_, 33 * PAGE, 1), 1);
		/* One name is taken alone, and marked again. */
		gm_log_reset(log_, 18 * PAGE, PAGE);
		by_byte(gm_reader_enter(reader), 4 * PAGE + 5, 1);
		gm_reader_leave(reader);
		assert_int_equal(gm_log_count(log_, 18 * PAGE, 1), 1);
	}
	/* A page that has one name. */
	gm_log_reset(log_, 0, LEN);
	by_byte(gm_reader_enter(reader), 5, 1);
	gm_reader_leave(reader);
	assert_int_equal(gm_log_count(log_, 0, 0), 1);
	/* Across both sorts. */
	gm_log_reset(log_, 0, LEN);
	by_write(gm_reader_enter(reader), PAGE, 4 * PAGE);
	gm_reader_leave(reader);
	assert_int_equal(gm_log_count(log_, 0, 0), 4 + 3 + 2);
	gm_block_put(block);
	stop_log();
}

static void test_a_change_of_the_map_marks_what_is_new(void **state)
{
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start_log();
	assert_ok(gm_space_add(
		space, DESC(.gpa = MIB(1), .backing = BLOCK(.len = 2 * PAGE)), &id, &err));
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	assert_int_equal(gm_log_count(log_, MIB(1), 2 * PAGE), 2);
	gm_log_reset(log_, 0, GIB(1));
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_move(txn, id, MIB(2), &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(gm_log_count(log_, MIB(2), 2 * PAGE), 2);
	assert_int_equal(gm_log_count(log_, 0, LEN), 0);
	stop_log();
}

/* ---- IOVA ---- */

static void test_writes_through_an_iommu_are_in_both_logs(void **state)
{
	struct gm_space *iova;
	struct gm_iommu *iommu;
	struct gm_reader *device;
	struct gm_space *above;
	struct gm_log *by_iova;
	const struct gm_view *view;
	struct iovec slice;
	struct gm_pin pin;

	(void)state;
	start_log();
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .over = space, .gpa_limit = GM_SPACE_NO_WINDOW), &iova,
		&err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_iommu_map(iommu, GIB(9), 4 * PAGE, 7 * PAGE, GM_PERM_RW, &err));
	assert_ok(gm_reader_create(iova, "device", &device, &err));
	assert_ok(gm_log_create(iova, LOG(.first = GIB(9), .len = LEN), &by_iova, &err));
	view = gm_reader_enter(device);
	for (size_t w = 0; w < NR_WRITERS; w++) {
		if (writers[w].write == by_copy || writers[w].write == by_hand)
			continue;
		writers[w].write(view, GIB(9) + PAGE + 8, 8);
		assert_taken(by_iova, 1, 1);
		assert_taken(log_, 8, 1);
	}
	assert_int_equal(gm_pin_slice(view, GIB(9), 2 * PAGE, GM_PERM_W, &slice, &pin), 0);
	gm_reader_leave(device);
	gm_log_reset(by_iova, 0, GIB(10));
	gm_log_reset(log_, 0, LEN);
	gm_pin_put_written(&pin, PAGE + 1);
	assert_taken(by_iova, 0, 2);
	assert_taken(log_, 7, 2);
	/* What is written through one above would not be in the log between: whichever comes last is refused. */
	assert_fails(gm_space_create(GM_OPTS(gm_space_opts, .over = iova), &above, &err), ENOTSUP,
		"an IOMMU and logs");
	assert_ok(gm_log_destroy(by_iova, &err));
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .over = iova), &above, &err));
	assert_fails(gm_log_create(iova, NULL, &by_iova, &err), ENOTSUP, "above or below");
	gm_space_destroy(above);
	gm_reader_destroy(device);
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	stop_log();
}

/* ---- the consumer's storage ---- */

static int released;

static void on_release(void *ctx)
{
	++*(int *)ctx;
}

static void test_bits_in_the_consumers_storage(void **state)
{
	uint8_t bits[3] = {0};
	struct gm_log_info info = {.size = sizeof(info)};
	uint64_t words[4];

	(void)state;
	released = 0;
	start(NULL);
	add(0, LEN);
	log_ = make_log(LOG(.storage = bits, .storage_len = sizeof(bits) - 1, .release = on_release,
		.ctx = &released));
	by_write(gm_reader_enter(reader), 3 * PAGE, 7 * PAGE);
	assert_int_equal(bits[0], 0xf8);
	assert_int_equal(bits[1], 0x03);
	/* The peer takes them; what comes next is marked again. */
	__atomic_store_n(&bits[0], 0, __ATOMIC_SEQ_CST);
	by_byte(gm_reader_enter(reader), 3 * PAGE, 1);
	assert_int_equal(bits[0], 0x08);
	/* It has 16 pages; nothing behind them is touched. */
	by_write(gm_reader_enter(reader), 15 * PAGE, 4 * PAGE);
	assert_int_equal(bits[1], 0x83);
	assert_int_equal(bits[2], 0);
	assert_int_equal(gm_log_info(log_, &info), 0);
	assert_int_equal(info.pages, 16);
	assert_int_equal(info.outside, 1);
	assert_int_equal(gm_log_take(log_, 0, 16, words, NULL), -ENOTSUP);
	for (int i = 0; i < 3; i++)
		gm_reader_leave(reader);
	assert_int_equal(released, 0);
	assert_ok(gm_log_destroy(log_, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(released, 1);
	stop();
}

static void test_storage_that_a_peer_takes_away_is_survived(void **state)
{
	int fd = memfd_create("log", 0);
	struct gm_log_info info = {.size = sizeof(info)};
	void *bits;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)PAGE), 0);
	bits = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(bits != MAP_FAILED);
	assert_int_equal(gm_guard_install(), 0);
	start(NULL);
	add(0, LEN);
	log_ = make_log(LOG(.storage = bits, .storage_len = PAGE));
	assert_int_equal(ftruncate(fd, 0), 0);
	by_write(gm_reader_enter(reader), 0, 3 * PAGE);
	gm_reader_leave(reader);
	assert_int_equal(gm_log_info(log_, &info), 0);
	assert_int_equal(info.faults, 1);
	stop_log();
	gm_guard_remove();
	munmap(bits, PAGE);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_way_to_write_marks_what_it_wrote),
		cmocka_unit_test(test_reading_and_failing_mark_nothing),
		cmocka_unit_test(test_streams_mark_what_was_read),
		cmocka_unit_test(test_logs_of_any_page_size_and_range),
		cmocka_unit_test(test_what_lies_outside_is_counted),
		cmocka_unit_test(test_logs_do_not_disturb_each_other),
		cmocka_unit_test(test_every_name_of_memory_is_marked),
		cmocka_unit_test(test_a_change_of_the_map_marks_what_is_new),
		cmocka_unit_test(test_writes_through_an_iommu_are_in_both_logs),
		cmocka_unit_test(test_bits_in_the_consumers_storage),
		cmocka_unit_test(test_storage_that_a_peer_takes_away_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
