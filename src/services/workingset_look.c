/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workingset_look.c - the sample of a piece: made untouched, and looked at again.
 *
 * One unit of each stratum, by a random number of the stratum and the round: nothing is stored, the end finds the same
 * ones again. All units that lie in one huge page are that page.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>

#include "services/pagemap.h"
#include "services/workingset.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define PRESENT (PAGE_IS_PRESENT | PAGE_IS_HUGE)
#define BLIND 7        /* samples that are not looked for behind one that was there, */
#define BLIND_PARTS 16 /* if there are fewer than one of so many */
#define FAR_AHEAD (UINT64_C(1) << 36)

static uint64_t mix(uint64_t z)
{
	z += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* One unit of a stratum. */
struct pick {
	uint64_t gpa;
	uint64_t hva;
	uint64_t weight; /* bytes that it stands for */
	uint64_t stratum;
};

/* In as many rounds as a stratum has units it is each of them. */
static struct pick pick(const struct gm_workingset *ws, const struct gm_area *a, uint64_t stratum)
{
	uint64_t units = gm_area_len(a) / a->unit - stratum * a->parts;
	uint64_t start = mix(ws->opts.seed ^ mix(a->range.first + stratum * a->parts * a->unit));
	uint64_t nr = units < a->parts ? units : a->parts;
	uint64_t stride = nr == ws->opts.parts ? ws->stride : 1;
	uint64_t which = (start % nr + ws->round % nr * stride) % nr;
	uint64_t off = (stratum * a->parts + which) * a->unit;

	return (struct pick){a->range.first + off, a->hva + off, nr * a->unit, stratum};
}

/* ---- page tables ---- */

/* The kernel allocates room for as many extents as it may return. */
static uint64_t room_for(uint64_t pages)
{
	return pages < GM_LOOK_MAX ? pages : GM_LOOK_MAX;
}

static int look_on(
	struct gm_workingset *ws, uint64_t from, uint64_t end, const struct pm_scan_arg *want)
{
	struct gm_look *look = &ws->look;
	struct pm_scan_arg arg = *want;
	bool more;
	int nr;

	look->window = end - from < look->window ? end - from : look->window;
	arg.size = sizeof(arg);
	arg.start = from;
	arg.end = from + look->window;
	arg.vec = (uintptr_t)look->found;
	arg.vec_len = room_for(look->window / gm_sys_page_size());
	nr = gm_pagemap_scan(ws->pagemap, &arg, &more);
	if (nr < 0)
		return nr;
	look->from = from;
	look->to = more ? arg.start : arg.end;
	look->nr = (size_t)nr;
	look->at = 0;
	return 0;
}

/*
 * The extent that @hva lies in, of those that @want names; NULL if none does. Addresses rise from call to call.
 * A sample is thin, so one unit is looked at; where nothing is, farther and farther ahead.
 */
static int find(struct gm_workingset *ws, const struct gm_area *a, uint64_t hva,
	const struct pm_scan_arg *want, const struct page_region **ret)
{
	uint64_t end = a->hva + gm_area_len(a);
	struct gm_look *look = &ws->look;
	uint64_t step = a->parts > BLIND_PARTS ? a->unit : GM_LOOK_MAX * a->unit;

	if (hva < look->from || hva >= look->to) {
		bool nothing = look->to && look->nr == 0;
		int rc;

		look->window = nothing && look->window < FAR_AHEAD ? look->window * 8 : step;
		rc = look_on(ws, hva, end, want);
		if (rc)
			return rc;
	}
	while (look->at < look->nr && look->found[look->at].end <= hva)
		look->at++;
	*ret = look->at < look->nr && look->found[look->at].start <= hva ? &look->found[look->at]
									 : NULL;
	return 0;
}

static void look_anew(struct gm_workingset *ws)
{
	ws->look.from = 0;
	ws->look.to = 0;
	ws->look.nr = 0;
	ws->look.blind = 0;
}

/* ---- making untouched ---- */

static uint64_t pmd_size(void)
{
	uint64_t page = gm_sys_page_size();

	return page * (page / 8);
}

/* All of the page that is mapped there. */
static struct gm_range page_around(const struct gm_area *a, uint64_t hva, bool huge)
{
	struct gm_range all = {a->hva, a->hva + gm_range_extent(&a->range)};
	uint64_t size = huge && a->unit < pmd_size() ? pmd_size() : a->unit;
	struct gm_range page = {gm_align_down(hva, size), hva | (size - 1)};

	gm_range_intersect(&all, &page, &page);
	return page;
}

static int unmap(const struct iovec *v)
{
	int tries = 0;
	int rc;

	do {
		rc = gm_sys_madvise(v->iov_base, v->iov_len, MADV_DONTNEED);
	} while (rc == -EINTR || (rc == -EAGAIN && ++tries < 3));
	return rc;
}

static int protect(const struct gm_workingset *ws, const struct iovec *v)
{
	struct uffdio_writeprotect wp = {
		.range = {(uintptr_t)v->iov_base, v->iov_len}, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
	int rc;

	do {
		rc = gm_sys_ioctl(ws->uffd, UFFDIO_WRITEPROTECT, &wp);
	} while (rc == -EAGAIN || rc == -EINTR);
	return rc < 0 ? rc : 0;
}

/*
 * Page tables are looked at and changed in turns of many pages, as a look takes longer behind a change, and the
 * kernel flushes once for all of a batch (Linux 6.16). What a batch did not do is done singly, and says why it
 * cannot be.
 */
static int flush(struct gm_workingset *ws, const struct gm_area *a)
{
	bool zap = a->method == GM_WORKINGSET_UNMAP;
	size_t nr = ws->nr_todo;
	ssize_t done =
		zap && nr > 1 ? gm_sys_madvise_many(PIDFD_SELF, ws->todo, nr, MADV_DONTNEED) : 0;
	int rc = 0;

	ws->nr_todo = 0;
	for (size_t i = 0; i < nr && !rc; i++) {
		ssize_t len = (ssize_t)ws->todo[i].iov_len;

		if (done >= len) {
			done -= len;
			continue;
		}
		done = 0;
		rc = zap ? unmap(&ws->todo[i]) : protect(ws, &ws->todo[i]);
	}
	return rc;
}

/* Neighbours are one stretch. */
static int add(struct gm_workingset *ws, const struct gm_area *a, const struct gm_range *page)
{
	struct iovec *last = ws->nr_todo ? &ws->todo[ws->nr_todo - 1] : NULL;
	int rc = 0;

	if (last && page->first - (uintptr_t)last->iov_base <= last->iov_len) {
		if (page->last - (uintptr_t)last->iov_base >= last->iov_len)
			last->iov_len = page->last - (uintptr_t)last->iov_base + 1;
		return 0;
	}
	if (ws->nr_todo == GM_TODO_MAX)
		rc = flush(ws, a);
	ws->todo[ws->nr_todo++] =
		(struct iovec){(void *)(uintptr_t)page->first, gm_range_len(page)};
	return rc;
}

/* ---- the idle-page bitmap ---- */

static int read_word(int fd, uint64_t at, uint64_t *ret)
{
	ssize_t nr;

	do {
		nr = gm_sys_pread(fd, ret, sizeof(*ret), at);
	} while (nr == -EINTR);
	return nr < 0 ? (int)nr : nr == sizeof(*ret) ? 0 : -EIO;
}

static int write_word(int fd, uint64_t at, uint64_t word)
{
	ssize_t nr;

	do {
		nr = gm_sys_pwrite(fd, &word, sizeof(word), at);
	} while (nr == -EINTR);
	return nr < 0 ? (int)nr : nr == sizeof(word) ? 0 : -EIO;
}

/* 0 in *ret_pfn: no page, or no right to know. */
static int frame_of(const struct gm_workingset *ws, uint64_t hva, uint64_t *ret_pfn)
{
	uint64_t page = gm_sys_page_size();
	uint64_t word = 0;
	int rc = read_word(ws->pagemap, hva / page * 8, &word);

	*ret_pfn = word >> 63 ? word & ((UINT64_C(1) << 55) - 1) : 0;
	return rc;
}

static int idle_word(const struct gm_workingset *ws, uint64_t pfn, bool *ret)
{
	uint64_t word = 0;
	int rc = read_word(ws->idle, pfn / 64 * 8, &word);

	*ret = word >> pfn % 64 & 1;
	return rc;
}

#define ABSENT UINT64_MAX

/* Pages that cannot be idle (tails of large ones, not on a list) are not looked at. */
static int set_idle(
	const struct gm_workingset *ws, struct gm_area *a, const struct pick *p, bool huge)
{
	uint64_t hva = huge ? gm_align_down(p->hva, pmd_size()) : p->hva;
	uint64_t pfn;
	bool idle;
	int rc = frame_of(ws, hva, &pfn);

	if (rc || !pfn)
		return rc;
	rc = write_word(ws->idle, pfn / 64 * 8, UINT64_C(1) << pfn % 64);
	if (!rc)
		rc = idle_word(ws, pfn, &idle);
	if (!rc && idle)
		a->pfns[p->stratum] = pfn;
	return rc;
}

/* ---- a round ---- */

static int take_one(struct gm_workingset *ws, struct gm_area *a, const struct pick *p)
{
	static const struct pm_scan_arg want = {
		.category_mask = PAGE_IS_PRESENT, .return_mask = PRESENT};
	const struct page_region *region = NULL;
	struct gm_range page;
	bool huge;
	int rc;

	if (ws->look.blind) {
		ws->look.blind--;
		a->backed += p->weight;
		page = page_around(a, p->hva, false);
		return add(ws, a, &page);
	}
	rc = find(ws, a, p->hva, &want, &region);
	if (rc)
		return rc;
	/*
	 * Where something is there is more, and unmapping what is not there does no harm; nor does unmapping a part of a
	 * shared huge page: all of it goes, and comes back huge.
	 */
	if (region && a->method == GM_WORKINGSET_UNMAP && a->parts > BLIND_PARTS)
		ws->look.blind = BLIND;
	huge = region && (region->categories & PAGE_IS_HUGE);
	a->backed += region ? p->weight : 0;
	if (a->method == GM_WORKINGSET_IDLE && !region)
		a->pfns[p->stratum] = ABSENT;
	if (a->method == GM_WORKINGSET_IDLE)
		return region ? set_idle(ws, a, p, huge) : 0;
	/* What is not there is not touched; but that of shared memory may be read later without a write. */
	if (!region && (a->method == GM_WORKINGSET_UNMAP || !a->shared))
		return 0;
	page = page_around(a, p->hva, huge);
	return add(ws, a, &page);
}

int gm_workingset_take(struct gm_workingset *ws, struct gm_area *a)
{
	uint64_t nr = gm_area_strata(a);
	int rc = 0;
	int last;

	look_anew(ws);
	for (uint64_t i = 0; i < nr && !rc; i++) {
		struct pick p = pick(ws, a, i);

		rc = take_one(ws, a, &p);
	}
	last = flush(ws, a);
	return rc ? rc : last;
}

static int was_touched(struct gm_workingset *ws, struct gm_area *a, const struct pick *p, bool *ret)
{
	static const struct pm_scan_arg present = {
		.category_mask = PAGE_IS_PRESENT, .return_mask = PRESENT};
	static const struct pm_scan_arg written = {
		.category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_WRITTEN | PAGE_IS_PFNZERO,
		.return_mask = PAGE_IS_PRESENT,
	};
	bool writes = a->method == GM_WORKINGSET_WRITES;
	const struct page_region *region = NULL;
	int rc = find(ws, a, p->hva, writes ? &written : &present, &region);

	*ret = region;
	return rc;
}

/* *ret_seen: it was looked at. */
static int was_idle(const struct gm_workingset *ws, const struct gm_area *a, const struct pick *p,
	bool *ret_seen, bool *ret)
{
	uint64_t pfn = a->pfns[p->stratum];
	uint64_t now = 0;
	bool idle = false;
	int rc;

	*ret_seen = pfn != 0;
	if (!pfn)
		return 0;
	rc = frame_of(ws, p->hva, &now);
	if (!rc && pfn != ABSENT && now)
		rc = idle_word(ws, pfn, &idle);
	*ret = now && !idle;
	return rc;
}

static void note(struct gm_workingset *ws, struct gm_area *a, const struct pick *p, bool touched)
{
	struct gm_bin *bin;

	a->samples++;
	a->touched += touched;
	a->bytes += touched ? p->weight : 0;
	if (!a->bins)
		return;
	bin = &a->bins[(p->gpa - gm_align_down(a->range.first, ws->opts.bin)) / ws->opts.bin];
	bin->samples++;
	bin->touched += touched;
	if (touched)
		bin->last = ws->round;
}

int gm_workingset_count(struct gm_workingset *ws, struct gm_area *a)
{
	uint64_t nr = gm_area_strata(a);
	int rc = 0;

	look_anew(ws);
	for (uint64_t i = 0; i < nr && !rc; i++) {
		struct pick p = pick(ws, a, i);
		bool touched = false;
		bool seen = true;

		if (a->method == GM_WORKINGSET_IDLE)
			rc = was_idle(ws, a, &p, &seen, &touched);
		else
			rc = was_touched(ws, a, &p, &touched);
		if (!rc && seen)
			note(ws, a, &p, touched);
	}
	return rc;
}
