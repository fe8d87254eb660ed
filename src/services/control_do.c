/* SPDX-License-Identifier: BSD-3-Clause */
/* control_do.c - requests that passed the checks, by what they are; several as one. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <guestmem/policy.h>

#include "core/error.h"
#include "memory/avail.h"
#include "services/control.h"
#include "sys/sys.h"

#define VERSION_MAJOR 1u
#define VERSION_MINOR 0u
#define NAME_TAKEN 24u

/* ---- discards ---- */

static int discard(struct gm_control *c, const struct gm_range *range, uint32_t mode,
	struct gm_control_result *ret, struct gm_error *err)
{
	struct gm_discard_result r = {.size = sizeof(r)};
	uint64_t len = gm_range_len(range);
	int rc = gm_discard(c->space, range->first, len, mode, 0, &r, err);

	/* Where pages cannot be freed later they may be freed at once: also what is locked. */
	if (mode == GM_DISCARD_LAZY && (rc == -ENOTSUP || rc == -EINVAL) && r.done == 0)
		rc = gm_discard(c->space, range->first, len, GM_DISCARD_NOW, 0, &r, err);
	ret->done = r.done + r.zeroed;
	if (!rc && ret->done != len)
		rc = gm_error_set(err, -EBUSY, range->first, len,
			"%s: control: the map has changed meanwhile", c->space->name);
	if (rc && ret->done == 0 &&
		(rc == -EBUSY || rc == -ENOTSUP || rc == -EACCES || rc == -EFAULT || rc == -EPERM))
		ret->stage = GM_CONTROL_REFUSED;
	return rc;
}

/* ---- advice, filling, huge pages ---- */

struct look {
	const struct gm_control_kind *kind;
	struct gm_control *c;
	struct gm_control_result *ret;
};

/* Everything that follows works on memory that is mapped here. */
static int check_mapped(const struct gm_reach *reach, bool huge_too, struct gm_error *err)
{
	int rc = gm_control_check_reach(reach, err);

	if (rc ||
		(reach->hva && !reach->block->dark && reach->block->backing != GM_BACKING_POINTER &&
			(huge_too || !reach->block->hugetlb)))
		return rc;
	return gm_error_set(err, -ENOTSUP, reach->range.first, gm_range_len(&reach->range),
		"%s: control: at gpa 0x%" PRIx64 " are explicit huge pages, or memory that is not "
		"mapped here",
		reach->block->name, reach->range.first);
}

static int look_reach(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	const struct look *look = ctx;
	uint32_t class = look->kind->class;

	return check_mapped(reach, class == GM_CLASS_FILL || class == GM_CLASS_QUERY, err);
}

static int advise_reach(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	const struct look *look = ctx;
	int rc = check_mapped(reach, false, err);

	if (rc)
		return rc;
	do {
		rc = gm_sys_madvise(
			reach->hva, (size_t)gm_range_len(&reach->range), look->kind->mode);
	} while (rc == -EINTR);
	if (rc)
		return gm_error_set(err, rc, reach->range.first, gm_range_len(&reach->range),
			"%s: control: at gpa 0x%" PRIx64 ": %s", reach->block->name,
			reach->range.first, gm_error_word(rc));
	look->ret->done += gm_range_len(&reach->range);
	return 0;
}

static int page_size_reach(void *ctx, struct gm_reach *reach, struct gm_error *err)
{
	const struct look *look = ctx;
	int rc = look_reach(ctx, reach, err);

	if (!rc && reach->block->page_size > look->ret->value)
		look->ret->value = reach->block->page_size;
	return rc;
}

static int query(struct look *look, const struct gm_range *range, struct gm_error *err)
{
	struct gm_usage use = {.size = sizeof(use)};
	uint64_t len = gm_range_len(range);
	int rc = gm_reach_each(look->c->space, range->first, len, page_size_reach, look, err);

	if (!rc)
		rc = gm_space_extents(look->c->space, range->first, len, 0, NULL, NULL, &use, err);
	if (rc)
		return rc;
	look->ret->arg0 = use.present;
	for (uint32_t i = 0; i <= GM_USAGE_LOG2_MAX; i++) {
		if (UINT64_C(1) << i > gm_sys_page_size())
			look->ret->arg1 += use.by_log2[i];
	}
	look->ret->done = len;
	return 0;
}

static int fill(struct look *look, const struct gm_range *range, struct gm_error *err)
{
	/* The guest's own thread works, and no other. */
	const struct gm_populate_opts opts = {.size = sizeof(opts), .threads = 1};
	int rc = gm_space_populate(look->c->space, range->first, gm_range_len(range), &opts, err);

	look->ret->done = rc ? 0 : gm_range_len(range);
	return rc;
}

static int collapse(struct look *look, const struct gm_range *range, struct gm_error *err)
{
	struct gm_policy_result r = {.size = sizeof(r)};
	int rc = gm_policy_collapse(look->c->space, range->first, gm_range_len(range), 0, &r, err);

	look->ret->done = r.huge << gm_thp_pmd_log2();
	return rc;
}

static int work(struct look *look, const struct gm_range *range, struct gm_error *err)
{
	uint64_t len = gm_range_len(range);
	int rc;

	if (look->kind->class == GM_CLASS_QUERY)
		return query(look, range, err);
	if (look->kind->class == GM_CLASS_ADVICE)
		return gm_reach_each(look->c->space, range->first, len, advise_reach, look, err);
	rc = gm_reach_each(look->c->space, range->first, len, look_reach, look, err);
	if (rc)
		return rc;
	return look->kind->class == GM_CLASS_FILL ? fill(look, range, err)
						  : collapse(look, range, err);
}

/* ---- one request ---- */

static void tell(const struct gm_control *c, uint64_t code, struct gm_control_result *ret)
{
	if (code == GM_CONTROL_FEATURES) {
		ret->value = c->opts.allow;
		return;
	}
	ret->value = gm_sys_page_size();
	ret->arg0 = VERSION_MAJOR;
	ret->arg1 = VERSION_MINOR;
}

/* What the kernel takes in a name: printable, and none of these. */
static void clean_name(char *to, const char *from)
{
	for (uint32_t i = 0; i < NAME_TAKEN && from[i]; i++) {
		bool bad = from[i] < 0x20 || from[i] > 0x7e || strchr("\\`$[]", from[i]);

		to[i] = bad ? '_' : from[i];
	}
}

static struct gm_control_attr attr_of(
	const struct gm_control_kind *kind, const struct gm_control_request *req)
{
	struct gm_control_attr attr = kind->attr;
	static const char prefix[] = "guest:";

	if (kind->field == GM_FIELD_NUMA) {
		attr.node = (uint8_t)req->arg;
	} else if (kind->field == GM_FIELD_NAME && (req->arg || req->name)) {
		memcpy(attr.name, prefix, sizeof(prefix) - 1);
		if (req->name)
			clean_name(attr.name + sizeof(prefix) - 1, req->name);
		else
			snprintf(attr.name, sizeof(attr.name), "guest:%" PRIu64, req->arg);
	}
	return attr;
}

static int dispatch(struct gm_control *c, const struct gm_control_request *req,
	const struct gm_range *range, struct gm_control_result *ret, struct gm_error *err)
{
	const struct gm_control_kind *kind = gm_control_kind_of(req->code);
	struct look look = {.kind = kind, .c = c, .ret = ret};
	struct gm_control_attr attr;
	int rc;

	switch (kind->class) {
	case GM_CLASS_TELL:
		tell(c, req->code, ret);
		return 0;
	case GM_CLASS_DISCARD:
		return discard(c, range, kind->mode, ret, err);
	case GM_CLASS_ATTR:
		attr = attr_of(kind, req);
		return gm_control_attr_do(
			c, range, (enum gm_control_field)kind->field, &attr, ret, err);
	default:
		rc = work(&look, range, err);
		if (rc && ret->done == 0 && (rc == -ENOTSUP || rc == -EACCES || rc == -EFAULT))
			ret->stage = GM_CONTROL_REFUSED;
		return rc;
	}
}

static void count(
	struct gm_control *c, uint64_t code, const struct gm_control_result *ret, uint64_t requests)
{
	pthread_mutex_lock(&c->meter);
	c->sum.requests += requests;
	c->sum.bytes += ret->done;
	if (ret->stage == GM_CONTROL_REFUSED)
		c->sum.refused += requests;
	else if (ret->stage == GM_CONTROL_FAILED)
		c->sum.failed += requests;
	else
		c->sum.counts[GM_CONTROL_SLOT(code)] += requests;
	pthread_mutex_unlock(&c->meter);
}

/* @requests: that this one stands for. */
static int run(struct gm_control *c, const struct gm_control_request *req, uint64_t requests,
	struct gm_control_result *ret, struct gm_error *err)
{
	struct gm_range range = {0, 0};
	size_t size = ret->size;
	int rc;

	*ret = (struct gm_control_result){.size = size, .stage = GM_CONTROL_REFUSED};
	rc = gm_control_check(c, req, &range, err);
	if (!rc) {
		ret->stage = GM_CONTROL_FAILED;
		rc = dispatch(c, req, &range, ret, err);
	}
	ret->code = rc;
	if (!rc) {
		ret->stage = GM_CONTROL_DONE;
		/* Of a collapse what is huge now. */
		if (gm_control_kind_of(req->code)->class == GM_CLASS_ATTR)
			ret->done = gm_range_len(&range);
	}
	if (rc == 0 || requests == 1)
		count(c, req->code, ret, requests);
	return rc;
}

static void throttled(struct gm_control *c, struct gm_control_result *ret)
{
	*ret = (struct gm_control_result){
		.size = ret->size, .code = -EAGAIN, .stage = GM_CONTROL_REFUSED};
	pthread_mutex_lock(&c->meter);
	c->sum.requests++;
	c->sum.refused++;
	c->sum.throttled++;
	pthread_mutex_unlock(&c->meter);
}

int gm_control_request(struct gm_control *control, const struct gm_control_request *request,
	struct gm_control_result *ret, struct gm_error *err)
{
	const struct gm_control_request req = *request;

	if (ret->size < sizeof(*ret))
		return gm_error_set(err, -EINVAL, 0, 0, "control: the result's size is not set");
	if (!gm_control_take_token(control)) {
		throttled(control, ret);
		return gm_error_set(err, -EAGAIN, req.addr, req.len,
			"%s: control: too many requests", control->space->name);
	}
	return run(control, &req, 1, ret, err);
}

/* ---- several ---- */

static bool is_pages(const struct gm_control_request *req)
{
	uint64_t base = gm_sys_page_size();

	return req->len && gm_is_aligned(req->addr, base) && gm_is_aligned(req->len, base);
}

/* How many from @at on are one; *ret is that one. */
static size_t run_of(
	const struct gm_control_request *reqs, size_t at, size_t nr, struct gm_control_request *ret)
{
	const struct gm_control_kind *kind = gm_control_kind_of(reqs[at].code);
	size_t end = at + 1;

	*ret = reqs[at];
	if (!kind || !is_pages(ret) || kind->class == GM_CLASS_TELL ||
		kind->class == GM_CLASS_QUERY || kind->class == GM_CLASS_COLLAPSE)
		return 1;
	for (; end < nr; end++) {
		const struct gm_control_request *r = &reqs[end];
		uint64_t next;
		uint64_t len;

		if (r->code != ret->code || r->arg != ret->arg || r->name != ret->name ||
			!is_pages(r) || __builtin_add_overflow(ret->addr, ret->len, &next) ||
			r->addr != next || __builtin_add_overflow(ret->len, r->len, &len))
			break;
		ret->len = len;
	}
	return end - at;
}

static size_t do_run(struct gm_control *c, const struct gm_control_request *reqs, size_t nr,
	const struct gm_control_request *one, struct gm_control_result *rets)
{
	struct gm_control_result r = {.size = sizeof(r)};
	size_t well = 0;

	if (nr > 1 && run(c, one, nr, &r, NULL) == 0) {
		for (size_t i = 0; i < nr; i++) {
			rets[i] = r;
			rets[i].done = reqs[i].len;
		}
		return nr;
	}
	for (size_t i = 0; i < nr; i++) {
		rets[i].size = sizeof(rets[i]);
		well += run(c, &reqs[i], 1, &rets[i], NULL) == 0;
	}
	return well;
}

size_t gm_control_batch(struct gm_control *control, const struct gm_control_request *requests,
	size_t nr, struct gm_control_result *rets)
{
	size_t well = 0;
	size_t at = 0;
	size_t end;

	while (at < nr) {
		struct gm_control_request one;
		size_t some;
		size_t allowed = 0;

		some = run_of(requests, at, nr, &one);
		while (allowed < some && gm_control_take_token(control))
			allowed++;
		end = at + some;
		if (allowed && allowed < some)
			run_of(requests, at, at + allowed, &one);
		if (allowed)
			well += do_run(control, &requests[at], allowed, &one, &rets[at]);
		for (at += allowed; at < end; at++) {
			rets[at].size = sizeof(rets[at]);
			throttled(control, &rets[at]);
		}
	}
	return well;
}
