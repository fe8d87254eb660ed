/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk_measure.c - what a load costs on each size of page, measured in this process.
 *
 * A chain visits one line of each 4 KiB page in a random cycle, and each load gives the address of
 * the next: nothing can be fetched ahead, and each size of page has the same lines of data in the
 * caches. Rounds visit all series in a shuffled order; ratios are taken within a round. The first
 * series is measured twice in each round: what lies between the two is noise. No setting of the host
 * is changed.
 *
 * walk_guest.c does the same in guests.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <guestmem/block.h>
#include <guestmem/residency.h>

#include "walk.h"

#define LOADS_MAX (1u << 17) /* of one sample */
#define PAGE 4096u
#define LINE 64u

/* ---- randomness that is the same each time ---- */

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* ---- chains ---- */

static uint64_t offset_of(uint64_t page)
{
	uint64_t state = page;

	return page * PAGE + next_random(&state) % (PAGE / LINE) * LINE;
}

/* A permutation that is one cycle: which page comes after each (Sattolo). */
static uint32_t *make_cycle(uint32_t pages)
{
	uint32_t *after = tool_alloc(pages, sizeof(*after));
	uint64_t state = 1;

	for (uint32_t i = 0; i < pages; i++)
		after[i] = i;
	for (uint32_t i = pages - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(next_random(&state) % i);
		uint32_t page = after[i];

		after[i] = after[k];
		after[k] = page;
	}
	return after;
}

static void lay_chain(char *base, const uint32_t *after, uint32_t pages)
{
	for (uint32_t i = 0; i < pages; i++) {
		void **at = (void **)(void *)(base + offset_of(i));

		*at = base + offset_of(after[i]);
	}
}

static void *chase(void *at, uint64_t loads)
{
	while (loads-- > 0)
		at = *(void *volatile *)at;
	return at;
}

/* ---- blocks ---- */

static const struct {
	const char *label;
	struct gm_page_choice choice;
	uint32_t log2;
} policies[] = {
	{"4K", {GM_PAGE_BASE, 0}, 12},
	{"64K transparent", {GM_PAGE_THP, 16}, 16},
	{"2M transparent", {GM_PAGE_THP, 21}, 21},
	{"2M pool", {GM_PAGE_HUGETLB, 21}, 21},
	{"1G pool", {GM_PAGE_HUGETLB, 30}, 30},
};

#define NR_POLICIES (sizeof(policies) / sizeof(policies[0]))

_Static_assert(NR_POLICIES <= WALK_SERIES_MAX, "room for all");

/* One that is measured; the first is there twice. */
struct run {
	struct walk_series *series;
	struct gm_block *block;
	void *at;
	double *ns; /* of a load, by round */
};

double walk_share_of(const void *base, uint64_t len, uint32_t log2)
{
	struct gm_usage u = {.size = sizeof(u)};
	struct gm_residency *res;
	int rc = gm_residency_open(0, &res, NULL);

	if (rc)
		return -1;
	rc = gm_residency_usage(res, (uint64_t)(uintptr_t)base, len, GM_RESIDENCY_FOLIOS, &u, NULL);
	gm_residency_close(res);
	/* Without folios a page between the leaves counts as a base page. */
	if (rc || (u.unseen & GM_UNSEEN_FOLIOS && log2 != 12 && log2 < 21) ||
		(u.unseen & GM_UNSEEN_PMD))
		return -1;
	return (double)u.by_log2[log2] / (double)len;
}

/* What the size of page was, if not the one that was wanted. */
static char *why_not(const void *base, uint64_t len, double share, uint32_t log2)
{
	char name[TOOL_UNIT_CAP];

	for (uint32_t other = 12; other <= 30; other++) {
		char other_name[TOOL_UNIT_CAP];

		if (other == log2 || walk_share_of(base, len, other) < 0.5)
			continue;
		return tool_printf("the kernel gave pages of %s: %.0f %% are of %s",
			tool_page_name(other, other_name), 100 * share, tool_page_name(log2, name));
	}
	return tool_printf("only %.0f %% of the memory came in pages of %s", 100 * share,
		tool_page_name(log2, name));
}

/* Fills in series->skipped if there is no such memory. */
static void prepare(struct run *run, size_t policy, uint64_t size, const uint32_t *after)
{
	struct gm_block_opts opts = {
		.size = sizeof(opts),
		.len = size,
		.flags = GM_BLOCK_POPULATE,
		.pages = {policies[policy].choice},
		.name = "guestmem-walk",
	};
	struct gm_block_info info = {.size = sizeof(info)};
	struct walk_series *s = run->series;
	struct gm_error err;

	s->label = policies[policy].label;
	s->log2 = policies[policy].log2;
	if (gm_block_create(&opts, &run->block, &err)) {
		s->skipped = tool_strdup(err.text);
		return;
	}
	gm_block_info(run->block, &info);
	s->share = walk_share_of(info.hva, size, s->log2);
	if (s->share >= 0 && s->share < WALK_SHARE_LEAST) {
		s->skipped = why_not(info.hva, size, s->share, s->log2);
		gm_block_put(run->block);
		run->block = NULL;
		return;
	}
	lay_chain(info.hva, after, (uint32_t)(size / PAGE));
	run->at = (char *)info.hva + offset_of(0);
}

/* ---- rounds ---- */

/* Nanoseconds that this thread has run: others on the same CPU do not count. */
static double cpu_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void sample(struct run *run, uint64_t round, uint64_t loads)
{
	double begin = cpu_time();

	run->at = chase(run->at, loads);
	run->ns[round] = (cpu_time() - begin) / (double)loads;
}

static void shuffle(size_t *order, size_t nr, uint64_t *state)
{
	for (size_t i = nr; i > 1; i--) {
		size_t k = next_random(state) % i;
		size_t last = order[i - 1];

		order[i - 1] = order[k];
		order[k] = last;
	}
}

static void measure_rounds(struct run *runs, size_t nr, uint64_t rounds, uint64_t pages)
{
	uint64_t loads = pages < LOADS_MAX ? pages : LOADS_MAX;
	size_t order[WALK_SERIES_MAX + 1];
	uint64_t state = 2;

	for (size_t i = 0; i < nr; i++) {
		order[i] = i;
		runs[i].ns = tool_alloc(rounds, sizeof(double));
		/* Once around: tables and lines are where they will be. */
		runs[i].at = chase(runs[i].at, pages);
	}
	for (uint64_t round = 0; round < rounds; round++) {
		shuffle(order, nr, &state);
		for (size_t i = 0; i < nr; i++)
			sample(&runs[order[i]], round, loads);
	}
}

static int by_value(const void *a, const void *b)
{
	const double *x = a;
	const double *y = b;

	return (*x > *y) - (*x < *y);
}

static double quantile(const double *sorted, uint64_t nr, double part)
{
	return sorted[(uint64_t)(part * (double)(nr - 1) + 0.5)];
}

void walk_conclude(struct walk_series *s, const double *ns, const double *first, uint64_t rounds)
{
	double *sorted = tool_alloc(rounds, sizeof(*sorted));

	for (uint64_t i = 0; i < rounds; i++)
		sorted[i] = ns[i] / first[i];
	qsort(sorted, rounds, sizeof(*sorted), by_value);
	s->ratio = quantile(sorted, rounds, 0.5);
	s->low = quantile(sorted, rounds, 0.25);
	s->high = quantile(sorted, rounds, 0.75);
	memcpy(sorted, ns, rounds * sizeof(*sorted));
	qsort(sorted, rounds, sizeof(*sorted), by_value);
	s->ns = quantile(sorted, rounds, 0.5);
	free(sorted);
}

/* What the model says of it, without a host below. */
static void add_model(const struct walk *w, struct walk_series *s, uint64_t size)
{
	struct gm_walk_opts opts = w->opts;
	struct gm_walk_cost cost = {.size = sizeof(cost)};
	struct gm_walk_mix mix = {{0}};

	opts.paging = GM_WALK_NATIVE;
	opts.guest_levels = opts.host_levels; /* of this host's own tables */
	gm_walk_cost(&opts, s->log2, 0, 0, &cost, NULL);
	gm_walk_mix_add(&mix, s->log2, size);
	s->loads = cost.loads;
	s->entry_log2 = cost.entry_log2;
	s->reach = gm_walk_reach(&mix, w->tlb.entries);
}

/* The place "this process". */
static bool measure_here(const struct walk *w, struct walk_measured *m)
{
	struct run runs[WALK_SERIES_MAX + 1] = {0};
	uint64_t pages = m->size / PAGE;
	uint32_t *after = make_cycle((uint32_t)pages);
	size_t nr = 0;

	for (size_t i = 0; i < NR_POLICIES; i++) {
		struct run *run = &runs[nr];

		run->series = &m->series[m->nr++];
		prepare(run, i, m->size, after);
		add_model(w, run->series, m->size);
		nr += run->block != NULL;
	}
	free(after);
	if (runs[0].series == &m->series[0] && runs[0].block) {
		m->again = *runs[0].series;
		m->again.label = "4K again";
		runs[nr] = (struct run){.series = &m->again, .at = runs[0].at};
		measure_rounds(runs, nr + 1, m->rounds, pages);
		for (size_t i = 0; i <= nr; i++)
			walk_conclude(runs[i].series, runs[i].ns, runs[0].ns, m->rounds);
	} else {
		tool_error("--measure: %s", m->series[0].skipped);
	}
	for (size_t i = 0; i <= nr; i++) {
		gm_block_put(runs[i].block);
		free(runs[i].ns);
	}
	return m->series[0].skipped == NULL;
}

bool walk_measure(const struct walk *w, uint64_t rounds, struct walk_measured *ret)
{
	*ret = (struct walk_measured){.size = w->size, .rounds = rounds};
	ret->guest_skipped = "it was not asked for (--in-guest)";
	return measure_here(w, ret);
}

void walk_measure_free(struct walk_measured *measured)
{
	for (size_t i = 0; i < measured->nr; i++)
		free(measured->series[i].skipped);
	for (size_t i = 0; i < measured->nr_pairs; i++)
		free(measured->pairs[i].series.skipped);
}
