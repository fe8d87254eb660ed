/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * place.h - giving the pieces of a new map their mappings, in the window where that can be done.
 *
 * What a piece had it keeps if that serves. Else memory with an fd is mapped once more, and memory of
 * this process alone is moved as a whole to where its region begins. Addresses that are still in use
 * stop neither: such pieces are told apart, to be settled when the addresses are vacated or, at last,
 * to be reached elsewhere.
 */
#ifndef GM_MEMORY_PLACE_H
#define GM_MEMORY_PLACE_H

#include "memory/space.h"

/* Old and new pieces of everything that is edited. */
struct gm_placing {
	struct gm_space *space;
	struct gm_edit *olds;
	struct gm_edit *news; /* the same ranges */
	size_t nr;
};

/* Does the piece wait for addresses that are in use, or for its own memory to be moved? */
bool gm_place_waits(const struct gm_piece *piece);

/* The part of the window that the piece would claim. */
bool gm_place_claim(
	const struct gm_placing *placing, const struct gm_piece *piece, struct gm_range *ret);

/* Must the mapping that its region has be moved? */
bool gm_place_must_shift(const struct gm_placing *placing, const struct gm_piece *piece);

/*
 * Gives the piece a mapping. 0 also if it waits; with @last nothing does, it is reached where it can
 * be.
 */
int gm_place(struct gm_placing *placing, struct gm_piece *piece, bool last, struct gm_error *err);

/* Takes the mappings back that gm_place() gave. */
void gm_place_undo(struct gm_placing *placing);

/* The new map is published: regions keep the mappings that their pieces have. */
void gm_place_keep(struct gm_placing *placing);

#endif
