/* SPDX-License-Identifier: BSD-3-Clause */
/* bench.c - see bench.h. */
#include "bench.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAIRS 121
#define ATTEMPTS 5
#define SAMPLE_NS 250000.0
#define ROWS_MAX 128

volatile uint64_t bench_sink;

static struct result {
	const struct bench_row *row;
	const char *skip;
	double ours;
	double against;
	double ratio;
	double aa;
	bool fact;
} results[ROWS_MAX];
static size_t nr_results;
static const char *json;
static size_t pairs = PAIRS;
static size_t attempts = ATTEMPTS;
static void *peer;

void bench_need(bool good, const char *what, const char *why)
{
	if (good)
		return;
	fprintf(stderr, "bench: %s%s%s\n", what, why ? ": " : "", why ? why : "");
	exit(1);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* One function in a comparison, with the number of rounds that its samples have. */
struct side {
	const struct bench_row *row;
	bench_fn fn;
	void *ctx;
	uint64_t iters;
	double *best; /* ns a round */
};

/*
 * Each sample lies at another depth of the stack: where objects there and the memory have the same low
 * twelve bits of their address, loads wait for stores that they have nothing to do with.
 */
static double run(const struct side *side)
{
	static size_t depth;
	volatile char *deeper;
	double start;

	depth = (depth + 272) % 4096;
	deeper = __builtin_alloca(depth + 1);
	deeper[0] = 0;
	if (side->row->before)
		side->row->before(side->row->before_ctx);
	start = now_ns();
	side->fn(side->ctx, side->iters);
	return now_ns() - start;
}

/*
 * A sample has as many rounds as the fastest so far lets expect to take SAMPLE_NS. One that is much
 * shorter does not count: those before it were disturbed, and the clock is coarse.
 */
static void sample(struct side *side)
{
	double ns = run(side);

	if (side->row->before) {
		*side->best = fmin(*side->best, ns / (double)side->iters);
		return;
	}
	while (ns < SAMPLE_NS / 4) {
		side->iters *= 4;
		ns = run(side);
	}
	*side->best = fmin(*side->best, ns / (double)side->iters);
	side->iters = (uint64_t)(SAMPLE_NS / *side->best) + 1;
}

/* The fastest sample of each side, measured in turn; what was found before counts as well. */
static void measure(struct side a, struct side b)
{
	/* The first call may set things up. */
	if (!a.row->before) {
		a.fn(a.ctx, 1);
		b.fn(b.ctx, 1);
	}
	for (size_t i = 0; i < pairs; i++) {
		/* Each side goes first in every second pair. */
		if (i % 2)
			sample(&a);
		sample(&b);
		if (i % 2 == 0)
			sample(&a);
	}
}

static bool take_option(const char *option, const char *value)
{
	if (strcmp(option, "--json") == 0) {
		json = value;
	} else if (strcmp(option, "--pairs") == 0) {
		pairs = strtoul(value, NULL, 10);
		attempts = 1;
		return pairs > 0;
	} else if (strcmp(option, "--peer") == 0) {
		peer = dlopen(value, RTLD_NOW);
		bench_need(peer, value, dlerror());
	} else {
		return false;
	}
	return true;
}

void bench_begin(int argc, char **argv)
{
	for (int i = 1; i < argc; i += 2) {
		if (i + 1 == argc || !take_option(argv[i], argv[i + 1])) {
			fprintf(stderr, "usage: %s [--json FILE] [--pairs N] [--peer LIBRARY]\n",
				argv[0]);
			exit(2);
		}
	}
	printf("%-46s %9s %9s  %-26s %7s %7s %6s\n", "row", "ours/ns", "other/ns", "against",
		"ratio", "goal", "A/A");
}

bench_fn bench_peer(const char *name)
{
	bench_fn fn = NULL;

	if (peer) {
		*(void **)&fn = dlsym(peer, name);
		bench_need(fn, "the peer does not have", name);
	}
	return fn;
}

static bool has_goal(const struct bench_row *row)
{
	return row->goal != 0 || row->more_ns != 0;
}

static bool is_met(const struct result *result)
{
	if (result->fact)
		return result->ours <= result->row->limit_ns;
	if (result->row->more_ns != 0)
		return result->ours - result->against <= result->row->more_ns;
	return result->ratio <= result->row->goal;
}

static void print_result(const struct result *result)
{
	const struct bench_row *row = result->row;
	char goal[32] = "-";
	char quoted[40] = "";

	if (row->more_ns != 0)
		snprintf(goal, sizeof(goal), "+%g ns", row->more_ns);
	else if (row->goal != 0)
		snprintf(goal, sizeof(goal), "%.3f", row->goal);
	if (row->quoted != 0)
		snprintf(quoted, sizeof(quoted), "  (0.18: %.10g ns)", row->quoted);
	printf("%-46s %9.2f %9.2f  %-26s %7.3f %7s %6.3f %s%s\n", row->name, result->ours,
		result->against, row->against, result->ratio, goal, result->aa,
		!has_goal(row)   ? "   "
		: is_met(result) ? "met"
				 : "MISSED",
		quoted);
	fflush(stdout);
}

static void measure_row(struct result *result, bench_fn other)
{
	const struct bench_row *row = result->row;
	uint64_t iters = row->before ? row->iters : 1;
	double same[2] = {INFINITY, INFINITY};
	const struct side twin[2] = {
		{row, row->ours, row->ours_ctx, iters, &same[0]},
		{row, row->ours, row->ours_ctx, iters, &same[1]},
	};
	const struct side pair[2] = {
		{row, row->ours, row->ours_ctx, iters, &result->ours},
		{row, other, row->other_ctx, iters, &result->against},
	};

	result->ours = INFINITY;
	result->against = INFINITY;
	for (size_t i = 0; i < attempts; i++) {
		measure(twin[0], twin[1]);
		if (other) {
			measure(pair[0], pair[1]);
		} else {
			result->ours = fmin(same[0], same[1]);
			result->against = row->limit_ns;
		}
		result->aa = same[0] / same[1];
		result->ratio = result->ours / result->against;
		if (!has_goal(row) || is_met(result))
			break;
	}
}

void bench_run(const struct bench_row *row)
{
	struct result *result = &results[nr_results];
	bench_fn other = row->peer ? bench_peer(row->peer) : row->other;

	bench_need(nr_results++ < ROWS_MAX, "too many rows", NULL);
	*result = (struct result){.row = row, .ours = NAN, .against = NAN, .ratio = NAN, .aa = NAN};
	result->skip = row->skip;
	if (row->peer && !other)
		result->skip = "no peer library (cargo or librust-vm-memory-dev is missing)";
	if (result->skip) {
		printf("%-46s skipped: %s\n", row->name, result->skip);
		return;
	}
	measure_row(result, other);
	print_result(result);
}

void bench_fact(const struct bench_row *row, double value)
{
	struct result *result = &results[nr_results];

	bench_need(nr_results++ < ROWS_MAX, "too many rows", NULL);
	*result = (struct result){.row = row,
		.skip = row->skip,
		.ours = value,
		.against = row->limit_ns,
		.ratio = row->limit_ns == 0 ? value : value / row->limit_ns,
		.aa = NAN,
		.fact = true};
	if (row->skip)
		printf("%-46s skipped: %s\n", row->name, row->skip);
	else
		printf("%-46s %9.2f %9.2f  %-26s %31s\n", row->name, value, row->limit_ns,
			row->against, is_met(result) ? "met" : "MISSED");
	fflush(stdout);
}

void bench_rows(const struct bench_row *rows, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		bench_run(&rows[i]);
}

static void put_number(FILE *file, const char *key, double value)
{
	if (isnan(value))
		fprintf(file, ", \"%s\": null", key);
	else
		fprintf(file, ", \"%s\": %.4f", key, value);
}

/* NaN for a member that is not given. */
static double given(double value)
{
	return value == 0 ? NAN : value;
}

/* Names are our own literals, without characters that JSON escapes. */
static void put_result(FILE *file, const struct result *result)
{
	fprintf(file, "  {\"name\": \"%s\", \"unit\": \"%s\"", result->row->name,
		result->fact ? "count" : "ns");
	put_number(file, "ours", result->ours);
	put_number(file, "against", result->against);
	fprintf(file, ", \"against_what\": \"%s\"", result->row->against);
	put_number(file, "ratio", result->ratio);
	put_number(file, "goal", given(result->row->goal));
	put_number(file, "goal_more_ns", given(result->row->more_ns));
	if (!result->skip && (result->fact || has_goal(result->row)))
		fprintf(file, ", \"met\": %s", is_met(result) ? "true" : "false");
	put_number(file, "aa_ratio", result->aa);
	if (result->row->quoted != 0)
		put_number(file, "quoted_0_18", result->row->quoted);
	if (result->skip)
		fprintf(file, ", \"skipped\": \"%s\"", result->skip);
	fprintf(file, "}");
}

int bench_end(void)
{
	FILE *file;

	if (!json)
		return 0;
	file = fopen(json, "w");
	if (!file) {
		perror(json);
		return 1;
	}
	fprintf(file, "[\n");
	for (size_t i = 0; i < nr_results; i++) {
		put_result(file, &results[i]);
		fprintf(file, "%s\n", i + 1 < nr_results ? "," : "");
	}
	fprintf(file, "]\n");
	return fclose(file) == 0 ? 0 : 1;
}
