/* SPDX-License-Identifier: BSD-3-Clause */
/* test_virtio_blk_stats.c - what a queue of a block device counts, and that others may look at it meanwhile. */
#include <pthread.h>
#include <time.h>

#include "one_blk.h"

static struct gm_virtio_blk_latency latency_of(void)
{
	struct gm_virtio_blk_latency latency = {.size = sizeof(latency)};

	assert_int_equal(gm_virtio_blk_latency(q, &latency), 0);
	assert_int_equal(latency.size, sizeof(latency));
	return latency;
}

static uint64_t sum(const uint64_t *list, size_t nr)
{
	uint64_t ret = 0;

	for (size_t i = 0; i < nr; i++)
		ret += list[i];
	return ret;
}

/* Each kind that was answered is in one bucket. */
static void check_sums(void)
{
	struct gm_virtio_blk_stats stats = stats_of();
	struct gm_virtio_blk_latency latency = latency_of();

	for (size_t k = 0; k < GM_VIRTIO_BLK_KINDS; k++)
		assert_int_equal(sum(latency.buckets[k], GM_VIRTIO_BLK_BUCKETS), stats.requests[k]);
	assert_int_equal(sum(stats.failed, GM_VIRTIO_BLK_KINDS), stats.errors);
}

static uint8_t ask_id(void)
{
	struct line *l = new_line();

	add_head(l, GET_ID, 0, WHOLE, NULL);
	add_room(l, 21, WHOLE, NULL);
	return serve(l, 0);
}

static uint8_t ask_nonsense(void)
{
	struct line *l = new_line();

	add_head(l, 77, 0, WHOLE, NULL);
	add_room(l, 1, WHOLE, NULL);
	return serve(l, 0);
}

static void kinds_bytes_and_errors_are_counted(void **state)
{
	const struct segment two[] = {{8, 2, 0}, {16, 4, 0}};
	const struct segment bad = {SECTORS, 1, 0};
	uint8_t bytes[4 * SECTOR] = {1};
	struct gm_virtio_blk_stats stats;

	(void)state;
	start_device(mem_disk(), 64, 0);
	assert_int_equal(write_sectors(0, bytes, 4 * SECTOR, 0), 0);
	assert_int_equal(write_sectors(SECTORS, bytes, SECTOR, 0), 1);
	assert_int_equal(read_sectors(1, bytes, 2 * SECTOR, 0), 0);
	assert_int_equal(read_sectors(SECTORS - 1, bytes, 2 * SECTOR, 0), 1);
	assert_int_equal(read_sectors(SECTORS, bytes, SECTOR, 0), 1);
	assert_int_equal(flush_device(0), 0);
	assert_int_equal(send_segments(DISCARD, two, 2, 0), 0);
	assert_int_equal(send_segments(ZEROES, two, 1, 0), 0);
	assert_int_equal(send_segments(ZEROES, &bad, 1, 0), 1);
	assert_int_equal(ask_id(), 0);
	assert_int_equal(ask_nonsense(), 2);
	stats = stats_of();
	{
		const uint64_t requests[] = {3, 2, 1, 1, 2, 1, 1};
		const uint64_t failed[] = {2, 1, 0, 0, 1, 0, 1};

		assert_memory_equal(stats.requests, requests, sizeof(requests));
		assert_memory_equal(stats.failed, failed, sizeof(failed));
	}
	assert_int_equal(stats.read, 2 * SECTOR);
	assert_int_equal(stats.written, 4 * SECTOR);
	assert_int_equal(stats.discarded, 6 * SECTOR);
	assert_int_equal(stats.zeroed, 2 * SECTOR);
	assert_int_equal(stats.errors, 5);
	assert_int_equal(stats.bad, 4);
	assert_int_equal(stats.shown, 11);
	assert_int_equal(stats.base, 11);
	check_sums();
	stop_device();
}

static void calls_that_are_not_wanted_are_not_counted(void **state)
{
	uint8_t bytes[SECTOR];

	(void)state;
	start_device(mem_disk(), 64, 0);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(gm_virtq_driver_calls(driver, enter(), i < 4), 0);
		leave();
		assert_int_equal(read_sectors(0, bytes, SECTOR, 0), 0);
	}
	assert_int_equal(stats_of().shown, 6);
	assert_int_equal(stats_of().wanted, 4);
	stop_device();
}

/* As long as the disk keeps it. */
static void the_time_of_a_request_is_its_time(void **state)
{
	const struct timespec pause = {0, 3000000};
	struct gm_virtio_blk_latency latency;
	struct line *l;

	(void)state;
	start_device(mem_disk(), 64, 0);
	mem.held = 1;
	l = new_line();
	add_head(l, IN, 0, WHOLE, NULL);
	add_room(l, SECTOR + 1, WHOLE, NULL);
	assert_int_equal(offer(l, 0), 0);
	show_driver();
	assert_true(gm_virtio_blk_run(q, 0, &err) >= 0);
	assert_int_equal(gm_virtio_blk_out(q), 1);
	latency = latency_of();
	assert_int_equal(sum(latency.buckets[GM_VIRTIO_BLK_READS], GM_VIRTIO_BLK_BUCKETS), 0);
	nanosleep(&pause, NULL);
	mem.held = 0;
	await(l);
	assert_int_equal(gm_virtio_blk_out(q), 0);
	latency = latency_of();
	assert_true(latency.ns[GM_VIRTIO_BLK_READS] >= 3000000);
	assert_int_equal(latency.ns[GM_VIRTIO_BLK_WRITES], 0);
	/* 2^11 us are less than 3 ms. */
	assert_int_equal(sum(latency.buckets[GM_VIRTIO_BLK_READS], 12), 0);
	check_sums();
	stop_device();
}

static void sizes_are_checked(void **state)
{
	struct gm_virtio_blk_stats stats = {.size = sizeof(stats) - 1};
	struct gm_virtio_blk_latency latency = {.size = sizeof(latency) - 1};
	struct {
		struct gm_virtio_blk_stats stats;
		uint64_t more;
	} newer = {.stats.size = sizeof(newer), .more = 7};

	(void)state;
	start_device(mem_disk(), 8, 0);
	assert_int_equal(gm_virtio_blk_stats(q, &stats), -E2BIG);
	assert_int_equal(gm_virtio_blk_latency(q, &latency), -E2BIG);
	assert_int_equal(gm_virtio_blk_stats(q, &newer.stats), 0);
	assert_int_equal(newer.stats.size, sizeof(stats));
	assert_int_equal(newer.more, 7);
	stop_device();
}

/* ---- beside a queue that runs ---- */

static bool over;         /* atomic */
static uint64_t looks;    /* atomic */
static bool went_back;    /* of who looks */
static uint32_t most_out; /* of who looks */

static void *look(void *arg)
{
	struct gm_virtio_blk_stats before = {.size = sizeof(before)};

	(void)arg;
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		struct gm_virtio_blk_stats now = {.size = sizeof(now)};
		struct gm_virtio_blk_latency latency = {.size = sizeof(latency)};
		uint32_t out = gm_virtio_blk_out(q);

		gm_virtio_blk_stats(q, &now);
		gm_virtio_blk_latency(q, &latency);
		for (size_t k = 0; k < GM_VIRTIO_BLK_KINDS; k++)
			went_back = went_back || now.requests[k] < before.requests[k];
		went_back = went_back || now.read < before.read;
		most_out = out > most_out ? out : most_out;
		before = now;
		__atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void others_look_without_pause(void **state)
{
	const unsigned long nr = support_scale(2000);
	uint8_t bytes[SECTOR];
	unsigned long done = 0;
	pthread_t thread;

	(void)state;
	over = went_back = false;
	looks = most_out = 0;
	start_device(mem_disk(), 64, GM_VIRTQ_PACKED);
	assert_int_equal(pthread_create(&thread, NULL, look, NULL), 0);
	/* Until both have done something. */
	while (done < nr || __atomic_load_n(&looks, __ATOMIC_RELAXED) < 100) {
		assert_int_equal(read_sectors(0, bytes, SECTOR, 0), 0);
		done++;
	}
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_false(went_back);
	assert_true(most_out <= 1);
	assert_int_equal(stats_of().requests[GM_VIRTIO_BLK_READS], done);
	assert_int_equal(stats_of().read, done * SECTOR);
	check_sums();
	stop_device();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds_bytes_and_errors_are_counted),
		cmocka_unit_test(calls_that_are_not_wanted_are_not_counted),
		cmocka_unit_test(the_time_of_a_request_is_its_time),
		cmocka_unit_test(sizes_are_checked),
		cmocka_unit_test(others_look_without_pause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
