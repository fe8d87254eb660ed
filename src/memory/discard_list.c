/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard_list.c - lists of pages that a guest has given up.
 *
 * First merge, then round, then batch: with a guest running each stretch costs a round of
 * its second page table, so neighbours in one call are worth more than anything else. What remains apart
 * goes by batches. Lists are sorted in the caller's storage.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/bits.h"
#include "core/error.h"
#include "core/sort.h"
#include "memory/discard.h"

#define PFN_SHIFT 12

_Static_assert(sizeof(struct gm_discard_range) == sizeof(struct gm_sort_pair), "sorted as pairs");

/* ---- parts of huge pages ---- */

static uint64_t unit_of(const struct gm_discarding *d, const struct gm_target *t)
{
	const struct gm_block *b = t->block;

	if (b->hugetlb || t->private_half)
		return b->page_size;
	if (d->opts->huge_size)
		return d->opts->huge_size;
	return b->got.kind == GM_PAGE_THP ? UINT64_C(1) << b->got.log2 : b->page_size;
}

/* Where huge pages begin: at multiples of their size in addresses, or in the file. */
static uint64_t place_of(const struct gm_target *t)
{
	if (t->hva && (t->block->backing == GM_BACKING_ANON || t->block->fd < 0))
		return (uintptr_t)t->hva;
	return t->block->offset + t->off;
}

static bool can_batch(const struct gm_discarding *d, const struct gm_target *t, uint32_t by)
{
	return d->batch && !d->pass.held && by == GM_DISCARD_BY_DONTNEED &&
	       t->block->backing == GM_BACKING_ANON && !t->private_half;
}

static int do_pages(struct gm_discarding *d, const struct gm_target *t, uint32_t by)
{
	return can_batch(d, t, by) ? gm_batch_add(d, t) : gm_discard_pages(d, t, by);
}

/* Part of one huge page of the block, which begins at guest address @unit_gpa. */
static int do_part(struct gm_discarding *d, const struct gm_target *t, uint64_t unit,
	uint64_t unit_gpa, uint32_t by)
{
	struct gm_range all = {unit_gpa, unit_gpa + (unit - 1)};
	struct gm_reach reach;
	struct gm_target whole;
	bool full;
	int rc;

	if (d->opts->huge != GM_HUGE_DEFER || unit != gm_defer_unit(d->opts->defer) ||
		!gm_is_aligned(unit_gpa, unit) ||
		!gm_defer_add(d->opts->defer, unit_gpa, &t->range, &full)) {
		d->sum.skipped += gm_range_len(&t->range);
		return 0;
	}
	if (!full) {
		d->sum.deferred += gm_range_len(&t->range);
		return 0;
	}
	rc = gm_reach_get(d->space, &all, &reach);
	if (rc)
		return 0;
	whole = (struct gm_target){
		.reach = &reach,
		.range = reach.range,
		.block = reach.block,
		.off = reach.block_off,
		.hva = reach.hva,
	};
	/* Unless the map has changed since the first part came. */
	if (reach.range.last == all.last && reach.block == t->block)
		rc = do_pages(d, &whole, by);
	else
		d->sum.skipped += gm_range_len(&t->range);
	gm_reach_put(&reach);
	return rc;
}

static int do_parts(struct gm_discarding *d, const struct gm_target *t, uint64_t unit, uint32_t by)
{
	struct gm_range rest = t->range;
	int rc = 0;

	for (;;) {
		uint64_t at = place_of(t) + (rest.first - t->range.first);
		uint64_t left = unit - (at & (unit - 1));
		struct gm_range part = rest;
		struct gm_target piece;

		if (gm_range_extent(&rest) >= left)
			part.last = rest.first + (left - 1);
		piece = gm_target_clip(t, &part);
		rc = do_part(d, &piece, unit, rest.first - (unit - left), by);
		if (rc || part.last == rest.last)
			return rc;
		rest.first = part.last + 1;
	}
}

/* What lies around the huge pages, at either end. */
static int do_ends(struct gm_discarding *d, const struct gm_target *t, const struct gm_range *inner,
	uint64_t unit, uint32_t by)
{
	struct gm_range head = {t->range.first, inner->first - 1};
	struct gm_range tail = {inner->last + 1, t->range.last};
	struct gm_target end;
	int rc = 0;

	if (t->range.first < inner->first) {
		end = gm_target_clip(t, &head);
		rc = do_parts(d, &end, unit, by);
	}
	if (!rc && inner->last < t->range.last) {
		end = gm_target_clip(t, &tail);
		rc = do_parts(d, &end, unit, by);
	}
	return rc;
}

int gm_list_target(struct gm_discarding *d, const struct gm_target *t, uint32_t by)
{
	uint64_t unit = unit_of(d, t);
	struct gm_target base;
	struct gm_target inner;
	int rc;

	/* Pages that are there in part only. */
	if (!t->block->hugetlb) {
		if (!gm_target_pages(t, &base)) {
			d->sum.skipped += gm_range_len(&t->range);
			return 0;
		}
		d->sum.skipped += gm_range_len(&t->range) - gm_range_len(&base.range);
		if (unit <= t->block->page_size || d->opts->huge == GM_HUGE_SPLIT)
			return do_pages(d, &base, by);
	} else {
		base = *t;
	}
	if (!gm_target_round(&base, unit, place_of(&base), &inner))
		return do_parts(d, &base, unit, by);
	if (d->opts->huge == GM_HUGE_DEFER)
		gm_defer_drop(d->opts->defer, &inner.range);
	rc = do_pages(d, &inner, by);
	return rc ? rc : do_ends(d, &base, &inner.range, unit, by);
}

/* ---- lists ---- */

static int check_opts(struct gm_space *space, const struct gm_discard_opts *user,
	struct gm_discard_opts *ret, struct gm_error *err)
{
	int rc;

	*ret = (struct gm_discard_opts){.size = sizeof(*ret)};
	rc = user ? gm_opts_copy(ret, sizeof(*ret), user, sizeof(*ret)) : 0;
	if (rc)
		return gm_opts_error(err, rc, "discard");
	if (ret->huge > GM_HUGE_REFUSE || ret->reserved ||
		(ret->huge_size && !gm_is_pow2(ret->huge_size)) || ret->mode == GM_DISCARD_ZERO)
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: no such policy for huge pages, or their size is no power of two, or "
			"GM_DISCARD_ZERO, which lists do not do",
			space->name);
	if ((ret->huge == GM_HUGE_DEFER) != (ret->defer != NULL))
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: GM_HUGE_DEFER and opts.defer go together", space->name);
	return 0;
}

struct list {
	struct gm_discard_opts opts;
	struct gm_discarding d;
	struct gm_batch batch;
};

static int begin(struct list *list, struct gm_space *space, const struct gm_discard_opts *user,
	const struct gm_discard_result *ret, struct gm_error *err)
{
	int rc = check_opts(space, user, &list->opts, err);

	if (rc)
		return rc;
	list->batch.map = NULL;
	list->batch.nr = 0;
	list->batch.bytes = 0;
	list->d = (struct gm_discarding){
		.space = space,
		.mode = list->opts.mode,
		.flags = list->opts.flags,
		.lenient = true,
		.batch = list->opts.mode == GM_DISCARD_NOW && !list->opts.defer ? &list->batch
										: NULL,
		.opts = &list->opts,
		.err = err,
	};
	rc = gm_discard_begin(&list->d, ret);
	if (!rc && list->opts.defer)
		gm_defer_lock(list->opts.defer);
	return rc;
}

/* What waits in the batch is done also if something else failed. */
static int end(struct list *list, int rc, struct gm_discard_result *ret)
{
	int last = list->d.batch ? gm_batch_flush(&list->d) : 0;

	if (list->opts.defer)
		gm_defer_unlock(list->opts.defer);
	return gm_discard_end(&list->d, rc ? rc : last, ret);
}

/* A list of ranges that are sorted; those that touch are one. */
struct merge {
	struct gm_range open;
	bool any;
};

static int add(struct list *list, struct merge *merge, const struct gm_range *range)
{
	int rc = 0;

	if (merge->any &&
		(range->first <= merge->open.last || gm_range_precedes(&merge->open, range))) {
		if (range->last > merge->open.last)
			merge->open.last = range->last;
		return 0;
	}
	if (merge->any)
		rc = gm_discard_range(&list->d, &merge->open);
	merge->open = *range;
	merge->any = true;
	return rc;
}

static int finish(struct list *list, const struct merge *merge)
{
	return merge->any ? gm_discard_range(&list->d, &merge->open) : 0;
}

int gm_discard_ranges(struct gm_space *space, struct gm_discard_range *ranges, size_t nr,
	const struct gm_discard_opts *opts, struct gm_discard_result *ret, struct gm_error *err)
{
	struct merge merge = {.any = false};
	struct list list;
	int rc = begin(&list, space, opts, ret, err);

	if (rc)
		return rc;
	gm_sort_pairs((struct gm_sort_pair *)(void *)ranges, nr);
	for (size_t i = 0; i < nr && !rc; i++) {
		struct gm_range range;

		if (ranges[i].len == 0)
			continue;
		/* What passes the end of the address space is no memory anyway. */
		if (!gm_range_make(ranges[i].gpa, ranges[i].len, &range))
			range = (struct gm_range){ranges[i].gpa, UINT64_MAX};
		rc = add(&list, &merge, &range);
	}
	if (!rc)
		rc = finish(&list, &merge);
	return end(&list, rc, ret);
}

int gm_discard_pfns(struct gm_space *space, uint32_t *pfns, size_t nr,
	const struct gm_discard_opts *opts, struct gm_discard_result *ret, struct gm_error *err)
{
	struct merge merge = {.any = false};
	struct list list;
	int rc = begin(&list, space, opts, ret, err);

	if (rc)
		return rc;
	gm_sort_u32(pfns, nr);
	for (size_t i = 0; i < nr && !rc; i++) {
		uint64_t gpa = (uint64_t)pfns[i] << PFN_SHIFT;
		struct gm_range range = {gpa, gpa + ((1u << PFN_SHIFT) - 1)};

		rc = add(&list, &merge, &range);
	}
	if (!rc)
		rc = finish(&list, &merge);
	return end(&list, rc, ret);
}

int gm_discard_bitmap(struct gm_space *space, uint64_t gpa, uint64_t page_size, uint64_t nr,
	const uint64_t *words, const struct gm_discard_opts *opts, struct gm_discard_result *ret,
	struct gm_error *err)
{
	struct gm_range run = {.last = 0};
	struct list list;
	uint64_t bytes;
	uint64_t from = 0;
	int rc;

	if (page_size == 0)
		return gm_error_set(
			err, -EINVAL, gpa, 0, "%s: pages of 0 bytes in a bitmap", space->name);
	if (__builtin_mul_overflow(page_size, nr, &bytes) ||
		(bytes && bytes - 1 > UINT64_MAX - gpa))
		return gm_error_set(err, -ERANGE, gpa, 0,
			"%s: a bitmap from gpa 0x%" PRIx64 " on passes 2^64", space->name, gpa);
	rc = begin(&list, space, opts, ret, err);
	if (rc)
		return rc;
	while (!rc && from < nr && gm_bits_next(words, from, nr - 1, &run)) {
		struct gm_range range = {gpa + run.first * page_size,
			gpa + (run.last * page_size + (page_size - 1))};

		rc = gm_discard_range(&list.d, &range);
		from = run.last + 1;
	}
	return end(&list, rc, ret);
}
