/* SPDX-License-Identifier: BSD-3-Clause */
/* blk_metrics.c - figures of "guestmem blk" as Prometheus reads them. */
#include <inttypes.h>

#include "blk.h"
#include "json.h"
#include "vhost_report.h"

/* One figure of all queues and kinds. */
static void by_kind(const struct blk_figures *f, FILE *out, const char *name, const char *help,
	uint64_t (*value)(const struct blk_totals *q, size_t kind))
{
	metrics_head(out, name, "counter", help);
	for (uint32_t i = 0; i < f->b->opts.queues; i++) {
		for (size_t k = 0; k < GM_VIRTIO_BLK_KINDS; k++) {
			char labels[64];

			snprintf(labels, sizeof(labels), "queue=\"%u\",kind=\"%s\"", i,
				blk_kinds[k]);
			metrics_value(out, name, labels, value(&f->queues[i], k));
		}
	}
}

static uint64_t requests_of(const struct blk_totals *q, size_t kind)
{
	return q->stats.requests[kind];
}

static uint64_t errors_of(const struct blk_totals *q, size_t kind)
{
	return q->stats.failed[kind];
}

static uint64_t bytes_of(const struct blk_totals *q, size_t kind)
{
	return blk_bytes(&q->stats, kind);
}

/* Of what there was none there are no lines: there are 32 a kind. */
static void times(const struct blk_figures *f, FILE *out)
{
	metrics_head(out, "blk_request_seconds", "histogram",
		"requests, from being taken to being answered");
	for (uint32_t i = 0; i < f->b->opts.queues; i++) {
		const struct blk_totals *q = &f->queues[i];

		for (size_t k = 0; k < GM_VIRTIO_BLK_KINDS; k++) {
			const struct metrics_times times = {
				q->latency.buckets[k], GM_VIRTIO_BLK_BUCKETS, q->latency.ns[k]};
			char labels[64];

			if (!q->stats.requests[k])
				continue;
			snprintf(labels, sizeof(labels), "queue=\"%u\",kind=\"%s\"", i,
				blk_kinds[k]);
			metrics_times(out, "blk_request_seconds", labels, &times);
		}
	}
}

enum { IN_FLIGHT, RUNS, KICKS, POLLS, CALLS, SUPPRESSED, BAD, UNANSWERED, WRONG, BOUNCED, FIGURES };

static const struct {
	const char *name;
	const char *type;
	const char *help;
} figures[FIGURES] = {
	[IN_FLIGHT] = {"blk_in_flight", "gauge", "requests that were taken and not answered"},
	[RUNS] = {"blk_queue_runs", "gauge", "1 if the queue is served"},
	[KICKS] = {"blk_kicks_total", "counter", "kicks of the driver"},
	[POLLS] = {"blk_polls_total", "counter", "looks at the queue without a kick (--poll)"},
	[CALLS] = {"blk_calls_total", "counter", "interrupts that were sent"},
	[SUPPRESSED] = {"blk_calls_suppressed_total", "counter",
		"batches of answers for which the driver wanted none"},
	[BAD] = {"blk_bad_total", "counter", "requests that broke a rule"},
	[UNANSWERED] = {"blk_unanswered_total", "counter", "chains without room for an answer"},
	[WRONG] = {"blk_wrong_total", "counter", "times that a driver broke a rule of the ring"},
	[BOUNCED] = {"blk_bounced_total", "counter",
		"parts of requests that went through a buffer"},
};

static void queues(const struct blk_figures *f, FILE *out)
{
	for (size_t n = 0; n < FIGURES; n++) {
		metrics_head(out, figures[n].name, figures[n].type, figures[n].help);
		for (uint32_t i = 0; i < f->b->opts.queues; i++) {
			struct gm_vhost_backend_ring told = {.size = sizeof(told)};
			const struct blk_totals *q = &f->queues[i];
			char labels[32];
			uint64_t values[FIGURES];

			gm_vhost_backend_ring(f->b->backend, i, &told);
			values[IN_FLIGHT] = q->out;
			values[RUNS] = q->runs;
			values[KICKS] = q->kicks;
			values[POLLS] = q->polls;
			values[CALLS] = told.calls;
			values[SUPPRESSED] = q->stats.shown - q->stats.wanted;
			values[BAD] = q->stats.bad;
			values[UNANSWERED] = q->stats.unanswered;
			values[WRONG] = q->wrong;
			values[BOUNCED] = q->stats.bounced;
			snprintf(labels, sizeof(labels), "queue=\"%u\"", i);
			metrics_value(out, figures[n].name, labels, values[n]);
		}
	}
}

/* ---- the connection ---- */

/* Takes @list, of names. */
static void names(FILE *out, const char *name, const char *help, json_t *list)
{
	metrics_head(out, name, "gauge", help);
	for (size_t i = 0; i < json_array_size(list); i++) {
		char labels[64];

		snprintf(labels, sizeof(labels), "name=\"%s\"",
			json_string_value(json_array_get(list, i)));
		metrics_value(out, name, labels, 1);
	}
	json_decref(list);
}

static void regions(const struct blk_figures *f, FILE *out)
{
	struct gm_vhost_backend_region region = {.size = sizeof(region)};
	char labels[64];

	metrics_head(out, "blk_region_bytes", "gauge", "memory of the front-end");
	for (uint32_t i = 0; gm_vhost_backend_region(f->b->backend, i, &region) == 0; i++) {
		snprintf(labels, sizeof(labels), "gpa=\"0x%" PRIx64 "\"", region.gpa);
		metrics_value(out, "blk_region_bytes", labels, region.len);
	}
	metrics_head(out, "blk_region_present_bytes", "gauge",
		"of these, the ones that are mapped here");
	for (uint32_t i = 0; i < f->looks->nr; i++) {
		if (gm_vhost_backend_region(f->b->backend, i, &region) ||
			region.id != f->looks->ids[i] || f->looks->present[i] == UINT64_MAX)
			continue;
		snprintf(labels, sizeof(labels), "gpa=\"0x%" PRIx64 "\"", region.gpa);
		metrics_value(out, "blk_region_present_bytes", labels, f->looks->present[i]);
	}
}

static void connection(const struct blk_figures *f, FILE *out)
{
	const struct gm_vhost_backend_info *info = &f->info;

	metrics_one(out, "blk_front_end", "gauge", "1 if there is a front-end", info->connected);
	metrics_one(out, "blk_connections_total", "counter", "front-ends that have come",
		info->connections);
	metrics_one(out, "blk_messages_total", "counter", "messages of front-ends", info->messages);
	metrics_one(out, "blk_messages_failed_total", "counter", "of these, the ones that failed",
		info->failed);
	names(out, "blk_feature", "features of virtio that were agreed",
		report_features(info->features, blk_features));
	names(out, "blk_protocol_feature", "features of vhost-user that were agreed",
		report_protocol(info->protocol));
	regions(f, out);
	metrics_one(out, "blk_log_bytes", "gauge", "length of the dirty log, 0: there is none",
		info->log_len);
	metrics_one(out, "blk_log_pages", "gauge", "pages that are marked in it",
		info->log_len ? f->looks->dirty.marked : 0);
	metrics_head(out, "blk_log_pages_per_second", "gauge",
		"of these, the ones that were not at the look before");
	fprintf(out, "guestmem_blk_log_pages_per_second %.9g\n",
		info->log_len ? f->looks->dirty.rate : 0);
	metrics_one(
		out, "blk_translations", "gauge", "of an IOMMU, that are kept", info->translations);
	metrics_one(out, "blk_translation_misses_total", "counter",
		"translations that were asked for", info->misses);
	metrics_one(out, "blk_inflight_bytes", "gauge",
		"area of what is in flight, 0: there is none", info->inflight_len);
}

void blk_metrics(const struct blk_figures *f, FILE *out)
{
	const struct gm_disk_info *disk = &f->disk;
	char labels[128];

	metrics_one(out, "blk_disk_bytes", "gauge", "size of the disk", disk->len);
	metrics_head(out, "blk_disk_info", "gauge", "what the disk is");
	snprintf(labels, sizeof(labels), "engine=\"%s\",direct=\"%d\",read_only=\"%d\"",
		blk_engine(f), (disk->flags & GM_DISK_DIRECT) != 0,
		f->b->opts.read_only || (disk->flags & GM_DISK_READ_ONLY));
	metrics_value(out, "blk_disk_info", labels, 1);
	by_kind(f, out, "blk_requests_total", "requests that were answered", requests_of);
	by_kind(f, out, "blk_errors_total", "of these, the ones with an error", errors_of);
	by_kind(f, out, "blk_bytes_total", "bytes of the ones without", bytes_of);
	times(f, out);
	queues(f, out);
	connection(f, out);
}
