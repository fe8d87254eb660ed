/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_swap.c - memory that was filled and then swapped out, to compressed memory: what the guest wrote comes
 * back, from the swap and not from the source.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/swap.h>

#include "one_pager.h"

#define DEVICE "/dev/zram0"
#define KNOBS "/sys/block/zram0/"
#define LEN MIB(4)
#define PAGEOUT 21 /* MADV_PAGEOUT */

static bool swapping;

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return done == (ssize_t)strlen(text);
}

/* The device of nobody, 64 MiB. */
static bool start_swap(void)
{
	FILE *file = fopen(KNOBS "disksize", "r");
	unsigned long size = 1;

	if (!file)
		return false;
	if (fscanf(file, "%lu", &size) != 1)
		size = 1;
	fclose(file);
	if (size != 0 || !put(KNOBS "disksize", "64M"))
		return false;
	swapping = system("mkswap " DEVICE " >/dev/null 2>&1") == 0 && swapon(DEVICE, 0) == 0;
	if (!swapping)
		put(KNOBS "reset", "1");
	return swapping;
}

static int stop_swap(void **state)
{
	(void)state;
	if (!swapping)
		return 0;
	swapping = false;
	if (swapoff(DEVICE))
		return -1;
	return put(KNOBS "reset", "1") ? 0 : -1;
}

/* Bytes of a mapping that are swapped out. */
static uint64_t swapped(const uint8_t *at)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	bool here = false;
	uint64_t kib = 0;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned long first;
		unsigned long last;
		unsigned long value;

		if (sscanf(line, "%lx-%lx ", &first, &last) == 2)
			here = first < (uintptr_t)at + LEN && last > (uintptr_t)at;
		else if (here && sscanf(line, "Swap: %lu kB", &value) == 1)
			kib += value;
	}
	fclose(file);
	return kib << 10;
}

static void push_out(uint8_t *at)
{
	/* Pages that were just filled wait in lists of each CPU, and are not taken. */
	for (int tries = 0; tries < 200 && swapped(at) < LEN / 4; tries++) {
		assert_int_equal(madvise(at, LEN / 2, PAGEOUT), 0);
		usleep(5000);
	}
	assert_true(swapped(at) >= LEN / 4);
}

static void check(uint8_t *at, uint64_t read)
{
	start_stepping();
	assert_true(has_words(at, 0, LEN / 2));
	for (uint64_t off = 0; off < LEN / 2; off += PAGE)
		*(uint64_t *)(at + off) = ~off;
	push_out(at);
	for (uint64_t off = 0; off < LEN / 2; off += PAGE) {
		assert_true(*(uint64_t *)(at + off) == ~off);
		assert_true(has_words(at + off + 8, off + 8, PAGE - 8));
	}
	assert_true(has_words(at + LEN / 2, LEN / 2, PAGE));
	stop_stepping();
	assert_int_equal(of_source.bytes, read);
	assert_int_equal(stats().zeros, 0);
	stop_pager();
	munmap(at, LEN);
}

static void private_pages_come_back(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	if (!swapping) {
		printf("skipped: no zram that is free\n");
		skip();
	}
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	check(at, LEN / 2 + PAGE);
}

/* It is full already: the kernel takes no pages that the pager has mapped too. */
static void pages_of_a_file_come_back(void **state)
{
	int fd = memfd_create("swap", MFD_CLOEXEC);
	uint64_t words[512];
	uint8_t *at;

	(void)state;
	if (!swapping) {
		printf("skipped: no zram that is free\n");
		skip();
	}
	for (uint64_t off = 0; off < LEN; off += PAGE) {
		fill_words(words, off, PAGE);
		assert_int_equal(pwrite(fd, words, PAGE, (off_t)off), PAGE);
	}
	at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(at != MAP_FAILED);
	start_pager(LEN);
	assert_ok(gm_pager_add_range(
		pager, at, LEN, AREA(.flags = GM_PAGER_FILE, .fd = fd), NULL, &err));
	check(at, 0);
	close(fd);
}

static int begin(void **state)
{
	(void)state;
	start_swap();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(private_pages_come_back),
		cmocka_unit_test(pages_of_a_file_come_back),
	};

	return cmocka_run_group_tests(tests, begin, stop_swap);
}
