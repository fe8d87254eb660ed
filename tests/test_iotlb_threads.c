/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_iotlb_threads.c - readers of the IOTLB against its writer.
 *
 * Each of some areas holds one version of a mapping after another. From the version follow its
 * ends, its target and its permissions, so that a reader sees a mixture of two; the target names
 * area and version. The writer tells for each area the oldest version that a look-up may still
 * find, and the newest that has been begun.
 */
#include "iotlb_table.h"

#include <pthread.h>
#include <stdio.h>

#include "random.h"

#define AREAS 32u
#define AREA_SHIFT 21
#define CAPACITY 24u /* less than areas, so that there is eviction */
#define READERS 2
#define VERSION_SHIFT 28

static struct gm_iotlb *iotlb;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t oldest[AREAS]; /* atomic */
static uint64_t newest[AREAS]; /* atomic */
static int stop;               /* atomic */

struct worker {
	pthread_t thread;
	struct rng rng;
	uint64_t hits;
	uint64_t misses;
	uint64_t wrong;
};

/* ---- what belongs to a version ---- */

static struct gm_translation version_of(uint64_t area, uint64_t version)
{
	uint64_t len = UINT64_C(4096) << version % 9;
	uint64_t first = (area << AREA_SHIFT) + version % 7 * 1111;
	uint64_t target = area << 56 | version << VERSION_SHIFT;

	return (struct gm_translation){
		.first = first,
		.last = first + len - 1 + version % 5,
		.delta = target - first,
		.perms = 1 + (uint32_t)(version % 3),
	};
}

/* Sometimes one byte is taken out of the middle. */
static uint64_t middle_of(const struct gm_translation *whole)
{
	return whole->first + (whole->last - whole->first) / 2;
}

/* All of a version, or what is left below or above its middle. */
static bool is_whole(const struct gm_translation *found, uint64_t area, uint64_t version)
{
	struct gm_translation want = version_of(area, version);
	uint64_t middle = middle_of(&want);

	return found->delta == want.delta && found->perms == want.perms &&
	       (found->first == want.first || found->first == middle + 1) &&
	       (found->last == want.last || found->last == middle - 1);
}

static bool is_right(
	const struct gm_translation *found, uint64_t area, uint64_t addr, uint64_t from)
{
	uint64_t target = found->first + found->delta;
	uint64_t version = (target >> VERSION_SHIFT) & ((UINT64_C(1) << VERSION_SHIFT) - 1);
	/* Pairs with the release in begin_version(). */
	uint64_t to = __atomic_load_n(&newest[area], __ATOMIC_ACQUIRE);

	return target >> 56 == area && version >= from && version <= to && addr >= found->first &&
	       addr <= found->last && is_whole(found, area, version);
}

/* ---- readers ---- */

/* The answer of the tree, which also puts copies back that were left out. */
static void ask_tree(uint64_t addr)
{
	struct gm_iotlb_answer answer = {0};

	pthread_mutex_lock(&lock);
	gm_iotlb_lookup(iotlb, addr, 1, 0, &answer);
	pthread_mutex_unlock(&lock);
}

static void read_once(struct worker *self)
{
	uint64_t area = rng_below(&self->rng, AREAS);
	uint64_t addr = (area << AREA_SHIFT) +
			rng_below(&self->rng, UINT64_C(1) << (12 + rng_below(&self->rng, 9)));
	/* Pairs with the release in retire(). */
	uint64_t from = __atomic_load_n(&oldest[area], __ATOMIC_ACQUIRE);
	struct gm_translation found;

	if (gm_quick_find(&iotlb->quick, addr, &found)) {
		self->hits++;
		self->wrong += !is_right(&found, area, addr, from);
		return;
	}
	self->misses++;
	if (rng_below(&self->rng, 64) == 0)
		ask_tree(addr);
}

static void *reader(void *ctx)
{
	struct worker *self = ctx;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		read_once(self);
	return NULL;
}

/* ---- the writer ---- */

static uint64_t begin_version(uint64_t area, uint64_t more)
{
	uint64_t version = newest[area] + more;

	__atomic_store_n(&newest[area], version, __ATOMIC_RELEASE);
	return version;
}

/* Older ones are gone from the table. */
static void retire(uint64_t area, uint64_t version)
{
	__atomic_store_n(&oldest[area], version, __ATOMIC_RELEASE);
}

static void forget_area(uint64_t area)
{
	assert_int_equal(unmap(iotlb, area << AREA_SHIFT, ((area + 1) << AREA_SHIFT) - 1), 0);
	retire(area, newest[area] + 1);
}

static void map_next(uint64_t area)
{
	uint64_t version;
	struct gm_translation next;

	forget_area(area);
	version = begin_version(area, 1);
	next = version_of(area, version);
	assert_int_equal(map(iotlb, next.first, next.last, next.first + next.delta, next.perms), 0);
	retire(area, version);
}

/* The same ends and permissions, another target: both versions are found whole. */
static void map_over(uint64_t area)
{
	uint64_t version = begin_version(area, 315); /* 7, 5, 9 and 3 divide it */
	struct gm_translation next = version_of(area, version);

	assert_int_equal(map(iotlb, next.first, next.last, next.first + next.delta, next.perms), 0);
	retire(area, version);
}

static void cut_middle(uint64_t area)
{
	struct gm_translation it = version_of(area, newest[area]);
	uint64_t middle = middle_of(&it);

	assert_int_equal(unmap(iotlb, middle, middle), 0);
}

static void write_once(struct rng *rng)
{
	uint64_t area = rng_below(rng, AREAS);

	switch (rng_below(rng, 16)) {
	case 0:
		forget_area(area);
		break;
	case 1:
	case 2:
		cut_middle(area);
		break;
	case 3:
		if (rng_below(rng, 64))
			break;
		gm_iotlb_flush_to(iotlb, iotlb->generation + 1);
		for (uint64_t i = 0; i < AREAS; i++)
			retire(i, newest[i] + 1);
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		map_over(area);
		break;
	default:
		map_next(area);
	}
}

static void readers_find_an_old_or_a_new_mapping_and_no_mixture(void **state)
{
	struct worker workers[READERS] = {{0}};
	struct rng rng = {test_seed(21)};
	unsigned long changes = support_scale(200000);
	unsigned long long hits = 0;

	(void)state;
	iotlb = make_table(CAPACITY);
	for (unsigned int i = 0; i < READERS; i++) {
		workers[i].rng.state = test_seed(22) + i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, reader, &workers[i]), 0);
	}
	for (unsigned long i = 0; i < changes; i++) {
		pthread_mutex_lock(&lock);
		write_once(&rng);
		pthread_mutex_unlock(&lock);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < READERS; i++) {
		pthread_join(workers[i].thread, NULL);
		hits += workers[i].hits;
		assert_int_equal(workers[i].wrong, 0);
		assert_true(workers[i].hits > 0 && workers[i].misses > 0);
	}
	assert_true(gm_iotlb_is_valid(iotlb));
	assert_true(iotlb->nr_evicted > 0);
	print_message(
		"figure: iotlb-changes %lu\nfigure: iotlb-checked-hits %llu\n", changes, hits);
	free(iotlb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_find_an_old_or_a_new_mapping_and_no_mixture),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
