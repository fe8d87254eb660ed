/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_conn.c - see migrate_conn.h. The object with its memory, and what goes; what comes is in migrate_conn_recv.c.
 *
 * All memory is of sizes that this end knows by itself: its role, and what was agreed on. It is made once.
 */
#include "services/migrate_conn.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/error.h"
#include "core/snapfile.h"
#include "services/codec.h"
#include "services/migrate_conn_parts.h"
#include "sys/sys.h"

_Static_assert((uint32_t)GM_MIGRATE_RAW == GM_SNAPFILE_RAW &&
		       (uint32_t)GM_MIGRATE_BY_ZSTD == GM_SNAPFILE_ZSTD &&
		       (uint32_t)GM_MIGRATE_BY_LZ4 == GM_SNAPFILE_LZ4,
	"codecs are those of files");
_Static_assert(GM_MIGRATE_FDS_MAX == GM_FDS_MAX, "one limit");

/* What is copied on control without an allocation: HAVE, DISCARD, DROPPED. */
#define ROOM (GM_MIGRATE_PLACE + GM_MIGRATE_BITS_MAX)
_Static_assert(ROOM >= GM_MIGRATE_PLACES_MAX * GM_MIGRATE_PLACE, "places fit");

/*
 * Of pages in a socket of this host: the next are read while the peer takes these. The default of the kernel is less
 * than a message, so that it sleeps in the midst of each. TCP looks for the length by itself, and stops if it is told.
 */
#define SEND_ROOM (1 << 20)

int gm_migrate_conn_create(int fd, const struct gm_migrate_terms *terms,
	struct gm_migrate_conn **ret, struct gm_error *err)
{
	struct gm_migrate_conn *c;
	int domain = 0;
	int type = 0;
	int rc = gm_sys_socket_kind(fd, &domain, &type);

	if (rc)
		return gm_error_set(err, rc, 0, 0, "migration: fd %d: %s", fd, gm_error_word(rc));
	if (type != SOCK_STREAM)
		return gm_error_set(err, -EPROTOTYPE, 0, 0,
			"migration: fd %d is no stream socket (type %d)", fd, type);
	c = gm_sys_alloc_aligned(_Alignof(struct gm_migrate_conn), sizeof(*c));
	if (!c)
		return gm_error_set(err, -ENOMEM, 0, 0, "migration: no memory for a connection");
	if (!gm_checksum_begin(&c->out.sum)) {
		gm_sys_free(c);
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"migration: this build of the library has no checksums (xxHash)");
	}
	rc = gm_sys_set_nonblock(fd);
	if (!rc && (domain == AF_INET || domain == AF_INET6))
		rc = gm_sys_send_at_once(fd);
	if (rc) {
		gm_sys_free(c);
		return gm_error_set(err, rc, 0, 0, "migration: fd %d: %s", fd, gm_error_word(rc));
	}
	c->fd = fd;
	c->local = domain == AF_UNIX;
	c->terms = terms;
	c->out.codec = GM_MIGRATE_RAW;
	*ret = c;
	return 0;
}

/* What gm_migrate_conn_is() makes. */
struct rooms {
	uint8_t *in;
	size_t most;
	uint8_t *unpacked;
	uint8_t *ahead;
	void *decoder;
	uint8_t *out;
	size_t cap;
	uint32_t codec;
	void *encoder;
};

static void rooms_fini(const struct rooms *r)
{
	gm_codec_decoder_free(GM_SNAPFILE_ZSTD, r->decoder);
	gm_codec_encoder_free(r->codec, r->encoder);
	gm_sys_free(r->ahead);
	gm_sys_free(r->unpacked);
	gm_sys_free(r->out);
	gm_sys_free(r->in);
}

static struct rooms rooms_of(const struct gm_migrate_conn *c)
{
	return (struct rooms){.in = c->in.room,
		.most = c->in.most,
		.unpacked = c->in.unpacked,
		.ahead = c->in.ahead,
		.decoder = c->in.decoder,
		.out = c->out.room,
		.cap = c->out.cap,
		.codec = c->out.codec,
		.encoder = c->out.encoder};
}

void gm_migrate_conn_free(struct gm_migrate_conn *c)
{
	struct rooms rooms;

	if (!c)
		return;
	rooms = rooms_of(c);
	rooms_fini(&rooms);
	gm_fds_close(&c->in.fds);
	gm_sys_close(c->fd);
	gm_sys_free(c);
}

int gm_migrate_conn_fd(const struct gm_migrate_conn *c)
{
	return c->fd;
}

bool gm_migrate_conn_local(const struct gm_migrate_conn *c)
{
	return c->local;
}

uint32_t gm_migrate_conn_slot(const struct gm_migrate_conn *c)
{
	return c->slot;
}

uint32_t gm_migrate_conn_epoch(const struct gm_migrate_conn *c)
{
	return c->epoch;
}

uint64_t gm_migrate_conn_came(const struct gm_migrate_conn *c)
{
	return c->came;
}

uint64_t gm_migrate_conn_went(const struct gm_migrate_conn *c)
{
	return c->went;
}

/* ---- memory ---- */

static bool carries_pages(const struct gm_migrate_terms *terms, uint32_t role)
{
	return role != GM_MIGRATE_CONTROL || terms->sole;
}

/* The most that may follow a head that comes. */
static size_t most_in(const struct gm_migrate_terms *terms, uint32_t role)
{
	size_t pages = GM_MIGRATE_PAGES_HEAD + ((size_t)terms->pages_max << GM_MIGRATE_PAGE_LOG2);

	if (terms->source)
		return role == GM_MIGRATE_CONTROL  ? ROOM
		       : role == GM_MIGRATE_URGENT ? GM_MIGRATE_PLACE
						   : 0;
	if (role != GM_MIGRATE_CONTROL)
		return pages;
	return terms->sole && pages > GM_MIGRATE_STATE_PIECE ? pages : GM_MIGRATE_STATE_PIECE;
}

static int make_in(const struct gm_migrate_terms *terms, uint32_t role, struct rooms *r)
{
	bool packed = !terms->source && carries_pages(terms, role) &&
		      (terms->features & (GM_MIGRATE_ZSTD | GM_MIGRATE_LZ4));

	r->most = most_in(terms, role);
	if (r->most) {
		r->in = gm_sys_alloc(GM_CONN_ALIGN + r->most);
		if (!r->in)
			return -ENOMEM;
	}
	if (role == GM_MIGRATE_URGENT) {
		r->ahead = gm_sys_alloc(GM_CONN_AHEAD);
		if (!r->ahead)
			return -ENOMEM;
	}
	if (packed) {
		r->unpacked = gm_sys_alloc(
			GM_CONN_ALIGN + ((size_t)terms->pages_max << GM_MIGRATE_PAGE_LOG2));
		if (!r->unpacked)
			return -ENOMEM;
	}
	if (packed && (terms->features & GM_MIGRATE_ZSTD) && gm_codec_has(GM_SNAPFILE_ZSTD)) {
		r->decoder = gm_codec_decoder(GM_SNAPFILE_ZSTD);
		if (!r->decoder)
			return -ENOMEM;
	}
	return 0;
}

static size_t packed_most(size_t len)
{
	return len - len / 8;
}

static int make_out(const struct gm_migrate_terms *terms, uint32_t role, struct rooms *r)
{
	size_t packed = 0;

	r->codec = GM_MIGRATE_RAW;
	if (terms->source && carries_pages(terms, role) && terms->codec != GM_MIGRATE_RAW &&
		gm_codec_has(terms->codec)) {
		r->codec = terms->codec;
		packed = packed_most((size_t)terms->pages_max << GM_MIGRATE_PAGE_LOG2);
	}
	r->cap = role == GM_MIGRATE_CONTROL && ROOM > packed ? ROOM : packed;
	if (r->cap) {
		r->out = gm_sys_alloc(r->cap);
		if (!r->out)
			return -ENOMEM;
	}
	if (r->codec == GM_MIGRATE_BY_ZSTD) {
		r->encoder = gm_codec_encoder(r->codec);
		if (!r->encoder)
			return -ENOMEM;
	}
	return 0;
}

int gm_migrate_conn_is(struct gm_migrate_conn *c, uint32_t slot, uint32_t epoch)
{
	uint32_t role = gm_migrate_role_of(slot);
	struct rooms old = rooms_of(c);
	struct rooms made = {0};
	int rc;

	assert(!gm_migrate_conn_sends(c) && !gm_migrate_conn_hears(c));
	rc = make_in(c->terms, role, &made);
	if (!rc)
		rc = make_out(c->terms, role, &made);
	if (rc) {
		rooms_fini(&made);
		return rc;
	}
	rooms_fini(&old);
	c->in.room = made.in;
	c->in.most = made.most;
	c->in.unpacked = made.unpacked;
	c->in.ahead = made.ahead;
	c->in.ahead_nr = 0;
	c->in.decoder = made.decoder;
	c->out.room = made.out;
	c->out.cap = made.cap;
	c->out.codec = made.codec;
	c->out.encoder = made.encoder;
	/* Without it the queue is shorter than a message; it does with that, too. */
	if (c->local && c->terms->source && !c->terms->paced && role != GM_MIGRATE_URGENT &&
		carries_pages(c->terms, role))
		(void)gm_sys_send_room(c->fd, SEND_ROOM);
	c->slot = slot;
	c->epoch = epoch;
	return 0;
}

/* ---- what goes ---- */

size_t gm_migrate_conn_left(const struct gm_migrate_conn *c)
{
	return c->out.nr_bytes + c->out.len - c->out.done;
}

bool gm_migrate_conn_sends(const struct gm_migrate_conn *c)
{
	return gm_migrate_conn_left(c) != 0;
}

static void begin(struct gm_migrate_conn_out *out)
{
	out->nr_bytes = 0;
	out->body = NULL;
	out->len = 0;
	out->done = 0;
	out->fds = NULL;
	out->nr_fds = 0;
}

void gm_migrate_conn_put(struct gm_migrate_conn *c, const uint8_t *bytes, size_t len)
{
	struct gm_migrate_conn_out *out = &c->out;

	assert(!gm_migrate_conn_sends(c) && len <= sizeof(out->bytes));
	begin(out);
	memcpy(out->bytes, bytes, len);
	out->nr_bytes = len;
}

/* The head, without its sum; that of the first bytes of it has begun. */
static void put_head(struct gm_migrate_conn_out *out, const struct gm_migrate_head *head)
{
	gm_migrate_put_head(head, out->bytes);
	out->nr_bytes = GM_MIGRATE_HEAD;
	(void)gm_checksum_begin(&out->sum);
	gm_checksum_add(&out->sum, out->bytes, GM_MIGRATE_SUMMED);
}

static void put_sum(struct gm_migrate_conn_out *out, struct gm_migrate_head *head)
{
	head->sum = gm_checksum_end(&out->sum);
	gm_migrate_put_head(head, out->bytes);
}

/* The room for so many bytes. What it was is not kept. */
static int grow(struct gm_migrate_conn_out *out, size_t len)
{
	uint8_t *room;

	if (len <= out->cap)
		return 0;
	room = gm_sys_alloc(len);
	if (!room)
		return -ENOMEM;
	gm_sys_free(out->room);
	out->room = room;
	out->cap = len;
	return 0;
}

/* A message whose body is at @body, which may be the room, and stays. */
static void say(
	struct gm_migrate_conn *c, uint32_t type, uint64_t number, const void *body, size_t len)
{
	struct gm_migrate_conn_out *out = &c->out;
	struct gm_migrate_head head = {
		.type = (uint16_t)type, .len = (uint32_t)len, .number = number};

	put_head(out, &head);
	if (len)
		gm_checksum_add(&out->sum, body, len);
	put_sum(out, &head);
	if (len > sizeof(out->bytes) - GM_MIGRATE_HEAD) {
		out->body = body;
		out->len = len;
	} else if (len) {
		memcpy(out->bytes + GM_MIGRATE_HEAD, body, len);
		out->nr_bytes += len;
	}
}

int gm_migrate_conn_say(
	struct gm_migrate_conn *c, uint32_t type, uint64_t number, const void *body, size_t len)
{
	struct gm_migrate_conn_out *out = &c->out;

	assert(!gm_migrate_conn_sends(c) && len <= GM_MIGRATE_STATE_PIECE);
	if (len > sizeof(out->bytes) - GM_MIGRATE_HEAD) {
		if (grow(out, len))
			return -ENOMEM;
		memcpy(out->room, body, len);
		body = out->room;
	}
	begin(out);
	say(c, type, number, body, len);
	return 0;
}

int gm_migrate_conn_say_layout(struct gm_migrate_conn *c, const int *fds, uint32_t nr_fds)
{
	const struct gm_migrate_terms *terms = c->terms;
	size_t len = (size_t)terms->nr * GM_MIGRATE_REGION;
	uint32_t by_fd = 0;

	assert(!gm_migrate_conn_sends(c) && terms->nr <= GM_MIGRATE_REGIONS_MAX);
	for (uint32_t i = 0; i < terms->nr; i++)
		by_fd += terms->regions[i].by_fd;
	if (by_fd != nr_fds || nr_fds > GM_MIGRATE_FDS_MAX)
		return -EINVAL;
	if (grow(&c->out, len))
		return -ENOMEM;
	for (uint32_t i = 0; i < terms->nr; i++)
		gm_migrate_put_region(
			&terms->regions[i], c->out.room + (size_t)i * GM_MIGRATE_REGION);
	begin(&c->out);
	say(c, GM_MIGRATE_LAYOUT, terms->nr, c->out.room, len);
	c->out.fds = fds;
	c->out.nr_fds = nr_fds;
	return 0;
}

/* The pages as they go: packed, if that is worth it. */
static void pack(struct gm_migrate_conn *c, const uint8_t *memory, size_t len,
	struct gm_migrate_pages *pages)
{
	struct gm_migrate_conn_out *out = &c->out;
	size_t most = packed_most(len);
	size_t nr = 0;

	if (out->codec != GM_MIGRATE_RAW && most <= out->cap)
		nr = gm_codec_pack(
			out->codec, out->encoder, c->terms->level, memory, len, out->room, most);
	pages->kind = nr ? out->codec : (uint32_t)GM_MIGRATE_RAW;
	pages->stored = (uint32_t)(nr ? nr : len);
	out->body = nr ? out->room : memory;
	out->len = pages->stored;
}

uint32_t gm_migrate_conn_say_pages(struct gm_migrate_conn *c, uint64_t number,
	const struct gm_migrate_place *place, uint32_t kind, const uint8_t *memory)
{
	struct gm_migrate_conn_out *out = &c->out;
	size_t len = memory ? (size_t)place->nr << GM_MIGRATE_PAGE_LOG2 : 0;
	struct gm_migrate_pages pages = {.place = *place, .kind = kind};
	struct gm_migrate_head head = {.type = GM_MIGRATE_PAGES, .number = number};

	assert(!gm_migrate_conn_sends(c) && (kind == GM_MIGRATE_RAW) == (memory != NULL));
	begin(out);
	if (memory)
		pack(c, memory, len, &pages);
	head.len = GM_MIGRATE_PAGES_HEAD + pages.stored;
	put_head(out, &head);
	gm_migrate_put_pages(&pages, out->bytes + GM_MIGRATE_HEAD);
	out->nr_bytes += GM_MIGRATE_PAGES_HEAD;
	gm_checksum_add(&out->sum, out->bytes + GM_MIGRATE_HEAD, GM_MIGRATE_PAGES_HEAD);
	if (len)
		gm_checksum_add(&out->sum, memory, len);
	put_sum(out, &head);
	return pages.kind;
}

/* The rest of the message, @most bytes of it at most. */
static size_t rest_of(const struct gm_migrate_conn_out *out, size_t most, struct iovec iov[2])
{
	size_t in_bytes = out->done < out->nr_bytes ? out->nr_bytes - out->done : 0;
	size_t in_body = out->nr_bytes + out->len - out->done - in_bytes;

	in_bytes = in_bytes < most ? in_bytes : most;
	in_body = in_body < most - in_bytes ? in_body : most - in_bytes;
	iov[0] = (struct iovec){0};
	iov[1] = (struct iovec){0};
	if (in_bytes)
		iov[0] = (struct iovec){.iov_base = (void *)(uintptr_t)(out->bytes + out->done),
			.iov_len = in_bytes};
	if (in_body) {
		size_t from = out->done < out->nr_bytes ? 0 : out->done - out->nr_bytes;

		iov[1] = (struct iovec){
			.iov_base = (void *)(uintptr_t)(out->body + from), .iov_len = in_body};
	}
	return in_bytes + in_body;
}

static ssize_t send_some(struct gm_migrate_conn *c, size_t most, size_t *ret_asked)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(GM_FDS_MAX * sizeof(int))];
	} control;
	struct gm_migrate_conn_out *out = &c->out;
	struct iovec iov[2];
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t nr;

	*ret_asked = rest_of(out, most, iov);
	/* With the first byte. */
	if (out->nr_fds && !out->done) {
		size_t len = out->nr_fds * sizeof(int);
		struct cmsghdr *cmsg;

		memset(&control, 0, CMSG_SPACE(len));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(len);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(len);
		memcpy(CMSG_DATA(cmsg), out->fds, len);
	}
	do
		nr = gm_sys_sendmsg(c->fd, &msg, MSG_DONTWAIT);
	while (nr == -EINTR);
	return nr;
}

int gm_migrate_conn_flush(struct gm_migrate_conn *c, size_t most, size_t *ret_sent)
{
	*ret_sent = 0;
	while (gm_migrate_conn_sends(c)) {
		size_t asked = 0;
		ssize_t nr = *ret_sent < most ? send_some(c, most - *ret_sent, &asked) : -EAGAIN;

		if (nr < 0)
			return (int)nr;
		c->out.done += (size_t)nr;
		c->went += (size_t)nr;
		*ret_sent += (size_t)nr;
		/* It is full: it would say so. */
		if ((size_t)nr < asked)
			return -EAGAIN;
	}
	return 0;
}
