/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_firecracker.c - a monitor's handshake: what it says, in how many pieces it comes, and what a bad one may
 * send.
 */
#include <guestmem/firecracker.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "fault.h"
#include "support.h"

#define BASE "\"base_host_virt_addr\":"
#define ONE "{" BASE "8192,\"size\":8192,\"offset\":4096}"
#define MAX 4

static struct gm_error err;
static struct gm_firecracker_mapping maps[MAX];
static size_t nr;

static int decode(const char *text)
{
	nr = 77;
	return gm_firecracker_decode(text, strlen(text), maps, MAX, &nr, &err);
}

static void what_it_says_is_told_in_order(void **state)
{
	(void)state;
	assert_ok(decode("[{" BASE "140737488355328,\"size\":4194304,\"offset\":1048576,"
			 "\"page_size\":2097152,\"page_size_kib\":2097152},"
			 "{" BASE "4096,\"size\":4096,\"offset\":0,\"page_size_kib\":4096},"
			 "{" BASE "65536,\"size\":8192,\"offset\":7,\"more\":{\"x\":[null]}}]\n"));
	assert_int_equal(nr, 3);
	assert_int_equal(maps[0].hva, 4096);
	assert_int_equal(maps[0].len, 4096);
	assert_int_equal(maps[0].page_size, 4096);
	assert_int_equal(maps[1].hva, 65536);
	assert_int_equal(maps[1].offset, 7);
	assert_int_equal(maps[1].page_size, 4096);
	assert_int_equal(maps[2].hva, UINT64_C(1) << 47);
	assert_int_equal(maps[2].len, MIB(4));
	assert_int_equal(maps[2].offset, MIB(1));
	assert_int_equal(maps[2].page_size, MIB(2));
}

static void what_cannot_be_is_named(void **state)
{
	static const struct {
		const char *text;
		int rc;
		const char *why;
	} bad[] = {
		{"", EPROTO, "too early"},
		{"[" ONE, EPROTO, "too early"},
		{"[" ONE "]]", EPROTO, "byte"},
		{"{}", EPROTO, "no array"},
		{"[]", EPROTO, "no array"},
		{"[1]", EPROTO, "mapping 0: is no object"},
		{"[" ONE ",{}]", EPROTO, "mapping 1: \"base_host_virt_addr\" is missing"},
		{"[{" BASE "8192,\"offset\":0}]", EPROTO, "\"size\" is missing"},
		{"[{" BASE "8192,\"size\":4096}]", EPROTO, "\"offset\" is missing"},
		{"[{" BASE "\"8192\",\"size\":4096,\"offset\":0}]", EPROTO, "no number"},
		{"[{" BASE "8192.0,\"size\":4096,\"offset\":0}]", EPROTO, "no number"},
		{"[{" BASE "-4096,\"size\":4096,\"offset\":0}]", EPROTO, "no number"},
		{"[{" BASE "18446744073709551616,\"size\":4096,\"offset\":0}]", EPROTO, "byte"},
		{"[{" BASE "8192," BASE "8192,\"size\":4096,\"offset\":0}]", EPROTO, "byte"},
		{"[{" BASE "8192,\"size\":0,\"offset\":0}]", EPROTO, "empty"},
		{"[{" BASE "8192,\"size\":4095,\"offset\":0}]", EPROTO, "borders"},
		{"[{" BASE "8191,\"size\":4096,\"offset\":0}]", EPROTO, "borders"},
		{"[{" BASE "8192,\"size\":4096,\"offset\":0,\"page_size\":2097152}]", EPROTO,
			"borders"},
		{"[{" BASE "8192,\"size\":4096,\"offset\":0,\"page_size\":5000}]", EPROTO,
			"page size"},
		{"[{" BASE "8192,\"size\":4096,\"offset\":0,\"page_size\":2048}]", EPROTO,
			"page size"},
		{"[{" BASE "0,\"size\":2147483648,\"offset\":0,\"page_size\":2147483648}]", EPROTO,
			"page size"},
		{"[{" BASE
		 "8192,\"size\":4096,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4}]",
			EPROTO, "differ"},
		{"[{" BASE "8192,\"size\":8192,\"offset\":0},{" BASE
		 "12288,\"size\":4096,\"offset\":0}]",
			EPROTO, "0x2000 and 0x3000 overlap"},
		{"[" ONE "," ONE "," ONE "," ONE "," ONE "]", EMSGSIZE, "5 mappings"},
		{"[" ONE "," ONE "]", EPROTO, "overlap"},
		{"[\"\xff\"]", EPROTO, "byte"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_fails(decode(bad[i].text), bad[i].rc, bad[i].why);
		assert_int_equal(nr, 77);
	}
}

/* ---- by a socket ---- */

static int ends[2];

static void open_pair(int type)
{
	struct timeval soon = {.tv_usec = 300000};

	assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)), 0);
}

static void close_pair(void)
{
	close(ends[0]);
	if (ends[1] >= 0)
		close(ends[1]);
}

static void send_text(const char *text, size_t len, const int *fds, size_t nr_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)text, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nr_fds) {
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nr_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(ends[1], &msg, 0), len);
}

static int new_uffd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int receive(int *ret_fd)
{
	nr = 77;
	*ret_fd = -1;
	return gm_firecracker_recv(ends[0], maps, MAX, &nr, ret_fd, &err);
}

/* The message may come in any pieces, with the descriptor at the first. */
static void pieces_are_put_together(void **state)
{
	static const char text[] = "[" ONE "]";
	int uffd = new_uffd();
	size_t fds;
	int got;

	(void)state;
	fds = fault_open_fds();
	for (size_t cut = 1; cut <= sizeof(text) - 1; cut++) {
		open_pair(SOCK_STREAM);
		send_text(text, cut, &uffd, 1);
		if (cut < sizeof(text) - 1)
			send_text(text + cut, sizeof(text) - 1 - cut, NULL, 0);
		err.code = 1;
		assert_ok(receive(&got));
		assert_int_equal(err.code, 1);
		assert_int_equal(nr, 1);
		assert_int_equal(maps[0].hva, 8192);
		assert_int_equal(fcntl(got, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		close(got);
		close_pair();
	}
	assert_int_equal(fault_open_fds(), fds);
	close(uffd);
}

static void check_bad(const char *text, size_t len, const int *fds, size_t nr_fds, bool end, int rc,
	const char *why)
{
	size_t before = fault_open_fds();
	int got;

	open_pair(SOCK_STREAM);
	send_text(text, len, fds, nr_fds);
	if (end) {
		close(ends[1]);
		ends[1] = -1;
	}
	assert_fails(receive(&got), rc, why);
	assert_int_equal(got, -1);
	assert_int_equal(nr, 77);
	close_pair();
	assert_int_equal(fault_open_fds(), before);
}

static void bad_peers_leave_nothing_open(void **state)
{
	static char spaces[GM_FIRECRACKER_TEXT_MAX];
	int uffds[2] = {new_uffd(), new_uffd()};
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	(void)state;
	memset(spaces, ' ', sizeof(spaces));
	check_bad("[" ONE "]", strlen("[" ONE "]"), NULL, 0, false, EPROTO, "0 descriptors");
	check_bad("[" ONE "]", strlen("[" ONE "]"), uffds, 2, false, EPROTO, "2 descriptors");
	check_bad("[" ONE "]", strlen("[" ONE "]"), &zero, 1, false, EPROTO, "/dev/zero");
	check_bad("[" ONE, strlen("[" ONE), uffds, 1, true, EPIPE, "closed after");
	check_bad("[" ONE, strlen("[" ONE), uffds, 1, false, EAGAIN, "deadline");
	check_bad("[1]", 3, uffds, 1, false, EPROTO, "mapping 0");
	check_bad(spaces, sizeof(spaces), uffds, 1, false, EMSGSIZE, "more than 65536");
	close(uffds[0]);
	close(uffds[1]);
	close(zero);
}

static void descriptors_come_once(void **state)
{
	int uffd = new_uffd();
	size_t before = fault_open_fds();
	int got;

	(void)state;
	open_pair(SOCK_STREAM);
	send_text("[", 1, &uffd, 1);
	send_text(ONE "]", strlen(ONE "]"), &uffd, 1);
	assert_fails(receive(&got), EPROTO, "descriptors at byte 1");
	close_pair();
	/* Nobody is kept busy by single bytes. */
	open_pair(SOCK_SEQPACKET);
	send_text("[", 1, &uffd, 1);
	for (int i = 0; i < 100; i++)
		send_text(" ", 1, NULL, 0);
	assert_fails(receive(&got), EPROTO, "no whole message in 64 pieces");
	close_pair();
	assert_int_equal(fault_open_fds(), before);
	close(uffd);
}

/* Any number of looks, in any number of pieces, and it is all there for whoever receives it. */
static void a_message_can_be_looked_at(void **state)
{
	static const char text[] = "[" ONE "]";
	int uffd = new_uffd();
	size_t before = fault_open_fds();
	int got;

	(void)state;
	open_pair(SOCK_STREAM);
	assert_fails(gm_firecracker_look(ends[0], maps, MAX, &nr, &got, &err), EAGAIN, "0 bytes");
	for (size_t at = 0; at < sizeof(text) - 1; at++) {
		nr = 77;
		if (at)
			assert_fails(gm_firecracker_look(ends[0], maps, MAX, &nr, &got, &err),
				EAGAIN, "nothing can be received after");
		assert_int_equal(nr, at ? 77 : nr);
		send_text(text + at, 1, &uffd, at == 0);
	}
	for (int i = 0; i < 3; i++) {
		assert_ok(gm_firecracker_look(ends[0], maps, MAX, &nr, &got, &err));
		assert_int_equal(nr, 1);
		assert_int_equal(maps[0].offset, 4096);
		close(got);
	}
	/* Nor is it lost when the monitor has gone. */
	close(ends[1]);
	ends[1] = -1;
	assert_ok(gm_firecracker_look(ends[0], maps, MAX, &nr, &got, &err));
	close(got);
	assert_ok(receive(&got));
	close(got);
	assert_fails(gm_firecracker_look(ends[0], maps, MAX, &nr, &got, &err), EPIPE, "closed");
	close_pair();
	assert_fails(gm_firecracker_look(-1, maps, MAX, &nr, &got, &err), EBADF, "fd -1");
	assert_int_equal(fault_open_fds(), before);
	close(uffd);
}

/* By the function that takes the message, or by the one that looks at it. */
static int scenario_of(int *uffd, bool look)
{
	int got = -1;
	int rc;

	open_pair(SOCK_STREAM);
	send_text("[" ONE "]", strlen("[" ONE "]"), uffd, 1);
	rc = look ? gm_firecracker_look(ends[0], maps, MAX, &nr, &got, NULL)
		  : gm_firecracker_recv(ends[0], maps, MAX, &nr, &got, NULL);
	fault_disarm();
	assert_int_equal(got >= 0, rc == 0);
	if (got >= 0)
		close(got);
	close_pair();
	return rc;
}

static int scenario(void *ctx)
{
	return scenario_of(ctx, false);
}

static int look_scenario(void *ctx)
{
	return scenario_of(ctx, true);
}

static void every_failing_call_leaves_nothing(void **state)
{
	int uffd = new_uffd();

	(void)state;
	assert_int_equal(look_scenario(&uffd), 0);
	assert_true(fault_sweep(look_scenario, &uffd) > 3);
	assert_int_equal(scenario(&uffd), 0);
	assert_true(fault_sweep(scenario, &uffd) > 3);
	close(uffd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_says_is_told_in_order),
		cmocka_unit_test(what_cannot_be_is_named),
		cmocka_unit_test(pieces_are_put_together),
		cmocka_unit_test(bad_peers_leave_nothing_open),
		cmocka_unit_test(descriptors_come_once),
		cmocka_unit_test(a_message_can_be_looked_at),
		cmocka_unit_test(every_failing_call_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
