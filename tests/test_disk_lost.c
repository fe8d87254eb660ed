/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_disk_lost.c - the kernel tells once that pages of a file could not be written: no flush says later that they
 * were.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "support.h"

#define LEN MIB(1)

static struct gm_error err;
static struct gm_disk *disk;
static struct gm_disk_channel *channels[2];
static uint8_t *page;

static void open_disk(int flags)
{
	char path[] = "/var/tmp/gm_disk_lost_XXXXXX";
	int made = mkstemp(path);
	int fd = open(path, O_RDWR | O_CLOEXEC | flags);

	assert_true(made >= 0 && fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(made, LEN), 0);
	close(made);
	assert_ok(gm_disk_file(
		GM_OPTS(gm_disk_file_opts, .fd = fd, .flags = GM_DISK_NO_URING), &disk, &err));
	close(fd);
	for (size_t i = 0; i < 2; i++)
		assert_ok(gm_disk_open(disk, 8, &channels[i], &err));
}

static void close_disk(void)
{
	for (size_t i = 0; i < 2; i++)
		gm_disk_close(channels[i]);
	gm_disk_destroy(disk);
}

static void on_done(struct gm_disk_req *req, int rc)
{
	*(int *)req->ctx = rc;
}

static int act(size_t channel, uint32_t op, uint32_t flags)
{
	struct iovec slice = {page, KIB(4)};
	int rc = 1;
	struct gm_disk_req req = {.op = op, .flags = flags, .done = on_done, .ctx = &rc};

	if (op != GM_DISK_FLUSH) {
		req.slices = &slice;
		req.nr = 1;
		req.len = slice.iov_len;
	}
	assert_int_equal(gm_disk_start(channels[channel], &req), 0);
	while (rc == 1)
		assert_true(gm_disk_step(channels[channel]) >= 0);
	return rc;
}

static int act_and_fail(uint32_t op, uint32_t flags, int error)
{
	int rc;

	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_sync, .nth = 1, .error = error});
	rc = act(0, op, flags);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	return rc;
}

static void after_a_flush_that_failed_all_fail(void **state)
{
	static const int errors[] = {EIO, ENOSPC};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		open_disk(0);
		assert_int_equal(act(0, GM_DISK_WRITE, 0), 0);
		assert_int_equal(act(1, GM_DISK_FLUSH, 0), 0);
		assert_int_equal(act_and_fail(GM_DISK_FLUSH, 0, errors[i]), -errors[i]);
		/* Also on the other channel, whose writes may be among those. */
		assert_int_equal(act(1, GM_DISK_FLUSH, 0), -errors[i]);
		assert_int_equal(act(0, GM_DISK_FLUSH, 0), -errors[i]);
		/* What is there can be read, and more be written. */
		assert_int_equal(act(1, GM_DISK_READ, 0), 0);
		assert_int_equal(act(1, GM_DISK_WRITE, 0), 0);
		assert_int_equal(act(1, GM_DISK_WRITE, GM_DISK_DURABLE), 0);
		close_disk();
	}
}

static void a_durable_write_that_failed_counts_as_one(void **state)
{
	(void)state;
	open_disk(0);
	assert_int_equal(act_and_fail(GM_DISK_WRITE, GM_DISK_DURABLE, EIO), -EIO);
	assert_int_equal(act(1, GM_DISK_FLUSH, 0), -EIO);
	close_disk();
}

/* No pages of the kernel's are in between. */
static void with_direct_access_a_flush_may_be_tried_again(void **state)
{
	(void)state;
	open_disk(O_DIRECT);
	assert_int_equal(act_and_fail(GM_DISK_FLUSH, 0, EIO), -EIO);
	assert_int_equal(act_and_fail(GM_DISK_WRITE, GM_DISK_DURABLE, EIO), -EIO);
	assert_int_equal(act(0, GM_DISK_FLUSH, 0), 0);
	close_disk();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_a_flush_that_failed_all_fail),
		cmocka_unit_test(a_durable_write_that_failed_counts_as_one),
		cmocka_unit_test(with_direct_access_a_flush_may_be_tried_again),
	};
	int rc;

	page = aligned_alloc(KIB(4), KIB(4));
	if (!page)
		return 1;
	memset(page, 0x5a, KIB(4));
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	free(page);
	return rc;
}
