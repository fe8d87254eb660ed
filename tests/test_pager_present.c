/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_present.c - memory that is there in part when a pager gets it: what is there stays, what a huge page
 * brought along is missing again, and what is absent comes from the source or by a push.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "fault.h"
#include "pushed.h"
#include "random.h"
#include "sys/uapi.h"

#define BITS (MIB(16) / PAGE)

static uint64_t present[BITS / 64];

static void set_present(uint64_t first, uint64_t nr)
{
	uint64_t per = m.page / PAGE;

	for (uint64_t bit = first * per; bit < (first + nr) * per; bit++)
		present[bit / 64] |= UINT64_C(1) << bit % 64;
}

static bool is_present(uint64_t page)
{
	uint64_t bit = page * (m.page / PAGE);

	return present[bit / 64] >> bit % 64 & 1;
}

static void write_page(uint64_t page)
{
	fill_words(m.at + page * m.page, PUSHED + page * m.page, m.page);
}

/* Every second stretch, of some pages. Of what is present all but the last page is written. */
static uint64_t write_some(unsigned long round)
{
	struct rng rng = {test_seed(round)};
	uint64_t pages = m.len / m.page;
	uint64_t last = 0;

	memset(present, 0, sizeof(present));
	for (uint64_t page = 0; page < pages;) {
		uint64_t nr = 1 + rng_below(&rng, pages / 8 < 90 ? pages / 8 : 90);

		nr = nr < pages - page ? nr : pages - page;
		if (rng_below(&rng, 2)) {
			set_present(page, nr);
			last = page + nr - 1;
		}
		page += nr;
	}
	for (uint64_t page = 0; page < pages; page++) {
		if (is_present(page) && page != last)
			write_page(page);
	}
	return last;
}

static int add_present(enum sort sort, uint32_t flags)
{
	return gm_pager_add_range(pager, m.at, m.len,
		AREA(.source = source, .flags = flags | GM_PAGER_PRESENT, .fd = m.fd,
			.present = present, .way = sort == MOVED ? GM_PAGER_MOVE : GM_PAGER_AUTO),
		&m.area, &err);
}

static uint64_t bytes_present(void)
{
	uint64_t pages = 0;

	for (uint64_t page = 0; page < m.len / m.page; page++)
		pages += is_present(page);
	return pages * m.page;
}

/* Read by a system call, then by instructions. */
static void check_bytes(uint64_t zeros)
{
	uint8_t *copy = map_anon(m.page);

	for (uint64_t page = 0; page < m.len / m.page; page++) {
		uint64_t from = page * m.page + (is_present(page) ? PUSHED : 0);
		int fds[2];

		assert_int_equal(pipe(fds), 0);
		assert_int_equal(write(fds[1], m.at + page * m.page, 64), 64);
		assert_int_equal(read(fds[0], copy, 64), 64);
		close(fds[0]);
		close(fds[1]);
		if (page == zeros && is_present(page)) {
			assert_true(has_zeros(copy, 64));
			assert_true(has_zeros(m.at + page * m.page, m.page));
		} else {
			assert_true(has_words(copy, from, 64));
			assert_true(has_words(m.at + page * m.page, from, m.page));
		}
	}
	munmap(copy, m.page);
}

static void check_sort(enum sort sort, unsigned long round)
{
	uint32_t file = (uint32_t)map_sort(sort);
	uint64_t zeros = write_some(round);

	start_pager(m.len);
	assert_ok(add_present(sort, file));
	assert_int_equal(area_info(m.area).present, bytes_present());
	assert_int_equal(area_info(m.area).absent, m.len - bytes_present());
	start_stepping();
	check_bytes(zeros);
	stop_stepping();
	assert_int_equal(area_info(m.area).absent, 0);
	assert_true(of_source.bytes == m.len - bytes_present());
	stop_pager();
	check_bytes(zeros);
	unmap_sort();
}

static void what_is_there_stays_and_the_rest_is_brought(void **state)
{
	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		for (unsigned long round = 0; pool(sort) && round < support_scale(4); round++)
			check_sort(sort, round);
	}
}

static void it_is_completed_without_a_touch(void **state)
{
	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		uint64_t zeros;
		uint32_t file;

		if (!pool(sort))
			continue;
		file = (uint32_t)map_sort(sort);
		zeros = write_some(7);
		start_pager(m.len);
		assert_ok(add_present(sort, file));
		stop_pager();
		check_bytes(zeros);
		unmap_sort();
	}
}

/* All of the memory, and none of it. */
static void all_or_nothing_may_be_there(void **state)
{
	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		for (int all = 0; all < 2; all++) {
			uint64_t pages;
			uint32_t file;

			if (!pool(sort))
				continue;
			file = (uint32_t)map_sort(sort);
			pages = m.len / m.page;
			memset(present, 0, sizeof(present));
			if (all)
				set_present(0, pages);
			for (uint64_t page = 0; page < pages; page++)
				write_page(page);
			start_pager(m.len);
			assert_ok(add_present(sort, file));
			start_stepping();
			check_bytes(UINT64_MAX);
			assert_int_equal(of_source.bytes, all ? 0 : m.len);
			end();
		}
	}
}

/* ---- huge pages that the kernel makes ---- */

static void start_thp(void)
{
	uint8_t *at = map_anon(MIB(10));

	at += -(uintptr_t)at & (MIB(2) - 1);
	m.at = at;
	m.len = MIB(8);
	m.page = PAGE;
	m.data = map_anon(m.len);
	fill_words(m.data, PUSHED, m.len);
	m.fd = -1;
	assert_int_equal(madvise(at, m.len, MADV_HUGEPAGE), 0);
	memset(present, 0, sizeof(present));
}

/* A page that is written makes 2 MiB present: the others are missing all the same. */
static void neighbours_in_a_huge_page_are_missing_again(void **state)
{
	const uint64_t page = 512 + 77;
	uint64_t nr;

	(void)state;
	start_thp();
	set_present(page, 1);
	set_present(3 * 512, 512);
	write_page(page);
	for (uint64_t i = 3 * 512; i < 4 * 512; i++)
		write_page(i);
	if (support_smaps(m.at, "AnonHugePages:") < (long long)MIB(4)) {
		printf("skipped: no huge page was to be had\n");
		unmap_sort();
		skip();
	}
	start_pager(m.len);
	fault_set(NULL);
	fault_log_start();
	assert_ok(add_present(PRIVATE, 0));
	fault_log_stop();
	/* From when it is registered no huge page is made there. */
	assert_true(fault_log_find_flags(FAULT_gm_sys_ioctl, UFFDIO_REGISTER, 0) <
		    fault_log_find_flags(FAULT_gm_sys_madvise, MADV_DONTNEED, 0));
	assert_true(fault_log_find_flags(FAULT_gm_sys_madvise, MADV_DONTNEED, 0) != SIZE_MAX);
	assert_true(madvise(m.at + MIB(2), MIB(2), MADV_COLLAPSE) != 0);
	/* What is there whole stays huge. */
	assert_int_equal(support_smaps(m.at, "AnonHugePages:"), MIB(2));
	assert_int_equal(push(page + 1, 1, &nr), 0);
	assert_int_equal(nr, 1);
	start_stepping();
	assert_true(is_of_source(0, page) && is_pushed(page, 2));
	assert_true(is_of_source(page + 2, 3 * 512 - page - 2) && is_pushed(3 * 512, 512));
	assert_int_equal(of_source.bytes, (3 * 512 - 2) * PAGE);
	end();
}

static void locked_memory_is_given_back_too(void **state)
{
	(void)state;
	map_sort(PRIVATE);
	memset(present, 0, sizeof(present));
	set_present(0, 4);
	for (uint64_t page = 0; page < 8; page++)
		write_page(page);
	assert_int_equal(mlock(m.at, m.len), 0);
	start_pager(m.len);
	assert_ok(add_present(PRIVATE, 0));
	assert_int_equal(munlock(m.at, m.len), 0);
	start_stepping();
	assert_true(is_pushed(0, 4) && is_of_source(4, 8));
	end();
}

/* ---- what is refused ---- */

static void a_part_of_a_huge_page_is_refused(void **state)
{
	(void)state;
	if (!pool(HUGE_SHARED))
		skip();
	for (enum sort sort = HUGE_SHARED; sort < SORTS; sort++) {
		uint32_t file = (uint32_t)map_sort(sort);

		memset(present, 0, sizeof(present));
		set_present(0, 1);
		set_present(3, 1);
		/* All but one. */
		present[(3 * 512 + 100) / 64] &= ~(UINT64_C(1) << 100 % 64);
		write_page(0);
		write_page(1);
		start_pager(m.len);
		assert_fails(add_present(sort, file), EINVAL, "0x600000 a part is present");
		assert_int_equal(gm_pager_area(pager, 1,
					 &(struct gm_pager_area_info){
						 .size = sizeof(struct gm_pager_area_info)}),
			-ENOENT);
		/* Nothing was given back. */
		assert_true(is_pushed(0, 2));
		end();
	}
}

static int try_flags(uint32_t flags, uint32_t way, const uint64_t *bits)
{
	return gm_pager_add_range(pager, m.at, m.len,
		AREA(.source = source, .flags = flags, .fd = m.fd, .present = bits, .way = way),
		NULL, &err);
}

static void what_cannot_be_given_back_is_refused(void **state)
{
	const uint32_t flag = GM_PAGER_PRESENT;
	uint64_t number;
	int uffd;

	(void)state;
	map_sort(PRIVATE);
	start_pager(m.len);
	assert_fails(try_flags(flag, 0, NULL), EINVAL, "GM_PAGER_PRESENT");
	assert_fails(try_flags(0, 0, present), EINVAL, "GM_PAGER_PRESENT");
	assert_fails(try_flags(flag | GM_PAGER_EVENTS, 0, present), EINVAL, "GM_PAGER_EVENTS");
	assert_fails(try_flags(flag | GM_PAGER_STATES | GM_PAGER_TAKEOVER, 0, present), EINVAL,
		"GM_PAGER_TAKEOVER");
	assert_fails(try_flags(flag, GM_PAGER_MAP, present), ENOTSUP, "there in part");
	/* Others' memory. */
	uffd = gm_sys_userfaultfd(O_CLOEXEC | O_NONBLOCK);
	assert_true(uffd >= 0);
	assert_ok(gm_pager_add_uffd(pager, uffd, 0, &number, &err));
	assert_fails(gm_pager_add_mapping(pager, number, (uintptr_t)m.at, m.len,
			     AREA(.source = source, .flags = flag, .present = present), NULL, &err),
		EINVAL, "flags");
	close(uffd);
	end();
	/* Shared memory whose file is not known, or has the bytes; a private mapping of a file. */
	map_sort(SHARED);
	start_pager(m.len);
	assert_fails(try_flags(flag, GM_PAGER_COPY, present), ENOTSUP, "there in part");
	assert_fails(gm_pager_add_range(pager, m.at, m.len,
			     AREA(.flags = flag | GM_PAGER_FILE, .fd = m.fd, .present = present),
			     NULL, &err),
		ENOTSUP, "there in part");
	munmap(m.at, m.len);
	m.at = mmap(m.at, m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, m.fd, 0);
	assert_fails(try_flags(flag | GM_PAGER_FILE, 0, present), ENOTSUP, "there in part");
	end();
}

/* ---- a space ---- */

/* Two regions; the bitmap is that of the range, which begins in the first. */
static void a_bitmap_is_for_all_pieces_of_a_space(void **state)
{
	struct gm_space *space;
	uint8_t *at[2];

	(void)state;
	m.page = PAGE;
	for (int shared = 0; shared < 2; shared++) {
		uint64_t first;

		assert_ok(
			gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
		for (int i = 0; i < 2; i++) {
			struct gm_region_info info = {.size = sizeof(info)};
			uint64_t id;

			assert_ok(gm_space_add(space,
				GM_OPTS(gm_region_desc, .gpa = (uint64_t)i * MIB(4),
					.backing = GM_OPTS(gm_block_opts, .len = MIB(4),
						.flags = shared ? GM_BLOCK_SHARE : 0)),
				&id, &err));
			assert_int_equal(gm_space_region(space, id, &info), 0);
			at[i] = info.hva;
			fill_words(at[i], PUSHED + (uint64_t)i * MIB(4), MIB(4));
		}
		memset(present, 0, sizeof(present));
		/* Of what begins at 1 MiB: from 2 to 5 MiB. */
		set_present(256, 3 * 256);
		start_pager(MIB(8));
		assert_ok(gm_pager_add_space(pager, space, MIB(1), MIB(7),
			AREA(.source = source, .offset = MIB(1), .flags = GM_PAGER_PRESENT,
				.present = present),
			&first, &err));
		assert_int_equal(area_info(first).present, MIB(2));
		assert_int_equal(area_info(first + 1).present, MIB(1));
		start_stepping();
		assert_true(has_words(at[0], PUSHED, MIB(1)));
		assert_true(has_words(at[0] + MIB(1), MIB(1), MIB(1)));
		assert_true(has_words(at[0] + MIB(2), PUSHED + MIB(2), MIB(2)));
		assert_true(has_words(at[1], PUSHED + MIB(4), MIB(1)));
		assert_true(has_words(at[1] + MIB(1), MIB(5), MIB(3)));
		stop_pager();
		gm_space_destroy(space);
	}
}

static void a_space_is_refused_before_any_of_it_is_added(void **state)
{
	struct gm_pager_area_info info = {.size = sizeof(info)};
	struct gm_space *space;
	uint64_t id;

	(void)state;
	if (!pool(HUGE_SHARED))
		skip();
	m.page = PAGE;
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = MIB(4))), &id,
		&err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .gpa = MIB(4),
			.backing = GM_OPTS(
				gm_block_opts, .len = MIB(4), .pages = {{GM_PAGE_HUGETLB, 21}})),
		&id, &err));
	memset(present, 0, sizeof(present));
	set_present(0, 1024 + 512 + 1);
	start_pager(MIB(8));
	assert_fails(gm_pager_add_space(pager, space, 0, MIB(8),
			     AREA(.source = source, .flags = GM_PAGER_PRESENT, .present = present),
			     NULL, &err),
		EINVAL, "0x600000 a part is present");
	assert_int_equal(err.gpa, MIB(6));
	assert_int_equal(gm_pager_area(pager, 1, &info), -ENOENT);
	stop_pager();
	gm_space_destroy(space);
}

/* ---- each call fails ---- */

static int fill(struct gm_source *bytes, uint32_t file)
{
	struct gm_pager *mine;
	int rc = gm_pager_create(NULL, &mine, NULL);

	if (rc)
		return rc;
	rc = gm_pager_add_range(mine, m.at, m.len,
		AREA(.source = bytes, .flags = file | GM_PAGER_PRESENT, .fd = m.fd,
			.present = present),
		&m.area, NULL);
	fault_disarm();
	if (!rc)
		assert_int_equal(gm_pager_stop(mine, GM_PAGER_COMPLETE, 60000, NULL), 0);
	assert_true(is_pushed(1, 2) && (rc || is_pushed(0, 16)));
	assert_int_equal(gm_pager_destroy(mine, NULL), 0);
	return rc;
}

static int add_and_fill(void *ctx)
{
	uint32_t file = (uint32_t)map_sort(*(const enum sort *)ctx);
	struct gm_source *bytes;
	int rc;

	memset(present, 0, sizeof(present));
	set_present(1, 2);
	for (uint64_t page = 1; page < 4; page++)
		write_page(page);
	rc = gm_source_memory(m.data, m.len, &bytes, NULL);
	if (!rc) {
		rc = fill(bytes, file);
		gm_source_destroy(bytes);
	}
	unmap_sort();
	return rc;
}

static void every_failure_leaves_what_is_present(void **state)
{
	enum sort sorts[] = {PRIVATE, SHARED};

	(void)state;
	for (size_t i = 0; i < 2; i++)
		assert_true(fault_sweep(add_and_fill, &sorts[i]) > 20);
}

/* What cannot be given back is told, and the memory is nobody's. */
static void a_refusal_to_give_back_is_told(void **state)
{
	(void)state;
	for (enum sort sort = PRIVATE; sort <= SHARED; sort++) {
		enum fault_fn fn = sort == SHARED ? FAULT_gm_sys_fallocate : FAULT_gm_sys_madvise;
		uint32_t file;

		if (sort == MOVED)
			continue;
		file = (uint32_t)map_sort(sort);
		memset(present, 0, sizeof(present));
		set_present(4, 4);
		/* A hole would be left as it is. */
		write_page(0);
		write_page(8);
		start_pager(m.len);
		fault_set(&(struct fault_plan){.fn = fn, .nth = 2, .error = EIO});
		assert_fails(add_present(sort, file), EIO, "cannot be given back");
		assert_int_equal(fault_hits(), 1);
		write_page(0);
		fault_set(&(struct fault_plan){.fn = fn, .nth = 1, .error = EINTR});
		assert_ok(add_present(sort, file));
		assert_int_equal(fault_hits(), 1);
		fault_set(NULL);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_there_stays_and_the_rest_is_brought),
		cmocka_unit_test(it_is_completed_without_a_touch),
		cmocka_unit_test(all_or_nothing_may_be_there),
		cmocka_unit_test(neighbours_in_a_huge_page_are_missing_again),
		cmocka_unit_test(locked_memory_is_given_back_too),
		cmocka_unit_test(a_part_of_a_huge_page_is_refused),
		cmocka_unit_test(what_cannot_be_given_back_is_refused),
		cmocka_unit_test(a_bitmap_is_for_all_pieces_of_a_space),
		cmocka_unit_test(a_space_is_refused_before_any_of_it_is_added),
		cmocka_unit_test(every_failure_leaves_what_is_present),
		cmocka_unit_test(a_refusal_to_give_back_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
