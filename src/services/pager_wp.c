/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_wp.c - write protection of areas, for one who wants pages as they are before they are written.
 *
 * What is there is protected by one call for a range; what comes later is installed protected, in one step, as long as
 * the taker holds the page. Between the two is the userfaultfd's lock: no page is installed while it is decided.
 */
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "services/pager_wp.h"
#include "sys/uapi.h"

#define WAIT_NS 20000u

static uint64_t addr_of(const struct pager_area *area, uint64_t page)
{
	/* Memory of a space: it does not move while it is in an area. */
	return area->addr + page * area->page;
}

/*
 * A hole that somebody makes in a file would be filled by the kernel when it is touched, and protected as the page was:
 * it is told instead. Private memory that goes loses its protection too.
 */
static bool wants_missing(const struct pager_area *area)
{
	return area->way != GM_PAGER_PROTECT ||
	       (area->shared && area->page <= area->uffd->pager->opts.request_len);
}

int gm_pager_wp_set(struct pager_area *area, struct pager_taker *taker, struct gm_error *err)
{
	struct pager_uffd *u = area->uffd;
	struct uffdio_register reg = {
		.range = {area->addr, area->nr * area->page},
		.mode = UFFDIO_REGISTER_MODE_WP |
			(wants_missing(area) ? UFFDIO_REGISTER_MODE_MISSING : 0) |
			(area->way == GM_PAGER_CONTINUE ? UFFDIO_REGISTER_MODE_MINOR : 0),
	};
	int rc;

	if (!u->wp || (area->way == GM_PAGER_CONTINUE && !u->wp_continue))
		return gm_error_set(err, -ENOTSUP, area->gpa, reg.range.len,
			"pager: the kernel cannot write-protect memory at 0x%" PRIx64
			" (Linux 5.19; for pages of a file that are still brought 6.4)",
			area->addr);
	/* Writes through the other mapping are not seen. */
	if (area->second || __atomic_load_n(&area->twin, __ATOMIC_ACQUIRE))
		return gm_error_set(err, -ENOTSUP, area->gpa, reg.range.len,
			"pager: memory at gpa 0x%" PRIx64 " is mapped twice", area->gpa);
	if (area->taker)
		return gm_error_set(err, -EBUSY, area->gpa, reg.range.len,
			"pager: memory at gpa 0x%" PRIx64 " is being saved", area->gpa);
	rc = gm_sys_ioctl(u->fd, UFFDIO_REGISTER, &reg);
	if (rc < 0)
		return gm_error_set(err, rc, area->gpa, reg.range.len,
			"pager: memory at gpa 0x%" PRIx64
			" cannot be registered for write protection: %s",
			area->gpa, gm_error_word(rc));
	__atomic_store_n(&area->wp, true, __ATOMIC_RELEASE);
	area->taker = taker;
	return 0;
}

void gm_pager_wp_clear(struct pager_area *area)
{
	pthread_rwlock_wrlock(&area->uffd->lock);
	area->taker = NULL;
	pthread_rwlock_unlock(&area->uffd->lock);
	while (__atomic_load_n(&area->taking, __ATOMIC_ACQUIRE))
		gm_sys_sleep_ns(WAIT_NS);
}

struct pager_taker *gm_pager_wp_taker(struct pager_area *area)
{
	struct pager_taker *taker = NULL;

	if (area->uffd) {
		pthread_rwlock_rdlock(&area->uffd->lock);
		taker = area->taker;
		pthread_rwlock_unlock(&area->uffd->lock);
	}
	return taker;
}

int gm_pager_wp_protect(struct pager_area *area, uint64_t addr, uint64_t len, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = {addr, len},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int rc;

	do {
		rc = gm_sys_ioctl(area->uffd->fd, UFFDIO_WRITEPROTECT, &wp);
	} while (rc == -EINTR);
	return rc < 0 ? rc : 0;
}

uint64_t gm_pager_wp_alike(struct pager_area *area, uint64_t first, uint64_t nr, bool *ret_held)
{
	const struct pager_taker *taker = area->taker;
	uint64_t alike = 1;

	*ret_held = false;
	if (!taker)
		return nr;
	*ret_held = taker->holds(taker, addr_of(area, first));
	while (alike < nr && taker->holds(taker, addr_of(area, first + alike)) == *ret_held)
		alike++;
	return alike;
}

void gm_pager_wp_lost(struct pager_area *area, uint64_t first, uint64_t nr)
{
	struct pager_taker *taker = area->taker;

	for (uint64_t page = first; taker && page < first + nr; page++) {
		if (taker->holds(taker, addr_of(area, page)))
			taker->lost(taker, addr_of(area, page));
	}
}

/* ---- calls of the taker ---- */

static struct pager_taker *enter(struct pager_area *area)
{
	struct pager_taker *taker;

	pthread_rwlock_rdlock(&area->uffd->lock);
	taker = area->taker;
	if (taker)
		__atomic_fetch_add(&area->taking, 1, __ATOMIC_ACQUIRE);
	pthread_rwlock_unlock(&area->uffd->lock);
	return taker;
}

static void leave(struct pager_area *area)
{
	__atomic_fetch_sub(&area->taking, 1, __ATOMIC_RELEASE);
}

int gm_pager_wp_serve(const struct pager_run *want)
{
	struct pager_area *area = want->area;
	uint64_t addr = addr_of(area, want->first);
	struct pager_taker *taker = enter(area);
	int rc;

	if (taker) {
		rc = taker->written(taker, addr);
		leave(area);
		return rc;
	}
	/* Left from one who has gone. */
	rc = gm_pager_wp_protect(area, addr, area->page, false);
	return rc == -EAGAIN ? rc : 0;
}

int gm_pager_wp_give_back(
	struct pager_area *area, uint64_t first, uint64_t nr, struct gm_error *err)
{
	struct pager_taker *taker = enter(area);
	int rc;

	if (!taker)
		return 0;
	rc = taker->given_back(taker, addr_of(area, first), nr * area->page, err);
	leave(area);
	return rc;
}

struct pager_area *gm_pager_wp_area(
	struct gm_pager *pager, const struct gm_space *space, uint64_t addr)
{
	struct pager_area *area = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE);

	while (area && (area->space != space || !area->uffd || addr < area->addr ||
			       addr - area->addr >= area->nr * area->page))
		area = area->next;
	return area;
}
