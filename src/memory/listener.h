/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener.h - telling the listeners of a space about a commit, step by step.
 *
 * Each step either works for all or returns an error, after which gm_listeners_withdraw(), the
 * return of all mappings, and gm_listeners_restore() make them as they were.
 */
#ifndef GM_MEMORY_LISTENER_H
#define GM_MEMORY_LISTENER_H

#include <guestmem/listener.h>

#include "memory/sections.h"

/* What a listener has where something changes. */
struct gm_told {
	struct gm_rangeset reach;
	struct gm_sections has;
	struct gm_sections old;            /* what it had */
	struct gm_sections new;            /* what it is to have */
	struct gm_sections back;           /* room for what it is to have again after a failure */
	const struct gm_rangeset *vacated; /* there memory goes, or is moved */
	struct gm_change *changes;
	size_t nr_changes;
	bool changed; /* something was told, expected or not */
};

struct gm_listener {
	struct gm_space *space;
	struct gm_listener *next; /* of higher or equal priority */
	struct gm_listener_ops ops;
	struct gm_told told; /* during a commit */
	uint64_t nr_sections;
	uint64_t lost; /* atomic: dumps read it */
	char name[32];
};

/* A listener in a dump. */
struct gm_listener_line {
	char name[32];
	int32_t priority;
	uint64_t sections;
	uint64_t max_sections;
	uint64_t lost;
	struct {
		uint64_t sections; /* that withhold a permission which it does not enforce */
		uint64_t first;    /* address of the first of them */
	} unenforced[3];           /* by bit of the permission */
};

/* Computes the differences, counts, and asks. On failure nothing is left to be done. */
int gm_listeners_ask(struct commit *c, struct gm_error *err);

/* Takes away what is not in both maps. */
void gm_listeners_withdraw(struct commit *c);

/* Gives what is new, from where it is. */
int gm_listeners_give(struct commit *c, struct gm_error *err);

/* Gives back what was taken away, and says that nothing has changed. */
void gm_listeners_restore(struct commit *c);

/* The new map is published. */
void gm_listeners_commit(struct commit *c);

/*
 * Writes the listeners down as they are with the published map, with the space's lock held; @room has
 * as many items as the map has spans, so that nothing is allocated.
 */
size_t gm_listeners_count(const struct gm_space *space);
void gm_listeners_list(
	struct gm_space *space, struct gm_sections *room, struct gm_listener_line *ret);

/*
 * For who holds the space (gm_space_hold()), so that several listeners come and go as one. To drop one
 * cannot fail; without memory for a list its sections go in rising order.
 */
int gm_listener_create_held(struct gm_space *space, const struct gm_listener_ops *ops,
	struct gm_listener **ret_listener, struct gm_error *err);
void gm_listener_drop_held(struct gm_listener *listener);

/* The space goes. */
void gm_listeners_free(struct gm_space *space);

#endif
