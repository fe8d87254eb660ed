/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_place.h - where a ring of somebody else's stands, by its memory.
 *
 * Of a split ring both sides write down their index. Of a packed ring nobody does. Its driver writes entries in their
 * order and marks each with the lap, which the device leaves as it is: so the driver's place is where the mark
 * changes, and that is exact. A device writes one entry for each chain and skips as many more as the chain had, which
 * look as the driver left them: so the device's place lies behind the last entry that it wrote, up to the driver's
 * place, and is exact if the two are neighbours, as they are where chains have one entry (tables of descriptors) and
 * nothing is out. What is known of it from elsewhere (the base that a device told when it was stopped, or the device
 * itself) is better and is used.
 */
#ifndef TOOL_RING_PLACE_H
#define TOOL_RING_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define RING_ENTRIES_MAX 32768u

struct ring_place {
	bool packed;
	uint32_t num;
	uint64_t desc; /* as addresses that the reader takes */
	uint64_t avail;
	uint64_t used;
};

/* NULL: all of @buf was read; else why not. */
typedef const char *ring_read_fn(void *ctx, uint64_t addr, void *buf, size_t len);

/* -1: not known. */
struct ring_positions {
	const char *unknown; /* why something is not known, or NULL */
	int32_t avail;       /* the next that the driver makes available */
	int32_t avail_lap;   /* packed: 0 or 1 */
	int32_t used;        /* the next that the device uses */
	int32_t used_lap;    /* packed */
	int32_t used_first; /* packed: it is not before this one, nor behind the other; going up, around the end */
	int32_t used_last;
};

void ring_look(
	const struct ring_place *ring, ring_read_fn *read, void *ctx, struct ring_positions *ret);
/* The device's place in a packed ring is known: the upper half of a base. */
void ring_used_is(struct ring_positions *at, uint32_t base);
/* Adds the members of JSON. */
void ring_json(json_t *json, const struct ring_positions *at);

#endif
