/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk_live.c - with which sizes of pages the guest memory of a running process is present.
 *
 * The memory is what "guestmem inspect" finds. The process is not stopped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inspect.h"
#include "walk.h"

_Static_assert(GM_USAGE_LOG2_MAX + 1 == sizeof(((struct walk_live *)0)->by_log2) / 8, "all sizes");

/* Whose large pages are they? */
struct kinds {
	bool transparent;
	bool pool;
	bool other;
};

static void note_kind(const struct gm_mapping *m, const struct gm_usage *u, struct kinds *kinds)
{
	uint64_t large = 0;

	for (uint32_t log2 = 21; log2 <= GM_USAGE_LOG2_MAX; log2++)
		large += u->by_log2[log2];
	if (!large)
		return;
	if (m->flags & GM_MAPPING_HUGETLB)
		kinds->pool = true;
	else if (m->flags & GM_MAPPING_FILE)
		kinds->other = true;
	else
		kinds->transparent = true;
}

static int sum_up(struct gm_residency *res, const struct inspect_result *r, struct walk_live *live,
	struct kinds *kinds)
{
	for (size_t i = 0; i < r->nr; i++) {
		const struct gm_mapping *m = &r->pieces[i].mapping;
		struct gm_usage u = {.size = sizeof(u)};
		int rc = gm_residency_usage(res, m->start, m->len, GM_RESIDENCY_FOLIOS, &u, NULL);

		if (rc)
			return rc;
		live->present += u.present;
		/* Who else maps a page does not matter here. */
		live->unseen |= u.unseen & ~GM_UNSEEN_SHARED;
		for (size_t log2 = 0; log2 <= GM_USAGE_LOG2_MAX; log2++)
			live->by_log2[log2] += u.by_log2[log2];
		note_kind(m, &u, kinds);
	}
	return 0;
}

static int look(
	struct gm_residency *res, struct inspect_result *r, bool lean, struct walk_live *live)
{
	struct kinds kinds = {0};
	int rc = gm_residency_process(res, &r->process, NULL);

	if (!rc)
		rc = inspect_find(res, r);
	if (!rc)
		rc = sum_up(res, r, live, &kinds);
	if (rc)
		return rc;
	snprintf(live->name, sizeof(live->name), "%s", r->process.name);
	live->found_by = r->found_by;
	live->page_tables = r->process.page_tables;
	/* Of a mixture neither is said, so that less is counted and not more. */
	if (kinds.transparent && !kinds.pool && !kinds.other)
		live->flags = GM_WALK_TRANSPARENT;
	if (kinds.pool && lean && !kinds.transparent && !kinds.other)
		live->flags = GM_WALK_LEAN;
	return 0;
}

bool walk_live_read(pid_t pid, bool lean, struct walk_live *ret)
{
	struct inspect_opts opts = {.pid = pid};
	struct inspect_result r = {.opts = &opts, .process = {.size = sizeof(r.process)}};
	struct gm_residency *res = NULL;
	int rc = gm_residency_open(pid, &res, NULL);

	*ret = (struct walk_live){.pid = pid};
	if (!rc)
		rc = look(res, &r, lean, ret);
	gm_residency_close(res);
	free(r.pieces);
	if (rc == -ESRCH)
		tool_error("process %d: it does not exist, has ended, or has no memory", (int)pid);
	else if (rc)
		tool_error("process %d: %s", (int)pid, strerror(-rc));
	else if (ret->present == 0)
		tool_error("process %d: nothing of its guest memory is present (%s)", (int)pid,
			ret->found_by);
	return rc == 0 && ret->present > 0;
}

void walk_live_side(const struct walk_live *live, struct walk_side *ret)
{
	*ret = (struct walk_side){.label = "now", .seen = true};
	for (uint32_t log2 = 12; log2 <= GM_USAGE_LOG2_MAX; log2++) {
		uint32_t part = log2 < 38 ? log2 : 38;

		if (live->by_log2[log2] == 0)
			continue;
		/* More sizes than one memory has; they would count with smaller ones. */
		if (ret->nr == WALK_PARTS_MAX)
			ret->parts[ret->nr - 1].weight += live->by_log2[log2];
		else
			ret->parts[ret->nr++] =
				(struct walk_part){part, live->by_log2[log2], false};
	}
}
