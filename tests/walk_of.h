/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_of.h - the library's answers about walks, for tests in which they must be there. */
#ifndef GM_TESTS_WALK_OF_H
#define GM_TESTS_WALK_OF_H

#include <guestmem/walk.h>

#include "support.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static const uint32_t leaves[] = {12, 21, 30};

static inline struct gm_walk_opts opts_of(
	uint32_t paging, uint32_t guest_levels, uint32_t host_levels)
{
	return (struct gm_walk_opts){.size = sizeof(struct gm_walk_opts),
		.paging = paging,
		.guest_levels = guest_levels,
		.host_levels = host_levels};
}

static inline struct gm_walk_cost cost_of(const struct gm_walk_opts *opts, uint32_t guest_log2,
	uint32_t host_log2, uint32_t table_log2)
{
	struct gm_walk_cost cost = {.size = sizeof(cost)};
	struct gm_error err;

	assert_ok(gm_walk_cost(opts, guest_log2, host_log2, table_log2, &cost, &err));
	assert_int_equal(cost.size, sizeof(cost));
	return cost;
}

static inline struct gm_walk_mix pure(uint32_t log2, uint64_t bytes)
{
	struct gm_walk_mix mix = {{0}};

	assert_int_equal(gm_walk_mix_add(&mix, log2, bytes), 0);
	return mix;
}

static inline struct gm_walk_footprint footprint_of(const struct gm_walk_opts *opts,
	const struct gm_walk_mix *guest, const struct gm_walk_mix *host)
{
	struct gm_walk_footprint f = {.size = sizeof(f)};
	struct gm_error err;

	assert_ok(gm_walk_footprint(opts, guest, host, &f, &err));
	assert_int_equal(f.total, f.guest_tables + f.host_tables + f.second_tables +
					  f.guest_structs + f.host_structs);
	return f;
}

static inline struct gm_walk_mean mean_of(const struct gm_walk_opts *opts,
	const struct gm_walk_mix *guest, const struct gm_walk_mix *host,
	const struct gm_walk_mix *tables)
{
	struct gm_walk_mean mean = {.size = sizeof(mean)};
	struct gm_error err;

	assert_ok(gm_walk_mean(opts, guest, host, tables, &mean, &err));
	return mean;
}

#endif
