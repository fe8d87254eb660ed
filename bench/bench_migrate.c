/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_migrate.c - pages over a connection of a migration, beside send(2) and recv(2) of the same bytes.
 *
 * usage: bench_migrate [--json FILE]
 *
 * What a migration does is internal, so the objects of the library are linked. Both ends are in one thread, which moves
 * what fits and then turns to the other: so a row is the sum of what both ends cost. An iteration is 256 KiB, of memory
 * that is larger than caches. The bare loop sends from memory and receives into memory.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"
#include "services/migrate_conn.h"

#define PIECE (256u << 10)
#define PAGES (PIECE >> GM_MIGRATE_PAGE_LOG2)
#define MEMORY ((size_t)256 << 20)
#define GOAL (1 / 0.9) /* of the raw rate */

static const struct gm_migrate_region region = {.len = MEMORY, .page_log2 = GM_MIGRATE_PAGE_LOG2};
static uint8_t *memory[2]; /* of the source, of the destination */
static uint8_t *copy;

struct line {
	bool tcp;
	int raw[2];
	struct gm_migrate_terms terms[2];
	struct gm_migrate_conn *c[2];
	size_t at; /* in memory: goes on from sample to sample */
};

static struct line by_unix;
static struct line by_tcp = {.tcp = true};

static void must(bool what)
{
	if (!what)
		abort();
}

static void sockets(bool tcp, int ret[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int on = 1;
	int listening;

	if (!tcp) {
		must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret));
		return;
	}
	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(!bind(listening, (struct sockaddr *)&addr, sizeof(addr)) && !listen(listening, 1));
	must(!getsockname(listening, (struct sockaddr *)&addr, &len));
	must(!connect(ret[0], (struct sockaddr *)&addr, sizeof(addr)));
	ret[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	must(ret[1] >= 0 && !close(listening));
	must(!setsockopt(ret[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
}

static void make(struct line *l)
{
	int fds[2];

	sockets(l->tcp, l->raw);
	sockets(l->tcp, fds);
	for (int end = 0; end < 2; end++) {
		l->terms[end] = (struct gm_migrate_terms){.regions = &region,
			.nr = 1,
			.pages_max = PAGES,
			.codec = GM_MIGRATE_RAW,
			.source = end == 0};
		must(!gm_migrate_conn_create(fds[end], &l->terms[end], &l->c[end], NULL));
		must(!gm_migrate_conn_is(l->c[end], 1, 1));
	}
}

static size_t next(struct line *l)
{
	size_t at = l->at;

	l->at = (at + PIECE) % MEMORY;
	return at;
}

/* What the loop-back device does not give back at once. */
static void wait_for(int fd)
{
	must(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000) == 1);
}

static void move_bare(void *ctx, uint64_t iters)
{
	struct line *l = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		size_t at = next(l);
		size_t sent = 0;
		size_t got = 0;

		while (got < PIECE) {
			ssize_t nr;

			if (sent < PIECE) {
				nr = send(l->raw[0], memory[0] + at + sent, PIECE - sent,
					MSG_DONTWAIT | MSG_NOSIGNAL);
				must(nr > 0 || errno == EAGAIN);
				sent += nr > 0 ? (size_t)nr : 0;
			}
			nr = recv(l->raw[1], memory[1] + at + got, PIECE - got, MSG_DONTWAIT);
			must(nr > 0 || errno == EAGAIN);
			got += nr > 0 ? (size_t)nr : 0;
			if (nr < 0)
				wait_for(l->raw[1]);
		}
	}
}

static const uint8_t *move(struct line *l, size_t at, const uint8_t *from)
{
	struct gm_migrate_place place = {.nr = PAGES, .first = at >> GM_MIGRATE_PAGE_LOG2};
	struct gm_migrate_heard heard;
	const char *why;
	int rc;

	must(gm_migrate_conn_say_pages(l->c[0], 1, &place, GM_MIGRATE_RAW, from) == GM_MIGRATE_RAW);
	do {
		size_t sent;

		rc = gm_migrate_conn_flush(l->c[0], SIZE_MAX, &sent);
		must(!rc || rc == -EAGAIN);
		rc = gm_migrate_conn_recv(l->c[1], &heard, &why);
		must(rc >= 0 || rc == -EAGAIN);
		if (rc < 0)
			wait_for(gm_migrate_conn_fd(l->c[1]));
	} while (rc <= 0);
	must(heard.msg.place.first == place.first);
	return heard.memory;
}

/* From memory that nobody changes, and left where it came. */
static void move_pages(void *ctx, uint64_t iters)
{
	struct line *l = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		size_t at = next(l);

		bench_sink = *move(l, at, memory[0] + at);
	}
}

/* From a copy of memory, as a guest that runs needs it, into memory. */
static void move_copies(void *ctx, uint64_t iters)
{
	struct line *l = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		size_t at = next(l);

		memcpy(copy, memory[0] + at, PIECE);
		memcpy(memory[1] + at, move(l, at, copy), PIECE);
	}
}

#define ROW(words, fn, line, wanted)                                                               \
	{                                                                                          \
		.name = (words), .ours = (fn), .ours_ctx = (line), .against = "send and recv",     \
		.other = move_bare, .other_ctx = (line), .goal = (wanted)                          \
	}

int main(int argc, char **argv)
{
	const struct bench_row rows[] = {
		ROW("migration, 256 KiB, Unix", move_pages, &by_unix, GOAL),
		ROW("migration, 256 KiB, TCP", move_pages, &by_tcp, GOAL),
		ROW("migration, 256 KiB, Unix, copied twice", move_copies, &by_unix, GOAL),
		ROW("migration, 256 KiB, TCP, copied twice", move_copies, &by_tcp, GOAL),
	};

	bench_begin(argc, argv);
	for (int end = 0; end < 2; end++) {
		memory[end] = mmap(
			/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
			NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(memory[end] != MAP_FAILED);
		memset(memory[end], 1 + end, MEMORY);
	}
	copy = aligned_alloc(4096, PIECE);
	must(copy != NULL);
	make(&by_unix);
	make(&by_tcp);
	bench_rows(rows, sizeof(rows) / sizeof(rows[0]));
	return bench_end();
}
