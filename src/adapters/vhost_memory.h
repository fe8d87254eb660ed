/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_memory.h - a front-end's regions, and the space that they make.
 *
 * A change is planned first: all is checked, files are mapped, nothing is visible. Then it is carried out whole or
 * dropped.
 */
#ifndef GM_ADAPTERS_VHOST_MEMORY_H
#define GM_ADAPTERS_VHOST_MEMORY_H

#include <guestmem/txn.h>
#include <guestmem/vhost_msg.h>

#include "core/range.h"

struct stat;

/* ---- vhost_file.c ---- */

/*
 * May [@off, @off + @len) of a peer's file be mapped? Regular files (memfd, hugetlbfs) that are open for reading and
 * writing and long enough; without F_SEAL_SHRINK only while the fault guard is installed. 0; -EINVAL, -EPERM, or
 * what the kernel answered. *ret_stat is optional.
 */
int gm_vhost_file_check(int fd, uint64_t off, uint64_t len, const char *what, struct stat *ret_stat,
	struct gm_error *err);

/* A part of a file that is mapped by itself: a log, an area of what is in flight. */
struct gm_vhost_mapping {
	void *base; /* NULL: nothing */
	size_t base_len;
	uint8_t *at;
	uint64_t len;
};

/* Checks, maps, and looks at the file's size once more. 0, or as above. */
int gm_vhost_file_map(int fd, uint64_t off, uint64_t len, const char *what,
	struct gm_vhost_mapping *ret, struct gm_error *err);
void gm_vhost_file_unmap(struct gm_vhost_mapping *mapping);

/* ---- vhost_memory.c ---- */

struct gm_vhost_slot {
	struct gm_range gpa;
	struct gm_range user;
	uint64_t off; /* in its file */
	uint64_t id;  /* of its region in the space */
	uint64_t dev; /* of its file */
	uint64_t ino;
	bool stays;
};

struct gm_vhost_table {
	struct gm_space *space;
	uint32_t nr;
	uint32_t nr_next;
	uint32_t nr_gone;                               /* by the plan: regions that go */
	struct gm_txn *txn;                             /* of the plan, or NULL */
	struct gm_vhost_slot slots[GM_VHOST_SLOTS_MAX]; /* by user address */
	struct gm_vhost_slot next[GM_VHOST_SLOTS_MAX];  /* the plan */
};

int gm_vhost_memory_init(
	struct gm_vhost_table *mem, const struct gm_space_opts *opts, struct gm_error *err);
void gm_vhost_memory_fini(struct gm_vhost_table *mem);

/*
 * Plans: a table in the place of all; one region more; one region less; no region. Descriptors are borrowed. @same:
 * user addresses must be guest addresses. What is the same as before stays. 0, -EINVAL, -EEXIST (overlap), -ENOSPC
 * (slots), -ENOENT (no such region), or as gm_vhost_file_check() and the space's functions; then there is no plan.
 */
int gm_vhost_memory_plan_table(struct gm_vhost_table *mem, const struct gm_vhost_region *regions,
	const int *fds, uint32_t nr, bool same, struct gm_error *err);
int gm_vhost_memory_plan_add(struct gm_vhost_table *mem, const struct gm_vhost_region *region,
	int fd, bool same, struct gm_error *err);
int gm_vhost_memory_plan_remove(
	struct gm_vhost_table *mem, const struct gm_vhost_region *region, struct gm_error *err);

/* Carries the plan out; when it returns 0 no reader has what went. On failure the plan is dropped. */
int gm_vhost_memory_commit(struct gm_vhost_table *mem, struct gm_error *err);
void gm_vhost_memory_abort(struct gm_vhost_table *mem);

/* The region that holds @user, and how far it reaches from there: its guest address. -EFAULT: none does. */
int gm_vhost_memory_find(
	const struct gm_vhost_table *mem, uint64_t user, uint64_t *ret_gpa, uint64_t *ret_len);
/* The guest address of a range that lies in one region; -EFAULT, -EINVAL (no range). */
int gm_vhost_memory_gpa(
	const struct gm_vhost_table *mem, uint64_t user, uint64_t len, uint64_t *ret_gpa);
/* The last guest address of all regions; false: there is none. */
bool gm_vhost_memory_last(const struct gm_vhost_slot *slots, uint32_t nr, uint64_t *ret_last);
/* Where the slot's memory is mapped here, for a userfaultfd. */
int gm_vhost_memory_hva(
	const struct gm_vhost_table *mem, const struct gm_vhost_slot *slot, void **ret);

#endif
