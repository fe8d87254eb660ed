/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_in_dropped.c - what the pager tells: pages that the guest has given back before they came, and
 * poisoned ones.
 */
#include <errno.h>
#include <string.h>

#include "services/migrate_in.h"

void gm_migrate_in_event(void *ctx, const struct gm_pager_event *event)
{
	struct gm_migrate_in *in = ctx;

	/* Of what we had it lose ourselves it tells, too. */
	if (event->kind == GM_PAGER_POISONED && event->code != -ENODATA)
		__atomic_store_n(&in->poisoned, true, __ATOMIC_RELAXED);
	if (event->kind != GM_PAGER_DROPPED)
		return;
	pthread_mutex_lock(&in->drops_lock);
	for (size_t i = 0; i < in->nr_areas && in->nr_drops < IN_DROPS; i++) {
		const struct in_area *area = &in->areas[i];

		if (area->id != event->area)
			continue;
		in->drops[in->nr_drops++] = (struct gm_range){
			area->first + (event->off >> GM_MIGRATE_PAGE_LOG2),
			area->first + ((event->off + event->len - 1) >> GM_MIGRATE_PAGE_LOG2)};
	}
	/* What finds no room comes, and is dropped then. */
	pthread_mutex_unlock(&in->drops_lock);
	gm_migrate_lines_kick(&in->lines);
}

void gm_migrate_in_tell_drops(struct gm_migrate_in *in, uint64_t now)
{
	struct gm_range drops[IN_DROPS];
	uint32_t nr;

	pthread_mutex_lock(&in->drops_lock);
	nr = in->nr_drops;
	memcpy(drops, in->drops, nr * sizeof(drops[0]));
	in->nr_drops = 0;
	pthread_mutex_unlock(&in->drops_lock);
	for (uint32_t i = 0; i < nr; i++) {
		struct gm_range bits = drops[i];
		struct gm_migrate_place place;
		bool more;

		do {
			more = gm_migrate_map_cut(&in->map, &bits, UINT32_MAX, &place);
			in->stats.dropped += (uint64_t)place.nr << GM_MIGRATE_PAGE_LOG2;
			(void)gm_migrate_destination_dropped(&in->machine, &place, now);
		} while (more);
	}
}
