/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover.c - make memory, start a device process with a socket on its fd 0, hand the memory over,
 * and look at what the device did. "handover PATH-OF-DEVICE"
 */
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct request {
	uint64_t addr;
	uint64_t len;
	uint64_t done;
};
GM_PLAIN_DATA(struct request, addr, len, done);

static int fail(const char *what)
{
	fprintf(stderr, "handover: %s\n", what);
	return 1;
}

/* Starts the device; returns our end of the socket. */
static int start(const char *path)
{
	int sock[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		return -1;
	if (fork() == 0) {
		dup2(sock[1], 0);
		execl(path, path, (char *)NULL);
		_exit(127);
	}
	close(sock[1]);
	return sock[0];
}

int main(int argc, char **argv)
{
	struct gm_block_opts shared = {.size = sizeof(shared), .flags = GM_BLOCK_SHARE};
	struct gm_region_desc ram = {.size = sizeof(ram), .len = 16 << 20, .backing = &shared};
	struct request req = {.addr = 0x200000, .len = 4096, .done = 0};
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_error err;
	uint64_t word = 0;
	int status = 0;
	int sock = argc == 2 ? start(argv[1]) : -1;

	if (sock < 0)
		return fail("cannot start the device");
	if (gm_space_build(NULL, &ram, 1, &space, &err) ||
		gm_reader_create(space, "vmm", &reader, &err))
		return fail(err.text);
	gm_write_object(gm_reader_enter(reader), 0x1000, &req);
	gm_reader_leave(reader);
	if (gm_layout_send(space, sock, GM_PERM_RW, &err))
		return fail(err.text);
	if (wait(&status) < 0 || status)
		return fail("the device failed");
	gm_read_object(gm_reader_enter(reader), 0x1000, &req);
	gm_read_u64(gm_reader_enter(reader), req.addr + req.len - 8, &word);
	gm_reader_leave(reader);
	gm_reader_leave(reader);
	printf("device filled %lu bytes at 0x%lx\n", req.done, req.addr);
	close(sock);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return req.done != req.len || word != 0x5a5a5a5a5a5a5a5a;
}
