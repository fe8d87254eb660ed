/* SPDX-License-Identifier: BSD-3-Clause */
/* one_net.h - what the tests of examples/vhost_net are made of: the program, a front-end with drivers, packets. */
#ifndef GM_TESTS_ONE_NET_H
#define GM_TESTS_ONE_NET_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

#define PAGE UINT64_C(4096)
#define NR 64u
#define PAIRS 3u
#define WAIT_MS 30000
#define RAM MIB(32)
#define NOWHERE GIB(1)
#define MRG_RXBUF (UINT64_C(1) << 15)
#define MQ (UINT64_C(1) << 22)
#define INDIRECT (UINT64_C(1) << 28)
#define EVENT (UINT64_C(1) << 29)
#define VERSION_1 (UINT64_C(1) << 32)
#define PACKED (UINT64_C(1) << 34)
#define IN_ORDER (UINT64_C(1) << 35)
#define TABLE_AT MIB(3)
#define TX_AT MIB(4)
#define RX_AT MIB(8)
#define RX_ROOM KIB(64) /* between two receive buffers */

enum { RX, TX };

extern char **environ;
static const char *program;
static struct gm_error err;
static char dir[] = "/tmp/gm-net-XXXXXX";
static char path[64];

struct ring {
	struct gm_virtq_driver *driver;
	int kick;
	int call;
	int error;
	uint32_t offered; /* of receive buffers */
};

struct net {
	pid_t pid;
	int out; /* what it says */
	char said[65536];
	size_t nr_said;
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_vhost_frontend *fe;
	uint64_t features;
	uint32_t header;
	struct ring rings[2 * PAIRS];
	uint32_t nr_rings;
};

static struct net n;

/* ---- the program ---- */

static inline pid_t spawn(char *const argv[], int *ret_out)
{
	posix_spawn_file_actions_t actions;
	int out[2];
	pid_t pid = -1;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	assert_int_equal(posix_spawn(&pid, argv[0], &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	*ret_out = out[0];
	return pid;
}

/* Until it has said @text behind place @from. */
static inline const char *hear(const char *text, size_t from)
{
	for (;;) {
		struct pollfd waits = {.fd = n.out, .events = POLLIN};
		const char *at;
		ssize_t got;

		n.said[n.nr_said] = '\0';
		at = strstr(n.said + from, text);
		if (at && strchr(at, '\n'))
			return at;
		if (poll(&waits, 1, WAIT_MS) != 1)
			fail_msg("it does not say \"%s\", but %s", text, n.said);
		got = read(n.out, n.said + n.nr_said, sizeof(n.said) - 1 - n.nr_said);
		if (got <= 0)
			fail_msg("it does not say \"%s\": %s", text, n.said);
		n.nr_said += (size_t)got;
	}
}

struct counts {
	unsigned long taken, taken_bytes, taken_sum, given, given_bytes, given_sum, dropped, bad;
};

static inline struct counts ask_counts(unsigned int pair)
{
	const size_t from = n.nr_said;
	struct counts c = {0};
	char name[32];

	snprintf(name, sizeof(name), "pair %u: ", pair);
	kill(n.pid, SIGUSR1);
	assert_int_equal(sscanf(strchr(hear(name, from), ':'),
				 ": taken %lu packets %lu bytes sum %lu, given %lu packets %lu "
				 "bytes sum %lu, dropped %lu, bad %lu",
				 &c.taken, &c.taken_bytes, &c.taken_sum, &c.given, &c.given_bytes,
				 &c.given_sum, &c.dropped, &c.bad),
		8);
	return c;
}

static inline void start_program(const char *option, const char *value)
{
	char *argv[] = {(char *)(uintptr_t)program, path, (char *)(uintptr_t)option,
		(char *)(uintptr_t)value, NULL};

	n.nr_said = 0;
	n.pid = spawn(argv, &n.out);
	hear("ready\n", 0);
}

static inline void end_program(void)
{
	int status = 0;

	kill(n.pid, SIGTERM);
	assert_int_equal(waitpid(n.pid, &status, 0), n.pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(n.out);
	assert_int_equal(access(path, F_OK), -1);
}

/* ---- the front-end ---- */

static inline struct gm_virtq_opts opts_of(uint32_t index)
{
	return (struct gm_virtq_opts){.size = sizeof(struct gm_virtq_opts),
		.desc = MIB(1) + index * KIB(64),
		.driver = MIB(1) + index * KIB(64) + KIB(32),
		.device = MIB(1) + index * KIB(64) + KIB(48),
		.nr = NR,
		.flags = (n.features & PACKED ? GM_VIRTQ_PACKED : 0) |
			 (n.features & INDIRECT ? GM_VIRTQ_INDIRECT : 0) |
			 (n.features & EVENT ? GM_VIRTQ_EVENT : 0) |
			 (n.features & IN_ORDER ? GM_VIRTQ_IN_ORDER : 0)};
}

/* A ring with nothing in it, from its beginning. */
static inline void start_ring(uint32_t index)
{
	const struct gm_virtq_opts opts = opts_of(index);
	struct ring *r = &n.rings[index];
	const struct gm_vhost_frontend_ring ring = {.size = sizeof(ring),
		.num = NR,
		.desc = opts.desc,
		.avail = opts.driver,
		.used = opts.device,
		.base = n.features & PACKED ? 0x80008000u : 0,
		.kick = r->kick,
		.call = r->call,
		.error = r->error};

	gm_virtq_driver_destroy(r->driver);
	assert_ok(gm_virtq_driver_create(&opts, gm_reader_enter(n.reader), &r->driver, &err));
	gm_reader_leave(n.reader);
	r->offered = 0;
	assert_ok(gm_vhost_frontend_ring_start(n.fe, index, &ring, &err));
}

static inline void open_front(uint64_t features, int fd)
{
	const bool inflight = features & 1;

	features &= ~UINT64_C(1);
	n.features = features;
	n.header = features & (VERSION_1 | MRG_RXBUF) ? 12 : 10;
	assert_ok(gm_space_build(GM_OPTS(gm_space_opts, .gpa_limit = GIB(4)),
		&(struct gm_region_desc){.size = sizeof(struct gm_region_desc),
			.backing = GM_OPTS(gm_block_opts, .len = RAM, .flags = GM_BLOCK_SHARE)},
		1, &n.space, &err));
	assert_ok(gm_reader_create(n.space, "driver", &n.reader, &err));
	assert_ok(gm_vhost_frontend_create(
		GM_OPTS(gm_vhost_frontend_opts, .path = fd < 0 ? path : NULL, .fd = fd,
			.rings = n.nr_rings, .features = features, .needed = features,
			.timeout_ms = WAIT_MS),
		&n.fe, &err));
	assert_ok(gm_vhost_frontend_attach(n.fe, n.space, &err));
	if (inflight)
		assert_ok(gm_vhost_frontend_inflight(n.fe, NR, &err));
	for (uint32_t i = 0; i < n.nr_rings; i++) {
		n.rings[i] = (struct ring){.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			.error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
		start_ring(i);
	}
}

static inline void close_front(void)
{
	const size_t from = n.nr_said;

	assert_ok(gm_vhost_frontend_destroy(n.fe, &err));
	hear("front-end left\n", from);
	for (uint32_t i = 0; i < n.nr_rings; i++) {
		gm_virtq_driver_destroy(n.rings[i].driver);
		close(n.rings[i].kick);
		close(n.rings[i].call);
		close(n.rings[i].error);
	}
	gm_reader_destroy(n.reader);
	gm_space_destroy(n.space);
}

/* ---- packets ---- */

static inline uint8_t byte_at(uint32_t packet, size_t i)
{
	return (uint8_t)(packet * 31 + i * 7 + (i >> 8));
}

static inline void show(uint32_t index, bool kick)
{
	const uint64_t one = 1;
	int rc = gm_virtq_driver_show(n.rings[index].driver, gm_reader_enter(n.reader));

	gm_reader_leave(n.reader);
	assert_true(rc >= 0);
	if (rc && kick)
		assert_int_equal(write(n.rings[index].kick, &one, sizeof(one)), sizeof(one));
}

static inline void add(uint32_t index, const struct gm_chain_elem *elems, size_t nr, uint64_t table)
{
	const struct gm_view *view = gm_reader_enter(n.reader);

	assert_int_equal(gm_virtq_driver_add(n.rings[index].driver, view, elems, nr, table,
				 (void *)(uintptr_t)(n.rings[index].offered++ + 1)),
		0);
	gm_reader_leave(n.reader);
}

/* A chain that is back; its number, from 0. -1: there is none. */
static inline int take(uint32_t index, uint32_t *ret_len)
{
	void *token = NULL;
	int rc = gm_virtq_driver_take(
		n.rings[index].driver, gm_reader_enter(n.reader), &token, ret_len, &err);

	gm_reader_leave(n.reader);
	assert_true(rc >= 0);
	return rc ? (int)(uintptr_t)token - 1 : -1;
}

static inline int ask_for_calls(uint32_t index)
{
	int rc = gm_virtq_driver_calls(n.rings[index].driver, gm_reader_enter(n.reader), true);

	gm_reader_leave(n.reader);
	assert_true(rc >= 0);
	return rc;
}

static inline int wait_for(uint32_t index, uint32_t *ret_len)
{
	struct pollfd waits = {.fd = n.rings[index].call, .events = POLLIN};
	uint64_t nr;
	int token;

	while ((token = take(index, ret_len)) < 0) {
		/* With EVENT_IDX calls are asked for anew. */
		if (!ask_for_calls(index))
			assert_int_equal(poll(&waits, 1, WAIT_MS), 1);
		(void)!read(waits.fd, &nr, sizeof(nr));
	}
	return token;
}

/* Offers receive buffers of @len bytes, each in @parts. */
static inline void offer(uint32_t pair, uint32_t nr, uint32_t len, uint32_t parts)
{
	struct gm_chain_elem elems[8];
	struct ring *r = &n.rings[2 * pair + RX];

	for (uint32_t i = 0; i < nr; i++) {
		const uint64_t at = RX_AT + (r->offered % NR) * RX_ROOM + pair * KIB(20);

		for (uint32_t p = 0; p < parts; p++) {
			const uint64_t from = (uint64_t)len * p / parts;
			const uint64_t to = (uint64_t)len * (p + 1) / parts;

			elems[p] = (struct gm_chain_elem){
				.gpa = at + from, .len = to - from, .flags = GM_CHAIN_WRITE};
		}
		add(2 * pair + RX, elems, parts, 0);
	}
	show(2 * pair + RX, true);
}

/* Sends a packet in so many parts, the header in the first, or by itself; waits until it is taken. */
static inline void send_packet(
	uint32_t pair, uint32_t packet, size_t len, uint32_t parts, bool kick)
{
	const size_t whole = n.header + len;
	const struct gm_view *view = gm_reader_enter(n.reader);
	struct gm_chain_elem elems[8];
	uint32_t got;

	/* What is in the header is no business of who receives. */
	assert_int_equal(gm_fill(view, TX_AT, 0xee, n.header, NULL), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(gm_write_u8(view, TX_AT + n.header + i, byte_at(packet, i)), 0);
	gm_reader_leave(n.reader);
	elems[0] = (struct gm_chain_elem){.gpa = TX_AT, .len = parts > 1 ? n.header : whole};
	for (uint32_t p = 1; p < parts; p++) {
		const uint64_t from = len * (p - 1) / (parts - 1);
		const uint64_t to = len * p / (parts - 1);

		elems[p] = (struct gm_chain_elem){.gpa = TX_AT + n.header + from, .len = to - from};
	}
	add(2 * pair + TX, elems, parts, (n.features & INDIRECT) && (packet & 1) ? TABLE_AT : 0);
	show(2 * pair + TX, kick);
	wait_for(2 * pair + TX, &got);
	assert_int_equal(got, 0);
}

/* It is there, with its header, in as many buffers of @room bytes as it needs. */
static inline void receive(uint32_t pair, uint32_t packet, size_t len, uint32_t room)
{
	const size_t whole = n.header + len;
	const size_t buffers = (whole + room - 1) / room;
	const struct gm_view *view = gm_reader_enter(n.reader);
	size_t at = 0;

	for (size_t b = 0; b < buffers; b++) {
		const size_t part = whole - at < room ? whole - at : room;
		uint8_t bytes[16384];
		uint32_t got = 0;
		int token = take(2 * pair + RX, &got);

		assert_true(token >= 0);
		assert_int_equal(got, part);
		assert_int_equal(
			gm_read(view, RX_AT + ((uint32_t)token % NR) * RX_ROOM + pair * KIB(20),
				bytes, part, NULL),
			0);
		for (size_t i = 0; i < part; i++, at++) {
			const uint8_t wanted = at >= n.header ? byte_at(packet, at - n.header)
					       : at == 10     ? (uint8_t)buffers
							      : 0;

			if (bytes[i] != wanted)
				fail_msg("byte %zu of packet %u of %zu is %u", at, packet, len,
					bytes[i]);
		}
	}
	gm_reader_leave(n.reader);
}

static inline void assert_counts(uint32_t pair, unsigned long taken, unsigned long given,
	unsigned long dropped, unsigned long bad)
{
	const struct counts c = ask_counts(pair);

	assert_int_equal(c.taken, taken);
	assert_int_equal(c.given, given);
	assert_int_equal(c.dropped, dropped);
	assert_int_equal(c.bad, bad);
	if (!dropped && !bad)
		assert_true(c.taken_bytes == c.given_bytes && c.taken_sum == c.given_sum);
}

#endif
