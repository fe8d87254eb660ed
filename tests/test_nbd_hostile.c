/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_nbd_hostile.c - a server of network block devices that damages one thing of what it says, in the handshake or in
 * front of a reply's bytes: the client has the right bytes or an error in time, never a wrong page, and lives.
 *
 * The bytes of a page are not damaged: the protocol has no checksums, so nobody could tell. For the same reason one
 * request is under way at a time: a server that answers one by the cookie of another has said whose bytes these are.
 */
#include <guestmem/nbd.h>

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fault.h"
#include "nbd_server.h"
#include "random.h"
#include "sys/sys.h"

#define SIZE MIB(1)
#define REQUEST 8192u
#define READS 6u
#define WHERE 120u /* bytes of greeting, options and some replies: one of them is damaged */

#define OPT_EXPORT_NAME 1u
#define OPT_ABORT 2u
#define OPT_GO 7u
#define OPT_REPLY UINT64_C(0x3e889045565a9)
#define REP_ACK 1u
#define REP_INFO 3u
#define REP_UNSUP 0x80000001u
#define REQUEST_MAGIC 0x25609513u
#define REPLY_MAGIC 0x67446698u
#define EXPORT_FLAGS 3u /* there are some; it is read-only */

enum damage { NONE, FLIP, OTHER, CUT, ADD, STALL, DAMAGES };

static struct gm_error err;

/* What the server does to its words; @said counts over all connections. */
static struct {
	int listener;
	enum damage damage;
	uint64_t where;
	uint8_t with;
	bool again; /* on each connection */
	uint64_t said;
	_Atomic uint64_t damaged;
} mean;

struct talk {
	int sock;
	bool dumb;
};

static bool say_bytes(struct talk *t, const void *bytes, size_t len)
{
	return len == 0 || send(t->sock, bytes, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* Words that may be damaged. */
static bool say(struct talk *t, const void *words, size_t len)
{
	uint8_t bytes[64];
	uint64_t at = mean.where - mean.said;

	if (len == 0 || t->dumb)
		return true;
	if (len >= sizeof(bytes))
		return false;
	memcpy(bytes, words, len);
	mean.said += len;
	if (mean.damage == NONE || at >= len)
		return say_bytes(t, bytes, len);
	mean.damaged++;
	switch (mean.damage) {
	case FLIP:
		bytes[at] ^= (uint8_t)(1u << mean.with % 8);
		break;
	case OTHER:
		bytes[at] = mean.with;
		break;
	case ADD:
		memmove(bytes + at + 1, bytes + at, len - at);
		bytes[at] = mean.with;
		len++;
		break;
	case CUT:
		say_bytes(t, bytes, at);
		return false;
	default:
		t->dumb = true;
		return say_bytes(t, bytes, at);
	}
	return say_bytes(t, bytes, len);
}

static bool hear(struct talk *t, void *bytes, size_t len)
{
	return len == 0 || recv(t->sock, bytes, len, MSG_WAITALL) == (ssize_t)len;
}

static bool say_option(
	struct talk *t, uint32_t option, uint32_t type, const void *data, uint32_t len)
{
	struct __attribute__((packed)) {
		uint64_t magic;
		uint32_t option;
		uint32_t type;
		uint32_t len;
	} head = {htobe64(OPT_REPLY), htobe32(option), htobe32(type), htobe32(len)};

	return say(t, &head, sizeof(head)) && say(t, data, len);
}

static bool export_it(struct talk *t, uint32_t option)
{
	struct __attribute__((packed)) {
		uint16_t type;
		uint64_t size;
		uint16_t flags;
	} info = {0, htobe64(SIZE), htobe16(EXPORT_FLAGS)};

	if (option == OPT_EXPORT_NAME)
		return say(t, &info.size, 10);
	return say_option(t, option, REP_INFO, &info, sizeof(info)) &&
	       say_option(t, option, REP_ACK, NULL, 0);
}

/* True: from here on requests come. */
static bool greet(struct talk *t)
{
	struct __attribute__((packed)) {
		uint64_t magic;
		uint32_t option;
		uint32_t len;
	} asked;
	static uint8_t data[65536];
	uint32_t flags;

	if (!say(t, "NBDMAGICIHAVEOPT\x00\x03", 18) || !hear(t, &flags, sizeof(flags)))
		return false;
	while (hear(t, &asked, sizeof(asked))) {
		uint32_t option = be32toh(asked.option);
		uint32_t len = be32toh(asked.len);

		if (len > sizeof(data) || !hear(t, data, len) || option == OPT_ABORT)
			return false;
		if (option == OPT_GO || option == OPT_EXPORT_NAME)
			return export_it(t, option);
		if (!say_option(t, option, REP_UNSUP, NULL, 0))
			return false;
	}
	return false;
}

static void answer(struct talk *t)
{
	struct __attribute__((packed)) {
		uint32_t magic;
		uint16_t flags;
		uint16_t type;
		uint64_t cookie;
		uint64_t offset;
		uint32_t len;
	} asked;
	static uint64_t words[SIZE / 8];

	while (hear(t, &asked, sizeof(asked)) && be32toh(asked.magic) == REQUEST_MAGIC &&
		asked.type == 0) {
		struct __attribute__((packed)) {
			uint32_t magic;
			uint32_t error;
			uint64_t cookie;
		} reply = {htobe32(REPLY_MAGIC), 0, asked.cookie};
		uint64_t offset = be64toh(asked.offset);
		uint32_t len = be32toh(asked.len);

		/* It was told another size. */
		if (offset > SIZE || len > SIZE - offset)
			reply.error = htobe32(EINVAL);
		for (uint64_t i = 0; i < len / 8 && !reply.error; i++)
			words[i] = htobe64(offset + i * 8);
		if (!say(t, &reply, sizeof(reply)))
			return;
		if (!t->dumb && !reply.error && !say_bytes(t, words, len))
			return;
	}
}

static void *be_mean(void *arg)
{
	(void)arg;
	for (;;) {
		struct talk t = {accept4(mean.listener, NULL, NULL, SOCK_CLOEXEC), false};

		if (t.sock < 0)
			return NULL;
		if (mean.again)
			mean.said = 0;
		if (greet(&t))
			answer(&t);
		/* Who says nothing more listens still. */
		while (t.dumb && recv(t.sock, &t.dumb, 1, 0) == 1)
			t.dumb = true;
		close(t.sock);
	}
}

static void start_mean(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	mean.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mean.said = 0;
	strcpy(addr.sun_path, path);
	assert_int_equal(bind(mean.listener, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(mean.listener, 8), 0);
}

/* Pages that came; the others have errors. */
static unsigned int read_some(struct rng *rng, struct gm_source *source)
{
	uint8_t *buf = malloc(REQUEST);
	uint64_t len = gm_source_len(source) < SIZE ? gm_source_len(source) : SIZE;
	unsigned int came = 0;

	assert_non_null(buf);
	for (unsigned int i = 0; i < READS && len >= REQUEST; i++) {
		uint64_t offset = rng_below(rng, len / REQUEST) * REQUEST;
		int rc = gm_source_read(source, offset, buf, REQUEST, &err);

		assert_true(rc <= 0);
		if (rc) {
			assert_int_equal(err.code, rc);
			assert_true(err.text[0]);
			continue;
		}
		came++;
		for (uint64_t at = 0; at < REQUEST; at += 8) {
			uint64_t word;

			memcpy(&word, buf + at, 8);
			assert_int_equal(be64toh(word), offset + at);
		}
	}
	free(buf);
	return came;
}

/* Pages that came; -1: it was not opened. */
static int one_round(struct rng *rng)
{
	const struct gm_nbd_opts opts = {.size = sizeof(opts),
		.uri = uri,
		.connections = 1,
		.connect_ms = 150,
		.retry_ms = 150,
		.request_ms = 100};
	struct gm_source *source = NULL;
	size_t fds = fault_open_fds();
	int came = -1;
	pthread_t thread;
	uint64_t since;

	start_mean();
	assert_int_equal(pthread_create(&thread, NULL, be_mean, NULL), 0);
	since = gm_sys_now_ns();
	if (gm_source_nbd(&opts, &source, &err) == 0) {
		came = (int)read_some(rng, source);
		gm_source_destroy(source);
	} else {
		assert_null(source);
		assert_non_null(strstr(err.text, path));
	}
	/* Times that were given, for each read, and a busy machine. */
	assert_true(gm_sys_now_ns() - since < UINT64_C(60000000000));
	shutdown(mean.listener, SHUT_RDWR);
	pthread_join(thread, NULL);
	close(mean.listener);
	unlink(path);
	assert_int_equal(fault_open_fds(), fds);
	return came;
}

static void one_that_is_honest_is_read(void **state)
{
	struct rng rng = {test_seed(0)};

	(void)state;
	mean.damage = NONE;
	assert_int_equal(one_round(&rng), READS);
	/* All that can be damaged has been said. */
	assert_true(mean.said >= WHERE);
}

static void what_is_damaged_is_no_wrong_page(void **state)
{
	unsigned long rounds = support_scale(80);
	unsigned long opened = 0;
	unsigned long came = 0;

	(void)state;
	mean.damaged = 0;
	for (unsigned long round = 0; round < rounds; round++) {
		struct rng rng = {test_seed(round + 1)};
		int got;

		mean.damage = (enum damage)(1 + rng_below(&rng, DAMAGES - 1));
		mean.where = rng_below(&rng, WHERE);
		mean.with = (uint8_t)rng_below(&rng, 256);
		mean.again = rng_below(&rng, 4) == 0;
		got = one_round(&rng);
		opened += got >= 0;
		came += got > 0 ? (unsigned long)got : 0;
	}
	/* It was damaged, some was refused, and some was read in spite of it. */
	assert_true(mean.damaged >= rounds / 2);
	assert_true(opened > 0 && opened < rounds && came > 0 && came < rounds * READS);
	if (getenv("GM_SOAK"))
		printf("figure: nbd-hostile %lu\n", (unsigned long)mean.damaged);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_is_honest_is_read),
		cmocka_unit_test(what_is_damaged_is_no_wrong_page),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
