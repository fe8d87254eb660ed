/* SPDX-License-Identifier: BSD-3-Clause */
/* counters.c - see counters.h. */
#include "memory/counters.h"

#include <errno.h>
#include <stdbool.h>

#include "memory/reach.h"

static void add(uint64_t *to, uint64_t n)
{
	__atomic_fetch_add(to, n, __ATOMIC_RELAXED);
}

void gm_tally(struct gm_tallies *tallies, enum gm_counter what, uint64_t bytes, uint64_t ns, int rc)
{
	struct gm_count *c = &tallies->counts[what];
	uint32_t log2 = ns ? 63 - (uint32_t)__builtin_clzll(ns) : 0;

	add(&c->calls, 1);
	if (rc)
		add(&c->failed, 1);
	if (bytes)
		add(&c->bytes, bytes);
	add(&c->ns, ns);
	add(&c->by_log2[log2 < GM_LATENCY_BUCKETS ? log2 : GM_LATENCY_BUCKETS - 1], 1);
}

static int copy(const struct gm_tallies *from, struct gm_counters *ret)
{
	const uint64_t *src = (const uint64_t *)(const void *)from->counts;
	uint64_t *dst = (uint64_t *)(void *)ret->counts;

	if (ret->size < sizeof(*ret))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(from->counts) / (sizeof(*src)); i++)
		dst[i] = __atomic_load_n(&src[i], __ATOMIC_RELAXED);
	return 0;
}

int gm_space_counters(struct gm_space *space, struct gm_counters *ret)
{
	return copy(&space->tallies, ret);
}

int gm_block_counters(const struct gm_block *block, struct gm_counters *ret)
{
	return copy(&block->tallies, ret);
}

int gm_region_counters(struct gm_space *space, uint64_t id, struct gm_counters *ret)
{
	struct gm_region_info info = {.size = sizeof(info)};
	int rc = gm_space_region(space, id, &info);

	if (rc || !info.block)
		return -ENOENT;
	return gm_block_counters(info.block, ret);
}

int gm_space_count_fault(struct gm_space *space, uint64_t gpa, uint64_t len, uint64_t ns)
{
	struct gm_range at = {gpa, gpa};
	struct gm_reach reach;

	if (gm_reach_get(space, &at, &reach))
		return -EFAULT;
	gm_tally(&reach.block->tallies, GM_COUNT_FAULT, len, ns, 0);
	gm_tally(&space->tallies, GM_COUNT_FAULT, len, ns, 0);
	gm_reach_put(&reach);
	return 0;
}
