/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map.c - "guestmem map": a description of a memory map, checked, shown, compared.
 *
 * Like diff it tells by its status whether two layouts show the same, so that a failure is 2.
 */
#include "map.h"

#include <stdlib.h>
#include <string.h>

enum { EXIT_SAME = 0, EXIT_DIFFERENT = 1, EXIT_WRONG = 2 };

static const struct tool_option options[] = {
	{"tree", 't', NULL, "show the tree of regions only"},
	{"flat", 'f', NULL, "show the flat map only: which region shows where"},
	{"e820", 'e', NULL, "show the table of a PC's firmware only"},
	{"json", 'j', "[FILE]", "write JSON, to standard output or FILE, instead of text"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_TREE, OPT_FLAT, OPT_E820, OPT_JSON };

static const struct tool_usage usage = {
	.command = "map",
	.operands = "[OPTION]... FILE [FILE2]",
	.about = "Checks a description of a memory map, in JSON, and shows its tree and its flat "
		 "map.\n"
		 "With two files: what FILE2 shows otherwise than FILE; if anything, the exit "
		 "status is 1.\n"
		 "No memory is needed. \"-\" is standard input. The form is described in "
		 "guestmem(1).",
	.options = options,
};

struct map_opts {
	uint32_t show; /* GM_DUMP_* */
	bool e820;
	const char *json;
};

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct map_opts *o = ctx;

	if (option == OPT_TREE)
		o->show |= GM_DUMP_TREE;
	else if (option == OPT_FLAT)
		o->show |= GM_DUMP_FLAT;
	else if (option == OPT_E820)
		o->e820 = true;
	else
		o->json = value ? value : "-";
	return true;
}

static void print_change(void *ctx, const struct map_change *change)
{
	bool *any = ctx;

	*any = true;
	map_print_change(change);
}

static void note_change(void *ctx, const struct map_change *change)
{
	(void)change;
	*(bool *)ctx = true;
}

static bool print_layout(const struct map_opts *o, const struct map_layout *layout)
{
	uint32_t flags = o->show;

	if (!flags && !o->e820)
		flags = GM_DUMP_TREE | GM_DUMP_FLAT;
	if (flags && !map_print(layout, flags))
		return false;
	return !o->e820 || map_print_e820(layout);
}

static int show(const struct map_opts *o, const struct map_layout *layouts, int nr)
{
	const struct map_layout *after = nr == 2 ? &layouts[1] : NULL;
	struct tool_output out = {0};
	bool differ = false;
	bool well = true;

	if (o->json) {
		if (!tool_output_open(&out, o->json, false))
			return EXIT_WRONG;
		if (after)
			map_compare(&layouts[0], after, note_change, &differ);
		well = map_write_json(&layouts[0], after, &out);
		well = tool_output_close(&out) && well;
	} else if (after) {
		map_compare(&layouts[0], after, print_change, &differ);
	} else {
		well = print_layout(o, &layouts[0]);
	}
	/* Here, and not at the end of the command, whose 1 would mean something else. */
	if (!tool_flush() || !well)
		return EXIT_WRONG;
	return differ ? EXIT_DIFFERENT : EXIT_SAME;
}

static bool check_usage(const struct map_opts *o, int argc, char **argv, int first)
{
	if (first == argc)
		tool_error("map: no file (see guestmem map --help)");
	else if (argc - first > 2)
		tool_error("map: '%s' is too much (see guestmem map --help)", argv[first + 2]);
	else if (argc - first == 2 && (o->show || o->e820))
		tool_error("map: --tree, --flat and --e820 show one file, not two");
	else if (o->json && (o->show || o->e820))
		tool_error("map: --json has everything: not with --tree, --flat or --e820");
	else if (argc - first == 2 && strcmp(argv[first], "-") == 0 &&
		 strcmp(argv[first + 1], "-") == 0)
		tool_error("map: standard input can be read once");
	else
		return true;
	return false;
}

int cmd_map(int argc, char **argv)
{
	struct map_layout layouts[2] = {0};
	struct map_opts o = {0};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);
	int nr = argc - first;
	bool well;

	if (first < 0)
		return status;
	if (!check_usage(&o, argc, argv, first))
		return EXIT_USAGE;
	well = map_load(&layouts[0], argv[first]);
	if (well && nr == 2)
		well = map_load(&layouts[1], argv[first + 1]);
	status = well ? show(&o, layouts, nr) : EXIT_WRONG;
	map_free(&layouts[0]);
	map_free(&layouts[1]);
	return status;
}
