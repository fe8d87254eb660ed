/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_space.c - changing one region of many, from user code against the shared library.
 *
 * usage: bench_space [--json FILE]
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>

#include "bench.h"

#define PAGE UINT64_C(4096)
#define PART (UINT64_C(2) << 20)

struct map {
	struct gm_space *space;
	struct gm_block *block;
	uint64_t *ids;
	uint64_t nr;
	uint64_t next;
};

static void check(int rc, const struct gm_error *err)
{
	bench_need(rc == 0, "space", err->text);
}

static struct gm_region_desc describe(const struct map *map, uint64_t i)
{
	return (struct gm_region_desc){.size = sizeof(struct gm_region_desc),
		.gpa = 2 * i * PAGE,
		.len = PAGE,
		.block = map->block,
		.block_off = i * PAGE};
}

/* One page in every two, all of one block. */
static void make(struct map *map, uint64_t nr, uint64_t limit)
{
	struct gm_error err;
	struct gm_txn *txn;

	map->nr = nr;
	map->ids = calloc(nr, sizeof(*map->ids));
	check(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = limit), &map->space, &err), &err);
	check(gm_block_create(GM_OPTS(gm_block_opts, .len = nr * PAGE, .flags = GM_BLOCK_SHARE),
		      &map->block, &err),
		&err);
	check(gm_txn_begin(map->space, &txn, &err), &err);
	for (uint64_t i = 0; i < nr; i++) {
		struct gm_region_desc desc = describe(map, i);

		check(gm_txn_add(txn, &desc, &map->ids[i], &err), &err);
	}
	check(gm_txn_commit(txn, &err), &err);
}

/* Spread over all, the same each time. */
static uint64_t pick(struct map *map)
{
	map->next = map->next * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (map->next >> 33) % map->nr;
}

static void protect(void *ctx, uint64_t iters)
{
	struct map *map = ctx;
	struct gm_error err;

	for (uint64_t i = 0; i < iters; i++) {
		struct gm_txn *txn;

		check(gm_txn_begin(map->space, &txn, &err), &err);
		check(gm_txn_protect(
			      txn, map->ids[pick(map)], i % 2 ? GM_PERM_R : GM_PERM_RW, &err),
			&err);
		check(gm_txn_commit(txn, &err), &err);
	}
}

/* Removed and added again: each counts as one change. */
static void replace(void *ctx, uint64_t iters)
{
	struct map *map = ctx;
	struct gm_error err;
	uint64_t at = 0;

	for (uint64_t i = 0; i < iters; i++) {
		struct gm_region_desc desc;

		if (i % 2 == 0) {
			at = pick(map);
			check(gm_space_remove(map->space, map->ids[at], &err), &err);
		}
		if (i % 2 || i == iters - 1) {
			desc = describe(map, at);
			check(gm_space_add(map->space, &desc, &map->ids[at], &err), &err);
		}
	}
}

/* A region of 1 TiB in parts of 2 MiB. */
static void make_parted(struct map *map, bool cut)
{
	struct gm_error err;

	map->ids = calloc(1, sizeof(*map->ids));
	check(gm_space_create(
		      GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 41), &map->space, &err),
		&err);
	check(gm_space_add(map->space,
		      GM_OPTS(gm_region_desc, .len = UINT64_C(1) << 40, .granule = PART,
			      .backing = GM_OPTS(gm_block_opts, .flags = GM_BLOCK_SHARE,
				      .reserve = GM_RESERVE_NONE)),
		      map->ids, &err),
		&err);
	for (uint64_t i = 0; cut && i < 5000; i++)
		check(gm_space_set_part(
			      map->space, map->ids[0], 2 * i * PART, PART, GM_PART_UNPLUGGED, &err),
			&err);
	map->nr = cut ? 10000 : 1 << 19;
}

/* It is as before after two: the number of rounds is made even. */
static void set_part(void *ctx, uint64_t iters)
{
	struct map *map = ctx;
	struct gm_error err;
	uint64_t at = 0;

	for (uint64_t i = 0; i < iters + iters % 2; i++) {
		if (i % 2 == 0)
			at = pick(map);
		check(gm_space_set_part(map->space, map->ids[0], at * PART, PART,
			      i % 2 ? GM_PART_SHARED : GM_PART_UNPLUGGED, &err),
			&err);
	}
}

static struct map few;
static struct map many;
static struct map placed;
static struct map parted;
static struct map cut_up;

#define ROW(text, fn, map)                                                                         \
	{                                                                                          \
		text, fn, map, "limit", NULL, NULL, 50000.0, 1.0, NULL                             \
	}

static const struct bench_row rows[] = {
	ROW("change one of 100 regions", protect, &few),
	ROW("change one of 10 000 regions", protect, &many),
	ROW("remove or add one of 10 000 regions", replace, &many),
	ROW("change one of 10 000, in the window", protect, &placed),
	ROW("remove or add one of 10 000, in the window", replace, &placed),
	ROW("plug or unplug one part of 524 288", set_part, &parted),
	ROW("plug or unplug one part, region cut into 10 000", set_part, &cut_up),
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	make(&few, 100, GM_SPACE_NO_WINDOW);
	make(&many, 10000, GM_SPACE_NO_WINDOW);
	make(&placed, 10000, UINT64_C(1) << 36);
	make_parted(&parted, false);
	make_parted(&cut_up, true);
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
