/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_access.c - sections, look-ups and accesses, against raw pointers, libc and vm-memory.
 *
 * usage: bench_access [--json FILE] [--peer LIBRARY]
 *
 * Built against the installed shared library, as a user's program is. The peer is a small Rust
 * library (bench/peer) around Debian's vm-memory; its loops run in the same process in turn with
 * ours.
 */
#include <dlfcn.h>
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define SET (16 * 1024)      /* bytes of the dependent chain */
#define WALK (32 * 1024 - 8) /* bytes over which independent accesses go */
#define RANDOM 4096u         /* addresses of the random look-ups */
#define BOUNDARY (UINT64_C(1) << 20)

/* Four accesses a round, on both sides: the cost of a loop of one depends on where the linker
 * happens to put it. */
#ifdef __clang__
#define UNROLL /* cannot copy asm goto; scripts/bench uses gcc */
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

static struct gm_space *space;
static struct gm_reader *reader;
static const struct gm_view *view;
static uint8_t *raw; /* plain memory of this process */
static uint8_t buffer[65536] __attribute__((aligned(64)));

/* ---- 8-byte objects ---- */

static void read_u64(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t sum = 0;
	uint64_t gpa = 0;

	(void)ctx;
	UNROLL
	for (uint64_t i = 0; i < iters; i++) {
		uint64_t value;

		if (gm_read_u64(mine, gpa, &value))
			abort();
		sum += value;
		gpa = (gpa + 8) & WALK;
	}
	bench_sink = sum;
}

static void write_u64(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = 0;

	(void)ctx;
	UNROLL
	for (uint64_t i = 0; i < iters; i++) {
		if (gm_write_u64(mine, 65536 + gpa, i))
			abort();
		gpa = (gpa + 8) & WALK;
	}
}

static void atomic_load(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t sum = 0;
	uint64_t gpa = 0;

	(void)ctx;
	UNROLL
	for (uint64_t i = 0; i < iters; i++) {
		uint64_t value;

		if (gm_atomic_load_u64(mine, gpa, __ATOMIC_RELAXED, &value))
			abort();
		sum += value;
		gpa = (gpa + 8) & WALK;
	}
	bench_sink = sum;
}

static void atomic_store(void *ctx, uint64_t iters)
{
	const struct gm_view *mine = view;
	uint64_t gpa = 0;

	(void)ctx;
	UNROLL
	for (uint64_t i = 0; i < iters; i++) {
		if (gm_atomic_store_u64(mine, 65536 + gpa, __ATOMIC_RELAXED, i))
			abort();
		gpa = (gpa + 8) & WALK;
	}
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
static struct many *make_many(uint32_t nr)
{
	struct many *many = calloc(1, sizeof(*many));
	struct gm_block_opts backing = {
		.size = sizeof(backing), .len = 4096, .reserve = GM_RESERVE_NONE};
	struct gm_region_desc *descs = calloc(nr, sizeof(*descs));
	struct gm_error err;
	uint64_t seed = 2463534242u;

	for (uint32_t i = 0; i < nr; i++)
		descs[i] = (struct gm_region_desc){
			.size = sizeof(*descs), .gpa = UINT64_C(8192) * i, .backing = &backing};
	if (gm_space_build(NULL, descs, nr, &many->space, &err) ||
		gm_reader_create(many->space, "bench", &many->reader, &err)) {
		fprintf(stderr, "bench: %s\n", err.text);
		exit(1);
	}
	free(descs);
	many->view = gm_reader_enter(many->reader);
	for (uint32_t i = 0; i < RANDOM; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		many->addresses[i] = UINT64_C(8192) * (seed % nr) + (seed >> 40) % 4080;
	}
	return many;
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

static struct ring make_ring(const struct gm_view *of, uint64_t gpa)
{
	struct ring ring = {.view = of, .gpa = gpa};

	if (gm_cache_init(&ring.cache, of, gpa, 4096, GM_PERM_RW))
		abort();
	return ring;
}

static void ring_cached(void *ctx, uint64_t iters)
{
	struct ring *ring = ctx;
	const struct gm_view *mine = ring->view;
	uint64_t sum = 0;
	uint64_t off = 0;

	UNROLL
	for (uint64_t i = 0; i < iters; i++) {
		uint64_t value;

		if (gm_cache_read_u64(&ring->cache, mine, off, &value))
			abort();
		sum += value;
		off = (off + 8) & RING_MASK;
	}
	bench_sink = sum;
}

static void ring_by_address(void *ctx, uint64_t iters)
{
	const struct ring *ring = ctx;
	const struct gm_view *mine = ring->view;
	uint64_t sum = 0;
	uint64_t off = 0;

	UNROLL
	for (uint64_t i = 0; i < iters; i++) {
		uint64_t value;

		if (gm_read_u64(mine, ring->gpa + off, &value))
			abort();
		sum += value;
		off = (off + 8) & RING_MASK;
	}
	bench_sink = sum;
}

/* ---- sections ---- */

static void section(void *ctx, uint64_t iters)
{
	struct gm_reader *mine = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		bench_sink = (uintptr_t)gm_reader_enter(mine);
		gm_reader_leave(mine);
	}
}

/* ---- the peer ---- */

static struct {
	bench_fn read_obj;
	bench_fn write_obj;
	bench_fn load;
	bench_fn store;
	const char *missing;
} peer = {.missing = "no peer library (cargo or librust-vm-memory-dev is missing)"};

static void load_peer(const char *path)
{
	void *lib = path ? dlopen(path, RTLD_NOW) : NULL;

	if (!lib)
		return;
	*(void **)&peer.read_obj = dlsym(lib, "peer_read_obj");
	*(void **)&peer.write_obj = dlsym(lib, "peer_write_obj");
	*(void **)&peer.load = dlsym(lib, "peer_load");
	*(void **)&peer.store = dlsym(lib, "peer_store");
	if (peer.read_obj && peer.write_obj && peer.load && peer.store)
		peer.missing = NULL;
}

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

	if (gm_space_build(NULL, descs, 2, &space, &err) ||
		gm_reader_create(space, "bench", &reader, &err)) {
		fprintf(stderr, "bench: %s\n", err.text);
		exit(1);
	}
	gm_guard_install();
	view = gm_reader_enter(reader);
	raw = aligned_alloc(4096, 1 << 20);
	memset(raw, 1, 1 << 20);
	memset(buffer, 2, sizeof(buffer));
}

int main(int argc, char **argv)
{
	const char *json = NULL;
	uint64_t chain_at = 131072;
	struct gm_reader *other;
	struct gm_error err;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--json") == 0)
			json = argv[i + 1];
		else if (strcmp(argv[i], "--peer") == 0)
			load_peer(argv[i + 1]);
	}
	set_up();
	make_chain(chain_at, raw + 262144);
	if (gm_reader_create(space, "section", &other, &err))
		return 1;

	struct copy small = {.gpa = 4096, .len = 512, .from = raw};
	struct copy page = {.gpa = 4096, .len = 4096, .from = raw};
	struct copy inside = {.gpa = BOUNDARY - 1024, .len = 512, .from = raw};
	struct copy across = {.gpa = BOUNDARY - 256, .len = 512, .from = raw};
	struct copy inside_page = {.gpa = BOUNDARY - 8192, .len = 4096, .from = raw};
	struct copy across_page = {.gpa = BOUNDARY - 2048, .len = 4096, .from = raw};
	struct many *few = make_many(8);
	struct many *some = make_many(256);
	struct many *lots = make_many(10000);
	struct ring main_ring = make_ring(view, 8192);
	struct ring other_ring = make_ring(some->view, UINT64_C(8192) * 100);
	const char *vmm = "vm-memory 0.10";
	const struct bench_row rows[] = {
		{"read of 8 bytes, open section", read_u64, NULL, "limit", NULL, NULL, 3.0, 1.0,
			NULL},
		{"write of 8 bytes, open section", write_u64, NULL, "limit", NULL, NULL, 3.0, 1.0,
			NULL},
		{"dependent reads, 16 KiB", chain_ours, &chain_at, "raw pointer chase", chain_raw,
			raw + 262144, 0, 2.0, NULL},
		{"read object", read_u64, NULL, vmm, peer.read_obj, NULL, 0, 0.25, peer.missing},
		{"write object", write_u64, NULL, vmm, peer.write_obj, NULL, 0, 0.25, peer.missing},
		{"atomic load", atomic_load, NULL, vmm, peer.load, NULL, 0, 0.25, peer.missing},
		{"atomic store", atomic_store, NULL, vmm, peer.store, NULL, 0, 0.25, peer.missing},
		{"read 512 bytes", copy_out, &small, "libc memcpy", libc_copy_out, &small, 0, 1.3,
			NULL},
		{"write 512 bytes", copy_in, &small, "libc memcpy", libc_copy_in, &small, 0, 1.3,
			NULL},
		{"read 4 KiB", copy_out, &page, "libc memcpy", libc_copy_out, &page, 0, 1.05, NULL},
		{"write 4 KiB", copy_in, &page, "libc memcpy", libc_copy_in, &page, 0, 1.05, NULL},
		{"read 512 bytes across two regions", copy_out, &across, "inside one", copy_out,
			&inside, 0, 1.1, NULL},
		{"read 4 KiB across two regions", copy_out, &across_page, "inside one", copy_out,
			&inside_page, 0, 1.1, NULL},
		{"look-up, 256 regions, random", look_up, some, "8 regions", look_up, few, 0, 1.5,
			NULL},
		{"look-up, 10 000 regions, random", look_up, lots, "8 regions", look_up, few, 0,
			1.5, NULL},
		{"cached read, main memory", ring_cached, &main_ring, "by address", ring_by_address,
			&main_ring, 0, 1.5, NULL},
		{"cached read, other memory", ring_cached, &other_ring, "by address",
			ring_by_address, &other_ring, 0, 1.0, NULL},
		{"section, enter and leave", section, other, "limit", NULL, NULL, 5.0, 1.0, NULL},
	};

	bench_head();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		bench_run(&rows[i]);
	return bench_finish(json) ? 0 : 1;
}
