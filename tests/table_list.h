/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table_list.h - what should show as a sorted list that is searched from its begin, and whether a
 * view says the same.
 *
 * Of test_table.c. There is one run at a time; all randomness comes from its seed, which every failure
 * names.
 */
#ifndef GM_TESTS_TABLE_LIST_H
#define GM_TESTS_TABLE_LIST_H

#include "memory/view.h"
#include "random.h"
#include "support.h"

#define ITEMS_MAX 24000u
#define EDITS_MAX 4u

/* Something that shows; inline code may use it with its direct permissions. */
struct item {
	uint64_t first;
	uint64_t last;
	uint64_t off;
	uint32_t node;
	uint16_t perms;
	uint16_t direct;
};

struct list {
	struct item items[ITEMS_MAX];
	size_t nr;
};

extern struct table_run {
	uint64_t seed;
	unsigned long step;
	struct rng rng;
	struct gm_edit edits[EDITS_MAX]; /* the last ones */
	size_t nr_edits;
	uint64_t base;          /* host address of address 0 */
	unsigned long nr_falls; /* of the hot stretch to another one */
} run;

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("seed %lu step %lu: %s (%s:%d)", (unsigned long)run.seed,         \
				run.step, #cond, __FILE__, __LINE__);                              \
	} while (0)

/* The item that holds @gpa, or else the first one above. */
const struct item *list_find(const struct list *list, uint64_t gpa);

/* The same by the run's edits. */
void list_edit(
	const struct list *old, struct list *new, struct item (*item_of)(const struct gm_piece *));

/* Asks a view at some addresses: the ends, the borders of what was edited and of @nr others. */
void check_some(const struct gm_view *view, const struct list *list, unsigned int nr);

/* Meets every item in turn. */
void check_walk(const struct gm_view_full *view, const struct list *list);

/* The hot stretch of a view that was made from @old. */
void check_hot(
	const struct gm_view_full *view, const struct gm_view_full *old, const struct list *list);

/* What is listed as made for @view, or as not needed any more, is what the two do not share. */
void check_parts(const struct gm_view_full *old, struct gm_view_full *view);

#endif
