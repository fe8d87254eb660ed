/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream_peer.c - streams with somebody at the other end: functions of the caller that give
 * little or lie, pipes, sockets.
 */
#include <errno.h>
#include <guestmem/stream.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "stream_memory.h"

/* ---- what falls short ---- */

struct dribble {
	const uint8_t *bytes;
	size_t len;
	size_t at;
	size_t most;
	unsigned int interrupt; /* every so manieth call */
	unsigned int calls;
	int code;
	size_t claim;
	unsigned int flushes;
	uint8_t *sink;
};

static int dribble_in(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	struct dribble *d = ctx;
	size_t room = d->most < d->len - d->at ? d->most : d->len - d->at;

	d->calls++;
	if (d->interrupt && d->calls % d->interrupt == 0)
		return -EINTR;
	for (size_t i = 0; i < nr && room; i++) {
		size_t n = slices[i].iov_len < room ? slices[i].iov_len : room;

		memcpy(slices[i].iov_base, d->bytes + d->at, n);
		d->at += n;
		room -= n;
		*ret_done += n;
	}
	*ret_done += d->claim;
	return d->code;
}

static int dribble_out(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	struct dribble *d = ctx;
	size_t room = d->most < d->len - d->at ? d->most : d->len - d->at;

	for (size_t i = 0; i < nr && room; i++) {
		size_t n = slices[i].iov_len < room ? slices[i].iov_len : room;

		memcpy(d->sink + d->at, slices[i].iov_base, n);
		d->at += n;
		room -= n;
		*ret_done += n;
	}
	/* With progress it is no reason to stop, either. */
	return d->interrupt && *ret_done ? -EINTR : d->code;
}

static int dribble_flush(void *ctx)
{
	((struct dribble *)ctx)->flushes++;
	return -ENODEV;
}

static const struct gm_stream_ops *dribble_ops(struct dribble *d)
{
	static struct gm_stream_ops ops;

	ops = (struct gm_stream_ops){sizeof(ops), dribble_in, dribble_out, dribble_flush, d};
	return &ops;
}

static void test_a_source_of_three_bytes_fills_without_gaps(void **state)
{
	uint8_t *bytes = noise(5000, 6);
	struct dribble d = {.bytes = bytes, .len = 5000, .most = 3, .interrupt = 4};
	struct gm_stream s;
	size_t done;

	(void)state;
	start_memory();
	assert_ok(gm_stream_init_ops(&s, dribble_ops(&d), &err));
	assert_int_equal(gm_stream_read(&s, reader, PAGE - 8, 16, 0, &done), 0);
	assert_int_equal(done, 3);
	assert_memory(PAGE - 8, bytes, 3);
	assert_int_equal(gm_stream_read(&s, reader, PAGE - 5, 4900, EXACT, &done), -EFAULT);
	assert_int_equal(done, PAGE + 5);
	assert_memory(PAGE - 8, bytes, PAGE + 8);
	assert_zero(0, PAGE - 8);
	assert_int_equal(gm_stream_read(&s, reader, 0, 4000, EXACT, &done), -ENODATA);
	assert_int_equal(done, 5000 - PAGE - 8);
	assert_memory(0, bytes + PAGE + 8, done);
	assert_int_equal(gm_stream_flush(&s, 0), -ENODEV);
	assert_int_equal(d.flushes, 1);
	stop();
	free(bytes);
}

static void test_a_sink_that_takes_little_gets_all(void **state)
{
	uint8_t *bytes = noise(2 * PAGE, 7);
	uint8_t *sink = calloc(1, 2 * PAGE);
	struct dribble d = {.sink = sink, .len = 7000, .most = 1001, .interrupt = 1};
	struct gm_stream s;
	size_t done;

	(void)state;
	start_memory();
	set(0, bytes, 2 * PAGE);
	assert_ok(gm_stream_init_ops(&s, dribble_ops(&d), &err));
	assert_int_equal(gm_stream_write(&s, reader, 100, 5000, EXACT, &done), 0);
	assert_memory_equal(sink, bytes + 100, 5000);
	assert_int_equal(gm_stream_write(&s, reader, 5100, 3000, 0, &done), 0);
	assert_int_equal(done, 1001);
	assert_int_equal(gm_stream_write(&s, reader, 6101, 2000, EXACT, &done), -ENOSPC);
	assert_int_equal(done, 999);
	assert_memory_equal(sink, bytes + 100, 7000);
	assert_int_equal(gm_stream_write(&s, reader, 0, 1, 0, &done), 0);
	assert_int_equal(done, 0);
	stop();
	free(sink);
	free(bytes);
}

static void test_functions_that_lie_are_found_out(void **state)
{
	uint8_t *bytes = noise(100, 8);
	struct dribble d = {.bytes = bytes, .len = 100, .most = 50, .claim = 1};
	struct gm_stream_ops none = {.size = sizeof(none)};
	struct gm_stream_ops newer = {.size = sizeof(none) + 8};
	struct gm_stream s;
	size_t done;

	(void)state;
	start_memory();
	assert_ok(gm_stream_init_ops(&s, dribble_ops(&d), &err));
	assert_int_equal(gm_stream_read(&s, reader, 0, 50, EXACT, &done), -EPROTO);
	assert_int_equal(done, 0);
	d = (struct dribble){.bytes = bytes, .len = 100, .most = 50, .code = 1};
	assert_int_equal(gm_stream_read(&s, reader, 0, 50, EXACT, &done), -EPROTO);
	/* An error with progress. */
	d = (struct dribble){.bytes = bytes, .len = 100, .most = 20, .code = -ENETDOWN};
	assert_int_equal(gm_stream_read(&s, reader, 0, 50, EXACT, &done), -ENETDOWN);
	assert_int_equal(done, 20);
	assert_memory(0, bytes, 20);
	assert_fails(gm_stream_init_ops(&s, &none, &err), EINVAL, "neither");
	newer.size = 3;
	assert_int_equal(gm_stream_init_ops(&s, &newer, NULL), -EINVAL);
	none.writev = dribble_out;
	assert_ok(gm_stream_init_ops(&s, &none, &err));
	assert_int_equal(gm_stream_read(&s, reader, 0, 50, EXACT, &done), -EBADF);
	stop();
	free(bytes);
}

/* ---- pipes and sockets ---- */

struct feed {
	int fd;
	const uint8_t *bytes;
	size_t len;
	size_t piece;
};

static void *feeder(void *arg)
{
	struct feed *feed = arg;

	for (size_t at = 0; at < feed->len; at += feed->piece) {
		size_t n = feed->len - at < feed->piece ? feed->len - at : feed->piece;

		if (write(feed->fd, feed->bytes + at, n) != (ssize_t)n)
			abort();
		usleep(100);
	}
	close(feed->fd);
	return NULL;
}

static void test_a_pipe_in_pieces_is_read_exactly(void **state)
{
	uint8_t *bytes = noise(8000, 9);
	struct feed feed = {.bytes = bytes, .len = 8000, .piece = 900};
	struct gm_stream s;
	pthread_t thread;
	int fds[2];
	size_t done;

	(void)state;
	start_memory();
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	feed.fd = fds[1];
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	assert_int_equal(pthread_create(&thread, NULL, feeder, &feed), 0);
	assert_int_equal(gm_stream_read(&s, reader, 7, 7000, EXACT, &done), 0);
	assert_memory(7, bytes, 7000);
	assert_int_equal(gm_stream_read(&s, reader, 0, 7000, EXACT, &done), -ENODATA);
	assert_int_equal(done, 1000);
	assert_memory(0, bytes + 7000, 1000);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(fds[0]);
	stop();
	free(bytes);
}

static void test_eagain_comes_with_what_was_done(void **state)
{
	uint8_t *bytes = noise(5000, 10);
	struct gm_stream s;
	size_t done;
	int fds[2];

	(void)state;
	start_memory();
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	assert_int_equal(gm_stream_read(&s, reader, 0, 10, 0, &done), -EAGAIN);
	assert_int_equal(done, 0);
	assert_int_equal(write(fds[1], bytes, 5000), 5000);
	assert_int_equal(gm_stream_read(&s, reader, 50, 6000, EXACT, &done), -EAGAIN);
	assert_int_equal(done, 5000);
	assert_memory(50, bytes, 5000);
	assert_zero(5050, 100);
	/* A hole is told, although nothing more was there. */
	assert_int_equal(write(fds[1], bytes, 10), 10);
	assert_int_equal(gm_stream_read(&s, reader, 2 * PAGE - 10, 20, 0, &done), -EFAULT);
	assert_int_equal(done, 10);
	/* Up to: what is there, without asking again. */
	assert_int_equal(write(fds[1], bytes, 5000), 5000);
	assert_int_equal(gm_stream_read(&s, reader, 0, 6000, 0, &done), 0);
	assert_int_equal(done, 5000);
	close(fds[0]);
	close(fds[1]);
	stop();
	free(bytes);
}

static volatile sig_atomic_t nr_signals;

static void count_signal(int sig)
{
	(void)sig;
	nr_signals++;
}

static void test_a_closed_peer_is_an_error_and_no_signal(void **state)
{
	struct sigaction act = {.sa_handler = count_signal};
	struct sigaction old;
	struct gm_chain_elem elems[] = {{0, 10, 0, 0}, {50, 10, 0, 0}};
	struct gm_chain chain;
	struct gm_stream s;
	size_t done;
	int fds[2];

	(void)state;
	start_memory();
	sigaction(SIGPIPE, &act, &old);
	nr_signals = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	/* Also where nobody said that it is a socket. */
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	close(fds[1]);
	assert_int_equal(gm_stream_write(&s, reader, 0, 10, EXACT, &done), -EPIPE);
	assert_ok(gm_chain_init(&chain, elems, 2, NULL, &err));
	assert_int_equal(gm_stream_write_chain(&s, reader, &chain, 20, 0, &done), -EPIPE);
	assert_int_equal(done, 0);
	assert_int_equal(gm_chain_left(&chain, GM_CHAIN_READABLE), 20);
	assert_int_equal(nr_signals, 0);
	assert_int_equal(gm_stream_read(&s, reader, 0, 10, 0, &done), 0);
	assert_int_equal(done, 0);
	close(fds[0]);
	/* A pipe has no such flag: the signal is the caller's to ignore. */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	assert_ok(gm_stream_init_fd(&s, fds[1], &err));
	assert_int_equal(gm_stream_write(&s, reader, 0, 10, EXACT, &done), -EPIPE);
	assert_int_equal(nr_signals, 1);
	sigaction(SIGPIPE, &old, NULL);
	close(fds[1]);
	stop();
}

static void test_flags_of_sockets_are_used(void **state)
{
	uint8_t *bytes = noise(100, 11);
	struct gm_stream peek;
	struct gm_stream s;
	size_t done;
	int fds[2];

	(void)state;
	start_memory();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_ok(gm_stream_init_socket(&peek, fds[0], MSG_PEEK | MSG_DONTWAIT, &err));
	assert_ok(gm_stream_init_socket(&s, fds[0], MSG_DONTWAIT, &err));
	assert_int_equal(gm_stream_read(&s, reader, 0, 10, 0, &done), -EAGAIN);
	assert_int_equal(write(fds[1], bytes, 100), 100);
	assert_int_equal(gm_stream_read(&peek, reader, 0, 60, EXACT, &done), 0);
	assert_int_equal(done, 60);
	/* It is never asked twice: the same bytes would come again. */
	assert_int_equal(gm_stream_read(&peek, reader, 200, 200, EXACT, &done), -ENODATA);
	assert_int_equal(done, 100);
	assert_memory(200, bytes, 100);
	assert_zero(300, 100);
	assert_int_equal(gm_stream_read(&s, reader, 0, 200, EXACT, &done), -EAGAIN);
	assert_int_equal(done, 100);
	assert_memory(0, bytes, 100);
	close(fds[0]);
	close(fds[1]);
	stop();
	free(bytes);
}

static void *read_from_pipe(void *arg)
{
	static size_t done;
	struct gm_stream *s = arg;
	int rc = gm_stream_read(s, reader, 0, 10, EXACT, &done);

	return rc || done != 10 ? NULL : &done;
}

static void test_a_transfer_that_waits_holds_up_no_change(void **state)
{
	struct gm_stream s;
	pthread_t thread;
	void *well = NULL;
	int fds[2];

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)));
	uint64_t id = add(0, PAGE);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	assert_int_equal(pthread_create(&thread, NULL, read_from_pipe, &s), 0);
	usleep(50000);
	assert_ok(gm_space_remove(space, id, &err));
	assert_ok(gm_space_synchronize(space, UINT64_C(2000000000), &err));
	/* Its bytes go to the memory that it pinned. */
	assert_int_equal(write(fds[1], "0123456789", 10), 10);
	assert_int_equal(pthread_join(thread, &well), 0);
	assert_non_null(well);
	close(fds[0]);
	close(fds[1]);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_source_of_three_bytes_fills_without_gaps),
		cmocka_unit_test(test_a_sink_that_takes_little_gets_all),
		cmocka_unit_test(test_functions_that_lie_are_found_out),
		cmocka_unit_test(test_a_pipe_in_pieces_is_read_exactly),
		cmocka_unit_test(test_eagain_comes_with_what_was_done),
		cmocka_unit_test(test_a_closed_peer_is_an_error_and_no_signal),
		cmocka_unit_test(test_flags_of_sockets_are_used),
		cmocka_unit_test(test_a_transfer_that_waits_holds_up_no_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
