/* SPDX-License-Identifier: BSD-3-Clause */
/* short_file.h - memory of which the host loses the end: a file that is cut while it is mapped. */
#ifndef GM_TESTS_SHORT_FILE_H
#define GM_TESTS_SHORT_FILE_H

#include <guestmem/guard.h>
#include <sys/mman.h>
#include <unistd.h>

#include "one_space.h"

static int short_fd = -1;

/* Adds @len bytes at @gpa to the space, and installs the guard. */
static inline uint64_t add_short(uint64_t gpa, uint64_t len)
{
	uint64_t id = 0;

	assert_int_equal(gm_guard_install(), 0);
	short_fd = memfd_create("short", MFD_CLOEXEC);
	assert_true(short_fd >= 0);
	assert_int_equal(ftruncate(short_fd, (off_t)len), 0);
	assert_ok(gm_space_add(space,
		DESC(.gpa = gpa,
			.backing = BLOCK(.len = len, .backing = GM_BACKING_FD, .fd = short_fd)),
		&id, &err));
	return id;
}

/* From now on only the first @len bytes of it are there. */
static inline void cut_short(uint64_t len)
{
	assert_int_equal(ftruncate(short_fd, (off_t)len), 0);
}

/* Behind stop(). */
static inline void end_short(void)
{
	close(short_fd);
	short_fd = -1;
	assert_int_equal(gm_guard_remove(), 0);
}

#endif
