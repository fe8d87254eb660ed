/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant_send.c - a grant for another process, and what must not leave this one.
 *
 * What is to be sent is written down as a layout first, looked at, and then sent. An fd is all of its
 * file, and is what its file can be opened for once more by /proc/self/fd.
 */
#include <guestmem/guard.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/error.h"
#include "memory/grant.h"
#include "memory/layout.h"
#include "sys/sys.h"
#include "sys/uapi.h"

/* Somebody who asks for a file's bytes gets all of these. */
static const char *name_of(const struct gm_layout_file *file)
{
	return file->block->name;
}

/* ---- is all of a file granted? ---- */

static int by_file(const void *a, const void *b)
{
	const struct gm_wire_region *x = a;
	const struct gm_wire_region *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int not_covered(const struct gm_grant *grant, const struct gm_layout_file *file,
	uint64_t off, struct gm_error *err)
{
	return gm_error_set(err, -EPERM, 0, 0,
		"%s: an fd is all of its file, and byte 0x%" PRIx64 " of file \"%s\" (0x%" PRIx64
		" bytes) is not granted: keep what is granted in a file of its own, or "
		"grant a shadow",
		grant->name, off, name_of(file), file->size);
}

static int check_covered(const struct gm_grant *grant, const struct gm_layout_sender *sender,
	struct gm_wire_region *sorted, struct gm_error *err)
{
	size_t i = 0;

	for (uint32_t j = 0; j < sender->nr_regions; j++)
		sorted[j] = sender->regions[j];
	if (sender->nr_regions)
		qsort(sorted, sender->nr_regions, sizeof(*sorted), by_file);
	for (uint32_t f = 0; f < sender->nr_files; f++) {
		const struct gm_layout_file *file = &sender->files[f];
		uint64_t end = 0;

		for (; i < sender->nr_regions && sorted[i].file == f; i++) {
			if (sorted[i].off > end)
				return not_covered(grant, file, end, err);
			if (sorted[i].off + sorted[i].len > end)
				end = sorted[i].off + sorted[i].len;
		}
		if (end < file->size)
			return not_covered(grant, file, end, err);
	}
	return 0;
}

/* ---- may it be written? ---- */

static int check_mixed(
	const struct gm_grant *grant, const struct gm_layout_sender *sender, struct gm_error *err)
{
	for (uint32_t i = 0; i < sender->nr_regions; i++) {
		const struct gm_wire_region *region = &sender->regions[i];
		const struct gm_layout_file *file = &sender->files[region->file];

		if ((file->perms & GM_PERM_W) && !(region->perms & GM_PERM_W))
			return gm_error_set(err, -EPERM, region->gpa, region->len,
				"%s: file \"%s\" has writable parts, and one at gpa 0x%" PRIx64
				" that is granted read-only: the peer could write all of it",
				grant->name, name_of(file), region->gpa);
	}
	return 0;
}

/* The peer must not be able to open a file for writing once more. */
static int lock_file(const struct gm_grant *grant, const struct gm_layout_file *file, uid_t peer,
	struct gm_error *err)
{
	int seals = gm_sys_get_seals(file->fd);
	struct stat st;
	int rc;

	if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return 0;
	rc = gm_sys_fstat(file->fd, &st);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "%s: file \"%s\": %s", grant->name,
			name_of(file), gm_error_word(rc));
	if (peer == 0 || peer == st.st_uid)
		return gm_error_set(err, -EPERM, 0, 0,
			"%s: file \"%s\" is granted read-only, but the peer has user id %u (%s) "
			"and "
			"could open /proc/self/fd/N for writing: run it as another user, or seal "
			"the file (F_SEAL_WRITE)",
			grant->name, name_of(file), (unsigned int)peer,
			peer == 0 ? "root" : "the file's owner");
	if (st.st_nlink > 0 && (st.st_mode & (S_IWGRP | S_IWOTH)))
		return gm_error_set(err, -EPERM, 0, 0,
			"%s: file \"%s\" is granted read-only, but has mode 0%o, by which others "
			"can "
			"open it for writing: chmod go-w",
			grant->name, name_of(file), (unsigned int)st.st_mode & 07777);
	if (st.st_nlink > 0 || (st.st_mode & 07777) == 0600)
		return 0;
	rc = gm_sys_fchmod(file->fd, 0600);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "%s: cannot give file \"%s\" mode 0600: %s",
			grant->name, name_of(file), gm_error_word(rc));
	return 0;
}

static int lock_files(struct gm_grant *grant, const struct gm_layout_sender *sender, int sock,
	struct gm_error *err)
{
	uid_t peer;
	int rc = gm_sys_peer_uid(sock, &peer);

	if (rc)
		return gm_error_set(err, rc, 0, 0, "%s: cannot tell whose socket %d is: %s",
			grant->name, sock, gm_error_word(rc));
	for (uint32_t i = 0; i < sender->nr_files && !rc; i++) {
		if (!(sender->files[i].perms & GM_PERM_W))
			rc = lock_file(grant, &sender->files[i], peer, err);
	}
	return rc;
}

/* ---- sending ---- */

static int check_form(const struct gm_grant *grant, struct gm_error *err)
{
	if (!(grant->flags & (GM_GRANT_SHADOW | GM_GRANT_LASTING)))
		return gm_error_set(err, -EPERM, 0, 0,
			"%s: what another process has mapped cannot be taken back: make the grant "
			"with GM_GRANT_SHADOW, or with GM_GRANT_LASTING for good",
			grant->name);
	if ((grant->flags & GM_GRANT_SHADOW) && gm_guard_check())
		return gm_error_set(err, -EPERM, 0, 0,
			"%s: the peer can shrink a shadow under us: install the fault guard",
			grant->name);
	return 0;
}

static int check_files(struct gm_grant *grant, const struct gm_layout_sender *sender, int sock,
	struct gm_error *err)
{
	struct gm_wire_region *sorted;
	int rc;

	/* What a peer does to its shadow reaches nobody. */
	if (grant->flags & GM_GRANT_SHADOW)
		return 0;
	sorted = gm_sys_alloc_array(sender->nr_regions + 1, sizeof(*sorted));
	if (!sorted)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", grant->name);
	rc = check_covered(grant, sender, sorted, err);
	gm_sys_free(sorted);
	if (!rc)
		rc = check_mixed(grant, sender, err);
	return rc ? rc : lock_files(grant, sender, sock, err);
}

/* With the source held, so that rights do not change before it is known that they were handed out. */
static int write_down(
	struct gm_grant *grant, int sock, struct gm_layout_sender **ret, struct gm_error *err)
{
	int rc = gm_layout_write_down(grant->space, 0, ret, err);

	if (!rc)
		rc = check_files(grant, *ret, sock, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&grant->lock);
	grant->sent++;
	grant->lasting = grant->lasting || (grant->flags & GM_GRANT_LASTING);
	pthread_mutex_unlock(&grant->lock);
	return 0;
}

int gm_grant_send(struct gm_grant *grant, int sock, struct gm_error *err)
{
	struct gm_layout_sender *sender = NULL;
	int rc = check_form(grant, err);

	if (!rc)
		rc = gm_layout_check_socket(sock, err);
	if (!rc)
		rc = gm_space_hold(grant->source, err);
	if (rc)
		return rc;
	rc = write_down(grant, sock, &sender, err);
	gm_space_release(grant->source);
	if (!rc)
		rc = gm_layout_deliver(sender, sock, err);
	gm_layout_forget(sender);
	return rc;
}
