/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pages.c - pages one by one: words of /proc/PID/pagemap, flags of /proc/kpageflags.
 *
 * Two uses: detail on small pages that PAGEMAP_SCAN found (whose folio, shared or not), and the
 * engine for kernels without PAGEMAP_SCAN. There, a page-table entry for a PMD-sized page looks
 * like 512 small ones; smaps says how much of a mapping has them.
 */
#include <errno.h>
#include <string.h>

#include "services/residency.h"
#include "sys/sys.h"
#include "sys/whole.h"

/* Bits of a word of pagemap (Documentation/admin-guide/mm/pagemap.rst). */
#define WORD_PFN ((UINT64_C(1) << 55) - 1)
#define WORD_EXCLUSIVE (UINT64_C(1) << 56)
#define WORD_GUARD (UINT64_C(1) << 58)
#define WORD_SWAPPED (UINT64_C(1) << 62)
#define WORD_PRESENT (UINT64_C(1) << 63)

/* Bits of a word of kpageflags (linux/kernel-page-flags.h). */
#define KPF_HEAD (UINT64_C(1) << 15)
#define KPF_TAIL (UINT64_C(1) << 16)
#define KPF_KSM (UINT64_C(1) << 21)
#define KPF_ZERO (UINT64_C(1) << 24)

/* Reads exactly @nr words; what is missing is 0. */
static int read_words(int fd, uint64_t first, uint64_t *to, size_t nr)
{
	size_t done;
	int rc;

	memset(to, 0, nr * sizeof(*to));
	rc = gm_pread_whole(fd, to, nr * 8, first * 8, &done);
	return rc == -ENODATA ? 0 : rc;
}

/* The flags of a frame, with those of its aligned 512 neighbours in walk->block; NULL if they
 * cannot be read. */
static const uint64_t *frame_flags(struct gm_walk *walk, uint64_t pfn)
{
	uint64_t block = pfn / GM_PAGES_BATCH;

	if (walk->res->kpageflags < 0 || pfn == 0)
		return NULL;
	if (block != walk->block_nr) {
		walk->block_nr = UINT64_MAX;
		if (read_words(walk->res->kpageflags, block * GM_PAGES_BATCH, walk->block,
			    GM_PAGES_BATCH) < 0)
			return NULL;
		walk->block_nr = block;
		walk->sum.sources |= GM_SOURCE_KPAGEFLAGS;
	}
	return &walk->block[pfn % GM_PAGES_BATCH];
}

static uint32_t order_of(size_t pages)
{
	return 63 - (uint32_t)__builtin_clzll(pages);
}

/* log2 of the pages in the folio of a frame whose block was read, at most 9: folios are aligned to
 * their size. */
static uint32_t folio_order(const struct gm_walk *walk, uint64_t pfn)
{
	size_t head = pfn % GM_PAGES_BATCH;
	size_t end;

	while (head > 0 && walk->block[head] & KPF_TAIL)
		head--;
	end = head + 1;
	while (end < GM_PAGES_BATCH && walk->block[end] & KPF_TAIL)
		end++;
	return order_of(end - head);
}

static bool frame_is_zero(struct gm_walk *walk, uint64_t pfn)
{
	uint64_t flags;

	if (walk->res->kpageflags < 0 || pfn == 0 ||
		read_words(walk->res->kpageflags, pfn, &flags, 1) < 0)
		return false;
	walk->sum.sources |= GM_SOURCE_KPAGEFLAGS;
	return flags & KPF_ZERO;
}

/*
 * The orders of the @nr frames from @pfn on, whose flags, and one more, were read into
 * flags[at...]. A folio that begins before them or ends behind them is looked at in its block.
 */
static void find_orders(struct gm_walk *walk, size_t at, size_t nr, uint64_t pfn)
{
	const uint64_t *flags = walk->flags_of + at;
	uint8_t *orders = walk->order_of + at;

	memset(orders, 0, nr);
	for (size_t i = 0; i < nr;) {
		size_t end = i + 1;
		/* No folio reaches over this. */
		size_t stop = i + GM_PAGES_BATCH - (pfn + i) % GM_PAGES_BATCH;
		uint32_t order = 0;

		if (flags[i] & (KPF_HEAD | KPF_TAIL)) {
			while (end < stop && end <= nr && flags[end] & KPF_TAIL)
				end++;
			if (flags[i] & KPF_HEAD && end <= nr)
				order = order_of(end - i);
			else if (frame_flags(walk, pfn + i))
				order = folio_order(walk, pfn + i);
		}
		for (; i < end && i < nr; i++)
			orders[i] = (uint8_t)order;
	}
}

/* How many of the words from @at on are present in frames that follow one another; at least 1. */
static size_t run_of(const struct gm_walk *walk, size_t at, size_t nr)
{
	uint64_t first = walk->words[at] & (WORD_PRESENT | WORD_PFN);
	size_t end = at + 1;

	while (end < nr && (walk->words[end] & (WORD_PRESENT | WORD_PFN)) == first + (end - at))
		end++;
	return end - at;
}

/*
 * Flags and orders of the frames in words[0, nr). The kernel takes its time for each word of
 * kpageflags, so no more are read than are asked for: runs of frames that follow one another.
 */
static void read_frames(struct gm_walk *walk, size_t nr)
{
	size_t len;

	for (size_t at = 0; at < nr; at += len) {
		uint64_t pfn = walk->words[at] & WORD_PFN;

		len = run_of(walk, at, nr);
		if (!(walk->words[at] & WORD_PRESENT))
			continue;
		/* What follows the run tells whether its last folio ends with it. */
		if (walk->res->kpageflags >= 0 && pfn != 0 &&
			read_words(walk->res->kpageflags, pfn, walk->flags_of + at, len + 1) == 0) {
			find_orders(walk, at, len, pfn);
			walk->sum.sources |= GM_SOURCE_KPAGEFLAGS;
			continue;
		}
		memset(walk->flags_of + at, 0, len * sizeof(*walk->flags_of));
		memset(walk->order_of + at, 0, len);
		walk->sum.unseen |= GM_UNSEEN_FOLIOS;
	}
}

static void describe_frame(struct gm_walk *walk, size_t i, struct gm_extent *page)
{
	uint64_t flags = walk->flags_of[i];
	uint32_t order = walk->order_of[i];

	if (flags & KPF_ZERO) {
		page->state = GM_EXTENT_ZERO;
		page->flags = 0;
		return;
	}
	if (flags & KPF_KSM)
		page->flags |= GM_EXTENT_KSM;
	if (page->page_log2 + order >= walk->res->pmd_shift)
		page->flags |= GM_EXTENT_SPLIT;
	else
		page->page_log2 += order;
}

static bool wants_frames(const struct gm_walk *walk)
{
	return walk->flags & (GM_RESIDENCY_FOLIOS | GM_RESIDENCY_NO_SCAN);
}

/* The small page of words[i]. False: there is nothing to report. */
static bool describe_word(struct gm_walk *walk, size_t i, struct gm_extent *page)
{
	uint64_t word = walk->words[i];

	*page = (struct gm_extent){
		.start = page->start,
		.len = UINT64_C(1) << walk->res->page_shift,
		.page_log2 = walk->res->page_shift,
	};
	if (word & WORD_GUARD)
		return false;
	if (word & WORD_PRESENT) {
		page->state = GM_EXTENT_PRESENT;
		if (walk->flags & GM_RESIDENCY_SHARED && !(word & WORD_EXCLUSIVE))
			page->flags |= GM_EXTENT_SHARED;
		if (wants_frames(walk))
			describe_frame(walk, i, page);
		return true;
	}
	page->state = GM_EXTENT_SWAPPED;
	return word & WORD_SWAPPED;
}

/* Are these words, whose first is of @start, what (a part of) one PMD-sized page looks like? */
static bool looks_like_pmd(struct gm_walk *walk, uint64_t start, size_t nr)
{
	uint64_t pfn = walk->words[0] & WORD_PFN;
	const uint64_t *flags;

	if (pfn % GM_PAGES_BATCH != (start >> walk->res->page_shift) % GM_PAGES_BATCH)
		return false;
	for (size_t i = 0; i < nr; i++) {
		if (!(walk->words[i] & WORD_PRESENT) || (walk->words[i] & WORD_PFN) != pfn + i)
			return false;
	}
	flags = frame_flags(walk, pfn);
	return flags && (*flags & KPF_ZERO || walk->res->page_shift + folio_order(walk, pfn) >=
						      walk->res->pmd_shift);
}

/*
 * Is a page that one huge entry maps mapped elsewhere as well? For pages above PMD size the bit in
 * pagemap (and Shared_Hugetlb in smaps) cannot be trusted: the kernel asks a count of shared page
 * tables that it keeps for PMD tables only, and reads whatever lies in its place. The map count of
 * such a page can be trusted, where it can be read.
 */
static bool entry_is_shared(struct gm_walk *walk, uint32_t log2, uint64_t word)
{
	uint64_t count = 0;

	if (!(walk->flags & GM_RESIDENCY_SHARED))
		return false;
	if (log2 <= walk->res->pmd_shift)
		return !(word & WORD_EXCLUSIVE);
	if (walk->res->kpagecount >= 0 && word & WORD_PFN &&
		read_words(walk->res->kpagecount, word & WORD_PFN, &count, 1) == 0) {
		walk->sum.sources |= GM_SOURCE_KPAGEFLAGS;
		return count > 1;
	}
	walk->sum.unseen |= GM_UNSEEN_SHARED;
	return false;
}

static int emit_entry(
	struct gm_walk *walk, uint64_t start, uint64_t len, uint32_t log2, uint64_t word)
{
	struct gm_extent huge = {
		.start = start,
		.len = len,
		.state = GM_EXTENT_PRESENT,
		.page_log2 = log2,
		.flags = GM_EXTENT_HUGE,
	};

	if (!(word & WORD_PRESENT))
		return 0;
	if (frame_is_zero(walk, word & WORD_PFN))
		huge.state = GM_EXTENT_ZERO;
	else if (entry_is_shared(walk, log2, word))
		huge.flags |= GM_EXTENT_SHARED;
	return gm_walk_emit(walk, &huge);
}

static int emit_hugetlb(struct gm_walk *walk, uint64_t start, size_t nr)
{
	uint32_t shift = walk->res->page_shift;
	uint32_t log2 = 63 - (uint32_t)__builtin_clzll(walk->here.page_size);
	size_t unit = (size_t)1 << (log2 - shift);
	size_t at = 0;

	while (at < nr) {
		uint64_t addr = start + ((uint64_t)at << shift);
		/* Up to the end of this huge page, or of the piece. */
		size_t some = unit - (size_t)((addr >> shift) & (unit - 1));
		int rc;

		if (some > nr - at)
			some = nr - at;
		rc = emit_entry(walk, addr, (uint64_t)some << shift, log2, walk->words[at]);
		if (rc)
			return rc;
		at += some;
	}
	return 0;
}

int gm_pages_huge(struct gm_walk *walk, uint64_t start, uint64_t end, uint64_t page_size)
{
	uint32_t log2 = walk->res->pmd_shift;
	uint64_t unit;

	if (page_size > UINT64_C(1) << walk->res->page_shift)
		log2 = 63 - (uint32_t)__builtin_clzll(page_size);
	unit = UINT64_C(1) << log2;
	if (!(walk->flags & GM_RESIDENCY_SHARED)) {
		struct gm_extent all = {
			.start = start,
			.len = end - start,
			.state = GM_EXTENT_PRESENT,
			.page_log2 = log2,
			.flags = GM_EXTENT_HUGE,
		};

		return gm_walk_emit(walk, &all);
	}
	walk->sum.sources |= GM_SOURCE_PAGEMAP;
	while (start < end) {
		uint64_t stop = (start & ~(unit - 1)) + unit;
		uint64_t word;
		int rc = read_words(walk->pagemap, start >> walk->res->page_shift, &word, 1);

		stop = stop < end ? stop : end;
		/* It was present when it was found. */
		if (!(word & WORD_PRESENT))
			word = WORD_PRESENT | WORD_EXCLUSIVE;
		if (rc == 0)
			rc = emit_entry(walk, start, stop - start, log2, word);
		if (rc)
			return rc;
		start = stop;
	}
	return 0;
}

/* Without PAGEMAP_SCAN: is this (a part of) a page with one huge entry? */
static bool is_pmd(struct gm_walk *walk, uint64_t start, size_t nr)
{
	const struct gm_walk_mapping *m = &walk->here;
	uint64_t pmd = UINT64_C(1) << walk->res->pmd_shift;
	uint64_t base = start & ~(pmd - 1);

	/* An entry never reaches beyond its mapping. */
	if (m->pmd_mapped == 0 || base < m->start || m->end - base < pmd)
		return false;
	/* Some of the mapping has huge entries; nothing says which, but a page of that shape is
	 * likely. */
	if (m->pmd_mapped != m->present)
		walk->sum.unseen |= GM_UNSEEN_PMD;
	if (walk->res->kpageflags >= 0 && walk->words[0] & WORD_PFN)
		return looks_like_pmd(walk, start, nr);
	walk->sum.unseen |= GM_UNSEEN_PMD;
	return m->pmd_mapped == m->present && walk->words[0] & WORD_PRESENT;
}

/* The words [0, nr) that begin at @start and lie in one PMD. */
static int emit_words(struct gm_walk *walk, uint64_t start, size_t nr, bool old)
{
	int rc;

	if (old && walk->here.page_size > UINT64_C(1) << walk->res->page_shift)
		return emit_hugetlb(walk, start, nr);
	if (old && is_pmd(walk, start, nr))
		return emit_entry(walk, start, (uint64_t)nr << walk->res->page_shift,
			walk->res->pmd_shift, walk->words[0]);
	if (wants_frames(walk))
		read_frames(walk, nr);
	for (size_t i = 0; i < nr; i++) {
		struct gm_extent page = {
			.start = start + ((uint64_t)i << walk->res->page_shift),
		};

		if (!describe_word(walk, i, &page))
			continue;
		rc = gm_walk_emit(walk, &page);
		if (rc)
			return rc;
	}
	return 0;
}

/* The start of the next mapping in [at, end), else end. */
static uint64_t next_mapping(const struct gm_walk *walk, uint64_t at, uint64_t end)
{
	for (size_t i = 0; i < walk->nr_list; i++) {
		if (walk->list[i].start > at)
			return walk->list[i].start < end ? walk->list[i].start : end;
	}
	return end;
}

/*
 * Where the piece that begins at @at ends: where words[] is full, with 4 KiB pages at a PMD
 * boundary, and for the old engine with its mapping. 1; 0 if there is no mapping up to there;
 * -errno.
 */
static int piece_end(struct gm_walk *walk, uint64_t at, uint64_t end, bool old, uint64_t *ret)
{
	/* With base pages above 4 KiB a PMD has more of them than words[] has room for. */
	uint64_t room = (uint64_t)GM_PAGES_BATCH << walk->res->page_shift;
	uint64_t stop = (at & ~(room - 1)) + room;
	int rc = 1;

	if (stop > end || stop < at)
		stop = end;
	if (old) {
		rc = gm_walk_mapping_at(walk, at);
		if (rc > 0 && stop > walk->here.end)
			stop = walk->here.end;
		if (rc == 0)
			stop = next_mapping(walk, at, end);
	}
	*ret = stop;
	return rc;
}

int gm_pages_walk(struct gm_walk *walk, uint64_t start, uint64_t end, bool old)
{
	uint32_t shift = walk->res->page_shift;

	walk->sum.sources |= GM_SOURCE_PAGEMAP;
	while (start < end) {
		uint64_t stop;
		size_t nr;
		int rc = piece_end(walk, start, end, old, &stop);

		if (rc < 0)
			return rc;
		nr = (size_t)((stop - start) >> shift);
		if (rc > 0) {
			rc = read_words(walk->pagemap, start >> shift, walk->words, nr);
			if (rc == 0)
				rc = emit_words(walk, start, nr, old);
			if (rc)
				return rc;
		}
		start = stop;
	}
	return 0;
}
