/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk_guest.c - what a load costs in a KVM guest, under each pair of guest and host sizes of page.
 *
 * The payload "chase" of "guestmem run" in a new machine for each pair and round; pairs are visited in turn, so
 * that a disturbance meets all, and ratios are taken within a round. Beside it stand the model's loads.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"
#include "walk.h"

#define ROUNDS_MAX 5
#define STEPS (1u << 20)
#define STRIDE 4160 /* one line of each page of 4 KiB, each in another place */

static const struct {
	const char *label;
	uint32_t guest_log2;
	uint32_t host_log2;
	struct gm_page_choice choice;
} pairs[] = {
	{"guest 4K, host 4K", 12, 12, {GM_PAGE_BASE, 0}},
	{"guest 2M, host 4K", 21, 12, {GM_PAGE_BASE, 0}},
	{"guest 4K, host 2M", 12, 21, {GM_PAGE_THP, 21}},
	{"guest 2M, host 2M", 21, 21, {GM_PAGE_THP, 21}},
};

#define NR_PAIRS (sizeof(pairs) / sizeof(pairs[0]))

_Static_assert(NR_PAIRS <= WALK_PAIRS_MAX, "room for all");

/* Nanoseconds of a load, or why there are none. */
static double chase(struct run_engine *e, int signals, char **ret_why)
{
	struct run_params params;
	struct run_result result;

	if (!run_watch(e, signals, NULL, &result) || !run_engine_params(e, 0, &params)) {
		*ret_why = tool_strdup("the guest could not be run");
		return 0;
	}
	if (result.outcome != RUN_OUT_DONE || params.status != RUN_WELL || !params.ops ||
		params.errors) {
		*ret_why = tool_strdup(result.outcome == RUN_OUT_INTERRUPTED
					       ? "interrupted"
					       : "the guest did not end well");
		return 0;
	}
	return (double)params.ticks / e->ticks_per_second * 1e9 / (double)params.ops;
}

static double run_pair(struct walk_series *s, size_t pair, uint64_t size, int signals)
{
	char *word = "chase";
	struct run_opts o = {
		.memory = {.size = size,
			.pages = {.choices = {pairs[pair].choice}},
			.populate = true},
		.engine = RUN_KVM,
		.vcpus = 1,
		.guest_log2 = pairs[pair].guest_log2,
		.seed = 1,
		.timeout = 300,
		.payload = RUN_CHASE,
		.words = &word,
		.nr_words = 1,
		.args = {[RUN_ARG_STRIDE] = STRIDE, [RUN_ARG_COUNT] = STEPS},
	};
	struct run_memory memory = {0};
	struct run_engine engine;
	double ns = 0;

	if (!run_engine_choose(&engine, &o)) {
		s->skipped = tool_strdup("there is no KVM");
		return 0;
	}
	if (!run_memory_init(&memory, &o.memory) || !run_engine_init(&engine, &memory))
		s->skipped = tool_strdup("no memory or no machine of that sort");
	if (!s->skipped)
		s->share = walk_share_of((void *)(uintptr_t)memory.hva, memory.len, s->log2);
	if (!s->skipped && s->share >= 0 && s->share < WALK_SHARE_LEAST)
		s->skipped = tool_strdup("the kernel gave pages of another size");
	if (!s->skipped)
		ns = chase(&engine, signals, &s->skipped);
	run_engine_fini(&engine);
	run_memory_fini(&memory);
	return ns;
}

/* The model, for guests of this host if it is known how they are walked. */
static void add_model(const struct walk *w, struct walk_pair *p, size_t pair)
{
	struct gm_walk_opts opts = w->opts;
	struct gm_walk_cost cost = {.size = sizeof(cost)};

	opts.paging = GM_WALK_NESTED;
	gm_walk_cost(&opts, pairs[pair].guest_log2, pairs[pair].host_log2, 0, &cost, NULL);
	p->nested = cost.loads;
	opts.paging = GM_WALK_SHADOW;
	gm_walk_cost(&opts, pairs[pair].guest_log2, pairs[pair].host_log2, 0, &cost, NULL);
	p->shadow = cost.loads;
	p->series.entry_log2 = cost.entry_log2;
}

static void measure_pairs(struct walk_measured *m, uint64_t rounds, int signals, double *ns)
{
	for (uint64_t round = 0; round < rounds; round++) {
		for (size_t i = 0; i < NR_PAIRS; i++) {
			struct walk_series *s = &m->pairs[i].series;

			if (!s->skipped)
				ns[i * rounds + round] = run_pair(s, i, m->size, signals);
		}
	}
}

void walk_measure_guests(const struct walk *w, uint64_t rounds, struct walk_measured *m)
{
	uint64_t nr = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
	static char why[MACHINE_WHY_CAP];
	int signals = -1;
	double *ns;

	if (!machine_available(why, sizeof(why))) {
		m->guest_skipped = why;
		return;
	}
	if (m->size % (UINT64_C(2) << 20)) {
		m->guest_skipped = "the size is no multiple of 2M";
		return;
	}
	if (!run_watch_signals(&signals)) {
		m->guest_skipped = "signals cannot be waited for";
		return;
	}
	ns = tool_alloc(NR_PAIRS * nr, sizeof(*ns));
	m->guest_skipped = NULL;
	m->guest_rounds = nr;
	m->nr_pairs = NR_PAIRS;
	for (size_t i = 0; i < NR_PAIRS; i++) {
		m->pairs[i].series.label = pairs[i].label;
		m->pairs[i].series.log2 = pairs[i].host_log2;
		m->pairs[i].guest_log2 = pairs[i].guest_log2;
		add_model(w, &m->pairs[i], i);
	}
	measure_pairs(m, nr, signals, ns);
	for (size_t i = 0; i < NR_PAIRS; i++) {
		struct walk_series *s = &m->pairs[i].series;

		if (!s->skipped && m->pairs[0].series.skipped)
			s->skipped = tool_strdup("there is nothing to compare it with");
		if (!s->skipped)
			walk_conclude(s, &ns[i * nr], ns, nr);
	}
	free(ns);
	close(signals);
}
