/* SPDX-License-Identifier: BSD-3-Clause */
/* pager_end.c - resolving in the faulting thread, what is to be brought ahead, and the end. */
#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "core/error.h"
#include "services/pager.h"
#include "services/pager_wp.h"

#define WAIT_NS 20000u
#define WAITS 50000u /* a second */

/* ---- in the thread that faulted ---- */

static bool is_settled(const struct pager_run *run, int *rc)
{
	switch (gm_pagestate_get(run->area->states, run->first)) {
	case GM_PAGE_PRESENT:
		*rc = 0;
		return true;
	case GM_PAGE_POISONED:
		*rc = -EIO;
		return true;
	case GM_PAGE_REMOVED:
		/* Touched again it faults again, and gets zeros. */
		*rc = -EAGAIN;
		return true;
	default:
		return false;
	}
}

/*
 * Somebody else brings it, or only who steps can. It may be put back meanwhile (gm_pager_push()): then it is asked for
 * again, or touched again.
 */
static int await(struct gm_pager *pager, const struct pager_run *run, bool ask)
{
	bool loading = !ask;
	int rc = -EAGAIN;

	if (ask)
		gm_pager_park(pager, run, 0, false);
	for (unsigned int i = 0; i < WAITS && !is_settled(run, &rc); i++) {
		enum gm_pagestate state = gm_pagestate_get(run->area->states, run->first);

		if (loading && state == GM_PAGE_ABSENT) {
			if (!ask)
				return -EAGAIN;
			gm_pager_park(pager, run, 0, false);
		}
		loading = state == GM_PAGE_LOADING;
		gm_sys_sleep_ns(WAIT_NS);
	}
	return rc;
}

/* What came for the second mapping is in the file, and not yet in this one. */
static int go_on(const struct pager_run *run, int rc)
{
	bool twin = __atomic_load_n(&run->area->twin, __ATOMIC_SEQ_CST);

	return rc == 0 && twin ? gm_pager_serve(run, NULL, false, true) : rc;
}

int gm_pager_resolve_page(struct gm_pager *pager, const struct pager_run *run)
{
	const struct pager_area *area = run->area;
	enum gm_pagestate state = gm_pagestate_get(area->states, run->first);
	bool absent = state == GM_PAGE_ABSENT || state == GM_PAGE_LOST;
	/* What is written to a file needs no buffer. */
	bool buffer = absent && area->source && area->way != GM_PAGER_CONTINUE;
	int rc;

	if (absent && area->source && area->source->fd >= 0)
		return go_on(run, await(pager, run, true));
	if (buffer)
		pthread_mutex_lock(&pager->resolving);
	rc = gm_pager_serve(run, pager->bufs + pager->opts.request_len, false, true);
	if (buffer)
		pthread_mutex_unlock(&pager->resolving);
	return rc == -EINPROGRESS ? go_on(run, await(pager, run, false)) : rc;
}

/* Who takes the page first may need a while. */
static int resolve_write(const struct pager_run *run)
{
	int rc = gm_pager_wp_serve(run);

	if (rc == -EINPROGRESS)
		gm_sys_sleep_ns(WAIT_NS);
	return rc == -EINPROGRESS ? -EAGAIN : rc;
}

int gm_pager_resolve(struct gm_pager *pager, const void *addr)
{
	int rc;

	for (struct pager_uffd *u = __atomic_load_n(&pager->uffds, __ATOMIC_ACQUIRE); u;
		u = u->next) {
		struct pager_run run = {.write = false};

		if (!u->local || !gm_pager_want(u, (uintptr_t)addr, &run))
			continue;
		pager_count(&pager->stats.faults, 1);
		run.since = gm_sys_now_ns();
		gm_pager_note(&run, (uintptr_t)addr);
		rc = run.area->way == GM_PAGER_PROTECT ? 0 : gm_pager_resolve_page(pager, &run);
		/* It may be there, and protected. */
		run.write = __atomic_load_n(&run.area->wp, __ATOMIC_ACQUIRE);
		return rc || !run.write ? rc : resolve_write(&run);
	}
	return -ENOENT;
}

/* ---- ahead ---- */

int gm_pager_prefetch(struct gm_pager *pager, uint64_t area, uint64_t off, uint64_t len)
{
	struct pager_area *of = gm_pager_find(pager, area);
	uint64_t all = of ? of->nr * of->page : 0;
	uint64_t last;
	int rc = 0;

	if (!of)
		return -ENOENT;
	if (off > all || len > all - off)
		return -ERANGE;
	if (len == 0 || !of->uffd)
		return of->uffd || len == 0 ? 0 : gm_pager_map_advise(of, off, len, MADV_WILLNEED);
	last = (off + (len - 1)) / of->page;
	pthread_mutex_lock(&pager->lock);
	if (pager->nr_ahead == pager->opts.ranges)
		rc = -ENOSPC;
	else
		pager->ahead[(pager->ahead_first + pager->nr_ahead++) % pager->opts.ranges] =
			(struct pager_ahead){of, off / of->page, last - off / of->page + 1};
	if (!rc && pager->fill == GM_PAGER_FILL_NONE)
		pager->fill = GM_PAGER_FILL_RANGES;
	pthread_mutex_unlock(&pager->lock);
	if (!rc)
		gm_pager_kick(pager);
	return rc;
}

int gm_pager_fill(struct gm_pager *pager, uint32_t what, uint64_t rate)
{
	if (what > GM_PAGER_FILL_ALL)
		return -EINVAL;
	pthread_mutex_lock(&pager->lock);
	pager->fill = what;
	pager->rate = rate;
	pthread_mutex_unlock(&pager->lock);
	gm_pager_kick(pager);
	return 0;
}

/* ---- the end ---- */

static bool is_dead(const struct pager_uffd *u)
{
	return __atomic_load_n(&u->dead, __ATOMIC_ACQUIRE);
}

/* Absent pages of all areas are claimed and poisoned, a word of states at a time. */
static void poison_all(struct gm_pager *pager)
{
	for (struct pager_area *area = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE); area;
		area = area->next) {
		for (uint64_t at = 0; area->uffd && !is_dead(area->uffd) && at < area->nr;) {
			struct pager_run run = {.area = area, .first = at};

			run.first +=
				gm_pagestate_find(area->states, at, area->nr - at, GM_PAGE_ABSENT);
			if (run.first >= area->nr)
				break;
			run.nr = gm_pagestate_claim(area->states, run.first, area->nr - run.first,
				GM_PAGE_ABSENT, GM_PAGE_LOADING);
			if (run.nr)
				gm_pager_poison(&run, -ECANCELED);
			at = run.first + (run.nr ? run.nr : 1);
		}
	}
}

/*
 * Of a private mapping of a file, what was given back would be the file's again without a userfaultfd: zeros are put
 * there. -EAGAIN: not now.
 */
static int zero_removed(struct gm_pager *pager)
{
	for (struct pager_area *area = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE); area;
		area = area->next) {
		bool clone = area->uffd && area->way == GM_PAGER_CONTINUE && !area->shared;
		uint64_t installed;
		uint64_t done;

		for (uint64_t at = 0; clone && at < area->nr && !is_dead(area->uffd); at += done) {
			struct pager_run run = {.area = area, .first = at};
			int rc;

			done = gm_pagestate_find(area->states, at, area->nr - at, GM_PAGE_REMOVED);
			run.first += done;
			if (run.first == area->nr)
				break;
			run.nr = gm_pagestate_run(area->states, run.first, area->nr - run.first);
			rc = gm_pager_install(&run, PAGER_ZERO, NULL, &installed);
			if (rc)
				return rc == -ESRCH ? 0 : rc;
			done += run.nr;
		}
	}
	return 0;
}

/* Memory becomes ordinary memory: what was given back is zeros by itself, poison stays. Who waits goes on. */
static void unregister(struct pager_uffd *u)
{
	pthread_rwlock_wrlock(&u->lock);
	for (size_t i = 0; i < u->nr_spots && !is_dead(u); i++) {
		struct uffdio_range range = {
			u->spots[i].start, u->spots[i].nr * u->spots[i].area->page};

		gm_sys_ioctl(u->fd, UFFDIO_UNREGISTER, &range);
		/*
		 * The kernel wakes who waits before it takes the registration away; with a lock for each mapping a
		 * fault may begin to wait in between.
		 */
		gm_pager_uffd_wake(u, range.start, range.len);
	}
	pthread_rwlock_unlock(&u->lock);
}

static bool is_quiet(struct gm_pager *pager)
{
	bool quiet;

	pthread_mutex_lock(&pager->lock);
	quiet = pager->nr_parked == 0;
	pthread_mutex_unlock(&pager->lock);
	return quiet && pager->under_way == 0 && gm_pager_absent(pager, NULL) == 0;
}

static int finish(struct gm_pager *pager, uint32_t how, int timeout_ms, struct gm_error *err)
{
	uint64_t until = gm_sys_now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;
	int rc = 0;

	for (struct pager_area *area = pager->areas; area; area = area->next)
		area->cursor = 0;
	gm_pager_fill(pager, how == GM_PAGER_COMPLETE ? GM_PAGER_FILL_ALL : GM_PAGER_FILL_NONE, 0);
	if (how == GM_PAGER_POISON)
		poison_all(pager);
	while (rc >= 0 && (!is_quiet(pager) || zero_removed(pager) == -EAGAIN)) {
		if (timeout_ms >= 0 && gm_sys_now_ns() >= until)
			return gm_error_set(err, -ETIMEDOUT, 0, 0,
				"pager: 0x%" PRIx64 " bytes are absent yet",
				gm_pager_absent(pager, NULL));
		rc = gm_pager_step(pager, 1);
		if (how == GM_PAGER_POISON)
			poison_all(pager);
		for (struct pager_area *area = pager->areas; area && !pager->filling;
			area = area->next)
			area->cursor = 0;
	}
	if (rc < 0)
		return gm_error_set(
			err, rc, 0, 0, "pager: it cannot be stepped: %s", gm_error_word(rc));
	return 0;
}

int gm_pager_stop(struct gm_pager *pager, uint32_t how, int timeout_ms, struct gm_error *err)
{
	int rc = 0;

	if (how > GM_PAGER_HANDOVER)
		return gm_error_set(err, -EINVAL, 0, 0, "pager: there is no end %u", how);
	for (struct pager_area *area = pager->areas; area; area = area->next) {
		if (gm_pager_wp_taker(area))
			return gm_error_set(err, -EBUSY, area->gpa, 0,
				"pager: memory at gpa 0x%" PRIx64 " is being saved", area->gpa);
	}
	if (how != GM_PAGER_HANDOVER)
		rc = finish(pager, how, timeout_ms, err);
	if (rc)
		return rc;
	for (struct pager_uffd *u = pager->uffds; u && how != GM_PAGER_HANDOVER; u = u->next)
		unregister(u);
	pager->stopped = true;
	return 0;
}
