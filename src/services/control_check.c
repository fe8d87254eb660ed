/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_check.c - is a request one that may be done?
 *
 * A look only: what was found may change before it is done, so whatever does it looks again at what it
 * touches.
 */
#include "services/control.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "core/error.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define TOKEN UINT64_C(1000000000)

#define ATTR(field_, ...)                                                                          \
	{                                                                                          \
		GM_CLASS_ATTR, 0, field_,                                                          \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}

static const struct gm_control_kind kinds[GM_CONTROL_SLOTS] = {
	[GM_CONTROL_INFO] = {GM_CLASS_TELL, 0, 0, {0}},
	[GM_CONTROL_DONTNEED] = {GM_CLASS_DISCARD, GM_DISCARD_NOW, 0, {0}},
	[GM_CONTROL_REMOVE] = {GM_CLASS_DISCARD, GM_DISCARD_ZERO, 0, {0}},
	[GM_CONTROL_FREE] = {GM_CLASS_DISCARD, GM_DISCARD_LAZY, 0, {0}},
	[GM_CONTROL_PAGEOUT] = {GM_CLASS_DISCARD, GM_DISCARD_PAGEOUT, 0, {0}},
	[GM_CONTROL_DONTDUMP] = ATTR(GM_FIELD_DUMP, .nodump = 1),
	[GM_CONTROL_SET_NAME] = ATTR(GM_FIELD_NAME, 0),
	[GM_CONTROL_MLOCK] = ATTR(GM_FIELD_LOCK, .locked = 1),
	[GM_CONTROL_MUNLOCK] = ATTR(GM_FIELD_LOCK, 0),
	[GM_CONTROL_PROTECT_NONE] = ATTR(GM_FIELD_PROT, .prot = GM_PROT_NONE),
	[GM_CONTROL_PROTECT_R] = ATTR(GM_FIELD_PROT, .prot = GM_PROT_R),
	[GM_CONTROL_PROTECT_W] = ATTR(GM_FIELD_PROT, .prot = GM_PROT_W),
	[GM_CONTROL_PROTECT_RW] = ATTR(GM_FIELD_PROT, 0),
	[GM_CONTROL_MERGEABLE] = ATTR(GM_FIELD_MERGE, .merge = GM_MERGE_YES),
	[GM_CONTROL_UNMERGEABLE] = ATTR(GM_FIELD_MERGE, .merge = GM_MERGE_NO),
	[GM_CONTROL_SLOT(GM_CONTROL_FEATURES)] = {GM_CLASS_TELL, 0, 0, {0}},
	[GM_CONTROL_SLOT(GM_CONTROL_QUERY)] = {GM_CLASS_QUERY, 0, 0, {0}},
	[GM_CONTROL_SLOT(GM_CONTROL_WILLNEED)] = {GM_CLASS_ADVICE, MADV_WILLNEED, 0, {0}},
	[GM_CONTROL_SLOT(GM_CONTROL_COLD)] = {GM_CLASS_DISCARD, GM_DISCARD_COLD, 0, {0}},
	[GM_CONTROL_SLOT(GM_CONTROL_POPULATE)] = {GM_CLASS_FILL, 0, 0, {0}},
	[GM_CONTROL_SLOT(GM_CONTROL_COLLAPSE)] = {GM_CLASS_COLLAPSE, 0, 0, {0}},
	[GM_CONTROL_SLOT(GM_CONTROL_HUGE)] = ATTR(GM_FIELD_HUGE, .huge = GM_HUGE_YES),
	[GM_CONTROL_SLOT(GM_CONTROL_NOHUGE)] = ATTR(GM_FIELD_HUGE, .huge = GM_HUGE_NO),
	[GM_CONTROL_SLOT(GM_CONTROL_NUMA_BIND)] = ATTR(GM_FIELD_NUMA, .numa = GM_NODE_BIND),
	[GM_CONTROL_SLOT(GM_CONTROL_NUMA_PREFER)] = ATTR(GM_FIELD_NUMA, .numa = GM_NODE_PREFER),
	[GM_CONTROL_SLOT(GM_CONTROL_TEXT_NAME)] = {GM_CLASS_MESSAGE, 0, 0, {0}},
	[GM_CONTROL_SLOT(GM_CONTROL_BATCH)] = {GM_CLASS_MESSAGE, 0, 0, {0}},
};

const struct gm_control_kind *gm_control_kind_of(uint64_t code)
{
	if (code > GM_CONTROL_UNMERGEABLE && (code < GM_CONTROL_OWN || code >= GM_CONTROL_END))
		return NULL;
	return &kinds[GM_CONTROL_SLOT(code)];
}

/* ---- rate ---- */

static uint64_t scaled(uint64_t requests)
{
	return requests < UINT64_MAX / TOKEN ? requests * TOKEN : UINT64_MAX;
}

bool gm_control_take_token(struct gm_control *c)
{
	const struct gm_control_opts *o = &c->opts;
	uint64_t now;
	uint64_t came;
	bool taken;

	if (!o->rate)
		return true;
	now = o->now ? o->now(o->ctx) : gm_sys_now_ns();
	pthread_mutex_lock(&c->meter);
	if (c->filled_ns == UINT64_MAX) {
		c->level = scaled(o->burst);
		c->filled_ns = now;
	} else if (now > c->filled_ns) {
		/* A clock that goes back brings nothing. */
		if (__builtin_mul_overflow(now - c->filled_ns, o->rate, &came) ||
			__builtin_add_overflow(c->level, came, &c->level) ||
			c->level > scaled(o->burst))
			c->level = scaled(o->burst);
		c->filled_ns = now;
	}
	taken = c->level >= TOKEN;
	if (taken)
		c->level -= TOKEN;
	pthread_mutex_unlock(&c->meter);
	return taken;
}

/* ---- memory ---- */

static int refuse(const struct gm_reach *reach, int rc, const char *why, struct gm_error *err)
{
	return gm_error_set(err, rc, reach->range.first, gm_range_len(&reach->range),
		"%s: control: at gpa 0x%" PRIx64 ": %s", reach->block->name, reach->range.first,
		why);
}

int gm_control_check_reach(const struct gm_reach *reach, struct gm_error *err)
{
	uint64_t page = reach->block->page_size;

	if (reach->kind != GM_REGION_RAM || reach->part == GM_PART_UNPLUGGED)
		return refuse(reach, -EFAULT, "it is not RAM", err);
	if (reach->part == GM_PART_PRIVATE)
		return refuse(reach, -EACCES, "it is the guest's alone", err);
	if (!(reach->perms & GM_PERM_W))
		return refuse(reach, -EACCES, "it is not writable", err);
	/* By the block's bytes, as huge pages of a file lie. */
	if (!gm_is_aligned(reach->block_off, page) ||
		!gm_is_aligned(gm_range_len(&reach->range), page))
		return refuse(reach, -EINVAL, "these are not whole pages of its backing", err);
	return 0;
}

static int check_memory(struct gm_control *c, const struct gm_range *range, struct gm_error *err)
{
	struct gm_range rest = *range;

	for (uint32_t i = 0; i < GM_CONTROL_REACHES_MAX; i++) {
		struct gm_reach reach;
		uint64_t last;
		int rc = gm_reach_get(c->space, &rest, &reach);

		if (rc)
			return gm_error_set(err, -EFAULT, rest.first, 0,
				"%s: control: there is no RAM at gpa 0x%" PRIx64, c->space->name,
				rest.first);
		last = reach.range.last;
		rc = gm_control_check_reach(&reach, err);
		gm_reach_put(&reach);
		if (rc || last == rest.last)
			return rc;
		rest.first = last + 1;
	}
	return gm_error_set(err, -E2BIG, range->first, gm_range_len(range),
		"%s: control: the range has over %u pieces", c->space->name,
		GM_CONTROL_REACHES_MAX);
}

bool gm_control_is_ram(struct gm_control *c, uint64_t gpa, uint64_t len)
{
	struct gm_range rest;

	if (!gm_range_make(gpa, len, &rest))
		return false;
	for (;;) {
		struct gm_reach reach;
		uint64_t last;
		bool well;

		if (gm_reach_get(c->space, &rest, &reach))
			return false;
		last = reach.range.last;
		well = reach.kind == GM_REGION_RAM && reach.part == GM_PART_SHARED &&
		       (reach.perms & GM_PERM_RW) == GM_PERM_RW;
		gm_reach_put(&reach);
		if (!well || last == rest.last)
			return well;
		rest.first = last + 1;
	}
}

static int check_range(struct gm_control *c, const struct gm_control_request *req,
	struct gm_range *ret, struct gm_error *err)
{
	uint64_t base = gm_sys_page_size();

	if (req->len == 0 || !gm_is_aligned(req->addr, base) || !gm_is_aligned(req->len, base))
		return gm_error_set(err, -EINVAL, req->addr, req->len,
			"%s: control: gpa 0x%" PRIx64 " and %" PRIu64 " bytes are not whole pages",
			c->space->name, req->addr, req->len);
	if (!gm_range_make(req->addr, req->len, ret))
		return gm_error_set(err, -ERANGE, req->addr, req->len,
			"%s: control: gpa 0x%" PRIx64 " and %" PRIu64 " bytes wrap past 2^64",
			c->space->name, req->addr, req->len);
	if (c->opts.max_len && req->len > c->opts.max_len)
		return gm_error_set(err, -E2BIG, req->addr, req->len,
			"%s: control: %" PRIu64 " bytes are more than a request may name",
			c->space->name, req->len);
	if (c->ranges.nr && !gm_rangeset_contains(&c->ranges, ret))
		return gm_error_set(err, -EPERM, req->addr, req->len,
			"%s: control: gpa 0x%" PRIx64 " and %" PRIu64
			" bytes are not in the ranges that may be named",
			c->space->name, req->addr, req->len);
	return check_memory(c, ret, err);
}

static bool node_allowed(const struct gm_control *c, const struct gm_control_request *req)
{
	if (req->code != GM_CONTROL_NUMA_BIND && req->code != GM_CONTROL_NUMA_PREFER)
		return true;
	return req->arg < 64 && (c->opts.numa_nodes >> req->arg & 1);
}

int gm_control_check(struct gm_control *c, const struct gm_control_request *req,
	struct gm_range *ret, struct gm_error *err)
{
	const struct gm_control_kind *kind = gm_control_kind_of(req->code);
	int rc = 0;

	if (!kind || kind->class == GM_CLASS_MESSAGE)
		return gm_error_set(err, -EOPNOTSUPP, req->addr, req->len,
			"%s: control: there is no function %" PRIu64, c->space->name, req->code);
	if (!(c->opts.allow & GM_CONTROL_BIT(req->code)) || !node_allowed(c, req))
		return gm_error_set(err, -EPERM, req->addr, req->len,
			"%s: control: function %" PRIu64 " (argument %" PRIu64 ") is not allowed",
			c->space->name, req->code, req->arg);
	if (kind->class != GM_CLASS_TELL)
		rc = check_range(c, req, ret, err);
	if (!rc && c->opts.permit)
		rc = c->opts.permit(c->opts.ctx, req);
	/* An answer that is no errno is the caller's mistake, not the guest's right. */
	return rc > 0 || rc < -4095 ? -EPERM : rc;
}
