/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_log.c - dirty logs: what marking costs a writer, and taking, against the bare work on words.
 *
 * usage: bench_log [--json FILE]
 *
 * Built against the installed shared library, as a user's program is.
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define WALK (32 * 1024 - 8)
#define PAGES (UINT64_C(1) << 18) /* of 4 KiB in 1 GiB */
#define WORDS (PAGES / 64)
#define MANY (UINT64_C(1) << 24) /* in 64 GiB */

struct guest {
	struct gm_space *space;
	struct gm_reader *reader;
	const struct gm_view *view;
	struct gm_log *logs[2];
};

static struct guest plain;
static struct guest one_log;
static struct guest two_logs;
static struct guest counted; /* its log is taken, nobody else writes */
static uint64_t *words;
static uint64_t *copy;

static void need(int rc, const struct gm_error *err)
{
	bench_need(rc == 0, "log", err->text);
}

static void make(struct guest *g, int nr_logs, uint64_t len)
{
	struct gm_region_desc desc = {.size = sizeof(desc)};
	struct gm_block_opts block = {
		.size = sizeof(block), .len = len, .reserve = GM_RESERVE_NONE};
	struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = len};
	struct gm_error err;

	desc.backing = &block;
	need(gm_space_create(&opts, &g->space, &err), &err);
	need(gm_space_add(g->space, &desc, NULL, &err), &err);
	need(gm_reader_create(g->space, "bench", &g->reader, &err), &err);
	for (int i = 0; i < nr_logs; i++)
		need(gm_log_create(g->space, NULL, &g->logs[i], &err), &err);
	g->view = gm_reader_enter(g->reader);
}

static void drop(struct guest *g)
{
	gm_reader_leave(g->reader);
	for (int i = 0; i < 2; i++)
		gm_log_destroy(g->logs[i], NULL);
	gm_reader_destroy(g->reader);
	gm_space_destroy(g->space);
}

static BENCH_INLINE void write_u64(void *ctx, uint64_t iters)
{
	const struct gm_view *view = ((struct guest *)ctx)->view;
	uint64_t gpa = 0;
	uint64_t i = 0;

	BENCH_ROUNDS(iters, if (gm_write_u64(view, gpa, i)) abort(); gpa = (gpa + 8) & WALK; i++;)
}

static void write_4k(void *ctx, uint64_t iters)
{
	static uint8_t bytes[4096];
	const struct gm_view *view = ((struct guest *)ctx)->view;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_write(view, (i & 7) * 4096, bytes, sizeof(bytes), NULL))
			abort();
	}
}

/* The first write to a page after it was taken. */
static void mark_anew(void *ctx, uint64_t iters)
{
	struct guest *g = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		gm_log_reset(g->logs[0], 4096, 4096);
		if (gm_write_u64(g->view, 4096, i))
			abort();
	}
}

static void reset_only(void *ctx, uint64_t iters)
{
	struct guest *g = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		gm_log_reset(g->logs[0], 4096, 4096);
		bench_sink = i;
	}
}

static void mark_range(void *ctx, uint64_t iters)
{
	struct guest *g = ctx;

	for (uint64_t i = 0; i < iters; i++)
		gm_log_mark(g->logs[0], 0, PAGES * 4096);
}

static void set_words(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		memset(words, 0xff, WORDS * 8);
		__asm__ volatile("" ::"r"(words) : "memory");
	}
}

/* As the log is empty afterwards it is marked again, on both sides. */
static void mark_and_take(void *ctx, uint64_t iters)
{
	struct guest *g = ctx;
	uint64_t count;

	for (uint64_t i = 0; i < iters; i++) {
		gm_log_mark(g->logs[0], 0, PAGES * 4096);
		if (gm_log_take(g->logs[0], 0, PAGES, copy, &count) || count != PAGES)
			abort();
	}
}

static void set_and_copy(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		memset(words, 0xff, WORDS * 8);
		__asm__ volatile("" ::"r"(words) : "memory");
		memcpy(copy, words, WORDS * 8);
		__asm__ volatile("" ::"r"(copy) : "memory");
	}
}

static void take_clean(void *ctx, uint64_t iters)
{
	struct guest *g = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_log_take(g->logs[0], 0, PAGES, copy, NULL))
			abort();
	}
}

static void copy_words(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		memcpy(copy, words, WORDS * 8);
		__asm__ volatile("" ::"r"(copy) : "memory");
	}
}

static void mark_and_take_many(void *ctx, uint64_t iters)
{
	struct guest *g = ctx;
	uint64_t count;

	for (uint64_t i = 0; i < iters; i++) {
		gm_log_mark(g->logs[0], 0, MANY * 4096);
		if (gm_log_take(g->logs[0], 0, MANY, copy, &count) || count != MANY)
			abort();
	}
}

static void set_and_copy_many(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		memset(words, 0xff, MANY / 8);
		__asm__ volatile("" ::"r"(words) : "memory");
		memcpy(copy, words, MANY / 8);
		__asm__ volatile("" ::"r"(copy) : "memory");
	}
}

/* A write takes half a nanosecond: one more is three times that. */
static const struct bench_row rows[] = {
	{"write 8 B, marked in one log", write_u64, &one_log, "no log", write_u64, &plain, 0, 3.0,
		NULL},
	{"write 8 B, marked in two logs", write_u64, &two_logs, "no log", write_u64, &plain, 0, 3.0,
		NULL},
	{"write 4 KiB, marked in one log", write_4k, &one_log, "no log", write_4k, &plain, 0, 1.1,
		NULL},
	{"reset a page and write to it", mark_anew, &one_log, "reset it only", reset_only, &one_log,
		0, 0, NULL},
	{"mark 1 GiB of pages", mark_range, &counted, "memset of the words", set_words, NULL, 0,
		2.0, NULL},
	{"mark and take 1 GiB of pages", mark_and_take, &counted, "memset and memcpy of the words",
		set_and_copy, NULL, 0, 2.0, NULL},
	{"take 1 GiB of clean pages", take_clean, &counted, "memcpy of the words", copy_words, NULL,
		0, 2.0, NULL},
	{"mark and take 64 GiB of pages", mark_and_take_many, &counted,
		"memset and memcpy of the words", set_and_copy_many, NULL, 0, 2.0, NULL},
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	words = calloc(1, MANY / 8);
	copy = calloc(1, MANY / 8);
	if (!words || !copy)
		return 1;
	make(&plain, 0, UINT64_C(1) << 30);
	make(&one_log, 1, UINT64_C(1) << 30);
	make(&two_logs, 2, UINT64_C(1) << 30);
	make(&counted, 1, UINT64_C(1) << 36);
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	drop(&plain);
	drop(&one_log);
	drop(&two_logs);
	drop(&counted);
	free(words);
	free(copy);
	return bench_end();
}
