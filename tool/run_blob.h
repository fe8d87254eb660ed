/* SPDX-License-Identifier: BSD-3-Clause */
/* run_blob.h - the payloads' program for the guest, made by payload/meson.build. */
#ifndef TOOL_RUN_BLOB_H
#define TOOL_RUN_BLOB_H

#include <stddef.h>

extern const unsigned char payload_blob[];
extern const size_t payload_blob_len;

static inline const void *run_blob(size_t *ret_len)
{
#if defined(__x86_64__)
	*ret_len = payload_blob_len;
	return payload_blob;
#else
	*ret_len = 0;
	return NULL;
#endif
}

#endif
