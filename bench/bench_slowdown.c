/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_slowdown.c - how much the store of "guestmem run" gets done in a KVM guest while that is moved: by
 * stop-and-copy, pre-copy, post-copy, and a round of the one before the other; as a chart, beside the longest
 * standstill or the pause.
 *
 * usage: bench_slowdown [--json FILE] [--pairs N] [--svg FILE]
 */
#include <guestmem/guestmem.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "moved.h"
#include "slowdown.h"

#define MIB(n) ((uint64_t)(n) << 20)

#define FACT(words)                                                                                \
	{                                                                                          \
		.name = (words), .against = "x stop-and-copy's", .limit_ns = 1                     \
	}

/* A guest that waits for page after page in post-copy does not stand still, but gets little done; that is printed. */
static const struct bench_row rows[SLOWDOWN_WAYS] = {
	[SLOWDOWN_PRECOPY] = FACT("store, pre-copy, longest standstill"),
	[SLOWDOWN_POSTCOPY] = FACT("store, post-copy, pause"),
	[SLOWDOWN_BOTH] = FACT("store, a round, then post-copy, pause"),
};

static double rate_before(const struct slowdown *s)
{
	double sum = 0;

	for (uint32_t i = 0; i < s->before; i++)
		sum += s->bins[i];
	return sum / s->before;
}

/* Of intervals in which it did less than a twentieth of what it did before, ms. */
static double standstill(const struct slowdown *s)
{
	double little = rate_before(s) / 20;
	uint32_t longest = 0;
	uint32_t now = 0;

	for (uint32_t i = s->before; i < s->nr_bins; i++) {
		now = s->bins[i] < little ? now + 1 : 0;
		longest = now > longest ? now : longest;
	}
	return longest * SLOWDOWN_MS;
}

/* As if it had stood still for so long, and else had worked as before, ms. */
static double work_lost(const struct slowdown *s)
{
	double rate = rate_before(s);
	double lost = 0;

	for (uint32_t i = s->before; i < s->nr_bins; i++)
		lost += (1 - s->bins[i] / rate) * SLOWDOWN_MS;
	return lost;
}

/* Takes it out of the arguments. */
static const char *svg_of(int *argc, char **argv)
{
	for (int i = 1; i + 1 < *argc; i++) {
		const char *path = argv[i + 1];

		if (strcmp(argv[i], "--svg") != 0)
			continue;
		for (int j = i; j + 2 <= *argc; j++)
			argv[j] = argv[j + 2];
		*argc -= 2;
		return path;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const char *svg = svg_of(&argc, argv);
	struct slowdown_plan plan = {.memory = MIB(1024), .rate = MIB(400)};
	struct slowdown *s[SLOWDOWN_WAYS];
	char about[160];

	for (int i = 1; i < argc; i++)
		plan.memory = !strcmp(argv[i], "--pairs") ? MIB(128) : plan.memory;
	bench_begin(argc, argv);
	bench_need(!gm_guard_install(), "the guard", NULL);
	for (uint32_t way = 0; way < SLOWDOWN_WAYS; way++) {
		s[way] = moved_share(sizeof(*s[way]));
		plan.way = (enum slowdown_way)way;
		slowdown_run(&plan, s[way]);
		printf("# %s: %.1f million operations a second before; %.0f ms of work lost, %.0f "
		       "at a stretch; %.2f s in all, %.1f ms down, %u rounds; %lu values right\n",
			slowdown_name(plan.way), rate_before(s[way]) / 1e6, work_lost(s[way]),
			standstill(s[way]), (double)s[way]->total_ns / 1e9,
			(double)s[way]->downtime_ns / 1e6, s[way]->rounds,
			(unsigned long)s[way]->keys);
	}
	bench_fact(&rows[SLOWDOWN_PRECOPY],
		standstill(s[SLOWDOWN_PRECOPY]) / standstill(s[SLOWDOWN_STOP]));
	for (uint32_t way = SLOWDOWN_POSTCOPY; way < SLOWDOWN_WAYS; way++)
		bench_fact(&rows[way],
			(double)s[way]->downtime_ns / (double)s[SLOWDOWN_STOP]->downtime_ns);
	snprintf(about, sizeof(about),
		"operations a second of the store, in intervals of %u ms; KVM guest, %lu MiB in "
		"huge pages, a line of %lu MiB/s, %ld CPUs",
		SLOWDOWN_MS, (unsigned long)(plan.memory >> 20), (unsigned long)(plan.rate >> 20),
		sysconf(_SC_NPROCESSORS_ONLN));
	bench_need(!svg || slowdown_draw(svg, s, about), "the chart", NULL);
	return bench_end();
}
