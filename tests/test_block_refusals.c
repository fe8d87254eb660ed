/* SPDX-License-Identifier: BSD-3-Clause */
/* test_block_refusals.c - what is refused when a block is made, by what code, and how it is said.
 */
#include "one_block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void a_host_without_huge_pages_names_the_knob(void **state)
{
	struct gm_block *block;

	(void)state;
	assert_true(support_knob(SHMEM_KNOB, "never"));
	assert_fails(gm_block_create(GM_OPTS(gm_block_opts, .len = MIB(4), .flags = GM_BLOCK_SHARE,
					     .pages = {{GM_PAGE_THP}}),
			     &block, &err),
		ENOTSUP, "echo advise > " SHMEM_KNOB);
	assert_true(support_knob(THP_KNOB, "never"));
	assert_fails(
		gm_block_create(GM_OPTS(gm_block_opts, .len = MIB(4), .pages = {{GM_PAGE_THP}}),
			&block, &err),
		ENOTSUP, "echo madvise > " THP_KNOB);
	assert_true(support_knob(MTHP_KNOB, "never"));
	assert_fails(
		gm_block_create(GM_OPTS(gm_block_opts, .len = MIB(4), .pages = {{GM_PAGE_THP, 16}}),
			&block, &err),
		ENOTSUP, MTHP_KNOB);
	assert_fails(gm_block_create(GM_OPTS(gm_block_opts, .len = MIB(4),
					     .pages = {{GM_PAGE_HUGETLB, 22}}),
			     &block, &err),
		ENOTSUP, "4096 kB");
	assert_true(support_knob(THP_KNOB, "madvise"));
}

static void a_short_pool_is_refused_with_what_to_do(void **state)
{
	struct gm_block *block;

	(void)state;
	assert_fails(gm_block_create(GM_OPTS(gm_block_opts, .len = GIB(20),
					     .pages = {{GM_PAGE_HUGETLB, 21}}),
			     &block, &err),
		ENOMEM, "needs 10240 huge pages of 2048 kB");
	assert_non_null(strstr(err.text, "hugepages-2048kB/nr_hugepages"));
	/* Without a promise the shortage shows when pages are wanted: as an error, not as a signal.
	 */
	assert_fails(gm_block_create(
			     GM_OPTS(gm_block_opts, .len = GIB(20), .reserve = GM_RESERVE_NONE,
				     .flags = GM_BLOCK_POPULATE, .pages = {{GM_PAGE_HUGETLB, 21}}),
			     &block, &err),
		ENOMEM, "ran out at offset");
}

#define SIZE .size = sizeof(struct gm_block_opts)
#define NAMED(...)                                                                                 \
	{                                                                                          \
		SIZE, .len = KIB(4), __VA_ARGS__                                                   \
	}
#define FILED(...) NAMED(.backing = GM_BACKING_FD, __VA_ARGS__)

struct refusal {
	struct gm_block_opts opts;
	int code;
	const char *word;
};

static void check_refusals(const struct refusal *cases, size_t nr)
{
	struct gm_block *block = (void *)1;

	for (size_t i = 0; i < nr; i++) {
		assert_fails(gm_block_create(&cases[i].opts, &block, &err), cases[i].code,
			cases[i].word);
		assert_ptr_equal(block, (void *)1);
		/* The error is optional. */
		assert_int_equal(gm_block_create(&cases[i].opts, &block, NULL), -cases[i].code);
	}
}

static void bad_options_are_named(void **state)
{
	static char unaligned[2];
	static const uint64_t far = UINT64_C(1) << 63;
	const struct refusal cases[] = {
		{{SIZE}, EINVAL, "length is 0"},
		{{SIZE, .len = 4097}, EINVAL, "not a multiple"},
		{{SIZE, .len = UINT64_MAX - 4095}, EINVAL, "larger than any"},
		{{SIZE, .len = UINT64_C(1) << 50}, ENOMEM, "available (GM_RESERVE_NONE"},
		{{.size = 8, .len = KIB(4)}, EINVAL, "version"},
		{NAMED(.backing = 99), EINVAL, "no such backing"},
		{NAMED(.flags = 1u << 31), EINVAL, "unknown flags"},
		{NAMED(.reserve = 9), EINVAL, "reservation"},
		{NAMED(.align = 3), EINVAL, "power of two"},
		{NAMED(.offset = KIB(4)), EINVAL, "offset is for files"},
		{NAMED(.numa = {.mode = 77}), EINVAL, "NUMA"},
		{NAMED(.numa = {.mode = GM_NUMA_BIND, .nodes = {0, 0, 0, far}}), EINVAL, "NUMA"},
		{NAMED(.numa = {.mode = GM_NUMA_BIND}), EINVAL, "without nodes"},
		{NAMED(.numa = {.mode = GM_NUMA_INTERLEAVE}), EINVAL, "without nodes"},
		{NAMED(.pages = {{0}, {GM_PAGE_BASE}}), EINVAL, "behind the end"},
		{NAMED(.pages = {{GM_PAGE_HUGETLB, 63}}), EINVAL, "log2"},
		{NAMED(.pages = {{GM_PAGE_BASE, 12}}), EINVAL, "page choice"},
		{NAMED(.flags = GM_BLOCK_SHARE | GM_BLOCK_PRIVATE), EINVAL, "exclude"},
		{NAMED(.flags = GM_BLOCK_WIPEONFORK), EINVAL, "WIPEONFORK"},
		{NAMED(.flags = GM_BLOCK_NO_SEAL), EINVAL, "for memfds"},
		{NAMED(.flags = GM_BLOCK_SHARE | GM_BLOCK_MERGE), EINVAL, "no shared pages"},
		{NAMED(.backing = GM_BACKING_MEMFD, .flags = GM_BLOCK_MERGE), EINVAL,
			"no shared pages"},
		{NAMED(.backing = GM_BACKING_FILE), EINVAL, "path"},
		{NAMED(.backing = GM_BACKING_FILE, .path = "/nonexistent/x"), ENOENT,
			"/nonexistent/x"},
		{NAMED(.backing = GM_BACKING_POINTER), EINVAL, "addr"},
		{NAMED(.backing = GM_BACKING_POINTER, .addr = unaligned + 1), EINVAL, "addr"},
	};

	(void)state;
	check_refusals(cases, sizeof(cases) / sizeof(*cases));
}

static void fds_that_do_not_fit_are_named(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd = make_file(MIB(1));
	int ro = open(path, O_RDONLY | O_CLOEXEC);
	int pipes[2] = {-1, -1};
	int rc = pipe(pipes);
	const struct refusal cases[] = {
		{FILED(.fd = -1), EBADF, "fd -1"},
		{FILED(.fd = null), ENODEV, "not a file"},
		{FILED(.fd = pipes[0]), ENODEV, "not a file"},
		{FILED(.fd = fd, .offset = MIB(1)), ERANGE, "pass the end"},
		{FILED(.fd = fd, .offset = UINT64_MAX - 4095), ERANGE, "pass the end"},
		{{SIZE, .len = KIB(8), .backing = GM_BACKING_FD, .fd = fd,
			 .offset = MIB(1) - KIB(4)},
			ERANGE, "pass the end"},
		{FILED(.fd = fd, .offset = 100), EINVAL, "multiple of the page size"},
		{FILED(.fd = ro), EACCES, "not open for reading and writing"},
	};

	(void)state;
	assert_int_equal(rc, 0);
	check_refusals(cases, sizeof(cases) / sizeof(*cases));
	close(null);
	close(fd);
	close(ro);
	close(pipes[0]);
	close(pipes[1]);
	unlink(path);
}

static void a_preferred_node_may_be_left_open(void **state)
{
	(void)state;
	gm_block_put(
		make(GM_OPTS(gm_block_opts, .len = KIB(4), .numa = {.mode = GM_NUMA_PREFERRED})));
}

/* Bytes behind what the library knows must be zero. */
static void options_of_a_newer_version_are_refused_if_used(void **state)
{
	struct gm_block *block;
	struct {
		struct gm_block_opts opts;
		char tail[8];
	} newer = {.opts = {.size = sizeof(newer), .len = MIB(1)}, .tail = "x"};

	(void)state;
	assert_fails(gm_block_create(&newer.opts, &block, &err), E2BIG, "version");
	newer.tail[0] = 0;
	assert_ok(gm_block_create(&newer.opts, &block, &err));
	gm_block_put(block);
}

static void a_file_is_created_and_put_back_on_failure(void **state)
{
	struct gm_block *block;
	struct stat st;
	int fd;

	(void)state;
	fd = make_file(0);
	close(fd);
	unlink(path);
	block = make(GM_OPTS(gm_block_opts, .len = MIB(1), .backing = GM_BACKING_FILE, .path = path,
		.flags = GM_BLOCK_CREATE));
	check_usable(block);
	gm_block_put(block);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, MIB(1));
	assert_int_equal(st.st_mode & 0777, 0600);
	/* Grown, and then refused for its page size: the old length is back. */
	assert_fails(
		gm_block_create(GM_OPTS(gm_block_opts, .len = MIB(4), .backing = GM_BACKING_FILE,
					.path = path, .flags = GM_BLOCK_CREATE,
					.pages = {{GM_PAGE_HUGETLB, 21}}),
			&block, &err),
		ENOTSUP, "hugetlbfs");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, MIB(1));
	unlink(path);
	assert_fails(
		gm_block_create(GM_OPTS(gm_block_opts, .len = MIB(4), .backing = GM_BACKING_FILE,
					.path = path, .flags = GM_BLOCK_CREATE,
					.pages = {{GM_PAGE_HUGETLB, 21}}),
			&block, &err),
		ENOTSUP, "hugetlbfs");
	assert_int_equal(stat(path, &st), -1);
}

static void an_error_is_one_line_whatever_the_path_has(void **state)
{
	struct gm_block *block;

	(void)state;
	assert_fails(
		gm_block_create(GM_OPTS(gm_block_opts, .len = KIB(4), .backing = GM_BACKING_FILE,
					.path = "/nonexistent/a\nb\033[31m\177ä"),
			&block, &err),
		ENOENT, "/nonexistent/a?b?[31m?ä: cannot open");
	/* Also where refusals of several choices are put together. */
	assert_fails(gm_block_create(GM_OPTS(gm_block_opts, .len = KIB(4),
					     .backing = GM_BACKING_FILE, .path = "/nonexistent/\t",
					     .pages = {{GM_PAGE_HUGETLB, 21}, {GM_PAGE_BASE}}),
			     &block, &err),
		ENOENT, "/nonexistent/?: cannot open");
	assert_null(strpbrk(err.text, "\t\n"));
}

static int create_limited(const char *file, uint32_t backing, uint64_t len)
{
	struct rlimit limit = {KIB(64), KIB(64)};
	struct gm_block *block;
	int rc;

	if (setrlimit(RLIMIT_FSIZE, &limit))
		return 2;
	rc = gm_block_create(GM_OPTS(gm_block_opts, .len = len, .backing = backing, .path = file,
				     .flags = file ? GM_BLOCK_CREATE : 0),
		&block, &err);
	if (len <= limit.rlim_cur)
		return rc ? 3 : 0;
	return rc == -EFBIG && strstr(err.text, "65536 (RLIMIT_FSIZE: ulimit -f") ? 0 : 1;
}

/* By an error and not by SIGXFSZ. */
static void a_limit_on_the_size_of_files_is_named(void **state)
{
	static const struct {
		bool file;
		uint64_t len;
	} cases[] = {{true, MIB(1)}, {true, KIB(64)}, {false, MIB(1)}, {false, KIB(64)}};
	int fd = make_file(0);

	(void)state;
	close(fd);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool fits = cases[i].len == KIB(64);
		pid_t child;
		int status;

		unlink(path);
		child = fork();
		assert_true(child >= 0);
		if (child == 0)
			_exit(create_limited(cases[i].file ? path : NULL,
				cases[i].file ? GM_BACKING_FILE : GM_BACKING_MEMFD, cases[i].len));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		assert_int_equal(access(path, F_OK), cases[i].file && fits ? 0 : -1);
	}
	unlink(path);
}

static void locking_past_the_limit_says_the_limit(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit limit = {KIB(64), KIB(64)};
		struct gm_block *block;
		int rc;

		setrlimit(RLIMIT_MEMLOCK, &limit);
		if (setresuid(65534, 65534, 65534))
			_exit(2);
		rc = gm_block_create(GM_OPTS(gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_LOCK),
			&block, &err);
		_exit(rc == -ENOMEM && strstr(err.text, "RLIMIT_MEMLOCK is 65536 bytes") ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void pages_that_a_file_cannot_give_are_explained(void **state)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	struct gm_block *block;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)MIB(1)), 0);
	assert_ok(gm_block_create(
		GM_OPTS(gm_block_opts, .len = MIB(1), .backing = GM_BACKING_FD, .fd = fd), &block,
		&err));
	assert_int_equal(ftruncate(fd, (off_t)KIB(512)), 0);
	assert_int_equal(gm_block_populate(block, NULL, &err), -EFAULT);
	assert_int_equal(err.gpa, KIB(512));
	assert_non_null(strstr(err.text, "offset 0x80000: the file system is full, or the file"));
	gm_block_put(block);
	close(fd);
}

/* A sanitizer has reserved more than any such limit by itself. */
#ifndef GM_SANITIZED
static void address_space_that_runs_out_is_an_error(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit limit = {GIB(1), GIB(1)};
		struct gm_space *space;
		struct gm_block *block;
		int rc;

		if (setrlimit(RLIMIT_AS, &limit))
			_exit(2);
		rc = gm_block_create(GM_OPTS(gm_block_opts, .len = GIB(2)), &block, &err);
		if (rc != -ENOMEM || !strstr(err.text, "host addresses"))
			_exit(3);
		rc = gm_space_create(NULL, &space, &err);
		_exit(rc == -ENOMEM && strstr(err.text, "RLIMIT_AS") ? 0 : 4);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_without_huge_pages_names_the_knob),
		cmocka_unit_test(a_short_pool_is_refused_with_what_to_do),
		cmocka_unit_test(bad_options_are_named),
		cmocka_unit_test(fds_that_do_not_fit_are_named),
		cmocka_unit_test(a_preferred_node_may_be_left_open),
		cmocka_unit_test(options_of_a_newer_version_are_refused_if_used),
		cmocka_unit_test(a_file_is_created_and_put_back_on_failure),
		cmocka_unit_test(an_error_is_one_line_whatever_the_path_has),
		cmocka_unit_test(a_limit_on_the_size_of_files_is_named),
		cmocka_unit_test(locking_past_the_limit_says_the_limit),
		cmocka_unit_test(pages_that_a_file_cannot_give_are_explained),
#ifndef GM_SANITIZED
		cmocka_unit_test(address_space_that_runs_out_is_an_error),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
