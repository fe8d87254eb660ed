/* SPDX-License-Identifier: BSD-3-Clause */
/* memmap_fdt_none.c - what stands in for memmap_fdt.c in a build without libfdt. */
#include <errno.h>

#include "core/error.h"
#include "core/memmap.h"

int gm_memmap_fdt(const struct gm_memmap_entry *map, size_t nr, uint32_t flags, void *fdt,
	size_t cap, size_t *ret_needed, struct gm_error *err)
{
	(void)map;
	(void)nr;
	(void)flags;
	(void)fdt;
	(void)cap;
	(void)ret_needed;
	return gm_error_set(err, -ENOTSUP, 0, 0, "this library was built without libfdt");
}
