/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant.h - what a grant holds, and the steps of a change.
 *
 * A *base* is memory of the source, imported as a dark block of the grant's space: addresses that
 * nothing is mapped at but what is granted, put there by grant_map.c. A *shown* piece is an alias of
 * a base with its rights. A change publishes other pieces, which waits for nobody; what was mapped
 * for pieces that went is *pending* until readers and pins have left.
 *
 * All of it is changed by who holds the source space; with the grant's lock held, so that others can
 * ask.
 */
#ifndef GM_MEMORY_GRANT_H
#define GM_MEMORY_GRANT_H

#include <guestmem/grant.h>
#include <guestmem/listener.h>
#include <pthread.h>

#include "memory/commit.h"
#include "memory/sections.h"

struct gm_right {
	struct gm_range range;
	uint32_t perms;
};

/* Sorted, disjoint. */
struct gm_rights {
	struct gm_right *items;
	size_t nr;
};

struct gm_base {
	struct gm_base *next;
	struct gm_range range;
	struct gm_block *source; /* reference: whose memory it is, or stands for */
	uint64_t source_off;     /* byte of that at the range's first address */
	uint32_t kind;
	bool writable;
	struct gm_block *block; /* dark; a reference on it and one on its home mapping */
	int ro_fd;              /* the same file; own if writable, else that of the block */
	uint64_t id;            /* region of the grant's space */
	bool used;              /* scratch of a plan */
	bool gone;              /* no region any more: only to be given back */
};

struct gm_shown {
	struct gm_range range;
	uint32_t perms;
	struct gm_base *base;
	uint64_t id;
};

struct gm_shown_list {
	struct gm_shown *items; /* sorted by address */
	size_t nr;
	size_t cap;
};

/* A change on its way. */
struct gm_grant_plan {
	struct gm_shown_list next;
	struct gm_base *fresh; /* bases that it brings */
	struct gm_txn *txn;
	struct commit commit;
	size_t opened; /* shown pieces before this one are mapped */
};

struct gm_grant {
	struct gm_space *source;
	struct gm_space *space;
	struct gm_listener *listener;
	struct gm_reader *source_reader; /* both: shadows, under copy_lock */
	struct gm_reader *reader;
	pthread_mutex_t copy_lock;
	uint64_t timeout_ns;
	uint32_t flags;
	pthread_mutex_t lock; /* of what follows */
	struct gm_rights rights;
	struct gm_shown_list shown;
	struct gm_shown_list pending; /* room for all that may come */
	struct gm_base *bases;
	struct gm_grant_plan *plan; /* of the source's commit under way */
	uint64_t sent;
	bool lasting; /* handed out for good */
	char name[32];
};

/* ---- grant_map.c: memory, and what the MMU lets through ---- */

/* A base for part of a section, in the grant's window if the addresses are free. */
int gm_base_create(struct gm_grant *grant, const struct gm_section *section,
	const struct gm_range *range, uint32_t perms, struct gm_base **ret, struct gm_error *err);
void gm_base_free(struct gm_base *base, bool shadow);

/* May this base serve that section with these rights at @addr? */
bool gm_base_serves(const struct gm_base *base, const struct gm_section *section, uint64_t addr,
	uint32_t perms);

/* -EINVAL if @range cuts a page of @block. */
int gm_grant_check_pages(const struct gm_grant *grant, const struct gm_block *block,
	const struct gm_range *range, struct gm_error *err);

/* Maps what a piece needs beyond what those of @grant have now. */
int gm_grant_open(struct gm_grant *grant, const struct gm_shown *piece, struct gm_error *err);
/* Takes that back. */
void gm_grant_reopen(struct gm_grant *grant, const struct gm_shown *piece);

/* No reader of what was before is left: unmaps what is pending and not pinned. 0, or what failed. */
int gm_grant_close(struct gm_grant *grant, struct gm_error *err);

/* ---- grant_plan.c: what shows ---- */

/*
 * Plans that all pieces in @cleared go, and that those of @sections come as @rights says. *ret is NULL if
 * nothing changes. All that can fail is done when it returns 0.
 */
int gm_grant_plan(struct gm_grant *grant, const struct gm_rights *rights,
	const struct gm_rangeset *cleared, const struct gm_sections *sections, bool wait,
	struct gm_grant_plan **ret, struct gm_error *err);
void gm_grant_plan_finish(struct gm_grant *grant, struct gm_grant_plan *plan);
void gm_grant_plan_undo(struct gm_grant *grant, struct gm_grant_plan *plan);

bool gm_shown_add(struct gm_shown_list *list, const struct gm_shown *piece);
/* The first right or piece that ends at or after @addr. */
size_t gm_rights_find(const struct gm_rights *rights, uint64_t addr);
size_t gm_shown_find(const struct gm_shown_list *list, uint64_t addr);

/* ---- grant_follow.c: in step with the source ---- */

/* What it wants of the source. */
void gm_grant_listener_ops(struct gm_grant *grant, struct gm_listener_ops *ret);

/* Ends what is pending in the grant and in those of its space. With the source held. */
int gm_grant_finish(struct gm_grant *grant, uint64_t timeout_ns, struct gm_error *err);
/* As far as that goes without waiting. */
void gm_grant_poll(struct gm_grant *grant);

#endif
