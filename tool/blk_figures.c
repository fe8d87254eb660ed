/* SPDX-License-Identifier: BSD-3-Clause */
/* blk_figures.c - see blk_figures.h: what is gathered, and the control socket. */
#include "blk_figures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <guestmem/residency.h>

#include "blk.h"
#include "tool.h"

#define LOOK_EVERY 1.0
#define LOOK_SHARE 20 /* looking takes at most one part in so many */

/* ---- queues ---- */

static void add_stats(struct gm_virtio_blk_stats *sum, const struct gm_virtio_blk_stats *more)
{
	const uint64_t *from = (const uint64_t *)more;
	uint64_t *to = (uint64_t *)sum;

	/* Behind the size all are counters, but for the last. */
	for (size_t i = 1; i < sizeof(*sum) / sizeof(*to) - 1; i++)
		to[i] += from[i];
	sum->base = more->base;
}

_Static_assert(offsetof(struct gm_virtio_blk_stats, base) + sizeof(uint64_t) ==
		       sizeof(struct gm_virtio_blk_stats),
	"no counter");

static void add_latency(struct gm_virtio_blk_latency *sum, const struct gm_virtio_blk_latency *more)
{
	for (size_t k = 0; k < GM_VIRTIO_BLK_KINDS; k++) {
		for (size_t i = 0; i < GM_VIRTIO_BLK_BUCKETS; i++)
			sum->buckets[k][i] += more->buckets[k][i];
		sum->ns[k] += more->ns[k];
	}
}

void blk_totals_add(struct blk_totals *past, const struct gm_virtio_blk_queue *q)
{
	struct gm_virtio_blk_stats stats = {.size = sizeof(stats)};
	struct gm_virtio_blk_latency latency = {.size = sizeof(latency)};

	gm_virtio_blk_stats(q, &stats);
	gm_virtio_blk_latency(q, &latency);
	add_stats(&past->stats, &stats);
	add_latency(&past->latency, &latency);
}

static void gather_queue(const struct blk_queue *q, struct blk_totals *ret)
{
	*ret = q->past;
	ret->kicks = __atomic_load_n(&q->kicks, __ATOMIC_RELAXED);
	ret->polls = __atomic_load_n(&q->polls, __ATOMIC_RELAXED);
	ret->wrong = __atomic_load_n(&q->wrong, __ATOMIC_RELAXED);
	ret->runs = q->runs;
	if (!q->runs)
		return;
	blk_totals_add(ret, q->q);
	ret->out = gm_virtio_blk_out(q->q);
}

/* ---- what takes time ---- */

static uint64_t present_of(struct blk *b, uint64_t id)
{
	struct gm_region_info region = {.size = sizeof(region)};
	struct gm_usage usage = {.size = sizeof(usage)};

	if (!b->looks->residency ||
		gm_space_region(gm_vhost_backend_space(b->backend), id, &region) || !region.hva ||
		gm_residency_usage(
			b->looks->residency, (uintptr_t)region.hva, region.len, 0, &usage, NULL))
		return UINT64_MAX;
	return usage.present;
}

static ptrdiff_t read_log(void *ctx, uint64_t off, void *buf, size_t len)
{
	struct blk *b = ctx;
	int rc = gm_vhost_backend_log(b->backend, off, buf, len);

	return rc ? rc : (ptrdiff_t)len;
}

static void look_at_log(struct blk *b, const struct gm_vhost_backend_info *info)
{
	struct blk_looks *looks = b->looks;
	const bool other =
		info->log_len != looks->log_len || info->connections != looks->connection;

	if (other)
		dirty_begin(&looks->dirty);
	looks->log_len = info->log_len;
	looks->connection = info->connections;
	if (info->log_len)
		dirty_look(&looks->dirty, info->log_len, read_log, b);
	/* When it began is not known. */
	if (other)
		looks->dirty.rate = 0;
}

static void look(struct blk *b, const struct gm_vhost_backend_info *info)
{
	struct blk_looks *looks = b->looks;
	const double now = tool_now();

	if (looks->at > 0 && now - looks->at < LOOK_EVERY + LOOK_SHARE * looks->took)
		return;
	looks->nr = 0;
	for (uint32_t i = 0; i < info->regions && i < GM_VHOST_SLOTS_MAX; i++) {
		struct gm_vhost_backend_region region = {.size = sizeof(region)};

		if (gm_vhost_backend_region(b->backend, i, &region))
			break;
		looks->ids[i] = region.id;
		looks->present[i] = present_of(b, region.id);
		looks->nr++;
	}
	look_at_log(b, info);
	looks->at = tool_now();
	looks->took = looks->at - now;
}

/* ---- the socket ---- */

static void gather(struct blk *b, struct blk_figures *ret)
{
	*ret = (struct blk_figures){
		.b = b,
		.info.size = sizeof(ret->info),
		.disk.size = sizeof(ret->disk),
		.looks = b->looks,
		.queues = tool_alloc(b->opts.queues, sizeof(*ret->queues)),
	};
	gm_vhost_backend_info(b->backend, &ret->info);
	gm_disk_look(b->disk, &ret->disk);
	look(b, &ret->info);
	for (uint32_t i = 0; i < b->opts.queues; i++)
		gather_queue(&b->queues[i], &ret->queues[i]);
}

static json_t *answer_json(void *ctx)
{
	struct blk_figures f;
	json_t *json;

	gather(ctx, &f);
	json = blk_json(&f);
	free(f.queues);
	return json;
}

static void answer_metrics(void *ctx, FILE *out)
{
	struct blk_figures f;

	gather(ctx, &f);
	blk_metrics(&f, out);
	free(f.queues);
}

static void answer_text(void *ctx, FILE *out)
{
	struct blk_figures f;

	gather(ctx, &f);
	blk_text(&f, out);
	free(f.queues);
}

static void on_control(void *ctx)
{
	const struct blk *b = ctx;

	control_turn(b->control);
}

bool blk_control_begin(struct blk *b)
{
	static const struct control_ops ops = {answer_json, answer_metrics, answer_text};
	int rc;

	b->begun = tool_now();
	if (!control_open(b->opts.control, &ops, b, &b->control))
		return false;
	if (!b->control)
		return true;
	b->looks = tool_alloc(1, sizeof(*b->looks));
	/* Without it no bytes are called present, and all else is told. */
	gm_residency_open(0, &b->looks->residency, NULL);
	rc = gm_vhost_server_watch(b->server, control_fd(b->control), on_control, b);
	if (rc < 0)
		tool_error("the control socket cannot be waited for: %s", strerror(-rc));
	return rc == 0;
}

void blk_control_end(struct blk *b)
{
	if (b->control)
		gm_vhost_server_unwatch(b->server, control_fd(b->control));
	control_close(b->control);
	if (!b->looks)
		return;
	gm_residency_close(b->looks->residency);
	dirty_free(&b->looks->dirty);
	free(b->looks);
}
