/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.c - leases that outlive the view they were taken in.
 *
 * A lease is adopted by a pin first, then, behind a barrier, looked at again. If its reader has ended it before
 * the barrier, that is seen now; if it ends it later, it sees that there is a pin to be given
 * back. Either may come first to do so: reader->adopted changes under the domain's lock.
 */
#include "memory/lease.h"

#include <linux/membarrier.h>

#include "core/table.h"
#include "memory/block.h"
#include "memory/view.h"
#include "memory/window.h"
#include "sys/sys.h"

/* Memory that is reached by its host address, by reads and writes alike. */
static bool is_plain(const struct gm_span *span)
{
	return !(span->perms & (GM_SPAN_HOLE | GM_SPAN_DEVICE | GM_SPAN_ROMD | GM_SPAN_IOMMU |
				       GM_SPAN_FAR | GM_SPAN_PRIVATE | GM_SPAN_DEVMEM));
}

bool gm_lease_look_up(struct gm_lease_spot *spot, const struct gm_view *view, uint64_t gpa,
	uint64_t len, uint32_t perms)
{
	struct gm_dirty *dirty = ((const struct gm_view_full *)(const void *)view)->dirty;
	const struct gm_span *span = gm_table_find(view, gpa);
	struct gm_map *map;

	*spot = (struct gm_lease_spot){.first = 1};
	if (!span || !is_plain(span))
		return false;
	map = (struct gm_map *)(uintptr_t)span->owner;
	if (!dirty || !map->window || map->window->dirty != dirty)
		return false;
	*spot = (struct gm_lease_spot){
		.generation = view->generation,
		.first = span->first,
		.last = span->last,
		.delta = span->delta,
		.map = map,
		.dirty = dirty,
		.perms = span->perms,
	};
	return gm_lease_covers(spot, view, gpa, len, perms);
}

/* A lease taken later is of a later view, and needs no pin of this one. */
static bool is_over(const struct gm_reader *reader)
{
	return reader->adopted &&
	       __atomic_load_n(&reader->leased, __ATOMIC_ACQUIRE) != reader->adopted;
}

static struct gm_map *disown(struct gm_reader *reader)
{
	struct gm_map *map = reader->adopted;

	__atomic_store_n(&reader->adopted, NULL, __ATOMIC_RELAXED);
	return map;
}

/* Unpins what was adopted from leases that are over: it may be the last to hold it, so outside of the lock. */
static void drop_ended(struct gm_domain *domain)
{
	struct gm_map *map;

	do {
		map = NULL;
		pthread_mutex_lock(&domain->lock);
		for (struct gm_reader *reader = domain->readers; reader && !map;
			reader = reader->next) {
			if (is_over(reader))
				map = disown(reader);
		}
		pthread_mutex_unlock(&domain->lock);
		if (map)
			gm_map_unpin(map);
	} while (map);
}

/* True if some were. */
static bool adopt_all(struct gm_domain *domain)
{
	bool any = false;

	pthread_mutex_lock(&domain->lock);
	for (struct gm_reader *reader = domain->readers; reader; reader = reader->next) {
		struct gm_map *map = __atomic_load_n(&reader->leased, __ATOMIC_ACQUIRE);

		if (!map || reader->adopted)
			continue;
		gm_map_pin(map);
		__atomic_store_n(&reader->adopted, map, __ATOMIC_RELAXED);
		any = true;
	}
	pthread_mutex_unlock(&domain->lock);
	return any;
}

void gm_lease_adopt(struct gm_domain *domain)
{
	if (!domain->moved_fence)
		return;
	drop_ended(domain);
	if (!adopt_all(domain))
		return;
	/* If it fails, a pin may stay until the next look. */
	gm_sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
	drop_ended(domain);
}

void gm_lease_settle(struct gm_reader *reader)
{
	struct gm_map *map;

	pthread_mutex_lock(&reader->domain->lock);
	map = disown(reader);
	pthread_mutex_unlock(&reader->domain->lock);
	if (map)
		gm_map_unpin(map);
}
