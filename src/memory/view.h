/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * view.h - building the immutable map that readers use.
 *
 * A new view is the old one with some ranges edited: what leads to them is copied, the rest is
 * shared. Memory is taken when it is built; when it is finished, which cannot fail, the mappings are
 * known. The parts of the old view that the new one does without are freed with the old one.
 */
#ifndef GM_MEMORY_VIEW_H
#define GM_MEMORY_VIEW_H

#include <guestmem/view.h>

#include "core/rangeset.h"
#include "core/table.h"
#include "memory/reclaim.h"

struct gm_dirty;
struct gm_map;
struct gm_node;
struct gm_partset;
struct gm_window;

/* A stretch of the flattened map: who shows there, and how it is reached. */
struct gm_piece {
	struct gm_range range;
	uint64_t off; /* where it begins in its region */
	struct gm_node *node;
	uint64_t block_off;             /* byte of the node's block that shows first */
	uint16_t perms;                 /* as in a span */
	bool primary;                   /* reached without an alias */
	struct gm_map *map;             /* or NULL */
	const struct gm_partset *parts; /* of the node, as it is or was */
	bool given;                     /* the map's reference is the piece's own */
};

/* All that shows in @range is @nr pieces, which lie in it whole, as do those that go. */
struct gm_edit {
	struct gm_range range;
	struct gm_piece *pieces;
	size_t nr;
};

/* The first of sorted edits that ends at or after @addr. */
size_t gm_edit_find(const struct gm_edit *edits, size_t nr, uint64_t addr);

/* A growing list of what is to be freed: leaves and directories. */
struct gm_parts {
	uintptr_t *slots;
	size_t nr;
	size_t cap;
};

struct gm_view_full {
	struct gm_view pub;      /* first */
	size_t nr_spans;         /* pieces, each counted once */
	uint64_t hot_scanned;    /* extent of the hot stretch when all was looked at */
	struct gm_parts fresh;   /* made for this view */
	struct gm_parts garbage; /* of the one before, not in this one */
	bool finished;
	struct gm_dirty *dirty;      /* of its space, or NULL: an empty one's */
	bool aliased;                /* memory may show under more names than one */
	bool aliases_came;           /* that is new for some */
	struct gm_deferred deferred; /* when it is retired: */
	struct gm_parts dropped;     /* parts that go with it */
	struct gm_rangeset changed;  /* what the next one changed, for the logs */
	bool all_changed;
};

/* A view of nothing. */
struct gm_view_full *gm_view_empty(void);

/*
 * @old with @edits, which are sorted and disjoint; NULL without memory. The pieces are used until it
 * is finished.
 */
struct gm_view_full *gm_view_edit(
	const struct gm_view_full *old, const struct gm_edit *edits, size_t nr);

/* The same once more; NULL without memory. To be finished without edits. */
struct gm_view_full *gm_view_copy(const struct gm_view_full *old);

/* Fills in where the pieces' memory lies, by their maps as they are now. */
void gm_view_finish(struct gm_view_full *view, const struct gm_view_full *old,
	const struct gm_window *window, const struct gm_edit *edits, size_t nr,
	uint64_t generation);

/* It is published for good: which parts were made for it need not be known any more. */
void gm_view_trim(struct gm_view_full *view);

/* Frees a view that was never published, with the parts made for it. */
void gm_view_discard(struct gm_view_full *view);

/* Frees a view that was published and left by its readers, with the parts dropped since. */
void gm_view_free(struct gm_view_full *view);

/* Frees everything: the last one. */
void gm_view_free_all(struct gm_view_full *view);

#endif
