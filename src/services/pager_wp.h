/* SPDX-License-Identifier: BSD-3-Clause */
/* pager_wp.h - inside of a pager: pages that somebody takes before they are written. */
#ifndef GM_SERVICES_PAGER_WP_H
#define GM_SERVICES_PAGER_WP_H

#include "services/pager.h"

/*
 * Who takes pages as they are before they are written: a save of a running guest. Its calls are made in any thread
 * until gm_pager_wp_clear() has returned for the last area that has it.
 */
struct pager_taker {
	/* Is the page at an address protected, and not taken yet? With the userfaultfd's lock. */
	bool (*holds)(const struct pager_taker *taker, uint64_t addr);
	/* Somebody is about to write there. It is lifted, or will be: 0, -EINPROGRESS; -EAGAIN: not now. */
	int (*written)(struct pager_taker *taker, uint64_t addr);
	/* The page has gone, and it was not taken. With the userfaultfd's lock. */
	void (*lost)(struct pager_taker *taker, uint64_t addr);
	/* The space is about to give pages back: they are taken first, or it is refused. */
	int (*given_back)(
		struct pager_taker *taker, uint64_t addr, uint64_t len, struct gm_error *err);
};

/* Registers an area for write protection, and gives it a taker. With the userfaultfd's lock. */
int gm_pager_wp_set(struct pager_area *area, struct pager_taker *taker, struct gm_error *err);
/* It has none from now on, and none of its calls is under way. Protection is left as it is. */
void gm_pager_wp_clear(struct pager_area *area);
struct pager_taker *gm_pager_wp_taker(struct pager_area *area);
/* Protects, or lifts that and wakes who waits. 0, -EAGAIN (an event is unread), or what the kernel answers. */
int gm_pager_wp_protect(struct pager_area *area, uint64_t addr, uint64_t len, bool on);
/* With the userfaultfd's lock: pages from @first on that are alike, @nr at most: are they to be installed protected? */
uint64_t gm_pager_wp_alike(struct pager_area *area, uint64_t first, uint64_t nr, bool *ret_held);
/* With the same: pages that have gone by themselves. */
void gm_pager_wp_lost(struct pager_area *area, uint64_t first, uint64_t nr);
/* A page that somebody wants to write. As gm_pager_serve(). */
int gm_pager_wp_serve(const struct pager_run *want);
/* Before pages are given back. */
int gm_pager_wp_give_back(
	struct pager_area *area, uint64_t first, uint64_t nr, struct gm_error *err);
/* The area of a space's memory at an address, or NULL. */
struct pager_area *gm_pager_wp_area(
	struct gm_pager *pager, const struct gm_space *space, uint64_t addr);

#endif
