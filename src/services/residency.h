/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * residency.h - the walk behind gm_residency_usage() and gm_residency_extents().
 *
 * An engine (PAGEMAP_SCAN in residency.c, words of pagemap in pages.c) finds pages and hands them
 * to gm_walk_emit() in rising order. That joins neighbours that are alike, sums up and calls the
 * user.
 */
#ifndef GM_SERVICES_RESIDENCY_H
#define GM_SERVICES_RESIDENCY_H

#include <limits.h>
#include <stdbool.h>

#include <guestmem/residency.h>

#define GM_PAGES_BATCH 512u /* words in one read: with 4 KiB pages those of a PMD */

struct gm_residency {
	int dir; /* /proc/PID */
	pid_t pid;
	int kpageflags;      /* fd, or -errno of the attempt to open it */
	int kpagecount;      /* the same */
	uint32_t page_shift; /* of base pages */
	uint32_t pmd_shift;  /* of PMD-sized pages */
};

/* A mapping as far as the walk needs it. */
struct gm_walk_mapping {
	uint64_t start;
	uint64_t end;
	uint64_t page_size;
	uint64_t present;    /* smaps: bytes, without hugetlb */
	uint64_t pmd_mapped; /* smaps: bytes */
};

struct gm_walk {
	struct gm_residency *res;
	uint32_t flags;
	int pagemap;
	int maps; /* for PROCMAP_QUERY: fd, -1 not yet open, -2 not to be had */
	uint64_t start;
	uint64_t end;
	int (*fn)(void *arg, const struct gm_extent *extent);
	void *arg;
	int stopped;
	struct gm_extent open; /* may still grow; len 0: none */
	struct gm_usage sum;
	struct gm_walk_mapping here;  /* the mapping that was asked for last */
	struct gm_walk_mapping *list; /* all mappings, from smaps, where it was needed */
	size_t nr_list;
	bool list_read;
	uint64_t words[GM_PAGES_BATCH];        /* of pagemap */
	uint64_t flags_of[GM_PAGES_BATCH + 1]; /* kpageflags of the frames in words[] */
	uint8_t order_of[GM_PAGES_BATCH];      /* of the folios of these frames */
	uint64_t block_nr; /* block[] has frames from this times its size on; UINT64_MAX none */
	uint64_t block[GM_PAGES_BATCH]; /* kpageflags */
};

#define GM_WALK_STOP                                                                               \
	INT_MIN /* the user's function has ended the walk; walk->stopped is what it returned */

/* Adds the next piece. Returns 0 or GM_WALK_STOP. */
int gm_walk_emit(struct gm_walk *walk, const struct gm_extent *extent);

/*
 * pages.c: looks at [start, end) word by word. @old: the range may hold anything (this is the
 * engine); else it is present, mapped by small entries and has no zero page (this adds detail to
 * what PAGEMAP_SCAN found).
 */
int gm_pages_walk(struct gm_walk *walk, uint64_t start, uint64_t end, bool old);

/* pages.c: [start, end) is mapped by huge entries of @page_size, or of PMD size if that is a base
 * page or 0. */
int gm_pages_huge(struct gm_walk *walk, uint64_t start, uint64_t end, uint64_t page_size);

/* maps.c: the mapping that holds @addr, in walk->here. 1, 0 if there is none, or -errno. */
int gm_walk_mapping_at(struct gm_walk *walk, uint64_t addr);

/* maps.c: all mappings with details, in walk->list. */
int gm_walk_read_list(struct gm_walk *walk);

/* -ESRCH if the process has ended or has no memory. */
int gm_residency_alive(const struct gm_residency *res);

#endif
