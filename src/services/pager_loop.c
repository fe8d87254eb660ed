/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_loop.c - one turn: what the kernel reports, what sources have, what is to be tried again, then a bounded step
 * of filling ahead, if nobody waits.
 *
 * The eventfd stays readable while there is something to fill, so that an outer loop comes back.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>

#include "services/pager.h"

#define READY 64
#define LOOK_EVERY 20000000u /* ns between counts of what is absent, at least */
#define RETRY_MOST 100000000u
#define TOKENS_EVERY 10000000u

/* ---- to be tried again ---- */

/* With the lock: the timer strikes then, or before. */
static void arm(struct gm_pager *pager, uint64_t wait)
{
	uint64_t now = gm_sys_now_ns();

	if (pager->timer_at && pager->timer_at - now <= wait)
		return;
	pager->timer_at = gm_sys_timer_set(pager->timer, wait) ? 0 : now + wait;
}

void gm_pager_park(struct gm_pager *pager, const struct pager_run *run, uint32_t tries, bool single)
{
	uint64_t wait = (uint64_t)pager->opts.retry_ns << (tries < 10 ? tries : 10);
	struct pager_parked *free = NULL;
	bool known = false;

	pager_count(&pager->stats.parked, 1);
	pthread_mutex_lock(&pager->lock);
	for (uint32_t i = 0; i < pager->nr_parked && !known; i++)
		known = pager->parked[i].run.area == run->area &&
			pager->parked[i].run.first == run->first &&
			pager->parked[i].run.write == run->write &&
			pager->parked[i].run.nr >= run->nr;
	if (!known && pager->nr_parked < pager->opts.parked)
		free = &pager->parked[pager->nr_parked++];
	if (free)
		*free = (struct pager_parked){.run = *run, .tries = tries, .single = single};
	else if (!known)
		run->area->uffd->rewake = true;
	arm(pager, wait < RETRY_MOST ? wait : RETRY_MOST);
	pthread_mutex_unlock(&pager->lock);
}

static bool take_parked(struct gm_pager *pager, struct pager_parked *ret)
{
	bool any;

	pthread_mutex_lock(&pager->lock);
	any = pager->nr_parked > 0;
	if (any) {
		*ret = pager->parked[0];
		pager->parked[0] = pager->parked[--pager->nr_parked];
	}
	pthread_mutex_unlock(&pager->lock);
	return any;
}

static void retry_one(struct gm_pager *pager, struct pager_parked *item)
{
	while (item->run.nr > 0) {
		struct pager_run one = item->run;
		int rc = 0;

		one.nr = 1;
		/* Who waited for a page that is there was woken when it came. */
		if (gm_pagestate_get(one.area->states, one.first) != GM_PAGE_PRESENT ||
			item->run.nr == 1)
			rc = gm_pager_serve(&one, pager->bufs, true, item->single);
		if (rc == -EAGAIN) {
			if (item->tries + 1 == pager->opts.stuck_after)
				gm_pager_tell(pager, GM_PAGER_STUCK, rc, &item->run, 0);
			gm_pager_park(pager, &item->run, item->tries + 1, item->single);
			return;
		}
		item->run.first++;
		item->run.nr--;
	}
}

/* More were refused than are remembered: whoever waits is reported again. */
static void wake_all(struct pager_uffd *u)
{
	pthread_rwlock_rdlock(&u->lock);
	for (size_t i = 0; i < u->nr_spots; i++)
		gm_pager_uffd_wake(u, u->spots[i].start, u->spots[i].nr * u->spots[i].area->page);
	pthread_rwlock_unlock(&u->lock);
}

static void retry(struct gm_pager *pager)
{
	struct pager_parked item;
	uint64_t expired;
	uint32_t nr;

	(void)!gm_sys_read(pager->timer, &expired, sizeof(expired));
	pthread_mutex_lock(&pager->lock);
	pager->timer_at = 0;
	nr = pager->nr_parked;
	pthread_mutex_unlock(&pager->lock);
	pager->look_armed = false;
	while (nr-- > 0 && take_parked(pager, &item))
		retry_one(pager, &item);
	for (struct pager_uffd *u = __atomic_load_n(&pager->uffds, __ATOMIC_ACQUIRE); u;
		u = u->next) {
		bool rewake;

		pthread_mutex_lock(&pager->lock);
		rewake = u->rewake;
		u->rewake = false;
		pthread_mutex_unlock(&pager->lock);
		if (rewake)
			wake_all(u);
	}
}

/* ---- filling ahead ---- */

static bool next_range(struct gm_pager *pager, struct pager_ahead *ret)
{
	struct pager_ahead *item;
	bool found = false;

	pthread_mutex_lock(&pager->lock);
	while (pager->fill != GM_PAGER_FILL_NONE && pager->nr_ahead > 0 && !found) {
		item = &pager->ahead[pager->ahead_first];
		found = item->nr > 0;
		if (found) {
			*ret = *item;
			continue;
		}
		pager->ahead_first = (pager->ahead_first + 1) % pager->opts.ranges;
		pager->nr_ahead--;
	}
	pthread_mutex_unlock(&pager->lock);
	return found;
}

static void passed(struct gm_pager *pager, uint64_t nr)
{
	struct pager_ahead *item = &pager->ahead[pager->ahead_first];

	pthread_mutex_lock(&pager->lock);
	item->first += nr < item->nr ? nr : item->nr;
	item->nr -= nr < item->nr ? nr : item->nr;
	pthread_mutex_unlock(&pager->lock);
}

/* The next absent pages of all, in the order of the areas. */
static bool next_of_all(struct gm_pager *pager, struct pager_ahead *ret)
{
	bool all;

	pthread_mutex_lock(&pager->lock);
	all = pager->fill == GM_PAGER_FILL_ALL;
	pthread_mutex_unlock(&pager->lock);
	for (struct pager_area *area = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE);
		all && area; area = area->next) {
		uint64_t left = area->nr - area->cursor;

		if (!area->uffd || left == 0 ||
			__atomic_load_n(&area->uffd->dead, __ATOMIC_ACQUIRE))
			continue;
		area->cursor += gm_pagestate_find(area->states, area->cursor, left, GM_PAGE_ABSENT);
		if (area->cursor < area->nr) {
			*ret = (struct pager_ahead){area, area->cursor, area->nr - area->cursor};
			return true;
		}
	}
	/* Nothing may happen for long: when all was there is noted now. */
	if (all)
		pager->look_at = 0;
	return false;
}

/*
 * Bytes that the rate allows now: what was not used of a tenth of a second, a page or a step at least, may be used
 * later.
 */
static uint64_t allowed(struct gm_pager *pager, uint64_t page)
{
	uint64_t now;
	uint64_t rate;
	uint64_t most;

	pthread_mutex_lock(&pager->lock);
	rate = pager->rate;
	pthread_mutex_unlock(&pager->lock);
	if (!rate)
		return UINT64_MAX;
	now = gm_sys_now_ns();
	if (pager->tokens_at)
		pager->tokens +=
			(uint64_t)((__uint128_t)(now - pager->tokens_at) * rate / 1000000000u);
	pager->tokens_at = now;
	most = rate / 10 > PAGER_STEP_LEN ? rate / 10 : PAGER_STEP_LEN;
	most = most > page ? most : page;
	if (pager->tokens > most)
		pager->tokens = most;
	return pager->tokens;
}

static void wait_for_tokens(struct gm_pager *pager)
{
	pthread_mutex_lock(&pager->lock);
	arm(pager, TOKENS_EVERY);
	pthread_mutex_unlock(&pager->lock);
}

static uint64_t skip_there(const struct pager_ahead *range)
{
	return gm_pagestate_find(range->area->states, range->first, range->nr, GM_PAGE_ABSENT);
}

/* Bytes of the next step; 0: the rate does not allow a page now. */
static uint64_t step_room(struct gm_pager *pager, uint64_t page)
{
	uint64_t room = allowed(pager, page);

	if (room < page) {
		wait_for_tokens(pager);
		return 0;
	}
	if (room > pager->step_len)
		room = pager->step_len;
	return room > page ? room : page;
}

static void stepped(struct gm_pager *pager, uint64_t bytes)
{
	if (pager->step_len < pager->opts.request_len)
		pager->step_len += PAGER_STEP_LEN;
	if (pager->rate)
		pager->tokens -= bytes < pager->tokens ? bytes : pager->tokens;
}

static bool fill_planned(struct gm_pager *pager, uint64_t page)
{
	uint64_t room = step_room(pager, page);
	int64_t done = room ? gm_pager_plan_step(pager, room) : -EAGAIN;

	if (done > 0)
		stepped(pager, (uint64_t)done);
	return done >= 0;
}

/* A step. False: there is nothing to fill, or not now. */
static bool fill_some(struct gm_pager *pager)
{
	struct pager_ahead range;
	bool listed = next_range(pager, &range);
	uint64_t planned = listed ? 0 : gm_pager_plan_page(pager);
	struct pager_run run;
	uint64_t room;
	int64_t done;

	if (planned)
		return fill_planned(pager, planned);
	if (!listed && !next_of_all(pager, &range))
		return false;
	if (listed && skip_there(&range) > 0) {
		passed(pager, skip_there(&range));
		return true;
	}
	room = step_room(pager, range.area->page);
	if (!room)
		return false;
	run = (struct pager_run){
		.area = range.area, .first = range.first, .nr = room / range.area->page};
	if (run.nr > range.nr)
		run.nr = range.nr;
	if (range.area->way == GM_PAGER_MOVE)
		run.nr = gm_pager_move_step(
			range.area, range.first, pager->rate ? run.nr : range.nr, run.nr);
	done = gm_pager_bring(&run, pager->bufs);
	/* Of a process that is gone nothing is brought any more. */
	if (done == -ESRCH && listed)
		passed(pager, range.nr);
	if (done <= 0)
		return done == -ESRCH;
	stepped(pager, (uint64_t)done * range.area->page);
	if (listed)
		passed(pager, (uint64_t)done);
	return true;
}

/* ---- figures ---- */

static void look_at_rest(struct gm_pager *pager, uint64_t now)
{
	struct gm_pager_stats *stats = &pager->stats;
	uint64_t all;
	uint64_t absent;

	if (__atomic_load_n(&stats->all_ns, __ATOMIC_RELAXED))
		return;
	if (now < pager->look_at) {
		/* This turn may have brought the last page, and nothing may happen for long. */
		if (!pager->look_armed) {
			pthread_mutex_lock(&pager->lock);
			arm(pager, pager->look_at - now);
			pthread_mutex_unlock(&pager->lock);
			pager->look_armed = true;
		}
		return;
	}
	absent = gm_pager_absent(pager, &all);
	if (!all)
		return;
	if (!stats->half_ns && absent <= all / 2)
		__atomic_store_n(&stats->half_ns, now - pager->begun, __ATOMIC_RELAXED);
	if (!stats->most_ns && absent <= all / 10)
		__atomic_store_n(&stats->most_ns, now - pager->begun, __ATOMIC_RELAXED);
	if (absent == 0)
		__atomic_store_n(&stats->all_ns, now - pager->begun, __ATOMIC_RELAXED);
	/* Counting costs little beside the time between. */
	pager->look_at = now + LOOK_EVERY + 50 * (gm_sys_now_ns() - now);
}

/* Who fills does so as soon as it is stepped; else nobody is in a hurry to know whether that was the last page. */
void gm_pager_go_on_filling(struct gm_pager *pager)
{
	bool fills;

	pthread_mutex_lock(&pager->lock);
	fills = pager->fill != GM_PAGER_FILL_NONE;
	if (!fills && !pager->look_armed) {
		arm(pager, LOOK_EVERY);
		pager->look_armed = true;
	}
	pthread_mutex_unlock(&pager->lock);
	if (fills)
		gm_pager_kick(pager);
}

/* ---- a turn ---- */

static int ready(struct gm_pager *pager, const struct epoll_event *event)
{
	struct pager_uffd *u = event->data.ptr;

	if (*(enum pager_kind *)event->data.ptr != PAGER_UFFD)
		pager->filling = true;
	switch (*(enum pager_kind *)event->data.ptr) {
	case PAGER_KICK:
		return 0;
	case PAGER_TIMER:
		retry(pager);
		return 0;
	case PAGER_SOURCE:
		/* What ended it has been told to each request. */
		gm_source_step(((struct pager_source *)event->data.ptr)->source);
		return 0;
	case PAGER_UFFD:
		break;
	}
	/* Its owner has made it blocking. */
	if (event->events & EPOLLERR)
		gm_sys_set_nonblock(u->fd);
	return (event->events & EPOLLIN) ? gm_pager_drain(u) : 0;
}

/* Events of userfaultfds come before what is tried again. */
static int turn(struct gm_pager *pager, int timeout_ms)
{
	struct epoll_event events[READY];
	int faults = 0;
	int nr = gm_sys_epoll_wait(pager->epoll, events, READY, timeout_ms);

	if (nr < 0)
		return nr == -EINTR ? 0 : nr;
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < nr; i++) {
			bool uffd = *(enum pager_kind *)events[i].data.ptr == PAGER_UFFD;
			int rc = uffd == (pass == 0) ? ready(pager, &events[i]) : 0;

			if (rc < 0)
				return rc;
			faults += rc;
		}
	}
	return faults;
}

/* While there is something to fill the eventfd is left as it is: readable. */
static void fill_step(struct gm_pager *pager)
{
	uint64_t count;

	if (!pager->filling)
		return;
	pager->filling = fill_some(pager);
	if (pager->filling)
		return;
	(void)!gm_sys_read(pager->kick, &count, sizeof(count));
	/* What came in between. */
	pager->filling = fill_some(pager);
	if (pager->filling)
		gm_pager_kick(pager);
}

static int timeout_of(const struct gm_pager *pager, int timeout_ms)
{
	bool now = pager->filling || pager->burst || pager->opts.wait == GM_PAGER_WAIT_BUSY;

	return now ? 0 : timeout_ms;
}

int gm_pager_step(struct gm_pager *pager, int timeout_ms)
{
	int rc;

	if (__atomic_exchange_n(&pager->stepping, 1, __ATOMIC_ACQUIRE))
		return -EBUSY;
	if (!pager->begun) {
		pager->begun = gm_sys_now_ns();
		gm_pager_replay(pager);
	}
	rc = timeout_ms ? gm_pager_spin(pager) : 0;
	if (rc == 0)
		rc = turn(pager, timeout_of(pager, timeout_ms));
	/* Who waits comes first. */
	if (rc == 0)
		fill_step(pager);
	/* After a fault the clock was read already. */
	look_at_rest(pager, rc > 0 ? pager->now : gm_sys_now_ns());
	__atomic_store_n(&pager->stepping, 0, __ATOMIC_RELEASE);
	return rc;
}

int gm_pager_run(struct gm_pager *pager)
{
	while (!__atomic_load_n(&pager->quit, __ATOMIC_ACQUIRE)) {
		int rc = gm_pager_step(pager, -1);

		if (rc < 0)
			return rc;
	}
	__atomic_store_n(&pager->quit, 0, __ATOMIC_RELEASE);
	return 0;
}

void gm_pager_quit(struct gm_pager *pager)
{
	__atomic_store_n(&pager->quit, 1, __ATOMIC_RELEASE);
	gm_pager_kick(pager);
}

int gm_pager_fd(const struct gm_pager *pager)
{
	return pager->epoll;
}
