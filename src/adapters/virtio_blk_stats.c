/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_blk_stats.c - what a queue has done, for any thread.
 *
 * One thread at a time writes: it loads and stores without a locked instruction. The clock is read once a turn, when
 * the first request of it is taken or answered.
 */
#include "adapters/virtio_blk.h"

#include <errno.h>

#include "sys/sys.h"

static uint64_t now_of(struct gm_virtio_blk_queue *q)
{
	if (!q->now_ns)
		q->now_ns = gm_sys_now_ns();
	return q->now_ns;
}

void gm_blk_note_taken(struct gm_virtio_blk_queue *q, struct blk_slot *slot)
{
	slot->since = now_of(q);
	__atomic_store_n(&q->out, q->out + 1, __ATOMIC_RELAXED);
}

static uint64_t bytes_of(const struct blk_request *r)
{
	uint64_t len = 0;

	if (r->kind == BLK_READ || r->kind == BLK_WRITE)
		return r->len;
	for (uint32_t i = 0; i < r->nr_segs; i++)
		len += r->segs[i].len;
	return len;
}

void gm_blk_note_answer(struct gm_virtio_blk_queue *q, const struct blk_slot *slot)
{
	const struct blk_request *r = &slot->r;
	struct gm_virtio_blk_stats *stats = &q->stats;
	const uint64_t ns = now_of(q) - slot->since;
	const uint64_t us = ns / 1000;
	uint32_t bucket = us ? 64 - (uint32_t)__builtin_clzll(us) : 0;
	uint64_t *const bytes[] = {
		[BLK_READ] = &stats->read,
		[BLK_WRITE] = &stats->written,
		[BLK_DISCARD] = &stats->discarded,
		[BLK_ZERO] = &stats->zeroed,
		[BLK_OTHER] = NULL,
	};

	bucket = bucket < GM_VIRTIO_BLK_BUCKETS ? bucket : GM_VIRTIO_BLK_BUCKETS - 1;
	blk_count(&q->latency.buckets[r->kind][bucket], 1);
	blk_count(&q->latency.ns[r->kind], ns);
	blk_count(&stats->requests[r->kind], 1);
	if (slot->status == BLK_OK && bytes[r->kind])
		blk_count(bytes[r->kind], bytes_of(r));
	if (slot->status != BLK_OK) {
		blk_count(&stats->failed[r->kind], 1);
		blk_count(&stats->errors, 1);
	}
	if (r->bad)
		blk_count(&stats->bad, 1);
}

/* Of structures that are a size and counters. */
static void copy_counters(void *to, const void *from, size_t size)
{
	const uint64_t *in = from;
	uint64_t *out = to;

	for (size_t i = 1; i < size / sizeof(uint64_t); i++)
		out[i] = __atomic_load_n(&in[i], __ATOMIC_RELAXED);
}

_Static_assert(sizeof(size_t) == sizeof(uint64_t) &&
		       sizeof(struct gm_virtio_blk_stats) % sizeof(uint64_t) == 0 &&
		       sizeof(struct gm_virtio_blk_latency) % sizeof(uint64_t) == 0,
	"copied by numbers of 64 bits");

int gm_virtio_blk_stats(const struct gm_virtio_blk_queue *q, struct gm_virtio_blk_stats *ret)
{
	if (ret->size < sizeof(*ret))
		return -E2BIG;
	copy_counters(ret, &q->stats, sizeof(*ret));
	ret->size = sizeof(*ret);
	return 0;
}

int gm_virtio_blk_latency(const struct gm_virtio_blk_queue *q, struct gm_virtio_blk_latency *ret)
{
	if (ret->size < sizeof(*ret))
		return -E2BIG;
	copy_counters(ret, &q->latency, sizeof(*ret));
	ret->size = sizeof(*ret);
	return 0;
}

uint32_t gm_virtio_blk_out(const struct gm_virtio_blk_queue *q)
{
	return __atomic_load_n(&q->out, __ATOMIC_RELAXED);
}
