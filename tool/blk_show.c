/* SPDX-License-Identifier: BSD-3-Clause */
/* blk_show.c - figures of "guestmem blk" as JSON and as text. */
#include <errno.h>
#include <inttypes.h>

#include "blk.h"
#include "json.h"
#include "vhost_report.h"

#define F_RING_PACKED (UINT64_C(1) << 34)

const char *const blk_kinds[GM_VIRTIO_BLK_KINDS] = {
	[GM_VIRTIO_BLK_READS] = "read",
	[GM_VIRTIO_BLK_WRITES] = "write",
	[GM_VIRTIO_BLK_FLUSHES] = "flush",
	[GM_VIRTIO_BLK_DISCARDS] = "discard",
	[GM_VIRTIO_BLK_ZEROES] = "write_zeroes",
	[GM_VIRTIO_BLK_IDS] = "get_id",
	[GM_VIRTIO_BLK_OTHERS] = "other",
};

const char *const blk_features[REPORT_DEVICE_BITS] = {
	[2] = "SEG_MAX",
	[5] = "RO",
	[6] = "BLK_SIZE",
	[9] = "FLUSH",
	[10] = "TOPOLOGY",
	[11] = "CONFIG_WCE",
	[12] = "MQ",
	[13] = "DISCARD",
	[14] = "WRITE_ZEROES",
};

uint64_t blk_bytes(const struct gm_virtio_blk_stats *stats, size_t kind)
{
	switch (kind) {
	case GM_VIRTIO_BLK_READS:
		return stats->read;
	case GM_VIRTIO_BLK_WRITES:
		return stats->written;
	case GM_VIRTIO_BLK_DISCARDS:
		return stats->discarded;
	case GM_VIRTIO_BLK_ZEROES:
		return stats->zeroed;
	default:
		return 0;
	}
}

const char *blk_engine(const struct blk_figures *f)
{
	if (f->b->file < 0)
		return "nbd";
	if (f->b->opts.plain)
		return "plain";
	/* Which it is turns out when a queue starts. */
	if (!f->b->served)
		return "none yet";
	return f->disk.flags & GM_DISK_BY_URING ? "io_uring" : "plain";
}

/* ---- the connection, as an inspecting proxy would show it ---- */

static json_t *json_region(const struct blk_figures *f, uint32_t i)
{
	struct gm_vhost_backend_region told = {.size = sizeof(told)};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_block_info block = {.size = sizeof(block), .fd = -1};
	struct report_region region;

	if (gm_vhost_backend_region(f->b->backend, i, &told))
		return NULL;
	if (gm_space_region(gm_vhost_backend_space(f->b->backend), told.id, &info) == 0 &&
		info.block)
		gm_block_info(info.block, &block);
	region = (struct report_region){
		.gpa = told.gpa,
		.len = told.len,
		.user = told.user,
		.off = told.off,
		.present = UINT64_MAX,
		.fd = block.fd,
	};
	if (i < f->looks->nr && f->looks->ids[i] == told.id)
		region.present = f->looks->present[i];
	return report_region(&region);
}

/* What nobody waits for. */
static const char *peek(void *ctx, uint64_t addr, void *buf, size_t len)
{
	const struct blk_figures *f = ctx;

	switch (gm_vhost_backend_peek(f->b->backend, addr, buf, len)) {
	case 0:
		return NULL;
	case -ENOENT:
	case -EACCES:
		return "its addresses are not translated now";
	case -EAGAIN:
		return "post-copy is under way";
	default:
		return "no memory that can be read is shared at its addresses";
	}
}

static json_t *json_ring(const struct blk_figures *f, uint32_t i)
{
	struct gm_vhost_backend_ring told = {.size = sizeof(told)};
	const bool packed = f->info.features & F_RING_PACKED;
	struct blk_figures copy = *f;
	struct report_ring ring;
	struct ring_place place;

	if (gm_vhost_backend_ring(f->b->backend, i, &told) || !told.nr ||
		!(told.flags & GM_VHOST_RING_PLACED))
		return NULL;
	place = (struct ring_place){packed, told.nr, told.desc, told.avail, told.used};
	ring = (struct report_ring){
		.index = i,
		.num = told.nr,
		.base = told.base,
		.started = told.flags & GM_VHOST_RING_STARTED,
		.enabled = told.flags & GM_VHOST_RING_ENABLED,
		.logged = told.flags & GM_VHOST_RING_LOGGED,
		.desc = told.desc,
		.avail = told.avail,
		.used = told.used,
	};
	ring_look(&place, peek, &copy, &ring.at);
	if (packed && f->queues[i].runs)
		ring_used_is(&ring.at, (uint32_t)f->queues[i].stats.base);
	return report_ring(&ring);
}

/* Takes @item. */
static void append(json_t *list, json_t *item)
{
	if (item)
		json_array_append_new(list, item);
}

static json_t *json_connection(const struct blk_figures *f)
{
	const struct gm_vhost_backend_info *info = &f->info;
	const bool iommu = info->features & GM_VHOST_F_IOMMU_PLATFORM;
	json_t *regions = json_array();
	json_t *rings = json_array();
	json_t *json;

	for (uint32_t i = 0; i < info->regions; i++)
		append(regions, json_region(f, i));
	for (uint32_t i = 0; i < info->queues; i++)
		append(rings, json_ring(f, i));
	json = json_pack("{s:b, s:o, s:o, s:n, s:o, s:i, s:i, s:o, s:o, s:o, s:o, s:o}",
		"front_end", info->connected, "connections", tool_json_number(info->connections),
		"front_end_messages", tool_json_number(info->messages), "back_end_messages",
		"wrong_messages", tool_json_number(info->failed), "status", (int)info->status,
		"postcopy", (int)info->postcopy, "offered",
		report_features(info->offered, blk_features), "features",
		report_features(info->features, blk_features), "protocol",
		report_protocol(info->protocol), "regions", regions, "rings", rings);
	json_object_set_new(
		json, "translations", iommu ? tool_json_number(info->translations) : json_null());
	json_object_set_new(json, "misses", tool_json_number(info->misses));
	json_object_set_new(json, "log",
		info->log_len ? report_log(info->log_len, &f->looks->dirty) : json_null());
	json_object_set_new(json, "logging", json_boolean(info->logging));
	json_object_set_new(json, "inflight",
		info->inflight_len
			? json_pack("{s:o, s:i, s:i}", "len", tool_json_number(info->inflight_len),
				  "queues", (int)info->inflight_queues, "queue_size",
				  (int)info->inflight_queue_size)
			: json_null());
	return json;
}

/* ---- JSON ---- */

static json_t *json_disk(const struct blk_figures *f)
{
	const struct blk_opts *o = &f->b->opts;
	const struct gm_disk_info *disk = &f->disk;

	return json_pack("{s:o, s:o, s:s, s:b, s:b, s:I}", "file", tool_json_text(o->file), "size",
		tool_json_number(disk->len), "engine", blk_engine(f), "direct",
		(disk->flags & GM_DISK_DIRECT) != 0, "read_only",
		o->read_only || (disk->flags & GM_DISK_READ_ONLY), "block_size",
		(json_int_t)disk->block);
}

static json_t *json_kinds(const struct blk_totals *q)
{
	json_t *json = json_object();

	for (size_t k = 0; k < GM_VIRTIO_BLK_KINDS; k++) {
		const struct metrics_times times = {
			q->latency.buckets[k], GM_VIRTIO_BLK_BUCKETS, q->latency.ns[k]};

		json_object_set_new(json, blk_kinds[k],
			json_pack("{s:o, s:o, s:o, s:o}", "requests",
				tool_json_number(q->stats.requests[k]), "errors",
				tool_json_number(q->stats.failed[k]), "bytes",
				tool_json_number(blk_bytes(&q->stats, k)), "time",
				json_times(&times)));
	}
	return json;
}

static json_t *json_queue(const struct blk_figures *f, uint32_t i)
{
	struct gm_vhost_backend_ring told = {.size = sizeof(told)};
	const struct blk_totals *q = &f->queues[i];
	const struct gm_virtio_blk_stats *s = &q->stats;

	gm_vhost_backend_ring(f->b->backend, i, &told);
	return json_pack("{s:i, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		"queue", (int)i, "runs", q->runs, "in_flight", (int)q->out, "kicks",
		tool_json_number(q->kicks), "polls", tool_json_number(q->polls), "calls",
		tool_json_number(told.calls), "calls_suppressed",
		tool_json_number(s->shown - s->wanted), "errors_told",
		tool_json_number(told.errors), "bad", tool_json_number(s->bad), "unanswered",
		tool_json_number(s->unanswered), "wrong", tool_json_number(q->wrong), "bounced",
		tool_json_number(s->bounced), "kinds", json_kinds(q));
}

json_t *blk_json(const struct blk_figures *f)
{
	json_t *queues = json_array();

	for (uint32_t i = 0; i < f->b->opts.queues; i++)
		json_array_append_new(queues, json_queue(f, i));
	return json_pack("{s:s, s:f, s:o, s:o, s:o}", "device", "blk", "seconds",
		tool_now() - f->b->begun, "disk", json_disk(f), "connection", json_connection(f),
		"queues", queues);
}

/* ---- text ---- */

/* The power of two of a microsecond below which so many of 100 are. */
static uint32_t quantile(const uint64_t *buckets, uint64_t nr, uint64_t percent)
{
	uint64_t below = 0;
	uint32_t i = 0;

	while (i < GM_VIRTIO_BLK_BUCKETS - 1) {
		below += buckets[i];
		if (below * 100 >= nr * percent)
			break;
		i++;
	}
	return i;
}

static void print_kind(FILE *out, const struct blk_totals *q, size_t k)
{
	const uint64_t *buckets = q->latency.buckets[k];
	uint64_t nr = q->stats.requests[k];
	char bytes[TOOL_UNIT_CAP];

	if (!nr)
		return;
	fprintf(out,
		"  %s: %" PRIu64 " requests, %" PRIu64
		" errors, %s, half in less than %llu us, 99 %% in less than %llu us\n",
		blk_kinds[k], nr, q->stats.failed[k], tool_bytes(blk_bytes(&q->stats, k), bytes),
		1ull << quantile(buckets, nr, 50), 1ull << quantile(buckets, nr, 99));
}

static void print_queue(FILE *out, const struct blk_figures *f, uint32_t i)
{
	struct gm_vhost_backend_ring told = {.size = sizeof(told)};
	const struct blk_totals *q = &f->queues[i];

	gm_vhost_backend_ring(f->b->backend, i, &told);
	fprintf(out,
		"queue %u: %s, %u in flight, %" PRIu64 " kicks, %" PRIu64 " polls, %" PRIu64
		" calls, %" PRIu64 " suppressed, %" PRIu64 " bad, %" PRIu64 " unanswered, %" PRIu64
		" wrong, %" PRIu64 " bounced\n",
		i, q->runs ? "runs" : "stands still", q->out, q->kicks, q->polls, told.calls,
		q->stats.shown - q->stats.wanted, q->stats.bad, q->stats.unanswered, q->wrong,
		q->stats.bounced);
	for (size_t k = 0; k < GM_VIRTIO_BLK_KINDS; k++)
		print_kind(out, q, k);
}

void blk_text(const struct blk_figures *f, FILE *out)
{
	const struct gm_disk_info *disk = &f->disk;
	json_t *connection = json_connection(f);
	char size[TOOL_UNIT_CAP];
	char name[4096];

	fprintf(out, "disk: %s, %s, %s%s, %s\n", tool_escape(f->b->opts.file, name, sizeof(name)),
		tool_bytes(disk->len, size), blk_engine(f),
		disk->flags & GM_DISK_DIRECT ? ", direct" : "",
		f->b->opts.read_only || (disk->flags & GM_DISK_READ_ONLY) ? "for reading"
									  : "for writing");
	report_text(connection, out);
	json_decref(connection);
	for (uint32_t i = 0; i < f->b->opts.queues; i++)
		print_queue(out, f, i);
}
