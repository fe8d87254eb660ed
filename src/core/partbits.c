/* SPDX-License-Identifier: BSD-3-Clause */
/* partbits.c - see partbits.h. */
#include "core/partbits.h"

#define EACH UINT64_C(0x5555555555555555) /* the lower bit of each state */

static uint64_t all_of(uint32_t state)
{
	return state * EACH;
}

/* The lower bits of the @nr states of a word from @from on. */
static uint64_t lower_bits(uint64_t from, uint64_t nr)
{
	uint64_t below = nr < GM_PARTBITS_WORD ? (UINT64_C(1) << nr * 2) - 1 : UINT64_MAX;

	return (below & EACH) << from * 2;
}

/* How many of [at, end) lie in the word of @at. */
static uint64_t in_word(uint64_t at, uint64_t end)
{
	uint64_t room = GM_PARTBITS_WORD - at % GM_PARTBITS_WORD;

	return end - at < room ? end - at : room;
}

/* The lower bits of those of a word that are in another state. */
static uint64_t others(uint64_t word, uint32_t state)
{
	uint64_t differ = word ^ all_of(state);

	return (differ | differ >> 1) & EACH;
}

uint64_t gm_partbits_run(const uint64_t *words, uint64_t from, uint64_t nr)
{
	uint32_t state = gm_partbits_get(words, from);
	uint64_t all = all_of(state);
	uint64_t end = from + nr;
	uint64_t at = from;

	while (at < end) {
		uint64_t word = at / GM_PARTBITS_WORD;
		uint64_t n = in_word(at, end);
		uint64_t found = others(words[word], state) & lower_bits(at % GM_PARTBITS_WORD, n);

		if (found)
			return word * GM_PARTBITS_WORD + (uint64_t)__builtin_ctzll(found) / 2 -
			       from;
		at += n;
		/* Most words are whole and of one state. */
		while (end - at >= GM_PARTBITS_WORD && words[at / GM_PARTBITS_WORD] == all)
			at += GM_PARTBITS_WORD;
	}
	return nr;
}

uint64_t gm_partbits_count(const uint64_t *words, uint64_t from, uint64_t nr, uint32_t state)
{
	uint64_t end = from + nr;
	uint64_t count = 0;

	for (uint64_t at = from; at < end;) {
		uint64_t n = in_word(at, end);
		uint64_t same = ~others(words[at / GM_PARTBITS_WORD], state) &
				lower_bits(at % GM_PARTBITS_WORD, n);

		count += (uint64_t)__builtin_popcountll(same);
		at += n;
	}
	return count;
}

void gm_partbits_set(uint64_t *words, uint64_t from, uint64_t nr, uint32_t state)
{
	uint64_t end = from + nr;

	for (uint64_t at = from; at < end;) {
		uint64_t n = in_word(at, end);
		uint64_t mask = lower_bits(at % GM_PARTBITS_WORD, n) * 3;
		uint64_t *word = &words[at / GM_PARTBITS_WORD];

		*word = (*word & ~mask) | (all_of(state) & mask);
		at += n;
	}
}
