/* SPDX-License-Identifier: BSD-3-Clause */
/* wset.c - "guestmem wset": recorded working sets, shown and merged. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <guestmem/wset.h>

#include "json.h"
#include "tool.h"

#define FILES_MAX 64

static const struct tool_option options[] = {
	{"to", 't', "FILE", "merge the sets, the oldest first, and write the result to FILE"},
	{"last", 'l', "N", "count only the last N recordings"},
	{"least", 'n', "N",
		"keep pages that N of them touched: 1 is the union, all the\n"
		"intersection"},
	{"runs", 'r', NULL, "show each run of pages"},
	{"json", 'j', "FILE", "write JSON to FILE instead of text; - is standard output"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_TO, OPT_LAST, OPT_LEAST, OPT_RUNS, OPT_JSON };

static const struct tool_usage usage = {
	.command = "wset",
	.operands = "[OPTION]... FILE...",
	.about = "Shows which pages of an image a guest touched, as a pager recorded them, and "
		 "merges\n"
		 "such sets of several runs.",
	.options = options,
};

struct opts {
	const char *to;
	const char *json;
	uint32_t last;
	uint32_t least;
	bool runs;
	size_t nr;
	struct gm_wset *sets[FILES_MAX];
};

static bool take_number(const char *option, const char *value, uint32_t *to)
{
	uint64_t n;

	if (!tool_parse_number(value, GM_WSET_RECORDINGS, &n) || n == 0)
		return tool_bad_value(option, value, "is no number from 1 to 32");
	*to = (uint32_t)n;
	return true;
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct opts *o = ctx;

	switch (option) {
	case OPT_TO:
		o->to = value;
		return true;
	case OPT_LAST:
		return take_number("last", value, &o->last);
	case OPT_LEAST:
		if (strcmp(value, "all") != 0)
			return take_number("least", value, &o->least);
		o->least = GM_WSET_EVERY;
		return true;
	case OPT_RUNS:
		o->runs = true;
		return true;
	default:
		o->json = value;
		return true;
	}
}

/* ---- shown ---- */

static const char *hex(const uint8_t bytes[16], char text[33])
{
	for (size_t i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

static void show(const struct opts *o, const char *path, const struct gm_wset *set)
{
	struct gm_wset_info info = {.size = sizeof(info)};
	struct gm_wset_run run;
	char image[TOOL_UNIT_CAP];
	char pages[TOOL_UNIT_CAP];
	char name[512];
	char text[33];

	gm_wset_info(set, &info);
	printf("%s: %s of an image of %s, in %llu runs; %llu of %llu pages in order; recordings: "
	       "%u\n",
		tool_escape(path, name, sizeof(name)), tool_bytes(info.pages * GM_WSET_PAGE, pages),
		tool_bytes(info.len, image), (unsigned long long)info.runs,
		(unsigned long long)info.ordered, (unsigned long long)info.pages, info.recordings);
	printf("  identity %s\n", hex(info.identity, text));
	for (uint64_t at = 0; o->runs && gm_wset_next(set, at, &run) == 0; at = run.off + run.len)
		printf("  0x%012llx %10s seen %08x\n", (unsigned long long)run.off,
			tool_bytes(run.len, pages), run.seen);
}

static json_t *runs_of(const struct gm_wset *set)
{
	json_t *list = json_array();
	struct gm_wset_run run;

	for (uint64_t at = 0; gm_wset_next(set, at, &run) == 0; at = run.off + run.len)
		json_array_append_new(list,
			json_pack("{s:o, s:o, s:o}", "offset", tool_json_number(run.off), "length",
				tool_json_number(run.len), "seen", tool_json_number(run.seen)));
	return list;
}

static json_t *as_json(const struct opts *o, const char *path, const struct gm_wset *set)
{
	struct gm_wset_info info = {.size = sizeof(info)};
	json_t *json;
	char text[33];

	gm_wset_info(set, &info);
	json = json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "file", tool_json_text(path),
		"identity", hex(info.identity, text), "image", tool_json_number(info.len), "pages",
		tool_json_number(info.pages), "runs", tool_json_number(info.runs), "ordered",
		tool_json_number(info.ordered), "recordings", tool_json_number(info.recordings));
	if (o->runs)
		json_object_set_new(json, "list", runs_of(set));
	return json;
}

/* ---- files ---- */

static bool load(struct opts *o, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct gm_error err;
	int rc;

	if (fd < 0) {
		tool_error("%s: %s", path, strerror(errno));
		return false;
	}
	rc = gm_wset_load(fd, NULL, &o->sets[o->nr], &err);
	close(fd);
	if (rc) {
		tool_error("%s: %s", path, err.text);
		return false;
	}
	o->nr++;
	return true;
}

static struct gm_wset *merge(const struct opts *o)
{
	const struct gm_wset_merge_opts opts = {
		.size = sizeof(opts), .last = o->last, .least = o->least};
	struct gm_wset *set = NULL;
	struct gm_error err;

	if (gm_wset_merge(o->sets, o->nr, &opts, &set, &err)) {
		tool_error("%s", err.text);
		return NULL;
	}
	if (gm_wset_save(set, o->to, &err)) {
		tool_error("%s", err.text);
		gm_wset_destroy(set);
		return NULL;
	}
	return set;
}

/* What there is: the files, or the one that was made of them. */
static bool tell(const struct opts *o, char **paths, struct tool_output *out)
{
	struct gm_wset *merged = o->to ? merge(o) : NULL;
	json_t *list = o->json ? json_array() : NULL;
	bool well = merged || !o->to;

	for (size_t i = 0; well && i < (merged ? 1 : o->nr); i++) {
		const struct gm_wset *set = merged ? merged : o->sets[i];
		const char *path = merged ? o->to : paths[i];

		if (list)
			json_array_append_new(list, as_json(o, path, set));
		else
			show(o, path, set);
	}
	gm_wset_destroy(merged);
	if (well && list)
		return tool_json_write(list, out, false);
	json_decref(list);
	return well;
}

static bool check(const struct opts *o, int nr)
{
	if (nr == 0)
		tool_error("wset: a FILE is wanted (see guestmem wset --help)");
	else if (nr > FILES_MAX)
		tool_error("wset: at most %d files at once", FILES_MAX);
	else if (!o->to && (o->last || o->least))
		tool_error("wset: --last and --least are of sets that are merged (--to)");
	else
		return true;
	return false;
}

int cmd_wset(int argc, char **argv)
{
	struct opts o = {.nr = 0};
	struct tool_output json = {0};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);
	bool well = true;

	if (first < 0)
		return status;
	if (!check(&o, argc - first))
		return EXIT_USAGE;
	if (o.json && !tool_output_open(&json, o.json, false))
		return EXIT_FAILED;
	for (int i = first; i < argc && well; i++)
		well = load(&o, argv[i]);
	well = well && tell(&o, argv + first, &json);
	for (size_t i = 0; i < o.nr; i++)
		gm_wset_destroy(o.sets[i]);
	if (!tool_output_close(&json))
		well = false;
	return well ? EXIT_OK : EXIT_FAILED;
}
