/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_part_threads.c - parts that are plugged, unplugged and converted while readers run: each access
 * finds the byte that belongs there or a clean error, and who asks is told one map.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)
#define PARTS 64u
#define AT GIB(1)
#define ALIAS_AT GIB(3)
#define READERS 2

enum { SHARED = GM_PART_SHARED, UNPLUGGED = GM_PART_UNPLUGGED, PRIVATE = GM_PART_PRIVATE };

static struct gm_block *memory;
static struct gm_block *guests_own;
static uint64_t region_id;
static bool over; /* atomic */

struct worker {
	pthread_t thread;
	struct gm_reader *reader;
	struct rng rng;
	unsigned long found;
	unsigned long holes;
	unsigned long refused;
	unsigned long wrong;
	bool stamps;
};

static uint64_t stamp(uint64_t page)
{
	return (page + 1) * UINT64_C(0x0101010101010101);
}

/* A reader reads a page's stamp, or writes it once more. */
static void access_once(struct worker *w, const struct gm_view *view)
{
	uint64_t page = rng_below(&w->rng, PARTS);
	uint64_t gpa = (rng_below(&w->rng, 4) ? AT : ALIAS_AT) + page * PAGE +
		       8 * rng_below(&w->rng, PAGE / 8);
	uint64_t value = stamp(page);
	int rc = w->stamps ? gm_write_u64(view, gpa, value) : gm_read_u64(view, gpa, &value);

	w->found += rc == 0;
	w->holes += rc == -EFAULT;
	w->refused += rc == -EACCES;
	w->wrong += (rc != 0 && rc != -EFAULT && rc != -EACCES) || value != stamp(page);
	/* In a section nothing changes. */
	w->wrong += gm_view_check(view, gpa, 8, GM_PERM_RW) != rc;
}

static void *read_on(void *arg)
{
	struct worker *w = arg;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		const struct gm_view *view = gm_reader_enter(w->reader);

		for (int i = 0; i < 8; i++)
			access_once(w, view);
		gm_reader_leave(w->reader);
	}
	return NULL;
}

/* The states are always such that pages 0 and 1 are in one, and page 2 in another. */
static void *ask_on(void *arg)
{
	struct worker *w = arg;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		struct gm_region_info info = {.size = sizeof(info)};
		uint32_t state = 9;
		uint64_t len = 0;

		w->wrong += gm_space_part(space, region_id, 0, &state, &len) != 0;
		w->wrong += len != 2 * PAGE || state > PRIVATE;
		w->wrong += gm_space_next(space, AT, &info) != 0 || info.len != 2 * PAGE;
		w->wrong += gm_space_region(space, region_id, &info) != 0 ||
			    info.unplugged + info.private_len > PARTS * PAGE;
		w->found++;
	}
	return NULL;
}

static void convert(struct rng *rng)
{
	uint64_t from = 3 + rng_below(rng, PARTS - 3);
	uint64_t nr = 1 + rng_below(rng, rng_below(rng, 2) ? 3 : PARTS - from);
	uint32_t first = (uint32_t)rng_below(rng, 3);
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	if (nr > PARTS - from)
		nr = PARTS - from;
	assert_ok(gm_txn_set_part(
		txn, region_id, from * PAGE, nr * PAGE, (uint32_t)rng_below(rng, 3), &err));
	assert_ok(gm_txn_set_part(txn, region_id, 0, 2 * PAGE, first, &err));
	assert_ok(gm_txn_set_part(txn, region_id, 2 * PAGE, PAGE, (first + 1) % 3, &err));
	if (rng_below(rng, 16) == 0)
		gm_txn_abort(txn);
	else
		assert_ok(gm_txn_commit(txn, &err));
}

static void build(void)
{
	const struct gm_view *view;

	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(8)));
	assert_ok(gm_block_create(
		BLOCK(.len = PARTS * PAGE, .flags = GM_BLOCK_SHARE), &memory, &err));
	assert_ok(gm_block_create(
		BLOCK(.len = PARTS * PAGE, .flags = GM_BLOCK_SHARE), &guests_own, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .block = memory, .granule = PAGE, .private_block = guests_own),
		&region_id, &err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = ALIAS_AT, .len = PARTS * PAGE, .kind = GM_REGION_ALIAS,
			.target = region_id),
		NULL, &err));
	view = gm_reader_enter(reader);
	for (uint64_t page = 0; page < PARTS; page++) {
		for (uint64_t off = 0; off < PAGE; off += 8)
			assert_int_equal(
				gm_write_u64(view, AT + page * PAGE + off, stamp(page)), 0);
	}
	gm_reader_leave(reader);
	assert_ok(gm_space_set_part(space, region_id, 2 * PAGE, PAGE, UNPLUGGED, &err));
}

static void readers_find_right_bytes_or_clean_errors(void **state)
{
	static struct worker workers[READERS + 1];
	struct rng rng = {test_seed(5)};

	(void)state;
	build();
	__atomic_store_n(&over, false, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS + 1; i++) {
		workers[i] =
			(struct worker){.rng = {test_seed(100) + (uint64_t)i}, .stamps = i == 1};
		assert_ok(gm_reader_create(space, "worker", &workers[i].reader, &err));
		assert_int_equal(pthread_create(&workers[i].thread, NULL,
					 i < READERS ? read_on : ask_on, &workers[i]),
			0);
	}
	for (unsigned long i = 0; i < support_scale(4000); i++)
		convert(&rng);
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS + 1; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong, 0);
		assert_true(workers[i].found > 0);
		if (getenv("GM_SOAK"))
			printf("figure: part-accesses %lu\n", workers[i].found + workers[i].holes);
		gm_reader_destroy(workers[i].reader);
	}
	assert_true(workers[0].holes > 0 && workers[0].refused > 0);
	stop();
	gm_block_put(memory);
	gm_block_put(guests_own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_find_right_bytes_or_clean_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
