/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant_plan.c - from what shows to what is to show.
 *
 * The pieces that are to show are computed from those that do, compared with them, and the difference
 * becomes a transaction of the grant's space. Its commit moves no memory, as bases are reached where
 * they are, so it waits for nobody.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/kinds.h"
#include "memory/grant.h"
#include "memory/txn.h"
#include "sys/deadline.h"
#include "sys/sys.h"

#define RETRY_NS 50000u

static int no_memory(const struct gm_grant *grant, struct gm_error *err)
{
	return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", grant->name);
}

/* ---- lists ---- */

static bool reserve(struct gm_shown_list *list, size_t cap)
{
	struct gm_shown *items;

	if (cap <= list->cap)
		return true;
	items = gm_sys_realloc(list->items, cap, sizeof(*items));
	if (!items)
		return false;
	list->items = items;
	list->cap = cap;
	return true;
}

bool gm_shown_add(struct gm_shown_list *list, const struct gm_shown *piece)
{
	if (list->nr == list->cap && !reserve(list, list->cap ? list->cap * 2 : 8))
		return false;
	list->items[list->nr++] = *piece;
	return true;
}

size_t gm_shown_find(const struct gm_shown_list *list, uint64_t addr)
{
	size_t lo = 0;
	size_t hi = list->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (list->items[mid].range.last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

size_t gm_rights_find(const struct gm_rights *rights, uint64_t addr)
{
	size_t lo = 0;
	size_t hi = rights->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (rights->items[mid].range.last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int by_address(const void *a, const void *b)
{
	const struct gm_shown *x = a;
	const struct gm_shown *y = b;

	return x->range.first < y->range.first ? -1 : x->range.first > y->range.first;
}

/* Sorted, and neighbours of one base with the same rights are one. */
static void settle(struct gm_shown_list *list)
{
	size_t kept = 0;

	if (list->nr)
		qsort(list->items, list->nr, sizeof(*list->items), by_address);
	for (size_t i = 0; i < list->nr; i++) {
		struct gm_shown *last = kept ? &list->items[kept - 1] : NULL;
		const struct gm_shown *piece = &list->items[i];

		if (last && last->base == piece->base && last->perms == piece->perms &&
			gm_range_precedes(&last->range, &piece->range))
			last->range.last = piece->range.last;
		else
			list->items[kept++] = *piece;
	}
	list->nr = kept;
}

/* ---- what is to show ---- */

/* What stays of the pieces that show. */
static bool keep_rest(struct gm_grant_plan *plan, const struct gm_shown_list *shown,
	const struct gm_rangeset *cleared)
{
	for (size_t i = 0; i < shown->nr; i++) {
		struct gm_shown piece = shown->items[i];
		uint64_t last = piece.range.last;

		piece.id = 0;
		for (size_t j = gm_rangeset_find(cleared, piece.range.first);
			j < cleared->nr && cleared->ranges[j].first <= last; j++) {
			const struct gm_range *gap = &cleared->ranges[j];

			piece.range.last = gap->first - 1;
			if (gap->first > piece.range.first && !gm_shown_add(&plan->next, &piece))
				return false;
			if (gap->last >= last)
				goto next;
			piece.range.first = gap->last + 1;
		}
		piece.range.last = last;
		if (!gm_shown_add(&plan->next, &piece))
			return false;
	next:;
	}
	return true;
}

/* The base that serves at @addr, or where the next one begins (or nothing up to there). */
static struct gm_base *find_base(struct gm_base *list, const struct gm_section *section,
	uint64_t addr, uint32_t perms, uint64_t *last)
{
	for (struct gm_base *base = list; base; base = base->next) {
		uint64_t first = base->range.first;

		if (gm_base_serves(base, section, addr, perms)) {
			if (base->range.last < *last)
				*last = base->range.last;
			return base;
		}
		if (first > addr && first <= *last && gm_base_serves(base, section, first, perms))
			*last = first - 1;
	}
	return NULL;
}

static int new_base(struct gm_grant *grant, struct gm_grant_plan *plan,
	const struct gm_section *section, const struct gm_range *range, uint32_t perms,
	struct gm_base **ret, struct gm_error *err)
{
	struct gm_base *base;
	int rc = gm_base_create(grant, section, range, perms, &base, err);

	if (rc)
		return rc;
	base->next = plan->fresh;
	plan->fresh = base;
	*ret = base;
	return 0;
}

/* Shows @range of a section. */
static int show(struct gm_grant *grant, struct gm_grant_plan *plan,
	const struct gm_section *section, struct gm_range range, uint32_t perms,
	struct gm_error *err)
{
	struct gm_shown piece = {.range = range, .perms = perms};

	for (;;) {
		int rc = 0;

		piece.range.last = range.last;
		piece.base = find_base(
			grant->bases, section, piece.range.first, perms, &piece.range.last);
		if (!piece.base)
			piece.base = find_base(
				plan->fresh, section, piece.range.first, perms, &piece.range.last);
		if (!piece.base)
			rc = new_base(grant, plan, section, &piece.range, perms, &piece.base, err);
		if (rc)
			return rc;
		if (!gm_shown_add(&plan->next, &piece))
			return no_memory(grant, err);
		if (piece.range.last == range.last)
			return 0;
		piece.range.first = piece.range.last + 1;
	}
}

static int show_section(struct gm_grant *grant, struct gm_grant_plan *plan,
	const struct gm_rights *rights, const struct gm_section *section, struct gm_error *err)
{
	struct gm_range whole = {section->gpa, section->gpa + (section->len - 1)};
	uint32_t allowed = section->perms;

	/* What is private is the guest's alone. */
	if (!section->block || section->part == GM_PART_PRIVATE)
		return 0;
	/* A ROM device answers writes; it is not granted. */
	if (section->kind == GM_REGION_ROMD)
		allowed &= ~GM_PERM_W;
	for (size_t i = gm_rights_find(rights, whole.first);
		i < rights->nr && rights->items[i].range.first <= whole.last; i++) {
		uint32_t perms = rights->items[i].perms & allowed;
		struct gm_range range;
		int rc;

		if (!perms || !gm_range_intersect(&rights->items[i].range, &whole, &range))
			continue;
		rc = show(grant, plan, section, range, perms, err);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_cut(const struct gm_shown_list *next, const struct gm_base *base)
{
	uint64_t bytes = 0;

	for (size_t i = gm_shown_find(next, base->range.first);
		i < next->nr && next->items[i].range.first <= base->range.last; i++) {
		if (next->items[i].base == base)
			bytes += gm_range_len(&next->items[i].range);
	}
	return bytes != gm_range_len(&base->range);
}

/* A shadow that loses bytes goes as a whole; the rest gets others. */
static int renew_cut(struct gm_grant *grant, struct gm_grant_plan *plan, struct gm_error *err)
{
	for (struct gm_base *base = grant->bases; base; base = base->next)
		base->used = base->gone || is_cut(&plan->next, base);
	for (size_t i = 0; i < plan->next.nr; i++) {
		struct gm_shown *piece = &plan->next.items[i];
		const struct gm_base *old = piece->base;
		struct gm_section section;
		bool fresh = old->id == 0;
		int rc;

		if (fresh || !old->used)
			continue;
		section = (struct gm_section){
			.gpa = old->range.first,
			.len = gm_range_len(&old->range),
			.kind = old->kind,
			.block = old->source,
			.block_off = old->source_off,
		};
		rc = new_base(
			grant, plan, &section, &piece->range, piece->perms, &piece->base, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* A piece of a base must be made of its pages, too. */
static int check_pages(
	const struct gm_grant *grant, const struct gm_grant_plan *plan, struct gm_error *err)
{
	for (size_t i = 0; i < plan->next.nr; i++) {
		const struct gm_shown *piece = &plan->next.items[i];
		int rc = gm_grant_check_pages(grant, piece->base->block, &piece->range, err);

		if (rc)
			return rc;
	}
	return 0;
}

/* Takes numbers of what stays; true if all does. */
static bool match(const struct gm_shown_list *old, struct gm_shown_list *next)
{
	size_t same = 0;
	size_t j = 0;

	for (size_t i = 0; i < old->nr; i++) {
		const struct gm_shown *was = &old->items[i];
		struct gm_shown *is;

		while (j < next->nr && next->items[j].range.first < was->range.first)
			j++;
		is = j < next->nr ? &next->items[j] : NULL;
		if (!is || is->range.first != was->range.first ||
			is->range.last != was->range.last || is->perms != was->perms ||
			is->base != was->base)
			continue;
		is->id = was->id;
		same++;
	}
	return same == old->nr && same == next->nr;
}

/* ---- the transaction ---- */

/* Does a piece that shows stay as it is? */
static bool stays(const struct gm_grant_plan *plan, const struct gm_shown *was)
{
	size_t i = gm_shown_find(&plan->next, was->range.first);

	return i < plan->next.nr && plan->next.items[i].id == was->id;
}

static int add_base(struct gm_grant_plan *plan, struct gm_base *base, struct gm_error *err)
{
	const struct gm_region_desc desc = {
		.size = sizeof(desc),
		.len = gm_range_len(&base->range),
		.kind = base->kind,
		.block = base->block,
		.parent = GM_REGION_DETACHED,
	};

	return gm_txn_add(plan->txn, &desc, &base->id, err);
}

static int add_piece(struct gm_grant_plan *plan, struct gm_shown *piece, struct gm_error *err)
{
	const struct gm_region_desc desc = {
		.size = sizeof(desc),
		.gpa = piece->range.first,
		.len = gm_range_len(&piece->range),
		.kind = GM_REGION_ALIAS,
		.perms = piece->perms,
		.target = piece->base->id,
		.block_off = piece->range.first - piece->base->range.first,
	};

	return gm_txn_add(plan->txn, &desc, &piece->id, err);
}

static void mark_used(struct gm_grant *grant, const struct gm_grant_plan *plan)
{
	for (struct gm_base *base = grant->bases; base; base = base->next)
		base->used = false;
	for (size_t i = 0; i < plan->next.nr; i++)
		plan->next.items[i].base->used = true;
}

static int fill_txn(struct gm_grant *grant, struct gm_grant_plan *plan, struct gm_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < grant->shown.nr && !rc; i++) {
		if (!stays(plan, &grant->shown.items[i]))
			rc = gm_txn_remove(plan->txn, grant->shown.items[i].id, err);
	}
	for (struct gm_base *base = plan->fresh; base && !rc; base = base->next)
		rc = add_base(plan, base, err);
	for (size_t i = 0; i < plan->next.nr && !rc; i++) {
		struct gm_shown *piece = &plan->next.items[i];

		if (piece->id)
			continue;
		rc = add_piece(plan, piece, err);
	}
	for (struct gm_base *base = grant->bases; base && !rc; base = base->next) {
		if (!base->used && !base->gone)
			rc = gm_txn_remove(plan->txn, base->id, err);
	}
	return rc;
}

/* Readers of the grant may have somebody reclaim for a moment. */
static int begin(
	struct gm_grant *grant, struct gm_grant_plan *plan, bool wait, struct gm_error *err)
{
	uint64_t start = gm_sys_now_ns();

	for (;;) {
		int rc = gm_txn_open(grant->space, &plan->txn, err);

		if (rc != -EBUSY || !wait || gm_sys_now_ns() - start >= grant->timeout_ns)
			return rc;
		gm_sys_sleep_ns(RETRY_NS);
	}
}

static bool is_fresh(const struct gm_grant_plan *plan, const struct gm_base *base)
{
	for (const struct gm_base *fresh = plan->fresh; fresh; fresh = fresh->next) {
		if (fresh == base)
			return true;
	}
	return false;
}

static int open_all(struct gm_grant *grant, struct gm_grant_plan *plan, struct gm_error *err)
{
	for (; plan->opened < plan->next.nr; plan->opened++) {
		int rc = gm_grant_open(grant, &plan->next.items[plan->opened], err);

		if (rc) {
			/* Part of it may be mapped. */
			plan->opened++;
			return rc;
		}
	}
	return 0;
}

static void drop(struct gm_grant *grant, struct gm_grant_plan *plan)
{
	pthread_mutex_lock(&grant->lock);
	for (size_t i = 0; i < plan->opened; i++) {
		const struct gm_shown *piece = &plan->next.items[i];

		if (!stays(&(struct gm_grant_plan){.next = grant->shown}, piece) &&
			!is_fresh(plan, piece->base))
			gm_grant_reopen(grant, piece);
	}
	pthread_mutex_unlock(&grant->lock);
	gm_txn_abort(plan->txn);
	while (plan->fresh) {
		struct gm_base *base = plan->fresh;

		plan->fresh = base->next;
		gm_base_free(base, false);
	}
	gm_sys_free(plan->next.items);
	gm_sys_free(plan);
}

static int compute(struct gm_grant *grant, struct gm_grant_plan *plan,
	const struct gm_rights *rights, const struct gm_rangeset *cleared,
	const struct gm_sections *sections, struct gm_error *err)
{
	int rc = keep_rest(plan, &grant->shown, cleared) ? 0 : no_memory(grant, err);

	for (size_t i = 0; i < sections->nr && !rc; i++)
		rc = show_section(grant, plan, rights, &sections->items[i], err);
	if (rc)
		return rc;
	settle(&plan->next);
	rc = grant->flags & GM_GRANT_SHADOW ? renew_cut(grant, plan, err) : 0;
	return rc ? rc : check_pages(grant, plan, err);
}

static int carry_out(
	struct gm_grant *grant, struct gm_grant_plan *plan, bool wait, struct gm_error *err)
{
	bool room;
	int rc;

	pthread_mutex_lock(&grant->lock);
	room = reserve(&grant->pending, grant->pending.nr + grant->shown.nr + plan->next.nr + 1);
	pthread_mutex_unlock(&grant->lock);
	if (!room)
		return no_memory(grant, err);
	mark_used(grant, plan);
	rc = begin(grant, plan, wait, err);
	if (!rc)
		rc = fill_txn(grant, plan, err);
	if (!rc)
		rc = open_all(grant, plan, err);
	if (!rc)
		rc = gm_commit_start(&plan->commit, plan->txn, err);
	return rc;
}

int gm_grant_plan(struct gm_grant *grant, const struct gm_rights *rights,
	const struct gm_rangeset *cleared, const struct gm_sections *sections, bool wait,
	struct gm_grant_plan **ret, struct gm_error *err)
{
	struct gm_grant_plan *plan = gm_sys_alloc(sizeof(*plan));
	int rc;

	if (!plan)
		return no_memory(grant, err);
	rc = compute(grant, plan, rights, cleared, sections, err);
	if (!rc && match(&grant->shown, &plan->next)) {
		drop(grant, plan);
		*ret = NULL;
		return 0;
	}
	if (!rc)
		rc = carry_out(grant, plan, wait, err);
	if (rc)
		drop(grant, plan);
	else
		*ret = plan;
	return rc;
}

void gm_grant_plan_undo(struct gm_grant *grant, struct gm_grant_plan *plan)
{
	gm_commit_undo(&plan->commit);
	drop(grant, plan);
}

void gm_grant_plan_finish(struct gm_grant *grant, struct gm_grant_plan *plan)
{
	struct gm_base **tail = &plan->fresh;

	gm_commit_finish(&plan->commit);
	pthread_mutex_lock(&grant->lock);
	for (size_t i = 0; i < grant->shown.nr; i++) {
		/* There is room. */
		if (!stays(plan, &grant->shown.items[i]))
			grant->pending.items[grant->pending.nr++] = grant->shown.items[i];
	}
	for (struct gm_base *base = grant->bases; base; base = base->next)
		base->gone = base->gone || !base->used;
	while (*tail)
		tail = &(*tail)->next;
	*tail = grant->bases;
	grant->bases = plan->fresh;
	gm_sys_free(grant->shown.items);
	grant->shown = plan->next;
	pthread_mutex_unlock(&grant->lock);
	gm_sys_free(plan);
}
