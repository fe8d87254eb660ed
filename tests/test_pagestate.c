/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pagestate.c - states of pages against an array of one byte each: every range over every pattern of a small
 * array, and threads that race for pages.
 */
#include <pthread.h>
#include <string.h>

#include "core/pagestate.h"
#include "random.h"
#include "support.h"

#define NR 40u /* three words, the last in part */
#define WORDS 3u

struct model {
	uint64_t words[WORDS + 1];
	uint8_t state[NR];
};

static void fill(struct model *m, struct rng *rng, unsigned int kinds)
{
	memset(m->words, 0, sizeof(m->words));
	m->words[WORDS] = UINT64_MAX;
	for (unsigned int i = 0; i < NR; i++) {
		m->state[i] = (uint8_t)rng_below(rng, kinds);
		assert_int_equal(
			gm_pagestate_turn(m->words, i, 1, 1u << GM_PAGE_ABSENT, m->state[i]), 1);
	}
}

static void assert_same(const struct model *m)
{
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(gm_pagestate_get(m->words, i), m->state[i]);
	assert_true(m->words[WORDS] == UINT64_MAX);
	assert_int_equal(m->words[WORDS - 1] >> (NR % GM_PAGESTATE_WORD * 4), 0);
}

static void check_questions(const struct model *m, unsigned int first, unsigned int nr)
{
	uint64_t counts[GM_PAGE_STATES] = {0};
	uint64_t mine[GM_PAGE_STATES] = {0};
	unsigned int run = 0;

	while (run < nr && m->state[first + run] == m->state[first])
		run++;
	assert_int_equal(gm_pagestate_run(m->words, first, nr), run);
	gm_pagestate_count(m->words, first, nr, counts);
	for (unsigned int i = 0; i < nr; i++)
		mine[m->state[first + i]]++;
	assert_memory_equal(counts, mine, sizeof(mine));
	for (unsigned int state = 0; state < GM_PAGE_STATES; state++) {
		unsigned int at = 0;

		while (at < nr && m->state[first + at] != state)
			at++;
		assert_int_equal(gm_pagestate_find(m->words, first, nr, state), at);
	}
}

static void check_changes(const struct model *m, unsigned int first, unsigned int nr)
{
	struct model now = *m;
	unsigned int done = 0;
	unsigned int hits = 0;

	while (done < nr && now.state[first + done] == GM_PAGE_ABSENT)
		now.state[first + done++] = GM_PAGE_LOADING;
	assert_int_equal(
		gm_pagestate_claim(now.words, first, nr, GM_PAGE_ABSENT, GM_PAGE_LOADING), done);
	assert_same(&now);
	for (unsigned int i = first; i < first + nr; i++) {
		if (now.state[i] == GM_PAGE_LOADING || now.state[i] == GM_PAGE_PRESENT) {
			now.state[i] = GM_PAGE_REMOVED;
			hits++;
		}
	}
	assert_int_equal(gm_pagestate_turn(now.words, first, nr,
				 1u << GM_PAGE_LOADING | 1u << GM_PAGE_PRESENT, GM_PAGE_REMOVED),
		hits);
	assert_same(&now);
}

static void every_range_is_as_in_a_plain_array(void **state)
{
	struct rng rng = {test_seed(3)};
	unsigned long rounds = support_scale(12);

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		struct model m;

		fill(&m, &rng, 1 + (unsigned int)(round % GM_PAGE_STATES));
		assert_same(&m);
		for (unsigned int first = 0; first < NR; first++) {
			for (unsigned int nr = 1; nr <= NR - first; nr++) {
				check_questions(&m, first, nr);
				check_changes(&m, first, nr);
			}
		}
	}
}

static void every_state_leads_to_every_other(void **state)
{
	(void)state;
	for (unsigned int at = 0; at < NR; at++) {
		for (unsigned int from = 0; from < GM_PAGE_STATES; from++) {
			for (unsigned int to = 0; to < GM_PAGE_STATES; to++) {
				uint64_t words[WORDS] = {0};

				gm_pagestate_turn(words, at, 1, 1u << GM_PAGE_ABSENT, from);
				assert_false(gm_pagestate_change(
					words, at, (from + 1) % GM_PAGE_STATES, to));
				assert_int_equal(gm_pagestate_get(words, at), from);
				assert_true(gm_pagestate_change(words, at, from, to));
				assert_int_equal(gm_pagestate_get(words, at), to);
			}
		}
	}
}

/* The array may be memory that another process had: what it left there must not be trusted. */
static void what_is_no_state_is_absent(void **state)
{
	uint64_t words[1] = {UINT64_MAX};
	uint64_t counts[GM_PAGE_STATES] = {0};

	(void)state;
	assert_int_equal(gm_pagestate_get(words, 3), GM_PAGE_ABSENT);
	gm_pagestate_count(words, 0, 16, counts);
	assert_int_equal(counts[GM_PAGE_ABSENT], 16);
	assert_int_equal(gm_pagestate_claim(words, 0, 16, GM_PAGE_ABSENT, GM_PAGE_LOADING), 16);
	assert_int_equal(gm_pagestate_get(words, 15), GM_PAGE_LOADING);
	assert_int_equal(gm_pagestate_words(0), 0);
	assert_int_equal(gm_pagestate_words(16), 1);
	assert_int_equal(gm_pagestate_words(17), 2);
}

#define RACE_PAGES 4096u
#define RACERS 3u

static uint64_t race_words[RACE_PAGES / GM_PAGESTATE_WORD];
static uint8_t claims[RACERS][RACE_PAGES];

static void *race(void *arg)
{
	uint8_t *mine = arg;

	for (unsigned int at = 0; at < RACE_PAGES;) {
		unsigned int left = RACE_PAGES - at;
		unsigned int nr = 1 + at % 7 < left ? 1 + at % 7 : left;
		uint64_t got =
			gm_pagestate_claim(race_words, at, nr, GM_PAGE_ABSENT, GM_PAGE_LOADING);

		memset(mine + at, 1, got);
		at += got ? (unsigned int)got : 1;
	}
	return NULL;
}

static void a_page_is_claimed_by_one(void **state)
{
	pthread_t threads[RACERS];

	(void)state;
	memset(race_words, 0, sizeof(race_words));
	memset(claims, 0, sizeof(claims));
	for (unsigned int i = 0; i < RACERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, claims[i]), 0);
	for (unsigned int i = 0; i < RACERS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int at = 0; at < RACE_PAGES; at++) {
		assert_int_equal(claims[0][at] + claims[1][at] + claims[2][at], 1);
		assert_int_equal(gm_pagestate_get(race_words, at), GM_PAGE_LOADING);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_range_is_as_in_a_plain_array),
		cmocka_unit_test(every_state_leads_to_every_other),
		cmocka_unit_test(what_is_no_state_is_absent),
		cmocka_unit_test(a_page_is_claimed_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
