/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_race.c - faulting threads, discards, prefetch of ranges and sets, recording and slow sources at once, in
 * each sort of memory: a byte is the source's, what was written last, or zero where the page was given back; nobody
 * hangs.
 *
 * Pages are cut into lanes, one for each thread that writes and discards, so that each knows what its bytes have to be.
 * All threads read all lanes: there a word is right in itself.
 */
#include <fcntl.h>
#include <guestmem/clone.h>
#include <guestmem/discard.h>
#include <guestmem/guard.h>
#include <guestmem/wset.h>
#include <stdio.h>
#include <stdlib.h>

#include "one_pager.h"
#include "random.h"

#define PAGES 512u
#define LEN (PAGES * PAGE)
#define LANES 2u

enum known { FROM_SOURCE, WRITTEN, ZERO };

struct lane {
	pthread_t thread;
	unsigned int number;
	uint8_t *at;
	struct gm_space *space; /* or NULL: by madvise */
	uint64_t ops;
	uint64_t area;
	uint64_t wrong;
	uint8_t known[PAGES];
	uint64_t value[PAGES];
	struct rng rng;
};

static uint64_t written(uint64_t page, uint64_t value)
{
	return value << 32 | page << 8 | 0x55;
}

/* Right for some moment: the source's word, one that was written, or zero. */
static bool is_plausible(uint64_t page, uint64_t word)
{
	return word == 0 || word == word_at(page * PAGE) ||
	       (word & 0xffffffff) == (page << 8 | 0x55);
}

static void check_own(struct lane *l, uint64_t page)
{
	const volatile uint64_t *at = (const volatile uint64_t *)(l->at + page * PAGE);
	uint64_t first = at[0];
	uint64_t last = at[511];
	bool good = false;

	switch (l->known[page]) {
	case FROM_SOURCE:
		good = first == word_at(page * PAGE) && last == word_at(page * PAGE + 511 * 8);
		break;
	case WRITTEN:
		/* The last word is as it was before: the source's, or zero. */
		good = first == written(page, l->value[page]) &&
		       (last == 0 || last == word_at(page * PAGE + 511 * 8));
		break;
	default:
		good = first == 0 && last == 0;
	}
	if (!good) {
		fprintf(stderr, "page %lu of lane %u, state %u: %lx, %lx\n", (unsigned long)page,
			l->number, l->known[page], (unsigned long)first, (unsigned long)last);
		l->wrong++;
	}
}

static void give_back(struct lane *l, uint64_t page)
{
	if (l->space)
		assert_int_equal(
			gm_discard(l->space, page * PAGE, PAGE, GM_DISCARD_NOW, 0, NULL, NULL), 0);
	else
		assert_int_equal(madvise(l->at + page * PAGE, PAGE, MADV_DONTNEED), 0);
	l->known[page] = ZERO;
}

static struct gm_wset_recorder *recorder;
static struct gm_wset *set;
static uint64_t recorded; /* pages, of all rounds */

/* Every page but the third, the last one first. */
static void begin_sets(void)
{
	const uint8_t name[16] = {1};
	struct gm_wset_run runs[PAGES];
	size_t nr = 0;

	for (uint64_t page = PAGES; page-- > 0;) {
		if (page % 3)
			runs[nr++] = (struct gm_wset_run){.off = page * PAGE, .len = PAGE};
	}
	assert_ok(gm_wset_create(runs, nr, LEN, name, &set, &err));
	assert_ok(gm_wset_recorder_create(
		GM_OPTS(gm_wset_recorder_opts, .len = LEN), &recorder, &err));
	assert_ok(gm_pager_record(pager, 0, recorder, &err));
}

/* What was recorded holds together: each page once. */
static void end_sets(void)
{
	const uint8_t name[16] = {1};
	struct gm_wset_info info = {.size = sizeof(info)};
	struct gm_wset *seen;

	assert_ok(gm_wset_recorder_take(recorder, name, &seen, &err));
	gm_wset_info(seen, &info);
	/* All may have been brought before anybody asked. */
	assert_true(info.pages <= PAGES);
	recorded += info.pages;
	assert_int_equal(info.ordered, info.pages);
	gm_wset_destroy(seen);
	gm_wset_destroy(set);
	gm_wset_recorder_destroy(recorder);
}

static void *race(void *arg)
{
	struct lane *l = arg;

	for (uint64_t op = 0; op < l->ops; op++) {
		uint64_t any = rng_below(&l->rng, PAGES);
		uint64_t mine = any / LANES * LANES + l->number;
		uint64_t word;

		switch (rng_below(&l->rng, 16)) {
		case 0:
			give_back(l, mine);
			break;
		case 1:
		case 2:
			l->value[mine] = (uint32_t)rng_next(&l->rng);
			__atomic_store_n((uint64_t *)(l->at + mine * PAGE),
				written(mine, l->value[mine]), __ATOMIC_RELAXED);
			l->known[mine] = WRITTEN;
			break;
		case 3:
			/* A set is all of the memory, a plan of it lasts. */
			if (rng_below(&l->rng, 64) == 0)
				assert_int_equal(
					gm_pager_prefetch_set(pager, 0, set, any % 2, NULL), 0);
			gm_pager_prefetch(pager, l->area, any * PAGE,
				(1 + rng_below(&l->rng, 32)) % (PAGES - any + 1) * PAGE);
			break;
		case 4:
		case 5:
		case 6:
			word = __atomic_load_n((uint64_t *)(l->at + any * PAGE), __ATOMIC_RELAXED);
			l->wrong += !is_plausible(any, word);
			break;
		default:
			check_own(l, mine);
		}
	}
	return NULL;
}

static struct lane lanes[LANES];

/* Each round begins with nothing there. */
static void race_once(
	uint8_t *at, struct gm_space *space, uint64_t area, uint64_t ops, uint64_t seed)
{
	begin_sets();
	start_stepping();
	for (unsigned int i = 0; i < LANES; i++) {
		lanes[i] = (struct lane){.number = i,
			.at = at,
			.space = space,
			.ops = ops,
			.area = area,
			.rng = {test_seed(seed * LANES + i)}};
		assert_int_equal(pthread_create(&lanes[i].thread, NULL, race, &lanes[i]), 0);
	}
	for (unsigned int i = 0; i < LANES; i++) {
		pthread_join(lanes[i].thread, NULL);
		assert_int_equal(lanes[i].wrong, 0);
	}
	stop_stepping();
	assert_ok(gm_pager_stop(pager, GM_PAGER_COMPLETE, 60000, &err));
	for (unsigned int i = 0; i < LANES; i++) {
		for (uint64_t page = i; page < PAGES; page += LANES)
			check_own(&lanes[i], page);
		assert_int_equal(lanes[i].wrong, 0);
	}
	end_sets();
}

#define OPS 6000u /* of a lane in a round */

static void report(const char *what, unsigned long rounds)
{
	assert_true(recorded > 0);
	recorded = 0;
	if (getenv("GM_SOAK"))
		printf("figure: pager-race-%s %lu\n", what, rounds * LANES * OPS);
}

static void private_memory_with_messages(void **state)
{
	unsigned long rounds = support_scale(6);

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		uint8_t *at = map_anon(LEN);
		uint64_t area;

		start_pager_with(LEN, (struct gm_pager_opts){.retry_ns = 20000});
		of_source.slow_ns = round % 3 == 1 ? 20000 : 0;
		of_source.unit = round % 2 ? 4 * PAGE : 0;
		assert_ok(gm_pager_add_range(pager, at, LEN,
			AREA(.source = source, .flags = GM_PAGER_EVENTS), &area, &err));
		if (round % 3 == 2)
			gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0);
		race_once(at, NULL, area, OPS, round);
		assert_ok(gm_pager_destroy(pager, &err));
		gm_source_destroy(source);
		munmap(at, LEN);
	}
	report("messages", rounds);
}

enum sort { PRIVATE, SHARED, CLONE };

static void race_space(enum sort sort, unsigned long rounds)
{
	const uint32_t flags[] = {0, GM_BLOCK_SHARE, GM_BLOCK_PRIVATE};

	for (unsigned long round = 0; round < rounds; round++) {
		struct gm_region_info info = {.size = sizeof(info)};
		struct gm_space *space;
		uint64_t area;
		uint64_t id;
		int fd = -1;

		start_pager_with(LEN, (struct gm_pager_opts){.retry_ns = 20000});
		if (sort == CLONE)
			assert_ok(gm_clone_image(source, NULL, &fd, &err));
		of_source.slow_ns = round % 3 == 1 ? 20000 : 0;
		of_source.unit = round % 2 ? 4 * PAGE : 0;
		assert_ok(
			gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
		assert_ok(gm_space_add(space,
			GM_OPTS(gm_region_desc,
				.backing = GM_OPTS(gm_block_opts, .len = LEN, .flags = flags[sort],
					.backing = sort == CLONE ? GM_BACKING_FD : GM_BACKING_ANON,
					.fd = fd)),
			&id, &err));
		assert_int_equal(gm_space_region(space, id, &info), 0);
		assert_ok(gm_pager_add_space(pager, space, 0, LEN,
			AREA(.source = sort == CLONE ? NULL : source,
				.way = sort == CLONE ? GM_PAGER_CONTINUE : GM_PAGER_AUTO),
			&area, &err));
		assert_int_equal(
			area_info(area).way, sort == PRIVATE ? GM_PAGER_COPY : GM_PAGER_CONTINUE);
		if (round % 3 == 2)
			gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0);
		race_once(info.hva, space, area, OPS, round + 1000);
		assert_ok(gm_pager_destroy(pager, &err));
		gm_source_destroy(source);
		gm_space_destroy(space);
		if (fd >= 0)
			close(fd);
	}
}

static void private_memory_of_a_space(void **state)
{
	(void)state;
	race_space(PRIVATE, support_scale(6));
	report("private", support_scale(6));
}

static void shared_memory_of_a_space(void **state)
{
	(void)state;
	race_space(SHARED, support_scale(6));
	report("shared", support_scale(6));
}

static void a_clone_in_a_space(void **state)
{
	(void)state;
	race_space(CLONE, support_scale(6));
	report("clone", support_scale(6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(private_memory_with_messages),
		cmocka_unit_test(private_memory_of_a_space),
		cmocka_unit_test(shared_memory_of_a_space),
		cmocka_unit_test(a_clone_in_a_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
