/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_push.c - pages that nobody asked for: brought by the caller, or given up by him.
 *
 * A push claims absent pages as a fault does, so what it brings is brought by nobody else, and what a request of the
 * source brings is left to that. Who faults meanwhile leaves the page to the push. Nothing of the caller's is kept: of
 * memory that is copied into, what the kernel does not take now is put back, and those who left it to the push are
 * woken, so that they fault again and are served by what holds then.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "services/pager.h"

/* Pages of a call: dealt with, and of these brought by it. */
struct progress {
	uint64_t done;
	uint64_t put;
};

static int check(const struct pager_area *area, uint64_t off, uint64_t len, bool bytes)
{
	uint64_t all = area ? area->nr * area->page : 0;

	if (!area)
		return -ENOENT;
	if (!area->uffd || area->way == GM_PAGER_PROTECT ||
		(bytes && area->way == GM_PAGER_CONTINUE && !area->file))
		return -ENOTSUP;
	if ((off | len) & (area->page - 1))
		return -EINVAL;
	return off > all || len > all - off ? -ERANGE : 0;
}

/* The next absent pages, of @nr from @first on, are the caller's; @ret->nr 0: there are none. */
static void claim(struct pager_area *area, uint64_t first, uint64_t nr, struct pager_run *ret)
{
	uint64_t left;

	*ret = (struct pager_run){.area = area, .first = first};
	do {
		ret->first += gm_pagestate_find(
			area->states, ret->first, nr - (ret->first - first), GM_PAGE_ABSENT);
		left = nr - (ret->first - first);
		ret->nr = gm_pagestate_claim(
			area->states, ret->first, left, GM_PAGE_ABSENT, GM_PAGE_LOADING);
		/* Somebody else has it; look behind that. */
	} while (left && !ret->nr);
}

/* Absent again. Nobody has parked them, and who waits was left to us. */
static void put_back(const struct pager_run *run)
{
	struct pager_uffd *u = run->area->uffd;
	uint64_t nr;

	gm_pager_unload(run);
	for (uint64_t i = 0; i < run->nr && !u->sigbus; i += nr) {
		uint64_t addr;

		pthread_rwlock_rdlock(&u->lock);
		if (!gm_pager_spot_of(u, run->area, run->first + i, &addr, &nr))
			nr = 1;
		else
			gm_pager_uffd_wake(
				u, addr, (nr < run->nr - i ? nr : run->nr - i) * run->area->page);
		pthread_rwlock_unlock(&u->lock);
	}
}

/* ---- bytes ---- */

/*
 * To the file behind the memory. A write makes pages without filling them with zeros first. Where there is none, of
 * explicit huge pages and of files that may be mapped only, it goes through the second mapping.
 */
static int write_file(const struct pager_run *run, const uint8_t *data)
{
	const struct pager_area *area = run->area;
	uint64_t off = area->fd_off + run->first * area->page;
	uint64_t len = run->nr * area->page;
	uint8_t *to;
	int rc;

	while (len && !area->huge) {
		ssize_t done = gm_sys_pwrite(area->fd, data, len, off);

		if (done == -EFAULT)
			return -EFAULT;
		if (done <= 0 && done != -EINTR)
			break;
		data += done > 0 ? done : 0;
		off += done > 0 ? (uint64_t)done : 0;
		len -= done > 0 ? (uint64_t)done : 0;
	}
	if (!len)
		return 0;
	rc = gm_pager_target(run, NULL, &to);
	if (!rc)
		memcpy(to + (run->nr * area->page - len), data, len);
	return rc;
}

/* What has been written stays in the file, whatever the kernel says: who steps goes on. */
static int push_file(const struct pager_run *run, const uint8_t *data, struct progress *p)
{
	const struct pager_area *area = run->area;
	int rc = write_file(run, data);

	if (rc) {
		/* What got there must not be found there later. */
		gm_sys_fallocate(area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			area->fd_off + run->first * area->page, run->nr * area->page);
		put_back(run);
		return rc;
	}
	p->done += run->nr;
	p->put += gm_pager_filled(run);
	rc = gm_pager_go_on(run);
	if (rc && rc != -ESRCH)
		gm_pager_park(area->uffd->pager, run, 0, rc != -EAGAIN);
	return rc == -ESRCH ? rc : 0;
}

static int push_run(const struct pager_run *run, const uint8_t *data, struct progress *p)
{
	struct pager_run rest = *run;
	uint64_t done;
	uint64_t put;
	int rc;

	if (data && run->area->way == GM_PAGER_CONTINUE)
		return push_file(run, data, p);
	rc = gm_pager_put(run, data ? PAGER_DATA : PAGER_BLANK, data, &done, &put);
	p->done += done;
	p->put += put;
	rest.first += done;
	rest.nr -= done;
	if (rest.nr)
		put_back(&rest);
	return rc;
}

int gm_pager_push(struct gm_pager *pager, uint64_t area, uint64_t off, const void *data,
	uint64_t len, uint64_t *ret_done, uint64_t *ret_installed)
{
	struct pager_area *of = gm_pager_find(pager, area);
	int rc = check(of, off, len, data);
	uint64_t page = of ? of->page : 1;
	uint64_t first = off / page;
	uint64_t nr = len / page;
	struct progress p = {0};

	while (!rc && p.done < nr) {
		struct pager_run run;

		claim(of, first + p.done, nr - p.done, &run);
		p.done = run.first - first;
		if (run.nr)
			rc = push_run(
				&run, data ? (const uint8_t *)data + p.done * page : NULL, &p);
	}
	pager_count(&pager->stats.bytes_pushed, p.put * page);
	if (ret_done)
		*ret_done = p.done * page;
	if (ret_installed)
		*ret_installed = p.put * page;
	return rc;
}

/* ---- none ---- */

int gm_pager_lose(struct gm_pager *pager, uint64_t area, uint64_t off, uint64_t len)
{
	struct pager_area *of = gm_pager_find(pager, area);
	int rc = check(of, off, len, false);
	uint64_t nr = rc ? 0 : len / of->page;
	uint64_t done = 0;

	while (done < nr) {
		struct pager_run run;

		claim(of, off / of->page + done, nr - done, &run);
		if (run.nr)
			gm_pager_poison(&run, -ENODATA);
		done = run.first + run.nr - off / of->page;
	}
	return rc;
}
