/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mappings.c - lists of mappings, sums of processes, and processes that end, change or are not
 * ours. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kinds.h"

#define PAGE ((uint64_t)4096)
#define NOBODY 65534

static struct gm_residency *open_ok(pid_t pid)
{
	struct gm_residency *res;
	struct gm_error err;

	assert_ok(gm_residency_open(pid, &res, &err));
	return res;
}

/* The mapping that begins at @addr. */
static struct gm_mapping find(struct gm_residency *res, uint32_t flags, const void *addr)
{
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_mappings *it;
	struct gm_error err;
	int rc;

	assert_ok(gm_mappings_open(res, flags, &it, &err));
	do {
		rc = gm_mappings_next(it, &m);
		assert_int_equal(rc, 1);
	} while (m.start != (uintptr_t)addr);
	gm_mappings_close(it);
	return m;
}

static void a_memfd_is_described(void **state)
{
	static const char name[] = "line\nbreak \033[31m";
	struct gm_residency *res = open_ok(0);
	struct gm_mapping m;
	struct stat st;
	int fd = memfd_create(name, MFD_CLOEXEC);
	char *at;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)MIB(4)), 0);
	assert_int_equal(fstat(fd, &st), 0);
	at = mmap(NULL, MIB(2), PROT_READ, MAP_SHARED, fd, (off_t)MIB(1));
	assert_ptr_not_equal(at, MAP_FAILED);
	for (uint32_t flags = 0; flags <= GM_MAPPINGS_DETAILS; flags++) {
		m = find(res, flags, at);
		assert_int_equal(m.len, MIB(2));
		assert_int_equal(m.offset, MIB(1));
		assert_int_equal(m.inode, st.st_ino);
		assert_int_equal(m.dev_major, major(st.st_dev));
		assert_int_equal(m.dev_minor, minor(st.st_dev));
		assert_int_equal(
			m.flags & (GM_MAPPING_R | GM_MAPPING_W | GM_MAPPING_X), GM_MAPPING_R);
		assert_true(m.flags & GM_MAPPING_SHARED && m.flags & GM_MAPPING_FILE);
		assert_int_equal(m.page_size, PAGE);
		/* The kernel has made the line break visible. */
		assert_string_equal(m.name, "/memfd:line\\012break \033[31m (deleted)");
	}
	munmap(at, MIB(2));
	close(fd);
	gm_residency_close(res);
}

static void advice_shows_in_the_details(void **state)
{
	static const struct {
		int advice;
		uint32_t flag;
	} advices[] = {
		{MADV_HUGEPAGE, GM_MAPPING_THP},
		{MADV_NOHUGEPAGE, GM_MAPPING_NOTHP},
		{MADV_DONTFORK, GM_MAPPING_DONTFORK},
		{MADV_DONTDUMP, GM_MAPPING_DONTDUMP},
		{MADV_MERGEABLE, GM_MAPPING_MERGE},
	};
	struct gm_residency *res = open_ok(0);

	(void)state;
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
		char *at = mmap(
			NULL, MIB(4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct gm_mapping m;

		/* In the middle, so that it is a mapping of its own. */
		assert_int_equal(madvise(at + MIB(1), MIB(1), advices[i].advice), 0);
		memset(at + MIB(1), 1, PAGE);
		m = find(res, GM_MAPPINGS_DETAILS, at + MIB(1));
		assert_int_equal(m.flags & advices[i].flag, advices[i].flag);
		assert_true(m.flags & GM_MAPPING_DETAILS && !(m.flags & GM_MAPPING_FILE));
		assert_int_equal(m.rss, support_smaps(at + MIB(1), "Rss:"));
		m = find(res, 0, at + MIB(1));
		assert_false(m.flags & (GM_MAPPING_DETAILS | advices[i].flag));
		munmap(at, MIB(4));
	}
	gm_residency_close(res);
}

static void hugetlb_is_known_with_and_without_details(void **state)
{
	struct gm_residency *res = open_ok(0);
	struct gm_mapping m;
	char *at;

	(void)state;
	assert_true(support_pool(21, 2));
	at = mmap(NULL, MIB(4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		-1, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	at[0] = 1;
	m = find(res, 0, at);
	assert_int_equal(m.page_size, MIB(2));
	assert_true(m.flags & GM_MAPPING_HUGETLB);
	m = find(res, GM_MAPPINGS_DETAILS, at);
	assert_int_equal(m.page_size, MIB(2));
	assert_true(m.flags & GM_MAPPING_HUGETLB);
	assert_int_equal(m.rss, 0);
	assert_int_equal(m.hugetlb, MIB(2));
	munmap(at, MIB(4));
	gm_residency_close(res);
}

/* Thousands of mappings: many reads of the list. */
static void a_long_list_is_complete(void **state)
{
	enum { NR = 3000 };
	struct gm_residency *res = open_ok(0);
	char *at = mmap(NULL, NR * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t last = 0;
	size_t nr = 0;

	(void)state;
	for (size_t i = 0; i < NR; i += 2)
		assert_int_equal(mprotect(at + i * PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	for (uint32_t flags = 0; flags <= GM_MAPPINGS_DETAILS; flags++) {
		struct gm_mapping m = {.size = sizeof(m)};
		struct gm_mappings *it;
		struct gm_error err;

		assert_ok(gm_mappings_open(res, flags, &it, &err));
		for (nr = 0, last = 0; gm_mappings_next(it, &m) > 0; last = m.start + m.len) {
			assert_true(m.start >= last && m.len > 0);
			if (m.start >= (uintptr_t)at && m.start < (uintptr_t)at + NR * PAGE)
				nr++;
		}
		assert_int_equal(gm_mappings_next(it, &m), 0);
		gm_mappings_close(it);
		assert_int_equal(nr, NR);
	}
	munmap(at, NR * PAGE);
	gm_residency_close(res);
}

static void what_is_not_mapped_counts_nothing(void **state)
{
	struct gm_residency *res = open_ok(0);
	struct gm_usage usage = {.size = sizeof(usage)};
	struct gm_error err;
	char *at = mmap(NULL, MIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	memset(at, 1, MIB(2));
	munmap(at, MIB(2));
	for (uint32_t flags = 0; flags < 8; flags++) {
		assert_ok(gm_residency_usage(res, (uintptr_t)at, MIB(2), flags, &usage, &err));
		assert_int_equal(usage.present + usage.zero + usage.swapped + usage.extents, 0);
		assert_ok(gm_residency_usage(res, (uintptr_t)at, 0, flags, &usage, &err));
		/* Addresses that no process has; the page of old system calls is there. */
		assert_ok(gm_residency_usage(res, 0xffffffffff600000, PAGE, flags, &usage, &err));
		assert_ok(gm_residency_usage(res, 0x8000000000000000, MIB(2), flags, &usage, &err));
		assert_int_equal(usage.present, 0);
	}
	gm_residency_close(res);
}

static int stop_at_once(void *arg, const struct gm_extent *e)
{
	(void)e;
	return *(int *)arg;
}

static void the_caller_can_stop_a_walk(void **state)
{
	struct gm_residency *res = open_ok(0);
	struct gm_error err;
	struct kind kind;
	int say;

	(void)state;
	kind_anon_every_other_page(&kind);
	for (uint32_t flags = 0; flags < 8; flags++) {
		for (say = -5; say <= 7; say += 12)
			assert_int_equal(gm_residency_extents(res, (uintptr_t)kind.addr, kind.len,
						 flags, stop_at_once, &say, NULL, &err),
				say);
	}
	munmap(kind.addr, kind.len);
	gm_residency_close(res);
}

static void bad_arguments_are_refused(void **state)
{
	struct gm_residency *res = open_ok(0);
	struct gm_usage usage = {.size = sizeof(usage)};
	struct gm_usage small = {.size = sizeof(usage) - 8};
	struct gm_process_memory memory = {.size = 8};
	struct gm_mapping m = {.size = 8};
	struct gm_mappings *it;
	struct gm_error err;

	(void)state;
	assert_fails(gm_residency_usage(res, 1, PAGE, 0, &usage, &err), EINVAL, "whole pages");
	assert_fails(gm_residency_usage(res, 0, 1, 0, &usage, &err), EINVAL, "whole pages");
	assert_fails(gm_residency_usage(res, PAGE, UINT64_MAX - PAGE + 1, 0, &usage, &err), EINVAL,
		"reaches 2^64");
	for (uint64_t len = PAGE; len; len <<= 1)
		assert_fails(gm_residency_usage(res, -len, len, 0, &usage, &err), EINVAL,
			"reaches 2^64");
	assert_fails(
		gm_residency_usage(res, -PAGE, GIB(1), 0, &usage, &err), EINVAL, "reaches 2^64");
	assert_fails(gm_residency_usage(res, 0, PAGE, 0x81, &usage, &err), EINVAL,
		"flags 0x81: 0x80 is none of GM_RESIDENCY_*");
	assert_fails(gm_residency_usage(res, 0, PAGE, 0, &small, &err), EINVAL, "size");
	assert_fails(gm_residency_process(res, &memory, &err), EINVAL, "size");
	assert_fails(gm_mappings_open(res, 2, &it, &err), EINVAL, "flags 0x2: 0x2 is none of");
	assert_ok(gm_mappings_open(res, 0, &it, &err));
	assert_int_equal(gm_mappings_next(it, &m), -EINVAL);
	gm_mappings_close(it);
	gm_mappings_close(NULL);
	gm_residency_close(res);
	gm_residency_close(NULL);
	assert_fails(gm_residency_open(-1, &res, &err), ESRCH, "process -1");
	assert_fails(gm_residency_open(0x7fffffff, &res, &err), ESRCH, "process 2147483647");
}

static pid_t sleeping_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	return pid;
}

static void everything_says_gone(struct gm_residency *res, const void *addr)
{
	struct gm_process_memory memory = {.size = sizeof(memory)};
	struct gm_usage usage = {.size = sizeof(usage)};
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_mappings *it;
	struct gm_error err;
	int rc;

	for (uint32_t flags = 0; flags < 8; flags++)
		assert_fails(gm_residency_usage(res, (uintptr_t)addr, MIB(1), flags, &usage, &err),
			ESRCH, "process");
	rc = gm_mappings_open(res, 0, &it, &err);
	if (rc == 0) {
		rc = gm_mappings_next(it, &m);
		gm_mappings_close(it);
	}
	assert_int_equal(rc, -ESRCH);
	rc = gm_residency_process(res, &memory, &err);
	/* A zombie still has a status. */
	assert_true(rc == 0 || rc == -ESRCH);
}

static void a_process_that_has_ended_is_gone(void **state)
{
	char *at = mmap(NULL, MIB(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct gm_residency *res;
	siginfo_t info;
	pid_t pid;

	(void)state;
	memset(at, 1, MIB(1));
	pid = sleeping_child();
	res = open_ok(pid);
	kill(pid, SIGKILL);
	/* As a zombie, and after that. */
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	everything_says_gone(res, at);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	everything_says_gone(res, at);
	gm_residency_close(res);
	munmap(at, MIB(1));
}

/* The child maps and unmaps without end: whatever is seen, it is no failure and never too much. */
static void mappings_may_come_and_go_meanwhile(void **state)
{
	uint64_t at = UINT64_C(0x600000000000);
	struct gm_residency *res;
	struct gm_error err;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			void *p = mmap((void *)at, MIB(4), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

			madvise(p, MIB(4), MADV_HUGEPAGE);
			for (size_t i = 0; i < MIB(4); i += PAGE)
				((volatile char *)p)[i] = 1;
			munmap(p, MIB(4));
		}
	}
	res = open_ok(pid);
	for (unsigned long i = 0; i < support_scale(400); i++) {
		struct gm_usage usage = {.size = sizeof(usage)};

		assert_ok(gm_residency_usage(res, at, MIB(4), (uint32_t)i % 8, &usage, &err));
		assert_true(usage.present + usage.zero + usage.swapped <= MIB(4));
	}
	gm_residency_close(res);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Runs @fn in a child with neither privilege nor our uid; false if it failed. */
static bool as_nobody(bool (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (setgid(NOBODY) || setuid(NOBODY))
			_exit(99);
		/* Otherwise its own files below /proc belong to root. */
		prctl(PR_SET_DUMPABLE, 1);
		_exit(fn() ? 0 : 1);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool init_is_not_ours(void)
{
	struct gm_usage usage = {.size = sizeof(usage)};
	struct gm_residency *res;
	struct gm_mappings *it;
	struct gm_error err;
	bool well;
	int rc;

	if (gm_residency_open(1, &res, &err))
		return false;
	rc = gm_residency_usage(res, 0, MIB(1), 0, &usage, &err);
	well = (rc == -EACCES || rc == -EPERM) && err.code == rc;
	rc = gm_mappings_open(res, 0, &it, &err);
	well = well && (rc == -EACCES || rc == -EPERM);
	gm_residency_close(res);
	return well;
}

static bool own_memory_without_privilege(void)
{
	struct gm_residency *res;
	struct gm_error err;
	struct kind kind;
	bool well = true;

	kind_anon_thp(&kind);
	if (gm_residency_open(0, &res, &err))
		return false;
	for (uint32_t flags = 0; flags < 8; flags++) {
		struct gm_usage usage = {.size = sizeof(usage)};

		well = well &&
		       gm_residency_usage(
			       res, (uintptr_t)kind.addr, kind.len, flags, &usage, &err) == 0 &&
		       usage.present == kind.want.present && usage.by_log2[21] == MIB(6) &&
		       usage.unseen & GM_UNSEEN_FOLIOS &&
		       (flags & GM_RESIDENCY_SHARED || usage.unseen & GM_UNSEEN_SHARED);
	}
	gm_residency_close(res);
	return well;
}

static void foreign_processes_are_refused(void **state)
{
	(void)state;
	if (getuid() != 0)
		skip();
	assert_true(as_nobody(init_is_not_ours));
}

static void without_privilege_it_says_what_it_cannot_see(void **state)
{
	(void)state;
	assert_true(support_knob("/sys/kernel/mm/transparent_hugepage/enabled", "madvise"));
	if (getuid() != 0)
		skip();
	assert_true(as_nobody(own_memory_without_privilege));
}

static void sums_of_a_process_are_those_of_proc(void **state)
{
	struct gm_process_memory memory = {.size = sizeof(memory)};
	struct gm_residency *res = open_ok(0);
	struct gm_error err;
	char line[256];
	FILE *file;
	unsigned long long tables = 0;

	(void)state;
	prctl(PR_SET_NAME, "odd \033 name");
	file = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof(line), file))
		sscanf(line, "VmPTE: %llu", &tables);
	fclose(file);
	assert_ok(gm_residency_process(res, &memory, &err));
	assert_int_equal(memory.page_tables, tables * 1024);
	assert_true(memory.rss > 0 && memory.rss != UINT64_MAX);
	assert_int_equal(memory.hugetlb, 0);
	assert_int_equal(memory.swap, 0);
	assert_int_equal(memory.ksm_merging, 0);
	/* The kernel escapes some of it. */
	assert_non_null(strstr(memory.name, "odd "));
	gm_residency_close(res);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_memfd_is_described),
		cmocka_unit_test(advice_shows_in_the_details),
		cmocka_unit_test(hugetlb_is_known_with_and_without_details),
		cmocka_unit_test(a_long_list_is_complete),
		cmocka_unit_test(what_is_not_mapped_counts_nothing),
		cmocka_unit_test(the_caller_can_stop_a_walk),
		cmocka_unit_test(bad_arguments_are_refused),
		cmocka_unit_test(a_process_that_has_ended_is_gone),
		cmocka_unit_test(mappings_may_come_and_go_meanwhile),
		cmocka_unit_test(foreign_processes_are_refused),
		cmocka_unit_test(without_privilege_it_says_what_it_cannot_see),
		cmocka_unit_test(sums_of_a_process_are_those_of_proc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
