/* SPDX-License-Identifier: BSD-3-Clause */
/* ring_place.c - see ring_place.h. VIRTIO 1.2, sections 2.7 and 2.8. */
#include "ring_place.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define ENTRY 16u
#define FLAGS 14u /* of an entry */
#define AVAIL 0x80u
#define USED 0x8000u
#define TRIES 8 /* a driver may be writing a chain */

static bool avail_of(const uint8_t *entries, uint32_t i)
{
	uint16_t flags;

	memcpy(&flags, entries + (size_t)i * ENTRY + FLAGS, sizeof(flags));
	return le16toh(flags) & AVAIL;
}

static bool is_used(const uint8_t *entries, uint32_t i)
{
	uint16_t flags;

	memcpy(&flags, entries + (size_t)i * ENTRY + FLAGS, sizeof(flags));
	flags = le16toh(flags);
	return !(flags & AVAIL) == !(flags & USED);
}

/* False: the marks change more than once, as they do while a chain is written. */
static bool find_avail(const uint8_t *entries, uint32_t num, struct ring_positions *at)
{
	const bool first = avail_of(entries, 0);
	uint32_t changes = 0;
	uint32_t place = 0;

	for (uint32_t i = 1; i < num; i++) {
		if (avail_of(entries, i) == avail_of(entries, i - 1))
			continue;
		place = changes ? place : i;
		changes++;
	}
	if (changes > 1)
		return false;
	at->avail = (int32_t)place;
	at->avail_lap = place ? first : !first;
	return true;
}

/* Backwards from the driver's place, to what the device wrote last. */
static void find_used(const uint8_t *entries, uint32_t num, struct ring_positions *at)
{
	const uint32_t end = (uint32_t)at->avail;
	uint32_t back = 0;

	while (back < num && !is_used(entries, (end + num - 1 - back) % num))
		back++;
	if (back == num) {
		at->unknown = "no entry of it shows what the device has used";
		return;
	}
	if (back == 0) {
		at->used = at->avail;
		at->used_lap = at->avail_lap;
	}
	at->used_first = (int32_t)((end + num - back) % num);
	at->used_last = at->avail;
	if (back)
		at->unknown = "by a packed ring's memory the device's place is known only so far";
}

static void look_packed(
	const struct ring_place *ring, ring_read_fn *read, void *ctx, struct ring_positions *ret)
{
	const size_t len = (size_t)ring->num * ENTRY;
	uint8_t *entries = tool_alloc(ring->num, ENTRY);
	bool found = false;

	for (int i = 0; i < TRIES && !found && !ret->unknown; i++) {
		ret->unknown = read(ctx, ring->desc, entries, len);
		found = !ret->unknown && find_avail(entries, ring->num, ret);
	}
	if (found)
		find_used(entries, ring->num, ret);
	else if (!ret->unknown)
		ret->unknown = "its entries are not those of a packed ring, or change too fast";
	free(entries);
}

static int32_t index_at(uint64_t area, ring_read_fn *read, void *ctx, const char **ret_why)
{
	uint16_t index;

	*ret_why = area <= UINT64_MAX - 4 ? read(ctx, area + 2, &index, sizeof(index))
					  : "its addresses cannot be";
	return *ret_why ? -1 : le16toh(index);
}

void ring_look(
	const struct ring_place *ring, ring_read_fn *read, void *ctx, struct ring_positions *ret)
{
	const char *why;

	*ret = (struct ring_positions){NULL, -1, -1, -1, -1, -1, -1};
	if (ring->num == 0 || ring->num > RING_ENTRIES_MAX) {
		ret->unknown = "nobody has said how many entries it has";
		return;
	}
	if (ring->packed) {
		look_packed(ring, read, ctx, ret);
		return;
	}
	ret->avail = index_at(ring->avail, read, ctx, &ret->unknown);
	ret->used = index_at(ring->used, read, ctx, &why);
	ret->unknown = ret->unknown ? ret->unknown : why;
}

void ring_used_is(struct ring_positions *at, uint32_t base)
{
	at->used = (int32_t)(base >> 16 & 0x7fff);
	at->used_lap = (int32_t)(base >> 31 & 1);
	at->used_first = at->used;
	at->used_last = at->used;
	if (at->avail >= 0)
		at->unknown = NULL;
}

static json_t *number(int32_t n)
{
	return n < 0 ? json_null() : json_integer(n);
}

void ring_json(json_t *json, const struct ring_positions *at)
{
	json_object_set_new(json, "available_index", number(at->avail));
	json_object_set_new(json, "available_lap", number(at->avail_lap));
	json_object_set_new(json, "used_index", number(at->used));
	json_object_set_new(json, "used_lap", number(at->used_lap));
	json_object_set_new(json, "used_range",
		at->used_first < 0 ? json_null()
				   : json_pack("[i, i]", (int)at->used_first, (int)at->used_last));
	json_object_set_new(json, "unknown", at->unknown ? json_string(at->unknown) : json_null());
}
