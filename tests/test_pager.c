/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager.c - memory of this process, filled when it is touched: each sort of memory, each way, and what is removed,
 * moved, copied by fork or cannot be read.
 */
#include <fcntl.h>
#include <guestmem/discard.h>
#include <guestmem/guard.h>
#include <stdio.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "one_pager.h"

#define LEN MIB(4)
#define GB_PAGES (30u << 26) /* MFD_HUGE_1GB */

/* ---- sorts of memory ---- */

static void touching_a_page_brings_it(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint64_t area;

	(void)state;
	start_pager(LEN + PAGE);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = source, .offset = PAGE), &area, &err));
	assert_int_equal(area_info(area).way, GM_PAGER_COPY);
	start_stepping();
	assert_true(has_words(at + 5 * PAGE, 6 * PAGE, PAGE));
	at[PAGE + 1] = 7;
	assert_int_equal(at[PAGE + 1], 7);
	assert_true(has_words(at + PAGE + 8, 2 * PAGE + 8, PAGE - 8));
	stop_stepping();
	assert_int_equal(stats().loaded, 2);
	assert_int_equal(area_info(area).present, 2 * PAGE);
	assert_int_equal(of_source.bytes, 2 * PAGE);
	stop_pager();
	assert_true(has_words(at + 2 * PAGE, 3 * PAGE, LEN - 2 * PAGE));
	assert_int_equal(at[PAGE + 1], 7);
	munmap(at, LEN);
}

/* R5: a page that was taken from the page table is continued: its bytes are in the file, with what the guest wrote. */
static void a_memfd_keeps_what_was_written(void **state)
{
	int fd = memfd_create("pager", MFD_CLOEXEC);
	uint8_t *at;
	uint64_t area;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)LEN), 0);
	at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at != MAP_FAILED);
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN,
		AREA(.source = source, .flags = GM_PAGER_FILE, .fd = fd), &area, &err));
	assert_int_equal(area_info(area).way, GM_PAGER_CONTINUE);
	start_stepping();
	assert_true(has_words(at, 0, 8 * PAGE));
	at[0] = 99;
	assert_int_equal(madvise(at, 8 * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(at[0], 99);
	assert_true(has_words(at + PAGE, PAGE, 7 * PAGE));
	assert_int_equal(of_source.bytes, 8 * PAGE);
	/* A hole is zeros, and not the source again. */
	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)PAGE), 0);
	assert_true(has_zeros(at, PAGE));
	stop_stepping();
	assert_true(stats().mapped >= 8);
	stop_pager();
	assert_true(has_words(at + PAGE, PAGE, LEN - PAGE));
	munmap(at, LEN);
	close(fd);
}

static void a_clone_shares_the_pages_of_a_file(void **state)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	uint8_t *image;
	uint8_t *at;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)LEN), 0);
	image = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fill_words(image, 0, LEN / 2);
	at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_true(at != MAP_FAILED);
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.flags = GM_PAGER_FILE, .fd = fd), NULL, &err));
	start_stepping();
	assert_true(has_words(at, 0, LEN / 2));
	assert_true(has_zeros(at + LEN / 2, 16 * PAGE));
	at[0] = 1;
	assert_true(has_words(image, 0, PAGE));
	stop_pager();
	assert_int_equal(of_source.reads, 0);
	munmap(at, LEN);
	munmap(image, LEN);
	close(fd);
}

/* R20: fault addresses lie anywhere in a huge page, which is brought whole. */
static void check_huge(bool shared)
{
	uint64_t huge = MIB(2);
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	uint8_t *at;
	uint64_t area;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(2 * huge)), 0);
	at = mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
	assert_true(at != MAP_FAILED);
	start_pager(2 * huge);
	of_source.zero = huge;
	assert_ok(gm_pager_add_range(pager, at, 2 * huge,
		AREA(.source = source, .flags = shared ? GM_PAGER_FILE : 0, .fd = fd), &area,
		&err));
	assert_int_equal(area_info(area).page_size, huge);
	start_stepping();
	assert_int_equal(*(uint64_t *)(at + huge - 8), word_at(huge - 8));
	assert_true(has_words(at, 0, huge));
	assert_true(has_zeros(at + huge, huge));
	assert_int_equal(of_source.bytes, huge);
	stop_pager();
	munmap(at, 2 * huge);
	close(fd);
}

static void huge_pages_are_brought_whole(void **state)
{
	(void)state;
	if (!support_pool(21, 4)) {
		printf("skipped: no huge pages\n");
		skip();
	}
	check_huge(true);
	check_huge(false);
}

/* R20: of one that is 1 GiB nothing is brought before all of it can be. */
static void a_page_of_a_gigabyte_is_brought_whole(void **state)
{
	const uint64_t huge = GIB(1);
	const uint64_t places[] = {0, GIB(1) / 2 + 5 * PAGE, GIB(1) - PAGE};
	int image = memfd_create("image", MFD_CLOEXEC);
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | GB_PAGES);
	struct gm_source *file;
	uint64_t words[512];
	uint8_t *at;
	uint64_t area;

	(void)state;
	if (fd < 0 || !support_pool(30, 1)) {
		printf("skipped: no page of 1 GiB\n");
		skip();
	}
	assert_int_equal(ftruncate(fd, (off_t)huge), 0);
	assert_int_equal(ftruncate(image, (off_t)huge), 0);
	for (size_t i = 0; i < 3; i++) {
		fill_words(words, places[i], PAGE);
		assert_int_equal(pwrite(image, words, PAGE, (off_t)places[i]), PAGE);
	}
	at = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at != MAP_FAILED);
	start_pager(LEN);
	assert_ok(gm_source_file(image, 0, 0, &file, &err));
	assert_fails(gm_pager_add_range(pager, at, huge, AREA(.source = file, .way = GM_PAGER_COPY),
			     &area, &err),
		EINVAL, "request_len");
	assert_ok(gm_pager_add_range(pager, at, huge,
		AREA(.source = file, .flags = GM_PAGER_FILE, .fd = fd), &area, &err));
	assert_int_equal(area_info(area).page_size, huge);
	start_stepping();
	assert_true(has_words(at + places[1], places[1], PAGE));
	for (size_t i = 0; i < 3; i++)
		assert_true(has_words(at + places[i], places[i], PAGE));
	assert_true(has_zeros(at + PAGE, PAGE));
	stop_stepping();
	assert_int_equal(stats().faults, 1);
	assert_int_equal(area_info(area).present, huge);
	stop_pager();
	gm_source_destroy(file);
	munmap(at, huge);
	close(fd);
	close(image);
}

static void a_raw_file_is_mapped(void **state)
{
	uint8_t *at = map_anon(LEN);
	int fd = memfd_create("raw", MFD_CLOEXEC);
	struct gm_source *file;
	uint64_t area;
	uint64_t words[512];

	(void)state;
	for (uint64_t off = 0; off < LEN / 2; off += PAGE) {
		fill_words(words, off, PAGE);
		assert_int_equal(pwrite(fd, words, PAGE, (off_t)off), PAGE);
	}
	assert_int_equal(ftruncate(fd, (off_t)LEN), 0);
	start_pager(LEN);
	assert_ok(gm_source_file(fd, 0, 0, &file, &err));
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = file, .way = GM_PAGER_MAP), &area, &err));
	assert_int_equal(area_info(area).uffd, -1);
	assert_int_equal(gm_pager_prefetch(pager, area, 0, LEN), 0);
	assert_true(has_words(at, 0, LEN / 2));
	assert_true(has_zeros(at + LEN / 2, LEN / 2));
	at[3] = 1;
	assert_int_equal(pread(fd, words, PAGE, 0), PAGE);
	assert_int_equal(words[0], word_at(0));
	assert_fails(gm_pager_add_range(pager, at, LEN, AREA(.source = source, .way = GM_PAGER_MAP),
			     &area, &err),
		ENOTSUP, "no raw file");
	stop_pager();
	gm_source_destroy(file);
	munmap(at, LEN);
	close(fd);
}

static void a_file_that_becomes_shorter_is_an_error(void **state)
{
	uint8_t *at = map_anon(LEN);
	int fd = memfd_create("raw", MFD_CLOEXEC);
	struct gm_source *file;
	uint64_t words[512];
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	for (uint64_t off = 0; off < LEN; off += PAGE) {
		fill_words(words, off, PAGE);
		assert_int_equal(pwrite(fd, words, PAGE, (off_t)off), PAGE);
	}
	start_pager(LEN);
	assert_ok(gm_source_file(fd, 0, 0, &file, &err));
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = file), NULL, &err));
	start_stepping();
	assert_true(has_words(at, 0, 4 * PAGE));
	assert_int_equal(ftruncate(fd, (off_t)(LEN / 2)), 0);
	assert_true(has_words(at + LEN / 2 - PAGE, LEN / 2 - PAGE, PAGE));
	assert_int_equal(write(fds[1], at + LEN / 2, 8), -1);
	assert_int_equal(errno, EFAULT);
	stop_stepping();
	/* Filling ahead ends too, and what it could not have is poisoned. */
	assert_ok(gm_pager_stop(pager, GM_PAGER_COMPLETE, 60000, &err));
	assert_int_equal(stats().poisoned, LEN / 2 / PAGE);
	assert_true(has_words(at, 0, LEN / 2));
	assert_int_equal(write(fds[1], at + LEN - 8, 8), -1);
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
	gm_source_destroy(file);
	close(fds[0]);
	close(fds[1]);
	munmap(at, LEN);
	close(fd);
}

/* ---- zeros, units, ahead ---- */

static void zeros_are_not_read(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	of_source.zero = LEN / 2 + 100;
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	start_stepping();
	assert_true(has_zeros(at + LEN / 2 + PAGE, LEN / 2 - PAGE));
	assert_int_equal(of_source.reads, 0);
	/* The page in which they begin has other bytes too. */
	assert_int_equal(*(uint64_t *)(at + LEN / 2), word_at(LEN / 2));
	stop_pager();
	munmap(at, LEN);
}

static void what_costs_no_more_is_brought_too(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint64_t area;

	(void)state;
	start_pager(LEN);
	of_source.unit = 8 * PAGE;
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), &area, &err));
	start_stepping();
	assert_true(has_words(at + 16 * PAGE, 16 * PAGE, 8 * PAGE));
	assert_int_equal(of_source.reads, 1);
	stop_stepping();
	assert_int_equal(area_info(area).present, 8 * PAGE);
	stop_pager();
	munmap(at, LEN);
}

/* R10 */
static void ranges_are_brought_ahead(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint64_t area;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), &area, &err));
	assert_int_equal(gm_pager_prefetch(pager, area, 100 * PAGE + 1, 50 * PAGE), 0);
	assert_int_equal(gm_pager_prefetch(pager, area, 0, 1), 0);
	assert_int_equal(gm_pager_prefetch(pager, area, LEN, 1), -ERANGE);
	assert_int_equal(gm_pager_prefetch(pager, area + 1, 0, 1), -ENOENT);
	while (area_info(area).present < 52 * PAGE)
		assert_int_equal(gm_pager_step(pager, 0), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(gm_pager_step(pager, 0), 0);
	assert_int_equal(area_info(area).present, 52 * PAGE);
	assert_true(has_words(at + 100 * PAGE, 100 * PAGE, 51 * PAGE));
	assert_int_equal(stats().faults, 0);
	stop_pager();
	munmap(at, LEN);
}

/* ---- what happens to the memory ---- */

static void what_was_given_back_is_zeros(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = source, .flags = GM_PAGER_EVENTS), NULL, &err));
	start_stepping();
	assert_true(has_words(at, 0, 4 * PAGE));
	/* Half of it was there, half never. */
	assert_int_equal(madvise(at + 2 * PAGE, 4 * PAGE, MADV_DONTNEED), 0);
	assert_true(has_zeros(at + 2 * PAGE, 4 * PAGE));
	assert_true(has_words(at + 6 * PAGE, 6 * PAGE, 2 * PAGE));
	stop_pager();
	assert_true(has_words(at, 0, 2 * PAGE));
	assert_true(has_zeros(at + 2 * PAGE, 4 * PAGE));
	munmap(at, LEN);
}

static void absent_pages_move_with_their_mapping(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint8_t *to = map_anon(LEN);
	void *moved;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = source, .flags = GM_PAGER_EVENTS), NULL, &err));
	start_stepping();
	assert_true(has_words(at + 8 * PAGE, 8 * PAGE, PAGE));
	moved = mremap(at + 4 * PAGE, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	assert_ptr_equal(moved, to);
	assert_true(has_words(to, 4 * PAGE, 8 * PAGE));
	assert_true(has_words(at, 0, 4 * PAGE));
	assert_int_equal(munmap(at + 64 * PAGE, 64 * PAGE), 0);
	assert_true(has_words(at + 128 * PAGE, 128 * PAGE, 4 * PAGE));
	stop_pager();
	assert_true(has_words(at + 200 * PAGE, 200 * PAGE, 4 * PAGE));
	munmap(at, LEN);
	munmap(to, LEN);
}

/* R14 */
static void a_child_has_the_same_bytes(void **state)
{
	uint8_t *at = map_anon(LEN);
	int status;
	pid_t pid;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = source, .flags = GM_PAGER_EVENTS), NULL, &err));
	start_stepping();
	at[0] = 1;
	pid = fork();
	if (pid == 0)
		_exit(at[0] == 1 && has_words(at + PAGE, PAGE, 63 * PAGE) ? 0 : 1);
	assert_true(has_words(at + 32 * PAGE, 32 * PAGE, 64 * PAGE));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	stop_pager();
	munmap(at, LEN);
}

/* A file is one for both, and what the parent wrote must not be filled again: the child gets no bytes, and no zeros. */
static void a_child_cannot_fill_its_parents_file(void **state)
{
	int fd = memfd_create("fork", MFD_CLOEXEC);
	uint8_t *at;
	int fds[2];
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(ftruncate(fd, (off_t)LEN), 0);
	at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN,
		AREA(.source = source, .flags = GM_PAGER_EVENTS | GM_PAGER_FILE, .fd = fd), NULL,
		&err));
	start_stepping();
	at[0] = 1;
	pid = fork();
	if (pid == 0)
		_exit(write(fds[1], at + PAGE, 8) == -1 && errno == EFAULT ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(at[0], 1);
	assert_true(has_words(at + PAGE, PAGE, 8 * PAGE));
	stop_stepping();
	assert_int_equal(told[0].kind, GM_PAGER_STRAY);
	stop_pager();
	close(fds[0]);
	close(fds[1]);
	munmap(at, LEN);
	close(fd);
}

/* ---- errors ---- */

static void bytes_that_cannot_be_read_are_poisoned(void **state)
{
	struct gm_space *space;
	struct gm_reader *reader;
	uint64_t area;
	uint64_t word;

	(void)state;
	start_pager(LEN);
	of_source.bad = 10 * PAGE + 8;
	assert_int_equal(gm_guard_install(), 0);
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_reader_create(space, "r", &reader, &err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .gpa = 0, .backing = GM_OPTS(gm_block_opts, .len = LEN)),
		NULL, &err));
	assert_ok(gm_pager_add_space(pager, space, 0, LEN, AREA(.source = source), &area, &err));
	start_stepping();
	assert_int_equal(gm_read(gm_reader_enter(reader), 9 * PAGE, &word, 8, NULL), 0);
	gm_reader_leave(reader);
	assert_int_equal(word, word_at(9 * PAGE));
	assert_int_equal(gm_read(gm_reader_enter(reader), 10 * PAGE, &word, 8, NULL), -EIO);
	gm_reader_leave(reader);
	wait_told(1);
	assert_int_equal(told[0].kind, GM_PAGER_POISONED);
	assert_int_equal(told[0].off, 10 * PAGE);
	/* It does not heal, and what lies around it can be had. */
	of_source.bad = 0;
	stop_stepping();
	assert_int_equal(gm_pager_prefetch(pager, area, 0, 32 * PAGE), 0);
	while (area_info(area).present < 31 * PAGE)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_int_equal(gm_read(gm_reader_enter(reader), 10 * PAGE, &word, 8, NULL), -EIO);
	gm_reader_leave(reader);
	assert_int_equal(area_info(area).poisoned, PAGE);
	stop_stepping();
	assert_ok(gm_pager_stop(pager, GM_PAGER_COMPLETE, -1, &err));
	assert_int_equal(gm_read(gm_reader_enter(reader), 10 * PAGE, &word, 8, NULL), -EIO);
	gm_reader_leave(reader);
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	assert_int_equal(gm_guard_remove(), 0);
}

/* R18: the last fd is not closed while pages are absent. */
static void it_is_not_destroyed_while_pages_are_absent(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	assert_fails(gm_pager_destroy(pager, &err), EBUSY, "absent");
	of_source.slow_ns = 2000000;
	assert_fails(gm_pager_stop(pager, GM_PAGER_COMPLETE, 2, &err), ETIMEDOUT, "absent yet");
	of_source.slow_ns = 0;
	assert_ok(gm_pager_stop(pager, GM_PAGER_COMPLETE, -1, &err));
	assert_true(has_words(at, 0, LEN));
	assert_fails(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err), EBUSY,
		"stopped");
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
	munmap(at, LEN);
}

static void refusals_say_why(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	assert_fails(gm_pager_add_range(
			     pager, at, LEN, AREA(.source = source, .offset = PAGE), NULL, &err),
		ERANGE, "are wanted of a source");
	assert_fails(gm_pager_add_range(pager, at + 1, PAGE, AREA(.source = source), NULL, &err),
		EINVAL, "whole pages");
	assert_fails(gm_pager_add_range(pager, at, LEN, AREA(.way = GM_PAGER_COPY), NULL, &err),
		EINVAL, "without a source");
	assert_fails(gm_pager_add_range(pager, at, LEN,
			     AREA(.source = source, .way = GM_PAGER_CONTINUE), NULL, &err),
		ENOTSUP, "has no file");
	assert_fails(gm_pager_add_range(
			     pager, at, LEN, AREA(.source = source, .flags = 1u << 20), NULL, &err),
		EINVAL, "flags");
	assert_ok(gm_pager_add_range(pager, at, PAGE, AREA(.source = source), NULL, &err));
	assert_fails(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err), EBUSY,
		"another userfaultfd");
	stop_pager();
	munmap(at, LEN);
}

/* ---- who faults ---- */

/* A system call of a device thread waits as any. */
static void a_system_call_waits_for_its_pages(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint8_t *copy = map_anon(LEN);
	int fds[2];

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	start_stepping();
	assert_int_equal(pipe(fds), 0);
	for (uint64_t off = 0; off < 64 * PAGE; off += 4 * PAGE) {
		struct iovec out[2] = {
			{at + off, PAGE + 100}, {at + off + PAGE + 100, 3 * PAGE - 100}};
		struct iovec in = {at + off + LEN / 2 + 8, 4 * PAGE - 16};

		assert_int_equal(writev(fds[1], out, 2), 4 * PAGE);
		assert_int_equal(read(fds[0], copy + off, 4 * PAGE), 4 * PAGE);
		/* And into missing memory. */
		assert_int_equal(write(fds[1], copy + off, 4 * PAGE - 16), 4 * PAGE - 16);
		assert_int_equal(readv(fds[0], &in, 1), 4 * PAGE - 16);
		assert_memory_equal(at + off + LEN / 2 + 8, copy + off, 4 * PAGE - 16);
		assert_int_equal(*(uint64_t *)(at + off + LEN / 2), word_at(off + LEN / 2));
	}
	assert_true(has_words(copy, 0, 64 * PAGE));
	close(fds[0]);
	close(fds[1]);
	stop_pager();
	munmap(at, LEN);
	munmap(copy, LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(touching_a_page_brings_it),
		cmocka_unit_test(a_memfd_keeps_what_was_written),
		cmocka_unit_test(a_clone_shares_the_pages_of_a_file),
		cmocka_unit_test(huge_pages_are_brought_whole),
		cmocka_unit_test(a_page_of_a_gigabyte_is_brought_whole),
		cmocka_unit_test(a_raw_file_is_mapped),
		cmocka_unit_test(a_file_that_becomes_shorter_is_an_error),
		cmocka_unit_test(zeros_are_not_read),
		cmocka_unit_test(what_costs_no_more_is_brought_too),
		cmocka_unit_test(ranges_are_brought_ahead),
		cmocka_unit_test(what_was_given_back_is_zeros),
		cmocka_unit_test(absent_pages_move_with_their_mapping),
		cmocka_unit_test(a_child_has_the_same_bytes),
		cmocka_unit_test(a_child_cannot_fill_its_parents_file),
		cmocka_unit_test(bytes_that_cannot_be_read_are_poisoned),
		cmocka_unit_test(it_is_not_destroyed_while_pages_are_absent),
		cmocka_unit_test(refusals_say_why),
		cmocka_unit_test(a_system_call_waits_for_its_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
