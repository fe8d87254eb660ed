/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_clone.c - live clones: made, asked, told. See migrate_clone.h of this directory. */
#include "services/migrate_clone.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "services/migrate_out.h"
#include "sys/sys.h"

#define ROOM (UINT64_C(64) << 20)

void gm_clone_kick(const struct gm_migrate_clone *clone)
{
	const uint64_t one = 1;

	/* -EAGAIN: it has been kicked two to the power of 64 times. */
	(void)!gm_sys_write(clone->kick, &one, sizeof(one));
}

void gm_clone_tell(struct gm_migrate_clone *clone, uint32_t tell, int rc, const char *why)
{
	struct gm_migrate_event event = {.tell = tell,
		.state = tell == GM_MIGRATE_TOLD_ENDED ? GM_MIGRATE_IS_ENDED : GM_MIGRATE_IS_FAILED,
		.rc = rc,
		.why = why ? why : ""};

	if (clone->ops.told)
		clone->ops.told(clone->ops.ctx, GM_MIGRATE_CLONE_ALL, &event);
}

/* ---- what a destination's source asks for ---- */

static int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct clone_one *one = ctx;

	return one->clone->ops.connect(one->clone->ops.ctx, one->number, connection, index, ret_fd);
}

static void on_pause(void *ctx)
{
	((struct clone_one *)ctx)->ready = true;
}

/* It never ran for it. */
static void on_run(void *ctx)
{
	((struct clone_one *)ctx)->ready = false;
}

static void on_save(void *ctx)
{
	struct clone_one *one = ctx;
	struct gm_migrate_clone *clone = one->clone;
	int rc = gm_migrate_out_state(one->out, clone->data, clone->len);

	if (rc)
		(void)gm_migrate_clone_drop(clone, one->number, rc);
}

static void on_told(void *ctx, const struct gm_migrate_event *event)
{
	struct clone_one *one = ctx;
	struct gm_migrate_event now = *event;

	/* Nobody has it run at the source. */
	if (one->dropping && event->state == GM_MIGRATE_IS_RECLAIMED) {
		now.state = GM_MIGRATE_IS_GIVEN_UP;
		now.rc = one->drop_rc;
		now.why = "it was given up";
	}
	if (one->clone->ops.told)
		one->clone->ops.told(one->clone->ops.ctx, one->number, &now);
}

static const struct gm_migrate_out_ops out_ops = {
	.size = sizeof(out_ops),
	.connect = on_connect,
	.pause = on_pause,
	.run = on_run,
	.save = on_save,
	.told = on_told,
};

/* ---- made ---- */

static uint32_t sum_of(const uint32_t *ms, const uint32_t *normal, size_t nr)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < nr; i++) {
		if (__builtin_add_overflow(sum, ms[i] ? ms[i] : normal[i], &sum))
			return UINT32_MAX;
	}
	return sum;
}

static int check_opts(struct gm_migrate_clone_opts *o, struct gm_error *err)
{
	static const uint32_t normal[] = {10000, 10000, 60000, 60000, 60000};
	struct gm_migrate_deadlines *d = &o->out.deadlines;
	const uint32_t ms[] = {d->open, d->answer, d->work, d->own, d->own};

	if (o->flags & ~GM_MIGRATE_CLONE_GIVE_UP || o->out.flags)
		return gm_error_set(
			err, -EINVAL, 0, 0, "clones: a flag is unknown, or not for clones");
	o->room = o->room ? o->room : ROOM;
	o->wait_ms = o->wait_ms ? o->wait_ms : 30000;
	o->out.size = sizeof(o->out);
	o->out.way = GM_MIGRATE_OUT_POSTCOPY;
	o->out.bulk_plus = o->out.bulk_plus ? o->out.bulk_plus : 1;
	o->out.urgent_plus = o->out.urgent_plus ? o->out.urgent_plus : 1;
	/* The first that is ready waits for the last, then for the embedder: twice. */
	d->own = sum_of(ms, normal, sizeof(ms) / sizeof(ms[0]));
	return 0;
}

static int make_ones(struct gm_migrate_clone *clone, struct gm_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < clone->nr && !rc; i++) {
		struct clone_one *one = &clone->ones[i];
		struct gm_migrate_out_ops ops = out_ops;

		ops.ctx = one;
		one->clone = clone;
		one->number = i;
		one->then = gm_clone_then;
		one->then.ctx = one;
		rc = gm_migrate_out_create(clone->space, &clone->opts.out, &ops, &one->out, err);
		if (rc)
			break;
		gm_migrate_out_set_then(one->out, &one->then);
		rc = gm_sys_epoll_add(clone->epoll, gm_migrate_out_fd(one->out), one);
		if (rc)
			gm_error_set(err, rc, 0, 0, "clones cannot be waited for: %s",
				gm_error_word(rc));
	}
	return rc;
}

static int make_live(struct gm_migrate_clone *clone, struct gm_error *err)
{
	int rc = gm_snapshot_live_create(clone->space, clone->pager,
		GM_OPTS(gm_snapshot_live_opts, .room = clone->opts.room,
			.wait_ms = clone->opts.wait_ms),
		&clone->live, err);

	if (rc)
		return rc;
	clone->live->taker = gm_clone_taker;
	clone->live->owner = clone;
	return 0;
}

static int make_fds(struct gm_migrate_clone *clone, struct gm_error *err)
{
	int rc;

	clone->epoll = gm_sys_epoll_create();
	rc = clone->epoll < 0 ? clone->epoll : 0;
	if (!rc) {
		clone->kick = gm_sys_eventfd();
		rc = clone->kick < 0 ? clone->kick
				     : gm_sys_epoll_add(clone->epoll, clone->kick, &clone->kick);
	}
	return rc ? gm_error_set(err, rc, 0, 0, "clones have no descriptors: %s", gm_error_word(rc))
		  : 0;
}

static void free_clone(struct gm_migrate_clone *clone)
{
	if (clone->live)
		gm_clone_let_go(clone);
	for (uint32_t i = 0; clone->ones && i < clone->nr; i++)
		(void)gm_migrate_out_destroy(clone->ones[i].out);
	gm_snapshot_live_destroy(clone->live);
	if (clone->epoll >= 0)
		gm_sys_close(clone->epoll);
	if (clone->kick >= 0)
		gm_sys_close(clone->kick);
	gm_sys_free(clone->ones);
	gm_sys_free(clone->data);
	pthread_mutex_destroy(&clone->lock);
	gm_sys_free(clone);
}

static int make(struct gm_migrate_clone *clone, struct gm_error *err)
{
	int rc = check_opts(&clone->opts, err);

	if (!rc) {
		clone->ones = gm_sys_alloc_array(clone->nr, sizeof(*clone->ones));
		if (!clone->ones)
			rc = gm_error_set(err, -ENOMEM, 0, 0, "no memory for clones");
	}
	if (!rc)
		rc = make_fds(clone, err);
	if (!rc)
		rc = make_ones(clone, err);
	return rc ? rc : make_live(clone, err);
}

int gm_migrate_clone_create(struct gm_space *space, struct gm_pager *pager, uint32_t nr,
	const struct gm_migrate_clone_opts *opts, const struct gm_migrate_clone_ops *ops,
	struct gm_migrate_clone **ret_clone, struct gm_error *err)
{
	struct gm_migrate_clone *clone;
	int rc;

	if (nr == 0 || nr > GM_MIGRATE_CLONES_MAX)
		return gm_error_set(err, -EINVAL, 0, 0, "clones: 1 to %u", GM_MIGRATE_CLONES_MAX);
	clone = gm_sys_alloc(sizeof(*clone));
	if (!clone)
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for clones");
	pthread_mutex_init(&clone->lock, NULL);
	clone->space = space;
	clone->pager = pager;
	clone->nr = nr;
	clone->epoll = -1;
	clone->kick = -1;
	clone->opts.size = sizeof(clone->opts);
	rc = opts ? gm_opts_copy(&clone->opts, sizeof(clone->opts), opts, sizeof(opts->size)) : 0;
	if (!rc)
		rc = gm_opts_copy(&clone->ops, sizeof(clone->ops), ops, sizeof(*ops));
	if (rc)
		rc = gm_opts_error(err, rc, "clones");
	else if (!clone->ops.connect || !clone->ops.pause || !clone->ops.run || !clone->ops.save)
		rc = gm_error_set(
			err, -EINVAL, 0, 0, "clones need connect(), pause(), run() and save()");
	if (!rc)
		rc = make(clone, err);
	if (rc) {
		free_clone(clone);
		return rc;
	}
	*ret_clone = clone;
	return 0;
}

int gm_migrate_clone_destroy(struct gm_migrate_clone *clone)
{
	if (!clone)
		return 0;
	if (clone->state >= GM_MIGRATE_CLONE_PAUSE && clone->state <= GM_MIGRATE_CLONE_FILLING)
		return -EBUSY;
	free_clone(clone);
	return 0;
}

/* ---- asked ---- */

int gm_migrate_clone_start(struct gm_migrate_clone *clone, struct gm_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&clone->lock);
	if (clone->state != GM_MIGRATE_CLONE_IDLE)
		rc = gm_error_set(err, -EINVAL, 0, 0, "the clones have begun");
	/* With the lock: who steps looks at none of them before all have begun. */
	for (uint32_t i = 0; i < clone->nr && !rc; i++)
		rc = gm_migrate_out_start(clone->ones[i].out, err);
	if (!rc) {
		clone->state = GM_MIGRATE_CLONE_SETUP;
		clone->stats.running = clone->nr;
	}
	pthread_mutex_unlock(&clone->lock);
	if (!rc)
		gm_clone_kick(clone);
	return rc;
}

int gm_migrate_clone_fd(const struct gm_migrate_clone *clone)
{
	return clone->epoll;
}

int gm_migrate_clone_paused(struct gm_migrate_clone *clone, int rc)
{
	bool may;

	pthread_mutex_lock(&clone->lock);
	may = clone->asked_pause && rc <= 0;
	if (may) {
		clone->asked_pause = false;
		clone->has_paused = true;
		clone->paused_rc = rc;
	}
	pthread_mutex_unlock(&clone->lock);
	if (!may)
		return -EINVAL;
	gm_clone_kick(clone);
	return 0;
}

int gm_migrate_clone_state(struct gm_migrate_clone *clone, const void *data, size_t len)
{
	uint8_t *copy = gm_sys_alloc(len ? len : 1);
	bool may;

	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, data, len);
	pthread_mutex_lock(&clone->lock);
	may = clone->asked_state;
	if (may) {
		clone->asked_state = false;
		clone->has_state = true;
		clone->data = copy;
		clone->len = len;
	}
	pthread_mutex_unlock(&clone->lock);
	if (!may) {
		gm_sys_free(copy);
		return -EINVAL;
	}
	gm_clone_kick(clone);
	return 0;
}

int gm_migrate_clone_resume(struct gm_migrate_clone *clone, uint32_t which)
{
	return which < clone->nr ? gm_migrate_out_resume(clone->ones[which].out) : -EINVAL;
}

int gm_migrate_clone_drop(struct gm_migrate_clone *clone, uint32_t which, int rc)
{
	bool may;

	pthread_mutex_lock(&clone->lock);
	may = which < clone->nr && clone->state >= GM_MIGRATE_CLONE_SETUP &&
	      clone->state <= GM_MIGRATE_CLONE_FILLING &&
	      __atomic_load_n(&clone->ones[which].state, __ATOMIC_RELAXED) < GM_MIGRATE_IS_ENDED;
	if (may) {
		clone->drop |= 1u << which;
		clone->drop_rc[which] = rc;
	}
	pthread_mutex_unlock(&clone->lock);
	if (!may)
		return -EINVAL;
	gm_clone_kick(clone);
	return 0;
}

int gm_migrate_clone_cancel(struct gm_migrate_clone *clone, int rc)
{
	bool may;

	pthread_mutex_lock(&clone->lock);
	may = clone->state >= GM_MIGRATE_CLONE_SETUP && clone->state <= GM_MIGRATE_CLONE_FILLING;
	if (may) {
		clone->failing = true;
		clone->cancel_rc = rc;
	}
	pthread_mutex_unlock(&clone->lock);
	if (!may)
		return -EINVAL;
	gm_clone_kick(clone);
	return 0;
}

int gm_migrate_clone_stats(struct gm_migrate_clone *clone, struct gm_migrate_clone_stats *ret_stats)
{
	size_t size = ret_stats->size;
	struct gm_snapshot_live *live = clone->live;
	struct gm_migrate_clone_stats now;

	if (size < sizeof(size) || size > sizeof(*ret_stats))
		return -EINVAL;
	pthread_mutex_lock(&clone->lock);
	now = clone->stats;
	now.state = clone->state;
	now.clones = clone->nr;
	pthread_mutex_unlock(&clone->lock);
	pthread_mutex_lock(&live->lock);
	now.armed = live->stats.armed;
	now.arm_ns = live->stats.arm_ns;
	now.pre_images = live->stats.pre_images;
	now.discarded = live->stats.discarded;
	now.waits = live->stats.waits;
	now.pre_now = live->used * LIVE_PAGE;
	now.pre_most = clone->pre_most * LIVE_PAGE;
	now.lost = clone->lost;
	pthread_mutex_unlock(&live->lock);
	memcpy(ret_stats, &now, size);
	ret_stats->size = size;
	return 0;
}

int gm_migrate_clone_stats_of(
	struct gm_migrate_clone *clone, uint32_t which, struct gm_migrate_stats *ret_stats)
{
	return which < clone->nr ? gm_migrate_out_stats(clone->ones[which].out, ret_stats)
				 : -EINVAL;
}
