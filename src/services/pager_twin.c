/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_twin.c - memory of a file that is mapped twice: two areas with one array of states.
 *
 * The file is filled once, by whoever claims a page; each mapping then continues it for itself, when it is touched
 * there. So a state says what the file has, not who maps it: a page that is filled or present is continued on a fault
 * in either mapping.
 *
 * A fault that meets a page that is loading is left to who brings it. His installation wakes those who wait in his own
 * mapping only. Hence the one rule: whenever pages cease to be loading, those who wait for them in the other mapping
 * are woken, after the state was changed. They fault again and are served there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "services/pager.h"
#include "services/pager_wp.h"

void gm_pager_twin_wake(const struct pager_run *run, uint64_t nr)
{
	const struct pager_area *twin = __atomic_load_n(&run->area->twin, __ATOMIC_SEQ_CST);

	if (twin && nr && !twin->uffd->sigbus)
		gm_pager_uffd_wake(
			twin->uffd, twin->addr + run->first * twin->page, nr * twin->page);
}

static int check(struct pager_area *of, uint32_t flags, struct gm_error *err)
{
	if (!of || !of->uffd || (flags & ~(GM_PAGER_SIGBUS | GM_PAGER_USER_ONLY)))
		return gm_error_set(err, of ? -EINVAL : -ENOENT, 0, 0,
			"pager: no such area, or flags 0x%x are not for a second mapping", flags);
	if (of->way != GM_PAGER_CONTINUE || !of->shared || !of->uffd->local ||
		(of->flags & GM_PAGER_EVENTS))
		return gm_error_set(err, -ENOTSUP, of->gpa, of->nr * of->page,
			"pager: area %" PRIu64 " is no shared memory of this process that is "
			"continued, without GM_PAGER_EVENTS",
			of->id);
	if (gm_pager_wp_taker(of))
		return gm_error_set(err, -EBUSY, of->gpa, of->nr * of->page,
			"pager: area %" PRIu64 " is being saved", of->id);
	if (of->twin)
		return gm_error_set(err, -EBUSY, of->gpa, of->nr * of->page,
			"pager: area %" PRIu64 " has a second mapping already", of->id);
	return 0;
}

/* All is the first one's, but for where it lies and who is told of faults. */
static struct pager_area *copy(const struct pager_area *of, struct pager_uffd *u, uint64_t addr)
{
	struct pager_area *area = gm_sys_alloc(sizeof(*area));

	if (!area)
		return NULL;
	*area = *of;
	area->uffd = u;
	area->addr = addr;
	area->gpa = 0;
	area->space = NULL;
	area->extent.len = 0;
	area->borrowed = true;
	area->wp = false;
	area->taker = NULL;
	area->taking = 0;
	area->second = true;
	snprintf(area->why, sizeof(area->why), "second mapping of the file of area %" PRIu64,
		of->id);
	return area;
}

static int attach(struct pager_area *area, struct gm_error *err)
{
	struct pager_spot spot = {.start = area->addr, .nr = area->nr, .area = area};
	struct pager_uffd *u = area->uffd;
	int rc;

	pthread_rwlock_wrlock(&u->lock);
	rc = gm_pager_spot_add(u, &spot);
	pthread_rwlock_unlock(&u->lock);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "pager: out of memory");
	rc = gm_pager_uffd_register(u, area, err);
	if (rc) {
		pthread_rwlock_wrlock(&u->lock);
		gm_pager_spot_cut(u, area->addr, area->nr * area->page);
		pthread_rwlock_unlock(&u->lock);
	}
	return rc;
}

int gm_pager_add_twin(struct gm_pager *pager, uint64_t area, void *addr, uint32_t flags,
	uint64_t *ret_area, struct gm_error *err)
{
	struct pager_area *of = gm_pager_find(pager, area);
	struct pager_area *twin;
	struct pager_uffd *u;
	int rc = check(of, flags, err);

	if (!rc && (pager->stopped || (uintptr_t)addr & (of->page - 1)))
		rc = gm_error_set(err, pager->stopped ? -EBUSY : -EINVAL, 0, 0,
			"pager: it was stopped, or %p is no address of a page", addr);
	if (!rc)
		rc = gm_pager_uffd_open(pager, flags, &u, err);
	if (rc)
		return rc;
	twin = copy(of, u, (uintptr_t)addr);
	if (!twin)
		return gm_error_set(err, -ENOMEM, 0, 0, "pager: out of memory");
	rc = attach(twin, err);
	if (rc) {
		gm_sys_free(twin);
		return rc;
	}
	twin->twin = of;
	gm_pager_area_publish(pager, twin);
	__atomic_store_n(&of->twin, twin, __ATOMIC_SEQ_CST);
	/* Who has touched it already may have been left to somebody who did not know of him. */
	gm_pager_uffd_wake(u, twin->addr, twin->nr * twin->page);
	if (ret_area)
		*ret_area = twin->id;
	return 0;
}
