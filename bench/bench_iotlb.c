/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_iotlb.c - hits in the IOTLB and changes of it.
 *
 * usage: bench_iotlb [--json FILE]
 *
 * The IOTLB is internal, so its sources are compiled in. Look-ups are of 8 bytes at random
 * addresses in random mappings; independent ones take the next address from a list, dependent ones
 * from the last answer as well.
 */
#include <pthread.h>
#include <stdlib.h>

#include "bench.h"
#include "core/iotlb.h"

#define ASKED (1u << 17) /* addresses, a power of two */
#define KIB(n) ((uint64_t)(n) << 10)
#define GIB(n) ((uint64_t)(n) << 30)

enum sizes { SMALL, LARGE, MIXED, ODD, ONE };

struct table {
	struct gm_iotlb *iotlb;
	uint64_t *asked;
	uint64_t *firsts;
	uint32_t nr;
	uint32_t cursor; /* of asked, goes on from sample to sample */
	uint64_t fresh;  /* addresses that were never mapped */
};

static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 2685821657736338717u;
}

/* Of what length the next mapping is. */
static uint64_t length_of(enum sizes sizes)
{
	uint64_t dice = next_random() >> 32;

	switch (sizes) {
	case SMALL:
		return KIB(4);
	case LARGE:
		return KIB(2048);
	case MIXED:
		return dice % 8 < 5 ? KIB(4) : dice % 8 < 7 ? KIB(2048) : GIB(1);
	case ODD:
		return KIB(4) * (1 + dice % 64);
	default:
		return GIB(1);
	}
}

static void *must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

static void map(struct table *table, uint64_t first, uint64_t len)
{
	const struct gm_range range = {first, first + (len - 1)};

	if (gm_iotlb_map(table->iotlb, 0, &range, next_random() >> 16, GM_PERM_RW))
		abort();
}

/* Anywhere: each mapping is alone in its 8 GiB, so that nothing is near anything else. */
static uint64_t place_anywhere(uint32_t i, uint64_t len)
{
	uint64_t gib = (uint64_t)i << 3 | (next_random() & 7);

	return gib * GIB(1) + next_random() % GIB(1) / len * len;
}

/* As guests do: an area for each length, in which one place of sixteen to two is taken. */
static uint64_t place_in_area(uint32_t i, uint64_t len)
{
	uint64_t stride = len == KIB(4) ? 16 : len == KIB(2048) ? 4 : 2;

	return len << 20 | (i * stride + next_random() % stride) * len;
}

static void fill(struct table *table, enum sizes sizes, uint64_t *lens)
{
	for (uint32_t i = 0; i < table->nr; i++) {
		lens[i] = length_of(sizes);
		table->firsts[i] =
			sizes == MIXED ? place_in_area(i, lens[i]) : place_anywhere(i, lens[i]);
		map(table, table->firsts[i], lens[i]);
	}
}

static void make(struct table *table, uint32_t nr, enum sizes sizes)
{
	uint64_t *lens = must(calloc(nr, sizeof(*lens)));
	size_t room = gm_iotlb_room(nr);

	table->iotlb =
		gm_iotlb_init(must(aligned_alloc(64, (room + 63) / 64 * 64)), nr, next_random());
	table->asked = must(calloc(ASKED, sizeof(uint64_t)));
	table->firsts = must(calloc(nr, sizeof(uint64_t)));
	table->nr = nr;
	table->fresh = UINT64_C(1) << 62;
	fill(table, sizes, lens);
	for (uint32_t i = 0; i < ASKED; i++) {
		uint32_t j = (uint32_t)(next_random() >> 32) % nr;

		table->asked[i] = table->firsts[j] + next_random() % (lens[j] - 8);
	}
	free(lens);
}

/* ---- look-ups ---- */

static uint64_t look_up_from(const struct table *table, uint32_t cursor, uint64_t iters)
{
	struct gm_iotlb_piece piece;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < iters; i++) {
		uint64_t iova = table->asked[(cursor + i) % ASKED];

		if (gm_iotlb_find(table->iotlb, iova, 8, GM_PERM_R, &piece) || piece.len != 8)
			abort();
		sum += piece.target;
	}
	return sum;
}

static void independent(void *ctx, uint64_t iters)
{
	struct table *table = ctx;

	bench_sink = look_up_from(table, table->cursor, iters);
	table->cursor += (uint32_t)iters;
}

/* The next address waits for the answer, without the processor knowing that it does not matter. */
static void dependent(void *ctx, uint64_t iters)
{
	struct table *table = ctx;
	struct gm_iotlb_piece piece;
	uint64_t nothing = 0;

	for (uint64_t i = 0; i < iters; i++) {
		uint64_t iova = table->asked[table->cursor++ % ASKED] + nothing;

		if (gm_iotlb_find(table->iotlb, iova, 8, GM_PERM_R, &piece))
			abort();
		nothing = piece.target;
		__asm__ volatile("and $0, %0" : "+r"(nothing));
	}
	bench_sink = nothing;
}

/* ---- changes ---- */

/* A mapping goes and comes back. */
static void unmap_and_map(void *ctx, uint64_t iters)
{
	struct table *table = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		uint64_t first = table->firsts[table->cursor++ * 40503u % table->nr];
		const struct gm_range range = {first, first + KIB(4) - 1};

		if (gm_iotlb_unmap(table->iotlb, &range))
			abort();
		map(table, first, KIB(4));
	}
}

/* Each new mapping puts an old one out. */
static void map_when_full(void *ctx, uint64_t iters)
{
	struct table *table = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		map(table, table->fresh, KIB(4));
		table->fresh += KIB(64);
	}
}

static void flush(void *ctx, uint64_t iters)
{
	struct table *table = ctx;

	for (uint64_t i = 0; i < iters; i++)
		gm_iotlb_unmap_all(table->iotlb);
}

/* ---- a second reader ---- */

static struct {
	pthread_t thread;
	const struct table *table;
	int stop; /* atomic */
} second;

static void *read_beside(void *ctx)
{
	uint64_t sum = 0;

	(void)ctx;
	for (uint32_t at = 77777; !__atomic_load_n(&second.stop, __ATOMIC_RELAXED); at += 1024)
		sum += look_up_from(second.table, at, 1024);
	return (void *)(uintptr_t)sum;
}

static void run_beside_reader(const struct bench_row *row)
{
	second.table = row->ours_ctx;
	second.stop = 0;
	if (pthread_create(&second.thread, NULL, read_beside, NULL))
		abort();
	bench_run(row);
	__atomic_store_n(&second.stop, 1, __ATOMIC_RELAXED);
	pthread_join(second.thread, NULL);
}

#define HIT(text, table, goal)                                                                     \
	{                                                                                          \
		text, independent, table, "limit", NULL, NULL, 15.0, goal, NULL                    \
	}
#define LATENCY(text, table)                                                                       \
	{                                                                                          \
		text, dependent, table, "independent", independent, table, 0, 0, NULL              \
	}
#define CHANGE(text, fn, table)                                                                    \
	{                                                                                          \
		text, fn, table, "limit", NULL, NULL, 1000.0, 1.0, NULL                            \
	}

static struct table small;
static struct table small_many;
static struct table large;
static struct table large_many;
static struct table mixed;
static struct table mixed_many;
static struct table odd;
static struct table odd_many;
static struct table one;

static const struct bench_row alone[] = {
	HIT("IOTLB hit, 4096 of 4 KiB", &small, 1.0),
	HIT("IOTLB hit, 65 536 of 4 KiB", &small_many, 1.0),
	HIT("IOTLB hit, 4096 of 2 MiB", &large, 1.0),
	HIT("IOTLB hit, 65 536 of 2 MiB", &large_many, 1.0),
	HIT("IOTLB hit, 4096 of 4 KiB, 2 MiB, 1 GiB", &mixed, 0),
	HIT("IOTLB hit, 65 536 of 4 KiB, 2 MiB, 1 GiB", &mixed_many, 0),
	HIT("IOTLB hit, 4096 of 1 to 64 pages", &odd, 0),
	HIT("IOTLB hit, 65 536 of 1 to 64 pages", &odd_many, 0),
	HIT("IOTLB hit, one of 1 GiB, any page", &one, 1.0),
	LATENCY("IOTLB hit, dependent, 4096 of 4 KiB", &small),
	LATENCY("IOTLB hit, dependent, 65 536 of 4 KiB", &small_many),
	LATENCY("IOTLB hit, dependent, 65 536 mixed", &mixed_many),
};
static const struct bench_row beside[] = {
	HIT("IOTLB hit, two readers, 4096 of 4 KiB", &small, 1.0),
	HIT("IOTLB hit, two readers, 65 536 of 4 KiB", &small_many, 1.0),
	HIT("IOTLB hit, two readers, 65 536 of 2 MiB", &large_many, 1.0),
	HIT("IOTLB hit, two readers, 65 536 mixed", &mixed_many, 0),
};
static const struct bench_row changes[] = {
	CHANGE("IOTLB unmap and map, 4096", unmap_and_map, &small),
	CHANGE("IOTLB unmap and map, 65 536", unmap_and_map, &small_many),
	CHANGE("IOTLB map when full, 4096", map_when_full, &small),
	CHANGE("IOTLB map when full, 65 536", map_when_full, &small_many),
	CHANGE("IOTLB forget all, 65 536", flush, &large_many),
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	make(&small, 4096, SMALL);
	make(&small_many, 65536, SMALL);
	make(&large, 4096, LARGE);
	make(&large_many, 65536, LARGE);
	make(&mixed, 4096, MIXED);
	make(&mixed_many, 65536, MIXED);
	make(&odd, 4096, ODD);
	make(&odd_many, 65536, ODD);
	make(&one, 1, ONE);
	bench_rows(alone, sizeof(alone) / sizeof(*alone));
	for (size_t i = 0; i < sizeof(beside) / sizeof(*beside); i++)
		run_beside_reader(&beside[i]);
	bench_rows(changes, sizeof(changes) / sizeof(*changes));
	return bench_end();
}
