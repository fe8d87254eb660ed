/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_event.c - messages of a userfaultfd: what happened to the memory first, then who waits for it.
 *
 * The kernel hands out faults before events, so all that is there is read before anything is done. A fault that was
 * caused after an event that is still unread is refused by the kernel and tried again.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "services/pager.h"
#include "services/pager_wp.h"
#include "sys/uapi.h"

#define ROUNDS 4

/* ---- given back ---- */

uint64_t gm_pager_removed(struct pager_area *area, uint64_t first, uint64_t nr)
{
	const uint32_t settled = PAGER_IN(GM_PAGE_FILLED) | PAGER_IN(GM_PAGE_PRESENT) |
				 PAGER_IN(GM_PAGE_POISONED) | PAGER_IN(GM_PAGE_LOST);
	uint64_t absent;

	/* What was written to the file and not yet seen may be younger than the hole. */
	for (uint64_t at = 0; area->file && at < nr; at++) {
		at += gm_pagestate_find(area->states, first + at, nr - at, GM_PAGE_FILLED);
		if (at < nr)
			gm_sys_fallocate(area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				area->fd_off + (first + at) * area->page, area->page);
	}
	/* Absent pages first: they are claimed without the lock, and what is claimed until then is dropped. */
	absent = gm_pagestate_turn(
		area->states, first, nr, PAGER_IN(GM_PAGE_ABSENT), GM_PAGE_REMOVED);
	gm_pagestate_turn(area->states, first, nr, settled, GM_PAGE_REMOVED);
	return absent + gm_pagestate_turn(area->states, first, nr, PAGER_IN(GM_PAGE_LOADING),
				GM_PAGE_DROPPED);
}

void gm_pager_tell_dropped(struct pager_area *area, uint64_t first, uint64_t nr)
{
	struct gm_pager *pager = area->uffd->pager;
	struct pager_run run = {.area = area, .first = first, .nr = nr};

	if (pager->opts.flags & GM_PAGER_TELL_DROPPED)
		gm_pager_tell(pager, GM_PAGER_DROPPED, 0, &run, 0);
}

/* What an event has dropped is noted in the spots, as nobody is told with the lock held. */
static void tell_noted(struct pager_uffd *u)
{
	bool more = u->pager->opts.flags & GM_PAGER_TELL_DROPPED;

	for (size_t i = 0; more; i++) {
		struct pager_spot spot = {.nr_dropped = 0};

		pthread_rwlock_wrlock(&u->lock);
		more = i < u->nr_spots;
		if (more) {
			spot = u->spots[i];
			u->spots[i].nr_dropped = 0;
		}
		pthread_rwlock_unlock(&u->lock);
		if (spot.nr_dropped)
			gm_pager_tell_dropped(spot.area, spot.dropped, spot.nr_dropped);
	}
}

/* With the lock: what lies in a range, stretch by stretch. */
static void each_part(struct pager_uffd *u, uint64_t start, uint64_t len,
	void (*fn)(struct pager_spot *spot, uint64_t first, uint64_t nr))
{
	struct gm_range range;

	if (len == 0 || !gm_range_make(start, len, &range))
		return;
	for (size_t i = 0; i < u->nr_spots; i++) {
		struct pager_spot *spot = &u->spots[i];
		struct gm_range part = {
			spot->start, spot->start + (spot->nr * spot->area->page - 1)};
		uint64_t page = spot->area->page;

		if (gm_range_intersect(&part, &range, &part))
			fn(spot, spot->first + (part.first - spot->start) / page,
				(part.last - spot->start) / page -
					(part.first - spot->start) / page + 1);
	}
}

static void on_remove(struct pager_spot *spot, uint64_t first, uint64_t nr)
{
	struct pager_area *area = spot->area;

	gm_pager_wp_lost(area, first, nr);
	/* Of shared memory it may be page-table entries only: the file keeps its bytes. */
	if (area->shared && !(area->flags & GM_PAGER_REMOVED_ZERO))
		return;
	if (gm_pager_removed(area, first, nr)) {
		spot->dropped = first;
		spot->nr_dropped = nr;
	}
}

static void on_unmap(struct pager_spot *spot, uint64_t first, uint64_t nr)
{
	struct pager_area *area = spot->area;

	gm_pager_wp_lost(area, first, nr);
	gm_pagestate_turn(area->states, first, nr,
		PAGER_IN(GM_PAGE_ABSENT) | PAGER_IN(GM_PAGE_FILLED), GM_PAGE_LOST);
}

/* ---- forked ---- */

/* What the child has: the same bytes from the same sources. What was on its way did not arrive there. */
static struct pager_area *copy_area(struct pager_area *from, struct pager_uffd *child)
{
	struct pager_area *area;

	/* Its states would have to be one for both, as the file is: else what one has written is filled again. */
	if (from->file)
		return NULL;
	area = gm_sys_alloc(sizeof(*area));
	if (!area)
		return NULL;
	*area = *from;
	area->record = from->record ? gm_wset_recorder_get(from->record) : NULL;
	area->uffd = child;
	area->borrowed = true;
	area->flags &= ~GM_PAGER_STATES;
	area->states = NULL;
	area->taker = NULL;
	area->taking = 0;
	area->extent.len = 0;
	if (gm_pager_states_map(area, -1, 0, NULL)) {
		gm_wset_recorder_destroy(area->record);
		gm_sys_free(area);
		return NULL;
	}
	memcpy(area->states, from->states, gm_pagestate_words(area->nr) * 8);
	gm_pagestate_turn(area->states, 0, area->nr,
		PAGER_IN(GM_PAGE_LOADING) | PAGER_IN(GM_PAGE_FILLED), GM_PAGE_ABSENT);
	gm_pagestate_turn(area->states, 0, area->nr, PAGER_IN(GM_PAGE_DROPPED), GM_PAGE_REMOVED);
	gm_pager_area_publish(child->pager, area);
	return area;
}

static int copy_spots(struct pager_uffd *parent, struct pager_uffd *child)
{
	for (size_t i = 0; i < parent->nr_spots; i++) {
		struct pager_spot spot = parent->spots[i];
		struct pager_area *area = NULL;

		for (size_t j = 0; j < i && !area; j++) {
			if (parent->spots[j].area == spot.area)
				area = child->spots[j].area;
		}
		spot.area = area ? area : copy_area(spot.area, child);
		if (!spot.area || gm_pager_spot_add(child, &spot))
			return -ENOMEM;
	}
	return 0;
}

/* It cannot be followed: nobody there reads zeros. */
static void poison_child(struct pager_uffd *parent, int fd)
{
	for (size_t i = 0; i < parent->nr_spots; i++) {
		const struct pager_spot *spot = &parent->spots[i];
		int64_t done;

		for (uint64_t page = 0; page < spot->nr; page++)
			gm_sys_uffd_fill(fd, GM_UFFD_POISON, spot->start + page * spot->area->page,
				0, spot->area->page, &done);
	}
}

static void on_fork(struct pager_uffd *parent, int fd)
{
	struct pager_uffd *child = NULL;
	int rc = gm_pager_uffd_adopt(parent->pager, fd, &child, NULL);

	pthread_rwlock_wrlock(&parent->lock);
	if (!rc)
		rc = copy_spots(parent, child);
	if (rc)
		poison_child(parent, fd);
	pthread_rwlock_unlock(&parent->lock);
	if (!child)
		gm_sys_close(fd);
	if (rc)
		gm_pager_tell(parent->pager, GM_PAGER_STRAY, rc, NULL, 0);
}

/* ---- messages ---- */

static bool apply(struct pager_uffd *u, const struct uffd_msg *msg)
{
	uint64_t start = msg->arg.remove.start;
	uint64_t len = msg->arg.remove.end - start;

	if (msg->event == UFFD_EVENT_PAGEFAULT)
		return false;
	pager_count(&u->pager->stats.events, 1);
	if (msg->event == UFFD_EVENT_FORK) {
		on_fork(u, (int)msg->arg.fork.ufd);
		return true;
	}
	pthread_rwlock_wrlock(&u->lock);
	switch (msg->event) {
	case UFFD_EVENT_REMOVE:
		each_part(u, start, len, on_remove);
		break;
	case UFFD_EVENT_UNMAP:
		each_part(u, start, len, on_unmap);
		gm_pager_spot_cut(u, start, len);
		break;
	case UFFD_EVENT_REMAP:
		gm_pager_spot_move(u, msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len);
		break;
	default:
		break;
	}
	pthread_rwlock_unlock(&u->lock);
	if (msg->event == UFFD_EVENT_REMOVE)
		tell_noted(u);
	return true;
}

/* A page that nobody knows: its bytes are lost, and that is said. */
static void stray(struct pager_uffd *u, uint64_t addr)
{
	uint64_t page = gm_sys_page_size();
	int64_t done;

	pager_count(&u->pager->stats.stray, 1);
	gm_sys_uffd_fill(u->fd, GM_UFFD_POISON, addr & ~(page - 1), 0, page, &done);
	gm_pager_uffd_wake(u, addr & ~(page - 1), page);
	gm_pager_tell(u->pager, GM_PAGER_STRAY, -ENOENT, NULL, addr);
}

bool gm_pager_want(struct pager_uffd *u, uint64_t addr, struct pager_run *ret)
{
	struct pager_spot *spot;

	pthread_rwlock_rdlock(&u->lock);
	spot = gm_pager_spot_at(u, addr);
	if (spot) {
		ret->area = spot->area;
		ret->first = spot->first + (addr - spot->start) / spot->area->page;
		ret->nr = 1;
	}
	pthread_rwlock_unlock(&u->lock);
	return spot;
}

static void on_fault(struct pager_uffd *u, const struct uffd_msg *msg, uint64_t now)
{
	struct gm_pager *pager = u->pager;
	struct pager_run run = {.since = now};
	int rc;

	/* What others protect is theirs. */
	run.write = msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP;
	if (run.write && !u->wp)
		return;
	pager_count(&pager->stats.faults, 1);
	pager->step_len = PAGER_STEP_LEN;
	if (!gm_pager_want(u, msg->arg.pagefault.address, &run)) {
		stray(u, msg->arg.pagefault.address);
		return;
	}
	if (!run.write)
		gm_pager_note(&run, msg->arg.pagefault.address);
	rc = gm_pager_serve(&run, pager->bufs, true, false);
	if (rc == -EAGAIN)
		gm_pager_park(pager, &run, 0, false);
}

/* Applied, and then forgotten: in this order for whoever takes over. */
static void settle(struct pager_uffd *u, struct uffd_msg *msg)
{
	if (apply(u, msg))
		__atomic_store_n(&msg->event, 0, __ATOMIC_RELEASE);
}

void gm_pager_replay(struct gm_pager *pager)
{
	struct pager_journal *journal = pager->journal;
	struct pager_uffd *u = __atomic_load_n(&pager->uffds, __ATOMIC_ACQUIRE);

	while (u && u->id != journal->uffd)
		u = u->next;
	for (size_t i = 0; u && i < PAGER_MSGS; i++) {
		struct uffd_msg *msg = &journal->msgs[i];

		/* The descriptor of a child was the other process's. */
		if (msg->event && msg->event != UFFD_EVENT_FORK)
			settle(u, msg);
	}
}

int gm_pager_drain(struct pager_uffd *u)
{
	struct gm_pager *pager = u->pager;
	struct uffd_msg *msgs = pager->journal->msgs;
	int faults = 0;

	__atomic_store_n(&pager->journal->uffd, u->id, __ATOMIC_RELEASE);

	for (int round = 0; round < ROUNDS; round++) {
		ssize_t got = gm_sys_read(u->fd, msgs, PAGER_MSGS * sizeof(msgs[0]));
		size_t nr = got > 0 ? (size_t)got / sizeof(msgs[0]) : 0;
		uint64_t now;

		if (got == -EINTR)
			continue;
		if (got == -EAGAIN || got == 0)
			break;
		if (got < 0)
			return (int)got;
		now = gm_sys_now_ns();
		pager->now = now;
		for (size_t i = 0; i < nr; i++)
			settle(u, &msgs[i]);
		for (size_t i = 0; i < nr; i++) {
			if (msgs[i].event == UFFD_EVENT_PAGEFAULT) {
				on_fault(u, &msgs[i], now);
				pager->burst = u;
				faults++;
			}
		}
		if (nr < PAGER_MSGS)
			break;
	}
	return faults;
}
