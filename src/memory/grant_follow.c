/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant_follow.c - a grant in step with its source, and the end of what a change has left.
 *
 * What can fail of a change of the grant's map is done when the source asks; it is published when the
 * source is. Grants of the grant's space are its listeners and do the same.
 */
#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "memory/grant.h"
#include "memory/listener.h"
#include "sys/sys.h"

#define PAUSE_MIN_NS 2000u
#define PAUSE_MAX_NS 1000000u

/* ---- the source's commits ---- */

static bool meets_rights(const struct gm_grant *grant, const struct gm_section *section)
{
	uint64_t last = section->gpa + (section->len - 1);
	size_t i = gm_rights_find(&grant->rights, section->gpa);

	return i < grant->rights.nr && grant->rights.items[i].range.first <= last;
}

/* The changes that meet rights, as ranges and as sections that come. */
static bool sort_out(const struct gm_grant *grant, const struct gm_change *changes, size_t nr,
	struct gm_rangeset *cleared, struct gm_sections *come)
{
	cleared->cap = nr + 1;
	cleared->ranges = gm_sys_alloc_array(cleared->cap, sizeof(*cleared->ranges));
	if (!cleared->ranges)
		return false;
	for (size_t i = 0; i < nr; i++) {
		const struct gm_section *section = &changes[i].section;
		struct gm_range range = {section->gpa, section->gpa + (section->len - 1)};

		if (!meets_rights(grant, section))
			continue;
		gm_rangeset_add(cleared, &range);
		if (changes[i].kind != GM_CHANGE_REMOVE && !gm_sections_add(come, section))
			return false;
	}
	return true;
}

static int prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err)
{
	struct gm_grant *grant = ctx;
	struct gm_rangeset cleared = {0};
	struct gm_sections come = {0};
	int rc = 0;

	if (!sort_out(grant, changes, nr, &cleared, &come))
		rc = gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", grant->name);
	else if (cleared.nr > 0)
		rc = gm_grant_plan(grant, &grant->rights, &cleared, &come, true, &grant->plan, err);
	gm_sys_free(cleared.ranges);
	gm_sections_free(&come);
	return rc;
}

static void commit(void *ctx, uint64_t generation)
{
	struct gm_grant *grant = ctx;

	(void)generation;
	if (!grant->plan)
		return;
	gm_grant_plan_finish(grant, grant->plan);
	grant->plan = NULL;
	gm_grant_poll(grant);
}

static void take_back(void *ctx)
{
	struct gm_grant *grant = ctx;

	if (!grant->plan)
		return;
	gm_grant_plan_undo(grant, grant->plan);
	grant->plan = NULL;
}

void gm_grant_listener_ops(struct gm_grant *grant, struct gm_listener_ops *ret)
{
	*ret = (struct gm_listener_ops){
		.size = sizeof(*ret),
		.name = grant->name,
		.kinds = GM_KINDS_MEMORY & ~GM_KIND_BIT(GM_REGION_DEVMEM),
		.flags = GM_LISTENER_PARTS,
		.enforces = GM_PERM_RW,
		.prepare = prepare,
		.commit = commit,
		.abort = take_back,
		.ctx = grant,
	};
}

/* ---- what is left ---- */

static size_t nr_pending(struct gm_grant *grant)
{
	size_t nr;

	pthread_mutex_lock(&grant->lock);
	nr = grant->pending.nr;
	pthread_mutex_unlock(&grant->lock);
	return nr;
}

void gm_grant_poll(struct gm_grant *grant)
{
	if (nr_pending(grant) > 0 && gm_space_reclaim(grant->space) == 0)
		gm_grant_close(grant, NULL);
}

/* Names the first of what is pinned. */
static int pinned(struct gm_grant *grant, uint64_t timeout_ns, struct gm_error *err)
{
	const struct gm_shown *piece;

	pthread_mutex_lock(&grant->lock);
	piece = &grant->pending.items[0];
	gm_error_set(err, -ETIMEDOUT, piece->range.first, gm_range_len(&piece->range),
		"%s: %u pins hold memory of block \"%s\" and were not given back within %llu ms",
		grant->name, gm_map_pins(&piece->base->block->home), piece->base->block->name,
		(unsigned long long)(timeout_ns / 1000000));
	pthread_mutex_unlock(&grant->lock);
	return -ETIMEDOUT;
}

static int finish_own(struct gm_grant *grant, uint64_t timeout_ns, struct gm_error *err)
{
	uint64_t start = gm_sys_now_ns();
	uint64_t pause = PAUSE_MIN_NS;

	while (nr_pending(grant) > 0) {
		uint64_t gone = gm_sys_now_ns() - start;
		int rc;

		/* Another thread may be reclaiming for a moment. */
		rc = gm_space_wait(grant->space, gone < timeout_ns ? timeout_ns - gone : 1, err);
		if (rc && rc != -EBUSY)
			return rc;
		if (!rc)
			rc = gm_grant_close(grant, err);
		if (rc && rc != -EBUSY)
			return rc;
		if (!rc && nr_pending(grant) == 0)
			return 0;
		if (gone >= timeout_ns)
			return rc ? rc : pinned(grant, timeout_ns, err);
		gm_sys_sleep_ns(pause);
		pause = pause * 2 < PAUSE_MAX_NS ? pause * 2 : PAUSE_MAX_NS;
	}
	return 0;
}

/* Grants of its space, which cannot change while that is held. */
static int finish_below(struct gm_grant *grant, uint64_t timeout_ns, struct gm_error *err)
{
	int rc;

	if (!__atomic_load_n(&grant->space->listeners, __ATOMIC_RELAXED))
		return 0;
	rc = gm_space_hold(grant->space, err);
	if (rc)
		return rc;
	for (struct gm_listener *l = grant->space->listeners; l && !rc; l = l->next) {
		if (l->ops.prepare == prepare)
			rc = gm_grant_finish(l->ops.ctx, timeout_ns, err);
	}
	gm_space_release(grant->space);
	return rc;
}

int gm_grant_finish(struct gm_grant *grant, uint64_t timeout_ns, struct gm_error *err)
{
	int rc = finish_own(grant, timeout_ns, err);

	return rc ? rc : finish_below(grant, timeout_ns, err);
}
