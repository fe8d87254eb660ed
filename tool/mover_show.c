/* SPDX-License-Identifier: BSD-3-Clause */
/* mover_show.c - what is said of a migration: figures as JSON, as metrics and as text; events; what to do next. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "mover.h"

static void set(json_t *json, const char *name, json_t *value)
{
	json_object_set_new(json, name, value);
}

static void set_number(json_t *json, const char *name, uint64_t n)
{
	set(json, name, tool_json_number(n));
}

/* Of nanoseconds; UINT64_MAX: not known. */
static void set_seconds(json_t *json, const char *name, uint64_t ns)
{
	set(json, name, ns == UINT64_MAX ? json_null() : json_real((double)ns / 1e9));
}

/* The upper bound of the bucket in which the answer of that place is, in us. */
static uint64_t percentile(const struct gm_migrate_stats *s, uint32_t percent)
{
	uint64_t all = 0;
	uint64_t seen = 0;

	for (uint32_t i = 0; i < GM_MIGRATE_BUCKETS; i++)
		all += s->request_latency[i];
	for (uint32_t i = 0; all && i < GM_MIGRATE_BUCKETS; i++) {
		seen += s->request_latency[i];
		if (seen * 100 >= all * percent)
			return i + 1 < GM_MIGRATE_BUCKETS ? UINT64_C(1) << i : UINT64_MAX;
	}
	return UINT64_MAX;
}

static json_t *requests(const struct gm_migrate_stats *s)
{
	uint64_t answered;
	json_t *json = json_object();
	json_t *below = json_buckets(s->request_latency, GM_MIGRATE_BUCKETS, &answered);

	set_number(json, "asked", s->requests);
	set_number(json, "answered", answered);
	set(json, "mean_us",
		answered ? json_real((double)s->request_ns / 1e3 / (double)answered) : json_null());
	set_number(json, "p50_us", percentile(s, 50));
	set_number(json, "p90_us", percentile(s, 90));
	set_number(json, "p99_us", percentile(s, 99));
	set(json, "below", below);
	return json;
}

static void set_why(json_t *json, struct mover *m, uint32_t state, int rc, const char *why)
{
	char *text = mover_why(m, state, rc, why);

	set(json, "error", rc ? json_string(strerror(-rc)) : json_null());
	set(json, "why", text[0] ? tool_json_text(text) : json_null());
	free(text);
}

static const char *runs(uint32_t number)
{
	return number == GM_MIGRATE_RUNS_YES ? "yes" : number == GM_MIGRATE_RUNS_MAY ? "may" : "no";
}

static void add_figures(struct mover *m, const struct gm_migrate_stats *s, json_t *json)
{
	set(json, "state", json_string(gm_migrate_state_name(s->state)));
	set(json, "runs", json_string(runs(s->runs)));
	set_number(json, "line", s->epoch);
	set_number(json, "round", s->round);
	set_number(json, "memory", s->memory);
	set_number(json, m->out ? "left" : "missing", s->left);
	set_number(json, m->out ? "sent" : "received", s->pages);
	set_number(json, "zeros", s->zeros);
	set_number(json, "packed", s->packed);
	set_number(json, "wire", s->wire);
	set_number(json, "lost", s->lost);
	set_number(json, "rate", s->rate);
	set_seconds(json, "downtime", s->downtime_ns ? s->downtime_ns : UINT64_MAX);
	set_seconds(json, "total", s->total_ns);
	if (m->out) {
		set_number(json, "again", s->again);
		set_number(json, "dirty_rate", s->dirty_rate);
		set_seconds(json, "expected_downtime", s->expected_downtime_ns);
		set_seconds(json, "expected_end", s->expected_end_ns);
		set_number(json, "throttle", s->throttle);
	} else {
		set(json, "requests", requests(s));
		set_number(json, "twice", s->twice);
		set_number(json, "dropped", s->dropped);
		set_number(json, "stray", s->stray);
	}
	set_why(json, m, s->state, s->rc, s->why);
}

json_t *mover_json(void *ctx)
{
	struct mover *m = ctx;
	struct gm_migrate_stats stats;
	json_t *json = json_object();

	set(json, "role",
		m->out  ? json_string("source")
		: m->in ? json_string("destination")
			: json_null());
	set(json, "address",
		m->out  ? tool_json_text(m->to_text)
		: m->in ? tool_json_text(m->name)
			: json_null());
	if (mover_stats(m, &stats) == 0)
		add_figures(m, &stats, json);
	else
		set(json, "state", json_string(gm_migrate_state_name(GM_MIGRATE_IS_IDLE)));
	return json;
}

void mover_metrics(void *ctx, FILE *out)
{
	struct mover *m = ctx;
	struct gm_migrate_stats s;
	bool well = mover_stats(m, &s) == 0;

	metrics_one(out, "migrate_state", "gauge",
		"State of the migration, as gm_migrate(3) numbers them.", well ? s.state : 0);
	if (!well)
		return;
	metrics_one(out, "migrate_memory_bytes", "gauge", "Memory that is to go.", s.memory);
	metrics_one(out, "migrate_left_bytes", "gauge", "Of it, what is not there yet.", s.left);
	metrics_one(
		out, "migrate_pages_bytes_total", "counter", "Pages that went, or came.", s.pages);
	metrics_one(
		out, "migrate_wire_bytes_total", "counter", "Bytes on all connections.", s.wire);
	metrics_one(out, "migrate_lost_bytes", "gauge", "Pages that are lost.", s.lost);
	metrics_one(
		out, "migrate_requests_total", "counter", "Pages that were asked for.", s.requests);
	if (!m->in)
		return;
	metrics_head(out, "migrate_request_seconds", "histogram",
		"Time until a page that was asked for was there.");
	metrics_times(out, "migrate_request_seconds", "role=\"destination\"",
		&(struct metrics_times){s.request_latency, GM_MIGRATE_BUCKETS, s.request_ns});
}

/* ---- for people ---- */

/* Of a source in rounds. */
static void show_rates(const struct gm_migrate_stats *s, FILE *out)
{
	char bytes[TOOL_UNIT_CAP];

	if (s->state != GM_MIGRATE_IS_PRECOPY || s->expected_downtime_ns == UINT64_MAX)
		return;
	fprintf(out, "%s/s written anew; it would stand still for %.3f s",
		tool_bytes(s->dirty_rate, bytes), (double)s->expected_downtime_ns / 1e9);
	if (s->expected_end_ns == UINT64_MAX)
		fputs(", and the rounds do not come to an end by themselves\n", out);
	else
		fprintf(out, ", and be there in %.1f s\n", (double)s->expected_end_ns / 1e9);
}

void mover_text(void *ctx, FILE *out)
{
	struct mover *m = ctx;
	struct gm_migrate_stats s;
	char bytes[5][TOOL_UNIT_CAP];
	char *next;
	char *why;

	if (mover_stats(m, &s) < 0) {
		fputs("no migration\n", out);
		return;
	}
	fprintf(out, "%s: %s, line %" PRIu32 ", round %" PRIu32 "\n",
		m->out ? "source" : "destination", gm_migrate_state_name(s.state), s.epoch,
		s.round);
	fprintf(out, "%s %s, %s %s of %s, %s on the wire, %s/s\n", m->out ? "sent" : "received",
		tool_bytes(s.pages, bytes[0]), m->out ? "left" : "missing",
		tool_bytes(s.left, bytes[1]), tool_bytes(s.memory, bytes[2]),
		tool_bytes(s.wire, bytes[3]), tool_bytes(s.rate, bytes[4]));
	show_rates(&s, out);
	if (m->in && s.requests)
		fprintf(out,
			"%" PRIu64 " requests: half in less than %" PRIu64
			" us, 9 of 10 in less than %" PRIu64 " us, 99 of 100 in %" PRIu64 " us\n",
			s.requests, percentile(&s, 50), percentile(&s, 90), percentile(&s, 99));
	if (s.downtime_ns)
		fprintf(out, "it stood still for %.6f s\n", (double)s.downtime_ns / 1e9);
	if (s.lost)
		fprintf(out, "lost %s\n", tool_bytes(s.lost, bytes[0]));
	if (s.stray)
		fprintf(out, "%" PRIu64 " connections were refused\n", s.stray);
	why = mover_why(m, s.state, s.rc, s.why);
	if (why[0])
		fprintf(out, "why: %s\n", why);
	free(why);
	next = mover_advice(m, s.state);
	if (next)
		fprintf(out, "%s\n", next);
	free(next);
}

/* ---- events ---- */

void mover_say(struct mover *m, const char *what, const struct gm_migrate_event *event)
{
	struct gm_migrate_stats stats;
	json_t *json = json_object();
	char *line;
	char *text;

	set(json, "event", json_string(what));
	set(json, "seconds", json_real(tool_now() - m->begun));
	if (mover_stats(m, &stats) == 0)
		add_figures(m, &stats, json);
	if (strcmp(what, "listening") == 0)
		set(json, "address", tool_json_text(m->name));
	if (event) {
		char *next = mover_advice(m, event->state);

		set(json, "state", json_string(gm_migrate_state_name(event->state)));
		set(json, "next", next ? json_string(next) : json_null());
		if (event->rc || (event->why && event->why[0]))
			set_why(json, m, event->state, event->rc, event->why ? event->why : "");
		if (event->tell == GM_MIGRATE_TOLD_PAGES) {
			set_number(json, "gpa", event->gpa);
			set_number(json, "length", event->len);
		}
		free(next);
	}
	text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
	line = tool_printf("%s\n", text ? text : "{}");
	control_say(m->control, line);
	if (m->events && !tool_json_write(json_incref(json), m->events, true))
		m->events = NULL;
	free(text);
	free(line);
	json_decref(json);
}

/* What whoever started the process is told, beside who listens. */
static void note(struct mover *m, const struct gm_migrate_event *e)
{
	char *why = mover_why(m, e->state, e->rc, e->why ? e->why : "");
	char *next = e->tell == GM_MIGRATE_TOLD_LOST || e->tell == GM_MIGRATE_TOLD_FAILED
			     ? mover_advice(m, e->state)
			     : NULL;

	if (e->tell == GM_MIGRATE_TOLD_PAGES)
		tool_error("migrate: 0x%" PRIx64 " bytes of memory from 0x%" PRIx64 " on are lost",
			e->len, e->gpa);
	else if (e->tell == GM_MIGRATE_TOLD_FAILED && e->state == GM_MIGRATE_IS_RECLAIMED)
		tool_note("reclaimed: %s", why);
	else if (e->tell == GM_MIGRATE_TOLD_FAILED && !next)
		tool_error("migrate: %s: %s", gm_migrate_state_name(e->state), why);
	else if (next)
		tool_note("%s%s%s", why, why[0] ? ": " : "", next);
	free(next);
	free(why);
}

void mover_told(void *ctx, const struct gm_migrate_event *event)
{
	static const char *const names[] = {
		[GM_MIGRATE_TOLD_STATE] = "state",
		[GM_MIGRATE_TOLD_ROUND] = "round",
		[GM_MIGRATE_TOLD_LOST] = "lost",
		[GM_MIGRATE_TOLD_RUNS] = "runs",
		[GM_MIGRATE_TOLD_FAILED] = "failed",
		[GM_MIGRATE_TOLD_ENDED] = "ended",
		[GM_MIGRATE_TOLD_PAGES] = "pages",
		[GM_MIGRATE_TOLD_PEER] = "peer",
	};
	struct mover *m = ctx;
	uint32_t tell = event->tell;
	bool back = tell == GM_MIGRATE_TOLD_FAILED && event->state == GM_MIGRATE_IS_RECLAIMED;

	m->accepted |= event->state >= GM_MIGRATE_IS_PRECOPY && event->state <= GM_MIGRATE_IS_ENDED;
	if (!m->quiet || tell == GM_MIGRATE_TOLD_FAILED)
		note(m, event);
	if (tell < sizeof(names) / sizeof(names[0]) && names[tell])
		mover_say(m, back ? "reclaimed" : names[tell], event);
}
