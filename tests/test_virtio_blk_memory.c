/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtio_blk_memory.c - a block device and guest memory: what it writes is marked in dirty logs, and behind an
 * IOMMU it waits for translations.
 */
#include "one_blk.h"

#include <guestmem/iommu.h>
#include <guestmem/log.h>

static void what_is_read_is_marked(void **state)
{
	struct gm_log *log;
	uint8_t bytes[KIB(8)];
	uint64_t mark;

	(void)state;
	start_device(mem_disk(), 8, 0);
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .len = GIB(1)), &log, &err));
	memset(bytes, 1, sizeof(bytes));
	assert_int_equal(write_sectors(0, bytes, sizeof(bytes), 0), 0);
	gm_log_reset(log, 0, GIB(1));
	{
		struct line *l = new_line();

		add_head(l, IN, 0, WHOLE, NULL);
		l->at = buffers_of(l) + KIB(8);
		add_bytes(l, NULL, KIB(8), GM_CHAIN_WRITE, WHOLE, NULL);
		l->at = buffers_of(l) + KIB(32);
		add_bytes(l, NULL, 1, GM_CHAIN_WRITE, WHOLE, NULL);
		gm_log_reset(log, 0, GIB(1));
		assert_int_equal(serve(l, 0), 0);
		for (mark = 0; mark < LINE; mark += KIB(4)) {
			uint64_t gpa = buffers_of(l) + mark;
			bool is = mark == KIB(8) || mark == KIB(12) || mark == KIB(32);
			assert_int_equal(gm_log_count(log, gpa, KIB(4)), is);
		}
	}
	assert_ok(gm_log_destroy(log, &err));
	stop_device();
}

/* ---- behind an IOMMU ---- */

static unsigned int misses;

static int on_miss(void *ctx, uint64_t iova, uint64_t len, uint32_t perms)
{
	(void)ctx;
	(void)iova;
	(void)len;
	(void)perms;
	misses++;
	return 0;
}

/* Translations come one after the other: of the header, of data in two pages, of the status. */
static void a_request_waits_for_its_translations(void **state)
{
	static const uint64_t offsets[] = {0, KIB(4), KIB(12), KIB(20)};
	struct gm_iommu_opts opts = {.size = sizeof(opts), .miss = on_miss};
	struct gm_disk *d = mem_disk();
	struct gm_space *iova;
	struct gm_reader *device;
	struct gm_iommu *iommu;
	struct line *l;
	uint8_t bytes[KIB(4)];
	uint32_t base;

	(void)state;
	start_device(d, 64, 0);
	gm_virtio_blk_queue_destroy(q);
	memset(mem.bytes, 0x3c, DISK_LEN);
	assert_ok(gm_iommu_create(space, &opts, &iommu, &err));
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = space), &iova,
		&err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_iommu_map(iommu, 0, BUFFERS_AT, 0, GM_PERM_RW, &err));
	assert_ok(gm_reader_create(iova, "device", &device, &err));
	assert_ok(gm_virtq_start(vq, gm_reader_enter(device), 0, &err));
	gm_reader_leave(device);
	assert_ok(gm_virtio_blk_queue_create(blk,
		&(struct gm_virtio_blk_queue_opts){
			.size = sizeof(struct gm_virtio_blk_queue_opts), .vq = vq, .space = iova},
		&q, &err));
	l = new_line();
	add_head(l, IN, 0, WHOLE, NULL);
	for (int i = 1; i < 4; i++) {
		l->at = buffers_of(l) + offsets[i];
		add_room(l, i < 3 ? KIB(2) : 1, WHOLE, NULL);
	}
	assert_int_equal(offer(l, 0), 0);
	show_driver();
	misses = 0;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(gm_virtio_blk_run(q, 0, &err), 0);
		assert_int_equal(gm_virtio_blk_out(q), 1);
		assert_true(misses > 0);
		misses = 0;
		assert_null(take_back());
		/* Who takes a translation away does not wait for who waits for one. */
		assert_int_equal(gm_virtio_blk_let_go(q, 0, &err), 0);
		assert_int_equal(gm_virtio_blk_stop(q, 60000, &base, &err), -EAGAIN);
		gm_virtio_blk_pause(q, false);
		assert_int_equal(gm_iommu_map(iommu, buffers_of(l) + offsets[i], KIB(4),
					 buffers_of(l) + offsets[i], GM_PERM_RW, &err),
			0);
	}
	await(l);
	assert_int_equal(status_of(l), 0);
	assert_int_equal(l->len, KIB(4) + 1);
	get_bytes(l, bytes, KIB(4));
	assert_memory_equal(bytes, mem.bytes, KIB(4));
	gm_virtio_blk_queue_destroy(q);
	q = NULL;
	gm_reader_destroy(device);
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	stop_device();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read_is_marked),
		cmocka_unit_test(a_request_waits_for_its_translations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
