/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pagestate.h - what is known of each page that a pager fills: an array of states of four bits, 16 of them in a word.
 *
 * States change by compare-exchange of a word, so any number of threads may change an array at once; who moves a page
 * is the one whose exchange succeeded. Zeroed memory is an array of absent pages. What was done to a page before its
 * state was changed is seen by whoever sees that state (release, acquire).
 */
#ifndef GM_CORE_PAGESTATE_H
#define GM_CORE_PAGESTATE_H

#include <stdbool.h>
#include <stdint.h>

#define GM_PAGESTATE_WORD 16u /* states in a word */

enum gm_pagestate {
	GM_PAGE_ABSENT = 0, /* its bytes are in the source */
	GM_PAGE_LOADING,    /* somebody brings them; all others leave it to him */
	GM_PAGE_DROPPED, /* the same, but it was given back meanwhile: what is brought is thrown away */
	GM_PAGE_FILLED,   /* they are in the file, whole, and not yet mapped */
	GM_PAGE_PRESENT,  /* installed */
	GM_PAGE_REMOVED,  /* given back: zeros from now on */
	GM_PAGE_POISONED, /* its bytes are lost: nobody gets any */
	GM_PAGE_LOST,     /* nothing is mapped there: loaded again only if somebody asks */
	GM_PAGE_STATES,
};

/* Words for so many pages. */
static inline uint64_t gm_pagestate_words(uint64_t nr)
{
	return nr / GM_PAGESTATE_WORD + (nr % GM_PAGESTATE_WORD != 0);
}

/* What is no state (the array may be another process's) counts as absent. */
static inline enum gm_pagestate gm_pagestate_get(const uint64_t *words, uint64_t at)
{
	uint64_t word = __atomic_load_n(&words[at / GM_PAGESTATE_WORD], __ATOMIC_ACQUIRE);
	uint64_t state = word >> at % GM_PAGESTATE_WORD * 4 & 15;

	return state < GM_PAGE_STATES ? (enum gm_pagestate)state : GM_PAGE_ABSENT;
}

/* One page from one state to another; false if it is in a third. */
bool gm_pagestate_change(
	uint64_t *words, uint64_t at, enum gm_pagestate from, enum gm_pagestate to);

/*
 * The same for pages from @first on, @nr at most, until one is in another state. Returns how many were changed; a page
 * is changed by nobody else in the same moment.
 */
uint64_t gm_pagestate_claim(
	uint64_t *words, uint64_t first, uint64_t nr, enum gm_pagestate from, enum gm_pagestate to);

/* All of @nr pages that are in one of the states of the mask @from (1u << state). Returns how many. */
uint64_t gm_pagestate_turn(
	uint64_t *words, uint64_t first, uint64_t nr, uint32_t from, enum gm_pagestate to);

/* How many from @first on, of @nr at most, are in the state of the first. */
uint64_t gm_pagestate_run(const uint64_t *words, uint64_t first, uint64_t nr);

/* The first of @nr pages from @first on that is in @state: its number from @first, @nr if none is. */
uint64_t gm_pagestate_find(
	const uint64_t *words, uint64_t first, uint64_t nr, enum gm_pagestate state);

/* Adds to @counts how many of @nr pages are in each state. */
void gm_pagestate_count(
	const uint64_t *words, uint64_t first, uint64_t nr, uint64_t counts[GM_PAGE_STATES]);

#endif
