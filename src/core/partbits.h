/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * partbits.h - an array of states of two bits, 32 of them in a word.
 *
 * Work goes word by word. @from and @nr count states; @nr is not 0.
 */
#ifndef GM_CORE_PARTBITS_H
#define GM_CORE_PARTBITS_H

#include <stdint.h>

#define GM_PARTBITS_WORD 32u /* states in a word */

/* How many from @from on are as the first, @nr at most. */
uint64_t gm_partbits_run(const uint64_t *words, uint64_t from, uint64_t nr);

uint64_t gm_partbits_count(const uint64_t *words, uint64_t from, uint64_t nr, uint32_t state);

void gm_partbits_set(uint64_t *words, uint64_t from, uint64_t nr, uint32_t state);

static inline uint32_t gm_partbits_get(const uint64_t *words, uint64_t at)
{
	return (uint32_t)(words[at / GM_PARTBITS_WORD] >> at % GM_PARTBITS_WORD * 2) & 3;
}

#endif
