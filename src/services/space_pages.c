/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space_pages.c - what backs the memory of a space, by guest address, and filling it.
 *
 * Each piece of memory is looked at by its host addresses; what lies between the extents of a piece is
 * a hole.
 */
#include <guestmem/policy.h>

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/reach.h"
#include "sys/sys.h"

struct walk {
	struct gm_residency *res;
	uint32_t flags;
	int (*fn)(void *arg, const struct gm_space_extent *extent);
	void *arg;
	struct gm_usage sum;
	/* the piece: */
	const struct gm_reach *reach;
	uint64_t next; /* host address of what was not told yet */
	int stopped;
};

static int emit(struct walk *w, uint64_t hva, uint64_t len, const struct gm_extent *extent)
{
	uint64_t base = (uintptr_t)w->reach->hva;
	struct gm_space_extent ret = {
		.gpa = w->reach->range.first + (hva - base),
		.len = len,
		.hva = hva,
		.state = extent ? extent->state : GM_EXTENT_HOLE,
		.page_log2 = extent ? extent->page_log2 : 0,
		.flags = extent ? extent->flags : 0,
	};

	if (w->fn && !w->stopped)
		w->stopped = w->fn(w->arg, &ret);
	w->next = hva + len;
	return w->stopped;
}

/* Extents are of whole pages; the piece may begin and end within one. */
static int on_extent(void *arg, const struct gm_extent *extent)
{
	struct walk *w = arg;
	uint64_t first = (uintptr_t)w->reach->hva;
	uint64_t last = first + gm_range_extent(&w->reach->range);
	uint64_t start = extent->start > first ? extent->start : first;
	uint64_t end_last = extent->start + (extent->len - 1);

	if (end_last > last)
		end_last = last;
	if (start > end_last)
		return 0;
	if (start > w->next && emit(w, w->next, start - w->next, NULL))
		return 1;
	return emit(w, start, end_last - start + 1, extent) != 0;
}

static void add_up(struct gm_usage *sum, const struct gm_usage *more)
{
	sum->sources |= more->sources;
	sum->unseen |= more->unseen;
	sum->present += more->present;
	sum->zero += more->zero;
	sum->swapped += more->swapped;
	sum->shared += more->shared;
	sum->ksm += more->ksm;
	sum->split += more->split;
	sum->extents += more->extents;
	for (int i = 0; i <= GM_USAGE_LOG2_MAX; i++)
		sum->by_log2[i] += more->by_log2[i];
}

static int tell_far(struct walk *w, const struct gm_reach *reach)
{
	struct gm_space_extent far = {
		.gpa = reach->range.first,
		.len = gm_range_len(&reach->range),
		.state = GM_EXTENT_FAR,
	};

	w->stopped = w->fn ? w->fn(w->arg, &far) : 0;
	return w->stopped;
}

static int look_at(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	uint64_t page = gm_sys_page_size();
	uint64_t first = (uintptr_t)reach->hva;
	uint64_t end = first + gm_range_extent(&reach->range) + 1;
	struct gm_usage use = {.size = sizeof(use)};
	struct walk *w = ctx;
	int rc;

	if (!reach->hva)
		return tell_far(w, reach);
	w->reach = reach;
	w->next = first;
	first = gm_align_down(first, page);
	rc = gm_residency_extents(w->res, first, gm_align_down(end + page - 1, page) - first,
		w->flags, w->fn ? on_extent : NULL, w, &use, err);
	if (w->stopped)
		return w->stopped;
	if (rc)
		return rc;
	add_up(&w->sum, &use);
	if (w->fn && w->next != end)
		return emit(w, w->next, end - w->next, NULL);
	return 0;
}

int gm_space_extents(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	int (*fn)(void *arg, const struct gm_space_extent *extent), void *arg, struct gm_usage *ret,
	struct gm_error *err)
{
	struct walk w = {.flags = flags, .fn = fn, .arg = arg};
	int rc;

	if (ret && ret->size < sizeof(*ret))
		return gm_error_set(err, -EINVAL, gpa, len, "gm_usage.size is too small");
	rc = gm_residency_open(0, &w.res, err);
	if (rc)
		return rc;
	rc = gm_reach_each(space, gpa, len, look_at, &w, err);
	gm_residency_close(w.res);
	if (!rc && ret) {
		w.sum.size = ret->size;
		*ret = w.sum;
	}
	return rc;
}

/* ---- filling ---- */

struct filling {
	struct gm_space *space;
	const struct gm_populate_opts *opts;
};

static int fill_piece(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	const struct filling *fill = ctx;
	struct gm_populate_opts opts = *fill->opts;
	struct gm_error inner;
	struct gm_range bytes;
	struct gm_range pages;
	uint64_t start;
	int rc;

	if (!reach->hva || reach->block->dark)
		return 0;
	bytes.first = gm_reach_map_off(reach);
	bytes.last = bytes.first + gm_range_extent(&reach->range);
	gm_range_align_out(&bytes, reach->block->page_size, &pages);
	opts.off = pages.first;
	opts.len = gm_range_len(&pages);
	start = gm_sys_now_ns();
	rc = gm_map_populate(reach->map, &opts, &inner);
	gm_tally(&fill->space->tallies, GM_COUNT_POPULATE, rc ? 0 : opts.len,
		gm_sys_now_ns() - start, rc);
	if (!rc)
		return 0;
	/* Its address is a byte of the block, perhaps one in front of the range. */
	inner.gpa = inner.gpa > reach->block_off ? inner.gpa - reach->block_off : 0;
	return gm_error_set(err, rc, reach->range.first + inner.gpa,
		gm_range_len(&reach->range) - inner.gpa, "%s", inner.text);
}

int gm_space_populate(struct gm_space *space, uint64_t gpa, uint64_t len,
	const struct gm_populate_opts *user, struct gm_error *err)
{
	struct gm_populate_opts opts = {.size = sizeof(opts)};
	struct filling fill = {space, &opts};
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "populate");
	if (opts.off || opts.len)
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: populating a range of a space takes no offset and no length",
			space->name);
	return gm_reach_each(space, gpa, len, fill_piece, &fill, err);
}
