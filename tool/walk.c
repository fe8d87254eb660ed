/* SPDX-License-Identifier: BSD-3-Clause */
/* walk.c - "guestmem walk": what sizes of pages cost to translate. */
#include "walk.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const struct tool_option options[] = {
	{"guest", 'g', "SIZES", "the guest's pages: 4K, 64K, 2M, 1G, or a mix such as 4K:1,2M:3"},
	{"host", 'H', "SIZES",
		"the host's pages under the guest's memory; also thp, 2M of which\n"
		"the kernel keeps a page table each"},
	{"tables", 't', "SIZES", "the host's pages under the guest's page tables, if others"},
	{"levels", 'l', "LEVELS", "levels of page tables, guest x host: 4, 5, 4x5 ... (4x4)"},
	{"paging", 'P', "KIND", "native, nested or shadow only (all, memory of nested)"},
	{"size", 's', "SIZE", "the memory that is to be mapped, or measured (1G)"},
	{"tlb", 0, "ENTRIES", "entries of the TLB: 4K:1536,2M:1536,1G:16 (what the CPU says)"},
	{"hvo", 0, NULL, "the host frees page structs of 2M and 1G pages"},
	{"pid", 'p', "PID", "the host's pages are those of the guest memory of a process"},
	{"measure", 'm', NULL, "measure dependent loads in this process on each size of page"},
	{"in-guest", 0, NULL, "with --measure: also in KVM guests, with each pair of sizes"},
	{"rounds", 0, "N", "with --measure: how often, 3 to 1000 (25)"},
	{"json", 'j', "[FILE]", "write JSON, to standard output or FILE, instead of text"},
	{"svg", 0, "FILE", "draw a picture: FILE ends in .svg"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_GUEST,
	OPT_HOST,
	OPT_TABLES,
	OPT_LEVELS,
	OPT_PAGING,
	OPT_SIZE,
	OPT_TLB,
	OPT_HVO,
	OPT_PID,
	OPT_MEASURE,
	OPT_IN_GUEST,
	OPT_ROUNDS,
	OPT_JSON,
	OPT_SVG,
};

static bool is_operand(const char *word)
{
	(void)word; /* there are none */
	return false;
}

static const struct tool_usage usage = {
	.command = "walk",
	.operands = "[OPTION]...",
	.about =
		"Shows what sizes of pages cost: loads for one TLB miss, what the TLB reaches, "
		"bytes of\n"
		"page tables and page structs. Computed for sizes that are given or that a process "
		"has;\n"
		"with --measure dependent loads are measured beside it. No setting is changed.",
	.options = options,
	.is_operand = is_operand,
};

#define SIZE_MOST (UINT64_C(1) << 57) /* what five levels map */
#define MEASURED_SIZE (UINT64_C(1) << 30)
#define MEASURED_LEAST (UINT64_C(1) << 20)
#define MEASURED_MOST (UINT64_C(1) << 40)

struct walk_line {
	struct walk *walk;
	bool has_guest;
	bool has_host;
	bool has_paging;
	bool measure;
	bool in_guest;
	uint64_t pid;
	uint64_t rounds; /* 0: not given */
	const char *tlb;
	const char *json;
	const char *svg;
};

static bool take_side(const char *name, const char *value, bool host, struct walk_side *side)
{
	const char *wrong = walk_parse_side(value, host, side);

	return wrong ? tool_bad_value(name, value, wrong) : true;
}

static bool take_paging(struct walk_line *line, const char *value)
{
	memset(line->walk->shown, 0, sizeof(line->walk->shown));
	line->has_paging = true;
	for (uint32_t i = 0; i < WALK_PAGINGS; i++) {
		if (strcmp(value, walk_paging_names[i]) != 0)
			continue;
		line->walk->paging = i;
		line->walk->shown[i] = true;
		return true;
	}
	return tool_bad_value("paging", value, "is not native, nested or shadow");
}

static bool take_size(struct walk *w, const char *value)
{
	if (!tool_parse_size(value, &w->size) || w->size == 0)
		return tool_bad_value("size", value, "is not a size such as 64G");
	if (w->size > SIZE_MOST)
		return tool_bad_value("size", value, "is more than page tables map (128P)");
	if (w->size % 4096)
		return tool_bad_value("size", value, "is not a multiple of 4K");
	return true;
}

static bool take_svg(struct walk_line *line, const char *value)
{
	size_t len = strlen(value);

	if (len <= 4 || strcmp(value + len - 4, ".svg") != 0)
		return tool_bad_value("svg", value, "does not end in .svg");
	line->svg = value;
	return true;
}

static bool take_sides(struct walk_line *line, size_t option, const char *value)
{
	struct walk *w = line->walk;

	if (option == OPT_GUEST) {
		line->has_guest = true;
		w->nr_guests = 1;
		return take_side("guest", value, false, &w->guests[0]);
	}
	if (option == OPT_HOST) {
		line->has_host = true;
		w->nr_hosts = 1;
		return take_side("host", value, true, &w->hosts[0]);
	}
	return take_side("tables", value, true, &w->tables);
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct walk_line *line = ctx;
	struct walk *w = line->walk;

	switch (option) {
	case OPT_LEVELS:
		return walk_parse_levels(value, &w->opts.guest_levels, &w->opts.host_levels) ||
		       tool_bad_value("levels", value, "is not 4, 5, 4x4, 4x5, 5x4 or 5x5");
	case OPT_PAGING:
		return take_paging(line, value);
	case OPT_SIZE:
		return take_size(w, value);
	case OPT_TLB:
		line->tlb = value;
		break;
	case OPT_HVO:
		w->opts.flags = GM_WALK_LEAN;
		break;
	case OPT_PID:
		if (!tool_parse_number(value, INT_MAX, &line->pid) || line->pid == 0)
			return tool_bad_value("pid", value, "is no PID");
		break;
	case OPT_MEASURE:
		line->measure = true;
		break;
	case OPT_IN_GUEST:
		line->in_guest = true;
		break;
	case OPT_ROUNDS:
		if (!tool_parse_number(value, 1000, &line->rounds) || line->rounds < 3)
			return tool_bad_value("rounds", value, "is not a number from 3 to 1000");
		break;
	case OPT_JSON:
		line->json = value ? value : "-";
		break;
	case OPT_SVG:
		return take_svg(line, value);
	default:
		return take_sides(line, option, value);
	}
	return true;
}

/* Options that exclude each other; complains. */
static bool check_usage(const struct walk_line *line, int argc, char **argv, int first)
{
	uint64_t size = line->walk->size;

	if (first != argc)
		tool_error("walk: '%s' is too much (see guestmem walk --help)", argv[first]);
	else if (line->pid && (line->has_host || size))
		tool_error("walk: --pid says what --host and --size would: not with them");
	else if (line->pid && line->measure)
		tool_error(
			"walk: --measure is about this host, --pid about a process: one of them");
	else if (line->rounds && !line->measure)
		tool_error("--rounds: has no meaning without --measure");
	else if (line->in_guest && !line->measure)
		tool_error("--in-guest: has no meaning without --measure");
	else if (line->measure &&
		 (size % (1u << 20) || (size && size < MEASURED_LEAST) || size > MEASURED_MOST))
		tool_error("--size: what is measured is a multiple of 1M, at most 1T");
	else if (line->json && line->svg && tool_outputs_clash(line->json, line->svg))
		tool_error("walk: --json and --svg: both go to '%s'", line->svg);
	else
		return true;
	return false;
}

/* What the command line has left open. */
static bool complete(struct walk_line *line)
{
	struct walk *w = line->walk;
	const char *wrong;

	walk_host_read(&w->host, &w->tlb);
	wrong = line->tlb ? walk_parse_tlb(line->tlb, &w->tlb) : NULL;
	if (wrong)
		return tool_bad_value("tlb", line->tlb, wrong);
	if (!line->has_guest) {
		walk_all_sides(w->guests);
		w->nr_guests = GM_WALK_LEAVES;
	}
	if (line->measure && w->size == 0)
		w->size = MEASURED_SIZE;
	if (line->has_host)
		return true;
	if (line->pid)
		w->nr_hosts = 1;
	walk_all_sides(&w->hosts[w->nr_hosts]);
	w->nr_hosts += GM_WALK_LEAVES;
	return true;
}

static bool look_at(struct walk_line *line)
{
	struct walk *w = line->walk;

	if (!walk_live_read((pid_t)line->pid, w->host.lean, &w->live))
		return false;
	walk_live_side(&w->live, &w->hosts[0]);
	w->size = w->live.present;
	w->has_live = true;
	if (!line->has_paging && w->host.kvm_known)
		w->paging = w->host.kvm_paging;
	return true;
}

/* Results are opened first, so that a bad name is known before the work. */
static int run(struct walk_line *line)
{
	struct tool_output json = {0};
	struct tool_output picture = {0};
	struct walk *w = line->walk;
	bool well = (!line->json || tool_output_open(&json, line->json, false)) &&
		    (!line->svg || tool_output_open(&picture, line->svg, false));

	if (well && line->pid)
		well = look_at(line);
	well = well && walk_compute(w);
	if (well && line->measure) {
		well = walk_measure(w, line->rounds ? line->rounds : 25, &w->measured);
		w->has_measured = well;
		if (well && line->in_guest)
			walk_measure_guests(w, line->rounds ? line->rounds : 25, &w->measured);
	}
	if (well && line->json)
		well = walk_json(w, &json);
	else if (well)
		walk_print(w);
	if (well && line->svg)
		well = walk_draw(w, &picture);
	if (!tool_output_close(&json) || !tool_output_close(&picture))
		well = false;
	walk_measure_free(&w->measured);
	return well ? EXIT_OK : EXIT_FAILED;
}

int cmd_walk(int argc, char **argv)
{
	struct walk *w = tool_alloc(1, sizeof(*w));
	struct walk_line line = {.walk = w};
	int status;
	int first;

	w->opts =
		(struct gm_walk_opts){.size = sizeof(w->opts), .guest_levels = 4, .host_levels = 4};
	w->paging = GM_WALK_NESTED;
	for (uint32_t i = 0; i < WALK_PAGINGS; i++)
		w->shown[i] = true;
	first = tool_options(&usage, argc, argv, take_option, &line, &status);
	if (first >= 0) {
		if (!check_usage(&line, argc, argv, first) || !complete(&line))
			status = EXIT_USAGE;
		else if (line.svg && !walk_draw_available())
			status = EXIT_FAILED;
		else
			status = run(&line);
	}
	free(w);
	return status;
}
