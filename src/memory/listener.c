/* SPDX-License-Identifier: BSD-3-Clause */
/* listener.c - see listener.h. */
#include "memory/listener.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

static int no_memory(const struct gm_listener *listener, struct gm_error *err)
{
	return gm_error_set(err, -ENOMEM, 0, 0, "%s: listener \"%s\": out of memory",
		listener->space->name, listener->name);
}

static void forget(struct gm_told *told)
{
	gm_sys_free(told->reach.ranges);
	gm_sys_free(told->changes);
	gm_sections_free(&told->has);
	gm_sections_free(&told->old);
	gm_sections_free(&told->new);
	gm_sections_free(&told->back);
	*told = (struct gm_told){0};
}

/* ---- from what it has to what it is to have ---- */

static int by_address(const void *a, const void *b)
{
	const struct gm_section *x = a;
	const struct gm_section *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

/* The section of a sorted list that begins at @gpa, or NULL. */
static struct gm_section *find(const struct gm_sections *list, size_t nr, uint64_t gpa)
{
	struct gm_section key = {.gpa = gpa};

	return nr ? bsearch(&key, list->items, nr, sizeof(key), by_address) : NULL;
}

/* May what it has stay, if need be with other permissions? */
static bool stays(
	const struct gm_listener *l, const struct gm_section *has, const struct gm_sections *target)
{
	const struct gm_section *want = find(target, target->nr, has->gpa);
	struct gm_range range = {has->gpa, has->gpa + (has->len - 1)};

	if (l->told.vacated && gm_rangeset_overlaps(l->told.vacated, &range))
		return false;
	return want && gm_section_is_same(want, has) &&
	       (want->perms == has->perms || l->ops.change);
}

/* Takes away what is not in @target, the last first. */
static void take_away(struct gm_listener *l, const struct gm_sections *target)
{
	struct gm_sections *has = &l->told.has;
	size_t kept = 0;

	if (has->nr)
		qsort(has->items, has->nr, sizeof(*has->items), by_address);
	for (size_t i = has->nr; i > 0; i--) {
		if (!stays(l, &has->items[i - 1], target)) {
			l->told.changed = true;
			if (l->ops.remove)
				l->ops.remove(l->ops.ctx, &has->items[i - 1]);
			/* No region has this number. */
			has->items[i - 1].id = 0;
		}
	}
	for (size_t i = 0; i < has->nr; i++) {
		if (has->items[i].id)
			has->items[kept++] = has->items[i];
	}
	has->nr = kept;
}

/* A callback that refuses may say why; what stands there now is from another time. */
static void clear(struct gm_error *err)
{
	if (err) {
		err->code = 0;
		err->text[0] = '\0';
	}
}

static int give(struct gm_listener *l, struct gm_section *has, const struct gm_section *want,
	struct gm_error *err)
{
	int rc = 0;

	clear(err);
	if (!has) {
		l->told.changed = true;
		rc = l->ops.add ? l->ops.add(l->ops.ctx, want, err) : 0;
		/* There is room. */
		if (rc >= 0)
			gm_sections_add(&l->told.has, want);
	} else if (has->perms != want->perms) {
		l->told.changed = true;
		rc = l->ops.change(l->ops.ctx, want, has->perms, err);
		if (rc >= 0)
			has->perms = want->perms;
	}
	return rc < 0 ? rc : 0;
}

static bool make_room(struct gm_sections *list, size_t more)
{
	struct gm_section *items;

	if (list->cap - list->nr > more)
		return true;
	items = gm_sys_realloc(list->items, list->nr + more + 1, sizeof(*items));
	if (!items)
		return false;
	list->items = items;
	list->cap = list->nr + more + 1;
	return true;
}

static int refused(
	const struct gm_listener *l, const struct gm_section *section, int rc, struct gm_error *err)
{
	char why[GM_ERROR_TEXT_MAX];

	if (!err || (err->code && err->text[0]))
		return rc;
	snprintf(why, sizeof(why), "%s", err->text[0] ? err->text : gm_error_word(rc));
	return gm_error_set(err, rc, section ? section->gpa : 0, section ? section->len : 0,
		"%s: listener \"%s\" refuses the change: %s", l->space->name, l->name, why);
}

/* Makes what it has @target. With @force nothing stops it, refusals are counted. */
static int bring(
	struct gm_listener *l, const struct gm_sections *target, bool force, struct gm_error *err)
{
	size_t nr;

	take_away(l, target);
	nr = l->told.has.nr;
	if (!force && !make_room(&l->told.has, target->nr))
		return no_memory(l, err);
	for (size_t i = 0; i < target->nr; i++) {
		const struct gm_section *want = &target->items[i];
		int rc = give(l, find(&l->told.has, nr, want->gpa), want, err);

		if (rc && force)
			__atomic_fetch_add(&l->lost, 1, __ATOMIC_RELAXED);
		else if (rc)
			return refused(l, want, rc, err);
	}
	return 0;
}

/* ---- asking ---- */

/* What is in both maps, as it was. */
static bool keep_common(
	const struct gm_listener *l, const struct gm_sections *new, struct gm_sections *ret)
{
	for (size_t i = 0; i < l->told.old.nr; i++) {
		const struct gm_section *old = &l->told.old.items[i];

		if (stays(l, old, new) && !gm_sections_add(ret, old))
			return false;
	}
	return true;
}

/* The difference, as it will be told: what goes from the last on, what comes from the first. */
static bool list_changes(struct gm_listener *l)
{
	struct gm_told *told = &l->told;
	size_t nr = 0;

	told->changes = gm_sys_alloc_array(told->old.nr + told->new.nr + 1, sizeof(*told->changes));
	if (!told->changes)
		return false;
	for (size_t i = told->old.nr; i > 0; i--) {
		const struct gm_section *old = &told->old.items[i - 1];

		if (!stays(l, old, &told->new))
			told->changes[nr++] =
				(struct gm_change){.kind = GM_CHANGE_REMOVE, .section = *old};
	}
	for (size_t i = 0; i < told->new.nr; i++) {
		const struct gm_section *new = &told->new.items[i];
		const struct gm_section *old = find(&told->old, told->old.nr, new->gpa);

		if (!old || !stays(l, old, &told->new))
			told->changes[nr++] =
				(struct gm_change){.kind = GM_CHANGE_ADD, .section = *new};
		else if (old->perms != new->perms)
			told->changes[nr++] = (struct gm_change){
				.kind = GM_CHANGE_PERMS, .perms = old->perms, .section = *new};
	}
	told->nr_changes = nr;
	return true;
}

static int check_budget(const struct gm_listener *l, struct gm_error *err)
{
	uint64_t nr = l->nr_sections - l->told.old.nr + l->told.new.nr;

	if (l->ops.max_sections == 0 || nr <= l->ops.max_sections)
		return 0;
	return gm_error_set(err, -ENOSPC, 0, 0,
		"%s: listener \"%s\" would have %" PRIu64
		" sections, of which it can take %" PRIu64,
		l->space->name, l->name, nr, l->ops.max_sections);
}

static int plan(struct commit *c, struct gm_listener *l, struct gm_error *err)
{
	struct gm_told *told = &l->told;
	struct gm_listener_ops loose = l->ops;

	told->vacated = &c->vacated;
	told->reach.cap = c->placing.nr + 1;
	told->reach.ranges = gm_sys_alloc_array(told->reach.cap, sizeof(struct gm_range));
	if (!told->reach.ranges)
		return no_memory(l, err);
	gm_sections_reach(c, &l->ops, &told->reach);
	/* Room to go back without taking any: if memory cannot be moved back, nothing is joined. */
	loose.join = GM_JOIN_NONE;
	if (!gm_sections_of_reach(c, &l->ops, &told->reach, GM_SIDE_OLD, &told->old) ||
		!gm_sections_of_reach(c, &l->ops, &told->reach, GM_SIDE_NEW, &told->new) ||
		!gm_sections_of_reach(c, &loose, &told->reach, GM_SIDE_OLD, &told->back) ||
		!make_room(&told->has, told->old.nr + told->new.nr + told->back.nr) ||
		!list_changes(l))
		return no_memory(l, err);
	for (size_t i = 0; i < told->old.nr; i++)
		told->has.items[told->has.nr++] = told->old.items[i];
	return check_budget(l, err);
}

static int prepare(struct gm_listener *l, struct gm_error *err)
{
	int rc;

	if (!l->ops.prepare || l->told.nr_changes == 0)
		return 0;
	clear(err);
	rc = l->ops.prepare(l->ops.ctx, l->told.changes, l->told.nr_changes, err);
	return rc < 0 ? refused(l, NULL, rc, err) : 0;
}

static void tell_abort(struct gm_listener *l)
{
	if (l->ops.abort && l->told.nr_changes)
		l->ops.abort(l->ops.ctx);
}

/* Calls @fn for the listeners before @end, the last first. */
static void each_reverse(
	struct gm_listener *from, const struct gm_listener *end, void (*fn)(struct gm_listener *))
{
	if (from == end)
		return;
	each_reverse(from->next, end, fn);
	fn(from);
}

int gm_listeners_ask(struct commit *c, struct gm_error *err)
{
	struct gm_listener *first = c->space->listeners;
	struct gm_listener *l;
	int rc = 0;

	for (l = first; l && !rc; l = l->next)
		rc = plan(c, l, err);
	for (l = rc ? NULL : first; l; l = l->next) {
		rc = prepare(l, err);
		if (rc) {
			each_reverse(first, l, tell_abort);
			break;
		}
	}
	for (l = rc ? first : NULL; l; l = l->next)
		forget(&l->told);
	c->asked = !rc;
	return rc;
}

/* ---- carrying out ---- */

static void withdraw(struct gm_listener *l)
{
	struct gm_sections common = {0};

	/* Without memory it loses more than it must. */
	keep_common(l, &l->told.new, &common);
	take_away(l, &common);
	gm_sections_free(&common);
}

void gm_listeners_withdraw(struct commit *c)
{
	if (c->asked)
		each_reverse(c->space->listeners, NULL, withdraw);
}

int gm_listeners_give(struct commit *c, struct gm_error *err)
{
	int rc = 0;

	for (struct gm_listener *l = c->space->listeners; l && !rc; l = l->next) {
		gm_sections_free(&l->told.new);
		if (!gm_sections_of_reach(c, &l->ops, &l->told.reach, GM_SIDE_NEW, &l->told.new))
			return no_memory(l, err);
		rc = bring(l, &l->told.new, false, err);
	}
	return rc;
}

void gm_listeners_restore(struct commit *c)
{
	if (!c->asked)
		return;
	for (struct gm_listener *l = c->space->listeners; l; l = l->next) {
		/* Memory that could not be moved back is where it is now. There is room. */
		l->told.back.nr = 0;
		gm_sections_of_reach(c, &l->ops, &l->told.reach, GM_SIDE_OLD, &l->told.back);
		bring(l, &l->told.back, true, NULL);
		l->nr_sections = l->nr_sections - l->told.old.nr + l->told.has.nr;
	}
	each_reverse(c->space->listeners, NULL, tell_abort);
	for (struct gm_listener *l = c->space->listeners; l; l = l->next)
		forget(&l->told);
}

void gm_listeners_commit(struct commit *c)
{
	for (struct gm_listener *l = c->space->listeners; l; l = l->next) {
		l->nr_sections = l->nr_sections - l->told.old.nr + l->told.has.nr;
		if (l->ops.commit && l->told.changed)
			l->ops.commit(l->ops.ctx, c->space->generation);
		forget(&l->told);
	}
}

/* ---- life ---- */

static int no_objection(
	void *ctx, const struct gm_section *section, uint32_t old_perms, struct gm_error *err)
{
	(void)ctx;
	(void)section;
	(void)old_perms;
	(void)err;
	return 0;
}

static int copy_ops(const struct gm_listener_ops *user, struct gm_listener *l, struct gm_error *err)
{
	int rc = gm_opts_copy(&l->ops, sizeof(l->ops), user, sizeof(*user));

	if (rc)
		return gm_opts_error(err, rc, "listener");
	if (l->ops.join > GM_JOIN_FILE || (l->ops.enforces & ~GM_PERM_RWX) ||
		(l->ops.flags & ~GM_LISTENER_PARTS))
		return gm_error_set(err, -EINVAL, 0, 0,
			"listener: no such way to join sections, unknown permissions or unknown "
			"flags");
	gm_copy_name(l->name, sizeof(l->name), l->ops.name ? l->ops.name : "listener");
	l->ops.name = l->name;
	if (l->ops.kinds == 0)
		l->ops.kinds = GM_KINDS_MEMORY;
	/* Who only looks has nothing to take away and give again. */
	if (!l->ops.add && !l->ops.remove && !l->ops.change)
		l->ops.change = no_objection;
	return 0;
}

/* Told the whole map, as if it came with a commit. */
static int introduce(struct gm_listener *l, struct gm_error *err)
{
	struct gm_told *told = &l->told;
	int rc;

	if (!gm_sections_of_view(l->space, &l->ops, &told->new) ||
		!make_room(&told->has, 2 * told->new.nr) || !list_changes(l))
		return no_memory(l, err);
	rc = check_budget(l, err);
	if (!rc)
		rc = prepare(l, err);
	if (rc)
		return rc;
	rc = bring(l, &told->new, false, err);
	if (rc) {
		take_away(l, &told->old);
		tell_abort(l);
		return rc;
	}
	l->nr_sections = told->has.nr;
	if (l->ops.commit)
		l->ops.commit(l->ops.ctx, l->space->generation);
	return 0;
}

/* Whoever holds the space walks the list without the lock, others with it. */
static void link_listener(struct gm_listener *l)
{
	struct gm_listener **link = &l->space->listeners;

	pthread_mutex_lock(&l->space->lock);
	while (*link && (*link)->ops.priority <= l->ops.priority)
		link = &(*link)->next;
	l->next = *link;
	*link = l;
	pthread_mutex_unlock(&l->space->lock);
}

static void unlink_listener(const struct gm_listener *l)
{
	struct gm_listener **link = &l->space->listeners;

	pthread_mutex_lock(&l->space->lock);
	while (*link != l)
		link = &(*link)->next;
	*link = l->next;
	pthread_mutex_unlock(&l->space->lock);
}

/* From here on discards wait until the space is released. */
static int join_in(struct gm_listener *l, struct gm_error *err)
{
	int rc = introduce(l, err);

	forget(&l->told);
	if (!rc)
		link_listener(l);
	else if (l->ops.discard)
		gm_gate_unwant(l->space);
	return rc;
}

int gm_listener_create(struct gm_space *space, const struct gm_listener_ops *ops,
	struct gm_listener **ret_listener, struct gm_error *err)
{
	struct gm_listener *l = gm_sys_alloc(sizeof(*l));
	int rc;

	if (!l)
		return gm_error_set(err, -ENOMEM, 0, 0, "listener: out of memory");
	l->space = space;
	rc = copy_ops(ops, l, err);
	if (!rc)
		rc = gm_space_hold(space, err);
	if (!rc) {
		rc = l->ops.discard ? gm_gate_want(space, err) : 0;
		if (!rc)
			rc = join_in(l, err);
		gm_space_release(space);
	}
	if (rc)
		gm_sys_free(l);
	else
		*ret_listener = l;
	return rc;
}

int gm_listener_destroy(struct gm_listener *l, struct gm_error *err)
{
	struct gm_sections all = {0};
	int rc;

	if (!l)
		return 0;
	rc = gm_space_hold(l->space, err);
	if (rc)
		return rc;
	/* Without memory for a list they go in the other order. */
	if (l->ops.remove && !gm_sections_of_view(l->space, &l->ops, &all)) {
		gm_sections_each(l->space, &l->ops, l->ops.remove, l->ops.ctx);
		all.nr = 0;
	}
	for (size_t i = all.nr; i > 0; i--)
		l->ops.remove(l->ops.ctx, &all.items[i - 1]);
	gm_sections_free(&all);
	unlink_listener(l);
	if (l->ops.discard)
		gm_gate_unwant(l->space);
	gm_space_release(l->space);
	gm_sys_free(l);
	return 0;
}

void gm_listeners_free(struct gm_space *space)
{
	while (space->listeners) {
		struct gm_listener *l = space->listeners;

		space->listeners = l->next;
		gm_sys_free(l);
	}
}

/* ---- questions ---- */

size_t gm_listeners_count(const struct gm_space *space)
{
	size_t nr = 0;

	for (const struct gm_listener *l = space->listeners; l; l = l->next)
		nr++;
	return nr;
}

static void count_unenforced(const struct gm_listener *l, const struct gm_section *section,
	struct gm_listener_line *line)
{
	uint32_t perms = GM_PERM_RWX & ~section->perms & ~l->ops.enforces;

	for (unsigned int bit = 0; bit < 3; bit++) {
		if ((perms & 1u << bit) && line->unenforced[bit].sections++ == 0)
			line->unenforced[bit].first = section->gpa;
	}
}

void gm_listeners_list(
	struct gm_space *space, struct gm_sections *room, struct gm_listener_line *ret)
{
	for (const struct gm_listener *l = space->listeners; l; l = l->next, ret++) {
		room->nr = 0;
		gm_sections_of_view(space, &l->ops, room);
		*ret = (struct gm_listener_line){
			.priority = l->ops.priority,
			.sections = room->nr,
			.max_sections = l->ops.max_sections,
			.lost = __atomic_load_n(&l->lost, __ATOMIC_RELAXED),
		};
		memcpy(ret->name, l->name, sizeof(ret->name));
		for (size_t i = 0; i < room->nr; i++)
			count_unenforced(l, &room->items[i], ret);
	}
}

int gm_listener_info(struct gm_listener *l, struct gm_listener_info *ret_info)
{
	struct gm_listener_info info = {.size = ret_info->size, .lost = l->lost};
	struct gm_sections all = {0};
	int rc;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	rc = gm_space_hold(l->space, NULL);
	if (rc)
		return rc;
	info.sections = l->nr_sections;
	if (!gm_sections_of_view(l->space, &l->ops, &all))
		rc = -ENOMEM;
	for (size_t i = 0; i < all.nr; i++)
		info.unenforced |= GM_PERM_RWX & ~all.items[i].perms & ~l->ops.enforces;
	gm_sections_free(&all);
	gm_space_release(l->space);
	if (!rc)
		memcpy(ret_info, &info, sizeof(info));
	return rc;
}
