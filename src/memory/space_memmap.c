/* SPDX-License-Identifier: BSD-3-Clause */
/* space_memmap.c - what shows of a space as a memory map for its guest. */
#include <guestmem/dump.h>

#include <errno.h>

#include "core/error.h"
#include "memory/space.h"

/* GM_MEMMAP_HOLE: it is not in the map. */
static uint32_t kind_of(uint32_t kind)
{
	switch (kind) {
	case GM_REGION_RAM:
		return GM_MEMMAP_RAM;
	case GM_REGION_PMEM:
		return GM_MEMMAP_PMEM;
	case GM_REGION_ACPI:
		return GM_MEMMAP_ACPI_RECLAIM;
	case GM_REGION_MMIO:
	case GM_REGION_IOMMU:
		return GM_MEMMAP_HOLE;
	default:
		return GM_MEMMAP_RESERVED;
	}
}

static struct gm_memmap_entry entry_of(const struct gm_node *node, const struct gm_span *span)
{
	struct gm_memmap_entry entry = {
		.first = span->first,
		.last = span->last,
		.kind = kind_of(node->kind),
		.node = node->numa_plus ? node->numa_plus - 1u : GM_MEMMAP_NO_NODE,
		.flags = node->hotpluggable ? GM_MEMMAP_HOTPLUG : 0,
	};

	if (gm_node_is_memory(node) && gm_part_of(span->perms) == GM_PART_UNPLUGGED)
		entry.flags |= GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT;
	return entry;
}

static bool joins(const struct gm_memmap_entry *a, const struct gm_memmap_entry *b)
{
	return a->kind == b->kind && a->node == b->node && a->flags == b->flags &&
	       b->first == a->last + 1;
}

/* Writes the entries down as far as there is room; returns their number. With the lock held. */
static size_t write_down(const struct gm_space *space, struct gm_memmap_entry *ret, size_t cap)
{
	struct gm_memmap_entry run = {.kind = GM_MEMMAP_HOLE};
	const struct gm_span *span;
	size_t nr = 0;
	uint64_t off;

	for (span = gm_table_next(space->view, 0, &off); span;
		span = gm_table_after(space->view, span, &off)) {
		struct gm_memmap_entry entry =
			entry_of(gm_node_at(&space->nodes, span->node), span);

		if (entry.kind == GM_MEMMAP_HOLE)
			continue;
		if (nr && joins(&run, &entry)) {
			run.last = entry.last;
		} else {
			run = entry;
			nr++;
		}
		if (nr <= cap)
			ret[nr - 1] = run;
	}
	return nr;
}

int gm_space_memmap(struct gm_space *space, struct gm_memmap_entry *ret, size_t cap,
	size_t *ret_needed, struct gm_error *err)
{
	size_t nr;

	pthread_mutex_lock(&space->lock);
	nr = write_down(space, ret, cap);
	pthread_mutex_unlock(&space->lock);
	*ret_needed = nr;
	if (nr > cap)
		return gm_error_set(err, -ENOBUFS, 0, 0,
			"%s: the memory map has %zu entries, there is room for %zu", space->name,
			nr, cap);
	return 0;
}
