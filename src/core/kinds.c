/* SPDX-License-Identifier: BSD-3-Clause */
/* kinds.c - kinds of regions, by name. */
#include "core/kinds.h"

#include <guestmem/dump.h>

const char *gm_region_kind_name(uint32_t kind)
{
	static const char *const kinds[] = {
		[GM_REGION_RAM] = "ram",
		[GM_REGION_ROM] = "rom",
		[GM_REGION_RESERVED] = "reserved",
		[GM_REGION_CONTAINER] = "container",
		[GM_REGION_ALIAS] = "alias",
		[GM_REGION_MMIO] = "mmio",
		[GM_REGION_ROMD] = "romd",
		[GM_REGION_PMEM] = "pmem",
		[GM_REGION_ACPI] = "acpi",
		[GM_REGION_IOMMU] = "iommu",
		[GM_REGION_DEVMEM] = "devmem",
	};

	return kind < sizeof(kinds) / sizeof(kinds[0]) ? kinds[kind] : "unknown";
}

bool gm_region_kind_is_memory(uint32_t kind)
{
	return gm_kind_is_memory(kind);
}
