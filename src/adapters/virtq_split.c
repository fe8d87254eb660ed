/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq_split.c - a queue in three parts: descriptors, the available ring that the driver writes, the used ring that
 * the device writes.
 */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include <endian.h>
#include <errno.h>

#include "adapters/virtq.h"
#include "core/error.h"

#define FLAGS 0u /* of both rings */
#define INDEX 2u
#define ENTRIES 4u
#define NO_CALL 0x1u
#define NO_KICK 0x1u

static uint64_t used_event(const struct gm_virtq *vq)
{
	return ENTRIES + 2ull * vq->o.nr;
}

static uint64_t avail_event(const struct gm_virtq *vq)
{
	return ENTRIES + 8ull * vq->o.nr;
}

static int start(
	struct gm_virtq *vq, const struct gm_view *view, uint32_t base, struct gm_error *err)
{
	uint16_t used;
	int rc;

	if (base > UINT16_MAX)
		return gm_error_set(err, -EPROTO, 0, 0,
			"queue: 0x%x is no index of a split queue to begin at", base);
	rc = gm_cache_read_le16(&vq->device, view, INDEX, &used);
	if (rc)
		return gm_error_set(err, rc, vq->o.device, 2,
			"queue: the used ring cannot be read: %s", gm_error_word(rc));
	vq->next = (uint16_t)base;
	vq->seen = vq->next;
	vq->used = used;
	vq->shown = used;
	return 0;
}

static uint32_t base(const struct gm_virtq *vq)
{
	return vq->next;
}

int gm_virtq_split_chain(struct virtq_walk *walk, uint16_t head)
{
	const uint32_t nr = walk->vq->o.nr;
	uint32_t index = head;

	for (uint32_t done = 0; done < nr; done++) {
		struct virtq_desc desc;
		int rc = gm_virtq_read_desc(walk, index, &desc);

		if (!rc)
			rc = gm_virtq_walk_desc(walk, &desc, index);
		if (rc || !(desc.flags & VIRTQ_DESC_NEXT))
			return rc;
		index = desc.id;
		if (index >= nr)
			return gm_virtq_refuse(walk,
				"descriptor %u of %u is next in the chain of %u", index, nr, head);
	}
	return gm_virtq_refuse(walk, "the chain of descriptor %u goes round in a circle", head);
}

/* The driver's index, if it is not known that there is more. */
static int look(struct gm_virtq *vq, const struct gm_view *view)
{
	uint16_t index;
	int rc;

	if (vq->seen != vq->next)
		return 0;
	rc = gm_cache_load_u16(&vq->driver, view, INDEX, __ATOMIC_ACQUIRE, &index);
	if (!rc)
		vq->seen = le16toh(index);
	return rc;
}

static int pop(struct virtq_walk *walk, struct gm_virtq_item *item)
{
	struct gm_virtq *vq = walk->vq;
	uint64_t off = ENTRIES + 2ull * (vq->next & (vq->o.nr - 1));
	int rc = look(vq, walk->view);

	if (rc)
		return gm_virtq_unreachable(walk, rc, "available ring", vq->o.driver);
	if (vq->seen == vq->next)
		return 0;
	if ((uint16_t)(vq->seen - vq->next) > vq->o.nr) {
		uint16_t seen = vq->seen;

		vq->seen = vq->next; /* so that it is read again */
		return gm_virtq_refuse(walk, "the driver is at %u, the device at %u, of %u entries",
			seen, vq->next, vq->o.nr);
	}
	rc = gm_cache_read_le16(&vq->driver, walk->view, off, &item->id);
	if (rc)
		return gm_virtq_unreachable(walk, rc, "available ring", vq->o.driver + off);
	if (item->id >= vq->o.nr)
		return gm_virtq_refuse(
			walk, "descriptor %u of %u is available", item->id, vq->o.nr);
	item->slots = 1;
	rc = gm_virtq_split_chain(walk, item->id);
	if (rc)
		return rc;
	vq->next++;
	return 1;
}

static void unpop(struct gm_virtq *vq, const struct gm_virtq_item *item)
{
	(void)item;
	vq->next--;
}

static int emit(struct gm_virtq *vq, const struct gm_view *view, const struct virtq_held *used)
{
	uint64_t off = ENTRIES + 8ull * (vq->used & (vq->o.nr - 1));
	uint64_t entry = used->id | (uint64_t)used->len << 32;
	int rc = gm_cache_write_le64(&vq->device, view, off, entry);

	if (!rc)
		vq->used++;
	return rc;
}

static int flush(struct gm_virtq *vq, const struct gm_view *view)
{
	int rc = gm_cache_store_u16(&vq->device, view, INDEX, __ATOMIC_RELEASE, htole16(vq->used));

	if (!rc)
		vq->shown = vq->used;
	return rc;
}

static int wants_call(struct gm_virtq *vq, const struct gm_view *view)
{
	uint16_t value;
	int rc;

	if (vq->o.flags & GM_VIRTQ_EVENT) {
		rc = gm_cache_read_le16(&vq->driver, view, used_event(vq), &value);
		return rc ? rc
			  : gm_virtq_is_due(
				    (uint16_t)(vq->shown - value), vq->nr_shown - vq->nr_told);
	}
	rc = gm_cache_read_le16(&vq->driver, view, FLAGS, &value);
	return rc ? rc : !(value & NO_CALL);
}

static int kicks(struct gm_virtq *vq, const struct gm_view *view, bool on)
{
	int rc = 0;

	/* An index that the driver has passed is as good as none. */
	if (!(vq->o.flags & GM_VIRTQ_EVENT))
		rc = gm_cache_write_le16(&vq->device, view, FLAGS, (uint16_t)(on ? 0 : NO_KICK));
	else if (on)
		rc = gm_cache_write_le16(&vq->device, view, avail_event(vq), vq->next);
	if (rc || !on)
		return rc;
	/* Either the driver sees what was written, or its index is seen here. */
	virtq_fence();
	rc = look(vq, view);
	return rc ? rc : vq->seen != vq->next;
}

const struct virtq_ring gm_virtq_split = {
	.start = start,
	.base = base,
	.pop = pop,
	.unpop = unpop,
	.emit = emit,
	.flush = flush,
	.wants_call = wants_call,
	.kicks = kicks,
};
