/* SPDX-License-Identifier: BSD-3-Clause */
/* pager_present.h - inside of a pager: areas that are there in part when they are added (GM_PAGER_PRESENT). */
#ifndef GM_SERVICES_PAGER_PRESENT_H
#define GM_SERVICES_PAGER_PRESENT_H

#include "services/pager.h"

/* Is the bitmap one for pages of this size? Without the flag it is. Can the memory's pages be given back? */
int gm_pager_present_check(const struct pager_place *place, const struct gm_pager_area_opts *opts,
	struct gm_error *err);
int gm_pager_present_way(
	const struct pager_area *area, const struct pager_place *place, struct gm_error *err);
/* What is there counts so. */
void gm_pager_present_note(struct pager_area *area, const struct pager_place *place,
	const struct gm_pager_area_opts *opts);
/* What is not is given back. With the userfaultfd's lock alone. */
int gm_pager_present_clear(struct pager_area *area, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, struct gm_error *err);

#endif
