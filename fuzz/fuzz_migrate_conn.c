/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_migrate_conn.c - any bytes, in pieces of any size and with descriptors at any place, as what a connection of
 * a migration reads. What comes out lies within its bounds and is the same bytes when the other end says it;
 * nothing is read beyond a message; descriptors are closed.
 *
 * Calls of src/sys for sockets are replaced when the program is linked: bytes come from the input, and what is sent
 * goes into an array. The first byte says which end it is, and what is done besides (enum); the second which
 * connection, and features; the third how bytes are cut, the fourth with which call how many descriptors come.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/bytes.h"
#include "core/migrate_wire.h"
#include "random.h"
#include "services/checksum.h"
#include "services/codec.h"
#include "services/migrate_conn.h"
#include "sys/sys.h"

#define HEAD 4u
#define FILLER (32u << 10)
#define PAGES_MAX 4u
#define AHEAD 8192u
#define CAME_MAX (FILLER + 8192u + AHEAD)
#define FD 1000 /* the first of those that there are not */
#define SUM UINT64_C(0x8877665544332211)

enum {
	IS_SOURCE = 1,
	SOLE = 2,
	ANY_SUM = 4, /* each sum is SUM: what is behind it is reached */
	FILLED = 8,  /* more bytes follow those of the input */
	OPENING = 16,
	ENDS = 32, /* the peer closes; else it is silent */
	NO_LAYOUT = 64,
	TAKES = 128, /* descriptors of a layout */
};

static struct world {
	const uint8_t *at;
	size_t left;
	size_t filler;
	uint8_t flags;
	struct rng cuts;
	bool whole; /* not cut */
	unsigned int calls;
	unsigned int fds_at;
	uint32_t nr_fds;
	uint32_t open; /* bits of descriptors */
	size_t ahead;  /* bytes that may be read behind a message */
	size_t nr_came;
	uint8_t came[CAME_MAX]; /* since the last message */
	uint64_t all;
	size_t nr_sent;
	uint8_t sent[CAME_MAX];
	uint32_t fds_sent;
} w;

static const struct gm_migrate_region regions[] = {
	{.gpa = 0, .len = 1u << 21, .page_log2 = 12},
	{.gpa = UINT64_C(1) << 30, .len = UINT64_C(64) << 30, .page_log2 = 21},
	{.gpa = UINT64_C(1) << 40, .len = UINT64_C(1) << 62, .page_log2 = 30},
};
static struct gm_migrate_region room[GM_MIGRATE_REGIONS_MAX];

static void must(int what)
{
	if (!what)
		abort();
}

/* ---- the calls ---- */

ssize_t __wrap_gm_sys_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_gm_sys_sendmsg(int fd, const struct msghdr *msg, int flags);
int __wrap_gm_sys_close(int fd);
int __wrap_gm_sys_socket_kind(int fd, int *ret_domain, int *ret_type);
int __wrap_gm_sys_set_nonblock(int fd);
void *__wrap_gm_sys_alloc(size_t len);
uint64_t __real_gm_checksum_end(const struct gm_checksum_run *run);
uint64_t __wrap_gm_checksum_end(const struct gm_checksum_run *run);

uint64_t __wrap_gm_checksum_end(const struct gm_checksum_run *run)
{
	return w.flags & ANY_SUM ? SUM : __real_gm_checksum_end(run);
}

/* Rooms of a mebibyte, of which little is used, are neither cleared nor given back to the kernel each time. */
void *__wrap_gm_sys_alloc(size_t len)
{
	return malloc(len);
}

int __wrap_gm_sys_socket_kind(int fd, int *ret_domain, int *ret_type)
{
	(void)fd;
	*ret_domain = AF_UNIX;
	*ret_type = SOCK_STREAM;
	return 0;
}

int __wrap_gm_sys_set_nonblock(int fd)
{
	(void)fd;
	return 0;
}

int __wrap_gm_sys_close(int fd)
{
	if (fd >= FD) {
		must(w.open >> (fd - FD) & 1);
		w.open &= ~(1u << (fd - FD));
	}
	return 0;
}

static size_t cut(size_t len)
{
	if (w.whole || rng_below(&w.cuts, 3) == 0)
		return len;
	return 1 + rng_below(&w.cuts, rng_below(&w.cuts, 2) ? len : len < 30 ? len : 30);
}

static void put_fds(struct msghdr *msg)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(w.nr_fds * sizeof(int));
	for (uint32_t i = 0; i < w.nr_fds; i++) {
		int fd = FD + (int)i;

		memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(int));
		w.open |= 1u << i;
	}
	msg->msg_controllen = CMSG_SPACE(w.nr_fds * sizeof(int));
}

ssize_t __wrap_gm_sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	uint8_t *to = msg->msg_iov[0].iov_base;
	size_t len = msg->msg_iov[0].iov_len;
	size_t given;

	(void)fd;
	must((flags & MSG_DONTWAIT) && len && msg->msg_iovlen == 1);
	if (!w.whole && rng_below(&w.cuts, 16) == 0)
		return rng_below(&w.cuts, 2) ? -EINTR : -EAGAIN;
	len = len < w.left + w.filler ? len : w.left + w.filler;
	msg->msg_flags = 0;
	if (!len) {
		msg->msg_controllen = 0;
		return w.flags & ENDS ? 0 : -EAGAIN;
	}
	len = cut(len);
	given = len < w.left ? len : w.left;
	memcpy(to, w.at, given);
	memset(to + given, 0x33, len - given);
	must(len <= CAME_MAX - w.nr_came);
	memcpy(w.came + w.nr_came, to, len);
	w.nr_came += len;
	w.all += len;
	w.at += given;
	w.left -= given;
	w.filler -= len - given;
	if (++w.calls == w.fds_at)
		put_fds(msg);
	else
		msg->msg_controllen = 0;
	return (ssize_t)len;
}

ssize_t __wrap_gm_sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	size_t all = msg->msg_iov[0].iov_len + msg->msg_iov[1].iov_len;
	size_t len;
	size_t left;

	(void)fd;
	must((flags & MSG_DONTWAIT) && all && msg->msg_iovlen == 2);
	if (msg->msg_controllen) {
		must(!w.nr_sent && !w.fds_sent);
		w.fds_sent = (uint32_t)((CMSG_FIRSTHDR(msg)->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	}
	len = left = cut(all);
	must(len <= CAME_MAX - w.nr_sent);
	for (size_t i = 0; i < 2; i++) {
		size_t part = msg->msg_iov[i].iov_len < left ? msg->msg_iov[i].iov_len : left;

		if (part)
			memcpy(w.sent + w.nr_sent, msg->msg_iov[i].iov_base, part);
		w.nr_sent += part;
		left -= part;
	}
	return (ssize_t)len;
}

/* ---- what comes out ---- */

static void check_place(const struct gm_migrate_terms *terms, const struct gm_migrate_place *place)
{
	uint64_t pages;

	must(place->region < terms->nr && place->nr);
	pages = terms->regions[place->region].len >> GM_MIGRATE_PAGE_LOG2;
	must(place->first < pages && place->nr <= pages - place->first);
}

static volatile uint8_t sink;

/* Each byte is there. */
static void touch(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i += i + 1 < len && i % 64 ? 63 : 1)
		sum = (uint8_t)(sum + bytes[i]);
	sink = (uint8_t)(sum + (len ? bytes[len - 1] : 0));
}

static void check_pages(const struct gm_migrate_terms *terms, const struct gm_migrate_heard *h)
{
	check_place(terms, &h->msg.place);
	must(h->msg.place.nr <= PAGES_MAX && h->msg.kind >= 1 && h->msg.kind <= 5);
	must((h->memory != NULL) == (h->msg.kind < GM_MIGRATE_ZEROS));
	if (h->memory) {
		must((uintptr_t)h->memory % 4096 == 0);
		touch(h->memory, (size_t)h->msg.place.nr << 12);
	}
}

/* Both ends have it from here on. */
static void check_layout(struct gm_migrate_terms *terms, const struct gm_migrate_heard *h)
{
	uint32_t by_fd = 0;

	must(terms[0].room && !terms[0].regions && h->msg.regions == room);
	for (uint32_t i = 0; i < h->msg.nr; i++)
		by_fd += room[i].by_fd;
	must(by_fd == h->fds->nr && (uint32_t)__builtin_popcount(w.open) == by_fd);
	for (int end = 0; end < 2; end++) {
		terms[end].regions = room;
		terms[end].nr = h->msg.nr;
	}
}

static void check(struct gm_migrate_terms *terms, const struct gm_migrate_heard *h)
{
	must((h->fds != NULL) == (h->msg.type == GM_MIGRATE_LAYOUT));
	must((h->text != NULL) == (h->msg.type == GM_MIGRATE_REFUSED));
	switch (h->msg.type) {
	case GM_MIGRATE_LAYOUT:
		check_layout(terms, h);
		break;
	case GM_MIGRATE_PAGES:
		check_pages(terms, h);
		break;
	case GM_MIGRATE_DISCARD:
	case GM_MIGRATE_DROPPED:
		for (uint32_t i = 0; i < h->msg.nr; i++)
			check_place(terms, &h->msg.places[i]);
		break;
	case GM_MIGRATE_HAVE:
		touch(h->msg.bits, gm_migrate_bits_len(&h->msg.place));
		/* fall through */
	case GM_MIGRATE_REQUEST:
		check_place(terms, &h->msg.place);
		break;
	case GM_MIGRATE_STATE:
		must(h->msg.len && h->msg.len <= GM_MIGRATE_STATE_PIECE);
		touch(h->memory, h->msg.len);
		break;
	default:
		break;
	}
}

/* Of the message that has come. */
static size_t whole_len(void)
{
	return GM_MIGRATE_HEAD + (size_t)gm_get_le32(w.came + 4);
}

/* The other end says it again; places were decoded where they came, so the bytes are those that were kept. */
static void say_again(struct gm_migrate_conn *c, const struct gm_migrate_heard *h)
{
	static const int fds[32];
	size_t len = gm_get_le32(w.came + 4);
	size_t sent;
	int rc;

	w.nr_sent = 0;
	w.fds_sent = 0;
	if (h->msg.type == GM_MIGRATE_LAYOUT) {
		must(!gm_migrate_conn_say_layout(c, fds, h->fds->nr));
	} else if (h->msg.type == GM_MIGRATE_PAGES) {
		bool bytes = h->msg.kind < GM_MIGRATE_ZEROS;

		must(gm_migrate_conn_say_pages(c, h->msg.number, &h->msg.place,
			     bytes ? (uint32_t)GM_MIGRATE_RAW : h->msg.kind,
			     h->memory) == (bytes ? (uint32_t)GM_MIGRATE_RAW : h->msg.kind));
	} else {
		must(!gm_migrate_conn_say(
			c, h->msg.type, h->msg.number, w.came + GM_MIGRATE_HEAD, len));
	}
	do
		rc = gm_migrate_conn_flush(c, cut(100000), &sent);
	while (rc == -EAGAIN);
	must(rc == 0 && w.fds_sent == (h->fds ? h->fds->nr : 0));
	/* What was packed has gone raw. */
	if (h->msg.kind == GM_MIGRATE_BY_ZSTD || h->msg.kind == GM_MIGRATE_BY_LZ4) {
		must(w.nr_sent == 48 + ((size_t)h->msg.place.nr << 12));
		return;
	}
	must(w.nr_sent == whole_len() && !memcmp(w.sent, w.came, w.nr_sent));
}

static void hear_all(
	struct gm_migrate_conn *c, struct gm_migrate_conn *other, struct gm_migrate_terms *terms)
{
	for (;;) {
		size_t before = w.left + w.filler;
		struct gm_migrate_heard h = {.msg.type = 99};
		const char *why;
		int rc = gm_migrate_conn_recv(c, &h, &why);

		must((why != NULL) == (rc == -EPROTO || rc == -EBADMSG || rc == -EMFILE));
		if (rc != 1) {
			must(h.msg.type == 99 && rc <= 0);
			if (rc == -EAGAIN && before && !w.whole)
				continue;
			if (rc) {
				must(rc == -EAGAIN ||
					(!w.open && gm_migrate_conn_recv(c, &h, &why) == rc));
				return;
			}
			continue;
		}
		must(!gm_migrate_conn_hears(c));
		/* Only of urgent ones more may have been read. */
		must(w.nr_came >= whole_len() && w.nr_came - whole_len() <= w.ahead);
		check(terms, &h);
		say_again(other, &h);
		if (h.fds && (w.flags & TAKES)) {
			for (uint32_t i = 0; i < h.fds->nr; i++)
				(void)__wrap_gm_sys_close(h.fds->fd[i]);
			h.fds->nr = 0;
		}
		w.nr_came -= whole_len();
		memmove(w.came, w.came + whole_len(), w.nr_came);
	}
}

static bool hear_opening(struct gm_migrate_conn *c, bool source)
{
	size_t len = source ? GM_MIGRATE_OPENED : GM_MIGRATE_OPEN;
	size_t before = 1;
	const uint8_t *bytes;
	int rc;

	do {
		before = w.left + w.filler;
		rc = gm_migrate_conn_hear(c, len, &bytes);
	} while (!rc && before);
	must(rc <= 1);
	if (rc != 1)
		return false;
	must(w.nr_came == len && !memcmp(bytes, w.came, len));
	w.nr_came = 0;
	return true;
}

static struct gm_migrate_conn *make(const struct gm_migrate_terms *terms)
{
	struct gm_migrate_conn *c;

	must(!gm_migrate_conn_create(3, terms, &c, NULL));
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t slots[] = {0, 1, 1 + GM_MIGRATE_BULK_MAX, 0};
	struct gm_migrate_terms terms[2];
	struct gm_migrate_conn *c[2];
	uint32_t slot;

	if (size < HEAD)
		return 0;
	mallopt(M_MMAP_THRESHOLD, 1 << 28);
	mallopt(M_TRIM_THRESHOLD, 1 << 28);
	w.at = data + HEAD;
	w.left = size - HEAD;
	w.flags = data[0];
	w.filler = w.flags & FILLED ? FILLER : 0;
	slot = slots[data[1] & 3];
	w.ahead = slot > GM_MIGRATE_BULK_MAX ? AHEAD : 0;
	w.whole = data[2] == 0;
	w.cuts.state = data[2];
	w.calls = 0;
	w.fds_at = data[3] & 15;
	w.nr_fds = data[3] >> 4;
	w.nr_came = 0;
	w.all = 0;
	terms[0] = (struct gm_migrate_terms){.regions = w.flags & NO_LAYOUT ? NULL : regions,
		.nr = sizeof(regions) / sizeof(regions[0]),
		.pages_max = PAGES_MAX,
		.features = data[1] >> 4,
		.codec = GM_MIGRATE_RAW,
		.source = w.flags & IS_SOURCE,
		.sole = w.flags & SOLE,
		.room = w.flags & IS_SOURCE ? NULL : room};
	c[0] = make(&terms[0]);
	if (!(w.flags & OPENING) || hear_opening(c[0], terms[0].source)) {
		must(!gm_migrate_conn_is(c[0], slot, 7));
		/* The other end, by what this one knows. */
		terms[1] = terms[0];
		terms[1].source = !terms[0].source;
		terms[1].features = 0;
		c[1] = make(&terms[1]);
		must(!gm_migrate_conn_is(c[1], slot, 7));
		hear_all(c[0], c[1], terms);
		gm_migrate_conn_free(c[1]);
	}
	must(gm_migrate_conn_came(c[0]) == w.all);
	gm_migrate_conn_free(c[0]);
	must(!w.open);
	return 0;
}
