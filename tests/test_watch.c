/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_watch.c - writes around the library: raw stores and system calls are found by the kernel's asynchronous
 * write protection, on every sort of memory, while the map changes too.
 */
#include <errno.h>
#include <fcntl.h>
#include <guestmem/txn.h>
#include <guestmem/watch.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"
#include "one_log.h"
#include "random.h"

static struct gm_watch *watch;

static uint8_t *host(uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_next(space, gpa, &info), 0);
	return (uint8_t *)info.hva + (gpa - info.gpa);
}

static void start_watch(const struct gm_block_opts *opts)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(space, DESC(.backing = opts), NULL, &err));
	log_ = make_log(NULL);
	assert_ok(gm_watch_create(space, &watch, &err));
}

static void stop_watch(void)
{
	assert_ok(gm_watch_destroy(watch, &err));
	stop_log();
}

static uint64_t harvest(void)
{
	uint64_t bytes = 0;

	assert_ok(gm_watch_harvest(watch, &bytes, &err));
	return bytes;
}

static void assert_found(uint64_t first_page, uint64_t nr)
{
	assert_int_equal(harvest(), nr * PAGE);
	assert_taken(log_, first_page, nr);
	/* Found once. */
	assert_int_equal(harvest(), 0);
}

static void check_sort(const struct gm_block_opts *opts)
{
	struct rng rng = {test_seed(5)};
	int zero = open("/dev/zero", O_RDONLY);

	assert_true(zero >= 0);
	start_watch(opts);
	assert_found(0, 0);
	/* Pages that are not there yet, and pages that are. */
	for (int n = 0; n < 200; n++) {
		uint64_t page = rng_below(&rng, LEN / PAGE - 4);
		uint64_t nr = 1 + rng_below(&rng, 4);

		/* Reading is no writing. */
		(void)*(volatile uint8_t *)host(rng_below(&rng, LEN));
		if (n % 2)
			memset(host(page * PAGE + 5), n, nr * PAGE - 10);
		else
			assert_int_equal(read(zero, host(page * PAGE + 5), nr * PAGE - 10),
				(ssize_t)(nr * PAGE - 10));
		assert_found(page, nr);
	}
	stop_watch();
	close(zero);
}

static void test_raw_writes_are_found_on_every_sort_of_memory(void **state)
{
	(void)state;
	check_sort(BLOCK(.len = LEN));
	check_sort(BLOCK(.len = LEN, .flags = GM_BLOCK_SHARE));
	check_sort(BLOCK(.len = LEN, .backing = GM_BACKING_ANON_SHARED));
	check_sort(BLOCK(.len = LEN, .flags = GM_BLOCK_POPULATE));
}

static void test_huge_pages(void **state)
{
	(void)state;
	assert_true(support_pool(21, 2));
	start_watch(BLOCK(.len = MIB(4), .pages = {{GM_PAGE_HUGETLB, 21}}));
	assert_int_equal(harvest(), 0);
	*host(MIB(2) + 5) = 1;
	assert_int_equal(harvest(), MIB(2));
	assert_int_equal(gm_log_count(log_, MIB(2), MIB(2)), 512);
	assert_int_equal(gm_log_count(log_, 0, 0), 512);
	stop_watch();
	/* Transparent ones are split where they are written. */
	start_watch(BLOCK(.len = MIB(4), .pages = {{GM_PAGE_THP, 0}}, .flags = GM_BLOCK_POPULATE));
	assert_int_equal(harvest(), 0);
	*host(MIB(2) + 5) = 1;
	assert_true(harvest() > 0);
	assert_int_equal(gm_log_count(log_, MIB(2), 1), 1);
	assert_int_equal(gm_log_count(log_, 0, MIB(2)), 0);
	stop_watch();
}

static void test_the_map_changes_meanwhile(void **state)
{
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start_watch(BLOCK(.len = LEN));
	assert_ok(gm_space_add(
		space, DESC(.gpa = MIB(1), .backing = BLOCK(.len = 8 * PAGE)), &id, &err));
	gm_log_reset(log_, 0, GIB(1));
	*host(MIB(1) + PAGE) = 1;
	assert_int_equal(harvest(), PAGE);
	assert_int_equal(gm_log_count(log_, MIB(1) + PAGE, 1), 1);
	/* What was written and not harvested is not lost with the move. */
	*host(MIB(1) + 2 * PAGE) = 1;
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_move(txn, id, MIB(2), &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(gm_log_count(log_, MIB(1) + 2 * PAGE, 1), 1);
	assert_int_equal(gm_log_count(log_, MIB(2), 8 * PAGE), 8);
	gm_log_reset(log_, 0, GIB(1));
	*host(MIB(2) + 3 * PAGE) = 1;
	assert_int_equal(harvest(), PAGE);
	assert_int_equal(gm_log_count(log_, MIB(2) + 3 * PAGE, 1), 1);
	assert_ok(gm_space_remove(space, id, &err));
	*host(5 * PAGE) = 1;
	assert_int_equal(harvest(), PAGE);
	/* The guest's own writes go on beside the library's. */
	gm_log_reset(log_, 0, GIB(1));
	write_some(7 * PAGE, 8);
	assert_taken(log_, 7, 1);
	stop_watch();
}

/* Protecting takes memory from KVM's tables, so it is asked for where something was written and nowhere else. */
static void test_only_what_is_around_written_pages_is_protected(void **state)
{
	(void)state;
	start_watch(BLOCK(.len = MIB(4), .flags = GM_BLOCK_POPULATE));
	fault_set(NULL);
	assert_int_equal(harvest(), 0);
	assert_int_equal(fault_calls(FAULT_gm_sys_ioctl), 1);
	*host(MIB(1)) = *host(MIB(1) + 10 * PAGE) = *host(MIB(3)) = 1;
	fault_set(NULL);
	assert_int_equal(harvest(), 3 * PAGE);
	assert_int_equal(fault_calls(FAULT_gm_sys_ioctl), 3);
	assert_int_equal(gm_log_count(log_, MIB(1), 11 * PAGE), 2);
	assert_int_equal(harvest(), 0);
	/* More than are looked for at a time. */
	for (uint64_t at = 0; at < MIB(4); at += 2 * PAGE)
		*host(at) = 1;
	gm_log_reset(log_, 0, 0);
	assert_int_equal(harvest(), MIB(2));
	assert_int_equal(gm_log_count(log_, 0, MIB(4)), 512);
	stop_watch();
	/* Far from each other: each by a call of its own. */
	start_watch(BLOCK(.len = MIB(512)));
	for (uint64_t at = 0; at < MIB(512); at += MIB(1) / 2)
		*host(at) = 1;
	assert_int_equal(harvest(), 1024 * PAGE);
	assert_int_equal(gm_log_count(log_, 0, MIB(512)), 1024);
	assert_int_equal(harvest(), 0);
	stop_watch();
}

static void test_memory_that_another_watches_is_refused(void **state)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	reg.range.start = (uintptr_t)host(0);
	reg.range.len = LEN;
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	watch = NULL;
	assert_fails(gm_watch_create(space, &watch, &err), EBUSY, "another userfaultfd");
	assert_null(watch);
	close(fd);
	assert_ok(gm_watch_create(space, &watch, &err));
	assert_ok(gm_watch_destroy(watch, &err));
	gm_watch_destroy(NULL, NULL);
	stop();
}

static int scenario(void *ctx)
{
	int rc = gm_watch_create(space, &watch, NULL);

	(void)ctx;
	if (rc)
		return rc;
	*host(PAGE) = 1;
	rc = gm_watch_harvest(watch, NULL, NULL);
	fault_disarm();
	assert_ok(gm_watch_destroy(watch, &err));
	return rc;
}

static void test_every_failing_call_leaves_nothing(void **state)
{
	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	assert_int_equal(scenario(NULL), 0);
	assert_true(fault_sweep(scenario, NULL) > 10);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw_writes_are_found_on_every_sort_of_memory),
		cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_the_map_changes_meanwhile),
		cmocka_unit_test(test_only_what_is_around_written_pages_is_protected),
		cmocka_unit_test(test_memory_that_another_watches_is_refused),
		cmocka_unit_test(test_every_failing_call_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
