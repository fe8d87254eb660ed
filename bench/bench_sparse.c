/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_sparse.c - what scattered touches of 8 GiB cost in memory, by size of page; what promotions make of it within a
 * bloat; what a count costs.
 *
 * usage: bench_sparse [--json FILE] [--pairs N]
 *
 * Rows with several sizes are left out if the host does not give them. Needs 5 GiB of memory where it does.
 */
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench.h"

#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define PAGE UINT64_C(4096)
#define AT GIB(1)
#define LEN GIB(8)
#define EACH MIB(4)
#define TOUCHES (LEN / EACH)
#define BLOAT 100 /* thousandths */

static struct gm_space *space;
static struct gm_sparse *sparse;

static void must(bool what)
{
	if (!what)
		abort();
}

static struct gm_sparse_info now(void)
{
	struct gm_sparse_info info = {.size = sizeof(info)};

	must(gm_sparse_info(sparse, &info, NULL) == 0);
	return info;
}

static volatile uint8_t *memory(void)
{
	struct gm_region_info info = {.size = sizeof(info)};

	must(gm_space_region(space, now().region, &info) == 0);
	return info.hva;
}

static void start(uint32_t flags)
{
	struct gm_sparse_opts opts = {
		.size = sizeof(opts), .gpa = AT, .len = LEN, .flags = flags, .bloat = BLOAT};
	struct gm_error err;

	bench_need(gm_sparse_create(space, &opts, &sparse, &err) == 0, "memory", err.text);
}

static void stop(void)
{
	must(gm_sparse_destroy(sparse, NULL) == 0);
}

static void touch(void)
{
	volatile uint8_t *at = memory();

	for (uint64_t i = 0; i < TOUCHES; i++)
		at[i * EACH] = 1;
}

/* Asked for by madvise, the kernel gives the largest size that is enabled. */
static bool gives_larger(const struct gm_page_choice *choice)
{
	struct gm_host host = {.size = sizeof(host)};

	must(gm_host_probe(&host, NULL) == 0);
	for (uint32_t i = 0; choice && choice->log2 && i < host.nr_thp; i++) {
		if (host.thp[i].page_size > UINT64_C(1) << choice->log2 &&
			strcmp(host.thp[i].enabled, "never") != 0)
			return true;
	}
	return false;
}

/* Bytes that are backed for each byte of a page that was touched. */
static void footprint(struct bench_row *row, uint32_t flags, const struct gm_page_choice *choice)
{
	struct gm_error err;

	start(flags);
	if (choice && gm_sparse_pages(sparse, 0, LEN, choice, &err)) {
		row->skip = strdup(err.text);
		bench_fact(row, 0);
	} else if (gives_larger(choice)) {
		row->skip = "larger pages are enabled on this host too";
		bench_fact(row, 0);
	} else {
		touch();
		bench_fact(row, (double)now().used / (double)(TOUCHES * PAGE));
	}
	stop();
}

/* By heat, out of 64 blocks that are full and 2048 of a page: bytes above what the user allows. */
static void automatic(void)
{
	static const struct bench_row row = {.name = "promote the hottest, 10 % of bloat allowed",
		.against = "backed / touched",
		.limit_ns = 1.0 + BLOAT / 1000.0};
	static struct gm_heat heat[TOUCHES];
	struct gm_policy_result r = {.size = sizeof(r)};
	volatile uint8_t *at;
	uint64_t before;

	start(0);
	at = memory();
	for (uint64_t off = MIB(2); off < MIB(130); off += PAGE)
		at[off] = 1;
	touch();
	for (uint64_t i = 0; i < TOUCHES; i++)
		heat[i] = (struct gm_heat){.heat = i, .gpa = AT + i * EACH};
	before = now().used;
	must(gm_sparse_promote(sparse, heat, TOUCHES, 0, &r, NULL) == 0);
	must(now().huge > 0);
	bench_fact(&row, (double)now().used / (double)before);
	stop();
}

/* ---- counting ---- */

static void count(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		uint64_t used;

		must(gm_sparse_poll(sparse, &used, NULL) == 0);
		bench_sink += used;
	}
}

static void count_bare(void *ctx, uint64_t iters)
{
	int fd = *(int *)ctx;

	for (uint64_t i = 0; i < iters; i++) {
		struct stat st;

		must(fstat(fd, &st) == 0);
		bench_sink += (uint64_t)st.st_blocks;
	}
}

int main(int argc, char **argv)
{
	static const struct gm_page_choice base = {GM_PAGE_BASE, 0};
	static const struct gm_page_choice middle = {GM_PAGE_THP, 16};
	static const struct gm_page_choice huge = {GM_PAGE_THP, 0};
	static struct bench_row rows[] = {
		{.name = "a page in 4 MiB of 8 GiB, pages of 4 KiB",
			.against = "backed / touched",
			.limit_ns = 1.05},
		{.name = "the same, the kernel keeps a limit",
			.against = "backed / touched",
			.limit_ns = 1.05},
		{.name = "pages of 64 KiB", .against = "backed / touched", .limit_ns = 17},
		{.name = "pages of 2 MiB", .against = "backed / touched", .limit_ns = 512},
	};
	static int fd;
	static struct bench_row poll = {.name = "poll of a file with 8 MiB in 8 GiB",
		.ours = count,
		.against = "fstat",
		.other = count_bare,
		.other_ctx = &fd,
		.goal = 1.3,
		.iters = 20000};

	bench_begin(argc, argv);
	must(gm_space_create(NULL, &space, NULL) == 0);
	footprint(&rows[0], 0, &base);
	footprint(&rows[1], GM_SPARSE_HARD, NULL);
	footprint(&rows[2], 0, &middle);
	footprint(&rows[3], 0, &huge);
	automatic();
	start(GM_SPARSE_SHARE);
	touch();
	fd = now().fd;
	bench_run(&poll);
	stop();
	gm_space_destroy(space);
	return bench_end();
}
