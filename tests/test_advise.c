/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_advise.c - advice for the memory of another process: what becomes of its pages, and how far an error let it
 * come.
 */
#include <guestmem/advise.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <guestmem/residency.h>

#include "fault.h"
#include "support.h"

#define PAGE UINT64_C(4096)
#define LEN MIB(8)

static struct gm_error err;
static uint8_t *mem; /* the child's, and this process's at the same address */
static int file = -1;
static pid_t child;
static int pidfd;

/* A child that has written all of its copy of the memory, or read all of the file. */
static void start_child(bool of_file)
{
	char path[] = "/tmp/gm-test-advise-XXXXXX";
	static uint8_t page[PAGE];
	uint8_t *at;
	int ends[2];
	char byte;

	if (of_file) {
		file = mkostemp(path, O_CLOEXEC);
		assert_true(file >= 0);
		unlink(path);
		memset(page, 'f', sizeof(page));
		for (uint64_t off = 0; off < LEN; off += PAGE)
			assert_int_equal(pwrite(file, page, PAGE, (off_t)off), PAGE);
		assert_int_equal(fsync(file), 0);
	}
	/* Room to begin on a border of 2 MiB. */
	at = mmap(NULL, LEN + MIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(at != MAP_FAILED);
	mem = at + (-(uintptr_t)at & (MIB(2) - 1));
	if (of_file)
		assert_true(mmap(mem, LEN, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == mem);
	else
		assert_int_equal(madvise(mem, LEN, MADV_NOHUGEPAGE), 0);
	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		for (uint64_t off = 0; off < LEN; off += PAGE) {
			if (of_file)
				(void)*(volatile uint8_t *)(mem + off);
			else
				mem[off] = 5;
		}
		madvise(mem, LEN, MADV_HUGEPAGE);
		if (write(ends[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	assert_true(pidfd >= 0);
}

static void end_child(void)
{
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void stop(void)
{
	close(pidfd);
	munmap(mem, LEN);
	if (file >= 0)
		close(file);
	file = -1;
}

static struct gm_usage usage(void)
{
	struct gm_usage sum = {.size = sizeof(sum)};
	struct gm_residency *res;

	assert_ok(gm_residency_open(child, &res, &err));
	assert_ok(gm_residency_usage(res, (uintptr_t)mem, LEN, 0, &sum, &err));
	gm_residency_close(res);
	return sum;
}

static struct iovec stretch(uint64_t off, uint64_t len)
{
	return (struct iovec){mem + off, len};
}

static void pages_become_huge(void **state)
{
	struct iovec ranges[2];
	uint64_t done = 0;

	(void)state;
	start_child(false);
	ranges[0] = stretch(0, MIB(2));
	ranges[1] = stretch(MIB(4), MIB(4));
	assert_int_equal(usage().by_log2[12], LEN);
	assert_ok(gm_process_advise(pidfd, ranges, 2, GM_ADVICE_COLLAPSE, &done, &err));
	assert_int_equal(done, MIB(6));
	assert_int_equal(usage().by_log2[21], MIB(6));
	assert_int_equal(usage().by_log2[12], MIB(2));
	end_child();
	stop();
}

/* What a file has behind it can be reclaimed without swap. */
static void pages_of_a_file_go_and_come(void **state)
{
	struct iovec ranges[1000];
	uint64_t done = 0;

	(void)state;
	start_child(true);
	/* This process does not map it: pages that two map are left alone. */
	assert_int_equal(munmap(mem, LEN), 0);
	assert_int_equal(usage().present, LEN);
	/* More than one call takes. */
	for (size_t i = 0; i < 1000; i++)
		ranges[i] = stretch(i * 2 * PAGE, PAGE);
	assert_ok(gm_process_advise(pidfd, ranges, 1000, GM_ADVICE_COLD, &done, &err));
	assert_int_equal(done, 1000 * PAGE);
	assert_int_equal(usage().present, LEN);
	assert_ok(gm_process_advise(
		pidfd, (struct iovec[]){stretch(0, LEN)}, 1, GM_ADVICE_PAGEOUT, &done, &err));
	assert_int_equal(done, LEN);
	assert_true(usage().present < LEN / 2);
	assert_ok(gm_process_advise(
		pidfd, (struct iovec[]){stretch(0, LEN)}, 1, GM_ADVICE_WILLNEED, &done, &err));
	assert_int_equal(done, LEN);
	end_child();
	stop();
}

static void an_error_tells_how_far_it_came(void **state)
{
	struct iovec ranges[100];
	uint64_t done = 1;

	(void)state;
	start_child(false);
	for (size_t i = 0; i < 100; i++)
		ranges[i] = stretch(i * 2 * PAGE, PAGE);
	ranges[80] = (struct iovec){(void *)(uintptr_t)PAGE, PAGE};
	assert_fails(gm_process_advise(pidfd, ranges, 100, GM_ADVICE_COLD, &done, &err), ENOMEM,
		"advice for 0x1000 and 0x1000 bytes");
	assert_int_equal(err.gpa, PAGE);
	assert_int_equal(done, 80 * PAGE);
	ranges[70] = stretch(5, PAGE);
	assert_int_equal(
		gm_process_advise(pidfd, ranges, 100, GM_ADVICE_COLD, &done, NULL), -EINVAL);
	assert_int_equal(done, 70 * PAGE);
	/* Nothing, and empty stretches. */
	assert_ok(gm_process_advise(pidfd, NULL, 0, GM_ADVICE_COLD, &done, &err));
	assert_int_equal(done, 0);
	ranges[0] = ranges[2] = stretch(0, 0);
	assert_ok(gm_process_advise(pidfd, ranges, 3, GM_ADVICE_COLD, &done, &err));
	assert_int_equal(done, PAGE);
	assert_fails(gm_process_advise(pidfd, ranges, 3, (enum gm_advice)4, &done, &err), EINVAL,
		"advice 4");
	assert_int_equal(gm_process_advise(-1, ranges, 3, GM_ADVICE_COLD, &done, NULL), -EBADF);
	end_child();
	assert_fails(gm_process_advise(pidfd, ranges, 3, GM_ADVICE_COLD, &done, &err), ESRCH, "");
	assert_int_equal(done, 0);
	stop();
}

static void others_may_not(void **state)
{
	pid_t other;
	int status;

	(void)state;
	start_child(false);
	other = fork();
	if (other == 0) {
		struct iovec range = stretch(0, PAGE);

		_exit(setuid(65534) ||
			gm_process_advise(pidfd, &range, 1, GM_ADVICE_COLD, NULL, &err) !=
				-EACCES ||
			!strstr(err.text, "CAP_SYS_NICE"));
	}
	assert_int_equal(waitpid(other, &status, 0), other);
	assert_int_equal(status, 0);
	end_child();
	stop();
}

static void calls_that_are_interrupted_go_on(void **state)
{
	struct iovec ranges[2];
	uint64_t done;

	(void)state;
	start_child(false);
	ranges[0] = stretch(0, PAGE);
	ranges[1] = stretch(2 * PAGE, PAGE);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_madvise_many, .nth = 1, .error = EINTR});
	assert_ok(gm_process_advise(pidfd, ranges, 2, GM_ADVICE_COLD, &done, &err));
	assert_int_equal(fault_calls(FAULT_gm_sys_madvise_many), 2);
	assert_int_equal(done, 2 * PAGE);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_madvise_many, .nth = 1, .error = EAGAIN});
	assert_fails(gm_process_advise(pidfd, ranges, 2, GM_ADVICE_COLD, &done, &err), EAGAIN, "");
	assert_int_equal(fault_calls(FAULT_gm_sys_madvise_many), 1);
	assert_int_equal(done, 0);
	fault_set(NULL);
	end_child();
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_become_huge),
		cmocka_unit_test(pages_of_a_file_go_and_come),
		cmocka_unit_test(an_error_tells_how_far_it_came),
		cmocka_unit_test(others_may_not),
		cmocka_unit_test(calls_that_are_interrupted_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
