/* SPDX-License-Identifier: BSD-3-Clause */
/* one_block.h - what the tests of blocks share: making one, looking at it, a file behind it. */
#ifndef GM_TESTS_ONE_BLOCK_H
#define GM_TESTS_ONE_BLOCK_H

#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHMEM_KNOB "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define THP_KNOB "/sys/kernel/mm/transparent_hugepage/enabled"
#define MTHP_KNOB "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"

static struct gm_error err;
static char path[] = "/tmp/gm-test-block-XXXXXX";

static inline struct gm_block_info info_of(struct gm_block *block)
{
	struct gm_block_info info = {.size = sizeof(info)};

	assert_int_equal(gm_block_info(block, &info), 0);
	return info;
}

static inline struct gm_block *make(const struct gm_block_opts *opts)
{
	struct gm_block *block = NULL;

	assert_ok(gm_block_create(opts, &block, &err));
	return block;
}

static inline int make_file(uint64_t len)
{
	int fd;

	strcpy(path + strlen(path) - 6, "XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return fd;
}

/* Zeros at first, keeps what is written, first and last byte. */
static inline void check_usable(struct gm_block *block)
{
	struct gm_block_info info = info_of(block);
	volatile uint8_t *bytes = info.hva;

	assert_int_equal(bytes[0], 0);
	assert_int_equal(bytes[info.len - 1], 0);
	bytes[0] = 1;
	bytes[info.len - 1] = 2;
	assert_int_equal(bytes[0], 1);
	assert_int_equal(bytes[info.len - 1], 2);
}

#endif
