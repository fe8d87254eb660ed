/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard_way.c - which way frees memory of which backing.
 *
 *                          NOW         LAZY   COLD, PAGEOUT   ZERO            UNMAP
 *   anonymous, private     DONTNEED    FREE   yes             DONTNEED        -
 *   anonymous, shared      REMOVE      -      yes             REMOVE          DONTNEED
 *   memfd, file, shared    PUNCH_HOLE  -      yes             PUNCH_HOLE      DONTNEED
 *   file, private          DONTNEED    -      yes             writes zeros    -
 *   of these explicit huge pages:      -      -
 *   of these locked:       (1)         -      -
 *   not mapped, with a file PUNCH_HOLE -      -               PUNCH_HOLE      -
 *   guest_memfd            PUNCH_HOLE  -      -               PUNCH_HOLE      -
 *   of a backend           its own     -      -               its own, zeros  -
 *   of the caller          -           -      yes             writes zeros    -
 *
 * (1) DONTNEED_LOCKED; a hole is punched all the same; MADV_REMOVE is refused by the kernel. On shared memory
 * MADV_DONTNEED takes page-table entries away and frees nothing.
 *
 * A private file is not mapped over by anonymous memory: its mapping would fall into several, which
 * commits could not move by one mremap.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <sys/mman.h>

#include "core/error.h"
#include "memory/backend.h"
#include "memory/discard.h"
#include "sys/guard.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static int refuse(const struct gm_target *t, int rc, const char *why, struct gm_error *err)
{
	return gm_error_set(err, rc, t->range.first, gm_range_len(&t->range),
		"%s: cannot discard at gpa 0x%" PRIx64 ": %s", t->block->name, t->range.first, why);
}

static bool is_private_file(const struct gm_block *block)
{
	return block->fd >= 0 && (block->opts.flags & GM_BLOCK_PRIVATE);
}

static bool is_locked(const struct gm_block *block)
{
	return block->opts.flags & (GM_BLOCK_LOCK | GM_BLOCK_LOCK_ONFAULT);
}

/* ---- picking ---- */

/* Is it the guest's to give away, and the caller's? */
static int check_kind(
	const struct gm_target *t, uint32_t mode, uint32_t flags, struct gm_error *err)
{
	const struct gm_reach *reach = t->reach;
	bool ram = reach->kind == GM_REGION_RAM && (reach->perms & GM_PERM_W);

	if (reach->kind == GM_REGION_DEVMEM)
		return refuse(t, -ENOTSUP, "it is memory of a device", err);
	if (t->block->dark)
		return refuse(t, -EPERM, "it is granted: the space that grants discards", err);
	if (!gm_discard_loses(mode))
		return 0;
	if (!ram && !(flags & GM_DISCARD_ANY_KIND))
		return refuse(t, -EACCES,
			"it is not writable RAM (GM_DISCARD_ANY_KIND discards it all the same)",
			err);
	if (t->block->opts.flags & GM_BLOCK_READONLY)
		return refuse(t, -EACCES, "the block is read-only (GM_BLOCK_READONLY)", err);
	return 0;
}

static int pick_far(
	const struct gm_target *t, uint32_t mode, uint32_t *ret_by, struct gm_error *err)
{
	const struct gm_backend *backend = t->block->backend;

	if (mode != GM_DISCARD_NOW && mode != GM_DISCARD_ZERO)
		return refuse(t, -ENOTSUP, "it is not mapped: GM_DISCARD_NOW and _ZERO only", err);
	if (t->private_half && !gm_block_is_shareable(t->block))
		return refuse(
			t, -ENOTSUP, "its private block has no file that could get holes", err);
	if (t->block->fd >= 0)
		*ret_by = GM_DISCARD_BY_PUNCH;
	else if (backend && backend->ops.discard)
		*ret_by = GM_DISCARD_BY_BACKEND;
	else if (mode == GM_DISCARD_ZERO)
		*ret_by = GM_DISCARD_BY_FILL;
	else
		return refuse(t, -ENOTSUP, "its backend has no discard", err);
	return 0;
}

static int pick_pointer(
	const struct gm_target *t, uint32_t mode, uint32_t *ret_by, struct gm_error *err)
{
	if (mode == GM_DISCARD_COLD)
		*ret_by = GM_DISCARD_BY_COLD;
	else if (mode == GM_DISCARD_PAGEOUT)
		*ret_by = GM_DISCARD_BY_PAGEOUT;
	else if (mode == GM_DISCARD_ZERO)
		*ret_by = GM_DISCARD_BY_FILL;
	else
		return refuse(t, -ENOTSUP,
			"it is memory of the caller, who alone knows what it is made of", err);
	return 0;
}

static int pick_keeping(
	const struct gm_target *t, uint32_t mode, uint32_t *ret_by, struct gm_error *err)
{
	const struct gm_block *b = t->block;
	bool shared = b->backing != GM_BACKING_ANON && !is_private_file(b);

	if (mode == GM_DISCARD_UNMAP) {
		*ret_by = is_locked(b) ? GM_DISCARD_BY_DONTNEED_LOCKED : GM_DISCARD_BY_DONTNEED;
		return shared ? 0
			      : refuse(t, -ENOTSUP,
					"private memory that is unmapped is lost (GM_DISCARD_NOW)",
					err);
	}
	if (b->hugetlb)
		return refuse(t, -ENOTSUP,
			"explicit huge pages are never reclaimed: GM_DISCARD_NOW and _ZERO only",
			err);
	if (is_locked(b))
		return refuse(t, -ENOTSUP, "it is locked (GM_BLOCK_LOCK)", err);
	*ret_by = mode == GM_DISCARD_COLD ? GM_DISCARD_BY_COLD : GM_DISCARD_BY_PAGEOUT;
	if (mode != GM_DISCARD_LAZY)
		return 0;
	*ret_by = GM_DISCARD_BY_FREE;
	return b->backing == GM_BACKING_ANON
		       ? 0
		       : refuse(t, -ENOTSUP, "GM_DISCARD_LAZY is for private anonymous memory",
				 err);
}

int gm_way_pick(const struct gm_target *t, uint32_t mode, uint32_t flags, uint32_t *ret_by,
	struct gm_error *err)
{
	const struct gm_block *b = t->block;
	int rc = check_kind(t, mode, flags, err);

	if (rc)
		return rc;
	if (gm_block_is_far(b) || t->private_half)
		return pick_far(t, mode, ret_by, err);
	if (b->backing == GM_BACKING_POINTER)
		return pick_pointer(t, mode, ret_by, err);
	if (mode != GM_DISCARD_NOW && mode != GM_DISCARD_ZERO)
		return pick_keeping(t, mode, ret_by, err);
	if (is_private_file(b) && mode == GM_DISCARD_ZERO)
		*ret_by = GM_DISCARD_BY_FILL;
	else if (b->backing == GM_BACKING_ANON || is_private_file(b))
		*ret_by = is_locked(b) ? GM_DISCARD_BY_DONTNEED_LOCKED : GM_DISCARD_BY_DONTNEED;
	else if (b->fd >= 0)
		*ret_by = GM_DISCARD_BY_PUNCH;
	else if (!is_locked(b))
		*ret_by = GM_DISCARD_BY_REMOVE;
	else
		return refuse(t, -ENOTSUP,
			"shared memory without an fd cannot be freed while it is locked (take "
			"GM_BACKING_MEMFD)",
			err);
	return 0;
}

/* ---- going ---- */

static const char *hint(const struct gm_target *t, int rc, uint32_t by)
{
	int seals;

	if (by == GM_DISCARD_BY_PUNCH && rc == -EPERM) {
		seals = gm_sys_get_seals(t->block->fd);
		if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
			return " (the file is sealed: F_SEAL_WRITE and F_SEAL_FUTURE_WRITE forbid "
			       "holes)";
	}
	if (by == GM_DISCARD_BY_PUNCH && rc == -EOPNOTSUPP)
		return " (its file system has no holes)";
	if (by == GM_DISCARD_BY_PUNCH && rc == -EBADF)
		return " (the fd is not open for writing)";
	return "";
}

int gm_way_explain(const struct gm_target *t, int rc, uint32_t by, struct gm_error *err)
{
	return gm_error_set(err, rc, t->range.first, gm_range_len(&t->range),
		"%s: cannot discard %" PRIu64 " bytes at gpa 0x%" PRIx64 ": %s%s", t->block->name,
		gm_range_len(&t->range), t->range.first, gm_error_word(rc), hint(t, rc, by));
}

static int advice_of(uint32_t by)
{
	switch (by) {
	case GM_DISCARD_BY_DONTNEED_LOCKED:
		return MADV_DONTNEED_LOCKED;
	case GM_DISCARD_BY_REMOVE:
		return MADV_REMOVE;
	case GM_DISCARD_BY_FREE:
		return MADV_FREE;
	case GM_DISCARD_BY_COLD:
		return MADV_COLD;
	case GM_DISCARD_BY_PAGEOUT:
		return MADV_PAGEOUT;
	default:
		return MADV_DONTNEED;
	}
}

static int advise(const struct gm_target *t, uint32_t by)
{
	size_t len = (size_t)gm_range_len(&t->range);
	int rc;

	do {
		rc = gm_sys_madvise(t->hva, len, advice_of(by));
	} while (rc == -EINTR);
	return rc;
}

static int punch(const struct gm_target *t)
{
	int rc;

	do {
		rc = gm_sys_fallocate(t->block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			t->block->offset + t->off, gm_range_len(&t->range));
	} while (rc == -EINTR);
	return rc;
}

static int ask_backend(const struct gm_target *t)
{
	const struct gm_backend_ops *ops = &t->block->backend->ops;
	int rc = ops->discard(ops->ctx, t->off, gm_range_len(&t->range));

	return gm_checked_code(rc);
}

int gm_way_go(const struct gm_target *t, uint32_t *by, struct gm_error *err)
{
	int rc;

	if (*by == GM_DISCARD_BY_GUARD)
		return gm_way_guard(t, true, err);
	if (*by == GM_DISCARD_BY_PUNCH)
		rc = punch(t);
	else if (*by == GM_DISCARD_BY_BACKEND)
		rc = ask_backend(t);
	else
		rc = advise(t, *by);
	/* Somebody else locked it: mlockall(). */
	if (rc == -EINVAL && *by == GM_DISCARD_BY_DONTNEED) {
		*by = GM_DISCARD_BY_DONTNEED_LOCKED;
		rc = advise(t, *by);
	}
	return rc ? gm_way_explain(t, rc, *by, err) : 0;
}

/* By messages or through the backend's addresses, which hold in a section. */
static int fill_far(struct gm_space *space, const struct gm_target *t, uint64_t *ret_done)
{
	struct gm_reader *reader;
	size_t done = 0;
	int rc = gm_reclaim_add_reader(&space->reclaim, "discard", &reader);

	if (rc)
		return rc;
	reader->view = &space->view;
	rc = gm_fill(
		gm_reader_enter(reader), t->range.first, 0, (size_t)gm_range_len(&t->range), &done);
	gm_reader_leave(reader);
	gm_reclaim_drop_reader(reader);
	*ret_done = done;
	return rc;
}

int gm_way_fill(
	struct gm_space *space, const struct gm_target *t, uint64_t *ret_done, struct gm_error *err)
{
	size_t len = (size_t)gm_range_len(&t->range);
	struct gm_guard_fault fault;
	int rc = 0;

	*ret_done = 0;
	if (t->private_half)
		return refuse(
			t, -ENOTSUP, "part of a page of memory that is the guest's alone", err);
	if (t->hva) {
		size_t left = gm_guard_fill(t->hva, 0, len, &fault);

		*ret_done = len - left;
		rc = left ? gm_guard_errno(&fault) : 0;
	} else {
		rc = fill_far(space, t, ret_done);
	}
	return rc ? gm_error_set(err, rc, t->range.first + *ret_done, len - *ret_done,
			    "%s: cannot write zeros at gpa 0x%" PRIx64 ": %s", t->block->name,
			    t->range.first + *ret_done, gm_error_word(rc))
		  : 0;
}

/* ---- guard pages ---- */

int gm_way_check_guard(const struct gm_target *t, struct gm_error *err)
{
	const struct gm_block *b = t->block;

	if (!t->hva || b->dark || b->backing == GM_BACKING_POINTER)
		return refuse(t, -ENOTSUP, "guard pages are for memory that the library maps", err);
	if (b->hugetlb)
		return refuse(t, -ENOTSUP, "explicit huge pages have no guard pages", err);
	if (is_locked(b))
		return refuse(t, -ENOTSUP, "locked memory has no guard pages", err);
	return 0;
}

int gm_way_guard(const struct gm_target *t, bool install, struct gm_error *err)
{
	size_t len = (size_t)gm_range_len(&t->range);
	int rc;

	do {
		rc = gm_sys_madvise(t->hva, len, install ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE);
	} while (rc == -EINTR);
	if (!rc)
		return 0;
	return gm_error_set(err, rc == -EINVAL ? -ENOTSUP : rc, t->range.first, len,
		"%s: no guard pages at gpa 0x%" PRIx64 ": %s (Linux 6.13; 6.15 for files)",
		t->block->name, t->range.first, gm_error_word(rc));
}
