/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fault.c - the fault-injecting twin does what its plan says, and sees every leak.
 *
 * The calls go through the functions of client below as through the library: from this object, so
 * the linker wraps them.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <guestmem/export.h>

#include "fault.h"
#include "sys/sys.h"

#define PAGE 4096u

static int map_pages(size_t nr, void **ret)
{
	return gm_sys_mmap(
		NULL, nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, ret);
}

/* ---- one fault ---- */

static void the_nth_call_of_one_function_fails_once(void **state)
{
	void *ptr[3] = {0};

	(void)state;
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_mmap, .nth = 2, .error = ENOMEM});
	assert_int_equal(map_pages(1, &ptr[0]), 0);
	assert_int_equal(map_pages(1, &ptr[1]), -ENOMEM);
	assert_null(ptr[1]);
	assert_int_equal(map_pages(1, &ptr[2]), 0);
	assert_int_equal(fault_hits(), 1);
	assert_int_equal(fault_hit_fn(), FAULT_gm_sys_mmap);
	assert_int_equal(fault_calls(FAULT_gm_sys_mmap), 3);
	assert_int_equal(gm_sys_munmap(ptr[0], PAGE), 0);
	assert_int_equal(gm_sys_munmap(ptr[2], PAGE), 0);
}

static void with_forever_all_later_calls_fail(void **state)
{
	void *ptr;

	(void)state;
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_mmap, .nth = 2, .forever = true, .error = EPERM});
	assert_int_equal(map_pages(1, &ptr), 0);
	assert_int_equal(gm_sys_munmap(ptr, PAGE), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(map_pages(1, &ptr), -EPERM);
	assert_int_equal(fault_hits(), 5);
	fault_disarm();
	assert_int_equal(map_pages(1, &ptr), 0);
	assert_int_equal(gm_sys_munmap(ptr, PAGE), 0);
	assert_int_equal(fault_hits(), 5);
}

static void any_function_counts_those_that_can_fail(void **state)
{
	void *ptr;
	int fd;

	(void)state;
	fault_set(&(struct fault_plan){.fn = FAULT_ANY, .nth = 3, .error = ENOSPC});
	assert_int_equal(map_pages(1, &ptr), 0);
	gm_sys_now_ns();
	assert_int_equal(gm_sys_munmap(ptr, PAGE), 0);
	fd = gm_sys_memfd("fault", 0);
	assert_true(fd >= 0);
	assert_int_equal(gm_sys_ftruncate(fd, PAGE), -ENOSPC);
	assert_int_equal(gm_sys_ftruncate(fd, PAGE), 0);
	assert_int_equal(gm_sys_close(fd), 0);
	assert_int_equal(fault_hits(), 1);
	assert_int_equal(fault_calls(FAULT_ANY), 4);
	assert_int_equal(fault_calls(FAULT_gm_sys_now_ns), 1);
}

static void a_close_that_fails_has_closed(void **state)
{
	size_t nr = fault_open_fds();
	int fd;

	(void)state;
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_close, .nth = 1, .error = EIO});
	fd = gm_sys_memfd("fault", 0);
	assert_int_equal(fault_open_fds(), nr + 1);
	assert_int_equal(gm_sys_close(fd), -EIO);
	assert_int_equal(fault_open_fds(), nr);
	assert_int_equal(fault_hits(), 1);
}

static void a_munmap_that_fails_has_unmapped_nothing(void **state)
{
	uint64_t mapped = fault_mapped();
	void *ptr;

	(void)state;
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_munmap, .nth = 1, .error = ENOMEM});
	assert_int_equal(map_pages(1, &ptr), 0);
	assert_int_equal(gm_sys_munmap(ptr, PAGE), -ENOMEM);
	*(volatile char *)ptr = 1;
	assert_int_equal(fault_mapped(), mapped + PAGE);
	assert_int_equal(gm_sys_munmap(ptr, PAGE), 0);
	assert_int_equal(fault_mapped(), mapped);
	assert_int_equal(fault_hits(), 1);
}

static void each_way_to_allocate_can_fail(void **state)
{
	void *ptr;

	(void)state;
	fault_set(
		&(struct fault_plan){.fn = FAULT_ANY, .nth = 1, .forever = true, .error = ENOMEM});
	assert_null(gm_sys_alloc(8));
	assert_null(gm_sys_alloc_array(2, 8));
	assert_null(gm_sys_alloc_aligned(64, 8));
	assert_null(gm_sys_realloc(NULL, 2, 8));
	assert_int_equal(fault_hits(), 4);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_realloc, .nth = 1, .error = ENOMEM});
	ptr = gm_sys_alloc(8);
	assert_non_null(ptr);
	assert_null(gm_sys_realloc(ptr, 100, 8));
	gm_sys_free(ptr);
	assert_int_equal(fault_hits(), 1);
}

/* ---- short counts and interruptions ---- */

static void pwrite_can_fall_short(void **state)
{
	int fd = gm_sys_memfd("fault", 0);

	(void)state;
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pwrite, .nth = 1, .short_len = 3});
	assert_int_equal(gm_sys_pwrite(fd, "abcdefgh", 8, 0), 3);
	assert_int_equal(gm_sys_pwrite(fd, "defgh", 5, 3), 5);
	assert_int_equal(fault_hits(), 1);
	assert_int_equal(gm_sys_close(fd), 0);
}

static void pread_can_fall_short(void **state)
{
	char buf[8] = "........";
	int fd = gm_sys_memfd("fault", 0);

	(void)state;
	assert_int_equal(write(fd, "abcdefgh", 8), 8);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_pread, .nth = 1, .forever = true, .short_len = 3});
	assert_int_equal(gm_sys_pread(fd, buf, 8, 0), 3);
	assert_memory_equal(buf, "abc.....", 8);
	/* What is as short by itself is no fault. */
	assert_int_equal(gm_sys_pread(fd, buf, 2, 6), 2);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(gm_sys_close(fd), 0);
}

static void messages_can_fall_short_across_vectors(void **state)
{
	char in[2][4] = {"abc", "def"};
	char out[2][4] = {"...", "..."};
	struct iovec iov_in[2] = {{in[0], 3}, {in[1], 3}};
	struct iovec iov_out[2] = {{out[0], 3}, {out[1], 3}};
	struct msghdr send = {.msg_iov = iov_in, .msg_iovlen = 2};
	struct msghdr recv = {.msg_iov = iov_out, .msg_iovlen = 2};
	int sock[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	fault_set(&(struct fault_plan){.fn = FAULT_ANY, .nth = 1, .forever = true, .short_len = 4});
	assert_int_equal(gm_sys_sendmsg(sock[0], &send, 0), 4);
	fault_set(&(struct fault_plan){.fn = FAULT_ANY, .nth = 1, .forever = true, .short_len = 2});
	assert_int_equal(gm_sys_recvmsg(sock[1], &recv, 0), 2);
	assert_string_equal(out[0], "ab.");
	assert_string_equal(out[1], "...");
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(gm_sys_recvmsg(sock[1], &recv, 0), 2);
	assert_string_equal(out[0], "cd.");
	close(sock[0]);
	close(sock[1]);
}

static void in_a_storm_each_call_is_interrupted_so_many_times(void **state)
{
	char buf[1];
	int fd = gm_sys_memfd("fault", 0);
	void *ptr;

	(void)state;
	fault_set(&(struct fault_plan){.eintr = 2});
	for (int i = 0; i < 3; i++) {
		assert_int_equal(gm_sys_pread(fd, buf, 1, 0), -EINTR);
		assert_int_equal(gm_sys_pread(fd, buf, 1, 0), -EINTR);
		assert_int_equal(gm_sys_pread(fd, buf, 1, 0), 0);
	}
	/* It is not among those that can be interrupted. */
	assert_int_equal(map_pages(1, &ptr), 0);
	assert_int_equal(fault_hits(), 6);
	fault_set(NULL);
	assert_int_equal(gm_sys_munmap(ptr, PAGE), 0);
	assert_int_equal(gm_sys_close(fd), 0);
}

static void the_clock_can_jump_and_sleep_without_waiting(void **state)
{
	uint64_t begin = gm_sys_now_ns();

	(void)state;
	fault_clock_virtual(true);
	gm_sys_sleep_ns(3600000000000u);
	fault_clock_virtual(false);
	assert_true(gm_sys_now_ns() - begin >= 3600000000000u);
	begin = gm_sys_now_ns();
	fault_clock_jump(5000000000u);
	assert_true(gm_sys_now_ns() - begin >= 5000000000u);
}

/* ---- the log ---- */

static void the_log_tells_calls_in_order_with_arguments(void **state)
{
	const struct fault_event *log;
	size_t nr;
	void *ptr;

	(void)state;
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_mprotect, .nth = 1, .error = EACCES});
	fault_log_start();
	assert_int_equal(map_pages(2, &ptr), 0);
	assert_int_equal(gm_sys_madvise(ptr, PAGE, MADV_DONTFORK), 0);
	assert_int_equal(gm_sys_mprotect(ptr, PAGE, PROT_READ), -EACCES);
	assert_int_equal(gm_sys_munmap(ptr, 2 * PAGE), 0);
	fault_log_stop();
	gm_sys_page_size();

	log = fault_log(&nr);
	assert_int_equal(nr, 4);
	assert_int_equal(fault_log_find(FAULT_gm_sys_mmap, 0), 0);
	assert_int_equal(log[0].addr2, (uintptr_t)ptr);
	assert_int_equal(log[0].len, 2 * PAGE);
	assert_int_equal(log[0].prot, PROT_READ | PROT_WRITE);
	assert_int_equal(log[0].flags, MAP_PRIVATE | MAP_ANONYMOUS);
	assert_int_equal(fault_log_find_flags(FAULT_gm_sys_madvise, MADV_DONTFORK, 0), 1);
	assert_true(fault_log_find_flags(FAULT_gm_sys_madvise, MADV_MERGEABLE, 0) == SIZE_MAX);
	assert_true(log[2].injected);
	assert_int_equal(log[2].rc, -EACCES);
	assert_int_equal(log[3].addr, (uintptr_t)ptr);
	assert_true(fault_log_find(FAULT_gm_sys_mmap, 1) == SIZE_MAX);
	fault_set(NULL);
}

/* ---- leaks ---- */

static struct fault_state before;

static void a_leaked_allocation_is_seen(void **state)
{
	void *ptr;

	(void)state;
	fault_set(NULL);
	fault_state_take(&before);
	assert_true(fault_state_same(&before));
	ptr = gm_sys_alloc(16);
	assert_false(fault_state_same(&before));
	ptr = gm_sys_realloc(ptr, 2, 16);
	assert_int_equal(fault_blocks(), before.blocks + 1);
	gm_sys_free(ptr);
	gm_sys_free(NULL);
	assert_true(fault_state_same(&before));
}

static void a_leaked_fd_is_seen(void **state)
{
	int fd;

	(void)state;
	fault_state_take(&before);
	fd = gm_sys_dup(0);
	assert_false(fault_state_same(&before));
	assert_int_equal(gm_sys_close(fd), 0);
	assert_true(fault_state_same(&before));
}

static void a_leaked_mapping_is_seen(void **state)
{
	uint64_t mapped = fault_mapped();
	void *from;
	void *to;

	(void)state;
	fault_state_take(&before);
	assert_int_equal(map_pages(4, &from), 0);
	assert_int_equal(fault_mapped(), mapped + 4 * PAGE);
	assert_false(fault_state_same(&before));
	assert_int_equal(map_pages(2, &to), 0);
	assert_int_equal(gm_sys_mremap_to(from, 2 * PAGE, to), 0);
	assert_int_equal(fault_mapped(), mapped + 4 * PAGE);
	assert_int_equal(gm_sys_munmap(to, 2 * PAGE), 0);
	assert_false(fault_state_same(&before));
	assert_int_equal(gm_sys_munmap((char *)from + 2 * PAGE, 2 * PAGE), 0);
	assert_true(fault_state_same(&before));
}

/* Sanitizers map by themselves at any time, so that the lines of /proc/self/maps are not compared
 * with them. */
#ifndef GM_SANITIZED
static void a_mapping_that_did_not_go_through_the_library_is_seen(void **state)
{
	void *ptr;

	(void)state;
	fault_state_take(&before);
	ptr = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(ptr, MAP_FAILED);
	assert_false(fault_state_same(&before));
	munmap(ptr, PAGE);
	assert_true(fault_state_same(&before));
}
#endif

/* ---- the sweep ---- */

/* Three calls that can fail; gives everything back whichever does. */
static int careful(void *ctx)
{
	void *heap = NULL;
	void *ptr = NULL;
	int rc;
	int fd;

	(void)ctx;
	fd = gm_sys_memfd("fault", 0);
	if (fd < 0)
		return fd;
	rc = map_pages(3, &ptr);
	if (rc == 0) {
		heap = gm_sys_alloc(100);
		rc = heap ? 0 : -ENOMEM;
		gm_sys_free(heap);
		gm_sys_munmap(ptr, 3 * PAGE);
	}
	gm_sys_close(fd);
	return rc;
}

static void a_sweep_reaches_each_call_once_and_for_ever(void **state)
{
	static const int errnos[] = {ENOMEM, EPERM};
	const struct fault_sweep_opts two = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 2};
	const struct fault_sweep_opts mmap_only = {.fn = FAULT_gm_sys_mmap};

	(void)state;
	assert_int_equal(fault_sweep(careful, NULL), 3 * 3 * 2);
	assert_int_equal(fault_sweep_opts(careful, NULL, &two), 3 * 2 * 2);
	assert_int_equal(fault_sweep_opts(careful, NULL, &mmap_only), 1 * 3 * 2);
}

/* Carries on without its name and repeats what was interrupted. */
static int tolerant(void *ctx)
{
	char buf[4];
	ssize_t nr;
	int fd;

	(void)ctx;
	fd = gm_sys_memfd("fault", 0);
	if (fd < 0)
		return fd;
	gm_sys_name_vma(buf, 0, "nothing");
	do {
		nr = gm_sys_pread(fd, buf, 4, 0);
	} while (nr == -EINTR);
	gm_sys_close(fd);
	return nr < 0 ? (int)nr : 0;
}

static void a_sweep_goes_on_after_a_fault_that_is_tolerated(void **state)
{
	const struct fault_sweep_opts storm = {.fn = FAULT_ANY, .eintr = 2};

	(void)state;
	assert_int_equal(fault_sweep(tolerant, NULL), 3 * 3 * 2);
	/* One more in each of the six: the run whose only faults are interruptions. */
	assert_int_equal(fault_sweep_opts(tolerant, NULL, &storm), (3 + 1) * 3 * 2);
}

/* ---- the list ---- */

/* The next "gm_sys_x(" of a header in @line, behind *at, or false. */
static bool next_name(const char *line, size_t *at, char *name, size_t cap)
{
	const char *found = strstr(line + *at, "gm_sys_");
	size_t len;

	if (!found)
		return false;
	len = strspn(found, "abcdefghijklmnopqrstuvwxyz_0123456789");
	*at = (size_t)(found - line) + len;
	snprintf(name, cap, "%.*s", found[len] == '(' ? (int)len : 0, found);
	return true;
}

static bool in_list(const char *name)
{
	for (int i = 0; i < FAULT_NR; i++) {
		if (strcmp(fault_name((enum fault_fn)i), name) == 0)
			return true;
	}
	return false;
}

static void every_function_of_sys_h_is_in_the_list(void **state)
{
	FILE *header = fopen(GM_SOURCE_ROOT "/src/sys/sys.h", "r");
	unsigned int nr = 0;
	char line[512];

	(void)state;
	assert_non_null(header);
	while (fgets(line, sizeof(line), header)) {
		char name[64];
		size_t at = 0;

		if (line[0] == '/' || line[0] == ' ')
			continue;
		while (next_name(line, &at, name, sizeof(name))) {
			if (name[0] == '\0')
				continue;
			nr++;
			if (!in_list(name))
				fail_msg("%s of sys.h has no twin: add it to tests/fault_list.h "
					 "and fault.c",
					name);
		}
	}
	fclose(header);
	assert_int_equal(nr, FAULT_NR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_nth_call_of_one_function_fails_once),
		cmocka_unit_test(with_forever_all_later_calls_fail),
		cmocka_unit_test(any_function_counts_those_that_can_fail),
		cmocka_unit_test(a_close_that_fails_has_closed),
		cmocka_unit_test(a_munmap_that_fails_has_unmapped_nothing),
		cmocka_unit_test(each_way_to_allocate_can_fail),
		cmocka_unit_test(pread_can_fall_short),
		cmocka_unit_test(pwrite_can_fall_short),
		cmocka_unit_test(messages_can_fall_short_across_vectors),
		cmocka_unit_test(in_a_storm_each_call_is_interrupted_so_many_times),
		cmocka_unit_test(the_clock_can_jump_and_sleep_without_waiting),
		cmocka_unit_test(the_log_tells_calls_in_order_with_arguments),
		cmocka_unit_test(a_leaked_allocation_is_seen),
		cmocka_unit_test(a_leaked_fd_is_seen),
		cmocka_unit_test(a_leaked_mapping_is_seen),
#ifndef GM_SANITIZED
		cmocka_unit_test(a_mapping_that_did_not_go_through_the_library_is_seen),
#endif
		cmocka_unit_test(a_sweep_reaches_each_call_once_and_for_ever),
		cmocka_unit_test(a_sweep_goes_on_after_a_fault_that_is_tolerated),
		cmocka_unit_test(every_function_of_sys_h_is_in_the_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
