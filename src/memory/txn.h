/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * txn.h - a planned change: the tree as it is to be, what it was, and where it shows.
 *
 * The plan is made in the space's own tree; each node keeps what it was (struct gm_touch) until the
 * commit or the abort. Other threads that ask for a region are told what it was, so nodes are
 * changed with the space's lock held.
 */
#ifndef GM_MEMORY_TXN_H
#define GM_MEMORY_TXN_H

#include <guestmem/txn.h>

#include "core/rangeset.h"
#include "memory/space.h"

struct gm_txn {
	struct gm_space *space;
	struct gm_touch *touched;
	struct gm_rangeset changed; /* where the flattened map may differ */
	bool all_changed;           /* everywhere */
};

/* gm_txn_begin(), also of a grant's space. */
int gm_txn_open(struct gm_space *space, struct gm_txn **ret_txn, struct gm_error *err);
/* Before publication: what is to be removed gives back what it holds beyond what it was. */
void gm_txn_drop_gone(struct gm_txn *txn);
/* At publication, with the space's lock held: nodes are what the plan says. */
void gm_txn_shown(struct gm_txn *txn);
/* Ends it, later. */
void gm_txn_end(struct gm_txn *txn);

/* Keeps what a node is before it is changed, unless that was done before. */
int gm_txn_touch(struct gm_txn *txn, struct gm_node *node, struct gm_error *err);

/* ---- part.c ---- */

/* What of a description's parts is wrong whatever its memory is. */
int gm_txn_check_part_desc(
	const struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_error *err);
/* The parts of a description for a node that has memory and range. */
int gm_txn_make_parts(const struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err);
/* The parts of @node for @other, which takes its place with other memory. */
int gm_txn_keep_parts(const struct gm_txn *txn, const struct gm_region_desc *desc,
	const struct gm_node *node, struct gm_node *other, struct gm_error *err);
/* Those of a node of another length, for the caller; *ret is NULL if it has none. */
int gm_txn_resize_parts(const struct gm_txn *txn, const struct gm_node *node, uint64_t len,
	struct gm_partset **ret, struct gm_error *err);

/* ---- make.c ---- */

int gm_txn_no_memory(const struct gm_txn *txn, uint64_t gpa, struct gm_error *err);

/* A node of the plan, or NULL with an error. */
struct gm_node *gm_txn_find(struct gm_txn *txn, uint64_t id, struct gm_error *err);

/* Does @range of @self, called @name, meet another region of the same parent and priority? */
int gm_txn_check_free(const struct gm_txn *txn, const struct gm_node *parent,
	const struct gm_range *range, int32_t priority, const struct gm_node *self,
	const char *name, struct gm_error *err);

int gm_txn_check_perms(
	const struct gm_txn *txn, const struct gm_node *node, uint32_t perms, struct gm_error *err);
int gm_txn_check_range(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, struct gm_range *ret, struct gm_error *err);
int gm_txn_check_target(const struct gm_txn *txn, const struct gm_node *node, uint64_t gpa,
	uint64_t len, uint64_t off, struct gm_error *err);
int gm_txn_check_desc(
	const struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_error *err);
int gm_txn_copy_desc(
	const struct gm_region_desc *user, struct gm_region_desc *desc, struct gm_error *err);

/* Memory, name, range and permissions of a node that has its kind, parent and place. */
int gm_txn_fill_node(const struct gm_txn *txn, const struct gm_region_desc *desc,
	struct gm_node *node, struct gm_error *err);
/* All of a new node. On failure what it holds by then is for the caller to put. */
int gm_txn_make_node(struct gm_txn *txn, const struct gm_region_desc *desc, struct gm_node *node,
	struct gm_error *err);

static inline const char *gm_txn_name(const struct gm_node *node)
{
	return gm_node_name(node, &node->s);
}

/* ---- changed.c ---- */

/* Notes that what shows of a node, wherever that is, may change. */
void gm_txn_changed(struct gm_txn *txn, const struct gm_node *node);
/* The same for a part of it, in its own addresses. */
void gm_txn_changed_in(
	struct gm_txn *txn, const struct gm_node *node, const struct gm_range *range);

/* The absolute address of a node's byte 0 if it lies in the space without an alias. */
bool gm_node_address(const struct gm_space *space, const struct gm_node *node, uint64_t *ret_addr);

#endif
