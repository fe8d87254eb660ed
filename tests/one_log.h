/* SPDX-License-Identifier: BSD-3-Clause */
/* one_log.h - what the tests of dirty logs share: one log of a space with 64 pages. */
#ifndef GM_TESTS_ONE_LOG_H
#define GM_TESTS_ONE_LOG_H

#include <guestmem/log.h>
#include <string.h>

#include "one_space.h"

#define PAGE UINT64_C(4096)
#define LEN (64 * PAGE)

static struct gm_log *log_;

#define LOG(...) GM_OPTS(gm_log_opts, __VA_ARGS__)

static inline struct gm_log *make_log(const struct gm_log_opts *opts)
{
	struct gm_log *log = NULL;

	assert_ok(gm_log_create(space, opts, &log, &err));
	return log;
}

static inline void assert_clean(struct gm_log *log)
{
	assert_int_equal(gm_log_count(log, 0, 0), 0);
}

/* Exactly these pages of 4 KiB are marked; takes them. */
static inline void assert_taken(struct gm_log *log, uint64_t first_page, uint64_t nr)
{
	uint64_t words[LEN / PAGE / 64 + 1] = {0};
	uint64_t count = 0;

	assert_int_equal(gm_log_take(log, 0, LEN / PAGE, words, &count), 0);
	if (count != nr)
		fail_msg("%llu pages are marked, not %llu", (unsigned long long)count,
			(unsigned long long)nr);
	for (uint64_t i = 0; i < LEN / PAGE; i++)
		assert_int_equal(words[i / 64] >> (i % 64) & 1,
			nr && i >= first_page && i < first_page + nr);
	assert_clean(log);
}

static inline void start_log(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	log_ = make_log(NULL);
	assert_clean(log_);
}

static inline void stop_log(void)
{
	assert_ok(gm_log_destroy(log_, &err));
	stop();
}

static inline void write_some(uint64_t gpa, uint64_t len)
{
	static uint8_t bytes[LEN];

	assert_int_equal(gm_write(gm_reader_enter(reader), gpa, bytes, len, NULL), 0);
	gm_reader_leave(reader);
}

#endif
