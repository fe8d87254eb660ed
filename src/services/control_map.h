/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_map.h - which stretches of host addresses differ from their block by what a guest asked for.
 *
 * Sorted, disjoint; what is alike and adjacent is one; what differs in nothing is not there. Two arrays take
 * turns, so a change is built beside what is.
 */
#ifndef GM_SERVICES_CONTROL_MAP_H
#define GM_SERVICES_CONTROL_MAP_H

#include <stddef.h>

#include "core/range.h"
#include "memory/block.h"

#define GM_CONTROL_NAME_CAP 32u

enum gm_control_prot { GM_PROT_NORMAL = 0, GM_PROT_NONE, GM_PROT_R, GM_PROT_W };
enum gm_control_merge { GM_MERGE_NORMAL = 0, GM_MERGE_YES, GM_MERGE_NO };
enum gm_control_huge { GM_HUGE_NORMAL = 0, GM_HUGE_YES, GM_HUGE_NO };
enum gm_control_numa { GM_NODE_NORMAL = 0, GM_NODE_BIND, GM_NODE_PREFER };

/* All zero: as its block. No padding: compared and hashed as bytes. */
struct gm_control_attr {
	uint8_t prot;
	uint8_t locked;
	uint8_t merge;
	uint8_t nodump;
	uint8_t huge;
	uint8_t numa;
	uint8_t node;
	uint8_t reserved;
	char name[GM_CONTROL_NAME_CAP]; /* the rest of it is zero */
};

enum gm_control_field {
	GM_FIELD_PROT = 0,
	GM_FIELD_LOCK,
	GM_FIELD_MERGE,
	GM_FIELD_DUMP,
	GM_FIELD_HUGE,
	GM_FIELD_NUMA,
	GM_FIELD_NAME,
	GM_FIELDS,
};

struct gm_control_piece {
	struct gm_range hva;
	struct gm_block *block; /* borrowed: it shows as long as the piece is there */
	struct gm_control_attr attr;
	bool dying; /* a commit is about to take it away */
};

struct gm_control_map {
	struct gm_control_piece *pieces;
	struct gm_control_piece *spare;
	size_t nr;
	size_t cap;
};

/* -ENOMEM. And frees. */
int gm_control_map_init(struct gm_control_map *map, size_t cap);
void gm_control_map_fini(struct gm_control_map *map);
void gm_control_map_copy(struct gm_control_map *to, const struct gm_control_map *from);
void gm_control_map_swap(struct gm_control_map *a, struct gm_control_map *b);

/* One field of @attr for all of a range. False if there is no room: nothing has changed. */
bool gm_control_map_set(struct gm_control_map *map, const struct gm_range *hva,
	struct gm_block *block, enum gm_control_field field, const struct gm_control_attr *attr);

/* What there is of a range dies, or lives on. Without room whole pieces die. */
void gm_control_map_doom(struct gm_control_map *map, const struct gm_range *hva, bool dying);
/* Forgets what is dying, or all of it. */
void gm_control_map_forget(struct gm_control_map *map, bool all);

uint64_t gm_control_map_locked(const struct gm_control_map *map);
/* Index of the first piece that ends at or after an address. */
size_t gm_control_map_find(const struct gm_control_map *map, uint64_t hva);

/* Copies one field. */
void gm_control_attr_take(struct gm_control_attr *to, enum gm_control_field field,
	const struct gm_control_attr *from);
/* Are the fields alike? */
bool gm_control_attr_same(const struct gm_control_attr *a, const struct gm_control_attr *b,
	enum gm_control_field field);

#endif
