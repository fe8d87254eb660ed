/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_snapshot_bad.c - saved memory when things go wrong: each byte flipped, each length cut, a full disk, a process
 * that is killed at each call, each call failing in turn.
 */
#include "saved.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "sys/sys.h"

#define PAGES 24

static struct gm_error err;
static uint8_t memory[PAGES * PAGE];

static const struct gm_snapshot_region region = {
	.len = sizeof(memory), .page_size = 4096, .name = "ram"};
static const struct gm_snapshot_label label = {"key", "value", 5};

/* Pages of all sorts, and of two generations. */
static void fill(uint64_t generation)
{
	struct rng rng = {generation};

	for (size_t i = 0; i < PAGES; i++)
		fill_page(memory + i * PAGE, (enum sort)(i % SORTS), &rng);
}

static int save_to(const char *path)
{
	struct gm_source *source;
	int rc;

	err = (struct gm_error){.code = 0};
	rc = gm_source_memory(memory, sizeof(memory), &source, &err);
	if (rc)
		return rc;
	rc = gm_snapshot_write(source, &region, 1, path,
		OPTS(.chunk = 8192, .labels = &label, .nr_labels = 1), NULL, &err);
	gm_source_destroy(source);
	return rc;
}

/* All of a file: 0 if it is what is in memory, 1 if it is something else, or an error. */
static int read_fd(int fd)
{
	static uint8_t bytes[sizeof(memory)];
	const struct gm_snapshot_region *regions;
	struct gm_snapshot_label found;
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	size_t nr;
	bool same;
	int rc = gm_snapshot_open(fd, &snapshot, &err);

	if (rc)
		return rc;
	regions = gm_snapshot_regions(snapshot, &nr);
	same = nr == 1 && !memcmp(regions, &region, sizeof(region)) &&
	       !gm_snapshot_label(snapshot, 0, &found) && found.len == 5 &&
	       !memcmp(found.value, "value", 5);
	rc = gm_snapshot_source(&snapshot, 1, 0, &source, &err);
	gm_snapshot_close(snapshot);
	if (rc)
		return rc;
	rc = gm_source_read(source, 0, bytes, sizeof(bytes), &err);
	same = same && !memcmp(bytes, memory, sizeof(memory));
	gm_source_destroy(source);
	return rc ? rc : !same;
}

static int read_back(const char *name)
{
	int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : read_fd(fd);

	if (fd >= 0)
		close(fd);
	return rc;
}

/* ---- wrong bytes ---- */

static void each_flipped_byte_is_found_or_harmless(void **state)
{
	unsigned long found = 0;
	unsigned long harmless = 0;
	uint8_t *bytes;
	off_t len;
	int copy = memfd_create("copy", MFD_CLOEXEC);
	uint64_t tables;
	int fd;

	(void)state;
	fill(1);
	assert_int_equal(save_to(in_dir("a")), 0);
	fd = open(in_dir("a"), O_RDONLY | O_CLOEXEC);
	len = lseek(fd, 0, SEEK_END);
	bytes = malloc((size_t)len);
	assert_int_equal(pread(fd, bytes, (size_t)len, 0), len);
	memcpy(&tables, bytes + 56, 8);
	assert_int_equal(pwrite(copy, bytes, (size_t)len, 0), len);
	assert_int_equal(read_fd(copy), 0);
	/* All bytes of header and tables, and some of the chunks, more with a larger scale. */
	for (off_t at = 0; at < len; at++) {
		bool chunk = at >= 4096 && (uint64_t)at < tables;
		uint8_t wrong = (uint8_t)(bytes[at] ^ 1u << at % 8);
		int rc;

		if ((chunk || (at > 140 && at < 4080)) &&
			(unsigned long)at % 17 >= support_scale(1))
			continue;
		assert_int_equal(pwrite(copy, &wrong, 1, at), 1);
		rc = read_fd(copy);
		if (rc > 0)
			fail_msg("byte %ld: other memory, and no error", (long)at);
		assert_true(rc == 0 || rc == -EPROTO || rc == -EBADMSG || rc == -ENOTSUP);
		assert_true(rc == 0 || err.text[0]);
		/* What is in no chunk is padding. */
		assert_true(rc || chunk);
		*(rc ? &found : &harmless) += 1;
		assert_int_equal(pwrite(copy, bytes + at, 1, at), 1);
	}
	printf("figure: flipped-bytes-found %lu\nfigure: flipped-bytes-harmless %lu\n", found,
		harmless);
	assert_true(found > 10 * harmless);
	free(bytes);
	close(copy);
	close(fd);
}

static void each_length_that_is_cut_is_found(void **state)
{
	int fd;
	off_t len;

	(void)state;
	fill(1);
	assert_int_equal(save_to(in_dir("a")), 0);
	fd = open(in_dir("a"), O_RDWR | O_CLOEXEC);
	len = lseek(fd, 0, SEEK_END);
	assert_int_equal(ftruncate(fd, len + 1), 0);
	assert_int_equal(read_fd(fd), -EPROTO);
	for (off_t at = len - 1; at >= 0;
		at -= at > 5000 && at < len - 5000 && support_scale(1) < 17 ? 17 : 1) {
		assert_int_equal(ftruncate(fd, at), 0);
		assert_int_equal(read_fd(fd), -EPROTO);
	}
	close(fd);
}

static void a_chunk_that_is_wrong_is_told_and_the_rest_saved(void **state)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	uint8_t byte = 0xff;
	uint8_t bytes[2 * PAGE];
	int fd;

	(void)state;
	fill(1);
	assert_int_equal(save_to(in_dir("a")), 0);
	fd = open(in_dir("a"), O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &byte, 1, 4096 + 100), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 4096 + 100), 1);
	assert_ok(gm_snapshot_open(fd, &snapshot, &err));
	assert_fails(gm_snapshot_verify(snapshot, NULL, NULL, NULL, &err), EBADMSG,
		"chunk 0, 0x2000 bytes of memory at 0x2000");
	assert_fails(
		gm_snapshot_merge(&snapshot, 1, in_dir("b"), NULL, NULL, &err), EBADMSG, "chunk 0");
	assert_false(is_there("b"));
	assert_ok(gm_snapshot_merge(
		&snapshot, 1, in_dir("b"), OPTS(.flags = GM_SNAPSHOT_LOST), &info, &err));
	assert_int_equal(info.lost, 2 * PAGE);
	gm_snapshot_close(snapshot);
	close(fd);
	fd = open(in_dir("b"), O_RDONLY | O_CLOEXEC);
	assert_ok(gm_snapshot_open(fd, &snapshot, &err));
	assert_ok(gm_snapshot_source(&snapshot, 1, 0, &source, &err));
	assert_ok(gm_source_read(source, 6 * PAGE, bytes, 2 * PAGE, &err));
	assert_memory_equal(bytes, memory + 6 * PAGE, 2 * PAGE);
	assert_int_equal(gm_source_read(source, 2 * PAGE, bytes, PAGE, &err), -EHWPOISON);
	gm_source_destroy(source);
	gm_snapshot_close(snapshot);
	close(fd);
}

static void a_file_that_is_cut_while_it_is_open_is_an_error(void **state)
{
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	uint8_t page[PAGE];
	int fd;

	(void)state;
	fill(1);
	assert_int_equal(save_to(in_dir("a")), 0);
	fd = open(in_dir("a"), O_RDWR | O_CLOEXEC);
	assert_ok(gm_snapshot_open(fd, &snapshot, &err));
	assert_ok(gm_snapshot_source(&snapshot, 1, 0, &source, &err));
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_fails(
		gm_source_read(source, 2 * PAGE, page, PAGE, &err), ENODATA, "has become shorter");
	assert_fails(gm_snapshot_verify(snapshot, NULL, NULL, NULL, &err), EBADMSG,
		"has become shorter");
	gm_source_destroy(source);
	gm_snapshot_close(snapshot);
	close(fd);
}

/* ---- the disk, other writers ---- */

static void a_full_disk_leaves_the_old_file(void **state)
{
	int tmpfs = gm_sys_tmpfs(256 << 10);
	char path[64];
	int fd;

	(void)state;
	if (tmpfs < 0) {
		printf("skipped: no mount of a tmpfs\n");
		skip();
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d/a", tmpfs);
	fill(1);
	assert_int_equal(save_to(path), 0);
	assert_int_equal(gm_sys_tmpfs_resize(tmpfs, 52 << 10), 0);
	for (int i = 0; i < 2; i++) {
		fill(2);
		assert_fails(save_to(path), ENOSPC, "cannot be written");
		fill(1);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(read_fd(fd), 0);
		close(fd);
	}
	assert_int_equal(faccessat(tmpfs, ".a.part", F_OK, 0), -1);
	close(tmpfs);
}

static void a_limit_of_files_is_an_error_and_no_signal(void **state)
{
	struct rlimit old;
	struct rlimit small;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 8192;
	fill(1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(save_to(in_dir("a")), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_false(is_there("a") || is_there(".a.part"));
}

static void what_a_dead_writer_left_is_removed_and_a_living_one_kept(void **state)
{
	int fd = open(in_dir(".a.part"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	fill(1);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_fails(save_to(in_dir("a")), EBUSY, "somebody else writes it");
	assert_true(is_there(".a.part"));
	close(fd);
	assert_int_equal(save_to(in_dir("a")), 0);
	assert_int_equal(read_back("a"), 0);
	assert_false(is_there(".a.part"));
	/* Nor is what somebody put there as a link followed. */
	assert_int_equal(symlink("/etc/passwd", in_dir(".a.part")), 0);
	assert_fails(save_to(in_dir("a")), ELOOP, "cannot be made");
	assert_int_equal(unlink(in_dir(".a.part")), 0);
	assert_int_equal(symlink("b", in_dir("c")), 0);
	assert_int_equal(save_to(in_dir("c")), 0);
	assert_int_equal(read_back("c"), 0);
	assert_false(is_there("b"));
}

/* ---- killed ---- */

/* Saves in a child, which is killed in front of its @nth call. False if it came to its end. */
static bool save_and_die(unsigned long nth)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		fault_set(&(struct fault_plan){.fn = FAULT_ANY, .nth = nth, .error = FAULT_KILL});
		_exit(save_to(in_dir("a")) ? 2 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGKILL);
		return true;
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

static void a_killed_writer_leaves_the_old_or_the_new_file(void **state)
{
	unsigned long points = 0;
	unsigned long new = 0;
	unsigned long rounds = support_scale(2);

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		fill(2 * round + 1);
		assert_int_equal(save_to(in_dir("a")), 0);
		for (unsigned long nth = 1;; nth++) {
			int old;
			bool died;

			fill(2 * round + 2);
			died = save_and_die(nth);
			if (!died)
				break;
			points++;
			if (read_back("a") == 0) {
				new ++;
				continue;
			}
			fill(2 * round + 1);
			old = read_back("a");
			if (old)
				fail_msg("killed at call %lu: %d: %s", nth, old, err.text);
		}
		assert_int_equal(read_back("a"), 0);
		assert_false(is_there(".a.part"));
	}
	printf("figure: kill-points %lu\n", points);
	assert_true(points >= 12 * rounds);
	assert_true(new >= rounds &&new < points);
}

/* ---- calls that fail ---- */

static int save_scenario(void *ctx)
{
	int rc = save_to(in_dir("a"));

	(void)ctx;
	assert_true(err.code == rc && (rc == 0 || err.text[0]));
	fault_disarm();
	if (rc) {
		/* The name may be there when only its durability is in doubt. */
		int found = is_there("a") ? read_back("a") : -ENOENT;

		assert_true(found == 0 || found == -ENOENT);
	} else {
		assert_int_equal(read_back("a"), 0);
	}
	assert_false(is_there(".a.part"));
	unlink(in_dir("a"));
	return rc;
}

static int read_scenario(void *ctx)
{
	int fd = *(int *)ctx;
	int rc;

	err = (struct gm_error){.code = 0};
	rc = read_fd(fd);
	fault_disarm();
	assert_true(rc <= 0);
	assert_true(rc == 0 || (err.code == rc && err.text[0]));
	return rc;
}

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {ENOSPC, EIO};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 2};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1, .eintr = 3};
	unsigned long nr;
	int fd;

	(void)state;
	fill(1);
	nr = fault_sweep_opts(save_scenario, NULL, &opts);
	print_message("%lu injections into saving\n", nr);
	assert_true(nr >= 2 * 2 * 12);
	assert_true(fault_sweep_opts(save_scenario, NULL, &storm) >= nr / 2);
	assert_int_equal(save_to(in_dir("a")), 0);
	fd = open(in_dir("a"), O_RDONLY | O_CLOEXEC);
	nr = fault_sweep_opts(read_scenario, &fd, &opts);
	print_message("%lu injections into reading\n", nr);
	assert_true(nr >= 2 * 2 * 12);
	assert_true(fault_sweep_opts(read_scenario, &fd, &storm) >= nr / 2);
	close(fd);
	for (size_t len = 100; len < 10000; len += 997) {
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pwrite,
			.nth = 1,
			.forever = true,
			.short_len = len,
			.eintr = 1});
		assert_int_equal(save_to(in_dir("a")), 0);
		assert_true(fault_hits() > 3);
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pread,
			.nth = 1,
			.forever = true,
			.short_len = len,
			.eintr = 1});
		assert_int_equal(read_back("a"), 0);
		assert_true(fault_hits() > 3);
		fault_set(NULL);
	}
}

/* ---- past the page cache ---- */

#define LARGE (3u << 20)

static uint8_t *large;

static int save_large(uint32_t flags)
{
	const struct gm_snapshot_region all = {.len = LARGE, .page_size = 4096, .name = "ram"};
	struct gm_source *source = NULL;
	int rc;

	err = (struct gm_error){.code = 0};
	rc = gm_source_memory(large, LARGE, &source, &err);
	if (!rc)
		rc = gm_snapshot_write(source, &all, 1, in_dir("a"),
			OPTS(.flags = flags, .codec = GM_SNAPSHOT_LZ4), NULL, &err);
	gm_source_destroy(source);
	return rc;
}

static void assert_large(void)
{
	static uint8_t bytes[LARGE];
	struct gm_snapshot *snapshot;
	struct gm_source *source;
	int fd = open(in_dir("a"), O_RDONLY | O_CLOEXEC);

	assert_ok(gm_snapshot_open(fd, &snapshot, &err));
	assert_ok(gm_snapshot_source(&snapshot, 1, 0, &source, &err));
	assert_ok(gm_source_read(source, 0, bytes, LARGE, &err));
	assert_memory_equal(bytes, large, LARGE);
	gm_source_destroy(source);
	gm_snapshot_close(snapshot);
	close(fd);
}

static int large_scenario(void *ctx)
{
	int rc = save_large(0);

	(void)ctx;
	assert_true(err.code == rc && (rc == 0 || err.text[0]));
	fault_disarm();
	if (!rc)
		assert_large();
	assert_false(is_there(".a.part"));
	unlink(in_dir("a"));
	return rc;
}

static void what_is_long_goes_past_the_page_cache(void **state)
{
	static const int errnos[] = {EINVAL};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1};
	struct rng rng = {test_seed(64)};
	uint32_t mem;
	uint32_t off;
	int fd = open(dir, O_RDONLY | O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	bool can = fd >= 0 && !gm_sys_direct_align(fd, &mem, &off) && mem <= 4096 && off <= 4096;

	(void)state;
	close(fd);
	large = malloc(LARGE);
	for (size_t at = 0; at < LARGE; at += PAGE)
		fill_page(large + at, rng_below(&rng, 9) ? NOISE : TEXT, &rng);
	for (uint32_t flags = 0; flags <= GM_SNAPSHOT_CACHED; flags += GM_SNAPSHOT_CACHED) {
		fault_set(NULL);
		assert_int_equal(save_large(flags), 0);
		/* On, and off again for what is behind the last page. */
		assert_int_equal(fault_calls(FAULT_gm_sys_set_direct), can && !flags ? 2 : 0);
		assert_large();
	}
	/* What falls short, or is refused, goes on through the cache. */
	for (size_t len = 1000; len <= 4096; len += 3096) {
		fault_set(&(struct fault_plan){
			.fn = FAULT_gm_sys_pwrite, .nth = 2, .short_len = len});
		assert_int_equal(save_large(0), 0);
		assert_int_equal(fault_hits(), 1);
		fault_set(NULL);
		assert_large();
	}
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pwrite, .nth = 1, .error = EINVAL});
	assert_int_equal(save_large(0), can ? 0 : -EINVAL);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_true(fault_sweep_opts(large_scenario, NULL, &opts) >= 2 * 12);
	free(large);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_flipped_byte_is_found_or_harmless),
		TEST(each_length_that_is_cut_is_found),
		TEST(a_chunk_that_is_wrong_is_told_and_the_rest_saved),
		TEST(a_file_that_is_cut_while_it_is_open_is_an_error),
		TEST(a_full_disk_leaves_the_old_file),
		TEST(a_limit_of_files_is_an_error_and_no_signal),
		TEST(what_a_dead_writer_left_is_removed_and_a_living_one_kept),
		TEST(a_killed_writer_leaves_the_old_or_the_new_file),
		TEST(each_call_may_fail),
		TEST(what_is_long_goes_past_the_page_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
