/* SPDX-License-Identifier: BSD-3-Clause */
/* backend.c - see backend.h. */
#include "memory/backend.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "memory/annotate.h"
#include "memory/block.h"
#include "sys/guard.h"
#include "sys/inside.h"
#include "sys/sys.h"

/* Bytes of a fill that are sent at once. */
#define CHUNK 1024

/* ---- life ---- */

static const char *ops_problem(const struct gm_backend_ops *ops)
{
	if (!ops->map != !ops->unmap)
		return "map and unmap go together";
	if (ops->write && !ops->read)
		return "write needs read";
	if (!ops->translate && !ops->map && !ops->read)
		return "it has no way to its bytes";
	return NULL;
}

int gm_backend_create(
	const struct gm_backend_ops *ops, struct gm_backend **ret, struct gm_error *err)
{
	struct gm_backend *backend = gm_sys_alloc(sizeof(*backend));
	const char *problem;
	int rc;

	if (!backend)
		return gm_error_set(err, -ENOMEM, 0, 0, "backend: out of memory");
	rc = gm_opts_copy(&backend->ops, sizeof(backend->ops), ops, sizeof(*ops));
	if (rc) {
		gm_sys_free(backend);
		return gm_opts_error(err, rc, "backend");
	}
	problem = ops_problem(&backend->ops);
	if (problem) {
		gm_sys_free(backend);
		return gm_error_set(err, -EINVAL, 0, 0, "backend: %s", problem);
	}
	*ret = backend;
	return 0;
}

void gm_backend_destroy(struct gm_backend *backend)
{
	if (!backend)
		return;
	if (backend->ops.release)
		backend->ops.release(backend->ops.ctx);
	gm_sys_free(backend);
}

struct gm_backend *gm_span_backend(const struct gm_span *span, uint64_t gpa, uint64_t *ret_off)
{
	const struct gm_map *map = span->owner;

	*ret_off = gpa + span->delta;
	return map->block->backend;
}

/* ---- what is answered ---- */

static int check_piece(
	const struct gm_backend_piece *piece, uint64_t off, uint64_t len, uint32_t perms)
{
	uintptr_t hva = (uintptr_t)piece->hva;

	if (!hva || piece->len == 0 || piece->len > len || piece->len - 1 > UINTPTR_MAX - hva ||
		((hva ^ off) & 7) || (perms & ~piece->perms) || (piece->perms & ~GM_PERM_RWX) ||
		piece->reserved)
		return -EPROTO;
	return 0;
}

static int check_count(int rc, size_t len, size_t *done)
{
	if (gm_checked_code(rc) != rc || *done > len || (!rc && *done == 0)) {
		*done = 0;
		return -EPROTO;
	}
	return rc;
}

static int translate(const struct gm_backend *backend, uint64_t off, uint64_t len, uint32_t perms,
	struct gm_backend_piece *ret)
{
	int rc;

	*ret = (struct gm_backend_piece){0};
	rc = gm_checked_code(backend->ops.translate(backend->ops.ctx, off, len, perms, ret));
	return rc ? rc : check_piece(ret, off, len, perms);
}

static void unmap(const struct gm_backend *backend, const struct gm_backend_piece *piece)
{
	backend->ops.unmap(backend->ops.ctx, piece);
}

static int map(const struct gm_backend *backend, uint64_t off, uint64_t len, uint32_t perms,
	struct gm_backend_piece *ret)
{
	int rc;

	*ret = (struct gm_backend_piece){0};
	rc = gm_checked_code(backend->ops.map(backend->ops.ctx, off, len, perms, ret));
	if (rc)
		return rc;
	rc = check_piece(ret, off, len, perms);
	if (rc)
		unmap(backend, ret);
	return rc;
}

/* ---- bytes ---- */

/* What is to be done with some bytes: read into @out, or written from @in or else from @byte. */
struct bytes {
	uint8_t *out;
	const uint8_t *in;
	uint8_t byte;
};

static int touch(const struct bytes *bytes, size_t at, void *hva, size_t len, size_t *done)
{
	struct gm_guard_fault fault;
	size_t left;

	if (bytes->out) {
		gm_annotate_write(bytes->out + at, len);
		left = gm_guard_copy_from(bytes->out + at, hva, len, &fault);
	} else if (bytes->in) {
		gm_annotate_read(bytes->in + at, len);
		left = gm_guard_copy_to(hva, bytes->in + at, len, &fault);
	} else {
		left = gm_guard_fill(hva, bytes->byte, len, &fault);
	}
	*done = len - left;
	return left ? gm_guard_errno(&fault) : 0;
}

static int by_message(const struct gm_backend *backend, uint64_t off, const struct bytes *bytes,
	size_t at, size_t len, size_t *done)
{
	const struct gm_backend_ops *ops = &backend->ops;
	uint8_t chunk[CHUNK];

	*done = 0;
	if (bytes->out)
		return check_count(ops->read(ops->ctx, off, bytes->out + at, len, done), len, done);
	if (!ops->write)
		return -EACCES;
	if (bytes->in)
		return check_count(ops->write(ops->ctx, off, bytes->in + at, len, done), len, done);
	if (len > sizeof(chunk))
		len = sizeof(chunk);
	memset(chunk, bytes->byte, len);
	return check_count(ops->write(ops->ctx, off, chunk, len, done), len, done);
}

/* Some of @len bytes: what one answer gives. */
static int some(const struct gm_backend *backend, uint64_t off, const struct bytes *bytes,
	size_t at, size_t len, size_t *done)
{
	uint32_t perms = bytes->out ? GM_PERM_R : GM_PERM_W;
	struct gm_backend_piece piece;
	int rc;

	*done = 0;
	if (backend->ops.translate) {
		rc = translate(backend, off, len, perms, &piece);
		return rc ? rc : touch(bytes, at, piece.hva, (size_t)piece.len, done);
	}
	if (backend->ops.read)
		return by_message(backend, off, bytes, at, len, done);
	rc = map(backend, off, len, perms, &piece);
	if (rc)
		return rc;
	rc = touch(bytes, at, piece.hva, (size_t)piece.len, done);
	unmap(backend, &piece);
	return rc;
}

static int all(const struct gm_span *span, uint64_t gpa, const struct bytes *bytes, size_t len,
	size_t *ret_done)
{
	uint64_t off;
	const struct gm_backend *backend = gm_span_backend(span, gpa, &off);
	struct gm_inside inside;
	int rc = 0;

	*ret_done = 0;
	if (!gm_sys_enter(&inside, backend))
		return -EBUSY;
	while (*ret_done < len && !rc) {
		size_t done;

		rc = some(backend, off + *ret_done, bytes, *ret_done, len - *ret_done, &done);
		*ret_done += done;
	}
	gm_sys_leave(&inside);
	return rc;
}

int gm_far_read(
	const struct gm_span *span, uint64_t gpa, uint8_t *buf, size_t len, size_t *ret_done)
{
	return all(span, gpa, &(struct bytes){.out = buf}, len, ret_done);
}

int gm_far_write(const struct gm_span *span, uint64_t gpa, const uint8_t *buf, uint8_t byte,
	size_t len, size_t *ret_done)
{
	return all(span, gpa, &(struct bytes){.in = buf, .byte = byte}, len, ret_done);
}

/* ---- atomic accesses ---- */

int gm_far_open(const struct gm_span *span, uint64_t gpa, size_t len, uint32_t perms,
	struct gm_far_place *ret)
{
	struct gm_inside inside;
	int rc = 0;

	*ret = (struct gm_far_place){0};
	ret->backend = gm_span_backend(span, gpa, &ret->off);
	if (!ret->backend->ops.translate && !ret->backend->ops.map)
		return 0;
	if (!gm_sys_enter(&inside, ret->backend))
		return -EBUSY;
	ret->mapped = !ret->backend->ops.translate;
	rc = (ret->mapped ? map : translate)(ret->backend, ret->off, len, perms, &ret->piece);
	/* Of one that begins at a multiple of its size all bytes are in one place. */
	if (!rc && ret->piece.len < len) {
		if (ret->mapped)
			unmap(ret->backend, &ret->piece);
		rc = -EPROTO;
	}
	gm_sys_leave(&inside);
	ret->hva = ret->piece.hva;
	return rc;
}

void gm_far_close(struct gm_far_place *place)
{
	if (place->backend && place->mapped)
		unmap(place->backend, &place->piece);
}

static int all_at_once(int rc, size_t done, size_t size)
{
	rc = gm_checked_code(rc);
	return rc || done == size ? rc : -EPROTO;
}

int gm_far_load(const struct gm_far_place *place, uint64_t *raw, size_t size)
{
	const struct gm_backend_ops *ops = &place->backend->ops;
	struct gm_inside inside;
	size_t done = 0;
	int rc;

	if (!gm_sys_enter(&inside, place->backend))
		return -EBUSY;
	rc = ops->read(ops->ctx, place->off, raw, size, &done);
	gm_sys_leave(&inside);
	return all_at_once(rc, done, size);
}

int gm_far_store(const struct gm_far_place *place, uint64_t raw, size_t size)
{
	const struct gm_backend_ops *ops = &place->backend->ops;
	struct gm_inside inside;
	size_t done = 0;
	int rc;

	if (!ops->write)
		return -EACCES;
	if (!gm_sys_enter(&inside, place->backend))
		return -EBUSY;
	rc = ops->write(ops->ctx, place->off, &raw, size, &done);
	gm_sys_leave(&inside);
	return all_at_once(rc, done, size);
}

int gm_far_atomic(const struct gm_far_place *place, enum gm_backend_atomic op, size_t size,
	uint64_t value, uint64_t *seen)
{
	const struct gm_backend_ops *ops = &place->backend->ops;
	struct gm_inside inside;
	int rc;

	if (!ops->atomic)
		return -ENOTSUP;
	if (!gm_sys_enter(&inside, place->backend))
		return -EBUSY;
	rc = gm_checked_code(
		ops->atomic(ops->ctx, (uint32_t)op, place->off, (uint32_t)size, value, seen));
	gm_sys_leave(&inside);
	return rc;
}

/* ---- slices ---- */

int gm_far_pin(const struct gm_span *span, uint64_t gpa, uint64_t len, uint32_t perms,
	struct gm_backend_piece *ret)
{
	uint64_t off;
	const struct gm_backend *backend = gm_span_backend(span, gpa, &off);
	struct gm_inside inside;
	int rc;

	if (!backend->ops.map)
		return -ENOTSUP;
	if (!gm_sys_enter(&inside, backend))
		return -EBUSY;
	rc = map(backend, off, len, perms, ret);
	gm_sys_leave(&inside);
	return rc;
}

void gm_far_unpin(struct gm_block *block, const struct gm_backend_piece *piece)
{
	unmap(block->backend, piece);
}
