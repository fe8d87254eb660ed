/* SPDX-License-Identifier: BSD-3-Clause */
/* nbd_none.c - what stands in for nbd.c in a build without libnbd. */
#include <guestmem/disk.h>
#include <guestmem/nbd.h>

#include <errno.h>

#include "core/error.h"

int gm_source_nbd(
	const struct gm_nbd_opts *opts, struct gm_source **ret_source, struct gm_error *err)
{
	(void)opts;
	(void)ret_source;
	return gm_error_set(err, -ENOTSUP, 0, 0, "nbd: this build has no libnbd");
}

int gm_disk_nbd(
	const struct gm_disk_nbd_opts *opts, struct gm_disk **ret_disk, struct gm_error *err)
{
	(void)opts;
	(void)ret_disk;
	return gm_error_set(err, -ENOTSUP, 0, 0, "nbd: this build has no libnbd");
}
