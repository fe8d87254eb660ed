/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_pages.c - sizes of pages on the host's side: first touch, filling, looking at what is there; and that what is
 * given back is free.
 *
 * usage: bench_pages [--json FILE] [--pairs N]
 *
 * Rows of a guest's side are measured by "guestmem run" in ./demo. Needs 1.5 GiB of memory; a pool of 2 MiB pages is
 * looked at if it has 16 free ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE UINT64_C(4096)
#define HUGE (UINT64_C(2) << 20)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

struct memory {
	struct gm_block *block; /* NULL: in the space */
	uint64_t gpa;
	uint8_t *hva;
	uint64_t len;
	int fd;
};

static struct gm_space *space;
static struct gm_residency *res;
static struct memory small;
static struct memory huge;
static struct memory wide; /* 64 GiB of addresses */
static int pagemap;

static void must(bool what)
{
	if (!what)
		abort();
}

static struct memory make(uint64_t gpa, uint64_t len, struct gm_block_opts opts)
{
	struct gm_region_desc desc = {.size = sizeof(desc), .gpa = gpa, .backing = &opts};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_block_info block = {.size = sizeof(block)};
	struct gm_error err;
	uint64_t id;

	opts.size = sizeof(opts);
	opts.len = len;
	bench_need(gm_space_add(space, &desc, &id, &err) == 0, "memory", err.text);
	must(gm_space_region(space, id, &info) == 0);
	must(gm_block_info(info.block, &block) == 0);
	return (struct memory){info.block, gpa, info.hva, len, block.fd};
}

/* ---- first touch and filling ---- */

static void empty(void *ctx)
{
	const struct memory *m = ctx;

	must(madvise(m->hva, m->len, MADV_DONTNEED) == 0);
}

static void empty_both(void *ctx)
{
	(void)ctx;
	empty(&small);
	empty(&huge);
}

static void touch(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	(void)iters;
	for (uint64_t at = 0; at < m->len; at += PAGE)
		*(volatile uint8_t *)(m->hva + at) = 1;
}

static void fill(const struct memory *m, uint32_t threads)
{
	struct gm_populate_opts opts = {.size = sizeof(opts), .threads = threads};

	must(gm_block_populate(m->block, &opts, NULL) == 0);
}

static void fill_by_one(void *ctx, uint64_t iters)
{
	(void)iters;
	fill(ctx, 1);
}

static void fill_by_two(void *ctx, uint64_t iters)
{
	(void)iters;
	fill(ctx, 2);
}

static void fill_bare(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	(void)iters;
	must(madvise(m->hva, m->len, MADV_POPULATE_WRITE) == 0);
}

static void *fill_half(void *ctx)
{
	const struct memory *m = ctx;

	must(madvise(m->hva + m->len / 2, m->len / 2, MADV_POPULATE_WRITE) == 0);
	return NULL;
}

static void fill_bare_by_two(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;
	pthread_t other;

	(void)iters;
	must(pthread_create(&other, NULL, fill_half, ctx) == 0);
	must(madvise(m->hva, m->len / 2, MADV_POPULATE_WRITE) == 0);
	pthread_join(other, NULL);
}

/* ---- looking ---- */

struct seen {
	uint64_t extents;
	uint64_t twice;
	uint64_t next;
};

static int see(void *arg, const struct gm_extent *extent)
{
	struct seen *seen = arg;

	seen->extents++;
	seen->twice += extent->start < seen->next;
	seen->next = extent->start + extent->len;
	return 0;
}

static struct seen extents_of(const struct memory *m)
{
	struct seen seen = {0};

	must(gm_residency_extents(res, (uintptr_t)m->hva, m->len, 0, see, &seen, NULL, NULL) == 0);
	return seen;
}

static void extents(void *ctx, uint64_t iters)
{
	for (uint64_t i = 0; i < iters; i++)
		bench_sink += extents_of(ctx).extents;
}

/* As it was done before there was a call for it: a word for each page. */
static void read_pagemap(void *ctx, uint64_t iters)
{
	static uint64_t words[1 << 17];
	const struct memory *m = ctx;
	uint64_t nr = m->len / PAGE;

	(void)iters;
	for (uint64_t page = 0; page < nr;) {
		uint64_t want = nr - page < 1 << 17 ? nr - page : 1 << 17;
		off_t at = (off_t)(((uintptr_t)m->hva / PAGE + page) * 8);
		ssize_t got = pread(pagemap, words, want * 8, at);

		must(got > 0);
		for (ssize_t i = 0; i < got / 8; i++)
			bench_sink += words[i] >> 63;
		page += (uint64_t)got / 8;
	}
}

/* Linux 6.7; Debian's headers are older. */
struct scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t inverted;
	uint64_t mask;
	uint64_t any_of;
	uint64_t wanted;
};

#define SCAN _IOWR('f', 16, struct scan_arg)
#define PRESENT_OR_SWAPPED 0x18u
#define ALL_CATEGORIES 0x7fu

static void scan_bare(void *ctx, uint64_t iters)
{
	static uint64_t vec[512][3];
	const struct memory *m = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		struct scan_arg arg = {.size = sizeof(arg),
			.start = (uintptr_t)m->hva,
			.end = (uintptr_t)m->hva + m->len,
			.vec = (uintptr_t)vec,
			.vec_len = 512,
			.any_of = PRESENT_OR_SWAPPED,
			.wanted = ALL_CATEGORIES};

		bench_sink += (uint64_t)ioctl(pagemap, SCAN, &arg);
	}
}

static void usage(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;
	struct gm_usage u = {.size = sizeof(u)};

	for (uint64_t i = 0; i < iters; i++)
		must(gm_residency_usage(res, (uintptr_t)m->hva, m->len, 0, &u, NULL) == 0);
	bench_sink += u.present;
}

static uint64_t present(const struct memory *m, uint32_t log2)
{
	struct gm_usage u = {.size = sizeof(u)};

	must(gm_residency_usage(res, (uintptr_t)m->hva, m->len, 0, &u, NULL) == 0);
	return log2 ? u.by_log2[log2] : u.present;
}

static void nothing(void *ctx)
{
	(void)ctx;
}

/* ---- giving back ---- */

static uint64_t pool_free(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	char line[32] = "";
	uint64_t pages;

	if (file && !fgets(line, sizeof(line), file))
		line[0] = '\0';
	pages = strtoull(line, NULL, 10);
	if (file)
		fclose(file);
	return pages * HUGE;
}

/* Bytes that a memory takes, as its backing counts them: what falls short of what was given back is not free. */
static uint64_t taken(const struct memory *m, bool pool)
{
	struct stat st;

	if (pool)
		return GIB(1024) - pool_free();
	if (m->fd >= 0 && fstat(m->fd, &st) == 0)
		return (uint64_t)st.st_blocks * 512;
	return present(m, 0);
}

/* Bytes of the second half that gm_discard() says were given back and that are still taken. */
static uint64_t not_freed(uint64_t gpa, struct gm_block_opts opts, bool pool)
{
	struct memory m = make(gpa, MIB(32), opts);
	struct gm_discard_result r = {.size = sizeof(r)};
	uint64_t before;
	uint64_t after;

	touch(&m, 1);
	before = taken(&m, pool);
	must(gm_discard(space, gpa + MIB(16), MIB(16), GM_DISCARD_NOW, 0, &r, NULL) == 0);
	must(r.done == MIB(16));
	after = taken(&m, pool);
	return before - after >= r.done ? 0 : r.done - (before - after);
}

static void give_back(void)
{
	static const struct bench_row rows[] = {
		{.name = "discard 16 MiB, base pages", .against = "bytes still taken"},
		{.name = "discard 16 MiB, transparent huge pages", .against = "bytes still taken"},
		{.name = "discard 16 MiB of a memfd", .against = "bytes still taken"},
		{.name = "discard 16 MiB of a file", .against = "bytes still taken"},
		{.name = "discard 16 MiB, pool of 2 MiB pages", .against = "bytes still taken"},
		{.name = "discard 16 MiB, pool of 2 MiB pages",
			.against = "bytes still taken",
			.skip = "the pool has no 16 free pages"},
	};
	char path[] = "/tmp/bench_pages.XXXXXX";
	int fd = mkstemp(path);

	must(fd >= 0 && ftruncate(fd, 32 << 20) == 0 && unlink(path) == 0);
	bench_fact(
		&rows[0], (double)not_freed(GIB(200), (struct gm_block_opts){.flags = 0}, false));
	bench_fact(&rows[1], (double)not_freed(GIB(201),
				     (struct gm_block_opts){.pages = {{GM_PAGE_THP, 21}}}, false));
	bench_fact(&rows[2], (double)not_freed(GIB(202),
				     (struct gm_block_opts){.flags = GM_BLOCK_SHARE}, false));
	bench_fact(&rows[3],
		(double)not_freed(GIB(203),
			(struct gm_block_opts){.backing = GM_BACKING_FD, .fd = fd}, false));
	if (pool_free() >= MIB(32))
		bench_fact(&rows[4],
			(double)not_freed(GIB(204),
				(struct gm_block_opts){.pages = {{GM_PAGE_HUGETLB, 21}}}, true));
	else
		bench_fact(&rows[5], 0);
	close(fd);
}

/* ---- other counts ---- */

static uint64_t mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	uint64_t lines = 0;
	int c;

	must(file);
	while ((c = fgetc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

static void guard_every_second(void)
{
	static const struct bench_row row = {
		.name = "guard 32 blocks of 64", .against = "new mappings"};
	static const struct bench_row old = {.name = "guard 32 blocks of 64",
		.against = "new mappings",
		.skip = "the kernel has no guard pages"};
	struct memory m = make(GIB(210), MIB(128), (struct gm_block_opts){.flags = 0});
	uint64_t before = mappings();
	int rc = 0;

	for (uint64_t at = 0; at < m.len && !rc; at += 2 * HUGE)
		rc = gm_range_guard(space, m.gpa + at, HUGE, 0, NULL, NULL);
	bench_fact(rc ? &old : &row, (double)(mappings() - before));
}

/* A guest that touches a page in each second block, and may cost 16 MiB more than it uses. */
static void promote_within_budget(void)
{
	static const struct bench_row row = {.name = "promote 64 blocks for 16 MiB",
		.against = "bytes added",
		.limit_ns = MIB(16)};
	static const struct bench_row none = {
		.name = "and leave out not one that fits", .against = "blocks left out"};
	struct memory m = make(GIB(211), MIB(256), (struct gm_block_opts){.flags = 0});
	struct gm_policy_result r = {.size = sizeof(r)};
	struct gm_heat heat[64];
	uint64_t left_out;
	uint64_t before;

	for (uint64_t i = 0; i < 64; i++) {
		m.hva[i * 2 * HUGE] = 1;
		heat[i] = (struct gm_heat){.heat = i, .gpa = m.gpa + i * 2 * HUGE};
	}
	before = present(&m, 0);
	must(gm_policy_promote(space, heat, 64, MIB(16), 0, &r, NULL) == 0);
	bench_fact(&row, (double)(present(&m, 0) - before));
	left_out = MIB(16) / (HUGE - PAGE) - r.huge;
	bench_fact(&none, (double)left_out);
}

static void count_extents(void)
{
	static const struct bench_row row = {
		.name = "extents of 65536 single pages", .against = "that come twice or not"};
	struct seen seen;

	empty(&wide);
	for (uint64_t at = 0; at < wide.len; at += MIB(1))
		wide.hva[at] = 1;
	seen = extents_of(&wide);
	bench_fact(&row, (double)(seen.twice + (seen.extents > 65536 ? seen.extents - 65536
								     : 65536 - seen.extents)));
	empty(&wide);
}

/* ---- */

static const struct bench_row filling[] = {
	{"first touch of 64 MiB, huge pages", touch, &huge, "base pages", touch, &small, 0, 1 / 1.8,
		.before = empty_both, .iters = 1},
	{"fill 64 MiB with base pages", fill_by_one, &small, "touch each", touch, &small, 0,
		1 / 1.25, .before = empty, .before_ctx = &small, .iters = 1},
	{"fill 64 MiB with base pages", fill_by_one, &small, "madvise", fill_bare, &small, 0, 1.1,
		.before = empty, .before_ctx = &small, .iters = 1},
};

static const struct bench_row by_two[] = {
	{"fill 1 GiB with huge pages, 2 threads", fill_by_two, &huge, "1 thread", fill_by_one,
		&huge, 0, 1 / 1.7, .before = empty, .before_ctx = &huge, .iters = 1},
	{"fill 1 GiB with huge pages, 2 threads", fill_by_two, &huge, "madvise by 2 threads",
		fill_bare_by_two, &huge, 0, 1.1, .before = empty, .before_ctx = &huge, .iters = 1},
};

static const struct bench_row looking[] = {
	{"extents of 1 GiB of huge pages", extents, &huge, "read pagemap", read_pagemap, &huge, 0,
		1.0 / 30, .before = nothing, .iters = 1},
	{"extents of 64 GiB, empty", extents, &wide, "read pagemap", read_pagemap, &wide, 0,
		1.0 / 1000, .before = nothing, .iters = 1},
	{"report of 1 GiB, huge pages", usage, &huge, "50 us", NULL, NULL, 50e3, 1},
	{"report of 1 GiB, huge pages", usage, &huge, "PAGEMAP_SCAN", scan_bare, &huge, 0, 1.1},
};

static const struct bench_row looking_small[] = {
	{"extents of 64 GiB with 1 GiB", extents, &wide, "read pagemap", read_pagemap, &wide, 0,
		0.1, .before = nothing, .iters = 1},
};

static const struct bench_row report_small = {
	"report of 1 GiB, base pages", usage, &small, "10 ms", NULL, NULL, 10e6, 1};

static void remake(struct memory *m, uint64_t gpa, uint64_t len, uint32_t kind)
{
	*m = make(
		gpa, len, (struct gm_block_opts){.pages = {{kind, kind == GM_PAGE_THP ? 21 : 0}}});
}

int main(int argc, char **argv)
{
	static const struct bench_row share = {
		.name = "fill 1 GiB with huge pages", .against = "bytes in base pages"};
	struct gm_block_opts sparse = {.pages = {{GM_PAGE_BASE, 0}}, .reserve = GM_RESERVE_NONE};

	bench_begin(argc, argv);
	must(gm_space_create(NULL, &space, NULL) == 0 && gm_residency_open(0, &res, NULL) == 0);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	must(pagemap >= 0);
	remake(&small, 0, MIB(64), GM_PAGE_BASE);
	remake(&huge, GIB(1), MIB(64), GM_PAGE_THP);
	wide = make(GIB(64), GIB(64), sparse);
	bench_rows(filling, sizeof(filling) / sizeof(*filling));
	empty_both(NULL);
	remake(&huge, GIB(2), GIB(1), GM_PAGE_THP);
	bench_rows(by_two, 2);
	empty(&huge);
	fill(&huge, 1);
	bench_fact(&share, (double)(GIB(1) - present(&huge, 21)));
	bench_rows(looking, sizeof(looking) / sizeof(*looking));
	count_extents();
	empty(&huge);
	remake(&small, GIB(4), GIB(1), GM_PAGE_BASE);
	fill(&small, 1);
	bench_run(&report_small);
	empty(&small);
	must(madvise(wide.hva + GIB(10), GIB(1), MADV_POPULATE_WRITE) == 0);
	bench_rows(looking_small, 1);
	empty(&wide);
	give_back();
	guard_every_second();
	promote_within_budget();
	gm_residency_close(res);
	gm_space_destroy(space);
	close(pagemap);
	return bench_end();
}
