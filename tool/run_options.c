/* SPDX-License-Identifier: BSD-3-Clause */
/* run_options.c - the command line of "guestmem run". */
#include <string.h>

#include "run.h"

static const struct tool_option options[] = {
	{"size", 's', "SIZE", "how much memory: bytes, or with K, M, G, T (required)"},
	{"pages", 'p', "LIST",
		"the host's pages: default, sparse, or words of base,\n"
		"16K to 1M, thp, 2M, 1G, of which the first that works"},
	{"guest-pages", 'g', "SIZE", "the guest's own pages: 4K, 2M or 1G (default: 2M)"},
	{"backing", 0, "WHAT", "anon, shared, memfd or a file's path (default: anon)"},
	{"share", 0, NULL, "memory with a file descriptor: anon becomes memfd"},
	{"populate", 0, NULL, "fill it with pages before the payload starts"},
	{"background", 0, NULL, "with --populate: while it runs, by a thread"},
	{"numa", 0, "MODE:NODES", "as for guestmem exec"},
	{"vcpus", 'c', "NUMBER", "vCPUs, or threads, 1 to 64 (default: 1)"},
	{"engine", 'e', "ENGINE", "kvm, thread or auto (default: auto)"},
	{"data", 'd', "FILE", "bytes that the program finds in memory of their own"},
	{"seed", 0, "NUMBER", "of all that is random (default: 1)"},
	{"time", 't', "SECONDS", "tell the payload to stop then"},
	{"timeout", 0, "SECONDS", "end it then, whatever it does: status 124"},
	{"restart", 0, "SECONDS", "then go on in another virtual machine"},
	{"control", 0, "WHAT", "let the guest ask about its memory's backing: safe, all"},
	{"control-rate", 0, "NUMBER", "requests a second that are done (default: any number)"},
	{"control-socket", 0, "SOCKET",
		"figures, and guestmem migrate, for whoever connects there"},
	{"snapshot", 0, "FILE", "save the guest there at its end, or when a signal comes"},
	{"snapshot-at", 0, "SECONDS", "with --snapshot: stop and save it then"},
	{"json", 'j', "FILE", "write the report as JSON as well; - is standard output"},
	{"quiet", 'q', NULL, "no report on standard error"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_SIZE,
	OPT_PAGES,
	OPT_GUEST_PAGES,
	OPT_BACKING,
	OPT_SHARE,
	OPT_POPULATE,
	OPT_BACKGROUND,
	OPT_NUMA,
	OPT_VCPUS,
	OPT_ENGINE,
	OPT_DATA,
	OPT_SEED,
	OPT_TIME,
	OPT_TIMEOUT,
	OPT_RESTART,
	OPT_CONTROL,
	OPT_CONTROL_RATE,
	OPT_CONTROL_SOCKET,
	OPT_SNAPSHOT,
	OPT_SNAPSHOT_AT,
	OPT_JSON,
	OPT_QUIET,
};

#define SECONDS_MAX 1e6

static const struct tool_usage usage = {
	.command = "run",
	.operands = "--size SIZE [OPTION]... PAYLOAD [NAME=VALUE]... | FILE [ARG]...",
	.about = "Runs a payload in a small virtual machine on memory of your choice, and reports "
		 "what\n"
		 "it took. PAYLOAD is touch, chase, stream, store, stamp, replay or control; FILE "
		 "a\n"
		 "program of your own, by a path with a slash.",
	.options = options,
	.stop_at_operand = true,
};

static bool parse_guest_pages(const char *value, uint32_t *ret)
{
	static const struct {
		const char *name;
		uint32_t log2;
	} sizes[] = {{"4K", 12}, {"2M", 21}, {"1G", 30}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (strcmp(value, sizes[i].name) == 0) {
			*ret = sizes[i].log2;
			return true;
		}
	}
	return tool_bad_value("guest-pages", value, "is none of 4K, 2M, 1G");
}

static bool parse_engine(const char *value, enum run_engine_kind *ret)
{
	static const char *const names[] = {"auto", "kvm", "thread"};

	for (int i = RUN_AUTO; i <= RUN_THREAD; i++) {
		if (strcmp(value, names[i]) == 0) {
			*ret = (enum run_engine_kind)i;
			return true;
		}
	}
	return tool_bad_value("engine", value, "is none of kvm, thread, auto");
}

static bool parse_vcpus(const char *value, uint32_t *ret)
{
	uint64_t n;

	if (!tool_parse_number(value, MACHINE_VCPUS_MAX, &n) || n == 0)
		return tool_bad_value("vcpus", value, "is not a number of 1 to 64");
	*ret = (uint32_t)n;
	return true;
}

static bool parse_control(const char *value, uint64_t *ret)
{
	if (strcmp(value, "safe") == 0)
		*ret = GM_CONTROL_SAFE;
	else if (strcmp(value, "all") == 0)
		*ret = GM_CONTROL_ALL;
	else
		return tool_bad_value("control", value, "is none of safe, all");
	return true;
}

static bool parse_seconds(const char *option, const char *value, double *ret)
{
	if (!tool_parse_seconds(value, 0.001, SECONDS_MAX, ret))
		return tool_bad_value(option, value, "is not a time of 0.001 to 1000000 seconds");
	return true;
}

/* Of options that are about the memory; *ret_is: it was one. */
static bool take_memory_option(struct run_opts *o, size_t option, const char *value, bool *ret_is)
{
	*ret_is = true;
	switch (option) {
	case OPT_SIZE:
		return memory_parse_size("size", value, &o->memory.size);
	case OPT_PAGES:
		return memory_parse_pages("pages", value, &o->memory.pages);
	case OPT_BACKING:
		o->backing_text = value;
		return memory_parse_backing(value, &o->memory.backing);
	case OPT_NUMA:
		o->numa_text = value;
		return memory_parse_numa(value, &o->memory.numa);
	case OPT_SHARE:
		o->memory.share = true;
		return true;
	case OPT_POPULATE:
		o->memory.populate = true;
		return true;
	case OPT_DATA:
		o->memory.data = value;
		return true;
	default:
		*ret_is = false;
		return true;
	}
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct run_opts *o = ctx;
	bool is_memory;
	bool well = take_memory_option(o, option, value, &is_memory);

	if (is_memory)
		return well;
	switch (option) {
	case OPT_GUEST_PAGES:
		return parse_guest_pages(value, &o->guest_log2);
	case OPT_VCPUS:
		return parse_vcpus(value, &o->vcpus);
	case OPT_ENGINE:
		return parse_engine(value, &o->engine);
	case OPT_SEED:
		return tool_parse_number(value, UINT64_MAX, &o->seed) ||
		       tool_bad_value("seed", value, "is not a number");
	case OPT_TIME:
		return parse_seconds("time", value, &o->time);
	case OPT_TIMEOUT:
		return parse_seconds("timeout", value, &o->timeout);
	case OPT_RESTART:
		return parse_seconds("restart", value, &o->restart);
	case OPT_CONTROL:
		return parse_control(value, &o->control);
	case OPT_CONTROL_RATE:
		return tool_parse_number(value, UINT64_MAX, &o->control_rate) ||
		       tool_bad_value("control-rate", value, "is not a number");
	case OPT_CONTROL_SOCKET:
		o->socket = value;
		return true;
	case OPT_SNAPSHOT:
		o->snapshot = value;
		return true;
	case OPT_SNAPSHOT_AT:
		return parse_seconds("snapshot-at", value, &o->snapshot_at);
	case OPT_JSON:
		o->json = value;
		return true;
	case OPT_BACKGROUND:
		o->background = true;
		return true;
	case OPT_QUIET:
		o->quiet = true;
		return true;
	default:
		return true;
	}
}

static bool control_fits(const struct run_opts *o)
{
	if (o->control && o->engine == RUN_THREAD)
		tool_error("--control, control: there is no guest with --engine thread");
	else if (o->payload == RUN_CONTROL && o->control != GM_CONTROL_ALL)
		tool_error("control: goes with --control all only");
	else if (o->control_rate && !o->control)
		tool_error("--control-rate: goes with --control only");
	else
		return true;
	return false;
}

static bool snapshot_fits(const struct run_opts *o)
{
	if (o->snapshot_at > 0 && !o->snapshot)
		tool_error("--snapshot-at: goes with --snapshot only");
	else if (o->snapshot && o->engine == RUN_THREAD)
		tool_error("--snapshot: there is no virtual machine with --engine thread");
	else if (o->snapshot && o->control)
		tool_error("--snapshot: what the guest has asked about its memory would be lost, "
			   "so it does not go with --control");
	else
		return true;
	return false;
}

static bool options_fit(const struct run_opts *o, int nr_words)
{
	if (o->memory.size == 0) {
		tool_error("run: --size is missing (see guestmem run --help)");
		return false;
	}
	if (nr_words == 0) {
		tool_error("run: no payload (see guestmem run --help)");
		return false;
	}
	if (o->memory.size / 4096 < o->vcpus) {
		tool_error("--size: less than a page of 4K for each vCPU");
		return false;
	}
	if (o->memory.share && o->memory.backing.backing != GM_BACKING_ANON &&
		o->memory.backing.backing != GM_BACKING_MEMFD) {
		tool_error("--share: goes with --backing anon and memfd only");
		return false;
	}
	if (o->background && !o->memory.populate) {
		tool_error("--background: goes with --populate only");
		return false;
	}
	if (o->payload == RUN_PROGRAM && o->engine == RUN_THREAD) {
		tool_error("%s: a program of your own needs a guest, which --engine thread has not",
			o->words[0]);
		return false;
	}
	if (o->restart > 0 && o->socket) {
		tool_error("--restart: does not go with --control-socket: a guest that is moved "
			   "must stay in one virtual machine until then");
		return false;
	}
	if (o->restart > 0 && o->engine == RUN_THREAD) {
		tool_error("--restart: there is no virtual machine with --engine thread");
		return false;
	}
	return true;
}

bool run_options(int argc, char **argv, struct run_opts *ret, int *ret_status)
{
	int first;

	*ret = (struct run_opts){.vcpus = 1, .guest_log2 = 21, .seed = 1};
	first = tool_options(&usage, argc, argv, take_option, ret, ret_status);
	if (first < 0)
		return false;
	*ret_status = EXIT_USAGE;
	if (argc > first && !run_words(ret, argv + first, argc - first))
		return false;
	if (ret->payload == RUN_CONTROL && !ret->control)
		ret->control = GM_CONTROL_ALL;
	/* Then not when it is made. */
	ret->memory.behind = ret->background;
	return options_fit(ret, argc - first) && control_fits(ret) && snapshot_fits(ret);
}
