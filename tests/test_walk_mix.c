/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_walk_mix.c - means over mixes of page sizes against all combinations, what TLBs reach, and
 * refusals.
 */
#include <errno.h>
#include <string.h>

#include "random.h"
#include "support.h"
#include "walk_of.h"

/* ---- means ---- */

static void the_mean_of_one_size_is_its_cost(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3 * 2 * 2 * 27; i++) {
		struct gm_walk_opts opts = opts_of(i % 3, 4 + i / 3 % 2, 4 + i / 6 % 2);
		uint32_t guest = leaves[i / 12 % 3];
		uint32_t host = leaves[i / 36 % 3];
		uint32_t table = leaves[i / 108];
		struct gm_walk_mix mixes[] = {
			pure(guest, GIB(8)), pure(host, GIB(4)), pure(table, GIB(1))};
		struct gm_walk_cost cost = cost_of(&opts, guest, host, table);
		struct gm_walk_mean mean = mean_of(&opts, &mixes[0], &mixes[1], &mixes[2]);
		struct gm_walk_mix entries = pure(cost.entry_log2, GIB(8));

		assert_int_equal(mean.milliloads, 1000 * cost.loads);
		assert_memory_equal(&mean.entries, &entries, sizeof(entries));
	}
}

static double share(const struct gm_walk_mix *mix, int leaf)
{
	double sum = (double)mix->bytes[0] + (double)mix->bytes[1] + (double)mix->bytes[2];

	return (double)mix->bytes[leaf] / sum;
}

/* All combinations by their shares. */
static double naive_mean(const struct gm_walk_opts *opts, const struct gm_walk_mix *guest,
	const struct gm_walk_mix *host, const struct gm_walk_mix *tables)
{
	double sum = 0;

	for (int i = 0; i < 27; i++) {
		int g = i % 3;
		int h = i / 3 % 3;
		int t = i / 9;

		sum += share(guest, g) * share(host, h) * share(tables, t) *
		       cost_of(opts, leaves[g], leaves[h], leaves[t]).loads;
	}
	return sum;
}

static struct gm_walk_mix random_mix(struct rng *rng, bool with_zeros)
{
	struct gm_walk_mix mix;

	do {
		for (int i = 0; i < 3; i++) {
			uint64_t pages =
				rng_below(rng, UINT64_C(1) << rng_below(rng, 46 - 9 * (unsigned)i));

			if (with_zeros && rng_below(rng, 3) == 0)
				pages = 0;
			mix.bytes[i] = pages << leaves[i];
		}
	} while (mix.bytes[0] + mix.bytes[1] + mix.bytes[2] == 0 ||
		 mix.bytes[0] + mix.bytes[1] + mix.bytes[2] > UINT64_C(1) << 57);
	return mix;
}

static double distance(double a, double b)
{
	return a < b ? b - a : a - b;
}

static void means_are_those_of_all_combinations(void **state)
{
	struct rng rng = {test_seed(2)};

	(void)state;
	for (unsigned long n = 0; n < support_scale(2000); n++) {
		struct gm_walk_opts opts =
			opts_of((uint32_t)rng_below(&rng, 2), 5, 4 + (uint32_t)rng_below(&rng, 2));
		struct gm_walk_mix guest = random_mix(&rng, true);
		struct gm_walk_mix host = random_mix(&rng, true);
		struct gm_walk_mix tables = random_mix(&rng, true);
		struct gm_walk_mean mean = mean_of(&opts, &guest, &host, &tables);
		const uint64_t *e = mean.entries.bytes;
		double total =
			(double)guest.bytes[0] + (double)guest.bytes[1] + (double)guest.bytes[2];
		double large = share(&guest, 2) * share(&host, 2);
		double small =
			share(&guest, 0) + share(&host, 0) - share(&guest, 0) * share(&host, 0);

		assert_true(distance((double)mean.milliloads,
				    1000 * naive_mean(&opts, &guest, &host, &tables)) < 0.6);
		/* Entries are of as much memory as the guest's, and by the shares but for rounding. */
		assert_true(e[0] + e[1] + e[2] == guest.bytes[0] + guest.bytes[1] + guest.bytes[2]);
		assert_true(
			distance((double)e[2], large * total) <= (double)GIB(1) + total * 1e-12);
		assert_true(
			distance((double)e[0], small * total) <= (double)MIB(2) + total * 1e-12);
	}
}

static void tables_are_on_the_sizes_of_data_by_default(void **state)
{
	struct rng rng = {test_seed(3)};

	(void)state;
	for (unsigned long n = 0; n < support_scale(200); n++) {
		struct gm_walk_mix guest = random_mix(&rng, false);
		struct gm_walk_mix host = random_mix(&rng, false);
		struct gm_walk_opts opts = opts_of(GM_WALK_NESTED, 5, 5);

		assert_int_equal(mean_of(&opts, &guest, &host, NULL).milliloads,
			mean_of(&opts, &guest, &host, &host).milliloads);
	}
}

/* ---- mixes and reach ---- */

static void what_fills_no_page_counts_with_smaller_ones(void **state)
{
	struct gm_walk_mix mix = {{0}};

	(void)state;
	assert_int_equal(gm_walk_mix_add(&mix, 30, GIB(2) + MIB(6) + 12288), 0);
	assert_true(mix.bytes[2] == GIB(2) && mix.bytes[1] == MIB(6) && mix.bytes[0] == 12288);
	/* 64 KiB and 32 MiB pages, and one that is larger than all leaves. */
	assert_int_equal(gm_walk_mix_add(&mix, 16, 65536), 0);
	assert_int_equal(gm_walk_mix_add(&mix, 25, GIB(1)), 0);
	assert_int_equal(gm_walk_mix_add(&mix, 34, GIB(16)), 0);
	assert_true(mix.bytes[2] == GIB(18) && mix.bytes[1] == GIB(1) + MIB(6));
	assert_true(mix.bytes[0] == 12288 + 65536);
	assert_int_equal(gm_walk_mix_add(&mix, 30, 0), 0);
}

static void a_mix_takes_what_five_levels_map(void **state)
{
	struct gm_walk_mix full = pure(12, (UINT64_C(1) << 57) - 4096);
	struct gm_walk_mix before = full;

	(void)state;
	assert_int_equal(gm_walk_mix_add(&full, 12, 8192), -ERANGE);
	assert_int_equal(gm_walk_mix_add(&full, 11, 4096), -EINVAL);
	assert_int_equal(gm_walk_mix_add(&full, 39, 4096), -EINVAL);
	assert_int_equal(gm_walk_mix_add(&full, 12, 1), -EINVAL);
	assert_int_equal(gm_walk_mix_add(&full, 12, UINT64_MAX - 4095), -ERANGE);
	assert_memory_equal(&full, &before, sizeof(full));
	assert_int_equal(gm_walk_mix_add(&full, 12, 4096), 0);
	/* A mix that somebody has filled in by himself. */
	full.bytes[1] = UINT64_MAX - MIB(2) + 1;
	assert_int_equal(gm_walk_mix_add(&full, 12, 4096), -ERANGE);
}

static void a_tlb_reaches_no_more_than_there_is(void **state)
{
	static const uint32_t tlb[] = {1536, 1024, 16};
	static const uint32_t most[] = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
	struct gm_walk_mix mix = {{MIB(6) + 4096, MIB(64), GIB(64)}};

	(void)state;
	assert_true(gm_walk_reach(&mix, tlb) == MIB(6) + MIB(64) + GIB(16));
	assert_true(gm_walk_reach(&mix, most) == MIB(6) + 4096 + MIB(64) + GIB(64));
	assert_true(gm_walk_reach(&mix, (const uint32_t[3]){0}) == 0);
}

/* ---- refusals ---- */

static void sizes_that_are_none_are_refused(void **state)
{
	struct gm_walk_cost cost = {.size = sizeof(cost), .loads = 77};
	struct gm_walk_opts native = opts_of(GM_WALK_NATIVE, 4, 4);
	struct gm_walk_opts shadow = opts_of(GM_WALK_SHADOW, 4, 4);
	struct gm_error err;

	(void)state;
	assert_fails(gm_walk_cost(NULL, 11, 12, 0, &cost, &err), EINVAL, "guest's pages");
	assert_fails(gm_walk_cost(NULL, 39, 12, 0, &cost, &err), EINVAL, "2^39");
	assert_fails(gm_walk_cost(NULL, 12, 0, 0, &cost, &err), EINVAL, "host's pages");
	assert_fails(gm_walk_cost(NULL, 12, 12, 11, &cost, &err), EINVAL, "under page tables");
	assert_fails(gm_walk_cost(&shadow, 12, UINT32_MAX, 0, &cost, &err), EINVAL, "2^4294967295");
	cost.size--;
	assert_fails(gm_walk_cost(NULL, 12, 12, 0, &cost, &err), EINVAL, "size member");
	assert_int_equal(cost.loads, 77);
	cost.size++;
	/* What is not looked at may be anything. */
	assert_int_equal(gm_walk_cost(&native, 12, 3, 99, &cost, NULL), 0);
	assert_int_equal(gm_walk_cost(&shadow, 12, 12, 99, &cost, NULL), 0);
	assert_int_equal(gm_walk_cost(NULL, 11, 12, 0, &cost, NULL), -EINVAL);
}

static void options_that_are_not_known_are_refused(void **state)
{
	struct {
		struct gm_walk_opts opts;
		uint64_t tail;
	} newer = {.opts = {.size = sizeof(newer)}};
	struct gm_walk_cost cost = {.size = sizeof(cost)};
	struct gm_walk_mean mean = {.size = sizeof(mean)};
	struct gm_walk_footprint f = {.size = sizeof(f)};
	struct gm_walk_mix mix = pure(12, GIB(1));
	struct gm_walk_opts opts;
	struct gm_error err;

	(void)state;
	assert_ok(gm_walk_cost(&newer.opts, 12, 12, 0, &cost, &err));
	newer.tail = 1;
	assert_fails(gm_walk_cost(&newer.opts, 12, 12, 0, &cost, &err), E2BIG, "does not know");
	for (uint32_t levels = 1; levels < 8; levels++) {
		if (levels == 4 || levels == 5)
			continue;
		opts = opts_of(GM_WALK_NESTED, levels, 4);
		assert_fails(
			gm_walk_cost(&opts, 12, 12, 0, &cost, &err), EINVAL, "guest's page tables");
		opts = opts_of(GM_WALK_NESTED, 4, levels);
		assert_fails(
			gm_walk_mean(&opts, &mix, &mix, NULL, &mean, &err), EINVAL, "host's page");
	}
	opts = opts_of(3, 4, 4);
	assert_fails(gm_walk_cost(&opts, 12, 12, 0, &cost, &err), EINVAL, "paging 3");
	opts = opts_of(GM_WALK_NESTED, 4, 4);
	opts.flags = 4;
	assert_fails(gm_walk_footprint(&opts, &mix, &mix, &f, &err), EINVAL, "0x4");
	opts.flags = GM_WALK_TRANSPARENT | GM_WALK_LEAN;
	assert_fails(gm_walk_footprint(&opts, &mix, &mix, &f, &err), EINVAL, "not both");
	opts.size = sizeof(opts) - 1;
	assert_fails(gm_walk_mean(&opts, &mix, &mix, NULL, &mean, &err), EINVAL, "size member");
}

static void mixes_that_are_none_are_refused(void **state)
{
	struct gm_walk_opts four = opts_of(GM_WALK_NESTED, 4, 4);
	struct gm_walk_opts mixed = opts_of(GM_WALK_NESTED, 5, 4);
	struct gm_walk_opts native = opts_of(GM_WALK_NATIVE, 4, 4);
	struct gm_walk_mean mean = {.size = sizeof(mean), .milliloads = 77};
	struct gm_walk_footprint f = {.size = sizeof(f), .total = 77};
	struct gm_walk_mix good = pure(12, GIB(1));
	struct gm_walk_mix empty = {{0}};
	struct gm_walk_mix odd = {{4096, MIB(2) + 4096, 0}};
	struct gm_walk_mix wide = pure(30, UINT64_C(1) << 48);
	struct gm_walk_mix wider = pure(30, (UINT64_C(1) << 48) + GIB(1));
	struct gm_walk_mix wraps = {{MIB(2), 0 - MIB(2), 0}};
	struct gm_error err;

	(void)state;
	assert_fails(gm_walk_mean(&four, &empty, &good, NULL, &mean, &err), EINVAL,
		"guest has no bytes");
	assert_fails(
		gm_walk_mean(&four, &good, &empty, NULL, &mean, &err), EINVAL, "host has no bytes");
	assert_fails(
		gm_walk_mean(&four, &good, &good, &empty, &mean, &err), EINVAL, "page tables has");
	assert_fails(gm_walk_mean(&four, &good, NULL, NULL, &mean, &err), EINVAL,
		"no sizes for the host");
	assert_fails(gm_walk_mean(&native, NULL, NULL, NULL, &mean, &err), EINVAL, "the guest");
	assert_fails(gm_walk_mean(&four, &odd, &good, NULL, &mean, &err), EINVAL, "no whole pages");
	assert_fails(gm_walk_mean(&four, &wraps, &good, NULL, &mean, &err), ERANGE, "more than");
	assert_fails(gm_walk_footprint(&four, &wider, &wider, &f, &err), ERANGE, "guest");
	assert_fails(gm_walk_footprint(&mixed, &wider, &wider, &f, &err), ERANGE, "host");
	assert_fails(gm_walk_footprint(&four, &good, &wide, &f, &err), EINVAL, "0x40000000 bytes");
	assert_fails(gm_walk_footprint(&four, &good, NULL, &f, &err), EINVAL, "host");
	f.size--;
	assert_fails(gm_walk_footprint(&four, &good, &good, &f, &err), EINVAL, "size member");
	f.size++;
	mean.size--;
	assert_fails(gm_walk_mean(&four, &good, &good, NULL, &mean, &err), EINVAL, "size member");
	assert_true(mean.milliloads == 77 && f.total == 77);
	/* All that 4 levels map. */
	assert_ok(gm_walk_footprint(&four, &wide, &wide, &f, &err));
	assert_int_equal(f.host_tables, 4096 * (1 + 512));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mean_of_one_size_is_its_cost),
		cmocka_unit_test(means_are_those_of_all_combinations),
		cmocka_unit_test(tables_are_on_the_sizes_of_data_by_default),
		cmocka_unit_test(what_fills_no_page_counts_with_smaller_ones),
		cmocka_unit_test(a_mix_takes_what_five_levels_map),
		cmocka_unit_test(a_tlb_reaches_no_more_than_there_is),
		cmocka_unit_test(sizes_that_are_none_are_refused),
		cmocka_unit_test(options_that_are_not_known_are_refused),
		cmocka_unit_test(mixes_that_are_none_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
