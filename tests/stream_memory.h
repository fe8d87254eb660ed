/* SPDX-License-Identifier: BSD-3-Clause */
/* stream_memory.h - what the tests of streams share: some memory, and looking at it. */
#ifndef GM_TESTS_STREAM_MEMORY_H
#define GM_TESTS_STREAM_MEMORY_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)
#define ROM (3 * PAGE)
#define TOP (UINT64_C(0) - PAGE)
#define EXACT GM_STREAM_EXACT

/* Two regions that touch, a hole, a ROM, and a page that ends at 2^64. */
static inline void start_memory(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)));
	add(0, PAGE);
	add(PAGE, PAGE);
	assert_ok(gm_space_add(space,
		DESC(.gpa = ROM, .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)), NULL,
		&err));
	add(TOP, PAGE);
}

static inline void set(uint64_t gpa, const void *buf, size_t len)
{
	assert_int_equal(gm_write(gm_reader_enter(reader), gpa, buf, len, NULL), 0);
	gm_reader_leave(reader);
}

static inline void assert_memory(uint64_t gpa, const void *want, size_t len)
{
	size_t done;
	int order = 1;

	assert_int_equal(gm_compare(gm_reader_enter(reader), gpa, want, len, &order, &done), 0);
	gm_reader_leave(reader);
	if (order)
		fail_msg("byte %zu of %zu at gpa 0x%llx is wrong", done, len,
			(unsigned long long)gpa);
}

static inline void assert_zero(uint64_t gpa, size_t len)
{
	assert_int_equal(gm_is_zero(gm_reader_enter(reader), gpa, len, NULL), 1);
	gm_reader_leave(reader);
}

static inline uint8_t *noise(size_t len, uint64_t seed)
{
	uint8_t *buf = malloc(len);
	struct rng rng = {test_seed(seed)};

	assert_non_null(buf);
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(1 + rng_below(&rng, 255));
	return buf;
}

static inline int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, 0), (ssize_t)len);
	return fd;
}

#endif
