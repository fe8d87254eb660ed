/* SPDX-License-Identifier: BSD-3-Clause */
/* source.h - what the library's own users of sources may ask besides. */
#ifndef GM_SERVICES_SOURCE_H
#define GM_SERVICES_SOURCE_H

#include <guestmem/source.h>

/*
 * As gm_source_extent(), of @len bytes at least 1 that are of interest: the answer may end there, where to look further
 * would cost (a tmpfs goes through all pages of a file to find where its data end). It may be longer.
 */
int gm_source_extent_within(struct gm_source *source, uint64_t offset, uint64_t len,
	struct gm_source_extent *ret_extent);

#endif
