/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_plan.h - from one table of a vhost-user back-end to another by the fewest messages.
 *
 * A table is an array by guest address. Nothing here allocates or sends: who does keeps both tables, and the steps say
 * which entry of which.
 */
#ifndef GM_CORE_VHOST_PLAN_H
#define GM_CORE_VHOST_PLAN_H

#include <guestmem/error.h>
#include <guestmem/vhost_msg.h>
#include <stdbool.h>
#include <stddef.h>

#define GM_VHOST_SLOT_ALONE 0x1u /* is joined with no neighbour */

/* Memory as the back-end is to have it. */
struct gm_vhost_slot {
	struct gm_vhost_region region;
	uint64_t file[2]; /* which file it is: device and inode */
	uint64_t page;    /* bytes of the file's pages, a power of two */
	int32_t fd;       /* borrowed */
	uint32_t flags;   /* GM_VHOST_SLOT_* */
};

enum gm_vhost_step_kind {
	GM_VHOST_STEP_GROW_LOG, /* ahead of the table */
	GM_VHOST_STEP_REMOVE,   /* @index of the old table */
	GM_VHOST_STEP_ADD,      /* @index of the new table */
	GM_VHOST_STEP_TABLE,    /* all of the new table */
	GM_VHOST_STEP_SHRINK_LOG,
};

struct gm_vhost_step {
	uint32_t kind;
	uint32_t index;
};

struct gm_vhost_table {
	const struct gm_vhost_slot *slots;
	size_t nr;
};

/* How a back-end is told. */
struct gm_vhost_way {
	uint32_t max;     /* entries that it takes */
	bool by_slot;     /* CONFIGURE_MEM_SLOTS */
	uint64_t log_len; /* bytes of the log that it has, 0 = none */
};

/*
 * Widens entries to whole pages of their files and joins neighbours: in guest addresses, in user addresses and in one
 * file. @slots is by guest address. On success *nr is how many are left. -EINVAL: two overlap; -ERANGE: one passes an
 * end of the addresses. After a failure @slots has any contents.
 */
int gm_vhost_plan_join(struct gm_vhost_slot *slots, size_t *nr, struct gm_error *err);

/* Room for the steps between two tables. */
static inline size_t gm_vhost_plan_room(size_t nr_old, size_t nr_new)
{
	return nr_old + nr_new + 2;
}

/*
 * The steps from @old to @new, both as gm_vhost_plan_join() leaves them. First all that go, the last one first, then
 * all that come: so no two overlap on the way, and there are never more than the larger table has. -ENOSPC: the
 * back-end takes fewer; -EINVAL: user addresses overlap.
 */
int gm_vhost_plan(const struct gm_vhost_way *way, struct gm_vhost_table old,
	struct gm_vhost_table new, struct gm_vhost_step *steps, size_t *ret_nr,
	struct gm_error *err);

/* Bytes of a log for all of a table: a bit a page of 4096 bytes, whole pages of log. 0 for no memory. */
uint64_t gm_vhost_plan_log_len(struct gm_vhost_table table);

/* Is all of [@gpa, @gpa + @len) in one entry? It, or NULL. */
const struct gm_vhost_slot *gm_vhost_plan_find(
	struct gm_vhost_table table, uint64_t gpa, uint64_t len);

/* Are they the same memory in the same place? */
bool gm_vhost_slot_same(const struct gm_vhost_slot *a, const struct gm_vhost_slot *b);

#endif
