/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout_send.c - a space's regions and files onto a socket.
 *
 * The regions are written down while the space is held, so that no change comes in between; the
 * blocks are kept by references while a peer that may be slow takes the bytes. A file that several
 * regions use travels once.
 */
#include <guestmem/layout.h>
#include <guestmem/part.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/layout_wire.h"
#include "memory/layout.h"
#include "memory/space.h"
#include "sys/fds.h"
#include "sys/sys.h"

_Static_assert(
	GM_WIRE_FILES_MAX == GM_LAYOUT_FDS_MAX && GM_LAYOUT_FDS_MAX == GM_FDS_MAX, "one limit");
_Static_assert(GM_WIRE_REGIONS_MAX == GM_LAYOUT_REGIONS_MAX, "one limit");
_Static_assert(GM_WIRE_RAM == (int)GM_REGION_RAM && GM_WIRE_ROM == (int)GM_REGION_ROM &&
		       GM_WIRE_RESERVED == (int)GM_REGION_RESERVED,
	"kinds travel by number");

/* A packet of this size passes any socket buffer. */
#define PIECE_MAX 32768u

void gm_layout_forget(struct gm_layout_sender *sender)
{
	if (!sender)
		return;
	for (uint32_t i = 0; i < sender->nr_files; i++) {
		if (sender->files[i].own)
			gm_sys_close(sender->files[i].fd);
		gm_block_put(sender->files[i].block);
	}
	gm_sys_free(sender->regions);
	gm_sys_free(sender);
}

/* ---- writing down ---- */

/* The fd of a region's memory, if it may leave this process. */
static int check_block(
	const struct gm_region_info *region, struct gm_block_info *block, struct gm_error *err)
{
	*block = (struct gm_block_info){.size = sizeof(*block)};
	gm_block_info(region->block, block);
	if (block->fd < 0)
		return gm_error_set(err, -ENOTSUP, region->gpa, region->len,
			"layout: region \"%s\" at gpa 0x%" PRIx64
			" has no fd to send: make its block with GM_BLOCK_SHARE",
			region->name, region->gpa);
	if (block->flags & GM_BLOCK_PRIVATE)
		return gm_error_set(err, -ENOTSUP, region->gpa, region->len,
			"layout: region \"%s\" at gpa 0x%" PRIx64
			" is a private mapping: its fd does not have its bytes",
			region->name, region->gpa);
	return 0;
}

static struct gm_layout_file *find_file(struct gm_layout_sender *sender, const struct stat *st)
{
	for (uint32_t i = 0; i < sender->nr_files; i++) {
		if (sender->files[i].dev == st->st_dev && sender->files[i].ino == st->st_ino)
			return &sender->files[i];
	}
	return NULL;
}

/* Takes an entry for the file behind @fd, or finds it; a writable fd takes the place of one that is
 * not. */
static int add_file(struct gm_layout_sender *sender, const struct gm_region_info *region, int fd,
	uint32_t perms, uint32_t *ret, struct gm_error *err)
{
	struct gm_layout_file *file;
	struct stat st;
	int flags = gm_sys_open_flags(fd);
	int rc = flags < 0 ? flags : gm_sys_fstat(fd, &st);
	bool writable;

	if (rc)
		return gm_error_set(err, rc, region->gpa, 0, "layout: fd of region \"%s\": %s",
			region->name, gm_error_word(rc));
	writable = (flags & O_ACCMODE) == O_RDWR;
	file = find_file(sender, &st);
	if (!file) {
		if (sender->nr_files == GM_LAYOUT_FDS_MAX)
			return gm_error_set(err, -E2BIG, region->gpa, 0,
				"layout: more than %u files", GM_LAYOUT_FDS_MAX);
		file = &sender->files[sender->nr_files++];
		*file = (struct gm_layout_file){.dev = st.st_dev, .ino = st.st_ino};
	}
	if (!file->block || (writable && !file->writable)) {
		gm_block_put(file->block);
		file->block = gm_block_get(region->block);
		file->fd = fd;
		file->writable = writable;
	}
	file->size = (uint64_t)st.st_size;
	file->perms |= perms;
	*ret = (uint32_t)(file - sender->files);
	return 0;
}

static int add_memory(struct gm_layout_sender *sender, const struct gm_region_info *region,
	struct gm_wire_region *wire, struct gm_error *err)
{
	struct gm_block_info block;
	int rc = check_block(region, &block, err);

	if (rc)
		return rc;
	wire->off = block.offset + region->block_off;
	wire->perms = region->perms & sender->mask;
	if (wire->kind == GM_WIRE_ROM)
		wire->perms &= ~GM_PERM_W;
	if (wire->perms == 0)
		return gm_error_set(err, -EINVAL, region->gpa, region->len,
			"layout: no permission would be left for region \"%s\" at gpa 0x%" PRIx64,
			region->name, region->gpa);
	rc = add_file(sender, region, block.fd, wire->perms, &wire->file, err);
	if (rc)
		return rc;
	if (wire->off > sender->files[wire->file].size ||
		wire->len > sender->files[wire->file].size - wire->off)
		return gm_error_set(err, -ERANGE, region->gpa, region->len,
			"layout: the file of region \"%s\" at gpa 0x%" PRIx64
			" has shrunk to %" PRIu64 " bytes",
			region->name, region->gpa, sender->files[wire->file].size);
	return 0;
}

/*
 * To the peer a ROM device is ROM, and what only a device answers or only the guest may use is reserved.
 */
static uint32_t wire_kind(const struct gm_region_info *region)
{
	if (!region->block || region->part == GM_PART_PRIVATE)
		return GM_WIRE_RESERVED;
	return region->kind == GM_REGION_ROM || region->kind == GM_REGION_ROMD ? GM_WIRE_ROM
									       : GM_WIRE_RAM;
}

static int add_region(
	struct gm_layout_sender *sender, const struct gm_region_info *region, struct gm_error *err)
{
	struct gm_wire_region *wire = &sender->regions[sender->nr_regions++];

	*wire = (struct gm_wire_region){
		.gpa = region->gpa,
		.len = region->len,
		.file = GM_WIRE_NO_FILE,
		.kind = wire_kind(region),
	};
	memcpy(wire->name, region->name, sizeof(wire->name));
	return wire->kind == GM_WIRE_RESERVED ? 0 : add_memory(sender, region, wire, err);
}

/* Passes each region to @each, or only counts them if it is NULL. */
static int walk(struct gm_layout_sender *sender, struct gm_space *space,
	int (*each)(struct gm_layout_sender *, const struct gm_region_info *, struct gm_error *),
	uint32_t *ret_nr, struct gm_error *err)
{
	struct gm_region_info region = {.size = sizeof(region)};
	uint64_t gpa = 0;
	uint32_t nr = 0;

	while (gm_space_next(space, gpa, &region) == 0) {
		bool sent = region.part != GM_PART_UNPLUGGED;
		int rc = each && sent ? each(sender, &region, err) : 0;

		if (rc)
			return rc;
		nr += sent;
		if (__builtin_add_overflow(region.gpa, region.len, &gpa))
			break;
	}
	*ret_nr = nr;
	return 0;
}

static int write_down(struct gm_layout_sender *sender, struct gm_space *space, struct gm_error *err)
{
	uint32_t nr = 0;
	int rc = gm_space_hold(space, err);

	if (rc)
		return rc;
	walk(sender, space, NULL, &nr, NULL);
	if (nr > GM_LAYOUT_REGIONS_MAX)
		rc = gm_error_set(err, -E2BIG, 0, 0,
			"layout: %u regions are more than the %u that can be sent", nr,
			GM_LAYOUT_REGIONS_MAX);
	else
		sender->regions = gm_sys_alloc_array(nr + 1, sizeof(*sender->regions));
	if (!rc && !sender->regions)
		rc = gm_error_set(err, -ENOMEM, 0, 0, "layout: out of memory");
	if (!rc)
		rc = walk(sender, space, add_region, &nr, err);
	gm_space_release(space);
	return rc;
}

/* Whoever may only read gets an fd that is open for reading only. */
static int narrow_files(struct gm_layout_sender *sender, struct gm_error *err)
{
	for (uint32_t i = 0; i < sender->nr_files; i++) {
		struct gm_layout_file *file = &sender->files[i];
		char path[40];
		int fd;

		if (!file->writable || (file->perms & GM_PERM_W))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
		do {
			fd = gm_sys_open(path, O_RDONLY, 0);
		} while (fd == -EINTR);
		if (fd < 0)
			return gm_error_set(err, fd, 0, 0,
				"layout: cannot open %s for reading only: %s", path,
				gm_error_word(fd));
		file->fd = fd;
		file->own = true;
	}
	return 0;
}

/* ---- sending ---- */

int gm_layout_check_socket(int sock, struct gm_error *err)
{
	int domain;
	int type;
	int rc = gm_sys_socket_kind(sock, &domain, &type);

	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "layout: socket %d: %s", sock, gm_error_word(rc));
	if (domain != AF_UNIX || (type != SOCK_STREAM && type != SOCK_SEQPACKET))
		return gm_error_set(err, -EPROTOTYPE, 0, 0,
			"layout: socket %d is no Unix socket of type SOCK_STREAM or SOCK_SEQPACKET",
			sock);
	return 0;
}

static int explain_send(int rc, struct gm_error *err)
{
	if (rc == -EAGAIN)
		return gm_error_set(err, rc, 0, 0,
			"layout: cannot send: the socket's deadline has passed (SO_SNDTIMEO), or "
			"it does not block");
	return gm_error_set(err, rc, 0, 0, "layout: cannot send: %s", gm_error_word(rc));
}

/* Sends all bytes, and the fds in @control with the first of them. */
static int send_all(
	int sock, uint8_t *buf, size_t len, void *control, size_t control_len, struct gm_error *err)
{
	while (len > 0) {
		struct iovec iov = {.iov_base = buf, .iov_len = len < PIECE_MAX ? len : PIECE_MAX};
		const struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control_len ? control : NULL,
			.msg_controllen = control_len,
		};
		ssize_t nr = gm_sys_sendmsg(sock, &msg, 0);

		if (nr == -EINTR)
			continue;
		if (nr == -ECONNRESET || nr == 0)
			nr = -EPIPE;
		if (nr < 0)
			return explain_send((int)nr, err);
		control_len = 0;
		buf += nr;
		len -= (size_t)nr;
	}
	return 0;
}

static int send_head(
	const struct gm_layout_sender *sender, int sock, uint8_t *head, struct gm_error *err)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(GM_LAYOUT_FDS_MAX * sizeof(int))];
	} control = {0};
	size_t bytes = sender->nr_files * sizeof(int);

	if (sender->nr_files > 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(bytes);
		for (uint32_t i = 0; i < sender->nr_files; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &sender->files[i].fd,
				sizeof(int));
	}
	return send_all(sock, head, GM_WIRE_HEAD_SIZE, &control,
		sender->nr_files ? CMSG_SPACE(bytes) : 0, err);
}

static int send_layout(const struct gm_layout_sender *sender, int sock, struct gm_error *err)
{
	size_t len =
		sender->nr_files * GM_WIRE_FILE_SIZE + sender->nr_regions * GM_WIRE_REGION_SIZE;
	uint8_t *buf = gm_sys_alloc(GM_WIRE_HEAD_SIZE + len);
	uint8_t *at = buf;
	int rc;

	if (!buf)
		return gm_error_set(err, -ENOMEM, 0, 0, "layout: out of memory");
	gm_wire_put_head(at, sender->nr_regions, sender->nr_files);
	at += GM_WIRE_HEAD_SIZE;
	for (uint32_t i = 0; i < sender->nr_files; i++, at += GM_WIRE_FILE_SIZE)
		gm_wire_put_file(at, &(struct gm_wire_file){.size = sender->files[i].size});
	for (uint32_t i = 0; i < sender->nr_regions; i++, at += GM_WIRE_REGION_SIZE)
		gm_wire_put_region(at, &sender->regions[i]);
	rc = send_head(sender, sock, buf, err);
	if (!rc)
		rc = send_all(sock, buf + GM_WIRE_HEAD_SIZE, len, NULL, 0, err);
	gm_sys_free(buf);
	return rc;
}

int gm_layout_write_down(
	struct gm_space *space, uint32_t perms, struct gm_layout_sender **ret, struct gm_error *err)
{
	struct gm_layout_sender *sender = gm_sys_alloc(sizeof(*sender));
	int rc;

	if (!sender)
		return gm_error_set(err, -ENOMEM, 0, 0, "layout: out of memory");
	sender->mask = perms ? perms : GM_PERM_RWX;
	rc = write_down(sender, space, err);
	if (rc)
		gm_layout_forget(sender);
	else
		*ret = sender;
	return rc;
}

int gm_layout_deliver(struct gm_layout_sender *sender, int sock, struct gm_error *err)
{
	int rc = narrow_files(sender, err);

	return rc ? rc : send_layout(sender, sock, err);
}

int gm_layout_send(struct gm_space *space, int sock, uint32_t perms, struct gm_error *err)
{
	struct gm_layout_sender *sender = NULL;
	int rc;

	if (perms & ~GM_PERM_RWX)
		return gm_error_set(
			err, -EINVAL, 0, 0, "layout: permissions 0x%x are not known", perms);
	rc = gm_layout_check_socket(sock, err);
	if (!rc)
		rc = gm_layout_write_down(space, perms, &sender, err);
	if (!rc)
		rc = gm_layout_deliver(sender, sock, err);
	gm_layout_forget(sender);
	return rc;
}
