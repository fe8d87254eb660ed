/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * convert.c - "guestmem convert": memory in files of all formats into each other, and what differs from a base.
 */
#include "snapshot.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <guestmem/memfile.h>

#include "json.h"
#include "tool.h"

#define PAGE UINT64_C(4096)

enum to { TO_SAVED, TO_RAW, TO_SPARSE, TO_DIFF };

static const struct tool_option options[] = {
	{"to", 't', "FORMAT", "saved (default), raw, sparse (zeros are holes), diff (a layer)"},
	{"base", 'b', "FILE", "write what differs from FILE (saved, diff); again: a file on it"},
	{"from", 'f', "FORMAT", "FROM is saved, raw or mapped-ram; otherwise that is seen"},
	{"block", 'B', "NAME", "of mapped-ram: this RAM block only"},
	{"salvage", 'S', NULL, "what is damaged is recorded as lost (saved)"},
	{"json", 'j', "FILE", "write JSON to FILE instead of text; - is standard output"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_TO, OPT_BASE, OPT_FROM, OPT_BLOCK, OPT_SALVAGE, OPT_JSON };

static const struct tool_usage usage = {
	.command = "convert",
	.operands = "[OPTION]... FROM... FILE",
	.about = "Makes one FILE of saved or raw memory and of differences on it, given in their "
		 "order. A\n"
		 "difference of raw memory is a file with holes where nothing has changed.",
	.options = options,
};

struct convert {
	enum to to;
	uint32_t from;
	const char *json;
	const char *block;
	bool salvage;
	size_t nr_bases;
	char *bases[GM_MEMFILE_FILES_MAX];
	struct gm_memfile *memory;
	struct gm_memfile *base;
	uint64_t *dirty;
	uint64_t data;
};

static bool take_to(struct convert *c, const char *value)
{
	static const char *const names[] = {"saved", "raw", "sparse", "diff"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			c->to = (enum to)i;
			return true;
		}
	}
	return tool_bad_value("to", value, "is not saved, raw, sparse or diff");
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct convert *c = ctx;

	switch (option) {
	case OPT_TO:
		return take_to(c, value);
	case OPT_FROM:
		return memory_format(value, &c->from) ||
		       tool_bad_value("from", value, "is not saved, raw or mapped-ram");
	case OPT_BASE:
		if (c->nr_bases == GM_MEMFILE_FILES_MAX)
			return tool_bad_value("base", value, "is one too many");
		c->bases[c->nr_bases++] = (char *)(uintptr_t)value;
		return true;
	case OPT_BLOCK:
		c->block = value;
		return true;
	case OPT_SALVAGE:
		c->salvage = true;
		return true;
	default:
		c->json = value;
		return true;
	}
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	saved_progress(ctx ? ctx : "guestmem: converting", done, total);
	return saved_was_stopped();
}

/* ---- what differs ---- */

/* The pages in which the memory differs from its base. */
static bool compare(struct convert *c, struct gm_error *err)
{
	struct gm_source *source = gm_memfile_source(c->memory);
	size_t words = (size_t)(gm_source_len(source) / PAGE / 64 + 1);

	c->dirty = tool_alloc(words, sizeof(*c->dirty));
	return gm_memfile_compare(source, gm_memfile_source(c->base), c->dirty, on_progress,
		       "guestmem: comparing", err) == 0;
}

static bool open_all(struct convert *c, char **paths, size_t nr)
{
	struct gm_memfile_info of_base = {.size = sizeof(of_base)};
	struct gm_memfile_opts opts = {.size = sizeof(opts), .format = c->from, .block = c->block};

	/* Differences without what they lie on become one, too. */
	if (c->to == TO_SAVED && !c->nr_bases)
		opts.flags = GM_MEMFILE_PART;
	c->memory = memory_open((const char *const *)paths, nr, &opts);
	if (!c->memory)
		return false;
	if (!c->nr_bases)
		return true;
	c->base = memory_open((const char *const *)c->bases, c->nr_bases, NULL);
	if (!c->base)
		return false;
	gm_memfile_info(c->base, &of_base);
	if (c->to == TO_DIFF || of_base.format == GM_MEMFILE_SAVED)
		return true;
	tool_error("%s: a difference of saved memory lies on saved memory", c->bases[0]);
	return false;
}

/* ---- writing ---- */

static int write_saved(
	struct convert *c, const char *path, struct gm_snapshot_info *info, struct gm_error *err)
{
	struct gm_snapshot_opts opts = {.size = sizeof(opts),
		.progress = on_progress,
		.dirty = c->dirty,
		.flags = c->salvage ? GM_SNAPSHOT_LOST : 0};
	struct gm_memfile_info of_base = {.size = sizeof(of_base)};
	const struct gm_snapshot_region *regions;
	struct gm_snapshot *const *saved;
	struct gm_snapshot_label *labels = NULL;
	size_t nr;
	int rc;

	saved = gm_memfile_snapshots(c->memory, &nr);
	if (nr && !c->base)
		return gm_snapshot_merge(saved, nr, path, &opts, info, err);
	if (c->base) {
		gm_memfile_info(c->base, &of_base);
		memcpy(opts.base, of_base.identity, 16);
	}
	if (nr) {
		struct gm_snapshot_info top = {.size = sizeof(top)};

		gm_snapshot_info(saved[nr - 1], &top);
		labels = tool_alloc((size_t)top.labels + 1, sizeof(*labels));
		for (size_t i = 0; i < top.labels; i++)
			gm_snapshot_label(saved[nr - 1], i, &labels[i]);
		opts.labels = labels;
		opts.nr_labels = (size_t)top.labels;
	}
	regions = gm_memfile_regions(c->memory, &nr);
	rc = gm_snapshot_write(gm_memfile_source(c->memory), regions, nr, path, &opts, info, err);
	free(labels);
	return rc;
}

static int write_raw(struct convert *c, const char *path, struct gm_error *err)
{
	const struct gm_memfile_raw_opts opts = {
		.size = sizeof(opts),
		.flags = c->to == TO_SPARSE ? GM_MEMFILE_HOLES : 0,
		.dirty = c->dirty,
		.progress = on_progress,
	};

	return gm_memfile_write_raw(gm_memfile_source(c->memory), path, &opts, &c->data, err);
}

static bool tell(struct convert *c, const char *path, const struct gm_snapshot_info *info,
	struct tool_output *json)
{
	uint64_t len = gm_source_len(gm_memfile_source(c->memory));
	char bytes[TOOL_UNIT_CAP];
	json_t *found;

	if (c->json) {
		found = c->to == TO_SAVED
				? saved_json(path, info)
				: json_pack("{s:o, s:o, s:o}", "file", tool_json_text(path),
					  "memory", tool_json_number(len), "data",
					  tool_json_number(c->data));
		return tool_json_write(found, json, false);
	}
	if (c->to == TO_SAVED)
		saved_show(path, info);
	else
		printf("%s: %s of memory %s\n", path, tool_bytes(c->data, bytes),
			c->to == TO_RAW    ? "written"
			: c->to == TO_DIFF ? "that differs"
					   : "that is not zero");
	return true;
}

/* What is wrong with the new file has its name in front; all else is about what is read. */
static void tell_error(
	const struct convert *c, char **from, size_t nr, const char *path, const char *text)
{
	const char *all[2 * GM_MEMFILE_FILES_MAX];
	char names[512];

	if (strncmp(text, path, strlen(path)) == 0) {
		tool_error("%s", text);
		return;
	}
	for (size_t i = 0; i < nr + c->nr_bases; i++)
		all[i] = i < nr ? from[i] : c->bases[i - nr];
	tool_error("%s: %s", memory_names(all, nr + c->nr_bases, names, sizeof(names)), text);
}

static bool convert(
	struct convert *c, char **from, size_t nr, const char *path, struct tool_output *json)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct gm_error err;
	bool well = !c->base || compare(c, &err);

	if (well)
		well = (c->to == TO_SAVED ? write_saved(c, path, &info, &err)
					  : write_raw(c, path, &err)) == 0;
	if (well)
		return tell(c, path, &info, json);
	tell_error(c, from, nr, path, err.text);
	return false;
}

static bool goes_together(const struct convert *c, int operands)
{
	if (operands < 2 || operands > (int)GM_MEMFILE_FILES_MAX + 1) {
		tool_error("convert: FROM and FILE are wanted, at most %u (see guestmem convert "
			   "--help)",
			GM_MEMFILE_FILES_MAX);
		return false;
	}
	if (c->to == TO_DIFF && !c->nr_bases) {
		tool_error("convert: --to diff takes --base (see guestmem convert --help)");
		return false;
	}
	if (c->salvage && (c->to != TO_SAVED || c->nr_bases)) {
		tool_error("convert: --salvage goes with --to saved, without --base (see guestmem "
			   "convert --help)");
		return false;
	}
	if ((c->to == TO_RAW || c->to == TO_SPARSE) && c->nr_bases) {
		tool_error("convert: --base goes with --to saved or diff (see guestmem convert "
			   "--help)");
		return false;
	}
	return true;
}

int cmd_convert(int argc, char **argv)
{
	static struct convert c;
	struct tool_output json = {0};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &c, &status);
	bool well;

	if (first < 0)
		return status;
	if (!goes_together(&c, argc - first))
		return EXIT_USAGE;
	saved_catch_signals();
	if (c.json && !tool_output_open(&json, c.json, false))
		return EXIT_FAILED;
	well = open_all(&c, argv + first, (size_t)(argc - first) - 1) &&
	       convert(&c, argv + first, (size_t)(argc - first) - 1, argv[argc - 1], &json);
	gm_memfile_close(c.memory);
	gm_memfile_close(c.base);
	free(c.dirty);
	if (!tool_output_close(&json))
		well = false;
	return well ? EXIT_OK : EXIT_FAILED;
}
