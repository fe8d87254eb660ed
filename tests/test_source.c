/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_source.c - sources: memory, files with holes, the caller's in both forms; liars; every call fails in turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "own_source.h"
#include "random.h"
#include "services/source.h"
#include "support.h"

#define PAGE UINT64_C(4096)
#define LEN KIB(64)

static struct gm_error err;

static void assert_bytes(const uint8_t *bytes, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != byte_at(at + i))
			fail_msg("byte %zu is %u, not %u", i, bytes[i], byte_at(at + i));
	}
}

static struct gm_source *make(bool waits, bool extents)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "own",
		.len = LEN,
		.extent = extents ? own_extent : NULL,
		.read = waits ? NULL : own_read,
		.start = waits ? own_start : NULL,
		.step = waits ? own_step : NULL,
		.fd = waits ? own_fd : NULL,
		.destroy = own_destroy,
		.ctx = &own,
	};
	struct gm_source *source;

	own = (struct own){.event = waits ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1};
	assert_ok(gm_source_create(&ops, &source, &err));
	assert_int_equal(gm_source_len(source), LEN);
	assert_int_equal(gm_source_fd(source), own.event);
	return source;
}

static void end(struct gm_source *source)
{
	gm_source_destroy(source);
	assert_int_equal(own.destroyed, 1);
	if (own.event >= 0)
		close(own.event);
}

/* ---- requests ---- */

struct asked {
	struct gm_source_read read;
	uint8_t bytes[100];
	int rc;
	int done;
	struct gm_source *source;
	unsigned long left; /* to start from done() */
	uintptr_t lowest;   /* frame of done() */
	int stepped;
	int waited;
};

static void answered(struct gm_source_read *read, int rc)
{
	/* Not the address of a variable: the address sanitizer has these elsewhere. */
	uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
	struct asked *asked = read->ctx;
	uint8_t byte;

	asked->rc = rc;
	asked->done++;
	if (!asked->lowest || frame < asked->lowest)
		asked->lowest = frame;
	if (!asked->source)
		return;
	asked->stepped = gm_source_step(asked->source);
	asked->waited = gm_source_read(asked->source, 0, &byte, 1, NULL);
	if (asked->left && asked->left--)
		assert_int_equal(gm_source_start(asked->source, read), 0);
}

static void ask(struct asked *asked, uint64_t offset, size_t len)
{
	*asked = (struct asked){.read = {.offset = offset, .len = len, .done = answered}};
	asked->read.buf = asked->bytes;
	asked->read.ctx = asked;
}

static void both_forms_read_all_or_nothing(void **state)
{
	uint8_t bytes[1000];

	(void)state;
	for (int waits = 0; waits < 2; waits++) {
		struct gm_source *source = make(waits, false);
		struct gm_source_extent extent;
		struct asked asked;

		assert_int_equal(gm_source_extent(source, 100, &extent), 0);
		assert_int_equal(extent.kind, waits ? GM_SOURCE_REMOTE : GM_SOURCE_CHUNK);
		assert_int_equal(extent.offset, 100);
		assert_int_equal(extent.len, LEN - 100);
		assert_int_equal(extent.fd, -1);
		assert_int_equal(gm_source_extent(source, LEN, &extent), -ERANGE);
		assert_ok(gm_source_read(source, LEN - 1000, bytes, 1000, &err));
		assert_bytes(bytes, LEN - 1000, 1000);
		assert_ok(gm_source_read(source, LEN, bytes, 0, &err));
		assert_fails(gm_source_read(source, LEN, bytes, 1, &err), ERANGE,
			"own: 0x1 bytes at 0x10000");
		assert_fails(
			gm_source_read(source, UINT64_MAX, bytes, 2, &err), ERANGE, "do not lie");
		ask(&asked, 5, 100);
		assert_int_equal(gm_source_start(source, &asked.read), 0);
		assert_int_equal(asked.done, !waits);
		assert_int_equal(gm_source_step(source), 0);
		assert_int_equal(asked.done, 1);
		assert_int_equal(asked.rc, 0);
		assert_bytes(asked.bytes, 5, 100);
		ask(&asked, LEN, 0);
		assert_int_equal(gm_source_start(source, &asked.read), 0);
		assert_int_equal(asked.done, 1);
		ask(&asked, LEN, 1);
		assert_int_equal(gm_source_start(source, &asked.read), -ERANGE);
		assert_int_equal(asked.done, 0);
		own.error = -EIO;
		assert_fails(gm_source_read(source, 16, bytes, 8, &err), EIO,
			"own: 0x8 bytes at 0x10 cannot be read");
		assert_int_equal(gm_source_read(source, 16, bytes, 8, NULL), -EIO);
		end(source);
	}
}

static void reading_waits_until_there_is_room(void **state)
{
	struct gm_source *source = make(true, false);
	struct asked asked[ROOM + 1];
	uint8_t bytes[10];

	(void)state;
	for (size_t i = 0; i < ROOM; i++) {
		ask(&asked[i], i * 1000, 100);
		assert_int_equal(gm_source_start(source, &asked[i].read), 0);
	}
	ask(&asked[ROOM], 0, 1);
	assert_int_equal(gm_source_start(source, &asked[ROOM].read), -EAGAIN);
	assert_ok(gm_source_read(source, 77, bytes, 10, &err));
	assert_bytes(bytes, 77, 10);
	assert_int_equal(own.most, ROOM);
	while (own.nr)
		assert_int_equal(gm_source_step(source), 0);
	for (size_t i = 0; i < ROOM; i++) {
		assert_int_equal(asked[i].done, 1);
		assert_bytes(asked[i].bytes, i * 1000, 100);
	}
	end(source);
}

static void a_chain_of_requests_takes_no_stack(void **state)
{
	(void)state;
	for (int waits = 0; waits < 2; waits++) {
		struct gm_source *source = make(waits, false);
		struct asked asked;
		uintptr_t first;

		ask(&asked, 9, 100);
		asked.source = source;
		asked.left = 100000;
		assert_int_equal(gm_source_start(source, &asked.read), 0);
		if (waits)
			assert_int_equal(gm_source_step(source), 0);
		first = asked.lowest;
		while (asked.left)
			assert_int_equal(gm_source_step(source), 0);
		while (own.nr)
			assert_int_equal(gm_source_step(source), 0);
		assert_int_equal(asked.done, 100001);
		assert_true(first - asked.lowest < 65536);
		/* Nobody steps or waits in there. */
		assert_int_equal(asked.stepped, waits ? -EBUSY : 0);
		assert_int_equal(asked.waited, waits ? -EBUSY : 0);
		end(source);
	}
}

static void a_source_that_has_ended_is_not_called(void **state)
{
	uint8_t bytes[10];

	(void)state;
	for (int leaves = 0; leaves < 2; leaves++) {
		struct gm_source *source = make(true, false);
		struct asked asked;

		own.ends = 2;
		own.leaves = leaves;
		ask(&asked, 0, 1);
		assert_int_equal(gm_source_start(source, &asked.read), 0);
		assert_int_equal(gm_source_step(source), 0);
		assert_fails(gm_source_read(source, 0, bytes, 10, &err), ECONNRESET,
			"own: 0xa bytes at 0x0");
		assert_int_equal(own.steps, 2);
		assert_int_equal(gm_source_start(source, &asked.read), -ECONNRESET);
		assert_int_equal(gm_source_step(source), -ECONNRESET);
		assert_int_equal(gm_source_read(source, 0, bytes, 10, NULL), -ECONNRESET);
		assert_int_equal(own.steps, 2);
		end(source);
	}
}

static void answers_that_cannot_be_are_refused(void **state)
{
	static const struct gm_source_extent lies[] = {
		{.offset = 99, .len = 1, .kind = GM_SOURCE_ZERO},
		{.offset = 101, .len = 1, .kind = GM_SOURCE_ZERO},
		{.offset = 100, .len = 0, .kind = GM_SOURCE_ZERO},
		{.offset = 100, .len = LEN - 99, .kind = GM_SOURCE_CHUNK},
		{.offset = 100, .len = UINT64_MAX, .kind = GM_SOURCE_CHUNK},
		{.offset = 100, .len = 1, .kind = GM_SOURCE_ABSENT + 1},
		{.offset = 100, .len = 1, .kind = GM_SOURCE_CHUNK, .unit = 3},
		{.offset = 100, .len = 1, .kind = GM_SOURCE_RAW, .fd = -1},
		{.offset = 100, .len = 1, .kind = GM_SOURCE_RAW, .fd = 0, .fd_off = INT64_MAX},
	};
	struct gm_source *source = make(false, true);
	struct gm_source_extent extent = {.len = 12345};
	uint8_t bytes[10];

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		own.extent = lies[i];
		assert_int_equal(gm_source_extent(source, 100, &extent), -EPROTO);
		assert_int_equal(extent.len, 12345);
	}
	own.extent = (struct gm_source_extent){
		.offset = 100, .len = LEN - 100, .unit = 4096, .fd = 7, .fd_off = 1, .reserved = 1};
	own.extent_rc = 1;
	assert_int_equal(gm_source_extent(source, 100, &extent), -EPROTO);
	own.extent_rc = -5000;
	assert_int_equal(gm_source_extent(source, 100, &extent), -EPROTO);
	own.extent_rc = -ESTALE;
	assert_int_equal(gm_source_extent(source, 100, &extent), -ESTALE);
	own.extent_rc = 0;
	assert_int_equal(gm_source_extent(source, 100, &extent), 0);
	assert_int_equal(extent.fd, -1);
	assert_int_equal(extent.fd_off + extent.reserved, 0);
	own.lie = 10;
	assert_fails(gm_source_read(source, 0, bytes, 10, &err), EPROTO, "own: ");
	end(source);
	source = make(true, false);
	own.lie = 10;
	assert_fails(gm_source_read(source, 0, bytes, 10, &err), EPROTO, "own: ");
	own.lie = 0;
	own.error = 10;
	assert_fails(gm_source_read(source, 0, bytes, 10, &err), EPROTO, "own: ");
	end(source);
	/* Without an fd nobody can wait: it has ended, and does not come back to what is gone. */
	source = make(true, false);
	own.hides = true;
	assert_fails(gm_source_read(source, 0, bytes, 10, &err), EPROTO, "own: ");
	assert_int_equal(own.nr, 1);
	assert_int_equal(gm_source_step(source), -EPROTO);
	assert_int_equal(own.steps, 0);
	end(source);
}

static void functions_go_together(void **state)
{
	const struct gm_source_ops none = {.size = sizeof(none), .len = 1};
	struct gm_source_ops ops = none;
	struct gm_source *source = NULL;

	(void)state;
	assert_fails(gm_source_create(&ops, &source, &err), EINVAL, "one of read and start");
	ops.read = own_read;
	ops.start = own_start;
	assert_fails(gm_source_create(&ops, &source, &err), EINVAL, "one of read and start");
	ops.start = NULL;
	ops.step = own_step;
	assert_fails(gm_source_create(&ops, &source, &err), EINVAL, "step and fd");
	ops.read = NULL;
	ops.start = own_start;
	assert_fails(gm_source_create(&ops, &source, &err), EINVAL, "step and fd");
	ops.size = 8;
	assert_int_equal(gm_source_create(&ops, &source, &err), -EINVAL);
	assert_null(source);
	gm_source_destroy(NULL);
}

/* ---- memory ---- */

static void memory_is_read_under_the_guard(void **state)
{
	int fd = memfd_create("source", MFD_CLOEXEC);
	struct gm_source *source;
	uint8_t bytes[200];
	uint8_t *data;

	(void)state;
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	data = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(data != MAP_FAILED);
	fill_from(data, 0, 2 * PAGE);
	assert_ok(gm_source_memory(data, 2 * PAGE, &source, &err));
	assert_int_equal(gm_source_len(source), 2 * PAGE);
	assert_ok(gm_source_read(source, PAGE - 100, bytes, 200, &err));
	assert_bytes(bytes, PAGE - 100, 200);
	assert_int_equal(gm_guard_install(), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_fails(
		gm_source_read(source, PAGE - 100, bytes, 200, &err), EIO, "memory: byte 0x1000");
	assert_int_equal(gm_guard_remove(), 0);
	gm_source_destroy(source);
	assert_fails(gm_source_memory(NULL, 1, &source, &err), EINVAL, "memory");
	assert_fails(gm_source_memory(data, UINT64_MAX, &source, &err), EINVAL, "memory");
	assert_ok(gm_source_memory(NULL, 0, &source, &err));
	gm_source_destroy(source);
	munmap(data, 2 * PAGE);
	close(fd);
}

/* ---- files ---- */

#define FILE_PAGES 64

/* A file of FILE_PAGES and 5 bytes; page i has data if bit i is set. */
static int sparse_file(uint64_t bits)
{
	int fd = memfd_create("source", MFD_CLOEXEC);
	uint8_t page[PAGE];

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FILE_PAGES * (off_t)PAGE + 5), 0);
	for (uint64_t i = 0; i < FILE_PAGES; i++) {
		if (!(bits >> i & 1))
			continue;
		fill_from(page, i * PAGE, PAGE);
		assert_int_equal(pwrite(fd, page, PAGE, (off_t)(i * PAGE)), PAGE);
	}
	return fd;
}

/* Goes through it, and compares with the bits. */
static void go_through(struct gm_source *source, uint64_t bits, uint64_t start)
{
	uint64_t len = gm_source_len(source);
	struct gm_source_extent extent;
	uint8_t page[PAGE];

	for (uint64_t at = 0; at < len; at += extent.len) {
		assert_int_equal(gm_source_extent(source, at, &extent), 0);
		for (uint64_t i = 0; i < extent.len; i++) {
			uint64_t nr = (start + at + i) / PAGE;
			bool raw = nr < FILE_PAGES && (bits >> nr & 1);

			assert_int_equal(extent.kind, raw ? GM_SOURCE_RAW : GM_SOURCE_ZERO);
		}
		if (extent.kind != GM_SOURCE_RAW)
			continue;
		assert_int_equal(extent.fd_off, start + at);
		for (uint64_t off = 0, n; off < extent.len; off += n) {
			n = extent.len - off < PAGE ? extent.len - off : PAGE;
			assert_ok(gm_source_read(source, at + off, page, n, &err));
			assert_bytes(page, start + at + off, n);
			memset(page, 0, n);
			assert_int_equal(pread(extent.fd, page, n, (off_t)(extent.fd_off + off)),
				(ssize_t)n);
			assert_bytes(page, start + at + off, n);
		}
	}
}

static void holes_of_a_file_are_zeros(void **state)
{
	struct rng rng = {test_seed(6)};
	uint64_t sizes[] = {0, 1, PAGE, PAGE + 1};

	(void)state;
	for (unsigned long i = 0; i < support_scale(20); i++) {
		uint64_t bits = i == 0 ? 0 : i == 1 ? UINT64_MAX : rng_next(&rng) & rng_next(&rng);
		uint64_t start = i < 4 ? sizes[i] : rng_next(&rng) % (FILE_PAGES * PAGE);
		int fd = sparse_file(bits);
		struct gm_source *source;

		assert_ok(gm_source_file(fd, start, 0, &source, &err));
		assert_int_equal(gm_source_len(source), FILE_PAGES * PAGE + 5 - start);
		close(fd);
		go_through(source, bits, start);
		gm_source_destroy(source);
		fd = sparse_file(bits);
		assert_ok(gm_source_file(fd, start, 5, &source, &err));
		go_through(source, bits, start);
		gm_source_destroy(source);
		close(fd);
	}
}

/* To find where data end a tmpfs goes through all of a file: that is done only for who has to know. */
static void the_end_of_data_is_not_looked_for_in_vain(void **state)
{
	int fd = memfd_create("data", MFD_CLOEXEC);
	struct gm_source_extent extent;
	struct gm_source *source;

	(void)state;
	assert_int_equal(fallocate(fd, 0, 0, MIB(1)), 0);
	assert_int_equal(pwrite(fd, "data", 4, 0), 4);
	assert_ok(gm_source_file(fd, 0, 0, &source, &err));
	fault_set(NULL);
	assert_ok(gm_source_extent(source, PAGE, &extent));
	assert_int_equal(extent.kind, GM_SOURCE_RAW);
	assert_int_equal(extent.len, MIB(1) - PAGE);
	assert_int_equal(fault_calls(FAULT_gm_sys_seek), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MIB(1)), 0);
	for (uint64_t at = 0; at < 40 * PAGE; at += PAGE)
		assert_int_equal(pwrite(fd, "data", 4, (off_t)at), 4);
	fault_set(NULL);
	assert_ok(gm_source_extent_within(source, PAGE, PAGE, &extent));
	assert_int_equal(extent.kind, GM_SOURCE_RAW);
	assert_int_equal(extent.len, PAGE);
	assert_int_equal(fault_calls(FAULT_gm_sys_seek), 1);
	assert_ok(gm_source_extent_within(source, 40 * PAGE, PAGE, &extent));
	assert_int_equal(extent.kind, GM_SOURCE_ZERO);
	assert_ok(gm_source_extent(source, PAGE, &extent));
	assert_int_equal(extent.len, 39 * PAGE);
	gm_source_destroy(source);
	close(fd);
}

static void a_file_that_became_shorter_is_an_error(void **state)
{
	int fd = sparse_file(UINT64_MAX);
	struct gm_source *source;
	struct gm_source_extent extent;
	uint8_t bytes[2 * PAGE];

	(void)state;
	assert_ok(gm_source_file(fd, PAGE, 0, &source, &err));
	assert_int_equal(ftruncate(fd, 3 * PAGE + 100), 0);
	assert_int_equal(gm_source_extent(source, PAGE, &extent), 0);
	assert_int_equal(extent.kind, GM_SOURCE_RAW);
	assert_int_equal(extent.len, PAGE + 100);
	assert_int_equal(gm_source_extent(source, 2 * PAGE + 100, &extent), -ENODATA);
	assert_int_equal(gm_source_extent(source, 8 * PAGE, &extent), -ENODATA);
	assert_fails(gm_source_read(source, 2 * PAGE, bytes, PAGE, &err), ENODATA,
		"ends at byte 0x3064");
	assert_fails(gm_source_read(source, 9 * PAGE, bytes, PAGE, &err), ENODATA,
		"ends at byte 0xa000");
	/* Nor is what is now a hole at its end longer than the file. */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
	assert_int_equal(gm_source_extent(source, 0, &extent), 0);
	assert_int_equal(extent.kind, GM_SOURCE_ZERO);
	assert_int_equal(extent.len, 2 * PAGE);
	assert_int_equal(gm_source_extent(source, 2 * PAGE, &extent), -ENODATA);
	gm_source_destroy(source);
	close(fd);
}

static void files_that_are_none_are_refused(void **state)
{
	int memory = memfd_create("source", MFD_CLOEXEC);
	char path[64];
	int fds[2];
	int fd;
	struct gm_source *source;

	(void)state;
	assert_int_equal(ftruncate(memory, 100), 0);
	assert_fails(
		gm_source_file(memory, 101, 0, &source, &err), ERANGE, "do not lie in its 0x64");
	assert_fails(gm_source_file(memory, 100, 1, &source, &err), ERANGE, "do not lie");
	assert_fails(gm_source_file(memory, 1, UINT64_MAX, &source, &err), ERANGE, "do not lie");
	assert_fails(gm_source_file(-1, 0, 0, &source, &err), EBADF, "fd -1");
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_fails(gm_source_file(fds[0], 0, 0, &source, &err), EINVAL, "neither a regular file");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_fails(gm_source_file(fd, 0, 0, &source, &err), EINVAL, "not opened for reading");
	close(fd);
	assert_ok(gm_source_file(memory, 100, 0, &source, &err));
	assert_int_equal(gm_source_len(source), 0);
	gm_source_destroy(source);
	close(memory);
	close(fds[0]);
	close(fds[1]);
}

/* ---- layers ---- */

static void layers_show_the_topmost_that_has_it(void **state)
{
	struct rng rng = {test_seed(7)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(10); i++) {
		uint64_t bits[3] = {rng_next(&rng), rng_next(&rng) & rng_next(&rng),
			rng_next(&rng) & rng_next(&rng)};
		struct gm_source_layer layers[3] = {{.flags = 0}};
		struct gm_source *source;
		int fd;

		for (size_t k = 0; k < 3; k++) {
			fd = sparse_file(bits[k]);
			assert_ok(gm_source_file(
				fd, 0, k == 1 ? 40 * PAGE : 0, &layers[k].source, &err));
			layers[k].flags = k ? GM_SOURCE_HOLES_SHOW : 0;
			close(fd);
		}
		assert_ok(gm_source_layers(layers, 3, &source, &err));
		go_through(source, bits[0] | (bits[1] & ((UINT64_C(1) << 40) - 1)) | bits[2], 0);
		gm_source_destroy(source);
		/* Without the flag holes are zeros, which cover what lies below. */
		layers[2].flags = 0;
		assert_ok(gm_source_layers(layers, 3, &source, &err));
		go_through(source, bits[2], 0);
		gm_source_destroy(source);
		layers[0].flags = 2;
		assert_fails(gm_source_layers(layers, 3, &source, &err), EINVAL, "flags");
		layers[0].flags = 0;
		assert_fails(gm_source_layers(layers, 0, &source, &err), EINVAL, "none");
		assert_fails(gm_source_layers(layers + 1, 2, &source, &err), ERANGE,
			"longer than the lowest");
		for (size_t k = 0; k < 3; k++)
			gm_source_destroy(layers[k].source);
	}
}

/* ---- faults ---- */

static int scenario(void *ctx)
{
	int fd = sparse_file(6);
	struct gm_source *source;
	struct gm_source_extent extent;
	uint8_t bytes[PAGE + 5];
	int rc;

	(void)ctx;
	memset(bytes, 0xcc, sizeof(bytes));
	err = (struct gm_error){.code = 0};
	rc = gm_source_file(fd, 0, 0, &source, &err);
	assert_true(err.code == rc && (rc == 0 || err.text[0]));
	if (!rc) {
		rc = gm_source_extent(source, PAGE, &extent);
		if (!rc)
			assert_true(extent.kind == GM_SOURCE_RAW && extent.len == 2 * PAGE);
		if (!rc)
			rc = gm_source_extent(source, 0, &extent);
		if (!rc)
			assert_true(extent.kind == GM_SOURCE_ZERO && extent.len == PAGE);
		if (!rc)
			rc = gm_source_read(source, PAGE, bytes, sizeof(bytes), &err);
		if (!rc)
			assert_bytes(bytes, PAGE, sizeof(bytes));
		fault_disarm();
		gm_source_destroy(source);
	}
	fault_disarm();
	close(fd);
	return rc;
}

static int waiting_scenario(void *ctx)
{
	struct gm_source *source;
	uint8_t bytes[100];
	int rc;

	(void)ctx;
	fault_disarm();
	source = make(true, false);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_poll_in, .nth = 1, .error = ENOMEM});
	rc = gm_source_read(source, 3, bytes, 100, &err);
	assert_int_equal(fault_hits(), 1);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_poll_in, .eintr = 3});
	/* What could not be awaited is under way still: the source has ended, and never comes back to it. */
	assert_int_equal(gm_source_step(source), -ENOMEM);
	own.nr = 0;
	end(source);
	source = make(true, false);
	assert_ok(gm_source_read(source, 3, bytes, 100, &err));
	assert_bytes(bytes, 3, 100);
	assert_true(fault_hits() >= 3);
	fault_set(NULL);
	end(source);
	return rc;
}

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM, EIO};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 2};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 2, .eintr = 3};
	unsigned long nr;

	(void)state;
	nr = fault_sweep_opts(scenario, NULL, &opts);
	print_message("%lu injections\n", nr);
	assert_true(nr >= 2 * 2 * 9);
	assert_true(fault_sweep_opts(scenario, NULL, &storm) >= nr);
	for (size_t len = 1; len < 5000; len += len < 10 ? 3 : 999) {
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pread,
			.nth = 1,
			.forever = true,
			.short_len = len,
			.eintr = 1});
		assert_int_equal(scenario(NULL), 0);
		assert_true(fault_hits() >= PAGE / len);
	}
	fault_set(NULL);
	assert_int_equal(waiting_scenario(NULL), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_forms_read_all_or_nothing),
		cmocka_unit_test(reading_waits_until_there_is_room),
		cmocka_unit_test(a_chain_of_requests_takes_no_stack),
		cmocka_unit_test(a_source_that_has_ended_is_not_called),
		cmocka_unit_test(answers_that_cannot_be_are_refused),
		cmocka_unit_test(functions_go_together),
		cmocka_unit_test(memory_is_read_under_the_guard),
		cmocka_unit_test(holes_of_a_file_are_zeros),
		cmocka_unit_test(the_end_of_data_is_not_looked_for_in_vain),
		cmocka_unit_test(a_file_that_became_shorter_is_an_error),
		cmocka_unit_test(files_that_are_none_are_refused),
		cmocka_unit_test(layers_show_the_topmost_that_has_it),
		cmocka_unit_test(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
