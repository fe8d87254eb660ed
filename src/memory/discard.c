/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard.c - see discard.h: one range.
 *
 *   range → pieces of memory → halves (shared, private bytes) → whole pages → asked → done → marked → told
 *
 * A range that the embedder names is looked at whole before anything is done; of a list that a guest
 * has written what is refused is counted and the rest done.
 */
#include "memory/discard.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "memory/dirty.h"
#include "memory/listener.h"
#include "sys/probe.h"
#include "sys/sys.h"

typedef int target_fn(struct gm_discarding *d, const struct gm_target *target, void *ctx);

/* ---- targets ---- */

struct gm_target gm_target_clip(const struct gm_target *t, const struct gm_range *range)
{
	uint64_t by = range->first - t->range.first;
	struct gm_target ret = *t;

	ret.range = *range;
	ret.off += by;
	if (ret.hva)
		ret.hva += by;
	return ret;
}

bool gm_target_round(const struct gm_target *t, uint64_t unit, uint64_t at, struct gm_target *ret)
{
	struct gm_range bytes = {at, at + gm_range_extent(&t->range)};
	struct gm_range pages;

	if (!gm_range_align_in(&bytes, unit, &pages))
		return false;
	pages.first = t->range.first + (pages.first - at);
	pages.last = t->range.first + (pages.last - at);
	*ret = gm_target_clip(t, &pages);
	return true;
}

static bool is_coordinated(const struct gm_discarding *d, const struct gm_target *t)
{
	return (d->flags & GM_DISCARD_COORDINATED) || t->reach->part == GM_PART_UNPLUGGED ||
	       t->private_half != (t->reach->part == GM_PART_PRIVATE);
}

int gm_discard_targets(
	struct gm_discarding *d, const struct gm_reach *reach, target_fn *fn, void *ctx)
{
	uint32_t halves = d->flags & (GM_DISCARD_SHARED | GM_DISCARD_PRIVATE);
	struct gm_target t = {.reach = reach, .range = reach->range};
	int rc = 0;

	if (!halves && reach->part != GM_PART_PRIVATE)
		halves = GM_DISCARD_SHARED;
	if (!(d->flags & (GM_DISCARD_SHARED | GM_DISCARD_PRIVATE)) &&
		reach->part != GM_PART_SHARED && reach->private_block)
		halves |= GM_DISCARD_PRIVATE;
	if (halves & GM_DISCARD_SHARED) {
		t.block = reach->block;
		t.off = reach->block_off;
		t.hva = reach->hva;
		rc = fn(d, &t, ctx);
	}
	if (rc || !(halves & GM_DISCARD_PRIVATE))
		return rc;
	if (!reach->private_block)
		return gm_error_set(d->err, -ENOTSUP, reach->range.first,
			gm_range_len(&reach->range),
			"%s: the region at gpa 0x%" PRIx64 " has no private block", d->space->name,
			reach->range.first);
	t.block = reach->private_block;
	t.off = reach->private_off;
	t.hva = NULL;
	t.private_half = true;
	return fn(d, &t, ctx);
}

static int no_memory_there(const struct gm_discarding *d, uint64_t gpa, int rc)
{
	return gm_error_set(d->err, rc, gpa, 0, "%s: %s at gpa 0x%" PRIx64, d->space->name,
		rc == -EFAULT ? "there is no memory" : "there is no memory of this space", gpa);
}

/* Calls @fn for each half of each piece; every address must be memory. */
static int each_target(
	struct gm_discarding *d, const struct gm_range *range, target_fn *fn, void *ctx)
{
	struct gm_range rest = *range;

	for (;;) {
		struct gm_reach reach;
		uint64_t last;
		int rc = gm_reach_get(d->space, &rest, &reach);

		if (rc)
			return no_memory_there(d, rest.first, rc);
		last = reach.range.last;
		rc = gm_discard_targets(d, &reach, fn, ctx);
		gm_reach_put(&reach);
		if (rc || last == rest.last)
			return rc;
		rest.first = last + 1;
	}
}

/* ---- listeners ---- */

static bool wants(const struct gm_listener *l, const struct gm_target *t)
{
	return l->ops.discard && (l->ops.kinds & GM_KIND_BIT(t->reach->kind));
}

static void tell(const struct gm_listener *from, const struct gm_target *t,
	const struct gm_discard_event *event)
{
	for (const struct gm_listener *l = from; l; l = l->next) {
		if (wants(l, t))
			l->ops.discard(l->ops.ctx, event, NULL);
	}
}

static struct gm_discard_event event_of(const struct gm_discarding *d, const struct gm_target *t)
{
	return (struct gm_discard_event){
		.phase = GM_DISCARD_ASK,
		.mode = d->mode,
		.flags = is_coordinated(d, t) ? GM_DISCARD_COORDINATED : 0,
		.gpa = t->range.first,
		.len = gm_range_len(&t->range),
		.hva = t->hva,
		.block = t->block,
		.block_off = t->off,
	};
}

/* The last one first; those that had agreed before a refusal are told that nothing comes of it. */
static int ask_from(const struct gm_discarding *d, const struct gm_listener *l,
	const struct gm_target *t, struct gm_discard_event *event)
{
	struct gm_error why = {0};
	int rc;

	if (!l)
		return 0;
	rc = ask_from(d, l->next, t, event);
	if (rc || !wants(l, t))
		return rc;
	rc = l->ops.discard(l->ops.ctx, event, &why);
	if (rc >= 0)
		return 0;
	event->phase = GM_DISCARD_DROPPED;
	tell(l->next, t, event);
	return gm_error_set(d->err, rc, t->range.first, event->len,
		"%s: listener \"%s\" refuses the discard at gpa 0x%" PRIx64 ": %s", d->space->name,
		l->name, t->range.first, why.text[0] ? why.text : gm_error_word(rc));
}

static int ask(const struct gm_discarding *d, const struct gm_target *t)
{
	struct gm_discard_event event = event_of(d, t);

	return ask_from(d, d->space->listeners, t, &event);
}

static bool is_asked(const struct gm_discarding *d)
{
	return d->pass.held && gm_discard_loses(d->mode);
}

static void tell_done(struct gm_discarding *d, const struct gm_target *t, int rc)
{
	struct gm_discard_event event = event_of(d, t);

	if (!is_asked(d))
		return;
	d->nr_told++;
	event.phase = GM_DISCARD_DONE;
	event.code = rc;
	tell(d->space->listeners, t, &event);
}

/* What was asked of a whole range, in the order of its targets. */
struct asked {
	size_t nr;   /* targets to which all have agreed */
	size_t from; /* of these the first that is to be dropped */
	size_t at;
};

/* The whole pages of a target that listeners are asked for; none where zeros are written. */
static bool asked_pages(
	const struct gm_discarding *d, const struct gm_target *t, struct gm_target *ret)
{
	uint32_t by;

	return gm_way_pick(t, d->mode, d->flags, &by, NULL) == 0 && by != GM_DISCARD_BY_FILL &&
	       gm_target_pages(t, ret);
}

static int ask_target(struct gm_discarding *d, const struct gm_target *t, void *ctx)
{
	struct asked *asked = ctx;
	struct gm_target pages;
	int rc;

	if (!asked_pages(d, t, &pages))
		return 0;
	rc = ask(d, &pages);
	asked->nr += !rc;
	return rc;
}

static int drop_target(struct gm_discarding *d, const struct gm_target *t, void *ctx)
{
	struct asked *asked = ctx;
	struct gm_discard_event event;
	struct gm_target pages;

	if (!asked_pages(d, t, &pages))
		return 0;
	if (asked->at >= asked->from && asked->at < asked->nr) {
		event = event_of(d, &pages);
		event.phase = GM_DISCARD_DROPPED;
		tell(d->space->listeners, &pages, &event);
	}
	asked->at++;
	return 0;
}

/* ---- doing ---- */

static void mark(const struct gm_discarding *d, const struct gm_range *range)
{
	if (gm_discard_loses(d->mode))
		gm_dirty_mark_later(d->space->dirty, range->first, gm_range_len(range));
}

static void count_refused(struct gm_discarding *d, uint64_t gpa, uint64_t len, int rc)
{
	if (d->sum.refused == 0) {
		d->sum.gpa = gpa;
		d->sum.code = rc;
	}
	d->sum.refused += len;
}

int gm_discard_pages(struct gm_discarding *d, const struct gm_target *t, uint32_t by)
{
	int rc = d->lenient && is_asked(d) ? ask(d, t) : 0;
	uint64_t start;
	uint64_t ns;

	if (rc) {
		count_refused(d, t->range.first, gm_range_len(&t->range), rc);
		return 0;
	}
	start = gm_sys_now_ns();
	rc = gm_way_go(t, &by, d->err);
	ns = gm_sys_now_ns() - start;
	gm_discard_counted(d, t->block, gm_range_len(&t->range), ns, rc);
	GM_PROBE5(discard, t->range.first, gm_range_len(&t->range), d->mode, ns, rc);
	/* Also after a failure: part of it may be gone. */
	mark(d, &t->range);
	tell_done(d, t, rc);
	if (rc)
		return rc;
	d->sum.done += gm_range_len(&t->range);
	d->sum.ranges++;
	d->sum.ways |= by;
	return 0;
}

static int fill(struct gm_discarding *d, const struct gm_target *t)
{
	uint64_t done;
	int rc = gm_way_fill(d->space, t, &done, d->err);

	if (done) {
		mark(d, &(struct gm_range){t->range.first, t->range.first + done - 1});
		d->sum.ways |= GM_DISCARD_BY_FILL;
	}
	d->sum.zeroed += done;
	return rc;
}

/* What lies around the whole pages of a target. */
static int do_edge(struct gm_discarding *d, const struct gm_target *t, uint64_t first, uint64_t end)
{
	struct gm_range range = {first, end - 1};
	struct gm_target edge = gm_target_clip(t, &range);

	if (first == end)
		return 0;
	if (d->mode == GM_DISCARD_ZERO)
		return fill(d, &edge);
	d->sum.skipped += end - first;
	return 0;
}

/* @ctx: NULL, or the way that was picked. */
static int do_target(struct gm_discarding *d, const struct gm_target *t, void *ctx)
{
	struct gm_target pages;
	uint32_t by = 0;
	int rc = 0;

	if (ctx)
		by = *(const uint32_t *)ctx;
	else
		rc = gm_way_pick(t, d->mode, d->flags, &by, d->err);
	if (rc)
		return rc;
	if (by == GM_DISCARD_BY_FILL)
		return fill(d, t);
	if (d->opts)
		return gm_list_target(d, t, by);
	if (!gm_target_pages(t, &pages)) {
		if (d->mode == GM_DISCARD_ZERO)
			return fill(d, t);
		d->sum.skipped += gm_range_len(&t->range);
		return 0;
	}
	/* Guard pages take the place of anonymous ones in one step. */
	if (d->guard && t->block->backing == GM_BACKING_ANON)
		by = GM_DISCARD_BY_GUARD;
	rc = gm_discard_pages(d, &pages, by);
	if (!rc && d->guard && by != GM_DISCARD_BY_GUARD)
		rc = gm_way_guard(&pages, true, d->err);
	if (!rc && d->guard)
		d->sum.ways |= GM_DISCARD_BY_GUARD;
	if (!rc)
		rc = do_edge(d, t, t->range.first, pages.range.first);
	/* A difference, as the end may be 2^64. */
	if (!rc && pages.range.last != t->range.last)
		rc = do_edge(d, t, pages.range.last + 1, t->range.last + 1);
	return rc;
}

/* @ctx: NULL, or where to put the way. */
static int check_target(struct gm_discarding *d, const struct gm_target *t, void *ctx)
{
	uint32_t by;
	int rc = gm_way_pick(t, d->mode, d->flags, &by, d->err);

	if (!rc && ctx)
		*(uint32_t *)ctx = by;
	if (!rc && d->guard)
		rc = gm_way_check_guard(t, d->err);
	if (!rc && gm_discard_loses(d->mode))
		rc = gm_gate_check(d->space, &d->pass, &t->range, is_coordinated(d, t), d->err);
	return rc;
}

/* ---- one range ---- */

/* All of it, or an error in front of anything. */
static int do_whole(struct gm_discarding *d, const struct gm_range *range)
{
	struct asked asked = {0};
	int rc = each_target(d, range, check_target, NULL);

	if (!rc && is_asked(d)) {
		rc = each_target(d, range, ask_target, &asked);
		if (rc) {
			each_target(d, range, drop_target, &asked);
			return rc;
		}
	}
	if (!rc)
		rc = each_target(d, range, do_target, NULL);
	if (rc && asked.nr) {
		asked.from = d->nr_told;
		each_target(d, range, drop_target, &asked);
	}
	return rc;
}

/* The common case is one piece, which is looked up once. */
static int do_piece(struct gm_discarding *d, const struct gm_range *range)
{
	struct gm_reach reach;
	int rc = gm_reach_get(d->space, range, &reach);

	if (rc)
		return no_memory_there(d, range->first, rc);
	if (reach.range.last != range->last || is_asked(d)) {
		gm_reach_put(&reach);
		return do_whole(d, range);
	}
	rc = gm_discard_targets(d, &reach, check_target, NULL);
	if (!rc)
		rc = gm_discard_targets(d, &reach, do_target, NULL);
	gm_reach_put(&reach);
	return rc;
}

/* What the kernel answers ends the list; what the map or somebody forbids is counted. */
static int do_lenient_target(struct gm_discarding *d, const struct gm_target *t, void *ctx)
{
	uint32_t by = 0;
	int rc = check_target(d, t, &by);

	(void)ctx;
	if (rc) {
		count_refused(d, t->range.first, gm_range_len(&t->range), rc);
		return 0;
	}
	return do_target(d, t, &by);
}

/* The piece at or above an address, all of it: the next ranges are likely to be in it too. */
static int find_kept(struct gm_discarding *d, uint64_t gpa)
{
	struct gm_range rest = {gpa, UINT64_MAX};

	if (d->kept.map && gm_range_has(&d->kept.range, gpa))
		return 0;
	if (d->kept.map)
		gm_reach_put(&d->kept);
	d->kept.map = NULL;
	return gm_reach_next(d->space, &rest, &d->kept);
}

static int do_lenient(struct gm_discarding *d, const struct gm_range *range)
{
	struct gm_range rest = *range;

	for (;;) {
		struct gm_reach reach;
		struct gm_range part;
		int rc = find_kept(d, rest.first);

		if (rc && rc != -ENOENT)
			return rc;
		if (rc || !gm_range_intersect(&d->kept.range, &rest, &part)) {
			count_refused(d, rest.first, gm_range_len(&rest), -EFAULT);
			return 0;
		}
		if (part.first > rest.first)
			count_refused(d, rest.first, part.first - rest.first, -EFAULT);
		reach = d->kept;
		gm_reach_clip(&reach, &part);
		rc = gm_discard_targets(d, &reach, do_lenient_target, NULL);
		if (rc || part.last == rest.last)
			return rc;
		rest.first = part.last + 1;
	}
}

int gm_discard_range(struct gm_discarding *d, const struct gm_range *range)
{
	return d->lenient ? do_lenient(d, range) : do_piece(d, range);
}

/* ---- one call ---- */

int gm_discard_begin(struct gm_discarding *d, const struct gm_discard_result *ret)
{
	if (d->mode > GM_DISCARD_UNMAP || (d->flags & ~GM_DISCARD_FLAGS) ||
		(ret && ret->size < sizeof(*ret)))
		return gm_error_set(d->err, -EINVAL, 0, 0,
			"%s: no such way to discard, unknown flags, or the result's size is not "
			"set",
			d->space->name);
	if (d->space->granted)
		return gm_error_set(d->err, -EPERM, 0, 0,
			"%s: it belongs to a grant: the space that grants discards",
			d->space->name);
	return gm_gate_enter(d->space, &d->pass, d->err);
}

int gm_discard_end(struct gm_discarding *d, int rc, struct gm_discard_result *ret)
{
	if (d->kept.map)
		gm_reach_put(&d->kept);
	gm_gate_leave(d->space, &d->pass);
	if (ret) {
		d->sum.size = ret->size;
		*ret = d->sum;
	}
	return rc;
}

static int check_range(const struct gm_space *space, uint64_t gpa, uint64_t len,
	struct gm_range *ret, struct gm_error *err)
{
	if (len == 0 || gm_range_make(gpa, len, ret))
		return 0;
	return gm_error_set(err, -ERANGE, gpa, len,
		"%s: gpa 0x%" PRIx64 " and %" PRIu64 " bytes wrap past 2^64", space->name, gpa,
		len);
}

static int run(struct gm_discarding *d, uint64_t gpa, uint64_t len, struct gm_discard_result *ret)
{
	struct gm_range range = {0, 0};
	int rc = check_range(d->space, gpa, len, &range, d->err);

	if (!rc)
		rc = gm_discard_begin(d, ret);
	if (rc)
		return rc;
	if (len)
		rc = gm_discard_range(d, &range);
	return gm_discard_end(d, rc, ret);
}

int gm_discard(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t mode, uint32_t flags,
	struct gm_discard_result *ret, struct gm_error *err)
{
	struct gm_discarding d = {.space = space, .mode = mode, .flags = flags, .err = err};

	return run(&d, gpa, len, ret);
}

/* ---- guard pages ---- */

int gm_range_guard(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t flags,
	struct gm_discard_result *ret, struct gm_error *err)
{
	struct gm_discarding d = {
		.space = space,
		.flags = flags | GM_DISCARD_SHARED,
		.guard = true,
		.err = err,
	};

	if (flags & ~(GM_DISCARD_ANY_KIND | GM_DISCARD_COORDINATED))
		return gm_error_set(err, -EINVAL, gpa, len, "%s: unknown flags", space->name);
	return run(&d, gpa, len, ret);
}

static int unguard_target(struct gm_discarding *d, const struct gm_target *t, void *ctx)
{
	struct gm_target pages;
	int rc = gm_way_check_guard(t, d->err);

	(void)ctx;
	if (rc || !gm_target_pages(t, &pages))
		return rc;
	return gm_way_guard(&pages, false, d->err);
}

int gm_range_unguard(struct gm_space *space, uint64_t gpa, uint64_t len, struct gm_error *err)
{
	struct gm_discarding d = {.space = space, .flags = GM_DISCARD_SHARED, .err = err};
	struct gm_range range = {0, 0};
	int rc = check_range(space, gpa, len, &range, err);

	return rc || len == 0 ? rc : each_target(&d, &range, unguard_target, NULL);
}
