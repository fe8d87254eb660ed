/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_memfile_raw.c - raw files, files with holes, layers, and differences of two memories: each is read back as what
 * it was made of, moved to another base too. Full disks, targets that are the source, calls that fail.
 */
#include "saved.h"

#include <guestmem/memfile.h>
#include <stdlib.h>

#include "sys/sys.h"

#define PAGES 300 /* some words of bits, and more than a step */
#define LEN (PAGES * PAGE)
#define WORDS (PAGES / 64 + 1)

static struct gm_error err;
static uint8_t memory[LEN];
static uint8_t other[LEN];
static uint8_t third[LEN];
static uint8_t bytes[LEN];

/* Runs of pages of all sorts. */
static void fill_memory(struct rng *rng, uint8_t *to)
{
	enum sort sort = ZEROS;

	for (size_t i = 0; i < PAGES; i++) {
		if (rng_below(rng, 6) == 0)
			sort = (enum sort)rng_below(rng, SORTS);
		fill_page(to + i * PAGE, sort, rng);
	}
}

/* Some pages of another memory, some of them zeros now. */
static void change(struct rng *rng, uint8_t *to, const uint8_t *from)
{
	memcpy(to, from, LEN);
	for (uint64_t i = rng_below(rng, 60) + 1; i; i--)
		fill_page(to + rng_below(rng, PAGES) * PAGE, (enum sort)rng_below(rng, SORTS), rng);
}

static struct gm_source *source_of(const uint8_t *from)
{
	struct gm_source *source;

	assert_ok(gm_source_memory(from, LEN, &source, &err));
	return source;
}

static int open_file(const char *name)
{
	int fd = open(in_dir(name), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static uint64_t data_of(const char *name)
{
	int fd = open_file(name);
	uint64_t nr = 0;

	for (off_t at = 0, end; (at = lseek(fd, at, SEEK_DATA)) >= 0; at = end) {
		end = lseek(fd, at, SEEK_HOLE);
		nr += (uint64_t)(end - at);
	}
	assert_int_equal(lseek(fd, 0, SEEK_END), LEN);
	close(fd);
	return nr;
}

static uint64_t ones(const uint64_t *bits)
{
	uint64_t nr = 0;

	for (size_t i = 0; i < WORDS; i++)
		nr += (uint64_t)__builtin_popcountll(bits[i]);
	return nr;
}

/* Files on each other have @expected. */
static void assert_has(const uint8_t *expected, const char *low, const char *high)
{
	int fds[2] = {open_file(low), high ? open_file(high) : -1};
	struct gm_memfile *m;

	assert_ok(gm_memfile_open(fds, high ? 2 : 1, NULL, &m, &err));
	assert_int_equal(gm_source_len(gm_memfile_source(m)), LEN);
	assert_ok(gm_source_read(gm_memfile_source(m), 0, bytes, LEN, &err));
	assert_memory_equal(bytes, expected, LEN);
	gm_memfile_close(m);
	close(fds[0]);
	if (high)
		close(fds[1]);
}

static int write_raw(struct gm_source *source, const char *path, uint32_t flags,
	const uint64_t *dirty, uint64_t *ret_data)
{
	return gm_memfile_write_raw(source, path,
		GM_OPTS(gm_memfile_raw_opts, .flags = flags, .dirty = dirty), ret_data, &err);
}

/* ---- round trips ---- */

static void raw_files_have_all_and_those_with_holes_what_is_not_zero(void **state)
{
	struct rng rng = {test_seed(71)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(8); i++) {
		struct gm_source *source;
		uint64_t data = 0;
		uint64_t full = 0;
		int fd = -1;

		fill_memory(&rng, memory);
		for (size_t p = 0; p < PAGES; p++)
			full += memcmp(memory + p * PAGE, (uint8_t[PAGE]){0}, PAGE) != 0;
		source = source_of(memory);
		if (i % 2) {
			/* A source with holes of its own. */
			gm_source_destroy(source);
			fd = random_memory(&rng, memory, PAGES);
			assert_ok(gm_source_file(fd, 0, 0, &source, &err));
			close(fd);
			full = 0;
			for (size_t p = 0; p < PAGES; p++)
				full += memcmp(memory + p * PAGE, (uint8_t[PAGE]){0}, PAGE) != 0;
		}
		assert_ok(write_raw(source, in_dir("a"), 0, NULL, &data));
		assert_int_equal(data, LEN);
		assert_int_equal(data_of("a"), LEN);
		assert_has(memory, "a", NULL);
		assert_ok(write_raw(source, in_dir("b"), GM_MEMFILE_HOLES, NULL, &data));
		assert_int_equal(data, full * PAGE);
		assert_int_equal(data_of("b"), full * PAGE);
		assert_has(memory, "b", NULL);
		gm_source_destroy(source);
	}
}

static void a_difference_of_two_is_what_differs(void **state)
{
	struct rng rng = {test_seed(72)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(8); i++) {
		struct gm_source *a;
		struct gm_source *b;
		uint64_t bits[WORDS];
		uint64_t data;

		fill_memory(&rng, other);
		change(&rng, memory, other);
		a = source_of(memory);
		b = source_of(other);
		assert_ok(write_raw(b, in_dir("a"), (uint32_t)(i % 2), NULL, NULL));
		if (i % 2) {
			int fd = open_file("a");

			gm_source_destroy(b);
			assert_ok(gm_source_file(fd, 0, 0, &b, &err));
			close(fd);
		}
		memset(bits, 0xff, sizeof(bits));
		assert_ok(gm_memfile_compare(a, b, bits, NULL, NULL, &err));
		for (size_t p = 0; p < PAGES; p++)
			assert_int_equal(bits[p / 64] >> p % 64 & 1,
				memcmp(memory + p * PAGE, other + p * PAGE, PAGE) != 0);
		assert_ok(write_raw(a, in_dir("b"), GM_MEMFILE_HOLES, bits, &data));
		assert_int_equal(data, ones(bits) * PAGE);
		assert_int_equal(data_of("b"), data);
		assert_has(memory, "a", "b");
		gm_source_destroy(a);
		gm_source_destroy(b);
	}
}

static const struct gm_snapshot_region region = {.len = LEN, .page_size = 4096, .name = "ram"};

static void save(struct gm_source *source, const char *name, const uint64_t *dirty,
	const struct gm_snapshot_info *base, struct gm_snapshot_info *info)
{
	struct gm_snapshot_opts opts = {.size = sizeof(opts), .dirty = dirty, .chunk = 8192};

	if (base)
		memcpy(opts.base, base->identity, 16);
	*info = (struct gm_snapshot_info){.size = sizeof(*info)};
	assert_ok(gm_snapshot_write(source, &region, 1, in_dir(name), &opts, info, &err));
}

static void a_difference_is_moved_to_another_base(void **state)
{
	struct rng rng = {test_seed(73)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(5); i++) {
		struct gm_snapshot_info first;
		struct gm_snapshot_info second;
		struct gm_snapshot_info info;
		struct gm_memfile *m;
		struct gm_memfile *new;
		struct gm_source *sources[3];
		uint64_t bits[WORDS];
		int fds[3];

		fill_memory(&rng, memory);
		change(&rng, other, memory);
		change(&rng, third, memory);
		sources[0] = source_of(memory);
		sources[1] = source_of(other);
		sources[2] = source_of(third);
		save(sources[0], "a", NULL, NULL, &first);
		assert_ok(gm_memfile_compare(sources[1], sources[0], bits, NULL, NULL, &err));
		save(sources[1], "b", bits, &first, &info);
		assert_has(other, "a", "b");
		save(sources[2], "c", NULL, NULL, &second);
		/* What "b" on "a" is, as a difference from "c". */
		fds[0] = open_file("a");
		fds[1] = open_file("b");
		fds[2] = open_file("c");
		assert_ok(gm_memfile_open(fds, 2, NULL, &m, &err));
		assert_ok(gm_memfile_open(fds + 2, 1, NULL, &new, &err));
		assert_ok(gm_memfile_compare(
			gm_memfile_source(m), gm_memfile_source(new), bits, NULL, NULL, &err));
		save(gm_memfile_source(m), "b", bits, &second, &info);
		assert_true(info.data <= ones(bits) * PAGE);
		gm_memfile_close(m);
		gm_memfile_close(new);
		assert_has(other, "c", "b");
		for (int s = 0; s < 3; s++) {
			close(fds[s]);
			gm_source_destroy(sources[s]);
		}
	}
}

static void a_longer_one_is_compared_with_zeros(void **state)
{
	struct gm_source *a;
	struct gm_source *b;
	uint64_t bits[WORDS];

	(void)state;
	memset(memory, 0, LEN);
	memory[290 * PAGE] = 1;
	memory[5 * PAGE + 100] = 1;
	a = source_of(memory);
	assert_ok(gm_source_memory(memory, 5 * PAGE + 50, &b, &err));
	assert_ok(gm_memfile_compare(a, b, bits, NULL, NULL, &err));
	assert_int_equal(ones(bits), 2);
	assert_true((bits[0] >> 5 & 1) && (bits[290 / 64] >> 290 % 64 & 1));
	assert_fails(gm_memfile_compare(b, a, bits, NULL, NULL, &err), EINVAL, "0x5032 bytes");
	assert_fails(write_raw(b, in_dir("a"), 0, NULL, NULL), EINVAL, "0x5032 bytes");
	gm_source_destroy(a);
	gm_source_destroy(b);
}

/* ---- what is refused ---- */

static int cancel(void *ctx, uint64_t done, uint64_t total)
{
	uint64_t *calls = ctx;

	assert_true(done <= total && total == LEN);
	return ++*calls == 2;
}

static void what_cannot_be_leaves_the_old_file(void **state)
{
	struct gm_memfile_raw_opts opts = {.size = sizeof(opts), .flags = 2};
	struct rng rng = {test_seed(74)};
	struct gm_source *source;
	struct gm_source *file;
	uint64_t bits[WORDS];
	uint64_t calls = 0;
	int fd;

	(void)state;
	fill_memory(&rng, memory);
	source = source_of(memory);
	assert_ok(write_raw(source, in_dir("a"), GM_MEMFILE_HOLES, NULL, NULL));
	fd = open_file("a");
	assert_ok(gm_source_file(fd, 0, 0, &file, &err));
	close(fd);
	assert_fails(write_raw(file, in_dir("a"), 0, NULL, NULL), EINVAL, "the memory lies in");
	assert_fails(gm_memfile_write_raw(source, in_dir("a"), &opts, NULL, &err), EINVAL, "flags");
	opts.size = 4;
	assert_int_equal(gm_memfile_write_raw(source, in_dir("a"), &opts, NULL, &err), -EINVAL);
	opts = (struct gm_memfile_raw_opts){
		.size = sizeof(opts), .progress = cancel, .ctx = &calls};
	assert_fails(gm_memfile_write_raw(source, in_dir("a"), &opts, NULL, &err), ECANCELED,
		"canceled");
	calls = 0;
	assert_fails(gm_memfile_compare(file, source, bits, cancel, &calls, &err), ECANCELED,
		"canceled");
	assert_fails(write_raw(source, "/proc/self/x/a", 0, NULL, NULL), ENOENT, "its directory");
	assert_fails(write_raw(source, "/proc/self/a", 0, NULL, NULL), ENOENT, "cannot be made");
	gm_source_destroy(source);
	gm_source_destroy(file);
	assert_has(memory, "a", NULL);
	assert_false(is_there(".a.part"));
}

static void what_a_difference_lacks_is_an_error(void **state)
{
	uint64_t dirty[WORDS] = {4};
	struct gm_snapshot_info first;
	struct gm_snapshot_info info;
	struct gm_source *source;
	struct gm_memfile *m;
	uint64_t bits[WORDS];
	int fd;

	(void)state;
	source = source_of(memory);
	save(source, "a", NULL, NULL, &first);
	save(source, "b", dirty, &first, &info);
	fd = open_file("b");
	assert_ok(gm_memfile_open(
		&fd, 1, GM_OPTS(gm_memfile_opts, .flags = GM_MEMFILE_PART), &m, &err));
	close(fd);
	assert_fails(write_raw(gm_memfile_source(m), in_dir("c"), 0, NULL, NULL), ENODATA,
		"a difference is not all of it");
	assert_fails(gm_memfile_compare(source, gm_memfile_source(m), bits, NULL, NULL, &err),
		ENODATA, "a difference is not all of it");
	/* Its own pages are there: they become a layer. */
	assert_ok(write_raw(gm_memfile_source(m), in_dir("c"), 0, dirty, NULL));
	assert_int_equal(data_of("c"), PAGE);
	gm_memfile_close(m);
	gm_source_destroy(source);
}

static void a_full_disk_leaves_the_old_file(void **state)
{
	int tmpfs = gm_sys_tmpfs(LEN + 64 * PAGE);
	struct rng rng = {test_seed(75)};
	struct gm_source *source;
	struct gm_source *noise;
	char path[64];
	int fd;

	(void)state;
	if (tmpfs < 0) {
		printf("skipped: no mount of a tmpfs\n");
		skip();
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d/a", tmpfs);
	memset(memory, 0, LEN);
	fill_page(memory, NOISE, &rng);
	source = source_of(memory);
	for (size_t i = 0; i < PAGES; i++)
		fill_page(other + i * PAGE, NOISE, &rng);
	noise = source_of(other);
	assert_ok(write_raw(source, path, GM_MEMFILE_HOLES, NULL, NULL));
	assert_int_equal(gm_sys_tmpfs_resize(tmpfs, 100 * PAGE), 0);
	assert_fails(write_raw(noise, path, 0, NULL, NULL), ENOSPC, "cannot be written");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, bytes, LEN, 0), LEN);
	assert_memory_equal(bytes, memory, LEN);
	close(fd);
	assert_int_equal(faccessat(tmpfs, ".a.part", F_OK, 0), -1);
	gm_source_destroy(source);
	gm_source_destroy(noise);
	close(tmpfs);
}

static int scenario(void *ctx)
{
	struct gm_source **sources = ctx;
	uint64_t bits[WORDS];
	int rc = gm_memfile_compare(sources[0], sources[1], bits, NULL, NULL, &err);

	if (!rc)
		rc = write_raw(sources[0], in_dir("a"), GM_MEMFILE_HOLES, bits, NULL);
	if (!rc)
		rc = write_raw(sources[1], in_dir("b"), GM_MEMFILE_HOLES, NULL, NULL);
	fault_disarm();
	assert_true(rc == 0 || (err.code == rc && err.text[0]));
	if (!rc)
		assert_has(memory, "b", "a");
	assert_false(is_there(".a.part") || is_there(".b.part"));
	return rc;
}

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {ENOSPC};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1, .eintr = 2};
	struct rng rng = {test_seed(76)};
	struct gm_source *sources[2];

	(void)state;
	fill_memory(&rng, other);
	memcpy(memory, other, LEN);
	memory[LEN / 2] ^= 1;
	sources[0] = source_of(memory);
	sources[1] = source_of(other);
	assert_true(fault_sweep_opts(scenario, sources, &opts) >= 2 * 16);
	assert_true(fault_sweep_opts(scenario, sources, &storm) >= 2 * 16);
	gm_source_destroy(sources[0]);
	gm_source_destroy(sources[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_fast_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(raw_files_have_all_and_those_with_holes_what_is_not_zero),
		TEST(a_difference_of_two_is_what_differs),
		TEST(a_difference_is_moved_to_another_base),
		TEST(a_longer_one_is_compared_with_zeros),
		TEST(what_cannot_be_leaves_the_old_file),
		TEST(what_a_difference_lacks_is_an_error),
		TEST(a_full_disk_leaves_the_old_file),
		TEST(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
