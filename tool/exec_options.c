/* SPDX-License-Identifier: BSD-3-Clause */
/* exec_options.c - the command line of "guestmem exec". */
#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "memory_options.h"

static const struct tool_option options[] = {
	{"size", 's', "SIZE", "how much memory: bytes, or with K, M, G, T (required)"},
	{"limit", 'l', "SIZE", "at most so much is backed, the kernel refuses more (as root)"},
	{"page-size", 'p', "POLICY", "base, thp, 2M or 1G; without it the host's own ways apply"},
	{"numa", 0, "MODE:NODES",
		"bind, preferred, preferred-many, interleave or\n"
		"weighted-interleave, and nodes such as 0 or 0-1,3"},
	{"populate", 0, NULL, "fill it with pages before the command starts"},
	{"from", 'f', "FILE",
		"its first contents: saved, raw, an NBD URI; several\n"
		"times: then differences on it"},
	{"name", 0, "NAME", "shown in /proc/PID/maps (default: guestmem-exec)"},
	{"json", 'j', "FILE", "write the report as JSON as well; - is standard output"},
	{"heatmap", 0, "FILE", "draw what was present: FILE ends in .png or .svg"},
	{"interval", 'i', "SECONDS", "time between samples, 0.01 to 3600 (default: 0.1)"},
	{"require", 0, NULL, "fail (status 1) if the page size was not achieved"},
	{"quiet", 'q', NULL, "no report on standard error"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_SIZE,
	OPT_LIMIT,
	OPT_PAGE_SIZE,
	OPT_NUMA,
	OPT_POPULATE,
	OPT_FROM,
	OPT_NAME,
	OPT_JSON,
	OPT_HEATMAP,
	OPT_INTERVAL,
	OPT_REQUIRE,
	OPT_QUIET,
};

static const struct tool_usage usage = {
	.command = "exec",
	.operands = "--size SIZE [OPTION]... [--] COMMAND [ARG]...",
	.about = "Makes guest memory and runs COMMAND with {mem} in its arguments replaced by a "
		 "path\n"
		 "under which it can open and map it. The exit status is that of the command.",
	.options = options,
	.stop_at_operand = true,
};

static const char *const policy_names[] = {"default", "base", "thp", "2M", "1G"};

const char *exec_policy_name(enum exec_policy policy)
{
	return policy_names[policy];
}

static uint64_t policy_page(const struct exec_opts *o, const struct gm_host *host)
{
	if (o->policy == EXEC_2M)
		return UINT64_C(1) << 21;
	if (o->policy == EXEC_1G)
		return UINT64_C(1) << 30;
	return host->base_page;
}

static bool parse_policy(const char *value, enum exec_policy *ret)
{
	for (int i = EXEC_BASE; i <= EXEC_1G; i++) {
		if (strcmp(value, policy_names[i]) == 0) {
			*ret = (enum exec_policy)i;
			return true;
		}
	}
	return tool_bad_value("page-size", value, "is none of base, thp, 2M, 1G");
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct exec_opts *o = ctx;

	switch (option) {
	case OPT_SIZE:
		return memory_parse_size("size", value, &o->size);
	case OPT_LIMIT:
		return memory_parse_size("limit", value, &o->limit);
	case OPT_PAGE_SIZE:
		return parse_policy(value, &o->policy);
	case OPT_NUMA:
		o->numa_text = value;
		return memory_parse_numa(value, &o->numa);
	case OPT_POPULATE:
		o->populate = true;
		break;
	case OPT_FROM:
		if (o->nr_from == IMAGE_FILES_MAX)
			return tool_bad_value("from", value, "is one file too many");
		o->from[o->nr_from++] = value;
		break;
	case OPT_NAME:
		if (!value[0] || strlen(value) > 31)
			return tool_bad_value("name", value, "is not 1 to 31 bytes long");
		o->name = value;
		break;
	case OPT_JSON:
		o->json = value;
		break;
	case OPT_HEATMAP:
		if (!heatmap_is_file_name(value))
			return tool_bad_value("heatmap", value, "does not end in .png or .svg");
		o->heatmap = value;
		break;
	case OPT_INTERVAL:
		if (!tool_parse_seconds(value, 0.01, 3600, &o->interval))
			return tool_bad_value(
				"interval", value, "is not a time of 0.01 to 3600 seconds");
		break;
	case OPT_REQUIRE:
		o->require = true;
		break;
	case OPT_QUIET:
		o->quiet = true;
		break;
	default:
		break;
	}
	return true;
}

static bool limit_fits(const struct exec_opts *o, const struct gm_host *host)
{
	if (o->limit == 0)
		return true;
	if (o->policy > EXEC_BASE || o->populate || o->numa_text || o->nr_from) {
		tool_error("exec: --limit is for pages that come on touch: no --populate, no "
			   "--numa, no --from, "
			   "no --page-size but base");
		return false;
	}
	if (o->limit > o->size || o->limit % host->base_page) {
		tool_error("--limit: %llu is more than --size, or not a multiple of the page size",
			(unsigned long long)o->limit);
		return false;
	}
	return memory_size_fits(o->size, GM_SPARSE_UNIT);
}

bool exec_options_fit(const struct exec_opts *o, const struct gm_host *host, int nr_words)
{
	uint64_t page = policy_page(o, host);

	if (o->size == 0) {
		tool_error("exec: --size is missing (see guestmem exec --help)");
		return false;
	}
	if (nr_words == 0) {
		tool_error("exec: no command (see guestmem exec --help)");
		return false;
	}
	if (!limit_fits(o, host))
		return false;
	if (o->require && o->policy == EXEC_DEFAULT) {
		tool_error("exec: --require has no meaning without --page-size");
		return false;
	}
	if (o->json && o->heatmap && tool_outputs_clash(o->json, o->heatmap)) {
		tool_error("exec: --json and --heatmap: both go to '%s'", o->heatmap);
		return false;
	}
	if (o->policy == EXEC_THP && host->thp_page != GM_HOST_UNKNOWN)
		page = host->thp_page;
	return memory_size_fits(o->size, page);
}

int exec_options(int argc, char **argv, struct exec_opts *ret, int *ret_status)
{
	*ret = (struct exec_opts){.interval = 0.1, .name = "guestmem-exec"};
	return tool_options(&usage, argc, argv, take_option, ret, ret_status);
}
