/* SPDX-License-Identifier: BSD-3-Clause */
/* held_slice.h - a slice and its pin, for the tests that touch slices. */
#ifndef GM_TESTS_HELD_SLICE_H
#define GM_TESTS_HELD_SLICE_H

#include <guestmem/slice_access.h>

#include "support.h"

/* A slice and what holds it. */
struct held {
	struct iovec slice;
	struct gm_pin pin;
};

static inline struct held hold(struct gm_reader *by, uint64_t gpa, uint64_t len, uint32_t perms)
{
	struct held h = {{0}, {0}};

	assert_int_equal(gm_pin_slice(gm_reader_enter(by), gpa, len, perms, &h.slice, &h.pin), 0);
	gm_reader_leave(by);
	return h;
}

#endif
