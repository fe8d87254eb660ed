/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench.h - measuring in interleaved pairs.
 *
 * A row compares two functions that do the same work. They run in turn, 121 short samples each, so
 * that a disturbance meets both; each side counts with its fastest sample, which is the one that
 * nobody disturbed. The same is done with one function against itself (A/A), which shows how much
 * noise is left. A row that misses its goal is measured up to four times more, and all samples
 * count: on a machine that others load there may have been none without a disturbance.
 *
 * The other side may stand in the peer (bench/peer): a Rust library around Debian's vm-memory, whose
 * loops run in the same process. A program of rows:
 *
 *	bench_begin(argc, argv);
 *	bench_rows(rows, sizeof(rows) / sizeof(*rows));
 *	return bench_end();
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
	bench_fn other;      /* NULL: @peer, or else @limit_ns is what ours is compared with */
	void *other_ctx;
	double limit_ns;
	double goal;      /* met when ours / against <= goal; 0 = none */
	const char *skip; /* why it cannot run, or NULL */
	const char *peer; /* name of the other side in the peer, called with @other_ctx */
	double more_ns;   /* met when ours - against <= more_ns, in the place of @goal */
	double quoted;    /* ns that vm-memory 0.18 took on another machine, or 0: for the reader */
	/* Optional: makes ready what one sample of @iters uses up; it is not measured. */
	void (*before)(void *ctx);
	void *before_ctx;
	uint64_t iters;
};

#define BENCH_VMM "vm-memory 0.10"

/* Reads the arguments [--json FILE] [--pairs N] [--peer LIBRARY], ends the program if there are
 * others, prints the heading. N pairs are measured, and once only. */
void bench_begin(int argc, char **argv);

/* A function of the peer, or NULL. */
bench_fn bench_peer(const char *name);

/* Runs a row, prints its line, keeps it for the report: it must live until bench_end(). */
void bench_run(const struct bench_row *row);
void bench_rows(const struct bench_row *rows, size_t nr);

/* Reports what was counted and no time: it is well if @value is not more than the row's limit_ns. */
void bench_fact(const struct bench_row *row, double value);

/* Writes the rows as JSON if that was asked for. Returns the status of the program. */
int bench_end(void);

/* Ends the program with @what, and with @why if it is not NULL, unless @good. */
void bench_need(bool good, const char *what, const char *why);

/*
 * What is given, @iters times or up to three times more: four in a row on both sides, as the cost of
 * a loop of one depends on where the linker happens to put it. (GCC unrolls no loop with asm goto.)
 */
#define BENCH_ROUNDS(iters, ...)                                                                   \
	for (uint64_t round_ = 0; round_ < (iters); round_ += 4) {                                 \
		{__VA_ARGS__} {__VA_ARGS__} {__VA_ARGS__} {                                        \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}

/*
 * For a function of accesses that are inline in the headers: inlined in each place, as they are where
 * there is one. With several places GCC may make a function of them; rows "in many places" have that.
 */
#define BENCH_INLINE __attribute__((flatten))

/* The compiler must take memory, and @value, for read and changed. */
#define BENCH_TOUCH(value) __asm__ volatile("" : "+r"(value)::"memory")

#endif
