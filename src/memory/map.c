/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map.c - mappings of blocks: made in one order, moved, and given back.
 *
 * Order: addresses, mmap, NUMA, huge-page advice, flags, lock. Advice after population would leave
 * base pages, policy after population the wrong node.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "memory/avail.h"
#include "memory/block.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define HUGE_2M (UINT64_C(1) << 21)
#define HUGE_1G (UINT64_C(1) << 30)

static uint64_t arena_align(const struct gm_map *map)
{
	uint64_t align = map->len >= HUGE_1G ? HUGE_1G : HUGE_2M;

	if (map->block->page_size > align)
		align = map->block->page_size;
	if (map->block->opts.align > align)
		align = map->block->opts.align;
	return align;
}

static int take_addresses(
	struct gm_map *map, struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	int rc;

	if (window) {
		rc = gm_window_claim(window, gpa, map->len);
		if (rc)
			return gm_error_set(err, rc, gpa, map->len,
				"%s: no room in the window at gpa 0x%" PRIx64 ": %s",
				map->block->name, gpa, gm_error_word(rc));
		map->window = window;
		map->gpa = gpa;
		map->hva = window->base + gpa;
		return 0;
	}
	rc = gm_arena_reserve(map->len, arena_align(map), &map->hva, &map->arena, &map->arena_len);
	if (rc)
		return gm_error_set(err, rc, 0, map->len,
			"%s: cannot reserve %" PRIu64 " bytes of host addresses: %s "
			"(see RLIMIT_AS, vm.max_map_count)",
			map->block->name, map->len, gm_error_word(rc));
	return 0;
}

/* The mapping is gone already; only addresses are given back. */
static void give_addresses(struct gm_map *map)
{
	if (map->window)
		gm_window_unclaim(map->window, map->gpa, map->len);
	else if (map->arena)
		gm_sys_munmap(map->arena, map->arena_len);
	map->window = NULL;
	map->arena = NULL;
	map->hva = NULL;
}

static int mmap_flags(const struct gm_block *block)
{
	bool private = block->backing == GM_BACKING_ANON || (block->opts.flags & GM_BLOCK_PRIVATE);
	int flags = MAP_FIXED | (private ? MAP_PRIVATE : MAP_SHARED);

	if (block->fd < 0)
		flags |= MAP_ANONYMOUS;
	if (block->fd < 0 && block->hugetlb)
		flags |= MAP_HUGETLB | (int)(block->got.log2 << MAP_HUGE_SHIFT);
	if (block->opts.reserve == GM_RESERVE_NONE)
		flags |= MAP_NORESERVE;
	return flags;
}

static int explain_mmap(const struct gm_map *map, int rc, struct gm_error *err)
{
	const struct gm_block *block = map->block;
	struct gm_pool pool;
	uint64_t want = map->len / block->page_size;

	if (rc == -ENOMEM && block->hugetlb &&
		gm_pool_read((uint32_t)__builtin_ctzll(block->page_size), &pool) == 0)
		return gm_error_set(err, rc, 0, map->len,
			"%s: needs %" PRIu64 " huge pages of %" PRIu64 " kB, the pool has %" PRIu64
			" free of which %" PRIu64 " are promised: echo %" PRIu64
			" > /sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
			block->name, want, pool.page_size >> 10, pool.free, pool.reserved,
			pool.total + want -
				(pool.free > pool.reserved ? pool.free - pool.reserved : 0),
			pool.page_size >> 10);
	if (rc == -ENOMEM)
		return gm_error_set(err, rc, 0, map->len,
			"%s: cannot map %" PRIu64 " bytes: %s (see RLIMIT_AS, vm.max_map_count, "
			"vm.overcommit_memory)",
			block->name, map->len, gm_error_word(rc));
	return gm_error_set(err, rc, 0, map->len, "%s: cannot map %" PRIu64 " bytes: %s%s",
		block->name, map->len, gm_error_word(rc),
		rc == -EPERM ? " (a write-sealed file needs GM_BLOCK_READONLY)" : "");
}

static const int numa_modes[] = {
	[GM_NUMA_DEFAULT] = 0,
	[GM_NUMA_BIND] = 2,
	[GM_NUMA_PREFERRED] = 1,
	[GM_NUMA_PREFERRED_MANY] = MPOL_PREFERRED_MANY,
	[GM_NUMA_INTERLEAVE] = 3,
	[GM_NUMA_WEIGHTED_INTERLEAVE] = MPOL_WEIGHTED_INTERLEAVE,
};

#define NODES_MAX (GM_NUMA_WORDS * 64)

/* NODES_MAX if there is none. */
static unsigned int first_node(const struct gm_numa *numa)
{
	unsigned int node = 0;

	while (node < NODES_MAX && !(numa->nodes[node / 64] >> (node % 64) & 1))
		node++;
	return node;
}

static int bind_nodes(const struct gm_block *block, uint8_t *hva, uint64_t len,
	const struct gm_numa *numa, struct gm_error *err)
{
	int rc;

	if (numa->mode == GM_NUMA_DEFAULT)
		return 0;
	/* With one preferred node none means the nearest. */
	if (first_node(numa) == NODES_MAX && numa->mode != GM_NUMA_PREFERRED)
		return gm_error_set(err, -EINVAL, 0, len,
			"%s: the NUMA mode is given without nodes", block->name);
	rc = gm_sys_mbind(hva, len, numa_modes[numa->mode], numa->nodes, GM_NUMA_WORDS);
	if (rc)
		return gm_error_set(err, rc, 0, len,
			"%s: the kernel refuses NUMA nodes (the first is %u): %s "
			"(see /sys/devices/system/node/online and the cpuset)",
			block->name, first_node(numa), gm_error_word(rc));
	if (!numa->home_plus)
		return 0;
	rc = gm_sys_home_node(hva, len, numa->home_plus - 1);
	if (rc)
		return gm_error_set(err, rc, 0, len, "%s: the kernel refuses home node %u: %s",
			block->name, numa->home_plus - 1, gm_error_word(rc));
	return 0;
}

static int advise(const struct gm_map *map, int advice, const char *what, struct gm_error *err)
{
	int rc = gm_sys_madvise(map->hva, map->len, advice);

	if (rc)
		return gm_error_set(err, rc, 0, map->len, "%s: the kernel refuses %s: %s",
			map->block->name, what, gm_error_word(rc));
	return 0;
}

static int advise_pages(const struct gm_map *map, struct gm_error *err)
{
	int rc;

	switch (map->block->got.kind) {
	case GM_PAGE_THP:
		return advise(map, MADV_HUGEPAGE, "transparent huge pages", err);
	case GM_PAGE_BASE:
		rc = gm_sys_madvise(map->hva, map->len, MADV_NOHUGEPAGE);
		/* A kernel without transparent huge pages knows no such advice and gives base
		 * pages. */
		return rc == -EINVAL ? 0 : rc ? advise(map, MADV_NOHUGEPAGE, "base pages", err) : 0;
	default:
		return 0;
	}
}

static int advise_flags(const struct gm_map *map, struct gm_error *err)
{
	uint32_t flags = map->block->opts.flags;
	char name[48];
	int rc = 0;

	if (flags & GM_BLOCK_MERGE)
		rc = advise(map, MADV_MERGEABLE, "merging (CONFIG_KSM)", err);
	if (!rc && !(flags & GM_BLOCK_DUMP))
		rc = advise(map, MADV_DONTDUMP, "exclusion from dumps", err);
	if (!rc && !(flags & GM_BLOCK_FORK))
		rc = advise(map, MADV_DONTFORK, "exclusion from fork", err);
	if (!rc && (flags & GM_BLOCK_WIPEONFORK))
		rc = advise(map, MADV_WIPEONFORK, "wipe on fork", err);
	if (rc)
		return rc;
	if (map->block->fd < 0) {
		snprintf(name, sizeof(name), "guestmem:%s", map->block->name);
		/* A kernel without CONFIG_ANON_VMA_NAME shows no name. */
		gm_sys_name_vma(map->hva, map->len, name);
	}
	return 0;
}

static int lock_pages(const struct gm_map *map, struct gm_error *err)
{
	uint32_t flags = map->block->opts.flags;
	struct rlimit limit = {0};
	int rc;

	/* A page that is locked in one mapping is locked. */
	if (!map->home || !(flags & (GM_BLOCK_LOCK | GM_BLOCK_LOCK_ONFAULT)))
		return 0;
	rc = gm_sys_mlock(map->hva, map->len, flags & GM_BLOCK_LOCK_ONFAULT);
	if (!rc)
		return 0;
	gm_sys_getrlimit(RLIMIT_MEMLOCK, &limit);
	return gm_error_set(err, rc, 0, map->len,
		"%s: cannot lock %" PRIu64 " bytes: %s (RLIMIT_MEMLOCK is %" PRIu64
		" bytes: ulimit -l, or LimitMEMLOCK= of the service)",
		map->block->name, map->len, gm_error_word(rc), (uint64_t)limit.rlim_cur);
}

static int map_memory(struct gm_map *map, struct gm_error *err)
{
	struct gm_block *block = map->block;
	int prot = block->opts.flags & GM_BLOCK_READONLY ? PROT_READ : PROT_READ | PROT_WRITE;
	void *ptr;
	int rc;

	rc = gm_sys_mmap(map->hva, map->len, prot, mmap_flags(block), block->fd,
		block->fd < 0 ? 0 : block->offset + map->block_off, &ptr);
	return rc ? explain_mmap(map, rc, err) : 0;
}

int gm_map_create(struct gm_map *map, struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	int rc = take_addresses(map, window, gpa, err);

	if (rc || map->block->dark)
		return rc;
	rc = map_memory(map, err);
	if (rc) {
		give_addresses(map);
		return rc;
	}
	rc = bind_nodes(map->block, map->hva, map->len, &map->block->opts.numa, err);
	if (!rc)
		rc = advise_pages(map, err);
	if (!rc)
		rc = advise_flags(map, err);
	if (!rc)
		rc = lock_pages(map, err);
	if (rc)
		gm_map_release(map);
	return rc;
}

void gm_map_release(struct gm_map *map)
{
	if (map->window)
		gm_window_release(map->window, map->gpa, map->len);
	else if (map->arena)
		gm_sys_munmap(map->arena, map->arena_len);
	map->window = NULL;
	map->arena = NULL;
	map->hva = NULL;
}

/* The pages have moved away. Another thread's mmap may have landed in the hole by now: only touch
 * what is ours. */
static void leave_hole(const struct gm_map *old)
{
	uint8_t *end = old->hva + old->len;

	if (old->window) {
		gm_window_reserve_hole(old->window, old->gpa, old->len);
	} else if (old->arena) {
		gm_sys_munmap(old->arena, (size_t)(old->hva - old->arena));
		gm_sys_munmap(end, (size_t)(old->arena + old->arena_len - end));
	}
}

/* Others may be giving references and pins back at this moment. */
static struct gm_map without_counts(const struct gm_map *map)
{
	return (struct gm_map){
		.block = map->block,
		.hva = map->hva,
		.len = map->len,
		.block_off = map->block_off,
		.window = map->window,
		.gpa = map->gpa,
		.arena = map->arena,
		.arena_len = map->arena_len,
		.home = map->home,
	};
}

static int move(struct gm_map *map, struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	struct gm_map old = without_counts(map);
	struct gm_map new = old;
	int rc;

	new.window = NULL;
	new.arena = NULL;
	rc = take_addresses(&new, window, gpa, err);
	if (rc)
		return rc;
	rc = gm_sys_mremap_to(old.hva, old.len, new.hva);
	if (rc) {
		give_addresses(&new);
		return gm_error_set(err, rc, gpa, map->len, "%s: cannot move %" PRIu64 " bytes: %s",
			map->block->name, map->len, gm_error_word(rc));
	}
	map->hva = new.hva;
	map->window = new.window;
	map->gpa = new.gpa;
	map->arena = new.arena;
	map->arena_len = new.arena_len;
	leave_hole(&old);
	return 0;
}

int gm_map_move(struct gm_map *map, struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	int rc;

	pthread_mutex_lock(&map->block->lock);
	rc = move(map, window, gpa, err);
	pthread_mutex_unlock(&map->block->lock);
	return rc;
}

int gm_map_take_home(
	struct gm_block *block, struct gm_window *window, uint64_t gpa, struct gm_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&block->lock);
	if (gm_map_refs(&block->home) > 0)
		rc = gm_error_set(
			err, -EBUSY, gpa, block->len, "%s: pinned or in use", block->name);
	else if (window)
		rc = move(&block->home, window, gpa, err);
	if (!rc)
		gm_map_get(&block->home);
	pthread_mutex_unlock(&block->lock);
	return rc;
}

struct gm_map *gm_map_share_home(struct gm_block *block)
{
	pthread_mutex_lock(&block->lock);
	gm_map_get(&block->home);
	pthread_mutex_unlock(&block->lock);
	return &block->home;
}

/*
 * Holds have one reference on the block together: the first takes it, the last gives it back. Who is
 * the first has a reference on the block by other ways, so it is there in between.
 */
static void hold(struct gm_map *map, uint64_t how)
{
	if ((uint32_t)__atomic_fetch_add(&map->holds, how, __ATOMIC_RELAXED) == 0)
		gm_block_get(map->block);
}

struct gm_map *gm_map_get(struct gm_map *map)
{
	hold(map, GM_MAP_REF);
	return map;
}

/* Out of the window, so that its addresses can be used again while the caller keeps the block. */
static void evict_home(struct gm_map *map)
{
	struct gm_block *block = map->block;

	pthread_mutex_lock(&block->lock);
	if (map->window && gm_map_refs(map) == 0 &&
		__atomic_load_n(&block->refs, __ATOMIC_RELAXED) > 1)
		move(map, NULL, 0, NULL);
	pthread_mutex_unlock(&block->lock);
}

static void release_last(struct gm_map *map)
{
	struct gm_block *block = map->block;

	if (map->home) {
		evict_home(map);
	} else {
		gm_map_release(map);
		gm_sys_free(map);
	}
	gm_block_put(block);
}

static void drop(struct gm_map *map, uint64_t how)
{
	/* What others did in the mapping happens before it goes. */
	if ((uint32_t)__atomic_fetch_sub(&map->holds, how, __ATOMIC_ACQ_REL) == 1)
		release_last(map);
}

void gm_map_put(struct gm_map *map)
{
	drop(map, GM_MAP_REF);
}

void gm_map_pin(struct gm_map *map)
{
	hold(map, GM_MAP_PIN + GM_MAP_REF);
}

void gm_map_unpin(struct gm_map *map)
{
	drop(map, GM_MAP_PIN + GM_MAP_REF);
}

struct gm_map *gm_map_pin_home(struct gm_block *block)
{
	pthread_mutex_lock(&block->lock);
	gm_map_pin(&block->home);
	pthread_mutex_unlock(&block->lock);
	return &block->home;
}

int gm_block_bind(struct gm_block *block, uint64_t off, uint64_t len, const struct gm_numa *numa,
	struct gm_error *err)
{
	struct gm_map *map;
	int rc;

	if (len == 0 || off > block->len || len > block->len - off ||
		!gm_is_aligned(off | len, block->page_size) ||
		numa->mode > GM_NUMA_WEIGHTED_INTERLEAVE)
		return gm_error_set(err, -EINVAL, off, len,
			"%s: no such part or NUMA mode: offset 0x%" PRIx64 ", %" PRIu64 " bytes",
			block->name, off, len);
	if (gm_block_is_far(block))
		return gm_error_set(err, -ENOTSUP, off, len, "%s: it is not mapped", block->name);
	map = gm_map_pin_home(block);
	rc = bind_nodes(block, map->hva + off, len, numa, err);
	gm_map_unpin(map);
	return rc;
}
