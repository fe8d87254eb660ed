/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * source.c - a source of pages: checks, and both ways to read over either.
 *
 * What a source of the caller's answers is checked. One that reads is started by reading at once; requests that are
 * started in done() wait in a list until the one before is done, so that a chain of them takes no stack. One that
 * waits is driven until it is done; when it has ended it is not called any more, so that a request on a stack that has
 * gone is never completed.
 */
#include "services/source.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

struct gm_source {
	struct gm_source_ops ops;
	char name[32];
	/* Of whoever starts and steps: */
	bool stepping;
	bool reading;
	int ended; /* what step() ended with */
	struct gm_source_read *first;
	struct gm_source_read *last;
};

static int check_ops(const struct gm_source_ops *ops, struct gm_error *err)
{
	if (!ops->read == !ops->start)
		return gm_error_set(
			err, -EINVAL, 0, 0, "source: it has to have one of read and start");
	if (!ops->step != !ops->start || !ops->fd != !ops->start)
		return gm_error_set(err, -EINVAL, 0, 0,
			"source: step and fd come with start, and only with it");
	return 0;
}

int gm_source_create(
	const struct gm_source_ops *ops, struct gm_source **ret_source, struct gm_error *err)
{
	struct gm_source_ops copy;
	struct gm_source *source;
	int rc = gm_opts_copy(&copy, sizeof(copy), ops, sizeof(copy));

	if (rc)
		return gm_opts_error(err, rc, "a source");
	rc = check_ops(&copy, err);
	if (rc)
		return rc;
	source = gm_sys_alloc(sizeof(*source));
	if (!source)
		return gm_error_set(err, -ENOMEM, 0, 0, "source: no memory");
	source->ops = copy;
	gm_copy_name(source->name, sizeof(source->name), copy.name ? copy.name : "source");
	source->ops.name = source->name;
	*ret_source = source;
	return 0;
}

void gm_source_destroy(struct gm_source *source)
{
	if (!source)
		return;
	if (source->ops.destroy)
		source->ops.destroy(source->ops.ctx);
	gm_sys_free(source);
}

uint64_t gm_source_len(const struct gm_source *source)
{
	return source->ops.len;
}

int gm_source_fd(const struct gm_source *source)
{
	int fd;

	if (!source->ops.fd)
		return -1;
	fd = source->ops.fd(source->ops.ctx);
	return fd < 0 ? -1 : fd;
}

static bool lies_in(const struct gm_source *source, uint64_t offset, uint64_t len)
{
	return offset <= source->ops.len && len <= source->ops.len - offset;
}

/* ---- extents ---- */

static bool is_possible(
	const struct gm_source *source, uint64_t offset, const struct gm_source_extent *extent)
{
	if (extent->offset != offset || extent->len == 0 || !lies_in(source, offset, extent->len))
		return false;
	if (extent->kind > GM_SOURCE_ABSENT || (extent->unit && !gm_is_pow2(extent->unit)))
		return false;
	return extent->kind != GM_SOURCE_RAW ||
	       (extent->fd >= 0 && extent->len <= (uint64_t)INT64_MAX &&
		       extent->fd_off <= (uint64_t)INT64_MAX - extent->len);
}

int gm_source_extent_within(struct gm_source *source, uint64_t offset, uint64_t len,
	struct gm_source_extent *ret_extent)
{
	const struct gm_source_ops *ops = &source->ops;
	struct gm_source_extent extent = {
		.offset = offset,
		.kind = ops->start ? GM_SOURCE_REMOTE : GM_SOURCE_CHUNK,
		.fd = -1,
	};
	int rc = 0;

	if (offset >= ops->len)
		return -ERANGE;
	extent.len = len < ops->len - offset ? len : ops->len - offset;
	if (ops->extent)
		rc = gm_checked_code(ops->extent(ops->ctx, offset, &extent));
	if (rc)
		return rc;
	if (!is_possible(source, offset, &extent))
		return -EPROTO;
	if (extent.kind != GM_SOURCE_RAW) {
		extent.fd = -1;
		extent.fd_off = 0;
	}
	extent.reserved = 0;
	*ret_extent = extent;
	return 0;
}

int gm_source_extent(struct gm_source *source, uint64_t offset, struct gm_source_extent *ret_extent)
{
	return gm_source_extent_within(source, offset, UINT64_MAX, ret_extent);
}

/* ---- sources that read ---- */

/* All bytes or an error that is one and has a text. */
static int read_now(const struct gm_source *source, uint64_t offset, void *buf, size_t len,
	struct gm_error *err)
{
	int rc;

	if (len == 0)
		return 0;
	if (err) {
		err->code = 0;
		err->text[0] = '\0';
	}
	rc = gm_checked_code(source->ops.read(source->ops.ctx, offset, buf, len, err));
	if (rc && err && (err->code != rc || !err->text[0]))
		return gm_error_set(err, rc, 0, 0,
			"%s: 0x%zx bytes at 0x%" PRIx64 " cannot be read: %s", source->name, len,
			offset, gm_error_word(rc));
	return rc;
}

static struct gm_source_read *next_of(const struct gm_source_read *read)
{
	return (struct gm_source_read *)(uintptr_t)read->own[0];
}

static int start_now(struct gm_source *source, struct gm_source_read *read)
{
	read->own[0] = 0;
	if (source->reading) {
		if (source->last)
			source->last->own[0] = (uintptr_t)read;
		else
			source->first = read;
		source->last = read;
		return 0;
	}
	source->reading = true;
	while (read) {
		read->done(read, read_now(source, read->offset, read->buf, read->len, NULL));
		read = source->first;
		if (!read)
			break;
		source->first = next_of(read);
		if (!source->first)
			source->last = NULL;
	}
	source->reading = false;
	return 0;
}

/* ---- sources that wait ---- */

int gm_source_start(struct gm_source *source, struct gm_source_read *read)
{
	if (!lies_in(source, read->offset, read->len))
		return -ERANGE;
	if (source->ops.read)
		return start_now(source, read);
	if (source->ended)
		return source->ended;
	if (read->len == 0) {
		read->done(read, 0);
		return 0;
	}
	return gm_checked_code(source->ops.start(source->ops.ctx, read));
}

int gm_source_step(struct gm_source *source)
{
	int rc;

	if (source->ops.read)
		return 0;
	if (source->ended)
		return source->ended;
	if (source->stepping)
		return -EBUSY;
	source->stepping = true;
	rc = gm_checked_code(source->ops.step(source->ops.ctx));
	source->stepping = false;
	source->ended = rc;
	return rc;
}

/* Steps, after there was something to step. */
static int await(struct gm_source *source)
{
	int fd = gm_source_fd(source);
	int rc;

	if (fd < 0)
		return -EPROTO;
	do {
		rc = gm_sys_poll_in(fd, -1);
	} while (rc == -EINTR);
	return rc < 0 ? rc : gm_source_step(source);
}

struct waiting {
	int rc;
	bool done;
};

static void wake(struct gm_source_read *read, int rc)
{
	struct waiting *waiting = read->ctx;

	waiting->rc = gm_checked_code(rc);
	waiting->done = true;
}

/* What is under way must not outlive its stack: a source that cannot be awaited has ended. */
static int drive(struct gm_source *source, struct gm_source_read *read)
{
	const struct waiting *waiting = read->ctx;
	int rc = gm_source_start(source, read);

	while (rc == -EAGAIN) {
		rc = await(source);
		if (!rc)
			rc = gm_source_start(source, read);
	}
	while (!rc && !waiting->done) {
		rc = await(source);
		if (rc && !waiting->done)
			source->ended = rc;
	}
	return waiting->done ? waiting->rc : rc;
}

int gm_source_read(
	struct gm_source *source, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	struct waiting waiting = {.done = false};
	struct gm_source_read read = {
		.offset = offset, .len = len, .buf = buf, .done = wake, .ctx = &waiting};
	int rc;

	if (!lies_in(source, offset, len))
		return gm_error_set(err, -ERANGE, 0, 0,
			"%s: 0x%zx bytes at 0x%" PRIx64 " do not lie in its 0x%" PRIx64,
			source->name, len, offset, source->ops.len);
	if (source->ops.read)
		return read_now(source, offset, buf, len, err);
	if (source->stepping)
		return gm_error_set(err, -EBUSY, 0, 0,
			"%s: it is being stepped: nobody waits in done()", source->name);
	rc = drive(source, &read);
	if (rc)
		gm_error_set(err, rc, 0, 0, "%s: 0x%zx bytes at 0x%" PRIx64 " cannot be read: %s",
			source->name, len, offset, gm_error_word(rc));
	return rc;
}
