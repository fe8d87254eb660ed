/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_others.c - a guest that is moved while another process, as a device would, has its memory mapped and
 * registered with a userfaultfd of its own: pages that are missing come for that too, once.
 */
#include "one_migration.h"

#include <fcntl.h>
#include <guestmem/pager_run.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LOW MIB(2)
#define PAGES (LOW / PAGE)

/* The other process, and what it shares with the test. */
struct other {
	pid_t pid;
	int sock;
	uint64_t *seen;          /* a word of each page */
	_Atomic uint32_t *state; /* 1: it may touch; 2: it has; 3: it may end */
	uint64_t added;          /* to words that it writes */
};

static struct other other;

/* ---- the other process ---- */

static int receive_fd(int sock)
{
	char byte;
	struct iovec iov = {&byte, 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room)};
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static bool send_fd(int sock, int fd)
{
	char byte = 0;
	struct iovec iov = {&byte, 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {.room = {0}};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1;
}

/* Reads a word of each page, from the last to the first, and writes to every eighth. */
static void touch_all(volatile uint8_t *at)
{
	for (uint64_t i = PAGES; i-- > 0;) {
		volatile uint64_t *word = (volatile uint64_t *)(at + i * PAGE + i % 500 * 8);

		other.seen[i] = *word;
		if (i % 8 == 0)
			*word += other.added;
	}
}

static void be_other(int sock)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = receive_fd(sock);
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	void *at = mmap(NULL, LOW, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd < 0 || uffd < 0 || at == MAP_FAILED || ioctl(uffd, UFFDIO_API, &api))
		_exit(2);
	reg.range.start = (uintptr_t)at;
	reg.range.len = LOW;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg) || !send_fd(sock, uffd) ||
		write(sock, &at, sizeof(at)) != sizeof(at))
		_exit(3);
	while (*other.state < 1)
		usleep(1000);
	touch_all(at);
	*other.state = 2;
	while (*other.state < 3)
		usleep(1000);
	_exit(0);
}

static void start_other(void)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	other.seen = mmap(
		NULL, PAGES * 8 + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(other.seen != MAP_FAILED);
	other.state = (_Atomic uint32_t *)(other.seen + PAGES);
	other.added = UINT64_C(1) << 60;
	other.pid = fork();
	assert_true(other.pid >= 0);
	if (other.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_other(pair[1]);
	}
	close(pair[1]);
	other.sock = pair[0];
}

static void end_other(void)
{
	int status = -1;

	*other.state = 3;
	assert_int_equal(waitpid(other.pid, &status, 0), other.pid);
	assert_int_equal(status, 0);
	close(other.sock);
	munmap(other.seen, PAGES * 8 + 4096);
}

/* ---- the destination ---- */

/* In the thread that steps it, as the state is loaded. */
static void add_other(struct move *m)
{
	struct gm_region_info region = {.size = sizeof(region)};
	struct gm_block_info block = {.size = sizeof(block)};
	struct gm_pager_area_opts opts = {.size = sizeof(opts),
		.source = gm_migrate_in_source(m->in),
		.way = GM_PAGER_COPY,
		.page_size = PAGE};
	struct gm_pager *pager = gm_migrate_in_pager(m->in);
	uint64_t uffd_id;
	void *at;
	int uffd;

	assert_non_null(pager);
	assert_int_equal(gm_space_next(m->spaces[1], 0, &region), 0);
	assert_int_equal(gm_block_info(region.block, &block), 0);
	assert_true(block.fd >= 0);
	assert_true(send_fd(other.sock, block.fd));
	uffd = receive_fd(other.sock);
	assert_true(uffd >= 0);
	assert_int_equal(read(other.sock, &at, sizeof(at)), sizeof(at));
	assert_ok(gm_pager_add_uffd(pager, uffd, other.pid, &uffd_id, &err));
	assert_ok(gm_pager_add_mapping(pager, uffd_id, (uintptr_t)at, LOW, &opts, NULL, &err));
	close(uffd);
}

static void another_process_has_the_memory(void **ctx)
{
	struct move_opts o = {.kind = KIND_MEMFD, .low = LOW, .still = true};
	uint64_t until = seconds_now() + SECONDS;
	struct move *m;

	(void)ctx;
	start_other();
	o.out.way = GM_MIGRATE_OUT_POSTCOPY;
	o.out.rate = MIB(4);
	m = begin(o);
	m->at_load = add_other;
	go(m);
	assert_true(until_state(m, 1, GM_MIGRATE_IS_POSTCOPY));
	*other.state = 1;
	while (*other.state < 2 && seconds_now() < until)
		usleep(1000);
	assert_int_equal(*other.state, 2);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
	for (uint64_t i = 0; i < PAGES; i++) {
		const struct gm_view *view = gm_reader_enter(m->readers[1]);
		uint64_t word = word_of(i, m->truth[i]);
		uint64_t value = 0;

		assert_int_equal(gm_read_u64(view, i * PAGE + i % 500 * 8, &value), 0);
		gm_reader_leave(m->readers[1]);
		if (other.seen[i] != word)
			fail_msg(
				"the other one saw page %" PRIu64 " as %" PRIx64, i, other.seen[i]);
		/* What it wrote is not overwritten by what came. */
		if (value != word + (i % 8 ? 0 : other.added))
			fail_msg("page %" PRIu64 " is %" PRIx64, i, value);
	}
	end_other();
	end(m);
}

/* It dies while it waits for pages: nobody else minds. */
static void it_is_killed(void **ctx)
{
	struct move_opts o = {.kind = KIND_MEMFD, .low = LOW, .slow = true};
	struct move *m;
	int status;

	(void)ctx;
	start_other();
	o.out.way = GM_MIGRATE_OUT_POSTCOPY;
	o.out.rate = MIB(4);
	m = begin(o);
	m->at_load = add_other;
	go(m);
	assert_true(until_state(m, 1, GM_MIGRATE_IS_POSTCOPY));
	*other.state = 1;
	while (!other.seen[PAGES - 2] && *other.state < 2)
		usleep(100);
	assert_int_equal(kill(other.pid, SIGKILL), 0);
	assert_int_equal(waitpid(other.pid, &status, 0), other.pid);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
	/* But for what it wrote itself. */
	m->quit = true;
	close(other.sock);
	munmap(other.seen, PAGES * 8 + 4096);
	end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_process_has_the_memory),
		cmocka_unit_test(it_is_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
