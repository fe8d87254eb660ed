/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout_peer.h - the other end of a layout, by hand: raw bytes and descriptors into a socket.
 *
 * Included by one test program each, so the functions are static.
 */
#ifndef GM_TESTS_LAYOUT_PEER_H
#define GM_TESTS_LAYOUT_PEER_H

#include "support.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/layout_wire.h"

#define PAGE 4096u
#define FILES GM_WIRE_HEAD_SIZE
#define REGIONS (FILES + GM_WIRE_FILE_SIZE)
#define LEN (REGIONS + 2 * GM_WIRE_REGION_SIZE)

static const struct gm_space_opts small = {.size = sizeof(small), .gpa_limit = GIB(1)};

static struct gm_error err;
static int sock[2];

static inline int make_memfd(uint64_t size, int seals)
{
	int fd = memfd_create("layout", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* A good layout: one file of four pages, RAM and ROM in it. */
static inline void make_layout(uint8_t *buf)
{
	const struct gm_wire_region ram = {
		.gpa = 0, .len = 2 * PAGE, .kind = GM_WIRE_RAM, .perms = GM_PERM_RW, .name = "ram"};
	const struct gm_wire_region rom = {.gpa = 16 * PAGE,
		.len = PAGE,
		.off = 3 * PAGE,
		.kind = GM_WIRE_ROM,
		.perms = GM_PERM_RX,
		.name = "rom"};

	gm_wire_put_head(buf, 2, 1);
	gm_wire_put_file(buf + FILES, &(struct gm_wire_file){.size = 4 * PAGE});
	gm_wire_put_region(buf + REGIONS, &ram);
	gm_wire_put_region(buf + REGIONS + GM_WIRE_REGION_SIZE, &rom);
}

static inline void put(uint8_t *buf, size_t off, unsigned int width, uint64_t value)
{
	for (unsigned int i = 0; i < width; i++)
		buf[off + i] = (uint8_t)(value >> (8 * i));
}

/* Sends bytes with descriptors, as one message. */
static inline void send_raw(const void *buf, size_t len, const int *fds, size_t nr)
{
	static union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nr > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, nr * sizeof(int));
	}
	assert_int_equal(sendmsg(sock[0], &msg, MSG_NOSIGNAL), (ssize_t)len);
}

/* Receives; on failure the output is untouched and there is a text. */
static inline int receive(void)
{
	struct gm_space *space = (struct gm_space *)&err;
	int rc;

	memset(&err, 0, sizeof(err));
	rc = gm_layout_recv(sock[1], &small, &space, &err);
	if (rc) {
		assert_true(rc < 0);
		assert_int_equal(err.code, rc);
		assert_ptr_equal(space, &err);
		assert_true(err.text[0] != '\0');
	} else {
		gm_space_destroy(space);
	}
	return rc;
}

#endif
