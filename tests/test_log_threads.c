/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log_threads.c - writers and takers at once: whoever copies what logs name has all bytes in the end,
 * whatever the order, and logs that come and go disturb nobody.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "held_slice.h"
#include "one_log.h"
#include "random.h"

#define WRITERS 2
#define PAGES (LEN / PAGE)

static bool stop_writing;
static uint64_t nr_writes;

/* Each writer has every other word; a word only grows. */
static void *writer(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	struct rng rng = {test_seed(50 + me)};
	struct gm_reader *mine;
	struct held all;
	uint64_t n = 0;

	if (gm_reader_create(space, "writer", &mine, NULL))
		return (void *)1;
	all = hold(mine, 0, LEN, GM_PERM_RW | GM_PIN_EXACT);
	for (; !__atomic_load_n(&stop_writing, __ATOMIC_RELAXED); n++) {
		uint64_t word = rng_below(&rng, LEN / 16) * 2 + me;
		const struct gm_view *view = gm_reader_enter(mine);
		int rc;

		switch (n % 6) {
		case 0:
			rc = gm_write_le64(view, word * 8, n);
			break;
		case 1:
			rc = gm_write(view, word * 8, &n, 8, NULL);
			break;
		case 2:
			rc = gm_atomic_store_u64(view, word * 8, __ATOMIC_RELAXED, n);
			break;
		case 3:
			rc = gm_slice_store(
				&all.slice, &all.pin, word * 8, GM_U64, __ATOMIC_RELAXED, n);
			break;
		case 4:
			rc = gm_slice_write(&all.slice, &all.pin, word * 8, &n, 8, NULL);
			break;
		default:
			rc = gm_atomic_exchange_u64(view, word * 8, __ATOMIC_SEQ_CST, n, NULL);
			break;
		}
		gm_reader_leave(mine);
		if (rc)
			return (void *)1;
	}
	gm_pin_put(&all.pin);
	gm_reader_destroy(mine);
	__atomic_fetch_add(&nr_writes, n, __ATOMIC_RELAXED);
	return NULL;
}

/* Copies the pages that a log names. */
static uint64_t copy_taken(struct gm_log *log, struct gm_reader *mine, uint8_t *copy)
{
	uint64_t words[PAGES / 64];
	uint64_t count = 0;

	assert_int_equal(gm_log_take(log, 0, PAGES, words, &count), 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		if (!(words[i / 64] >> (i % 64) & 1))
			continue;
		assert_int_equal(
			gm_read(gm_reader_enter(mine), i * PAGE, copy + i * PAGE, PAGE, NULL), 0);
		gm_reader_leave(mine);
	}
	return count;
}

static void run(const struct gm_log_opts *opts, bool come_and_go)
{
	static uint8_t copies[2][LEN];
	static uint8_t now[LEN];
	struct gm_log *logs[2];
	pthread_t threads[WRITERS];
	uint64_t taken = 0;
	void *rc;

	memset(copies, 0, sizeof(copies));
	stop_writing = false;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .timeout_ns = UINT64_C(20000000000)));
	add(0, LEN);
	logs[0] = make_log(opts);
	logs[1] = make_log(NULL);
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
	for (unsigned long n = 0; n < support_scale(come_and_go ? 300 : 1500) || taken < 3000;
		n++) {
		taken += copy_taken(logs[n % 2], reader, copies[n % 2]);
		if (come_and_go && n % 10 == 1) {
			/* A new one, and all of its memory copied when it is there, is as good. */
			assert_ok(gm_log_destroy(logs[1], &err));
			logs[1] = make_log(NULL);
			assert_int_equal(
				gm_read(gm_reader_enter(reader), 0, copies[1], LEN, NULL), 0);
			gm_reader_leave(reader);
		}
	}
	__atomic_store_n(&stop_writing, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], &rc);
		assert_null(rc);
	}
	assert_true(taken > 0);
	assert_int_equal(gm_read(gm_reader_enter(reader), 0, now, LEN, NULL), 0);
	gm_reader_leave(reader);
	for (size_t i = 0; i < 2; i++) {
		copy_taken(logs[i], reader, copies[i]);
		assert_memory_equal(copies[i], now, LEN);
		assert_ok(gm_log_destroy(logs[i], &err));
	}
	stop();
}

static void test_what_logs_name_is_all_that_changed(void **state)
{
	(void)state;
	/* The first log would do as the filter; with the second there is another; 512: none at all. */
	run(NULL, false);
	run(NULL, true);
}

/* One log alone, which is its own filter. */
static void test_one_log_alone(void **state)
{
	static uint8_t copy[LEN];
	static uint8_t now[LEN];
	pthread_t threads[WRITERS];
	uint64_t taken = 0;
	void *rc;

	(void)state;
	memset(copy, 0, sizeof(copy));
	stop_writing = false;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	log_ = make_log(NULL);
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
	for (unsigned long n = 0; n < support_scale(2000) || taken < 3000; n++)
		taken += copy_taken(log_, reader, copy);
	__atomic_store_n(&stop_writing, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], &rc);
		assert_null(rc);
	}
	copy_taken(log_, reader, copy);
	assert_int_equal(gm_read(gm_reader_enter(reader), 0, now, LEN, NULL), 0);
	gm_reader_leave(reader);
	assert_memory_equal(copy, now, LEN);
	stop_log();
	printf("figure: logged_writes %llu\n", (unsigned long long)nr_writes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_logs_name_is_all_that_changed),
		cmocka_unit_test(test_one_log_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
