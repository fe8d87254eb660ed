/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream_message.c - streams that keep messages apart: sockets, pipes in packets, a network device, functions of
 * the caller. A transfer is one message, of however many pieces.
 */
#include <errno.h>
#include <guestmem/stream.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "stream_memory.h"

#define PIECES_MAX 1024u /* of a system call */
#define STEP 7u          /* from piece to piece of 3 bytes */

static struct gm_chain_elem elems[PIECES_MAX + 1];
static uint8_t *bytes;

static void start_pieces(uint32_t flags)
{
	start_memory();
	bytes = noise(2 * PAGE, 12);
	set(0, bytes, 2 * PAGE);
	for (size_t i = 0; i <= PIECES_MAX; i++)
		elems[i] = (struct gm_chain_elem){i * STEP, 3, flags, 0};
}

static void stop_pieces(void)
{
	stop();
	free(bytes);
}

static int send_pieces(struct gm_stream *s, size_t nr, uint32_t flags, size_t *done)
{
	struct gm_chain chain;
	int rc;

	assert_ok(gm_chain_init(&chain, elems, nr, NULL, &err));
	rc = gm_stream_write_chain(s, reader, &chain, 3 * nr, flags, done);
	assert_int_equal(gm_chain_left(&chain, GM_CHAIN_READABLE), 3 * nr - *done);
	return rc;
}

static void assert_pieces(const uint8_t *back, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		assert_memory_equal(back + 3 * i, bytes + STEP * i, 3);
}

/* ---- sockets ---- */

static void a_message_is_one_call(void **state)
{
	const size_t counts[] = {1, 64, 65, 100, PIECES_MAX};
	static uint8_t back[3 * PIECES_MAX + 1];
	struct gm_stream s;
	size_t done;
	int fds[2];

	(void)state;
	start_pieces(0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(send_pieces(&s, counts[i], i % 2 ? EXACT : 0, &done), 0);
		assert_int_equal(done, 3 * counts[i]);
		assert_int_equal(recv(fds[1], back, sizeof(back), MSG_DONTWAIT), done);
		assert_pieces(back, counts[i]);
	}
	/* More than a call takes, or a hole: nothing is sent. */
	assert_int_equal(send_pieces(&s, PIECES_MAX + 1, EXACT, &done), -EMSGSIZE);
	assert_int_equal(done, 0);
	assert_int_equal(gm_stream_write(&s, reader, 2 * PAGE - 5, 10, 0, &done), -EFAULT);
	assert_int_equal(done, 0);
	assert_int_equal(recv(fds[1], back, sizeof(back), MSG_DONTWAIT), -1);
	/* Two messages are never joined. */
	assert_int_equal(send(fds[1], "one", 3, 0), 3);
	assert_int_equal(send(fds[1], "second", 6, 0), 6);
	assert_int_equal(gm_stream_read(&s, reader, 0, 100, EXACT, &done), -ENODATA);
	assert_int_equal(done, 3);
	assert_int_equal(gm_stream_read(&s, reader, 3, 6, EXACT, &done), 0);
	assert_memory(0, "onesecond", 9);
	close(fds[0]);
	close(fds[1]);
	stop_pieces();
}

static void a_message_comes_into_many_pieces(void **state)
{
	uint8_t *sent = noise(3 * PIECES_MAX, 13);
	struct gm_chain chain;
	struct gm_stream s;
	size_t done;
	int fds[2];

	(void)state;
	start_pieces(GM_CHAIN_WRITE);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	assert_ok(gm_stream_init_fd(&s, fds[0], &err));
	assert_int_equal(send(fds[1], sent, 3 * PIECES_MAX, 0), 3 * PIECES_MAX);
	assert_ok(gm_chain_init(&chain, elems, PIECES_MAX, NULL, &err));
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, 3 * PIECES_MAX, EXACT, &done), 0);
	assert_int_equal(done, 3 * PIECES_MAX);
	for (size_t i = 0; i < PIECES_MAX; i++)
		assert_memory(STEP * i, sent + 3 * i, 3);
	close(fds[0]);
	close(fds[1]);
	stop_pieces();
	free(sent);
}

/* ---- pipes ---- */

static void a_pipe_in_packets_keeps_them_apart(void **state)
{
	static uint8_t back[PAGE];
	struct gm_stream out;
	struct gm_stream in;
	size_t done;
	int fds[2];

	(void)state;
	start_pieces(0);
	assert_int_equal(pipe2(fds, O_DIRECT | O_CLOEXEC | O_NONBLOCK), 0);
	/* Its other end does not show it. */
	assert_ok(gm_stream_init_fd(&in, fds[0], &err));
	assert_int_equal(gm_stream_keep_messages(&in), 0);
	assert_ok(gm_stream_init_fd(&out, fds[1], &err));
	assert_int_equal(send_pieces(&out, 100, EXACT, &done), 0);
	assert_int_equal(read(fds[0], back, sizeof(back)), 300);
	assert_pieces(back, 100);
	assert_int_equal(write(fds[1], "one", 3), 3);
	assert_int_equal(write(fds[1], "second", 6), 6);
	assert_int_equal(gm_stream_read(&in, reader, 0, 100, EXACT, &done), -ENODATA);
	assert_int_equal(done, 3);
	assert_int_equal(gm_stream_read(&in, reader, 3, 6, EXACT, &done), 0);
	assert_memory(0, "onesecond", 9);
	close(fds[0]);
	close(fds[1]);
	stop_pieces();
}

/* One that does not goes on. */
static void another_pipe_is_a_stream(void **state)
{
	struct gm_stream in;
	size_t done;
	int fds[2];

	(void)state;
	start_pieces(0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_ok(gm_stream_init_fd(&in, fds[0], &err));
	assert_int_equal(write(fds[1], "one", 3), 3);
	assert_int_equal(write(fds[1], "second", 6), 6);
	assert_int_equal(gm_stream_read(&in, reader, 0, 9, EXACT, &done), 0);
	assert_memory(0, "onesecond", 9);
	close(fds[0]);
	close(fds[1]);
	stop_pieces();
}

/* ---- a network device ---- */

#define FRAME 600u /* more than the smallest, so that none is padded */

static int open_tap(void)
{
	struct ifreq ifr = {.ifr_name = "gm-test"};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ifr.ifr_flags = IFF_TAP | IFF_NO_PI;
	if (fd < 0 || sock < 0 || ioctl(fd, TUNSETIFF, &ifr))
		return -1;
	ifr.ifr_flags = IFF_UP;
	if (ioctl(sock, SIOCSIFFLAGS, &ifr))
		return -1;
	close(sock);
	return fd;
}

static unsigned long frames_seen(void)
{
	FILE *file = fopen("/proc/thread-self/net/dev", "re");
	unsigned long nr = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (strstr(line, "gm-test:"))
			sscanf(strchr(line, ':') + 1, "%*u %lu", &nr);
	}
	if (file)
		fclose(file);
	return nr;
}

/* In a thread with a network of its own. Returns 0, or which step was not so. */
static int use_tap(void)
{
	struct gm_chain chain;
	struct gm_stream s;
	size_t done;
	int fd = unshare(CLONE_NEWNET) ? -1 : open_tap();

	if (fd < 0)
		return 1;
	for (size_t i = 0; i < FRAME / 3; i++)
		elems[i] = (struct gm_chain_elem){i * STEP, 3, 0, 0};
	if (gm_stream_init_fd(&s, fd, NULL) || gm_chain_init(&chain, elems, FRAME / 3, NULL, NULL))
		return 2;
	if (gm_stream_write_chain(&s, reader, &chain, FRAME, EXACT, &done) || done != FRAME)
		return 3;
	if (frames_seen() != 1)
		return 4;
	/* One that cannot go in one call does not go. */
	if (gm_chain_init(&chain, elems, PIECES_MAX + 1, NULL, NULL) ||
		gm_stream_write_chain(&s, reader, &chain, SIZE_MAX, 0, &done) != -EMSGSIZE ||
		frames_seen() != 1)
		return 5;
	close(fd);
	return 0;
}

static void *use_tap_apart(void *ret)
{
	*(int *)ret = use_tap();
	return NULL;
}

static void a_frame_of_a_network_device_is_one_call(void **state)
{
	pthread_t thread;
	int step = -1;

	(void)state;
	if (access("/dev/net/tun", R_OK | W_OK) || geteuid())
		skip();
	start_pieces(0);
	assert_int_equal(pthread_create(&thread, NULL, use_tap_apart, &step), 0);
	pthread_join(thread, NULL);
	assert_int_equal(step, 0);
	stop_pieces();
}

/* ---- functions of the caller ---- */

static size_t calls;

static int take_all(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	(void)ctx;
	calls++;
	for (size_t i = 0; i < nr; i++)
		*ret_done += slices[i].iov_len;
	return 0;
}

static int answer(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	(void)slices;
	(void)nr;
	(void)ret_done;
	return *(const int *)ctx;
}

static void functions_keep_messages_if_they_say_so(void **state)
{
	struct gm_stream_ops ops = {.size = sizeof(ops), .writev = take_all};
	struct gm_stream s;
	size_t done;
	int fd;

	(void)state;
	start_pieces(0);
	assert_ok(gm_stream_init_ops(&s, &ops, &err));
	calls = 0;
	assert_int_equal(send_pieces(&s, PIECES_MAX + 1, EXACT, &done), 0);
	assert_int_equal(calls, 2);
	assert_int_equal(gm_stream_keep_messages(&s), 0);
	calls = 0;
	assert_int_equal(send_pieces(&s, PIECES_MAX + 1, EXACT, &done), -EMSGSIZE);
	assert_int_equal(calls, 0);
	assert_int_equal(send_pieces(&s, PIECES_MAX, EXACT, &done), 0);
	assert_int_equal(calls, 1);
	/* Neither files nor buffers do. */
	gm_stream_init_growing(&s, 0);
	assert_int_equal(gm_stream_keep_messages(&s), -EINVAL);
	fd = file_of("x", 1);
	assert_ok(gm_stream_init_file(&s, fd, 0, &err));
	assert_int_equal(gm_stream_keep_messages(&s), -EINVAL);
	close(fd);
	stop_pieces();
}

static void codes_that_are_none_are_a_broken_promise(void **state)
{
	const int codes[] = {1, INT32_MAX, -4096, INT32_MIN};
	int code;
	struct gm_stream_ops ops = {.size = sizeof(ops), .readv = answer, .ctx = &code};
	struct gm_stream s;
	size_t done;

	(void)state;
	start_pieces(0);
	assert_ok(gm_stream_init_ops(&s, &ops, &err));
	for (size_t i = 0; i < 4; i++) {
		code = codes[i];
		assert_int_equal(gm_stream_read(&s, reader, 0, 10, 0, &done), -EPROTO);
	}
	code = -4095;
	assert_int_equal(gm_stream_read(&s, reader, 0, 10, 0, &done), -4095);
	stop_pieces();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_is_one_call),
		cmocka_unit_test(a_message_comes_into_many_pieces),
		cmocka_unit_test(a_pipe_in_packets_keeps_them_apart),
		cmocka_unit_test(another_pipe_is_a_stream),
		cmocka_unit_test(a_frame_of_a_network_device_is_one_call),
		cmocka_unit_test(functions_keep_messages_if_they_say_so),
		cmocka_unit_test(codes_that_are_none_are_a_broken_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
