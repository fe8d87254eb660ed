/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log_iommu.c - dirty logs of a space of IOVAs and of the spaces below it: what is written is marked where it
 * went, and nothing else, also while the IOMMU is switched from one way to another beside the writers.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/log.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "random.h"
#include "support.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define LOG(...) GM_OPTS(gm_log_opts, __VA_ARGS__)
#define PAGE UINT64_C(4096)
#define PAGES UINT64_C(64)
#define LEN (PAGES * PAGE)

enum { LOWER, UPPER, IOVA, NR_SPACES };

/* Two spaces with memory, UPPER over LOWER, and one of IOVAs over both. */
static struct gm_error err;
static struct gm_space *spaces[NR_SPACES];
static struct gm_log *logs[NR_SPACES];
static struct gm_iommu *iommu;
static struct gm_reader *reader; /* of IOVAs */

static void begin(void)
{
	for (int i = 0; i < NR_SPACES; i++)
		assert_ok(gm_space_create(
			GM_OPTS(gm_space_opts, .over = i ? spaces[i - 1] : NULL,
				.gpa_limit = i == IOVA ? GM_SPACE_NO_WINDOW : GIB(1),
				.timeout_ns = UINT64_C(20000000000)),
			&spaces[i], &err));
	for (int i = 0; i < IOVA; i++)
		assert_ok(gm_space_add(spaces[i], DESC(.backing = BLOCK(.len = LEN)), NULL, &err));
	assert_ok(gm_iommu_create(spaces[UPPER], NULL, &iommu, &err));
	assert_ok(gm_space_add(
		spaces[IOVA], DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_reader_create(spaces[IOVA], "device", &reader, &err));
	for (int i = 0; i < NR_SPACES; i++)
		assert_ok(gm_log_create(spaces[i], LOG(.len = LEN), &logs[i], &err));
}

static void end(void)
{
	gm_reader_destroy(reader);
	for (int i = NR_SPACES - 1; i >= 0; i--) {
		assert_ok(gm_log_destroy(logs[i], &err));
		gm_space_destroy(spaces[i]);
		if (i == IOVA)
			gm_iommu_put(iommu);
	}
}

static void map(uint64_t page, uint64_t nr, uint64_t target, uint32_t perms)
{
	assert_ok(gm_iommu_map(iommu, page * PAGE, nr * PAGE, target * PAGE, perms, &err));
}

/* These pages are marked in a log, and no other; they are taken. */
static void assert_log(int which, uint64_t first, uint64_t nr)
{
	uint64_t word = 99;

	assert_int_equal(gm_log_take(logs[which], 0, PAGES, &word, NULL), 0);
	assert_int_equal(word, nr ? UINT64_MAX >> (64 - nr) << first : 0);
}

/* @nr pages from @iova on, which are those from @target on in space @which. */
static void assert_marked(int which, uint64_t iova, uint64_t target, uint64_t nr)
{
	assert_log(IOVA, iova, nr);
	assert_log(which, target, nr);
	assert_log(which == LOWER ? UPPER : LOWER, 0, 0);
}

static void assert_clean(void)
{
	assert_marked(LOWER, 0, 0, 0);
}

/* ---- nothing is written ---- */

static void reads_and_refused_writes_mark_nothing(void **state)
{
	uint8_t bytes[64] = {0};
	const struct gm_view *view;
	struct iovec slice[2];
	struct gm_pin pins[2];
	uint64_t u64 = 5;
	uint8_t other = 200;
	size_t needed;
	size_t done;
	int order;

	(void)state;
	begin();
	map(0, 4, 10, GM_PERM_RW);
	map(4, 4, 20, GM_PERM_R);
	/* To where nothing is below. */
	map(8, 1, PAGES, GM_PERM_RW);
	view = gm_reader_enter(reader);
	for (uint64_t page = 0; page < 8; page += 4) {
		uint64_t at = page * PAGE + 8;

		assert_int_equal(gm_read(view, at, bytes, sizeof(bytes), NULL), 0);
		assert_int_equal(gm_read_u64(view, at, &u64), 0);
		assert_int_equal(gm_atomic_load_u64(view, at, __ATOMIC_ACQUIRE, &u64), 0);
		assert_int_equal(gm_compare(view, at, bytes, 64, &order, NULL), 0);
		assert_int_equal(gm_is_zero(view, at, 2 * PAGE, NULL), 1);
		assert_int_equal(gm_pin_slice(view, at, 8, GM_PERM_R, slice, pins), 0);
		gm_pin_put(&pins[0]);
	}
	assert_clean();
	/* No permission, no translation, no memory, no bytes, no change. */
	for (uint64_t page = 4; page < 12; page += 4) {
		uint64_t at = page * PAGE + 8;
		int want = page == 4 ? -EACCES : -EFAULT;

		assert_int_equal(gm_write(view, at, bytes, 64, NULL), want);
		assert_int_equal(gm_fill(view, at, 1, 64, NULL), want);
		assert_int_equal(gm_copy(view, at, 0, 64, NULL), want);
		assert_int_equal(gm_write_u64(view, at, 1), want);
		assert_int_equal(gm_atomic_store_u64(view, at, __ATOMIC_RELEASE, 1), want);
		assert_int_equal(gm_atomic_fetch_or_u64(view, at, __ATOMIC_SEQ_CST, 1, NULL), want);
		assert_int_equal(gm_pin_slice(view, at, 8, GM_PERM_W, slice, pins), want);
	}
	assert_int_equal(gm_write(view, 12 * PAGE, bytes, 64, NULL), -EFAULT);
	assert_int_equal(gm_write(view, UINT64_MAX, bytes, 2, NULL), -ERANGE);
	assert_int_equal(gm_write(view, 0, bytes, 0, NULL), 0);
	assert_int_equal(gm_atomic_cmpxchg_u8(view, 0, __ATOMIC_SEQ_CST, &other, 1), 0);
	assert_int_equal(gm_atomic_store_u64(view, 4, __ATOMIC_RELEASE, 1), -EINVAL);
	assert_clean();
	/* As far as it came. */
	assert_int_equal(gm_write(view, 4 * PAGE - 10, bytes, 64, &done), -EACCES);
	assert_int_equal(done, 10);
	assert_marked(UPPER, 3, 13, 1);
	/* Numbers are written whole or not at all. */
	assert_int_equal(gm_write_u64(view, 4 * PAGE - 4, 1), -EACCES);
	assert_clean();
	/* All or nothing; what was handed out before the failure counts as written. */
	assert_int_equal(
		gm_pin_range(view, 3 * PAGE, 2 * PAGE, GM_PERM_RW, slice, pins, 2, &needed),
		-EACCES);
	assert_marked(UPPER, 3, 13, 1);
	gm_reader_leave(reader);
	end();
}

/* ---- switched ---- */

static void write_at(uint64_t page, uint64_t nr)
{
	assert_int_equal(gm_fill(gm_reader_enter(reader), page * PAGE, 1, nr * PAGE, NULL), 0);
	gm_reader_leave(reader);
}

static void writes_are_marked_where_they_went(void **state)
{
	struct iovec slice;
	struct gm_pin pin;

	(void)state;
	begin();
	map(0, 8, 30, GM_PERM_RW);
	write_at(1, 2);
	assert_marked(UPPER, 1, 31, 2);
	assert_ok(gm_iommu_switch(iommu, NULL, GM_IOMMU_BYPASS, &err));
	write_at(1, 2);
	assert_marked(UPPER, 1, 1, 2);
	assert_ok(gm_iommu_switch(iommu, spaces[LOWER], GM_IOMMU_BYPASS, &err));
	write_at(1, 2);
	assert_marked(LOWER, 1, 1, 2);
	assert_ok(gm_iommu_switch(iommu, NULL, 0, &err));
	write_at(1, 2);
	assert_marked(LOWER, 1, 31, 2);
	/* A pin marks where its memory is, whatever has become of the way there. */
	assert_int_equal(
		gm_pin_slice(gm_reader_enter(reader), 3 * PAGE, 2 * PAGE, GM_PERM_RW, &slice, &pin),
		0);
	gm_reader_leave(reader);
	assert_marked(LOWER, 3, 33, 2);
	assert_ok(gm_iommu_switch(iommu, spaces[UPPER], GM_IOMMU_BYPASS | GM_IOMMU_FORGET, &err));
	memset(slice.iov_base, 2, PAGE + 1);
	gm_pin_put_written(&pin, PAGE + 1);
	assert_marked(LOWER, 3, 33, 2);
	/* Logs of one space alone. */
	assert_ok(gm_log_destroy(logs[UPPER], &err));
	write_at(5, 1);
	assert_log(IOVA, 5, 1);
	assert_log(LOWER, 0, 0);
	assert_ok(gm_log_create(spaces[UPPER], LOG(.len = LEN), &logs[UPPER], &err));
	assert_ok(gm_log_destroy(logs[IOVA], &err));
	write_at(5, 1);
	assert_log(UPPER, 5, 1);
	assert_ok(gm_log_create(spaces[IOVA], LOG(.len = LEN), &logs[IOVA], &err));
	end();
}

/*
 * A write through a space above would pass a log unseen where it is led on: of logs, spaces above and an IOMMU a
 * space has two. UPPER has logs and a space above.
 */
static void a_space_that_is_passed_has_no_log(void **state)
{
	struct gm_space *top;
	struct gm_iommu *low;
	struct gm_log *log;

	(void)state;
	begin();
	assert_ok(gm_iommu_create(spaces[LOWER], NULL, &low, &err));
	assert_fails(
		gm_space_add(spaces[UPPER],
			DESC(.gpa = GIB(2), .len = PAGE, .kind = GM_REGION_IOMMU, .iommu = low),
			NULL, &err),
		ENOTSUP, "has logs");
	assert_fails(gm_space_create(GM_OPTS(gm_space_opts, .over = spaces[IOVA]), &top, &err),
		ENOTSUP, "an IOMMU and logs");
	assert_ok(gm_log_destroy(logs[IOVA], &err));
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .over = spaces[IOVA], .gpa_limit = GIB(1)), &top, &err));
	assert_fails(gm_log_create(spaces[IOVA], LOG(.len = LEN), &log, &err), ENOTSUP,
		"above or below");
	gm_space_destroy(top);
	assert_ok(gm_log_create(spaces[IOVA], LOG(.len = LEN), &logs[IOVA], &err));
	/* One that failed for another reason is not counted. */
	assert_ok(gm_log_destroy(logs[UPPER], &err));
	assert_fails(gm_log_create(spaces[UPPER],
			     LOG(.first = 1, .len = UINT64_MAX, .page_size = 1), &log, &err),
		ENOMEM, "");
	assert_ok(gm_space_add(spaces[UPPER],
		DESC(.gpa = GIB(2), .len = PAGE, .kind = GM_REGION_IOMMU, .iommu = low), NULL,
		&err));
	assert_fails(gm_log_create(spaces[UPPER], LOG(.len = LEN), &log, &err), ENOTSUP, "IOMMU");
	gm_iommu_put(low);
	assert_ok(gm_log_create(spaces[LOWER], LOG(.len = LEN), &logs[UPPER], &err));
	end();
}

/* ---- beside writers ---- */

#define WRITERS 2

static bool stop;
static uint64_t nr_failed;
/* Of each page of IOVAs: writes begun, and the highest number of one that was done. */
static uint64_t begun[WRITERS][PAGES];
static uint64_t done[WRITERS][PAGES];

static int write_one(const struct gm_view *view, uint64_t n, uint64_t addr)
{
	struct iovec slice;
	struct gm_pin pin;
	int rc;

	switch (n % 5) {
	case 0:
		return gm_write_le64(view, addr, n);
	case 1:
		return gm_write(view, addr, &n, 8, NULL);
	case 2:
		return gm_atomic_store_u64(view, addr, __ATOMIC_RELAXED, n);
	case 3:
		return gm_atomic_exchange_u64(view, addr, __ATOMIC_SEQ_CST, n, NULL);
	default:
		rc = gm_pin_slice(view, addr, 8, GM_PERM_RW, &slice, &pin);
		if (rc)
			return rc;
		__atomic_store_n((uint64_t *)slice.iov_base, n, __ATOMIC_RELAXED);
		gm_pin_put(&pin);
		return 0;
	}
}

/* Pages 48 and up are only read. */
static void *write_on(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	struct rng rng = {test_seed(70 + me)};
	struct gm_reader *mine;

	if (gm_reader_create(spaces[IOVA], "writer", &mine, NULL))
		return (void *)1;
	for (uint64_t n = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n++) {
		uint64_t page = rng_below(&rng, 48);
		/* Words of one's own, by either way. */
		uint64_t addr = page * PAGE + (rng_below(&rng, PAGE / 16) * 2 + me) * 8;
		const struct gm_view *view = gm_reader_enter(mine);
		uint64_t value;
		int rc;

		__atomic_store_n(&begun[me][page], n, __ATOMIC_SEQ_CST);
		rc = write_one(view, n, addr);
		if (rc == 0)
			__atomic_store_n(&done[me][page], n, __ATOMIC_SEQ_CST);
		else if (rc == -EFAULT)
			__atomic_fetch_add(&nr_failed, 1, __ATOMIC_RELAXED);
		if (rc == 0 || rc == -EFAULT)
			rc = gm_read_u64(
				view, addr % PAGE / 8 * 8 + (48 + page % 16) * PAGE, &value);
		gm_reader_leave(mine);
		if (rc && rc != -EFAULT)
			return (void *)1;
	}
	gm_reader_destroy(mine);
	return NULL;
}

/* Copies the pages that the log of a space names. */
static uint64_t copy_taken(int which, struct gm_reader *own, uint8_t *copy)
{
	uint64_t word = 0;
	uint64_t count = 0;

	assert_int_equal(gm_log_take(logs[which], 0, PAGES, &word, &count), 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		if (!(word >> i & 1))
			continue;
		assert_int_equal(
			gm_read(gm_reader_enter(own), i * PAGE, copy + i * PAGE, PAGE, NULL), 0);
		gm_reader_leave(own);
	}
	return count;
}

/* Numbers of writes that were begun when a page of IOVAs was taken last. */
static uint64_t known[WRITERS][PAGES];

static void take_iovas(bool last)
{
	uint64_t word = 0;

	assert_int_equal(gm_log_take(logs[IOVA], 0, PAGES, &word, NULL), 0);
	assert_int_equal(word >> 48, 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		for (int w = 0; w < WRITERS; w++) {
			if (word >> i & 1)
				known[w][i] = __atomic_load_n(&begun[w][i], __ATOMIC_SEQ_CST);
			else if (last && done[w][i] > known[w][i])
				fail_msg("write %llu to page %llu is in no log",
					(unsigned long long)done[w][i], (unsigned long long)i);
		}
	}
}

static void change_route(unsigned long n)
{
	bool up = n % 2;
	uint32_t flags = n % 3 == 0 ? GM_IOMMU_BYPASS : 0;

	assert_ok(gm_iommu_switch(
		iommu, spaces[up ? UPPER : LOWER], flags | (n % 5 ? 0 : GM_IOMMU_FORGET), &err));
	/* Turned around or not, with a page that is left out. */
	for (uint64_t i = 0; n % 4 == 0 && i < PAGES; i++) {
		if (i == n % 48)
			assert_int_equal(gm_iommu_unmap(iommu, i * PAGE, PAGE), 0);
		else
			map(i, 1, n % 8 ? i : PAGES - 1 - i, GM_PERM_RW);
	}
}

static void nothing_is_missed_while_the_iommu_is_switched(void **state)
{
	static uint8_t copies[IOVA][LEN];
	static uint8_t now[LEN];
	struct gm_reader *readers[IOVA];
	pthread_t threads[WRITERS];
	uint64_t taken[IOVA] = {0};
	void *rc;

	(void)state;
	memset(copies, 0, sizeof(copies));
	memset(known, 0, sizeof(known));
	stop = false;
	begin();
	for (int i = 0; i < IOVA; i++)
		assert_ok(gm_reader_create(spaces[i], "copies", &readers[i], &err));
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_on, (void *)i), 0);
	for (unsigned long n = 0;
		n < support_scale(300) || taken[LOWER] < 500 || taken[UPPER] < 500 ||
		!__atomic_load_n(&nr_failed, __ATOMIC_RELAXED);
		n++) {
		change_route(n);
		taken[n / 2 % 2] += copy_taken(n / 2 % 2, readers[n / 2 % 2], copies[n / 2 % 2]);
		take_iovas(false);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], &rc);
		assert_null(rc);
	}
	take_iovas(true);
	for (int i = 0; i < IOVA; i++) {
		copy_taken(i, readers[i], copies[i]);
		assert_int_equal(gm_read(gm_reader_enter(readers[i]), 0, now, LEN, NULL), 0);
		gm_reader_leave(readers[i]);
		assert_memory_equal(copies[i], now, LEN);
		gm_reader_destroy(readers[i]);
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_refused_writes_mark_nothing),
		cmocka_unit_test(writes_are_marked_where_they_went),
		cmocka_unit_test(a_space_that_is_passed_has_no_log),
		cmocka_unit_test(nothing_is_missed_while_the_iommu_is_switched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
