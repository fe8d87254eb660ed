/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_attr.c - properties of mappings: protection, locks, merging, dumps, huge pages, nodes, names.
 *
 * A request is planned for all its pieces before the first call, so that limits refuse it whole. If a call
 * fails the pieces before it get back what the map says they had; if that fails too they are kept
 * in the map as changed, and are undone when they go.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <guestmem/guard.h>

#include "core/error.h"
#include "memory/avail.h"
#include "services/control.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define TRIES 3 /* of what the kernel says to try again */

/* From linux/mempolicy.h. */
#define POLICY_DEFAULT 0
#define POLICY_PREFERRED 1
#define POLICY_BIND 2

/* A request under way. */
struct job {
	struct gm_control *c;
	enum gm_control_field field;
	const struct gm_control_attr *attr;
	struct gm_reach reaches[GM_CONTROL_REACHES_MAX];
	uint32_t nr;
};

static const struct gm_control_attr normal;

/* ---- one call ---- */

static bool is_private_file(const struct gm_block *b)
{
	return b->fd >= 0 && (b->opts.flags & GM_BLOCK_PRIVATE);
}

static int advise(void *hva, size_t len, int advice)
{
	int tries = 0;
	int rc;

	do {
		rc = gm_sys_madvise(hva, len, advice);
	} while (rc == -EINTR || (rc == -EAGAIN && ++tries < TRIES));
	return rc;
}

static int prot_of(const struct gm_block *b, uint8_t prot)
{
	switch (prot) {
	case GM_PROT_NONE:
		return PROT_NONE;
	case GM_PROT_R:
		return PROT_READ;
	case GM_PROT_W:
		return PROT_WRITE;
	default:
		return b->opts.flags & GM_BLOCK_READONLY ? PROT_READ : PROT_READ | PROT_WRITE;
	}
}

static int go_merge(const struct gm_block *b, void *hva, size_t len, uint8_t merge)
{
	bool yes =
		merge == GM_MERGE_NORMAL ? b->opts.flags & GM_BLOCK_MERGE : merge == GM_MERGE_YES;

	return advise(hva, len, yes ? MADV_MERGEABLE : MADV_UNMERGEABLE);
}

static int go_huge(const struct gm_block *b, void *hva, size_t len, uint8_t huge)
{
	if (huge == GM_HUGE_YES || (!huge && b->got.kind == GM_PAGE_THP))
		return advise(hva, len, MADV_HUGEPAGE);
	if (huge == GM_HUGE_NO || (!huge && b->got.kind == GM_PAGE_BASE))
		return advise(hva, len, MADV_NOHUGEPAGE);
	return 0; /* there is no call that takes advice back */
}

static int go_numa(const struct gm_block *b, void *hva, size_t len, const struct gm_control_attr *a)
{
	const struct gm_numa *own = &b->opts.numa;
	uint64_t nodes = UINT64_C(1) << (a->node & 63);

	if (a->numa != GM_NODE_NORMAL)
		return gm_sys_mbind(hva, len,
			a->numa == GM_NODE_BIND ? POLICY_BIND : POLICY_PREFERRED, &nodes, 1);
	if (own->mode == GM_NUMA_DEFAULT)
		return gm_sys_mbind(hva, len, POLICY_DEFAULT, NULL, 0);
	return gm_block_bind((struct gm_block *)(uintptr_t)b,
		(uint64_t)((uint8_t *)hva - b->home.hva), len, own, NULL);
}

static int go_name(const struct gm_block *b, void *hva, size_t len, const char *name)
{
	char own[48];

	int rc;

	snprintf(own, sizeof(own), "guestmem:%s", b->name);
	rc = gm_sys_name_vma(hva, len, name[0] ? name : own);
	/* A kernel without CONFIG_ANON_VMA_NAME. */
	return rc == -EINVAL ? -ENOTSUP : rc;
}

/* Gives a stretch one field of @attr. */
static int go(const struct gm_block *b, const struct gm_range *range, enum gm_control_field field,
	const struct gm_control_attr *attr)
{
	void *hva = (void *)(uintptr_t)range->first;
	size_t len = (size_t)gm_range_len(range);
	bool dumped = b->opts.flags & GM_BLOCK_DUMP;

	switch (field) {
	case GM_FIELD_PROT:
		return gm_sys_mprotect(hva, len, prot_of(b, attr->prot));
	case GM_FIELD_LOCK:
		return attr->locked ? gm_sys_mlock(hva, len, false) : gm_sys_munlock(hva, len);
	case GM_FIELD_MERGE:
		return go_merge(b, hva, len, attr->merge);
	case GM_FIELD_DUMP:
		return advise(hva, len, dumped && !attr->nodump ? MADV_DODUMP : MADV_DONTDUMP);
	case GM_FIELD_HUGE:
		return go_huge(b, hva, len, attr->huge);
	case GM_FIELD_NUMA:
		return go_numa(b, hva, len, attr);
	default:
		return go_name(b, hva, len, attr->name);
	}
}

/* ---- is it possible? ---- */

static int refuse(const struct gm_reach *reach, int rc, const char *why, struct gm_error *err)
{
	return gm_error_set(err, rc, reach->range.first, gm_range_len(&reach->range),
		"%s: control: at gpa 0x%" PRIx64 ": %s", reach->block->name, reach->range.first,
		why);
}

static int check_prot(const struct job *job, const struct gm_reach *reach, struct gm_error *err)
{
	if (!(job->c->opts.flags & GM_CONTROL_UNGUARDED) && gm_guard_check())
		return refuse(reach, -ENOTSUP,
			"without the fault guard an access of this process to protected memory "
			"would kill it (gm_guard_install(), GM_CONTROL_UNGUARDED)",
			err);
	if (job->attr->prot == GM_PROT_W && (reach->block->opts.flags & GM_BLOCK_READONLY))
		return refuse(reach, -EACCES, "the block is read-only", err);
	return 0;
}

static int check_huge(const struct job *job, const struct gm_reach *reach, struct gm_error *err)
{
	const struct gm_block *b = reach->block;
	char knob[160];

	if (b->hugetlb)
		return refuse(reach, -ENOTSUP, "explicit huge pages stay what they are", err);
	if (job->attr->huge != GM_HUGE_YES ||
		gm_thp_allowed(
			gm_thp_pmd_log2(), b->backing != GM_BACKING_ANON, knob, sizeof(knob)))
		return 0;
	return refuse(reach, -ENOTSUP, knob, err);
}

/* Calls that would return 0 and do nothing are refused here. */
static int check_field(const struct job *job, const struct gm_reach *reach, struct gm_error *err)
{
	const struct gm_block *b = reach->block;

	if (!reach->hva || b->dark || b->backing == GM_BACKING_POINTER)
		return refuse(reach, -ENOTSUP, "it is not memory that this space maps", err);
	switch (job->field) {
	case GM_FIELD_PROT:
		return check_prot(job, reach, err);
	case GM_FIELD_LOCK:
		return b->opts.flags & (GM_BLOCK_LOCK | GM_BLOCK_LOCK_ONFAULT)
			       ? refuse(reach, -EPERM, "the monitor keeps it locked", err)
			       : 0;
	case GM_FIELD_MERGE:
		return b->hugetlb || (b->backing != GM_BACKING_ANON && !is_private_file(b))
			       ? refuse(reach, -ENOTSUP, "only small private pages are merged", err)
			       : 0;
	case GM_FIELD_NAME:
		return b->fd >= 0 || b->hugetlb
			       ? refuse(reach, -ENOTSUP, "memory of a file has the file's name",
					 err)
			       : 0;
	case GM_FIELD_HUGE:
		return check_huge(job, reach, err);
	default:
		return 0;
	}
}

/* ---- all pieces of a request ---- */

static struct gm_range hva_of(const struct gm_reach *reach)
{
	return (struct gm_range){
		(uintptr_t)reach->hva, (uintptr_t)reach->hva + gm_range_extent(&reach->range)};
}

static int plan_reach(struct job *job, const struct gm_reach *reach, struct gm_error *err)
{
	struct gm_range hva = hva_of(reach);
	int rc = gm_control_check_reach(reach, err);

	if (!rc)
		rc = check_field(job, reach, err);
	if (!rc && !gm_control_map_set(&job->c->plan, &hva, reach->block, job->field, job->attr))
		rc = -ENOSPC;
	return rc;
}

static int plan(struct job *job, const struct gm_range *range, struct gm_error *err)
{
	struct gm_control *c = job->c;
	struct gm_range rest = *range;
	int rc = 0;

	gm_control_map_copy(&c->plan, &c->map);
	while (!rc) {
		struct gm_reach *reach = &job->reaches[job->nr];

		if (job->nr == GM_CONTROL_REACHES_MAX)
			return -E2BIG;
		rc = gm_reach_get(c->space, &rest, reach);
		if (rc)
			return -EFAULT;
		job->nr++;
		rc = plan_reach(job, reach, err);
		if (reach->range.last == rest.last)
			break;
		rest.first = reach->range.last + 1;
	}
	if (!rc && c->plan.nr > c->opts.max_pieces && c->plan.nr > c->map.nr)
		rc = gm_error_set(err, -ENOSPC, range->first, gm_range_len(range),
			"%s: control: over %u stretches would differ", c->space->name,
			c->opts.max_pieces);
	if (!rc && job->field == GM_FIELD_LOCK && job->attr->locked &&
		gm_control_map_locked(&c->plan) > c->opts.max_locked)
		rc = gm_error_set(err, -ENOMEM, range->first, gm_range_len(range),
			"%s: control: over %" PRIu64 " bytes would be locked", c->space->name,
			c->opts.max_locked);
	return rc;
}

/* Gives a stretch back what the map says it has. */
static int restore(const struct job *job, const struct gm_reach *reach)
{
	const struct gm_control_map *map = &job->c->map;
	struct gm_range rest = hva_of(reach);
	size_t i = gm_control_map_find(map, rest.first);
	int rc = 0;

	for (;;) {
		const struct gm_control_piece *p = i < map->nr ? &map->pieces[i] : NULL;
		struct gm_range part = rest;
		bool inside = p && p->hva.first <= rest.first;
		int code;

		if (inside && p->hva.last < rest.last)
			part.last = p->hva.last;
		else if (p && !inside && p->hva.first <= rest.last)
			part.last = p->hva.first - 1;
		code = go(reach->block, &part, job->field, inside ? &p->attr : &normal);
		/* What the kernel has not at all was not done either. */
		if (code != -ENOTSUP)
			rc = rc ? rc : code;
		if (part.last == rest.last)
			return rc;
		i += inside;
		rest.first = part.last + 1;
	}
}

/* What a call was for, and what its code says of the host. */
static int explain(
	const struct job *job, const struct gm_reach *reach, int rc, struct gm_error *err)
{
	static const char *const words[GM_FIELDS] = {[GM_FIELD_PROT] = "protection",
		[GM_FIELD_LOCK] = "lock",
		[GM_FIELD_MERGE] = "merging",
		[GM_FIELD_DUMP] = "core dumps",
		[GM_FIELD_HUGE] = "huge pages",
		[GM_FIELD_NUMA] = "NUMA node",
		[GM_FIELD_NAME] = "name"};
	char what[48];
	const char *why = gm_error_word(rc);

	snprintf(what, sizeof(what), "%s", words[job->field]);
	if (job->field == GM_FIELD_NUMA && job->attr->numa != GM_NODE_NORMAL) {
		snprintf(what, sizeof(what), "NUMA node %u", job->attr->node);
		if (rc == -EINVAL)
			why = "the host has no such node for this process";
	} else if (job->field == GM_FIELD_NAME && rc == -ENOTSUP) {
		why = "the kernel was built without CONFIG_ANON_VMA_NAME";
	}
	return gm_error_set(err, rc, reach->range.first, 0,
		"%s: control: %s at gpa 0x%" PRIx64 ": %s", reach->block->name, what,
		reach->range.first, why);
}

static int go_all(struct job *job, struct gm_control_result *ret, struct gm_error *err)
{
	uint32_t at;
	int rc = 0;
	int undone = 0;

	for (at = 0; at < job->nr && !rc; at++) {
		struct gm_range hva = hva_of(&job->reaches[at]);

		rc = go(job->reaches[at].block, &hva, job->field, job->attr);
		if (!rc)
			ret->done += gm_range_len(&hva);
	}
	if (rc) {
		explain(job, &job->reaches[at - 1], rc, err);
		while (at-- > 0)
			undone |= restore(job, &job->reaches[at]);
	}
	if (rc && !undone)
		ret->done = 0;
	else
		gm_control_map_swap(&job->c->map, &job->c->plan);
	return rc;
}

int gm_control_attr_do(struct gm_control *c, const struct gm_range *range,
	enum gm_control_field field, const struct gm_control_attr *attr,
	struct gm_control_result *ret, struct gm_error *err)
{
	struct job job;
	int rc;

	job.c = c;
	job.field = field;
	job.attr = attr;
	job.nr = 0;
	ret->stage = GM_CONTROL_REFUSED;
	pthread_mutex_lock(&c->lock);
	rc = c->changing ? gm_error_set(err, -EBUSY, range->first, gm_range_len(range),
				   "%s: control: the map is being changed", c->space->name)
			 : plan(&job, range, err);
	if (!rc) {
		rc = go_all(&job, ret, err);
		ret->stage = rc ? GM_CONTROL_FAILED : GM_CONTROL_DONE;
	}
	pthread_mutex_unlock(&c->lock);
	for (uint32_t i = 0; i < job.nr; i++)
		gm_reach_put(&job.reaches[i]);
	return rc;
}

/* ---- undoing ---- */

static void undo_piece(const struct gm_control_piece *p)
{
	for (int field = 0; field < GM_FIELDS; field++) {
		if (!gm_control_attr_same(&p->attr, &normal, (enum gm_control_field)field))
			go(p->block, &p->hva, (enum gm_control_field)field, &normal);
	}
}

void gm_control_attr_undo(struct gm_control *c, bool all)
{
	uint64_t nr = 0;

	for (size_t i = 0; i < c->map.nr; i++) {
		if (all || c->map.pieces[i].dying) {
			undo_piece(&c->map.pieces[i]);
			nr++;
		}
	}
	gm_control_map_forget(&c->map, all);
	pthread_mutex_lock(&c->meter);
	c->sum.undone += nr;
	pthread_mutex_unlock(&c->meter);
}

/* One piece of memory of gm_control_lift(). */
static int lift(struct gm_control *c, struct gm_reach *reach, uint64_t *bytes)
{
	struct gm_range hva = hva_of(reach);

	for (size_t i = gm_control_map_find(&c->map, hva.first); i < c->map.nr; i++) {
		const struct gm_control_piece *p = &c->map.pieces[i];
		struct gm_range part;
		int rc;

		if (!gm_range_intersect(&p->hva, &hva, &part))
			break;
		if (p->attr.prot == GM_PROT_NORMAL)
			continue;
		rc = go(p->block, &part, GM_FIELD_PROT, &normal);
		if (rc)
			return rc;
		*bytes += gm_range_len(&part);
		if (!gm_control_map_set(&c->map, &part, p->block, GM_FIELD_PROT, &normal))
			return -ENOSPC;
		/* What was changed may have become one with its neighbours, or be gone. */
		i = gm_control_map_find(&c->map, part.first) - 1;
	}
	return 0;
}

int gm_control_lift(struct gm_control *c, uint64_t gpa, uint64_t len, uint64_t *ret_bytes)
{
	struct gm_range rest = {gpa, UINT64_MAX};
	uint64_t bytes = 0;
	int rc = 0;

	if (len && !gm_range_make(gpa, len, &rest))
		return -ERANGE;
	pthread_mutex_lock(&c->lock);
	if (c->changing)
		rc = -EBUSY;
	while (!rc) {
		struct gm_reach reach;
		uint64_t last;

		rc = gm_reach_next(c->space, &rest, &reach);
		if (rc)
			break;
		last = reach.range.last;
		if (reach.hva)
			rc = lift(c, &reach, &bytes);
		gm_reach_put(&reach);
		if (last == rest.last)
			break;
		rest.first = last + 1;
	}
	pthread_mutex_unlock(&c->lock);
	if (ret_bytes)
		*ret_bytes = bytes;
	return rc == -ENOENT ? 0 : rc;
}
