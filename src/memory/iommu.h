/* SPDX-License-Identifier: BSD-3-Clause */
/* iommu.h - translation on the way of an access. */
#ifndef GM_MEMORY_IOMMU_H
#define GM_MEMORY_IOMMU_H

#include <guestmem/iommu.h>

#include "core/table.h"

void gm_iommu_get(struct gm_iommu *iommu);

/* The space that it leads to. */
struct gm_space *gm_iommu_target(const struct gm_iommu *iommu);
/* Does it lead, and will it ever, to spaces whose maps sections of @space keep, and that lie lower? */
bool gm_iommu_is_below(const struct gm_iommu *iommu, const struct gm_space *space);

/* Where a translation leads. */
struct gm_hop {
	const struct gm_view *view; /* the target's, kept by the section of the access */
	uint64_t gpa;
	uint64_t extent; /* bytes that go on from there, less one */
};

/*
 * The first piece of @extent + 1 bytes at @gpa in a span of an IOMMU. Asks for what is missing.
 * Returns 0, -EFAULT, -EACCES, -EAGAIN, -ETIMEDOUT, -EBUSY or what the callback returned.
 */
int gm_iommu_hop(const struct gm_span *span, uint64_t gpa, uint64_t extent, uint32_t perms,
	struct gm_hop *ret);

#endif
