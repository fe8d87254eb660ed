/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reach.h - what lies behind guest addresses, held while system calls work on it.
 *
 * A stretch is found in the published map and its mapping pinned in the same moment, so it stays where
 * it is until it is put back. Nothing is held meanwhile: a later change of the map does not show in it.
 */
#ifndef GM_MEMORY_REACH_H
#define GM_MEMORY_REACH_H

#include "memory/space.h"

/* Part of one piece of memory. */
struct gm_reach {
	struct gm_range range; /* guest addresses */
	uint32_t kind;
	uint32_t perms; /* GM_PERM_* */
	uint32_t part;  /* enum gm_part */
	struct gm_map *map;
	struct gm_block *block;
	uint64_t block_off;
	uint8_t *hva;                   /* NULL: far */
	struct gm_block *private_block; /* reference, or NULL */
	uint64_t private_off;
};

/*
 * The memory at the start of a range, as far as one piece of it goes; what is unplugged or private too.
 * 0, -EFAULT (nothing is there), -ENOTSUP (no memory of the space: a device, an IOMMU).
 */
int gm_reach_get(struct gm_space *space, const struct gm_range *range, struct gm_reach *ret);
/* The same, but skips to the first memory at or above; -ENOENT if there is none in the range. */
int gm_reach_next(struct gm_space *space, const struct gm_range *range, struct gm_reach *ret);
void gm_reach_put(struct gm_reach *reach);

/* Cuts a stretch down to a part of itself. */
void gm_reach_clip(struct gm_reach *reach, const struct gm_range *range);

/* Bytes of the mapping in front of it. */
static inline uint64_t gm_reach_map_off(const struct gm_reach *reach)
{
	return reach->block_off - reach->map->block_off;
}

/* Calls @fn for each piece of memory in a range until it returns other than 0. */
int gm_reach_each(struct gm_space *space, uint64_t gpa, uint64_t len,
	int (*fn)(void *ctx, struct gm_reach *reach, struct gm_error *err), void *ctx,
	struct gm_error *err);

#endif
