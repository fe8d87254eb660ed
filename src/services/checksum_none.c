/* SPDX-License-Identifier: BSD-3-Clause */
/* checksum_none.c - what stands in for checksum.c in a build without xxHash. */
#include <guestmem/checksum.h>

#include <errno.h>

#include "services/checksum.h"

int gm_checksum(const struct gm_view *view, uint64_t gpa, size_t len, uint64_t seed,
	uint64_t *ret_sum, size_t *done)
{
	(void)view;
	(void)gpa;
	(void)len;
	(void)seed;
	(void)ret_sum;
	if (done)
		*done = 0;
	return -ENOTSUP;
}

int gm_checksum_128(const struct gm_view *view, uint64_t gpa, size_t len, uint64_t seed,
	uint64_t ret_sum[2], size_t *done)
{
	return gm_checksum(view, gpa, len, seed, ret_sum, done);
}

bool gm_checksum_bytes_128(const void *bytes, size_t len, uint8_t ret[16])
{
	(void)bytes;
	(void)len;
	(void)ret;
	return false;
}

bool gm_checksum_bytes(const void *bytes, size_t len, uint64_t *ret)
{
	(void)bytes;
	(void)len;
	*ret = 0;
	return false;
}

bool gm_checksum_begin(struct gm_checksum_run *run)
{
	(void)run;
	return false;
}

void gm_checksum_add(struct gm_checksum_run *run, const void *bytes, size_t len)
{
	(void)run;
	(void)bytes;
	(void)len;
}

uint64_t gm_checksum_end(const struct gm_checksum_run *run)
{
	(void)run;
	return 0;
}
