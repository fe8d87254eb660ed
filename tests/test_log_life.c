/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log_life.c - a log by itself: taken, put back, merged, timed; how it begins and ends, and what can
 * fail of that.
 */
#include <errno.h>
#include <guestmem/txn.h>
#include <unistd.h>

#include "fault.h"
#include "held_slice.h"
#include "one_log.h"
#include "random.h"

/* ---- a log by itself ---- */

static void test_taking_putting_back_and_merging(void **state)
{
	uint64_t kvm[2] = {UINT64_C(1) << 63, 1};
	uint64_t words[3] = {9, 9, 9};
	uint64_t count = 99;
	uint64_t first;
	uint64_t last;

	(void)state;
	start(NULL);
	add(0, LEN);
	log_ = make_log(LOG(.len = 100 * PAGE));
	gm_log_mark(log_, 63 * PAGE, 2 * PAGE);
	gm_log_mark(log_, 99 * PAGE + 4095, 1);
	assert_int_equal(gm_log_take(log_, 1, 64, words, NULL), -EINVAL);
	assert_int_equal(gm_log_take(log_, 0, 0, words, NULL), -EINVAL);
	assert_int_equal(gm_log_take(log_, 128, 64, words, NULL), -ERANGE);
	/* More than it has: what is behind is zero. */
	assert_int_equal(gm_log_take(log_, 64, 128, words, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(words[0], 1 | UINT64_C(1) << 35);
	assert_int_equal(words[1], 0);
	assert_int_equal(words[2], 9);
	assert_int_equal(gm_log_count(log_, 0, 0), 1);
	assert_int_equal(gm_log_put_back(log_, 64, 128, words), 0);
	assert_int_equal(gm_log_count(log_, 0, 0), 3);
	assert_int_equal(gm_log_next(log_, 0, &first, &last), 0);
	assert_int_equal(first, 63 * PAGE);
	assert_int_equal(last, 65 * PAGE - 1);
	assert_int_equal(gm_log_next(log_, last + 1, &first, &last), 0);
	assert_int_equal(first, 99 * PAGE);
	assert_int_equal(last, 100 * PAGE - 1);
	assert_int_equal(gm_log_next(log_, last + 1, &first, &last), -ENOENT);
	/* Part of a word: the other bits stay. */
	assert_int_equal(gm_log_take(log_, 64, 3, words, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	gm_log_reset(log_, 0, LEN * 2);
	assert_clean(log_);
	/* Another's pages are larger, or smaller. */
	assert_int_equal(gm_log_merge(log_, 0, 2 * PAGE, 0, kvm), -EINVAL);
	assert_int_equal(gm_log_merge(log_, 0, 0, 8, kvm), -EINVAL);
	assert_int_equal(gm_log_merge(log_, UINT64_MAX - PAGE, PAGE, 8, kvm), -ERANGE);
	assert_int_equal(gm_log_merge(log_, 2 * PAGE, 512, 65, kvm), 0);
	assert_int_equal(gm_log_next(log_, 0, &first, &last), 0);
	assert_int_equal(first, 9 * PAGE);
	assert_int_equal(last, 11 * PAGE - 1);
	/* Pages that a range holds in part stay. */
	gm_log_mark(log_, 8 * PAGE, 4 * PAGE);
	gm_log_reset(log_, 8 * PAGE + 1, 3 * PAGE - 2);
	assert_int_equal(gm_log_count(log_, 8 * PAGE, 1), 1);
	assert_int_equal(gm_log_count(log_, 9 * PAGE, 1), 0);
	assert_int_equal(gm_log_count(log_, 10 * PAGE, 1), 1);
	stop_log();
	/* One that begins full. */
	start(NULL);
	log_ = make_log(LOG(.len = 70 * PAGE, .flags = GM_LOG_ALL));
	assert_int_equal(gm_log_count(log_, 0, 0), 70);
	stop_log();
}

/* As taking, and nothing changes. */
static void test_a_copy_of_the_bits_takes_nothing(void **state)
{
	uint64_t words[3] = {9, 9, 9};
	uint64_t count = 99;
	uint8_t bits[8] = {0};
	struct gm_log *log;

	(void)state;
	start(NULL);
	add(0, LEN);
	log_ = make_log(LOG(.len = 100 * PAGE));
	gm_log_mark(log_, 63 * PAGE, 2 * PAGE);
	gm_log_mark(log_, 99 * PAGE, 1);
	for (int n = 0; n < 2; n++) {
		assert_int_equal(gm_log_copy(log_, 64, 128, words, &count), 0);
		assert_int_equal(count, 2);
		assert_int_equal(words[0], 1 | UINT64_C(1) << 35);
		assert_int_equal(words[1], 0);
		assert_int_equal(words[2], 9);
		assert_int_equal(gm_log_copy(log_, 64, 35, words, NULL), 0);
		assert_int_equal(words[0], 1);
		assert_int_equal(gm_log_count(log_, 0, 0), 3);
	}
	assert_int_equal(gm_log_copy(log_, 1, 64, words, NULL), -EINVAL);
	assert_int_equal(gm_log_copy(log_, 0, 0, words, NULL), -EINVAL);
	assert_int_equal(gm_log_copy(log_, 128, 64, words, NULL), -ERANGE);
	/* It is there to be written again, and the log to be marked. */
	gm_log_reset(log_, 0, LEN * 2);
	write_some(63 * PAGE, 1);
	assert_int_equal(gm_log_copy(log_, 0, 64, words, NULL), 0);
	assert_int_equal(words[0], UINT64_C(1) << 63);
	write_some(63 * PAGE, 1);
	assert_taken(log_, 63, 1);
	log = make_log(LOG(.storage = bits, .storage_len = 8));
	assert_int_equal(gm_log_copy(log, 0, 64, words, NULL), -ENOTSUP);
	assert_ok(gm_log_destroy(log, &err));
	stop_log();
}

/* ---- bitmaps of others ---- */

/* What is marked of a log, page by page. */
static void assert_pages(struct gm_log *log, uint64_t first, uint64_t size, uint64_t nr,
	bool (*want)(uint64_t first, uint64_t last))
{
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t at = first + i * size;

		if (gm_log_count(log, at, 1) != want(at, at + size - 1))
			fail_msg("page %llu of %llu bytes at 0x%llx", (unsigned long long)i,
				(unsigned long long)size, (unsigned long long)first);
	}
}

static struct {
	uint64_t gpa;
	uint64_t size;
	uint64_t nr;
	uint64_t words[4];
} foreign;

/* Is a bit set that stands for one of these bytes? */
static bool foreign_has(uint64_t first, uint64_t last)
{
	for (uint64_t i = 0; i < foreign.nr; i++) {
		uint64_t from = foreign.gpa + i * foreign.size;

		if ((foreign.words[i / 64] >> (i % 64) & 1) && from <= last &&
			from + foreign.size - 1 >= first)
			return true;
	}
	return false;
}

/* KVM's of a slot: pages of the host from the slot's base on, which is no multiple of 64 of them. */
static void test_bitmaps_of_any_shape_are_merged(void **state)
{
	static const uint64_t sizes[] = {4096, 4096, 4096, 512, 5000, 8192, 65536};
	struct rng rng = {test_seed(12)};
	uint8_t bytes[40];

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	for (unsigned long n = 0; n < support_scale(300); n++) {
		uint64_t size = sizes[rng_below(&rng, 7)];
		uint64_t first =
			rng_below(&rng, 3) ? rng_below(&rng, 90) * 4096 : rng_below(&rng, LEN);
		uint64_t nr = 1 + rng_below(&rng, 300);
		bool stored = n % 5 == 0;
		struct gm_log *log;

		foreign.size = sizes[rng_below(&rng, 7)];
		foreign.nr = 1 + rng_below(&rng, 200);
		foreign.gpa =
			rng_below(&rng, 3) ? rng_below(&rng, 90) * 4096 : rng_below(&rng, LEN);
		/* Bits behind its end are nobody's. */
		for (int i = 0; i < 4; i++)
			foreign.words[i] = rng_next(&rng) & (n % 2 ? rng_next(&rng) : UINT64_MAX);
		memset(bytes, 0, sizeof(bytes));
		log = make_log(LOG(.first = first, .len = nr * size, .page_size = size,
			.storage = stored ? bytes : NULL, .storage_len = stored ? 38 : 0));
		assert_int_equal(
			gm_log_merge(log, foreign.gpa, foreign.size, foreign.nr, foreign.words), 0);
		if (!stored)
			assert_pages(log, first, size, nr, foreign_has);
		for (uint64_t i = 0; stored && i < nr; i++)
			assert_int_equal(bytes[i / 8] >> (i % 8) & 1,
				foreign_has(first + i * size, first + (i + 1) * size - 1));
		assert_true(bytes[38] == 0 && bytes[39] == 0);
		assert_ok(gm_log_destroy(log, &err));
	}
	stop();
}

/* KVM clears what it tells, so it is told to all logs, under all names. */
static void test_a_view_is_told_a_bitmap_in_all_logs(void **state)
{
	uint64_t words[2] = {UINT64_C(1) << 62, 1};
	struct gm_log *other;
	uint64_t shared;

	(void)state;
	start_log();
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(1), .backing = BLOCK(.len = 128 * PAGE, .flags = GM_BLOCK_SHARE)),
		&shared, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(2), .kind = GM_REGION_ALIAS, .target = shared, .len = 128 * PAGE),
		NULL, &err));
	other = make_log(LOG(.first = MIB(1), .page_size = 8192));
	assert_ok(gm_space_wait(space, 0, &err));
	gm_log_reset(log_, 0, GIB(1));
	assert_int_equal(gm_view_merge(gm_reader_enter(reader), MIB(1), PAGE, 65, words), 0);
	assert_int_equal(gm_log_count(log_, 0, 0), 4);
	for (uint64_t at = MIB(1); at <= MIB(2); at += MIB(1)) {
		assert_int_equal(gm_log_count(log_, at + 62 * PAGE, PAGE), 1);
		assert_int_equal(gm_log_count(log_, at + 64 * PAGE, PAGE), 1);
		assert_int_equal(gm_log_count(other, at + 62 * PAGE, PAGE), 1);
		assert_int_equal(gm_log_count(other, at + 64 * PAGE, PAGE), 1);
	}
	assert_int_equal(gm_log_count(other, 0, 0), 4);
	assert_int_equal(gm_view_merge(gm_reader_enter(reader), 0, 0, 65, words), -EINVAL);
	assert_int_equal(gm_view_merge(gm_reader_enter(reader), 0, PAGE, 0, words), -EINVAL);
	assert_int_equal(
		gm_view_merge(gm_reader_enter(reader), UINT64_MAX, PAGE, 1, words), -ERANGE);
	for (int i = 0; i < 4; i++)
		gm_reader_leave(reader);
	assert_ok(gm_log_destroy(other, &err));
	stop_log();
}

/* ---- ends ---- */

static void test_outside_of_a_log_nothing_is_marked_or_found(void **state)
{
	uint64_t first = 1;
	uint64_t last = 1;

	(void)state;
	start(NULL);
	add(0, LEN);
	log_ = make_log(LOG(.first = 2 * PAGE, .len = 3 * PAGE));
	gm_log_mark(log_, 0, 2 * PAGE);
	gm_log_mark(log_, 5 * PAGE, GIB(1));
	gm_log_mark(log_, UINT64_MAX, 1);
	gm_log_mark(log_, UINT64_MAX, UINT64_MAX);
	gm_log_mark(log_, 3 * PAGE, 0);
	assert_clean(log_);
	assert_int_equal(gm_log_next(log_, 0, &first, &last), -ENOENT);
	/* What is inside of a range that is not is. */
	gm_log_mark(log_, PAGE, PAGE + 1);
	gm_log_mark(log_, 5 * PAGE - 1, UINT64_MAX);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	assert_int_equal(gm_log_count(log_, 0, 2 * PAGE), 0);
	assert_int_equal(gm_log_count(log_, 0, 2 * PAGE + 1), 1);
	assert_int_equal(gm_log_count(log_, 5 * PAGE, 0), 0);
	assert_int_equal(gm_log_count(log_, 5 * PAGE, 1), 0);
	assert_int_equal(gm_log_count(log_, UINT64_MAX, UINT64_MAX), 0);
	assert_int_equal(gm_log_next(log_, 5 * PAGE, &first, &last), -ENOENT);
	assert_int_equal(gm_log_next(log_, UINT64_MAX, &first, &last), -ENOENT);
	gm_log_reset(log_, 0, 3 * PAGE - 1);
	gm_log_reset(log_, 5 * PAGE, UINT64_MAX);
	gm_log_reset(log_, 4 * PAGE, 0);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	gm_log_reset(log_, 0, UINT64_MAX);
	assert_clean(log_);
	stop_log();
}

static void test_a_log_may_end_with_the_last_address(void **state)
{
	static const uint64_t sizes[] = {4096, 5000, 1, UINT64_C(1) << 63};
	uint64_t top = UINT64_MAX - 3 * PAGE + 1;
	uint64_t word = UINT64_MAX;
	uint64_t first;
	uint64_t last;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct gm_log_info info = {.size = sizeof(info)};
		uint64_t nr = (3 * PAGE + sizes[i] - 1) / sizes[i];

		start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
		add(top, 3 * PAGE);
		log_ = make_log(LOG(.first = top, .page_size = sizes[i]));
		assert_int_equal(gm_log_info(log_, &info), 0);
		assert_int_equal(info.last, UINT64_MAX);
		assert_int_equal(info.pages, nr);
		write_some(UINT64_MAX, 1);
		assert_int_equal(gm_log_next(log_, 0, &first, &last), 0);
		assert_int_equal(last, UINT64_MAX);
		assert_int_equal(first, top + (nr - 1) * sizes[i]);
		assert_int_equal(gm_log_count(log_, UINT64_MAX, 1), 1);
		gm_log_reset(log_, first, UINT64_MAX);
		assert_clean(log_);
		/* Whoever says more than there is. */
		gm_log_mark(log_, UINT64_MAX - 5, 100);
		gm_view_mark(gm_reader_enter(reader), UINT64_MAX, UINT64_MAX);
		gm_reader_leave(reader);
		assert_int_equal(gm_log_count(log_, UINT64_MAX, 0), 1);
		assert_int_equal(gm_log_take(log_, (nr - 1) / 64 * 64, 64, &word, NULL), 0);
		assert_int_equal(word >> ((nr - 1) % 64), 1);
		assert_int_equal(gm_log_merge(log_, UINT64_MAX - 9, 10, 1, &word), 0);
		stop_log();
	}
}

/* ---- memory that comes later ---- */

static void test_memory_that_comes_later_is_logged(void **state)
{
	uint8_t bits[8] = {0};
	struct gm_log *stored;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	/* Wider than the window, while there is nothing. */
	log_ = make_log(LOG(.len = GIB(8)));
	stored = make_log(LOG(.storage = bits, .storage_len = sizeof(bits)));
	add(0, 8 * PAGE);
	add(GIB(4), 8 * PAGE);
	gm_log_reset(log_, 0, GIB(8));
	memset(bits, 0, sizeof(bits));
	write_some(3 * PAGE, PAGE + 1);
	write_some(GIB(4) + PAGE, 1);
	assert_int_equal(gm_log_count(log_, 3 * PAGE, 2 * PAGE), 2);
	assert_int_equal(gm_log_count(log_, GIB(4) + PAGE, PAGE), 1);
	assert_int_equal(gm_log_count(log_, 0, 0), 3);
	assert_int_equal(bits[0], 0x18);
	assert_ok(gm_log_destroy(stored, &err));
	stop_log();
}

/* A wider one is there before the narrow one goes: what was written between is in one of them. */
static void test_a_wider_log_takes_over(void **state)
{
	struct gm_log *wide;
	uint64_t word;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, 2 * LEN);
	log_ = make_log(LOG(.len = LEN));
	write_some(5 * PAGE, 1);
	wide = make_log(LOG(.len = 2 * LEN));
	write_some(6 * PAGE, 1);
	assert_int_equal(gm_log_take(log_, 0, 64, &word, NULL), 0);
	assert_int_equal(gm_log_merge(wide, 0, PAGE, 64, &word), 0);
	assert_ok(gm_log_destroy(log_, &err));
	log_ = wide;
	write_some(LEN + 7 * PAGE, 1);
	assert_int_equal(gm_log_count(log_, 5 * PAGE, 2 * PAGE), 2);
	assert_int_equal(gm_log_count(log_, LEN + 7 * PAGE, 1), 1);
	assert_int_equal(gm_log_count(log_, 0, 0), 3);
	stop_log();
}

/* Where the host has other pages. */
static void test_pages_are_the_hosts_and_those_of_vhost_are_not(void **state)
{
	struct gm_log_info info = {.size = sizeof(info)};
	uint8_t bits[16] = {0};
	struct gm_log *vhost;

	(void)state;
	fault_page_size(65536);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, 4 * LEN);
	log_ = make_log(NULL);
	assert_int_equal(gm_log_info(log_, &info), 0);
	assert_int_equal(info.page_size, 65536);
	assert_int_equal(info.pages, GIB(1) / 65536);
	for (int n = 0; n < 3; n++) {
		write_some(65536 + 5, 65536);
		assert_int_equal(gm_log_count(log_, 65536, 2 * 65536), 2);
		assert_int_equal(gm_log_count(log_, 0, 0), 2);
		gm_log_reset(log_, 0, GIB(1));
	}
	vhost = make_log(LOG(.storage = bits, .storage_len = sizeof(bits)));
	assert_int_equal(gm_log_info(vhost, &info), 0);
	assert_int_equal(info.page_size, 4096);
	write_some(2 * PAGE, 1);
	assert_int_equal(bits[0], 4);
	assert_ok(gm_log_destroy(vhost, &err));
	stop_log();
	fault_page_size(0);
	start_log();
	assert_int_equal(gm_log_info(log_, &info), 0);
	assert_int_equal(info.page_size, (uint64_t)sysconf(_SC_PAGESIZE));
	stop_log();
}

static void test_the_rate_is_what_was_written(void **state)
{
	uint64_t rate;

	(void)state;
	fault_clock_virtual(true);
	start_log();
	gm_log_rate(log_);
	for (int second = 0; second < 3; second++) {
		write_some(0, 10 * PAGE);
		fault_clock_jump(UINT64_C(2000000000));
		rate = gm_log_rate(log_);
		assert_true(rate > 4 * PAGE && rate <= 5 * PAGE);
		assert_taken(log_, 0, 10);
	}
	fault_clock_jump(UINT64_C(2000000000));
	assert_int_equal(gm_log_rate(log_), 0);
	stop_log();
	fault_clock_virtual(false);
}

/* ---- life ---- */

static void test_a_reader_that_does_not_mark_yet_is_waited_for(void **state)
{
	struct gm_log_info info = {.size = sizeof(info)};
	struct gm_log *log = NULL;

	(void)state;
	start(GM_OPTS(gm_space_opts, .timeout_ns = 20000000));
	add(0, LEN);
	gm_reader_enter(reader);
	assert_fails(gm_log_create(space, NULL, &log, &err), ETIMEDOUT, "first");
	assert_null(log);
	/* Nothing is left of it. */
	assert_null(gm_reader_enter(reader)->filter);
	gm_reader_leave(reader);
	assert_ok(gm_log_create(space, LOG(.flags = GM_LOG_NOWAIT), &log, &err));
	assert_int_equal(gm_log_info(log, &info), 0);
	assert_int_equal(info.ready, 0);
	gm_reader_leave(reader);
	gm_space_reclaim(space);
	assert_int_equal(gm_log_info(log, &info), 0);
	assert_int_equal(info.ready, 1);
	write_some(0, 1);
	assert_taken(log, 0, 1);
	assert_ok(gm_log_destroy(log, &err));
	stop();
}

static void test_a_pin_outlives_log_and_space(void **state)
{
	struct iovec slice;
	struct gm_pin pin;

	(void)state;
	start_log();
	assert_int_equal(
		gm_pin_slice(gm_reader_enter(reader), 0, PAGE, GM_PERM_RW, &slice, &pin), 0);
	gm_reader_leave(reader);
	stop_log();
	memset(slice.iov_base, 1, slice.iov_len);
	gm_pin_put(&pin);
	gm_log_destroy(NULL, NULL);
}

static void test_bad_options_are_refused(void **state)
{
	struct gm_txn *txn;
	struct gm_log *log;
	uint8_t bits[8];

	(void)state;
	start(NULL);
	assert_fails(gm_log_create(space, LOG(.flags = 0x100), &log, &err), EINVAL, "flags");
	assert_fails(gm_log_create(space, LOG(.storage = bits), &log, &err), EINVAL, "length");
	assert_fails(gm_log_create(space, LOG(.storage_len = 8), &log, &err), EINVAL, "length");
	assert_fails(gm_log_create(space, LOG(.first = 2, .len = UINT64_MAX), &log, &err), ERANGE,
		"2^64");
	/* 2^64 bits have no room. */
	assert_fails(gm_log_create(
			     space, LOG(.first = 1, .len = UINT64_MAX, .page_size = 1), &log, &err),
		ENOMEM, "first and len");
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_fails(gm_log_create(space, NULL, &log, &err), EBUSY, "another change");
	gm_txn_abort(txn);
	stop();
}

/* ---- faults ---- */

static int scenario(void *ctx)
{
	struct gm_log *log = NULL;
	int rc = gm_log_create(space, NULL, &log, NULL);

	(void)ctx;
	if (!rc) {
		write_some(0, 1);
		assert_int_equal(gm_log_count(log, 0, 0), 1);
		rc = gm_log_destroy(log, NULL);
		fault_disarm();
		if (rc)
			assert_ok(gm_log_destroy(log, &err));
	}
	fault_disarm();
	assert_null(gm_reader_enter(reader)->filter);
	gm_reader_leave(reader);
	assert_ok(gm_space_wait(space, 0, &err));
	return rc;
}

static void test_every_failing_call_leaves_all_as_it_was(void **state)
{
	(void)state;
	start_log();
	/* The filter and the reader that a first log makes stay. */
	assert_ok(gm_log_destroy(log_, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	assert_true(fault_sweep(scenario, NULL) > 5);
	stop();
}

/* Without membarrier writers have the fence, and nothing is marked less. */
static void test_without_membarrier(void **state)
{
	struct held all;

	(void)state;
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_membarrier, .nth = 1, .forever = true, .error = ENOSYS});
	start_log();
	assert_true(fault_hits() > 0);
	for (int i = 0; i < 3; i++) {
		write_some(PAGE, 8);
		assert_taken(log_, 1, 1);
	}
	all = hold(reader, 0, LEN, GM_PERM_W | GM_PIN_EXACT);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(gm_slice_store(&all.slice, &all.pin, 2 * PAGE, GM_U8, 0, 1), 0);
		assert_taken(log_, 2, 1);
	}
	gm_pin_put(&all.pin);
	stop_log();
	fault_disarm();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taking_putting_back_and_merging),
		cmocka_unit_test(test_a_copy_of_the_bits_takes_nothing),
		cmocka_unit_test(test_bitmaps_of_any_shape_are_merged),
		cmocka_unit_test(test_a_view_is_told_a_bitmap_in_all_logs),
		cmocka_unit_test(test_outside_of_a_log_nothing_is_marked_or_found),
		cmocka_unit_test(test_a_log_may_end_with_the_last_address),
		cmocka_unit_test(test_memory_that_comes_later_is_logged),
		cmocka_unit_test(test_a_wider_log_takes_over),
		cmocka_unit_test(test_pages_are_the_hosts_and_those_of_vhost_are_not),
		cmocka_unit_test(test_the_rate_is_what_was_written),
		cmocka_unit_test(test_a_reader_that_does_not_mark_yet_is_waited_for),
		cmocka_unit_test(test_a_pin_outlives_log_and_space),
		cmocka_unit_test(test_bad_options_are_refused),
		cmocka_unit_test(test_every_failing_call_leaves_all_as_it_was),
		cmocka_unit_test(test_without_membarrier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
