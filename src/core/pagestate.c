/* SPDX-License-Identifier: BSD-3-Clause */
/* pagestate.c - see pagestate.h. */
#include "core/pagestate.h"

#define EACH UINT64_C(0x1111111111111111) /* the lowest bit of each state */

/* How many of @nr states from @at on lie in one word. */
static uint64_t in_word(uint64_t at, uint64_t nr)
{
	uint64_t room = GM_PAGESTATE_WORD - at % GM_PAGESTATE_WORD;

	return nr < room ? nr : room;
}

static uint64_t state_of(uint64_t word, uint64_t at)
{
	uint64_t state = word >> at % GM_PAGESTATE_WORD * 4 & 15;

	return state < GM_PAGE_STATES ? state : GM_PAGE_ABSENT;
}

static uint64_t with_state(uint64_t word, uint64_t at, uint64_t state)
{
	unsigned int shift = (unsigned int)(at % GM_PAGESTATE_WORD * 4);

	return (word & ~(UINT64_C(15) << shift)) | state << shift;
}

bool gm_pagestate_change(uint64_t *words, uint64_t at, enum gm_pagestate from, enum gm_pagestate to)
{
	return gm_pagestate_claim(words, at, 1, from, to) == 1;
}

uint64_t gm_pagestate_claim(
	uint64_t *words, uint64_t first, uint64_t nr, enum gm_pagestate from, enum gm_pagestate to)
{
	uint64_t done = 0;

	while (done < nr) {
		uint64_t at = first + done;
		uint64_t *word = &words[at / GM_PAGESTATE_WORD];
		uint64_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		uint64_t n = in_word(at, nr - done);
		uint64_t new = old;
		uint64_t i = 0;

		while (i < n && state_of(old, at + i) == from) {
			new = with_state(new, at + i, to);
			i++;
		}
		if (i == 0)
			break;
		if (!__atomic_compare_exchange_n(
			    word, &old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			continue;
		done += i;
		if (i < n)
			break;
	}
	return done;
}

uint64_t gm_pagestate_turn(
	uint64_t *words, uint64_t first, uint64_t nr, uint32_t from, enum gm_pagestate to)
{
	uint64_t changed = 0;
	uint64_t done = 0;

	while (done < nr) {
		uint64_t at = first + done;
		uint64_t *word = &words[at / GM_PAGESTATE_WORD];
		uint64_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		uint64_t n = in_word(at, nr - done);
		uint64_t new = old;
		uint64_t hits = 0;
		/* Most words are whole and of one state. */
		bool whole = n == GM_PAGESTATE_WORD && old == (old & 15) * EACH;

		if (whole && !(from >> state_of(old, at) & 1)) {
			done += n;
			continue;
		}
		if (whole) {
			new = to *EACH;
			hits = n;
		}
		for (uint64_t i = 0; i < n && !whole; i++) {
			if (!(from >> state_of(old, at + i) & 1))
				continue;
			new = with_state(new, at + i, to);
			hits++;
		}
		if (hits && !__atomic_compare_exchange_n(
				    word, &old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			continue;
		changed += hits;
		done += n;
	}
	return changed;
}

uint64_t gm_pagestate_run(const uint64_t *words, uint64_t first, uint64_t nr)
{
	enum gm_pagestate state = gm_pagestate_get(words, first);
	uint64_t done = 1;

	while (done < nr) {
		uint64_t at = first + done;

		/* Most words are whole and of one state. */
		if (at % GM_PAGESTATE_WORD == 0 && nr - done >= GM_PAGESTATE_WORD &&
			__atomic_load_n(&words[at / GM_PAGESTATE_WORD], __ATOMIC_ACQUIRE) ==
				state * EACH) {
			done += GM_PAGESTATE_WORD;
			continue;
		}
		if (gm_pagestate_get(words, at) != state)
			break;
		done++;
	}
	return done;
}

uint64_t gm_pagestate_find(
	const uint64_t *words, uint64_t first, uint64_t nr, enum gm_pagestate state)
{
	uint64_t done = 0;

	while (done < nr && gm_pagestate_get(words, first + done) != state)
		done += gm_pagestate_run(words, first + done, nr - done);
	/* It may have changed between the two looks. */
	return done < nr ? done : nr;
}

void gm_pagestate_count(
	const uint64_t *words, uint64_t first, uint64_t nr, uint64_t counts[GM_PAGE_STATES])
{
	for (uint64_t done = 0; done < nr;) {
		uint64_t at = first + done;
		uint64_t word = __atomic_load_n(&words[at / GM_PAGESTATE_WORD], __ATOMIC_ACQUIRE);
		uint64_t n = in_word(at, nr - done);

		if (n == GM_PAGESTATE_WORD && word == state_of(word, at) * EACH) {
			counts[state_of(word, at)] += n;
		} else {
			for (uint64_t i = 0; i < n; i++)
				counts[state_of(word, at + i)]++;
		}
		done += n;
	}
}
