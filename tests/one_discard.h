/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * one_discard.h - what the tests of discards share: one region of every backing, and what of it is really in
 * memory.
 */
#ifndef GM_TESTS_ONE_DISCARD_H
#define GM_TESTS_ONE_DISCARD_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <guestmem/discard.h>
#include <guestmem/residency.h>

#include "one_space.h"

#define PAGE UINT64_C(4096)
#define AT MIB(16)
#define LEN MIB(8)

/* What a backing is expected to do. */
struct backing {
	const char *name;
	struct gm_block_opts opts; /* len LEN */
	uint64_t page;             /* the unit that can be freed */
	uint32_t now;              /* GM_DISCARD_BY_*, 0: -ENOTSUP */
	uint32_t zero;
	uint32_t lazy;
	uint32_t cold;
	uint32_t unmap;
	bool from_file; /* NOW brings the file's bytes */
	bool far;
};

enum backing_index {
	ANON,
	THP,
	LOCKED,
	MEMFD,
	MEMFD_LOCKED,
	ANON_SHARED,
	FILE_SHARED,
	FILE_PRIVATE,
	UNMAPPED,
	HUGETLB,
	HUGETLB_MEMFD,
	HUGETLB_SHARED,
	POINTER,
	BACKINGS,
};

#define BY(name) GM_DISCARD_BY_##name

static const struct backing backings[BACKINGS] = {
	[ANON] = {"anonymous", {.pages = {{GM_PAGE_BASE}}}, PAGE, BY(DONTNEED), BY(DONTNEED),
		BY(FREE), BY(COLD), 0},
	[THP] = {"transparent huge pages", {.pages = {{GM_PAGE_THP}}}, PAGE, BY(DONTNEED),
		BY(DONTNEED), BY(FREE), BY(COLD), 0},
	[LOCKED] = {"locked", {.flags = GM_BLOCK_LOCK}, PAGE, BY(DONTNEED_LOCKED),
		BY(DONTNEED_LOCKED), 0, 0, 0},
	[MEMFD] = {"memfd", {.flags = GM_BLOCK_SHARE}, PAGE, BY(PUNCH), BY(PUNCH), 0, BY(COLD),
		BY(DONTNEED)},
	[MEMFD_LOCKED] = {"locked memfd", {.flags = GM_BLOCK_SHARE | GM_BLOCK_LOCK}, PAGE,
		BY(PUNCH), BY(PUNCH), 0, 0, BY(DONTNEED_LOCKED)},
	[ANON_SHARED] = {"anonymous, shared", {.backing = GM_BACKING_ANON_SHARED}, PAGE, BY(REMOVE),
		BY(REMOVE), 0, BY(COLD), BY(DONTNEED)},
	[FILE_SHARED] = {"file", {.backing = GM_BACKING_FD}, PAGE, BY(PUNCH), BY(PUNCH), 0,
		BY(COLD), BY(DONTNEED)},
	[FILE_PRIVATE] = {"private file", {.backing = GM_BACKING_FD, .flags = GM_BLOCK_PRIVATE},
		PAGE, BY(DONTNEED), BY(FILL), 0, BY(COLD), 0, .from_file = true},
	[UNMAPPED] = {"not mapped", {.backing = GM_BACKING_MEMFD, .flags = GM_BLOCK_UNMAPPED}, PAGE,
		BY(PUNCH), BY(PUNCH), 0, 0, 0, .far = true},
	[HUGETLB] = {"huge pages", {.pages = {{GM_PAGE_HUGETLB, 21}}}, MIB(2), BY(DONTNEED),
		BY(DONTNEED), 0, 0, 0},
	[HUGETLB_MEMFD] = {"huge pages in a memfd",
		{.flags = GM_BLOCK_SHARE, .pages = {{GM_PAGE_HUGETLB, 21}}}, MIB(2), BY(PUNCH),
		BY(PUNCH), 0, 0, BY(DONTNEED)},
	[HUGETLB_SHARED] = {"huge pages, shared",
		{.backing = GM_BACKING_ANON_SHARED, .pages = {{GM_PAGE_HUGETLB, 21}}}, MIB(2),
		BY(REMOVE), BY(REMOVE), 0, 0, BY(DONTNEED)},
	[POINTER] = {"the caller's", {.backing = GM_BACKING_POINTER}, PAGE, 0, BY(FILL), 0,
		BY(COLD), 0},
};

static int file_ = -1; /* behind FILE_* */
static void *pointer_; /* behind POINTER */
static struct gm_block *block_;

static inline struct gm_discard_result *result(void)
{
	static struct gm_discard_result r;

	r = (struct gm_discard_result){.size = sizeof(r)};
	return &r;
}

/* A space with LEN bytes of it at AT. */
static inline void start_backing(const struct backing *b)
{
	struct gm_block_opts opts = b->opts;

	if (b->page > PAGE)
		assert_true(support_pool(21, LEN / MIB(2)));
	if (opts.backing == GM_BACKING_FD) {
		char path[] = "/tmp/gm-test-discard-XXXXXX";

		file_ = mkostemp(path, O_CLOEXEC);
		assert_true(file_ >= 0);
		unlink(path);
		assert_int_equal(ftruncate(file_, (off_t)LEN), 0);
		for (uint64_t at = 0; b->from_file && at < LEN; at += PAGE) {
			static uint8_t bytes[PAGE];

			memset(bytes, 'f', sizeof(bytes));
			assert_int_equal(pwrite(file_, bytes, PAGE, (off_t)at), PAGE);
		}
		opts.fd = file_;
	}
	if (opts.backing == GM_BACKING_POINTER) {
		pointer_ =
			mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(pointer_ != MAP_FAILED);
		opts.addr = pointer_;
	}
	opts.size = sizeof(opts);
	opts.len = LEN;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_block_create(&opts, &block_, &err));
	assert_ok(gm_space_add(space, DESC(.gpa = AT, .block = block_), NULL, &err));
}

static inline void stop_backing(void)
{
	stop();
	gm_block_put(block_);
	if (file_ >= 0)
		close(file_);
	file_ = -1;
	if (pointer_)
		munmap(pointer_, LEN);
	pointer_ = NULL;
}

static inline void fill_bytes(uint64_t gpa, uint8_t byte, uint64_t len)
{
	assert_int_equal(gm_fill(gm_reader_enter(reader), gpa, byte, len, NULL), 0);
	gm_reader_leave(reader);
}

/* All bytes of the range are @byte. */
static inline void assert_bytes(uint64_t gpa, uint8_t byte, uint64_t len)
{
	static uint8_t got[65536];
	static uint8_t want[65536];

	memset(want, byte, sizeof(want));
	for (uint64_t at = 0; at < len;) {
		size_t n = len - at < sizeof(got) ? len - at : sizeof(got);

		assert_int_equal(gm_read(gm_reader_enter(reader), gpa + at, got, n, NULL), 0);
		gm_reader_leave(reader);
		if (memcmp(got, want, n))
			fail_msg("bytes at 0x%llx are not all %u", (unsigned long long)(gpa + at),
				byte);
		at += n;
	}
}

static inline uint8_t *host(uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_next(space, gpa, &info), 0);
	return info.hva ? (uint8_t *)info.hva + (gpa - info.gpa) : NULL;
}

static inline uint64_t resident_at(const void *hva, uint64_t len)
{
	struct gm_usage use = {.size = sizeof(use)};
	struct gm_residency *res;

	assert_ok(gm_residency_open(0, &res, &err));
	assert_ok(gm_residency_usage(res, (uintptr_t)hva, len, 0, &use, &err));
	gm_residency_close(res);
	return use.present;
}

static inline uint64_t file_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Bytes that the backing takes from the host, by what can tell. */
static inline uint64_t taken(void)
{
	struct gm_block_info info = {.size = sizeof(info)};

	assert_int_equal(gm_block_info(block_, &info), 0);
	if (info.fd >= 0 && !(info.flags & GM_BLOCK_PRIVATE)) {
		if (file_ >= 0)
			assert_int_equal(fsync(info.fd), 0);
		return file_bytes(info.fd);
	}
	return resident_at(info.hva, LEN);
}

#endif
