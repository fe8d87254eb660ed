/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_discard.c - giving memory back and collapsing it, against the bare system calls on the same memory, and
 * lists against a call for each page.
 *
 * usage: bench_discard [--json FILE]
 */
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"
#include "live_guest.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGE 4096u
#define LEN (8u << 20)
#define LARGE (64u << 20)
#define HUGE (2u << 20)
#define LIST 1024u /* pages of a list */

/* A region of one sort of memory. */
struct memory {
	uint64_t gpa;
	uint8_t *hva;
	int fd;
	bool scattered;
	bool guest; /* touches it too */
	uint64_t len;
};

static struct gm_space *space;
static struct memory base;
static struct memory thp;
static struct memory shared;
static struct memory large; /* too large for caches */
static struct memory other; /* transparent huge pages, for comparison */
static struct memory lone;  /* no guest has it */
static uint32_t pfns[LIST];
static struct live_guest guest;
static bool live;

static void must(bool what)
{
	if (!what)
		abort();
}

/* ---- before ---- */

static void empty(void *ctx)
{
	const struct memory *m = ctx;

	must(gm_discard(space, m->gpa, m->len, GM_DISCARD_NOW, 0, NULL, NULL) == 0);
}

static void fill_all(void *ctx)
{
	const struct memory *m = ctx;

	must(madvise(m->hva, m->len, MADV_POPULATE_WRITE) == 0);
	if (live && m->guest)
		live_guest_touch(&guest, m->gpa, m->len);
}

static void fill_list(void *ctx)
{
	const struct memory *m = ctx;

	/* What was huge for another row is not so any more. */
	empty(ctx);
	fill_all(ctx);
	/* As a driver gives them: not in order. */
	for (uint32_t i = 0; i < LIST; i++)
		pfns[i] = (uint32_t)(m->gpa / PAGE) + i * 77 % LIST * (m->scattered ? 2 : 1);
}

static void fill_small(void *ctx)
{
	const struct memory *m = ctx;

	empty(ctx);
	must(madvise(m->hva, m->len, MADV_POPULATE_WRITE) == 0);
}

static void empty_both(void *ctx)
{
	(void)ctx;
	empty(&large);
	empty(&other);
}

/* ---- one range ---- */

static void discard_ours(void *ctx, uint64_t iters)
{
	(void)iters;
	empty(ctx);
}

static void discard_bare(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	(void)iters;
	if (m->fd >= 0)
		must(fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LEN) == 0);
	else
		must(madvise(m->hva, LEN, MADV_DONTNEED) == 0);
}

static void collapse_ours(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	struct gm_policy_result r = {.size = sizeof(r)};

	(void)iters;
	/* A page may be in use for a moment. */
	while (gm_policy_collapse(space, m->gpa, LEN, 0, &r, NULL) || r.huge < LEN / HUGE)
		;
}

static void collapse_bare(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	(void)iters;
	while (madvise(m->hva, LEN, MADV_COLLAPSE))
		;
}

static void collapse_shared(void *ctx, uint64_t iters)
{
	struct gm_policy_result r = {.size = sizeof(r)};

	(void)ctx;
	(void)iters;
	while (gm_policy_collapse(space, large.gpa, large.len, GM_POLICY_TOUCH, &r, NULL) ||
		r.huge < large.len / HUGE)
		;
}

/* The calls alone: a page of each block, then all of it. */
static void collapse_shared_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	for (uint64_t at = 0; at < large.len; at += HUGE)
		must(madvise(large.hva + at, PAGE, MADV_POPULATE_WRITE) == 0);
	while (madvise(large.hva, large.len, MADV_COLLAPSE))
		;
}

static void populate_thp(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	must(madvise(other.hva, other.len, MADV_POPULATE_WRITE) == 0);
}

static void guard_blocks(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(gm_range_guard(space, m->gpa + i % 4 * HUGE, HUGE, 0, NULL, NULL) == 0);
}

static void guard_bare(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(madvise(m->hva + i % 4 * HUGE, HUGE, MADV_GUARD_INSTALL) == 0);
}

static void unguard(void *ctx)
{
	const struct memory *m = ctx;

	must(gm_range_unguard(space, m->gpa, LEN, NULL) == 0);
}

/* ---- lists, a page ---- */

static void list_ours(void *ctx, uint64_t iters)
{
	struct gm_discard_result r = {.size = sizeof(r)};

	(void)ctx;
	(void)iters;
	must(gm_discard_pfns(space, pfns, LIST, NULL, &r, NULL) == 0);
	must(r.done == LIST * PAGE);
}

/* What a monitor does that takes the pages one by one. */
static void list_bare(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	(void)iters;
	for (uint32_t i = 0; i < LIST; i++) {
		uint64_t off = (uint64_t)pfns[i] * PAGE - m->gpa;

		if (m->fd >= 0)
			must(fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     (off_t)off, PAGE) == 0);
		must(madvise(m->hva + off, PAGE, MADV_DONTNEED) == 0);
	}
}

/* The batches alone, of a list that is sorted. */
static void list_batches(void *ctx, uint64_t iters)
{
	static struct iovec iov[LIST];
	static int self = -1;
	const struct memory *m = ctx;

	(void)iters;
	if (self < 0)
		self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	for (uint32_t i = 0; i < LIST; i++)
		iov[i] = (struct iovec){m->hva + (uint64_t)i * PAGE * (m->scattered ? 2 : 1), PAGE};
	for (uint32_t i = 0; i < LIST; i += 256)
		must(syscall(SYS_process_madvise, self, iov + i, 256, MADV_DONTNEED, 0) ==
			(ssize_t)256 * PAGE);
}

/* All of the list in one call. */
static void list_hole(void *ctx, uint64_t iters)
{
	const struct memory *m = ctx;

	(void)iters;
	must(fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)LIST * PAGE) ==
		0);
}

/* ---- set-up ---- */

static struct memory make(uint64_t gpa, uint64_t len, struct gm_block_opts opts)
{
	struct gm_region_desc desc = {.size = sizeof(desc), .gpa = gpa, .backing = &opts};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_block_info block = {.size = sizeof(block)};
	uint64_t id;

	opts.size = sizeof(opts);
	opts.len = len;
	must(gm_space_add(space, &desc, &id, NULL) == 0);
	must(gm_space_region(space, id, &info) == 0);
	must(gm_block_info(info.block, &block) == 0);
	return (struct memory){.gpa = gpa, .hva = info.hva, .fd = block.fd, .len = len};
}

int main(int argc, char **argv)
{
	struct memory *guests[] = {&base, &thp, &shared};
	struct memory system;

	bench_begin(argc, argv);
	must(gm_space_create(NULL, &space, NULL) == 0);
	system = make(0, LIVE_SYSTEM, (struct gm_block_opts){.flags = GM_BLOCK_POPULATE});
	base = make(16u << 20, LEN, (struct gm_block_opts){.flags = 0});
	thp = make(32u << 20, LEN, (struct gm_block_opts){.pages = {{GM_PAGE_THP, 0}}});
	shared = make(48u << 20, LEN, (struct gm_block_opts){.flags = GM_BLOCK_SHARE});
	lone = make(64u << 20, LEN, (struct gm_block_opts){.flags = 0});
	large = make(128u << 20, LARGE, (struct gm_block_opts){.flags = GM_BLOCK_SHARE});
	other = make(256u << 20, LARGE, (struct gm_block_opts){.pages = {{GM_PAGE_THP, 0}}});
	lone.scattered = true;

	/* Before the kernel has a guest's page table to tell. */
	const struct bench_row alone[] = {
		{"list of 1024 scattered base pages", list_ours, &lone, "call by call", list_bare,
			&lone, 0, 0.5, .before = fill_list, .before_ctx = &lone, .iters = LIST},
		{"list of 1024 scattered base pages", list_ours, &lone, "process_madvise",
			list_batches, &lone, 0, 0, .before = fill_list, .before_ctx = &lone,
			.iters = LIST},
	};
	const struct bench_row rows[] = {
		{"discard 8 MiB, base pages", discard_ours, &base, "madvise", discard_bare, &base,
			0, 1.1, .before = fill_all, .before_ctx = &base, .iters = 1},
		{"discard 8 MiB, transparent huge pages", discard_ours, &thp, "madvise",
			discard_bare, &thp, 0, 1.1, .before = fill_all, .before_ctx = &thp,
			.iters = 1},
		{"discard 8 MiB of a memfd", discard_ours, &shared, "fallocate", discard_bare,
			&shared, 0, 1.1, .before = fill_all, .before_ctx = &shared, .iters = 1},
		{"collapse 8 MiB", collapse_ours, &base, "madvise", collapse_bare, &base, 0, 1.1,
			.before = fill_small, .before_ctx = &base, .iters = 1},
		{"huge pages for 64 MiB of a memfd", collapse_shared, NULL, "anonymous ones",
			populate_thp, NULL, 0, 1.1, .before = empty_both, .before_ctx = NULL,
			.iters = 1},
		{"huge pages for 64 MiB of a memfd", collapse_shared, NULL, "madvise",
			collapse_shared_bare, NULL, 0, 1.1, .before = empty_both,
			.before_ctx = NULL, .iters = 1},
		{"balloon list, 1024 base pages", list_ours, &base, "call by call", list_bare,
			&base, 0, 1.0 / 6, .before = fill_list, .before_ctx = &base, .iters = LIST},
		{"balloon list, 1024 pages of huge ones", list_ours, &thp, "call by call",
			list_bare, &thp, 0, 1.0 / 25, .before = fill_list, .before_ctx = &thp,
			.iters = LIST},
		{"balloon list, 1024 pages of a memfd", list_ours, &shared, "call by call",
			list_bare, &shared, 0, 1.0 / 15, .before = fill_list, .before_ctx = &shared,
			.iters = LIST},
		{"balloon list, 1024 pages of a memfd", list_ours, &shared, "one fallocate",
			list_hole, &shared, 0, 1.1, .before = fill_list, .before_ctx = &shared,
			.iters = LIST},
		{"the same while a guest runs", list_ours, &lone, "call by call", list_bare, &lone,
			0, 0, .before = fill_list, .before_ctx = &lone, .iters = LIST},
		{"guard 2 MiB", guard_blocks, &lone, "madvise", guard_bare, &lone, 0, 1.1,
			.before = unguard, .before_ctx = &lone, .iters = 4},
	};

	bench_rows(alone, sizeof(alone) / sizeof(*alone));
	live = live_guest_open(&guest, system.hva);
	for (uint32_t i = 0; live && i < 3; i++) {
		live_guest_slot(&guest, i + 1, guests[i]->gpa, guests[i]->hva, guests[i]->len);
		guests[i]->guest = true;
	}
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
