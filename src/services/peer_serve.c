/* SPDX-License-Identifier: BSD-3-Clause */
/* peer_serve.c - a source answers over a socket: one request after the other, in the caller's thread. */
#include <guestmem/peer.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/peer_wire.h"
#include "services/checksum.h"
#include "services/codec.h"
#include "sys/sys.h"

#define MESSAGE_MS 30000u
#define MAX (UINT32_C(2) << 20) /* bytes of a request */
#define MS UINT64_C(1000000)

struct server {
	int fd;
	int epoll; /* for room in the socket */
	struct gm_source *source;
	struct gm_peer_serve_opts opts;
	struct gm_error *err;
	uint32_t codec; /* enum gm_peer_kind */
	void *encoder;
	uint8_t *memory;
	uint8_t *out; /* an answer: its head, and what follows */
};

static int failed(struct server *s, int rc, const char *why)
{
	return gm_error_set(s->err, rc, 0, 0, "peer: %s", why);
}

/* Milliseconds up to a deadline, rounded up; 0: it has passed. */
static int left_ms(uint64_t deadline)
{
	uint64_t now = gm_sys_now_ns();

	return now < deadline ? (int)((deadline - now + MS - 1) / MS) : 0;
}

static int wait_in(struct server *s, int timeout_ms)
{
	int rc;

	do {
		rc = gm_sys_poll_in(s->fd, timeout_ms);
	} while (rc == -EINTR);
	return rc;
}

/* A message. 0: the peer closed the connection before it, 1: it is there. The first byte may take any time. */
static int receive(struct server *s, uint8_t *bytes, size_t len)
{
	uint64_t deadline = 0;
	size_t done = 0;

	while (done < len) {
		int ms = done ? left_ms(deadline) : -1;
		int rc = ms ? wait_in(s, ms) : 0;
		ssize_t nr;

		if (rc < 0)
			return failed(s, rc, gm_error_word(rc));
		if (rc == 0)
			return failed(s, -ETIMEDOUT, "a message does not end");
		nr = gm_sys_recv(s->fd, bytes + done, len - done, MSG_DONTWAIT);
		if (nr == -EINTR || nr == -EAGAIN)
			continue;
		if (nr < 0 && !(nr == -ECONNRESET && !done))
			return failed(s, (int)nr, gm_error_word((int)nr));
		if (nr <= 0)
			return done ? failed(s, -EPROTO, "a message is cut") : 0;
		if (!done)
			deadline = gm_sys_now_ns() + s->opts.message_ms * MS;
		done += (size_t)nr;
	}
	return 1;
}

/* 0: the peer is gone, 1: sent. */
static int send_all(struct server *s, const uint8_t *bytes, size_t len)
{
	uint64_t deadline = gm_sys_now_ns() + s->opts.message_ms * MS;
	struct epoll_event event;
	size_t done = 0;

	while (done < len) {
		ssize_t nr =
			gm_sys_send(s->fd, bytes + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (nr == -EPIPE || nr == -ECONNRESET)
			return 0;
		if (nr < 0 && nr != -EINTR && nr != -EAGAIN)
			return failed(s, (int)nr, gm_error_word((int)nr));
		done += nr > 0 ? (size_t)nr : 0;
		if (nr == -EAGAIN && !left_ms(deadline))
			return failed(s, -ETIMEDOUT, "an answer is not taken");
		if (nr == -EAGAIN)
			gm_sys_epoll_wait(s->epoll, &event, 1, left_ms(deadline));
	}
	return 1;
}

/* ---- greeting ---- */

static void choose_codec(struct server *s, uint32_t codecs)
{
	s->codec = GM_PEER_BY_NONE;
	if (s->opts.flags & GM_PEER_RAW)
		return;
	if ((codecs & GM_PEER_LZ4) && gm_codec_has(GM_PEER_BY_LZ4))
		s->codec = GM_PEER_BY_LZ4;
	else if ((codecs & GM_PEER_ZSTD) && gm_codec_has(GM_PEER_BY_ZSTD))
		s->codec = GM_PEER_BY_ZSTD;
}

static int greet(struct server *s)
{
	struct gm_peer_welcome welcome = {.len = gm_source_len(s->source), .max = MAX};
	uint8_t bytes[GM_PEER_WELCOME];
	struct gm_peer_hello hello;
	const char *why;
	int rc = receive(s, bytes, GM_PEER_HELLO);

	if (rc <= 0)
		return rc;
	rc = gm_peer_get_hello(bytes, &hello, &why);
	if (rc)
		return failed(s, rc, why);
	memcpy(welcome.identity, s->opts.identity, 16);
	if (hello.lowest <= GM_PEER_VERSION && hello.highest >= GM_PEER_VERSION)
		welcome.version = GM_PEER_VERSION;
	gm_peer_put_welcome(&welcome, bytes);
	rc = send_all(s, bytes, GM_PEER_WELCOME);
	if (rc <= 0)
		return rc;
	if (!welcome.version)
		return failed(s, -ENOTSUP, "it speaks no version that this library does");
	choose_codec(s, hello.codecs);
	s->encoder = gm_codec_encoder(s->codec);
	return s->codec == GM_PEER_BY_ZSTD && !s->encoder ? failed(s, -ENOMEM, "no memory") : 1;
}

/* ---- answers ---- */

/* Is all of it known to be zeros? */
static bool is_zero(struct server *s, const struct gm_peer_request *request)
{
	struct gm_source_extent extent;

	return !gm_source_extent(s->source, request->off, &extent) &&
	       extent.kind == GM_SOURCE_ZERO && extent.len >= request->len;
}

static int read_memory(struct server *s, const struct gm_peer_request *request)
{
	if (request->off > gm_source_len(s->source) ||
		request->len > gm_source_len(s->source) - request->off)
		return -ERANGE;
	return gm_source_read(s->source, request->off, s->memory, request->len, NULL);
}

static void make_answer(
	struct server *s, const struct gm_peer_request *request, struct gm_peer_answer *answer)
{
	uint8_t *body = s->out + GM_PEER_ANSWER;
	size_t nr = 0;
	int rc;

	*answer = (struct gm_peer_answer){
		.number = request->number, .len = request->len, .kind = GM_PEER_ZERO};
	if (is_zero(s, request))
		return;
	rc = read_memory(s, request);
	if (rc) {
		answer->kind = GM_PEER_ERROR;
		answer->error = (uint32_t)-rc;
		return;
	}
	if (gm_bytes_are_zero(s->memory, request->len))
		return;
	gm_checksum_bytes(s->memory, request->len, &answer->sum);
	if (s->codec != GM_PEER_BY_NONE && request->len >= 64)
		nr = gm_codec_pack(s->codec, s->encoder, 0, s->memory, request->len, body,
			request->len - request->len / 8);
	answer->kind = nr ? s->codec : GM_PEER_BY_NONE;
	answer->stored = nr ? (uint32_t)nr : request->len;
	if (!nr)
		memcpy(body, s->memory, request->len);
}

static int serve(struct server *s)
{
	int rc = greet(s);

	while (rc > 0) {
		uint8_t bytes[GM_PEER_REQUEST];
		struct gm_peer_request request;
		struct gm_peer_answer answer;
		const char *why;

		rc = receive(s, bytes, sizeof(bytes));
		if (rc <= 0)
			break;
		rc = gm_peer_get_request(bytes, &request, &why);
		if (rc)
			return failed(s, rc, why);
		if (request.len > MAX)
			return failed(s, -EPROTO, "a request is longer than was said");
		make_answer(s, &request, &answer);
		gm_peer_put_answer(&answer, s->out);
		rc = send_all(s, s->out, GM_PEER_ANSWER + (size_t)answer.stored);
	}
	return rc;
}

int gm_peer_serve(int fd, struct gm_source *source, const struct gm_peer_serve_opts *user,
	struct gm_error *err)
{
	struct server s = {.fd = fd, .source = source, .err = err, .codec = GM_PEER_BY_NONE};
	uint64_t sum;
	int rc = user ? gm_opts_copy(&s.opts, sizeof(s.opts), user, sizeof(s.opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "serving a peer");
	if (s.opts.flags & ~GM_PEER_RAW)
		return gm_error_set(err, -EINVAL, 0, 0, "peer: flags 0x%" PRIx32, s.opts.flags);
	if (!gm_checksum_bytes(&fd, sizeof(fd), &sum))
		return failed(&s, -ENOTSUP, "the library was built without xxHash");
	if (!s.opts.message_ms)
		s.opts.message_ms = MESSAGE_MS;
	s.epoll = gm_sys_epoll_create();
	if (s.epoll < 0)
		return failed(&s, s.epoll, gm_error_word(s.epoll));
	s.memory = gm_sys_alloc(MAX);
	s.out = gm_sys_alloc(MAX + GM_PEER_ANSWER);
	rc = s.memory && s.out ? gm_sys_epoll_set(s.epoll, fd, EPOLLOUT, NULL) : -ENOMEM;
	rc = rc ? failed(&s, rc, gm_error_word(rc)) : serve(&s);
	gm_sys_close(s.epoll);
	gm_codec_encoder_free(s.codec, s.encoder);
	gm_sys_free(s.memory);
	gm_sys_free(s.out);
	return rc;
}
