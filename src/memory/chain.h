/* SPDX-License-Identifier: BSD-3-Clause */
/* chain.h - walking a chain, for chain.c and the streams. */
#ifndef GM_MEMORY_CHAIN_H
#define GM_MEMORY_CHAIN_H

#include <guestmem/chain.h>

static inline enum gm_chain_side gm_chain_side_of(const struct gm_chain_elem *elem)
{
	return elem->flags & GM_CHAIN_WRITE ? GM_CHAIN_WRITABLE : GM_CHAIN_READABLE;
}

/* What a transfer does to the memory of a side. */
static inline uint32_t gm_chain_perms(enum gm_chain_side side)
{
	return side == GM_CHAIN_WRITABLE ? GM_PERM_W : GM_PERM_R;
}

/*
 * The next contiguous bytes of a side, at most @max: returns how many, 0 if @max is or nothing is
 * left. The cursor is moved past elements that have no more, nothing is consumed.
 */
static inline uint64_t gm_cursor_here(struct gm_chain_cursor *at, const struct gm_chain_elem *elems,
	enum gm_chain_side side, uint64_t max, uint64_t *ret_gpa)
{
	const struct gm_chain_elem *elem;
	uint64_t len = at->left < max ? at->left : max;

	if (len == 0)
		return 0;
	side = side == GM_CHAIN_WRITABLE ? GM_CHAIN_WRITABLE : GM_CHAIN_READABLE;
	/* What is left says that there is one. */
	for (elem = &elems[at->index]; gm_chain_side_of(elem) != side || at->off == elem->len;
		elem++) {
		at->index++;
		at->off = 0;
	}
	*ret_gpa = elem->gpa + at->off;
	return len < elem->len - at->off ? len : elem->len - at->off;
}

/* Consumes some of what gm_cursor_here() returned. */
static inline void gm_cursor_eat(struct gm_chain_cursor *at, uint64_t len)
{
	at->off += len;
	at->done += len;
	at->left -= len;
}

/* The same of a side of a chain. */
static inline uint64_t gm_chain_here(
	struct gm_chain *chain, enum gm_chain_side side, uint64_t max, uint64_t *ret_gpa)
{
	return gm_cursor_here(
		&chain->sides[side == GM_CHAIN_WRITABLE], chain->elems, side, max, ret_gpa);
}

static inline void gm_chain_eat(struct gm_chain *chain, enum gm_chain_side side, uint64_t len)
{
	gm_cursor_eat(&chain->sides[side == GM_CHAIN_WRITABLE], len);
}

/* One range that does not wrap, as a chain with one side. @elem is to live as long as @chain. */
void gm_chain_of_range(struct gm_chain *chain, struct gm_chain_elem *elem, enum gm_chain_side side,
	uint64_t gpa, uint64_t len);

#endif
