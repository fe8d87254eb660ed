/* SPDX-License-Identifier: BSD-3-Clause */
/* serve_show.c - what serve has done and has, as JSON and as Prometheus reads it. */
#include <inttypes.h>

#include "control.h"
#include "json.h"
#include "serve.h"
#include "tool.h"

static struct gm_pager_stats stats_of(const struct serve_guest *g)
{
	struct gm_pager_stats stats = {.size = sizeof(stats)};

	if (g->pager)
		gm_pager_stats(g->pager, &stats);
	return stats;
}

static struct gm_pager_stats sum_of(const struct serve *s)
{
	struct gm_pager_stats sum = s->past;

	for (const struct serve_guest *g = s->guests; g; g = g->next) {
		struct gm_pager_stats stats = stats_of(g);

		if (!g->counted)
			serve_add_stats(&sum, &stats);
	}
	return sum;
}

/* One table for both forms. */
static const struct figure {
	const char *name;
	size_t at;
	const char *help;
} figures[] = {
#define FIGURE(name, help)                                                                         \
	{                                                                                          \
#name, offsetof(struct gm_pager_stats, name), help                                 \
	}
	FIGURE(faults, "page faults that the kernel reported"),
	FIGURE(loaded, "of these, pages brought from the image"),
	FIGURE(zeros, "faults answered with zeros, of pages given back"),
	FIGURE(mapped, "faults on pages that were there and not mapped"),
	FIGURE(duplicates, "faults on pages that somebody was bringing"),
	FIGURE(poisoned, "pages poisoned, as the image could not be read"),
	FIGURE(parked, "installations put off, as an event was unread"),
	FIGURE(again, "times the kernel said so"),
	FIGURE(events, "messages: given back, unmapped, moved"),
	FIGURE(stray, "faults where no mapping was told"),
	FIGURE(bytes_demand, "bytes brought because of a fault"),
	FIGURE(bytes_ahead, "bytes brought ahead of one"),
	FIGURE(bytes_zero, "bytes of both that were zeros"),
#undef FIGURE
};

#define NR_FIGURES (sizeof(figures) / sizeof(figures[0]))

static uint64_t value(const struct gm_pager_stats *stats, size_t i)
{
	return *(const uint64_t *)((const char *)stats + figures[i].at);
}

/* By enum gm_pager_class; a guest of serve has a source. */
static const char *const classes[] = {"zero", "raw", "packed", "remote"};

#define NR_CLASSES (sizeof(classes) / sizeof(classes[0]))

/* ---- JSON ---- */

static struct metrics_times times_of(const struct gm_pager_stats *stats, size_t k)
{
	return (struct metrics_times){
		stats->class_latency[k], GM_PAGER_BUCKETS, stats->class_ns[k]};
}

static json_t *json_stats(const struct gm_pager_stats *stats)
{
	json_t *json = json_object();
	json_t *by_class = json_object();
	uint64_t count;

	for (size_t i = 0; i < NR_FIGURES; i++)
		json_object_set_new(json, figures[i].name, tool_json_number(value(stats, i)));
	json_object_set_new(
		json, "latency", json_buckets(stats->latency, GM_PAGER_BUCKETS, &count));
	for (size_t k = 0; k < NR_CLASSES; k++) {
		struct metrics_times times = times_of(stats, k);

		json_object_set_new(by_class, classes[k], json_times(&times));
	}
	json_object_set_new(json, "latency_by_class", by_class);
	return json;
}

static json_t *milestone(uint64_t ns)
{
	return ns ? json_real((double)ns / 1e9) : json_null();
}

static json_t *json_guest(const struct serve_guest *g)
{
	struct gm_pager_stats stats = stats_of(g);
	struct gm_pager_area_info pages;

	serve_guest_pages(g, &pages);
	return json_pack(
		"{s:i, s:i, s:i, s:b, s:f, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		"guest", (int)g->record.number, "pid", g->record.pid, "uid", (int)g->record.uid,
		"served", g->pager != NULL, "seconds", tool_now() - g->since, "memory",
		tool_json_number(record_bytes(&g->record)), "mappings", (int)g->record.nr, "absent",
		tool_json_number(pages.absent), "present", tool_json_number(pages.present),
		"removed", tool_json_number(pages.removed), "poison",
		tool_json_number(pages.poisoned), "to_half", milestone(stats.half_ns), "to_most",
		milestone(stats.most_ns), "to_all", milestone(stats.all_ns), "counts",
		json_stats(&stats));
}

json_t *serve_json(void *ctx)
{
	const struct serve *s = ctx;
	struct gm_pager_stats sum = sum_of(s);
	json_t *list = json_array();

	for (const struct serve_guest *g = s->guests; g; g = g->next)
		json_array_append_new(list, json_guest(g));
	return json_pack("{s:s, s:s, s:f, s:o, s:o, s:o, s:o, s:o, s:b, s:f, s:o, s:o}", "format",
		s->image.format, "identity", s->image.identity, "seconds", tool_now() - s->begun,
		"guests", tool_json_number(s->nr_guests), "arrived",
		tool_json_number(s->guests_all), "refused", tool_json_number(s->refused),
		"connections", tool_json_number(s->nr_connections), "taken_over",
		tool_json_number(s->taken_over), "kept", s->keeper >= 0, "takeover", s->takeover,
		"counts", json_stats(&sum), "list", list);
}

/* ---- Prometheus ---- */

static void latency(FILE *out, const struct gm_pager_stats *sum)
{
	metrics_head(out, "fault_seconds", "histogram",
		"pages brought on demand, from reading the fault on, by what they were");
	for (size_t k = 0; k < NR_CLASSES; k++) {
		struct metrics_times times = times_of(sum, k);
		char label[32];

		snprintf(label, sizeof(label), "class=\"%s\"", classes[k]);
		metrics_times(out, "fault_seconds", label, &times);
	}
}

static void guests(const struct serve *s, FILE *out)
{
	static const char *const states[] = {"absent", "present", "removed", "poisoned"};

	metrics_head(out, "guest_bytes", "gauge", "memory of a guest by what became of it");
	for (const struct serve_guest *g = s->guests; g; g = g->next) {
		struct gm_pager_area_info pages;
		uint64_t bytes[4];

		serve_guest_pages(g, &pages);
		bytes[0] = pages.absent;
		bytes[1] = pages.present;
		bytes[2] = pages.removed;
		bytes[3] = pages.poisoned;
		for (size_t i = 0; i < 4; i++)
			fprintf(out,
				"guestmem_guest_bytes{guest=\"%u\",pid=\"%d\",state=\"%s\"} "
				"%" PRIu64 "\n",
				g->record.number, g->record.pid, states[i], bytes[i]);
	}
	metrics_head(
		out, "guest_resident_seconds", "gauge", "until so much of a guest was not absent");
	for (const struct serve_guest *g = s->guests; g; g = g->next) {
		struct gm_pager_stats stats = stats_of(g);
		const uint64_t at[] = {stats.half_ns, stats.most_ns, stats.all_ns};
		static const char *const share[] = {"0.5", "0.9", "1"};

		for (size_t i = 0; i < 3; i++) {
			if (at[i])
				fprintf(out,
					"guestmem_guest_resident_seconds{guest=\"%u\",pid=\"%d\","
					"share=\"%s\"} %.9g\n",
					g->record.number, g->record.pid, share[i],
					(double)at[i] / 1e9);
		}
	}
}

void serve_metrics(void *ctx, FILE *out)
{
	const struct serve *s = ctx;
	struct gm_pager_stats sum = sum_of(s);

	metrics_one(out, "guests", "gauge", "guests that are served", s->nr_guests);
	metrics_one(out, "guests_total", "counter", "guests that have come", s->guests_all);
	metrics_one(out, "refused_total", "counter", "connections and guests that were refused",
		s->refused);
	metrics_one(out, "taken_over_total", "counter", "guests that another process served before",
		s->taken_over);
	metrics_one(out, "kept", "gauge", "1 if a keeper has all guests", s->keeper >= 0);
	for (size_t i = 0; i < NR_FIGURES; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s_total", figures[i].name);
		metrics_one(out, name, "counter", figures[i].help, value(&sum, i));
	}
	latency(out, &sum);
	guests(s, out);
}
