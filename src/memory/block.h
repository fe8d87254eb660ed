/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block.h - blocks and the mappings through which they are reached.
 *
 * A block has one home mapping, made with it. A block with a shared fd can have more: one for each
 * region that maps a part of it again. A map's references are regions and pins; as long as there are
 * any, they carry one reference on the block, so a block outlives its maps. A home mapping goes with
 * its block, the others with their last reference.
 */
#ifndef GM_MEMORY_BLOCK_H
#define GM_MEMORY_BLOCK_H

#include <guestmem/block.h>
#include <pthread.h>
#include <stdbool.h>

#include "memory/counters.h"
#include "memory/window.h"

struct gm_backend;
struct gm_device;

struct gm_map {
	struct gm_block *block;
	uint8_t *hva;
	uint64_t len;
	uint64_t block_off;
	struct gm_window *window; /* where it lies at base + gpa, or NULL */
	uint64_t gpa;
	uint8_t *arena; /* reservation of its own, or NULL */
	uint64_t arena_len;
	uint64_t holds; /* atomic: regions and pins, and GM_MAP_PIN for each pin */
	bool home;
};

/* A pin counts in both halves of gm_map.holds, so that one addition takes it. */
#define GM_MAP_REF UINT64_C(1)
#define GM_MAP_PIN (UINT64_C(1) << 32)

struct gm_block {
	uint32_t refs;    /* atomic */
	uint32_t regions; /* atomic: of all spaces, as planned and as published */
	int fd;
	struct gm_block_opts opts; /* as asked; pointers in it are dead but for numa */
	uint32_t backing;          /* as it is */
	uint64_t len;
	uint64_t offset;
	uint64_t page_size;
	struct gm_page_choice got;
	int choice;
	bool hugetlb;
	bool dark; /* its home mapping is addresses only: somebody else puts pages there */
	struct gm_backend *backend; /* of memory that is not mapped here, or NULL */
	struct gm_device *device;   /* of the ROM device whose memory it is; reference; or NULL */
	pthread_mutex_t lock;       /* where the home mapping lies */
	struct gm_map home;
	struct gm_tallies tallies;
	char why[GM_BLOCK_WHY_MAX];
	char name[32];
};

/* Makes a block; in the window at @gpa if @window is not NULL (-EEXIST when the addresses are
 * claimed). */
int gm_block_create_at(const struct gm_block_opts *opts, struct gm_window *window, uint64_t gpa,
	struct gm_block **ret, struct gm_error *err);

/*
 * The same, but nothing is mapped: the addresses are reserved, and whoever made the block maps what he
 * likes of its fd there. It is reached by these addresses only, wherever they lie.
 */
int gm_block_create_dark(const struct gm_block_opts *opts, struct gm_window *window, uint64_t gpa,
	struct gm_block **ret, struct gm_error *err);

/* Bytes that a second mapping would share: the block has an fd and is not private. */
bool gm_block_is_shareable(const struct gm_block *block);

/* Bytes that can be in one place only: memory of this process alone, of the library's making. */
bool gm_block_is_exclusive(const struct gm_block *block);

/* Far: it has no host address, a backend reaches it. */
static inline bool gm_block_is_far(const struct gm_block *block)
{
	return block->backend;
}

/* What holds a mapping at this moment: regions and pins, and the pins among them. */
static inline uint32_t gm_map_refs(const struct gm_map *map)
{
	return (uint32_t)__atomic_load_n(&map->holds, __ATOMIC_ACQUIRE);
}

static inline uint32_t gm_map_pins(const struct gm_map *map)
{
	return (uint32_t)(__atomic_load_n(&map->holds, __ATOMIC_ACQUIRE) / GM_MAP_PIN);
}

/* True if no region and no pin uses the home mapping, so that it may be moved. */
bool gm_block_is_idle(struct gm_block *block);

/* ---- map.c ---- */

/*
 * The one pipeline: reserve, map, NUMA, huge-page advice, flags, lock. Population and verification
 * follow in gm_map_fill(). Fills @map, which has block, block_off and len; in the window if it is
 * not NULL.
 */
int gm_map_create(struct gm_map *map, struct gm_window *window, uint64_t gpa, struct gm_error *err);

/* Unmaps; the addresses are reserved again or given back. */
void gm_map_release(struct gm_map *map);

/* Moves a mapping with its pages into the window at @gpa, or into a reservation of its own if
 * @window is NULL. */
int gm_map_move(struct gm_map *map, struct gm_window *window, uint64_t gpa, struct gm_error *err);

/*
 * Takes a reference on a home mapping that nobody uses, after moving it into the window if that is
 * not NULL. -EBUSY if it has references, -EEXIST if the addresses are claimed.
 */
int gm_map_take_home(
	struct gm_block *block, struct gm_window *window, uint64_t gpa, struct gm_error *err);

/*
 * Takes a reference on a home mapping where it lies, in use or not. With the block's lock, as the
 * thread that gave the last one back may be about to move it out of the window.
 */
struct gm_map *gm_map_share_home(struct gm_block *block);

/* One more reference on a mapping that the caller knows to be referenced. */
struct gm_map *gm_map_get(struct gm_map *map);
/*
 * A pin is a reference that keeps a mapping where it is: nothing that is pinned is moved.
 * gm_map_pin() is for mappings that the caller knows to be referenced, by a region of its view.
 */
void gm_map_pin(struct gm_map *map);
void gm_map_unpin(struct gm_map *map);
struct gm_map *gm_map_pin_home(struct gm_block *block);

/* The last reference leaves a home mapping where it is, out of the window if its block lives on. */
void gm_map_put(struct gm_map *map);

/* ---- populate.c ---- */
int gm_map_populate(struct gm_map *map, const struct gm_populate_opts *opts, struct gm_error *err);
/* Bytes of the mapping that are mapped by huge pages; -ENOTSUP where the kernel does not tell. */
int gm_map_count_huge(const struct gm_map *map, uint64_t *ret);

#endif
