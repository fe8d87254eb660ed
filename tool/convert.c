/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * convert.c - "guestmem convert": saved memory and raw files into each other, differences laid on what they are from.
 */
#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "tool.h"

#define FILES_MAX 64
#define PAGE UINT64_C(4096)
#define STEP (UINT64_C(1) << 20)

static const struct tool_option options[] = {
	{"to", 't', "FORMAT", "saved (default), or raw: memory as it is, zeros are holes"},
	{"json", 'j', "FILE", "write JSON to FILE instead of text; - is standard output"},
	{NULL, 0, NULL, NULL},
};

enum { OPT_TO, OPT_JSON };

static const struct tool_usage usage = {
	.command = "convert",
	.operands = "[OPTION]... FROM... FILE",
	.about = "Makes one FILE of saved or raw memory and of differences on it, given in their "
		 "order. A\n"
		 "difference of raw memory is a file with holes where nothing has changed.",
	.options = options,
};

struct convert {
	bool raw;
	const char *json;
	size_t nr;
	struct gm_snapshot *saved[FILES_MAX];
	struct gm_source *files[FILES_MAX];
	uint64_t data;
};

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct convert *c = ctx;

	if (option == OPT_JSON)
		c->json = value;
	if (option == OPT_TO) {
		c->raw = strcmp(value, "raw") == 0;
		return c->raw || strcmp(value, "saved") == 0 ||
		       tool_bad_value("to", value, "is not saved or raw");
	}
	return true;
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	saved_progress("guestmem: converting", done, total);
	return saved_was_stopped();
}

/* ---- reading ---- */

static bool is_saved(int fd)
{
	char magic[8];

	return pread(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
	       memcmp(magic, "\x89GMSAVE\n", 8) == 0;
}

static bool open_one(struct convert *c, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct gm_error err;
	int rc;

	if (fd < 0) {
		tool_error("%s: %s", path, strerror(errno));
		return false;
	}
	if (is_saved(fd))
		rc = gm_snapshot_open(fd, &c->saved[c->nr], &err);
	else
		rc = gm_source_file(fd, 0, 0, &c->files[c->nr], &err);
	close(fd);
	if (rc) {
		tool_error("%s: %s", path, err.text);
		return false;
	}
	c->nr++;
	if (!c->saved[0] == !c->saved[c->nr - 1])
		return true;
	tool_error("%s: saved and raw memory cannot be laid on each other", path);
	return false;
}

static int make_source(struct convert *c, struct gm_source **ret, struct gm_error *err)
{
	struct gm_source_layer layers[FILES_MAX] = {{.source = c->files[0]}};

	if (c->saved[0])
		return gm_snapshot_source(c->saved, c->nr, 0, ret, err);
	for (size_t i = 1; i < c->nr; i++)
		layers[i] = (struct gm_source_layer){
			.source = c->files[i], .flags = GM_SOURCE_HOLES_SHOW};
	return gm_source_layers(layers, c->nr, ret, err);
}

/* ---- writing ---- */

static bool write_all(int fd, const char *bytes, size_t len, uint64_t at)
{
	while (len) {
		ssize_t nr = pwrite(fd, bytes, len, (off_t)at);

		if (nr < 0 && errno == EINTR)
			continue;
		if (nr <= 0)
			return false;
		bytes += nr;
		at += (uint64_t)nr;
		len -= (size_t)nr;
	}
	return true;
}

/* What is not zero of a piece, page by page. */
static bool write_pages(struct convert *c, int fd, const char *bytes, size_t len, uint64_t at)
{
	static const char zeros[PAGE];
	size_t end;

	for (size_t i = 0; i < len; i = end) {
		size_t n = len - i < PAGE ? len - i : PAGE;
		bool zero = memcmp(bytes + i, zeros, n) == 0;

		for (end = i + n; end < len; end += n) {
			n = len - end < PAGE ? len - end : PAGE;
			if ((memcmp(bytes + end, zeros, n) == 0) != zero)
				break;
		}
		if (zero)
			continue;
		c->data += end - i;
		if (!write_all(fd, bytes + i, end - i, at + i))
			return false;
	}
	return true;
}

/* 0, what the source failed with, or 1: writing failed. */
static int copy(struct convert *c, struct gm_source *source, int fd, struct gm_error *err)
{
	uint64_t len = gm_source_len(source);
	char *buf = tool_alloc(STEP, 1);
	struct gm_source_extent extent;
	int rc = 0;

	for (uint64_t at = 0, nr; at < len && !rc; at += nr) {
		rc = gm_source_extent(source, at, &extent);
		nr = extent.len;
		if (rc) {
			snprintf(err->text, sizeof(err->text), "offset 0x%llx: %s",
				(unsigned long long)at, strerror(-rc));
		} else if (extent.kind != GM_SOURCE_ZERO) {
			nr = nr < STEP ? nr : STEP;
			rc = gm_source_read(source, at, buf, nr, err);
			if (!rc && !write_pages(c, fd, buf, nr, at))
				rc = 1;
		}
		if (!rc && on_progress(NULL, at + nr, len)) {
			rc = -ECANCELED;
			snprintf(err->text, sizeof(err->text), "canceled");
		}
	}
	free(buf);
	return rc;
}

static bool write_raw(struct convert *c, struct gm_source *source, const char *path)
{
	struct tool_output out = {0};
	struct gm_error err;
	FILE *file;
	bool well;
	int rc;

	if (!tool_output_open(&out, path, false))
		return false;
	file = tool_output_begin(&out);
	well = file != NULL;
	if (well) {
		int fd = fileno(file);

		rc = ftruncate(fd, (off_t)gm_source_len(source)) ? 1 : copy(c, source, fd, &err);
		if (rc == 0 && fsync(fd))
			rc = 1;
		if (rc > 0) {
			tool_output_failed(&out, errno);
		} else if (rc < 0) {
			tool_error("%s", err.text);
			out.failed = true;
		}
		well = rc == 0;
	}
	return tool_output_close(&out) && well;
}

static int write_saved(struct convert *c, struct gm_source *source, const char *path,
	struct gm_snapshot_info *info, struct gm_error *err)
{
	const struct gm_snapshot_opts opts = {.size = sizeof(opts), .progress = on_progress};
	const struct gm_snapshot_region all = {
		.len = gm_source_len(source) & ~(PAGE - 1), .page_size = PAGE, .name = "memory"};

	if (c->saved[0])
		return gm_snapshot_merge(c->saved, c->nr, path, &opts, info, err);
	return gm_snapshot_write(source, &all, 1, path, &opts, info, err);
}

static bool convert(struct convert *c, const char *path, struct tool_output *json)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};
	char bytes[TOOL_UNIT_CAP];
	struct gm_source *source;
	struct gm_error err;
	json_t *found;
	bool well;

	if (make_source(c, &source, &err)) {
		tool_error("%s", err.text);
		return false;
	}
	if (!c->raw && !c->saved[0] && gm_source_len(source) % PAGE) {
		tool_error("%llu bytes are no number of pages",
			(unsigned long long)gm_source_len(source));
		gm_source_destroy(source);
		return false;
	}
	well = c->raw ? write_raw(c, source, path) : write_saved(c, source, path, &info, &err) == 0;
	if (!well && !c->raw)
		tool_error("%s", err.text);
	if (well && c->json) {
		found = c->raw ? json_pack("{s:o, s:o, s:o}", "file", tool_json_text(path),
					 "memory", tool_json_number(gm_source_len(source)), "data",
					 tool_json_number(c->data))
			       : saved_json(path, &info);
		well = tool_json_write(found, json, false);
	} else if (well && c->raw) {
		printf("%s: %s of memory that is not zero\n", path, tool_bytes(c->data, bytes));
	} else if (well) {
		saved_show(path, &info);
	}
	gm_source_destroy(source);
	return well;
}

int cmd_convert(int argc, char **argv)
{
	static struct convert c;
	struct tool_output json = {0};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &c, &status);
	bool well = true;

	if (first < 0)
		return status;
	if (argc - first < 2 || argc - first > FILES_MAX + 1) {
		tool_error("convert: FROM and FILE are wanted, at most %d (see guestmem convert "
			   "--help)",
			FILES_MAX);
		return EXIT_USAGE;
	}
	saved_catch_signals();
	if (c.json && !tool_output_open(&json, c.json, false))
		return EXIT_FAILED;
	for (int i = first; i < argc - 1 && well; i++)
		well = open_one(&c, argv[i]);
	well = well && convert(&c, argv[argc - 1], &json);
	for (size_t i = 0; i < c.nr; i++) {
		gm_source_destroy(c.files[i]);
		gm_snapshot_close(c.saved[i]);
	}
	if (!tool_output_close(&json))
		well = false;
	return well ? EXIT_OK : EXIT_FAILED;
}
