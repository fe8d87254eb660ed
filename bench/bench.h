/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench.h - measuring in interleaved pairs.
 *
 * A row compares two functions that do the same work. They run in turn, 121 short samples each, so
 * that a disturbance meets both; each side counts with its fastest sample, which is the one that
 * nobody disturbed. The same is done with one function against itself (A/A), which shows how much
 * noise is left.
 */
#ifndef GM_BENCH_H
#define GM_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Does the work @iters times. What it computes goes into bench_sink. */
typedef void (*bench_fn)(void *ctx, uint64_t iters);

extern volatile uint64_t bench_sink;

struct bench_row {
	const char *name;
	bench_fn ours;
	void *ours_ctx;
	const char *against; /* what the other side is, in words */
	bench_fn other;      /* NULL: @limit_ns is what ours is compared with */
	void *other_ctx;
	double limit_ns;
	double goal;      /* met when ours / against <= goal; 0 = none */
	const char *skip; /* why it cannot run, or NULL */
	/* Optional: makes ready what one sample of @iters uses up; it is not measured. */
	void (*before)(void *ctx);
	void *before_ctx;
	uint64_t iters;
};

/* Runs a row, prints its line, keeps it for the report. */
void bench_run(const struct bench_row *row);

void bench_head(void);
/* Writes the rows as JSON if @path is not NULL. False if that failed. */
bool bench_finish(const char *path);

#endif
