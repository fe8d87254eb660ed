/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_grant_peer.c - a grant in another process, which runs as another user and tries what it must not.
 *
 * The worker says by its exit code what it found; 0 is what it should. It connects by itself, so that
 * SO_PEERCRED tells its user.
 */
#include "one_grant.h"

#include <fcntl.h>
#include <guestmem/access.h>
#include <guestmem/guard.h>
#include <guestmem/layout.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define SECRET "the text of the kernel"
#define QUEUE MIB(8)
#define TABLE MIB(9)

/* ---- two processes ---- */

struct peer {
	pid_t pid;
	int sock;
};

typedef int (*worker_fn)(int sock);

static struct sockaddr_un address_of(socklen_t *ret_len)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int len = snprintf(
		addr.sun_path + 1, sizeof(addr.sun_path) - 1, "guestmem-test-grant-%d", getpid());

	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
	return addr;
}

static int work(worker_fn fn, uid_t uid, const struct sockaddr_un *addr, socklen_t len)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || setgid(uid) || setuid(uid))
		return 100;
	/* Or nothing of /proc/self could be opened, for another reason. */
	if (prctl(PR_SET_DUMPABLE, 1))
		return 101;
	if (connect(sock, (const struct sockaddr *)addr, len))
		return 102;
	if (gm_guard_install())
		return 103;
	return fn(sock);
}

static struct peer begin_worker(worker_fn fn, uid_t uid)
{
	struct peer peer;
	socklen_t len;
	struct sockaddr_un addr = address_of(&len);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(sock >= 0);
	assert_int_equal(bind(sock, (const struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(sock, 1), 0);
	fflush(stdout);
	peer.pid = fork();
	assert_true(peer.pid >= 0);
	if (peer.pid == 0) {
		close(sock);
		_exit(work(fn, uid, &addr, len));
	}
	peer.sock = accept4(sock, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer.sock >= 0);
	close(sock);
	return peer;
}

/* Steps of the two, one byte each. */
static void step(int sock)
{
	assert_int_equal(send(sock, "s", 1, MSG_NOSIGNAL), 1);
}

static bool await(int sock)
{
	char byte;

	return recv(sock, &byte, 1, 0) == 1;
}

static void end_worker(struct peer *peer)
{
	int status;

	close(peer->sock);
	assert_int_equal(waitpid(peer->pid, &status, 0), peer->pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the worker ended with status 0x%x", status);
}

/* ---- what a worker tries ---- */

static int fd_at(struct gm_space *space, uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_block_info block = {.size = sizeof(block)};

	if (gm_space_next(space, gpa, &info) || gm_block_info(info.block, &block))
		return -1;
	return block.fd;
}

/* What opening an fd once more for writing says: 0 or an errno. */
static int reopen(int fd)
{
	char path[40];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again < 0)
		return errno;
	close(again);
	return 0;
}

/* Are the bytes anywhere in the whole file? */
static bool has_secret(int fd)
{
	struct stat st;
	bool found;
	void *map;

	if (fstat(fd, &st))
		return true;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return true;
	found = memmem(map, (size_t)st.st_size, SECRET, strlen(SECRET));
	munmap(map, (size_t)st.st_size);
	return found;
}

static struct gm_space *received(int sock, struct gm_reader **ret_reader)
{
	struct gm_space *space;

	if (gm_layout_recv(sock, GM_OPTS(gm_space_opts, .gpa_limit = LIMIT), &space, &err) ||
		gm_reader_create(space, "worker", ret_reader, &err))
		return NULL;
	return space;
}

/* The secret lies in page 16 of the RAM. */
static void keep_secret(void)
{
	memcpy(host_of(source, 16 * PAGE), SECRET, sizeof(SECRET));
}

/* Two files besides: one for a queue, one for a table. */
static void make_files(void)
{
	make_source();
	keep_secret();
	assert_ok(gm_space_add(source,
		DESC(.gpa = QUEUE, .name = "queue",
			.backing = BLOCK(.len = 4 * PAGE, .flags = GM_BLOCK_SHARE)),
		NULL, &err));
	assert_ok(gm_space_add(source,
		DESC(.gpa = TABLE, .name = "table",
			.backing = BLOCK(.len = 4 * PAGE, .flags = GM_BLOCK_SHARE)),
		NULL, &err));
	memset(host_of(source, QUEUE), 0x51, 4 * PAGE);
	memset(host_of(source, TABLE), 0x7a, 4 * PAGE);
}

/* ---- files as they are ---- */

static int use_lasting(int sock)
{
	const struct gm_view *view;
	struct gm_reader *own;
	struct gm_space *space = received(sock, &own);
	uint8_t byte = 0;
	void *map;

	if (!space)
		return 1;
	view = gm_reader_enter(own);
	if (gm_read_u8(view, QUEUE, &byte) || byte != 0x51)
		return 2;
	if (gm_write_u8(view, QUEUE + 1, 0x99))
		return 3;
	if (gm_read_u8(view, TABLE, &byte) || byte != 0x7a)
		return 4;
	if (gm_write_u8(view, TABLE, 1) != -EACCES)
		return 5;
	if (gm_read_u8(view, 16 * PAGE, &byte) != -EFAULT)
		return 6;
	gm_reader_leave(own);
	/* By other ways. */
	if (reopen(fd_at(space, TABLE)) != EACCES)
		return 7;
	if (has_secret(fd_at(space, TABLE)) || has_secret(fd_at(space, QUEUE)))
		return 8;
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd_at(space, TABLE), 0);
	if (map != MAP_FAILED || errno != EACCES)
		return 9;
	if (ftruncate(fd_at(space, TABLE), 0) == 0 || fchmod(fd_at(space, TABLE), 0666) == 0)
		return 10;
	gm_reader_destroy(own);
	gm_space_destroy(space);
	return 0;
}

static void whole_files_are_handed_out_for_good(void **state)
{
	struct peer peer;

	(void)state;
	make_files();
	make_grant(PARTS({QUEUE, 4 * PAGE, GM_PERM_RW, 0}, {TABLE, 4 * PAGE, GM_PERM_R, 0}),
		GM_GRANT_LASTING);
	peer = begin_worker(use_lasting, NOBODY);
	assert_ok(gm_grant_send(grant, peer.sock, &err));
	end_worker(&peer);
	assert_int_equal(host_of(source, QUEUE)[1], 0x99);
	assert_int_equal(host_of(source, TABLE)[0], 0x7a);
	assert_int_equal(grant_info().sent, 1);
	assert_int_equal(grant_info().lasting, 1);

	/* Nothing of it can be taken back; more can be given. */
	assert_fails(gm_grant_revoke(grant, 0, &err), ENOTSUP, "handed out for good");
	assert_fails(gm_grant_set(grant, QUEUE, PAGE, GM_PERM_R, 0, &err), ENOTSUP, "0x800000");
	assert_int_equal(IN_SECTION(gm_view_check(view, QUEUE, 4 * PAGE, GM_PERM_RW)), 0);
	assert_ok(gm_grant_set(grant, 0, PAGE, GM_PERM_R, 0, &err));
	drop_all();
}

/* The control of the above: without the file's mode, an fd for reading is one for writing. */
static int reopen_plain(int sock)
{
	struct gm_reader *own;
	struct gm_space *space = received(sock, &own);

	if (!space)
		return 1;
	if (reopen(fd_at(space, TABLE)) != 0)
		return 2;
	if (!has_secret(fd_at(space, 0)))
		return 3;
	gm_reader_destroy(own);
	gm_space_destroy(space);
	return 0;
}

static void a_plain_layout_gives_all_of_that_away(void **state)
{
	struct peer peer;

	(void)state;
	make_files();
	peer = begin_worker(reopen_plain, NOBODY);
	assert_ok(gm_layout_send(source, peer.sock, GM_PERM_R, &err));
	end_worker(&peer);
	gm_space_destroy(source);
}

/* ---- a shadow ---- */

static int use_shadow(int sock)
{
	const struct gm_view *view;
	struct gm_reader *own;
	struct gm_space *space = received(sock, &own);
	uint8_t byte = 0;

	if (!space)
		return 1;
	view = gm_reader_enter(own);
	if (gm_read_u8(view, 4 * PAGE, &byte) || byte != 5)
		return 2;
	if (gm_read_u8(view, 20 * PAGE, &byte) || byte != 21)
		return 3;
	if (gm_write_u8(view, 20 * PAGE, 1) != -EACCES)
		return 4;
	if (gm_read_u8(view, 16 * PAGE, &byte) != -EFAULT)
		return 5;
	if (gm_fill(view, 4 * PAGE, 0x66, 100, NULL))
		return 6;
	if (has_secret(fd_at(space, 4 * PAGE)) || has_secret(fd_at(space, 20 * PAGE)))
		return 7;
	if (send(sock, "w", 1, 0) != 1 || !await(sock))
		return 8;
	/* One part is revoked. */
	if (gm_read_u8(view, 4 * PAGE, &byte) != -EIO)
		return 9;
	if (gm_write_u8(view, 4 * PAGE, 1) != -EIO)
		return 10;
	if (gm_read_u8(view, 20 * PAGE, &byte) || byte != 21)
		return 11;
	if (send(sock, "w", 1, 0) != 1 || !await(sock))
		return 12;
	/* And now all. */
	if (gm_read_u8(view, 20 * PAGE, &byte) != -EIO)
		return 13;
	gm_reader_leave(own);
	if (ftruncate(fd_at(space, 4 * PAGE), PAGE) == 0)
		return 14;
	gm_reader_destroy(own);
	gm_space_destroy(space);
	return 0;
}

static void a_shadow_is_taken_back_from_another_process(void **state)
{
	struct peer peer;

	(void)state;
	make_source();
	keep_secret();
	make_grant(PARTS({4 * PAGE, 4 * PAGE, GM_PERM_RW, 0}, {20 * PAGE, PAGE, GM_PERM_R, 0}),
		GM_GRANT_SHADOW);
	assert_int_equal(gm_grant_copy_in(grant, 4 * PAGE, 4 * PAGE, NULL), 0);
	assert_int_equal(gm_grant_copy_in(grant, 20 * PAGE, PAGE, NULL), 0);
	peer = begin_worker(use_shadow, NOBODY);
	assert_fails(gm_grant_send(grant, peer.sock, &err), EPERM, "fault guard");
	assert_int_equal(gm_guard_install(), 0);
	assert_ok(gm_grant_send(grant, peer.sock, &err));
	assert_true(await(peer.sock));
	assert_int_equal(host_of(source, 4 * PAGE)[0], 5);
	assert_int_equal(gm_grant_copy_out(grant, 4 * PAGE, 100, NULL), 0);
	assert_int_equal(host_of(source, 4 * PAGE)[0], 0x66);
	assert_int_equal(host_of(source, 4 * PAGE)[99], 0x66);
	assert_int_equal(host_of(source, 4 * PAGE)[100], 5);
	assert_ok(gm_grant_set(grant, 7 * PAGE, PAGE, 0, 0, &err));
	step(peer.sock);
	assert_true(await(peer.sock));
	assert_ok(gm_grant_revoke(grant, 0, &err));
	step(peer.sock);
	end_worker(&peer);
	assert_int_equal(grant_info().lasting, 0);
	assert_int_equal(grant_info().sent, 1);
	assert_int_equal(gm_guard_remove(), 0);
	drop_all();
}

/* ---- what is not sent ---- */

static int get_nothing(int sock)
{
	struct gm_space *space;

	return gm_layout_recv(sock, NULL, &space, &err) == -EPIPE ? 0 : 1;
}

static void refused_to(
	uid_t uid, const struct gm_grant_part *parts, size_t nr, uint32_t flags, const char *word)
{
	struct peer peer = begin_worker(get_nothing, uid);

	make_grant(parts, nr, flags);
	assert_fails(gm_grant_send(grant, peer.sock, &err), EPERM, word);
	assert_int_equal(grant_info().sent, 0);
	assert_int_equal(grant_info().lasting, 0);
	end_worker(&peer);
	/* It was not handed out, so it can be taken back. */
	assert_ok(gm_grant_revoke(grant, 0, &err));
	drop_grant();
}

static void what_would_give_more_away_is_not_sent(void **state)
{
	int sock[2];

	(void)state;
	make_files();
	refused_to(NOBODY, PARTS({QUEUE, 4 * PAGE, GM_PERM_RW, 0}), 0, "cannot be taken back");
	/* Less than the file, at the end, at the front, in the middle. */
	refused_to(NOBODY, PARTS({QUEUE, 3 * PAGE, GM_PERM_RW, 0}), GM_GRANT_LASTING,
		"byte 0x3000 of file \"queue\"");
	refused_to(NOBODY, PARTS({QUEUE + PAGE, 3 * PAGE, GM_PERM_RW, 0}), GM_GRANT_LASTING,
		"byte 0x0 of file \"queue\"");
	refused_to(NOBODY,
		PARTS({QUEUE, PAGE, GM_PERM_RW, 0}, {QUEUE + 2 * PAGE, 2 * PAGE, GM_PERM_RW, 0}),
		GM_GRANT_LASTING, "byte 0x1000 of file \"queue\"");
	refused_to(NOBODY,
		PARTS({QUEUE, PAGE, GM_PERM_R, 0}, {QUEUE + PAGE, 3 * PAGE, GM_PERM_RW, 0}),
		GM_GRANT_LASTING, "granted read-only: the peer could write all of it");
	refused_to(0, PARTS({QUEUE, 4 * PAGE, GM_PERM_R, 0}), GM_GRANT_LASTING, "user id 0 (root)");
	/* No user, no socket. */
	make_grant(PARTS({QUEUE, 4 * PAGE, GM_PERM_R, 0}), GM_GRANT_LASTING);
	assert_fails(gm_grant_send(grant, 0, &err), err.code == -EPROTOTYPE ? EPROTOTYPE : ENOTSOCK,
		"socket 0");
	/* Our own pair. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	assert_fails(gm_grant_send(grant, sock[0], &err), EPERM, "user id 0");
	close(sock[0]);
	close(sock[1]);
	drop_all();
}

static int take_anything(int sock)
{
	struct gm_reader *own;

	return received(sock, &own) ? 0 : 1;
}

/* One file of the caller's, granted read-only to @uid: what sending says. */
static int send_file(int fd, uid_t uid)
{
	struct peer peer;
	int rc;

	make_source();
	assert_ok(gm_space_add(source,
		DESC(.gpa = QUEUE, .name = "file",
			.backing = BLOCK(.len = 2 * PAGE, .backing = GM_BACKING_FD,
				.flags = GM_BLOCK_READONLY, .fd = fd)),
		NULL, &err));
	make_grant(PARTS({QUEUE, 2 * PAGE, GM_PERM_RW, 0}), GM_GRANT_LASTING);
	peer = begin_worker(take_anything, uid);
	rc = gm_grant_send(grant, peer.sock, &err);
	close(peer.sock);
	waitpid(peer.pid, NULL, 0);
	drop_all();
	return rc;
}

static void who_owns_a_file_could_write_it(void **state)
{
	char path[] = "/tmp/guestmem-test-XXXXXX";
	struct stat st;
	int fd = memfd_create("owned", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	assert_int_equal(fchown(fd, NOBODY, NOBODY), 0);
	assert_fails(send_file(fd, NOBODY), EPERM, "the file's owner");
	assert_fails(send_file(fd, 0), EPERM, "root");
	assert_ok(send_file(fd, NOBODY - 1));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* Sealed against writing it may go to anybody. */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_ok(send_file(fd, NOBODY));
	assert_ok(send_file(fd, 0));
	close(fd);
	fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_ok(send_file(fd, 0));
	close(fd);

	/* A file with a name keeps its mode; it must be a good one. */
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	assert_int_equal(fchmod(fd, 0666), 0);
	assert_fails(send_file(fd, NOBODY), EPERM, "chmod go-w");
	assert_int_equal(fchmod(fd, 0644), 0);
	assert_ok(send_file(fd, NOBODY));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_files_are_handed_out_for_good),
		cmocka_unit_test(a_plain_layout_gives_all_of_that_away),
		cmocka_unit_test(a_shadow_is_taken_back_from_another_process),
		cmocka_unit_test(what_would_give_more_away_is_not_sent),
		cmocka_unit_test(who_owns_a_file_could_write_it),
	};

	if (getuid() != 0) {
		puts("skipped: only root can run a worker as another user");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
