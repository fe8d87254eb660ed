/* SPDX-License-Identifier: BSD-3-Clause */
/* one_control.h - what the tests of a guest's requests share: a space of one backing, and asking. */
#ifndef GM_TESTS_ONE_CONTROL_H
#define GM_TESTS_ONE_CONTROL_H

#include <guestmem/control.h>
#include <guestmem/guard.h>

#include "one_discard.h"

static struct gm_control *control;
static struct gm_control_result answer;

#define POLICY(...) GM_OPTS(gm_control_opts, __VA_ARGS__)

static inline void start_control(const struct gm_control_opts *opts)
{
	assert_ok(gm_control_create(space, opts, &control, &err));
}

static inline void stop_control(void)
{
	assert_ok(gm_control_destroy(control, &err));
	control = NULL;
}

static inline int ask_arg(uint64_t code, uint64_t addr, uint64_t len, uint64_t arg)
{
	const struct gm_control_request req = {.code = code, .addr = addr, .len = len, .arg = arg};
	int rc;

	answer = (struct gm_control_result){.size = sizeof(answer), .done = 99};
	rc = gm_control_request(control, &req, &answer, &err);
	assert_int_equal(rc, answer.code);
	if (rc == 0)
		assert_int_equal(answer.stage, GM_CONTROL_DONE);
	else
		assert_int_not_equal(answer.stage, GM_CONTROL_DONE);
	return rc;
}

static inline int ask(uint64_t code, uint64_t addr, uint64_t len)
{
	return ask_arg(code, addr, len, 0);
}

/* Refused, with this code, and nothing done. */
#define assert_refused(call, errno_value)                                                          \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		if (rc_ != -(errno_value))                                                         \
			fail_msg("%s = %d, not %d: %s", #call, rc_, -(errno_value), err.text);     \
		assert_int_equal(answer.stage, GM_CONTROL_REFUSED);                                \
		assert_int_equal(answer.done, 0);                                                  \
	} while (0)

static inline struct gm_control_info told(void)
{
	struct gm_control_info info = {.size = sizeof(info)};

	assert_int_equal(gm_control_info(control, &info), 0);
	return info;
}

static inline int write_byte(uint64_t gpa, uint8_t byte)
{
	int rc = gm_write(gm_reader_enter(reader), gpa, &byte, 1, NULL);

	gm_reader_leave(reader);
	return rc;
}

static inline int read_byte(uint64_t gpa, uint8_t *ret)
{
	int rc = gm_read(gm_reader_enter(reader), gpa, ret, 1, NULL);

	gm_reader_leave(reader);
	return rc;
}

#endif
