/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_install.c - putting bytes into memory: what the kernel answers and what that means, in one place.
 *
 * The lock of the userfaultfd is held from the look at a page's state until it is changed, and events take the same
 * lock alone: what was removed while its bytes were on their way stays removed. Installations share it: of two of the
 * same page one finds it there. Whoever waits for a page that is passed over is woken, faults again and is told what
 * holds by then.
 *
 * answer                          meaning
 * 0                               done
 * -EAGAIN, bytes done             there is a page in the way behind these, or an event came: go on there
 * -EAGAIN, -EAGAIN or untouched   nothing was done: an event is unread (kernels before 6.15 do not touch the field)
 * -EEXIST                         the page is there, and nobody was woken
 * -ENOENT                         no such mapping, or the range spans two
 * -ESRCH, -ENOSPC                 the process is gone
 * -ENOMEM                         for now
 * -EFAULT                         of UFFDIO_CONTINUE: the file has a hole there; else the buffer cannot be read
 */
#include <errno.h>
#include <linux/falloc.h>

#include "services/pager.h"
#include "services/pager_wp.h"
#include "sys/uapi.h"

/* What is installed next. */
struct step {
	struct pager_uffd *u;
	struct pager_area *area;
	enum pager_how how;
	const uint8_t *buf; /* of the first page */
	uint64_t first;
	uint64_t nr;
	uint64_t addr;
	bool put;  /* bytes went there, it is not that there were some */
	bool held; /* somebody wants them before they are written: installed protected */
};

static uint32_t wanted(enum pager_how how)
{
	switch (how) {
	case PAGER_DATA:
		return PAGER_IN(GM_PAGE_LOADING);
	case PAGER_FILE:
		return PAGER_IN(GM_PAGE_FILLED) | PAGER_IN(GM_PAGE_PRESENT) |
		       PAGER_IN(GM_PAGE_REMOVED);
	case PAGER_BLANK:
		return PAGER_IN(GM_PAGE_LOADING);
	case PAGER_ZERO:
		return PAGER_IN(GM_PAGE_PRESENT) | PAGER_IN(GM_PAGE_REMOVED);
	case PAGER_TOXIC:
		break;
	}
	return PAGER_IN(GM_PAGE_POISONED);
}

void gm_pager_uffd_wake(struct pager_uffd *u, uint64_t at, uint64_t len)
{
	struct uffdio_range range = {at, len};

	gm_sys_ioctl(u->fd, UFFDIO_WAKE, &range);
}

/* ---- one call ---- */

static int fill(const struct step *s, enum gm_uffd_fill how, const uint8_t *from, uint64_t nr,
	int64_t *done)
{
	int rc;

	do {
		rc = gm_sys_uffd_fill(
			s->u->fd, how, s->addr, (uintptr_t)from, nr * s->area->page, done);
		/* Interrupted behind some: as if an event had come. */
	} while (rc == -EINTR && *done <= 0);
	return rc == -EINTR ? -EAGAIN : rc;
}

/* UFFDIO_ZEROPAGE cannot protect: a write in between would be missed. */
static int fill_held_zeros(struct step *s, int64_t *done)
{
	uint64_t most = s->u->pager->opts.request_len / s->area->page;

	if (s->nr > most)
		s->nr = most;
	return fill(s, GM_UFFD_COPY_WP, s->u->pager->zeros, s->nr, done);
}

/* Zeros: of explicit huge pages there is no such call. Their files are made to have them, or they are copied. */
static int fill_zeros(struct step *s, int64_t *done)
{
	const struct pager_area *area = s->area;
	int rc = -EINVAL;

	if (!area->huge && s->held)
		return fill_held_zeros(s, done);
	if (!area->huge)
		rc = fill(s, GM_UFFD_ZERO, NULL, s->nr, done);
	if (rc != -EINVAL || *done > 0)
		return rc;
	s->nr = 1;
	if (area->file) {
		rc = gm_sys_madvise(
			area->file + s->first * area->page, area->page, MADV_POPULATE_WRITE);
		return rc ? rc
			  : fill(s, s->held ? GM_UFFD_CONTINUE_WP : GM_UFFD_CONTINUE, NULL, 1,
				    done);
	}
	if (area->page > s->u->pager->opts.request_len)
		return rc;
	return fill(s, s->held ? GM_UFFD_COPY_WP : GM_UFFD_COPY, s->u->pager->zeros, 1, done);
}

/* What cannot be moved (somebody has pinned it, it is not there) is copied; an event is unread for both. */
static int fill_data(const struct step *s, int64_t *done)
{
	int rc;

	/* Nothing is moved in protected. */
	if (s->held)
		return fill(s, GM_UFFD_COPY_WP, s->buf, s->nr, done);
	if (gm_pager_move_fits(s->area, s->addr, s->buf, s->nr)) {
		rc = fill(s, GM_UFFD_MOVE, s->buf, s->nr, done);
		if (rc == 0 || *done > 0 || rc == -EAGAIN || rc == -ESRCH)
			return rc;
		*done = 0;
	}
	return fill(s, GM_UFFD_COPY, s->buf, s->nr, done);
}

/* The same for any sort of bytes; @s->nr is what was asked for. */
static int call(struct step *s, int64_t *done)
{
	*done = 0;
	switch (s->how) {
	case PAGER_DATA:
		return fill_data(s, done);
	case PAGER_FILE:
		return fill(s, s->held ? GM_UFFD_CONTINUE_WP : GM_UFFD_CONTINUE, NULL, s->nr, done);
	case PAGER_BLANK:
	case PAGER_ZERO:
		return fill_zeros(s, done);
	case PAGER_TOXIC:
		break;
	}
	return fill(s, GM_UFFD_POISON, NULL, s->nr, done);
}

/* ---- what it means ---- */

static void settle(const struct step *s, uint64_t nr)
{
	struct gm_pager_stats *stats = &s->u->pager->stats;

	if (s->how != PAGER_TOXIC)
		gm_pagestate_turn(s->area->states, s->first, nr, wanted(s->how), GM_PAGE_PRESENT);
	if (s->how == PAGER_ZERO || s->how == PAGER_BLANK)
		pager_count(&stats->bytes_zero, nr * s->area->page);
}

/* The first page is there, or nothing is mapped for it: nobody was woken. */
static void settle_one(const struct step *s, enum gm_pagestate state)
{
	if (s->how != PAGER_TOXIC)
		gm_pagestate_turn(s->area->states, s->first, 1, wanted(s->how), state);
	gm_pager_uffd_wake(s->u, s->addr, s->area->page);
}

/*
 * Pages settled, 0 with *rc for what the caller has to know. A range that spans two mappings is halved until it does
 * not; of one page -ENOENT is true.
 */
static uint64_t install_some(struct step *s, int *rc)
{
	uint64_t nr = s->nr;
	int64_t done;

	for (;;) {
		int code;

		s->nr = nr;
		code = call(s, &done);
		*rc = 0;
		s->put = code == 0 || done > 0;
		if (code == 0) {
			settle(s, s->nr);
			return s->nr;
		}
		if (done > 0) {
			settle(s, (uint64_t)done / s->area->page);
			return (uint64_t)done / s->area->page;
		}
		if (code == -ENOENT && nr > 1) {
			nr /= 2;
			continue;
		}
		if (code == -EEXIST || code == -ENOENT) {
			settle_one(s, code == -EEXIST ? GM_PAGE_PRESENT : GM_PAGE_LOST);
			return 1;
		}
		if (code == -ENOSPC)
			code = -ESRCH;
		if (code == -ENOMEM)
			code = -EAGAIN;
		if (code == -EFAULT && s->how == PAGER_FILE)
			code = -ENODATA;
		*rc = code;
		return 0;
	}
}

/* What was given back while it was loaded: nobody has seen it, and nobody is to. */
static void drop(const struct step *s)
{
	const struct pager_area *area = s->area;

	if (area->file)
		gm_sys_fallocate(area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			area->fd_off + s->first * area->page, area->page);
	gm_pagestate_change(area->states, s->first, GM_PAGE_DROPPED, GM_PAGE_REMOVED);
	gm_pager_uffd_wake(s->u, s->addr, area->page);
}

static bool is_held(const struct step *s)
{
	struct gm_range range;

	return s->u->is_held && gm_range_make(s->addr, s->nr * s->area->page, &range) &&
	       gm_range_overlaps(&range, &s->u->held);
}

/* With the lock: the pages from s->first on that are alike, s->nr at most. */
static uint64_t install_next(struct step *s, int *rc)
{
	enum gm_pagestate state = gm_pagestate_get(s->area->states, s->first);
	uint64_t there;

	*rc = 0;
	if (!gm_pager_spot_of(s->u, s->area, s->first, &s->addr, &there)) {
		gm_pagestate_turn(s->area->states, s->first, 1, PAGER_ABSENT_STATES, GM_PAGE_LOST);
		return 1;
	}
	if (s->nr > there)
		s->nr = there;
	if (is_held(s)) {
		*rc = -EAGAIN;
		return 0;
	}
	if (state == GM_PAGE_DROPPED && (s->how == PAGER_DATA || s->how == PAGER_BLANK)) {
		drop(s);
		return 1;
	}
	/* An image that is mapped privately has bytes of a page yet that was given back since this was begun. */
	if (!(PAGER_IN(state) & wanted(s->how)) ||
		(s->how == PAGER_FILE && state == GM_PAGE_REMOVED && !s->area->shared)) {
		gm_pager_uffd_wake(s->u, s->addr, s->area->page);
		return 1;
	}
	s->nr = gm_pagestate_run(s->area->states, s->first, s->nr);
	s->nr = gm_pager_wp_alike(s->area, s->first, s->nr, &s->held);
	there = install_some(s, rc);
	/* It was there, has gone without a word, and is zeros now. */
	if (s->held && s->how == PAGER_ZERO && state == GM_PAGE_PRESENT && there && s->put)
		gm_pager_wp_lost(s->area, s->first, there);
	return there;
}

int gm_pager_put(const struct pager_run *run, enum pager_how how, const uint8_t *buf,
	uint64_t *ret_done, uint64_t *ret_put)
{
	struct pager_area *area = run->area;
	uint64_t done = 0;
	uint64_t put = 0;
	uint64_t nr;
	int rc = 0;

	while (done < run->nr && !rc) {
		struct step s = {
			.u = area->uffd,
			.area = area,
			.how = how,
			.buf = buf ? buf + done * area->page : NULL,
			.first = run->first + done,
			.nr = run->nr - done,
		};

		pthread_rwlock_rdlock(&s.u->lock);
		nr = install_next(&s, &rc);
		pthread_rwlock_unlock(&s.u->lock);
		done += nr;
		put += s.put ? nr : 0;
	}
	*ret_done = done;
	*ret_put = put;
	if (how != PAGER_FILE && how != PAGER_ZERO)
		gm_pager_twin_wake(run, done);
	if (rc == -EAGAIN)
		pager_count(&area->uffd->pager->stats.again, 1);
	if (rc == -ESRCH && !__atomic_exchange_n(&area->uffd->dead, 1, __ATOMIC_ACQ_REL))
		gm_pager_tell(area->uffd->pager, GM_PAGER_ENDED, rc, run, 0);
	return rc;
}

int gm_pager_install(
	const struct pager_run *run, enum pager_how how, const uint8_t *buf, uint64_t *ret_done)
{
	uint64_t put;

	return gm_pager_put(run, how, buf, ret_done, &put);
}

/*
 * Pages that are loading, or were dropped meanwhile, become @to, or what they have to be. Returns those that became
 * @to.
 */
static uint64_t end_loading(const struct pager_run *run, enum gm_pagestate to)
{
	struct pager_area *area = run->area;
	struct step s = {.u = area->uffd, .area = area, .nr = 1};
	uint64_t nr = 0;
	uint64_t there;

	pthread_rwlock_rdlock(&s.u->lock);
	for (uint64_t i = 0; i < run->nr; i++) {
		uint64_t n = gm_pagestate_claim(
			area->states, run->first + i, run->nr - i, GM_PAGE_LOADING, to);

		nr += n;
		i += n;
		s.first = run->first + i;
		if (i < run->nr && gm_pagestate_get(area->states, s.first) == GM_PAGE_DROPPED &&
			gm_pager_spot_of(s.u, area, s.first, &s.addr, &there))
			drop(&s);
	}
	pthread_rwlock_unlock(&s.u->lock);
	gm_pager_twin_wake(run, run->nr);
	return nr;
}

uint64_t gm_pager_filled(const struct pager_run *run)
{
	return end_loading(run, GM_PAGE_FILLED);
}

void gm_pager_unload(const struct pager_run *run)
{
	end_loading(run, GM_PAGE_ABSENT);
}

/* What could not be poisoned now is later. */
static void make_toxic(const struct pager_run *run)
{
	struct pager_run rest = *run;
	uint64_t done;

	if (gm_pager_install(run, PAGER_TOXIC, NULL, &done) != -EAGAIN)
		return;
	rest.first += done;
	rest.nr -= done;
	gm_pager_park(run->area->uffd->pager, &rest, 0, false);
}

void gm_pager_poison(const struct pager_run *run, int code)
{
	struct gm_pager *pager = run->area->uffd->pager;
	struct pager_run other = *run;
	uint64_t nr = end_loading(run, GM_PAGE_POISONED);

	make_toxic(run);
	other.area = __atomic_load_n(&run->area->twin, __ATOMIC_SEQ_CST);
	if (other.area)
		make_toxic(&other);
	pager_count(&pager->stats.poisoned, nr);
	if (nr)
		gm_pager_tell(pager, GM_PAGER_POISONED, code, run, 0);
}
