/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_wait.c - looking for the next fault before sleeping.
 *
 * To wake a thread on another CPU costs more than to serve a page, and faults come in bursts. So after one the
 * userfaultfd that had it is read again for a short while. That is lost where who faults needs this CPU, or pauses:
 * then 31 faults pass until it is tried again, and after that 1023.
 */
#include <errno.h>

#include "services/pager.h"

#define SKIP_MOST 1023u
#define CREDIT_MOST 16u /* one for each fault that was found, */
#define CREDIT_LOST 4u  /* and so many less for a look in vain */
#define IN_A_ROW                                                                                   \
	32u /* faults of one userfaultfd, until others, sources and the timer are looked at */

static void hit(struct gm_pager *pager)
{
	pager->spin_lost = 0;
	if (pager->spin_credit < CREDIT_MOST)
		pager->spin_credit++;
}

/* A pause among faults that are found is no reason to stop. */
static void lost(struct gm_pager *pager)
{
	if (pager->spin_credit >= CREDIT_LOST) {
		pager->spin_credit -= CREDIT_LOST;
		return;
	}
	pager->spin_credit = 0;
	pager->spin_lost = 32 * pager->spin_lost + 31;
	if (pager->spin_lost > SKIP_MOST)
		pager->spin_lost = SKIP_MOST;
	pager->spin_skip = pager->spin_lost;
}

/* Is it worth a look, and does nobody else wait for this thread? */
static bool may_spin(struct gm_pager *pager)
{
	if (pager->opts.wait == GM_PAGER_WAIT_BLOCK || pager->under_way || pager->filling)
		return false;
	if (pager->opts.wait == GM_PAGER_WAIT_BUSY || pager->spin_skip == 0)
		return true;
	pager->spin_skip--;
	return false;
}

int gm_pager_spin(struct gm_pager *pager)
{
	struct pager_uffd *u = pager->burst;
	uint64_t until;

	if (!u)
		return 0;
	/* The others first; then here again. */
	if (++pager->in_a_row > IN_A_ROW) {
		pager->in_a_row = 0;
		return 0;
	}
	pager->burst = NULL;
	if (!may_spin(pager))
		return 0;
	until = gm_sys_now_ns() + pager->opts.spin_ns;
	do {
		int rc = gm_pager_drain(u);

		if (rc) {
			hit(pager);
			return rc;
		}
	} while (gm_sys_now_ns() < until && !__atomic_load_n(&pager->quit, __ATOMIC_RELAXED));
	lost(pager);
	return 0;
}
