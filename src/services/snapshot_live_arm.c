/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_live_arm.c - the instant of a live save: what is there is found and protected, and let go in the end.
 *
 * What is not there is zeros, and needs no protection: nobody asks for it again. Page tables tell of anonymous memory,
 * the file of shared memory, and the pager of what it has not brought yet.
 */
#include <guestmem/guard.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "memory/block.h"
#include "services/pagemap.h"
#include "services/snapshot_live.h"
#include "sys/guard.h"
#include "sys/uapi.h"

#define NEAR 64u /* pages between protected ones that are not worth a call of their own */
#define ENTRIES 512u
#define TRIES 5000u
#define WAIT_NS 200000u

/* ---- parts ---- */

const struct live_part *gm_live_part(const struct gm_snapshot_live *live, uint64_t page)
{
	size_t low = 0;
	size_t high = live->nr_parts;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (live->parts[mid].page <= page)
			low = mid;
		else
			high = mid;
	}
	return &live->parts[low];
}

const struct live_part *gm_live_part_at(const struct gm_snapshot_live *live, uint64_t addr)
{
	size_t low = 0;
	size_t high = live->nr_parts;
	const struct live_part *part;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (live->parts[live->by_addr[mid]].addr <= addr)
			low = mid;
		else
			high = mid;
	}
	part = high ? &live->parts[live->by_addr[low]] : NULL;
	return part && addr >= part->addr && addr - part->addr < part->nr * LIVE_PAGE ? part : NULL;
}

int gm_live_give_back(struct gm_snapshot_live *live, uint64_t addr, uint64_t len,
	int (*give)(struct gm_snapshot_live *live, const struct live_part *part, uint64_t first,
		uint64_t nr, struct gm_error *err),
	struct gm_error *err)
{
	struct gm_range range = {addr, addr + (len - 1)};
	int rc = 0;

	pthread_mutex_lock(&live->lock);
	for (size_t i = 0; i < live->nr_parts && !rc; i++) {
		const struct live_part *part = &live->parts[i];
		struct gm_range mine = {part->addr, part->addr + (part->nr * LIVE_PAGE - 1)};

		if (gm_range_intersect(&mine, &range, &mine))
			rc = give(live, part, live_page(part, mine.first),
				(mine.last - mine.first) / LIVE_PAGE + 1, err);
	}
	pthread_mutex_unlock(&live->lock);
	return rc;
}

static int add_part(struct gm_snapshot_live *live, const struct live_part *part)
{
	if (live->nr_parts == live->cap_parts) {
		size_t cap = live->cap_parts ? 2 * live->cap_parts : 16;
		struct live_part *parts = gm_sys_realloc(live->parts, cap, sizeof(*parts));

		if (!parts)
			return -ENOMEM;
		live->parts = parts;
		live->cap_parts = cap;
	}
	live->parts[live->nr_parts++] = *part;
	return 0;
}

static int refuse(const struct saving_piece *piece, int rc, const char *why, struct gm_error *err)
{
	return gm_error_set(err, rc, piece->reach.range.first, piece->len,
		"saving a guest that runs: memory at gpa 0x%" PRIx64 " %s",
		piece->reach.range.first, why);
}

/* A piece is cut where areas end. */
static int cut(
	struct gm_snapshot_live *live, const struct saving_piece *piece, struct gm_error *err)
{
	uint64_t addr = (uintptr_t)piece->reach.hva;
	uint64_t left = piece->len;

	if (!piece->reach.hva)
		return refuse(piece, -ENOTSUP, "is not mapped here", err);
	if (!piece->file && !piece->scanned)
		return refuse(piece, -ENOTSUP, "is private memory of a file", err);
	while (left) {
		struct live_part part = {.addr = addr, .piece = piece};
		uint64_t in;

		part.area = gm_pager_wp_area(live->pager, live->space, addr);
		if (!part.area)
			return refuse(piece, -ENOENT,
				"is in no area of the pager (GM_PAGER_PROTECT)", err);
		in = part.area->nr * part.area->page - (addr - part.area->addr);
		in = in < left ? in : left;
		part.page = (piece->off + (piece->len - left)) / LIVE_PAGE;
		part.nr = in / LIVE_PAGE;
		part.unit = part.area->page / LIVE_PAGE;
		part.block = part.unit > LIVE_BLOCK ? part.unit : LIVE_BLOCK;
		if ((addr | in) & (part.area->page - 1))
			return refuse(piece, -ENOTSUP, "has a part of a huge page", err);
		if (add_part(live, &part))
			return refuse(piece, -ENOMEM, "needs memory to be saved", err);
		addr += in;
		left -= in;
	}
	return 0;
}

/* Of bytes that show twice a write through one mapping would be missed at the other. */
static int check_once(const struct gm_snapshot_live *live, struct gm_error *err)
{
	for (size_t i = 0; i < live->s.nr; i++) {
		const struct saving_piece *a = &live->s.pieces[i];
		struct gm_range mine = {a->reach.block_off, a->reach.block_off + (a->len - 1)};

		for (size_t j = 0; j < i; j++) {
			const struct saving_piece *b = &live->s.pieces[j];
			struct gm_range other = {
				b->reach.block_off, b->reach.block_off + (b->len - 1)};

			if (a->reach.block == b->reach.block && gm_range_overlaps(&mine, &other))
				return refuse(a, -ENOTSUP, "shows in two places of the map", err);
		}
	}
	return 0;
}

static int make_parts(struct gm_snapshot_live *live, struct gm_error *err)
{
	struct gm_sort_pair *order;
	uint64_t words;
	int rc = check_once(live, err);

	for (size_t i = 0; i < live->s.nr && !rc; i++)
		rc = cut(live, &live->s.pieces[i], err);
	if (rc)
		return rc;
	words = live->s.len / LIVE_PAGE / 64 + 1;
	live->data = gm_sys_alloc_array(words, 8);
	live->todo = gm_sys_alloc_array(words, 8);
	live->held = gm_sys_alloc_array(words, 8);
	live->there = gm_sys_alloc_array(words, 8);
	live->by_addr = gm_sys_alloc_array(live->nr_parts, sizeof(*live->by_addr));
	order = gm_sys_alloc_array(live->nr_parts, sizeof(*order));
	if (live->by_addr && order) {
		for (size_t i = 0; i < live->nr_parts; i++)
			order[i] = (struct gm_sort_pair){live->parts[i].addr, i};
		gm_sort_pairs(order, live->nr_parts);
		for (size_t i = 0; i < live->nr_parts; i++)
			live->by_addr[i] = (uint32_t)order[i].value;
	}
	rc = order && live->by_addr && live->data && live->todo && live->held && live->there
		     ? 0
		     : gm_error_set(err, -ENOMEM, 0, 0, "saving a guest that runs: out of memory");
	gm_sys_free(order);
	return rc;
}

/* ---- what is there ---- */

static int look_by_scan(struct gm_snapshot_live *live, const struct live_part *part, uint64_t *bits)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = part->addr,
		.end = part->addr + part->nr * LIVE_PAGE,
		.vec = (uintptr_t)live->found,
		.vec_len = sizeof(live->found) / sizeof(live->found[0]),
		.category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PFNZERO,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};
	bool more;
	int nr;

	do {
		nr = gm_pagemap_scan(live->s.pagemap, &arg, &more);
		for (int i = 0; i < nr; i++)
			live_set(bits, part->page + (live->found[i].start - part->addr) / LIVE_PAGE,
				(live->found[i].end - live->found[i].start) / LIVE_PAGE, true);
	} while (more);
	return nr < 0 ? nr : 0;
}

/* The same on older kernels, and of pages that a file has too: only those that are mapped. */
static int look_by_entries(
	struct gm_snapshot_live *live, const struct live_part *part, uint64_t mask, uint64_t *bits)
{
	uint64_t entries[ENTRIES];
	uint64_t nr;

	for (uint64_t done = 0; done < part->nr; done += nr) {
		ssize_t got = gm_sys_pread(live->s.pagemap, entries,
			8 * (part->nr - done < ENTRIES ? part->nr - done : ENTRIES),
			part->addr / LIVE_PAGE * 8 + done * 8);

		if (got == -EINTR) {
			nr = 0;
			continue;
		}
		if (got < 8)
			return got < 0 ? (int)got : -EIO;
		nr = (uint64_t)got / 8;
		for (uint64_t i = 0; i < nr; i++) {
			if (entries[i] & mask)
				live_set(bits, part->page + done + i, 1, true);
		}
	}
	return 0;
}

static int look_by_file(struct gm_snapshot_live *live, const struct live_part *part)
{
	uint64_t in = (part->addr - (uintptr_t)part->piece->reach.hva);
	uint64_t end = in + part->nr * LIVE_PAGE;

	while (in < end) {
		struct gm_source_extent extent;
		uint64_t len;
		int rc = gm_source_extent(part->piece->file, in, &extent);

		if (rc)
			return rc;
		len = extent.len < end - in ? extent.len : end - in;
		if (extent.kind != GM_SOURCE_ZERO)
			live_set(live->data,
				part->page +
					(in - (part->addr - (uintptr_t)part->piece->reach.hva)) /
						LIVE_PAGE,
				(len + (LIVE_PAGE - 1)) / LIVE_PAGE, true);
		in += len;
	}
	return 0;
}

/* What a pager brings: where it has not, the bytes are the source's; where it throws them away they are zeros. */
static void look_at_states(struct gm_snapshot_live *live, const struct live_part *part)
{
	const uint32_t to_come = PAGER_IN(GM_PAGE_ABSENT) | PAGER_IN(GM_PAGE_LOADING) |
				 PAGER_IN(GM_PAGE_FILLED) | PAGER_IN(GM_PAGE_LOST) |
				 PAGER_IN(GM_PAGE_POISONED);
	const struct pager_area *area = part->area;
	uint64_t first = (part->addr - area->addr) / area->page;
	uint64_t nr = part->nr / part->unit;

	for (uint64_t at = 0, run; at < nr; at += run) {
		enum gm_pagestate state = gm_pagestate_get(area->states, first + at);

		run = gm_pagestate_run(area->states, first + at, nr - at);
		if ((PAGER_IN(state) & to_come) || state == GM_PAGE_DROPPED)
			live_set(live->data, part->page + at * part->unit, run * part->unit,
				state != GM_PAGE_DROPPED);
	}
}

static int look(struct gm_snapshot_live *live, const struct live_part *part)
{
	int rc;

	if (part->piece->file) {
		rc = look_by_file(live, part);
		if (!rc && part->unit > 1)
			rc = look_by_entries(live, part, LIVE_ENTRY_PRESENT, live->there);
	} else {
		rc = look_by_scan(live, part, live->data);
		if (rc == -ENOTTY)
			rc = look_by_entries(
				live, part, LIVE_ENTRY_PRESENT | LIVE_ENTRY_SWAP, live->data);
	}
	if (!rc && part->area->way != GM_PAGER_PROTECT)
		look_at_states(live, part);
	return rc;
}

/* ---- protecting ---- */

static uint64_t addr_of(const struct live_part *part, uint64_t page)
{
	return part->addr + (page - part->page) * LIVE_PAGE;
}

/* An unread event of the userfaultfd is read by who steps. */
static int change(const struct live_part *part, uint64_t page, uint64_t nr, bool on)
{
	int rc = -EAGAIN;

	for (unsigned int i = 0; i < TRIES && rc == -EAGAIN; i++) {
		rc = gm_pager_wp_protect(part->area, addr_of(part, page), nr * LIVE_PAGE, on);
		if (rc == -EAGAIN)
			gm_sys_sleep_ns(WAIT_NS);
	}
	return rc;
}

int gm_live_lift(const struct live_part *part, uint64_t page, uint64_t nr)
{
	int rc = gm_pager_wp_protect(part->area, addr_of(part, page), nr * LIVE_PAGE, false);

	return rc == -EAGAIN ? rc : 0;
}

/* By pages if it cannot be done in one go: part of it may have been unmapped. */
void gm_live_lift_surely(const struct live_part *part, uint64_t page, uint64_t nr)
{
	if (!change(part, page, nr, false) || nr == part->unit)
		return;
	for (uint64_t i = 0; i < nr; i += part->unit)
		change(part, page + i, part->unit, false);
}

/* Runs of pages that are to be saved, whole units of the memory. */
static int protect(struct gm_snapshot_live *live, const struct live_part *part)
{
	uint64_t end = part->page + part->nr;
	uint64_t page = part->page;
	int rc = 0;

	while (!rc) {
		uint64_t first = page + live_find(live->held, page, end - page, true);
		uint64_t last = first;

		if (first == end)
			break;
		do {
			last += live_find(live->held, last, end - last, false);
			page = last + live_find(live->held, last, end - last, true);
			if (page == end || page - last > NEAR)
				break;
			last = page;
		} while (true);
		first -= (first - part->page) % part->unit;
		last += (part->unit - (last - part->page) % part->unit) % part->unit;
		rc = change(part, first, last - first, true);
		pthread_mutex_lock(&live->lock);
		live->stats.armed += (last - first) * LIVE_PAGE;
		pthread_mutex_unlock(&live->lock);
		page = page > last ? page : last;
	}
	return rc;
}

static void choose(struct gm_snapshot_live *live, const struct live_part *part)
{
	for (uint64_t page = part->page, end = page + part->nr; page < end;) {
		uint64_t nr;

		page += live_find(live->data, page, end - page, true);
		nr = live_find(live->data, page, end - page, false);
		for (uint64_t i = 0; i < nr && live->s.dirty; i++) {
			if (!live_get(live->s.dirty, page + i))
				live_set(live->data, page + i, 1, false);
		}
		page += nr;
	}
	for (uint64_t page = part->page, end = page + part->nr; page < end;) {
		uint64_t nr;

		page += live_find(live->data, page, end - page, true);
		nr = live_find(live->data, page, end - page, false);
		live_set(live->todo, page, nr, true);
		live_set(live->held, page, nr, true);
		page += nr;
	}
}

static int arm_part(
	struct gm_snapshot_live *live, const struct live_part *part, struct gm_error *err)
{
	struct pager_area *area = part->area;
	int rc = 0;

	pthread_rwlock_wrlock(&area->uffd->lock);
	if (area->taker != &live->taker)
		rc = gm_pager_wp_set(area, &live->taker, err);
	if (rc) {
		pthread_rwlock_unlock(&area->uffd->lock);
		return rc;
	}
	rc = look(live, part);
	if (!rc) {
		choose(live, part);
		rc = protect(live, part);
	}
	pthread_rwlock_unlock(&area->uffd->lock);
	return rc ? refuse(part->piece, rc, "cannot be protected", err) : 0;
}

static int take_log(struct gm_snapshot_live *live, struct gm_log *log, struct gm_error *err)
{
	int rc;

	live->taken = (struct saving_taken){.words = NULL};
	if (!log)
		return 0;
	live->s.err = err;
	rc = gm_saving_take(&live->s, log, &live->taken);
	/* If it failed nothing was taken. */
	live->log = rc ? NULL : log;
	return rc;
}

int gm_live_arm(struct gm_snapshot_live *live, struct gm_log *log, struct gm_error *err)
{
	int rc;

	live->s = (struct saving){.space = live->space, .err = err, .guarded = !gm_guard_check()};
	live->nr_parts = 0;
	do {
		live->s.pagemap = gm_sys_open("/proc/self/pagemap", 0, 0);
	} while (live->s.pagemap == -EINTR);
	rc = live->s.pagemap < 0 ? gm_error_set(err, live->s.pagemap, 0, 0,
					   "/proc/self/pagemap: %s", gm_error_word(live->s.pagemap))
				 : gm_saving_collect(&live->s);
	if (!rc)
		rc = make_parts(live, err);
	if (!rc)
		rc = take_log(live, log, err);
	for (size_t i = 0; i < live->nr_parts && !rc; i++)
		rc = arm_part(live, &live->parts[i], err);
	live->s.err = NULL;
	if (rc)
		gm_live_let_go(live, false);
	return rc;
}

/* ---- the end ---- */

static void lift_all(struct gm_snapshot_live *live)
{
	for (size_t i = 0; i < live->nr_parts; i++) {
		const struct live_part *part = &live->parts[i];

		if (gm_pager_wp_taker(part->area) == &live->taker)
			gm_live_lift_surely(part, part->page, part->nr);
	}
}

void gm_live_let_go(struct gm_snapshot_live *live, bool good)
{
	if (!good && live->held) {
		live_set(live->held, 0, live->s.len / LIVE_PAGE, false);
		lift_all(live);
	}
	for (size_t i = 0; i < live->nr_parts; i++) {
		if (gm_pager_wp_taker(live->parts[i].area) == &live->taker)
			gm_pager_wp_clear(live->parts[i].area);
	}
	if (live->log && !good)
		gm_log_put_back(live->log, 0, live->taken.info.pages, live->taken.words);
	gm_sys_free(live->taken.words);
	live->taken.words = NULL;
	live->log = NULL;
	gm_saving_let_go(&live->s);
	live->s = (struct saving){.pagemap = -1};
	gm_sys_free(live->data);
	gm_sys_free(live->todo);
	gm_sys_free(live->held);
	gm_sys_free(live->there);
	gm_sys_free(live->by_addr);
	live->data = live->todo = live->held = live->there = NULL;
	live->by_addr = NULL;
	live->nr_parts = 0;
	live->armed = false;
}
