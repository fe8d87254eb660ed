/* SPDX-License-Identifier: BSD-3-Clause */
/* alloc.c - the one heap hook; tests count and refuse here. */
#include "sys/sys.h"

#include <stdlib.h>
#include <string.h>

void *gm_sys_alloc(size_t len)
{
	return calloc(1, len);
}

void *gm_sys_alloc_array(size_t nr, size_t len)
{
	return calloc(nr, len);
}

void *gm_sys_realloc(void *ptr, size_t nr, size_t len)
{
	return reallocarray(ptr, nr, len);
}

void *gm_sys_alloc_aligned(size_t align, size_t len)
{
	size_t rounded = (len + align - 1) / align * align;
	void *ptr = aligned_alloc(align, rounded);

	if (ptr)
		memset(ptr, 0, rounded);
	return ptr;
}

void gm_sys_free(void *ptr)
{
	free(ptr);
}
