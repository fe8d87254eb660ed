/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.c - a source that asks a peer over a socket.
 *
 * Reads wait in the order in which they came and are cut into requests, which lie in slots until they are answered. A
 * connection that is lost takes nothing along: what was under way is asked again on the next one. Lost is also one on
 * which nothing comes for some time; what was never answered since the first loss ends after another.
 */
#include <guestmem/peer.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/error.h"
#include "core/peer_wire.h"
#include "core/snapfile.h"
#include "services/checksum.h"
#include "services/codec.h"
#include "sys/sys.h"

#define CONNECT_MS 10000u
#define RETRY_MS 10000u
#define REQUEST_MS 30000u
#define SLOTS 64u
_Static_assert((uint32_t)GM_PEER_BY_ZSTD == GM_SNAPFILE_ZSTD &&
		       (uint32_t)GM_PEER_BY_LZ4 == GM_SNAPFILE_LZ4,
	"codecs are those of files");
#define MS UINT64_C(1000000)
#define TICK_NS (20 * MS)

struct slot {
	struct gm_source_read *read; /* NULL: free */
	uint64_t off;                /* in the read */
	uint32_t len;
};

/* Of a read, in its own[]. */
enum { NEXT, ASKED, ANSWERED, CODE };

enum state { APART, GREETED, TALKING };

struct peer {
	struct gm_peer_opts opts;
	enum state state;
	int fd; /* -1: there is no connection */
	int epoll;
	int timer;
	int ended;      /* why nothing more comes */
	int cause;      /* why the connection was lost */
	uint64_t lost;  /* since then there was no answer; 0: it is well */
	uint64_t heard; /* when there was a byte, or something was asked */
	struct gm_peer_welcome welcome;
	unsigned int nr;              /* reads under way */
	unsigned int busy;            /* slots */
	struct gm_source_read *first; /* not yet asked for whole */
	struct gm_source_read *last;
	struct slot slots[SLOTS];
	/* what goes out */
	uint8_t out[GM_PEER_HELLO + SLOTS * GM_PEER_REQUEST];
	size_t out_len;
	size_t sent;
	/* what comes in: a head, and what follows */
	uint8_t head[GM_PEER_WELCOME];
	size_t got;
	struct gm_peer_answer answer;
	size_t stored; /* bytes of it that came */
	uint8_t *packed;
	void *zstd;
};

/* ---- reads ---- */

static struct gm_source_read *next_of(const struct gm_source_read *read)
{
	return (struct gm_source_read *)(uintptr_t)read->own[NEXT];
}

/* A part of a read is over; the last one ends it. */
static void finish(struct peer *p, struct gm_source_read *read, uint64_t len, int rc)
{
	read->own[ANSWERED] += len;
	if (rc && !read->own[CODE])
		read->own[CODE] = (uint64_t)-rc;
	if (read->own[ANSWERED] != read->own[ASKED] || read->own[ASKED] != read->len)
		return;
	p->nr--;
	read->done(read, -(int)read->own[CODE]);
}

static void free_slot(struct peer *p, struct slot *slot, int rc)
{
	struct gm_source_read *read = slot->read;

	slot->read = NULL;
	p->busy--;
	finish(p, read, slot->len, rc);
}

/* All that is under way ends with @rc, without a connection; what is started in its done() waits. */
static void fail_all(struct peer *p, int rc)
{
	struct gm_source_read *first = p->first;

	p->first = p->last = NULL;
	for (size_t i = 0; i < SLOTS; i++) {
		if (p->slots[i].read)
			free_slot(p, &p->slots[i], rc);
	}
	while (first) {
		struct gm_source_read *read = first;
		uint64_t rest = read->len - read->own[ASKED];

		first = next_of(read);
		read->own[ASKED] = read->len;
		finish(p, read, rest, rc);
	}
}

/* ---- connection ---- */

static void disconnect(struct peer *p, int cause)
{
	if (p->fd >= 0) {
		/* There may be a duplicate of it, which would keep it there. */
		gm_sys_epoll_remove(p->epoll, p->fd);
		gm_sys_close(p->fd);
	}
	p->fd = -1;
	p->state = APART;
	p->cause = cause;
	p->out_len = p->sent = p->got = p->stored = 0;
	if (!p->lost)
		p->lost = gm_sys_now_ns();
}

static void put_slot(struct peer *p, size_t index)
{
	const struct slot *slot = &p->slots[index];
	const struct gm_peer_request request = {
		.number = (uint32_t)index, .len = slot->len, .off = slot->read->offset + slot->off};

	if (p->sent) {
		memmove(p->out, p->out + p->sent, p->out_len - p->sent);
		p->out_len -= p->sent;
		p->sent = 0;
	}
	if (p->out_len == 0)
		p->heard = gm_sys_now_ns();
	gm_peer_put_request(&request, p->out + p->out_len);
	p->out_len += GM_PEER_REQUEST;
}

/* Cuts reads into requests, as long as there are slots. */
static void fill_slots(struct peer *p)
{
	/* A peer may answer what was not sent yet, so that there are more requests than slots. */
	for (size_t i = 0; i < SLOTS && p->first && p->state == TALKING &&
			   sizeof(p->out) - (p->out_len - p->sent) >= GM_PEER_REQUEST;
		i++) {
		struct gm_source_read *read = p->first;
		uint64_t left = read->len - read->own[ASKED];
		struct slot *slot = &p->slots[i];

		if (slot->read)
			continue;
		*slot = (struct slot){.read = read, .off = read->own[ASKED]};
		slot->len = left < p->welcome.max ? (uint32_t)left : p->welcome.max;
		p->busy++;
		read->own[ASKED] += slot->len;
		if (read->own[ASKED] == read->len) {
			p->first = next_of(read);
			p->last = p->first ? p->last : NULL;
		}
		put_slot(p, i);
	}
}

/* 0, or why the connection is lost. */
static int send_out(struct peer *p)
{
	int rc;

	while (p->fd >= 0 && p->sent < p->out_len) {
		ssize_t nr = gm_sys_send(
			p->fd, p->out + p->sent, p->out_len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (nr == -EINTR)
			continue;
		if (nr == -EAGAIN)
			break;
		if (nr < 0)
			return (int)nr;
		p->sent += (size_t)nr;
	}
	if (p->sent == p->out_len)
		p->sent = p->out_len = 0;
	if (p->fd < 0)
		return 0;
	rc = gm_sys_epoll_set(p->epoll, p->fd, p->out_len ? EPOLLIN | EPOLLOUT : EPOLLIN, p);
	return rc;
}

/* A new connection, and the greeting. 0, or what it failed with. */
static int begin(struct peer *p)
{
	struct gm_peer_hello hello = {.lowest = GM_PEER_VERSION, .highest = GM_PEER_VERSION};
	int fd = p->opts.connect(p->opts.ctx);

	if (fd < 0)
		return gm_checked_code(fd);
	p->fd = fd;
	p->state = GREETED;
	p->heard = gm_sys_now_ns();
	hello.codecs = (gm_codec_has(GM_PEER_BY_ZSTD) ? GM_PEER_ZSTD : 0) |
		       (gm_codec_has(GM_PEER_BY_LZ4) ? GM_PEER_LZ4 : 0);
	gm_peer_put_hello(&hello, p->out);
	p->out_len = GM_PEER_HELLO;
	return send_out(p);
}

/* ---- what comes ---- */

static int welcomed(struct peer *p)
{
	struct gm_peer_welcome welcome;
	const char *why;
	int rc = gm_peer_get_welcome(p->head, &welcome, &why);

	if (rc)
		return rc;
	if (!welcome.version)
		return -ENOTSUP;
	/* Once it was known, it is the same memory for ever. */
	if (p->welcome.version && (p->welcome.len != welcome.len || welcome.max < p->welcome.max ||
					  memcmp(p->welcome.identity, welcome.identity, 16) != 0))
		return -ESTALE;
	p->welcome = welcome;
	p->state = TALKING;
	p->got = 0;
	/* What was under way is asked again; slots are not longer than any request was. */
	for (size_t i = 0; i < SLOTS; i++) {
		if (p->slots[i].read)
			put_slot(p, i);
	}
	return 0;
}

/* The head of an answer to something that was asked. */
static int take_head(struct peer *p)
{
	const char *why;
	int rc = gm_peer_get_answer(p->head, &p->answer, &why);
	const struct slot *slot;

	if (rc)
		return rc;
	if (p->answer.number >= SLOTS)
		return -EPROTO;
	slot = &p->slots[p->answer.number];
	return slot->read && slot->len == p->answer.len ? 0 : -EPROTO;
}

static uint8_t *memory_of(const struct slot *slot)
{
	return (uint8_t *)slot->read->buf + slot->off;
}

/* An answer is there, all of it. */
static void take_answer(struct peer *p)
{
	const struct gm_peer_answer *answer = &p->answer;
	struct slot *slot = &p->slots[answer->number];
	uint64_t sum = 0;
	int rc = 0;

	p->got = p->stored = 0;
	p->lost = 0;
	if (answer->kind == GM_PEER_ERROR) {
		rc = answer->error == EAGAIN || answer->error == EINTR ? -EIO : -(int)answer->error;
	} else if (answer->kind == GM_PEER_ZERO) {
		memset(memory_of(slot), 0, slot->len);
	} else {
		if (answer->kind != GM_PEER_BY_NONE &&
			!gm_codec_unpack(answer->kind, p->zstd, p->packed, answer->stored,
				memory_of(slot), slot->len))
			rc = -EBADMSG;
		gm_checksum_bytes(memory_of(slot), slot->len, &sum);
		if (sum != answer->sum)
			rc = -EBADMSG;
	}
	free_slot(p, slot, rc);
}

/* More of what is expected next: -EAGAIN if there is nothing now, or why the connection is lost. */
static int receive(struct peer *p)
{
	size_t head = p->state == TALKING ? GM_PEER_ANSWER : GM_PEER_WELCOME;
	bool body = p->state == TALKING && p->got == head;
	uint8_t *to = p->head + p->got;
	size_t want = head - p->got;
	ssize_t nr;

	if (body) {
		to = p->answer.kind == GM_PEER_BY_NONE ? memory_of(&p->slots[p->answer.number])
						       : p->packed;
		to += p->stored;
		want = p->answer.stored - p->stored;
	}
	nr = gm_sys_recv(p->fd, to, want, MSG_DONTWAIT);
	if (nr == -EINTR)
		return 0;
	if (nr <= 0)
		return nr ? (int)nr : -ECONNRESET;
	p->heard = gm_sys_now_ns();
	*(body ? &p->stored : &p->got) += (size_t)nr;
	return 0;
}

/* After each piece: what it completes. 0, or nonsense. */
static int digest(struct peer *p)
{
	int rc;

	if (p->state == GREETED)
		return p->got == GM_PEER_WELCOME ? welcomed(p) : 0;
	if (p->got < GM_PEER_ANSWER)
		return 0;
	if (p->stored == 0) {
		rc = take_head(p);
		if (rc)
			return rc;
	}
	if (p->stored == p->answer.stored)
		take_answer(p);
	return 0;
}

/* ---- a turn ---- */

static bool is_over(uint64_t since, uint32_t ms)
{
	return gm_sys_now_ns() - since >= ms * MS;
}

/* 0, or what ends the source. */
static int take_all(struct peer *p)
{
	int rc = 0;

	while (!rc && p->fd >= 0) {
		rc = receive(p);
		if (rc)
			break;
		rc = digest(p);
		if (rc)
			return rc;
		fill_slots(p);
	}
	if (rc && rc != -EAGAIN)
		disconnect(p, rc);
	return 0;
}

static void look_at_clock(struct peer *p)
{
	bool waits = p->state == GREETED || p->busy;
	int rc;

	if (p->fd >= 0 && waits && is_over(p->heard, p->opts.request_ms))
		disconnect(p, -ETIMEDOUT);
	if (p->lost && p->nr && is_over(p->lost, p->opts.retry_ms)) {
		rc = p->cause;
		disconnect(p, rc);
		/* What comes now has as long. */
		p->lost = gm_sys_now_ns();
		fail_all(p, rc);
	}
	if (p->fd >= 0 || !p->nr)
		return;
	rc = begin(p);
	if (rc)
		disconnect(p, rc);
}

/* Ticks as long as something is awaited. */
static void set_timer(struct peer *p)
{
	gm_sys_timer_set(p->timer, p->nr || p->state == GREETED ? TICK_NS : 0);
}

static int peer_step(void *ctx)
{
	struct peer *p = ctx;
	uint64_t ticks;
	int lost;
	int rc;

	/* What is there or not; the clock is looked at anyway. */
	(void)!gm_sys_read(p->timer, &ticks, sizeof(ticks));
	rc = take_all(p);
	if (rc) {
		disconnect(p, rc);
		p->ended = rc;
		fail_all(p, rc);
		return rc;
	}
	look_at_clock(p);
	fill_slots(p);
	lost = send_out(p);
	if (lost)
		disconnect(p, lost);
	set_timer(p);
	return 0;
}

static int peer_start(void *ctx, struct gm_source_read *read)
{
	struct peer *p = ctx;
	int lost;

	if (p->ended)
		return p->ended;
	if (p->nr == GM_PEER_REQUESTS_MAX)
		return -EAGAIN;
	memset(read->own, 0, sizeof(read->own));
	/* A peer that was idle is not to blame for the time before. */
	if (!p->nr && p->lost)
		p->lost = gm_sys_now_ns();
	p->nr++;
	if (p->last)
		p->last->own[NEXT] = (uintptr_t)read;
	else
		p->first = read;
	p->last = read;
	fill_slots(p);
	lost = send_out(p);
	if (lost)
		disconnect(p, lost);
	set_timer(p);
	return 0;
}

static int peer_fd(void *ctx)
{
	return ((const struct peer *)ctx)->epoll;
}

static void peer_destroy(void *ctx)
{
	struct peer *p = ctx;

	if (p->fd >= 0)
		gm_sys_close(p->fd);
	if (p->timer >= 0)
		gm_sys_close(p->timer);
	if (p->epoll >= 0)
		gm_sys_close(p->epoll);
	gm_codec_decoder_free(GM_PEER_BY_ZSTD, p->zstd);
	gm_sys_free(p->packed);
	gm_sys_free(p);
}

/* ---- opening ---- */

static int failed(struct gm_error *err, int rc, const char *why)
{
	return gm_error_set(err, rc, 0, 0, "peer: %s", why);
}

static int greet(struct peer *p, struct gm_error *err)
{
	uint64_t deadline = gm_sys_now_ns() + p->opts.connect_ms * MS;
	int rc = begin(p);

	while (!rc && p->state != TALKING) {
		uint64_t now = gm_sys_now_ns();

		if (now >= deadline)
			return failed(err, -ETIMEDOUT, "it does not answer");
		rc = gm_sys_poll_in(p->epoll, (int)((deadline - now + MS - 1) / MS));
		if (rc < 0 && rc != -EINTR)
			break;
		rc = send_out(p);
		while (!rc && p->state != TALKING) {
			rc = receive(p);
			if (!rc)
				rc = digest(p);
		}
		rc = rc == -EAGAIN ? 0 : rc;
	}
	if (rc)
		return failed(err, rc,
			rc == -EPROTO    ? "it does not speak the protocol"
			: rc == -ENOTSUP ? "it speaks no version that this library does"
					 : gm_error_word(rc));
	return 0;
}

static int make(struct peer *p, struct gm_error *err)
{
	uint64_t sum;
	int rc;

	if (!gm_checksum_bytes(p, 1, &sum))
		return failed(err, -ENOTSUP, "the library was built without xxHash");
	p->packed = gm_sys_alloc(GM_PEER_LEN_MAX);
	p->zstd = gm_codec_decoder(GM_PEER_BY_ZSTD);
	if (!p->packed || (gm_codec_has(GM_PEER_BY_ZSTD) && !p->zstd))
		return failed(err, -ENOMEM, "no memory for buffers");
	p->epoll = gm_sys_epoll_create();
	if (p->epoll < 0)
		return failed(err, p->epoll, gm_error_word(p->epoll));
	p->timer = gm_sys_timerfd();
	if (p->timer < 0)
		return failed(err, p->timer, gm_error_word(p->timer));
	rc = gm_sys_epoll_add(p->epoll, p->timer, NULL);
	return rc ? failed(err, rc, gm_error_word(rc)) : greet(p, err);
}

int gm_source_peer(
	const struct gm_peer_opts *user, struct gm_source **ret_source, struct gm_error *err)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "peer",
		.start = peer_start,
		.step = peer_step,
		.fd = peer_fd,
		.destroy = peer_destroy,
	};
	struct gm_peer_opts opts;
	struct peer *p;
	int rc = gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts));

	if (rc)
		return gm_opts_error(err, rc, "a peer");
	if (!opts.connect || opts.reserved)
		return failed(
			err, -EINVAL, "there is no way to connect, or what is reserved is not 0");
	p = gm_sys_alloc(sizeof(*p));
	if (!p)
		return failed(err, -ENOMEM, "no memory");
	p->opts = opts;
	p->opts.connect_ms = opts.connect_ms ? opts.connect_ms : CONNECT_MS;
	p->opts.retry_ms = opts.retry_ms ? opts.retry_ms : RETRY_MS;
	p->opts.request_ms = opts.request_ms ? opts.request_ms : REQUEST_MS;
	p->fd = p->epoll = p->timer = -1;
	rc = make(p, err);
	if (!rc) {
		ops.len = p->welcome.len;
		ops.ctx = p;
		rc = gm_source_create(&ops, ret_source, err);
	}
	if (rc)
		peer_destroy(p);
	return rc;
}
