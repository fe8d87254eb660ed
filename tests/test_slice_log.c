/* SPDX-License-Identifier: BSD-3-Clause */
/* test_slice_log.c - what dirty logs are told of writes through slices. */
#include "one_log.h"

#include <errno.h>
#include <guestmem/iommu.h>

#include "held_slice.h"
#include "short_file.h"

/* One write of each sort, in pages 0 to NR_SORTS - 1 of the slice. */
static int write_sort(const struct held *h, size_t sort, uint64_t at)
{
	uint64_t seen = 0;
	uint64_t bytes = 9;

	switch (sort) {
	case 0:
		return gm_slice_write(&h->slice, &h->pin, at, &bytes, 8, NULL);
	case 1:
		return gm_slice_fill(&h->slice, &h->pin, at, 3, 8, NULL);
	case 2:
		return gm_slice_copy(&h->slice, &h->pin, at, &h->slice, &h->pin, 0, 8, NULL);
	case 3:
		return gm_slice_store(&h->slice, &h->pin, at, GM_BE64, __ATOMIC_RELAXED, 7);
	case 4:
		return gm_slice_store(&h->slice, &h->pin, at, GM_U32, __ATOMIC_SEQ_CST, 7);
	case 5:
		return gm_slice_atomic(&h->slice, &h->pin, at, GM_BACKEND_FETCH_ADD, 8, 1, &seen);
	case 6:
		return gm_slice_load(&h->slice, &h->pin, at, GM_U64, 0, &seen) ||
		       gm_slice_atomic(&h->slice, &h->pin, at, GM_BACKEND_CMPXCHG, 8, 5, &seen);
	default:
		memset((uint8_t *)h->slice.iov_base + at, 1, 8);
		gm_slice_mark(&h->slice, &h->pin, at, 8);
		return 0;
	}
}

#define NR_SORTS 8u

/* Reads, and what is refused or does not change anything. */
static void disturb_nothing(const struct held *h)
{
	uint64_t seen = 12345;
	uint8_t bytes[8];

	assert_int_equal(gm_slice_read(&h->slice, &h->pin, 0, bytes, 8, NULL), 0);
	assert_int_equal(gm_slice_load(&h->slice, &h->pin, 0, GM_U64, 0, &seen), 0);
	assert_int_equal(gm_slice_store(&h->slice, &h->pin, LEN - 4, GM_U64, 0, 1), -ERANGE);
	assert_int_equal(gm_slice_write(&h->slice, &h->pin, LEN - 4, bytes, 5, NULL), -ERANGE);
	assert_int_equal(gm_slice_fill(&h->slice, &h->pin, 0, 1, 0, NULL), 0);
	seen += 1;
	assert_int_equal(
		gm_slice_atomic(&h->slice, &h->pin, 0, GM_BACKEND_CMPXCHG, 8, 5, &seen), 0);
	gm_slice_mark(&h->slice, &h->pin, LEN, 1);
	gm_slice_mark(&h->slice, &h->pin, 0, 0);
	gm_slice_mark(&h->slice, &h->pin, UINT64_MAX, 2);
}

static void what_is_written_is_marked_and_no_more(void **state)
{
	struct held h;

	(void)state;
	start_log();
	h = hold(reader, 0, LEN, GM_PERM_RW | GM_PIN_EXACT);
	assert_clean(log_);
	for (int round = 0; round < 3; round++) {
		for (size_t sort = 0; sort < NR_SORTS; sort++) {
			assert_int_equal(write_sort(&h, sort, sort * PAGE + 16), 0);
			assert_taken(log_, sort, 1);
			/* Twice in a page, then over the border of two. */
			assert_int_equal(write_sort(&h, sort, sort * PAGE + 8), 0);
			assert_int_equal(write_sort(&h, sort, sort * PAGE + 32), 0);
			assert_taken(log_, sort, 1);
		}
		assert_int_equal(write_sort(&h, 3, 5 * PAGE - 4), 0);
		assert_taken(log_, 4, 2);
		assert_int_equal(gm_slice_fill(&h.slice, &h.pin, 100, 1, 9 * PAGE, NULL), 0);
		assert_taken(log_, 0, 10);
		disturb_nothing(&h);
		assert_clean(log_);
	}
	gm_slice_mark(&h.slice, &h.pin, LEN - 1, UINT64_MAX);
	assert_taken(log_, LEN / PAGE - 1, 1);
	gm_pin_put(&h.pin);
	assert_clean(log_);
	stop_log();
}

static void an_exact_pin_marks_what_is_said(void **state)
{
	struct iovec slices[2];
	struct gm_pin pins[2];
	size_t needed;
	struct held h;

	(void)state;
	start_log();
	h = hold(reader, 0, LEN, GM_PERM_RW);
	assert_taken(log_, 0, LEN / PAGE);
	gm_pin_put(&h.pin);
	assert_taken(log_, 0, LEN / PAGE);
	h = hold(reader, PAGE, LEN - PAGE, GM_PERM_W | GM_PIN_EXACT);
	gm_pin_put_written(&h.pin, PAGE + 1);
	assert_taken(log_, 1, 2);
	assert_int_equal(gm_pin_range(gm_reader_enter(reader), 0, LEN, GM_PERM_W | GM_PIN_EXACT,
				 slices, pins, 2, &needed),
		0);
	gm_reader_leave(reader);
	assert_clean(log_);
	assert_int_equal(gm_slice_fill(slices, pins, PAGE, 1, 1, NULL), 0);
	gm_pin_put(pins);
	assert_taken(log_, 1, 1);
	/* It is no permission, and none that is not there. */
	h.pin = (struct gm_pin){0};
	assert_int_equal(gm_pin_slice(gm_reader_enter(reader), LEN, 1, GM_PERM_W | GM_PIN_EXACT,
				 &h.slice, &h.pin),
		-EFAULT);
	assert_int_equal(gm_pin_slice(gm_reader_enter(reader), 0, 1, GM_PERM_R | 0x40000000u,
				 &h.slice, &h.pin),
		-EACCES);
	gm_reader_leave(reader);
	gm_reader_leave(reader);
	stop_log();
}

/* One log is its view's filter, two have another one, some are in the consumer's storage. */
static void logs_come_and_go_while_a_pin_is_held(void **state)
{
	static uint8_t storage[LEN / PAGE / 8];
	struct gm_log *logs[2];
	struct held h;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	h = hold(reader, 0, LEN, GM_PERM_RW | GM_PIN_EXACT);
	assert_int_equal(write_sort(&h, 0, 3 * PAGE), 0);
	for (int round = 0; round < 3; round++) {
		logs[0] = make_log(NULL);
		assert_clean(logs[0]);
		assert_int_equal(write_sort(&h, 0, 3 * PAGE), 0);
		assert_int_equal(write_sort(&h, 0, 3 * PAGE), 0);
		logs[1] = make_log(NULL);
		assert_int_equal(write_sort(&h, 3, 3 * PAGE), 0);
		assert_taken(logs[1], 3, 1);
		assert_taken(logs[0], 3, 1);
		assert_int_equal(write_sort(&h, 3, 3 * PAGE), 0);
		assert_int_equal(write_sort(&h, 4, 3 * PAGE), 0);
		assert_taken(logs[0], 3, 1);
		assert_ok(gm_log_destroy(logs[0], &err));
		assert_int_equal(write_sort(&h, 3, 4 * PAGE), 0);
		assert_taken(logs[1], 3, 2);
		memset(storage, 0, sizeof(storage));
		logs[0] = make_log(GM_OPTS(gm_log_opts, .storage = storage,
			.storage_len = sizeof(storage), .page_size = PAGE));
		for (int i = 0; i < 2; i++) {
			assert_int_equal(write_sort(&h, 1, 9 * PAGE), 0);
			assert_int_equal(storage[1], 2);
			storage[1] = 0;
		}
		assert_ok(gm_log_destroy(logs[0], &err));
		assert_ok(gm_log_destroy(logs[1], &err));
		assert_int_equal(write_sort(&h, 3, 4 * PAGE), 0);
	}
	stop();
	assert_int_equal(write_sort(&h, 3, 4 * PAGE), 0);
	gm_pin_put(&h.pin);
}

/* Each name of a page, those that come later too. */
static void every_name_is_marked(void **state)
{
	struct gm_block *block;
	struct held h;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_block_create(BLOCK(.len = 8 * PAGE, .flags = GM_BLOCK_SHARE), &block, &err));
	assert_ok(gm_space_add(space, DESC(.gpa = 0, .block = block), NULL, &err));
	log_ = make_log(NULL);
	h = hold(reader, 0, 8 * PAGE, GM_PERM_RW | GM_PIN_EXACT);
	assert_int_equal(write_sort(&h, 3, 2 * PAGE), 0);
	assert_taken(log_, 2, 1);
	assert_int_equal(write_sort(&h, 3, 2 * PAGE), 0);
	assert_ok(gm_space_add(space, DESC(.gpa = 8 * PAGE, .block = block), &id, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	gm_log_reset(log_, 0, LEN);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(write_sort(&h, 3, 2 * PAGE), 0);
		assert_int_equal(gm_log_count(log_, 2 * PAGE, 1), 1);
		assert_int_equal(gm_log_count(log_, 10 * PAGE, 1), 1);
		assert_int_equal(gm_log_count(log_, 0, 0), 2);
		gm_log_reset(log_, 0, LEN);
	}
	gm_pin_put(&h.pin);
	gm_block_put(block);
	stop_log();
}

/* By both addresses: page 5 of the IOVA space is page 1 of the space below. */
static void a_slice_behind_an_iommu_is_in_both_logs(void **state)
{
	struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = GM_SPACE_NO_WINDOW};
	struct gm_iommu *iommu;
	struct gm_reader *device;
	struct gm_space *iova;
	struct gm_log *log;
	struct held h;

	(void)state;
	start_log();
	opts.over = space;
	assert_ok(gm_space_create(&opts, &iova, &err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_iommu_map(iommu, 5 * PAGE, 2 * PAGE, PAGE, GM_PERM_RW, &err));
	assert_ok(gm_log_create(iova, LOG(.len = LEN), &log, &err));
	assert_ok(gm_reader_create(iova, "device", &device, &err));
	h = hold(device, 5 * PAGE + 8, PAGE, GM_PERM_RW | GM_PIN_EXACT);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write_sort(&h, 3, 8), 0);
		assert_taken(log, 5, 1);
		assert_taken(log_, 1, 1);
		assert_int_equal(write_sort(&h, 0, PAGE - 12), 0);
		assert_taken(log, 5, 2);
		assert_taken(log_, 1, 2);
	}
	gm_pin_put(&h.pin);
	assert_clean(log);
	gm_reader_destroy(device);
	assert_ok(gm_log_destroy(log, &err));
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	stop_log();
}

/* Of what failed, as much as was written; of a downward copy all. */
static void failing_writes_mark_what_they_wrote(void **state)
{
	static uint8_t bytes[2 * PAGE];
	struct held h;
	size_t done = 77;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add_short(0, 3 * PAGE);
	log_ = make_log(NULL);
	h = hold(reader, 0, 3 * PAGE, GM_PERM_RW | GM_PIN_EXACT);
	cut_short(PAGE);
	assert_int_equal(gm_slice_write(&h.slice, &h.pin, PAGE, bytes, 8, &done), -EIO);
	assert_int_equal(done, 0);
	assert_int_equal(gm_slice_store(&h.slice, &h.pin, PAGE, GM_U64, 0, 1), -EIO);
	assert_int_equal(gm_slice_fill(&h.slice, &h.pin, PAGE, 1, PAGE, NULL), -EIO);
	assert_clean(log_);
	assert_int_equal(gm_slice_write(&h.slice, &h.pin, PAGE / 2, bytes, PAGE, &done), -EIO);
	assert_int_equal(done, PAGE / 2);
	assert_taken(log_, 0, 1);
	assert_int_equal(gm_slice_copy(&h.slice, &h.pin, PAGE / 2 + 8, &h.slice, &h.pin, PAGE / 2,
				 2 * PAGE, &done),
		-EIO);
	assert_int_equal(done, 0);
	assert_taken(log_, 0, 3);
	gm_pin_put(&h.pin);
	assert_clean(log_);
	stop_log();
	end_short();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_marked_and_no_more),
		cmocka_unit_test(an_exact_pin_marks_what_is_said),
		cmocka_unit_test(logs_come_and_go_while_a_pin_is_held),
		cmocka_unit_test(every_name_is_marked),
		cmocka_unit_test(a_slice_behind_an_iommu_is_in_both_logs),
		cmocka_unit_test(failing_writes_mark_what_they_wrote),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
