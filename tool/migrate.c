/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate.c - "guestmem migrate": a running guest goes to another process, or another machine. */
#include "migrate.h"

#include <string.h>

static const struct tool_option options[] = {
	{"control", 'c', "SOCKET", "of the process that has the guest, or is to have one"},
	{"precopy", 0, NULL, "send: while it runs only; what does not end is cancelled"},
	{"postcopy", 0, NULL, "send: it goes at once, and its memory follows"},
	{"stop", 0, NULL, "send: while it runs; if that does not end it is paused"},
	{"fds", 0, NULL, "send: memory goes by its descriptors (unix: only)"},
	{"bulk", 'b', "NUMBER", "send: connections for pages, 0 to 16 (default: 1)"},
	{"urgent", 'u', "NUMBER", "send: connections for what is asked for, 0 to 4 (default: 1)"},
	{"codec", 0, "CODEC", "send: raw (default), zstd, lz4"},
	{"level", 'l', "NUMBER", "send: of the codec"},
	{"rate", 'r', "SIZE", "send: at most so many bytes a second"},
	{"downtime", 'd', "MS", "send: how long it may stand still (default: 300)"},
	{"rounds", 0, "NUMBER", "send: at most (default: 30)"},
	{"limit", 0, "SECONDS", "send: begin no round after that"},
	{"throttle", 0, "PERCENT", "send: keep it from running, up to so much of its time"},
	{"pages", 'p', "LIST", "listen: the host's pages (default: as it had them)"},
	{"backing", 0, "WHAT", "listen: anon, shared, memfd or a file's path (default: anon)"},
	{"share", 0, NULL, "listen: memory with a descriptor: anon becomes memfd"},
	{"numa", 0, "MODE:NODES", "listen: as for guestmem exec"},
	{"no-postcopy", 0, NULL, "listen: take all memory before it runs"},
	{"no-fds", 0, NULL, "listen: take no memory by descriptors"},
	{"memory-max", 'm', "SIZE", "listen: take no guest with more memory"},
	{"time", 't', "SECONDS", "listen: then tell the payload to stop"},
	{"timeout", 0, "SECONDS", "listen: end it then, whatever it does: status 124"},
	{"events", 0, "FILE", "listen: write what happens to FILE, a line of JSON each"},
	{"json", 'j', "[FILE]", "events, figures or the report as JSON, to standard output"},
	{"quiet", 'q', NULL, "errors only"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_CONTROL,
	OPT_PRECOPY,
	OPT_POSTCOPY,
	OPT_STOP,
	OPT_FDS,
	OPT_BULK,
	OPT_URGENT,
	OPT_CODEC,
	OPT_LEVEL,
	OPT_RATE,
	OPT_DOWNTIME,
	OPT_ROUNDS,
	OPT_LIMIT,
	OPT_THROTTLE,
	OPT_PAGES,
	OPT_BACKING,
	OPT_SHARE,
	OPT_NUMA,
	OPT_NO_POSTCOPY,
	OPT_NO_FDS,
	OPT_MEMORY_MAX,
	OPT_TIME,
	OPT_TIMEOUT,
	OPT_EVENTS,
	OPT_JSON,
	OPT_QUIET,
	NR_OPTIONS,
};

_Static_assert(sizeof(options) / sizeof(options[0]) == NR_OPTIONS + 1, "an option for each");

/* The value of --json stands behind '=' only. */
static bool is_operand(const char *word)
{
	(void)word;
	return true;
}

static const struct tool_usage usage = {
	.command = "migrate",
	.operands = "{send|listen} ADDRESS [OPTION]... | COMMAND --control SOCKET",
	.about = "Moves a guest of guestmem run --control-socket to a process that listens for it, "
		 "here\n"
		 "or on another machine. ADDRESS is unix:PATH, tcp:HOST:PORT or tcp:[HOST]:PORT. "
		 "COMMAND\n"
		 "is status, cancel, postcopy, stop, resume, reclaim, force (at the source), or\n"
		 "give-up (at the destination).",
	.options = options,
	.is_operand = is_operand,
};

struct reading {
	struct migrate_opts *o;
	uint32_t seen; /* 1 << option */
	uint32_t ways;
};

static bool bad_number(size_t option, const char *value)
{
	return tool_bad_value(options[option].name, value, "is no number that can be");
}

static bool parse_codec(const char *value, uint32_t *ret)
{
	*ret = mover_codec_plus(value);
	return *ret || tool_bad_value("codec", value, "is none of raw, zstd, lz4");
}

/* The faster ones of zstd are below 0. */
static bool parse_level(const char *value, int32_t *ret)
{
	bool below = value[0] == '-';
	uint64_t n;

	if (!tool_parse_number(value + below, below ? -MOVER_LEVEL_LEAST : MOVER_LEVEL_MOST, &n))
		return bad_number(OPT_LEVEL, value);
	*ret = below ? -(int32_t)n : (int32_t)n;
	return true;
}

static bool take_number(struct migrate_opts *o, size_t option, const char *value)
{
	uint64_t n = 0;
	bool well = option == OPT_RATE || option == OPT_MEMORY_MAX
			    ? tool_parse_size(value, &n) && n
			    : tool_parse_number(value, UINT32_MAX - 1, &n);

	if (!well || (option == OPT_BULK && n > 16) || (option == OPT_URGENT && n > 4) ||
		(option == OPT_THROTTLE && n > 99) ||
		(option == OPT_ROUNDS && n > MOVER_ROUNDS_MOST) ||
		((option == OPT_DOWNTIME || option == OPT_ROUNDS) && n == 0))
		return bad_number(option, value);
	switch (option) {
	case OPT_BULK:
		o->bulk_plus = 1 + (uint32_t)n;
		return true;
	case OPT_URGENT:
		o->urgent_plus = 1 + (uint32_t)n;
		return true;
	default:
		*(option == OPT_RATE             ? &o->rate
			: option == OPT_DOWNTIME ? &o->downtime_ms
			: option == OPT_ROUNDS   ? &o->rounds
			: option == OPT_THROTTLE ? &o->throttle
						 : &o->memory_max) = n;
		return true;
	}
}

static bool take_memory(struct run_opts *o, size_t option, const char *value)
{
	switch (option) {
	case OPT_PAGES:
		return memory_parse_pages("pages", value, &o->memory.pages);
	case OPT_BACKING:
		o->backing_text = value;
		return memory_parse_backing(value, &o->memory.backing);
	case OPT_NUMA:
		o->numa_text = value;
		return memory_parse_numa(value, &o->memory.numa);
	default:
		o->memory.share = true;
		return true;
	}
}

static bool take_way(struct reading *r, uint32_t way)
{
	r->ways++;
	r->o->way = way;
	return true;
}

static bool take_seconds(size_t option, const char *value, double *ret)
{
	return tool_parse_seconds(value, 0.001, 1e6, ret) ||
	       tool_bad_value(options[option].name, value, "is no time");
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct reading *r = ctx;
	struct migrate_opts *o = r->o;

	r->seen |= 1u << option;
	switch (option) {
	case OPT_PRECOPY:
		return take_way(r, GM_MIGRATE_OUT_PRECOPY);
	case OPT_POSTCOPY:
		return take_way(r, GM_MIGRATE_OUT_POSTCOPY);
	case OPT_STOP:
		return take_way(r, GM_MIGRATE_OUT_STOP);
	case OPT_CODEC:
		return parse_codec(value, &o->codec_plus);
	case OPT_LEVEL:
		return parse_level(value, &o->level);
	case OPT_PAGES:
	case OPT_BACKING:
	case OPT_NUMA:
	case OPT_SHARE:
		return take_memory(&o->run, option, value);
	case OPT_LIMIT:
		return take_seconds(option, value, &o->limit);
	case OPT_TIME:
		return take_seconds(option, value, &o->run.time);
	case OPT_TIMEOUT:
		return take_seconds(option, value, &o->run.timeout);
	case OPT_JSON:
		o->json = value ? value : "-";
		return true;
	case OPT_CONTROL:
		o->control = value;
		return true;
	case OPT_EVENTS:
		o->events = value;
		return true;
	case OPT_FDS:
	case OPT_NO_POSTCOPY:
	case OPT_NO_FDS:
	case OPT_QUIET:
		return true;
	default:
		return take_number(o, option, value);
	}
}

#define BIT(option) (1u << (option))
#define OF_ALL (BIT(OPT_CONTROL) | BIT(OPT_JSON) | BIT(OPT_QUIET))
#define OF_SEND ((BIT(OPT_PAGES) - 1) | OF_ALL)
#define OF_LISTEN (((BIT(NR_OPTIONS) - 1) & ~(BIT(OPT_PAGES) - 1)) | OF_ALL)

static const struct {
	const char *name;
	uint32_t options;
	bool address;
	int (*run)(const struct migrate_opts *o);
} commands[] = {
	{"send", OF_SEND, true, migrate_send},
	{"listen", OF_LISTEN, true, NULL},
	{"status", OF_ALL, false, migrate_status},
	{"cancel", OF_ALL, false, migrate_tell},
	{"postcopy", OF_ALL, false, migrate_tell},
	{"stop", OF_ALL, false, migrate_tell},
	{"resume", OF_ALL, false, migrate_follow},
	{"reclaim", OF_ALL, false, migrate_follow},
	{"force", OF_ALL, false, migrate_tell},
	{"give-up", OF_ALL, false, migrate_tell},
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static bool options_fit(const struct reading *r, size_t command, int nr)
{
	const struct migrate_opts *o = r->o;
	const char *name = commands[command].name;
	uint32_t odd = r->seen & ~commands[command].options;
	bool listens = !commands[command].run;

	if (odd)
		tool_error("migrate %s: --%s is none of its options", name,
			options[__builtin_ctz(odd)].name);
	else if (nr != (commands[command].address ? 1 : 0))
		tool_error("migrate %s: %s", name,
			commands[command].address ? "one ADDRESS is wanted"
						  : "it takes no ADDRESS");
	else if (!listens && !o->control)
		tool_error("migrate %s: --control SOCKET is missing", name);
	else if (r->ways > 1)
		tool_error("migrate send: --precopy, --postcopy and --stop do not go together");
	else if (o->run.memory.share && o->run.memory.backing.backing != GM_BACKING_ANON)
		tool_error(
			"migrate listen: --share is for --backing anon: what else there is has a "
			"descriptor, or has none");
	else
		return true;
	return false;
}

static void take_flags(const struct reading *r, struct migrate_opts *o)
{
	o->fds = r->seen & BIT(OPT_FDS);
	o->quiet = r->seen & BIT(OPT_QUIET);
	o->run.quiet = o->quiet;
	o->in_flags = (r->seen & BIT(OPT_NO_POSTCOPY) ? GM_MIGRATE_IN_NO_POSTCOPY : 0) |
		      (r->seen & BIT(OPT_NO_FDS) ? GM_MIGRATE_IN_NO_FDS : 0);
}

int cmd_migrate(int argc, char **argv)
{
	static struct migrate_opts o;
	struct reading reading = {.o = &o};
	struct address address;
	size_t command = 0;
	int status;
	int first;

	o = (struct migrate_opts){.way = GM_MIGRATE_OUT_AUTO};
	first = tool_options(&usage, argc, argv, take_option, &reading, &status);
	if (first < 0)
		return status;
	if (first == argc) {
		tool_error("migrate: a command is wanted (see guestmem migrate --help)");
		return EXIT_USAGE;
	}
	o.command = argv[first];
	while (command < NR_COMMANDS && strcmp(commands[command].name, o.command) != 0)
		command++;
	if (command == NR_COMMANDS) {
		tool_error("migrate %s: there is no such command (see guestmem migrate --help)",
			o.command);
		return EXIT_USAGE;
	}
	if (!options_fit(&reading, command, argc - first - 1))
		return EXIT_USAGE;
	take_flags(&reading, &o);
	o.address = commands[command].address ? argv[first + 1] : NULL;
	if (o.address && !address_parse(o.address, &address))
		return EXIT_USAGE;
	return commands[command].run ? commands[command].run(&o) : migrate_listen(&o);
}
