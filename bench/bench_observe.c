/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_observe.c - what it costs to look at a guest: the host's time (15 ms a GiB at most), and the guest's (2 % of a
 * second that has a GiB).
 *
 * The truth is known: the vCPU writes to a known part of the memory. An estimate that misses it by more than a
 * tenth ends the program.
 *
 * usage: bench_observe [--json FILE]
 */
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "live_guest.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define LEN (UINT64_C(256) << 20)
#define GIB_PARTS 4 /* of a GiB */
#define HOT (LEN / 4)
#define AT (UINT64_C(4) << 20)
#define PAGE 4096u
#define ROUNDS 20

static struct gm_space *space;
static uint8_t *memory;
static struct gm_workingset *ws;
static struct live_guest guest;
static bool live;

static void must(bool what, const char *name)
{
	bench_need(what, name, NULL);
}

static void touch(uint64_t len)
{
	if (live) {
		live_guest_touch(&guest, AT, len);
		return;
	}
	for (uint64_t at = 0; at < len; at += PAGE)
		*(volatile uint8_t *)(memory + at) = 1;
}

static struct gm_workingset_result result;

/* Host time of a round, whatever the sample. */
static void begin_end(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	must(gm_workingset_begin(ws, NULL) == 0, "begin");
	result.size = sizeof(result);
	must(gm_workingset_end(ws, &result, NULL) == 0, "end");
}

/* What the guest pays for a sample; the host's time to take it counts too. */
static void begin_touch(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	must(gm_workingset_begin(ws, NULL) == 0, "begin");
	touch(LEN);
}

static void touch_all(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	touch(LEN);
}

static void warm(void *ctx)
{
	(void)ctx;
	touch(LEN);
}

/* The estimate against what the guest did. */
static void check_truth(void)
{
	static const struct bench_row row = {.name = "working set, worst of 20 estimates",
		.against = "% off the truth",
		.limit_ns = 10};
	double worst = 0;

	for (int i = 0; i < ROUNDS; i++) {
		double error;

		touch(LEN);
		must(gm_workingset_begin(ws, NULL) == 0, "begin");
		touch(HOT);
		result.size = sizeof(result);
		must(gm_workingset_end(ws, &result, NULL) == 0, "end");
		error = ((double)result.bytes - (double)HOT) / (double)HOT;
		worst = error > worst ? error : -error > worst ? -error : worst;
		must(result.low <= result.high, "bounds");
	}
	printf("working set: %s wrote to a quarter\n", live ? "a vCPU" : "a thread (no KVM)");
	bench_fact(&row, 100 * worst);
	bench_need(
		worst <= 0.1, "working set", "an estimate missed the truth by more than a tenth");
}

static uint8_t *add(uint64_t gpa, uint64_t len, uint32_t flags)
{
	struct gm_block_opts opts = {.size = sizeof(opts), .len = len, .flags = flags};
	struct gm_region_desc desc = {.size = sizeof(desc), .gpa = gpa, .backing = &opts};
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t id;

	must(gm_space_add(space, &desc, &id, NULL) == 0, "memory");
	must(gm_space_region(space, id, &info) == 0, "region");
	return info.hva;
}

int main(int argc, char **argv)
{
	struct gm_workingset_opts opts = {.size = sizeof(opts), .gpa = AT, .len = LEN};
	const struct bench_row rows[] = {
		{"working set, 256 MiB of 4 KiB pages", begin_end, NULL, "15 ms a GiB", NULL, NULL,
			15e6 / GIB_PARTS, 1, .before = warm, .iters = 1},
		{"writes to 256 MiB after a round's begin", begin_touch, NULL, "the writes alone",
			touch_all, NULL, .before = warm, .iters = 1, .more_ns = 20e6 / GIB_PARTS},
	};
	uint8_t *system;

	bench_begin(argc, argv);
	must(gm_space_create(NULL, &space, NULL) == 0, "space");
	system = add(0, LIVE_SYSTEM, GM_BLOCK_POPULATE);
	memory = add(AT, LEN, GM_BLOCK_SHARE | GM_BLOCK_POPULATE);
	live = live_guest_open(&guest, system);
	if (live)
		live_guest_slot(&guest, 1, AT, memory, LEN);
	must(gm_workingset_create(space, &opts, &ws, NULL) == 0, "working set");
	check_truth();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
