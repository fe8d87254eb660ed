/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iotlb.h - translations of I/O virtual addresses that a device process was told, as many as fit.
 *
 * Each byte of the space of 2^64 addresses leads to one target or to none; mappings may begin and
 * end anywhere. A tree (itree.h) has all of them in order and belongs to the writer. A table
 * (iotlb_quick.h) has copies and answers readers, which take no lock: a translation that was there
 * at some moment of the call, whole, or -EAGAIN. Then gm_iotlb_lookup() answers from the tree,
 * under the lock of the writer, and alone says what is not mapped.
 *
 * When it is full an old mapping goes, so a miss means "ask the peer". A translation that was
 * removed is never given to a look-up that begins after the removal has returned; who has to know
 * that earlier ones are over waits for the readers' sections to end.
 *
 * "Threads: the writer" means one thread at a time; the caller has the lock.
 */
#ifndef GM_CORE_IOTLB_H
#define GM_CORE_IOTLB_H

#include <errno.h>
#include <guestmem/view.h>
#include <stddef.h>

#include "core/iotlb_quick.h"

#define GM_IOTLB_CAPACITY_MAX (1u << 24)

struct gm_iotlb {
	struct gm_quick quick;
	struct gm_itree tree;
	uint64_t generation;
	uint64_t nr_evicted; /* mappings that had to go */
	uint32_t capacity;
	uint32_t hand; /* of the clock: a node of the tree */
};

/* A part of a look-up. Of length 0 if that was asked. */
struct gm_iotlb_piece {
	uint64_t iova;
	uint64_t target;
	uint64_t len;
	uint32_t perms;
};

/* Room of the caller for pieces. */
struct gm_iotlb_list {
	struct gm_iotlb_piece *pieces;
	size_t room;
	size_t nr; /* result: as many as there are, also beyond the room */
};

/* Each byte that was asked for is in one of the three, which are in order. */
struct gm_iotlb_answer {
	struct gm_iotlb_list good;
	struct gm_iotlb_list missing; /* target and perms are 0; neighbours are one */
	struct gm_iotlb_list refused; /* mapped, without all permissions that were asked */
};

/* Bytes for so many mappings; 0 if @capacity is 0 or above GM_IOTLB_CAPACITY_MAX. */
size_t gm_iotlb_room(uint32_t capacity);

/*
 * An empty table of generation 0 in @room (gm_iotlb_room() bytes, aligned to 64), which stays the
 * caller's and is all that there is to be freed. @seed: a number that a peer does not know, so that
 * it cannot choose addresses that collide.
 */
struct gm_iotlb *gm_iotlb_init(void *room, uint32_t capacity, uint64_t seed);

/*
 * Maps [first, last] to the addresses from @target on, in the place of what was there.
 * @generation: that for which the translation was made. Returns 0; -EINVAL (first > last, or other
 * permissions than GM_PERM_R and _W); -ERANGE (the target passes 2^64); -ESTALE (the table is of
 * another generation); on failure nothing has changed. Threads: the writer.
 */
int gm_iotlb_map(struct gm_iotlb *iotlb, uint64_t generation, const struct gm_range *range,
	uint64_t target, uint32_t perms);

/* Forgets [first, last], which may be mapped or not. Returns 0, -EINVAL. Threads: the writer. */
int gm_iotlb_unmap(struct gm_iotlb *iotlb, const struct gm_range *range);

/* Forgets everything, in constant time. Threads: the writer. */
void gm_iotlb_unmap_all(struct gm_iotlb *iotlb);

/*
 * Forgets what was made for another generation, in constant time: all, unless the table is of this
 * one. Threads: the writer.
 */
void gm_iotlb_flush_to(struct gm_iotlb *iotlb, uint64_t generation);

/*
 * All of [iova, iova + len), in pieces. Returns 0; -ENOBUFS (all is good, but the room for good
 * pieces too small); -EFAULT (something is missing); -EACCES (nothing is missing, something is
 * refused); -ERANGE (the range passes 2^64; lists are empty). With length 0 the address alone is
 * checked. Threads: the writer.
 */
int gm_iotlb_lookup(struct gm_iotlb *iotlb, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iotlb_answer *answer);

/* The tree is one, holds no neighbours that belong together, and the copies agree with it. */
bool gm_iotlb_is_valid(const struct gm_iotlb *iotlb);

/*
 * The first piece of [iova, iova + len): all of it, or up to where the mapping ends. Returns 0;
 * -EACCES; -ERANGE (the range passes 2^64); -EAGAIN (ask gm_iotlb_lookup()); on failure *ret is
 * unchanged. With length 0 the address alone is checked. Threads: any.
 */
static inline int gm_iotlb_find(struct gm_iotlb *iotlb, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iotlb_piece *ret)
{
	struct gm_translation mapping;

	if (__builtin_expect(len > 0 && len - 1 > UINT64_MAX - iova, 0))
		return -ERANGE;
	if (__builtin_expect(!gm_quick_find(&iotlb->quick, iova, &mapping), 0))
		return -EAGAIN;
	if (__builtin_expect((mapping.perms & perms) != perms, 0))
		return -EACCES;
	ret->iova = iova;
	ret->target = iova + mapping.delta;
	ret->len = len > 0 && len - 1 > mapping.last - iova ? mapping.last - iova + 1 : len;
	ret->perms = mapping.perms;
	return 0;
}

#endif
