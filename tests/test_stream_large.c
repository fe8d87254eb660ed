/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream_large.c - exact transfers of more than the 2 GiB less a page that Linux moves in one call,
 * through every form of a stream.
 *
 * The memory is one slice of 2064 MiB that costs 48: the same 16 MiB over and over, but for 32 MiB around the
 * place where the first call ends. There all bytes are looked at.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

#include "stream_memory.h"

#define LONG MIB(2064)
#define REPEATED MIB(16)
#define ZONE MIB(32)
#define ZONE_AT (LONG - ZONE)
#define ONE_CALL UINT64_C(0x7ffff000) /* most that Linux moves at once */
#define GPA GIB(4)

/* LONG bytes over a file of REPEATED + ZONE. */
static uint8_t *lay_out(void)
{
	int fd = memfd_create("large", MFD_CLOEXEC);
	uint8_t *base = mmap(NULL, LONG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(fd >= 0 && base != MAP_FAILED);
	assert_int_equal(ftruncate(fd, REPEATED + ZONE), 0);
	for (uint64_t at = 0; at < LONG; at += REPEATED) {
		uint64_t off = at < ZONE_AT ? 0 : REPEATED + (at - ZONE_AT);

		assert_true(mmap(base + at, REPEATED, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd,
				    (off_t)off) != MAP_FAILED);
	}
	close(fd);
	return base;
}

static uint8_t *memory; /* the guest's */
static uint8_t *other;  /* the same sort of memory */
static uint8_t *bytes;  /* what the zone is to have */
static int file;        /* LONG bytes, zeros in front of the zone */

/* Once for all cases: half a million pages each. */
static int set_up(void **state)
{
	(void)state;
	memory = lay_out();
	other = lay_out();
	bytes = noise(ZONE, 21);
	file = memfd_create("file", MFD_CLOEXEC);
	assert_true(file >= 0);
	assert_int_equal(ftruncate(file, LONG), 0);
	assert_int_equal(pwrite(file, bytes, ZONE, ZONE_AT), ZONE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(file);
	free(bytes);
	munmap(memory, LONG);
	munmap(other, LONG);
	return 0;
}

static void start_large(void)
{
	memcpy(other + ZONE_AT, bytes, ZONE);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)));
	assert_ok(gm_space_add(space,
		DESC(.gpa = GPA, .backing = BLOCK(.len = LONG, .backing = GM_BACKING_POINTER,
					 .addr = memory)),
		NULL, &err));
}

/* All of the memory is read, then all and a byte more, from a stream that has no more than that. */
static void check_read(struct gm_stream *s)
{
	size_t done;

	memset(memory + ZONE_AT, 0, ZONE);
	assert_int_equal(gm_stream_read(s, reader, GPA, LONG, EXACT, &done), 0);
	assert_int_equal(done, LONG);
	assert_memory_equal(memory + ZONE_AT, bytes, ZONE);
}

/* The same into @sink, or where nobody looks. */
static void check_write(struct gm_stream *s, const uint8_t *sink)
{
	size_t done;

	memcpy(memory + ZONE_AT, bytes, ZONE);
	assert_int_equal(gm_stream_write(s, reader, GPA, LONG, EXACT, &done), 0);
	assert_int_equal(done, LONG);
	if (sink)
		assert_memory_equal(sink, bytes, ZONE);
}

/* ---- files ---- */

static void a_file_is_read_and_written(void **state)
{
	/* A file to which so much can be written without having it twice: addresses are its positions. */
	int own = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	struct gm_stream s;
	size_t done;

	(void)state;
	start_large();
	assert_ok(gm_stream_init_file(&s, file, 0, &err));
	check_read(&s);
	assert_int_equal(gm_stream_tell(&s), LONG);
	/* Up to as much: files are read to their end. */
	assert_int_equal(gm_stream_seek(&s, 5), 0);
	assert_int_equal(gm_stream_read(&s, reader, GPA, LONG, 0, &done), 0);
	assert_int_equal(done, LONG - 5);
	/* The end is found behind the first call. */
	assert_int_equal(gm_stream_seek(&s, 5), 0);
	assert_int_equal(gm_stream_read(&s, reader, GPA, LONG, EXACT, &done), -ENODATA);
	assert_int_equal(done, LONG - 5);
	assert_memory_equal(memory + ZONE_AT - 5, bytes, ZONE);
	/* And that of the memory. */
	assert_int_equal(gm_stream_seek(&s, 0), 0);
	assert_int_equal(gm_stream_read(&s, reader, GPA, LONG + 1, EXACT, &done), -EFAULT);
	assert_int_equal(done, LONG);
	memset(other + ZONE_AT, 0, ZONE);
	assert_ok(gm_stream_init_file(&s, own, (uintptr_t)other, &err));
	check_write(&s, other + ZONE_AT);
	assert_int_equal(gm_stream_tell(&s), (uintptr_t)other + LONG);
	stop();
	close(own);
}

static void an_fd_is_read_and_written(void **state)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct gm_stream s;

	(void)state;
	start_large();
	assert_ok(gm_stream_init_fd(&s, file, &err));
	check_read(&s);
	assert_int_equal(lseek(file, 0, SEEK_CUR), LONG);
	assert_ok(gm_stream_init_fd(&s, null, &err));
	check_write(&s, NULL);
	stop();
	close(null);
}

static void a_chain_is_read_and_written(void **state)
{
	const struct gm_chain_elem elems[] = {{GPA, LONG, 0, 0}, {GPA, 3, GM_CHAIN_WRITE, 0},
		{GPA + 3, LONG - 3, GM_CHAIN_WRITE, 0}};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct gm_chain chain;
	struct gm_stream s;
	size_t done;

	(void)state;
	start_large();
	assert_ok(gm_chain_init(&chain, elems, 3, NULL, &err));
	assert_ok(gm_stream_init_file(&s, file, 0, &err));
	assert_int_equal(gm_stream_read_chain(&s, reader, &chain, LONG, EXACT, &done), 0);
	assert_int_equal(done, LONG);
	assert_int_equal(gm_chain_left(&chain, GM_CHAIN_WRITABLE), 0);
	assert_memory_equal(memory + ZONE_AT, bytes, ZONE);
	assert_ok(gm_stream_init_fd(&s, null, &err));
	assert_int_equal(gm_stream_write_chain(&s, reader, &chain, LONG, EXACT, &done), 0);
	assert_int_equal(done, LONG);
	assert_int_equal(gm_chain_left(&chain, GM_CHAIN_READABLE), 0);
	stop();
	close(null);
}

/* ---- memory and functions of the caller ---- */

/* A growing buffer would need as much memory as it is given. */
static void buffers_are_read_and_written(void **state)
{
	struct gm_stream s;

	(void)state;
	start_large();
	gm_stream_init_source(&s, other, LONG);
	check_read(&s);
	gm_stream_init_buffer(&s, other, LONG);
	check_read(&s);
	assert_int_equal(gm_stream_seek(&s, 0), 0);
	memset(other + ZONE_AT, 0, ZONE);
	check_write(&s, other + ZONE_AT);
	assert_int_equal(gm_stream_tell(&s), LONG);
	stop();
}

/* Where a stream of the caller is, and how much of a call it does. */
struct own {
	uint64_t at;
	uint64_t most;
	unsigned int calls;
};

/* Touches the zone only. */
static int move(struct own *own, const struct iovec *slices, size_t nr, bool in, size_t *ret_done)
{
	size_t n = slices[0].iov_len < own->most ? slices[0].iov_len : own->most;
	uint64_t skip = own->at < ZONE_AT ? ZONE_AT - own->at : 0;

	assert_true(nr >= 1);
	own->calls++;
	if (n > LONG - own->at)
		n = LONG - own->at;
	if (skip < n) {
		uint8_t *mine = bytes + (own->at + skip - ZONE_AT);
		uint8_t *his = (uint8_t *)slices[0].iov_base + skip;

		if (in)
			memcpy(his, mine, n - skip);
		else
			assert_memory_equal(his, mine, n - skip);
	}
	own->at += n;
	*ret_done = n;
	return 0;
}

static int own_read(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	return move(ctx, slices, nr, true, ret_done);
}

static int own_write(void *ctx, const struct iovec *slices, size_t nr, size_t *ret_done)
{
	return move(ctx, slices, nr, false, ret_done);
}

static void functions_may_do_all_at_once_or_in_parts(void **state)
{
	static const uint64_t most[] = {UINT64_MAX, ONE_CALL, GIB(1) + 1};
	struct own own;
	struct gm_stream s;

	(void)state;
	start_large();
	assert_ok(gm_stream_init_ops(&s,
		GM_OPTS(gm_stream_ops, .readv = own_read, .writev = own_write, .ctx = &own), &err));
	for (unsigned int i = 0; i < 3; i++) {
		own = (struct own){.most = most[i]};
		check_read(&s);
		own = (struct own){.most = most[i]};
		check_write(&s, NULL);
		assert_int_equal(own.at, LONG);
		assert_true(own.calls >= 2);
	}
	stop();
}

/* ---- a peer ---- */

static void *send_all(void *arg)
{
	const int *fd = arg;

	for (uint64_t at = 0; at < LONG;) {
		ssize_t n = send(*fd, other + at, LONG - at < MIB(1) ? LONG - at : MIB(1), 0);

		if (n <= 0)
			break;
		at += (uint64_t)n;
	}
	return NULL;
}

static void *take_all(void *arg)
{
	const int *fd = arg;

	memset(other + ZONE_AT, 0, ZONE);
	for (uint64_t at = 0; at < LONG;) {
		ssize_t n = recv(*fd, other + at, LONG - at < MIB(1) ? LONG - at : MIB(1), 0);

		if (n <= 0)
			break;
		at += (uint64_t)n;
	}
	return NULL;
}

static void a_peer_gives_and_takes_all(void **state)
{
	struct gm_stream s;
	pthread_t thread;
	int pair[2];

	(void)state;
	start_large();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_ok(gm_stream_init_socket(&s, pair[0], 0, &err));
	assert_int_equal(pthread_create(&thread, NULL, send_all, &pair[1]), 0);
	check_read(&s);
	pthread_join(thread, NULL);
	assert_int_equal(pthread_create(&thread, NULL, take_all, &pair[1]), 0);
	check_write(&s, NULL);
	pthread_join(thread, NULL);
	assert_memory_equal(other + ZONE_AT, bytes, ZONE);
	close(pair[0]);
	close(pair[1]);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_read_and_written),
		cmocka_unit_test(an_fd_is_read_and_written),
		cmocka_unit_test(a_chain_is_read_and_written),
		cmocka_unit_test(buffers_are_read_and_written),
		cmocka_unit_test(functions_may_do_all_at_once_or_in_parts),
		cmocka_unit_test(a_peer_gives_and_takes_all),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
