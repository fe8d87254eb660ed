/* SPDX-License-Identifier: BSD-3-Clause */
/* memmap.c - memory maps: the check, and runs of entries that are written as one. */
#include "core/memmap.h"

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "core/range.h"

_Static_assert(sizeof(struct gm_memmap_entry) == 32, "the layout is frozen");

#define ENTRY_FLAGS (GM_MEMMAP_HOTPLUG | GM_MEMMAP_NONVOLATILE | GM_MEMMAP_ABSENT)

/* An entry as "entry 3 [0x1000, 0x1fff] " before what is wrong with it. */
#define BAD(code, fmt, ...)                                                                        \
	gm_error_set(err, (code), entry->first, 0, "%s %zu [0x%" PRIx64 ", 0x%" PRIx64 "] " fmt,   \
		what, i, entry->first, entry->last, __VA_ARGS__)

static int check_words(const struct gm_memmap_entry *entry, size_t i, const char *what,
	uint32_t flags_known, struct gm_error *err)
{
	bool window = flags_known & GM_MEMMAP_OVER_RAM;

	if (entry->first > entry->last)
		return BAD(-EINVAL, "ends before it %s", "begins");
	if (entry->kind > GM_MEMMAP_SOFT_RESERVED || (entry->kind == GM_MEMMAP_HOLE && !window))
		return BAD(-EINVAL, "is of kind %u, which is not known here", entry->kind);
	if (entry->flags & ~flags_known)
		return BAD(-EINVAL, "has unknown flags 0x%x", entry->flags & ~flags_known);
	if (entry->reserved)
		return BAD(-EINVAL, "has a reserved member that is not 0 but %u", entry->reserved);
	return 0;
}

int gm_memmap_check_as(const struct gm_memmap_entry *map, size_t nr, const char *what,
	uint32_t flags_known, struct gm_error *err)
{
	for (size_t i = 0; i < nr; i++) {
		const struct gm_memmap_entry *entry = &map[i];
		int rc = check_words(entry, i, what, flags_known, err);

		if (rc)
			return rc;
		if (i == 0 || entry->first > map[i - 1].last)
			continue;
		if (entry->last < map[i - 1].first)
			return BAD(-EINVAL, "lies below the one before it, 0x%" PRIx64,
				map[i - 1].first);
		rc = BAD(-EEXIST, "overlaps the one before it, which ends at 0x%" PRIx64,
			map[i - 1].last);
		if (err && err->gpa < map[i - 1].first)
			err->gpa = map[i - 1].first;
		return rc;
	}
	return 0;
}

int gm_memmap_check(const struct gm_memmap_entry *map, size_t nr, struct gm_error *err)
{
	return gm_memmap_check_as(map, nr, "entry", ENTRY_FLAGS, err);
}

bool gm_memmap_run(const struct gm_memmap_entry *map, size_t nr, gm_memmap_class *class_of,
	size_t *at, struct gm_memmap_entry *ret)
{
	size_t i = *at;
	uint64_t class;

	while (i < nr && class_of(&map[i]) == 0)
		i++;
	*at = i;
	if (i == nr)
		return false;
	class = class_of(&map[i]);
	*ret = map[i];
	/* The one before does not end at 2^64 if there is one behind it. */
	for (i++; i < nr && map[i].first == ret->last + 1 && class_of(&map[i]) == class; i++)
		ret->last = map[i].last;
	*at = i;
	return true;
}

int gm_memmap_check_run(const struct gm_memmap_entry *run, const char *table, struct gm_error *err)
{
	if (run->first || run->last != UINT64_MAX)
		return 0;
	return gm_error_set(
		err, -ERANGE, 0, 0, "%s cannot say that something has 2^64 bytes", table);
}

uint32_t gm_memmap_flags(const struct gm_memmap_entry *entry)
{
	return entry->flags | (entry->kind == GM_MEMMAP_PMEM ? GM_MEMMAP_NONVOLATILE : 0);
}
