/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_peer.c - any bytes as what a server of pages says, to a client that asks for three pieces; and as what a client
 * says, to a server. In what comes as a welcome the magic is right, or the fuzzer would stay outside.
 *
 * The memory is that of the server: what a client takes for right is it, since sums are wrong otherwise. An input that
 * has the sum of other bytes is a lie that no checksum finds, so only lengths and ends are looked at.
 */
#include <guestmem/peer.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/peer_wire.h"

#define PIECES 3

struct said {
	const uint8_t *bytes;
	size_t len;
	unsigned int calls;
	int fds[2]; /* the ends that have said it */
};

static int answer(void *ctx)
{
	struct said *said = ctx;
	int fds[2];

	/* Another one comes once, with the same to say. */
	if (said->calls == 2)
		return -ECONNREFUSED;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		abort();
	if (send(fds[1], "GMPAGES\n", 8, MSG_NOSIGNAL) != 8)
		abort();
	if (said->len && send(fds[1], said->bytes, said->len, MSG_NOSIGNAL) < 0)
		abort();
	shutdown(fds[1], SHUT_WR);
	said->fds[said->calls++] = fds[1];
	return fds[0];
}

static void on_done(struct gm_source_read *read, int rc)
{
	unsigned int *nr = read->ctx;

	if (rc > 0 || !*nr)
		abort();
	--*nr;
}

static void as_server(const uint8_t *data, size_t size)
{
	struct said said = {.bytes = data, .len = size};
	const struct gm_peer_opts opts = {.size = sizeof(opts),
		.connect = answer,
		.ctx = &said,
		.connect_ms = 1,
		.retry_ms = 1};
	/* Exactly as long as they are asked for. */
	uint8_t *bufs[PIECES] = {malloc(100), malloc(4096), malloc(9000)};
	const size_t lens[PIECES] = {100, 4096, 9000};
	struct gm_source_read reads[PIECES];
	unsigned int left = 0;
	struct gm_source *source;
	struct gm_error err;

	if (gm_source_peer(&opts, &source, &err)) {
		if (!err.text[0])
			abort();
	} else {
		for (size_t i = 0; i < PIECES; i++) {
			reads[i] = (struct gm_source_read){.offset = 4096 * i,
				.len = lens[i],
				.buf = bufs[i],
				.done = on_done,
				.ctx = &left};
			left++;
			if (gm_source_start(source, &reads[i]))
				left--;
		}
		for (int i = 0; i < 5 && gm_source_step(source) == 0; i++)
			;
		gm_source_destroy(source);
	}
	for (size_t i = 0; i < PIECES; i++)
		free(bufs[i]);
	while (said.calls)
		close(said.fds[--said.calls]);
}

static void as_client(const uint8_t *data, size_t size)
{
	static const uint8_t memory[16384] = {1, 2, 3};
	struct gm_source *source;
	struct gm_error err;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		abort();
	if (send(fds[0], "GMPAGES\n", 8, MSG_NOSIGNAL) != 8)
		abort();
	if (size && send(fds[0], data, size, MSG_NOSIGNAL) < 0)
		abort();
	/* It does not listen. */
	shutdown(fds[0], SHUT_RDWR);
	if (gm_source_memory(memory, sizeof(memory), &source, &err))
		abort();
	err.text[0] = '\0';
	if (gm_peer_serve(fds[1], source, NULL, &err) && !err.text[0])
		abort();
	gm_source_destroy(source);
	close(fds[0]);
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	as_server(data, size);
	as_client(data, size);
	return 0;
}
