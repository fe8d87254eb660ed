/* SPDX-License-Identifier: BSD-3-Clause */
/* gate.c - see gate.h. */
#include "memory/gate.h"

#include <errno.h>
#include <guestmem/discard.h>
#include <inttypes.h>

#include "core/error.h"
#include "memory/space.h"
#include "sys/deadline.h"
#include "sys/sys.h"

#define POLL_NS 50000u

void gm_gate_init(struct gm_gate *gate)
{
	pthread_mutex_init(&gate->lock, NULL);
	gm_sys_cond_init(&gate->idle);
}

void gm_gate_fini(struct gm_gate *gate)
{
	while (gate->list) {
		struct gm_inhibition *next = gate->list->next;

		gm_sys_free(gate->list);
		gate->list = next;
	}
	gm_sys_cond_destroy(&gate->idle);
	pthread_mutex_destroy(&gate->lock);
}

/* ---- discards ---- */

/* Others hold it for moments, or while they wait for readers. */
static int hold_patiently(struct gm_space *space, struct gm_error *err)
{
	uint64_t deadline = gm_sys_now_ns() + space->timeout_ns;

	for (;;) {
		int rc = gm_space_hold(space, err);

		if (rc != -EBUSY || gm_sys_now_ns() >= deadline)
			return rc;
		gm_sys_sleep_ns(POLL_NS);
	}
}

/* With the lock. Whoever waits has a deadline, so this ends. */
static void begin(struct gm_gate *gate)
{
	while (gate->waiting)
		gm_sys_cond_wait(&gate->idle, &gate->lock, UINT64_MAX);
	gate->running++;
}

int gm_gate_enter(struct gm_space *space, struct gm_pass *ret, struct gm_error *err)
{
	struct gm_gate *gate = &space->gate;
	bool held;
	int rc;

	pthread_mutex_lock(&gate->lock);
	held = gate->asking > 0;
	if (!held) {
		begin(gate);
		/* A listener may have come meanwhile, and waited for those that had begun. */
		held = gate->asking > 0;
		if (held && --gate->running == 0)
			gm_sys_cond_wake(&gate->idle);
		ret->barred = gate->list;
	}
	pthread_mutex_unlock(&gate->lock);
	if (held) {
		rc = hold_patiently(space, err);
		if (rc)
			return rc;
		pthread_mutex_lock(&gate->lock);
		begin(gate);
		ret->barred = gate->list;
		pthread_mutex_unlock(&gate->lock);
	}
	ret->held = held;
	return 0;
}

void gm_gate_leave(struct gm_space *space, const struct gm_pass *pass)
{
	struct gm_gate *gate = &space->gate;

	pthread_mutex_lock(&gate->lock);
	if (--gate->running == 0)
		gm_sys_cond_wake(&gate->idle);
	pthread_mutex_unlock(&gate->lock);
	if (pass->held)
		gm_space_release(space);
}

int gm_gate_check(struct gm_space *space, const struct gm_pass *pass, const struct gm_range *range,
	bool coordinated, struct gm_error *err)
{
	struct gm_gate *gate = &space->gate;
	const struct gm_inhibition *i;
	struct gm_range common = *range;

	if (!pass->barred)
		return 0;
	pthread_mutex_lock(&gate->lock);
	for (i = gate->list; i; i = i->next) {
		if ((i->kind == GM_INHIBIT_ALL || !coordinated) &&
			gm_range_intersect(&i->range, range, &common))
			break;
	}
	pthread_mutex_unlock(&gate->lock);
	if (!i)
		return 0;
	return gm_error_set(err, -EBUSY, common.first, gm_range_len(&common),
		"%s: discards are inhibited at gpa 0x%" PRIx64
		" (gm_discard_inhibit(): a device uses the memory by itself)",
		space->name, common.first);
}

/* ---- who forbids ---- */

/* With the lock. */
static int wait_idle(struct gm_space *space)
{
	struct gm_gate *gate = &space->gate;
	uint64_t deadline = gm_sys_now_ns() + space->timeout_ns;
	int rc = 0;

	gate->waiting++;
	while (gate->running && !rc)
		rc = gm_sys_cond_wait(&gate->idle, &gate->lock, deadline);
	if (--gate->waiting == 0)
		gm_sys_cond_wake(&gate->idle);
	return gate->running ? -ETIMEDOUT : 0;
}

static int explain_wait(const struct gm_space *space, int rc, struct gm_error *err)
{
	return rc ? gm_error_set(err, rc, 0, 0, "%s: a discard is under way and does not end",
			    space->name)
		  : 0;
}

int gm_gate_want(struct gm_space *space, struct gm_error *err)
{
	int rc;

	pthread_mutex_lock(&space->gate.lock);
	space->gate.asking++;
	rc = wait_idle(space);
	if (rc)
		space->gate.asking--;
	pthread_mutex_unlock(&space->gate.lock);
	return explain_wait(space, rc, err);
}

void gm_gate_unwant(struct gm_space *space)
{
	pthread_mutex_lock(&space->gate.lock);
	space->gate.asking--;
	pthread_mutex_unlock(&space->gate.lock);
}

static bool range_of(uint64_t gpa, uint64_t len, struct gm_range *ret)
{
	if (len)
		return gm_range_make(gpa, len, ret);
	*ret = (struct gm_range){gpa, UINT64_MAX};
	return true;
}

/* With the lock. */
static struct gm_inhibition **find(
	struct gm_gate *gate, const struct gm_range *range, uint32_t kind)
{
	struct gm_inhibition **at = &gate->list;

	while (*at && ((*at)->kind != kind || (*at)->range.first != range->first ||
			      (*at)->range.last != range->last))
		at = &(*at)->next;
	return at;
}

/* With the lock. */
static int allow(struct gm_gate *gate, const struct gm_range *range, uint32_t kind)
{
	struct gm_inhibition **at = find(gate, range, kind);
	struct gm_inhibition *i = *at;

	if (!i)
		return -ENOENT;
	if (--i->count == 0) {
		*at = i->next;
		gm_sys_free(i);
	}
	return 0;
}

int gm_discard_inhibit(
	struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t kind, struct gm_error *err)
{
	struct gm_gate *gate = &space->gate;
	struct gm_inhibition *fresh;
	struct gm_inhibition **at;
	struct gm_range range;
	int rc;

	if (kind > GM_INHIBIT_ALL)
		return gm_error_set(
			err, -EINVAL, gpa, len, "%s: no such kind of inhibition", space->name);
	if (!range_of(gpa, len, &range))
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: gpa 0x%" PRIx64 " and %" PRIu64 " bytes wrap past 2^64", space->name,
			gpa, len);
	fresh = gm_sys_alloc(sizeof(*fresh));
	if (!fresh)
		return gm_error_set(err, -ENOMEM, gpa, len, "%s: out of memory", space->name);
	*fresh = (struct gm_inhibition){.range = range, .kind = kind};
	pthread_mutex_lock(&gate->lock);
	at = find(gate, &range, kind);
	if (!*at) {
		*at = fresh;
		fresh = NULL;
	}
	(*at)->count++;
	rc = wait_idle(space);
	if (rc)
		allow(gate, &range, kind);
	pthread_mutex_unlock(&gate->lock);
	gm_sys_free(fresh);
	return explain_wait(space, rc, err);
}

int gm_discard_allow(struct gm_space *space, uint64_t gpa, uint64_t len, uint32_t kind)
{
	struct gm_range range;
	int rc;

	if (!range_of(gpa, len, &range))
		return -ENOENT;
	pthread_mutex_lock(&space->gate.lock);
	rc = allow(&space->gate, &range, kind);
	pthread_mutex_unlock(&space->gate.lock);
	return rc;
}
