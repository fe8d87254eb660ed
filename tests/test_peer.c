/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_peer.c - pages over a socket: both ends in threads; a peer that sends single bytes, cuts, stalls, lies; one
 * that is lost and comes back; what a hostile client gets; calls that fail.
 */
#include <guestmem/peer.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/peer_wire.h"
#include "fault.h"
#include "random.h"
#include "support.h"
#include "sys/sys.h"

#define LEN MIB(5)
#define NR GM_PEER_REQUESTS_MAX

static struct gm_error err;
static uint8_t memory[LEN];
static struct gm_source *served;
static struct gm_source *source;

#include "source_jobs.h"

/* What a server does to its connection: the bytes go through a thread that may spoil them. */
enum spoil { WELL, BYTES, CUT, STALL, FLIP };

static struct {
	enum spoil spoil;
	uint64_t after;              /* bytes from the server that are left alone */
	_Atomic unsigned int times;  /* connections that are spoilt; later ones are well */
	_Atomic unsigned int refuse; /* calls of connect that fail */
	_Atomic unsigned int connected;
	struct gm_peer_serve_opts opts;
	struct gm_source *source;
} plan;

static pthread_t threads[256];
static unsigned int nr_threads;

struct pipe {
	int in;
	int out;
	enum spoil spoil;
	uint64_t left;
};

static bool put(int fd, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t nr = send(fd, bytes, len, MSG_NOSIGNAL);

		if (nr <= 0)
			return false;
		bytes += nr;
		len -= (size_t)nr;
	}
	return true;
}

/* Passes on what comes, spoilt behind some bytes. */
static void *carry(void *arg)
{
	struct pipe *pipe = arg;
	uint8_t bytes[4096];
	bool well = true;
	ssize_t nr;

	while (well && (nr = recv(pipe->in, bytes, sizeof(bytes), 0)) > 0) {
		uint64_t keep = pipe->left < (uint64_t)nr ? pipe->left : (uint64_t)nr;

		if (pipe->spoil == BYTES) {
			for (ssize_t i = 0; i < nr && well; i++)
				well = put(pipe->out, bytes + i, 1);
			continue;
		}
		if (pipe->spoil == FLIP && keep < (uint64_t)nr && pipe->left != UINT64_MAX) {
			bytes[keep] ^= 0x41;
			pipe->left = UINT64_MAX;
			keep = (uint64_t)nr;
		}
		well = put(pipe->out, bytes, pipe->spoil == WELL ? (size_t)nr : keep);
		if (pipe->left != UINT64_MAX)
			pipe->left -= keep;
		if (keep == (uint64_t)nr || pipe->spoil == WELL || pipe->spoil == FLIP)
			continue;
		if (pipe->spoil == CUT)
			break;
		/* Silence, until the other side has had enough. */
		while (recv(pipe->out, bytes, sizeof(bytes), MSG_PEEK) > 0)
			usleep(1000);
		break;
	}
	shutdown(pipe->out, SHUT_RDWR);
	shutdown(pipe->in, SHUT_RDWR);
	free(pipe);
	return NULL;
}

static void start(void *(*run)(void *), void *arg)
{
	assert_true(nr_threads < sizeof(threads) / sizeof(threads[0]));
	assert_int_equal(pthread_create(&threads[nr_threads++], NULL, run, arg), 0);
}

struct conn {
	int fds[4]; /* client, carrier to it; carrier to the server, server */
};

static void *serve(void *arg)
{
	struct conn *conn = arg;

	gm_peer_serve(conn->fds[3], plan.source, &plan.opts, NULL);
	shutdown(conn->fds[3], SHUT_RDWR);
	return NULL;
}

/* What the client says goes to the server as it is. */
static void *carry_back(void *arg)
{
	struct conn *conn = arg;
	uint8_t bytes[4096];
	ssize_t nr;

	while ((nr = recv(conn->fds[1], bytes, sizeof(bytes), 0)) > 0) {
		if (!put(conn->fds[2], bytes, (size_t)nr))
			break;
	}
	shutdown(conn->fds[2], SHUT_RDWR);
	return NULL;
}

static struct conn conns[64];
static unsigned int nr_conns;

static int connect_peer(void *ctx)
{
	struct conn *conn = &conns[nr_conns];
	struct pipe *pipe;

	(void)ctx;
	if (plan.refuse) {
		plan.refuse--;
		return -ECONNREFUSED;
	}
	assert_true(nr_conns < 64);
	nr_conns++;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, conn->fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, conn->fds + 2), 0);
	pipe = malloc(sizeof(*pipe));
	*pipe = (struct pipe){conn->fds[2], conn->fds[1], WELL, plan.after};
	if (plan.times) {
		plan.times--;
		pipe->spoil = plan.spoil;
	}
	plan.connected++;
	start(serve, conn);
	start(carry, pipe);
	start(carry_back, conn);
	return conn->fds[0];
}

static int begin(void **state)
{
	struct rng rng = {test_seed(81)};

	(void)state;
	memset(&plan, 0, sizeof(plan));
	plan.opts.size = sizeof(plan.opts);
	for (size_t at = 0; at < LEN; at += 4096) {
		uint64_t sort = rng_below(&rng, 3);

		memset(memory + at, 0, 4096);
		for (size_t i = 0; i < 4096 && sort; i += 8) {
			uint64_t word = sort == 1 ? rng_below(&rng, 3) : rng_next(&rng);

			memcpy(memory + at + i, &word, 8);
		}
	}
	assert_ok(gm_source_memory(memory, LEN, &served, &err));
	plan.source = served;
	return 0;
}

static int end(void **state)
{
	(void)state;
	gm_source_destroy(source);
	source = NULL;
	for (unsigned int i = 0; i < nr_threads; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < nr_conns; i++) {
		for (int k = 1; k < 4; k++)
			close(conns[i].fds[k]);
	}
	nr_threads = nr_conns = 0;
	gm_source_destroy(served);
	return 0;
}

#define OPEN(...)                                                                                  \
	gm_source_peer(GM_OPTS(gm_peer_opts, .connect = connect_peer, __VA_ARGS__), &source, &err)

/* ---- requests ---- */

/* Steps until all are done. */
static int wait_for(unsigned int nr)
{
	uint64_t until = gm_sys_now_ns() + UINT64_C(60000000000);
	int rc = 0;

	while (finished < nr && gm_sys_now_ns() < until) {
		struct pollfd wait = {.fd = gm_source_fd(source), .events = POLLIN};

		assert_true(poll(&wait, 1, 30000) > 0);
		rc = gm_source_step(source);
	}
	assert_int_equal(finished, nr);
	return rc;
}

/* Random reads at once; each ends with @expected. */
static int many(struct rng *rng, unsigned int nr, int expected)
{
	int rc;

	finished = 0;
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t len = 1 + rng_below(rng, i % 16 ? 20000 : LEN / 2);

		assert_int_equal(ask(&jobs[i], rng_below(rng, LEN - len), len), 0);
	}
	rc = wait_for(nr);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(jobs[i].rc, expected);
		if (!expected)
			assert_memory_equal(
				jobs[i].buf, memory + jobs[i].read.offset, jobs[i].read.len);
		free(jobs[i].buf);
	}
	return rc;
}

static void right_bytes_come_over_a_socket(void **state)
{
	struct rng rng = {test_seed(82)};
	struct gm_source_extent extent;
	uint8_t *all = malloc(LEN);

	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		plan.opts.flags = flags;
		assert_ok(OPEN(.retry_ms = 60000));
		assert_int_equal(gm_source_len(source), LEN);
		assert_int_equal(gm_source_extent(source, 5, &extent), 0);
		assert_int_equal(extent.kind, GM_SOURCE_REMOTE);
		for (unsigned long i = 0; i < support_scale(3); i++)
			assert_int_equal(many(&rng, NR, 0), 0);
		assert_ok(gm_source_read(source, 0, all, LEN, &err));
		assert_memory_equal(all, memory, LEN);
		gm_source_destroy(source);
		source = NULL;
	}
	free(all);
	assert_int_equal(plan.connected, 2);
}

static void there_is_an_end_to_what_is_under_way(void **state)
{
	struct job more = {0};

	(void)state;
	assert_ok(OPEN(.retry_ms = 60000));
	finished = 0;
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(ask(&jobs[i], i * 4096, 4096), 0);
	assert_int_equal(ask(&more, 0, 4096), -EAGAIN);
	assert_int_equal(wait_for(NR), 0);
	for (unsigned int i = 0; i < NR; i++)
		free(jobs[i].buf);
}

/* ---- connections that are spoilt ---- */

static void single_bytes_are_put_together(void **state)
{
	struct rng rng = {test_seed(83)};

	(void)state;
	plan.spoil = BYTES;
	plan.times = 1;
	assert_ok(OPEN(.retry_ms = 60000));
	finished = 0;
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(ask(&jobs[i], rng_below(&rng, LEN - 3000), 3000), 0);
	assert_int_equal(wait_for(8), 0);
	for (unsigned int i = 0; i < 8; i++) {
		assert_memory_equal(jobs[i].buf, memory + jobs[i].read.offset, 3000);
		free(jobs[i].buf);
	}
	assert_int_equal(plan.connected, 1);
}

static void a_lost_connection_takes_nothing_along(void **state)
{
	struct rng rng = {test_seed(84)};

	(void)state;
	for (int stalls = 0; stalls < 2; stalls++) {
		for (unsigned long i = 0; i < support_scale(2); i++) {
			nr_conns = 0;
			plan.connected = 0;
			plan.spoil = stalls ? STALL : CUT;
			plan.times = 3;
			plan.refuse = 0;
			plan.after = 48 + rng_below(&rng, 200000);
			assert_ok(OPEN(.retry_ms = 60000, .request_ms = stalls ? 150 : 0));
			plan.refuse = 2;
			assert_int_equal(many(&rng, NR, 0), 0);
			assert_true(plan.connected > 1);
			end(NULL);
			assert_ok(gm_source_memory(memory, LEN, &served, &err));
			plan.source = served;
		}
	}
}

static void a_peer_that_stays_away_is_an_error_and_may_come_back(void **state)
{
	struct rng rng = {test_seed(85)};

	(void)state;
	plan.spoil = CUT;
	plan.times = 1;
	plan.after = 100;
	assert_ok(OPEN(.retry_ms = 1500));
	plan.refuse = 1000000;
	assert_int_equal(many(&rng, 5, -ECONNREFUSED), 0);
	plan.refuse = 0;
	assert_int_equal(many(&rng, 5, 0), 0);
}

static void other_memory_is_refused(void **state)
{
	struct rng rng = {test_seed(86)};

	(void)state;
	plan.spoil = CUT;
	plan.times = 1;
	plan.after = 100;
	assert_ok(OPEN(.retry_ms = 60000));
	/* The next one is another. */
	plan.opts.identity[3] = 1;
	assert_int_equal(many(&rng, 5, -ESTALE), -ESTALE);
}

static void a_wrong_byte_is_never_handed_on(void **state)
{
	struct rng rng = {test_seed(87)};

	(void)state;
	plan.opts.flags = GM_PEER_RAW;
	for (unsigned long i = 0; i < support_scale(30); i++) {
		uint64_t at = i < 10 ? i * 8 : rng_below(&rng, 100 + 4096);
		uint64_t page = rng_below(&rng, LEN / 4096) * 4096;
		int rc;

		nr_conns = 0;
		plan.spoil = FLIP;
		plan.times = 1;
		plan.after = at;
		rc = OPEN(.retry_ms = 60000, .connect_ms = 60000);
		if (rc == 0) {
			uint8_t bytes[4096];

			rc = gm_source_read(source, page, bytes, sizeof(bytes), &err);
			if (rc == 0)
				assert_memory_equal(bytes, memory + page, sizeof(bytes));
		}
		/* A length of the memory that is too long is the server's word; reading there is refused by it. */
		assert_true(rc == 0 || rc == -EPROTO || rc == -EBADMSG || rc == -ENOTSUP ||
			    rc == -ERANGE || (rc < 0 && at >= 48 + 4 && at < 48 + 32));
		assert_true(rc == 0 || err.text[0]);
		end(NULL);
		assert_ok(gm_source_memory(memory, LEN, &served, &err));
		plan.source = served;
	}
}

static int fail_reading(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *e)
{
	(void)ctx;
	(void)e;
	if (offset >= MIB(1))
		return -EHWPOISON;
	memcpy(buf, memory + offset, len);
	return 0;
}

static void errors_of_the_source_are_told(void **state)
{
	const struct gm_source_ops ops = {.size = sizeof(ops), .len = LEN, .read = fail_reading};
	uint8_t bytes[4096];
	struct gm_source *bad;

	(void)state;
	assert_ok(gm_source_create(&ops, &bad, &err));
	plan.source = bad;
	assert_ok(OPEN(.retry_ms = 60000));
	assert_int_equal(gm_source_read(source, MIB(2), bytes, sizeof(bytes), &err), -EHWPOISON);
	assert_ok(gm_source_read(source, 4096, bytes, sizeof(bytes), &err));
	assert_memory_equal(bytes, memory + 4096, sizeof(bytes));
	gm_source_destroy(source);
	source = NULL;
	for (; nr_threads; nr_threads--)
		pthread_join(threads[nr_threads - 1], NULL);
	gm_source_destroy(bad);
}

/* ---- a client that is none ---- */

/* What a server says to these bytes, after which the client is gone. */
static int serve_bytes(const uint8_t *bytes, size_t len, uint32_t message_ms, bool stays)
{
	struct gm_peer_serve_opts opts = {.size = sizeof(opts), .message_ms = message_ms};
	int fds[2];
	int rc;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_true(put(fds[0], bytes, len));
	if (!stays)
		assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
	err = (struct gm_error){.code = 0};
	rc = gm_peer_serve(fds[1], served, &opts, &err);
	close(fds[0]);
	close(fds[1]);
	return rc;
}

static void hostile_clients_are_sent_away(void **state)
{
	uint8_t bytes[GM_PEER_HELLO + 4 * GM_PEER_REQUEST];
	const struct gm_peer_hello hello = {.lowest = 1, .highest = 3};
	struct rng rng = {test_seed(88)};

	(void)state;
	memset(bytes, 0, sizeof(bytes));
	gm_peer_put_hello(&hello, bytes);
	for (uint32_t i = 0; i < 4; i++)
		gm_peer_put_request(&(struct gm_peer_request){i, 4096, i * 4096u},
			bytes + GM_PEER_HELLO + i * GM_PEER_REQUEST);
	assert_int_equal(serve_bytes(bytes, sizeof(bytes), 0, false), 0);
	assert_int_equal(serve_bytes(bytes, 0, 0, false), 0);
	assert_fails(serve_bytes(bytes, 31, 0, false), EPROTO, "is cut");
	assert_fails(serve_bytes(bytes, 31, 50, true), ETIMEDOUT, "does not end");
	assert_fails(serve_bytes(bytes, sizeof(bytes) - 1, 50, true), ETIMEDOUT, "does not end");
	assert_fails(
		serve_bytes((const uint8_t *)"GET / HTTP/1.1\r\nHost: localhost\r\n", 33, 0, false),
		EPROTO, "does not speak");
	bytes[8] = 2;
	assert_fails(serve_bytes(bytes, sizeof(bytes), 0, false), ENOTSUP, "speaks no version");
	bytes[8] = 4;
	assert_fails(serve_bytes(bytes, sizeof(bytes), 0, false), EPROTO, "speaks no version");
	bytes[8] = 1;
	bytes[GM_PEER_HELLO + 20] = 1;
	assert_fails(serve_bytes(bytes, sizeof(bytes), 0, false), EPROTO, "reserved");
	bytes[GM_PEER_HELLO + 20] = 0;
	bytes[GM_PEER_HELLO + 7] = 1;
	assert_fails(serve_bytes(bytes, sizeof(bytes), 0, false), EPROTO, "no length");
	bytes[GM_PEER_HELLO + 7] = 0;
	bytes[GM_PEER_HELLO + 6] = 0x21;
	assert_fails(serve_bytes(bytes, sizeof(bytes), 0, false), EPROTO, "than was said");
	bytes[GM_PEER_HELLO + 6] = 0;
	bytes[GM_PEER_HELLO + 15] = 0xff;
	assert_int_equal(serve_bytes(bytes, sizeof(bytes), 0, false), 0);
	for (unsigned long i = 0; i < support_scale(300); i++) {
		uint8_t wrong[sizeof(bytes)];
		int rc;

		memcpy(wrong, bytes, sizeof(bytes));
		for (uint64_t n = rng_below(&rng, 4); n; n--)
			wrong[rng_below(&rng, sizeof(wrong))] = (uint8_t)rng_next(&rng);
		rc = serve_bytes(wrong, rng_below(&rng, sizeof(wrong) + 1), 0, false);
		assert_true(rc == 0 || rc == -EPROTO || rc == -ENOTSUP);
		assert_true(rc == 0 || (err.code == rc && err.text[0]));
	}
}

/* ---- options, calls that fail ---- */

static int no_connection(void *ctx)
{
	(void)ctx;
	return -EHOSTUNREACH;
}

static int silence(void *ctx)
{
	int *fds = ctx;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	return fds[0];
}

static void what_cannot_be_is_refused(void **state)
{
	struct gm_peer_opts opts = {.size = sizeof(opts)};
	struct gm_peer_serve_opts bad = {.size = sizeof(bad), .flags = 2};
	int fds[2];

	(void)state;
	assert_fails(gm_source_peer(&opts, &source, &err), EINVAL, "no way to connect");
	opts.connect = no_connection;
	assert_fails(gm_source_peer(&opts, &source, &err), EHOSTUNREACH, "peer: ");
	opts.size = 8;
	assert_int_equal(gm_source_peer(&opts, &source, &err), -EINVAL);
	opts = (struct gm_peer_opts){
		.size = sizeof(opts), .connect = silence, .ctx = fds, .connect_ms = 50};
	assert_fails(gm_source_peer(&opts, &source, &err), ETIMEDOUT, "does not answer");
	assert_fails(gm_peer_serve(fds[1], served, &bad, &err), EINVAL, "flags 0x2");
	/* It has said hello, and is gone. */
	assert_int_equal(gm_peer_serve(fds[1], served, NULL, &err), 0);
	close(fds[1]);
	assert_int_equal(gm_peer_serve(-1, served, NULL, &err), -EBADF);
	assert_null(source);
}

/* A connection whose other end has said all that it will: a page of zeros. */
static int canned(void *ctx)
{
	uint8_t said[GM_PEER_WELCOME + GM_PEER_ANSWER];
	int *kept = ctx;
	int fds[2];

	/* One before was lost. */
	if (*kept >= 0)
		close(*kept);
	gm_peer_put_welcome(&(struct gm_peer_welcome){.version = 1, .max = 4096, .len = LEN}, said);
	gm_peer_put_answer(&(struct gm_peer_answer){.number = 0, .kind = GM_PEER_ZERO, .len = 4096},
		said + GM_PEER_WELCOME);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	put(fds[1], said, sizeof(said));
	shutdown(fds[1], SHUT_WR);
	*kept = fds[1];
	return fds[0];
}

static int ask_scenario(void *ctx)
{
	struct gm_source *from = NULL;
	uint8_t bytes[4096];
	int kept = -1;
	int rc;

	(void)ctx;
	memset(bytes, 1, sizeof(bytes));
	err = (struct gm_error){.code = 0};
	rc = gm_source_peer(GM_OPTS(gm_peer_opts, .connect = canned, .ctx = &kept,
				    .connect_ms = 100, .retry_ms = 30, .request_ms = 100),
		&from, &err);
	if (!rc)
		rc = gm_source_read(from, 0, bytes, sizeof(bytes), &err);
	fault_disarm();
	assert_true(rc == 0 || (err.code == rc && err.text[0]));
	if (!rc)
		assert_int_equal(bytes[0] | bytes[4095], 0);
	gm_source_destroy(from);
	if (kept >= 0)
		close(kept);
	return rc;
}

static int serve_scenario(void *ctx)
{
	uint8_t said[GM_PEER_HELLO + GM_PEER_REQUEST];
	int rc;

	(void)ctx;
	gm_peer_put_hello(&(struct gm_peer_hello){.lowest = 1, .highest = 1, .codecs = 3}, said);
	gm_peer_put_request(
		&(struct gm_peer_request){.number = 0, .len = 4096}, said + GM_PEER_HELLO);
	rc = serve_bytes(said, sizeof(said), 100, false);
	fault_disarm();
	assert_true(rc == 0 || (err.code == rc && err.text[0]));
	return rc;
}

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {ENOBUFS};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1, .eintr = 2};

	(void)state;
	assert_true(fault_sweep_opts(ask_scenario, NULL, &opts) >= 2 * 10);
	assert_true(fault_sweep_opts(ask_scenario, NULL, &storm) >= 2 * 10);
	assert_true(fault_sweep_opts(serve_scenario, NULL, &opts) >= 2 * 6);
	assert_true(fault_sweep_opts(serve_scenario, NULL, &storm) >= 2 * 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(right_bytes_come_over_a_socket),
		TEST(there_is_an_end_to_what_is_under_way),
		TEST(single_bytes_are_put_together),
		TEST(a_lost_connection_takes_nothing_along),
		TEST(a_peer_that_stays_away_is_an_error_and_may_come_back),
		TEST(other_memory_is_refused),
		TEST(a_wrong_byte_is_never_handed_on),
		TEST(errors_of_the_source_are_told),
		TEST(hostile_clients_are_sent_away),
		TEST(what_cannot_be_is_refused),
		TEST(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
