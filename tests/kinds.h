/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kinds.h - memory of every kind, with what residency must say about it to the byte.
 *
 * A maker may run in a child whose parent looks at it, so it does not use cmocka: what it cannot do
 * ends the process with a sentence.
 */
#ifndef GM_TESTS_KINDS_H
#define GM_TESTS_KINDS_H

#include <stdbool.h>
#include <stddef.h>

#include <guestmem/residency.h>

struct kind {
	void *addr;
	size_t len;
	struct gm_usage want; /* with GM_RESIDENCY_FOLIOS and _SHARED */
};

typedef void kind_maker(struct kind *kind);

kind_maker kind_anon_every_other_page;
kind_maker kind_anon_thp;
kind_maker kind_zero_pages;
kind_maker kind_memfd_base;
kind_maker kind_memfd_collapsed;
kind_maker kind_multi_size;
kind_maker kind_multi_size_parts;
kind_maker kind_hugetlb_2m;
kind_maker kind_hugetlb_1g;
kind_maker kind_hugetlb_1g_twice;
kind_maker kind_mapped_twice;
kind_maker kind_punched;
kind_maker kind_split;
kind_maker kind_guarded;
kind_maker kind_swapped;
kind_maker kind_merged;
kind_maker kind_mixed;

/* Ends the process with a sentence if @well is false. */
void kind_need(bool well, const char *what);

/* Swap space for kind_swapped(); it goes at exit. False if there cannot be any. */
bool kind_swap_on(void);

#endif
