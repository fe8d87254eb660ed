/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_layout_peer.c - layouts from a peer that lies.
 *
 * The hostile side writes raw bytes and descriptors; the receiver must return an error with a text,
 * leave the output alone and keep nothing: no fd, no mapping, no allocation.
 */
#include "layout_peer.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "fault.h"
#include "random.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static struct fault_state before;

static void begin(int type)
{
	fault_set(NULL);
	fault_state_take(&before);
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sock), 0);
}

static void end(void)
{
	close(sock[0]);
	close(sock[1]);
	assert_true(fault_state_same(&before));
}

static void refused(int code, const char *word)
{
	int rc = receive();

	if (rc != -code)
		fail_msg("returned %d (%s), not %d", rc, err.text, -code);
	if (!strstr(err.text, word))
		fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

/* ---- bytes ---- */

static void a_stream_cut_at_each_byte_is_told(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	uint8_t buf[LEN];
	char words[40];

	(void)state;
	make_layout(buf);
	for (size_t len = 0; len <= LEN; len++) {
		begin(SOCK_STREAM);
		if (len > 0)
			send_raw(buf, len, &fd, 1);
		shutdown(sock[0], SHUT_WR);
		snprintf(words, sizeof(words), "after %zu of %u bytes", len,
			len < FILES ? FILES : LEN);
		if (len < LEN)
			refused(EPIPE, words);
		else
			assert_int_equal(receive(), 0);
		end();
	}
	close(fd);
}

static void a_connection_reset_is_told(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	begin(SOCK_STREAM);
	/* The peer closes with unread bytes of ours: ECONNRESET instead of an end. */
	assert_int_equal(write(sock[1], "unread", 6), 6);
	send_raw(buf, FILES, &fd, 1);
	close(sock[0]);
	assert_int_equal(receive(), -EPIPE);
	sock[0] = -1;
	end();
	close(fd);
}

static void bytes_may_come_one_by_one(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	for (int type = SOCK_STREAM; type; type = type == SOCK_STREAM ? SOCK_SEQPACKET : 0) {
		begin(type);
		for (size_t i = 0; i < LEN; i++)
			send_raw(buf + i, 1, &fd, i == 0);
		assert_int_equal(receive(), 0);
		end();
	}
	close(fd);
}

static void each_byte_changed_is_refused_or_harmless(void **state)
{
	static const uint8_t changes[] = {0x01, 0x10, 0x80, 0xff};
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	unsigned int accepted = 0;

	(void)state;
	for (size_t i = 0; i < LEN * sizeof(changes); i++) {
		uint8_t buf[LEN];

		make_layout(buf);
		buf[i / sizeof(changes)] ^= changes[i % sizeof(changes)];
		begin(SOCK_STREAM);
		send_raw(buf, LEN, &fd, 1);
		/* A longer length would wait for more. */
		shutdown(sock[0], SHUT_WR);
		accepted += receive() == 0;
		end();
	}
	/* Letters of the names, permissions, addresses. */
	assert_in_range(accepted, 8, LEN);
	close(fd);
}

static const struct {
	const char *name;
	size_t off;
	unsigned int width;
	uint64_t value;
	int code;
	const char *word;
} wrongs[] = {
	{"magic", 0, 1, 'X', EPROTO, "byte 0: magic is not that of a layout"},
	{"version", 8, 4, 2, ENOTSUP, "byte 8: version is not 1 (0x2)"},
	{"a million regions", 24, 4, 1000000, EPROTO, "byte 24: number of regions is more"},
	{"254 files", 20, 4, 254, EPROTO, "byte 20: number of files"},
	{"no file in the table", 20, 4, 0, EPROTO, "byte 28: length of the body"},
	{"overlap", REGIONS + 80, 8, PAGE, EPROTO, "byte 160: gpa of region 1"},
	{"wrap", REGIONS + 80, 8, 0 - (uint64_t)PAGE * 1, EPROTO, NULL},
	{"wrap of a long region", REGIONS + 88, 8, 0 - (uint64_t)PAGE, EPROTO,
		"length of region 1"},
	{"a region of 2^64 - 4096 bytes", REGIONS + 8, 8, 0 - (uint64_t)PAGE, EPROTO,
		"end of its file"},
	{"a file larger than it is", FILES, 8, 5 * PAGE, EPROTO, "file 0 has 16384 bytes"},
	{"a file of 2^62 bytes", FILES, 8, UINT64_C(1) << 62, EPROTO, "file 0 has 16384 bytes"},
	{"a name with an escape sequence", REGIONS + 48, 1, 0x1b, EPROTO, "name of region 0"},
};

static void a_malformed_layout_is_refused_by_name(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);

	(void)state;
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		uint8_t buf[LEN];

		make_layout(buf);
		put(buf, wrongs[i].off, wrongs[i].width, wrongs[i].value);
		begin(SOCK_SEQPACKET);
		send_raw(buf, FILES, &fd, 1);
		send_raw(buf + FILES, LEN - FILES, NULL, 0);
		if (wrongs[i].word)
			refused(wrongs[i].code, wrongs[i].word);
		else
			/* The last page of the space is as good as any. */
			assert_int_equal(receive(), 0);
		end();
	}
	close(fd);
}

static void a_packet_that_is_too_long_is_refused(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	uint8_t buf[LEN + 1] = {0};

	(void)state;
	make_layout(buf);
	begin(SOCK_SEQPACKET);
	send_raw(buf, LEN, &fd, 1);
	refused(EPROTO, "packet at byte 0");
	end();
	begin(SOCK_SEQPACKET);
	send_raw(buf, FILES, &fd, 1);
	send_raw(buf + FILES, LEN + 1 - FILES, NULL, 0);
	refused(EPROTO, "packet at byte 64");
	end();
	close(fd);
}

static void other_sockets_are_refused(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	struct gm_space *space;
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	assert_ok(gm_space_create(&small, &space, &err));
	begin(SOCK_DGRAM);
	send_raw(buf, LEN, &fd, 1);
	refused(EPROTOTYPE, "SOCK_STREAM or SOCK_SEQPACKET");
	assert_fails(gm_layout_send(space, sock[0], 0, &err), EPROTOTYPE, "SOCK_STREAM");
	end();
	begin(SOCK_STREAM);
	close(sock[1]);
	sock[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	refused(EPROTOTYPE, "Unix socket");
	close(sock[1]);
	sock[1] = dup(fd);
	refused(ENOTSOCK, "socket");
	end();
	gm_space_destroy(space);
	close(fd);
}

static void a_deadline_that_passes_is_named(void **state)
{
	const struct timeval soon = {.tv_usec = 20000};
	struct gm_space *space;
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	begin(SOCK_STREAM);
	assert_int_equal(setsockopt(sock[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)), 0);
	send_raw(buf, 10, NULL, 0);
	refused(EAGAIN, "deadline has passed (SO_RCVTIMEO), or it does not block, after 10 of 64");
	end();
	assert_ok(gm_space_create(&small, &space, &err));
	begin(SOCK_STREAM);
	assert_int_equal(setsockopt(sock[1], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)), 0);
	while (send(sock[1], buf, LEN, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	assert_fails(gm_layout_send(space, sock[1], 0, &err), EAGAIN, "SO_SNDTIMEO");
	end();
	gm_space_destroy(space);
}

/* ---- descriptors ---- */

static void too_few_and_too_many_descriptors_are_refused(void **state)
{
	int fds[253];
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	fds[0] = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	for (size_t i = 1; i < 253; i++)
		fds[i] = fds[0];
	for (size_t nr = 0; nr <= 253; nr++) {
		if (nr == 1)
			continue;
		begin(SOCK_STREAM);
		send_raw(buf, LEN, fds, nr);
		refused(EPROTO, "file descriptors came with a table of 1 files");
		end();
	}
	close(fds[0]);
}

static void descriptors_in_later_messages_are_refused(void **state)
{
	int fds[3];
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	for (size_t i = 0; i < 3; i++)
		fds[i] = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	for (size_t at = 1; at < LEN; at += 7) {
		begin(SOCK_STREAM);
		send_raw(buf, at, fds, 1);
		send_raw(buf + at, LEN - at, fds + 1, 2);
		refused(EPROTO, "file descriptors at byte");
		end();
	}
	for (size_t i = 0; i < 3; i++)
		close(fds[i]);
}

static void an_empty_packet_with_descriptors_is_the_end(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	begin(SOCK_SEQPACKET);
	send_raw(buf, 0, &fd, 1);
	refused(EPIPE, "after 0 of 64 bytes");
	send_raw(buf, FILES, &fd, 1);
	send_raw(buf, 0, &fd, 1);
	refused(EPIPE, "after 64 of");
	end();
	close(fd);
}

static void what_the_socket_adds_is_no_harm(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	const int one = 1;
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	begin(SOCK_STREAM);
	assert_int_equal(setsockopt(sock[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	/* Linux 6.5: each message brings a pidfd. */
	setsockopt(sock[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one));
	send_raw(buf, FILES, &fd, 1);
	send_raw(buf + FILES, LEN - FILES, NULL, 0);
	assert_int_equal(receive(), 0);
	end();
	close(fd);
}

static void descriptors_that_do_not_fit_the_process_are_refused(void **state)
{
	struct rlimit old;
	int fds[253];
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	fds[0] = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	for (size_t i = 1; i < 253; i++)
		fds[i] = fds[0];
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (rlim_t room = 0; room < 5; room++) {
		begin(SOCK_STREAM);
		send_raw(buf, LEN, fds, 10);
		/* The two sockets have the highest numbers. */
		assert_int_equal(
			setrlimit(RLIMIT_NOFILE,
				&(struct rlimit){(rlim_t)sock[1] + 1 + room, old.rlim_max}),
			0);
		refused(EPROTO, "RLIMIT_NOFILE");
		setrlimit(RLIMIT_NOFILE, &old);
		end();
	}
	close(fds[0]);
}

static void one_file_refused(int fd, int code, const char *word)
{
	uint8_t buf[LEN];

	make_layout(buf);
	begin(SOCK_STREAM);
	send_raw(buf, LEN, &fd, 1);
	refused(code, word);
	end();
	close(fd);
}

static int reopen(int fd, int flags)
{
	char path[40];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	assert_true(again >= 0);
	close(fd);
	return again;
}

static void what_is_no_file_is_refused(void **state)
{
	int pipes[2];

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	one_file_refused(pipes[0], EPROTO, "no regular file");
	close(pipes[1]);
	one_file_refused(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), EPROTO, "no regular file");
	one_file_refused(open("/tmp", O_RDONLY | O_CLOEXEC), EPROTO, "no regular file");
	one_file_refused(open("/dev/zero", O_RDWR | O_CLOEXEC), EPROTO, "no regular file");
	one_file_refused(eventfd(0, EFD_CLOEXEC), EPROTO, "no regular file");
	one_file_refused(
		reopen(make_memfd(4 * PAGE, F_SEAL_SHRINK), O_PATH), EPROTO, "not open for");
	one_file_refused(
		reopen(make_memfd(4 * PAGE, F_SEAL_SHRINK), O_WRONLY), EPROTO, "not open for");
	one_file_refused(
		reopen(make_memfd(4 * PAGE, F_SEAL_SHRINK), O_RDONLY), EPROTO, "not open for");
}

static void a_file_that_is_too_small_is_refused(void **state)
{
	(void)state;
	one_file_refused(make_memfd(0, F_SEAL_SHRINK), EPROTO, "file 0 has 0 bytes");
	one_file_refused(make_memfd(4 * PAGE - 1, F_SEAL_SHRINK), EPROTO, "16383 bytes");
}

static void a_file_that_may_not_be_written_is_refused(void **state)
{
	(void)state;
	one_file_refused(make_memfd(4 * PAGE, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE), EPERM, "map");
}

static void a_read_only_file_is_enough_for_reading(void **state)
{
	int fd = reopen(make_memfd(4 * PAGE, F_SEAL_SHRINK), O_RDONLY);
	uint8_t buf[LEN];

	(void)state;
	make_layout(buf);
	put(buf, REGIONS + 32, 4, GM_PERM_R);
	begin(SOCK_STREAM);
	send_raw(buf, LEN, &fd, 1);
	assert_int_equal(receive(), 0);
	end();
	close(fd);
}

/* Without the guard such a file would be a way to kill us; with it, to make our accesses fail. */
static void a_file_that_can_shrink_needs_the_guard(void **state)
{
	FILE *file = tmpfile();
	int fds[2] = {make_memfd(4 * PAGE, F_SEAL_GROW), fileno(file)};
	uint8_t buf[LEN];

	(void)state;
	assert_int_equal(ftruncate(fds[1], 4 * PAGE), 0);
	make_layout(buf);
	for (size_t i = 0; i < 2; i++) {
		begin(SOCK_STREAM);
		send_raw(buf, LEN, &fds[i], 1);
		refused(EPERM, "F_SEAL_SHRINK");
		assert_int_equal(gm_guard_install(), 0);
		send_raw(buf, LEN, &fds[i], 1);
		assert_int_equal(receive(), 0);
		assert_int_equal(gm_guard_remove(), 0);
		end();
	}
	close(fds[0]);
	fclose(file);
}

static void a_file_that_shrinks_later_is_an_error_of_the_access(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_GROW);
	struct gm_reader *reader;
	struct gm_space *space;
	uint8_t buf[LEN];
	size_t done = 0;

	(void)state;
	make_layout(buf);
	begin(SOCK_STREAM);
	send_raw(buf, LEN, &fd, 1);
	assert_int_equal(gm_guard_install(), 0);
	assert_ok(gm_layout_recv(sock[1], &small, &space, &err));
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_ok(gm_reader_create(space, NULL, &reader, &err));
	assert_int_equal(gm_read(gm_reader_enter(reader), PAGE - 8, buf, 16, &done), -EIO);
	gm_reader_leave(reader);
	assert_int_equal(done, 8);
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	assert_int_equal(gm_guard_remove(), 0);
	end();
	close(fd);
}

static void parts_of_huge_pages_are_refused(void **state)
{
	uint8_t buf[LEN];
	int fd;

	(void)state;
	if (!support_pool(21, 1)) {
		print_message("skipped: no huge pages to be had\n");
		skip();
	}
	fd = memfd_create("layout", MFD_HUGETLB | MFD_ALLOW_SEALING | MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)MIB(2)), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	make_layout(buf);
	begin(SOCK_STREAM);
	send_raw(buf, LEN, &fd, 1);
	refused(EINVAL, "page size");
	end();
	close(fd);
}

static void random_layouts_leave_nothing(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	uint64_t seed = test_seed(21);
	struct rng rng = {seed};

	(void)state;
	print_message("seed %lu\n", (unsigned long)seed);
	for (unsigned long i = 0; i < support_scale(2000); i++) {
		uint8_t buf[LEN];
		uint64_t nr = 1 + rng_below(&rng, 3);

		make_layout(buf);
		for (uint64_t j = 0; j < nr; j++) {
			unsigned int width = 1u << rng_below(&rng, 4);

			put(buf, FILES + rng_below(&rng, (LEN - FILES) / width) * width, width,
				(rng_below(&rng, 2) ? rng_below(&rng, 8) : rng_edge(&rng)) *
					(rng_below(&rng, 2) ? PAGE : 1));
		}
		begin(SOCK_STREAM);
		send_raw(buf, LEN, &fd, 1);
		shutdown(sock[0], SHUT_WR);
		receive();
		end();
	}
	close(fd);
}

/* The peer has sent nothing and is not waited for. */
static void bad_options_are_refused_before_the_peer_is_heard(void **state)
{
	struct gm_space *space;

	(void)state;
	begin(SOCK_STREAM);
	assert_fails(gm_layout_recv(sock[0], &(struct gm_space_opts){.size = 3}, &space, &err),
		EINVAL, "version");
	assert_fails(gm_layout_recv(sock[0], GM_OPTS(gm_space_opts, .gpa_limit = UINT64_MAX / 2),
			     &space, &err),
		EINVAL, "above 2^46");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_cut_at_each_byte_is_told),
		cmocka_unit_test(a_connection_reset_is_told),
		cmocka_unit_test(bytes_may_come_one_by_one),
		cmocka_unit_test(each_byte_changed_is_refused_or_harmless),
		cmocka_unit_test(a_malformed_layout_is_refused_by_name),
		cmocka_unit_test(a_packet_that_is_too_long_is_refused),
		cmocka_unit_test(other_sockets_are_refused),
		cmocka_unit_test(a_deadline_that_passes_is_named),
		cmocka_unit_test(too_few_and_too_many_descriptors_are_refused),
		cmocka_unit_test(descriptors_in_later_messages_are_refused),
		cmocka_unit_test(an_empty_packet_with_descriptors_is_the_end),
		cmocka_unit_test(what_the_socket_adds_is_no_harm),
		cmocka_unit_test(descriptors_that_do_not_fit_the_process_are_refused),
		cmocka_unit_test(what_is_no_file_is_refused),
		cmocka_unit_test(a_file_that_is_too_small_is_refused),
		cmocka_unit_test(a_file_that_may_not_be_written_is_refused),
		cmocka_unit_test(a_read_only_file_is_enough_for_reading),
		cmocka_unit_test(a_file_that_can_shrink_needs_the_guard),
		cmocka_unit_test(a_file_that_shrinks_later_is_an_error_of_the_access),
		cmocka_unit_test(parts_of_huge_pages_are_refused),
		cmocka_unit_test(random_layouts_leave_nothing),
		cmocka_unit_test(bad_options_are_refused_before_the_peer_is_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
