/* SPDX-License-Identifier: BSD-3-Clause */
/* verify.c - "guestmem verify": is saved memory what it was? */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "snapshot.h"
#include "tool.h"

#define STEP (UINT64_C(1) << 20)

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
		 "is wrong. Files of QEMU (mapped-ram), which have none, are read.",
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
			code == -EBADMSG ? "the checksum is wrong" : strerrordesc_np(-code));
	return 0;
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	saved_progress("guestmem: verifying", done, total);
	return saved_was_stopped();
}

static void show_regions(const struct gm_memfile *memory, const struct gm_snapshot *snapshot)
{
	const struct gm_snapshot_region *regions;
	struct gm_snapshot_label label;
	char bytes[TOOL_UNIT_CAP];
	char name[300];
	size_t nr;

	regions = gm_memfile_regions(memory, &nr);
	for (size_t i = 0; i < nr; i++)
		printf("  0x%012llx %10s at offset 0x%llx %s\n", (unsigned long long)regions[i].gpa,
			tool_bytes(regions[i].len, bytes), (unsigned long long)regions[i].off,
			tool_escape(regions[i].name, name, sizeof(name)));
	for (size_t i = 0; snapshot && gm_snapshot_label(snapshot, i, &label) == 0; i++)
		printf("  label %s (%zu bytes)\n", tool_escape(label.key, name, sizeof(name)),
			label.len);
}

/* Memory without checksums: all of it can be read, or is damaged. */
static int read_all(struct look *look, const struct gm_memfile *memory)
{
	struct gm_source *source = gm_memfile_source(memory);
	uint64_t total = gm_source_len(source);
	char *buf = tool_alloc(STEP, 1);
	struct gm_source_extent extent;
	struct gm_error err;
	int rc = 0;

	for (uint64_t at = 0, len; at < total && !rc; at += len) {
		rc = gm_source_extent(source, at, &extent);
		if (rc)
			break;
		len = extent.len;
		if (extent.kind != GM_SOURCE_ZERO && extent.kind != GM_SOURCE_ABSENT) {
			len = len < STEP ? len : STEP;
			if (gm_source_read(source, at, buf, len, &err))
				on_bad(look, at, len, err.code);
		}
		rc = on_progress(NULL, at + len, total) ? -ECANCELED : 0;
	}
	free(buf);
	return rc ? rc : look->nr ? -EIO : 0;
}

static int check(const struct opts *o, struct look *look, const struct gm_memfile *memory,
	struct gm_snapshot *snapshot)
{
	struct gm_error err;
	int rc = 0;

	if (!o->info && snapshot)
		rc = gm_snapshot_verify(snapshot, on_bad, on_progress, look, &err);
	else if (!o->info)
		rc = read_all(look, memory);
	if (rc && !look->nr)
		tool_error("%s: %s", look->path, snapshot ? err.text : strerror(-rc));
	return rc;
}

/* What is no text has no value. */
static json_t *json_labels(const struct gm_snapshot *snapshot)
{
	struct gm_snapshot_label label;
	json_t *list = json_array();

	for (size_t i = 0; gm_snapshot_label(snapshot, i, &label) == 0; i++) {
		json_t *value = json_stringn(label.value, label.len);

		json_array_append_new(list,
			json_pack("{s:o, s:o, s:o}", "key", tool_json_text(label.key), "length",
				tool_json_number(label.len), "value", value ? value : json_null()));
	}
	return list;
}

static json_t *to_json(
	const char *path, const struct gm_memfile_info *info, const struct gm_snapshot *snapshot)
{
	struct gm_snapshot_info saved = {.size = sizeof(saved)};

	if (!snapshot)
		return json_pack("{s:o, s:o}", "file", tool_json_text(path), "memory",
			tool_json_number(info->len));
	gm_snapshot_info(snapshot, &saved);
	return saved_json(path, &saved);
}

static void show(
	const char *path, const struct gm_memfile_info *info, const struct gm_snapshot *snapshot)
{
	struct gm_snapshot_info saved = {.size = sizeof(saved)};
	char bytes[TOOL_UNIT_CAP];
	char name[512];

	if (!snapshot) {
		printf("%s: %s of memory in mapped-ram, without checksums\n",
			tool_escape(path, name, sizeof(name)), tool_bytes(info->len, bytes));
		return;
	}
	gm_snapshot_info(snapshot, &saved);
	saved_show(path, &saved);
}

/* What is not seen to be anything would be raw memory, which has nothing that could be wrong. */
static struct gm_memfile *open_it(char *path, struct gm_memfile_info *info)
{
	const struct gm_memfile_opts opts = {.size = sizeof(opts), .flags = GM_MEMFILE_PART};
	struct gm_memfile *memory = memory_open((const char *const *)&path, 1, &opts);

	if (!memory)
		return NULL;
	gm_memfile_info(memory, info);
	if (info->format != GM_MEMFILE_RAW)
		return memory;
	tool_error("%s: it is no file of saved memory", path);
	gm_memfile_close(memory);
	return NULL;
}

static bool look_at(struct opts *o, char *path)
{
	struct gm_memfile_info info = {.size = sizeof(info)};
	struct look look = {.path = path};
	struct gm_memfile *memory = open_it(path, &info);
	struct gm_snapshot *snapshot;
	json_t *json;
	size_t nr;
	int rc;

	if (!memory)
		return false;
	look.bad = o->json ? json_array() : NULL;
	snapshot = *gm_memfile_snapshots(memory, &nr);
	snapshot = nr ? snapshot : NULL;
	rc = check(o, &look, memory, snapshot);
	if (o->json) {
		json = to_json(path, &info, snapshot);
		json_object_set_new(json, "format", json_string(memory_format_name(info.format)));
		json_object_set_new(json, "layout", saved_json_regions(memory));
		if (snapshot)
			json_object_set_new(json, "labels", json_labels(snapshot));
		json_object_set_new(json, "damaged", look.bad);
		json_object_set_new(json, "verified", json_boolean(!o->info && !rc));
		json_array_append_new(o->list, json);
	} else if (!rc) {
		show(path, &info, snapshot);
		if (o->info)
			show_regions(memory, snapshot);
	}
	gm_memfile_close(memory);
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
