/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream_socket.c - streams over TCP and UDP, what each flag of a socket does, and standard input and output of
 * a program.
 *
 * Called with an argument it is that program: it copies its input to its output by way of guest memory.
 */
#include <errno.h>
#include <guestmem/stream.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "stream_memory.h"

#define BIG (4 * PAGE)
#define COPIED 6000

static int sent_flags; /* of the last message that was sent */

/* In the place of the C library's. */
ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	sent_flags = flags;
	return syscall(SYS_sendmsg, fd, msg, flags);
}

/* ---- sockets of the internet, both ends here ---- */

static void connect_both(int type, int fds[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *addr = (struct sockaddr *)&at;
	socklen_t len = sizeof(at);
	int first = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_true(first >= 0);
	if (bind(first, addr, len)) {
		close(first);
		printf("skipped: there is no 127.0.0.1\n");
		skip();
	}
	assert_int_equal(getsockname(first, addr, &len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(first, 1), 0);
	fds[1] = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	assert_true(fds[1] >= 0);
	assert_int_equal(connect(fds[1], addr, len), 0);
	fds[0] = type == SOCK_STREAM ? accept4(first, NULL, NULL, SOCK_CLOEXEC) : first;
	assert_true(fds[0] >= 0);
	if (type == SOCK_STREAM)
		close(first);
}

static void close_both(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

struct feed {
	pthread_t thread;
	int fd;
	const uint8_t *bytes;
	size_t len;
	long delay_ns;
};

static void *feeder(void *arg)
{
	struct feed *f = arg;
	struct timespec delay = {.tv_nsec = f->delay_ns};

	nanosleep(&delay, NULL);
	for (size_t at = 0; at < f->len;) {
		ssize_t n = write(f->fd, f->bytes + at, f->len - at);

		if (n < 0)
			break;
		at += (size_t)n;
	}
	return NULL;
}

/* Memory of four pages, all of which is moved at once. */
static void start_big(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, PAGE);
	add(PAGE, BIG - PAGE);
}

static void tcp_carries_all_both_ways(void **state)
{
	uint8_t *bytes = noise(BIG, 1);
	uint8_t *back = calloc(1, BIG);
	struct gm_stream s;
	struct feed feed;
	size_t done;
	int fds[2];

	(void)state;
	connect_both(SOCK_STREAM, fds);
	start_big();
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	for (size_t odd = 0; odd < 3; odd++) {
		size_t len = BIG - odd;

		feed = (struct feed){.fd = fds[1], .bytes = bytes, .len = len};
		assert_int_equal(pthread_create(&feed.thread, NULL, feeder, &feed), 0);
		assert_int_equal(gm_stream_read(&s, reader, odd, len, EXACT, &done), 0);
		assert_int_equal(done, len);
		pthread_join(feed.thread, NULL);
		assert_memory(odd, bytes, len);
		assert_int_equal(gm_stream_write(&s, reader, odd, len, EXACT, &done), 0);
		assert_int_equal(done, len);
		assert_int_equal(recv(fds[1], back, len, MSG_WAITALL), (ssize_t)len);
		assert_memory_equal(back, bytes, len);
	}
	/* What is there, without a second wait. */
	assert_int_equal(write(fds[1], bytes, 100), 100);
	assert_int_equal(gm_stream_read(&s, reader, 0, BIG, 0, &done), 0);
	assert_int_equal(done, 100);
	close_both(fds);
	stop();
	free(back);
	free(bytes);
}

static void a_tcp_peer_that_is_gone_is_the_end(void **state)
{
	struct gm_stream s;
	size_t done;
	int fds[2];
	int rc;

	(void)state;
	connect_both(SOCK_STREAM, fds);
	start_big();
	assert_ok(gm_stream_init_socket(&s, fds[0], 0, &err));
	assert_int_equal(write(fds[1], "abc", 3), 3);
	close(fds[1]);
	assert_int_equal(gm_stream_read(&s, reader, 0, 10, EXACT, &done), -ENODATA);
	assert_int_equal(done, 3);
	assert_memory(0, "abc", 3);
	/* The first goes out, and is answered by a reset. A SIGPIPE would end the program. */
	do
		rc = gm_stream_write(&s, reader, 0, 3, EXACT, &done);
	while (rc == 0);
	assert_true(rc == -EPIPE || rc == -ECONNRESET);
	assert_int_equal(gm_stream_write(&s, reader, 0, 3, EXACT, &done), -EPIPE);
	assert_int_equal(done, 0);
	close(fds[0]);
	stop();
}

/* ---- flags ---- */

static void waitall_waits_and_no_flag_does_not(void **state)
{
	uint8_t *bytes = noise(BIG, 2);
	struct feed feed;
	struct gm_stream plain;
	struct gm_stream all;
	size_t done;
	int fds[2];

	(void)state;
	connect_both(SOCK_STREAM, fds);
	start_big();
	assert_ok(gm_stream_init_socket(&plain, fds[0], 0, &err));
	assert_ok(gm_stream_init_socket(&all, fds[0], MSG_WAITALL, &err));
	assert_int_equal(write(fds[1], bytes, 1000), 1000);
	assert_int_equal(gm_stream_read(&plain, reader, 0, BIG, 0, &done), 0);
	assert_int_equal(done, 1000);
	assert_int_equal(write(fds[1], bytes, 1000), 1000);
	feed = (struct feed){.fd = fds[1],
		.bytes = bytes + 1000,
		.len = BIG - 1000,
		.delay_ns = 20 * 1000 * 1000};
	assert_int_equal(pthread_create(&feed.thread, NULL, feeder, &feed), 0);
	assert_int_equal(gm_stream_read(&all, reader, 0, BIG, 0, &done), 0);
	assert_int_equal(done, BIG);
	assert_memory(0, bytes, BIG);
	pthread_join(feed.thread, NULL);
	close_both(fds);
	stop();
	free(bytes);
}

/* A datagram is not sent before the last of its parts: more of it comes. */
static void more_holds_a_message_back(void **state)
{
	struct gm_stream more;
	struct gm_stream last;
	uint8_t back[20];
	size_t done;
	int fds[2];

	(void)state;
	connect_both(SOCK_DGRAM, fds);
	start_big();
	set(0, "head and tail", 13);
	assert_ok(gm_stream_init_socket(&more, fds[1], MSG_MORE, &err));
	assert_ok(gm_stream_init_socket(&last, fds[1], 0, &err));
	assert_int_equal(gm_stream_write(&more, reader, 0, 5, 0, &done), 0);
	assert_int_equal(done, 5);
	assert_int_equal(recv(fds[0], back, sizeof(back), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(gm_stream_write(&last, reader, 5, 8, 0, &done), 0);
	assert_int_equal(recv(fds[0], back, sizeof(back), 0), 13);
	assert_memory_equal(back, "head and tail", 13);
	/* Without the flag each is a message. */
	assert_int_equal(gm_stream_write(&last, reader, 0, 5, 0, &done), 0);
	assert_int_equal(gm_stream_write(&last, reader, 5, 8, 0, &done), 0);
	assert_int_equal(recv(fds[0], back, sizeof(back), 0), 5);
	assert_int_equal(recv(fds[0], back, sizeof(back), 0), 8);
	close_both(fds);
	stop();
}

/* Two pieces that are apart, for which there is one call of sendmsg(2). */
static void write_record(struct gm_stream *s)
{
	const struct gm_chain_elem elems[] = {{.gpa = 0, .len = 3}, {.gpa = 3 * PAGE, .len = 3}};
	struct gm_chain chain;
	size_t done;

	sent_flags = 0;
	assert_ok(gm_chain_init(&chain, elems, 2, NULL, &err));
	assert_int_equal(gm_stream_write_chain(s, reader, &chain, 6, EXACT, &done), 0);
	assert_int_equal(done, 6);
}

/* The kernel shows no effect of it on a socket that can be had here: so, what it is told. */
static void eor_is_told_to_the_kernel(void **state)
{
	const int types[] = {SOCK_SEQPACKET, SOCK_STREAM};
	uint8_t back[20];

	(void)state;
	start_big();
	set(0, "rec", 3);
	set(3 * PAGE, "ord", 3);
	for (size_t i = 0; i < 2; i++) {
		struct gm_stream s;
		struct gm_stream plain;
		int fds[2];

		assert_int_equal(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, fds), 0);
		assert_ok(gm_stream_init_socket(&s, fds[0], MSG_EOR, &err));
		assert_ok(gm_stream_init_socket(&plain, fds[0], 0, &err));
		write_record(&s);
		assert_int_equal(sent_flags & (MSG_EOR | MSG_NOSIGNAL), MSG_EOR | MSG_NOSIGNAL);
		assert_int_equal(recv(fds[1], back, sizeof(back), 0), 6);
		assert_memory_equal(back, "record", 6);
		write_record(&plain);
		assert_int_equal(sent_flags & (MSG_EOR | MSG_NOSIGNAL), MSG_NOSIGNAL);
		close_both(fds);
	}
	stop();
}

/* ---- standard input and output ---- */

/* The program that is called: 0 if all went well, else what failed. */
static int copy_through_guest(void)
{
	struct gm_block_opts block = {.size = sizeof(block)};
	struct gm_region_desc ram = {.size = sizeof(ram), .len = 2 * PAGE, .backing = &block};
	struct gm_reader *by;
	struct gm_space *guest;
	struct gm_stream in;
	struct gm_stream out;
	size_t done = 0;

	if (gm_space_build(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &ram, 1, &guest, &err) ||
		gm_reader_create(guest, "copy", &by, &err))
		return 10;
	if (gm_stream_init_fd(&in, STDIN_FILENO, &err) ||
		gm_stream_init_fd(&out, STDOUT_FILENO, &err))
		return 11;
	if (gm_stream_read(&in, by, 1, COPIED, EXACT, &done) || done != COPIED)
		return 12;
	if (gm_stream_read(&in, by, 0, 1, EXACT, &done) != -ENODATA || done)
		return 13;
	if (gm_stream_write(&out, by, 1, COPIED, EXACT, &done) || done != COPIED)
		return 14;
	gm_reader_destroy(by);
	gm_space_destroy(guest);
	return 0;
}

static pid_t call(int in, int out)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(in, STDIN_FILENO) == STDIN_FILENO &&
			dup2(out, STDOUT_FILENO) == STDOUT_FILENO)
			execl("/proc/self/exe", "test_stream_socket", "copy", (char *)NULL);
		_exit(99);
	}
	assert_true(pid > 0);
	return pid;
}

/* Writes @bytes to @to, which is shut or closed then, and finds them in @from. */
static void assert_copies(pid_t pid, int to, int from, bool is_socket)
{
	uint8_t *bytes = noise(COPIED, 3);
	uint8_t *back = calloc(1, COPIED + 1);
	size_t at = 0;
	ssize_t n;
	int status;

	assert_int_equal(write(to, bytes, COPIED), COPIED);
	assert_int_equal(is_socket ? shutdown(to, SHUT_WR) : close(to), 0);
	while ((n = read(from, back + at, COPIED + 1 - at)) > 0)
		at += (size_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(at, COPIED);
	assert_memory_equal(back, bytes, COPIED);
	free(back);
	free(bytes);
}

static void standard_input_and_output_are_streams(void **state)
{
	int there[2];
	int back[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(there, O_CLOEXEC), 0);
	assert_int_equal(pipe2(back, O_CLOEXEC), 0);
	pid = call(there[0], back[1]);
	close(there[0]);
	close(back[1]);
	assert_copies(pid, there[1], back[0], false);
	close(back[0]);
}

static void they_may_be_one_tcp_connection(void **state)
{
	int fds[2];
	pid_t pid;

	(void)state;
	connect_both(SOCK_STREAM, fds);
	pid = call(fds[0], fds[0]);
	close(fds[0]);
	assert_copies(pid, fds[1], fds[1], true);
	close(fds[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_carries_all_both_ways),
		cmocka_unit_test(a_tcp_peer_that_is_gone_is_the_end),
		cmocka_unit_test(waitall_waits_and_no_flag_does_not),
		cmocka_unit_test(more_holds_a_message_back),
		cmocka_unit_test(eor_is_told_to_the_kernel),
		cmocka_unit_test(standard_input_and_output_are_streams),
		cmocka_unit_test(they_may_be_one_tcp_connection),
	};

	if (argc > 1)
		return strcmp(argv[1], "copy") == 0 ? copy_through_guest() : 2;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
