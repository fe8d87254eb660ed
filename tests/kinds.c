/* SPDX-License-Identifier: BSD-3-Clause */
/* kinds.c - memory of every kind. */
#include "kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#include "sys/uapi.h"

#define PAGE ((size_t)4096)
#define PMD ((size_t)2 << 20)
#define SWAP_FILE "/var/tmp/guestmem-test-swap"

void kind_need(bool well, const char *what)
{
	if (well)
		return;
	fprintf(stderr, "kinds: %s: %s\n", what, strerror(errno));
	exit(99);
}

/* @len bytes at a multiple of 2 MiB, with nothing next to them that could be merged in. */
static char *map_aligned(size_t len, int flags, int fd)
{
	char *room = mmap(NULL, len + 2 * PMD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at;

	kind_need(room != MAP_FAILED, "mmap");
	at = (char *)(((uintptr_t)room + PMD) & ~(PMD - 1));
	kind_need(mmap(at, len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == at, "mmap");
	return at;
}

static char *map_anon(struct kind *kind, size_t len, int advice)
{
	char *at = map_aligned(len, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	kind_need(madvise(at, len, advice) == 0, "madvise");
	*kind = (struct kind){.addr = at, .len = len};
	return at;
}

static char *map_memfd(struct kind *kind, size_t len, unsigned int flags, int *ret_fd)
{
	int fd = memfd_create("kinds", flags | MFD_CLOEXEC);
	char *at;

	kind_need(fd >= 0 && ftruncate(fd, (off_t)len) == 0, "memfd");
	at = map_aligned(len, MAP_SHARED, fd);
	*kind = (struct kind){.addr = at, .len = len};
	if (ret_fd)
		*ret_fd = fd;
	else
		close(fd);
	return at;
}

static void touch(volatile char *at, size_t len, size_t step)
{
	for (size_t i = 0; i < len; i += step)
		at[i] = 1;
}

static void want(struct kind *kind, unsigned int log2, size_t bytes)
{
	kind->want.present += bytes;
	kind->want.by_log2[log2] += bytes;
}

/* More extents than PAGEMAP_SCAN is given room for at once. */
void kind_anon_every_other_page(struct kind *kind)
{
	size_t len = 8 * PMD;

	touch(map_anon(kind, len, MADV_NOHUGEPAGE), len, 2 * PAGE);
	want(kind, 12, len / 2);
}

void kind_anon_thp(struct kind *kind)
{
	touch(map_anon(kind, 4 * PMD, MADV_HUGEPAGE), 3 * PMD, PMD);
	want(kind, 21, 3 * PMD);
}

static void look(const volatile char *at, size_t len, size_t step)
{
	for (size_t i = 0; i < len; i += step)
		(void)at[i];
}

void kind_zero_pages(struct kind *kind)
{
	char *at = map_anon(kind, 4 * PMD, MADV_NOHUGEPAGE);

	kind_need(madvise(at + 2 * PMD, 2 * PMD, MADV_HUGEPAGE) == 0, "madvise");
	look(at, PMD, PAGE);
	look(at + 2 * PMD, PMD, PMD);
	touch(at + PMD, PAGE, PAGE);
	kind->want.zero = 2 * PMD;
	want(kind, 12, PAGE);
}

void kind_memfd_base(struct kind *kind)
{
	char *at = map_memfd(kind, 4 * PMD, 0, NULL);

	kind_need(madvise(at, 4 * PMD, MADV_NOHUGEPAGE) == 0, "madvise");
	touch(at, 2 * PMD, PAGE);
	want(kind, 12, 2 * PMD);
}

/* Huge pages in a memfd. The host gives them on advice while this runs. */
void kind_memfd_collapsed(struct kind *kind)
{
	char *at = map_memfd(kind, 4 * PMD, 0, NULL);

	kind_need(madvise(at + 2 * PMD, 2 * PMD, MADV_NOHUGEPAGE) == 0, "madvise");
	touch(at, 2 * PMD, PMD);
	kind_need(madvise(at, 2 * PMD, MADV_COLLAPSE) == 0, "MADV_COLLAPSE");
	touch(at, 2 * PMD, PAGE);
	touch(at + 3 * PMD, PAGE, PAGE);
	want(kind, 21, 2 * PMD);
	want(kind, 12, PAGE);
}

/* The host gives 64 KiB pages on advice while this runs, and none of 2 MiB. */
void kind_multi_size(struct kind *kind)
{
	size_t step = (size_t)64 << 10;

	touch(map_anon(kind, PMD, MADV_HUGEPAGE), 8 * step, step);
	want(kind, 16, 8 * step);
}

/*
 * As above, but of some of these pages only parts are mapped: without the first or last small page,
 * without one within, only the last two, and one whose small pages stand in reverse order.
 */
void kind_multi_size_parts(struct kind *kind)
{
	size_t step = (size_t)64 << 10;
	char *at = map_anon(kind, PMD, MADV_HUGEPAGE);
	char *tail = at + 8 * step;

	touch(at, 6 * step, step);
	kind_need(madvise(at, PAGE, MADV_DONTNEED) == 0, "madvise");
	kind_need(madvise(at + 2 * step - PAGE, PAGE, MADV_DONTNEED) == 0, "madvise");
	kind_need(madvise(at + 2 * step + 4 * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise");
	kind_need(madvise(at + 3 * step, step - 2 * PAGE, MADV_DONTNEED) == 0, "madvise");
	for (size_t i = 0; i < step; i += PAGE)
		kind_need(mremap(at + 4 * step + i, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				  tail + step - PAGE - i) == tail + step - PAGE - i,
			"mremap");
	want(kind, 16, 6 * step - 3 * PAGE - (step - 2 * PAGE));
}

static void hugetlb(struct kind *kind, unsigned int log2, size_t pages, size_t touched, bool twice)
{
	size_t page = (size_t)1 << log2;
	size_t len = pages * page;
	int fd = memfd_create("kinds", MFD_CLOEXEC | MFD_HUGETLB | log2 << 26);
	char *at;

	kind_need(fd >= 0 && ftruncate(fd, (off_t)len) == 0, "hugetlb memfd");
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	kind_need(at != MAP_FAILED, "mmap of hugetlb");
	*kind = (struct kind){.addr = at, .len = len};
	touch(at, touched * page, page);
	want(kind, log2, touched * page);
	if (twice) {
		char *again = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		kind_need(again != MAP_FAILED, "mmap of hugetlb");
		touch(again, touched * page, page);
		kind->want.shared = touched * page;
	}
	close(fd);
}

void kind_hugetlb_2m(struct kind *kind)
{
	hugetlb(kind, 21, 4, 3, false);
}

void kind_hugetlb_1g(struct kind *kind)
{
	hugetlb(kind, 30, 1, 1, false);
}

/* The second mapping lies elsewhere. */
void kind_hugetlb_1g_twice(struct kind *kind)
{
	hugetlb(kind, 30, 1, 1, true);
}

void kind_mapped_twice(struct kind *kind)
{
	int fd;
	char *at = map_memfd(kind, 2 * PMD, 0, &fd);
	char *again = map_aligned(2 * PMD, MAP_SHARED, fd);

	close(fd);
	kind_need(madvise(at, 2 * PMD, MADV_NOHUGEPAGE) == 0, "madvise");
	kind_need(madvise(again, 2 * PMD, MADV_NOHUGEPAGE) == 0, "madvise");
	touch(at, 2 * PMD, PAGE);
	touch(again, PMD, PAGE);
	want(kind, 12, 2 * PMD);
	kind->want.shared = PMD;
}

void kind_punched(struct kind *kind)
{
	int fd;
	char *at = map_memfd(kind, 2 * PMD, 0, &fd);
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	kind_need(madvise(at, 2 * PMD, MADV_NOHUGEPAGE) == 0, "madvise");
	touch(at, 2 * PMD, PAGE);
	kind_need(fallocate(fd, mode, (off_t)PMD / 2, (off_t)PMD) == 0, "fallocate");
	close(fd);
	want(kind, 12, PMD);
}

/* A huge page whose entry was split because a part of it got other permissions. */
void kind_split(struct kind *kind)
{
	char *at = map_anon(kind, 2 * PMD, MADV_HUGEPAGE);

	touch(at, 2 * PMD, PMD);
	kind_need(mprotect(at, PAGE, PROT_READ) == 0, "mprotect");
	want(kind, 12, PMD);
	want(kind, 21, PMD);
	kind->want.split = PMD;
}

void kind_guarded(struct kind *kind)
{
	char *at = map_anon(kind, PMD, MADV_NOHUGEPAGE);

	touch(at, PMD, PAGE);
	kind_need(madvise(at + PMD / 2, PMD / 2, MADV_GUARD_INSTALL) == 0, "MADV_GUARD_INSTALL");
	want(kind, 12, PMD / 2);
}

static void swap_off(void)
{
	swapoff(SWAP_FILE);
	unlink(SWAP_FILE);
}

bool kind_swap_on(void)
{
	int rc;

	swap_off();
	rc = system("umask 077; dd if=/dev/zero of=" SWAP_FILE
		    " bs=1M count=16 status=none && mkswap -q " SWAP_FILE " >/dev/null");
	atexit(swap_off);
	return rc == 0 && swapon(SWAP_FILE, 0) == 0;
}

void kind_swapped(struct kind *kind)
{
	char *at = map_anon(kind, PMD, MADV_NOHUGEPAGE);

	/* No zeros: those are not written to swap but dropped. */
	for (size_t i = 0; i < PMD; i += PAGE)
		memset(at + i, (int)(i / PAGE % 255) + 1, PAGE);
	kind_need(madvise(at, PMD / 2, MADV_PAGEOUT) == 0, "MADV_PAGEOUT");
	want(kind, 12, PMD / 2);
	kind->want.swapped = PMD / 2;
}

/* Equal pages that KSM has merged; it must run. */
void kind_merged(struct kind *kind)
{
	struct timespec pause = {.tv_nsec = 20000000};
	struct gm_process_memory memory = {.size = sizeof(memory)};
	char *at = map_anon(kind, 64 * PAGE, MADV_NOHUGEPAGE);
	struct gm_residency *res;

	memset(at, 0x5a, 64 * PAGE);
	kind_need(gm_residency_open(0, &res, NULL) == 0, "residency");
	kind_need(madvise(at, 64 * PAGE, MADV_MERGEABLE) == 0, "MADV_MERGEABLE");
	for (int i = 0; i < 1000; i++) {
		kind_need(gm_residency_process(res, &memory, NULL) == 0, "residency");
		if (memory.ksm_merging >= 64)
			break;
		nanosleep(&pause, NULL);
	}
	gm_residency_close(res);
	kind_need(memory.ksm_merging >= 64, "KSM did not merge the pages");
	want(kind, 12, 64 * PAGE);
	kind->want.ksm = 64 * PAGE;
	kind->want.shared = 64 * PAGE;
}

/* Several mappings of different kinds side by side. */
void kind_mixed(struct kind *kind)
{
	char *at = map_anon(kind, 6 * PMD, MADV_NOHUGEPAGE);
	int fd = memfd_create("kinds", MFD_CLOEXEC | MFD_HUGETLB | 21u << 26);

	kind_need(fd >= 0 && ftruncate(fd, (off_t)PMD) == 0, "hugetlb memfd");
	kind_need(mmap(at + 2 * PMD, PMD, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
			  MAP_FAILED,
		"mmap of hugetlb");
	close(fd);
	kind_need(madvise(at + 3 * PMD, PMD, MADV_HUGEPAGE) == 0, "madvise");
	kind_need(munmap(at + 4 * PMD, PMD) == 0, "munmap");
	touch(at, 2 * PMD, PAGE);
	touch(at + 2 * PMD, PMD, PMD);
	touch(at + 3 * PMD, PMD, PMD);
	touch(at + 5 * PMD, PAGE, PAGE);
	want(kind, 12, 2 * PMD + PAGE);
	want(kind, 21, 2 * PMD);
}
