/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_atomic.c - atomic accesses, against vm-memory where it has them and a raw pointer.
 *
 * usage: bench_atomic [--json FILE] [--peer LIBRARY]
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>

#include "bench.h"

#define WALK (32 * 1024 - 8) /* bytes over which accesses go */
#define FIRST 65536          /* address of what is written */
#define LEN (UINT64_C(1) << 20)

static const struct gm_view *view;
static uint8_t *raw; /* the same memory */

/* ---- loads and stores ---- */

#define DEFINE_LOAD(name, bits, order)                                                             \
	static BENCH_INLINE void name(void *ctx, uint64_t iters)                                   \
	{                                                                                          \
		const struct gm_view *mine = view;                                                 \
		uint64_t sum = 0;                                                                  \
		uint64_t gpa = 0;                                                                  \
                                                                                                   \
		(void)ctx;                                                                         \
		BENCH_ROUNDS(iters, uint##bits##_t value;                                          \
                                                                                                   \
			     if (gm_atomic_load_u##bits(mine, gpa, order, &value)) abort();        \
			     sum += value; gpa = (gpa + 8) & WALK;)                                \
		bench_sink = sum;                                                                  \
	}                                                                                          \
                                                                                                   \
	static void raw_##name(void *ctx, uint64_t iters)                                          \
	{                                                                                          \
		const uint8_t *mine = raw;                                                         \
		uint64_t sum = 0;                                                                  \
		uint64_t gpa = 0;                                                                  \
                                                                                                   \
		(void)ctx;                                                                         \
		BENCH_ROUNDS(                                                                      \
			iters, sum += __atomic_load_n(                                             \
				       (const uint##bits##_t *)(const void *)(mine + gpa), order); \
			gpa = (gpa + 8) & WALK;)                                                   \
		bench_sink = sum;                                                                  \
	}

#define DEFINE_STORE(name, bits, order)                                                            \
	static BENCH_INLINE void name(void *ctx, uint64_t iters)                                   \
	{                                                                                          \
		const struct gm_view *mine = view;                                                 \
		uint64_t gpa = 0;                                                                  \
		uint64_t i = 0;                                                                    \
                                                                                                   \
		(void)ctx;                                                                         \
		BENCH_ROUNDS(iters, if (gm_atomic_store_u##bits(mine, FIRST + gpa, order,          \
						(uint##bits##_t)i)) abort();                       \
			     gpa = (gpa + 8) & WALK; i++;)                                         \
	}                                                                                          \
                                                                                                   \
	static void raw_##name(void *ctx, uint64_t iters)                                          \
	{                                                                                          \
		uint8_t *mine = raw + FIRST;                                                       \
		uint64_t gpa = 0;                                                                  \
		uint64_t i = 0;                                                                    \
                                                                                                   \
		(void)ctx;                                                                         \
		BENCH_ROUNDS(iters, __atomic_store_n((uint##bits##_t *)(void *)(mine + gpa),       \
					    (uint##bits##_t)i, order);                             \
			     gpa = (gpa + 8) & WALK; i++;)                                         \
	}

DEFINE_LOAD(load_relaxed, 64, __ATOMIC_RELAXED)
DEFINE_LOAD(load_acquire, 16, __ATOMIC_ACQUIRE)
DEFINE_STORE(store_relaxed, 64, __ATOMIC_RELAXED)
DEFINE_STORE(store_release, 16, __ATOMIC_RELEASE)
DEFINE_STORE(store_seq, 64, __ATOMIC_SEQ_CST)

/* ---- read-modify-write: vm-memory 0.10 has none ---- */

#define DEFINE_CHANGE(name, ours, bare)                                                            \
	static BENCH_INLINE void name(void *ctx, uint64_t iters)                                   \
	{                                                                                          \
		const struct gm_view *mine = view;                                                 \
		uint64_t gpa = 0;                                                                  \
		uint64_t old = 0;                                                                  \
                                                                                                   \
		(void)ctx;                                                                         \
		BENCH_ROUNDS(                                                                      \
			iters, if (ours(mine, FIRST + gpa, __ATOMIC_SEQ_CST, 1, &old)) abort();    \
			gpa = (gpa + 8) & WALK;)                                                   \
		bench_sink = old;                                                                  \
	}                                                                                          \
                                                                                                   \
	static void raw_##name(void *ctx, uint64_t iters)                                          \
	{                                                                                          \
		uint8_t *mine = raw + FIRST;                                                       \
		uint64_t gpa = 0;                                                                  \
		uint64_t old = 0;                                                                  \
                                                                                                   \
		(void)ctx;                                                                         \
		BENCH_ROUNDS(                                                                      \
			iters, old += bare((uint64_t *)(void *)(mine + gpa), 1, __ATOMIC_SEQ_CST); \
			gpa = (gpa + 8) & WALK;)                                                   \
		bench_sink = old;                                                                  \
	}

DEFINE_CHANGE(exchange, gm_atomic_exchange_u64, __atomic_exchange_n)
DEFINE_CHANGE(fetch_add, gm_atomic_fetch_add_u64, __atomic_fetch_add)
DEFINE_CHANGE(fetch_or, gm_atomic_fetch_or_u64, __atomic_fetch_or)

/* Each succeeds: a counter that goes up. */
static BENCH_INLINE void compare_exchange(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t value = __atomic_load_n((const uint64_t *)(const void *)raw, __ATOMIC_RELAXED);

	(void)ctx;
	BENCH_ROUNDS(iters, if (gm_atomic_cmpxchg_u64(
					mine, 0, __ATOMIC_SEQ_CST, &value, value + 1) != 1) abort();
		     value++;)
}

static void raw_compare_exchange(void *ctx, uint64_t iters)
{
	uint64_t *at = (uint64_t *)(void *)raw;
	uint64_t value = __atomic_load_n(at, __ATOMIC_RELAXED);

	(void)ctx;
	BENCH_ROUNDS(iters, if (!__atomic_compare_exchange_n(at, &value, value + 1, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) abort();
		     value++;)
}

static void set_up(void)
{
	struct gm_block_opts ram = {.size = sizeof(ram), .len = LEN, .flags = GM_BLOCK_POPULATE};
	const struct gm_region_desc desc = {.size = sizeof(desc), .backing = &ram};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_reader *reader;
	struct gm_space *space;
	struct gm_error err;

	bench_need(gm_space_build(NULL, &desc, 1, &space, &err) == 0, "space", err.text);
	bench_need(gm_reader_create(space, "bench", &reader, &err) == 0, "reader", err.text);
	bench_need(gm_space_next(space, 0, &info) == 0, "region", NULL);
	bench_need(gm_guard_install() == 0, "guard", NULL);
	raw = info.hva;
	view = gm_reader_enter(reader);
}

#define PEER(text, fn, theirs, v18)                                                                \
	{                                                                                          \
		.name = text, .ours = fn, .against = BENCH_VMM, .peer = theirs, .goal = 0.25,      \
		.quoted = v18                                                                      \
	}
#define BARE(text, fn)                                                                             \
	{                                                                                          \
		.name = text, .ours = fn, .against = "raw pointer", .other = raw_##fn              \
	}

static const struct bench_row rows[] = {
	PEER("load, 8 bytes, relaxed", load_relaxed, "peer_load", 0),
	PEER("load, 2 bytes, acquire", load_acquire, "peer_load_u16", 9),
	PEER("store, 8 bytes, relaxed", store_relaxed, "peer_store", 0),
	PEER("store, 2 bytes, release", store_release, "peer_store_u16", 8.5),
	{.name = "store, 8 bytes, seq_cst",
		.ours = store_seq,
		.against = BENCH_VMM,
		.peer = "peer_store_seq",
		.goal = 1.05},
	BARE("load, 8 bytes, relaxed", load_relaxed),
	BARE("load, 2 bytes, acquire", load_acquire),
	BARE("store, 8 bytes, relaxed", store_relaxed),
	BARE("store, 2 bytes, release", store_release),
	BARE("store, 8 bytes, seq_cst", store_seq),
	BARE("exchange, 8 bytes", exchange),
	BARE("fetch and add, 8 bytes", fetch_add),
	BARE("fetch and or, 8 bytes", fetch_or),
	BARE("compare and exchange, 8 bytes", compare_exchange),
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	set_up();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
