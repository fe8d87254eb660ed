/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.h - regions, views and the space that owns them.
 *
 * A region object never changes once it is in a published view; a change makes a new object with
 * the same id. Views and region objects that were replaced are freed together, after their readers
 * have left.
 *
 * One transaction at a time holds the space (busy). The published list and view are exchanged under
 * the lock, which is held for moments only; the data behind them is immutable.
 */
#ifndef GM_MEMORY_SPACE_H
#define GM_MEMORY_SPACE_H

#include <guestmem/space.h>
#include <pthread.h>

#include "core/range.h"
#include "memory/block.h"
#include "memory/reclaim.h"
#include "memory/window.h"

#define GM_TIMEOUT_DEFAULT_NS UINT64_C(1000000000)

struct gm_region {
	uint64_t id;
	struct gm_range range;
	uint32_t kind;
	uint32_t perms;
	struct gm_map *map;     /* reference; NULL for GM_REGION_RESERVED */
	struct gm_block *block; /* reference; the map may be another one of the same block */
	uint64_t block_off;
	char name[32];
};

/* A sorted list of regions; the pointers are borrowed or owned as the holder says. */
struct gm_regions {
	struct gm_region **items;
	size_t nr;
};

/* The frozen part and what only the library looks at. */
struct gm_view_full {
	struct gm_view pub; /* first */
	struct gm_region **regions;
	uint32_t nr_regions;
	struct gm_span *spans;
	uint32_t *index;
	struct gm_deferred deferred; /* when it is retired: */
	struct gm_regions dropped;   /* region objects that go with it */
};

struct gm_space {
	const struct gm_view *view; /* atomic: what readers load */
	struct gm_window *window;   /* or NULL */
	uint64_t timeout_ns;
	struct gm_reclaim reclaim;
	pthread_mutex_t lock;      /* busy, regions, exchange of the view */
	bool busy;                 /* a transaction is open, or something is being reclaimed */
	struct gm_regions regions; /* owned: the published ones */
	uint64_t next_id;
	uint64_t generation;
	char name[32];
};

/* ---- region.c ---- */
uint64_t gm_region_hva(const struct gm_region *region);
bool gm_region_is_placed(const struct gm_region *region, const struct gm_window *window);
void gm_region_free(struct gm_region *region);
/* Index of the first region that ends at or after gpa. */
size_t gm_regions_find(struct gm_region *const *regions, size_t nr, uint64_t gpa);

/* ---- view.c ---- */
/* A view with room for @nr_regions; it is filled later, which cannot fail. */
struct gm_view_full *gm_view_alloc(size_t nr_regions);
void gm_view_fill(struct gm_view_full *view, const struct gm_window *window,
	struct gm_region *const *regions, size_t nr, uint64_t generation);
void gm_view_free(struct gm_view_full *view);
/* The region of a view that holds gpa, or NULL. */
const struct gm_region *gm_view_region(const struct gm_view *view, uint64_t gpa);

/* ---- space.c ---- */
/* The options in full, checked; those of @user or, if that is NULL, the defaults. */
int gm_space_opts_copy(
	struct gm_space_opts *ret, const struct gm_space_opts *user, struct gm_error *err);
/* Takes and gives back the right to change the space. */
int gm_space_hold(struct gm_space *space, struct gm_error *err);
void gm_space_release(struct gm_space *space);
/* Exchanges the view; the old one is retired with @dropped (taken). @regions (taken) become the
 * published ones. */
void gm_space_publish(struct gm_space *space, struct gm_view_full *view, struct gm_regions regions,
	struct gm_regions dropped);

#endif
