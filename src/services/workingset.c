/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workingset.c - see workingset.h: life and rounds.
 *
 *   begin:  pieces (reach) → method or reason (choose) → sample made untouched (take)
 *   end:    the same pieces, if no commit took them → looked at (count) → summed up
 *
 * Nothing is held between the two. A listener hears what commits take; what it heard of is dropped from the
 * round, not guessed.
 */
#include "services/workingset.h"

#include <errno.h>
#include <guestmem/listener.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/probe.h"
#include "sys/sys.h"

#define PARTS_DEFAULT 128u
#define PARTS_MAX 65536u

/* ---- pieces ---- */

static void free_area(struct gm_area *a)
{
	gm_sys_free(a->pfns);
	gm_sys_free(a->bins);
	gm_block_put(a->block);
}

static void free_areas(struct gm_area *areas, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		free_area(&areas[i]);
	gm_sys_free(areas);
}

/* On the committing thread. */
static void on_remove(void *ctx, const struct gm_section *section)
{
	struct gm_range range = {section->gpa, section->gpa + (section->len - 1)};
	struct gm_workingset *ws = ctx;

	pthread_mutex_lock(&ws->lock);
	ws->changes++;
	for (size_t i = 0; i < ws->nr; i++) {
		if (gm_range_overlaps(&ws->areas[i].range, &range))
			__atomic_store_n(&ws->areas[i].gone, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&ws->lock);
}

/* A round's pieces while they are collected. */
struct collecting {
	struct gm_workingset *ws;
	struct gm_area *areas;
	size_t nr;
	size_t cap;
};

static struct gm_area *room(struct collecting *c)
{
	size_t cap = c->cap ? 2 * c->cap : 16;
	struct gm_area *areas;

	if (c->nr < c->cap)
		return &c->areas[c->nr];
	areas = gm_sys_realloc(c->areas, cap, sizeof(*areas));
	if (!areas)
		return NULL;
	c->areas = areas;
	c->cap = cap;
	return &areas[c->nr];
}

static uint64_t region_at(struct gm_space *space, uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};

	return gm_space_next(space, gpa, &info) ? 0 : info.id;
}

/* The same piece in the round before, to which nothing has happened since. */
static struct gm_area *before(const struct gm_workingset *ws, const struct gm_area *a)
{
	for (size_t i = 0; i < ws->nr; i++) {
		struct gm_area *old = &ws->areas[i];

		if (old->range.first == a->range.first && old->range.last == a->range.last &&
			old->region == a->region && old->hva == a->hva)
			return old;
	}
	return NULL;
}

/* Those that it had in the round before, or new ones. */
static int keep_bins(struct gm_workingset *ws, struct gm_area *a)
{
	uint64_t size = ws->opts.bin;
	struct gm_area *old = before(ws, a);
	uint64_t first;

	if (!size || a->reason)
		return 0;
	if (old && old->bins) {
		a->bins = old->bins;
		old->bins = NULL;
		return 0;
	}
	first = gm_align_down(a->range.first, size);
	a->bins = gm_sys_alloc_array((a->range.last - first) / size + 1, sizeof(*a->bins));
	return a->bins ? 0 : -ENOMEM;
}

/* The whole pages of a piece; false if there are none. */
static bool describe(
	const struct gm_workingset *ws, const struct gm_reach *reach, struct gm_area *a)
{
	uint64_t page = gm_sys_page_size();
	uint64_t unit = reach->block->page_size > page ? reach->block->page_size : page;
	struct gm_range bytes = {
		reach->block_off, reach->block_off + gm_range_extent(&reach->range)};
	struct gm_range pages;
	uint64_t by;

	if (!gm_range_align_in(&bytes, unit, &pages))
		return false;
	by = pages.first - bytes.first;
	*a = (struct gm_area){
		.range = {reach->range.first + by, reach->range.first + (pages.last - bytes.first)},
		.hva = (uintptr_t)reach->hva + (reach->hva ? by : 0),
		.block = gm_block_get(reach->block),
		.block_off = pages.first,
		.unit = unit,
		.parts = ws->opts.parts / (unit / page),
	};
	if (a->parts == 0)
		a->parts = 1;
	a->region = region_at(ws->space, a->range.first);
	return true;
}

/* What the kernel refuses leaves the piece out; without memory there is no round. */
static int collect(struct collecting *c, const struct gm_pass *pass, const struct gm_reach *reach,
	struct gm_error *err)
{
	struct gm_area *a = room(c);
	const struct gm_area *old;
	int rc;

	if (!a)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", c->ws->space->name);
	if (!describe(c->ws, reach, a))
		return 0;
	c->nr++;
	old = before(c->ws, a);
	a->registered = old && old->registered && !gm_area_is_gone(old);
	rc = gm_workingset_choose(c->ws, pass, reach, a, err);
	if (!rc)
		rc = keep_bins(c->ws, a);
	if (rc || a->reason)
		return rc;
	rc = gm_workingset_take(c->ws, a);
	if (!rc)
		return 0;
	a->code = rc;
	a->reason = a->method == GM_WORKINGSET_UNMAP && rc == -EINVAL ? GM_WORKINGSET_LEFT_LOCKED
								      : GM_WORKINGSET_LEFT_KERNEL;
	return rc == -ENOMEM ? rc : 0;
}

static int collect_all(struct collecting *c, const struct gm_pass *pass, struct gm_error *err)
{
	struct gm_range rest = c->ws->range;

	for (;;) {
		struct gm_reach reach;
		uint64_t last;
		int rc = gm_reach_next(c->ws->space, &rest, &reach);

		if (rc)
			return rc == -ENOENT ? 0 : rc;
		last = reach.range.last;
		rc = collect(c, pass, &reach, err);
		gm_reach_put(&reach);
		if (rc || last >= rest.last)
			return rc;
		rest.first = last + 1;
	}
}

/* ---- rounds ---- */

/* From here on the listener marks them. What went before cannot be told apart any more. */
static void publish(struct gm_workingset *ws, struct collecting *c, uint64_t changes)
{
	struct gm_area *old;
	size_t nr;

	pthread_mutex_lock(&ws->lock);
	old = ws->areas;
	nr = ws->nr;
	ws->areas = c->areas;
	ws->nr = c->nr;
	for (size_t i = 0; i < ws->nr && ws->changes != changes; i++)
		ws->areas[i].gone = true;
	pthread_mutex_unlock(&ws->lock);
	free_areas(old, nr);
}

static int nothing_there(const struct gm_workingset *ws, struct gm_error *err)
{
	const struct gm_area *a = ws->areas;

	for (size_t i = 0; i < ws->nr; i++) {
		if (!ws->areas[i].reason)
			return 0;
	}
	if (ws->nr == 0)
		return gm_error_set(err, -ENOTSUP, ws->range.first, gm_range_len(&ws->range),
			"%s: working set: there is no memory in the range", ws->space->name);
	return gm_error_set(err, -ENOTSUP, a->range.first, gm_area_len(a),
		"%s: working set: nothing can be looked at; at gpa 0x%" PRIx64 ": %s%s%s",
		ws->space->name, a->range.first, gm_workingset_why(a), a->code ? ": " : "",
		a->code ? gm_error_word(a->code) : "");
}

static uint64_t changes_of(struct gm_workingset *ws)
{
	uint64_t changes;

	pthread_mutex_lock(&ws->lock);
	changes = ws->changes;
	pthread_mutex_unlock(&ws->lock);
	return changes;
}

int gm_workingset_begin(struct gm_workingset *ws, struct gm_error *err)
{
	struct collecting c = {.ws = ws};
	uint64_t start = gm_sys_now_ns();
	uint64_t changes = changes_of(ws);
	struct gm_pass pass;
	int rc;

	ws->begun = false;
	ws->round++;
	rc = gm_gate_enter(ws->space, &pass, err);
	if (rc)
		return rc;
	if (ws->opts.method != GM_WORKINGSET_REPORTED)
		rc = collect_all(&c, &pass, err);
	gm_gate_leave(ws->space, &pass);
	publish(ws, &c, changes);
	if (!rc && ws->opts.method != GM_WORKINGSET_REPORTED)
		rc = nothing_there(ws, err);
	ws->last.round = 0;
	if (rc)
		return rc;
	ws->begun = true;
	ws->begun_at = gm_sys_now_ns();
	ws->begin_ns = ws->begun_at - start;
	return 0;
}

/* Is it still what it was? Then it is looked at while it is held. */
static int count_area(struct gm_workingset *ws, struct gm_area *a)
{
	struct gm_reach reach;
	int rc;

	if (gm_area_is_gone(a))
		return 0;
	rc = gm_reach_get(ws->space, &a->range, &reach);
	if (rc) {
		__atomic_store_n(&a->gone, true, __ATOMIC_RELEASE);
		return 0;
	}
	if (reach.range.last != a->range.last || reach.block != a->block ||
		reach.block_off != a->block_off || (uintptr_t)reach.hva != a->hva ||
		reach.part != GM_PART_SHARED)
		__atomic_store_n(&a->gone, true, __ATOMIC_RELEASE);
	else
		rc = gm_workingset_count(ws, a);
	gm_reach_put(&reach);
	return rc;
}

static uint64_t memory_in(const struct gm_workingset *ws)
{
	struct gm_range rest = ws->range;
	uint64_t sum = 0;

	for (;;) {
		struct gm_reach reach;

		if (gm_reach_next(ws->space, &rest, &reach))
			return sum;
		sum += gm_range_len(&reach.range);
		rest.first = reach.range.last + 1;
		gm_reach_put(&reach);
		if (rest.first == 0 || rest.first > rest.last)
			return sum;
	}
}

static void take_report(const struct gm_workingset *ws, struct gm_workingset_result *r)
{
	r->methods = UINT32_C(1) << GM_WORKINGSET_REPORTED;
	r->notes = GM_WORKINGSET_UNTRUSTED;
	r->total = memory_in(ws);
	r->bytes = ws->reported < r->total ? ws->reported : r->total;
	r->high = r->total;
}

int gm_workingset_end(
	struct gm_workingset *ws, struct gm_workingset_result *ret, struct gm_error *err)
{
	uint64_t start = gm_sys_now_ns();
	struct gm_workingset_result r = {.size = ret->size, .round = ws->round};

	if (ret->size < sizeof(*ret) || !ws->begun)
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: working set: no round was begun, or the result's size is not set",
			ws->space->name);
	ws->begun = false;
	for (size_t i = 0; i < ws->nr; i++) {
		struct gm_area *a = &ws->areas[i];
		int rc = a->reason ? 0 : count_area(ws, a);

		if (rc)
			return gm_error_set(err, rc, a->range.first, gm_area_len(a),
				"%s: working set: cannot look at gpa 0x%" PRIx64 ": %s",
				ws->space->name, a->range.first, gm_error_word(rc));
	}
	pthread_mutex_lock(&ws->lock);
	gm_workingset_sum(ws, &r);
	pthread_mutex_unlock(&ws->lock);
	if (ws->opts.method == GM_WORKINGSET_REPORTED)
		take_report(ws, &r);
	r.window_ns = start - ws->begun_at;
	r.begin_ns = ws->begin_ns;
	r.end_ns = gm_sys_now_ns() - start;
	GM_PROBE4(workingset, r.bytes, r.looked, r.begin_ns, r.end_ns);
	ws->last = r;
	*ret = r;
	return 0;
}

int gm_workingset_report(struct gm_workingset *ws, uint64_t bytes)
{
	if (ws->opts.method != GM_WORKINGSET_REPORTED)
		return -EINVAL;
	ws->reported = bytes;
	return 0;
}

/* ---- life ---- */

static uint64_t divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* Rounds go through a stratum in steps that are far apart and miss none. */
static uint64_t stride_of(uint64_t parts)
{
	uint64_t stride = parts * 5 / 8;

	while (stride > 1 && divisor(stride, parts) != 1)
		stride--;
	return stride ? stride : 1;
}

static int check_opts(struct gm_workingset *ws, const struct gm_space *space, struct gm_error *err)
{
	const struct gm_workingset_opts *o = &ws->opts;

	if (o->method > GM_WORKINGSET_REPORTED || o->parts > PARTS_MAX ||
		(o->bin && (!gm_is_pow2(o->bin) || o->bin < gm_sys_page_size())))
		return gm_error_set(err, -EINVAL, o->gpa, o->len,
			"%s: working set: no such method, more than %u parts, or bins that are no "
			"power of two "
			"from %zu on",
			space->name, PARTS_MAX, gm_sys_page_size());
	ws->range = (struct gm_range){o->gpa, UINT64_MAX};
	if (o->len && !gm_range_make(o->gpa, o->len, &ws->range))
		return gm_error_set(err, -ERANGE, o->gpa, o->len,
			"%s: gpa 0x%" PRIx64 " and %" PRIu64 " bytes wrap past 2^64", space->name,
			o->gpa, o->len);
	return 0;
}

static void free_all(struct gm_workingset *ws)
{
	free_areas(ws->areas, ws->nr);
	if (ws->uffd >= 0)
		gm_sys_close(ws->uffd);
	if (ws->idle >= 0)
		gm_sys_close(ws->idle);
	if (ws->maps >= 0)
		gm_sys_close(ws->maps);
	if (ws->pagemap >= 0)
		gm_sys_close(ws->pagemap);
	pthread_mutex_destroy(&ws->lock);
	gm_sys_free(ws);
}

static int open_all(struct gm_workingset *ws, struct gm_error *err)
{
	struct gm_listener_ops ops = {
		.size = sizeof(ops),
		.name = "working set",
		.kinds = GM_KINDS_MEMORY,
		.flags = GM_LISTENER_PARTS,
		.remove = on_remove,
		.ctx = ws,
	};

	ws->pagemap = gm_sys_open("/proc/self/pagemap", 0, 0);
	ws->maps = gm_sys_open("/proc/self/maps", 0, 0);
	if (ws->pagemap < 0 || ws->maps < 0)
		return gm_error_set(err, ws->pagemap < 0 ? ws->pagemap : ws->maps, 0, 0,
			"%s: working set: /proc/self/%s: %s", ws->space->name,
			ws->pagemap < 0 ? "pagemap" : "maps",
			gm_error_word(ws->pagemap < 0 ? ws->pagemap : ws->maps));
	return gm_listener_create(ws->space, &ops, &ws->listener, err);
}

int gm_workingset_create(struct gm_space *space, const struct gm_workingset_opts *opts,
	struct gm_workingset **ret, struct gm_error *err)
{
	struct gm_workingset *ws = gm_sys_alloc(sizeof(*ws));
	int rc;

	if (!ws)
		return gm_error_set(
			err, -ENOMEM, 0, 0, "%s: working set: out of memory", space->name);
	ws->space = space;
	ws->pagemap = ws->maps = ws->uffd = ws->idle = -1;
	pthread_mutex_init(&ws->lock, NULL);
	rc = opts ? gm_opts_copy(&ws->opts, sizeof(ws->opts), opts, sizeof(*opts)) : 0;
	if (rc)
		gm_opts_error(err, rc, "working set");
	else
		rc = check_opts(ws, space, err);
	if (!ws->opts.parts)
		ws->opts.parts = PARTS_DEFAULT;
	ws->stride = stride_of(ws->opts.parts);
	if (!rc)
		rc = open_all(ws, err);
	if (rc) {
		free_all(ws);
		return rc;
	}
	*ret = ws;
	return 0;
}

int gm_workingset_destroy(struct gm_workingset *ws, struct gm_error *err)
{
	int rc;

	if (!ws)
		return 0;
	rc = gm_listener_destroy(ws->listener, err);
	if (!rc)
		free_all(ws);
	return rc;
}
