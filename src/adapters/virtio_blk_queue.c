/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_blk_queue.c - turns of a queue: sections in which requests are answered, taken and prepared, and steps of the
 * disk between them, in which no section is held.
 *
 * A turn makes one system call for all that was prepared, publishes the used index once for all that is done, and asks
 * once whether the driver is to be called.
 */
#define GM_NO_INLINE 1
#include "adapters/virtio_blk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "adapters/virtq.h"
#include "core/error.h"
#include "sys/sys.h"

#define DEPTH 128u
#define BATCH 64u
#define STOP_WAIT_NS UINT64_C(200000000)
#define TURNS 16 /* of a run */

/* ---- life ---- */

static void free_queue(struct gm_virtio_blk_queue *q)
{
	if (q->own_channel)
		gm_disk_close(q->channel);
	if (q->reader)
		gm_reader_destroy(q->reader);
	if (q->bounce)
		gm_sys_munmap(q->bounce, BLK_BOUNCE);
	if (q->slots)
		gm_sys_munmap(q->slots, q->depth * sizeof(*q->slots));
	gm_sys_free(q->large_all);
	gm_sys_free(q);
}

static int map_zeroed(size_t len, void **ret)
{
	return gm_sys_mmap(
		NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, ret);
}

/* Pages that nothing uses are never touched. */
static int make_room(struct gm_virtio_blk_queue *q)
{
	void *slots = NULL;
	void *bounce = NULL;
	int rc = map_zeroed(q->depth * sizeof(*q->slots), &slots);

	if (rc)
		return rc;
	q->slots = slots;
	rc = map_zeroed(BLK_BOUNCE, &bounce);
	if (rc)
		return rc;
	q->bounce = bounce;
	q->large_len = q->vq->o.nr > BLK_LARGE_MIN ? q->vq->o.nr : BLK_LARGE_MIN;
	q->large_all =
		gm_sys_alloc_array((size_t)q->large_len * BLK_LARGE, sizeof(struct gm_chain_elem));
	if (!q->large_all)
		return -ENOMEM;
	for (uint32_t i = 0; i < BLK_LARGE; i++)
		q->large[q->nr_large++] = q->large_all + (size_t)i * q->large_len;
	for (uint32_t i = q->depth; i > 0; i--) {
		struct blk_slot *slot = &q->slots[i - 1];

		slot->q = q;
		slot->next = q->free;
		q->free = slot;
	}
	return 0;
}

static int set_up(struct gm_virtio_blk_queue *q, const struct gm_virtio_blk_queue_opts *o,
	struct gm_error *err)
{
	int rc = make_room(q);

	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "block device: no memory for a queue of %u", q->depth);
	rc = gm_reader_create(o->space, "blk", &q->reader, err);
	if (!rc && !o->channel) {
		rc = gm_disk_open(q->blk->disk, q->depth, &q->channel, err);
		q->own_channel = rc == 0;
	}
	return rc;
}

int gm_virtio_blk_queue_create(struct gm_virtio_blk *blk,
	const struct gm_virtio_blk_queue_opts *opts, struct gm_virtio_blk_queue **ret_q,
	struct gm_error *err)
{
	struct gm_virtio_blk_queue_opts o;
	struct gm_virtio_blk_queue *q;
	int rc = gm_opts_copy(&o, sizeof(o), opts, sizeof(o));

	if (rc)
		return gm_opts_error(err, rc, "a queue of a block device");
	if (!o.vq || !o.space || o.depth > DISK_DEPTH_MAX ||
		(o.channel && o.channel->disk != blk->disk))
		return gm_error_set(err, -EINVAL, 0, 0,
			"block device: a queue has a virtqueue, a space, a depth of %u at most, "
			"and a channel to the device's disk",
			DISK_DEPTH_MAX);
	q = gm_sys_alloc(sizeof(*q));
	if (!q)
		return gm_error_set(err, -ENOMEM, 0, 0, "block device: no memory");
	q->blk = blk;
	q->vq = o.vq;
	q->channel = o.channel;
	q->depth = o.depth ? o.depth : DEPTH;
	q->depth = q->depth < o.vq->o.nr ? q->depth : o.vq->o.nr;
	q->batch = o.batch ? o.batch : BATCH;
	q->stats.base = gm_virtq_base(q->vq);
	rc = set_up(q, &o, err);
	if (rc) {
		free_queue(q);
		return rc;
	}
	*ret_q = q;
	return 0;
}

static bool any_sent(const struct gm_virtio_blk_queue *q)
{
	for (uint32_t i = 0; i < q->depth; i++) {
		if (q->slots[i].state == BLK_SENT)
			return true;
	}
	return false;
}

void gm_virtio_blk_queue_destroy(struct gm_virtio_blk_queue *q)
{
	int rc = 0;

	if (!q)
		return;
	q->running = true;
	while (rc >= 0 && any_sent(q)) {
		rc = gm_disk_step(q->channel);
		if (rc == 0 && any_sent(q))
			gm_sys_poll_in(gm_disk_fd(q->channel), -1);
	}
	/* What the kernel may still write to stays mapped. */
	for (uint32_t i = 0; i < q->depth; i++) {
		struct blk_slot *slot = &q->slots[i];

		for (uint32_t k = 0; slot->state != BLK_SENT && k < slot->nr_pins; k++)
			gm_pin_put(&slot->pins[k]);
	}
	free_queue(q);
}

int gm_virtio_blk_fd(const struct gm_virtio_blk_queue *q)
{
	return gm_disk_fd(q->channel);
}

void gm_virtio_blk_pause(struct gm_virtio_blk_queue *q, bool on)
{
	q->paused = on;
}

/* ---- taking ---- */

/* The elements were read into the first free large array; few of them move to the slot. */
static void keep_elems(struct gm_virtio_blk_queue *q, struct blk_slot *slot)
{
	struct gm_chain *chain = &slot->item.chain;

	if (chain->nr <= BLK_SMALL) {
		memcpy(slot->small, chain->elems, chain->nr * sizeof(*chain->elems));
		chain->elems = slot->small;
		slot->large = NULL;
	} else {
		slot->large = q->large[--q->nr_large];
	}
}

static bool may_take(const struct gm_virtio_blk_queue *q)
{
	return !q->paused && q->free && q->nr_large;
}

/* Number of requests that were taken: q->batch, or all that were there, or as many as there is room for. */
static uint32_t take(
	struct gm_virtio_blk_queue *q, const struct gm_view *view, struct gm_error *err)
{
	uint32_t nr = 0;

	while (nr < q->batch && may_take(q)) {
		struct blk_slot *slot = q->free;
		int rc = gm_virtq_pop(
			q->vq, view, q->large[q->nr_large - 1], q->large_len, &slot->item, err);

		if (rc <= 0) {
			q->rc = rc ? rc : q->rc;
			break;
		}
		q->free = slot->next;
		gm_blk_note_taken(q, slot);
		nr++;
		keep_elems(q, slot);
		slot->state = BLK_TAKEN;
		gm_blk_go_on(q, view, slot);
	}
	return nr;
}

static void set_kicks(struct gm_virtio_blk_queue *q, const struct gm_view *view, bool on)
{
	int rc = gm_virtq_kicks(q->vq, view, on);

	if (rc < 0)
		q->rc = rc;
	else
		q->kicks = on;
}

/* True if nothing is there, and a kick will come with what comes. */
static bool is_asleep(struct gm_virtio_blk_queue *q, const struct gm_view *view)
{
	int rc;

	/* The place of the event moves with the queue. */
	if (q->kicks && !(q->vq->o.flags & GM_VIRTQ_EVENT))
		return true;
	rc = gm_virtq_kicks(q->vq, view, true);
	if (rc < 0)
		q->rc = rc;
	else
		q->kicks = true;
	return rc <= 0;
}

/* ---- turns ---- */

static void show(struct gm_virtio_blk_queue *q, const struct gm_view *view, int *bits)
{
	int rc = gm_virtq_flush(q->vq, view);

	if (rc) {
		q->rc = rc;
		return;
	}
	blk_count(&q->stats.shown, 1);
	q->filled = 0;
	rc = gm_virtq_wants_call(q->vq, view);
	if (rc < 0)
		q->rc = rc;
	if (rc > 0)
		blk_count(&q->stats.wanted, 1);
	*bits |= rc ? GM_VIRTIO_BLK_CALL : 0;
}

/* What waits is tried once: what waits again is behind the others. */
static void go_on_waiting(struct gm_virtio_blk_queue *q, const struct gm_view *view)
{
	struct blk_slot *last = q->waiting.first ? q->waiting.last : NULL;
	struct blk_slot *slot;

	while (last && (slot = blk_take(&q->waiting))) {
		const bool is_last = slot == last;

		gm_blk_go_on(q, view, slot);
		if (is_last)
			break;
	}
}

/* A section. True if there may be more to take. */
static bool turn(struct gm_virtio_blk_queue *q, const struct gm_view *view, uint32_t flags,
	int *bits, struct gm_error *err)
{
	struct blk_slot *slot;
	uint32_t nr = 0;
	bool more = true;

	q->now_ns = 0;
	while ((slot = blk_take(&q->done)))
		gm_blk_go_on(q, view, slot);
	go_on_waiting(q, view);
	if (q->filled)
		show(q, view, bits);
	while (more && !q->rc && nr < q->batch && may_take(q)) {
		uint32_t got = take(q, view, err);

		if (got > 1 && q->kicks && !(flags & GM_VIRTIO_BLK_BUSY))
			set_kicks(q, view, false);
		nr += got;
		more = got == q->batch || q->rc;
		if (!more && may_take(q) && !(flags & GM_VIRTIO_BLK_BUSY))
			more = !is_asleep(q, view);
	}
	if ((flags & GM_VIRTIO_BLK_BUSY) && q->kicks)
		set_kicks(q, view, false);
	/* What needs no disk. */
	if (q->filled)
		show(q, view, bits);
	__atomic_store_n(&q->stats.base, gm_virtq_base(q->vq), __ATOMIC_RELAXED);
	return more && may_take(q) && !q->rc;
}

static int step(struct gm_virtio_blk_queue *q, int *bits)
{
	int rc;

	q->running = true;
	rc = gm_disk_step(q->channel);
	q->running = false;
	q->sent = 0;
	if (rc > 0)
		*bits |= GM_VIRTIO_BLK_MORE;
	return rc;
}

int gm_virtio_blk_run(struct gm_virtio_blk_queue *q, uint32_t flags, struct gm_error *err)
{
	bool more = false;
	int bits = 0;
	int rc = 0;

	if (flags & ~GM_VIRTIO_BLK_BUSY)
		return gm_error_set(
			err, -EINVAL, 0, 0, "block device: unknown flags 0x%" PRIx32, flags);
	q->rc = 0;
	if (err)
		err->code = 0;
	for (int i = 0; i < TURNS; i++) {
		rc = step(q, &bits);
		if (i && !more && !q->done.first)
			break;
		more = turn(q, gm_reader_enter(q->reader), flags, &bits, err);
		gm_reader_leave(q->reader);
		/* After an error what was sent is seen through: who waits for the ring may not come back soon. */
		if (!q->sent || rc < 0 || ((bits & GM_VIRTIO_BLK_CALL) && !q->rc))
			break;
	}
	if (more || q->sent || q->done.first || q->channel->others)
		bits |= GM_VIRTIO_BLK_MORE;
	q->channel->others = false;
	if (rc < 0 && !q->rc)
		return gm_error_set(err, rc, 0, 0, "block device: its disk can do no more: %s",
			gm_error_word(rc));
	if (q->rc && err && !err->code)
		gm_error_set(err, q->rc, 0, 0, "block device: a ring cannot be reached: %s",
			gm_error_word(q->rc));
	return q->rc ? q->rc : bits;
}

/* ---- stopping ---- */

int gm_virtio_blk_let_go(struct gm_virtio_blk_queue *q, uint32_t timeout_ms, struct gm_error *err)
{
	const uint64_t end = gm_sys_now_ns() + UINT64_C(1000000) * timeout_ms;
	int bits = 0;

	for (;;) {
		uint32_t held = 0;
		int rc;

		for (uint32_t i = 0; i < q->depth; i++)
			held += !gm_blk_let_go(&q->slots[i]);
		if (held == 0)
			return 0;
		if (gm_sys_now_ns() >= end)
			return gm_error_set(err, -ETIMEDOUT, 0, 0,
				"block device: the disk works on memory of %" PRIu32
				" requests after %" PRIu32 " ms",
				held, timeout_ms);
		rc = step(q, &bits);
		if (rc < 0)
			return gm_error_set(err, rc, 0, 0,
				"block device: its disk can do no more: %s", gm_error_word(rc));
		if (rc == 0 && !q->done.first)
			gm_sys_poll_in(gm_disk_fd(q->channel), 10);
	}
}

static bool is_at_work(const struct gm_virtio_blk_queue *q)
{
	for (uint32_t i = 0; i < q->depth; i++) {
		if (q->slots[i].state == BLK_SENT)
			return true;
	}
	return q->done.first;
}

int gm_virtio_blk_stop(struct gm_virtio_blk_queue *q, uint32_t timeout_ms, uint32_t *ret_base,
	struct gm_error *err)
{
	uint64_t worked = gm_sys_now_ns();
	uint64_t end = worked + UINT64_C(1000000) * timeout_ms;
	int call = 0;
	int rc;

	q->paused = true;
	for (;;) {
		rc = gm_virtio_blk_run(q, GM_VIRTIO_BLK_BUSY, err);
		if (rc < 0)
			return rc;
		call |= rc & GM_VIRTIO_BLK_CALL;
		if (q->out == 0)
			break;
		if (gm_sys_now_ns() >= end)
			return gm_error_set(err, -ETIMEDOUT, 0, 0,
				"block device: %" PRIu32 " requests are not done after %" PRIu32
				" ms",
				q->out, timeout_ms);
		if (is_at_work(q))
			worked = gm_sys_now_ns();
		else if (gm_sys_now_ns() - worked > STOP_WAIT_NS)
			return gm_error_set(err, -EAGAIN, 0, 0,
				"block device: %" PRIu32
				" requests wait for translations that do not come",
				q->out);
		/* What waits for a translation has no fd. */
		if (!(rc & GM_VIRTIO_BLK_MORE))
			gm_sys_poll_in(gm_disk_fd(q->channel), 10);
	}
	*ret_base = gm_virtq_base(q->vq);
	return call;
}
