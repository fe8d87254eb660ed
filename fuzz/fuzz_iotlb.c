/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_iotlb.c - bytes as changes of a small IOTLB, against a list. What it answers is what the
 * list says, or nothing if something had to go.
 *
 * A change is 32 bytes: kind, permissions, six of nothing, first, last, target.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/iotlb.h"

#define CAPACITY 12u
#define CHANGE 32u
#define CHANGES_MAX 128u

static struct gm_translation list[2 * CHANGES_MAX];
static unsigned int nr_list;

static void cut(uint64_t first, uint64_t last)
{
	for (unsigned int i = 0; i < nr_list;) {
		struct gm_translation old = list[i];

		if (old.last < first || old.first > last) {
			i++;
			continue;
		}
		list[i] = list[--nr_list];
		if (old.first < first) {
			list[nr_list] = old;
			list[nr_list++].last = first - 1;
		}
		if (old.last > last) {
			list[nr_list] = old;
			list[nr_list++].first = last + 1;
		}
	}
}

static const struct gm_translation *find(uint64_t addr)
{
	for (unsigned int i = 0; i < nr_list; i++) {
		if (addr >= list[i].first && addr <= list[i].last)
			return &list[i];
	}
	return NULL;
}

static void must(bool what)
{
	if (!what)
		abort();
}

static void change(struct gm_iotlb *iotlb, uint8_t kind, const struct gm_range *range,
	uint64_t target, uint32_t perms)
{
	int rc = kind & 1 ? gm_iotlb_unmap(iotlb, range)
			  : gm_iotlb_map(iotlb, iotlb->generation, range, target, perms);

	if ((kind & 0x7f) == 0x7f) {
		gm_iotlb_flush_to(iotlb, iotlb->generation + (kind >> 7));
		gm_iotlb_unmap_all(iotlb);
		nr_list = 0;
	}
	if (range->first > range->last || (!(kind & 1) && perms > GM_PERM_RW)) {
		must(rc == -EINVAL);
		return;
	}
	if (!(kind & 1) && range->last - range->first > UINT64_MAX - target) {
		must(rc == -ERANGE);
		return;
	}
	must(rc == 0);
	if ((kind & 0x7f) == 0x7f)
		return;
	cut(range->first, range->last);
	if (!(kind & 1))
		list[nr_list++] = (struct gm_translation){
			range->first, range->last, target - range->first, perms};
}

static bool is_said(const struct gm_iotlb_piece *piece, uint64_t addr)
{
	const struct gm_translation *want = find(addr);

	return want && piece->iova == addr && piece->target == addr + want->delta &&
	       piece->perms == want->perms;
}

static void check(struct gm_iotlb *iotlb, uint64_t addr)
{
	struct gm_iotlb_piece piece;
	struct gm_iotlb_answer answer = {.good = {&piece, 1, 0}};
	int rc = gm_iotlb_find(iotlb, addr, 1, 0, &piece);

	must(rc == 0 || rc == -EAGAIN);
	must(rc || is_said(&piece, addr));
	rc = gm_iotlb_lookup(iotlb, addr, 1, 0, &answer);
	must(rc == 0 ? is_said(&piece, addr)
		     : rc == -EFAULT && (iotlb->nr_evicted > 0 || !find(addr)));
}

static uint64_t number_at(const uint8_t *data)
{
	uint64_t value;

	memcpy(&value, data, sizeof(value));
	return value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_iotlb *iotlb;
	void *room = NULL;

	if (posix_memalign(&room, 64, gm_iotlb_room(CAPACITY)))
		abort();
	iotlb = gm_iotlb_init(room, CAPACITY, 1);
	nr_list = 0;
	for (unsigned int i = 0; i < CHANGES_MAX && size >= CHANGE; i++) {
		struct gm_range range = {number_at(data + 8), number_at(data + 16)};

		change(iotlb, data[0], &range, number_at(data + 24), data[1] % 5u);
		check(iotlb, range.first);
		check(iotlb, range.last);
		check(iotlb, range.last + 1);
		check(iotlb, range.first - 1);
		data += CHANGE;
		size -= CHANGE;
	}
	must(gm_iotlb_is_valid(iotlb));
	free(room);
	return 0;
}
