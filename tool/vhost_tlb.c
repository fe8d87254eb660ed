/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_tlb.c - translations of the guest's IOMMU that have passed between front-end and back-end.
 *
 * A back-end asks for what it needs and is told of what goes, so all that it uses has passed here. Of what a front-end
 * sends no more is kept than there is room for; the rest counts as not seen.
 */
#include <stdlib.h>
#include <string.h>

#include "vhost_user.h"

#define ENTRIES_MAX 16384u

void tlb_clear(struct seen_tlb *tlb)
{
	free(tlb->list);
	*tlb = (struct seen_tlb){0};
}

/* The first entry that ends at or behind @iova. */
static uint32_t find(const struct seen_tlb *tlb, uint64_t iova)
{
	uint32_t low = 0;
	uint32_t high = tlb->nr;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (tlb->list[mid].iova + (tlb->list[mid].len - 1) < iova)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool insert(struct seen_tlb *tlb, uint32_t at, const struct seen_entry *entry)
{
	if (tlb->nr == ENTRIES_MAX) {
		tlb->full = true;
		return false;
	}
	if (!tlb->list)
		tlb->list = tool_alloc(ENTRIES_MAX, sizeof(*tlb->list));
	memmove(&tlb->list[at + 1], &tlb->list[at], (tlb->nr - at) * sizeof(*tlb->list));
	tlb->list[at] = *entry;
	tlb->nr++;
	return true;
}

static void drop(struct seen_tlb *tlb, uint32_t at)
{
	tlb->nr--;
	memmove(&tlb->list[at], &tlb->list[at + 1], (tlb->nr - at) * sizeof(*tlb->list));
}

/* Cuts [first, last] out of what there is. */
static void carve(struct seen_tlb *tlb, uint64_t first, uint64_t last)
{
	uint32_t i = find(tlb, first);

	while (i < tlb->nr && tlb->list[i].iova <= last) {
		struct seen_entry *e = &tlb->list[i];
		struct seen_entry behind = *e;
		uint64_t end = e->iova + (e->len - 1);

		if (end > last) {
			behind.iova = last + 1;
			behind.len = end - last;
			behind.user += behind.iova - e->iova;
		}
		if (e->iova >= first) {
			if (end > last)
				*e = behind;
			else
				drop(tlb, i);
			if (end > last)
				return;
			continue;
		}
		e->len = first - e->iova;
		i++;
		if (end > last) {
			insert(tlb, i, &behind);
			return;
		}
	}
}

void tlb_update(struct seen_tlb *tlb, const struct gm_vhost_iotlb *msg)
{
	const struct seen_entry entry = {msg->iova, msg->len, msg->user};
	uint64_t last;

	/* 0 bytes at 0 are all 2^64, and what is too long ends with the addresses. */
	if (msg->len == 0 && msg->iova != 0)
		return;
	if (msg->len == 0 || __builtin_add_overflow(msg->iova, msg->len - 1, &last))
		last = UINT64_MAX;
	if (msg->type == GM_VHOST_IOTLB_INVALIDATE) {
		carve(tlb, msg->iova, last);
		return;
	}
	if (msg->type != GM_VHOST_IOTLB_UPDATE || last - msg->iova != msg->len - 1 ||
		msg->user > UINT64_MAX - (msg->len - 1))
		return;
	carve(tlb, msg->iova, last);
	insert(tlb, find(tlb, msg->iova), &entry);
}

uint64_t tlb_find(const struct seen_tlb *tlb, uint64_t iova, uint64_t *ret_user)
{
	uint32_t i = find(tlb, iova);

	if (i == tlb->nr || tlb->list[i].iova > iova)
		return 0;
	*ret_user = tlb->list[i].user + (iova - tlb->list[i].iova);
	return tlb->list[i].len - (iova - tlb->list[i].iova);
}
