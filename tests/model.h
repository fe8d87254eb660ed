/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model.h - a space as a child would write it: for each piece of an address space, who owns it.
 *
 * Three islands of sixteen pages: at 0, around 1 GiB (where the window of a space may end), and up
 * to 2^64 - 1. They are cut into units of 1 KiB; a region paints the units that it owns. Bytes are
 * kept per block, so that aliases share them. The model says which errors an operation may return,
 * and where an access stops.
 */
#ifndef GM_TESTS_MODEL_H
#define GM_TESTS_MODEL_H

#include <guestmem/guestmem.h>
#include <stdbool.h>
#include <stdint.h>

#define MODEL_PAGE 4096u
#define MODEL_UNIT 1024u
#define MODEL_ISLANDS 3u
#define MODEL_ISLAND_PAGES 16u
#define MODEL_ISLAND_LEN (MODEL_ISLAND_PAGES * MODEL_PAGE)
#define MODEL_ISLAND_UNITS (MODEL_ISLAND_LEN / MODEL_UNIT)
#define MODEL_UNITS (MODEL_ISLANDS * MODEL_ISLAND_UNITS)
#define MODEL_REGIONS 64
#define MODEL_BLOCKS 160
#define MODEL_BLOCK_MAX MODEL_ISLAND_LEN

extern const uint64_t model_islands[MODEL_ISLANDS];

/* A set of errors, any of which would be right. */
#define MODEL_INVAL 1u
#define MODEL_RANGE 2u
#define MODEL_EXIST 4u
#define MODEL_BUSY 8u
#define MODEL_ACCES 16u
#define MODEL_NOENT 32u

unsigned int model_error_bit(int rc); /* 0 for 0 and for other codes */

enum model_backing {
	MODEL_NONE = 0,
	MODEL_INPLACE, /* private, made by the space */
	MODEL_ANON,    /* private, made before: can be in one region at a time */
	MODEL_MEMFD,
	MODEL_POINTER,
};

struct model_block {
	enum model_backing backing;
	struct gm_block *block; /* NULL until it is known */
	uint64_t len;
	bool readonly;
	unsigned int pins;
	uint8_t bytes[MODEL_BLOCK_MAX];
};

struct model_region {
	uint64_t id;
	uint64_t gpa;
	uint64_t len;
	uint64_t off;
	uint32_t kind;
	uint32_t perms;
	int block; /* index, or -1 */
	char name[32];
};

/* A map: the published one or a plan. Copied by assignment. */
struct model {
	struct model_region regions[MODEL_REGIONS];
	unsigned int nr;
	int16_t owner[MODEL_UNITS]; /* index of the region, or -1 */
};

extern struct model_block model_blocks[MODEL_BLOCKS];

void model_init(struct model *map);
/* Number of a free block, of zeros. */
int model_block_new(
	enum model_backing backing, struct gm_block *block, uint64_t len, bool readonly);

/* Unit of an address, or -1 outside the islands. */
int model_unit(uint64_t addr);
/* Index of the region with this number, or -1. */
int model_find(const struct model *map, uint64_t id);
/* Index of the region that holds @addr or of the first one above; -1 if there is none. */
int model_next(const struct model *map, uint64_t addr);

/*
 * Errors of putting @want into the map in the place of the region @self (-1: a new one).
 * *ret_common is the first byte that would be owned twice, with MODEL_EXIST.
 */
unsigned int model_place_errors(
	const struct model *map, const struct model_region *want, int self, uint64_t *ret_common);
unsigned int model_perms_errors(const struct model_region *want);
/* MODEL_BUSY if the block has no fd and is used in one of the maps or pinned. */
unsigned int model_busy_errors(const struct model *plan, const struct model *published, int block);

void model_put(struct model *map, const struct model_region *region, int self);
void model_drop(struct model *map, int index);
/* Frees blocks that the space made and that nobody uses any more. */
void model_collect(const struct model *map);

/*
 * An access: 0 or a negative errno value, and in *ret_done the bytes before it stops. @len 0 checks
 * the address.
 */
int model_access(
	const struct model *map, uint64_t gpa, uint64_t len, uint32_t perms, uint64_t *ret_done);
/* The byte at an address that is mapped. */
uint8_t *model_byte(const struct model *map, uint64_t gpa);

#endif
