/* SPDX-License-Identifier: BSD-3-Clause */
/* bench.c - see bench.h. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PAIRS 121
#define SAMPLE_NS 250000.0
#define ROWS_MAX 64

volatile uint64_t bench_sink;

static struct result {
	const struct bench_row *row;
	double ours;
	double against;
	double ratio;
	double aa;
} results[ROWS_MAX];
static size_t nr_results;

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static double sample(const struct bench_row *row, bench_fn fn, void *ctx, uint64_t iters)
{
	double start;

	if (row->before)
		row->before(row->before_ctx);
	start = now_ns();
	fn(ctx, iters);
	return (now_ns() - start) / (double)iters;
}

/* So many iterations that a sample takes long enough. */
static uint64_t calibrate(const struct bench_row *row, bench_fn fn, void *ctx)
{
	uint64_t iters = 64;

	if (row->before)
		return row->iters;
	for (;;) {
		double ns = sample(row, fn, ctx, iters) * (double)iters;

		if (ns > SAMPLE_NS / 4)
			return (uint64_t)((double)iters * SAMPLE_NS / ns) + 1;
		iters *= 4;
	}
}

/* The fastest sample of each side, measured in turn. */
static void measure(const struct bench_row *row, bench_fn a, void *a_ctx, bench_fn b, void *b_ctx,
	double *ret_a, double *ret_b)
{
	uint64_t a_iters = calibrate(row, a, a_ctx);
	uint64_t b_iters = calibrate(row, b, b_ctx);

	*ret_a = INFINITY;
	*ret_b = INFINITY;
	for (size_t i = 0; i < PAIRS; i++) {
		/* Each side goes first in every second pair. */
		if (i % 2)
			*ret_a = fmin(*ret_a, sample(row, a, a_ctx, a_iters));
		*ret_b = fmin(*ret_b, sample(row, b, b_ctx, b_iters));
		if (i % 2 == 0)
			*ret_a = fmin(*ret_a, sample(row, a, a_ctx, a_iters));
	}
}

void bench_head(void)
{
	printf("%-46s %9s %9s  %-26s %7s %7s %6s\n", "row", "ours/ns", "other/ns", "against",
		"ratio", "goal", "A/A");
}

void bench_run(const struct bench_row *row)
{
	struct result *result = &results[nr_results++];
	double same[2];

	*result = (struct result){.row = row, .ours = NAN, .against = NAN, .ratio = NAN, .aa = NAN};
	if (row->skip) {
		printf("%-46s skipped: %s\n", row->name, row->skip);
		return;
	}
	measure(row, row->ours, row->ours_ctx, row->ours, row->ours_ctx, &same[0], &same[1]);
	result->aa = same[0] / same[1];
	if (row->other) {
		measure(row, row->ours, row->ours_ctx, row->other, row->other_ctx, &result->ours,
			&result->against);
	} else {
		result->ours = fmin(same[0], same[1]);
		result->against = row->limit_ns;
	}
	result->ratio = result->ours / result->against;
	printf("%-46s %9.2f %9.2f  %-26s %7.3f %7.3f %6.3f %s\n", row->name, result->ours,
		result->against, row->against, result->ratio, row->goal, result->aa,
		row->goal == 0               ? ""
		: result->ratio <= row->goal ? "met"
					     : "MISSED");
	fflush(stdout);
}

static void put_number(FILE *file, const char *key, double value)
{
	if (isnan(value))
		fprintf(file, ", \"%s\": null", key);
	else
		fprintf(file, ", \"%s\": %.4f", key, value);
}

/* Names are our own literals, without characters that JSON escapes. */
bool bench_finish(const char *path)
{
	FILE *file = path ? fopen(path, "w") : NULL;

	if (!path)
		return true;
	if (!file) {
		perror(path);
		return false;
	}
	fprintf(file, "[\n");
	for (size_t i = 0; i < nr_results; i++) {
		const struct result *result = &results[i];

		fprintf(file, "  {\"name\": \"%s\", \"unit\": \"ns\"", result->row->name);
		put_number(file, "ours", result->ours);
		put_number(file, "against", result->against);
		fprintf(file, ", \"against_what\": \"%s\"", result->row->against);
		put_number(file, "ratio", result->ratio);
		put_number(file, "goal", result->row->goal == 0 ? NAN : result->row->goal);
		put_number(file, "aa_ratio", result->aa);
		if (result->row->skip)
			fprintf(file, ", \"skipped\": \"%s\"", result->row->skip);
		fprintf(file, "}%s\n", i + 1 < nr_results ? "," : "");
	}
	fprintf(file, "]\n");
	return fclose(file) == 0;
}
