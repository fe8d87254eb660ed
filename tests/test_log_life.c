/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log_life.c - a log by itself: taken, put back, merged, timed; how it begins and ends, and what can
 * fail of that.
 */
#include <errno.h>
#include <guestmem/txn.h>

#include "fault.h"
#include "held_slice.h"
#include "one_log.h"

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
		cmocka_unit_test(test_the_rate_is_what_was_written),
		cmocka_unit_test(test_a_reader_that_does_not_mark_yet_is_waited_for),
		cmocka_unit_test(test_a_pin_outlives_log_and_space),
		cmocka_unit_test(test_bad_options_are_refused),
		cmocka_unit_test(test_every_failing_call_leaves_all_as_it_was),
		cmocka_unit_test(test_without_membarrier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
