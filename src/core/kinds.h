/* SPDX-License-Identifier: BSD-3-Clause */
/* kinds.h - what kinds of regions are. */
#ifndef GM_CORE_KINDS_H
#define GM_CORE_KINDS_H

#include <guestmem/space.h>

static inline bool gm_kind_is_memory(uint32_t kind)
{
	switch (kind) {
	case GM_REGION_RAM:
	case GM_REGION_ROM:
	case GM_REGION_ROMD:
	case GM_REGION_PMEM:
	case GM_REGION_ACPI:
	case GM_REGION_DEVMEM:
		return true;
	default:
		return false;
	}
}

#endif
