/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slowdown.h - a KVM guest that runs the store of "guestmem run", and how much it gets done while it is moved from a
 * process to another.
 *
 * Both processes are children of the bench. Either reads the guest's count of operations, in guest memory, through a
 * view of its own space: the source until it has nothing left to do, the destination from the moment on at which it
 * runs it.
 */
#ifndef GM_BENCH_SLOWDOWN_H
#define GM_BENCH_SLOWDOWN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SLOWDOWN_MS 20u /* of an interval */
#define SLOWDOWN_BEFORE_MS 1000u
#define SLOWDOWN_AFTER_MS 1000u
#define SLOWDOWN_SAMPLES 8192u
#define SLOWDOWN_BINS 4096u

enum slowdown_way {
	SLOWDOWN_STOP, /* it stands still from the first byte to the last */
	SLOWDOWN_PRECOPY,
	SLOWDOWN_POSTCOPY,
	SLOWDOWN_BOTH, /* one round, then post-copy */
	SLOWDOWN_WAYS,
};

struct slowdown_plan {
	enum slowdown_way way;
	uint64_t memory; /* bytes */
	uint64_t rate;   /* of the line, bytes a second */
};

struct slowdown_sample {
	uint64_t ns;
	uint64_t ops;
};

/* In memory that both processes share; the bins are of who reads it. */
struct slowdown {
	_Atomic uint32_t ready;
	_Atomic bool go;
	_Atomic uint32_t failed;
	_Atomic uint32_t nr[2]; /* samples of the source, of the destination */
	struct slowdown_sample samples[2][SLOWDOWN_SAMPLES];
	uint64_t began; /* the migration */
	uint64_t ended; /* all was there */
	uint64_t downtime_ns;
	uint64_t total_ns;
	uint32_t rounds;
	uint64_t keys;
	uint64_t writes;
	/* Operations a second in intervals, the first @before of them before the migration. */
	uint32_t nr_bins;
	uint32_t before;
	double bins[SLOWDOWN_BINS];
};

/* One guest, moved once; its values are right at the end, or the program ends. */
void slowdown_run(const struct slowdown_plan *plan, struct slowdown *s);
const char *slowdown_name(enum slowdown_way way);

/* ---- slowdown_draw.c ---- */
/* One chart of all ways, the beginning of the move at 0, into a file *.svg. False after a message. */
bool slowdown_draw(const char *path, struct slowdown *const s[SLOWDOWN_WAYS], const char *about);

#endif
