/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_unmapped.c - memory that is described, exported and accessed, and not mapped in this process.
 */
#include <errno.h>
#include <fcntl.h>
#include <guestmem/layout.h>
#include <guestmem/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "one_space.h"

#define PAGE UINT64_C(4096)
#define TIB(n) ((uint64_t)(n) << 40)

#define UNMAPPED(...) UNMAPPED_WITH(0, __VA_ARGS__)
#define UNMAPPED_WITH(more, ...)                                                                   \
	BLOCK(.backing = GM_BACKING_MEMFD, .flags = GM_BLOCK_UNMAPPED | (more), __VA_ARGS__)

static uint64_t status_kib(const char *key)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long long kib = 0;
	char line[256];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, strlen(key)) == 0)
			kib = strtoull(line + strlen(key) + 1, NULL, 10);
	}
	fclose(file);
	return kib;
}

static int fd_of(uint64_t id)
{
	struct gm_block_info info = {.size = sizeof(info)};

	assert_int_equal(gm_block_info(region(id).block, &info), 0);
	assert_null(info.hva);
	assert_true(info.flags & GM_BLOCK_UNMAPPED);
	return info.fd;
}

/* Has the process a mapping of the file? */
static bool is_mapped(int fd)
{
	char line[512];
	struct stat st;
	FILE *file = fopen("/proc/self/maps", "r");
	bool found = false;

	assert_non_null(file);
	assert_int_equal(fstat(fd, &st), 0);
	while (fgets(line, sizeof(line), file)) {
		unsigned long ino;

		if (sscanf(line, "%*s %*s %*s %*s %lu", &ino) == 1 && ino == st.st_ino)
			found = true;
	}
	fclose(file);
	return found;
}

static void test_a_tebibyte_is_described_by_a_small_process(void **state)
{
	/* Without a window: all that there is of it is the tree. */
	struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = GM_SPACE_NO_WINDOW};
	uint64_t size = status_kib("VmSize:");
	uint64_t rss = status_kib("VmRSS:");
	const struct gm_view *view;
	uint64_t ids[8];
	uint64_t value = 0;
	struct stat st;

	(void)state;
	start(&opts);
	for (uint64_t i = 0; i < 8; i++)
		assert_ok(gm_space_add(space,
			DESC(.gpa = i * GIB(128),
				.backing = UNMAPPED(.len = GIB(128), .reserve = GM_RESERVE_NONE)),
			&ids[i], &err));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_view_check(view, 0, TIB(1), GM_PERM_RW), 0);
	for (uint64_t gpa = 8; gpa < TIB(1); gpa += GIB(16))
		assert_int_equal(gm_write_le64(view, gpa, gpa), 0);
	for (uint64_t gpa = 8; gpa < TIB(1); gpa += GIB(16)) {
		assert_int_equal(gm_read_le64(view, gpa, &value), 0);
		assert_int_equal(value, gpa);
	}
	/* Across two files. */
	assert_int_equal(gm_write_le64(view, GIB(128) - 4, 0x1122334455667788), 0);
	assert_int_equal(gm_read_le64(view, GIB(128) - 4, &value), 0);
	assert_int_equal(value, 0x1122334455667788);
	gm_reader_leave(reader);
	assert_int_equal(fstat(fd_of(ids[3]), &st), 0);
	assert_int_equal(st.st_size, GIB(128));
	/* The host may give shared memory huge pages by itself. */
	assert_true(st.st_blocks * 512 <= 16 * (long)MIB(2));
	assert_false(is_mapped(fd_of(ids[3])));
	assert_true(status_kib("VmRSS:") < rss + 4096);
	assert_true(status_kib("VmSize:") < size + 64 * 1024);
	printf("figure: tebibyte_rss_kib %llu\n", (unsigned long long)(status_kib("VmRSS:") - rss));
	stop();
}

static void test_it_is_a_region_like_others(void **state)
{
	const struct gm_view *view;
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_block *block;
	uint64_t id;
	uint64_t alias;
	uint8_t buf[8];

	(void)state;
	start(NULL);
	assert_ok(gm_block_create(UNMAPPED(.len = 8 * PAGE), &block, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(1), .block = block, .block_off = PAGE, .len = 4 * PAGE), &id,
		&err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(2), .kind = GM_REGION_ALIAS, .target = id, .block_off = PAGE,
			.len = PAGE, .perms = GM_PERM_R),
		&alias, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(3), .kind = GM_REGION_ROM, .block = block, .block_off = 6 * PAGE,
			.len = PAGE),
		NULL, &err));
	assert_int_equal(gm_space_next(space, MIB(1), &info), 0);
	assert_null(info.hva);
	assert_int_equal(info.placed, 0);
	assert_int_equal(info.block_off, PAGE);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write(view, MIB(1) + PAGE, "memory", 7, NULL), 0);
	assert_int_equal(pread(fd_of(id), buf, 7, (off_t)(2 * PAGE)), 7);
	assert_string_equal((char *)buf, "memory");
	memset(buf, 0, sizeof(buf));
	assert_int_equal(gm_read(view, MIB(2), buf, 7, NULL), 0);
	assert_string_equal((char *)buf, "memory");
	assert_int_equal(gm_write(view, MIB(2), "x", 1, NULL), -EACCES);
	assert_int_equal(gm_write(view, MIB(3), "x", 1, NULL), -EACCES);
	assert_int_equal(gm_atomic_fetch_or_u8(view, MIB(3), __ATOMIC_SEQ_CST, 1, buf), -EACCES);
	assert_int_equal(gm_view_gpa(view, (void *)(uintptr_t)(MIB(1)), &id), -EFAULT);
	gm_reader_leave(reader);
	gm_block_put(block);
	stop();
}

static void test_atomic_accesses_and_slices_map_it_for_a_moment(void **state)
{
	const struct gm_view *view;
	struct iovec slice;
	struct gm_pin pin;
	uint64_t id;
	uint64_t old;
	uint32_t expected = 5;

	(void)state;
	start(NULL);
	assert_ok(gm_space_add(space, DESC(.backing = UNMAPPED(.len = 8 * PAGE)), &id, &err));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_atomic_store_u64(view, PAGE + 8, __ATOMIC_SEQ_CST, 40), 0);
	assert_int_equal(gm_atomic_fetch_add_u64(view, PAGE + 8, __ATOMIC_SEQ_CST, 2, &old), 0);
	assert_int_equal(old, 40);
	assert_int_equal(gm_atomic_cmpxchg_u32(view, PAGE + 8, __ATOMIC_SEQ_CST, &expected, 1), 0);
	assert_int_equal(expected, 42);
	assert_false(is_mapped(fd_of(id)));
	assert_int_equal(gm_pin_slice(view, PAGE + 8, 5 * PAGE, GM_PERM_RW, &slice, &pin), 0);
	gm_reader_leave(reader);
	assert_int_equal(slice.iov_len, 5 * PAGE);
	assert_true(is_mapped(fd_of(id)));
	memcpy(&old, slice.iov_base, 8);
	assert_int_equal(old, 42);
	memset(slice.iov_base, 0xab, slice.iov_len);
	gm_pin_put(&pin);
	assert_false(is_mapped(fd_of(id)));
	assert_int_equal(gm_read_le64(gm_reader_enter(reader), 6 * PAGE, &old), 0);
	gm_reader_leave(reader);
	assert_int_equal(old, 0xabababababababab);
	/* A slice that may be read only is mapped without W. */
	assert_int_equal(gm_pin_slice(gm_reader_enter(reader), 0, 8, GM_PERM_R, &slice, &pin), 0);
	gm_reader_leave(reader);
	assert_false(support_vmflag(slice.iov_base, "wr"));
	assert_true(support_vmflag(slice.iov_base, "rd"));
	gm_pin_put(&pin);
	stop();
}

static void test_huge_pages_are_mapped_for_each_access(void **state)
{
	const struct gm_view *view;
	uint8_t bytes[256];
	uint64_t id;
	int order = 1;

	(void)state;
	assert_true(support_pool(21, 2));
	start(NULL);
	assert_ok(gm_space_add(space,
		DESC(.backing = UNMAPPED(.len = MIB(4), .pages = {{GM_PAGE_HUGETLB, 21}})), &id,
		&err));
	memset(bytes, 0x5a, sizeof(bytes));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write(view, MIB(2) - 128, bytes, sizeof(bytes), NULL), 0);
	assert_int_equal(gm_compare(view, MIB(2) - 128, bytes, sizeof(bytes), &order, NULL), 0);
	assert_int_equal(order, 0);
	assert_int_equal(gm_is_zero(view, 0, MIB(2) - 128, NULL), 1);
	gm_reader_leave(reader);
	assert_false(is_mapped(fd_of(id)));
	stop();
}

/* What the file cannot give is an error that names nothing else, with the exact progress. */
static void test_a_file_that_shrank_is_an_error(void **state)
{
	uint8_t bytes[100];
	size_t done = 0;
	uint64_t id;

	(void)state;
	start(NULL);
	assert_ok(gm_space_add(space,
		DESC(.backing = UNMAPPED_WITH(GM_BLOCK_NO_SEAL, .len = 4 * PAGE)), &id, &err));
	assert_int_equal(ftruncate(fd_of(id), (off_t)(PAGE + 40)), 0);
	assert_int_equal(gm_read(gm_reader_enter(reader), PAGE, bytes, 100, &done), -EIO);
	assert_int_equal(done, 40);
	gm_reader_leave(reader);
	stop();
}

static void test_a_read_only_file_is_not_written(void **state)
{
	char path[] = "/tmp/guestmem-test-XXXXXX";
	int fd = mkstemp(path);
	struct iovec slice;
	struct gm_pin pin;
	uint8_t byte = 1;
	int ro;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)PAGE), 0);
	ro = open(path, O_RDONLY);
	unlink(path);
	start(NULL);
	assert_fails(gm_space_add(space,
			     DESC(.backing = BLOCK(.len = PAGE, .backing = GM_BACKING_FD, .fd = ro,
					  .flags = GM_BLOCK_UNMAPPED)),
			     NULL, &err),
		EACCES, "not open for");
	assert_ok(gm_space_add(space,
		DESC(.kind = GM_REGION_ROM,
			.backing = BLOCK(.len = PAGE, .backing = GM_BACKING_FD, .fd = ro,
				.flags = GM_BLOCK_UNMAPPED | GM_BLOCK_READONLY)),
		NULL, &err));
	assert_int_equal(gm_read_u8(gm_reader_enter(reader), 0, &byte), 0);
	assert_int_equal(byte, 0);
	assert_int_equal(gm_write_u8(gm_reader_enter(reader), 0, 1), -EACCES);
	assert_int_equal(gm_pin_slice(gm_reader_enter(reader), 0, 8, GM_PERM_R, &slice, &pin), 0);
	gm_pin_put(&pin);
	for (int i = 0; i < 3; i++)
		gm_reader_leave(reader);
	stop();
	close(ro);
	close(fd);
}

static void test_what_only_a_mapping_has_is_refused(void **state)
{
	struct gm_block *block;
	const struct gm_numa numa = {.mode = GM_NUMA_BIND, .nodes = {1}};

	(void)state;
	assert_fails(gm_block_create(BLOCK(.len = PAGE, .flags = GM_BLOCK_UNMAPPED), &block, &err),
		EINVAL, "memfds, files and fds");
	assert_fails(gm_block_create(UNMAPPED_WITH(GM_BLOCK_POPULATE, .len = PAGE), &block, &err),
		EINVAL, "not mapped");
	assert_fails(gm_block_create(UNMAPPED(.len = PAGE, .numa = numa), &block, &err), EINVAL,
		"not mapped");
	assert_fails(
		gm_block_create(UNMAPPED(.len = MIB(2), .pages = {{GM_PAGE_THP, 0}}), &block, &err),
		EINVAL, "mapping");
	assert_ok(gm_block_create(UNMAPPED(.len = PAGE), &block, &err));
	assert_fails(gm_block_populate(block, NULL, &err), ENOTSUP, "not mapped");
	assert_fails(gm_block_bind(block, 0, PAGE, &numa, &err), ENOTSUP, "not mapped");
	gm_block_put(block);
}

static void test_real_reservation_fills_the_file(void **state)
{
	struct gm_block_info info = {.size = sizeof(info)};
	struct gm_block *block;
	struct stat st;

	(void)state;
	assert_ok(
		gm_block_create(UNMAPPED(.len = MIB(1), .reserve = GM_RESERVE_REAL), &block, &err));
	assert_int_equal(gm_block_info(block, &info), 0);
	assert_int_equal(fstat(info.fd, &st), 0);
	assert_int_equal(st.st_blocks * 512, MIB(1));
	gm_block_put(block);
}

/* Exported like any other: the receiver maps it. */
static void test_it_is_sent_and_mapped_there(void **state)
{
	struct gm_space *theirs;
	struct gm_reader *their_reader;
	uint64_t value = 0;
	int socks[2];

	(void)state;
	start(NULL);
	assert_ok(gm_space_add(
		space, DESC(.gpa = MIB(1), .backing = UNMAPPED(.len = 8 * PAGE)), NULL, &err));
	assert_int_equal(gm_write_le64(gm_reader_enter(reader), MIB(1) + 64, 77), 0);
	gm_reader_leave(reader);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), 0);
	assert_ok(gm_layout_send(space, socks[0], 0, &err));
	assert_ok(gm_layout_recv(socks[1], NULL, &theirs, &err));
	assert_ok(gm_reader_create(theirs, NULL, &their_reader, &err));
	assert_int_equal(gm_read_le64(gm_reader_enter(their_reader), MIB(1) + 64, &value), 0);
	gm_reader_leave(their_reader);
	assert_int_equal(value, 77);
	gm_reader_destroy(their_reader);
	gm_space_destroy(theirs);
	close(socks[0]);
	close(socks[1]);
	stop();
}

static int on_add(void *ctx, const struct gm_section *section, struct gm_error *e)
{
	(void)e;
	assert_null(section->hva);
	assert_non_null(section->block);
	++*(int *)ctx;
	return 0;
}

static void test_listeners_are_told_no_address(void **state)
{
	struct gm_listener *listener;
	struct gm_block *block;
	int added = 0;

	(void)state;
	start(NULL);
	assert_ok(gm_block_create(UNMAPPED(.len = 8 * PAGE), &block, &err));
	assert_ok(gm_space_add(
		space, DESC(.gpa = MIB(1), .block = block, .len = 4 * PAGE), NULL, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(1) + 4 * PAGE, .block = block, .block_off = 4 * PAGE), NULL, &err));
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .add = on_add, .join = GM_JOIN_FILE, .ctx = &added),
		&listener, &err));
	/* Neighbours in one file are one. */
	assert_int_equal(added, 1);
	assert_ok(gm_listener_destroy(listener, &err));
	gm_block_put(block);
	stop();
}

/* ---- faults ---- */

static int scenario(void *ctx)
{
	uint8_t bytes[300] = {1};
	uint64_t old;
	uint64_t id;

	(void)ctx;
	struct gm_block *block;
	const struct gm_view *view;
	struct iovec slice;
	struct gm_pin pin;
	int rc = gm_block_create(UNMAPPED(.len = 8 * PAGE), &block, NULL);

	if (rc)
		return rc;
	/* Made before the sweep: what fails from here on is an access. */
	rc = gm_space_add(space, DESC(.block = block), &id, NULL);
	if (!rc) {
		view = gm_reader_enter(reader);
		rc = gm_write(view, PAGE - 100, bytes, sizeof(bytes), NULL);
		if (!rc)
			rc = gm_read(view, PAGE - 100, bytes, sizeof(bytes), NULL);
		if (!rc)
			rc = gm_atomic_fetch_add_u64(view, 8, __ATOMIC_SEQ_CST, 1, &old);
		if (!rc)
			rc = gm_pin_slice(view, 8, 8, GM_PERM_RW, &slice, &pin);
		if (!rc)
			gm_pin_put(&pin);
		gm_reader_leave(reader);
		fault_disarm();
		assert_ok(gm_space_remove(space, id, &err));
		assert_ok(gm_space_wait(space, 0, &err));
	}
	gm_block_put(block);
	return rc;
}

static void test_every_failing_call_leaves_nothing(void **state)
{
	(void)state;
	start(NULL);
	assert_true(fault_sweep(scenario, NULL) > 10);
	stop();
}

static void test_interrupted_and_short_calls_go_on(void **state)
{
	uint8_t out[1000];
	uint8_t in[1000];

	(void)state;
	start(NULL);
	assert_ok(gm_space_add(space, DESC(.backing = UNMAPPED(.len = 8 * PAGE)), NULL, &err));
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 3);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_pwrite, .nth = 1, .forever = true, .short_len = 37, .eintr = 2});
	assert_int_equal(gm_write(gm_reader_enter(reader), 5, out, sizeof(out), NULL), 0);
	assert_true(fault_hits() > 20);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_pread, .nth = 1, .forever = true, .short_len = 11, .eintr = 2});
	assert_int_equal(gm_read(gm_reader_enter(reader), 5, in, sizeof(in), NULL), 0);
	assert_true(fault_hits() > 50);
	fault_disarm();
	assert_memory_equal(in, out, sizeof(in));
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pread, .nth = 1, .error = EIO});
	assert_int_equal(gm_read(gm_reader_enter(reader), 5, in, 10, NULL), -EIO);
	assert_int_equal(fault_hits(), 1);
	fault_disarm();
	for (int i = 0; i < 3; i++)
		gm_reader_leave(reader);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_tebibyte_is_described_by_a_small_process),
		cmocka_unit_test(test_it_is_a_region_like_others),
		cmocka_unit_test(test_atomic_accesses_and_slices_map_it_for_a_moment),
		cmocka_unit_test(test_huge_pages_are_mapped_for_each_access),
		cmocka_unit_test(test_a_file_that_shrank_is_an_error),
		cmocka_unit_test(test_a_read_only_file_is_not_written),
		cmocka_unit_test(test_what_only_a_mapping_has_is_refused),
		cmocka_unit_test(test_real_reservation_fills_the_file),
		cmocka_unit_test(test_it_is_sent_and_mapped_there),
		cmocka_unit_test(test_listeners_are_told_no_address),
		cmocka_unit_test(test_every_failing_call_leaves_nothing),
		cmocka_unit_test(test_interrupted_and_short_calls_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
