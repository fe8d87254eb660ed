/* SPDX-License-Identifier: BSD-3-Clause */
/* chain.h - walking a chain, for chain.c and the streams. */
#ifndef GM_MEMORY_CHAIN_H
#define GM_MEMORY_CHAIN_H

#include <guestmem/chain.h>

/*
 * The next contiguous bytes of a side, at most @max: returns how many, 0 if @max is or nothing is
 * left. The cursor is moved past elements that have no more, nothing is consumed.
 */
uint64_t gm_chain_here(
	struct gm_chain *chain, enum gm_chain_side side, uint64_t max, uint64_t *ret_gpa);

/* Consumes some of what gm_chain_here() returned. */
static inline void gm_chain_eat(struct gm_chain *chain, enum gm_chain_side side, uint64_t len)
{
	struct gm_chain_cursor *at = &chain->sides[side == GM_CHAIN_WRITABLE];

	at->off += len;
	at->done += len;
	at->left -= len;
}

/* One range that does not wrap, as a chain with one side. @elem is to live as long as @chain. */
void gm_chain_of_range(struct gm_chain *chain, struct gm_chain_elem *elem, enum gm_chain_side side,
	uint64_t gpa, uint64_t len);

#endif
