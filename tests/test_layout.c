/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_layout.c - a space's memory in another space: same bytes, same regions, nothing more.
 *
 * Over stream and seqpacket sockets, within a process and between two; what cannot or must not
 * travel; limits. Peers that lie are in test_layout_peer.c.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"

#define PAGE 4096u
#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)

static struct gm_error err;
static struct fault_state before;
static int sock[2];

/* ThreadSanitizer leaves no room for the usual window. */
static const struct gm_space_opts small = {.size = sizeof(small), .gpa_limit = GIB(16)};

static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET};

/* ---- helpers ---- */

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

static struct gm_space *make_space(void)
{
	struct gm_space *space;

	assert_ok(gm_space_create(&small, &space, &err));
	return space;
}

static uint64_t add(struct gm_space *space, const struct gm_region_desc *desc)
{
	uint64_t id;

	assert_ok(gm_space_add(space, desc, &id, &err));
	return id;
}

static struct gm_region_info region_at(struct gm_space *space, uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_next(space, gpa, &info), 0);
	return info;
}

static uint8_t *bytes_at(struct gm_space *space, uint64_t gpa)
{
	struct gm_region_info info = region_at(space, gpa);

	assert_in_range(gpa, info.gpa, info.gpa + (info.len - 1));
	return (uint8_t *)info.hva + (gpa - info.gpa);
}

/* The sending thread: a layout may be larger than a socket's buffer. */
struct sending {
	struct gm_space *space;
	uint32_t perms;
	int rc;
	struct gm_error err;
};

static void *send_thread(void *arg)
{
	struct sending *s = arg;

	s->rc = gm_layout_send(s->space, sock[0], s->perms, &s->err);
	return NULL;
}

static struct gm_space *pass(struct gm_space *space, uint32_t perms)
{
	struct sending s = {.space = space, .perms = perms};
	struct gm_space *got = NULL;
	pthread_t thread;
	int rc;

	assert_int_equal(pthread_create(&thread, NULL, send_thread, &s), 0);
	rc = gm_layout_recv(sock[1], &small, &got, &err);
	pthread_join(thread, NULL);
	if (s.rc)
		fail_msg("send: %s", s.err.text);
	if (rc)
		fail_msg("recv: %s", err.text);
	return got;
}

static void same_regions(struct gm_space *a, struct gm_space *b, uint32_t mask)
{
	uint64_t gpa = 0;

	for (;;) {
		struct gm_region_info x = {.size = sizeof(x)};
		struct gm_region_info y = {.size = sizeof(y)};
		int rc = gm_space_next(a, gpa, &x);

		assert_int_equal(gm_space_next(b, gpa, &y), rc);
		if (rc)
			break;
		assert_true(x.gpa == y.gpa && x.len == y.len);
		assert_int_equal(x.kind, y.kind);
		assert_int_equal(x.perms & mask, y.perms);
		assert_string_equal(x.name, y.name);
		if (__builtin_add_overflow(x.gpa, x.len, &gpa))
			break;
	}
}

/* Writes here are seen there and the other way, at both ends of the region at @gpa. */
static void shared_at(struct gm_space *a, struct gm_space *b, uint64_t gpa)
{
	uint64_t len = region_at(a, gpa).len;
	volatile uint8_t *x = bytes_at(a, gpa);
	volatile uint8_t *y = bytes_at(b, gpa);

	x[0] = 0x11;
	assert_int_equal(y[0], 0x11);
	y[len - 1] = 0x22;
	assert_int_equal(x[len - 1], 0x22);
	x[0] = 0;
	y[len - 1] = 0;
}

/* ---- round trips ---- */

static void memory_and_regions_travel(int type)
{
	struct gm_space *space;
	struct gm_space *got;

	begin(type);
	space = make_space();
	add(space, DESC(.gpa = 0, .name = "low",
			   .backing = BLOCK(.len = MIB(2), .flags = GM_BLOCK_SHARE)));
	add(space, DESC(.gpa = MIB(2), .perms = GM_PERM_RW, .name = "data",
			   .backing = BLOCK(.len = MIB(1), .backing = GM_BACKING_MEMFD)));
	add(space, DESC(.gpa = GIB(3), .len = MIB(1), .kind = GM_REGION_RESERVED, .name = "mmio"));
	add(space, DESC(.gpa = GIB(4) - PAGE, .kind = GM_REGION_ROM, .name = "rom",
			   .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
	/* Above the window, at the very end. */
	add(space, DESC(.gpa = 0 - (uint64_t)PAGE, .name = "top",
			   .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
	got = pass(space, 0);
	same_regions(space, got, GM_PERM_RWX);
	shared_at(space, got, 0);
	shared_at(space, got, MIB(2));
	shared_at(space, got, 0 - (uint64_t)PAGE);
	*bytes_at(space, GIB(4) - PAGE) = 0x33;
	assert_int_equal(*bytes_at(got, GIB(4) - PAGE), 0x33);
	assert_true(region_at(got, 0).placed);
	gm_space_destroy(space);
	/* What was received lives on its own. */
	*bytes_at(got, MIB(1)) = 1;
	gm_space_destroy(got);
	end();
}

static void memory_and_regions_travel_over_a_stream(void **state)
{
	(void)state;
	memory_and_regions_travel(SOCK_STREAM);
}

static void memory_and_regions_travel_in_packets(void **state)
{
	(void)state;
	memory_and_regions_travel(SOCK_SEQPACKET);
}

static void explicit_huge_pages_travel(void **state)
{
	struct gm_space *space;
	struct gm_space *got;

	(void)state;
	if (!support_pool(21, 2)) {
		print_message("skipped: no huge pages to be had\n");
		skip();
	}
	for (size_t i = 0; i < 2; i++) {
		begin(types[i]);
		space = make_space();
		add(space,
			DESC(.gpa = MIB(4), .backing = BLOCK(.len = MIB(4), .flags = GM_BLOCK_SHARE,
						    .pages = {{GM_PAGE_HUGETLB, 21}})));
		got = pass(space, 0);
		same_regions(space, got, GM_PERM_RWX);
		shared_at(space, got, MIB(4));
		assert_int_equal(support_smaps(bytes_at(got, MIB(4)), "KernelPageSize:"), MIB(2));
		gm_space_destroy(got);
		gm_space_destroy(space);
		end();
	}
}

static void a_layout_may_have_no_memory(void **state)
{
	struct gm_space *space;
	struct gm_space *got;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(types[i]);
		space = make_space();
		got = pass(space, 0);
		same_regions(space, got, GM_PERM_RWX);
		gm_space_destroy(got);
		add(space, DESC(.gpa = 7, .len = 5, .kind = GM_REGION_RESERVED));
		got = pass(space, 0);
		same_regions(space, got, GM_PERM_RWX);
		gm_space_destroy(got);
		gm_space_destroy(space);
		end();
	}
}

/* The counts in the header of the layout that comes next; it is left in the socket. */
static uint32_t files_on_the_way(void)
{
	uint8_t head[64];

	assert_int_equal(recv(sock[1], head, sizeof(head), MSG_PEEK), 64);
	return head[20] | (uint32_t)head[21] << 8;
}

static void a_file_of_many_regions_travels_once(void **state)
{
	struct gm_space *space;
	struct gm_space *got;
	struct gm_block *block;
	struct gm_block_info info = {.size = sizeof(info)};

	(void)state;
	begin(SOCK_STREAM);
	space = make_space();
	assert_ok(gm_block_create(BLOCK(.len = MIB(4), .flags = GM_BLOCK_SHARE), &block, &err));
	gm_block_info(block, &info);
	add(space, DESC(.gpa = 0, .len = MIB(1), .block = block));
	add(space, DESC(.gpa = GIB(1), .len = MIB(1), .block = block, .block_off = MIB(1)));
	/* An alias, and another block of the same file. */
	add(space, DESC(.gpa = GIB(2), .len = MIB(2), .block = block, .block_off = 0));
	add(space, DESC(.gpa = GIB(3), .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_FD,
					       .fd = info.fd, .offset = MIB(3))));
	assert_ok(gm_layout_send(space, sock[0], 0, &err));
	assert_int_equal(files_on_the_way(), 1);
	assert_ok(gm_layout_recv(sock[1], &small, &got, &err));
	same_regions(space, got, GM_PERM_RWX);
	shared_at(space, got, GIB(1));
	*bytes_at(got, MIB(1) - 1) = 0x44;
	assert_int_equal(*bytes_at(space, GIB(2) + MIB(1) - 1), 0x44);
	*bytes_at(got, GIB(3)) = 0x55;
	assert_int_equal(((uint8_t *)info.hva)[0], 0);
	assert_int_equal(*bytes_at(space, GIB(3)), 0x55);
	gm_space_destroy(got);
	gm_space_destroy(space);
	gm_block_put(block);
	end();
}

static void what_follows_on_the_stream_stays_there(void **state)
{
	struct gm_space *space;
	struct gm_space *got;
	char rest[8] = "";

	(void)state;
	begin(SOCK_STREAM);
	space = make_space();
	add(space, DESC(.gpa = 0, .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
	assert_ok(gm_layout_send(space, sock[0], 0, &err));
	assert_ok(gm_layout_send(space, sock[0], GM_PERM_R, &err));
	assert_int_equal(write(sock[0], "hello", 5), 5);
	assert_ok(gm_layout_recv(sock[1], &small, &got, &err));
	gm_space_destroy(got);
	assert_ok(gm_layout_recv(sock[1], &small, &got, &err));
	same_regions(space, got, GM_PERM_R);
	gm_space_destroy(got);
	assert_int_equal(read(sock[1], rest, sizeof(rest)), 5);
	assert_string_equal(rest, "hello");
	gm_space_destroy(space);
	end();
}

/* ---- permissions ---- */

static int flags_of_fd(struct gm_space *space, uint64_t gpa)
{
	struct gm_block_info info = {.size = sizeof(info)};

	gm_block_info(region_at(space, gpa).block, &info);
	return fcntl(info.fd, F_GETFL) & O_ACCMODE;
}

static void a_peer_gets_no_more_than_it_is_given(void **state)
{
	struct gm_space *space;
	struct gm_space *got;
	struct gm_txn *txn;

	(void)state;
	begin(SOCK_SEQPACKET);
	space = make_space();
	add(space, DESC(.gpa = 0, .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
	got = pass(space, GM_PERM_RX);
	same_regions(space, got, GM_PERM_RX);
	/* Not even its fd can be mapped for writing. */
	assert_int_equal(flags_of_fd(got, 0), O_RDONLY);
	assert_int_equal(flags_of_fd(space, 0), O_RDWR);
	assert_ok(gm_txn_begin(got, &txn, &err));
	assert_int_equal(gm_txn_protect(txn, region_at(got, 0).id, GM_PERM_RW, &err), -EACCES);
	gm_txn_abort(txn);
	*bytes_at(space, 0) = 9;
	assert_int_equal(*bytes_at(got, 0), 9);
	gm_space_destroy(got);
	gm_space_destroy(space);
	end();
}

static void a_file_with_ram_and_rom_stays_writable(void **state)
{
	struct gm_space *space;
	struct gm_space *got;
	struct gm_block *block;

	(void)state;
	begin(SOCK_STREAM);
	space = make_space();
	assert_ok(gm_block_create(BLOCK(.len = 2 * PAGE, .flags = GM_BLOCK_SHARE), &block, &err));
	add(space, DESC(.gpa = 0, .len = PAGE, .block = block));
	add(space, DESC(.gpa = GIB(1), .len = PAGE, .kind = GM_REGION_ROM, .block = block,
			   .block_off = PAGE));
	got = pass(space, 0);
	same_regions(space, got, GM_PERM_RWX);
	shared_at(space, got, 0);
	gm_space_destroy(got);
	/* Only the ROM is left that would be needed for reading. */
	assert_ok(gm_space_remove(space, region_at(space, 0).id, &err));
	got = pass(space, 0);
	assert_int_equal(flags_of_fd(got, GIB(1)), O_RDONLY);
	gm_space_destroy(got);
	gm_space_destroy(space);
	gm_block_put(block);
	end();
}

static void a_writable_fd_is_preferred_for_a_file(void **state)
{
	struct gm_space *space;
	struct gm_space *got;
	int fd = memfd_create("layout", MFD_ALLOW_SEALING);
	char path[40];
	int readonly;

	(void)state;
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	readonly = open(path, O_RDONLY | O_CLOEXEC);
	begin(SOCK_STREAM);
	space = make_space();
	add(space, DESC(.gpa = 0, .perms = GM_PERM_R,
			   .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_FD, .fd = readonly,
				   .flags = GM_BLOCK_READONLY)));
	add(space, DESC(.gpa = PAGE, .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_FD,
					     .fd = fd, .offset = PAGE)));
	got = pass(space, 0);
	same_regions(space, got, GM_PERM_RWX);
	shared_at(space, got, PAGE);
	gm_space_destroy(got);
	gm_space_destroy(space);
	end();
	close(readonly);
	close(fd);
}

/* ---- two processes ---- */

/* The child: receives, answers each byte it finds with the next one. */
static int child(void)
{
	struct gm_space *space;
	volatile uint8_t *a;
	volatile uint8_t *b;
	char turn;

	if (gm_layout_recv(sock[1], &small, &space, &err))
		return 1;
	a = bytes_at(space, MIB(1));
	b = bytes_at(space, GIB(8) + MIB(2) - 1);
	for (uint8_t i = 0; i < 100; i++) {
		if (read(sock[1], &turn, 1) != 1 || *a != i)
			return 2;
		*b = (uint8_t)(i + 1);
		if (write(sock[1], &turn, 1) != 1)
			return 3;
	}
	gm_space_destroy(space);
	return 0;
}

static void two_processes_see_each_others_writes(void **state)
{
	struct gm_space *space;
	volatile uint8_t *a;
	volatile uint8_t *b;
	int status;
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(types[i]);
		pid = fork();
		if (pid == 0)
			_exit(child());
		space = make_space();
		add(space,
			DESC(.gpa = 0, .backing = BLOCK(.len = MIB(2), .flags = GM_BLOCK_SHARE)));
		add(space, DESC(.gpa = GIB(8),
				   .backing = BLOCK(.len = MIB(2), .flags = GM_BLOCK_SHARE)));
		assert_ok(gm_layout_send(space, sock[0], 0, &err));
		a = bytes_at(space, MIB(1));
		b = bytes_at(space, GIB(8) + MIB(2) - 1);
		for (uint8_t turn = 0; turn < 100; turn++) {
			char c = 'x';

			*a = turn;
			assert_int_equal(write(sock[0], &c, 1), 1);
			assert_int_equal(read(sock[0], &c, 1), 1);
			assert_int_equal(*b, turn + 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		gm_space_destroy(space);
		end();
	}
}

/* ---- what does not travel ---- */

static void refuse_send(
	struct gm_space *space, uint32_t perms, int code, const char *word, uint64_t gpa)
{
	char byte;

	assert_fails(gm_layout_send(space, sock[0], perms, &err), code, word);
	assert_true(err.gpa == gpa);
	/* Nothing has gone out. */
	assert_int_equal(recv(sock[1], &byte, 1, MSG_DONTWAIT), -1);
}

static void memory_without_an_fd_is_refused(void **state)
{
	static uint8_t mine[2 * PAGE];
	struct gm_space *space;

	(void)state;
	begin(SOCK_STREAM);
	space = make_space();
	add(space, DESC(.gpa = 0, .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
	add(space, DESC(.gpa = GIB(1), .name = "anon", .backing = BLOCK(.len = PAGE)));
	refuse_send(space, 0, ENOTSUP, "GM_BLOCK_SHARE", GIB(1));
	assert_non_null(strstr(err.text, "anon"));
	assert_ok(gm_space_remove(space, region_at(space, GIB(1)).id, &err));
	add(space, DESC(.gpa = GIB(2),
			   .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_ANON_SHARED)));
	refuse_send(space, 0, ENOTSUP, "has no fd", GIB(2));
	assert_ok(gm_space_remove(space, region_at(space, GIB(2)).id, &err));
	add(space, DESC(.gpa = GIB(3), .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_POINTER,
					       .addr = mine + (0 - (uintptr_t)mine) % PAGE)));
	refuse_send(space, 0, ENOTSUP, "has no fd", GIB(3));
	gm_space_destroy(space);
	end();
}

static void a_private_mapping_is_refused(void **state)
{
	struct gm_space *space;
	int fd = memfd_create("layout", 0);

	(void)state;
	assert_int_equal(ftruncate(fd, PAGE), 0);
	begin(SOCK_STREAM);
	space = make_space();
	add(space, DESC(.gpa = GIB(1), .backing = BLOCK(.len = PAGE, .backing = GM_BACKING_FD,
					       .fd = fd, .flags = GM_BLOCK_PRIVATE)));
	refuse_send(space, 0, ENOTSUP, "private", GIB(1));
	gm_space_destroy(space);
	end();
	close(fd);
}

static void a_file_that_has_shrunk_is_refused(void **state)
{
	struct gm_space *space;
	int fd = memfd_create("layout", 0);

	(void)state;
	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	begin(SOCK_STREAM);
	space = make_space();
	add(space, DESC(.gpa = GIB(1), .backing = BLOCK(.len = 2 * PAGE, .backing = GM_BACKING_FD,
					       .fd = fd, .offset = 2 * PAGE)));
	assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
	refuse_send(space, 0, ERANGE, "shrunk", GIB(1));
	assert_int_equal(ftruncate(fd, PAGE), 0);
	refuse_send(space, 0, ERANGE, "shrunk", GIB(1));
	gm_space_destroy(space);
	end();
	close(fd);
}

static void permissions_that_cannot_be_are_refused(void **state)
{
	struct gm_space *space;

	(void)state;
	begin(SOCK_STREAM);
	space = make_space();
	add(space, DESC(.gpa = GIB(1), .perms = GM_PERM_R,
			   .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
	refuse_send(space, 8, EINVAL, "not known", 0);
	refuse_send(space, GM_PERM_W, EINVAL, "no permission", GIB(1));
	gm_space_destroy(space);
	end();
}

static void a_space_under_change_is_busy(void **state)
{
	struct gm_space *space;
	struct gm_txn *txn;

	(void)state;
	begin(SOCK_STREAM);
	space = make_space();
	assert_ok(gm_txn_begin(space, &txn, &err));
	refuse_send(space, 0, EBUSY, "", 0);
	gm_txn_abort(txn);
	assert_ok(gm_layout_send(space, sock[0], 0, &err));
	gm_space_destroy(space);
	end();
}

static void a_peer_that_is_gone_is_told(void **state)
{
	struct gm_space *space;
	struct gm_space *got = (struct gm_space *)&err;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(types[i]);
		space = make_space();
		add(space, DESC(.gpa = 0, .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
		close(sock[1]);
		assert_fails(gm_layout_send(space, sock[0], 0, &err), EPIPE, "cannot send");
		assert_fails(gm_layout_recv(sock[0], &small, &got, &err), EPIPE, "0 of 64 bytes");
		assert_ptr_equal(got, &err);
		gm_space_destroy(space);
		sock[1] = -1;
		end();
	}
}

/* ---- limits ---- */

static void more_than_253_files_are_refused(void **state)
{
	struct gm_space *space;
	struct gm_space *got;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(types[i]);
		space = make_space();
		for (uint64_t nr = 0; nr < GM_LAYOUT_FDS_MAX; nr++)
			add(space, DESC(.gpa = nr * MIB(1),
					   .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
		got = pass(space, 0);
		same_regions(space, got, GM_PERM_RWX);
		shared_at(space, got, MIB(252));
		gm_space_destroy(got);
		add(space, DESC(.gpa = GIB(1),
				   .backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)));
		refuse_send(space, 0, E2BIG, "253", GIB(1));
		gm_space_destroy(space);
		end();
	}
}

static struct gm_space *many_regions(struct gm_block *block, size_t nr)
{
	struct gm_region_desc *descs = calloc(nr, sizeof(*descs));
	struct gm_space *space;

	assert_non_null(descs);
	for (size_t i = 0; i < nr; i++)
		descs[i] = (struct gm_region_desc){.size = sizeof(descs[i]),
			.gpa = i * 2 * PAGE,
			.len = PAGE,
			.block = block,
			.block_off = i * PAGE};
	assert_ok(gm_space_build(&small, descs, nr, &space, &err));
	free(descs);
	return space;
}

static void four_thousand_regions_travel_and_one_more_does_not(void **state)
{
	struct rlimit old;
	struct gm_space *space;
	struct gm_space *got;
	struct gm_block *block;
	const size_t nr = GM_LAYOUT_REGIONS_MAX;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	if (setrlimit(RLIMIT_NOFILE,
		    &(struct rlimit){8192, old.rlim_max > 8192 ? old.rlim_max : 8192})) {
		print_message("skipped: RLIMIT_NOFILE cannot be raised to 8192\n");
		skip();
	}
	for (size_t i = 0; i < 2; i++) {
		begin(types[i]);
		assert_ok(gm_block_create(
			BLOCK(.len = (nr + 1) * PAGE, .flags = GM_BLOCK_SHARE), &block, &err));
		space = many_regions(block, nr);
		got = pass(space, 0);
		same_regions(space, got, GM_PERM_RWX);
		shared_at(space, got, (nr - 1) * 2 * PAGE);
		gm_space_destroy(got);
		gm_space_destroy(space);
		space = many_regions(block, nr + 1);
		refuse_send(space, 0, E2BIG, "4097 regions", 0);
		gm_space_destroy(space);
		gm_block_put(block);
		end();
	}
	setrlimit(RLIMIT_NOFILE, &old);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_and_regions_travel_over_a_stream),
		cmocka_unit_test(memory_and_regions_travel_in_packets),
		cmocka_unit_test(explicit_huge_pages_travel),
		cmocka_unit_test(a_layout_may_have_no_memory),
		cmocka_unit_test(a_file_of_many_regions_travels_once),
		cmocka_unit_test(what_follows_on_the_stream_stays_there),
		cmocka_unit_test(a_peer_gets_no_more_than_it_is_given),
		cmocka_unit_test(a_file_with_ram_and_rom_stays_writable),
		cmocka_unit_test(a_writable_fd_is_preferred_for_a_file),
		cmocka_unit_test(two_processes_see_each_others_writes),
		cmocka_unit_test(memory_without_an_fd_is_refused),
		cmocka_unit_test(a_private_mapping_is_refused),
		cmocka_unit_test(a_file_that_has_shrunk_is_refused),
		cmocka_unit_test(permissions_that_cannot_be_are_refused),
		cmocka_unit_test(a_space_under_change_is_busy),
		cmocka_unit_test(a_peer_that_is_gone_is_told),
		cmocka_unit_test(more_than_253_files_are_refused),
		cmocka_unit_test(four_thousand_regions_travel_and_one_more_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
