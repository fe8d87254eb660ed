/* SPDX-License-Identifier: BSD-3-Clause */
/* tables.c - "guestmem tables": the sizes of a guest's own leaves, and what of them the host backs. */
#include "tables.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "tool.h"

static const struct tool_option options[] = {
	{"root", 'r', "ADDRESS", "of the uppermost table: CR3 of a vCPU (required)"},
	{"levels", 'l', "N", "4 (default) or 5 levels of tables"},
	{"low", 0, "SIZE", "bytes of FILE below 4G of guest addresses, the rest is above"},
	{"json", 'j', "FILE", "write JSON to FILE instead of text; - is standard output"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_ROOT, OPT_LEVELS, OPT_LOW, OPT_JSON };

static const struct tool_usage usage = {
	.command = "tables",
	.operands = "--root ADDRESS [OPTION]... FILE",
	.about = "Walks the x86 page tables of a guest in FILE, its memory (as /proc/PID/fd/N), "
		 "and shows\n"
		 "how much it maps by leaves of 4K, 2M and 1G and what of that is present. FILE "
		 "is only\n"
		 "read; the guest should stand still.",
	.options = options,
};

struct opts {
	struct tables *t;
	bool has_root;
	const char *json;
};

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct opts *o = ctx;
	uint64_t levels;

	switch (option) {
	case OPT_ROOT:
		o->has_root = true;
		return tool_parse_number(value, UINT64_MAX, &o->t->root) ||
		       tool_bad_value("root", value, "is not an address such as 0x1a2b000");
	case OPT_LEVELS:
		if (!tool_parse_number(value, 5, &levels) || levels < 4)
			return tool_bad_value("levels", value, "is not 4 or 5");
		o->t->levels = (uint32_t)levels;
		break;
	case OPT_LOW:
		if (!tool_parse_size(value, &o->t->low) || o->t->low > UINT64_C(4) << 30)
			return tool_bad_value("low", value, "is not a size up to 4G");
		break;
	case OPT_JSON:
		o->json = value;
		break;
	default:
		break;
	}
	return true;
}

static const char *const names[TABLES_SIZES] = {"4K", "2M", "1G"};

static void print_text(const struct tables *t)
{
	char bytes[TOOL_UNIT_CAP];
	char memory[TOOL_UNIT_CAP];
	char present[TOOL_UNIT_CAP];

	printf("%-6s %10s %12s %12s %12s\n", "leaf", "number", "mapped", "memory", "present");
	for (int i = TABLES_SIZES - 1; i >= 0; i--) {
		const struct tables_leaves *l = &t->leaves[i];

		printf("%-6s %10llu %12s %12s %12s\n", names[i], (unsigned long long)l->number,
			tool_bytes(l->bytes, bytes), tool_bytes(l->memory, memory),
			tool_bytes(l->present, present));
	}
	printf("page tables: %llu (%s), in %llu blocks of 2 MiB\n",
		(unsigned long long)t->nr_tables, tool_bytes(t->nr_tables * 4096, bytes),
		(unsigned long long)t->nr_blocks);
	if (t->bad)
		printf("entries that lead to tables outside of the memory: %llu\n",
			(unsigned long long)t->bad);
}

static bool print_json(const struct tables *t, struct tool_output *out)
{
	json_t *leaves = json_object();

	for (int i = 0; i < TABLES_SIZES; i++) {
		const struct tables_leaves *l = &t->leaves[i];

		json_object_set_new(leaves, names[i],
			json_pack("{s:o, s:o, s:o, s:o, s:o}", "number",
				tool_json_number(l->number), "mapped", tool_json_number(l->bytes),
				"elsewhere", tool_json_number(l->elsewhere), "memory",
				tool_json_number(l->memory), "present",
				tool_json_number(l->present)));
	}
	return tool_json_write(
		json_pack("{s:o, s:o, s:o, s:o, s:o}", "levels", tool_json_number(t->levels),
			"tables", tool_json_number(t->nr_tables), "blocks",
			tool_json_number(t->nr_blocks), "outside", tool_json_number(t->bad),
			"leaves", leaves),
		out, false);
}

static bool open_memory(struct tables *t, const char *path)
{
	struct stat st;

	t->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (t->fd < 0 || fstat(t->fd, &st)) {
		tool_error("%s: %s", path, strerror(errno));
		return false;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < 4096 || st.st_size > INT64_C(1) << 46) {
		tool_error("%s: it is no file of 4 KiB to 64 TiB", path);
		return false;
	}
	t->len = (uint64_t)st.st_size & ~UINT64_C(4095);
	if (t->low == 0 || t->low > t->len)
		t->low = t->len;
	t->low &= ~UINT64_C(4095);
	return true;
}

int cmd_tables(int argc, char **argv)
{
	struct tables t = {.fd = -1, .levels = 4};
	struct opts o = {.t = &t};
	struct tool_output json = {0};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);
	bool well;

	if (first < 0)
		return status;
	if (!o.has_root || argc - first != 1) {
		tool_error("tables: %s (see guestmem tables --help)",
			o.has_root ? "one FILE is wanted" : "--root is missing");
		return EXIT_USAGE;
	}
	well = open_memory(&t, argv[first]) &&
	       (!o.json || tool_output_open(&json, o.json, false)) && tables_walk(&t);
	if (well && o.json)
		well = print_json(&t, &json);
	else if (well)
		print_text(&t);
	if (t.fd >= 0)
		close(t.fd);
	if (!tool_output_close(&json))
		well = false;
	return well ? EXIT_OK : EXIT_FAILED;
}
