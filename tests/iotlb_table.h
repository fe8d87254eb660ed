/* SPDX-License-Identifier: BSD-3-Clause */
/* iotlb_table.h - what the tests of the IOTLB share: tables on the heap, short forms of calls. */
#ifndef GM_TESTS_IOTLB_TABLE_H
#define GM_TESTS_IOTLB_TABLE_H

#include <stdlib.h>
#include <string.h>

#include "core/iotlb.h"
#include "support.h"

#define TOP UINT64_MAX
#define SEED UINT64_C(0x243f6a8885a308d3)

/* At its exact size, so that a sanitizer sees a step outside; full of rubbish. */
static inline struct gm_iotlb *make_table(uint32_t capacity)
{
	size_t room = gm_iotlb_room(capacity);
	void *memory = NULL;

	assert_true(room > 0);
	assert_int_equal(posix_memalign(&memory, 64, room), 0);
	memset(memory, 0xa5, room);
	return gm_iotlb_init(memory, capacity, SEED);
}

static inline int map(
	struct gm_iotlb *iotlb, uint64_t first, uint64_t last, uint64_t target, uint32_t perms)
{
	const struct gm_range range = {first, last};

	return gm_iotlb_map(iotlb, iotlb->generation, &range, target, perms);
}

static inline int unmap(struct gm_iotlb *iotlb, uint64_t first, uint64_t last)
{
	const struct gm_range range = {first, last};

	return gm_iotlb_unmap(iotlb, &range);
}

/* An answer with room for some of each. */
#define LIST_ROOM 300u

struct answer {
	struct gm_iotlb_answer a;
	struct gm_iotlb_piece good[LIST_ROOM];
	struct gm_iotlb_piece missing[LIST_ROOM];
	struct gm_iotlb_piece refused[LIST_ROOM];
};

static inline int lookup(
	struct gm_iotlb *iotlb, uint64_t iova, uint64_t len, uint32_t perms, struct answer *answer)
{
	answer->a = (struct gm_iotlb_answer){
		.good = {answer->good, LIST_ROOM, 0},
		.missing = {answer->missing, LIST_ROOM, 0},
		.refused = {answer->refused, LIST_ROOM, 0},
	};
	return gm_iotlb_lookup(iotlb, iova, len, perms, &answer->a);
}

static inline void check_piece(const struct gm_iotlb_piece *piece, uint64_t iova, uint64_t target,
	uint64_t len, uint32_t perms)
{
	assert_true(piece->iova == iova);
	assert_true(piece->target == target);
	assert_true(piece->len == len);
	assert_int_equal(piece->perms, perms);
}

#endif
