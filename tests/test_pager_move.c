/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_move.c - blocks of 2 MiB that are read into huge pages and moved in, and what is copied instead.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fault.h"
#include "one_pager.h"
#include "sys/uffd.h"

#define BLOCK MIB(2)
#define LEN (4 * BLOCK)

static uint8_t *map; /* what is around it */
static uint8_t *at;  /* begins with a block */
static uint64_t area;

static void start(uint64_t from, uint64_t len)
{
	map = map_anon(LEN + BLOCK);
	at = map + (-(uintptr_t)map & (BLOCK - 1));
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at + from, len,
		AREA(.source = source, .offset = from, .way = GM_PAGER_MOVE), &area, &err));
	assert_int_equal(area_info(area).way, GM_PAGER_MOVE);
}

static void end(void)
{
	stop_pager();
	munmap(map, LEN + BLOCK);
}

/* Bytes of the memory that are mapped by huge pages. */
static uint64_t huge_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long first;
	unsigned long last;
	bool here = false;
	uint64_t kib = 0;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned long value;

		if (sscanf(line, "%lx-%lx ", &first, &last) == 2)
			here = first < (uintptr_t)at + LEN && last > (uintptr_t)at;
		else if (here && sscanf(line, "AnonHugePages: %lu kB", &value) == 1)
			kib += value;
	}
	fclose(file);
	return kib << 10;
}

static void a_touch_brings_a_huge_page(void **state)
{
	(void)state;
	start(0, LEN);
	start_stepping();
	assert_int_equal(*(uint64_t *)(at + BLOCK + 77 * PAGE), word_at(BLOCK + 77 * PAGE));
	assert_true(has_words(at + BLOCK, BLOCK, BLOCK));
	stop_stepping();
	assert_int_equal(stats().loaded, 1);
	assert_int_equal(of_source.reads, 1);
	assert_int_equal(area_info(area).present, BLOCK);
	assert_int_equal(huge_bytes(), BLOCK);
	/* The buffer is used again. */
	start_stepping();
	assert_true(has_words(at, 0, BLOCK));
	stop_stepping();
	assert_int_equal(huge_bytes(), 2 * BLOCK);
	end();
}

static void filling_ahead_moves_whole_blocks(void **state)
{
	(void)state;
	start(3 * PAGE, LEN - 3 * PAGE);
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0), 0);
	while (area_info(area).absent)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_true(has_words(at + 3 * PAGE, 3 * PAGE, LEN - 3 * PAGE));
	/* The first block begins with memory that is not the pager's. */
	assert_int_equal(huge_bytes(), LEN - BLOCK);
	end();
}

/* Threads that resolve share a buffer, in which no huge page is made ready: one page comes at a time. */
static void *resolve_all(void *arg)
{
	const uint64_t *from = arg;

	for (uint64_t off = *from; off < BLOCK; off += 2 * PAGE) {
		if (gm_pager_resolve(pager, at + off))
			return arg;
	}
	return NULL;
}

static void threads_that_resolve_have_their_bytes(void **state)
{
	static uint64_t from[2] = {0, PAGE};
	pthread_t threads[2];
	void *failed;

	(void)state;
	start(0, LEN);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, resolve_all, &from[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_true(has_words(at, 0, BLOCK));
	assert_int_equal(stats().loaded, BLOCK / PAGE);
	end();
}

/* What is there is not overwritten, what was given back stays zeros, what is nothing is not read. */
static void blocks_that_are_not_whole_are_copied(void **state)
{
	(void)state;
	start(0, LEN);
	of_source.zero = 2 * BLOCK + 5 * PAGE;
	assert_int_equal(gm_pager_prefetch(pager, area, 9 * PAGE, PAGE), 0);
	while (area_info(area).present < PAGE)
		assert_true(gm_pager_step(pager, 0) >= 0);
	start_stepping();
	at[9 * PAGE] = 7;
	assert_true(has_words(at, 0, 9 * PAGE));
	assert_int_equal(at[9 * PAGE], 7);
	assert_true(has_words(at + 10 * PAGE, 10 * PAGE, BLOCK - 10 * PAGE));
	assert_true(has_words(at + 2 * BLOCK, 2 * BLOCK, 5 * PAGE));
	assert_true(has_zeros(at + 2 * BLOCK + 5 * PAGE, 2 * BLOCK - 5 * PAGE));
	stop_stepping();
	assert_int_equal(huge_bytes(), 0);
	end();
}

static void what_the_kernel_does_not_move_is_copied(void **state)
{
	const int errors[] = {EBUSY, ENOENT, EINVAL};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		start(0, LEN);
		fault_set(&(struct fault_plan){
			.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .error = errors[i]});
		start_stepping();
		assert_true(has_words(at, 0, BLOCK));
		stop_stepping();
		assert_int_equal(fault_hits(), 1);
		assert_int_equal(fault_calls(FAULT_gm_sys_uffd_fill), 2);
		fault_set(NULL);
		assert_int_equal(of_source.reads, 1);
		assert_int_equal(huge_bytes(), 0);
		end();
	}
}

/* An event is unread: it is read again and moved then. */
static void a_move_that_was_refused_is_tried_again(void **state)
{
	(void)state;
	start(0, LEN);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .error = EAGAIN, .field = -EAGAIN});
	start_stepping();
	assert_true(has_words(at, 0, BLOCK));
	stop_stepping();
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(stats().parked, 1);
	assert_int_equal(huge_bytes(), BLOCK);
	end();
}

static void one_bad_page_is_found(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	start(0, LEN);
	of_source.bad = 5 * PAGE + 8;
	start_stepping();
	assert_true(has_words(at, 0, 5 * PAGE));
	assert_int_equal(write(fds[1], at + 5 * PAGE, 8), -1);
	assert_int_equal(errno, EFAULT);
	assert_true(has_words(at + 6 * PAGE, 6 * PAGE, BLOCK - 6 * PAGE));
	stop_stepping();
	assert_int_equal(stats().poisoned, 1);
	end();
	close(fds[0]);
	close(fds[1]);
}

/* ---- sources that have a block in many pieces, as saved memory does ---- */

#define PIECE (UINT64_C(128) << 10)
#define IS_NOTHING(page) ((page) % 5 == 4)

static int extent_of_pieces(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	uint64_t page = offset / PAGE;
	uint64_t end = page + 1;

	(void)ctx;
	extent->kind = IS_NOTHING(page) ? GM_SOURCE_ZERO : GM_SOURCE_CHUNK;
	while (!IS_NOTHING(page) && !IS_NOTHING(end) && end * PAGE % PIECE)
		end++;
	extent->len = end * PAGE - offset;
	return 0;
}

static int read_pieces(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *e)
{
	(void)ctx;
	(void)e;
	of_source.reads++;
	fill_words(buf, offset, len);
	for (uint64_t i = 0; i < len; i += PAGE) {
		if (IS_NOTHING((offset + i) / PAGE))
			memset((uint8_t *)buf + i, 0, PAGE);
	}
	return 0;
}

static bool has_pieces(uint64_t from, uint64_t len)
{
	for (uint64_t off = from; off < from + len; off += PAGE) {
		if (IS_NOTHING(off / PAGE) ? !has_zeros(at + off, PAGE)
					   : !has_words(at + off, off, PAGE))
			return false;
	}
	return true;
}

static void start_pieces(void)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops), .len = LEN, .read = read_pieces, .extent = extent_of_pieces};

	start_pager(LEN);
	gm_source_destroy(source);
	assert_ok(gm_source_create(&ops, &source, &err));
	map = map_anon(LEN + BLOCK);
	at = map + (-(uintptr_t)map & (BLOCK - 1));
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = source, .way = GM_PAGER_MOVE), &area, &err));
}

/* Whether its first touch is one of zeros or not. */
static void a_block_of_many_extents_is_moved(void **state)
{
	(void)state;
	start_pieces();
	start_stepping();
	assert_int_equal(*(uint64_t *)(at + BLOCK + 78 * PAGE), word_at(BLOCK + 78 * PAGE));
	assert_int_equal(*(uint64_t *)(at + 4 * PAGE), 0);
	assert_true(has_pieces(0, 2 * BLOCK));
	stop_stepping();
	assert_int_equal(stats().loaded, 2);
	assert_int_equal(of_source.reads, 2);
	assert_int_equal(huge_bytes(), 2 * BLOCK);
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0), 0);
	while (area_info(area).absent)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_true(has_pieces(0, LEN));
	assert_int_equal(of_source.reads, LEN / BLOCK);
	assert_int_equal(huge_bytes(), LEN);
	end();
}

static void a_working_set_brings_blocks(void **state)
{
	/* Two blocks and a half. */
	const struct gm_wset_run run = {.off = 0, .len = 2 * BLOCK + BLOCK / 2};
	const uint8_t identity[16] = {1};
	struct gm_wset *set;

	(void)state;
	start_pieces();
	assert_ok(gm_wset_create(&run, 1, LEN, identity, &set, &err));
	assert_ok(gm_pager_prefetch_set(pager, area, set, 0, &err));
	gm_wset_destroy(set);
	while (area_info(area).absent > LEN - run.len)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_int_equal(area_info(area).absent, LEN - run.len);
	assert_true(has_pieces(0, run.len));
	assert_int_equal(huge_bytes(), 2 * BLOCK);
	end();
}

static void refusals_say_why(void **state)
{
	int fd = memfd_create("move", MFD_CLOEXEC);
	uint8_t *shared;

	(void)state;
	start(0, BLOCK);
	assert_int_equal(ftruncate(fd, (off_t)LEN), 0);
	shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_fails(gm_pager_add_range(pager, shared, LEN,
			     AREA(.source = source, .way = GM_PAGER_MOVE), NULL, &err),
		ENOTSUP, "private memory");
	munmap(shared, LEN);
	close(fd);
	end();
	start_pager_with(LEN, (struct gm_pager_opts){.request_len = 1u << 20});
	assert_fails(gm_pager_add_range(pager, at, BLOCK,
			     AREA(.source = source, .way = GM_PAGER_MOVE), NULL, &err),
		EINVAL, "request_len");
	stop_pager();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_touch_brings_a_huge_page),
		cmocka_unit_test(filling_ahead_moves_whole_blocks),
		cmocka_unit_test(threads_that_resolve_have_their_bytes),
		cmocka_unit_test(blocks_that_are_not_whole_are_copied),
		cmocka_unit_test(what_the_kernel_does_not_move_is_copied),
		cmocka_unit_test(a_move_that_was_refused_is_tried_again),
		cmocka_unit_test(one_bad_page_is_found),
		cmocka_unit_test(a_block_of_many_extents_is_moved),
		cmocka_unit_test(a_working_set_brings_blocks),
		cmocka_unit_test(refusals_say_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
