/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sections.h - pieces as a listener wants them: of some kinds, joined with their neighbours.
 */
#ifndef GM_MEMORY_SECTIONS_H
#define GM_MEMORY_SECTIONS_H

#include <guestmem/listener.h>

#include "memory/commit.h"

struct gm_sections {
	struct gm_section *items;
	size_t nr;
	size_t cap;
};

/* Which side of a change. */
enum gm_side {
	GM_SIDE_OLD,
	GM_SIDE_NEW,
};

/*
 * Where a listener's sections may differ: around the edits that are some for it, out to where nothing is
 * joined. @ret has room for as many ranges as there are edits.
 */
void gm_sections_reach(
	const struct commit *c, const struct gm_listener_ops *ops, struct gm_rangeset *ret);

/*
 * Appends what a listener has (old) or is to have (new) in that reach. Memory that waits for its place
 * is said to be where it is expected. False without memory.
 */
bool gm_sections_of_reach(const struct commit *c, const struct gm_listener_ops *ops,
	const struct gm_rangeset *reach, enum gm_side side, struct gm_sections *ret);

/* Appends all sections of what is published. */
bool gm_sections_of_view(
	struct gm_space *space, const struct gm_listener_ops *ops, struct gm_sections *ret);

/* Calls @fn for each of them in rising order. Needs no memory. */
void gm_sections_each(struct gm_space *space, const struct gm_listener_ops *ops,
	void (*fn)(void *ctx, const struct gm_section *section), void *ctx);

bool gm_sections_add(struct gm_sections *list, const struct gm_section *section);
void gm_sections_free(struct gm_sections *list);

/* The same memory or device in the same place; permissions may differ. */
bool gm_section_is_same(const struct gm_section *a, const struct gm_section *b);

#endif
