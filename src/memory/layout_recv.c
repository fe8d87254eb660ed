/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout_recv.c - a space from what a peer sends.
 *
 * The peer is not trusted. Descriptors are owned from the moment they arrive and closed on every
 * way out (the blocks of the space have copies). Only the first message may bring any. Nothing is
 * mapped before all is checked.
 */
#include <guestmem/guard.h>
#include <guestmem/layout.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "core/error.h"
#include "core/layout_wire.h"
#include "memory/layout.h"
#include "memory/space.h"
#include "sys/fds.h"
#include "sys/sys.h"

struct receiver {
	struct gm_fds fds;
	struct gm_wire_head head;
	struct gm_wire_file files[GM_LAYOUT_FDS_MAX];
	struct gm_wire_region *regions;
	uint8_t *body;
	struct gm_region_desc *descs;
	struct gm_block_opts *blocks;
};

static void forget(struct receiver *recv)
{
	gm_fds_close(&recv->fds);
	gm_sys_free(recv->regions);
	gm_sys_free(recv->body);
	gm_sys_free(recv->descs);
	gm_sys_free(recv->blocks);
	gm_sys_free(recv);
}

/* ---- bytes and descriptors ---- */

static int explain_recv(ssize_t nr, size_t at, size_t len, struct gm_error *err)
{
	if (nr == 0 || nr == -ECONNRESET)
		return gm_error_set(err, -EPIPE, 0, 0,
			"layout: the peer closed the connection after %zu of %zu bytes", at, len);
	if (nr == -EAGAIN)
		return gm_error_set(err, -EAGAIN, 0, 0,
			"layout: the socket's deadline has passed (SO_RCVTIMEO), or it does not "
			"block, after %zu of %zu bytes",
			at, len);
	return gm_error_set(
		err, (int)nr, 0, 0, "layout: cannot receive: %s", gm_error_word((int)nr));
}

/* All of @len bytes, which begin at byte @base of the layout; the first message of a layout may bring descriptors. */
static int recv_all(struct receiver *recv, int sock, uint8_t *buf, size_t len, size_t base,
	struct gm_error *err)
{
	size_t at = 0;

	while (at < len) {
		uint32_t wrong;
		ssize_t nr = gm_fds_recv(
			sock, buf + at, len - at, base + at == 0 ? &recv->fds : NULL, 0, &wrong);

		if (nr == -EINTR)
			continue;
		if (nr <= 0)
			return explain_recv(nr, base + at, base + len, err);
		if (wrong & GM_FDS_CUT)
			return gm_error_set(err, -EPROTO, 0, 0,
				"layout: a packet at byte %zu is longer than what is left",
				base + at);
		if (wrong)
			return gm_error_set(err, -EPROTO, 0, 0,
				"layout: more file descriptors at byte %zu than may come there, or "
				"than this process can have (RLIMIT_NOFILE)",
				base + at);
		at += (size_t)nr;
	}
	return 0;
}

static int explain_wire(int rc, const struct gm_wire_fault *fault, struct gm_error *err)
{
	/* The header has one of each. */
	if (fault->off < GM_WIRE_HEAD_SIZE)
		return gm_error_set(err, rc, 0, 0, "layout: byte %zu: %s %s (0x%" PRIx64 ")",
			fault->off, fault->field, fault->what, fault->value);
	return gm_error_set(err, rc, 0, 0, "layout: byte %zu: %s %u %s (0x%" PRIx64 ")", fault->off,
		fault->field, fault->item, fault->what, fault->value);
}

static int recv_layout(struct receiver *recv, int sock, struct gm_error *err)
{
	uint8_t head[GM_WIRE_HEAD_SIZE];
	struct gm_wire_fault fault;
	int rc = recv_all(recv, sock, head, sizeof(head), 0, err);

	if (rc)
		return rc;
	rc = gm_wire_get_head(head, &recv->head, &fault);
	if (rc)
		return explain_wire(rc, &fault, err);
	if (recv->fds.nr != recv->head.nr_files)
		return gm_error_set(err, -EPROTO, 0, 0,
			"layout: %u file descriptors came with a table of %u files", recv->fds.nr,
			recv->head.nr_files);
	recv->body = gm_sys_alloc(recv->head.body_len + 1);
	recv->regions = gm_sys_alloc_array(recv->head.nr_regions + 1, sizeof(*recv->regions));
	if (!recv->body || !recv->regions)
		return gm_error_set(err, -ENOMEM, 0, 0, "layout: out of memory");
	rc = recv_all(recv, sock, recv->body, recv->head.body_len, sizeof(head), err);
	if (rc)
		return rc;
	rc = gm_wire_get_body(&recv->head, recv->body, recv->files, recv->regions, &fault);
	return rc ? explain_wire(rc, &fault, err) : 0;
}

/* ---- the files ---- */

static bool needs_write(const struct receiver *recv, uint32_t file)
{
	for (uint32_t i = 0; i < recv->head.nr_regions; i++) {
		if (recv->regions[i].file == file && (recv->regions[i].perms & GM_PERM_W))
			return true;
	}
	return false;
}

/* Without the seal the peer can make every access to the memory a SIGBUS; only the guard survives
 * that. */
static bool can_shrink(int fd)
{
	int seals = gm_sys_get_seals(fd);

	return seals < 0 || !(seals & F_SEAL_SHRINK);
}

static int check_file(const struct receiver *recv, uint32_t i, struct gm_error *err)
{
	int fd = recv->fds.fd[i];
	struct stat st;
	int flags;
	int rc = gm_sys_fstat(fd, &st);

	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "layout: fstat of file %u: %s", i, gm_error_word(rc));
	if (!S_ISREG(st.st_mode))
		return gm_error_set(err, -EPROTO, 0, 0,
			"layout: file %u is no regular file or memfd (mode 0%o)", i,
			(unsigned int)st.st_mode);
	if ((uint64_t)st.st_size < recv->files[i].size)
		return gm_error_set(err, -EPROTO, 0, 0,
			"layout: file %u has %" PRIu64 " bytes, the peer says %" PRIu64, i,
			(uint64_t)st.st_size, recv->files[i].size);
	flags = gm_sys_open_flags(fd);
	if (flags < 0)
		return gm_error_set(
			err, flags, 0, 0, "layout: flags of file %u: %s", i, gm_error_word(flags));
	if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY ||
		((flags & O_ACCMODE) == O_RDONLY && needs_write(recv, i)))
		return gm_error_set(err, -EPROTO, 0, 0,
			"layout: file %u is not open for what its regions permit (flags 0%o)", i,
			(unsigned int)flags);
	if (can_shrink(fd) && gm_guard_check())
		return gm_error_set(err, -EPERM, 0, 0,
			"layout: the peer can shrink file %u under us: have it sealed with "
			"F_SEAL_SHRINK, or install the fault guard",
			i);
	return 0;
}

/* ---- the space ---- */

static int describe(struct receiver *recv, struct gm_error *err)
{
	uint32_t nr = recv->head.nr_regions;

	recv->descs = gm_sys_alloc_array(nr + 1, sizeof(*recv->descs));
	recv->blocks = gm_sys_alloc_array(nr + 1, sizeof(*recv->blocks));
	if (!recv->descs || !recv->blocks)
		return gm_error_set(err, -ENOMEM, 0, 0, "layout: out of memory");
	for (uint32_t i = 0; i < nr; i++) {
		const struct gm_wire_region *wire = &recv->regions[i];
		struct gm_block_opts *block = &recv->blocks[i];
		const char *name = wire->name[0] ? wire->name : NULL;

		recv->descs[i] = (struct gm_region_desc){
			.size = sizeof(recv->descs[i]),
			.gpa = wire->gpa,
			.len = wire->len,
			.kind = wire->kind,
			.perms = wire->perms,
			.name = name,
		};
		if (wire->kind == GM_REGION_RESERVED)
			continue;
		*block = (struct gm_block_opts){
			.size = sizeof(*block),
			.len = wire->len,
			.backing = GM_BACKING_FD,
			.flags = wire->perms & GM_PERM_W ? 0 : GM_BLOCK_READONLY,
			.fd = recv->fds.fd[wire->file],
			.offset = wire->off,
			.name = name,
		};
		recv->descs[i].backing = block;
	}
	return 0;
}

int gm_layout_recv(int sock, const struct gm_space_opts *user, struct gm_space **ret_space,
	struct gm_error *err)
{
	struct gm_space_opts opts;
	struct receiver *recv;
	/* Before the peer is waited for. */
	int rc = gm_space_opts_copy(&opts, user, err);

	if (!rc)
		rc = gm_layout_check_socket(sock, err);
	if (rc)
		return rc;
	recv = gm_sys_alloc(sizeof(*recv));
	if (!recv)
		return gm_error_set(err, -ENOMEM, 0, 0, "layout: out of memory");
	rc = recv_layout(recv, sock, err);
	for (uint32_t i = 0; i < recv->head.nr_files && !rc; i++)
		rc = check_file(recv, i, err);
	if (!rc)
		rc = describe(recv, err);
	if (!rc)
		rc = gm_space_build(&opts, recv->descs, recv->head.nr_regions, ret_space, err);
	forget(recv);
	return rc;
}
