/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_wset.c - a pager that records what is touched, and brings what was: each way of filling, each sort of
 * source, and what must not be recorded or brought.
 */
#include <fcntl.h>
#include <guestmem/discard.h>
#include <guestmem/wset.h>
#include <stdio.h>
#include <stdlib.h>

#include "fault.h"
#include "one_pager.h"
#include "random.h"

#define PAGES UINT64_C(1024)
#define LEN (PAGES * PAGE)

static const uint8_t name[16] = {7};
static struct gm_wset_recorder *recorder;

/* ---- helpers ---- */

static void start_recorder(uint64_t len)
{
	assert_ok(gm_wset_recorder_create(
		GM_OPTS(gm_wset_recorder_opts, .len = len), &recorder, &err));
}

static struct gm_wset *taken(void)
{
	struct gm_wset *set;

	assert_ok(gm_wset_recorder_take(recorder, name, &set, &err));
	return set;
}

/* Ends the recorder too. */
static void assert_recorded(const uint64_t *pages, size_t nr, bool in_order)
{
	struct gm_wset_info info = {.size = sizeof(info)};
	struct gm_wset *set = taken();
	struct gm_wset_run run;
	uint64_t off;

	gm_wset_info(set, &info);
	assert_int_equal(info.pages, nr);
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(gm_wset_next(set, pages[i] * PAGE, &run), 0);
		assert_int_equal(run.off, pages[i] * PAGE);
		if (!in_order)
			continue;
		assert_int_equal(gm_wset_touch(set, i, &off), 0);
		assert_int_equal(off, pages[i] * PAGE);
	}
	gm_wset_destroy(set);
	gm_wset_recorder_destroy(recorder);
}

/* Pages with a distance of @every, from @first on. */
static struct gm_wset *every(uint64_t first, uint64_t nr, uint64_t distance, uint64_t len)
{
	struct gm_wset_run *runs = calloc(nr, sizeof(*runs));
	struct gm_wset *set;

	assert_non_null(runs);
	for (uint64_t i = 0; i < nr; i++)
		runs[i] = (struct gm_wset_run){.off = (first + i * distance) * PAGE, .len = PAGE};
	assert_ok(gm_wset_create(runs, nr, len, name, &set, &err));
	free(runs);
	return set;
}

/* Until nothing is left of what is brought ahead. */
static void step_until_ahead(uint64_t bytes)
{
	while (stats().bytes_ahead < bytes)
		assert_true(gm_pager_step(pager, 100) >= 0);
}

static uint8_t *map_memfd(int *ret_fd, uint64_t len, int flags)
{
	void *at;

	*ret_fd = memfd_create("wset", MFD_CLOEXEC);
	assert_true(*ret_fd >= 0 && ftruncate(*ret_fd, (off_t)len) == 0);
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, *ret_fd, 0);
	assert_true(at != MAP_FAILED);
	return at;
}

/* ---- recording ---- */

enum { PRIVATE, SHARED, CLONE, KINDS };

/* In the order of touches, by offsets of the image; what comes ahead, twice or by itself is not recorded. */
static void check_recording(unsigned int kind)
{
	const uint64_t touched[] = {11, 10, 900, 4, 500, 12};
	const uint64_t from = 3; /* page of the image at the first of the memory */
	uint64_t area;
	uint8_t *at;
	int fd = -1;

	start_pager(LEN);
	of_source.unit = 64 * 1024;
	start_recorder(LEN);
	if (kind == PRIVATE)
		at = map_anon(LEN - from * PAGE);
	else
		at = map_memfd(&fd, LEN, kind == CLONE ? MAP_PRIVATE : MAP_SHARED);
	assert_ok(gm_pager_add_range(pager, at, LEN - from * PAGE,
		AREA(.source = kind == CLONE ? NULL : source,
			.offset = kind == CLONE ? 0 : from * PAGE,
			.flags = kind == PRIVATE ? 0 : GM_PAGER_FILE, .fd = fd,
			.fd_off = kind == CLONE ? from * PAGE : 0),
		&area, &err));
	assert_ok(gm_pager_record(pager, area, recorder, &err));
	assert_ok(gm_pager_record(pager, 0, recorder, &err));
	assert_int_equal(gm_pager_prefetch(pager, area, 200 * PAGE, 30 * PAGE), 0);
	step_until_ahead(30 * PAGE);
	start_stepping();
	for (size_t i = 0; i < 6; i++) {
		const uint8_t *page = at + (touched[i] - from) * PAGE;

		assert_true(kind == CLONE ? has_zeros(page, PAGE)
					  : has_words(page, touched[i] * PAGE, PAGE));
	}
	/* Brought ahead, and touched before. */
	assert_true(kind == CLONE || has_words(at + 210 * PAGE, (210 + from) * PAGE, PAGE));
	assert_int_equal(madvise(at + (10 - from) * PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(*(volatile uint8_t *)(at + (10 - from) * PAGE), at[(10 - from) * PAGE]);
	/* An image's end is the recorder's. */
	stop_stepping();
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0), 0);
	stop_pager();
	assert_recorded(touched, 6, true);
	munmap(at, kind == PRIVATE ? LEN - from * PAGE : LEN);
	if (fd >= 0)
		close(fd);
}

static void first_touches_are_recorded_in_their_order(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < KINDS; kind++)
		check_recording(kind);
}

static void who_resolves_its_own_faults_is_recorded(void **state)
{
	const uint64_t touched[] = {5, 3, 4};
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	start_recorder(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = source, .flags = GM_PAGER_SIGBUS), NULL, &err));
	assert_ok(gm_pager_record(pager, 0, recorder, &err));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(gm_pager_resolve(pager, at + touched[i] * PAGE + 17), 0);
	assert_true(has_words(at + 3 * PAGE, 3 * PAGE, 3 * PAGE));
	stop_pager();
	assert_recorded(touched, 3, true);
	munmap(at, LEN);
}

/* What the guest gave back is zeros, and no more of the image. */
static void discarded_pages_are_not_recorded(void **state)
{
	const uint64_t touched[] = {20};
	struct gm_space *space;
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t id;

	(void)state;
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = LEN)), &id, &err));
	assert_int_equal(gm_space_region(space, id, &info), 0);
	start_pager(LEN);
	start_recorder(LEN);
	assert_ok(gm_pager_add_space(pager, space, 0, LEN, AREA(.source = source), NULL, &err));
	assert_ok(gm_pager_record(pager, 0, recorder, &err));
	start_stepping();
	assert_ok(gm_discard(space, 40 * PAGE, 10 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
	assert_true(has_zeros((uint8_t *)info.hva + 40 * PAGE, 10 * PAGE));
	assert_true(has_words((uint8_t *)info.hva + 20 * PAGE, 20 * PAGE, PAGE));
	stop_pager();
	assert_recorded(touched, 1, true);
	gm_space_destroy(space);
}

/* Which 4096 bytes of a huge page somebody wanted. */
static void huge_pages_are_recorded_by_small_ones(void **state)
{
	const uint64_t touched[] = {512 + 77, 3};
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	uint8_t *at;

	(void)state;
	if (!support_pool(21, 2)) {
		printf("skipped: no huge pages\n");
		skip();
	}
	assert_true(fd >= 0 && ftruncate(fd, (off_t)LEN) == 0);
	at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at != MAP_FAILED);
	start_pager(LEN);
	start_recorder(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN,
		AREA(.source = source, .flags = GM_PAGER_FILE, .fd = fd), NULL, &err));
	assert_ok(gm_pager_record(pager, 0, recorder, &err));
	start_stepping();
	for (size_t i = 0; i < 2; i++)
		assert_true(has_words(at + touched[i] * PAGE + 64, touched[i] * PAGE + 64, 64));
	assert_true(has_words(at, 0, LEN));
	stop_pager();
	assert_recorded(touched, 2, true);
	munmap(at, LEN);
	close(fd);
}

/* ---- files that the kernel pages ---- */

static int make_raw(struct gm_source **ret)
{
	uint64_t words[512];
	int fd = memfd_create("raw", MFD_CLOEXEC);

	for (uint64_t off = 0; off < LEN; off += PAGE) {
		fill_words(words, off, PAGE);
		assert_int_equal(pwrite(fd, words, PAGE, (off_t)off), PAGE);
	}
	assert_ok(gm_source_file(fd, 0, 0, ret, &err));
	return fd;
}

/* Reads too, one page each, although the kernel would map those around them. */
static void a_mapped_file_is_recorded_by_what_is_mapped(void **state)
{
	const uint64_t touched[] = {100, 101, 300, 305, 1000};
	uint8_t *at = map_anon(LEN);
	struct gm_source *file;
	struct gm_wset *set;
	int fd = make_raw(&file);
	uint64_t area;

	(void)state;
	start_pager(LEN);
	start_recorder(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN - 3 * PAGE,
		AREA(.source = file, .offset = 3 * PAGE, .way = GM_PAGER_MAP), &area, &err));
	assert_ok(gm_pager_record(pager, area, recorder, &err));
	/* Read ahead, not mapped. */
	set = every(600, 10, 3, LEN);
	assert_ok(gm_pager_prefetch_set(pager, area, set, 0, &err));
	gm_wset_destroy(set);
	for (unsigned int i = 0; i < 4; i++)
		assert_true(gm_pager_step(pager, 0) >= 0);
	for (size_t i = 0; i < 4; i++)
		assert_true(has_words(at + (touched[i] - 3) * PAGE, touched[i] * PAGE, PAGE));
	at[(1000 - 3) * PAGE] = 1;
	assert_ok(gm_pager_record_look(pager, &err));
	assert_ok(gm_pager_record_look(pager, &err));
	stop_pager();
	assert_recorded(touched, 5, true);
	gm_source_destroy(file);
	munmap(at, LEN);
	close(fd);
}

static uint64_t present(const uint8_t *at)
{
	long long kib = support_smaps(at, "Rss:");

	assert_true(kib >= 0);
	return (uint64_t)kib / PAGE;
}

static void a_set_is_mapped_of_a_mapped_file(void **state)
{
	uint8_t *at = map_anon(LEN);
	struct gm_source *file;
	struct gm_wset *set = every(4, 100, 2, LEN);
	int fd = make_raw(&file);

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.source = file, .way = GM_PAGER_MAP), NULL, &err));
	assert_int_equal(present(at), 0);
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	gm_wset_destroy(set);
	for (unsigned int i = 0; i < 1000 && present(at) < 100; i++)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_true(present(at) >= 100);
	assert_true(has_words(at, 0, LEN));
	stop_pager();
	gm_source_destroy(file);
	munmap(at, LEN);
	close(fd);
}

/* ---- brought ahead ---- */

/* More runs than ranges can wait; nothing else comes, and no page twice. */
static void a_set_is_brought_and_nothing_else(void **state)
{
	struct gm_wset *set = every(0, PAGES / 2, 2, LEN);
	uint64_t area;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		int fd = -1;
		uint8_t *at = shared ? map_memfd(&fd, LEN, MAP_SHARED) : map_anon(LEN);

		start_pager_with(LEN, (struct gm_pager_opts){.ranges = 1});
		assert_ok(gm_pager_add_range(pager, at, LEN,
			AREA(.source = source, .flags = shared ? GM_PAGER_FILE : 0, .fd = fd),
			&area, &err));
		assert_ok(gm_pager_prefetch_set(pager, area, set, 0, &err));
		step_until_ahead(LEN / 2);
		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(gm_pager_step(pager, 0), 0);
		assert_int_equal(stats().bytes_ahead, LEN / 2);
		assert_int_equal(area_info(area).present, LEN / 2);
		assert_int_equal(of_source.bytes, LEN / 2);
		for (uint64_t page = 0; page < PAGES; page += 2)
			assert_true(has_words(at + page * PAGE, page * PAGE, PAGE));
		assert_int_equal(stats().faults, 0);
		stop_pager();
		munmap(at, LEN);
		if (fd >= 0)
			close(fd);
	}
	gm_wset_destroy(set);
}

/* Areas that have parts of an image get their parts of a set; what was there already is passed over. */
static void each_area_gets_its_part(void **state)
{
	struct gm_wset *set = every(0, PAGES / 4, 4, LEN);
	uint8_t *at = map_anon(LEN);
	uint64_t half = LEN / 2;
	uint64_t ids[2];

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, half - 8 * PAGE, AREA(.source = source), &ids[0], &err));
	assert_ok(gm_pager_add_range(
		pager, at + half, half, AREA(.source = source, .offset = half), &ids[1], &err));
	assert_ok(gm_pager_prefetch_set(pager, ids[1], set, GM_WSET_IN_ORDER, &err));
	step_until_ahead(half / 4);
	assert_int_equal(area_info(ids[0]).present, 0);
	assert_int_equal(area_info(ids[1]).present, half / 4);
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	step_until_ahead(half / 2 - 2 * PAGE);
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(gm_pager_step(pager, 0), 0);
	assert_int_equal(area_info(ids[0]).present, half / 4 - 2 * PAGE);
	assert_int_equal(area_info(ids[1]).present, half / 4);
	assert_int_equal(of_source.bytes, half / 2 - 2 * PAGE);
	gm_wset_destroy(set);
	stop_pager();
	munmap(at, LEN);
}

static uint64_t seen_offsets[16];
static unsigned int nr_seen;

static int read_and_remember(void *ctx, uint64_t off, void *buf, size_t len, struct gm_error *e)
{
	(void)ctx;
	(void)e;
	if (nr_seen < 16)
		seen_offsets[nr_seen++] = off / PAGE;
	fill_words(buf, off, len);
	return 0;
}

static void the_order_of_touches_is_kept_if_asked_for(void **state)
{
	const struct gm_wset_run runs[] = {{.off = 50 * PAGE, .len = 2 * PAGE},
		{.off = 9 * PAGE, .len = PAGE}, {.off = 700 * PAGE, .len = PAGE},
		{.off = 52 * PAGE, .len = PAGE}};
	const uint64_t orders[2][4] = {{9, 50, 700, 0}, {50, 9, 700, 52}};
	struct gm_source_ops ops = {.size = sizeof(ops), .len = LEN, .read = read_and_remember};
	struct gm_source *own;
	struct gm_wset *set;

	(void)state;
	assert_ok(gm_source_create(&ops, &own, &err));
	assert_ok(gm_wset_create(runs, 4, LEN, name, &set, &err));
	for (uint32_t in_order = 0; in_order < 2; in_order++) {
		uint8_t *at = map_anon(LEN);

		start_pager(LEN);
		nr_seen = 0;
		assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = own), NULL, &err));
		assert_ok(gm_pager_prefetch_set(pager, 0, set, in_order, &err));
		step_until_ahead(5 * PAGE);
		assert_int_equal(nr_seen, in_order ? 4 : 3);
		assert_memory_equal(seen_offsets, orders[in_order], nr_seen * sizeof(uint64_t));
		stop_pager();
		munmap(at, LEN);
	}
	gm_wset_destroy(set);
	gm_source_destroy(own);
}

/* A fault in the middle of a set is answered before the set goes on. */
static void who_waits_comes_first(void **state)
{
	struct gm_wset *set = every(0, PAGES / 2, 1, LEN);
	uint8_t *at = map_anon(LEN);
	uint64_t ahead;

	(void)state;
	start_pager(LEN);
	of_source.slow_ns = 200000;
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	gm_wset_destroy(set);
	assert_int_equal(gm_pager_step(pager, 0), 0);
	ahead = stats().bytes_ahead;
	assert_true(ahead > 0 && ahead < LEN / 4);
	start_stepping();
	assert_true(has_words(at + (PAGES - 1) * PAGE, (PAGES - 1) * PAGE, PAGE));
	/* It came while there was more of the set to be brought. */
	stop_stepping();
	step_until_ahead(LEN / 2);
	assert_int_equal(stats().loaded, 1);
	stop_pager();
	munmap(at, LEN);
}

static void nothing_is_brought_if_that_was_said(void **state)
{
	struct gm_wset *set = every(0, 64, 1, LEN);
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_NONE, 0), 0);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(gm_pager_step(pager, 0), 0);
	assert_int_equal(stats().bytes_ahead, 0);
	/* With a rate it takes its time: a tenth of a second's worth at once, at most. */
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_RANGES, 4 * PAGE), 0);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(gm_pager_step(pager, 0), 0);
	assert_true(stats().bytes_ahead < 64 * PAGE);
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_RANGES, 0), 0);
	step_until_ahead(64 * PAGE);
	/* One that is never brought is given back with the pager. */
	assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_NONE, 0), 0);
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	gm_wset_destroy(set);
	assert_ok(gm_pager_stop(pager, GM_PAGER_POISON, 60000, &err));
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
	munmap(at, LEN);
}

/* The disk is asked for the runs before they are read. */
static void files_are_read_ahead(void **state)
{
	struct gm_wset *set = every(1, PAGES / 8, 8, LEN);
	uint8_t *at = map_anon(LEN);
	const struct fault_event *events;
	struct gm_source *file;
	int fd = make_raw(&file);
	uint64_t asked = 0;
	size_t nr;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = file), NULL, &err));
	fault_set(NULL);
	fault_log_start();
	assert_ok(gm_pager_prefetch_set(pager, 0, set, 0, &err));
	step_until_ahead(PAGES / 8 * PAGE);
	fault_log_stop();
	events = fault_log(&nr);
	for (size_t i = 0; i < nr; i++) {
		if (events[i].fn != FAULT_gm_sys_will_need)
			continue;
		assert_int_equal(events[i].off, (1 + asked * 8) * PAGE);
		assert_int_equal(events[i].len, PAGE);
		asked++;
	}
	assert_int_equal(asked, PAGES / 8);
	assert_true(has_words(at + PAGE, PAGE, PAGE));
	gm_wset_destroy(set);
	stop_pager();
	gm_source_destroy(file);
	munmap(at, LEN);
	close(fd);
}

static void what_cannot_be_is_refused(void **state)
{
	struct gm_wset *set = every(0, 1, 1, LEN);
	struct gm_wset_recorder *second;
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	start_recorder(LEN);
	assert_ok(
		gm_wset_recorder_create(GM_OPTS(gm_wset_recorder_opts, .len = LEN), &second, &err));
	assert_fails(gm_pager_record(pager, 0, recorder, &err), ENOENT, "no area");
	assert_fails(gm_pager_prefetch_set(pager, 0, set, 0, &err), ENOENT, "no area");
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	assert_fails(gm_pager_prefetch_set(pager, 0, set, 2, &err), EINVAL, "flags");
	assert_fails(gm_pager_prefetch_set(pager, 9, set, 0, &err), ENOENT, "no area 9");
	assert_ok(gm_pager_record(pager, 0, recorder, &err));
	assert_fails(gm_pager_record(pager, 0, second, &err), EBUSY, "has a recorder");
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_alloc, .nth = 1, .error = ENOMEM});
	assert_fails(gm_pager_prefetch_set(pager, 0, set, 0, &err), ENOMEM, "memory");
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	gm_wset_recorder_destroy(second);
	gm_wset_recorder_destroy(recorder);
	gm_wset_destroy(set);
	stop_pager();
	munmap(at, LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_touches_are_recorded_in_their_order),
		cmocka_unit_test(who_resolves_its_own_faults_is_recorded),
		cmocka_unit_test(discarded_pages_are_not_recorded),
		cmocka_unit_test(huge_pages_are_recorded_by_small_ones),
		cmocka_unit_test(a_mapped_file_is_recorded_by_what_is_mapped),
		cmocka_unit_test(a_set_is_mapped_of_a_mapped_file),
		cmocka_unit_test(a_set_is_brought_and_nothing_else),
		cmocka_unit_test(each_area_gets_its_part),
		cmocka_unit_test(the_order_of_touches_is_kept_if_asked_for),
		cmocka_unit_test(who_waits_comes_first),
		cmocka_unit_test(nothing_is_brought_if_that_was_said),
		cmocka_unit_test(files_are_read_ahead),
		cmocka_unit_test(what_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
