/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_blk_work.c - a request on its way: parts of it go to the disk, one after the other, then it is answered.
 *
 * A slot is in one place at any time: with the disk (BLK_SENT), in the list of those that the disk has done, in the
 * list of those that wait (for a translation, for the buffer, for room in the channel, for a ring), or free.
 */
#define GM_NO_INLINE 1
#include "adapters/virtio_blk.h"

#include <errno.h>

#include "core/range.h"

static void wait_in(struct blk_slot *slot, enum blk_state state)
{
	slot->state = state;
	blk_put(&slot->q->waiting, slot);
}

/* ---- the answer ---- */

/* Bytes of the writable side, from its first, that are known to be written. */
static uint32_t used_len(const struct blk_slot *slot)
{
	const struct blk_request *r = &slot->r;
	uint64_t written = r->told;

	if (slot->status == BLK_OK && r->kind == BLK_READ)
		written = r->room;
	written += written == r->room;
	return written < UINT32_MAX ? (uint32_t)written : UINT32_MAX;
}

static void give_back(struct blk_slot *slot)
{
	struct gm_virtio_blk_queue *q = slot->q;

	if (slot->large)
		q->large[q->nr_large++] = slot->large;
	slot->large = NULL;
	slot->state = BLK_FREE;
	slot->next = q->free;
	q->free = slot;
	__atomic_store_n(&q->out, q->out - 1, __ATOMIC_RELAXED);
}

static void fill(struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	struct gm_chain status = slot->r.status;
	uint32_t used = used_len(slot);
	int rc = gm_chain_write_u8(&status, view, slot->status);

	if (rc == -EAGAIN) {
		wait_in(slot, BLK_ANSWERED);
		return;
	}
	/* Memory that is not there: the chain goes back as it is. */
	slot->lost = rc;
	rc = gm_virtq_fill(q->vq, view, &slot->item, rc ? 0 : used);
	if (rc) {
		q->rc = rc;
		wait_in(slot, BLK_ANSWERED);
		return;
	}
	if (slot->lost)
		blk_count(&q->stats.unanswered, 1);
	q->filled++;
	give_back(slot);
}

static void answer(struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot,
	uint8_t status)
{
	slot->status = status;
	gm_blk_note_answer(q, slot);
	fill(q, view, slot);
}

/* There is not even room for the status. */
static void give_up(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	int rc = gm_virtq_fill(q->vq, view, &slot->item, 0);

	if (rc) {
		q->rc = rc;
		wait_in(slot, BLK_TAKEN);
		return;
	}
	blk_count(&q->stats.unanswered, 1);
	q->filled++;
	give_back(slot);
}

/* ---- parts ---- */

static void put_pins(struct blk_slot *slot)
{
	for (uint32_t i = 0; i < slot->nr_pins; i++)
		gm_pin_put(&slot->pins[i]);
	slot->nr_pins = 0;
}

/* Nothing was written to them. */
static void drop_pins(struct blk_slot *slot)
{
	for (uint32_t i = 0; i < slot->nr_pins; i++)
		gm_pin_put_written(&slot->pins[i], 0);
	slot->nr_pins = 0;
}

static void on_done(struct gm_disk_req *req, int rc)
{
	struct blk_slot *slot = req->ctx;
	struct gm_virtio_blk_queue *q = slot->q;

	slot->rc = rc;
	slot->state = BLK_DONE;
	blk_put(&q->done, slot);
	if (!q->running)
		q->channel->others = true;
}

static void start_req(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	int rc;

	slot->req.done = on_done;
	slot->req.ctx = slot;
	slot->state = BLK_SENT;
	rc = gm_disk_start(q->channel, &slot->req);
	if (rc == 0) {
		q->sent++;
		return;
	}
	drop_pins(slot);
	if (slot->bounced)
		q->bouncing = NULL;
	slot->bounced = false;
	if (rc == -EAGAIN)
		wait_in(slot, BLK_NEXT);
	else
		answer(q, view, slot, BLK_IOERR);
}

static enum gm_chain_side side_of(const struct blk_request *r)
{
	return r->kind == BLK_READ ? GM_CHAIN_WRITABLE : GM_CHAIN_READABLE;
}

/* Pieces that lie side by side in host addresses are one. */
static uint32_t join(struct iovec *slices, size_t nr)
{
	size_t last = 0;

	for (size_t i = 1; i < nr; i++) {
		if ((char *)slices[last].iov_base + slices[last].iov_len == slices[i].iov_base)
			slices[last].iov_len += slices[i].iov_len;
		else
			slices[++last] = slices[i];
	}
	return (uint32_t)(nr ? last + 1 : 0);
}

/* Can the disk work on the slices? */
static bool serves(const struct gm_virtio_blk *blk, const struct blk_slot *slot)
{
	const struct gm_disk_info *info = &blk->info;
	uintptr_t at = 0;
	size_t len = 0;

	for (uint32_t i = 0; i < slot->req.nr; i++) {
		at |= (uintptr_t)slot->slices[i].iov_base;
		len |= slot->slices[i].iov_len;
	}
	return !(at & (info->mem_align - 1)) && !(len & (info->align - 1));
}

static void send_bounced(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	uint64_t left = slot->r.len - slot->done;
	int rc = 0;

	if (q->bouncing) {
		wait_in(slot, BLK_NEXT);
		return;
	}
	slot->part = left < BLK_BOUNCE ? left : BLK_BOUNCE;
	if (slot->r.kind == BLK_WRITE) {
		struct gm_chain from = slot->r.data;

		rc = gm_chain_read(&from, view, q->bounce, (size_t)slot->part, NULL);
	}
	if (rc == -EAGAIN) {
		wait_in(slot, BLK_NEXT);
		return;
	}
	if (rc) {
		answer(q, view, slot, BLK_IOERR);
		return;
	}
	blk_count(&q->stats.bounced, 1);
	q->bouncing = slot;
	slot->bounced = true;
	slot->slices[0] = (struct iovec){q->bounce, (size_t)slot->part};
	slot->req.nr = 1;
	slot->req.len = slot->part;
	start_req(q, view, slot);
}

static void send_part(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	struct blk_request *r = &slot->r;
	size_t nr = 0;
	int rc = gm_chain_pin(&r->data, side_of(r), view, r->len - slot->done, slot->slices,
		slot->pins, BLK_SLICES, &nr);

	slot->req = (struct gm_disk_req){
		.op = r->kind == BLK_READ ? GM_DISK_READ : GM_DISK_WRITE,
		.flags = r->kind == BLK_WRITE && gm_blk_is_through(q->blk) ? GM_DISK_DURABLE : 0,
		.off = r->off + slot->done,
		.slices = slot->slices,
	};
	slot->nr_pins = (uint32_t)nr;
	if (rc == -EAGAIN) {
		wait_in(slot, BLK_NEXT);
		return;
	}
	if (rc && rc != -ENOTSUP) {
		answer(q, view, slot, BLK_IOERR);
		return;
	}
	for (size_t i = 0; i < nr; i++)
		slot->req.len += slot->slices[i].iov_len;
	slot->req.nr = join(slot->slices, nr);
	if (rc || !serves(q->blk, slot)) {
		drop_pins(slot);
		send_bounced(q, view, slot);
		return;
	}
	slot->part = slot->req.len;
	start_req(q, view, slot);
}

static void send_seg(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	const struct blk_seg *seg = &slot->r.segs[slot->seg];

	slot->req = (struct gm_disk_req){
		.op = slot->r.kind == BLK_ZERO ? GM_DISK_ZERO : GM_DISK_DISCARD,
		.flags = slot->r.kind == BLK_ZERO && seg->unmap ? GM_DISK_FREE : 0,
		.off = seg->off,
		.len = seg->len,
	};
	start_req(q, view, slot);
}

static void send_flush(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	slot->flushing = true;
	slot->req = (struct gm_disk_req){.op = GM_DISK_FLUSH};
	start_req(q, view, slot);
}

static void send_next(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	switch (slot->r.kind) {
	case BLK_READ:
	case BLK_WRITE:
		send_part(q, view, slot);
		return;
	case BLK_FLUSH:
		send_flush(q, view, slot);
		return;
	default:
		if (slot->seg < slot->r.nr_segs)
			send_seg(q, view, slot);
		else
			send_flush(q, view, slot);
		return;
	}
}

/* ---- what the disk has done ---- */

static bool is_over(const struct gm_virtio_blk_queue *q, const struct blk_slot *slot)
{
	const struct blk_request *r = &slot->r;

	if (r->kind == BLK_READ || r->kind == BLK_WRITE)
		return slot->done == r->len;
	if (slot->flushing)
		return true;
	return slot->seg == r->nr_segs && !(r->kind == BLK_ZERO && gm_blk_is_through(q->blk));
}

/* What was read into the buffer goes to the guest. */
static int unload(struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	struct gm_chain to = slot->r.data;
	int rc = 0;

	if (slot->r.kind == BLK_READ && slot->rc == 0)
		rc = gm_chain_write(&to, view, q->bounce, (size_t)slot->part, NULL);
	if (rc == -EAGAIN)
		return rc;
	if (rc)
		slot->rc = rc;
	slot->bounced = false;
	q->bouncing = NULL;
	return 0;
}

static void settle(struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	struct blk_request *r = &slot->r;

	put_pins(slot);
	if (slot->bounced && unload(q, view, slot)) {
		wait_in(slot, BLK_DONE);
		return;
	}
	if (slot->rc) {
		answer(q, view, slot, BLK_IOERR);
		return;
	}
	if (r->kind == BLK_READ || r->kind == BLK_WRITE) {
		slot->done += slot->part;
		if (slot->done < r->len)
			gm_chain_skip(&r->data, side_of(r), slot->part);
	} else if (!slot->flushing) {
		slot->seg++;
	}
	if (is_over(q, slot))
		answer(q, view, slot, BLK_OK);
	else
		send_next(q, view, slot);
}

static void begin(struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	int verdict = gm_blk_look(q->blk, &slot->item.chain, view, &slot->r);

	slot->done = 0;
	slot->seg = 0;
	slot->flushing = false;
	slot->bounced = false;
	if (verdict == -EAGAIN)
		wait_in(slot, BLK_TAKEN);
	else if (verdict < 0)
		give_up(q, view, slot);
	else if (verdict == BLK_WORK)
		send_next(q, view, slot);
	else
		answer(q, view, slot, (uint8_t)verdict);
}

void gm_blk_go_on(struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot)
{
	switch (slot->state) {
	case BLK_TAKEN:
		begin(q, view, slot);
		return;
	case BLK_NEXT:
		send_next(q, view, slot);
		return;
	case BLK_DONE:
		settle(q, view, slot);
		return;
	case BLK_ANSWERED:
		fill(q, view, slot);
		return;
	case BLK_FREE:
	case BLK_SENT:
		return;
	}
}

bool gm_blk_let_go(struct blk_slot *slot)
{
	if (slot->state == BLK_SENT)
		return slot->nr_pins == 0;
	put_pins(slot);
	return true;
}
