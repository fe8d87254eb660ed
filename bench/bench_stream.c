/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_stream.c - transfers between guest memory and fds, against the bare system call on the same
 * memory.
 *
 * usage: bench_stream [--json FILE]
 */
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"

#define LEN 512u
#define PIECES 16u
#define LARGE (1u << 20)

static struct gm_space *space;
static struct gm_reader *reader;
static uint8_t *base; /* of the guest memory */
static int file;
static int null;
static int socks[2];

static struct gm_stream disk;
static struct gm_stream sink;
static struct gm_stream sock[2];

static void must(bool what)
{
	if (!what)
		abort();
}

static void read_ours(void *ctx, uint64_t iters)
{
	size_t len = *(size_t *)ctx;

	for (uint64_t i = 0; i < iters; i++) {
		gm_stream_seek(&disk, 0);
		must(gm_stream_read(&disk, reader, 4096, len, GM_STREAM_EXACT, NULL) == 0);
	}
}

static void read_bare(void *ctx, uint64_t iters)
{
	size_t len = *(size_t *)ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(pread(file, base + 4096, len, 0) == (ssize_t)len);
}

static void write_ours(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++)
		must(gm_stream_write(&sink, reader, 4096, LEN, GM_STREAM_EXACT, NULL) == 0);
}

static void write_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++)
		must(write(null, base + 4096, LEN) == LEN);
}

static void socket_ours(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		must(gm_stream_write(&sock[0], reader, 4096, LEN, GM_STREAM_EXACT, NULL) == 0);
		must(gm_stream_read(&sock[1], reader, 8192, LEN, GM_STREAM_EXACT, NULL) == 0);
	}
}

static void socket_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		must(send(socks[0], base + 4096, LEN, MSG_NOSIGNAL) == LEN);
		must(recv(socks[1], base + 8192, LEN, 0) == LEN);
	}
}

/* A chain of 16 pieces of 512 bytes, built anew each time as a device does. */
static void chain_ours(void *ctx, uint64_t iters)
{
	struct gm_chain_elem elems[PIECES];

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		struct gm_chain chain;

		for (uint32_t j = 0; j < PIECES; j++)
			elems[j] = (struct gm_chain_elem){
				4096 + UINT64_C(1024) * j, LEN, GM_CHAIN_WRITE, 0};
		must(gm_chain_init(&chain, elems, PIECES, NULL, NULL) == 0);
		gm_stream_seek(&disk, 0);
		must(gm_stream_read_chain(
			     &disk, reader, &chain, LEN * PIECES, GM_STREAM_EXACT, NULL) == 0);
	}
}

static void chain_bare(void *ctx, uint64_t iters)
{
	struct iovec iov[PIECES];

	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		for (uint32_t j = 0; j < PIECES; j++)
			iov[j] = (struct iovec){base + 4096 + 1024 * j, LEN};
		must(preadv(file, iov, PIECES, 0) == LEN * PIECES);
	}
}

static void pin_and_put(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++) {
		struct iovec slice;
		struct gm_pin pin;

		must(gm_pin_slice(gm_reader_enter(reader), 4096, LEN, GM_PERM_W, &slice, &pin) ==
			0);
		gm_reader_leave(reader);
		gm_pin_put_written(&pin, LEN);
	}
}

static void set_up(void)
{
	struct gm_block_opts ram = {
		.size = sizeof(ram), .len = 16u << 20, .flags = GM_BLOCK_POPULATE | GM_BLOCK_SHARE};
	const struct gm_region_desc desc = {.size = sizeof(desc), .backing = &ram};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_error err;
	uint64_t id;

	must(gm_space_create(NULL, &space, &err) == 0);
	must(gm_space_add(space, &desc, &id, &err) == 0);
	must(gm_space_region(space, id, &info) == 0);
	base = info.hva;
	memset(base, 1, 16u << 20);
	must(gm_reader_create(space, "bench", &reader, &err) == 0);
	file = memfd_create("bench", MFD_CLOEXEC);
	must(write(file, base, LARGE) == LARGE);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) == 0);

	must(gm_stream_init_file(&disk, file, 0, &err) == 0);
	must(gm_stream_init_fd(&sink, null, &err) == 0);
	must(gm_stream_init_fd(&sock[0], socks[0], &err) == 0);
	must(gm_stream_init_fd(&sock[1], socks[1], &err) == 0);
}

static size_t small = LEN;
static size_t page = 4096;
static size_t large = LARGE;

static const struct bench_row rows[] = {
	{"section, pin, put", pin_and_put, NULL, "limit", NULL, NULL, 25, 1.0, NULL},
	{"pread 512 bytes of a file in the cache", read_ours, &small, "bare call", read_bare,
		&small, 0, 1.05, NULL},
	{"pread 4 KiB", read_ours, &page, "bare call", read_bare, &page, 0, 1.05, NULL},
	{"pread 1 MiB", read_ours, &large, "bare call", read_bare, &large, 0, 1.05, NULL},
	{"write 512 bytes to /dev/null", write_ours, NULL, "bare call", write_bare, NULL, 0, 0,
		NULL},
	{"send and recv 512 bytes", socket_ours, NULL, "bare calls", socket_bare, NULL, 0, 1.05,
		NULL},
	{"preadv, chain of 16 pieces of 512 bytes", chain_ours, NULL, "bare call", chain_bare, NULL,
		0, 1.05, NULL},
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	set_up();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
