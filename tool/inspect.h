/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect.h - the parts of "guestmem inspect".
 *
 * inspect.c reads the command line and measures; inspect_find.c decides which mappings of a process
 * are a guest's memory; inspect_show.c writes what was found. The process is not stopped.
 */
#ifndef TOOL_INSPECT_H
#define TOOL_INSPECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <guestmem/residency.h>
#include <guestmem/waste.h>
#include <jansson.h>

#include "heatmap.h"
#include "tool.h"

struct inspect_opts {
	pid_t pid;
	bool has_range;
	bool all;
	uint64_t range_start;
	uint64_t range_len;
	bool ascii;
	bool quick;
	bool watch;
	double seconds;
	uint64_t count; /* 0: without end */
	const char *json;
	const char *heatmap;
	bool waste;
	bool working_set;
	uint64_t duplicates; /* one of so many contents; 0: not asked */
};

/* A mapping that is shown, and what backs it. */
struct inspect_piece {
	struct gm_mapping mapping; /* start and len as far as they are shown */
	struct gm_usage usage;
	uint64_t allocated; /* of the whole file behind it; UINT64_MAX: not known */
	struct heatmap *map;
	struct gm_waste waste;
	bool has_waste;
};

/* Of the look before. */
struct inspect_before {
	uint64_t minor_faults;
	uint64_t major_faults;
	uint64_t present;
};

struct inspect_result {
	const struct inspect_opts *opts;
	struct gm_process_memory process;
	const char *found_by; /* a sentence */
	struct inspect_piece *pieces;
	size_t nr;
	struct gm_usage total;
	const struct inspect_before *before; /* or NULL */
	uint32_t base_log2;
	uint32_t pmd_log2;
};

/* ---- inspect_find.c: fills pieces[].mapping and found_by; 0 or a negative errno value ---- */
int inspect_find(struct gm_residency *res, struct inspect_result *result);

/* ---- inspect_show.c ---- */
void inspect_print(const struct inspect_result *result);
/* False after a message. */
bool inspect_json(const struct inspect_result *result, struct tool_output *out);
bool inspect_draw(const struct inspect_result *result, struct tool_output *out);

/* ---- inspect_waste.c ---- */
/* 0 or a negative errno value; what cannot be read was complained about. */
int inspect_waste(struct gm_residency *res, const struct inspect_opts *o, struct inspect_piece *p);
void inspect_print_waste(const struct inspect_result *r, const struct inspect_piece *p);
json_t *inspect_json_waste(const struct inspect_result *r, const struct inspect_piece *p);
void inspect_print_counters(const struct inspect_result *r);
void inspect_json_counters(const struct inspect_result *r, json_t *json);

#endif
