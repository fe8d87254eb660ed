/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq_packed.c - a queue in one ring, which driver and device write in turn; laps are told apart by a bit.
 */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include <endian.h>
#include <errno.h>

#include "adapters/virtq.h"
#include "core/error.h"

#define FLAGS 14u /* of a descriptor */
#define EVENT_ON 0u
#define EVENT_OFF 1u
#define EVENT_AT 2u

void gm_virtq_forward(const struct gm_virtq_opts *o, uint16_t *at, bool *lap, uint32_t slots)
{
	uint32_t to = *at + slots;

	if (to >= o->nr) {
		to -= o->nr;
		*lap = !*lap;
	}
	*at = (uint16_t)to;
}

int gm_virtq_ask(struct gm_cache *area, const struct gm_view *view, const struct gm_virtq_opts *o,
	uint16_t at, bool lap, bool on)
{
	uint32_t event = EVENT_OFF << 16;

	if (on)
		event = o->flags & GM_VIRTQ_EVENT ? EVENT_AT << 16 | (lap ? VIRTQ_LAP : 0) | at
						  : EVENT_ON << 16;
	return gm_cache_store_u32(area, view, 0, __ATOMIC_RELAXED, htole32(event));
}

int gm_virtq_is_asked(struct gm_cache *area, const struct gm_view *view,
	const struct gm_virtq_opts *o, uint16_t at, bool lap, uint64_t news)
{
	uint32_t event;
	uint32_t asked;
	int rc = gm_cache_load_u32(area, view, 0, __ATOMIC_RELAXED, &event);

	if (rc)
		return rc;
	event = le32toh(event);
	asked = event & VIRTQ_PLACE;
	if (event >> 16 == EVENT_OFF)
		return 0;
	if (event >> 16 != EVENT_AT || !(o->flags & GM_VIRTQ_EVENT) || asked >= o->nr)
		return 1;
	if (!(event & VIRTQ_LAP) != !lap)
		return gm_virtq_is_due((uint64_t)at + o->nr - asked, news);
	return asked < at && gm_virtq_is_due(at - asked, news);
}

static int start(
	struct gm_virtq *vq, const struct gm_view *view, uint32_t base, struct gm_error *err)
{
	uint32_t next = base & VIRTQ_PLACE;
	uint32_t used = base >> 16 & VIRTQ_PLACE;

	(void)view;
	if (next >= vq->o.nr || used >= vq->o.nr)
		return gm_error_set(err, -EPROTO, 0, 0,
			"queue: 0x%x is no place of a packed queue of %u entries to begin at", base,
			vq->o.nr);
	vq->next = (uint16_t)next;
	vq->next_wrap = base & VIRTQ_LAP;
	vq->used = (uint16_t)used;
	vq->used_wrap = base >> 16 & VIRTQ_LAP;
	vq->shown = vq->used;
	vq->shown_wrap = vq->used_wrap;
	return 0;
}

static uint32_t base(const struct gm_virtq *vq)
{
	return vq->next | (vq->next_wrap ? VIRTQ_LAP : 0) | (uint32_t)vq->shown << 16 |
	       (vq->shown_wrap ? VIRTQ_LAP << 16 : 0);
}

/* 1 if the driver has made the next entry available. */
static int look(struct gm_virtq *vq, const struct gm_view *view)
{
	uint64_t off = (uint64_t)vq->next * VIRTQ_DESC_SIZE + FLAGS;
	uint16_t flags;
	int rc = gm_cache_load_u16(&vq->desc, view, off, __ATOMIC_ACQUIRE, &flags);

	if (rc)
		return rc;
	flags = le16toh(flags);
	return !!(flags & VIRTQ_DESC_AVAIL) == vq->next_wrap &&
	       !!(flags & VIRTQ_DESC_USED) != vq->next_wrap;
}

static int pop(struct virtq_walk *walk, struct gm_virtq_item *item)
{
	struct gm_virtq *vq = walk->vq;
	uint32_t at = vq->next;
	int rc = look(vq, walk->view);

	if (rc < 0)
		return gm_virtq_unreachable(
			walk, rc, "descriptor", vq->o.desc + (uint64_t)at * VIRTQ_DESC_SIZE);
	if (!rc)
		return 0;
	for (uint32_t slots = 1; slots <= vq->o.nr - vq->out_slots; slots++) {
		struct virtq_desc desc;

		rc = gm_virtq_read_desc(walk, at, &desc);
		if (!rc)
			rc = gm_virtq_walk_desc(walk, &desc, at);
		if (rc)
			return rc;
		/* A table stands alone, which its flags have been looked at for. */
		if (!(desc.flags & VIRTQ_DESC_NEXT)) {
			item->id = desc.id;
			item->slots = (uint16_t)slots;
			vq->out_slots += slots;
			gm_virtq_forward(&vq->o, &vq->next, &vq->next_wrap, slots);
			return 1;
		}
		at = at + 1 == vq->o.nr ? 0 : at + 1;
	}
	return gm_virtq_refuse(walk,
		"the chain of entry %u does not end, %u of %u entries are taken", vq->next,
		vq->out_slots, vq->o.nr);
}

static void unpop(struct gm_virtq *vq, const struct gm_virtq_item *item)
{
	vq->out_slots -= item->slots;
	if (item->slots > vq->next) {
		vq->next = (uint16_t)(vq->next + vq->o.nr);
		vq->next_wrap = !vq->next_wrap;
	}
	vq->next = (uint16_t)(vq->next - item->slots);
}

/* The flags of the first are what shows all of them, so these are written by flush. */
static int emit(struct gm_virtq *vq, const struct gm_view *view, const struct virtq_held *used)
{
	uint64_t off = (uint64_t)vq->used * VIRTQ_DESC_SIZE + 8;
	uint32_t flags = (vq->used_wrap ? VIRTQ_DESC_AVAIL | VIRTQ_DESC_USED : 0) |
			 (used->len ? VIRTQ_DESC_WRITE : 0);
	uint64_t entry = used->len | (uint64_t)used->id << 32;
	bool is_first = vq->nr_filled == vq->nr_shown;
	int rc;

	if (used->slots > vq->out_slots)
		return -EINVAL;
	if (is_first) {
		rc = gm_cache_write_le32(&vq->desc, view, off, used->len);
		if (!rc)
			rc = gm_cache_write_le16(&vq->desc, view, off + 4, used->id);
	} else {
		rc = gm_cache_write_le64(&vq->desc, view, off, entry | (uint64_t)flags << 48);
	}
	if (rc)
		return rc;
	if (is_first)
		vq->first_flags = (uint16_t)flags;
	vq->out_slots -= used->slots;
	gm_virtq_forward(&vq->o, &vq->used, &vq->used_wrap, used->slots);
	return 0;
}

static int flush(struct gm_virtq *vq, const struct gm_view *view)
{
	uint64_t off = (uint64_t)vq->shown * VIRTQ_DESC_SIZE + FLAGS;
	int rc = gm_cache_store_u16(
		&vq->desc, view, off, __ATOMIC_RELEASE, htole16(vq->first_flags));

	if (!rc) {
		vq->shown = vq->used;
		vq->shown_wrap = vq->used_wrap;
	}
	return rc;
}

static int wants_call(struct gm_virtq *vq, const struct gm_view *view)
{
	return gm_virtq_is_asked(
		&vq->driver, view, &vq->o, vq->shown, vq->shown_wrap, vq->nr_shown - vq->nr_told);
}

static int kicks(struct gm_virtq *vq, const struct gm_view *view, bool on)
{
	int rc = gm_virtq_ask(&vq->device, view, &vq->o, vq->next, vq->next_wrap, on);

	if (rc || !on)
		return rc;
	/* Either the driver sees what was written, or its entry is seen here. */
	virtq_fence();
	return look(vq, view);
}

const struct virtq_ring gm_virtq_packed = {
	.start = start,
	.base = base,
	.pop = pop,
	.unpop = unpop,
	.emit = emit,
	.flush = flush,
	.wants_call = wants_call,
	.kicks = kicks,
};
