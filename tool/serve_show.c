/* SPDX-License-Identifier: BSD-3-Clause */
/* serve_show.c - what serve has done and has, as JSON and as Prometheus reads it. */
#include <inttypes.h>

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

static json_t *json_buckets(const uint64_t *buckets, uint64_t *ret_count)
{
	json_t *json = json_array();

	*ret_count = 0;
	for (size_t i = 0; i < GM_PAGER_BUCKETS; i++) {
		json_array_append_new(json, tool_json_number(buckets[i]));
		*ret_count += buckets[i];
	}
	return json;
}

static json_t *json_stats(const struct gm_pager_stats *stats)
{
	json_t *json = json_object();
	json_t *by_class = json_object();
	uint64_t count;

	for (size_t i = 0; i < NR_FIGURES; i++)
		json_object_set_new(json, figures[i].name, tool_json_number(value(stats, i)));
	json_object_set_new(json, "latency", json_buckets(stats->latency, &count));
	for (size_t k = 0; k < NR_CLASSES; k++) {
		json_t *below = json_buckets(stats->class_latency[k], &count);

		json_object_set_new(by_class, classes[k],
			json_pack("{s:o, s:f, s:o}", "count", tool_json_number(count),
				"sum_seconds", (double)stats->class_ns[k] / 1e9, "below", below));
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

json_t *serve_json(const struct serve *s)
{
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

static void head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP guestmem_%s %s\n# TYPE guestmem_%s %s\n", name, help, name, type);
}

static void one(FILE *out, const char *name, const char *type, const char *help, uint64_t n)
{
	head(out, name, type, help);
	fprintf(out, "guestmem_%s %" PRIu64 "\n", name, n);
}

/* Which of 2^i us faults of a class took less than. */
static void latency_of(FILE *out, const struct gm_pager_stats *sum, size_t k)
{
	uint64_t below = 0;

	for (size_t i = 0; i < GM_PAGER_BUCKETS; i++) {
		below += sum->class_latency[k][i];
		if (i + 1 < GM_PAGER_BUCKETS)
			fprintf(out,
				"guestmem_fault_seconds_bucket{class=\"%s\",le=\"%.9g\"} %" PRIu64
				"\n",
				classes[k], (double)(UINT64_C(1) << i) / 1e6, below);
	}
	fprintf(out, "guestmem_fault_seconds_bucket{class=\"%s\",le=\"+Inf\"} %" PRIu64 "\n",
		classes[k], below);
	fprintf(out, "guestmem_fault_seconds_sum{class=\"%s\"} %.9f\n", classes[k],
		(double)sum->class_ns[k] / 1e9);
	fprintf(out, "guestmem_fault_seconds_count{class=\"%s\"} %" PRIu64 "\n", classes[k], below);
}

static void latency(FILE *out, const struct gm_pager_stats *sum)
{
	head(out, "fault_seconds", "histogram",
		"pages brought on demand, from reading the fault on, by what they were");
	for (size_t k = 0; k < NR_CLASSES; k++)
		latency_of(out, sum, k);
}

static void guests(const struct serve *s, FILE *out)
{
	static const char *const states[] = {"absent", "present", "removed", "poisoned"};

	head(out, "guest_bytes", "gauge", "memory of a guest by what became of it");
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
	head(out, "guest_resident_seconds", "gauge", "until so much of a guest was not absent");
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

void serve_metrics(const struct serve *s, FILE *out)
{
	struct gm_pager_stats sum = sum_of(s);

	one(out, "guests", "gauge", "guests that are served", s->nr_guests);
	one(out, "guests_total", "counter", "guests that have come", s->guests_all);
	one(out, "refused_total", "counter", "connections and guests that were refused",
		s->refused);
	one(out, "taken_over_total", "counter", "guests that another process served before",
		s->taken_over);
	one(out, "kept", "gauge", "1 if a keeper has all guests", s->keeper >= 0);
	for (size_t i = 0; i < NR_FIGURES; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s_total", figures[i].name);
		one(out, name, "counter", figures[i].help, value(&sum, i));
	}
	latency(out, &sum);
	guests(s, out);
}
