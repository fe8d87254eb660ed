/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * restore.c - "guestmem restore": a guest that "guestmem run --snapshot" has saved goes on.
 *
 * Its tables, low memory and data are read before it starts; its own memory is a pager's, and comes when it is touched.
 */
#include "restore.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <guestmem/pager_run.h>

#include "image.h"
#include "json.h"
#include "snapshot.h"
#include "tool.h"

#define STEP (UINT64_C(1) << 20)
#define LABELS_MAX 4096u /* of a file: there is room for no more */

static const struct tool_option options[] = {
	{"memory", 'm', "IMAGE", "where the memory is: raw, saved, an NBD URI"},
	{"eager", 0, NULL, "bring all of the memory before the guest goes on"},
	{"fill", 'f', "WHAT", "none (default): what is touched only; all: the rest behind it"},
	{"rate", 'r', "SIZE", "with --fill all: at most so many bytes a second"},
	{"pages", 'p', "LIST", "the host's pages, as for guestmem run"},
	{"backing", 0, "WHAT", "anon, shared, memfd or a file's path (default: anon)"},
	{"share", 0, NULL, "memory with a file descriptor: anon becomes memfd"},
	{"numa", 0, "MODE:NODES", "as for guestmem exec"},
	{"time", 't', "SECONDS", "tell the payload to stop then"},
	{"timeout", 0, "SECONDS", "end it then, whatever it does: status 124"},
	{"json", 'j', "FILE", "write the report as JSON as well; - is standard output"},
	{"events", 0, "FILE", "write what happens to FILE, a line of JSON each"},
	{"quiet", 'q', NULL, "no report on standard error"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_MEMORY,
	OPT_EAGER,
	OPT_FILL,
	OPT_RATE,
	OPT_PAGES,
	OPT_BACKING,
	OPT_SHARE,
	OPT_NUMA,
	OPT_TIME,
	OPT_TIMEOUT,
	OPT_JSON,
	OPT_EVENTS,
	OPT_QUIET,
};

static const struct tool_usage usage = {
	.command = "restore",
	.operands = "[OPTION]... FILE...",
	.about = "Lets a guest go on that guestmem run --snapshot has saved in FILE, and "
		 "differences on\n"
		 "it in their order. It runs at once; its pages come when it touches them.",
	.options = options,
};

struct restore {
	struct run_opts run;
	struct restore_about about;
	struct image image;
	struct image memory; /* source NULL: that of image */
	const char *memory_path;
	const char *events_path;
	struct tool_output events;
	bool eager;
	uint32_t fill;
	uint64_t rate;
	double begun;
	struct gm_pager *pager;
	pthread_t thread;
	bool started;
	bool ending; /* what is poisoned now is nobody's */
};

/* ---- options ---- */

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct restore *r = ctx;

	switch (option) {
	case OPT_EAGER:
		r->eager = true;
		return true;
	case OPT_FILL:
		r->fill = strcmp(value, "all") == 0 ? GM_PAGER_FILL_ALL : GM_PAGER_FILL_NONE;
		return r->fill || strcmp(value, "none") == 0 ||
		       tool_bad_value("fill", value, "is not none or all");
	case OPT_RATE:
		return tool_parse_size(value, &r->rate) ||
		       tool_bad_value("rate", value, "is no number of bytes");
	case OPT_PAGES:
		return memory_parse_pages("pages", value, &r->run.memory.pages);
	case OPT_BACKING:
		r->run.backing_text = value;
		return memory_parse_backing(value, &r->run.memory.backing);
	case OPT_SHARE:
		r->run.memory.share = true;
		return true;
	case OPT_NUMA:
		r->run.numa_text = value;
		return memory_parse_numa(value, &r->run.memory.numa);
	case OPT_TIME:
	case OPT_TIMEOUT:
		return tool_parse_seconds(value, 0.001, 1e6,
			       option == OPT_TIME ? &r->run.time : &r->run.timeout) ||
		       tool_bad_value(options[option].name, value, "is no time");
	case OPT_QUIET:
		r->run.quiet = true;
		return true;
	default:
		*(option == OPT_JSON           ? &r->run.json
			: option == OPT_MEMORY ? &r->memory_path
					       : &r->events_path) = value;
		return true;
	}
}

/* ---- what happens ---- */

static void tell(struct restore *r, const char *event, json_t *more)
{
	json_t *line;

	if (!r->events_path) {
		json_decref(more);
		return;
	}
	line = json_pack("{s:s, s:f}", "event", event, "seconds", tool_now() - r->begun);
	json_object_update(line, more);
	json_decref(more);
	if (!tool_json_write(line, &r->events, true))
		r->events_path = NULL;
}

static void on_told(void *ctx, const struct gm_pager_event *event)
{
	struct restore *r = ctx;

	if (event->kind != GM_PAGER_POISONED || r->ending)
		return;
	tool_error("0x%llx bytes of memory at offset 0x%llx cannot be brought: %s",
		(unsigned long long)event->len, (unsigned long long)event->off,
		strerror(-event->code));
	tell(r, "poisoned",
		json_pack("{s:o, s:o}", "offset", tool_json_number(event->off), "length",
			tool_json_number(event->len)));
}

/* ---- bringing ---- */

static struct gm_source *source_of(const struct restore *r)
{
	return r->memory.source ? r->memory.source : r->image.source;
}

static bool failed(const char *what, const char *why)
{
	tool_error("%s: %s", what, why);
	return false;
}

/* A region that is not the guest's own memory: tables, low memory, data. */
static bool read_region(
	struct restore *r, struct run_memory *memory, const struct gm_snapshot_region *region)
{
	struct gm_source *source = source_of(r);
	uint8_t *buf = tool_alloc(STEP, 1);
	struct gm_source_extent extent;
	struct gm_error err;
	bool well = true;

	for (uint64_t at = 0, nr; well && at < region->len; at += nr) {
		if (gm_source_extent(source, region->off + at, &extent)) {
			well = failed(region->name, "what lies in the file is not known");
			break;
		}
		nr = region->len - at < extent.len ? region->len - at : extent.len;
		if (extent.kind == GM_SOURCE_ZERO)
			continue;
		nr = nr < STEP ? nr : STEP;
		if (gm_source_read(source, region->off + at, buf, nr, &err))
			well = failed(region->name, err.text);
		else
			well = run_memory_write(memory, region->gpa + at, buf, nr, region->name);
	}
	free(buf);
	return well;
}

static bool add_memory(
	struct restore *r, struct run_memory *memory, const struct gm_snapshot_region *region)
{
	const struct gm_pager_area_opts area = {
		.size = sizeof(area), .source = source_of(r), .offset = region->off};
	const struct gm_pager_opts opts = {.size = sizeof(opts), .told = on_told, .ctx = r};
	struct gm_error err;

	if (r->pager || region->len != memory->len)
		return failed(region->name, "is not the memory that the guest had");
	if (gm_pager_create(&opts, &r->pager, &err))
		return failed("restore", err.text);
	if (gm_pager_add_space(
		    r->pager, memory->space, memory->gpa, memory->len, &area, NULL, &err))
		return failed("restore", err.text);
	return true;
}

static bool read_regions(struct restore *r, struct run_memory *memory)
{
	const struct gm_snapshot_region *regions;
	uint64_t len = gm_source_len(source_of(r));
	bool well = true;
	size_t nr;

	regions = gm_snapshot_regions(r->image.top, &nr);
	for (size_t i = 0; i < nr && well; i++) {
		if (regions[i].off > len || regions[i].len > len - regions[i].off)
			well = failed(regions[i].name, "does not lie in the image of the memory");
		else if (regions[i].gpa == memory->gpa)
			well = add_memory(r, memory, &regions[i]);
		else
			well = read_region(r, memory, &regions[i]);
	}
	return well && (r->pager || failed("restore", "the file has no memory of the guest"));
}

static void *step_all(void *arg)
{
	gm_pager_run(arg);
	return NULL;
}

static bool bring_all(struct restore *r, uint64_t len)
{
	struct gm_pager_area_info info = {.size = sizeof(info)};
	int rc = 0;

	gm_pager_fill(r->pager, GM_PAGER_FILL_ALL, 0);
	do {
		uint64_t absent = 0;

		rc = gm_pager_step(r->pager, 10);
		for (uint64_t id = 1; gm_pager_area(r->pager, id, &info) == 0; id++)
			absent += info.absent;
		saved_progress("guestmem: restoring", len - absent, len);
		if (!absent)
			return true;
	} while (rc >= 0);
	return failed("restore", strerror(-rc));
}

static bool start(struct restore *r)
{
	int rc;

	gm_pager_fill(r->pager, r->fill, r->rate);
	rc = pthread_create(&r->thread, NULL, step_all, r->pager);
	if (rc)
		return failed("restore", strerror(rc));
	r->started = true;
	return true;
}

static bool bring(void *ctx, struct run_engine *e)
{
	struct restore *r = ctx;
	struct machine *m = &e->machine;

	if (!read_regions(r, e->memory))
		return false;
	for (uint32_t i = 0; i < r->run.vcpus; i++) {
		if (!machine_restore(m, i, &r->about.vcpus[i]))
			return false;
	}
	m->devices.doorbells = r->about.doorbells;
	m->devices.doorbell = r->about.doorbell;
	m->devices.stop = r->about.stop;
	if (r->eager && !bring_all(r, e->memory->len))
		return false;
	tell(r, "runnable", json_object());
	return start(r);
}

static json_t *figures(struct restore *r)
{
	struct gm_pager_stats stats = {.size = sizeof(stats)};
	struct gm_pager_area_info info = {.size = sizeof(info)};
	uint64_t absent = 0;

	gm_pager_stats(r->pager, &stats);
	for (uint64_t id = 1; gm_pager_area(r->pager, id, &info) == 0; id++)
		absent += info.absent;
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "way", info.why, "faults",
		tool_json_number(stats.faults), "loaded", tool_json_number(stats.loaded),
		"bytes_demand", tool_json_number(stats.bytes_demand), "bytes_ahead",
		tool_json_number(stats.bytes_ahead), "bytes_zero",
		tool_json_number(stats.bytes_zero), "poisoned", tool_json_number(stats.poisoned),
		"absent", tool_json_number(absent));
}

/* Nobody touches what has not come any more: it is poisoned, and then given back. */
static void end(void *ctx)
{
	struct restore *r = ctx;
	struct gm_error err;

	if (!r->pager)
		return;
	if (r->started) {
		gm_pager_quit(r->pager);
		pthread_join(r->thread, NULL);
	}
	tell(r, "ended", figures(r));
	r->ending = true;
	if (gm_pager_stop(r->pager, GM_PAGER_POISON, -1, &err) || gm_pager_destroy(r->pager, &err))
		tool_error("restore: %s", err.text);
	r->pager = NULL;
}

/* ---- all of it ---- */

static bool open_images(struct restore *r, const char *const *paths, size_t nr)
{
	if (!image_open(&r->image, paths, nr, GM_MEMFILE_ANY))
		return false;
	if (!r->image.top)
		return failed(paths[0], "is memory only: --memory takes it, and FILE what "
					"guestmem run --snapshot has saved");
	return !r->memory_path || image_open(&r->memory, &r->memory_path, 1, GM_MEMFILE_ANY);
}

static bool read_about(struct restore *r, const char *path)
{
	struct gm_snapshot_label *labels = tool_alloc(LABELS_MAX, sizeof(*labels));
	size_t nr = 0;
	bool well;

	while (nr < LABELS_MAX && gm_snapshot_label(r->image.top, nr, &labels[nr]) == 0)
		nr++;
	well = restore_about(labels, nr, path, &r->about, &r->run);
	free(labels);
	return well && (r->run.engine == RUN_KVM || failed(path, "its guest ran in threads"));
}

int cmd_restore(int argc, char **argv)
{
	static struct restore r;
	const struct run_hooks hooks = {.bring = bring, .end = end, .ctx = &r};
	int status;
	int first;

	r = (struct restore){.begun = tool_now(), .run = {.engine = RUN_KVM, .restored = true}};
	first = tool_options(&usage, argc, argv, take_option, &r, &status);
	if (first < 0)
		return status;
	if (first == argc) {
		tool_error("restore: a FILE is wanted (see guestmem restore --help)");
		return EXIT_USAGE;
	}
	status = EXIT_FAILED;
	if ((!r.events_path || tool_output_open(&r.events, r.events_path, true)) &&
		open_images(&r, (const char *const *)&argv[first], (size_t)(argc - first)) &&
		read_about(&r, argv[first]))
		status = run_go(&r.run, &hooks);
	restore_about_fini(&r.about, &r.run);
	image_close(&r.memory);
	image_close(&r.image);
	if (!tool_output_close(&r.events) && status == EXIT_OK)
		status = EXIT_FAILED;
	return status;
}
