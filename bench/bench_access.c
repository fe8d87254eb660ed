/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_access.c - sections, look-ups and accesses, against raw pointers, libc and vm-memory.
 *
 * usage: bench_access [--json FILE] [--peer LIBRARY]
 *
 * Built against the installed shared library, as a user's program is.
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define SET (16 * 1024)      /* bytes of the dependent chain */
#define WALK (32 * 1024 - 8) /* bytes over which independent accesses go */
#define RANDOM 4096u         /* addresses of the random look-ups */
#define BOUNDARY (UINT64_C(1) << 20)

static struct gm_space *space;
static struct gm_reader *reader;
static const struct gm_view *view;
static uint8_t raw[1 << 20] __attribute__((aligned(4096))); /* plain memory of this process */
static uint8_t buffer[65536] __attribute__((aligned(64)));

/* ---- 8-byte objects ---- */

static BENCH_INLINE void read_u64(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t sum = 0;
	uint64_t gpa = 0;

	(void)ctx;
	BENCH_ROUNDS(iters, uint64_t value;

		     if (gm_read_u64(mine, gpa, &value)) abort(); sum += value;
		     gpa = (gpa + 8) & WALK;)
	bench_sink = sum;
}

static BENCH_INLINE void write_u64(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = 0;
	uint64_t i = 0;

	(void)ctx;
	BENCH_ROUNDS(iters, if (gm_write_u64(mine, 65536 + gpa, i)) abort(); gpa = (gpa + 8) & WALK;
		     i++;)
}

static BENCH_INLINE void atomic_load(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t sum = 0;
	uint64_t gpa = 0;

	(void)ctx;
	BENCH_ROUNDS(iters, uint64_t value;

		     if (gm_atomic_load_u64(mine, gpa, __ATOMIC_RELAXED, &value)) abort();
		     sum += value; gpa = (gpa + 8) & WALK;)
	bench_sink = sum;
}

static BENCH_INLINE void atomic_store(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = 0;
	uint64_t i = 0;

	(void)ctx;
	BENCH_ROUNDS(
		iters, if (gm_atomic_store_u64(mine, 65536 + gpa, __ATOMIC_RELAXED, i)) abort();
		gpa = (gpa + 8) & WALK; i++;)
}

/* ---- the same, not inlined ---- */

static void write_u64_many(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = 0;
	uint64_t i = 0;

	(void)ctx;
	BENCH_ROUNDS(iters, if (gm_write_u64(mine, 65536 + gpa, i)) abort(); gpa = (gpa + 8) & WALK;
		     i++;)
}

static void atomic_store_many(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = 0;
	uint64_t i = 0;

	(void)ctx;
	BENCH_ROUNDS(
		iters, if (gm_atomic_store_u64(mine, 65536 + gpa, __ATOMIC_RELAXED, i)) abort();
		gpa = (gpa + 8) & WALK; i++;)
}

/* ---- a chain: the value read is the next address ---- */

static void chain_ours(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = *(uint64_t *)ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_read_u64(mine, gpa, &gpa))
			abort();
	}
	bench_sink = gpa;
}

static void chain_raw(void *ctx, uint64_t iters)
{
	const void *at = ctx;

	for (uint64_t i = 0; i < iters; i++)
		at = *(const void *const volatile *)at;
	bench_sink = (uintptr_t)at;
}

/* One random cycle through all 8-byte cells of SET bytes, in guest memory and in raw memory. */
static void make_chain(uint64_t gpa, uint8_t *base)
{
	enum { CELLS = SET / 8 };
	static uint32_t order[CELLS];
	uint64_t seed = 88172645463325252u;

	for (uint32_t i = 0; i < CELLS; i++)
		order[i] = i;
	for (uint32_t i = CELLS - 1; i > 0; i--) {
		uint32_t j;
		uint32_t swap = order[i];

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		j = (uint32_t)(seed % (i + 1));
		order[i] = order[j];
		order[j] = swap;
	}
	for (uint32_t i = 0; i < CELLS; i++) {
		uint32_t from = order[i];
		uint32_t to = order[(i + 1) % CELLS];
		void *next = base + (size_t)to * 8;

		memcpy(base + (size_t)from * 8, &next, sizeof(next));
		if (gm_write_u64(view, gpa + (uint64_t)from * 8, gpa + (uint64_t)to * 8))
			abort();
	}
}

/* ---- copies ---- */

struct copy {
	uint64_t gpa;
	size_t len;
	uint8_t *from;
};

static void copy_out(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	const struct copy *copy = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_read(mine, copy->gpa, buffer, copy->len, NULL))
			abort();
		__asm__ volatile("" ::: "memory");
	}
}

static void copy_in(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	const struct copy *copy = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_write(mine, copy->gpa, buffer, copy->len, NULL))
			abort();
		__asm__ volatile("" ::: "memory");
	}
}

static void libc_copy_out(void *ctx, uint64_t iters)
{
	const struct copy *copy = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	for (uint64_t i = 0; i < iters; i++)
		call(buffer, copy->from, copy->len);
}

static void libc_copy_in(void *ctx, uint64_t iters)
{
	const struct copy *copy = ctx;
	void *(*volatile call)(void *, const void *, size_t) = memcpy;

	for (uint64_t i = 0; i < iters; i++)
		call(copy->from, buffer, copy->len);
}

/* ---- look-ups ---- */

struct many {
	struct gm_space *space;
	struct gm_reader *reader;
	const struct gm_view *view;
	uint64_t addresses[RANDOM];
};

/* Regions of one page with a hole of a page between, so that none are merged. */
static void make_many(struct many *many, uint32_t nr)
{
	struct gm_block_opts backing = {
		.size = sizeof(backing), .len = 4096, .reserve = GM_RESERVE_NONE};
	struct gm_region_desc *descs = calloc(nr, sizeof(*descs));
	struct gm_error err;
	uint64_t seed = 2463534242u;

	for (uint32_t i = 0; i < nr; i++)
		descs[i] = (struct gm_region_desc){
			.size = sizeof(*descs), .gpa = UINT64_C(8192) * i, .backing = &backing};
	bench_need(gm_space_build(NULL, descs, nr, &many->space, &err) == 0, "regions", err.text);
	bench_need(gm_reader_create(many->space, "bench", &many->reader, &err) == 0, "reader",
		err.text);
	free(descs);
	many->view = gm_reader_enter(many->reader);
	for (uint32_t i = 0; i < RANDOM; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		many->addresses[i] = UINT64_C(8192) * (seed % nr) + (seed >> 40) % 4080;
	}
}

/* The translation by the table: 16 bytes, so that the short cut to the largest region does not
 * answer. */
static void look_up(void *ctx, uint64_t iters)
{
	const struct many *many = ctx;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < iters; i++) {
		const void *at =
			gm_view_fast(many->view, many->addresses[i % RANDOM], 16, GM_PERM_R);

		if (!at)
			abort();
		sum += (uintptr_t)at;
	}
	bench_sink = sum;
}

/* ---- rings: one page again and again ---- */

#define RING_MASK 4088u

struct ring {
	const struct gm_view *view;
	uint64_t gpa;
	struct gm_cache cache;
};

static void make_ring(struct ring *ring, const struct gm_view *of, uint64_t gpa)
{
	ring->view = of;
	ring->gpa = gpa;
	if (gm_cache_init(&ring->cache, of, gpa, 4096, GM_PERM_RW))
		abort();
}

static BENCH_INLINE void ring_cached(void *ctx, uint64_t iters)
{
	struct ring *ring = ctx;
	const struct gm_view *mine = ring->view;
	uint64_t sum = 0;
	uint64_t off = 0;

	BENCH_ROUNDS(iters, uint64_t value;

		     if (gm_cache_read_u64(&ring->cache, mine, off, &value)) abort(); sum += value;
		     off = (off + 8) & RING_MASK;)
	bench_sink = sum;
}

static BENCH_INLINE void ring_by_address(void *ctx, uint64_t iters)
{
	const struct ring *ring = ctx;
	const struct gm_view *mine = ring->view;
	uint64_t sum = 0;
	uint64_t off = 0;

	BENCH_ROUNDS(iters, uint64_t value;

		     if (gm_read_u64(mine, ring->gpa + off, &value)) abort(); sum += value;
		     off = (off + 8) & RING_MASK;)
	bench_sink = sum;
}

/* ---- sections ---- */

static struct gm_reader *section_reader;

static void section(void *ctx, uint64_t iters)
{
	struct gm_reader *mine = section_reader;

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		bench_sink = (uintptr_t)gm_reader_enter(mine);
		gm_reader_leave(mine);
	}
}

#define CHAIN_AT 131072

static uint64_t chain_at = CHAIN_AT;
static struct copy small = {.gpa = 4096, .len = 512, .from = raw};
static struct copy page = {.gpa = 4096, .len = 4096, .from = raw};
static struct copy inside = {.gpa = BOUNDARY - 1024, .len = 512, .from = raw};
static struct copy across = {.gpa = BOUNDARY - 256, .len = 512, .from = raw};
static struct copy inside_page = {.gpa = BOUNDARY - 8192, .len = 4096, .from = raw};
static struct copy across_page = {.gpa = BOUNDARY - 2048, .len = 4096, .from = raw};
static struct many few;
static struct many some;
static struct many lots;
static struct ring main_ring;
static struct ring other_ring;

static void set_up(void)
{
	/* Two placed regions that touch: one anonymous, one a memfd, both populated. */
	struct gm_block_opts low = {
		.size = sizeof(low), .len = BOUNDARY, .flags = GM_BLOCK_POPULATE};
	struct gm_block_opts high = {
		.size = sizeof(high), .len = BOUNDARY, .flags = GM_BLOCK_POPULATE | GM_BLOCK_SHARE};
	const struct gm_region_desc descs[] = {
		{.size = sizeof(*descs), .gpa = 0, .backing = &low},
		{.size = sizeof(*descs), .gpa = BOUNDARY, .backing = &high},
	};
	struct gm_error err;

	bench_need(gm_space_build(NULL, descs, 2, &space, &err) == 0, "space", err.text);
	bench_need(gm_reader_create(space, "bench", &reader, &err) == 0, "reader", err.text);
	bench_need(
		gm_reader_create(space, "section", &section_reader, &err) == 0, "reader", err.text);
	gm_guard_install();
	view = gm_reader_enter(reader);
	memset(raw, 1, sizeof(raw));
	memset(buffer, 2, sizeof(buffer));
	make_chain(CHAIN_AT, raw + 262144);
	make_many(&few, 8);
	make_many(&some, 256);
	make_many(&lots, 10000);
	make_ring(&main_ring, view, 8192);
	make_ring(&other_ring, some.view, UINT64_C(8192) * 100);
}

#define LIMIT(text, fn, ns)                                                                        \
	{                                                                                          \
		.name = text, .ours = fn, .against = "limit", .limit_ns = ns, .goal = 1.0          \
	}
#define PEER(text, fn, theirs, v18)                                                                \
	{                                                                                          \
		.name = text, .ours = fn, .against = BENCH_VMM, .peer = theirs, .goal = 0.25,      \
		.quoted = v18                                                                      \
	}
#define PAIR(text, fn, ctx, what, fn2, ctx2, limit)                                                \
	{                                                                                          \
		.name = text, .ours = fn, .ours_ctx = ctx, .against = what, .other = fn2,          \
		.other_ctx = ctx2, .goal = limit                                                   \
	}

static const struct bench_row rows[] = {
	LIMIT("read of 8 bytes, open section", read_u64, 3.0),
	LIMIT("write of 8 bytes, open section", write_u64, 3.0),
	PAIR("dependent reads, 16 KiB", chain_ours, &chain_at, "raw pointer chase", chain_raw,
		raw + 262144, 2.0),
	PEER("read object", read_u64, "peer_read_obj", 45),
	PEER("write object", write_u64, "peer_write_obj", 45),
	PEER("atomic load", atomic_load, "peer_load", 0),
	PEER("atomic store", atomic_store, "peer_store", 0),
	PEER("write object, in many places", write_u64_many, "peer_write_obj", 0),
	PEER("atomic store, in many places", atomic_store_many, "peer_store", 0),
	PAIR("read 512 bytes", copy_out, &small, "libc memcpy", libc_copy_out, &small, 1.3),
	PAIR("write 512 bytes", copy_in, &small, "libc memcpy", libc_copy_in, &small, 1.3),
	PAIR("read 4 KiB", copy_out, &page, "libc memcpy", libc_copy_out, &page, 1.05),
	PAIR("write 4 KiB", copy_in, &page, "libc memcpy", libc_copy_in, &page, 1.05),
	PAIR("read 512 bytes across two regions", copy_out, &across, "inside one", copy_out,
		&inside, 1.1),
	PAIR("read 4 KiB across two regions", copy_out, &across_page, "inside one", copy_out,
		&inside_page, 1.1),
	PAIR("look-up, 256 regions, random", look_up, &some, "8 regions", look_up, &few, 1.5),
	PAIR("look-up, 10 000 regions, random", look_up, &lots, "8 regions", look_up, &few, 1.5),
	PAIR("cached read, main memory", ring_cached, &main_ring, "by address", ring_by_address,
		&main_ring, 1.5),
	PAIR("cached read, other memory", ring_cached, &other_ring, "by address", ring_by_address,
		&other_ring, 1.0),
	LIMIT("section, enter and leave", section, 5.0),
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	set_up();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
