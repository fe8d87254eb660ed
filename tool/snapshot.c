/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot.c - "guestmem snapshot": memory of a stopped guest, or a file that is memory, saved. */
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "tool.h"

#define PAGE UINT64_C(4096)
#define ABOVE (UINT64_C(4) << 30)
#define LABELS_MAX 64

static const struct tool_option options[] = {
	{"pid", 'p', "PID", "save the memory of this process, which is stopped meanwhile"},
	{"low", 0, "SIZE", "bytes below 4G of guest addresses, the rest is above"},
	{"codec", 'c', "CODEC", "best (default), raw, zstd or lz4"},
	{"level", 'l', "N", "of the codec; 0 is its fastest (default)"},
	{"label", 'L', "KEY=VALUE", "put into the file; may be given several times"},
	{"json", 'j', "FILE", "write JSON to FILE instead of text; - is standard output"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_PID, OPT_LOW, OPT_CODEC, OPT_LEVEL, OPT_LABEL, OPT_JSON };

static const struct tool_usage usage = {
	.command = "snapshot",
	.operands = "[OPTION]... {--pid PID | MEMORY} FILE",
	.about = "Saves the memory of a guest in FILE, which is replaced when all is written. "
		 "MEMORY is\n"
		 "a file that is the guest's memory (as /proc/PID/fd/N); nobody may write to it\n"
		 "meanwhile.",
	.options = options,
};

struct opts {
	uint64_t pid;
	uint64_t low;
	struct gm_snapshot_opts save;
	struct gm_snapshot_label labels[LABELS_MAX];
	const char *json;
};

static bool take_codec(struct opts *o, const char *value)
{
	static const char *const names[] = {"best", "raw", "zstd", "lz4"};

	for (uint32_t i = 0; i < 4; i++) {
		if (strcmp(value, names[i]) == 0) {
			o->save.codec = i;
			return true;
		}
	}
	return tool_bad_value("codec", value, "is not best, raw, zstd or lz4");
}

static bool take_label(struct opts *o, const char *value)
{
	const char *sign = strchr(value, '=');
	struct gm_snapshot_label *label = &o->labels[o->save.nr_labels];
	char *key;

	if (!sign || sign == value || sign - value > 255)
		return tool_bad_value("label", value, "is not KEY=VALUE");
	if (o->save.nr_labels == LABELS_MAX)
		return tool_bad_value("label", value, "is one too many");
	key = tool_strdup(value);
	key[sign - value] = '\0';
	*label = (struct gm_snapshot_label){key, sign + 1, strlen(sign + 1)};
	o->save.nr_labels++;
	return true;
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct opts *o = ctx;
	uint64_t level;

	switch (option) {
	case OPT_PID:
		return (tool_parse_number(value, INT32_MAX, &o->pid) && o->pid) ||
		       tool_bad_value("pid", value, "is not the number of a process");
	case OPT_LOW:
		return (tool_parse_size(value, &o->low) && o->low <= ABOVE && o->low % PAGE == 0) ||
		       tool_bad_value("low", value, "is not a multiple of 4K up to 4G");
	case OPT_CODEC:
		return take_codec(o, value);
	case OPT_LEVEL:
		if (!tool_parse_number(value, 100, &level))
			return tool_bad_value("level", value, "is not a number from 0 to 100");
		o->save.level = (int32_t)level;
		break;
	case OPT_LABEL:
		return take_label(o, value);
	case OPT_JSON:
		o->json = value;
		break;
	default:
		break;
	}
	return true;
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	saved_progress("guestmem: saving", done, total);
	return saved_was_stopped();
}

static bool save(
	struct opts *o, int fd, const char *from, const char *path, struct gm_snapshot_info *info)
{
	struct gm_snapshot_region regions[2] = {
		{.page_size = 4096, .name = "low"}, {.page_size = 4096, .name = "high"}};
	struct gm_source *source;
	struct gm_error err;
	uint64_t len;
	int rc = gm_source_file(fd, 0, 0, &source, &err);

	if (rc) {
		tool_error("%s: %s", from, err.text);
		return false;
	}
	len = gm_source_len(source);
	if (len == 0 || len % PAGE) {
		tool_error(len ? "%s: %llu bytes are no number of pages"
			       : "%s: it is empty, %llu bytes",
			from, (unsigned long long)len);
		gm_source_destroy(source);
		return false;
	}
	regions[0].len = o->low && o->low < len ? o->low : len;
	regions[1].off = regions[0].len;
	regions[1].len = len - regions[0].len;
	regions[1].gpa = ABOVE;
	o->save.size = sizeof(o->save);
	o->save.labels = o->labels;
	o->save.progress = on_progress;
	rc = gm_snapshot_write(source, regions, regions[1].len ? 2 : 1, path, &o->save, info, &err);
	if (rc)
		tool_error("%s", err.text);
	gm_source_destroy(source);
	return !rc;
}

static bool save_file(
	struct opts *o, const char *from, const char *path, struct gm_snapshot_info *info)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool well;

	if (fd < 0) {
		tool_error("%s: %s", from, strerror(errno));
		return false;
	}
	well = save(o, fd, from, path, info);
	close(fd);
	return well;
}

static bool save_process(struct opts *o, const char *path, struct gm_snapshot_info *info)
{
	int fd = saved_memory_of((pid_t)o->pid);
	struct saved_stop stop;
	char from[32];
	bool well;

	if (fd < 0)
		return false;
	snprintf(from, sizeof(from), "process %llu", (unsigned long long)o->pid);
	well = saved_stop(&stop, (pid_t)o->pid);
	if (well) {
		well = save(o, fd, from, path, info);
		saved_continue(&stop);
	}
	close(fd);
	return well;
}

int cmd_snapshot(int argc, char **argv)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct opts o = {.pid = 0};
	struct tool_output json = {0};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);
	bool well;

	if (first < 0)
		return status;
	if (argc - first != (o.pid ? 1 : 2)) {
		tool_error("snapshot: %s (see guestmem snapshot --help)",
			o.pid ? "one FILE is wanted" : "MEMORY (or --pid) and FILE are wanted");
		return EXIT_USAGE;
	}
	saved_catch_signals();
	well = !o.json || tool_output_open(&json, o.json, false);
	if (well)
		well = o.pid ? save_process(&o, argv[first], &info)
			     : save_file(&o, argv[first], argv[first + 1], &info);
	if (well && o.json)
		well = tool_json_write(saved_json(argv[argc - 1], &info), &json, false);
	else if (well)
		saved_show(argv[argc - 1], &info);
	if (!tool_output_close(&json))
		well = false;
	for (size_t i = 0; i < o.save.nr_labels; i++)
		free((void *)(uintptr_t)o.labels[i].key);
	return well ? EXIT_OK : EXIT_FAILED;
}
