/* SPDX-License-Identifier: BSD-3-Clause */
/* pagemap.c - see pagemap.h. */
#include "services/pagemap.h"

#include <errno.h>
#include <stdint.h>

#include "sys/sys.h"

int gm_pagemap_scan(int fd, struct pm_scan_arg *arg, bool *ret_more)
{
	const struct page_region *found = (const void *)(uintptr_t)arg->vec;
	int nr;

	do {
		nr = gm_sys_ioctl(fd, PAGEMAP_SCAN, arg);
	} while (nr == -EINTR);
	if (nr > 0)
		arg->start = found[nr - 1].end;
	*ret_more = nr > 0 && (uint64_t)nr == arg->vec_len && arg->start < arg->end;
	return nr;
}
