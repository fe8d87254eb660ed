/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_pair.c - see migrate_pair.h. */
#include "migrate_pair.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "random.h"
#include "services/codec.h"

const struct gm_migrate_region p_regions[P_REGIONS] = {
	{.gpa = 0, .len = MIB(2), .page_log2 = 12},
	{.gpa = GIB(1), .len = GIB(64), .page_log2 = 21},
	{.gpa = GIB(1024), .len = GIB(2), .fd_off = GIB(3), .page_log2 = 30, .by_fd = true},
};

#define ANY_NUMBER UINT64_C(0x8182838485868788)
#define BULK 1u
#define URGENT (1u + GM_MIGRATE_BULK_MAX)
#define TEXT "2 MiB \u2260 4 KiB"

const struct sample samples[] = {
	{GM_MIGRATE_LAYOUT, .number = P_REGIONS, .nr = P_REGIONS},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_RAW, .slot = BULK, .number = 7, .nr = 1},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_RAW, .slot = BULK + 15, .number = UINT64_MAX,
		.nr = P_PAGES},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_BY_ZSTD, .slot = BULK, .number = 1, .nr = 1,
		.packs = true},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_BY_LZ4, .slot = BULK, .number = 1, .nr = 3,
		.packs = true},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_BY_ZSTD, .slot = URGENT, .nr = P_PAGES,
		.packs = true},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_BY_LZ4, .slot = URGENT + 3, .nr = P_PAGES,
		.packs = true},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_ZEROS, .slot = BULK, .number = 2, .nr = P_PAGES},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_LOST, .slot = URGENT, .nr = 2},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_RAW, .number = 3, .nr = 5},
	{GM_MIGRATE_PAGES, .kind = GM_MIGRATE_BY_LZ4, .number = 3, .nr = 5, .packs = true},
	{GM_MIGRATE_ROUND, .slot = BULK, .number = 9},
	{GM_MIGRATE_ROUND, .number = UINT64_MAX},
	{GM_MIGRATE_DISCARD, .nr = 1},
	{GM_MIGRATE_DISCARD, .nr = GM_MIGRATE_PLACES_MAX},
	{GM_MIGRATE_STATE, .number = 0x1234, .nr = 1},
	{GM_MIGRATE_STATE, .number = 5, .nr = 40}, /* fits behind a head; does not */
	{GM_MIGRATE_STATE, .number = 5, .nr = 41},
	{GM_MIGRATE_STATE, .number = 0, .nr = P_PAGES << 12},
	{GM_MIGRATE_SWITCH, .number = GM_MIGRATE_REST_LATER},
	{GM_MIGRATE_RUN, 0},
	{GM_MIGRATE_RECLAIM, 0},
	{GM_MIGRATE_CANCEL, .number = 4095},
	{GM_MIGRATE_DONE, 0},
	{GM_MIGRATE_RESUME, .number = GM_MIGRATE_IN_POSTCOPY},
	{GM_MIGRATE_PING, .number = ANY_NUMBER},
	{GM_MIGRATE_PONG, .number = ANY_NUMBER},
	{GM_MIGRATE_PING, .from = DESTINATION, .number = ANY_NUMBER},
	{GM_MIGRATE_PONG, .from = DESTINATION, .number = ANY_NUMBER},
	{GM_MIGRATE_ACCEPTED, .from = DESTINATION},
	{GM_MIGRATE_REFUSED, .from = DESTINATION, .number = EINVAL, .nr = sizeof(TEXT) - 1},
	{GM_MIGRATE_REFUSED, .from = DESTINATION, .number = 1},
	{GM_MIGRATE_READY, .from = DESTINATION},
	{GM_MIGRATE_RUNNING, .from = DESTINATION},
	{GM_MIGRATE_RECLAIMED, .from = DESTINATION},
	{GM_MIGRATE_DONE_ACK, .from = DESTINATION},
	{GM_MIGRATE_RESUMED, .from = DESTINATION, .number = GM_MIGRATE_ENDED},
	{GM_MIGRATE_HAVE, .from = DESTINATION, .nr = 13},
	{GM_MIGRATE_HAVE, .from = DESTINATION, .nr = 8 * GM_MIGRATE_BITS_MAX},
	{GM_MIGRATE_REQUEST, .from = DESTINATION, .slot = URGENT + 1, .number = 258, .nr = 1},
	{GM_MIGRATE_REQUEST, .from = DESTINATION, .number = 1, .nr = 512},
	{GM_MIGRATE_DROPPED, .from = DESTINATION, .nr = 2},
	{GM_MIGRATE_DROPPED, .from = DESTINATION, .nr = GM_MIGRATE_PLACES_MAX},
	{GM_MIGRATE_GIVEN_UP, .from = DESTINATION, .number = EIO},
};
const size_t nr_samples = sizeof(samples) / sizeof(samples[0]);

/* ---- ends ---- */

static void tcp_sockets(int ret[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(listening >= 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listening, 1), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&addr, &len), 0);
	ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(ret[0] >= 0);
	assert_int_equal(connect(ret[0], (struct sockaddr *)&addr, sizeof(addr)), 0);
	ret[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(ret[1] >= 0);
	close(listening);
}

void pair_sockets(enum pair_kind kind, int ret[2])
{
	if (kind == OVER_TCP)
		tcp_sockets(ret);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret), 0);
}

void pair_init(struct pair *p, enum pair_kind kind)
{
	static struct gm_migrate_region room[GM_MIGRATE_REGIONS_MAX];

	*p = (struct pair){.room = room};
	for (int end = 0; end < 2; end++)
		p->terms[end] = (struct gm_migrate_terms){.regions = p_regions,
			.nr = P_REGIONS,
			.pages_max = P_PAGES,
			.features = GM_MIGRATE_FEATURES,
			.codec = GM_MIGRATE_RAW,
			.source = end == SOURCE};
	p->terms[DESTINATION].room = p->room;
	pair_sockets(kind, p->fd);
}

void pair_conn(struct pair *p, int end, uint32_t slot)
{
	struct gm_error err = {0};

	assert_ok(gm_migrate_conn_create(p->fd[end], &p->terms[end], &p->c[end], &err));
	assert_int_equal(gm_migrate_conn_fd(p->c[end]), p->fd[end]);
	assert_int_equal(gm_migrate_conn_is(p->c[end], slot, 1), 0);
}

void pair_open(struct pair *p, enum pair_kind kind, uint32_t slot)
{
	pair_init(p, kind);
	pair_conn(p, SOURCE, slot);
	pair_conn(p, DESTINATION, slot);
}

void pair_close(struct pair *p)
{
	for (int end = 0; end < 2; end++) {
		if (p->c[end])
			gm_migrate_conn_free(p->c[end]);
		else if (p->fd[end] >= 0)
			close(p->fd[end]);
	}
}

/* ---- messages ---- */

const uint8_t *sample_memory(bool packs)
{
	static _Alignas(8) uint8_t memory[2][P_PAGES << 12];
	static bool made;

	if (!made) {
		struct rng rng = {77};

		for (size_t i = 0; i < sizeof(memory[0]); i++) {
			memory[0][i] = (uint8_t)rng_next(&rng);
			memory[1][i] = (uint8_t)(i % 61 + i / 4096);
		}
		made = true;
	}
	return memory[packs];
}

static struct gm_migrate_place place_of(const struct sample *s)
{
	return (struct gm_migrate_place){.region = 1, .nr = s->nr, .first = 0x20200};
}

/* Places of DISCARD, DROPPED. */
static struct gm_migrate_place place_at(uint32_t i)
{
	return (struct gm_migrate_place){.region = 1, .nr = 512 + i, .first = 512 * i};
}

static size_t put_body(const struct sample *s, uint8_t *bytes)
{
	struct gm_migrate_place place = place_of(s);

	switch (s->type) {
	case GM_MIGRATE_DISCARD:
	case GM_MIGRATE_DROPPED:
		for (uint32_t i = 0; i < s->nr; i++) {
			place = place_at(i);
			gm_migrate_put_place(&place, bytes + (size_t)i * GM_MIGRATE_PLACE);
		}
		return (size_t)s->nr * GM_MIGRATE_PLACE;
	case GM_MIGRATE_STATE:
		memcpy(bytes, sample_memory(false), s->nr);
		return s->nr;
	case GM_MIGRATE_SWITCH:
		gm_migrate_put_switch(UINT64_C(0x123456789a), bytes);
		return GM_MIGRATE_SWITCH_LEN;
	case GM_MIGRATE_REFUSED:
		return s->nr ? gm_migrate_put_text(TEXT, bytes) : 0;
	case GM_MIGRATE_HAVE:
		gm_migrate_put_place(&place, bytes);
		memset(bytes + GM_MIGRATE_PLACE, 0x55, gm_migrate_bits_len(&place));
		if (s->nr % 8)
			bytes[GM_MIGRATE_PLACE + s->nr / 8] &= (uint8_t)((1u << s->nr % 8) - 1);
		return GM_MIGRATE_PLACE + gm_migrate_bits_len(&place);
	case GM_MIGRATE_REQUEST:
		gm_migrate_put_place(&place, bytes);
		return GM_MIGRATE_PLACE;
	default:
		return 0;
	}
}

void sample_say(struct gm_migrate_conn *c, const struct sample *s)
{
	static const int fds[] = {STDERR_FILENO};

	if (s->type == GM_MIGRATE_LAYOUT) {
		assert_int_equal(gm_migrate_conn_say_layout(c, fds, 1), 0);
	} else if (s->type == GM_MIGRATE_PAGES) {
		const struct gm_migrate_place place = place_of(s);
		bool bytes = s->kind < GM_MIGRATE_ZEROS;

		assert_int_equal(gm_migrate_conn_say_pages(c, s->number, &place,
					 bytes ? (uint32_t)GM_MIGRATE_RAW : s->kind,
					 bytes ? sample_memory(s->packs) : NULL),
			s->kind);
	} else {
		uint8_t *body = malloc(GM_MIGRATE_STATE_PIECE);
		size_t len;

		assert_non_null(body);
		len = put_body(s, body);
		assert_int_equal(gm_migrate_conn_say(c, s->type, s->number, body, len), 0);
		/* It was copied. */
		memset(body, 0xee, len);
		free(body);
	}
	assert_true(gm_migrate_conn_sends(c));
}

static void check_pages(const struct gm_migrate_heard *heard, const struct sample *s)
{
	const struct gm_migrate_place place = place_of(s);

	assert_memory_equal(&heard->msg.place, &place, sizeof(place));
	assert_int_equal(heard->msg.kind, s->kind);
	if (s->kind >= GM_MIGRATE_ZEROS) {
		assert_null(heard->memory);
		return;
	}
	assert_int_equal((uintptr_t)heard->memory % 4096, 0);
	assert_memory_equal(heard->memory, sample_memory(s->packs), (size_t)s->nr << 12);
}

static void check_layout(const struct gm_migrate_heard *heard)
{
	assert_int_equal(heard->msg.nr, P_REGIONS);
	for (uint32_t i = 0; i < P_REGIONS; i++) {
		const struct gm_migrate_region *got = &heard->msg.regions[i];

		assert_true(got->gpa == p_regions[i].gpa && got->len == p_regions[i].len);
		assert_true(got->fd_off == p_regions[i].fd_off);
		assert_int_equal(got->page_log2, p_regions[i].page_log2);
		assert_int_equal(got->by_fd, p_regions[i].by_fd);
	}
	assert_int_equal(heard->fds->nr, 1);
}

void sample_check(const struct gm_migrate_heard *heard, const struct sample *s)
{
	const struct gm_migrate_place place = place_of(s);
	uint8_t *body = malloc(GM_MIGRATE_STATE_PIECE);
	size_t len;

	assert_non_null(body);
	len = put_body(s, body);
	assert_int_equal(heard->msg.type, s->type);
	assert_int_equal(heard->msg.slot, s->slot);
	assert_int_equal(heard->msg.epoch, 1);
	assert_true(heard->msg.number == s->number);
	if (s->type == GM_MIGRATE_LAYOUT)
		check_layout(heard);
	else
		assert_null(heard->fds);
	if (s->type == GM_MIGRATE_PAGES)
		check_pages(heard, s);
	if (s->type == GM_MIGRATE_STATE) {
		assert_int_equal(heard->msg.len, s->nr);
		assert_memory_equal(heard->memory, body, len);
	}
	if (s->type == GM_MIGRATE_SWITCH)
		assert_true(heard->msg.bytes == UINT64_C(0x123456789a));
	if (s->type == GM_MIGRATE_REFUSED)
		assert_string_equal(heard->text, s->nr ? TEXT : "");
	if (s->type == GM_MIGRATE_HAVE || s->type == GM_MIGRATE_REQUEST)
		assert_memory_equal(&heard->msg.place, &place, sizeof(place));
	if (s->type == GM_MIGRATE_HAVE)
		assert_memory_equal(
			heard->msg.bits, body + GM_MIGRATE_PLACE, len - GM_MIGRATE_PLACE);
	if (s->type == GM_MIGRATE_DISCARD || s->type == GM_MIGRATE_DROPPED) {
		assert_int_equal(heard->msg.nr, s->nr);
		for (uint32_t i = 0; i < s->nr; i++) {
			const struct gm_migrate_place at = place_at(i);

			assert_memory_equal(&heard->msg.places[i], &at, sizeof(at));
		}
	}
	free(body);
}

bool sample_can(const struct sample *s)
{
	return (s->kind != GM_MIGRATE_BY_ZSTD && s->kind != GM_MIGRATE_BY_LZ4) ||
	       gm_codec_has(s->kind);
}

void sample_open(struct pair *p, enum pair_kind kind, const struct sample *s)
{
	bool packed = s->kind == GM_MIGRATE_BY_ZSTD || s->kind == GM_MIGRATE_BY_LZ4;

	pair_init(p, kind);
	for (int end = 0; end < 2; end++) {
		p->terms[end].sole = !s->slot;
		p->terms[end].codec = packed ? s->kind : (uint32_t)GM_MIGRATE_RAW;
		if (s->type == GM_MIGRATE_LAYOUT && end == DESTINATION)
			p->terms[end].regions = NULL;
	}
	pair_conn(p, SOURCE, s->slot);
	pair_conn(p, DESTINATION, s->slot);
}

uint8_t *sample_bytes(const struct sample *s, size_t *ret_len)
{
	size_t cap = GM_MIGRATE_HEAD + GM_MIGRATE_STATE_PIECE;
	uint8_t *bytes = malloc(cap);
	struct pair p;
	size_t len = 0;

	assert_non_null(bytes);
	sample_open(&p, OVER_UNIX, s);
	sample_say(p.c[s->from], s);
	while (gm_migrate_conn_sends(p.c[s->from])) {
		size_t sent;
		int rc = gm_migrate_conn_flush(p.c[s->from], SIZE_MAX, &sent);

		assert_true(rc == 0 || rc == -EAGAIN);
		while (sent) {
			ssize_t nr = recv(p.fd[!s->from], bytes + len, cap - len, MSG_DONTWAIT);

			assert_true(nr > 0 && (size_t)nr <= sent);
			len += (size_t)nr;
			sent -= (size_t)nr;
		}
	}
	pair_close(&p);
	*ret_len = len;
	return bytes;
}

int pair_move(struct pair *p, int from, size_t most, struct gm_migrate_heard *ret)
{
	for (;;) {
		const char *why;
		size_t sent;
		int rc = gm_migrate_conn_flush(p->c[from], most, &sent);
		int got;

		assert_true(rc == 0 || rc == -EAGAIN);
		assert_int_equal(rc == 0, !gm_migrate_conn_sends(p->c[from]));
		do
			got = gm_migrate_conn_recv(p->c[!from], ret, &why);
		while (got == 0);
		if (got != -EAGAIN)
			return got;
		/* The loop-back device may take its time. */
		if (!gm_migrate_conn_sends(p->c[from]))
			assert_int_equal(
				poll(&(struct pollfd){.fd = p->fd[!from], .events = POLLIN}, 1,
					60000),
				1);
	}
}

void raw_send(int fd, const uint8_t *bytes, size_t len)
{
	raw_send_fds(fd, bytes, len, NULL, 0);
}

void raw_send_fds(int fd, const uint8_t *bytes, size_t len, const int *fds, uint32_t nr)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(GM_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nr) {
		struct cmsghdr *cmsg;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL), len);
}
