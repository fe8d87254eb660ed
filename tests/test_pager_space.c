/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_space.c - memory of a space: discards while pages are on their way, changes of the map, sources that wait
 * and answer in any order.
 */
#include <guestmem/discard.h>
#include <guestmem/guard.h>
#include <guestmem/txn.h>
#include <sys/eventfd.h>
#include <time.h>

#include "one_pager.h"

#define LEN MIB(1)
#define SLOTS 64u

/* ---- a source that waits: it answers when it is told to ---- */

static struct {
	int fd;
	struct gm_source_read *reads[SLOTS];
	unsigned int nr;
	unsigned int most;
	_Atomic bool hold; /* answers nothing */
	int fail;
	uint64_t bad;
} late;

static int late_start(void *ctx, struct gm_source_read *read)
{
	const uint64_t one = 1;

	(void)ctx;
	if (late.nr == SLOTS)
		return -EAGAIN;
	late.reads[late.nr++] = read;
	late.most = late.nr > late.most ? late.nr : late.most;
	assert_int_equal(write(late.fd, &one, sizeof(one)), sizeof(one));
	return 0;
}

/* The last first. */
static int late_step(void *ctx)
{
	(void)ctx;
	while (late.nr > 0 && !late.hold) {
		struct gm_source_read *read = late.reads[--late.nr];
		bool bad = late.bad && late.bad - read->offset < read->len;

		if (!bad)
			fill_words(read->buf, read->offset, read->len);
		read->done(read, bad ? -EIO : 0);
	}
	if (late.nr == 0) {
		uint64_t count;

		(void)!read(late.fd, &count, sizeof(count));
	}
	return 0;
}

static int late_fd(void *ctx)
{
	(void)ctx;
	return late.fd;
}

static struct gm_space *space;
static struct gm_reader *reader;
static uint64_t id;
static uint64_t area;

static uint8_t *start_space(bool shared, bool waits)
{
	struct gm_source_ops ops = {.size = sizeof(ops),
		.len = LEN,
		.start = late_start,
		.step = late_step,
		.fd = late_fd};
	struct gm_region_info info = {.size = sizeof(info)};

	start_pager(LEN);
	memset(&late, 0, sizeof(late));
	late.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (waits) {
		gm_source_destroy(source);
		assert_ok(gm_source_create(&ops, &source, &err));
	}
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_reader_create(space, "one", &reader, &err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .gpa = LEN,
			.backing = GM_OPTS(
				gm_block_opts, .len = LEN, .flags = shared ? GM_BLOCK_SHARE : 0)),
		&id, &err));
	assert_int_equal(gm_space_region(space, id, &info), 0);
	assert_ok(gm_pager_add_space(pager, space, LEN, LEN, AREA(.source = source), &area, &err));
	return info.hva;
}

static void stop_space(void)
{
	stop_pager();
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	close(late.fd);
}

/* ---- cases ---- */

static void sources_that_wait_answer_in_any_order(void **state)
{
	for (int shared = 0; shared < 2; shared++) {
		uint8_t *at = start_space(shared, true);

		(void)state;
		start_stepping();
		assert_true(has_words(at + 7 * PAGE, 7 * PAGE, PAGE));
		late.hold = true;
		assert_int_equal(gm_pager_prefetch(pager, area, 0, LEN / 2), 0);
		usleep(20000);
		late.hold = false;
		assert_true(has_words(at, 0, LEN));
		stop_stepping();
		assert_int_equal(stats().poisoned, 0);
		stop_space();
	}
}

/* One bad page of many is found, and only that is poisoned. */
static void of_a_failed_request_one_page_is_poisoned(void **state)
{
	uint64_t word;

	(void)state;
	(void)start_space(false, true);
	assert_int_equal(gm_guard_install(), 0);
	late.bad = 5 * PAGE + 16;
	assert_int_equal(gm_pager_prefetch(pager, area, 0, 16 * PAGE), 0);
	while (area_info(area).present < 15 * PAGE)
		assert_true(gm_pager_step(pager, 100) >= 0);
	while (nr_told == 0)
		assert_true(gm_pager_step(pager, 100) >= 0);
	assert_int_equal(area_info(area).poisoned, PAGE);
	assert_int_equal(told[0].off, 5 * PAGE);
	assert_int_equal(gm_read(gm_reader_enter(reader), LEN + 5 * PAGE, &word, 8, NULL), -EIO);
	gm_reader_leave(reader);
	assert_int_equal(gm_read(gm_reader_enter(reader), LEN + 6 * PAGE, &word, 8, NULL), 0);
	gm_reader_leave(reader);
	late.bad = 0;
	stop_space();
	assert_int_equal(gm_guard_remove(), 0);
}

/* What is given back while its bytes are on their way does not come after the hole. */
static void a_discard_overtakes_a_load(void **state)
{
	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		uint8_t *at = start_space(shared, true);

		late.hold = true;
		assert_int_equal(gm_pager_prefetch(pager, area, 0, 16 * PAGE), 0);
		for (int i = 0; i < 5; i++)
			assert_true(gm_pager_step(pager, 0) >= 0);
		assert_int_equal(late.nr, 1);
		assert_ok(
			gm_discard(space, LEN + 2 * PAGE, 4 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		late.hold = false;
		start_stepping();
		assert_true(has_words(at, 0, 2 * PAGE));
		assert_true(has_zeros(at + 2 * PAGE, 4 * PAGE));
		assert_true(has_words(at + 6 * PAGE, 6 * PAGE, 20 * PAGE));
		/* What was never there, and what was. */
		assert_ok(gm_discard(space, LEN + 100 * PAGE, PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_ok(gm_discard(space, LEN + 10 * PAGE, PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_true(has_zeros(at + 100 * PAGE, PAGE));
		assert_true(has_zeros(at + 10 * PAGE, PAGE));
		assert_true(has_words(at + 101 * PAGE, 101 * PAGE, PAGE));
		stop_space();
	}
}

/* Memory that moves would lose its userfaultfd, and be zeros. */
static void the_map_keeps_absent_pages(void **state)
{
	uint8_t *at = start_space(false, false);

	(void)state;
	assert_fails(gm_space_remove(space, id, &err), EBUSY, "absent");
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0), 0);
	while (area_info(area).absent)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_true(has_words(at, 0, LEN));
	assert_ok(gm_space_remove(space, id, &err));
	stop_space();
}

static void holes_of_the_map_are_refused(void **state)
{
	(void)start_space(false, false);
	(void)state;
	assert_fails(gm_pager_add_space(pager, space, 0, LEN, AREA(.source = source), NULL, &err),
		EFAULT, "nothing");
	assert_fails(gm_pager_add_space(pager, space, LEN, LEN, AREA(.source = source), NULL, &err),
		EBUSY, "another");
	assert_fails(gm_pager_add_space(pager, space, LEN, LEN,
			     AREA(.source = source, .way = GM_PAGER_MAP), NULL, &err),
		ENOTSUP, "mapping");
	stop_space();
}

/* R10: filling ahead keeps to its rate, and faults do not wait for it. */
static void a_rate_is_kept(void **state)
{
	uint8_t *at = start_space(false, false);
	struct timespec from;
	struct timespec to;
	double s;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &from);
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_ALL, LEN / 2), 0);
	start_stepping();
	usleep(300000);
	assert_true(has_words(at + LEN - PAGE, LEN - PAGE, PAGE));
	stop_stepping();
	clock_gettime(CLOCK_MONOTONIC, &to);
	s = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	assert_true((double)area_info(area).present <= s * (double)(LEN / 2) + 4 * PAGE);
	assert_true(area_info(area).present > PAGE);
	stop_space();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sources_that_wait_answer_in_any_order),
		cmocka_unit_test(of_a_failed_request_one_page_is_poisoned),
		cmocka_unit_test(a_discard_overtakes_a_load),
		cmocka_unit_test(the_map_keeps_absent_pages),
		cmocka_unit_test(holes_of_the_map_are_refused),
		cmocka_unit_test(a_rate_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
