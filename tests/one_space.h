/* SPDX-License-Identifier: BSD-3-Clause */
/* one_space.h - what the tests of spaces share: one space with one reader, adding and asking. */
#ifndef GM_TESTS_ONE_SPACE_H
#define GM_TESTS_ONE_SPACE_H

#include "support.h"

static struct gm_error err;
static struct gm_space *space;
static struct gm_reader *reader;

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)

static inline void start(const struct gm_space_opts *opts)
{
	assert_ok(gm_space_create(opts, &space, &err));
	assert_ok(gm_reader_create(space, "first", &reader, &err));
}

static inline void stop(void)
{
	gm_reader_destroy(reader);
	gm_space_destroy(space);
}

static inline uint64_t add(uint64_t gpa, uint64_t len)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, DESC(.gpa = gpa, .backing = BLOCK(.len = len)), &id, &err));
	return id;
}

static inline struct gm_region_info region(uint64_t id)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_region(space, id, &info), 0);
	return info;
}

#endif
