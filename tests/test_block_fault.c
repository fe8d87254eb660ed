/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_block_fault.c - every system call and every allocation behind a block made to fail: nothing
 * is left, and the order of the calls.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fault.h"
#include "sys/uapi.h"

static struct gm_error err;

#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)

/* Makes the block that ctx describes, uses it, and gives it back; after a failure the output is
 * untouched. */
static int create_and_put(void *ctx)
{
	struct gm_block *block = (void *)1;
	struct gm_block_info info = {.size = sizeof(info)};
	int rc = gm_block_create(ctx, &block, &err);

	fault_disarm();
	if (rc) {
		assert_ptr_equal(block, (void *)1);
		assert_int_equal(err.code, rc);
		assert_true(strlen(err.text) > 0);
		return rc;
	}
	assert_int_equal(gm_block_info(block, &info), 0);
	((volatile char *)info.hva)[info.len - 1] = 1;
	gm_block_put(block);
	return 0;
}

static void sweep(struct gm_block_opts *opts)
{
	unsigned long hits = fault_sweep(create_and_put, opts);

	printf("figure: injected-faults %lu\n", hits);
	assert_true(hits > 10);
}

static void a_plain_block_survives_every_fault(void **state)
{
	(void)state;
	sweep(BLOCK(.len = MIB(4), .name = "plain"));
}

static void a_block_with_everything_survives_every_fault(void **state)
{
	(void)state;
	sweep(BLOCK(.len = MIB(4), .name = "all",
		.flags = GM_BLOCK_SHARE | GM_BLOCK_POPULATE | GM_BLOCK_LOCK,
		.pages = {{GM_PAGE_HUGETLB, 21}, {GM_PAGE_THP}, {GM_PAGE_BASE}},
		.numa = {.mode = GM_NUMA_BIND, .home_plus = 1, .nodes = {1}}));
}

static void huge_pages_survive_every_fault(void **state)
{
	(void)state;
	assert_true(support_pool(21, 4));
	sweep(BLOCK(.len = MIB(4), .flags = GM_BLOCK_POPULATE, .pages = {{GM_PAGE_HUGETLB, 21}}));
	sweep(BLOCK(.len = MIB(4), .flags = GM_BLOCK_SHARE, .pages = {{GM_PAGE_HUGETLB, 21}}));
	sweep(BLOCK(.len = MIB(4), .flags = GM_BLOCK_POPULATE, .pages = {{GM_PAGE_THP}}));
}

static void a_file_survives_every_fault(void **state)
{
	static const char path[] = "/tmp/gm-test-block-fault";
	int fd;

	(void)state;
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)MIB(1)), 0);
	sweep(BLOCK(.len = MIB(1), .backing = GM_BACKING_FD, .fd = fd, .flags = GM_BLOCK_POPULATE));
	sweep(BLOCK(.len = MIB(1), .backing = GM_BACKING_FILE, .path = path,
		.reserve = GM_RESERVE_REAL));
	close(fd);
	unlink(path);
}

static const char created[] = "/tmp/gm-test-block-created";

static int create_file(void *ctx)
{
	int rc = create_and_put(ctx);

	if (rc)
		assert_int_equal(access(created, F_OK), -1);
	unlink(created);
	return rc;
}

static void a_created_file_is_gone_after_every_fault(void **state)
{
	(void)state;
	unlink(created);
	assert_true(
		fault_sweep(create_file, BLOCK(.len = MIB(1), .backing = GM_BACKING_FILE,
						 .path = created, .flags = GM_BLOCK_CREATE)) > 10);
}

static int populate(void *ctx)
{
	struct gm_block *block = NULL;
	int rc;

	(void)ctx;
	rc = gm_block_create(BLOCK(.len = MIB(64)), &block, &err);
	if (!rc)
		rc = gm_block_populate(block, GM_OPTS(gm_populate_opts, .threads = 3), &err);
	fault_disarm();
	gm_block_put(block);
	return rc;
}

static void population_by_threads_survives_every_fault(void **state)
{
	(void)state;
	assert_true(fault_sweep(populate, NULL) > 10);
}

static void an_old_kernel_is_populated_by_touching(void **state)
{
	struct gm_block *block;
	struct gm_block_info info = {.size = sizeof(info)};

	(void)state;
	assert_int_equal(gm_block_create(BLOCK(.len = MIB(4)), &block, &err), 0);
	gm_block_info(block, &info);
	((char *)info.hva)[4096] = 77;
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_madvise, .nth = 1, .forever = true, .error = EINVAL});
	assert_ok(gm_block_populate(block, NULL, &err));
	assert_true(fault_hits() >= 1);
	fault_set(NULL);
	assert_int_equal(support_smaps(info.hva, "Rss:"), MIB(4));
	assert_int_equal(((char *)info.hva)[4096], 77);
	gm_block_put(block);
}

static void interrupted_calls_are_repeated(void **state)
{
	(void)state;
	fault_set(&(struct fault_plan){.eintr = 3});
	assert_int_equal(create_and_put(BLOCK(.len = MIB(1), .flags = GM_BLOCK_POPULATE)), 0);
	assert_int_equal(create_and_put(BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE)), 0);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_ftruncate, .nth = 1, .error = EINTR});
	assert_int_equal(create_and_put(BLOCK(.len = MIB(1), .flags = GM_BLOCK_SHARE)), 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_madvise, .nth = 3, .error = EINTR});
	assert_int_equal(create_and_put(BLOCK(.len = MIB(1), .flags = GM_BLOCK_POPULATE)), 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
}

/* Index in the log, which must exist. */
static size_t at(enum fault_fn fn, uint64_t flags)
{
	size_t i = fault_log_find_flags(fn, flags, 0);

	if (i == SIZE_MAX)
		fail_msg(
			"%s with 0x%llx was not called", fault_name(fn), (unsigned long long)flags);
	return i;
}

/* Advice after population leaves base pages, NUMA policy after it the wrong node. */
static void memory_is_mapped_in_the_one_right_order(void **state)
{
	struct gm_block *block;
	size_t steps[9];
	size_t nr;

	(void)state;
	assert_true(support_knob("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"));
	fault_set(NULL);
	fault_log_start();
	assert_ok(gm_block_create(
		BLOCK(.len = MIB(4),
			.flags = GM_BLOCK_POPULATE | GM_BLOCK_MERGE | GM_BLOCK_LOCK_ONFAULT,
			.pages = {{GM_PAGE_THP}},
			.numa = {.mode = GM_NUMA_BIND, .home_plus = 1, .nodes = {1}}),
		&block, &err));
	fault_log_stop();
	/* The reservation is the first mmap, the memory the second, at its address. */
	steps[0] = fault_log_find(FAULT_gm_sys_mmap, 0);
	steps[1] = fault_log_find(FAULT_gm_sys_mmap, steps[0] + 1);
	steps[2] = at(FAULT_gm_sys_mbind, MPOL_BIND);
	steps[3] = fault_log_find(FAULT_gm_sys_home_node, 0);
	steps[4] = at(FAULT_gm_sys_madvise, MADV_HUGEPAGE);
	steps[5] = at(FAULT_gm_sys_madvise, MADV_MERGEABLE);
	steps[6] = at(FAULT_gm_sys_madvise, MADV_DONTFORK);
	steps[7] = fault_log_find(FAULT_gm_sys_mlock, 0);
	steps[8] = at(FAULT_gm_sys_madvise, MADV_POPULATE_WRITE);
	assert_int_equal(fault_log(&nr)[steps[0]].prot, PROT_NONE);
	assert_int_equal(fault_log(&nr)[steps[1]].prot, PROT_READ | PROT_WRITE);
	assert_true(fault_log(&nr)[steps[1]].flags & MAP_FIXED);
	for (size_t i = 1; i < 9; i++) {
		if (steps[i] == SIZE_MAX || steps[i] <= steps[i - 1])
			fail_msg("step %zu is out of order", i);
	}
	assert_true(at(FAULT_gm_sys_madvise, MADV_DONTDUMP) < steps[7]);
	gm_block_put(block);
}

/* A kernel that accepts the advice and gives no huge page all the same is caught by verification.
 */
static void population_without_huge_pages_is_not_called_huge(void **state)
{
	struct gm_block *block;
	struct gm_block_info info = {.size = sizeof(info)};

	(void)state;
	assert_true(support_knob("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"));
	/* The first madvise is MADV_HUGEPAGE; a fault that lies that it worked is one process-wide
	 * switch away. */
	assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	assert_fails(gm_block_create(BLOCK(.len = MIB(4), .flags = GM_BLOCK_POPULATE,
					     .pages = {{GM_PAGE_THP}}),
			     &block, &err),
		ENOMEM, "no huge page");
	assert_ok(gm_block_create(BLOCK(.len = MIB(4), .flags = GM_BLOCK_POPULATE,
					  .pages = {{GM_PAGE_THP}, {GM_PAGE_BASE}}),
		&block, &err));
	gm_block_info(block, &info);
	assert_int_equal(info.choice, 1);
	assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
	gm_block_put(block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plain_block_survives_every_fault),
		cmocka_unit_test(a_block_with_everything_survives_every_fault),
		cmocka_unit_test(huge_pages_survive_every_fault),
		cmocka_unit_test(a_file_survives_every_fault),
		cmocka_unit_test(a_created_file_is_gone_after_every_fault),
		cmocka_unit_test(population_by_threads_survives_every_fault),
		cmocka_unit_test(an_old_kernel_is_populated_by_touching),
		cmocka_unit_test(interrupted_calls_are_repeated),
		cmocka_unit_test(memory_is_mapped_in_the_one_right_order),
		cmocka_unit_test(population_without_huge_pages_is_not_called_huge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
