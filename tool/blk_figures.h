/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blk_figures.h - figures of "guestmem blk": gathered by the thread of the socket, which starts and stops queues; the
 * threads of queues only count.
 */
#ifndef TOOL_BLK_FIGURES_H
#define TOOL_BLK_FIGURES_H

#include <guestmem/vhost_look.h>
#include <guestmem/virtio_blk_stats.h>

#include "control.h"
#include "dirty_log.h"
#include "vhost_report.h"

struct blk;
struct gm_residency;

/* What a queue has done since the process began, also in the runs before this one. */
struct blk_totals {
	struct gm_virtio_blk_stats stats; /* base: of this run */
	struct gm_virtio_blk_latency latency;
	uint64_t kicks;
	uint64_t polls;
	uint64_t wrong; /* times that its driver broke a rule of the ring */
	uint32_t out;
	bool runs;
};

/* What takes time to look at: at most once a second, and for at most a twentieth of the time. */
struct blk_looks {
	double at; /* when it was, 0: never */
	double took;
	uint64_t present[GM_VHOST_SLOTS_MAX]; /* by region; UINT64_MAX: not known */
	uint64_t ids[GM_VHOST_SLOTS_MAX];
	uint32_t nr;
	struct dirty_log dirty;
	uint64_t log_len;
	uint64_t connection; /* of the log */
	struct gm_residency *residency;
};

/* All at one moment, but for counters that go on. */
struct blk_figures {
	const struct blk *b;
	struct gm_vhost_backend_info info;
	struct gm_disk_info disk;
	const struct blk_looks *looks;
	struct blk_totals *queues; /* as many as the options say */
};

extern const char *const blk_kinds[GM_VIRTIO_BLK_KINDS];
extern const char *const blk_features[REPORT_DEVICE_BITS];

/* ---- blk_figures.c ---- */
/* False after a message. */
bool blk_control_begin(struct blk *b);
void blk_control_end(struct blk *b);
/* Adds what a queue has counted that is about to be destroyed. */
void blk_totals_add(struct blk_totals *past, const struct gm_virtio_blk_queue *q);

/* ---- blk_show.c ---- */
json_t *blk_json(const struct blk_figures *f);
void blk_text(const struct blk_figures *f, FILE *out);
const char *blk_engine(const struct blk_figures *f);
/* Bytes of a kind of requests. */
uint64_t blk_bytes(const struct gm_virtio_blk_stats *stats, size_t kind);

/* ---- blk_metrics.c ---- */
void blk_metrics(const struct blk_figures *f, FILE *out);

#endif
