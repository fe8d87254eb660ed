/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waste.c - see waste.h: extents of the page tables to units.
 *
 *   extents (residency) → units of a huge page → contents of what is present → reason → sums
 */
#include "services/waste.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "memory/avail.h"
#include "memory/reach.h"
#include "services/checksum.h"
#include "services/workingset.h"
#include "sys/sys.h"

#define STOP 1

/* ---- mappings ---- */

static int keep_mapping(struct gm_wasting *w, const struct gm_mapping *m)
{
	bool file = m->flags & GM_MAPPING_FILE;

	if (w->nr_maps == w->cap_maps) {
		size_t cap = w->cap_maps ? 2 * w->cap_maps : 32;
		struct gm_waste_mapping *maps = gm_sys_realloc(w->maps, cap, sizeof(*maps));

		if (!maps)
			return -ENOMEM;
		w->maps = maps;
		w->cap_maps = cap;
	}
	w->maps[w->nr_maps++] = (struct gm_waste_mapping){
		.start = m->start,
		.end = m->start + m->len,
		.flags = m->flags,
		.askew = file && !(m->flags & GM_MAPPING_HUGETLB) &&
			 !gm_is_aligned(m->start - m->offset, w->unit_size),
	};
	return 0;
}

static int read_mappings(struct gm_wasting *w, struct gm_error *err)
{
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_mappings *it;
	int rc = gm_mappings_open(w->res, GM_MAPPINGS_DETAILS, &it, err);
	int next = 1;

	if (rc)
		return rc;
	while (!rc && (next = gm_mappings_next(it, &m)) > 0) {
		if (m.start >= w->end)
			break;
		if (m.start >= w->start || w->start - m.start < m.len)
			rc = keep_mapping(w, &m);
	}
	gm_mappings_close(it);
	if (!rc && next < 0)
		rc = next;
	return rc ? gm_error_set(err, rc, 0, 0, "process %d: its mappings: %s", (int)w->pid,
			    gm_error_word(rc))
		  : 0;
}

/* That which covers the unit, or NULL. */
static const struct gm_waste_mapping *mapping_of(const struct gm_wasting *w, uint64_t start)
{
	for (size_t i = 0; i < w->nr_maps; i++) {
		const struct gm_waste_mapping *m = &w->maps[i];

		if (start >= m->start && start < m->end)
			return m->end - start >= w->unit_size ? m : NULL;
	}
	return NULL;
}

/* ---- units ---- */

static uint32_t reason_of(const struct gm_wasting *w)
{
	const struct gm_waste_unit *u = &w->unit;
	const struct gm_waste_mapping *m = mapping_of(w, gm_align_down(u->start, w->unit_size));

	if (u->huge && u->huge == u->present)
		return GM_WASTE_HUGE;
	if (u->swapped)
		return GM_WASTE_SWAPPED;
	if (w->merged)
		return GM_WASTE_MERGED;
	if (!m || m->askew)
		return GM_WASTE_EDGE;
	if (m->flags & GM_MAPPING_NOTHP)
		return GM_WASTE_FORBIDDEN;
	if (w->split)
		return GM_WASTE_SPLIT;
	return u->present == w->unit_size ? GM_WASTE_SMALL : GM_WASTE_PARTLY;
}

static void add_heat(struct gm_wasting *w)
{
	struct gm_waste_unit *u = &w->unit;

	if (w->opts.workingset && w->in_space)
		gm_workingset_heat(w->opts.workingset, u->gpa, u->len, &u->samples, &u->touched);
}

static void add_unit(struct gm_wasting *w)
{
	const struct gm_waste_unit *u = &w->unit;

	w->sum.present += u->present;
	w->sum.huge += u->huge;
	w->sum.zero += u->zero;
	w->sum.swapped += u->swapped;
	w->sum.units[u->reason]++;
	if (u->reason == GM_WASTE_SMALL)
		w->sum.could += u->present;
	if (u->reason == GM_WASTE_HUGE)
		w->sum.waste += u->zero;
	if (w->in_space && !gm_is_aligned(u->gpa - u->start, w->unit_size))
		w->sum.askew += u->present;
}

/* 0 or STOP. */
static int close_unit(struct gm_wasting *w)
{
	if (!w->open)
		return 0;
	w->open = false;
	if (w->opts.flags)
		w->code = gm_waste_read(w);
	if (w->code)
		return STOP;
	w->unit.reason = reason_of(w);
	add_heat(w);
	add_unit(w);
	if (w->fn)
		w->stopped = w->fn(w->arg, &w->unit);
	return w->stopped ? STOP : 0;
}

static void open_unit(struct gm_wasting *w, uint64_t at)
{
	uint64_t first = gm_align_down(at, w->unit_size);
	uint64_t end = first + w->unit_size;
	uint64_t start = first > w->start ? first : w->start;

	w->open = true;
	w->split = w->merged = false;
	w->nr = 0;
	w->unit = (struct gm_waste_unit){
		.start = start,
		.gpa = w->in_space ? w->gpa + (start - w->start) : 0,
		.len = (end < w->end ? end : w->end) - start,
	};
}

static void add_part(struct gm_wasting *w, uint64_t start, uint64_t len, const struct gm_extent *e)
{
	struct gm_waste_unit *u = &w->unit;

	if (e->state == GM_EXTENT_SWAPPED)
		u->swapped += len;
	if (e->state == GM_EXTENT_ZERO)
		u->zero += len;
	if (e->state != GM_EXTENT_PRESENT)
		return;
	u->present += len;
	u->huge += e->flags & GM_EXTENT_HUGE ? len : 0;
	w->split |= (e->flags & GM_EXTENT_SPLIT) != 0;
	w->merged |= (e->flags & GM_EXTENT_KSM) != 0;
	if (w->nr < GM_UNIT_EXTENTS)
		w->present[w->nr++] = (struct gm_range){start, start + (len - 1)};
	else
		w->sum.unread += len;
}

static int on_extent(void *arg, const struct gm_extent *e)
{
	struct gm_wasting *w = arg;
	uint64_t at = e->start;
	uint64_t end = e->start + e->len;

	while (at < end) {
		uint64_t stop = gm_align_down(at, w->unit_size) + w->unit_size;

		if (w->open && at - gm_align_down(w->unit.start, w->unit_size) >= w->unit_size &&
			close_unit(w))
			return STOP;
		if (!w->open)
			open_unit(w, at);
		stop = stop < end ? stop : end;
		add_part(w, at, stop - at, e);
		at = stop;
	}
	return 0;
}

/* ---- one call ---- */

static int check_opts(struct gm_wasting *w, const struct gm_waste_opts *user,
	const struct gm_waste *ret, struct gm_error *err)
{
	struct gm_waste_opts *o = &w->opts;
	int rc = user ? gm_opts_copy(o, sizeof(*o), user, sizeof(*user)) : 0;
	uint64_t sum;

	if (rc)
		return gm_opts_error(err, rc, "waste");
	if ((o->flags & ~(GM_WASTE_ZERO | GM_WASTE_DUPLICATES)) ||
		(o->residency & ~GM_RESIDENCY_FOLIOS) || o->reserved ||
		(ret && ret->size < sizeof(*ret)))
		return gm_error_set(err, -EINVAL, 0, 0,
			"waste: unknown flags, or the result's size is not set");
	if ((o->flags & GM_WASTE_DUPLICATES) && !gm_checksum_bytes("", 1, &sum))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"waste: duplicates are not looked for: this library was built without "
			"xxHash");
	return 0;
}

static struct gm_wasting *create(const struct gm_waste_opts *opts, const struct gm_waste *ret,
	int *ret_code, struct gm_error *err)
{
	struct gm_wasting *w = gm_sys_alloc(sizeof(*w));

	*ret_code = -ENOMEM;
	if (!w) {
		gm_error_set(err, -ENOMEM, 0, 0, "waste: out of memory");
		return NULL;
	}
	w->unit_size = UINT64_C(1) << gm_thp_pmd_log2();
	w->page = gm_sys_page_size();
	*ret_code = check_opts(w, opts, ret, err);
	if (!*ret_code)
		return w;
	gm_sys_free(w);
	return NULL;
}

static void destroy(struct gm_wasting *w)
{
	gm_sys_free(w->maps);
	gm_sys_free(w->contents.list);
	gm_sys_free(w);
}

/* Units of which nothing was told. */
static void count_empty(struct gm_wasting *w, const uint64_t *before)
{
	uint64_t first = gm_align_down(w->start, w->unit_size);
	uint64_t all = (w->end - first + w->unit_size - 1) / w->unit_size;
	uint64_t told = 0;

	for (size_t i = 0; i < GM_WASTE_REASONS; i++)
		told += w->sum.units[i] - before[i];
	w->sum.units[GM_WASTE_EMPTY] += all - told;
}

/* One stretch of host addresses. */
static int scan(struct gm_wasting *w, uint64_t start, uint64_t len, struct gm_error *err)
{
	struct gm_usage before = {.size = sizeof(before)};
	struct gm_usage after = {.size = sizeof(after)};
	uint64_t units[GM_WASTE_REASONS];
	int rc;

	memcpy(units, w->sum.units, sizeof(units));
	w->start = start;
	w->end = start + len;
	w->nr_maps = 0;
	rc = read_mappings(w, err);
	if (!rc)
		rc = gm_residency_extents(
			w->res, start, len, w->opts.residency, on_extent, w, &before, err);
	if (rc == 0 && close_unit(w))
		rc = STOP;
	if (rc == STOP)
		rc = w->stopped ? w->stopped
				: gm_error_set(err, w->code, w->unit.start, w->unit.len,
					  "process %d: its memory cannot be read: %s", (int)w->pid,
					  gm_error_word(w->code));
	if (rc)
		return rc;
	w->sum.total += len;
	count_empty(w, units);
	if (w->opts.flags)
		rc = gm_residency_usage(w->res, start, len, 0, &after, err);
	w->sum.disturbed += after.present > before.present ? after.present - before.present : 0;
	return rc;
}

static int conclude(struct gm_wasting *w, int rc, struct gm_waste *ret, struct gm_error *err)
{
	if (!rc && (w->opts.flags & GM_WASTE_DUPLICATES)) {
		rc = gm_waste_compare(w);
		if (rc)
			gm_error_set(err, rc, 0, 0, "process %d: its memory cannot be read: %s",
				(int)w->pid, gm_error_word(rc));
	}
	if (!rc && ret) {
		w->sum.size = ret->size;
		*ret = w->sum;
	}
	destroy(w);
	return rc;
}

int gm_waste_scan(struct gm_residency *res, uint64_t start, uint64_t len,
	const struct gm_waste_opts *opts, int (*fn)(void *arg, const struct gm_waste_unit *unit),
	void *arg, struct gm_waste *ret, struct gm_error *err)
{
	struct gm_usage probe = {.size = sizeof(probe)};
	struct gm_wasting *w;
	int rc;

	w = create(opts, ret, &rc, err);
	if (!w)
		return rc;
	w->res = res;
	w->pid = res->pid;
	w->fn = fn;
	w->arg = arg;
	/* Also says what is wrong with the range. */
	rc = gm_residency_usage(res, start, 0, 0, &probe, err);
	if (!rc && len)
		rc = scan(w, start, len, err);
	return conclude(w, rc, ret, err);
}

/* ---- a space ---- */

static int scan_piece(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	struct gm_wasting *w = ctx;
	struct gm_range pages = {
		(uintptr_t)reach->hva, (uintptr_t)reach->hva + gm_range_extent(&reach->range)};

	if (!reach->hva || reach->block->dark || reach->kind == GM_REGION_DEVMEM ||
		!gm_range_align_in(&pages, w->page, &pages))
		return 0;
	w->gpa = reach->range.first + (pages.first - (uintptr_t)reach->hva);
	return scan(w, pages.first, gm_range_len(&pages), err);
}

int gm_waste_space(struct gm_space *space, uint64_t gpa, uint64_t len,
	const struct gm_waste_opts *opts, int (*fn)(void *arg, const struct gm_waste_unit *unit),
	void *arg, struct gm_waste *ret, struct gm_error *err)
{
	struct gm_wasting *w;
	int rc;

	w = create(opts, ret, &rc, err);
	if (!w)
		return rc;
	w->fn = fn;
	w->arg = arg;
	w->in_space = true;
	rc = gm_residency_open(0, &w->res, err);
	if (rc) {
		destroy(w);
		return rc;
	}
	rc = gm_reach_each(space, gpa, len, scan_piece, w, err);
	gm_residency_close(w->res);
	return conclude(w, rc, ret, err);
}
