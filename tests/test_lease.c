/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease.c - memory that a system call uses while the map changes: it stays until the call is over, and
 * no longer; nobody waits for it.
 *
 * A thread reads from a pipe into guest memory and waits in the kernel. What the map does meanwhile is
 * done when the pipe is written to.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "one_space.h"

#define PAGE UINT64_C(4096)
#define LEN 10u
#define FAR_AWAY GIB(4)

/* A thread that waits. */
struct waiting {
	pthread_t thread;
	int fds[2];
	struct gm_stream stream;
	struct gm_chain_elem elems[2];
	size_t nr; /* pieces */
	int rc;
	size_t done;
};

static void *read_pipe(void *arg)
{
	struct waiting *w = arg;
	struct gm_chain chain;

	w->rc = gm_chain_init(&chain, w->elems, w->nr, NULL, NULL);
	if (w->rc == 0 && w->nr == 1)
		w->rc = gm_stream_read(
			&w->stream, reader, w->elems[0].gpa, LEN, GM_STREAM_EXACT, &w->done);
	else if (w->rc == 0)
		w->rc = gm_stream_read_chain(
			&w->stream, reader, &chain, LEN * w->nr, GM_STREAM_EXACT, &w->done);
	return NULL;
}

/* What /proc says of the thread tells when it sleeps in the kernel. */
static bool sleeps_in_read(pid_t tid)
{
	char path[64];
	char line[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		line[0] = 'r';
	if (file)
		fclose(file);
	/* read or readv, by number */
	return strncmp(line, "0 ", 2) == 0 || strncmp(line, "19 ", 3) == 0;
}

static pid_t tid_of_waiting;

static void *note_tid_and_read(void *arg)
{
	__atomic_store_n(&tid_of_waiting, gettid(), __ATOMIC_RELEASE);
	return read_pipe(arg);
}

/* Begins to read LEN bytes to each piece. */
static void begin(struct waiting *w, const uint64_t *gpas, size_t nr)
{
	pid_t tid;

	*w = (struct waiting){.nr = nr};
	for (size_t i = 0; i < nr; i++)
		w->elems[i] = (struct gm_chain_elem){gpas[i], LEN, GM_CHAIN_WRITE, 0};
	assert_int_equal(pipe2(w->fds, O_CLOEXEC), 0);
	assert_ok(gm_stream_init_fd(&w->stream, w->fds[0], &err));
	__atomic_store_n(&tid_of_waiting, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&w->thread, NULL, note_tid_and_read, w), 0);
	while (!(tid = __atomic_load_n(&tid_of_waiting, __ATOMIC_ACQUIRE)))
		usleep(100);
	for (int i = 0; !sleeps_in_read(tid); i++) {
		assert_true(i < 50000);
		usleep(100);
	}
}

/* Lets it have its bytes. */
static void finish(struct waiting *w)
{
	static const char text[] = "0123456789abcdefghij";

	assert_int_equal(write(w->fds[1], text, LEN * w->nr), LEN * w->nr);
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	assert_int_equal(w->rc, 0);
	assert_int_equal(w->done, LEN * w->nr);
	close(w->fds[0]);
	close(w->fds[1]);
}

static const struct gm_space_opts small = {.size = sizeof(small), .gpa_limit = GIB(64)};

static bool is_mapped(const void *hva)
{
	return support_vmflag(hva, "wr");
}

static void memory_that_is_removed_stays_for_the_call_and_no_longer(void **state)
{
	struct waiting w;
	uint64_t id;
	void *hva;

	(void)state;
	start(&small);
	id = add(0, PAGE);
	hva = region(id).hva;
	begin(&w, (const uint64_t[]){16}, 1);
	assert_ok(gm_space_remove(space, id, &err));
	assert_ok(gm_space_synchronize(space, UINT64_C(2000000000), &err));
	assert_true(is_mapped(hva));
	assert_memory_equal((char *)hva + 16, "\0\0\0\0\0\0\0\0\0", LEN);
	finish(&w);
	assert_false(is_mapped(hva));
	/* The addresses are free again. */
	id = add(0, PAGE);
	assert_ptr_equal(region(id).hva, hva);
	assert_memory_equal((char *)hva + 16, "\0\0\0\0\0\0\0\0\0", LEN);
	stop();
}

static void memory_that_is_moved_gets_the_bytes(void **state)
{
	struct gm_txn *txn;
	struct waiting w;
	char bytes[LEN];
	uint64_t id;

	(void)state;
	start(&small);
	id = add(0, PAGE);
	begin(&w, (const uint64_t[]){16}, 1);
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_move(txn, id, FAR_AWAY, &err));
	assert_ok(gm_txn_commit(txn, &err));
	finish(&w);
	assert_int_equal(gm_read(gm_reader_enter(reader), FAR_AWAY + 16, bytes, LEN, NULL), 0);
	gm_reader_leave(reader);
	assert_memory_equal(bytes, "0123456789", LEN);
	stop();
}

/* The first piece is under the lease, the second is pinned. */
static void pieces_in_two_mappings_stay_both(void **state)
{
	struct gm_block_info info = {.size = sizeof(info)};
	struct gm_block *blocks[2];
	struct waiting w;
	uint64_t ids[2];
	char bytes[LEN];

	(void)state;
	start(&small);
	for (size_t i = 0; i < 2; i++) {
		assert_ok(gm_block_create(
			BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE), &blocks[i], &err));
		assert_ok(gm_space_add(
			space, DESC(.gpa = i * FAR_AWAY, .block = blocks[i]), &ids[i], &err));
	}
	begin(&w, (const uint64_t[]){16, FAR_AWAY + 32}, 2);
	for (size_t i = 0; i < 2; i++)
		assert_ok(gm_space_remove(space, ids[i], &err));
	assert_ok(gm_space_synchronize(space, UINT64_C(2000000000), &err));
	finish(&w);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(gm_block_info(blocks[i], &info), 0);
		assert_int_equal(pread(info.fd, bytes, LEN, 16 + 16 * (off_t)i), LEN);
		assert_memory_equal(bytes, i ? "abcdefghij" : "0123456789", LEN);
		gm_block_put(blocks[i]);
	}
	stop();
}

/* ---- one reader, a transfer within a transfer ---- */

struct nested {
	struct gm_stream inner;
	size_t did;
	int rc;
};

static int read_more(void *ctx, const struct iovec *slices, size_t nr, size_t *done)
{
	struct nested *n = ctx;

	n->rc = gm_stream_read(&n->inner, reader, FAR_AWAY, LEN, GM_STREAM_EXACT, &n->did);
	assert_true(nr == 1 && slices[0].iov_len == LEN);
	memcpy(slices[0].iov_base, "outer text", LEN);
	*done = LEN;
	return 0;
}

static void a_transfer_within_a_transfer_takes_nothing_away(void **state)
{
	struct nested n = {.rc = 1};
	const struct gm_stream_ops ops = {.size = sizeof(ops), .readv = read_more, .ctx = &n};
	struct gm_stream outer;
	char bytes[LEN];
	size_t done;
	int fds[2];

	(void)state;
	start(&small);
	add(0, PAGE);
	add(FAR_AWAY, PAGE);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(write(fds[1], "inner text", LEN), LEN);
	assert_ok(gm_stream_init_fd(&n.inner, fds[0], &err));
	assert_ok(gm_stream_init_ops(&outer, &ops, &err));
	assert_int_equal(gm_stream_read(&outer, reader, 0, LEN, GM_STREAM_EXACT, &done), 0);
	assert_int_equal(n.rc, 0);
	assert_int_equal(n.did, LEN);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			gm_read(gm_reader_enter(reader), i ? FAR_AWAY : 0, bytes, LEN, NULL), 0);
		gm_reader_leave(reader);
		assert_memory_equal(bytes, i ? "inner text" : "outer text", LEN);
	}
	close(fds[0]);
	close(fds[1]);
	stop();
}

/* ---- when it cannot be known whether a call is over ---- */

static void a_barrier_that_fails_keeps_memory_and_leaks_none(void **state)
{
	/* The first is the poll's, the second the adopter's. */
	const struct fault_plan plan = {.fn = FAULT_gm_sys_membarrier, .nth = 2, .error = ENOMEM};
	struct waiting w;
	uint64_t id;
	void *hva;

	(void)state;
	start(&small);
	id = add(0, PAGE);
	hva = region(id).hva;
	begin(&w, (const uint64_t[]){16}, 1);
	fault_set(&plan);
	assert_ok(gm_space_remove(space, id, &err));
	gm_space_synchronize(space, UINT64_C(2000000000), NULL);
	assert_int_equal(fault_hits(), 1);
	fault_disarm();
	assert_ok(gm_space_synchronize(space, UINT64_C(2000000000), &err));
	assert_true(is_mapped(hva));
	finish(&w);
	assert_false(is_mapped(hva));
	stop();
}

static long held_before;

static int note_held(void **state)
{
	(void)state;
	held_before = fault_blocks();
	return 0;
}

static int compare_held(void **state)
{
	(void)state;
	assert_int_equal(fault_blocks(), held_before);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, note_held, compare_held)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_that_is_removed_stays_for_the_call_and_no_longer),
		TEST(memory_that_is_moved_gets_the_bytes),
		TEST(pieces_in_two_mappings_stay_both),
		TEST(a_transfer_within_a_transfer_takes_nothing_away),
		TEST(a_barrier_that_fails_keeps_memory_and_leaks_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
