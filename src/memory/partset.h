/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * partset.h - the states of a region's parts.
 *
 * A set is shared by what a node was and what it is planned to be until one of them changes. The
 * states lie in chunks, which sets share in the same way; a chunk of one state takes no memory. So a
 * change of a few parts costs a few chunks and the list of them.
 *
 * Whoever holds the space changes sets and the counts of references; a set that is published does not
 * change. Offsets and lengths are bytes of the region.
 */
#ifndef GM_MEMORY_PARTSET_H
#define GM_MEMORY_PARTSET_H

#include <guestmem/part.h>

#define GM_PART_STATES 3u
#define GM_PARTS_MAX (UINT64_C(1) << 36) /* granules of a region */

struct gm_partset {
	uint32_t refs;
	uint32_t shift;   /* a granule is 1 << shift bytes */
	uint32_t initial; /* state of what the region grows by */
	uint64_t nr;      /* granules */
	uint64_t counts[GM_PART_STATES];
	struct gm_block *private_block; /* reference, or NULL */
	uint64_t private_off;
	uintptr_t slots[]; /* chunks, or states of a chunk's parts: 2 * state + 1 */
};

/* All @len bytes in one state; NULL without memory. Takes a reference to the block. */
struct gm_partset *gm_partset_make(uint64_t len, uint64_t granule, uint32_t state,
	struct gm_block *private_block, uint64_t private_off);

/* The same for another length, with a set of its own; NULL without memory. */
struct gm_partset *gm_partset_resized(const struct gm_partset *set, uint64_t len);

static inline struct gm_partset *gm_partset_get(struct gm_partset *set)
{
	if (set)
		set->refs++;
	return set;
}

void gm_partset_put(struct gm_partset *set);

/* Of a set that nobody else has. False without memory: then no state has changed. */
bool gm_partset_set(struct gm_partset *set, uint64_t off, uint64_t len, uint32_t state);

/* The state at @off; *ret_len is how far it goes, @len at most. */
uint32_t gm_partset_run(
	const struct gm_partset *set, uint64_t off, uint64_t len, uint64_t *ret_len);

static inline uint64_t gm_partset_granule(const struct gm_partset *set)
{
	return UINT64_C(1) << set->shift;
}

static inline uint64_t gm_partset_bytes(const struct gm_partset *set, uint32_t state)
{
	return set->counts[state] << set->shift;
}

#endif
