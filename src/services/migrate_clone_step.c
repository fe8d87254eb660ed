/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_clone_step.c - one step of live clones: what somebody wishes, the instant, destinations that have ended.
 *
 * Each destination's source asks for a pause when its destination has made memory. When all that are left do, there is
 * one pause, one state and one protection for them all; then the guest goes on, and each is told that it is paused.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "services/migrate_clone.h"
#include "services/migrate_out.h"
#include "sys/sys.h"

#define EVENTS 20

static void set_state(struct gm_migrate_clone *clone, uint32_t state)
{
	pthread_mutex_lock(&clone->lock);
	clone->state = state;
	pthread_mutex_unlock(&clone->lock);
}

/* ---- ends ---- */

static void drop(struct clone_one *one, int rc)
{
	if (one->ended || one->dropping)
		return;
	one->dropping = true;
	one->drop_rc = rc;
}

static void drop_all(struct gm_migrate_clone *clone, int rc)
{
	for (uint32_t i = 0; i < clone->nr; i++)
		drop(&clone->ones[i], rc);
}

/* Before RUN he is told so; later it is the same to us as if somebody knew that it runs nowhere. */
static void end_dropped(struct clone_one *one)
{
	if (one->dropping && !one->ended && gm_migrate_out_cancel(one->out, one->drop_rc))
		(void)gm_migrate_out_force(one->out);
}

static void look_at(struct clone_one *one)
{
	struct gm_migrate_clone *clone = one->clone;
	uint32_t state = gm_migrate_out_is(one->out);

	__atomic_store_n(&one->state, state, __ATOMIC_RELAXED);
	if (one->ended)
		return;
	if (state == GM_MIGRATE_IS_DOUBT)
		drop(one, -ETIMEDOUT);
	if (state < GM_MIGRATE_IS_ENDED)
		return;
	one->ended = true;
	gm_clone_leave(one);
	pthread_mutex_lock(&clone->lock);
	clone->stats.running--;
	clone->stats.whole += state == GM_MIGRATE_IS_ENDED;
	clone->stats.given_up += one->dropping;
	pthread_mutex_unlock(&clone->lock);
}

static uint32_t running(struct gm_migrate_clone *clone, bool *ret_ready)
{
	uint32_t nr = 0;

	*ret_ready = true;
	for (uint32_t i = 0; i < clone->nr; i++) {
		if (clone->ones[i].ended)
			continue;
		nr++;
		*ret_ready &= clone->ones[i].ready;
	}
	return nr;
}

/* ---- the instant ---- */

static void go_on(struct gm_migrate_clone *clone)
{
	clone->ops.run(clone->ops.ctx);
	pthread_mutex_lock(&clone->lock);
	clone->stats.pause_ns = gm_sys_now_ns() - clone->paused_at;
	pthread_mutex_unlock(&clone->lock);
}

/* Nothing came of it. */
static void fail(struct gm_migrate_clone *clone, int rc, const char *why)
{
	bool paused = clone->state >= GM_MIGRATE_CLONE_PAUSE;

	drop_all(clone, rc);
	pthread_mutex_lock(&clone->lock);
	clone->state = GM_MIGRATE_CLONE_FAILED;
	clone->stats.rc = rc;
	clone->asked_pause = false;
	clone->asked_state = false;
	pthread_mutex_unlock(&clone->lock);
	if (paused)
		go_on(clone);
	gm_clone_tell(clone, GM_MIGRATE_TOLD_FAILED, rc, why);
}

static void ask_pause(struct gm_migrate_clone *clone)
{
	clone->paused_at = gm_sys_now_ns();
	pthread_mutex_lock(&clone->lock);
	clone->state = GM_MIGRATE_CLONE_PAUSE;
	clone->asked_pause = true;
	pthread_mutex_unlock(&clone->lock);
	clone->ops.pause(clone->ops.ctx);
}

static void on_paused(struct gm_migrate_clone *clone, int rc)
{
	if (rc) {
		fail(clone, rc, "the guest cannot be paused");
		return;
	}
	pthread_mutex_lock(&clone->lock);
	clone->state = GM_MIGRATE_CLONE_SAVE;
	clone->asked_state = true;
	pthread_mutex_unlock(&clone->lock);
	clone->ops.save(clone->ops.ctx);
}

/* Offsets are the same for all: the map has not changed since they were made. */
static int check_map(const struct gm_migrate_clone *clone, struct gm_error *err)
{
	const struct saving *now = &clone->live->s;

	for (uint32_t i = 0; i < clone->nr; i++) {
		const struct saving *then = &clone->ones[i].out->memory;
		bool same = now->nr == then->nr && now->len == then->len;

		for (size_t j = 0; same && j < now->nr; j++)
			same = now->regions[j].gpa == then->regions[j].gpa &&
			       now->regions[j].len == then->regions[j].len;
		if (!same)
			return gm_error_set(err, -ESTALE, 0, 0,
				"%s: its map has changed since the clones were made",
				clone->space->name);
	}
	return 0;
}

static void on_state(struct gm_migrate_clone *clone)
{
	int rc = gm_clone_arm(clone, &clone->why);

	if (!rc) {
		rc = check_map(clone, &clone->why);
		if (rc)
			gm_clone_let_go(clone);
	}
	if (rc) {
		fail(clone, rc, clone->why.text);
		return;
	}
	set_state(clone, GM_MIGRATE_CLONE_FILLING);
	go_on(clone);
	for (uint32_t i = 0; i < clone->nr; i++) {
		if (!clone->ones[i].ended && gm_migrate_out_paused(clone->ones[i].out, 0))
			drop(&clone->ones[i], -EPROTO);
	}
}

static void on_end(struct gm_migrate_clone *clone)
{
	gm_clone_let_go(clone);
	set_state(clone, GM_MIGRATE_CLONE_ENDED);
	gm_clone_tell(clone, GM_MIGRATE_TOLD_ENDED, 0, NULL);
}

static void advance(struct gm_migrate_clone *clone)
{
	bool ready;
	uint32_t nr = running(clone, &ready);
	bool has_paused;
	bool has_state;
	int rc;

	pthread_mutex_lock(&clone->lock);
	has_paused = clone->has_paused;
	has_state = clone->has_state;
	rc = clone->paused_rc;
	clone->has_paused = false;
	clone->has_state = false;
	pthread_mutex_unlock(&clone->lock);
	switch (clone->state) {
	case GM_MIGRATE_CLONE_SETUP:
	case GM_MIGRATE_CLONE_PAUSE:
	case GM_MIGRATE_CLONE_SAVE:
		if (!nr)
			fail(clone, clone->cancel_rc ? clone->cancel_rc : -ECONNABORTED,
				clone->failing ? "it was cancelled" : "no destination is left");
		else if (clone->state == GM_MIGRATE_CLONE_SETUP && ready)
			ask_pause(clone);
		else if (has_paused)
			on_paused(clone, rc);
		else if (has_state)
			on_state(clone);
		break;
	case GM_MIGRATE_CLONE_FILLING:
		if (!nr)
			on_end(clone);
		break;
	default:
		break;
	}
}

/* ---- no room ---- */

static uint64_t left_of(const struct clone_one *one)
{
	struct gm_migrate_stats stats = {.size = sizeof(stats)};

	if (one->ended || one->dropping || gm_migrate_out_stats(one->out, &stats))
		return 0;
	/* One without a line gets nothing at all. */
	return stats.state == GM_MIGRATE_IS_LOST ? UINT64_MAX : stats.left + 1;
}

/* Who has most to come holds most copies. */
static void shed(struct gm_migrate_clone *clone)
{
	struct clone_one *slowest = NULL;
	uint64_t most = 0;
	bool full;

	pthread_mutex_lock(&clone->live->lock);
	/* Pages that were let go may be those that writers wait for: once they are asked before anybody goes. */
	full = clone->full && !clone->freed && (!clone->let_go || clone->tried);
	pthread_mutex_unlock(&clone->live->lock);
	if (!full || !(clone->opts.flags & GM_MIGRATE_CLONE_GIVE_UP) ||
		clone->state != GM_MIGRATE_CLONE_FILLING)
		return;
	for (uint32_t i = 0; i < clone->nr; i++) {
		uint64_t left = left_of(&clone->ones[i]);

		/* One goes already. */
		if (clone->ones[i].dropping && !clone->ones[i].ended)
			return;
		if (left > most) {
			most = left;
			slowest = &clone->ones[i];
		}
	}
	if (slowest) {
		drop(slowest, -ENOSPC);
		end_dropped(slowest);
	}
}

/* ---- a step ---- */

static void wishes(struct gm_migrate_clone *clone)
{
	int drop_rc[GM_MIGRATE_CLONES_MAX];
	uint32_t bits;
	bool failing;
	int rc;

	pthread_mutex_lock(&clone->lock);
	bits = clone->drop;
	clone->drop = 0;
	failing = clone->failing;
	rc = clone->cancel_rc;
	memcpy(drop_rc, clone->drop_rc, sizeof(drop_rc));
	pthread_mutex_unlock(&clone->lock);
	for (uint32_t i = 0; i < clone->nr; i++) {
		if (bits >> i & 1)
			drop(&clone->ones[i], drop_rc[i]);
	}
	if (failing)
		drop_all(clone, rc);
	for (uint32_t i = 0; i < clone->nr; i++)
		end_dropped(&clone->ones[i]);
}

static void pass(struct gm_migrate_clone *clone)
{
	bool idle;

	pthread_mutex_lock(&clone->lock);
	idle = clone->state == GM_MIGRATE_CLONE_IDLE;
	pthread_mutex_unlock(&clone->lock);
	if (idle)
		return;
	wishes(clone);
	for (uint32_t i = 0; i < clone->nr; i++) {
		struct clone_one *one = &clone->ones[i];
		int rc = gm_migrate_out_step(one->out, 0);

		if (rc)
			drop(one, rc);
		look_at(one);
		end_dropped(one);
	}
	advance(clone);
	shed(clone);
	gm_clone_wake(clone);
}

int gm_migrate_clone_step(struct gm_migrate_clone *clone, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	uint64_t count;
	int nr;

	if (__atomic_exchange_n(&clone->stepping, 1, __ATOMIC_ACQUIRE))
		return -EBUSY;
	nr = gm_sys_epoll_wait(clone->epoll, events, EVENTS, timeout_ms);
	for (int i = 0; i < nr; i++) {
		if (events[i].data.ptr == &clone->kick)
			(void)!gm_sys_read(clone->kick, &count, sizeof(count));
	}
	if (nr >= 0)
		pass(clone);
	__atomic_store_n(&clone->stepping, 0, __ATOMIC_RELEASE);
	return nr < 0 && nr != -EINTR ? nr : 0;
}
