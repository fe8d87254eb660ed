/* SPDX-License-Identifier: BSD-3-Clause */
/* disk_uring_none.c - what stands in for disk_uring.c in a build without liburing. */
#include "adapters/disk.h"

#include <errno.h>

static int open_channel(struct disk_file *file, uint32_t depth, void **ret_channel)
{
	(void)file;
	(void)depth;
	(void)ret_channel;
	return -ENOTSUP;
}

const struct disk_engine gm_disk_uring = {.open = open_channel};
