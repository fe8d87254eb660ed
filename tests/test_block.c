/* SPDX-License-Identifier: BSD-3-Clause */
/* test_block.c - blocks of every backing and page size: what is got. */
#include "one_block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void every_backing_gives_memory(void **state)
{
	void *own = mmap(NULL, MIB(4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = make_file(MIB(8));
	const struct gm_block_opts cases[] = {
		{.size = sizeof(*cases), .len = MIB(4)},
		{.size = sizeof(*cases), .len = MIB(4), .flags = GM_BLOCK_SHARE},
		{.size = sizeof(*cases), .len = MIB(4), .backing = GM_BACKING_ANON_SHARED},
		{.size = sizeof(*cases), .len = MIB(4), .backing = GM_BACKING_MEMFD},
		{.size = sizeof(*cases), .len = MIB(4), .backing = GM_BACKING_FILE, .path = path},
		{.size = sizeof(*cases),
			.len = MIB(4),
			.backing = GM_BACKING_FD,
			.fd = fd,
			.offset = MIB(4)},
		{.size = sizeof(*cases),
			.len = MIB(4),
			.backing = GM_BACKING_FD,
			.fd = fd,
			.flags = GM_BLOCK_PRIVATE,
			.offset = MIB(1)},
		{.size = sizeof(*cases), .len = MIB(4), .backing = GM_BACKING_POINTER, .addr = own},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct gm_block *block = make(&cases[i]);
		struct gm_block_info info = info_of(block);

		assert_int_equal(info.len, MIB(4));
		assert_int_equal(info.choice, -1);
		check_usable(block);
		gm_block_put(block);
		/* What a shared file got stays in it; start the next case with zeros. */
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(ftruncate(fd, (off_t)MIB(8)), 0);
	}
	close(fd);
	unlink(path);
	munmap(own, MIB(4));
}

/* The fd and the offset that are told lead to the block's bytes, of which the sixth is @byte, in the file of @fd. */
static void check_told(struct gm_block *block, int fd, uint64_t offset, char byte)
{
	struct gm_block_info info = info_of(block);
	struct stat given;
	struct stat told;
	char is = 0;

	assert_int_equal(info.offset, offset);
	assert_int_equal(fstat(fd, &given), 0);
	assert_int_equal(fstat(info.fd, &told), 0);
	assert_int_equal(told.st_ino, given.st_ino);
	assert_int_equal(told.st_dev, given.st_dev);
	assert_int_equal(pread(info.fd, &is, 1, (off_t)info.offset + 5), 1);
	assert_int_equal(is, byte);
}

static void a_shared_file_is_written_at_its_offset(void **state)
{
	int fd = make_file(MIB(2));
	struct gm_block *block = make(GM_OPTS(gm_block_opts, .len = KIB(64), .offset = MIB(1),
		.backing = GM_BACKING_FD, .fd = fd));
	char byte = 0;

	(void)state;
	((char *)info_of(block).hva)[5] = 'x';
	assert_int_equal(pread(fd, &byte, 1, (off_t)MIB(1) + 5), 1);
	assert_int_equal(byte, 'x');
	check_told(block, fd, MIB(1), 'x');
	gm_block_put(block);
	block = make(GM_OPTS(gm_block_opts, .len = KIB(64), .offset = MIB(2) - KIB(64),
		.backing = GM_BACKING_FILE, .path = path));
	((char *)info_of(block).hva)[5] = 'z';
	check_told(block, fd, MIB(2) - KIB(64), 'z');
	gm_block_put(block);
	block = make(GM_OPTS(gm_block_opts, .len = KIB(64), .offset = MIB(1),
		.backing = GM_BACKING_FD, .fd = fd, .flags = GM_BLOCK_PRIVATE));
	check_told(block, fd, MIB(1), 'x');
	assert_int_equal(((char *)info_of(block).hva)[5], 'x');
	((char *)info_of(block).hva)[5] = 'y';
	assert_int_equal(pread(fd, &byte, 1, (off_t)MIB(1) + 5), 1);
	assert_int_equal(byte, 'x');
	gm_block_put(block);
	close(fd);
	unlink(path);
}

static void a_memfd_is_sealed_and_named(void **state)
{
	struct gm_block *block = make(
		GM_OPTS(gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_SHARE, .name = "ram0"));
	struct gm_block_info info = info_of(block);
	char link[64];
	char target[64] = "";

	(void)state;
	assert_int_equal(info.backing, GM_BACKING_MEMFD);
	assert_int_equal(fcntl(info.fd, F_GET_SEALS) & (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL),
		F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	assert_int_equal(ftruncate(info.fd, 0), -1);
	assert_true(fcntl(info.fd, F_GETFD) & FD_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", info.fd);
	assert_true(readlink(link, target, sizeof(target) - 1) > 0);
	assert_non_null(strstr(target, "ram0"));
	gm_block_put(block);
	block = make(
		GM_OPTS(gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_SHARE | GM_BLOCK_NO_SEAL));
	assert_int_equal(fcntl(info_of(block).fd, F_GET_SEALS) & (F_SEAL_GROW | F_SEAL_SHRINK), 0);
	gm_block_put(block);
}

static void guest_memory_is_neither_dumped_nor_inherited(void **state)
{
	struct gm_block *block = make(GM_OPTS(gm_block_opts, .len = MIB(1)));
	struct gm_block *open = make(GM_OPTS(gm_block_opts, .len = MIB(1),
		.flags = GM_BLOCK_FORK | GM_BLOCK_DUMP | GM_BLOCK_WIPEONFORK | GM_BLOCK_MERGE));
	void *hva = info_of(block).hva;

	(void)state;
	assert_true(support_vmflag(hva, "dc"));
	assert_true(support_vmflag(hva, "dd"));
	hva = info_of(open).hva;
	assert_false(support_vmflag(hva, "dc"));
	assert_false(support_vmflag(hva, "dd"));
	assert_true(support_vmflag(hva, "wf"));
	assert_true(support_vmflag(hva, "mg"));
	gm_block_put(block);
	gm_block_put(open);
}

static void guard_pages_surround_a_block(void **state)
{
	struct gm_block *block = make(GM_OPTS(gm_block_opts, .len = MIB(1)));
	struct gm_block_info info = info_of(block);
	const uint8_t *hva = info.hva;
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], hva, 1), 1);
	assert_int_equal(write(pipes[1], hva - 1, 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(write(pipes[1], hva + info.len, 1), -1);
	assert_int_equal(errno, EFAULT);
	/* They are ours, not just free. */
	assert_true(support_smaps(hva - 1, "Size:") >= 4096);
	assert_true(support_smaps(hva + info.len, "Size:") >= 4096);
	close(pipes[0]);
	close(pipes[1]);
	gm_block_put(block);
}

static void addresses_are_aligned_to_what_huge_pages_need(void **state)
{
	struct gm_block *small = make(GM_OPTS(gm_block_opts, .len = KIB(4)));
	struct gm_block *large =
		make(GM_OPTS(gm_block_opts, .len = GIB(1), .reserve = GM_RESERVE_NONE));
	struct gm_block *asked = make(GM_OPTS(gm_block_opts, .len = KIB(4), .align = MIB(64)));

	(void)state;
	assert_int_equal((uintptr_t)info_of(small).hva % MIB(2), 0);
	assert_int_equal((uintptr_t)info_of(large).hva % GIB(1), 0);
	assert_int_equal((uintptr_t)info_of(asked).hva % MIB(64), 0);
	gm_block_put(small);
	gm_block_put(large);
	gm_block_put(asked);
}

static void base_pages_are_base_pages(void **state)
{
	struct gm_block *block;

	(void)state;
	assert_true(support_knob(THP_KNOB, "always"));
	block = make(GM_OPTS(gm_block_opts, .len = MIB(8), .flags = GM_BLOCK_POPULATE,
		.pages = {{GM_PAGE_BASE}}));
	assert_int_equal(support_smaps(info_of(block).hva, "AnonHugePages:"), 0);
	assert_int_equal(support_smaps(info_of(block).hva, "Rss:"), MIB(8));
	assert_int_equal(info_of(block).page_size, 4096);
	gm_block_put(block);
	assert_true(support_knob(THP_KNOB, "madvise"));
}

static void transparent_huge_pages_are_huge_when_populated(void **state)
{
	struct gm_block *anon;
	struct gm_block *memfd;

	(void)state;
	assert_true(support_knob(THP_KNOB, "madvise"));
	assert_true(support_knob(SHMEM_KNOB, "advise"));
	anon = make(GM_OPTS(gm_block_opts, .len = MIB(64), .flags = GM_BLOCK_POPULATE,
		.pages = {{GM_PAGE_THP}}));
	memfd = make(GM_OPTS(gm_block_opts, .len = MIB(64),
		.flags = GM_BLOCK_POPULATE | GM_BLOCK_SHARE, .pages = {{GM_PAGE_THP, 21}}));
	assert_int_equal(support_smaps(info_of(anon).hva, "AnonHugePages:"), MIB(64));
	assert_int_equal(support_smaps(info_of(memfd).hva, "ShmemPmdMapped:"), MIB(64));
	assert_int_equal(info_of(anon).page_size, MIB(2));
	assert_int_equal(info_of(anon).choice, 0);
	gm_block_put(anon);
	gm_block_put(memfd);
}

static void a_multi_size_order_is_got(void **state)
{
	struct gm_block *block;

	(void)state;
	/* Only this order is on, so the kernel has nothing larger to give. */
	assert_true(support_knob(THP_KNOB, "never"));
	assert_true(support_knob(MTHP_KNOB, "madvise"));
	block = make(GM_OPTS(gm_block_opts, .len = MIB(4), .flags = GM_BLOCK_POPULATE,
		.pages = {{GM_PAGE_THP, 16}}));
	assert_int_equal(info_of(block).page_size, KIB(64));
	assert_int_equal(support_smaps(info_of(block).hva, "AnonHugePages:"), 0);
	gm_block_put(block);
	assert_true(support_knob(MTHP_KNOB, "never"));
	assert_true(support_knob(THP_KNOB, "madvise"));
}

static void explicit_huge_pages_come_from_the_pool(void **state)
{
	const uint32_t sizes[] = {21, 30};

	(void)state;
	/* One at a time: a machine that has run for long has few gigabytes in one piece. */
	for (size_t i = 0; i < 4; i++) {
		const uint32_t log2 = sizes[i / 2];
		uint64_t page = UINT64_C(1) << log2;
		struct gm_block *block;

		assert_true(support_pool(log2, 1));
		block = make(GM_OPTS(gm_block_opts, .len = page,
			.flags = i % 2 ? GM_BLOCK_SHARE : 0, .pages = {{GM_PAGE_HUGETLB, log2}}));
		check_usable(block);
		assert_int_equal(support_smaps(info_of(block).hva, "KernelPageSize:"), page);
		assert_int_equal(info_of(block).page_size, page);
		gm_block_put(block);
	}
}

static void the_first_choice_that_works_is_taken(void **state)
{
	struct gm_block *block;

	(void)state;
	assert_true(support_knob(THP_KNOB, "madvise"));
	block = make(GM_OPTS(gm_block_opts, .len = GIB(20), .reserve = GM_RESERVE_NONE,
		.pages = {{GM_PAGE_HUGETLB, 22}, {GM_PAGE_THP}, {GM_PAGE_BASE}}));
	assert_int_equal(info_of(block).choice, 1);
	assert_int_equal(info_of(block).got.kind, GM_PAGE_THP);
	assert_non_null(strstr(info_of(block).why, "no huge pages of 4096 kB"));
	gm_block_put(block);
	assert_true(support_knob(THP_KNOB, "never"));
	block = make(GM_OPTS(gm_block_opts, .len = MIB(4) + KIB(4),
		.pages = {{GM_PAGE_HUGETLB, 21}, {GM_PAGE_THP}, {GM_PAGE_BASE}}));
	assert_int_equal(info_of(block).choice, 2);
	assert_non_null(strstr(info_of(block).why, "not a multiple"));
	assert_non_null(strstr(info_of(block).why, "; "));
	gm_block_put(block);
	assert_true(support_knob(THP_KNOB, "madvise"));
}

struct progress {
	uint64_t last;
	unsigned int calls;
	int cancel;
	bool cancel_at_report;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct progress *progress = arg;

	assert_true(done >= progress->last && done <= total);
	progress->last = done;
	progress->calls++;
	if (progress->cancel_at_report)
		progress->cancel = 1;
}

static void population_reports_progress_and_uses_threads(void **state)
{
	struct progress progress = {0};
	struct gm_populate_opts how = {.size = sizeof(how),
		.threads = 3,
		.progress = on_progress,
		.progress_arg = &progress};
	struct gm_block *block = make(GM_OPTS(gm_block_opts, .len = MIB(128)));

	(void)state;
	assert_ok(gm_block_populate(block, &how, &err));
	assert_int_equal(progress.last, MIB(128));
	assert_true(progress.calls >= 2);
	assert_int_equal(support_smaps(info_of(block).hva, "Rss:"), MIB(128));
	gm_block_put(block);
	/* A part only. */
	block = make(GM_OPTS(gm_block_opts, .len = MIB(64)));
	assert_ok(gm_block_populate(
		block, GM_OPTS(gm_populate_opts, .off = MIB(8), .len = MIB(16)), &err));
	assert_int_equal(support_smaps(info_of(block).hva, "Rss:"), MIB(16));
	assert_fails(gm_block_populate(
			     block, GM_OPTS(gm_populate_opts, .off = MIB(60), .len = MIB(8)), &err),
		EINVAL, "outside");
	assert_fails(gm_block_populate(block, GM_OPTS(gm_populate_opts, .off = 5), &err), EINVAL,
		"whole pages");
	gm_block_put(block);
}

static void population_can_be_cancelled(void **state)
{
	struct progress progress = {.cancel = 0};
	struct gm_populate_opts how = {.size = sizeof(how),
		.threads = 1,
		.cancel = &progress.cancel,
		.progress = on_progress,
		.progress_arg = &progress};
	struct gm_block *block = make(GM_OPTS(gm_block_opts, .len = MIB(128)));

	(void)state;
	progress.cancel_at_report = true;
	assert_fails(gm_block_populate(block, &how, &err), ECANCELED, "cancelled");
	assert_int_equal(progress.calls, 1);
	assert_int_equal(support_smaps(info_of(block).hva, "Rss:"), progress.last);
	assert_true(progress.last < MIB(128));
	/* The rest can be filled later. */
	assert_ok(gm_block_populate(block, NULL, &err));
	assert_int_equal(support_smaps(info_of(block).hva, "Rss:"), MIB(128));
	gm_block_put(block);
}

static void locked_memory_is_locked(void **state)
{
	struct gm_block *block =
		make(GM_OPTS(gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_LOCK));
	struct gm_block *onfault =
		make(GM_OPTS(gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_LOCK_ONFAULT));

	(void)state;
	assert_int_equal(support_smaps(info_of(block).hva, "Locked:"), MIB(1));
	assert_true(support_vmflag(info_of(onfault).hva, "lo"));
	assert_int_equal(support_smaps(info_of(onfault).hva, "Rss:"), 0);
	gm_block_put(block);
	gm_block_put(onfault);
}

static void memory_is_bound_to_its_node(void **state)
{
	struct gm_block *block =
		make(GM_OPTS(gm_block_opts, .len = MIB(4), .flags = GM_BLOCK_POPULATE,
			.numa = {.mode = GM_NUMA_BIND, .home_plus = 1, .nodes = {1}}));
	char want[32];
	char line[512];
	bool bound = false;
	FILE *file = fopen("/proc/self/numa_maps", "r");

	(void)state;
	assert_non_null(file);
	snprintf(want, sizeof(want), "%lx bind", (unsigned long)(uintptr_t)info_of(block).hva);
	while (fgets(line, sizeof(line), file))
		bound |= strncmp(line, want, strlen(want)) == 0 && strstr(line, "N0=1024");
	fclose(file);
	assert_true(bound);
	assert_ok(gm_block_bind(block, MIB(1), MIB(1),
		&(struct gm_numa){.mode = GM_NUMA_INTERLEAVE, .nodes = {1}}, &err));
	assert_fails(gm_block_bind(block, MIB(3), MIB(2),
			     &(struct gm_numa){.mode = GM_NUMA_BIND, .nodes = {1}}, &err),
		EINVAL, "no such part");
	gm_block_put(block);
}

static void a_real_reservation_is_there_at_once(void **state)
{
	struct gm_block *anon =
		make(GM_OPTS(gm_block_opts, .len = MIB(4), .reserve = GM_RESERVE_REAL));
	struct gm_block *memfd = make(GM_OPTS(
		gm_block_opts, .len = MIB(4), .flags = GM_BLOCK_SHARE, .reserve = GM_RESERVE_REAL));
	int fd = make_file(MIB(4));
	struct gm_block *file = make(GM_OPTS(gm_block_opts, .len = MIB(4), .backing = GM_BACKING_FD,
		.fd = fd, .reserve = GM_RESERVE_REAL));
	struct stat st;

	(void)state;
	assert_int_equal(support_smaps(info_of(anon).hva, "Rss:"), MIB(4));
	assert_int_equal(fstat(info_of(memfd).fd, &st), 0);
	assert_int_equal(st.st_blocks * 512, MIB(4));
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 >= (long long)MIB(4));
	gm_block_put(anon);
	gm_block_put(memfd);
	gm_block_put(file);
	close(fd);
	unlink(path);
}

/* Nothing is mapped in a child, so an access there is a fault, which the guard makes an error. */
static void a_forked_child_gets_an_error(void **state)
{
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_block_opts ram = {.size = sizeof(ram), .len = MIB(1), .flags = GM_BLOCK_POPULATE};
	uint64_t value;
	pid_t child;
	int status;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	assert_ok(gm_space_build(NULL, GM_OPTS(gm_region_desc, .backing = &ram), 1, &space, &err));
	assert_ok(gm_reader_create(space, NULL, &reader, &err));
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		size_t done = 77;
		char buf[64];
		int rc = gm_read_u64(gm_reader_enter(reader), 0x1000, &value);
		int bulk = gm_read(gm_reader_enter(reader), 0x1000, buf, sizeof(buf), &done);

		_exit(rc == -EIO && bulk == -EIO && done == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(gm_read_u64(gm_reader_enter(reader), 0x1000, &value), 0);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	gm_guard_remove();
}

static void a_reference_keeps_a_block(void **state)
{
	struct gm_block *block = make(GM_OPTS(gm_block_opts, .len = MIB(1)));

	(void)state;
	assert_ptr_equal(gm_block_get(block), block);
	gm_block_put(block);
	check_usable(block);
	gm_block_put(block);
	gm_block_put(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_backing_gives_memory),
		cmocka_unit_test(a_shared_file_is_written_at_its_offset),
		cmocka_unit_test(a_memfd_is_sealed_and_named),
		cmocka_unit_test(guest_memory_is_neither_dumped_nor_inherited),
		cmocka_unit_test(guard_pages_surround_a_block),
		cmocka_unit_test(addresses_are_aligned_to_what_huge_pages_need),
		cmocka_unit_test(base_pages_are_base_pages),
		cmocka_unit_test(transparent_huge_pages_are_huge_when_populated),
		cmocka_unit_test(a_multi_size_order_is_got),
		cmocka_unit_test(explicit_huge_pages_come_from_the_pool),
		cmocka_unit_test(the_first_choice_that_works_is_taken),
		cmocka_unit_test(population_reports_progress_and_uses_threads),
		cmocka_unit_test(population_can_be_cancelled),
		cmocka_unit_test(locked_memory_is_locked),
		cmocka_unit_test(memory_is_bound_to_its_node),
		cmocka_unit_test(a_real_reservation_is_there_at_once),
		cmocka_unit_test(a_forked_child_gets_an_error),
		cmocka_unit_test(a_reference_keeps_a_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
