/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memmap_place.c - RAM laid around windows.
 *
 * RAM comes piece by piece from next_piece(), which knows the windows that move it. emit_piece()
 * cuts out those that lie over it, and puts all windows that the guest is told of into their
 * places. All of it runs twice: to count, and to write.
 */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "core/memmap.h"
#include "core/range.h"

#define RAM_FLAGS (GM_MEMMAP_HOTPLUG | GM_MEMMAP_NONVOLATILE | GM_MEMMAP_ABSENT)
#define ALIGN_DEFAULT 4096u

struct placer {
	const struct gm_memmap_layout *layout;
	/* RAM that was not placed yet. */
	size_t ram;
	uint64_t left; /* bytes of this amount */
	/* Addresses that were not looked at yet: [next, layout->last], unless it is full. */
	uint64_t next;
	bool full;
	size_t moving; /* the next window that may move RAM */
	/* The output. */
	struct gm_memmap_entry *ret;
	size_t cap;
	size_t nr;
	size_t window; /* the next window that was not written yet */
	uint64_t done; /* addresses below it are written, */
	bool all_done; /* or all are */
};

/* ---- pieces of RAM ---- */

static bool moves(const struct gm_memmap_entry *window)
{
	return !(window->flags & GM_MEMMAP_OVER_RAM);
}

static void pass(struct placer *p, uint64_t last)
{
	p->full = last >= p->layout->last;
	if (!p->full)
		p->next = last + 1;
}

/* The stretch without windows that comes next; false if there is none. */
static bool next_room(struct placer *p, struct gm_range *ret)
{
	const struct gm_memmap_layout *layout = p->layout;

	for (; !p->full && p->moving < layout->nr_windows; p->moving++) {
		const struct gm_memmap_entry *window = &layout->windows[p->moving];

		if (!moves(window) || window->last < p->next)
			continue;
		if (window->first > p->next) {
			*ret = (struct gm_range){p->next, window->first - 1};
			if (ret->last > layout->last)
				ret->last = layout->last;
			return true;
		}
		pass(p, window->last);
	}
	*ret = (struct gm_range){p->next, layout->last};
	return !p->full;
}

/* The part of @room that the amount takes: aligned, and only its last piece is not a multiple. */
static bool fit(const struct placer *p, const struct gm_range *room, struct gm_range *ret)
{
	uint64_t align = p->layout->align;
	uint64_t first;
	uint64_t len;

	if (!gm_align_up(room->first, align, &first) || first > room->last)
		return false;
	if (p->left - 1 <= room->last - first) {
		*ret = (struct gm_range){first, first + (p->left - 1)};
		return true;
	}
	/* Shorter than the amount, so its length can be written down. */
	len = gm_align_down(room->last - first + 1, align);
	return gm_range_make(first, len, ret);
}

static int no_room(const struct placer *p, struct gm_error *err)
{
	const struct gm_memmap_ram *ram = &p->layout->ram[p->ram];

	return gm_error_set(err, -ENOSPC, p->full ? p->layout->last : p->next, p->left,
		"amount %zu (0x%" PRIx64 " bytes for node %u): the last 0x%" PRIx64
		" do not fit below 0x%" PRIx64 " at multiples of 0x%" PRIx64,
		p->ram, ram->len, ram->node, p->left, p->layout->last, p->layout->align);
}

/* 1 and the next piece of RAM, 0 at the end, or -ENOSPC. */
static int next_piece(struct placer *p, struct gm_memmap_entry *ret, struct gm_error *err)
{
	const struct gm_memmap_ram *ram;
	struct gm_range room;
	struct gm_range part;

	while (p->left == 0) {
		if (p->ram == p->layout->nr_ram || ++p->ram == p->layout->nr_ram)
			return 0;
		p->left = p->layout->ram[p->ram].len;
	}
	while (next_room(p, &room)) {
		if (!fit(p, &room, &part)) {
			pass(p, room.last);
			continue;
		}
		ram = &p->layout->ram[p->ram];
		*ret = (struct gm_memmap_entry){
			.first = part.first,
			.last = part.last,
			.kind = ram->kind ? ram->kind : GM_MEMMAP_RAM,
			.node = ram->node,
			.flags = ram->flags,
		};
		p->left -= gm_range_extent(&part) + 1;
		pass(p, part.last);
		return 1;
	}
	return no_room(p, err);
}

/* ---- the output ---- */

/* Writes [first, last] as @like. */
static void emit(
	struct placer *p, uint64_t first, uint64_t last, const struct gm_memmap_entry *like)
{
	if (p->nr < p->cap) {
		p->ret[p->nr] = *like;
		p->ret[p->nr].first = first;
		p->ret[p->nr].last = last;
		p->ret[p->nr].flags &= ~GM_MEMMAP_OVER_RAM;
	}
	p->nr++;
}

static void emit_window(struct placer *p)
{
	const struct gm_memmap_entry *window = &p->layout->windows[p->window++];

	if (window->kind != GM_MEMMAP_HOLE)
		emit(p, window->first, window->last, window);
	p->all_done = window->last == UINT64_MAX;
	p->done = window->last + 1;
}

static void emit_piece(struct placer *p, const struct gm_memmap_entry *piece)
{
	const struct gm_memmap_layout *layout = p->layout;

	while (p->window < layout->nr_windows && layout->windows[p->window].first <= piece->last) {
		uint64_t first = layout->windows[p->window].first;
		uint64_t from = piece->first > p->done ? piece->first : p->done;

		if (first > from)
			emit(p, from, first - 1, piece);
		emit_window(p);
	}
	if (p->all_done || p->done > piece->last)
		return;
	emit(p, piece->first > p->done ? piece->first : p->done, piece->last, piece);
}

static int run(struct placer *p, struct gm_error *err)
{
	struct gm_memmap_entry piece;
	int rc;

	if (p->layout->nr_ram)
		p->left = p->layout->ram[0].len;
	p->next = p->layout->first;
	while ((rc = next_piece(p, &piece, err)) == 1)
		emit_piece(p, &piece);
	while (p->window < p->layout->nr_windows)
		emit_window(p);
	return rc;
}

/* ---- checks ---- */

static int check_ram(const struct gm_memmap_layout *layout, struct gm_error *err)
{
	for (size_t i = 0; i < layout->nr_ram; i++) {
		const struct gm_memmap_ram *ram = &layout->ram[i];

		if (ram->kind > GM_MEMMAP_SOFT_RESERVED || (ram->flags & ~RAM_FLAGS) ||
			ram->reserved)
			return gm_error_set(err, -EINVAL, 0, 0,
				"amount %zu: unknown kind %u or flags 0x%x, or reserved is not 0",
				i, ram->kind, ram->flags);
	}
	return 0;
}

static int check_layout(
	const struct gm_memmap_layout *user, struct gm_memmap_layout *layout, struct gm_error *err)
{
	int rc = gm_opts_copy(layout, sizeof(*layout), user, sizeof(*layout));

	if (rc)
		return gm_opts_error(err, rc, "layout of RAM");
	if (layout->last == 0)
		layout->last = UINT64_MAX;
	if (layout->align == 0)
		layout->align = ALIGN_DEFAULT;
	if (!gm_is_pow2(layout->align))
		return gm_error_set(err, -EINVAL, 0, 0,
			"alignment 0x%" PRIx64 " is no power of two", layout->align);
	if (layout->first > layout->last)
		return gm_error_set(err, -EINVAL, layout->first, 0,
			"RAM is to begin at 0x%" PRIx64 " and to end at 0x%" PRIx64, layout->first,
			layout->last);
	rc = check_ram(layout, err);
	return rc ? rc
		  : gm_memmap_check_as(layout->windows, layout->nr_windows, "window",
			    RAM_FLAGS | GM_MEMMAP_OVER_RAM, err);
}

int gm_memmap_place(const struct gm_memmap_layout *user, struct gm_memmap_entry *ret, size_t cap,
	size_t *ret_needed, struct gm_error *err)
{
	struct gm_memmap_layout layout;
	struct placer count = {.layout = &layout};
	struct placer write = {.layout = &layout, .ret = ret, .cap = cap};
	int rc = check_layout(user, &layout, err);

	if (!rc)
		rc = run(&count, err);
	if (rc)
		return rc;
	*ret_needed = count.nr;
	if (count.nr > cap)
		return gm_error_set(err, -ENOBUFS, 0, 0,
			"the map has %zu entries, there is room for %zu", count.nr, cap);
	return run(&write, err);
}
