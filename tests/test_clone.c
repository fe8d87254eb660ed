/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_clone.c - images that many guests start from: sealed, shared as long as nobody writes, and never changed; by the
 * kernel's paging and by a pager's, in threads, other processes, and spaces.
 */
#include <fcntl.h>
#include <guestmem/clone.h>
#include <guestmem/discard.h>
#include <guestmem/wset.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fault.h"
#include "one_pager.h"
#include "random.h"

#define PAGES UINT64_C(2048)
#define LEN (PAGES * PAGE)
#define ODD (LEN - 5)

static struct gm_source *words;

static struct gm_source *make_source(uint64_t len, uint64_t zero)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops), .len = len, .read = read_words, .extent = extent_of_words};
	struct gm_source *ret;

	memset(&of_source, 0, sizeof(of_source));
	of_source.zero = zero;
	assert_ok(gm_source_create(&ops, &ret, &err));
	return ret;
}

static int make_image(uint64_t zero)
{
	int fd = -1;

	words = make_source(LEN, zero);
	assert_ok(gm_clone_image(words, NULL, &fd, &err));
	gm_source_destroy(words);
	return fd;
}

static uint8_t *map_clone(int fd)
{
	void *at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static bool is_unchanged(int fd)
{
	const uint8_t *at = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	bool same;

	assert_true(at != MAP_FAILED);
	same = has_words(at, 0, LEN);
	munmap((void *)(uintptr_t)at, LEN);
	return same;
}

/* Pages that are this mapping's own. */
static uint64_t own_pages(const uint8_t *at)
{
	long long bytes = support_smaps(at, "Anonymous:");

	assert_true(bytes >= 0);
	return (uint64_t)bytes / PAGE;
}

/* ---- the image ---- */

static void an_image_is_whole_and_sealed(void **state)
{
	uint64_t zero = LEN / 2;
	int fd = make_image(zero);
	uint8_t *at = map_clone(fd);
	struct stat st;
	uint64_t len;

	(void)state;
	assert_ok(gm_clone_check(fd, &len, &err));
	assert_int_equal(len, LEN);
	assert_true(has_words(at, 0, zero));
	/* What is zeros takes no memory until somebody reads it. */
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_blocks * 512, zero);
	assert_true(has_zeros(at + zero, LEN - zero));
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), -1);
	assert_true(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	munmap(at, LEN);
	close(fd);
}

static int stop_half(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	return done >= total / 2;
}

static void what_is_no_image_is_refused(void **state)
{
	int fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t fds = fault_open_fds();
	int image = -1;

	(void)state;
	assert_fails(gm_clone_check(fd, NULL, &err), EPERM, "not sealed");
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), 0);
	assert_fails(gm_clone_check(fd, NULL, &err), EINVAL, "empty");
	assert_fails(gm_clone_check(-1, NULL, &err), EBADF, "memfd");
	words = make_source(ODD, 0);
	of_source.bad = LEN / 2;
	assert_int_equal(gm_clone_image(words, NULL, &image, &err), -EIO);
	of_source.bad = 0;
	assert_fails(
		gm_clone_image(words, GM_OPTS(gm_clone_opts, .progress = stop_half), &image, &err),
		ECANCELED, "cancelled");
	assert_fails(gm_clone_image(words, GM_OPTS(gm_clone_opts, .flags = 1), &image, &err),
		EINVAL, "flag");
	assert_int_equal(image, -1);
	assert_int_equal(fault_open_fds(), fds);
	gm_source_destroy(words);
	close(fd);
}

static int image_scenario(void *ctx)
{
	int fd = -1;
	int rc = gm_clone_image(ctx, NULL, &fd, &err);

	fault_disarm();
	if (rc)
		assert_int_equal(fd, -1);
	else
		assert_int_equal(close(fd), 0);
	return rc;
}

static void each_call_may_fail(void **state)
{
	(void)state;
	words = make_source(64 * PAGE - 5, 0);
	assert_true(fault_sweep(image_scenario, words) > 3);
	gm_source_destroy(words);
}

/* ---- clones of the kernel's ---- */

/* In a child: reads all, writes to some pages of its own, and finds what it wrote and nothing of others. */
static void be_a_clone(int fd, uint64_t seed, int go, int done)
{
	struct rng rng = {seed};
	uint8_t *at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	uint8_t mine[PAGES] = {0};
	char byte = 0;

	if (at == MAP_FAILED || gm_clone_check(fd, NULL, NULL) || !has_words(at, 0, LEN))
		_exit(2);
	/* Clean pages are the image's. */
	if (own_pages(at) != 0)
		_exit(3);
	for (unsigned int i = 0; i < 300; i++) {
		uint64_t page = rng_below(&rng, PAGES);

		memset(at + page * PAGE, (int)seed, PAGE);
		mine[page] = 1;
	}
	/* Until all have written. */
	if (write(done, "w", 1) != 1 || read(go, &byte, 1) != 0)
		_exit(4);
	for (uint64_t page = 0; page < PAGES; page++) {
		const uint8_t *bytes = at + page * PAGE;

		if (mine[page] ? bytes[0] != seed || memcmp(bytes, bytes + 1, PAGE - 1) != 0
			       : !has_words(bytes, page * PAGE, PAGE))
			_exit(5);
	}
	_exit(own_pages(at) <= 300 ? 0 : 6);
}

static void no_clone_sees_what_another_one_writes(void **state)
{
	int fd = make_image(0);
	pid_t children[4];
	int go[2];
	int done[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(go) | pipe(done), 0);
	for (unsigned int i = 0; i < 4; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			close(go[1]);
			be_a_clone(fd, i + 1, go[0], done[1]);
		}
		assert_true(children[i] > 0);
	}
	close(done[1]);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(read(done[0], &byte, 1), 1);
	close(go[1]);
	for (unsigned int i = 0; i < 4; i++) {
		int status;

		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	assert_true(is_unchanged(fd));
	close(go[0]);
	close(done[0]);
	close(fd);
}

/* ---- clones of a pager's ---- */

/* Faults one by one, in steps ahead, and in runs of a set: no page is copied until it is written to. */
static void a_pager_maps_clean_pages_and_copies_none(void **state)
{
	const struct gm_wset_run runs = {.off = LEN / 2, .len = LEN / 2};
	const uint8_t name[16] = {1};
	int fd = make_image(0);
	uint8_t *at = map_clone(fd);
	uint8_t *other = map_clone(fd);
	struct gm_wset *set;
	uint64_t area;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.flags = GM_PAGER_FILE, .fd = fd), &area, &err));
	assert_int_equal(area_info(area).way, GM_PAGER_CONTINUE);
	assert_ok(gm_wset_create(&runs, 1, LEN, name, &set, &err));
	assert_ok(gm_pager_prefetch_set(pager, area, set, 0, &err));
	gm_wset_destroy(set);
	while (stats().bytes_ahead < LEN / 2)
		assert_true(gm_pager_step(pager, 100) >= 0);
	start_stepping();
	assert_true(has_words(at, 0, LEN));
	assert_int_equal(own_pages(at), 0);
	for (uint64_t page = 0; page < PAGES; page += 64)
		*(uint64_t *)(at + page * PAGE) = 1;
	assert_int_equal(own_pages(at), PAGES / 64);
	assert_true(has_words(other, 0, LEN));
	stop_pager();
	assert_true(is_unchanged(fd));
	munmap(at, LEN);
	munmap(other, LEN);
	close(fd);
}

/* ---- in spaces ---- */

static struct gm_space *space;
static uint64_t region_id;

static uint8_t *add_clone(int fd)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc,
			.backing = GM_OPTS(gm_block_opts, .len = LEN, .backing = GM_BACKING_FD,
				.fd = fd, .flags = GM_BLOCK_PRIVATE)),
		&region_id, &err));
	assert_int_equal(gm_space_region(space, region_id, &info), 0);
	return info.hva;
}

/* No userfaultfd, and sets all the same. */
static void the_kernel_pages_a_clone_in_a_space(void **state)
{
	const struct gm_wset_run runs = {.off = 16 * PAGE, .len = 100 * PAGE};
	const uint8_t name[16] = {1};
	int fd = make_image(0);
	uint8_t *at = add_clone(fd);
	struct gm_pager_area_info info;
	struct gm_wset *set;
	uint64_t area;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_space(pager, space, 0, LEN, AREA(.way = 0), &area, &err));
	info = area_info(area);
	assert_int_equal(info.way, GM_PAGER_MAP);
	assert_int_equal(info.uffd, -1);
	assert_non_null(strstr(info.why, "the kernel pages"));
	assert_ok(gm_wset_create(&runs, 1, LEN, name, &set, &err));
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	for (unsigned int i = 0; i < 1000 && support_smaps(at, "Rss:") < (long long)(100 * PAGE);
		i++)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_true(support_smaps(at, "Rss:") >= (long long)(100 * PAGE));
	assert_true(has_words(at, 0, LEN));
	at[5] = 1;
	assert_int_equal(own_pages(at), 1);
	/* What a commit took is not touched any more. */
	assert_ok(gm_space_remove(space, region_id, &err));
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(gm_pager_step(pager, 0), 0);
	gm_wset_destroy(set);
	stop_pager();
	gm_space_destroy(space);
	assert_true(is_unchanged(fd));
	close(fd);
}

/* With a userfaultfd what is given back is zeros, and not the image's again. */
static void a_clone_gives_pages_back(void **state)
{
	int fd = make_image(0);
	uint8_t *at = add_clone(fd);

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_space(
		pager, space, 0, LEN, AREA(.way = GM_PAGER_CONTINUE), NULL, &err));
	start_stepping();
	assert_true(has_words(at, 0, 20 * PAGE));
	*(uint64_t *)(at + 3 * PAGE) = 1;
	assert_ok(gm_discard(space, 2 * PAGE, 2 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
	assert_ok(gm_discard(space, 100 * PAGE, 2 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
	assert_true(has_zeros(at + 2 * PAGE, 2 * PAGE));
	assert_true(has_zeros(at + 100 * PAGE, 2 * PAGE));
	assert_true(has_words(at + 4 * PAGE, 4 * PAGE, 90 * PAGE));
	/* Taken from the page table only: a clean page is the image's. */
	assert_int_equal(madvise(at + 10 * PAGE, PAGE, MADV_DONTNEED), 0);
	assert_true(has_words(at + 10 * PAGE, 10 * PAGE, PAGE));
	/* Nobody touches this one before the end. */
	assert_ok(gm_discard(space, 200 * PAGE, 50 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
	stop_pager();
	assert_true(has_zeros(at + 2 * PAGE, 2 * PAGE));
	assert_true(has_zeros(at + 200 * PAGE, 50 * PAGE));
	gm_space_destroy(space);
	assert_true(is_unchanged(fd));
	close(fd);
}

/* ---- a raw file that may be mapped ---- */

static void a_range_may_be_mapped_if_its_owner_says_so(void **state)
{
	int fd = make_image(0);
	struct gm_source *file;
	uint8_t *at = map_anon(LEN);
	uint8_t *second = map_anon(LEN);
	struct gm_pager_area_info info;
	uint64_t area;

	(void)state;
	assert_ok(gm_source_file(fd, 0, 0, &file, &err));
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = file, .flags = GM_PAGER_MAY_MAP), &area, &err));
	info = area_info(area);
	assert_int_equal(info.way, GM_PAGER_MAP);
	assert_non_null(strstr(info.why, "may be mapped"));
	assert_true(has_words(at, 0, LEN));
	/* Not of bytes that are made; and it is told why. */
	assert_ok(gm_pager_add_range(pager, second, LEN,
		AREA(.source = source, .flags = GM_PAGER_MAY_MAP), &area, &err));
	info = area_info(area);
	assert_int_equal(info.way, GM_PAGER_COPY);
	assert_non_null(strstr(info.why, "no raw file"));
	start_stepping();
	assert_true(has_words(second, 0, 16 * PAGE));
	stop_pager();
	gm_source_destroy(file);
	munmap(at, LEN);
	munmap(second, LEN);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_is_whole_and_sealed),
		cmocka_unit_test(what_is_no_image_is_refused),
		cmocka_unit_test(each_call_may_fail),
		cmocka_unit_test(no_clone_sees_what_another_one_writes),
		cmocka_unit_test(a_pager_maps_clean_pages_and_copies_none),
		cmocka_unit_test(the_kernel_pages_a_clone_in_a_space),
		cmocka_unit_test(a_clone_gives_pages_back),
		cmocka_unit_test(a_range_may_be_mapped_if_its_owner_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
