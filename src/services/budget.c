/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * budget.c - one amount of memory for several sparse regions: who gives back, who may have more, whose blocks
 * become huge.
 *
 *   count → cut by shares → those above give back → what they could not give is theirs; cut again → limits down,
 *   then up → hottest blocks of all, as far as bloat and limits go
 */
#include <guestmem/budget.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "core/shares.h"
#include "core/sort.h"
#include "services/sparse.h"
#include "sys/sys.h"

#define HEATS 64u /* addresses that are asked of a member */

_Static_assert(sizeof(struct gm_heat) == sizeof(struct gm_sort_pair), "sorted as pairs");

struct member {
	struct gm_budget_share share;
	uint64_t used;
	uint64_t target;
	uint64_t huge;
};

struct gm_budget {
	struct gm_budget_opts opts;
	struct member *members;
	struct gm_share *cut; /* as many */
	struct gm_heat *heat; /* HEATS for each */
	size_t nr;
};

/* ---- life ---- */

int gm_budget_create(
	const struct gm_budget_opts *user, struct gm_budget **ret_budget, struct gm_error *err)
{
	struct gm_budget_opts opts;
	struct gm_budget *budget;
	int rc = gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts));

	if (rc)
		return gm_opts_error(err, rc, "budget");
	if (opts.total == 0 || !gm_is_aligned(opts.total, gm_sys_page_size()))
		return gm_error_set(err, -EINVAL, 0, opts.total,
			"budget: a total of %" PRIu64 " bytes is none, or not in whole pages",
			opts.total);
	if (!gm_is_aligned(opts.headroom, gm_sys_page_size()) || opts.step > 1000 || opts.reserved)
		return gm_error_set(err, -EINVAL, 0, opts.headroom,
			"budget: a headroom of %" PRIu64
			" bytes is not in whole pages, or the step "
			"of %" PRIu32 " is over 1000",
			opts.headroom, opts.step);
	budget = gm_sys_alloc(sizeof(*budget));
	if (!budget)
		return gm_error_set(err, -ENOMEM, 0, 0, "budget: out of memory");
	budget->opts = opts;
	if (!budget->opts.step)
		budget->opts.step = 50;
	*ret_budget = budget;
	return 0;
}

void gm_budget_destroy(struct gm_budget *budget)
{
	if (!budget)
		return;
	gm_sys_free(budget->members);
	gm_sys_free(budget->cut);
	gm_sys_free(budget->heat);
	gm_sys_free(budget);
}

static bool grow(struct gm_budget *budget, size_t nr)
{
	struct member *members = gm_sys_realloc(budget->members, nr, sizeof(*members));
	struct gm_share *cut;
	struct gm_heat *heat;

	if (!members)
		return false;
	budget->members = members;
	cut = gm_sys_realloc(budget->cut, nr, sizeof(*cut));
	if (!cut)
		return false;
	budget->cut = cut;
	heat = gm_sys_realloc(budget->heat, nr, HEATS * sizeof(*heat));
	if (!heat)
		return false;
	budget->heat = heat;
	return true;
}

static const char *share_problem(const struct gm_budget_share *share)
{
	if (!share->sparse)
		return "there is no region";
	if (share->shares == 0 || share->shares > UINT32_MAX)
		return "shares are from 1 to 2^32 - 1";
	if (share->min > share->sparse->opts.len || !gm_is_aligned(share->min, gm_sys_page_size()))
		return "the minimum is more than the region, or not in whole pages";
	return NULL;
}

int gm_budget_add(
	struct gm_budget *budget, const struct gm_budget_share *user, struct gm_error *err)
{
	struct gm_budget_share share;
	uint64_t left = budget->opts.total;
	const char *problem;
	int rc = gm_opts_copy(&share, sizeof(share), user, sizeof(share));

	if (rc)
		return gm_opts_error(err, rc, "member of a budget");
	problem = share_problem(&share);
	if (problem)
		return gm_error_set(err, -EINVAL, 0, share.min, "budget: %s", problem);
	for (size_t i = 0; i < budget->nr; i++) {
		left -= budget->members[i].share.min;
		if (budget->members[i].share.sparse == share.sparse)
			return gm_error_set(err, -EEXIST, 0, 0, "budget: %s is in it already",
				share.sparse->name);
	}
	if (share.min > left)
		return gm_error_set(err, -ENOSPC, 0, share.min,
			"budget: %s: a minimum of %" PRIu64 " bytes, but only %" PRIu64
			" are not promised",
			share.sparse->name, share.min, left);
	if (!grow(budget, budget->nr + 1))
		return gm_error_set(err, -ENOMEM, 0, 0, "budget: out of memory");
	budget->members[budget->nr++] = (struct member){.share = share};
	return 0;
}

int gm_budget_remove(struct gm_budget *budget, const struct gm_sparse *sparse)
{
	for (size_t i = 0; i < budget->nr; i++) {
		if (budget->members[i].share.sparse != sparse)
			continue;
		budget->members[i] = budget->members[--budget->nr];
		return 0;
	}
	return -ENOENT;
}

/* ---- shares ---- */

static uint64_t page_up(uint64_t bytes)
{
	uint64_t page = gm_sys_page_size();

	return gm_align_up(bytes, page, &bytes) ? bytes : gm_align_down(bytes, page);
}

/*
 * Targets that together are at most @total. First nobody has more than its headroom above what it uses; what is left
 * then goes to all. @kept: what is backed cannot be taken back.
 */
static bool cut(struct gm_budget *budget, uint64_t total, bool kept)
{
	bool fits;

	for (size_t i = 0; i < budget->nr; i++) {
		const struct member *m = &budget->members[i];
		uint64_t least = kept && m->used > m->share.min ? page_up(m->used) : m->share.min;
		uint64_t most = m->share.sparse->opts.len;

		if (budget->opts.headroom && most > m->used &&
			most - m->used > budget->opts.headroom)
			most = page_up(m->used + budget->opts.headroom);
		budget->cut[i] = (struct gm_share){.shares = m->share.shares,
			.min = least,
			.max = most > least ? most : least};
	}
	fits = gm_shares_cut(budget->cut, budget->nr, total, gm_sys_page_size());
	for (size_t i = 0; fits && budget->opts.headroom && i < budget->nr; i++) {
		budget->cut[i].min = budget->cut[i].part;
		budget->cut[i].max = budget->members[i].share.sparse->opts.len;
	}
	if (fits && budget->opts.headroom)
		gm_shares_cut(budget->cut, budget->nr, total, gm_sys_page_size());
	for (size_t i = 0; i < budget->nr; i++)
		budget->members[i].target = budget->cut[i].part;
	return fits;
}

/* ---- one balance ---- */

static int count(struct gm_budget *budget, bool huge, uint64_t *ret_used, struct gm_error *err)
{
	int rc = 0;

	*ret_used = 0;
	for (size_t i = 0; !rc && i < budget->nr; i++) {
		struct member *m = &budget->members[i];

		rc = gm_sparse_count(m->share.sparse, &m->used, huge ? &m->huge : NULL, err);
		*ret_used += m->used;
	}
	return rc;
}

/* Less than the budget while tasks wait for memory, but never below the minima. */
static uint64_t total_now(const struct gm_budget *budget, uint32_t pressure, uint64_t used)
{
	uint64_t total = budget->opts.total;
	uint64_t least = 0;

	if (!budget->opts.pressure || pressure < budget->opts.pressure)
		return total;
	for (size_t i = 0; i < budget->nr; i++)
		least += budget->members[i].share.min;
	used -= used / 1000 * budget->opts.step;
	used = gm_align_down(used, gm_sys_page_size());
	used = used > least ? used : least;
	return used < total ? used : total;
}

static int take_back(struct gm_budget *budget, struct gm_error *err)
{
	for (size_t i = 0; i < budget->nr; i++) {
		struct member *m = &budget->members[i];
		int rc = m->used > m->target
				 ? gm_sparse_reclaim(m->share.sparse, m->target, 0, NULL, err)
				 : 0;

		if (rc < 0 && rc != -EBUSY)
			return rc;
	}
	return 0;
}

/* True if one is above its target, as the kernel keeps it and more is backed by now. */
static bool set_limits(struct gm_budget *budget, bool down)
{
	uint64_t page = gm_sys_page_size();
	bool above = false;

	for (size_t i = 0; i < budget->nr; i++) {
		struct member *m = &budget->members[i];
		uint64_t target = m->target ? m->target : page;

		if ((target < atomic_load(&m->share.sparse->limit)) != down)
			continue;
		if (gm_sparse_set_limit(m->share.sparse, target, NULL) == 0 || !down)
			continue;
		m->used = atomic_load(&m->share.sparse->limit);
		above = true;
	}
	return above;
}

static void add_limits(const struct gm_budget *budget, struct gm_budget_result *r)
{
	for (size_t i = 0; i < budget->nr; i++) {
		const struct member *m = &budget->members[i];

		r->limits += atomic_load(&m->share.sparse->limit);
		r->huge += m->huge;
	}
	r->over = r->limits > r->total ? r->limits - r->total : 0;
}

/* Of one block, which is the member's. */
static int promote_one(struct member *m, struct gm_heat *item, uint64_t room,
	struct gm_policy_result *ret, struct gm_error *err)
{
	struct gm_sparse *sparse = m->share.sparse;
	int rc;

	if (item->gpa < sparse->opts.gpa || item->gpa - sparse->opts.gpa >= sparse->opts.len ||
		gm_sparse_enter(sparse, NULL))
		return 0;
	rc = gm_policy_promote(sparse->space, item, 1, room, 0, ret, err);
	atomic_fetch_add(&sparse->added, ret->added);
	gm_sparse_leave(sparse);
	return rc;
}

static struct member *owner_of(struct gm_budget *budget, size_t at, size_t nr_of[])
{
	size_t i = 0;

	while (i < budget->nr && at >= nr_of[i])
		at -= nr_of[i++];
	return i < budget->nr ? &budget->members[i] : NULL;
}

/* The hottest block first, whoever's it is, until nothing may be added any more. */
static int promote(struct gm_budget *budget, struct gm_budget_result *r, struct gm_error *err)
{
	size_t *nr_of = gm_sys_alloc_array(budget->nr + 1, sizeof(*nr_of));
	struct gm_sort_pair *order = gm_sys_alloc_array(budget->nr * HEATS + 1, sizeof(*order));
	uint64_t left = r->used / 1000 * budget->opts.bloat;
	size_t nr = 0;
	int rc = nr_of && order ? 0 : gm_error_set(err, -ENOMEM, 0, 0, "budget: out of memory");

	for (size_t i = 0; !rc && i < budget->nr; i++) {
		struct member *m = &budget->members[i];
		size_t got =
			m->share.heat ? m->share.heat(m->share.ctx, budget->heat + nr, HEATS) : 0;

		nr_of[i] = got > HEATS ? 0 : got;
		nr += nr_of[i];
		left -= atomic_load(&m->share.sparse->added) < left
				? atomic_load(&m->share.sparse->added)
				: left;
	}
	for (size_t i = 0; !rc && i < nr; i++)
		order[i] = (struct gm_sort_pair){budget->heat[i].heat, i};
	if (!rc)
		gm_sort_pairs(order, nr);
	for (size_t i = nr; !rc && left && i > 0; i--) {
		size_t at = (size_t)order[i - 1].value;
		struct member *m = owner_of(budget, at, nr_of);
		struct gm_policy_result one = {.size = sizeof(one)};
		uint64_t room = m->target > m->used ? m->target - m->used : 0;

		rc = promote_one(m, &budget->heat[at], room < left ? room : left, &one, err);
		r->promoted += one.huge - one.before;
		r->added += one.added;
		m->used += one.added;
		left -= one.added < left ? one.added : left;
	}
	gm_sys_free(order);
	gm_sys_free(nr_of);
	return rc;
}

static int balance(struct gm_budget *budget, uint32_t pressure, struct gm_budget_result *r,
	struct gm_error *err)
{
	uint64_t before;
	uint64_t after = 0;
	int rc = count(budget, false, &before, err);

	if (rc)
		return rc;
	r->total = total_now(budget, pressure, before);
	cut(budget, r->total, false);
	rc = take_back(budget, err);
	if (!rc)
		rc = count(budget, false, &after, err);
	if (rc)
		return rc;
	r->freed = before > after ? before - after : 0;
	/* Those that are above what they should have keep it, and the others have less. */
	cut(budget, r->total, true);
	if (set_limits(budget, true))
		cut(budget, r->total, true);
	set_limits(budget, false);
	r->used = after;
	if (budget->opts.bloat && r->total == budget->opts.total)
		rc = promote(budget, r, err);
	if (!rc)
		rc = count(budget, true, &r->used, err);
	add_limits(budget, r);
	return rc;
}

int gm_budget_balance(struct gm_budget *budget, uint32_t pressure, struct gm_budget_result *ret,
	struct gm_error *err)
{
	struct gm_budget_result r = {.size = sizeof(r)};
	int rc;

	if (ret && ret->size < sizeof(r))
		return gm_error_set(err, -EINVAL, 0, 0, "budget: the result's size is not set");
	rc = balance(budget, pressure, &r, err);
	if (ret) {
		r.size = ret->size;
		*ret = r;
	}
	return rc;
}

/* ---- pressure ---- */

/* "some avg10=12.34 ..." in thousandths. */
static bool find_avg10(const char *text, const char *line, uint32_t *ret)
{
	static const char name[] = " avg10=";
	const char *at = strstr(text, line);
	unsigned long whole;
	char *end;

	if (!at || strncmp(at + strlen(line), name, sizeof(name) - 1) != 0)
		return false;
	at += strlen(line) + sizeof(name) - 1;
	whole = strtoul(at, &end, 10);
	if (end == at || whole > 100 || *end != '.' || end[1] < '0' || end[1] > '9')
		return false;
	*ret = (uint32_t)(whole * 10) + (uint32_t)(end[1] - '0');
	return true;
}

int gm_pressure_read(const char *path, uint32_t *ret_some, uint32_t *ret_full, struct gm_error *err)
{
	const char *file = path ? path : "/proc/pressure/memory";
	char text[512];
	uint32_t some;
	uint32_t full;
	ssize_t rc = gm_sys_read_text(file, text, sizeof(text));

	if (rc == -ENOENT || rc == -EOPNOTSUPP)
		rc = -ENOTSUP;
	if (rc < 0)
		return gm_error_set(err, (int)rc, 0, 0, "%s: %s (PSI: CONFIG_PSI, psi=1)", file,
			gm_error_word((int)rc));
	if (!find_avg10(text, "some", &some) || !find_avg10(text, "full", &full))
		return gm_error_set(err, -EPROTO, 0, 0, "%s: it has no lines of pressure", file);
	*ret_some = some;
	if (ret_full)
		*ret_full = full;
	return 0;
}
