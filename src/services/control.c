/* SPDX-License-Identifier: BSD-3-Clause */
/* control.c - see control.h: life, counts, the listener. */
#include "services/control.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define LOCKED_DEFAULT (UINT64_C(64) << 20)
#define PIECES_DEFAULT 1024u
#define PIECES_MAX 16384u

/* ---- as a listener ---- */

static bool hva_range(const struct gm_section *section, struct gm_range *ret)
{
	return section->hva && gm_range_make((uintptr_t)section->hva, section->len, ret);
}

/* What goes and does not come again in the same place is doomed. */
static int on_prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err)
{
	struct gm_control *c = ctx;
	struct gm_range hva;

	(void)err;
	pthread_mutex_lock(&c->lock);
	c->changing = true;
	for (size_t i = 0; i < nr && c->map.nr; i++) {
		if (changes[i].kind == GM_CHANGE_REMOVE && hva_range(&changes[i].section, &hva))
			gm_control_map_doom(&c->map, &hva, true);
	}
	for (size_t i = 0; i < nr && c->map.nr; i++) {
		if (changes[i].kind == GM_CHANGE_ADD && hva_range(&changes[i].section, &hva))
			gm_control_map_doom(&c->map, &hva, false);
	}
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static void on_remove(void *ctx, const struct gm_section *section)
{
	struct gm_control *c = ctx;

	(void)section;
	pthread_mutex_lock(&c->lock);
	gm_control_attr_undo(c, false);
	pthread_mutex_unlock(&c->lock);
}

static int on_add(void *ctx, const struct gm_section *section, struct gm_error *err)
{
	(void)ctx;
	(void)section;
	(void)err;
	return 0;
}

/* What was doomed and not taken lives on. */
static void on_end(struct gm_control *c)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->map.nr; i++)
		c->map.pieces[i].dying = false;
	c->changing = false;
	pthread_mutex_unlock(&c->lock);
}

static void on_commit(void *ctx, uint64_t generation)
{
	(void)generation;
	on_end(ctx);
}

static void on_abort(void *ctx)
{
	on_end(ctx);
}

/* ---- life ---- */

static int take_ranges(struct gm_control *c, struct gm_error *err)
{
	c->ranges = (struct gm_rangeset){.ranges = c->list, .cap = GM_CONTROL_RANGES_MAX};
	if (c->opts.nr_ranges > GM_CONTROL_RANGES_MAX || (c->opts.nr_ranges && !c->opts.ranges))
		return gm_error_set(
			err, -EINVAL, 0, 0, "control: at most %u ranges", GM_CONTROL_RANGES_MAX);
	for (size_t i = 0; i < c->opts.nr_ranges; i++) {
		struct gm_range range;

		if (!gm_range_make(c->opts.ranges[i].gpa, c->opts.ranges[i].len, &range) ||
			!gm_rangeset_add(&c->ranges, &range))
			return gm_error_set(err, -EINVAL, c->opts.ranges[i].gpa,
				c->opts.ranges[i].len,
				"control: the range at gpa 0x%" PRIx64 " is empty or wraps",
				c->opts.ranges[i].gpa);
	}
	return 0;
}

static int take_opts(struct gm_control *c, const struct gm_control_opts *user, struct gm_error *err)
{
	struct gm_control_opts *o = &c->opts;
	int rc = user ? gm_opts_copy(o, sizeof(*o), user, sizeof(*user)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "control");
	if ((o->allow & ~GM_CONTROL_ALL) || (o->flags & ~GM_CONTROL_UNGUARDED) ||
		o->max_pieces > PIECES_MAX || (o->burst && !o->rate))
		return gm_error_set(err, -EINVAL, 0, 0,
			"control: no such codes or flags, over %u pieces, or a burst without a "
			"rate",
			PIECES_MAX);
	o->allow = o->allow ? o->allow : GM_CONTROL_SAFE;
	o->max_locked = o->max_locked ? o->max_locked : LOCKED_DEFAULT;
	o->max_pieces = o->max_pieces ? o->max_pieces : PIECES_DEFAULT;
	o->burst = o->burst ? o->burst : o->rate;
	return take_ranges(c, err);
}

static void free_control(struct gm_control *c)
{
	for (uint32_t i = 0; i < c->nr_readers; i++)
		gm_reader_destroy(c->readers[i]);
	gm_control_map_fini(&c->map);
	gm_control_map_fini(&c->plan);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->meter);
	__atomic_store_n(&c->space->controlled, false, __ATOMIC_RELEASE);
	gm_sys_free(c);
}

static int open_control(
	struct gm_control *c, const struct gm_control_opts *opts, struct gm_error *err)
{
	const struct gm_listener_ops ops = {
		.size = sizeof(ops),
		.name = "control",
		.kinds = GM_KIND_BIT(GM_REGION_RAM),
		.prepare = on_prepare,
		.remove = on_remove,
		.add = on_add,
		.commit = on_commit,
		.abort = on_abort,
		.ctx = c,
		.flags = GM_LISTENER_PARTS,
	};
	size_t cap;
	int rc = take_opts(c, opts, err);

	if (rc)
		return rc;
	/* A request of many pieces may cut each of the map's. */
	cap = 2 * (size_t)c->opts.max_pieces + 4 * (size_t)GM_CONTROL_REACHES_MAX;
	rc = gm_control_map_init(&c->map, cap);
	if (!rc)
		rc = gm_control_map_init(&c->plan, cap);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "control: out of memory");
	return gm_listener_create(c->space, &ops, &c->listener, err);
}

int gm_control_create(struct gm_space *space, const struct gm_control_opts *opts,
	struct gm_control **ret, struct gm_error *err)
{
	struct gm_control *c;
	int rc;

	if (space->granted || space->over)
		return gm_error_set(err, -EPERM, 0, 0,
			"%s: it belongs to a grant, or has IOVAs: requests are for a guest's own "
			"space",
			space->name);
	c = gm_sys_alloc(sizeof(*c));
	if (!c)
		return gm_error_set(err, -ENOMEM, 0, 0, "control: out of memory");
	/* Two would undo what the other has done: each knows only its own pieces. */
	if (__atomic_exchange_n(&space->controlled, true, __ATOMIC_ACQ_REL)) {
		gm_sys_free(c);
		return gm_error_set(
			err, -EEXIST, 0, 0, "%s: control: it has one already", space->name);
	}
	c->space = space;
	c->filled_ns = UINT64_MAX;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->meter, NULL);
	rc = open_control(c, opts, err);
	if (rc) {
		free_control(c);
		return rc;
	}
	*ret = c;
	return 0;
}

int gm_control_destroy(struct gm_control *control, struct gm_error *err)
{
	int rc;

	if (!control)
		return 0;
	/* It is told that all sections go. */
	rc = gm_listener_destroy(control->listener, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&control->lock);
	gm_control_attr_undo(control, true);
	pthread_mutex_unlock(&control->lock);
	free_control(control);
	return 0;
}

int gm_control_info(struct gm_control *control, struct gm_control_info *ret)
{
	size_t size = ret->size;

	if (size < sizeof(*ret))
		return -EINVAL;
	pthread_mutex_lock(&control->lock);
	pthread_mutex_lock(&control->meter);
	*ret = control->sum;
	ret->size = size;
	ret->locked = gm_control_map_locked(&control->map);
	ret->pieces = control->map.nr;
	pthread_mutex_unlock(&control->meter);
	pthread_mutex_unlock(&control->lock);
	return 0;
}
