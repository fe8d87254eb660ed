/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_demote.c - a pool's huge pages made smaller ones.
 *
 * The kernel splits free pages only, never one that somebody uses. It also takes free pages that are promised to
 * mappings, which would meet an empty pool later, so these are counted out here; a promise that is given in the
 * same moment is not seen.
 */
#include <guestmem/host.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "memory/avail.h"
#include "sys/sys.h"

static int write_number(const char *path, uint64_t nr)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%" PRIu64, nr);
	int fd = gm_sys_open(path, O_WRONLY, 0);
	ssize_t done;

	if (fd < 0)
		return fd;
	do {
		done = gm_sys_write(fd, text, (size_t)len);
	} while (done == -EINTR);
	gm_sys_close(fd);
	return done < 0 ? (int)done : 0;
}

int gm_host_demote(uint64_t page_size, uint64_t nr, uint64_t *ret_done, struct gm_error *err)
{
	struct gm_pool pool;
	struct gm_pool now;
	char path[96];
	uint64_t spare;
	int rc;

	if (ret_done)
		*ret_done = 0;
	if (!gm_is_pow2(page_size) || gm_pool_read((uint32_t)__builtin_ctzll(page_size), &pool))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"the host has no pool of huge pages of %" PRIu64 " kB", page_size >> 10);
	spare = pool.free > pool.reserved ? pool.free - pool.reserved : 0;
	if (nr > spare)
		return gm_error_set(err, -EBUSY, 0, 0,
			"of the huge pages of %" PRIu64 " kB %" PRIu64
			" are free and not promised, not %" PRIu64,
			page_size >> 10, spare, nr);
	if (nr == 0)
		return 0;
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/demote",
		page_size >> 10);
	rc = write_number(path, nr);
	if (rc)
		return gm_error_set(err, rc == -ENOENT ? -ENOTSUP : rc, 0, 0, "%s: %s%s", path,
			gm_error_word(rc),
			rc == -ENOENT ? " (Linux 5.16; the smallest size cannot be split)" : "");
	rc = gm_pool_read((uint32_t)__builtin_ctzll(page_size), &now);
	if (!rc && ret_done)
		*ret_done = pool.total > now.total ? pool.total - now.total : 0;
	return rc;
}
