/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_map.c - what keeps a map that others change: sections against vm-memory's guard; hotplug.
 *
 * usage: bench_map [--json FILE] [--peer LIBRARY]
 *
 * 64 regions of 1 MiB that touch. Their hotplug puts a region that is mapped already into a new list;
 * here it is mapped, placed in the window, and published to readers that are waited for.
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>

#include "bench.h"

#define MIB (UINT64_C(1) << 20)
#define REGIONS 64

struct map {
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_block *more; /* what comes as the 65th */
	uint64_t id;
};

static struct map in_window;
static struct map anywhere; /* without a window */

static void make(struct map *map, uint64_t limit)
{
	static struct gm_region_desc descs[REGIONS];
	const struct gm_block_opts backing = {.size = sizeof(backing), .len = MIB};
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = limit};
	struct gm_error err;

	for (uint64_t i = 0; i < REGIONS; i++)
		descs[i] = (struct gm_region_desc){
			.size = sizeof(*descs), .gpa = i * MIB, .backing = &backing};
	bench_need(
		gm_space_build(&opts, descs, REGIONS, &map->space, &err) == 0, "regions", err.text);
	bench_need(
		gm_reader_create(map->space, "bench", &map->reader, &err) == 0, "reader", err.text);
	bench_need(gm_block_create(GM_OPTS(gm_block_opts, .len = MIB, .flags = GM_BLOCK_SHARE),
			   &map->more, &err) == 0,
		"block", err.text);
	bench_need(gm_write_u64(gm_reader_enter(map->reader), 4096, 1) == 0, "write", NULL);
	gm_reader_leave(map->reader);
}

/* ---- sections ---- */

static void section(void *ctx, uint64_t iters)
{
	struct gm_reader *mine = ((struct map *)ctx)->reader;

	BENCH_ROUNDS(iters, const struct gm_view *view = gm_reader_enter(mine); BENCH_TOUCH(view);
		     gm_reader_leave(mine);)
}

static BENCH_INLINE void section_and_load(void *ctx, uint64_t iters)
{
	struct gm_reader *mine = ((struct map *)ctx)->reader;
	uint64_t sum = 0;

	BENCH_ROUNDS(iters, uint16_t value;
		     if (gm_atomic_load_u16(gm_reader_enter(mine), 4096, __ATOMIC_RELAXED, &value))
			     abort();
		     sum += value; gm_reader_leave(mine);)
	bench_sink = sum;
}

static void section_within_eight(void *ctx, uint64_t iters)
{
	struct gm_reader *mine = ((struct map *)ctx)->reader;

	for (int i = 0; i < 8; i++)
		(void)gm_reader_enter(mine);
	section_and_load(ctx, iters);
	for (int i = 0; i < 8; i++)
		gm_reader_leave(mine);
}

/* ---- hotplug ---- */

/* The 65th region comes or goes: each counts as one change. */
static void hotplug(void *ctx, uint64_t iters)
{
	struct map *map = ctx;
	const struct gm_region_desc desc = {
		.size = sizeof(desc), .gpa = REGIONS * MIB, .block = map->more};
	struct gm_error err;

	for (uint64_t i = 0; i < iters; i++) {
		if (i % 2 == 0)
			bench_need(gm_space_add(map->space, &desc, &map->id, &err) == 0, "add",
				err.text);
		if (i % 2 || i == iters - 1)
			bench_need(gm_space_remove(map->space, map->id, &err) == 0, "remove",
				err.text);
	}
}

#define PEER(text, fn, map, theirs, limit, v18)                                                    \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = map, .against = BENCH_VMM, .peer = theirs,   \
		.goal = limit, .quoted = v18                                                       \
	}

static const struct bench_row rows[] = {
	PEER("map guard: enter and leave", section, &in_window, "peer_guard", 0.25, 0),
	PEER("map guard, and a load of 2 bytes", section_and_load, &in_window,
		"peer_guard_and_load", 0.25, 27),
	PEER("the same with eight guards held", section_within_eight, &in_window,
		"peer_guard_within_eight", 0.25, 54),
	PEER("a region of 65 comes or goes", hotplug, &anywhere, "peer_hotplug", 0, 2130),
	PEER("a region of 65 comes or goes, in the window", hotplug, &in_window, "peer_hotplug", 0,
		2130),
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	make(&in_window, 0);
	make(&anywhere, GM_SPACE_NO_WINDOW);
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
