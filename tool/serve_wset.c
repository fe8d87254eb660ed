/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_wset.c - working sets: one that is brought ahead of each guest, and one that guests are added to as they end.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <guestmem/wset.h>

#include "serve.h"
#include "tool.h"

/* 1: *ret_set is there; 0: there is no such file; -1 after a message. */
static int load(const struct serve *s, const char *path, struct gm_wset **ret_set)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct gm_error err;
	int rc;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0) {
		tool_error("%s: %s", path, strerror(errno));
		return -1;
	}
	rc = gm_wset_load(fd, s->image.id, ret_set, &err);
	close(fd);
	if (!rc)
		return 1;
	tool_error("%s: %s", path, err.text);
	return -1;
}

bool serve_wset_begin(struct serve *s)
{
	struct gm_wset *before = NULL;
	int rc = s->opts.working_set ? load(s, s->opts.working_set, &s->set) : 1;

	if (rc == 0)
		tool_error("%s: %s", s->opts.working_set, strerror(ENOENT));
	if (rc <= 0)
		return false;
	/* One of another image is not overwritten. */
	rc = s->opts.record ? load(s, s->opts.record, &before) : 0;
	gm_wset_destroy(before);
	return rc >= 0;
}

void serve_wset_end(struct serve *s)
{
	gm_wset_destroy(s->set);
	s->set = NULL;
}

void serve_wset_guest(struct serve *s, struct serve_guest *g, bool takeover)
{
	const struct gm_wset_recorder_opts opts = {
		.size = sizeof(opts), .len = gm_source_len(s->image.source)};
	struct gm_error err;

	if (s->set && gm_pager_prefetch_set(g->pager, 0, s->set, 0, &err))
		serve_say(s, "error", &g->record, "its working set: %s", err.text);
	/* What one has touched that served it before is not known. */
	if (!s->opts.record || takeover)
		return;
	if (gm_wset_recorder_create(&opts, &g->recorder, &err) == 0 &&
		gm_pager_record(g->pager, 0, g->recorder, &err) == 0)
		return;
	serve_say(s, "error", &g->record, "it is not recorded: %s", err.text);
	gm_wset_recorder_destroy(g->recorder);
	g->recorder = NULL;
}

static int add_to_file(struct serve *s, struct gm_wset *now, struct gm_error *err)
{
	struct gm_wset *sets[2] = {NULL, now};
	struct gm_wset *merged = NULL;
	int rc = load(s, s->opts.record, &sets[0]);

	if (rc < 0)
		return gm_wset_save(now, s->opts.record, err);
	rc = rc ? gm_wset_merge(sets, 2, NULL, &merged, err) : 0;
	if (!rc)
		rc = gm_wset_save(merged ? merged : now, s->opts.record, err);
	gm_wset_destroy(merged);
	gm_wset_destroy(sets[0]);
	return rc;
}

void serve_wset_save(struct serve *s, struct serve_guest *g)
{
	struct gm_wset *now;
	struct gm_error err;
	int rc;

	if (!g->recorder)
		return;
	rc = gm_wset_recorder_take(g->recorder, s->image.id, &now, &err);
	if (!rc) {
		rc = add_to_file(s, now, &err);
		gm_wset_destroy(now);
	}
	if (rc)
		serve_say(s, "error", &g->record, "what it touched is not recorded: %s", err.text);
	gm_wset_recorder_destroy(g->recorder);
	g->recorder = NULL;
}
