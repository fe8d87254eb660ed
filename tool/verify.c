/* SPDX-License-Identifier: BSD-3-Clause */
/* verify.c - "guestmem verify": is saved memory what it was? */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "snapshot.h"
#include "tool.h"

static const struct tool_option options[] = {
	{"info", 'i', NULL, "look at the tables only, and show what the file has"},
	{"json", 'j', "FILE", "write JSON to FILE instead of text; - is standard output"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_INFO, OPT_JSON };

static const struct tool_usage usage = {
	.command = "verify",
	.operands = "[OPTION]... FILE...",
	.about = "Reads files of saved memory and compares all checksums. The status is 1 if one\n"
		 "is wrong.",
	.options = options,
};

struct opts {
	bool info;
	const char *json;
	json_t *list;
};

struct look {
	const char *path;
	json_t *bad; /* or NULL */
	uint64_t nr;
};

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct opts *o = ctx;

	if (option == OPT_INFO)
		o->info = true;
	else if (option == OPT_JSON)
		o->json = value;
	return true;
}

static int on_bad(void *ctx, uint64_t offset, uint64_t len, int code)
{
	struct look *look = ctx;

	look->nr++;
	if (look->bad)
		json_array_append_new(look->bad,
			json_pack("{s:o, s:o, s:s}", "offset", tool_json_number(offset), "length",
				tool_json_number(len), "error", strerrorname_np(-code)));
	else
		tool_error("%s: 0x%llx bytes of memory at offset 0x%llx are damaged: %s",
			look->path, (unsigned long long)len, (unsigned long long)offset,
			strerrordesc_np(-code));
	return 0;
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	saved_progress("guestmem: verifying", done, total);
	return saved_was_stopped();
}

static void show_regions(const struct gm_snapshot *snapshot)
{
	const struct gm_snapshot_region *regions;
	struct gm_snapshot_label label;
	char bytes[TOOL_UNIT_CAP];
	char name[300];
	size_t nr;

	regions = gm_snapshot_regions(snapshot, &nr);
	for (size_t i = 0; i < nr; i++)
		printf("  0x%012llx %10s at offset 0x%llx %s\n", (unsigned long long)regions[i].gpa,
			tool_bytes(regions[i].len, bytes), (unsigned long long)regions[i].off,
			tool_escape(regions[i].name, name, sizeof(name)));
	for (size_t i = 0; gm_snapshot_label(snapshot, i, &label) == 0; i++)
		printf("  label %s (%zu bytes)\n", tool_escape(label.key, name, sizeof(name)),
			label.len);
}

static bool look_at(struct opts *o, const char *path)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct look look = {.path = path, .bad = o->json ? json_array() : NULL};
	struct gm_snapshot *snapshot = saved_open(path);
	struct gm_error err;
	json_t *json;
	int rc = 0;

	if (!snapshot) {
		json_decref(look.bad);
		return false;
	}
	gm_snapshot_info(snapshot, &info);
	if (!o->info)
		rc = gm_snapshot_verify(snapshot, on_bad, on_progress, &look, &err);
	if (rc && !look.nr)
		tool_error("%s: %s", path, err.text);
	if (o->json) {
		json = saved_json(path, &info);
		json_object_set_new(json, "layout", saved_json_regions(snapshot));
		json_object_set_new(json, "damaged", look.bad);
		json_object_set_new(json, "verified", json_boolean(!o->info && !rc));
		json_array_append_new(o->list, json);
	} else if (!rc) {
		saved_show(path, &info);
		if (o->info)
			show_regions(snapshot);
	}
	gm_snapshot_close(snapshot);
	return !rc;
}

int cmd_verify(int argc, char **argv)
{
	struct opts o = {.info = false};
	struct tool_output json = {0};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);
	bool well = true;

	if (first < 0)
		return status;
	if (first == argc) {
		tool_error("verify: a FILE is wanted (see guestmem verify --help)");
		return EXIT_USAGE;
	}
	if (o.json && !tool_output_open(&json, o.json, false))
		return EXIT_FAILED;
	saved_catch_signals();
	o.list = json_array();
	for (int i = first; i < argc && !saved_was_stopped(); i++)
		well &= look_at(&o, argv[i]);
	if (o.json)
		well &= tool_json_write(o.list, &json, false);
	else
		json_decref(o.list);
	if (!tool_output_close(&json))
		well = false;
	return well && !saved_was_stopped() ? EXIT_OK : EXIT_FAILED;
}
