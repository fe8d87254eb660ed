/* SPDX-License-Identifier: BSD-3-Clause */
/* killed_device.h - devices in processes that are killed, and what the area of what is in flight says afterwards. */
#ifndef GM_TESTS_KILLED_DEVICE_H
#define GM_TESTS_KILLED_DEVICE_H

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* It was killed, and had not ended by itself. */
static inline void kill_device(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("the device ended with status 0x%x", (unsigned int)status);
}

/* What the area of a queue of @nr entries says is out. */
static inline unsigned int nr_noted(int area_fd, uint32_t nr, uint32_t flags)
{
	unsigned int sum = 0;

	for (uint32_t i = 0; i < nr; i++) {
		uint8_t noted = 0;
		off_t at = flags & GM_VIRTQ_PACKED ? 32 + 32 * (off_t)i : 16 + 16 * (off_t)i;

		assert_int_equal(pread(area_fd, &noted, 1, at), 1);
		sum += noted;
	}
	return sum;
}

#endif
