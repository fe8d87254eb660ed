/* SPDX-License-Identifier: BSD-3-Clause */
/* control_metrics.c - figures as Prometheus reads them; times by powers of two, in both forms. */
#include <inttypes.h>

#include "control.h"
#include "json.h"

void metrics_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP guestmem_%s %s\n# TYPE guestmem_%s %s\n", name, help, name, type);
}

void metrics_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_head(out, name, type, help);
	fprintf(out, "guestmem_%s %" PRIu64 "\n", name, value);
}

void metrics_value(FILE *out, const char *name, const char *labels, uint64_t value)
{
	fprintf(out, "guestmem_%s{%s} %" PRIu64 "\n", name, labels, value);
}

void metrics_times(
	FILE *out, const char *name, const char *labels, const struct metrics_times *times)
{
	uint64_t below = 0;

	for (uint32_t i = 0; i < times->nr; i++) {
		below += times->buckets[i];
		if (i + 1 < times->nr)
			fprintf(out, "guestmem_%s_bucket{%s,le=\"%.9g\"} %" PRIu64 "\n", name,
				labels, (double)(UINT64_C(1) << i) / 1e6, below);
	}
	fprintf(out, "guestmem_%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels, below);
	fprintf(out, "guestmem_%s_sum{%s} %.9f\n", name, labels, (double)times->ns / 1e9);
	fprintf(out, "guestmem_%s_count{%s} %" PRIu64 "\n", name, labels, below);
}

json_t *json_buckets(const uint64_t *buckets, uint32_t nr, uint64_t *ret_count)
{
	json_t *json = json_array();

	*ret_count = 0;
	for (uint32_t i = 0; i < nr; i++) {
		json_array_append_new(json, tool_json_number(buckets[i]));
		*ret_count += buckets[i];
	}
	return json;
}

json_t *json_times(const struct metrics_times *times)
{
	uint64_t count;
	json_t *below = json_buckets(times->buckets, times->nr, &count);

	return json_pack("{s:o, s:f, s:o}", "count", tool_json_number(count), "sum_seconds",
		(double)times->ns / 1e9, "below", below);
}
