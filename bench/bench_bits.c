/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_bits.c - dirty logs against vm-memory's bitmap, and what an access costs that marks.
 *
 * usage: bench_bits [--json FILE] [--peer LIBRARY]
 *
 * 1 GiB in pages of 4 KiB on both sides. See also bench_log.c.
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define GIB (UINT64_C(1) << 30)
#define PAGES (GIB / 4096)
#define WALK (32 * 1024 - 8) /* bytes over which small accesses go */

struct guest {
	const struct gm_view *view;
	struct gm_log *log;
};

static struct guest plain;
static struct guest logged;  /* what is written stays marked */
static struct guest counted; /* its log is taken, nobody writes */
static uint64_t words[PAGES / 64];

static uint8_t bytes_page[65536 + 4096] __attribute__((aligned(4096)));
static uint8_t *const bytes = bytes_page + 2048;

static void make(struct guest *g, bool log)
{
	struct gm_block_opts ram = {.size = sizeof(ram), .len = GIB, .reserve = GM_RESERVE_NONE};
	const struct gm_region_desc desc = {.size = sizeof(desc), .backing = &ram};
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = GIB};
	struct gm_reader *reader;
	struct gm_space *space;
	struct gm_error err;

	bench_need(gm_space_build(&opts, &desc, 1, &space, &err) == 0, "space", err.text);
	if (log)
		bench_need(gm_log_create(space, NULL, &g->log, &err) == 0, "log", err.text);
	bench_need(gm_reader_create(space, "bench", &reader, &err) == 0, "reader", err.text);
	g->view = gm_reader_enter(reader);
	bench_need(gm_fill(g->view, 0, 1, 1 << 20, NULL) == 0, "memory", NULL);
}

/* ---- accesses ---- */

static BENCH_INLINE void write_number(void *ctx, uint64_t iters)
{
	const struct gm_view *view = ((const struct guest *)ctx)->view;
	uint64_t gpa = 0;

	BENCH_ROUNDS(iters, if (gm_write_u64(view, gpa, gpa)) abort(); gpa = (gpa + 8) & WALK;)
}

static BENCH_INLINE void store_number(void *ctx, uint64_t iters)
{
	const struct gm_view *view = ((const struct guest *)ctx)->view;
	uint64_t gpa = 0;

	BENCH_ROUNDS(
		iters, if (gm_atomic_store_u16(view, gpa, __ATOMIC_RELAXED, (uint16_t)gpa)) abort();
		gpa = (gpa + 8) & WALK;)
}

#define DEFINE_WRITE(len)                                                                          \
	static BENCH_INLINE void write_##len(void *ctx, uint64_t iters)                            \
	{                                                                                          \
		const struct gm_view *view = ((const struct guest *)ctx)->view;                    \
                                                                                                   \
		BENCH_ROUNDS(iters, if (gm_write(view, 0, bytes, len, NULL)) abort();              \
			     __asm__ volatile("" ::                                                \
						      : "memory");)                                \
	}

DEFINE_WRITE(96)
DEFINE_WRITE(512)
DEFINE_WRITE(4096)
DEFINE_WRITE(65536)

static size_t lens[] = {96, 512, 4096, 65536}; /* for the peer */

/* ---- bits ---- */

static void mark_range(void *ctx, uint64_t iters)
{
	const struct guest *g = ctx;

	for (uint64_t i = 0; i < iters; i++)
		gm_log_mark(g->log, 0, GIB);
}

static void mark_and_take(void *ctx, uint64_t iters)
{
	const struct guest *g = ctx;
	uint64_t count;

	for (uint64_t i = 0; i < iters; i++) {
		gm_log_mark(g->log, 0, GIB);
		if (gm_log_take(g->log, 0, PAGES, words, &count) || count != PAGES)
			abort();
	}
}

static void take_clean(void *ctx, uint64_t iters)
{
	const struct guest *g = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_log_take(g->log, 0, PAGES, words, NULL))
			abort();
	}
}

static void reset(void *ctx, uint64_t iters)
{
	const struct guest *g = ctx;

	for (uint64_t i = 0; i < iters; i++)
		gm_log_reset(g->log, 0, GIB);
}

static uint64_t scan(const struct gm_log *log)
{
	uint64_t first;
	uint64_t last = UINT64_MAX;
	uint64_t pages = 0;

	while (gm_log_next(log, last + 1, &first, &last) == 0)
		pages += (last - first + 1) / 4096;
	return pages;
}

static void scan_clean(void *ctx, uint64_t iters)
{
	const struct guest *g = ctx;

	gm_log_reset(g->log, 0, GIB);
	for (uint64_t i = 0; i < iters; i++) {
		if (scan(g->log))
			abort();
	}
}

/* One page in 64 is marked. */
static void mark_sparsely(const struct guest *g)
{
	gm_log_reset(g->log, 0, GIB);
	for (uint64_t page = 0; page < PAGES; page += 64)
		gm_log_mark(g->log, page * 4096, 1);
}

static void scan_sparse(void *ctx, uint64_t iters)
{
	const struct guest *g = ctx;

	mark_sparsely(g);
	for (uint64_t i = 0; i < iters; i++) {
		if (scan(g->log) != PAGES / 64)
			abort();
	}
}

static void count_sparse(void *ctx, uint64_t iters)
{
	const struct guest *g = ctx;

	mark_sparsely(g);
	for (uint64_t i = 0; i < iters; i++) {
		if (gm_log_count(g->log, 0, GIB) != PAGES / 64)
			abort();
	}
}

#define PEER(text, fn, guest, theirs, ctx, limit, v18)                                             \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = guest, .against = BENCH_VMM, .peer = theirs, \
		.other_ctx = ctx, .goal = limit, .quoted = v18                                     \
	}
#define MARKED(text, fn)                                                                           \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = &logged, .against = "no log", .other = fn,   \
		.other_ctx = &plain, .more_ns = 1.0                                                \
	}

/* clang-format off */
static const struct bench_row rows[] = {
	MARKED("write 8 B, page is marked", write_number),
	MARKED("store 2 B, page is marked", store_number),
	MARKED("write 96 B, page is marked", write_96),
	MARKED("write 512 B, page is marked", write_512),
	MARKED("write 4 KiB, page is marked", write_4096),
	{.name = "write 64 KiB, 16 pages are marked", .ours = write_65536, .ours_ctx = &logged,
		.against = "no log", .other = write_65536, .other_ctx = &plain, .goal = 1.05},
	PEER("write object, marked", write_number, &logged, "peer_logged_obj", NULL, 0.25, 48),
	PEER("store 2 B, marked", store_number, &logged, "peer_logged_store", NULL, 0.25, 22),
	PEER("write 96 B, marked", write_96, &logged, "peer_logged_slice", &lens[0], 0.25, 0),
	PEER("write 512 B, marked", write_512, &logged, "peer_logged_slice", &lens[1], 1.0, 0),
	PEER("write 4 KiB, marked", write_4096, &logged, "peer_logged_slice", &lens[2], 1.0, 100),
	PEER("write 64 KiB, marked", write_65536, &logged, "peer_logged_slice", &lens[3], 1.0, 2789),
	PEER("mark 1 GiB", mark_range, &counted, "peer_mark_range", NULL, 0.25, 1800000),
	PEER("mark and take 1 GiB", mark_and_take, &counted, "peer_mark_and_take", NULL, 0.25, 0),
	PEER("take 1 GiB, clean", take_clean, &counted, "peer_take_clean", NULL, 0.25, 39500),
	PEER("reset 1 GiB", reset, &counted, "peer_reset", NULL, 1.0, 2015),
	PEER("look at each page of 1 GiB, clean", scan_clean, &counted, "peer_scan_clean", NULL, 0.25, 1390000),
	PEER("look at each page, one in 64 is marked", scan_sparse, &counted, "peer_scan_sparse", NULL, 0.25, 0),
	PEER("count marked pages of 1 GiB", count_sparse, &counted, "peer_scan_sparse", NULL, 0.25, 0),
};
/* clang-format on */

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	memset(bytes_page, 2, sizeof(bytes_page));
	make(&plain, false);
	make(&logged, true);
	make(&counted, true);
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
